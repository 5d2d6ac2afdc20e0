/*
 * verify.c
 *		From bearer text to row: the path that everything else serves.
 *
 *	bearer text -> shape -> SHA-256 -> cache -> index -> record the use -> row
 *
 * A credential that is not an active key of an org that is not suspended
 * gives NULL, whatever the reason, and no error: an error would put the
 * statement, and with it perhaps the secret, into the server log.  Nothing
 * here runs SQL or writes, but for the record of the use (usage.c).  The
 * functions are VOLATILE and PARALLEL UNSAFE, for they look at the latest
 * state of the tables instead of the caller's snapshot.
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
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/memutils.h"

#include "overten_auth.h"

enum
{
	RESULT_KEY_ID, RESULT_ORG_ID, RESULT_ORG_NAME, RESULT_TIER,
	RESULT_WEBHOOK_SECRET, RESULT_KEY_PREFIX, RESULT_COLUMNS
};

/* What is cached of an accepted key. */
typedef struct AcceptedKey
{
	TimestampTz recorded_at;	/* when its use was last recorded */
	Size		length;			/* of the row */
	HeapTupleHeaderData row;	/* the result; continues to that length */
} AcceptedKey;

/* What is cached of an org that is not suspended. */
typedef struct CachedOrg
{
	TransactionId horizon;		/* xmin of the snapshot that read it */
	Size		length;			/* of the row */
	HeapTupleHeaderData row;	/* the result with the org's columns only */
} CachedOrg;

static TupleDesc result_descriptor = NULL;
static OaCache *keys_cache;
static OaCache *orgs_cache;

PG_FUNCTION_INFO_V1(overten_verify_key);
PG_FUNCTION_INFO_V1(overten_verify_key_digest);

/* Set up, once per backend, what outlives the calls. */
static void
prepare(void)
{
	static const char *const names[RESULT_COLUMNS] = {
		"key_id", "org_id", "org_name", "tier", "webhook_secret", "key_prefix"
	};
	MemoryContext caller = MemoryContextSwitchTo(TopMemoryContext);
	TupleDesc	descriptor = CreateTemplateTupleDesc(RESULT_COLUMNS);

	for (int i = 0; i < RESULT_COLUMNS; i++)
		TupleDescInitEntry(descriptor, i + 1, names[i], TEXTOID, -1, 0);
	keys_cache = oa_cache_create("keys");
	orgs_cache = oa_cache_create("orgs");
	result_descriptor = BlessTupleDesc(descriptor);
	MemoryContextSwitchTo(caller);
}

/*
 * Fill in the org's columns of a result, from the cache or the table.  False
 * if there is no such org, or it is suspended.
 */
static bool
read_org(OaRead *read, const OaKeyRow *key, Datum *values, bool *nulls,
		 bool *own)
{
	uint8		cache_key[OA_DIGEST_LEN] = {0};
	int			id_length = VARSIZE_ANY_EXHDR(key->org_id);
	bool		cacheable = id_length <= sizeof(cache_key);
	OaOrgRow	org;

	*own = false;
	if (cacheable)
	{
		CachedOrg  *cached;

		memcpy(cache_key, VARDATA_ANY(key->org_id), id_length);
		cached = oa_cache_find(orgs_cache, cache_key);
		if (cached != NULL && TransactionIdPrecedes(key->xmin, cached->horizon))
		{
			HeapTupleData tuple = {.t_len = cached->length};

			tuple.t_data = memcpy(palloc(cached->length), &cached->row,
								  cached->length);
			heap_deform_tuple(&tuple, result_descriptor, values, nulls);
			return true;
		}
	}

	if (!oa_store_find_org(read, key->org_id, &org) || org.suspended)
		return false;

	memset(nulls, true, RESULT_COLUMNS);
	values[RESULT_ORG_NAME] = PointerGetDatum(org.name);
	nulls[RESULT_ORG_NAME] = false;
	values[RESULT_TIER] = PointerGetDatum(org.tier);
	nulls[RESULT_TIER] = false;
	values[RESULT_WEBHOOK_SECRET] = PointerGetDatum(org.webhook_secret);
	nulls[RESULT_WEBHOOK_SECRET] = (org.webhook_secret == NULL);

	*own = org.own;
	if (cacheable && !org.own)
	{
		HeapTuple	tuple = heap_form_tuple(result_descriptor, values, nulls);
		Size		size = offsetof(CachedOrg, row) + tuple->t_len;
		CachedOrg  *copy = palloc(size);

		copy->horizon = read->snapshot->xmin;
		copy->length = tuple->t_len;
		memcpy(&copy->row, tuple->t_data, tuple->t_len);
		oa_cache_store(orgs_cache, cache_key, copy, size, read->generation);
	}
	return true;
}

/*
 * Read a key and its org from the tables; NULL if it is to be refused, or if
 * the read is outdated and has to be done again.
 */
static AcceptedKey *
try_read_key(const uint8 *digest, bool *outdated)
{
	AcceptedKey *accepted = NULL;
	AcceptedKey *cached = NULL;
	OaRead		read;
	OaKeyRow	key;
	Datum		values[RESULT_COLUMNS];
	bool		nulls[RESULT_COLUMNS];
	bool		own_org;

	oa_store_begin_read(&read);
	if (oa_store_find_key(&read, digest, &key) && !key.revoked &&
		read_org(&read, &key, values, nulls, &own_org))
	{
		HeapTuple	tuple;
		Size		size;

		values[RESULT_KEY_ID] = PointerGetDatum(key.key_id);
		nulls[RESULT_KEY_ID] = false;
		values[RESULT_ORG_ID] = PointerGetDatum(key.org_id);
		nulls[RESULT_ORG_ID] = false;
		values[RESULT_KEY_PREFIX] = PointerGetDatum(key.prefix);
		nulls[RESULT_KEY_PREFIX] = false;
		tuple = heap_form_tuple(result_descriptor, values, nulls);

		size = offsetof(AcceptedKey, row) + tuple->t_len;
		accepted = palloc(size);
		accepted->recorded_at = 0;
		accepted->length = tuple->t_len;
		memcpy(&accepted->row, tuple->t_data, tuple->t_len);

		/* A rollback would take back what only this transaction sees. */
		if (!key.own && !own_org)
			cached = oa_cache_store(keys_cache, digest, accepted, size,
									read.generation);
	}
	oa_store_end_read(&read);
	*outdated = read.outdated;
	return cached != NULL ? cached : accepted;
}

/* Read a key and its org from the tables; NULL if it is to be refused. */
static AcceptedKey *
read_key(const uint8 *digest)
{
	AcceptedKey *accepted;
	bool		outdated;

	do
	{
		CHECK_FOR_INTERRUPTS();
		accepted = try_read_key(digest, &outdated);
	} while (outdated);
	return accepted;
}

/* Record that the key of a result was used. */
static void
record_use(HeapTupleHeader row)
{
	HeapTupleData tuple = {.t_len = HeapTupleHeaderGetDatumLength(row)};
	bool		isnull;
	Datum		key_id;

	tuple.t_data = row;
	key_id = heap_getattr(&tuple, RESULT_KEY_ID + 1, result_descriptor,
						  &isnull);
	oa_record_use(DatumGetTextPP(key_id));
}

/* The result row for the digest of a secret; NULL if it is refused. */
static HeapTupleHeader
verify(const uint8 *digest)
{
	ErrorContextCallback secrecy;
	AcceptedKey *accepted;
	HeapTupleHeader row = NULL;

	oa_secrecy_begin(&secrecy);
	if (!oa_verify_on_standby && RecoveryInProgress())
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("keys are not verified on a standby"),
				 errdetail("A standby learns of a revocation only when it replays it."),
				 errhint("Verify on the primary, or set overten_auth.verify_on_standby.")));

	if (result_descriptor == NULL)
		prepare();

	accepted = oa_cache_find(keys_cache, digest);
	if (accepted == NULL)
		accepted = read_key(digest);
	if (accepted != NULL)
	{
		row = palloc(accepted->length);
		memcpy(row, &accepted->row, accepted->length);
		if (oa_use_is_due(&accepted->recorded_at))
			record_use(row);
	}
	oa_secrecy_end(&secrecy);
	return row;
}

/*
 * overten_verify_key(secret text)
 *		returns key_id, org_id, org_name, tier, webhook_secret, key_prefix
 *
 * NULL for anything that is not an active key of an org that is not
 * suspended.  Raises 55000 on a standby where that is not allowed.
 */
Datum
overten_verify_key(PG_FUNCTION_ARGS)
{
	uint8		digest[OA_DIGEST_LEN];
	text	   *secret;
	HeapTupleHeader row;

	/* Looked at before detoasting, so that 1 GB of text costs nothing. */
	if (toast_raw_datum_size(PG_GETARG_DATUM(0)) != OA_SECRET_LEN + VARHDRSZ)
		PG_RETURN_NULL();

	secret = PG_GETARG_TEXT_PP(0);
	if (!oa_is_secret_shaped(VARDATA_ANY(secret), VARSIZE_ANY_EXHDR(secret)))
		PG_RETURN_NULL();

	oa_digest(VARDATA_ANY(secret), OA_SECRET_LEN, digest);
	row = verify(digest);
	if (row == NULL)
		PG_RETURN_NULL();
	PG_RETURN_HEAPTUPLEHEADER(row);
}

/*
 * overten_verify_key_digest(digest bytea)
 *
 * The same from the SHA-256 of a secret, for callers who hash before they
 * call.  Anything that has not 32 bytes is refused.
 */
Datum
overten_verify_key_digest(PG_FUNCTION_ARGS)
{
	bytea	   *digest;
	HeapTupleHeader row;

	if (toast_raw_datum_size(PG_GETARG_DATUM(0)) != OA_DIGEST_LEN + VARHDRSZ)
		PG_RETURN_NULL();

	digest = PG_GETARG_BYTEA_PP(0);
	row = verify((const uint8 *) VARDATA_ANY(digest));
	if (row == NULL)
		PG_RETURN_NULL();
	PG_RETURN_HEAPTUPLEHEADER(row);
}
