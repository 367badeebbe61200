/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The stretch of the disk that nobody owns, for a bench of the disk: behind the second slot, from
 * the next erase block on (docs/IMAGE.md). Pure.
 */
#ifndef KSMHOST_SCRATCH_H
#define KSMHOST_SCRATCH_H

#include <stdint.h>

#define SCRATCH_MAX_BYTES (8u << 20)
#define SCRATCH_MIN_BYTES (1u << 20)

struct scratch {
	uint64_t at, bytes;
};

/*
 * Find it by the disk's first sector and its size. Returns 0; -ENODEV if that is no disk of ours,
 * -ENOSPC if a partition or the disk's end leaves no room there.
 */
int scratch_find(struct scratch *scratch, const uint8_t *mbr, uint64_t disk_bytes);

#endif
