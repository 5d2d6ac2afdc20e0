/*
 * invitation_endpoints.c
 *		The endpoints about invitations: making, listing, withdrawing and
 *		accepting them.
 *
 * The code of an invitation is a secret.  It comes and goes in bodies alone,
 * because paths are logged.
 */
#include "postgres.h"

#include "utils/builtins.h"

#include "http/http.h"
#include "members/members.h"

#define DAY		(24 * 3600)		/* seconds */

/* Write one invitation.  Only a new one has its code. */
static void
append_invitation(const OaInvitation *invitation, void *json)
{
	oa_begin_object(json);
	oa_write_text(json, "invitation_id", invitation->invitation_id);
	oa_write_text(json, "note", invitation->note);
	oa_write_time(json, "created_at", invitation->created_at, false);
	oa_write_text(json, "created_by", invitation->created_by);
	oa_write_time(json, "expires_at", invitation->expires_at, false);
	if (invitation->code != NULL)
		oa_write_text(json, "code", invitation->code);
	appendStringInfoChar(json, '}');
}

/* GET /organizations/{org_id}/invitations */
void
oa_endpoint_list_invitations(const OaRequest *request, OaResponse *response)
{
	text	   *uid;

	if (!oa_identify(request, response, &uid) ||
		!oa_check_member(request, response, uid))
		return;

	response->status = 200;
	appendStringInfoString(&response->body, "{\"items\":[");
	oa_list_invitations(request->org_id, append_invitation, &response->body);
	appendStringInfoString(&response->body, "]}");
}

/* POST /organizations/{org_id}/invitations */
void
oa_endpoint_invite(const OaRequest *request, OaResponse *response)
{
	OaInvitation invitation;
	int			seconds = OA_INVITATION_DAYS * DAY;
	text	   *uid;
	text	   *note;

	if (!oa_identify(request, response, &uid) ||
		!oa_require_object(request, response) ||
		!oa_read_name(request, response, "note", OA_INVITATION_NOTE_MAX,
					  &note) ||
		!oa_read_integer(request, response, "expires_in_seconds", 1,
						 OA_INVITATION_DAYS_MAX * DAY, &seconds) ||
		!oa_can_write(response))
		return;

	response->problem = oa_invite(uid, request->org_id, note, seconds,
								  &invitation);
	if (response->problem != OA_NO_PROBLEM)
		return;
	response->status = 201;
	append_invitation(&invitation, &response->body);
}

/* DELETE /organizations/{org_id}/invitations/{invitation_id} */
void
oa_endpoint_withdraw_invitation(const OaRequest *request,
								OaResponse *response)
{
	text	   *uid;

	if (!oa_identify(request, response, &uid) ||
		!oa_check_member(request, response, uid) ||
		!oa_can_write(response))
		return;

	response->status = 204;
	if (!oa_withdraw_invitation(uid, request->org_id, request->item_id))
		oa_refuse(response, OA_INVITATION_NOT_FOUND);
}

/* POST /invitations/accept */
void
oa_endpoint_accept_invitation(const OaRequest *request, OaResponse *response)
{
	text	   *uid;
	text	   *code;
	text	   *org_id;

	if (!oa_identify(request, response, &uid) ||
		!oa_require_object(request, response) ||
		!oa_read_reference(request, response, "code", &code) ||
		!oa_require_member(response, "code", code) ||
		!oa_can_write(response))
		return;

	response->problem =
		oa_accept_invitation(uid, oa_code_digest(VARDATA_ANY(code),
												 VARSIZE_ANY_EXHDR(code)),
							 &org_id);
	if (response->problem != OA_NO_PROBLEM)
		return;
	response->status = 200;
	oa_read_org(org_id, oa_write_org, &response->body);
}
