/* SPDX-License-Identifier: Apache-2.0 */
/* CRC-32 as zlib, Ethernet and U-Boot have it. */
#ifndef KSMHOST_CRC32_H
#define KSMHOST_CRC32_H

#include <stddef.h>
#include <stdint.h>

uint32_t crc32(const void *bytes, size_t len);

#endif
