/* SPDX-License-Identifier: Apache-2.0 */
/* What is to be sent; see out.h. */
#include "out.h"

#include <stdio.h>
#include <string.h>

#include "text.h"

#define NOTE_ROOM 64 /* kept free so that the note about lost lines always fits */

void out_init(struct out *o)
{
	memset(o, 0, sizeof(*o));
	ring_init(&o->frames, o->frame_memory, sizeof(o->frame_memory));
	ring_init(&o->text, o->text_memory, sizeof(o->text_memory));
}

void out_frame(struct out *o, enum frame_kind kind, uint8_t *raw, size_t message_len)
{
	uint8_t wire[FRAME_WIRE_MAX];
	size_t len = frame_encode(kind, raw, message_len, wire);

	if (!ring_push(&o->frames, wire, len))
		o->frames_dropped++;
}

static uint64_t lines_in(const uint8_t *text, size_t len)
{
	uint64_t lines = 0;

	for (size_t i = 0; i < len; i++)
		lines += text[i] == '\n';
	return lines ? lines : 1;
}

static void push_note(struct out *o)
{
	char note[NOTE_ROOM];
	int len = snprintf(note, sizeof(note), "%s[%llu lines dropped]\r\n",
			   o->text_in_line ? "\r\n" : "", (unsigned long long)o->lines_dropped);

	if (ring_push(&o->text, (const uint8_t *)note, (size_t)len)) {
		o->lines_dropped = 0;
		o->text_in_line = false;
	}
}

void out_note_dropped(struct out *o, uint64_t lines)
{
	o->lines_dropped += lines;
	o->text_lines_dropped += lines;
}

size_t out_text_room(const struct out *o)
{
	size_t room = ring_room(&o->text), reserved = 2 * NOTE_ROOM;

	return room > reserved ? room - reserved : 0;
}

void out_text(struct out *o, const uint8_t *text, size_t len)
{
	uint8_t piece[OUT_TEXT_MAX];

	if (len == 0 || len > sizeof(piece))
		return;
	if (len > out_text_room(o)) {
		out_note_dropped(o, lines_in(text, len));
		return;
	}
	if (o->lines_dropped)
		push_note(o);
	memcpy(piece, text, len);
	text_disarm(piece, len);
	ring_push(&o->text, piece, len);
	o->text_in_line = piece[len - 1] != '\n';
	o->text_bytes += len;
}

void out_line(struct out *o, const char *line, size_t len)
{
	uint8_t piece[OUT_TEXT_MAX];
	size_t n = 0;

	if (o->text_in_line) {
		piece[n++] = '\r';
		piece[n++] = '\n';
	}
	if (len > sizeof(piece) - 4)
		len = sizeof(piece) - 4;
	memcpy(piece + n, line, len);
	n += len;
	piece[n++] = '\r';
	piece[n++] = '\n';
	out_text(o, piece, n);
}

size_t out_next(struct out *o, bool text_may_go, const uint8_t **bytes)
{
	if (o->current_sent == o->current_len) {
		o->current_sent = 0;
		o->current_len = ring_pop(&o->frames, o->current);
		o->current_is_frame = o->current_len > 0;
	}
	if (o->current_len == 0 && text_may_go) {
		if (o->lines_dropped)
			push_note(o);
		o->current_len = ring_pop(&o->text, o->current);
	}
	*bytes = o->current + o->current_sent;
	return o->current_len - o->current_sent;
}

void out_sent(struct out *o, size_t len)
{
	o->current_sent += len;
	if (o->current_sent == o->current_len && o->current_is_frame)
		o->frames_sent++;
}

bool out_text_waits(const struct out *o)
{
	return o->current_sent == o->current_len && o->frames.used == 0 &&
	       (o->text.used || o->lines_dropped);
}

bool out_empty(const struct out *o)
{
	return o->current_sent == o->current_len && o->frames.used == 0 && o->text.used == 0;
}

bool out_frames_out(const struct out *o)
{
	return o->current_sent == o->current_len && o->frames.used == 0;
}

void out_line_lost(struct out *o)
{
	o->current_len = 0;
	o->current_sent = 0;
	ring_clear(&o->frames);
}
