/*
 * header_text.c
 *		Headers as text.
 *
 * The extension takes the headers of a request as a JSON object, and answers with
 * another one.  We write ASCII only, and read what the extension writes: an
 * object whose members are strings of visible ASCII and spaces.
 */
#include "header_text.h"

#include <string.h>
#include <strings.h>

/* Is all of it visible ASCII? */
bool
oa_is_visible(OaText text)
{
	for (size_t i = 0; i < text.length; i++)
		if (text.data[i] < '!' || text.data[i] > '~')
			return false;
	return true;
}

/* Is there a control character in it that no header may have? */
bool
oa_has_control(OaText text)
{
	for (size_t i = 0; i < text.length; i++)
	{
		unsigned char c = (unsigned char) text.data[i];

		if ((c < ' ' && c != '\t') || c == 0x7f)
			return true;
	}
	return false;
}

/*
 * What we ask with in the place of an Authorization header.  One that is not ASCII,
 * or longer than any that is good, is replaced by another that is as bad, for not
 * every byte can be in a text of the database.
 */
OaText
oa_plain_credential(OaText value)
{
	static const char bearer[] = "Bearer ";
	const size_t length = sizeof(bearer) - 1;
	bool		is_plain = value.length <= OA_CREDENTIAL_MAX + length;

	for (size_t i = 0; is_plain && i < value.length; i++)
		is_plain = value.data[i] == '\t' ||
			(value.data[i] >= ' ' && value.data[i] <= '~');
	if (is_plain)
		return value;
	if (value.length > length && strncasecmp(value.data, bearer, length) == 0)
		return oa_text("Bearer ?", 8);
	return oa_text("?", 1);
}

/* Is there a comma in it, as where several headers have been joined? */
bool
oa_has_comma(OaText value)
{
	return value.length > 0 && memchr(value.data, ',', value.length) != NULL;
}

static bool
is_separator(char c)
{
	return c == '-' || c == '_';
}

/* Does a text begin with another one, in any case, where _ counts as -? */
static bool
begins_with(OaText text, OaText start)
{
	if (text.length < start.length)
		return false;
	for (size_t i = 0; i < start.length; i++)
	{
		if (is_separator(start.data[i]) ? !is_separator(text.data[i]) :
			strncasecmp(text.data + i, start.data + i, 1) != 0)
			return false;
	}
	return true;
}

/* Are two names of headers the same to a program that takes _ for -? */
bool
oa_are_same_name(OaText one, OaText other)
{
	return one.length == other.length && begins_with(one, other);
}

/* Is it the name of a header with a credential? */
bool
oa_is_credential(OaText name)
{
	static const char authorization[] = "authorization";
	static const char moved[] = "x-overten-authorization";

	return oa_are_same_name(name, oa_text(authorization,
										  sizeof(authorization) - 1)) ||
		oa_are_same_name(name, oa_text(moved, sizeof(moved) - 1));
}

/*
 * Is it a header that only we may send to a service, or that the service must not
 * see?  Some programs take _ in names for -.
 */
bool
oa_is_ours(OaText name)
{
	static const char ours[] = "x-overten-";

	return oa_is_credential(name) ||
		begins_with(name, oa_text(ours, sizeof(ours) - 1));
}

/* Write a JSON string of ASCII.  Returns where it ends. */
char	   *
oa_put_string(char *to, OaText text)
{
	*to++ = '"';
	for (size_t i = 0; i < text.length; i++)
	{
		if (text.data[i] == '"' || text.data[i] == '\\')
			*to++ = '\\';
		*to++ = text.data[i] == '\t' ? ' ' : text.data[i];
	}
	*to++ = '"';
	return to;
}

static void
skip_spaces(OaHeaderReader *reader)
{
	while (reader->at < reader->end &&
		   (*reader->at == ' ' || *reader->at == '\n'))
		reader->at++;
}

/* Skip a character and spaces around it.  Returns false if another one is there. */
static bool
skip(OaHeaderReader *reader, char c)
{
	skip_spaces(reader);
	if (reader->at == reader->end || *reader->at != c)
		return false;
	reader->at++;
	skip_spaces(reader);
	return true;
}

/* Read a string, which becomes shorter where it is, if it has escapes. */
static bool
read_string(OaHeaderReader *reader, OaText *string)
{
	char	   *to;

	if (reader->at == reader->end || *reader->at != '"')
		return false;
	to = ++reader->at;
	string->data = to;
	for (; reader->at < reader->end && *reader->at != '"'; reader->at++)
	{
		if (*reader->at == '\\' &&
			(++reader->at == reader->end || strchr("\"\\/", *reader->at) == NULL))
			return false;
		if (*reader->at < ' ' || *reader->at > '~')
			return false;
		*to++ = *reader->at;
	}
	if (reader->at == reader->end)
		return false;
	reader->at++;
	string->length = (size_t) (to - string->data);
	return true;
}

/* Read the next header of an object. */
OaReading
oa_next_header(OaHeaderReader *reader, OaText *name, OaText *value)
{
	if (!reader->begun && !skip(reader, '{'))
		return OA_NOT_HEADERS;
	if (skip(reader, '}'))
		return reader->at == reader->end ? OA_NO_MORE_HEADERS : OA_NOT_HEADERS;
	if (reader->begun && !skip(reader, ','))
		return OA_NOT_HEADERS;
	reader->begun = true;
	if (read_string(reader, name) && name->length > 0 && skip(reader, ':') &&
		read_string(reader, value))
		return OA_HEADER;
	return OA_NOT_HEADERS;
}
