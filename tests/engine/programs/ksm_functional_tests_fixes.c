/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Linked to the kernel's ksm_functional_tests.c, for two of its weaknesses in 6.12:
 *
 * test_prctl_fork reads ksm_merging_pages in a child through a descriptor that its parent opened,
 * and so learns what the *parent* has merged. A static program has no two equal pages by itself,
 * hence a few are made here.
 *
 * test_prctl_fork_exec calls execv() with arguments that no NULL ends (link with --wrap=execv).
 */
#include <string.h>
#include <sys/mman.h>

#define BYTES (8 * 4096)

int __real_execv(const char *path, char *const arguments[]);
int __wrap_execv(const char *path, char *const arguments[]);

__attribute__((constructor)) static void make_equal_pages(void)
{
	void *memory = mmap(NULL, BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (memory != MAP_FAILED)
		memset(memory, 0x5a, BYTES);
}

int __wrap_execv(const char *path, char *const arguments[])
{
	char *const ended[] = { arguments[0], arguments[1], NULL };

	return __real_execv(path, ended);
}
