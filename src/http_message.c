/*
 * http_message.c
 *		What HTTP adds around an endpoint: headers in, an error's body out.
 *
 * Headers come as a JSON object with lower-case names.  The bearer credential
 * is in "authorization" or, where a proxy had to move it out of the way of
 * another layer, in "x-overten-authorization".
 */
#include "postgres.h"

#include "catalog/namespace.h"
#include "mb/pg_wchar.h"
#include "utils/builtins.h"
#include "utils/json.h"

#include "overten_auth.h"

/* Far more than an HTTP layer lets through. */
#define HEADERS_MAX (1024 * 1024)

/*
 * A text of the server's encoding in UTF-8, terminated.  What has no
 * equivalent, or in SQL_ASCII is something else, gives what no JSON is.
 */
static char *
to_utf8(const char *bytes, int length, int *utf8_length)
{
	int			encoding = GetDatabaseEncoding();
	Oid			procedure;
	Size		size = (Size) length * MAX_CONVERSION_GROWTH + 1;
	char	   *utf8;

	*utf8_length = length;
	if (encoding == PG_UTF8 || encoding == PG_SQL_ASCII)
		return pnstrdup(bytes, length);

	procedure = FindDefaultConversionProc(encoding, PG_UTF8);
	utf8 = palloc0(size);
	if (!OidIsValid(procedure) ||
		pg_do_encoding_conversion_buf(procedure, encoding, PG_UTF8,
									  (unsigned char *) unconstify(char *, bytes),
									  length, (unsigned char *) utf8,
									  (int) size, true) != length)
		utf8[0] = '\0';
	*utf8_length = (int) strlen(utf8);
	return utf8;
}

/*
 * Parse the headers.  False if they are not an object of distinct members, as
 * two Authorization headers would make it.
 */
bool
oa_read_headers(text *json, OaHeaders *headers)
{
	int			length;
	int			capacity;

	if (VARSIZE_ANY_EXHDR(json) > HEADERS_MAX)
		return false;

	headers->json = to_utf8(VARDATA_ANY(json), VARSIZE_ANY_EXHDR(json),
							&length);
	capacity = OA_JSON_NODES(length);
	headers->nodes = palloc(capacity * sizeof(OaJsonNode));
	return oa_json_parse(headers->json, length, headers->nodes,
						 capacity) == NULL;
}

/*
 * The value of a header, NULL if there is none.  False if the header is there,
 * but not once.
 */
bool
oa_read_header(const OaHeaders *headers, const char *name, char **value)
{
	const OaJsonNode *node = oa_json_member(headers->json, headers->nodes,
											headers->nodes, name);

	*value = NULL;
	if (node == NULL)
		return true;
	if (node->type != OA_JSON_STRING)
		return false;

	*value = palloc(node->length + 1);
	(*value)[oa_json_unescape(headers->json, node, *value)] = '\0';
	return true;
}

/*
 * The credential in an Authorization header: the scheme's name in any case
 * (RFC 9110 11.1), spaces, and the rest.  NULL if there is none.
 */
static char *
find_bearer(char *value)
{
	if (value == NULL || pg_strncasecmp(value, "Bearer ", 7) != 0)
		return NULL;
	value += 7;
	while (*value == ' ')
		value++;
	return *value == '\0' ? NULL : value;
}

/* Find the request's one bearer credential. */
OaProblem
oa_read_bearer(const OaHeaders *headers, OaRequest *request)
{
	char	   *direct;
	char	   *moved;
	char	   *bearer;

	if (!oa_read_header(headers, "authorization", &direct) ||
		!oa_read_header(headers, "x-overten-authorization", &moved))
		return OA_TWO_CREDENTIALS;

	bearer = find_bearer(moved);
	if (bearer == NULL)
		bearer = find_bearer(direct);
	if (bearer == NULL)
		return OA_MISSING_CREDENTIALS;
	if (direct != NULL && moved != NULL && strcmp(direct, moved) != 0)
		return OA_TWO_CREDENTIALS;

	request->bearer = bearer;
	request->bearer_length = (int) strlen(bearer);
	return OA_NO_PROBLEM;
}

/*
 * Take over a body; an empty one is none.  One that is too large is left
 * alone, but for its length.
 */
void
oa_read_body(text *body, OaRequest *request)
{
	if (body == NULL || VARSIZE_ANY_EXHDR(body) == 0)
		return;

	request->body_length = VARSIZE_ANY_EXHDR(body);
	if (request->body_length > OA_BODY_MAX)
	{
		request->body = "";
		return;
	}
	request->body = to_utf8(VARDATA_ANY(body), request->body_length,
							&request->body_length);
	oa_parse_body(request);
}

/* A response that nothing has been written to. */
void
oa_response_init(OaResponse *response)
{
	response->problem = OA_NO_PROBLEM;
	response->param = NULL;
	response->allow = NULL;
	response->status = 0;
	initStringInfo(&response->body);
}

/* If there is a problem, make it the response. */
void
oa_write_problem(OaResponse *response)
{
	const OaProblemText *text;

	if (response->problem == OA_NO_PROBLEM)
		return;

	text = oa_problem_text(response->problem);
	response->status = text->status;

	resetStringInfo(&response->body);
	appendStringInfo(&response->body, "{\"error\":{\"code\":\"%s\",\"message\":",
					 text->code);
	escape_json(&response->body, text->message);
	if (response->problem == OA_INVALID_PARAMETER)
		appendStringInfo(&response->body, ",\"param\":\"%s\"",
						 response->param);
	appendStringInfoString(&response->body, "}}");
}

/*
 * The headers of a response, each as a callback's name and value, in a fixed
 * order.  No response may be stored anywhere: all hold or concern secrets.
 */
void
oa_each_response_header(const OaResponse *response, OaHeaderCallback callback,
						void *argument)
{
	callback("cache-control", "no-store", argument);
	if (response->body.len > 0)
		callback("content-type", "application/json", argument);
	if (response->problem != OA_NO_PROBLEM)
	{
		const OaProblemText *text = oa_problem_text(response->problem);

		if (response->allow != NULL)
			callback("allow", response->allow, argument);
		if (text->challenge != NULL)
			callback("www-authenticate", text->challenge, argument);
		if (text->retry_after != NULL)
			callback("retry-after", text->retry_after, argument);
	}
}
