/*
 * request_headers.c
 *		Reads the headers of a request, a JSON object with lower-case names.
 *
 * The bearer credential is in "authorization".  If a proxy had to move it out
 * of the way of another layer, it is in "x-overten-authorization".
 *
 * A front end that accepts a key in a header of its own, such as X-API-Key,
 * passes it on as "x-overten-api-key".  Only a key may be in there.
 */
#include "postgres.h"

#include "http/http.h"
#include "server/server.h"
#include "text/text.h"

/*
 * Parse the headers, which are in the server's encoding.  Returns false if
 * they are not an object, if a name appears twice, or if there are too many.
 */
bool
oa_read_headers(const char *json, int length, OaHeaders *headers)
{
	int			capacity;

	headers->json = oa_server_to_utf8(json, length, &length);
	if (headers->json == NULL)
		return false;
	capacity = OA_JSON_NODES(length);
	headers->nodes = palloc(capacity * sizeof(OaJsonNode));
	return oa_json_parse(headers->json, length, headers->nodes,
						 capacity) == NULL;
}

/*
 * Read a header in UTF-8. *value is NULL if it is missing.  Returns false if
 * it is not a string.
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
 * Find the credential in an Authorization header.  The scheme's name may be in
 * any case (RFC 9110 section 11.1), and spaces may follow it.  Returns NULL if
 * there is no credential.
 */
static const char *
find_bearer(const char *value)
{
	if (value == NULL || pg_strncasecmp(value, "Bearer ", 7) != 0)
		return NULL;
	value += 7;
	while (*value == ' ')
		value++;
	return *value == '\0' ? NULL : value;
}

/* Cut off the spaces around a header's value (RFC 9110 section 5.5). */
static char *
trim_spaces(char *value)
{
	size_t		length;

	value += strspn(value, " \t");
	length = strlen(value);
	while (length > 0 && strchr(" \t", value[length - 1]) != NULL)
		length--;
	value[length] = '\0';
	return value;
}

static bool
is_given(const char *value)
{
	return value != NULL && *value != '\0';
}

/* Find the request's one credential. */
OaProblem
oa_read_bearer(const OaHeaders *headers, OaRequest *request)
{
	char	   *direct;
	char	   *moved;
	char	   *key;
	const char *bearer;

	if (!oa_read_header(headers, "authorization", &direct) ||
		!oa_read_header(headers, "x-overten-authorization", &moved) ||
		!oa_read_header(headers, "x-overten-api-key", &key))
		return OA_UNREADABLE_HEADERS;

	if (key != NULL)
		key = trim_spaces(key);
	if (is_given(key))
	{
		/*
		 * A client must not send a credential in more than one way (RFC 6750
		 * section 2).  No key has a comma: several headers have been joined.
		 */
		if (is_given(direct) || is_given(moved) || strchr(key, ',') != NULL)
			return OA_SEVERAL_CREDENTIALS;
		request->is_key_header = true;
		request->bearer = key;
		request->bearer_length = (int) strlen(key);
		return OA_NO_PROBLEM;
	}

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
