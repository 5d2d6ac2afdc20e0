/*
 * json_string.c
 *		Checks JSON strings, and reads them.
 *
 * A string must be valid UTF-8 (RFC 3629).  It must not contain control
 * characters, lone surrogates, or NUL, not even as an escape sequence.  Escape
 * sequences are those of RFC 8259 section 7.  A node's string is a value or a
 * member's name.  The functions that read one require that
 * oa_json_skip_string() has accepted it.
 *
 * Nothing in this file allocates or raises: test/fuzz runs it by itself.
 */
#include "postgres.h"

#include "text/text.h"

/* A word whose bytes all have this value. */
#define EVERY_BYTE(value)	(~UINT64CONST(0) / 0xff * (value))

/*
 * Are eight bytes ASCII that stands for itself in a string?  A subtraction sets
 * the highest bit of an ASCII character that is less than what is subtracted,
 * and of another one only by a borrow from one that is.  A byte outside ASCII
 * has that bit, and one of the subtractions leaves it.
 */
static inline bool
are_plain(const char *bytes)
{
	uint64		word;

	memcpy(&word, bytes, sizeof(word));
	return (((word - EVERY_BYTE(' ')) |
			 ((word ^ EVERY_BYTE('"')) - EVERY_BYTE(1)) |
			 ((word ^ EVERY_BYTE('\\')) - EVERY_BYTE(1))) &
			EVERY_BYTE(0x80)) == 0;
}

/*
 * Return how many bytes of a text, from its first one on, stand for themselves
 * in a string: no control characters, quotation marks or backslashes, and, if
 * "ascii" is set, nothing but ASCII.  Most texts have nothing else, so we
 * test eight bytes at a time first.
 */
int
oa_json_plain_length(const char *bytes, int length, bool ascii)
{
	int			at = 0;

	while (length - at >= (int) sizeof(uint64) && are_plain(bytes + at))
		at += sizeof(uint64);
	while (at < length)
	{
		unsigned char c = bytes[at];

		if (c < ' ' || c == '"' || c == '\\' || (ascii && c >= 0x80))
			break;
		at++;
	}
	return at;
}

/*
 * Return the length of the UTF-8 character here, which is not ASCII, or 0 if
 * it is not well-formed (RFC 3629).
 */
int
oa_utf8_length(const unsigned char *at, const unsigned char *end)
{
	static const struct
	{
		unsigned char first,
					last,		/* range of the first byte */
					low,
					high;		/* range of the second byte */
		int			length;
	}			forms[] = {
		{0xc2, 0xdf, 0x80, 0xbf, 2},
		{0xe0, 0xe0, 0xa0, 0xbf, 3},	/* no overlong forms */
		{0xe1, 0xec, 0x80, 0xbf, 3},
		{0xed, 0xed, 0x80, 0x9f, 3},	/* no surrogates */
		{0xee, 0xef, 0x80, 0xbf, 3},
		{0xf0, 0xf0, 0x90, 0xbf, 4},
		{0xf1, 0xf3, 0x80, 0xbf, 4},
		{0xf4, 0xf4, 0x80, 0x8f, 4},	/* up to U+10FFFF */
	};

	for (int i = 0; i < lengthof(forms); i++)
	{
		if (*at < forms[i].first || *at > forms[i].last)
			continue;
		if (end - at < forms[i].length ||
			at[1] < forms[i].low || at[1] > forms[i].high)
			return 0;
		for (int j = 2; j < forms[i].length; j++)
			if ((at[j] & 0xc0) != 0x80)
				return 0;
		return forms[i].length;
	}
	return 0;
}

/* Read four hexadecimal digits.  Returns -1 if there are not four. */
static int
read_hex(const unsigned char *at, const unsigned char *end)
{
	int			value = 0;

	if (end - at < 4)
		return -1;
	for (int i = 0; i < 4; i++)
	{
		unsigned char c = at[i];

		value <<= 4;
		if (c >= '0' && c <= '9')
			value |= c - '0';
		else if (c >= 'a' && c <= 'f')
			value |= c - 'a' + 10;
		else if (c >= 'A' && c <= 'F')
			value |= c - 'A' + 10;
		else
			return -1;
	}
	return value;
}

/*
 * Read the escape sequence after a backslash into *character.  Returns its
 * length, or 0 if the sequence is not allowed.
 */
static int
read_escape(const unsigned char *at, const unsigned char *end,
			uint32 *character)
{
	static const char from[] = "\"\\/bfnrt";
	static const char to[] = "\"\\/\b\f\n\r\t";
	const char *found;
	int			high;
	int			low;

	if (at == end || *at == '\0')
		return 0;
	if (*at != 'u')
	{
		found = strchr(from, *at);
		if (found == NULL)
			return 0;
		*character = (unsigned char) to[found - from];
		return 1;
	}

	high = read_hex(at + 1, end);
	if (high <= 0 || (high >= 0xdc00 && high <= 0xdfff))
		return 0;
	*character = high;
	if (high < 0xd800 || high > 0xdbff)
		return 5;

	if (end - at < 11 || at[5] != '\\' || at[6] != 'u')
		return 0;
	low = read_hex(at + 7, end);
	if (low < 0xdc00 || low > 0xdfff)
		return 0;
	*character = 0x10000 + ((high - 0xd800) << 10) + (low - 0xdc00);
	return 11;
}

/*
 * Move from the first byte of a string to its closing quotation mark, and set
 * *escaped if the string has escape sequences.  *end must be a NUL.  Returns
 * NULL, or a sentence that states the broken rule.
 */
const char *
oa_json_skip_string(const unsigned char **at, const unsigned char *end,
					bool *escaped)
{
	const unsigned char *byte = *at;

	*escaped = false;
	for (;;)
	{
		uint32		character;
		int			length;

		byte += oa_json_plain_length((const char *) byte, (int) (end - byte),
									 true);
		if (*byte == '"')
			break;
		if (*byte < 0x20)
			return "A string has a control character or no end.";
		else if (*byte == '\\')
		{
			length = read_escape(byte + 1, end, &character);
			if (length == 0)
				return "A string has an escape sequence that is not allowed.";
			length++;
			*escaped = true;
		}
		else
		{
			length = oa_utf8_length(byte, end);
			if (length == 0)
				return "The JSON is not valid UTF-8.";
		}
		byte += length;
	}
	*at = byte;
	return NULL;
}

/* Write a character as UTF-8.  Returns the number of bytes. */
static int
write_utf8(uint32 c, unsigned char *out)
{
	if (c < 0x80)
	{
		out[0] = c;
		return 1;
	}
	if (c < 0x800)
	{
		out[0] = 0xc0 | c >> 6;
		out[1] = 0x80 | (c & 0x3f);
		return 2;
	}
	if (c < 0x10000)
	{
		out[0] = 0xe0 | c >> 12;
		out[1] = 0x80 | (c >> 6 & 0x3f);
		out[2] = 0x80 | (c & 0x3f);
		return 3;
	}
	out[0] = 0xf0 | c >> 18;
	out[1] = 0x80 | (c >> 12 & 0x3f);
	out[2] = 0x80 | (c >> 6 & 0x3f);
	out[3] = 0x80 | (c & 0x3f);
	return 4;
}

/* Reads a checked string byte by byte, and resolves escape sequences. */
typedef struct StringReader
{
	const unsigned char *at;
	const unsigned char *end;
	unsigned char bytes[4];		/* UTF-8 of the current character */
	int			have;
	int			used;
} StringReader;

static StringReader
open_string(const char *json, const OaJsonNode *node)
{
	StringReader reader;

	reader.at = (const unsigned char *) json + node->start;
	reader.end = reader.at + node->length;
	reader.have = reader.used = 0;
	return reader;
}

/* Return the next byte, or -1 at the end. */
static int
next_byte(StringReader *reader)
{
	uint32		character = 0;

	if (reader->used < reader->have)
		return reader->bytes[reader->used++];
	if (reader->at == reader->end)
		return -1;
	if (*reader->at != '\\')
		return *reader->at++;

	reader->at += 1 + read_escape(reader->at + 1, reader->end, &character);
	reader->have = write_utf8(character, reader->bytes);
	reader->used = 1;
	return reader->bytes[0];
}

/*
 * Write the characters of a string or a name as UTF-8.  Returns the number of
 * bytes, which is at most the node's length.  Adds no NUL.
 */
int
oa_json_unescape(const char *json, const OaJsonNode *node, char *out)
{
	StringReader reader;
	char	   *to = out;
	int			byte;

	if (!node->escaped)
	{
		memcpy(out, json + node->start, node->length);
		return node->length;
	}
	reader = open_string(json, node);
	while ((byte = next_byte(&reader)) >= 0)
		*to++ = byte;
	return to - out;
}

/* Hash a string (FNV-1a), with its escape sequences resolved. */
uint32
oa_json_hash(const char *json, const OaJsonNode *node)
{
	StringReader reader;
	uint32		hash = 2166136261U;
	int			byte;

	if (!node->escaped)
	{
		for (int i = 0; i < node->length; i++)
			hash = (hash ^ (unsigned char) json[node->start + i]) * 16777619U;
		return hash;
	}
	reader = open_string(json, node);
	while ((byte = next_byte(&reader)) >= 0)
		hash = (hash ^ byte) * 16777619U;
	return hash;
}

/* Are two strings equal, with their escape sequences resolved? */
bool
oa_json_same(const char *json, const OaJsonNode *a, const OaJsonNode *b)
{
	StringReader a_reader = open_string(json, a);
	StringReader b_reader = open_string(json, b);
	int			byte;

	do
	{
		byte = next_byte(&a_reader);
		if (byte != next_byte(&b_reader))
			return false;
	} while (byte >= 0);
	return true;
}

/* Is this node a string or a name, and equal to "expected"? */
bool
oa_json_equals(const char *json, const OaJsonNode *node, const char *expected)
{
	StringReader reader;
	int			byte;

	if (node->type != OA_JSON_STRING)
		return false;
	if (!node->escaped)
		return strncmp(json + node->start, expected, node->length) == 0 &&
			expected[node->length] == '\0';

	reader = open_string(json, node);
	while ((byte = next_byte(&reader)) >= 0)
		if (byte != (unsigned char) *expected++)
			return false;
	return *expected == '\0';
}
