/*
 * strict_json.c
 *		Parses JSON, and rejects everything that parsers disagree about.
 *
 * A signed token is only as clear as its JSON.  If two readers understand the
 * same bytes differently, an attacker can smuggle a claim past one of them.
 * So this parser follows RFC 8259 to the letter, and asks for more: one value
 * with nothing after it; valid UTF-8 without a byte order mark (RFC 7515
 * section 5.2, RFC 3629); no duplicate member names, even if they are escaped
 * differently (RFC 7515 section 4, RFC 7519 section 4); no NUL and no lone
 * surrogate in a string; no integer beyond 64 bits, and no other number beyond
 * a double.  Only oa_json_parse_value() takes larger numbers, for readers that
 * store what they get.
 *
 * The result is an array of nodes in the order of the text, which we call a
 * tape. The members of an object are pairs of nodes, the name and then the
 * value.  The "next" of each node tells where the node after it and its
 * contents is.  The parser keeps its position in the tape instead of calling
 * itself, so deep nesting cannot exhaust the stack.
 *
 * Nothing in this file allocates or raises: test/fuzz runs it by itself.
 */
#include "postgres.h"

#include <math.h>

#include "text/text.h"

/*
 * Both numeric and libjwt accept numbers within these limits without an error.
 */
#define NUMBER_LENGTH_MAX		512
#define NUMBER_EXPONENT_MAX		400

/*
 * A double holds integers of up to this length exactly, with or without a
 * sign.
 */
#define INTEGER_LENGTH_SAFE		15

typedef struct Parser
{
	const char *json;			/* has a NUL behind it that is not counted */
	const unsigned char *at;	/* the next byte */
	const unsigned char *end;
	OaJsonNode *nodes;
	int			capacity;
	int			count;
	int			open[OA_JSON_DEPTH_MAX];	/* nodes of the containers around
											 * "at" */
	int			depth;
	bool		large_numbers;	/* are there such that no double holds? */
} Parser;

static void
skip_space(Parser *parser)
{
	while (*parser->at == ' ' || *parser->at == '\t' ||
		   *parser->at == '\n' || *parser->at == '\r')
		parser->at++;
}

/* Add a node to the tape.  Returns NULL if there is no room. */
static OaJsonNode *
add_node(Parser *parser, OaJsonType type, const unsigned char *start)
{
	OaJsonNode *node;

	if (parser->count == parser->capacity)
		return NULL;
	node = &parser->nodes[parser->count++];
	node->type = type;
	node->escaped = false;
	node->start = start - (const unsigned char *) parser->json;
	node->length = parser->at - start;
	node->next = parser->count;
	node->count = 0;
	node->hash = 0;
	return node;
}

/* Read a string. "at" points behind its opening quotation mark. */
static const char *
read_string(Parser *parser, OaJsonNode **result)
{
	const unsigned char *start = parser->at;
	bool		escaped;
	const char *problem = oa_json_skip_string(&parser->at, parser->end,
											  &escaped);

	if (problem != NULL)
		return problem;
	*result = add_node(parser, OA_JSON_STRING, start);
	if (*result == NULL)
		return "The JSON has too many values.";
	(*result)->escaped = escaped;
	parser->at++;
	return NULL;
}

/* Read a member's name and the colon after it. */
static const char *
read_name(Parser *parser)
{
	OaJsonNode *object = &parser->nodes[parser->open[parser->depth - 1]];
	int			first = object - parser->nodes + 1;
	OaJsonNode *name;
	const char *problem;

	if (*parser->at != '"')
		return "The JSON is malformed.";
	parser->at++;
	problem = read_string(parser, &name);
	if (problem != NULL)
		return problem;

	name->hash = oa_json_hash(parser->json, name);
	for (int i = first; &parser->nodes[i] != name;
		 i = parser->nodes[i + 1].next)
		if (parser->nodes[i].hash == name->hash &&
			oa_json_same(parser->json, &parser->nodes[i], name))
			return "A JSON object has the same name twice.";
	if (++object->count > OA_JSON_MEMBERS_MAX)
		return "A JSON object has too many members.";

	skip_space(parser);
	if (*parser->at != ':')
		return "The JSON is malformed.";
	parser->at++;
	skip_space(parser);
	return NULL;
}

static const unsigned char *
skip_digits(const unsigned char *at)
{
	while (*at >= '0' && *at <= '9')
		at++;
	return at;
}

/* Does an integer fit 64 bits? */
static bool
fits_64_bits(const unsigned char *start, int length)
{
	if (length <= INTEGER_LENGTH_SAFE)
		return true;
	errno = 0;
	(void) strtoll((const char *) start, NULL, 10);
	return errno == 0;
}

/* Read a number (RFC 8259 section 6). */
static const char *
read_number(Parser *parser)
{
	const unsigned char *start = parser->at;
	const unsigned char *digits = start + (*start == '-');
	const unsigned char *at = skip_digits(digits);
	bool		integer = true;

	if (at == digits || (*digits == '0' && at - digits > 1))
		return "The JSON is malformed.";
	if (*at == '.')
	{
		integer = false;
		digits = at + 1;
		at = skip_digits(digits);
		if (at == digits)
			return "The JSON is malformed.";
	}
	if (*at == 'e' || *at == 'E')
	{
		integer = false;
		at++;
		if (*at == '+' || *at == '-')
			at++;
		digits = at;
		at = skip_digits(digits);
		if (at == digits)
			return "The JSON is malformed.";
		while (*digits == '0' && at - digits > 1)
			digits++;
		if (at - digits > 3 ||
			strtol((const char *) digits, NULL, 10) > NUMBER_EXPONENT_MAX)
			return "A number is out of range.";
	}
	parser->at = at;

	/* strtoll() and strtod() stop at the byte after the number, too. */
	if (at - start > NUMBER_LENGTH_MAX)
		return "A number is out of range.";
	if (!parser->large_numbers &&
		!(integer ? fits_64_bits(start, at - start) :
		  isfinite(strtod((const char *) start, NULL))))
		return "A number is out of range.";

	return add_node(parser, OA_JSON_NUMBER, start) == NULL ?
		"The JSON has too many values." : NULL;
}

/* Return the value of a number.  An integer beyond 2^53 is rounded. */
double
oa_json_number(const char *json, const OaJsonNode *node)
{
	const char *number = json + node->start;
	int64		value = 0;
	int			digits = 0;

	if (node->length <= INTEGER_LENGTH_SAFE)
		for (; number[digits] >= '0' && number[digits] <= '9'; digits++)
			value = value * 10 + (number[digits] - '0');
	return digits == node->length ? (double) value : strtod(number, NULL);
}

/* Read "true", "false" or "null". */
static const char *
read_word(Parser *parser)
{
	static const struct
	{
		const char *word;
		OaJsonType	type;
	}			words[] = {
		{"true", OA_JSON_TRUE}, {"false", OA_JSON_FALSE}, {"null", OA_JSON_NULL}
	};

	for (int i = 0; i < lengthof(words); i++)
	{
		int			length = strlen(words[i].word);

		if (strncmp((const char *) parser->at, words[i].word, length) != 0)
			continue;
		parser->at += length;
		return add_node(parser, words[i].type, parser->at - length) == NULL ?
			"The JSON has too many values." : NULL;
	}
	return "The JSON is malformed.";
}

/* Open an object or an array.  Closing it sets its length and "next". */
static const char *
open_container(Parser *parser)
{
	OaJsonType	type = *parser->at == '{' ? OA_JSON_OBJECT : OA_JSON_ARRAY;

	if (parser->depth == OA_JSON_DEPTH_MAX)
		return "The JSON is nested too deeply.";
	parser->open[parser->depth++] = parser->count;
	return add_node(parser, type, parser->at++) == NULL ?
		"The JSON has too many values." : NULL;
}

/*
 * After a value: close the containers that end here, and move to the next
 * value. If that is an object's member, read its name first.  Stops at depth
 * 0.
 */
static const char *
after_value(Parser *parser)
{
	while (parser->depth > 0)
	{
		OaJsonNode *container = &parser->nodes[parser->open[parser->depth - 1]];
		bool		object = container->type == OA_JSON_OBJECT;

		skip_space(parser);
		if (*parser->at == ',')
		{
			parser->at++;
			skip_space(parser);
			return object ? read_name(parser) : NULL;
		}
		if (*parser->at != (object ? '}' : ']'))
			return "The JSON is malformed.";
		parser->at++;
		container->length = parser->at - (const unsigned char *) parser->json - container->start;
		container->next = parser->count;
		parser->depth--;
	}
	return NULL;
}

/* Read one value.  Of an object or an array, read only the beginning. */
static const char *
read_value(Parser *parser)
{
	unsigned char c = *parser->at;
	const char *problem;
	OaJsonNode *node;

	if (c == '{' || c == '[')
	{
		problem = open_container(parser);
		if (problem != NULL)
			return problem;
		skip_space(parser);
		if (*parser->at == (c == '{' ? '}' : ']'))
			return after_value(parser);
		return c == '{' ? read_name(parser) : NULL;
	}
	if (c == '"')
	{
		parser->at++;
		problem = read_string(parser, &node);
	}
	else if (c == '-' || (c >= '0' && c <= '9'))
		problem = read_number(parser);
	else
		problem = read_word(parser);
	return problem != NULL ? problem : after_value(parser);
}

static const char *
parse(const char *json, int length, OaJsonNode *nodes, int capacity,
	  bool large_numbers)
{
	Parser		parser;

	parser.json = json;
	parser.at = (const unsigned char *) json;
	parser.end = parser.at + length;
	parser.nodes = nodes;
	parser.capacity = capacity;
	parser.count = 0;
	parser.depth = 0;
	parser.large_numbers = large_numbers;

	skip_space(&parser);
	do
	{
		const char *problem = read_value(&parser);

		if (problem != NULL)
			return problem;
	} while (parser.depth > 0);

	skip_space(&parser);
	if (parser.at != parser.end)
		return "The JSON does not end with its value.";
	return NULL;
}

/*
 * Parse any JSON value into nodes[0 .. capacity - 1].  OA_JSON_NODES(length)
 * nodes are always enough.  json[length] must be a NUL.  Its numbers are such
 * that numeric takes them, and need not fit a double.  Returns NULL, or a
 * sentence that states the broken rule and repeats nothing from the text.
 */
const char *
oa_json_parse_value(const char *json, int length, OaJsonNode *nodes,
					int capacity)
{
	return parse(json, length, nodes, capacity, true);
}

/* Likewise, but the value must be an object, and numbers must fit. */
const char *
oa_json_parse(const char *json, int length, OaJsonNode *nodes, int capacity)
{
	const char *problem = parse(json, length, nodes, capacity, false);

	if (problem == NULL && nodes[0].type != OA_JSON_OBJECT)
		return "The JSON is not an object.";
	return problem;
}

/*
 * Return the value of an object's member, or NULL if the object does not have
 * it. The name must be ASCII.
 */
const OaJsonNode *
oa_json_member(const char *json, const OaJsonNode *nodes,
			   const OaJsonNode *object, const char *name)
{
	for (int i = object - nodes + 1; i < object->next;
		 i = nodes[i + 1].next)
		if ((nodes[i].escaped || json[nodes[i].start] == name[0]) &&
			oa_json_equals(json, &nodes[i], name))
			return &nodes[i + 1];
	return NULL;
}
