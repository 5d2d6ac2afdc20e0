/*
 * member_endpoints.c
 *		The endpoints about the members of an org.
 *
 * A uid in a path is percent-encoded, because a person's uid may have any
 * characters that names may have.
 */
#include "postgres.h"

#include "utils/builtins.h"

#include "http/http.h"
#include "members/members.h"

/* Write one member. */
static void
append_member(const OaMember *member, void *json)
{
	oa_begin_object(json);
	oa_write_text(json, "uid", member->uid);
	oa_write_time(json, "added_at", member->added_at, false);
	oa_write_integer(json, "active_keys", member->active_keys);
	appendStringInfoChar(json, '}');
}

/* GET /organizations/{org_id}/members */
void
oa_endpoint_list_members(const OaRequest *request, OaResponse *response)
{
	text	   *uid;

	if (!oa_identify(request, response, &uid) ||
		!oa_check_member(request, response, uid))
		return;

	response->status = 200;
	appendStringInfoString(&response->body, "{\"items\":[");
	oa_list_members(request->org_id, append_member, &response->body);
	appendStringInfoString(&response->body, "]}");
}

/*
 * Decode the uid in the path.  What cannot be decoded is "", which is nobody's
 * uid.
 */
static text *
decode_uid(text *encoded)
{
	char	   *string = text_to_cstring(encoded);
	char	   *decoded = palloc(strlen(string) + 1);

	if (!oa_percent_decode(string, string + strlen(string), decoded))
		decoded[0] = '\0';
	return oa_utf8_to_id(decoded);
}

/* DELETE /organizations/{org_id}/members/{uid} */
void
oa_endpoint_remove_member(const OaRequest *request, OaResponse *response)
{
	text	   *uid;

	if (!oa_identify(request, response, &uid) ||
		!oa_can_write(response))
		return;

	response->status = 204;
	response->problem = oa_remove_member(uid, request->org_id,
										 decode_uid(request->item_id));
}
