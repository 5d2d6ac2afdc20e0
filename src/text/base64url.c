/*
 * base64url.c
 *		The outer form of a token: three segments of canonical base64url.
 *
 * We check this form before any other code sees the token.  Above all it
 * protects libjwt, which skips any character that it does not know, at any
 * position, and copies whole segments onto the stack.  Here a token has
 * exactly one spelling, so nobody can derive a second text from it that we
 * accept too.
 *
 * Nothing in this file allocates or raises: test/fuzz runs it by itself.
 */
#include "postgres.h"

#include "text/text.h"

/* RFC 4648 section 5 */
static const char alphabet[] =
"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

#define NOT_BASE64URL	0xff
#define BAD_GROUP		0xff000000	/* above the 24 bits of a group */

/*
 * Decode canonical base64url.  Returns the number of bytes, at most
 * OA_BASE64URL_DECODED(length), or -1 if the text is not canonical: if it has
 * padding, white space or another foreign character (RFC 7515 section 2), a
 * length that no number of bytes encodes to, or unused bits that are set (RFC
 * 4648 section 3.5).
 */
int
oa_base64url_decode(const char *encoded, int length, unsigned char *bytes)
{
	static uint8 values[256];
	static uint32 shifted[4][256];	/* values, shifted to their place in a
									 * group */
	static bool prepared = false;
	const unsigned char *in = (const unsigned char *) encoded;
	unsigned char *out = bytes;
	uint32		bits = 0;
	uint32		bad = 0;
	int			i;

	if (!prepared)
	{
		memset(values, NOT_BASE64URL, sizeof(values));
		for (int value = 0; value < 64; value++)
			values[(unsigned char) alphabet[value]] = value;
		for (int c = 0; c < 256; c++)
			for (int place = 0; place < 4; place++)
				shifted[place][c] = values[c] == NOT_BASE64URL ?
					BAD_GROUP : values[c] << (18 - 6 * place);
		prepared = true;
	}

	for (i = 0; i + 4 <= length; i += 4)
	{
		uint32		group = shifted[0][in[i]] | shifted[1][in[i + 1]] |
		shifted[2][in[i + 2]] | shifted[3][in[i + 3]];

		bad |= group;
		*out++ = group >> 16;
		*out++ = group >> 8;
		*out++ = group;
	}
	if (bad & BAD_GROUP)
		return -1;

	for (int j = i; j < length; j++)
	{
		if (values[in[j]] == NOT_BASE64URL)
			return -1;
		bits = bits << 6 | values[in[j]];
	}

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
 * Encode as base64url without padding.  Returns the number of characters, at
 * most OA_BASE64URL_ENCODED(length); adds no NUL.
 */
int
oa_base64url_encode(const unsigned char *bytes, int length, char *encoded)
{
	char	   *out = encoded;

	for (int i = 0; i < length; i += 3)
	{
		int			have = Min(length - i, 3);
		uint32		group = bytes[i] << 16;

		if (have > 1)
			group |= bytes[i + 1] << 8;
		if (have > 2)
			group |= bytes[i + 2];
		for (int j = 0; j <= have; j++)
			*out++ = alphabet[group >> (18 - 6 * j) & 63];
	}
	return out - encoded;
}

/*
 * Find the three segments of a token in compact serialization (RFC 7515
 * section 7.1).  Returns false unless there are exactly three.  Only the last
 * one may be empty, as it is in an unsigned token.  This function does not
 * look at the characters of a segment; oa_base64url_decode() checks them.
 */
bool
oa_split_token(const char *token, int length, OaTokenSegment *segments)
{
	int			start = 0;

	for (int i = 0; i < OA_TOKEN_SEGMENTS; i++)
	{
		const char *dot = memchr(token + start, '.', length - start);
		int			end = dot ? dot - token : length;
		bool		last = i == OA_TOKEN_SEGMENTS - 1;

		if ((end == start && !last) || (dot == NULL) != last)
			return false;
		segments[i].start = token + start;
		segments[i].length = end - start;
		start = end + 1;
	}
	return true;
}
