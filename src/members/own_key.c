/*
 * own_key.c
 *		What members may do with the keys of their org, beside minting and
 *		revoking them.
 *
 * As in signup.c, we return a problem instead of raising, and then nothing was
 * written.  The org is locked first, so that limits are counted exactly.
 */
#include "postgres.h"

#include "members/locked_org.h"
#include "server/server.h"

/* The problem that the result of a change is over HTTP. */
static OaProblem
problem_of_change(OaKeyChanged result)
{
	switch (result)
	{
		case OA_KEY_CHANGED:
		case OA_KEY_UNCHANGED:
			return OA_NO_PROBLEM;
		case OA_KEY_MISSING:
			return OA_KEY_NOT_FOUND;
		case OA_KEY_WAS_REVOKED:
			return OA_KEY_REVOKED;
		case OA_KEY_NOT_YOURS_TO_ENABLE:
			return OA_DISABLED_BY_OPERATOR;
		case OA_KEY_HAS_NO_ROOM:
			return OA_KEY_LIMIT_REACHED;
		case OA_KEY_CHANGE_REFUSED:
			break;
	}
	return OA_INVALID_PARAMETER;
}

/*
 * Change a key on behalf of a member of its org; see oa_change_key().  The name,
 * unless it is NULL, and the details, as far as they are given, change with it.
 * The caller has checked those.
 */
OaProblem
oa_change_own_key(text *uid, text *org_id, text *key_id,
				  const OaKeyChange *change, text *name,
				  const OaKeyDetails *details, OaFault *fault)
{
	OaLockedOrg org;
	OaProblem	problem;
	int			level = oa_statements_begin();
	bool		is_own = oa_lock_members_org(org_id, uid, &org);
	bool		changed;

	oa_statements_end(level);
	if (!is_own)
		return OA_ORGANIZATION_NOT_FOUND;

	problem = problem_of_change(oa_change_key(org_id, key_id, uid, change,
											  fault));
	if (problem != OA_NO_PROBLEM)
		return problem;
	if (name != NULL)
		(void) oa_rename_key(org_id, key_id, uid, name, &changed);
	if (details->has_description || details->has_metadata)
		(void) oa_set_key_details(org_id, key_id, uid, details, &changed);
	return OA_NO_PROBLEM;
}

/* The problem that the outcome of a rotation is over HTTP. */
static OaProblem
problem_of_rotation(OaRotationOutcome outcome)
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
		case OA_ROTATION_NO_ROOM:
			return OA_KEY_LIMIT_REACHED;
		case OA_ALREADY_ROTATED:
			break;
	}
	return OA_ROTATION_NOT_OVER;
}

/*
 * Repeat a rotation: revoke the key whose secret was lost, and mint another one
 * in its place.  The limit of active keys may be exceeded by one, as by the
 * rotation itself.
 */
static OaProblem
repeat_rotation(text *uid, const OaRequestKey *request, const OaDone *done,
				OaOrgKey *result, OaRotation *rotation)
{
	OaProblem	problem = oa_begin_repeat(uid, done, 2, result);

	if (problem == OA_NO_PROBLEM)
	{
		oa_replace_lost_key(done->org_id, done->key_id, uid, rotation);
		oa_note_repeat(request, uid, rotation->key.key_id);
	}
	return problem;
}

/*
 * Rotate a key on behalf of a member of its org; see oa_rotate_key(). "request"
 * is NULL if the request has no name.  For OA_ROTATION_NOT_OVER,
 * rotation->good_relative is the id of the other key; for OA_ALREADY_DONE,
 * *result has the ids.
 */
OaProblem
oa_rotate_own_key(text *uid, text *org_id, text *key_id, int64 overlap,
				  const OaRequestKey *request, OaOrgKey *result,
				  OaRotation *rotation)
{
	OaRepetition repetition;
	OaProblem	problem;
	OaLockedOrg org;
	OaDone		done;

	problem = oa_begin_request(request, uid, org_id, &org, &repetition, &done);
	if (problem != OA_NO_PROBLEM)
		return problem;
	if (repetition == OA_REPEATED)
		problem = repeat_rotation(uid, request, &done, result, rotation);
	else
		problem = problem_of_rotation(oa_rotate_key(org_id, key_id, uid,
													overlap, rotation));
	if (problem != OA_NO_PROBLEM)
		return problem;

	oa_describe_org(org_id, &org, result);
	result->key = rotation->key;
	if (repetition == OA_FIRST_REQUEST && request != NULL)
		oa_note_done(request, uid, result);
	return OA_NO_PROBLEM;
}
