/*
 * fetch_state.c
 *		Tracks when the signing keys of a database must be fetched.
 *
 * The state is in shared memory, protected by the lock of the databases.  The
 * launcher asks this file when to start a fetch worker.  The database worker,
 * which sees the database, notes whether there are keys.
 */
#include "postgres.h"

#include "utils/timestamp.h"

#include "databases/databases.h"
#include "settings.h"
#include "signing_keys/fetch.h"
#include "signing_keys/signing_keys.h"

/*
 * Note whether a database wants keys, and whether it has any.  If it has lost
 * them, to DROP EXTENSION or TRUNCATE, we fetch at once.
 */
void
oa_fetch_note(OaFetchState *keys, bool wanted, bool present)
{
	oa_lock_databases(LW_EXCLUSIVE);
	keys->wanted = wanted;
	if (wanted && !present && keys->failures == 0)
		keys->next_fetch_at = 0;
	if (oa_fetch_due_in(keys) == 0)
		oa_wake_launcher();
	oa_unlock_databases();
}

/*
 * Fetch at once after failures, because somebody may have fixed their cause.
 * The caller holds the lock.
 */
void
oa_fetch_hurry(OaFetchState *keys)
{
	if (keys->failures > 0)
		keys->next_fetch_at = 0;
}

/*
 * Return in how many milliseconds to start a worker, or -1 if there is no need
 * for one.  The caller holds the lock.
 */
int64
oa_fetch_due_in(const OaFetchState *keys)
{
	TimestampTz now = GetCurrentTimestamp();

	if (keys->worker != NULL)
		return -1;
	if (oa_is_asked(&keys->requests))
		return 0;
	if (!keys->wanted || oa_signing_keys_command[0] == '\0')
		return -1;
	if (oa_fetch_is_due(now, keys->tried_at, keys->next_fetch_at))
		return 0;
	return (keys->next_fetch_at - now) / 1000 + 1;
}

/* No worker slot is free: fail the waiting requests. */
void
oa_fetch_has_no_worker(OaFetchState *keys)
{
	oa_lock_databases(LW_EXCLUSIVE);
	keys->requests.failed = keys->requests.asked;
	strlcpy(keys->outcome, "There is no place for another background worker.",
			OA_OUTCOME_MAX);
	oa_unlock_databases();
	ConditionVariableBroadcast(&keys->requests.changed);
}
