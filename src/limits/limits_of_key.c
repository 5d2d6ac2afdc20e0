/*
 * limits_of_key.c
 *		Asks all limits of a key whether they grant a cost.
 *
 * Limits are counted only in shared memory, and only in databases that
 * overten_auth.databases names, as uses are.  Elsewhere a key with limits gets
 * an error, because it would be unlimited otherwise.  So does a key with quotas
 * on a standby, which cannot write what they have granted.
 */
#include "postgres.h"

#include "access/xlog.h"
#include "utils/timestamp.h"

#include "databases/databases.h"
#include "limits/limits.h"
#include "server/server.h"
#include "settings.h"
#include "usage/usage.h"

/* So often we load quotas for one request. */
#define LOAD_ATTEMPTS	10

/*
 * Return the session's database if limits are counted in it.  A session cannot
 * move to another database.
 */
static OaDatabase *
counting_database(void)
{
	static OaDatabase *database = NULL;
	static bool known = false;

	if (!known)
	{
		database = oa_has_buckets() ? oa_my_database() : NULL;
		if (database != NULL)
			oa_announce_database(database);
		known = true;
	}
	return database;
}

/* Note that there was no memory for a bucket; log that once. */
static void
note_out_of_buckets(void)
{
	OaDatabase *database = counting_database();
	uint32		expected = 0;

	oa_count_event(OA_OUT_OF_BUCKETS_EVENT);
	if (pg_atomic_read_u32(&database->out_of_buckets) == 0 &&
		pg_atomic_compare_exchange_u32(&database->out_of_buckets, &expected, 1))
		ereport(LOG_SERVER_ONLY,
				(errmsg("no memory left to limit the requests of further keys of database \"%s\"",
						database->name),
				 oa_limits_full == OA_FULL_REFUSES ?
				 errdetail("Their requests are refused. This message is not repeated for the database.") :
				 errdetail("Their requests are admitted. This message is not repeated for the database."),
				 errhint("Raise overten_auth.max_limit_buckets, now %d.",
						 oa_max_limit_buckets)));
}

/* Raise 55000 because the limits of a key cannot be counted. */
void
oa_refuse_to_limit(OaLimiting reason)
{
	if (reason == OA_OUT_OF_BUCKETS)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("no memory is left to limit the requests of this key"),
				 errhint("Raise overten_auth.max_limit_buckets, now %d.",
						 oa_max_limit_buckets)));
	if (reason == OA_IN_RECOVERY)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("quotas are not counted on a standby"),
				 errdetail("The key has a quota, which each standby would give out anew."),
				 errhint("Send the request to the primary server.")));
	ereport(ERROR,
			(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
			 errmsg("limits of keys are not counted here"),
			 errdetail("Limits are counted if overten_auth is preloaded and overten_auth.databases names the database."),
			 errhint("Set shared_preload_libraries and overten_auth.databases, and restart the server.")));
}

/* Raise 55000 unless limits are counted in this database. */
void
oa_require_counting(void)
{
	if (counting_database() == NULL)
		oa_refuse_to_limit(OA_NOT_COUNTED_HERE);
}

/*
 * Prepare to ask a limit: this server's share of a rate limit, or the period of
 * a quota that it is now.  There is no share of a quota, because only one server
 * counts it.
 */
void
oa_prepare_take(const OaLimit *limit, OaTake *take)
{
	memset(take, 0, sizeof(*take));
	take->bucket = limit->bucket;
	take->shadow = limit->shadow;
	take->start = OA_NO_PERIOD;
	if (limit->calendar == OA_NO_CALENDAR)
		take->rate = oa_share_rate(&limit->rate, oa_limit_share);
	else
	{
		take->quota = limit->quota;
		take->now = GetCurrentTimestamp();
		oa_find_period(limit->calendar, limit->period, take->now,
					   &take->start, &take->end);
	}
}

/* The limits of a key that are asked. */
typedef struct Asked
{
	const OaLimit *limits[OA_LIMITS_OF_KEY_MAX];
	OaTake		takes[OA_LIMITS_OF_KEY_MAX];
	int			count;
	bool		has_quota;
	bool		in_part;		/* some have no bucket, and none is free */
} Asked;

/* Why can a limit not be counted here?  OA_WITHIN_LIMITS if it can. */
static OaLimiting
obstacle_of(const OaLimit *limit)
{
	if (counting_database() == NULL)
		return OA_NOT_COUNTED_HERE;
	if (limit->calendar != OA_NO_CALENDAR && RecoveryInProgress())
		return OA_IN_RECOVERY;
	return OA_WITHIN_LIMITS;
}

/*
 * Choose the limits that are asked: all that can be counted here.  Returns why
 * one that is enforced cannot.
 */
static OaLimiting
choose(const OaLimits *packed, Asked *asked)
{
	const OaLimit *limit = (const OaLimit *) packed->data;

	asked->count = 0;
	asked->has_quota = false;
	asked->in_part = false;
	for (uint32 i = 0; i < packed->count; i++, limit = oa_next_limit(limit))
	{
		OaLimiting	obstacle = obstacle_of(limit);

		if (obstacle == OA_WITHIN_LIMITS)
		{
			asked->limits[asked->count++] = limit;
			asked->has_quota |= limit->calendar != OA_NO_CALENDAR;
		}
		else if (!limit->shadow)
			return obstacle;
	}
	return OA_WITHIN_LIMITS;
}

static void
prepare_takes(Asked *asked)
{
	for (int i = 0; i < asked->count; i++)
		oa_prepare_take(asked->limits[i], &asked->takes[i]);
}

/* Go on without counting a limit. */
static void
leave_out(Asked *asked, int i)
{
	asked->in_part = true;
	asked->count--;
	for (; i < asked->count; i++)
	{
		asked->limits[i] = asked->limits[i + 1];
		asked->takes[i] = asked->takes[i + 1];
	}
}

/*
 * Load the quotas that are asked.  Returns false if one that is enforced cannot
 * be loaded, and the request must not go on without it.
 */
static bool
load_quotas(Asked *asked, text *org_id, bool give_up)
{
	for (int i = asked->count - 1; i >= 0; i--)
	{
		OaTake	   *take = &asked->takes[i];

		if (!oa_is_quota(take) ||
			(!give_up && oa_load_quota(take, org_id)))
			continue;
		if (oa_limits_full == OA_FULL_REFUSES && !take->shadow)
			return false;
		leave_out(asked, i);
	}
	return true;
}

/*
 * Take a cost from the limits, or charge it.  Quotas may be removed as soon as
 * they are loaded, if memory is short, and a period may end.  So we try several
 * times.
 */
static OaTaking
take_from(Asked *asked, text *org_id, int64 cost,
		  OaTaking (*take) (OaTake *takes, int count, int64 cost))
{
	OaTaking	taking;

	for (int attempt = 1;; attempt++)
	{
		prepare_takes(asked);
		taking = take(asked->takes, asked->count, cost);
		if (taking != OA_QUOTA_NOT_LOADED)
			break;
		if (!load_quotas(asked, org_id, attempt > LOAD_ATTEMPTS))
		{
			taking = OA_NO_BUCKET_FREE;
			break;
		}
	}
	if (taking == OA_TAKEN && asked->in_part)
		taking = OA_TAKEN_IN_PART;
	if (taking == OA_TAKEN_IN_PART || taking == OA_NO_BUCKET_FREE)
		note_out_of_buckets();
	if (asked->has_quota && (taking == OA_TAKEN || taking == OA_TAKEN_IN_PART) &&
		pg_atomic_read_u32(&counting_database()->used) == 0)
		pg_atomic_write_u32(&counting_database()->used, 1);
	return taking;
}

/* The cost that a limit would admit now. */
int64
oa_remaining_of(const OaTake *take)
{
	return oa_is_quota(take) ? Max(take->quota - take->verdict.ahead, 0) :
		oa_remaining(&take->rate, take->verdict.ahead);
}

/*
 * How long until a limit admits its whole burst again, or the next period of a
 * quota begins, in microseconds?
 */
int64
oa_reset_of(const OaTake *take)
{
	return oa_is_quota(take) ? take->end - take->now :
		oa_reset(&take->rate, take->verdict.ahead);
}

/* How long until a limit grants a cost, in microseconds; -1: never. */
static int64
wait_for(const OaTake *take, int64 cost)
{
	if (oa_is_quota(take))
		return cost > take->quota ? -1 : take->end - take->now;
	return cost > take->rate.burst ? -1 :
		oa_wait(&take->rate, take->verdict.ahead, cost);
}

/* Does one limit keep the client waiting for longer than another one? */
static bool
is_worse(int64 wait, int64 than)
{
	return than >= 0 && (wait < 0 || wait > than);
}

/*
 * Find the limit that matters: the one that refuses for the longest time or, if
 * none refuses, the one with the least left.
 */
static int
find_decisive(const OaTake *takes, int count, int64 cost, bool refused)
{
	int			decisive = -1;

	for (int i = 0; i < count; i++)
	{
		const OaTake *take = &takes[i];
		const OaTake *other = &takes[Max(decisive, 0)];

		if (take->shadow || (refused && take->verdict.granted))
			continue;
		if (decisive < 0 ||
			(refused ? is_worse(wait_for(take, cost), wait_for(other, cost)) :
			 oa_remaining_of(take) < oa_remaining_of(other)))
			decisive = i;
	}
	return decisive;
}

static void
describe(const OaLimit *limit, const OaTake *take, int64 cost, bool refused,
		 OaStanding *standing)
{
	standing->is_limited = true;
	memcpy(standing->name, limit->name, limit->name_length);
	standing->name[limit->name_length] = '\0';
	standing->is_quota = oa_is_quota(take);
	standing->quota = standing->is_quota ? limit->quota :
		oa_rate_quota(&limit->rate, limit->period);
	standing->period = standing->is_quota ?
		(int32) ((take->end - take->start) / USECS_PER_SEC) : limit->period;
	standing->remaining = oa_remaining_of(take);
	standing->retry_after = refused ? wait_for(take, cost) : 0;
	standing->reset_after = oa_reset_of(take);
}

/* Count the shadow limits that would have refused. */
static void
count_shadows(const OaTake *takes, int count)
{
	for (int i = 0; i < count; i++)
		if (takes[i].shadow && !takes[i].verdict.granted)
			oa_count_event(OA_SHADOW_LIMITED);
}

/*
 * Take a cost from all limits of a key of an org, or from none.  Sets "standing"
 * if they could be asked.  Raises what reading the table of quotas raises.
 */
OaLimiting
oa_ask_limits(const OaLimits *packed, text *org_id, int64 cost,
			  OaStanding *standing)
{
	Asked		asked;
	OaLimiting	obstacle;
	OaTaking	taking;
	int			decisive;
	bool		refused;

	standing->is_limited = false;
	if (packed->count == 0)
		return OA_WITHIN_LIMITS;
	obstacle = choose(packed, &asked);
	if (obstacle != OA_WITHIN_LIMITS || asked.count == 0)
		return obstacle;

	taking = take_from(&asked, org_id, cost, oa_take);
	if (taking == OA_NO_BUCKET_FREE)
		return OA_OUT_OF_BUCKETS;
	refused = taking == OA_REFUSED_BY_LIMIT;
	count_shadows(asked.takes, asked.count);
	decisive = find_decisive(asked.takes, asked.count, cost, refused);
	if (decisive >= 0)
		describe(asked.limits[decisive], &asked.takes[decisive], cost, refused,
				 standing);
	return refused ? OA_OVER_LIMIT : OA_WITHIN_LIMITS;
}

/* Add a cost to all limits of a key of an org, without asking them. */
OaLimiting
oa_charge_limits(const OaLimits *packed, text *org_id, int64 cost)
{
	Asked		asked;
	OaLimiting	obstacle = choose(packed, &asked);

	if (obstacle != OA_WITHIN_LIMITS || asked.count == 0)
		return obstacle;
	return take_from(&asked, org_id, cost, oa_charge_buckets) == OA_NO_BUCKET_FREE ?
		OA_OUT_OF_BUCKETS : OA_WITHIN_LIMITS;
}

/* The nth argument, a cost.  Raises 22004 or 22023. */
int64
oa_cost_argument(FunctionCallInfo fcinfo, int n)
{
	int64		cost;

	oa_require_argument(fcinfo, n, "cost");
	cost = PG_GETARG_INT64(n);
	if (cost < 0 || cost > OA_COST_MAX)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("cost must be between 0 and %d", OA_COST_MAX)));
	return cost;
}
