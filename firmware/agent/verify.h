/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Whether a slot holds a whole image that somebody we trust made for this board: a MCUboot image,
 * its SHA-256, an ed25519 signature over that, and the board's name in a protected TLV.
 *
 * Nothing in a slot is trusted before its signature is. The faults are errno values:
 *   ENOENT no image, EBADMSG not whole or not well-formed, ENOKEY no key to check with,
 *   EKEYREJECTED not signed with it, EMEDIUMTYPE for another board, and what reading gave.
 */
#ifndef KSMHOST_VERIFY_H
#define KSMHOST_VERIFY_H

#include <sodium/crypto_hash_sha256.h>

#include "slots.h"

#define IMAGE_BOARD_MAX 32
#define IMAGE_BUILD_ID_MAX 32

struct image_key {
	bool present;
	uint8_t raw[32];
	uint8_t hash[32]; /* as imgtool has it: of the key in DER */
};

struct image {
	uint32_t size;     /* of the whole file */
	uint32_t hash_end; /* what the hash covers */
	uint8_t hash[32];
	uint8_t major, minor;
	uint32_t revision, build;
	char board[IMAGE_BOARD_MAX];
	uint8_t build_id[IMAGE_BUILD_ID_MAX];
	size_t build_id_len;
};

void image_key_load(struct image_key *key, const char *path);

/* Whether the slot starts as an image does, seen as it is now. */
bool image_has_magic(const struct slots *s, int slot);

/*
 * What a slot says it holds. Returns 0 when signature and board are right, so that only the content
 * is left to check, or a fault as a negative errno; *image holds what was found until then.
 */
int image_read(const struct slots *s, int slot, const struct image_key *key, const char *board,
	       struct image *image);

bool image_is_older(const struct image *image, const struct image *than);

/* "0.1.0", and "+5" behind it when there is a build number. */
void image_version(const struct image *image, char *text, size_t size);

/* The whole check of a slot, a piece a time. */
struct verify {
	const struct slots *slots;
	int slot;
	struct image image;
	uint32_t at;
	crypto_hash_sha256_state state;
	uint8_t hash[32]; /* of the file's first part, which is signed, and of all of it */
	uint8_t file_sha[32];
};

int verify_begin(struct verify *v, const struct slots *s, int slot, const struct image_key *key,
		 const char *board);

/* Go on. 1: there is more to do; 0: the slot is whole, file_sha is that of its file; or a fault. */
int verify_step(struct verify *v);

#endif
