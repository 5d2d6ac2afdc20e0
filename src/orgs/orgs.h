/*
 * orgs.h
 *		Orgs and their tiers.
 */
#ifndef OA_ORGS_H
#define OA_ORGS_H

#include "overten_auth.h"
#include "datatype/timestamp.h"

/* orgs.c */
pg_noreturn extern void oa_org_missing(text *org_id);
extern void oa_require_org(text *org_id);
extern bool oa_find_tier(text *tier, bool *self_service);
extern text *oa_create_org(text *name, text *tier, text *uid, bool sign_up,
						   text *webhook_secret, TimestampTz *created_at);
extern void oa_sign_up_org(text *org_id, text *uid);

#endif							/* OA_ORGS_H */
