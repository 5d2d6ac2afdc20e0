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

/* Write the members of a key. */
static void
write_key(const OaListedKey *key, void *json)
{
	oa_write_key(json, key);
}

/* Answer with a key of the org. */
static void
answer_with_key(const OaRequest *request, OaResponse *response)
{
	StringInfo	json = &response->body;
	OaKeyDetails details;

	response->status = 200;
	oa_begin_object(json);
	if (!oa_show_key(request->org_id, request->key_id, write_key, json))
	{
		oa_refuse(response, OA_KEY_NOT_FOUND);
		return;
	}
	if (oa_has_feature(OA_FEATURE_DETAILS))
	{
		oa_get_key_details(request->key_id, &details);
		oa_write_details(json, &details);
	}
	appendStringInfoChar(json, '}');
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

/* PATCH /organizations/{org_id}/api-keys/{key_id} */
void
oa_endpoint_change_key(const OaRequest *request, OaResponse *response)
{
	OaKeyChange change;
	OaKeyDetails details;
	text	   *name;
	text	   *uid;

	if (!oa_identify(request, response, &uid) ||
		!oa_require_object(request, response) ||
		!oa_read_new_name(request, response, &name) ||
		!oa_read_key_change(request, response, &change) ||
		!oa_read_details(request, response, &details) ||
		!oa_can_write(response) ||
		!oa_check_member(request, response, uid))
		return;

	response->problem = oa_change_own_key(uid, request->org_id,
										  request->key_id, &change, name,
										  &details, &response->fault);
	if (response->problem == OA_NO_PROBLEM)
		answer_with_key(request, response);
}
