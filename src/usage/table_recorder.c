/*
 * table_recorder.c
 *		Records when a key was last used, in the verifying transaction.
 *
 * This is used if the library is not preloaded, and in databases that the
 * background workers do not look after.  The time is in a table of its own, so
 * that recording a use does not write to api_keys or invalidate a cache.
 *
 * We record at most once a minute per key, and only if that cannot hurt the
 * caller.  The transaction must be allowed to write.  It must be READ
 * COMMITTED, so that the update cannot fail to serialize.  We never wait: if
 * somebody else has locked the row or the table, we do not record the use.
 */
#include "postgres.h"

#include "access/parallel.h"
#include "access/xact.h"
#include "access/xlog.h"
#include "catalog/namespace.h"
#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "storage/lmgr.h"
#include "utils/lsyscache.h"
#include "utils/timestamp.h"

#include "server/server.h"
#include "settings.h"
#include "text/text.h"
#include "usage/usage.h"

#define RECORD_INTERVAL_MS	(60 * 1000)

/* Should we record a use, if the last one was recorded at "recorded_at"? */
static bool
is_due(TimestampTz recorded_at, TimestampTz now)
{
	return oa_record_use_without_preload &&
		!XactReadOnly && XactIsoLevel <= XACT_READ_COMMITTED &&
		!IsInParallelMode() && !RecoveryInProgress() &&
		TimestampDifferenceExceeds(recorded_at, now, RECORD_INTERVAL_MS);
}

/* Record a use of a key, unless one was recorded less than a minute ago. */
static void
record_last_use(text *key_id, TimestampTz now)
{
	static OaStatement lock = {
		.table = "key_last_used",
		.text = "SELECT 1 FROM overten_auth.key_last_used "
		"WHERE key_id = $1 AND (last_used_at IS NULL OR last_used_at < $2) "
		"FOR NO KEY UPDATE SKIP LOCKED",
		.argtypes = {TEXTOID, TIMESTAMPTZOID},
	};
	static OaStatement update = {
		.table = "key_last_used",
		.text = "UPDATE overten_auth.key_last_used SET last_used_at = $2 "
		"WHERE key_id = $1",
		.argtypes = {TEXTOID, TIMESTAMPTZOID},
	};
	Datum		before[] = {
		PointerGetDatum(key_id),
		TimestampTzGetDatum(TimestampTzPlusMilliseconds(now,
														-RECORD_INTERVAL_MS)),
	};
	Datum		values[] = {PointerGetDatum(key_id), TimestampTzGetDatum(now)};
	int			level;
	Oid			relid = get_relname_relid("key_last_used",
										  get_namespace_oid(OA_SCHEMA, true));

	if (!OidIsValid(relid) ||
		!ConditionalLockRelationOid(relid, RowExclusiveLock))
		return;

	level = oa_statements_begin();
	if (oa_statement_run(&lock, before, NULL) > 0)
		oa_statement_run(&update, values, NULL);
	oa_statements_end(level);
}

/*
 * Set the time even if record_last_use() gives up, so that the next use does
 * not try again at once.
 */
static void
record_accepted(text *key_id, const OaClientAddr *client,
				TimestampTz *recorded_at)
{
	TimestampTz now = GetCurrentTimestamp();

	if (is_due(*recorded_at, now))
	{
		*recorded_at = now;
		record_last_use(key_id, now);
	}
}

/* Do nothing: the table has no column for attempts that are refused. */
static void
record_refused(text *key_id, const OaClientAddr *client, OaCounted as)
{
}

const OaUseRecorder oa_table_recorder = {
	.accepted = record_accepted,
	.refused = record_refused,
};
