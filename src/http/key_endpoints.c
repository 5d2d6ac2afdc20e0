/*
 * key_endpoints.c
 *		GET and PATCH /organizations/{org_id}/api-keys/{key_id}
 *
 * These requests exist only while overten_auth.key_features names a feature.
 */
#include "postgres.h"

#include "http/http.h"
#include "keys/keys.h"
#include "server/server.h"

/* Write a key as the response. */
static void
write_key(const OaListedKey *key, void *json)
{
	oa_begin_object(json);
	oa_write_key(json, key);
	appendStringInfoChar(json, '}');
}

/* Answer with a key of the org. */
static void
answer_with_key(const OaRequest *request, OaResponse *response)
{
	response->status = 200;
	if (!oa_show_key(request->org_id, request->key_id, write_key,
					 &response->body))
		oa_refuse(response, OA_KEY_NOT_FOUND);
}

/* GET /organizations/{org_id}/api-keys/{key_id} */
void
oa_endpoint_show_key(const OaRequest *request, OaResponse *response)
{
	text	   *uid;

	if (oa_identify(request, response, &uid) &&
		oa_check_member(request, response, uid))
		answer_with_key(request, response);
}

/* Change a key.  Returns the problem if it cannot change so. */
static OaProblem
change_key(const OaRequest *request, OaResponse *response, text *uid,
		   const OaKeyChange *change)
{
	switch (oa_change_key(request->org_id, request->key_id, uid, change,
						  &response->fault))
	{
		case OA_KEY_CHANGED:
		case OA_KEY_UNCHANGED:
			return OA_NO_PROBLEM;
		case OA_KEY_MISSING:
			return OA_KEY_NOT_FOUND;
		case OA_KEY_WAS_REVOKED:
			return OA_KEY_REVOKED;
		case OA_KEY_NOT_YOURS_TO_ENABLE:
			return OA_DISABLED_BY_OPERATOR;
		case OA_KEY_CHANGE_REFUSED:
			return OA_INVALID_PARAMETER;
	}
	elog(ERROR, "unexpected result of a change");
}

/* PATCH /organizations/{org_id}/api-keys/{key_id} */
void
oa_endpoint_change_key(const OaRequest *request, OaResponse *response)
{
	OaKeyChange change;
	text	   *uid;

	if (!oa_identify(request, response, &uid) ||
		!oa_require_object(request, response) ||
		!oa_read_key_change(request, response, &change) ||
		!oa_can_write(response) ||
		!oa_check_member(request, response, uid))
		return;

	response->problem = change_key(request, response, uid, &change);
	if (response->problem == OA_NO_PROBLEM)
		answer_with_key(request, response);
}
