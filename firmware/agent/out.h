/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What is to be sent: frames and console text in two queues, and what is on its way.
 *
 * A frame goes out whole and before any waiting text; text goes out in the pieces it came in. Both
 * queues are bounded: a frame that does not fit is lost (its client asks again), text that does not
 * fit is counted in lines and a note takes its place.
 */
#ifndef KSMHOST_OUT_H
#define KSMHOST_OUT_H

#include "frame.h"
#include "ring.h"

#define OUT_TEXT_MAX 1024 /* longest piece of text */

struct out {
	struct ring frames, text;
	uint8_t frame_memory[32768], text_memory[16384];
	uint8_t current[FRAME_WIRE_MAX];
	size_t current_len, current_sent;
	bool current_is_frame;
	bool text_in_line;       /* the last text queued did not end its line */
	uint64_t lines_dropped;  /* since the last note */
	uint64_t frames_sent, frames_dropped, text_lines_dropped, text_bytes;
};

void out_init(struct out *o);

/* Queue the message at raw + FRAME_HEADROOM; raw as frame_encode wants it. */
void out_frame(struct out *o, enum frame_kind kind, uint8_t *raw, size_t message_len);

/* Queue text, disarmed; at most OUT_TEXT_MAX bytes. */
void out_text(struct out *o, const uint8_t *text, size_t len);

/* The same for a line of its own, ended here; begins a new one if somebody's is unfinished. */
void out_line(struct out *o, const char *line, size_t len);

/* Text that was lost before it got here. */
void out_note_dropped(struct out *o, uint64_t lines);

/* How much text may be queued; sources that can wait do while it is less than they need. */
size_t out_text_room(const struct out *o);

/* The next bytes to write; text only if it may go now. 0 if there is nothing. */
size_t out_next(struct out *o, bool text_may_go, const uint8_t **bytes);
void out_sent(struct out *o, size_t len);

/* Text waits, and nothing else does. */
bool out_text_waits(const struct out *o);
bool out_empty(const struct out *o);
bool out_frames_out(const struct out *o);

/* The line broke: what was on its way is lost, and nobody waits for the frames any more. */
void out_line_lost(struct out *o);

#endif
