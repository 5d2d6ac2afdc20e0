/*
 * interval_argument.c
 *		Reads an argument of a SQL function that says how long something lasts.
 */
#include "postgres.h"

#include "utils/fmgrprotos.h"
#include "utils/timestamp.h"

#include "server/server.h"

/*
 * Return an argument that is an interval, in microseconds from now.  It is at
 * least 0 or, if "positive" is set, 1 second, and at most max_days days.  A
 * month counts as 30 days.
 */
int64
oa_interval_argument(FunctionCallInfo fcinfo, int n, const char *what,
					 bool positive, int max_days)
{
	Interval	shortest = {.time = positive ? USECS_PER_SEC : 0};
	Interval	longest = {.day = max_days};
	TimestampTz now = GetCurrentTimestamp();
	Datum		value;
	TimestampTz end;

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
	end = DatumGetTimestampTz(DirectFunctionCall2(timestamptz_pl_interval,
												  TimestampTzGetDatum(now),
												  value));
	return Max(end - now, 0);
}
