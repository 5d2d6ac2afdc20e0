/*
 * key_limits.c
 *		Counts the keys of an org against its limits.
 *
 * The limits are for customers.  So they are checked for a key that a person
 * mints, rotates or makes good again, and not for what the application does.
 *
 * The caller has locked the org's row.  We count under the latest snapshot, so
 * that we see what the transactions have committed that had the lock before.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "utils/timestamp.h"

#include "keys/keys.h"
#include "server/server.h"
#include "settings.h"

/* How long a key counts after it was revoked or has expired. */
#define DEAD_KEYS_COUNT	(90 * USECS_PER_DAY)

/*
 * Does an org have as many keys as it can have, apart from the key "except" or
 * NULL?  "replaced" of its active keys do not count as active.  A disabled key
 * counts as active, because it can be enabled.  Keys that have been dead for a
 * long time do not count: a loop of minting and revoking should end, but an org
 * that has rotated its keys for years should not.
 *
 * Must be called between oa_statements_begin() and _end().
 */
bool
oa_has_all_keys(text *org_id, text *except, int replaced)
{
	static OaStatement count = {
		.table = "api_keys",
		.latest = true,
		.text = "SELECT count(*) FILTER (WHERE " OA_KEY_IS_ACTIVE("k") ") "
		"- $4 >= $2 OR count(*) FILTER (WHERE " OA_KEY_IS_ACTIVE("k") " "
		"OR LEAST(k.revoked_at, k.expires_at) > $5) >= $3 "
		"FROM overten_auth.api_keys k "
		"WHERE k.org_id = $1 AND k.erased_at IS NULL "
		"AND k.key_id IS DISTINCT FROM $6",
		.argtypes = {TEXTOID, INT4OID, INT4OID, INT4OID, TIMESTAMPTZOID,
		TEXTOID},
	};
	Datum		values[] = {
		PointerGetDatum(org_id),
		Int32GetDatum(oa_max_keys_per_org),
		Int32GetDatum(oa_max_keys_total_per_org),
		Int32GetDatum(replaced),
		TimestampTzGetDatum(GetCurrentTimestamp() - DEAD_KEYS_COUNT),
		PointerGetDatum(except),
	};
	const bool	nulls[lengthof(values)] = {[5] = (except == NULL)};

	oa_statement_run(&count, values, nulls);
	return oa_statement_bool(0, 1);
}
