/* SPDX-License-Identifier: Apache-2.0 */
/* The stretch of the disk that nobody owns; see scratch.h. */
#include "scratch.h"

#include <errno.h>
#include <stdbool.h>

#include "bootstate.h"
#include "bytes.h"

#define PARTITIONS 4
#define ENTRY_AT 446
#define ENTRY_BYTES 16
#define TYPE_SLOT 0xda
#define ERASE_BLOCK_BYTES (4u << 20) /* of all but a few cards at most */

struct partition {
	uint8_t type;
	uint64_t start, end;
};

static struct partition partition(const uint8_t *mbr, int number)
{
	const uint8_t *entry = mbr + ENTRY_AT + number * ENTRY_BYTES;
	uint64_t first = get_le32(entry + 8), count = get_le32(entry + 12);

	return (struct partition){ .type = entry[4],
				   .start = first * SECTOR_BYTES,
				   .end = (first + count) * SECTOR_BYTES };
}

/* Where the slots end; 0 without two of them. */
static uint64_t slots_end(const uint8_t *mbr)
{
	uint64_t end = 0;
	int slots = 0;

	for (int i = 0; i < PARTITIONS; i++) {
		struct partition p = partition(mbr, i);

		if (p.type != TYPE_SLOT)
			continue;
		slots++;
		if (p.end > end)
			end = p.end;
	}
	return slots == 2 ? end : 0;
}

int scratch_find(struct scratch *scratch, const uint8_t *mbr, uint64_t disk_bytes)
{
	uint64_t from = slots_end(mbr);

	if (mbr[510] != 0x55 || mbr[511] != 0xaa || !from)
		return -ENODEV;
	from = (from + ERASE_BLOCK_BYTES - 1) / ERASE_BLOCK_BYTES * ERASE_BLOCK_BYTES;
	uint64_t end = from + SCRATCH_MAX_BYTES;

	if (end > disk_bytes)
		end = disk_bytes / SECTOR_BYTES * SECTOR_BYTES;
	for (int i = 0; i < PARTITIONS; i++) {
		struct partition p = partition(mbr, i);

		if (p.type && p.end > from && p.start < end)
			end = p.start;
	}
	if (end < from + SCRATCH_MIN_BYTES)
		return -ENOSPC;
	*scratch = (struct scratch){ .at = from, .bytes = end - from };
	return 0;
}
