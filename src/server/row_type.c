/*
 * row_type.c
 *		Gives rows that were made without the catalog their SQL type.
 *
 * A function with a named row type costs its caller less than one with OUT
 * parameters, whose row type is put together from the catalog for each
 * execution.  The row itself is formed by a descriptor that the backend keeps.
 * Only the declaration says which type it has to have; whether that fits is
 * looked at when a type is met first.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "catalog/pg_type.h"
#include "utils/builtins.h"
#include "utils/typcache.h"

#include "server/server.h"

/*
 * Give an anonymous row the named type that the calling expression expects,
 * which must have these columns; raises 42804 if it has others.  Without an
 * expression the row stays anonymous.  "checked_type" is the function's own
 * memory of the type that was found good.
 */
void
oa_set_row_type(HeapTupleHeader row, TupleDesc columns, FmgrInfo *function,
				Oid *checked_type)
{
	Oid			type = get_fn_expr_rettype(function);

	if (!OidIsValid(type) || type == RECORDOID)
		return;

	if (type != *checked_type)
	{
		TupleDesc	descriptor = lookup_rowtype_tupdesc(type, -1);
		bool		matches = descriptor->natts == columns->natts;

		for (int i = 0; matches && i < columns->natts; i++)
			matches = TupleDescAttr(descriptor, i)->atttypid ==
				TupleDescAttr(columns, i)->atttypid;
		ReleaseTupleDesc(descriptor);
		if (!matches)
			ereport(ERROR,
					(errcode(ERRCODE_DATATYPE_MISMATCH),
					 errmsg("type %s is not the result type of this version of overten_auth",
							format_type_be(type)),
					 errhint("Run ALTER EXTENSION overten_auth UPDATE.")));
		*checked_type = type;
	}
	HeapTupleHeaderSetTypeId(row, type);
	HeapTupleHeaderSetTypMod(row, -1);
}
