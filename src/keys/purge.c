/*
 * purge.c
 *		Purges keys that are dead: revoked or expired.
 *
 * We never delete the row of a key.  Its digest stays, so that the key cannot
 * be imported again, and its id, its prefix and the times say why it is
 * refused.  The name, the persons, the reasons and the history are removed.
 * erased_at tells that this is such a row: lists, the history and the flush of
 * uses leave it out.
 *
 * A flush that has begun could write history of a key after we have removed
 * it.  So we lock out flushes before anything else; a flush that waits for us
 * holds no other lock (usage_lock.c).
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/namespace.h"
#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "storage/lmgr.h"
#include "tcop/utility.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/timestamp.h"

#include "keys/keys.h"
#include "orgs/orgs.h"
#include "server/server.h"

PG_FUNCTION_INFO_V1(overten_purge_keys);

/*
 * Begin to erase something.  Raises 25006 if the transaction cannot write, and
 * 25000 if it could miss what others have committed.
 */
void
oa_begin_erasing(const char *function)
{
	PreventCommandIfReadOnly(function);
	if (XactIsoLevel > XACT_READ_COMMITTED)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_TRANSACTION_STATE),
				 errmsg("%s must run at READ COMMITTED", function),
				 errdetail("It has to find everything that others have committed.")));
	LockRelationOid(get_relname_relid("key_usage",
									  get_namespace_oid(OA_SCHEMA, false)),
					ShareRowExclusiveLock);
}

/* Remove what other tables say of an org's keys that are purged. */
static void
remove_rest_of_keys(text *org_id)
{
	static OaStatement remove = {
		.table = "key_usage",
		.text = "DELETE FROM overten_auth.key_usage "
		"WHERE key_id IN (SELECT k.key_id FROM overten_auth.api_keys k "
		"WHERE k.org_id = $1 AND k.erased_at IS NOT NULL)",
		.argtypes = {TEXTOID},
	};
	static OaStatement remove_last_use = {
		.table = "key_last_used",
		.text = "DELETE FROM overten_auth.key_last_used "
		"WHERE key_id IN (SELECT k.key_id FROM overten_auth.api_keys k "
		"WHERE k.org_id = $1 AND k.erased_at IS NOT NULL)",
		.argtypes = {TEXTOID},
	};
	static OaStatement remove_details = {
		.table = "key_details",
		.text = "DELETE FROM overten_auth.key_details "
		"WHERE key_id IN (SELECT k.key_id FROM overten_auth.api_keys k "
		"WHERE k.org_id = $1 AND k.erased_at IS NOT NULL)",
		.argtypes = {TEXTOID},
	};
	Datum		values[] = {PointerGetDatum(org_id)};

	oa_statement_run(&remove, values, NULL);
	oa_statement_run(&remove_last_use, values, NULL);
	oa_statement_run(&remove_details, values, NULL);
}

/*
 * Purge the keys of a locked org that have been dead since before a time.
 * Returns how many there were.  Must be called between oa_statements_begin()
 * and _end(), after oa_begin_erasing().
 */
uint64
oa_purge_keys(text *org_id, TimestampTz before)
{
	static OaStatement purge = {
		.table = "api_keys",
		.text = "UPDATE overten_auth.api_keys "
		"SET erased_at = clock_timestamp(), "
		"revoked_at = COALESCE(revoked_at, expires_at), name = 'erased', "
		"scopes = NULL, allowed_addresses = NULL, created_by = NULL, "
		"revoked_by = NULL, revoked_reason = NULL, "
		"disabled_by = NULL, disabled_reason = NULL "
		"WHERE org_id = $1 AND erased_at IS NULL "
		"AND LEAST(revoked_at, expires_at) < $2 "
		"AND LEAST(revoked_at, expires_at) <= clock_timestamp()",
		.argtypes = {TEXTOID, TIMESTAMPTZOID},
	};
	Datum		values[] = {PointerGetDatum(org_id), TimestampTzGetDatum(before)};
	uint64		purged = oa_statement_run(&purge, values, NULL);

	remove_rest_of_keys(org_id);
	return purged;
}

/*
 * overten_purge_keys(org_id text, before timestamptz) returns bigint
 *
 * Purges the keys of an org that were revoked or have expired before a time,
 * with their history.  Returns how many there were.  Errors: 22004; 22023
 * before is infinite or in the future; 25000; 25006; 42704.
 */
Datum
overten_purge_keys(PG_FUNCTION_ARGS)
{
	text	   *org_id = oa_text_argument(fcinfo, 0, "org_id");
	TimestampTz before;
	uint64		purged;
	int			level;

	oa_require_argument(fcinfo, 1, "before");
	before = PG_GETARG_TIMESTAMPTZ(1);
	if (TIMESTAMP_NOT_FINITE(before) || before > GetCurrentTimestamp())
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("before must not be infinite or in the future")));

	oa_begin_erasing("overten_purge_keys()");
	level = oa_statements_begin();
	oa_lock_org_row(org_id);
	purged = oa_purge_keys(org_id, before);
	if (purged > 0)
		oa_audit("purge_keys", org_id, NULL, NULL,
				 cstring_to_text(psprintf(UINT64_FORMAT, purged)));
	oa_statements_end(level);
	PG_RETURN_INT64((int64) purged);
}
