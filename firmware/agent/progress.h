/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How far an image has got into the target slot, kept in that slot's last block so that it outlives
 * agent and power: two records in turn, and the first sector that is held back (slots.h).
 *
 * A record never claims more than the device has; it counts only while the slot's first sector is
 * not on the disk, except for that of a whole image, which names the file the image came from.
 */
#ifndef KSMHOST_PROGRESS_H
#define KSMHOST_PROGRESS_H

#include "slots.h"

#define SHA_BYTES 32

enum progress_kind {
	PROGRESS_NONE,
	PROGRESS_STREAM, /* groups, see stream.h */
	PROGRESS_UPLOAD, /* the image as it is, by a stock client */
	PROGRESS_WHOLE,
};

struct progress {
	enum progress_kind kind;
	uint32_t sequence;
	uint32_t size, off; /* of what is received, and how much of it is in the slot */
	uint32_t image_size;
	uint8_t sha[SHA_BYTES]; /* names what is received; zeros: no name */
	uint8_t image_sha[SHA_BYTES];
	uint8_t hash[SHA_BYTES]; /* of a whole image: its hash TLV */
};

/* Read the record of a slot. Of the target also what is held back. PROGRESS_NONE: there is none. */
void progress_load(struct slots *s, int slot, struct progress *p);

/* Begin to write an image: from now on the slot cannot be started. */
int progress_begin(struct slots *s, struct progress *p);

/* Note p->off; what is before it must be in the device. */
int progress_note(struct slots *s, struct progress *p);

/* The image is whole and verified: make it one that can be started. */
int progress_finish(struct slots *s, struct progress *p, const uint8_t *hash);

/* Forget the image, begun or whole: the slot is empty. */
int progress_erase(struct slots *s, struct progress *p);

#endif
