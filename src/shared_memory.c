/*
 * shared_memory.c
 *		What the server's processes share, where the library is preloaded.
 *
 * There is a struct for each database of overten_auth.databases, and the
 * counters of use_counters.c.  One lock protects the state of all databases;
 * it is held for a few instructions.  Another is for batches of uses; see
 * use_batches.c.  A process that does something for a
 * database enters itself in its struct and leaves it when it exits, whatever
 * the reason; one that is killed takes the whole of shared memory with it, as
 * the server then starts anew.
 */
#include "postgres.h"

#include "commands/dbcommands.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "storage/proc.h"
#include "storage/shmem.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/uuid.h"
#include "utils/varlena.h"

#include "overten_auth.h"

#define TRANCHE "overten_auth"

enum
{
	DATABASES_LOCK, BATCHES_LOCK, COUNTERS_LOCKS
};

/* The databases come first, the counters after them. */
struct OaShared
{
	TimestampTz started_at;
	pg_uuid_t	source;			/* random; whose batches these are */
	pg_atomic_uint64 last_batch;	/* number of the last */
	PGPROC	   *launcher;		/* NULL while there is none */
	int			databases;
	OaDatabase	database[FLEXIBLE_ARRAY_MEMBER];
};

static struct OaShared *shared = NULL;
static LWLockPadded *locks;		/* in the order of the next */
static List *names;				/* of the databases, in the postmaster */

static shmem_request_hook_type prev_shmem_request_hook = NULL;
static shmem_startup_hook_type prev_shmem_startup_hook = NULL;

/*
 * Is a setting a list of names?  A server whose setting is not does not start:
 * by itself PostgreSQL warns, and takes the default for an extension's setting.
 */
bool
oa_check_databases(char **newval, void **extra, GucSource source)
{
	char	   *copy = pstrdup(*newval);
	const char *problem = NULL;
	List	   *list;

	if (!SplitIdentifierString(copy, ',', &list))
		problem = "List syntax is invalid.";
	else if (list_length(list) > OA_DATABASES_MAX)
		problem = "Too many databases are named.";
	list_free(list);
	pfree(copy);

	if (problem != NULL && process_shared_preload_libraries_in_progress)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("invalid value for parameter \"%s\": \"%s\"",
						"overten_auth.databases", *newval),
				 errdetail_internal("%s", problem)));
	if (problem != NULL)
		GUC_check_errdetail("%s", problem);
	return problem == NULL;
}

/* Split overten_auth.databases, in memory that stays. */
static void
read_names(void)
{
	MemoryContext caller = MemoryContextSwitchTo(TopMemoryContext);
	List	   *list;
	ListCell   *cell;

	(void) SplitIdentifierString(pstrdup(oa_databases), ',', &list);
	foreach(cell, list)
	{
		names = list_append_unique(names, makeString(lfirst(cell)));
	}
	list_free(list);
	MemoryContextSwitchTo(caller);
}

static Size
shared_size(void)
{
	return MAXALIGN(add_size(offsetof(struct OaShared, database),
							 mul_size(list_length(names),
									  sizeof(OaDatabase))));
}

static Size
total_size(void)
{
	return add_size(add_size(shared_size(), oa_event_counts_size()),
					oa_use_counters_size(oa_max_tracked_keys));
}

static void
request(void)
{
	if (prev_shmem_request_hook)
		prev_shmem_request_hook();

	RequestAddinShmemSpace(total_size());
	RequestNamedLWLockTranche(TRANCHE, COUNTERS_LOCKS + OA_USE_PARTITIONS);
}

static void
init_database(OaDatabase *database, const char *name)
{
	memset(database, 0, sizeof(*database));
	strlcpy(database->name, name, sizeof(database->name));
	pg_atomic_init_u32(&database->used, 0);
	pg_atomic_init_u32(&database->overflowed, 0);
	pg_atomic_init_u32(&database->http_clients, 0);
	pg_atomic_init_u64(&database->epoch, 0);
	pg_atomic_init_u64(&database->batch, 0);
	ConditionVariableInit(&database->requests.changed);
	oa_keys_init(&database->keys);
}

static void
start_up(void)
{
	char	   *counters;
	bool		found;

	if (prev_shmem_startup_hook)
		prev_shmem_startup_hook();

	LWLockAcquire(AddinShmemInitLock, LW_EXCLUSIVE);
	shared = ShmemInitStruct("overten_auth", total_size(), &found);
	locks = GetNamedLWLockTranche(TRANCHE);
	if (!found)
	{
		ListCell   *cell;

		shared->started_at = GetCurrentTimestamp();
		oa_draw_random(&shared->source, sizeof(shared->source));
		pg_atomic_init_u64(&shared->last_batch, 0);
		shared->launcher = NULL;
		shared->databases = 0;
		foreach(cell, names)
		{
			init_database(&shared->database[shared->databases++],
						  strVal(lfirst(cell)));
		}
	}
	counters = (char *) shared + shared_size();
	oa_event_counts_init(counters, !found);
	oa_use_counters_init(counters + oa_event_counts_size(),
						 oa_max_tracked_keys, locks + COUNTERS_LOCKS, !found);
	LWLockRelease(AddinShmemInitLock);
}

/* Reserve the memory.  To be called while the library is being preloaded. */
void
oa_shared_memory_init(void)
{
	read_names();
	prev_shmem_request_hook = shmem_request_hook;
	shmem_request_hook = request;
	prev_shmem_startup_hook = shmem_startup_hook;
	shmem_startup_hook = start_up;
}

/* Are any databases named?  For the postmaster. */
bool
oa_has_databases(void)
{
	return names != NIL;
}

/* When the shared memory was set up; 0 if there is none. */
TimestampTz
oa_shared_since(void)
{
	return shared != NULL ? shared->started_at : 0;
}

/* Whose batches of uses are written here, as a uuid. */
Datum
oa_shared_source(void)
{
	return UUIDPGetDatum(&shared->source);
}

/*
 * A number for a batch of uses, whatever its database: a database can be a copy
 * of another, with its usage_batches.
 */
uint64
oa_next_batch(void)
{
	return pg_atomic_add_fetch_u64(&shared->last_batch, 1);
}

/* How many databases there are. */
int
oa_number_of_databases(void)
{
	return shared != NULL ? shared->databases : 0;
}

OaDatabase *
oa_database(int n)
{
	return &shared->database[n];
}

/*
 * The struct of the session's database; NULL if the background workers do not
 * look after it.  Needs a transaction.
 */
OaDatabase *
oa_my_database(void)
{
	char	   *name;

	if (oa_number_of_databases() == 0)
		return NULL;

	name = get_database_name(MyDatabaseId);
	for (int i = 0; name != NULL && i < shared->databases; i++)
		if (strcmp(shared->database[i].name, name) == 0)
			return &shared->database[i];
	return NULL;
}

/*
 * Copy the state of the session's database.  Until the launcher knows that the
 * database has the name, what there is is about another one.
 */
void
oa_copy_database(OaDatabase *database, OaDatabase *copy)
{
	oa_lock_databases(LW_SHARED);
	memcpy(copy, database, sizeof(*copy));
	oa_unlock_databases();
	if (copy->oid != MyDatabaseId)
		oa_forget_database(copy);
}

/*
 * A copy of a message that a worker has left, valid in the encoding of this
 * database even if that is not the worker's.
 */
char	   *
oa_readable_message(const char *message)
{
	char	   *copy = pstrdup(message);

	if (!pg_verify_mbstr(GetDatabaseEncoding(), copy, (int) strlen(copy),
						 true))
		for (char *c = copy; *c != '\0'; c++)
			if (IS_HIGHBIT_SET(*c))
				*c = '?';
	return copy;
}

/* Lock the state of all databases. */
void
oa_lock_databases(LWLockMode mode)
{
	LWLockAcquire(&locks[DATABASES_LOCK].lock, mode);
}

void
oa_unlock_databases(void)
{
	LWLockRelease(&locks[DATABASES_LOCK].lock);
}

/* Lock batches, so that none is published or subtracted. */
void
oa_lock_batches(LWLockMode mode)
{
	LWLockAcquire(&locks[BATCHES_LOCK].lock, mode);
}

void
oa_unlock_batches(void)
{
	LWLockRelease(&locks[BATCHES_LOCK].lock);
}

/* Enter this process as the launcher, or (NULL) leave. */
void
oa_set_launcher(PGPROC *process)
{
	oa_lock_databases(LW_EXCLUSIVE);
	shared->launcher = process;
	oa_unlock_databases();
}

/* Have the launcher look at the databases.  The lock is held. */
void
oa_wake_launcher(void)
{
	if (shared->launcher != NULL)
		SetLatch(&shared->launcher->procLatch);
}

/*
 * Have the launcher look, if it does not know yet that the session's database
 * has the name.  It looks now and then by itself, but the server may stop
 * before that.
 */
void
oa_announce_database(OaDatabase *database)
{
	oa_lock_databases(LW_SHARED);
	if (database->oid != MyDatabaseId)
		oa_wake_launcher();
	oa_unlock_databases();
}

/* Note that a use could not be attributed; say so in the log, once. */
void
oa_database_overflows(OaDatabase *database)
{
	uint32		expected = 0;

	oa_count_event(OA_NOT_ATTRIBUTED);
	if (pg_atomic_read_u32(&database->overflowed) == 0 &&
		pg_atomic_compare_exchange_u32(&database->overflowed, &expected, 1))
		ereport(LOG_SERVER_ONLY,
				(errmsg("no memory left to count the uses of further keys"),
				 errdetail("Keys are verified as before. This message is not repeated for the database."),
				 errhint("Raise overten_auth.max_tracked_keys, now %d.",
						 oa_max_tracked_keys)));
}

/* Milliseconds of a clock that nobody sets. */
int64
oa_monotonic_ms(void)
{
	instr_time	now;

	INSTR_TIME_SET_CURRENT(now);
	return (int64) INSTR_TIME_GET_MILLISEC(now);
}
