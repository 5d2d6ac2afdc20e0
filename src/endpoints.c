/*
 * endpoints.c
 *		What each request of the API does, once it is known which one it is.
 *
 * An endpoint gets the bearer credential, the ids of the path and the body,
 * and fills in a response.  It checks in the order of the contract: who asks,
 * then what the body says, then whether it may be.  Nothing is raised that a
 * client can bring about.
 */
#include "postgres.h"

#include "access/xlog.h"
#include "catalog/pg_type.h"
#include "mb/pg_wchar.h"
#include "utils/builtins.h"
#include "utils/json.h"
#include "utils/timestamp.h"

#include "overten_auth.h"

/* The members of a request's object. */
typedef struct Body
{
	const char *json;
	OaJsonNode *nodes;
} Body;

/* Note what is wrong.  Returns false, for the checks below. */
static bool
refuse(OaResponse *response, OaProblem problem, const char *param)
{
	response->problem = problem;
	response->param = param;
	return false;
}

/* Append a member of the object that is being written. */
static void
append_name(StringInfo json, const char *name)
{
	char		last = json->data[json->len - 1];

	if (last != '{')
		appendStringInfoChar(json, ',');
	appendStringInfo(json, "\"%s\":", name);
}

static void
append_text(StringInfo json, const char *name, text *value)
{
	append_name(json, name);
	if (value != NULL)
		escape_json(json, text_to_cstring(value));
	else
		appendStringInfoString(json, "null");
}

/* A time as 2026-04-17T11:20:00Z. */
static void
append_time(StringInfo json, const char *name, TimestampTz time, bool isnull)
{
	struct pg_tm tm;
	fsec_t		fraction;

	append_name(json, name);
	if (isnull)
		appendStringInfoString(json, "null");
	else if (timestamp2tm(time, NULL, &tm, &fraction, NULL, NULL) == 0)
		appendStringInfo(json, "\"%04d-%02d-%02dT%02d:%02d:%02dZ\"",
						 tm.tm_year, tm.tm_mon, tm.tm_mday,
						 tm.tm_hour, tm.tm_min, tm.tm_sec);
	else
		ereport(ERROR,
				(errcode(ERRCODE_DATETIME_VALUE_OUT_OF_RANGE),
				 errmsg("timestamp out of range")));
}

/*
 * Who asks?  Checks the bearer as a Firebase ID token.  A key is not looked
 * up: whether it is one that is known is nobody's business here.
 */
static bool
identify(const OaRequest *request, OaResponse *response, text **uid)
{
	OaIdentity	identity;

	if (oa_is_secret_shaped(request->bearer, request->bearer_length))
		return refuse(response, OA_INVALID_TOKEN, NULL);

	switch (oa_verify_token(request->bearer, request->bearer_length, &identity))
	{
		case OA_TOKEN_GOOD:
			break;
		case OA_TOKEN_INVALID:
			return refuse(response, OA_INVALID_TOKEN, NULL);
		case OA_TOKEN_EXPIRED:
			return refuse(response, OA_EXPIRED_TOKEN, NULL);
		case OA_TOKEN_UNAVAILABLE:
			return refuse(response, OA_AUTH_UNAVAILABLE, NULL);
	}
	*uid = identity.uid;
	return true;
}

/* Only the primary can write. */
static bool
can_write(OaResponse *response)
{
	return !RecoveryInProgress() ||
		refuse(response, OA_SERVICE_UNAVAILABLE, NULL);
}

/* Is a text JSON of whatever kind?  As the member of an object, it parses. */
static bool
is_json(const char *text, int length)
{
	char	   *wrapped = psprintf("{\"\":%s}", text);
	int			wrapped_length = length + 5;
	int			capacity = OA_JSON_NODES(wrapped_length);

	return oa_json_parse(wrapped, wrapped_length,
						 palloc(capacity * sizeof(OaJsonNode)),
						 capacity) == NULL;
}

/* Parse the body, which must be an object. */
static bool
parse_body(const OaRequest *request, OaResponse *response, Body *body)
{
	int			capacity = OA_JSON_NODES(request->body_length);

	if (request->body == NULL)
		return refuse(response, OA_INVALID_JSON, NULL);

	body->json = request->body;
	body->nodes = palloc(capacity * sizeof(OaJsonNode));
	if (oa_json_parse(request->body, request->body_length, body->nodes,
					  capacity) == NULL)
		return true;
	return refuse(response, is_json(request->body, request->body_length) ?
				  OA_INVALID_REQUEST : OA_INVALID_JSON, NULL);
}

/* A member, or NULL if there is none or it is null. */
static const OaJsonNode *
find_member(const Body *body, const char *name)
{
	const OaJsonNode *node = oa_json_member(body->json, body->nodes,
											body->nodes, name);

	return node != NULL && node->type == OA_JSON_NULL ? NULL : node;
}

/* A member that is a string, if it is there. */
static bool
read_text(const Body *body, OaResponse *response, const char *name,
		  text **value)
{
	const OaJsonNode *node = find_member(body, name);

	*value = NULL;
	if (node == NULL ||
		(node->type == OA_JSON_STRING &&
		 oa_json_to_text(body->json, node, value)))
		return true;
	return refuse(response, OA_INVALID_PARAMETER, name);
}

/* A member that is a name, if it is there. */
static bool
read_name(const Body *body, OaResponse *response, const char *name,
		  int max_characters, text **value)
{
	OaNameRule	broken;

	if (!read_text(body, response, name, value))
		return false;
	if (*value == NULL)
		return true;
	*value = oa_trim_name(*value, max_characters, &broken);
	return *value != NULL || refuse(response, OA_INVALID_PARAMETER, name);
}

/* The name of a key; "primary" if none is given. */
static bool
read_key_name(const Body *body, OaResponse *response, const char *name,
			  text **value)
{
	if (!read_name(body, response, name, OA_KEY_NAME_MAX, value))
		return false;
	if (*value == NULL)
		*value = cstring_to_text("primary");
	return true;
}

/* Answer with a new key. */
static void
write_org_key(OaResponse *response, const OaOrgKey *result)
{
	StringInfo	json = &response->body;

	response->status = 201;
	appendStringInfoChar(json, '{');
	append_text(json, "org_id", result->org_id);
	append_text(json, "org_name", result->org_name);
	append_text(json, "tier", result->tier);
	append_text(json, "key_id", result->key.key_id);
	append_text(json, "name", result->key.name);
	append_text(json, "prefix", result->key.prefix);
	append_time(json, "created_at", result->key.created_at, false);
	append_text(json, "secret", result->key.secret);
	append_text(json, "webhook_secret", result->webhook_secret);
	appendStringInfoChar(json, '}');
}

/* POST /signup */
void
oa_endpoint_signup(const OaRequest *request, OaResponse *response)
{
	OaSignup	signup;
	OaOrgKey	result;
	Body		body;

	if (!identify(request, response, &signup.uid) ||
		!parse_body(request, response, &body))
		return;
	if ((find_member(&body, "org_name") == NULL) ==
		(find_member(&body, "existing_org_id") == NULL))
	{
		refuse(response, OA_INVALID_REQUEST, NULL);
		return;
	}
	if (!read_name(&body, response, "org_name", OA_ORG_NAME_MAX,
				   &signup.org_name) ||
		!read_text(&body, response, "existing_org_id",
				   &signup.existing_org_id) ||
		!read_text(&body, response, "tier", &signup.tier) ||
		!read_key_name(&body, response, "key_name", &signup.key_name) ||
		!can_write(response))
		return;

	response->problem = oa_signup(&signup, &result, &response->param);
	if (response->problem == OA_NO_PROBLEM)
		write_org_key(response, &result);
}

/* POST /organizations/{org_id}/api-keys */
void
oa_endpoint_create_key(const OaRequest *request, OaResponse *response)
{
	OaOrgKey	result;
	Body		body;
	text	   *uid;
	text	   *name;

	if (!identify(request, response, &uid) ||
		!parse_body(request, response, &body) ||
		!read_key_name(&body, response, "name", &name) ||
		!can_write(response))
		return;

	response->problem = oa_create_key(uid, request->org_id, name, &result);
	if (response->problem == OA_NO_PROBLEM)
		write_org_key(response, &result);
}

/* Does the request name an org that the person is a member of? */
static bool
check_member(const OaRequest *request, OaResponse *response, text *uid)
{
	return oa_is_member(request->org_id, uid) ||
		refuse(response, OA_ORGANIZATION_NOT_FOUND, NULL);
}

/* Append one key of the list. */
static void
append_key(const OaListedKey *key, void *json)
{
	if (((StringInfo) json)->data[((StringInfo) json)->len - 1] == '}')
		appendStringInfoChar(json, ',');
	appendStringInfoChar(json, '{');
	append_text(json, "key_id", key->key_id);
	append_text(json, "name", key->name);
	append_text(json, "prefix", key->prefix);
	append_time(json, "created_at", key->created_at, false);
	append_time(json, "last_used_at", key->last_used_at, key->never_used);
	append_time(json, "revoked_at", key->revoked_at, key->active);
	appendStringInfoChar(json, '}');
}

/* GET /organizations/{org_id}/api-keys */
void
oa_endpoint_list_keys(const OaRequest *request, OaResponse *response)
{
	text	   *uid;

	if (!identify(request, response, &uid) ||
		!check_member(request, response, uid))
		return;

	response->status = 200;
	appendStringInfoString(&response->body, "{\"items\":[");
	oa_list_keys(request->org_id, append_key, &response->body);
	appendStringInfoString(&response->body, "]}");
}

/* DELETE /organizations/{org_id}/api-keys/{key_id} */
void
oa_endpoint_revoke_key(const OaRequest *request, OaResponse *response)
{
	text	   *uid;

	if (!identify(request, response, &uid) ||
		!check_member(request, response, uid) ||
		!can_write(response))
		return;

	response->status = 204;
	if (oa_revoke_key(request->org_id, request->key_id, uid,
					  NULL) == OA_NO_SUCH_KEY)
		refuse(response, OA_KEY_NOT_FOUND, NULL);
}

/*
 * Verify a request's bearer as an API key.  Fills in the columns of
 * overten_auth.verified_key, or returns what is wrong.
 */
OaProblem
oa_verify_bearer(const OaRequest *request, Datum *values, bool *nulls)
{
	if (!oa_is_secret_shaped(request->bearer, request->bearer_length))
		return OA_INVALID_API_KEY;
	if (!oa_may_verify())
		return OA_SERVICE_UNAVAILABLE;
	if (!oa_verify_secret(request->bearer, request->bearer_length, values,
						  nulls))
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
	Datum		values[OA_VERIFIED_COLUMNS];
	bool		nulls[OA_VERIFIED_COLUMNS];

	response->problem = oa_verify_bearer(request, values, nulls);
	if (response->problem != OA_NO_PROBLEM)
		return;

	response->status = 200;
	appendStringInfoChar(&response->body, '{');
	for (int i = 0; i < lengthof(members); i++)
	{
		int			column = members[i].column;

		append_text(&response->body, members[i].name, nulls[column] ? NULL :
					DatumGetTextPP(values[column]));
	}
	appendStringInfoChar(&response->body, '}');
}
