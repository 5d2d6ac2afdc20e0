/*
 * audit_endpoint.c
 *		GET /organizations/{org_id}/audit-log
 *
 * The latest rows come first, in pages.  A page's next_cursor is the id of its
 * last row, or null if there are no more rows.  The database role that acted is
 * the operator's business, so it is not shown.
 */
#include "postgres.h"

#include "utils/builtins.h"

#include "http/http.h"

#define LIMIT			50
#define LIMIT_MAX		200

/* A page that is being written. */
typedef struct AuditPage
{
	StringInfo	json;
	int			left;			/* rows that it may still have */
	pg_uuid_t	last;
	bool		has_more;
} AuditPage;

/* Write the id of a row. */
static void
write_audit_id(StringInfo json, const char *name, const pg_uuid_t *audit_id)
{
	oa_write_string(json, name,
					DatumGetCString(DirectFunctionCall1(uuid_out,
														UUIDPGetDatum(audit_id))));
}

/* Does a text have the form that we write ids in?  Then uuid_in() takes it. */
static bool
is_audit_id(const char *value)
{
	static const char form[] = "xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx";

	if (strlen(value) != strlen(form))
		return false;
	for (int i = 0; form[i] != '\0'; i++)
	{
		if (form[i] == '-' ? value[i] != '-' :
			strchr("0123456789abcdef", value[i]) == NULL)
			return false;
	}
	return true;
}

/* Append one row, or note that there are more. */
static void
append_row(const OaAuditRow *row, void *argument)
{
	AuditPage  *page = argument;
	StringInfo	json = page->json;

	if (page->left-- == 0)
	{
		page->has_more = true;
		return;
	}
	page->last = row->audit_id;
	oa_begin_object(json);
	write_audit_id(json, "audit_id", &row->audit_id);
	oa_write_time(json, "at", row->at, false);
	oa_write_text(json, "action", row->action);
	oa_write_text(json, "key_id", row->key_id);
	oa_write_text(json, "uid", row->uid);
	oa_write_text(json, "detail", row->detail);
	appendStringInfoChar(json, '}');
}

/* Read where the page begins. *has_cursor says whether that is given. */
static bool
read_cursor(const OaRequest *request, OaResponse *response, bool *has_cursor,
			pg_uuid_t *cursor)
{
	const char *value;

	if (!oa_find_parameter(request, response, "cursor", &value))
		return false;
	*has_cursor = (value != NULL);
	if (value == NULL)
		return true;
	if (!is_audit_id(value))
		return oa_refuse_cursor(response);
	*cursor = *DatumGetUUIDP(DirectFunctionCall1(uuid_in,
												 CStringGetDatum(value)));
	return true;
}

/* Read which key the rows are about. *key_id is NULL if that is not given. */
static bool
read_key_id(const OaRequest *request, OaResponse *response, text **key_id)
{
	const char *value;

	if (!oa_find_parameter(request, response, "key_id", &value))
		return false;
	*key_id = value != NULL ? oa_utf8_to_id(value) : NULL;
	return true;
}

void
oa_endpoint_audit_log(const OaRequest *request, OaResponse *response)
{
	StringInfo	json = &response->body;
	AuditPage	page = {.json = json,.left = LIMIT};
	pg_uuid_t	cursor;
	bool		has_cursor;
	text	   *key_id;
	text	   *uid;

	if (!oa_identify(request, response, &uid) ||
		!oa_read_limit(request, response, LIMIT_MAX, &page.left) ||
		!read_cursor(request, response, &has_cursor, &cursor) ||
		!read_key_id(request, response, &key_id) ||
		!oa_check_member(request, response, uid))
		return;

	response->status = 200;
	appendStringInfoString(json, "{\"items\":[");
	if (oa_read_audit_log(request->org_id, key_id,
						  has_cursor ? &cursor : NULL, page.left + 1,
						  append_row, &page) < 0)
	{
		oa_refuse_cursor(response);
		return;
	}
	appendStringInfoChar(json, ']');
	if (page.has_more)
		write_audit_id(json, "next_cursor", &page.last);
	else
		oa_write_string(json, "next_cursor", NULL);
	appendStringInfoChar(json, '}');
}
