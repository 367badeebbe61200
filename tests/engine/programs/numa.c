/* SPDX-License-Identifier: Apache-2.0 */
/* See numa.h. */
#include "numa.h"

#include <linux/mempolicy.h>
#include <stdbool.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#define MAX_NODES 64

static bool has_node(int node)
{
	char path[64];

	snprintf(path, sizeof(path), "/sys/devices/system/node/node%d", node);
	return !access(path, F_OK);
}

int numa_available(void)
{
	return has_node(0) ? 0 : -1;
}

int numa_max_node(void)
{
	int node = 0;

	while (node + 1 < MAX_NODES && has_node(node + 1))
		node++;
	return node;
}

/* Only whether a node has memory matters to the caller. */
long long numa_node_size(int node, long long *free_bytes)
{
	(void)free_bytes;
	return has_node(node) ? 1 : -1;
}

void *numa_alloc_onnode(size_t size, int node)
{
	void *memory = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	unsigned long nodes = 1UL << node;

	if (memory == MAP_FAILED)
		return NULL;
	if (syscall(SYS_mbind, memory, size, MPOL_BIND, &nodes, MAX_NODES, 0)) {
		munmap(memory, size);
		return NULL;
	}
	return memory;
}

void numa_free(void *memory, size_t size)
{
	munmap(memory, size);
}
