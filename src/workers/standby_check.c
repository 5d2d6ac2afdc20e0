/*
 * standby_check.c
 *		Background workers that warn, once at the start of a standby, that
 *		webhook secrets cannot be unsealed there.
 *
 * A standby that lacks the master key file works until it is promoted, which is
 * a bad time to find out.  One worker looks up the listed databases, and has
 * another one look into each of them in turn: a worker connects to only one
 * database.  Both exit, and they do not come back.
 */
#include "postgres.h"

#include <sys/stat.h>

#include "access/xlog.h"
#include "commands/dbcommands.h"
#include "commands/extension.h"
#include "miscadmin.h"
#include "postmaster/bgworker.h"
#include "storage/ipc.h"
#include "tcop/tcopprot.h"

#include "databases/databases.h"
#include "sealing/sealing.h"
#include "workers/workers.h"

PGDLLEXPORT void oa_standby_check_main(Datum argument);
PGDLLEXPORT void oa_standby_database_main(Datum argument);

static void
describe_worker(BackgroundWorker *worker, const char *function)
{
	memset(worker, 0, sizeof(*worker));
	strlcpy(worker->bgw_name, "overten_auth standby check", BGW_MAXLEN);
	strlcpy(worker->bgw_type, "overten_auth standby check", BGW_MAXLEN);
	worker->bgw_flags = BGWORKER_SHMEM_ACCESS |
		BGWORKER_BACKEND_DATABASE_CONNECTION;
	worker->bgw_start_time = BgWorkerStart_ConsistentState;
	worker->bgw_restart_time = BGW_NEVER_RESTART;
	strlcpy(worker->bgw_library_name, "overten_auth", BGW_MAXLEN);
	strlcpy(worker->bgw_function_name, function, BGW_MAXLEN);
}

/* Register the first worker, so that the postmaster of a standby starts it. */
void
oa_register_standby_check(void)
{
	BackgroundWorker worker;
	struct stat status;

	if (stat(STANDBY_SIGNAL_FILE, &status) != 0)
		return;
	describe_worker(&worker, "oa_standby_check_main");
	RegisterBackgroundWorker(&worker);
}

/* Have a worker look into a database, and wait until it has. */
static void
check_database(Oid database)
{
	BackgroundWorker worker;
	BackgroundWorkerHandle *handle;

	describe_worker(&worker, "oa_standby_database_main");
	worker.bgw_main_arg = ObjectIdGetDatum(database);
	worker.bgw_notify_pid = MyProcPid;
	if (RegisterDynamicBackgroundWorker(&worker, &handle))
		(void) WaitForBackgroundWorkerShutdown(handle);
	else
		ereport(LOG,
				(errmsg("no free background worker slot to look for master keys"),
				 errhint("You might need to increase max_worker_processes.")));
}

void
oa_standby_check_main(Datum argument)
{
	Oid			databases[OA_DATABASES_MAX];

	pqsignal(SIGTERM, die);
	BackgroundWorkerUnblockSignals();
	if (!RecoveryInProgress())
		proc_exit(0);
	BackgroundWorkerInitializeConnection(NULL, NULL, 0);
	oa_look_up_databases(databases);
	for (int i = 0; i < oa_number_of_databases(); i++)
		if (OidIsValid(databases[i]))
			check_database(databases[i]);
	proc_exit(0);
}

/* Warn if webhook secrets of this database cannot be unsealed. */
static void
look_for_master_keys(void *argument)
{
	const char *missing = NULL;

	oa_worker_begin();
	if (OidIsValid(get_extension_oid("overten_auth", true)))
		missing = oa_missing_master_key(oa_master_key_ids_needed(),
										oa_master_key_ids_present());
	if (missing != NULL)
		ereport(WARNING,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("webhook secrets of database \"%s\" cannot be unsealed on this standby",
						get_database_name(MyDatabaseId)),
				 errdetail_internal("%s", missing),
				 errhint("%s", oa_master_key_hint())));
	oa_worker_commit();
}

void
oa_standby_database_main(Datum argument)
{
	char		failure[OA_FAILURE_MAX];

	pqsignal(SIGTERM, die);
	BackgroundWorkerUnblockSignals();
	BackgroundWorkerInitializeConnectionByOid(DatumGetObjectId(argument),
											  InvalidOid, 0);
	oa_prepare_worker_session();
	(void) oa_run_job(look_for_master_keys, NULL, "looking for master keys",
					  failure);
	proc_exit(0);
}
