/*
 * shared_clock.c
 *		Which keys and orgs have changed, for all sessions of the server.
 *
 * This is the protocol of the shared cache (shared_cache.c).  cache.c says in
 * which order PostgreSQL makes a change visible, sends its messages and answers
 * the client.  test/model checks the rules, and what happens without each.
 *
 * 1.	There is a clock T, and for each bucket of digests and org ids, and for
 *		everything, the time of its last change.  To count a change is:
 *		t = ++T; changed = max(changed, t).  An entry stores one T.
 *
 * 2.	The relcache callback of a backend that has committed something counts
 *		what it receives: a made-up OID (invalidation.c) its bucket; the OID of a
 *		table that was published here, everything.  OIDs are only added: what is
 *		published once always counts, until the list is full and every
 *		relation's OID does.
 *
 * 3.	The writer counts before its commit is answered: when its locks are
 *		released, which is after its messages were sent, it accepts them.  So
 *		nobody else needs to be awake, and the promise holds for sessions that
 *		begin later, which never receive the messages.  If a row trigger has sent
 *		them, that is before the row locks are released (invalidation.c), so that
 *		it holds, too, for who waited for them and is told of the change.
 *
 * 4.	A backend counts only while a message that it receives may be its own:
 *		from the moment that this may have been sent until the accept of rule 3
 *		has ended.  That is from the commit of a transaction with an xid on, from
 *		the beginning of COMMIT PREPARED on, and always in a logical apply worker.
 *		There InvalidOid (the queue overflowed) may stand for it, and counts
 *		everything.  Others have nothing to tell: they may have slept for hours,
 *		and what they receive then was counted long ago.
 *
 * 5.	If that accept raises an error, because another module's callback does,
 *		everything is counted, and the session ends.  To raise the error would
 *		be a PANIC, for the transaction has committed.  A process that exits
 *		does not accept, for there any error is FATAL.  If another accept has
 *		raised one after COMMIT PREPARED or in a logical apply worker, the
 *		message may be spent, and everything is counted.
 *
 * 6.	A fill locks the table, looks up the OIDs, publishes them, reads T, asks
 *		whether the server is in recovery, takes the snapshot, reads the rows,
 *		and stores them as of T; unless the tables that it read are not those
 *		that it published, a row is its own, or the server was in recovery,
 *		where the process that replays changes counts nothing.
 *
 * 7.	An entry is good while neither its key's bucket nor its org's nor
 *		everything has changed since its T.
 *
 * 8.	CREATE DATABASE counts everything, after the database is there and before
 *		its commit: its OID may be that of one that was dropped.
 *
 * Why that is enough: a revocation became visible at p, and was counted with t
 * after p and before its answer.  An entry with T < t is refused.  For an entry
 * with T >= t the clock was read after the count began, so after p, and the
 * snapshot was taken later still: it saw the revocation.  Counting too often
 * costs misses and nothing else.
 *
 * Memory barriers: ++T is a fetch-and-add, which is a full barrier, so T moves
 * after the commit is visible.  A fill has a full barrier between T and the
 * snapshot; a look-up has one before it looks at the counts.
 */
#include "postgres.h"

#include "access/parallel.h"
#include "access/xact.h"
#include "access/xlog.h"
#include "miscadmin.h"
#include "nodes/parsenodes.h"
#include "replication/logicalworker.h"
#include "storage/ipc.h"
#include "storage/lwlock.h"
#include "storage/shmem.h"
#include "storage/spin.h"
#include "tcop/utility.h"
#include "utils/inval.h"

#include "lookup/changes.h"
#include "settings.h"

#define PUBLISHED_MAX	4096
#define PUBLISHED_HERE_MAX	64

/* A table whose changes count. */
typedef struct Published
{
	Oid			database;
	Oid			relid;
} Published;

typedef struct SharedClock
{
	pg_atomic_uint64 clock;		/* T */
	char		pad1[PG_CACHE_LINE_SIZE - sizeof(pg_atomic_uint64)];
	pg_atomic_uint64 all_changed;
	char		pad2[PG_CACHE_LINE_SIZE - sizeof(pg_atomic_uint64)];
	slock_t		mutex;			/* of those who add to the list */
	pg_atomic_uint32 published_count;
	Published	published[PUBLISHED_MAX];
	pg_atomic_uint64 changed[OA_BUCKETS];
} SharedClock;

static SharedClock *shared = NULL;

/* What of the list is about this database, as far as we have read it. */
static Oid	published_here[PUBLISHED_HERE_MAX];
static int	published_here_count = 0;
static uint32 published_read = 0;

/* Has this backend begun a COMMIT PREPARED, and has that come to its end? */
static bool finishes_prepared = false;
static bool finished_prepared = false;

static ProcessUtility_hook_type prev_process_utility_hook = NULL;

/* Reserve the memory.  Called by the postmaster's shmem_request_hook. */
void
oa_shared_clock_shmem_request(void)
{
	if (oa_shared_cache_entries > 0)
		RequestAddinShmemSpace(sizeof(SharedClock));
}

/*
 * Attach to the memory, and fill it in if this process is the first.  Called by
 * each process's shmem_startup_hook, with AddinShmemInitLock held.
 */
void
oa_shared_clock_shmem_init(void)
{
	bool		found;

	if (oa_shared_cache_entries == 0)
		return;
	shared = ShmemInitStruct("overten_auth clock", sizeof(SharedClock), &found);
	if (found)
		return;

	pg_atomic_init_u64(&shared->clock, 1);
	pg_atomic_init_u64(&shared->all_changed, 1);
	SpinLockInit(&shared->mutex);
	pg_atomic_init_u32(&shared->published_count, 0);
	for (int i = 0; i < OA_BUCKETS; i++)
		pg_atomic_init_u64(&shared->changed[i], 0);
}

/* Count a change: rule 1. */
static void
count_change(pg_atomic_uint64 *cell)
{
	uint64		t = pg_atomic_fetch_add_u64(&shared->clock, 1) + 1;
	uint64		old = pg_atomic_read_u64(cell);

	while (old < t && !pg_atomic_compare_exchange_u64(cell, &old, t))
		;
}

/* Does this backend take part?  Auxiliary processes are sent no messages. */
static bool
takes_part(void)
{
	return shared != NULL && OidIsValid(MyDatabaseId);
}

/* Count a change of a bucket. */
void
oa_shared_count(uint32 bucket)
{
	if (takes_part())
		count_change(&shared->changed[bucket]);
}

/* Count a change that may concern everything. */
void
oa_shared_count_all(void)
{
	if (shared != NULL)
		count_change(&shared->all_changed);
}

/* Read what was added to the list.  Does nothing but arithmetic. */
static void
read_published(void)
{
	uint32		count = pg_atomic_read_u32(&shared->published_count);

	pg_read_barrier();
	for (; published_read < Min(count, PUBLISHED_MAX); published_read++)
	{
		const Published *next = &shared->published[published_read];

		if (next->database != MyDatabaseId)
			continue;
		if (published_here_count < PUBLISHED_HERE_MAX)
			published_here[published_here_count] = next->relid;
		published_here_count++;
	}
}

/* Is the list, or our part of it, too long to be complete? */
static bool
is_overfull(void)
{
	return published_here_count > PUBLISHED_HERE_MAX ||
		pg_atomic_read_u32(&shared->published_count) > PUBLISHED_MAX;
}

/* Was this relation published? */
bool
oa_shared_is_published(Oid relid)
{
	if (!takes_part())
		return false;

	read_published();
	for (int i = 0; i < Min(published_here_count, PUBLISHED_HERE_MAX); i++)
	{
		if (published_here[i] == relid)
			return true;
	}
	return is_overfull();
}

/* Publish a relation: its messages count everything from now on. */
void
oa_shared_publish(Oid relid)
{
	uint32		count;

	if (!takes_part() || !OidIsValid(relid) || oa_shared_is_published(relid))
		return;

	SpinLockAcquire(&shared->mutex);
	count = pg_atomic_read_u32(&shared->published_count);
	if (count < PUBLISHED_MAX)
	{
		shared->published[count].database = MyDatabaseId;
		shared->published[count].relid = relid;
		pg_write_barrier();
	}
	if (count <= PUBLISHED_MAX)
		pg_atomic_write_u32(&shared->published_count, count + 1);
	SpinLockRelease(&shared->mutex);
}

/* May this backend commit what others have prepared? */
static bool
commits_for_others(void)
{
	return finishes_prepared || IsLogicalWorker();
}

/*
 * May a message of this backend be on its way?  See rule 4.  The state of a
 * transaction that commits is not that of one in progress any more.
 */
bool
oa_shared_owes_message(void)
{
	return takes_part() && !IsParallelWorker() &&
		(commits_for_others() ||
		 (!IsTransactionState() &&
		  TransactionIdIsValid(GetTopTransactionIdIfAny())));
}

/*
 * End this session after an error in the accept of rule 3.  While a transaction
 * aborts, another error is being handled, which is not ours to flush.
 */
static void
give_up(bool is_commit)
{
	LWLockReleaseAll();
	if (is_commit)
		FlushErrorState();
	oa_shared_count_all();
	oa_forget_all();
	ereport(LOG,
			(errmsg("a callback for invalidation messages failed at the end of a transaction"),
			 errdetail("This session ends, because it cannot tell what it has missed. What was committed stays so.")));
	kill(MyProcPid, SIGTERM);
}

/* Accept what this backend has sent.  Raises no error. */
static void
accept_own(bool is_commit)
{
	MemoryContext caller = CurrentMemoryContext;
	uint32		holdoff = InterruptHoldoffCount;

	PG_TRY();
	{
		oa_accept_changes();
	}
	PG_CATCH();
	{
		/* An error sets this back; whoever commits counts on it. */
		InterruptHoldoffCount = holdoff;
		MemoryContextSwitchTo(caller);
		give_up(is_commit);
	}
	PG_END_TRY();
}

/*
 * Count the own changes before the commit is answered: rule 3.  A transaction
 * that aborts has sent nothing of its own.  "lost_messages": one that came may
 * not have reached us.
 */
void
oa_shared_count_own(bool is_commit, bool lost_messages)
{
	bool		for_others = commits_for_others();

	if (!oa_shared_owes_message() || !(is_commit || for_others))
		return;

	if (lost_messages && (finished_prepared || IsLogicalWorker()))
		oa_shared_count_all();
	if (!proc_exit_inprogress)
		accept_own(is_commit);
	else if (for_others || (is_commit && oa_has_own_change()))
		oa_shared_count_all();
	finishes_prepared = false;
	finished_prepared = false;
}

/* The hook for utility commands: rules 4 and 8. */
static void
process_utility(PlannedStmt *planned, const char *query, bool read_only_tree,
				ProcessUtilityContext context, ParamListInfo parameters,
				QueryEnvironment *environment, DestReceiver *destination,
				QueryCompletion *completion)
{
	Node	   *statement = planned->utilityStmt;
	bool		creates_database = IsA(statement, CreatedbStmt);

	if (IsA(statement, TransactionStmt) &&
		((TransactionStmt *) statement)->kind == TRANS_STMT_COMMIT_PREPARED)
		finishes_prepared = true;

	if (prev_process_utility_hook)
		prev_process_utility_hook(planned, query, read_only_tree, context,
								  parameters, environment, destination,
								  completion);
	else
		standard_ProcessUtility(planned, query, read_only_tree, context,
								parameters, environment, destination,
								completion);
	finished_prepared = finishes_prepared;
	if (creates_database)
		oa_shared_count_all();
}

/* Install the hook.  Called once, when the library is preloaded. */
void
oa_shared_cache_init(void)
{
	if (oa_shared_cache_entries == 0)
		return;
	prev_process_utility_hook = ProcessUtility_hook;
	ProcessUtility_hook = process_utility;
}

/* T, before a snapshot is taken. */
uint64
oa_shared_clock(void)
{
	return shared != NULL ? pg_atomic_read_u64(&shared->clock) : 0;
}

/* Has anything changed since "as_of" that these buckets stand for? */
bool
oa_shared_has_changed(uint64 as_of, OaBuckets buckets)
{
	return pg_atomic_read_u64(&shared->changed[buckets.key % OA_BUCKETS]) > as_of ||
		pg_atomic_read_u64(&shared->changed[buckets.org % OA_BUCKETS]) > as_of ||
		pg_atomic_read_u64(&shared->all_changed) > as_of;
}

/*
 * May the shared cache be asked and filled now?  Before the snapshot, for a
 * fill: the answer holds for what is read under it.
 */
bool
oa_shared_is_usable(void)
{
	return takes_part() && oa_cache_entries > 0 && !oa_has_own_change() &&
		!RecoveryInProgress();
}
