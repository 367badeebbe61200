/* SPDX-License-Identifier: Apache-2.0 */
/* See area.h. */
#include "area.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define ALIGNMENT (2UL << 20)
#define LAST_WORD (WORDS_PER_PAGE - 1)

static void map_at(void *start, size_t bytes)
{
	void *mapped = mmap(start, bytes, PROT_READ | PROT_WRITE,
			    MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);

	if (mapped != start)
		die("mapping %zu bytes", bytes);
}

void area_make(struct area *area, size_t pages)
{
	size_t bytes = pages * 4096;
	uintptr_t room = (uintptr_t)mmap(NULL, bytes + ALIGNMENT, PROT_NONE,
					 MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (room == (uintptr_t)MAP_FAILED)
		die("reserving %zu bytes", bytes);
	area->start = (uint64_t *)((room + ALIGNMENT - 1) & ~(ALIGNMENT - 1));
	area->pages = pages;
	area->states = calloc(pages, sizeof(*area->states));
	if (!area->states)
		die("memory for %zu page states", pages);
	map_at(area->start, bytes);
}

uint64_t *area_page(const struct area *area, size_t page)
{
	return area->start + page * WORDS_PER_PAGE;
}

void area_zeroed(struct area *area, size_t first, size_t count)
{
	memset(area->states + first, 0, count * sizeof(*area->states));
}

void area_remap(struct area *area, size_t first, size_t count)
{
	map_at(area_page(area, first), count * 4096);
	area_zeroed(area, first, count);
}

void key_content(uint64_t key, uint64_t words[static WORDS_PER_PAGE])
{
	if (key)
		fill_page(words, key >> 8);
	else
		memset(words, 0, 4096);
	words[LAST_WORD] = key & 0xff;
}

void area_expected(const struct area *area, size_t page, uint64_t words[static WORDS_PER_PAGE])
{
	const struct page_state *state = &area->states[page];

	key_content(state->key, words);
	if (state->patched)
		words[state->word] = state->value;
}

void area_note(struct area *area, size_t page, uint64_t key)
{
	area->states[page] = (struct page_state){ .key = key };
}

void area_write(struct area *area, size_t page, uint64_t key)
{
	key_content(key, area_page(area, page));
	area_note(area, page, key);
}

void area_patch(struct area *area, size_t page, uint16_t word, uint64_t value)
{
	struct page_state *state = &area->states[page];

	if (state->maybe_zero || (state->patched && state->word != word))
		area_write(area, page, state->key);
	area_page(area, page)[word] = value;
	state->patched = true;
	state->word = word;
	state->value = value;
}

static bool is_zero(const uint64_t words[static WORDS_PER_PAGE])
{
	return !words[0] && !memcmp(words, words + 1, 4096 - sizeof(*words));
}

__attribute__((noreturn)) static void die_at(const struct area *area, size_t page,
					     const unsigned char *expected,
					     const unsigned char *found)
{
	const struct page_state *state = &area->states[page];
	size_t byte = 0, wrong = 0;

	while (byte < 4095 && expected[byte] == found[byte])
		byte++;
	for (size_t i = 0; i < 4096; i++)
		wrong += expected[i] != found[i];
	errno = 0;
	die("wrong byte in process %d at %p: expected %02x, got %02x; %zu bytes of the page are wrong, "
	    "key %llx%s%s",
	    getpid(), (const void *)((unsigned char *)area_page(area, page) + byte), expected[byte],
	    found[byte], wrong, (unsigned long long)state->key, state->patched ? ", patched" : "",
	    state->maybe_zero ? ", freed" : "");
}

/* The page is copied first: what is wrong shall not be right again by the time it is shown. */
static void check_page(const struct area *area, size_t page)
{
	uint64_t expected[WORDS_PER_PAGE], found[WORDS_PER_PAGE];

	memcpy(found, area_page(area, page), sizeof(found));
	area_expected(area, page, expected);
	if (!memcmp(expected, found, sizeof(found)))
		return;
	if (area->states[page].maybe_zero && is_zero(found))
		return;
	die_at(area, page, (unsigned char *)expected, (unsigned char *)found);
}

void area_check(const struct area *area, size_t first, size_t count)
{
	for (size_t page = first; page < first + count; page++)
		check_page(area, page);
}
