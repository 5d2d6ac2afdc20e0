/*
 * request_body.c
 *		The body of a request: an object, and what its members say.
 *
 * The body is parsed once, as soon as it is there; that it is not an object
 * is said by oa_require_object(), in its turn among the contract's checks.
 * Each reader below refuses a member that breaks its rule, by its name.
 */
#include "postgres.h"

#include "utils/builtins.h"

#include "overten_auth.h"

/* Parse a request's body.  What is no object leaves it without members. */
void
oa_parse_body(OaRequest *request)
{
	int			capacity = OA_JSON_NODES(request->body_length);
	OaJsonNode *nodes = palloc(capacity * sizeof(OaJsonNode));

	if (oa_json_parse(request->body, request->body_length, nodes,
					  capacity) == NULL)
		request->members = nodes;
}

/* Is a text JSON of whatever kind?  As the member of an object, it parses. */
static bool
is_json(const char *text, int length)
{
	char	   *wrapped = psprintf("{\"\":%s}", text);
	int			wrapped_length = length + 5;
	int			capacity = OA_JSON_NODES(wrapped_length);

	return oa_json_parse(wrapped, wrapped_length,
						 palloc(capacity * sizeof(OaJsonNode)),
						 capacity) == NULL;
}

/* Refuse a request whose body is not an object. */
bool
oa_require_object(const OaRequest *request, OaResponse *response)
{
	if (request->members != NULL)
		return true;
	return oa_refuse(response, request->body != NULL &&
					 is_json(request->body, request->body_length) ?
					 OA_INVALID_REQUEST : OA_INVALID_JSON, NULL);
}

/* A member of the body, or NULL if there is none or it is null. */
const OaJsonNode *
oa_find_member(const OaRequest *request, const char *name)
{
	const OaJsonNode *node;

	if (request->members == NULL)
		return NULL;
	node = oa_json_member(request->body, request->members, request->members,
						  name);
	return node != NULL && node->type == OA_JSON_NULL ? NULL : node;
}

/* A member that is a string, if it is there. */
bool
oa_read_text(const OaRequest *request, OaResponse *response, const char *name,
			 text **value)
{
	const OaJsonNode *node = oa_find_member(request, name);

	*value = NULL;
	if (node == NULL ||
		(node->type == OA_JSON_STRING &&
		 oa_json_to_text(request->body, node, value)))
		return true;
	return oa_refuse(response, OA_INVALID_PARAMETER, name);
}

/* A member that is a name, if it is there. */
bool
oa_read_name(const OaRequest *request, OaResponse *response, const char *name,
			 int max_characters, text **value)
{
	OaNameRule	broken;

	if (!oa_read_text(request, response, name, value))
		return false;
	if (*value == NULL)
		return true;
	*value = oa_trim_name(*value, max_characters, &broken);
	return *value != NULL || oa_refuse(response, OA_INVALID_PARAMETER, name);
}
