/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What the tests of the engine's parts share. They run while booting, one after another, before
 * the first process: ksmd sleeps and nobody else uses the engine, so they take none of its locks.
 */
#ifndef _MM_KSM_KUNIT_H
#define _MM_KSM_KUNIT_H

#include <kunit/test.h>
#include <linux/prandom.h>

#include "engine.h"

int ksm_test_init(struct kunit *test);
void ksm_test_exit(struct kunit *test);
struct mm_struct *ksm_test_mm(struct kunit *test);
struct ksm_slot *ksm_test_slot(struct kunit *test);
struct ksm_item *ksm_test_item(struct kunit *test, struct ksm_slot *slot, unsigned int page);
struct folio *ksm_test_folio(struct kunit *test);

/* KUnit's macros take no bit-fields. */
static inline enum ksm_state ksm_test_state(const struct ksm_item *item)
{
	return item->state;
}

static inline bool ksm_test_knows(const struct ksm_item *item)
{
	return item->known;
}

static inline void ksm_test_forget_all(struct ksm_slot *slot)
{
	ksm_items_forget(slot, 0, ULONG_MAX);
}

#endif /* _MM_KSM_KUNIT_H */
