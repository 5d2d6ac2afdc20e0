/*
 * usage_worker.c
 *		A background worker that waits, works for a database once, and exits.
 *
 * It waits in the database's struct as "waiting", without a connection; when
 * work is due and nobody else is at it, it becomes "working", which makes the
 * launcher start the next one, and connects.  Its jobs are to flush what uses
 * were counted, and to remove old history.  A job that fails leaves the others
 * to be done; it is tried again after a while that grows with each failure.
 *
 * SIGTERM ends the waiting, with a last flush if something was used.  A server
 * that stops sends it to sessions at the same time, so the last flush lets them
 * end first: one may be about to count a use.
 */
#include "postgres.h"

#include "catalog/namespace.h"
#include "commands/dbcommands.h"
#include "commands/extension.h"
#include "miscadmin.h"
#include "postmaster/bgworker.h"
#include "postmaster/interrupt.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "storage/proc.h"
#include "storage/procarray.h"
#include "utils/lsyscache.h"
#include "utils/timestamp.h"
#include "utils/wait_event.h"

#include "overten_auth.h"

#define LOOK_INTERVAL_MS	(5 * 60 * 1000)
#define BACKOFF_MAX_MS		(5 * 60 * 1000)
#define PREDECESSOR_MS		100
#define LAST_FLUSHES_MAX	10
#define LAST_USES_MS		1000	/* how long to let sessions end */
#define LAST_USES_LOOK_MS	10

PGDLLEXPORT void oa_usage_worker_main(Datum argument);

/* Of this process, which lives for one piece of work. */
static OaDatabase *my_database;
static Oid	my_oid;				/* what it had when the work began */
static uint64 begun_with;		/* requests that it has to fulfil */
static bool is_renamed = false;
static bool has_extension = false;
static bool work_ended = false;

/* How long to wait after a flush, or one that failed.  The lock is held. */
static int64
pause_ms(const OaDatabase *database)
{
	int64		interval = oa_flush_interval * INT64CONST(1000);

	if (database->failures == 0)
		return interval;
	return Min(interval << Min(database->failures - 1, 10), BACKOFF_MAX_MS);
}

/* Does the worker have work?  The lock is held. */
static bool
is_due(OaDatabase *database, int64 now)
{
	if (!OidIsValid(database->oid))
		return false;
	if (pg_atomic_read_u32(&database->used) != 0 &&
		(ShutdownRequestPending || now >= database->flush_at))
		return true;
	return !ShutdownRequestPending &&
		(now >= database->look_at ||
		 oa_is_asked(&database->requests));
}

/* How long to wait for the next time that work may be due. */
static long
time_to_wait(const OaDatabase *database, int64 now)
{
	int64		interval = oa_flush_interval * INT64CONST(1000);
	int64		until = database->flush_at;

	if (until <= now)
		until = now + interval;
	if (database->working != NULL)
		return PREDECESSOR_MS;
	if (!OidIsValid(database->oid))
		return (long) interval;
	return (long) Max(Min(until, database->look_at) - now, 0);
}

/* Take the place of the worker that waits.  False if it is taken. */
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

/* Go to work, if there is any and nobody is at it. */
static bool
begin_work(OaDatabase *database, long *timeout)
{
	int64		now = oa_monotonic_ms();
	bool		begins;

	oa_lock_databases(LW_EXCLUSIVE);
	/* The last flush may have been before the interval was made shorter. */
	database->flush_at = Min(database->flush_at, now + pause_ms(database));
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

/* Is somebody still at work, so that a last flush has to wait? */
static bool
has_predecessor(OaDatabase *database)
{
	bool		result;

	oa_lock_databases(LW_SHARED);
	result = (database->working != NULL);
	oa_unlock_databases();
	return result;
}

/* Are there sessions that may yet count a use, and is there time for that? */
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

/* Wait until there is work.  False if there will not be any. */
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
						 timeout, PG_WAIT_EXTENSION);
	}
}

/* Note that something went wrong.  "asked" are requests that it fails. */
static void
note_failure(OaDatabase *database, uint64 asked, const char *message)
{
	oa_count_event(OA_FLUSH_FAILURE);
	oa_lock_databases(LW_EXCLUSIVE);
	database->failures++;
	database->flush_at = oa_monotonic_ms() + pause_ms(database);
	database->requests.failed = Max(database->requests.failed, asked);
	database->failed_at = GetCurrentTimestamp();
	strlcpy(database->failure, message, OA_FAILURE_MAX);
	oa_unlock_databases();
	ConditionVariableBroadcast(&database->requests.changed);
}

/* Note that requests up to "asked" are fulfilled. */
static void
note_flush(OaDatabase *database, uint64 asked)
{
	oa_count_event(OA_FLUSH);
	oa_lock_databases(LW_EXCLUSIVE);
	database->failures = 0;
	database->flush_at = oa_monotonic_ms() + pause_ms(database);
	database->requests.done = asked;
	database->flushed_at = GetCurrentTimestamp();
	oa_unlock_databases();
	ConditionVariableBroadcast(&database->requests.changed);
}

/* Leave the database's struct, whatever the reason for exiting. */
static void
leave(int code, Datum argument)
{
	OaDatabase *database = (OaDatabase *) DatumGetPointer(argument);

	/* It could not connect, or something fatal happened. */
	if (database->working == MyProc && !work_ended)
	{
		pg_atomic_write_u32(&database->used, 1);
		note_failure(database, begun_with,
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

/*
 * See whether the extension is there, and the database the one that was meant:
 * it may have got another name before it was connected to.
 */
static void
look_around(void *argument)
{
	Oid			schema;

	oa_worker_begin();
	is_renamed = strcmp(get_database_name(MyDatabaseId),
						my_database->name) != 0;
	schema = get_namespace_oid(OA_SCHEMA, true);
	has_extension = OidIsValid(get_extension_oid("overten_auth", true)) &&
		OidIsValid(schema) &&
		OidIsValid(get_relname_relid("key_usage", schema));
	oa_worker_commit();
}

/* See whether signing keys are to be fetched. */
static void
look_at_keys(void *argument)
{
	TimestampTz last;
	int			count;

	oa_worker_begin();
	count = oa_count_signing_keys(&last);
	oa_worker_commit();
	oa_keys_note(&my_database->keys, oa_firebase_project_id[0] != '\0',
				 count > 0);
}

/* Flush; when the server stops, until nothing is left. */
static void
flush(void *argument)
{
	OaDatabase *database = my_database;

	for (int i = 0; i < LAST_FLUSHES_MAX; i++)
	{
		bool		kept_back;

		pg_atomic_write_u32(&database->used, 0);
		pg_memory_barrier();
		kept_back = oa_flush_uses(database);
		if (kept_back)
			pg_atomic_write_u32(&database->used, 1);
		if (kept_back || !ShutdownRequestPending ||
			pg_atomic_read_u32(&database->used) == 0)
			break;
	}
}

/* Is it the session's database? */
static bool
is_mine(Oid database, void *argument)
{
	return database == MyDatabaseId;
}

static void
remove_old_usage(void *argument)
{
	while (!ShutdownRequestPending && oa_remove_old_usage())
		CHECK_FOR_INTERRUPTS();
}

/* Do what there is to do in the database that has been connected to. */
static void
work(OaDatabase *database)
{
	char		failure[OA_FAILURE_MAX] = "";

	oa_prepare_worker_session();
	if (!oa_run_job(look_around, NULL, "looking for the extension", failure))
		note_failure(database, begun_with, failure);
	else if (is_renamed)
	{
		/* Its uses are for the worker of the new name, if it is listed. */
		work_ended = true;
		return;
	}
	else if (!has_extension)
	{
		/* Else there would seem to be something to flush for ever. */
		pg_atomic_write_u32(&database->used, 0);
		pg_memory_barrier();
		(void) oa_discard_uses(is_mine, NULL, PG_INT64_MAX);
		note_flush(database, begun_with);
	}
	else
	{
		if (oa_run_job(flush, NULL, "flushing usage", failure))
			note_flush(database, begun_with);
		else
		{
			pg_atomic_write_u32(&database->used, 1);
			note_failure(database, begun_with, failure);
		}
		if (!oa_run_job(remove_old_usage, NULL, "removing old usage", failure))
			note_failure(database, 0, failure);
		(void) oa_run_job(look_at_keys, NULL, "looking at signing keys", failure);
	}

	oa_lock_databases(LW_EXCLUSIVE);
	if (!has_extension)
		database->keys.wanted = false;
	oa_unlock_databases();
	work_ended = true;
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
	before_shmem_exit(leave, PointerGetDatum(database));

	if (wait_for_work(database))
	{
		BackgroundWorkerInitializeConnectionByOid(my_oid, InvalidOid, 0);
		work(database);
	}
	proc_exit(0);
}
