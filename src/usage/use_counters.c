/*
 * use_counters.c
 *		Counts the uses of keys in shared memory.
 *
 * An entry counts the uses of one key in one hour from one client address.
 * Entries hang in buckets by database, hour and key, so all addresses of a key
 * in an hour are in one bucket, and walking it tells how many there are.  The
 * memory is of fixed size: when the last entry is taken, uses are counted that
 * cannot be attributed, and no key is refused for that.
 *
 * Each bucket belongs to one of the partitions' locks.  Counting in an entry
 * that is there takes the lock shared, and adds atomically; only adding or
 * removing an entry takes it exclusively.  The list of free entries has a
 * spinlock, which also protects the list of the hours that have entries: a
 * reader who looks for all entries of a key needs to know them.  Nothing here
 * raises an error, or allocates.
 *
 * use_batches.c takes the counts out for a flush, unflushed_uses.c reads them.
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

/* Static, so that counting reads them without a detour. */
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

/* Reserve the memory.  Called by the postmaster's shmem_request_hook. */
void
oa_use_counters_shmem_request(void)
{
	RequestAddinShmemSpace(shmem_size());
	RequestNamedLWLockTranche(TRANCHE, OA_USE_PARTITIONS);
}

/*
 * Attach to the memory, and fill it in if this process is the first.  Called by
 * each process's shmem_startup_hook, with AddinShmemInitLock held.
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
		pg_atomic_init_u64(&entry->last_accepted_at, 0);
		pg_atomic_init_u64(&entry->last_refused_at, 0);
		entry->next = i + 1 < size ? i + 1 : OA_NO_ENTRY;
	}
}

/* How many entries are in use, and how many there are. */
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

/* The counters, and their entries, for the files that share them. */
OaUseCounters *
oa_use_counters(OaUseEntry **all)
{
	*all = entries;
	return counters;
}

/* The bucket of a database, hour and key. */
uint32
oa_use_bucket(const OaUseKey *key)
{
	return bucket_of(key);
}

/* The lock that protects a bucket. */
LWLock	   *
oa_use_lock(uint32 bucket)
{
	return lock_of(bucket);
}

/*
 * Find the entry of a key in a bucket, or NULL.  Counts how many addresses
 * there are of the same database, hour and key.
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
 * The place of an hour in the list, which is the list's end if it has none.
 * The present hour is mostly the last.  The mutex is held.
 */
static int
find_hour(int32 hour)
{
	for (int i = counters->hour_count - 1; i >= 0; i--)
		if (counters->hours[i].hour == hour)
			return i;
	return counters->hour_count;
}

/* Note another entry of an hour.  False if there are too many hours. */
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

/* Note that an entry of an hour is gone; the order of the others stays. */
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

/* Take a free entry for an hour.  Returns its number. */
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

/* Add an entry to a bucket, whose lock is held exclusively; NULL if full. */
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
 * Remove the entry that a link of its bucket's chain holds, and whose counts
 * are zero.  The bucket's lock is held exclusively.
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
count_in(OaUseEntry *entry, bool accepted, TimestampTz now)
{
	if (accepted)
	{
		advance(&entry->last_accepted_at, now);
		pg_atomic_fetch_add_u64(&entry->accepted, 1);
	}
	else
	{
		advance(&entry->last_refused_at, now);
		pg_atomic_fetch_add_u64(&entry->refused, 1);
	}
}

/*
 * How many addresses of a key in an hour are told apart: one, when memory gets
 * short, so that one key's many addresses do not take the room of others.
 */
static int
address_limit(void)
{
	return counters->used > counters->size / 4 * 3 ?
		1 : OA_ADDRESSES_MAX;
}

/*
 * Find the entry to count in, or NULL.  Where there are enough addresses, that
 * is the one without an address, which the key is changed to.
 */
static OaUseEntry *
find_place(uint32 bucket, OaUseKey *key, int *addresses)
{
	OaUseEntry *entry = find_entry(bucket, key, addresses);

	if (entry != NULL || *addresses < address_limit())
		return entry;
	memset(&key->client, 0, sizeof(OaClientAddr));
	return find_entry(bucket, key, addresses);
}

/* Count where there is no entry yet, if one can be added. */
static bool
count_new(uint32 bucket, OaUseKey *key, bool accepted, TimestampTz now)
{
	LWLock	   *lock = lock_of(bucket);
	OaUseEntry *entry;
	int			addresses;

	LWLockAcquire(lock, LW_EXCLUSIVE);
	entry = find_place(bucket, key, &addresses);
	if (entry == NULL)
		entry = add_entry(bucket, key, now);
	if (entry != NULL)
		count_in(entry, accepted, now);
	LWLockRelease(lock);
	return entry != NULL;
}

/*
 * Count a use, or an attempt with a revoked key.  False if no memory is left
 * to attribute it.  The client's address may be changed to none.
 */
bool
oa_count_use(OaUseKey *key, bool accepted, TimestampTz now)
{
	uint32		bucket = bucket_of(key);
	LWLock	   *lock = lock_of(bucket);
	OaUseEntry *entry;
	int			addresses;

	LWLockAcquire(lock, LW_SHARED);
	entry = find_place(bucket, key, &addresses);
	if (entry != NULL)
		count_in(entry, accepted, now);
	LWLockRelease(lock);

	if (entry != NULL)
		return true;
	/* When memory is short, do not have everyone wait for everyone. */
	if (addresses == 0 && counters->free == OA_NO_ENTRY)
		return false;
	return count_new(bucket, key, accepted, now);
}
