/*
 * status.c
 *		Reports the state of the extension to operators.
 *
 * overten_status() is about the session's database.  The statistics are about
 * the whole server since its start.
 */
#include "postgres.h"

#include "access/xlog.h"
#include "catalog/pg_type.h"
#include "replication/syncrep.h"
#include "replication/walsender.h"
#include "storage/proc.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

#include "databases/databases.h"
#include "limits/limits.h"
#include "lookup/lookup.h"
#include "sealing/sealing.h"
#include "server/server.h"
#include "settings.h"
#include "signing_keys/signing_keys.h"
#include "standby/standby.h"
#include "usage/usage.h"
#include "workers/workers.h"

PG_FUNCTION_INFO_V1(overten_status);
PG_FUNCTION_INFO_V1(overten_stat);

/* Columns of overten_status(). */
enum
{
	USAGE_MODE, USAGE_WORKER, FLUSHED_AT, FLUSH_FAILED_AT, FLUSH_FAILURE,
	SIGNING_KEYS, SIGNING_KEYS_EXPIRE_AT, KEY_WORKER, FETCHED_AT,
	FETCH_TRIED_AT, FETCH_OUTCOME, NEXT_FETCH_AT, MASTER_KEYS_NEEDED,
	MASTER_KEYS_PRESENT, MASTER_KEY_WARNING, REVOCATION_WARNING, STANDBY_AGE,
	STANDBY_BOUND, STANDBY_PROBLEM, STATUS_COLUMNS
};

static const Oid status_types[STATUS_COLUMNS] = {
	[USAGE_MODE] = TEXTOID,
	[USAGE_WORKER] = TEXTOID,
	[FLUSHED_AT] = TIMESTAMPTZOID,
	[FLUSH_FAILED_AT] = TIMESTAMPTZOID,
	[FLUSH_FAILURE] = TEXTOID,
	[SIGNING_KEYS] = INT4OID,
	[SIGNING_KEYS_EXPIRE_AT] = TIMESTAMPTZOID,
	[KEY_WORKER] = TEXTOID,
	[FETCHED_AT] = TIMESTAMPTZOID,
	[FETCH_TRIED_AT] = TIMESTAMPTZOID,
	[FETCH_OUTCOME] = TEXTOID,
	[NEXT_FETCH_AT] = TIMESTAMPTZOID,
	[MASTER_KEYS_NEEDED] = TEXTARRAYOID,
	[MASTER_KEYS_PRESENT] = TEXTARRAYOID,
	[MASTER_KEY_WARNING] = TEXTOID,
	[REVOCATION_WARNING] = TEXTOID,
	[STANDBY_AGE] = INTERVALOID,
	[STANDBY_BOUND] = INTERVALOID,
	[STANDBY_PROBLEM] = TEXTOID,
};

/* Columns of overten_auth.stat(). */
enum
{
	ACCEPTED, REFUSED, CACHE_HITS, CACHE_MISSES, NOT_ATTRIBUTED, FLUSHES,
	FLUSH_FAILURES, USES_SENT, USES_RECEIVED, LIMITED, SHADOW_LIMITED,
	OUT_OF_LIMIT_BUCKETS, LIMIT_BUCKETS_USED, LIMIT_BUCKETS_FREE,
	ENTRIES_USED, ENTRIES_FREE, SHARED_CACHE_ENTRIES, SHARED_CACHE_STORES,
	SHARED_CACHE_STALE, SHARED_CACHE_BUSY,
	SHARED_CACHE_TOO_LONG, LAST_FETCH_AT, LAST_FETCH_OUTCOME,
	STAT_STANDBY_AGE, STAT_STANDBY_BOUND, SINCE, STAT_COLUMNS
};

static const Oid stat_types[STAT_COLUMNS] = {
	[ACCEPTED] = INT8OID,
	[REFUSED] = INT8OID,
	[CACHE_HITS] = INT8OID,
	[CACHE_MISSES] = INT8OID,
	[NOT_ATTRIBUTED] = INT8OID,
	[FLUSHES] = INT8OID,
	[FLUSH_FAILURES] = INT8OID,
	[USES_SENT] = INT8OID,
	[USES_RECEIVED] = INT8OID,
	[LIMITED] = INT8OID,
	[SHADOW_LIMITED] = INT8OID,
	[OUT_OF_LIMIT_BUCKETS] = INT8OID,
	[LIMIT_BUCKETS_USED] = INT4OID,
	[LIMIT_BUCKETS_FREE] = INT4OID,
	[ENTRIES_USED] = INT4OID,
	[ENTRIES_FREE] = INT4OID,
	[SHARED_CACHE_ENTRIES] = INT8OID,
	[SHARED_CACHE_STORES] = INT8OID,
	[SHARED_CACHE_STALE] = INT8OID,
	[SHARED_CACHE_BUSY] = INT8OID,
	[SHARED_CACHE_TOO_LONG] = INT8OID,
	[LAST_FETCH_AT] = TIMESTAMPTZOID,
	[LAST_FETCH_OUTCOME] = TEXTOID,
	[STAT_STANDBY_AGE] = INTERVALOID,
	[STAT_STANDBY_BOUND] = INTERVALOID,
	[SINCE] = TIMESTAMPTZOID,
};

static void
set_time(Datum *value, bool *isnull, TimestampTz time)
{
	*value = TimestampTzGetDatum(time);
	*isnull = (time == 0);
}

/* Return how uses are recorded in this session. */
static const char *
usage_mode(const OaDatabase *database)
{
	if (database != NULL)
		return "shared memory";
	return oa_record_use_without_preload ? "table" : "off";
}

static void
set_message(Datum *value, bool *isnull, const char *message)
{
	*isnull = message == NULL || message[0] == '\0';
	if (!*isnull)
		*value = CStringGetTextDatum(oa_readable_message(message));
}

/*
 * Return the job of the usage worker whose failure to report: one that still
 * fails, and the flush first of all; otherwise the one that failed last.
 */
static OaJob
failed_job(const OaJobState *jobs)
{
	OaJob		last = OA_FLUSHING;

	for (int job = 0; job < OA_JOBS; job++)
	{
		if (jobs[job].failures > 0)
			return job;
		if (jobs[job].failed_at > jobs[last].failed_at)
			last = job;
	}
	return last;
}

/* Report how a job has failed. */
static void
describe_failure(const OaDatabase *database, Datum *values, bool *nulls)
{
	const OaJobState *jobs = database->jobs;
	OaJob		job = failed_job(jobs);
	const char *failure = jobs[job].failure;

	if (job != OA_FLUSHING)
		failure = psprintf("%s: %s", oa_job_activity(job), failure);
	set_time(&values[FLUSH_FAILED_AT], &nulls[FLUSH_FAILED_AT],
			 jobs[job].failed_at);
	set_message(&values[FLUSH_FAILURE], &nulls[FLUSH_FAILURE], failure);
}

/* Report what the usage worker does. */
static void
describe_usage(const OaDatabase *database, Datum *values, bool *nulls)
{
	const char *worker = database->working != NULL ? "working" :
	database->waiting != NULL ? "waiting" : "none";

	values[USAGE_WORKER] = CStringGetTextDatum(worker);
	nulls[USAGE_WORKER] = false;
	set_time(&values[FLUSHED_AT], &nulls[FLUSHED_AT], database->flushed_at);
	describe_failure(database, values, nulls);
}

/* Report which signing keys there are. */
static void
describe_signing_keys(Datum *values, bool *nulls)
{
	TimestampTz last;

	values[SIGNING_KEYS] = Int32GetDatum(oa_count_signing_keys(&last));
	nulls[SIGNING_KEYS] = false;
	set_time(&values[SIGNING_KEYS_EXPIRE_AT], &nulls[SIGNING_KEYS_EXPIRE_AT],
			 last);
}

/* Report what the worker that fetches signing keys does. */
static void
describe_fetching(const OaDatabase *database, Datum *values, bool *nulls)
{
	const OaFetchState *keys = &database->keys;
	bool		scheduled = keys->wanted && oa_signing_keys_command[0] != '\0';

	values[KEY_WORKER] = CStringGetTextDatum(keys->worker != NULL ? "fetching" :
											 scheduled ? "scheduled" : "off");
	nulls[KEY_WORKER] = false;
	set_time(&values[FETCHED_AT], &nulls[FETCHED_AT], keys->fetched_at);
	set_time(&values[FETCH_TRIED_AT], &nulls[FETCH_TRIED_AT], keys->tried_at);
	set_message(&values[FETCH_OUTCOME], &nulls[FETCH_OUTCOME], keys->outcome);
	set_time(&values[NEXT_FETCH_AT], &nulls[NEXT_FETCH_AT],
			 scheduled ? keys->next_fetch_at : 0);
}

/* Report whether the master keys are here, and whether they will stay. */
static void
describe_master_keys(Datum *values, bool *nulls)
{
	ArrayType  *needed = oa_master_key_ids_needed();
	ArrayType  *present = oa_master_key_ids_present();
	const char *missing = oa_missing_master_key(needed, present);

	values[MASTER_KEYS_NEEDED] = PointerGetDatum(needed);
	nulls[MASTER_KEYS_NEEDED] = false;
	values[MASTER_KEYS_PRESENT] = PointerGetDatum(present);
	nulls[MASTER_KEYS_PRESENT] = false;
	set_message(&values[MASTER_KEY_WARNING], &nulls[MASTER_KEY_WARNING],
				missing != NULL ? missing : oa_key_file_risk());
}

/* Return a sentence if overten_auth.revocation_commit promises nothing. */
static const char *
revocation_warning(void)
{
	if (oa_revocation_commit == OA_COMMIT_AS_SET || RecoveryInProgress() ||
		(SyncRepConfig != NULL && max_wal_senders > 0))
		return NULL;
	return "There are no synchronous standbys, so that overten_auth.revocation_commit promises nothing: a failover can bring a revoked key back.";
}

/* How old what this server knows is, if it is a standby with a bound. */
static void
describe_staleness(Datum *age, bool *age_is_null, Datum *bound,
				   bool *bound_is_null)
{
	int64		microseconds = oa_standby_age();

	*age_is_null = microseconds < 0;
	if (!*age_is_null)
		*age = oa_interval(microseconds);
	*bound_is_null = oa_max_standby_lag == 0 || !RecoveryInProgress();
	if (!*bound_is_null)
		*bound = oa_interval(oa_max_standby_lag * INT64CONST(1000));
}

/* The same, and why it is older than the bound. */
static void
describe_standby(Datum *values, bool *nulls)
{
	describe_staleness(&values[STANDBY_AGE], &nulls[STANDBY_AGE],
					   &values[STANDBY_BOUND], &nulls[STANDBY_BOUND]);
	set_message(&values[STANDBY_PROBLEM], &nulls[STANDBY_PROBLEM],
				oa_standby_problem());
}

/*
 * overten_status() returns usage_mode text, usage_worker text, flushed_at,
 * 		flush_failed_at timestamptz, flush_failure text, signing_keys integer,
 * 		signing_keys_expire_at timestamptz, key_worker text, fetched_at,
 * 		fetch_tried_at timestamptz, fetch_outcome text, next_fetch_at
 * 		timestamptz, master_keys_needed, master_keys_present text[],
 * 		master_key_warning, revocation_warning text, standby_age,
 * 		standby_bound interval, standby_problem text
 *
 * Returns the state of the session's database.  The columns about the workers
 * are NULL if there are no workers for it.
 */
Datum
overten_status(PG_FUNCTION_ARGS)
{
	OaDatabase *database = oa_my_database();
	Datum		values[STATUS_COLUMNS] = {0};
	bool		nulls[STATUS_COLUMNS];

	memset(nulls, true, sizeof(nulls));
	values[USAGE_MODE] = CStringGetTextDatum(usage_mode(database));
	nulls[USAGE_MODE] = false;
	if (database != NULL)
	{
		OaDatabase	copy;

		oa_copy_database(database, &copy);
		describe_usage(&copy, values, nulls);
		describe_fetching(&copy, values, nulls);
	}
	describe_signing_keys(values, nulls);
	describe_master_keys(values, nulls);
	set_message(&values[REVOCATION_WARNING], &nulls[REVOCATION_WARNING],
				revocation_warning());
	describe_standby(values, nulls);
	return oa_result_row(fcinfo, status_types, STATUS_COLUMNS, values, nulls);
}

/* Report the last fetch of signing keys for any database. */
static void
describe_last_fetch(Datum *values, bool *nulls)
{
	TimestampTz at = 0;
	char		outcome[OA_OUTCOME_MAX] = "";

	oa_lock_databases(LW_SHARED);
	for (int i = 0; i < oa_number_of_databases(); i++)
	{
		const OaFetchState *keys = &oa_database(i)->keys;

		if (keys->tried_at > at)
		{
			at = keys->tried_at;
			strlcpy(outcome, keys->outcome, sizeof(outcome));
		}
	}
	oa_unlock_databases();

	set_time(&values[LAST_FETCH_AT], &nulls[LAST_FETCH_AT], at);
	set_message(&values[LAST_FETCH_OUTCOME], &nulls[LAST_FETCH_OUTCOME],
				outcome);
}

/* What the cache of all sessions has done. */
static void
describe_shared_cache(Datum *values, bool *nulls)
{
	OaSharedCacheStats stats;

	if (!oa_shared_cache_stats(&stats))
	{
		memset(&nulls[SHARED_CACHE_ENTRIES], true,
			   SHARED_CACHE_TOO_LONG - SHARED_CACHE_ENTRIES + 1);
		return;
	}
	values[SHARED_CACHE_ENTRIES] = Int64GetDatum(stats.slots);
	values[SHARED_CACHE_STORES] = Int64GetDatum(stats.stores);
	values[SHARED_CACHE_STALE] = Int64GetDatum(stats.stale);
	values[SHARED_CACHE_BUSY] = Int64GetDatum(stats.busy);
	values[SHARED_CACHE_TOO_LONG] = Int64GetDatum(stats.too_long);
}

/* What limits have done. */
static void
describe_limits(const uint64 *counts, Datum *values)
{
	int			used;
	int			size;

	oa_buckets_fill(&used, &size);
	values[LIMITED] = Int64GetDatum(counts[OA_LIMITED]);
	values[SHADOW_LIMITED] = Int64GetDatum(counts[OA_SHADOW_LIMITED]);
	values[OUT_OF_LIMIT_BUCKETS] =
		Int64GetDatum(counts[OA_OUT_OF_BUCKETS_EVENT]);
	values[LIMIT_BUCKETS_USED] = Int32GetDatum(used);
	values[LIMIT_BUCKETS_FREE] = Int32GetDatum(size - used);
}

/*
 * overten_auth.stat() returns accepted, refused, cache_hits, cache_misses,
 *		not_attributed, flushes, flush_failures, uses_sent, uses_received,
 *		limited, shadow_limited, out_of_limit_buckets bigint,
 *		limit_buckets_used, limit_buckets_free, entries_used, entries_free
 *		integer, shared_cache_entries, shared_cache_stores, shared_cache_stale,
 *		shared_cache_busy, shared_cache_too_long bigint, last_fetch_at
 *		timestamptz, last_fetch_outcome text, standby_age, standby_bound
 *		interval, since timestamptz
 *
 * Returns the row of the view overten_stat.  All columns are NULL unless the
 * library is preloaded.
 */
Datum
overten_stat(PG_FUNCTION_ARGS)
{
	Datum		values[STAT_COLUMNS] = {0};
	bool		nulls[STAT_COLUMNS] = {false};
	uint64		counts[OA_EVENTS];
	int			used;
	int			size;

	if (oa_shared_since() == 0)
	{
		memset(nulls, true, sizeof(nulls));
		return oa_result_row(fcinfo, stat_types, STAT_COLUMNS, values, nulls);
	}

	for (int event = 0; event < OA_EVENTS; event++)
		counts[event] = oa_event_count(event);
	oa_use_counters_fill(&used, &size);

	values[ACCEPTED] = Int64GetDatum(counts[OA_CACHE_HIT] +
									 counts[OA_ACCEPTED]);
	values[REFUSED] = Int64GetDatum(counts[OA_REFUSED] +
									counts[OA_REFUSED_UNREAD] +
									counts[OA_LIMITED]);
	values[CACHE_HITS] = Int64GetDatum(counts[OA_CACHE_HIT]);
	values[CACHE_MISSES] = Int64GetDatum(counts[OA_ACCEPTED] +
										 counts[OA_REFUSED]);
	values[NOT_ATTRIBUTED] = Int64GetDatum(counts[OA_NOT_ATTRIBUTED]);
	values[FLUSHES] = Int64GetDatum(counts[OA_FLUSH]);
	values[FLUSH_FAILURES] = Int64GetDatum(counts[OA_FLUSH_FAILURE]);
	values[USES_SENT] = Int64GetDatum(counts[OA_USE_SENT]);
	values[USES_RECEIVED] = Int64GetDatum(counts[OA_USE_RECEIVED]);
	describe_limits(counts, values);
	describe_shared_cache(values, nulls);
	values[ENTRIES_USED] = Int32GetDatum(used);
	values[ENTRIES_FREE] = Int32GetDatum(size - used);
	describe_last_fetch(values, nulls);
	describe_staleness(&values[STAT_STANDBY_AGE], &nulls[STAT_STANDBY_AGE],
					   &values[STAT_STANDBY_BOUND], &nulls[STAT_STANDBY_BOUND]);
	values[SINCE] = TimestampTzGetDatum(oa_shared_since());
	return oa_result_row(fcinfo, stat_types, STAT_COLUMNS, values, nulls);
}
