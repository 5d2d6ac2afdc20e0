/*
 * finish_script.c
 *		Finishes the extension's SQL scripts.
 *
 * A new object gets the default privileges of its creator.  They can name
 * roles, and REVOKE ...  FROM PUBLIC does not undo that.  So each script ends
 * with a check of the result: nobody but the owner may have a privilege on a
 * new object.  We do not change objects that existed before an update, because
 * administrators may have granted privileges on them.
 *
 * SQL functions in the schema overten_auth find what to revoke, and return the
 * statements.  We run these with the rights of the superuser who runs the
 * script.  This is written in C so that the extension does not depend on any
 * procedural language.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "utils/array.h"
#include "utils/builtins.h"

#include "server/server.h"

PG_FUNCTION_INFO_V1(overten_finish_script);
PG_FUNCTION_INFO_V1(overten_require_safe_owners);

/* Run a query.  Its parameter is the inventory from before the script. */
static void
run_query(const char *query, Datum before)
{
	Oid			types[] = {TEXTARRAYOID};

	if (SPI_execute_with_args(query, 1, types, &before, NULL, false,
							  0) != SPI_OK_SELECT)
		elog(ERROR, "could not run \"%s\"", query);
}

/*
 * Return a column of the first row of ask()'s result, or NULL if there is no
 * row or the column is NULL.
 */
static char *
first_value(int column)
{
	if (SPI_processed == 0)
		return NULL;
	return SPI_getvalue(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, column);
}

/* Describe the privileges on new objects.  Returns NULL if there are none. */
static char *
describe_grants(Datum before)
{
	run_query("SELECT string_agg(what, '; ' ORDER BY what) || '.' FROM ("
			  "SELECT format('%s got %s on %s', role, "
			  "string_agg(DISTINCT privilege, ', '), "
			  "overten_auth.some_of(array_agg(DISTINCT name))) "
			  "FROM overten_auth.grants() WHERE member <> ALL ($1) "
			  "GROUP BY role, kind) g (what)", before);
	return first_value(1);
}

/*
 * Revoke these privileges, and mark what the script has defined on the tables.
 */
static void
run_statements(Datum before)
{
	SPITupleTable *statements;
	uint64		count;

	run_query("SELECT statement FROM overten_auth.finishing($1)", before);
	statements = SPI_tuptable;
	count = SPI_processed;
	for (uint64 i = 0; i < count; i++)
	{
		char	   *statement = SPI_getvalue(statements->vals[i],
											 statements->tupdesc, 1);

		if (SPI_execute(statement, false, 0) != SPI_OK_UTILITY)
			elog(ERROR, "could not run \"%s\"", statement);
	}
}

/*
 * Raise 55000 if anybody but the owner still has a privilege on a new object.
 */
static void
require_closed(Datum before)
{
	run_query("SELECT privilege, lower(kind), name, role "
			  "FROM overten_auth.grants() WHERE member <> ALL ($1) LIMIT 1", before);
	if (SPI_processed > 0)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("could not revoke %s on %s %s from %s",
						first_value(1), first_value(2), first_value(3),
						first_value(4)),
				 errdetail("The privilege was revoked, and has been granted again."),
				 errhint("Look for event triggers that grant privileges.")));
}

/*
 * overten_auth.finish_script(before text[]) returns void
 *
 * "before" is what overten_auth.inventory() returned at the beginning of an
 * update script.  Errors: 22004; 55000 a privilege cannot be revoked.
 */
Datum
overten_finish_script(PG_FUNCTION_ARGS)
{
	Datum		before;
	char	   *grants;
	int			level;

	oa_require_argument(fcinfo, 0, "inventory");
	before = PG_GETARG_DATUM(0);

	level = oa_statements_begin();
	grants = describe_grants(before);
	run_statements(before);
	require_closed(before);
	if (grants != NULL)
		ereport(WARNING,
				(errmsg("revoked default privileges on new objects of extension \"%s\"",
						"overten_auth"),
				 errdetail("%s", grants),
				 errhint("Grant each role what it needs.  See ALTER DEFAULT PRIVILEGES.")));
	oa_statements_end(level);
	PG_RETURN_VOID();
}

/*
 * overten_auth.require_safe_owners() returns void
 *
 * Raises 42501 if a role that is not a superuser owns something that the
 * extension depends on.
 */
Datum
overten_require_safe_owners(PG_FUNCTION_ARGS)
{
	int			level = oa_statements_begin();

	run_query("SELECT object, owner, remedy FROM overten_auth.foundations()",
			  PointerGetDatum(construct_empty_array(TEXTOID)));
	if (SPI_processed > 0)
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("%s is owned by role \"%s\", which is not a superuser",
						first_value(1), first_value(2)),
				 errdetail("The owner could change it, or drop it and extension \"%s\" with it.",
						   "overten_auth"),
				 errhint("%s", first_value(3))));
	oa_statements_end(level);
	PG_RETURN_VOID();
}
