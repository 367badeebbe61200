/* SPDX-License-Identifier: Apache-2.0 */
/* SMP's framings; see frame.h. */
#include "frame.h"

#include <string.h>

#include "cobs.h"
#include "text.h"

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
	if (d->len + bytes > FRAME_BUFFER_SIZE) {
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
	sink->message(sink->ctx, FRAME_LINES, d->buffer + 2, len);
}

static void line_end(struct frame_decoder *d, const struct frame_sink *sink)
{
	if (d->quantum || d->len < 2) {
		line_broken(d);
	} else {
		size_t want = 2 + (size_t)(d->buffer[0] << 8 | d->buffer[1]);

		if (want < 4 || want > FRAME_BUFFER_SIZE || d->len > want)
			line_broken(d);
		else if (d->len == want)
			frame_end(d, sink);
	}
	d->state = FRAME_TEXT;
}

/* ---- COBS frames ---- */

static void piece_start(struct frame_decoder *d)
{
	if (d->open) { /* a frame in lines is given up */
		d->line_errors++;
		d->open = false;
	}
	d->len = 0;
	d->bits = 0;
	d->state = FRAME_PIECE;
}

static void piece_end(struct frame_decoder *d, const struct frame_sink *sink)
{
	size_t len = d->len ? cobs_decode(d->buffer, d->len) : 0;

	if (d->len && (len < 3 || len - 2 > FRAME_MESSAGE_MAX)) {
		d->line_errors++;
	} else if (d->len && frame_crc(d->buffer, len - 2) !=
				     (uint16_t)(d->buffer[len - 2] << 8 | d->buffer[len - 1])) {
		d->crc_errors++;
	} else if (d->len) {
		d->messages++;
		sink->message(sink->ctx, FRAME_COBS, d->buffer, len - 2);
	}
	piece_start(d);
}

static bool begins_message(uint8_t c)
{
	return c == 0x02 || c == 0x08 || c == 0x0a; /* a request, but for version 1's read */
}

/* The code in front of the length's two bytes; the group's first, behind them, is 0. */
static bool begins_length(uint8_t c)
{
	return c >= 1 && c <= 3;
}

/* Whether what was collected begins as a frame does: with a request's header, or as typed text. */
static bool piece_begins_well(const struct frame_decoder *d)
{
	const uint8_t *b = d->buffer;

	return d->len >= 3 && ((b[0] == COBS_START && begins_message(b[1]) && begins_length(b[2])) ||
			       (b[0] == 1 && b[1] == 1 && begins_length(b[2])) ||
			       (b[0] >= 3 && b[1] == FRAME_TYPED));
}

/* All that comes before the next 00, in one go. Returns how many bytes it took. */
static size_t piece_bytes(struct frame_decoder *d, const uint8_t *bytes, size_t len)
{
	const uint8_t *end = memchr(bytes, 0, len);

	if (end)
		len = (size_t)(end - bytes);
	if (d->state == FRAME_PIECE && len <= sizeof(d->buffer) - d->len) {
		memcpy(d->buffer + d->len, bytes, len);
		d->len += len;
	} else if (d->state == FRAME_PIECE) {
		d->line_errors++;
		d->len = 0;
		d->state = FRAME_WASTE;
	}
	return len;
}

/*
 * What is no frame may be a client that went over to lines (a 00 was lost, or noise made one): at
 * the start of a line a delimiter is believed.
 */
static void piece_byte(struct frame_decoder *d, uint8_t c)
{
	d->bits = d->bits << 8 | c;
	bool line = d->len == 1 || (d->bits >> 16 & 0xff) == '\n';
	unsigned last = d->bits & 0xffff;

	piece_bytes(d, &c, 1);
	if (line && (last == (START_1 << 8 | START_2) || last == (CONTINUE_1 << 8 | CONTINUE_2)))
		line_start(d, c == START_2);
}

/*
 * What was typed behind a frame. What is left of a damaged one holds a 01 or 02 near its start (the
 * zeros of the header), or no characters; what is left of lines their delimiters.
 */
static bool piece_is_text(const struct frame_decoder *d)
{
	static const uint8_t signs[] = { 1, 2, FRAME_TYPED, START_1, CONTINUE_1, CONTINUE_2 };

	for (size_t i = 0; i < sizeof(signs); i++)
		if (memchr(d->buffer, signs[i], d->len))
			return false;
	return d->state == FRAME_PIECE && text_is_utf8(d->buffer, d->len);
}

/* ---- text, and where it ends ---- */

/* Put the byte to the ones held back if that may be the start of something. */
static bool hold(struct frame_decoder *d, uint8_t c)
{
	bool first = d->held_len == 0;

	if (first ? c == START_1 || c == CONTINUE_1 || (c == COBS_START && d->state != FRAME_LINE) :
		    d->held_len == 1 && d->held[0] == COBS_START && begins_message(c)) {
		d->held[d->held_len++] = c;
		return true;
	}
	return false;
}

/* What was held back is no start of anything. */
static void release(struct frame_decoder *d, const struct frame_sink *sink)
{
	size_t len = d->held_len;

	d->held_len = 0;
	if (d->state == FRAME_TEXT)
		sink->text(sink->ctx, d->held, len);
	else if (d->state == FRAME_LINE)
		line_broken(d);
}

/* Whether c completes a delimiter, or the start of a COBS frame that no 00 announced. */
static bool delimiter_ends(struct frame_decoder *d, uint8_t c)
{
	uint8_t held = d->held[0];

	if ((held == START_1 && c == START_2) || (held == CONTINUE_1 && c == CONTINUE_2)) {
		d->held_len = 0;
		if (d->state == FRAME_LINE) /* its end was lost */
			line_broken(d);
		line_start(d, held == START_1);
		return true;
	}
	if (d->held_len == 2 && begins_length(c)) {
		d->held_len = 0;
		piece_start(d);
		piece_bytes(d, (const uint8_t[]){ held, d->held[1], c }, 3);
		return true;
	}
	return false;
}

static void decode_byte(struct frame_decoder *d, uint8_t c, const struct frame_sink *sink)
{
	bool after_cr = d->after_cr;

	d->after_cr = false;
	if (d->held_len) {
		if (delimiter_ends(d, c) || hold(d, c))
			return;
		release(d, sink);
	}
	if (c == 0 && d->state == FRAME_TEXT) {
		piece_start(d);
	} else if (hold(d, c)) {
		return;
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

static size_t decode_piece(struct frame_decoder *d, const uint8_t *bytes, size_t len,
			   const struct frame_sink *sink)
{
	if (*bytes == 0) {
		piece_end(d, sink);
		return 1;
	}
	if (piece_begins_well(d))
		return piece_bytes(d, bytes, len);
	piece_byte(d, *bytes);
	return 1;
}

void frame_decode(struct frame_decoder *d, const uint8_t *bytes, size_t len,
		  const struct frame_sink *sink)
{
	for (size_t i = 0; i < len;)
		if (d->state == FRAME_PIECE || d->state == FRAME_WASTE)
			i += decode_piece(d, bytes + i, len - i, sink);
		else
			decode_byte(d, bytes[i++], sink);
}

bool frame_decoder_waits(const struct frame_decoder *d)
{
	return d->held_len || d->state == FRAME_PIECE;
}

void frame_decoder_pause(struct frame_decoder *d, const struct frame_sink *sink)
{
	if (d->held_len && d->state == FRAME_TEXT)
		release(d, sink);
	if (!piece_is_text(d))
		return;
	d->state = FRAME_TEXT;
	if (d->len)
		sink->text(sink->ctx, d->buffer, d->len);
	d->len = 0;
}

void frame_decoder_idle(struct frame_decoder *d)
{
	if (d->state == FRAME_LINE || d->open || (d->state == FRAME_PIECE && d->len))
		d->line_errors++;
	d->state = FRAME_TEXT;
	d->open = false;
	d->held_len = 0;
	d->after_cr = false;
}

/* ---- encoding ---- */

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

static size_t encode_lines(const uint8_t *raw, size_t total, uint8_t *wire)
{
	size_t n = 0, in_line = 0;

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

size_t frame_encode(enum frame_kind kind, uint8_t *raw, size_t message_len, uint8_t *wire)
{
	if (message_len > FRAME_MESSAGE_MAX)
		return 0;
	uint16_t crc = frame_crc(raw + FRAME_HEADROOM, message_len);

	raw[0] = (uint8_t)((message_len + 2) >> 8);
	raw[1] = (uint8_t)(message_len + 2);
	raw[2 + message_len] = (uint8_t)(crc >> 8);
	raw[3 + message_len] = (uint8_t)crc;
	if (kind == FRAME_LINES)
		return encode_lines(raw, message_len + 4, wire);
	wire[0] = 0;
	size_t n = cobs_encode(raw + FRAME_HEADROOM, message_len + 2, wire + 1) + 1;

	wire[n++] = 0;
	return n;
}
