// SPDX-License-Identifier: GPL-2.0-only
/*
 * All of the engine as one translation unit, as kernel/sched/ is built. Its files call each other a
 * lot; seen together, and with nothing but what the kernel calls (__visible) called from outside,
 * they come to a seventh less code.
 */
#include "slots.c"
#include "items.c"
#include "tree.c"
#include "stable.c"
#include "unstable.c"
#include "merge.c"
#include "unmerge.c"
#include "rmap.c"
#include "hash.c"
#include "track.c"
#include "regions.c"
#include "gather.c"
#include "advisor.c"
#ifdef CONFIG_MEMCG
#include "domain.c"
#endif
#ifdef CONFIG_SYSFS
#include "sysfs.c"
#endif
#include "ksmd.c"	/* last: it makes the tracepoints that others use */
