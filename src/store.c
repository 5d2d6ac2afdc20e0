/*
 * store.c
 *		Direct reads of the extension's tables, under the latest snapshot.
 *
 * A verification must see a revocation that has committed, whatever snapshot
 * its transaction runs under, so a read takes GetLatestSnapshot() and keeps
 * it registered.  SnapshotSelf and SnapshotDirty would miss live rows that
 * are updated at that moment.  All rows of one read come from one snapshot.
 *
 * Relations are found by name in the extension's own schema, columns by name
 * in the relation, the index by what it is on: a cached OID alone would not
 * survive DROP EXTENSION or REINDEX CONCURRENTLY.  What was found is kept for
 * as long as the generation of the caches stands, since every change to a
 * table's definition or index list sends a message for that table; only
 * renaming the schema would not be noticed.  An index
 * is looked for under the table's lock, and so stays until the lock is given
 * back.  Without a usable one the table is scanned.
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
#include "access/xact.h"
#include "catalog/namespace.h"
#include "catalog/pg_am.h"
#include "catalog/pg_collation.h"
#include "catalog/pg_type.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/relcache.h"
#include "utils/snapmgr.h"

#include "overten_auth.h"

typedef struct ColumnSpec
{
	const char *name;
	Oid			type;
	bool		added;			/* by an update that may not have been run */
} ColumnSpec;

#define TABLE_COLUMNS_MAX 5

/* A table that is read: what is looked for by name, and what was found. */
typedef struct Table
{
	const char *name;
	Oid			equality;		/* function that compares the first column */
	ColumnSpec	columns[TABLE_COLUMNS_MAX]; /* the first identifies a row */

	uint64		generation;		/* that what follows was found under */
	Oid			relid;
	Oid			index;			/* unique, on the first column; may be none */
	AttrNumber	attnums[TABLE_COLUMNS_MAX];
} Table;

enum
{
	KEY_DIGEST, KEY_ID, KEY_ORG_ID, KEY_PREFIX, KEY_REVOKED_AT
};

enum
{
	ORG_ID, ORG_NAME, ORG_TIER, ORG_WEBHOOK_SECRET, ORG_SUSPENDED_AT
};

enum
{
	SIGNING_KID, SIGNING_PUBLIC_KEY, SIGNING_EXPIRES_AT,
	SIGNING_CERTIFICATE_EXPIRES_AT
};

static Table tables[] = {
	[OA_API_KEYS] = {
		.name = "api_keys",
		.equality = F_BYTEAEQ,
		.columns = {
			[KEY_DIGEST] = {"digest", BYTEAOID},
			[KEY_ID] = {"key_id", TEXTOID},
			[KEY_ORG_ID] = {"org_id", TEXTOID},
			[KEY_PREFIX] = {"prefix", TEXTOID},
			[KEY_REVOKED_AT] = {"revoked_at", TIMESTAMPTZOID},
		},
	},
	[OA_ORGS] = {
		.name = "orgs",
		.equality = F_TEXTEQ,
		.columns = {
			[ORG_ID] = {"org_id", TEXTOID},
			[ORG_NAME] = {"name", TEXTOID},
			[ORG_TIER] = {"tier", TEXTOID},
			[ORG_WEBHOOK_SECRET] = {"webhook_secret_sealed", BYTEAOID},
			[ORG_SUSPENDED_AT] = {"suspended_at", TIMESTAMPTZOID},
		},
	},
	[OA_SIGNING_KEYS] = {
		.name = "signing_keys",
		.equality = F_TEXTEQ,
		.columns = {
			[SIGNING_KID] = {"kid", TEXTOID},
			[SIGNING_PUBLIC_KEY] = {"public_key", BYTEAOID},
			[SIGNING_EXPIRES_AT] = {"expires_at", TIMESTAMPTZOID},
			[SIGNING_CERTIFICATE_EXPIRES_AT] = {"certificate_expires_at", TIMESTAMPTZOID, true},
		},
	},
};

/* The generation that the OIDs of all tables were looked up under. */
static uint64 oids_generation = 0;

/* A row in the hands of a read: the scan is open until finish_scan(). */
typedef struct RowScan
{
	Relation	relation;
	SysScanDesc descriptor;
	HeapTuple	tuple;
	Datum		values[TABLE_COLUMNS_MAX];
	bool		nulls[TABLE_COLUMNS_MAX];
} RowScan;

/* Is what was found of this table still known to be so? */
static bool
is_found(const Table *table)
{
	return table->generation == oa_cache_generation();
}

/*
 * Does a message about this relation concern the caches?  One for InvalidOid
 * does: the queue overflowed, and anything may have changed.  Any does while
 * the OIDs are not known.  Called from within invalidation: no catalog access.
 */
bool
oa_store_watches(Oid relid)
{
	if (!OidIsValid(relid) || oids_generation != oa_cache_generation())
		return true;

	for (int i = 0; i < lengthof(tables); i++)
	{
		if (relid == tables[i].relid)
			return true;
	}
	return false;
}

/*
 * The number of a column, which must have the type that is expected; invalid
 * if an update of the extension has yet to add it.
 */
static AttrNumber
find_column(Relation relation, const ColumnSpec *column)
{
	TupleDesc	descriptor = RelationGetDescr(relation);

	for (int i = 0; i < descriptor->natts; i++)
	{
		Form_pg_attribute attribute = TupleDescAttr(descriptor, i);

		if (!attribute->attisdropped &&
			attribute->atttypid == column->type &&
			strcmp(NameStr(attribute->attname), column->name) == 0)
			return attribute->attnum;
	}

	if (column->added)
		return InvalidAttrNumber;
	ereport(ERROR,
			(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
			 errmsg("table %s.%s has no column \"%s\" of type %s", OA_SCHEMA,
					RelationGetRelationName(relation), column->name,
					format_type_be(column->type)),
			 errhint("Run ALTER EXTENSION overten_auth UPDATE.")));
}

static int
count_columns(const Table *table)
{
	int			count = 0;

	while (count < TABLE_COLUMNS_MAX && table->columns[count].name != NULL)
		count++;
	return count;
}

/* Can an index find the one row with a given value of this column? */
static bool
is_usable(Relation index, AttrNumber attnum)
{
	Form_pg_index form = index->rd_index;
	Oid			collation = index->rd_indcollation[0];

	return form->indisunique && form->indisvalid && form->indimmediate &&
		form->indnkeyatts == 1 && form->indkey.values[0] == attnum &&
		index->rd_rel->relam == BTREE_AM_OID &&
		(collation == InvalidOid || collation == C_COLLATION_OID) &&
		RelationGetIndexPredicate(index) == NIL;
}

/* The unique index on exactly this column, or InvalidOid. */
static Oid
find_index(Relation relation, AttrNumber attnum)
{
	List	   *indexes = RelationGetIndexList(relation);
	Oid			result = InvalidOid;
	ListCell   *cell;

	foreach(cell, indexes)
	{
		Relation	index = index_open(lfirst_oid(cell), AccessShareLock);

		if (is_usable(index, attnum))
			result = RelationGetRelid(index);
		index_close(index, AccessShareLock);
	}
	list_free(indexes);
	return result;
}

/* The OID that a table's name leads to now, or InvalidOid. */
static Oid
look_up(const Table *table)
{
	return get_relname_relid(table->name, get_namespace_oid(OA_SCHEMA, true));
}

/*
 * Make sure that it is known which messages concern the caches.  One that
 * arrives meanwhile counts, whatever it is about, and leaves them unknown.
 */
static void
look_up_all(void)
{
	uint64		generation = oa_cache_generation();

	if (oids_generation == generation)
		return;
	for (int i = 0; i < lengthof(tables); i++)
		tables[i].relid = look_up(&tables[i]);
	oids_generation = generation;
}

/*
 * Open a table of the extension, locked for reading, and make sure that its
 * columns and index are known.  Taking the lock accepts messages, so only
 * afterwards can it be said whether what was found before still holds.
 */
static Relation
open_table(Table *table)
{
	Relation	relation;

	for (;;)
	{
		if (!is_found(table))
			table->relid = look_up(table);
		if (!OidIsValid(table->relid))
			ereport(ERROR,
					(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
					 errmsg("table %s.%s does not exist", OA_SCHEMA,
							table->name),
					 errhint("Run CREATE EXTENSION overten_auth in this database.")));
		relation = try_table_open(table->relid, AccessShareLock);
		if (relation != NULL)
		{
			if (is_found(table))
				return relation;
			if (look_up(table) == table->relid)
				break;
			table_close(relation, AccessShareLock);
		}
		table->generation = 0;
	}

	table->generation = oa_cache_generation();
	for (int i = 0; i < count_columns(table); i++)
		table->attnums[i] = find_column(relation, &table->columns[i]);
	table->index = find_index(relation, table->attnums[0]);
	return relation;
}

/*
 * Begin to read, from this table first: until oa_store_end_read(), rows are
 * seen as they are committed now.  For the order, see above and cache.c.
 */
void
oa_store_begin_read(OaRead *read, OaTable first)
{
	read->first = open_table(&tables[first]);
	look_up_all();
	read->generation = oa_cache_generation();
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
next_row(RowScan *scan, const Table *table)
{
	scan->tuple = systable_getnext(scan->descriptor);
	if (!HeapTupleIsValid(scan->tuple))
		return false;

	for (int i = 0; i < count_columns(table); i++)
	{
		scan->nulls[i] = (table->attnums[i] == InvalidAttrNumber);
		if (!scan->nulls[i])
			scan->values[i] = heap_getattr(scan->tuple, table->attnums[i],
										   RelationGetDescr(scan->relation),
										   &scan->nulls[i]);
	}
	return true;
}

/* Look for the one row of an open table whose first column equals "key". */
static bool
start_scan(RowScan *scan, OaRead *read, Table *table, Relation relation,
		   Datum key)
{
	ScanKeyData scan_key;

	scan->relation = relation;
	ScanKeyInit(&scan_key, table->attnums[0], BTEqualStrategyNumber,
				table->equality, key);
	scan->descriptor = systable_beginscan(relation, table->index,
										  OidIsValid(table->index),
										  read->snapshot, 1, &scan_key);
	return next_row(scan, table);
}

static void
finish_scan(RowScan *scan)
{
	systable_endscan(scan->descriptor);
	table_close(scan->relation, AccessShareLock);
}

/* Was this row version written by the own, still open transaction? */
static bool
is_own(HeapTuple tuple)
{
	return TransactionIdIsCurrentTransactionId(HeapTupleHeaderGetXmin(tuple->t_data));
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

	found = start_scan(&scan, read, &tables[OA_API_KEYS], read->first,
					   PointerGetDatum(&key.header));
	if (found)
	{
		row->key_id = DatumGetTextPCopy(scan.values[KEY_ID]);
		row->org_id = DatumGetTextPCopy(scan.values[KEY_ORG_ID]);
		row->prefix = DatumGetTextPCopy(scan.values[KEY_PREFIX]);
		row->revoked = !scan.nulls[KEY_REVOKED_AT];
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
	Table	   *orgs = &tables[OA_ORGS];
	RowScan		scan;
	bool		found;

	found = start_scan(&scan, read, orgs, open_table(orgs),
					   PointerGetDatum(org_id));
	if (found)
	{
		bytea	   *sealed = DatumGetByteaPP(scan.values[ORG_WEBHOOK_SECRET]);

		row->name = DatumGetTextPCopy(scan.values[ORG_NAME]);
		row->tier = DatumGetTextPCopy(scan.values[ORG_TIER]);
		row->webhook_secret = oa_unseal(org_id, sealed);
		row->suspended = !scan.nulls[ORG_SUSPENDED_AT];
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
	RowScan		scan = {.relation = read->first};

	scan.descriptor = systable_beginscan(scan.relation, InvalidOid, false,
										 read->snapshot, 0, NULL);
	while (next_row(&scan, &tables[OA_SIGNING_KEYS]))
	{
		OaSigningKeyRow *row = palloc(sizeof(OaSigningKeyRow));

		row->kid = DatumGetTextPCopy(scan.values[SIGNING_KID]);
		row->public_key = DatumGetByteaPCopy(scan.values[SIGNING_PUBLIC_KEY]);
		row->expires_at = end_time(&scan, SIGNING_EXPIRES_AT);
		row->certificate_expires_at =
			end_time(&scan, SIGNING_CERTIFICATE_EXPIRES_AT);
		row->own = is_own(scan.tuple);
		rows = lappend(rows, row);
	}
	finish_scan(&scan);
	return rows;
}
