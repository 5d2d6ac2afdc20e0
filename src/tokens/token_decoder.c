/*
 * token_decoder.c
 *		What libjwt makes of a token: its alg, kid, aud, iss and sub.
 *
 * libjwt decodes what decides whose token it is, after the strict readers have
 * found the form of all of the token good.  It is given the header as it came,
 * and a payload that holds those claims alone, byte for byte as they stand in
 * the token: it takes about as long for all of a payload as the check of the
 * signature takes, and has no safe way to give the rest (it reads a number in
 * quotes as 0).  It gets no key and no signature.
 *
 * Header, aud and iss are the same in token after token; only sub is not.  So
 * what libjwt has made of the last few of those is kept, with the bytes that
 * it was given.  Where they come again, all of them and byte for byte, it is
 * given sub alone, under a header that asks for nothing.  What is kept says
 * only how bytes decode: all rules are applied to it for each token, and it
 * depends on no setting, key or clock.
 *
 * The strings are copied and libjwt's objects freed before this returns.  The
 * copies are good until the next token.
 */
#include "postgres.h"

#include "text/text.h"
#include "tokens/token.h"

/* As many headers as Google publishes keys at a time. */
#define KEPT_MAX 4

/* {"alg":"none"}: libjwt, which is to check nothing, wants an alg. */
#define EMPTY_HEADER "eyJhbGciOiJub25lIn0"

/*
 * What was decoded of tokens that have header, aud and iss in common.  As all
 * is copied from one token, OA_TOKEN_MAX holds it; pages are used as needed.
 */
typedef struct Common
{
	int			length;			/* of the bytes; 0 if there are none yet */
	char		bytes[OA_TOKEN_MAX];	/* the header's segment and two claims */
	char		strings[OA_TOKEN_MAX];
	const char *alg;			/* in the strings, as those that follow */
	const char *kid;
	const char *aud;
	const char *iss;
} Common;

static Common kept[KEPT_MAX];

/* The one that gives way next. */
static int	oldest = 0;

/* Add a claim that is a string to a JSON object, as it stands. */
static char *
add_claim(const OaToken *token, const char *name, const char *object, char *to)
{
	const OaJsonNode *node = oa_token_claim(token, name);
	int			name_length = strlen(name);

	if (node == NULL || node->type != OA_JSON_STRING)
		return to;
	*to = to == object ? '{' : ',';
	to[1] = '"';
	to = (char *) memcpy(to + 2, name, name_length) + name_length;
	to = (char *) memcpy(to, "\":\"", 3) + 3;
	to = (char *) memcpy(to, token->payload.json + node->start,
						 node->length) + node->length;
	*to = '"';
	return to + 1;
}

/* End a JSON object that claims were added to. */
static char *
end_object(const char *object, char *to)
{
	if (to == object)
		*to++ = '{';
	*to = '}';
	return to + 1;
}

/* Have libjwt decode a header's segment and a payload; NULL if it cannot. */
static OaJwt *
decode_parts(const char *header, int header_length, const char *payload,
						  int payload_length)
{
	static char compact[sizeof(EMPTY_HEADER) + OA_TOKEN_MAX];
	char	   *to = compact;

	to = (char *) memcpy(to, header, header_length) + header_length;
	*to++ = '.';
	to += oa_base64url_encode((const unsigned char *) payload, payload_length,
							  to);
	*to++ = '.';
	*to = '\0';
	return oa_jwt_decode(compact);
}

/* Copy a string of libjwt's to where *to is, and step that behind it. */
static const char *
copy_string(const char *string, char **to)
{
	Size		size;
	const char *result = *to;

	if (string == NULL)
		return NULL;
	size = strlen(string) + 1;
	memcpy(*to, string, size);
	*to += size;
	return result;
}

/* What was decoded of these bytes, or NULL. */
static const Common *
find_kept(const char *bytes, int length)
{
	for (int i = 0; i < KEPT_MAX; i++)
		if (kept[i].length == length &&
			memcmp(kept[i].bytes, bytes, length) == 0)
			return &kept[i];
	return NULL;
}

/* Keep what libjwt has made of these bytes. */
static const Common *
keep_decoded(OaJwt *jwt, const char *bytes, int length)
{
	Common	   *common = &kept[oldest];
	char	   *to = common->strings;

	oldest = (oldest + 1) % KEPT_MAX;
	common->length = length;
	memcpy(common->bytes, bytes, length);
	common->alg = copy_string(oa_jwt_header(jwt, "alg"), &to);
	common->kid = copy_string(oa_jwt_header(jwt, "kid"), &to);
	common->aud = copy_string(oa_jwt_claim(jwt, "aud"), &to);
	common->iss = copy_string(oa_jwt_claim(jwt, "iss"), &to);
	return common;
}

/*
 * Fill in what libjwt makes of a token that the strict readers have read.
 * False if it refuses the header.  Raises as oa_jwt_library_open() does.
 */
bool
oa_decode_token(OaToken *token)
{
	const OaTokenSegment *header = &token->header_segment;
	static char bytes[OA_TOKEN_MAX];
	static char sub[OA_TOKEN_MAX];
	char	   *payload = bytes + header->length;
	char	   *to = sub;
	char	   *end;
	int			length;
	const Common *common;
	OaJwt	   *jwt;

	memcpy(bytes, header->start, header->length);
	end = add_claim(token, "aud", payload, payload);
	end = add_claim(token, "iss", payload, end);
	length = end - bytes;

	oa_jwt_library_open();
	common = find_kept(bytes, length);
	if (common != NULL)
	{
		end = add_claim(token, "sub", payload, payload);
		end = end_object(payload, end);
		jwt = decode_parts(EMPTY_HEADER, strlen(EMPTY_HEADER), payload,
										end - payload);
	}
	else
	{
		end = add_claim(token, "sub", payload, end);
		end = end_object(payload, end);
		jwt = decode_parts(bytes, header->length, payload, end - payload);
		if (jwt != NULL)
			common = keep_decoded(jwt, bytes, length);
	}
	if (jwt == NULL)
		return oa_refuse_token(token, "Its header names no algorithm that libjwt knows, or a typ other than JWT.");

	token->alg = common->alg;
	token->kid = common->kid;
	token->aud = common->aud;
	token->iss = common->iss;
	token->sub = copy_string(oa_jwt_claim(jwt, "sub"), &to);
	oa_jwt_free(jwt);
	return true;
}
