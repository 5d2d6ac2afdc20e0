/*
 * key_details.c
 *		The names of keys, their descriptions and metadata.
 *
 * Descriptions and metadata are in a table of their own, which verification
 * never reads, so changing them does not touch any cache.  A name is a column of
 * api_keys.  Changing it removes this one key from the caches.
 */
#include "postgres.h"

#include "access/detoast.h"
#include "catalog/pg_type.h"
#include "mb/pg_wchar.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/jsonb.h"

#include "keys/keys.h"
#include "server/server.h"
#include "text/text.h"

/* A jsonb whose text is short enough has less than this. */
#define METADATA_STORED_MAX		(16 * OA_METADATA_MAX)
#define LENGTH_RULE		"must have at most 4096 bytes"

PG_FUNCTION_INFO_V1(overten_key_details);
PG_FUNCTION_INFO_V1(overten_rename_key);
PG_FUNCTION_INFO_V1(overten_set_key_details);

/*
 * Is the text of all numbers together short enough?  A number of a few bytes
 * such as 1e100000 can have a long text.  So we stop at the first that is too
 * long.
 */
static bool
has_short_numbers(Jsonb *metadata)
{
	JsonbIterator *iterator = JsonbIteratorInit(&metadata->root);
	JsonbIteratorToken token;
	JsonbValue	value;
	Size		length = 0;

	while ((token = JsonbIteratorNext(&iterator, &value, false)) != WJB_DONE)
	{
		char	   *number;

		if ((token != WJB_VALUE && token != WJB_ELEM) ||
			value.type != jbvNumeric)
			continue;
		number = DatumGetCString(DirectFunctionCall1(numeric_out,
													 NumericGetDatum(value.val.numeric)));
		length += strlen(number);
		pfree(number);
		if (length > OA_METADATA_MAX)
			return false;
	}
	return true;
}

/* Return the rule that metadata break, or NULL. */
static const char *
broken_rule(Jsonb *metadata)
{
	StringInfoData out;
	const char *utf8;
	int			length;

	if (!JB_ROOT_IS_OBJECT(metadata))
		return "must be an object";
	if (!has_short_numbers(metadata))
		return LENGTH_RULE;
	initStringInfo(&out);
	JsonbToCString(&out, &metadata->root, VARSIZE(metadata));
	utf8 = oa_server_to_utf8(out.data, out.len, &length);
	if (utf8 == NULL || !pg_verify_mbstr(PG_UTF8, utf8, length, true))
		return oa_text_rule(OA_TEXT_ENCODING, 0);
	return length > OA_METADATA_MAX ? LENGTH_RULE : NULL;
}

/*
 * Check the metadata of a key, a jsonb that is not detoasted yet.  Returns it,
 * or NULL and the fault.
 */
Jsonb	   *
oa_check_metadata(Datum metadata, OaFault *fault)
{
	Jsonb	   *value;

	fault->param = "metadata";
	fault->rule = LENGTH_RULE;
	if (toast_raw_datum_size(metadata) > VARHDRSZ + METADATA_STORED_MAX)
		return NULL;

	value = DatumGetJsonbP(metadata);
	fault->rule = broken_rule(value);
	return fault->rule == NULL ? value : NULL;
}

/*
 * Does the org have this key?  If so, it is not purged until this transaction
 * ends, as purging removes the details that are there.
 */
static bool
lock_key(text *org_id, text *key_id)
{
	static OaStatement lock = {
		.table = "api_keys",
		.text = "SELECT 1 FROM overten_auth.api_keys "
		"WHERE key_id = $2 AND org_id = $1 AND erased_at IS NULL FOR SHARE",
		.argtypes = {TEXTOID, TEXTOID},
	};
	Datum		values[] = {PointerGetDatum(org_id), PointerGetDatum(key_id)};

	return oa_statement_run(&lock, values, NULL) > 0;
}

/*
 * Set the description and the metadata of a key, as far as they are given.
 * "uid" is the person who asked for it, or NULL.  The caller has checked them.
 * Sets *changed to whether that changed anything.  Returns false if the org does
 * not have the key.
 */
bool
oa_set_key_details(text *org_id, text *key_id, text *uid,
				   const OaKeyDetails *details, bool *changed)
{
	static OaStatement set = {
		.table = "key_details",
		.text = "INSERT INTO overten_auth.key_details AS d "
		"(key_id, description, metadata) SELECT $1, $2, $3 "
		"WHERE $2 IS NOT NULL OR $3 IS NOT NULL OR EXISTS "
		"(SELECT FROM overten_auth.key_details WHERE key_id = $1) "
		"ON CONFLICT (key_id) DO UPDATE SET "
		"description = CASE WHEN $4 THEN $2 ELSE d.description END, "
		"metadata = CASE WHEN $5 THEN $3 ELSE d.metadata END "
		"WHERE ($4 AND d.description IS DISTINCT FROM $2) "
		"OR ($5 AND d.metadata IS DISTINCT FROM $3)",
		.argtypes = {TEXTOID, TEXTOID, JSONBOID, BOOLOID, BOOLOID},
	};
	Datum		values[] = {
		PointerGetDatum(key_id),
		PointerGetDatum(details->description),
		PointerGetDatum(details->metadata),
		BoolGetDatum(details->has_description),
		BoolGetDatum(details->has_metadata),
	};
	const bool	nulls[lengthof(values)] = {
		[1] = (details->description == NULL),
		[2] = (details->metadata == NULL),
	};
	int			level = oa_statements_begin();
	bool		found = lock_key(org_id, key_id);

	*changed = false;
	if (found)
		*changed = oa_statement_run(&set, values, nulls) > 0;
	if (*changed)
		oa_audit("set_key_details", org_id, key_id, uid, NULL);
	oa_statements_end(level);
	return found;
}

/*
 * Read the description and the metadata of a key, in the caller's memory.  They
 * are NULL if they are not set.
 */
void
oa_get_key_details(text *key_id, OaKeyDetails *details)
{
	static OaStatement get = {
		.table = "key_details",
		.text = "SELECT description, metadata FROM overten_auth.key_details "
		"WHERE key_id = $1",
		.argtypes = {TEXTOID},
	};
	Datum		values[] = {PointerGetDatum(key_id)};
	int			level = oa_statements_begin();

	memset(details, 0, sizeof(*details));
	if (oa_statement_run(&get, values, NULL) > 0)
	{
		details->description = oa_statement_text_or_null(0, 1);
		details->metadata = (Jsonb *)
			oa_statement_varlena_or_null(0, 2, JSONBOID);
	}
	oa_statements_end(level);
}

/*
 * Write the description and the metadata of a new key, unless both are NULL.
 * Must be called between oa_statements_begin() and _end().
 */
void
oa_insert_key_details(text *key_id, text *description, Jsonb *metadata)
{
	static OaStatement insert = {
		.table = "key_details",
		.text = "INSERT INTO overten_auth.key_details "
		"(key_id, description, metadata) VALUES ($1, $2, $3)",
		.argtypes = {TEXTOID, TEXTOID, JSONBOID},
	};
	Datum		values[] = {
		PointerGetDatum(key_id),
		PointerGetDatum(description),
		PointerGetDatum(metadata),
	};
	const bool	nulls[lengthof(values)] = {
		[1] = (description == NULL),
		[2] = (metadata == NULL),
	};

	if (description != NULL || metadata != NULL)
		oa_statement_run(&insert, values, nulls);
}

/*
 * Give a key another name, which the caller has checked.  Returns false if the
 * org does not have the key.
 */
bool
oa_rename_key(text *org_id, text *key_id, text *uid, text *name,
			  bool *changed)
{
	static OaStatement update = {
		.table = "api_keys",
		.text = "UPDATE overten_auth.api_keys SET name = $3 "
		"WHERE key_id = $2 AND org_id = $1 AND name <> $3 "
		"AND erased_at IS NULL",
		.argtypes = {TEXTOID, TEXTOID, TEXTOID},
	};
	Datum		values[] = {
		PointerGetDatum(org_id),
		PointerGetDatum(key_id),
		PointerGetDatum(name),
	};
	int			level = oa_statements_begin();
	bool		found;

	*changed = oa_statement_run(&update, values, NULL) > 0;
	if (*changed)
		oa_audit("rename_key", org_id, key_id, uid, name);
	found = *changed || oa_org_has_key(org_id, key_id);
	oa_statements_end(level);
	return found;
}

/*
 * overten_rename_key(org_id text, key_id text, name text) returns boolean
 *
 * Returns true if that changed the name.  Errors: 22004, 22023, 42704.
 */
Datum
overten_rename_key(PG_FUNCTION_ARGS)
{
	text	   *org_id = oa_text_argument(fcinfo, 0, "org_id");
	text	   *key_id = oa_text_argument(fcinfo, 1, "key_id");
	text	   *name = oa_name_argument(fcinfo, 2, "key name",
										OA_KEY_NAME_MAX);
	bool		changed;

	if (!oa_rename_key(org_id, key_id, NULL, name, &changed))
		oa_key_missing(org_id, key_id);
	PG_RETURN_BOOL(changed);
}

/*
 * overten_set_key_details(org_id text, key_id text, description text,
 * 						   metadata jsonb) returns boolean
 *
 * Both replace what is there; NULL removes it.  Returns true if that changed
 * anything.  Errors: 22004, 22023, 42704.
 */
Datum
overten_set_key_details(PG_FUNCTION_ARGS)
{
	text	   *org_id = oa_text_argument(fcinfo, 0, "org_id");
	text	   *key_id = oa_text_argument(fcinfo, 1, "key_id");
	OaKeyDetails details = {.has_description = true,.has_metadata = true};
	OaFault		fault;
	bool		changed;

	details.description = oa_optional_name_argument(fcinfo, 2, "description",
													OA_DESCRIPTION_MAX);
	if (!PG_ARGISNULL(3))
	{
		details.metadata = oa_check_metadata(PG_GETARG_DATUM(3), &fault);
		if (details.metadata == NULL)
			oa_refuse_fault(&fault);
	}

	if (!oa_set_key_details(org_id, key_id, NULL, &details, &changed))
		oa_key_missing(org_id, key_id);
	PG_RETURN_BOOL(changed);
}

/*
 * overten_key_details(org_id text, key_id text)
 * 		returns description text, metadata jsonb
 *
 * Returns one row; what is not set is NULL.  Errors: 22004, 42704.
 */
Datum
overten_key_details(PG_FUNCTION_ARGS)
{
	static const Oid types[] = {TEXTOID, JSONBOID};
	text	   *org_id = oa_text_argument(fcinfo, 0, "org_id");
	text	   *key_id = oa_text_argument(fcinfo, 1, "key_id");
	OaKeyDetails details;
	Datum		values[lengthof(types)];
	bool		nulls[lengthof(types)];
	int			level;

	level = oa_statements_begin();
	oa_require_key(org_id, key_id);
	oa_statements_end(level);

	oa_get_key_details(key_id, &details);
	values[0] = PointerGetDatum(details.description);
	nulls[0] = (details.description == NULL);
	values[1] = PointerGetDatum(details.metadata);
	nulls[1] = (details.metadata == NULL);
	return oa_result_row(fcinfo, types, lengthof(types), values, nulls);
}
