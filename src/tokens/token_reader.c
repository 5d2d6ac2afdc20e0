/*
 * token_reader.c
 *		Splits a token into its segments, and parses their JSON.
 *
 * Our own strict parsers decode and parse the whole header and payload.  Only
 * then do we ask libjwt to decode the parts that decide whose token it is
 * (token_decoder.c).
 *
 * The JSON is in memory that the next token overwrites, so only one token can
 * be open at a time.  Nothing that runs meanwhile can open another one.
 */
#include "postgres.h"

#include <math.h>

#include "utils/timestamp.h"

#include "text/text.h"
#include "tokens/token.h"

/* Seconds from 1970 to 2000, and the last second of the year 9999. */
#define POSTGRES_EPOCH_SECONDS \
	((POSTGRES_EPOCH_JDATE - UNIX_EPOCH_JDATE) * (int64) SECS_PER_DAY)
#define LAST_SECOND INT64CONST(253402300799)

enum
{
	SEGMENT_HEADER, SEGMENT_PAYLOAD, SEGMENT_SIGNATURE
};

/*
 * The parts of the open token that do not fit into OaToken.  The system
 * allocates pages only as they are used.
 */
static struct
{
	char		buffer[OA_TOKEN_MAX];
	OaJsonNode	nodes[OA_JSON_NODES(OA_TOKEN_MAX)];
}			workspace;

/* Note why we refuse a token.  Returns false, so that checks can return it. */
bool
oa_refuse_token(OaToken *token, const char *detail)
{
	token->detail = detail;
	return false;
}

/* Find a member of the header.  Returns NULL if it is missing. */
const OaJsonNode *
oa_token_header(const OaToken *token, const char *name)
{
	return oa_json_member(token->header.json, token->header.nodes,
						  token->header.nodes, name);
}

/* Find a claim.  Returns NULL if it is missing. */
const OaJsonNode *
oa_token_claim(const OaToken *token, const char *name)
{
	return oa_json_member(token->payload.json, token->payload.nodes,
						  token->payload.nodes, name);
}

/*
 * Find a member of the payload's "firebase" object.  Returns NULL if it is
 * missing.
 */
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
 * Convert a NumericDate (RFC 7519 section 2: a JSON number, which may have a
 * fraction) to a timestamp.  Returns false if it is not a number, or out of
 * range.
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
 * Decode a segment, which must be a JSON object (RFC 7515 section 5.2), into
 * *text and *nodes, and advance both behind it.
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
 * Refuse a token without a signature (RFC 7515 appendix A.5).  The Firebase
 * emulator makes such tokens.
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
 * Open a token (RFC 7515 sections 2, 3.1 and 5.2, RFC 7519 section 7.2).
 *
 * Returns true if the form of the token follows these rules.  The token stays
 * open until the next one is opened; the caller must keep "compact" until then.
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
