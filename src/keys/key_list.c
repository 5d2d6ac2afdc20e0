/*
 * key_list.c
 *		Lists the keys of an org, or those that a filter selects.
 */
#include "postgres.h"

#include "utils/timestamp.h"

#include "keys/keys.h"
#include "orgs/orgs.h"
#include "server/server.h"

PG_FUNCTION_INFO_V1(overten_list_keys);
PG_FUNCTION_INFO_V1(overten_find_keys);

/* Arguments of overten_find_keys(). */
enum
{
	ARGUMENT_ORG_ID, ARGUMENT_STATUS, ARGUMENT_UNUSED_SINCE, ARGUMENT_LIMIT,
	ARGUMENT_AFTER, ARGUMENT_ENVIRONMENT, ARGUMENTS
};

/* Who is called back for each key, through call_back(). */
typedef struct Listing
{
	OaKeyCallback callback;
	void	   *argument;
} Listing;

/* Return a text of a row, which lasts as long as the row. */
static text *
row_text(int row, OaKeyColumn column)
{
	bool		isnull;
	Datum		value = oa_statement_result(row, column, TEXTOID, &isnull);

	return isnull ? NULL : DatumGetTextPP(value);
}

/* Likewise, an array. */
static ArrayType *
row_array(int row, OaKeyColumn column, Oid type)
{
	bool		isnull;
	Datum		value = oa_statement_result(row, column, type, &isnull);

	return isnull ? NULL : DatumGetArrayTypeP(value);
}

/* Pass a row on. */
static void
call_back(int row, TimestampTz last_used_at, void *argument)
{
	Listing    *listing = argument;
	OaListedKey key;

	key.key_id = row_text(row, OA_KEY_ID);
	key.name = row_text(row, OA_KEY_NAME);
	key.prefix = row_text(row, OA_KEY_PREFIX);
	key.created_at = oa_statement_time(row, OA_KEY_CREATED_AT, NULL);
	key.last_used_at = last_used_at;
	key.never_used = (last_used_at == 0);
	key.revoked_at = oa_statement_time(row, OA_KEY_REVOKED_AT, &key.not_revoked);
	key.expires_at = oa_statement_time(row, OA_KEY_EXPIRES_AT, &key.never_expires);
	key.disabled_at = oa_statement_time(row, OA_KEY_DISABLED_AT, &key.not_disabled);
	key.status = row_text(row, OA_KEY_STATUS);
	key.scopes = row_array(row, OA_KEY_SCOPES, TEXTARRAYOID);
	key.allowed_addresses = row_array(row, OA_KEY_ALLOWED_ADDRESSES, CIDRARRAYOID);
	key.created_by = row_text(row, OA_KEY_CREATED_BY);
	key.revoked_by = row_text(row, OA_KEY_REVOKED_BY);
	key.revoked_reason = row_text(row, OA_KEY_REVOKED_REASON);
	key.disabled_by = row_text(row, OA_KEY_DISABLED_BY);
	key.disabled_reason = row_text(row, OA_KEY_DISABLED_REASON);
	key.environment = row_text(row, OA_KEY_ENVIRONMENT);
	listing->callback(&key, listing->argument);
}

/*
 * Call back for each key of an org that a filter selects, in the order of
 * their creation.  The callback's argument is valid only during the call.
 */
OaKeyScanResult
oa_list_keys(text *org_id, const OaKeyFilter *filter, OaKeyCallback callback,
			 void *argument)
{
	Listing		listing = {callback, argument};

	return oa_scan_keys(org_id, filter, true, call_back, &listing);
}

/* Likewise for one key of an org.  Returns false if the org has no such key. */
bool
oa_show_key(text *org_id, text *key_id, OaKeyCallback callback, void *argument)
{
	Listing		listing = {callback, argument};

	return oa_read_key(org_id, key_id, call_back, &listing);
}

/* The set that is being returned. */
typedef struct KeySet
{
	FunctionCallInfo fcinfo;
	int			count;
} KeySet;

/* Return a row, with the time of the last use. */
static void
return_row(int row, TimestampTz last_used_at, void *argument)
{
	KeySet	   *set = argument;
	bool		isnull;
	TimestampTz stored = oa_statement_time(row, OA_KEY_LAST_USED_AT, &isnull);

	if (last_used_at == 0 || (!isnull && stored == last_used_at))
		oa_statement_return_row(set->fcinfo, row);
	else
		oa_statement_return_changed(set->fcinfo, row, OA_KEY_LAST_USED_AT,
									TimestampTzGetDatum(last_used_at));
	set->count++;
}

/* Return the keys of an org that a filter selects. */
static Datum
return_keys(FunctionCallInfo fcinfo, const OaKeyFilter *filter,
			bool all_columns)
{
	text	   *org_id = oa_text_argument(fcinfo, ARGUMENT_ORG_ID, "org_id");
	KeySet		set = {fcinfo};
	OaKeyScanResult result;

	oa_begin_set(fcinfo);
	result = oa_scan_keys(org_id, filter, all_columns, return_row, &set);
	if (set.count == 0)
	{
		int			level = oa_statements_begin();

		oa_require_org(org_id);
		if (result == OA_KEYS_NO_START)
			oa_require_key(org_id, filter->after);
		oa_statements_end(level);
	}
	return (Datum) 0;
}

/*
 * overten_list_keys(org_id text)
 * 		returns setof key_id, name, prefix, created_at, last_used_at, revoked_at
 *
 * Includes revoked keys, in the order of their creation.  Errors: 22004,
 * 42704.
 */
Datum
overten_list_keys(PG_FUNCTION_ARGS)
{
	const OaKeyFilter all = {0};

	return return_keys(fcinfo, &all, false);
}

/* Return the status to filter by, or NULL. */
static const char *
status_argument(FunctionCallInfo fcinfo)
{
	const char *bytes;
	char	   *status;
	int			length;

	if (PG_ARGISNULL(ARGUMENT_STATUS))
		return NULL;
	if (oa_bounded_argument(fcinfo, ARGUMENT_STATUS, NAMEDATALEN, &bytes,
							&length))
	{
		status = pnstrdup(bytes, length);
		if (oa_is_key_status(status))
			return status;
	}
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("status must be active, expired, revoked or disabled")));
}

/* Return the environment to filter by, or NULL. */
static const char *
environment_argument(FunctionCallInfo fcinfo)
{
	OaEnvironment environment;
	OaFault		fault;
	text	   *name;

	if (PG_ARGISNULL(ARGUMENT_ENVIRONMENT))
		return NULL;
	name = PG_GETARG_TEXT_PP(ARGUMENT_ENVIRONMENT);
	if (!oa_parse_environment(VARDATA_ANY(name), VARSIZE_ANY_EXHDR(name),
							  &environment, &fault))
		oa_refuse_fault(&fault);
	return oa_environment_name(environment);
}

/* Return the greatest number of rows, or 0 if there is no limit. */
static int
limit_argument(FunctionCallInfo fcinfo)
{
	int			limit;

	if (PG_ARGISNULL(ARGUMENT_LIMIT))
		return 0;
	limit = PG_GETARG_INT32(ARGUMENT_LIMIT);
	if (limit < 1)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("limit must be at least 1")));
	return limit;
}

/*
 * overten_find_keys(org_id text, status text, unused_since timestamptz,
 * 		"limit" int, after text, environment text)
 * 		returns setof the columns of overten_list_keys(), status, expires_at,
 * 		disabled_at, scopes, allowed_addresses, created_by, revoked_by,
 * 		revoked_reason, disabled_by, disabled_reason, environment
 *
 * All arguments but the first may be NULL.  Errors: 22004, 22023, 42704.
 */
Datum
overten_find_keys(PG_FUNCTION_ARGS)
{
	OaKeyFilter filter = {0};

	oa_require_argument_count(fcinfo, ARGUMENTS);
	filter.status = status_argument(fcinfo);
	if (!PG_ARGISNULL(ARGUMENT_UNUSED_SINCE))
	{
		filter.has_unused_since = true;
		filter.unused_since = PG_GETARG_TIMESTAMPTZ(ARGUMENT_UNUSED_SINCE);
	}
	filter.limit = limit_argument(fcinfo);
	if (!PG_ARGISNULL(ARGUMENT_AFTER))
		filter.after = PG_GETARG_TEXT_PP(ARGUMENT_AFTER);
	filter.environment = environment_argument(fcinfo);
	return return_keys(fcinfo, &filter, true);
}
