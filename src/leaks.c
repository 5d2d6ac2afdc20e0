/*
 * leaks.c
 *		What to do about a secret that got out: revoke it, or all of an org.
 *
 * Whoever finds a secret holds it, and knows nothing else of it: so it is
 * revoked by possession.  The functions are for the moment when a wrong "there
 * is none" costs most, hence they do not trust the snapshot of a REPEATABLE
 * READ transaction: if a key that they should have revoked is active by the
 * latest state of the tables, they raise 40001.
 *
 * The caches of all sessions are emptied, and the commit made to wait for its
 * WAL, by the trigger of invalidation.c as for every change; ForceSyncCommit()
 * is called here, too, lest that depend on the trigger.
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/pg_type.h"

#include "overten_auth.h"

PG_FUNCTION_INFO_V1(overten_revoke_leaked);
PG_FUNCTION_INFO_V1(overten_revoke_all);

/* Report a key that is active, but not to the transaction's snapshot. */
static void
key_not_seen(void)
{
	ereport(ERROR,
			(errcode(ERRCODE_T_R_SERIALIZATION_FAILURE),
			 errmsg("could not revoke a key that was minted since the transaction began"),
			 errhint("Try again in a new transaction.")));
}

/*
 * Revoke the key with a digest.  *known tells whether there is one; the result,
 * whether this call revoked it.
 */
static bool
revoke_digest(bytea *digest, text *reason, bool *known)
{
	static OaStatement update = {
		.table = "api_keys",
		.text = "UPDATE overten_auth.api_keys "
		"SET revoked_at = pg_catalog.clock_timestamp(), revoked_reason = $2 "
		"WHERE digest OPERATOR(pg_catalog.=) $1 AND revoked_at IS NULL "
		"RETURNING org_id, key_id",
		.nargs = 2,
		.argtypes = {BYTEAOID, TEXTOID},
	};
	static OaStatement find = {
		.table = "api_keys",
		.text = "SELECT revoked_at IS NOT NULL FROM overten_auth.api_keys "
		"WHERE digest OPERATOR(pg_catalog.=) $1",
		.latest = true,
		.nargs = 1,
		.argtypes = {BYTEAOID},
	};
	Datum		values[] = {PointerGetDatum(digest), PointerGetDatum(reason)};
	int			level = oa_statements_begin();
	bool		revoked;

	revoked = oa_statement_run(&update, values, reason ? NULL : " n") > 0;
	*known = revoked || oa_statement_run(&find, values, NULL) > 0;
	if (revoked)
	{
		oa_audit("revoke_leaked_key", oa_statement_text(0, 1),
				 oa_statement_text(0, 2), NULL, reason);
		ForceSyncCommit();
	}
	else if (*known && !oa_statement_bool(0, 1))
		key_not_seen();
	oa_statements_end(level);
	return revoked;
}

/*
 * overten_revoke_leaked(secret text, reason text) returns boolean
 *
 * True if this call revoked the key, false if it was revoked before, NULL if
 * no key has this secret, which is no error: who reports leaks reports
 * look-alikes, too.  The reason may be NULL.  Errors: 22004, 22023; 40001.
 */
Datum
overten_revoke_leaked(PG_FUNCTION_ARGS)
{
	ErrorContextCallback secrecy;
	text	   *secret;
	text	   *reason;
	bool		known = false;
	bool		revoked = false;

	oa_secrecy_begin(&secrecy);
	oa_require_argument(fcinfo, 0, "secret");
	reason = oa_reason_argument(fcinfo, 1);
	secret = oa_secret_argument(fcinfo, 0);
	if (secret != NULL)
		revoked = revoke_digest(oa_secret_digest(secret), reason, &known);
	oa_secrecy_end(&secrecy);

	if (!known)
		PG_RETURN_NULL();
	PG_RETURN_BOOL(revoked);
}

/*
 * overten_revoke_all(org_id text, reason text) returns bigint
 *
 * Revokes the active keys of an org and returns how many there were.  Locking
 * the org waits for those that are being minted.  The reason may be NULL.
 * Errors: 22004, 22023, 42704; 40001.
 */
Datum
overten_revoke_all(PG_FUNCTION_ARGS)
{
	static OaStatement lock_org = {
		.table = "orgs",
		.text = "SELECT 1 FROM overten_auth.orgs "
		"WHERE org_id OPERATOR(pg_catalog.=) $1 FOR UPDATE",
		.nargs = 1,
		.argtypes = {TEXTOID},
	};
	static OaStatement update = {
		.table = "api_keys",
		.text = "WITH revoked AS ("
		"UPDATE overten_auth.api_keys "
		"SET revoked_at = pg_catalog.clock_timestamp(), revoked_reason = $2 "
		"WHERE org_id OPERATOR(pg_catalog.=) $1 AND revoked_at IS NULL "
		"RETURNING key_id) "
		"INSERT INTO overten_auth.audit_log "
		"(action, org_id, key_id, actor, detail) "
		"SELECT 'revoke_key', $1, key_id, SESSION_USER, $2 FROM revoked",
		.nargs = 2,
		.argtypes = {TEXTOID, TEXTOID},
	};
	static OaStatement find_active = {
		.table = "api_keys",
		.text = "SELECT 1 FROM overten_auth.api_keys "
		"WHERE org_id OPERATOR(pg_catalog.=) $1 AND revoked_at IS NULL "
		"LIMIT 1",
		.latest = true,
		.nargs = 1,
		.argtypes = {TEXTOID},
	};
	text	   *org_id = oa_text_argument(fcinfo, 0, "org_id");
	text	   *reason = oa_reason_argument(fcinfo, 1);
	Datum		values[] = {PointerGetDatum(org_id), PointerGetDatum(reason)};
	uint64		revoked;
	int			level;

	level = oa_statements_begin();
	if (oa_statement_run(&lock_org, values, NULL) == 0)
		oa_org_missing();
	revoked = oa_statement_run(&update, values, reason ? NULL : " n");
	if (oa_statement_run(&find_active, values, NULL) > 0)
		key_not_seen();
	oa_statements_end(level);
	if (revoked > 0)
		ForceSyncCommit();
	PG_RETURN_INT64((int64) revoked);
}
