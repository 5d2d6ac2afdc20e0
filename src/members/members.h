/*
 * members.h
 *		What the members of an org may do, and signing up.
 */
#ifndef OA_MEMBERS_H
#define OA_MEMBERS_H

#include "overten_auth.h"
#include "keys/keys.h"
#include "server/server.h"

/* signup.c: what members of an org may do */
typedef struct OaSignup
{
	text	   *uid;
	text	   *org_name;		/* of a new org, or NULL */
	text	   *existing_org_id;	/* or this one, or NULL */
	text	   *tier;			/* NULL: "free", or what the org has */
	text	   *key_name;
} OaSignup;

typedef struct OaOrgKey
{
	text	   *org_id;
	text	   *org_name;
	text	   *tier;
	text	   *webhook_secret; /* NULL if it cannot be unsealed */
	OaMintedKey key;
} OaOrgKey;

extern OaProblem oa_signup(const OaSignup *signup, OaOrgKey *result,
						   OaFault *fault);
extern OaProblem oa_create_key(text *uid, text *org_id, text *name,
							   OaOrgKey *result);
extern bool oa_is_member(text *org_id, text *uid);

#endif							/* OA_MEMBERS_H */
