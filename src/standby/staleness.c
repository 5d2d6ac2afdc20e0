/*
 * staleness.c
 *		How old what a standby knows can be.
 *
 * This is the protocol of overten_auth.max_standby_lag.  It promises: a
 * verification on a standby that begins more than max_standby_lag after the
 * COMMIT of a revocation has returned on the primary that the standby follows
 * does not accept the key.  It refuses the key, or raises 55000.  This holds as
 * long as one of the two clocks of the standby's machine advances as time does.
 * It holds likewise for everything else that a verification depends on: signing
 * keys, orgs, restrictions, limits.
 *
 * 1.	A worker on the standby (staleness_worker.c) has a connection of its own
 *		to the server that the WAL receiver receives from: primary_conninfo has
 *		led both to the same host and port, it has the same system identifier,
 *		and it is not in recovery.  A server that is not in recovery does not
 *		go back to it without ending its connections, so we ask that once for
 *		each connection.
 *
 * 2.	The worker reads its own clocks, which gives the moment m, and only
 *		then asks: up to where is the WAL flushed?  The answer is a timeline
 *		and a position L.
 *
 * 3.	When every record that ends at or before L has been replayed on that
 *		timeline (replayed.c), the worker publishes m.  The history of the
 *		timeline must be the standby's own: two servers that are promoted
 *		without knowledge of each other can give a timeline the same number.
 *
 * 4.	A verification reads the published m first, then the clocks, and then
 *		it looks at caches and tables.  It goes on only if both clocks have
 *		advanced by at most max_standby_lag since m.
 *
 * Why that is enough: say that a COMMIT has returned at c, and that a
 * verification that begins at v > c + max_standby_lag goes on.  By rule 4, a
 * clock that advances as time does says that m >= v - max_standby_lag, so m > c.
 * The question of rule 2 was sent after m, so the primary answered it after c.
 * A COMMIT that takes access away has flushed its record before it returns,
 * because the triggers call ForceSyncCommit() (invalidation.c).  So that record
 * ends at or before L, and by rule 3 it had been replayed before m was
 * published.  Replay makes a commit visible and sends its invalidation messages
 * before it advances the position that rule 3 looks at.  The verification
 * read m after that, accepts these messages after it has read m, and takes its
 * snapshots later still (cache.c).  So it sees the revocation.
 *
 * No clock of another machine is read, and nothing is written.  What would not
 * be enough: the position and time in a keepalive, because the primary sends
 * them at any time after it has read them; the time of the last replayed
 * commit, because another may have returned since; clocks that are read when
 * the answer has come, because a COMMIT may return between the answer and then;
 * one clock alone, because CLOCK_REALTIME can be set back, and CLOCK_BOOTTIME
 * stands still while a virtual machine is paused.
 *
 * What this cannot know: if two servers that were promoted at the same position
 * answer under one host name, their timelines cannot be told apart.  Fencing
 * has to prevent that.  A standby that is moved to another primary may for
 * max_standby_lag more know what the primary before had committed.
 *
 * Shared memory holds m twice.  The worker writes the copy that is not current,
 * and makes it current with the next number.  A reader that finds the same
 * number after reading as before has read both clocks of one moment, and never
 * waits for a worker that has been stopped.
 */
#include "postgres.h"

#include "access/xlog.h"
#include "port/atomics.h"
#include "storage/shmem.h"

#include "server/server.h"
#include "settings.h"
#include "standby/staleness.h"

#define MILLISECOND	INT64CONST(1000000) /* in nanoseconds */

/* One of the two copies.  Atomic only so that each value is whole. */
typedef struct PublishedMoment
{
	pg_atomic_uint64 boot;
	pg_atomic_uint64 wall;
} PublishedMoment;

typedef struct Staleness
{
	pg_atomic_uint64 number;	/* of moments published; the last is
								 * moments[number % 2] */
	PublishedMoment moments[2];
	pg_atomic_uint32 problem;	/* an OaStandbyProblem */
} Staleness;

static Staleness *shared = NULL;

static const char *const problems[OA_STANDBY_PROBLEMS] = {
	[OA_STANDBY_NO_WORKER] = "The worker that asks the primary does not run.",
	[OA_STANDBY_NO_RECEIVER] = "No WAL receiver is streaming.",
	[OA_STANDBY_NOT_CONNECTED] = "The worker cannot reach the primary as primary_conninfo says.",
	[OA_STANDBY_OTHER_SERVER] = "primary_conninfo has led the worker to another server than the WAL receiver.",
	[OA_STANDBY_OTHER_SYSTEM] = "The server that primary_conninfo leads to is of another cluster.",
	[OA_STANDBY_CASCADING] = "The server that primary_conninfo leads to is a standby.",
	[OA_STANDBY_OTHER_TIMELINE] = "The primary and this standby are on different timelines.",
	[OA_STANDBY_OTHER_HISTORY] = "The timeline of the primary has another history than that of this standby.",
	[OA_STANDBY_BEHIND] = "Replay is behind the primary, or the worker that asks the primary hangs.",
};

/* Reserve shared memory.  Called by the postmaster's shmem_request_hook. */
void
oa_standby_shmem_request(void)
{
	RequestAddinShmemSpace(sizeof(Staleness));
}

/*
 * Attach to shared memory, and initialize it if this process is the first.
 * Called by each process's shmem_startup_hook, with AddinShmemInitLock held.
 */
void
oa_standby_shmem_init(void)
{
	bool		found;

	shared = ShmemInitStruct("overten_auth staleness", sizeof(Staleness),
							 &found);
	if (found)
		return;

	pg_atomic_init_u64(&shared->number, 0);
	for (int i = 0; i < lengthof(shared->moments); i++)
	{
		pg_atomic_init_u64(&shared->moments[i].boot, 0);
		pg_atomic_init_u64(&shared->moments[i].wall, 0);
	}
	pg_atomic_init_u32(&shared->problem, OA_STANDBY_NO_WORKER);
}

/* The moment that it is now. */
OaMoment
oa_moment_now(void)
{
	OaMoment	now;

	now.boot = oa_boot_time_ns();
	now.wall = oa_wall_clock_ns();
	return now;
}

/*
 * Publish that this standby knows all that had been committed at a moment.
 * Only the worker calls this.
 */
void
oa_publish_moment(const OaMoment *moment)
{
	uint64		number = pg_atomic_read_u64(&shared->number) + 1;
	PublishedMoment *copy = &shared->moments[number % 2];

	/* A reader of this copy, which was current before, must notice. */
	pg_memory_barrier();
	pg_atomic_write_u64(&copy->boot, moment->boot);
	pg_atomic_write_u64(&copy->wall, moment->wall);
	pg_memory_barrier();
	pg_atomic_write_u64(&shared->number, number);
}

/* Read the moment that was published last.  Returns false if there is none. */
static bool
read_moment(OaMoment *moment)
{
	uint64		number;

	if (shared == NULL)
		return false;
	do
	{
		PublishedMoment *copy;

		number = pg_atomic_read_u64(&shared->number);
		if (number == 0)
			return false;
		pg_read_barrier();
		copy = &shared->moments[number % 2];
		moment->boot = pg_atomic_read_u64(&copy->boot);
		moment->wall = pg_atomic_read_u64(&copy->wall);
		pg_read_barrier();
	} while (pg_atomic_read_u64(&shared->number) != number);
	return true;
}

/*
 * How old can what this standby knows be, in nanoseconds?  Returns -1 if it
 * was never shown since the server started.
 */
static int64
age(void)
{
	OaMoment	known;
	OaMoment	now;

	if (!read_moment(&known))
		return -1;
	now = oa_moment_now();
	return Max(Max(now.boot - known.boot, now.wall - known.wall), 0);
}

/*
 * Does this standby know everything that had been committed
 * overten_auth.max_standby_lag ago?  A verification asks this before it looks
 * at anything else.
 */
bool
oa_is_within_standby_bound(void)
{
	int64		known = age();

	return known >= 0 && known <= oa_max_standby_lag * MILLISECOND;
}

/*
 * The age of what this standby knows, in microseconds; -1 if nothing is known
 * of it, or if this server is no standby with a bound.
 */
int64
oa_standby_age(void)
{
	int64		known;

	if (oa_max_standby_lag == 0 || !RecoveryInProgress())
		return -1;
	known = age();
	return known < 0 ? -1 : known / 1000;
}

/* Why is this standby not within the bound?  Returns a sentence, or NULL. */
const char *
oa_standby_problem(void)
{
	if (oa_max_standby_lag == 0 || !RecoveryInProgress() ||
		oa_is_within_standby_bound())
		return NULL;
	if (shared == NULL)
		return "The library is not preloaded.";
	return problems[pg_atomic_read_u32(&shared->problem)];
}

/* The message of the error for a verification out of the bound. */
const char *
oa_standby_lag_message(void)
{
	return "this standby may lack changes that are older than overten_auth.max_standby_lag";
}

/* Its detail. */
const char *
oa_standby_lag_detail(void)
{
	int64		known = age();
	const char *problem = oa_standby_problem();

	if (problem == NULL)
		problem = "It has just caught up.";
	if (known < 0)
		return psprintf("It was never shown to know what the primary has committed.  %s",
						problem);
	return psprintf("What it knows is " INT64_FORMAT " ms old, and the bound is %d ms.  %s",
					known / MILLISECOND, oa_max_standby_lag, problem);
}

/* Its hint. */
const char *
oa_standby_lag_hint(void)
{
	return "Verify on the primary until the standby has caught up.  Its overten_status() and its log tell more.";
}

/*
 * Note why nothing newer can be published, and log it unless that was known.
 * "detail" is for the log, or NULL.  Only the worker calls this.
 */
void
oa_set_standby_problem(OaStandbyProblem problem, const char *detail)
{
	if (pg_atomic_read_u32(&shared->problem) == problem)
		return;
	pg_atomic_write_u32(&shared->problem, problem);
	if (problem != OA_STANDBY_BEHIND && problem != OA_STANDBY_NO_WORKER)
		ereport(LOG,
				(errmsg("cannot tell how old what this standby knows is"),
				 errdetail_internal("%s", problems[problem]),
				 detail != NULL ? errcontext("%s", detail) : 0));
}
