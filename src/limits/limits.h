/*
 * limits.h
 *		Rate limits and quotas: their rows, and the buckets that count against
 *		them.
 */
#ifndef OA_LIMITS_H
#define OA_LIMITS_H

#include "overten_auth.h"
#include "lookup/lookup.h"
#include "usage/usage.h"

/* rate.c: the arithmetic of rate limits, without any state of the server */

/* See the comments of that file for what the numbers mean. */
typedef struct OaRate
{
	int64		emission;		/* ticks that a cost of 1 takes */
	int64		scale;			/* ticks in a nanosecond */
	int64		burst;			/* the cost that a full bucket admits */
} OaRate;

/* What a bucket says about a cost. */
typedef struct OaVerdict
{
	bool		granted;
	int64		ahead;			/* ticks by which the bucket is ahead of the
								 * clock, once the cost is added if that is
								 * granted */
} OaVerdict;

#define OA_LIMIT_PERIOD_MAX	86399	/* seconds: less than a day */
#define OA_COST_MAX			1000000000

extern bool oa_make_rate(int64 quota, int32 period, int64 burst, OaRate *rate);
extern OaRate oa_share_rate(const OaRate *rate, int share);
extern int64 oa_rate_quota(const OaRate *rate, int32 period);
extern bool oa_ticks(const OaRate *rate, int64 epoch, int64 now,
					 int64 *ticks);
extern bool oa_is_past(int64 scale, int64 epoch, int64 arrival, int64 now);
extern int64 oa_move_arrival(int64 scale, int64 epoch, int64 arrival,
							 int64 now);
extern OaVerdict oa_judge(const OaRate *rate, int64 arrival, int64 now,
						  int64 cost);
extern int64 oa_add_debt(const OaRate *rate, int64 arrival, int64 now,
						 int64 cost);
extern int64 oa_remaining(const OaRate *rate, int64 ahead);
extern int64 oa_wait(const OaRate *rate, int64 ahead, int64 cost);
extern int64 oa_reset(const OaRate *rate, int64 ahead);

/* calendar.c: the periods of quotas */
#define OA_ANCHOR_MAX		28

extern void oa_find_period(OaCalendar calendar, int anchor, TimestampTz now,
						   TimestampTz *start, TimestampTz *end);

/* limit_rows.c: the limits of a key, as they are cached with it */
#define OA_LIMIT_NAME_MAX	32	/* characters */
#define OA_LIMITS_MAX		8	/* of a subject */
#define OA_LIMITS_OF_KEY_MAX	(3 * OA_LIMITS_MAX) /* its own, its org's, its
													 * tier's */
#define OA_BUCKET_ID_LEN	16

/* One of OaLimits; the next one begins at the next aligned byte. */
typedef struct OaLimit
{
	union
	{
		OaRate		rate;
		int64		quota;		/* of a quota */
	};
	OaCalendar	calendar;		/* of a quota; else it is a rate limit */
	int32		period;			/* of a rate limit: seconds; of a quota: the
								 * anchor of its months */
	uint8		bucket[OA_BUCKET_ID_LEN];	/* of a key or an org */
	bool		per_org;		/* is the bucket one for all keys of the org? */
	bool		shadow;			/* counted, but not enforced */
	uint8		name_length;
	char		name[FLEXIBLE_ARRAY_MEMBER];
} OaLimit;

#define OA_LIMIT_SIZE(name_length) \
	MAXALIGN(offsetof(OaLimit, name) + (name_length))

static inline const OaLimit *
oa_next_limit(const OaLimit *limit)
{
	return (const OaLimit *) ((const char *) limit +
							  OA_LIMIT_SIZE(limit->name_length));
}

extern const OaLimits *oa_read_limits(OaRead *read, text *line, text *org_id,
									  text *tier);

/* buckets.c: counting in shared memory */
typedef enum OaTaking
{
	OA_TAKEN,
	OA_TAKEN_IN_PART,			/* some limits have no bucket, and none is
								 * free; overten_auth.limits_full admits that */
	OA_REFUSED_BY_LIMIT,
	OA_NO_BUCKET_FREE,			/* likewise, and nothing was taken */
	OA_QUOTA_NOT_LOADED			/* nothing was taken: the caller must load the
								 * quotas first */
} OaTaking;

#define OA_NO_PERIOD		DT_NOBEGIN

/* One limit, and what its bucket says. */
typedef struct OaTake
{
	const uint8 *bucket;		/* its id, in this database */
	OaRate		rate;			/* this server's share of it */
	TimestampTz start;			/* of a quota: its period; else OA_NO_PERIOD */
	TimestampTz end;			/* likewise */
	TimestampTz now;			/* likewise: in this period */
	int64		quota;			/* likewise */
	bool		shadow;
	OaVerdict	verdict;		/* a quota is "ahead" by the units that are
								 * used */
	bool		loaded;			/* is there a bucket? */
	int64		refusals;		/* of the bucket; these two are set by
								 * oa_look_at_buckets() */
} OaTake;

static inline bool
oa_is_quota(const OaTake *take)
{
	return take->start != OA_NO_PERIOD;
}

extern OaTaking oa_take(OaTake *takes, int count, int64 cost);
extern OaTaking oa_charge_buckets(OaTake *takes, int count, int64 cost);
extern void oa_look_at_buckets(OaTake *takes, int count);

/* bucket_memory.c: the memory of the buckets */
extern void oa_buckets_shmem_request(void);
extern void oa_buckets_shmem_init(void);
extern bool oa_has_buckets(void);
extern void oa_buckets_fill(int *used, int *size);

/* quota_buckets.c: moving units of quotas between memory and their table */
typedef struct OaUnwritten
{
	uint8		id[OA_BUCKET_ID_LEN];
	char		org_id[OA_COUNTED_ID_MAX];	/* padded with zeros */
	TimestampTz start;			/* of the period */
	int64		units;			/* that the table does not have */
} OaUnwritten;

extern bool oa_load_quota(const OaTake *take, text *org_id);
extern int	oa_collect_quotas(uint32 *chain, OaUnwritten *unwritten,
							  int capacity);
extern void oa_subtract_quotas(const OaUnwritten *written, int count);
extern bool oa_discard_quotas(OaDatabaseTest is_gone, void *argument,
							  int64 before);

/* quota_flush.c: that table */
extern int64 oa_read_quota_units(const uint8 *id, TimestampTz start);
extern void oa_flush_quotas(void);
extern bool oa_remove_old_quotas(void);

/* limits.c, limit_use.c */
pg_noreturn extern void oa_limited_key_missing(text *key_id);
extern void oa_set_calendar_period(Interval *period, OaCalendar calendar);
extern Datum oa_interval(int64 microseconds);

/* limits_of_key.c: asking all limits of a key */
typedef struct OaStanding
{
	bool		is_limited;		/* else the key has no limit, and the rest is
								 * not set */
	char		name[OA_LIMIT_NAME_MAX + 1];	/* of the limit that matters */
	bool		is_quota;
	int64		quota;
	int32		period;			/* seconds */
	int64		remaining;		/* cost that would be admitted now */
	int64		retry_after;	/* microseconds; -1: the cost is more than the
								 * burst or the quota */
	int64		reset_after;	/* microseconds until the bucket is full, or
								 * the period of the quota ends */
} OaStanding;

typedef enum OaLimiting
{
	OA_WITHIN_LIMITS,
	OA_OVER_LIMIT,
	OA_NOT_COUNTED_HERE,		/* the library is not preloaded, or does not
								 * serve the database */
	OA_OUT_OF_BUCKETS,
	OA_IN_RECOVERY				/* the key has quotas, which a standby cannot
								 * count */
} OaLimiting;

extern OaLimiting oa_ask_limits(const OaLimits *packed, text *org_id,
								int64 cost, OaStanding *standing);
extern OaLimiting oa_charge_limits(const OaLimits *packed, text *org_id,
								   int64 cost);
pg_noreturn extern void oa_refuse_to_limit(OaLimiting reason);
extern int64 oa_cost_argument(FunctionCallInfo fcinfo, int n);
extern void oa_prepare_take(const OaLimit *limit, OaTake *take);
extern int64 oa_remaining_of(const OaTake *take);
extern int64 oa_reset_of(const OaTake *take);
extern void oa_require_counting(void);

#endif							/* OA_LIMITS_H */
