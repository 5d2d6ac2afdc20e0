/*
 * keys.h
 *		API keys: minting, verifying, revoking and listing them, and their
 *		history.
 */
#ifndef OA_KEYS_H
#define OA_KEYS_H

#include "overten_auth.h"
#include "access/htup.h"
#include "datatype/timestamp.h"
#include "limits/limits.h"
#include "lookup/lookup.h"
#include "server/server.h"
#include "text/text.h"
#include "utils/array.h"
#include "utils/jsonb.h"

/* key_text.c: the format of secrets */
extern bool oa_is_secret_shaped(const char *bytes, int length);
extern bool oa_is_prefix_shaped(const char *bytes, int length,
								OaEnvironment *environment);
extern bool oa_has_prefix(OaEnvironment environment);
#define OA_ANY_SLOT		(-1)

extern text *oa_make_secret(OaEnvironment environment, int slot);
extern text *oa_secret_prefix(text *secret);
extern bytea *oa_secret_digest(text *secret);
extern text *oa_secret_argument(FunctionCallInfo fcinfo, int n);
extern text *oa_any_secret_argument(FunctionCallInfo fcinfo, int n);

/* key_row.c: the row of a key */
enum							/* the columns of overten_auth.verified_key */
{
	OA_VERIFIED_KEY_ID, OA_VERIFIED_ORG_ID, OA_VERIFIED_ORG_NAME,
	OA_VERIFIED_TIER, OA_VERIFIED_WEBHOOK_SECRET, OA_VERIFIED_KEY_PREFIX,
	OA_VERIFIED_COLUMNS
};

extern text *oa_verified_column(HeapTupleHeader row, int column);

/* decision.c: whether a key is admitted */
typedef enum OaOutcome
{
	OA_ADMITTED,
	OA_KEY_INVALID,				/* unknown, revoked, of a suspended org, or of
								 * a prefix or environment that is not
								 * accepted */
	OA_KEY_EXPIRED,
	OA_KEY_DISABLED,
	OA_ADDRESS_NOT_ALLOWED,
	OA_INSUFFICIENT_SCOPE,
	OA_RATE_LIMITED,			/* these two only in admission.c */
	OA_QUOTA_EXCEEDED
} OaOutcome;

typedef struct OaQuestion
{
	const uint8 *digest;		/* of the secret */
	const OaClientAddr *client; /* for the history; NULL: the session's */
	const OaClientAddr *address;	/* that decides; NULL: unknown */
	ArrayType  *scopes;			/* text[] that the request needs, or NULL */
	bool		saw_secret;		/* the caller has seen that the secret begins
								 * with an accepted prefix; else we look */
	bool		knows_restrictions; /* else a key that has scopes or allowed
									 * addresses is invalid */
	bool		with_limits;	/* does the caller need the key's limits? */
} OaQuestion;

typedef struct OaDecision
{
	OaOutcome	outcome;
	HeapTupleHeader row;		/* of overten_auth.verified_key, anonymous;
								 * there is one for each outcome except, in
								 * most cases, OA_KEY_INVALID */
	const OaRestrictions *restrictions; /* of that key; NULL if it has none */
	OaCachedKey cached;			/* for oa_record_use() */
	bool		was_cached;
	text	   *revoked_key_id; /* set if the key was revoked */
} OaDecision;

extern void oa_decide(const OaQuestion *question, OaDecision *decision);
extern void oa_record_use(const OaQuestion *question, OaDecision *decision);
extern void oa_record_refusal(const OaQuestion *question,
							  const OaDecision *decision);
extern void oa_record_limited(const OaQuestion *question,
							  const OaDecision *decision);

/* restrictions.c: what restricts the use of a key */
extern void oa_network_from_cidr(Datum cidr, OaNetwork *network);
extern Datum oa_network_to_cidr(const OaNetwork *network);
extern bool oa_has_scope(const OaRestrictions *restrictions,
						 const char *scope, int length);

/* verify.c: from bearer text to row */
typedef struct OaVerifiedKey
{
	Datum		values[OA_VERIFIED_COLUMNS];
	bool		nulls[OA_VERIFIED_COLUMNS];
	const OaRestrictions *restrictions;
} OaVerifiedKey;

extern bool oa_may_verify(void);
extern void oa_require_verification(void);
extern bool oa_verify_secret(const char *bytes, int length,
							 const OaClientAddr *client,
							 bool knows_restrictions, OaVerifiedKey *key);
extern HeapTupleHeader oa_verify_argument(FunctionCallInfo fcinfo,
										  const OaRestrictions **restrictions);

/* admission.c: may a request go on? */
typedef struct OaAdmission
{
	OaDecision	decision;		/* its outcome is that of everything */
	OaStanding	standing;		/* if the outcome is OA_ADMITTED or that of a
								 * limit */
} OaAdmission;

extern OaLimiting oa_admit(const char *bytes, int length, int64 cost,
						   ArrayType *scopes, const OaClientAddr *client,
						   OaAdmission *admission);
extern const char *oa_outcome_name(OaOutcome outcome);

/* identity.c: the identity that a transaction acts for */
extern void oa_remember_identity(text *key_id, text *org_id,
								 const OaRestrictions *restrictions);
extern void oa_forget_identity(void);

/* key_grant.c: what a new key is given beside its org and name */
#define OA_SCOPE_MAX				64	/* characters */
#define OA_SCOPES_MAX				64	/* of a key */
#define OA_ALLOWED_ADDRESSES_MAX	64	/* likewise */

/* All zero for a plain key. */
typedef struct OaKeyGrant
{
	bool		has_expiry;
	TimestampTz expires_at;		/* exclusive, if has_expiry */
	ArrayType  *scopes;			/* text[]; NULL: all scopes */
	ArrayType  *allowed_addresses;	/* cidr[]; NULL: all addresses */
	OaEnvironment environment;
	text	   *description;	/* or NULL */
	Jsonb	   *metadata;		/* an object that was checked, or NULL */
	text	   *lineage;		/* key_id of the first of its line, or NULL */
	text	   *rotated_from;	/* key_id of the one before it, or NULL */
} OaKeyGrant;

extern const char *oa_environment_name(OaEnvironment environment);
extern bool oa_parse_environment(const char *bytes, int length,
								 OaEnvironment *environment, OaFault *fault);

extern bool oa_check_grant(OaKeyGrant *grant, bool self_service,
						   OaFault *fault);
extern void oa_require_grant(OaKeyGrant *grant);
extern bool oa_latest_expiry(TimestampTz created_at, TimestampTz *latest);
extern bool oa_check_expiry_year(TimestampTz expires_at, OaFault *fault);
extern bool oa_check_expiry(TimestampTz expires_at, TimestampTz created_at,
							OaFault *fault);
extern bool oa_is_scope(const char *bytes, int length);
extern bool oa_check_scopes(ArrayType **scopes, bool self_service,
							OaFault *fault);
extern bool oa_check_allowed_addresses(ArrayType **addresses, OaFault *fault);
pg_noreturn extern void oa_refuse_fault(const OaFault *fault);

/* keys.c */
typedef struct OaMintedKey
{
	text	   *key_id;
	text	   *name;
	text	   *prefix;
	text	   *secret;			/* the only copy; nobody can read it again */
	TimestampTz created_at;
	OaKeyGrant	grant;			/* what it got; max_key_lifetime applied */
} OaMintedKey;

extern void oa_mint_key(text *org_id, text *name, text *uid,
						const OaKeyGrant *grant, OaMintedKey *minted);
typedef enum OaRevocation
{
	OA_REVOKED, OA_REVOKED_BEFORE, OA_NO_SUCH_KEY
} OaRevocation;

extern bool oa_org_has_key(text *org_id, text *key_id);
pg_noreturn extern void oa_key_missing(text *org_id, text *key_id);
extern void oa_require_key(text *org_id, text *key_id);
extern OaRevocation oa_revoke_key(text *org_id, text *key_id, text *uid,
								  text *reason);

/* key_details.c: names, descriptions and metadata */
#define OA_METADATA_MAX		4096	/* bytes of their text in UTF-8 */

typedef struct OaKeyDetails
{
	bool		has_description;	/* when they are set: is it given? */
	bool		has_metadata;	/* likewise */
	text	   *description;	/* or NULL */
	Jsonb	   *metadata;		/* an object, or NULL */
} OaKeyDetails;

extern Jsonb *oa_check_metadata(Datum metadata, OaFault *fault);
extern bool oa_set_key_details(text *org_id, text *key_id, text *uid,
							   const OaKeyDetails *details, bool *changed);
extern void oa_get_key_details(text *key_id, OaKeyDetails *details);
extern void oa_insert_key_details(text *key_id, text *description,
								  Jsonb *metadata);
extern bool oa_rename_key(text *org_id, text *key_id, text *uid, text *name,
						  bool *changed);

/* leaks.c: revoking keys in a hurry */
pg_noreturn extern void oa_key_not_seen(text *key_id);

/* rotation.c: replacing a key by a new one */
#define OA_OVERLAP_MAX_DAYS	30

typedef enum OaRotationOutcome
{
	OA_ROTATED,
	OA_ROTATION_NO_SUCH_KEY,
	OA_ROTATION_REVOKED,
	OA_ROTATION_EXPIRED,
	OA_ROTATION_DISABLED,
	OA_ROTATION_NO_PREFIX,		/* for new keys of its environment */
	OA_ALREADY_ROTATED,			/* another key of its line is still good */
	OA_ROTATION_NO_ROOM			/* the org has as many keys as it can have */
} OaRotationOutcome;

typedef struct OaRotation
{
	OaMintedKey key;			/* if OA_ROTATED: the new one */
	text	   *previous_key_id;	/* likewise: the old one */
	bool		has_previous_end;	/* likewise, and does the old one end? */
	TimestampTz previous_expires_at;	/* when the old one ends, or ended */
	text	   *good_relative;	/* if OA_ALREADY_ROTATED: the other key's id */
} OaRotation;

extern OaRotationOutcome oa_rotate_key(text *org_id, text *key_id, text *uid,
									   int64 overlap, OaRotation *rotation);
extern void oa_replace_lost_key(text *org_id, text *key_id, text *uid,
								OaRotation *rotation);

/* rotation_progress.c: who still uses the old key */
typedef struct OaProgress
{
	text	   *key_id;
	bool		is_new;			/* else it is the old key */
	TimestampTz rotated_at;
	bool		has_end;		/* is it revoked, or does it expire? */
	TimestampTz ends_at;		/* or ended, if has_end */
	const char *client_addr;	/* or NULL */
	int64		accepted;		/* since the rotation */
	int64		refused;
	int64		limited;
	bool		never_used;
	TimestampTz last_used_at;	/* unless never_used */
} OaProgress;

typedef void (*OaProgressCallback) (const OaProgress *progress,
									void *argument);

typedef enum OaProgressOutcome
{
	OA_PROGRESS,
	OA_PROGRESS_NO_SUCH_KEY,
	OA_NEVER_ROTATED
} OaProgressOutcome;

extern OaProgressOutcome oa_rotation_progress(text *org_id, text *key_id,
											  OaProgressCallback callback,
											  void *argument);

/* minters.c: the keys that a person has minted */
extern int64 oa_count_keys_of(text *uid, text *org_id);

/* key_scan.c: reading the keys of an org */
typedef enum OaKeyColumn
{
	OA_KEY_ID = 1, OA_KEY_NAME, OA_KEY_PREFIX, OA_KEY_CREATED_AT,
	OA_KEY_LAST_USED_AT, OA_KEY_REVOKED_AT,
	OA_KEY_STATUS, OA_KEY_EXPIRES_AT, OA_KEY_DISABLED_AT, OA_KEY_SCOPES,
	OA_KEY_ALLOWED_ADDRESSES, OA_KEY_CREATED_BY, OA_KEY_REVOKED_BY,
	OA_KEY_REVOKED_REASON, OA_KEY_DISABLED_BY, OA_KEY_DISABLED_REASON,
	OA_KEY_ENVIRONMENT
} OaKeyColumn;

typedef struct OaKeyFilter
{
	const char *status;			/* NULL: any */
	bool		has_unused_since;
	TimestampTz unused_since;	/* created before, and not used since */
	const char *environment;	/* NULL: any */
	text	   *after;			/* a key's id; NULL: from the first key on */
	int			limit;			/* 0: all */
} OaKeyFilter;

typedef enum OaKeyScanResult
{
	OA_KEYS_ALL, OA_KEYS_MORE, OA_KEYS_NO_START
} OaKeyScanResult;

/* last_used_at is 0 if the key was never used; the row's own may be older. */
typedef void (*OaKeyRowCallback) (int row, TimestampTz last_used_at,
								  void *argument);

extern bool oa_is_key_status(const char *name);
extern bool oa_read_key(text *org_id, text *key_id, OaKeyRowCallback callback,
						void *argument);
extern OaKeyScanResult oa_scan_keys(text *org_id, const OaKeyFilter *filter,
									bool all_columns,
									OaKeyRowCallback callback, void *argument);

/* list_text.c: scopes and addresses as text */
extern text *oa_list_text(ArrayType *list);
extern ArrayType *oa_read_list(Datum list_text, Oid type);

/* key_changes.c: changing what restricts a key */
typedef struct OaKeyChange
{
	bool		sets_expiry;
	bool		has_expiry;		/* else it does not expire */
	TimestampTz expires_at;
	bool		sets_scopes;
	ArrayType  *scopes;			/* text[]; NULL: all */
	bool		sets_addresses;
	ArrayType  *allowed_addresses;	/* cidr[]; NULL: all */
	bool		sets_disabled;
	bool		disabled;
	text	   *disabled_reason;	/* or NULL */
} OaKeyChange;

typedef enum OaKeyChanged
{
	OA_KEY_CHANGED,
	OA_KEY_UNCHANGED,			/* it was so before */
	OA_KEY_MISSING,
	OA_KEY_WAS_REVOKED,
	OA_KEY_NOT_YOURS_TO_ENABLE, /* the application has disabled it */
	OA_KEY_HAS_NO_ROOM,			/* the org has as many keys as it can have */
	OA_KEY_CHANGE_REFUSED		/* a value breaks a rule */
} OaKeyChanged;

extern OaKeyChanged oa_change_key(text *org_id, text *key_id, text *uid,
								  const OaKeyChange *wanted, OaFault *fault);

/* key_limits.c: how many keys an org can have */
extern bool oa_has_all_keys(text *org_id, text *except, int replaced);

/* purge.c: erasing keys that are dead */
extern void oa_begin_erasing(const char *function);
extern uint64 oa_purge_keys(text *org_id, TimestampTz before);

/* key_list.c: the keys of an org */
typedef struct OaListedKey
{
	text	   *key_id;
	text	   *name;
	text	   *prefix;
	TimestampTz created_at;
	TimestampTz last_used_at;
	TimestampTz revoked_at;
	TimestampTz expires_at;
	TimestampTz disabled_at;
	bool		never_used;		/* last_used_at is not set */
	bool		not_revoked;	/* likewise for the other times */
	bool		never_expires;
	bool		not_disabled;
	text	   *status;
	ArrayType  *scopes;			/* text[]; NULL: all scopes */
	ArrayType  *allowed_addresses;	/* cidr[]; NULL: all addresses */
	text	   *created_by;		/* uids and reasons, or NULL */
	text	   *revoked_by;
	text	   *revoked_reason;
	text	   *disabled_by;
	text	   *disabled_reason;
	text	   *environment;
} OaListedKey;

typedef void (*OaKeyCallback) (const OaListedKey *key, void *argument);

extern OaKeyScanResult oa_list_keys(text *org_id, const OaKeyFilter *filter,
									OaKeyCallback callback, void *argument);
extern bool oa_show_key(text *org_id, text *key_id, OaKeyCallback callback,
						void *argument);

/* leaks.c */
extern uint64 oa_revoke_all_keys(text *org_id, text *uid, text *reason);

/* key_history.c: reading the history of a key */

/* A sum that stops at the maximum, so that it cannot overflow. */
#define OA_SUM(column) \
	"LEAST(sum(" column "), 9223372036854775807)::int8"

typedef struct OaPeriod
{
	TimestampTz since;
	TimestampTz until;			/* exclusive */
} OaPeriod;

typedef struct OaUsageHour
{
	TimestampTz hour;
	const char *client_addr;	/* or NULL */
	int64		accepted;
	int64		refused;
	int64		limited;
	TimestampTz first_used_at;
	TimestampTz last_used_at;
} OaUsageHour;

typedef void (*OaUsageHourCallback) (const OaUsageHour *usage, void *argument);

extern void oa_complete_period(OaPeriod *period, bool has_since,
							   bool has_until);
extern OaPeriod oa_period_arguments(FunctionCallInfo fcinfo, int n);
extern bool oa_key_usage(text *org_id, text *key_id, const OaPeriod *period,
						 OaUsageHourCallback callback, void *argument);
extern char *oa_inet_text(Datum address);

/* org_usage.c: sums of the uses of an org */
typedef struct OaOrgUsage
{
	text	   *key_id;			/* these three are NULL unless by key */
	text	   *name;
	text	   *prefix;
	TimestampTz start;			/* of the hour or day, if there is a unit */
	int64		accepted;
	int64		refused;
	int64		limited;
	int64		addresses;		/* that were accepted, if by key alone */
} OaOrgUsage;

typedef void (*OaOrgUsageCallback) (const OaOrgUsage *usage, void *argument);

extern void oa_org_usage(text *org_id, const OaPeriod *period,
						 const char *unit, bool by_key,
						 OaOrgUsageCallback callback, void *argument);

/* key_anomalies.c: anomalies that a person should look at */
typedef struct OaAnomaly
{
	text	   *kind;
	const char *client_addr;	/* or NULL */
	TimestampTz first_at;
	TimestampTz last_at;
	int64		observed;
	const char *expected;		/* a number */
	TimestampTz reference_at;
	bool		has_no_reference;
	text	   *detail;
} OaAnomaly;

typedef void (*OaAnomalyCallback) (const OaAnomaly *anomaly, void *argument);

extern void oa_key_anomalies(text *key_id, OaAnomalyCallback callback,
							 void *argument);

#endif							/* OA_KEYS_H */
