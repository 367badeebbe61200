/* SPDX-License-Identifier: Apache-2.0 */
/* Who and what the board is; see facts.h. */
#include "facts.h"

#include <elf.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/sysinfo.h>
#include <unistd.h>

#include "bytes.h"
#include "codec_decode.h"
#include "procfile.h"
#include "text.h"

static void keep(char *to, size_t size, const struct zcbor_string *text)
{
	size_t len = text->len < size ? text->len : size - 1;

	memcpy(to, text->value, len);
	to[len] = '\0';
	text_make_utf8(to, len);
}

static void gather_image(struct facts *f, const char *path)
{
	char file[1024];
	struct image_info info;
	int fd = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;
	int len = fd < 0 ? -1 : procfile_read(fd, file, sizeof(file));

	if (fd >= 0)
		close(fd);
	if (len <= 0 || cbor_decode_image_info((const uint8_t *)file, (size_t)len, &info, NULL))
		return;
	keep(f->board, sizeof(f->board), &info.board);
	keep(f->image, sizeof(f->image), &info.image);
	keep(f->variant, sizeof(f->variant), &info.variant);
	keep(f->engine, sizeof(f->engine), &info.engine);
}

static bool exists(const char *directory, const char *name)
{
	char path[256];

	snprintf(path, sizeof(path), "%s/%s", directory, name);
	return access(path, F_OK) == 0;
}

/* max_kernel_pages is a knob that only the project's engine still has. */
static void guess_engine(struct facts *f, const char *ksm_dir)
{
	const char *engine = exists(ksm_dir, "max_kernel_pages") ? "ksmhost" :
			     exists(ksm_dir, "run")		 ? "mainline" :
								   "none";

	snprintf(f->engine, sizeof(f->engine), "%s", engine);
}

static void write_hex(char *to, size_t size, const uint8_t *bytes, size_t len)
{
	for (size_t i = 0; i < len && 2 * i + 2 < size; i++)
		snprintf(to + 2 * i, 3, "%02x", bytes[i]);
}

/* Name, descriptor and header of a note are each padded to four bytes. */
static void find_build_id(struct facts *f, const uint8_t *notes, size_t len)
{
	Elf64_Nhdr note;

	while (len >= sizeof(note)) {
		memcpy(&note, notes, sizeof(note));
		uint64_t name_len = ((uint64_t)note.n_namesz + 3) & ~(uint64_t)3;
		uint64_t body_len = ((uint64_t)note.n_descsz + 3) & ~(uint64_t)3;
		const uint8_t *name = notes + sizeof(note);

		if (name_len + body_len > len - sizeof(note))
			return;
		if (note.n_type == NT_GNU_BUILD_ID && note.n_namesz == 4 &&
		    memcmp(name, "GNU", 4) == 0) {
			write_hex(f->build_id, sizeof(f->build_id), name + name_len, note.n_descsz);
			return;
		}
		notes += sizeof(note) + name_len + body_len;
		len -= sizeof(note) + name_len + body_len;
	}
}

static void gather_build_id(struct facts *f)
{
	char notes[1024];
	int fd = procfile_open("/sys/kernel", "notes");
	int len = fd < 0 ? -1 : procfile_read(fd, notes, sizeof(notes));

	if (fd >= 0)
		close(fd);
	if (len > 0)
		find_build_id(f, (const uint8_t *)notes, (size_t)len);
}

static void gather_text(const char *directory, const char *name, char *text, size_t size)
{
	int len = procfile_once(directory, name, text, size);

	if (len > 0)
		text_make_utf8(text, (size_t)len);
}

/* The firmware writes its board's revision into the tree it hands on; ask it where that is lost. */
static void gather_revision(struct facts *f, const char *proc_dir, const struct videocore *v)
{
	char cells[8];
	int fd = procfile_open(proc_dir, "device-tree/system/linux,revision");
	int len = fd < 0 ? -1 : procfile_read(fd, cells, sizeof(cells));

	if (fd >= 0)
		close(fd);
	f->revision = len == 4 ? get_be32((const uint8_t *)cells) : v->first.values[VIDEOCORE_REVISION];
	f->firmware = v->first.values[VIDEOCORE_FIRMWARE];
}

void facts_gather(struct facts *f, const char *image_path, const char *ksm_dir,
		  const char *proc_dir, const char *kmsg_path, const struct videocore *videocore)
{
	struct sysinfo info;

	memset(f, 0, sizeof(*f));
	gather_image(f, image_path);
	if (!f->engine[0])
		guess_engine(f, ksm_dir);
	gather_build_id(f);
	gather_text(proc_dir, "device-tree/model", f->model, sizeof(f->model));
	gather_text(proc_dir, "device-tree/serial-number", f->serial, sizeof(f->serial));
	gather_text(proc_dir, "sys/kernel/random/boot_id", f->boot_id, sizeof(f->boot_id));
	gather_revision(f, proc_dir, videocore);
	bootlog_read(&f->bootlog, kmsg_path);
	uname(&f->uname);
	f->page_size = (uint64_t)sysconf(_SC_PAGESIZE);
	f->cpus = (uint64_t)sysconf(_SC_NPROCESSORS_ONLN);
	if (sysinfo(&info) == 0)
		f->memory_bytes = (uint64_t)info.totalram * info.mem_unit;
}
