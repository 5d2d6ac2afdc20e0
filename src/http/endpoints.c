/*
 * endpoints.c
 *		Handles the requests of the API, one function for each.
 *
 * An endpoint gets the bearer credential, the ids from the path and the body,
 * and sets a response.  It checks in the order of the contract: first who
 * asks, then what the body says, then whether the request is allowed.  A
 * client cannot make an endpoint raise.
 */
#include "postgres.h"

#include "access/xlog.h"
#include "utils/builtins.h"

#include "http/http.h"
#include "keys/keys.h"
#include "members/members.h"
#include "server/server.h"
#include "text/text.h"
#include "tokens/tokens.h"

/*
 * Check the bearer as a Firebase ID token, and set *identity to whom it is
 * about.  We do not look up API keys here: these endpoints must not tell
 * anybody whether a key is known.
 */
static bool
identify(const OaRequest *request, OaResponse *response, OaIdentity *identity)
{
	if (request->is_key_header ||
		oa_looks_like_secret(request->bearer, request->bearer_length))
		return oa_refuse(response, OA_INVALID_TOKEN);

	switch (oa_verify_token(request->bearer, request->bearer_length, identity))
	{
		case OA_TOKEN_GOOD:
			break;
		case OA_TOKEN_INVALID:
			return oa_refuse(response, OA_INVALID_TOKEN);
		case OA_TOKEN_EXPIRED:
			return oa_refuse(response, OA_EXPIRED_TOKEN);
		case OA_TOKEN_UNAVAILABLE:
			return oa_refuse(response, OA_AUTH_UNAVAILABLE);
	}

	/*
	 * No SQL function would accept this uid, so nobody could remove such a
	 * member.
	 */
	if (oa_check_uid(identity->uid) != OA_TEXT_GOOD)
		return oa_refuse(response, OA_INVALID_TOKEN);
	return true;
}

/* Likewise, and set *uid to the person. */
bool
oa_identify(const OaRequest *request, OaResponse *response, text **uid)
{
	OaIdentity	identity;

	if (!identify(request, response, &identity))
		return false;
	*uid = identity.uid;
	return true;
}

/* Likewise, for a person who signs up. */
static bool
identify_new_person(const OaRequest *request, OaResponse *response, text **uid)
{
	OaIdentity	identity;
	OaProblem	problem;

	if (!identify(request, response, &identity))
		return false;
	*uid = identity.uid;
	problem = oa_check_signup_rules(&identity);
	return problem == OA_NO_PROBLEM || oa_refuse(response, problem);
}

/* Is this the primary?  Only the primary can write. */
bool
oa_can_write(OaResponse *response)
{
	return !RecoveryInProgress() ||
		oa_refuse(response, OA_SERVICE_UNAVAILABLE);
}

/* Read the name of a key.  The default is "primary". */
static bool
read_key_name(const OaRequest *request, OaResponse *response, const char *name,
			  text **value)
{
	if (!oa_read_name(request, response, name, OA_KEY_NAME_MAX, value))
		return false;
	if (*value == NULL)
		*value = cstring_to_text("primary");
	return true;
}

/* Respond with a new key, or with the problem. */
static void
answer_with_key(OaResponse *response, OaProblem problem,
				const OaOrgKey *result)
{
	response->problem = problem;
	if (problem == OA_NO_PROBLEM)
	{
		response->status = 201;
		oa_begin_object(&response->body);
		oa_write_new_key(&response->body, result);
		appendStringInfoChar(&response->body, '}');
	}
	else if (problem == OA_ALREADY_DONE)
	{
		response->org_id = result->org_id;
		response->key_id = result->key.key_id;
	}
}

/* POST /signup */
void
oa_endpoint_signup(const OaRequest *request, OaResponse *response)
{
	OaRequestKey storage;
	OaSignup	signup;
	OaOrgKey	result;

	if (!identify_new_person(request, response, &signup.uid) ||
		!oa_read_request_key(request, response, "POST /signup", NULL,
							 NULL, &storage, &signup.request) ||
		!oa_require_object(request, response))
		return;
	if ((oa_find_member(request, "org_name") == NULL) ==
		(oa_find_member(request, "existing_org_id") == NULL))
	{
		oa_refuse(response, OA_NOT_ONE_ORG);
		return;
	}
	if (!oa_read_name(request, response, "org_name", OA_ORG_NAME_MAX,
					  &signup.org_name) ||
		!oa_read_reference(request, response, "existing_org_id",
						   &signup.existing_org_id) ||
		!oa_read_reference(request, response, "tier", &signup.tier) ||
		!read_key_name(request, response, "key_name", &signup.key_name) ||
		!oa_refuse_restrictions(request, response,
								"must be left out, because a signup makes a key without restrictions") ||
		!oa_can_write(response))
		return;

	answer_with_key(response,
					oa_signup(&signup, &result, &response->fault), &result);
}

/* POST /organizations/{org_id}/api-keys */
void
oa_endpoint_create_key(const OaRequest *request, OaResponse *response)
{
	const OaRequestKey *key;
	OaRequestKey storage;
	OaKeyGrant	grant;
	OaOrgKey	result;
	text	   *uid;
	text	   *name;

	if (!oa_identify(request, response, &uid) ||
		!oa_read_request_key(request, response, "POST api-keys",
							 request->org_id, NULL, &storage, &key) ||
		!oa_require_object(request, response) ||
		!read_key_name(request, response, "name", &name) ||
		!oa_read_grant(request, response, &grant) ||
		!oa_can_write(response))
		return;

	answer_with_key(response, oa_create_key(uid, request->org_id, name,
											&grant, key, &result), &result);
}

/* Is the person a member of the org that the request names? */
bool
oa_check_member(const OaRequest *request, OaResponse *response, text *uid)
{
	return oa_is_member(request->org_id, uid) ||
		oa_refuse(response, OA_ORGANIZATION_NOT_FOUND);
}

/* DELETE /organizations/{org_id}/api-keys/{key_id} */
void
oa_endpoint_revoke_key(const OaRequest *request, OaResponse *response)
{
	text	   *reason;
	text	   *uid;

	if (!oa_identify(request, response, &uid) ||
		!oa_read_reason(request, response, &reason) ||
		!oa_check_member(request, response, uid) ||
		!oa_can_write(response))
		return;

	response->status = 204;
	if (oa_revoke_key(request->org_id, request->key_id, uid,
					  reason) == OA_NO_SUCH_KEY)
		oa_refuse(response, OA_KEY_NOT_FOUND);
}

/*
 * Verify a request's bearer as an API key, or return what is wrong.
 * "knows_restrictions" says that the caller looks after scopes.
 */
OaProblem
oa_verify_bearer(const OaRequest *request, bool knows_restrictions,
				 OaVerifiedKey *key)
{
	if (!oa_may_verify() &&
		oa_is_secret_shaped(request->bearer, request->bearer_length))
		return OA_SERVICE_UNAVAILABLE;

	/* Of anything else it says only that it is not a secret. */
	if (!oa_verify_secret(request->bearer, request->bearer_length,
						  request->client, knows_restrictions, key))
		return OA_INVALID_API_KEY;
	return OA_NO_PROBLEM;
}

/* GET /verify */
void
oa_endpoint_verify(const OaRequest *request, OaResponse *response)
{
	static const struct
	{
		const char *name;
		int			column;
	}			members[] = {
		{"org_id", OA_VERIFIED_ORG_ID},
		{"org_name", OA_VERIFIED_ORG_NAME},
		{"tier", OA_VERIFIED_TIER},
		{"webhook_secret", OA_VERIFIED_WEBHOOK_SECRET},
		{"key_prefix", OA_VERIFIED_KEY_PREFIX},
	};
	OaVerifiedKey key;

	response->problem = oa_verify_bearer(request, true, &key);
	if (response->problem != OA_NO_PROBLEM)
		return;

	response->status = 200;
	oa_begin_object(&response->body);
	for (int i = 0; i < lengthof(members); i++)
	{
		int			column = members[i].column;

		oa_write_text(&response->body, members[i].name,
					  key.nulls[column] ? NULL :
					  DatumGetTextPP(key.values[column]));
	}
	appendStringInfoChar(&response->body, '}');
}
