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

#include "keys/keys.h"
#include "orgs/orgs.h"
#include "server/server.h"

PG_FUNCTION_INFO_V1(overten_add_member);
PG_FUNCTION_INFO_V1(overten_remove_member);

/* Add or remove a member.  Returns true if that changed anything. */
static bool
change_membership(text *org_id, text *uid, OaStatement *statement,
				  const char *action)
{
	Datum		values[] = {PointerGetDatum(org_id), PointerGetDatum(uid)};
	bool		changed = oa_statement_run(statement, values, NULL) > 0;

	if (changed)
		oa_audit(action, org_id, NULL, NULL, uid);
	return changed;
}

/*
 * Lock an org, so that nobody else changes its members, and wait for keys that
 * are being minted.  Raises 42704 if the org does not exist.
 */
static void
lock_org(text *org_id)
{
	static OaStatement lock = {
		.table = "orgs",
		.text = "SELECT 1 FROM overten_auth.orgs "
		"WHERE org_id = $1 AND erased_at IS NULL FOR UPDATE",
		.argtypes = {TEXTOID},
	};
	Datum		values[] = {PointerGetDatum(org_id)};

	if (oa_statement_run(&lock, values, NULL) == 0)
		oa_org_missing(org_id);
}

/*
 * Raise 55000 if a locked org has keys that are accepted, but no members:
 * nobody could list or revoke them over HTTP.
 */
static void
require_member_for_keys(text *org_id)
{
	static OaStatement find = {
		.table = "orgs",
		.latest = true,
		.text = "SELECT 1 FROM overten_auth.orgs o "
		"WHERE o.org_id = $1 AND o.suspended_at IS NULL "
		"AND NOT EXISTS (SELECT FROM overten_auth.members m "
		"WHERE m.org_id = $1 AND m.erased_at IS NULL) AND EXISTS (SELECT FROM overten_auth.api_keys k "
		"WHERE k.org_id = $1 AND " OA_KEY_IS_ACTIVE("k") ")",
		.argtypes = {TEXTOID},
	};
	Datum		values[] = {PointerGetDatum(org_id)};

	if (oa_statement_run(&find, values, NULL) > 0)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("the last member of an org with active keys cannot be removed"),
				 errdetail("Nobody could list or revoke the keys over HTTP."),
				 errhint("Add another member first, revoke the keys with overten_revoke_all(), or suspend the org with overten_set_api_access().")));
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
	static OaStatement insert = {
		.table = "members",
		.text = "INSERT INTO overten_auth.members (org_id, uid) "
		"VALUES ($1, $2) ON CONFLICT DO NOTHING",
		.argtypes = {TEXTOID, TEXTOID},
	};
	text	   *org_id = oa_text_argument(fcinfo, 0, "org_id");
	text	   *uid = oa_uid_argument(fcinfo, 1);
	bool		added;
	int			level;

	level = oa_statements_begin();
	oa_require_org(org_id);
	added = change_membership(org_id, uid, &insert, "add_member");
	oa_require_org(org_id);
	oa_statements_end(level);
	PG_RETURN_BOOL(added);
}

/*
 * overten_remove_member(org_id text, uid text) returns boolean
 *
 * Returns true if this call removed the member, and false if the person was
 * not a member.  The keys that the person minted stay.  Errors: 22004, 22023,
 * 42704, 55000 the last member of an org with active keys that is not
 * suspended.
 */
Datum
overten_remove_member(PG_FUNCTION_ARGS)
{
	static OaStatement delete = {
		.table = "members",
		.text = "DELETE FROM overten_auth.members "
		"WHERE org_id = $1 AND uid = $2",
		.argtypes = {TEXTOID, TEXTOID},
	};
	text	   *org_id = oa_text_argument(fcinfo, 0, "org_id");
	text	   *uid = oa_uid_argument(fcinfo, 1);
	bool		removed;
	int			level;

	level = oa_statements_begin();
	lock_org(org_id);
	removed = change_membership(org_id, uid, &delete, "remove_member");
	if (removed)
		require_member_for_keys(org_id);
	oa_statements_end(level);
	PG_RETURN_BOOL(removed);
}
