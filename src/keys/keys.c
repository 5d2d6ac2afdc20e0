/*
 * keys.c
 *		Mints, describes and revokes the API keys of an org.
 *
 * A secret exists here only until we return it; the table gets its digest and
 * its visible characters.  Minting and revoking make their commit wait for
 * its WAL, whatever synchronous_commit says.  A key that we have handed out
 * must exist after a crash, and a revoked one must not come back.
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/pg_type.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

#include "keys/keys.h"
#include "lookup/lookup.h"
#include "orgs/orgs.h"
#include "server/server.h"
#include "settings.h"

PG_FUNCTION_INFO_V1(overten_mint_key);
PG_FUNCTION_INFO_V1(overten_describe_key);
PG_FUNCTION_INFO_V1(overten_key_restrictions);
PG_FUNCTION_INFO_V1(overten_revoke_key);

/* Insert the rows of a new key. */
static void
insert_key(text *org_id, const OaMintedKey *minted, text *uid)
{
	static OaStatement insert = {
		.table = "api_keys",
		.text = "INSERT INTO overten_auth.api_keys "
		"(key_id, org_id, name, prefix, digest, created_at, created_by, "
		"expires_at, scopes, allowed_addresses, environment, lineage, "
		"rotated_from) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, "
		"$12, $13)",
		.argtypes = {TEXTOID, TEXTOID, TEXTOID, TEXTOID, BYTEAOID,
			TIMESTAMPTZOID, TEXTOID, TIMESTAMPTZOID, TEXTARRAYOID, CIDRARRAYOID,
		TEXTOID, TEXTOID, TEXTOID},
	};
	static OaStatement insert_last_used = {
		.table = "key_last_used",
		.text = "INSERT INTO overten_auth.key_last_used (key_id) VALUES ($1)",
		.argtypes = {TEXTOID},
	};
	Datum		values[] = {
		PointerGetDatum(minted->key_id),
		PointerGetDatum(org_id),
		PointerGetDatum(minted->name),
		PointerGetDatum(minted->prefix),
		PointerGetDatum(oa_secret_digest(minted->secret)),
		TimestampTzGetDatum(minted->created_at),
		PointerGetDatum(uid),
		TimestampTzGetDatum(minted->grant.expires_at),
		PointerGetDatum(minted->grant.scopes),
		PointerGetDatum(minted->grant.allowed_addresses),
		CStringGetTextDatum(oa_environment_name(minted->grant.environment)),
		PointerGetDatum(minted->grant.lineage),
		PointerGetDatum(minted->grant.rotated_from),
	};
	const bool	nulls[lengthof(values)] = {
		[6] = (uid == NULL),
		[7] = !minted->grant.has_expiry,
		[8] = (minted->grant.scopes == NULL),
		[9] = (minted->grant.allowed_addresses == NULL),
		[11] = (minted->grant.lineage == NULL),
		[12] = (minted->grant.rotated_from == NULL),
	};

	oa_statement_run(&insert, values, nulls);
	oa_statement_run(&insert_last_used, values, NULL);
	oa_insert_key_details(minted->key_id, minted->grant.description,
						  minted->grant.metadata);
}

/*
 * Mint a key for an org. "uid" is the person who asked for it, or NULL.  The
 * caller has checked the name and the grant, which is NULL for a plain key.
 * A key without an expiry gets the longest lifetime that keys may have.  Raises
 * 42704 if the org does not exist, and 55000 if it is closed.
 */
void
oa_mint_key(text *org_id, text *name, text *uid, const OaKeyGrant *grant,
			OaMintedKey *minted)
{
	static const OaKeyGrant plain = {0};
	int			level;

	minted->name = name;
	minted->key_id = oa_make_id("key_");
	minted->created_at = GetCurrentTimestamp();
	minted->grant = grant != NULL ? *grant : plain;
	minted->secret = oa_make_secret(minted->grant.environment,
									oa_slots->count > 0 ?
									oa_slot_of_text(org_id) : OA_ANY_SLOT);
	minted->prefix = oa_secret_prefix(minted->secret);
	if (!minted->grant.has_expiry)
		minted->grant.has_expiry =
			oa_latest_expiry(minted->created_at, &minted->grant.expires_at);

	level = oa_statements_begin();
	oa_require_open_org(org_id);
	insert_key(org_id, minted, uid);
	oa_audit("mint_key", org_id, minted->key_id, uid, minted->name);
	oa_statements_end(level);
	ForceSyncCommit();
}

/*
 * Does the org have this key, revoked or not, but not erased?  Must be called
 * between oa_statements_begin() and _end().
 */
bool
oa_org_has_key(text *org_id, text *key_id)
{
	static OaStatement find = {
		.table = "api_keys",
		.text = "SELECT 1 FROM overten_auth.api_keys "
		"WHERE key_id = $2 AND org_id = $1 AND erased_at IS NULL",
		.argtypes = {TEXTOID, TEXTOID},
	};
	Datum		values[] = {PointerGetDatum(org_id), PointerGetDatum(key_id)};

	return oa_statement_run(&find, values, NULL) > 0;
}

/* Raise 42704 because the org does not have the key. */
void
oa_key_missing(text *org_id, text *key_id)
{
	char	   *org = oa_id_for_message(org_id, "org_");
	char	   *key = oa_id_for_message(key_id, "key_");

	ereport(ERROR,
			(errcode(ERRCODE_UNDEFINED_OBJECT),
			 org != NULL && key != NULL ?
			 errmsg("key \"%s\" of org \"%s\" does not exist", key, org) :
			 errmsg("the org has no such key"),
			 errhint("overten_list_keys() shows the keys of an org.")));
}

/*
 * Raise 42704 unless the org has this key.  Must be called between
 * oa_statements_begin() and _end().
 */
void
oa_require_key(text *org_id, text *key_id)
{
	if (!oa_org_has_key(org_id, key_id))
		oa_key_missing(org_id, key_id);
}

/*
 * Revoke a key of an org.  If it was revoked before, the first time and reason
 * stay.
 */
OaRevocation
oa_revoke_key(text *org_id, text *key_id, text *uid, text *reason)
{
	static OaStatement update = {
		.table = "api_keys",
		.text = "UPDATE overten_auth.api_keys "
		"SET revoked_at = clock_timestamp(), "
		"revoked_by = $3, revoked_reason = $4 "
		"WHERE key_id = $2 AND org_id = $1 AND revoked_at IS NULL",
		.argtypes = {TEXTOID, TEXTOID, TEXTOID, TEXTOID},
	};
	Datum		values[] = {
		PointerGetDatum(org_id),
		PointerGetDatum(key_id),
		PointerGetDatum(uid),
		PointerGetDatum(reason),
	};
	const bool	nulls[lengthof(values)] = {
		[2] = (uid == NULL),
		[3] = (reason == NULL),
	};
	OaRevocation result;
	int			level;

	level = oa_statements_begin();
	if (oa_statement_run(&update, values, nulls) > 0)
	{
		oa_audit("revoke_key", org_id, key_id, uid, reason);
		ForceSyncCommit();
		result = OA_REVOKED;
	}
	else if (oa_org_has_key(org_id, key_id))
		result = OA_REVOKED_BEFORE;
	else
		result = OA_NO_SUCH_KEY;
	oa_statements_end(level);
	return result;
}

/* Return the nth argument as an environment. */
static OaEnvironment
environment_argument(FunctionCallInfo fcinfo, int n)
{
	text	   *name = oa_text_argument(fcinfo, n, "environment");
	OaEnvironment environment;
	OaFault		fault;

	if (!oa_parse_environment(VARDATA_ANY(name), VARSIZE_ANY_EXHDR(name),
							  &environment, &fault))
		oa_refuse_fault(&fault);
	return environment;
}

/*
 * overten_mint_key(org_id text, name text, expires_at timestamptz,
 * 		scopes text[], allowed_addresses cidr[], environment text)
 * 		returns key_id, org_id, name, prefix, created_at, secret
 *
 * Nobody can read the secret again after this call.  The three arguments after
 * the name may be NULL: the key does not expire, has all scopes, and can be
 * used from everywhere.  Errors: 22004, 22023, 42704, 55000 the org is closed.
 */
Datum
overten_mint_key(PG_FUNCTION_ARGS)
{
	static const Oid types[] = {
		TEXTOID, TEXTOID, TEXTOID, TEXTOID, TIMESTAMPTZOID, TEXTOID,
	};
	text	   *org_id;
	text	   *name;
	OaKeyGrant	grant = {0};
	OaMintedKey minted;
	Datum		values[lengthof(types)];

	oa_require_argument_count(fcinfo, 6);
	org_id = oa_text_argument(fcinfo, 0, "org_id");
	name = oa_name_argument(fcinfo, 1, "key name", OA_KEY_NAME_MAX);
	if (!PG_ARGISNULL(2))
	{
		grant.has_expiry = true;
		grant.expires_at = PG_GETARG_TIMESTAMPTZ(2);
	}
	if (!PG_ARGISNULL(3))
		grant.scopes = PG_GETARG_ARRAYTYPE_P(3);
	if (!PG_ARGISNULL(4))
		grant.allowed_addresses = PG_GETARG_ARRAYTYPE_P(4);
	grant.environment = environment_argument(fcinfo, 5);
	oa_require_grant(&grant);

	oa_mint_key(org_id, name, NULL, &grant, &minted);
	values[0] = PointerGetDatum(minted.key_id);
	values[1] = PointerGetDatum(org_id);
	values[2] = PointerGetDatum(minted.name);
	values[3] = PointerGetDatum(minted.prefix);
	values[4] = TimestampTzGetDatum(minted.created_at);
	values[5] = PointerGetDatum(minted.secret);
	return oa_result_row(fcinfo, types, lengthof(types), values, NULL);
}

/*
 * overten_describe_key(org_id text, key_id text)
 * 		returns name, prefix, created_at, created_by, revoked_at, revoked_by,
 * 		revoked_reason
 *
 * Returns one row: who minted and who revoked a key, and why.  The persons are
 * uids, or NULL if the application did it.  Errors: 22004, 42704.
 */
Datum
overten_describe_key(PG_FUNCTION_ARGS)
{
	static OaStatement describe = {
		.table = "api_keys",
		.text = "SELECT name, prefix, created_at, created_by, "
		"revoked_at, revoked_by, revoked_reason "
		"FROM overten_auth.api_keys "
		"WHERE key_id = $2 AND org_id = $1",
		.argtypes = {TEXTOID, TEXTOID},
	};
	text	   *org_id = oa_text_argument(fcinfo, 0, "org_id");
	text	   *key_id = oa_text_argument(fcinfo, 1, "key_id");
	Datum		values[] = {PointerGetDatum(org_id), PointerGetDatum(key_id)};
	int			level;

	oa_begin_set(fcinfo);
	level = oa_statements_begin();
	if (oa_statement_run(&describe, values, NULL) == 0)
		oa_key_missing(org_id, key_id);
	oa_statement_return_rows(fcinfo);
	oa_statements_end(level);
	return (Datum) 0;
}

/*
 * overten_key_restrictions(org_id text, key_id text)
 * 		returns setof key_id, name, status, expires_at, disabled_at, disabled_by,
 * 		disabled_reason, scopes, allowed_addresses
 *
 * Returns what restricts each key of an org, or one key, in the order of their
 * creation.  The key's id may be NULL.  Errors: 22004, 42704.
 */
Datum
overten_key_restrictions(PG_FUNCTION_ARGS)
{
	static OaStatement list = {
		.table = "api_keys",
		.text = "SELECT key_id, name, CASE "
		"WHEN revoked_at IS NOT NULL THEN 'revoked' "
		"WHEN expires_at <= clock_timestamp() THEN 'expired' "
		"WHEN disabled_at IS NOT NULL THEN 'disabled' "
		"ELSE 'active' END, expires_at, disabled_at, disabled_by, "
		"disabled_reason, scopes, allowed_addresses "
		"FROM overten_auth.api_keys "
		"WHERE org_id = $1 AND ($2 IS NULL OR key_id = $2) "
		"AND erased_at IS NULL "
		"ORDER BY created_at, key_id",
		.argtypes = {TEXTOID, TEXTOID},
	};
	text	   *org_id = oa_text_argument(fcinfo, 0, "org_id");
	text	   *key_id = PG_ARGISNULL(1) ? NULL : PG_GETARG_TEXT_PP(1);
	Datum		values[] = {PointerGetDatum(org_id), PointerGetDatum(key_id)};
	const bool	nulls[lengthof(values)] = {[1] = (key_id == NULL)};
	int			level;

	oa_begin_set(fcinfo);
	level = oa_statements_begin();
	if (oa_statement_run(&list, values, nulls) > 0)
		oa_statement_return_rows(fcinfo);
	else if (key_id != NULL)
		oa_key_missing(org_id, key_id);
	else
		oa_require_org(org_id);
	oa_statements_end(level);
	return (Datum) 0;
}

/*
 * overten_revoke_key(org_id text, key_id text, reason text) returns boolean
 *
 * Returns true if this call revoked the key, and false if it was revoked
 * before.  The reason may be NULL.  Errors: 22004, 22023, 42704.
 */
Datum
overten_revoke_key(PG_FUNCTION_ARGS)
{
	text	   *org_id = oa_text_argument(fcinfo, 0, "org_id");
	text	   *key_id = oa_text_argument(fcinfo, 1, "key_id");
	text	   *reason = oa_reason_argument(fcinfo, 2);
	OaRevocation result;

	result = oa_revoke_key(org_id, key_id, NULL, reason);
	if (result == OA_NO_SUCH_KEY)
		oa_key_missing(org_id, key_id);
	PG_RETURN_BOOL(result == OA_REVOKED);
}
