/*
 * balance.c
 *		Shows the credits of an org.
 *
 * We write nothing and wait for nobody.  A hold ends by the clock, so the row
 * of an org can say that more is held than there is: we add up the holds that
 * have not ended.  What is shown together is read under one snapshot, so that
 * the latest row of the ledger has the balance that stands above it.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "funcapi.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "credits/account.h"
#include "orgs/orgs.h"
#include "server/server.h"

PG_FUNCTION_INFO_V1(overten_credit_balance);

/*
 * Read how many credits an org has, how many of them are held, and how many
 * rows its ledger has.  Returns false if the org never got any.
 */
static bool
read_balance(text *org_id, TimestampTz now, Snapshot snapshot,
			 OaBalance *balance)
{
	static OaStatement read = {
		.table = "credits",
		.text = "SELECT c.balance, (SELECT COALESCE(sum(h.amount), 0)::int8 "
		"FROM overten_auth.credit_holds h "
		"WHERE h.org_id = $1 AND h.expires_at > $2), c.entries "
		"FROM overten_auth.credits c WHERE c.org_id = $1",
		.argtypes = {TEXTOID, TIMESTAMPTZOID},
	};
	Datum		values[] = {
		PointerGetDatum(org_id),
		TimestampTzGetDatum(now),
	};

	if (oa_statement_run_under(&read, values, NULL, snapshot) == 0)
		return false;
	balance->credits = oa_statement_int64(0, 1);
	balance->held = oa_statement_int64(0, 2);
	balance->entries = oa_statement_int64(0, 3);
	return true;
}

/* Read the holds that have not ended, those that end first. */
static void
read_holds(text *org_id, TimestampTz now, Snapshot snapshot,
		   OaCredits *credits)
{
	static OaStatement read = {
		.table = "credit_holds",
		.text = "SELECT request_id, amount, created_at, expires_at "
		"FROM overten_auth.credit_holds "
		"WHERE org_id = $1 AND expires_at > $2 "
		"ORDER BY expires_at, request_id LIMIT $3",
		.argtypes = {TEXTOID, TIMESTAMPTZOID, INT4OID},
	};
	Datum		values[] = {
		PointerGetDatum(org_id),
		TimestampTzGetDatum(now),
		Int32GetDatum(OA_SHOWN_HOLDS),
	};

	credits->hold_count = (int) oa_statement_run_under(&read, values, NULL,
													   snapshot);
	for (int i = 0; i < credits->hold_count; i++)
	{
		OaShownHold *hold = &credits->holds[i];

		hold->request_id = oa_statement_text(i, 1);
		hold->amount = oa_statement_int64(i, 2);
		hold->created_at = oa_statement_time(i, 3, NULL);
		hold->expires_at = oa_statement_time(i, 4, NULL);
	}
}

/* Read a page of the ledger, and whether there are more rows after it. */
static void
read_ledger(text *org_id, int64 before, int limit, Snapshot snapshot,
			OaCredits *credits)
{
	int			count = oa_run_ledger_page(org_id, before, limit + 1, snapshot);

	credits->has_more = count > limit;
	credits->row_count = Min(count, limit);
	for (int i = 0; i < credits->row_count; i++)
	{
		OaLedgerRow *row = &credits->rows[i];

		row->entry = oa_statement_int64(i, 1);
		row->at = oa_statement_time(i, 2, NULL);
		row->kind = oa_statement_text(i, 3);
		row->amount = oa_statement_int64(i, 4);
		row->balance = oa_statement_int64(i, 5);
		row->request_id = oa_statement_text_or_null(i, 6);
		row->detail = oa_statement_text_or_null(i, 7);
	}
}

/*
 * Read the credits of an org, the holds that end first, and "limit" rows of the
 * ledger, the latest first: those before the row "before", or the latest ones
 * if that is 0.  Returns false if the ledger has no such row.
 */
bool
oa_read_credits(text *org_id, int64 before, int limit, OaCredits *credits)
{
	TimestampTz now = GetCurrentTimestamp();
	int			level = oa_statements_begin();
	Snapshot	snapshot = RegisterSnapshot(GetLatestSnapshot());
	bool		has_start;

	Assert(limit <= OA_LEDGER_PAGE_MAX);
	memset(credits, 0, sizeof(*credits));
	if (read_balance(org_id, now, snapshot, &credits->balance) &&
		before <= credits->balance.entries)
	{
		read_holds(org_id, now, snapshot, credits);
		read_ledger(org_id, before > 0 ? before : PG_INT64_MAX, limit,
					snapshot, credits);
	}
	has_start = before <= credits->balance.entries;
	UnregisterSnapshot(snapshot);
	oa_statements_end(level);
	return has_start;
}

/* Has any org of this database credits? */
bool
oa_has_credits(void)
{
	static OaStatement find = {
		.table = "credits",
		.text = "SELECT 1 FROM overten_auth.credits LIMIT 1",
	};
	int			level = oa_statements_begin();
	bool		found = oa_statement_run(&find, NULL, NULL) > 0;

	oa_statements_end(level);
	return found;
}

/*
 * overten_credit_balance(org_id text) returns balance, held, available
 *
 * Counts only the holds that have not ended.  Errors: 22004, 42704.
 */
Datum
overten_credit_balance(PG_FUNCTION_ARGS)
{
	static const Oid types[] = {INT8OID, INT8OID, INT8OID};
	text	   *org_id = oa_text_argument(fcinfo, 0, "org_id");
	OaBalance	balance = {0};
	Datum		result[lengthof(types)];
	int			level;

	level = oa_statements_begin();
	if (!read_balance(org_id, GetCurrentTimestamp(), InvalidSnapshot, &balance))
		oa_require_org(org_id);
	oa_statements_end(level);

	result[0] = Int64GetDatum(balance.credits);
	result[1] = Int64GetDatum(balance.held);
	result[2] = Int64GetDatum(balance.credits - balance.held);
	return oa_result_row(fcinfo, types, lengthof(types), result, NULL);
}
