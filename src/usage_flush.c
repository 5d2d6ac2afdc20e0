/*
 * usage_flush.c
 *		Writes the counts of shared memory into the tables, a batch at a time.
 *
 * Each batch is a transaction of its own: collect, write, commit, subtract
 * what was written.  An error before the commit leaves the counts as they
 * were, and between the commit and the subtraction nothing can fail; if the
 * process is killed there, shared memory is gone with it.  Only one worker at
 * a time flushes a database, so no count is written twice.
 *
 * Keys that are not (yet) committed are kept back for a while, for their
 * minting may be in a transaction that goes on; then they are dropped, for it
 * may have been rolled back.  So are all where the extension has just been
 * dropped.  api_keys is read, never written, and no row of it is locked.
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "overten_auth.h"

#define BATCH_MAX			10000
#define REMOVE_MAX			10000	/* rows of old history in a transaction */
#define UNKNOWN_KEY_MS		(5 * 60 * 1000)

/* What is known of a use. */
typedef enum UseState
{
	USE_COLLECTED,				/* nothing yet */
	USE_OF_KEY,					/* its key is committed */
	USE_WRITTEN					/* its row was there, and has been updated */
} UseState;

/* Sorted by key, hour and client. */
typedef struct Batch
{
	OaUses	   *uses;
	UseState   *states;
	int			count;
} Batch;

/* What is passed to the statements, as arrays. */
enum
{
	KEY_ID, HOUR, CLIENT_ADDR, ACCEPTED, REFUSED, FIRST_USED_AT, LAST_USED_AT,
	ADDRESS_NUMBER, COLUMNS,
	LAST_ACCEPTED_AT = HOUR		/* beside KEY_ID alone */
};

static const Oid column_types[COLUMNS] = {
	TEXTOID, TIMESTAMPTZOID, INETOID, INT8OID, INT8OID, TIMESTAMPTZOID,
	TIMESTAMPTZOID, INT4OID
};

/* The columns of a part of a batch. */
typedef struct Columns
{
	Datum	   *values[COLUMNS];
	bool	   *no_addr;
	int		   *index;			/* in the batch */
	int			count;
} Columns;

#define USES \
	"ROWS FROM (pg_catalog.unnest($1), pg_catalog.unnest($2), " \
	"pg_catalog.unnest($3), pg_catalog.unnest($4), pg_catalog.unnest($5), " \
	"pg_catalog.unnest($6), pg_catalog.unnest($7), pg_catalog.unnest($8)) " \
	"WITH ORDINALITY AS u (key_id, hour, client_addr, accepted, refused, " \
	"first_used_at, last_used_at, address_number, n)"

#define USES_TYPES \
	{TEXTARRAYOID, TIMESTAMPTZARRAYOID, INETARRAYOID, INT8ARRAYOID, \
	INT8ARRAYOID, TIMESTAMPTZARRAYOID, TIMESTAMPTZARRAYOID, INT4ARRAYOID}

/* Counts end at the greatest number instead of failing. */
#define SUM(column) \
	column " = LEAST(t." column ", 9223372036854775807 OPERATOR(pg_catalog.-) " \
	"u." column ") OPERATOR(pg_catalog.+) u." column ", "

#define SET_COUNTS \
	"SET " SUM("accepted") SUM("refused") \
	"first_used_at = LEAST(t.first_used_at, u.first_used_at), " \
	"last_used_at = GREATEST(t.last_used_at, u.last_used_at) "

/* Add to the rows that are there. */
static OaStatement update_rows = {
	.table = "key_usage",
	.text = "UPDATE overten_auth.key_usage t " SET_COUNTS
	"FROM " USES " "
	"WHERE t.key_id OPERATOR(pg_catalog.=) u.key_id "
	"AND t.hour OPERATOR(pg_catalog.=) u.hour "
	"AND (t.client_addr OPERATOR(pg_catalog.=) u.client_addr "
	"OR t.client_addr IS NULL AND u.client_addr IS NULL) "
	"RETURNING u.n",
	.nargs = COLUMNS,
	.argtypes = USES_TYPES,
};

/* Which keys are there? */
static OaStatement find_keys = {
	.table = "api_keys",
	.text = "SELECT u.n FROM pg_catalog.unnest($1) WITH ORDINALITY u (key_id, n) "
	"JOIN overten_auth.api_keys k ON k.key_id OPERATOR(pg_catalog.=) u.key_id",
	.nargs = 1,
	.argtypes = {TEXTARRAYOID},
};

/*
 * Add rows.  Those of a key and hour that has enough addresses already go into
 * one without an address, which may be there.
 */
static OaStatement insert_rows = {
	.table = "key_usage",
	.text = "INSERT INTO overten_auth.key_usage AS t "
	"(key_id, hour, client_addr, accepted, refused, first_used_at, last_used_at) "
	"SELECT r.key_id, r.hour, r.client_addr, "
	"pg_catalog.sum(r.accepted)::pg_catalog.int8, "
	"pg_catalog.sum(r.refused)::pg_catalog.int8, "
	"pg_catalog.min(r.first_used_at), pg_catalog.max(r.last_used_at) "
	"FROM (SELECT u.key_id, u.hour, u.accepted, u.refused, "
	"u.first_used_at, u.last_used_at, "
	"CASE WHEN u.address_number::pg_catalog.int8 OPERATOR(pg_catalog.+) "
	"(SELECT pg_catalog.count(x.client_addr) "
	"FROM overten_auth.key_usage x "
	"WHERE x.key_id OPERATOR(pg_catalog.=) u.key_id "
	"AND x.hour OPERATOR(pg_catalog.=) u.hour) "
	"OPERATOR(pg_catalog.<=) 64 THEN u.client_addr END AS client_addr "
	"FROM " USES ") r "
	"GROUP BY r.key_id, r.hour, r.client_addr "
	"ON CONFLICT (key_id, hour, client_addr) DO UPDATE "
	"SET accepted = LEAST(t.accepted, 9223372036854775807 "
	"OPERATOR(pg_catalog.-) EXCLUDED.accepted) "
	"OPERATOR(pg_catalog.+) EXCLUDED.accepted, "
	"refused = LEAST(t.refused, 9223372036854775807 "
	"OPERATOR(pg_catalog.-) EXCLUDED.refused) "
	"OPERATOR(pg_catalog.+) EXCLUDED.refused, "
	"first_used_at = LEAST(t.first_used_at, EXCLUDED.first_used_at), "
	"last_used_at = GREATEST(t.last_used_at, EXCLUDED.last_used_at)",
	.nargs = COLUMNS,
	.argtypes = USES_TYPES,
};

StaticAssertDecl(OA_ADDRESSES_MAX == 64, "also in the statement above");

/* Move the time of the last use forward. */
static OaStatement set_last_used = {
	.table = "key_last_used",
	.text = "INSERT INTO overten_auth.key_last_used AS t (key_id, last_used_at) "
	"SELECT u.key_id, u.at FROM ROWS FROM (pg_catalog.unnest($1), "
	"pg_catalog.unnest($2)) u (key_id, at) "
	"ON CONFLICT (key_id) DO UPDATE SET last_used_at = EXCLUDED.last_used_at "
	"WHERE t.last_used_at IS NULL "
	"OR t.last_used_at OPERATOR(pg_catalog.<) EXCLUDED.last_used_at",
	.nargs = 2,
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

static Datum
key_id_datum(const OaUses *uses)
{
	const char *id = uses->key.key_id;

	return PointerGetDatum(cstring_to_text_with_len(id,
													(int) strnlen(id, sizeof(uses->key.key_id))));
}

/* Fill in one row of columns. */
static void
set_row(Columns *columns, int n, const OaUses *uses, int address_number)
{
	const Datum values[COLUMNS] = {
		[KEY_ID] = key_id_datum(uses),
		[HOUR] = TimestampTzGetDatum(uses->key.hour * USECS_PER_HOUR),
		[CLIENT_ADDR] = uses->key.client.family == 0 ? (Datum) 0 :
		oa_client_addr_datum(&uses->key.client),
		[ACCEPTED] = Int64GetDatum(uses->accepted),
		[REFUSED] = Int64GetDatum(uses->refused),
		[FIRST_USED_AT] = TimestampTzGetDatum(uses->first_used_at),
		[LAST_USED_AT] = TimestampTzGetDatum(Max(uses->last_accepted_at,
												 uses->last_refused_at)),
		[ADDRESS_NUMBER] = Int32GetDatum(address_number),
	};

	for (int column = 0; column < COLUMNS; column++)
		columns->values[column][n] = values[column];
	columns->no_addr[n] = (uses->key.client.family == 0);
}

/* Make columns of the uses that are in a state. */
static Columns
make_columns(const Batch *batch, UseState state)
{
	Columns		columns = {.count = 0};
	const OaUses *previous = NULL;
	int			address_number = 0;

	for (int i = 0; i < COLUMNS; i++)
		columns.values[i] = palloc(batch->count * sizeof(Datum));
	columns.no_addr = palloc(batch->count * sizeof(bool));
	columns.index = palloc(batch->count * sizeof(int));

	for (int i = 0; i < batch->count; i++)
	{
		const OaUses *uses = &batch->uses[i];

		if (batch->states[i] != state)
			continue;
		if (previous == NULL || !same_hour(previous, uses))
			address_number = 0;
		if (uses->key.client.family != 0)
			address_number++;
		set_row(&columns, columns.count, uses, address_number);
		columns.index[columns.count++] = i;
		previous = uses;
	}
	return columns;
}

/* Run a statement on as many of the columns as it takes. */
static void
run(OaStatement *statement, const Columns *columns)
{
	Datum		arrays[COLUMNS];

	for (int column = 0; column < statement->nargs; column++)
	{
		bool	   *nulls = column == CLIENT_ADDR ? columns->no_addr : NULL;
		int			lower_bound = 1;
		int			count = columns->count;
		int16		length;
		bool		byval;
		char		align;

		get_typlenbyvalalign(column_types[column], &length, &byval, &align);
		arrays[column] =
			PointerGetDatum(construct_md_array(columns->values[column], nulls,
											   1, &count, &lower_bound,
											   column_types[column],
											   length, byval, align));
	}
	oa_statement_run(statement, arrays, NULL);
}

/* Put the uses whose numbers a statement has returned into a state. */
static void
mark(Batch *batch, const Columns *columns, UseState state)
{
	for (uint64 row = 0; row < SPI_processed; row++)
	{
		bool		isnull;
		int64		n = DatumGetInt64(oa_statement_result((int) row, 1, &isnull));

		batch->states[columns->index[n - 1]] = state;
	}
}

/* Write the time of the last use of each key. */
static void
write_last_used(const Batch *batch)
{
	Columns		columns = {.count = 0};
	const OaUses *previous = NULL;
	TimestampTz last = 0;

	columns.values[KEY_ID] = palloc(batch->count * sizeof(Datum));
	columns.values[LAST_ACCEPTED_AT] = palloc(batch->count * sizeof(Datum));
	for (int i = 0; i < batch->count; i++)
	{
		const OaUses *uses = &batch->uses[i];

		if (batch->states[i] == USE_COLLECTED || uses->accepted == 0)
			continue;
		if (previous == NULL || !same_key(previous, uses))
		{
			columns.values[KEY_ID][columns.count++] = key_id_datum(uses);
			last = 0;
		}
		last = Max(last, uses->last_accepted_at);
		columns.values[LAST_ACCEPTED_AT][columns.count - 1] =
			TimestampTzGetDatum(last);
		previous = uses;
	}
	if (columns.count > 0)
		run(&set_last_used, &columns);
}

/* Write a batch in the current transaction. */
static void
write_batch(Batch *batch)
{
	int			level = oa_statements_begin();
	Columns		columns = make_columns(batch, USE_COLLECTED);

	run(&update_rows, &columns);
	mark(batch, &columns, USE_WRITTEN);

	columns = make_columns(batch, USE_COLLECTED);
	if (columns.count > 0)
	{
		run(&find_keys, &columns);
		mark(batch, &columns, USE_OF_KEY);
	}

	columns = make_columns(batch, USE_OF_KEY);
	if (columns.count > 0)
		run(&insert_rows, &columns);

	write_last_used(batch);
	oa_statements_end(level);
}

/* Begin a transaction of the worker. */
static void
begin(void)
{
	SetCurrentStatementStartTimestamp();
	StartTransactionCommand();
	PushActiveSnapshot(GetTransactionSnapshot());
}

static void
commit(void)
{
	PopActiveSnapshot();
	CommitTransactionCommand();
}

/*
 * Take the uses of keys that may yet be committed out of a batch that has been
 * written.  Returns how many are left in it.
 */
static int
keep_back(Batch *batch)
{
	TimestampTz now = GetCurrentTimestamp();
	int			count = 0;

	for (int i = 0; i < batch->count; i++)
	{
		const OaUses *uses = &batch->uses[i];

		if (batch->states[i] != USE_COLLECTED ||
			TimestampDifferenceExceeds(uses->first_used_at, now,
									   UNKNOWN_KEY_MS))
			batch->uses[count++] = *uses;
	}
	return count;
}

/*
 * Write what has been counted for the session's database.  Returns whether
 * something was kept back.  An error leaves the rest for the next time.
 */
bool
oa_flush_uses(void)
{
	Batch		batch;
	uint32		bucket = 0;
	bool		kept_back = false;

	batch.uses = MemoryContextAllocHuge(TopMemoryContext,
										BATCH_MAX * sizeof(OaUses));
	batch.states = MemoryContextAlloc(TopMemoryContext,
									  BATCH_MAX * sizeof(UseState));
	while ((batch.count = oa_collect_uses(MyDatabaseId, &bucket, batch.uses,
										  BATCH_MAX)) > 0)
	{
		int			count;

		qsort(batch.uses, batch.count, sizeof(OaUses), compare_uses);
		memset(batch.states, 0, batch.count * sizeof(UseState));

		begin();
		if (oa_lock_usage_tables())
			write_batch(&batch);
		commit();
		count = keep_back(&batch);
		oa_subtract_uses(batch.uses, count);
		kept_back |= (count < batch.count);
		CHECK_FOR_INTERRUPTS();
	}
	pfree(batch.states);
	pfree(batch.uses);
	return kept_back;
}

/*
 * Remove history that is older than overten_auth.usage_retention, some rows at
 * a time.  Returns whether there may be more.
 */
bool
oa_remove_old_usage(void)
{
	static OaStatement remove = {
		.table = "key_usage",
		.text = "DELETE FROM overten_auth.key_usage "
		"WHERE ctid OPERATOR(pg_catalog.=) ANY (ARRAY("
		"SELECT ctid FROM overten_auth.key_usage "
		"WHERE hour OPERATOR(pg_catalog.<) $1 LIMIT $2))",
		.nargs = 2,
		.argtypes = {TIMESTAMPTZOID, INT8OID},
	};
	Datum		values[2];
	uint64		removed;
	int			level;

	begin();
	values[0] = TimestampTzGetDatum(GetCurrentTimestamp() -
									oa_usage_retention * USECS_PER_MINUTE);
	values[1] = Int64GetDatum(REMOVE_MAX);
	level = oa_statements_begin();
	removed = oa_statement_run(&remove, values, NULL);
	oa_statements_end(level);
	commit();
	return removed == REMOVE_MAX;
}
