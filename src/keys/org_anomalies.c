/*
 * org_anomalies.c
 *		Finds anomalies in the histories of many keys in one statement.
 *
 * The rules are those of key_anomalies.c, and each key's rows are the same as
 * there.  The report on an org includes what is counted in shared memory.  The
 * report on all keys reads the tables alone, because an operator who looks at
 * everything can wait for the next flush.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

#include "keys/keys.h"
#include "orgs/orgs.h"
#include "server/server.h"
#include "usage/usage.h"

PG_FUNCTION_INFO_V1(overten_org_anomalies);
PG_FUNCTION_INFO_V1(overten_all_anomalies);

/* The rows of all rules for key k, numbered in the order of the rules. */
#define RULE(number, name, arguments) \
	"SELECT " #number " AS rule, r.* FROM overten_auth." name \
	"(k.key_id, " arguments ") r"

#define RULES(arguments) \
	"CROSS JOIN LATERAL (" \
	RULE(1, "anomaly_used_after_revocation", arguments) " UNION ALL " \
	RULE(2, "anomaly_woke", arguments) " UNION ALL " \
	RULE(3, "anomaly_rise", arguments) " UNION ALL " \
	RULE(4, "anomaly_new_address", arguments) " UNION ALL " \
	RULE(5, "anomaly_limited", arguments) ") a "

#define COLUMNS \
	"k.org_id, k.key_id, k.name, k.prefix, a.kind, a.client_addr, " \
	"a.first_at, a.last_at, a.observed, a.expected, a.reference_at, a.detail "

#define ORDER(first) \
	"ORDER BY " first "k.created_at, k.key_id, a.rule, a.observed DESC, " \
	"a.client_addr"

/*
 * Those of the keys of org $1, where "the last day" is since $2.  The other
 * arguments are the counts of the keys.
 */
static OaStatement find_in_org = {
	.table = "key_usage",
	.text = "SELECT " COLUMNS
	"FROM overten_auth.api_keys k LEFT JOIN ("
	"SELECT key_id, array_agg(hour) AS hours, "
	"array_agg(client_addr) AS client_addrs, "
	"array_agg(accepted) AS accepted, array_agg(refused) AS refused, "
	"array_agg(limited) AS limited, "
	"array_agg(first_used_at) AS first, array_agg(last_used_at) AS last "
	"FROM unnest($3, $4, $5, $6, $7, $8, $9, $10) u (key_id, hour, "
	"client_addr, accepted, refused, limited, first_used_at, last_used_at) "
	"GROUP BY key_id) c "
	"ON c.key_id = k.key_id "
	RULES("$2, COALESCE(c.hours, '{}'), COALESCE(c.client_addrs, '{}'), "
		  "COALESCE(c.accepted, '{}'), COALESCE(c.refused, '{}'), "
		  "COALESCE(c.limited, '{}'), COALESCE(c.first, '{}'), "
		  "COALESCE(c.last, '{}')")
	"WHERE k.org_id = $1 AND k.erased_at IS NULL "
	ORDER(""),
	.argtypes = {TEXTOID, TIMESTAMPTZOID, TEXTARRAYOID, TIMESTAMPTZARRAYOID,
		INETARRAYOID, INT8ARRAYOID, INT8ARRAYOID, INT8ARRAYOID,
	TIMESTAMPTZARRAYOID, TIMESTAMPTZARRAYOID},
};

/*
 * Those of all keys, where "the last day" is since $1.  No rule has a row for a
 * key that was neither used in the last day nor tried after its revocation.
 */
static OaStatement find_in_all = {
	.table = "key_usage",
	.text = "SELECT " COLUMNS
	"FROM (SELECT key_id FROM overten_auth.key_usage "
	"WHERE hour >= date_trunc('hour', $1, 'UTC') "
	"UNION SELECT key_id FROM overten_auth.key_usage WHERE refused > 0) u "
	"JOIN overten_auth.api_keys k ON k.key_id = u.key_id "
	RULES("$1")
	ORDER("k.org_id, "),
	.argtypes = {TIMESTAMPTZOID},
};

/* Return the ids of an org's keys. */
static Datum *
find_keys(text *org_id, int *count)
{
	static OaStatement find = {
		.table = "api_keys",
		.latest = true,
		.text = "SELECT key_id FROM overten_auth.api_keys "
		"WHERE org_id = $1 AND erased_at IS NULL",
		.argtypes = {TEXTOID},
	};
	Datum		org = PointerGetDatum(org_id);

	*count = (int) oa_statement_run(&find, &org, NULL);
	return oa_statement_column(*count, 1);
}

/*
 * overten_org_anomalies(org_id text)
 * 		returns setof org_id, key_id, name, prefix, kind, client_addr,
 * 		first_at, last_at, observed, expected, reference_at, detail
 *
 * Returns what overten_key_anomalies() returns for each key of an org, in the
 * order of the keys' creation.  Errors: 22004, 42704.
 */
Datum
overten_org_anomalies(PG_FUNCTION_ARGS)
{
	text	   *org_id = oa_text_argument(fcinfo, 0, "org_id");
	Datum		arrays[OA_USE_COLUMNS];
	Datum		values[2 + OA_USE_COLUMNS];
	OaExactRead read;
	Datum	   *key_ids;
	int			keys;
	int			level;

	oa_begin_set(fcinfo);
	level = oa_statements_begin();
	oa_require_org(org_id);
	key_ids = find_keys(org_id, &keys);
	oa_exact_read_begin(&read, key_ids, keys, DT_NOBEGIN, DT_NOEND);
	oa_make_use_arrays(read.uses, read.count, OA_USE_COLUMNS, arrays);
	values[0] = PointerGetDatum(org_id);
	values[1] = TimestampTzGetDatum(GetCurrentTimestamp() - USECS_PER_DAY);
	memcpy(&values[2], arrays, sizeof(arrays));
	oa_statement_run_under(&find_in_org, values, NULL, read.snapshot);
	oa_statement_return_rows(fcinfo);
	oa_exact_read_end(&read);
	oa_statements_end(level);
	return (Datum) 0;
}

/*
 * overten_all_anomalies()
 * 		returns setof the same columns
 *
 * Returns the anomalies of the keys of all orgs, as far as their uses have been
 * flushed into the tables.
 */
Datum
overten_all_anomalies(PG_FUNCTION_ARGS)
{
	Datum		values[] = {
		TimestampTzGetDatum(GetCurrentTimestamp() - USECS_PER_DAY),
	};
	int			level;

	oa_begin_set(fcinfo);
	level = oa_statements_begin();
	oa_statement_run(&find_in_all, values, NULL);
	oa_statement_return_rows(fcinfo);
	oa_statements_end(level);
	return (Datum) 0;
}
