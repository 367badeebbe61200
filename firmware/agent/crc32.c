/* SPDX-License-Identifier: Apache-2.0 */
/* CRC-32; see crc32.h. */
#include "crc32.h"

#define POLYNOMIAL 0xedb88320u

static uint32_t table[256];

static void make_table(void)
{
	for (uint32_t n = 0; n < 256; n++) {
		uint32_t value = n;

		for (int bit = 0; bit < 8; bit++)
			value = value >> 1 ^ (value & 1 ? POLYNOMIAL : 0);
		table[n] = value;
	}
}

uint32_t crc32(const void *bytes, size_t len)
{
	uint32_t crc = UINT32_MAX;

	if (!table[1])
		make_table();
	for (const uint8_t *at = bytes; len; len--)
		crc = crc >> 8 ^ table[(crc ^ *at++) & 0xff];
	return ~crc;
}
