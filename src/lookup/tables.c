/*
 * tables.c
 *		The tables that are read directly: their columns and indexes.
 *
 * Relations are found by name in the extension's own schema, columns by name
 * in the relation, the index by what it is on: a cached OID alone would not
 * survive DROP EXTENSION or REINDEX CONCURRENTLY.  What was found is kept for
 * long as all_changed (invalidation.c) stays, since every change to a
 * table's definition or index list sends a message for that table; only
 * renaming the schema would not be noticed.  An index is looked for under the
 * table's lock, and so stays until the lock is given back.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/table.h"
#include "catalog/namespace.h"
#include "catalog/pg_am.h"
#include "catalog/pg_collation.h"
#include "catalog/pg_type.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/relcache.h"

#include "lookup/changes.h"
#include "server/server.h"

typedef struct ColumnSpec
{
	const char *name;
	Oid			type;
	bool		nullable;
} ColumnSpec;

/* What is looked for by name, and what was found. */
typedef struct Table
{
	const char *name;
	ColumnSpec	columns[OA_TABLE_COLUMNS_MAX];	/* the first ones find rows */
	uint64		found_under;	/* the value of all_changed */
	OaTableInfo found;
} Table;

static Table tables[OA_TABLES] = {
	[OA_API_KEYS] = {
		.name = "api_keys",
		.found.equality = F_BYTEAEQ,
		.found.key_columns = 1,
		.columns = {
			[OA_KEY_DIGEST] = {"digest", BYTEAOID},
			[OA_KEY_ID] = {"key_id", TEXTOID},
			[OA_KEY_ORG_ID] = {"org_id", TEXTOID},
			[OA_KEY_PREFIX] = {"prefix", TEXTOID},
			[OA_KEY_REVOKED_AT] = {"revoked_at", TIMESTAMPTZOID, true},
			[OA_KEY_ENVIRONMENT] = {"environment", TEXTOID},
			[OA_KEY_EXPIRES_AT] = {"expires_at", TIMESTAMPTZOID, true},
			[OA_KEY_DISABLED_AT] = {"disabled_at", TIMESTAMPTZOID, true},
			[OA_KEY_SCOPES] = {"scopes", TEXTARRAYOID, true},
			[OA_KEY_ALLOWED_ADDRESSES] = {"allowed_addresses", CIDRARRAYOID, true},
			[OA_KEY_LINEAGE] = {"lineage", TEXTOID, true},
		},
	},
	[OA_ORGS] = {
		.name = "orgs",
		.found.equality = F_TEXTEQ,
		.found.key_columns = 1,
		.columns = {
			[OA_ORG_ID] = {"org_id", TEXTOID},
			[OA_ORG_NAME] = {"name", TEXTOID},
			[OA_ORG_TIER] = {"tier", TEXTOID},
			[OA_ORG_WEBHOOK_SECRET] = {"webhook_secret_sealed", BYTEAOID},
			[OA_ORG_SUSPENDED_AT] = {"suspended_at", TIMESTAMPTZOID, true},
		},
	},
	[OA_LIMITS] = {
		.name = "limits",
		.found.equality = F_TEXTEQ,
		.found.key_columns = 2,
		.columns = {
			[OA_LIMIT_SCOPE] = {"scope", TEXTOID},
			[OA_LIMIT_SUBJECT] = {"subject", TEXTOID},
			[OA_LIMIT_NAME] = {"name", TEXTOID},
			[OA_LIMIT_QUOTA] = {"quota", INT8OID},
			[OA_LIMIT_PERIOD] = {"period", INTERVALOID},
			[OA_LIMIT_BURST] = {"burst", INT8OID, true},
			[OA_LIMIT_PER] = {"per", TEXTOID},
			[OA_LIMIT_SHADOW] = {"shadow", BOOLOID},
			[OA_LIMIT_ANCHOR] = {"anchor", INT4OID, true},
		},
	},
	[OA_SIGNING_KEYS] = {
		.name = "signing_keys",
		.found.equality = F_TEXTEQ,
		.found.key_columns = 1,
		.columns = {
			[OA_SIGNING_KID] = {"kid", TEXTOID},
			[OA_SIGNING_PUBLIC_KEY] = {"public_key", BYTEAOID},
			[OA_SIGNING_EXPIRES_AT] = {"expires_at", TIMESTAMPTZOID, true},
			[OA_SIGNING_CERTIFICATE_EXPIRES_AT] = {"certificate_expires_at", TIMESTAMPTZOID, true},
		},
	},
};

/* Is what was found of this table still known to be so? */
static bool
is_found(const Table *table)
{
	return table->found_under == oa_all_changed();
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

	while (count < OA_TABLE_COLUMNS_MAX && table->columns[count].name != NULL)
		count++;
	return count;
}

/*
 * Can an index find the rows with given values of the first columns?  If it is
 * one column, there is one row.
 */
static bool
is_usable(Relation index, const OaTableInfo *table)
{
	Form_pg_index form = index->rd_index;

	if (!form->indisvalid || form->indnkeyatts < table->key_columns ||
		index->rd_rel->relam != BTREE_AM_OID ||
		RelationGetIndexPredicate(index) != NIL)
		return false;
	if (table->key_columns == 1 &&
		!(form->indisunique && form->indimmediate && form->indnkeyatts == 1))
		return false;
	for (int i = 0; i < table->key_columns; i++)
	{
		Oid			collation = index->rd_indcollation[i];

		if (form->indkey.values[i] != table->attnums[i] ||
			!(collation == InvalidOid || collation == C_COLLATION_OID))
			return false;
	}
	return true;
}

/* The index that finds rows by the first columns, or InvalidOid. */
static Oid
find_index(Relation relation, const OaTableInfo *table)
{
	List	   *indexes = RelationGetIndexList(relation);
	Oid			result = InvalidOid;
	ListCell   *cell;

	foreach(cell, indexes)
	{
		Relation	index = index_open(lfirst_oid(cell), AccessShareLock);

		if (is_usable(index, table))
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

/* Note the OID of a table, and watch it. */
static void
set_relid(Table *table, Oid relid)
{
	table->found.relid = relid;
	oa_watch_table(table - tables, relid);
}

/*
 * Make sure that it is known which messages concern the caches.  One that
 * arrives meanwhile counts, whatever it is about, and leaves them unknown.
 */
void
oa_tables_look_up(void)
{
	uint64		under = oa_all_changed();

	if (oa_are_tables_watched())
		return;
	for (int i = 0; i < OA_TABLES; i++)
		set_relid(&tables[i], look_up(&tables[i]));
	oa_tables_are_watched(under);
}

/* The OID of a table, as it was last looked up. */
Oid
oa_table_oid(OaTable number)
{
	return tables[number].found.relid;
}

/*
 * Open a table of the extension, locked for reading, and make sure that its
 * columns and index are known: *info, which stands as long as the lock is held.
 * Taking the lock accepts messages, so only afterwards can it be said whether
 * what was found before still holds.
 */
Relation
oa_table_open(OaTable number, const OaTableInfo **info)
{
	Table	   *table = &tables[number];
	uint64		under;
	Relation	relation;

	*info = &table->found;
	for (;;)
	{
		if (!is_found(table))
			set_relid(table, look_up(table));
		if (!OidIsValid(table->found.relid))
			ereport(ERROR,
					(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
					 errmsg("table %s.%s does not exist", OA_SCHEMA,
							table->name),
					 errhint("Run CREATE EXTENSION overten_auth in this database.")));
		relation = try_table_open(table->found.relid, AccessShareLock);
		if (relation != NULL)
		{
			if (is_found(table))
				return relation;
			if (look_up(table) == table->found.relid)
				break;
			table_close(relation, AccessShareLock);
		}
		table->found_under = 0;
	}

	/* An error leaves it unknown; so does a message that comes meanwhile. */
	under = oa_all_changed();
	if (relation->rd_rel->relkind != RELKIND_RELATION)
		oa_refuse_changed_object(psprintf("%s.%s must be a plain table.",
										  OA_SCHEMA, table->name));
	table->found.ncolumns = count_columns(table);
	for (int i = 0; i < table->found.ncolumns; i++)
	{
		table->found.attnums[i] = find_column(relation, &table->columns[i]);
		table->found.nullable[i] = table->columns[i].nullable;
	}
	table->found.index = find_index(relation, &table->found);
	table->found_under = under;
	return relation;
}
