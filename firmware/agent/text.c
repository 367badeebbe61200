/* SPDX-License-Identifier: Apache-2.0 */
/* Text made fit for the line and for CBOR; see text.h. */
#include "text.h"

void text_disarm(uint8_t *bytes, size_t len)
{
	for (size_t i = 0; i < len; i++)
		if (bytes[i] == 0x00 || bytes[i] == 0x02 || bytes[i] == 0x04 || bytes[i] == 0x06)
			bytes[i] = '.';
}

static size_t utf8_expected(uint8_t lead)
{
	if (lead < 0x80)
		return 1;
	if (lead >= 0xc2 && lead <= 0xdf)
		return 2;
	if (lead >= 0xe0 && lead <= 0xef)
		return 3;
	return lead >= 0xf0 && lead <= 0xf4 ? 4 : 0;
}

/* Length of the character at text, 0 when there is none: no overlong forms, no surrogates. */
static size_t utf8_length(const uint8_t *text, size_t len)
{
	size_t n = utf8_expected(text[0]);

	if (n == 0 || n > len)
		return 0;
	for (size_t i = 1; i < n; i++)
		if ((text[i] & 0xc0) != 0x80)
			return 0;
	if ((text[0] == 0xe0 && text[1] < 0xa0) || (text[0] == 0xed && text[1] > 0x9f) ||
	    (text[0] == 0xf0 && text[1] < 0x90) || (text[0] == 0xf4 && text[1] > 0x8f))
		return 0;
	return n;
}

void text_make_utf8(char *text, size_t len)
{
	uint8_t *bytes = (uint8_t *)text;

	for (size_t i = 0; i < len;) {
		size_t n = utf8_length(bytes + i, len - i);

		if (n == 0)
			bytes[i] = '?';
		i += n ? n : 1;
	}
}

bool text_is_utf8(const uint8_t *text, size_t len)
{
	for (size_t i = 0; i < len;) {
		size_t n = utf8_length(text + i, len - i);

		if (n == 0)
			return false;
		i += n;
	}
	return true;
}

size_t text_trimmed(const char *text, size_t len)
{
	while (len && (text[len - 1] == '\n' || text[len - 1] == '\r' || text[len - 1] == '\0'))
		len--;
	return len;
}
