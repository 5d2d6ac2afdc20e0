/*
 * overten_auth.c
 *		Module initialization: defines the settings and registers the
 *		callbacks.  If the library is preloaded, also reserves shared memory
 *		and registers the launcher and the worker of a standby.
 */
#include "postgres.h"

#include "miscadmin.h"
#include "storage/ipc.h"
#include "storage/lwlock.h"
#include "storage/shmem.h"

#include "databases/databases.h"
#include "limits/limits.h"
#include "lookup/lookup.h"
#include "server/server.h"
#include "settings.h"
#include "standby/standby.h"
#include "usage/usage.h"
#include "workers/workers.h"

#if PG_VERSION_NUM >= 180000
PG_MODULE_MAGIC_EXT(.name = "overten_auth");
#else
PG_MODULE_MAGIC;
#endif

PGDLLEXPORT void _PG_init(void);

static shmem_request_hook_type prev_shmem_request_hook = NULL;
static shmem_startup_hook_type prev_shmem_startup_hook = NULL;

static void
shmem_request(void)
{
	if (prev_shmem_request_hook)
		prev_shmem_request_hook();

	oa_databases_shmem_request();
	oa_event_counts_shmem_request();
	oa_use_counters_shmem_request();
	oa_buckets_shmem_request();
	oa_shared_clock_shmem_request();
	oa_shared_cache_shmem_request();
	oa_standby_shmem_request();
}

static void
shmem_startup(void)
{
	if (prev_shmem_startup_hook)
		prev_shmem_startup_hook();

	LWLockAcquire(AddinShmemInitLock, LW_EXCLUSIVE);
	oa_databases_shmem_init();
	oa_event_counts_shmem_init();
	oa_use_counters_shmem_init();
	oa_buckets_shmem_init();
	oa_shared_clock_shmem_init();
	oa_shared_cache_shmem_init();
	oa_standby_shmem_init();
	LWLockRelease(AddinShmemInitLock);
}

/* Do what is possible only if the library is loaded with the server. */
static void
preload(void)
{
	oa_digest_prepare();
	oa_read_databases();
	prev_shmem_request_hook = shmem_request_hook;
	shmem_request_hook = shmem_request;
	prev_shmem_startup_hook = shmem_startup_hook;
	shmem_startup_hook = shmem_startup;
	oa_shared_cache_init();
	if (IsBinaryUpgrade)
		return;
	if (oa_has_databases())
	{
		oa_register_launcher();
		oa_register_standby_check();
	}
	oa_register_standby_worker();
}

void
_PG_init(void)
{
	oa_define_settings(oa_cache_entries_changed);
	if (process_shared_preload_libraries_in_progress)
		preload();
	oa_invalidation_init();
}
