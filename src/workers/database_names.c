/*
 * database_names.c
 *		Finds out which database has which of the listed names.
 *
 * What was counted belongs to a database, whatever its name, so it stays while
 * the database is there: one that gets a name that is not listed may get
 * another, or its own again, and is flushed then.  When a database is gone, so
 * are its uses.
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
#include "server/server.h"
#include "settings.h"
#include "usage/usage.h"
#include "workers/workers.h"

/* Databases, by OID; in TopMemoryContext. */
typedef struct Oids
{
	Oid		   *values;
	int			count;
} Oids;

/* Note what OID a database has now, InvalidOid for none. */
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

/* Add a database. */
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
 * Look which databases there are: all, and those that are named.  The indexes
 * of pg_database may not be known to a process that is connected to none, so
 * the table is scanned.
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

/* Is it none of these databases? */
static bool
is_not_among(Oid database, void *oids)
{
	const Oids *existing = oids;

	return bsearch(&database, existing->values, existing->count, sizeof(Oid),
				   oid_cmp) == NULL;
}

/* Is any of the databases that there were last time gone?  So at the start. */
static bool
any_is_gone(const Oids *before, Oids *now)
{
	for (int i = 0; i < before->count; i++)
		if (is_not_among(before->values[i], now))
			return true;
	return before->count == 0;
}

/*
 * Bring what is known of the databases up to date.  Uses that were counted for
 * a database that has got a name that is not listed stay: it may get another,
 * or its own again.  Only if it is gone, they are forgotten.
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

	/* What has been counted since we looked may be of a new database. */
	if (any_is_gone(&before, &now))
		(void) oa_discard_uses(is_not_among, &now, looked_at);
	if (before.values != NULL)
		pfree(before.values);
	before = now;
}
