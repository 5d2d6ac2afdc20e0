/*
 * usage_rows.c
 *		Writes uses of keys into key_usage and key_last_used.
 *
 * Batches of uses are sorted.  First we probe the tables; the statements for
 * that take the batch as one array per column.  We leave out keys that are not
 * committed, and those that were erased.  We store at most 64 client addresses
 * of a key in an hour; uses from further addresses are counted without an
 * address.
 *
 * The probe also tells which rows of key_usage exist.  We update those, and
 * insert the others.  INSERT ... ON CONFLICT would need no probe, but it looks
 * up each row once more and writes a third more WAL.  Only one transaction at a
 * time writes the history of a database (usage_lock.c), so the result of the
 * probe stays valid, unless somebody removes rows by hand at that moment.  Then
 * we raise an error, and the whole batch is written next time.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "utils/array.h"
#include "utils/queryenvironment.h"
#include "utils/timestamp.h"
#include "utils/tuplestore.h"

#include "server/server.h"
#include "usage/usage.h"

/* Rows for key_usage, with known keys and not too many client addresses. */
typedef struct Rows
{
	OaUses	   *uses;
	int			count;
} Rows;

/* What has to be done with a row. */
typedef enum RowKind
{
	ROW_NEW, ROW_WITH_ADDRESS, ROW_WITHOUT_ADDRESS,
	ROW_KINDS
} RowKind;

/* What key_usage has of a key in an hour. */
typedef struct Hour
{
	bool		known;			/* is the key committed? */
	Datum	   *addresses;		/* inet */
	int			count;			/* of the addresses */
	bool		without_address;	/* is there the row without an address? */
} Hour;

/*
 * Probe the tables for each key and hour.  Does the key exist?  Which addresses
 * does it have in that hour?  Subqueries use the index, whereas the planner
 * might reverse a join.
 */
static OaStatement probe = {
	.table = "key_usage",
	.text = "SELECT (SELECT true FROM overten_auth.api_keys k "
	"WHERE k.key_id = u.key_id AND k.erased_at IS NULL) IS NOT NULL, "
	"(SELECT array_agg(x.client_addr) FROM overten_auth.key_usage x "
	"WHERE x.key_id = u.key_id AND x.hour = u.hour) "
	"FROM unnest($1, $2) WITH ORDINALITY u (key_id, hour, n) "
	"ORDER BY u.n",
	.argtypes = {TEXTARRAYOID, TIMESTAMPTZARRAYOID},
};

#define USAGE_COLUMNS \
	"(key_id, hour, client_addr, accepted, refused, limited, first_used_at, " \
	"last_used_at)"

/* The name under which a statement reads the rows that it writes. */
#define ROWS	"uses"

/*
 * How many rows the planner takes these to be.  Whatever their number is, we
 * want the index of the table to be searched for each.
 */
#define ROWS_ESTIMATE	10

/*
 * The sum of two counts, which stops at the maximum so that it cannot
 * overflow.
 */
#define ADD(column) \
	column " = LEAST(t." column ", 9223372036854775807 " \
	"- u." column ") + u." column

#define UPDATE_USAGE(client) \
	"UPDATE overten_auth.key_usage t SET " ADD("accepted") ", " \
	ADD("refused") ", " ADD("limited") ", " \
	"first_used_at = LEAST(t.first_used_at, u.first_used_at), " \
	"last_used_at = GREATEST(t.last_used_at, u.last_used_at) " \
	"FROM " ROWS " u WHERE t.key_id = u.key_id AND t.hour = u.hour AND " client

static OaStatement write_rows[ROW_KINDS] = {
	[ROW_NEW] = {
		.table = "key_usage",
		.text = "INSERT INTO overten_auth.key_usage " USAGE_COLUMNS
		" SELECT * FROM " ROWS,
	},
	[ROW_WITH_ADDRESS] = {
		.table = "key_usage",
		.text = UPDATE_USAGE("t.client_addr = u.client_addr"),
	},
	[ROW_WITHOUT_ADDRESS] = {
		.table = "key_usage",
		.text = UPDATE_USAGE("t.client_addr IS NULL"),
	},
};

/* Move the time of the last use forward. */
static OaStatement set_last_used = {
	.table = "key_last_used",
	.text = "UPDATE overten_auth.key_last_used t "
	"SET last_used_at = GREATEST(t.last_used_at, u.at) "
	"FROM unnest($1, $2) u (key_id, at) WHERE t.key_id = u.key_id",
	.argtypes = {TEXTARRAYOID, TIMESTAMPTZARRAYOID},
};

/* Likewise, if keys have no row yet, because minting did not make it. */
static OaStatement add_last_used = {
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

/* Sort uses by key, hour and address. */
void
oa_sort_uses(OaUses *uses, int count)
{
	qsort(uses, count, sizeof(OaUses), compare_uses);
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

/* Write the time of each key's last use. */
static void
write_last_used(const OaUses *batch, int batch_count, const bool *known)
{
	Datum	   *key_ids = palloc(batch_count * sizeof(Datum));
	Datum	   *times = palloc(batch_count * sizeof(Datum));
	const OaUses *previous = NULL;
	TimestampTz last = 0;
	int			count = 0;

	for (int i = 0; i < batch_count; i++)
	{
		const OaUses *uses = &batch[i];

		if (!known[i] || uses->accepted == 0)
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

		if (oa_statement_run(&set_last_used, arrays, NULL) < count)
			oa_statement_run(&add_last_used, arrays, NULL);
	}
}

/* Add the counts of one row to another. */
static void
merge(OaUses *into, const OaUses *uses)
{
	into->accepted += uses->accepted;
	into->refused += uses->refused;
	into->limited += uses->limited;
	into->first_used_at = Min(into->first_used_at, uses->first_used_at);
	into->last_accepted_at = Max(into->last_accepted_at,
								 uses->last_accepted_at);
	into->last_refused_at = Max(into->last_refused_at, uses->last_refused_at);
}

/*
 * Sort uses, and merge those that have the same key, hour and address.  Returns
 * how many are left.
 */
int
oa_merge_uses(OaUses *uses, int count)
{
	int			merged = 0;

	oa_sort_uses(uses, count);
	for (int i = 0; i < count; i++)
	{
		if (merged > 0 && compare_uses(&uses[merged - 1], &uses[i]) == 0)
			merge(&uses[merged - 1], &uses[i]);
		else
			uses[merged++] = uses[i];
	}
	return merged;
}

/* Probe the tables for the keys and hours of a sorted batch. */
static void
probe_hours(const OaUses *uses, int count)
{
	OaUses	   *hours = palloc(count * sizeof(OaUses));
	Datum		arrays[2];
	int			hour_count = 0;

	for (int i = 0; i < count; i++)
	{
		if (i == 0 || !same_hour(&uses[i - 1], &uses[i]))
			hours[hour_count++] = uses[i];
	}
	oa_make_use_arrays(hours, hour_count, lengthof(arrays), arrays);
	oa_statement_run(&probe, arrays, NULL);
	pfree(hours);
}

/* Read a row of the probe, which is SPI's last result. */
static void
read_hour(int row, Hour *hour)
{
	bool		isnull;
	Datum		array = oa_statement_result(row, 2, INETARRAYOID, &isnull);
	bool	   *nulls;
	int			count = 0;

	hour->known = oa_statement_bool(row, 1);
	hour->count = 0;
	if (!isnull)
		deconstruct_array(DatumGetArrayTypeP(array), INETOID, -1, false,
						  TYPALIGN_INT, &hour->addresses, &nulls, &count);
	for (int i = 0; i < count; i++)
	{
		if (!nulls[i])
			hour->addresses[hour->count++] = hour->addresses[i];
	}
	hour->without_address = (hour->count < count);
}

/* Does key_usage have a row with this address? */
static bool
has_address(const Hour *hour, const OaHistoryAddr *client)
{
	for (int i = 0; i < hour->count; i++)
	{
		if (oa_is_history_addr(hour->addresses[i], client))
			return true;
	}
	return false;
}

/*
 * Make rows from the uses of a key in an hour.  If there are too many addresses,
 * we count a new one in the row without an address.
 */
static void
make_rows_of_hour(const OaUses *uses, int count, const Hour *hour, Rows *rows)
{
	OaUses	   *without_address = NULL;
	int			addresses = hour->count;

	for (int i = 0; i < count; i++)
	{
		OaUses		row = uses[i];
		RowKind		kind = ROW_NEW;

		if (row.key.client.family != 0)
		{
			if (has_address(hour, &row.key.client))
				kind = ROW_WITH_ADDRESS;
			else if (++addresses > OA_ADDRESSES_MAX)
				memset(&row.key.client, 0, sizeof(row.key.client));
		}
		if (row.key.client.family == 0)
		{
			if (without_address != NULL)
			{
				merge(without_address, &row);
				continue;
			}
			if (hour->without_address)
				kind = ROW_WITHOUT_ADDRESS;
			without_address = &rows[kind].uses[rows[kind].count];
		}
		rows[kind].uses[rows[kind].count++] = row;
	}
}

/* Make rows from a sorted batch that was probed. */
static void
make_rows(const OaUses *uses, int count, bool *known, Rows *rows)
{
	int			hour_count = 0;

	for (int kind = 0; kind < ROW_KINDS; kind++)
	{
		rows[kind].uses = palloc(count * sizeof(OaUses));
		rows[kind].count = 0;
	}
	for (int i = 0, next; i < count; i = next)
	{
		Hour		hour;

		read_hour(hour_count++, &hour);
		for (next = i; next < count && same_hour(&uses[i], &uses[next]); next++)
			known[next] = hour.known;
		if (hour.known)
			make_rows_of_hour(&uses[i], next - i, &hour, rows);
	}
}

/*
 * Let statements read rows, under the name ROWS.  If they took one array per
 * column, they would have to put the rows together again.  Returns where the
 * rows are, for unregister_rows().
 */
static Tuplestorestate *
register_rows(const Rows *rows)
{
	static const OaColumn columns[OA_USE_COLUMNS] = {
		[OA_USE_KEY_ID] = {"key_id", TEXTOID},
		[OA_USE_HOUR] = {"hour", TIMESTAMPTZOID},
		[OA_USE_CLIENT_ADDR] = {"client_addr", INETOID},
		[OA_USE_ACCEPTED] = {"accepted", INT8OID},
		[OA_USE_REFUSED] = {"refused", INT8OID},
		[OA_USE_LIMITED] = {"limited", INT8OID},
		[OA_USE_FIRST_USED_AT] = {"first_used_at", TIMESTAMPTZOID},
		[OA_USE_LAST_USED_AT] = {"last_used_at", TIMESTAMPTZOID},
	};
	static TupleDesc descriptor = NULL;
	Tuplestorestate *store = tuplestore_begin_heap(false, false, work_mem);
	EphemeralNamedRelation relation;

	if (descriptor == NULL)
		descriptor = oa_make_columns(columns, OA_USE_COLUMNS);
	for (int i = 0; i < rows->count; i++)
	{
		Datum		values[OA_USE_COLUMNS];
		bool		nulls[OA_USE_COLUMNS];

		oa_use_values(&rows->uses[i], values, nulls);
		tuplestore_putvalues(store, descriptor, values, nulls);
	}

	relation = palloc0(sizeof(EphemeralNamedRelationData));
	relation->md.name = pstrdup(ROWS);
	relation->md.tupdesc = descriptor;
	relation->md.enrtype = ENR_NAMED_TUPLESTORE;
	relation->md.enrtuples = ROWS_ESTIMATE;
	relation->reldata = store;
	if (SPI_register_relation(relation) != SPI_OK_REL_REGISTER)
		elog(ERROR, "could not register the rows of a batch");
	return store;
}

static void
unregister_rows(Tuplestorestate *store)
{
	if (SPI_unregister_relation(ROWS) != SPI_OK_REL_UNREGISTER)
		elog(ERROR, "could not unregister the rows of a batch");
	tuplestore_end(store);
}

/* Write rows, all of which must be there already, or must be new. */
static void
write_kind(RowKind kind, const Rows *rows)
{
	Tuplestorestate *store;

	if (rows->count == 0)
		return;
	store = register_rows(rows);
	if (oa_statement_run(&write_rows[kind], NULL, NULL) != rows->count)
		ereport(ERROR,
				(errcode(ERRCODE_T_R_SERIALIZATION_FAILURE),
				 errmsg("rows of overten_auth.key_usage were changed during a flush"),
				 errdetail("The next flush will write the same uses.")));
	unregister_rows(store);
}

/*
 * Write sorted uses in the current transaction.  Sets known[i] to whether the
 * key of uses[i] exists; if not, that use was not written.
 */
void
oa_write_uses(const OaUses *uses, int count, bool *known)
{
	int			level = oa_statements_begin();
	Rows		rows[ROW_KINDS];

	probe_hours(uses, count);
	make_rows(uses, count, known, rows);
	for (int kind = 0; kind < ROW_KINDS; kind++)
		write_kind(kind, &rows[kind]);
	write_last_used(uses, count, known);
	oa_statements_end(level);
}
