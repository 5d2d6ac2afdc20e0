/*
 * usage_report.c
 *		Reads the history of keys: by hour and address, and in sums to bill from.
 *
 * An hour of the history cannot be divided.  The report on a key has each hour
 * that its period overlaps, so that it leaves nothing out; the one to bill from
 * has the hours that begin in its period, so that of two periods that adjoin
 * each hour is in one, and in one alone.  Hours without use have no rows.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "funcapi.h"
#include "utils/builtins.h"
#include "utils/inet.h"
#include "utils/timestamp.h"

#include "overten_auth.h"

PG_FUNCTION_INFO_V1(overten_key_usage);
PG_FUNCTION_INFO_V1(overten_org_usage);

static OaStatement read_usage = {
	.table = "key_usage",
	.text = "SELECT hour, client_addr, accepted, refused, first_used_at, "
	"last_used_at FROM overten_auth.key_usage "
	"WHERE key_id OPERATOR(pg_catalog.=) $1 "
	"AND hour OPERATOR(pg_catalog.>=) $2 "
	"AND hour OPERATOR(pg_catalog.<) $3 "
	"ORDER BY hour, client_addr",
	.nargs = 3,
	.argtypes = {TEXTOID, TIMESTAMPTZOID, TIMESTAMPTZOID},
};

/*
 * Fill in what is not said of a period: it ends now, and has 24 hours.
 */
void
oa_complete_period(OaPeriod *period, bool has_since, bool has_until)
{
	if (!has_until)
		period->until = GetCurrentTimestamp();
	if (!has_since)
		period->since = period->until - USECS_PER_DAY;
}

/* The beginning of the hour of a time, in UTC as the history has it. */
static TimestampTz
hour_of(TimestampTz time)
{
	int64		past = time % USECS_PER_HOUR;

	return time - (past < 0 ? past + USECS_PER_HOUR : past);
}

/* Read a key's hours that overlap a period.  Called while statements run. */
static int
run_read_usage(text *key_id, const OaPeriod *period)
{
	bool		empty = period->since >= period->until;
	Datum		values[] = {
		PointerGetDatum(key_id),
		TimestampTzGetDatum(empty ? period->until : hour_of(period->since)),
		TimestampTzGetDatum(period->until),
	};

	return (int) oa_statement_run(&read_usage, values, NULL);
}

/*
 * Call back for each row of a key's history that overlaps a period, in the
 * order of hours and addresses.  What the callback gets is gone afterwards.
 * False if the org has no such key.
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

/* An address as 203.0.113.7 or 2001:db8:1:2::/64. */
char	   *
oa_inet_text(Datum address)
{
	return DatumGetCString(DirectFunctionCall1(inet_out, address));
}

/* An argument that is a time, and not an infinite one. */
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

/* The period of two arguments, the n-th and the next; NULLs are completed. */
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
 *					 until timestamptz)
 *		returns setof hour, client_addr, accepted, refused, first_used_at,
 *		last_used_at
 *
 * The history of a key in the hours that overlap [since, until): the hour that
 * since is in counts, too.  NULL means now for until, and 24 hours before
 * until for since.  Errors: 22004, 22023 since later than until or one of them
 * infinite, 42704.
 */
Datum
overten_key_usage(PG_FUNCTION_ARGS)
{
	text	   *org_id = oa_text_argument(fcinfo, 0, "org_id");
	text	   *key_id = oa_text_argument(fcinfo, 1, "key_id");
	OaPeriod	period = period_arguments(fcinfo, 2);
	int			level;

	InitMaterializedSRF(fcinfo, 0);
	level = oa_statements_begin();
	oa_require_key(org_id, key_id);
	run_read_usage(key_id, &period);
	oa_statement_return_rows(fcinfo);
	oa_statements_end(level);
	return (Datum) 0;
}

/*
 * overten_org_usage(org_id text, since timestamptz, until timestamptz)
 *		returns setof key_id, name, prefix, hour, accepted, refused
 *
 * Sums over all addresses, by key and hour, of the hours that begin in
 * [since, until).  Errors: 22004, 22023 since later than until or one of them
 * infinite, 42704.
 */
Datum
overten_org_usage(PG_FUNCTION_ARGS)
{
	static OaStatement sum = {
		.table = "key_usage",
		.text = "SELECT k.key_id, k.name, k.prefix, u.hour, "
		"pg_catalog.sum(u.accepted)::pg_catalog.int8, "
		"pg_catalog.sum(u.refused)::pg_catalog.int8 "
		"FROM overten_auth.api_keys k JOIN overten_auth.key_usage u "
		"ON u.key_id OPERATOR(pg_catalog.=) k.key_id "
		"WHERE k.org_id OPERATOR(pg_catalog.=) $1 "
		"AND u.hour OPERATOR(pg_catalog.>=) $2 "
		"AND u.hour OPERATOR(pg_catalog.<) $3 "
		"GROUP BY k.key_id, u.hour "
		"ORDER BY k.created_at, k.key_id, u.hour",
		.nargs = 3,
		.argtypes = {TEXTOID, TIMESTAMPTZOID, TIMESTAMPTZOID},
	};
	text	   *org_id = oa_text_argument(fcinfo, 0, "org_id");
	OaPeriod	period;
	Datum		values[3];
	int			level;

	oa_require_argument(fcinfo, 1, "since");
	oa_require_argument(fcinfo, 2, "until");
	period = period_arguments(fcinfo, 1);
	values[0] = PointerGetDatum(org_id);
	values[1] = TimestampTzGetDatum(period.since);
	values[2] = TimestampTzGetDatum(period.until);

	InitMaterializedSRF(fcinfo, 0);
	level = oa_statements_begin();
	oa_require_org(org_id);
	oa_statement_run(&sum, values, NULL);
	oa_statement_return_rows(fcinfo);
	oa_statements_end(level);
	return (Datum) 0;
}
