/*
 * postgrest.c
 *		The endpoints for PostgREST: the functions of schema overten_api.
 *
 * PostgREST puts the request's headers into the setting request.headers.  It
 * takes the response's status and headers from response.status and
 * response.headers.  All three are local to the transaction.  PostgREST itself
 * checks path, method and media type.  The ids of the path come as arguments,
 * or in headers that only the proxy in front sets: x-overten-org-id, and
 * x-overten-key-id or, for what is not a key, x-overten-item-id.  A query
 * string comes in x-overten-query, because PostgREST would reject parameters
 * that are not arguments.
 *
 * We return errors, because raising one would roll back the transaction and
 * log the error.  Some functions must raise.  Those that revoke, remove or close
 * something return void, because for a 204 with a json result PostgREST
 * announces a body.  authenticate_request is called before every request
 * (db-pre-request), and must stop a request that has a bad key.
 *
 * We also put the whole body of a refusal into the header X-Overten-Error.  It
 * tells the proxy in front that one of our functions refuses, and not
 * PostgREST itself, and the proxy can use the body in an answer of its own.
 * nginx has no other way to see an answer before it passes the answer on.
 *
 * PostgREST would take a 503 for an outage of its own: each time, it would add
 * a Retry-After of 0 and reload its schema cache.  So we return 504 instead.
 */
#include "postgres.h"

#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/json.h"

#include "http/http.h"
#include "http/postgrest.h"
#include "keys/keys.h"
#include "server/server.h"
#include "text/text.h"

/*
 * PostgREST parses message and detail of an error with this SQLSTATE as JSON.
 */
#define ERRCODE_POSTGREST MAKE_SQLSTATE('P','G','R','S','T')

#define ERROR_HEADER	"x-overten-error"

PG_FUNCTION_INFO_V1(overten_api_authenticate_request);
PG_FUNCTION_INFO_V1(overten_api_signup);
PG_FUNCTION_INFO_V1(overten_api_create_api_key);
PG_FUNCTION_INFO_V1(overten_api_list_api_keys);
PG_FUNCTION_INFO_V1(overten_api_revoke_api_key);
PG_FUNCTION_INFO_V1(overten_api_key_usage);
PG_FUNCTION_INFO_V1(overten_api_verify);
PG_FUNCTION_INFO_V1(overten_api_authorize);

/* Read the request's headers.  After a transaction the setting is empty. */
static bool
read_headers(OaHeaders *headers)
{
	const char *json = GetConfigOption("request.headers", true, false);

	if (json == NULL || *json == '\0')
		json = "{}";
	return strlen(json) <= OA_HEADERS_MAX &&
		oa_read_headers(json, (int) strlen(json), headers);
}

/*
 * Read an id from the header, or else from the body's member of that name, or
 * else from the argument.  If there is none, or the database's encoding cannot
 * hold it, return "", which is not the id of anything.
 */
static text *
read_id(const OaHeaders *headers, const char *header, const OaRequest *request,
		const char *member, text *argument)
{
	char	   *value;
	const OaJsonNode *node;
	text	   *id = argument;

	if (oa_read_header(headers, header, &value) && value != NULL)
		id = oa_utf8_to_text(value, (int) strlen(value));
	else
	{
		node = oa_find_member(request, member);
		if (node != NULL && node->type == OA_JSON_STRING)
			id = oa_json_to_text(request->body, node);
	}
	return id != NULL ? id : cstring_to_text("");
}

/*
 * Read the headers of a request, and its query.  Returns false if that has a
 * problem.
 */
static bool
read_call(OaRequest *request, OaResponse *response)
{
	OaHeaders  *headers = palloc(sizeof(OaHeaders));
	char	   *query;

	if (!read_headers(headers) ||
		!oa_read_header(headers, "x-overten-query", &query))
		return oa_refuse(response, OA_UNREADABLE_HEADERS);
	if (query != NULL && strlen(query) > OA_PATH_MAX)
		return oa_refuse(response, OA_PATH_TOO_LONG);
	request->query = query;
	request->headers = headers;
	request->client = oa_read_client_addr(headers);
	return true;
}

/*
 * Answer a request to one endpoint.  Its body is the nth argument, unless n is
 * OA_NO_BODY.  The caller has put the other arguments into the request.
 */
static void
handle_call(OaEndpoint endpoint, FunctionCallInfo fcinfo, int n,
			OaRequest *request, OaResponse *response)
{
	const OaHeaders *headers;
	const char *body = "";
	int			length = 0;

	oa_response_init(response);
	if (request->features != 0 && !oa_has_feature(request->features))
	{
		response->problem = request->without;
		if (request->without == OA_METHOD_NOT_ALLOWED)
			response->allow = "DELETE";
		return;
	}
	if (!read_call(request, response))
		return;
	if (n != OA_NO_BODY &&
		!oa_bounded_argument(fcinfo, n, OA_BODY_MAX, &body, &length))
	{
		response->problem = OA_PAYLOAD_TOO_LARGE;
		return;
	}
	oa_read_body(body, length, false, request);
	headers = request->headers;
	request->org_id = read_id(headers, "x-overten-org-id", request, "org_id",
							  request->org_id);
	request->key_id = read_id(headers, "x-overten-key-id", request, "key_id",
							  request->key_id);
	request->item_id = read_id(headers, "x-overten-item-id", request,
							   "item_id", request->item_id);
	response->problem = oa_read_bearer(headers, request);
	if (response->problem == OA_NO_PROBLEM)
		endpoint(request, response);
}

/* Append a header to the array that PostgREST reads. */
static void
append_header(const char *name, const char *value, void *argument)
{
	StringInfo	json = argument;

	appendStringInfo(json, "%c{\"%s\":", json->len == 0 ? '[' : ',', name);
	escape_json(json, value);
	appendStringInfoChar(json, '}');
}

/* Set a setting for the rest of the transaction. */
static void
set_local(const char *name, const char *value)
{
	(void) set_config_option(name, value, PGC_USERSET, PGC_S_SESSION,
							 GUC_ACTION_LOCAL, true, 0, false);
}

/* Return the status to give to PostgREST. */
static int
status_for_postgrest(const OaResponse *response)
{
	return response->status == 503 ? 504 : response->status;
}

/* Tell PostgREST the status and the headers of a response. */
static void
set_response(const OaResponse *response, int status)
{
	StringInfoData headers;

	initStringInfo(&headers);
	oa_each_response_header(response, append_header, &headers);
	if (response->problem != OA_NO_PROBLEM)
		append_header(ERROR_HEADER, response->body.data, &headers);
	appendStringInfoChar(&headers, ']');
	set_local("response.status", psprintf("%d", status));
	set_local("response.headers", headers.data);
}

/* Run an endpoint, and return its response as PostgREST expects it. */
Datum
oa_answer_call(OaEndpoint endpoint, FunctionCallInfo fcinfo, int n,
			   OaRequest *request)
{
	ErrorContextCallback secrecy;
	OaResponse	response;

	oa_secrecy_begin(&secrecy);
	handle_call(endpoint, fcinfo, n, request, &response);
	oa_write_problem(&response);
	set_response(&response, status_for_postgrest(&response));
	oa_secrecy_end(&secrecy);
	PG_RETURN_TEXT_P(cstring_to_text_with_len(response.body.data,
											  response.body.len));
}

/* Append a header to the object in an error's detail. */
static void
append_raised_header(const char *name, const char *value, void *argument)
{
	StringInfo	json = argument;

	if (strcmp(name, "content-type") == 0)
		return;
	appendStringInfo(json, ",\"%s\":", name);
	escape_json(json, value);
}

/* Raise a problem as PostgREST expects it. */
pg_noreturn static void
raise_problem(OaResponse *response)
{
	const OaProblemText *text = oa_problem_text(response->problem);
	StringInfoData message;
	StringInfoData detail;

	oa_write_problem(response);
	initStringInfo(&message);
	appendStringInfo(&message, "{\"code\":\"%s\",\"message\":", text->code);
	escape_json(&message,
				oa_problem_message(response->problem, &response->fault));
	appendStringInfoChar(&message, '}');

	initStringInfo(&detail);
	appendStringInfo(&detail, "{\"status\":%d,\"headers\":{\"" ERROR_HEADER "\":",
					 status_for_postgrest(response));
	escape_json(&detail, response->body.data);
	oa_each_response_header(response, append_raised_header, &detail);
	appendStringInfoString(&detail, "}}");

	ereport(ERROR,
			(errcode(ERRCODE_POSTGREST),
			 errmsg_internal("%s", message.data),
			 errdetail_internal("%s", detail.data)));
}

/*
 * Run an endpoint whose answer has no body.  The body of the request is the
 * first argument.
 */
Datum
oa_answer_empty(OaEndpoint endpoint, FunctionCallInfo fcinfo)
{
	ErrorContextCallback secrecy;
	OaRequest	request = {0};
	OaResponse	response;

	oa_secrecy_begin(&secrecy);
	handle_call(endpoint, fcinfo, 0, &request, &response);
	if (response.problem != OA_NO_PROBLEM)
		raise_problem(&response);
	set_local("response.status", "204");
	set_local("response.headers", "[{\"cache-control\":\"no-store\"}]");
	oa_secrecy_end(&secrecy);
	PG_RETURN_VOID();
}

/*
 * Return an argument that replaces a part of the path, or NULL.  If it is
 * longer than a path may be, return "", which is neither an id nor a time.
 */
static char *
string_argument(FunctionCallInfo fcinfo, int n)
{
	const char *bytes;
	int			length;

	if (PG_ARGISNULL(n))
		return NULL;
	return oa_bounded_argument(fcinfo, n, OA_PATH_MAX, &bytes, &length) ?
		pnstrdup(bytes, length) : "";
}

/* Likewise, as text. */
text	   *
oa_path_argument(FunctionCallInfo fcinfo, int n)
{
	char	   *string = string_argument(fcinfo, n);

	return string != NULL ? cstring_to_text(string) : NULL;
}

/* overten_api.signup(json) returns json */
Datum
overten_api_signup(PG_FUNCTION_ARGS)
{
	OaRequest	request = {0};

	return oa_answer_call(oa_endpoint_signup, fcinfo, 0, &request);
}

/* overten_api.create_api_key(json) returns json */
Datum
overten_api_create_api_key(PG_FUNCTION_ARGS)
{
	OaRequest	request = {0};

	return oa_answer_call(oa_endpoint_create_key, fcinfo, 0, &request);
}

/* overten_api.list_api_keys(org_id text) returns json */
Datum
overten_api_list_api_keys(PG_FUNCTION_ARGS)
{
	OaRequest	request = {.org_id = oa_path_argument(fcinfo, 0)};

	return oa_answer_call(oa_endpoint_list_keys, fcinfo, OA_NO_BODY, &request);
}

/*
 * overten_api.key_usage(org_id text, key_id text, since text, until text)
 *		returns json
 */
Datum
overten_api_key_usage(PG_FUNCTION_ARGS)
{
	OaRequest	request = {
		.org_id = oa_path_argument(fcinfo, 0),
		.key_id = oa_path_argument(fcinfo, 1),
		.since = string_argument(fcinfo, 2),
		.until = string_argument(fcinfo, 3),
	};

	return oa_answer_call(oa_endpoint_key_usage, fcinfo, OA_NO_BODY, &request);
}

/* overten_api.verify() returns json */
Datum
overten_api_verify(PG_FUNCTION_ARGS)
{
	OaRequest	request = {0};

	return oa_answer_call(oa_endpoint_verify, fcinfo, OA_NO_BODY, &request);
}

/*
 * overten_api.authorize() returns void
 *
 * What the answer says is in its headers.  It has no body, so that nginx, which
 * does not read one, can keep the connection.
 */
Datum
overten_api_authorize(PG_FUNCTION_ARGS)
{
	ErrorContextCallback secrecy;
	OaRequest	request = {0};
	OaResponse	response;

	oa_secrecy_begin(&secrecy);
	oa_response_init(&response);
	if (read_call(&request, &response))
		oa_authorize(&request, &response);
	else
		oa_write_problem(&response);
	set_response(&response, response.status == 200 ? 204 : response.status);
	oa_secrecy_end(&secrecy);
	PG_RETURN_VOID();
}

/* overten_api.revoke_api_key(json) returns void */
Datum
overten_api_revoke_api_key(PG_FUNCTION_ARGS)
{
	return oa_answer_empty(oa_endpoint_revoke_key, fcinfo);
}

/*
 * Verify the key in a request's headers, and remember its identity.  Without a
 * key, there is no identity and no problem.
 */
static OaProblem
authenticate(void)
{
	OaRequest	request = {0};
	OaHeaders	headers;
	OaProblem	problem;
	OaVerifiedKey key;

	oa_forget_identity();
	if (!read_headers(&headers))
		return OA_UNREADABLE_HEADERS;

	problem = oa_read_bearer(&headers, &request);
	if (problem == OA_MISSING_CREDENTIALS)
		return OA_NO_PROBLEM;
	if (problem != OA_NO_PROBLEM)
		return problem;
	if (!request.is_key_header &&
		!oa_looks_like_secret(request.bearer, request.bearer_length))
		return OA_NO_PROBLEM;

	request.client = oa_read_client_addr(&headers);
	problem = oa_verify_bearer(&request, false, &key);
	if (problem == OA_NO_PROBLEM)
		oa_remember_identity(DatumGetTextPP(key.values[OA_VERIFIED_KEY_ID]),
							 DatumGetTextPP(key.values[OA_VERIFIED_ORG_ID]),
							 key.restrictions);
	return problem;
}

/* overten_api.authenticate_request() returns void */
Datum
overten_api_authenticate_request(PG_FUNCTION_ARGS)
{
	ErrorContextCallback secrecy;
	OaResponse	response;

	oa_secrecy_begin(&secrecy);
	oa_response_init(&response);
	response.problem = authenticate();
	if (response.problem != OA_NO_PROBLEM)
		raise_problem(&response);
	oa_secrecy_end(&secrecy);
	PG_RETURN_VOID();
}
