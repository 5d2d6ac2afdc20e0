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
#include "utils/numeric.h"

#include "overten_auth.h"

/* A walk over the tape, which builds a value. */
typedef struct Builder
{
	const char *json;
	const OaJsonNode *nodes;
	JsonbParseState *state;
	JsonbValue *result;			/* when the walk has come to its end */
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
	char	   *utf8;
	int			length;

	if (!node->escaped)
		return oa_utf8_to_server(json + node->start, node->length, result);
	utf8 = palloc(node->length + 1);
	length = oa_json_unescape(json, node, utf8);
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
	const char *text = builder->json + node->start;
	char	   *digits;

	result->type = jbvNumeric;

	/* Most are integers, and the parser has seen that they fit. */
	if (strspn(text, "-0123456789") == node->length)
	{
		result->val.numeric = int64_to_numeric(strtoll(text, NULL, 10));
		return;
	}
	digits = pnstrdup(text, node->length);
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
 * Put the members of an object into the order that jsonb keeps them in,
 * shorter names first; given to it so, it need not sort them by itself, at
 * several times the cost.  Names with escape sequences may come out of order.
 */
static void
sort_members(const Builder *builder, const OaJsonNode *object,
			 const OaJsonNode **names)
{
	int			count = 0;

	for (int i = object - builder->nodes + 1; i < object->next;
		 i = builder->nodes[i + 1].next)
	{
		const OaJsonNode *name = &builder->nodes[i];
		int			place = count++;

		for (; place > 0; place--)
		{
			const OaJsonNode *before = names[place - 1];

			if (before->length < name->length ||
				(before->length == name->length &&
				 memcmp(builder->json + before->start,
						builder->json + name->start, name->length) < 0))
				break;
			names[place] = before;
		}
		names[place] = name;
	}
}

static bool push_value(Builder *builder, const OaJsonNode *node,
					   JsonbIteratorToken token);

/* Push an object or an array with all that it holds.  False as above. */
static bool
push_container(Builder *builder, const OaJsonNode *container)
{
	check_stack_depth();
	if (container->type == OA_JSON_OBJECT)
	{
		const OaJsonNode *names[OA_JSON_MEMBERS_MAX];

		sort_members(builder, container, names);
		pushJsonbValue(&builder->state, WJB_BEGIN_OBJECT, NULL);
		for (int i = 0; i < container->count; i++)
		{
			/* sort_members() has filled in as many as there are. */
			/* NOLINTNEXTLINE(clang-analyzer-core.CallAndMessage) */
			if (!push_scalar(builder, names[i], WJB_KEY) ||
				!push_value(builder, names[i] + 1, WJB_VALUE))
				return false;
		}
		builder->result = pushJsonbValue(&builder->state, WJB_END_OBJECT,
										 NULL);
	}
	else
	{
		int			i = container - builder->nodes + 1;

		pushJsonbValue(&builder->state, WJB_BEGIN_ARRAY, NULL);
		for (; i < container->next; i = builder->nodes[i].next)
			if (!push_value(builder, &builder->nodes[i], WJB_ELEM))
				return false;
		builder->result = pushJsonbValue(&builder->state, WJB_END_ARRAY,
										 NULL);
	}
	return true;
}

/*
 * Push any value.  The parser's limit of depth is the limit of the recursion.
 */
static bool
push_value(Builder *builder, const OaJsonNode *node, JsonbIteratorToken token)
{
	if (node->type == OA_JSON_OBJECT || node->type == OA_JSON_ARRAY)
		return push_container(builder, node);
	return push_scalar(builder, node, token);
}

/* The object of a tape as jsonb; NULL if it holds text that cannot be. */
Jsonb	   *
oa_json_to_jsonb(const char *json, const OaJsonNode *nodes)
{
	Builder		builder = {.json = json,.nodes = nodes};

	if (!push_container(&builder, nodes))
		return NULL;
	return JsonbValueToJsonb(builder.result);
}
