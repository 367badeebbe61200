/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Updates: an image received into the target slot, verified there, tried, confirmed or left.
 *
 * Everything that takes time is done in pieces from the loop's timer, at most one job at a time
 * beside what is being received; a job's end is told by `done`. Errors are errno values, those of
 * images as in verify.h:
 *   ENODEV no slots here, EBUSY another job, or a trial that nobody has confirmed or that was given
 *   up and still runs, ESTALE nothing is being received (begin again, it goes on where it was),
 *   EAGAIN not all was received right.
 */
#ifndef KSMHOST_UPDATE_H
#define KSMHOST_UPDATE_H

#include "blockindex.h"
#include "loop.h"
#include "progress.h"
#include "stream.h"
#include "verify.h"

#define UPDATE_LATER 1 /* the result will come by done */
#define UPDATE_TRIES_DEFAULT 3

enum update_job {
	JOB_NONE,
	JOB_FINISH,   /* verify what was received and make it startable */
	JOB_TRY,      /* verify the target before it is tried */
	JOB_INDEX,    /* answer which blocks there are */
	JOB_LOOK,     /* check the running slot, for nobody in particular */
};

struct update {
	struct slots slots;
	struct image_key key;
	const char *board;
	bool on_trial; /* this boot is one */
	void (*done)(void *ctx, enum update_job job, int result);
	void *ctx;
	struct loop_timer work;

	struct progress progress; /* of the target */
	bool receiving;
	struct stream stream;

	enum update_job job;
	bool verifying; /* the job has come as far as that */
	struct verify verify;
	uint8_t image_sha[SHA_BYTES]; /* FINISH: what the file must have; zeros: anything */
	int fault;                    /* FINISH: of the last one, for a client that asks again */
	uint8_t tries;                /* TRY */
	struct block_index index;
	bool indexed;        /* index was set up */
	bool index_answered; /* and its last answer still holds: the target is as it was */

	struct slot_check {
		bool known;
		int fault; /* 0: the content is what the signature says */
		uint8_t hash[SHA_BYTES], file_sha[SHA_BYTES];
	} checks[2];
};

void update_init(struct update *u, struct loop *loop, const struct slots_options *slots,
		 const char *key_path, const char *board, bool on_trial);

/* Find the slots, if that is not done yet, and read the boot state anew. */
int update_open(struct update *u);

/*
 * Begin to receive, or go on: `want` has kind, sizes and names. *off is where to go on.
 */
int update_begin(struct update *u, const struct progress *want, uint32_t *off);

/* Take bytes. *wanted is the offset to send next. */
int update_put(struct update *u, uint32_t off, const uint8_t *bytes, size_t len,
	       uint32_t *wanted);

/* All was sent. UPDATE_LATER, 0 when the image is there and verified already, or an error. */
int update_finish(struct update *u, const uint8_t *image_sha);

/*
 * Start the target's image with the next boots. UPDATE_LATER, 0 or an error; EPERM: it is older than
 * what runs, and no `downgrade` was asked for.
 */
int update_try(struct update *u, uint8_t tries, bool downgrade);

/* Keep the running image, which must be on trial or confirmed already. */
int update_confirm(struct update *u);

/* End a trial, begun or not, in favour of the other slot. */
int update_revert(struct update *u);

/* End the trial of the image that runs: nobody confirmed it. -EINVAL if it is not on trial. */
int update_give_up(struct update *u);

int update_erase(struct update *u);

/*
 * UPDATE_LATER (u->index has the answer then), 0 when the question is the last one, answered
 * already, or an error.
 */
int update_ask_index(struct update *u, uint64_t first, const uint8_t *hashes, size_t len);

/* What a slot holds, as far as is known without reading all of it. */
enum slot_state { SLOT_EMPTY, SLOT_PARTIAL, SLOT_BAD, SLOT_WHOLE };

struct slot_report {
	enum slot_state state;
	int fault; /* of a bad one, as errno */
	bool checked;
	bool has_file_sha;
	uint8_t file_sha[SHA_BYTES];
	struct image image; /* size 0: none */
};

void update_report(struct update *u, int slot, struct slot_report *report);

/* Read the running slot through, unless there is something else to do or it was done. */
void update_look(struct update *u);

#endif
