/*
 * buckets.c
 *		Counts what limits have granted, in shared memory.
 *
 * A bucket belongs to a limit and to its subject, a key's line of rotations or
 * an org.  Its id is a digest of these (limit_rows.c), so a rate limit that is
 * changed gets new buckets.  rate.c has the arithmetic of rates, and
 * bucket_memory.c the memory and its locks.
 *
 * One rate limit: we hold the lock of its partition shared.  We read TAT, then
 * the clock, then replace TAT by compare-and-exchange.  If somebody else was
 * faster, we start over with the clock, too.  So the clock that a grant was
 * decided with was read after the TAT was there that it replaces, and grants
 * follow one another by their times.  With a clock from before, a client that
 * keeps to the rate could be refused, because a request that read the clock
 * later was counted earlier.
 *
 * Several limits, or a quota: all of them grant, or nothing is taken from any.
 * We hold the locks of all their partitions exclusively, and take them in
 * ascending order.  We read the clock when we have them, decide, and write.
 * Nobody can see a bucket with a cost that is given back later.  Giving back
 * would be wrong anyway: time may have repaid the cost meanwhile, so that it
 * would be repaid twice.
 *
 * The bucket of a quota has the units that were used in its period.  It must be
 * there before we decide, because a quota that is not in memory can be used up
 * (quota_buckets.c).
 *
 * The clock of rates is the monotonic one, which is the same for all processes
 * and which nobody can set.  Nothing here raises or allocates, and nothing
 * depends on transactions: what was granted stays taken if the transaction rolls
 * back.
 */
#include "postgres.h"

#include "port/pg_bitutils.h"

#include "limits/buckets.h"
#include "server/server.h"
#include "settings.h"

/* Lock or unlock the partitions of a set, in ascending order. */
static void
lock_partitions(uint64 set)
{
	for (; set != 0; set &= set - 1)
		LWLockAcquire(oa_limit_partition_lock(pg_rightmost_one_pos64(set)),
					  LW_EXCLUSIVE);
}

static void
unlock_partitions(uint64 set)
{
	for (; set != 0; set &= set - 1)
		LWLockRelease(oa_limit_partition_lock(pg_rightmost_one_pos64(set)));
}

/* The TAT of a rate, which is locked exclusively, and the clock in its ticks. */
static void
read_rate(OaRateBucket *bucket, const OaRate *rate, int64 now, int64 *arrival,
		  int64 *ticks)
{
	*arrival = *ticks = 0;
	if (bucket == NULL)
		return;
	*arrival = (int64) pg_atomic_read_u64(&bucket->arrival);
	if (oa_ticks(rate, bucket->epoch, now, ticks))
		return;

	*arrival = oa_move_arrival(bucket->scale, bucket->epoch, *arrival, now);
	*ticks = 0;
	bucket->epoch = now;
	pg_atomic_write_u64(&bucket->arrival, (uint64) *arrival);
}

/* What is known of the limits while their partitions are locked. */
typedef struct Locked
{
	OaLimitBucket *bucket;		/* or NULL */
	int64		ticks;			/* the clock, since the epoch of a rate */
} Locked;

/* Find the buckets of all limits.  Returns false if that of a quota is missing. */
static bool
find_all(const OaTake *takes, Locked *locked, int count)
{
	bool		complete = true;

	for (int i = 0; i < count; i++)
	{
		locked[i].bucket = oa_find_limit_bucket(takes[i].bucket,
												takes[i].start);
		locked[i].ticks = 0;
		if (locked[i].bucket == NULL && oa_is_quota(&takes[i]))
			complete = false;
	}
	return complete;
}

/* Would a quota grant a cost? */
static OaVerdict
judge_quota(const OaTake *take, int64 units, int64 cost)
{
	OaVerdict	verdict = {.granted = cost <= take->quota - units};

	verdict.ahead = units + (verdict.granted ? cost : 0);
	return verdict;
}

/*
 * Decide about each limit at the same time.  Returns whether all limits that
 * are enforced grant the cost.
 */
static bool
judge_all(OaTake *takes, Locked *locked, int count, int64 cost, int64 now)
{
	bool		granted = true;

	for (int i = 0; i < count; i++)
	{
		OaTake	   *take = &takes[i];
		OaLimitBucket *bucket = locked[i].bucket;
		int64		arrival;

		if (oa_is_quota(take))
			take->verdict = judge_quota(take, bucket->quota.units, cost);
		else
		{
			read_rate(bucket == NULL ? NULL : &bucket->rate, &take->rate, now,
					  &arrival, &locked[i].ticks);
			take->verdict = oa_judge(&take->rate, arrival, locked[i].ticks,
									 cost);
		}
		granted = granted && (take->verdict.granted || take->shadow);
	}
	return granted;
}

/* What is used of a quota if a cost is added, which stops at the maximum. */
static int64
add_units(int64 units, int64 cost)
{
	return units + Min(cost, PG_INT64_MAX - units);
}

/* Likewise, but add the cost without asking. */
static void
charge_all(OaTake *takes, Locked *locked, int count, int64 cost, int64 now)
{
	for (int i = 0; i < count; i++)
	{
		OaTake	   *take = &takes[i];
		OaLimitBucket *bucket = locked[i].bucket;
		int64		arrival;

		take->verdict.granted = true;
		if (oa_is_quota(take))
		{
			take->verdict.ahead = add_units(bucket->quota.units, cost);
			continue;
		}
		read_rate(bucket == NULL ? NULL : &bucket->rate, &take->rate, now,
				  &arrival, &locked[i].ticks);
		take->verdict.ahead = oa_add_debt(&take->rate, arrival,
										  locked[i].ticks, cost);
	}
}

/* How many limits that are to be written have no bucket? */
static int
count_missing(const OaTake *takes, const Locked *locked, int count)
{
	int			missing = 0;

	for (int i = 0; i < count; i++)
		if (locked[i].bucket == NULL && takes[i].verdict.granted)
			missing++;
	return missing;
}

/* Does one of the limits that are enforced have no bucket? */
static bool
misses_enforced(const OaTake *takes, const Locked *locked, int count)
{
	for (int i = 0; i < count; i++)
		if (locked[i].bucket == NULL && takes[i].verdict.granted &&
			!takes[i].shadow)
			return true;
	return false;
}

/* Add the bucket of a rate.  Returns the next of a list of free buckets. */
static int
add_rate(int free, const OaTake *take, int64 now)
{
	int			next = oa_add_limit_bucket(free, take->bucket, OA_NO_PERIOD);
	OaRateBucket *rate = &oa_limit_bucket(free)->rate;

	rate->scale = take->rate.scale;
	rate->epoch = now;
	pg_atomic_write_u64(&rate->arrival, (uint64) take->verdict.ahead);
	oa_note_past(rate);
	return next;
}

/* Write what was decided about a quota. */
static void
write_quota(OaQuotaBucket *quota, const OaTake *take)
{
	oa_note_unwritten(quota, take->verdict.ahead - quota->units);
	quota->units = take->verdict.ahead;
}

/* Write what was decided into the buckets; "free" is a list of new ones. */
static void
write_all(const OaTake *takes, const Locked *locked, int count, int free,
		  int64 now)
{
	for (int i = 0; i < count; i++)
	{
		OaLimitBucket *bucket = locked[i].bucket;

		if (!takes[i].verdict.granted)
			continue;
		if (oa_is_quota(&takes[i]))
			write_quota(&bucket->quota, &takes[i]);
		else if (bucket != NULL)
			pg_atomic_write_u64(&bucket->rate.arrival,
								(uint64) (locked[i].ticks +
										  takes[i].verdict.ahead));
		else if (free != OA_NO_LIMIT_BUCKET)
			free = add_rate(free, &takes[i], now);
	}
}

/* Count the refusals of the limits that do not grant. */
static void
count_refusals(const OaTake *takes, const Locked *locked, int count)
{
	for (int i = 0; i < count; i++)
		if (!takes[i].verdict.granted && locked[i].bucket != NULL)
			pg_atomic_fetch_add_u64(&locked[i].bucket->refusals, 1);
}

/* The partitions of all limits, as a set. */
static uint64
partitions_of(const OaTake *takes, int count)
{
	uint64		set = 0;

	for (int i = 0; i < count; i++)
		set |= UINT64CONST(1) <<
			(oa_limit_chain(takes[i].bucket) % OA_LIMIT_PARTITIONS);
	return set;
}

/*
 * Take a cost from all limits or from none, or add it to all if "asks" is
 * false.
 */
static OaTaking
take_all(OaTake *takes, int count, int64 cost, bool asks)
{
	uint64		partitions = partitions_of(takes, count);
	Locked		locked[OA_LIMITS_OF_KEY_MAX];
	bool		in_part = false;

	for (;;)
	{
		bool		granted = true;
		int			missing = 0;
		int			free = OA_NO_LIMIT_BUCKET;
		int64		now;

		lock_partitions(partitions);
		if (!find_all(takes, locked, count))
		{
			unlock_partitions(partitions);
			return OA_QUOTA_NOT_LOADED;
		}
		now = oa_monotonic_ns();
		if (asks)
			granted = judge_all(takes, locked, count, cost, now);
		else
			charge_all(takes, locked, count, cost, now);
		if (granted && cost > 0)
			missing = count_missing(takes, locked, count);
		if (missing > 0 && !in_part)
			free = oa_take_free_buckets(missing);
		if (missing == 0 || in_part || free != OA_NO_LIMIT_BUCKET)
		{
			if (granted && cost > 0)
				write_all(takes, locked, count, free, now);
			count_refusals(takes, locked, count);
			unlock_partitions(partitions);
			return !granted ? OA_REFUSED_BY_LIMIT :
				missing > 0 && free == OA_NO_LIMIT_BUCKET ? OA_TAKEN_IN_PART : OA_TAKEN;
		}
		unlock_partitions(partitions);
		if (oa_make_room(missing))
			continue;
		if (oa_limits_full == OA_FULL_REFUSES &&
			misses_enforced(takes, locked, count))
			return OA_NO_BUCKET_FREE;
		in_part = true;
	}
}

/*
 * Take a cost from the only limit, a rate, if it has a bucket that needs no other epoch.
 * Returns false if that is not so.
 */
static bool
take_one(OaTake *take, int64 cost)
{
	LWLock	   *lock = oa_limit_lock(oa_limit_chain(take->bucket));
	OaLimitBucket *bucket;
	bool		decided = false;

	LWLockAcquire(lock, LW_SHARED);
	bucket = oa_find_limit_bucket(take->bucket, OA_NO_PERIOD);
	if (bucket != NULL)
	{
		uint64		arrival = pg_atomic_read_u64(&bucket->rate.arrival);
		int64		now;

		do
		{
			pg_read_barrier();
			decided = oa_ticks(&take->rate, bucket->rate.epoch,
							   oa_monotonic_ns(), &now);
			if (!decided)
				break;
			take->verdict = oa_judge(&take->rate, (int64) arrival, now, cost);
		} while (take->verdict.granted && cost > 0 &&
				 !pg_atomic_compare_exchange_u64(&bucket->rate.arrival, &arrival,
												 (uint64) (now + take->verdict.ahead)));
		if (decided && !take->verdict.granted)
			pg_atomic_fetch_add_u64(&bucket->refusals, 1);
	}
	LWLockRelease(lock);
	return decided;
}

/*
 * Take a cost from all limits, or from none if one that is enforced does not
 * grant it.  Sets the verdict of each.
 */
OaTaking
oa_take(OaTake *takes, int count, int64 cost)
{
	if (count == 1 && !oa_is_quota(&takes[0]) && take_one(&takes[0], cost))
		return takes[0].verdict.granted || takes[0].shadow ?
			OA_TAKEN : OA_REFUSED_BY_LIMIT;
	return take_all(takes, count, cost, true);
}

/* Add a cost to all limits, without asking any. */
OaTaking
oa_charge_buckets(OaTake *takes, int count, int64 cost)
{
	return take_all(takes, count, cost, false);
}

/*
 * Look at buckets without taking anything: sets "ahead", "refusals" and
 * "loaded".
 */
void
oa_look_at_buckets(OaTake *takes, int count)
{
	for (int i = 0; i < count; i++)
	{
		OaTake	   *take = &takes[i];
		LWLock	   *lock = oa_limit_lock(oa_limit_chain(take->bucket));
		OaLimitBucket *bucket;

		LWLockAcquire(lock, LW_EXCLUSIVE);
		bucket = oa_find_limit_bucket(take->bucket, take->start);
		take->verdict.ahead = 0;
		take->loaded = bucket != NULL;
		take->refusals = bucket == NULL ? 0 :
			(int64) pg_atomic_read_u64(&bucket->refusals);
		if (bucket != NULL && oa_is_quota(take))
			take->verdict.ahead = bucket->quota.units;
		else if (bucket != NULL)
		{
			int64		arrival;
			int64		ticks;

			read_rate(&bucket->rate, &take->rate, oa_monotonic_ns(), &arrival,
					  &ticks);
			take->verdict.ahead = Max(arrival - ticks, 0);
		}
		LWLockRelease(lock);
	}
}
