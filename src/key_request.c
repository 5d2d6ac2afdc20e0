/*
 * key_request.c
 *		Asks the key worker for a fetch, and waits for it.
 *
 * The worker is another process and writes in a transaction of its own, so the
 * caller's locks can stand in its way; it gives up on a lock after a second.
 */
#include "postgres.h"

#include "access/xlog.h"
#include "miscadmin.h"
#include "utils/timestamp.h"
#include "utils/wait_event.h"

#include "overten_auth.h"

#define TIMEOUT_MS	(30 * 1000)

PG_FUNCTION_INFO_V1(overten_refresh_signing_keys);

static void
refuse(const char *detail, const char *hint)
{
	ereport(ERROR,
			(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
			 errmsg("signing keys were not fetched"),
			 errdetail_internal("%s", detail),
			 hint != NULL ? errhint("%s", hint) : 0));
}

/* The state of the session's database, if keys can be fetched for it. */
static OaKeyState *
find_state(void)
{
	OaDatabase *database = oa_my_database();

	if (oa_shared_since() == 0)
		refuse("The library is not preloaded.",
			   "Add overten_auth to shared_preload_libraries, or load keys with overten_load_signing_keys().");
	if (database == NULL)
		refuse("The background workers do not look after this database.",
			   "Add it to overten_auth.databases.");
	if (RecoveryInProgress())
		refuse("This is a standby; it has the keys of its primary.", NULL);
	if (oa_firebase_project_id[0] == '\0')
		refuse("No Firebase project is configured.",
			   "Set overten_auth.firebase_project_id.");
	if (oa_signing_keys_command[0] == '\0')
		refuse("There is no command to fetch them with.",
			   "Set overten_auth.signing_keys_command.");
	return &database->keys;
}

/* Put a request, and return its number. */
static uint64
ask(OaKeyState *keys)
{
	uint64		number;

	oa_lock_databases(LW_EXCLUSIVE);
	number = ++keys->asked;
	oa_wake_launcher();
	oa_unlock_databases();
	return number;
}

/* Is a request fulfilled?  Raises 55000 if the fetch failed. */
static bool
is_done(OaKeyState *keys, uint64 number)
{
	char		outcome[OA_OUTCOME_MAX];
	bool		done;
	bool		failed;

	oa_lock_databases(LW_SHARED);
	done = (keys->done >= number);
	failed = !done && keys->failed >= number;
	strlcpy(outcome, keys->outcome, sizeof(outcome));
	oa_unlock_databases();

	if (failed)
		refuse(outcome,
			   "The keys are as they were; the server log may say more.");
	return done;
}

/*
 * overten_refresh_signing_keys() returns integer
 *
 * Has signing keys fetched now, and returns how many there are then that have
 * not expired.  Raises 55000, with the reason as its detail, if they are not
 * fetched, or not in 30 seconds.
 */
Datum
overten_refresh_signing_keys(PG_FUNCTION_ARGS)
{
	OaKeyState *keys = find_state();
	int64		end = oa_monotonic_ms() + TIMEOUT_MS;
	uint64		number = ask(keys);
	TimestampTz last;

	ConditionVariablePrepareToSleep(&keys->changed);
	while (!is_done(keys, number))
	{
		int64		left = end - oa_monotonic_ms();

		if (left <= 0)
			refuse("It took longer than 30 seconds.",
				   "See the server log.");
		(void) ConditionVariableTimedSleep(&keys->changed, (long) left,
										   PG_WAIT_EXTENSION);
	}
	ConditionVariableCancelSleep();
	PG_RETURN_INT32(oa_count_signing_keys(&last));
}
