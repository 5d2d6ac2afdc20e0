/*
 * request_body.c
 *		Reads the body of a request, which is an object, and its members.
 *
 * We parse the body once, as soon as we have it.  If it is not an object,
 * oa_require_object() refuses the request later, at its place in the order of
 * the contract.  If a member breaks a rule, the readers below refuse the
 * request and name the member.
 */
#include "postgres.h"

#include "utils/builtins.h"

#include "http/http.h"
#include "server/server.h"
#include "text/text.h"

/* Copy bytes, which may contain NULs, and add a NUL. */
static char *
copy_bytes(const char *bytes, int length)
{
	char	   *copy = memcpy(palloc(length + 1), bytes, length);

	copy[length] = '\0';
	return copy;
}

/*
 * Parse a body in UTF-8 or in the server's encoding.  An empty body counts as
 * missing.  A body that cannot be converted to UTF-8 counts as invalid JSON.
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

/* Find a member of the body.  Returns NULL if it is missing or null. */
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

/* Find a member, which must be a string. *found is NULL if it is missing. */
static bool
find_string(const OaRequest *request, OaResponse *response, const char *name,
			const OaJsonNode **found)
{
	*found = oa_find_member(request, name);
	return *found == NULL || (*found)->type == OA_JSON_STRING ||
		oa_refuse_parameter(response, name, "must be a string");
}

/*
 * Read a member that refers to something by name. *value is NULL if it is
 * missing.  If the database's encoding cannot hold the name, *value is "",
 * which is not the name of anything.
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

/* Read a member that is a name to store. *value is NULL if it is missing. */
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

/* Refuse a request without a member that has to be there. */
bool
oa_require_member(OaResponse *response, const char *name, const text *value)
{
	return value != NULL ||
		oa_refuse_parameter(response, name, "must be given");
}

/*
 * Read a member that is a whole number.  If it is missing, *value stays as it
 * is.
 */
bool
oa_read_integer(const OaRequest *request, OaResponse *response,
				const char *name, int min, int max, int *value)
{
	const OaJsonNode *node = oa_find_member(request, name);
	double		number;

	if (node == NULL)
		return true;
	if (node->type == OA_JSON_NUMBER)
	{
		number = oa_json_number(request->body, node);
		if (number >= min && number <= max && number == (int) number)
		{
			*value = (int) number;
			return true;
		}
	}
	return oa_refuse_parameter(response, name,
							   psprintf("must be a whole number between %d and %d",
										min, max));
}
