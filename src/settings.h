/*
 * settings.h
 *		The settings of the extension.
 */
#ifndef OA_SETTINGS_H
#define OA_SETTINGS_H

#include "text/text.h"
#include "utils/guc.h"

/* The most databases that overten_auth.databases can name. */
#define OA_DATABASES_MAX	64

/* Bytes of an id.  Google's have 30, plus a domain in some cases. */
#define OA_FIREBASE_ID_MAX	100

/* What overten_auth.key_features can name, as bits of oa_key_features. */
typedef enum OaKeyFeature
{
	OA_FEATURE_EXPIRY = 1 << 0,
	OA_FEATURE_DISABLE = 1 << 1,
	OA_FEATURE_SCOPES = 1 << 2,
	OA_FEATURE_ADDRESSES = 1 << 3,
	OA_FEATURE_PEOPLE = 1 << 4,
	OA_FEATURE_DETAILS = 1 << 5,
	OA_FEATURE_ENVIRONMENTS = 1 << 6,
	OA_FEATURE_ROTATION = 1 << 7
} OaKeyFeature;

#define OA_ALL_FEATURES		(~0)

/* The values of overten_auth.limits_full. */
enum
{
	OA_FULL_REFUSES, OA_FULL_ADMITS
};

/* The values of overten_auth.revocation_commit. */
enum
{
	OA_COMMIT_AS_SET, OA_COMMIT_ON, OA_COMMIT_REMOTE_APPLY
};

#define OA_SHARE_WHOLE	1000	/* overten_auth.limit_share in thousandths */

/* The most networks that overten_auth.trusted_proxies can name. */
#define OA_TRUSTED_PROXIES_MAX	256

/* The same networks, parsed. */
typedef struct OaTrustedNetworks
{
	int			count;
	OaNetwork	networks[OA_TRUSTED_PROXIES_MAX];
} OaTrustedNetworks;

/* settings.c describes these where it defines them. */
extern int	oa_cache_entries;
extern bool oa_record_use_without_preload;
extern bool oa_verify_on_standby;
extern int	oa_max_standby_lag;
extern char *oa_uses_conninfo;
extern bool oa_verify_restricted;
extern char *oa_firebase_project_id;
extern char *oa_firebase_tenant;
extern bool oa_signup_requires_verified_email;
extern bool oa_allow_anonymous_signup;
extern int	oa_clock_skew;
extern int	oa_max_keys_per_org;
extern int	oa_max_keys_total_per_org;
extern int	oa_max_orgs_per_uid;
extern int	oa_max_key_lifetime;
extern const OaKeyPrefixes *oa_key_prefixes;
extern bool oa_accept_test_keys;
extern const OaSlots *oa_slots;
extern int	oa_key_features;
extern char *oa_signing_keys_command;
extern int	oa_trust_forwarded_for;
extern char *oa_trusted_proxies;
extern OaTrustedNetworks oa_trusted_networks;
extern int	oa_flush_interval;
extern int	oa_usage_retention;
extern int	oa_audit_retention;
extern char *oa_databases;
extern int	oa_max_tracked_keys;
extern int	oa_shared_cache_entries;
extern int	oa_max_limit_buckets;
extern int	oa_limits_full;
extern int	oa_limit_share;
extern char *oa_master_key_file;
extern int	oa_revocation_commit;

extern const char *oa_key_feature_name(int n, OaKeyFeature *feature);
extern void oa_define_settings(GucIntAssignHook cache_entries_changed);

#endif							/* OA_SETTINGS_H */
