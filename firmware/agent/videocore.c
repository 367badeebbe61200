/* SPDX-License-Identifier: Apache-2.0 */
/* What a VideoCore's firmware says; see videocore.h. */
#include "videocore.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "child.h"
#include "clock.h"
#include "vcio.h"

#define CLEAR_STICKY 0xffff /* as the kernel's raspberrypi-hwmon does */
#define STICKY_SHIFT 16

#define BIT(n) (1u << (n))
#define ALL_QUESTIONS (BIT(VIDEOCORE_QUESTIONS) - 1)
#define AGAIN_AND_AGAIN (BIT(VIDEOCORE_THROTTLED) | BIT(VIDEOCORE_CLOCK))

/* ---- the process that asks: its line to the agent is 0, the device 1 ---- */

static const struct question {
	uint32_t tag;
	uint32_t values[VCIO_VALUES_MAX];
	uint8_t count, at; /* words of the value, and which of them is wanted */
} questions[VIDEOCORE_QUESTIONS] = {
	[VIDEOCORE_THROTTLED] = { VCIO_GET_THROTTLED, { CLEAR_STICKY }, 1, 0 },
	[VIDEOCORE_CLOCK] = { VCIO_GET_CLOCK_MEASURED, { VCIO_CLOCK_ARM }, 2, 1 },
	[VIDEOCORE_REVISION] = { VCIO_GET_BOARD_REVISION, { 0 }, 1, 0 },
	[VIDEOCORE_FIRMWARE] = { VCIO_GET_FIRMWARE_REVISION, { 0 }, 1, 0 },
};

static void ask(int device, uint32_t wanted, struct videocore_answer *answer)
{
	memset(answer, 0, sizeof(*answer));
	for (uint32_t i = 0; i < VIDEOCORE_QUESTIONS; i++) {
		struct question q = questions[i];

		if (!(wanted & BIT(i)) || !vcio_ask(device, q.tag, q.values, q.count))
			continue;
		answer->answered |= BIT(i);
		answer->values[i] = q.values[q.at];
	}
}

/* Until the agent is gone. What the agent has open, like a watchdog, must not stay so for us. */
__attribute__((noreturn)) static void answer_for_ever(void)
{
	struct videocore_answer answer;
	uint32_t wanted;

	syscall(SYS_close_range, 3u, ~0u, 0u);
	while (recv(0, &wanted, sizeof(wanted), 0) == sizeof(wanted)) {
		ask(1, wanted, &answer);
		if (send(0, &answer, sizeof(answer), MSG_NOSIGNAL) != sizeof(answer))
			break;
	}
	_exit(0);
}

/* Returns the agent's end of the line, or -1. */
static int start_process(int device)
{
	int line[2];

	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, line))
		return -1;
	pid_t pid = child_fork(CHILD_GROUP, line[1], device, 2);

	if (pid == 0)
		answer_for_ever();
	close(line[1]);
	if (pid > 0)
		return line[0];
	close(line[0]);
	return -1;
}

/* ---- the agent's side ---- */

static void give_up(struct videocore *v)
{
	close(v->fd);
	v->fd = -1;
}

static void send_question(struct videocore *v, uint32_t wanted)
{
	if (send(v->fd, &wanted, sizeof(wanted), MSG_NOSIGNAL | MSG_DONTWAIT) == sizeof(wanted))
		v->waits = true;
	else
		give_up(v);
}

static bool take_answer(struct videocore *v, int patience_ms, struct videocore_answer *answer)
{
	struct pollfd line = { .fd = v->fd, .events = POLLIN };

	if (!v->waits || poll(&line, 1, patience_ms) != 1)
		return false;
	if (recv(v->fd, answer, sizeof(*answer), MSG_DONTWAIT) != sizeof(*answer)) {
		give_up(v);
		return false;
	}
	v->waits = false;
	return true;
}

static void count_events(struct videocore *v, uint32_t bits)
{
	uint32_t either = bits | bits >> STICKY_SHIFT;

	v->reads++;
	for (uint32_t i = 0; i < VIDEOCORE_EVENTS; i++)
		v->events[i] += either >> i & 1;
}

static void take(struct videocore *v, int patience_ms)
{
	struct videocore_answer answer;

	if (v->fd < 0 || !take_answer(v, patience_ms, &answer))
		return;
	if (answer.answered & BIT(VIDEOCORE_THROTTLED))
		count_events(v, answer.values[VIDEOCORE_THROTTLED]);
	if (answer.answered & BIT(VIDEOCORE_CLOCK))
		v->clock_hz = answer.values[VIDEOCORE_CLOCK];
}

void videocore_refresh(struct videocore *v)
{
	int64_t now = now_us();

	take(v, 0);
	if (v->fd < 0 || v->waits || now < v->due_us)
		return;
	v->due_us = now + VIDEOCORE_PERIOD_US;
	send_question(v, v->first.answered & AGAIN_AND_AGAIN);
	take(v, VIDEOCORE_PATIENCE_MS);
}

bool videocore_answers(const struct videocore *v, enum videocore_question question)
{
	return v->first.answered & BIT(question) &&
	       (question == VIDEOCORE_THROTTLED || v->first.values[question]);
}

void videocore_init(struct videocore *v, const char *path)
{
	int device = path ? vcio_open(path) : -ENOENT;

	*v = (struct videocore){ .fd = -1 };
	if (device < 0)
		return;
	v->fd = start_process(device);
	close(device);
	if (v->fd < 0)
		return;
	send_question(v, ALL_QUESTIONS);
	if (v->fd >= 0)
		take_answer(v, VIDEOCORE_START_PATIENCE_MS, &v->first);
	if (v->fd >= 0 && !(v->first.answered & AGAIN_AND_AGAIN))
		give_up(v);
	v->clock_hz = v->first.values[VIDEOCORE_CLOCK];
	v->due_us = now_us() + VIDEOCORE_PERIOD_US;
}
