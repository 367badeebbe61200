/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Put a request's map into the order its decoder expects.
 *
 * The generated decoders want the keys in the order of the CDDL and no others; SMP lets a client
 * send them in any order and beside keys of a later version. Pure; trusts nothing.
 */
#ifndef KSMHOST_PICK_H
#define KSMHOST_PICK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/*
 * Copy the pairs whose keys are named in keys (separated by spaces), in that order, from the map
 * at in to out. An empty input counts as an empty map. False if in is not one well-formed map, or
 * what is picked does not fit.
 */
bool pick(const uint8_t *in, size_t len, const char *keys, uint8_t *out, size_t out_size,
	  size_t *out_len);

#endif
