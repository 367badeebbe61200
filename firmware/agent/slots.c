/* SPDX-License-Identifier: Apache-2.0 */
/* The two slots and the boot state; see slots.h. */
#include "slots.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "bytes.h"
#include "log.h"
#include "procfile.h"

#define DISK_SIGNATURE 0x4b534d48u
#define DISK_SIGNATURE_AT 440
#define FIRST_SLOT_PARTITION 2
#define BLOCK_CLASS "/sys/class/block"

static const off_t state_at[2] = { 1 << 20, 5 << 20 };

/* ---- input and output that does all or fails ---- */

static int read_all(int fd, off_t at, void *bytes, size_t len)
{
	for (uint8_t *to = bytes; len;) {
		ssize_t n = pread(fd, to, len, at);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return n < 0 ? -errno : -EIO;
		to += n;
		at += n;
		len -= (size_t)n;
	}
	return 0;
}

static int write_all(int fd, off_t at, const void *bytes, size_t len)
{
	for (const uint8_t *from = bytes; len;) {
		ssize_t n = pwrite(fd, from, len, at);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return n < 0 ? -errno : -EIO;
		from += n;
		at += n;
		len -= (size_t)n;
	}
	return 0;
}

static int sync_all(int fd)
{
	return fdatasync(fd) && errno != EINVAL ? -errno : 0;
}

static int open_path(const char *path, int flags)
{
	int fd = open(path, flags | O_CLOEXEC);

	return fd < 0 ? -errno : fd;
}

/* ---- finding them ---- */

struct paths {
	char slot[2][300], disk[300];
};

static bool is_our_disk(const char *path)
{
	uint8_t sector[SECTOR_BYTES];
	int fd = open_path(path, O_RDONLY);
	bool ours = fd >= 0 && read_all(fd, 0, sector, sizeof(sector)) == 0 &&
		    get_le32(sector + DISK_SIGNATURE_AT) == DISK_SIGNATURE &&
		    sector[510] == 0x55 && sector[511] == 0xaa;

	if (fd >= 0)
		close(fd);
	return ours;
}

static bool is_partition(const char *name)
{
	char path[300];

	snprintf(path, sizeof(path), BLOCK_CLASS "/%.200s/partition", name);
	return access(path, F_OK) == 0;
}

/* Of two disks that look like ours nobody knows which one was started from: neither is taken. */
static bool find_disk(char *name, size_t size)
{
	static bool said;
	DIR *class = opendir(BLOCK_CLASS);
	struct dirent *entry;
	unsigned found = 0;
	char path[300];

	while (class && (entry = readdir(class))) {
		snprintf(path, sizeof(path), "/dev/%.200s", entry->d_name);
		if (entry->d_name[0] == '.' || is_partition(entry->d_name) || !is_our_disk(path))
			continue;
		if (found++ && !said) {
			log_line("two disks look like ours, %.100s and %.100s: neither is taken",
				 name, entry->d_name);
			said = true;
		}
		snprintf(name, size, "%.200s", entry->d_name);
	}
	if (class)
		closedir(class);
	return found == 1;
}

static int64_t partition_number(const char *disk, const char *name)
{
	char path[500], text[16];
	const char *at = text;
	int64_t number;

	snprintf(path, sizeof(path), BLOCK_CLASS "/%.200s/%.200s", disk, name);
	if (procfile_once(path, "partition", text, sizeof(text)) <= 0 || !scan_number(&at, &number))
		return 0;
	return number;
}

/* Names of partitions are told by the disk, not guessed: sda2, mmcblk0p2. */
static bool find_paths(struct paths *paths)
{
	char disk[256], path[300];
	struct dirent *entry;
	unsigned found = 0;

	if (!find_disk(disk, sizeof(disk)))
		return false;
	snprintf(paths->disk, sizeof(paths->disk), "/dev/%s", disk);
	snprintf(path, sizeof(path), BLOCK_CLASS "/%s", disk);
	DIR *parts = opendir(path);
	while (parts && (entry = readdir(parts))) {
		int64_t slot = partition_number(disk, entry->d_name) - FIRST_SLOT_PARTITION;

		if (slot != 0 && slot != 1)
			continue;
		snprintf(paths->slot[slot], sizeof(paths->slot[slot]), "/dev/%.200s",
			 entry->d_name);
		found |= 1u << slot;
	}
	if (parts)
		closedir(parts);
	return found == 3;
}

/* ---- opening and closing ---- */

static void close_fd(int *fd)
{
	if (*fd >= 0)
		close(*fd);
	*fd = -1;
}

void slots_init(struct slots *s, const struct slots_options *options)
{
	*s = (struct slots){ .options = options,
			     .running = SLOT_NONE,
			     .target = SLOT_NONE,
			     .fd = { -1, -1 },
			     .direct_fd = { -1, -1 },
			     .state_fd = -1,
			     .direct_state_fd = -1,
			     .state_copy = SLOT_NONE };
}

void slots_unmap(struct slots *s)
{
	if (s->map)
		munmap((void *)(uintptr_t)s->map, s->bytes);
	s->map = NULL;
}

void slots_close(struct slots *s)
{
	slots_unmap(s);
	for (int i = 0; i < 2; i++) {
		close_fd(&s->fd[i]);
		close_fd(&s->direct_fd[i]);
	}
	close_fd(&s->state_fd);
	close_fd(&s->direct_state_fd);
	slots_init(s, s->options);
}

/* A slot's size without its last block. */
static int measure(const struct slots *s, int slot, uint32_t *bytes)
{
	off_t size = lseek(s->fd[slot], 0, SEEK_END);

	if (size < 2 * BLOCK_BYTES)
		return -ENODEV;
	if (size > INT32_MAX)
		size = INT32_MAX;
	*bytes = (uint32_t)size / BLOCK_BYTES * BLOCK_BYTES - BLOCK_BYTES;
	return 0;
}

static int open_slots(struct slots *s, const struct paths *paths)
{
	uint32_t bytes[2];

	for (int i = 0; i < 2; i++) {
		s->fd[i] = open_path(paths->slot[i], i == s->target ? O_RDWR : O_RDONLY);
		if (s->fd[i] < 0)
			return s->fd[i];
		s->direct_fd[i] = open_path(paths->slot[i], O_RDONLY | O_DIRECT);
		int err = measure(s, i, &bytes[i]);

		if (err)
			return err;
	}
	s->bytes = bytes[0] < bytes[1] ? bytes[0] : bytes[1];
	return 0;
}

static int open_paths(struct slots *s, const struct paths *paths)
{
	s->state_fd = open_path(paths->disk, O_RDWR);
	if (s->state_fd < 0)
		return s->state_fd;
	s->direct_state_fd = open_path(paths->disk, O_RDWR | O_DIRECT);
	int err = slots_read_state(s);

	if (err)
		return err;
	s->running = s->options->running;
	s->target = 1 - (s->running == SLOT_NONE ? s->state.first : s->running);
	return open_slots(s, paths);
}

int slots_open(struct slots *s)
{
	const struct slots_options *o = s->options;
	static struct paths paths;

	if (s->open)
		return 0;
	if (o->slot[0] && o->slot[1] && o->state) {
		snprintf(paths.disk, sizeof(paths.disk), "%s", o->state);
		for (int i = 0; i < 2; i++)
			snprintf(paths.slot[i], sizeof(paths.slot[i]), "%s", o->slot[i]);
	} else if (!find_paths(&paths)) {
		return -ENODEV;
	}
	int err = open_paths(s, &paths);

	if (err)
		slots_close(s);
	else
		s->open = true;
	return err;
}

/* ---- reading and writing slots ---- */

static bool within(const struct slots *s, uint32_t at, size_t len)
{
	return at <= s->bytes && len <= s->bytes - at;
}

static void show_held(const struct slots *s, int slot, uint32_t at, uint8_t *bytes, size_t len)
{
	if (!s->holding || slot != s->target || at >= SECTOR_BYTES)
		return;
	size_t n = SECTOR_BYTES - at;

	memcpy(bytes, s->held + at, n < len ? n : len);
}

int slots_read(const struct slots *s, int slot, uint32_t at, void *bytes, size_t len)
{
	if (!within(s, at, len))
		return -EINVAL;
	int err = read_all(s->fd[slot], at, bytes, len);

	show_held(s, slot, at, bytes, len);
	return err;
}

/* Not every file can be read past the page cache; what is clean in it can be dropped instead. */
int slots_read_back(const struct slots *s, int slot, uint32_t at, struct slots_piece *piece,
		    size_t len)
{
	if (!within(s, at, len) || at % BLOCK_BYTES || len % BLOCK_BYTES || len > sizeof(*piece))
		return -EINVAL;
	int err = s->direct_fd[slot] < 0 ? -EINVAL :
					   read_all(s->direct_fd[slot], at, piece->bytes, len);

	if (err == -EINVAL) {
		posix_fadvise(s->fd[slot], at, (off_t)len, POSIX_FADV_DONTNEED);
		err = read_all(s->fd[slot], at, piece->bytes, len);
	}
	show_held(s, slot, at, piece->bytes, len);
	return err;
}

void slots_forget(const struct slots *s)
{
	posix_fadvise(s->fd[s->target], 0, 0, POSIX_FADV_DONTNEED);
}

static int write_target(const struct slots *s, uint32_t at, const void *bytes, size_t len)
{
	const unsigned all = SYNC_FILE_RANGE_WAIT_BEFORE | SYNC_FILE_RANGE_WRITE |
			     SYNC_FILE_RANGE_WAIT_AFTER;
	int fd = s->fd[s->target], err = write_all(fd, at, bytes, len);

	if (!err && sync_file_range(fd, at, (off_t)len, all) && errno != EINVAL && errno != ENOSYS)
		err = -errno; /* where this cannot be had slots_sync finds the error */
	return err;
}

static int write_held(struct slots *s)
{
	return slots_write_tail(s, SLOTS_HELD_SECTOR, s->held);
}

int slots_write(struct slots *s, uint32_t at, const void *bytes, size_t len)
{
	const uint8_t *from = bytes;

	if (!within(s, at, len) || !s->holding)
		return -EINVAL;
	if (at < SECTOR_BYTES) {
		size_t n = SECTOR_BYTES - at < len ? SECTOR_BYTES - at : len;

		memcpy(s->held + at, from, n);
		int err = write_held(s);

		if (err || n == len)
			return err;
		at += (uint32_t)n;
		from += n;
		len -= n;
	}
	return write_target(s, at, from, len);
}

int slots_sync(const struct slots *s)
{
	return sync_all(s->fd[s->target]);
}

int slots_read_tail(const struct slots *s, int slot, unsigned sector, uint8_t *bytes)
{
	return read_all(s->fd[slot], s->bytes + sector * SECTOR_BYTES, bytes, SECTOR_BYTES);
}

int slots_write_tail(struct slots *s, unsigned sector, const uint8_t *bytes)
{
	return write_target(s, s->bytes + sector * SECTOR_BYTES, bytes, SECTOR_BYTES);
}

static int keep_first_sector(struct slots *s)
{
	int err = slots_read(s, s->target, 0, s->held, sizeof(s->held));

	if (!err)
		err = write_held(s);
	return err ? err : slots_sync(s);
}

int slots_hold(struct slots *s)
{
	static const uint8_t empty[SECTOR_BYTES];
	int err = s->holding ? 0 : keep_first_sector(s);

	if (!err)
		err = write_target(s, 0, empty, sizeof(empty));
	if (!err)
		err = slots_sync(s);
	if (!err)
		s->holding = true;
	return err;
}

int slots_release(struct slots *s)
{
	int err = slots_sync(s);

	if (!err)
		err = write_target(s, 0, s->held, sizeof(s->held));
	if (!err)
		err = slots_sync(s);
	if (!err)
		s->holding = false;
	return err;
}

const uint8_t *slots_map(struct slots *s)
{
	if (!s->map && s->running != SLOT_NONE) {
		void *map = mmap(NULL, s->bytes, PROT_READ, MAP_SHARED, s->fd[s->running], 0);

		s->map = map == MAP_FAILED ? NULL : map;
	}
	return s->map;
}

/* ---- the boot state ---- */

/* Aligned, for going past the page cache: there a write that failed still looks done. */
struct state_sector {
	_Alignas(BLOCK_BYTES) uint8_t bytes[SECTOR_BYTES];
};

static int read_copy(const struct slots *s, int copy, struct state_sector *sector)
{
	off_t at = state_at[copy];
	int err = s->direct_state_fd < 0 ?
			  -EINVAL :
			  read_all(s->direct_state_fd, at, sector->bytes, SECTOR_BYTES);

	if (err != -EINVAL)
		return err;
	posix_fadvise(s->state_fd, at, BLOCK_BYTES, POSIX_FADV_DONTNEED); /* whole pages only */
	return read_all(s->state_fd, at, sector->bytes, SECTOR_BYTES);
}

static int write_copy(const struct slots *s, int copy, const struct state_sector *sector)
{
	struct state_sector there;
	off_t at = state_at[copy];
	int err = s->direct_state_fd < 0 ?
			  -EINVAL :
			  write_all(s->direct_state_fd, at, sector->bytes, SECTOR_BYTES);

	if (err == -EINVAL)
		err = write_all(s->state_fd, at, sector->bytes, SECTOR_BYTES);
	if (!err)
		err = sync_all(s->state_fd);
	if (!err)
		err = read_copy(s, copy, &there);
	if (!err && memcmp(there.bytes, sector->bytes, SECTOR_BYTES))
		err = -EIO;
	return err;
}

int slots_read_state(struct slots *s)
{
	struct state_sector sector;
	struct boot_state copy;

	s->state = (struct boot_state){ 0 };
	s->state_copy = SLOT_NONE;
	for (int i = 0; i < 2; i++) {
		/* A copy that cannot be read is no worse than a broken one. */
		if (read_copy(s, i, &sector) || !bootstate_decode(&copy, sector.bytes))
			continue;
		if (s->state_copy != SLOT_NONE && copy.sequence <= s->state.sequence)
			continue;
		s->state = copy;
		s->state_copy = i;
	}
	return 0;
}

int slots_write_state(struct slots *s, const struct boot_state *state)
{
	struct boot_state next = *state;
	struct state_sector sector;
	int copy = s->state_copy == 0;

	if (s->state_copy != SLOT_NONE && bootstate_same(state, &s->state))
		return 0;
	next.sequence = s->state.sequence + 1;
	bootstate_encode(&next, sector.bytes);
	int err = write_copy(s, copy, &sector);

	if (!err) {
		s->state = next;
		s->state_copy = copy;
	}
	return err;
}
