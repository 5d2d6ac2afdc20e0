/*
 * problem.c
 *		The problems that a request can have, and the fixed answers in HTTP
 *		and SQL.
 *
 * Each problem has one status, code and message, whoever asks, so that an
 * answer does not tell one client more than another.  No answer repeats
 * anything from the request; the message about a parameter says which rule it
 * breaks.
 */
#include "postgres.h"

#include "utils/builtins.h"

#include "server/server.h"

#define CHALLENGE_INVALID	OA_CHALLENGE ", error=\"invalid_token\""

static const OaProblemText problems[] = {
	[OA_PATH_TOO_LONG] = {
		400, "invalid_request",
		"The path with its query must not have more than 8192 bytes."
	},
	[OA_NOT_FOUND] = {
		404, "not_found",
		"There is no such endpoint."
	},
	[OA_METHOD_NOT_ALLOWED] = {
		405, "method_not_allowed",
		"This endpoint does not take this method."
	},
	[OA_UNREADABLE_HEADERS] = {
		400, "invalid_request",
		"The headers must be at most 256 strings, each with a name of its own, and 256 kB in all."
	},
	[OA_UNSUPPORTED_MEDIA_TYPE] = {
		415, "unsupported_media_type",
		"The body must be application/json."
	},
	[OA_PAYLOAD_TOO_LARGE] = {
		413, "payload_too_large",
		"The body must not have more than 16 KiB."
	},
	[OA_MISSING_CREDENTIALS] = {
		401, "missing_credentials",
		"The Authorization header must carry a Bearer credential.",
		OA_CHALLENGE
	},
	[OA_TWO_CREDENTIALS] = {
		400, "invalid_request",
		"The request carries two different credentials."
	},
	[OA_SEVERAL_CREDENTIALS] = {
		400, "invalid_request",
		"The request carries more than one credential."
	},
	[OA_INVALID_API_KEY] = {
		401, "invalid_api_key",
		"The API key is not valid.",
		CHALLENGE_INVALID
	},
	[OA_EXPIRED_API_KEY] = {
		401, "expired_api_key",
		"The API key has expired.",
		CHALLENGE_INVALID
	},
	[OA_DISABLED_API_KEY] = {
		401, "disabled_api_key",
		"The API key is disabled.",
		CHALLENGE_INVALID
	},
	[OA_ADDRESS_REFUSED] = {
		403, "address_not_allowed",
		"The API key cannot be used from this address."
	},
	[OA_SCOPE_MISSING] = {
		403, "insufficient_scope",
		"The API key lacks a scope that this request needs."
	},
	[OA_TOO_MANY_REQUESTS] = {
		429, "rate_limited",
		"There were too many requests."
	},
	[OA_QUOTA_USED_UP] = {
		429, "quota_exceeded",
		"The quota does not suffice for this request."
	},
	[OA_INVALID_TOKEN] = {
		401, "invalid_token",
		"The Firebase ID token is not valid.",
		CHALLENGE_INVALID
	},
	[OA_EXPIRED_TOKEN] = {
		401, "expired_token",
		"The Firebase ID token has expired.",
		CHALLENGE_INVALID
	},
	[OA_AUTH_UNAVAILABLE] = {
		503, "auth_unavailable",
		"Firebase ID tokens cannot be verified at the moment.",
		NULL, "30"
	},
	[OA_ANONYMOUS_NOT_ALLOWED] = {
		403, "anonymous_not_allowed",
		"An anonymous account cannot sign up."
	},
	[OA_EMAIL_NOT_VERIFIED] = {
		403, "email_not_verified",
		"Signing up takes a verified email address."
	},
	[OA_BAD_IDEMPOTENCY_KEY] = {
		400, "invalid_request",
		"The Idempotency-Key must have 1 to 255 visible ASCII characters."
	},
	[OA_INVALID_JSON] = {
		400, "invalid_json",
		"The body is not valid JSON."
	},
	[OA_NOT_AN_OBJECT] = {
		400, "invalid_request",
		"The body must be a JSON object."
	},
	[OA_NOT_ONE_ORG] = {
		400, "invalid_request",
		"A sign-up has either org_name or existing_org_id, and not both.",
		.sqlstate = ERRCODE_INVALID_PARAMETER_VALUE,
		.hint = "Pass org_name for a new org, or existing_org_id for one that the person is a member of."
	},
	[OA_INVALID_PARAMETER] = {
		400, "invalid_parameter",
		NULL,
		.sqlstate = ERRCODE_INVALID_PARAMETER_VALUE,
		.hint = "Tiers are the rows of overten_auth.tiers."
	},
	[OA_ORGANIZATION_NOT_FOUND] = {
		404, "organization_not_found",
		"There is no such organization.",
		.sqlstate = ERRCODE_UNDEFINED_OBJECT,
		.hint = "The person must be a member of the org: see overten_add_member()."
	},
	[OA_KEY_NOT_FOUND] = {
		404, "key_not_found",
		"There is no such API key."
	},
	[OA_KEY_REVOKED] = {
		409, "key_revoked",
		"The API key is revoked."
	},
	[OA_DISABLED_BY_OPERATOR] = {
		403, "disabled_by_operator",
		"The API key was not disabled by a member of the organization."
	},
	[OA_ALREADY_SIGNED_UP] = {
		409, "already_signed_up",
		"The organization has API access already.",
		.sqlstate = ERRCODE_DUPLICATE_OBJECT,
		.hint = "Mint further keys with overten_mint_key()."
	},
	[OA_ORG_LIMIT_REACHED] = {
		409, "org_limit_reached",
		"You have as many organizations as you can have.",
		.sqlstate = ERRCODE_CONFIGURATION_LIMIT_EXCEEDED,
		.hint = "overten_auth.max_orgs_per_uid is the limit."
	},
	[OA_API_ACCESS_DISABLED] = {
		403, "api_access_disabled",
		"The organization has no API access.",
		.sqlstate = ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE,
		.hint = "Allow it with overten_set_api_access(), unless the org is closed."
	},
	[OA_KEY_LIMIT_REACHED] = {
		409, "key_limit_reached",
		"The organization has as many API keys as it can have.",
		.sqlstate = ERRCODE_CONFIGURATION_LIMIT_EXCEEDED,
		.hint = "Revoke a key, or raise overten_auth.max_keys_per_org (active keys) or overten_auth.max_keys_total_per_org (all keys)."
	},
	[OA_ALREADY_DONE] = {
		409, "already_done",
		"A request with this Idempotency-Key has created the API key already."
	},
	[OA_IDEMPOTENCY_KEY_REUSED] = {
		422, "idempotency_key_reused",
		"This Idempotency-Key belongs to a request with another path or body."
	},
	[OA_ORGANIZATION_CLOSED] = {
		409, "organization_closed",
		"The organization is closed.",
		.sqlstate = ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE
	},
	[OA_MEMBER_NOT_FOUND] = {
		404, "member_not_found",
		"There is no such member."
	},
	[OA_LAST_MEMBER] = {
		409, "last_member",
		"The last member of an organization with active API keys cannot be removed.",
		.sqlstate = ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE
	},
	[OA_INVITATION_NOT_FOUND] = {
		404, "invitation_not_found",
		"There is no such invitation, or it has expired, or it has been used or withdrawn.",
		.sqlstate = ERRCODE_UNDEFINED_OBJECT
	},
	[OA_ALREADY_MEMBER] = {
		409, "already_member",
		"You are a member of the organization already.",
		.sqlstate = ERRCODE_DUPLICATE_OBJECT
	},
	[OA_INVITATION_LIMIT_REACHED] = {
		409, "invitation_limit_reached",
		"The organization has as many pending invitations as it can have.",
		.sqlstate = ERRCODE_CONFIGURATION_LIMIT_EXCEEDED
	},
	[OA_KEY_NOT_ACTIVE] = {
		409, "key_not_active",
		"The API key is revoked, expired or disabled."
	},
	[OA_ROTATION_NOT_OVER] = {
		409, "already_rotated",
		"The last rotation of the API key is not over."
	},
	[OA_SERVICE_UNAVAILABLE] = {
		503, "service_unavailable",
		"The service is not available at the moment.",
		NULL, "1"
	},
};

/* Return the answer to a problem, which must not be OA_NO_PROBLEM. */
const OaProblemText *
oa_problem_text(OaProblem problem)
{
	Assert(problem > OA_NO_PROBLEM && problem < lengthof(problems));
	return &problems[problem];
}

/* Return the message of an answer, which people read. */
const char *
oa_problem_message(OaProblem problem, const OaFault *fault)
{
	const char *message = oa_problem_text(problem)->message;

	return message != NULL ? message :
		psprintf("%s %s.", fault->param, fault->rule);
}
