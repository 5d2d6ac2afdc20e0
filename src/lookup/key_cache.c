/*
 * key_cache.c
 *		The rows of keys that are not revoked, in the cache of all sessions or
 *		in the own.
 *
 * What restricts a key follows its row, from the next aligned byte, and its
 * limits follow that.  A key without restrictions has nothing there.  Only a
 * caller that needs the limits reads them from the table.  So an entry need not
 * have them, and is of no use to such a caller then; an entry with them is of
 * use to everybody.
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
	uint32		length;			/* of the row and what follows it */
	uint32		limits_at;		/* where the limits are in that, or 0 */
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

/* Note where the restrictions and limits are in what was found. */
static void
find_parts(HeapTupleHeader row, uint32 length, uint32 limits_at,
		   OaCachedKey *cached)
{
	uint32		row_length = HeapTupleHeaderGetDatumLength(row);
	uint32		end = limits_at != 0 ? limits_at : length;
	char	   *start = (char *) row;

	cached->restrictions = end <= MAXALIGN(row_length) ? NULL :
		(const OaRestrictions *) (start + MAXALIGN(row_length));
	cached->limits = limits_at == 0 ? NULL :
		(const OaLimits *) (start + limits_at);
}

/* A palloc'd copy of what is in the session's own cache, or NULL. */
static HeapTupleHeader
find_own(bool with_limits, OaCachedKey *cached)
{
	OwnKey	   *key = oa_cache_find(own_keys(), cached->digest);
	HeapTupleHeader row;

	if (key == NULL || (with_limits && key->limits_at == 0))
		return NULL;
	cached->is_shared = false;
	cached->recorded_at = cached->recorded_before = key->recorded_at;
	row = memcpy(palloc(key->length), &key->row, key->length);
	find_parts(row, key->length, key->limits_at, cached);
	return row;
}

/*
 * Find the row of a key by the digest of its secret: a palloc'd copy, or NULL.
 * "with_limits" says that the caller needs the limits of the key, too.
 * "cached" tells what restricts and limits the key, in the same copy, and is for
 * oa_key_cache_record(); it points to the digest.
 */
HeapTupleHeader
oa_key_cache_find(const uint8 *digest, bool with_limits, OaCachedKey *cached)
{
	OaSharedPlace place;
	HeapTupleHeader row;

	cached->digest = digest;
	if (!oa_shared_is_usable())
		return find_own(with_limits, cached);

	oa_accept_changes();
	row = oa_shared_cache_find(digest, with_limits, &place,
							   &cached->recorded_at);
	if (row == NULL)
		return find_own(with_limits, cached);
	cached->is_shared = true;
	cached->slot = place.slot;
	cached->recorded = place.recorded;
	cached->recorded_before = cached->recorded_at;
	find_parts(row, place.length, place.limits_at, cached);
	return row;
}

/* Copy a part to the next aligned byte.  Returns where it ends. */
static uint32
append(char *copy, uint32 length, const void *part, uint32 part_length)
{
	uint32		aligned = MAXALIGN(length);

	memset(copy + length, 0, aligned - length);
	memcpy(copy + aligned, part, part_length);
	return aligned + part_length;
}

/*
 * Copy a row, what restricts its key, and the key's limits, to where they are
 * one after the other.
 */
static OwnKey *
put_together(HeapTuple row, const OaCachedKey *cached)
{
	const OaRestrictions *restrictions = cached->restrictions;
	const OaLimits *limits = cached->limits;
	OwnKey	   *key = palloc(offsetof(OwnKey, row) + MAXALIGN(row->t_len) +
							 (restrictions != NULL ? MAXALIGN(restrictions->length) : 0) +
							 (limits != NULL ? limits->length : 0));
	char	   *copy = (char *) &key->row;

	key->recorded_at = 0;
	key->limits_at = 0;
	key->length = append(copy, 0, row->t_data, row->t_len);
	if (restrictions != NULL)
		key->length = append(copy, key->length, restrictions,
							 restrictions->length);
	if (limits != NULL)
	{
		key->limits_at = MAXALIGN(key->length);
		key->length = append(copy, key->length, limits, limits->length);
	}
	return key;
}

/*
 * Store a row that was read with what "cached" says of its key: restrictions
 * (or NULL) and limits (or NULL if they were not read), unless something has
 * changed since.
 */
void
oa_key_cache_store(const OaRead *read, const uint8 *digest, text *org_id,
				   text *tier, HeapTuple row, OaCachedKey *cached)
{
	OaBuckets	buckets;
	OaSharedPlace place;
	OwnKey	   *key = put_together(row, cached);

	buckets.key = oa_bucket(digest, OA_DIGEST_LEN);
	buckets.org = oa_bucket(VARDATA_ANY(org_id), VARSIZE_ANY_EXHDR(org_id));
	buckets.tier = cached->limits != NULL ? oa_tier_bucket(tier) : OA_NO_BUCKET;
	if (read->shared && !oa_has_own_change() &&
		oa_shared_cache_store(digest, read->shared_as_of, buckets, &key->row,
							  key->length, key->limits_at, &place))
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
