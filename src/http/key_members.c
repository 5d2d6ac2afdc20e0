/*
 * key_members.c
 *		Reads the members of requests that say what a key may do.
 *
 * Each member belongs to a feature of overten_auth.key_features.  While that
 * is off, we refuse the member instead of ignoring it: a client that thinks
 * that it has restricted a key must not be wrong.  Where a request makes a key
 * and cannot restrict it, we refuse the member, too.
 *
 * null has a meaning of its own here: no expiry, all scopes, all addresses.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "utils/array.h"
#include "utils/builtins.h"

#include "http/http.h"
#include "keys/keys.h"
#include "server/server.h"
#include "settings.h"
#include "text/text.h"

/* Find a member of a feature. *node is NULL if it is missing. */
bool
oa_find_feature(const OaRequest *request, OaResponse *response,
				const char *name, OaKeyFeature feature,
				const OaJsonNode **node)
{
	*node = oa_json_member(request->body, request->members, request->members,
						   name);
	return *node == NULL || oa_has_feature(feature) ||
		oa_refuse_parameter(response, name, OA_NOT_OFFERED);
}

/* Read the time when a key expires. */
static bool
read_expiry(const OaRequest *request, OaResponse *response, bool *given,
			bool *has_expiry, TimestampTz *expires_at)
{
	const OaJsonNode *node;
	char	   *value;

	if (!oa_find_feature(request, response, "expires_at", OA_FEATURE_EXPIRY,
						 &node))
		return false;
	*given = node != NULL;
	*has_expiry = node != NULL && node->type != OA_JSON_NULL;
	if (!*has_expiry)
		return true;

	if (node->type == OA_JSON_STRING)
	{
		value = palloc(node->length + 1);
		value[oa_json_unescape(request->body, node, value)] = '\0';
		if (oa_parse_time(value, expires_at))
			return true;
	}
	return oa_refuse_parameter(response, "expires_at",
							   "must be null or a date, a time and an offset, as in 2026-04-17T11:20:00Z (RFC 3339)");
}

/* Converts a string of a list.  Returns false if it is not a value. */
typedef bool (*ConvertElement) (const OaRequest *request,
								const OaJsonNode *node, Datum *value);

/* The scopes of a key: any text; which ones there are is checked later. */
static bool
convert_scope(const OaRequest *request, const OaJsonNode *node, Datum *value)
{
	text	   *scope = oa_json_to_text(request->body, node);

	*value = PointerGetDatum(scope);
	return scope != NULL;
}

static bool
convert_network(const OaRequest *request, const OaJsonNode *node,
				Datum *value)
{
	char	   *network_text = palloc(node->length + 1);
	int			length = oa_json_unescape(request->body, node, network_text);
	OaNetwork	network;

	if (!oa_parse_network(network_text, length, &network))
		return false;
	*value = oa_network_to_cidr(&network);
	return true;
}

/* Read a list of strings, or null. *array is NULL for null. */
static bool
read_list(const OaRequest *request, OaResponse *response, const char *name,
		  OaKeyFeature feature, ConvertElement convert, Oid type,
		  const char *rule, bool *given, ArrayType **array)
{
	const OaJsonNode *nodes = request->members;
	const OaJsonNode *node;
	Datum	   *values;
	int			count = 0;
	int			first;

	*array = NULL;
	if (!oa_find_feature(request, response, name, feature, &node))
		return false;
	*given = node != NULL;
	if (node == NULL || node->type == OA_JSON_NULL)
		return true;
	if (node->type != OA_JSON_ARRAY)
		return oa_refuse_parameter(response, name, rule);

	/* No more values than there are nodes in the list. */
	first = (int) (node - nodes) + 1;
	values = palloc((node->next - first + 1) * sizeof(Datum));
	for (int i = first; i < node->next; i = nodes[i].next)
	{
		if (nodes[i].type != OA_JSON_STRING ||
			!convert(request, &nodes[i], &values[count++]))
			return oa_refuse_parameter(response, name, rule);
	}
	*array = construct_array(values, count, type, -1, false, TYPALIGN_INT);
	return true;
}

static bool
read_scopes(const OaRequest *request, OaResponse *response, bool *given,
			ArrayType **scopes)
{
	return read_list(request, response, "scopes", OA_FEATURE_SCOPES,
					 convert_scope, TEXTOID,
					 "must be null or a list of scopes", given, scopes);
}

static bool
read_addresses(const OaRequest *request, OaResponse *response, bool *given,
			   ArrayType **addresses)
{
	return read_list(request, response, "allowed_addresses",
					 OA_FEATURE_ADDRESSES, convert_network, CIDROID,
					 "must be null or a list of addresses and networks, as in 192.0.2.0/24",
					 given, addresses);
}

/* Read the environment of a new key.  The default is "live". */
static bool
read_environment(const OaRequest *request, OaResponse *response,
				 OaEnvironment *environment)
{
	const OaJsonNode *node;
	char	   *name;

	if (!oa_find_feature(request, response, "environment",
						 OA_FEATURE_ENVIRONMENTS, &node))
		return false;
	*environment = OA_LIVE;
	if (node == NULL || node->type == OA_JSON_NULL)
		return true;
	if (node->type != OA_JSON_STRING)
		return oa_refuse_parameter(response, "environment",
								   "must be a string");

	name = palloc(node->length + 1);
	return oa_parse_environment(name,
								oa_json_unescape(request->body, node, name),
								environment, &response->fault) ||
		oa_refuse(response, OA_INVALID_PARAMETER);
}

/* Refuse a member of a feature, even null, where it has no place. */
static bool
refuse_member(const OaRequest *request, OaResponse *response, const char *name,
			  OaKeyFeature feature, const char *rule)
{
	const OaJsonNode *node;

	return oa_find_feature(request, response, name, feature, &node) &&
		(node == NULL || oa_refuse_parameter(response, name, rule));
}

/*
 * Refuse members that would restrict a key, if this request makes a key that it
 * cannot restrict.
 */
bool
oa_refuse_restrictions(const OaRequest *request, OaResponse *response,
					   const char *rule)
{
	static const char *const names[] = {
		"environment", "expires_at", "scopes", "allowed_addresses", "disabled"
	};

	for (int i = 0; i < lengthof(names); i++)
		if (oa_find_member(request, names[i]) != NULL)
			return oa_refuse_parameter(response, names[i], rule);
	return true;
}

/* Read what a new key is given, and check it. */
bool
oa_read_grant(const OaRequest *request, OaResponse *response,
			  OaKeyGrant *grant)
{
	OaKeyDetails details;
	bool		given;

	memset(grant, 0, sizeof(*grant));
	if (!refuse_member(request, response, "disabled", OA_FEATURE_DISABLE,
					   "must be left out, because a new key is enabled") ||
		!read_environment(request, response, &grant->environment) ||
		!read_expiry(request, response, &given, &grant->has_expiry,
					 &grant->expires_at) ||
		!read_scopes(request, response, &given, &grant->scopes) ||
		!read_addresses(request, response, &given,
						&grant->allowed_addresses) ||
		!oa_read_details(request, response, &details))
		return false;
	grant->description = details.description;
	grant->metadata = details.metadata;
	return oa_check_grant(grant, true, &response->fault) ||
		oa_refuse(response, OA_INVALID_PARAMETER);
}

/* Read what is to change in a key.  oa_change_key() checks it. */
bool
oa_read_key_change(const OaRequest *request, OaResponse *response,
				   OaKeyChange *change)
{
	const OaJsonNode *node;

	memset(change, 0, sizeof(*change));
	if (!read_expiry(request, response, &change->sets_expiry,
					 &change->has_expiry, &change->expires_at) ||
		!refuse_member(request, response, "environment", OA_FEATURE_ENVIRONMENTS,
					   "must be left out, because the environment of a key does not change") ||
		!oa_find_feature(request, response, "disabled", OA_FEATURE_DISABLE,
						 &node))
		return false;
	if (node != NULL && node->type != OA_JSON_TRUE &&
		node->type != OA_JSON_FALSE)
		return oa_refuse_parameter(response, "disabled",
								   "must be true or false");
	change->sets_disabled = node != NULL;
	change->disabled = node != NULL && node->type == OA_JSON_TRUE;
	return read_scopes(request, response, &change->sets_scopes,
					   &change->scopes) &&
		read_addresses(request, response, &change->sets_addresses,
					   &change->allowed_addresses);
}
