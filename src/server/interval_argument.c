/*
 * interval_argument.c
 *		Reads an argument of a SQL function that says how long something lasts.
 */
#include "postgres.h"

#include "utils/fmgrprotos.h"
#include "utils/timestamp.h"

#include "server/server.h"

/*
 * Return an argument that is an interval, in microseconds.  It is at least 0 or, if
 * "positive" is set, 1 second, and at most max_days days.  A month has 30 days, and a
 * day 24 hours, as in PostgreSQL's comparisons.
 */
int64
oa_interval_argument(FunctionCallInfo fcinfo, int n, const char *what,
					 bool positive, int max_days)
{
	Interval	shortest = {.time = positive ? USECS_PER_SEC : 0};
	Interval	longest = {.day = max_days};
	Datum		value;
	const Interval *interval;

	oa_require_argument(fcinfo, n, what);
	value = PG_GETARG_DATUM(n);
	if (DatumGetBool(DirectFunctionCall2(interval_lt, value,
										 IntervalPGetDatum(&shortest))) ||
		DatumGetBool(DirectFunctionCall2(interval_gt, value,
										 IntervalPGetDatum(&longest))))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("%s must be between %s and %d days", what,
						positive ? "1 second" : "0", max_days)));

	/* The sum is small, but parts of it may overflow. */
	interval = DatumGetIntervalP(value);
	return (int64) ((uint64) interval->time +
					(uint64) (interval->month * INT64CONST(30) + interval->day) *
					USECS_PER_DAY);
}
