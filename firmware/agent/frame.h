/* SPDX-License-Identifier: Apache-2.0 */
/*
 * SMP's console framing, both ways, and nothing but bytes: no I/O, no clock.
 *
 * A message is wrapped as length (16 bit, of message and CRC), message, CRC-16 (XMODEM), base64 in
 * lines of at most 127 characters. The first line starts with 06 09, further ones with 04 14; all
 * else on the line is console text.
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

struct frame_sink {
	void (*text)(void *ctx, const uint8_t *bytes, size_t len);
	void (*message)(void *ctx, const uint8_t *message, size_t len);
	void *ctx;
};

enum frame_state {
	FRAME_TEXT, /* outside of any frame line */
	FRAME_LINE, /* inside one */
	FRAME_SKIP, /* in the rest of a broken one */
};

struct frame_decoder {
	enum frame_state state;
	uint8_t held;      /* first byte of what may become a delimiter, or 0 */
	bool after_cr;     /* a line ended in CR: its LF is no text */
	bool open;         /* a frame is being put together */
	bool padded;       /* '=' seen in this line */
	uint8_t quantum;   /* base64 characters of the current group of four */
	uint32_t bits;
	size_t len;
	uint8_t buffer[FRAME_BUFFER_SIZE];
	uint64_t messages, crc_errors, line_errors;
};

uint16_t frame_crc(const uint8_t *bytes, size_t len);

void frame_decoder_init(struct frame_decoder *d);

/* Take bytes as they come, in any split; the sink gets whole messages and text. */
void frame_decode(struct frame_decoder *d, const uint8_t *bytes, size_t len,
		  const struct frame_sink *sink);

/* Nothing followed a byte that could have begun a delimiter: somebody typed Ctrl-D or Ctrl-F. */
void frame_decoder_pause(struct frame_decoder *d, const struct frame_sink *sink);

/* The line was silent for long: an unfinished frame line will not be finished. */
void frame_decoder_idle(struct frame_decoder *d);

/*
 * Turn the message at raw + FRAME_HEADROOM into lines. raw has FRAME_TAILROOM bytes behind the
 * message. Return the number of bytes put into wire, which holds FRAME_WIRE_MAX; 0 if too long.
 */
size_t frame_encode(uint8_t *raw, size_t message_len, uint8_t *wire);

#endif
