/*
 * leaks.c
 *		The response to a leak: revoking one key, or all keys of an org.
 *
 * A person who finds a secret has only the secret, and knows nothing else
 * about it, so the secret alone is enough to revoke it.  These functions are
 * called at the moment when a wrong "no such key" costs the most.  So they do
 * not trust the snapshot of a REPEATABLE READ transaction: if, by the latest
 * state of the tables, a key is active that they should have revoked, they
 * raise 40001.
 *
 * Anybody who verifies a key gets its org's webhook secret.  So a leaked key
 * has leaked that secret, too.  If the caller asks for it, both functions
 * replace the secret in the same transaction.  They do not return the new one,
 * because a role that may report a leak need not be allowed to read it.  We
 * replace the secret only once for each leaked key.  The same leak is often
 * reported again and again, and each time the org would have to give its
 * receivers a new secret.
 *
 * As for every change, the trigger in invalidation.c removes the key from all
 * caches, and makes the commit wait for its WAL.  We also call
 * ForceSyncCommit() here, so that the wait does not depend on the trigger.
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/pg_type.h"
#include "utils/builtins.h"

#include "keys/keys.h"
#include "orgs/orgs.h"
#include "sealing/sealing.h"
#include "server/server.h"
#include "webhooks/webhooks.h"

PG_FUNCTION_INFO_V1(overten_revoke_leaked);
PG_FUNCTION_INFO_V1(overten_revoke_all);

/* Return the third argument of both functions: replace the webhook secret? */
static bool
rotation_argument(FunctionCallInfo fcinfo)
{
	oa_require_argument(fcinfo, 2, "rotate_webhook_secret");
	return PG_GETARG_BOOL(2);
}

/*
 * Raise 40001 because a key is active that the transaction's snapshot does not
 * see.  The caller has found its id.
 */
void
oa_key_not_seen(text *key_id)
{
	ereport(ERROR,
			(errcode(ERRCODE_T_R_SERIALIZATION_FAILURE),
			 errmsg("could not revoke a key that was minted since the transaction began"),
			 errdetail("Key \"%s\" is active, and the transaction's snapshot does not see it.",
					   text_to_cstring(key_id)),
			 errhint("Try again in a new transaction.")));
}

/*
 * Lock the org of a leaked key before the key itself. overten_revoke_all()
 * takes its locks in the same order.
 */
static void
lock_org_of_digest(bytea *digest)
{
	static OaStatement lock = {
		.table = "orgs",
		.text = "SELECT 1 FROM overten_auth.orgs "
		"WHERE org_id = (SELECT org_id FROM overten_auth.api_keys "
		"WHERE digest = $1) FOR UPDATE",
		.argtypes = {BYTEAOID},
	};
	Datum		values[] = {PointerGetDatum(digest)};

	oa_statement_run(&lock, values, NULL);
}

/* The result of revoke_digest(). */
typedef struct LeakedKey
{
	text	   *org_id;			/* NULL if there is no such key */
	bool		revoked;		/* did this call revoke it? */
	bool		exposed;		/* may its webhook secret be known with it? */
} LeakedKey;

/*
 * Revoke the key with this digest.  It exposes its org's webhook secret,
 * unless the secret has been replaced since the revocation and its grace
 * period is over.
 */
static void
revoke_digest(bytea *digest, text *reason, LeakedKey *key)
{
	static OaStatement update = {
		.table = "api_keys",
		.text = "UPDATE overten_auth.api_keys "
		"SET revoked_at = clock_timestamp(), revoked_reason = $2 "
		"WHERE digest = $1 AND revoked_at IS NULL RETURNING org_id, key_id",
		.argtypes = {BYTEAOID, TEXTOID},
	};
	static OaStatement find = {
		.table = "api_keys",
		.text = "SELECT k.org_id, k.revoked_at IS NOT NULL, "
		"(" OA_PREVIOUS_STILL_SIGNS ") IS TRUE OR NOT EXISTS ("
		"SELECT FROM overten_auth.audit_log a "
		"WHERE a.org_id = k.org_id AND a.action = 'rotate_webhook_secret' "
		"AND a.at >= k.revoked_at), k.key_id "
		"FROM overten_auth.api_keys k JOIN overten_auth.orgs o "
		"ON o.org_id = k.org_id "
		"WHERE k.digest = $1",
		.latest = true,
		.argtypes = {BYTEAOID},
	};
	Datum		values[] = {PointerGetDatum(digest), PointerGetDatum(reason)};
	const bool	nulls[lengthof(values)] = {[1] = (reason == NULL)};

	if (oa_statement_run(&update, values, nulls) > 0)
	{
		key->org_id = oa_statement_text(0, 1);
		key->revoked = true;
		key->exposed = true;
		oa_audit("revoke_leaked_key", key->org_id, oa_statement_text(0, 2),
				 NULL, reason);
		ForceSyncCommit();
	}
	else if (oa_statement_run(&find, values, NULL) > 0)
	{
		if (!oa_statement_bool(0, 2))
			oa_key_not_seen(oa_statement_text(0, 4));
		key->org_id = oa_statement_text(0, 1);
		key->exposed = oa_statement_bool(0, 3);
	}
}

/*
 * overten_revoke_leaked(secret text, reason text,
 * 						 rotate_webhook_secret boolean) returns boolean
 *
 * Returns true if this call revoked the key, false if it was revoked before,
 * and NULL if no key has this secret.  NULL is not an error, because people
 * also report look-alikes.  The reason may be NULL.  With
 * rotate_webhook_secret, rotates the webhook secret of the key's org without a
 * grace period, unless that was done since the revocation.  Errors: 22004,
 * 22023; 40001; 55000 no master key to rotate with, in which case nothing is
 * revoked.
 */
Datum
overten_revoke_leaked(PG_FUNCTION_ARGS)
{
	ErrorContextCallback secrecy;
	text	   *secret;
	text	   *reason;
	bool		rotates;
	LeakedKey	key = {0};

	oa_secrecy_begin(&secrecy);
	oa_require_argument(fcinfo, 0, "secret");
	reason = oa_reason_argument(fcinfo, 1);
	rotates = rotation_argument(fcinfo);
	/* A key whose prefix is not accepted now might be accepted again. */
	secret = oa_any_secret_argument(fcinfo, 0);
	if (secret != NULL)
	{
		bytea	   *digest = oa_secret_digest(secret);
		int			level = oa_statements_begin();

		if (rotates)
			lock_org_of_digest(digest);
		revoke_digest(digest, reason, &key);
		oa_statements_end(level);
		if (rotates && key.exposed)
			oa_replace_leaked_webhook_secret(key.org_id, reason);
	}
	oa_secrecy_end(&secrecy);

	if (key.org_id == NULL)
		PG_RETURN_NULL();
	PG_RETURN_BOOL(key.revoked);
}

/*
 * Revoke the active keys of an org, which the caller has locked with FOR
 * UPDATE, and return how many there were. "uid" is the person who does it, or
 * NULL, and the reason may be NULL.  Raises 40001 if the transaction's snapshot
 * does not see a key that is active.  Must be called between
 * oa_statements_begin() and _end().
 */
uint64
oa_revoke_all_keys(text *org_id, text *uid, text *reason)
{
	static OaStatement update = {
		.table = "api_keys",
		.text = "WITH revoked AS ("
		"UPDATE overten_auth.api_keys "
		"SET revoked_at = clock_timestamp(), "
		"revoked_by = $2, revoked_reason = $3 "
		"WHERE org_id = $1 AND revoked_at IS NULL RETURNING key_id) "
		"INSERT INTO overten_auth.audit_log "
		"(action, org_id, key_id, actor, uid, detail) "
		"SELECT 'revoke_key', $1, key_id, SESSION_USER, $2, $3 FROM revoked",
		.argtypes = {TEXTOID, TEXTOID, TEXTOID},
	};
	static OaStatement find_active = {
		.table = "api_keys",
		.text = "SELECT key_id FROM overten_auth.api_keys "
		"WHERE org_id = $1 AND revoked_at IS NULL LIMIT 1",
		.latest = true,
		.argtypes = {TEXTOID},
	};
	Datum		values[] = {
		PointerGetDatum(org_id),
		PointerGetDatum(uid),
		PointerGetDatum(reason),
	};
	const bool	nulls[lengthof(values)] = {
		[1] = (uid == NULL),
		[2] = (reason == NULL),
	};
	uint64		revoked = oa_statement_run(&update, values, nulls);

	if (oa_statement_run(&find_active, values, NULL) > 0)
		oa_key_not_seen(oa_statement_text(0, 1));
	if (revoked > 0)
		ForceSyncCommit();
	return revoked;
}

/*
 * overten_revoke_all(org_id text, reason text,
 * 					  rotate_webhook_secret boolean) returns bigint
 *
 * Revokes the active keys of an org, and returns how many there were.  Locks
 * the org, and so waits for keys that are being minted.  The reason may be
 * NULL.  With rotate_webhook_secret, rotates the org's webhook secret without
 * a grace period.  Errors: 22004, 22023, 42704; 40001; 55000 no master key to
 * rotate with, in which case nothing is revoked.
 */
Datum
overten_revoke_all(PG_FUNCTION_ARGS)
{
	text	   *org_id = oa_text_argument(fcinfo, 0, "org_id");
	text	   *reason = oa_reason_argument(fcinfo, 1);
	bool		rotates = rotation_argument(fcinfo);
	uint64		revoked;
	int			level;

	level = oa_statements_begin();
	oa_lock_org_row(org_id);
	revoked = oa_revoke_all_keys(org_id, NULL, reason);
	oa_statements_end(level);
	if (rotates)
		oa_replace_leaked_webhook_secret(org_id, reason);
	PG_RETURN_INT64((int64) revoked);
}
