/*
 * usage_flush.c
 *		Writes the counts from shared memory into the tables, one batch at a
 *		time.
 *
 * We sort what we have collected, so that the rows of all batches are in the
 * order of the indexes: it takes less time to insert them.
 *
 * Each batch is a transaction: write, publish, commit, and then subtract what
 * was written.  use_batches.c describes how readers cope with that.  An error
 * before the commit leaves the counts unchanged.  Between the commit and the
 * subtraction nothing can raise; if the process is killed there, the server
 * reinitializes shared memory.  Only one worker at a time
 * flushes a database, so no count is written twice.  A batch that this server
 * has sent to its primary before it was promoted (sent_uses.c) is settled
 * first.
 *
 * If a key is not committed, we keep its uses back for a while, because the
 * transaction that mints it may still be running.  After that we drop them,
 * because that transaction may have been rolled back.  If the extension has
 * just been dropped, we treat all uses like that.  We read api_keys, but never
 * write to it or lock its rows.
 */
#include "postgres.h"

#include "miscadmin.h"
#include "utils/memutils.h"

#include "databases/databases.h"
#include "server/server.h"
#include "usage/usage.h"

#define UNKNOWN_KEY_MS		(5 * 60 * 1000)
#define SORTED_MAX			100000	/* uses that are sorted together */

typedef struct Batch
{
	OaUses	   *uses;
	bool	   *known;			/* is the key committed? (one per use) */
	int			count;
} Batch;

/* Is the key of any use committed? */
static bool
has_known(const Batch *batch)
{
	for (int i = 0; i < batch->count; i++)
		if (batch->known[i])
			return true;
	return false;
}

/* Write a collected batch, and commit. */
static void
write_batch(OaDatabase *database, Batch *batch)
{
	memset(batch->known, false, batch->count * sizeof(bool));
	oa_worker_begin();
	if (oa_lock_usage_tables())
		oa_write_uses(batch->uses, batch->count, batch->known);
	if (has_known(batch))
	{
		uint64		number = oa_next_batch();

		oa_write_batch_number(oa_shared_source(), number);
		oa_publish_batch(database, number, batch->uses, batch->known,
						 batch->count);
	}
	oa_worker_commit();
}

/*
 * Remove from a written batch the uses whose keys may still be committed, so
 * that we do not subtract them.  Returns how many uses are left in the batch.
 */
static int
keep_back(Batch *batch)
{
	int64		since = oa_monotonic_ms() - UNKNOWN_KEY_MS;
	int			count = 0;

	for (int i = 0; i < batch->count; i++)
	{
		const OaUses *uses = &batch->uses[i];

		if (batch->known[i] || uses->counted_since <= since)
			batch->uses[count++] = *uses;
	}
	return count;
}

/*
 * Write and subtract collected uses, a batch at a time.  Returns whether we
 * have kept any back.
 */
static bool
flush_collected(OaDatabase *database, OaUses *uses, int count, bool *known)
{
	bool		kept_back = false;

	for (int first = 0; first < count; first += OA_BATCH_MAX)
	{
		Batch		batch = {
			.uses = &uses[first],
			.known = known,
			.count = Min(count - first, OA_BATCH_MAX),
		};
		int			left;

		write_batch(database, &batch);
		left = keep_back(&batch);
		oa_subtract_batch(database, batch.uses, left);
		kept_back |= (left < batch.count);
		CHECK_FOR_INTERRUPTS();
	}
	return kept_back;
}

/*
 * Write the counts of the session's database.  Returns whether we have kept
 * uses back.  After an error the rest is written next time.
 */
bool
oa_flush_uses(OaDatabase *database)
{
	OaUses	   *uses;
	bool	   *known;
	uint32		bucket = 0;
	bool		kept_back = false;
	int			count;

	(void) oa_settle_batch(database);
	uses = MemoryContextAlloc(TopMemoryContext, SORTED_MAX * sizeof(OaUses));
	known = MemoryContextAlloc(TopMemoryContext, OA_BATCH_MAX * sizeof(bool));
	while ((count = oa_collect_uses(MyDatabaseId, &bucket, uses,
									SORTED_MAX)) > 0)
	{
		oa_sort_uses(uses, count);
		kept_back |= flush_collected(database, uses, count, known);
	}
	pfree(known);
	pfree(uses);
	return kept_back;
}
