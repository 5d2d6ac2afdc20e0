/*
 * row_type.c
 *		Gives rows that were made without the catalog their SQL type.
 *
 * A function that returns a named row type costs its caller less than one with
 * OUT parameters: for those, each execution builds the row type from the
 * catalog.  We form the row itself with a descriptor that the backend keeps.
 * Only the function's declaration says which type the row must have.  We check
 * that the type fits when we first see it.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "catalog/pg_type.h"
#include "utils/builtins.h"
#include "utils/typcache.h"

#include "server/server.h"

/*
 * Give a row the named type that the calling expression expects.  That type
 * must have these columns, or else we raise 42804.  Without an expression the
 * row stays anonymous.  The function keeps the type that we have checked in
 * *checked_type.
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
