/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Messages of the agent itself: to stderr as a service, to the kernel's log in our images, from
 * where they reach the console as whole lines like everything else.
 */
#ifndef KSMHOST_LOG_H
#define KSMHOST_LOG_H

/* Send messages to /dev/kmsg from now on. Keeps stderr when that cannot be opened. */
void log_to_kmsg(void);

/* One message, without a newline at its end. */
__attribute__((format(printf, 1, 2))) void log_line(const char *format, ...);

#endif
