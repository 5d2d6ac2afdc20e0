/*
 * key_cache.c
 *		The rows of keys that are not revoked, in the cache of all sessions or
 *		in the own.
 *
 * What restricts a key follows its row, from the next aligned byte.  A key
 * without restrictions has nothing there, and the length says so.
 *
 * The shared cache is used where there is one and the server is not in
 * recovery; the session's own cache elsewhere, and for rows that do not fit a
 * slot of the shared one.
 */
#include "postgres.h"

#include "access/htup_details.h"

#include "lookup/changes.h"

/* An entry of the session's own cache. */
typedef struct OwnKey
{
	TimestampTz recorded_at;	/* when its use was last recorded */
	uint32		length;			/* of the row and the restrictions */
	HeapTupleHeaderData row;	/* continues to that length */
} OwnKey;

/* The session's own cache. */
static OaCache *
own_keys(void)
{
	static OaCache *cache = NULL;

	if (cache == NULL)
		cache = oa_cache_create("keys");
	return cache;
}

/* Note where the restrictions are in what was found. */
static void
find_restrictions(HeapTupleHeader row, uint32 length, OaCachedKey *cached)
{
	uint32		row_length = HeapTupleHeaderGetDatumLength(row);

	cached->restrictions = length == row_length ? NULL :
		(const OaRestrictions *) ((char *) row + MAXALIGN(row_length));
}

/* A palloc'd copy of what is in the session's own cache, or NULL. */
static HeapTupleHeader
find_own(OaCachedKey *cached)
{
	OwnKey	   *key = oa_cache_find(own_keys(), cached->digest);
	HeapTupleHeader row;

	if (key == NULL)
		return NULL;
	cached->is_shared = false;
	cached->recorded_at = cached->recorded_before = key->recorded_at;
	row = memcpy(palloc(key->length), &key->row, key->length);
	find_restrictions(row, key->length, cached);
	return row;
}

/*
 * Find the row of a key by the digest of its secret: a palloc'd copy, or NULL.
 * "cached" tells what restricts the key, in the same copy, and is for
 * oa_key_cache_record(); it points to the digest.
 */
HeapTupleHeader
oa_key_cache_find(const uint8 *digest, OaCachedKey *cached)
{
	OaSharedPlace place;
	HeapTupleHeader row;

	cached->digest = digest;
	if (!oa_shared_is_usable())
		return find_own(cached);

	oa_accept_changes();
	row = oa_shared_cache_find(digest, &place, &cached->recorded_at);
	if (row == NULL)
		return find_own(cached);
	cached->is_shared = true;
	cached->slot = place.slot;
	cached->recorded = place.recorded;
	cached->recorded_before = cached->recorded_at;
	find_restrictions(row, place.length, cached);
	return row;
}

/* Copy a row and its restrictions to where they are one after the other. */
static uint32
put_together(char *copy, HeapTuple row, const OaRestrictions *restrictions)
{
	uint32		aligned = MAXALIGN(row->t_len);

	memcpy(copy, row->t_data, row->t_len);
	if (restrictions == NULL)
		return row->t_len;
	memset(copy + row->t_len, 0, aligned - row->t_len);
	memcpy(copy + aligned, restrictions, restrictions->length);
	return aligned + restrictions->length;
}

/*
 * Store a row that was read, and what restricts the key (or NULL), unless
 * something has changed since.
 */
void
oa_key_cache_store(const OaRead *read, const uint8 *digest, text *org_id,
				   HeapTuple row, const OaRestrictions *restrictions,
				   OaCachedKey *cached)
{
	OaBuckets	buckets;
	OaSharedPlace place;
	OwnKey	   *key = palloc(offsetof(OwnKey, row) + MAXALIGN(row->t_len) +
							 (restrictions != NULL ? restrictions->length : 0));

	key->recorded_at = 0;
	key->length = put_together((char *) &key->row, row, restrictions);
	buckets.key = oa_bucket(digest, OA_DIGEST_LEN);
	buckets.org = oa_bucket(VARDATA_ANY(org_id), VARSIZE_ANY_EXHDR(org_id));
	if (read->shared && !oa_has_own_change() &&
		oa_shared_cache_store(digest, read->shared_as_of, buckets, &key->row,
							  key->length, &place))
	{
		cached->is_shared = true;
		cached->slot = place.slot;
		cached->recorded = place.recorded;
		return;
	}

	oa_cache_store(own_keys(), digest, key,
				   offsetof(OwnKey, row) + key->length, read->as_of, buckets);
}

/* Note cached->recorded_at in the entry, if that is still there. */
void
oa_key_cache_record(const OaCachedKey *cached)
{
	OaSharedPlace place = {.slot = cached->slot,.recorded = cached->recorded};
	OwnKey	   *key;

	if (cached->recorded_at == cached->recorded_before)
		return;
	if (cached->is_shared)
	{
		if (cached->slot >= 0)
			oa_shared_cache_record(&place, cached->recorded_at);
		return;
	}
	key = oa_cache_peek(own_keys(), cached->digest);
	if (key != NULL)
		key->recorded_at = cached->recorded_at;
}
