/*
 * members.c
 *		Who may manage the keys of an org.
 *
 * Over HTTP, only its members can manage an org.  So the last member of an org
 * with active keys cannot be removed: somebody must be able to list and revoke
 * them.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

#include "keys/keys.h"
#include "members/locked_org.h"
#include "orgs/orgs.h"
#include "server/server.h"

PG_FUNCTION_INFO_V1(overten_add_member);
PG_FUNCTION_INFO_V1(overten_remove_member);
PG_FUNCTION_INFO_V1(overten_list_members);

/*
 * Is this person the only member of a locked org whose keys are accepted?
 * Without the person, nobody could list or revoke them over HTTP.
 */
static bool
is_last_with_keys(text *org_id, text *uid)
{
	static OaStatement find = {
		.table = "orgs",
		.latest = true,
		.text = "SELECT 1 FROM overten_auth.orgs o "
		"WHERE o.org_id = $1 AND o.suspended_at IS NULL "
		"AND EXISTS (SELECT FROM overten_auth.members m "
		"WHERE m.org_id = $1 AND m.uid = $2 AND m.erased_at IS NULL) "
		"AND NOT EXISTS (SELECT FROM overten_auth.members m "
		"WHERE m.org_id = $1 AND m.uid <> $2 AND m.erased_at IS NULL) "
		"AND EXISTS (SELECT FROM overten_auth.api_keys k "
		"WHERE k.org_id = $1 AND " OA_KEY_IS_ACTIVE("k") ")",
		.argtypes = {TEXTOID, TEXTOID},
	};
	Datum		values[] = {PointerGetDatum(org_id), PointerGetDatum(uid)};

	return oa_statement_run(&find, values, NULL) > 0;
}

/*
 * Insert the row of a member.  Returns false if the person is a member already.
 * Must be called between oa_statements_begin() and _end().
 */
bool
oa_insert_member(text *org_id, text *uid)
{
	static OaStatement insert = {
		.table = "members",
		.text = "INSERT INTO overten_auth.members (org_id, uid) "
		"VALUES ($1, $2) ON CONFLICT DO NOTHING",
		.argtypes = {TEXTOID, TEXTOID},
	};
	Datum		values[] = {PointerGetDatum(org_id), PointerGetDatum(uid)};

	return oa_statement_run(&insert, values, NULL) > 0;
}

/*
 * Remove a member on behalf of "uid", who must be a member, too, or of the
 * application, if it is NULL.  Members may remove themselves.  The keys that
 * the person has minted stay, and the invitations that nobody has accepted yet
 * are withdrawn.
 */
OaProblem
oa_remove_member(text *uid, text *org_id, text *member)
{
	static OaStatement delete = {
		.table = "members",
		.text = "DELETE FROM overten_auth.members "
		"WHERE org_id = $1 AND uid = $2",
		.argtypes = {TEXTOID, TEXTOID},
	};
	Datum		values[] = {PointerGetDatum(org_id), PointerGetDatum(member)};
	OaProblem	problem = OA_NO_PROBLEM;
	OaLockedOrg org;
	int			level = oa_statements_begin();

	if (!oa_lock_whole_org(org_id, uid, &org))
		problem = OA_ORGANIZATION_NOT_FOUND;
	else if (is_last_with_keys(org_id, member))
		problem = OA_LAST_MEMBER;
	else if (oa_statement_run(&delete, values, NULL) == 0)
		problem = OA_MEMBER_NOT_FOUND;
	else
	{
		oa_audit("remove_member", org_id, NULL, uid, member);
		oa_withdraw_invitations_of(uid, org_id, member);
	}
	oa_statements_end(level);
	return problem;
}

/*
 * List the members of an org.  Must be called between oa_statements_begin()
 * and _end().
 */
static int
run_list(text *org_id)
{
	static OaStatement list = {
		.table = "members",
		.text = "SELECT m.uid, m.added_at, COALESCE(k.active, 0) "
		"FROM overten_auth.members m LEFT JOIN ("
		"SELECT k.created_by, count(*) AS active "
		"FROM overten_auth.api_keys k "
		"WHERE k.org_id = $1 AND " OA_KEY_IS_ACTIVE("k") " "
		"GROUP BY k.created_by) k "
		"ON k.created_by = m.uid "
		"WHERE m.org_id = $1 ORDER BY m.added_at, m.uid",
		.argtypes = {TEXTOID},
	};
	Datum		values[] = {PointerGetDatum(org_id)};

	return (int) oa_statement_run(&list, values, NULL);
}

/*
 * Call back for each member of an org, in the order of their joining.  The
 * callback's argument is valid only during the call.
 */
void
oa_list_members(text *org_id, OaMemberCallback callback, void *argument)
{
	int			level = oa_statements_begin();
	int			count = run_list(org_id);

	for (int row = 0; row < count; row++)
	{
		OaMember	member;

		member.uid = DatumGetTextPP(oa_statement_result(row, 1, TEXTOID, NULL));
		member.added_at = oa_statement_time(row, 2, NULL);
		member.active_keys =
			oa_statement_int64(row, 3);
		callback(&member, argument);
	}
	oa_statements_end(level);
}

/* Tell how many keys of a former member live on, if there are any. */
static void
notice_keys(text *org_id, text *uid)
{
	int64		keys = oa_count_keys_of(uid, org_id);

	if (keys > 0)
		ereport(NOTICE,
				(errmsg_plural("%lld key that the person minted for the org remains active",
							   "%lld keys that the person minted for the org remain active",
							   (unsigned long) keys, (long long) keys),
				 errhint("overten_revoke_keys_of() revokes all keys that a person has minted.")));
}

/*
 * overten_add_member(org_id text, uid text) returns boolean
 *
 * Makes a person a member, who may then manage the org's keys.  Returns true
 * if this call did that, and false if the person already was a member.
 * Errors: 22004, 22023, 42704.
 */
Datum
overten_add_member(PG_FUNCTION_ARGS)
{
	text	   *org_id = oa_text_argument(fcinfo, 0, "org_id");
	text	   *uid = oa_uid_argument(fcinfo, 1);
	bool		added;
	int			level;

	level = oa_statements_begin();
	oa_require_org(org_id);
	added = oa_insert_member(org_id, uid);
	if (added)
		oa_audit("add_member", org_id, NULL, NULL, uid);
	oa_require_org(org_id);
	oa_statements_end(level);
	PG_RETURN_BOOL(added);
}

/*
 * overten_remove_member(org_id text, uid text) returns boolean
 *
 * Returns true if this call removed the member, and false if the person was
 * not a member.  The keys that the person minted stay, and a NOTICE counts the
 * active ones.  Errors: 22004, 22023, 42704, 55000 the last member of an org
 * with active keys that is not suspended.
 */
Datum
overten_remove_member(PG_FUNCTION_ARGS)
{
	text	   *org_id = oa_text_argument(fcinfo, 0, "org_id");
	text	   *uid = oa_uid_argument(fcinfo, 1);
	OaProblem	problem = oa_remove_member(NULL, org_id, uid);

	if (problem == OA_ORGANIZATION_NOT_FOUND)
		oa_org_missing(org_id);
	if (problem == OA_LAST_MEMBER)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("the last member of org \"%s\" cannot be removed",
						text_to_cstring(org_id)),
				 errdetail("The org has active keys, and nobody could list or revoke them over HTTP."),
				 errhint("Add another member first, revoke the keys with overten_revoke_all(), or suspend the org with overten_set_api_access().")));
	if (problem == OA_NO_PROBLEM)
	{
		int			level = oa_statements_begin();

		notice_keys(org_id, uid);
		oa_statements_end(level);
	}
	PG_RETURN_BOOL(problem == OA_NO_PROBLEM);
}

/*
 * overten_list_members(org_id text) returns setof uid, added_at, active_keys
 *
 * Returns the members of an org, in the order of their joining, and how many
 * active keys each of them has minted.  Errors: 22004, 42704.
 */
Datum
overten_list_members(PG_FUNCTION_ARGS)
{
	text	   *org_id = oa_text_argument(fcinfo, 0, "org_id");
	int			level;

	oa_begin_set(fcinfo);
	level = oa_statements_begin();
	if (run_list(org_id) == 0)
		oa_require_org(org_id);
	else
		oa_statement_return_rows(fcinfo);
	oa_statements_end(level);
	return (Datum) 0;
}
