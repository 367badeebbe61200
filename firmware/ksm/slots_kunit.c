// SPDX-License-Identifier: GPL-2.0-only
/*
 * Tests of slots.c: where in the ring a process gets its place, where the cursor stands after it
 * moved, and who frees the slot of a process that ended.
 */
#include "kunit.h"

#define KSM_TEST_PROCESSES	5

/* Processes are called a, b, c ... */
struct ksm_test_ring {
	struct kunit *test;
	struct mm_struct *mms[KSM_TEST_PROCESSES];
};

static struct mm_struct *ksm_test_of(struct ksm_test_ring *ring, char name)
{
	return ring->mms[name - 'a'];
}

static void ksm_test_enter(struct ksm_test_ring *ring, char name)
{
	KUNIT_ASSERT_EQ(ring->test, __ksm_enter(ksm_test_of(ring, name)), 0);
}

/* The slot of a process, NULL if it has none. */
static struct ksm_slot *ksm_test_slot_of(struct ksm_test_ring *ring, char name)
{
	struct ksm_slot *slot;

	list_for_each_entry(slot, &ksm_head.slot.mm_node, slot.mm_node)
		if (slot->slot.mm == ksm_test_of(ring, name))
			return slot;
	return NULL;
}

/* A ring of @names, the cursor at one of them, or between two passes if @cursor is a space. */
static struct ksm_test_ring *ksm_test_ring(struct kunit *test, const char *names, char cursor)
{
	struct ksm_test_ring *ring = kunit_kzalloc(test, sizeof(*ring), GFP_KERNEL);
	unsigned int i;

	KUNIT_ASSERT_NOT_NULL(test, ring);
	KUNIT_ASSERT_TRUE(test, list_empty(&ksm_head.slot.mm_node));
	ring->test = test;
	for (i = 0; i < KSM_TEST_PROCESSES; i++)
		ring->mms[i] = ksm_test_mm(test);
	for (; *names; names++)
		ksm_test_enter(ring, *names);
	if (cursor != ' ')
		ksm_cursor.slot = ksm_test_slot_of(ring, cursor);
	return ring;
}

static void ksm_test_next(struct ksm_slot *slot, bool leave)
{
	mmap_read_lock(slot->slot.mm);
	ksm_slot_next(slot, leave);
}

/* Everybody leaves; nothing holds their processes any more. */
static void ksm_test_ring_end(struct ksm_test_ring *ring)
{
	struct ksm_slot *slot, *next;
	unsigned int i;

	list_for_each_entry_safe(slot, next, &ksm_head.slot.mm_node, slot.mm_node) {
		ksm_test_forget_all(slot);
		ksm_test_next(slot, true);
	}
	ksm_cursor.slot = &ksm_head;
	for (i = 0; i < KSM_TEST_PROCESSES; i++)
		KUNIT_EXPECT_EQ(ring->test, atomic_read(&ring->mms[i]->mm_count), 1);
}

/* The ring from its head on, the process under the cursor in brackets: "ab[c]d". */
static void ksm_test_expect_ring(struct ksm_test_ring *ring, const char *expected)
{
	char picture[KSM_TEST_PROCESSES + 3], *at = picture;
	struct ksm_slot *slot;
	char name;

	for (name = 'a'; name < 'a' + KSM_TEST_PROCESSES; name++)
		KUNIT_EXPECT_EQ(ring->test, !!ksm_test_slot_of(ring, name),
				mm_flags_test(MMF_VM_MERGEABLE, ksm_test_of(ring, name)));
	list_for_each_entry(slot, &ksm_head.slot.mm_node, slot.mm_node) {
		for (name = 'a'; ksm_test_of(ring, name) != slot->slot.mm;)
			name++;
		if (slot == ksm_cursor.slot)
			*at++ = '[';
		*at++ = name;
		if (slot == ksm_cursor.slot)
			*at++ = ']';
	}
	*at = '\0';
	KUNIT_EXPECT_STREQ(ring->test, picture, expected);
}

/* -- joining ----------------------------------------------------------------------------------- */

/* Just behind the cursor: the last one it comes to. */
static void ksm_test_join(struct kunit *test)
{
	struct ksm_test_ring *ring = ksm_test_ring(test, "abc", ' ');

	ksm_test_expect_ring(ring, "abc");
	ksm_cursor.slot = ksm_test_slot_of(ring, 'b');
	ksm_test_enter(ring, 'd');
	ksm_test_expect_ring(ring, "ad[b]c");
	KUNIT_EXPECT_EQ(test, atomic_read(&ksm_test_of(ring, 'd')->mm_count), 2);
	ksm_test_ring_end(ring);
}

/* While everything is taken apart the cursor must still come to whoever joins. */
static void ksm_test_join_unmerging(struct kunit *test)
{
	struct ksm_test_ring *ring = ksm_test_ring(test, "abc", 'b');
	unsigned long run = ksm_run;

	ksm_run = KSM_RUN_UNMERGE;
	ksm_test_enter(ring, 'd');
	ksm_run = run;
	ksm_test_expect_ring(ring, "a[b]cd");
	ksm_test_ring_end(ring);
}

/* -- the cursor -------------------------------------------------------------------------------- */

static void ksm_test_cursor(struct kunit *test)
{
	struct ksm_test_ring *ring = ksm_test_ring(test, "abc", 'a');

	ksm_cursor.address = 42 * PAGE_SIZE;
	ksm_cursor.areas = true;
	ksm_test_next(ksm_cursor.slot, false);
	ksm_test_expect_ring(ring, "a[b]c");
	KUNIT_EXPECT_EQ(test, ksm_cursor.address, 0);
	KUNIT_EXPECT_FALSE(test, ksm_cursor.areas);
	ksm_test_next(ksm_cursor.slot, true);
	ksm_test_expect_ring(ring, "a[c]");
	ksm_test_next(ksm_cursor.slot, false);
	ksm_test_expect_ring(ring, "ac");
	KUNIT_EXPECT_PTR_EQ(test, ksm_cursor.slot, &ksm_head);
	ksm_test_ring_end(ring);
}

/* -- leaving ----------------------------------------------------------------------------------- */

struct ksm_test_end {
	const char *name;
	char cursor;
	char ends;
	bool records;		/* the one that ends has some */
	const char *after;
};

/* Of processes a to d one ends. */
static const struct ksm_test_end ksm_test_ends[] = {
	{ "without records: gone at once",		'b', 'd', false, "a[b]c" },
	{ "without records, behind the cursor",		'b', 'a', false, "[b]cd" },
	{ "without records, between passes",		' ', 'a', false, "bcd" },
	{ "with records: the cursor's next",		'b', 'd', true, "a[b]dc" },
	{ "with records, behind the cursor",		'c', 'a', true, "b[c]ad" },
	{ "with records, between passes",		' ', 'c', true, "cabd" },
	{ "under the cursor: ksmd's affair",		'b', 'b', false, "a[b]cd" },
	{ "under the cursor with records: too",		'b', 'b', true, "a[b]cd" },
};

static void ksm_test_end_name(const struct ksm_test_end *end, char *name)
{
	strscpy(name, end->name, KUNIT_PARAM_DESC_SIZE);
}

KUNIT_ARRAY_PARAM(ksm_test_ends, ksm_test_ends, ksm_test_end_name);

static void ksm_test_exit_process(struct kunit *test)
{
	const struct ksm_test_end *end = test->param_value;
	struct ksm_test_ring *ring = ksm_test_ring(test, "abcd", end->cursor);

	if (end->records)
		ksm_test_item(test, ksm_test_slot_of(ring, end->ends), 3);
	atomic_set(&ksm_test_of(ring, end->ends)->mm_users, 0);
	__ksm_exit(ksm_test_of(ring, end->ends));
	ksm_test_expect_ring(ring, end->after);
	ksm_test_ring_end(ring);
}

/* An exec that fails: its new address space is in use, and locked for writing by who calls. */
static void ksm_test_exit_exec(struct kunit *test)
{
	struct ksm_test_ring *ring = ksm_test_ring(test, "abc", 'b');
	struct mm_struct *mm = ksm_test_of(ring, 'b');

	mmap_write_lock(mm);
	__ksm_exit(mm);
	mmap_write_unlock(mm);
	ksm_test_expect_ring(ring, "a[b]c");
	ksm_test_ring_end(ring);
}

/* A process that never took part, or whose slot has gone already. */
static void ksm_test_exit_stranger(struct kunit *test)
{
	struct ksm_test_ring *ring = ksm_test_ring(test, "ab", 'a');

	__ksm_exit(ksm_test_of(ring, 'c'));
	ksm_test_expect_ring(ring, "[a]b");
	ksm_test_ring_end(ring);
}

static struct kunit_case ksm_slots_cases[] = {
	KUNIT_CASE(ksm_test_join),
	KUNIT_CASE(ksm_test_join_unmerging),
	KUNIT_CASE(ksm_test_cursor),
	KUNIT_CASE_PARAM(ksm_test_exit_process, ksm_test_ends_gen_params),
	KUNIT_CASE(ksm_test_exit_exec),
	KUNIT_CASE(ksm_test_exit_stranger),
	{}
};

static struct kunit_suite ksm_slots_suite = {
	.name = "ksm-slots",
	.init = ksm_test_init,
	.exit = ksm_test_exit,
	.test_cases = ksm_slots_cases,
};
kunit_test_init_section_suites(&ksm_slots_suite);
