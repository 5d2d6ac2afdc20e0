/*
 * claims.c
 *		What a token says, in the server's encoding and types.
 *
 * A token is UTF-8, the database need not be.  Text that the database's
 * encoding has no characters for is reported to the caller, who refuses the
 * token: a replacement character could make one person out of two.  SQL_ASCII
 * takes the bytes as they are.
 *
 * The claims are made from the bytes that were signed, through the tape of
 * strict_json.c; a text that libjwt writes again would have other numbers.
 */
#include "postgres.h"

#include "catalog/namespace.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/jsonb.h"

#include "overten_auth.h"

/* A walk over the tape, which builds a value. */
typedef struct Builder
{
	const char *json;
	const OaJsonNode *nodes;
	JsonbParseState *state;
} Builder;

static bool
is_ascii(const char *bytes, int length)
{
	unsigned char all = 0;

	for (int i = 0; i < length; i++)
		all |= bytes[i];
	return all < 0x80;
}

/*
 * Convert to the server's encoding.  *bytes stays if nothing is to be done,
 * else it is replaced by palloc'd memory.  False if a character has no
 * equivalent.
 */
static bool
convert(const char **bytes, int *length)
{
	int			encoding = GetDatabaseEncoding();
	Oid			procedure;
	char	   *converted;

	if (encoding == PG_UTF8 || encoding == PG_SQL_ASCII ||
		is_ascii(*bytes, *length))
		return true;

	procedure = FindDefaultConversionProc(PG_UTF8, encoding);
	if (!OidIsValid(procedure))
		return false;
	converted = palloc(*length * MAX_CONVERSION_GROWTH + 1);
	if (pg_do_encoding_conversion_buf(procedure, PG_UTF8, encoding,
									  (unsigned char *) unconstify(char *, *bytes),
									  *length, (unsigned char *) converted,
									  *length * MAX_CONVERSION_GROWTH + 1,
									  true) != *length)
		return false;
	*bytes = converted;
	*length = strlen(converted);
	return true;
}

/* UTF-8 as text.  False if the server's encoding cannot hold it. */
bool
oa_utf8_to_server(const char *utf8, int length, text **result)
{
	if (!convert(&utf8, &length))
		return false;
	*result = cstring_to_text_with_len(utf8, length);
	return true;
}

/* A string of the tape as text.  False as above. */
bool
oa_json_to_text(const char *json, const OaJsonNode *node, text **result)
{
	char	   *utf8 = palloc(node->length + 1);
	int			length = oa_json_unescape(json, node, utf8);

	return oa_utf8_to_server(utf8, length, result);
}

/* A string or a name.  False as above. */
static bool
make_string(const Builder *builder, const OaJsonNode *node,
			JsonbValue *result)
{
	const char *bytes = builder->json + node->start;
	int			length = node->length;

	if (node->escaped)
	{
		char	   *unescaped = palloc(node->length + 1);

		length = oa_json_unescape(builder->json, node, unescaped);
		bytes = unescaped;
	}
	if (!convert(&bytes, &length))
		return false;
	result->type = jbvString;
	result->val.string.val = unconstify(char *, bytes);
	result->val.string.len = length;
	return true;
}

static void
make_number(const Builder *builder, const OaJsonNode *node,
			JsonbValue *result)
{
	char	   *digits = pnstrdup(builder->json + node->start, node->length);

	result->type = jbvNumeric;
	result->val.numeric =
		DatumGetNumeric(DirectFunctionCall3(numeric_in,
											CStringGetDatum(digits),
											ObjectIdGetDatum(InvalidOid),
											Int32GetDatum(-1)));
}

/* Push a value that holds no others.  False as above. */
static bool
push_scalar(Builder *builder, const OaJsonNode *node, JsonbIteratorToken token)
{
	JsonbValue	value;

	switch (node->type)
	{
		case OA_JSON_STRING:
			if (!make_string(builder, node, &value))
				return false;
			break;
		case OA_JSON_NUMBER:
			make_number(builder, node, &value);
			break;
		case OA_JSON_NULL:
			value.type = jbvNull;
			break;
		default:
			value.type = jbvBool;
			value.val.boolean = node->type == OA_JSON_TRUE;
			break;
	}
	pushJsonbValue(&builder->state, token, &value);
	return true;
}

/*
 * Push an object or an array with all that it holds; NULL if a string cannot
 * be held.  The parser's limit of depth is the limit of the recursion.
 */
static JsonbValue *
push_container(Builder *builder, const OaJsonNode *container)
{
	bool		object = container->type == OA_JSON_OBJECT;
	int			i = container - builder->nodes + 1;

	check_stack_depth();
	pushJsonbValue(&builder->state,
				   object ? WJB_BEGIN_OBJECT : WJB_BEGIN_ARRAY, NULL);
	while (i < container->next)
	{
		const OaJsonNode *node;

		if (object && !push_scalar(builder, &builder->nodes[i++], WJB_KEY))
			return NULL;

		node = &builder->nodes[i];
		if (node->type == OA_JSON_OBJECT || node->type == OA_JSON_ARRAY)
		{
			if (push_container(builder, node) == NULL)
				return NULL;
		}
		else if (!push_scalar(builder, node, object ? WJB_VALUE : WJB_ELEM))
			return NULL;
		i = node->next;
	}
	return pushJsonbValue(&builder->state,
						  object ? WJB_END_OBJECT : WJB_END_ARRAY, NULL);
}

/* The object of a tape as jsonb; NULL if it holds text that cannot be. */
Jsonb	   *
oa_json_to_jsonb(const char *json, const OaJsonNode *nodes)
{
	Builder		builder = {.json = json,.nodes = nodes,.state = NULL};
	JsonbValue *value = push_container(&builder, nodes);

	return value == NULL ? NULL : JsonbValueToJsonb(value);
}
