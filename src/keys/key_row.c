/*
 * key_row.c
 *		The row that verification returns for a key, and what restricts the
 *		key: from the caches, or from the tables.
 *
 * Two caches are kept under the protocol of cache.c: the finished row under
 * the digest of the secret, and the org under its id, for keys that are not
 * cached but whose org is.  An org from the cache may be combined with a key
 * only if the key's row was there already for the snapshot that read the org;
 * else a transaction that changes both could be seen by half.
 *
 * Only a key that is not revoked, of an org that is not suspended, has a row.
 * What else can refuse a key depends on the time and on the request.  So it is
 * cached with the row, and decided in each verification (decision.c).  The
 * limits of the key are read for those who ask whether a request may go on
 * (admission.c), and cached with the row, too.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/transam.h"
#include "catalog/pg_type.h"
#include "funcapi.h"
#include "utils/memutils.h"

#include "keys/decision.h"
#include "limits/limits.h"
#include "sealing/sealing.h"
#include "server/server.h"

/* Each further one takes an ALTER TABLE that commits in the middle of it. */
#define READ_ATTEMPTS	3

/* What is cached of an org that is not suspended. */
typedef struct CachedOrg
{
	FullTransactionId horizon;	/* xmin of the snapshot that read it */
	Size		length;			/* of the row */
	HeapTupleHeaderData row;	/* the result with the org's columns only */
} CachedOrg;

static TupleDesc result_descriptor = NULL;

/* The columns of a result, for the rest of the session. */
static void
make_result_descriptor(void)
{
	static const OaColumn columns[OA_VERIFIED_COLUMNS] = {
		[OA_VERIFIED_KEY_ID] = {"key_id", TEXTOID},
		[OA_VERIFIED_ORG_ID] = {"org_id", TEXTOID},
		[OA_VERIFIED_ORG_NAME] = {"org_name", TEXTOID},
		[OA_VERIFIED_TIER] = {"tier", TEXTOID},
		[OA_VERIFIED_WEBHOOK_SECRET] = {"webhook_secret", TEXTOID},
		[OA_VERIFIED_KEY_PREFIX] = {"key_prefix", TEXTOID},
	};

	result_descriptor = oa_make_columns(columns, OA_VERIFIED_COLUMNS);
}

/*
 * The cache of orgs.  A session whose keys are all in the shared cache does not
 * need it.
 */
static OaCache *
cached_orgs(void)
{
	static OaCache *cache = NULL;

	if (cache == NULL)
		cache = oa_cache_create("orgs");
	return cache;
}

typedef enum OrgState
{
	ORG_MISSING, ORG_SUSPENDED, ORG_ACTIVE
} OrgState;

/*
 * Fill in the org's columns of a result, from the cache or the table.  "lasts"
 * tells whether the result may be cached: not if the own transaction has
 * written the row, and not if the webhook secret cannot be unsealed, for that
 * is mended without a change of the tables.
 */
static OrgState
read_org(OaRead *read, const OaKeyRow *key, Datum *values, bool *nulls,
		 bool *lasts)
{
	uint8		cache_key[OA_DIGEST_LEN] = {0};
	int			id_length = VARSIZE_ANY_EXHDR(key->org_id);
	bool		cacheable = id_length <= sizeof(cache_key);
	OaOrgRow	org;
	text	   *webhook_secret;

	*lasts = true;
	if (cacheable)
	{
		CachedOrg  *cached;

		memcpy(cache_key, VARDATA_ANY(key->org_id), id_length);
		cached = oa_cache_find(cached_orgs(), cache_key);
		if (cached != NULL &&
			FullTransactionIdPrecedes(oa_full_xid(key->xmin), cached->horizon))
		{
			HeapTupleData tuple = {.t_len = cached->length};

			tuple.t_data = memcpy(palloc(cached->length), &cached->row,
								  cached->length);
			heap_deform_tuple(&tuple, result_descriptor, values, nulls);
			return ORG_ACTIVE;
		}
	}

	if (!oa_store_find_org(read, key->org_id, &org))
		return ORG_MISSING;
	if (org.suspended)
		return ORG_SUSPENDED;

	webhook_secret = oa_unseal(key->org_id, org.sealed_secret);
	memset(nulls, true, OA_VERIFIED_COLUMNS);
	values[OA_VERIFIED_ORG_NAME] = PointerGetDatum(org.name);
	nulls[OA_VERIFIED_ORG_NAME] = false;
	values[OA_VERIFIED_TIER] = PointerGetDatum(org.tier);
	nulls[OA_VERIFIED_TIER] = false;
	values[OA_VERIFIED_WEBHOOK_SECRET] = PointerGetDatum(webhook_secret);
	nulls[OA_VERIFIED_WEBHOOK_SECRET] = (webhook_secret == NULL);

	*lasts = !org.own && webhook_secret != NULL;
	if (cacheable && *lasts)
	{
		HeapTuple	tuple = heap_form_tuple(result_descriptor, values, nulls);
		Size		size = offsetof(CachedOrg, row) + tuple->t_len;
		CachedOrg  *copy = palloc(size);
		OaBuckets	buckets = {OA_NO_BUCKET, OA_NO_BUCKET, OA_NO_BUCKET};

		copy->horizon = oa_full_xid(read->snapshot->xmin);
		copy->length = tuple->t_len;
		memcpy(&copy->row, tuple->t_data, tuple->t_len);
		buckets.org = oa_bucket(cache_key, id_length);
		oa_cache_store(cached_orgs(), cache_key, copy, size, read->as_of,
					   buckets);
	}
	return ORG_ACTIVE;
}

static text *
tier_of(const Datum *values)
{
	return DatumGetTextPP(values[OA_VERIFIED_TIER]);
}

/*
 * Read a key and its org from the tables, and cache them.  Returns false if
 * there is a key that is not revoked, but not its org, or if its limits may be
 * missing because a table was rewritten.
 */
static bool
try_read_key(const uint8 *digest, bool with_limits, OaKeyFound *found,
			 OaCachedKey *cached)
{
	OrgState	org = ORG_SUSPENDED;
	OaRead		read;
	OaKeyRow	key;
	bool		exists;
	Datum		values[OA_VERIFIED_COLUMNS];
	bool		nulls[OA_VERIFIED_COLUMNS];
	bool		org_lasts;

	found->row = NULL;
	found->revoked_key_id = NULL;
	oa_store_begin_read(&read, OA_API_KEYS);
	exists = oa_store_find_key(&read, digest, &key);
	if (exists && !key.revoked)
		org = read_org(&read, &key, values, nulls, &org_lasts);
	if (org == ORG_ACTIVE)
	{
		HeapTuple	row;

		values[OA_VERIFIED_KEY_ID] = PointerGetDatum(key.key_id);
		nulls[OA_VERIFIED_KEY_ID] = false;
		values[OA_VERIFIED_ORG_ID] = PointerGetDatum(key.org_id);
		nulls[OA_VERIFIED_ORG_ID] = false;
		values[OA_VERIFIED_KEY_PREFIX] = PointerGetDatum(key.prefix);
		nulls[OA_VERIFIED_KEY_PREFIX] = false;
		row = heap_form_tuple(result_descriptor, values, nulls);
		found->row = row->t_data;
		cached->restrictions = oa_pack_restrictions(&key);
		cached->limits = !with_limits ? NULL :
			oa_read_limits(&read, key.line, key.org_id, tier_of(values));

		/* A rollback would take back what only this transaction sees. */
		if (!key.own && org_lasts)
			oa_key_cache_store(&read, digest, key.org_id, tier_of(values),
							   row, cached);
	}
	oa_store_end_read(&read);

	if (exists && key.revoked)
		found->revoked_key_id = key.key_id;
	return org != ORG_MISSING &&
		!(with_limits && oa_store_was_disturbed(&read));
}

/*
 * Find the row of a key by the digest of its secret.  "cached", which is zero,
 * gets the key's restrictions and, with "with_limits", its limits.  A key has an
 * org, so one that misses it was read while orgs was being rewritten (see
 * store.c), and is read again.
 */
void
oa_find_key(const uint8 *digest, bool with_limits, OaKeyFound *found,
			OaCachedKey *cached)
{
	if (result_descriptor == NULL)
		make_result_descriptor();

	cached->digest = digest;
	cached->slot = -1;
	found->revoked_key_id = NULL;
	found->row = oa_key_cache_find(digest, with_limits, cached);
	found->was_cached = found->row != NULL;
	for (int attempt = 0;
		 !found->was_cached && attempt < READ_ATTEMPTS; attempt++)
		if (try_read_key(digest, with_limits, found, cached))
			break;
}

/* The columns of such a row, once one has been looked for. */
TupleDesc
oa_verified_key_columns(void)
{
	return result_descriptor;
}

/* A column of a result.  Of all of them, only the webhook secret can be NULL. */
text	   *
oa_verified_column(HeapTupleHeader row, int column)
{
	HeapTupleData tuple = {.t_len = HeapTupleHeaderGetDatumLength(row)};
	Datum		value;
	bool		isnull;

	tuple.t_data = row;
	value = heap_getattr(&tuple, column + 1, result_descriptor, &isnull);
	return isnull ? NULL : DatumGetTextPP(value);
}
