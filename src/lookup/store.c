/*
 * store.c
 *		Direct reads of the extension's tables, under the latest snapshot.
 *
 * A verification must see a revocation that has committed, whatever snapshot
 * its transaction runs under, so a read takes GetLatestSnapshot() and keeps
 * it registered.  SnapshotSelf and SnapshotDirty would miss live rows that
 * are updated at that moment.  All rows of one read come from one snapshot.
 * Without a usable index (tables.c) the table is scanned.
 *
 * Locks are released as soon as a table has been looked at, lest a long
 * transaction stand in the way of DDL, and only one is held at a time, lest
 * there be a deadlock with it.
 *
 * ALTER TABLE may rewrite a table under its own transaction id, and then a
 * snapshot from before its commit sees no rows at all.  So the first table of
 * a read is locked before the snapshot is taken.  With the second one that is
 * not possible: verify.c starts over if a key's org cannot be found.
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

/* A row in the hands of a read: the scan is open until finish_scan(). */
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
 * Begin to read, from this table first: until oa_store_end_read(), rows are
 * seen as they are committed now.  For the order, see above, cache.c and
 * shared_clock.c.
 */
void
oa_store_begin_read(OaRead *read, OaTable first)
{
	read->first = oa_table_open(first, &read->table);
	oa_tables_look_up();
	read->orgs = oa_table_oid(OA_ORGS);
	if (first == OA_API_KEYS)
	{
		oa_shared_publish(RelationGetRelid(read->first));
		oa_shared_publish(read->orgs);
	}
	read->as_of = oa_clock();
	read->shared_as_of = oa_shared_clock();
	pg_memory_barrier();
	read->shared = first == OA_API_KEYS && oa_shared_is_usable();
	read->snapshot = RegisterSnapshot(GetLatestSnapshot());
}

/* End a read.  An error ends it too, through the resource owner. */
void
oa_store_end_read(OaRead *read)
{
	UnregisterSnapshot(read->snapshot);
}

/* Take the next row; false if there is none. */
static bool
next_row(RowScan *scan)
{
	const OaTableInfo *table = scan->table;

	scan->tuple = systable_getnext(scan->descriptor);
	if (!HeapTupleIsValid(scan->tuple))
		return false;

	for (int i = 0; i < table->ncolumns; i++)
		scan->values[i] = heap_getattr(scan->tuple, table->attnums[i],
									   RelationGetDescr(scan->relation),
									   &scan->nulls[i]);
	return true;
}

/* Look for the one row of an open table whose first column equals "key". */
static bool
start_scan(RowScan *scan, OaRead *read, Relation relation,
		   const OaTableInfo *table, Datum key)
{
	ScanKeyData scan_key;

	scan->relation = relation;
	scan->table = table;
	ScanKeyInit(&scan_key, table->attnums[0], BTEqualStrategyNumber,
				table->equality, key);
	scan->descriptor = systable_beginscan(relation, table->index,
										  OidIsValid(table->index),
										  read->snapshot, 1, &scan_key);
	return next_row(scan);
}

static void
finish_scan(RowScan *scan)
{
	systable_endscan(scan->descriptor);
	table_close(scan->relation, AccessShareLock);
}

/*
 * Was this row version written by the own, still open transaction?  COPY FREEZE
 * writes frozen ones, which yet say by whom.
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

/*
 * Find a key by the digest of its secret, in a read that began with api_keys.
 * The row is in palloc'd memory.
 */
bool
oa_store_find_key(OaRead *read, const uint8 *digest, OaKeyRow *row)
{
	union
	{
		bytea		header;
		char		data[VARHDRSZ + OA_DIGEST_LEN];
	}			key;
	RowScan		scan;
	bool		found;

	SET_VARSIZE(&key.header, sizeof(key.data));
	memcpy(VARDATA(&key.header), digest, OA_DIGEST_LEN);

	found = start_scan(&scan, read, read->first, read->table,
					   PointerGetDatum(&key.header));
	if (found)
	{
		row->key_id = DatumGetTextPCopy(scan.values[OA_KEY_ID]);
		row->org_id = DatumGetTextPCopy(scan.values[OA_KEY_ORG_ID]);
		row->prefix = DatumGetTextPCopy(scan.values[OA_KEY_PREFIX]);
		row->revoked = !scan.nulls[OA_KEY_REVOKED_AT];
		row->test = !is_live(scan.values[OA_KEY_ENVIRONMENT]);
		row->own = is_own(scan.tuple);
		row->xmin = HeapTupleHeaderGetXmin(scan.tuple->t_data);
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
	RowScan		scan;
	bool		found;

	/* Another one was not published before the clock was read. */
	read->shared = read->shared && RelationGetRelid(orgs) == read->orgs;
	found = start_scan(&scan, read, orgs, table, PointerGetDatum(org_id));
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

/* A time of the row at hand; a NULL stands for never. */
static TimestampTz
end_time(const RowScan *scan, int column)
{
	return scan->nulls[column] ? DT_NOEND :
		DatumGetTimestampTz(scan->values[column]);
}

/*
 * All signing keys, in a read that began with them, as a list of palloc'd
 * OaSigningKeyRow.
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
 * The full id of a transaction that is in a row or a snapshot now.  What is
 * kept for longer than the short ids last is to be compared by it.
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
