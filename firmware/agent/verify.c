/* SPDX-License-Identifier: Apache-2.0 */
/* Whether a slot holds an image for us; see verify.h. */
#include "verify.h"

#include <errno.h>
#include <fcntl.h>
#include <sodium/crypto_sign_ed25519.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "bytes.h"

#define IMAGE_MAGIC 0x96f3b83du
#define HEADER_BYTES 32
#define TLV_MAGIC 0x6907u
#define TLV_PROTECTED_MAGIC 0x6908u
#define TLV_HEAD_BYTES 4
#define TLVS_MAX 4096 /* of one area; ours have some 200 bytes */

enum tlv {
	TLV_KEY_HASH = 0x01,
	TLV_SHA256 = 0x10,
	TLV_ED25519 = 0x24,
	TLV_BOARD = 0xa0,
	TLV_BUILD_ID = 0xa1,
};

void image_key_load(struct image_key *key, const char *path)
{
	/* SubjectPublicKeyInfo of an ed25519 key, up to the key. */
	uint8_t der[12 + 32] = { 0x30, 0x2a, 0x30, 0x05, 0x06, 0x03,
				 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00 };
	int fd = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;

	memset(key, 0, sizeof(*key));
	if (fd < 0)
		return;
	key->present = read(fd, key->raw, sizeof(key->raw)) == sizeof(key->raw);
	close(fd);
	memcpy(der + 12, key->raw, sizeof(key->raw));
	crypto_hash_sha256(key->hash, der, sizeof(der));
}

/* ---- the parts of an image ---- */

bool image_has_magic(const struct slots *s, int slot)
{
	uint8_t magic[4];

	return slots_read(s, slot, 0, magic, sizeof(magic)) == 0 && get_le32(magic) == IMAGE_MAGIC;
}

struct layout {
	uint32_t protected_at, protected_len, plain_at, plain_len;
};

/* Sums are of 64 bits, since every number here may be anything. */
static int read_header(const struct slots *s, int slot, struct image *image, struct layout *layout)
{
	uint8_t h[HEADER_BYTES];
	int err = slots_read(s, slot, 0, h, sizeof(h));

	if (err)
		return err;
	if (get_le32(h) != IMAGE_MAGIC)
		return -ENOENT;
	uint64_t header = get_le16(h + 8), protected_len = get_le16(h + 10);
	uint64_t content = get_le32(h + 12), end = header + content + protected_len;

	/* No flag says anything that a slot of ours could be: encrypted, compressed, not bootable. */
	if (header < HEADER_BYTES || get_le32(h + 16) != 0 || end > s->bytes - TLV_HEAD_BYTES)
		return -EBADMSG;
	image->major = h[20];
	image->minor = h[21];
	image->revision = get_le16(h + 22);
	image->build = get_le32(h + 24);
	image->hash_end = (uint32_t)end;
	*layout = (struct layout){ (uint32_t)(header + content), (uint32_t)protected_len,
				   (uint32_t)end, 0 };
	return 0;
}

struct found {
	const uint8_t *key_hash, *hash, *signature, *board, *build_id;
	size_t board_len, build_id_len;
};

/* Each may be there once; the length is checked where it is fixed. */
static bool keep(const uint8_t **slot, size_t *kept_len, size_t wanted, const uint8_t *value,
		 size_t len)
{
	if (*slot || (wanted && len != wanted))
		return false;
	*slot = value;
	if (kept_len)
		*kept_len = len;
	return true;
}

/* What a TLV means depends on whether it is protected: a board's name that is not says nothing. */
static bool take_tlv(struct found *f, bool is_protected, uint32_t type, const uint8_t *value,
		     size_t len)
{
	if (!is_protected && type == TLV_KEY_HASH)
		return keep(&f->key_hash, NULL, 32, value, len);
	if (!is_protected && type == TLV_SHA256)
		return keep(&f->hash, NULL, 32, value, len);
	if (!is_protected && type == TLV_ED25519)
		return keep(&f->signature, NULL, crypto_sign_ed25519_BYTES, value, len);
	if (is_protected && type == TLV_BOARD)
		return keep(&f->board, &f->board_len, 0, value, len);
	if (is_protected && type == TLV_BUILD_ID)
		return keep(&f->build_id, &f->build_id_len, 0, value, len);
	return true;
}

static bool take_area(struct found *f, bool is_protected, const uint8_t *area, size_t len)
{
	size_t at = TLV_HEAD_BYTES;

	while (at < len) {
		if (len - at < TLV_HEAD_BYTES)
			return false;
		uint32_t type = get_le16(area + at), size = get_le16(area + at + 2);

		at += TLV_HEAD_BYTES;
		if (size > len - at || !take_tlv(f, is_protected, type, area + at, size))
			return false;
		at += size;
	}
	return true;
}

/* The length of an area of TLVs, its head included. */
static int read_area_head(const struct slots *s, int slot, uint32_t at, uint32_t magic,
			  uint32_t *len)
{
	uint8_t head[TLV_HEAD_BYTES];
	int err = slots_read(s, slot, at, head, sizeof(head));

	if (err)
		return err;
	*len = get_le16(head + 2);
	return get_le16(head) != magic || *len < TLV_HEAD_BYTES || *len > TLVS_MAX ? -EBADMSG : 0;
}

static int read_areas(const struct slots *s, int slot, struct layout *layout, uint8_t *areas)
{
	uint32_t len;
	int err = 0;

	if (layout->protected_len)
		err = read_area_head(s, slot, layout->protected_at, TLV_PROTECTED_MAGIC, &len);
	if (!err && layout->protected_len && len != layout->protected_len)
		err = -EBADMSG;
	if (!err)
		err = read_area_head(s, slot, layout->plain_at, TLV_MAGIC, &layout->plain_len);
	if (!err)
		err = slots_read(s, slot, layout->protected_at, areas,
				 layout->protected_len + layout->plain_len);
	return err == -EINVAL ? -EBADMSG : err; /* beyond the end */
}

/* The name has a NUL at its end in our records, and none in the image. */
static void keep_found(const struct found *f, struct image *image)
{
	memcpy(image->hash, f->hash, sizeof(image->hash));
	if (f->board && f->board_len < sizeof(image->board))
		memcpy(image->board, f->board, f->board_len);
	if (f->build_id && f->build_id_len <= sizeof(image->build_id)) {
		memcpy(image->build_id, f->build_id, f->build_id_len);
		image->build_id_len = f->build_id_len;
	}
}

static int check_maker(const struct found *f, const struct image_key *key, const char *board)
{
	if (!key->present)
		return -ENOKEY;
	if (!f->signature || !f->key_hash || memcmp(f->key_hash, key->hash, sizeof(key->hash)) ||
	    crypto_sign_ed25519_verify_detached(f->signature, f->hash, 32, key->raw))
		return -EKEYREJECTED;
	if (!f->board || !board[0] || f->board_len != strlen(board) ||
	    memcmp(f->board, board, f->board_len))
		return -EMEDIUMTYPE;
	return 0;
}

int image_read(const struct slots *s, int slot, const struct image_key *key, const char *board,
	       struct image *image)
{
	static uint8_t areas[2 * TLVS_MAX];
	struct layout layout;
	struct found f = { 0 };

	memset(image, 0, sizeof(*image));
	int err = read_header(s, slot, image, &layout);

	if (!err)
		err = read_areas(s, slot, &layout, areas);
	if (err)
		return err;
	image->size = layout.plain_at + layout.plain_len;
	if (!take_area(&f, true, areas, layout.protected_len) ||
	    !take_area(&f, false, areas + layout.protected_len, layout.plain_len) || !f.hash)
		return -EBADMSG;
	keep_found(&f, image);
	return check_maker(&f, key, board);
}

bool image_is_older(const struct image *image, const struct image *than)
{
	if (image->major != than->major)
		return image->major < than->major;
	if (image->minor != than->minor)
		return image->minor < than->minor;
	if (image->revision != than->revision)
		return image->revision < than->revision;
	return image->build < than->build;
}

void image_version(const struct image *image, char *text, size_t size)
{
	int len = snprintf(text, size, "%u.%u.%u", image->major, image->minor, image->revision);

	if (image->build && len > 0 && (size_t)len < size)
		snprintf(text + len, size - (size_t)len, "+%u", image->build);
}

/* ---- the content ---- */

int verify_begin(struct verify *v, const struct slots *s, int slot, const struct image_key *key,
		 const char *board)
{
	*v = (struct verify){ .slots = s, .slot = slot };
	crypto_hash_sha256_init(&v->state);
	return image_read(s, slot, key, board, &v->image);
}

/* Add what of a piece lies before `end`, and has not been added: from `from` on. */
static void add(struct verify *v, const uint8_t *piece, size_t len, uint32_t from, uint32_t end)
{
	if (end > v->at + len)
		end = v->at + (uint32_t)len;
	if (from < end)
		crypto_hash_sha256_update(&v->state, piece + (from - v->at), end - from);
}

/* What is signed is the beginning of the file: one pass gives both hashes. */
static void add_piece(struct verify *v, const uint8_t *piece, size_t len)
{
	uint32_t from = v->at, signed_end = v->image.hash_end;

	if (from < signed_end) {
		add(v, piece, len, from, signed_end);
		if (signed_end > v->at + len)
			return;
		crypto_hash_sha256_state copy = v->state;

		crypto_hash_sha256_final(&copy, v->hash);
		from = signed_end;
	}
	add(v, piece, len, from, v->image.size);
}

int verify_step(struct verify *v)
{
	static struct slots_piece piece;
	uint32_t left = (v->image.size - v->at + BLOCK_BYTES - 1) / BLOCK_BYTES * BLOCK_BYTES;
	size_t len = left < sizeof(piece) ? left : sizeof(piece);
	int err = slots_read_back(v->slots, v->slot, v->at, &piece, len);

	if (err)
		return err;
	add_piece(v, piece.bytes, len);
	v->at += (uint32_t)len;
	if (v->at < v->image.size)
		return 1;
	crypto_hash_sha256_final(&v->state, v->file_sha);
	return memcmp(v->hash, v->image.hash, sizeof(v->hash)) ? -EBADMSG : 0;
}
