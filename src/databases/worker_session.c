/*
 * worker_session.c
 *		Sets up the sessions of background workers, and runs their jobs.
 *
 * The defaults of the database must not change what a worker does, so we
 * override them.  An error in a job does not end the worker.
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

#define LOCK_TIMEOUT_MS 1000	/* upper limit */

/*
 * Return the lock_timeout of those who write history.  They must not make the
 * deadlock detector cancel somebody else's session.  So they give up waiting
 * for a lock well before a deadlock check would run.
 */
const char *
oa_lock_timeout(void)
{
	static char text[32];

	snprintf(text, sizeof(text), "%d",
			 Max(Min(LOCK_TIMEOUT_MS, DeadlockTimeout / 4 * 3), 1));
	return text;
}

/*
 * Reset the settings that would change what the worker does, and that ALTER
 * DATABASE or ALTER ROLE ALL may have changed.  The statements of a flush are
 * planned once, for batches of any size and for tables that may still be
 * empty, so we make the planner use the indexes, whatever its estimates are.
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
		{"enable_hashjoin", "off"},
		{"enable_mergejoin", "off"},
		{"max_parallel_workers_per_gather", "0"},
		{"jit", "off"},
		/* Do not let an unresponsive standby block the server's shutdown. */
		{"synchronous_commit", "local"},
	};

	for (int i = 0; i < lengthof(settings); i++)
		SetConfigOption(settings[i][0], settings[i][1], PGC_SUSET,
						PGC_S_OVERRIDE);
	SetConfigOption("lock_timeout", oa_lock_timeout(), PGC_SUSET,
					PGC_S_OVERRIDE);
}

/*
 * Set up the session.  It belongs to the bootstrap superuser, like that of
 * every worker without a role of its own, even if the database has a default
 * for the role or for the session's user.  Otherwise somebody could make audit
 * rows name somebody else.
 */
void
oa_prepare_worker_session(void)
{
	SetSessionAuthorization(BOOTSTRAP_SUPERUSERID, true);
	SetCurrentRoleId(InvalidOid, false);
	reset_settings();
	pgstat_report_appname("overten_auth");
}

/* Begin a transaction with a snapshot. */
void
oa_worker_begin(void)
{
	SetCurrentStatementStartTimestamp();
	StartTransactionCommand();
	PushActiveSnapshot(GetTransactionSnapshot());
}

/* Commit the transaction. */
void
oa_worker_commit(void)
{
	PopActiveSnapshot();
	CommitTransactionCommand();
}

/*
 * Run a job.  If it fails, log the error, abort the transaction, copy the
 * message to "failure" (OA_FAILURE_MAX bytes), and return false.
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
