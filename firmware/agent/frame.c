/* SPDX-License-Identifier: Apache-2.0 */
/* SMP's console framing; see frame.h. */
#include "frame.h"

#include <string.h>

#define START_1 0x06
#define START_2 0x09
#define CONTINUE_1 0x04
#define CONTINUE_2 0x14
#define LINE_CHARACTERS 124 /* base64 of one line, 127 with delimiter and newline */

/* Half a byte at a time: a table that fits a cache line, and a quarter of the work of single bits. */
uint16_t frame_crc(const uint8_t *bytes, size_t len)
{
	static const uint16_t table[16] = {
		0x0000, 0x1021, 0x2042, 0x3063, 0x4084, 0x50a5, 0x60c6, 0x70e7,
		0x8108, 0x9129, 0xa14a, 0xb16b, 0xc18c, 0xd1ad, 0xe1ce, 0xf1ef,
	};
	uint16_t crc = 0;

	for (size_t i = 0; i < len; i++) {
		crc = (uint16_t)(crc << 4 ^ table[crc >> 12 ^ bytes[i] >> 4]);
		crc = (uint16_t)(crc << 4 ^ table[crc >> 12 ^ (bytes[i] & 15)]);
	}
	return crc;
}

void frame_decoder_init(struct frame_decoder *d)
{
	memset(d, 0, sizeof(*d));
}

static void line_start(struct frame_decoder *d, bool first)
{
	if (first) {
		if (d->open)
			d->line_errors++;
		d->open = true;
		d->len = 0;
	}
	d->quantum = 0;
	d->bits = 0;
	d->padded = false;
	d->state = FRAME_LINE;
	if (!d->open) { /* goes on with a frame whose start was lost */
		d->line_errors++;
		d->state = FRAME_SKIP;
	}
}

static void line_broken(struct frame_decoder *d)
{
	d->line_errors++;
	d->open = false;
	d->state = FRAME_SKIP;
}

static int base64_value(uint8_t c)
{
	if (c >= 'A' && c <= 'Z')
		return c - 'A';
	if (c >= 'a' && c <= 'z')
		return c - 'a' + 26;
	if (c >= '0' && c <= '9')
		return c - '0' + 52;
	return c == '+' ? 62 : c == '/' ? 63 : -1;
}

static void quantum_end(struct frame_decoder *d, unsigned bytes)
{
	if (d->len + bytes > sizeof(d->buffer)) {
		line_broken(d);
		return;
	}
	for (unsigned i = 0; i < bytes; i++)
		d->buffer[d->len++] = (uint8_t)(d->bits >> (16 - 8 * i));
	d->quantum = 0;
	d->bits = 0;
}

/* '=' may only be the last one or two characters of a group, and nothing may follow the group. */
static void line_padding(struct frame_decoder *d)
{
	if (d->quantum < 2) {
		line_broken(d);
		return;
	}
	unsigned bytes = d->padded ? 1 : 2;
	bool last = d->quantum == 3;

	if (d->quantum == 2)
		d->padded = true;
	d->bits <<= 6;
	d->quantum++;
	if (!last)
		return;
	quantum_end(d, bytes);
	d->padded = true;
}

static void line_byte(struct frame_decoder *d, uint8_t c)
{
	int value = base64_value(c);

	if (c == '=') {
		line_padding(d);
	} else if (value < 0 || d->padded) {
		line_broken(d);
	} else {
		d->bits = d->bits << 6 | (uint32_t)value;
		if (++d->quantum == 4)
			quantum_end(d, 3);
	}
}

static void frame_end(struct frame_decoder *d, const struct frame_sink *sink)
{
	size_t len = d->len - 4;
	const uint8_t *crc = d->buffer + 2 + len;

	d->open = false;
	if (frame_crc(d->buffer + 2, len) != (uint16_t)(crc[0] << 8 | crc[1])) {
		d->crc_errors++;
		return;
	}
	d->messages++;
	sink->message(sink->ctx, d->buffer + 2, len);
}

static void line_end(struct frame_decoder *d, const struct frame_sink *sink)
{
	if (d->quantum || d->len < 2) {
		line_broken(d);
	} else {
		size_t want = 2 + (size_t)(d->buffer[0] << 8 | d->buffer[1]);

		if (want < 4 || want > sizeof(d->buffer) || d->len > want)
			line_broken(d);
		else if (d->len == want)
			frame_end(d, sink);
	}
	d->state = FRAME_TEXT;
}

/* Either a delimiter is complete, or the byte held back was not the start of one. */
static bool delimiter_ends(struct frame_decoder *d, uint8_t c, const struct frame_sink *sink)
{
	uint8_t held = d->held;

	d->held = 0;
	if ((held == START_1 && c == START_2) || (held == CONTINUE_1 && c == CONTINUE_2)) {
		if (d->state == FRAME_LINE) /* its end was lost */
			line_broken(d);
		line_start(d, held == START_1);
		return true;
	}
	if (d->state == FRAME_TEXT)
		sink->text(sink->ctx, &held, 1);
	else if (d->state == FRAME_LINE)
		line_broken(d);
	return false;
}

static void decode_byte(struct frame_decoder *d, uint8_t c, const struct frame_sink *sink)
{
	bool after_cr = d->after_cr;

	d->after_cr = false;
	if (d->held && delimiter_ends(d, c, sink))
		return;
	if (c == START_1 || c == CONTINUE_1) {
		d->held = c;
	} else if (d->state == FRAME_TEXT) {
		if (!(after_cr && c == '\n'))
			sink->text(sink->ctx, &c, 1);
	} else if (c == '\n' || c == '\r') {
		d->after_cr = c == '\r';
		if (d->state == FRAME_LINE)
			line_end(d, sink);
		d->state = FRAME_TEXT;
	} else if (d->state == FRAME_LINE) {
		line_byte(d, c);
	}
}

void frame_decode(struct frame_decoder *d, const uint8_t *bytes, size_t len,
		  const struct frame_sink *sink)
{
	for (size_t i = 0; i < len; i++)
		decode_byte(d, bytes[i], sink);
}

void frame_decoder_pause(struct frame_decoder *d, const struct frame_sink *sink)
{
	if (d->held && d->state == FRAME_TEXT) {
		sink->text(sink->ctx, &d->held, 1);
		d->held = 0;
	}
}

void frame_decoder_idle(struct frame_decoder *d)
{
	if (d->state == FRAME_LINE || d->open)
		d->line_errors++;
	d->state = FRAME_TEXT;
	d->open = false;
	d->held = 0;
	d->after_cr = false;
}

static size_t line_delimiter(uint8_t *wire, bool first)
{
	wire[0] = first ? START_1 : CONTINUE_1;
	wire[1] = first ? START_2 : CONTINUE_2;
	return 2;
}

static void base64_group(const uint8_t *in, size_t len, uint8_t *out)
{
	static const char digits[] =
		"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
	uint32_t bits = (uint32_t)in[0] << 16;

	if (len > 1)
		bits |= (uint32_t)in[1] << 8;
	if (len > 2)
		bits |= in[2];
	out[0] = (uint8_t)digits[bits >> 18];
	out[1] = (uint8_t)digits[bits >> 12 & 63];
	out[2] = len > 1 ? (uint8_t)digits[bits >> 6 & 63] : '=';
	out[3] = len > 2 ? (uint8_t)digits[bits & 63] : '=';
}

size_t frame_encode(uint8_t *raw, size_t message_len, uint8_t *wire)
{
	if (message_len > FRAME_MESSAGE_MAX)
		return 0;
	uint16_t crc = frame_crc(raw + FRAME_HEADROOM, message_len);
	size_t total = message_len + 4, n = 0, in_line = 0;

	raw[0] = (uint8_t)((message_len + 2) >> 8);
	raw[1] = (uint8_t)(message_len + 2);
	raw[2 + message_len] = (uint8_t)(crc >> 8);
	raw[3 + message_len] = (uint8_t)crc;
	for (size_t at = 0; at < total; at += 3) {
		if (in_line == 0)
			n += line_delimiter(wire + n, at == 0);
		base64_group(raw + at, total - at, wire + n);
		n += 4;
		in_line += 4;
		if (in_line == LINE_CHARACTERS || at + 3 >= total) {
			wire[n++] = '\n';
			in_line = 0;
		}
	}
	return n;
}
