/*
 * idempotency_key.c
 *		Reads the Idempotency-Key of a request, by which a client can repeat
 *		a request whose answer was lost (draft-ietf-httpapi-idempotency-key-header).
 *
 * The draft wants the key as a string in quotes.  Many clients send it without
 * quotes, so we take the whole value as it is.  We keep only digests, of the key
 * and of the request that it belongs to: the endpoint, which stands for method
 * and path, the ids of the path, and the body.
 */
#include "postgres.h"

#include "lib/stringinfo.h"

#include "http/http.h"

#define KEY_MAX		255			/* characters */

/* Does a key have 1 to 255 visible ASCII characters? */
static bool
is_valid(const char *key)
{
	size_t		length = strlen(key);

	if (length < 1 || length > KEY_MAX)
		return false;
	for (; *key != '\0'; key++)
		if (*key < '!' || *key > '~')
			return false;
	return true;
}

/* Append a part and a NUL. */
static void
append_part(StringInfo parts, const char *bytes, int length)
{
	appendBinaryStringInfo(parts, bytes, length);
	appendStringInfoChar(parts, '\0');
}

/*
 * Compute the digest of what a request asks for.  Its parts are separated by
 * NULs, which no part contains: a body with a NUL is not JSON.  The endpoint
 * decides which ids there are.
 */
static void
digest_request(const OaRequest *request, const char *endpoint,
			   const text *org_id, const text *key_id, uint8 *digest)
{
	StringInfoData parts;

	initStringInfo(&parts);
	append_part(&parts, endpoint, (int) strlen(endpoint));
	if (org_id != NULL)
		append_part(&parts, VARDATA_ANY(org_id), VARSIZE_ANY_EXHDR(org_id));
	else
		append_part(&parts, "", 0);
	if (key_id != NULL)
		append_part(&parts, VARDATA_ANY(key_id), VARSIZE_ANY_EXHDR(key_id));
	if (request->body != NULL)
		appendStringInfoString(&parts, request->body);
	oa_digest(parts.data, parts.len, digest);
}

/*
 * Read the key of a request to an endpoint, with the ids of its path or NULL.
 * Sets *key to "storage", or to NULL if the request has no key.  Refuses a key
 * that is not valid.
 */
bool
oa_read_request_key(const OaRequest *request, OaResponse *response,
					const char *endpoint, const text *org_id,
					const text *key_id, OaRequestKey *storage,
					const OaRequestKey **key)
{
	char	   *value;

	*key = NULL;
	if (!oa_read_header(request->headers, "idempotency-key", &value))
		return oa_refuse(response, OA_UNREADABLE_HEADERS);
	if (value == NULL)
		return true;
	if (!is_valid(value))
		return oa_refuse(response, OA_BAD_IDEMPOTENCY_KEY);

	oa_digest(value, (int) strlen(value), storage->name);
	digest_request(request, endpoint, org_id, key_id, storage->fingerprint);
	*key = storage;
	return true;
}
