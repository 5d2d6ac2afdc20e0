/*
 * key_list.c
 *		Lists the keys of an org, with the time of their last use.
 *
 * That time is the later one of the time in key_last_used and the time that is
 * counted in shared memory, so it does not matter if a flush leaves a use in
 * both places.  But we must not miss a use in both: a flush might write it
 * after our snapshot, and remove it from memory before we look there.  The
 * epoch tells us when this may have happened.  We then read the table again
 * under a later snapshot, which sees what had left memory before, and join
 * what we found in memory.
 *
 * The snapshot is always the latest one, even in a REPEATABLE READ
 * transaction.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "utils/timestamp.h"

#include "databases/databases.h"
#include "keys/keys.h"
#include "orgs/orgs.h"
#include "server/server.h"
#include "usage/usage.h"

PG_FUNCTION_INFO_V1(overten_list_keys);

/* Columns of the statements. */
enum
{
	KEY_ID = 1, NAME, PREFIX, CREATED_AT, LAST_USED_AT, REVOKED_AT
};

#define LIST(last_used_at, joins) \
	"SELECT k.key_id, k.name, k.prefix, k.created_at, " \
	last_used_at ", k.revoked_at FROM overten_auth.api_keys k " \
	"LEFT JOIN overten_auth.key_last_used u ON u.key_id = k.key_id " joins \
	"WHERE k.org_id = $1 AND k.erased_at IS NULL " \
	"ORDER BY k.created_at, k.key_id"

static OaStatement list_keys = {
	.table = "api_keys",
	.latest = true,
	.text = LIST("u.last_used_at", ""),
	.argtypes = {TEXTOID},
};

/*
 * Likewise, joined with what we found in memory: keys, and when they were
 * used.
 */
static OaStatement list_with_counts = {
	.table = "api_keys",
	.latest = true,
	.text = LIST("GREATEST(u.last_used_at, c.last_used_at)",
				 "LEFT JOIN unnest($2, $3) c (key_id, last_used_at) "
				 "ON c.key_id = k.key_id "),
	.argtypes = {TEXTOID, TEXTARRAYOID, TIMESTAMPTZARRAYOID},
};

/* The rows of a list.  They are SPI's last result. */
typedef struct KeyList
{
	int			count;
	TimestampTz *counted;		/* last uses in memory, 0 unless later than
								 * the row's; or NULL */
} KeyList;

/* Look in memory for uses later than those in the rows. */
static bool
find_counted(KeyList *list)
{
	int32	   *hours;
	int			hour_count = oa_counted_hours(&hours);
	bool		found = false;

	if (hour_count == 0)
		return false;

	list->counted = palloc0(Max(list->count, 1) * sizeof(TimestampTz));
	for (int row = 0; row < list->count; row++)
	{
		bool		isnull;
		Datum		key_id = oa_statement_result(row, KEY_ID, &isnull);
		Datum		used_at = oa_statement_result(row, LAST_USED_AT, &isnull);
		TimestampTz counted = oa_last_counted_use(DatumGetTextPP(key_id),
												  hours, hour_count);

		if (counted != 0 && (isnull || counted > DatumGetTimestampTz(used_at)))
		{
			list->counted[row] = counted;
			found = true;
		}
	}
	return found;
}

/* Read the list again, joined with what we found in memory. */
static void
list_again(KeyList *list, Datum org_id)
{
	Datum	   *key_ids = palloc(Max(list->count, 1) * sizeof(Datum));
	Datum	   *times = palloc(Max(list->count, 1) * sizeof(Datum));
	Datum		values[3];
	int			count = 0;

	for (int row = 0; list->counted != NULL && row < list->count; row++)
	{
		bool		isnull;

		if (list->counted[row] == 0)
			continue;
		key_ids[count] = oa_statement_result(row, KEY_ID, &isnull);
		times[count++] = TimestampTzGetDatum(list->counted[row]);
	}
	values[0] = org_id;
	values[1] = oa_make_array(key_ids, NULL, count, TEXTOID);
	values[2] = oa_make_array(times, NULL, count, TIMESTAMPTZOID);
	list->count = (int) oa_statement_run(&list_with_counts, values, NULL);
	list->counted = NULL;
}

/*
 * List the keys of an org.  Must be called between oa_statements_begin() and
 * _end().
 */
static void
run_list(KeyList *list, Datum org_id)
{
	OaDatabase *database = oa_my_database();
	uint64		epoch = oa_batch_epoch(database);

	list->counted = NULL;
	list->count = (int) oa_statement_run(&list_keys, &org_id, NULL);
	if (!find_counted(list))
		list->counted = NULL;
	if (oa_batch_epoch(database) != epoch)
		list_again(list, org_id);
}

/*
 * Call back for each key of an org, including revoked ones, in the order of
 * their creation.  The callback's argument is valid only during the call.
 */
void
oa_list_keys(text *org_id, OaKeyCallback callback, void *argument)
{
	int			level = oa_statements_begin();
	KeyList		list;

	run_list(&list, PointerGetDatum(org_id));
	for (int row = 0; row < list.count; row++)
	{
		OaListedKey key;
		bool		isnull;

		key.key_id = DatumGetTextPP(oa_statement_result(row, KEY_ID, &isnull));
		key.name = DatumGetTextPP(oa_statement_result(row, NAME, &isnull));
		key.prefix = DatumGetTextPP(oa_statement_result(row, PREFIX, &isnull));
		key.created_at =
			DatumGetTimestampTz(oa_statement_result(row, CREATED_AT, &isnull));
		key.last_used_at =
			DatumGetTimestampTz(oa_statement_result(row, LAST_USED_AT,
													&key.never_used));
		key.revoked_at =
			DatumGetTimestampTz(oa_statement_result(row, REVOKED_AT,
													&key.active));
		if (list.counted != NULL && list.counted[row] != 0)
		{
			key.last_used_at = list.counted[row];
			key.never_used = false;
		}
		callback(&key, argument);
	}
	oa_statements_end(level);
}

/* Return the rows, with the later of the two times. */
static void
return_with_counts(FunctionCallInfo fcinfo, const KeyList *list)
{
	for (int row = 0; row < list->count; row++)
	{
		if (list->counted[row] == 0)
			oa_statement_return_row(fcinfo, row);
		else
			oa_statement_return_changed(fcinfo, row, LAST_USED_AT,
										TimestampTzGetDatum(list->counted[row]));
	}
}

/*
 * overten_list_keys(org_id text)
 * 		returns setof key_id, name, prefix, created_at, last_used_at, revoked_at
 *
 * Includes revoked keys, in the order of their creation.  Errors: 22004,
 * 42704.
 */
Datum
overten_list_keys(PG_FUNCTION_ARGS)
{
	Datum		org_id = PointerGetDatum(oa_text_argument(fcinfo, 0, "org_id"));
	KeyList		list;
	int			level;

	oa_begin_set(fcinfo);
	level = oa_statements_begin();
	run_list(&list, org_id);
	if (list.count == 0)
		oa_require_org(DatumGetTextPP(org_id));
	else if (list.counted == NULL)
		oa_statement_return_rows(fcinfo);
	else
		return_with_counts(fcinfo, &list);
	oa_statements_end(level);
	return (Datum) 0;
}
