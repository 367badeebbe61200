/* SPDX-License-Identifier: Apache-2.0 */
/* Put a request's map into the order its decoder expects; see pick.h. */
#include "pick.h"

#include <string.h>

#define DEPTH_MAX 6
#define INDEFINITE 31
#define BREAK 0xff

enum major { PINT, NINT, BSTR, TSTR, LIST, MAP, TAG, SIMPLE };

struct cursor {
	const uint8_t *at, *end;
};

struct item {
	enum major major;
	bool indefinite;
	uint64_t value;
};

static bool read_head(struct cursor *c, struct item *item)
{
	if (c->at == c->end)
		return false;
	uint8_t head = *c->at++, info = head & 0x1f;

	item->major = (enum major)(head >> 5);
	item->indefinite = info == INDEFINITE;
	item->value = info;
	if (item->indefinite)
		return item->major >= BSTR && item->major <= MAP;
	if (info < 24)
		return true;
	if (info > 27 || (size_t)(c->end - c->at) < (size_t)1 << (info - 24))
		return false;
	item->value = 0;
	for (size_t n = (size_t)1 << (info - 24); n; n--)
		item->value = item->value << 8 | *c->at++;
	return true;
}

static bool skip_item(struct cursor *c, int depth);

static bool skip_until_break(struct cursor *c, int depth)
{
	while (c->at < c->end) {
		if (*c->at == BREAK) {
			c->at++;
			return true;
		}
		if (!skip_item(c, depth))
			return false;
	}
	return false;
}

static bool skip_count(struct cursor *c, uint64_t count, int depth)
{
	if (count > (uint64_t)(c->end - c->at)) /* each item takes a byte at least */
		return false;
	while (count--)
		if (!skip_item(c, depth))
			return false;
	return true;
}

static bool skip_item(struct cursor *c, int depth)
{
	struct item item;

	if (depth == 0 || !read_head(c, &item))
		return false;
	if (item.indefinite)
		return skip_until_break(c, depth - 1);
	switch (item.major) {
	case BSTR:
	case TSTR:
		if (item.value > (uint64_t)(c->end - c->at))
			return false;
		c->at += item.value;
		return true;
	case LIST:
		return skip_count(c, item.value, depth - 1);
	case MAP:
		if (item.value > UINT32_MAX)
			return false;
		return skip_count(c, item.value * 2, depth - 1);
	case TAG:
		return skip_item(c, depth - 1);
	default:
		return true;
	}
}

static bool key_is(const uint8_t *item, const char *key, size_t key_len)
{
	/* Keys worth asking for are short: one byte of head, or two from 24 characters on. */
	return key_len < 24 && item[0] == (TSTR << 5 | key_len) &&
	       memcmp(item + 1, key, key_len) == 0;
}

/* Find a key's pair in the pairs of a map known to be well-formed. */
static bool find_pair(struct cursor pairs, const char *key, size_t key_len, struct cursor *pair)
{
	while (pairs.at < pairs.end && *pairs.at != BREAK) {
		struct cursor key_at = pairs;

		skip_item(&pairs, DEPTH_MAX);
		bool found = (size_t)(pairs.at - key_at.at) == key_len + 1 &&
			     key_is(key_at.at, key, key_len);
		skip_item(&pairs, DEPTH_MAX);
		if (found) {
			pair->at = key_at.at;
			pair->end = pairs.at;
			return true;
		}
	}
	return false;
}

static bool map_pairs(const uint8_t *in, size_t len, struct cursor *pairs)
{
	struct cursor whole = { in, in + len }, first = whole;
	struct item head;

	if (!skip_item(&whole, DEPTH_MAX) || whole.at != whole.end)
		return false;
	if (!read_head(&first, &head) || head.major != MAP)
		return false;
	*pairs = first;
	return true;
}

/* An indefinite map may end after a key, which is not well-formed. */
static bool pairs_even(struct cursor pairs)
{
	size_t items = 0;

	while (pairs.at < pairs.end && *pairs.at != BREAK) {
		if (!skip_item(&pairs, DEPTH_MAX))
			return false;
		items++;
	}
	return items % 2 == 0;
}

bool pick(const uint8_t *in, size_t len, const char *keys, uint8_t *out, size_t out_size,
	  size_t *out_len)
{
	struct cursor pairs = { in, in }, pair;
	size_t count = 0, n = 1;

	if (out_size == 0 || (len && (!map_pairs(in, len, &pairs) || !pairs_even(pairs))))
		return false;
	while (*keys) {
		size_t key_len = strcspn(keys, " ");

		if (find_pair(pairs, keys, key_len, &pair)) {
			size_t pair_len = (size_t)(pair.end - pair.at);

			if (pair_len > out_size - n)
				return false;
			memcpy(out + n, pair.at, pair_len);
			n += pair_len;
			count++;
		}
		keys += key_len;
		keys += strspn(keys, " ");
	}
	out[0] = (uint8_t)(MAP << 5 | count);
	*out_len = n;
	return true;
}
