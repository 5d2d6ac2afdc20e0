/*
 * verify.c
 *		From bearer text to row: the path that everything else serves.
 *
 *	bearer text -> shape -> SHA-256 -> cache -> index -> record the use -> row
 *
 * A credential that is not an active key of an org that is not suspended gives
 * no row, whatever the reason, and no error: an error would put the statement,
 * and with it perhaps the secret, into the server log.  Nothing here runs SQL
 * or writes, but for the record of the use (recorder.c).  The functions are
 * VOLATILE and PARALLEL UNSAFE, for they look at the latest state of the tables
 * instead of the caller's snapshot.
 *
 * Two caches are kept under the protocol of cache.c: the finished row under
 * the digest of the secret, and the org under its id, for keys that are not
 * cached but whose org is.  An org from the cache may be combined with a key
 * only if the key's row was there already for the snapshot that read the org;
 * else a transaction that changes both could be seen by half.
 */
#include "postgres.h"

#include "access/detoast.h"
#include "access/htup_details.h"
#include "access/transam.h"
#include "access/xlog.h"
#include "catalog/pg_type.h"
#include "funcapi.h"
#include "utils/memutils.h"

#include "keys/keys.h"
#include "lookup/lookup.h"
#include "sealing/sealing.h"
#include "server/server.h"
#include "settings.h"
#include "text/text.h"
#include "usage/usage.h"

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
static OaCache *orgs_cache;

PG_FUNCTION_INFO_V1(overten_verify_key);
PG_FUNCTION_INFO_V1(overten_verify_key_digest);

/* Set up, once per backend, what outlives the calls. */
static void
prepare(void)
{
	static const char *const names[OA_VERIFIED_COLUMNS] = {
		"key_id", "org_id", "org_name", "tier", "webhook_secret", "key_prefix"
	};
	MemoryContext caller = MemoryContextSwitchTo(TopMemoryContext);
	TupleDesc	descriptor = CreateTemplateTupleDesc(OA_VERIFIED_COLUMNS);

	for (int i = 0; i < OA_VERIFIED_COLUMNS; i++)
		TupleDescInitEntry(descriptor, (AttrNumber) (i + 1), names[i],
						   TEXTOID, -1, 0);
	orgs_cache = oa_cache_create("orgs");
	result_descriptor = BlessTupleDesc(descriptor);
	MemoryContextSwitchTo(caller);
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
		cached = oa_cache_find(orgs_cache, cache_key);
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
		OaBuckets	buckets = {OA_NO_BUCKET, OA_NO_BUCKET};

		copy->horizon = oa_full_xid(read->snapshot->xmin);
		copy->length = tuple->t_len;
		memcpy(&copy->row, tuple->t_data, tuple->t_len);
		buckets.org = oa_bucket(cache_key, id_length);
		oa_cache_store(orgs_cache, cache_key, copy, size, read->as_of, buckets);
	}
	return ORG_ACTIVE;
}

/*
 * Read a key and its org from the tables, and cache them; NULL if the key is to
 * be refused.  "org_missing" is set if there is an active key, but not its org.
 */
static HeapTupleHeader
try_read_key(const uint8 *digest, const OaClientAddr *client,
			 OaCachedKey *cached, bool *org_missing)
{
	HeapTuple	row = NULL;
	OrgState	org = ORG_SUSPENDED;
	OaRead		read;
	OaKeyRow	key;
	bool		found;
	Datum		values[OA_VERIFIED_COLUMNS];
	bool		nulls[OA_VERIFIED_COLUMNS];
	bool		org_lasts;

	oa_store_begin_read(&read, OA_API_KEYS);
	found = oa_store_find_key(&read, digest, &key);
	if (found && !key.revoked && (oa_accept_test_keys || !key.test))
		org = read_org(&read, &key, values, nulls, &org_lasts);
	if (org == ORG_ACTIVE)
	{
		values[OA_VERIFIED_KEY_ID] = PointerGetDatum(key.key_id);
		nulls[OA_VERIFIED_KEY_ID] = false;
		values[OA_VERIFIED_ORG_ID] = PointerGetDatum(key.org_id);
		nulls[OA_VERIFIED_ORG_ID] = false;
		values[OA_VERIFIED_KEY_PREFIX] = PointerGetDatum(key.prefix);
		nulls[OA_VERIFIED_KEY_PREFIX] = false;
		row = heap_form_tuple(result_descriptor, values, nulls);

		/* A rollback would take back what only this transaction sees. */
		if (!key.own && org_lasts && !key.test)
			oa_key_cache_store(&read, digest, key.org_id, row, cached);
	}
	oa_store_end_read(&read);

	if (found && key.revoked)
		oa_use_recorder()->refused(key.key_id, client);
	*org_missing = (org == ORG_MISSING);
	return row != NULL ? row->t_data : NULL;
}

/*
 * Read a key and its org from the tables; NULL if it is to be refused.  A key
 * has an org, so one that misses it was read while orgs was being rewritten
 * (see store.c), and is read again.
 */
static HeapTupleHeader
read_key(const uint8 *digest, const OaClientAddr *client, OaCachedKey *cached)
{
	for (int attempt = 0; attempt < READ_ATTEMPTS; attempt++)
	{
		bool		org_missing;
		HeapTupleHeader row = try_read_key(digest, client, cached,
										   &org_missing);

		if (!org_missing)
			return row;
	}
	return NULL;
}

/* A column of a result that is never NULL. */
text	   *
oa_verified_column(HeapTupleHeader row, int column)
{
	HeapTupleData tuple = {.t_len = HeapTupleHeaderGetDatumLength(row)};
	bool		isnull;

	tuple.t_data = row;
	return DatumGetTextPP(heap_getattr(&tuple, column + 1, result_descriptor,
									   &isnull));
}

/* May keys be verified here?  A standby learns of a revocation late. */
bool
oa_may_verify(void)
{
	return oa_verify_on_standby || !RecoveryInProgress();
}

/* Is the prefix of a verified key one that is accepted? */
static bool
has_accepted_prefix(HeapTupleHeader row)
{
	text	   *prefix = oa_verified_column(row, OA_VERIFIED_KEY_PREFIX);
	OaEnvironment environment;

	return oa_is_prefix_shaped(VARDATA_ANY(prefix), VARSIZE_ANY_EXHDR(prefix),
							   &environment);
}

/*
 * The row for the digest of a secret, anonymous; NULL if it is refused.  The
 * caller can have seen that the secret has an accepted prefix; else it wants
 * that to be checked.
 */
static HeapTupleHeader
verify(const uint8 *digest, bool check_prefix, const OaClientAddr *client)
{
	OaCachedKey cached = {.digest = digest,.slot = -1};
	HeapTupleHeader row;
	OaEvent		event = OA_CACHE_HIT;

	if (!oa_may_verify())
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("keys are not verified on a standby"),
				 errdetail("A standby learns of a revocation only when it replays it."),
				 errhint("Verify on the primary, or set overten_auth.verify_on_standby.")));

	if (result_descriptor == NULL)
		prepare();

	row = oa_key_cache_find(digest, &cached);
	if (row == NULL)
	{
		row = read_key(digest, client, &cached);
		event = row != NULL ? OA_ACCEPTED : OA_REFUSED;
	}
	if (row != NULL && check_prefix && !has_accepted_prefix(row))
	{
		row = NULL;
		event = OA_REFUSED;
	}
	oa_count_event(event);
	if (row == NULL)
		return NULL;

	/* The row may be another backend's, which numbers its types otherwise. */
	HeapTupleHeaderSetTypMod(row, result_descriptor->tdtypmod);
	oa_use_recorder()->accepted(oa_verified_column(row, OA_VERIFIED_KEY_ID),
								client, &cached.recorded_at);
	oa_key_cache_record(&cached);
	return row;
}

/*
 * Verify what should be a secret.  Fills in the columns of
 * overten_auth.verified_key and returns true, or returns false if it is
 * refused.  Raises 55000 unless oa_may_verify().
 */
bool
oa_verify_secret(const char *bytes, int length, const OaClientAddr *client,
				 Datum *values, bool *nulls)
{
	uint8		digest[OA_DIGEST_LEN];
	HeapTupleData tuple = {0};

	if (!oa_is_secret_shaped(bytes, length))
	{
		oa_count_event(OA_MALFORMED);
		return false;
	}

	oa_digest(bytes, length, digest);
	tuple.t_data = verify(digest, false, client);
	if (tuple.t_data == NULL)
		return false;

	tuple.t_len = HeapTupleHeaderGetDatumLength(tuple.t_data);
	heap_deform_tuple(&tuple, result_descriptor, values, nulls);
	return true;
}

/*
 * Verify a digest for a SQL function whose rows are overten_auth.verified_key.
 * NULL if it is refused.
 */
static HeapTupleHeader
verify_for_sql(FunctionCallInfo fcinfo, const uint8 *digest,
			   bool check_prefix)
{
	static Oid	checked_type = InvalidOid;
	ErrorContextCallback secrecy;
	HeapTupleHeader row;

	oa_secrecy_begin(&secrecy);
	row = verify(digest, check_prefix, NULL);
	if (row != NULL)
		oa_set_row_type(row, result_descriptor, fcinfo->flinfo, &checked_type);
	oa_secrecy_end(&secrecy);
	return row;
}

/* The same for the function's first argument, which should be a secret. */
HeapTupleHeader
oa_verify_argument(FunctionCallInfo fcinfo)
{
	uint8		digest[OA_DIGEST_LEN];
	text	   *secret = oa_secret_argument(fcinfo, 0);

	if (secret == NULL)
	{
		oa_count_event(OA_MALFORMED);
		return NULL;
	}
	oa_digest(VARDATA_ANY(secret), VARSIZE_ANY_EXHDR(secret), digest);
	return verify_for_sql(fcinfo, digest, false);
}

/*
 * overten_verify_key(secret text) returns setof overten_auth.verified_key
 *
 * One row for an active key of an org that is not suspended, no row for
 * anything else.  Raises 55000 on a standby where that is not allowed.
 */
Datum
overten_verify_key(PG_FUNCTION_ARGS)
{
	if (oa_single_row_was_returned(fcinfo))
		return (Datum) 0;
	return oa_return_single_row(fcinfo, oa_verify_argument(fcinfo));
}

/*
 * overten_verify_key_digest(digest bytea)
 *		returns setof overten_auth.verified_key
 *
 * The same from the SHA-256 of a secret, for callers who hash before they
 * call.  Anything that has not 32 bytes is refused.
 */
Datum
overten_verify_key_digest(PG_FUNCTION_ARGS)
{
	bytea	   *digest;

	if (oa_single_row_was_returned(fcinfo))
		return (Datum) 0;

	/* STRICT keeps NULL away, but not from a declaration without it. */
	if (PG_ARGISNULL(0) ||
		toast_raw_datum_size(PG_GETARG_DATUM(0)) != OA_DIGEST_LEN + VARHDRSZ)
	{
		oa_count_event(OA_MALFORMED);
		return oa_return_single_row(fcinfo, NULL);
	}

	digest = PG_GETARG_BYTEA_PP(0);
	return oa_return_single_row(fcinfo,
								verify_for_sql(fcinfo, (const uint8 *) VARDATA_ANY(digest),
											   true));
}
