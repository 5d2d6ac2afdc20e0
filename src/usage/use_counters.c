/*
 * use_counters.c
 *		Counts the uses of keys in shared memory.
 *
 * An entry counts the uses of one key in one hour from one client address.
 * Entries are hashed into buckets by database, hour and key, so all addresses
 * of a key in an hour are in one bucket, and walking its chain tells how many
 * there are.  The memory has a fixed size.  When no entry is free, we only
 * count how many uses we could not attribute (event_counts.c); no key is
 * refused for that reason.
 *
 * Each bucket belongs to a partition, which has a lock.  To count in an
 * existing entry we hold the lock shared and add atomically; only adding or
 * removing an entry takes the lock exclusively.  The list of free entries has
 * a spinlock.  The spinlock also protects the list of the hours that have
 * entries, because a reader that looks for all entries of a key needs that
 * list.  Nothing here raises or allocates.
 *
 * use_batches.c takes the counts out for a flush, and unflushed_uses.c reads
 * them.
 */
#include "postgres.h"

#include "common/hashfn.h"
#include "port/pg_bitutils.h"
#include "storage/shmem.h"

#include "server/server.h"
#include "settings.h"
#include "text/text.h"
#include "usage/usage.h"
#include "usage/use_counters.h"

#define TRANCHE	"overten_auth_uses"

/* Static, so that counting reads them without an indirection. */
static OaUseCounters *counters = NULL;
static OaUseEntry *entries;
static LWLockPadded *locks;

static uint32
number_of_buckets(int size)
{
	return pg_nextpower2_32(Max(size, OA_USE_PARTITIONS));
}

static Size
header_size(int size)
{
	return MAXALIGN(add_size(offsetof(OaUseCounters, buckets),
							 mul_size(number_of_buckets(size), sizeof(int))));
}

static Size
shmem_size(void)
{
	return add_size(header_size(oa_max_tracked_keys),
					mul_size(oa_max_tracked_keys, sizeof(OaUseEntry)));
}

/* Reserve shared memory.  Called by the postmaster's shmem_request_hook. */
void
oa_use_counters_shmem_request(void)
{
	RequestAddinShmemSpace(shmem_size());
	RequestNamedLWLockTranche(TRANCHE, OA_USE_PARTITIONS);
}

/*
 * Attach to shared memory, and initialize it if this process is the first.
 * Called by each process's shmem_startup_hook, with AddinShmemInitLock held.
 */
void
oa_use_counters_shmem_init(void)
{
	int			size = oa_max_tracked_keys;
	bool		found;

	counters = ShmemInitStruct("overten_auth uses", shmem_size(), &found);
	entries = (OaUseEntry *) ((char *) counters + header_size(size));
	locks = GetNamedLWLockTranche(TRANCHE);
	if (found)
		return;

	SpinLockInit(&counters->mutex);
	counters->free = 0;
	counters->used = 0;
	counters->size = size;
	counters->bucket_mask = number_of_buckets(size) - 1;
	counters->hour_count = 0;
	for (uint32 i = 0; i <= counters->bucket_mask; i++)
		counters->buckets[i] = OA_NO_ENTRY;
	for (int i = 0; i < size; i++)
	{
		OaUseEntry *entry = &entries[i];

		pg_atomic_init_u64(&entry->accepted, 0);
		pg_atomic_init_u64(&entry->refused, 0);
		pg_atomic_init_u64(&entry->limited, 0);
		pg_atomic_init_u64(&entry->last_accepted_at, 0);
		pg_atomic_init_u64(&entry->last_refused_at, 0);
		entry->next = i + 1 < size ? i + 1 : OA_NO_ENTRY;
	}
}

/* Return how many entries are in use, and how many there are. */
void
oa_use_counters_fill(int *used, int *size)
{
	SpinLockAcquire(&counters->mutex);
	*used = counters->used;
	SpinLockRelease(&counters->mutex);
	*size = counters->size;
}

static uint32
bucket_of(const OaUseKey *key)
{
	return hash_bytes((const unsigned char *) key, OA_BUCKET_KEY_SIZE) &
		counters->bucket_mask;
}

static LWLock *
lock_of(uint32 bucket)
{
	return &locks[bucket % OA_USE_PARTITIONS].lock;
}

/* Return the counters and their entries, for the other files that use them. */
OaUseCounters *
oa_use_counters(OaUseEntry **all)
{
	*all = entries;
	return counters;
}

/* Return the bucket of a database, hour and key. */
uint32
oa_use_bucket(const OaUseKey *key)
{
	return bucket_of(key);
}

/* Return the lock that protects a bucket. */
LWLock	   *
oa_use_lock(uint32 bucket)
{
	return lock_of(bucket);
}

/*
 * Find the entry for a key and address in a bucket.  Returns NULL if there is
 * none; *addresses then tells how many addresses the same database, hour and
 * key have.
 */
static OaUseEntry *
find_entry(uint32 bucket, const OaUseKey *key, int *addresses)
{
	*addresses = 0;
	for (int i = counters->buckets[bucket]; i != OA_NO_ENTRY;
		 i = entries[i].next)
	{
		OaUseEntry *entry = &entries[i];

		if (!oa_is_of_key(entry, key))
			continue;
		if (oa_is_of_client(entry, key))
			return entry;
		if (entry->key.client.family != 0)
			(*addresses)++;
	}
	return NULL;
}

/*
 * Return the position of an hour in the list, or the end of the list.  The
 * current hour is usually the last.  The caller holds the mutex.
 */
static int
find_hour(int32 hour)
{
	for (int i = counters->hour_count - 1; i >= 0; i--)
		if (counters->hours[i].hour == hour)
			return i;
	return counters->hour_count;
}

/*
 * Add one to the number of an hour's entries.  Returns false if there are too
 * many hours.
 */
static bool
add_to_hour(int32 hour)
{
	int			n = find_hour(hour);

	if (n == OA_HOURS_MAX)
		return false;
	if (n == counters->hour_count)
	{
		counters->hours[n].hour = hour;
		counters->hours[n].entries = 0;
		counters->hour_count++;
	}
	counters->hours[n].entries++;
	return true;
}

/*
 * Subtract one from the number of an hour's entries.  The order of the other
 * hours stays the same.
 */
static void
remove_from_hour(int32 hour)
{
	int			n = find_hour(hour);

	if (--counters->hours[n].entries > 0)
		return;
	counters->hour_count--;
	memmove(&counters->hours[n], &counters->hours[n + 1],
			(counters->hour_count - n) * sizeof(OaHourCount));
}

/* Take a free entry for an hour.  Returns its index, or OA_NO_ENTRY. */
static int
take_entry(int32 hour)
{
	int			i;

	SpinLockAcquire(&counters->mutex);
	i = counters->free;
	if (i != OA_NO_ENTRY && !add_to_hour(hour))
		i = OA_NO_ENTRY;
	if (i != OA_NO_ENTRY)
	{
		counters->free = entries[i].next;
		counters->used++;
	}
	SpinLockRelease(&counters->mutex);
	return i;
}

/*
 * Add an entry to a bucket.  Returns NULL if there is no room.  The caller
 * holds the bucket's lock exclusively.
 */
static OaUseEntry *
add_entry(uint32 bucket, const OaUseKey *key, TimestampTz now)
{
	int			i = take_entry(key->hour);
	OaUseEntry *entry;

	if (i == OA_NO_ENTRY)
		return NULL;

	entry = &entries[i];
	entry->key = *key;
	entry->counted_since = oa_monotonic_ms();
	entry->first_used_at = now;
	entry->batch = 0;
	pg_atomic_write_u64(&entry->last_accepted_at, 0);
	pg_atomic_write_u64(&entry->last_refused_at, 0);
	entry->next = counters->buckets[bucket];
	counters->buckets[bucket] = i;
	return entry;
}

/*
 * Remove the entry that a link of its bucket's chain points to.  Its counts
 * must be zero, and the caller holds the bucket's lock exclusively.
 */
void
oa_remove_use_entry(int *link)
{
	int			i = *link;

	*link = entries[i].next;
	SpinLockAcquire(&counters->mutex);
	entries[i].next = counters->free;
	counters->free = i;
	counters->used--;
	remove_from_hour(entries[i].key.hour);
	SpinLockRelease(&counters->mutex);
}

/* Move a time forward. */
static void
advance(pg_atomic_uint64 *time, TimestampTz now)
{
	uint64		old = pg_atomic_read_u64(time);

	while ((TimestampTz) old < now &&
		   !pg_atomic_compare_exchange_u64(time, &old, (uint64) now))
		;
}

static void
count_in(OaUseEntry *entry, OaCounted as, TimestampTz now)
{
	if (as == OA_COUNTED_ACCEPTED)
	{
		advance(&entry->last_accepted_at, now);
		pg_atomic_fetch_add_u64(&entry->accepted, 1);
	}
	else
	{
		advance(&entry->last_refused_at, now);
		pg_atomic_fetch_add_u64(as == OA_COUNTED_LIMITED ?
								&entry->limited : &entry->refused, 1);
	}
}

/*
 * Return how many addresses we tell apart for a key in an hour.  When memory
 * gets short, we tell apart only one, so that one key with many addresses does
 * not use up the room of other keys.
 */
static int
address_limit(void)
{
	return counters->used > counters->size / 4 * 3 ?
		1 : OA_ADDRESSES_MAX;
}

/*
 * Find the entry to count in.  If the key has too many addresses, clear the
 * address in "key", and find the entry without an address.  Returns NULL if
 * there is no such entry yet.
 */
static OaUseEntry *
find_place(uint32 bucket, OaUseKey *key, int *addresses)
{
	OaUseEntry *entry = find_entry(bucket, key, addresses);

	if (entry != NULL || *addresses < address_limit())
		return entry;
	memset(&key->client, 0, sizeof(OaHistoryAddr));
	return find_entry(bucket, key, addresses);
}

/* Count where there is no entry yet.  Returns false if we cannot add one. */
static bool
count_new(uint32 bucket, OaUseKey *key, OaCounted as, TimestampTz now)
{
	LWLock	   *lock = lock_of(bucket);
	OaUseEntry *entry;
	int			addresses;

	LWLockAcquire(lock, LW_EXCLUSIVE);
	entry = find_place(bucket, key, &addresses);
	if (entry == NULL)
		entry = add_entry(bucket, key, now);
	if (entry != NULL)
		count_in(entry, as, now);
	LWLockRelease(lock);
	return entry != NULL;
}

/*
 * Count a use, or an attempt that is refused.  Returns false if no memory is
 * left to attribute it.  May clear the client's address in "key".
 */
bool
oa_count_use(OaUseKey *key, OaCounted as, TimestampTz now)
{
	uint32		bucket = bucket_of(key);
	LWLock	   *lock = lock_of(bucket);
	OaUseEntry *entry;
	int			addresses;

	LWLockAcquire(lock, LW_SHARED);
	entry = find_place(bucket, key, &addresses);
	if (entry != NULL)
		count_in(entry, as, now);
	LWLockRelease(lock);

	if (entry != NULL)
		return true;
	/* When memory is short, do not take the exclusive lock for nothing. */
	if (addresses == 0 && counters->free == OA_NO_ENTRY)
		return false;
	return count_new(bucket, key, as, now);
}
