/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The line: one tty in raw mode, opened again by itself whenever it hangs up.
 *
 * Takes bytes apart with frame.h, sends what is in out.h, and never blocks on either. Text is held
 * back while the kernel's own transmit buffer is long, or a frame would wait behind it.
 */
#ifndef KSMHOST_SERIAL_H
#define KSMHOST_SERIAL_H

#include <termios.h>

#include "frame.h"
#include "loop.h"
#include "out.h"

struct serial {
	const char *path;
	unsigned baud; /* the board's own */
	unsigned rate; /* what is set now */
	struct loop *loop;
	struct out *out;
	struct frame_sink sink;
	void (*text_moved)(void *ctx); /* there may be room for text again */
	struct frame_decoder decoder;
	struct loop_source source;
	struct loop_timer reopen, pace, pause;
	struct termios before; /* how the tty was found, once known */
	bool known;
	int64_t last_byte_ms, back_off_ms;
	bool waits_for_room;
	bool holds_text;
	uint64_t bytes_in, bytes_out, hangups;
};

/* The speed_t of a baud rate; B0 when ttys know no such rate. */
speed_t serial_speed(unsigned baud);

/* Whether a baud rate is one that ttys know. */
bool serial_baud_known(unsigned baud);

/*
 * Open the line for the first time; path, baud, loop, out, sink and text_moved are set. Return 0,
 * or a negative errno: -ENOTTY for what is no terminal.
 */
int serial_start(struct serial *s);

/* Send what is queued, as far as it goes now. */
void serial_pump(struct serial *s);

/* Nothing is queued here, nor in the kernel. */
bool serial_drained(const struct serial *s);

/* No frame is queued here, and nothing in the kernel. */
bool serial_frames_out(const struct serial *s);

/* Set another rate, until the line is opened again. Return 0, or a negative errno. */
int serial_set_rate(struct serial *s, unsigned baud);

/* Have console text wait, or go on. */
void serial_hold_text(struct serial *s, bool hold);

/* Give the tty back as it was. */
void serial_stop(struct serial *s);

#endif
