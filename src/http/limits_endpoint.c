/*
 * limits_endpoint.c
 *		GET /organizations/{org_id}/limits
 *
 * The limits that count for an org and its keys, and what is left of each on
 * this server.  Members do not learn of shadow limits, which refuse nothing.  A
 * page is about so many keys, whether they have limits or not; the first one
 * also has what the keys of the org share.
 */
#include "postgres.h"

#include "http/http.h"
#include "limits/limits.h"
#include "text/text.h"

#define KEYS			50		/* on a page, unless said otherwise */
#define KEYS_MAX		200

/* Microseconds as whole seconds, rounded up. */
int64
oa_whole_seconds(int64 microseconds)
{
	return (microseconds + USECS_PER_SEC - 1) / USECS_PER_SEC;
}

/* Append one limit. */
static void
append_limit(const OaLimitStatus *status, void *json)
{
	oa_begin_object(json);
	oa_write_text(json, "key_id", status->key_id);
	oa_write_name(json, "name");
	oa_write_quoted(json, status->name, status->name_length);
	oa_write_integer(json, "quota", status->quota);
	oa_write_integer(json, "period_seconds", status->period);
	if (status->calendar == OA_NO_CALENDAR)
		oa_write_integer(json, "burst", status->burst);
	else
		oa_write_string(json, "burst", NULL);
	oa_write_string(json, "per", status->key_id == NULL ? "org" : "key");
	oa_write_integer(json, "remaining", status->remaining);
	oa_write_integer(json, "reset_seconds",
					 oa_whole_seconds(status->reset_after));
	oa_write_integer(json, "refusals", status->refusals);
	appendStringInfoChar(json, '}');
}

void
oa_endpoint_limits(const OaRequest *request, OaResponse *response)
{
	StringInfo	json = &response->body;
	OaLimitPage page = {.keys = KEYS};
	const char *cursor;
	text	   *uid;

	if (!oa_identify(request, response, &uid) ||
		!oa_read_limit(request, response, KEYS_MAX, &page.keys) ||
		!oa_find_parameter(request, response, "cursor", &cursor) ||
		!oa_check_member(request, response, uid))
		return;
	if (cursor != NULL)
		page.after = oa_utf8_to_id(cursor);

	response->status = 200;
	appendStringInfoString(json, "{\"items\":[");
	if (!oa_show_limits(request->org_id, false, &page, append_limit, json))
	{
		oa_refuse_cursor(response);
		return;
	}
	appendStringInfoChar(json, ']');
	oa_write_string(json, "next_cursor", page.last);
	appendStringInfoChar(json, '}');
}
