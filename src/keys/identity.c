/*
 * identity.c
 *		Who the transaction acts for: verified once, then read by policies.
 *
 * Row level security asks for the org at every statement, and must get an
 * answer that the role itself cannot forge.  So the identity is kept in the
 * backend's memory, where only a verification puts it: there is no setting, no
 * table and no argument to write.
 *
 * It belongs to the transaction, like a change of the tables:
 *
 * - Each level of subtransactions that has set it, or cleared it, has an entry
 *	 on a stack, which the rollback of that level takes off again.  A release
 *	 hands the entry to the level above, in the place of the one that may be
 *	 there.
 * - The end of the transaction, PREPARE TRANSACTION too, forgets all: a pooled
 *	 session must not act for the client before.  That happens after the last
 *	 code of the user's has run in it, such as deferred triggers and the query
 *	 of a cursor WITH HOLD, which still see it.
 *
 * The stack lies in TopTransactionContext, and so is gone at the latest with
 * the transaction.  Parallel workers have none: a worker that asks was called
 * against the functions' PARALLEL RESTRICTED and gets an error, for nobody's
 * identity would silently hide rows.
 */
#include "postgres.h"

#include "access/parallel.h"
#include "access/xact.h"
#include "funcapi.h"
#include "utils/memutils.h"

#include "keys/keys.h"
#include "server/server.h"

typedef struct Identity
{
	struct Identity *before;	/* what a rollback of the level restores */
	int			level;			/* of the (sub)transaction that it belongs to */
	text	   *key_id;			/* both are NULL: nobody */
	text	   *org_id;
} Identity;

static Identity *current = NULL;

PG_FUNCTION_INFO_V1(overten_authenticate);
PG_FUNCTION_INFO_V1(overten_current_key);
PG_FUNCTION_INFO_V1(overten_current_org);

/* Free an entry that is off the stack. */
static void
discard(Identity *identity)
{
	if (identity->key_id != NULL)
		pfree(identity->key_id);
	if (identity->org_id != NULL)
		pfree(identity->org_id);
	pfree(identity);
}

/* Let the entry at the top take the place of one of the same level below. */
static void
replace_before(void)
{
	Identity   *before = current->before;

	if (before == NULL || before->level != current->level)
		return;
	current->before = before->before;
	discard(before);
}

/* The transaction ends, or is prepared to. */
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

/* A subtransaction, which is still the current one, ends. */
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

/* A copy that lasts as long as the transaction; NULL of NULL. */
static text *
copy_for_transaction(text *value)
{
	Size		size;

	if (value == NULL)
		return NULL;
	size = VARSIZE_ANY(value);
	return memcpy(MemoryContextAlloc(TopTransactionContext, size), value,
				  size);
}

/* Act for a key and its org for the rest of the (sub)transaction. */
void
oa_remember_identity(text *key_id, text *org_id)
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
	identity->key_id = copy_for_transaction(key_id);
	identity->org_id = copy_for_transaction(org_id);
	identity->level = GetCurrentTransactionNestLevel();
	identity->before = current;
	current = identity;
	replace_before();
}

/* Act for nobody. */
void
oa_forget_identity(void)
{
	if (current != NULL)
		oa_remember_identity(NULL, NULL);
}

/*
 * overten_authenticate(secret text) returns setof overten_auth.verified_key
 *
 * The row that overten_verify_key() returns, and its key and org as the
 * identity from now on.  A secret that is NULL or refused returns no row and
 * leaves no identity.  Raises 55000 on a standby where keys are not verified.
 */
Datum
overten_authenticate(PG_FUNCTION_ARGS)
{
	ErrorContextCallback secrecy;
	HeapTupleHeader row;

	if (oa_single_row_was_returned(fcinfo))
		return (Datum) 0;

	oa_secrecy_begin(&secrecy);
	oa_forget_identity();
	row = oa_verify_argument(fcinfo);
	if (row != NULL)
		oa_remember_identity(oa_verified_column(row, OA_VERIFIED_KEY_ID),
							 oa_verified_column(row, OA_VERIFIED_ORG_ID));
	oa_secrecy_end(&secrecy);
	return oa_return_single_row(fcinfo, row);
}

/* The identity that functions of SQL are told, or NULL. */
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

/* A copy, since the stack may change while the value is in use. */
static Datum
return_text(FunctionCallInfo fcinfo, text *value)
{
	if (value == NULL)
		PG_RETURN_NULL();
	PG_RETURN_TEXT_P(memcpy(palloc(VARSIZE_ANY(value)), value,
							VARSIZE_ANY(value)));
}

/* overten_current_key() returns text: the key's id, NULL if nobody's */
Datum
overten_current_key(PG_FUNCTION_ARGS)
{
	const Identity *identity = get_identity();

	return return_text(fcinfo, identity == NULL ? NULL : identity->key_id);
}

/* overten_current_org() returns text: the org's id, NULL if nobody's */
Datum
overten_current_org(PG_FUNCTION_ARGS)
{
	const Identity *identity = get_identity();

	return return_text(fcinfo, identity == NULL ? NULL : identity->org_id);
}
