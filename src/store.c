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
 * table's definition or index list sends a message for that table.  An index
 * is looked for under the table's lock, and so stays until the lock is given
 * back.  Without a usable one the table is scanned.
 *
 * Locks are released at the end of the read, lest a long transaction stand in
 * the way of DDL.
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
} ColumnSpec;

#define TABLE_COLUMNS_MAX 5

/* A table that is read: what is looked for by name, and what was found. */
typedef struct Table
{
	const char *name;
	Oid			equality;		/* function that compares the first column */
	ColumnSpec	columns[TABLE_COLUMNS_MAX]; /* the first identifies a row */

	bool		used;			/* messages about it count: see watch() */
	uint64		generation;		/* that what follows was found under */
	Oid			relid;
	Oid			index;			/* unique, on the first column; may be none */
	AttrNumber	attnums[TABLE_COLUMNS_MAX];
} Table;

enum
{
	KEY_DIGEST, KEY_ID, KEY_ORG_ID, KEY_PREFIX, KEY_REVOKED_AT
};

static Table api_keys = {
	.name = "api_keys",
	.used = true,
	.equality = F_BYTEAEQ,
	.columns = {
		{"digest", BYTEAOID},
		{"key_id", TEXTOID},
		{"org_id", TEXTOID},
		{"prefix", TEXTOID},
		{"revoked_at", TIMESTAMPTZOID},
	},
};

enum
{
	ORG_ID, ORG_NAME, ORG_TIER, ORG_WEBHOOK_SECRET, ORG_SUSPENDED_AT
};

static Table orgs = {
	.name = "orgs",
	.used = true,
	.equality = F_TEXTEQ,
	.columns = {
		{"org_id", TEXTOID},
		{"name", TEXTOID},
		{"tier", TEXTOID},
		{"webhook_secret_sealed", BYTEAOID},
		{"suspended_at", TIMESTAMPTZOID},
	},
};

enum
{
	SIGNING_KID, SIGNING_PUBLIC_KEY, SIGNING_EXPIRES_AT
};

static Table signing_keys = {
	.name = "signing_keys",
	.equality = F_TEXTEQ,
	.columns = {
		{"kid", TEXTOID},
		{"public_key", BYTEAOID},
		{"expires_at", TIMESTAMPTZOID},
	},
};

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
 * Does a message about this relation concern signing_keys?  It is watched only
 * between its first use and the next message about it: a session that sees no
 * tokens would never learn its OID, and empty its caches at every message of
 * any table.  Once the message has come, nothing that was read is left.
 */
static bool
concerns_signing_keys(Oid relid)
{
	if (!signing_keys.used ||
		(OidIsValid(relid) && OidIsValid(signing_keys.relid) &&
		 relid != signing_keys.relid))
		return false;

	signing_keys.used = false;
	return true;
}

/*
 * Begin to watch a table that is not watched.  What this read finds must not
 * be stored, for a message may have come unnoticed after it began.
 */
static void
watch(Table *table, OaRead *read)
{
	if (table->used)
		return;
	table->used = true;
	table->generation = 0;
	table->relid = InvalidOid;
	read->generation = 0;
}

/*
 * Does a message about this relation concern the caches?  One for InvalidOid
 * does: the queue overflowed, and anything may have changed.  Any does while
 * the OIDs are not known.  Called from within invalidation: no catalog access.
 */
bool
oa_store_watches(Oid relid)
{
	bool		concerns = concerns_signing_keys(relid);

	return concerns || !OidIsValid(relid) ||
		relid == api_keys.relid || !is_found(&api_keys) ||
		relid == orgs.relid || !is_found(&orgs);
}

/* The number of a column, which must have the type that is expected. */
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

/* The OID that a table's name leads to now. */
static Oid
look_up(const Table *table)
{
	Oid			relid;

	relid = get_relname_relid(table->name,
							  get_namespace_oid(OA_SCHEMA, true));
	if (!OidIsValid(relid))
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("table %s.%s does not exist", OA_SCHEMA, table->name),
				 errhint("Run CREATE EXTENSION overten_auth in this database.")));
	return relid;
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
 * Begin to read: until oa_store_end_read(), rows are seen as they are
 * committed now.  The generation is read first: see cache.c.
 */
void
oa_store_begin_read(OaRead *read)
{
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
		scan->values[i] = heap_getattr(scan->tuple, table->attnums[i],
									   RelationGetDescr(scan->relation),
									   &scan->nulls[i]);
	return true;
}

/* Look for the one row whose first column equals "key". */
static bool
start_scan(RowScan *scan, OaRead *read, Table *table, Datum key)
{
	ScanKeyData scan_key;

	scan->relation = open_table(table);
	ScanKeyInit(&scan_key, table->attnums[0], BTEqualStrategyNumber,
				table->equality, key);
	scan->descriptor = systable_beginscan(scan->relation, table->index,
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

/* Find a key by the digest of its secret.  The row is in palloc'd memory. */
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

	found = start_scan(&scan, read, &api_keys, PointerGetDatum(&key.header));
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

/* Find an org by its id.  The row is in palloc'd memory. */
bool
oa_store_find_org(OaRead *read, text *org_id, OaOrgRow *row)
{
	RowScan		scan;
	bool		found;

	found = start_scan(&scan, read, &orgs, PointerGetDatum(org_id));
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

/* All signing keys, as a list of palloc'd OaSigningKeyRow. */
List	   *
oa_store_read_signing_keys(OaRead *read)
{
	List	   *rows = NIL;
	RowScan		scan;

	watch(&signing_keys, read);
	scan.relation = open_table(&signing_keys);
	scan.descriptor = systable_beginscan(scan.relation, InvalidOid, false,
										 read->snapshot, 0, NULL);
	while (next_row(&scan, &signing_keys))
	{
		OaSigningKeyRow *row = palloc(sizeof(OaSigningKeyRow));

		row->kid = DatumGetTextPCopy(scan.values[SIGNING_KID]);
		row->public_key = DatumGetByteaPCopy(scan.values[SIGNING_PUBLIC_KEY]);
		row->expires_at = scan.nulls[SIGNING_EXPIRES_AT] ? DT_NOEND :
			DatumGetTimestampTz(scan.values[SIGNING_EXPIRES_AT]);
		row->own = is_own(scan.tuple);
		rows = lappend(rows, row);
	}
	finish_scan(&scan);
	return rows;
}
