/*
 * flush_request.c
 *		Asks the usage worker for a flush, and waits for it.
 */
#include "postgres.h"

#include "access/xlog.h"
#include "commands/dbcommands.h"
#include "miscadmin.h"

#include "databases/databases.h"
#include "usage/usage.h"

PG_FUNCTION_INFO_V1(overten_flush_usage);

/* Raise 55000 because the flush failed. */
pg_noreturn static void
report_failure(OaDatabase *database)
{
	OaDatabase	copy;

	oa_copy_database(database, &copy);
	ereport(ERROR,
			(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
			 errmsg("could not flush usage of database \"%s\"",
					get_database_name(MyDatabaseId)),
			 errdetail("The worker reports: %s.",
					   oa_readable_message(copy.jobs[OA_FLUSHING].failure)),
			 errhint("No use is lost: the worker tries again.")));
}

/*
 * overten_flush_usage() returns void
 *
 * Returns when all uses that were counted before the call are in the tables.
 * If uses are not counted in shared memory, that is at once.  On a standby it
 * sends them to the primary, if it may (sent_uses.c).  Raises 55000 if it may
 * not, if the flush fails, or if it takes longer than 30 seconds.
 */
Datum
overten_flush_usage(PG_FUNCTION_ARGS)
{
	OaDatabase *database = oa_my_database();

	if (database == NULL)
		PG_RETURN_VOID();
	if (RecoveryInProgress() && !oa_sends_uses())
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("cannot flush usage of database \"%s\" on a standby",
						get_database_name(MyDatabaseId)),
				 errdetail("Uses are counted, and are flushed after promotion."),
				 errhint("Set overten_auth.uses_conninfo to have them sent to the primary.")));

	switch (oa_ask_worker(database, &database->requests))
	{
		case OA_REQUEST_DONE:
			break;
		case OA_REQUEST_FAILED:
			report_failure(database);
			break;
		case OA_REQUEST_WAITS:
			ereport(ERROR,
					(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
					 errmsg("could not flush usage of database \"%s\" within %d seconds",
							get_database_name(MyDatabaseId), OA_REQUEST_SECONDS),
					 errhint("All background worker slots may be in use: see max_worker_processes and the server log.")));
	}
	PG_RETURN_VOID();
}
