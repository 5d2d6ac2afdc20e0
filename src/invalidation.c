/*
 * invalidation.c
 *		The trigger that tells every backend that a watched table has changed.
 *
 * It stands on each table whose rows are cached, FOR EACH ROW, as ENABLE
 * ALWAYS: so it fires for the extension's functions, for a plain UPDATE, and
 * in the logical apply worker, which fires no statement triggers.  The message
 * goes out with the commit, of a prepared transaction too; see cache.c for why
 * that is enough.  The commit is made to wait for its WAL, whatever
 * synchronous_commit says: a revocation that has been acknowledged must not
 * come undone in a crash.
 */
#include "postgres.h"

#include "access/xact.h"
#include "commands/trigger.h"
#include "utils/inval.h"
#include "utils/rel.h"

#include "overten_auth.h"

PG_FUNCTION_INFO_V1(overten_invalidate_caches);

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
