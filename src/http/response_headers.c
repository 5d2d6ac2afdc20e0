/*
 * response_headers.c
 *		Completes the response of an endpoint for HTTP.
 *
 * It turns a problem into a status and a body, and lists the headers.
 */
#include "postgres.h"

#include "utils/builtins.h"
#include "utils/json.h"

#include "http/http.h"
#include "server/server.h"

/* Initialize an empty response. */
void
oa_response_init(OaResponse *response)
{
	memset(response, 0, sizeof(*response));
	initStringInfo(&response->body);
}

/* Add a header to those that every response has, or its problem. */
void
oa_add_header(OaResponse *response, const char *name, const char *value)
{
	OaHeader   *header = &response->headers[response->header_count++];

	Assert(response->header_count <= OA_RESPONSE_HEADERS_MAX);
	header->name = name;
	header->value = value;
}

/* Write an id that belongs to a problem, unless it is NULL. */
static void
write_id(StringInfo json, const char *name, text *id)
{
	if (id != NULL)
		oa_write_text(json, name, id);
}

/* If there is a problem, write it as the response. */
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
	escape_json(&response->body,
				oa_problem_message(response->problem, &response->fault));
	if (response->problem == OA_INVALID_PARAMETER)
		appendStringInfo(&response->body, ",\"param\":\"%s\"",
						 response->fault.param);
	write_id(&response->body, "org_id", response->org_id);
	write_id(&response->body, "key_id", response->key_id);
	if (response->retry_after > 0)
		oa_write_integer(&response->body, "retry_after", response->retry_after);
	appendStringInfoString(&response->body, "}}");
}

/*
 * Pass the headers of a response to a callback, in a fixed order.  Nobody may
 * store a response, because every response contains or concerns secrets.
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
	for (int i = 0; i < response->header_count; i++)
		callback(response->headers[i].name, response->headers[i].value,
				 argument);
}
