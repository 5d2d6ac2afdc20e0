/*
 * audit_pages.c
 *		Reads the audit log of an org in pages, the latest rows first.
 *
 * A page begins before the last row of the page before.  Rows get their time
 * when they are written, and others see them at the commit, so a row can
 * appear among those that were read before; it is never there twice.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "utils/timestamp.h"

#include "orgs/orgs.h"
#include "server/server.h"

/*
 * Find where the page after a row begins.  Returns false if the org has no
 * such row.  Must be called between oa_statements_begin() and _end().
 */
static bool
find_row(text *org_id, Datum audit_id, Datum *at)
{
	static OaStatement find = {
		.table = "audit_log",
		.text = "SELECT at FROM overten_auth.audit_log "
		"WHERE audit_id = $2 AND org_id = $1",
		.argtypes = {TEXTOID, UUIDOID},
	};
	Datum		values[] = {PointerGetDatum(org_id), audit_id};

	if (oa_statement_run(&find, values, NULL) == 0)
		return false;
	*at = oa_statement_result(0, 1, TIMESTAMPTZOID, NULL);
	return true;
}

/* Call back for each row of the last statement's result. */
static void
call_back(int count, OaAuditCallback callback, void *argument)
{
	for (int i = 0; i < count; i++)
	{
		OaAuditRow	row;

		row.at = oa_statement_time(i, 1, NULL);
		row.audit_id = *DatumGetUUIDP(oa_statement_result(i, 2, UUIDOID, NULL));
		row.action = oa_statement_text(i, 3);
		row.key_id = oa_statement_text_or_null(i, 4);
		row.uid = oa_statement_text_or_null(i, 5);
		row.detail = oa_statement_text_or_null(i, 6);
		callback(&row, argument);
	}
}

/*
 * Call back for at most "limit" rows of an org's audit log, those after the row
 * "after", or the latest ones if it is NULL.  With key_id, only for rows about
 * this key.  The callback's argument is valid only during the call.  Returns
 * the number of rows, or -1 if the org has no row "after".
 */
int
oa_read_audit_log(text *org_id, text *key_id, const pg_uuid_t *after,
				  int limit, OaAuditCallback callback, void *argument)
{
	static OaStatement read = {
		.table = "audit_log",
		.text = "SELECT at, audit_id, action, key_id, uid, detail "
		"FROM overten_auth.audit_log "
		"WHERE org_id = $1 AND (at, audit_id) < ($2, $3) "
		"AND ($4 IS NULL OR key_id = $4) "
		"ORDER BY at DESC, audit_id DESC LIMIT $5",
		.argtypes = {TEXTOID, TIMESTAMPTZOID, UUIDOID, TEXTOID, INT4OID},
	};
	const pg_uuid_t none = {{0}};
	Datum		values[] = {
		PointerGetDatum(org_id),
		TimestampTzGetDatum(DT_NOEND),
		UUIDPGetDatum(after != NULL ? after : &none),
		PointerGetDatum(key_id),
		Int32GetDatum(limit),
	};
	const bool	nulls[lengthof(values)] = {[3] = (key_id == NULL)};
	int			level = oa_statements_begin();
	int			count = -1;

	if (after == NULL || find_row(org_id, values[2], &values[1]))
	{
		count = (int) oa_statement_run(&read, values, nulls);
		call_back(count, callback, argument);
	}
	oa_statements_end(level);
	return count;
}
