/*
 * key_anomalies.c
 *		Finds anomalies in the history of a key, which a person should look
 *		at.
 *
 * The rules are SQL functions of the schema overten_auth, where one can run and
 * EXPLAIN them.  They get what is counted of the key in shared memory as
 * arguments (unflushed_uses.c).  The planner puts them into the statements
 * below, so their plans are kept, too.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

#include "keys/keys.h"
#include "server/server.h"
#include "usage/usage.h"

PG_FUNCTION_INFO_V1(overten_key_anomalies);

#define RULE(name) \
	{ \
		.table = "key_usage", \
		.text = "SELECT * FROM overten_auth." name \
		"($1, $2, $3, $4, $5, $6, $7, $8, $9)", \
		.argtypes = {TEXTOID, TIMESTAMPTZOID, TIMESTAMPTZARRAYOID, \
			INETARRAYOID, INT8ARRAYOID, INT8ARRAYOID, INT8ARRAYOID, \
			TIMESTAMPTZARRAYOID, TIMESTAMPTZARRAYOID}, \
	}

static OaStatement rules[] = {
	RULE("anomaly_used_after_revocation"),
	RULE("anomaly_woke"),
	RULE("anomaly_rise"),
	RULE("anomaly_new_address"),
	RULE("anomaly_limited"),
};

/* The arguments of the rules, and the snapshot to run them under. */
typedef struct Question
{
	OaExactRead read;
	Datum		values[2 + OA_USE_COLUMNS - OA_USE_HOUR];
} Question;

/* These three must be called between oa_statements_begin() and _end(). */
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
 * rules.  The callback's argument is valid only during the call.
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
			bool		unknown;
			Datum		address = oa_statement_result(row, 2, INETOID,
													  &unknown);
			Datum		expected = oa_statement_result(row, 6, NUMERICOID,
													   NULL);

			anomaly.kind = DatumGetTextPP(oa_statement_result(row, 1, TEXTOID,
															  NULL));
			anomaly.client_addr = unknown ? NULL : oa_inet_text(address);
			anomaly.first_at = oa_statement_time(row, 3, NULL);
			anomaly.last_at = oa_statement_time(row, 4, NULL);
			anomaly.observed = oa_statement_int64(row, 5);
			anomaly.expected = DatumGetCString(DirectFunctionCall1(numeric_out,
																   expected));
			anomaly.reference_at =
				oa_statement_time(row, 7, &anomaly.has_no_reference);
			anomaly.detail = DatumGetTextPP(oa_statement_result(row, 8, TEXTOID,
																NULL));
			callback(&anomaly, argument);
		}
	}
	end_question(&question);
	oa_statements_end(level);
}

/*
 * overten_key_anomalies(org_id text, key_id text)
 * 		returns setof kind, client_addr, first_at, last_at, observed, expected,
 * 		reference_at, detail
 *
 * Returns the anomalies in a key's history by the rules above, which a person
 * should look at, or no row.  Errors: 22004, 42704.
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
