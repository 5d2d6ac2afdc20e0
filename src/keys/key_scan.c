/*
 * key_scan.c
 *		Reads the keys of an org in the order of their creation, with the
 *		time of their last use.
 *
 * An org can have very many keys, so we read them in chunks.  A chunk begins
 * after the last key of the chunk before it (created_at and key_id), which the
 * index of the table finds at once, wherever that is.  All chunks are read
 * under one snapshot, which is the latest one, even in a REPEATABLE READ
 * transaction.
 *
 * The time of the last use is the later one of the time in key_last_used and
 * the time that is counted in shared memory, so it does not matter if a flush
 * leaves a use in both places.  But we must not miss a use in both: a flush
 * might write it after our snapshot, and remove it from memory before we look
 * there.  The epoch tells us when this may have happened.  We then read
 * key_last_used again under a later snapshot, which sees what had left memory
 * before.
 *
 * That time is looked up for each key by itself.  A join could read
 * key_last_used of all orgs for each chunk.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "utils/builtins.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "databases/databases.h"
#include "keys/keys.h"
#include "server/server.h"
#include "usage/usage.h"

#define CHUNK_MAX	1000		/* keys */

/* Where the scan of an org's keys is. */
typedef struct KeyScan
{
	text	   *org_id;
	const OaKeyFilter *filter;
	Snapshot	snapshot;
	uint64		epoch;			/* when the snapshot was taken, or before */
	TimestampTz now;
	TimestampTz after_time;		/* the last key that was read */
	text	   *after_key;
	int			count;			/* rows of the chunk */
	TimestampTz *last_used;		/* of each row; 0 if it was never used */
} KeyScan;

/* Arguments of the statements. */
enum
{
	ORG_ID, NOW, AFTER_TIME, AFTER_KEY, STATUS, UNUSED_SINCE, LIMIT,
	ENVIRONMENT, ARGUMENTS
};

#define LAST_USED \
	"(SELECT u.last_used_at FROM overten_auth.key_last_used u " \
	"WHERE u.key_id = k.key_id)"

/* A key has exactly one status: the first reason to refuse it. */
#define KEY_STATUS \
	"CASE WHEN k.revoked_at IS NOT NULL THEN 'revoked' " \
	"WHEN k.expires_at <= $2 THEN 'expired' " \
	"WHEN k.disabled_at IS NOT NULL THEN 'disabled' ELSE 'active' END"

#define FEW_COLUMNS \
	"SELECT k.key_id, k.name, k.prefix, k.created_at, " LAST_USED ", " \
	"k.revoked_at"

#define ALL_COLUMNS FEW_COLUMNS ", " KEY_STATUS ", k.expires_at, " \
	"k.disabled_at, k.scopes, k.allowed_addresses, k.created_by, " \
	"k.revoked_by, k.revoked_reason, k.disabled_by, k.disabled_reason, " \
	"k.environment"

#define FROM_ORG \
	" FROM overten_auth.api_keys k " \
	"WHERE k.org_id = $1 AND k.erased_at IS NULL "

#define SELECTED_KEYS FROM_ORG \
	"AND (k.created_at, k.key_id) > ($3, $4) " \
	"AND ($5 IS NULL OR " KEY_STATUS " = $5) " \
	"AND ($6 IS NULL OR (k.created_at < $6 " \
	"AND (" LAST_USED " >= $6) IS NOT TRUE)) " \
	"AND ($8 IS NULL OR k.environment = $8) " \
	"ORDER BY k.created_at, k.key_id LIMIT $7"

#define ARGUMENT_TYPES \
	{TEXTOID, TIMESTAMPTZOID, TIMESTAMPTZOID, TEXTOID, TEXTOID, \
	TIMESTAMPTZOID, INT4OID, TEXTOID}

static OaStatement select_few_columns = {
	.table = "api_keys",
	.text = FEW_COLUMNS SELECTED_KEYS,
	.argtypes = ARGUMENT_TYPES,
};

static OaStatement select_all_columns = {
	.table = "api_keys",
	.text = ALL_COLUMNS SELECTED_KEYS,
	.argtypes = ARGUMENT_TYPES,
};

static OaStatement select_one = {
	.table = "api_keys",
	.text = ALL_COLUMNS FROM_ORG "AND k.key_id = $3",
	.argtypes = {TEXTOID, TIMESTAMPTZOID, TEXTOID},
};

/* Is this the name of a status? */
bool
oa_is_key_status(const char *name)
{
	static const char *const names[] = {
		"active", "expired", "revoked", "disabled"
	};

	for (int i = 0; i < lengthof(names); i++)
		if (strcmp(name, names[i]) == 0)
			return true;
	return false;
}

/*
 * Find where a scan begins: before the first key, or after the key that the
 * filter names.  Returns false if the org does not have that key.
 */
static bool
find_start(KeyScan *scan)
{
	static OaStatement find = {
		.table = "api_keys",
		.latest = true,
		.text = "SELECT created_at FROM overten_auth.api_keys "
		"WHERE key_id = $2 AND org_id = $1",
		.argtypes = {TEXTOID, TEXTOID},
	};
	Datum		values[] = {
		PointerGetDatum(scan->org_id),
		PointerGetDatum(scan->filter->after),
	};
	bool		found = true;
	int			level;

	scan->after_time = DT_NOBEGIN;
	scan->after_key = cstring_to_text("");
	if (scan->filter->after == NULL)
		return true;

	level = oa_statements_begin();
	if (oa_statement_run(&find, values, NULL) == 0)
		found = false;
	else
		scan->after_time = oa_statement_time(0, 1, NULL);
	oa_statements_end(level);
	scan->after_key = scan->filter->after;
	return found;
}

/* Take the time of a row's last use, if it is later than what we know. */
static void
note_use(KeyScan *scan, int row, TimestampTz used_at)
{
	scan->last_used[row] = Max(scan->last_used[row], used_at);
}

/* Note the last uses that are in the rows of the chunk, and those in memory. */
static void
note_uses(KeyScan *scan)
{
	int32	   *hours;
	int			hour_count = oa_counted_hours(&hours);

	for (int row = 0; row < scan->count; row++)
	{
		bool		isnull;
		Datum		key_id = oa_statement_result(row, OA_KEY_ID, TEXTOID, NULL);
		TimestampTz used_at = oa_statement_time(row, OA_KEY_LAST_USED_AT,
												&isnull);

		scan->last_used[row] = isnull ? 0 : used_at;
		if (hour_count > 0)
			note_use(scan, row, oa_last_counted_use(DatumGetTextPP(key_id),
													hours, hour_count));
	}
}

/* Note the last uses that a flush has written since the scan's snapshot. */
static void
note_flushed_uses(KeyScan *scan)
{
	static OaStatement find = {
		.table = "key_last_used",
		.latest = true,
		.text = "SELECT n, last_used_at "
		"FROM unnest($1) WITH ORDINALITY k (key_id, n) "
		"JOIN overten_auth.key_last_used USING (key_id) "
		"WHERE last_used_at IS NOT NULL",
		.argtypes = {TEXTARRAYOID},
	};
	Datum		array = oa_make_array(oa_statement_column(scan->count, OA_KEY_ID),
									  NULL, scan->count, TEXTOID);
	int			level;
	int			count;

	level = oa_statements_begin();
	count = (int) oa_statement_run(&find, &array, NULL);
	for (int i = 0; i < count; i++)
	{
		int64		n = oa_statement_int64(i, 1);

		note_use(scan, (int) n - 1, oa_statement_time(i, 2, NULL));
	}
	oa_statements_end(level);
}

/* Take the snapshot of a scan.  A chunk has at most "chunk" keys. */
static void
begin_scan(KeyScan *scan, int chunk)
{
	scan->last_used = palloc(chunk * sizeof(TimestampTz));
	scan->now = GetCurrentTimestamp();
	scan->epoch = oa_batch_epoch(oa_my_database());
	scan->snapshot = RegisterSnapshot(GetLatestSnapshot());
}

/* Read rows, which are then SPI's last result, and their last uses. */
static void
run_select(KeyScan *scan, OaStatement *statement, const Datum *values,
		   const bool *nulls)
{
	scan->count = (int) oa_statement_run_under(statement, values, nulls,
											   scan->snapshot);
	note_uses(scan);
	if (scan->count > 0 && oa_batch_epoch(oa_my_database()) != scan->epoch)
		note_flushed_uses(scan);
}

/* Read the next chunk. */
static void
read_chunk(KeyScan *scan, OaStatement *statement, int chunk)
{
	const OaKeyFilter *filter = scan->filter;
	const bool	nulls[ARGUMENTS] = {
		[STATUS] = (filter->status == NULL),
		[UNUSED_SINCE] = !filter->has_unused_since,
		[ENVIRONMENT] = (filter->environment == NULL),
	};
	Datum		values[ARGUMENTS];

	values[ORG_ID] = PointerGetDatum(scan->org_id);
	values[NOW] = TimestampTzGetDatum(scan->now);
	values[AFTER_TIME] = TimestampTzGetDatum(scan->after_time);
	values[AFTER_KEY] = PointerGetDatum(scan->after_key);
	values[STATUS] = nulls[STATUS] ? (Datum) 0 :
		CStringGetTextDatum(filter->status);
	values[UNUSED_SINCE] = TimestampTzGetDatum(filter->unused_since);
	values[LIMIT] = Int32GetDatum(chunk);
	values[ENVIRONMENT] = nulls[ENVIRONMENT] ? (Datum) 0 :
		CStringGetTextDatum(filter->environment);
	run_select(scan, statement, values, nulls);
}

/* Remember, in a memory context that lasts, where the next chunk begins. */
static void
advance(KeyScan *scan, MemoryContext context)
{
	MemoryContext old = MemoryContextSwitchTo(context);
	int			last = scan->count - 1;

	scan->after_time = oa_statement_time(last, OA_KEY_CREATED_AT, NULL);
	scan->after_key =
		DatumGetTextPCopy(oa_statement_result(last, OA_KEY_ID, TEXTOID, NULL));
	MemoryContextSwitchTo(old);
}

/* Has a key been used since the time that the filter is about? */
static bool
was_used(const KeyScan *scan, int row)
{
	return scan->filter->has_unused_since &&
		scan->last_used[row] >= scan->filter->unused_since;
}

/*
 * Call back for each key of an org that a filter selects, in the order of
 * their creation.  The row is one of SPI's last result; its columns are those
 * of OaKeyColumn, up to OA_KEY_REVOKED_AT unless "all_columns" is set.  Returns
 * OA_KEYS_MORE if the filter's limit leaves out others, and OA_KEYS_NO_START if
 * the org does not have the key that the filter begins after.
 */
OaKeyScanResult
oa_scan_keys(text *org_id, const OaKeyFilter *filter, bool all_columns,
			 OaKeyRowCallback callback, void *argument)
{
	KeyScan		scan = {.org_id = org_id,.filter = filter};
	MemoryContext context = CurrentMemoryContext;
	OaKeyScanResult result = OA_KEYS_ALL;
	int			wanted = filter->limit > 0 ? filter->limit : INT_MAX;
	int			chunk = Min(wanted, CHUNK_MAX - 1) + 1;
	bool		done = false;

	if (!find_start(&scan))
		return OA_KEYS_NO_START;

	begin_scan(&scan, chunk);
	while (!done)
	{
		int			level = oa_statements_begin();

		read_chunk(&scan, all_columns ? &select_all_columns :
				   &select_few_columns, chunk);
		done = (scan.count < chunk);
		for (int row = 0; row < scan.count && result == OA_KEYS_ALL; row++)
		{
			if (was_used(&scan, row))
				continue;
			if (wanted == 0)
				result = OA_KEYS_MORE;
			else
				callback(row, scan.last_used[row], argument);
			wanted--;
		}
		if (result == OA_KEYS_MORE)
			done = true;
		else if (!done)
			advance(&scan, context);
		oa_statements_end(level);
	}
	UnregisterSnapshot(scan.snapshot);
	return result;
}

/*
 * Call back for one key of an org, with all columns.  Returns false if the org
 * has no such key.
 */
bool
oa_read_key(text *org_id, text *key_id, OaKeyRowCallback callback,
			void *argument)
{
	KeyScan		scan = {.org_id = org_id};
	Datum		values[3];
	int			level;

	begin_scan(&scan, 1);
	values[0] = PointerGetDatum(org_id);
	values[1] = TimestampTzGetDatum(scan.now);
	values[2] = PointerGetDatum(key_id);

	level = oa_statements_begin();
	run_select(&scan, &select_one, values, NULL);
	if (scan.count > 0)
		callback(0, scan.last_used[0], argument);
	oa_statements_end(level);
	UnregisterSnapshot(scan.snapshot);
	return scan.count > 0;
}
