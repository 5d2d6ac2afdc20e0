/*
 * detail_members.c
 *		Reads the members of requests that name and describe a key.
 *
 * They belong to the feature "details"; see key_members.c.  Metadata are JSON of
 * the client's own, which strict_json.c has parsed.  We build the jsonb from its
 * nodes, because the input function of jsonb raises an error for a character
 * that the database's encoding lacks.
 */
#include "postgres.h"

#include "miscadmin.h"
#include "utils/fmgrprotos.h"
#include "utils/jsonb.h"
#include "utils/numeric.h"

#include "http/http.h"
#include "keys/keys.h"
#include "server/server.h"
#include "text/text.h"

/* Metadata that are being built. */
typedef struct Builder
{
	const char *json;
	const OaJsonNode *nodes;
	JsonbParseState *state;
	JsonbValue *result;
} Builder;

/*
 * Convert a string.  Returns false if the database's encoding lacks a character.
 */
static bool
convert_string(const Builder *builder, const OaJsonNode *node,
			   JsonbValue *value)
{
	text	   *string = oa_json_to_text(builder->json, node);

	if (string == NULL)
		return false;
	value->type = jbvString;
	value->val.string.val = VARDATA(string);
	value->val.string.len = VARSIZE(string) - VARHDRSZ;
	return true;
}

/* Convert a number.  The parser bounds its length and its exponent. */
static void
convert_number(const Builder *builder, const OaJsonNode *node,
			   JsonbValue *value)
{
	char	   *digits = pnstrdup(builder->json + node->start, node->length);
	Datum		number = DirectFunctionCall3(numeric_in,
											 CStringGetDatum(digits),
											 ObjectIdGetDatum(InvalidOid),
											 Int32GetDatum(-1));

	value->type = jbvNumeric;
	value->val.numeric = DatumGetNumeric(number);
}

/* Convert a value that is no container. */
static bool
convert_scalar(const Builder *builder, const OaJsonNode *node,
			   JsonbValue *value)
{
	switch ((OaJsonType) node->type)
	{
		case OA_JSON_STRING:
			return convert_string(builder, node, value);
		case OA_JSON_NUMBER:
			convert_number(builder, node, value);
			return true;
		case OA_JSON_NULL:
			value->type = jbvNull;
			return true;
		default:
			value->type = jbvBool;
			value->val.boolean = (node->type == OA_JSON_TRUE);
			return true;
	}
}

/* Add a container and what is in it.  The parser bounds the depth. */
static bool
add_container(Builder *builder, const OaJsonNode *container)
{
	bool		is_object = (container->type == OA_JSON_OBJECT);
	int			first = (int) (container - builder->nodes) + 1;
	JsonbValue	value;

	check_stack_depth();
	pushJsonbValue(&builder->state,
				   is_object ? WJB_BEGIN_OBJECT : WJB_BEGIN_ARRAY, NULL);
	for (int i = first; i < container->next; i = builder->nodes[i].next)
	{
		const OaJsonNode *node = &builder->nodes[i];

		if (is_object)
		{
			if (!convert_string(builder, node, &value))
				return false;
			pushJsonbValue(&builder->state, WJB_KEY, &value);
			node = &builder->nodes[++i];
		}
		if (node->type == OA_JSON_OBJECT || node->type == OA_JSON_ARRAY)
		{
			if (!add_container(builder, node))
				return false;
			continue;
		}
		if (!convert_scalar(builder, node, &value))
			return false;
		pushJsonbValue(&builder->state, is_object ? WJB_VALUE : WJB_ELEM,
					   &value);
	}
	builder->result = pushJsonbValue(&builder->state, is_object ?
									 WJB_END_OBJECT : WJB_END_ARRAY, NULL);
	return true;
}

/* Read the metadata of a key, which are an object or null. */
static bool
read_metadata(const OaRequest *request, OaResponse *response,
			  OaKeyDetails *details)
{
	Builder		builder = {request->body, request->members};
	const OaJsonNode *node;

	if (!oa_find_feature(request, response, "metadata", OA_FEATURE_DETAILS,
						 &node))
		return false;
	details->has_metadata = (node != NULL);
	if (node == NULL || node->type == OA_JSON_NULL)
		return true;
	if (node->type != OA_JSON_OBJECT)
		return oa_refuse_parameter(response, "metadata",
								   "must be null or an object");
	if (!add_container(&builder, node))
		return oa_refuse_parameter(response, "metadata",
								   oa_text_rule(OA_TEXT_ENCODING, 0));

	details->metadata =
		oa_check_metadata(PointerGetDatum(JsonbValueToJsonb(builder.result)),
						  &response->fault);
	return details->metadata != NULL ||
		oa_refuse(response, OA_INVALID_PARAMETER);
}

/* Read the description and the metadata of a key.  null removes them. */
bool
oa_read_details(const OaRequest *request, OaResponse *response,
				OaKeyDetails *details)
{
	const OaJsonNode *node;

	memset(details, 0, sizeof(*details));
	if (!oa_find_feature(request, response, "description", OA_FEATURE_DETAILS,
						 &node))
		return false;
	details->has_description = (node != NULL);
	return oa_read_name(request, response, "description", OA_DESCRIPTION_MAX,
						&details->description) &&
		read_metadata(request, response, details);
}

/* Read the new name of a key. *name is NULL if it is to stay. */
bool
oa_read_new_name(const OaRequest *request, OaResponse *response, text **name)
{
	const OaJsonNode *node;

	*name = NULL;
	if (!oa_find_feature(request, response, "name", OA_FEATURE_DETAILS, &node))
		return false;
	if (node != NULL && node->type == OA_JSON_NULL)
		return oa_refuse_parameter(response, "name", "must be a string");
	return oa_read_name(request, response, "name", OA_KEY_NAME_MAX, name);
}
