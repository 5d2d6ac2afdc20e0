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
#include "utils/builtins.h"
#include "utils/json.h"
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

/* Write the name of a member.  The caller writes its value next. */
void
oa_write_name(StringInfo json, const char *name)
{
	if (json->data[json->len - 1] != '{')
		appendStringInfoChar(json, ',');
	appendStringInfo(json, "\"%s\":", name);
}

/* Write a string, or null for NULL. */
void
oa_write_string(StringInfo json, const char *name, const char *value)
{
	oa_write_name(json, name);
	if (value != NULL)
		escape_json(json, value);
	else
		appendStringInfoString(json, "null");
}

void
oa_write_text(StringInfo json, const char *name, text *value)
{
	oa_write_string(json, name, value != NULL ? text_to_cstring(value) : NULL);
}

void
oa_write_integer(StringInfo json, const char *name, int64 value)
{
	oa_write_name(json, name);
	appendStringInfo(json, INT64_FORMAT, value);
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
