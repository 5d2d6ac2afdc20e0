/*
 * bucket_memory.c
 *		The buckets of limits in shared memory: finding them, adding them, and
 *		making room when there is no other.
 *
 * Buckets are found by a hash, in chains.  The memory has a fixed size.  Each
 * chain belongs to a partition, which has a lock.  The bucket of a quota counts
 * for one period, and is found by its id and the start of that period.
 *
 * When no bucket is free, we remove some.  The bucket of a rate limit whose TAT
 * is past is like none, so we remove all of these, and no others.  TAT never
 * decreases, so we need not look again before the first TAT of all buckets is
 * past, as the last search found it.  If that is not enough, we remove buckets
 * of quotas, which can be read from their table again.  So their units must
 * all be there: "clean" is the number of such buckets.  Those whose period has
 * ended go first.
 *
 * Whoever reads the table in order to add the bucket of a quota must know
 * whether one was there meanwhile: it could have counted units, had them
 * written, and been removed.  So each partition counts the buckets of quotas
 * that are removed from it.
 *
 * Nothing here raises or allocates.
 */
#include "postgres.h"

#include "miscadmin.h"
#include "port/pg_bitutils.h"
#include "storage/shmem.h"
#include "storage/spin.h"
#include "utils/timestamp.h"

#include "limits/buckets.h"
#include "server/server.h"
#include "settings.h"

#define TRANCHE			"overten_auth_limits"
#define SWEEP_LOCK		OA_LIMIT_PARTITIONS /* serializes searches for old
											 * buckets */
#define ROOM_PART		16		/* quotas make room for a part of all buckets */

typedef struct Memory
{
	slock_t		mutex;			/* protects free and used */
	int			free;			/* the first free bucket */
	int			used;
	int			size;
	uint32		chain_mask;
	uint32		hand;			/* next partition to remove quotas from;
								 * protected by SWEEP_LOCK */
	pg_atomic_uint64 first_past;	/* no rate limit is past before this time */
	pg_atomic_uint32 clean;		/* quotas that have nothing unwritten */
	uint64		removals[OA_LIMIT_PARTITIONS];	/* of quotas; protected by the
												 * partition's lock */
	int			chains[FLEXIBLE_ARRAY_MEMBER];	/* first bucket of each */
} Memory;

static Memory *shared = NULL;
static OaLimitBucket *buckets;
static LWLockPadded *locks;

static uint32
number_of_chains(int size)
{
	return pg_nextpower2_32(Max(size, OA_LIMIT_PARTITIONS));
}

static Size
header_size(int size)
{
	return CACHELINEALIGN(add_size(offsetof(Memory, chains),
								   mul_size(number_of_chains(size),
											sizeof(int))));
}

static Size
shmem_size(void)
{
	return add_size(header_size(oa_max_limit_buckets),
					mul_size(oa_max_limit_buckets, sizeof(OaLimitBucket)));
}

/* Reserve shared memory.  Called by the postmaster's shmem_request_hook. */
void
oa_buckets_shmem_request(void)
{
	RequestAddinShmemSpace(shmem_size());
	RequestNamedLWLockTranche(TRANCHE, OA_LIMIT_PARTITIONS + 1);
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
	buckets = (OaLimitBucket *) ((char *) shared + header_size(size));
	locks = GetNamedLWLockTranche(TRANCHE);
	if (found)
		return;

	SpinLockInit(&shared->mutex);
	shared->free = 0;
	shared->used = 0;
	shared->size = size;
	shared->chain_mask = number_of_chains(size) - 1;
	shared->hand = 0;
	pg_atomic_init_u64(&shared->first_past, PG_INT64_MAX);
	pg_atomic_init_u32(&shared->clean, 0);
	memset(shared->removals, 0, sizeof(shared->removals));
	for (uint32 i = 0; i <= shared->chain_mask; i++)
		shared->chains[i] = OA_NO_LIMIT_BUCKET;
	for (int i = 0; i < size; i++)
	{
		pg_atomic_init_u64(&buckets[i].refusals, 0);
		buckets[i].next = i + 1 < size ? i + 1 : OA_NO_LIMIT_BUCKET;
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

OaLimitBucket *
oa_limit_bucket(int i)
{
	return &buckets[i];
}

/* The chain of a bucket.  Ids are digests, so any part of one is a hash. */
uint32
oa_limit_chain(const uint8 *id)
{
	uint32		hash;

	memcpy(&hash, id, sizeof(hash));
	return (hash ^ (MyDatabaseId * 0x9E3779B1U)) & shared->chain_mask;
}

/* The number of chains. */
uint32
oa_limit_chains(void)
{
	return shared->chain_mask + 1;
}

/* The first bucket of a chain, and where that is noted. */
int		   *
oa_limit_chain_head(uint32 chain)
{
	return &shared->chains[chain];
}

LWLock	   *
oa_limit_partition_lock(uint32 partition)
{
	return &locks[partition].lock;
}

/* The lock of a chain's partition. */
LWLock	   *
oa_limit_lock(uint32 chain)
{
	return oa_limit_partition_lock(chain % OA_LIMIT_PARTITIONS);
}

/*
 * How many buckets of quotas have been removed from the partition of a chain,
 * which is locked?
 */
uint64
oa_limit_removals(uint32 chain)
{
	return shared->removals[chain % OA_LIMIT_PARTITIONS];
}

/*
 * Find a bucket of this database in its chain, which is locked; NULL if there is
 * none.
 */
OaLimitBucket *
oa_find_limit_bucket(const uint8 *id, TimestampTz start)
{
	for (int i = shared->chains[oa_limit_chain(id)]; i != OA_NO_LIMIT_BUCKET;
		 i = buckets[i].next)
	{
		OaLimitBucket *bucket = &buckets[i];

		if (bucket->database == MyDatabaseId && bucket->start == start &&
			memcmp(bucket->id, id, OA_BUCKET_ID_LEN) == 0)
			return bucket;
	}
	return NULL;
}

static bool
is_past(OaRateBucket *rate, int64 now)
{
	return oa_is_past(rate->scale, rate->epoch,
					  (int64) pg_atomic_read_u64(&rate->arrival), now);
}

/* Note that a rate limit is past at its TAT, and not before. */
void
oa_note_past(OaRateBucket *rate)
{
	uint64		past = (uint64) (rate->epoch +
								 (int64) pg_atomic_read_u64(&rate->arrival) /
								 rate->scale);
	uint64		old = pg_atomic_read_u64(&shared->first_past);

	while (past < old &&
		   !pg_atomic_compare_exchange_u64(&shared->first_past, &old, past))
		;
}

/*
 * Add to what the table does not have of a quota, or subtract from it.  The
 * bucket's chain is locked exclusively.
 */
void
oa_note_unwritten(OaQuotaBucket *quota, int64 more)
{
	bool		was_clean = quota->unwritten == 0;

	quota->unwritten += more;
	if (was_clean && quota->unwritten != 0)
		pg_atomic_fetch_sub_u32(&shared->clean, 1);
	if (!was_clean && quota->unwritten == 0)
		pg_atomic_fetch_add_u32(&shared->clean, 1);
}

/*
 * Take so many free buckets, in a list.  Returns OA_NO_LIMIT_BUCKET, and takes
 * none, if there are not enough.
 */
int
oa_take_free_buckets(int count)
{
	int			first;
	int			last;

	SpinLockAcquire(&shared->mutex);
	first = shared->size - shared->used >= count ? shared->free :
		OA_NO_LIMIT_BUCKET;
	if (first != OA_NO_LIMIT_BUCKET)
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

/*
 * Add the first of a list of free buckets to its chain, which is locked
 * exclusively.  The caller has to fill in what it counts.  The bucket of a
 * quota begins with nothing unwritten.  Returns the next of the list.
 */
int
oa_add_limit_bucket(int i, const uint8 *id, TimestampTz start)
{
	int		   *head = oa_limit_chain_head(oa_limit_chain(id));
	OaLimitBucket *bucket = &buckets[i];
	int			next = bucket->next;

	memcpy(bucket->id, id, OA_BUCKET_ID_LEN);
	bucket->database = MyDatabaseId;
	bucket->start = start;
	pg_atomic_write_u64(&bucket->refusals, 0);
	if (oa_is_quota_bucket(bucket))
	{
		bucket->quota.unwritten = 0;
		pg_atomic_fetch_add_u32(&shared->clean, 1);
	}
	bucket->next = *head;
	*head = i;
	return next;
}

/*
 * Remove a bucket from its chain, which is locked exclusively.  What a quota has
 * unwritten is forgotten.
 */
void
oa_remove_limit_bucket(uint32 chain, int *link)
{
	int			i = *link;
	OaLimitBucket *bucket = &buckets[i];

	if (oa_is_quota_bucket(bucket))
	{
		if (bucket->quota.unwritten == 0)
			pg_atomic_fetch_sub_u32(&shared->clean, 1);
		shared->removals[chain % OA_LIMIT_PARTITIONS]++;
	}
	*link = bucket->next;
	SpinLockAcquire(&shared->mutex);
	bucket->next = shared->free;
	shared->free = i;
	shared->used--;
	SpinLockRelease(&shared->mutex);
}

/*
 * Remove the rate limits of a chain that are past.  Those that are added to the
 * chain later note themselves when they are past.
 */
static void
remove_past(uint32 chain, int64 now)
{
	int		   *link = &shared->chains[chain];

	while (*link != OA_NO_LIMIT_BUCKET)
	{
		OaLimitBucket *bucket = &buckets[*link];

		if (oa_is_quota_bucket(bucket))
			link = &bucket->next;
		else if (is_past(&bucket->rate, now))
			oa_remove_limit_bucket(chain, link);
		else
		{
			oa_note_past(&bucket->rate);
			link = &bucket->next;
		}
	}
}

/* Remove the quotas of a chain that are written, and ended before a time. */
static void
remove_written(uint32 chain, TimestampTz before)
{
	int		   *link = &shared->chains[chain];

	while (*link != OA_NO_LIMIT_BUCKET)
	{
		OaLimitBucket *bucket = &buckets[*link];

		if (oa_is_quota_bucket(bucket) && bucket->quota.unwritten == 0 &&
			bucket->quota.end <= before)
			oa_remove_limit_bucket(chain, link);
		else
			link = &bucket->next;
	}
}

/* How many buckets are free?  Others may take and return some meanwhile. */
static int
count_free(void)
{
	return shared->size - shared->used;
}

/* Remove all rate limits that are past. */
static void
sweep_rates(void)
{
	if (oa_monotonic_ns() < (int64) pg_atomic_read_u64(&shared->first_past))
		return;
	pg_atomic_write_u64(&shared->first_past, PG_INT64_MAX);
	pg_memory_barrier();
	for (uint32 partition = 0; partition < OA_LIMIT_PARTITIONS; partition++)
	{
		LWLock	   *lock = oa_limit_partition_lock(partition);

		LWLockAcquire(lock, LW_EXCLUSIVE);
		for (uint32 chain = partition; chain <= shared->chain_mask;
			 chain += OA_LIMIT_PARTITIONS)
			remove_past(chain, oa_monotonic_ns());
		LWLockRelease(lock);
	}
}

/*
 * Remove quotas that are written, and ended before a time, until so many
 * buckets are free.  We begin with the partition after the last one that made
 * room.
 */
static void
sweep_quotas(int wanted, TimestampTz before)
{
	for (int i = 0; i < OA_LIMIT_PARTITIONS && count_free() < wanted &&
		 pg_atomic_read_u32(&shared->clean) > 0; i++)
	{
		LWLock	   *lock = oa_limit_partition_lock(shared->hand);

		LWLockAcquire(lock, LW_EXCLUSIVE);
		for (uint32 chain = shared->hand; chain <= shared->chain_mask;
			 chain += OA_LIMIT_PARTITIONS)
			remove_written(chain, before);
		LWLockRelease(lock);
		shared->hand = (shared->hand + 1) % OA_LIMIT_PARTITIONS;
	}
}

/*
 * Make sure that so many buckets are free.  Returns false if that is not
 * possible.  The caller holds no lock.
 */
bool
oa_make_room(int wanted)
{
	LWLock	   *lock = oa_limit_partition_lock(SWEEP_LOCK);
	int			room = wanted + shared->size / ROOM_PART;
	bool		done;

	LWLockAcquire(lock, LW_EXCLUSIVE);
	if (count_free() < wanted)
		sweep_rates();
	if (count_free() < wanted)
		sweep_quotas(room, GetCurrentTimestamp());
	if (count_free() < wanted)
		sweep_quotas(room, DT_NOEND);
	done = count_free() >= wanted;
	LWLockRelease(lock);
	return done;
}
