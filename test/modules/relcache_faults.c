/*
 * relcache_faults.c
 *		A library to preload before overten_auth, whose callbacks do harm.
 *
 * fail_in(place text) makes the next relcache callback of the session that is
 * called in that place raise an error, once:
 *
 *	"transaction"	in a transaction that is open
 *	"end"			at the end of one, when its locks are released
 *	"pre-commit"	in an accept of its own, just before a commit
 *
 * Only messages count that no relation of the catalogs has, so that opening
 * tables does not use it up.
 *
 * pause_at_release() makes the session wait, at the end of a transaction that
 * has written, when its locks are released, while the file "hold" is in the
 * data directory.  "held" tells that it does.
 *
 * hold_shared_cache(true) leaves the shared cache, which must have one set of
 * slots, as a process does that stops while it writes into each of them;
 * hold_shared_cache(false) ends that.  For that it knows what shared_cache.c
 * has in its memory: a header, the set, and the slots, which begin on a page.
 */
#include "postgres.h"

#include <fcntl.h>
#include <unistd.h>

#include "access/xact.h"
#include "fmgr.h"
#include "port/atomics.h"
#include "storage/lwlock.h"
#include "storage/shmem.h"
#include "utils/builtins.h"
#include "utils/inval.h"
#include "utils/resowner.h"

PG_MODULE_MAGIC;

PG_FUNCTION_INFO_V1(fail_in);
PG_FUNCTION_INFO_V1(pause_at_release);
PG_FUNCTION_INFO_V1(hold_shared_cache);

PGDLLEXPORT void _PG_init(void);

#define LOOK_US		1000
#define MADE_UP		0x80000000U
#define WAYS		8
#define SLOT_SIZE	384

static enum
{
	NOWHERE, TRANSACTION, END, PRE_COMMIT, PRE_COMMIT_NOW
}			place = NOWHERE;

static void
relation_changed(Datum argument, Oid relid)
{
	if (relid < MADE_UP)
		return;
	if ((place == TRANSACTION && IsTransactionState()) ||
		(place == END && !IsTransactionState()) || place == PRE_COMMIT_NOW)
	{
		place = NOWHERE;
		ereport(ERROR, (errmsg("relcache_faults")));
	}
}

static void
transaction_ends(XactEvent event, void *argument)
{
	if (event != XACT_EVENT_PRE_COMMIT || place != PRE_COMMIT)
		return;
	place = PRE_COMMIT_NOW;
	AcceptInvalidationMessages();
	place = PRE_COMMIT;
}

static void
pause_locks(ResourceReleasePhase phase, bool is_commit, bool is_top_level,
			void *argument)
{
	int			file;

	if (phase != RESOURCE_RELEASE_LOCKS || !is_top_level ||
		CurrentResourceOwner != TopTransactionResourceOwner ||
		!TransactionIdIsValid(GetTopTransactionIdIfAny()) ||
		access("hold", F_OK) != 0)
		return;
	file = open("held", O_CREAT | O_WRONLY, 0600);
	if (file >= 0)
		close(file);
	while (access("hold", F_OK) == 0)
		pg_usleep(LOOK_US);
	unlink("held");
}

Datum
fail_in(PG_FUNCTION_ARGS)
{
	char	   *name = text_to_cstring(PG_GETARG_TEXT_PP(0));

	place = strcmp(name, "transaction") == 0 ? TRANSACTION :
		strcmp(name, "end") == 0 ? END : PRE_COMMIT;
	PG_RETURN_VOID();
}

/* What is registered last is called first. */
Datum
pause_at_release(PG_FUNCTION_ARGS)
{
	RegisterResourceReleaseCallback(pause_locks, NULL);
	PG_RETURN_VOID();
}

Datum
hold_shared_cache(PG_FUNCTION_ARGS)
{
	bool		hold = PG_GETARG_BOOL(0);
	Size		page = sysconf(_SC_PAGESIZE);
	Size		size = PG_CACHE_LINE_SIZE + PG_CACHE_LINE_SIZE + 2 * page +
		WAYS * SLOT_SIZE;
	bool		found;
	char	   *set;
	char	   *slots;

	LWLockAcquire(AddinShmemInitLock, LW_EXCLUSIVE);
	set = ShmemInitStruct("overten_auth cache", size, &found);
	LWLockRelease(AddinShmemInitLock);
	set = (char *) TYPEALIGN(PG_CACHE_LINE_SIZE, set + 1);
	slots = (char *) TYPEALIGN(page, set + PG_CACHE_LINE_SIZE);

	/* The set begins with its lock, a slot with its sequence. */
	pg_atomic_write_u32((pg_atomic_uint32 *) set, hold ? 1 : 0);
	for (int way = 0; way < WAYS; way++)
		pg_atomic_fetch_add_u64((pg_atomic_uint64 *) (slots + way * SLOT_SIZE),
								hold ? 1 : -1);
	PG_RETURN_VOID();
}

void
_PG_init(void)
{
	CacheRegisterRelcacheCallback(relation_changed, (Datum) 0);
	RegisterXactCallback(transaction_ends, NULL);
}
