/*
 * response_json.c
 *		Writes the JSON of responses, one member at a time.
 *
 * Names are our own and need no escaping; texts of users do.  We write a comma
 * depending on what is before it: before a member unless the object has just
 * begun, and before an object if another one has ended there.
 */
#include "postgres.h"

#include "miscadmin.h"
#include "utils/timestamp.h"

#include "http/http.h"

/*
 * Begin an object, which may be in an array.  An array can be long, so we
 * check for interrupts here.
 */
void
oa_begin_object(StringInfo json)
{
	CHECK_FOR_INTERRUPTS();
	if (json->len > 0 && json->data[json->len - 1] == '}')
		appendStringInfoChar(json, ',');
	appendStringInfoChar(json, '{');
}

/* Make room for bytes and a NUL.  There nearly always is enough. */
static inline void
make_room(StringInfo json, int bytes)
{
	if (json->maxlen - json->len <= bytes)
		enlargeStringInfo(json, bytes);
}

/* Write a character that may not stand in a string as it is. */
static void
write_escaped(StringInfo json, char c)
{
	static const char characters[] = "\"\\\b\f\n\r\t";
	static const char letters[] = "\"\\bfnrt";
	const char *found = c != '\0' ? strchr(characters, c) : NULL;

	appendStringInfoChar(json, '\\');
	if (found != NULL)
		appendStringInfoChar(json, letters[found - characters]);
	else
		appendStringInfo(json, "u%04x", (unsigned char) c);
}

/*
 * Write a string in quotation marks, in the same way as escape_json().  Few
 * characters need an escape sequence, so we copy what is between them at once.
 */
void
oa_write_quoted(StringInfo json, const char *value, int length)
{
	const char *end = value + length;

	appendStringInfoCharMacro(json, '"');
	for (;;)
	{
		int			plain = oa_json_plain_length(value, (int) (end - value),
												 false);

		make_room(json, plain);
		memcpy(json->data + json->len, value, plain);
		json->len += plain;
		value += plain;
		if (value == end)
			break;
		write_escaped(json, *value++);
	}
	appendStringInfoCharMacro(json, '"');
}

/*
 * Write the name of a member.  The caller writes its value next.  A response
 * has many names, so we make room for all that is written here at once.
 */
void
oa_write_name(StringInfo json, const char *name)
{
	int			length = (int) strlen(name);
	char	   *at;

	make_room(json, length + 4);
	at = json->data + json->len;
	if (at[-1] != '{')
		*at++ = ',';
	*at++ = '"';
	memcpy(at, name, length);
	at += length;
	*at++ = '"';
	*at++ = ':';
	*at = '\0';
	json->len = (int) (at - json->data);
}

/* Write a string, or null for NULL. */
void
oa_write_string(StringInfo json, const char *name, const char *value)
{
	oa_write_name(json, name);
	if (value != NULL)
		oa_write_quoted(json, value, (int) strlen(value));
	else
		appendStringInfoString(json, "null");
}

void
oa_write_text(StringInfo json, const char *name, text *value)
{
	oa_write_name(json, name);
	if (value != NULL)
		oa_write_quoted(json, VARDATA_ANY(value), VARSIZE_ANY_EXHDR(value));
	else
		appendStringInfoString(json, "null");
}

void
oa_write_integer(StringInfo json, const char *name, int64 value)
{
	oa_write_name(json, name);
	appendStringInfo(json, INT64_FORMAT, value);
}

void
oa_write_boolean(StringInfo json, const char *name, bool value)
{
	oa_write_name(json, name);
	appendStringInfoString(json, value ? "true" : "false");
}

/* Write a time, as 2026-04-17T11:20:00Z. */
void
oa_write_time(StringInfo json, const char *name, TimestampTz time, bool isnull)
{
	struct pg_tm tm;
	fsec_t		fraction;

	oa_write_name(json, name);
	if (isnull)
		appendStringInfoString(json, "null");
	else if (timestamp2tm(time, NULL, &tm, &fraction, NULL, NULL) == 0)
		appendStringInfo(json, "\"%04d-%02d-%02dT%02d:%02d:%02dZ\"",
						 tm.tm_year, tm.tm_mon, tm.tm_mday,
						 tm.tm_hour, tm.tm_min, tm.tm_sec);
	else
		ereport(ERROR,
				(errcode(ERRCODE_DATETIME_VALUE_OUT_OF_RANGE),
				 errmsg("timestamp out of range")));
}
