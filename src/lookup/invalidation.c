/*
 * invalidation.c
 *		Tells every backend that a watched table has changed: both ends.
 *
 * The sender is a trigger.  It stands on each table whose rows are cached, FOR
 * EACH ROW, as ENABLE ALWAYS: so it fires for the extension's functions, for a
 * plain UPDATE, and in the logical apply worker, which fires no statement
 * triggers.  The message goes out with the commit, of a prepared transaction
 * too; see cache.c for why that is enough.  The commit is made to wait for its
 * WAL, whatever synchronous_commit says: a revocation that has been acknowledged
 * must not come undone in a crash.
 *
 * The receiver is a relcache callback.  It may run wherever a lock is taken, so
 * it only advances a counter, the generation.  The files above it compare
 * generations: tables.c tells which OIDs to watch, cache.c drops what is older.
 */
#include "postgres.h"

#include "access/xact.h"
#include "commands/trigger.h"
#include "port/atomics.h"
#include "utils/inval.h"
#include "utils/rel.h"

#include "lookup/lookup.h"
#include "lookup/tables.h"

/* Counts the changes of watched tables that this backend has heard of. */
static uint64 generation = 1;

/* The tables' OIDs, and the generation that all of them were looked up under. */
static Oid	watched[OA_TABLES];
static uint64 watched_generation = 0;

PG_FUNCTION_INFO_V1(overten_invalidate_caches);

/*
 * Does a message about this relation concern the caches?  One for InvalidOid
 * does: the queue overflowed, and anything may have changed.  Any does while
 * the OIDs are not known.
 */
static bool
is_watched(Oid relid)
{
	if (!OidIsValid(relid) || !oa_are_tables_watched())
		return true;

	for (int i = 0; i < OA_TABLES; i++)
	{
		if (relid == watched[i])
			return true;
	}
	return false;
}

/* The relcache callback.  No catalog access here. */
static void
relation_changed(Datum arg, Oid relid)
{
	if (is_watched(relid))
		generation++;
}

/* Start to listen.  Called once per process, when the library is loaded. */
void
oa_invalidation_init(void)
{
	CacheRegisterRelcacheCallback(relation_changed, (Datum) 0);
}

/* The generation that something read from now on belongs to. */
uint64
oa_generation(void)
{
	return generation;
}

/* The generation after the messages that wait: see 3. in cache.c. */
uint64
oa_latest_generation(void)
{
	pg_memory_barrier();
	AcceptInvalidationMessages();
	return generation;
}

/* Watch this OID of a table. */
void
oa_watch_table(OaTable table, Oid relid)
{
	watched[table] = relid;
}

/* Are all OIDs known, as of this generation? */
bool
oa_are_tables_watched(void)
{
	return watched_generation == generation;
}

/* Note that all OIDs were looked up under a generation. */
void
oa_tables_are_watched(uint64 under)
{
	watched_generation = under;
}

/* The function of the triggers "invalidate_caches". */
Datum
overten_invalidate_caches(PG_FUNCTION_ARGS)
{
	TriggerData *trigger = (TriggerData *) fcinfo->context;

	if (!CALLED_AS_TRIGGER(fcinfo) ||
		!TRIGGER_FIRED_AFTER(trigger->tg_event) ||
		!TRIGGER_FIRED_FOR_ROW(trigger->tg_event))
		ereport(ERROR,
				(errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
				 errmsg("invalidate_caches must be called by an AFTER ROW trigger")));

	CacheInvalidateRelcache(trigger->tg_relation);
	ForceSyncCommit();
	return PointerGetDatum(NULL);
}
