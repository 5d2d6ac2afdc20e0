/*
 * query_string.c
 *		The parameters of a request's query string, and times in them.
 *
 * Names and values are percent-decoded (RFC 3986, 2.1).  A plus sign is one:
 * this is no form, and the offset of a time has it.  Parameters that nobody
 * asks for are ignored, whatever they are; one that is asked for must be there
 * once, and decode.
 */
#include "postgres.h"

#include "utils/datetime.h"

#include "overten_auth.h"

/* The value of a hexadecimal digit, or -1. */
static int
hex_digit(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	c |= 0x20;
	return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* Decode a name or a value; NULL if it cannot be, or would hold a NUL. */
static char *
percent_decode(const char *text, size_t length)
{
	char	   *decoded = palloc(length + 1);
	size_t		n = 0;

	for (size_t i = 0; i < length; i++)
	{
		char		c = text[i];

		if (c == '%')
		{
			int			high = i + 2 < length ? hex_digit(text[i + 1]) : -1;
			int			low = i + 2 < length ? hex_digit(text[i + 2]) : -1;

			if (high < 0 || low < 0)
				return NULL;
			c = (char) (high << 4 | low);
			i += 2;
		}
		if (c == '\0')
			return NULL;
		decoded[n++] = c;
	}
	decoded[n] = '\0';
	return decoded;
}

/* Has a query only the characters that a URI can have? */
static bool
is_printable(const char *query)
{
	for (; *query != '\0'; query++)
	{
		if (*query <= ' ' || *query > '~')
			return false;
	}
	return true;
}

/*
 * Find a parameter's value, NULL if there is none.  False if it is there more
 * than once or does not decode, or the query is none of a URI: then it could
 * be there in any form.
 */
bool
oa_query_parameter(const char *query, const char *name, char **value)
{
	*value = NULL;
	if (!is_printable(query))
		return false;

	while (*query != '\0')
	{
		size_t		length = strcspn(query, "&");
		size_t		name_length = Min(strcspn(query, "="), length);
		char	   *decoded = percent_decode(query, name_length);

		if (decoded != NULL && strcmp(decoded, name) == 0)
		{
			const char *rest = query + name_length;

			if (*value != NULL)
				return false;
			*value = name_length == length ? pstrdup("") :
				percent_decode(rest + 1, length - name_length - 1);
			if (*value == NULL)
				return false;
		}
		query += length;
		if (*query == '&')
			query++;
	}
	return true;
}

/*
 * Read so many digits, as a number from "low" to "high", and what has to
 * follow them.
 */
static bool
read_digits(const char **text, int digits, int low, int high,
			const char *follows, int *number)
{
	*number = 0;
	for (int i = 0; i < digits; i++)
	{
		char		c = *(*text) ++;

		if (c < '0' || c > '9')
			return false;
		*number = *number * 10 + (c - '0');
	}
	if (*follows != '\0')
	{
		char		c = *(*text) ++;

		if (c == '\0' || strchr(follows, c) == NULL)
			return false;
	}
	return *number >= low && *number <= high;
}

/* Read a fraction of a second, if there is one; digits beyond 6 are dropped. */
static bool
read_fraction(const char **text, int64 *microseconds)
{
	int64		unit = USECS_PER_SEC / 10;

	*microseconds = 0;
	if (**text !='.')
		return true;

	(*text) ++;
	if (**text <'0' || **text >'9')
		return false;
	for (; **text >='0' && **text <='9'; (*text) ++)
	{
		*microseconds += (**text -'0') *unit;
		unit /= 10;
	}
	return true;
}

/* Read an offset from UTC, Z or +hh:mm or -hh:mm, which ends the text. */
static bool
read_offset(const char *text, int64 *microseconds)
{
	char		sign = *text ++;
	int			hours;
	int			minutes;

	*microseconds = 0;
	if (sign == 'Z' || sign == 'z')
		return *text == '\0';
	if ((sign != '+' && sign != '-') ||
		!read_digits(&text, 2, 0, 23, ":", &hours) ||
		!read_digits(&text, 2, 0, 59, "", &minutes))
		return false;
	*microseconds = (hours * INT64CONST(60) + minutes) * USECS_PER_MINUTE;
	if (sign == '-')
		*microseconds = -*microseconds;
	return *text == '\0';
}

/*
 * Parse a time as RFC 3339, 5.6 has it, such as 2026-04-17T11:20:00.5+02:00.
 * A leap second counts as the first second of the next minute.
 */
bool
oa_parse_time(const char *text, TimestampTz *time)
{
	int			year,
				month,
				day,
				hour,
				minute,
				second;
	int64		fraction,
				offset;

	if (!read_digits(&text, 4, 0, 9999, "-", &year) ||
		!read_digits(&text, 2, 1, 12, "-", &month) ||
		!read_digits(&text, 2, 1, day_tab[isleap(year)][month - 1], "Tt",
					 &day) ||
		!read_digits(&text, 2, 0, 23, ":", &hour) ||
		!read_digits(&text, 2, 0, 59, ":", &minute) ||
		!read_digits(&text, 2, 0, 60, "", &second) ||
		!read_fraction(&text, &fraction) ||
		!read_offset(text, &offset))
		return false;

	*time = (date2j(year, month, day) - POSTGRES_EPOCH_JDATE) * USECS_PER_DAY +
		((hour * INT64CONST(60) + minute) * 60 + second) * USECS_PER_SEC +
		fraction - offset;
	return true;
}
