/*
 * overten_auth.c
 *		Loads the library: its settings and its ear for invalidations.
 */
#include "postgres.h"

#include <limits.h>

#include "utils/guc.h"

#include "overten_auth.h"

PG_MODULE_MAGIC;

/*
 * Entries that each of a backend's caches holds at most.  Raise it where many
 * keys are in use and memory is not short: a key's entry takes about 400
 * bytes, a token's more, as it holds all claims.
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

/*
 * The Firebase project whose ID tokens are accepted.  Whoever may set it can
 * log in as anyone, with a token of a project of his own.
 */
char	   *oa_firebase_project_id = NULL;

/*
 * By how much the clock of this machine and that of whoever signs may differ:
 * raise it where tokens are refused because they seem to come from the future.
 * A token is then also accepted that long after it has expired.
 */
int			oa_clock_skew = 0;

/*
 * What customers may make over HTTP: keys of an org that are active, and in
 * all, so that minting and revoking in a loop ends; orgs of a person.  SQL
 * functions that the application calls are not limited.
 */
int			oa_max_keys_per_org = 100;
int			oa_max_keys_total_per_org = 1000;
int			oa_max_orgs_per_uid = 10;

/*
 * The file of the keys that webhook secrets are sealed with, relative to the
 * data directory.  Put it elsewhere where base backups are kept by others than
 * those who may read webhook secrets.
 */
char	   *oa_master_key_file = NULL;

PGDLLEXPORT void _PG_init(void);

/* A project id is printable ASCII, and short enough for the token cache. */
static bool
check_project_id(char **newval, void **extra, GucSource source)
{
	const char *id = *newval;

	if (strlen(id) > OA_PROJECT_ID_MAX)
	{
		GUC_check_errdetail("A Firebase project id has at most %d characters.",
							OA_PROJECT_ID_MAX);
		return false;
	}
	for (; *id != '\0'; id++)
		if (*id <= ' ' || *id > '~')
		{
			GUC_check_errdetail("A Firebase project id has no spaces, and only ASCII characters.");
			return false;
		}
	return true;
}

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

	DefineCustomIntVariable("overten_auth.max_keys_per_org",
							"Sets how many active keys an org can have by signing up and minting over HTTP.",
							NULL,
							&oa_max_keys_per_org,
							100, 1, INT_MAX,
							PGC_SUSET, 0,
							NULL, NULL, NULL);

	DefineCustomIntVariable("overten_auth.max_keys_total_per_org",
							"Sets how many keys, revoked ones too, an org can have by signing up and minting over HTTP.",
							NULL,
							&oa_max_keys_total_per_org,
							1000, 1, INT_MAX,
							PGC_SUSET, 0,
							NULL, NULL, NULL);

	DefineCustomIntVariable("overten_auth.max_orgs_per_uid",
							"Sets how many orgs a person can be a member of and still sign up another.",
							NULL,
							&oa_max_orgs_per_uid,
							10, 1, INT_MAX,
							PGC_SUSET, 0,
							NULL, NULL, NULL);

	DefineCustomBoolVariable("overten_auth.verify_on_standby",
							 "Allows keys to be verified on a standby server.",
							 "A standby accepts a revoked key until it has replayed the revocation.",
							 &oa_verify_on_standby,
							 false,
							 PGC_SIGHUP, 0,
							 NULL, NULL, NULL);

	DefineCustomStringVariable("overten_auth.firebase_project_id",
							   "Sets the Firebase project whose ID tokens are accepted.",
							   "Empty means that none are.",
							   &oa_firebase_project_id,
							   "",
							   PGC_SUSET, 0,
							   check_project_id, NULL, NULL);

	DefineCustomIntVariable("overten_auth.clock_skew",
							"Sets by how much the clocks of token issuers may differ from this one.",
							NULL,
							&oa_clock_skew,
							0, 0, 300,
							PGC_SUSET, GUC_UNIT_S,
							NULL, NULL, NULL);

	DefineCustomStringVariable("overten_auth.master_key_file",
							   "Sets the file of the keys that webhook secrets are sealed with.",
							   "A relative path is relative to the data directory.",
							   &oa_master_key_file,
							   "overten_auth.key",
							   PGC_SIGHUP, GUC_SUPERUSER_ONLY,
							   NULL, NULL, NULL);

	MarkGUCPrefixReserved("overten_auth");
	oa_cache_init();
}
