/*
 * changes.h
 *		The private header of lookup/: what has changed since something was
 *		read, and the tables that it was read from.
 */
#ifndef OA_CHANGES_H
#define OA_CHANGES_H

#include "port/atomics.h"

#include "lookup/lookup.h"

/* invalidation.c: the clock of a backend */
#define OA_BUCKETS		65536

extern uint64 oa_clock(void);
extern bool oa_has_changed(uint64 as_of, OaBuckets buckets);
extern void oa_accept_changes(void);
extern void oa_forget_all(void);
extern bool oa_has_own_change(void);
extern bool oa_takes_access_away(void);
extern void oa_watch_table(OaTable table, Oid relid);
extern bool oa_are_tables_watched(void);
extern void oa_tables_are_watched(uint64 under);

/* revocation_commit.c: what the commit of a revocation waits for */
extern void oa_revocation_commit_init(void);

/* shared_clock.c: the clock of the server */
extern uint64 oa_shared_clock(void);
extern bool oa_shared_has_changed(uint64 as_of, OaBuckets buckets);
extern bool oa_shared_is_usable(void);
extern void oa_shared_publish(Oid relid);
extern bool oa_shared_is_published(Oid relid);
extern void oa_shared_count(uint32 bucket);
extern void oa_shared_count_all(void);
extern bool oa_shared_owes_message(void);
extern void oa_shared_count_own(bool is_commit, bool lost_messages);

/* shared_cache.c: keys that all sessions share */
typedef struct OaSharedPlace
{
	int			slot;
	uint64		recorded;		/* when the use was recorded, and in which
								 * entry */
	uint32		length;			/* of what was found */
	uint32		limits_at;		/* where the limits are in it; 0 if it has
								 * none */
} OaSharedPlace;

extern HeapTupleHeader oa_shared_cache_find(const uint8 *digest,
											bool with_limits,
											OaSharedPlace *place,
											TimestampTz *recorded_at);
extern bool oa_shared_cache_store(const uint8 *digest, uint64 as_of,
								  OaBuckets buckets, HeapTupleHeader row,
								  uint32 length, uint32 limits_at,
								  OaSharedPlace *place);
extern void oa_shared_cache_record(const OaSharedPlace *place,
								   TimestampTz recorded_at);

/* cache.c: changing an entry in place */
extern void *oa_cache_peek(OaCache *cache, const uint8 *key);

/* tables.c: the tables and columns that we read without SQL */
enum
{
	OA_KEY_DIGEST, OA_KEY_ID, OA_KEY_ORG_ID, OA_KEY_PREFIX, OA_KEY_REVOKED_AT,
	OA_KEY_ENVIRONMENT, OA_KEY_EXPIRES_AT, OA_KEY_DISABLED_AT, OA_KEY_SCOPES,
	OA_KEY_ALLOWED_ADDRESSES, OA_KEY_LINEAGE
};

enum
{
	OA_ORG_ID, OA_ORG_NAME, OA_ORG_TIER, OA_ORG_WEBHOOK_SECRET,
	OA_ORG_SUSPENDED_AT
};

enum
{
	OA_SIGNING_KID, OA_SIGNING_PUBLIC_KEY, OA_SIGNING_EXPIRES_AT,
	OA_SIGNING_CERTIFICATE_EXPIRES_AT
};

enum
{
	OA_LIMIT_SCOPE, OA_LIMIT_SUBJECT, OA_LIMIT_NAME, OA_LIMIT_QUOTA,
	OA_LIMIT_PERIOD, OA_LIMIT_BURST, OA_LIMIT_PER, OA_LIMIT_SHADOW,
	OA_LIMIT_ANCHOR
};

#define OA_TABLE_COLUMNS_MAX 11
#define OA_KEY_COLUMNS_MAX	2

typedef struct OaTableInfo
{
	Oid			equality;		/* function that compares the first columns */
	int			key_columns;	/* number of the columns that find a row; more
								 * than one find several rows */
	Oid			relid;
	Oid			index;			/* begins with these columns, and is unique if
								 * there is one; 0 if there is no index */
	int			ncolumns;
	AttrNumber	attnums[OA_TABLE_COLUMNS_MAX];	/* by the enums above */
	bool		nullable[OA_TABLE_COLUMNS_MAX];
} OaTableInfo;

extern void oa_tables_look_up(void);
extern Oid	oa_table_oid(OaTable number);
extern Relation oa_table_open(OaTable number, const OaTableInfo **info);

#endif							/* OA_CHANGES_H */
