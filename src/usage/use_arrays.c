/*
 * use_arrays.c
 *		Converts uses of keys to arguments of a statement, one array per
 *		column, and back.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/timestamp.h"

#include "usage/usage.h"

static const Oid column_types[OA_SENT_COLUMNS] = {
	TEXTOID, TIMESTAMPTZOID, INETOID, INT8OID, INT8OID, INT8OID,
	TIMESTAMPTZOID, TIMESTAMPTZOID, TIMESTAMPTZOID
};

/* Likewise the types of the arrays. */
static const Oid array_types[OA_SENT_COLUMNS] = {
	TEXTARRAYOID, TIMESTAMPTZARRAYOID, INETARRAYOID, INT8ARRAYOID, INT8ARRAYOID,
	INT8ARRAYOID, TIMESTAMPTZARRAYOID, TIMESTAMPTZARRAYOID, TIMESTAMPTZARRAYOID
};

/* The most that one row counts, so that sums stay far from the maximum. */
#define COUNT_MAX	INT64CONST(1000000000000)

/* Return the id of the key. */
Datum
oa_use_key_id(const OaUses *uses)
{
	const char *id = uses->key.key_id;

	return PointerGetDatum(cstring_to_text_with_len(id,
													(int) strnlen(id, sizeof(uses->key.key_id))));
}

/* Return the value of a column. */
static Datum
column_of(const OaUses *uses, int column, bool *isnull)
{
	*isnull = false;
	switch (column)
	{
		case OA_USE_KEY_ID:
			return oa_use_key_id(uses);
		case OA_USE_HOUR:
			return TimestampTzGetDatum(uses->key.hour * USECS_PER_HOUR);
		case OA_USE_CLIENT_ADDR:
			*isnull = (uses->key.client.family == 0);
			return *isnull ? (Datum) 0 :
				oa_history_addr_datum(&uses->key.client);
		case OA_USE_ACCEPTED:
			return Int64GetDatum(uses->accepted);
		case OA_USE_REFUSED:
			return Int64GetDatum(uses->refused);
		case OA_USE_LIMITED:
			return Int64GetDatum(uses->limited);
		case OA_USE_FIRST_USED_AT:
			return TimestampTzGetDatum(uses->first_used_at);
		case OA_USE_LAST_ACCEPTED_AT:
			/* A later use, which is not in the batch, may have one. */
			*isnull = (uses->accepted == 0);
			return TimestampTzGetDatum(uses->last_accepted_at);
		default:
			return TimestampTzGetDatum(Max(uses->last_accepted_at,
										   uses->last_refused_at));
	}
}

/* Set the values of the columns of key_usage. */
void
oa_use_values(const OaUses *uses, Datum *values, bool *nulls)
{
	for (int column = 0; column < OA_USE_COLUMNS; column++)
		values[column] = column_of(uses, column, &nulls[column]);
}

/* Make an array of a base type. "nulls" may be NULL if there are no NULLs. */
Datum
oa_make_array(Datum *values, bool *nulls, int count, Oid type)
{
	int			lower_bound = 1;
	int16		length;
	bool		byval;
	char		align;

	get_typlenbyvalalign(type, &length, &byval, &align);
	return PointerGetDatum(construct_md_array(values, nulls, 1, &count,
											  &lower_bound, type, length,
											  byval, align));
}

/* Make arrays of the first "columns" columns. */
void
oa_make_use_arrays(const OaUses *uses, int count, int columns, Datum *arrays)
{
	Datum	   *values = palloc(Max(count, 1) * sizeof(Datum));
	bool	   *nulls = palloc(Max(count, 1) * sizeof(bool));

	for (int column = 0; column < columns; column++)
	{
		for (int i = 0; i < count; i++)
			values[i] = column_of(&uses[i], column, &nulls[i]);
		arrays[column] = oa_make_array(values, nulls, count,
									   column_types[column]);
	}
	pfree(nulls);
	pfree(values);
}

/* The type of the array of a column. */
Oid
oa_use_array_type(int column)
{
	return array_types[column];
}

/* One of the arrays that we read. */
typedef struct Column
{
	Datum	   *values;
	bool	   *nulls;
	int			count;
} Column;

/* Raise 22023 because uses cannot be what a standby has counted. */
pg_noreturn static void
refuse_uses(const char *rule)
{
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("uses of keys cannot be added"),
			 errdetail_internal("%s", rule)));
}

static void
read_column(Datum array, int n, Column *column)
{
	ArrayType  *value = DatumGetArrayTypeP(array);
	Oid			type = column_types[n];
	int16		length;
	bool		byval;
	char		align;

	if (ARR_NDIM(value) > 1)
		refuse_uses("The arrays must have one dimension.");
	get_typlenbyvalalign(type, &length, &byval, &align);
	deconstruct_array(value, type, length, byval, align, &column->values,
					  &column->nulls, &column->count);
	if (column->count > OA_BATCH_MAX)
		refuse_uses(psprintf("A batch has at most %d rows.", OA_BATCH_MAX));
	for (int i = 0; i < column->count; i++)
		if (column->nulls[i] && n != OA_USE_CLIENT_ADDR &&
			n != OA_USE_LAST_ACCEPTED_AT)
			refuse_uses("Only addresses, and the times of last uses, can be NULL.");
}

/* Read a count, which is not negative. */
static int64
read_count(const Column *column, int row)
{
	int64		count = DatumGetInt64(column->values[row]);

	if (count < 0 || count > COUNT_MAX)
		refuse_uses(psprintf("A count is from 0 to " INT64_FORMAT ".", COUNT_MAX));
	return count;
}

static TimestampTz
read_time(const Column *column, int row)
{
	TimestampTz time = DatumGetTimestampTz(column->values[row]);

	if (TIMESTAMP_NOT_FINITE(time))
		refuse_uses("A time is finite.");
	return time;
}

/* Read the key, the hour and the address of a row. */
static void
read_use_key(const Column *columns, int row, OaUseKey *key)
{
	text	   *id = DatumGetTextPP(columns[OA_USE_KEY_ID].values[row]);
	int			length = VARSIZE_ANY_EXHDR(id);
	TimestampTz hour = read_time(&columns[OA_USE_HOUR], row);

	if (length == 0 || length > sizeof(key->key_id))
		refuse_uses(psprintf("The id of a key has 1 to %d bytes.",
							 (int) sizeof(key->key_id)));
	if (hour % USECS_PER_HOUR != 0)
		refuse_uses("An hour begins on the hour, in UTC.");
	memset(key, 0, sizeof(*key));
	memcpy(key->key_id, VARDATA_ANY(id), length);
	key->hour = (int32) Min(hour / USECS_PER_HOUR, PG_INT32_MAX);
	if (!columns[OA_USE_CLIENT_ADDR].nulls[row])
		key->client =
			oa_history_addr_of(columns[OA_USE_CLIENT_ADDR].values[row]);
}

/*
 * Read arrays of OA_SENT_COLUMNS columns that a standby has sent.  Returns how
 * many uses there are.  Raises 22023 if they cannot be what it has counted.
 */
int
oa_read_use_arrays(const Datum *arrays, OaUses **uses)
{
	Column		columns[OA_SENT_COLUMNS];
	int			count;

	for (int n = 0; n < OA_SENT_COLUMNS; n++)
	{
		read_column(arrays[n], n, &columns[n]);
		if (columns[n].count != columns[0].count)
			refuse_uses("The arrays must be equally long.");
	}
	count = columns[0].count;
	*uses = palloc0(Max(count, 1) * sizeof(OaUses));
	for (int row = 0; row < count; row++)
	{
		OaUses	   *use = &(*uses)[row];

		read_use_key(columns, row, &use->key);
		use->accepted = read_count(&columns[OA_USE_ACCEPTED], row);
		use->refused = read_count(&columns[OA_USE_REFUSED], row);
		use->limited = read_count(&columns[OA_USE_LIMITED], row);
		use->first_used_at = read_time(&columns[OA_USE_FIRST_USED_AT], row);
		use->last_refused_at = read_time(&columns[OA_USE_LAST_USED_AT], row);
		if (!columns[OA_USE_LAST_ACCEPTED_AT].nulls[row])
			use->last_accepted_at =
				read_time(&columns[OA_USE_LAST_ACCEPTED_AT], row);
		if ((use->accepted > 0) != (use->last_accepted_at != 0))
			refuse_uses("There is a time of the last use if there are uses.");
		if (use->accepted + use->refused + use->limited == 0)
			refuse_uses("A row counts something.");
	}
	return count;
}
