/*
 * unflushed_uses.c
 *		Reads the uses of keys that were counted but are not in the tables
 *		yet.
 *
 * A customer who has just made a first request looks for it in the list of
 * keys.  So we include what is in shared memory, and while a flush runs we
 * must count each use exactly once.  An exact read copies the counts of the
 * keys that the caller asks for, and then takes a snapshot, under which the
 * caller reads the tables.  Between these two steps nobody may publish or
 * subtract a batch; if the epoch tells us that somebody did, we start over
 * (use_batches.c).  After that it does not matter what the flush does.  If a
 * batch was being written, the snapshot decides: if it sees the number of that
 * batch in usage_batches, it also sees the batch's rows, so we subtract what
 * the batch holds.
 *
 * The snapshot is always the latest one, even in a REPEATABLE READ
 * transaction, because an older snapshot would not match the counts.
 *
 * For each hour that has counts, we look only at the buckets of the given
 * keys, so the cost does not depend on how many uses of other keys are
 * counted.  We do not take a bucket's lock to check whether the bucket is
 * empty.  That is safe: we see every use that was answered before we began,
 * and nobody expects us to see later ones.
 *
 * Must be called between oa_statements_begin() and oa_statements_end().
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "databases/databases.h"
#include "server/server.h"
#include "usage/usage.h"
#include "usage/use_counters.h"

/* How often we try before we lock the batches against changes. */
#define FREE_ATTEMPTS	3

/* The most entries that a key can have in an hour; one has no address. */
#define BUCKET_MAX		(OA_ADDRESSES_MAX + 1)

/*
 * Return the number of hours that have counts of any key in any database, and
 * set *hours to a palloc'd array of them.
 */
int
oa_counted_hours(int32 **hours)
{
	OaUseEntry *entries;
	OaUseCounters *counters = oa_use_counters(&entries);
	int			count = 0;

	if (counters == NULL || counters->used == 0)
		return 0;

	*hours = palloc(OA_HOURS_MAX * sizeof(int32));
	SpinLockAcquire(&counters->mutex);
	for (; count < counters->hour_count; count++)
		(*hours)[count] = counters->hours[count].hour;
	SpinLockRelease(&counters->mutex);
	return count;
}

/*
 * Set the key that a key's uses are counted under.  Returns false if the id is
 * too long, so that its uses are never counted.
 */
static bool
make_use_key(OaUseKey *key, text *key_id)
{
	int			length = VARSIZE_ANY_EXHDR(key_id);

	if (length > sizeof(key->key_id))
		return false;
	memset(key, 0, sizeof(*key));
	key->database = MyDatabaseId;
	memcpy(key->key_id, VARDATA_ANY(key_id), length);
	return true;
}

/* Is a bucket empty at this moment?  The caller need not hold its lock. */
static bool
is_empty(const OaUseCounters *counters, uint32 bucket)
{
	return *(const volatile int *) &counters->buckets[bucket] == OA_NO_ENTRY;
}

/*
 * Return when a key was last accepted, according to the counts of the given
 * hours, or 0 if none of these hours has an accepted use of it.
 */
TimestampTz
oa_last_counted_use(text *key_id, const int32 *hours, int count)
{
	OaUseEntry *entries;
	OaUseCounters *counters = oa_use_counters(&entries);
	TimestampTz last = 0;
	OaUseKey	key;

	if (!make_use_key(&key, key_id))
		return 0;
	for (int hour = 0; hour < count; hour++)
	{
		uint32		bucket;
		LWLock	   *lock;

		key.hour = hours[hour];
		bucket = oa_use_bucket(&key);
		if (is_empty(counters, bucket))
			continue;

		lock = oa_use_lock(bucket);
		LWLockAcquire(lock, LW_SHARED);
		for (int i = counters->buckets[bucket]; i != OA_NO_ENTRY;
			 i = entries[i].next)
			if (oa_is_of_key(&entries[i], &key))
				last = Max(last,
						   (TimestampTz) pg_atomic_read_u64(&entries[i].last_accepted_at));
		LWLockRelease(lock);
	}
	return last;
}

/*
 * Was this key ever accepted, as far as uses are recorded?  We look in memory
 * before we look in the table: a flush writes a use before it removes it from
 * memory, so we cannot miss it in both.
 */
bool
oa_was_used(text *key_id)
{
	static OaStatement find = {
		.table = "key_last_used",
		.latest = true,
		.text = "SELECT 1 FROM overten_auth.key_last_used "
		"WHERE key_id = $1 AND last_used_at IS NOT NULL",
		.argtypes = {TEXTOID},
	};
	Datum		values[] = {PointerGetDatum(key_id)};
	int32	   *hours;
	int			count = oa_counted_hours(&hours);

	return (count > 0 && oa_last_counted_use(key_id, hours, count) != 0) ||
		oa_statement_run(&find, values, NULL) > 0;
}

/*
 * Copy the counts of a key in an hour, and how much of them a batch has taken.
 */
static void
copy_hour(OaExactRead *read, const OaUseKey *key, uint64 batch)
{
	OaUseEntry *entries;
	OaUseCounters *counters = oa_use_counters(&entries);
	uint32		bucket = oa_use_bucket(key);
	LWLock	   *lock = oa_use_lock(bucket);

	if (is_empty(counters, bucket))
		return;
	if (read->capacity - read->count < BUCKET_MAX)
	{
		read->capacity = 2 * read->capacity + BUCKET_MAX;
		read->uses = read->uses == NULL ?
			palloc(read->capacity * sizeof(OaUses)) :
			repalloc_huge(read->uses, read->capacity * sizeof(OaUses));
	}

	LWLockAcquire(lock, LW_SHARED);
	for (int i = counters->buckets[bucket]; i != OA_NO_ENTRY;
		 i = entries[i].next)
	{
		OaUses	   *uses = &read->uses[read->count];
		bool		taken = (batch != 0 && entries[i].batch == batch);

		if (!oa_is_of_key(&entries[i], key) ||
			!oa_copy_counts(&entries[i], uses))
			continue;
		uses->taken_accepted = taken ? entries[i].batch_accepted : 0;
		uses->taken_refused = taken ? entries[i].batch_refused : 0;
		uses->taken_limited = taken ? entries[i].batch_limited : 0;
		read->count++;
	}
	LWLockRelease(lock);
}

/* Copy the counts of keys in the hours that begin in a period. */
static void
copy_uses(OaExactRead *read, uint64 batch, const Datum *key_ids, int keys,
		  TimestampTz since, TimestampTz until)
{
	int32	   *hours;
	int			count = oa_counted_hours(&hours);

	read->count = 0;
	for (int i = 0; i < count; i++)
	{
		TimestampTz begin = hours[i] * USECS_PER_HOUR;

		CHECK_FOR_INTERRUPTS();
		for (int k = 0; begin >= since && begin < until && k < keys; k++)
		{
			OaUseKey	key;

			if (make_use_key(&key, DatumGetTextPP(key_ids[k])))
			{
				key.hour = hours[i];
				copy_hour(read, &key, batch);
			}
		}
	}
	if (count > 0)
		pfree(hours);
}

/*
 * Subtract what a batch has taken, because the snapshot sees it in the tables.
 */
static void
take_off_batch(OaExactRead *read)
{
	int			count = 0;

	for (int i = 0; i < read->count; i++)
	{
		OaUses		uses = read->uses[i];

		uses.accepted -= uses.taken_accepted;
		uses.refused -= uses.taken_refused;
		uses.limited -= uses.taken_limited;
		if (uses.accepted != 0 || uses.refused != 0 || uses.limited != 0)
			read->uses[count++] = uses;
	}
	read->count = count;
}

/*
 * Read the counts of keys in the hours that begin in a period, and take the
 * snapshot that matches them.
 */
void
oa_exact_read_begin(OaExactRead *read, const Datum *key_ids, int keys,
					TimestampTz since, TimestampTz until)
{
	OaDatabase *database = oa_my_database();
	uint64		batch = 0;

	memset(read, 0, sizeof(*read));
	for (int attempt = 1;; attempt++)
	{
		bool		locks = (attempt > FREE_ATTEMPTS);
		uint64		epoch;

		if (locks)
			oa_lock_batches(LW_SHARED);
		epoch = oa_batch_epoch(database);
		batch = oa_batch_on_its_way(database);
		copy_uses(read, batch, key_ids, keys, since, until);
		read->snapshot = RegisterSnapshot(GetLatestSnapshot());
		if (locks)
			oa_unlock_batches();

		/* If we have copied nothing, we cannot count anything twice. */
		if (locks || read->count == 0 ||
			(epoch % 2 == 0 && oa_batch_epoch(database) == epoch))
			break;
		UnregisterSnapshot(read->snapshot);
	}
	if (batch != 0 && read->count > 0 &&
		oa_last_batch_under(oa_shared_source(), read->snapshot) >= batch)
		take_off_batch(read);
}

/* End an exact read: release its snapshot. */
void
oa_exact_read_end(OaExactRead *read)
{
	UnregisterSnapshot(read->snapshot);
}
