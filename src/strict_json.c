/*
 * strict_json.c
 *		Reads one JSON object, and refuses all that parsers disagree about.
 *
 * A signed token is only as clear as its JSON: where two readers take the
 * same bytes for different things, a claim can be smuggled past one of them.
 * So this reader wants RFC 8259 to the letter and a little more: one object
 * and nothing after it, valid UTF-8 without a byte order mark (RFC 7515
 * section 5.2, RFC 3629), no member name twice however it is escaped (RFC 7515
 * section 4, RFC 7519 section 4), no NUL and no lone surrogate in any string,
 * and no number that a 64-bit integer or a double cannot hold.
 *
 * The result is a tape: the nodes in the order of the text, where an object's
 * members are pairs of nodes, name and value, and each node knows where the
 * one after it and all that it holds begins.  The parser keeps its place in
 * the tape instead of calling itself, so no depth can exhaust the stack.
 *
 * Nothing in this file allocates or raises: test/fuzz runs it by itself.
 */
#include "postgres.h"

#include <math.h>

#include "overten_auth.h"

/* What numeric and libjwt can both take without an error. */
#define NUMBER_LENGTH_MAX		512
#define NUMBER_EXPONENT_MAX		400

/* Integers of this length, with a sign or without, a double holds exactly. */
#define INTEGER_LENGTH_SAFE		15

typedef struct Parser
{
	const unsigned char *text;	/* ends with a NUL that is not counted */
	const unsigned char *at;	/* the next byte */
	const unsigned char *end;
	OaJsonNode *nodes;
	int			capacity;
	int			count;
	int			open[OA_JSON_DEPTH_MAX];	/* containers around "at" */
	int			depth;
} Parser;

static void
skip_space(Parser *parser)
{
	while (*parser->at == ' ' || *parser->at == '\t' ||
		   *parser->at == '\n' || *parser->at == '\r')
		parser->at++;
}

/* The length of the well-formed UTF-8 character here, or 0.  RFC 3629. */
static int
utf8_length(const unsigned char *at, const unsigned char *end)
{
	static const struct
	{
		unsigned char first,
					last,		/* of the first byte */
					low,
					high;		/* limits of the second */
		int			length;
	}			forms[] = {
		{0xc2, 0xdf, 0x80, 0xbf, 2},
		{0xe0, 0xe0, 0xa0, 0xbf, 3},	/* no overlong forms */
		{0xe1, 0xec, 0x80, 0xbf, 3},
		{0xed, 0xed, 0x80, 0x9f, 3},	/* no surrogates */
		{0xee, 0xef, 0x80, 0xbf, 3},
		{0xf0, 0xf0, 0x90, 0xbf, 4},
		{0xf1, 0xf3, 0x80, 0xbf, 4},
		{0xf4, 0xf4, 0x80, 0x8f, 4},	/* up to U+10FFFF */
	};

	for (int i = 0; i < lengthof(forms); i++)
	{
		if (*at < forms[i].first || *at > forms[i].last)
			continue;
		if (end - at < forms[i].length ||
			at[1] < forms[i].low || at[1] > forms[i].high)
			return 0;
		for (int j = 2; j < forms[i].length; j++)
			if ((at[j] & 0xc0) != 0x80)
				return 0;
		return forms[i].length;
	}
	return 0;
}

/* Four hexadecimal digits, or -1. */
static int
read_hex(const unsigned char *at, const unsigned char *end)
{
	int			value = 0;

	if (end - at < 4)
		return -1;
	for (int i = 0; i < 4; i++)
	{
		unsigned char c = at[i];

		value <<= 4;
		if (c >= '0' && c <= '9')
			value |= c - '0';
		else if (c >= 'a' && c <= 'f')
			value |= c - 'a' + 10;
		else if (c >= 'A' && c <= 'F')
			value |= c - 'A' + 10;
		else
			return -1;
	}
	return value;
}

/*
 * Read the escape sequence after a backslash into *character and return its
 * length, or 0 if it is none that is allowed.
 */
static int
read_escape(const unsigned char *at, const unsigned char *end,
			uint32 *character)
{
	static const char from[] = "\"\\/bfnrt";
	static const char to[] = "\"\\/\b\f\n\r\t";
	const char *found;
	int			high;
	int			low;

	if (at == end || *at == '\0')
		return 0;
	if (*at != 'u')
	{
		found = strchr(from, *at);
		if (found == NULL)
			return 0;
		*character = (unsigned char) to[found - from];
		return 1;
	}

	high = read_hex(at + 1, end);
	if (high <= 0 || (high >= 0xdc00 && high <= 0xdfff))
		return 0;
	*character = high;
	if (high < 0xd800 || high > 0xdbff)
		return 5;

	if (end - at < 11 || at[5] != '\\' || at[6] != 'u')
		return 0;
	low = read_hex(at + 7, end);
	if (low < 0xdc00 || low > 0xdfff)
		return 0;
	*character = 0x10000 + ((high - 0xd800) << 10) + (low - 0xdc00);
	return 11;
}

/* Write a character as UTF-8 and return the number of bytes. */
static int
write_utf8(uint32 c, unsigned char *out)
{
	if (c < 0x80)
	{
		out[0] = c;
		return 1;
	}
	if (c < 0x800)
	{
		out[0] = 0xc0 | c >> 6;
		out[1] = 0x80 | (c & 0x3f);
		return 2;
	}
	if (c < 0x10000)
	{
		out[0] = 0xe0 | c >> 12;
		out[1] = 0x80 | (c >> 6 & 0x3f);
		out[2] = 0x80 | (c & 0x3f);
		return 3;
	}
	out[0] = 0xf0 | c >> 18;
	out[1] = 0x80 | (c >> 12 & 0x3f);
	out[2] = 0x80 | (c >> 6 & 0x3f);
	out[3] = 0x80 | (c & 0x3f);
	return 4;
}

/* A checked string that is read byte by byte, its escape sequences undone. */
typedef struct StringReader
{
	const unsigned char *at;
	const unsigned char *end;
	unsigned char bytes[4];		/* of the character that is being read */
	int			have;
	int			used;
} StringReader;

static StringReader
open_string(const unsigned char *text, const OaJsonNode *node)
{
	StringReader reader;

	reader.at = text +node->start;

	reader.end = reader.at + node->length;
	reader.have = reader.used = 0;
	return reader;
}

/* The next byte, or -1 at the end. */
static int
next_byte(StringReader *reader)
{
	uint32		character = 0;

	if (reader->used < reader->have)
		return reader->bytes[reader->used++];
	if (reader->at == reader->end)
		return -1;
	if (*reader->at != '\\')
		return *reader->at++;

	reader->at += 1 + read_escape(reader->at + 1, reader->end, &character);
	reader->have = write_utf8(character, reader->bytes);
	reader->used = 1;
	return reader->bytes[0];
}

/*
 * Write a string's or a name's characters as UTF-8 and return the number of
 * bytes, which is at most the node's length.  Adds no NUL.
 */
int
oa_json_unescape(const char *text, const OaJsonNode *node, char *out)
{
	StringReader reader;
	char	   *to = out;
	int			byte;

	if (!node->escaped)
	{
		memcpy(out, text +node->start, node->length);
		return node->length;
	}
	reader = open_string((const unsigned char *) text, node);
	while ((byte = next_byte(&reader)) >= 0)
		*to++ = byte;
	return to - out;
}

/* A new node of the tape, or NULL if there is no room. */
static OaJsonNode *
add_node(Parser *parser, OaJsonType type, const unsigned char *start)
{
	OaJsonNode *node;

	if (parser->count == parser->capacity)
		return NULL;
	node = &parser->nodes[parser->count++];
	node->type = type;
	node->escaped = false;
	node->start = start - parser->text;
	node->length = parser->at - start;
	node->next = parser->count;
	node->count = 0;
	node->hash = 0;
	return node;
}

/* Read a string; "at" is behind its opening quotation mark. */
static const char *
read_string(Parser *parser, OaJsonNode **result)
{
	const unsigned char *start = parser->at;
	bool		escaped = false;

	for (;;)
	{
		unsigned char c = *parser->at;
		int			n;

		if (c == '"')
			break;
		else if (c < 0x20)
			return "A string has a control character or no end.";
		else if (c == '\\')
		{
			uint32		character;

			n = read_escape(parser->at + 1, parser->end, &character);
			if (n == 0)
				return "A string has an escape sequence that is not allowed.";
			parser->at += 1 + n;
			escaped = true;
		}
		else if (c < 0x80)
			parser->at++;
		else
		{
			n = utf8_length(parser->at, parser->end);
			if (n == 0)
				return "The JSON is not valid UTF-8.";
			parser->at += n;
		}
	}

	*result = add_node(parser, OA_JSON_STRING, start);
	if (*result == NULL)
		return "The JSON has too many values.";
	(*result)->escaped = escaped;
	parser->at++;
	return NULL;
}

/* FNV-1a of a name as it reads without escape sequences. */
static uint32
hash_name(const unsigned char *text, const OaJsonNode *name)
{
	StringReader reader;
	uint32		hash = 2166136261U;
	int			byte;

	if (!name->escaped)
	{
		for (int i = 0; i < name->length; i++)
			hash = (hash ^ text[name->start + i]) *16777619U;
		return hash;
	}
	reader = open_string(text, name);
	while ((byte = next_byte(&reader)) >= 0)
		hash = (hash ^ byte) * 16777619U;
	return hash;
}

/* Do two names read the same without escape sequences? */
static bool
same_name(const unsigned char *text, const OaJsonNode *a, const OaJsonNode *b)
{
	StringReader a_reader = open_string(text, a);
	StringReader b_reader = open_string(text, b);
	int			byte;

	do
	{
		byte = next_byte(&a_reader);
		if (byte != next_byte(&b_reader))
			return false;
	} while (byte >= 0);
	return true;
}

/* Read a member's name and the colon behind it. */
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

	name->hash = hash_name(parser->text, name);
	for (int i = first; &parser->nodes[i] != name;
		 i = parser->nodes[i + 1].next)
		if (parser->nodes[i].hash == name->hash &&
			same_name(parser->text, &parser->nodes[i], name))
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

/* Read a number, by RFC 8259 section 6. */
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

	/* The byte behind the number ends it for these two as well. */
	if (at - start > NUMBER_LENGTH_MAX)
		return "A number is out of range.";
	if (!integer)
	{
		if (!isfinite(strtod((const char *) start, NULL)))
			return "A number is out of range.";
	}
	else if (at - start > INTEGER_LENGTH_SAFE)
	{
		errno = 0;
		(void) strtoll((const char *) start, NULL, 10);
		if (errno != 0)
			return "A number is out of range.";
	}

	return add_node(parser, OA_JSON_NUMBER, start) == NULL ?
		"The JSON has too many values." : NULL;
}

/* The value of a number.  An integer beyond 2^53 is rounded. */
double
oa_json_number(const char *text, const OaJsonNode *node)
{
	const char *number = text +node->start;
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

/* Open an object or an array; its length and "next" are set when it closes. */
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
 * A value has ended.  Close the containers that end here too, and stand on
 * the next value, behind its name if it has one; or at depth 0.
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
		container->length = parser->at - parser->text -container->start;
		container->next = parser->count;
		parser->depth--;
	}
	return NULL;
}

/* Read one value, or the beginning of one that holds others. */
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

/*
 * Parse a JSON object into nodes[0 .. capacity - 1]; OA_JSON_NODES(length) are
 * enough for any.  text[length] must be a NUL.  Returns NULL, or the rule that
 * is broken, as a sentence that repeats nothing of the text.
 */
const char *
oa_json_parse(const char *text, int length, OaJsonNode *nodes, int capacity)
{
	Parser		parser;

	parser.text = parser.at = (const unsigned char *) text;

	parser.end = parser.at + length;
	parser.nodes = nodes;
	parser.capacity = capacity;
	parser.count = 0;
	parser.depth = 0;

	skip_space(&parser);
	if (*parser.at != '{')
		return "The JSON is not an object.";
	do
	{
		const char *problem = read_value(&parser);

		if (problem != NULL)
			return problem;
	} while (parser.depth > 0);

	skip_space(&parser);
	if (parser.at != parser.end)
		return "The JSON does not end with its object.";
	return NULL;
}

/* Is this a string, or a name, that reads as this text? */
bool
oa_json_equals(const char *text, const OaJsonNode *node, const char *expected)
{
	StringReader reader;
	int			byte;

	if (node->type != OA_JSON_STRING)
		return false;
	if (!node->escaped)
		return strncmp(text +node->start, expected, node->length) == 0 &&
			expected[node->length] == '\0';

	reader = open_string((const unsigned char *) text, node);
	while ((byte = next_byte(&reader)) >= 0)
		if (byte != (unsigned char) *expected++)
			return false;
	return *expected == '\0';
}

/* The value of a member of an object, by a name in ASCII; NULL if none. */
const OaJsonNode *
oa_json_member(const char *text, const OaJsonNode *nodes,
			   const OaJsonNode *object, const char *name)
{
	for (int i = object - nodes + 1; i < object->next;
		 i = nodes[i + 1].next)
		if ((nodes[i].escaped || text[nodes[i].start] == name[0]) &&
			oa_json_equals(text, &nodes[i], name))
			return &nodes[i + 1];
	return NULL;
}
