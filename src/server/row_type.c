/*
 * row_type.c
 *		Returns rows of the types that the functions are declared with.
 *
 * A declaration is as old as the extension's objects, and can be older or newer
 * than the library.  Values that it takes for those of another type would be
 * read as such, whatever bytes they have.  So no row is returned before its
 * column types have been compared with the declaration.
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
#include "funcapi.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/regproc.h"
#include "utils/typcache.h"

#include "server/server.h"

/* Raise 55000: the function returns something else than it is declared to. */
pg_noreturn static void
refuse_declaration(const FmgrInfo *function)
{
	ereport(ERROR,
			(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
			 errmsg("result type of function %s is not that of this version of overten_auth",
					format_procedure(function->fn_oid)),
			 errhint("Run ALTER EXTENSION overten_auth UPDATE.")));
}

/*
 * Raise 55000 unless the function is declared with so many arguments: its
 * declaration can be older than the library.
 */
void
oa_require_argument_count(FunctionCallInfo fcinfo, int count)
{
	if (PG_NARGS() != count)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("function %s does not have the arguments of this version of overten_auth",
						format_procedure(fcinfo->flinfo->fn_oid)),
				 errhint("Run ALTER EXTENSION overten_auth UPDATE.")));
}

/*
 * Make a row type that lasts as long as the session.  It has no number as an
 * anonymous type yet, because oa_set_row_type() rarely needs that.
 */
TupleDesc
oa_make_columns(const OaColumn *columns, int count)
{
	MemoryContext caller = MemoryContextSwitchTo(TopMemoryContext);
	TupleDesc	descriptor = CreateTemplateTupleDesc(count);

	for (int i = 0; i < count; i++)
		TupleDescInitEntry(descriptor, (AttrNumber) (i + 1), columns[i].name,
						   columns[i].type, -1,
						   type_is_array(columns[i].type) ? 1 : 0);
	MemoryContextSwitchTo(caller);
	return descriptor;
}

/* Raise 55000 unless a row type has these columns. */
void
oa_require_columns(const FmgrInfo *function, TupleDesc declared,
				   const Oid *types, int count)
{
	bool		matches = (declared->natts == count);

	for (int i = 0; matches && i < count; i++)
		matches = (TupleDescAttr(declared, i)->atttypid == types[i]);
	if (!matches)
		refuse_declaration(function);
}

/* The same for the columns of another row type. */
static void
require_same_columns(const FmgrInfo *function, TupleDesc declared,
					 TupleDesc columns)
{
	Oid			types[MaxTupleAttributeNumber];

	for (int i = 0; i < columns->natts; i++)
		types[i] = TupleDescAttr(columns, i)->atttypid;
	oa_require_columns(function, declared, types, columns->natts);
}

/*
 * The columns that a function is declared to return.  In FROM, the executor has
 * looked them up already, and says so.
 */
static TupleDesc
declared_columns(FunctionCallInfo fcinfo)
{
	ReturnSetInfo *result = (ReturnSetInfo *) fcinfo->resultinfo;
	TupleDesc	declared;

	if (result != NULL && IsA(result, ReturnSetInfo) &&
		result->expectedDesc != NULL &&
		type_is_rowtype(get_fn_expr_rettype(fcinfo->flinfo)))
		return result->expectedDesc;
	if (get_call_result_type(fcinfo, NULL, &declared) != TYPEFUNC_COMPOSITE)
		refuse_declaration(fcinfo->flinfo);
	return declared;
}

/*
 * The row that a function returns.  "nulls" says which values are NULL, or is
 * NULL if none is.  Raises 55000 if the function is declared with other columns.
 */
Datum
oa_result_row(FunctionCallInfo fcinfo, const Oid *types, int count,
			  const Datum *values, const bool *nulls)
{
	static const bool no_nulls[MaxTupleAttributeNumber];
	TupleDesc	declared = declared_columns(fcinfo);

	oa_require_columns(fcinfo->flinfo, declared, types, count);
	return HeapTupleGetDatum(heap_form_tuple(declared,
											 unconstify(Datum *, values),
											 unconstify(bool *, nulls != NULL ?
														nulls : no_nulls)));
}

/*
 * Begin to return a set of rows, in a tuplestore.  Raises 55000 if the function
 * is not declared to return rows.
 */
void
oa_begin_set(FunctionCallInfo fcinfo)
{
	if (get_call_result_type(fcinfo, NULL, NULL) != TYPEFUNC_COMPOSITE)
		refuse_declaration(fcinfo->flinfo);
	InitMaterializedSRF(fcinfo, 0);
}

/* Raise 55000 unless rows with these columns may be added to the set. */
void
oa_check_set(FunctionCallInfo fcinfo, TupleDesc columns)
{
	require_same_columns(fcinfo->flinfo,
						 ((ReturnSetInfo *) fcinfo->resultinfo)->setDesc,
						 columns);
}

/*
 * Give a row the named type that the calling expression expects.  That type
 * must have these columns, or else we raise 55000.  Without an expression the
 * row is anonymous, as a type that this session numbers: the row may be from
 * the shared cache, and another session numbers its types otherwise.  The
 * function keeps in *checked what we have checked.  ALTER TYPE gives the entry
 * of the type another identifier.
 */
void
oa_set_row_type(HeapTupleHeader row, TupleDesc columns, FmgrInfo *function,
				OaCheckedType *checked)
{
	Oid			type = get_fn_expr_rettype(function);

	if (!OidIsValid(type) || type == RECORDOID)
	{
		HeapTupleHeaderSetTypeId(row, RECORDOID);
		HeapTupleHeaderSetTypMod(row, BlessTupleDesc(columns)->tdtypmod);
		return;
	}

	if (checked->entry == NULL || checked->entry->type_id != type ||
		checked->entry->tupDesc_identifier != checked->identifier)
	{
		TypeCacheEntry *entry = lookup_type_cache(type, TYPECACHE_TUPDESC);

		if (entry->tupDesc == NULL)
			refuse_declaration(function);
		require_same_columns(function, entry->tupDesc, columns);
		checked->entry = entry;
		checked->identifier = entry->tupDesc_identifier;
	}
	HeapTupleHeaderSetTypeId(row, type);
	HeapTupleHeaderSetTypMod(row, -1);
}
