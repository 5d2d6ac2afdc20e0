/*
 * webhook_secret.c
 *		Gives orgs new webhook secrets.
 *
 * A rotation keeps the old secret beside the new one until a grace period is
 * over; webhook_signature.c signs with both meanwhile.  We move the old value
 * without opening it, so a rotation also helps an org whose secret does not
 * open any more.  The response to a leak (leaks.c) gives no grace.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

#include "orgs/orgs.h"
#include "sealing/sealing.h"
#include "server/server.h"
#include "webhooks/webhooks.h"

#define GRACE_MAX_DAYS	30

PG_FUNCTION_INFO_V1(overten_rotate_webhook_secret);

/*
 * Store an org's new webhook secret.  If "until" is in the future, the old
 * secret also signs until then.  The person and the reason may be NULL.
 */
static void
replace_secret(text *org_id, text *secret, TimestampTz until, text *uid,
			   text *reason)
{
	static OaStatement update = {
		.table = "orgs",
		.text = "UPDATE overten_auth.orgs SET webhook_secret_sealed = $2, "
		"previous_webhook_secret_sealed = "
		"CASE WHEN $3 IS NOT NULL THEN webhook_secret_sealed END, "
		"previous_webhook_secret_until = $3 "
		"WHERE org_id = $1 AND erased_at IS NULL",
		.argtypes = {TEXTOID, BYTEAOID, TIMESTAMPTZOID},
	};
	Datum		values[] = {
		PointerGetDatum(org_id),
		PointerGetDatum(oa_seal(org_id, secret)),
		TimestampTzGetDatum(until),
	};
	bool		has_grace = until > GetCurrentTimestamp();
	const bool	nulls[lengthof(values)] = {[2] = !has_grace};
	int			level = oa_statements_begin();

	if (oa_statement_run(&update, values, nulls) == 0)
		oa_org_missing(org_id);
	oa_audit("rotate_webhook_secret", org_id, NULL, uid, reason);
	oa_statements_end(level);
}

/*
 * Replace an org's webhook secret, which may have leaked, with one that nobody
 * has seen.  From the commit on, neither the old secret nor an earlier one in
 * its grace period signs.  The reason may be NULL.  Raises 42704 if the org
 * does not exist, and 55000 without a master key.
 */
void
oa_replace_leaked_webhook_secret(text *org_id, text *reason)
{
	text	   *secret = oa_make_webhook_secret();

	replace_secret(org_id, secret, DT_NOBEGIN, NULL, reason);
	explicit_bzero(VARDATA_ANY(secret), VARSIZE_ANY_EXHDR(secret));
}

/*
 * Give an org a new webhook secret on behalf of a person, or of nobody, and
 * return it.  The old one also signs until a time.  Raises 42704 if the org
 * does not exist, and 55000 without a master key.
 */
text	   *
oa_rotate_webhook_secret(text *org_id, text *uid, TimestampTz until)
{
	text	   *secret = oa_make_webhook_secret();

	replace_secret(org_id, secret, until, uid, NULL);
	return secret;
}

/*
 * overten_rotate_webhook_secret(org_id text, grace interval) returns text
 *
 * Returns the new secret.  The old one also signs until the grace period is
 * over; the one before that is forgotten.  Errors: 22004, 22023, 42704, 55000
 * no master key.
 */
Datum
overten_rotate_webhook_secret(PG_FUNCTION_ARGS)
{
	text	   *org_id = oa_text_argument(fcinfo, 0, "org_id");
	int64		grace = oa_interval_argument(fcinfo, 1, "grace", false,
											 GRACE_MAX_DAYS);

	PG_RETURN_TEXT_P(oa_rotate_webhook_secret(org_id, NULL,
											  GetCurrentTimestamp() + grace));
}
