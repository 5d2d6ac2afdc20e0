/*
 * audit.c
 *		Writes the audit log: who did what, and when, in the same
 *		transaction.
 *
 * The functions that act write the rows.  Triggers do not, because a restore
 * would fire them again.  An action that is rolled back leaves no row, and an
 * action that has committed always has one.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "commands/trigger.h"
#include "miscadmin.h"
#include "postmaster/bgworker.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"

#include "server/server.h"

PG_FUNCTION_INFO_V1(overten_refuse_change);

/*
 * May the next statement change an append-only table?  SQL cannot set this.
 */
static bool may_change = false;

/*
 * Name the actor: the session's role or, in a background worker of ours, the
 * worker's type.  Workers of other extensions act for the role that started
 * them.
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
 * Write one row.  Must be called between oa_statements_begin() and _end().
 *
 * "uid" is the person on whose behalf the session acts, or NULL if it acts for
 * itself. "detail" says what has changed; it never holds a secret.
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
	bool		nulls[lengthof(values)];

	for (int i = 0; i < lengthof(values); i++)
		nulls[i] = (DatumGetPointer(values[i]) == NULL);
	oa_statement_run(&insert, values, nulls);
}

/*
 * Run a statement that updates or deletes rows of an append-only table, the
 * audit log or the ledger of credits, once.  Only erasure and the worker may do
 * that.  The parameters are those of
 * oa_statement_run().
 */
uint64
oa_change_append_only(OaStatement *statement, const Datum *values,
					  const bool *nulls)
{
	uint64		count;

	may_change = true;
	PG_TRY();
	{
		count = oa_statement_run(statement, values, nulls);
	}
	PG_FINALLY();
	{
		may_change = false;
	}
	PG_END_TRY();
	return count;
}

/*
 * The function of the trigger "refuse_change" of these tables.  Raises 42501
 * for every statement that would change or remove rows, except one of
 * oa_change_append_only().  The trigger fires before each statement, so no
 * statement that another trigger runs can take the place of that one.
 */
Datum
overten_refuse_change(PG_FUNCTION_ARGS)
{
	TriggerData *trigger;
	Relation	table;

	if (!CALLED_AS_TRIGGER(fcinfo))
		ereport(ERROR,
				(errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
				 errmsg("function \"%s\" was not called by trigger manager",
						"overten_auth.refuse_change")));

	trigger = (TriggerData *) fcinfo->context;
	if (may_change && !TRIGGER_FIRED_BY_TRUNCATE(trigger->tg_event))
	{
		may_change = false;
		return PointerGetDatum(NULL);
	}

	table = trigger->tg_relation;
	ereport(ERROR,
			(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
			 errmsg("%s is append-only",
					quote_qualified_identifier(get_namespace_name(RelationGetNamespace(table)),
											   RelationGetRelationName(table))),
			 errhint("Its rows stay as they were written. To leave some out of a report, exclude them in its query.")));
	return PointerGetDatum(NULL);	/* keep the compiler quiet */
}
