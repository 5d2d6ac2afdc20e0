/*
 * features_endpoint.c
 *		GET /features: what the service offers to the person who asks, so that
 *		a client shows no more than that.
 */
#include "postgres.h"

#include "credits/credits.h"
#include "http/http.h"
#include "members/members.h"
#include "settings.h"
#include "text/text.h"

/* Begin the next string of an array. */
static void
begin_string(StringInfo json)
{
	if (json->data[json->len - 1] != '[')
		appendStringInfoChar(json, ',');
}

static void
append_string(StringInfo json, const char *value)
{
	begin_string(json);
	oa_write_quoted(json, value, (int) strlen(value));
}

static void
append_tier(text *name, text *description, void *json)
{
	begin_string(json);
	oa_write_quoted(json, VARDATA_ANY(name), (int) VARSIZE_ANY_EXHDR(name));
}

static void
append_scope(text *name, text *description, void *json)
{
	oa_begin_object(json);
	oa_write_text(json, "name", name);
	oa_write_text(json, "description", description);
	appendStringInfoChar(json, '}');
}

/* Begin a member that is an array.  The caller writes its values and "]". */
static void
begin_array(StringInfo json, const char *name)
{
	oa_write_name(json, name);
	appendStringInfoChar(json, '[');
}

/* The features of keys that are on. */
static void
write_key_features(StringInfo json)
{
	const char *name;
	OaKeyFeature feature;

	begin_array(json, "key_features");
	for (int i = 0; (name = oa_key_feature_name(i, &feature)) != NULL; i++)
		if (oa_has_feature(feature))
			append_string(json, name);
	appendStringInfoChar(json, ']');
}

/* The environments that keys can be created for. */
static void
write_environments(StringInfo json)
{
	begin_array(json, "environments");
	for (OaEnvironment each = OA_LIVE; each <= OA_TEST; each++)
		if (oa_minting_prefix(oa_key_prefixes, each) != NULL &&
			(each == OA_LIVE || oa_has_feature(OA_FEATURE_ENVIRONMENTS)))
			append_string(json, oa_environment_name(each));
	appendStringInfoChar(json, ']');
}

void
oa_endpoint_features(const OaRequest *request, OaResponse *response)
{
	StringInfo	json = &response->body;
	text	   *uid;

	if (!oa_identify(request, response, &uid))
		return;

	response->status = 200;
	oa_begin_object(json);
	write_key_features(json);
	write_environments(json);
	begin_array(json, "scopes");
	if (oa_has_feature(OA_FEATURE_SCOPES))
		oa_list_scope_choices(append_scope, json);
	appendStringInfoChar(json, ']');
	oa_write_name(json, "max_key_lifetime_seconds");
	if (oa_max_key_lifetime > 0)
		appendStringInfo(json, "%d", oa_max_key_lifetime);
	else
		appendStringInfoString(json, "null");
	begin_array(json, "tiers");
	oa_list_tier_choices(append_tier, json);
	appendStringInfoChar(json, ']');
	oa_write_boolean(json, "verified_email_required",
					 oa_signup_requires_verified_email);
	oa_write_boolean(json, "credits", oa_has_credits());
	appendStringInfoChar(json, '}');
}
