/*
 * fetch_state.c
 *		When the signing keys of a database are to be fetched.
 *
 * The state is in shared memory, where the lock of the databases protects it.
 * The launcher asks it when to start a worker; the usage worker, which sees the
 * database, notes whether there are keys.
 */
#include "postgres.h"

#include "utils/timestamp.h"

#include "databases/databases.h"
#include "settings.h"
#include "signing_keys/fetch.h"
#include "signing_keys/signing_keys.h"

/*
 * Note whether a database wants keys, and whether it has any; one that has
 * lost them, to DROP EXTENSION or TRUNCATE, does not wait for its time.
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

/* What made fetches fail may have been mended.  The lock is held. */
void
oa_fetch_hurry(OaFetchState *keys)
{
	if (keys->failures > 0)
		keys->next_fetch_at = 0;
}

/*
 * In how many milliseconds is a worker to be started?  -1 if there is no need
 * for one.  The lock is held.
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

/* There is no place for the worker: nobody need wait for it. */
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
