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
#include "utils/guc.h"
#include "utils/relcache.h"
#include "utils/snapshot.h"

/* The tables that are read directly. */
typedef enum OaTable
{
	OA_API_KEYS, OA_ORGS, OA_SIGNING_KEYS,
	OA_TABLES
} OaTable;

/* invalidation.c: hearing of changes of these tables */
extern void oa_invalidation_init(void);
extern uint64 oa_generation(void);
extern uint64 oa_latest_generation(void);

/* cache.c: per-backend caches that a change of the tables empties */
typedef struct OaCache OaCache;

extern void oa_cache_entries_changed(int entries, void *extra);
extern OaCache *oa_cache_create(const char *name);
extern void *oa_cache_find(OaCache *cache, const uint8 *key);
extern void *oa_cache_store(OaCache *cache, const uint8 *key,
							const void *value, Size size,
							uint64 read_generation);

/* store.c: direct reads of them, under the latest snapshot */
typedef struct OaRead
{
	Relation	first;			/* open until it has been looked at */
	const struct OaTableInfo *table;	/* that it is */
	uint64		generation;		/* of the caches, before the snapshot */
	Snapshot	snapshot;		/* registered; sees all that has committed */
} OaRead;

typedef struct OaKeyRow
{
	text	   *key_id;
	text	   *org_id;
	text	   *prefix;
	bool		revoked;
	bool		own;			/* written by the transaction that reads it */
	TransactionId xmin;			/* the transaction that wrote this version */
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

extern void oa_store_begin_read(OaRead *read, OaTable first);
extern void oa_store_end_read(OaRead *read);
extern bool oa_store_find_key(OaRead *read, const uint8 *digest,
							  OaKeyRow *row);
extern bool oa_store_find_org(OaRead *read, text *org_id, OaOrgRow *row);
extern List *oa_store_read_signing_keys(OaRead *read);
extern FullTransactionId oa_full_xid(TransactionId xid);

#endif							/* OA_LOOKUP_H */
