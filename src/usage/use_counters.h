/*
 * use_counters.h
 *		The counters of uses in shared memory, for the files that count in
 *		them, flush them and read them.
 */
#ifndef OA_USE_COUNTERS_H
#define OA_USE_COUNTERS_H

#include "storage/lwlock.h"
#include "storage/spin.h"

#include "usage/usage.h"

#define OA_NO_ENTRY		(-1)

/* Database, hour and key choose the bucket. */
#define OA_BUCKET_KEY_SIZE	offsetof(OaUseKey, client)

typedef struct OaUseEntry
{
	OaUseKey	key;
	int			next;			/* in its bucket, or in the list of free
								 * entries */
	pg_atomic_uint64 accepted;
	pg_atomic_uint64 refused;
	pg_atomic_uint64 limited;
	pg_atomic_uint64 last_accepted_at;	/* a TimestampTz, or 0 */
	pg_atomic_uint64 last_refused_at;	/* or limited */
	TimestampTz first_used_at;
	int64		counted_since;	/* monotonic */

	/* What a batch has taken from the counts; see use_batches.c. */
	uint64		batch;			/* the batch that took it, or 0 */
	int64		batch_accepted;
	int64		batch_refused;
	int64		batch_limited;
} OaUseEntry;

/* The number of entries of an hour. */
typedef struct OaHourCount
{
	int32		hour;
	int			entries;
} OaHourCount;

struct OaUseCounters
{
	slock_t		mutex;			/* protects free, used and the hours */
	int			free;			/* first free entry */
	int			used;			/* entries that are not free */
	int			size;			/* number of entries */
	uint32		bucket_mask;
	int			hour_count;		/* number of hours that have entries */
	OaHourCount hours[OA_HOURS_MAX];
	int			buckets[FLEXIBLE_ARRAY_MEMBER]; /* first entry of each bucket */
};

extern OaUseCounters *oa_use_counters(OaUseEntry **all);
extern uint32 oa_use_bucket(const OaUseKey *key);
extern LWLock *oa_use_lock(uint32 bucket);
extern void oa_remove_use_entry(int *link);

/* Does this entry have the same database, hour and key? */
static inline bool
oa_is_of_key(const OaUseEntry *entry, const OaUseKey *key)
{
	return memcmp(&entry->key, key, OA_BUCKET_KEY_SIZE) == 0;
}

/* Does this entry have the same client address? */
static inline bool
oa_is_of_client(const OaUseEntry *entry, const OaUseKey *key)
{
	return memcmp(&entry->key.client, &key->client, sizeof(OaHistoryAddr)) == 0;
}

/* Copy the counts of an entry.  Returns false if they are zero. */
static inline bool
oa_copy_counts(OaUseEntry *entry, OaUses *uses)
{
	uses->accepted = (int64) pg_atomic_read_u64(&entry->accepted);
	uses->refused = (int64) pg_atomic_read_u64(&entry->refused);
	uses->limited = (int64) pg_atomic_read_u64(&entry->limited);
	if (uses->accepted == 0 && uses->refused == 0 && uses->limited == 0)
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

#endif							/* OA_USE_COUNTERS_H */
