/*
 * quota_buckets.c
 *		Moves the units of quotas between their table and shared memory.
 *
 * A quota grants nothing before its bucket is in memory.  To load one, a session
 * notes how many quotas were removed from the partition, reads the table under a
 * snapshot that it takes after that, and adds the bucket.  If another session
 * has added it meanwhile, that one counts.  If a quota was removed meanwhile, it
 * can have been this one, with units that the snapshot does not see; so the
 * session reads again.
 *
 * A flush (quota_flush.c) collects what is unwritten, writes it, commits, and
 * subtracts it.  So units are in memory until they are in the table for every
 * snapshot that is taken from then on, and only then can the bucket be removed.
 */
#include "postgres.h"

#include "miscadmin.h"

#include "limits/buckets.h"
#include "server/server.h"

/* So often we read the table for one bucket. */
#define READ_ATTEMPTS	10

/* The outcome of adding a bucket. */
typedef enum Adding
{
	ADDED,
	READ_AGAIN,					/* a quota was removed meanwhile */
	NO_ROOM
} Adding;

/* Is the bucket of a quota there?  Sets how many were removed. */
static bool
is_loaded(const OaTake *take, uint64 *removals)
{
	uint32		chain = oa_limit_chain(take->bucket);
	LWLock	   *lock = oa_limit_lock(chain);
	bool		found;

	LWLockAcquire(lock, LW_SHARED);
	found = oa_find_limit_bucket(take->bucket, take->start) != NULL;
	*removals = oa_limit_removals(chain);
	LWLockRelease(lock);
	return found;
}

/* Add the bucket of a quota to its chain, which is locked exclusively. */
static void
fill_bucket(int i, const OaTake *take, text *org_id, int64 units)
{
	OaLimitBucket *bucket = oa_limit_bucket(i);

	bucket->quota.end = take->end;
	bucket->quota.units = units;
	bucket->quota.loaded_at = oa_monotonic_ms();
	memset(bucket->org_id, 0, sizeof(bucket->org_id));
	memcpy(bucket->org_id, VARDATA_ANY(org_id), VARSIZE_ANY_EXHDR(org_id));
	(void) oa_add_limit_bucket(i, take->bucket, take->start);
}

/*
 * Add the bucket of a quota with the units that were read, unless it is there or
 * something was removed after "removals" was noted.
 */
static Adding
add_quota(const OaTake *take, text *org_id, int64 units, uint64 removals)
{
	uint32		chain = oa_limit_chain(take->bucket);
	LWLock	   *lock = oa_limit_lock(chain);

	for (;;)
	{
		Adding		adding = ADDED;
		int			free = OA_NO_LIMIT_BUCKET;

		LWLockAcquire(lock, LW_EXCLUSIVE);
		if (oa_find_limit_bucket(take->bucket, take->start) == NULL)
		{
			if (oa_limit_removals(chain) != removals)
				adding = READ_AGAIN;
			else if ((free = oa_take_free_buckets(1)) == OA_NO_LIMIT_BUCKET)
				adding = NO_ROOM;
			else
				fill_bucket(free, take, org_id, units);
		}
		LWLockRelease(lock);
		if (adding != NO_ROOM || !oa_make_room(1))
			return adding;
	}
}

/*
 * Load the bucket of a quota, which counts for an org or one of its keys.
 * Returns false if there is no memory for it.  Raises errors.
 */
bool
oa_load_quota(const OaTake *take, text *org_id)
{
	for (int attempt = 0; attempt < READ_ATTEMPTS; attempt++)
	{
		uint64		removals;
		Adding		adding;

		if (is_loaded(take, &removals))
			return true;
		adding = add_quota(take, org_id,
						   oa_read_quota_units(take->bucket, take->start),
						   removals);
		if (adding != READ_AGAIN)
			return adding == ADDED;
	}
	return false;
}

/*
 * Collect what is unwritten of quotas of this database, at most "capacity" of
 * them, starting from *chain, which the caller sets to 0 before the first call.
 * Returns how many there are, or 0 after the last chain.
 */
int
oa_collect_quotas(uint32 *chain, OaUnwritten *unwritten, int capacity)
{
	int			count = 0;

	while (*chain < oa_limit_chains())
	{
		LWLock	   *lock = oa_limit_lock(*chain);
		int			before = count;
		bool		fits = true;

		LWLockAcquire(lock, LW_SHARED);
		for (int i = *oa_limit_chain_head(*chain); i != OA_NO_LIMIT_BUCKET;
			 i = oa_limit_bucket(i)->next)
		{
			OaLimitBucket *bucket = oa_limit_bucket(i);

			if (bucket->database != MyDatabaseId ||
				!oa_is_quota_bucket(bucket) || bucket->quota.unwritten == 0)
				continue;
			fits = count < capacity;
			if (!fits)
				break;
			memcpy(unwritten[count].id, bucket->id, OA_BUCKET_ID_LEN);
			memcpy(unwritten[count].org_id, bucket->org_id,
				   OA_COUNTED_ID_MAX);
			unwritten[count].start = bucket->start;
			unwritten[count].units = bucket->quota.unwritten;
			count++;
		}
		LWLockRelease(lock);

		/* Take whole chains, unless a single one does not fit. */
		if (!fits && before > 0)
			return before;
		(*chain)++;
		if (!fits)
			break;
	}
	return count;
}

/* Subtract what was written, and committed. */
void
oa_subtract_quotas(const OaUnwritten *written, int count)
{
	for (int i = 0; i < count; i++)
	{
		LWLock	   *lock = oa_limit_lock(oa_limit_chain(written[i].id));
		OaLimitBucket *bucket;

		LWLockAcquire(lock, LW_EXCLUSIVE);
		bucket = oa_find_limit_bucket(written[i].id, written[i].start);
		if (bucket != NULL)
			oa_note_unwritten(&bucket->quota,
							  -Min(written[i].units, bucket->quota.unwritten));
		LWLockRelease(lock);
	}
}

/*
 * Forget the quotas of databases that are gone, and what is unwritten of them, if
 * they were loaded before a monotonic time.  Returns whether there are others of
 * such databases.
 */
bool
oa_discard_quotas(OaDatabaseTest is_gone, void *argument, int64 before)
{
	bool		left = false;

	for (uint32 chain = 0; chain < oa_limit_chains(); chain++)
	{
		LWLock	   *lock = oa_limit_lock(chain);
		int		   *link = oa_limit_chain_head(chain);

		LWLockAcquire(lock, LW_EXCLUSIVE);
		while (*link != OA_NO_LIMIT_BUCKET)
		{
			OaLimitBucket *bucket = oa_limit_bucket(*link);
			bool		gone = oa_is_quota_bucket(bucket);

			gone = gone && is_gone(bucket->database, argument);
			if (gone && bucket->quota.loaded_at < before)
				oa_remove_limit_bucket(chain, link);
			else
			{
				left |= gone;
				link = &bucket->next;
			}
		}
		LWLockRelease(lock);
	}
	return left;
}
