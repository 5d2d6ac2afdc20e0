/*
 * webhooks.c
 *		Gives orgs new webhook secrets.
 *
 * A rotation keeps the secret that it replaces beside the new one until its
 * grace is over, and webhook_signature.c signs with both meanwhile.  The old
 * value is moved as it is, sealed: so a rotation also helps an org whose
 * secret does not open any more.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

#include "overten_auth.h"

#define GRACE_MAX_DAYS	30

PG_FUNCTION_INFO_V1(overten_rotate_webhook_secret);

/* Raise 22023 unless 0 <= grace <= 30 days, a month being 30 days. */
static void
check_grace(Interval *grace)
{
	Interval	none = {0};
	Interval	longest = {.day = GRACE_MAX_DAYS};
	Datum		value = IntervalPGetDatum(grace);

	if (DatumGetBool(DirectFunctionCall2(interval_lt, value,
										 IntervalPGetDatum(&none))) ||
		DatumGetBool(DirectFunctionCall2(interval_gt, value,
										 IntervalPGetDatum(&longest))))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("grace must be between 0 and %d days",
						GRACE_MAX_DAYS)));
}

/*
 * overten_rotate_webhook_secret(org_id text, grace interval) returns text
 *
 * The new secret.  The one before stays beside it until the grace is over; one
 * from a rotation before that is forgotten.  Errors: 22004, 22023, 42704,
 * 55000 no master key.
 */
Datum
overten_rotate_webhook_secret(PG_FUNCTION_ARGS)
{
	static OaStatement update = {
		.table = "orgs",
		.text = "UPDATE overten_auth.orgs SET webhook_secret_sealed = $2, "
		"previous_webhook_secret_sealed = "
		"CASE WHEN $3 IS NOT NULL THEN webhook_secret_sealed END, "
		"previous_webhook_secret_until = $3 "
		"WHERE org_id OPERATOR(pg_catalog.=) $1",
		.nargs = 3,
		.argtypes = {TEXTOID, BYTEAOID, TIMESTAMPTZOID},
	};
	text	   *org_id = oa_text_argument(fcinfo, 0, "org_id");
	TimestampTz now = GetCurrentTimestamp();
	TimestampTz until;
	text	   *secret;
	Datum		values[3];
	int			level;

	oa_require_argument(fcinfo, 1, "grace");
	check_grace(PG_GETARG_INTERVAL_P(1));
	until = DatumGetTimestampTz(DirectFunctionCall2(timestamptz_pl_interval,
													TimestampTzGetDatum(now),
													PG_GETARG_DATUM(1)));

	secret = oa_make_webhook_secret();
	values[0] = PointerGetDatum(org_id);
	values[1] = PointerGetDatum(oa_seal(org_id, secret));
	values[2] = TimestampTzGetDatum(until);

	level = oa_statements_begin();
	if (oa_statement_run(&update, values, until > now ? NULL : "  n") == 0)
		oa_org_missing();
	oa_audit("rotate_webhook_secret", org_id, NULL, NULL, NULL);
	oa_statements_end(level);
	PG_RETURN_TEXT_P(secret);
}
