/*
 * shared_clock.c
 *		Tells all sessions of the server which keys and orgs have changed.
 *
 * This is the protocol of the shared cache (shared_cache.c).  cache.c says in
 * which order PostgreSQL makes a change visible, sends its messages and
 * answers the client.  test/model checks the rules, and shows what goes wrong
 * without each of them.
 *
 * 1.	There is a clock T.  Each bucket of digests and org ids has the time of
 *		its last change, and there is such a time for everything.  To count a
 *		change means: t = ++T; changed = max(changed, t).  An entry stores one
 *		T.
 *
 * 2.	The relcache callback of a backend that has committed something counts
 *		what it receives.  A made-up OID (invalidation.c) counts its bucket.
 *		The OID of a table that was published here counts everything.  We never
 *		remove an OID: once published, it always counts.  When the list is
 *		full, the OID of every relation counts everything.
 *
 * 3.	The writer counts before its commit is answered.  It accepts its
 *		messages when its locks are released, which is after they were sent.
 *		So it does not depend on any other process.  The promise also holds for
 *		sessions that begin later, which never receive the messages.  If a row
 *		trigger has sent the messages, the writer accepts them before its row
 *		locks are released (invalidation.c).  So the promise also holds for a
 *		session that waits for such a lock and then learns of the change.
 *		COMMIT PREPARED releases the locks first, so there it does not.
 *
 * 4.	A backend counts only while a message that it receives may be its own:
 *		from the moment when it may have sent one, until the accept of rule 3
 *		has ended.  That moment is the commit of a transaction that has an xid,
 *		or the beginning of COMMIT PREPARED; in a logical apply worker it is
 *		always so.  During that time InvalidOid (the queue overflowed) may
 *		stand for the backend's own message, and counts everything.  Other
 *		backends need not count: they may have slept for hours, and what they
 *		receive then was counted long ago.
 *
 * 5.	If another module's callback raises an error in that accept, we count
 *		everything, and end the session.  We cannot raise the error, because
 *		that would be a PANIC after the transaction has committed.  A process
 *		that exits does not accept, because any error would be FATAL there; if
 *		it may have sent a message, it counts everything instead.  If another
 *		accept has raised an error, after COMMIT PREPARED or in a logical apply
 *		worker, the message may be lost, and we count everything.
 *
 * 6.	A fill does these steps in this order: it locks the table, looks up the
 *		OIDs, publishes them, reads T, asks whether the server is in recovery,
 *		takes the snapshot, reads the rows, and stores them as of T.  It does
 *		not store them if it has read other tables than those that it
 *		published, or if its own transaction has written one of the rows.  It
 *		does not store them in recovery either, because the process that
 *		replays changes counts nothing.
 *
 * 7.	An entry is good if its key's bucket, its org's bucket, and everything
 *		have not changed since its T.
 *
 * 8.	CREATE DATABASE counts everything, after it has created the database
 *		and before it commits, because the new database may have the OID of one
 *		that was dropped.
 *
 * Why that is enough: say that a revocation became visible at p.  It was
 * counted with t, after p and before the revocation was answered.  We refuse
 * an entry with T < t.  For an entry with T >= t, the fill read the clock
 * after the count began, so after p, and took its snapshot later still, so it
 * saw the revocation.  If we count too often, that only costs misses.
 *
 * Memory barriers: ++T is a fetch-and-add, which is a full barrier, so T
 * advances after the commit is visible.  A fill has a full barrier between
 * reading T and taking the snapshot.  A look-up has one before it reads the
 * counts.
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
	slock_t		mutex;			/* protects additions to the list */
	pg_atomic_uint32 published_count;
	Published	published[PUBLISHED_MAX];
	pg_atomic_uint64 changed[OA_BUCKETS];
} SharedClock;

static SharedClock *shared = NULL;

/*
 * The part of the list that is about this database, as far as we have read it.
 */
static Oid	published_here[PUBLISHED_HERE_MAX];
static int	published_here_count = 0;
static uint32 published_read = 0;

/* Has this backend begun a COMMIT PREPARED, and has that command ended? */
static bool finishes_prepared = false;
static bool finished_prepared = false;

static ProcessUtility_hook_type prev_process_utility_hook = NULL;

/* Reserve shared memory.  Called by the postmaster's shmem_request_hook. */
void
oa_shared_clock_shmem_request(void)
{
	if (oa_shared_cache_entries > 0)
		RequestAddinShmemSpace(sizeof(SharedClock));
}

/*
 * Attach to shared memory, and initialize it if this process is the first.
 * Called by each process's shmem_startup_hook, with AddinShmemInitLock held.
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

/* Does this process take part?  Auxiliary processes receive no messages. */
static bool
takes_part(void)
{
	return shared != NULL && OidIsValid(MyDatabaseId);
}

/* Count a change in a bucket. */
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

/* Read what was added to the list.  Only does arithmetic. */
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

/* Was there no room for some OID, in the list or in our part of it? */
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

/* Publish a relation: from now on, its messages count everything. */
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

/* May this backend commit what other sessions have prepared? */
static bool
commits_for_others(void)
{
	return finishes_prepared || IsLogicalWorker();
}

/*
 * May this backend receive a message of its own?  See rule 4.  While a
 * transaction commits, it is no longer in progress, so IsTransactionState() is
 * false.
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
 * Return the message of the error that is being handled.  Does not raise: if
 * there is no memory for a copy, we do without.  The errors stay on the stack.
 */
static const char *
error_message(void)
{
	MemoryContext caller = CurrentMemoryContext;
	uint32		holdoff = InterruptHoldoffCount;
	const char *volatile message = NULL;

	PG_TRY();
	{
		message = CopyErrorData()->message;
	}
	PG_CATCH();
	{
		InterruptHoldoffCount = holdoff;
		MemoryContextSwitchTo(caller);
	}
	PG_END_TRY();
	return message != NULL ? message : "not known";
}

/*
 * End this session after an error in the accept of rule 3.  If the transaction
 * aborts, another error is being handled, and we must not flush that one.
 */
static void
give_up(bool is_commit)
{
	const char *message;

	LWLockReleaseAll();
	oa_shared_count_all();
	message = error_message();
	if (is_commit)
		FlushErrorState();
	oa_forget_all();
	ereport(LOG,
			(errmsg("a callback for invalidation messages failed at the end of a transaction"),
			 errdetail("The error was: %s. This session ends, because it cannot tell what it has missed. What was committed stays so.",
					   message),
			 errhint("Look for the cause in the other modules that are loaded into the session."),
			 errhidestmt(true)));
	kill(MyProcPid, SIGTERM);
}

/* Accept the messages that this backend has sent.  Does not raise. */
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
		/* An error resets this, but the code that commits relies on it. */
		InterruptHoldoffCount = holdoff;
		MemoryContextSwitchTo(caller);
		give_up(is_commit);
	}
	PG_END_TRY();
}

/*
 * Count our own changes before the commit is answered: rule 3.  A transaction
 * that aborts has sent no messages of its own.  "lost_messages" says whether a
 * message may have been lost before our callback received it.
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

/* Return T.  The caller takes its snapshot afterwards. */
uint64
oa_shared_clock(void)
{
	return shared != NULL ? pg_atomic_read_u64(&shared->clock) : 0;
}

/* Has anything in these buckets, or everything, changed since "as_of"? */
bool
oa_shared_has_changed(uint64 as_of, OaBuckets buckets)
{
	return pg_atomic_read_u64(&shared->changed[buckets.key % OA_BUCKETS]) > as_of ||
		pg_atomic_read_u64(&shared->changed[buckets.org % OA_BUCKETS]) > as_of ||
		(buckets.tier < OA_BUCKETS &&
		 pg_atomic_read_u64(&shared->changed[buckets.tier]) > as_of) ||
		pg_atomic_read_u64(&shared->all_changed) > as_of;
}

/*
 * May we search and fill the shared cache now?  For a fill, call this before
 * taking the snapshot; the answer then holds for all that is read under that
 * snapshot.
 */
bool
oa_shared_is_usable(void)
{
	return takes_part() && oa_cache_entries > 0 && !oa_has_own_change() &&
		!RecoveryInProgress();
}
