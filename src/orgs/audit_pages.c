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
 * Call back for at most "count" rows of an org before a position, or for the
 * latest ones.  With key_id, only for those about this key.  Returns how many
 * rows there were.  The callback's argument is valid only during the call.
 */
int
oa_read_audit_log(text *org_id, text *key_id, const OaAuditPosition *before,
				  int count, OaAuditCallback callback, void *argument)
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
	const OaAuditPosition latest = {.at = DT_NOEND};
	const OaAuditPosition *position = before != NULL ? before : &latest;
	Datum		values[] = {
		PointerGetDatum(org_id),
		TimestampTzGetDatum(position->at),
		UUIDPGetDatum(&position->audit_id),
		PointerGetDatum(key_id),
		Int32GetDatum(count),
	};
	const bool	nulls[lengthof(values)] = {[3] = (key_id == NULL)};
	int			level = oa_statements_begin();
	int			found = (int) oa_statement_run(&read, values, nulls);

	for (int i = 0; i < found; i++)
	{
		OaAuditRow	row;
		bool		isnull;

		row.position.at =
			DatumGetTimestampTz(oa_statement_result(i, 1, &isnull));
		row.position.audit_id =
			*DatumGetUUIDP(oa_statement_result(i, 2, &isnull));
		row.action = oa_statement_text(i, 3);
		row.key_id = oa_statement_text(i, 4);
		row.uid = oa_statement_text(i, 5);
		row.detail = oa_statement_text(i, 6);
		callback(&row, argument);
	}
	oa_statements_end(level);
	return found;
}
