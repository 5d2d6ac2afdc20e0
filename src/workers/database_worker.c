/*
 * database_worker.c
 *		A background worker that waits, works for a database once, and exits.
 *
 * While it waits, it is "waiting" in the database's struct, and it has no
 * connection.  When work is due and no other worker works for the database, it
 * becomes "working", which makes the launcher start the next worker; then it
 * connects.  Its jobs are in database_jobs.c.
 *
 * While it waits and there is nothing to flush, it keeps "flushed_at" up to
 * date, so that the age of that time tells whether flushes work.
 *
 * SIGTERM ends the wait, with a last flush if there are uses.  When the server
 * stops, it sends SIGTERM to sessions at the same time.  A session may be
 * about to count a use, so before the last flush we wait until the sessions
 * have ended.
 */
#include "postgres.h"

#include "access/xlog.h"
#include "miscadmin.h"
#include "postmaster/bgworker.h"
#include "postmaster/interrupt.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "storage/proc.h"
#include "storage/procarray.h"
#include "utils/timestamp.h"

#include "databases/databases.h"
#include "server/server.h"
#include "settings.h"
#include "usage/usage.h"
#include "workers/workers.h"

#define LOOK_INTERVAL_MS	(5 * 60 * 1000)
#define PREDECESSOR_MS		100
#define LAST_USES_MS		1000	/* how long we wait for sessions to end */
#define LAST_USES_LOOK_MS	10

PGDLLEXPORT void oa_usage_worker_main(Datum argument);

/* State of this process, which works once. */
static OaDatabase *my_database;
static Oid	my_oid;				/* the database's OID when the work began */
static uint64 begun_with;		/* number of the last request to fulfill */
static bool work_ended = false;

/* Is there work for this worker?  The caller holds the lock. */
static bool
is_due(OaDatabase *database, int64 now)
{
	if (!OidIsValid(database->oid) ||
		(RecoveryInProgress() && !oa_sends_uses()))
		return false;
	if (pg_atomic_read_u32(&database->used) != 0 &&
		(ShutdownRequestPending ||
		 now >= database->jobs[OA_FLUSHING].due_at))
		return true;
	return !ShutdownRequestPending &&
		(now >= database->look_at ||
		 oa_is_asked(&database->requests));
}

/* Return how long to wait until work may be due. */
static long
time_to_wait(const OaDatabase *database, int64 now)
{
	int64		interval = oa_flush_interval * INT64CONST(1000);
	int64		until = database->jobs[OA_FLUSHING].due_at;

	if (until <= now)
		until = now + interval;
	if (database->working != NULL)
		return PREDECESSOR_MS;
	if (!OidIsValid(database->oid))
		return (long) interval;
	return (long) Max(Min(until, database->look_at) - now, 0);
}

/*
 * Enter this worker as the one that waits.  Returns false if there is one
 * already.
 */
static bool
take_place(OaDatabase *database)
{
	bool		free;

	oa_lock_databases(LW_EXCLUSIVE);
	free = (database->waiting == NULL);
	if (free)
		database->waiting = MyProc;
	oa_unlock_databases();
	return free;
}

/*
 * If there is nothing to flush and no worker works, note that all uses are
 * flushed.  The caller holds the lock.
 */
static void
note_idleness(OaDatabase *database)
{
	if (OidIsValid(database->oid) && database->working == NULL &&
		database->flushed_at != 0 &&
		database->jobs[OA_FLUSHING].failures == 0 &&
		pg_atomic_read_u32(&database->used) == 0)
		database->flushed_at = GetCurrentTimestamp();
}

/* Begin to work, if there is work and no other worker works. */
static bool
begin_work(OaDatabase *database, long *timeout)
{
	OaJobState *flush = &database->jobs[OA_FLUSHING];
	int64		now = oa_monotonic_ms();
	bool		begins;

	oa_lock_databases(LW_EXCLUSIVE);
	/* The interval may have become shorter since the last flush. */
	flush->due_at = Min(flush->due_at, now + oa_job_pause_ms(flush));
	note_idleness(database);
	begins = database->working == NULL && is_due(database, now);
	if (begins)
	{
		database->working = MyProc;
		database->waiting = NULL;
		database->look_at = now + LOOK_INTERVAL_MS;
		my_oid = database->oid;
		begun_with = database->requests.asked;
		oa_wake_launcher();
	}
	*timeout = time_to_wait(database, now);
	oa_unlock_databases();
	return begins;
}

/* Does another worker still work, so that the last flush has to wait? */
static bool
has_predecessor(OaDatabase *database)
{
	bool		result;

	oa_lock_databases(LW_SHARED);
	result = (database->working != NULL);
	oa_unlock_databases();
	return result;
}

/* May sessions still count a use, and do we have time to wait for them? */
static bool
awaits_last_uses(void)
{
	static int64 until = 0;
	int64		now = oa_monotonic_ms();

	if (until == 0)
		until = now + LAST_USES_MS;
	return now < until && OidIsValid(my_database->oid) &&
		CountDBBackends(my_database->oid) > 0;
}

/* Wait until there is work.  Returns false if there will not be any. */
static bool
wait_for_work(OaDatabase *database)
{
	for (;;)
	{
		long		timeout;

		ResetLatch(MyLatch);
		CHECK_FOR_INTERRUPTS();
		if (ConfigReloadPending)
		{
			ConfigReloadPending = false;
			ProcessConfigFile(PGC_SIGHUP);
		}
		if (ShutdownRequestPending && awaits_last_uses())
			timeout = LAST_USES_LOOK_MS;
		else if (begin_work(database, &timeout))
			return true;
		else if (ShutdownRequestPending && !has_predecessor(database))
			return false;
		(void) WaitLatch(MyLatch,
						 WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH,
						 timeout, oa_wait_event(OA_WAIT_WORKER));
	}
}

/* Remove this worker from the database's struct, however it exits. */
static void
leave_database(int code, Datum argument)
{
	OaDatabase *database = (OaDatabase *) DatumGetPointer(argument);

	/* The worker could not connect, or a FATAL error ended it. */
	if (database->working == MyProc && !work_ended)
	{
		pg_atomic_write_u32(&database->used, 1);
		oa_note_job_failure(database, OA_FLUSHING, begun_with,
							"the worker ended early; the server log says why");
	}

	oa_lock_databases(LW_EXCLUSIVE);
	if (database->waiting == MyProc)
		database->waiting = NULL;
	if (database->working == MyProc)
		database->working = NULL;
	if (database->waiting != NULL)
		SetLatch(&database->waiting->procLatch);
	oa_wake_launcher();
	oa_unlock_databases();
	ConditionVariableBroadcast(&database->requests.changed);
}

void
oa_usage_worker_main(Datum argument)
{
	OaDatabase *database = oa_database(DatumGetInt32(argument));

	pqsignal(SIGHUP, SignalHandlerForConfigReload);
	pqsignal(SIGTERM, SignalHandlerForShutdownRequest);
	BackgroundWorkerUnblockSignals();

	if (!take_place(database))
		proc_exit(0);
	my_database = database;
	before_shmem_exit(leave_database, PointerGetDatum(database));

	if (wait_for_work(database))
	{
		BackgroundWorkerInitializeConnectionByOid(my_oid, InvalidOid, 0);
		oa_prepare_worker_session();
		oa_do_usage_jobs(database, begun_with);
		work_ended = true;
	}
	proc_exit(0);
}
