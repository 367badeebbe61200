/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The hardware watchdog, which resets a board whose slot is on trial and hangs. Init opens it, which
 * starts it, and keeps it open; the agent gets the descriptor and pets it while that is right.
 */
#ifndef KSMHOST_WATCHDOG_H
#define KSMHOST_WATCHDOG_H

/* Open the watchdog and thereby start it. A descriptor, or -1 where there is none. */
int watchdog_open(void);

/*
 * Open the watchdog for it to bite: nobody is to pet it. *limit_s is the time it is given, and then
 * the time it takes. A descriptor, or a negative errno.
 */
#define WATCHDOG_LIMIT_MIN_S 2
#define WATCHDOG_LIMIT_MAX_S 15 /* what the hardware can do by itself: see watchdog.c */
int watchdog_bite(unsigned *limit_s);

/* Put the reset off once more. */
void watchdog_pet(int fd);

/* The trial is over: no reset. Whoever else has it open need not close it. */
void watchdog_stop(int fd);

#endif
