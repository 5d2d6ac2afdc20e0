/*
 * limits_of_key.c
 *		Asks all limits of a key whether they grant a cost.
 *
 * Limits are counted only in shared memory, and only in databases that
 * overten_auth.databases names, as uses are.  Elsewhere a key with limits gets
 * an error, because it would be unlimited otherwise.
 */
#include "postgres.h"

#include "databases/databases.h"
#include "limits/limits.h"
#include "server/server.h"
#include "settings.h"
#include "usage/usage.h"

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

/* Prepare to ask a limit: this server's share of it. */
void
oa_prepare_take(const OaLimit *limit, OaTake *take)
{
	take->bucket = limit->bucket;
	take->rate = oa_share_rate(&limit->rate, oa_limit_share);
	take->shadow = limit->shadow;
}

/*
 * Prepare to ask all limits.  Returns whether one of them is enforced; sets
 * "limits" to where each is.
 */
static bool
prepare(const OaLimits *packed, const OaLimit **limits, OaTake *takes)
{
	const OaLimit *limit = (const OaLimit *) packed->data;
	bool		enforced = false;

	for (uint32 i = 0; i < packed->count; i++)
	{
		limits[i] = limit;
		oa_prepare_take(limit, &takes[i]);
		enforced = enforced || !limit->shadow;
		limit = oa_next_limit(limit);
	}
	return enforced;
}

/* How long until a limit grants a cost, in microseconds; -1: never. */
static int64
wait_for(const OaTake *take, int64 cost)
{
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
			 oa_remaining(&take->rate, take->verdict.ahead) <
			 oa_remaining(&other->rate, other->verdict.ahead)))
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
	standing->quota = oa_rate_quota(&limit->rate, limit->period);
	standing->period = limit->period;
	standing->remaining = oa_remaining(&take->rate, take->verdict.ahead);
	standing->retry_after = refused ? wait_for(take, cost) : 0;
	standing->reset_after = oa_reset(&take->rate, take->verdict.ahead);
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
 * Take a cost from all limits of a key, or from none.  Sets "standing" if they
 * could be asked.
 */
OaLimiting
oa_ask_limits(const OaLimits *packed, int64 cost, OaStanding *standing)
{
	int			count = (int) packed->count;
	const OaLimit *limits[OA_LIMITS_OF_KEY_MAX];
	OaTake		takes[OA_LIMITS_OF_KEY_MAX];
	OaTaking	taking;
	int			decisive;
	bool		enforced;

	standing->is_limited = false;
	if (count == 0)
		return OA_WITHIN_LIMITS;
	enforced = prepare(packed, limits, takes);
	if (counting_database() == NULL)
		return enforced ? OA_NOT_COUNTED_HERE : OA_WITHIN_LIMITS;

	taking = oa_take(takes, count, cost);
	if (taking == OA_TAKEN_IN_PART || taking == OA_NO_BUCKET_FREE)
		note_out_of_buckets();
	if (taking == OA_NO_BUCKET_FREE)
		return OA_OUT_OF_BUCKETS;
	count_shadows(takes, count);
	decisive = find_decisive(takes, count, cost,
							 taking == OA_REFUSED_BY_LIMIT);
	if (decisive >= 0)
		describe(limits[decisive], &takes[decisive], cost,
				 taking == OA_REFUSED_BY_LIMIT, standing);
	return taking == OA_REFUSED_BY_LIMIT ? OA_OVER_LIMIT : OA_WITHIN_LIMITS;
}

/* Add a cost to all limits of a key, without asking them. */
OaLimiting
oa_charge_limits(const OaLimits *packed, int64 cost)
{
	const OaLimit *limits[OA_LIMITS_OF_KEY_MAX];
	OaTake		takes[OA_LIMITS_OF_KEY_MAX];
	OaTaking	taking;
	bool		enforced;

	if (packed->count == 0)
		return OA_WITHIN_LIMITS;
	enforced = prepare(packed, limits, takes);
	if (counting_database() == NULL)
		return enforced ? OA_NOT_COUNTED_HERE : OA_WITHIN_LIMITS;

	taking = oa_charge_buckets(takes, (int) packed->count, cost);
	if (taking == OA_TAKEN)
		return OA_WITHIN_LIMITS;
	note_out_of_buckets();
	return taking == OA_TAKEN_IN_PART ? OA_WITHIN_LIMITS : OA_OUT_OF_BUCKETS;
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
