/*
 * revocation_commit.c
 *		Makes the commit of a revocation wait for the synchronous standbys.
 *
 * A failover undoes what no standby has confirmed.  Whether a commit waits for
 * the standbys is up to the session's synchronous_commit, and an application
 * may have turned that down for everything that it does.  ForceSyncCommit(),
 * which every revocation calls, is about the local disk alone.  So just before
 * a transaction commits that takes access away, we raise its
 * synchronous_commit to overten_auth.revocation_commit.  We never lower it, and
 * PostgreSQL sets it back at the end of the transaction.
 *
 * Deferred triggers have fired by then, so we see what they have changed, and
 * they cannot turn it down again.
 *
 * COMMIT PREPARED runs in another transaction, about which we know nothing, so
 * we refuse to prepare a transaction that takes access away.
 */
#include "postgres.h"

#include "access/xact.h"
#include "utils/guc.h"

#include "lookup/changes.h"
#include "settings.h"

/* Raise synchronous_commit for the rest of the transaction. */
static void
raise_synchronous_commit(void)
{
	bool		apply = oa_revocation_commit == OA_COMMIT_REMOTE_APPLY;

	if (synchronous_commit >= (apply ? SYNCHRONOUS_COMMIT_REMOTE_APPLY :
							   SYNCHRONOUS_COMMIT_ON))
		return;
	(void) set_config_option("synchronous_commit", apply ? "remote_apply" : "on",
							 PGC_USERSET, PGC_S_SESSION, GUC_ACTION_LOCAL,
							 true, 0, false);
}

pg_noreturn static void
refuse_to_prepare(void)
{
	ereport(ERROR,
			(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
			 errmsg("a transaction that takes access away cannot be prepared"),
			 errdetail("COMMIT PREPARED would not wait for the standbys as overten_auth.revocation_commit requires."),
			 errhint("Commit it without PREPARE TRANSACTION.")));
}

static void
before_end(XactEvent event, void *arg)
{
	if (oa_revocation_commit == OA_COMMIT_AS_SET || !oa_takes_access_away())
		return;
	if (event == XACT_EVENT_PRE_COMMIT)
		raise_synchronous_commit();
	else if (event == XACT_EVENT_PRE_PREPARE)
		refuse_to_prepare();
}

/*
 * Register the callback.  Called once per process, when the library is loaded.
 */
void
oa_revocation_commit_init(void)
{
	RegisterXactCallback(before_end, NULL);
}
