/*
 * org_endpoints.c
 *		The endpoints about a person's orgs: listing, renaming and closing
 *		them, and rotating a webhook secret.
 */
#include "postgres.h"

#include "utils/builtins.h"

#include "http/http.h"
#include "members/members.h"

#define GRACE			(24 * 3600) /* seconds, as in SQL */
#define GRACE_MAX		(30 * 24 * 3600)

/* Write one org. */
void
oa_write_org(const OaOrg *org, void *json)
{
	oa_begin_object(json);
	oa_write_text(json, "org_id", org->org_id);
	oa_write_text(json, "name", org->name);
	oa_write_text(json, "tier", org->tier);
	oa_write_time(json, "created_at", org->created_at, false);
	oa_write_time(json, "api_access_since", org->api_access_since,
				  org->never_signed_up);
	oa_write_time(json, "suspended_at", org->suspended_at,
				  org->not_suspended);
	oa_write_time(json, "closed_at", org->closed_at, org->open);
	appendStringInfoChar(json, '}');
}

/* GET /organizations */
void
oa_endpoint_list_orgs(const OaRequest *request, OaResponse *response)
{
	text	   *uid;

	if (!oa_identify(request, response, &uid))
		return;

	response->status = 200;
	appendStringInfoString(&response->body, "{\"items\":[");
	oa_list_orgs(uid, oa_write_org, &response->body);
	appendStringInfoString(&response->body, "]}");
}

/* PATCH /organizations/{org_id} */
void
oa_endpoint_rename_org(const OaRequest *request, OaResponse *response)
{
	text	   *uid;
	text	   *name;

	if (!oa_identify(request, response, &uid) ||
		!oa_require_object(request, response) ||
		!oa_read_name(request, response, "name", OA_ORG_NAME_MAX, &name) ||
		!oa_require_member(response, "name", name) ||
		!oa_can_write(response))
		return;

	response->problem = oa_rename_own_org(uid, request->org_id, name);
	if (response->problem != OA_NO_PROBLEM)
		return;
	response->status = 200;
	oa_read_org(request->org_id, oa_write_org, &response->body);
}

/* DELETE /organizations/{org_id} */
void
oa_endpoint_close_org(const OaRequest *request, OaResponse *response)
{
	text	   *uid;
	bool		changed;

	if (!oa_identify(request, response, &uid) ||
		!oa_can_write(response))
		return;

	response->status = 204;
	response->problem = oa_close_org(uid, request->org_id, NULL, &changed);
}

/* POST /organizations/{org_id}/webhook-secret/rotate */
void
oa_endpoint_rotate_secret(const OaRequest *request, OaResponse *response)
{
	StringInfo	json = &response->body;
	int			grace = GRACE;
	TimestampTz until;
	text	   *secret;
	text	   *uid;

	if (!oa_identify(request, response, &uid) ||
		!oa_require_object(request, response) ||
		!oa_read_integer(request, response, "grace_seconds", 0, GRACE_MAX,
						 &grace) ||
		!oa_can_write(response))
		return;

	response->problem = oa_rotate_own_secret(uid, request->org_id, grace,
											 &secret, &until);
	if (response->problem != OA_NO_PROBLEM)
		return;

	response->status = 200;
	oa_begin_object(json);
	oa_write_text(json, "org_id", request->org_id);
	oa_write_text(json, "webhook_secret", secret);
	oa_write_time(json, "previous_secret_until", until, grace == 0);
	appendStringInfoChar(json, '}');
}
