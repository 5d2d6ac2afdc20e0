/*
 * tokens.h
 *		Verifying Firebase ID tokens.
 */
#ifndef OA_TOKENS_H
#define OA_TOKENS_H

#include "overten_auth.h"
#include "access/htup.h"

/* firebase_token.c: whom a token is about */
typedef enum OaTokenStatus
{
	OA_TOKEN_GOOD,
	OA_TOKEN_INVALID,			/* whatever the reason; the detail names it */
	OA_TOKEN_EXPIRED,			/* and nothing else is wrong with it */
	OA_TOKEN_UNAVAILABLE		/* nothing can be verified; see the hint */
} OaTokenStatus;

typedef struct OaIdentity
{
	HeapTupleHeader row;		/* of a good token: the function's result */
	text	   *uid;			/* in it */
	const char *detail;			/* of another: as in OaToken */
	const char *hint;
} OaIdentity;

extern OaTokenStatus oa_verify_token(const char *token, int length,
									 OaIdentity *identity);

#endif							/* OA_TOKENS_H */
