/*
 * orgs.h
 *		Orgs and their tiers.
 */
#ifndef OA_ORGS_H
#define OA_ORGS_H

#include "overten_auth.h"
#include "datatype/timestamp.h"
#include "utils/uuid.h"

/* orgs.c */
pg_noreturn extern void oa_org_missing(text *org_id);
pg_noreturn extern void oa_org_closed(void);
extern void oa_require_org(text *org_id);
extern void oa_require_open_org(text *org_id);
extern void oa_lock_org_row(text *org_id);
extern bool oa_find_tier(text *tier, bool *self_service);
extern text *oa_create_org(text *name, text *tier, text *uid, bool sign_up,
						   text *webhook_secret, TimestampTz *created_at);
extern void oa_sign_up_org(text *org_id, text *uid);
extern bool oa_rename_org(text *org_id, text *name, text *uid);

/* org_list.c: orgs, of a person and of all */
typedef struct OaOrg
{
	text	   *org_id;
	text	   *name;
	text	   *tier;
	TimestampTz created_at;
	TimestampTz api_access_since;
	TimestampTz suspended_at;
	TimestampTz closed_at;
	bool		never_signed_up;	/* api_access_since is not set */
	bool		not_suspended;	/* suspended_at is not set */
	bool		open;			/* closed_at is not set */
} OaOrg;

typedef void (*OaOrgCallback) (const OaOrg *org, void *argument);

extern void oa_list_orgs(text *uid, OaOrgCallback callback, void *argument);
extern void oa_read_org(text *org_id, OaOrgCallback callback, void *argument);

/* audit_pages.c: reading the audit log of an org */
typedef struct OaAuditRow
{
	TimestampTz at;
	pg_uuid_t	audit_id;
	text	   *action;
	text	   *key_id;			/* these three may be NULL */
	text	   *uid;
	text	   *detail;
} OaAuditRow;

typedef void (*OaAuditCallback) (const OaAuditRow *row, void *argument);

extern int	oa_read_audit_log(text *org_id, text *key_id,
							  const pg_uuid_t *after, int limit,
							  OaAuditCallback callback, void *argument);

#endif							/* OA_ORGS_H */
