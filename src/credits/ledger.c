/*
 * ledger.c
 *		Writes and reads the ledger of an org's credits.
 *
 * Each row has the amount, and the balance after it.  The rows of an org are
 * numbered without gaps in the order of their commits, because the org's row in
 * credits is locked while a row is written.  One statement writes both, so
 * neither is there without the other.
 *
 * A request_id is in the ledger of an org at most once.  It makes a request
 * safe to repeat: the repetition finds the row, and gets the same answer.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "utils/builtins.h"

#include "credits/account.h"
#include "orgs/orgs.h"
#include "server/server.h"

#define PAGE_MAX	1000		/* rows */

PG_FUNCTION_INFO_V1(overten_list_ledger);

/*
 * Look up a request in the ledger of an org.  Sets the three to what the row
 * says.  Returns false if there is no such row.
 */
static bool
find_request(text *org_id, text *request_id, char **kind, int64 *amount,
			 int64 *balance)
{
	static OaStatement find = {
		.table = "credit_ledger",
		.text = "SELECT kind, amount, balance "
		"FROM overten_auth.credit_ledger "
		"WHERE org_id = $1 AND request_id = $2",
		.argtypes = {TEXTOID, TEXTOID},
	};
	Datum		values[] = {
		PointerGetDatum(org_id),
		PointerGetDatum(request_id),
	};

	if (oa_statement_run(&find, values, NULL) == 0)
		return false;
	*kind = text_to_cstring(oa_statement_text(0, 1));
	*amount = oa_statement_int64(0, 2);
	*balance = oa_statement_int64(0, 3);
	return true;
}

/*
 * Was this entry written before?  If so, set *balance to what the balance was
 * after it.  Raises 22023 if its request_id was used for anything else.  Must be
 * called between oa_statements_begin() and _end().  Only with a locked account is
 * the answer "no" certain.
 */
bool
oa_find_entry(text *org_id, const OaEntry *entry, int64 *balance)
{
	char	   *kind;
	int64		amount;

	if (entry->request_id == NULL ||
		!find_request(org_id, entry->request_id, &kind, &amount, balance))
		return false;
	if (strcmp(kind, entry->kind) != 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("request_id was used for something else"),
				 errdetail("The ledger has it in a row of kind \"%s\", and not \"%s\".",
						   kind, entry->kind)));
	if (amount != entry->amount)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("request_id was used with another amount"),
				 errdetail("The amount was %lld, and is %lld now.",
						   llabs(amount),
						   llabs(entry->amount))));
	return true;
}

/* Does a locked account's ledger have a request, of whatever kind? */
bool
oa_is_done(text *org_id, text *request_id)
{
	char	   *kind;
	int64		amount;
	int64		balance;

	return find_request(org_id, request_id, &kind, &amount, &balance);
}

/*
 * Write an entry to the ledger of a locked account, and change the account.
 * "released" credits are not held any more.  Sets *balance to the new balance.
 * Returns false, and writes nothing, if that would take more than is available.
 * Must be called between oa_statements_begin() and _end().
 */
bool
oa_write_entry(const OaAccount *account, const OaEntry *entry, int64 released,
			   int64 *balance)
{
	static OaStatement write = {
		.table = "credits",
		.text = "WITH changed AS (UPDATE overten_auth.credits "
		"SET balance = balance + $2, held = held - $3, "
		"entries = entries + 1 "
		"WHERE org_id = $1 AND balance - held >= - $2 - $3 "
		"RETURNING org_id, entries, balance) "
		"INSERT INTO overten_auth.credit_ledger "
		"(org_id, entry, kind, amount, balance, request_id, detail) "
		"SELECT org_id, entries, $4, $2, balance, $5, $6 FROM changed "
		"RETURNING balance",
		.argtypes = {TEXTOID, INT8OID, INT8OID, TEXTOID, TEXTOID, TEXTOID},
	};
	Datum		values[] = {
		PointerGetDatum(account->org_id),
		Int64GetDatum(entry->amount),
		Int64GetDatum(released),
		CStringGetTextDatum(entry->kind),
		PointerGetDatum(entry->request_id),
		PointerGetDatum(entry->detail),
	};
	const bool	nulls[lengthof(values)] = {
		[4] = (entry->request_id == NULL),
		[5] = (entry->detail == NULL),
	};

	if (oa_statement_run(&write, values, nulls) == 0)
		return false;
	*balance = oa_statement_int64(0, 1);
	return true;
}

/*
 * Read a page of the ledger, the latest rows first: those before an entry.  The
 * columns are those of overten_list_ledger().  Returns how many rows there are,
 * at most "limit".
 */
int
oa_run_ledger_page(text *org_id, int64 before, int limit, Snapshot snapshot)
{
	static OaStatement list = {
		.table = "credit_ledger",
		.text = "SELECT entry, at, kind, amount, balance, request_id, detail "
		"FROM overten_auth.credit_ledger WHERE org_id = $1 AND entry < $2 "
		"ORDER BY entry DESC LIMIT $3",
		.argtypes = {TEXTOID, INT8OID, INT4OID},
	};
	Datum		values[] = {
		PointerGetDatum(org_id),
		Int64GetDatum(before),
		Int32GetDatum(limit),
	};

	return (int) oa_statement_run_under(&list, values, NULL, snapshot);
}

/*
 * overten_list_ledger(org_id text, before bigint, "limit" integer)
 * 		returns setof entry, at, kind, amount, balance, request_id, detail
 *
 * Returns a page of the ledger, the latest rows first.  It begins with the row
 * before the entry "before", or with the latest one if that is NULL.  Errors:
 * 22004, 22023, 42704.
 */
Datum
overten_list_ledger(PG_FUNCTION_ARGS)
{
	text	   *org_id = oa_text_argument(fcinfo, 0, "org_id");
	int64		before = PG_ARGISNULL(1) ? PG_INT64_MAX : PG_GETARG_INT64(1);
	int			limit = DatumGetInt32(oa_page_argument(fcinfo, 2, "limit",
													   PAGE_MAX));
	int			level;

	oa_begin_set(fcinfo);
	level = oa_statements_begin();
	oa_require_org(org_id);
	oa_run_ledger_page(org_id, before, limit, InvalidSnapshot);
	oa_statement_return_rows(fcinfo);
	oa_statements_end(level);
	return (Datum) 0;
}
