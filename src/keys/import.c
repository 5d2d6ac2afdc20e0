/*
 * import.c
 *		Imports keys of the same shape that were minted elsewhere.
 *
 * Keys come as plain SHA-256 digests with the visible characters, so that a
 * team can migrate while its customers keep using their keys.  Verification
 * needs only a key's digest.
 *
 * One key and a million keys take the same path.  We check the rows one by
 * one, give them ids, and write them in batches, with one statement per table
 * and batch.  Either all rows are written or none are.  We do not leave
 * conflicts to the unique index, because its error would not tell the row's
 * number.  The INSERT skips rows that conflict, we count the rows that it
 * wrote, and then look for the conflict.  Neither messages nor the log show a
 * digest, because a digest is a credential to roles that may execute
 * overten_verify_key_digest().
 */
#include "postgres.h"

#include "access/detoast.h"
#include "access/xact.h"
#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "keys/keys.h"
#include "orgs/orgs.h"
#include "server/server.h"

#define BATCH_ROWS	10000
#define KEYS_MAX	(10 * 1000 * 1000)	/* per call */

/* The columns of an import, and the parameters of its statements. */
enum
{
	ORG_ID, NAME, DIGEST, PREFIX,
	REQUIRED_COLUMNS,
	CREATED_AT = REQUIRED_COLUMNS, EXPIRES_AT, SCOPES, ALLOWED_ADDRESSES,
	GIVEN_COLUMNS,
	KEY_ID = GIVEN_COLUMNS, ENVIRONMENT,
	COLUMNS
};

#define COLUMN_ARRAY_TYPES \
	{TEXTARRAYOID, TEXTARRAYOID, BYTEAARRAYOID, TEXTARRAYOID, \
	TIMESTAMPTZARRAYOID, TIMESTAMPTZARRAYOID, TEXTARRAYOID, TEXTARRAYOID, \
	TEXTARRAYOID, TEXTARRAYOID}

/*
 * The lists of a key are the text of an array, because arrays of arrays of
 * different lengths do not exist.
 */

static const struct
{
	const char *name;			/* of one value, in messages */
	const char *plural;			/* of the array */
	Oid			type;
	int16		length;
	bool		by_value;
	char		align;
}			columns[COLUMNS] = {
	[ORG_ID] = {"org_id", "org_ids", TEXTOID, -1, false, TYPALIGN_INT},
	[NAME] = {"key name", "names", TEXTOID, -1, false, TYPALIGN_INT},
	[DIGEST] = {"digest", "digests", BYTEAOID, -1, false, TYPALIGN_INT},
	[PREFIX] = {"prefix", "prefixes", TEXTOID, -1, false, TYPALIGN_INT},
	[CREATED_AT] = {"created_at", "created_at", TIMESTAMPTZOID,
	sizeof(TimestampTz), FLOAT8PASSBYVAL, TYPALIGN_DOUBLE},
	[EXPIRES_AT] = {"expires_at", "expires_at", TIMESTAMPTZOID,
	sizeof(TimestampTz), FLOAT8PASSBYVAL, TYPALIGN_DOUBLE},
	[SCOPES] = {"scopes", "scopes", TEXTOID, -1, false, TYPALIGN_INT},
	[ALLOWED_ADDRESSES] = {"allowed_addresses", "allowed_addresses", TEXTOID,
	-1, false, TYPALIGN_INT},
	[KEY_ID] = {"key_id", "key_ids", TEXTOID, -1, false, TYPALIGN_INT},
	[ENVIRONMENT] = {"environment", "environments", TEXTOID, -1, false,
	TYPALIGN_INT},
};

/* An import, and its current row. */
typedef struct Import
{
	int			count;
	Datum	   *values[COLUMNS];	/* each has "count" values */
	bool	   *nulls[GIVEN_COLUMNS];
	TimestampTz now;
	int			row;			/* the row that we check, from 0; or -1 */
} Import;

PG_FUNCTION_INFO_V1(overten_import_key);
PG_FUNCTION_INFO_V1(overten_import_keys);

/* Raise 22023 about a value of a row. */
pg_noreturn static void
refuse_value(const char *message)
{
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("%s", message)));
}

/*
 * Check what restricts the key of the current row.  A key that has expired
 * already can be imported, as it may have expired on the way to us.  It was
 * not minted here, so overten_auth.max_key_lifetime is not about it.
 */
static void
check_restrictions(Import *import)
{
	int			row = import->row;
	OaFault		fault;
	ArrayType  *array;

	if (!import->nulls[EXPIRES_AT][row] &&
		!oa_check_expiry_year(DatumGetTimestampTz(import->values[EXPIRES_AT][row]),
							  &fault))
		oa_refuse_fault(&fault);
	if (!import->nulls[SCOPES][row])
	{
		array = oa_read_list(import->values[SCOPES][row], TEXTOID);
		if (!oa_check_scopes(&array, false, &fault))
			oa_refuse_fault(&fault);
		import->values[SCOPES][row] = PointerGetDatum(oa_list_text(array));
	}
	if (!import->nulls[ALLOWED_ADDRESSES][row])
	{
		array = oa_read_list(import->values[ALLOWED_ADDRESSES][row], CIDROID);
		if (!oa_check_allowed_addresses(&array, &fault))
			oa_refuse_fault(&fault);
		import->values[ALLOWED_ADDRESSES][row] =
			PointerGetDatum(oa_list_text(array));
	}
}

/* Check the current row, and give it an id. */
static void
check_row(Import *import)
{
	int			row = import->row;
	Datum		values[GIVEN_COLUMNS];
	text	   *prefix;
	OaEnvironment environment;
	TimestampTz created_at;

	for (int column = 0; column < GIVEN_COLUMNS; column++)
	{
		values[column] = import->values[column][row];
		if (column < REQUIRED_COLUMNS && import->nulls[column][row])
			oa_refuse_null(columns[column].name);
	}

	import->values[NAME][row] =
		PointerGetDatum(oa_check_name(values[NAME], columns[NAME].name,
									  OA_KEY_NAME_MAX));

	if (toast_raw_datum_size(values[DIGEST]) != VARHDRSZ + OA_DIGEST_LEN)
		refuse_value("digest must have 32 bytes, the SHA-256 of the key");

	prefix = DatumGetTextPP(values[PREFIX]);
	if (!oa_is_prefix_shaped(VARDATA_ANY(prefix), VARSIZE_ANY_EXHDR(prefix),
							 &environment))
		refuse_value("prefix must be one of overten_auth.key_prefixes and 4 alphanumeric characters");
	import->values[ENVIRONMENT][row] =
		CStringGetTextDatum(oa_environment_name(environment));

	created_at = import->nulls[CREATED_AT][row] ? import->now :
		DatumGetTimestampTz(values[CREATED_AT]);
	if (created_at < SetEpochTimestamp() || created_at > import->now)
		refuse_value("created_at must be between 1970 and now");
	import->values[CREATED_AT][row] = TimestampTzGetDatum(created_at);
	import->nulls[CREATED_AT][row] = false;

	check_restrictions(import);
	import->values[KEY_ID][row] = PointerGetDatum(oa_make_id("key_"));
}

/*
 * Report why a batch was not written as a whole. "arrays" are its parameters.
 */
pg_noreturn static void
report_conflict(Import *import, int first, const Datum *arrays)
{
	static OaStatement find = {
		.table = "api_keys",
		.text = "SELECT i.position::int4, o.org_id IS NULL, "
		"o.closed_at IS NOT NULL "
		"FROM unnest($9, $1) "
		"WITH ORDINALITY AS i (key_id, org_id, position) "
		"LEFT JOIN overten_auth.orgs o ON o.org_id = i.org_id "
		"AND o.erased_at IS NULL "
		"LEFT JOIN overten_auth.api_keys k ON k.key_id = i.key_id "
		"WHERE k.key_id IS NULL ORDER BY i.position LIMIT 1",
		.argtypes = COLUMN_ARRAY_TYPES,
	};

	if (oa_statement_run(&find, arrays, NULL) != 1)
		elog(ERROR, "the imported keys are not there");
	import->row = first + DatumGetInt32(oa_statement_result(0, 1, INT4OID, NULL)) - 1;
	if (oa_statement_bool(0, 2))
		oa_org_missing(DatumGetTextPP(import->values[ORG_ID][import->row]));
	if (oa_statement_bool(0, 3))
		oa_org_closed();
	ereport(ERROR,
			(errcode(ERRCODE_UNIQUE_VIOLATION),
			 errmsg("a key with the digest given for \"%s\" exists already",
					text_to_cstring(DatumGetTextPP(import->values[PREFIX][import->row]))),
			 errdetail("It was minted or imported before, or this import contains it twice."),
			 errhint("Leave the key out of the import.")));
}

/* Write rows that have been checked. */
static void
write_rows(Import *import, int first, int count)
{
	static OaStatement insert_keys = {
		.table = "api_keys",
		.text = "INSERT INTO overten_auth.api_keys "
		"(org_id, name, digest, prefix, created_at, expires_at, scopes, "
		"allowed_addresses, key_id, environment) "
		"SELECT o.org_id, i.name, i.digest, i.prefix, i.created_at, "
		"i.expires_at, i.scopes::text[], i.allowed_addresses::cidr[], "
		"i.key_id, i.environment "
		"FROM unnest($1, $2, $3, $4, $5, $6, $7, $8, $9, $10) "
		"AS i (org_id, name, digest, prefix, created_at, expires_at, scopes, "
		"allowed_addresses, key_id, environment) "
		"JOIN overten_auth.orgs o "
		"ON o.org_id = i.org_id AND o.closed_at IS NULL "
		"AND o.erased_at IS NULL FOR KEY SHARE OF o "
		"ON CONFLICT (digest) DO NOTHING",
		.argtypes = COLUMN_ARRAY_TYPES,
	};
	static OaStatement insert_last_used = {
		.table = "key_last_used",
		.text = "INSERT INTO overten_auth.key_last_used (key_id) "
		"SELECT i.key_id FROM unnest($9) AS i (key_id)",
		.argtypes = COLUMN_ARRAY_TYPES,
	};
	static OaStatement audit = {
		.table = "audit_log",
		.text = "INSERT INTO overten_auth.audit_log "
		"(action, org_id, key_id, actor, detail) "
		"SELECT 'import_key', i.org_id, i.key_id, SESSION_USER, i.name "
		"FROM unnest($1, $9, $2) AS i (org_id, key_id, name)",
		.argtypes = COLUMN_ARRAY_TYPES,
	};
	Datum		arrays[COLUMNS];
	int			level;

	for (int column = 0; column < COLUMNS; column++)
	{
		bool	   *nulls = NULL;
		int			lower_bound = 1;

		if (column < GIVEN_COLUMNS)
			nulls = import->nulls[column] + first;
		arrays[column] =
			PointerGetDatum(construct_md_array(import->values[column] + first,
											   nulls, 1, &count, &lower_bound,
											   columns[column].type,
											   columns[column].length,
											   columns[column].by_value,
											   columns[column].align));
	}

	level = oa_statements_begin();
	if (oa_statement_run(&insert_keys, arrays, NULL) != count)
		report_conflict(import, first, arrays);
	oa_statement_run(&insert_last_used, arrays, NULL);
	oa_statement_run(&audit, arrays, NULL);
	oa_statements_end(level);
}

/*
 * Import keys.  Raises 22004, 22023, 42704 or 23505 for the first row that we
 * cannot accept, and sets import->row to it.
 */
static void
import_keys(Import *import)
{
	MemoryContext batch = AllocSetContextCreate(CurrentMemoryContext,
												"overten_auth import",
												ALLOCSET_DEFAULT_SIZES);
	MemoryContext caller = MemoryContextSwitchTo(batch);

	import->now = GetCurrentTimestamp();
	for (int first = 0; first < import->count; first += BATCH_ROWS)
	{
		int			count = Min(import->count - first, BATCH_ROWS);

		for (int i = 0; i < count; i++)
		{
			CHECK_FOR_INTERRUPTS();
			import->row = first + i;
			check_row(import);
		}
		import->row = -1;
		write_rows(import, first, count);
		/* Keep the last batch, because a single import returns its id. */
		if (first + count < import->count)
			MemoryContextReset(batch);
	}
	MemoryContextSwitchTo(caller);
	ForceSyncCommit();
}

/*
 * overten_import_key(org_id text, name text, digest bytea, prefix text,
 * 		created_at timestamptz, expires_at timestamptz, scopes text[],
 * 		allowed_addresses cidr[]) returns text
 *
 * Imports one key and returns its id. created_at may be NULL, which means now;
 * the last three may be NULL, which means no restriction.  Errors: 22004, 22023,
 * 42704, 23505.
 */
Datum
overten_import_key(PG_FUNCTION_ARGS)
{
	ErrorContextCallback secrecy;
	Import		import = {.count = 1};
	Datum		values[COLUMNS];
	bool		nulls[GIVEN_COLUMNS];

	oa_secrecy_begin(&secrecy);
	for (int column = 0; column < COLUMNS; column++)
		import.values[column] = &values[column];
	for (int column = 0; column < GIVEN_COLUMNS; column++)
	{
		nulls[column] = PG_ARGISNULL(column);
		import.nulls[column] = &nulls[column];
		if ((column == SCOPES || column == ALLOWED_ADDRESSES) && !nulls[column])
			values[column] =
				PointerGetDatum(oa_list_text(PG_GETARG_ARRAYTYPE_P(column)));
		else
			values[column] = PG_GETARG_DATUM(column);
	}
	import_keys(&import);
	oa_secrecy_end(&secrecy);
	PG_RETURN_DATUM(values[KEY_ID]);
}

/*
 * Error context callback: name the row that an error is about, as COPY does.
 */
static void
name_row(void *import)
{
	int			row = ((Import *) import)->row;

	if (row >= 0)
		errcontext("overten_import_keys, row %d", row + 1);
}

/*
 * overten_import_keys(org_ids text[], names text[], digests bytea[],
 * 		prefixes text[], created_at timestamptz[], expires_at timestamptz[],
 * 		scopes text[], allowed_addresses text[]) returns bigint
 *
 * Likewise for many keys; each array has one value per key, which for scopes
 * and addresses is the text of an array. created_at and what follows may also
 * be NULL as a whole.  Returns how many keys were imported, which is always all
 * of them.  Errors as above, and 22P02, with the row in the context.
 */
Datum
overten_import_keys(PG_FUNCTION_ARGS)
{
	ErrorContextCallback secrecy;
	ErrorContextCallback context;
	Import		import = {.row = -1};

	oa_secrecy_begin(&secrecy);
	for (int column = 0; column < GIVEN_COLUMNS; column++)
	{
		ArrayType  *array;
		int			count;

		if (column >= REQUIRED_COLUMNS && PG_ARGISNULL(column))
		{
			import.values[column] = palloc(import.count * sizeof(Datum));
			import.nulls[column] = palloc(import.count * sizeof(bool));
			memset(import.nulls[column], true, import.count);
			continue;
		}
		oa_require_argument(fcinfo, column, columns[column].plural);
		array = PG_GETARG_ARRAYTYPE_P(column);
		count = ArrayGetNItems(ARR_NDIM(array), ARR_DIMS(array));
		if (count > KEYS_MAX)
			refuse_value("the arrays must not have more than 10 million values");
		if (column > 0 && count != import.count)
			refuse_value("the arrays must have one value for each key");
		import.count = count;
		deconstruct_array(array, columns[column].type,
						  columns[column].length, columns[column].by_value,
						  columns[column].align, &import.values[column],
						  &import.nulls[column], &count);
		CHECK_FOR_INTERRUPTS();
	}
	for (int column = GIVEN_COLUMNS; column < COLUMNS; column++)
		import.values[column] = palloc(import.count * sizeof(Datum));

	context.callback = name_row;
	context.arg = &import;
	context.previous = error_context_stack;
	error_context_stack = &context;
	import_keys(&import);
	error_context_stack = context.previous;
	oa_secrecy_end(&secrecy);
	PG_RETURN_INT64(import.count);
}
