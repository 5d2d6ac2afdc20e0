/*
 * orgs.c
 *		Orgs, their tiers and their members: the host application's side.
 *
 * A change that changes nothing writes nothing: writing an org's row empties
 * the verification caches of all sessions.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "catalog/pg_type.h"
#include "funcapi.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

#include "overten_auth.h"

PG_FUNCTION_INFO_V1(overten_create_org);
PG_FUNCTION_INFO_V1(overten_set_tier);
PG_FUNCTION_INFO_V1(overten_set_api_access);
PG_FUNCTION_INFO_V1(overten_add_member);
PG_FUNCTION_INFO_V1(overten_remove_member);
PG_FUNCTION_INFO_V1(overten_list_orgs);

/* Report that there is no such org. */
void
oa_org_missing(void)
{
	ereport(ERROR,
			(errcode(ERRCODE_UNDEFINED_OBJECT),
			 errmsg("there is no such org")));
}

/* Raise unless there is such an org.  Called while statements run. */
void
oa_require_org(text *org_id)
{
	static OaStatement find = {
		.table = "orgs",
		.text = "SELECT 1 FROM overten_auth.orgs "
		"WHERE org_id OPERATOR(pg_catalog.=) $1",
		.nargs = 1,
		.argtypes = {TEXTOID},
	};
	Datum		values[] = {PointerGetDatum(org_id)};

	if (oa_statement_run(&find, values, NULL) == 0)
		oa_org_missing();
}

/*
 * Is there such a tier?  If so, may customers choose it themselves?  Called
 * while statements run.
 */
bool
oa_find_tier(text *tier, bool *self_service)
{
	static OaStatement find = {
		.table = "tiers",
		.text = "SELECT self_service FROM overten_auth.tiers "
		"WHERE name OPERATOR(pg_catalog.=) $1",
		.nargs = 1,
		.argtypes = {TEXTOID},
	};
	Datum		values[] = {PointerGetDatum(tier)};

	if (oa_statement_run(&find, values, NULL) == 0)
		return false;
	*self_service = oa_statement_bool(0, 1);
	return true;
}

/* Raise 22023 unless there is such a tier.  Called while statements run. */
static void
require_tier(text *tier)
{
	bool		self_service;

	if (!oa_find_tier(tier, &self_service))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("there is no such tier"),
				 errhint("Tiers are the rows of overten_auth.tiers.")));
}

/*
 * Create an org and return its id.  With sign_up, its API access is on from
 * the start.  The caller has checked that name and tier are good.
 */
text	   *
oa_create_org(text *name, text *tier, text *uid, bool sign_up,
			  text *webhook_secret, TimestampTz *created_at)
{
	static OaStatement insert = {
		.table = "orgs",
		.text = "INSERT INTO overten_auth.orgs (org_id, name, tier, "
		"created_at, webhook_secret_sealed, api_access_since) "
		"VALUES ($1, $2, $3, $4, $5, $6)",
		.nargs = 6,
		.argtypes = {TEXTOID, TEXTOID, TEXTOID, TIMESTAMPTZOID, BYTEAOID,
		TIMESTAMPTZOID},
	};
	text	   *org_id = oa_make_id("org_");
	TimestampTz now = GetCurrentTimestamp();
	Datum		values[] = {
		PointerGetDatum(org_id),
		PointerGetDatum(name),
		PointerGetDatum(tier),
		TimestampTzGetDatum(now),
		PointerGetDatum(oa_seal(org_id, webhook_secret)),
		TimestampTzGetDatum(now),
	};
	int			level;

	level = oa_statements_begin();
	oa_statement_run(&insert, values, sign_up ? NULL : "     n");
	oa_audit("create_org", org_id, NULL, uid, tier);
	oa_statements_end(level);

	*created_at = now;
	return org_id;
}

/* Note that an org has signed up for API access. */
void
oa_sign_up_org(text *org_id, text *uid)
{
	static OaStatement update = {
		.table = "orgs",
		.text = "UPDATE overten_auth.orgs "
		"SET api_access_since = pg_catalog.clock_timestamp() "
		"WHERE org_id OPERATOR(pg_catalog.=) $1",
		.nargs = 1,
		.argtypes = {TEXTOID},
	};
	Datum		values[] = {PointerGetDatum(org_id)};
	int			level;

	level = oa_statements_begin();
	oa_statement_run(&update, values, NULL);
	oa_audit("allow_api_access", org_id, NULL, uid, NULL);
	oa_statements_end(level);
}

/*
 * overten_create_org(name text, tier text)
 *		returns org_id, name, tier, created_at
 *
 * Errors: 22004, 22023 (also for a tier that does not exist).
 */
Datum
overten_create_org(PG_FUNCTION_ARGS)
{
	text	   *name = oa_name_argument(fcinfo, 0, "org name",
										OA_ORG_NAME_MAX);
	text	   *tier = oa_text_argument(fcinfo, 1, "tier");
	TupleDesc	descriptor;
	Datum		values[4];
	bool		nulls[4] = {false};
	TimestampTz created_at;
	int			level;

	if (get_call_result_type(fcinfo, NULL, &descriptor) != TYPEFUNC_COMPOSITE ||
		descriptor->natts != lengthof(values))
		elog(ERROR, "unexpected result type of overten_create_org");

	level = oa_statements_begin();
	require_tier(tier);
	oa_statements_end(level);

	values[0] = PointerGetDatum(oa_create_org(name, tier, NULL, false,
											  oa_make_webhook_secret(),
											  &created_at));
	values[1] = PointerGetDatum(name);
	values[2] = PointerGetDatum(tier);
	values[3] = TimestampTzGetDatum(created_at);
	PG_RETURN_DATUM(HeapTupleGetDatum(heap_form_tuple(descriptor, values,
													  nulls)));
}

/*
 * overten_set_tier(org_id text, tier text) returns boolean
 *
 * True if this call changed it.  Errors: 22004, 22023 for a tier that does
 * not exist, 42704 for an org that does not.
 */
Datum
overten_set_tier(PG_FUNCTION_ARGS)
{
	static OaStatement update = {
		.table = "orgs",
		.text = "UPDATE overten_auth.orgs SET tier = $2 "
		"WHERE org_id OPERATOR(pg_catalog.=) $1 "
		"AND tier OPERATOR(pg_catalog.<>) $2",
		.nargs = 2,
		.argtypes = {TEXTOID, TEXTOID},
	};
	text	   *org_id = oa_text_argument(fcinfo, 0, "org_id");
	text	   *tier = oa_text_argument(fcinfo, 1, "tier");
	Datum		values[] = {PointerGetDatum(org_id), PointerGetDatum(tier)};
	bool		changed;
	int			level;

	level = oa_statements_begin();
	require_tier(tier);
	changed = oa_statement_run(&update, values, NULL) > 0;
	if (changed)
		oa_audit("set_tier", org_id, NULL, NULL, tier);
	else
		oa_require_org(org_id);
	oa_statements_end(level);
	PG_RETURN_BOOL(changed);
}

/*
 * overten_set_api_access(org_id text, allowed boolean) returns boolean
 *
 * False suspends the org: its keys are refused until access is allowed again.
 * True also signs up an org that has not signed up yet.  The keys are not
 * touched.  True if this call changed anything.  Errors: 22004, 42704.
 */
Datum
overten_set_api_access(PG_FUNCTION_ARGS)
{
	static OaStatement allow = {
		.table = "orgs",
		.text = "UPDATE overten_auth.orgs SET suspended_at = NULL, "
		"api_access_since = COALESCE(api_access_since, "
		"pg_catalog.clock_timestamp()) "
		"WHERE org_id OPERATOR(pg_catalog.=) $1 "
		"AND (suspended_at IS NOT NULL OR api_access_since IS NULL)",
		.nargs = 1,
		.argtypes = {TEXTOID},
	};
	static OaStatement suspend = {
		.table = "orgs",
		.text = "UPDATE overten_auth.orgs "
		"SET suspended_at = pg_catalog.clock_timestamp() "
		"WHERE org_id OPERATOR(pg_catalog.=) $1 AND suspended_at IS NULL",
		.nargs = 1,
		.argtypes = {TEXTOID},
	};
	text	   *org_id = oa_text_argument(fcinfo, 0, "org_id");
	Datum		values[] = {PointerGetDatum(org_id)};
	bool		allowed;
	bool		changed;
	int			level;

	oa_require_argument(fcinfo, 1, "allowed");
	allowed = PG_GETARG_BOOL(1);

	level = oa_statements_begin();
	changed = oa_statement_run(allowed ? &allow : &suspend, values, NULL) > 0;
	if (changed)
		oa_audit(allowed ? "allow_api_access" : "suspend_api_access",
				 org_id, NULL, NULL, NULL);
	else
		oa_require_org(org_id);
	oa_statements_end(level);
	PG_RETURN_BOOL(changed);
}

/* Add or remove a member; true if that changed anything. */
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
 * Lock an org, so that nobody else changes who its members are, and wait for
 * keys that are being minted.  Raises 42704 unless there is such an org.
 */
static void
lock_org(text *org_id)
{
	static OaStatement lock = {
		.table = "orgs",
		.text = "SELECT 1 FROM overten_auth.orgs "
		"WHERE org_id OPERATOR(pg_catalog.=) $1 FOR UPDATE",
		.nargs = 1,
		.argtypes = {TEXTOID},
	};
	Datum		values[] = {PointerGetDatum(org_id)};

	if (oa_statement_run(&lock, values, NULL) == 0)
		oa_org_missing();
}

/*
 * Raise 55000 if a locked org has no member, but keys that are accepted: over
 * HTTP nobody could see or revoke them.
 */
static void
require_member_for_keys(text *org_id)
{
	static OaStatement find = {
		.table = "orgs",
		.latest = true,
		.text = "SELECT 1 FROM overten_auth.orgs o "
		"WHERE o.org_id OPERATOR(pg_catalog.=) $1 "
		"AND o.suspended_at IS NULL "
		"AND NOT EXISTS (SELECT FROM overten_auth.members m "
		"WHERE m.org_id OPERATOR(pg_catalog.=) $1) "
		"AND EXISTS (SELECT FROM overten_auth.api_keys k "
		"WHERE k.org_id OPERATOR(pg_catalog.=) $1 AND k.revoked_at IS NULL)",
		.nargs = 1,
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
 * Makes a person a member, who may then manage the org's keys.  True if this
 * call did it, false if the person was one.  Errors: 22004, 22023, 42704.
 */
Datum
overten_add_member(PG_FUNCTION_ARGS)
{
	static OaStatement insert = {
		.table = "members",
		.text = "INSERT INTO overten_auth.members (org_id, uid) "
		"VALUES ($1, $2) ON CONFLICT DO NOTHING",
		.nargs = 2,
		.argtypes = {TEXTOID, TEXTOID},
	};
	text	   *org_id = oa_text_argument(fcinfo, 0, "org_id");
	text	   *uid = oa_uid_argument(fcinfo, 1);
	bool		added;
	int			level;

	level = oa_statements_begin();
	oa_require_org(org_id);
	added = change_membership(org_id, uid, &insert, "add_member");
	oa_statements_end(level);
	PG_RETURN_BOOL(added);
}

/*
 * overten_remove_member(org_id text, uid text) returns boolean
 *
 * True if this call did it, false if the person was none.  The keys that the
 * person minted stay.  Errors: 22004, 22023, 42704, 55000 the last member of an
 * org with active keys that is not suspended.
 */
Datum
overten_remove_member(PG_FUNCTION_ARGS)
{
	static OaStatement delete = {
		.table = "members",
		.text = "DELETE FROM overten_auth.members "
		"WHERE org_id OPERATOR(pg_catalog.=) $1 "
		"AND uid OPERATOR(pg_catalog.=) $2",
		.nargs = 2,
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

/*
 * overten_list_orgs(uid text) returns setof
 *		org_id, name, tier, created_at, api_access_since, suspended_at
 *
 * The orgs that a person is a member of, in the order of their creation.
 * Errors: 22004, 22023.
 */
Datum
overten_list_orgs(PG_FUNCTION_ARGS)
{
	static OaStatement list = {
		.table = "orgs",
		.text = "SELECT o.org_id, o.name, o.tier, o.created_at, "
		"o.api_access_since, o.suspended_at "
		"FROM overten_auth.members m JOIN overten_auth.orgs o "
		"ON o.org_id OPERATOR(pg_catalog.=) m.org_id "
		"WHERE m.uid OPERATOR(pg_catalog.=) $1 "
		"ORDER BY o.created_at, o.org_id",
		.nargs = 1,
		.argtypes = {TEXTOID},
	};
	text	   *uid = oa_uid_argument(fcinfo, 0);
	Datum		values[] = {PointerGetDatum(uid)};
	int			level;

	InitMaterializedSRF(fcinfo, 0);
	level = oa_statements_begin();
	oa_statement_run(&list, values, NULL);
	oa_statement_return_rows(fcinfo);
	oa_statements_end(level);
	return (Datum) 0;
}
