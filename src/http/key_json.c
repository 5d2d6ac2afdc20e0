/*
 * key_json.c
 *		Writes a key as JSON, as far as overten_auth.key_features shows it.
 *
 * Without features, a key has the members of the contract and no others.
 */
#include "postgres.h"

#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"

#include "http/http.h"
#include "keys/keys.h"
#include "settings.h"

/* Is one of these features on? */
bool
oa_has_feature(int features)
{
	return (oa_key_features & features) != 0;
}

/* Write an array of text or of networks, or null for NULL. */
static void
write_array(StringInfo json, const char *name, ArrayType *array)
{
	Datum	   *values;
	int			count;
	Oid			output;
	bool		is_varlena;

	oa_write_name(json, name);
	if (array == NULL)
	{
		appendStringInfoString(json, "null");
		return;
	}
	getTypeOutputInfo(ARR_ELEMTYPE(array), &output, &is_varlena);
	deconstruct_array(array, ARR_ELEMTYPE(array), -1, false, TYPALIGN_INT,
					  &values, NULL, &count);
	appendStringInfoChar(json, '[');
	for (int i = 0; i < count; i++)
	{
		char	   *value;

		if (i > 0)
			appendStringInfoChar(json, ',');
		value = OidOutputFunctionCall(output, values[i]);
		oa_write_quoted(json, value, (int) strlen(value));
	}
	appendStringInfoChar(json, ']');
}

/* Write what a key was given. */
static void
write_grant(StringInfo json, TimestampTz expires_at, bool never_expires,
			ArrayType *scopes, ArrayType *allowed_addresses)
{
	if (oa_has_feature(OA_FEATURE_EXPIRY))
		oa_write_time(json, "expires_at", expires_at, never_expires);
	if (oa_has_feature(OA_FEATURE_SCOPES))
		write_array(json, "scopes", scopes);
	if (oa_has_feature(OA_FEATURE_ADDRESSES))
		write_array(json, "allowed_addresses", allowed_addresses);
}

/* Write the members of a key.  The caller begins and ends the object. */
void
oa_write_key(StringInfo json, const OaListedKey *key)
{
	oa_write_text(json, "key_id", key->key_id);
	oa_write_text(json, "name", key->name);
	oa_write_text(json, "prefix", key->prefix);
	oa_write_time(json, "created_at", key->created_at, false);
	oa_write_time(json, "last_used_at", key->last_used_at, key->never_used);
	oa_write_time(json, "revoked_at", key->revoked_at, key->not_revoked);
	if (oa_key_features == 0)
		return;

	oa_write_text(json, "status", key->status);
	if (oa_has_feature(OA_FEATURE_ENVIRONMENTS))
		oa_write_text(json, "environment", key->environment);
	write_grant(json, key->expires_at, key->never_expires, key->scopes,
				key->allowed_addresses);
	if (oa_has_feature(OA_FEATURE_DISABLE))
		oa_write_time(json, "disabled_at", key->disabled_at,
					  key->not_disabled);
	if (!oa_has_feature(OA_FEATURE_PEOPLE))
		return;

	oa_write_text(json, "created_by", key->created_by);
	oa_write_text(json, "revoked_by", key->revoked_by);
	oa_write_text(json, "revoked_reason", key->revoked_reason);
	if (oa_has_feature(OA_FEATURE_DISABLE))
	{
		oa_write_text(json, "disabled_by", key->disabled_by);
		oa_write_text(json, "disabled_reason", key->disabled_reason);
	}
}

/* Write the details of a key, which lists do not show. */
void
oa_write_details(StringInfo json, const OaKeyDetails *details)
{
	oa_write_text(json, "description", details->description);
	oa_write_name(json, "metadata");
	if (details->metadata != NULL)
		(void) JsonbToCString(json, &details->metadata->root,
							  VARSIZE(details->metadata));
	else
		appendStringInfoString(json, "null");
}

/* Write the members of a new key, with its secret. */
void
oa_write_new_key(StringInfo json, const OaOrgKey *org_key)
{
	const OaMintedKey *key = &org_key->key;
	const OaKeyGrant *grant = &key->grant;
	const OaKeyDetails details = {
		.description = grant->description,
		.metadata = grant->metadata,
	};

	oa_write_text(json, "org_id", org_key->org_id);
	oa_write_text(json, "org_name", org_key->org_name);
	oa_write_text(json, "tier", org_key->tier);
	oa_write_text(json, "key_id", key->key_id);
	oa_write_text(json, "name", key->name);
	oa_write_text(json, "prefix", key->prefix);
	oa_write_time(json, "created_at", key->created_at, false);
	oa_write_text(json, "secret", key->secret);
	oa_write_text(json, "webhook_secret", org_key->webhook_secret);
	if (oa_has_feature(OA_FEATURE_ENVIRONMENTS))
		oa_write_string(json, "environment",
						oa_environment_name(grant->environment));
	write_grant(json, grant->expires_at, !grant->has_expiry, grant->scopes,
				grant->allowed_addresses);
	if (oa_has_feature(OA_FEATURE_DETAILS))
		oa_write_details(json, &details);
}
