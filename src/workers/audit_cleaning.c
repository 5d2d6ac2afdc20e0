/*
 * audit_cleaning.c
 *		Removes rows of the audit log that are older than
 *		overten_auth.audit_retention.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "utils/timestamp.h"

#include "databases/databases.h"
#include "server/server.h"
#include "settings.h"
#include "workers/workers.h"

#define REMOVE_MAX	10000		/* rows per transaction */

/* Remove some of these rows.  Returns whether there may be more. */
bool
oa_remove_old_audit(void)
{
	static OaStatement remove = {
		.table = "audit_log",
		.text = "DELETE FROM overten_auth.audit_log "
		"WHERE ctid = ANY (ARRAY("
		"SELECT ctid FROM overten_auth.audit_log "
		"WHERE at < $1 LIMIT $2))",
		.argtypes = {TIMESTAMPTZOID, INT8OID},
	};
	Datum		values[2];
	uint64		removed;
	int			level;

	if (oa_audit_retention == 0)
		return false;

	oa_worker_begin();
	values[0] = TimestampTzGetDatum(GetCurrentTimestamp() -
									oa_audit_retention * USECS_PER_MINUTE);
	values[1] = Int64GetDatum(REMOVE_MAX);
	level = oa_statements_begin();
	removed = oa_change_append_only(&remove, values, NULL);
	oa_statements_end(level);
	oa_worker_commit();
	return removed == REMOVE_MAX;
}
