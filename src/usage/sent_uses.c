/*
 * sent_uses.c
 *		Sends the uses that a standby has counted to its primary, one batch at
 *		a time.
 *
 * A standby cannot write, so it has the primary write its batches
 * (add_uses.c).  Each use reaches the history of the primary once, although an
 * answer can be lost, and either server can stop at any moment:
 *
 * 1. A batch gets its number, and each entry notes how much the batch has
 *	  taken, before it is sent (use_batches.c).  While it is not settled, nothing
 *	  else is sent, and it is sent again under the same number and with the same
 *	  counts.
 * 2. The primary writes the batch and its number in one transaction, and
 *	  ignores a batch whose number it has.
 * 3. A batch leaves memory when this standby sees its number in its own copy of
 *	  usage_batches.  The primary's answer is not enough: if that primary is
 *	  lost, the next one may not have the batch.  The next one has sent to this
 *	  standby all that the standby has replayed, or the standby cannot follow it.
 * 4. If this standby is promoted, its own tables are the history.  If they have
 *	  the number, the flush subtracts the batch, and otherwise it writes the
 *	  counts itself.
 *
 * So a use is lost only if this server stops before the primary has the batch,
 * or if it stops afterwards and a failover undoes what the primary has written.
 */
#include "postgres.h"

#include "access/xlog.h"
#include "catalog/pg_type.h"
#include "commands/dbcommands.h"
#include "miscadmin.h"
#include "postmaster/interrupt.h"
#include "storage/latch.h"
#include "utils/memutils.h"

#include "databases/databases.h"
#include "server/server.h"
#include "settings.h"
#include "standby/standby.h"
#include "usage/usage.h"

#define REPLAY_MS			5000	/* how long we wait for replay */
#define LAST_REPLAY_MS		500 /* likewise when the server stops */
#define POLL_MS				5

enum
{
	SYSTEM_ID, SOURCE, BATCH, FIRST_COLUMN,
	ARGUMENTS = FIRST_COLUMN + OA_SENT_COLUMNS
};

static const char *const add_uses =
"CALL overten_auth.add_uses($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)";

/* Does this server send uses while it is a standby? */
bool
oa_sends_uses(void)
{
	return oa_uses_conninfo[0] != '\0';
}

/*
 * Send a batch.  When this returns, the primary has it.  While we wait, we have
 * no snapshot, which could hold up replay.
 */
static void
send_batch(uint64 batch, const OaUses *uses, int count)
{
	Oid			types[ARGUMENTS] = {
		[SYSTEM_ID] = INT8OID,
		[SOURCE] = UUIDOID,
		[BATCH] = INT8OID,
	};
	Datum		values[ARGUMENTS] = {
		[SYSTEM_ID] = Int64GetDatum((int64) GetSystemIdentifier()),
		[SOURCE] = oa_shared_source(),
		[BATCH] = Int64GetDatum((int64) batch),
	};

	for (int i = 0; i < OA_SENT_COLUMNS; i++)
		types[FIRST_COLUMN + i] = oa_use_array_type(i);
	oa_worker_begin();
	oa_make_use_arrays(uses, count, OA_SENT_COLUMNS, &values[FIRST_COLUMN]);
	oa_primary_session_send(add_uses, ARGUMENTS, types, values);
	oa_worker_commit();
	oa_primary_session_wait();
}

/*
 * Wait until this standby has replayed that the primary has the batch, and
 * subtract it.  Returns false if the standby was promoted meanwhile.  Raises
 * 55000 if replay takes too long.
 */
static bool
await_replay(OaDatabase *database, const OaUses *uses, int count)
{
	int64		begin = oa_monotonic_ms();

	while (!oa_settle_batch(database))
	{
		int64		waited = oa_monotonic_ms() - begin;

		CHECK_FOR_INTERRUPTS();
		if (!RecoveryInProgress())
			return false;

		/* When the server stops, replay does, and this memory is forgotten. */
		if (ShutdownRequestPending && waited > LAST_REPLAY_MS)
		{
			oa_subtract_batch(database, uses, count);
			break;
		}
		if (waited > REPLAY_MS)
			ereport(ERROR,
					(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
					 errmsg("the primary has uses that this standby has sent, and the standby has not replayed that"),
					 errdetail("They stay in shared memory, and others are not sent, until it has."),
					 errhint("Look for a paused replay, recovery_min_apply_delay, or primary_conninfo and overten_auth.uses_conninfo that lead to different servers.")));
		(void) WaitLatch(MyLatch,
						 WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH,
						 POLL_MS, oa_wait_event(OA_WAIT_STANDBY));
		ResetLatch(MyLatch);
	}
	return true;
}

/*
 * Find the batch to send: the one that is not settled, or the next one.
 * Returns how many uses it has; 0 if there is nothing to send.
 */
static int
find_batch(OaDatabase *database, OaUses *uses, uint64 *batch)
{
	bool	   *known;
	uint32		bucket = 0;
	int			count;

	if (!oa_settle_batch(database))
	{
		*batch = oa_batch_on_its_way(database);
		count = oa_collect_batch(MyDatabaseId, *batch, uses, OA_BATCH_MAX);
		if (count > 0)
			return count;
		/* What it held was discarded, with the database or the extension. */
		oa_subtract_batch(database, uses, 0);
	}

	count = oa_collect_uses(MyDatabaseId, &bucket, uses, OA_BATCH_MAX);
	if (count == 0)
		return 0;
	known = palloc(count * sizeof(bool));
	memset(known, true, count * sizeof(bool));
	*batch = oa_next_batch();
	oa_publish_batch(database, *batch, uses, known, count);
	pfree(known);
	return count;
}

/* Count the uses of a batch for the statistics view. */
static void
note_sent(const OaUses *uses, int count)
{
	for (int i = 0; i < count; i++)
		oa_count_events(OA_USE_SENT, uses[i].accepted + uses[i].refused +
						uses[i].limited);
}

/* The name of the session's database. */
static char *
database_name(void)
{
	char	   *name;

	oa_worker_begin();
	name = MemoryContextStrdup(TopMemoryContext,
							   get_database_name(MyDatabaseId));
	oa_worker_commit();
	return name;
}

/*
 * Send the counts of the session's database.  After an error, what is not
 * settled is sent again next time.
 */
void
oa_send_uses(OaDatabase *database)
{
	OaUses	   *uses = MemoryContextAlloc(TopMemoryContext,
										  OA_BATCH_MAX * sizeof(OaUses));
	bool		connected = false;
	uint64		batch;
	int			count;

	PG_TRY();
	{
		while (RecoveryInProgress() &&
			   (count = find_batch(database, uses, &batch)) > 0)
		{
			if (!connected)
				oa_primary_session_begin(database_name());
			connected = true;
			send_batch(batch, uses, count);
			if (!await_replay(database, uses, count))
				break;
			note_sent(uses, count);
		}
	}
	PG_FINALLY();
	{
		oa_primary_session_end();
	}
	PG_END_TRY();
	pfree(uses);
}
