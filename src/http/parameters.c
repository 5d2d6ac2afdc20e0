/*
 * parameters.c
 *		Reads the parameters that endpoints take in the query string.
 *
 * A reader refuses the request if a parameter breaks a rule, and names it.
 */
#include "postgres.h"

#include "utils/timestamp.h"

#include "http/http.h"
#include "text/text.h"

/*
 * Find a parameter of the query. *value is NULL if it is missing, or if there
 * is no query.
 */
bool
oa_find_parameter(const OaRequest *request, OaResponse *response,
				  const char *name, const char **value)
{
	char	   *decoded;

	*value = NULL;
	if (request->query == NULL)
		return true;

	decoded = palloc(strlen(request->query) + 1);
	switch (oa_query_parameter(request->query, name, decoded))
	{
		case OA_QUERY_ABSENT:
			break;
		case OA_QUERY_FOUND:
			*value = decoded;
			break;
		case OA_QUERY_TWICE:
			return oa_refuse_parameter(response, name, "must be given once");
		case OA_QUERY_NOT_DECODABLE:
			return oa_refuse_parameter(response, name,
									   "must be percent-encoded, without NUL");
		case OA_QUERY_NOT_PRINTABLE:
			return oa_refuse_parameter(response, name,
									   "must be in a query string of visible ASCII characters");
	}
	return true;
}

/*
 * Read a time.  It is a parameter of the query or, if another layer has
 * already parsed the query, "value". *given says whether there is one.
 */
bool
oa_read_time(const OaRequest *request, OaResponse *response, const char *name,
			 const char *value, bool *given, TimestampTz *time)
{
	if (request->query != NULL &&
		!oa_find_parameter(request, response, name, &value))
		return false;

	*given = value != NULL;
	return !*given || oa_parse_time(value, time) ||
		oa_refuse_parameter(response, name,
							"must be a date, a time and an offset, as in 2026-04-17T11:20:00Z (RFC 3339)");
}

/*
 * Read the period that the request asks about.  It ends now, unless said
 * otherwise. *has_since says whether its beginning is given; if it is not, the
 * period has 24 hours.
 */
bool
oa_read_period(const OaRequest *request, OaResponse *response,
			   bool *has_since, OaPeriod *period)
{
	bool		has_until;

	if (!oa_read_time(request, response, "since", request->since, has_since,
					  &period->since) ||
		!oa_read_time(request, response, "until", request->until, &has_until,
					  &period->until))
		return false;

	oa_complete_period(period, *has_since, has_until);
	return period->since <= period->until ||
		oa_refuse_parameter(response, "since",
							"must not be later than until, which is now unless given");
}

/* Read the size of a page.  If it is missing, *limit stays as it is. */
bool
oa_read_limit(const OaRequest *request, OaResponse *response, int max,
			  int *limit)
{
	const char *value;
	int			number = 0;

	if (!oa_find_parameter(request, response, "limit", &value))
		return false;
	if (value == NULL)
		return true;

	/* Digits alone, and not so many that the number could overflow. */
	if (strlen(value) <= 6 && strspn(value, "0123456789") == strlen(value))
		number = atoi(value);
	if (number < 1 || number > max)
		return oa_refuse_parameter(response, "limit",
								   psprintf("must be a whole number between 1 and %d",
											max));
	*limit = number;
	return true;
}

/* Refuse a parameter that says after what the page begins. */
bool
oa_refuse_cursor(OaResponse *response)
{
	return oa_refuse_parameter(response, "cursor",
							   "must be the next_cursor of an earlier page");
}

/* Read why something is done. *reason is NULL if that is missing. */
bool
oa_read_reason(const OaRequest *request, OaResponse *response, text **reason)
{
	OaTextRule	broken = OA_TEXT_ENCODING;
	const char *value;

	*reason = NULL;
	if (!oa_find_parameter(request, response, "reason", &value))
		return false;
	if (value == NULL)
		return true;

	*reason = oa_utf8_to_text(value, (int) strlen(value));
	if (*reason != NULL)
		*reason = oa_trim_name(*reason, OA_REASON_MAX, &broken);
	return *reason != NULL ||
		oa_refuse_parameter(response, "reason",
							oa_text_rule(broken, OA_REASON_MAX));
}
