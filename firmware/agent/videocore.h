/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the firmware of a Raspberry Pi's VideoCore says of the board: whether it was throttled or
 * lacked voltage, and the clock it measures.
 *
 * A process of its own asks, since an answer may never come (vcio.h). The agent waits for it for
 * VIDEOCORE_PATIENCE_MS at most, and while one is out asks nothing more: of a firmware that hangs
 * no sample is later than that, once. The answer counts whenever it comes.
 *
 * The firmware keeps a bit for now and a sticky one for each thing it tells of. A read clears the
 * sticky ones, so that each tells of the time since the read before; the first read tells of a
 * time that is none of ours, and counts nothing.
 */
#ifndef KSMHOST_VIDEOCORE_H
#define KSMHOST_VIDEOCORE_H

#include <stdbool.h>
#include <stdint.h>

#define VIDEOCORE_PATIENCE_MS 10
#define VIDEOCORE_START_PATIENCE_MS 3000
#define VIDEOCORE_PERIOD_US 1000000 /* sticky bits that are cleared within 100 ms come back */

enum videocore_question {
	VIDEOCORE_THROTTLED,
	VIDEOCORE_CLOCK,
	VIDEOCORE_REVISION,
	VIDEOCORE_FIRMWARE,
	VIDEOCORE_QUESTIONS,
};

/* Things it tells of, by their bits: now, and 16 higher since the last read. */
enum videocore_event {
	VIDEOCORE_UNDER_VOLTAGE,
	VIDEOCORE_FREQUENCY_CAPPED,
	VIDEOCORE_IS_THROTTLED,
	VIDEOCORE_SOFT_TEMP_LIMIT,
	VIDEOCORE_EVENTS,
};

/* What the process that asks sends back. */
struct videocore_answer {
	uint32_t answered; /* a bit for each question */
	uint32_t values[VIDEOCORE_QUESTIONS];
};

struct videocore {
	int fd;      /* to the process that asks, or -1 */
	bool waits;  /* for an answer */
	int64_t due_us;
	struct videocore_answer first; /* says what this firmware answers */
	uint32_t clock_hz;             /* as last measured */
	uint64_t reads;                /* answers on throttling since the first */
	uint64_t events[VIDEOCORE_EVENTS]; /* how many of those told of each */
};

/* Start the process and ask everything once. Without an answer nothing is known. */
void videocore_init(struct videocore *v, const char *path);

/* Whether the firmware answers this question with a value that can be. */
bool videocore_answers(const struct videocore *v, enum videocore_question question);

/* Ask again, if the last time is a second ago, and take what has been answered. */
void videocore_refresh(struct videocore *v);

#endif
