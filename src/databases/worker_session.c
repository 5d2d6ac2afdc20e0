/*
 * worker_session.c
 *		What the background workers do alike in a database.
 *
 * They set the session up, so that nobody's defaults for the database change
 * what they do, and run jobs, whose errors do not end them.
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/pg_authid.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "storage/proc.h"
#include "utils/guc.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"

#include "databases/databases.h"

/*
 * A worker must not be the one whom a deadlock is found with: the others are
 * people's sessions.  So it gives up on a lock well before they look for one.
 */
#define LOCK_TIMEOUT_MS 1000	/* at most */

/*
 * Settings that ALTER DATABASE or ALTER ROLE ALL may have changed, and that
 * would change what the worker does.  The statements of a flush are planned
 * once, for batches of any size and tables that may be empty still, so they are
 * to go by the indexes whatever the planner thinks of it.
 */
static void
reset_settings(void)
{
	static const char *const settings[][2] = {
		{"default_transaction_isolation", "read committed"},
		{"default_transaction_read_only", "off"},
		{"default_transaction_deferrable", "off"},
		{"session_replication_role", "origin"},
		{"row_security", "on"},
		{"statement_timeout", "0"},
		{"idle_in_transaction_session_timeout", "0"},
#if PG_VERSION_NUM >= 170000
		{"transaction_timeout", "0"},
#endif
		{"standard_conforming_strings", "on"},
		{"transform_null_equals", "off"},
		{"enable_seqscan", "off"},
		{"enable_bitmapscan", "off"},
		{"enable_indexscan", "on"},
		{"enable_indexonlyscan", "on"},
		{"enable_nestloop", "on"},
		{"max_parallel_workers_per_gather", "0"},
		{"jit", "off"},
		/* A standby that does not answer must not keep the server up. */
		{"synchronous_commit", "local"},
	};
	char		lock_timeout[32];

	for (int i = 0; i < lengthof(settings); i++)
		SetConfigOption(settings[i][0], settings[i][1], PGC_SUSET,
						PGC_S_OVERRIDE);
	snprintf(lock_timeout, sizeof(lock_timeout), "%d",
			 Max(Min(LOCK_TIMEOUT_MS, DeadlockTimeout / 4 * 3), 1));
	SetConfigOption("lock_timeout", lock_timeout, PGC_SUSET, PGC_S_OVERRIDE);
}

/*
 * Set the session up.  It is the bootstrap superuser's, as that of any worker
 * without a role of its own, even if the database has a default for the role or
 * the session's user: else audit rows could be made to name somebody else.
 */
void
oa_prepare_worker_session(void)
{
	SetSessionAuthorization(BOOTSTRAP_SUPERUSERID, true);
	SetCurrentRoleId(InvalidOid, false);
	reset_settings();
	pgstat_report_appname("overten_auth");
}

/* Begin a transaction. */
void
oa_worker_begin(void)
{
	SetCurrentStatementStartTimestamp();
	StartTransactionCommand();
	PushActiveSnapshot(GetTransactionSnapshot());
}

/* Commit it. */
void
oa_worker_commit(void)
{
	PopActiveSnapshot();
	CommitTransactionCommand();
}

/*
 * Run a job.  If it fails, log that, clean up, and keep as much of the message
 * as OA_FAILURE_MAX bytes hold.
 */
bool
oa_run_job(void (*job) (void *argument), void *argument, const char *activity,
		   char *failure)
{
	MemoryContext caller = CurrentMemoryContext;
	volatile bool done = false;

	pgstat_report_activity(STATE_RUNNING, activity);
	PG_TRY();
	{
		job(argument);
		done = true;
	}
	PG_CATCH();
	{
		ErrorData  *error;
		int			length;

		HOLD_INTERRUPTS();
		EmitErrorReport();
		MemoryContextSwitchTo(caller);
		error = CopyErrorData();
		length = pg_mbcliplen(error->message, (int) strlen(error->message),
							  OA_FAILURE_MAX - 1);
		strlcpy(failure, error->message, length + 1);
		AbortCurrentTransaction();
		FlushErrorState();
		RESUME_INTERRUPTS();
	}
	PG_END_TRY();
	MemoryContextSwitchTo(caller);
	pgstat_report_activity(STATE_IDLE, NULL);
	return done;
}
