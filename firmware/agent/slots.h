/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The two slots and the boot state on the disk (docs/IMAGE.md), and nothing else of it.
 *
 * One slot is the target: the one that does not run. It alone is open for writing, and every access
 * is checked against its bounds. The last block of a slot belongs to progress.h.
 *
 * While an image is being written into the target its first sector, without which nothing starts
 * it, is held back: writes to it are kept in `held`, and reads see it in its place. The sector on
 * the disk stays empty until slots_release.
 */
#ifndef KSMHOST_SLOTS_H
#define KSMHOST_SLOTS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "bootstate.h"

#define BLOCK_BYTES 4096
#define SLOT_NONE (-1)
#define SLOTS_HELD_SECTOR 2     /* of the target's last block: where what is held back is kept */
#define SLOTS_PIECE_BYTES 262144 /* as much as is read or written in one turn of the loop */

/* Where the slots are, when not on a disk of ours. */
struct slots_options {
	const char *slot[2]; /* files, or NULL: look for our disk */
	const char *state;
	int running;         /* 0, 1 or SLOT_NONE */
};

struct slots {
	const struct slots_options *options;
	bool open;
	int running, target;
	int fd[2], direct_fd[2], state_fd, direct_state_fd;
	uint32_t bytes; /* what an image may take of a slot */
	struct boot_state state;
	int state_copy; /* which copy counts; SLOT_NONE: neither is whole */
	bool holding;
	uint8_t held[SECTOR_BYTES];
	const uint8_t *map; /* the running slot in memory, or NULL */
};

/* The buffer for pieces read past the page cache. */
struct slots_piece {
	_Alignas(BLOCK_BYTES) uint8_t bytes[SLOTS_PIECE_BYTES];
};

void slots_init(struct slots *s, const struct slots_options *options);

/* Find and open all, unless that is done. Returns 0, -ENODEV without slots, or another -errno. */
int slots_open(struct slots *s);
void slots_close(struct slots *s);

/* Read within a slot. Returns 0 or a negative errno. */
int slots_read(const struct slots *s, int slot, uint32_t at, void *bytes, size_t len);

/* The same for whole blocks and from the disk itself, so that what was written is seen as it is. */
int slots_read_back(const struct slots *s, int slot, uint32_t at, struct slots_piece *piece,
		    size_t len);

/*
 * Have reads of the target come from the disk again: it failed, and what was written may be in memory
 * only.
 */
void slots_forget(const struct slots *s);

/* Write within the target, as far as to the device. Returns 0 or a negative errno. */
int slots_write(struct slots *s, uint32_t at, const void *bytes, size_t len);

/* Have the device write what it was given. */
int slots_sync(const struct slots *s);

/* Sectors of the target's last block. */
int slots_read_tail(const struct slots *s, int slot, unsigned sector, uint8_t *bytes);
int slots_write_tail(struct slots *s, unsigned sector, const uint8_t *bytes);

/* Hold the first sector back from now on (empty it on the disk), or write it at last. */
int slots_hold(struct slots *s);
int slots_release(struct slots *s);

/* The running slot as memory; NULL if that cannot be had. Read a range first: see stream.c. */
const uint8_t *slots_map(struct slots *s);
void slots_unmap(struct slots *s);

/*
 * Bring s->state up to date, from the disk itself. Without a whole copy it is what the boot loader
 * then takes.
 */
int slots_read_state(struct slots *s);

/*
 * Write what differs from s->state, as one sector in the copy that does not count, and read it
 * back. Returns 0 or a negative errno: -EIO when the disk does not hold what was written.
 */
int slots_write_state(struct slots *s, const struct boot_state *state);

#endif
