/*
 * locked_org.h
 *		An org that is locked for one of its members, and requests that are
 *		repeated, for the files of this directory.
 */
#ifndef OA_LOCKED_ORG_H
#define OA_LOCKED_ORG_H

#include "members/members.h"

/* locked_org.c: locking an org for one of its members */
typedef struct OaLockedOrg
{
	text	   *name;
	text	   *tier;
	bytea	   *webhook_secret_sealed;
	bool		signed_up;
	bool		suspended;
	bool		closed;
} OaLockedOrg;

extern bool oa_lock_members_org(text *org_id, text *uid, OaLockedOrg *org);
extern void oa_lock_hash(const char *table, uint32 hash);
extern void oa_lock_person(text *uid);
extern OaProblem oa_lock_org_with_access(text *org_id, text *uid,
										 OaLockedOrg *org);
extern bool oa_lock_whole_org(text *org_id, text *uid, OaLockedOrg *org);
extern void oa_describe_org(text *org_id, const OaLockedOrg *org,
							OaOrgKey *result);

/* repeated_request.c: answering a request that was answered before */
typedef enum OaRepetition
{
	OA_FIRST_REQUEST,			/* do it, and then call oa_note_done() */
	OA_REPEATED,				/* call oa_repeat() or oa_begin_repeat() */
	OA_ANOTHER_REQUEST			/* refuse it: the key was for another one */
} OaRepetition;

/* What the first request has done, and the repetitions since. */
typedef struct OaDone
{
	text	   *org_id;
	text	   *key_id;			/* the key that was minted last */
	bool		is_late;		/* not to be replaced any more */
} OaDone;

extern void oa_lock_request(const OaRequestKey *request, text *uid);
extern OaRepetition oa_find_done(const OaRequestKey *request, text *uid,
								 OaDone *done);
extern OaProblem oa_begin_request(const OaRequestKey *request, text *uid,
								  text *org_id, OaLockedOrg *org,
								  OaRepetition *repetition, OaDone *done);
extern void oa_note_done(const OaRequestKey *request, text *uid,
						 const OaOrgKey *result);
extern OaProblem oa_begin_repeat(text *uid, const OaDone *done, int replaced,
								 OaOrgKey *result);
extern void oa_note_repeat(const OaRequestKey *request, text *uid,
						   text *key_id);
extern OaProblem oa_repeat(const OaRequestKey *request, text *uid,
						   const OaDone *done, text *key_name,
						   const OaKeyGrant *grant, OaOrgKey *result);

#endif							/* OA_LOCKED_ORG_H */
