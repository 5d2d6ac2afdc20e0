/*
 * single_row.c
 *		Returns from set-returning functions that have at most one row.
 *
 * We declare a function whose answer may be empty as SETOF, so that an empty
 * answer is no row.  In FROM, a NULL of a composite type would be a row of
 * NULLs, which every client would take for an answer.
 *
 * The executor calls a set-returning function in two ways:
 *
 * - In FROM it collects the rows in a tuplestore, and stops at the first row
 *   that does not come with ExprMultipleResult.  It presets ExprSingleResult,
 *   so if we do not change that, the set ends without a second call.
 * - In a select list it continues to call the function while any set-returning
 *   function of the list has rows.  ExprSingleResult does not end a set there:
 *   for each row of another function, and once more after its last row, our
 *   row would come again, and its use would be recorded again.  So in this
 *   case we return ExprMultipleResult, and answer the next call with
 *   ExprEndResult.
 *
 * Between these two calls fn_extra points to the function's own FmgrInfo.  If
 * the executor starts over without the second call, as it does after a LIMIT
 * in a subquery, a callback of its expression context resets fn_extra.
 */
#include "postgres.h"

#include "funcapi.h"

#include "server/server.h"

/* Make the next call return a row again. */
static void
forget_returned_row(Datum function)
{
	((FmgrInfo *) DatumGetPointer(function))->fn_extra = NULL;
}

/*
 * Begin a call of a function that returns at most one row.  Returns true if
 * the previous call has returned that row; the function must then return at
 * once without doing anything.
 */
bool
oa_single_row_was_returned(FunctionCallInfo fcinfo)
{
	ReturnSetInfo *result = (ReturnSetInfo *) fcinfo->resultinfo;
	Datum		function = PointerGetDatum(fcinfo->flinfo);

	if (fcinfo->flinfo->fn_extra == NULL)
		return false;
	UnregisterExprContextCallback(result->econtext, forget_returned_row,
								  function);
	forget_returned_row(function);
	result->isDone = ExprEndResult;
	fcinfo->isnull = true;
	return true;
}

/*
 * Return a row, whose type is already set (row_type.c).  If it is NULL, return
 * no row, or NULL from a function that is not declared SETOF.
 */
Datum
oa_return_single_row(FunctionCallInfo fcinfo, HeapTupleHeader row)
{
	ReturnSetInfo *result = (ReturnSetInfo *) fcinfo->resultinfo;

	if (fcinfo->flinfo->fn_retset)
	{
		if (result == NULL || !IsA(result, ReturnSetInfo) ||
			(result->allowedModes & SFRM_ValuePerCall) == 0)
			ereport(ERROR,
					(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
					 errmsg("set-valued function called in context that cannot accept a set")));
		if (row == NULL)
			result->isDone = ExprEndResult;
		else if ((result->allowedModes & SFRM_Materialize_Preferred) == 0)
		{
			/*
			 * This is a select list, because only FROM prefers a tuplestore.
			 */
			result->isDone = ExprMultipleResult;
			fcinfo->flinfo->fn_extra = fcinfo->flinfo;
			RegisterExprContextCallback(result->econtext, forget_returned_row,
										PointerGetDatum(fcinfo->flinfo));
		}
	}

	if (row == NULL)
		PG_RETURN_NULL();
	PG_RETURN_HEAPTUPLEHEADER(row);
}
