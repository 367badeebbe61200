/* SPDX-License-Identifier: Apache-2.0 */
/* Updates; see update.h. */
#include "update.h"

#include <errno.h>
#include <string.h>

static const uint8_t no_sha[SHA_BYTES];

static bool same_sha(const uint8_t *a, const uint8_t *b)
{
	return memcmp(a, b, SHA_BYTES) == 0;
}

static bool is_named(const uint8_t *sha)
{
	return !same_sha(sha, no_sha);
}

/* ---- jobs ---- */

static void start_work(struct update *u)
{
	if (!u->work.due_ms)
		loop_timer_set(&u->work, 0);
}

static int start_job(struct update *u, enum update_job job)
{
	u->job = job;
	u->verifying = false;
	start_work(u);
	return UPDATE_LATER;
}

static void end_job(struct update *u, int result)
{
	enum update_job job = u->job;

	u->job = JOB_NONE;
	u->done(u->ctx, job, result);
}

/* A look at the running slot gives way to everything. */
static bool is_busy(struct update *u)
{
	if (u->job == JOB_LOOK)
		u->job = JOB_NONE;
	return u->job != JOB_NONE;
}

static int job_slot(const struct update *u)
{
	return u->job == JOB_LOOK ? u->slots.running : u->slots.target;
}

/* 1: there is more to do; 0 or a fault otherwise. */
static int verify_some(struct update *u)
{
	if (u->verifying)
		return verify_step(&u->verify);
	u->verifying = true;
	int fault = verify_begin(&u->verify, &u->slots, job_slot(u), &u->key, u->board);

	return fault ? fault : 1;
}

static void note_check(struct update *u, int slot, int fault)
{
	struct slot_check *check = &u->checks[slot];

	check->known = true;
	check->fault = fault;
	memcpy(check->hash, u->verify.image.hash, SHA_BYTES);
	memcpy(check->file_sha, u->verify.file_sha, SHA_BYTES);
}

/*
 * The loader started the other slot, since the one that comes first does not boot. Once that holds
 * a whole image again it would be started without a trial: so what runs comes first from now on.
 */
static int keep_what_runs(struct slots *s)
{
	struct boot_state next = s->state;

	if (s->running == SLOT_NONE || next.trial || next.first != s->target)
		return 0;
	next.first = (uint8_t)s->running;
	return slots_write_state(s, &next);
}

static int accept_image(struct update *u)
{
	struct slots *s = &u->slots;
	int err = 0;

	if (is_named(u->image_sha) && !same_sha(u->image_sha, u->verify.file_sha))
		return -EBADMSG;
	memcpy(u->progress.image_sha, u->verify.file_sha, SHA_BYTES);
	u->progress.image_size = u->verify.image.size;
	if (s->holding)
		err = keep_what_runs(s);
	if (s->holding && !err)
		err = progress_finish(s, &u->progress, u->verify.image.hash);
	if (!err)
		note_check(u, s->target, 0);
	return err;
}

static void finish_some(struct update *u)
{
	int result = 1;

	if (u->receiving && u->stream.error)
		result = u->stream.error;
	else if (u->receiving && !stream_done(&u->stream))
		result = -EAGAIN;
	if (result != 1) {
		end_job(u, result);
		return;
	}
	result = verify_some(u);
	if (result == 1)
		return;
	if (result == 0)
		result = accept_image(u);
	if (result)
		slots_forget(&u->slots);
	if (result && u->slots.holding) /* it has to be sent anew, also to sectors that cannot be read */
		progress_erase(&u->slots, &u->progress);
	slots_unmap(&u->slots);
	u->receiving = u->index_answered = false;
	u->fault = result;
	end_job(u, result);
}

static int set_trial(struct update *u)
{
	struct boot_state next = { .first = (uint8_t)u->slots.target,
				   .tries = u->tries,
				   .trial = true,
				   .outcome = OUTCOME_NONE };

	return slots_write_state(&u->slots, &next);
}

static void try_some(struct update *u)
{
	int result = verify_some(u);

	if (result == 1)
		return;
	note_check(u, u->slots.target, result);
	end_job(u, result ? result : set_trial(u));
}

static void look_some(struct update *u)
{
	int result = verify_some(u);

	if (result == 1)
		return;
	note_check(u, u->slots.running, result);
	end_job(u, result);
}

static void index_some(struct update *u)
{
	int result = block_index_step(&u->index);

	if (result == 1)
		return;
	u->index_answered = result == 0;
	end_job(u, result);
}

static void job_some(struct update *u)
{
	switch (u->job) {
	case JOB_FINISH:
		finish_some(u);
		break;
	case JOB_TRY:
		try_some(u);
		break;
	case JOB_INDEX:
		index_some(u);
		break;
	case JOB_LOOK:
		look_some(u);
		break;
	case JOB_NONE:
		break;
	}
}

static void note_progress(struct update *u)
{
	u->progress.off = u->stream.kept;
	int err = progress_note(&u->slots, &u->progress);

	if (err)
		u->stream.error = err;
}

/* An upload says by its end that it is all: the stock protocol has no word for it. */
static void end_upload(struct update *u)
{
	if (!u->receiving || u->progress.kind != PROGRESS_UPLOAD || u->job != JOB_NONE ||
	    stream_wanted(&u->stream) != u->stream.size)
		return;
	memcpy(u->image_sha, u->progress.image_sha, SHA_BYTES);
	start_job(u, JOB_FINISH);
}

/* One piece of work; what is received comes first. */
static void work(void *ctx)
{
	struct update *u = ctx;
	enum stream_progress progress = u->receiving ? stream_work(&u->stream) : STREAM_WAITS;
	bool answers = u->job == JOB_INDEX;

	if (progress == STREAM_ADVANCED)
		note_progress(u);
	if (progress == STREAM_WAITS)
		job_some(u);
	if (answers && u->job == JOB_NONE)
		end_upload(u); /* its last piece came meanwhile */
	if (progress != STREAM_WAITS || u->job != JOB_NONE)
		start_work(u);
}

/* ---- requests ---- */

void update_init(struct update *u, struct loop *loop, const struct slots_options *slots,
		 const char *key_path, const char *board, bool on_trial)
{
	slots_init(&u->slots, slots);
	image_key_load(&u->key, key_path);
	u->board = board;
	u->on_trial = on_trial;
	u->work = (struct loop_timer){ .fire = work, .ctx = u };
	loop_timer_add(loop, &u->work);
	if (slots->running != SLOT_NONE)
		update_open(u); /* or later, if the disk is not there yet */
}

static int open_slots(struct update *u)
{
	bool first_time = !u->slots.open;
	int err = slots_open(&u->slots);

	if (err)
		return err;
	if (first_time)
		progress_load(&u->slots, u->slots.target, &u->progress);
	return slots_read_state(&u->slots);
}

/* Neither slot runs, and the target has become the one to keep. */
static bool target_is_first(const struct slots *s)
{
	return s->running == SLOT_NONE && !s->state.trial && s->state.first == s->target;
}

int update_open(struct update *u)
{
	int err = open_slots(u);

	if (err || u->job != JOB_NONE || !target_is_first(&u->slots))
		return err;
	u->receiving = u->index_answered = false;
	slots_close(&u->slots);
	return open_slots(u);
}

static bool same_update(const struct progress *a, const struct progress *b)
{
	return a->kind == b->kind && a->size == b->size && a->image_size == b->image_size &&
	       is_named(a->sha) && same_sha(a->sha, b->sha) && same_sha(a->image_sha, b->image_sha);
}

static int begin_anew(struct update *u, const struct progress *want)
{
	uint32_t sequence = u->progress.sequence;

	u->receiving = false;
	u->checks[u->slots.target].known = false;
	u->progress = *want;
	u->progress.sequence = sequence;
	u->progress.off = 0;
	int err = progress_begin(&u->slots, &u->progress);

	if (err)
		u->progress.kind = PROGRESS_NONE;
	return err;
}

/*
 * The image on trial was given up, but runs until the reset: the target is the slot that is known
 * to be good, and the only one.
 */
static bool is_given_up(const struct update *u)
{
	const struct slots *s = &u->slots;

	return u->on_trial && !s->state.trial && s->state.first != s->running;
}

static int check_limits(const struct update *u, const struct progress *want)
{
	if (want->size == 0 || want->image_size < BLOCK_BYTES)
		return -EINVAL;
	return want->image_size > u->slots.bytes || want->size > INT32_MAX ? -EFBIG : 0;
}

int update_begin(struct update *u, const struct progress *want, uint32_t *off)
{
	int err = update_open(u);

	if (!err)
		err = check_limits(u, want);
	if (!err && u->job == JOB_FINISH && u->receiving && same_update(&u->progress, want)) {
		*off = want->size; /* all is here, and is being verified */
		return 0;
	}
	if (!err && (u->slots.state.trial || is_given_up(u) || is_busy(u)))
		err = -EBUSY;
	if (err)
		return err;
	bool same = u->slots.holding && same_update(&u->progress, want);

	if (!same)
		err = begin_anew(u, want);
	if (err)
		return err;
	if (!same || !u->receiving || u->stream.error)
		stream_open(&u->stream, &u->slots, want->kind == PROGRESS_UPLOAD, u->progress.off,
			    want->size, want->image_size);
	u->receiving = true;
	u->index_answered = false;
	u->fault = 0;
	*off = stream_wanted(&u->stream);
	return 0;
}

int update_put(struct update *u, uint32_t off, const uint8_t *bytes, size_t len,
	       uint32_t *wanted)
{
	if (!u->receiving)
		return -ESTALE;
	if (u->stream.error)
		return u->stream.error;
	u->index_answered = false;
	stream_take(&u->stream, off, bytes, len);
	*wanted = stream_wanted(&u->stream);
	end_upload(u);
	start_work(u);
	return 0;
}

int update_finish(struct update *u, const uint8_t *image_sha)
{
	const struct slot_check *check;
	int err = update_open(u);

	if (err)
		return err;
	if (u->job == JOB_FINISH && same_sha(u->image_sha, image_sha))
		return UPDATE_LATER;
	if (is_busy(u))
		return -EBUSY;
	check = &u->checks[u->slots.target];
	if (check->known && !check->fault && same_sha(check->file_sha, image_sha))
		return 0;
	if (u->receiving && !same_sha(u->progress.image_sha, image_sha))
		return -EINVAL;
	if (!u->receiving && u->slots.holding)
		return -ESTALE;
	if (!u->receiving && u->fault && same_sha(u->image_sha, image_sha))
		return u->fault;
	memcpy(u->image_sha, image_sha, SHA_BYTES);
	return start_job(u, JOB_FINISH);
}

/* What of the target is not right is found by the check that follows. */
static bool is_step_back(const struct update *u)
{
	const struct slots *s = &u->slots;
	struct image running, target;

	if (s->running == SLOT_NONE || image_read(s, s->target, &u->key, u->board, &target))
		return false;
	image_read(s, s->running, &u->key, u->board, &running); /* it runs, whoever made it */
	return image_is_older(&target, &running);
}

int update_try(struct update *u, uint8_t tries, bool downgrade)
{
	int err = update_open(u);

	if (err)
		return err;
	if (is_given_up(u) || (u->slots.state.trial && u->slots.state.first == u->slots.running))
		return -EBUSY;
	if (tries == 0)
		return -EINVAL;
	if (u->job == JOB_TRY) {
		u->tries = tries;
		return UPDATE_LATER;
	}
	if (is_busy(u))
		return -EBUSY;
	if (u->slots.holding)
		return -ENOENT;
	if (!downgrade && is_step_back(u))
		return -EPERM;
	u->tries = tries;
	const struct slot_check *check = &u->checks[u->slots.target];
	if (check->known && !check->fault)
		return set_trial(u);
	return start_job(u, JOB_TRY);
}

int update_confirm(struct update *u)
{
	int err = update_open(u);
	struct boot_state next = u->slots.state;

	if (err)
		return err;
	if (u->slots.running == SLOT_NONE || next.first != u->slots.running)
		return -EINVAL;
	if (!next.trial)
		return 0;
	next.trial = false;
	next.tries = 0;
	next.outcome = OUTCOME_CONFIRMED;
	return slots_write_state(&u->slots, &next);
}

static int leave_trial(struct update *u, uint8_t outcome)
{
	struct boot_state next = { .first = !u->slots.state.first, .outcome = outcome };

	return slots_write_state(&u->slots, &next);
}

int update_revert(struct update *u)
{
	int err = update_open(u);
	struct boot_state next = u->slots.state;

	if (err)
		return err;
	if (!next.trial)
		return next.outcome == OUTCOME_REQUEST ? 0 : -EINVAL;
	return leave_trial(u, OUTCOME_REQUEST);
}

int update_give_up(struct update *u)
{
	int err = update_open(u);

	if (err)
		return err;
	if (!u->slots.state.trial || u->slots.state.first != u->slots.running)
		return -EINVAL;
	return leave_trial(u, OUTCOME_NO_TRIES);
}

int update_erase(struct update *u)
{
	int err = update_open(u);

	if (!err && (u->slots.state.trial || is_given_up(u) || is_busy(u)))
		err = -EBUSY;
	if (err)
		return err;
	u->receiving = u->index_answered = false;
	u->checks[u->slots.target].known = false;
	return progress_erase(&u->slots, &u->progress);
}

/* How much of the running slot is an image; all of it, when it holds none that can be read. */
static uint32_t used_of_running(struct update *u)
{
	struct image image;

	if (u->slots.running == SLOT_NONE)
		return 0;
	image_read(&u->slots, u->slots.running, &u->key, u->board, &image);
	return image.size ? (image.size + BLOCK_BYTES - 1) / BLOCK_BYTES * BLOCK_BYTES :
			    u->slots.bytes;
}

int update_ask_index(struct update *u, uint64_t first, const uint8_t *hashes, size_t len)
{
	int err = update_open(u);

	if (err)
		return err;
	bool again = block_index_asks(&u->index, first, hashes, len);

	if (again && u->job == JOB_INDEX)
		return UPDATE_LATER;
	if (again && u->index_answered)
		return 0;
	if (is_busy(u))
		return -EBUSY;
	if (!u->indexed)
		block_index_init(&u->index, &u->slots, used_of_running(u));
	u->indexed = true;
	u->index_answered = false;
	if (!block_index_ask(&u->index, first, hashes, len))
		return -EINVAL;
	return start_job(u, JOB_INDEX);
}

/* ---- reports ---- */

static void report_file_sha(struct update *u, int slot, struct slot_report *report)
{
	const struct slot_check *check = &u->checks[slot];
	struct progress record;

	if (report->checked) {
		memcpy(report->file_sha, check->file_sha, SHA_BYTES);
		report->has_file_sha = true;
		return;
	}
	progress_load(&u->slots, slot, &record);
	if (record.kind != PROGRESS_WHOLE || !same_sha(record.hash, report->image.hash))
		return;
	memcpy(report->file_sha, record.image_sha, SHA_BYTES);
	report->has_file_sha = true;
}

void update_report(struct update *u, int slot, struct slot_report *report)
{
	const struct slot_check *check = &u->checks[slot];

	memset(report, 0, sizeof(*report));
	if (slot == u->slots.target && u->slots.holding) {
		report->state = SLOT_PARTIAL;
		return;
	}
	int fault = image_read(&u->slots, slot, &u->key, u->board, &report->image);
	bool known = check->known && same_sha(check->hash, report->image.hash);

	if (!fault && known)
		fault = check->fault;
	report->checked = known && !fault;
	report->state = fault == -ENOENT ? SLOT_EMPTY : fault ? SLOT_BAD : SLOT_WHOLE;
	report->fault = report->state == SLOT_BAD ? -fault : 0;
	if (report->state == SLOT_WHOLE)
		report_file_sha(u, slot, report);
}

void update_look(struct update *u)
{
	if (u->slots.running != SLOT_NONE && !u->checks[u->slots.running].known &&
	    u->job == JOB_NONE && !u->receiving)
		start_job(u, JOB_LOOK);
}
