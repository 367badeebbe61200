/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The kernel's messages, passed on as whole lines of console text.
 *
 * They are read only while there is room for them. What the kernel's own buffer lost meanwhile is
 * known from its numbering, and a note says how much it was.
 */
#ifndef KSMHOST_KMSG_H
#define KSMHOST_KMSG_H

#include <stdbool.h>

#include "loop.h"
#include "out.h"

struct kmsg {
	struct loop *loop;
	struct out *out;
	void (*queued)(void *ctx);
	void *queued_ctx;
	struct loop_source source;
	bool reads;
	bool numbered;     /* next_seq is known */
	uint64_t next_seq;
};

/* loop, out and queued are set. from_start: also what was logged before. 0 or a negative errno. */
int kmsg_start(struct kmsg *k, const char *path, bool from_start);

/* There may be room again. */
void kmsg_resume(struct kmsg *k);

/*
 * Turn one record of /dev/kmsg ("priority,number,time,flags;text") into a line. Returns its length,
 * 0 for what is not to be shown. Pure.
 */
size_t kmsg_format(const char *record, size_t len, char *line, size_t size, uint64_t *seq);

#endif
