/*
 * settings.c
 *		The settings of the extension: what they are for, and their limits.
 */
#include "postgres.h"

#include <limits.h>

#include "miscadmin.h"
#include "utils/guc.h"
#include "utils/varlena.h"

#include "settings.h"

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
 * The tenant of Identity Platform whose people are accepted: '' for those of
 * none, '*' for all.  Each tenant has uids of its own, so that two people may
 * have the same one: set '*' only where the application tells tenants apart.
 */
char	   *oa_firebase_tenant = NULL;

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
 * The command that fetches signing keys.  It is the way out for those whose
 * server reaches the world by a proxy, or by another program than curl.
 */
char	   *oa_signing_keys_command = NULL;

/*
 * Nothing but this one document, and only from whom TLS knows to be Google:
 * no .curlrc (which has to be said first), no redirects, no other protocol.
 */
#define SIGNING_KEYS_COMMAND \
	"curl --disable --silent --show-error --include " \
	"--suppress-connect-headers --proto =https --tlsv1.2 --max-redirs 0 " \
	"--max-time 10 --max-filesize 262144 https://www.googleapis.com" \
	"/robot/v1/metadata/x509/securetoken@system.gserviceaccount.com"

/*
 * How many proxies in front of the HTTP layer are trusted to have appended the
 * address of their client to X-Forwarded-For.  0: the HTTP layer tells itself
 * whom it is connected to.  Too high a number lets clients choose their address.
 */
int			oa_trust_forwarded_for = 0;

/*
 * How often uses are written from shared memory, in seconds.  A crash of the
 * server loses what was counted since; each key used costs a few microseconds
 * at each flush.
 */
int			oa_flush_interval = 10;

/* How long the history of keys is kept, in minutes. */
int			oa_usage_retention = 90 * 24 * 60;

/* The databases whose uses are counted in shared memory, by name. */
char	   *oa_databases = NULL;

/*
 * How many pairs of a key and a client address can be counted between two
 * flushes; each takes about 100 bytes.  Uses beyond are not attributed.
 */
int			oa_max_tracked_keys = 10000;

/*
 * How many keys the cache of all sessions holds; each takes about 330 bytes.
 * Set it to half as many again as there are keys in use.
 */
int			oa_shared_cache_entries = 0;

/*
 * The file of the keys that webhook secrets are sealed with, relative to the
 * data directory.  Put it elsewhere where base backups are kept by others than
 * those who may read webhook secrets.
 */
char	   *oa_master_key_file = NULL;

/*
 * Is a setting a list of names?  A server whose setting is not does not start:
 * by itself PostgreSQL warns, and takes the default for an extension's setting.
 */
static bool
check_databases(char **newval, void **extra, GucSource source)
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

/* An id of Google's is printable ASCII, and short enough for the token cache. */
static bool
check_firebase_id(char **newval, void **extra, GucSource source)
{
	const char *id = *newval;

	if (strlen(id) > OA_FIREBASE_ID_MAX)
	{
		GUC_check_errdetail("An id of Firebase has at most %d characters.",
							OA_FIREBASE_ID_MAX);
		return false;
	}
	for (; *id != '\0'; id++)
		if (*id <= ' ' || *id > '~')
		{
			GUC_check_errdetail("An id of Firebase has no spaces, and only ASCII characters.");
			return false;
		}
	return true;
}

/* Define the settings that exist only where the library is preloaded. */
static void
define_preload_settings(void)
{
	DefineCustomStringVariable("overten_auth.databases",
							   "Lists the databases whose uses of keys are counted in shared memory.",
							   NULL,
							   &oa_databases,
							   "",
							   PGC_POSTMASTER, GUC_LIST_INPUT,
							   check_databases, NULL, NULL);

	DefineCustomIntVariable("overten_auth.max_tracked_keys",
							"Sets how many keys, by client address, can be counted between two flushes.",
							NULL,
							&oa_max_tracked_keys,
							10000, 4, 10 * 1000 * 1000,
							PGC_POSTMASTER, 0,
							NULL, NULL, NULL);

	DefineCustomIntVariable("overten_auth.shared_cache_entries",
							"Sets how many verified keys the cache that all sessions share holds.",
							"0 means that each session has a cache of its own.",
							&oa_shared_cache_entries,
							65536, 0, 64 * 1024 * 1024,
							PGC_POSTMASTER, 0,
							NULL, NULL, NULL);
}

/*
 * Define all settings.  "cache_entries_changed" is told each new value of
 * overten_auth.cache_entries before it takes effect.
 */
void
oa_define_settings(GucIntAssignHook cache_entries_changed)
{
	DefineCustomIntVariable("overten_auth.cache_entries",
							"Sets how many entries each verification cache of a session holds.",
							"0 turns the caches off.",
							&oa_cache_entries,
							4096, 0, 1024 * 1024,
							PGC_SUSET, 0,
							NULL, cache_entries_changed, NULL);

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
							   check_firebase_id, NULL, NULL);

	DefineCustomStringVariable("overten_auth.firebase_tenant",
							   "Sets the Identity Platform tenant whose ID tokens are accepted.",
							   "Empty means tokens without a tenant, * any.",
							   &oa_firebase_tenant,
							   "",
							   PGC_SUSET, 0,
							   check_firebase_id, NULL, NULL);

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

	DefineCustomStringVariable("overten_auth.signing_keys_command",
							   "Sets the shell command that fetches signing keys.",
							   "It prints an HTTP answer with its header.  Empty means that none are fetched.",
							   &oa_signing_keys_command,
							   SIGNING_KEYS_COMMAND,
							   PGC_SIGHUP, GUC_SUPERUSER_ONLY,
							   NULL, NULL, NULL);

	DefineCustomIntVariable("overten_auth.trust_forwarded_for",
							"Sets how many proxies are trusted to have appended to X-Forwarded-For.",
							"0 takes the client's address from the HTTP layer.",
							&oa_trust_forwarded_for,
							0, 0, 100,
							PGC_SIGHUP, 0,
							NULL, NULL, NULL);

	DefineCustomIntVariable("overten_auth.flush_interval",
							"Sets how often counted uses are written into tables.",
							NULL,
							&oa_flush_interval,
							10, 1, 3600,
							PGC_SIGHUP, GUC_UNIT_S,
							NULL, NULL, NULL);

	DefineCustomIntVariable("overten_auth.usage_retention",
							"Sets how long the history of keys is kept.",
							NULL,
							&oa_usage_retention,
							90 * 24 * 60, 60, INT_MAX,
							PGC_SIGHUP, GUC_UNIT_MIN,
							NULL, NULL, NULL);

	if (process_shared_preload_libraries_in_progress)
		define_preload_settings();

	MarkGUCPrefixReserved("overten_auth");
}
