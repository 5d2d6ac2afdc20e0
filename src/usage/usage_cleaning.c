/*
 * usage_cleaning.c
 *		Removes history that is too old, and what belongs to keys that are
 *		gone.
 *
 * The extension never deletes keys, but a person may delete an org with its
 * keys by hand.  Once a day, a sweep goes through the keys of each table that
 * has rows of keys, some at a time, and removes rows whose key does not exist.
 * A restore may load these tables before the keys.  So the sweep does not touch
 * rows that were written since the previous sweep began, and nothing at all
 * while there are no keys.
 *
 * The progress is in shared memory, because a worker spends only a moment on
 * the sweep; meanwhile, uses wait to be flushed.
 */
#include "postgres.h"

#include "access/transam.h"
#include "catalog/pg_type.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "postmaster/interrupt.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

#include "databases/databases.h"
#include "server/server.h"
#include "settings.h"
#include "usage/usage.h"

#define REMOVE_MAX			10000	/* rows per transaction */
#define KEYS_MAX			1000	/* keys to look for per transaction */
#define SWEEP_MS			200 /* per worker */
#define AGAIN_MS			(60 * 60 * 1000)	/* from the first sweep to the
												 * second */
#define REST_MS				(24 * 60 * 60 * 1000)

/*
 * Does api_keys lack this key, or have only its digest?  A subquery uses the
 * index; a join might not.
 */
#define IS_GONE(key_id) \
	"(SELECT true FROM overten_auth.api_keys k " \
	"WHERE k.key_id = " key_id " AND k.erased_at IS NULL) IS NULL"

/* The first $2 keys after $1 of a table with one row for each. */
#define NEXT(table) \
	"SELECT u.key_id, " IS_GONE("u.key_id") \
	" FROM overten_auth." table " u " \
	"WHERE u.key_id > $1 ORDER BY u.key_id LIMIT $2"

/* Likewise of key_usage, skipping from one key to the next. */
#define NEXT_IN_HISTORY \
	"WITH RECURSIVE key (key_id, n) AS (" \
	"(SELECT u.key_id, 1 FROM overten_auth.key_usage u " \
	"WHERE u.key_id > $1 ORDER BY u.key_id LIMIT 1) " \
	"UNION ALL SELECT (SELECT u.key_id FROM overten_auth.key_usage u " \
	"WHERE u.key_id > key.key_id " \
	"ORDER BY u.key_id LIMIT 1), key.n + 1 FROM key " \
	"WHERE key.key_id IS NOT NULL AND key.n < $2) " \
	"SELECT key.key_id, " IS_GONE("key.key_id") \
	" FROM key WHERE key.key_id IS NOT NULL"

/* Delete at most $3 rows of keys $1 that are older than $2 transactions. */
#define REMOVE(table) \
	"DELETE FROM overten_auth." table \
	" WHERE ctid = ANY (ARRAY(" \
	"SELECT u.ctid FROM overten_auth." table " u " \
	"WHERE u.key_id = ANY ($1) AND age(u.xmin) > $2 LIMIT $3))"

/*
 * The tables that a sweep goes through, and how it finds their keys.  A flush
 * does not lock key_details (usage_lock.c), so the sweep has to wait for it
 * while it holds other locks, though no longer than lock_timeout.  That table
 * is the last one, so that a failure there keeps no other from being swept.
 */
static OaStatement next_keys[] = {
	{
		.table = "key_last_used",
		.text = NEXT("key_last_used"),
		.argtypes = {TEXTOID, INT8OID},
	},
	{
		.table = "key_usage",
		.text = NEXT_IN_HISTORY,
		.argtypes = {TEXTOID, INT8OID},
	},
	{
		.table = "key_details",
		.text = NEXT("key_details"),
		.argtypes = {TEXTOID, INT8OID},
	},
};

/* How it removes rows of the same tables. */
static OaStatement remove_rows[] = {
	{
		.table = "key_last_used",
		.text = REMOVE("key_last_used"),
		.argtypes = {TEXTARRAYOID, INT4OID, INT8OID},
	},
	{
		.table = "key_usage",
		.text = REMOVE("key_usage"),
		.argtypes = {TEXTARRAYOID, INT4OID, INT8OID},
	},
	{
		.table = "key_details",
		.text = REMOVE("key_details"),
		.argtypes = {TEXTARRAYOID, INT4OID, INT8OID},
	},
};

/*
 * Remove some of the history that is older than overten_auth.usage_retention.
 * Returns whether there may be more.
 */
bool
oa_remove_old_usage(void)
{
	static OaStatement remove = {
		.table = "key_usage",
		.text = "DELETE FROM overten_auth.key_usage "
		"WHERE ctid = ANY (ARRAY("
		"SELECT ctid FROM overten_auth.key_usage "
		"WHERE hour < $1 LIMIT $2))",
		.argtypes = {TIMESTAMPTZOID, INT8OID},
	};
	Datum		values[2];
	uint64		removed;
	int			level;

	oa_worker_begin();
	values[0] = TimestampTzGetDatum(GetCurrentTimestamp() -
									oa_usage_retention * USECS_PER_MINUTE);
	values[1] = Int64GetDatum(REMOVE_MAX);
	level = oa_statements_begin();
	removed = oa_statement_run(&remove, values, NULL);
	oa_statements_end(level);
	oa_worker_commit();
	return removed == REMOVE_MAX;
}

/* Does the database have any keys? */
static bool
has_keys(void)
{
	static OaStatement find = {
		.table = "api_keys",
		.text = "SELECT 1 FROM overten_auth.api_keys LIMIT 1",
	};

	return oa_statement_run(&find, NULL, NULL) > 0;
}

/*
 * Remove rows of the keys that are gone according to the last statement's
 * result.  Returns whether there may be more rows. *last is set to the last
 * key of that result, or to NULL if it was empty.
 */
static bool
remove_gone(OaStatement *remove, int age, text **last)
{
	int			count = (int) SPI_processed;
	Datum	   *gone = palloc(Max(count, 1) * sizeof(Datum));
	int			gone_count = 0;
	Datum		values[3];

	*last = count > 0 ? oa_statement_text(count - 1, 1) : NULL;
	for (int row = 0; row < count; row++)
	{
		if (oa_statement_bool(row, 2))
			gone[gone_count++] = oa_statement_result(row, 1, TEXTOID, NULL);
	}
	if (gone_count == 0)
		return false;

	values[0] = PointerGetDatum(construct_array(gone, gone_count, TEXTOID, -1,
												false, TYPALIGN_INT));
	values[1] = Int32GetDatum(age);
	values[2] = Int64GetDatum(REMOVE_MAX);
	return oa_statement_run(remove, values, NULL) == REMOVE_MAX;
}

/* Return the age of a sweep's horizon in transactions. */
static int
horizon_age(const OaSweep *sweep)
{
	uint64		next = U64FromFullTransactionId(ReadNextFullTransactionId());

	return (int) Min(next - sweep->horizon, INT_MAX - 1);
}

/* Advance a sweep to the next keys, or to the next table. */
static void
advance(OaSweep *sweep, text *last)
{
	if (last == NULL)
	{
		sweep->after[0] = '\0';
		sweep->runs = ++sweep->table < lengthof(next_keys);
	}
	else
	{
		const char *id = VARDATA_ANY(last);
		int			length = pg_mbcliplen(id, VARSIZE_ANY_EXHDR(last),
										  sizeof(sweep->after) - 1);

		memcpy(sweep->after, id, length);
		sweep->after[length] = '\0';
	}
}

/* Check some keys in one transaction.  The sweep ends after the last key. */
static void
sweep_some(OaSweep *sweep)
{
	Datum		values[2];
	int			level;

	oa_worker_begin();
	if (!oa_lock_usage_tables())
		sweep->runs = false;
	else
	{
		level = oa_statements_begin();
		if (!has_keys())
			sweep->runs = false;
		else
		{
			text	   *last;

			values[0] = CStringGetTextDatum(sweep->after);
			values[1] = Int64GetDatum(KEYS_MAX);
			oa_statement_run(&next_keys[sweep->table], values, NULL);
			if (!remove_gone(&remove_rows[sweep->table],
							 horizon_age(sweep), &last))
				advance(sweep, last);
		}
		oa_statements_end(level);
	}
	oa_worker_commit();
}

/*
 * Begin a sweep.  It does not touch what was written since the previous one
 * began.
 */
static void
begin_sweep(OaSweep *sweep)
{
	sweep->runs = (sweep->began_at != 0);
	sweep->horizon = sweep->began_at;
	sweep->began_at = U64FromFullTransactionId(ReadNextFullTransactionId());
	sweep->table = 0;
	sweep->after[0] = '\0';
}

/*
 * Continue the sweep of the session's database, or begin one if it is due.  A
 * worker spends only a moment on it, and we make the next worker come soon for
 * the rest.
 */
void
oa_sweep_usage(OaDatabase *database)
{
	int64		start = oa_monotonic_ms();
	OaSweep		sweep;

	oa_lock_databases(LW_SHARED);
	sweep = database->sweep;
	oa_unlock_databases();
	if (!sweep.runs && start < sweep.due_at)
		return;

	if (!sweep.runs)
	{
		sweep.due_at = start + (sweep.began_at == 0 ? AGAIN_MS : REST_MS);
		begin_sweep(&sweep);
		oa_remove_old_batches();
	}
	while (sweep.runs && !ShutdownRequestPending &&
		   oa_monotonic_ms() < start + SWEEP_MS)
	{
		sweep_some(&sweep);
		CHECK_FOR_INTERRUPTS();
	}

	oa_lock_databases(LW_EXCLUSIVE);
	database->sweep = sweep;
	if (sweep.runs)
		database->look_at = Min(database->look_at,
								start + oa_flush_interval * INT64CONST(1000));
	oa_unlock_databases();
}
