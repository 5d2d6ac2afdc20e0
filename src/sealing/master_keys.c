/*
 * master_keys.c
 *		The master keys of a backend, which seal and open webhook secrets.
 *
 * The first key of the file seals; every key opens.  The file is the only
 * place that holds the keys: they are in no table, no dump, no WAL and no
 * setting.
 *
 * A backend reads the file when it first needs a key.  It reads the file again
 * after a reload of the configuration.  If the file has changed, it also reads
 * the file again when it seals, and when it needs a key that it does not have.
 * If the file is missing or not good, a backend keeps the keys that it has: it
 * still opens with them, but does not seal.
 *
 * The keys live in a memory context of their own, whose callback clears them
 * and frees OpenSSL's copies.  A key that we return is valid until the next
 * call into this file.  Nothing raises while a value is opened.
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
	MemoryContext context;		/* the context that holds this struct */
	MemoryContextCallback callback;
	int			count;
	OaMasterKey keys[OA_MASTER_KEYS_MAX];	/* in file order */
} MasterKeys;

static MasterKeys *held = NULL; /* from the last good file */

/* The file as we last read it, and the time of the last reload before that. */
static OaMasterKeyFile file;
static bool file_read = false;
static TimestampTz file_read_under;

PG_FUNCTION_INFO_V1(overten_master_key_ids);

/* Clear the keys: the callback of a context that holds some. */
static void
clear_key_set(void *arg)
{
	MasterKeys *keys = arg;

	for (int i = 0; i < keys->count; i++)
		EVP_CIPHER_CTX_free(keys->keys[i].opener);
	explicit_bzero(keys->keys, sizeof(keys->keys));
}

/* Create an empty set.  The caller's context owns it until we keep it. */
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

/* Read the file.  The held keys change only if the file is good. */
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

/* Must we read the file, because we have not done so since the last reload? */
static bool
is_due(void)
{
	return !file_read || file_read_under != PgReloadTime;
}

/* Find a held key by its id.  Returns NULL if we do not have it. */
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
 * Return the key that seals.  Creates the file if it is missing and we may
 * create it.  Raises 55000 if there is no key, and 25006 if we would have to
 * create one in a read-only transaction.
 */
OaMasterKey *
oa_sealing_key(void)
{
	if (is_due() || oa_master_key_file_has_changed(&file))
		read_file();
	if (file.missing)
	{
		/* If we may not create it, another session may just have done so. */
		if (oa_may_make_master_key())
			oa_make_master_key_file();
		read_file();
	}
	if (file.problem[0] != '\0')
		oa_no_master_key(file.problem, file.hint);

	oa_settle_master_key_file();
	return &held->keys[0];
}

/* Return the key with this id, or NULL.  Does not raise. */
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

/* Return the n-th key (from 0) of the file as we last read it, or NULL. */
OaMasterKey *
oa_master_key(int n)
{
	return held != NULL && n < held->count ? &held->keys[n] : NULL;
}

/*
 * Say in a sentence what was wrong with the file when we last read it.
 * Returns "" if it was good.
 */
const char *
oa_master_key_problem(void)
{
	return file.problem;
}

/*
 * Say in a sentence how to get a key that we did not find: repair the file, or
 * add the key to it.
 */
const char *
oa_master_key_hint(void)
{
	return file.problem[0] != '\0' ? file.hint :
		"Add the key to the file that overten_auth.master_key_file names; the server that sealed these values has it in its file.";
}

/*
 * Return the ids of the keys in the file, in hex, in file order.  The array is
 * empty if the file is not good, because a new session would have no key then.
 * Does not raise.
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
 * Return the ids of the keys that values in this database are sealed with, in
 * hex, sorted.  A previous secret counts while it still signs.
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
		"WHERE v.sealed IS NOT NULL AND o.erased_at IS NULL GROUP BY 1 ORDER BY 1)",
	};
	ArrayType  *result;
	int			level;

	level = oa_statements_begin();
	oa_statement_run(&find_ids, NULL, NULL);
	result = (ArrayType *)
		oa_statement_varlena(0, 1, TEXTARRAYOID);
	oa_statements_end(level);
	return result;
}

/*
 * Return a sentence if one of the needed keys is not present, or NULL.  The
 * arguments are the results of the two functions above.
 */
const char *
oa_missing_master_key(ArrayType *needed, ArrayType *present)
{
	static OaStatement find = {
		.table = "orgs",
		.text = "SELECT format('Master key %s is missing.', min(id)) "
		"FROM unnest($1) id WHERE id <> ALL ($2) HAVING count(*) > 0",
		.argtypes = {TEXTARRAYOID, TEXTARRAYOID},
	};
	Datum		values[] = {PointerGetDatum(needed), PointerGetDatum(present)};
	text	   *missing = NULL;
	int			level = oa_statements_begin();

	if (oa_statement_run(&find, values, NULL) > 0)
		missing = oa_statement_text(0, 1);
	oa_statements_end(level);
	if (missing == NULL)
		return NULL;
	return file.problem[0] == '\0' ? text_to_cstring(missing) :
		psprintf("%s %s", text_to_cstring(missing), file.problem);
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
