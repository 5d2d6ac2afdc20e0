/*
 * token_decoder.c
 *		Has libjwt decode a token: its alg, kid, aud, iss and sub.
 *
 * libjwt decodes the parts that decide whose token it is, after our strict
 * parsers have accepted the form of the whole token.  We give libjwt the
 * header unchanged, and a payload that holds those claims alone, byte for byte
 * as they are in the token.  Decoding a whole payload takes libjwt about as
 * long as checking a signature, and libjwt has no safe way to return the other
 * claims (it reads a number in quotes as 0).  We give libjwt no key and no
 * signature.
 *
 * Many tokens have the same header, aud and iss; only sub differs.  So we keep
 * libjwt's results for the last few of those, together with the bytes that it
 * was given.  If exactly the same bytes come again, we give libjwt only sub,
 * under a header that asks for nothing.  What we keep only says how bytes are
 * decoded, and does not depend on any setting, key or clock.  We apply every
 * rule to it again for each token.
 *
 * We copy the strings, and free libjwt's objects before we return.  The copies
 * are valid until the next token.
 */
#include "postgres.h"

#include "text/text.h"
#include "tokens/token.h"

/* Google publishes this many keys at a time, so there are as many headers. */
#define KEPT_MAX 4

/* {"alg":"none"}: libjwt must check nothing, but it requires an alg. */
#define EMPTY_HEADER "eyJhbGciOiJub25lIn0"

/*
 * What libjwt has decoded for tokens with the same header, aud and iss.  All
 * strings come from one token, so OA_TOKEN_MAX bytes are enough for them; the
 * system allocates pages only as they are used.
 */
typedef struct Common
{
	int			length;			/* of "bytes"; 0 if this entry is empty */
	char		bytes[OA_TOKEN_MAX];	/* the header's segment and two claims */
	char		strings[OA_TOKEN_MAX];
	const char *alg;			/* these point into "strings" */
	const char *kid;
	const char *aud;
	const char *iss;
} Common;

static Common kept[KEPT_MAX];

/* The entry to replace next. */
static int	oldest = 0;

/* Append a string claim to a JSON object, unchanged. */
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

/* End a JSON object to which claims were added. */
static char *
end_object(const char *object, char *to)
{
	if (to == object)
		*to++ = '{';
	*to = '}';
	return to + 1;
}

/*
 * Have libjwt decode a header's segment and a payload.  Returns NULL if it
 * cannot.
 */
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

/* Copy a string of libjwt's to *to, and advance *to behind the copy. */
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

/* Find the results for these bytes.  Returns NULL if we do not have them. */
static const Common *
find_kept(const char *bytes, int length)
{
	for (int i = 0; i < KEPT_MAX; i++)
		if (kept[i].length == length &&
			memcmp(kept[i].bytes, bytes, length) == 0)
			return &kept[i];
	return NULL;
}

/* Keep libjwt's results for these bytes. */
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
 * Have libjwt decode a token that our strict parsers have accepted.  Returns
 * false if libjwt rejects the header.  Raises as oa_jwt_library_open() does.
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
