/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The first process of our images: makes the file systems, starts the agent and starts it again
 * when it ends, collects orphans, and takes the system down in order. On a trial boot it starts the
 * watchdog, which it leaves to the agent to pet. Does as little as it can, since the kernel panics
 * when it dies.
 */
#ifndef KSMHOST_INIT_H
#define KSMHOST_INIT_H

#include "agent.h"

/* Never returns. agent is memory for the child that becomes the agent. */
__attribute__((noreturn)) void init_main(struct agent *agent);

#endif
