/*
 * use_batches.c
 *		Takes counts of uses out of shared memory, one batch at a time.
 *
 * A flush (usage_flush.c) collects counts, writes them, commits, and subtracts
 * what it has written.  An error before the commit loses nothing, and uses
 * that are counted meanwhile stay.  When the counts of an entry reach zero, we
 * remove it.
 *
 * Between the commit and the subtraction, the counts of the batch are both in
 * the tables and in memory, so a reader has to know them.  Each batch has a
 * number, larger than any before it.  Its transaction writes the number into
 * overten_auth.usage_batches.  Before the commit, oa_publish_batch() notes in
 * each entry how much the batch has taken from it, and then, in the struct of
 * the database, that this batch is being written.  If a reader
 * (unflushed_uses.c) finds the number in the table, it subtracts what the
 * batch holds.
 *
 * The epoch tells a reader that a batch was published or subtracted while it
 * read; the epoch is odd during a subtraction.  If that happens to a reader
 * too often, it takes the lock of the batches, so that nothing is published or
 * subtracted until it has finished.
 *
 * If a batch was published and its transaction then failed, there is nothing
 * to clean up, because no reader will find its number in the table.  A standby
 * cannot know that of a batch that it has sent to the primary (sent_uses.c).
 * So that batch stays published, and nothing else is collected, until the
 * standby has replayed its number, or was promoted.
 *
 * The "used" flag of a database tells whether there is something to flush.  A
 * session sets the flag after it has counted a use, and a flush clears it
 * before it collects.  Both have a barrier between these two steps, so no use
 * is forgotten.
 */
#include "postgres.h"

#include "miscadmin.h"

#include "databases/databases.h"
#include "usage/usage.h"
#include "usage/use_counters.h"

/*
 * Collect at most "capacity" counts of a database, starting from *bucket,
 * which the caller sets to 0 before the first call.  Returns how many counts
 * there are, or 0 after the last bucket.
 */
int
oa_collect_uses(Oid database, uint32 *bucket, OaUses *uses, int capacity)
{
	OaUseEntry *entries;
	OaUseCounters *counters = oa_use_counters(&entries);
	int			count = 0;

	while (*bucket <= counters->bucket_mask)
	{
		LWLock	   *lock = oa_use_lock(*bucket);
		int			start = count;
		bool		fits = true;

		LWLockAcquire(lock, LW_SHARED);
		for (int i = counters->buckets[*bucket]; i != OA_NO_ENTRY;
			 i = entries[i].next)
		{
			if (entries[i].key.database != database)
				continue;
			fits = count < capacity;
			if (!fits)
				break;
			if (oa_copy_counts(&entries[i], &uses[count]))
				count++;
		}
		LWLockRelease(lock);

		/* Take whole buckets, unless a single one does not fit. */
		if (!fits && start > 0)
			return start;
		(*bucket)++;
		if (!fits)
			return count;
	}
	return count;
}

/*
 * Collect what a batch of a database holds, which was published and not yet
 * subtracted.  Returns how many counts there are.
 */
int
oa_collect_batch(Oid database, uint64 batch, OaUses *uses, int capacity)
{
	OaUseEntry *entries;
	OaUseCounters *counters = oa_use_counters(&entries);
	int			count = 0;

	for (uint32 bucket = 0; bucket <= counters->bucket_mask; bucket++)
	{
		LWLock	   *lock = oa_use_lock(bucket);

		LWLockAcquire(lock, LW_SHARED);
		for (int i = counters->buckets[bucket];
			 i != OA_NO_ENTRY && count < capacity; i = entries[i].next)
		{
			OaUseEntry *entry = &entries[i];

			if (entry->key.database != database || entry->batch != batch ||
				!oa_copy_counts(entry, &uses[count]))
				continue;
			uses[count].accepted = entry->batch_accepted;
			uses[count].refused = entry->batch_refused;
			uses[count].limited = entry->batch_limited;
			count++;
		}
		LWLockRelease(lock);
	}
	return count;
}

/* Find the link to an entry in its bucket's chain. */
static int *
find_link(uint32 bucket, const OaUseKey *key)
{
	OaUseEntry *entries;
	OaUseCounters *counters = oa_use_counters(&entries);
	int		   *link = &counters->buckets[bucket];

	while (*link != OA_NO_ENTRY &&
		   !(oa_is_of_key(&entries[*link], key) &&
			 oa_is_of_client(&entries[*link], key)))
		link = &entries[*link].next;
	return link;
}

/*
 * Note in an entry how much a batch has taken from it.  Sessions that count do
 * not look at that; readers do not look before the batch is published.
 */
static void
note_taken(const OaUses *uses, uint64 batch)
{
	OaUseEntry *entries;
	uint32		bucket = oa_use_bucket(&uses->key);
	LWLock	   *lock = oa_use_lock(bucket);
	int			i;

	(void) oa_use_counters(&entries);
	LWLockAcquire(lock, LW_SHARED);
	i = *find_link(bucket, &uses->key);
	if (i != OA_NO_ENTRY)
	{
		entries[i].batch_accepted = uses->accepted;
		entries[i].batch_refused = uses->refused;
		entries[i].batch_limited = uses->limited;
		entries[i].batch = batch;
	}
	LWLockRelease(lock);
}

/*
 * Tell readers what a batch holds: the uses whose key is known, because we
 * write only those.  Must be called before the batch's transaction commits.
 */
void
oa_publish_batch(OaDatabase *database, uint64 batch, const OaUses *uses,
				 const bool *known, int count)
{
	for (int i = 0; i < count; i++)
		if (known[i])
			note_taken(&uses[i], batch);

	oa_lock_batches(LW_EXCLUSIVE);
	pg_atomic_write_u64(&database->batch, batch);
	pg_atomic_fetch_add_u64(&database->epoch, 2);
	oa_unlock_batches();
}

/*
 * Return the epoch of a database's batches, with a barrier against the reads
 * before and after.  Returns 0 if the workers do not look after the database.
 */
uint64
oa_batch_epoch(OaDatabase *database)
{
	uint64		epoch;

	pg_read_barrier();
	epoch = database != NULL ? pg_atomic_read_u64(&database->epoch) : 0;
	pg_read_barrier();
	return epoch;
}

/*
 * Return the number of the batch that was published and not yet subtracted, or
 * 0 if there is none.
 */
uint64
oa_batch_on_its_way(OaDatabase *database)
{
	return database != NULL ? pg_atomic_read_u64(&database->batch) : 0;
}

/*
 * Is this the entry that was collected, and not a later one for the same key?
 */
static bool
is_same(const OaUseEntry *entry, const OaUses *uses)
{
	return entry->counted_since == uses->counted_since &&
		entry->first_used_at == uses->first_used_at;
}

/* Subtract what was written, or what we drop, from an entry's counts. */
static void
subtract(const OaUses *uses)
{
	OaUseEntry *entries;
	uint32		bucket = oa_use_bucket(&uses->key);
	LWLock	   *lock = oa_use_lock(bucket);
	int		   *link;

	(void) oa_use_counters(&entries);
	LWLockAcquire(lock, LW_EXCLUSIVE);
	link = find_link(bucket, &uses->key);
	if (*link != OA_NO_ENTRY && is_same(&entries[*link], uses))
	{
		OaUseEntry *entry = &entries[*link];
		int64		accepted = pg_atomic_sub_fetch_u64(&entry->accepted, uses->accepted);
		int64		refused = pg_atomic_sub_fetch_u64(&entry->refused, uses->refused);
		int64		limited = pg_atomic_sub_fetch_u64(&entry->limited, uses->limited);

		entry->batch = 0;
		if (accepted == 0 && refused == 0 && limited == 0)
			oa_remove_use_entry(link);
	}
	LWLockRelease(lock);
}

/*
 * Subtract a batch after its transaction has committed: the uses that were
 * written, and those that we drop.  Does not raise.
 */
void
oa_subtract_batch(OaDatabase *database, const OaUses *uses, int count)
{
	oa_lock_batches(LW_EXCLUSIVE);
	pg_atomic_fetch_add_u64(&database->epoch, 1);
	for (int i = 0; i < count; i++)
		subtract(&uses[i]);
	pg_atomic_write_u64(&database->batch, 0);
	pg_atomic_fetch_add_u64(&database->epoch, 1);
	oa_unlock_batches();
}

/*
 * Subtract the batch that was published, if the tables have it.  Returns
 * whether no batch is left that may have been written.
 */
bool
oa_settle_batch(OaDatabase *database)
{
	uint64		batch = oa_batch_on_its_way(database);
	OaUses	   *uses;
	bool		written;
	int			count;

	if (batch == 0)
		return true;
	oa_worker_begin();
	written = oa_last_batch(oa_shared_source()) >= batch;
	oa_worker_commit();
	if (!written)
		return false;

	uses = palloc(OA_BATCH_MAX * sizeof(OaUses));
	count = oa_collect_batch(MyDatabaseId, batch, uses, OA_BATCH_MAX);
	oa_subtract_batch(database, uses, count);
	pfree(uses);
	return true;
}

/*
 * Forget the uses of databases that are gone, if they were counted before a
 * monotonic time.  Returns whether there are later uses of such databases.
 */
bool
oa_discard_uses(OaDatabaseTest is_gone, void *argument, int64 before)
{
	OaUseEntry *entries;
	OaUseCounters *counters = oa_use_counters(&entries);
	bool		left = false;

	for (uint32 bucket = 0; bucket <= counters->bucket_mask; bucket++)
	{
		LWLock	   *lock = oa_use_lock(bucket);
		int		   *link = &counters->buckets[bucket];

		LWLockAcquire(lock, LW_EXCLUSIVE);
		while (*link != OA_NO_ENTRY)
		{
			OaUseEntry *entry = &entries[*link];
			bool		gone = is_gone(entry->key.database, argument);

			if (gone && entry->counted_since < before)
			{
				pg_atomic_write_u64(&entry->accepted, 0);
				pg_atomic_write_u64(&entry->refused, 0);
				pg_atomic_write_u64(&entry->limited, 0);
				oa_remove_use_entry(link);
			}
			else
			{
				left |= gone;
				link = &entry->next;
			}
		}
		LWLockRelease(lock);
	}
	return left;
}
