/*
 * rotation.c
 *		Replaces a key by a new one, so that both are good for a while.
 *
 * The new key is the old one with another secret: it gets the name, the
 * environment, the scopes, the allowed addresses, the description and the
 * metadata of the old key, and never more.  An expiry that somebody has chosen
 * stays; one that overten_auth.max_key_lifetime has given starts anew, because
 * it is there to have keys rotated.  All keys of a line of rotations have the
 * same lineage, the id of the first one, so that what is counted for a key goes
 * on with the next one.
 *
 * The old key ends after the overlap, or when it would have ended anyway.  Of a
 * line of rotations at most two keys are good at a time: a key cannot be rotated
 * while the one before it or one after it is good.  Otherwise an org could have
 * any number of keys, because a rotation may exceed the limit by one.
 *
 * Rotations of keys of the same org wait for one another, for they lock the
 * org's row, in the same mode as minting over HTTP.  The org comes before the
 * key, as in every function that locks both.
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/pg_type.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

#include "keys/keys.h"
#include "orgs/orgs.h"
#include "server/server.h"

PG_FUNCTION_INFO_V1(overten_rotate_key);

/* The row of the key that is rotated, locked. */
typedef struct OldKey
{
	text	   *name;
	text	   *rotated_from;	/* or NULL */
	TimestampTz created_at;
	bool		revoked;
	bool		disabled;
	OaKeyGrant	grant;
} OldKey;

/* Lock an org, and so serialize the rotations of its keys. */
static void
lock_org(text *org_id)
{
	static OaStatement lock = {
		.table = "orgs",
		.text = "SELECT 1 FROM overten_auth.orgs "
		"WHERE org_id = $1 FOR NO KEY UPDATE",
		.argtypes = {TEXTOID},
	};
	Datum		values[] = {PointerGetDatum(org_id)};

	oa_statement_run(&lock, values, NULL);
}

/* Lock the key to rotate, and read it.  Returns false if the org has none such. */
static bool
lock_key(text *org_id, text *key_id, OldKey *key)
{
	static OaStatement lock = {
		.table = "api_keys",
		.text = "SELECT name, environment, scopes, allowed_addresses, "
		"COALESCE(lineage, key_id), rotated_from, created_at, "
		"revoked_at IS NOT NULL, disabled_at IS NOT NULL, expires_at "
		"FROM overten_auth.api_keys "
		"WHERE key_id = $2 AND org_id = $1 "
		"AND erased_at IS NULL FOR NO KEY UPDATE",
		.argtypes = {TEXTOID, TEXTOID},
	};
	Datum		values[] = {PointerGetDatum(org_id), PointerGetDatum(key_id)};
	text	   *environment;
	OaFault		fault;
	bool		isnull;

	if (oa_statement_run(&lock, values, NULL) == 0)
		return false;

	memset(key, 0, sizeof(*key));
	key->name = oa_statement_text(0, 1);
	environment = oa_statement_text(0, 2);
	if (!oa_parse_environment(VARDATA_ANY(environment),
							  VARSIZE_ANY_EXHDR(environment),
							  &key->grant.environment, &fault))
		oa_refuse_changed_object(psprintf("Column \"%s\" of a key %s.",
										  fault.param, fault.rule));
	key->grant.scopes = (ArrayType *)
		oa_statement_varlena_or_null(0, 3, TEXTARRAYOID);
	key->grant.allowed_addresses = (ArrayType *)
		oa_statement_varlena_or_null(0, 4, CIDRARRAYOID);
	key->grant.lineage = oa_statement_text(0, 5);
	key->rotated_from = oa_statement_text_or_null(0, 6);
	key->created_at = oa_statement_time(0, 7, NULL);
	key->revoked = oa_statement_bool(0, 8);
	key->disabled = oa_statement_bool(0, 9);
	key->grant.expires_at = oa_statement_time(0, 10, &isnull);
	key->grant.has_expiry = !isnull;
	return true;
}

/*
 * Find another key of this one's line that is good, or would be if it were
 * enabled.  Returns its id, or NULL.
 */
static text *
find_good_relative(text *key_id, const OldKey *key)
{
	static OaStatement find = {
		.table = "api_keys",
		.latest = true,
		.text = "SELECT k.key_id FROM overten_auth.api_keys k "
		"WHERE (k.key_id = $2 OR k.lineage = $2) AND k.key_id <> $1 "
		"AND " OA_KEY_IS_ACTIVE("k") " "
		"ORDER BY k.created_at DESC, k.key_id LIMIT 1",
		.argtypes = {TEXTOID, TEXTOID},
	};
	Datum		values[] = {
		PointerGetDatum(key_id),
		PointerGetDatum(key->grant.lineage),
	};

	if (oa_statement_run(&find, values, NULL) == 0)
		return NULL;
	return oa_statement_text(0, 1);
}

/* Is the expiry of a key the one that every key gets? */
static bool
has_common_expiry(const OldKey *key)
{
	TimestampTz latest;

	return key->grant.has_expiry &&
		oa_latest_expiry(key->created_at, &latest) &&
		key->grant.expires_at == latest;
}

/* Decide when the new key expires.  Minting adds max_key_lifetime. */
static void
set_expiry(const OldKey *old, OaKeyGrant *grant)
{
	TimestampTz latest;

	if (has_common_expiry(old))
		grant->has_expiry = false;
	else if (grant->has_expiry &&
			 oa_latest_expiry(GetCurrentTimestamp(), &latest))
		grant->expires_at = Min(grant->expires_at, latest);
}

/*
 * Can this key be rotated?  A person's rotation may exceed the limit of active
 * keys by one, so that an org that has all its keys can still rotate them.
 */
static OaRotationOutcome
check_key(text *org_id, text *key_id, text *uid, int64 overlap, OldKey *key,
		  OaRotation *rotation)
{
	if (!lock_key(org_id, key_id, key))
		return OA_ROTATION_NO_SUCH_KEY;
	if (key->revoked)
		return OA_ROTATION_REVOKED;
	if (key->grant.has_expiry &&
		key->grant.expires_at <= GetCurrentTimestamp())
		return OA_ROTATION_EXPIRED;
	if (key->disabled)
		return OA_ROTATION_DISABLED;
	if (!oa_has_prefix(key->grant.environment))
		return OA_ROTATION_NO_PREFIX;
	rotation->good_relative = find_good_relative(key_id, key);
	if (rotation->good_relative != NULL)
		return OA_ALREADY_ROTATED;
	if (uid != NULL && oa_has_all_keys(org_id, NULL, overlap > 0 ? 1 : 2))
		return OA_ROTATION_NO_ROOM;
	return OA_ROTATED;
}

/*
 * End the old key.  Its own expiry has been taken into account; one that is not
 * in the future revokes it.
 */
static void
end_key(text *key_id, text *uid, TimestampTz now, TimestampTz end)
{
	static OaStatement expire = {
		.table = "api_keys",
		.text = "UPDATE overten_auth.api_keys SET expires_at = $2 "
		"WHERE key_id = $1",
		.argtypes = {TEXTOID, TIMESTAMPTZOID},
	};
	static OaStatement revoke = {
		.table = "api_keys",
		.text = "UPDATE overten_auth.api_keys SET revoked_at = $2, "
		"revoked_by = $3, revoked_reason = 'rotated' "
		"WHERE key_id = $1",
		.argtypes = {TEXTOID, TIMESTAMPTZOID, TEXTOID},
	};
	Datum		values[] = {
		PointerGetDatum(key_id),
		TimestampTzGetDatum(end),
		PointerGetDatum(uid),
	};
	const bool	nulls[lengthof(values)] = {[2] = (uid == NULL)};

	oa_statement_run(end > now ? &expire : &revoke, values, nulls);
}

/* Mint a key with a grant, and with the name and the details of another one. */
static void
mint_like(text *org_id, text *key_id, const OldKey *key, text *uid,
		  OaKeyGrant *grant, OaMintedKey *minted)
{
	OaKeyDetails details;

	oa_get_key_details(key_id, &details);
	grant->description = details.description;
	grant->metadata = details.metadata;
	oa_mint_key(org_id, key->name, uid, grant, minted);
}

/*
 * Rotate a key of an org, on behalf of a person if "uid" is not NULL.  The old
 * key is good for "overlap" microseconds more, at most 30 days, which the caller
 * has checked; 0 revokes it.  Nothing is written unless the outcome is
 * OA_ROTATED.  OA_ROTATION_NO_ROOM is for persons alone.
 */
OaRotationOutcome
oa_rotate_key(text *org_id, text *key_id, text *uid, int64 overlap,
			  OaRotation *rotation)
{
	MemoryContext caller = CurrentMemoryContext;
	OaRotationOutcome outcome;
	OldKey		old;
	OaKeyGrant	grant;
	TimestampTz end;
	int			level = oa_statements_begin();

	lock_org(org_id);
	outcome = check_key(org_id, key_id, uid, overlap, &old, rotation);
	if (outcome == OA_ROTATED)
	{
		MemoryContext spi = MemoryContextSwitchTo(caller);

		grant = old.grant;
		set_expiry(&old, &grant);
		grant.rotated_from = key_id;
		mint_like(org_id, key_id, &old, uid, &grant, &rotation->key);
		MemoryContextSwitchTo(spi);

		end = rotation->key.created_at + overlap;
		if (old.grant.has_expiry)
			end = Min(end, old.grant.expires_at);
		end_key(key_id, uid, rotation->key.created_at, end);
		oa_audit("rotate_key", org_id, key_id, uid, rotation->key.key_id);
		if (end <= rotation->key.created_at)
			oa_audit("revoke_key", org_id, key_id, uid,
					 cstring_to_text("rotated"));
		rotation->previous_key_id = key_id;
		rotation->has_previous_end = true;
		rotation->previous_expires_at = end;
		ForceSyncCommit();
	}
	oa_statements_end(level);
	return outcome;
}

/* Set when a key that was rotated ends, or has ended. */
static void
read_end(text *key_id, OaRotation *rotation)
{
	static OaStatement find = {
		.table = "api_keys",
		.text = "SELECT LEAST(revoked_at, expires_at) "
		"FROM overten_auth.api_keys WHERE key_id = $1",
		.argtypes = {TEXTOID},
	};
	Datum		values[] = {PointerGetDatum(key_id)};
	bool		isnull = true;

	if (oa_statement_run(&find, values, NULL) > 0)
		rotation->previous_expires_at = oa_statement_time(0, 1, &isnull);
	rotation->previous_key_id = key_id;
	rotation->has_previous_end = !isnull;
}

/*
 * Mint a key in the place of one that a rotation has made, and that the caller
 * has revoked because its secret was lost.  The new one replaces the same old
 * key.  It has what the lost one has by now, and the same expiry.
 */
void
oa_replace_lost_key(text *org_id, text *key_id, text *uid,
					OaRotation *rotation)
{
	MemoryContext caller = CurrentMemoryContext;
	MemoryContext spi;
	OldKey		lost;
	OaKeyGrant	grant;
	int			level = oa_statements_begin();

	if (!lock_key(org_id, key_id, &lost))
		oa_key_missing(org_id, key_id);

	spi = MemoryContextSwitchTo(caller);
	grant = lost.grant;
	grant.rotated_from = lost.rotated_from;
	mint_like(org_id, key_id, &lost, uid, &grant, &rotation->key);
	MemoryContextSwitchTo(spi);

	read_end(lost.rotated_from, rotation);
	oa_audit("rotate_key", org_id, lost.rotated_from, uid,
			 rotation->key.key_id);
	oa_statements_end(level);
}

/* Raise the error for a rotation that is refused. */
pg_noreturn static void
refuse_rotation(OaRotationOutcome outcome, text *org_id, text *key_id,
				const OaRotation *rotation)
{
	static const struct
	{
		const char *message;
		const char *hint;
	}			refusals[] = {
		[OA_ROTATION_REVOKED] = {
			"a revoked key cannot be rotated", "Mint a new key."
		},
		[OA_ROTATION_EXPIRED] = {
			"an expired key cannot be rotated", "Mint a new key."
		},
		[OA_ROTATION_DISABLED] = {
			"a disabled key cannot be rotated",
			"Enable it first with overten_enable_key()."
		},
		[OA_ROTATION_NO_PREFIX] = {
			"keys of this environment cannot be minted",
			"Add a prefix for them to overten_auth.key_prefixes."
		},
		[OA_ALREADY_ROTATED] = {
			"the last rotation of this key is not over",
			"Wait until the old key expires, or revoke one of the two."
		},
	};
	char	   *relative = NULL;

	if (outcome == OA_ROTATION_NO_SUCH_KEY)
		oa_key_missing(org_id, key_id);
	if (outcome == OA_ALREADY_ROTATED)
		relative = oa_id_for_message(rotation->good_relative, "key_");
	ereport(ERROR,
			(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
			 errmsg("%s", refusals[outcome].message),
			 relative == NULL ? 0 :
			 errdetail("Key \"%s\" of the same line is still good.", relative),
			 errhint("%s", refusals[outcome].hint)));
}

/*
 * overten_rotate_key(org_id text, key_id text, overlap interval)
 * 		returns key_id, org_id, name, prefix, created_at, secret,
 * 				previous_key_id, previous_expires_at
 *
 * Nobody can read the secret again after this call.  Errors: 22004, 22023,
 * 42704; 55000 the key is revoked, expired or disabled, its last rotation is
 * not over, or its environment has no prefix.
 */
Datum
overten_rotate_key(PG_FUNCTION_ARGS)
{
	static const Oid types[] = {
		TEXTOID, TEXTOID, TEXTOID, TEXTOID, TIMESTAMPTZOID, TEXTOID, TEXTOID,
		TIMESTAMPTZOID,
	};
	text	   *org_id = oa_text_argument(fcinfo, 0, "org_id");
	text	   *key_id = oa_text_argument(fcinfo, 1, "key_id");
	int64		overlap = oa_interval_argument(fcinfo, 2, "overlap", false,
											   OA_OVERLAP_MAX_DAYS);
	OaRotation	rotation;
	OaRotationOutcome outcome;
	Datum		values[lengthof(types)];

	outcome = oa_rotate_key(org_id, key_id, NULL, overlap, &rotation);
	if (outcome != OA_ROTATED)
		refuse_rotation(outcome, org_id, key_id, &rotation);

	values[0] = PointerGetDatum(rotation.key.key_id);
	values[1] = PointerGetDatum(org_id);
	values[2] = PointerGetDatum(rotation.key.name);
	values[3] = PointerGetDatum(rotation.key.prefix);
	values[4] = TimestampTzGetDatum(rotation.key.created_at);
	values[5] = PointerGetDatum(rotation.key.secret);
	values[6] = PointerGetDatum(key_id);
	values[7] = TimestampTzGetDatum(rotation.previous_expires_at);
	return oa_result_row(fcinfo, types, lengthof(types), values, NULL);
}
