/* SPDX-License-Identifier: Apache-2.0 */
/* How fast the disk is; see bench.h. The child's figures come through a pipe. */
#include "bench.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "child.h"
#include "clock.h"
#include "scratch.h"

#define PHASES 5 /* read, look, write, flush, look again */
#define GRACE_MS 10000

/* What the child works with. */
struct work {
	const struct slots *slots;
	struct bench_wish wish;
	struct scratch scratch;
	uint8_t *bytes; /* of the scratch, as they were */
	uint8_t *piece;
	struct bench_figures figures;
};

/* ---- in the child ---- */

static int all_of(ssize_t done, size_t len)
{
	return done == (ssize_t)len ? 0 : done < 0 ? errno : EIO;
}

static uint64_t since_us(int64_t start_us)
{
	return (uint64_t)(now_us() - start_us);
}

static bool in_time(const struct work *w, int64_t start_us)
{
	return since_us(start_us) < w->wish.time_ms * 1000;
}

static int read_slot(struct work *w)
{
	struct bench_figures *f = &w->figures;
	int64_t start = now_us();
	int fault = 0;

	while (!fault && f->read_bytes < w->wish.bytes && in_time(w, start)) {
		ssize_t n = pread(w->slots->direct_fd[w->slots->running], w->piece,
				  SLOTS_PIECE_BYTES, (off_t)f->read_bytes);

		fault = all_of(n, SLOTS_PIECE_BYTES);
		f->read_bytes += SLOTS_PIECE_BYTES;
	}
	f->read_us = since_us(start);
	return fault;
}

/* Whole pieces of the scratch: into `bytes`, or compared with them. */
static int look(struct work *w, bool compare)
{
	int fault = 0;

	for (uint64_t at = 0; !fault && at < w->wish.bytes; at += SLOTS_PIECE_BYTES) {
		uint8_t *into = compare ? w->piece : w->bytes + at;
		ssize_t n = pread(w->slots->direct_state_fd, into, SLOTS_PIECE_BYTES,
				  (off_t)(w->scratch.at + at));

		fault = all_of(n, SLOTS_PIECE_BYTES);
		if (!fault && compare && memcmp(into, w->bytes + at, SLOTS_PIECE_BYTES))
			fault = EIO;
	}
	return fault;
}

static int write_back(struct work *w, uint64_t at, size_t len)
{
	return all_of(pwrite(w->slots->direct_state_fd, w->bytes + at, len,
			     (off_t)(w->scratch.at + at)),
		      len);
}

static int flush(const struct work *w)
{
	return fdatasync(w->slots->direct_state_fd) && errno != EINVAL ? errno : 0;
}

static int write_scratch(struct work *w)
{
	struct bench_figures *f = &w->figures;
	int64_t start = now_us();
	int fault = 0;

	while (!fault && f->write_bytes < w->wish.bytes && in_time(w, start)) {
		fault = write_back(w, f->write_bytes, SLOTS_PIECE_BYTES);
		f->write_bytes += SLOTS_PIECE_BYTES;
	}
	if (!fault)
		fault = flush(w);
	f->write_us = since_us(start);
	return fault;
}

static int flush_blocks(struct work *w)
{
	struct bench_figures *f = &w->figures;
	int64_t start = now_us();
	int fault = 0;

	while (!fault && f->flushes < w->wish.flushes && in_time(w, start)) {
		int64_t one = now_us();

		fault = write_back(w, f->flushes * BLOCK_BYTES % w->wish.bytes, BLOCK_BYTES);
		if (!fault)
			fault = flush(w);
		f->flushes++;
		f->flush_us += since_us(one);
		if (since_us(one) > f->flush_max_us)
			f->flush_max_us = since_us(one);
	}
	return fault;
}

static int measure(struct work *w)
{
	int fault = read_slot(w);

	if (!fault)
		fault = look(w, false);
	if (!fault)
		fault = write_scratch(w);
	if (!fault)
		fault = flush_blocks(w);
	return fault ? fault : look(w, true);
}

static uint8_t *memory(size_t len)
{
	void *got = mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	return got == MAP_FAILED ? NULL : got;
}

__attribute__((noreturn)) static void measure_and_exit(struct work *w)
{
	w->bytes = memory(w->wish.bytes);
	w->piece = memory(SLOTS_PIECE_BYTES);
	w->figures.fault = w->bytes && w->piece ? measure(w) : ENOMEM;
	_exit(write(STDOUT_FILENO, &w->figures, sizeof(w->figures)) != sizeof(w->figures));
}

/* ---- in the agent ---- */

static void finish(struct bench *b, int fault)
{
	if (read(b->fd, &b->figures, sizeof(b->figures)) != sizeof(b->figures))
		b->figures = (struct bench_figures){ .fault = fault };
	loop_timer_stop(&b->limit);
	close(b->fd);
	b->fd = -1;
	b->pid = 0;
}

static void overdue(void *ctx)
{
	struct bench *b = ctx;

	kill(b->pid, SIGKILL);
	finish(b, ETIMEDOUT); /* the reaper will not know it, which is fine */
}

void bench_init(struct bench *b, struct loop *loop)
{
	*b = (struct bench){ .fd = -1, .limit = { .fire = overdue, .ctx = b } };
	loop_timer_add(loop, &b->limit);
}

static int find_scratch(const struct slots *s, struct scratch *scratch)
{
	uint8_t mbr[SECTOR_BYTES];
	off_t size = lseek(s->state_fd, 0, SEEK_END);

	if (pread(s->state_fd, mbr, sizeof(mbr), 0) != sizeof(mbr) || size < 0)
		return -EIO;
	return scratch_find(scratch, mbr, (uint64_t)size);
}

/* Whole pieces, within the slot that is read and the stretch that is written. */
static int prepare(struct work *w, const struct slots *s, const struct bench_wish *wish)
{
	if (wish->bytes < SLOTS_PIECE_BYTES || wish->bytes > BENCH_BYTES_MAX ||
	    wish->flushes > BENCH_FLUSHES_MAX || wish->time_ms < BENCH_TIME_MIN_MS ||
	    wish->time_ms > BENCH_TIME_MAX_MS)
		return -EINVAL;
	if (s->running == SLOT_NONE)
		return -ENODEV;
	if (s->direct_state_fd < 0 || s->direct_fd[s->running] < 0)
		return -EOPNOTSUPP;
	*w = (struct work){ .slots = s, .wish = *wish };
	int err = find_scratch(s, &w->scratch);

	if (!err && w->wish.bytes > w->scratch.bytes)
		w->wish.bytes = w->scratch.bytes;
	if (w->wish.bytes > s->bytes)
		w->wish.bytes = s->bytes;
	w->wish.bytes = w->wish.bytes / SLOTS_PIECE_BYTES * SLOTS_PIECE_BYTES;
	w->figures.scratch_at = w->scratch.at;
	return !err && !w->wish.bytes ? -ENOSPC : err;
}

int bench_start(struct bench *b, const struct slots *slots, const struct bench_wish *wish)
{
	static struct work work;
	int fds[2], err = b->pid ? -EBUSY : prepare(&work, slots, wish);

	if (err)
		return err;
	if (pipe2(fds, O_CLOEXEC | O_NONBLOCK))
		return -errno;
	b->pid = child_fork(CHILD_GROUP, -1, fds[1], -1);
	if (b->pid == 0)
		measure_and_exit(&work);
	close(fds[1]);
	if (b->pid < 0) {
		close(fds[0]);
		b->pid = 0;
		return -EAGAIN;
	}
	b->fd = fds[0];
	b->runs++;
	b->figures = (struct bench_figures){ 0 };
	loop_timer_set(&b->limit, (int64_t)wish->time_ms * PHASES + GRACE_MS);
	return 0;
}

bool bench_reap(struct bench *b, pid_t pid, int wait_status)
{
	if (!b->pid || pid != b->pid)
		return false;
	finish(b, WIFSIGNALED(wait_status) ? EINTR : EIO);
	return true;
}
