/*
 * org_list.c
 *		Lists orgs: those of a person, and all of them for an operator.
 *
 * The list of all orgs comes in pages.  A page begins after the last org of the
 * page before, in the order of creation, so it costs the same wherever it is,
 * and orgs that are created meanwhile neither repeat nor hide others.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

#include "lookup/lookup.h"
#include "orgs/orgs.h"
#include "server/server.h"

#define PAGE_MAX	1000		/* orgs */

PG_FUNCTION_INFO_V1(overten_list_orgs);
PG_FUNCTION_INFO_V1(overten_all_orgs);

/* Columns of an OaOrg. */
#define ORG_COLUMNS \
	"o.org_id, o.name, o.tier, o.created_at, o.api_access_since, " \
	"o.suspended_at, o.closed_at "

/* The orgs of person $1, in the order of their creation. */
#define ORGS_OF_PERSON(columns) \
	"SELECT " columns "FROM overten_auth.members m " \
	"JOIN overten_auth.orgs o ON o.org_id = m.org_id " \
	"WHERE m.uid = $1 AND m.erased_at IS NULL " \
	"ORDER BY o.created_at, o.org_id"

/* Call back for each row of the last statement's result. */
static void
call_back(OaOrgCallback callback, void *argument)
{
	int			count = (int) SPI_processed;

	for (int row = 0; row < count; row++)
	{
		OaOrg		org;

		org.org_id = DatumGetTextPP(oa_statement_result(row, 1, TEXTOID, NULL));
		org.name = DatumGetTextPP(oa_statement_result(row, 2, TEXTOID, NULL));
		org.tier = DatumGetTextPP(oa_statement_result(row, 3, TEXTOID, NULL));
		org.created_at = oa_statement_time(row, 4, NULL);
		org.api_access_since = oa_statement_time(row, 5, &org.never_signed_up);
		org.suspended_at = oa_statement_time(row, 6, &org.not_suspended);
		org.closed_at = oa_statement_time(row, 7, &org.open);
		callback(&org, argument);
	}
}

/*
 * Call back for each org of a person, in the order of their creation.  The
 * callback's argument is valid only during the call.
 */
void
oa_list_orgs(text *uid, OaOrgCallback callback, void *argument)
{
	static OaStatement list = {
		.table = "orgs",
		.text = ORGS_OF_PERSON(ORG_COLUMNS),
		.argtypes = {TEXTOID},
	};
	Datum		values[] = {PointerGetDatum(uid)};
	int			level = oa_statements_begin();

	oa_statement_run(&list, values, NULL);
	call_back(callback, argument);
	oa_statements_end(level);
}

/* The same for one org, if it exists. */
void
oa_read_org(text *org_id, OaOrgCallback callback, void *argument)
{
	static OaStatement read = {
		.table = "orgs",
		.text = "SELECT " ORG_COLUMNS
		"FROM overten_auth.orgs o WHERE o.org_id = $1 AND o.erased_at IS NULL",
		.argtypes = {TEXTOID},
	};
	Datum		values[] = {PointerGetDatum(org_id)};
	int			level = oa_statements_begin();

	oa_statement_run(&read, values, NULL);
	call_back(callback, argument);
	oa_statements_end(level);
}

/*
 * overten_list_orgs(uid text) returns setof
 * 		org_id, name, tier, created_at, api_access_since, suspended_at
 *
 * Returns the orgs that a person is a member of, in the order of their
 * creation.  Errors: 22004, 22023.
 */
Datum
overten_list_orgs(PG_FUNCTION_ARGS)
{
	static OaStatement list = {
		.table = "orgs",
		.text = ORGS_OF_PERSON("o.org_id, o.name, o.tier, o.created_at, "
							   "o.api_access_since, o.suspended_at "),
		.argtypes = {TEXTOID},
	};
	text	   *uid = oa_uid_argument(fcinfo, 0);
	Datum		values[] = {PointerGetDatum(uid)};
	int			level;

	oa_begin_set(fcinfo);
	level = oa_statements_begin();
	oa_statement_run(&list, values, NULL);
	oa_statement_return_rows(fcinfo);
	oa_statements_end(level);
	return (Datum) 0;
}

/*
 * Return when the org was created that a page begins after.  Must be called
 * between oa_statements_begin() and _end().
 */
static Datum
find_creation(text *org_id)
{
	static OaStatement find = {
		.table = "orgs",
		.text = "SELECT created_at FROM overten_auth.orgs "
		"WHERE org_id = $1 AND erased_at IS NULL",
		.argtypes = {TEXTOID},
	};
	Datum		values[] = {PointerGetDatum(org_id)};

	if (oa_statement_run(&find, values, NULL) == 0)
		oa_org_missing(org_id);
	return oa_statement_result(0, 1, TIMESTAMPTZOID, NULL);
}

/*
 * overten_all_orgs(tier text, suspended boolean, closed boolean,
 * 					name_part text, after_org_id text, max_orgs integer)
 * 		returns setof org_id, name, tier, created_at, created_by,
 * 		api_access_since, suspended_at, closed_at, members, active_keys
 *
 * Returns a page of all orgs, in the order of their creation.  An argument
 * that is NULL, or left out, filters nothing.  Errors: 22004, 22023, 42704.
 */
Datum
overten_all_orgs(PG_FUNCTION_ARGS)
{
	static OaStatement list = {
		.table = "orgs",
		.text = "SELECT o.*, "
		"(SELECT count(*) FROM overten_auth.members m "
		"WHERE m.org_id = o.org_id AND m.erased_at IS NULL), "
		"(SELECT count(*) FROM overten_auth.api_keys k "
		"WHERE k.org_id = o.org_id AND " OA_KEY_IS_ACTIVE("k") ") "
		"FROM (SELECT org_id, name, tier, created_at, created_by, "
		"api_access_since, suspended_at, closed_at FROM overten_auth.orgs "
		"WHERE (created_at, org_id) > ($1, $2) AND erased_at IS NULL "
		"AND ($3 IS NULL OR tier = $3) "
		"AND ($4 IS NULL OR (suspended_at IS NOT NULL) = $4) "
		"AND ($5 IS NULL OR (closed_at IS NOT NULL) = $5) "
		"AND ($6 IS NULL OR strpos(lower(name), lower($6)) > 0) "
		"ORDER BY created_at, org_id LIMIT $7) o "
		"ORDER BY o.created_at, o.org_id",
		.argtypes = {TIMESTAMPTZOID, TEXTOID, TEXTOID, BOOLOID, BOOLOID,
		TEXTOID, INT4OID},
	};
	text	   *name_part = oa_optional_name_argument(fcinfo, 3, "name_part",
													  OA_ORG_NAME_MAX);
	text	   *after = PG_ARGISNULL(4) ? NULL : PG_GETARG_TEXT_PP(4);
	Datum		values[] = {
		TimestampTzGetDatum(DT_NOBEGIN),
		PointerGetDatum(after != NULL ? after : cstring_to_text("")),
		PG_ARGISNULL(0) ? (Datum) 0 : PG_GETARG_DATUM(0),
		PG_GETARG_DATUM(1),
		PG_GETARG_DATUM(2),
		PointerGetDatum(name_part),
		oa_page_argument(fcinfo, 5, "max_orgs", PAGE_MAX),
	};
	const bool	nulls[lengthof(values)] = {
		[2] = PG_ARGISNULL(0),
		[3] = PG_ARGISNULL(1),
		[4] = PG_ARGISNULL(2),
		[5] = (name_part == NULL),
	};
	int			level;

	oa_begin_set(fcinfo);
	level = oa_statements_begin();
	if (after != NULL)
		values[0] = find_creation(after);
	oa_statement_run(&list, values, nulls);
	oa_statement_return_rows(fcinfo);
	oa_statements_end(level);
	return (Datum) 0;
}
