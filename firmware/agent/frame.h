/* SPDX-License-Identifier: Apache-2.0 */
/*
 * SMP's two framings, both ways, and nothing but bytes: no I/O, no clock.
 *
 * Console framing: a message is wrapped as length (16 bit, of message and CRC), message, CRC-16
 * (XMODEM), base64 in lines of at most 127 characters. The first line starts with 06 09, further
 * ones with 04 14.
 *
 * COBS framing: message and CRC-16, COBS-encoded, between two bytes 00.
 *
 * All else on the line is console text. What stands behind a 00 is a frame or nothing, until the
 * line has been silent for a moment: the rest of a damaged frame must never be typed into a shell.
 */
#ifndef KSMHOST_FRAME_H
#define KSMHOST_FRAME_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define FRAME_BUFFER_SIZE 4096 /* what a peer may fill: length, message, CRC */
#define FRAME_MESSAGE_MAX (FRAME_BUFFER_SIZE - 4)
#define FRAME_HEADROOM 2 /* bytes frame_encode needs before a message */
#define FRAME_TAILROOM 2 /* and after it */
#define FRAME_WIRE_MAX 5632 /* a whole buffer, as lines */
#define FRAME_COBS_MAX 4128 /* a whole buffer, COBS-encoded */

/* How a message was framed, and how its answer is to be. */
enum frame_kind { FRAME_LINES, FRAME_COBS };

#define FRAME_TYPED 7 /* first byte of a COBS frame of console text; SMP has no such operation */

struct frame_sink {
	void (*text)(void *ctx, const uint8_t *bytes, size_t len);
	void (*message)(void *ctx, enum frame_kind kind, const uint8_t *message, size_t len);
	void *ctx;
};

enum frame_state {
	FRAME_TEXT,  /* outside of any frame */
	FRAME_LINE,  /* inside a frame line */
	FRAME_SKIP,  /* in the rest of a broken one */
	FRAME_PIECE, /* behind a 00: collecting what the next 00 ends */
	FRAME_WASTE, /* the same, but it is too long already */
};

struct frame_decoder {
	enum frame_state state;
	uint8_t held[2];   /* what may become a delimiter, or the start of a COBS frame */
	uint8_t held_len;
	bool after_cr;     /* a line ended in CR: its LF is no text */
	bool open;         /* a frame is being put together */
	bool padded;       /* '=' seen in this line */
	uint8_t quantum;   /* base64 characters of the current group of four */
	uint32_t bits;
	size_t len;       /* of what is in buffer, decoded (lines) or as it came (COBS) */
	uint8_t buffer[FRAME_COBS_MAX];
	uint64_t messages, crc_errors, line_errors;
};

uint16_t frame_crc(const uint8_t *bytes, size_t len);

void frame_decoder_init(struct frame_decoder *d);

/* Take bytes as they come, in any split; the sink gets whole messages and text. */
void frame_decode(struct frame_decoder *d, const uint8_t *bytes, size_t len,
		  const struct frame_sink *sink);

/* Whether frame_decoder_pause would have something to do. */
bool frame_decoder_waits(const struct frame_decoder *d);

/* The line was silent for a moment: what could have begun a frame was typed. */
void frame_decoder_pause(struct frame_decoder *d, const struct frame_sink *sink);

/* The line was silent for long: an unfinished frame will not be finished. */
void frame_decoder_idle(struct frame_decoder *d);

/*
 * Frame the message at raw + FRAME_HEADROOM. raw has FRAME_TAILROOM bytes behind the message.
 * Return the number of bytes put into wire, which holds FRAME_WIRE_MAX; 0 if too long.
 */
size_t frame_encode(enum frame_kind kind, uint8_t *raw, size_t message_len, uint8_t *wire);

#endif
