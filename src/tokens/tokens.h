/*
 * tokens.h
 *		Verifying Firebase ID tokens.
 */
#ifndef OA_TOKENS_H
#define OA_TOKENS_H

#include "overten_auth.h"
#include "access/htup.h"
#include "server/server.h"

/* firebase_token.c: verifying a token */
typedef enum OaTokenStatus
{
	OA_TOKEN_GOOD,
	OA_TOKEN_INVALID,			/* for any reason; the detail names it */
	OA_TOKEN_EXPIRED,			/* but good otherwise */
	OA_TOKEN_UNAVAILABLE		/* no token can be verified; see the hint */
} OaTokenStatus;

typedef struct OaIdentity
{
	HeapTupleHeader row;		/* of a good token: the function's result */
	text	   *uid;			/* of a good token: points into row */
	bool		is_anonymous;	/* of a good token: nobody has signed in */
	bool		has_verified_email;
	const char *detail;			/* of any other token: see OaToken */
	const char *hint;
} OaIdentity;

extern OaTokenStatus oa_verify_token(const char *token, int length,
									 OaIdentity *identity);

/* token_rules.c: who can sign up */
extern OaProblem oa_check_signup_rules(const OaIdentity *identity);

#endif							/* OA_TOKENS_H */
