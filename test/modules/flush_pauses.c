/*
 * flush_pauses.c
 *		A library to preload into a server whose flushes, or whose
 *		loading of quotas, are to be stopped.
 *
 * While the file "pause_before_commit" or "pause_after_commit" is in the data
 * directory, a usage worker that has written something waits just before or
 * after its commit.  After it, what was written is visible, and what was
 * counted in shared memory is still there.  Meanwhile the file "paused" is
 * there.
 *
 * While the file "pause_after_reading" is there, a session whose
 * application_name is "paused reader" waits when it has read the units of a
 * quota, which it has not added to shared memory yet.
 *
 * hold_counts(key_id text) keeps everybody from the counts of a key, and of
 * one in 64 others, while the file "hold" is there; "held" tells that it does.
 */
#include "postgres.h"

#include <fcntl.h>
#include <unistd.h>

#include "access/xact.h"
#include "common/hashfn.h"
#include "executor/executor.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "postmaster/bgworker.h"
#include "storage/lwlock.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/timestamp.h"
#if PG_VERSION_NUM >= 160000
#include "varatt.h"
#endif

PG_MODULE_MAGIC;

PG_FUNCTION_INFO_V1(hold_counts);

PGDLLEXPORT void _PG_init(void);

#define LOOK_US			1000

/* As in src/usage/use_counters.c. */
#define TRANCHE			"overten_auth_uses"
#define USE_PARTITIONS	64

/* Wait while a file is there, and say so by another. */
static void
wait_while(const char *reason, const char *sign)
{
	int			file;

	if (access(reason, F_OK) != 0)
		return;
	file = open(sign, O_CREAT | O_WRONLY, 0600);
	if (file >= 0)
		close(file);
	while (access(reason, F_OK) == 0)
		pg_usleep(LOOK_US);
	unlink(sign);
}

static void
pause_flush(XactEvent event, void *argument)
{
	if (MyBgworkerEntry == NULL ||
		strcmp(MyBgworkerEntry->bgw_type, "overten_auth usage worker") != 0 ||
		!TransactionIdIsValid(GetTopTransactionIdIfAny()))
		return;
	if (event == XACT_EVENT_PRE_COMMIT)
		wait_while("pause_before_commit", "paused");
	if (event == XACT_EVENT_COMMIT)
		wait_while("pause_after_commit", "paused");
}

static ExecutorEnd_hook_type prev_executor_end = NULL;

/* Let a session wait after it has read the units of a quota. */
static void
pause_reading(struct QueryDesc *query)
{
	bool		pauses = strcmp(application_name, "paused reader") == 0 &&
	strstr(query->sourceText,
		   "SELECT units FROM overten_auth.quota_usage") != NULL;

	if (prev_executor_end)
		prev_executor_end(query);
	else
		standard_ExecutorEnd(query);
	if (pauses)
		wait_while("pause_after_reading", "paused");
}

Datum
hold_counts(PG_FUNCTION_ARGS)
{
	text	   *key_id = PG_GETARG_TEXT_PP(0);
	struct
	{
		Oid			database;
		int32		hour;
		char		key_id[32];
	}			key = {MyDatabaseId, (int32) (GetCurrentTimestamp() / USECS_PER_HOUR), {0}};
	uint32		partition;
	LWLock	   *lock;

	memcpy(key.key_id, VARDATA_ANY(key_id),
		   Min(VARSIZE_ANY_EXHDR(key_id), sizeof(key.key_id)));
	partition = hash_bytes((unsigned char *) &key, sizeof(key)) %
		USE_PARTITIONS;
	lock = &GetNamedLWLockTranche(TRANCHE)[partition].lock;
	LWLockAcquire(lock, LW_EXCLUSIVE);
	wait_while("hold", "held");
	LWLockRelease(lock);
	PG_RETURN_INT32((int32) partition);
}

void
_PG_init(void)
{
	RegisterXactCallback(pause_flush, NULL);
	prev_executor_end = ExecutorEnd_hook;
	ExecutorEnd_hook = pause_reading;
}
