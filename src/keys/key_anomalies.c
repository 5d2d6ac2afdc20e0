/*
 * key_anomalies.c
 *		Finds in the history of a key what a person should look at.
 *
 * Each rule is a statement of its own that reads the key's rows and returns
 * what it finds in the columns of overten_key_anomalies(): figures and a
 * sentence, so that a person can judge.  $1 is the key, $2 the time 24 hours
 * ago; "the last day" is since then.  The other arguments are what is counted
 * of the key in shared memory (unflushed_uses.c); so an hour and address can be
 * in two rows, and a rule that wants one has to sum.  Only accepted uses count,
 * but for the first rule.  Addresses that are not known are never new.  A rule that finds
 * many addresses returns the 100 with the most requests, and says in each how
 * many there are.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

#include "keys/keys.h"
#include "server/server.h"
#include "usage/usage.h"

PG_FUNCTION_INFO_V1(overten_key_anomalies);

#define COLUMNS			8
#define ROWS_OF_A_KEY	"FROM (" \
	"SELECT hour, client_addr, accepted, refused, first_used_at, " \
	"last_used_at FROM overten_auth.key_usage " \
	"WHERE key_id OPERATOR(pg_catalog.=) $1 UNION ALL " \
	"SELECT * FROM ROWS FROM (pg_catalog.unnest($3), " \
	"pg_catalog.unnest($4), pg_catalog.unnest($5), pg_catalog.unnest($6), " \
	"pg_catalog.unnest($7), pg_catalog.unnest($8)) c) " \
	"usage (hour, client_addr, accepted, refused, first_used_at, " \
	"last_used_at) WHERE "
#define USES_OF_A_KEY	ROWS_OF_A_KEY "accepted OPERATOR(pg_catalog.>) 0 "
#define ARGUMENTS \
	.argtypes = {TEXTOID, TIMESTAMPTZOID, TIMESTAMPTZARRAYOID, \
		INETARRAYOID, INT8ARRAYOID, INT8ARRAYOID, TIMESTAMPTZARRAYOID, \
		TIMESTAMPTZARRAYOID}
#define DATE(time)		"pg_catalog.to_char(pg_catalog.timezone('UTC', " \
	time "), 'YYYY-MM-DD')"
#define ADDRESS(address) "CASE WHEN " address " IS NULL " \
	"THEN 'unknown addresses' " \
	"ELSE pg_catalog.format('%s', " address ") END"
#define FIRST_HOUR		"pg_catalog.date_trunc('hour', $2, 'UTC')"

static OaStatement rules[] = {
	/*
	 * used_after_revocation: attempts with a key that was revoked, in all of
	 * the history, by address.
	 */
	{
		.table = "key_usage",
		.text = "WITH attempt AS ("
		"SELECT client_addr, pg_catalog.min(first_used_at) AS first_at, "
		"pg_catalog.max(last_used_at) AS last_at, "
		"pg_catalog.sum(refused) AS refused "
		ROWS_OF_A_KEY "refused OPERATOR(pg_catalog.>) 0 "
		"GROUP BY client_addr) "
		"SELECT 'used_after_revocation'::pg_catalog.text, a.client_addr, "
		"GREATEST(a.first_at, k.revoked_at), a.last_at, "
		"a.refused::pg_catalog.int8, 0::pg_catalog.numeric, k.revoked_at, "
		"pg_catalog.format('After the key was revoked, %s made %s of %s "
		"requests. Addresses in all: %s.', "
		ADDRESS("a.client_addr") ", a.refused, "
		"pg_catalog.sum(a.refused) OVER (), pg_catalog.count(*) OVER ()) "
		"FROM attempt a JOIN overten_auth.api_keys k "
		"ON k.key_id OPERATOR(pg_catalog.=) $1 "
		"ORDER BY a.refused DESC, a.client_addr LIMIT 100",
		ARGUMENTS,
	},

	/*
	 * woke: the first use of the last day comes 30 days or more after the use
	 * before.  If the history has none before, the time of minting stands for
	 * it, provided that some key's history goes back so far: else it is the
	 * history that has just begun.
	 */
	{
		.table = "key_usage",
		.text = "WITH use AS ("
		"SELECT pg_catalog.min(first_used_at) "
		"FILTER (WHERE first_used_at OPERATOR(pg_catalog.>=) $2) AS woke_at, "
		"pg_catalog.max(last_used_at) "
		"FILTER (WHERE first_used_at OPERATOR(pg_catalog.<) $2) AS slept_at, "
		"pg_catalog.max(last_used_at) AS last_at, "
		"pg_catalog.sum(accepted) "
		"FILTER (WHERE first_used_at OPERATOR(pg_catalog.>=) $2) AS uses "
		USES_OF_A_KEY "), "
		"history AS ("
		"SELECT pg_catalog.min(hour) AS since FROM overten_auth.key_usage), "
		"sleep AS ("
		"SELECT u.woke_at, u.slept_at, u.last_at, u.uses, "
		"h.since AS history_since, COALESCE(u.slept_at, "
		"CASE WHEN h.since OPERATOR(pg_catalog.<=) "
		"(u.woke_at OPERATOR(pg_catalog.-) '720 hours'::pg_catalog.interval) "
		"THEN k.created_at END) AS since "
		"FROM use u CROSS JOIN history h JOIN overten_auth.api_keys k "
		"ON k.key_id OPERATOR(pg_catalog.=) $1), "
		"long_sleep AS ("
		"SELECT s.woke_at, s.slept_at, s.last_at, s.uses, s.history_since, "
		"s.since, pg_catalog.floor(pg_catalog.extract('epoch', "
		"s.woke_at OPERATOR(pg_catalog.-) s.since) "
		"OPERATOR(pg_catalog./) 86400) AS days FROM sleep s "
		"WHERE s.since OPERATOR(pg_catalog.<=) (s.woke_at "
		"OPERATOR(pg_catalog.-) '720 hours'::pg_catalog.interval)) "
		"SELECT 'woke'::pg_catalog.text, "
		"(SELECT client_addr " USES_OF_A_KEY
		"AND first_used_at OPERATOR(pg_catalog.=) s.woke_at "
		"ORDER BY client_addr LIMIT 1), "
		"s.woke_at, s.last_at, s.uses::pg_catalog.int8, "
		"0::pg_catalog.numeric, s.since, "
		"CASE WHEN s.slept_at IS NOT NULL "
		"THEN pg_catalog.format('Used again after %s days without use.', "
		"s.days) ELSE pg_catalog.format('Used for the first time in the "
		"history since %s, %s days after the key was minted.', "
		DATE("s.history_since") ", s.days) END FROM long_sleep s",
		ARGUMENTS,
	},

	/*
	 * rise: an hour of the last day with at least 100 uses, 10 times the mean
	 * of the hours with any use in the 28 days before, and twice the largest
	 * of those, of which there must be 3.  The largest keeps a key that has
	 * its busy hour each night from being reported each night.  One row for
	 * all such hours, with the figures of the largest and its first address.
	 */
	{
		.table = "key_usage",
		.text = "WITH hourly AS ("
		"SELECT hour, pg_catalog.sum(accepted) AS uses, "
		"pg_catalog.min(first_used_at) AS first_at, "
		"pg_catalog.max(last_used_at) AS last_at "
		USES_OF_A_KEY
		"AND hour OPERATOR(pg_catalog.>=) (" FIRST_HOUR
		" OPERATOR(pg_catalog.-) '672 hours'::pg_catalog.interval) "
		"GROUP BY hour), "
		"before AS ("
		"SELECT pg_catalog.count(*) AS hours, pg_catalog.avg(uses) AS mean, "
		"pg_catalog.max(uses) AS most, pg_catalog.min(hour) AS since "
		"FROM hourly WHERE hour OPERATOR(pg_catalog.<) " FIRST_HOUR "), "
		"peak AS ("
		"SELECT h.hour, h.uses, pg_catalog.count(*) OVER () AS hours, "
		"pg_catalog.min(h.first_at) OVER () AS first_at, "
		"pg_catalog.max(h.last_at) OVER () AS last_at "
		"FROM hourly h JOIN before b ON b.hours OPERATOR(pg_catalog.>=) 3 "
		"AND h.hour OPERATOR(pg_catalog.>=) " FIRST_HOUR
		" AND h.uses OPERATOR(pg_catalog.>=) 100 AND h.uses "
		"OPERATOR(pg_catalog.>=) (10 OPERATOR(pg_catalog.*) b.mean) "
		"AND h.uses "
		"OPERATOR(pg_catalog.>=) (2 OPERATOR(pg_catalog.*) b.most) "
		"ORDER BY h.uses DESC, h.hour LIMIT 1) "
		"SELECT 'rise'::pg_catalog.text, a.client_addr, p.first_at, "
		"p.last_at, p.uses::pg_catalog.int8, pg_catalog.round(b.mean, 1), "
		"b.since, "
		"pg_catalog.format('%s uses in the hour from %s UTC, %s of them from "
		"%s. The %s hours with use since %s had %s on average and %s at "
		"most. Hours of the last day like this: %s.', p.uses, "
		"pg_catalog.to_char(pg_catalog.timezone('UTC', p.hour), "
		"'YYYY-MM-DD HH24:MI'), a.accepted, " ADDRESS("a.client_addr") ", "
		"b.hours, " DATE("b.since") ", pg_catalog.round(b.mean, 1), b.most, "
		"p.hours) "
		"FROM before b CROSS JOIN peak p CROSS JOIN LATERAL ("
		"SELECT client_addr, pg_catalog.sum(accepted) AS accepted "
		USES_OF_A_KEY "AND hour OPERATOR(pg_catalog.=) p.hour "
		"GROUP BY client_addr "
		"ORDER BY accepted DESC, client_addr LIMIT 1) a",
		ARGUMENTS,
	},

	/*
	 * new_address: an address whose first use in the history is of the last
	 * day, if the history has other addresses from before.
	 */
	{
		.table = "key_usage",
		.text = "WITH address AS ("
		"SELECT client_addr, pg_catalog.min(first_used_at) AS first_at, "
		"pg_catalog.max(last_used_at) AS last_at, "
		"pg_catalog.sum(accepted) AS uses "
		USES_OF_A_KEY "AND client_addr IS NOT NULL GROUP BY client_addr), "
		"history AS ("
		"SELECT pg_catalog.min(first_at) AS since, "
		"pg_catalog.count(*) "
		"FILTER (WHERE first_at OPERATOR(pg_catalog.<) $2) AS known, "
		"pg_catalog.count(*) "
		"FILTER (WHERE first_at OPERATOR(pg_catalog.>=) $2) AS fresh "
		"FROM address) "
		"SELECT 'new_address'::pg_catalog.text, a.client_addr, a.first_at, "
		"a.last_at, a.uses::pg_catalog.int8, 0::pg_catalog.numeric, "
		"h.since, "
		"pg_catalog.format('%s was not seen before the last day. New "
		"addresses in the last day: %s. Addresses known before, since %s: "
		"%s.', a.client_addr, h.fresh, " DATE("h.since") ", h.known) "
		"FROM address a JOIN history h "
		"ON h.known OPERATOR(pg_catalog.>) 0 "
		"AND a.first_at OPERATOR(pg_catalog.>=) $2 "
		"ORDER BY a.uses DESC, a.client_addr LIMIT 100",
		ARGUMENTS,
	},
};

/* The arguments of the rules, and the snapshot to run them under. */
typedef struct Question
{
	OaExactRead read;
	Datum		values[2 + OA_USE_COLUMNS - OA_USE_HOUR];
} Question;

/* Called while statements run, as are the next two. */
static void
begin_question(Question *question, text *key_id)
{
	Datum		key = PointerGetDatum(key_id);
	Datum		arrays[OA_USE_COLUMNS];

	oa_exact_read_begin(&question->read, &key, 1, DT_NOBEGIN, DT_NOEND);
	oa_make_use_arrays(question->read.uses, question->read.count,
					   OA_USE_COLUMNS, arrays);
	question->values[0] = key;
	question->values[1] =
		TimestampTzGetDatum(GetCurrentTimestamp() - USECS_PER_DAY);
	memcpy(&question->values[2], &arrays[OA_USE_HOUR],
		   (OA_USE_COLUMNS - OA_USE_HOUR) * sizeof(Datum));
}

/* Run a rule.  Returns the number of rows. */
static int
run_rule(int rule, const Question *question)
{
	return (int) oa_statement_run_under(&rules[rule], question->values, NULL,
										question->read.snapshot);
}

static void
end_question(Question *question)
{
	oa_exact_read_end(&question->read);
}

/*
 * Call back for each anomaly in the history of a key, in the order of the
 * rules.  What the callback gets is gone afterwards.
 */
void
oa_key_anomalies(text *key_id, OaAnomalyCallback callback, void *argument)
{
	int			level = oa_statements_begin();
	Question	question;

	begin_question(&question, key_id);
	for (int rule = 0; rule < lengthof(rules); rule++)
	{
		int			count = run_rule(rule, &question);

		for (int row = 0; row < count; row++)
		{
			OaAnomaly	anomaly;
			Datum		values[COLUMNS];
			bool		nulls[COLUMNS];

			for (int i = 0; i < COLUMNS; i++)
				values[i] = oa_statement_result(row, i + 1, &nulls[i]);
			anomaly.kind = DatumGetTextPP(values[0]);
			anomaly.client_addr = nulls[1] ? NULL : oa_inet_text(values[1]);
			anomaly.first_at = DatumGetTimestampTz(values[2]);
			anomaly.last_at = DatumGetTimestampTz(values[3]);
			anomaly.observed = DatumGetInt64(values[4]);
			anomaly.expected = DatumGetCString(DirectFunctionCall1(numeric_out,
																   values[5]));
			anomaly.reference_at = DatumGetTimestampTz(values[6]);
			anomaly.has_no_reference = nulls[6];
			anomaly.detail = DatumGetTextPP(values[7]);
			callback(&anomaly, argument);
		}
	}
	end_question(&question);
	oa_statements_end(level);
}

/*
 * overten_key_anomalies(org_id text, key_id text)
 *		returns setof kind, client_addr, first_at, last_at, observed, expected,
 *		reference_at, detail
 *
 * What in a key's history a person should look at, by the rules above; no row
 * if there is nothing.  Errors: 22004, 42704.
 */
Datum
overten_key_anomalies(PG_FUNCTION_ARGS)
{
	text	   *org_id = oa_text_argument(fcinfo, 0, "org_id");
	text	   *key_id = oa_text_argument(fcinfo, 1, "key_id");
	Question	question;
	int			level;

	oa_begin_set(fcinfo);
	level = oa_statements_begin();
	oa_require_key(org_id, key_id);
	begin_question(&question, key_id);
	for (int rule = 0; rule < lengthof(rules); rule++)
	{
		(void) run_rule(rule, &question);
		oa_statement_return_rows(fcinfo);
	}
	end_question(&question);
	oa_statements_end(level);
	return (Datum) 0;
}
