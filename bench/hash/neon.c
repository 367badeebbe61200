/* SPDX-License-Identifier: Apache-2.0 */
/* NH with NEON: the engine's own. */
#include "engine.h"
#include "hashes.h"

uint64_t hash_nh_neon(const union page *page, const union page *key)
{
	return ksm_nh_neon(page->w32, key->w32);
}
