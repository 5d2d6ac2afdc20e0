/*
 * authorization.c
 *		Answers whether a request to a service may go on.
 *
 * A proxy or a service asks this about each request that it gets, with the
 * client's headers.  The answer is that of overten_admission(), as HTTP has it.
 * overten_authorize_request() and, for PostgREST, overten_api.authorize() give
 * it.  They are no endpoints of overten_handle_request(), because clients must
 * not reach them: with a large cost a client could use up in one request what
 * its org may use in a month.
 *
 * The header X-Overten-Refusal names what a client is refused for: an outcome of
 * overten_admission(), "missing" or "two_credentials".  So a proxy can choose an
 * answer without reading a body, and knows an answer that is not for the client.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "utils/array.h"
#include "utils/builtins.h"

#include "http/http.h"
#include "keys/keys.h"
#include "server/server.h"
#include "text/text.h"

PG_FUNCTION_INFO_V1(overten_authorize_request);

#define REFUSAL_HEADER	"x-overten-refusal"
#define RETRY_HEADER	"x-overten-retry-after"
#define SCOPES_MAX		64
#define DIGITS_MAX		10		/* of OA_COST_MAX */

enum
{
	ARGUMENT_QUERY, ARGUMENT_HEADERS
};

/* What is asked for. */
typedef struct Demand
{
	int64		cost;
	const char *scope;			/* names with spaces between; or NULL */
	ArrayType  *scopes;			/* the same, or NULL */
	bool		for_nginx;		/* which knows no refusals but 401 and 403 */
} Demand;

/* Read what the request costs: 1 unless said. */
static bool
read_cost(const OaRequest *request, OaResponse *response, int64 *cost)
{
	const char *value;

	*cost = 1;
	if (!oa_find_parameter(request, response, "cost", &value))
		return false;
	if (value == NULL)
		return true;

	if (*value != '\0' && strlen(value) <= DIGITS_MAX &&
		strspn(value, "0123456789") == strlen(value))
	{
		*cost = strtol(value, NULL, 10);
		if (*cost <= OA_COST_MAX)
			return true;
	}
	return oa_refuse_parameter(response, "cost",
							   psprintf("must be a whole number between 0 and %d",
										OA_COST_MAX));
}

/* Read the scopes that the request needs, with spaces between. */
static bool
read_scopes(const OaRequest *request, OaResponse *response, Demand *demand)
{
	Datum		scopes[SCOPES_MAX];
	int			count = 0;
	const char *at;

	demand->scope = NULL;
	demand->scopes = NULL;
	if (!oa_find_parameter(request, response, "scope", &demand->scope))
		return false;
	if (demand->scope == NULL || *demand->scope == '\0')
	{
		demand->scope = NULL;
		return true;
	}

	at = demand->scope;
	for (;;)
	{
		int			length = (int) strcspn(at, " ");

		if (count == SCOPES_MAX || !oa_is_scope(at, length))
			return oa_refuse_parameter(response, "scope",
									   psprintf("must be at most %d scopes with a space between",
												SCOPES_MAX));
		scopes[count++] = PointerGetDatum(cstring_to_text_with_len(at, length));
		at += length;
		if (*at == '\0')
			break;
		at++;
	}
	demand->scopes = construct_array(scopes, count, TEXTOID, -1, false,
									 TYPALIGN_INT);
	return true;
}

/* Read for whom the answer is. */
static bool
read_reader(const OaRequest *request, OaResponse *response, bool *for_nginx)
{
	const char *value;

	*for_nginx = false;
	if (!oa_find_parameter(request, response, "for", &value))
		return false;
	*for_nginx = value != NULL && strcmp(value, "auth_request") == 0;
	return value == NULL || *for_nginx ||
		oa_refuse_parameter(response, "for", "must be auth_request");
}

static bool
read_demand(const OaRequest *request, OaResponse *response, Demand *demand)
{
	return read_cost(request, response, &demand->cost) &&
		read_scopes(request, response, demand) &&
		read_reader(request, response, &demand->for_nginx);
}

/*
 * Percent-encode a value for a header, as encodeURIComponent() does.  Raises
 * 22P05 if it has a character that is not in Unicode.
 */
static const char *
encode(text *value)
{
	static const char unreserved[] =
	"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_.!~*'()";
	int			length;
	char	   *utf8 = oa_server_to_utf8(VARDATA_ANY(value),
										 VARSIZE_ANY_EXHDR(value), &length);
	StringInfoData encoded;

	if (utf8 == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_UNTRANSLATABLE_CHARACTER),
				 errmsg("a header cannot have characters that are not in Unicode")));
	initStringInfo(&encoded);
	for (int i = 0; i < length; i++)
	{
		if (strchr(unreserved, utf8[i]) != NULL)
			appendStringInfoChar(&encoded, utf8[i]);
		else
			appendStringInfo(&encoded, "%%%02X", (unsigned char) utf8[i]);
	}
	return encoded.data;
}

/*
 * Say what the limit that matters leaves, as the draft "RateLimit header fields
 * for HTTP" of the IETF has it.
 */
static void
write_limit(OaResponse *response, const OaStanding *standing)
{
	oa_add_header(response, "ratelimit-policy",
				  psprintf("\"%s\";q=" INT64_FORMAT ";w=%d", standing->name,
						   standing->quota, standing->period));
	oa_add_header(response, "ratelimit",
				  psprintf("\"%s\";r=" INT64_FORMAT ";t=" INT64_FORMAT,
						   standing->name, standing->remaining,
						   oa_whole_seconds(standing->reset_after)));
}

/* Say whose key it is, in headers and in the body. */
static void
write_admission(OaResponse *response, const OaDecision *decision)
{
	static const struct
	{
		const char *member;
		const char *header;
		int			column;
	}			parts[] = {
		{"key_id", "x-overten-key-id", OA_VERIFIED_KEY_ID},
		{"org_id", "x-overten-org-id", OA_VERIFIED_ORG_ID},
		{"org_name", NULL, OA_VERIFIED_ORG_NAME},
		{"tier", "x-overten-tier", OA_VERIFIED_TIER},
		{"webhook_secret", NULL, OA_VERIFIED_WEBHOOK_SECRET},
		{"key_prefix", "x-overten-key-prefix", OA_VERIFIED_KEY_PREFIX},
	};

	response->status = 200;
	oa_begin_object(&response->body);
	for (int i = 0; i < lengthof(parts); i++)
	{
		text	   *value = oa_verified_column(decision->row, parts[i].column);

		oa_write_text(&response->body, parts[i].member, value);
		if (parts[i].header != NULL)
			oa_add_header(response, parts[i].header, encode(value));
	}
	appendStringInfoChar(&response->body, '}');
}

/*
 * Say when a request that a limit has refused can be repeated.  Clients sleep for
 * as long as Retry-After tells them, and the next period of a quota can begin
 * weeks later.  So if that is more than an hour, only the body tells it.  A
 * header tells it to proxies that do not read the body.
 */
static void
write_wait(OaResponse *response, const OaStanding *standing)
{
	int64		wait = oa_whole_seconds(standing->retry_after);
	const char *text = psprintf(INT64_FORMAT, wait);

	if (!standing->is_quota || wait <= SECS_PER_HOUR)
		oa_add_header(response, "retry-after", text);
	if (standing->is_quota)
	{
		response->retry_after = wait;
		oa_add_header(response, RETRY_HEADER, text);
	}
}

/* Say why a request is refused. */
static void
write_refusal(OaResponse *response, const OaAdmission *admission,
			  const Demand *demand)
{
	static const OaProblem problems[] = {
		[OA_KEY_INVALID] = OA_INVALID_API_KEY,
		[OA_KEY_EXPIRED] = OA_EXPIRED_API_KEY,
		[OA_KEY_DISABLED] = OA_DISABLED_API_KEY,
		[OA_ADDRESS_NOT_ALLOWED] = OA_ADDRESS_REFUSED,
		[OA_INSUFFICIENT_SCOPE] = OA_SCOPE_MISSING,
		[OA_RATE_LIMITED] = OA_TOO_MANY_REQUESTS,
		[OA_QUOTA_EXCEEDED] = OA_QUOTA_USED_UP,
	};
	OaOutcome	outcome = admission->decision.outcome;

	response->problem = problems[outcome];
	oa_add_header(response, REFUSAL_HEADER, oa_outcome_name(outcome));
	if (outcome == OA_INSUFFICIENT_SCOPE)
		oa_add_header(response, "www-authenticate",
					  psprintf(OA_CHALLENGE ", error=\"insufficient_scope\", scope=\"%s\"",
							   demand->scope));
	if (admission->standing.is_limited && admission->standing.retry_after >= 0)
		write_wait(response, &admission->standing);
}

/* Ask about the key of a request whose headers have been read. */
static void
authorize(const OaRequest *request, const Demand *demand,
		  OaResponse *response)
{
	OaAdmission admission;
	OaLimiting	limiting = oa_admit(request->bearer, request->bearer_length,
									demand->cost, demand->scopes,
									request->client, &admission);

	if (limiting != OA_WITHIN_LIMITS && limiting != OA_OVER_LIMIT)
		oa_refuse_to_limit(limiting);

	if (admission.standing.is_limited)
		write_limit(response, &admission.standing);
	if (admission.decision.outcome == OA_ADMITTED)
		write_admission(response, &admission.decision);
	else
		write_refusal(response, &admission, demand);
}

/*
 * Answer the question whether a request may go on.  Of "request" the query, the
 * headers and the client must be set.
 */
void
oa_authorize(OaRequest *request, OaResponse *response)
{
	Demand		demand = {0};

	response->problem = oa_read_bearer(request->headers, request);
	if (response->problem == OA_MISSING_CREDENTIALS)
		oa_add_header(response, REFUSAL_HEADER, "missing");
	if (response->problem == OA_TWO_CREDENTIALS ||
		response->problem == OA_SEVERAL_CREDENTIALS)
		oa_add_header(response, REFUSAL_HEADER, "two_credentials");
	if (response->problem == OA_NO_PROBLEM &&
		read_demand(request, response, &demand))
		authorize(request, &demand, response);
	oa_write_problem(response);
	if (demand.for_nginx && response->status == 429)
		response->status = 403;
}

/* Read the arguments into a request.  Returns false if that has a problem. */
static bool
read_arguments(FunctionCallInfo fcinfo, OaRequest *request,
			   OaResponse *response)
{
	OaHeaders  *headers = palloc(sizeof(OaHeaders));
	const char *bytes;
	int			length;

	if (!oa_bounded_argument(fcinfo, ARGUMENT_QUERY, OA_PATH_MAX, &bytes,
							 &length))
		return oa_refuse(response, OA_PATH_TOO_LONG);
	request->query = pnstrdup(bytes, length);

	if (!oa_bounded_argument(fcinfo, ARGUMENT_HEADERS, OA_HEADERS_MAX, &bytes,
							 &length) ||
		!oa_read_headers(length > 0 ? bytes : "{}", length > 0 ? length : 2,
						 headers))
		return oa_refuse(response, OA_UNREADABLE_HEADERS);
	request->headers = headers;
	request->client = oa_read_client_addr(headers);
	return true;
}

/*
 * overten_authorize_request(query text, headers json)
 *		returns overten_auth.http_response (status, headers, body)
 *
 * The query has the parameters cost, scope and for, or is NULL.  The headers are
 * those of the client's request, as overten_handle_request() takes them.
 * Raises 55000 on a standby where keys are not verified, or if the key has
 * limits that cannot be counted.
 */
Datum
overten_authorize_request(PG_FUNCTION_ARGS)
{
	ErrorContextCallback secrecy;
	OaRequest	request = {0};
	OaResponse	response;
	Datum		result;

	oa_secrecy_begin(&secrecy);
	oa_response_init(&response);
	if (read_arguments(fcinfo, &request, &response))
		oa_authorize(&request, &response);
	else
		oa_write_problem(&response);
	result = oa_return_response(fcinfo, &response, true);
	oa_secrecy_end(&secrecy);
	return result;
}
