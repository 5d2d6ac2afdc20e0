/*
 * cache.c
 *		Bounded caches of a backend, which changes of the tables reach.
 *
 * What is cached here decides who gets in, so a revocation has to reach every
 * backend before its COMMIT returns.  PostgreSQL's relcache invalidation does
 * exactly that, and the protocol below relies on nothing else:
 *
 * 1.	Each change of a row of a watched table sends a relcache message with
 *		the commit: a row trigger does it (invalidation.c) for UPDATE and DELETE,
 *		and for INSERT of signing keys.  PostgreSQL itself sends one for TRUNCATE
 *		and DROP.  xact.c makes the change visible first, then sends the
 *		messages, then answers the client.  COMMIT PREPARED, the logical apply
 *		worker and replay on a standby keep that order.
 *
 * 2.	A callback (invalidation.c) receives the messages.  It may run wherever a
 *		lock is taken, in the middle of a use of an entry too, so it only
 *		advances a clock, and notes it for the bucket of the key or org, or for
 *		everything: after a message for a watched table or for InvalidOid (the
 *		queue overflowed), and after any message while we do not know the
 *		tables' OIDs.
 *
 * 3.	A look-up (oa_cache_find) first accepts the messages that wait.  Taking a
 *		lock would do that too, but not a lock that is held already: a long
 *		transaction would go on with what it knew.  Whether messages wait is
 *		read without a lock, hence the barrier before it.  Then the entry is
 *		good if neither its buckets nor everything has changed since the clock
 *		that it was read as of.
 *
 * 4.	A fill (store.c) looks up the OIDs, reads the clock, takes the snapshot
 *		and reads the rows, in this order.  Opening a table in the last step may
 *		accept the message of a revocation that the snapshot does not see yet.
 *		The entry would then seem newer than the revocation, whose only message
 *		is spent, if the clock were read later.  oa_cache_store refuses what has
 *		changed already.  A message that still waits at that moment needs no
 *		second look: the next look-up accepts it first.
 *
 * 5.	Rows that the own, still open transaction has written are not stored: a
 *		rollback sends no message for an INSERT.  The callers take care of that.
 *		A transaction that has changed such rows neither looks up nor stores
 *		anything until it ends.
 *
 * Refusals are not cached: a key is refused by reading the table, always.
 *
 * Keys are 32 bytes: a digest, or an id padded with zeros.  Values are flat
 * structs that the cache copies; they are cleared before they are freed.
 */
#include "postgres.h"

#include "common/hashfn.h"
#include "lib/ilist.h"
#include "port/atomics.h"
#include "utils/hsearch.h"
#include "utils/inval.h"
#include "utils/memutils.h"

#include "lookup/changes.h"
#include "server/server.h"
#include "settings.h"

/* Bits of a cache's memory of what it did not have; see is_worth_a_place(). */
#define SEEN_BITS 65536

struct OaCache
{
	OaCache    *next;			/* of all caches */
	const char *name;			/* of its memory context */
	uint64		all_changed;	/* its value when the cache was set up */
	MemoryContext context;		/* holds table and values; NULL when empty */
	HTAB	   *table;
	dlist_head	recent;			/* entries, the most recently used first */
	int			seen_count;		/* of the bits that are set */
	uint8		seen[SEEN_BITS / BITS_PER_BYTE];
};

typedef struct OaCacheEntry
{
	uint8		key[OA_DIGEST_LEN];
	dlist_node	recent;
	Size		size;			/* of the value */
	void	   *value;
	uint64		as_of;			/* the clock before it was read */
	OaBuckets	buckets;		/* what it depends on */
} OaCacheEntry;

/* All caches of this backend. */
static OaCache *caches = NULL;

/* Make an empty cache.  Lives as long as the backend. */
OaCache    *
oa_cache_create(const char *name)
{
	OaCache    *cache = MemoryContextAllocZero(TopMemoryContext,
											   sizeof(OaCache));

	cache->name = name;
	dlist_init(&cache->recent);
	cache->next = caches;
	caches = cache;
	return cache;
}

/* Clear all values and give the memory back. */
static void
empty(OaCache *cache)
{
	dlist_iter	iter;

	if (cache->context == NULL)
		return;

	dlist_foreach(iter, &cache->recent)
	{
		OaCacheEntry *entry = dlist_container(OaCacheEntry, recent, iter.cur);

		explicit_bzero(entry->value, entry->size);
	}
	dlist_init(&cache->recent);
	MemoryContextDelete(cache->context);
	cache->context = NULL;
	cache->table = NULL;
}

/* Set up the memory of an empty cache, for the current generation. */
static void
prepare(OaCache *cache)
{
	HASHCTL		control = {0};

	cache->context = AllocSetContextCreate(TopMemoryContext,
										   "overten_auth cache",
										   ALLOCSET_DEFAULT_SIZES);
	MemoryContextSetIdentifier(cache->context, cache->name);
	control.keysize = OA_DIGEST_LEN;
	control.entrysize = sizeof(OaCacheEntry);
	control.hcxt = cache->context;
	cache->table = hash_create(cache->name, 128, &control,
							   HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
	cache->all_changed = oa_all_changed();
}

/* Clear one entry and take it out. */
static void
discard(OaCache *cache, OaCacheEntry *entry)
{
	explicit_bzero(entry->value, entry->size);
	pfree(entry->value);
	dlist_delete(&entry->recent);
	hash_search(cache->table, entry->key, HASH_REMOVE, NULL);
}

/*
 * The assign hook of overten_auth.cache_entries: what has no place any more
 * goes at once, for it may be a secret that should not stay.  Nothing here can
 * fail, and nobody holds on to an entry while a setting is set.
 */
void
oa_cache_entries_changed(int entries, void *extra)
{
	for (OaCache *cache = caches; cache != NULL; cache = cache->next)
	{
		if (entries == 0)
			empty(cache);
		while (cache->table != NULL &&
			   hash_get_num_entries(cache->table) > entries)
			discard(cache, dlist_tail_element(OaCacheEntry, recent,
											  &cache->recent));
	}
}

/* The entry of a key, if the cache is not to be emptied first; or NULL. */
static OaCacheEntry *
find_entry(OaCache *cache, const uint8 *key)
{
	if (cache->all_changed != oa_all_changed())
		empty(cache);
	if (cache->table == NULL || oa_cache_entries == 0 || oa_has_own_change())
		return NULL;
	return hash_search(cache->table, key, HASH_FIND, NULL);
}

/*
 * The value stored under a key, or NULL.  It is valid until the next call
 * that can reach this file: copy it before calling anything.
 */
void	   *
oa_cache_find(OaCache *cache, const uint8 *key)
{
	OaCacheEntry *entry;

	oa_accept_changes();
	entry = find_entry(cache, key);
	if (entry == NULL)
		return NULL;
	if (oa_has_changed(entry->as_of, entry->buckets))
	{
		discard(cache, entry);
		return NULL;
	}
	dlist_move_head(&cache->recent, &entry->recent);
	return entry->value;
}

/* The same, to change it: whatever has changed since it was read. */
void	   *
oa_cache_peek(OaCache *cache, const uint8 *key)
{
	OaCacheEntry *entry = find_entry(cache, key);

	return entry != NULL ? entry->value : NULL;
}

/*
 * Is a key to have a place in a full cache?  Only if it was asked for not long
 * ago: where far more keys are in use than there are places, putting each in
 * and another out would cost a good part of reading it from the table.
 */
static bool
is_worth_a_place(OaCache *cache, const uint8 *key)
{
	uint32		bit = (uint32) hash_bytes(key, OA_DIGEST_LEN) % SEEN_BITS;
	uint8	   *byte = &cache->seen[bit / BITS_PER_BYTE];
	uint8		mask = (uint8) (1 << (bit % BITS_PER_BYTE));

	if (*byte & mask)
		return true;

	if (++cache->seen_count > oa_cache_entries)
	{
		memset(cache->seen, 0, sizeof(cache->seen));
		cache->seen_count = 1;
	}
	*byte |= mask;
	return false;
}

/*
 * Store a copy of a value that was read as of this clock, unless something that
 * it depends on has changed since, or it is not worth a place.  Returns the copy,
 * as oa_cache_find() would, or NULL if it was not stored.
 */
void	   *
oa_cache_store(OaCache *cache, const uint8 *key, const void *value, Size size,
			   uint64 as_of, OaBuckets buckets)
{
	OaCacheEntry *entry;
	void	   *copy;

	if (oa_has_changed(as_of, buckets) || oa_cache_entries == 0 ||
		oa_has_own_change())
		return NULL;
	if (cache->all_changed != oa_all_changed())
		empty(cache);
	if (cache->table == NULL)
		prepare(cache);

	entry = hash_search(cache->table, key, HASH_FIND, NULL);
	if (entry != NULL)
		discard(cache, entry);
	else if (hash_get_num_entries(cache->table) >= oa_cache_entries &&
			 !is_worth_a_place(cache, key))
		return NULL;

	copy = MemoryContextAlloc(cache->context, size);
	memcpy(copy, value, size);
	while (hash_get_num_entries(cache->table) >= oa_cache_entries)
		discard(cache, dlist_tail_element(OaCacheEntry, recent,
										  &cache->recent));

	entry = hash_search(cache->table, key, HASH_ENTER, NULL);
	entry->value = copy;
	entry->size = size;
	entry->as_of = as_of;
	entry->buckets = buckets;
	dlist_push_head(&cache->recent, &entry->recent);
	return copy;
}
