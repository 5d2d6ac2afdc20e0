/*
 * quota_flush.c
 *		Reads and writes the table of the units that quotas have granted.
 *
 * Only a worker writes to it, one batch at a time: collect, write, commit, and
 * then subtract what was written.  An error before the commit leaves what is in
 * memory unchanged.  Between the commit and the subtraction nothing can raise;
 * if the process is killed there, the server reinitializes shared memory.  Only
 * one worker at a time flushes a database, so nothing is written twice.
 *
 * The units of an org that was erased are not written, and forgotten.  Erasing
 * locks out flushes (keys/purge.c).
 */
#include "postgres.h"

#include "catalog/namespace.h"
#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "storage/lmgr.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "limits/limits.h"
#include "server/server.h"
#include "usage/usage.h"

#define BATCH_MAX			10000
#define REMOVE_MAX			10000	/* rows per transaction */
#define RETENTION			(400 * USECS_PER_DAY)	/* 13 months */

/* The columns of a batch, each of which is an array. */
enum
{
	PERIOD_START, SUBJECT, ORG_ID, UNITS,
	COLUMNS
};

/* Make a bytea of the id of a bucket. */
static Datum
id_datum(const uint8 *id)
{
	bytea	   *value = palloc(VARHDRSZ + OA_BUCKET_ID_LEN);

	SET_VARSIZE(value, VARHDRSZ + OA_BUCKET_ID_LEN);
	memcpy(VARDATA(value), id, OA_BUCKET_ID_LEN);
	return PointerGetDatum(value);
}

/*
 * Read the units that were used of a quota in a period, as they are committed
 * now.  We lock the table before we take the snapshot, because ALTER TABLE may
 * rewrite it under its own transaction id, and a snapshot from before its commit
 * sees no rows.
 */
int64
oa_read_quota_units(const uint8 *id, TimestampTz start)
{
	static OaStatement find = {
		.table = "quota_usage",
		.latest = true,
		.text = "SELECT units FROM overten_auth.quota_usage "
		"WHERE period_start = $1 AND subject = $2",
		.argtypes = {TIMESTAMPTZOID, BYTEAOID},
	};
	Oid			relid = get_relname_relid("quota_usage",
										  get_namespace_oid(OA_SCHEMA, true));
	Datum		values[2];
	int64		units = 0;
	int			level;

	if (OidIsValid(relid))
		LockRelationOid(relid, AccessShareLock);
	level = oa_statements_begin();
	values[0] = TimestampTzGetDatum(start);
	values[1] = id_datum(id);
	if (oa_statement_run(&find, values, NULL) > 0)
		units = oa_statement_int64(0, 1);
	oa_statements_end(level);
	return units;
}

static int
compare_units(const void *a, const void *b)
{
	const OaUnwritten *x = a;
	const OaUnwritten *y = b;

	if (x->start != y->start)
		return x->start < y->start ? -1 : 1;
	return memcmp(x->id, y->id, OA_BUCKET_ID_LEN);
}

/* Make an array of each column of a batch. */
static void
make_arrays(const OaUnwritten *batch, int count, Datum *arrays)
{
	static const Oid types[COLUMNS] = {
		[PERIOD_START] = TIMESTAMPTZOID,
		[SUBJECT] = BYTEAOID,
		[ORG_ID] = TEXTOID,
		[UNITS] = INT8OID,
	};
	Datum	   *values = palloc(count * sizeof(Datum));

	for (int column = 0; column < COLUMNS; column++)
	{
		for (int i = 0; i < count; i++)
		{
			const OaUnwritten *row = &batch[i];

			values[i] = column == PERIOD_START ? TimestampTzGetDatum(row->start) :
				column == SUBJECT ? id_datum(row->id) :
				column == UNITS ? Int64GetDatum(row->units) :
				PointerGetDatum(cstring_to_text_with_len(row->org_id,
														 strnlen(row->org_id, OA_COUNTED_ID_MAX)));
		}
		arrays[column] = oa_make_array(values, NULL, count, types[column]);
	}
}

/* Write a batch in a transaction, in the order of the table's key. */
static void
write_batch(OaUnwritten *batch, int count)
{
	static OaStatement upsert = {
		.table = "quota_usage",
		.text = "INSERT INTO overten_auth.quota_usage AS q "
		"(period_start, subject, org_id, units) "
		"SELECT u.* FROM unnest($1, $2, $3, $4) "
		"u (period_start, subject, org_id, units) "
		"WHERE NOT EXISTS (SELECT FROM overten_auth.orgs o "
		"WHERE o.org_id = u.org_id AND o.erased_at IS NOT NULL) "
		"ON CONFLICT (period_start, subject) DO UPDATE SET units = "
		"LEAST(q.units, 9223372036854775807 - EXCLUDED.units) + EXCLUDED.units",
		.argtypes = {TIMESTAMPTZARRAYOID, BYTEAARRAYOID, TEXTARRAYOID,
		INT8ARRAYOID},
	};

	qsort(batch, count, sizeof(OaUnwritten), compare_units);
	oa_worker_begin();
	if (oa_lock_usage_tables())
	{
		Datum		arrays[COLUMNS];
		int			level = oa_statements_begin();

		make_arrays(batch, count, arrays);
		oa_statement_run(&upsert, arrays, NULL);
		oa_statements_end(level);
	}
	oa_worker_commit();
}

/* Write what quotas have granted.  After an error it is written next time. */
void
oa_flush_quotas(void)
{
	OaUnwritten *batch = MemoryContextAlloc(TopMemoryContext,
											BATCH_MAX * sizeof(OaUnwritten));
	uint32		chain = 0;
	int			count;

	while ((count = oa_collect_quotas(&chain, batch, BATCH_MAX)) > 0)
	{
		write_batch(batch, count);
		oa_subtract_quotas(batch, count);
		CHECK_FOR_INTERRUPTS();
	}
	pfree(batch);
}

/*
 * Remove some of the rows of periods that began 13 months ago or earlier.
 * Returns whether there may be more.
 */
bool
oa_remove_old_quotas(void)
{
	static OaStatement remove = {
		.table = "quota_usage",
		.text = "DELETE FROM overten_auth.quota_usage "
		"WHERE ctid = ANY (ARRAY("
		"SELECT ctid FROM overten_auth.quota_usage "
		"WHERE period_start < $1 LIMIT $2))",
		.argtypes = {TIMESTAMPTZOID, INT8OID},
	};
	Datum		values[2];
	uint64		removed;
	int			level;

	oa_worker_begin();
	values[0] = TimestampTzGetDatum(GetCurrentTimestamp() - RETENTION);
	values[1] = Int64GetDatum(REMOVE_MAX);
	level = oa_statements_begin();
	removed = oa_statement_run(&remove, values, NULL);
	oa_statements_end(level);
	oa_worker_commit();
	return removed == REMOVE_MAX;
}
