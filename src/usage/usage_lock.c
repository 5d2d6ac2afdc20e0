/*
 * usage_lock.c
 *		Locks the tables that a flush reads and writes, all or none.
 *
 * A flush takes the locks of several tables, and so does DROP EXTENSION, in an
 * order that is nobody's to choose.  So that neither finds the other in a
 * deadlock, and PostgreSQL gives up the one that it likes less, a lock is
 * waited for only while no other is held.
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
	{"api_keys", AccessShareLock},
	{"key_last_used", RowExclusiveLock},
	{"key_usage", RowExclusiveLock},
	{"usage_batches", RowExclusiveLock},
};

/* The OIDs of the tables as they are now.  False if one is missing. */
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

/* Give back the locks of the first so many tables. */
static void
unlock(const Oid *oids, int count)
{
	for (int i = 0; i < count; i++)
		UnlockRelationOid(oids[i], tables[i].mode);
}

/*
 * Lock the tables without waiting, or none.  Returns the number of the first
 * that somebody else has locked, or how many tables there are.
 */
static int
try_to_lock(const Oid *oids)
{
	int			n = 0;

	while (n < lengthof(tables) &&
		   ConditionalLockRelationOid(oids[n], tables[n].mode))
		n++;
	if (n < lengthof(tables))
		unlock(oids, n);
	return n;
}

/*
 * Lock the tables of a flush until the transaction ends.  False if they are
 * not there.  Raises 55P03 if that takes longer than lock_timeout, or comes to
 * nothing time and again.
 */
bool
oa_lock_usage_tables(void)
{
	Oid			oids[lengthof(tables)];
	Oid			oids_then[lengthof(tables)];

	for (int attempt = 0; attempt < ATTEMPTS; attempt++)
	{
		int			n;

		if (!find_tables(oids))
			return false;

		n = try_to_lock(oids);
		if (n < lengthof(tables))
		{
			LockRelationOid(oids[n], tables[n].mode);
			UnlockRelationOid(oids[n], tables[n].mode);
			continue;
		}

		/* Until they were locked, the tables could be dropped and created. */
		if (find_tables(oids_then) &&
			memcmp(oids, oids_then, sizeof(oids)) == 0)
			return true;
		unlock(oids, n);
	}
	ereport(ERROR,
			(errcode(ERRCODE_LOCK_NOT_AVAILABLE),
			 errmsg("could not lock the tables of overten_auth")));
}
