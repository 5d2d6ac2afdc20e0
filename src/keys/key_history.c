/*
 * key_history.c
 *		Reads the history of keys: by hour and address, and as sums to bill
 *		from.
 *
 * An hour of the history cannot be divided.  The report on a key has each hour
 * that overlaps its period, so that it leaves nothing out.  The report to bill
 * from has the hours that begin in its period, so that of two adjoining
 * periods exactly one has each hour.  Hours without uses have no rows.
 *
 * The reports include what is counted in shared memory; see unflushed_uses.c.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "utils/builtins.h"
#include "utils/inet.h"
#include "utils/timestamp.h"

#include "keys/keys.h"
#include "orgs/orgs.h"
#include "server/server.h"
#include "usage/usage.h"

PG_FUNCTION_INFO_V1(overten_key_usage);
PG_FUNCTION_INFO_V1(overten_org_usage);

/* A sum that stops at the maximum, so that it cannot overflow. */
#define SUM(column) \
	"LEAST(sum(" column "), 9223372036854775807)::int8"

/*
 * The hours of key $1 from $2 to $3.  Hours from $4 on may also be in the
 * counts, which are in the other arguments.  Rows before $4 pass through
 * unchanged, in the order of the index.
 */
static OaStatement read_usage = {
	.table = "key_usage",
	.text = "SELECT hour, client_addr, accepted, refused, first_used_at, "
	"last_used_at FROM overten_auth.key_usage "
	"WHERE key_id = $1 AND hour >= $2 AND hour < LEAST($3, $4) "
	"UNION ALL "
	"SELECT hour, client_addr, " SUM("accepted") ", " SUM("refused") ", "
	"min(first_used_at), max(last_used_at) FROM ("
	"SELECT hour, client_addr, accepted, refused, first_used_at, last_used_at "
	"FROM overten_auth.key_usage "
	"WHERE key_id = $1 AND hour >= GREATEST($2, $4) AND hour < $3 "
	"UNION ALL "
	"SELECT * FROM unnest($5, $6, $7, $8, $9, $10) c) recent (hour, client_addr, accepted, refused, "
	"first_used_at, last_used_at) GROUP BY hour, client_addr "
	"ORDER BY hour, client_addr",
	.argtypes = {TEXTOID, TIMESTAMPTZOID, TIMESTAMPTZOID, TIMESTAMPTZOID,
		TIMESTAMPTZARRAYOID, INETARRAYOID, INT8ARRAYOID, INT8ARRAYOID,
	TIMESTAMPTZARRAYOID, TIMESTAMPTZARRAYOID},
};

/* Complete a period: by default it ends now, and has 24 hours. */
void
oa_complete_period(OaPeriod *period, bool has_since, bool has_until)
{
	if (!has_until)
		period->until = GetCurrentTimestamp();
	if (!has_since)
		period->since = period->until - USECS_PER_DAY;
}

/* Return the beginning of a time's hour, in UTC as in the history. */
static TimestampTz
hour_of(TimestampTz time)
{
	int64		past = time % USECS_PER_HOUR;

	return time - (past < 0 ? past + USECS_PER_HOUR : past);
}

/* Return the first hour that has counts, or infinity. */
static TimestampTz
first_hour(const OaExactRead *read)
{
	TimestampTz first = DT_NOEND;

	for (int i = 0; i < read->count; i++)
		first = Min(first, read->uses[i].key.hour * USECS_PER_HOUR);
	return first;
}

/*
 * Read a key's hours that overlap a period.  Must be called between
 * oa_statements_begin() and _end().
 */
static int
run_read_usage(text *key_id, const OaPeriod *period)
{
	bool		empty = period->since >= period->until;
	Datum		key = PointerGetDatum(key_id);
	TimestampTz since = empty ? period->until : hour_of(period->since);
	Datum		values[4 + OA_USE_COLUMNS - OA_USE_HOUR];
	Datum		arrays[OA_USE_COLUMNS];
	OaExactRead read;
	int			count;

	oa_exact_read_begin(&read, &key, 1, since, period->until);
	oa_make_use_arrays(read.uses, read.count, OA_USE_COLUMNS, arrays);
	values[0] = key;
	values[1] = TimestampTzGetDatum(since);
	values[2] = TimestampTzGetDatum(period->until);
	values[3] = TimestampTzGetDatum(first_hour(&read));
	memcpy(&values[4], &arrays[OA_USE_HOUR],
		   (OA_USE_COLUMNS - OA_USE_HOUR) * sizeof(Datum));
	count = (int) oa_statement_run_under(&read_usage, values, NULL,
										 read.snapshot);
	oa_exact_read_end(&read);
	return count;
}

/*
 * Call back for each row of a key's history that overlaps a period, in the
 * order of hours and addresses.  The callback's argument is valid only during
 * the call.  Returns false if the org does not have this key.
 */
bool
oa_key_usage(text *org_id, text *key_id, const OaPeriod *period,
			 OaUsageHourCallback callback, void *argument)
{
	int			level = oa_statements_begin();
	bool		found = oa_org_has_key(org_id, key_id);
	int			count = found ? run_read_usage(key_id, period) : 0;

	for (int row = 0; row < count; row++)
	{
		OaUsageHour usage;
		bool		unknown;
		bool		isnull;
		Datum		address = oa_statement_result(row, 2, &unknown);

		usage.hour = DatumGetTimestampTz(oa_statement_result(row, 1, &isnull));
		usage.client_addr = unknown ? NULL : oa_inet_text(address);
		usage.accepted = DatumGetInt64(oa_statement_result(row, 3, &isnull));
		usage.refused = DatumGetInt64(oa_statement_result(row, 4, &isnull));
		usage.first_used_at = DatumGetTimestampTz(oa_statement_result(row, 5,
																	  &isnull));
		usage.last_used_at = DatumGetTimestampTz(oa_statement_result(row, 6,
																	 &isnull));
		callback(&usage, argument);
	}
	oa_statements_end(level);
	return found;
}

/* Format an address, as 203.0.113.7 or 2001:db8:1:2::/64. */
char	   *
oa_inet_text(Datum address)
{
	return DatumGetCString(DirectFunctionCall1(inet_out, address));
}

/* Return an argument that is a time and not infinite. */
static TimestampTz
time_argument(FunctionCallInfo fcinfo, int n, const char *what)
{
	TimestampTz time = PG_GETARG_TIMESTAMPTZ(n);

	if (TIMESTAMP_NOT_FINITE(time))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("%s must be finite", what)));
	return time;
}

/*
 * Return the period in the nth argument and the next one, with NULLs
 * completed.
 */
static OaPeriod
period_arguments(FunctionCallInfo fcinfo, int n)
{
	OaPeriod	period = {0};

	if (!PG_ARGISNULL(n))
		period.since = time_argument(fcinfo, n, "since");
	if (!PG_ARGISNULL(n + 1))
		period.until = time_argument(fcinfo, n + 1, "until");
	oa_complete_period(&period, !PG_ARGISNULL(n), !PG_ARGISNULL(n + 1));

	if (period.since > period.until)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("since must not be later than until")));
	return period;
}

/*
 * overten_key_usage(org_id text, key_id text, since timestamptz,
 * 					 until timestamptz)
 * 		returns setof hour, client_addr, accepted, refused, first_used_at,
 * 		last_used_at
 *
 * Returns the history of a key in the hours that overlap [since, until).  That
 * includes the hour that contains since. until defaults to now, and since to
 * 24 hours before until.  Errors: 22004, 22023 since is later than until or
 * one of them is infinite, 42704.
 */
Datum
overten_key_usage(PG_FUNCTION_ARGS)
{
	text	   *org_id = oa_text_argument(fcinfo, 0, "org_id");
	text	   *key_id = oa_text_argument(fcinfo, 1, "key_id");
	OaPeriod	period = period_arguments(fcinfo, 2);
	int			level;

	oa_begin_set(fcinfo);
	level = oa_statements_begin();
	oa_require_key(org_id, key_id);
	run_read_usage(key_id, &period);
	oa_statement_return_rows(fcinfo);
	oa_statements_end(level);
	return (Datum) 0;
}

static OaStatement find_keys = {
	.table = "api_keys",
	.latest = true,
	.text = "SELECT key_id FROM overten_auth.api_keys "
	"WHERE org_id = $1 AND erased_at IS NULL",
	.argtypes = {TEXTOID},
};

/*
 * The sums of org $1 in the hours from $2 to $3.  The other arguments are the
 * counts of its keys.
 */
static OaStatement sum_usage = {
	.table = "key_usage",
	.text = "SELECT k.key_id, k.name, k.prefix, s.hour, s.accepted, s.refused "
	"FROM (SELECT u.key_id, u.hour, " SUM("u.accepted") " AS accepted, "
	SUM("u.refused") " AS refused FROM ("
	"SELECT t.key_id, t.hour, t.accepted, t.refused "
	"FROM overten_auth.api_keys o JOIN overten_auth.key_usage t "
	"ON t.key_id = o.key_id "
	"WHERE o.org_id = $1 AND t.hour >= $2 AND t.hour < $3 "
	"UNION ALL "
	"SELECT * FROM unnest($4, $5, $6, $7) c) "
	"u (key_id, hour, accepted, refused) GROUP BY u.key_id, u.hour) s "
	"JOIN overten_auth.api_keys k ON k.key_id = s.key_id "
	"WHERE k.org_id = $1 AND k.erased_at IS NULL "
	"ORDER BY k.created_at, k.key_id, s.hour",
	.argtypes = {TEXTOID, TIMESTAMPTZOID, TIMESTAMPTZOID, TEXTARRAYOID,
	TIMESTAMPTZARRAYOID, INT8ARRAYOID, INT8ARRAYOID},
};

/* Return the ids of an org's keys, if anything is counted at all. */
static Datum *
find_counted_keys(text *org_id, int *count)
{
	Datum		org = PointerGetDatum(org_id);
	int32	   *hours;
	Datum	   *key_ids;

	*count = 0;
	if (oa_counted_hours(&hours) == 0)
		return NULL;
	*count = (int) oa_statement_run(&find_keys, &org, NULL);
	key_ids = palloc(Max(*count, 1) * sizeof(Datum));
	for (int row = 0; row < *count; row++)
	{
		bool		isnull;

		key_ids[row] = oa_statement_result(row, 1, &isnull);
	}
	return key_ids;
}

/*
 * Sum the uses of an org.  Must be called between oa_statements_begin() and
 * _end().
 */
static void
run_sum_usage(text *org_id, const OaPeriod *period)
{
	int			keys;
	Datum	   *key_ids = find_counted_keys(org_id, &keys);
	Datum		arrays[OA_USE_COLUMNS];
	OaExactRead read;

	oa_exact_read_begin(&read, key_ids, keys, period->since, period->until);
	oa_make_use_arrays(read.uses, read.count, OA_USE_COLUMNS, arrays);
	{
		Datum		values[] = {
			PointerGetDatum(org_id),
			TimestampTzGetDatum(period->since),
			TimestampTzGetDatum(period->until),
			arrays[OA_USE_KEY_ID],
			arrays[OA_USE_HOUR],
			arrays[OA_USE_ACCEPTED],
			arrays[OA_USE_REFUSED],
		};

		oa_statement_run_under(&sum_usage, values, NULL, read.snapshot);
	}
	oa_exact_read_end(&read);
}

/*
 * overten_org_usage(org_id text, since timestamptz, until timestamptz)
 * 		returns setof key_id, name, prefix, hour, accepted, refused
 *
 * Returns sums over all addresses, by key and hour, of the hours that begin in
 * [since, until).  Errors: 22004, 22023 since is later than until or one of
 * them is infinite, 42704.
 */
Datum
overten_org_usage(PG_FUNCTION_ARGS)
{
	text	   *org_id = oa_text_argument(fcinfo, 0, "org_id");
	OaPeriod	period;
	int			level;

	oa_require_argument(fcinfo, 1, "since");
	oa_require_argument(fcinfo, 2, "until");
	period = period_arguments(fcinfo, 1);

	oa_begin_set(fcinfo);
	level = oa_statements_begin();
	oa_require_org(org_id);
	run_sum_usage(org_id, &period);
	oa_statement_return_rows(fcinfo);
	oa_statements_end(level);
	return (Datum) 0;
}
