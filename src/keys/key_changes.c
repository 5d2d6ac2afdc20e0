/*
 * key_changes.c
 *		Changes what restricts a key that exists: its expiry, scopes and
 *		allowed addresses, and whether it is disabled.
 *
 * A change takes effect with its commit, as a revocation does, because it is an
 * UPDATE of the same row, and it waits for its WAL.  A revoked key does not
 * change any more.
 *
 * All changes of one call are checked first, and then written by one UPDATE.
 * The row is locked in between, so that what we have checked still holds.
 *
 * Who has disabled a key matters.  A person enables only what a person has
 * disabled.  If the application disables a key that a person has disabled, the
 * key counts as disabled by the application from then on.
 *
 * A later expiry can make one more key good: one that has expired, or one that
 * was rotated and would soon end.  For a person it then counts as a new key
 * against the limits of the org, whose row the caller has locked.
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/pg_type.h"
#include "utils/builtins.h"
#include "utils/datetime.h"
#include "utils/json.h"
#include "utils/timestamp.h"

#include "keys/keys.h"
#include "server/server.h"
#include "settings.h"

PG_FUNCTION_INFO_V1(overten_disable_key);
PG_FUNCTION_INFO_V1(overten_enable_key);
PG_FUNCTION_INFO_V1(overten_set_allowed_addresses);
PG_FUNCTION_INFO_V1(overten_set_expiry);
PG_FUNCTION_INFO_V1(overten_set_scopes);

/* The locked row of a key, and what a change would change in it. */
typedef struct LockedKey
{
	bool		revoked;
	TimestampTz created_at;
	bool		has_expiry;
	TimestampTz expires_at;
	bool		disabled;
	bool		disabled_by_person;
	bool		is_extra;		/* expired, or its successor is good */
	bool		same_expiry;
	bool		same_scopes;
	bool		same_addresses;
} LockedKey;

/* Parameters of both statements; $1 and $2 are the ids. */
enum
{
	ORG_ID, KEY_ID, EXPIRES_AT, SCOPES, ALLOWED_ADDRESSES,
	LOCK_PARAMETERS,
	SETS_EXPIRY = LOCK_PARAMETERS, SETS_SCOPES, SETS_ADDRESSES, SETS_DISABLED,
	DISABLED, DISABLED_BY, DISABLED_REASON,
	PARAMETERS
};

/* Lock the row of a key.  Returns false if the org does not have the key. */
static bool
lock_key(const Datum *values, const bool *nulls, LockedKey *key)
{
	static OaStatement lock = {
		.table = "api_keys",
		.text = "SELECT revoked_at IS NOT NULL, created_at, expires_at, "
		"disabled_at IS NOT NULL, disabled_by IS NOT NULL, "
		"expires_at IS NOT DISTINCT FROM $3, scopes IS NOT DISTINCT FROM $4, "
		"allowed_addresses IS NOT DISTINCT FROM $5, "
		"COALESCE(expires_at <= clock_timestamp(), false) OR EXISTS "
		"(SELECT FROM overten_auth.api_keys s WHERE s.rotated_from = $2 "
		"AND " OA_KEY_IS_ACTIVE("s") ") "
		"FROM overten_auth.api_keys WHERE key_id = $2 AND org_id = $1 "
		"AND erased_at IS NULL FOR NO KEY UPDATE",
		.argtypes = {TEXTOID, TEXTOID, TIMESTAMPTZOID, TEXTARRAYOID,
		CIDRARRAYOID},
	};
	bool		isnull;

	if (oa_statement_run(&lock, values, nulls) == 0)
		return false;
	key->revoked = oa_statement_bool(0, 1);
	key->created_at = oa_statement_time(0, 2, NULL);
	key->expires_at = oa_statement_time(0, 3, &isnull);
	key->has_expiry = !isnull;
	key->disabled = oa_statement_bool(0, 4);
	key->disabled_by_person = oa_statement_bool(0, 5);
	key->same_expiry = oa_statement_bool(0, 6);
	key->same_scopes = oa_statement_bool(0, 7);
	key->same_addresses = oa_statement_bool(0, 8);
	key->is_extra = oa_statement_bool(0, 9);
	return true;
}

static void
write_key(const Datum *values, const bool *nulls)
{
	static OaStatement update = {
		.table = "api_keys",
		.text = "UPDATE overten_auth.api_keys SET "
		"expires_at = CASE WHEN $6 THEN $3 ELSE expires_at END, "
		"scopes = CASE WHEN $7 THEN $4 ELSE scopes END, "
		"allowed_addresses = "
		"CASE WHEN $8 THEN $5 ELSE allowed_addresses END, "
		"disabled_at = CASE WHEN NOT $9 THEN disabled_at "
		"WHEN $10 THEN COALESCE(disabled_at, clock_timestamp()) END, "
		"disabled_by = CASE WHEN $9 THEN $11 ELSE disabled_by END, "
		"disabled_reason = CASE WHEN $9 THEN $12 ELSE disabled_reason END "
		"WHERE key_id = $2 AND org_id = $1",
		.argtypes = {TEXTOID, TEXTOID, TIMESTAMPTZOID, TEXTARRAYOID,
			CIDRARRAYOID, BOOLOID, BOOLOID, BOOLOID, BOOLOID, BOOLOID, TEXTOID,
		TEXTOID},
	};

	oa_statement_run(&update, values, nulls);
}

/*
 * Are two other keys in the line of rotations of a key good, or would they be if
 * they were enabled?
 */
static bool
has_full_line(text *key_id)
{
	static OaStatement count = {
		.table = "api_keys",
		.latest = true,
		.text = "SELECT count(*) >= 2 FROM overten_auth.api_keys o "
		"JOIN overten_auth.api_keys k "
		"ON k.key_id = COALESCE(o.lineage, o.key_id) "
		"OR k.lineage = COALESCE(o.lineage, o.key_id) "
		"WHERE o.key_id = $1 AND k.key_id <> $1 "
		"AND " OA_KEY_IS_ACTIVE("k"),
		.argtypes = {TEXTOID},
	};
	Datum		values[] = {PointerGetDatum(key_id)};

	oa_statement_run(&count, values, NULL);
	return oa_statement_bool(0, 1);
}

/*
 * May a person change the expiry of a key to this?  As with rotations alone, two
 * keys of a line are good at most.
 */
static bool
check_for_person(text *key_id, const OaKeyChange *change, const LockedKey *key,
				 OaFault *fault)
{
	if (!key->has_expiry ||
		(change->has_expiry && change->expires_at <= key->expires_at) ||
		!has_full_line(key_id))
		return true;
	fault->param = "expires_at";
	fault->rule = "must not be later while two other keys of its rotations are good";
	return false;
}

/*
 * A time in the past, from a person, has the key expire now, or leaves it expired
 * since when it is: it must not count as dead for longer.
 */
static void
expire_now(OaKeyChange *change, LockedKey *key)
{
	TimestampTz now = GetCurrentTimestamp();

	if (!change->has_expiry || change->expires_at > now)
		return;
	key->same_expiry = key->has_expiry && key->expires_at <= now;
	change->expires_at = key->same_expiry ? key->expires_at : now;
}

/*
 * May the expiry of a key change to this?  An expiry that comes sooner than the
 * one that the key has is not refused for max_key_lifetime.  The fault is for
 * the caller of oa_change_key(), so it must not be in SPI's memory.
 */
static bool
check_new_expiry(const OaKeyChange *change, const LockedKey *key,
				 MemoryContext caller, OaFault *fault)
{
	bool		is_sooner = !key->has_expiry ||
	change->expires_at <= key->expires_at;
	TimestampTz latest;

	if (change->has_expiry)
	{
		MemoryContext spi = MemoryContextSwitchTo(caller);
		bool		good = is_sooner ?
		oa_check_expiry_year(change->expires_at, fault) :
		oa_check_expiry(change->expires_at, key->created_at, fault);

		MemoryContextSwitchTo(spi);
		return good;
	}
	if (!key->has_expiry || !oa_latest_expiry(key->created_at, &latest))
		return true;
	fault->param = "expires_at";
	fault->rule = "must not be null while keys have a longest lifetime";
	return false;
}

/* Does a change need room for one more key in the org? */
static bool
needs_room(const OaKeyChange *change, const LockedKey *key)
{
	if (!change->sets_expiry || !key->is_extra || !key->has_expiry)
		return false;
	return !change->has_expiry ||
		(change->expires_at > key->expires_at &&
		 change->expires_at > GetCurrentTimestamp());
}

/* A time for the audit log, in UTC and ISO 8601 whatever the settings are. */
static text *
time_text(TimestampTz time)
{
	char		buffer[MAXDATELEN + 1];
	int			utc = 0;

	return cstring_to_text(JsonEncodeDateTime(buffer, TimestampTzGetDatum(time),
											  TIMESTAMPTZOID, &utc));
}

/* Write to the audit log what has changed. */
static void
audit(const OaKeyChange *change, text *org_id, text *key_id, text *uid)
{
	if (change->sets_expiry)
		oa_audit("set_expiry", org_id, key_id, uid,
				 change->has_expiry ? time_text(change->expires_at) : NULL);
	if (change->sets_scopes)
		oa_audit("set_scopes", org_id, key_id, uid,
				 oa_list_text(change->scopes));
	if (change->sets_addresses)
		oa_audit("set_allowed_addresses", org_id, key_id, uid,
				 oa_list_text(change->allowed_addresses));
	if (change->sets_disabled)
		oa_audit(change->disabled ? "disable_key" : "enable_key", org_id,
				 key_id, uid, change->disabled_reason);
}

/* Leave out of a change what is so already. */
static void
leave_out_same(OaKeyChange *change, const LockedKey *key, text *uid)
{
	if (key->same_expiry)
		change->sets_expiry = false;
	if (key->same_scopes)
		change->sets_scopes = false;
	if (key->same_addresses)
		change->sets_addresses = false;
	if (change->disabled == key->disabled &&
		!(key->disabled && uid == NULL && key->disabled_by_person))
		change->sets_disabled = false;
}

/*
 * Change a key, on behalf of a person if "uid" is not NULL; then the caller has
 * locked the org.  The reason, if any, is a good one.  If a value breaks a
 * rule, returns OA_KEY_CHANGE_REFUSED and the fault.  Nothing is written unless
 * the result is OA_KEY_CHANGED.
 */
OaKeyChanged
oa_change_key(text *org_id, text *key_id, text *uid,
			  const OaKeyChange *wanted, OaFault *fault)
{
	OaKeyChange change = *wanted;
	OaKeyChanged result = OA_KEY_UNCHANGED;
	MemoryContext caller = CurrentMemoryContext;
	LockedKey	key;
	bool		found;
	Datum		values[PARAMETERS];
	bool		nulls[PARAMETERS] = {false};
	int			level;

	if ((change.scopes != NULL &&
		 !oa_check_scopes(&change.scopes, uid != NULL, fault)) ||
		(change.allowed_addresses != NULL &&
		 !oa_check_allowed_addresses(&change.allowed_addresses, fault)))
		return OA_KEY_CHANGE_REFUSED;

	values[ORG_ID] = PointerGetDatum(org_id);
	values[KEY_ID] = PointerGetDatum(key_id);
	values[EXPIRES_AT] = TimestampTzGetDatum(change.expires_at);
	nulls[EXPIRES_AT] = !change.has_expiry;
	values[SCOPES] = PointerGetDatum(change.scopes);
	nulls[SCOPES] = (change.scopes == NULL);
	values[ALLOWED_ADDRESSES] = PointerGetDatum(change.allowed_addresses);
	nulls[ALLOWED_ADDRESSES] = (change.allowed_addresses == NULL);

	level = oa_statements_begin();
	found = lock_key(values, nulls, &key);
	if (found && uid != NULL && change.sets_expiry)
	{
		expire_now(&change, &key);
		values[EXPIRES_AT] = TimestampTzGetDatum(change.expires_at);
	}
	if (!found)
		result = OA_KEY_MISSING;
	else if (key.revoked)
		result = OA_KEY_WAS_REVOKED;
	else if (change.sets_expiry &&
			 (!check_new_expiry(&change, &key, caller, fault) ||
			  (uid != NULL && !check_for_person(key_id, &change, &key, fault))))
		result = OA_KEY_CHANGE_REFUSED;
	else if (change.sets_disabled && !change.disabled && key.disabled &&
			 uid != NULL && !key.disabled_by_person)
		result = OA_KEY_NOT_YOURS_TO_ENABLE;
	else if (uid != NULL && needs_room(&change, &key) &&
			 oa_has_all_keys(org_id, key_id, 0))
		result = OA_KEY_HAS_NO_ROOM;
	else
	{
		leave_out_same(&change, &key, uid);
		if (change.sets_expiry || change.sets_scopes ||
			change.sets_addresses || change.sets_disabled)
		{
			values[SETS_EXPIRY] = BoolGetDatum(change.sets_expiry);
			values[SETS_SCOPES] = BoolGetDatum(change.sets_scopes);
			values[SETS_ADDRESSES] = BoolGetDatum(change.sets_addresses);
			values[SETS_DISABLED] = BoolGetDatum(change.sets_disabled);
			values[DISABLED] = BoolGetDatum(change.disabled);
			values[DISABLED_BY] = PointerGetDatum(uid);
			nulls[DISABLED_BY] = (uid == NULL || !change.disabled);
			values[DISABLED_REASON] = PointerGetDatum(change.disabled_reason);
			nulls[DISABLED_REASON] = (change.disabled_reason == NULL ||
									  !change.disabled);
			write_key(values, nulls);
			audit(&change, org_id, key_id, uid);
			ForceSyncCommit();
			result = OA_KEY_CHANGED;
		}
	}
	oa_statements_end(level);
	return result;
}

/* Change a key for a SQL function, whose first arguments are the ids. */
static Datum
change_key(FunctionCallInfo fcinfo, const OaKeyChange *change)
{
	text	   *org_id = oa_text_argument(fcinfo, 0, "org_id");
	text	   *key_id = oa_text_argument(fcinfo, 1, "key_id");
	OaFault		fault;

	switch (oa_change_key(org_id, key_id, NULL, change, &fault))
	{
		case OA_KEY_CHANGED:
			PG_RETURN_BOOL(true);
		case OA_KEY_UNCHANGED:
			PG_RETURN_BOOL(false);
		case OA_KEY_MISSING:
			oa_key_missing(org_id, key_id);
		case OA_KEY_CHANGE_REFUSED:
			oa_refuse_fault(&fault);
		case OA_KEY_WAS_REVOKED:
			ereport(ERROR,
					(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
					 errmsg("the key is revoked"),
					 errdetail("A revocation is final.")));
		case OA_KEY_NOT_YOURS_TO_ENABLE:
		case OA_KEY_HAS_NO_ROOM:
			break;
	}
	elog(ERROR, "unexpected result of a change");
}

/*
 * overten_set_expiry(org_id text, key_id text, at timestamptz) returns boolean
 *
 * These five return true if the call changed the key.  Errors: 22004 an id is
 * NULL; 22023; 42704; 55000 the key is revoked.
 */
Datum
overten_set_expiry(PG_FUNCTION_ARGS)
{
	OaKeyChange change = {
		.sets_expiry = true,
		.has_expiry = !PG_ARGISNULL(2),
	};

	if (change.has_expiry)
		change.expires_at = PG_GETARG_TIMESTAMPTZ(2);
	return change_key(fcinfo, &change);
}

/* overten_set_scopes(org_id text, key_id text, scopes text[]) returns boolean */
Datum
overten_set_scopes(PG_FUNCTION_ARGS)
{
	OaKeyChange change = {
		.sets_scopes = true,
		.scopes = PG_ARGISNULL(2) ? NULL : PG_GETARG_ARRAYTYPE_P(2),
	};

	return change_key(fcinfo, &change);
}

/*
 * overten_set_allowed_addresses(org_id text, key_id text,
 * 		allowed_addresses cidr[]) returns boolean
 */
Datum
overten_set_allowed_addresses(PG_FUNCTION_ARGS)
{
	OaKeyChange change = {
		.sets_addresses = true,
		.allowed_addresses = PG_ARGISNULL(2) ? NULL : PG_GETARG_ARRAYTYPE_P(2),
	};

	return change_key(fcinfo, &change);
}

/* overten_disable_key(org_id text, key_id text, reason text) returns boolean */
Datum
overten_disable_key(PG_FUNCTION_ARGS)
{
	OaKeyChange change = {
		.sets_disabled = true,
		.disabled = true,
		.disabled_reason = oa_reason_argument(fcinfo, 2),
	};

	return change_key(fcinfo, &change);
}

/* overten_enable_key(org_id text, key_id text) returns boolean */
Datum
overten_enable_key(PG_FUNCTION_ARGS)
{
	OaKeyChange change = {.sets_disabled = true};

	return change_key(fcinfo, &change);
}
