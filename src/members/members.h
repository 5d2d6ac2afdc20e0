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
	text	   *org_name;		/* the new org's name, or NULL */
	text	   *existing_org_id;	/* the org to sign up, or NULL */
	text	   *tier;			/* NULL: "free", or the org's own tier */
	text	   *key_name;
} OaSignup;

typedef struct OaOrgKey
{
	text	   *org_id;
	text	   *org_name;
	text	   *tier;
	text	   *webhook_secret; /* NULL if it does not open */
	OaMintedKey key;
} OaOrgKey;

extern OaProblem oa_signup(const OaSignup *signup, OaOrgKey *result,
						   OaFault *fault);
extern OaProblem oa_create_key(text *uid, text *org_id, text *name,
							   OaOrgKey *result);
extern bool oa_is_member(text *org_id, text *uid);

#endif							/* OA_MEMBERS_H */
