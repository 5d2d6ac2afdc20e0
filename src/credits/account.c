/*
 * account.c
 *		The credits of one org: a row of its own, which is locked before
 *		anything is decided.
 *
 * Every change of an org's credits begins with the lock of its row in credits,
 * and ends in a write to that row.  So changes come one after the other, and
 * the lock lasts until the caller's transaction has ended.  What we look up
 * after the lock is what the last change has left, at every isolation level:
 * at READ COMMITTED because each statement takes a new snapshot, and above it
 * because the lock fails (40001) if the row has changed since the snapshot was
 * taken.
 *
 * A hold ends by the clock, without anybody writing anything.  Until somebody
 * looks, the row counts it as held, which can only be too much.  So we remove
 * the holds that have ended before we refuse anything.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "utils/timestamp.h"

#include "credits/account.h"
#include "orgs/orgs.h"
#include "server/server.h"

#define ERRCODE_INSUFFICIENT_CREDITS MAKE_SQLSTATE('5', '3', 'O', 'A', '2')

/* Return the nth argument, an amount of credits of at least "lowest". */
int64
oa_amount_argument(FunctionCallInfo fcinfo, int n, int64 lowest)
{
	oa_require_argument(fcinfo, n, "amount");
	if (PG_GETARG_INT64(n) < lowest)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("amount must be at least %lld", (long long) lowest)));
	return PG_GETARG_INT64(n);
}

/* Return the nth argument, which names a request and must not be NULL. */
text	   *
oa_request_id_argument(FunctionCallInfo fcinfo, int n)
{
	return oa_id_argument(fcinfo, n, "request_id", OA_REQUEST_ID_MAX);
}

/*
 * Raise 40001 if an org has got its first credits since the transaction's
 * snapshot was taken.
 */
static void
require_no_newer_account(text *org_id)
{
	static OaStatement find = {
		.table = "credits",
		.latest = true,
		.text = "SELECT 1 FROM overten_auth.credits WHERE org_id = $1",
		.argtypes = {TEXTOID},
	};
	Datum		values[] = {PointerGetDatum(org_id)};

	if (oa_statement_run(&find, values, NULL) > 0)
		ereport(ERROR,
				(errcode(ERRCODE_T_R_SERIALIZATION_FAILURE),
				 errmsg("could not serialize access due to concurrent update"),
				 errdetail("The org got its first credits after this transaction began.")));
}

/*
 * Lock the credits of an org until the end of the transaction.  Returns false,
 * with an empty account, if the org never got any.  Raises 42704 if there is no
 * such org.  Must be called between oa_statements_begin() and _end().
 */
bool
oa_lock_account(text *org_id, OaAccount *account)
{
	static OaStatement lock = {
		.table = "credits",
		.text = "SELECT balance, held FROM overten_auth.credits "
		"WHERE org_id = $1 FOR NO KEY UPDATE",
		.argtypes = {TEXTOID},
	};
	Datum		values[] = {PointerGetDatum(org_id)};

	memset(account, 0, sizeof(*account));
	account->org_id = org_id;
	if (oa_statement_run(&lock, values, NULL) == 0)
	{
		oa_require_org(org_id);
		require_no_newer_account(org_id);
		return false;
	}
	account->balance = oa_statement_int64(0, 1);
	account->held = oa_statement_int64(0, 2);
	account->now = GetCurrentTimestamp();
	return true;
}

/*
 * Likewise, for an org that is to get credits.  Raises 55000 if the org is
 * closed.  It is not closed or erased until the transaction ends.
 */
void
oa_open_account(text *org_id, OaAccount *account)
{
	static OaStatement insert = {
		.table = "credits",
		.text = "INSERT INTO overten_auth.credits (org_id) VALUES ($1) "
		"ON CONFLICT DO NOTHING",
		.argtypes = {TEXTOID},
	};
	Datum		values[] = {PointerGetDatum(org_id)};

	oa_require_open_org(org_id);
	oa_statement_run(&insert, values, NULL);
	if (!oa_lock_account(org_id, account))
		elog(ERROR, "the row of an org in credits is missing");
}

/* Remove the holds of a locked account that have ended by the clock. */
void
oa_sweep_holds(OaAccount *account)
{
	static OaStatement sweep = {
		.table = "credits",
		.text = "WITH ended AS (DELETE FROM overten_auth.credit_holds "
		"WHERE org_id = $1 AND expires_at <= $2 RETURNING amount) "
		"UPDATE overten_auth.credits c SET held = c.held - e.amount "
		"FROM (SELECT sum(amount)::int8 AS amount FROM ended) e "
		"WHERE c.org_id = $1 AND e.amount > 0 RETURNING c.held",
		.argtypes = {TEXTOID, TIMESTAMPTZOID},
	};
	Datum		values[] = {
		PointerGetDatum(account->org_id),
		TimestampTzGetDatum(account->now),
	};

	if (account->held > 0 && oa_statement_run(&sweep, values, NULL) > 0)
		account->held = oa_statement_int64(0, 1);
}

/*
 * Raise 53OA2: a request takes more credits than are available.  The caller has
 * removed the holds that have ended.
 */
void
oa_refuse_shortage(const OaAccount *account, int64 amount)
{
	ereport(ERROR,
			(errcode(ERRCODE_INSUFFICIENT_CREDITS),
			 errmsg("the org does not have enough credits"),
			 errdetail("The request takes %lld. Of %lld credits, %lld are held, and %lld are available.",
					   (long long) amount, (long long) account->balance,
					   (long long) account->held,
					   (long long) (account->balance - account->held))));
}
