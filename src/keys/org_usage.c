/*
 * org_usage.c
 *		Sums up the history of an org's keys, to bill from and to look at.
 *
 * The sums are about the hours that begin in the period, so that of two
 * adjoining periods exactly one has each hour.  Hours and days without uses
 * have no rows.
 *
 * Test keys are left out: nobody is billed for them.
 *
 * They include what is counted in shared memory; see unflushed_uses.c.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

#include "keys/keys.h"
#include "orgs/orgs.h"
#include "server/server.h"
#include "usage/usage.h"

PG_FUNCTION_INFO_V1(overten_org_usage);

static OaStatement find_keys = {
	.table = "api_keys",
	.latest = true,
	.text = "SELECT key_id FROM overten_auth.api_keys "
	"WHERE org_id = $1 AND environment = 'live' AND erased_at IS NULL",
	.argtypes = {TEXTOID},
};

/* Return the ids of an org's live keys, if anything is counted at all. */
static Datum *
find_counted_keys(text *org_id, int *count)
{
	Datum		org = PointerGetDatum(org_id);
	int32	   *hours;

	*count = 0;
	if (oa_counted_hours(&hours) == 0)
		return NULL;
	*count = (int) oa_statement_run(&find_keys, &org, NULL);
	return oa_statement_column(*count, 1);
}

/*
 * The uses of org $1 in the hours from $2 to $3.  $4 to $9 are the counts of its
 * live keys.
 */
#define USES \
	"SELECT t.key_id, t.hour, t.client_addr, t.accepted, t.refused, " \
	"t.limited " \
	"FROM overten_auth.api_keys o JOIN overten_auth.key_usage t " \
	"ON t.key_id = o.key_id " \
	"WHERE o.org_id = $1 AND o.environment = 'live' " \
	"AND t.hour >= $2 AND t.hour < $3 " \
	"UNION ALL " \
	"SELECT * FROM unnest($4, $5, $6, $7, $8, $9) c"

#define USES_ARGUMENTS \
	TEXTOID, TIMESTAMPTZOID, TIMESTAMPTZOID, TEXTARRAYOID, \
	TIMESTAMPTZARRAYOID, INETARRAYOID, INT8ARRAYOID, INT8ARRAYOID, \
	INT8ARRAYOID

#define U "u (key_id, hour, client_addr, accepted, refused, limited)"

#define SUMS \
	OA_SUM("u.accepted") " AS accepted, " \
	OA_SUM("u.refused") " AS refused, " \
	OA_SUM("u.limited") " AS limited "

/* Their sums by key and hour. */
static OaStatement sum_usage = {
	.table = "key_usage",
	.text = "SELECT k.key_id, k.name, k.prefix, s.hour, s.accepted, s.refused, "
	"s.limited FROM (SELECT u.key_id, u.hour, " SUMS
	"FROM (" USES ") " U " GROUP BY u.key_id, u.hour) s "
	"JOIN overten_auth.api_keys k ON k.key_id = s.key_id "
	"WHERE k.org_id = $1 AND k.erased_at IS NULL "
	"ORDER BY k.created_at, k.key_id, s.hour",
	.argtypes = {USES_ARGUMENTS},
};

/*
 * Their sums by $10, which is 'hour', 'day' or NULL, and also by key, if $11.
 * Days are those of UTC.
 */
static OaStatement group_usage = {
	.table = "key_usage",
	.text = "SELECT k.key_id, k.name, k.prefix, s.start, s.accepted, s.refused, "
	"s.limited, NULL FROM (SELECT CASE WHEN $11 THEN u.key_id END AS key_id, "
	"date_trunc($10, u.hour, 'UTC') AS start, " SUMS
	"FROM (" USES ") " U " GROUP BY 1, 2) s "
	"LEFT JOIN overten_auth.api_keys k ON k.key_id = s.key_id "
	"ORDER BY k.created_at, k.key_id, s.start",
	.argtypes = {USES_ARGUMENTS, TEXTOID, BOOLOID},
};

/*
 * Their sums by key alone, with the number of addresses that used the key.  They
 * are counted by grouping, which does not sort the history.
 */
static OaStatement sum_keys = {
	.table = "key_usage",
	.text = "SELECT k.key_id, k.name, k.prefix, NULL::timestamptz, s.accepted, s.refused, "
	"s.limited, s.addresses FROM (SELECT u.key_id, " SUMS ", "
	"count(u.client_addr) FILTER (WHERE u.accepted > 0) AS addresses "
	"FROM (SELECT u.key_id, u.client_addr, " SUMS
	"FROM (" USES ") " U " GROUP BY 1, 2) u GROUP BY u.key_id) s "
	"LEFT JOIN overten_auth.api_keys k ON k.key_id = s.key_id "
	"ORDER BY k.created_at, k.key_id",
	.argtypes = {USES_ARGUMENTS},
};

/*
 * Run one of the three.  Must be called between oa_statements_begin() and
 * _end().
 */
static int
run(OaStatement *statement, text *org_id, const OaPeriod *period,
	const char *unit, bool by_key)
{
	int			keys;
	Datum	   *key_ids = find_counted_keys(org_id, &keys);
	Datum		arrays[OA_USE_COLUMNS];
	Datum		values[11];
	const bool	nulls[lengthof(values)] = {[9] = (unit == NULL)};
	OaExactRead read;
	int			count;

	oa_exact_read_begin(&read, key_ids, keys, period->since, period->until);
	oa_make_use_arrays(read.uses, read.count, OA_USE_COLUMNS, arrays);
	values[0] = PointerGetDatum(org_id);
	values[1] = TimestampTzGetDatum(period->since);
	values[2] = TimestampTzGetDatum(period->until);
	values[3] = arrays[OA_USE_KEY_ID];
	values[4] = arrays[OA_USE_HOUR];
	values[5] = arrays[OA_USE_CLIENT_ADDR];
	values[6] = arrays[OA_USE_ACCEPTED];
	values[7] = arrays[OA_USE_REFUSED];
	values[8] = arrays[OA_USE_LIMITED];
	values[9] = unit != NULL ? CStringGetTextDatum(unit) : (Datum) 0;
	values[10] = BoolGetDatum(by_key);
	count = (int) oa_statement_run_under(statement, values, nulls,
										 read.snapshot);
	oa_exact_read_end(&read);
	return count;
}

/*
 * Call back for each sum of an org's uses: by key, if by_key is true, and by
 * hour or day, if "unit" is "hour" or "day"; it may be NULL.  The order is that
 * of the keys' creation, then of time.  The callback's argument is valid only
 * during the call.
 */
void
oa_org_usage(text *org_id, const OaPeriod *period, const char *unit,
			 bool by_key, OaOrgUsageCallback callback, void *argument)
{
	int			level = oa_statements_begin();
	bool		by_key_alone = by_key && unit == NULL;
	int			count = run(by_key_alone ? &sum_keys : &group_usage, org_id,
							period, unit, by_key);

	for (int row = 0; row < count; row++)
	{
		OaOrgUsage	usage;
		bool		isnull;

		usage.key_id = oa_statement_text_or_null(row, 1);
		usage.name = oa_statement_text_or_null(row, 2);
		usage.prefix = oa_statement_text_or_null(row, 3);
		usage.start = oa_statement_time(row, 4, &isnull);
		usage.accepted = oa_statement_int64(row, 5);
		usage.refused = oa_statement_int64(row, 6);
		usage.limited = oa_statement_int64(row, 7);
		usage.addresses = by_key_alone ?
			oa_statement_int64(row, 8) : 0;
		callback(&usage, argument);
	}
	oa_statements_end(level);
}

/*
 * overten_org_usage(org_id text, since timestamptz, until timestamptz)
 * 		returns setof key_id, name, prefix, hour, accepted, refused, limited
 *
 * Returns sums over all addresses, by key and hour, of the hours that begin in
 * [since, until).  Errors: 22004, 22023 since is later than until or one of
 * them is infinite, 42704.
 */
Datum
overten_org_usage(PG_FUNCTION_ARGS)
{
	text	   *org_id = oa_text_argument(fcinfo, 0, "org_id");
	OaPeriod	period;
	int			level;

	oa_require_argument(fcinfo, 1, "since");
	oa_require_argument(fcinfo, 2, "until");
	period = oa_period_arguments(fcinfo, 1);

	oa_begin_set(fcinfo);
	level = oa_statements_begin();
	oa_require_org(org_id);
	run(&sum_usage, org_id, &period, NULL, false);
	oa_statement_return_rows(fcinfo);
	oa_statements_end(level);
	return (Datum) 0;
}
