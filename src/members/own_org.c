/*
 * own_org.c
 *		What members may change about their org: its name, its webhook
 *		secret, and whether it goes on.
 *
 * As in signup.c, we check every condition before we write, and return a
 * problem instead of raising.  A closed org stays as it is: its members can
 * only read.
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/pg_type.h"
#include "utils/timestamp.h"

#include "keys/keys.h"
#include "members/locked_org.h"
#include "orgs/orgs.h"
#include "server/server.h"
#include "webhooks/webhooks.h"

PG_FUNCTION_INFO_V1(overten_close_org);

/* Lock an org of a person.  May it be changed? */
static OaProblem
lock_open_org(text *org_id, text *uid)
{
	OaLockedOrg org;

	if (!oa_lock_members_org(org_id, uid, &org))
		return OA_ORGANIZATION_NOT_FOUND;
	return org.closed ? OA_ORGANIZATION_CLOSED : OA_NO_PROBLEM;
}

/* Rename an org on behalf of a member.  The caller has checked the name. */
OaProblem
oa_rename_own_org(text *uid, text *org_id, text *name)
{
	int			level = oa_statements_begin();
	OaProblem	problem = lock_open_org(org_id, uid);

	if (problem == OA_NO_PROBLEM)
		(void) oa_rename_org(org_id, name, uid);
	oa_statements_end(level);
	return problem;
}

/*
 * Give an org a new webhook secret on behalf of a member.  The old one also
 * signs for "grace" more seconds, until *until.
 */
OaProblem
oa_rotate_own_secret(text *uid, text *org_id, int64 grace, text **secret,
					 TimestampTz *until)
{
	int			level = oa_statements_begin();
	OaProblem	problem = lock_open_org(org_id, uid);

	oa_statements_end(level);
	if (problem != OA_NO_PROBLEM)
		return problem;

	*until = GetCurrentTimestamp() + grace * USECS_PER_SEC;
	*secret = oa_rotate_webhook_secret(org_id, uid, *until);
	return OA_NO_PROBLEM;
}

/* Mark a locked org as closed. */
static void
mark_closed(text *org_id)
{
	static OaStatement update = {
		.table = "orgs",
		.text = "UPDATE overten_auth.orgs o SET closed_at = c.now, "
		"suspended_at = COALESCE(o.suspended_at, c.now) "
		"FROM (SELECT clock_timestamp()) c (now) WHERE o.org_id = $1",
		.argtypes = {TEXTOID},
	};
	static OaStatement withdraw = {
		.table = "invitations",
		.text = "DELETE FROM overten_auth.invitations "
		"WHERE org_id = $1 AND accepted_at IS NULL",
		.argtypes = {TEXTOID},
	};
	Datum		values[] = {PointerGetDatum(org_id)};

	oa_statement_run(&update, values, NULL);
	oa_statement_run(&withdraw, values, NULL);
}

/*
 * Close an org for good: suspend it, revoke its keys, and withdraw its
 * invitations.  "uid" is the member who asks, or NULL; the reason may be NULL.
 * *changed says whether the org was open.  Like overten_revoke_all(), waits
 * for keys that are being minted, and raises 40001 if the transaction's
 * snapshot is too old to see one of them.
 */
OaProblem
oa_close_org(text *uid, text *org_id, text *reason, bool *changed)
{
	OaProblem	problem = OA_NO_PROBLEM;
	OaLockedOrg org;
	int			level = oa_statements_begin();

	*changed = false;
	if (!oa_lock_whole_org(org_id, uid, &org))
		problem = OA_ORGANIZATION_NOT_FOUND;
	else if (!org.closed)
	{
		oa_audit("close_org", org_id, NULL, uid, reason);
		(void) oa_revoke_all_keys(org_id, uid, reason);
		mark_closed(org_id);
		ForceSyncCommit();
		*changed = true;
	}
	oa_statements_end(level);
	return problem;
}

/*
 * overten_close_org(org_id text, reason text) returns boolean
 *
 * Returns true if this call closed the org, and false if it was closed before.
 * The reason may be NULL.  Errors: 22004, 22023, 42704, 40001.
 */
Datum
overten_close_org(PG_FUNCTION_ARGS)
{
	text	   *org_id = oa_text_argument(fcinfo, 0, "org_id");
	text	   *reason = oa_reason_argument(fcinfo, 1);
	bool		changed;

	if (oa_close_org(NULL, org_id, reason, &changed) != OA_NO_PROBLEM)
		oa_org_missing(org_id);
	PG_RETURN_BOOL(changed);
}
