/*
 * token_reader.c
 *		Takes a token apart: segments and JSON.
 *
 * All of header and payload is decoded and parsed by this extension's strict
 * readers.  Only then is libjwt asked what it makes of those parts that decide
 * whose token it is (token_decoder.c).
 *
 * The JSON lies in memory that is kept for the next token, so only one token
 * can be open at a time; nothing runs meanwhile that could open another.
 */
#include "postgres.h"

#include <math.h>

#include "utils/timestamp.h"

#include "text/text.h"
#include "tokens/token.h"

/* Seconds from 1970 to 2000, and the last one of the year 9999. */
#define POSTGRES_EPOCH_SECONDS \
	((POSTGRES_EPOCH_JDATE - UNIX_EPOCH_JDATE) * (int64) SECS_PER_DAY)
#define LAST_SECOND INT64CONST(253402300799)

enum
{
	SEGMENT_HEADER, SEGMENT_PAYLOAD, SEGMENT_SIGNATURE
};

/* What of the open token does not fit into it; pages are used as needed. */
static struct
{
	char		buffer[OA_TOKEN_MAX];
	OaJsonNode	nodes[OA_JSON_NODES(OA_TOKEN_MAX)];
}			workspace;

/*
 * Note why a token is refused.  Returns false, for the functions that say
 * whether it may go on.
 */
bool
oa_refuse_token(OaToken *token, const char *detail)
{
	token->detail = detail;
	return false;
}

/* A member of the header; NULL if there is none. */
const OaJsonNode *
oa_token_header(const OaToken *token, const char *name)
{
	return oa_json_member(token->header.json, token->header.nodes,
						  token->header.nodes, name);
}

/* A claim; NULL if there is none. */
const OaJsonNode *
oa_token_claim(const OaToken *token, const char *name)
{
	return oa_json_member(token->payload.json, token->payload.nodes,
						  token->payload.nodes, name);
}

/* A member of the payload's "firebase" object, or NULL. */
const OaJsonNode *
oa_firebase_claim(const OaToken *token, const char *name)
{
	const OaJsonNode *firebase = oa_token_claim(token, "firebase");

	if (firebase == NULL || firebase->type != OA_JSON_OBJECT)
		return NULL;
	return oa_json_member(token->payload.json, token->payload.nodes,
						  firebase, name);
}

/*
 * A NumericDate (RFC 7519 section 2: a JSON number, fractions allowed) as a
 * timestamp.  False if it is no number, or none that a timestamp can hold.
 */
bool
oa_token_time(const OaToken *token, const OaJsonNode *node, TimestampTz *time)
{
	double		seconds;

	if (node->type != OA_JSON_NUMBER)
		return false;
	seconds = oa_json_number(token->payload.json, node);
	if (seconds < -LAST_SECOND || seconds > LAST_SECOND)
		return false;
	*time = (TimestampTz) rint((seconds - POSTGRES_EPOCH_SECONDS) *
							   USECS_PER_SEC);
	return true;
}

/*
 * Decode a segment that must be a JSON object (RFC 7515 5.2) into the text and
 * the nodes given, and step both behind it.
 */
static bool
read_json_segment(OaToken *token, const OaTokenSegment *segment,
				  char **buffer, OaJsonNode **nodes, OaTokenJson *result)
{
	int			length;
	const char *problem;

	length = oa_base64url_decode(segment->start, segment->length,
								 (unsigned char *) *buffer);
	if (length < 0)
		return oa_refuse_token(token, "A segment is not canonical base64url.");
	(*buffer)[length] = '\0';
	problem = oa_json_parse(*buffer, length, *nodes, OA_JSON_NODES(length));
	if (problem != NULL)
		return oa_refuse_token(token, problem);

	result->json = *buffer;
	result->nodes = *nodes;
	*buffer += length + 1;
	*nodes += (*nodes)->next;
	return true;
}

/*
 * Refuse a token without a signature (RFC 7515 appendix A.5), as the emulator of
 * Firebase makes them.
 */
static bool
refuse_unsigned(OaToken *token)
{
	const OaJsonNode *alg = oa_token_header(token, "alg");

	if (alg != NULL && oa_json_equals(token->header.json, alg, "none"))
		return oa_refuse_token(token, "It is not signed (alg none). Tokens of the Firebase emulator are never accepted.");
	return oa_refuse_token(token, "Its signature is empty.");
}

/*
 * Open a token: RFC 7515 sections 2, 3.1 and 5.2, RFC 7519 section 7.2.
 *
 * True if it is in the form that they ask for.  The token is then open until
 * the next one is opened; "compact" must stay where it is until then.
 */
bool
oa_open_token(OaToken *token, const char *compact, int length)
{
	OaTokenSegment segments[OA_TOKEN_SEGMENTS];
	OaTokenSegment *signature = &segments[SEGMENT_SIGNATURE];
	char	   *json = workspace.buffer;
	OaJsonNode *nodes = workspace.nodes;

	memset(token, 0, sizeof(OaToken));
	if (length > OA_TOKEN_MAX)
		return oa_refuse_token(token, "It has more than 16 kB.");
	if (!oa_split_token(compact, length, segments))
		return oa_refuse_token(token, "It does not have three segments.");
	if (!read_json_segment(token, &segments[SEGMENT_HEADER], &json, &nodes,
						   &token->header) ||
		!read_json_segment(token, &segments[SEGMENT_PAYLOAD], &json, &nodes,
						   &token->payload))
		return false;

	token->signature = (unsigned char *) json;
	token->signature_length = oa_base64url_decode(signature->start,
												  signature->length,
												  token->signature);
	if (token->signature_length < 0)
		return oa_refuse_token(token, "A segment is not canonical base64url.");
	if (token->signature_length == 0)
		return refuse_unsigned(token);
	token->compact = compact;
	token->signed_length = signature->start - 1 - compact;

	token->header_segment = segments[SEGMENT_HEADER];
	return true;
}
