/*
 * rfc3339.c
 *		Parses times such as 2026-04-17T11:20:00.5+02:00 (RFC 3339 section
 *		5.6).
 *
 * Nothing in this file allocates or raises: test/fuzz runs it by itself.
 */
#include "postgres.h"

#include "text/text.h"

#define DAYS_OF_400_YEARS	146097
#define DAYS_TO_2000		730425	/* from 0000-03-01 to 2000-01-01 */

/*
 * Count the days from 2000-01-01 to a day of the Gregorian calendar.  We let
 * years begin on the first of March, so that a leap day is the last day of its
 * year, and add 400 years, so that no number is negative.
 */
static int
days_since_2000(int year, int month, int day)
{
	int			months = (month + 9) % 12;	/* since March */
	int			years = year - (month < 3) + 400;

	return 365 * years + years / 4 - years / 100 + years / 400 +
		(153 * months + 2) / 5 + day - 1 - DAYS_OF_400_YEARS - DAYS_TO_2000;
}

static int
days_in_month(int year, int month)
{
	bool		leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);

	if (month == 2)
		return leap ? 29 : 28;
	return month == 4 || month == 6 || month == 9 || month == 11 ? 30 : 31;
}

/*
 * Read this many digits, as a number from "low" to "high".  If "follows" is
 * not empty, the next character must be one of its characters.
 */
static bool
read_digits(const char **at, int digits, int low, int high,
			const char *follows, int *number)
{
	*number = 0;
	for (int i = 0; i < digits; i++)
	{
		char		c = **at;

		if (c < '0' || c > '9')
			return false;
		(*at)++;
		*number = *number * 10 + (c - '0');
	}
	if (*follows != '\0')
	{
		char		c = **at;

		if (c == '\0' || strchr(follows, c) == NULL)
			return false;
		(*at)++;
	}
	return *number >= low && *number <= high;
}

/*
 * Read a fraction of a second, if there is one.  Digits after the sixth are
 * dropped.
 */
static bool
read_fraction(const char **at, int64 *microseconds)
{
	int64		unit = USECS_PER_SEC / 10;

	*microseconds = 0;
	if (**at != '.')
		return true;

	(*at)++;
	if (**at < '0' || **at > '9')
		return false;
	for (; **at >= '0' && **at <= '9'; (*at)++)
	{
		*microseconds += (**at - '0') * unit;
		unit /= 10;
	}
	return true;
}

/* Read the offset from UTC (Z, +hh:mm or -hh:mm), which must end the text. */
static bool
read_offset(const char *at, int64 *microseconds)
{
	char		sign = *at;
	int			hours;
	int			minutes;

	*microseconds = 0;
	if (sign == '\0')
		return false;
	at++;
	if (sign == 'Z' || sign == 'z')
		return *at == '\0';
	if ((sign != '+' && sign != '-') ||
		!read_digits(&at, 2, 0, 23, ":", &hours) ||
		!read_digits(&at, 2, 0, 59, "", &minutes))
		return false;
	*microseconds = (hours * INT64CONST(60) + minutes) * USECS_PER_MINUTE;
	if (sign == '-')
		*microseconds = -*microseconds;
	return *at == '\0';
}

/*
 * Parse a time.  A leap second counts as the first second of the next minute.
 */
bool
oa_parse_time(const char *time_text, TimestampTz *time)
{
	const char *at = time_text;
	int			year,
				month,
				day,
				hour,
				minute,
				second;
	int64		fraction,
				offset;

	if (!read_digits(&at, 4, 0, 9999, "-", &year) ||
		!read_digits(&at, 2, 1, 12, "-", &month) ||
		!read_digits(&at, 2, 1, days_in_month(year, month), "Tt", &day) ||
		!read_digits(&at, 2, 0, 23, ":", &hour) ||
		!read_digits(&at, 2, 0, 59, ":", &minute) ||
		!read_digits(&at, 2, 0, 60, "", &second) ||
		!read_fraction(&at, &fraction) ||
		!read_offset(at, &offset))
		return false;

	*time = days_since_2000(year, month, day) * USECS_PER_DAY +
		((hour * INT64CONST(60) + minute) * 60 + second) * USECS_PER_SEC +
		fraction - offset;
	return true;
}
