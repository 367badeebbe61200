/* SPDX-License-Identifier: Apache-2.0 */
/* What the group handlers share. */
#ifndef KSMHOST_GRP_H
#define KSMHOST_GRP_H

#include <string.h>

#include "agent.h"
#include "codec_decode.h"
#include "codec_encode.h"
#include "smp.h"

/* Decode a request of this type; the handler answers EINVAL if it does not have its shape. */
#define GRP_DECODE(type, request, into) \
	(cbor_decode_##type((request)->body, (request)->len, (into), NULL) == 0)

/* Encode an answer of this type; what does not fit is an error of its own. */
#define GRP_ENCODE(type, reply, from) \
	(cbor_encode_##type((reply)->body, SMP_BODY_MAX, (from), &(reply)->len) ? SMP_EMSGSIZE : \
										SMP_DONE)

static inline struct zcbor_string grp_text(const char *text)
{
	return (struct zcbor_string){ (const uint8_t *)text, strlen(text) };
}

static inline int grp_empty(struct smp_reply *reply)
{
	return GRP_ENCODE(empty_response, reply, NULL);
}

#endif
