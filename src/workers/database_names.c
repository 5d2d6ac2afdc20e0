/*
 * database_names.c
 *		Finds out which databases have the listed names.
 *
 * Counted uses belong to a database, whatever its name is, so we keep them
 * while the database exists.  If it is renamed to a name that is not listed,
 * it may get a listed name later, and then we flush its uses.  When a database
 * is dropped, we forget its uses.
 */
#include "postgres.h"

#include "access/heapam.h"
#include "access/table.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "catalog/pg_database.h"
#include "storage/latch.h"
#include "storage/proc.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"

#include "databases/databases.h"
#include "limits/limits.h"
#include "server/server.h"
#include "settings.h"
#include "usage/usage.h"
#include "workers/workers.h"

/* OIDs of databases, in TopMemoryContext. */
typedef struct Oids
{
	Oid		   *values;
	int			count;
} Oids;

/*
 * Note a database's current OID, or InvalidOid if there is no such database.
 */
static void
set_oid(OaDatabase *database, Oid oid)
{
	bool		changed;

	oa_lock_databases(LW_EXCLUSIVE);
	changed = (oid != database->oid);
	if (changed)
	{
		database->oid = oid;
		oa_forget_database(database);
		if (database->waiting != NULL)
			SetLatch(&database->waiting->procLatch);
	}
	oa_unlock_databases();
	if (changed)
	{
		ConditionVariableBroadcast(&database->requests.changed);
		ConditionVariableBroadcast(&database->keys.requests.changed);
	}
}

/* Add an OID. */
static void
add_oid(Oids *oids, Oid oid)
{
	if (oids->values == NULL)
		oids->values = MemoryContextAlloc(TopMemoryContext, sizeof(Oid));
	else if ((oids->count & (oids->count - 1)) == 0)
		oids->values = repalloc(oids->values, 2 * oids->count * sizeof(Oid));
	oids->values[oids->count++] = oid;
}

/*
 * Find the OIDs of all databases, and those of the listed names.  A process
 * that is not connected to a database may not know the indexes of pg_database,
 * so we scan the table.
 */
static void
find_oids(Oids *all, Oid *named)
{
	Relation	catalog;
	TableScanDesc scan;
	HeapTuple	tuple;

	SetCurrentStatementStartTimestamp();
	StartTransactionCommand();
	(void) GetTransactionSnapshot();
	catalog = table_open(DatabaseRelationId, AccessShareLock);
	scan = table_beginscan_catalog(catalog, 0, NULL);
	while ((tuple = heap_getnext(scan, ForwardScanDirection)) != NULL)
	{
		Form_pg_database row = (Form_pg_database) GETSTRUCT(tuple);

		add_oid(all, row->oid);
		for (int i = 0; i < oa_number_of_databases(); i++)
			if (strcmp(NameStr(row->datname), oa_database(i)->name) == 0)
				named[i] = row->oid;
	}
	table_endscan(scan);
	table_close(catalog, AccessShareLock);
	CommitTransactionCommand();
	qsort(all->values, all->count, sizeof(Oid), oid_cmp);
}

/* Is this database missing from the list? */
static bool
is_not_among(Oid database, void *oids)
{
	const Oids *existing = oids;

	return bsearch(&database, existing->values, existing->count, sizeof(Oid),
				   oid_cmp) == NULL;
}

/*
 * Has any database disappeared since last time?  Returns true the first time.
 */
static bool
any_is_gone(const Oids *before, Oids *now)
{
	for (int i = 0; i < before->count; i++)
		if (is_not_among(before->values[i], now))
			return true;
	return before->count == 0;
}

/*
 * Update the OIDs of the listed names, and forget the uses of databases that
 * were dropped.
 */
void
oa_find_databases(void)
{
	static Oids before = {NULL, 0};
	Oids		now = {NULL, 0};
	Oid			named[OA_DATABASES_MAX] = {InvalidOid};
	int64		looked_at = oa_monotonic_ms();

	find_oids(&now, named);
	for (int i = 0; i < oa_number_of_databases(); i++)
		set_oid(oa_database(i), named[i]);

	/* What was counted after we looked may belong to a new database; keep it. */
	if (any_is_gone(&before, &now))
	{
		(void) oa_discard_uses(is_not_among, &now, looked_at);
		(void) oa_discard_quotas(is_not_among, &now, looked_at);
	}
	if (before.values != NULL)
		pfree(before.values);
	before = now;
}
