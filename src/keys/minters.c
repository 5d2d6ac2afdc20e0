/*
 * minters.c
 *		The keys that a person has minted, for when that person leaves.
 *
 * A key belongs to its org and works on when its minter is no longer a member.
 * Whether it is to be revoked is for the org to decide.
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/pg_type.h"

#include "keys/keys.h"
#include "server/server.h"

PG_FUNCTION_INFO_V1(overten_revoke_keys_of);

/*
 * Count the active keys of an org that a person has minted.  Must be called
 * between oa_statements_begin() and _end().
 */
int64
oa_count_keys_of(text *uid, text *org_id)
{
	static OaStatement count = {
		.table = "api_keys",
		.latest = true,
		.text = "SELECT count(*) FROM overten_auth.api_keys k "
		"WHERE k.org_id = $2 AND k.created_by = $1 "
		"AND " OA_KEY_IS_ACTIVE("k"),
		.argtypes = {TEXTOID, TEXTOID},
	};
	Datum		values[] = {PointerGetDatum(uid), PointerGetDatum(org_id)};

	oa_statement_run(&count, values, NULL);
	return oa_statement_int64(0, 1);
}

/*
 * overten_revoke_keys_of(uid text, reason text) returns bigint
 *
 * Revokes the keys of all orgs that a person has minted and that are not
 * revoked yet.  Returns how many there were.  Locks the orgs that the person is a
 * member of, and so waits for keys that the person is minting.  The reason may
 * be NULL.  Errors: 22004, 22023; 40001 a key was minted since the transaction
 * began.
 */
Datum
overten_revoke_keys_of(PG_FUNCTION_ARGS)
{
	static OaStatement lock_orgs = {
		.table = "orgs",
		.text = "SELECT 1 FROM overten_auth.orgs WHERE org_id IN ("
		"SELECT org_id FROM overten_auth.members WHERE uid = $1 "
		"UNION ALL SELECT org_id FROM overten_auth.api_keys "
		"WHERE created_by = $1 AND revoked_at IS NULL) "
		"ORDER BY org_id FOR UPDATE",
		.argtypes = {TEXTOID},
	};
	static OaStatement update = {
		.table = "api_keys",
		.text = "WITH revoked AS ("
		"UPDATE overten_auth.api_keys "
		"SET revoked_at = clock_timestamp(), revoked_reason = $2 "
		"WHERE created_by = $1 AND revoked_at IS NULL "
		"RETURNING org_id, key_id) "
		"INSERT INTO overten_auth.audit_log "
		"(action, org_id, key_id, actor, detail) "
		"SELECT 'revoke_key', org_id, key_id, SESSION_USER, $2 FROM revoked",
		.argtypes = {TEXTOID, TEXTOID},
	};
	static OaStatement find_active = {
		.table = "api_keys",
		.latest = true,
		.text = "SELECT key_id FROM overten_auth.api_keys "
		"WHERE created_by = $1 AND revoked_at IS NULL LIMIT 1",
		.argtypes = {TEXTOID},
	};
	text	   *uid = oa_uid_argument(fcinfo, 0);
	text	   *reason = oa_reason_argument(fcinfo, 1);
	Datum		values[] = {PointerGetDatum(uid), PointerGetDatum(reason)};
	const bool	nulls[lengthof(values)] = {[1] = (reason == NULL)};
	uint64		revoked;
	int			level;

	level = oa_statements_begin();
	oa_statement_run(&lock_orgs, values, NULL);
	revoked = oa_statement_run(&update, values, nulls);
	if (oa_statement_run(&find_active, values, NULL) > 0)
		oa_key_not_seen(oa_statement_text(0, 1));
	oa_statements_end(level);
	if (revoked > 0)
		ForceSyncCommit();
	PG_RETURN_INT64((int64) revoked);
}
