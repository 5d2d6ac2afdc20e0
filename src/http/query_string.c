/*
 * query_string.c
 *		Reads the parameters of a request's query string.
 *
 * We percent-decode names and values (RFC 3986 section 2.1).  A plus sign
 * stays a plus sign, because this is not a form, and the offset of a time has
 * one.  We ignore all parameters that no endpoint asks for.  A parameter that
 * an endpoint asks for must appear only once, and must be decodable.
 *
 * Nothing in this file allocates or raises: test/fuzz runs it by itself.
 */
#include "postgres.h"

#include "http/http.h"

/* Return the value of a hexadecimal digit, or -1. */
static int
hex_digit(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	c |= 0x20;
	return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/*
 * Decode one character, and advance *at behind it.  Returns 0 at the end, and
 * -1 if the character is a NUL or cannot be decoded.
 */
static int
next_character(const char **at, const char *end)
{
	int			high;
	int			low;

	if (*at == end)
		return 0;
	if (**at != '%')
		return (unsigned char) *(*at)++;
	if (end - *at < 3)
		return -1;
	high = hex_digit((*at)[1]);
	low = hex_digit((*at)[2]);
	if (high < 0 || low < 0 || (high | low) == 0)
		return -1;
	*at += 3;
	return high << 4 | low;
}

/* Does a name decode to this text? */
static bool
decodes_to(const char *name, const char *end, const char *expected)
{
	for (;;)
	{
		int			c = next_character(&name, end);

		if (c != (unsigned char) *expected++)
			return false;
		if (c == 0)
			return true;
	}
}

/*
 * Decode a value, and add a NUL.  Returns false if it cannot be decoded.  The
 * value is not longer than what is encoded.
 */
bool
oa_percent_decode(const char *encoded, const char *end, char *value)
{
	int			c;

	while ((c = next_character(&encoded, end)) > 0)
		*value++ = (char) c;
	*value = '\0';
	return c == 0;
}

/* Does a query contain only printable ASCII, as every URI does? */
static bool
is_printable(const char *query)
{
	for (; *query != '\0'; query++)
	{
		if (*query <= ' ' || *query > '~')
			return false;
	}
	return true;
}

/*
 * Find a parameter and decode its value.  The value is not longer than the
 * query.  If the query contains a character that no URI may contain, we refuse
 * it, because the parameter could be hidden in it in any form.
 */
OaQueryResult
oa_query_parameter(const char *query, const char *name, char *value)
{
	OaQueryResult result = OA_QUERY_ABSENT;

	if (!is_printable(query))
		return OA_QUERY_NOT_PRINTABLE;

	for (;;)
	{
		const char *end = query + strcspn(query, "&");
		const char *equals = memchr(query, '=', end - query);
		const char *name_end = equals != NULL ? equals : end;

		if (decodes_to(query, name_end, name))
		{
			if (result != OA_QUERY_ABSENT)
				return OA_QUERY_TWICE;
			if (!oa_percent_decode(equals != NULL ? equals + 1 : end, end, value))
				return OA_QUERY_NOT_DECODABLE;
			result = OA_QUERY_FOUND;
		}
		if (*end == '\0')
			return result;
		query = end + 1;
	}
}
