/*
 * use_arrays.c
 *		Converts uses of keys to arguments of a statement, one array per
 *		column.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/timestamp.h"

#include "usage/usage.h"

static const Oid column_types[OA_USE_COLUMNS] = {
	TEXTOID, TIMESTAMPTZOID, INETOID, INT8OID, INT8OID, INT8OID,
	TIMESTAMPTZOID, TIMESTAMPTZOID
};

/* Return the id of the key. */
Datum
oa_use_key_id(const OaUses *uses)
{
	const char *id = uses->key.key_id;

	return PointerGetDatum(cstring_to_text_with_len(id,
													(int) strnlen(id, sizeof(uses->key.key_id))));
}

/* Return the value of a column of overten_auth.key_usage. */
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
		default:
			return TimestampTzGetDatum(Max(uses->last_accepted_at,
										   uses->last_refused_at));
	}
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
