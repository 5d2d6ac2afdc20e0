/*
 * members.h
 *		What the members of an org may do, and signing up.
 */
#ifndef OA_MEMBERS_H
#define OA_MEMBERS_H

#include "overten_auth.h"
#include "keys/keys.h"
#include "server/server.h"

/*
 * How a client names a request that it may repeat: the Idempotency-Key, and a
 * fingerprint of the request, both as digests.
 */
typedef struct OaRequestKey
{
	uint8		name[OA_DIGEST_LEN];
	uint8		fingerprint[OA_DIGEST_LEN];
} OaRequestKey;

/* signup.c: what members of an org may do */
typedef struct OaSignup
{
	text	   *uid;
	text	   *org_name;		/* the new org's name, or NULL */
	text	   *existing_org_id;	/* the org to sign up, or NULL */
	text	   *tier;			/* NULL: "free", or the org's own tier */
	text	   *key_name;
	const OaRequestKey *request;	/* NULL if the request has no name */
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
							   const OaRequestKey *request, OaOrgKey *result);

/* locked_org.c */
extern bool oa_is_member(text *org_id, text *uid);

/* repeated_request.c: the requests that clients may repeat */
#define OA_REQUESTS_KEPT	USECS_PER_DAY

extern void oa_remove_old_requests(void);

#endif							/* OA_MEMBERS_H */
