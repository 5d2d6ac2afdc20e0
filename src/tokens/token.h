/*
 * token.h
 *		A token that has been split, decoded and checked, for the files of
 *		this directory.
 */
#ifndef OA_TOKEN_H
#define OA_TOKEN_H

#include "signing_keys/signing_keys.h"
#include "text/text.h"
#include "tokens/tokens.h"
#include "utils/jsonb.h"

/* claims.c: the claims as jsonb */
extern Jsonb *oa_json_to_jsonb(const char *json,
							   const OaJsonNode *nodes);

/* jwt_library.c: libjwt, opened when we first need it */
typedef struct jwt OaJwt;

extern void oa_jwt_library_open(void);
extern OaJwt *oa_jwt_decode(const char *token);
extern void oa_jwt_free(OaJwt *jwt);
extern const char *oa_jwt_header(OaJwt *jwt, const char *name);
extern const char *oa_jwt_claim(OaJwt *jwt, const char *name);

/* token_reader.c: a token, split into its parts */
typedef struct OaTokenJson
{
	const char *json;
	const OaJsonNode *nodes;	/* the first is the object */
} OaTokenJson;

typedef struct OaToken
{
	const char *compact;		/* as the client sent it */
	int			signed_length;	/* the first two segments and their dot */
	OaTokenSegment header_segment;	/* as the client sent it */
	OaTokenJson header;
	OaTokenJson payload;
	unsigned char *signature;
	int			signature_length;
	const char *alg;			/* five strings as libjwt decodes them, each */
	const char *kid;			/* NULL if it is not a string */
	const char *aud;
	const char *iss;
	const char *sub;

	TimestampTz now;			/* when we check it */
	TimestampTz expires_at;
	TimestampTz not_before;		/* the latest of iat, auth_time and nbf */
	OaSigningKey *key;			/* the signing key that it names */
	const char *detail;			/* why we refuse it: a constant sentence */
} OaToken;

extern bool oa_open_token(OaToken *token, const char *compact, int length);
extern bool oa_refuse_token(OaToken *token, const char *detail);
extern const OaJsonNode *oa_token_header(const OaToken *token,
										 const char *name);
extern const OaJsonNode *oa_token_claim(const OaToken *token,
										const char *name);
extern const OaJsonNode *oa_firebase_claim(const OaToken *token,
										   const char *name);
extern bool oa_token_time(const OaToken *token, const OaJsonNode *node,
						  TimestampTz *time);

/* token_decoder.c: the claims as libjwt decodes them */
extern bool oa_decode_token(OaToken *token);

/* token_rules.c: the rules of Firebase ID tokens */
extern bool oa_check_token(OaToken *token);
extern bool oa_check_signature(OaToken *token);
extern TimestampTz oa_skew(void);

#endif							/* OA_TOKEN_H */
