/*
 * token_text.c
 *		The outer form of a token: three segments of canonical base64url.
 *
 * This stands before everything else that looks at a token, libjwt above all:
 * that skips any character it does not know, wherever it stands, and copies
 * whole segments onto the stack.  A token has exactly one spelling here, so
 * nobody can make another text of it that is accepted too.
 *
 * Nothing in this file allocates or raises: test/fuzz runs it by itself.
 */
#include "postgres.h"

#include "overten_auth.h"

#define NOT_BASE64URL 0xff

/* The value of a character, RFC 4648 section 5, or NOT_BASE64URL. */
static uint8
character_value(unsigned char c)
{
	if (c >= 'A' && c <= 'Z')
		return c - 'A';
	if (c >= 'a' && c <= 'z')
		return c - 'a' + 26;
	if (c >= '0' && c <= '9')
		return c - '0' + 52;
	if (c == '-')
		return 62;
	if (c == '_')
		return 63;
	return NOT_BASE64URL;
}

/*
 * Decode canonical base64url.  Returns the number of bytes, at most
 * OA_BASE64URL_DECODED(length), or -1 if the text is not in that form:
 * padding, white space, another character (RFC 7515 section 2), a length that
 * no number of bytes has, or bits set that belong to no byte (RFC 4648
 * section 3.5).
 */
int
oa_base64url_decode(const char *text, int length, unsigned char *bytes)
{
	static uint8 values[256];
	static bool prepared = false;
	unsigned char *out = bytes;
	uint32		bits = 0;
	uint8		bad = 0;
	int			i;

	if (!prepared)
	{
		for (int c = 0; c < 256; c++)
			values[c] = character_value(c);
		prepared = true;
	}

	/* A value has 6 bits, so whatever is not one shows in the top two. */
	for (i = 0; i + 4 <= length; i += 4)
	{
		uint8		a = values[(unsigned char) text[i]];
		uint8		b = values[(unsigned char) text[i + 1]];
		uint8		c = values[(unsigned char) text[i + 2]];
		uint8		d = values[(unsigned char) text[i + 3]];

		bad |= a | b | c | d;
		*out++ = a << 2 | b >> 4;
		*out++ = b << 4 | c >> 2;
		*out++ = c << 6 | d;
	}

	for (int j = i; j < length; j++)
	{
		bad |= values[(unsigned char) text[j]];
		bits = bits << 6 | values[(unsigned char) text[j]];
	}
	if (bad & 0xc0)
		return -1;

	switch (length - i)
	{
		case 0:
			break;
		case 2:
			if (bits & 0x0f)
				return -1;
			*out++ = bits >> 4;
			break;
		case 3:
			if (bits & 0x03)
				return -1;
			*out++ = bits >> 10;
			*out++ = bits >> 2;
			break;
		default:
			return -1;
	}
	return out - bytes;
}

/*
 * Find the three segments of a token in compact serialization, RFC 7515
 * section 7.1.  False unless there are exactly three and none is empty; what
 * they are made of is for oa_base64url_decode() to say.
 */
bool
oa_split_token(const char *token, int length, OaTokenSegment *segments)
{
	int			start = 0;

	for (int i = 0; i < OA_TOKEN_SEGMENTS; i++)
	{
		const char *dot = memchr(token + start, '.', length - start);
		int			end = dot ? dot - token : length;

		if (end == start || (dot == NULL) != (i == OA_TOKEN_SEGMENTS - 1))
			return false;
		segments[i].text = token + start;
		segments[i].length = end - start;
		start = end + 1;
	}
	return true;
}
