/*
 * usage_rows.c
 *		Writes uses of keys into key_usage and key_last_used.
 *
 * We sort a batch of uses, and pass it to the statements as one array per
 * column.  First we probe the tables.  We leave out keys that are not
 * committed, and those that were erased.  We store at most 64 client addresses
 * of a key in an hour; uses from further addresses are counted without an
 * address.  Only one process at a time writes the history of a database, so
 * the result of the probe stays valid.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "utils/timestamp.h"

#include "server/server.h"
#include "usage/usage.h"

/* Rows for key_usage, with known keys and not too many client addresses. */
typedef struct Rows
{
	OaUses	   *uses;
	int			count;
} Rows;

/*
 * Probe the tables for each use.  Does the key exist?  How many addresses does
 * it have in that hour?  Is this address one of them?  Subqueries use the
 * index, whereas the planner might reverse a join.
 */
static OaStatement probe = {
	.table = "key_usage",
	.text = "SELECT (SELECT true FROM overten_auth.api_keys k "
	"WHERE k.key_id = u.key_id AND k.erased_at IS NULL) IS NOT NULL, r.addresses, r.is_there "
	"FROM unnest($1, $2, $3) WITH ORDINALITY u (key_id, hour, client_addr, n) "
	"CROSS JOIN LATERAL (SELECT count(x.client_addr) AS addresses, "
	"count(*) FILTER (WHERE x.client_addr = u.client_addr) > 0 AS is_there "
	"FROM overten_auth.key_usage x "
	"WHERE x.key_id = u.key_id AND x.hour = u.hour) r "
	"ORDER BY u.n",
	.argtypes = {TEXTARRAYOID, TIMESTAMPTZARRAYOID, INETARRAYOID},
};

/*
 * The sum of two counts, which stops at the maximum so that it cannot
 * overflow.
 */
#define ADD(column) \
	column " = LEAST(t." column ", 9223372036854775807 " \
	"- EXCLUDED." column ") + EXCLUDED." column

static OaStatement add_usage = {
	.table = "key_usage",
	.text = "INSERT INTO overten_auth.key_usage AS t (key_id, hour, client_addr, "
	"accepted, refused, first_used_at, last_used_at) "
	"SELECT * FROM unnest($1, $2, $3, $4, $5, $6, $7) u "
	"ON CONFLICT (key_id, hour, client_addr) DO UPDATE "
	"SET " ADD("accepted") ", " ADD("refused") ", "
	"first_used_at = LEAST(t.first_used_at, EXCLUDED.first_used_at), "
	"last_used_at = GREATEST(t.last_used_at, EXCLUDED.last_used_at)",
	.argtypes = {TEXTARRAYOID, TIMESTAMPTZARRAYOID, INETARRAYOID, INT8ARRAYOID,
	INT8ARRAYOID, TIMESTAMPTZARRAYOID, TIMESTAMPTZARRAYOID},
};

/* Move the time of the last use forward. */
static OaStatement set_last_used = {
	.table = "key_last_used",
	.text = "INSERT INTO overten_auth.key_last_used AS t (key_id, last_used_at) "
	"SELECT u.key_id, u.at FROM unnest($1, $2) u (key_id, at) "
	"ON CONFLICT (key_id) DO UPDATE SET last_used_at = EXCLUDED.last_used_at "
	"WHERE t.last_used_at IS NULL OR t.last_used_at < EXCLUDED.last_used_at",
	.argtypes = {TEXTARRAYOID, TIMESTAMPTZARRAYOID},
};

static int
compare_uses(const void *a, const void *b)
{
	const OaUseKey *x = &((const OaUses *) a)->key;
	const OaUseKey *y = &((const OaUses *) b)->key;
	int			order = memcmp(x->key_id, y->key_id, sizeof(x->key_id));

	if (order == 0)
		order = (x->hour > y->hour) - (x->hour < y->hour);
	if (order == 0)
		order = memcmp(&x->client, &y->client, sizeof(x->client));
	return order;
}

static bool
same_key(const OaUses *a, const OaUses *b)
{
	return memcmp(a->key.key_id, b->key.key_id, sizeof(a->key.key_id)) == 0;
}

static bool
same_hour(const OaUses *a, const OaUses *b)
{
	return a->key.hour == b->key.hour && same_key(a, b);
}

/*
 * Run a statement with the first columns of the uses, as many as it has
 * parameters.
 */
static void
run_on_columns(OaStatement *statement, const OaUses *uses, int count)
{
	Datum		arrays[OA_USE_COLUMNS];

	oa_make_use_arrays(uses, count, oa_statement_argument_count(statement),
					   arrays);
	oa_statement_run(statement, arrays, NULL);
}

/* Write the time of each key's last use. */
static void
write_last_used(const Rows *rows)
{
	Datum	   *key_ids = palloc(rows->count * sizeof(Datum));
	Datum	   *times = palloc(rows->count * sizeof(Datum));
	const OaUses *previous = NULL;
	TimestampTz last = 0;
	int			count = 0;

	for (int i = 0; i < rows->count; i++)
	{
		const OaUses *uses = &rows->uses[i];

		if (uses->accepted == 0)
			continue;
		if (previous == NULL || !same_key(previous, uses))
		{
			key_ids[count++] = oa_use_key_id(uses);
			last = 0;
		}
		last = Max(last, uses->last_accepted_at);
		times[count - 1] = TimestampTzGetDatum(last);
		previous = uses;
	}
	if (count > 0)
	{
		Datum		arrays[] = {
			oa_make_array(key_ids, NULL, count, TEXTOID),
			oa_make_array(times, NULL, count, TIMESTAMPTZOID),
		};

		oa_statement_run(&set_last_used, arrays, NULL);
	}
}

/* Add the counts of one row to another. */
static void
merge(OaUses *into, const OaUses *uses)
{
	into->accepted += uses->accepted;
	into->refused += uses->refused;
	into->first_used_at = Min(into->first_used_at, uses->first_used_at);
	into->last_accepted_at = Max(into->last_accepted_at,
								 uses->last_accepted_at);
	into->last_refused_at = Max(into->last_refused_at, uses->last_refused_at);
}

/*
 * Make rows from a batch whose probe is SPI's last result.  If a key has too
 * many addresses in an hour, we count a new address in the row without an
 * address.
 */
static void
make_rows(const OaUses *uses, int count, bool *known, Rows *rows)
{
	OaUses	   *without_address = NULL;
	int64		new_addresses = 0;

	rows->uses = palloc(count * sizeof(OaUses));
	rows->count = 0;
	for (int i = 0; i < count; i++)
	{
		OaUses		row = uses[i];
		bool		isnull;
		int64		addresses = DatumGetInt64(oa_statement_result(i, 2, &isnull));

		known[i] = oa_statement_bool(i, 1);
		if (!known[i])
			continue;
		if (rows->count == 0 || !same_hour(&rows->uses[rows->count - 1], &row))
		{
			without_address = NULL;
			new_addresses = 0;
		}
		if (row.key.client.family != 0 && !oa_statement_bool(i, 3) &&
			addresses + ++new_addresses > OA_ADDRESSES_MAX)
			memset(&row.key.client, 0, sizeof(row.key.client));

		if (row.key.client.family == 0 && without_address != NULL)
		{
			merge(without_address, &row);
			continue;
		}
		if (row.key.client.family == 0)
			without_address = &rows->uses[rows->count];
		rows->uses[rows->count++] = row;
	}
}

/*
 * Write uses in the current transaction, and sort them.  Sets known[i] to
 * whether the key of uses[i] exists; if not, that use was not written.
 */
void
oa_write_uses(OaUses *uses, int count, bool *known)
{
	int			level = oa_statements_begin();
	Rows		rows;

	qsort(uses, count, sizeof(OaUses), compare_uses);
	run_on_columns(&probe, uses, count);
	make_rows(uses, count, known, &rows);
	if (rows.count > 0)
	{
		run_on_columns(&add_usage, rows.uses, rows.count);
		write_last_used(&rows);
	}
	oa_statements_end(level);
}
