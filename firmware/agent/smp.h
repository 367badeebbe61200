/* SPDX-License-Identifier: Apache-2.0 */
/*
 * SMP: the header of a message, which handler it is for, and the shape of an answer.
 *
 * A handler gets the body of a request with its keys in the order of the CDDL, and writes the body
 * of the answer or says what is wrong. It never sees a header.
 */
#ifndef KSMHOST_SMP_H
#define KSMHOST_SMP_H

#include <stddef.h>
#include <stdint.h>

#include "frame.h"

#define SMP_HEADER_SIZE 8
#define SMP_BODY_MAX (FRAME_MESSAGE_MAX - SMP_HEADER_SIZE)

#define SMP_GROUP_OS 0
#define SMP_GROUP_IMAGE 1
#define SMP_GROUP_STAT 2
#define SMP_GROUP_SETTINGS 3
#define SMP_GROUP_SHELL 9
#define SMP_GROUP_KSMHOST 64

enum smp_op { SMP_READ = 0, SMP_WRITE = 2 };

/* MGMT_ERR: what any SMP client knows. */
enum smp_rc {
	SMP_EUNKNOWN = 1,
	SMP_ENOMEM = 2,
	SMP_EINVAL = 3,
	SMP_ENOENT = 5,
	SMP_EMSGSIZE = 7,
	SMP_ENOTSUP = 8,
	SMP_EBUSY = 10,
	SMP_EACCESSDENIED = 11,
	SMP_TOO_NEW = 13,
};

/* What a handler returns: SMP_DONE, SMP_LATER, an smp_rc, or an error of a group. */
#define SMP_DONE 0
#define SMP_LATER (-1) /* it will answer by itself */
#define SMP_GROUP_ERROR(group, code) (1 << 24 | (group) << 12 | (code))
#define SMP_ERRNO(negative) SMP_GROUP_ERROR(SMP_GROUP_KSMHOST, -(negative))

struct smp_request {
	enum frame_kind framing; /* the answer's, too */
	uint8_t op, version, sequence, id;
	uint16_t group;
	const uint8_t *body;
	size_t len;
};

struct smp_reply {
	uint8_t *body; /* SMP_BODY_MAX bytes */
	size_t len;
};

struct agent;
typedef int smp_handler(struct agent *agent, const struct smp_request *request,
			struct smp_reply *reply);

struct smp_command {
	uint16_t group;
	uint8_t id;
	uint8_t ops;        /* bits: 1 << op */
	const char *keys;   /* of the request, in the order of the CDDL */
	smp_handler *handle;
};

#define SMP_OP_BIT(op) (1 << (op))

/* The groups, each a table that ends with an entry without handler. */
extern const struct smp_command grp_os[], grp_image[], grp_stat[], grp_settings[], grp_shell[],
	grp_ksmhost[];

struct smp {
	uint8_t picked[FRAME_MESSAGE_MAX + 1];
	uint8_t raw[FRAME_HEADROOM + FRAME_MESSAGE_MAX + FRAME_TAILROOM];
};

/* Handle a message off the wire; answers go to the agent's queue. */
void smp_receive(struct agent *agent, enum frame_kind framing, const uint8_t *message, size_t len);

/* Where the body of an answer is to be written. */
struct smp_reply smp_reply_begin(struct agent *agent);

/* Answer a request later than its handler: the body is in reply, or result is an error. */
void smp_answer(struct agent *agent, const struct smp_request *request, struct smp_reply *reply,
		int result);

#endif
