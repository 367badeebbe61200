/* SPDX-License-Identifier: Apache-2.0 */
/* The line; see serial.h. */
#include "serial.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "clock.h"
#include "log.h"

#define TEXT_BACKLOG 1024    /* bytes of text the kernel may hold: 90 ms at 115200 baud */
#define READ_SIZE 4096       /* what a tty gives at most in one go */
#define PACE_MS 20           /* until looking again whether it holds fewer */
#define PAUSE_MS 50          /* no delimiter takes that long between its two bytes */
#define IDLE_MS 1500         /* no peer pauses that long inside a frame */
#define BACK_OFF_MIN_MS 100
#define BACK_OFF_MAX_MS 2000

static const struct {
	unsigned baud;
	speed_t speed;
} speeds[] = {
	{ 9600, B9600 },	 { 19200, B19200 },	  { 38400, B38400 },
	{ 57600, B57600 },	 { 115200, B115200 },	  { 230400, B230400 },
	{ 460800, B460800 },	 { 500000, B500000 },	  { 576000, B576000 },
	{ 921600, B921600 },	 { 1000000, B1000000 },	  { 1152000, B1152000 },
	{ 1500000, B1500000 },	 { 2000000, B2000000 },	  { 2500000, B2500000 },
	{ 3000000, B3000000 },	 { 3500000, B3500000 },	  { 4000000, B4000000 },
};

speed_t serial_speed(unsigned baud)
{
	for (size_t i = 0; i < sizeof(speeds) / sizeof(speeds[0]); i++)
		if (speeds[i].baud == baud)
			return speeds[i].speed;
	return B0;
}

bool serial_baud_known(unsigned baud)
{
	return serial_speed(baud) != B0;
}

static void make_raw(struct termios *t, speed_t speed)
{
	t->c_iflag = IGNBRK;
	t->c_oflag = 0;
	t->c_lflag = 0;
	t->c_cflag = CS8 | CREAD | CLOCAL;
	t->c_cc[VMIN] = 1;
	t->c_cc[VTIME] = 0;
	cfsetispeed(t, speed);
	cfsetospeed(t, speed);
}

static int open_tty(struct serial *s)
{
	int fd = open(s->path, O_RDWR | O_NOCTTY | O_NONBLOCK | O_CLOEXEC);

	if (fd < 0)
		return -errno;
	struct termios t;
	int err = 0;

	if (tcgetattr(fd, &t)) {
		err = errno == EIO ? -EIO : -ENOTTY;
	} else {
		if (!s->known) /* after a hang-up it may still be as we set it */
			s->before = t;
		s->known = true;
		make_raw(&t, serial_speed(s->baud));
		if (tcsetattr(fd, TCSANOW, &t))
			err = -errno;
	}
	if (err) {
		close(fd);
		return err;
	}
	return fd;
}

static int serial_open(struct serial *s)
{
	int fd = open_tty(s);

	if (fd < 0)
		return fd;
	s->source.fd = fd;
	s->rate = s->baud;
	s->waits_for_room = false;
	int err = loop_add(s->loop, &s->source, EPOLLIN);
	if (err) {
		close(fd);
		s->source.fd = -1;
	}
	return err;
}

static void serial_lost(struct serial *s)
{
	s->hangups++;
	loop_remove(s->loop, &s->source);
	close(s->source.fd);
	s->source.fd = -1;
	frame_decoder_idle(&s->decoder);
	out_line_lost(s->out);
	s->back_off_ms = BACK_OFF_MIN_MS;
	loop_timer_set(&s->reopen, s->back_off_ms);
}

static void serial_reopen(void *ctx)
{
	struct serial *s = ctx;

	if (serial_open(s) == 0) {
		serial_pump(s);
		return;
	}
	s->back_off_ms *= 2;
	if (s->back_off_ms > BACK_OFF_MAX_MS)
		s->back_off_ms = BACK_OFF_MAX_MS;
	loop_timer_set(&s->reopen, s->back_off_ms);
}

static void serial_received(struct serial *s, const uint8_t *bytes, size_t len)
{
	int64_t now = now_ms();

	if (now - s->last_byte_ms > IDLE_MS)
		frame_decoder_idle(&s->decoder);
	s->last_byte_ms = now;
	s->bytes_in += len;
	loop_timer_stop(&s->pause);
	frame_decode(&s->decoder, bytes, len, &s->sink);
	if (frame_decoder_waits(&s->decoder))
		loop_timer_set(&s->pause, PAUSE_MS);
}

static void serial_paused(void *ctx)
{
	struct serial *s = ctx;

	frame_decoder_pause(&s->decoder, &s->sink);
}

static void serial_ready(void *ctx, uint32_t events)
{
	struct serial *s = ctx;
	uint8_t bytes[READ_SIZE];

	if (events & (EPOLLIN | EPOLLHUP | EPOLLERR)) {
		ssize_t n = read(s->source.fd, bytes, sizeof(bytes));

		if (n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR)) {
			serial_lost(s);
			return;
		}
		if (n > 0)
			serial_received(s, bytes, (size_t)n);
	}
	serial_pump(s);
}

static int kernel_holds(const struct serial *s)
{
	int bytes = 0;

	return ioctl(s->source.fd, TIOCOUTQ, &bytes) ? 0 : bytes;
}

static void serial_wait_for_room(struct serial *s, bool wait)
{
	if (wait == s->waits_for_room)
		return;
	s->waits_for_room = wait;
	loop_change(s->loop, &s->source, wait ? EPOLLIN | EPOLLOUT : EPOLLIN);
}

/* False when no more can be written now. */
static bool write_some(struct serial *s, const uint8_t *bytes, size_t len)
{
	ssize_t n = write(s->source.fd, bytes, len);

	if (n < 0 && errno != EAGAIN && errno != EINTR) {
		serial_lost(s);
		return false;
	}
	if (n <= 0) {
		serial_wait_for_room(s, true);
		return false;
	}
	s->bytes_out += (uint64_t)n;
	out_sent(s->out, (size_t)n);
	return true;
}

void serial_pump(struct serial *s)
{
	const uint8_t *bytes;
	size_t len;

	if (s->source.fd < 0)
		return;
	for (;;) {
		len = out_next(s->out, !s->holds_text && kernel_holds(s) <= TEXT_BACKLOG, &bytes);
		if (len == 0)
			break;
		if (!write_some(s, bytes, len))
			return;
	}
	serial_wait_for_room(s, false);
	if (out_text_waits(s->out) && !s->holds_text)
		loop_timer_set(&s->pace, PACE_MS);
	s->text_moved(s->sink.ctx);
}

static void serial_paced(void *ctx)
{
	serial_pump(ctx);
}

int serial_start(struct serial *s)
{
	s->source = (struct loop_source){ .fd = -1, .ready = serial_ready, .ctx = s };
	s->reopen = (struct loop_timer){ .fire = serial_reopen, .ctx = s };
	s->pace = (struct loop_timer){ .fire = serial_paced, .ctx = s };
	s->pause = (struct loop_timer){ .fire = serial_paused, .ctx = s };
	loop_timer_add(s->loop, &s->reopen);
	loop_timer_add(s->loop, &s->pace);
	loop_timer_add(s->loop, &s->pause);
	frame_decoder_init(&s->decoder);
	s->last_byte_ms = now_ms();
	return serial_open(s);
}

bool serial_drained(const struct serial *s)
{
	return s->source.fd < 0 || (out_empty(s->out) && kernel_holds(s) == 0);
}

bool serial_frames_out(const struct serial *s)
{
	return s->source.fd < 0 || (out_frames_out(s->out) && kernel_holds(s) == 0);
}

int serial_set_rate(struct serial *s, unsigned baud)
{
	speed_t speed = serial_speed(baud);
	struct termios t;

	if (s->source.fd < 0 || tcgetattr(s->source.fd, &t))
		return -ENODEV;
	make_raw(&t, speed);
	/* Draining waits for what is in the UART itself: a few bytes. */
	if (tcsetattr(s->source.fd, TCSADRAIN, &t) || tcgetattr(s->source.fd, &t))
		return -errno;
	s->rate = baud;
	frame_decoder_idle(&s->decoder);
	return cfgetospeed(&t) == speed ? 0 : -EINVAL; /* drivers take the nearest they can */
}

void serial_hold_text(struct serial *s, bool hold)
{
	bool was = s->holds_text;

	s->holds_text = hold;
	if (was && !hold)
		serial_pump(s);
}

void serial_stop(struct serial *s)
{
	if (s->source.fd < 0)
		return;
	loop_remove(s->loop, &s->source);
	tcsetattr(s->source.fd, TCSANOW, &s->before);
	close(s->source.fd);
	s->source.fd = -1;
}
