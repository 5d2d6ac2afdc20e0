/*
 * own_key.c
 *		What members may do with the keys of their org, beside minting and
 *		revoking them.
 */
#include "postgres.h"

#include "members/locked_org.h"
#include "server/server.h"

/* The problem that an outcome is over HTTP. */
static OaProblem
problem_of(OaRotationOutcome outcome)
{
	switch (outcome)
	{
		case OA_ROTATED:
			return OA_NO_PROBLEM;
		case OA_ROTATION_NO_SUCH_KEY:
			return OA_KEY_NOT_FOUND;
		case OA_ROTATION_REVOKED:
		case OA_ROTATION_EXPIRED:
		case OA_ROTATION_DISABLED:
			return OA_KEY_NOT_ACTIVE;
		case OA_ROTATION_NO_PREFIX:
			return OA_SERVICE_UNAVAILABLE;
		case OA_ALREADY_ROTATED:
			break;
	}
	return OA_ROTATION_NOT_OVER;
}

/*
 * Rotate a key on behalf of a member of its org; see oa_rotate_key().  The limit
 * of active keys may be exceeded by one, so that an org that has all its keys
 * can still rotate them.  For OA_ROTATION_NOT_OVER, rotation->good_relative is
 * the id of the other key.
 */
OaProblem
oa_rotate_own_key(text *uid, text *org_id, text *key_id, int64 overlap,
				  OaRotation *rotation)
{
	OaProblem	problem = OA_NO_PROBLEM;
	OaLockedOrg org;
	int			level = oa_statements_begin();

	if (!oa_lock_members_org(org_id, uid, &org))
		problem = OA_ORGANIZATION_NOT_FOUND;
	else if (!org.signed_up || org.suspended)
		problem = OA_API_ACCESS_DISABLED;
	else if (!oa_org_has_key(org_id, key_id))
		problem = OA_KEY_NOT_FOUND;
	else if (oa_has_all_keys(org_id, overlap > 0 ? 1 : 2))
		problem = OA_KEY_LIMIT_REACHED;
	oa_statements_end(level);

	return problem != OA_NO_PROBLEM ? problem :
		problem_of(oa_rotate_key(org_id, key_id, uid, overlap, rotation));
}
