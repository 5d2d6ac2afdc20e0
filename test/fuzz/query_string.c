/*
 * query_string.c
 *		Feeds libFuzzer's input to the readers of query strings and of times.
 *
 * A second reader, which decodes each part as a whole, must agree with the one
 * under test; so must the C library about times.
 */
#include "postgres.h"

#include <time.h>

#include "http/http.h"

int			LLVMFuzzerTestOneInput(const uint8 *data, size_t size);

/* Decode a part into "to", which has room for it; false if it cannot be. */
static bool
decode(const char *part, size_t length, char *to)
{
	for (size_t i = 0; i < length; i++)
	{
		char		digits[3] = "";
		char	   *end = digits;

		if (part[i] != '%')
		{
			*to++ = part[i];
			continue;
		}
		if (i + 2 >= length)
			return false;
		memcpy(digits, part + i + 1, 2);
		if (strspn(digits, "0123456789abcdefABCDEF") != 2)
			return false;
		*to = (char) strtol(digits, &end, 16);
		if (*to++ == '\0')
			return false;
		i += 2;
	}
	*to = '\0';
	return true;
}

/* What oa_query_parameter() must say, and the value. */
static OaQueryResult
expect(const char *query, const char *name, char *value)
{
	char	   *copy = strdup(query);
	char	   *rest = copy;
	char	   *part;
	int			found = 0;
	bool		first_good = true;

	for (const char *c = query; *c != '\0'; c++)
		if (*c < '!' || *c > '~')
		{
			free(copy);
			return OA_QUERY_NOT_PRINTABLE;
		}
	while ((part = strsep(&rest, "&")) != NULL)
	{
		char	   *equals = strchr(part, '=');
		char	   *decoded = malloc(strlen(part) + 1);

		if (equals != NULL)
			*equals = '\0';
		if (decode(part, strlen(part), decoded) && strcmp(decoded, name) == 0)
		{
			const char *given = equals != NULL ? equals + 1 : "";

			/* Two of them are found out before a second value is looked at. */
			if (++found == 1)
				first_good = decode(given, strlen(given), value);
		}
		free(decoded);
	}
	free(copy);
	if (found == 0)
		return OA_QUERY_ABSENT;
	if (!first_good)
		return OA_QUERY_NOT_DECODABLE;
	return found == 1 ? OA_QUERY_FOUND : OA_QUERY_TWICE;
}

/* A time that is accepted is that of the C library. */
static void
try_time(const char *value)
{
	TimestampTz time;
	struct tm	tm = {0};
	int			hours = 0;
	int			minutes = 0;
	int			at = 0;
	int64		seconds;
	const char *offset;

	if (!oa_parse_time(value, &time))
		return;
	if (sscanf(value, "%4d-%2d-%2d%*1[Tt]%2d:%2d:%2d%n", &tm.tm_year, &tm.tm_mon,
			   &tm.tm_mday, &tm.tm_hour, &tm.tm_min, &tm.tm_sec, &at) != 6 ||
		at != 19)
		abort();
	tm.tm_year -= 1900;
	tm.tm_mon--;
	seconds = timegm(&tm);
	offset = value + at + strspn(value + at, ".0123456789");
	if (*offset != 'Z' && *offset != 'z')
	{
		if (sscanf(offset + 1, "%2d:%2d", &hours, &minutes) != 2)
			abort();
		seconds -= (*offset == '-' ? -60 : 60) * (hours * 60 + minutes);
	}
	/* From 1970 to 2000. */
	seconds -= INT64CONST(946684800);
	if (time < seconds * USECS_PER_SEC || time >= (seconds + 1) * USECS_PER_SEC)
		abort();
}

int
LLVMFuzzerTestOneInput(const uint8 *data, size_t size)
{
	static const char *const names[] = {"since", "until", "", "a%"};
	char	   *query = malloc(size + 1);
	char	   *value;
	char	   *expected;

	memcpy(query, data, size);
	query[size] = '\0';
	size = strlen(query);
	value = malloc(size + 1);
	expected = malloc(size + 1);
	for (int i = 0; i < lengthof(names); i++)
	{
		OaQueryResult result = oa_query_parameter(query, names[i], value);

		if (result != expect(query, names[i], expected))
			abort();
		if (result != OA_QUERY_FOUND)
			continue;
		if (strcmp(value, expected) != 0)
			abort();
		try_time(value);
	}
	try_time(query);
	free(expected);
	free(value);
	free(query);
	return 0;
}
