/*
 * fetch_request.c
 *		Asks the fetch worker for a fetch, and waits for it.
 */
#include "postgres.h"

#include "access/xlog.h"
#include "commands/dbcommands.h"
#include "miscadmin.h"
#include "utils/timestamp.h"

#include "databases/databases.h"
#include "settings.h"
#include "signing_keys/signing_keys.h"

PG_FUNCTION_INFO_V1(overten_refresh_signing_keys);

StaticAssertDecl(OA_REQUEST_SECONDS == 30, "also in the message below");

pg_noreturn static void
refuse_refresh(const char *detail, const char *hint)
{
	ereport(ERROR,
			(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
			 errmsg("could not fetch signing keys for database \"%s\"",
					get_database_name(MyDatabaseId)),
			 errdetail_internal("%s", detail),
			 hint != NULL ? errhint("%s", hint) : 0));
}

/*
 * Return the session's database, or raise 55000 if we cannot fetch keys for
 * it.
 */
static OaDatabase *
find_database(void)
{
	OaDatabase *database = oa_my_database();

	if (oa_shared_since() == 0)
		refuse_refresh("The library is not preloaded.",
					   "Add overten_auth to shared_preload_libraries, or load keys with overten_load_signing_keys().");
	if (database == NULL)
		refuse_refresh("The background workers do not look after this database.",
					   "Add it to overten_auth.databases.");
	if (RecoveryInProgress())
		refuse_refresh("This is a standby; it has the keys of its primary.", NULL);
	if (oa_firebase_project_id[0] == '\0')
		refuse_refresh("No Firebase project is configured.",
					   "Set overten_auth.firebase_project_id, and connect again.");
	if (oa_signing_keys_command[0] == '\0')
		refuse_refresh("There is no command to fetch them with.",
					   "Set overten_auth.signing_keys_command.");
	return database;
}

/* Raise 55000 because the fetch failed. */
pg_noreturn static void
report_failure(OaDatabase *database)
{
	OaDatabase	copy;

	oa_copy_database(database, &copy);
	refuse_refresh(oa_readable_message(copy.keys.outcome),
				   "The old keys stay in use; the server log may say more.");
}

/*
 * overten_refresh_signing_keys() returns integer
 *
 * Has signing keys fetched now.  Returns how many keys have not expired after
 * that.  Raises 55000, with the reason as its detail, if the fetch fails or
 * takes longer than 30 seconds.
 */
Datum
overten_refresh_signing_keys(PG_FUNCTION_ARGS)
{
	OaDatabase *database = find_database();
	TimestampTz last;

	switch (oa_ask_worker(database, &database->keys.requests))
	{
		case OA_REQUEST_DONE:
			break;
		case OA_REQUEST_FAILED:
			report_failure(database);
			break;
		case OA_REQUEST_WAITS:
			refuse_refresh("It took longer than 30 seconds.", "See the server log.");
	}
	PG_RETURN_INT32(oa_count_signing_keys(&last));
}
