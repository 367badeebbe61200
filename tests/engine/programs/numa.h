/* SPDX-License-Identifier: Apache-2.0 */
/* As much of libnuma as the kernel's ksm_tests.c calls. */
#ifndef NUMA_H
#define NUMA_H

#include <stddef.h>

int numa_available(void);
int numa_max_node(void);
long long numa_node_size(int node, long long *free_bytes);
void *numa_alloc_onnode(size_t size, int node);
void numa_free(void *memory, size_t size);

#endif
