/*
 * audit.c
 *		Writes the audit log: who did what, and when, in the same transaction.
 *
 * Rows are written by the functions that act, not by triggers: a restore
 * would fire those again.  What is rolled back leaves no row, and what has
 * committed cannot be without one.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "postmaster/bgworker.h"
#include "utils/builtins.h"

#include "overten_auth.h"

/*
 * Who acts: the role of the session, or one of our background workers, by its
 * type.  Others' workers run what a role has told them to.
 */
static const char *
actor(void)
{
	if (MyBgworkerEntry != NULL &&
		strcmp(MyBgworkerEntry->bgw_library_name, "overten_auth") == 0)
		return MyBgworkerEntry->bgw_type;
	return GetUserNameFromId(GetSessionUserId(), false);
}

/*
 * Write one row.  Called between oa_statements_begin() and _end().
 *
 * "uid" is the person on whose behalf the session acts, NULL if it acts for
 * itself.  "detail" says what changed to what; it never holds a secret.
 */
void
oa_audit(const char *action, text *org_id, text *key_id, text *uid,
		 text *detail)
{
	static OaStatement insert = {
		.table = "audit_log",
		.text = "INSERT INTO overten_auth.audit_log "
		"(action, org_id, key_id, actor, uid, detail) "
		"VALUES ($1, $2, $3, $4, $5, $6)",
		.nargs = 6,
		.argtypes = {TEXTOID, TEXTOID, TEXTOID, TEXTOID, TEXTOID, TEXTOID},
	};
	Datum		values[] = {
		CStringGetTextDatum(action),
		PointerGetDatum(org_id),
		PointerGetDatum(key_id),
		CStringGetTextDatum(actor()),
		PointerGetDatum(uid),
		PointerGetDatum(detail),
	};
	char		nulls[lengthof(values)];

	for (int i = 0; i < lengthof(values); i++)
		nulls[i] = DatumGetPointer(values[i]) == NULL ? 'n' : ' ';
	oa_statement_run(&insert, values, nulls);
}
