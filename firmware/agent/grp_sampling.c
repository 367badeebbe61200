/* SPDX-License-Identifier: Apache-2.0 */
/* Group 64: sampling sessions, and samples read from the ring in batches. */
#include <errno.h>

#include "grp.h"

#define ROWS_MAX 128    /* as in ksmhost.cddl */
#define BODY_HEAD_MAX 64 /* a batch without its rows */
#define ROW_HEAD_MAX 2   /* of a list of fewer than 256 */

static int set_period(struct agent *agent, const struct smp_request *request)
{
	struct sampling_request sampling;

	if (!GRP_DECODE(sampling_request, request, &sampling))
		return SMP_EINVAL;
	uint64_t period_ms = sampling.period_ms;
	if (period_ms &&
	    (period_ms < SAMPLER_PERIOD_MIN_MS || period_ms > SAMPLER_PERIOD_MAX_MS))
		return SMP_ERRNO(-ERANGE);
	int err = sampler_set_period(&agent->sampler, (uint32_t)period_ms);
	return err ? SMP_ERRNO(err) : SMP_DONE;
}

int grp_sampling(struct agent *agent, const struct smp_request *request, struct smp_reply *reply)
{
	static struct sampling_response answer;
	const struct sampler *s = &agent->sampler;
	int result = request->op == SMP_WRITE ? set_period(agent, request) : SMP_DONE;

	if (result != SMP_DONE)
		return result;
	answer.session = s->session;
	answer.period_ms = s->period_ms;
	answer.first = sampler_first(s);
	answer.next = s->next;
	answer.tstr_count = s->counters->count;
	for (size_t i = 0; i < answer.tstr_count; i++)
		answer.tstr[i] = grp_text(s->counters->table[i].name);
	return GRP_ENCODE(sampling_response, reply, &answer);
}

/* Bytes of a CBOR integer. */
static size_t cbor_size(int64_t value)
{
	uint64_t n = value < 0 ? ~(uint64_t)value : (uint64_t)value;

	return n < 24 ? 1 : n <= UINT8_MAX ? 2 : n <= UINT16_MAX ? 3 : n <= UINT32_MAX ? 5 : 9;
}

static int64_t difference(int64_t now, int64_t before)
{
	return (int64_t)((uint64_t)now - (uint64_t)before);
}

/* Append a number to a row and return its size. */
static size_t put(struct sample_row *row, int64_t value)
{
	row->Int[row->Int_count++] = value;
	return cbor_size(value);
}

/* The row an answer begins with. */
static size_t fill_whole(struct sample_row *row, const int64_t *now, size_t columns)
{
	size_t size = ROW_HEAD_MAX;

	row->Int_count = 0;
	for (size_t i = 0; i < columns; i++)
		size += put(row, now[i]);
	return size;
}

/* A further row: most counters stand still from one sample to the next, and are left out. */
static size_t fill_changes(struct sample_row *row, const int64_t *now, const int64_t *before,
			   size_t columns)
{
	size_t size = ROW_HEAD_MAX;
	int64_t skipped = 0;

	row->Int_count = 0;
	size += put(row, difference(now[0], before[0]));
	for (size_t i = 1; i < columns; i++) {
		if (now[i] == before[i]) {
			skipped++;
			continue;
		}
		size += put(row, skipped);
		size += put(row, difference(now[i], before[i]));
		skipped = 0;
	}
	return size;
}

static void fill_rows(const struct sampler *s, struct samples_response *answer, uint64_t max)
{
	size_t left = SMP_BODY_MAX - BODY_HEAD_MAX, columns = sampler_columns(s);
	const int64_t *before = NULL;

	if (max == 0 || max > ROWS_MAX)
		max = ROWS_MAX;
	answer->sample_row_m_count = 0;
	for (uint64_t seq = answer->seq; seq < s->next; seq++) {
		size_t n = answer->sample_row_m_count;
		const int64_t *now = sampler_row(s, seq);

		if (n == max)
			return;
		struct sample_row *row = &answer->sample_row_m[n];
		size_t size = before ? fill_changes(row, now, before, columns) :
				       fill_whole(row, now, columns);
		if (size > left)
			return;
		left -= size;
		before = now;
		answer->sample_row_m_count++;
	}
}

int grp_samples(struct agent *agent, const struct smp_request *request, struct smp_reply *reply)
{
	static struct samples_response answer;
	const struct sampler *s = &agent->sampler;
	struct samples_request samples;

	if (!GRP_DECODE(samples_request, request, &samples))
		return SMP_EINVAL;
	if (s->session == 0 || samples.session != s->session)
		return SMP_ERRNO(-ESTALE);
	answer.session = s->session;
	answer.next = s->next;
	answer.seq = samples.seq < sampler_first(s) ? sampler_first(s) :
		     samples.seq > s->next	    ? s->next :
						      samples.seq;
	fill_rows(s, &answer, samples.max_present ? samples.max.max : 0);
	return GRP_ENCODE(samples_response, reply, &answer);
}
