/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Fuzzer of what the agent does with bytes it did not make: frames, messages, tables, log records,
 * streams of updates, and what lies in slots and boot state. Whatever comes, the running slot and the
 * boot state stay as they are, and no slot becomes one that can be started.
 *
 * LLVMFuzzerTestOneInput is what libFuzzer wants. Without libFuzzer (the default: gcc has none) the
 * driver below mutates valid messages for a set time: agent-fuzz SECONDS [SEED]. A finding is a
 * sanitizer's report or a failed check; the input is left in agent-fuzz.input. With clang and its
 * run-time library `scons agent-libfuzzer` builds one for a long search, which the valid messages
 * give a start: agent-fuzz --seeds CORPUS_DIR; agent-libfuzzer CORPUS_DIR.
 */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "agent.h"
#include "bootlog.h"
#include "bytes.h"
#include "clock.h"
#include "cobs.h"
#include "codec_decode.h"
#include "crc32.h"
#include "pick.h"
#include "text.h"
#include "vcio.h"

#define INPUT_MAX 6000

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct agent agent;
static struct frame_decoder answers;
static char ksm_dir[] = "/tmp/agent-fuzz-XXXXXX";

static void check(bool good, const char *what)
{
	if (good)
		return;
	fprintf(stderr, "agent-fuzz: check failed: %s\n", what);
	abort();
}

static void write_file(const char *name, const char *text, mode_t mode)
{
	char path[128];

	snprintf(path, sizeof(path), "%s/%s", ksm_dir, name);
	int fd = open(path, O_CREAT | O_WRONLY | O_TRUNC | O_CLOEXEC, mode);

	check(fd >= 0 && write(fd, text, strlen(text)) > 0, "temporary directory");
	close(fd);
}

/* ---- slots and boot state, in memory ---- */

#define SLOT_FILE_BYTES 65536
#define DISK_FILE_BYTES (6 << 20)
#define STATE_AT (1 << 20)
#define TAIL_AT (SLOT_FILE_BYTES - BLOCK_BYTES)

static uint8_t *slot[2], *disk;
static uint8_t slot_before[SLOT_FILE_BYTES], state_before[SECTOR_BYTES];
static struct agent_options options = { .tty = "",
					.baud = 115200,
					.ksm_dir = ksm_dir,
					.proc_dir = "/proc",
					.sys_dir = "/sys",
					.reset = RESET_EXIT,
					.trial.watchdog_fd = -1 };

static uint8_t *make_file(char *path, size_t path_size, size_t size)
{
	int fd = memfd_create("agent-fuzz", 0);

	check(fd >= 0 && ftruncate(fd, (off_t)size) == 0, "a file in memory");
	snprintf(path, path_size, "/proc/self/fd/%d", fd);
	void *map = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);

	check(map != MAP_FAILED, "a file in memory");
	return map;
}

/* The running slot holds something like an image, so that all of the reading code is reached. */
static void make_slots(void)
{
	static const struct boot_state state = { .sequence = 7 };
	static char paths[4][32];

	for (int i = 0; i < 2; i++)
		slot[i] = make_file(paths[i], sizeof(paths[i]), SLOT_FILE_BYTES);
	disk = make_file(paths[2], sizeof(paths[2]), DISK_FILE_BYTES);
	uint8_t *key = make_file(paths[3], sizeof(paths[3]), 32);

	key[0] = 9;
	for (size_t i = 0; i < SLOT_FILE_BYTES; i++)
		slot[0][i] = (uint8_t)(i * i >> 8);
	memcpy(slot_before, slot[0], sizeof(slot_before));
	bootstate_encode(&state, state_before);
	options.slots.slot[0] = paths[0];
	options.slots.slot[1] = paths[1];
	options.slots.state = paths[2];
	options.key = paths[3];
}

static bool can_be_started(const uint8_t *bytes)
{
	return get_le32(bytes) == 0x96f3b83d;
}

static void finish_update_work(void)
{
	while (agent.update.work.due_ms) {
		agent.update.work.due_ms = 0;
		agent.update.work.fire(agent.update.work.ctx);
	}
}

/* Begin each run with the same slots: what an input does must not depend on those before. */
static void reset_slots(void)
{
	slots_close(&agent.update.slots);
	agent.update.receiving = agent.update.indexed = agent.update.index_answered = false;
	agent.update.job = JOB_NONE;
	agent.update.work.due_ms = 0;
	memset(agent.update.checks, 0, sizeof(agent.update.checks));
	memset(slot[1], 0, SLOT_FILE_BYTES);
	memcpy(disk + STATE_AT, state_before, SECTOR_BYTES);
}

static void check_slots(bool was_startable)
{
	check(memcmp(slot[0], slot_before, sizeof(slot_before)) == 0, "the running slot is as it was");
	check(memcmp(disk + STATE_AT, state_before, SECTOR_BYTES) == 0, "so is the boot state");
	check(was_startable || !can_be_started(slot[1]), "nothing can be started that was not signed");
}

/* A stream as it would come by put; sums of plain copies are mended, so that some are written. */
static void feed_stream(const uint8_t *data, size_t len)
{
	static uint8_t stream[INPUT_MAX];
	struct progress want = { .kind = data[0] % 8 ? PROGRESS_STREAM : PROGRESS_UPLOAD,
				 .size = (uint32_t)len,
				 .image_size = data[0] % 8 ? TAIL_AT : (uint32_t)len,
				 .sha = { 1 } };
	uint32_t off;

	memcpy(stream, data, len);
	if (len >= GROUP_HEADER_BYTES) {
		uint64_t size = get_le32(stream + 4), from = get_le32(stream + 8);

		if (get_le32(stream + 20) == 0 && from + size <= SLOT_FILE_BYTES)
			put_le32(stream + 16, crc32(slot[0] + from, size));
	}
	if (update_begin(&agent.update, &want, &off))
		return;
	for (int tries = 0; tries < 8 && off < len; tries++) {
		if (update_put(&agent.update, off, stream + off, len - off, &off))
			break;
		finish_update_work();
		off = stream_wanted(&agent.update.stream);
	}
	update_finish(&agent.update, want.image_sha);
	finish_update_work();
	check(!agent.update.slots.holding || agent.update.receiving, "a finished update is over");
}

/* What a message finds that comes in the middle of an update. */
static void begin_update(bool stream)
{
	struct progress want = { .kind = stream ? PROGRESS_STREAM : PROGRESS_UPLOAD,
				 .size = stream ? 2 * GROUP_HEADER_BYTES : TAIL_AT,
				 .image_size = TAIL_AT,
				 .sha = { 1 } };
	uint32_t off;

	check(update_begin(&agent.update, &want, &off) == 0, "an update begins");
}

/* A target slot with this at its start, in its record, and in the boot state. */
static void feed_disk(const uint8_t *data, size_t len)
{
	struct slot_report report;
	struct verify verify;
	uint8_t *record = slot[1] + TAIL_AT;

	memcpy(slot[1], data, len);
	memcpy(record, data + len / 2, len - len / 2 < SECTOR_BYTES ? len - len / 2 : SECTOR_BYTES);
	memcpy(record, "KSMU\1\0\0\0", 8);
	put_le32(record + 508, crc32(record, 508));
	if (update_open(&agent.update))
		return;
	for (int i = 0; i < 2; i++)
		update_report(&agent.update, i, &report);
	/* The content is read only after the signature, which nothing here has. */
	memset(&verify, 0, sizeof(verify));
	verify.slots = &agent.update.slots;
	verify.slot = 1;
	verify.image = report.image;
	for (int n = 0; n < 100 && verify.image.size && verify_step(&verify) == 1; n++)
		;
	update_try(&agent.update, 1, true);
	finish_update_work();
	check(memcmp(disk + STATE_AT, state_before, SECTOR_BYTES) == 0, "no image is tried unsigned");
}

static void add_workload(const char *name, bool synthetic)
{
	struct workload *w = &agent.workloads.table[agent.workloads.count++];

	w->name = name;
	w->about = "about";
	w->synthetic = synthetic;
	w->processes = WORKLOAD_PROCESSES_MAX + 1; /* never starts: too many */
	w->argv[0] = (char *)(uintptr_t)"/nonexistent";
}

static void remove_temporary(void)
{
	static const char *const names[] = { "run", "pages_to_scan", "pages_shared",
					     "general_profit" };
	char path[128];

	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		snprintf(path, sizeof(path), "%s/%s", ksm_dir, names[i]);
		unlink(path);
	}
	rmdir(ksm_dir);
}

static void text_moved(void *ctx)
{
	(void)ctx;
}

static void start(void)
{
	check(mkdtemp(ksm_dir) != NULL, "temporary directory");
	atexit(remove_temporary);
	write_file("run", "0\n", 0644);
	write_file("pages_to_scan", "100\n", 0644);
	write_file("pages_shared", "17\n", 0444);
	write_file("general_profit", "-9223372036854775808\n", 0444);
	make_slots();
	check(agent_prepare(&agent, &options) == 0, "agent_prepare");
	add_workload("one", true);
	add_workload("two", false);
	agent.serial.out = &agent.out;
	agent.serial.text_moved = text_moved;
	frame_decoder_init(&agent.serial.decoder);
	frame_decoder_init(&answers);
	for (size_t i = 0; i < SAMPLER_CELLS; i++)
		agent.sampler.ring[i] = (int64_t)((uint64_t)i * i * i * 0x9e3779b97f4a7c15u) >>
					(i % 64);
}

static void take_text(void *ctx, const uint8_t *bytes, size_t len)
{
	(void)ctx;
	if (len <= OUT_TEXT_MAX)
		out_text(&agent.out, bytes, len); /* as an echo would send it back */
}

static void take_message(void *ctx, enum frame_kind kind, const uint8_t *message, size_t len)
{
	(void)ctx;
	check(len <= FRAME_MESSAGE_MAX, "a message is no longer than it may be");
	smp_receive(&agent, kind, message, len);
}

static void no_text(void *ctx, const uint8_t *bytes, size_t len)
{
	(void)ctx;
	(void)bytes;
	check(len == 0, "an answer is all frame");
}

static void take_answer(void *ctx, enum frame_kind kind, const uint8_t *message, size_t len)
{
	(void)ctx;
	(void)kind;
	check(len >= SMP_HEADER_SIZE && (message[0] & 1) == 1, "an answer is one");
	check((size_t)(message[2] << 8 | message[3]) == len - SMP_HEADER_SIZE, "its length");
	check(message[8] >> 5 == 5, "its body is a map");
}

/*
 * Apart from the decoder of requests, which takes what does not begin like a request for what else
 * comes in: text, or lines.
 */
static void take_cobs_answer(const uint8_t *wire, size_t len)
{
	static uint8_t piece[FRAME_WIRE_MAX];

	check(len > 2 && len - 2 <= sizeof(piece) && wire[len - 1] == 0, "a COBS frame has its ends");
	memcpy(piece, wire + 1, len - 2);
	size_t n = cobs_decode(piece, len - 2);

	check(n > 2 && frame_crc(piece, n) == 0, "a COBS frame is whole");
	take_answer(NULL, FRAME_COBS, piece, n - 2);
}

/* Whatever came in, what goes out is well-formed. */
static void drain(void)
{
	static const struct frame_sink sink = { no_text, take_answer, NULL };
	const uint8_t *bytes;
	size_t len;

	while ((len = out_next(&agent.out, true, &bytes))) {
		if (agent.out.current_is_frame && bytes[0] == 0)
			take_cobs_answer(bytes, len);
		else if (agent.out.current_is_frame)
			frame_decode(&answers, bytes, len, &sink);
		else
			for (size_t i = 0; i < len; i++)
				check(bytes[i] > 6 || bytes[i] % 2, "text starts no frame");
		out_sent(&agent.out, len);
	}
	check(answers.crc_errors == 0 && answers.line_errors == 0, "answers are whole");
}

/* A write to a knob is answered when its child has ended. */
static void finish_knob_write(void)
{
	pid_t pid = agent.knob_write.pid;
	int status;

	if (pid && waitpid(pid, &status, 0) == pid)
		check(knob_write_reap(&agent.knob_write, pid, status), "a child of the agent's");
	drain();
}

/* A terminal, so that a change of the rate finds one. */
static int open_terminal(void)
{
	int fd = posix_openpt(O_RDWR | O_NOCTTY | O_NONBLOCK);

	check(fd >= 0 && grantpt(fd) == 0 && unlockpt(fd) == 0, "a terminal");
	int tty = open(ptsname(fd), O_RDWR | O_NOCTTY | O_NONBLOCK);

	check(tty >= 0, "a terminal");
	return tty;
}

static void fire(struct loop_timer *timer)
{
	if (!timer->due_ms)
		return;
	timer->due_ms = 0;
	timer->fire(timer->ctx);
}

/* The board switches, hears something there or not, and is back at its own rate in the end. */
static void finish_rate_change(bool heard)
{
	static int tty = -1;

	if (tty < 0)
		tty = open_terminal();
	agent.serial.source.fd = tty;
	fire(&agent.rate.change);
	check(agent.rate.state != RATE_SWITCHES, "the rate is changed or not");
	if (heard)
		rate_heard(&agent.rate);
	fire(&agent.rate.back);
	agent.serial.source.fd = -1;
	check(agent.rate.state == RATE_OWN && agent.serial.rate == options.baud, "its own rate");
	check(!agent.serial.holds_text, "text flows again");
}

static void feed(const uint8_t *bytes, size_t len)
{
	static const struct frame_sink sink = { take_text, take_message, NULL };

	for (size_t at = 0; at < len;) {
		size_t n = 1 + bytes[at] % 200u; /* any split */

		if (n > len - at)
			n = len - at;
		frame_decode(&agent.serial.decoder, bytes + at, n, &sink);
		at += n;
		drain();
	}
}

/* A COBS frame of any length, as a peer may send it that knows no limit. */
static void feed_long(const uint8_t *message, size_t len)
{
	static uint8_t raw[INPUT_MAX + FRAME_TAILROOM], wire[2 * INPUT_MAX];
	uint16_t crc = frame_crc(message, len);

	memcpy(raw, message, len);
	raw[len] = (uint8_t)(crc >> 8);
	raw[len + 1] = (uint8_t)crc;
	wire[0] = 0;
	size_t n = cobs_encode(raw, len + 2, wire + 1) + 1;

	wire[n++] = 0;
	feed(wire, n);
}

static void feed_message(enum frame_kind kind, const uint8_t *message, size_t len)
{
	static uint8_t raw[FRAME_HEADROOM + FRAME_MESSAGE_MAX + FRAME_TAILROOM];
	static uint8_t wire[FRAME_WIRE_MAX];

	if (len > FRAME_MESSAGE_MAX && kind == FRAME_COBS) {
		feed_long(message, len);
		return;
	}
	if (len > FRAME_MESSAGE_MAX)
		len = FRAME_MESSAGE_MAX;
	memcpy(raw + FRAME_HEADROOM, message, len);
	feed(wire, frame_encode(kind, raw, len, wire));
}

static void parse_files(const uint8_t *data, size_t len)
{
	static struct workload_table table;
	static struct image_info image;
	static char record[INPUT_MAX + 1], line[1024];
	static uint8_t picked[INPUT_MAX + 1];
	uint32_t message[VCIO_MESSAGE_MAX];
	struct bootlog log = { 0 };
	uint64_t seq;
	size_t n;

	cbor_decode_workload_table(data, len, &table, NULL);
	cbor_decode_image_info(data, len, &image, NULL);
	memcpy(record, data, len);
	record[len] = '\0';
	n = kmsg_format(record, len, line, sizeof(line), &seq);
	check(n < sizeof(line), "a line fits");
	bootlog_record(&log, record);
	for (size_t words = 0; words <= VCIO_MESSAGE_MAX && words * 4 <= len; words++) {
		memcpy(message, data, words * 4);
		check(!vcio_answers(message, words, VCIO_GET_THROTTLED, 1) || words == 7, "a size");
	}
	if (pick(data, len, "name val max a", picked, sizeof(picked), &n))
		check(n <= len + 1, "picking adds nothing");
	text_make_utf8(record, len);
	check(text_is_utf8((uint8_t *)record, len), "UTF-8 made is UTF-8");
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static bool started;

	if (!started)
		start();
	started = true;
	if (size == 0 || size > INPUT_MAX)
		return 0;
	frame_decoder_idle(&agent.serial.decoder);
	reset_slots();
	agent.sampler.session = 1; /* a ring that has wrapped, with numbers of all sizes */
	agent.sampler.next = SAMPLER_CELLS / 8;
	if (data[0] % 8 == 0)
		feed(data + 1, size - 1);
	else if (data[0] % 8 == 1)
		parse_files(data + 1, size - 1);
	else if (data[0] % 8 == 5 && size > 1)
		feed_stream(data + 1, size - 1);
	else if (data[0] % 8 == 6 && size > 1)
		feed_disk(data + 1, size - 1);
	else if (data[0] % 8 > 2)
		begin_update(data[0] % 8 == 3);
	if (data[0] % 8 > 1 && data[0] % 8 != 5 && data[0] % 8 != 6)
		feed_message(data[0] & 8 ? FRAME_COBS : FRAME_LINES, data + 1, size - 1);
	finish_knob_write();
	finish_update_work();
	drain();
	finish_rate_change(data[0] & 0x10);
	check_slots(data[0] % 8 == 6);
	return 0;
}

#ifndef LIBFUZZER

struct seed {
	const char *bytes;
	size_t size;
};

#define SEED(text) { text, sizeof(text) - 1 } /* they hold NULs */

#define SHA32 "0123456789abcdef0123456789abcdef"
#define GROUP24 "\0\x10\0\0\0\x10\0\0\0\x10\0\0\0\0\0\0\0\0\0\0\0\0\0\0" /* a copy */

/* What LLVMFuzzerTestOneInput takes: a kind, and of most the header and body of a request. */
static const struct seed seeds[] = {
	SEED("\2\x0a\0\0\4\0\0\7\0\xa1\x61\x64\x60"), /* echo "" */
	SEED("\2\x0a\0\0\x0a\0\0\7\0\xa1\x61\x64\x66hello!"),
	SEED("\2\x08\0\0\0\0\0\7\6"), /* parameters, no body */
	SEED("\2\x08\0\0\x0a\0\0\7\7\xa1\x66""format\x61""a"),
	SEED("\2\x08\0\0\1\0\2\7\1\xa0"), /* list of statistics */
	SEED("\2\x08\0\0\x0a\0\2\7\0\xa1\x64name\x63ksm"),
	SEED("\2\x08\0\0\x0a\0\3\7\0\xa1\x64name\x63run"),
	SEED("\2\x0a\0\0\x10\0\3\7\0\xa2\x63val\x41" "1\x64name\x63run"),
	SEED("\2\x0a\0\0\x08\0\x09\7\0\xa1\x64""argv\x81\x60"),
	SEED("\2\x08\0\0\1\0\x40\7\0\xa0"), /* identity */
	SEED("\2\x08\0\0\1\0\x40\7\1\xa0"),
	SEED("\2\x0a\0\0\x0e\0\x40\7\1\xa1\x69period_ms\x19\x03\xe8"),
	SEED("\2\x08\0\0\x11\0\x40\7\2\xa2\x63seq\x19\x3f\x00\x67session\x01"),
	SEED("\2\x08\0\0\x14\0\x40\7\2\xa3\x63max\x05\x63seq\x00\x67session\x01"),
	SEED("\2\x08\0\0\1\0\x40\7\3\xa0"),
	SEED("\2\x0a\0\0\x16\0\x40\7\4\xa2\x64name\x63one\x69processes\x18\xff"),
	SEED("\2\x0a\0\0\x0a\0\x40\7\5\xa1\x64name\x63one"),
	SEED("\2\x08\0\0\x0a\0\x40\7\6\xa1\x64name\x63two"),
	SEED("\2\x08\0\0\1\0\x40\7\7\xa0"),
	SEED("\2\x08\0\0\1\0\x40\7\x10\xa0"), /* slots */
	SEED("\2\x0a\0\0\x1b\0\x40\7\x11\xa2\x65""first\x00\x66hashes\x50""0123456789abcdef"),
	SEED("\2\x0a\0\0\x80\0\x40\7\x12\xa4\x6astream_sha\x58\x20" SHA32
	     "\x6bstream_size\x19\x40\x00\x69image_sha\x58\x20" SHA32
	     "\x6aimage_size\x19\x80\x00"),
	SEED("\2\x0a\0\0\x22\0\x40\7\x13\xa2\x63off\x00\x64""data\x58\x18" GROUP24),
	SEED("\3\x0a\0\0\x3a\0\x40\7\x13\xa2\x63off\x00\x64""data\x58\x30" GROUP24 GROUP24),
	SEED("\4\x0a\0\0\x18\0\1\7\1\xa3\x63off\x10\x63len\x19\xf0\x00\x64""data\x44""1234"),
	SEED("\3\x0a\0\0\x2d\0\x40\7\x14\xa1\x69image_sha\x58\x20" SHA32),
	SEED("\2\x0a\0\0\x14\0\x40\7\x15\xa2\x64mode\x65trial\x65tries\x03"),
	SEED("\2\x0a\0\0\x0e\0\x40\7\x15\xa1\x64mode\x67""confirm"),
	SEED("\2\x0a\0\0\x0d\0\x40\7\x15\xa1\x64mode\x66revert"),
	SEED("\2\x08\0\0\1\0\1\7\0\xa0"),
	SEED("\2\x0a\0\0\x27\0\1\7\0\xa1\x64hash\x58\x20" SHA32),
	SEED("\2\x0a\0\0\x18\0\1\7\1\xa3\x63off\x00\x63len\x19\x10\x00\x64""data\x44""1234"),
	SEED("\2\x0a\0\0\1\0\1\7\5\xa0"),
	SEED("\5" GROUP24 GROUP24),
	SEED("\5" "\0\0\0\0\x05\0\0\0\0\0\0\0\x10\0\0\0\x86\xa6\x10\x36\x0e\0\0\0"
	     "\x28\xb5\x2f\xfd\x20\x05\x29\0\0hello"),
	SEED("\6" "\x3d\xb8\xf3\x96\0\0\0\0\x20\0\x0c\0\x20\0\0\0\0\0\0\0\1\2\3\0\5\0\0\0"
	     "\0\0\0\0" SHA32 "\x08\x69\x0c\0\xa0\0\4\0virt" "\x07\x69\x70\0"
	     "\x10\0\x20\0" SHA32 "\x24\0\x40\0" SHA32 SHA32),
	SEED("\0\x06\x09" "AAoICAABAAAHBqDh\n\x04\x14" "AAAA\nls -l\r\n\x06\x09"),
	SEED("\0\0\2\x0a\1\2\x04\1\1\3\7\6\xa1""dd`\xff\0ls\r\x02\x0a\1\2\x04\0\6\x09" "AAoI\n"),
	SEED("\x0a\x08\0\0\1\0\x40\7\0\xa0"), /* identity, COBS */
	SEED("\2\x0a\0\0\x12\0\x40\7\x16\xa2\x64""baud\x1a\0\x0e\x10\0\x65quiet\xf5"),
	SEED("\x12\x0a\0\0\x12\0\x40\7\x16\xa2\x64""baud\x1a\0\x0e\x10\0\x65quiet\xf5"),
	SEED("\1" "6,1234,5678901,-;usb 1-1: new device\n SUBSYSTEM=usb\n"),
	SEED("\1\x81\xa6\x64name\x61n\x65""about\x61""a\x64kind\x67program\x69processes\x01\x64seed\x01"),
};

static uint64_t random_state;

static uint64_t random_next(void)
{
	random_state ^= random_state << 13;
	random_state ^= random_state >> 7;
	random_state ^= random_state << 17;
	return random_state;
}

static size_t random_below(size_t n)
{
	return (size_t)(random_next() % n);
}

static size_t insert_bytes(uint8_t *data, size_t size)
{
	size_t at = random_below(size + 1), n = 1 + random_below(random_below(16) ? 8 : 900);

	if (size + n > INPUT_MAX)
		return size;
	memmove(data + at + n, data + at, size - at);
	memset(data + at, (int)random_below(256), n);
	return size + n;
}

static size_t remove_bytes(uint8_t *data, size_t size)
{
	size_t at = random_below(size), n = 1 + random_below(size - at);

	memmove(data + at, data + at + n, size - at - n);
	return size - n;
}

static size_t mutate(uint8_t *data, size_t size)
{
	static const uint8_t telling[] = { 0, 0xff, 0x7f, 0x80, 0x18, 0x1b, 0x3b, 0x5f, 0x7b,
					   0x9b, 0xbf, 0xbb, 0xa0, 0xc0, 6, 9, 4, 0x14, '\n' };

	if (size == 0)
		return insert_bytes(data, size);
	size_t at = random_below(size);

	switch (random_below(6)) {
	case 0:
		data[at] ^= (uint8_t)(1u << random_below(8));
		return size;
	case 1:
		data[at] = telling[random_below(sizeof(telling))];
		return size;
	case 2:
		data[at] = (uint8_t)random_next();
		return size;
	case 3:
		return insert_bytes(data, size);
	case 4:
		return remove_bytes(data, size);
	default: /* a header that fits, so that the body is looked at */
		if (size > 9) {
			data[3] = (uint8_t)((size - 9) >> 8);
			data[4] = (uint8_t)(size - 9);
		}
		return size;
	}
}

static bool keep_input(int folder, const char *name, const void *data, size_t size)
{
	int fd = openat(folder, name, O_CREAT | O_WRONLY | O_TRUNC | O_CLOEXEC, 0644);
	bool kept = fd >= 0 && write(fd, data, size) == (ssize_t)size;

	if (!kept)
		perror(name);
	if (fd >= 0)
		close(fd);
	return kept;
}

static bool keep_seeds(const char *path)
{
	int folder = open(path, O_DIRECTORY | O_CLOEXEC);
	bool kept = true;

	if (folder < 0) {
		perror(path);
		return false;
	}
	for (size_t i = 0; i < sizeof(seeds) / sizeof(seeds[0]) && kept; i++) {
		char name[32];

		snprintf(name, sizeof(name), "seed-%zu", i);
		kept = keep_input(folder, name, seeds[i].bytes, seeds[i].size);
	}
	close(folder);
	return kept;
}

static uint8_t input[INPUT_MAX];
static size_t input_size;

void __asan_on_error(void);
void __asan_on_error(void)
{
	keep_input(AT_FDCWD, "agent-fuzz.input", input, input_size);
}

int main(int argc, char **argv)
{
	int64_t end_ms = now_ms() + 1000 * (argc > 1 ? strtol(argv[1], NULL, 10) : 10);
	uint64_t runs = 0;

	if (argc > 2 && !strcmp(argv[1], "--seeds"))
		return !keep_seeds(argv[2]);
	random_state = argc > 2 ? strtoull(argv[2], NULL, 10) : (uint64_t)now_us();
	printf("seed %llu\n", (unsigned long long)random_state);
	fflush(stdout);
	random_state = random_state * 0x9e3779b97f4a7c15u | 1;
	while (now_ms() < end_ms) {
		const struct seed *seed = &seeds[random_below(sizeof(seeds) / sizeof(seeds[0]))];

		input_size = seed->size;
		memcpy(input, seed->bytes, input_size);
		for (size_t n = runs < 100 ? 0 : random_below(8); n; n--)
			input_size = mutate(input, input_size);
		LLVMFuzzerTestOneInput(input, input_size);
		runs++;
	}
	printf("%llu runs, %llu messages, %llu answers, %llu CRC errors, %llu line errors\n",
	       (unsigned long long)runs, (unsigned long long)agent.serial.decoder.messages,
	       (unsigned long long)answers.messages,
	       (unsigned long long)agent.serial.decoder.crc_errors,
	       (unsigned long long)agent.serial.decoder.line_errors);
	return 0;
}

#endif
