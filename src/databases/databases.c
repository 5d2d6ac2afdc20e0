/*
 * databases.c
 *		The state that all processes of the server share, if the library is
 *		preloaded.
 *
 * There is a struct for each database in overten_auth.databases.  One lock
 * protects the state of all databases; we hold it only for a few instructions.
 * Another lock protects batches of uses; see use_batches.c.  A process that
 * works for a database enters itself in the database's struct, and removes
 * itself when it exits for any reason.  If a process is killed, the server
 * reinitializes all of shared memory.
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

#include "databases/databases.h"
#include "server/server.h"
#include "settings.h"

#define TRANCHE "overten_auth"

enum
{
	DATABASES_LOCK, BATCHES_LOCK, LOCKS
};

struct OaShared
{
	TimestampTz started_at;
	pg_uuid_t	source;			/* random; identifies our batches of uses */
	pg_atomic_uint64 last_batch;	/* number of the last batch */
	PGPROC	   *launcher;		/* NULL if no launcher runs */
	int			databases;
	OaDatabase	database[FLEXIBLE_ARRAY_MEMBER];
};

static struct OaShared *shared = NULL;
static LWLockPadded *locks;		/* indexed by the enum above */
static List *names;				/* of the databases; set in the postmaster */

/*
 * Split overten_auth.databases.  The list lives as long as the process.
 * Called once, when the library is preloaded.
 */
void
oa_read_databases(void)
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
shmem_size(void)
{
	return add_size(offsetof(struct OaShared, database),
					mul_size(list_length(names), sizeof(OaDatabase)));
}

/* Reserve shared memory.  Called by the postmaster's shmem_request_hook. */
void
oa_databases_shmem_request(void)
{
	RequestAddinShmemSpace(shmem_size());
	RequestNamedLWLockTranche(TRANCHE, LOCKS);
}

static void
init_database(OaDatabase *database, const char *name)
{
	memset(database, 0, sizeof(*database));
	strlcpy(database->name, name, sizeof(database->name));
	pg_atomic_init_u32(&database->used, 0);
	pg_atomic_init_u32(&database->overflowed, 0);
	pg_atomic_init_u32(&database->out_of_buckets, 0);
	pg_atomic_init_u32(&database->http_clients, 0);
	pg_atomic_init_u64(&database->epoch, 0);
	pg_atomic_init_u64(&database->batch, 0);
	ConditionVariableInit(&database->requests.changed);
	ConditionVariableInit(&database->keys.requests.changed);
}

/*
 * Attach to shared memory, and initialize it if this process is the first.
 * Called by each process's shmem_startup_hook, with AddinShmemInitLock held.
 */
void
oa_databases_shmem_init(void)
{
	bool		found;
	ListCell   *cell;

	shared = ShmemInitStruct("overten_auth databases", shmem_size(), &found);
	locks = GetNamedLWLockTranche(TRANCHE);
	if (found)
		return;

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

/* Does the setting name any databases?  For the postmaster. */
bool
oa_has_databases(void)
{
	return names != NIL;
}

/* Return when shared memory was initialized, or 0 without shared memory. */
TimestampTz
oa_shared_since(void)
{
	return shared != NULL ? shared->started_at : 0;
}

/* Return the uuid that identifies the batches of uses written here. */
Datum
oa_shared_source(void)
{
	return UUIDPGetDatum(&shared->source);
}

/*
 * Return a new number for a batch of uses.  Numbers are unique across
 * databases, because a database can be a copy of another one, with its
 * usage_batches.
 */
uint64
oa_next_batch(void)
{
	return pg_atomic_add_fetch_u64(&shared->last_batch, 1);
}

/* Return how many databases there are. */
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
 * Return the struct of the session's database, or NULL if the background
 * workers do not look after it.  The caller must be in a transaction.
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
 * Forget what we know of a database, because its name now belongs to another
 * database or to no database.  The caller holds the lock, unless this is a
 * copy.
 */
void
oa_forget_database(OaDatabase *database)
{
	pg_atomic_write_u32(&database->http_clients, 0);
	database->look_at = 0;
	database->flushed_at = 0;
	memset(database->jobs, 0, sizeof(database->jobs));
	memset(&database->sweep, 0, sizeof(database->sweep));

	/* Keep the requests, because somebody waits for them. */
	database->keys.wanted = false;
	database->keys.next_fetch_at = 0;
	database->keys.tried_at = 0;
	database->keys.fetched_at = 0;
	database->keys.failures = 0;
	database->keys.outcome[0] = '\0';
}

/*
 * Copy the state of the session's database.  The state is empty if the
 * launcher does not know yet that this database has the name, because what we
 * have then is about another database.
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
 * Copy a message that a worker has left.  The result is valid in the encoding
 * of this database, even if the worker's encoding is another.
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

/* Lock the batches, so that nobody publishes or subtracts one. */
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

/* Set the launcher to this process, or to NULL when it exits. */
void
oa_set_launcher(PGPROC *process)
{
	oa_lock_databases(LW_EXCLUSIVE);
	shared->launcher = process;
	oa_unlock_databases();
}

/*
 * Wake the launcher, so that it looks at the databases.  The caller holds the
 * lock.
 */
void
oa_wake_launcher(void)
{
	if (shared->launcher != NULL)
		SetLatch(&shared->launcher->procLatch);
}

/*
 * Wake the launcher if it does not know yet that the session's database has
 * the name.  It looks at the databases now and then anyway, but the server may
 * stop before it does.
 */
void
oa_announce_database(OaDatabase *database)
{
	oa_lock_databases(LW_SHARED);
	if (database->oid != MyDatabaseId)
		oa_wake_launcher();
	oa_unlock_databases();
}
