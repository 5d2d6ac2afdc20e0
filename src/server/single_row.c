/*
 * single_row.c
 *		Returns from set-returning functions that have at most one row.
 *
 * A function whose answer may be "none" is declared SETOF, so that "none" is no
 * row.  A composite type that is NULL would be a row of NULLs in FROM, which
 * every client takes for an answer.
 *
 * The executor calls a set-returning function in two ways:
 *
 * - In FROM it collects the rows in a tuplestore, and stops at the first one
 *	 that does not come with ExprMultipleResult.  It presets ExprSingleResult, so
 *	 leaving that as it is ends the set without a second call.
 * - In a select list it goes on calling while any set-returning function of the
 *	 list has rows, and ExprSingleResult does not end a set there: our row, and
 *	 the use that is recorded with it, would be repeated for each row of another
 *	 function and once more after its last.  So there we say ExprMultipleResult
 *	 and answer the next call with ExprEndResult.
 *
 * Between these two calls fn_extra points to the function's own FmgrInfo.  If
 * the executor starts over without the second one, as after a LIMIT in a
 * subquery, a callback of its expression context clears that.
 */
#include "postgres.h"

#include "funcapi.h"

#include "server/server.h"

/* The next call is for a first row again. */
static void
forget_returned_row(Datum function)
{
	((FmgrInfo *) DatumGetPointer(function))->fn_extra = NULL;
}

/*
 * Begin a call of such a function.  Returns true if the row has been returned
 * by the call before; then the function must do nothing and return at once.
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
 * Return a row, which has its type (row_type.c), or if it is NULL no row.  A
 * function that is not declared SETOF returns NULL instead of no row.
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
			/* A select list: only FROM prefers a tuplestore. */
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
