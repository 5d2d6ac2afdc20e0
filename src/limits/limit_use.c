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

/* What is shown, and to whom. */
typedef struct Showing
{
	bool		with_shadows;
	OaLimitCallback callback;
	void	   *argument;
} Showing;

/*
 * Look at what is left of a limit.  A quota that is not in memory has used what
 * its table says.
 */
static void
look_at_limit(text *key_id, const OaLimit *limit, OaLimitStatus *status)
{
	OaTake		take;

	oa_require_counting();
	oa_prepare_take(limit, &take);
	oa_look_at_buckets(&take, 1);
	if (oa_is_quota(&take) && !take.loaded)
		take.verdict.ahead = oa_read_quota_units(take.bucket, take.start);
	status->key_id = key_id;
	status->name = limit->name;
	status->name_length = limit->name_length;
	status->calendar = limit->calendar;
	if (oa_is_quota(&take))
	{
		status->quota = limit->quota;
		status->period = (take.end - take.start) / USECS_PER_SEC;
	}
	else
	{
		status->quota = oa_rate_quota(&limit->rate, limit->period);
		status->period = limit->period;
		status->burst = limit->rate.burst;
	}
	status->shadow = limit->shadow;
	status->remaining = oa_remaining_of(&take);
	status->reset_after = oa_reset_of(&take);
	status->refusals = take.refusals;
}

/* Show the limits that count for the org, or those that count for a key. */
static void
show_limits(const Showing *showing, text *key_id, const OaLimits *limits)
{
	const OaLimit *limit = (const OaLimit *) limits->data;

	for (uint32 i = 0; i < limits->count; i++)
	{
		if (limit->per_org == (key_id == NULL) &&
			(showing->with_shadows || !limit->shadow))
		{
			OaLimitStatus status = {0};

			look_at_limit(key_id, limit, &status);
			showing->callback(&status, showing->argument);
		}
		limit = oa_next_limit(limit);
	}
}

/*
 * Find the tier of an org, and whether the org has the key that a page begins
 * after.  Raises 42704 if there is no such org.
 */
static text *
find_tier(text *org_id, text *after, bool *has_start)
{
	static OaStatement find = {
		.table = "orgs",
		.latest = true,
		.text = "SELECT o.tier, $2 IS NULL OR EXISTS (SELECT 1 "
		"FROM overten_auth.api_keys k WHERE k.key_id = $2 "
		"AND k.org_id = o.org_id AND k.erased_at IS NULL) "
		"FROM overten_auth.orgs o "
		"WHERE o.org_id = $1 AND o.erased_at IS NULL",
		.argtypes = {TEXTOID, TEXTOID},
	};
	Datum		values[] = {PointerGetDatum(org_id), PointerGetDatum(after)};
	const bool	nulls[lengthof(values)] = {[1] = (after == NULL)};

	if (oa_statement_run(&find, values, nulls) == 0)
		oa_org_missing(org_id);
	*has_start = oa_statement_bool(0, 2);
	return oa_statement_text(0, 1);
}

/*
 * Find the active keys of an org after a key, or all if that is NULL: of each
 * line of rotations the newest one.  The order is that of their creation.  A
 * limit of 0 means all.
 */
static int
find_keys(text *org_id, text *after, int limit)
{
	static OaStatement list = {
		.table = "api_keys",
		.latest = true,
		.text = "SELECT k.key_id, k.line FROM ("
		"SELECT DISTINCT ON (COALESCE(k.lineage, k.key_id)) k.key_id, "
		"COALESCE(k.lineage, k.key_id) AS line, k.created_at "
		"FROM overten_auth.api_keys k "
		"WHERE k.org_id = $1 AND " OA_KEY_IS_ACTIVE("k") " "
		"ORDER BY COALESCE(k.lineage, k.key_id), k.created_at DESC, k.key_id) k "
		"WHERE $2 IS NULL OR (k.created_at, k.key_id) > (SELECT a.created_at, "
		"a.key_id FROM overten_auth.api_keys a WHERE a.key_id = $2) "
		"ORDER BY k.created_at, k.key_id LIMIT NULLIF($3, 0)",
		.argtypes = {TEXTOID, TEXTOID, INT8OID},
	};
	Datum		values[] = {
		PointerGetDatum(org_id),
		PointerGetDatum(after),
		Int64GetDatum(limit),
	};
	const bool	nulls[lengthof(values)] = {[1] = (after == NULL)};

	return (int) oa_statement_run(&list, values, nulls);
}

/*
 * Call back for each limit that counts for an org, if the page is the first one,
 * and for each that counts for a key of the page.  The callback's argument is
 * valid only during the call.  Sets the page's last key if there are more keys.
 * Returns false if the org does not have the key that the page begins after.
 * Raises 42704 if there is no such org, and 55000 if there is a limit to show
 * and limits are not counted in this database.
 */
bool
oa_show_limits(text *org_id, bool with_shadows, OaLimitPage *page,
			   OaLimitCallback callback, void *argument)
{
	MemoryContext context = CurrentMemoryContext;
	const Showing showing = {with_shadows, callback, argument};
	int			level = oa_statements_begin();
	bool		has_start;
	text	   *tier = find_tier(org_id, page->after, &has_start);
	int			wanted = page->keys > 0 ? page->keys + 1 : 0;
	int			count = has_start ? find_keys(org_id, page->after, wanted) : 0;
	text	  **keys = palloc(count * sizeof(text *));
	text	  **lines = palloc(count * sizeof(text *));
	MemoryContext each;
	MemoryContext outer;

	for (int i = 0; i < count; i++)
	{
		keys[i] = oa_statement_text(i, 1);
		lines[i] = oa_statement_text(i, 2);
	}
	page->last = NULL;
	if (wanted > 0 && count == wanted)
	{
		count--;
		page->last = MemoryContextStrdup(context,
										 text_to_cstring(keys[count - 1]));
	}

	if (has_start && page->after == NULL)
		show_limits(&showing, NULL,
					read_limits(cstring_to_text(""), org_id, tier));

	/* An org can have very many keys. */
	each = AllocSetContextCreate(CurrentMemoryContext, "overten_auth limits",
								 ALLOCSET_SMALL_SIZES);
	outer = MemoryContextSwitchTo(each);
	for (int i = 0; i < count; i++)
	{
		CHECK_FOR_INTERRUPTS();
		show_limits(&showing, keys[i], read_limits(lines[i], org_id, tier));
		MemoryContextReset(each);
	}
	MemoryContextSwitchTo(outer);
	oa_statements_end(level);
	return has_start;
}

/* Return the row of a limit. */
static void
return_limit(const OaLimitStatus *status, void *argument)
{
	ReturnSetInfo *result = argument;
	Datum		values[COLUMNS];
	bool		is_quota = status->calendar != OA_NO_CALENDAR;
	bool		nulls[COLUMNS] = {
		[KEY_ID] = (status->key_id == NULL),[BURST] = is_quota,
	};
	Interval   *period = palloc0(sizeof(Interval));

	if (is_quota)
		oa_set_calendar_period(period, status->calendar);
	else
		period->time = status->period * USECS_PER_SEC;
	values[KEY_ID] = PointerGetDatum(status->key_id);
	values[LIMIT_NAME] =
		PointerGetDatum(cstring_to_text_with_len(status->name,
												 status->name_length));
	values[QUOTA] = Int64GetDatum(status->quota);
	values[PERIOD] = IntervalPGetDatum(period);
	values[BURST] = Int64GetDatum(status->burst);
	values[SHADOW] = BoolGetDatum(status->shadow);
	values[REMAINING] = Int64GetDatum(status->remaining);
	values[RESET_AFTER] = oa_interval(status->reset_after);
	values[REFUSALS] = Int64GetDatum(status->refusals);
	tuplestore_putvalues(result->setResult, result->setDesc, values, nulls);
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
	text	   *org_id = oa_text_argument(fcinfo, 0, "org_id");
	ReturnSetInfo *result = (ReturnSetInfo *) fcinfo->resultinfo;
	OaLimitPage all = {0};

	oa_begin_set(fcinfo);
	oa_require_columns(fcinfo->flinfo, result->setDesc, types, COLUMNS);
	oa_require_counting();
	oa_show_limits(org_id, true, &all, return_limit, result);
	return (Datum) 0;
}
