/*
 * store.c
 *		Reads the extension's tables without SQL, under the latest snapshot.
 *
 * A verification must see a revocation that has committed, whatever snapshot
 * its transaction runs under.  So a read takes GetLatestSnapshot(), and keeps
 * it registered.  SnapshotSelf and SnapshotDirty would miss live rows that are
 * being updated at that moment.  All rows of one read come from one snapshot.
 * If there is no usable index (tables.c), we scan the table.
 *
 * We release the lock on a table as soon as we have searched the table, so
 * that a long transaction does not block DDL.  We hold only one lock at a
 * time, so that we cannot deadlock with DDL.
 *
 * ALTER TABLE may rewrite a table under its own transaction id.  A snapshot
 * from before its commit then sees no rows at all.  So we lock the first table
 * of a read before we take the snapshot.  We cannot do that with the other
 * tables; instead, key_row.c starts over if it cannot find a key's org, or if a
 * message about a whole table has come while it read limits.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "access/transam.h"
#include "access/xact.h"
#include "utils/builtins.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "lookup/changes.h"
#include "server/server.h"

/* A scan and its current row.  It is open until finish_scan(). */
typedef struct RowScan
{
	Relation	relation;
	const OaTableInfo *table;
	SysScanDesc descriptor;
	HeapTuple	tuple;
	Datum		values[OA_TABLE_COLUMNS_MAX];
	bool		nulls[OA_TABLE_COLUMNS_MAX];
} RowScan;

/*
 * Begin a read, whose first table is given.  Until oa_store_end_read() it sees
 * the rows that are committed now.  The comments above and those of cache.c
 * and shared_clock.c explain the order of the steps.
 */
void
oa_store_begin_read(OaRead *read, OaTable first)
{
	read->first = oa_table_open(first, &read->table);
	oa_tables_look_up();
	read->orgs = oa_table_oid(OA_ORGS);
	read->limits = oa_table_oid(OA_LIMITS);
	if (first == OA_API_KEYS)
	{
		oa_shared_publish(RelationGetRelid(read->first));
		oa_shared_publish(read->orgs);
		oa_shared_publish(read->limits);
	}
	read->as_of = oa_clock();
	read->shared_as_of = oa_shared_clock();
	pg_memory_barrier();
	read->shared = first == OA_API_KEYS && oa_shared_is_usable();
	read->snapshot = RegisterSnapshot(GetLatestSnapshot());
}

/*
 * Close the first table of a read without searching it.  The functions that
 * find rows of other tables open these themselves.
 */
void
oa_store_close_first(OaRead *read)
{
	table_close(read->first, AccessShareLock);
}

/* End a read.  An error ends it too, through the resource owner. */
void
oa_store_end_read(OaRead *read)
{
	UnregisterSnapshot(read->snapshot);
}

/* Raise 55000: a column is NULL, although the extension has made it NOT NULL. */
pg_noreturn static void
refuse_null(const RowScan *scan, int column)
{
	TupleDesc	descriptor = RelationGetDescr(scan->relation);
	AttrNumber	attnum = scan->table->attnums[column];

	oa_refuse_changed_object(psprintf("Column \"%s\" of table %s.%s must not be NULL.",
									  NameStr(TupleDescAttr(descriptor, attnum - 1)->attname),
									  OA_SCHEMA,
									  RelationGetRelationName(scan->relation)));
}

/* Read the next row.  Returns false if there is none. */
static bool
next_row(RowScan *scan)
{
	const OaTableInfo *table = scan->table;

	scan->tuple = systable_getnext(scan->descriptor);
	if (!HeapTupleIsValid(scan->tuple))
		return false;

	for (int i = 0; i < table->ncolumns; i++)
	{
		scan->values[i] = heap_getattr(scan->tuple, table->attnums[i],
									   RelationGetDescr(scan->relation),
									   &scan->nulls[i]);
		if (scan->nulls[i] && !table->nullable[i])
			refuse_null(scan, i);
	}
	return true;
}

/*
 * Find the rows of an open table whose first columns equal "keys".  Returns
 * false if there are none.
 */
static bool
start_scan(RowScan *scan, OaRead *read, Relation relation,
		   const OaTableInfo *table, const Datum *keys)
{
	ScanKeyData scan_keys[OA_KEY_COLUMNS_MAX];
	int			count = Min(table->key_columns, OA_KEY_COLUMNS_MAX);

	scan->relation = relation;
	scan->table = table;
	for (int i = 0; i < count; i++)
		ScanKeyInit(&scan_keys[i], table->attnums[i], BTEqualStrategyNumber,
					table->equality, keys[i]);
	scan->descriptor = systable_beginscan(relation, table->index,
										  OidIsValid(table->index),
										  read->snapshot, count, scan_keys);
	return next_row(scan);
}

static void
finish_scan(RowScan *scan)
{
	systable_endscan(scan->descriptor);
	table_close(scan->relation, AccessShareLock);
}

/*
 * Has our own open transaction written this version of a row?  COPY FREEZE
 * writes frozen versions, but these still hold the id of their transaction.
 */
static bool
is_own(HeapTuple tuple)
{
	return TransactionIdIsCurrentTransactionId(HeapTupleHeaderGetRawXmin(tuple->t_data));
}

/* Is this the environment of live keys?  Any other value is that of test keys. */
static bool
is_live(Datum environment)
{
	text	   *name = DatumGetTextPP(environment);

	return VARSIZE_ANY_EXHDR(name) == 4 &&
		memcmp(VARDATA_ANY(name), "live", 4) == 0;
}

/* Return a time of the current row.  NULL stands for never. */
static TimestampTz
end_time(const RowScan *scan, int column)
{
	return scan->nulls[column] ? DT_NOEND :
		DatumGetTimestampTz(scan->values[column]);
}

/* Return a palloc'd copy of an array of the current row, or NULL. */
static ArrayType *
array_copy(const RowScan *scan, int column)
{
	return scan->nulls[column] ? NULL :
		DatumGetArrayTypePCopy(scan->values[column]);
}

/*
 * Find a key by the digest of its secret, in a read whose first table is
 * api_keys.  The row is in palloc'd memory.
 */
bool
oa_store_find_key(OaRead *read, const uint8 *digest, OaKeyRow *row)
{
	union
	{
		bytea		header;
		char		data[VARHDRSZ + OA_DIGEST_LEN];
	}			key;
	Datum		keys[OA_KEY_COLUMNS_MAX] = {PointerGetDatum(&key.header)};
	RowScan		scan;
	bool		found;

	SET_VARSIZE(&key.header, sizeof(key.data));
	memcpy(VARDATA(&key.header), digest, OA_DIGEST_LEN);

	found = start_scan(&scan, read, read->first, read->table, keys);
	if (found)
	{
		row->key_id = DatumGetTextPCopy(scan.values[OA_KEY_ID]);
		row->org_id = DatumGetTextPCopy(scan.values[OA_KEY_ORG_ID]);
		row->prefix = DatumGetTextPCopy(scan.values[OA_KEY_PREFIX]);
		row->revoked = !scan.nulls[OA_KEY_REVOKED_AT];
		row->test = !is_live(scan.values[OA_KEY_ENVIRONMENT]);
		row->disabled = !scan.nulls[OA_KEY_DISABLED_AT];
		row->expires_at = end_time(&scan, OA_KEY_EXPIRES_AT);
		row->scopes = array_copy(&scan, OA_KEY_SCOPES);
		row->allowed_addresses = array_copy(&scan, OA_KEY_ALLOWED_ADDRESSES);
		row->own = is_own(scan.tuple);
		row->xmin = HeapTupleHeaderGetXmin(scan.tuple->t_data);
		row->line = scan.nulls[OA_KEY_LINEAGE] ? row->key_id :
			DatumGetTextPCopy(scan.values[OA_KEY_LINEAGE]);
	}
	finish_scan(&scan);
	return found;
}

/* Find the org of a key by its id.  The row is in palloc'd memory. */
bool
oa_store_find_org(OaRead *read, text *org_id, OaOrgRow *row)
{
	const OaTableInfo *table;
	Relation	orgs = oa_table_open(OA_ORGS, &table);
	Datum		keys[OA_KEY_COLUMNS_MAX] = {PointerGetDatum(org_id)};
	RowScan		scan;
	bool		found;

	/* If orgs is another table by now, we have not published its OID. */
	read->shared = read->shared && RelationGetRelid(orgs) == read->orgs;
	found = start_scan(&scan, read, orgs, table, keys);
	if (found)
	{
		row->name = DatumGetTextPCopy(scan.values[OA_ORG_NAME]);
		row->tier = DatumGetTextPCopy(scan.values[OA_ORG_TIER]);
		row->sealed_secret = DatumGetByteaPCopy(scan.values[OA_ORG_WEBHOOK_SECRET]);
		row->suspended = !scan.nulls[OA_ORG_SUSPENDED_AT];
		row->own = is_own(scan.tuple);
	}
	finish_scan(&scan);
	return found;
}

/*
 * Set the period of a limit: a day or a month, which stand in their own fields
 * of an interval, or seconds.
 */
static void
set_period(OaLimitRow *row, const Interval *period)
{
	row->calendar = period->month != 0 ? OA_MONTH :
		period->day != 0 ? OA_DAY : OA_NO_CALENDAR;
	row->period = (int32) (period->time / USECS_PER_SEC);
}

/*
 * Find the limits of a subject: a tier, an org, or a key's line of rotations.
 * Returns a list of palloc'd OaLimitRow, in no order.
 */
List	   *
oa_store_find_limits(OaRead *read, const char *scope, text *subject)
{
	const OaTableInfo *table;
	Relation	limits = oa_table_open(OA_LIMITS, &table);
	Datum		keys[OA_KEY_COLUMNS_MAX] = {
		CStringGetTextDatum(scope),
		PointerGetDatum(subject),
	};
	List	   *rows = NIL;
	RowScan		scan;

	/* As with orgs. */
	read->shared = read->shared && RelationGetRelid(limits) == read->limits;
	for (bool found = start_scan(&scan, read, limits, table, keys); found;
		 found = next_row(&scan))
	{
		OaLimitRow *row = palloc(sizeof(OaLimitRow));
		text	   *per = DatumGetTextPP(scan.values[OA_LIMIT_PER]);

		row->name = DatumGetTextPCopy(scan.values[OA_LIMIT_NAME]);
		row->quota = DatumGetInt64(scan.values[OA_LIMIT_QUOTA]);
		set_period(row, DatumGetIntervalP(scan.values[OA_LIMIT_PERIOD]));
		row->burst = scan.nulls[OA_LIMIT_BURST] ? 0 :
			DatumGetInt64(scan.values[OA_LIMIT_BURST]);
		row->anchor = scan.nulls[OA_LIMIT_ANCHOR] ? 0 :
			DatumGetInt32(scan.values[OA_LIMIT_ANCHOR]);
		row->per_org = VARSIZE_ANY_EXHDR(per) == 3 &&
			memcmp(VARDATA_ANY(per), "org", 3) == 0;
		row->shadow = DatumGetBool(scan.values[OA_LIMIT_SHADOW]);
		rows = lappend(rows, row);
	}
	finish_scan(&scan);
	return rows;
}

/*
 * Has a message about a whole table come since a read began?  If so, a table may
 * have been rewritten, and then we do not see its rows.
 */
bool
oa_store_was_disturbed(const OaRead *read)
{
	return oa_all_changed() > read->as_of;
}

/*
 * Read all signing keys, in a read whose first table is theirs.  Returns a
 * list of palloc'd OaSigningKeyRow.
 */
List	   *
oa_store_read_signing_keys(OaRead *read)
{
	List	   *rows = NIL;
	RowScan		scan = {.relation = read->first,.table = read->table};

	scan.descriptor = systable_beginscan(scan.relation, InvalidOid, false,
										 read->snapshot, 0, NULL);
	while (next_row(&scan))
	{
		OaSigningKeyRow *row = palloc(sizeof(OaSigningKeyRow));

		row->kid = DatumGetTextPCopy(scan.values[OA_SIGNING_KID]);
		row->public_key = DatumGetByteaPCopy(scan.values[OA_SIGNING_PUBLIC_KEY]);
		row->expires_at = end_time(&scan, OA_SIGNING_EXPIRES_AT);
		row->certificate_expires_at =
			end_time(&scan, OA_SIGNING_CERTIFICATE_EXPIRES_AT);
		row->own = is_own(scan.tuple);
		rows = lappend(rows, row);
	}
	finish_scan(&scan);
	return rows;
}

/*
 * Return the full id of a transaction whose id is in a row or a snapshot now.
 * Ids that we keep must be compared by their full ids, because the short ones
 * are reused.
 */
FullTransactionId
oa_full_xid(TransactionId xid)
{
	FullTransactionId next = ReadNextFullTransactionId();
	uint32		epoch = EpochFromFullTransactionId(next);

	if (!TransactionIdIsNormal(xid))
		epoch = 0;
	else if (xid > XidFromFullTransactionId(next))
		epoch--;
	return FullTransactionIdFromEpochAndXid(epoch, xid);
}
