/*
 * check.c
 *		Runs the checks of overten_check() independently of one another.
 *
 * The checks are SQL functions.  The problems that they look for can make them
 * fail, such as a column that was dropped, or objects that are older than the
 * library.  So each check runs in a subtransaction of its own, and we turn its
 * error into a row.
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "utils/builtins.h"
#include "utils/resowner.h"

#include "server/server.h"

PG_FUNCTION_INFO_V1(overten_run_checks);

/* The columns that each check returns. */
enum
{
	SEVERITY, SUBJECT, PROBLEM, REMEDY, CHECK_COLUMNS
};

typedef struct Check
{
	const char *name;
	const char *query;
} Check;

static const Check checks[] = {
	{"check of privileges", "SELECT * FROM overten_auth.check_privileges()"},
	{"check of owners", "SELECT * FROM overten_auth.check_owners()"},
	{"check of tables", "SELECT * FROM overten_auth.check_tables()"},
	{"check of the configuration",
	"SELECT * FROM overten_auth.check_configuration()"},
	{"check of credits", "SELECT * FROM overten_auth.check_credits()"},
};

static const Oid check_types[CHECK_COLUMNS] = {
	[SEVERITY] = TEXTOID,
	[SUBJECT] = TEXTOID,
	[PROBLEM] = TEXTOID,
	[REMEDY] = TEXTOID,
};

/* Add the rows of a query to the result. */
static void
add_rows(FunctionCallInfo fcinfo, const char *query)
{
	int			level = oa_statements_begin();

	if (SPI_execute(query, false, 0) != SPI_OK_SELECT)
		elog(ERROR, "could not run \"%s\"", query);
	oa_statement_return_rows(fcinfo);
	oa_statements_end(level);
}

/* Add a row that says why a check has failed. */
static void
add_failure(ReturnSetInfo *result, const char *check, const ErrorData *error)
{
	Datum		values[CHECK_COLUMNS];
	bool		nulls[CHECK_COLUMNS] = {false};

	values[SEVERITY] = CStringGetTextDatum("danger");
	values[SUBJECT] = CStringGetTextDatum(check);
	values[PROBLEM] = CStringGetTextDatum(psprintf("It failed: %s",
												   error->message));
	values[REMEDY] = CStringGetTextDatum(error->hint != NULL ? error->hint :
										 "See the other rows.");
	tuplestore_putvalues(result->setResult, result->setDesc, values, nulls);
}

/* Run a check.  A cancel ends all checks. */
static void
run_check(FunctionCallInfo fcinfo, const Check *check)
{
	MemoryContext context = CurrentMemoryContext;
	ResourceOwner owner = CurrentResourceOwner;

	BeginInternalSubTransaction(NULL);
	MemoryContextSwitchTo(context);
	PG_TRY();
	{
		add_rows(fcinfo, check->query);
		ReleaseCurrentSubTransaction();
		MemoryContextSwitchTo(context);
		CurrentResourceOwner = owner;
	}
	PG_CATCH();
	{
		ErrorData  *error;

		MemoryContextSwitchTo(context);
		error = CopyErrorData();
		FlushErrorState();
		RollbackAndReleaseCurrentSubTransaction();
		MemoryContextSwitchTo(context);
		CurrentResourceOwner = owner;
		if (error->sqlerrcode == ERRCODE_QUERY_CANCELED)
			ReThrowError(error);
		add_failure((ReturnSetInfo *) fcinfo->resultinfo, check->name, error);
		FreeErrorData(error);
	}
	PG_END_TRY();
}

/*
 * overten_auth.run_checks() returns setof severity, subject, problem, remedy
 * text
 *
 * Returns the rows of all checks, and one row for each check that has failed.
 */
Datum
overten_run_checks(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *result = (ReturnSetInfo *) fcinfo->resultinfo;

	oa_begin_set(fcinfo);
	oa_require_columns(fcinfo->flinfo, result->setDesc, check_types,
					   CHECK_COLUMNS);
	for (int i = 0; i < lengthof(checks); i++)
		run_check(fcinfo, &checks[i]);
	return (Datum) 0;
}
