/* SPDX-License-Identifier: Apache-2.0 */
/* Workloads; see workload.h. */
#include "workload.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "child.h"
#include "clock.h"
#include "codec_decode.h"
#include "log.h"
#include "procfile.h"

#define STOP_GRACE_MS 3000
#define EXIT_NO_PROGRAM 127

/* ---- the table ---- */

static char *keep_text(struct workloads *w, const struct zcbor_string *text)
{
	char *copy = w->text + w->text_len;

	if (text->len + 1 > sizeof(w->text) - w->text_len || memchr(text->value, 0, text->len))
		return NULL;
	memcpy(copy, text->value, text->len);
	copy[text->len] = '\0';
	w->text_len += text->len + 1;
	return copy;
}

static bool keep_list(struct workloads *w, const struct zcbor_string *list, size_t count,
		      char **copies)
{
	for (size_t i = 0; i < count; i++)
		if (!(copies[i] = keep_text(w, &list[i])))
			return false;
	copies[count] = NULL;
	return true;
}

static bool text_is(const struct zcbor_string *text, const char *wanted)
{
	return text->len == strlen(wanted) && memcmp(text->value, wanted, text->len) == 0;
}

static void take_memory(struct synthetic *memory, const struct workload_entry *entry)
{
	if (entry->size_kib_present)
		memory->size_kib = entry->size_kib.size_kib;
	if (entry->duplicate_permille_present)
		memory->duplicate_permille = entry->duplicate_permille.duplicate_permille;
	if (entry->zero_permille_present)
		memory->zero_permille = entry->zero_permille.zero_permille;
	if (entry->rewrite_permille_present)
		memory->rewrite_permille = entry->rewrite_permille.rewrite_permille;
	if (entry->rewrite_period_ms_present)
		memory->rewrite_period_ms = entry->rewrite_period_ms.rewrite_period_ms;
}

static bool memory_is_sound(const struct synthetic *memory)
{
	return memory->size_kib > 0 && memory->size_kib < 1u << 30 &&
	       memory->zero_permille <= 1000 && memory->duplicate_permille <= 1000 &&
	       memory->zero_permille + memory->duplicate_permille <= 1000 &&
	       memory->rewrite_permille <= 1000 && memory->rewrite_period_ms < 1u << 30;
}

static bool take_entry(struct workloads *w, struct workload *to, const struct workload_entry *entry)
{
	to->name = keep_text(w, &entry->name);
	to->about = keep_text(w, &entry->about);
	to->synthetic = text_is(&entry->kind, "synthetic");
	to->merge = entry->merge;
	to->seed = entry->seed;
	to->processes = (uint32_t)entry->processes;
	if (!to->name || !to->about || entry->processes == 0 ||
	    entry->processes > WORKLOAD_PROCESSES_MAX)
		return false;
	if (to->synthetic) {
		take_memory(&to->memory, entry);
		return memory_is_sound(&to->memory);
	}
	if (!text_is(&entry->kind, "program") || !entry->argv_present)
		return false;
	return keep_list(w, entry->argv.tstr, entry->argv.tstr_count, to->argv) &&
	       keep_list(w, entry->env.tstr, entry->env_present ? entry->env.tstr_count : 0,
			 to->env);
}

int workloads_load(struct workloads *w, const char *path)
{
	static uint8_t file[WORKLOAD_TEXT_MAX];
	static struct workload_table table;
	int fd = open(path, O_RDONLY | O_CLOEXEC);

	if (fd < 0)
		return -errno;
	ssize_t len = read(fd, file, sizeof(file));
	close(fd);
	if (len < 0)
		return -errno;
	if (cbor_decode_workload_table(file, (size_t)len, &table, NULL))
		return -EBADMSG;
	for (size_t i = 0; i < table.workload_entry_m_count; i++)
		if (!take_entry(w, &w->table[w->count++], &table.workload_entry_m[i])) {
			w->count = 0;
			return -EBADMSG;
		}
	return 0;
}

struct workload *workloads_find(struct workloads *w, const uint8_t *name, size_t len)
{
	for (size_t i = 0; i < w->count; i++)
		if (strlen(w->table[i].name) == len && memcmp(w->table[i].name, name, len) == 0)
			return &w->table[i];
	return NULL;
}

/* ---- what they write to stderr ---- */

static void error_byte(struct workloads *w, char c)
{
	if (c != '\n' && w->line_len < sizeof(w->line))
		w->line[w->line_len++] = c;
	if (c != '\n')
		return;
	out_line(w->out, w->line, w->line_len);
	w->line_len = 0;
}

static void errors_ready(void *ctx, uint32_t events)
{
	struct workloads *w = ctx;
	char bytes[512];
	ssize_t n = read(w->errors.fd, bytes, sizeof(bytes));

	(void)events;
	for (ssize_t i = 0; i < n; i++)
		error_byte(w, bytes[i]);
	w->queued(w->queued_ctx);
}

/* ---- processes ---- */

static void stop_overdue(void *ctx)
{
	struct workloads *w = ctx;
	int64_t now = now_ms(), next = INT64_MAX;

	for (size_t i = 0; i < WORKLOAD_PROCESSES_MAX; i++) {
		const struct workload_process *process = &w->processes[i];

		if (!process->pid || !process->kill_at_ms)
			continue;
		if (process->kill_at_ms <= now)
			kill(-process->pid, SIGKILL);
		else if (process->kill_at_ms < next)
			next = process->kill_at_ms;
	}
	if (next != INT64_MAX)
		loop_timer_set(&w->kill_timer, next - now);
}

int workloads_init(struct workloads *w)
{
	int fds[2];

	latency_init(w->latency);
	w->kill_timer = (struct loop_timer){ .fire = stop_overdue, .ctx = w };
	loop_timer_add(w->loop, &w->kill_timer);
	if (pipe2(fds, O_CLOEXEC))
		return -errno;
	fcntl(fds[0], F_SETFL, O_NONBLOCK);
	w->errors_write_fd = fds[1];
	w->errors = (struct loop_source){ .fd = fds[0], .ready = errors_ready, .ctx = w };
	return loop_add(w->loop, &w->errors, EPOLLIN);
}

static struct workload_process *free_process(struct workloads *w)
{
	for (size_t i = 0; i < WORKLOAD_PROCESSES_MAX; i++)
		if (!w->processes[i].pid)
			return &w->processes[i];
	return NULL;
}

static size_t free_processes(const struct workloads *w)
{
	size_t n = 0;

	for (size_t i = 0; i < WORKLOAD_PROCESSES_MAX; i++)
		n += w->processes[i].pid == 0;
	return n;
}

__attribute__((noreturn)) static void exec_synthetic(const struct workload *workload,
						     uint64_t index, uint64_t seed, int latency_fd)
{
	struct synthetic memory = workload->memory;
	char buffers[SYNTHETIC_ARGUMENTS][24];
	char *argv[SYNTHETIC_ARGUMENTS + 3] = { "ksmhost-workload", SYNTHETIC_OPTION };

	memory.seed = seed;
	memory.index = index;
	memory.merge = workload->merge;
	memory.latency_fd = latency_fd;
	fcntl(latency_fd, F_SETFD, 0); /* no other program gets it */
	synthetic_arguments(&memory, buffers);
	for (int i = 0; i < SYNTHETIC_ARGUMENTS; i++)
		argv[2 + i] = buffers[i];
	execve("/proc/self/exe", argv, child_environment);
	_exit(EXIT_NO_PROGRAM);
}

__attribute__((noreturn)) static void exec_program(const struct workload *workload, uint64_t index,
						   uint64_t seed)
{
	char *env[WORKLOAD_ARGUMENTS_MAX + 8];
	char index_text[48], seed_text[48];
	size_t n = 0;

	for (size_t i = 0; child_environment[i]; i++)
		env[n++] = child_environment[i];
	snprintf(index_text, sizeof(index_text), "KSMHOST_INDEX=%llu", (unsigned long long)index);
	snprintf(seed_text, sizeof(seed_text), "KSMHOST_SEED=%llu", (unsigned long long)seed);
	env[n++] = index_text;
	env[n++] = seed_text;
	for (size_t i = 0; workload->env[i]; i++)
		env[n++] = workload->env[i];
	env[n] = NULL;
	execvpe(workload->argv[0], workload->argv, env);
	fprintf(stderr, "%s: %s\n", workload->argv[0], strerror(errno));
	_exit(EXIT_NO_PROGRAM);
}

static int open_process_file(const struct workloads *w, pid_t pid, const char *name)
{
	char path[64];

	snprintf(path, sizeof(path), "%ld/%s", (long)pid, name);
	return procfile_open(w->proc_dir, path);
}

static int start_process(struct workloads *w, struct workload *workload, uint64_t index,
			 uint64_t seed)
{
	struct workload_process *process = free_process(w);
	pid_t pid = child_fork(CHILD_GROUP, -1, -1, w->errors_write_fd);

	if (pid < 0)
		return -errno;
	if (pid == 0) {
		if (workload->merge)
			child_merge_memory();
		if (workload->synthetic)
			exec_synthetic(workload, index, seed, w->latency->fd);
		exec_program(workload, index, seed);
	}
	*process = (struct workload_process){ .pid = pid, .workload = workload };
	process->merging_fd = open_process_file(w, pid, "ksm_merging_pages");
	process->stat_fd = open_process_file(w, pid, "ksm_stat");
	workload->started++;
	return 0;
}

static bool program_missing(const struct workload *workload)
{
	return !workload->synthetic && workload->argv[0][0] == '/' &&
	       access(workload->argv[0], X_OK) != 0;
}

int workload_start(struct workloads *w, struct workload *workload, uint64_t processes,
		   uint64_t seed)
{
	int err = 0;

	if (workload_sums(w, workload).processes)
		return -EBUSY;
	if (processes == 0)
		processes = workload->processes;
	if (processes > free_processes(w))
		return -EINVAL;
	if (program_missing(workload))
		return -ENOENT;
	workload->started = 0;
	workload->exited = 0;
	workload->last_status = 0;
	workload->since_ms = now_ms();
	for (uint64_t i = 0; i < processes && !err; i++)
		err = start_process(w, workload, i, seed);
	if (err)
		workload_stop(w, workload);
	return err;
}

void workload_stop(struct workloads *w, const struct workload *workload)
{
	for (size_t i = 0; i < WORKLOAD_PROCESSES_MAX; i++) {
		struct workload_process *process = &w->processes[i];

		if (!process->pid || (workload && process->workload != workload))
			continue;
		if (!process->kill_at_ms) /* asking again does not put it off */
			process->kill_at_ms = now_ms() + STOP_GRACE_MS;
		/* The group may not exist yet: the child makes it itself. */
		if (kill(-process->pid, SIGTERM))
			kill(process->pid, SIGTERM);
	}
	stop_overdue(w);
}

static int64_t read_number(int fd, const char *key)
{
	char text[256];
	const char *at = text;
	int64_t value = 0;

	if (fd < 0 || procfile_read(fd, text, sizeof(text)) <= 0)
		return 0;
	return scan_key(&at, key, &value) ? value : 0;
}

struct workload_sums workload_sums(const struct workloads *w, const struct workload *workload)
{
	struct workload_sums sums = { 0 };

	for (size_t i = 0; i < WORKLOAD_PROCESSES_MAX; i++) {
		const struct workload_process *process = &w->processes[i];

		if (!process->pid || (workload && process->workload != workload))
			continue;
		sums.processes++;
		sums.merging_pages += read_number(process->merging_fd, "");
		sums.profit_bytes += read_number(process->stat_fd, "ksm_process_profit ");
	}
	return sums;
}

bool workloads_reap(struct workloads *w, pid_t pid, int wait_status)
{
	for (size_t i = 0; i < WORKLOAD_PROCESSES_MAX; i++) {
		struct workload_process *process = &w->processes[i];

		if (process->pid != pid)
			continue;
		kill(-pid, SIGKILL); /* what it started and left behind */
		close(process->merging_fd);
		close(process->stat_fd);
		process->workload->exited++;
		process->workload->last_status = child_exit_code(wait_status);
		process->pid = 0;
		return true;
	}
	return false;
}

void workloads_kill(struct workloads *w)
{
	for (size_t i = 0; i < WORKLOAD_PROCESSES_MAX; i++)
		if (w->processes[i].pid) {
			kill(-w->processes[i].pid, SIGKILL);
			kill(w->processes[i].pid, SIGKILL);
		}
}
