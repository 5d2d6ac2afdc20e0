/*
 * rotation_endpoints.c
 *		POST /organizations/{org_id}/api-keys/{key_id}/rotate, and GET
 *		…/rotation
 *
 * These requests exist only while overten_auth.key_features has "rotation".
 */
#include "postgres.h"

#include "http/http.h"
#include "keys/keys.h"
#include "members/members.h"

#define DAY			(24 * 3600) /* seconds */
#define OVERLAP		DAY			/* unless said otherwise, as in SQL */

/* Write the response with the new key. */
static void
write_rotation(OaResponse *response, const OaOrgKey *key,
			   const OaRotation *rotation)
{
	StringInfo	json = &response->body;

	response->status = 201;
	oa_begin_object(json);
	oa_write_new_key(json, key);
	oa_write_text(json, "previous_key_id", rotation->previous_key_id);
	oa_write_time(json, "previous_expires_at", rotation->previous_expires_at,
				  !rotation->has_previous_end);
	appendStringInfoChar(json, '}');
}

/* POST /organizations/{org_id}/api-keys/{key_id}/rotate */
void
oa_endpoint_rotate_key(const OaRequest *request, OaResponse *response)
{
	int			overlap = OVERLAP;
	const OaRequestKey *request_key;
	OaRequestKey storage;
	OaOrgKey	result;
	OaRotation	rotation;
	text	   *uid;

	if (!oa_identify(request, response, &uid) ||
		!oa_read_request_key(request, response, "POST rotate",
							 request->org_id, request->key_id, &storage,
							 &request_key) ||
		!oa_require_object(request, response) ||
		!oa_read_integer(request, response, "overlap_seconds", 0,
						 OA_OVERLAP_MAX_DAYS * DAY, &overlap) ||
		!oa_refuse_restrictions(request, response,
								"must be left out, because the new key has what the old one has") ||
		!oa_can_write(response))
		return;

	response->problem = oa_rotate_own_key(uid, request->org_id,
										  request->key_id,
										  overlap * USECS_PER_SEC,
										  request_key, &result, &rotation);
	if (response->problem == OA_NO_PROBLEM)
		write_rotation(response, &result, &rotation);
	else if (response->problem == OA_ROTATION_NOT_OVER)
		response->key_id = rotation.good_relative;
	else if (response->problem == OA_ALREADY_DONE)
	{
		response->org_id = result.org_id;
		response->key_id = result.key.key_id;
	}
}

/* Append one key and address. */
static void
append_progress(const OaProgress *progress, void *json)
{
	oa_begin_object(json);
	oa_write_text(json, "key_id", progress->key_id);
	oa_write_boolean(json, "is_new", progress->is_new);
	oa_write_time(json, "rotated_at", progress->rotated_at, false);
	oa_write_time(json, "ends_at", progress->ends_at, !progress->has_end);
	oa_write_string(json, "client_addr", progress->client_addr);
	oa_write_integer(json, "accepted", progress->accepted);
	oa_write_integer(json, "refused", progress->refused);
	oa_write_integer(json, "limited", progress->limited);
	oa_write_time(json, "last_used_at", progress->last_used_at,
				  progress->never_used);
	appendStringInfoChar(json, '}');
}

/* GET /organizations/{org_id}/api-keys/{key_id}/rotation */
void
oa_endpoint_show_rotation(const OaRequest *request, OaResponse *response)
{
	StringInfo	json = &response->body;
	text	   *uid;

	if (!oa_identify(request, response, &uid) ||
		!oa_check_member(request, response, uid))
		return;

	response->status = 200;
	appendStringInfoString(json, "{\"items\":[");
	if (oa_rotation_progress(request->org_id, request->key_id,
							 append_progress,
							 json) == OA_PROGRESS_NO_SUCH_KEY)
	{
		oa_refuse(response, OA_KEY_NOT_FOUND);
		return;
	}
	appendStringInfoString(json, "]}");
}
