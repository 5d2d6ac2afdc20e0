/*
 * cache.c
 *		The caches of a backend, which have a limit and follow changes of the
 *		tables.
 *
 * What is cached here decides who gets in, so a revocation has to reach every
 * backend before its COMMIT returns.  PostgreSQL's relcache invalidation does
 * exactly that, and the protocol below relies on nothing else:
 *
 * 1.	Each change of a row of a watched table sends a relcache message with
 *		the commit.  A row trigger (invalidation.c) sends it for UPDATE and
 *		DELETE, and for INSERT of signing keys.  PostgreSQL itself sends one
 *		for TRUNCATE and DROP.  xact.c makes the change visible first, then
 *		sends the messages, then answers the client.  COMMIT PREPARED, the
 *		logical apply worker and replay on a standby keep that order.
 *
 * 2.	A callback (invalidation.c) receives the messages.  It may run wherever
 *		a lock is taken, even while we are using an entry.  So it only advances
 *		a clock, and notes the new time for the bucket of the key or org, or
 *		for everything.  It notes the time for everything after a message for a
 *		watched table or for InvalidOid (the queue overflowed), and after any
 *		message while we do not know the tables' OIDs.
 *
 * 3.	A look-up (oa_cache_find) first accepts the messages that are waiting.
 *		Taking a lock would do that too, but not if we hold the lock already: a
 *		long transaction would go on with what it knew.
 *		AcceptInvalidationMessages() checks without a lock whether messages are
 *		waiting, so we need a memory barrier before it.  An entry stores the
 *		clock from before its rows were read.  It is good if neither its
 *		buckets nor everything has changed since then.
 *
 * 4.	A fill (store.c) looks up the OIDs, reads the clock, takes the snapshot
 *		and reads the rows, in this order.  Opening a table in the last step
 *		may accept the message of a revocation that the snapshot does not see
 *		yet.  If we read the clock after that, the entry would seem newer than
 *		the revocation, and the message would not come again.  oa_cache_store
 *		refuses to store what has changed already.  It need not look for
 *		messages that are still waiting at that moment, because the next
 *		look-up accepts them first.
 *
 * 5.	Rows that our own open transaction has written are not stored, because
 *		a rollback sends no message for an INSERT.  The callers take care of
 *		that.  A transaction that has changed rows of a watched table neither
 *		searches nor fills a cache until it ends.
 *
 * We do not cache that a key is unknown or revoked: before we refuse it for that,
 * we read the table.  What else can refuse a key, such as its expiry, is cached
 * with its row (keys/restrictions.c).
 *
 * Cache keys are 32 bytes: a digest, or an id padded with zeros.  Values are
 * flat structs.  The cache copies them, and clears its copies before it frees
 * them.
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

/* Bits for the keys that had no place; see is_worth_a_place(). */
#define SEEN_BITS 65536

struct OaCache
{
	OaCache    *next;			/* in the list of all caches */
	const char *name;			/* of its memory context */
	uint64		all_changed;	/* its value when the cache was set up */
	MemoryContext context;		/* holds table and values; NULL when empty */
	HTAB	   *table;
	dlist_head	recent;			/* entries, the most recently used first */
	int			seen_count;		/* number of bits that are set */
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

/* Create an empty cache.  It lives as long as the backend. */
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

/* Clear all values, and free the memory. */
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

/* Set up the memory of an empty cache, and note all_changed. */
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

/* Clear one entry, and remove it. */
static void
discard(OaCache *cache, OaCacheEntry *entry)
{
	explicit_bzero(entry->value, entry->size);
	pfree(entry->value);
	dlist_delete(&entry->recent);
	hash_search(cache->table, entry->key, HASH_REMOVE, NULL);
}

/*
 * The assign hook of overten_auth.cache_entries.  We remove at once the
 * entries that have no place any more, because they may hold secrets that
 * should not stay in memory.  Nothing here can fail, and nobody uses an entry
 * while a setting is being set.
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

/*
 * Find the entry of a key.  If everything has changed, this empties the cache
 * first.  Returns NULL if there is no entry, or if we must not use the cache.
 */
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
 * Return the value that is stored under a key, or NULL.  It is valid until the
 * next call that can reach this file, so copy it before calling anything.
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

/*
 * Likewise, for a caller that changes the value.  This does not check whether
 * the key or org has changed since the value was read.
 */
void	   *
oa_cache_peek(OaCache *cache, const uint8 *key)
{
	OaCacheEntry *entry = find_entry(cache, key);

	return entry != NULL ? entry->value : NULL;
}

/*
 * Should a key get a place in a full cache?  It should if it was asked for not
 * long ago.  If far more keys are in use than there are places, and each of
 * them replaced another one, that would cost a good part of what it costs to
 * read a key from the table.
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
 * Store a copy of a value that was read as of this clock.  Does not store it
 * if something that it depends on has changed since, or if it is not worth a
 * place.  Returns the copy, with the same rules as oa_cache_find(), or NULL if
 * it was not stored.
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
