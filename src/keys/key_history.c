/*
 * key_history.c
 *		Reads the history of a key, by hour and address.
 *
 * An hour of the history cannot be divided.  This report has each hour that
 * overlaps its period, so that it leaves nothing out; org_usage.c does it in
 * another way.  Hours without uses have no rows.
 *
 * The report includes what is counted in shared memory; see unflushed_uses.c.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "utils/builtins.h"
#include "utils/inet.h"
#include "utils/timestamp.h"

#include "keys/keys.h"
#include "server/server.h"
#include "usage/usage.h"

PG_FUNCTION_INFO_V1(overten_key_usage);

#define COLUMNS \
	"hour, client_addr, accepted, refused, limited, first_used_at, last_used_at "

/*
 * The hours of key $1 from $2 to $3.  Hours from $4 on may also be in the
 * counts, which are in the other arguments.  Rows before $4 pass through
 * unchanged, in the order of the index.
 */
static OaStatement read_usage = {
	.table = "key_usage",
	.text = "SELECT " COLUMNS "FROM overten_auth.key_usage "
	"WHERE key_id = $1 AND hour >= $2 AND hour < LEAST($3, $4) "
	"UNION ALL "
	"SELECT hour, client_addr, " OA_SUM("accepted") ", " OA_SUM("refused") ", "
	OA_SUM("limited") ", min(first_used_at), max(last_used_at) FROM ("
	"SELECT " COLUMNS "FROM overten_auth.key_usage "
	"WHERE key_id = $1 AND hour >= GREATEST($2, $4) AND hour < $3 "
	"UNION ALL "
	"SELECT * FROM unnest($5, $6, $7, $8, $9, $10, $11) c) recent (" COLUMNS ") "
	"GROUP BY hour, client_addr "
	"ORDER BY hour, client_addr",
	.argtypes = {TEXTOID, TIMESTAMPTZOID, TIMESTAMPTZOID, TIMESTAMPTZOID,
		TIMESTAMPTZARRAYOID, INETARRAYOID, INT8ARRAYOID, INT8ARRAYOID,
	INT8ARRAYOID, TIMESTAMPTZARRAYOID, TIMESTAMPTZARRAYOID},
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
		Datum		address = oa_statement_result(row, 2, INETOID, &unknown);

		usage.hour = oa_statement_time(row, 1, NULL);
		usage.client_addr = unknown ? NULL : oa_inet_text(address);
		usage.accepted = oa_statement_int64(row, 3);
		usage.refused = oa_statement_int64(row, 4);
		usage.limited = oa_statement_int64(row, 5);
		usage.first_used_at = oa_statement_time(row, 6, NULL);
		usage.last_used_at = oa_statement_time(row, 7, NULL);
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
OaPeriod
oa_period_arguments(FunctionCallInfo fcinfo, int n)
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
 * 		returns setof hour, client_addr, accepted, refused, limited,
 * 		first_used_at, last_used_at
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
	OaPeriod	period = oa_period_arguments(fcinfo, 2);
	int			level;

	oa_begin_set(fcinfo);
	level = oa_statements_begin();
	oa_require_key(org_id, key_id);
	run_read_usage(key_id, &period);
	oa_statement_return_rows(fcinfo);
	oa_statements_end(level);
	return (Datum) 0;
}
