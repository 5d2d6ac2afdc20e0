/*
 * launcher.c
 *		The background worker that starts the other ones.
 *
 * For each database in overten_auth.databases a worker waits, without a
 * connection, until there is something to do.  Then it connects, works, and
 * exits (database_worker.c).  As soon as it stops waiting, the launcher starts
 * the next one.  So we do not pin databases, and DROP DATABASE and DROP
 * EXTENSION succeed.  And when the server stops, a worker exists that can
 * flush a last time; the postmaster does not start any new process at that
 * point.
 *
 * Another worker fetches signing keys; the launcher starts it when a fetch is
 * due (fetch_worker.c).
 *
 * The launcher itself is not connected to a database, but it can read
 * pg_database (database_names.c).  On a standby, it has workers that send uses
 * to the primary, if they are to be sent; otherwise it only waits for the
 * promotion.  What it knows about the workers is in shared memory, so it can be
 * restarted.
 */
#include "postgres.h"

#include "access/xlog.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "postmaster/bgworker.h"
#include "postmaster/interrupt.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "storage/proc.h"

#include "databases/databases.h"
#include "server/server.h"
#include "signing_keys/signing_keys.h"
#include "usage/usage.h"
#include "workers/workers.h"

#define LOOK_MS				(10 * 1000) /* to notice new and dropped databases */
#define RECOVERY_LOOK_MS	1000	/* likewise, and a promotion */
#define RETRY_MS			1000	/* after we could not start a worker */
#define RESTART_SECONDS		5

PGDLLEXPORT void oa_launcher_main(Datum argument);

/* What the launcher remembers about a database. */
typedef struct Started
{
	BackgroundWorkerHandle *worker; /* the last one that we started */
	BackgroundWorkerHandle *key_worker;
	bool		missing_logged;
	bool		no_slot_logged;
} Started;

/* Register the launcher, so that the postmaster starts it with the server. */
void
oa_register_launcher(void)
{
	BackgroundWorker worker = {
		.bgw_name = "overten_auth launcher",
		.bgw_type = "overten_auth launcher",
		.bgw_flags = BGWORKER_SHMEM_ACCESS |
		BGWORKER_BACKEND_DATABASE_CONNECTION,
		.bgw_start_time = BgWorkerStart_ConsistentState,
		.bgw_restart_time = RESTART_SECONDS,
		.bgw_library_name = "overten_auth",
		.bgw_function_name = "oa_launcher_main",
	};

	RegisterBackgroundWorker(&worker);
}

/*
 * Start a worker for a database.  Returns NULL if no worker slot is free; a
 * later attempt may succeed.
 */
static BackgroundWorkerHandle *
start_worker(const char *function, const char *type, int database)
{
	BackgroundWorker worker = {
		.bgw_flags = BGWORKER_SHMEM_ACCESS |
		BGWORKER_BACKEND_DATABASE_CONNECTION,
		.bgw_start_time = BgWorkerStart_ConsistentState,
		.bgw_restart_time = BGW_NEVER_RESTART,
		.bgw_library_name = "overten_auth",
		.bgw_main_arg = Int32GetDatum(database),
		.bgw_notify_pid = MyProcPid,
	};
	BackgroundWorkerHandle *handle;

	snprintf(worker.bgw_name, BGW_MAXLEN, "%s for database %s", type,
			 oa_database(database)->name);
	strlcpy(worker.bgw_type, type, BGW_MAXLEN);
	strlcpy(worker.bgw_function_name, function, BGW_MAXLEN);
	return RegisterDynamicBackgroundWorker(&worker, &handle) ? handle : NULL;
}

/* Update what we know about the databases. */
static void
find_databases(Started *started)
{
	pgstat_report_activity(STATE_RUNNING, "looking for databases");
	oa_find_databases();
	for (int i = 0; i < oa_number_of_databases(); i++)
	{
		bool		missing = !OidIsValid(oa_database(i)->oid);

		if (missing && !started[i].missing_logged)
			ereport(LOG,
					(errmsg("database \"%s\" of overten_auth.databases does not exist",
							oa_database(i)->name),
					 errhint("Create the database, or correct overten_auth.databases and restart the server.")));
		started[i].missing_logged = missing;
	}
	pgstat_report_activity(STATE_IDLE, NULL);
}

/* Has the last worker that we started for a database not yet begun? */
static bool
is_starting(BackgroundWorkerHandle *worker, const PGPROC *working)
{
	pid_t		pid;

	if (worker == NULL)
		return false;

	switch (GetBackgroundWorkerPid(worker, &pid))
	{
		case BGWH_NOT_YET_STARTED:
			return true;
		case BGWH_STARTED:
			return working == NULL || working->pid != pid;
		default:
			return false;
	}
}

/*
 * Make sure that a worker waits.  Returns the monotonic time to check again.
 */
static int64
keep_worker(int n, Started *started, int64 now)
{
	OaDatabase *database = oa_database(n);
	bool		needed;

	oa_lock_databases(LW_SHARED);
	needed = OidIsValid(database->oid) && database->waiting == NULL &&
		!is_starting(started->worker, database->working);
	oa_unlock_databases();
	if (!needed)
		return now + LOOK_MS;

	if (started->worker != NULL)
		pfree(started->worker);
	started->worker = start_worker("oa_usage_worker_main",
								   "overten_auth usage worker", n);
	if (started->worker != NULL)
	{
		started->no_slot_logged = false;
		return now + LOOK_MS;
	}
	if (!started->no_slot_logged)
		ereport(LOG,
				(errmsg("no free background worker slot to flush usage of database \"%s\"",
						database->name),
				 errdetail("Uses are counted, but not written until there is one."),
				 errhint("You might need to increase max_worker_processes.")));
	started->no_slot_logged = true;
	return now + RETRY_MS;
}

/*
 * Start a worker that fetches signing keys, if a fetch is due.  Returns
 * likewise.
 */
static int64
keep_keys(int n, Started *started, int64 now)
{
	OaFetchState *keys = &oa_database(n)->keys;
	int64		due_in;

	oa_lock_databases(LW_SHARED);
	due_in = OidIsValid(oa_database(n)->oid) ? oa_fetch_due_in(keys) : -1;
	oa_unlock_databases();
	if (due_in > 0)
		return now + Min(due_in, LOOK_MS);
	if (due_in < 0 || is_starting(started->key_worker, NULL))
		return now + LOOK_MS;

	if (started->key_worker != NULL)
		pfree(started->key_worker);
	started->key_worker = start_worker("oa_fetch_worker_main",
									   "overten_auth key worker", n);
	if (started->key_worker != NULL)
		return now + LOOK_MS;
	oa_fetch_has_no_worker(keys);
	return now + RETRY_MS;
}

/* Make sure that there are the workers.  Returns likewise. */
static int64
keep_workers(Started *started, int64 now)
{
	bool		recovery = RecoveryInProgress();
	int64		wake_at = now + (recovery ? RECOVERY_LOOK_MS : LOOK_MS);

	if (recovery && !oa_sends_uses())
		return wake_at;
	find_databases(started);
	for (int i = 0; i < oa_number_of_databases(); i++)
	{
		wake_at = Min(wake_at, keep_worker(i, &started[i], now));
		if (!recovery)
			wake_at = Min(wake_at, keep_keys(i, &started[i], now));
	}
	return wake_at;
}

/*
 * After a reload of the configuration, let the workers look at all databases.
 */
static void
reload_settings(void)
{
	ConfigReloadPending = false;
	ProcessConfigFile(PGC_SIGHUP);

	oa_lock_databases(LW_EXCLUSIVE);
	for (int i = 0; i < oa_number_of_databases(); i++)
	{
		OaDatabase *database = oa_database(i);

		database->look_at = 0;
		database->sweep.due_at = 0;
		for (int job = 0; job < OA_JOBS; job++)
			database->jobs[job].due_at = 0;
		oa_fetch_hurry(&database->keys);
		if (database->waiting != NULL)
			SetLatch(&database->waiting->procLatch);
	}
	oa_unlock_databases();
}

static void
leave_launcher(int code, Datum argument)
{
	oa_set_launcher(NULL);
}

void
oa_launcher_main(Datum argument)
{
	Started    *started;

	pqsignal(SIGHUP, SignalHandlerForConfigReload);
	pqsignal(SIGTERM, SignalHandlerForShutdownRequest);
	BackgroundWorkerUnblockSignals();
	BackgroundWorkerInitializeConnection(NULL, NULL, 0);
	pgstat_report_appname("overten_auth");

	started = palloc0(oa_number_of_databases() * sizeof(Started));
	before_shmem_exit(leave_launcher, (Datum) 0);
	oa_set_launcher(MyProc);

	while (!ShutdownRequestPending)
	{
		int64		wake_at;

		ResetLatch(MyLatch);
		CHECK_FOR_INTERRUPTS();
		if (ConfigReloadPending)
			reload_settings();

		wake_at = keep_workers(started, oa_monotonic_ms());
		(void) WaitLatch(MyLatch,
						 WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH,
						 Max(wake_at - oa_monotonic_ms(), 0),
						 oa_wait_event(OA_WAIT_LAUNCHER));
	}

	/* The postmaster restarts the launcher, unless the server stops. */
	proc_exit(1);
}
