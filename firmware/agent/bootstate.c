/* SPDX-License-Identifier: Apache-2.0 */
/* The boot state; see bootstate.h. */
#include "bootstate.h"

#include <string.h>

#include "bytes.h"
#include "crc32.h"

#define STATE_VERSION 2
#define STATE_CRC_AT 508

static const uint8_t magic[4] = { 'K', 'S', 'M', 'B' };

bool bootstate_decode(struct boot_state *state, const uint8_t *sector)
{
	if (memcmp(sector, magic, sizeof(magic)) || get_le32(sector + 4) != STATE_VERSION ||
	    get_be32(sector + STATE_CRC_AT) != crc32(sector, STATE_CRC_AT))
		return false;
	/* What the boot loader does not take must not count here either. */
	if (get_le32(sector + 8) == 0 || sector[12] > 1 || sector[14] > 1 ||
	    sector[15] > OUTCOME_REQUEST)
		return false;
	*state = (struct boot_state){ .sequence = get_le32(sector + 8),
				      .first = sector[12],
				      .tries = sector[13],
				      .trial = sector[14] == 1,
				      .outcome = sector[15] };
	return true;
}

void bootstate_encode(const struct boot_state *state, uint8_t *sector)
{
	memset(sector, 0, SECTOR_BYTES);
	memcpy(sector, magic, sizeof(magic));
	put_le32(sector + 4, STATE_VERSION);
	put_le32(sector + 8, state->sequence);
	sector[12] = state->first;
	sector[13] = state->tries;
	sector[14] = state->trial;
	sector[15] = state->outcome;
	put_be32(sector + STATE_CRC_AT, crc32(sector, STATE_CRC_AT));
}

bool bootstate_same(const struct boot_state *a, const struct boot_state *b)
{
	return a->first == b->first && a->tries == b->tries && a->trial == b->trial &&
	       a->outcome == b->outcome;
}
