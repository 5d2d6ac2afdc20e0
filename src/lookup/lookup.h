/*
 * lookup.h
 *		Reading keys, orgs and signing keys from their tables and caches, so
 *		that a change counts from its commit.
 */
#ifndef OA_LOOKUP_H
#define OA_LOOKUP_H

#include "overten_auth.h"
#include "server/server.h"
#include "access/transam.h"
#include "utils/array.h"
#include "utils/guc.h"
#include "utils/relcache.h"
#include "utils/snapshot.h"

/* The tables that we read without SQL. */
typedef enum OaTable
{
	OA_API_KEYS, OA_ORGS, OA_SIGNING_KEYS, OA_LIMITS,
	OA_TABLES
} OaTable;

/* invalidation.c: learning about changes of these tables */
typedef struct OaBuckets		/* what a cached value depends on */
{
	uint32		key;			/* from oa_bucket(), or OA_NO_BUCKET */
	uint32		org;
	uint32		tier;			/* likewise, from oa_tier_bucket() */
} OaBuckets;

#define OA_NO_BUCKET	UINT32_MAX

extern void oa_invalidation_init(void);
extern uint32 oa_bucket(const void *bytes, int length);
extern uint32 oa_tier_bucket(text *tier);
extern uint64 oa_all_changed(void);
extern uint64 oa_latest_all_changed(void);

/* shared_clock.c, shared_cache.c: one cache for all sessions */
typedef struct OaSharedCacheStats
{
	int64		slots;
	int64		stores;
	int64		stale;			/* look-ups that found an outdated entry */
	int64		busy;			/* entries that another process was writing */
	int64		too_long;		/* rows that do not fit a slot */
} OaSharedCacheStats;

extern void oa_shared_cache_init(void);
extern void oa_shared_cache_shmem_request(void);
extern void oa_shared_cache_shmem_init(void);
extern void oa_shared_clock_shmem_request(void);
extern void oa_shared_clock_shmem_init(void);
extern bool oa_shared_cache_stats(OaSharedCacheStats *stats);

/* cache.c: per-backend caches of what was read from the tables */
typedef struct OaCache OaCache;

extern void oa_cache_entries_changed(int entries, void *extra);
extern OaCache *oa_cache_create(const char *name);
extern void *oa_cache_find(OaCache *cache, const uint8 *key);
extern void *oa_cache_store(OaCache *cache, const uint8 *key,
							const void *value, Size size,
							uint64 as_of, OaBuckets buckets);

/* store.c: reading the tables without SQL, under the latest snapshot */
typedef struct OaRead
{
	Relation	first;			/* open until we have searched it */
	const struct OaTableInfo *table;	/* describes "first" */
	Oid			orgs;			/* the OID of orgs that was published */
	Oid			limits;			/* likewise */
	uint64		as_of;			/* the backend's clock, before the snapshot */
	uint64		shared_as_of;	/* the server's clock, likewise */
	bool		shared;			/* may we store rows in the shared cache? */
	Snapshot	snapshot;		/* registered; sees all that was committed */
} OaRead;

typedef struct OaKeyRow
{
	text	   *key_id;
	text	   *org_id;
	text	   *prefix;
	bool		revoked;
	bool		test;			/* of the environment "test" */
	bool		disabled;
	TimestampTz expires_at;		/* DT_NOEND if it does not expire */
	ArrayType  *scopes;			/* text[]; NULL: all */
	ArrayType  *allowed_addresses;	/* cidr[]; NULL: all */
	bool		own;			/* written by the transaction that reads it */
	TransactionId xmin;			/* the transaction that wrote this version */
	text	   *line;			/* key_id of the first of its line of
								 * rotations */
} OaKeyRow;

typedef struct OaOrgRow
{
	text	   *name;
	text	   *tier;
	bytea	   *sealed_secret;	/* the webhook secret; see sealing.h */
	bool		suspended;
	bool		own;
} OaOrgRow;

typedef struct OaSigningKeyRow
{
	text	   *kid;
	bytea	   *public_key;		/* SubjectPublicKeyInfo in DER */
	TimestampTz expires_at;		/* DT_NOEND if it does not expire */
	TimestampTz certificate_expires_at; /* DT_NOEND if it is a JWK */
	bool		own;
} OaSigningKeyRow;

/* The periods of a quota; a rate limit has none of these. */
typedef enum OaCalendar
{
	OA_NO_CALENDAR, OA_DAY, OA_MONTH
} OaCalendar;

/*
 * A rate limit or a quota.  Its columns have the values that its table requires.
 */
typedef struct OaLimitRow
{
	text	   *name;
	int64		quota;
	int32		period;			/* seconds; of a rate limit */
	int64		burst;			/* likewise */
	OaCalendar	calendar;
	int32		anchor;			/* day of the month on which months begin */
	bool		per_org;
	bool		shadow;
} OaLimitRow;

extern void oa_store_begin_read(OaRead *read, OaTable first);
extern void oa_store_close_first(OaRead *read);
extern void oa_store_end_read(OaRead *read);
extern bool oa_store_find_key(OaRead *read, const uint8 *digest,
							  OaKeyRow *row);
extern bool oa_store_find_org(OaRead *read, text *org_id, OaOrgRow *row);
extern List *oa_store_find_limits(OaRead *read, const char *scope,
								  text *subject);
extern bool oa_store_was_disturbed(const OaRead *read);
extern List *oa_store_read_signing_keys(OaRead *read);
extern FullTransactionId oa_full_xid(TransactionId xid);

/*
 * key_cache.c: rows of keys that are not revoked, and what restricts and limits
 * these keys, in the shared cache or in the backend's
 */

/* What restricts the use of a key: one piece of memory. */
typedef struct OaRestrictions
{
	TimestampTz expires_at;		/* DT_NOEND if it does not expire */
	uint32		length;			/* of all of this */
	uint16		scopes_length;	/* of the scopes in "data" */
	bool		test;			/* of the environment "test" */
	bool		disabled;
	bool		has_scopes;		/* else it may be used for everything */
	bool		has_addresses;	/* else it may be used from everywhere */
	uint8		data[FLEXIBLE_ARRAY_MEMBER];	/* scopes, then networks; see
												 * keys/restrictions.c */
} OaRestrictions;

/* The limits of a key: one piece of memory. */
typedef struct OaLimits
{
	uint32		length;			/* of all of this */
	uint32		count;
	char		data[FLEXIBLE_ARRAY_MEMBER];	/* of OaLimit; see
												 * limits/limit_rows.c */
} OaLimits;

typedef struct OaCachedKey
{
	const OaRestrictions *restrictions; /* of the row; NULL if there are none */
	const OaLimits *limits;		/* NULL if they have not been read */
	const uint8 *digest;
	TimestampTz recorded_at;	/* when its use was last recorded; 0 if never */
	bool		is_shared;
	int			slot;			/* of the shared cache; -1 if it has none */
	uint64		recorded;
	TimestampTz recorded_before;
} OaCachedKey;

extern HeapTupleHeader oa_key_cache_find(const uint8 *digest,
										 bool with_limits,
										 OaCachedKey *cached);
extern void oa_key_cache_store(const OaRead *read, const uint8 *digest,
							   text *org_id, text *tier, HeapTuple row,
							   OaCachedKey *cached);
extern void oa_key_cache_record(const OaCachedKey *cached);

/*
 * In SQL: is a key active, which is neither revoked nor expired?  A disabled key
 * is active: its org can enable it again.
 */
#define OA_KEY_IS_ACTIVE(key) \
	"(" key ".revoked_at IS NULL AND (" key ".expires_at IS NULL " \
	"OR " key ".expires_at > clock_timestamp()))"

#endif							/* OA_LOOKUP_H */
