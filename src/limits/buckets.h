/*
 * buckets.h
 *		The private header of limits/: the memory that limits are counted in.
 */
#ifndef OA_LIMIT_BUCKETS_H
#define OA_LIMIT_BUCKETS_H

#include "limits/limits.h"
#include "port/atomics.h"
#include "storage/lwlock.h"

#define OA_LIMIT_PARTITIONS	64	/* a bit each in a uint64 */
#define OA_NO_LIMIT_BUCKET	(-1)

/* What a rate limit has granted. */
typedef struct OaRateBucket
{
	pg_atomic_uint64 arrival;	/* TAT, in ticks since the epoch */
	int64		epoch;			/* nanoseconds of the clock */
	int64		scale;			/* ticks in a nanosecond */
} OaRateBucket;

/* What a quota has granted in a period. */
typedef struct OaQuotaBucket
{
	TimestampTz end;			/* of the period */
	int64		units;			/* that were used in the period */
	int64		unwritten;		/* those of them that the table does not have */
	int64		loaded_at;		/* monotonic; milliseconds */
} OaQuotaBucket;

typedef struct OaLimitBucket
{
	union
	{
		OaRateBucket rate;
		OaQuotaBucket quota;
	};
	pg_atomic_uint64 refusals;
	TimestampTz start;			/* of a quota's period, or OA_NO_PERIOD */
	uint8		id[OA_BUCKET_ID_LEN];
	Oid			database;
	int			next;			/* in its chain, or in the list of free ones */
	char		org_id[OA_COUNTED_ID_MAX];	/* of a quota; padded with zeros */
} OaLimitBucket;

static inline bool
oa_is_quota_bucket(const OaLimitBucket *bucket)
{
	return bucket->start != OA_NO_PERIOD;
}

/* bucket_memory.c: the buckets, and the locks that protect them */
extern OaLimitBucket *oa_limit_bucket(int i);
extern uint32 oa_limit_chain(const uint8 *id);
extern uint32 oa_limit_chains(void);
extern int *oa_limit_chain_head(uint32 chain);
extern LWLock *oa_limit_partition_lock(uint32 partition);
extern LWLock *oa_limit_lock(uint32 chain);
extern uint64 oa_limit_removals(uint32 chain);
extern OaLimitBucket *oa_find_limit_bucket(const uint8 *id, TimestampTz start);
extern int	oa_take_free_buckets(int count);
extern int	oa_add_limit_bucket(int i, const uint8 *id, TimestampTz start);
extern void oa_remove_limit_bucket(uint32 chain, int *link);
extern void oa_note_past(OaRateBucket *rate);
extern void oa_note_unwritten(OaQuotaBucket *quota, int64 more);
extern bool oa_make_room(int wanted);

#endif							/* OA_LIMIT_BUCKETS_H */
