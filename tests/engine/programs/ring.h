/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Memory that the kernel holds on to and writes to later: buffers registered with io_uring. While
 * they are, their pages must stay where they are, whatever is equal to them.
 */
#ifndef RING_H
#define RING_H

#include <stdbool.h>
#include <stddef.h>

struct io_uring_sqe;

struct ring {
	int fd;
	unsigned *submit_tail, *submit_mask, *submit_array;
	unsigned *done_head, *done_tail, *done_mask;
	struct io_uring_sqe *entries;
	void *done_entries;
};

/* Returns false where the kernel has no io_uring. */
bool ring_open(struct ring *ring);

/* Pin memory; false when the kernel refuses. */
bool ring_pin(struct ring *ring, void *start, size_t bytes);
void ring_unpin(struct ring *ring);

/* Let the kernel read from a file into pinned memory. Dies unless all bytes came. */
void ring_read(struct ring *ring, int fd, void *to, size_t bytes);

#endif
