/* SPDX-License-Identifier: Apache-2.0 */
/* What the kernel said while it booted; see bootlog.h. */
#include "bootlog.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "procfile.h"

#define RECORD_MAX 8192
#define RECORDS_MAX 65536 /* a log that goes on for longer is being written to all the time */
#define FACILITY_SHIFT 3  /* of a record's priority; the kernel's own is 0, and can't be forged */

#define FEATURE "CPU features: detected: "

static bool begins_with(const char *text, const char *start)
{
	return strncmp(text, start, strlen(start)) == 0;
}

void bootlog_record(struct bootlog *b, const char *record)
{
	const char *at = record, *text = strchr(record, ';');
	int64_t priority, number;

	if (!text || !scan_number(&at, &priority) || *at++ != ',' || !scan_number(&at, &number))
		return;
	text++;
	if (number == 0)
		b->begins = true;
	if (priority >> FACILITY_SHIFT)
		return;
	if (begins_with(text, FEATURE "Kernel page table isolation"))
		b->kpti = "on";
	else if (begins_with(text, FEATURE))
		b->features = true;
	else if (begins_with(text, "KASLR enabled"))
		b->kaslr = "on";
	else if (begins_with(text, "KASLR disabled"))
		b->kaslr = "off";
}

/* True: all that there is was read, from the first record to the last. */
static bool read_all(struct bootlog *b, int fd)
{
	char record[RECORD_MAX + 1];
	ssize_t n;

	for (int i = 0; i < RECORDS_MAX; i++) {
		n = read(fd, record, RECORD_MAX);
		if (n <= 0)
			return n < 0 && errno == EAGAIN && b->begins;
		record[n] = '\0';
		bootlog_record(b, record);
	}
	return false;
}

void bootlog_read(struct bootlog *b, const char *path)
{
	int fd = path ? open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC) : -1;

	*b = (struct bootlog){ 0 };
	if (fd < 0)
		return;
	if (read_all(b, fd) && b->features && !b->kpti)
		b->kpti = "off";
	close(fd);
}
