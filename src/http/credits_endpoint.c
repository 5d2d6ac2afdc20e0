/*
 * credits_endpoint.c
 *		GET /organizations/{org_id}/credits
 *
 * How many credits an org has, what is held of them, and its ledger in pages,
 * the latest rows first.  A page's next_cursor is the number of its last row,
 * or null if there are no more rows.  The rows of an org are numbered without
 * gaps and stay, so each number up to the latest one is a cursor.
 */
#include "postgres.h"

#include "credits/credits.h"
#include "http/http.h"

#define LIMIT			50
#define CURSOR_DIGITS	18		/* fewer than could overflow */

/* Read where the page begins. *before is 0 if that is not given. */
static bool
read_cursor(const OaRequest *request, OaResponse *response, int64 *before)
{
	const char *value;
	size_t		length;

	*before = 0;
	if (!oa_find_parameter(request, response, "cursor", &value))
		return false;
	if (value == NULL)
		return true;

	length = strlen(value);
	if (length == 0 || length > CURSOR_DIGITS || value[0] == '0' ||
		strspn(value, "0123456789") != length)
		return oa_refuse_cursor(response);
	*before = strtoll(value, NULL, 10);
	return true;
}

static void
append_hold(StringInfo json, const OaShownHold *hold)
{
	oa_begin_object(json);
	oa_write_text(json, "request_id", hold->request_id);
	oa_write_integer(json, "amount", hold->amount);
	oa_write_time(json, "created_at", hold->created_at, false);
	oa_write_time(json, "expires_at", hold->expires_at, false);
	appendStringInfoChar(json, '}');
}

static void
append_row(StringInfo json, const OaLedgerRow *row)
{
	oa_begin_object(json);
	oa_write_integer(json, "entry", row->entry);
	oa_write_time(json, "at", row->at, false);
	oa_write_text(json, "kind", row->kind);
	oa_write_integer(json, "amount", row->amount);
	oa_write_integer(json, "balance", row->balance);
	oa_write_text(json, "request_id", row->request_id);
	oa_write_text(json, "detail", row->detail);
	appendStringInfoChar(json, '}');
}

/* The cursor of the page that comes after a row. */
static const char *
cursor_after(const OaLedgerRow *row)
{
	return psprintf("%lld", (long long) row->entry);
}

/* Write the body. */
static void
write_credits(StringInfo json, const OaCredits *credits)
{
	const OaBalance *balance = &credits->balance;

	oa_begin_object(json);
	oa_write_integer(json, "balance", balance->credits);
	oa_write_integer(json, "held", balance->held);
	oa_write_integer(json, "available", balance->credits - balance->held);
	oa_write_name(json, "holds");
	appendStringInfoChar(json, '[');
	for (int i = 0; i < credits->hold_count; i++)
		append_hold(json, &credits->holds[i]);
	appendStringInfoChar(json, ']');
	oa_write_name(json, "items");
	appendStringInfoChar(json, '[');
	for (int i = 0; i < credits->row_count; i++)
		append_row(json, &credits->rows[i]);
	appendStringInfoChar(json, ']');
	oa_write_string(json, "next_cursor", credits->has_more ?
					cursor_after(&credits->rows[credits->row_count - 1]) : NULL);
	appendStringInfoChar(json, '}');
}

void
oa_endpoint_credits(const OaRequest *request, OaResponse *response)
{
	OaCredits  *credits = palloc(sizeof(OaCredits));
	int			limit = LIMIT;
	int64		before;
	text	   *uid;

	if (!oa_identify(request, response, &uid) ||
		!oa_read_limit(request, response, OA_LEDGER_PAGE_MAX, &limit) ||
		!read_cursor(request, response, &before) ||
		!oa_check_member(request, response, uid))
		return;

	if (!oa_read_credits(request->org_id, before, limit, credits))
	{
		oa_refuse_cursor(response);
		return;
	}
	response->status = 200;
	write_credits(&response->body, credits);
}
