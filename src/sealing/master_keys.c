/*
 * master_keys.c
 *		The master keys of a backend, which webhook secrets are sealed with.
 *
 * The first key of the file seals, all open.  The file is all there is of them:
 * they are in no table, no dump, no WAL and no setting.
 *
 * A backend reads the file when it first needs a key, and again after a reload
 * of the configuration, when it seals and the file has changed, and when it
 * misses a key and the file has changed.  A file that is missing or not good
 * takes away no key that the backend has: with those it still opens, but it
 * does not seal.
 *
 * Keys live in a memory context of their own, whose callback clears them and
 * frees OpenSSL's copies.  A key that is returned is there until the next call
 * into this file.  Nothing raises on the way of opening.
 */
#include "postgres.h"

#include <openssl/evp.h>

#include "access/htup_details.h"
#include "catalog/pg_type.h"
#include "funcapi.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "sealing/master_keys.h"
#include "sealing/sealing.h"
#include "server/server.h"

typedef struct MasterKeys
{
	MemoryContext context;		/* holds this */
	MemoryContextCallback callback;
	int			count;
	OaMasterKey keys[OA_MASTER_KEYS_MAX];	/* in the order of the file */
} MasterKeys;

static MasterKeys *held = NULL; /* from the last file that was good */

/* The file as it was last read, and the configuration that was under. */
static OaMasterKeyFile file;
static bool file_read = false;
static TimestampTz file_read_under;

PG_FUNCTION_INFO_V1(overten_master_key_ids);

/* The callback of a context that holds keys. */
static void
clear_key_set(void *arg)
{
	MasterKeys *keys = arg;

	for (int i = 0; i < keys->count; i++)
		EVP_CIPHER_CTX_free(keys->keys[i].opener);
	explicit_bzero(keys->keys, sizeof(keys->keys));
}

/* An empty set, which the caller's context owns until it is kept. */
static MasterKeys *
create_key_set(void)
{
	MemoryContext context = AllocSetContextCreate(CurrentMemoryContext,
												  "overten_auth master keys",
												  ALLOCSET_SMALL_SIZES);
	MasterKeys *keys = MemoryContextAllocZero(context, sizeof(MasterKeys));

	keys->context = context;
	keys->callback.func = clear_key_set;
	keys->callback.arg = keys;
	MemoryContextRegisterResetCallback(context, &keys->callback);
	return keys;
}

/* Read the file; what is held changes only if it is good. */
static void
read_file(void)
{
	MasterKeys *keys = create_key_set();
	bool		good;

	file_read = false;
	good = oa_read_master_key_file(&file, keys->keys);
	for (int i = 0; good && i < file.count; i++)
	{
		uint8		digest[OA_DIGEST_LEN];

		oa_digest((const char *) keys->keys[i].bytes, OA_MASTER_KEY_LEN,
				  digest);
		memcpy(keys->keys[i].id, digest, OA_MASTER_KEY_ID_LEN);
	}
	file_read = true;
	file_read_under = PgReloadTime;
	if (!good)
	{
		MemoryContextDelete(keys->context);
		return;
	}

	keys->count = file.count;
	MemoryContextSetParent(keys->context, TopMemoryContext);
	if (held != NULL)
		MemoryContextDelete(held->context);
	held = keys;
}

/* Has it not been read yet, or not since the configuration was? */
static bool
is_due(void)
{
	return !file_read || file_read_under != PgReloadTime;
}

/* The held key of an id, or NULL. */
static OaMasterKey *
find_held_key(const uint8 *id)
{
	for (int i = 0; held != NULL && i < held->count; i++)
	{
		if (memcmp(held->keys[i].id, id, OA_MASTER_KEY_ID_LEN) == 0)
			return &held->keys[i];
	}
	return NULL;
}

/*
 * The key that seals.  Makes the file if there is none and that is allowed.
 * Raises 55000 if there is no key; 25006 if one would have to be made in a
 * transaction that is read-only.
 */
OaMasterKey *
oa_sealing_key(void)
{
	if (is_due() || oa_master_key_file_has_changed(&file))
		read_file();
	if (file.missing)
	{
		/* If it may not be made, another session may have just made it. */
		if (oa_may_make_master_key())
			oa_make_master_key_file();
		read_file();
	}
	if (file.problem[0] != '\0')
		oa_no_master_key(file.problem);

	oa_settle_master_key_file();
	return &held->keys[0];
}

/* The key of this id, or NULL.  Raises nothing. */
OaMasterKey *
oa_find_master_key(const uint8 *id)
{
	OaMasterKey *key;

	if (is_due())
		read_file();
	key = find_held_key(id);
	if (key == NULL && oa_master_key_file_has_changed(&file))
	{
		read_file();
		key = find_held_key(id);
	}
	return key;
}

/* The key in this place of the file as it was last read, from 0; or NULL. */
OaMasterKey *
oa_master_key(int n)
{
	return held != NULL && n < held->count ? &held->keys[n] : NULL;
}

/* What is wrong with the file as it was last read, as a sentence; or "". */
const char *
oa_master_key_problem(void)
{
	return file.problem;
}

/*
 * The ids of the keys in the file, in hex, in its order.  None if it is not
 * good, for then a new session has none.  Raises nothing.
 */
ArrayType  *
oa_master_key_ids_present(void)
{
	Datum		ids[OA_MASTER_KEYS_MAX];
	int			count = 0;

	if (is_due() || oa_master_key_file_has_changed(&file))
		read_file();
	if (file.problem[0] == '\0')
	{
		for (; count < held->count; count++)
		{
			text	   *id = palloc(VARHDRSZ + 2 * OA_MASTER_KEY_ID_LEN);

			SET_VARSIZE(id, VARHDRSZ + 2 * OA_MASTER_KEY_ID_LEN);
			hex_encode((const char *) held->keys[count].id,
					   OA_MASTER_KEY_ID_LEN, VARDATA(id));
			ids[count] = PointerGetDatum(id);
		}
	}
	return construct_array(ids, count, TEXTOID, -1, false, TYPALIGN_INT);
}

/*
 * The ids of the keys that values in this database are sealed with, in hex, in
 * their order.  A previous secret counts while it still signs.
 */
ArrayType  *
oa_master_key_ids_needed(void)
{
	static OaStatement find_ids = {
		.table = "orgs",
		.latest = true,
		.text = "SELECT ARRAY("
		"SELECT encode(substr(v.sealed, 2, 8), 'hex') "
		"FROM overten_auth.orgs o, LATERAL (VALUES (o.webhook_secret_sealed), "
		"(CASE WHEN " OA_PREVIOUS_STILL_SIGNS " "
		"THEN o.previous_webhook_secret_sealed END)) v (sealed) "
		"WHERE v.sealed IS NOT NULL GROUP BY 1 ORDER BY 1)",
	};
	ArrayType  *result;
	bool		isnull;
	int			level;

	level = oa_statements_begin();
	oa_statement_run(&find_ids, NULL, NULL);
	result = (ArrayType *)
		DatumGetPointer(SPI_datumTransfer(oa_statement_result(0, 1, &isnull),
										  false, -1));
	oa_statements_end(level);
	return result;
}

/*
 * overten_auth.master_key_ids() returns needed text[], present text[]
 *
 * For overten_status(); see the two functions above.
 */
Datum
overten_master_key_ids(PG_FUNCTION_ARGS)
{
	static const Oid types[] = {TEXTARRAYOID, TEXTARRAYOID};
	Datum		values[lengthof(types)];

	values[0] = PointerGetDatum(oa_master_key_ids_needed());
	values[1] = PointerGetDatum(oa_master_key_ids_present());
	return oa_result_row(fcinfo, types, lengthof(types), values, NULL);
}
