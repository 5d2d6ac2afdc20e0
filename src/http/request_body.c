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

#include "http/http.h"
#include "server/server.h"
#include "text/text.h"

/* A copy of bytes, among which NULs may be, with a NUL behind it. */
static char *
copy_bytes(const char *bytes, int length)
{
	char	   *copy = memcpy(palloc(length + 1), bytes, length);

	copy[length] = '\0';
	return copy;
}

/*
 * Take over a body, in UTF-8 or in the server's encoding; an empty one is none.
 * One that has no equivalent in UTF-8 is no JSON.
 */
void
oa_read_body(const char *body, int length, bool is_utf8, OaRequest *request)
{
	int			capacity;
	OaJsonNode *nodes;

	if (length == 0)
		return;
	if (is_utf8)
		request->body = copy_bytes(body, length);
	else
		request->body = oa_server_to_utf8(body, length, &length);
	if (request->body == NULL)
		return;

	capacity = OA_JSON_NODES(length);
	nodes = palloc(capacity * sizeof(OaJsonNode));
	request->is_json = oa_json_parse_value(request->body, length, nodes,
										   capacity) == NULL;
	if (request->is_json && nodes[0].type == OA_JSON_OBJECT)
		request->members = nodes;
}

/* Refuse a request whose body is not an object. */
bool
oa_require_object(const OaRequest *request, OaResponse *response)
{
	if (request->members != NULL)
		return true;
	return oa_refuse(response, request->is_json ?
					 OA_NOT_AN_OBJECT : OA_INVALID_JSON);
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

/*
 * Read a member that is a string, if it is there.  *found is NULL if it is not.
 */
static bool
find_string(const OaRequest *request, OaResponse *response, const char *name,
			const OaJsonNode **found)
{
	*found = oa_find_member(request, name);
	return *found == NULL || (*found)->type == OA_JSON_STRING ||
		oa_refuse_parameter(response, name, "must be a string");
}

/*
 * A member that is the name of something that exists, if it is there.  Where the
 * database's encoding cannot hold it, nothing has that name, nor an empty one.
 */
bool
oa_read_reference(const OaRequest *request, OaResponse *response,
				  const char *name, text **value)
{
	const OaJsonNode *node;

	*value = NULL;
	if (!find_string(request, response, name, &node))
		return false;
	if (node != NULL)
		*value = oa_json_to_text(request->body, node);
	if (node != NULL && *value == NULL)
		*value = cstring_to_text("");
	return true;
}

/* A member that is a name to be stored, if it is there. */
bool
oa_read_name(const OaRequest *request, OaResponse *response, const char *name,
			 int max_characters, text **value)
{
	OaTextRule	broken = OA_TEXT_ENCODING;
	const OaJsonNode *node;

	*value = NULL;
	if (!find_string(request, response, name, &node))
		return false;
	if (node == NULL)
		return true;

	*value = oa_json_to_text(request->body, node);
	if (*value != NULL)
		*value = oa_trim_name(*value, max_characters, &broken);
	return *value != NULL ||
		oa_refuse_parameter(response, name,
							oa_text_rule(broken, max_characters));
}
