/*
 * flush_request.c
 *		Asks the usage worker for a flush, and waits for it.
 *
 * Requests are numbered.  A flush that began after a request fulfils it, and
 * one that failed fails it.  The worker is another process and writes in
 * transactions of its own, so the caller's locks can stand in its way; it
 * gives up on a lock after a second.
 */
#include "postgres.h"

#include "access/xlog.h"
#include "miscadmin.h"
#include "storage/latch.h"
#include "storage/proc.h"
#include "utils/wait_event.h"

#include "overten_auth.h"

#define TIMEOUT_MS	(30 * 1000)

PG_FUNCTION_INFO_V1(overten_flush_usage);

/*
 * Put a request, and return its number; 0 if the launcher does not know yet
 * which database has the name now.
 */
static uint64
ask(OaDatabase *database)
{
	uint64		number = 0;

	oa_lock_databases(LW_EXCLUSIVE);
	if (database->oid == MyDatabaseId)
	{
		number = ++database->flush_asked;
		if (database->waiting != NULL)
			SetLatch(&database->waiting->procLatch);
	}
	oa_wake_launcher();
	oa_unlock_databases();
	return number;
}

/* Is a request fulfilled?  Raises 55000 if the flush failed. */
static bool
is_done(OaDatabase *database, uint64 number)
{
	char		failure[OA_FAILURE_MAX];
	bool		done;
	bool		failed;

	oa_lock_databases(LW_SHARED);
	done = (database->flush_done >= number);
	failed = !done && database->flush_failed >= number;
	strlcpy(failure, database->failure, sizeof(failure));
	oa_unlock_databases();

	if (failed)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("usage could not be flushed"),
				 errdetail("The worker reports: %s.", failure),
				 errhint("No use is lost: the worker tries again.")));
	return done;
}

/*
 * overten_flush_usage() returns void
 *
 * Returns when all uses that were counted before are in the tables, at once
 * where they are not counted in shared memory.  Raises 55000 on a standby, if
 * the flush fails, or if it is not done in 30 seconds.
 */
Datum
overten_flush_usage(PG_FUNCTION_ARGS)
{
	OaDatabase *database = oa_my_database();
	int64		end = oa_monotonic_ms() + TIMEOUT_MS;
	uint64		number = 0;

	if (database == NULL)
		PG_RETURN_VOID();
	if (RecoveryInProgress())
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("usage is not flushed on a standby"),
				 errdetail("Uses are counted, and flushed after its promotion.")));

	ConditionVariablePrepareToSleep(&database->changed);
	for (;;)
	{
		int64		left = end - oa_monotonic_ms();

		if (number == 0)
			number = ask(database);
		if (number != 0 && is_done(database, number))
			break;
		if (left <= 0)
			ereport(ERROR,
					(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
					 errmsg("usage was not flushed in %d seconds",
							TIMEOUT_MS / 1000),
					 errhint("There may be no place for another background worker: see max_worker_processes and the server log.")));
		(void) ConditionVariableTimedSleep(&database->changed, (long) left,
										   PG_WAIT_EXTENSION);
	}
	ConditionVariableCancelSleep();
	PG_RETURN_VOID();
}
