/*
 * shared_cache.c
 *		One cache of accepted keys for all sessions of the server.
 *
 * shared_clock.c has the protocol: what may be stored here, and when an entry
 * is too old.  This file is only about the memory.
 *
 * The cache is a hash table of sets; a set has WAYS slots, and their tags in
 * one cache line.  A slot holds one row under the digest of its secret.  Who
 * writes into a set takes its lock, or does without if another process has it:
 * nobody waits, and a process that dies with the lock costs one set.  A full set
 * replaces by CLOCK.  Readers take no lock.  The sequence of a slot is odd while
 * it is being written, and a reader that finds it changed has read nothing.
 *
 * The time at which the use of a key was last recorded (table_recorder.c) is
 * one word with the low half of the sequence, so that it cannot be written into
 * an entry that has replaced another.
 *
 * Rows contain webhook secrets in plain, as the caches of sessions do.  The
 * memory is kept out of core dumps where the system can do that.
 */
#include "postgres.h"

#include <sys/mman.h>

#include "access/htup_details.h"
#include "miscadmin.h"
#include "port/pg_bitutils.h"
#include "storage/pg_shmem.h"
#include "storage/shmem.h"

#include "lookup/changes.h"
#include "settings.h"

#define WAYS		8
#define SLOT_SIZE	384

typedef struct Slot
{
	pg_atomic_uint64 sequence;	/* odd while it is being written */
	pg_atomic_uint64 recorded;	/* low half of the sequence | seconds */
	uint64		as_of;			/* T; see shared_clock.c */
	OaBuckets	buckets;
	Oid			database;
	uint8		digest[OA_DIGEST_LEN];
	uint32		length;			/* of the row and what follows it */
	uint32		limits_at;		/* where the limits are in that, or 0 */
	char		row[SLOT_SIZE - 80];
} Slot;

StaticAssertDecl(sizeof(Slot) == SLOT_SIZE, "a slot has no padding");

typedef struct Set
{
	pg_atomic_uint32 lock;
	pg_atomic_uint32 used;		/* a bit a slot, for CLOCK */
	uint32		hand;
	uint32		tags[WAYS];		/* 0: the slot is free */
	char		pad[PG_CACHE_LINE_SIZE - (3 + WAYS) * sizeof(uint32)];
} Set;

typedef struct SharedCache
{
	uint32		set_mask;
	pg_atomic_uint64 stores;
	pg_atomic_uint64 stale;
	pg_atomic_uint64 busy;
	pg_atomic_uint64 too_long;
} SharedCache;

static SharedCache *shared = NULL;
static Set *sets;
static Slot *slots;

static uint32
number_of_sets(void)
{
	return pg_nextpower2_32(Max(oa_shared_cache_entries / WAYS, 1));
}

/* The slots begin on a page, for madvise(). */
static Size
shmem_size(void)
{
	Size		size = TYPEALIGN(PG_CACHE_LINE_SIZE, sizeof(SharedCache));

	size = add_size(size, mul_size(number_of_sets(), sizeof(Set)));
	size = add_size(size, 2 * sysconf(_SC_PAGESIZE));
	return add_size(size, mul_size(number_of_sets(), WAYS * sizeof(Slot)));
}

/* Reserve the memory.  Called by the postmaster's shmem_request_hook. */
void
oa_shared_cache_shmem_request(void)
{
	if (oa_shared_cache_entries > 0)
		RequestAddinShmemSpace(shmem_size());
}

/*
 * Keep memory out of core dumps, together with the rest of its pages.  If these
 * are huge pages, madvise() refuses what does not begin and end with one of
 * them; the server does not tell us which pages it has got.
 */
static bool
keep_out_of_dumps(char *start, Size length)
{
#ifdef MADV_DONTDUMP
	Size		sizes[2] = {sysconf(_SC_PAGESIZE)};

	GetHugePageSize(&sizes[1], NULL);
	for (int i = 0; i < lengthof(sizes) && sizes[i] > 0; i++)
	{
		char	   *first = (char *) TYPEALIGN_DOWN(sizes[i], start);
		char	   *end = (char *) TYPEALIGN(sizes[i], start + length);

		if (madvise(first, end - first, MADV_DONTDUMP) == 0)
			return true;
	}
	return false;
#else
	return true;
#endif
}

/*
 * Attach to the memory, and fill it in if this process is the first.  Called by
 * each process's shmem_startup_hook, with AddinShmemInitLock held.
 */
void
oa_shared_cache_shmem_init(void)
{
	Size		page = sysconf(_SC_PAGESIZE);
	char	   *memory;
	bool		found;

	if (oa_shared_cache_entries == 0)
		return;
	memory = ShmemInitStruct("overten_auth cache", shmem_size(), &found);
	shared = (SharedCache *) memory;
	sets = (Set *) TYPEALIGN(PG_CACHE_LINE_SIZE, memory + sizeof(SharedCache));
	slots = (Slot *) TYPEALIGN(page, sets + number_of_sets());
	if (found)
		return;

	memset(memory, 0, shmem_size());
	shared->set_mask = number_of_sets() - 1;
	pg_atomic_init_u64(&shared->stores, 0);
	pg_atomic_init_u64(&shared->stale, 0);
	pg_atomic_init_u64(&shared->busy, 0);
	pg_atomic_init_u64(&shared->too_long, 0);
	for (uint32 i = 0; i < number_of_sets(); i++)
	{
		pg_atomic_init_u32(&sets[i].lock, 0);
		pg_atomic_init_u32(&sets[i].used, 0);
	}
	for (uint32 i = 0; i < number_of_sets() * WAYS; i++)
	{
		pg_atomic_init_u64(&slots[i].sequence, 0);
		pg_atomic_init_u64(&slots[i].recorded, 0);
	}

	/* Backends inherit this from the postmaster. */
	if (!keep_out_of_dumps((char *) slots,
						   (Size) number_of_sets() * WAYS * sizeof(Slot)))
		ereport(LOG,
				(errmsg("could not keep the shared cache of keys out of core dumps: %m"),
				 errdetail("A core dump of a server process would contain webhook secrets."),
				 errhint("Disable core dumps of the server, or set overten_auth.shared_cache_entries to 0.")));
}

static uint64
hash_of(const uint8 *digest)
{
	uint64		hash;

	memcpy(&hash, digest, sizeof(hash));
	return hash ^ ((uint64) MyDatabaseId * UINT64CONST(0x9E3779B97F4A7C15));
}

/* What is in "recorded" for an entry whose use has never been recorded. */
static uint64
never_recorded(uint64 sequence)
{
	return sequence << 32;
}

/*
 * A palloc'd copy of the row in a slot, if it is the digest's and good, and has
 * limits if the caller needs them.
 */
static HeapTupleHeader
copy_row(Slot *slot, const uint8 *digest, bool with_limits,
		 OaSharedPlace *place)
{
	uint64		sequence = pg_atomic_read_u64(&slot->sequence);
	HeapTupleHeader row;
	uint64		as_of;
	OaBuckets	buckets;
	uint32		length;

	pg_read_barrier();
	if ((sequence & 1) != 0)
	{
		pg_atomic_fetch_add_u64(&shared->busy, 1);
		return NULL;
	}
	/* Once: another process may be writing it. */
	length = *(volatile uint32 *) &slot->length;
	if (length == 0 || length > sizeof(slot->row) ||
		slot->database != MyDatabaseId ||
		(with_limits && slot->limits_at == 0) ||
		memcmp(slot->digest, digest, OA_DIGEST_LEN) != 0)
		return NULL;

	as_of = slot->as_of;
	buckets = slot->buckets;
	place->recorded = pg_atomic_read_u64(&slot->recorded);
	place->length = length;
	place->limits_at = slot->limits_at;
	row = palloc(length);
	memcpy(row, slot->row, length);
	pg_read_barrier();
	if (pg_atomic_read_u64(&slot->sequence) != sequence)
		pg_atomic_fetch_add_u64(&shared->busy, 1);
	else if (oa_shared_has_changed(as_of, buckets))
		pg_atomic_fetch_add_u64(&shared->stale, 1);
	else
	{
		if (place->recorded >> 32 != (uint32) sequence)
			place->recorded = never_recorded(sequence);
		return row;
	}

	explicit_bzero(row, length);
	pfree(row);
	return NULL;
}

/*
 * Find the row under a digest.  The caller has accepted the messages that wait,
 * and made sure that the cache is usable.  Returns a palloc'd copy, or NULL.
 */
HeapTupleHeader
oa_shared_cache_find(const uint8 *digest, bool with_limits,
					 OaSharedPlace *place, TimestampTz *recorded_at)
{
	uint64		hash = hash_of(digest);
	uint32		number = (uint32) (hash >> 32) & shared->set_mask;
	Set		   *set = &sets[number];
	uint32		tag = (uint32) hash | 1;

	for (int way = 0; way < WAYS; way++)
	{
		HeapTupleHeader row;

		if (set->tags[way] != tag)
			continue;
		place->slot = (int) (number * WAYS + way);
		row = copy_row(&slots[place->slot], digest, with_limits, place);
		if (row == NULL)
			continue;
		if ((pg_atomic_read_u32(&set->used) & (1U << way)) == 0)
			pg_atomic_fetch_or_u32(&set->used, 1U << way);
		*recorded_at = (TimestampTz) (uint32) place->recorded * USECS_PER_SEC;
		return row;
	}
	return NULL;
}

/* The slot of a set to write into: the tag's, a free one, or CLOCK's. */
static int
choose_way(Set *set, uint32 tag)
{
	for (int way = 0; way < WAYS; way++)
	{
		if (set->tags[way] == tag)
			return way;
	}
	for (int way = 0; way < WAYS; way++)
	{
		if (set->tags[way] == 0)
			return way;
	}
	for (;;)
	{
		int			way = set->hand++ % WAYS;

		if ((pg_atomic_fetch_and_u32(&set->used, ~(1U << way)) & (1U << way)) == 0)
			return way;
	}
}

/* Write an entry into a slot of a set that is locked. */
static void
write_slot(Slot *slot, const uint8 *digest, uint64 as_of, OaBuckets buckets,
		   HeapTupleHeader row, uint32 length, uint32 limits_at)
{
	uint64		sequence = pg_atomic_read_u64(&slot->sequence) | 1;

	pg_atomic_write_u64(&slot->sequence, sequence);
	pg_write_barrier();
	slot->as_of = as_of;
	slot->buckets = buckets;
	slot->database = MyDatabaseId;
	slot->length = length;
	slot->limits_at = limits_at;
	memcpy(slot->digest, digest, OA_DIGEST_LEN);
	memcpy(slot->row, row, length);
	pg_atomic_write_u64(&slot->recorded, never_recorded(sequence + 1));
	pg_write_barrier();
	pg_atomic_write_u64(&slot->sequence, sequence + 1);
}

/*
 * Store a row that was read as of T, unless something has changed since, or
 * another process is writing into the set.  False if it does not fit: then it
 * can be cached in the session.  Its slot is -1 if it was not stored.
 */
bool
oa_shared_cache_store(const uint8 *digest, uint64 as_of, OaBuckets buckets,
					  HeapTupleHeader row, uint32 length, uint32 limits_at,
					  OaSharedPlace *place)
{
	uint64		hash = hash_of(digest);
	uint32		number = (uint32) (hash >> 32) & shared->set_mask;
	Set		   *set = &sets[number];
	uint32		tag = (uint32) hash | 1;
	uint32		unlocked = 0;
	int			way;

	place->slot = -1;
	if (length > sizeof(((Slot *) NULL)->row))
	{
		pg_atomic_fetch_add_u64(&shared->too_long, 1);
		return false;
	}
	if (oa_shared_has_changed(as_of, buckets))
		return true;
	if (!pg_atomic_compare_exchange_u32(&set->lock, &unlocked, 1))
	{
		pg_atomic_fetch_add_u64(&shared->busy, 1);
		return true;
	}

	way = choose_way(set, tag);
	place->slot = (int) (number * WAYS + way);
	set->tags[way] = tag;
	write_slot(&slots[place->slot], digest, as_of, buckets, row, length,
			   limits_at);
	place->recorded = pg_atomic_read_u64(&slots[place->slot].recorded);
	pg_write_barrier();
	pg_atomic_write_u32(&set->lock, 0);
	pg_atomic_fetch_add_u64(&shared->stores, 1);
	return true;
}

/* Note when the use of a key was recorded, if its entry is still there. */
void
oa_shared_cache_record(const OaSharedPlace *place, TimestampTz recorded_at)
{
	uint64		before = place->recorded;
	uint64		seconds = (uint64) (recorded_at / USECS_PER_SEC);

	(void) pg_atomic_compare_exchange_u64(&slots[place->slot].recorded, &before,
										  (before & ~(uint64) PG_UINT32_MAX) |
										  (seconds & PG_UINT32_MAX));
}

/* What the cache has done since the server was started; false without one. */
bool
oa_shared_cache_stats(OaSharedCacheStats *stats)
{
	if (shared == NULL)
		return false;
	stats->slots = (int64) number_of_sets() * WAYS;
	stats->stores = (int64) pg_atomic_read_u64(&shared->stores);
	stats->stale = (int64) pg_atomic_read_u64(&shared->stale);
	stats->busy = (int64) pg_atomic_read_u64(&shared->busy);
	stats->too_long = (int64) pg_atomic_read_u64(&shared->too_long);
	return true;
}
