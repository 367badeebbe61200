/* SPDX-License-Identifier: Apache-2.0 */
/* How far an image has got; see progress.h. */
#include "progress.h"

#include <string.h>

#include "bytes.h"
#include "crc32.h"
#include "verify.h"

#define RECORD_VERSION 1
#define RECORD_CRC_AT 508
#define RECORDS 2

static const uint8_t magic[4] = { 'K', 'S', 'M', 'U' };

static void encode(const struct progress *p, uint8_t *sector)
{
	memset(sector, 0, SECTOR_BYTES);
	memcpy(sector, magic, sizeof(magic));
	put_le32(sector + 4, RECORD_VERSION);
	put_le32(sector + 8, p->sequence);
	put_le32(sector + 12, (uint32_t)p->kind);
	put_le32(sector + 16, p->size);
	put_le32(sector + 20, p->off);
	put_le32(sector + 24, p->image_size);
	memcpy(sector + 32, p->sha, SHA_BYTES);
	memcpy(sector + 64, p->image_sha, SHA_BYTES);
	memcpy(sector + 96, p->hash, SHA_BYTES);
	put_le32(sector + RECORD_CRC_AT, crc32(sector, RECORD_CRC_AT));
}

/* The limits of a session hold for its record too: its slot may have come from anywhere. */
static bool is_sound(const struct slots *s, const struct progress *p)
{
	return p->kind <= PROGRESS_WHOLE && p->off <= p->size && p->image_size <= s->bytes &&
	       (p->kind != PROGRESS_UPLOAD || p->size == p->image_size);
}

static bool decode(const struct slots *s, struct progress *p, const uint8_t *sector)
{
	if (memcmp(sector, magic, sizeof(magic)) || get_le32(sector + 4) != RECORD_VERSION ||
	    get_le32(sector + RECORD_CRC_AT) != crc32(sector, RECORD_CRC_AT) ||
	    get_le32(sector + 12) > PROGRESS_WHOLE)
		return false;
	p->sequence = get_le32(sector + 8);
	p->kind = (enum progress_kind)get_le32(sector + 12);
	p->size = get_le32(sector + 16);
	p->off = get_le32(sector + 20);
	p->image_size = get_le32(sector + 24);
	memcpy(p->sha, sector + 32, SHA_BYTES);
	memcpy(p->image_sha, sector + 64, SHA_BYTES);
	memcpy(p->hash, sector + 96, SHA_BYTES);
	return is_sound(s, p);
}

static void load_record(const struct slots *s, int slot, struct progress *p)
{
	uint8_t sector[SECTOR_BYTES];
	struct progress found;
	bool any = false;

	*p = (struct progress){ 0 };
	for (unsigned i = 0; i < RECORDS; i++) {
		if (slots_read_tail(s, slot, i, sector) || !decode(s, &found, sector) ||
		    (any && found.sequence <= p->sequence))
			continue;
		*p = found;
		any = true;
	}
}

void progress_load(struct slots *s, int slot, struct progress *p)
{
	bool startable = image_has_magic(s, slot);

	load_record(s, slot, p);
	bool begun = p->kind == PROGRESS_STREAM || p->kind == PROGRESS_UPLOAD;

	if (begun == startable || (begun && slot != s->target))
		p->kind = PROGRESS_NONE;
	else if (begun)
		s->holding = slots_read_tail(s, slot, SLOTS_HELD_SECTOR, s->held) == 0;
}

static int write_record(struct slots *s, struct progress *p)
{
	uint8_t sector[SECTOR_BYTES];

	p->sequence++;
	encode(p, sector);
	return slots_write_tail(s, p->sequence % RECORDS, sector);
}

int progress_begin(struct slots *s, struct progress *p)
{
	/* The record first: it does not count before the first sector is gone. */
	int err = write_record(s, p);

	if (!err)
		err = slots_sync(s);
	return err ? err : slots_hold(s);
}

int progress_note(struct slots *s, struct progress *p)
{
	return write_record(s, p);
}

int progress_finish(struct slots *s, struct progress *p, const uint8_t *hash)
{
	int err = slots_release(s);

	if (err)
		return err;
	p->kind = PROGRESS_WHOLE;
	memcpy(p->hash, hash, SHA_BYTES);
	err = write_record(s, p);
	return err ? err : slots_sync(s);
}

int progress_erase(struct slots *s, struct progress *p)
{
	int err = slots_hold(s);

	*p = (struct progress){ .sequence = p->sequence };
	if (!err)
		err = write_record(s, p);
	if (!err)
		err = slots_sync(s);
	s->holding = false;
	return err;
}
