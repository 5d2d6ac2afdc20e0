/*
 * erasure.c
 *		Erases orgs and persons, where the law or a customer asks for it.
 *
 * An org that is erased keeps its row, because tables of the application can
 * refer to it, and the rows of its keys (purge.c).  All functions treat it like
 * an org that does not exist.  Of its rows in the audit log, only the persons
 * and the details go, and of its ledger what people have written.
 *
 * A person that is erased is replaced by a random pseudonym, the same
 * everywhere, so that the audit log still tells which changes one person made.
 * A membership under a pseudonym lets nobody in.
 *
 * Both run at READ COMMITTED, and lock what others would add to meanwhile.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

#include "credits/credits.h"
#include "keys/keys.h"
#include "members/locked_org.h"
#include "orgs/orgs.h"
#include "server/server.h"

PG_FUNCTION_INFO_V1(overten_erase_org);
PG_FUNCTION_INFO_V1(overten_erase_person);

/* Lock an org.  Returns false if it was erased before. */
static bool
lock_org(text *org_id)
{
	static OaStatement lock = {
		.table = "orgs",
		.text = "SELECT erased_at IS NULL FROM overten_auth.orgs "
		"WHERE org_id = $1 FOR UPDATE",
		.argtypes = {TEXTOID},
	};
	Datum		values[] = {PointerGetDatum(org_id)};

	if (oa_statement_run(&lock, values, NULL) == 0)
		oa_org_missing(org_id);
	return oa_statement_bool(0, 1);
}

/*
 * Purge the keys of a locked org.  Raises 55000 if one is active, or becomes
 * active meanwhile because somebody changes its expiry.
 */
static void
purge_all_keys(text *org_id)
{
	static OaStatement find = {
		.table = "api_keys",
		.latest = true,
		.text = "SELECT 1 FROM overten_auth.api_keys "
		"WHERE org_id = $1 AND erased_at IS NULL LIMIT 1",
		.argtypes = {TEXTOID},
	};
	Datum		values[] = {PointerGetDatum(org_id)};

	oa_purge_keys(org_id, DT_NOEND);
	if (oa_statement_run(&find, values, NULL) > 0)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("an org with active keys cannot be erased"),
				 errhint("Revoke the keys with overten_revoke_all() first.")));
}

/* Erase the row of a locked org. */
static void
erase_org_row(text *org_id)
{
	static OaStatement update = {
		.table = "orgs",
		.text = "UPDATE overten_auth.orgs "
		"SET erased_at = clock_timestamp(), name = 'erased', "
		"created_by = NULL, "
		"suspended_at = COALESCE(suspended_at, clock_timestamp()), "
		"closed_at = COALESCE(closed_at, clock_timestamp()), "
		"webhook_secret_sealed = '', "
		"previous_webhook_secret_sealed = NULL, "
		"previous_webhook_secret_until = NULL "
		"WHERE org_id = $1",
		.argtypes = {TEXTOID},
	};
	Datum		values[] = {PointerGetDatum(org_id)};

	oa_statement_run(&update, values, NULL);
}

/* Remove what else there is about a locked org. */
static void
erase_rest_of_org(text *org_id)
{
	static OaStatement remove_members = {
		.table = "members",
		.text = "DELETE FROM overten_auth.members WHERE org_id = $1",
		.argtypes = {TEXTOID},
	};
	static OaStatement remove_invitations = {
		.table = "invitations",
		.text = "DELETE FROM overten_auth.invitations WHERE org_id = $1",
		.argtypes = {TEXTOID},
	};
	static OaStatement remove_requests = {
		.table = "idempotency_keys",
		.text = "DELETE FROM overten_auth.idempotency_keys WHERE org_id = $1",
		.argtypes = {TEXTOID},
	};
	static OaStatement remove_limits = {
		.table = "limits",
		.text = "DELETE FROM overten_auth.limits WHERE org_id = $1",
		.argtypes = {TEXTOID},
	};
	static OaStatement remove_quotas = {
		.table = "quota_usage",
		.text = "DELETE FROM overten_auth.quota_usage WHERE org_id = $1",
		.argtypes = {TEXTOID},
	};
	static OaStatement erase_log = {
		.table = "audit_log",
		.text = "UPDATE overten_auth.audit_log "
		"SET uid = NULL, detail = NULL WHERE org_id = $1 "
		"AND (uid IS NOT NULL OR detail IS NOT NULL)",
		.argtypes = {TEXTOID},
	};
	Datum		values[] = {PointerGetDatum(org_id)};

	oa_statement_run(&remove_members, values, NULL);
	oa_statement_run(&remove_invitations, values, NULL);
	oa_statement_run(&remove_requests, values, NULL);
	oa_statement_run(&remove_limits, values, NULL);
	oa_statement_run(&remove_quotas, values, NULL);
	oa_change_append_only(&erase_log, values, NULL);
}

/*
 * overten_erase_org(org_id text) returns boolean
 *
 * Returns true if this call erased the org, and false if it was erased before.
 * Errors: 22004; 25000; 25006; 42704; 55000 the org has an active key.
 */
Datum
overten_erase_org(PG_FUNCTION_ARGS)
{
	text	   *org_id = oa_text_argument(fcinfo, 0, "org_id");
	bool		erased;
	int			level;

	oa_begin_erasing("overten_erase_org()");
	level = oa_statements_begin();
	erased = lock_org(org_id);
	if (erased)
	{
		purge_all_keys(org_id);
		oa_erase_credits(org_id);
		erase_org_row(org_id);
		erase_rest_of_org(org_id);
		oa_audit("erase_org", org_id, NULL, NULL, NULL);
	}
	oa_statements_end(level);
	PG_RETURN_BOOL(erased);
}

/* Lock the orgs that a person is a member of, and keep the person from others. */
static void
lock_orgs_of(text *uid)
{
	static OaStatement lock = {
		.table = "orgs",
		.text = "SELECT 1 FROM overten_auth.orgs "
		"WHERE org_id IN (SELECT m.org_id FROM overten_auth.members m "
		"WHERE m.uid = $1) ORDER BY org_id FOR UPDATE",
		.argtypes = {TEXTOID},
	};
	Datum		values[] = {PointerGetDatum(uid)};

	oa_lock_person(uid);
	oa_statement_run(&lock, values, NULL);
}

/*
 * Raise 55000 if a person is the last member of an org with keys that are
 * accepted.
 */
static void
require_other_members(text *uid)
{
	static OaStatement find = {
		.table = "orgs",
		.latest = true,
		.text = "SELECT o.org_id FROM overten_auth.members m "
		"JOIN overten_auth.orgs o ON o.org_id = m.org_id "
		"WHERE m.uid = $1 AND m.erased_at IS NULL "
		"AND o.suspended_at IS NULL "
		"AND NOT EXISTS (SELECT FROM overten_auth.members other "
		"WHERE other.org_id = m.org_id AND other.uid <> $1 "
		"AND other.erased_at IS NULL) "
		"AND EXISTS (SELECT FROM overten_auth.api_keys k "
		"WHERE k.org_id = m.org_id AND " OA_KEY_IS_ACTIVE("k") ") "
		"ORDER BY o.org_id LIMIT 1",
		.argtypes = {TEXTOID},
	};
	Datum		values[] = {PointerGetDatum(uid)};
	char	   *id;

	if (oa_statement_run(&find, values, NULL) == 0)
		return;
	id = oa_id_for_message(oa_statement_text(0, 1), "org_");
	ereport(ERROR,
			(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
			 errmsg("the last member of an org with active keys cannot be erased"),
			 id != NULL ? errdetail("Org \"%s\" has no other member.", id) : 0,
			 errhint("Add another member first, revoke the keys with overten_revoke_all(), or suspend the org with overten_set_api_access().")));
}

/*
 * Replace a person by a pseudonym, and withdraw the person's pending invitations.
 * Returns the number of rows that were changed.
 */
static uint64
replace_person(text *uid, text *pseudonym)
{
	static OaStatement members = {
		.table = "members",
		.text = "UPDATE overten_auth.members "
		"SET uid = $2, erased_at = clock_timestamp() WHERE uid = $1",
		.argtypes = {TEXTOID, TEXTOID},
	};
	static OaStatement keys = {
		.table = "api_keys",
		.text = "UPDATE overten_auth.api_keys "
		"SET created_by = CASE created_by WHEN $1 THEN $2 ELSE created_by END, "
		"revoked_by = CASE revoked_by WHEN $1 THEN $2 ELSE revoked_by END, "
		"disabled_by = CASE disabled_by WHEN $1 THEN $2 ELSE disabled_by END "
		"WHERE $1 IN (created_by, revoked_by, disabled_by)",
		.argtypes = {TEXTOID, TEXTOID},
	};
	static OaStatement orgs = {
		.table = "orgs",
		.text = "UPDATE overten_auth.orgs SET created_by = $2 "
		"WHERE created_by = $1",
		.argtypes = {TEXTOID, TEXTOID},
	};
	static OaStatement invitations = {
		.table = "invitations",
		.text = "UPDATE overten_auth.invitations "
		"SET created_by = CASE created_by WHEN $1 THEN $2 ELSE created_by END, "
		"accepted_by = CASE accepted_by WHEN $1 THEN $2 ELSE accepted_by END "
		"WHERE $1 IN (created_by, accepted_by)",
		.argtypes = {TEXTOID, TEXTOID},
	};
	static OaStatement requests = {
		.table = "idempotency_keys",
		.text = "DELETE FROM overten_auth.idempotency_keys WHERE uid = $1",
		.argtypes = {TEXTOID},
	};
	static OaStatement log = {
		.table = "audit_log",
		.text = "UPDATE overten_auth.audit_log "
		"SET uid = CASE uid WHEN $1 THEN $2 ELSE uid END, "
		"detail = CASE detail WHEN $1 THEN $2 ELSE detail END "
		"WHERE uid = $1 OR detail = $1",
		.argtypes = {TEXTOID, TEXTOID},
	};
	Datum		values[] = {PointerGetDatum(uid), PointerGetDatum(pseudonym)};
	uint64		withdrawn = oa_withdraw_invitations_of(NULL, NULL, uid);

	return withdrawn + oa_statement_run(&members, values, NULL) +
		oa_statement_run(&orgs, values, NULL) +
		oa_statement_run(&invitations, values, NULL) +
		oa_statement_run(&keys, values, NULL) +
		oa_statement_run(&requests, values, NULL) +
		oa_change_append_only(&log, values, NULL);
}

/*
 * overten_erase_person(uid text) returns boolean
 *
 * Returns true if the person was found anywhere.  Errors: 22004; 22023; 25000;
 * 25006; 55000 the person is the last member of an org with active keys that is
 * not suspended.
 */
Datum
overten_erase_person(PG_FUNCTION_ARGS)
{
	text	   *uid = oa_uid_argument(fcinfo, 0);
	text	   *pseudonym = oa_make_id("erased_");
	bool		found;
	int			level;

	oa_begin_erasing("overten_erase_person()");
	level = oa_statements_begin();
	lock_orgs_of(uid);
	require_other_members(uid);
	found = replace_person(uid, pseudonym) > 0;
	if (found)
		oa_audit("erase_person", NULL, NULL, NULL, pseudonym);
	oa_statements_end(level);
	PG_RETURN_BOOL(found);
}
