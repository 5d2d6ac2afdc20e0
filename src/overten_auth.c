/*
 * overten_auth.c
 *		Loads the library: its settings and its ear for invalidations.
 */
#include "postgres.h"

#include "utils/guc.h"

#include "overten_auth.h"

PG_MODULE_MAGIC;

/*
 * Entries that each of a backend's caches holds at most.  Raise it where many
 * keys are in use and memory is not short: an entry takes about 500 bytes.
 */
int			oa_cache_entries = 4096;

/*
 * Whether a verifying transaction writes key_last_used.  Turn it off where
 * nobody reads last_used_at, to save that write.
 */
bool		oa_record_use_without_preload = true;

/*
 * Whether keys are verified on a standby, which learns of a revocation only
 * when it has replayed it.
 */
bool		oa_verify_on_standby = false;

PGDLLEXPORT void _PG_init(void);

void
_PG_init(void)
{
	DefineCustomIntVariable("overten_auth.cache_entries",
							"Sets how many entries each verification cache of a session holds.",
							"0 turns the caches off.",
							&oa_cache_entries,
							4096, 0, 1024 * 1024,
							PGC_SUSET, 0,
							NULL, NULL, NULL);

	DefineCustomBoolVariable("overten_auth.record_use_without_preload",
							 "Records in the verifying transaction when a key was last used.",
							 "At most once a minute for each key.",
							 &oa_record_use_without_preload,
							 true,
							 PGC_SUSET, 0,
							 NULL, NULL, NULL);

	DefineCustomBoolVariable("overten_auth.verify_on_standby",
							 "Allows keys to be verified on a standby server.",
							 "A standby accepts a revoked key until it has replayed the revocation.",
							 &oa_verify_on_standby,
							 false,
							 PGC_SIGHUP, 0,
							 NULL, NULL, NULL);

	MarkGUCPrefixReserved("overten_auth");
	oa_cache_init();
}
