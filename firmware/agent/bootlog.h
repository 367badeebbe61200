/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the kernel said of itself while it booted, and nowhere else: whether its page tables are
 * isolated (KPTI), which makes each system call and fault dearer, and whether its addresses are
 * random (KASLR), for which arm64 isolates them also on processors without Meltdown.
 *
 * /sys/devices/system/cpu/vulnerabilities/meltdown tells of the processor only. Where the log's
 * beginning is gone, what is not found is unknown.
 */
#ifndef KSMHOST_BOOTLOG_H
#define KSMHOST_BOOTLOG_H

#include <stdbool.h>
#include <stddef.h>

struct bootlog {
	const char *kpti, *kaslr; /* "on", "off", or NULL: unknown */
	bool begins;              /* its first record was read */
	bool features;            /* it lists what the processor has, and KPTI would be there */
};

/* Read what there is. */
void bootlog_read(struct bootlog *b, const char *path);

/* Take one record of /dev/kmsg, ended by NUL. Pure. */
void bootlog_record(struct bootlog *b, const char *record);

#endif
