/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What is received for the target slot, made into blocks of it: groups of a stream as
 * docs/PROTOCOL.md describes them, or the bytes of an image as they are.
 *
 * Bytes are taken in order into one buffer. A group that is complete there is applied in steps of
 * bounded work: its source read, decoded, checked, written. One that is not right is asked for anew,
 * GROUP_TRIES times in all: a line can spoil more than its checks notice. Small groups share a sync,
 * which costs a card the same for a block as for a quarter of a MiB.
 */
#ifndef KSMHOST_STREAM_H
#define KSMHOST_STREAM_H

#include "slots.h"

#define GROUP_HEADER_BYTES 24
#define GROUP_BYTES_MAX (1u << 20)
#define FRAME_BYTES_MAX (GROUP_BYTES_MAX + 8192)
#define GROUP_TRIES 3
#define STREAM_SYNC_BYTES 262144  /* written, or more, before the device is made to keep it */
#define STREAM_SLACK_BYTES 262144 /* what may come while a group is being applied */
#define STREAM_BUFFER_BYTES (GROUP_HEADER_BYTES + FRAME_BYTES_MAX + STREAM_SLACK_BYTES)

enum stream_step { STREAM_COLLECT, STREAM_FETCH, STREAM_DECODE, STREAM_WRITE, STREAM_SYNC };

struct group {
	uint32_t at, size, from, from_size, crc, frame_len;
	uint32_t len; /* of header and frame */
};

struct stream {
	struct slots *slots;
	bool raw;
	uint32_t size, image_size;
	uint32_t base; /* offset of the buffer's first byte: all before is in the slot */
	uint32_t kept; /* all before this is there for certain, whatever becomes of power */
	uint32_t unsynced; /* bytes written behind that */
	uint32_t have; /* bytes in the buffer */
	enum stream_step step;
	struct group group;
	uint32_t done; /* of the step */
	unsigned failures;
	int error; /* why nothing more is taken, a negative errno, or 0 */
};

/* Begin or go on at `base`. */
void stream_open(struct stream *s, struct slots *slots, bool raw, uint32_t base, uint32_t size,
		 uint32_t image_size);

/* The offset of the byte wanted next. */
uint32_t stream_wanted(const struct stream *s);

/* Take bytes that are those wanted, as far as there is room. */
void stream_take(struct stream *s, uint32_t off, const uint8_t *bytes, size_t len);

/* Whether all there is has been applied, and is kept. */
bool stream_done(const struct stream *s);

enum stream_progress {
	STREAM_WAITS,    /* for more bytes, or for ever: see error */
	STREAM_WORKS,    /* call again */
	STREAM_ADVANCED, /* kept has moved: note it, and call again */
};

/* Do some of what there is to do. */
enum stream_progress stream_work(struct stream *s);

#endif
