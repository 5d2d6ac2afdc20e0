/*
 * fetch_worker.c
 *		A background worker that fetches the signing keys of a database once.
 *
 * The launcher starts it when a fetch is due or a session asks for one.  While
 * the command runs, the worker is not connected to a database, so nobody has
 * to wait for it, least of all DROP DATABASE.  Then it connects, loads the
 * keys, and exits.
 *
 * When an attempt begins, we record it as a failure, together with the time of
 * the next attempt; a success corrects both.  So however the worker ends, the
 * launcher does not start it over and over.  Requests are numbered.  A fetch
 * fulfills, or fails, the requests that were made before it began.
 */
#include "postgres.h"

#include "commands/dbcommands.h"
#include "commands/extension.h"
#include "common/pg_prng.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "postmaster/bgworker.h"
#include "postmaster/interrupt.h"
#include "storage/ipc.h"
#include "storage/proc.h"
#include "tcop/tcopprot.h"
#include "utils/guc.h"
#include "utils/timestamp.h"

#include "databases/databases.h"
#include "settings.h"
#include "signing_keys/fetch.h"
#include "signing_keys/signing_keys.h"

/*
 * How long we accept fetched keys after the time at which the answer expires.
 * This gives Google, and those who repair a server, time to fix a problem.
 */
#define KEYS_GRACE	USECS_PER_DAY

PGDLLEXPORT void oa_fetch_worker_main(Datum argument);

/* The state of this process, which fetches once and exits. */
static uint64 begun_with;		/* number of the last request that it has to
								 * fulfill */
static TimestampTz begun_at;
static bool has_ended = false;

/* Record the attempt.  Returns false if another worker is fetching already. */
static bool
begin_fetch(OaFetchState *keys)
{
	bool		begins;
	uint32		random = pg_prng_uint32(&pg_global_prng_state);

	begun_at = GetCurrentTimestamp();
	oa_lock_databases(LW_EXCLUSIVE);
	begins = keys->worker == NULL;
	if (begins)
	{
		keys->worker = MyProc;
		begun_with = keys->requests.asked;
		if (keys->failures < INT_MAX)
			keys->failures++;
		keys->tried_at = begun_at;
		keys->next_fetch_at = oa_next_fetch_at(begun_at, 0, keys->failures,
											   random);
		strlcpy(keys->outcome, "The worker is fetching.", OA_OUTCOME_MAX);
	}
	oa_unlock_databases();
	return begins;
}

/* Record a failure, and log it. */
static void
note_failure(OaDatabase *database, const char *outcome, const char *said)
{
	OaFetchState *keys = &database->keys;
	TimestampTz now = GetCurrentTimestamp();
	uint32		random = pg_prng_uint32(&pg_global_prng_state);
	int			seconds;

	oa_lock_databases(LW_EXCLUSIVE);
	keys->requests.failed = Max(keys->requests.failed, begun_with);
	strlcpy(keys->outcome, outcome, OA_OUTCOME_MAX);
	keys->next_fetch_at = oa_next_fetch_at(now, 0, keys->failures, random);
	seconds = (keys->next_fetch_at - now) / USECS_PER_SEC;
	oa_unlock_databases();

	ereport(LOG,
			(errmsg("could not fetch signing keys for database \"%s\"",
					database->name),
			 said[0] != '\0' ?
			 errdetail("%s It said: %s", outcome, said) :
			 errdetail_internal("%s", outcome),
			 errhint("The old keys stay in use; the next attempt is in about %d seconds.",
					 seconds)));
}

/* Record a success, and log it. */
static void
note_success(OaDatabase *database, const char *outcome, int max_age)
{
	OaFetchState *keys = &database->keys;
	uint32		random = pg_prng_uint32(&pg_global_prng_state);
	int			failures;

	oa_lock_databases(LW_EXCLUSIVE);
	failures = keys->failures - 1;	/* without this attempt */
	keys->failures = 0;
	keys->fetched_at = begun_at;
	keys->next_fetch_at = oa_next_fetch_at(begun_at, max_age, 0, random);
	keys->requests.done = begun_with;
	strlcpy(keys->outcome, outcome, OA_OUTCOME_MAX);
	oa_unlock_databases();

	ereport(failures > 0 ? LOG : DEBUG1,
			(errmsg("fetched signing keys for database \"%s\"",
					database->name),
			 errdetail_internal("%s", outcome)));
}

/* Release the database's struct, however the worker exits. */
static void
leave_fetch(int code, Datum argument)
{
	OaDatabase *database = (OaDatabase *) DatumGetPointer(argument);

	if (!has_ended)
		note_failure(database,
					 "The worker ended early; the server log says why.", "");

	oa_lock_databases(LW_EXCLUSIVE);
	database->keys.worker = NULL;
	oa_wake_launcher();
	oa_unlock_databases();
	ConditionVariableBroadcast(&database->keys.requests.changed);
}

/* What to load, and the result. */
typedef struct Load
{
	const OaFetch *fetch;
	const char *database;		/* its name when the fetch began */
	bool		renamed;		/* does it have another name now? */
	int			count;			/* keys; -1 if the extension is not installed */
	char		skipped[OA_SKIPPED_MAX];	/* describes the keys that we
											 * skipped */
} Load;

/* Store what was fetched in the tables, in a transaction. */
static void
load_document(void *argument)
{
	Load	   *load = argument;
	const OaFetch *fetch = load->fetch;
	TimestampTz not_after;

	not_after = begun_at + fetch->max_age * USECS_PER_SEC + KEYS_GRACE;
	oa_worker_begin();
	/* Nobody can rename the database while we are connected to it. */
	load->renamed = strcmp(get_database_name(MyDatabaseId),
						   load->database) != 0;
	if (load->renamed)
		load->count = 0;
	else if (!OidIsValid(get_extension_oid("overten_auth", true)))
		load->count = -1;
	else if (fetch->document != NULL)
		load->count = oa_load_signing_keys(fetch->document, fetch->length,
										   not_after, load->skipped);
	else
		load->count = oa_extend_signing_keys(not_after);
	oa_worker_commit();
}

/* Load what was fetched, and describe the result in fetch->outcome. */
static bool
try_to_load(OaDatabase *database, OaFetch *fetch)
{
	Load		job = {.fetch = fetch,.database = database->name};
	char		failure[OA_FAILURE_MAX];

	fetch->said[0] = '\0';
	if (!oa_run_job(load_document, &job, "loading signing keys", failure))
	{
		snprintf(fetch->outcome, OA_OUTCOME_MAX, "They could not be loaded: %.*s.",
				 pg_mbcliplen(failure, strlen(failure), 120), failure);
		return false;
	}
	if (job.renamed)
		strlcpy(fetch->outcome,
				"The database was renamed while they were fetched.",
				OA_OUTCOME_MAX);
	else if (job.count < 0)
		strlcpy(fetch->outcome, "The database does not have the extension.",
				OA_OUTCOME_MAX);
	else if (job.count == 0)
		strlcpy(fetch->outcome,
				"The answer says that nothing has changed, but there are no keys.",
				OA_OUTCOME_MAX);
	else
		snprintf(fetch->outcome, OA_OUTCOME_MAX, "%d %s%s.%s%s%s", job.count,
				 job.count == 1 ? "key" : "keys",
				 fetch->document != NULL ? "" : ", unchanged",
				 job.skipped[0] != '\0' ? " Skipped: " : "", job.skipped,
				 job.skipped[0] != '\0' ? "." : "");
	return job.count > 0;
}

/* Return the database's OID as it is now, just before we connect. */
static Oid
find_oid(OaDatabase *database)
{
	Oid			oid;

	oa_lock_databases(LW_SHARED);
	oid = database->oid;
	oa_unlock_databases();
	return oid;
}

/* Connect, and load what was fetched. */
static bool
load_fetched_keys(OaDatabase *database, OaFetch *fetch)
{
	Oid			oid = find_oid(database);

	if (!OidIsValid(oid))
	{
		strlcpy(fetch->outcome, "The database does not exist any more.",
				OA_OUTCOME_MAX);
		return false;
	}
	BackgroundWorkerInitializeConnectionByOid(oid, InvalidOid, 0);
	oa_prepare_worker_session();

	/* Once we are connected, die() is the right handler. */
	pqsignal(SIGTERM, die);
	if (ShutdownRequestPending)
		proc_exit(0);
	return try_to_load(database, fetch);
}

void
oa_fetch_worker_main(Datum argument)
{
	OaDatabase *database = oa_database(DatumGetInt32(argument));
	OaFetch		fetch;

	pqsignal(SIGHUP, SignalHandlerForConfigReload);
	pqsignal(SIGTERM, SignalHandlerForShutdownRequest);
	BackgroundWorkerUnblockSignals();

	if (!begin_fetch(&database->keys))
		proc_exit(0);
	before_shmem_exit(leave_fetch, PointerGetDatum(database));

	if (oa_fetch_signing_keys(oa_signing_keys_command, &fetch) &&
		load_fetched_keys(database, &fetch))
		note_success(database, fetch.outcome, fetch.max_age);
	else
		note_failure(database, fetch.outcome, fetch.said);
	has_ended = true;
	proc_exit(0);
}
