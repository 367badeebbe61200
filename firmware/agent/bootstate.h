/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The boot state: the sector by which agent and boot loader agree on the slot to start, as
 * docs/IMAGE.md lays it out. Pure; slots.h reads and writes it.
 */
#ifndef KSMHOST_BOOTSTATE_H
#define KSMHOST_BOOTSTATE_H

#include <stdbool.h>
#include <stdint.h>

#define SECTOR_BYTES 512

enum boot_outcome {
	OUTCOME_NONE,
	OUTCOME_CONFIRMED,
	OUTCOME_NO_TRIES,
	OUTCOME_UNREADABLE,
	OUTCOME_REQUEST,
};

struct boot_state {
	uint32_t sequence;
	uint8_t first; /* slot to boot: 0 A, 1 B */
	uint8_t tries; /* boots the slot on trial still has */
	bool trial;    /* first is on trial */
	uint8_t outcome;
};

/* False if the sector holds no whole state. */
bool bootstate_decode(struct boot_state *state, const uint8_t *sector);
void bootstate_encode(const struct boot_state *state, uint8_t *sector);

/* What is meant, apart from the sequence number. */
bool bootstate_same(const struct boot_state *a, const struct boot_state *b);

#endif
