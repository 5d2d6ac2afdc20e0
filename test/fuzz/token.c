/*
 * token.c
 *		Feeds libFuzzer's input to the parsers that see a token first.
 *
 * The input is tried as a whole token and as bare JSON.  Besides the memory
 * errors that the sanitizers find: a form that is accepted has one spelling,
 * and a tape that is accepted can be walked to its end.
 */
#include "postgres.h"

#include "text/text.h"

int			LLVMFuzzerTestOneInput(const uint8 *data, size_t size);

/* Walk a tape, and reach each node once. */
static void
walk(const char *text, int length, const OaJsonNode *nodes)
{
	char	   *string = malloc(length + 1);
	int			count = nodes[0].next;

	for (int i = 0; i < count; i++)
	{
		const OaJsonNode *node = &nodes[i];

		if (node->start < 0 || node->length < 0 ||
			node->start + node->length > length ||
			node->next <= i || node->next > count)
			abort();
		if (node->type == OA_JSON_STRING &&
			oa_json_unescape(text, node, string) > node->length)
			abort();
		if (node->type == OA_JSON_NUMBER)
			(void) oa_json_number(text, node);
		if (node->type == OA_JSON_OBJECT)
		{
			int			members = 0;
			int			at = i + 1;

			for (; at < node->next; at = nodes[at + 1].next)
				members++;
			if (at != node->next || members != node->count)
				abort();
			(void) oa_json_member(text, nodes, node, "sub");
		}
	}
	free(string);
}

/* Parse some bytes, which are put where a byte too far is noticed. */
static void
try_json(const uint8 *data, int length)
{
	char	   *text = malloc(length + 1);
	OaJsonNode *nodes = malloc(OA_JSON_NODES(length) * sizeof(OaJsonNode));

	memcpy(text, data, length);
	text[length] = '\0';
	if (oa_json_parse(text, length, nodes, OA_JSON_NODES(length)) == NULL)
		walk(text, length, nodes);
	free(nodes);
	free(text);
}

/* Decode a segment; what is accepted must encode to the same again. */
static void
try_segment(const OaTokenSegment *segment)
{
	unsigned char *bytes = malloc(OA_BASE64URL_DECODED(segment->length));
	int			length = oa_base64url_decode(segment->start, segment->length,
											 bytes);

	if (length >= 0)
	{
		char	   *again = malloc(OA_BASE64URL_ENCODED(length));

		if (oa_base64url_encode(bytes, length, again) != segment->length ||
			memcmp(again, segment->start, segment->length) != 0)
			abort();
		free(again);
		try_json(bytes, length);
	}
	free(bytes);
}

int
LLVMFuzzerTestOneInput(const uint8 *data, size_t size)
{
	OaTokenSegment segments[OA_TOKEN_SEGMENTS];
	char	   *token = malloc(size);

	memcpy(token, data, size);
	if (size > 0 && oa_split_token(token, size, segments))
		for (int i = 0; i < OA_TOKEN_SEGMENTS; i++)
			try_segment(&segments[i]);
	free(token);
	try_json(data, size);
	return 0;
}
