/*
 * usage_lock.c
 *		Locks the tables that a flush reads and writes: all of them, or none.
 *
 * Only one transaction at a time writes history, that of the worker or one that
 * adds what a standby has counted (add_uses.c): the mode in which they lock
 * usage_batches conflicts with itself.
 *
 * A flush locks several tables.  So does DROP EXTENSION, in an order that
 * nobody can choose.  We must not deadlock with it, because PostgreSQL would
 * then cancel one of the two.  So we wait for a lock only while we hold no
 * other.
 */
#include "postgres.h"

#include "catalog/namespace.h"
#include "storage/lmgr.h"
#include "utils/lsyscache.h"

#include "usage/usage.h"

#define ATTEMPTS	10

static const struct
{
	const char *name;
	LOCKMODE	mode;
}			tables[] = {
	{"usage_batches", ShareUpdateExclusiveLock},
	{"api_keys", AccessShareLock},
	{"orgs", AccessShareLock},
	{"key_last_used", RowExclusiveLock},
	{"key_usage", RowExclusiveLock},
	{"quota_usage", RowExclusiveLock},
};

/* Look up the OIDs of the tables.  Returns false if one is missing. */
static bool
find_tables(Oid *oids)
{
	Oid			schema = get_namespace_oid(OA_SCHEMA, true);

	for (int i = 0; i < lengthof(tables); i++)
	{
		oids[i] = OidIsValid(schema) ?
			get_relname_relid(tables[i].name, schema) : InvalidOid;
		if (!OidIsValid(oids[i]))
			return false;
	}
	return true;
}

/* Release the locks of the first "count" tables. */
static void
unlock(const Oid *oids, int count)
{
	for (int i = 0; i < count; i++)
		UnlockRelationOid(oids[i], tables[i].mode);
}

/*
 * Lock all tables, or none.  We wait for the first one, so that those who write
 * history take turns, and not for the others.  Returns the index of the first
 * table that somebody else has locked, or the number of tables.
 */
static int
try_to_lock(const Oid *oids)
{
	int			n = 1;

	LockRelationOid(oids[0], tables[0].mode);
	while (n < lengthof(tables) &&
		   ConditionalLockRelationOid(oids[n], tables[n].mode))
		n++;
	if (n < lengthof(tables))
		unlock(oids, n);
	return n;
}

/*
 * Lock the tables of a flush until the transaction ends.  Returns false if
 * they do not exist.  Raises 55P03 if one lock takes longer than lock_timeout,
 * or if we have not got all locks after several attempts.
 */
bool
oa_lock_usage_tables(void)
{
	Oid			oids[lengthof(tables)];
	Oid			oids_then[lengthof(tables)];
	const char *busy = tables[0].name;

	for (int attempt = 0; attempt < ATTEMPTS; attempt++)
	{
		int			n;

		if (!find_tables(oids))
			return false;

		n = try_to_lock(oids);
		if (n < lengthof(tables))
		{
			busy = tables[n].name;
			LockRelationOid(oids[n], tables[n].mode);
			UnlockRelationOid(oids[n], tables[n].mode);
			continue;
		}

		/*
		 * Before we had the locks, somebody could drop and create the tables.
		 */
		if (find_tables(oids_then) &&
			memcmp(oids, oids_then, sizeof(oids)) == 0)
			return true;
		unlock(oids, n);
	}
	ereport(ERROR,
			(errcode(ERRCODE_LOCK_NOT_AVAILABLE),
			 errmsg("could not lock table \"%s.%s\"", OA_SCHEMA, busy),
			 errdetail("In each of %d attempts, other sessions locked or replaced a table of the extension.",
					   ATTEMPTS),
			 errhint("End the sessions in pg_locks that hold locks on these tables.")));
}
