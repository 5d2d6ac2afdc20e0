/*
 * calendar.c
 *		The periods of quotas: days and months.
 *
 * They are those of UTC, whatever the time zone of a session or of the server
 * is.  A month begins on its anchor day, which each month has.  A TimestampTz
 * counts from the beginning of a day in UTC, and UTC here has no leap seconds.
 *
 * Nothing here allocates, raises or reads a clock.
 */
#include "postgres.h"

#include "utils/datetime.h"

#include "limits/limits.h"

/* The beginning of a day, in a month that may be the 0th or the 13th. */
static TimestampTz
beginning_of(int year, int month, int day)
{
	if (month < 1)
	{
		year--;
		month += MONTHS_PER_YEAR;
	}
	if (month > MONTHS_PER_YEAR)
	{
		year++;
		month -= MONTHS_PER_YEAR;
	}
	return (date2j(year, month, day) - POSTGRES_EPOCH_JDATE) * USECS_PER_DAY;
}

/* The number of the day that a time belongs to. */
static int64
day_of(TimestampTz time)
{
	return time / USECS_PER_DAY - (time % USECS_PER_DAY < 0);
}

/*
 * Find the period that a time belongs to.  It ends just before the next one
 * begins.
 */
void
oa_find_period(OaCalendar calendar, int anchor, TimestampTz now,
			   TimestampTz *start, TimestampTz *end)
{
	int64		number = day_of(now);
	int			year;
	int			month;
	int			day;

	if (calendar == OA_DAY)
	{
		*start = number * USECS_PER_DAY;
		*end = *start + USECS_PER_DAY;
		return;
	}
	j2date((int) number + POSTGRES_EPOCH_JDATE, &year, &month, &day);
	if (day < anchor)
		month--;
	*start = beginning_of(year, month, anchor);
	*end = beginning_of(year, month + 1, anchor);
}
