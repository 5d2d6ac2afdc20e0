/*
 * claims.c
 *		Converts the claims of a token to jsonb.
 *
 * If the database's encoding lacks a character of a claim, we tell the caller,
 * which refuses the token: a replacement character could turn two different
 * people into one.
 *
 * We convert the bytes that were signed, through the tape of strict_json.c.
 * libjwt's text of them would have other numbers.
 */
#include "postgres.h"

#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/jsonb.h"
#include "utils/numeric.h"

#include "text/text.h"
#include "tokens/token.h"

/* The state while we walk over the tape and build a value. */
typedef struct Builder
{
	const char *json;
	const OaJsonNode *nodes;
	JsonbParseState *state;
	JsonbValue *result;			/* set at the end of the walk */
} Builder;

/*
 * Convert a string or a name.  Returns false if the server's encoding cannot
 * hold it.
 */
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
	if (!oa_utf8_to_server(&bytes, &length))
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

	/* Most numbers are integers, and the parser has checked their range. */
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

/* Push a scalar.  Returns false as above. */
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
 * Sort the members of an object into jsonb's own order, shorter names first.
 * Otherwise jsonb would sort them, at several times the cost.  Names with
 * escape sequences may come out of order; jsonb then sorts them.
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

/* Push an object or an array with its contents.  Returns false as above. */
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
			/* sort_members() has set one element for each member. */
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

/* Push any value.  The parser limits the depth, and so the recursion. */
static bool
push_value(Builder *builder, const OaJsonNode *node, JsonbIteratorToken token)
{
	if (node->type == OA_JSON_OBJECT || node->type == OA_JSON_ARRAY)
		return push_container(builder, node);
	return push_scalar(builder, node, token);
}

/*
 * Convert the object of a tape to jsonb.  Returns NULL if the server's
 * encoding cannot hold some text in it.
 */
Jsonb	   *
oa_json_to_jsonb(const char *json, const OaJsonNode *nodes)
{
	Builder		builder = {.json = json,.nodes = nodes};

	if (!push_container(&builder, nodes))
		return NULL;
	return JsonbValueToJsonb(builder.result);
}
