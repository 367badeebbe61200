/* SPDX-License-Identifier: Apache-2.0 */
/* See ring.h. One request at a time, so no more of io_uring than that takes. */
#include "ring.h"

#include <errno.h>
#include <linux/io_uring.h>
#include <stdint.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#include "common.h"

static char *map_ring(int fd, size_t bytes, off_t what)
{
	void *mapped = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, what);

	if (mapped == MAP_FAILED)
		die("mapping a ring");
	return mapped;
}

bool ring_open(struct ring *ring)
{
	struct io_uring_params parameters = { 0 };
	char *submit, *done;

	ring->fd = (int)syscall(SYS_io_uring_setup, 1, &parameters);
	if (ring->fd < 0)
		return false;
	submit = map_ring(ring->fd, parameters.sq_off.array + sizeof(unsigned), IORING_OFF_SQ_RING);
	done = map_ring(ring->fd,
			parameters.cq_off.cqes + parameters.cq_entries * sizeof(struct io_uring_cqe),
			IORING_OFF_CQ_RING);
	ring->submit_tail = (unsigned *)(submit + parameters.sq_off.tail);
	ring->submit_mask = (unsigned *)(submit + parameters.sq_off.ring_mask);
	ring->submit_array = (unsigned *)(submit + parameters.sq_off.array);
	ring->done_head = (unsigned *)(done + parameters.cq_off.head);
	ring->done_tail = (unsigned *)(done + parameters.cq_off.tail);
	ring->done_mask = (unsigned *)(done + parameters.cq_off.ring_mask);
	ring->done_entries = done + parameters.cq_off.cqes;
	ring->entries = (struct io_uring_sqe *)map_ring(ring->fd, sizeof(*ring->entries),
							IORING_OFF_SQES);
	return true;
}

bool ring_pin(struct ring *ring, void *start, size_t bytes)
{
	struct iovec buffer = { start, bytes };

	return !syscall(SYS_io_uring_register, ring->fd, IORING_REGISTER_BUFFERS, &buffer, 1);
}

void ring_unpin(struct ring *ring)
{
	if (syscall(SYS_io_uring_register, ring->fd, IORING_UNREGISTER_BUFFERS, NULL, 0))
		die("unpinning");
}

void ring_read(struct ring *ring, int fd, void *to, size_t bytes)
{
	unsigned tail = *ring->submit_tail, head = *ring->done_head;
	const struct io_uring_cqe *done;

	ring->entries[0] = (struct io_uring_sqe){
		.opcode = IORING_OP_READ_FIXED,
		.fd = fd,
		.off = (uint64_t)-1,
		.addr = (uintptr_t)to,
		.len = (uint32_t)bytes,
	};
	ring->submit_array[tail & *ring->submit_mask] = 0;
	__atomic_store_n(ring->submit_tail, tail + 1, __ATOMIC_RELEASE);
	if (syscall(SYS_io_uring_enter, ring->fd, 1, 1, IORING_ENTER_GETEVENTS, NULL, 0) != 1)
		die("reading into pinned memory");
	if (__atomic_load_n(ring->done_tail, __ATOMIC_ACQUIRE) == head)
		die("nothing was read into pinned memory");
	done = (const struct io_uring_cqe *)ring->done_entries + (head & *ring->done_mask);
	errno = done->res < 0 ? -done->res : 0;
	if (done->res != (int)bytes)
		die("%d of %zu bytes were read into pinned memory", done->res, bytes);
	__atomic_store_n(ring->done_head, head + 1, __ATOMIC_RELEASE);
}
