/* SPDX-License-Identifier: Apache-2.0 */
/*
 * An area: private memory of which it is known, page by page, what must be in it.
 *
 * A page's content follows from its key. The low byte of the key is the page's last word, the rest
 * decides all other words, and key 0 is a page of zeros: contents that are equal, that differ only
 * at the very end, and that differ at once all come up. One word may be written on top.
 */
#ifndef AREA_H
#define AREA_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common.h"

struct page_state {
	uint64_t key;
	uint64_t value;	 /* what was written on top */
	uint16_t word;	 /* and where */
	bool patched;
	bool maybe_zero; /* after MADV_FREE: as before, or zeros */
};

struct area {
	uint64_t *start;
	size_t pages;
	struct page_state *states;
};

/* Map a zero area that starts on a multiple of 2 MiB. Dies when there is no memory. */
void area_make(struct area *area, size_t pages);

/* Map some pages anew, or mark that something else made zeros of them. */
void area_remap(struct area *area, size_t first, size_t count);
void area_zeroed(struct area *area, size_t first, size_t count);

uint64_t *area_page(const struct area *area, size_t page);

/* What must be in the page; of two possibilities, the one before MADV_FREE. */
void area_expected(const struct area *area, size_t page, uint64_t words[static WORDS_PER_PAGE]);

/* Write to a page and remember it. A second patch elsewhere in a page replaces its content. */
void area_write(struct area *area, size_t page, uint64_t key);
void area_patch(struct area *area, size_t page, uint16_t word, uint64_t value);

/* Remember what was written to a page by other means than the two above. */
void area_note(struct area *area, size_t page, uint64_t key);

/* Compare pages with what must be there. At the first wrong byte say which, and die. */
void area_check(const struct area *area, size_t first, size_t count);

/* The words of a key's page. */
void key_content(uint64_t key, uint64_t words[static WORDS_PER_PAGE]);

#endif
