/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Linked to the kernel's ksm_tests.c (with --wrap=fopen), for two weaknesses it has in 6.12. It changes
 * merged pages, waits until one more full scan is counted and expects the counters to have followed.
 * But that scan may have begun, and have been past those pages, before they were changed: with
 * -U -t 1 one run in twenty fails, with mainline's engine as with ours. So its reading of
 * pages_shared waits until a scan that began after it has ended, too.
 *
 * And it reads full_scans again and again without a pause, and takes from ksmd, which is nicer, the
 * processor it waits for.
 */
#include <stdio.h>
#include <string.h>
#include <time.h>

#define KSM "/sys/kernel/mm/ksm/"
#define DEADLINE_S 120
#define PAUSE_NS 5000000

FILE *__real_fopen(const char *path, const char *mode);
FILE *__wrap_fopen(const char *path, const char *mode);

static unsigned long value_of(const char *path)
{
	unsigned long value = 0;
	FILE *file = __real_fopen(path, "r");

	if (file) {
		if (fscanf(file, "%lu", &value) != 1)
			value = 0;
		fclose(file);
	}
	return value;
}

static void let_ksmd_run(void)
{
	const struct timespec pause = { .tv_nsec = PAUSE_NS };

	nanosleep(&pause, NULL);
}

static void wait_for_whole_scan(void)
{
	unsigned long begun = value_of(KSM "full_scans");
	time_t deadline = time(NULL) + DEADLINE_S;

	while (value_of(KSM "full_scans") < begun + 2 && time(NULL) < deadline)
		let_ksmd_run();
}

FILE *__wrap_fopen(const char *path, const char *mode)
{
	if (!strcmp(path, KSM "pages_shared") && value_of(KSM "run") == 1)
		wait_for_whole_scan();
	else if (!strcmp(path, KSM "full_scans"))
		let_ksmd_run();
	return __real_fopen(path, mode);
}
