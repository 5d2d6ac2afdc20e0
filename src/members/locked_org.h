/*
 * locked_org.h
 *		An org that is locked for one of its members, for the files of this
 *		directory.
 */
#ifndef OA_LOCKED_ORG_H
#define OA_LOCKED_ORG_H

#include "members/members.h"

/* locked_org.c */
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
extern bool oa_lock_whole_org(text *org_id, text *uid, OaLockedOrg *org);

#endif							/* OA_LOCKED_ORG_H */
