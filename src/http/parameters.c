/*
 * parameters.c
 *		Reads the parameters of a query string as endpoints need them.
 *
 * If a parameter breaks a rule, the readers refuse the request and name the
 * parameter.
 */
#include "postgres.h"

#include "http/http.h"

/*
 * Find a parameter and decode its value. *value is NULL if it is missing, and
 * if the request has no query string.
 */
bool
oa_read_parameter(const OaRequest *request, OaResponse *response,
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
 * Read a time.  If the request has no query string, because another layer has
 * parsed it, the parameter's value is "value". *given says whether there is
 * one.
 */
bool
oa_read_time_parameter(const OaRequest *request, OaResponse *response,
					   const char *name, const char *value, bool *given,
					   TimestampTz *time)
{
	if (request->query != NULL &&
		!oa_read_parameter(request, response, name, &value))
		return false;

	*given = value != NULL;
	return !*given || oa_parse_time(value, time) ||
		oa_refuse_parameter(response, name, OA_TIME_RULE);
}

/* Read the size of a page. *limit is 0 if it is missing. */
bool
oa_read_limit(const OaRequest *request, OaResponse *response, int *limit)
{
	const char *value;
	int			number = 0;

	*limit = 0;
	if (!oa_read_parameter(request, response, "limit", &value))
		return false;
	if (value == NULL)
		return true;

	for (const char *at = value; *at >= '0' && *at <= '9'; at++)
	{
		number = number * 10 + *at - '0';
		if (number > OA_LIMIT_MAX)
			break;
	}
	if (strspn(value, "0123456789") != strlen(value) || number < 1 ||
		number > OA_LIMIT_MAX)
		return oa_refuse_parameter(response, "limit",
								   "must be a number from 1 to 1000");
	*limit = number;
	return true;
}
