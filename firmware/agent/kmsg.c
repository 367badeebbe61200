/* SPDX-License-Identifier: Apache-2.0 */
/* The kernel's messages; see kmsg.h. */
#include "kmsg.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "procfile.h"

#define RECORD_MAX 8192 /* of any kernel; one that is longer than asked for reads as EINVAL */
#define LINE_MAX_LEN (OUT_TEXT_MAX - 8)
#define NO_NUMBER UINT64_MAX
#define PRIORITY_MASK 7
#define PRIORITY_DEBUG 7

static bool next_number(const char **at, char end, int64_t *value)
{
	return scan_number(at, value) && *(*at)++ == end;
}

size_t kmsg_format(const char *record, size_t len, char *line, size_t size, uint64_t *seq)
{
	const char *at = record;
	int64_t priority, number, time_us;

	if (!next_number(&at, ',', &priority) || !next_number(&at, ',', &number) ||
	    !scan_number(&at, &time_us))
		return 0;
	*seq = (uint64_t)number;
	at = memchr(at, ';', len - (size_t)(at - record));
	if (!at || (priority & PRIORITY_MASK) == PRIORITY_DEBUG)
		return 0;
	at++;
	const char *end = memchr(at, '\n', len - (size_t)(at - record));
	int text_len = (int)((end ? end : record + len) - at);
	int n = snprintf(line, size, "[%5lld.%06lld] %.*s", (long long)(time_us / 1000000),
			 (long long)(time_us % 1000000), text_len, at);

	return n < 0 ? 0 : (size_t)n < size ? (size_t)n : size - 1;
}

static void kmsg_pause(struct kmsg *k)
{
	loop_remove(k->loop, &k->source);
	k->reads = false;
}

static void note_gap(struct kmsg *k, uint64_t seq)
{
	if (k->numbered && seq > k->next_seq)
		out_note_dropped(k->out, seq - k->next_seq);
	k->numbered = true;
	k->next_seq = seq + 1;
}

static void kmsg_record(struct kmsg *k, const char *record, size_t len)
{
	char line[LINE_MAX_LEN];
	uint64_t seq = NO_NUMBER;
	size_t line_len = kmsg_format(record, len, line, sizeof(line), &seq);

	if (seq == NO_NUMBER)
		return;
	note_gap(k, seq);
	if (!line_len)
		return;
	out_line(k->out, line, line_len);
	k->queued(k->queued_ctx);
}

static void kmsg_ready(void *ctx, uint32_t events)
{
	struct kmsg *k = ctx;
	char record[RECORD_MAX + 1];

	if (out_text_room(k->out) < OUT_TEXT_MAX) {
		kmsg_pause(k);
		return;
	}
	ssize_t n = read(k->source.fd, record, RECORD_MAX);
	if (n > 0) {
		record[n] = '\0';
		kmsg_record(k, record, (size_t)n);
	} else if (n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR && errno != EPIPE) ||
		   !(events & EPOLLIN)) {
		loop_remove(k->loop, &k->source);
		close(k->source.fd);
		k->source.fd = -1;
	}
}

int kmsg_start(struct kmsg *k, const char *path, bool from_start)
{
	int fd = open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC);

	k->source = (struct loop_source){ .fd = fd, .ready = kmsg_ready, .ctx = k };
	if (fd < 0)
		return -errno;
	if (!from_start)
		lseek(fd, 0, SEEK_END);
	k->reads = true;
	int err = loop_add(k->loop, &k->source, EPOLLIN);
	if (err) {
		close(fd);
		k->source.fd = -1;
	}
	return err;
}

void kmsg_resume(struct kmsg *k)
{
	if (k->source.fd >= 0 && !k->reads && out_text_room(k->out) >= OUT_TEXT_MAX)
		k->reads = loop_add(k->loop, &k->source, EPOLLIN) == 0;
}
