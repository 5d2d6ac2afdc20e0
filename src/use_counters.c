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
 * spinlock.  Nothing here raises an error, or allocates.
 *
 * A flush (usage_flush.c) collects the counts, writes them, commits, and then
 * subtracts what it has written: an error before the commit loses nothing, and
 * what is counted meanwhile stays.  An entry whose counts come to zero is
 * removed.
 *
 * "used" of a database tells whether there is something to flush.  A use sets
 * it after counting, a flush clears it before collecting; with a barrier
 * between the two steps of each, no use is forgotten.
 */
#include "postgres.h"

#include "common/hashfn.h"
#include "miscadmin.h"
#include "port/atomics.h"
#include "port/pg_bitutils.h"
#include "storage/shmem.h"
#include "storage/spin.h"

#include "overten_auth.h"

#define NO_ENTRY		(-1)
#define STRIPES			64

/* The database, the hour and the key are what the bucket goes by. */
#define BUCKET_KEY_SIZE	offsetof(OaUseKey, client)

typedef struct UseEntry
{
	OaUseKey	key;
	int			next;			/* in its bucket, or in the list of free ones */
	pg_atomic_uint64 accepted;
	pg_atomic_uint64 refused;
	pg_atomic_uint64 last_accepted_at;	/* a TimestampTz; 0 if none */
	pg_atomic_uint64 last_refused_at;
	int64		counted_since;	/* monotonic */
	TimestampTz first_used_at;
} UseEntry;

/* Each process counts events in a stripe of its own, if there are enough. */
typedef union Stripe
{
	pg_atomic_uint64 counts[OA_EVENTS];
	char		pad[PG_CACHE_LINE_SIZE];
} Stripe;

struct OaUseCounters
{
	slock_t		mutex;			/* protects the next two */
	int			free;			/* first entry of the list of free ones */
	int			used;			/* how many are not in it */
	int			size;			/* how many there are */
	uint32		bucket_mask;
	Stripe		stripes[STRIPES];
	int			buckets[FLEXIBLE_ARRAY_MEMBER]; /* first entry of each */
};

static OaUseCounters *counters = NULL;
static UseEntry *entries;
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

/* The shared memory that "size" entries take. */
Size
oa_use_counters_size(int size)
{
	return add_size(header_size(size), mul_size(size, sizeof(UseEntry)));
}

/*
 * Set up in this process; the first one fills in the memory, too.  The locks
 * are OA_USE_PARTITIONS.
 */
void
oa_use_counters_init(void *memory, int size, LWLockPadded *partition_locks,
					 bool first)
{
	counters = memory;
	entries = (UseEntry *) ((char *) memory + header_size(size));
	locks = partition_locks;
	if (!first)
		return;

	SpinLockInit(&counters->mutex);
	counters->free = 0;
	counters->used = 0;
	counters->size = size;
	counters->bucket_mask = number_of_buckets(size) - 1;
	for (int i = 0; i < STRIPES; i++)
		for (int event = 0; event < OA_EVENTS; event++)
			pg_atomic_init_u64(&counters->stripes[i].counts[event], 0);
	for (uint32 i = 0; i <= counters->bucket_mask; i++)
		counters->buckets[i] = NO_ENTRY;
	for (int i = 0; i < size; i++)
	{
		UseEntry   *entry = &entries[i];

		pg_atomic_init_u64(&entry->accepted, 0);
		pg_atomic_init_u64(&entry->refused, 0);
		pg_atomic_init_u64(&entry->last_accepted_at, 0);
		pg_atomic_init_u64(&entry->last_refused_at, 0);
		entry->next = i + 1 < size ? i + 1 : NO_ENTRY;
	}
}

/* Count an event for the statistics view; nothing without shared memory. */
void
oa_count_event(OaEvent event)
{
	if (counters != NULL)
		pg_atomic_fetch_add_u64(&counters->stripes[MyProcPid % STRIPES].counts[event],
								1);
}

/* How often an event has happened since the server was started. */
uint64
oa_event_count(OaEvent event)
{
	uint64		sum = 0;

	for (int i = 0; i < STRIPES; i++)
		sum += pg_atomic_read_u64(&counters->stripes[i].counts[event]);
	return sum;
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
	return hash_bytes((const unsigned char *) key, BUCKET_KEY_SIZE) &
		counters->bucket_mask;
}

static LWLock *
lock_of(uint32 bucket)
{
	return &locks[bucket % OA_USE_PARTITIONS].lock;
}

/* Is it the same database, hour and key? */
static bool
is_of_key(const UseEntry *entry, const OaUseKey *key)
{
	return memcmp(&entry->key, key, BUCKET_KEY_SIZE) == 0;
}

/* Is it the same client address? */
static bool
is_of_client(const UseEntry *entry, const OaUseKey *key)
{
	return memcmp(&entry->key.client, &key->client, sizeof(OaClientAddr)) == 0;
}

/*
 * Find the entry of a key in a bucket, or NULL.  Counts how many addresses
 * there are of the same database, hour and key.
 */
static UseEntry *
find_entry(uint32 bucket, const OaUseKey *key, int *addresses)
{
	*addresses = 0;
	for (int i = counters->buckets[bucket]; i != NO_ENTRY; i = entries[i].next)
	{
		UseEntry   *entry = &entries[i];

		if (!is_of_key(entry, key))
			continue;
		if (is_of_client(entry, key))
			return entry;
		if (entry->key.client.family != 0)
			(*addresses)++;
	}
	return NULL;
}

/* Add an entry to a bucket, whose lock is held exclusively; NULL if full. */
static UseEntry *
add_entry(uint32 bucket, const OaUseKey *key, TimestampTz now)
{
	UseEntry   *entry;
	int			i;

	SpinLockAcquire(&counters->mutex);
	i = counters->free;
	if (i != NO_ENTRY)
	{
		counters->free = entries[i].next;
		counters->used++;
	}
	SpinLockRelease(&counters->mutex);
	if (i == NO_ENTRY)
		return NULL;

	entry = &entries[i];
	entry->key = *key;
	entry->counted_since = oa_monotonic_ms();
	entry->first_used_at = now;
	pg_atomic_write_u64(&entry->last_accepted_at, 0);
	pg_atomic_write_u64(&entry->last_refused_at, 0);
	entry->next = counters->buckets[bucket];
	counters->buckets[bucket] = i;
	return entry;
}

/* Remove the entry that a link of its bucket's chain holds. */
static void
remove_entry(int *link)
{
	int			i = *link;

	*link = entries[i].next;
	SpinLockAcquire(&counters->mutex);
	entries[i].next = counters->free;
	counters->free = i;
	counters->used--;
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
count_in(UseEntry *entry, bool accepted, TimestampTz now)
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
	return counters->used > counters->size / 4 * 3 ? 1 : OA_ADDRESSES_MAX;
}

/*
 * Find the entry to count in, or NULL.  Where there are enough addresses, that
 * is the one without an address, which the key is changed to.
 */
static UseEntry *
find_place(uint32 bucket, OaUseKey *key, int *addresses)
{
	UseEntry   *entry = find_entry(bucket, key, addresses);

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
	UseEntry   *entry;
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
	UseEntry   *entry;
	int			addresses;

	LWLockAcquire(lock, LW_SHARED);
	entry = find_place(bucket, key, &addresses);
	if (entry != NULL)
		count_in(entry, accepted, now);
	LWLockRelease(lock);

	if (entry != NULL)
		return true;
	/* When memory is short, do not have everyone wait for everyone. */
	if (addresses == 0 && counters->free == NO_ENTRY)
		return false;
	return count_new(bucket, key, accepted, now);
}

/* Copy the counts of an entry, if there are any. */
static bool
copy_counts(UseEntry *entry, OaUses *uses)
{
	uses->accepted = (int64) pg_atomic_read_u64(&entry->accepted);
	uses->refused = (int64) pg_atomic_read_u64(&entry->refused);
	if (uses->accepted == 0 && uses->refused == 0)
		return false;

	uses->key = entry->key;
	uses->counted_since = entry->counted_since;
	uses->first_used_at = entry->first_used_at;
	uses->last_accepted_at =
		(TimestampTz) pg_atomic_read_u64(&entry->last_accepted_at);
	uses->last_refused_at =
		(TimestampTz) pg_atomic_read_u64(&entry->last_refused_at);
	return true;
}

/*
 * Collect counts of a database, "capacity" at most, going on from a bucket
 * that is 0 at first.  Returns how many; 0 when all buckets are through.
 */
int
oa_collect_uses(Oid database, uint32 *bucket, OaUses *uses, int capacity)
{
	int			count = 0;

	while (*bucket <= counters->bucket_mask)
	{
		LWLock	   *lock = lock_of(*bucket);
		int			start = count;
		bool		fits = true;

		LWLockAcquire(lock, LW_SHARED);
		for (int i = counters->buckets[*bucket]; i != NO_ENTRY;
			 i = entries[i].next)
		{
			if (entries[i].key.database != database)
				continue;
			fits = count < capacity;
			if (!fits)
				break;
			if (copy_counts(&entries[i], &uses[count]))
				count++;
		}
		LWLockRelease(lock);

		/* A bucket is taken whole, unless it alone is too much. */
		if (!fits && start > 0)
			return start;
		(*bucket)++;
		if (!fits)
			return count;
	}
	return count;
}

/* Find the link to an entry in its bucket's chain. */
static int *
find_link(uint32 bucket, const OaUseKey *key)
{
	int		   *link = &counters->buckets[bucket];

	while (*link != NO_ENTRY && !(is_of_key(&entries[*link], key) &&
								  is_of_client(&entries[*link], key)))
		link = &entries[*link].next;
	return link;
}

/* Subtract counts that have been written. */
void
oa_subtract_uses(const OaUses *uses, int count)
{
	for (int i = 0; i < count; i++)
	{
		uint32		bucket = bucket_of(&uses[i].key);
		LWLock	   *lock = lock_of(bucket);
		int		   *link;

		LWLockAcquire(lock, LW_EXCLUSIVE);
		link = find_link(bucket, &uses[i].key);
		if (*link != NO_ENTRY)
		{
			UseEntry   *entry = &entries[*link];
			int64		accepted = pg_atomic_sub_fetch_u64(&entry->accepted, uses[i].accepted);
			int64		refused = pg_atomic_sub_fetch_u64(&entry->refused, uses[i].refused);

			if (accepted == 0 && refused == 0)
				remove_entry(link);
		}
		LWLockRelease(lock);
	}
}

/* Forget what was counted for a database that is gone. */
void
oa_discard_uses(Oid database)
{
	for (uint32 bucket = 0; bucket <= counters->bucket_mask; bucket++)
	{
		LWLock	   *lock = lock_of(bucket);
		int		   *link = &counters->buckets[bucket];

		LWLockAcquire(lock, LW_EXCLUSIVE);
		while (*link != NO_ENTRY)
		{
			UseEntry   *entry = &entries[*link];

			if (entry->key.database != database)
				link = &entry->next;
			else
			{
				pg_atomic_write_u64(&entry->accepted, 0);
				pg_atomic_write_u64(&entry->refused, 0);
				remove_entry(link);
			}
		}
		LWLockRelease(lock);
	}
}
