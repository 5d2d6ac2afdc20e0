/*
 * orgs.c
 *		Orgs and their tiers, as the host application manages them.
 *
 * A change that has no effect writes nothing, because writing an org's row
 * removes all its keys from the verification caches.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

#include "orgs/orgs.h"
#include "sealing/sealing.h"
#include "server/server.h"

PG_FUNCTION_INFO_V1(overten_create_org);
PG_FUNCTION_INFO_V1(overten_set_tier);
PG_FUNCTION_INFO_V1(overten_set_api_access);
PG_FUNCTION_INFO_V1(overten_rename_org);

/* Raise 42704 because there is no such org. */
void
oa_org_missing(text *org_id)
{
	char	   *id = oa_id_for_message(org_id, "org_");

	ereport(ERROR,
			(errcode(ERRCODE_UNDEFINED_OBJECT),
			 id != NULL ? errmsg("org \"%s\" does not exist", id) :
			 errmsg("there is no such org")));
}

/*
 * Raise 42704 unless the org exists.  Must be called between
 * oa_statements_begin() and _end().
 *
 * A row that refers to the org can be inserted while the org is being erased:
 * its foreign key waits for that, and is satisfied then.  So call this after
 * such an INSERT.
 */
void
oa_require_org(text *org_id)
{
	static OaStatement find = {
		.table = "orgs",
		.latest = true,
		.text = "SELECT 1 FROM overten_auth.orgs "
		"WHERE org_id = $1 AND erased_at IS NULL",
		.argtypes = {TEXTOID},
	};
	Datum		values[] = {PointerGetDatum(org_id)};

	if (oa_statement_run(&find, values, NULL) == 0)
		oa_org_missing(org_id);
}

/*
 * Raise 55000 because the org is closed, which is for good.
 */
void
oa_org_closed(void)
{
	ereport(ERROR,
			(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
			 errmsg("the org is closed"),
			 errhint("A closed org cannot be opened again. Create a new one.")));
}

/*
 * Raise 42704 unless the org exists, and 55000 if it is closed.  It stays open
 * until the end of the transaction: the lock is that of a foreign key, which
 * closing waits for.  Must be called between oa_statements_begin() and _end().
 */
void
oa_require_open_org(text *org_id)
{
	static OaStatement find = {
		.table = "orgs",
		.text = "SELECT closed_at IS NULL FROM overten_auth.orgs "
		"WHERE org_id = $1 AND erased_at IS NULL FOR KEY SHARE",
		.argtypes = {TEXTOID},
	};
	Datum		values[] = {PointerGetDatum(org_id)};

	if (oa_statement_run(&find, values, NULL) == 0)
		oa_org_missing(org_id);
	if (!oa_statement_bool(0, 1))
		oa_org_closed();
}

/*
 * Lock an org's row against everything that refers to it: members, keys that
 * are being minted, invitations that are being accepted.  Raises 42704 if the
 * org does not exist.  Must be called between oa_statements_begin() and
 * _end().
 */
void
oa_lock_org_row(text *org_id)
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
 * Does this tier exist?  If so, set *self_service to whether customers may
 * choose it themselves.  Must be called between oa_statements_begin() and
 * _end().
 */
bool
oa_find_tier(text *tier, bool *self_service)
{
	static OaStatement find = {
		.table = "tiers",
		.text = "SELECT self_service FROM overten_auth.tiers "
		"WHERE name = $1",
		.argtypes = {TEXTOID},
	};
	Datum		values[] = {PointerGetDatum(tier)};

	if (oa_statement_run(&find, values, NULL) == 0)
		return false;
	*self_service = oa_statement_bool(0, 1);
	return true;
}

/*
 * Raise 22023 unless the tier exists.  Must be called between
 * oa_statements_begin() and _end().  The message does not repeat the text: a
 * caller who mixed up arguments may have passed a secret.
 */
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
 * Create an org, and return its id. "uid" is the person who creates it, or
 * NULL.  With sign_up, its API access is on from the start.  The caller has
 * checked the name and the tier.
 */
text	   *
oa_create_org(text *name, text *tier, text *uid, bool sign_up,
			  text *webhook_secret, TimestampTz *created_at)
{
	static OaStatement insert = {
		.table = "orgs",
		.text = "INSERT INTO overten_auth.orgs (org_id, name, tier, "
		"created_at, webhook_secret_sealed, api_access_since, created_by) "
		"VALUES ($1, $2, $3, $4, $5, $6, $7)",
		.argtypes = {TEXTOID, TEXTOID, TEXTOID, TIMESTAMPTZOID, BYTEAOID,
		TIMESTAMPTZOID, TEXTOID},
	};
	text	   *org_id = oa_make_org_id();
	TimestampTz now = GetCurrentTimestamp();
	Datum		values[] = {
		PointerGetDatum(org_id),
		PointerGetDatum(name),
		PointerGetDatum(tier),
		TimestampTzGetDatum(now),
		PointerGetDatum(oa_seal(org_id, webhook_secret)),
		TimestampTzGetDatum(now),
		PointerGetDatum(uid),
	};
	const bool	nulls[lengthof(values)] = {
		[5] = !sign_up,
		[6] = (uid == NULL),
	};
	int			level;

	level = oa_statements_begin();
	oa_statement_run(&insert, values, nulls);
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
		"SET api_access_since = clock_timestamp() "
		"WHERE org_id = $1",
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
 * 		returns org_id, name, tier, created_at
 *
 * Errors: 22004, 22023 (also for a tier that does not exist).
 */
Datum
overten_create_org(PG_FUNCTION_ARGS)
{
	static const Oid types[] = {TEXTOID, TEXTOID, TEXTOID, TIMESTAMPTZOID};
	text	   *name = oa_name_argument(fcinfo, 0, "org name",
										OA_ORG_NAME_MAX);
	text	   *tier = oa_text_argument(fcinfo, 1, "tier");
	Datum		values[lengthof(types)];
	TimestampTz created_at;
	int			level;

	level = oa_statements_begin();
	require_tier(tier);
	oa_statements_end(level);

	values[0] = PointerGetDatum(oa_create_org(name, tier, NULL, false,
											  oa_make_webhook_secret(),
											  &created_at));
	values[1] = PointerGetDatum(name);
	values[2] = PointerGetDatum(tier);
	values[3] = TimestampTzGetDatum(created_at);
	return oa_result_row(fcinfo, types, lengthof(types), values, NULL);
}

/*
 * overten_set_tier(org_id text, tier text) returns boolean
 *
 * Returns true if this call has changed the tier.  Errors: 22004, 22023 for a
 * tier that does not exist, 42704 for an org that does not exist.
 */
Datum
overten_set_tier(PG_FUNCTION_ARGS)
{
	static OaStatement update = {
		.table = "orgs",
		.text = "UPDATE overten_auth.orgs SET tier = $2 "
		"WHERE org_id = $1 AND tier <> $2 AND erased_at IS NULL",
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
 * changed.  Returns true if this call has changed anything.  Errors: 22004,
 * 42704, 55000 access is allowed to a closed org.
 */
Datum
overten_set_api_access(PG_FUNCTION_ARGS)
{
	static OaStatement allow = {
		.table = "orgs",
		.text = "UPDATE overten_auth.orgs SET suspended_at = NULL, "
		"api_access_since = COALESCE(api_access_since, clock_timestamp()) "
		"WHERE org_id = $1 AND erased_at IS NULL "
		"AND (suspended_at IS NOT NULL OR api_access_since IS NULL)",
		.argtypes = {TEXTOID},
	};
	static OaStatement suspend = {
		.table = "orgs",
		.text = "UPDATE overten_auth.orgs "
		"SET suspended_at = clock_timestamp() "
		"WHERE org_id = $1 AND suspended_at IS NULL AND erased_at IS NULL",
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
	if (allowed)
		oa_require_open_org(org_id);
	changed = oa_statement_run(allowed ? &allow : &suspend, values, NULL) > 0;
	if (changed)
		oa_audit(allowed ? "allow_api_access" : "suspend_api_access",
				 org_id, NULL, NULL, NULL);
	else
		oa_require_org(org_id);
	oa_statements_end(level);
	PG_RETURN_BOOL(changed);
}

/*
 * Rename an org on behalf of a person, or of nobody.  The caller has checked
 * the name.  Returns false if the org has this name already, or does not
 * exist.  Must be called between oa_statements_begin() and _end().
 */
bool
oa_rename_org(text *org_id, text *name, text *uid)
{
	static OaStatement update = {
		.table = "orgs",
		.text = "UPDATE overten_auth.orgs SET name = $2 "
		"WHERE org_id = $1 AND name <> $2 AND erased_at IS NULL",
		.argtypes = {TEXTOID, TEXTOID},
	};
	Datum		values[] = {PointerGetDatum(org_id), PointerGetDatum(name)};

	if (oa_statement_run(&update, values, NULL) == 0)
		return false;
	oa_audit("rename_org", org_id, NULL, uid, name);
	return true;
}

/*
 * overten_rename_org(org_id text, name text) returns boolean
 *
 * Returns true if this call has changed the name.  Errors: 22004, 22023, 42704.
 */
Datum
overten_rename_org(PG_FUNCTION_ARGS)
{
	text	   *org_id = oa_text_argument(fcinfo, 0, "org_id");
	text	   *name = oa_name_argument(fcinfo, 1, "org name",
										OA_ORG_NAME_MAX);
	bool		changed;
	int			level;

	level = oa_statements_begin();
	changed = oa_rename_org(org_id, name, NULL);
	if (!changed)
		oa_require_org(org_id);
	oa_statements_end(level);
	PG_RETURN_BOOL(changed);
}
