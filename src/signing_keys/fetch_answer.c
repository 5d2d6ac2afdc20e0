/*
 * fetch_answer.c
 *		Parses the HTTP answer in which signing keys come.
 *
 * The answer is what "curl --include" prints: a status line and header lines
 * as in HTTP/1.1, in whatever version the server answered, an empty line, and
 * the body.  Interim answers (1xx) may come first.
 *
 * Of the header we use only Cache-Control and Age.  If a header says something
 * twice, we take the value that expires first: fetching too often costs
 * little, but we accept a key that Google has withdrawn for as long as we
 * trust the answer.  For the same reason we ignore Expires and s-maxage, which
 * could only make that time longer.
 *
 * Nothing in this file uses the server's memory or raises; test/fuzz runs it
 * by itself.
 */
#include "postgres.h"

#include "signing_keys/fetch.h"

/*
 * Used if there is no max-age.  This is well below the five to seven hours
 * that Google says, and far below the days for which an old key and its
 * successor overlap.
 */
#define DEFAULT_MAX_AGE		3600

/* Larger than any limit, and twice this still fits in an int. */
#define SECONDS_MAX			1000000000

typedef struct Reader
{
	const char *bytes;
	int			length;
	int			at;				/* offset of the next byte */
} Reader;

typedef struct Span
{
	const char *bytes;
	int			length;
} Span;

typedef struct Freshness
{
	int			max_age;		/* seconds; -1 if the header does not say */
	int			age;
} Freshness;

static bool
is_digit(char c)
{
	return c >= '0' && c <= '9';
}

/* Is this a character of a token (RFC 9110 section 5.6.2)? */
static bool
is_token_character(char c)
{
	return is_digit(c) || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
		(c != '\0' && strchr("!#$%&'*+-.^_`|~", c) != NULL);
}

static bool
is_space(char c)
{
	return c == ' ' || c == '\t';
}

/* Are these equal, ignoring case? "name" must be in lower case. */
static bool
is_named(const Span *span, const char *name)
{
	int			i;

	for (i = 0; i < span->length && name[i] != '\0'; i++)
	{
		char		c = span->bytes[i];

		if (c >= 'A' && c <= 'Z')
			c += 'a' - 'A';
		if (c != name[i])
			return false;
	}
	return i == span->length && name[i] == '\0';
}

/*
 * Read a number of seconds, and clamp large ones.  Returns -1 if it is not a
 * number.
 */
static int
read_seconds(const Span *span)
{
	int			seconds = 0;

	if (span->length == 0)
		return -1;
	for (int i = 0; i < span->length; i++)
	{
		if (!is_digit(span->bytes[i]))
			return -1;
		seconds = Min(seconds * INT64CONST(10) + (span->bytes[i] - '0'),
					  SECONDS_MAX);
	}
	return seconds;
}

/*
 * Return the next line of the header, without its end of line.  Returns false
 * if there is no further line.
 */
static bool
next_line(Reader *reader, Span *line)
{
	const char *start = reader->bytes + reader->at;
	int			room = Min(reader->length, OA_ANSWER_HEADER_MAX) - reader->at;
	const char *end = room > 0 ? memchr(start, '\n', room) : NULL;

	if (end == NULL)
		return false;
	reader->at += end - start + 1;
	if (end > start && end[-1] == '\r')
		end--;
	line->bytes = start;
	line->length = end - start;
	return true;
}

/*
 * Read the status from a status line (RFC 9112 section 4).  Returns 0 if this
 * is not a status line.
 */
static int
read_status(const Span *line)
{
	static const char protocol[] = "HTTP/";
	const char *at = line->bytes;
	const char *end = line->bytes + line->length;

	if (line->length < (int) strlen(protocol) ||
		memcmp(at, protocol, strlen(protocol)) != 0)
		return 0;
	at += strlen(protocol);

	/* curl writes "HTTP/2". */
	if (at == end || !is_digit(*at++))
		return 0;
	if (end - at >= 2 && at[0] == '.' && is_digit(at[1]))
		at += 2;
	if (end - at < 4 || at[0] != ' ' || at[1] < '1' || at[1] > '5' ||
		!is_digit(at[2]) || !is_digit(at[3]) || (end - at > 4 && at[4] != ' '))
		return 0;
	return (at[1] - '0') * 100 + (at[2] - '0') * 10 + (at[3] - '0');
}

/*
 * Read the value of a directive after its "=". *at then points behind the
 * value.
 */
static Span
read_argument(const char **at, const char *end)
{
	Span		argument = {*at, 0};
	char		quote = '\0';

	if (*at < end && **at == '"')
	{
		quote = *(*at)++;
		argument.bytes++;
	}
	while (*at < end && **at != (quote != '\0' ? quote : ','))
		(*at)++;
	argument.length = *at - argument.bytes;
	if (quote != '\0' && *at < end)
		(*at)++;
	while (quote == '\0' && argument.length > 0 &&
		   is_space(argument.bytes[argument.length - 1]))
		argument.length--;
	return argument;
}

/*
 * Apply a Cache-Control field (RFC 9111 section 5.2).  If we cannot read a
 * max-age, the answer counts as stale (section 4.2.1).
 */
static void
read_cache_control(const Span *value, Freshness *freshness)
{
	const char *at = value->bytes;
	const char *end = value->bytes + value->length;

	while (at < end)
	{
		Span		name = {at, 0};
		Span		argument = {at, 0};
		int			seconds = -1;

		while (at < end && is_token_character(*at))
			at++;
		name.length = at - name.bytes;
		if (at < end && *at == '=')
		{
			at++;
			argument = read_argument(&at, end);
		}
		if (is_named(&name, "no-store") || is_named(&name, "no-cache"))
			seconds = 0;
		else if (is_named(&name, "max-age"))
			seconds = Max(read_seconds(&argument), 0);
		if (seconds >= 0 &&
			(freshness->max_age < 0 || seconds < freshness->max_age))
			freshness->max_age = seconds;

		while (at < end && *at != ',')
			at++;
		while (at < end && (*at == ',' || is_space(*at)))
			at++;
	}
}

/*
 * Apply a header line.  Returns false if it is malformed.  We ignore an Age
 * that we cannot read (RFC 9111 section 5.1).
 */
static bool
read_field(const Span *line, Freshness *freshness)
{
	Span		name = {line->bytes, 0};
	Span		value;

	while (name.length < line->length &&
		   is_token_character(name.bytes[name.length]))
		name.length++;
	if (name.length == 0 || name.length == line->length ||
		name.bytes[name.length] != ':')
		return false;

	value.bytes = name.bytes + name.length + 1;
	value.length = line->length - name.length - 1;
	for (int i = 0; i < value.length; i++)
		if ((unsigned char) value.bytes[i] < ' ' && value.bytes[i] != '\t')
			return false;
	while (value.length > 0 && is_space(value.bytes[0]))
	{
		value.bytes++;
		value.length--;
	}
	while (value.length > 0 && is_space(value.bytes[value.length - 1]))
		value.length--;

	if (is_named(&name, "cache-control"))
		read_cache_control(&value, freshness);
	else if (is_named(&name, "age"))
		freshness->age = Max(freshness->age, read_seconds(&value));
	return true;
}

/* Read one header, up to and including its empty line. */
static const char *
read_header(Reader *reader, int *status, Freshness *freshness)
{
	Span		line;

	freshness->max_age = -1;
	freshness->age = 0;
	if (!next_line(reader, &line) || (*status = read_status(&line)) == 0)
		return "The output does not begin with an HTTP status line.";
	while (next_line(reader, &line))
	{
		if (line.length == 0)
			return NULL;
		if (!read_field(&line, freshness))
			return "A header line of the answer is malformed.";
	}
	return "The header of the answer does not end, or has more than 16 kB.";
}

/*
 * Read an answer up to its body.  On success, set *answer and return NULL.
 * Otherwise return a sentence that says what is wrong, and leave *answer
 * alone.
 */
const char *
oa_read_fetch_answer(const char *bytes, int length, OaFetchAnswer *answer)
{
	Reader		reader = {bytes, length, 0};
	Freshness	freshness;
	const char *problem;
	int			status;

	do
	{
		problem = read_header(&reader, &status, &freshness);
	} while (problem == NULL && status < 200);
	if (problem != NULL)
		return problem;

	if (freshness.max_age < 0)
		freshness.max_age = DEFAULT_MAX_AGE;
	answer->status = status;
	answer->body = reader.at;
	answer->max_age = Min(Max(freshness.max_age - freshness.age,
							  OA_MAX_AGE_LEAST), OA_MAX_AGE_MOST);
	return NULL;
}
