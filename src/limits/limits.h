/*
 * limits.h
 *		Rate limits: their rows, and the buckets that count against them.
 */
#ifndef OA_LIMITS_H
#define OA_LIMITS_H

#include "overten_auth.h"
#include "limits/rate.h"
#include "lookup/lookup.h"
#include "port/atomics.h"

/* limit_rows.c: the limits of a key, as they are cached with it */
#define OA_LIMIT_NAME_MAX	32	/* characters */
#define OA_LIMITS_MAX		8	/* of a subject */
#define OA_LIMITS_OF_KEY_MAX	(3 * OA_LIMITS_MAX) /* its own, its org's, its
													 * tier's */
#define OA_BUCKET_ID_LEN	16

/* One of OaLimits; the next one begins at the next aligned byte. */
typedef struct OaLimit
{
	OaRate		rate;
	int32		period;			/* seconds */
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
	OA_NO_BUCKET_FREE			/* likewise, and nothing was taken */
} OaTaking;

/* One limit, and what its bucket says. */
typedef struct OaTake
{
	const uint8 *bucket;		/* its id, in this database */
	OaRate		rate;			/* this server's share of it */
	bool		shadow;
	OaVerdict	verdict;
	int64		refusals;		/* of the bucket; set by oa_look_at_buckets() */
} OaTake;

extern void oa_buckets_shmem_request(void);
extern void oa_buckets_shmem_init(void);
extern bool oa_has_buckets(void);
extern OaTaking oa_take(OaTake *takes, int count, int64 cost);
extern OaTaking oa_charge_buckets(OaTake *takes, int count, int64 cost);
extern void oa_look_at_buckets(OaTake *takes, int count);
extern void oa_buckets_fill(int *used, int *size);

/* limits.c, limit_use.c */
pg_noreturn extern void oa_limited_key_missing(text *key_id);
extern Datum oa_interval(int64 microseconds);

/* Of the keys of an org, and so of their limits. */
typedef struct OaLimitPage
{
	text	   *after;			/* the key that it begins after; NULL: it is
								 * the first page, with the limits of the org */
	int			keys;			/* how many keys at most; 0: all */
	char	   *last;			/* out: its last key if there are more, or
								 * NULL */
} OaLimitPage;

/* A limit, and what is left of it on this server. */
typedef struct OaLimitStatus
{
	text	   *key_id;			/* NULL: it counts for the org */
	const char *name;			/* not terminated */
	int			name_length;
	int64		quota;
	int64		period;			/* seconds */
	int64		burst;
	bool		shadow;
	int64		remaining;		/* cost that would be admitted now */
	int64		reset_after;	/* microseconds until the bucket is full */
	int64		refusals;
} OaLimitStatus;

typedef void (*OaLimitCallback) (const OaLimitStatus *status, void *argument);

extern bool oa_show_limits(text *org_id, bool with_shadows, OaLimitPage *page,
						   OaLimitCallback callback, void *argument);

/* limits_of_key.c: asking all limits of a key */
typedef struct OaStanding
{
	bool		is_limited;		/* else the key has no limit, and the rest is
								 * not set */
	char		name[OA_LIMIT_NAME_MAX + 1];	/* of the limit that matters */
	int64		quota;
	int32		period;			/* seconds */
	int64		remaining;		/* cost that would be admitted now */
	int64		retry_after;	/* microseconds; -1: the cost is more than the
								 * burst */
	int64		reset_after;	/* microseconds until the bucket is full */
} OaStanding;

typedef enum OaLimiting
{
	OA_WITHIN_LIMITS,
	OA_OVER_LIMIT,
	OA_NOT_COUNTED_HERE,		/* the library is not preloaded, or does not
								 * serve the database */
	OA_OUT_OF_BUCKETS
} OaLimiting;

extern OaLimiting oa_ask_limits(const OaLimits *packed, int64 cost,
								OaStanding *standing);
extern OaLimiting oa_charge_limits(const OaLimits *packed, int64 cost);
pg_noreturn extern void oa_refuse_to_limit(OaLimiting reason);
extern int64 oa_cost_argument(FunctionCallInfo fcinfo, int n);
extern void oa_prepare_take(const OaLimit *limit, OaTake *take);
extern void oa_require_counting(void);

#endif							/* OA_LIMITS_H */
