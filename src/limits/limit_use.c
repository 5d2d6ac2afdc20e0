/*
 * limit_use.c
 *		Charges a key afterwards, and shows how much of each limit is left.
 *
 * Both read the tables at each call: neither is asked before each request.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

#include "limits/limits.h"
#include "orgs/orgs.h"
#include "server/server.h"

/* Each further one takes an ALTER TABLE that commits in the middle of it. */
#define READ_ATTEMPTS	3

PG_FUNCTION_INFO_V1(overten_charge);
PG_FUNCTION_INFO_V1(overten_limit_status);

/* Columns of overten_limit_status(). */
enum
{
	KEY_ID, LIMIT_NAME, QUOTA, PERIOD, BURST, SHADOW, REMAINING, RESET_AFTER,
	REFUSALS, COLUMNS
};

static const Oid types[COLUMNS] = {
	[KEY_ID] = TEXTOID,
	[LIMIT_NAME] = TEXTOID,
	[QUOTA] = INT8OID,
	[PERIOD] = INTERVALOID,
	[BURST] = INT8OID,
	[SHADOW] = BOOLOID,
	[REMAINING] = INT8OID,
	[RESET_AFTER] = INTERVALOID,
	[REFUSALS] = INT8OID,
};

/* Read the limits of a key as they are now. */
static const OaLimits *
read_limits(text *line, text *org_id, text *tier)
{
	const OaLimits *limits = NULL;
	bool		complete = false;

	for (int attempt = 0; !complete && attempt < READ_ATTEMPTS; attempt++)
	{
		OaRead		read;

		oa_store_begin_read(&read, OA_LIMITS);
		oa_store_close_first(&read);
		limits = oa_read_limits(&read, line, org_id, tier);
		complete = !oa_store_was_disturbed(&read);
		oa_store_end_read(&read);
	}
	return limits;
}

/*
 * overten_charge(key_id text, cost bigint) returns void
 *
 * Adds a cost to the limits of a key, whatever they say.  Errors: 22004; 22023
 * the cost; 42704 the key does not exist; 55000 the key has limits that cannot
 * be counted.
 */
Datum
overten_charge(PG_FUNCTION_ARGS)
{
	static OaStatement find = {
		.table = "api_keys",
		.latest = true,
		.text = "SELECT COALESCE(k.lineage, k.key_id), k.org_id, o.tier "
		"FROM overten_auth.api_keys k "
		"JOIN overten_auth.orgs o ON o.org_id = k.org_id "
		"WHERE k.key_id = $1 AND k.erased_at IS NULL",
		.argtypes = {TEXTOID},
	};
	text	   *key_id = oa_text_argument(fcinfo, 0, "key_id");
	int64		cost = oa_cost_argument(fcinfo, 1);
	Datum		values[] = {PointerGetDatum(key_id)};
	text	   *line;
	text	   *org_id;
	text	   *tier;
	OaLimiting	limiting;
	int			level;

	level = oa_statements_begin();
	if (oa_statement_run(&find, values, NULL) == 0)
		oa_limited_key_missing(key_id);
	line = oa_statement_text(0, 1);
	org_id = oa_statement_text(0, 2);
	tier = oa_statement_text(0, 3);
	oa_statements_end(level);

	limiting = oa_charge_limits(read_limits(line, org_id, tier), org_id, cost);
	if (limiting != OA_WITHIN_LIMITS)
		oa_refuse_to_limit(limiting);
	PG_RETURN_VOID();
}

/* A value of type interval. */
Datum
oa_interval(int64 microseconds)
{
	Interval   *interval = palloc0(sizeof(Interval));

	interval->time = microseconds;
	return IntervalPGetDatum(interval);
}

/* What a limit is. */
static void
describe_limit(const OaLimit *limit, Datum *values, bool *nulls)
{
	Interval   *period = palloc0(sizeof(Interval));

	if (limit->calendar == OA_NO_CALENDAR)
	{
		period->time = limit->period * USECS_PER_SEC;
		values[QUOTA] = Int64GetDatum(oa_rate_quota(&limit->rate,
													limit->period));
		values[BURST] = Int64GetDatum(limit->rate.burst);
	}
	else
	{
		oa_set_calendar_period(period, limit->calendar);
		values[QUOTA] = Int64GetDatum(limit->quota);
		nulls[BURST] = true;
	}
	values[PERIOD] = IntervalPGetDatum(period);
}

/*
 * Return the row of a limit; key_id is NULL if it counts for the org.  A quota
 * that is not in memory has used what its table says.
 */
static void
return_limit(ReturnSetInfo *result, text *key_id, const OaLimit *limit)
{
	OaTake		take;
	Datum		values[COLUMNS];
	bool		nulls[COLUMNS] = {[KEY_ID] = (key_id == NULL)};

	oa_prepare_take(limit, &take);
	oa_look_at_buckets(&take, 1);
	if (oa_is_quota(&take) && !take.loaded)
		take.verdict.ahead = oa_read_quota_units(take.bucket, take.start);
	describe_limit(limit, values, nulls);
	values[KEY_ID] = PointerGetDatum(key_id);
	values[LIMIT_NAME] =
		PointerGetDatum(cstring_to_text_with_len(limit->name,
												 limit->name_length));
	values[SHADOW] = BoolGetDatum(limit->shadow);
	values[REMAINING] = Int64GetDatum(oa_remaining_of(&take));
	values[RESET_AFTER] = oa_interval(oa_reset_of(&take));
	values[REFUSALS] = Int64GetDatum(take.refusals);
	tuplestore_putvalues(result->setResult, result->setDesc, values, nulls);
}

/* Return the limits that count for the org, or those that count for a key. */
static void
return_limits(ReturnSetInfo *result, text *key_id, const OaLimits *limits)
{
	const OaLimit *limit = (const OaLimit *) limits->data;

	for (uint32 i = 0; i < limits->count; i++)
	{
		if (limit->per_org == (key_id == NULL))
			return_limit(result, key_id, limit);
		limit = oa_next_limit(limit);
	}
}

/*
 * overten_limit_status(org_id text) returns setof key_id, limit_name text,
 *		quota bigint, period interval, burst bigint, shadow boolean, remaining
 *		bigint, reset_after interval, refusals bigint
 *
 * Errors: 22004; 42704 the org does not exist; 55000 limits are not counted in
 * this database.
 */
Datum
overten_limit_status(PG_FUNCTION_ARGS)
{
	/* Of each line of rotations the newest key. */
	static OaStatement list = {
		.table = "api_keys",
		.latest = true,
		.text = "SELECT k.key_id, k.line, k.tier FROM ("
		"SELECT DISTINCT ON (COALESCE(k.lineage, k.key_id)) k.key_id, "
		"COALESCE(k.lineage, k.key_id) AS line, o.tier, k.created_at "
		"FROM overten_auth.orgs o "
		"LEFT JOIN overten_auth.api_keys k ON k.org_id = o.org_id "
		"AND " OA_KEY_IS_ACTIVE("k") " "
		"WHERE o.org_id = $1 AND o.erased_at IS NULL "
		"ORDER BY COALESCE(k.lineage, k.key_id), k.created_at DESC, k.key_id) k "
		"ORDER BY k.created_at, k.key_id",
		.argtypes = {TEXTOID},
	};
	text	   *org_id = oa_text_argument(fcinfo, 0, "org_id");
	ReturnSetInfo *result = (ReturnSetInfo *) fcinfo->resultinfo;
	text	   *no_key = cstring_to_text("");
	Datum		values[] = {PointerGetDatum(org_id)};
	text	  **keys;
	text	  **lines;
	text	   *tier;
	int			count;
	int			level;

	oa_begin_set(fcinfo);
	oa_require_columns(fcinfo->flinfo, result->setDesc, types, COLUMNS);
	oa_require_counting();

	level = oa_statements_begin();
	count = (int) oa_statement_run(&list, values, NULL);
	if (count == 0)
		oa_org_missing(org_id);
	keys = palloc(count * sizeof(text *));
	lines = palloc(count * sizeof(text *));
	for (int i = 0; i < count; i++)
	{
		keys[i] = oa_statement_text(i, 1);
		lines[i] = oa_statement_text(i, 2);
	}
	tier = oa_statement_text(0, 3);

	return_limits(result, NULL, read_limits(no_key, org_id, tier));
	for (int i = 0; i < count; i++)
	{
		CHECK_FOR_INTERRUPTS();
		if (keys[i] != NULL)
			return_limits(result, keys[i],
						  read_limits(lines[i], org_id, tier));
	}
	oa_statements_end(level);
	return (Datum) 0;
}
