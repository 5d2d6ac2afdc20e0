/*
 * statement.c
 *		Runs the extension's own SQL, as the owner of its tables.
 *
 * The caller of a function needs nothing but EXECUTE on it.  So a statement
 * runs with the rights of the owner of the table that it is about, as the
 * queries of foreign keys do; SECURITY_LOCAL_USERID_CHANGE forbids SET ROLE
 * meanwhile.  After an error, the abort of the (sub)transaction restores the
 * caller's rights.
 *
 * PostgreSQL parses a statement when it is first run, and again after its
 * tables have changed, with search_path set to pg_catalog and pg_temp.  It
 * never looks up a function or an operator in pg_temp.  So names in statements
 * mean PostgreSQL's own functions, operators and types; only tables, and
 * functions of the extension, have to be qualified.  We set search_path before
 * each statement: a trigger that fires in one statement can have set another
 * path, and the owner of that table need not be the owner of the next one.
 *
 * A worker's session is a superuser's, but the tables may belong to a role
 * that is not a superuser and has put triggers on them.  So in a worker we
 * also set SECURITY_RESTRICTED_OPERATION.  It forbids deferring a trigger to
 * the end of the transaction, where the trigger would run with the rights of
 * the session.
 *
 * The contents of a row must not reach the log.  Plans are generic, whatever
 * plan_cache_mode says, so that auto_explain shows $1 and not a value.  If a
 * row breaks a constraint, we do not put the row into the message.
 *
 * Between oa_statements_begin() and oa_statements_end() the memory context is
 * SPI's.  The caller must make its result before or after that, or copy it as
 * oa_statement_text() does.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "catalog/namespace.h"
#include "catalog/pg_class.h"
#include "jit/jit.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/lsyscache.h"
#include "utils/plancache.h"
#include "utils/snapmgr.h"
#include "utils/syscache.h"

#include "server/server.h"

#define SEARCH_PATH		"pg_catalog, pg_temp"

/* Return the owner of a table of the extension. */
static Oid
table_owner(const char *table)
{
	Oid			relid = get_relname_relid(table,
										  get_namespace_oid(OA_SCHEMA, true));
	HeapTuple	tuple = SearchSysCache1(RELOID, ObjectIdGetDatum(relid));
	Oid			owner;

	if (!HeapTupleIsValid(tuple))
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("table %s.%s does not exist", OA_SCHEMA, table),
				 errhint("Run CREATE EXTENSION overten_auth in this database.")));
	owner = ((Form_pg_class) GETSTRUCT(tuple))->relowner;
	ReleaseSysCache(tuple);
	return owner;
}

/* Set a setting until oa_statements_end(). */
static void
set_meanwhile(const char *name, const char *value, GucAction action)
{
	(void) set_config_option(name, value, PGC_USERSET, PGC_S_SESSION,
							 action, true, 0, false);
}

/* Set the settings that statements depend on. */
static void
set_environment(GucAction action)
{
	set_meanwhile("search_path", SEARCH_PATH, action);
	/* Only "auto" respects CURSOR_OPT_GENERIC_PLAN of a statement. */
	set_meanwhile("plan_cache_mode", "auto", action);

	/*
	 * The planner thinks that a statement reads a part of its table, and
	 * would have it compiled each time that it runs.
	 */
	if (jit_enabled)
		set_meanwhile("jit", "off", action);
}

/* Set these settings again if a trigger has changed one. */
static void
restore_environment(void)
{
	if (strcmp(namespace_search_path, SEARCH_PATH) != 0 ||
		plan_cache_mode != PLAN_CACHE_MODE_AUTO)
		set_environment(GUC_ACTION_LOCAL);
}

/* Begin to run statements.  Pass the result to oa_statements_end(). */
int
oa_statements_begin(void)
{
	int			guc_level;

	if (SPI_connect() != SPI_OK_CONNECT)
		elog(ERROR, "SPI_connect failed");
	guc_level = NewGUCNestLevel();
	set_environment(GUC_ACTION_SAVE);
	return guc_level;
}

/* Stop running statements. */
void
oa_statements_end(int guc_level)
{
	AtEOXact_GUC(false, guc_level);
	if (SPI_finish() != SPI_OK_FINISH)
		elog(ERROR, "SPI_finish failed");
}

/*
 * If a row breaks a constraint, remove the row from the message.  If the
 * library is newer than the tables, add a hint about that.
 */
static void
amend_error(void *arg)
{
	int			code = geterrcode();

	if (ERRCODE_TO_CATEGORY(code) == ERRCODE_INTEGRITY_CONSTRAINT_VIOLATION)
		errdetail_internal("The row is not shown because it may hold a secret.");
	if (code == ERRCODE_UNDEFINED_COLUMN || code == ERRCODE_UNDEFINED_TABLE ||
		code == ERRCODE_UNDEFINED_FUNCTION)
		errhint("Run ALTER EXTENSION overten_auth UPDATE.");
}

/* How many arguments does a statement take? */
int
oa_statement_argument_count(const OaStatement *statement)
{
	int			count = 0;

	while (OidIsValid(statement->argtypes[count]))
		count++;
	Assert(count <= OA_STATEMENT_ARGS);
	return count;
}

/* Execute a plan under the given snapshot, or let SPI take one. */
static int
execute_plan(const OaStatement *statement, const Datum *values,
			 const bool *nulls, Snapshot snapshot)
{
	int			count = oa_statement_argument_count(statement);
	Datum	   *arguments = unconstify(Datum *, values);
	char		flags[OA_STATEMENT_ARGS];

	for (int i = 0; i < count; i++)
		flags[i] = nulls != NULL && nulls[i] ? 'n' : ' ';
	if (snapshot == InvalidSnapshot)
		return SPI_execute_plan(statement->plan, arguments, flags, false, 0);
	return SPI_execute_snapshot(statement->plan, arguments, flags, snapshot,
								InvalidSnapshot, true, false, 0);
}

/*
 * Run a statement.  Returns the number of rows that it returned or wrote.
 * There is one value for each argument; "nulls" says which are NULL.  It may be
 * NULL if there are no NULLs.
 */
uint64
oa_statement_run(OaStatement *statement, const Datum *values,
				 const bool *nulls)
{
	Snapshot	snapshot;
	uint64		count;

	if (!statement->latest)
		return oa_statement_run_under(statement, values, nulls,
									  InvalidSnapshot);

	/* The result must be current, whatever the transaction's snapshot is. */
	snapshot = RegisterSnapshot(GetLatestSnapshot());
	count = oa_statement_run_under(statement, values, nulls, snapshot);
	UnregisterSnapshot(snapshot);
	return count;
}

/* Likewise, read-only under a registered snapshot. */
uint64
oa_statement_run_under(OaStatement *statement, const Datum *values,
					   const bool *nulls, Snapshot snapshot)
{
	ErrorContextCallback callback;
	Oid			caller;
	int			context;
	int			result;

	callback.callback = amend_error;
	callback.arg = NULL;
	callback.previous = error_context_stack;
	error_context_stack = &callback;

	restore_environment();
	GetUserIdAndSecContext(&caller, &context);
	SetUserIdAndSecContext(table_owner(statement->table),
						   context | SECURITY_LOCAL_USERID_CHANGE |
						   (MyBackendType == B_BG_WORKER ?
							SECURITY_RESTRICTED_OPERATION : 0));
	if (statement->plan == NULL)
	{
		SPIPlanPtr	plan = SPI_prepare_cursor(statement->text,
											  oa_statement_argument_count(statement),
											  statement->argtypes,
											  CURSOR_OPT_GENERIC_PLAN);

		if (plan == NULL || SPI_keepplan(plan) != 0)
			elog(ERROR, "could not prepare \"%s\": %s", statement->text,
				 SPI_result_code_string(SPI_result));
		statement->plan = plan;
	}
	result = execute_plan(statement, values, nulls, snapshot);
	if (result < 0)
		elog(ERROR, "could not run \"%s\": %s", statement->text,
			 SPI_result_code_string(result));
	SetUserIdAndSecContext(caller, context);
	error_context_stack = callback.previous;
	return SPI_processed;
}

/* Raise 55000: the owner of an object has changed it. */
void
oa_refuse_changed_object(const char *detail)
{
	ereport(ERROR,
			(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
			 errmsg("an object of overten_auth is not as the extension has made it"),
			 errdetail_internal("%s", detail),
			 errhint("Undo the change, or run ALTER EXTENSION overten_auth UPDATE.")));
}

/*
 * Return a value of the last statement's result, in SPI's memory.  Unless
 * "isnull" is NULL, the value may be.  The owner of a table can change it, and
 * so what a statement returns, if it returns anything.  So we look before we
 * take the value for one of this type.
 */
Datum
oa_statement_result(int row, int column, Oid type, bool *isnull)
{
	SPITupleTable *result = SPI_tuptable;
	Datum		value;
	bool		is_null;

	if (result == NULL || row >= result->numvals ||
		column > result->tupdesc->natts)
		oa_refuse_changed_object("A statement returned fewer values than it should.");
	if (TupleDescAttr(result->tupdesc, column - 1)->atttypid != type)
		oa_refuse_changed_object(psprintf("Column \"%s\" of a statement must be of type %s.",
										  SPI_fname(result->tupdesc, column),
										  format_type_be(type)));
	value = SPI_getbinval(result->vals[row], result->tupdesc, column, &is_null);
	if (isnull != NULL)
		*isnull = is_null;
	else if (is_null)
		oa_refuse_changed_object(psprintf("Column \"%s\" of a statement must not be NULL.",
										  SPI_fname(result->tupdesc, column)));
	return value;
}

/* Likewise, values of types that are passed by value. */
bool
oa_statement_bool(int row, int column)
{
	return DatumGetBool(oa_statement_result(row, column, BOOLOID, NULL));
}

int64
oa_statement_int64(int row, int column)
{
	return DatumGetInt64(oa_statement_result(row, column, INT8OID, NULL));
}

TimestampTz
oa_statement_time(int row, int column, bool *isnull)
{
	return DatumGetTimestampTz(oa_statement_result(row, column,
												   TIMESTAMPTZOID, isnull));
}

/* Copy a value with a length word into the caller's memory. */
static void *
transfer(struct varlena *value)
{
	return DatumGetPointer(SPI_datumTransfer(PointerGetDatum(value), false, -1));
}

/* Return a text of the last statement's result in the caller's memory. */
text	   *
oa_statement_text(int row, int column)
{
	return transfer(DatumGetTextPP(oa_statement_result(row, column, TEXTOID,
													   NULL)));
}

/* Likewise, or NULL. */
text	   *
oa_statement_text_or_null(int row, int column)
{
	bool		isnull;
	Datum		value = oa_statement_result(row, column, TEXTOID, &isnull);

	return isnull ? NULL : transfer(DatumGetTextPP(value));
}

/* Likewise, a value of another type with a length word, which is not packed. */
struct varlena *
oa_statement_varlena(int row, int column, Oid type)
{
	return transfer(PG_DETOAST_DATUM(oa_statement_result(row, column, type,
														 NULL)));
}

/* Likewise, or NULL. */
struct varlena *
oa_statement_varlena_or_null(int row, int column, Oid type)
{
	bool		isnull;
	Datum		value = oa_statement_result(row, column, type, &isnull);

	return isnull ? NULL : transfer(PG_DETOAST_DATUM(value));
}

/*
 * Return a column of texts of the first rows of the last statement's result,
 * which must not be NULL.  The values last as long as the result.
 */
Datum	   *
oa_statement_column(int count, int column)
{
	Datum	   *values = palloc(Max(count, 1) * sizeof(Datum));

	for (int row = 0; row < count; row++)
		values[row] = oa_statement_result(row, column, TEXTOID, NULL);
	return values;
}

/*
 * Return a row of the last statement's result to the caller of a set-returning
 * function.  The function must have called oa_begin_set() before.
 */
void
oa_statement_return_row(FunctionCallInfo fcinfo, int row)
{
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;

	oa_check_set(fcinfo, SPI_tuptable->tupdesc);
	tuplestore_puttuple(rsinfo->setResult, SPI_tuptable->vals[row]);
}

/* Likewise, with another value in a column. */
void
oa_statement_return_changed(FunctionCallInfo fcinfo, int row, int column,
							Datum value)
{
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;
	TupleDesc	descriptor = SPI_tuptable->tupdesc;
	Datum		values[MaxTupleAttributeNumber];
	bool		nulls[MaxTupleAttributeNumber];

	oa_check_set(fcinfo, descriptor);
	heap_deform_tuple(SPI_tuptable->vals[row], descriptor, values, nulls);
	values[column - 1] = value;
	nulls[column - 1] = false;
	tuplestore_putvalues(rsinfo->setResult, descriptor, values, nulls);
}

/* Return all rows of the last statement's result. */
void
oa_statement_return_rows(FunctionCallInfo fcinfo)
{
	int			count = (int) SPI_processed;

	for (int row = 0; row < count; row++)
	{
		CHECK_FOR_INTERRUPTS();
		oa_statement_return_row(fcinfo, row);
	}
}
