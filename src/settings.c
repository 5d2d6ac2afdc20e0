/*
 * settings.c
 *		The settings of the extension: their purpose, and their limits.
 */
#include "postgres.h"

#include <limits.h>

#include "libpq-fe.h"

#include "miscadmin.h"
#include "utils/guc.h"
#include "utils/varlena.h"

#include "settings.h"
#include "text/text.h"

/*
 * The most entries that each cache of a backend holds.  Raise it if many keys
 * are in use and there is enough memory.  A key's entry takes about 400 bytes;
 * a token's takes more, because it holds all claims.
 */
int			oa_cache_entries = 4096;

/*
 * Does a verifying transaction write to key_last_used?  Turn it off if nobody
 * reads last_used_at, to save that write.
 */
bool		oa_record_use_without_preload = true;

/*
 * Are keys verified on a standby?  A standby learns of a revocation only when
 * it has replayed it.
 */
bool		oa_verify_on_standby = false;

/*
 * How old may what a standby knows be, in milliseconds, for keys and tokens to
 * be verified there?  0 means any age.  Without it, a standby that is cut off
 * accepts revoked keys for ever.
 */
int			oa_max_standby_lag = 0;

/*
 * How a standby connects to the primary to send it the uses that it has
 * counted: what differs from primary_conninfo, such as the user.  Empty: uses
 * are not sent.
 */
char	   *oa_uses_conninfo = NULL;

/*
 * Do the functions that only verify a key, and so cannot know what a request
 * needs, return a row for a key that has scopes or allowed addresses?  Turn it
 * on if the callers look after scopes, such as with policies that call
 * overten_has_scope().
 */
bool		oa_verify_restricted = false;

/*
 * The Firebase project whose ID tokens we accept.  A role that may set it can
 * log in as anybody, with a token of another project.
 */
char	   *oa_firebase_project_id = NULL;

/*
 * The Identity Platform tenant whose users we accept: '' for users without a
 * tenant, '*' for all.  Each tenant has its own uids, so two people may have
 * the same uid.  Set '*' only if the application tells tenants apart.
 */
char	   *oa_firebase_tenant = NULL;

/*
 * Who can sign up over HTTP: people whose email address Firebase has not
 * verified, and anonymous accounts?  Anybody can make as many of these as they
 * like, so limits per person mean little to them.
 */
bool		oa_signup_requires_verified_email = false;
bool		oa_allow_anonymous_signup = false;

/*
 * How far the clocks of this machine and of a signer may differ.  Raise it if
 * tokens are refused because they seem to come from the future.  A token is
 * then also accepted that long after it has expired.
 */
int			oa_clock_skew = 0;

/*
 * What customers may create over HTTP: active keys per org, keys per org in
 * total, so that a loop of minting and revoking ends, and orgs per person.
 * Keys that have been dead for 90 days do not count.
 * SQL functions that the application calls have no such limits.
 */
int			oa_max_keys_per_org = 100;
int			oa_max_keys_total_per_org = 1000;
int			oa_max_orgs_per_uid = 10;

/*
 * How long a new key lives at most, in seconds; 0 for no limit.  Set it if a
 * policy says that credentials are to be replaced.  Keys that exist already do
 * not change.
 */
int			oa_max_key_lifetime = 0;

/*
 * What API keys begin with.  Put the name of a product first if its keys are
 * to be recognized wherever they turn up; keep the old prefix in the list for
 * as long as its keys are to work.
 */
static char *key_prefixes = NULL;
const OaKeyPrefixes *oa_key_prefixes = NULL;	/* the same, parsed */

/*
 * Are test keys good?  Turn it on where the API itself is a test, as for the
 * role of a staging server.
 */
bool		oa_accept_test_keys = false;

/*
 * The slots of this server, if keys are spread over several.  Empty: there is
 * one server, and keys and orgs need not agree.
 */
static char *slots = NULL;
const OaSlots *oa_slots = NULL; /* the same, parsed */

/*
 * What customers may set over HTTP when they manage their keys, and what they
 * see of it.  Restrictions that a key has are enforced in any case, so turning
 * a feature off does not make a key good again.
 */
static char *key_features = NULL;
int			oa_key_features = 0;

static const struct
{
	const char *name;
	OaKeyFeature feature;
}			key_feature_names[] = {
	{"expiry", OA_FEATURE_EXPIRY},
	{"disable", OA_FEATURE_DISABLE},
	{"scopes", OA_FEATURE_SCOPES},
	{"addresses", OA_FEATURE_ADDRESSES},
	{"people", OA_FEATURE_PEOPLE},
	{"details", OA_FEATURE_DETAILS},
	{"environments", OA_FEATURE_ENVIRONMENTS},
	{"rotation", OA_FEATURE_ROTATION},
};

/*
 * The command that fetches signing keys.  Set it if the server can reach the
 * Internet only through a proxy, or with a program other than curl.
 */
char	   *oa_signing_keys_command = NULL;

/*
 * Fetch only this document, and only from the server that TLS authenticates as
 * Google: no .curlrc (--disable must come first), no redirects, no other
 * protocol.
 */
#define SIGNING_KEYS_COMMAND \
	"curl --disable --silent --show-error --include " \
	"--suppress-connect-headers --proto =https --tlsv1.2 --max-redirs 0 " \
	"--max-time 10 --max-filesize 262144 https://www.googleapis.com" \
	"/robot/v1/metadata/x509/securetoken@system.gserviceaccount.com"

/*
 * How many proxies in front of the HTTP layer we trust to append their
 * client's address to X-Forwarded-For.  With 0, we use the address that the
 * HTTP layer is connected to.  If the number is too high, clients can choose
 * their address.
 */
int			oa_trust_forwarded_for = 0;

/*
 * The networks of the proxies that we believe X-Forwarded-For of.  Set it in
 * place of the number if some clients come through the proxies and others do
 * not: with a number, those who come directly can choose their address.
 */
char	   *oa_trusted_proxies = NULL;
OaTrustedNetworks oa_trusted_networks;

/*
 * How often we write uses from shared memory to the tables, in seconds.  A
 * crash of the server loses the uses that were counted since.  Each key in use
 * costs a few microseconds per flush.
 */
int			oa_flush_interval = 10;

/* How long we keep the history of keys, in minutes. */
int			oa_usage_retention = 90 * 24 * 60;

/*
 * How long we keep the audit log, in minutes; 0 keeps it for ever.  Set it if
 * the law limits how long you may keep who did what.
 */
int			oa_audit_retention = 0;

/* The names of the databases whose uses we count in shared memory. */
char	   *oa_databases = NULL;

/*
 * How many pairs of a key and a client address we can count between two
 * flushes.  Each pair takes about 150 bytes.  We cannot attribute uses beyond
 * that.
 */
int			oa_max_tracked_keys = 10000;

/*
 * The number of keys that the shared cache holds.  Each takes about 400 bytes.
 * Set it to one and a half times the number of keys in use.
 */
int			oa_shared_cache_entries = 0;

/*
 * How many buckets there are, to count against rate limits.  A key needs one for
 * each of its limits while it is not idle; an org likewise.  Each takes 64
 * bytes.
 */
int			oa_max_limit_buckets = 65536;

/*
 * Is a request refused, with an error, or admitted when there is no bucket left
 * for it?
 */
int			oa_limits_full = OA_FULL_REFUSES;

static const struct config_enum_entry limits_full_values[] = {
	{"refuse", OA_FULL_REFUSES, false},
	{"admit", OA_FULL_ADMITS, false},
	{NULL, 0, false}
};

/*
 * Which part of each limit this server gives out.  Set it where several servers
 * admit requests, since none of them knows what the others have admitted.
 */
static double limit_share = 1.0;
int			oa_limit_share = OA_SHARE_WHOLE;	/* the same in thousandths,
												 * rounded down */

/*
 * The file that holds the master keys, which seal webhook secrets.  The path
 * is relative to the data directory.  Move the file elsewhere if people can
 * read base backups but must not read webhook secrets.
 */
char	   *oa_master_key_file = NULL;

/*
 * What does the commit of a revocation wait for, at least?  Set it where
 * sessions may have synchronous_commit turned down, but a failover must not
 * bring a revoked key back.
 */
int			oa_revocation_commit = OA_COMMIT_AS_SET;

static const struct config_enum_entry revocation_commit_values[] = {
	{"off", OA_COMMIT_AS_SET, false},
	{"on", OA_COMMIT_ON, false},
	{"remote_apply", OA_COMMIT_REMOTE_APPLY, false},
	{NULL, 0, false}
};

/*
 * Refuse the value of a setting if there is a problem with it.  At its start,
 * the server does not go on.  Without our error, PostgreSQL would only warn, and
 * use the default of an extension's setting.  A value that is NULL is not shown.
 */
static bool
check_problem(const char *name, const char *value, const char *problem)
{
	if (problem == NULL)
		return true;
	if (process_shared_preload_libraries_in_progress)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 value == NULL ?
				 errmsg("invalid value for parameter \"%s\"", name) :
				 errmsg("invalid value for parameter \"%s\": \"%s\"",
						name, value),
				 errdetail_internal("%s", problem)));
	if (value == NULL)
		GUC_check_errmsg("invalid value for parameter \"%s\"", name);
	GUC_check_errdetail("%s", problem);
	return false;
}

/* Check a list of names. */
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

	return check_problem("overten_auth.databases", *newval, problem);
}

/* Check parameters of a connection.  They can have a password. */
static bool
check_uses_conninfo(char **newval, void **extra, GucSource source)
{
	PQconninfoOption *options = PQconninfoParse(*newval, NULL);
	const char *problem = options == NULL ?
	"It is not a connection string." : NULL;

	PQconninfoFree(options);
	return check_problem("overten_auth.uses_conninfo", NULL, problem);
}

/*
 * Pass a copy of a value from a check hook to its assign hook.  Returns false
 * if there is no memory for it.
 */
static bool
pass_on(void **extra, const void *value, size_t size)
{
#if PG_VERSION_NUM >= 160000
	*extra = guc_malloc(LOG, size);
#else
	*extra = malloc(size);
#endif
	if (*extra == NULL)
		return false;
	memcpy(*extra, value, size);
	return true;
}

/* Check a list of prefixes, and parse it once for all uses. */
static bool
check_key_prefixes(char **newval, void **extra, GucSource source)
{
	OaKeyPrefixes prefixes;
	const char *problem = oa_parse_key_prefixes(*newval, &prefixes);

	return check_problem("overten_auth.key_prefixes", *newval, problem) &&
		pass_on(extra, &prefixes, sizeof(prefixes));
}

static void
assign_key_prefixes(const char *newval, void *extra)
{
	oa_key_prefixes = extra;
}

/* Check a list of slots, and parse it. */
static bool
check_slots(char **newval, void **extra, GucSource source)
{
	OaSlots		parsed;
	const char *problem = oa_parse_slots(*newval, &parsed);

	return check_problem("overten_auth.slots", *newval, problem) &&
		pass_on(extra, &parsed, sizeof(parsed));
}

static void
assign_slots(const char *newval, void *extra)
{
	oa_slots = extra;
}

/*
 * Return the name of the nth feature of keys, and the feature; NULL if there
 * are not so many.
 */
const char *
oa_key_feature_name(int n, OaKeyFeature *feature)
{
	if (n >= lengthof(key_feature_names))
		return NULL;
	*feature = key_feature_names[n].feature;
	return key_feature_names[n].name;
}

/* Return the feature of this name, or 0. */
static int
find_key_feature(const char *name)
{
	for (int i = 0; i < lengthof(key_feature_names); i++)
		if (strcmp(key_feature_names[i].name, name) == 0)
			return key_feature_names[i].feature;
	return 0;
}

/* Check a list of features, and pass their bits to assign_key_features(). */
static bool
check_key_features(char **newval, void **extra, GucSource source)
{
	char	   *copy = pstrdup(*newval);
	const char *problem = NULL;
	int			features = 0;
	List	   *list;
	ListCell   *cell;

	if (!SplitIdentifierString(copy, ',', &list))
		problem = "List syntax is invalid.";
	foreach(cell, list)
	{
		int			feature = find_key_feature(lfirst(cell));

		if (feature == 0)
			problem = psprintf("Unrecognized key feature: \"%s\".",
							   (char *) lfirst(cell));
		features |= feature;
	}
	list_free(list);
	pfree(copy);

	return check_problem("overten_auth.key_features", *newval, problem) &&
		pass_on(extra, &features, sizeof(features));
}

static void
assign_limit_share(double newval, void *extra)
{
	oa_limit_share = (int) (newval * OA_SHARE_WHOLE + 1e-6);
}

static void
assign_key_features(const char *newval, void *extra)
{
	oa_key_features = *(int *) extra;
}

/*
 * Check an id of Google's: it is printable ASCII, and short enough for the
 * token cache.
 */
static bool
check_firebase_id(char **newval, void **extra, GucSource source)
{
	const char *id = *newval;

	if (strlen(id) > OA_FIREBASE_ID_MAX)
	{
		GUC_check_errdetail("A Firebase id has at most %d characters.",
							OA_FIREBASE_ID_MAX);
		return false;
	}
	for (; *id != '\0'; id++)
		if (*id <= ' ' || *id > '~')
		{
			GUC_check_errdetail("A Firebase id has only ASCII characters, and no spaces.");
			return false;
		}
	return true;
}

/*
 * Go through a list of networks, and set "networks" to them unless that is
 * NULL.  Returns how many there are, or -1 if the list is not valid.
 */
static int
read_networks(const char *list, OaNetwork *networks)
{
	int			count = 0;

	if (list[strspn(list, " ")] == '\0')
		return 0;
	for (;;)
	{
		int			length = (int) strcspn(list, ",");
		OaNetwork	network;

		if (count == OA_TRUSTED_PROXIES_MAX ||
			!oa_parse_network(list, length, &network))
			return -1;
		if (networks != NULL)
			networks[count] = network;
		count++;
		if (list[length] == '\0')
			return count;
		list += length + 1;
	}
}

static bool
check_trusted_proxies(char **newval, void **extra, GucSource source)
{
	return check_problem("overten_auth.trusted_proxies", *newval,
						 read_networks(*newval, NULL) >= 0 ? NULL :
						 psprintf("It is a list of at most %d addresses or networks, such as \"10.0.0.0/8, 2001:db8::1\", with no bits set to the right of the mask.",
								  OA_TRUSTED_PROXIES_MAX));
}

static void
set_trusted_proxies(const char *newval, void *extra)
{
	oa_trusted_networks.count = read_networks(newval,
											  oa_trusted_networks.networks);
}

/* Define the settings that exist only if the library is preloaded. */
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

	DefineCustomIntVariable("overten_auth.max_limit_buckets",
							"Sets how many buckets there are to count against rate limits.",
							NULL,
							&oa_max_limit_buckets,
							65536, 4, 64 * 1024 * 1024,
							PGC_POSTMASTER, 0,
							NULL, NULL, NULL);
}

/*
 * Define all settings. "cache_entries_changed" is called with each new value
 * of overten_auth.cache_entries before it takes effect.
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
							"Sets how many keys, including dead ones, an org can have by signing up and minting over HTTP.",
							"Keys that were revoked or expired more than 90 days ago do not count.",
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

	DefineCustomIntVariable("overten_auth.max_key_lifetime",
							"Sets how long a new key lives at most.",
							"A key without an expiry gets this lifetime.  0 means that there is no limit.",
							&oa_max_key_lifetime,
							0, 0, INT_MAX,
							PGC_SUSET, GUC_UNIT_S,
							NULL, NULL, NULL);

	DefineCustomStringVariable("overten_auth.key_prefixes",
							   "Sets the prefixes that API keys can have.",
							   "A prefix after \"test:\" is for test keys.  The first of each kind is for new keys.",
							   &key_prefixes,
							   "sk_live_, test:sk_test_",
							   PGC_SUSET, GUC_LIST_INPUT,
							   check_key_prefixes, assign_key_prefixes, NULL);

	DefineCustomBoolVariable("overten_auth.accept_test_keys",
							 "Accepts test keys.",
							 NULL,
							 &oa_accept_test_keys,
							 false,
							 PGC_SUSET, 0,
							 NULL, NULL, NULL);
	DefineCustomStringVariable("overten_auth.slots",
							   "Lists the slots of this server, if keys are spread over several servers.",
							   "New keys then have the slot of their org, and new orgs one of these.",
							   &slots,
							   "",
							   PGC_SUSET, 0,
							   check_slots, assign_slots, NULL);

	DefineCustomStringVariable("overten_auth.key_features",
							   "Lists what customers can set and see of their keys over HTTP.",
							   "Restrictions of keys are enforced in any case.",
							   &key_features,
							   "",
							   PGC_SIGHUP, GUC_LIST_INPUT,
							   check_key_features, assign_key_features, NULL);

	DefineCustomBoolVariable("overten_auth.verify_on_standby",
							 "Allows keys to be verified on a standby server.",
							 "A standby accepts a revoked key until it has replayed the revocation.",
							 &oa_verify_on_standby,
							 false,
							 PGC_SIGHUP, 0,
							 NULL, NULL, NULL);

	DefineCustomIntVariable("overten_auth.max_standby_lag",
							"Sets how old what a standby knows can be for keys and tokens to be verified there.",
							"A standby that cannot tell how old it is does not verify.  0 means that any age will do.",
							&oa_max_standby_lag,
							0, 0, 3600 * 1000,
							PGC_SIGHUP, GUC_UNIT_MS,
							NULL, NULL, NULL);

	DefineCustomStringVariable("overten_auth.uses_conninfo",
							   "Sets how a standby connects to the primary to send it the uses of keys.",
							   "It is added to primary_conninfo.  If it is empty, uses are not sent.",
							   &oa_uses_conninfo,
							   "",
							   PGC_SIGHUP, GUC_SUPERUSER_ONLY,
							   check_uses_conninfo, NULL, NULL);

	DefineCustomBoolVariable("overten_auth.verify_restricted",
							 "Returns a row for keys with scopes or allowed addresses where keys are only verified.",
							 "Turn it on if the callers look after scopes.",
							 &oa_verify_restricted,
							 false,
							 PGC_SUSET, 0,
							 NULL, NULL, NULL);

	DefineCustomStringVariable("overten_auth.firebase_project_id",
							   "Sets the Firebase project whose ID tokens are accepted.",
							   "If it is empty, all tokens are refused.",
							   &oa_firebase_project_id,
							   "",
							   PGC_SUSET, 0,
							   check_firebase_id, NULL, NULL);

	DefineCustomStringVariable("overten_auth.firebase_tenant",
							   "Sets the Identity Platform tenant whose ID tokens are accepted.",
							   "An empty value accepts tokens without a tenant, and * accepts all.",
							   &oa_firebase_tenant,
							   "",
							   PGC_SUSET, 0,
							   check_firebase_id, NULL, NULL);

	DefineCustomBoolVariable("overten_auth.signup_requires_verified_email",
							 "Requires a verified email address for signing up over HTTP.",
							 NULL,
							 &oa_signup_requires_verified_email,
							 false,
							 PGC_SUSET, 0,
							 NULL, NULL, NULL);

	DefineCustomBoolVariable("overten_auth.allow_anonymous_signup",
							 "Allows anonymous accounts of Firebase to sign up over HTTP.",
							 NULL,
							 &oa_allow_anonymous_signup,
							 false,
							 PGC_SUSET, 0,
							 NULL, NULL, NULL);

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
							   "It prints an HTTP answer with its header.  If it is empty, no keys are fetched.",
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

	DefineCustomStringVariable("overten_auth.trusted_proxies",
							   "Lists the networks of the proxies whose X-Forwarded-For is believed.",
							   "If it is not empty, overten_auth.trust_forwarded_for has no effect.",
							   &oa_trusted_proxies,
							   "",
							   PGC_SIGHUP, GUC_LIST_INPUT,
							   check_trusted_proxies, set_trusted_proxies, NULL);

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

	DefineCustomIntVariable("overten_auth.audit_retention",
							"Sets how long the audit log is kept.",
							"0 keeps it for ever.",
							&oa_audit_retention,
							0, 0, INT_MAX,
							PGC_SIGHUP, GUC_UNIT_MIN,
							NULL, NULL, NULL);

	DefineCustomEnumVariable("overten_auth.limits_full",
							 "Sets what happens to requests for which no bucket is left.",
							 "They are refused with an error, or admitted without being counted.",
							 &oa_limits_full,
							 OA_FULL_REFUSES, limits_full_values,
							 PGC_SIGHUP, 0,
							 NULL, NULL, NULL);

	DefineCustomRealVariable("overten_auth.limit_share",
							 "Sets which part of each rate limit this server gives out.",
							 "It is rounded down to thousandths.",
							 &limit_share,
							 1.0, 0.001, 1.0,
							 PGC_SIGHUP, 0,
							 NULL, assign_limit_share, NULL);

	DefineCustomEnumVariable("overten_auth.revocation_commit",
							 "Sets the least synchronous_commit of transactions that take access away.",
							 "\"off\" leaves it as the session has set it.",
							 &oa_revocation_commit,
							 OA_COMMIT_AS_SET, revocation_commit_values,
							 PGC_SIGHUP, 0,
							 NULL, NULL, NULL);

	if (process_shared_preload_libraries_in_progress)
		define_preload_settings();

	MarkGUCPrefixReserved("overten_auth");
}
