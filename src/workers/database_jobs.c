/*
 * database_jobs.c
 *		The jobs of a usage worker in the database that it is connected to.
 *
 * On a standby there is only the flush, of uses alone, which writes on the
 * primary.  Elsewhere a worker flushes the uses that were counted, and what
 * quotas have granted, removes what is old, one table at a time, and rows whose
 * key is gone, and checks whether to fetch signing keys.  It writes only to
 * key_usage, key_last_used, key_details, usage_batches, quota_usage, audit_log
 * and idempotency_keys, and otherwise only reads api_keys, orgs and
 * signing_keys.  Its SQL runs as the owner of these tables (statement.c).
 * Another worker (fetch_worker.c) writes to signing_keys and audit_log.
 *
 * If a job fails, the others still run.  We try the failed job again after a
 * pause that grows with each of its failures.
 */
#include "postgres.h"

#include "access/xlog.h"
#include "catalog/namespace.h"
#include "commands/dbcommands.h"
#include "commands/extension.h"
#include "miscadmin.h"
#include "postmaster/interrupt.h"
#include "utils/lsyscache.h"
#include "utils/timestamp.h"

#include "databases/databases.h"
#include "limits/limits.h"
#include "members/members.h"
#include "server/server.h"
#include "settings.h"
#include "signing_keys/signing_keys.h"
#include "usage/usage.h"
#include "workers/workers.h"

#define BACKOFF_MAX_MS		(5 * 60 * 1000)
#define LAST_FLUSHES_MAX	10

static void remove_usage(void *argument);
static void remove_quotas(void *argument);
static void remove_audit(void *argument);
static void remove_requests(void *argument);
static void sweep(void *argument);
static void look_at_keys(void *argument);

static const struct
{
	void		(*run) (void *database);
	const char *activity;
}			jobs[] = {
	[OA_FLUSHING] = {NULL, "flushing usage"},	/* see flush() */
	[OA_REMOVING_USAGE] = {remove_usage, "removing old usage"},
	[OA_REMOVING_QUOTAS] = {remove_quotas, "removing old quotas"},
	[OA_REMOVING_AUDIT] = {remove_audit, "removing old rows of the audit log"},
	[OA_REMOVING_REQUESTS] = {remove_requests, "removing old requests"},
	[OA_SWEEPING] = {sweep, "removing what belongs to keys that are gone"},
	[OA_LOOKING_AT_KEYS] = {look_at_keys, "looking at signing keys"},
};

/* The argument of flush_uses(), and its result. */
typedef struct UseFlush
{
	OaDatabase *database;
	bool		kept_back;		/* have we kept uses back? */
} UseFlush;

/* The result of look_around(). */
typedef struct Surroundings
{
	OaDatabase *database;
	bool		is_renamed;
	bool		has_extension;
} Surroundings;

/* Describe a job. */
const char *
oa_job_activity(OaJob job)
{
	return jobs[job].activity;
}

/*
 * Return how long to wait after a job was done or has failed.  The caller
 * holds the lock.
 */
int64
oa_job_pause_ms(const OaJobState *state)
{
	int64		interval = oa_flush_interval * INT64CONST(1000);

	if (state->failures == 0)
		return interval;
	return Min(interval << Min(state->failures - 1, 10), BACKOFF_MAX_MS);
}

/*
 * Note that a job has failed.  If it is the flush, requests up to "asked" have
 * failed with it.
 */
void
oa_note_job_failure(OaDatabase *database, OaJob job, uint64 asked,
					const char *failure)
{
	OaJobState *state = &database->jobs[job];

	oa_count_event(OA_FLUSH_FAILURE);
	oa_lock_databases(LW_EXCLUSIVE);
	state->failures++;
	state->due_at = oa_monotonic_ms() + oa_job_pause_ms(state);
	state->failed_at = GetCurrentTimestamp();
	strlcpy(state->failure, failure, OA_FAILURE_MAX);
	if (job == OA_FLUSHING)
		database->requests.failed = Max(database->requests.failed, asked);
	oa_unlock_databases();
	ConditionVariableBroadcast(&database->requests.changed);
}

/* Note that a job is done.  A flush fulfills requests up to "asked". */
static void
note_done(OaDatabase *database, OaJob job, uint64 asked)
{
	OaJobState *state = &database->jobs[job];

	oa_lock_databases(LW_EXCLUSIVE);
	state->failures = 0;
	state->due_at = 0;
	if (job == OA_FLUSHING)
	{
		state->due_at = oa_monotonic_ms() + oa_job_pause_ms(state);
		database->requests.done = asked;
		database->flushed_at = GetCurrentTimestamp();
	}
	oa_unlock_databases();
	if (job == OA_FLUSHING)
	{
		oa_count_event(OA_FLUSH);
		ConditionVariableBroadcast(&database->requests.changed);
	}
}

/*
 * Check whether the extension exists, and whether the database was renamed
 * before we connected to it.
 */
static void
look_around(void *argument)
{
	Surroundings *found = argument;
	Oid			schema;

	oa_worker_begin();
	found->is_renamed = strcmp(get_database_name(MyDatabaseId),
							   found->database->name) != 0;
	schema = get_namespace_oid(OA_SCHEMA, true);
	found->has_extension =
		OidIsValid(get_extension_oid("overten_auth", true)) &&
		OidIsValid(schema) &&
		OidIsValid(get_relname_relid("key_usage", schema));
	oa_worker_commit();
}

static void
flush_quotas(void *argument)
{
	if (!RecoveryInProgress())
		oa_flush_quotas();
}

/* Flush uses, or on a standby have the primary write them. */
static void
flush_uses(void *argument)
{
	UseFlush   *uses = argument;

	if (RecoveryInProgress())
	{
		oa_send_uses(uses->database);
		/* After the promotion, the next worker flushes what is left. */
		uses->kept_back = !RecoveryInProgress();
	}
	else
		uses->kept_back = oa_flush_uses(uses->database);
}

/*
 * Flush what quotas have granted, and uses; each of them even if the other
 * fails.  When the server stops, flush until nothing is left.  If one fails,
 * copy its message to "failure", and return false.
 */
static bool
flush(OaDatabase *database, char *failure)
{
	for (int i = 0; i < LAST_FLUSHES_MAX; i++)
	{
		UseFlush	uses = {.database = database};
		bool		done;

		pg_atomic_write_u32(&database->used, 0);
		pg_memory_barrier();
		done = oa_run_job(flush_quotas, NULL, "flushing quotas", failure);
		done &= oa_run_job(flush_uses, &uses, jobs[OA_FLUSHING].activity,
						   failure);
		if (!done || uses.kept_back)
			pg_atomic_write_u32(&database->used, 1);
		if (!done)
			return false;
		if (uses.kept_back || !ShutdownRequestPending ||
			pg_atomic_read_u32(&database->used) == 0)
			break;
	}
	return true;
}

/* Remove rows, some at a time, until no more are old. */
static void
remove_old(bool (*remove_some) (void))
{
	while (!ShutdownRequestPending && remove_some())
		CHECK_FOR_INTERRUPTS();
}

static void
remove_usage(void *argument)
{
	remove_old(oa_remove_old_usage);
}

static void
remove_quotas(void *argument)
{
	remove_old(oa_remove_old_quotas);
}

static void
remove_audit(void *argument)
{
	remove_old(oa_remove_old_audit);
}

static void
remove_requests(void *argument)
{
	oa_remove_old_requests();
}

static void
sweep(void *argument)
{
	oa_sweep_usage(argument);
}

/* Check whether to fetch signing keys. */
static void
look_at_keys(void *argument)
{
	OaDatabase *database = argument;
	TimestampTz last;
	int			count;

	oa_worker_begin();
	count = oa_count_signing_keys(&last);
	oa_worker_commit();
	oa_fetch_note(&database->keys, oa_firebase_project_id[0] != '\0',
				  count > 0);
}

/* Is a job due?  A session may ask for a flush at any time. */
static bool
is_due(OaDatabase *database, OaJob job)
{
	bool		result;

	oa_lock_databases(LW_SHARED);
	result = oa_monotonic_ms() >= database->jobs[job].due_at;
	if (job == OA_FLUSHING)
		result |= ShutdownRequestPending || oa_is_asked(&database->requests);
	oa_unlock_databases();
	return result;
}

/* Run a job, and note the result. */
static void
do_job(OaDatabase *database, OaJob job, uint64 asked)
{
	char		failure[OA_FAILURE_MAX];
	bool		done;

	if (!is_due(database, job))
		return;
	if (job == OA_FLUSHING)
		done = flush(database, failure);
	else
		done = oa_run_job(jobs[job].run, database, jobs[job].activity,
						  failure);
	if (done)
		note_done(database, job, asked);
	else
		oa_note_job_failure(database, job, asked, failure);
}

/* Is this the session's database? */
static bool
is_mine(Oid database, void *argument)
{
	return database == MyDatabaseId;
}

/*
 * Forget the uses that were counted before some time, and what quotas have
 * granted, because without the extension we could never flush them.
 */
static void
forget_uses(OaDatabase *database, int64 before)
{
	pg_atomic_write_u32(&database->used, 0);
	pg_memory_barrier();
	if (oa_discard_quotas(is_mine, NULL, before) |
		oa_discard_uses(is_mine, NULL, before))
		pg_atomic_write_u32(&database->used, 1);
}

/*
 * Run the jobs that are due.  That fulfills, or fails, requests for a flush up
 * to "asked".
 */
void
oa_do_usage_jobs(OaDatabase *database, uint64 asked)
{
	Surroundings found = {.database = database};
	int64		now = oa_monotonic_ms();
	char		failure[OA_FAILURE_MAX];

	if (!oa_run_job(look_around, &found, "looking for the extension", failure))
	{
		oa_note_job_failure(database, OA_FLUSHING, asked, failure);
		return;
	}

	/* If the new name is listed, the worker for that name flushes the uses. */
	if (found.is_renamed)
		return;

	if (found.has_extension)
	{
		do_job(database, OA_FLUSHING, asked);
		for (int job = OA_FLUSHING + 1;
			 job < OA_JOBS && !RecoveryInProgress(); job++)
			do_job(database, job, asked);
		return;
	}
	forget_uses(database, now);
	note_done(database, OA_FLUSHING, asked);
	oa_lock_databases(LW_EXCLUSIVE);
	database->keys.wanted = false;
	oa_unlock_databases();
}
