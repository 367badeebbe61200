/* SPDX-License-Identifier: Apache-2.0 */
/* COBS; see cobs.h. */
#include "cobs.h"

#include <string.h>

#define BLOCK_MAX 254 /* bytes behind the largest code */

size_t cobs_encode(const uint8_t *in, size_t len, uint8_t *out)
{
	size_t n = 0, at = 0;

	for (;;) {
		size_t left = len - at, most = left < BLOCK_MAX ? left : BLOCK_MAX;
		const uint8_t *zero = memchr(in + at, 0, most);
		size_t block = zero ? (size_t)(zero - in) - at : most;

		out[n++] = (uint8_t)(block + 1);
		memcpy(out + n, in + at, block);
		n += block;
		at += block;
		if (zero)
			at++; /* the code stands for it; one at the very end leaves an empty block */
		else if (at == len)
			return n;
	}
}

size_t cobs_decode(uint8_t *bytes, size_t len)
{
	size_t n = 0;

	for (size_t at = 0; at < len;) {
		size_t code = bytes[at++], block = code - 1;

		if (block > len - at)
			return 0;
		memmove(bytes + n, bytes + at, block);
		n += block;
		at += block;
		if (code <= BLOCK_MAX && at < len)
			bytes[n++] = 0;
	}
	return n;
}
