/*
 * rotation_progress.c
 *		Tells who still uses the old key after a rotation.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "utils/timestamp.h"

#include "keys/keys.h"
#include "server/server.h"
#include "usage/usage.h"

PG_FUNCTION_INFO_V1(overten_rotation_progress);

/* The two keys of a rotation, and when it was. */
typedef struct Rotation
{
	text	   *key_ids[2];		/* the old one, the new one */
	TimestampTz at;
} Rotation;

/*
 * Find the last rotation that a key of an org was part of.  Returns false if
 * there was none.
 */
static bool
find_rotation(text *org_id, text *key_id, Rotation *rotation)
{
	static OaStatement find = {
		.table = "api_keys",
		.text = "SELECT rotated_from, key_id, created_at "
		"FROM overten_auth.api_keys "
		"WHERE org_id = $1 AND rotated_from IS NOT NULL "
		"AND (key_id = $2 OR rotated_from = $2) "
		"ORDER BY created_at DESC, key_id LIMIT 1",
		.argtypes = {TEXTOID, TEXTOID},
	};
	Datum		values[] = {PointerGetDatum(org_id), PointerGetDatum(key_id)};

	if (oa_statement_run(&find, values, NULL) == 0)
		return false;
	rotation->key_ids[0] = oa_statement_text(0, 1);
	rotation->key_ids[1] = oa_statement_text(0, 2);
	rotation->at = oa_statement_time(0, 3, NULL);
	return true;
}

/*
 * Sum the uses of both keys since a rotation, by address.  An hour cannot be
 * divided, so we count the hour of the rotation as a whole, but only for
 * addresses that came after the rotation.
 */
static int
run_sum(const Rotation *rotation)
{
	static OaStatement sum = {
		.table = "key_usage",
		.text = "SELECT k.key_id, k.key_id = $2, $3, "
		"CASE WHEN k.revoked_at IS NULL THEN k.expires_at "
		"ELSE LEAST(k.revoked_at, k.expires_at) END, "
		"u.client_addr, COALESCE(u.accepted, 0), COALESCE(u.refused, 0), "
		"COALESCE(u.limited, 0), COALESCE(u.last_used_at, l.last_used_at) "
		"FROM overten_auth.api_keys k "
		"LEFT JOIN overten_auth.key_last_used l ON l.key_id = k.key_id "
		"LEFT JOIN (SELECT key_id, client_addr, "
		OA_SUM("accepted") " AS accepted, "
		OA_SUM("refused") " AS refused, "
		OA_SUM("limited") " AS limited, "
		"max(last_used_at) AS last_used_at FROM ("
		"SELECT key_id, client_addr, accepted, refused, limited, last_used_at "
		"FROM overten_auth.key_usage "
		"WHERE key_id IN ($1, $2) AND hour >= date_trunc('hour', $3, 'UTC') "
		"UNION ALL "
		"SELECT key_id, client_addr, accepted, refused, limited, last_used_at "
		"FROM unnest($4, $5, $6, $7, $8, $9, $10, $11) AS c (key_id, hour, "
		"client_addr, accepted, refused, limited, first_used_at, "
		"last_used_at)) a "
		"GROUP BY key_id, client_addr HAVING max(last_used_at) >= $3) u "
		"ON u.key_id = k.key_id "
		"WHERE k.key_id IN ($1, $2) "
		"ORDER BY k.key_id = $2, u.last_used_at DESC NULLS LAST, u.client_addr",
		.argtypes = {TEXTOID, TEXTOID, TIMESTAMPTZOID, TEXTARRAYOID,
			TIMESTAMPTZARRAYOID, INETARRAYOID, INT8ARRAYOID, INT8ARRAYOID,
		INT8ARRAYOID, TIMESTAMPTZARRAYOID, TIMESTAMPTZARRAYOID},
	};
	Datum		values[3 + OA_USE_COLUMNS];
	OaExactRead read;
	int			count;

	values[0] = PointerGetDatum(rotation->key_ids[0]);
	values[1] = PointerGetDatum(rotation->key_ids[1]);
	values[2] = TimestampTzGetDatum(rotation->at);
	oa_exact_read_begin(&read, values, 2, rotation->at - USECS_PER_HOUR,
						GetCurrentTimestamp() + USECS_PER_HOUR);
	oa_make_use_arrays(read.uses, read.count, OA_USE_COLUMNS, &values[3]);
	count = (int) oa_statement_run_under(&sum, values, NULL, read.snapshot);
	oa_exact_read_end(&read);
	return count;
}

/*
 * Call back for each key of the last rotation that a key was part of, and for
 * each address that has used it since; the old key comes first.  A key that was
 * not used has one row, without an address.  The callback's argument is valid
 * only during the call.
 */
OaProgressOutcome
oa_rotation_progress(text *org_id, text *key_id, OaProgressCallback callback,
					 void *argument)
{
	OaProgressOutcome outcome = OA_PROGRESS;
	Rotation	rotation;
	int			level = oa_statements_begin();
	int			count = 0;

	if (find_rotation(org_id, key_id, &rotation))
		count = run_sum(&rotation);
	else
		outcome = oa_org_has_key(org_id, key_id) ? OA_NEVER_ROTATED :
			OA_PROGRESS_NO_SUCH_KEY;

	for (int row = 0; row < count; row++)
	{
		OaProgress	progress;
		bool		unknown;
		bool		isnull;
		Datum		address = oa_statement_result(row, 5, INETOID, &unknown);

		progress.key_id = DatumGetTextPP(oa_statement_result(row, 1, TEXTOID, NULL));
		progress.is_new = oa_statement_bool(row, 2);
		progress.rotated_at = rotation.at;
		progress.ends_at = oa_statement_time(row, 4, &isnull);
		progress.has_end = !isnull;
		progress.client_addr = unknown ? NULL : oa_inet_text(address);
		progress.accepted = oa_statement_int64(row, 6);
		progress.refused = oa_statement_int64(row, 7);
		progress.limited = oa_statement_int64(row, 8);
		progress.last_used_at = oa_statement_time(row, 9, &isnull);
		progress.never_used = isnull;
		callback(&progress, argument);
	}
	oa_statements_end(level);
	return outcome;
}

/*
 * overten_rotation_progress(org_id text, key_id text)
 * 		returns setof key_id text, is_new boolean, rotated_at, ends_at
 * 		timestamptz, client_addr inet, accepted, refused, limited bigint,
 * 		last_used_at timestamptz
 *
 * The rows are those of oa_rotation_progress(); there are none if the key was
 * never rotated.  Errors: 22004, 42704.
 */
Datum
overten_rotation_progress(PG_FUNCTION_ARGS)
{
	text	   *org_id = oa_text_argument(fcinfo, 0, "org_id");
	text	   *key_id = oa_text_argument(fcinfo, 1, "key_id");
	Rotation	rotation;
	int			level;

	oa_begin_set(fcinfo);
	level = oa_statements_begin();
	oa_require_key(org_id, key_id);
	if (find_rotation(org_id, key_id, &rotation))
	{
		run_sum(&rotation);
		oa_statement_return_rows(fcinfo);
	}
	oa_statements_end(level);
	return (Datum) 0;
}
