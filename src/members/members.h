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
 * SQL: has an invitation been made by the application, or by somebody who still is a
 * member?
 */
#define OA_MAKER_IS_MEMBER(invitation) \
	"(" invitation ".created_by IS NULL OR EXISTS (" \
	"SELECT FROM overten_auth.members m WHERE m.org_id = " invitation ".org_id " \
	"AND m.uid = " invitation ".created_by AND m.erased_at IS NULL))"

/* locked_org.c */
extern bool oa_is_member(text *org_id, text *uid);

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
							   const OaKeyGrant *grant,
							   const OaRequestKey *request, OaOrgKey *result);

/* own_key.c: what members may do with a key of their org */
extern OaProblem oa_change_own_key(text *uid, text *org_id, text *key_id,
								   const OaKeyChange *change, text *name,
								   const OaKeyDetails *details,
								   OaFault *fault);
extern OaProblem oa_rotate_own_key(text *uid, text *org_id, text *key_id,
								   int64 overlap, const OaRequestKey *request,
								   OaOrgKey *result, OaRotation *rotation);

/* own_org.c: what members may change about their org */
extern OaProblem oa_rename_own_org(text *uid, text *org_id, text *name);
extern OaProblem oa_rotate_own_secret(text *uid, text *org_id, int64 grace,
									  text **secret, TimestampTz *until);
extern OaProblem oa_close_org(text *uid, text *org_id, text *reason,
							  bool *changed);

/* members.c */
typedef struct OaMember
{
	text	   *uid;
	TimestampTz added_at;
	int64		active_keys;	/* that the person has minted */
} OaMember;

typedef void (*OaMemberCallback) (const OaMember *member, void *argument);

extern void oa_list_members(text *org_id, OaMemberCallback callback,
							void *argument);
extern bool oa_insert_member(text *org_id, text *uid);
extern OaProblem oa_remove_member(text *uid, text *org_id, text *member);

/* invitations.c, acceptance.c: joining an org by a one-time code */
#define OA_INVITATION_NOTE_MAX	100 /* characters, after trimming */
#define OA_INVITATION_DAYS		7	/* valid for, unless said otherwise */
#define OA_INVITATION_DAYS_MAX	30
#define OA_CODE_PREFIX			"invite_"
#define OA_CODE_LEN				39	/* with 32 random characters, 190 bits */

typedef struct OaInvitation
{
	text	   *invitation_id;
	text	   *note;			/* or NULL */
	text	   *created_by;		/* uid; NULL: the application */
	TimestampTz created_at;
	TimestampTz expires_at;
	text	   *code;			/* of a new one, and then the only copy */
} OaInvitation;

typedef void (*OaInvitationCallback) (const OaInvitation *invitation,
									  void *argument);

extern bytea *oa_code_digest(const char *code, int length);
extern OaProblem oa_invite(text *uid, text *org_id, text *note, int64 seconds,
						   OaInvitation *invitation);
extern void oa_list_invitations(text *org_id, OaInvitationCallback callback,
								void *argument);
extern bool oa_withdraw_invitation(text *uid, text *org_id,
								   text *invitation_id);
extern uint64 oa_withdraw_invitations_of(text *uid, text *org_id,
										 text *member);
extern OaProblem oa_accept_invitation(text *uid, bytea *digest, text **org_id);

/* choices.c: what customers may choose; the description may be NULL */
typedef void (*OaChoiceCallback) (text *name, text *description,
								  void *argument);

extern void oa_list_tier_choices(OaChoiceCallback callback, void *argument);
extern void oa_list_scope_choices(OaChoiceCallback callback, void *argument);

/* repeated_request.c: the requests that clients may repeat */
#define OA_REQUESTS_KEPT	USECS_PER_DAY

extern void oa_remove_old_requests(void);

#endif							/* OA_MEMBERS_H */
