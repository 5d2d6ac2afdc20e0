/*
 * identity.c
 *		The identity that a transaction acts for.
 *
 * Row level security asks for the org in every statement, and needs an answer
 * that the role itself cannot forge.  So we keep the identity in the backend's
 * memory, and only a verification sets it.  There is no setting, table or
 * argument that somebody could write to.
 *
 * The identity belongs to the transaction, like a change to a table:
 *
 * - Each subtransaction level that has set or cleared the identity has an
 *   entry on a stack.  A rollback of that level pops its entry.  A release
 *   moves the entry to the level above, where it replaces any existing entry.
 * - At the end of the transaction, including PREPARE TRANSACTION, we forget
 *   everything, because a pooled session must not act for its previous client.
 *   This happens after the last user code of the transaction has run.
 *   Deferred triggers and the query of a cursor WITH HOLD still see the
 *   identity.
 *
 * The stack is in TopTransactionContext, so it never outlives the transaction.
 * Parallel workers do not have it.  The functions are PARALLEL RESTRICTED, so
 * a worker should not call them.  If one does, we raise an error, because a
 * NULL identity would silently hide rows.
 */
#include "postgres.h"

#include "access/detoast.h"
#include "access/parallel.h"
#include "access/xact.h"
#include "funcapi.h"
#include "utils/memutils.h"

#include "keys/keys.h"
#include "server/server.h"

typedef struct Identity
{
	struct Identity *before;	/* a rollback of the level restores this */
	int			level;			/* nesting level of its (sub)transaction */
	text	   *key_id;			/* both are NULL if there is no identity */
	text	   *org_id;
	OaRestrictions *restrictions;	/* of the key; NULL if it has none */
} Identity;

static Identity *current = NULL;

PG_FUNCTION_INFO_V1(overten_authenticate);
PG_FUNCTION_INFO_V1(overten_current_key);
PG_FUNCTION_INFO_V1(overten_current_org);
PG_FUNCTION_INFO_V1(overten_has_scope);

/* Free an entry that is no longer on the stack. */
static void
discard(Identity *identity)
{
	if (identity->key_id != NULL)
		pfree(identity->key_id);
	if (identity->org_id != NULL)
		pfree(identity->org_id);
	if (identity->restrictions != NULL)
		pfree(identity->restrictions);
	pfree(identity);
}

/* Let the top entry replace the entry below it, if that has the same level. */
static void
replace_before(void)
{
	Identity   *before = current->before;

	if (before == NULL || before->level != current->level)
		return;
	current->before = before->before;
	discard(before);
}

/* Transaction callback: at its end, or PREPARE, forget everything. */
static void
end_transaction(XactEvent event, void *arg)
{
	switch (event)
	{
		case XACT_EVENT_COMMIT:
		case XACT_EVENT_PARALLEL_COMMIT:
		case XACT_EVENT_ABORT:
		case XACT_EVENT_PARALLEL_ABORT:
		case XACT_EVENT_PREPARE:
			current = NULL;
			break;
		case XACT_EVENT_PRE_COMMIT:
		case XACT_EVENT_PARALLEL_PRE_COMMIT:
		case XACT_EVENT_PRE_PREPARE:
			break;
	}
}

/*
 * Subtransaction callback.  The ending subtransaction is still the current
 * one.
 */
static void
end_subtransaction(SubXactEvent event, SubTransactionId subxact,
				   SubTransactionId parent, void *arg)
{
	int			level = GetCurrentTransactionNestLevel();

	if (current == NULL || current->level < level)
		return;

	if (event == SUBXACT_EVENT_ABORT_SUB)
	{
		Identity   *undone = current;

		current = undone->before;
		discard(undone);
	}
	else if (event == SUBXACT_EVENT_COMMIT_SUB)
	{
		current->level--;
		replace_before();
	}
}

/* Copy a value for the rest of the transaction.  NULL stays NULL. */
static void *
copy_for_transaction(const void *value, Size size)
{
	return value == NULL ? NULL :
		memcpy(MemoryContextAlloc(TopTransactionContext, size), value, size);
}

static text *
copy_text(text *value)
{
	return copy_for_transaction(value, value == NULL ? 0 : VARSIZE_ANY(value));
}

/*
 * Set the identity for the rest of the (sub)transaction: a key, its org, and
 * what restricts the key, or NULL.
 */
void
oa_remember_identity(text *key_id, text *org_id,
					 const OaRestrictions *restrictions)
{
	static bool registered = false;
	Identity   *identity;

	if (!registered)
	{
		RegisterXactCallback(end_transaction, NULL);
		RegisterSubXactCallback(end_subtransaction, NULL);
		registered = true;
	}

	identity = MemoryContextAllocZero(TopTransactionContext,
									  sizeof(Identity));
	identity->key_id = copy_text(key_id);
	identity->org_id = copy_text(org_id);
	identity->restrictions =
		copy_for_transaction(restrictions, restrictions == NULL ? 0 :
							 restrictions->length);
	identity->level = GetCurrentTransactionNestLevel();
	identity->before = current;
	current = identity;
	replace_before();
}

/* Clear the identity for the rest of the (sub)transaction. */
void
oa_forget_identity(void)
{
	if (current != NULL)
		oa_remember_identity(NULL, NULL, NULL);
}

/*
 * overten_authenticate(secret text) returns setof overten_auth.verified_key
 *
 * Returns the row that overten_verify_key() returns, and makes its key and org
 * the identity from now on.  If the secret is NULL or refused, returns no row
 * and clears the identity.  Raises 55000 on a standby where keys are not
 * verified.
 */
Datum
overten_authenticate(PG_FUNCTION_ARGS)
{
	ErrorContextCallback secrecy;
	HeapTupleHeader row;
	const OaRestrictions *restrictions;

	if (oa_single_row_was_returned(fcinfo))
		return (Datum) 0;

	oa_secrecy_begin(&secrecy);
	oa_forget_identity();
	row = oa_verify_argument(fcinfo, &restrictions);
	if (row != NULL)
		oa_remember_identity(oa_verified_column(row, OA_VERIFIED_KEY_ID),
							 oa_verified_column(row, OA_VERIFIED_ORG_ID),
							 restrictions);
	oa_secrecy_end(&secrecy);
	return oa_return_single_row(fcinfo, row);
}

/* Return the identity for a SQL function, or NULL. */
static const Identity *
get_identity(void)
{
	if (IsParallelWorker())
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_TRANSACTION_STATE),
				 errmsg("the identity cannot be read in a parallel worker"),
				 errhint("Declare the function that reads it PARALLEL RESTRICTED.")));
	return current;
}

/* Return a copy, because the stack may change while the value is in use. */
static Datum
return_text(FunctionCallInfo fcinfo, text *value)
{
	if (value == NULL)
		PG_RETURN_NULL();
	PG_RETURN_TEXT_P(memcpy(palloc(VARSIZE_ANY(value)), value,
							VARSIZE_ANY(value)));
}

/*
 * overten_current_key() returns text: the key's id; NULL without an identity
 */
Datum
overten_current_key(PG_FUNCTION_ARGS)
{
	const Identity *identity = get_identity();

	return return_text(fcinfo, identity == NULL ? NULL : identity->key_id);
}

/*
 * overten_current_org() returns text: the org's id; NULL without an identity
 */
Datum
overten_current_org(PG_FUNCTION_ARGS)
{
	const Identity *identity = get_identity();

	return return_text(fcinfo, identity == NULL ? NULL : identity->org_id);
}

/*
 * overten_has_scope(scope text) returns boolean: whether the key of the
 * identity may do this; false without an identity, or for NULL
 */
Datum
overten_has_scope(PG_FUNCTION_ARGS)
{
	const Identity *identity = get_identity();
	text	   *scope;

	if (identity == NULL || identity->key_id == NULL || PG_ARGISNULL(0) ||
		toast_raw_datum_size(PG_GETARG_DATUM(0)) > VARHDRSZ + OA_SCOPE_MAX)
		PG_RETURN_BOOL(false);

	scope = PG_GETARG_TEXT_PP(0);
	PG_RETURN_BOOL(oa_is_scope(VARDATA_ANY(scope), VARSIZE_ANY_EXHDR(scope)) &&
				   oa_has_scope(identity->restrictions, VARDATA_ANY(scope),
								VARSIZE_ANY_EXHDR(scope)));
}
