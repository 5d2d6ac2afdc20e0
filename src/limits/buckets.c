/*
 * buckets.c
 *		Counts what limits have granted, in shared memory.
 *
 * A bucket belongs to a limit and to its subject, a key's line of rotations or
 * an org.  Its id is a digest of these (limit_rows.c), so a limit that is
 * changed gets new buckets.  rate.c has the arithmetic.  Buckets are found by a
 * hash, in chains.  The memory has a fixed size.
 *
 * Each chain belongs to a partition, which has a lock.
 *
 * One limit: we hold the lock shared.  We read TAT, then the clock, then replace
 * TAT by compare-and-exchange.  If somebody else was faster, we start over with
 * the clock, too.  So the clock that a grant was decided with was read after the
 * TAT was there that it replaces, and grants follow one another by their times.
 * With a clock from before, a client that keeps to the rate could be refused,
 * because a request that read the clock later was counted earlier.
 *
 * Several limits: all of them grant, or nothing is taken from any.  We hold the
 * locks of all their partitions exclusively, and take them in ascending order.
 * We read the clock when we have them, decide, and write.  Nobody can see a
 * bucket with a cost that is given back later.  Giving back would be wrong
 * anyway: time may have repaid the cost meanwhile, so that it would be repaid
 * twice.
 *
 * A bucket whose TAT is past is like none.  When no bucket is free, we remove
 * all of these, and no others.  TAT never decreases, so we need not look again
 * before the first TAT of all buckets is past, as the last search found it.
 *
 * The clock is the monotonic one, which is the same for all processes and which
 * nobody can set.  Nothing here raises or allocates, and nothing depends on
 * transactions: what was granted stays taken if the transaction rolls back.
 */
#include "postgres.h"

#include "miscadmin.h"
#include "port/pg_bitutils.h"
#include "storage/lwlock.h"
#include "storage/shmem.h"
#include "storage/spin.h"

#include "limits/limits.h"
#include "server/server.h"
#include "settings.h"

#define TRANCHE			"overten_auth_limits"
#define PARTITIONS		64		/* a bit each in a uint64 */
#define SWEEP_LOCK		PARTITIONS	/* serializes searches for old buckets */
#define NO_BUCKET		(-1)

typedef struct Bucket
{
	pg_atomic_uint64 arrival;	/* TAT, in ticks since the epoch */
	pg_atomic_uint64 refusals;
	int64		epoch;			/* nanoseconds of the clock */
	int64		scale;			/* ticks in a nanosecond */
	uint8		id[OA_BUCKET_ID_LEN];
	Oid			database;
	int			next;			/* in its chain, or in the list of free ones */
} Bucket;

typedef struct Buckets
{
	slock_t		mutex;			/* protects free and used */
	int			free;			/* the first free bucket */
	int			used;
	int			size;
	uint32		chain_mask;
	pg_atomic_uint64 first_past;	/* no bucket is past before this time */
	int			chains[FLEXIBLE_ARRAY_MEMBER];	/* first bucket of each */
} Buckets;

static Buckets *shared = NULL;
static Bucket *buckets;
static LWLockPadded *locks;

static uint32
number_of_chains(int size)
{
	return pg_nextpower2_32(Max(size, PARTITIONS));
}

static Size
header_size(int size)
{
	return CACHELINEALIGN(add_size(offsetof(Buckets, chains),
								   mul_size(number_of_chains(size),
											sizeof(int))));
}

static Size
shmem_size(void)
{
	return add_size(header_size(oa_max_limit_buckets),
					mul_size(oa_max_limit_buckets, sizeof(Bucket)));
}

/* Reserve shared memory.  Called by the postmaster's shmem_request_hook. */
void
oa_buckets_shmem_request(void)
{
	RequestAddinShmemSpace(shmem_size());
	RequestNamedLWLockTranche(TRANCHE, PARTITIONS + 1);
}

/*
 * Attach to shared memory, and initialize it if this process is the first.
 * Called by each process's shmem_startup_hook, with AddinShmemInitLock held.
 */
void
oa_buckets_shmem_init(void)
{
	int			size = oa_max_limit_buckets;
	bool		found;

	shared = ShmemInitStruct("overten_auth limits", shmem_size(), &found);
	buckets = (Bucket *) ((char *) shared + header_size(size));
	locks = GetNamedLWLockTranche(TRANCHE);
	if (found)
		return;

	SpinLockInit(&shared->mutex);
	shared->free = 0;
	shared->used = 0;
	shared->size = size;
	shared->chain_mask = number_of_chains(size) - 1;
	pg_atomic_init_u64(&shared->first_past, PG_INT64_MAX);
	for (uint32 i = 0; i <= shared->chain_mask; i++)
		shared->chains[i] = NO_BUCKET;
	for (int i = 0; i < size; i++)
	{
		pg_atomic_init_u64(&buckets[i].arrival, 0);
		pg_atomic_init_u64(&buckets[i].refusals, 0);
		buckets[i].next = i + 1 < size ? i + 1 : NO_BUCKET;
	}
}

/* Is there shared memory to count in? */
bool
oa_has_buckets(void)
{
	return shared != NULL;
}

/* Return how many buckets are in use, and how many there are. */
void
oa_buckets_fill(int *used, int *size)
{
	SpinLockAcquire(&shared->mutex);
	*used = shared->used;
	SpinLockRelease(&shared->mutex);
	*size = shared->size;
}

/* The chain of a bucket.  Ids are digests, so any part of one is a hash. */
static uint32
chain_of(const uint8 *id)
{
	uint32		hash;

	memcpy(&hash, id, sizeof(hash));
	return (hash ^ (MyDatabaseId * 0x9E3779B1U)) & shared->chain_mask;
}

static LWLock *
lock_of(uint32 chain)
{
	return &locks[chain % PARTITIONS].lock;
}

/* Find a bucket in its chain, which is locked; NULL if there is none. */
static Bucket *
find_bucket(uint32 chain, const uint8 *id)
{
	for (int i = shared->chains[chain]; i != NO_BUCKET; i = buckets[i].next)
	{
		Bucket	   *bucket = &buckets[i];

		if (bucket->database == MyDatabaseId &&
			memcmp(bucket->id, id, OA_BUCKET_ID_LEN) == 0)
			return bucket;
	}
	return NULL;
}

static bool
is_past(Bucket *bucket, int64 now)
{
	return oa_is_past(bucket->scale, bucket->epoch,
					  (int64) pg_atomic_read_u64(&bucket->arrival), now);
}

/* Note that a bucket is past at its TAT, and not before. */
static void
note_past(Bucket *bucket)
{
	uint64		past = (uint64) (bucket->epoch +
								 (int64) pg_atomic_read_u64(&bucket->arrival) /
								 bucket->scale);
	uint64		old = pg_atomic_read_u64(&shared->first_past);

	while (past < old &&
		   !pg_atomic_compare_exchange_u64(&shared->first_past, &old, past))
		;
}

/*
 * Take so many free buckets, in a list.  Returns NO_BUCKET, and takes none, if
 * there are not enough.
 */
static int
take_free(int count)
{
	int			first;
	int			last;

	SpinLockAcquire(&shared->mutex);
	first = shared->size - shared->used >= count ? shared->free : NO_BUCKET;
	if (first != NO_BUCKET)
	{
		last = first;
		for (int i = 1; i < count; i++)
			last = buckets[last].next;
		shared->free = buckets[last].next;
		shared->used += count;
	}
	SpinLockRelease(&shared->mutex);
	return first;
}

/* Remove a bucket from its chain, which is locked exclusively. */
static void
remove_bucket(int *link)
{
	int			i = *link;

	*link = buckets[i].next;
	SpinLockAcquire(&shared->mutex);
	buckets[i].next = shared->free;
	shared->free = i;
	shared->used--;
	SpinLockRelease(&shared->mutex);
}

/*
 * Remove the buckets of a chain that are past.  Those that are added to the
 * chain later note themselves when they are past.
 */
static void
sweep_chain(uint32 chain, int64 now)
{
	int		   *link = &shared->chains[chain];

	while (*link != NO_BUCKET)
	{
		Bucket	   *bucket = &buckets[*link];

		if (is_past(bucket, now))
			remove_bucket(link);
		else
		{
			note_past(bucket);
			link = &bucket->next;
		}
	}
}

/*
 * Remove all buckets that are past, unless there are "wanted" free ones by now.
 * Returns false if there are still not so many.  The caller holds no lock.
 */
static bool
sweep(int wanted)
{
	LWLock	   *lock = &locks[SWEEP_LOCK].lock;
	int			free;

	LWLockAcquire(lock, LW_EXCLUSIVE);
	free = shared->size - shared->used;
	if (free < wanted && oa_monotonic_ns() >=
		(int64) pg_atomic_read_u64(&shared->first_past))
	{
		pg_atomic_write_u64(&shared->first_past, PG_INT64_MAX);
		pg_memory_barrier();
		for (int partition = 0; partition < PARTITIONS; partition++)
		{
			LWLockAcquire(&locks[partition].lock, LW_EXCLUSIVE);
			for (uint32 chain = partition; chain <= shared->chain_mask;
				 chain += PARTITIONS)
				sweep_chain(chain, oa_monotonic_ns());
			LWLockRelease(&locks[partition].lock);
		}
		free = shared->size - shared->used;
	}
	LWLockRelease(lock);
	return free >= wanted;
}

/* Add the first of a list of free buckets.  Returns the next of the list. */
static int
add_bucket(int i, const OaTake *take, int64 now)
{
	uint32		chain = chain_of(take->bucket);
	Bucket	   *bucket = &buckets[i];
	int			next = bucket->next;

	memcpy(bucket->id, take->bucket, OA_BUCKET_ID_LEN);
	bucket->database = MyDatabaseId;
	bucket->scale = take->rate.scale;
	bucket->epoch = now;
	pg_atomic_write_u64(&bucket->arrival, (uint64) take->verdict.ahead);
	pg_atomic_write_u64(&bucket->refusals, 0);
	note_past(bucket);
	bucket->next = shared->chains[chain];
	shared->chains[chain] = i;
	return next;
}

/* Lock or unlock the partitions of a set, in ascending order. */
static void
lock_partitions(uint64 set)
{
	for (; set != 0; set &= set - 1)
		LWLockAcquire(&locks[pg_rightmost_one_pos64(set)].lock, LW_EXCLUSIVE);
}

static void
unlock_partitions(uint64 set)
{
	for (; set != 0; set &= set - 1)
		LWLockRelease(&locks[pg_rightmost_one_pos64(set)].lock);
}

/* The TAT of a bucket, which is locked exclusively, and the clock in its ticks. */
static void
read_bucket(Bucket *bucket, const OaRate *rate, int64 now, int64 *arrival,
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
	Bucket	   *bucket;			/* or NULL */
	int64		ticks;			/* the clock, since its epoch */
} Locked;

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
		int64		arrival;

		locked[i].bucket = find_bucket(chain_of(take->bucket), take->bucket);
		read_bucket(locked[i].bucket, &take->rate, now, &arrival,
					&locked[i].ticks);
		take->verdict = oa_judge(&take->rate, arrival, locked[i].ticks, cost);
		granted = granted && (take->verdict.granted || take->shadow);
	}
	return granted;
}

/* Likewise, but add the cost without asking. */
static void
charge_all(OaTake *takes, Locked *locked, int count, int64 cost, int64 now)
{
	for (int i = 0; i < count; i++)
	{
		OaTake	   *take = &takes[i];
		int64		arrival;

		locked[i].bucket = find_bucket(chain_of(take->bucket), take->bucket);
		read_bucket(locked[i].bucket, &take->rate, now, &arrival,
					&locked[i].ticks);
		take->verdict.granted = true;
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

/* Write what was decided into the buckets; "free" is a list of new ones. */
static void
write_all(const OaTake *takes, const Locked *locked, int count, int free,
		  int64 now)
{
	for (int i = 0; i < count; i++)
	{
		Bucket	   *bucket = locked[i].bucket;

		if (!takes[i].verdict.granted)
			continue;
		if (bucket != NULL)
			pg_atomic_write_u64(&bucket->arrival,
								(uint64) (locked[i].ticks +
										  takes[i].verdict.ahead));
		else if (free != NO_BUCKET)
			free = add_bucket(free, &takes[i], now);
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

/*
 * What the limits are left with if nothing is taken: a limit that would have
 * granted the cost has not.
 */
static void
take_back_verdicts(OaTake *takes, int count, int64 cost)
{
	for (int i = 0; i < count; i++)
		if (takes[i].verdict.granted)
			takes[i].verdict.ahead -= cost * takes[i].rate.emission;
}

/* The partitions of all limits, as a set. */
static uint64
partitions_of(const OaTake *takes, int count)
{
	uint64		set = 0;

	for (int i = 0; i < count; i++)
		set |= UINT64CONST(1) << (chain_of(takes[i].bucket) % PARTITIONS);
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
		int			free = NO_BUCKET;
		int64		now;

		lock_partitions(partitions);
		now = oa_monotonic_ns();
		if (asks)
			granted = judge_all(takes, locked, count, cost, now);
		else
			charge_all(takes, locked, count, cost, now);
		if (granted && cost > 0)
			missing = count_missing(takes, locked, count);
		if (missing > 0 && !in_part)
			free = take_free(missing);
		if (missing == 0 || in_part || free != NO_BUCKET)
		{
			if (granted && cost > 0)
				write_all(takes, locked, count, free, now);
			count_refusals(takes, locked, count);
			unlock_partitions(partitions);
			if (!granted)
				take_back_verdicts(takes, count, cost);
			return !granted ? OA_REFUSED_BY_LIMIT :
				missing > 0 && free == NO_BUCKET ? OA_TAKEN_IN_PART : OA_TAKEN;
		}
		unlock_partitions(partitions);
		if (sweep(missing))
			continue;
		if (oa_limits_full == OA_FULL_REFUSES &&
			misses_enforced(takes, locked, count))
			return OA_NO_BUCKET_FREE;
		in_part = true;
	}
}

/*
 * Take a cost from the only limit, if it has a bucket that needs no other epoch.
 * Returns false if that is not so.
 */
static bool
take_one(OaTake *take, int64 cost)
{
	uint32		chain = chain_of(take->bucket);
	LWLock	   *lock = lock_of(chain);
	Bucket	   *bucket;
	bool		decided = false;

	LWLockAcquire(lock, LW_SHARED);
	bucket = find_bucket(chain, take->bucket);
	if (bucket != NULL)
	{
		uint64		arrival = pg_atomic_read_u64(&bucket->arrival);
		int64		now;

		do
		{
			pg_read_barrier();
			decided = oa_ticks(&take->rate, bucket->epoch, oa_monotonic_ns(),
							   &now);
			if (!decided)
				break;
			take->verdict = oa_judge(&take->rate, (int64) arrival, now, cost);
		} while (take->verdict.granted && cost > 0 &&
				 !pg_atomic_compare_exchange_u64(&bucket->arrival, &arrival,
												 (uint64) (now + take->verdict.ahead)));
		if (decided && !take->verdict.granted)
			pg_atomic_fetch_add_u64(&bucket->refusals, 1);
	}
	LWLockRelease(lock);
	return decided;
}

/*
 * Take a cost from all limits, or from none if one that is enforced does not
 * grant it.  Sets the verdict of each; if nothing was taken, a limit's "ahead"
 * is what it was.
 */
OaTaking
oa_take(OaTake *takes, int count, int64 cost)
{
	if (count == 1 && take_one(&takes[0], cost))
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

/* Look at buckets without taking anything: sets "ahead" and "refusals". */
void
oa_look_at_buckets(OaTake *takes, int count)
{
	for (int i = 0; i < count; i++)
	{
		uint32		chain = chain_of(takes[i].bucket);
		LWLock	   *lock = lock_of(chain);
		Bucket	   *bucket;

		takes[i].verdict.ahead = 0;
		takes[i].refusals = 0;
		LWLockAcquire(lock, LW_EXCLUSIVE);
		bucket = find_bucket(chain, takes[i].bucket);
		if (bucket != NULL)
		{
			int64		arrival;
			int64		ticks;

			read_bucket(bucket, &takes[i].rate, oa_monotonic_ns(), &arrival,
						&ticks);
			takes[i].verdict.ahead = Max(arrival - ticks, 0);
			takes[i].refusals =
				(int64) pg_atomic_read_u64(&bucket->refusals);
		}
		LWLockRelease(lock);
	}
}
