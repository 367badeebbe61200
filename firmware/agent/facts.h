/* SPDX-License-Identifier: Apache-2.0 */
/* What does not change while the board runs: who and what it is. */
#ifndef KSMHOST_FACTS_H
#define KSMHOST_FACTS_H

#include <stdint.h>
#include <sys/utsname.h>

#include "bootlog.h"
#include "videocore.h"

#define AGENT_VERSION "0.1.0"

struct facts {
	char board[32], image[48], variant[32]; /* from the image, else "" */
	char engine[16];
	char model[96], serial[48];             /* from the device tree, else "" */
	char build_id[48];
	char boot_id[40];
	struct utsname uname;
	uint64_t page_size, cpus, memory_bytes;
	struct bootlog bootlog;
	uint32_t revision, firmware; /* of a Raspberry Pi and its VideoCore's firmware, else 0 */
};

/* image_path and kmsg_path may be missing. */
void facts_gather(struct facts *f, const char *image_path, const char *ksm_dir,
		  const char *proc_dir, const char *kmsg_path, const struct videocore *videocore);

#endif
