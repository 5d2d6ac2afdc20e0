/*
 * holds.c
 *		Holds credits for work whose cost is known only afterwards.
 *
 * What is held is still in the balance, but nothing else can take it.  Settling
 * takes what the work has cost, and releases the rest.  A hold that is neither
 * settled nor released ends by the clock: from then on it holds nothing, and it
 * cannot be settled, whether its row is still there or not.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "utils/timestamp.h"

#include "credits/account.h"
#include "server/server.h"

#define HOLD_DAYS_MAX	7

PG_FUNCTION_INFO_V1(overten_hold);
PG_FUNCTION_INFO_V1(overten_release);
PG_FUNCTION_INFO_V1(overten_settle);

typedef struct Hold
{
	int64		amount;
	TimestampTz expires_at;
} Hold;

/*
 * Find a hold of a locked account that has not ended by the clock.  Returns
 * false if there is none.
 */
static bool
find_hold(const OaAccount *account, text *request_id, Hold *hold)
{
	static OaStatement find = {
		.table = "credit_holds",
		.text = "SELECT amount, expires_at FROM overten_auth.credit_holds "
		"WHERE org_id = $1 AND request_id = $2 AND expires_at > $3",
		.argtypes = {TEXTOID, TEXTOID, TIMESTAMPTZOID},
	};
	Datum		values[] = {
		PointerGetDatum(account->org_id),
		PointerGetDatum(request_id),
		TimestampTzGetDatum(account->now),
	};

	if (oa_statement_run(&find, values, NULL) == 0)
		return false;
	hold->amount = oa_statement_int64(0, 1);
	hold->expires_at = oa_statement_time(0, 2, NULL);
	return true;
}

/*
 * Hold credits of a locked account.  Returns false if that is more than is
 * available.
 */
static bool
insert_hold(const OaAccount *account, text *request_id, const Hold *hold)
{
	static OaStatement insert = {
		.table = "credits",
		.text = "WITH changed AS (UPDATE overten_auth.credits "
		"SET held = held + $2 "
		"WHERE org_id = $1 AND balance - held >= $2 RETURNING org_id) "
		"INSERT INTO overten_auth.credit_holds "
		"(org_id, request_id, amount, created_at, expires_at) "
		"SELECT org_id, $3, $2, $4, $5 FROM changed",
		.argtypes = {TEXTOID, INT8OID, TEXTOID, TIMESTAMPTZOID,
		TIMESTAMPTZOID},
	};
	Datum		values[] = {
		PointerGetDatum(account->org_id),
		Int64GetDatum(hold->amount),
		PointerGetDatum(request_id),
		TimestampTzGetDatum(account->now),
		TimestampTzGetDatum(hold->expires_at),
	};

	return oa_statement_run(&insert, values, NULL) > 0;
}

/* Remove the row of a hold.  The caller changes what the account holds. */
static void
remove_hold(const OaAccount *account, text *request_id)
{
	static OaStatement remove = {
		.table = "credit_holds",
		.text = "DELETE FROM overten_auth.credit_holds "
		"WHERE org_id = $1 AND request_id = $2",
		.argtypes = {TEXTOID, TEXTOID},
	};
	Datum		values[] = {
		PointerGetDatum(account->org_id),
		PointerGetDatum(request_id),
	};

	oa_statement_run(&remove, values, NULL);
}

/* Raise 42710 because the ledger has a request that asks for a hold. */
static void
require_not_done(text *org_id, text *request_id)
{
	if (oa_is_done(org_id, request_id))
		ereport(ERROR,
				(errcode(ERRCODE_DUPLICATE_OBJECT),
				 errmsg("the request is settled already"),
				 errdetail("The ledger of the org has a row with this request_id.")));
}

/*
 * overten_hold(org_id text, amount bigint, request_id text, valid_for interval)
 * 		returns timestamptz
 *
 * Returns when the hold ends.  Errors: 22004, 22023, 25006, 40001, 42704, 42710,
 * 53OA2.
 */
Datum
overten_hold(PG_FUNCTION_ARGS)
{
	text	   *org_id = oa_text_argument(fcinfo, 0, "org_id");
	int64		amount = oa_amount_argument(fcinfo, 1, 1);
	text	   *request_id = oa_request_id_argument(fcinfo, 2);
	int64		duration = oa_interval_argument(fcinfo, 3, "valid_for", true,
												HOLD_DAYS_MAX);
	OaAccount	account;
	Hold		hold;
	int			level;

	PreventCommandIfReadOnly("overten_hold()");
	level = oa_statements_begin();
	if (!oa_lock_account(org_id, &account))
		oa_refuse_shortage(&account, amount);
	require_not_done(org_id, request_id);
	if (!find_hold(&account, request_id, &hold))
	{
		hold.amount = amount;
		hold.expires_at = account.now + duration;
		oa_sweep_holds(&account);
		if (!insert_hold(&account, request_id, &hold))
			oa_refuse_shortage(&account, amount);
	}
	else if (hold.amount != amount)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("request_id was used with another amount"),
				 errdetail("The amount was %lld, and is %lld now.",
						   (long long) hold.amount, (long long) amount)));
	oa_statements_end(level);
	PG_RETURN_TIMESTAMPTZ(hold.expires_at);
}

/* Take credits out of a hold, and release the rest.  Returns the new balance. */
static int64
settle_hold(const OaAccount *account, const OaEntry *settlement)
{
	Hold		hold;
	int64		balance;

	if (!find_hold(account, settlement->request_id, &hold))
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("no credits are held for the request"),
				 errdetail("The hold has ended or was released, or there never was one."),
				 errhint("overten_spend() takes credits without a hold.")));
	if (-settlement->amount > hold.amount)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("amount must not be greater than what is held"),
				 errdetail("The amount is %lld, and %lld are held for the request.",
						   (long long) -settlement->amount,
						   (long long) hold.amount)));
	remove_hold(account, settlement->request_id);
	if (!oa_write_entry(account, settlement, hold.amount, &balance))
		elog(ERROR, "a settlement was not written");
	return balance;
}

/*
 * overten_settle(org_id text, amount bigint, request_id text, detail text)
 * 		returns bigint
 *
 * Returns the balance after the settlement.  Errors: 22004, 22023, 25006, 40001,
 * 42704, 55000 nothing is held for the request.
 */
Datum
overten_settle(PG_FUNCTION_ARGS)
{
	text	   *org_id = oa_text_argument(fcinfo, 0, "org_id");
	OaEntry		settlement = {
		.kind = "settle",
		.amount = -oa_amount_argument(fcinfo, 1, 0),
		.request_id = oa_request_id_argument(fcinfo, 2),
		.detail = oa_optional_name_argument(fcinfo, 3, "detail",
											OA_DESCRIPTION_MAX),
	};
	OaAccount	account;
	int64		balance;
	int			level;

	PreventCommandIfReadOnly("overten_settle()");
	level = oa_statements_begin();
	oa_lock_account(org_id, &account);
	if (!oa_find_entry(org_id, &settlement, &balance))
		balance = settle_hold(&account, &settlement);
	oa_statements_end(level);
	PG_RETURN_INT64(balance);
}

/*
 * overten_release(org_id text, request_id text) returns boolean
 *
 * Returns true if this call has released credits, and false if none were held
 * for the request.  Errors: 22004, 22023, 25006, 40001, 42704.
 */
Datum
overten_release(PG_FUNCTION_ARGS)
{
	static OaStatement update = {
		.table = "credits",
		.text = "UPDATE overten_auth.credits SET held = held - $2 "
		"WHERE org_id = $1",
		.argtypes = {TEXTOID, INT8OID},
	};
	text	   *org_id = oa_text_argument(fcinfo, 0, "org_id");
	text	   *request_id = oa_request_id_argument(fcinfo, 1);
	OaAccount	account;
	Hold		hold;
	bool		found;
	int			level;

	PreventCommandIfReadOnly("overten_release()");
	level = oa_statements_begin();
	found = oa_lock_account(org_id, &account) &&
		find_hold(&account, request_id, &hold);
	if (found)
	{
		Datum		values[] = {
			PointerGetDatum(org_id),
			Int64GetDatum(hold.amount),
		};

		remove_hold(&account, request_id);
		oa_statement_run(&update, values, NULL);
	}
	oa_statements_end(level);
	PG_RETURN_BOOL(found);
}
