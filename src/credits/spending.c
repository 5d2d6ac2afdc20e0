/*
 * spending.c
 *		Grants credits to orgs, and spends them.
 *
 * All of it happens in the caller's transaction: what is rolled back with the
 * work was never spent, and what has committed with it was spent once.  The
 * org's row in credits stays locked until then, so the caller spends last.
 *
 * We do not ask whether an org is suspended or closed.  Verification does that
 * before the work begins, and what was begun has to be paid for.  Only grants
 * are refused to a closed org.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "utils/builtins.h"

#include "credits/account.h"
#include "orgs/orgs.h"
#include "server/server.h"

PG_FUNCTION_INFO_V1(overten_grant);
PG_FUNCTION_INFO_V1(overten_spend);

/* Add credits to an account that is locked.  Returns the new balance. */
static int64
add_credits(const OaAccount *account, const OaEntry *grant)
{
	int64		balance;

	if (account->balance > PG_INT64_MAX - grant->amount)
		ereport(ERROR,
				(errcode(ERRCODE_NUMERIC_VALUE_OUT_OF_RANGE),
				 errmsg("an org cannot have more than %lld credits",
						(long long) PG_INT64_MAX),
				 errdetail("The org has %lld, and would get %lld.",
						   (long long) account->balance,
						   (long long) grant->amount)));
	if (!oa_write_entry(account, grant, 0, &balance))
		elog(ERROR, "a grant was not written");
	oa_audit("grant_credits", account->org_id, NULL, NULL,
			 cstring_to_text(psprintf("%lld", (long long) grant->amount)));
	return balance;
}

/*
 * overten_grant(org_id text, amount bigint, reason text, request_id text)
 * 		returns bigint
 *
 * Returns the balance after the grant.  Errors: 22003, 22004, 22023, 25006,
 * 40001, 42704, 55000 the org is closed.
 */
Datum
overten_grant(PG_FUNCTION_ARGS)
{
	text	   *org_id = oa_text_argument(fcinfo, 0, "org_id");
	OaEntry		grant = {
		.kind = "grant",
		.amount = oa_amount_argument(fcinfo, 1, 1),
		.detail = oa_reason_argument(fcinfo, 2),
		.request_id = PG_ARGISNULL(3) ? NULL :
		oa_request_id_argument(fcinfo, 3),
	};
	OaAccount	account;
	int64		balance;
	int			level;

	PreventCommandIfReadOnly("overten_grant()");
	level = oa_statements_begin();

	/* A repetition gets its answer even if the org was closed meanwhile. */
	if (!oa_find_entry(org_id, &grant, &balance))
	{
		oa_open_account(org_id, &account);
		if (!oa_find_entry(org_id, &grant, &balance))
			balance = add_credits(&account, &grant);
	}
	oa_statements_end(level);
	PG_RETURN_INT64(balance);
}

/*
 * overten_spend(org_id text, amount bigint, request_id text, detail text)
 * 		returns bigint
 *
 * Returns the balance after the spending.  Errors: 22004, 22023, 25006, 40001,
 * 42704, 53OA2.
 */
Datum
overten_spend(PG_FUNCTION_ARGS)
{
	text	   *org_id = oa_text_argument(fcinfo, 0, "org_id");
	int64		amount = oa_amount_argument(fcinfo, 1, 1);
	OaEntry		spending = {
		.kind = "spend",
		.amount = -amount,
		.request_id = oa_request_id_argument(fcinfo, 2),
		.detail = oa_optional_name_argument(fcinfo, 3, "detail",
											OA_DESCRIPTION_MAX),
	};
	OaAccount	account;
	int64		balance;
	int			level;

	PreventCommandIfReadOnly("overten_spend()");
	level = oa_statements_begin();
	if (!oa_lock_account(org_id, &account))
		oa_refuse_shortage(&account, amount);
	if (!oa_find_entry(org_id, &spending, &balance) &&
		!oa_write_entry(&account, &spending, 0, &balance))
	{
		oa_sweep_holds(&account);
		if (!oa_write_entry(&account, &spending, 0, &balance))
			oa_refuse_shortage(&account, amount);
	}
	oa_statements_end(level);
	PG_RETURN_INT64(balance);
}
