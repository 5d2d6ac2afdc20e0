/*
 * webhooks.h
 *		The webhook secrets of orgs, and signing with them.
 */
#ifndef OA_WEBHOOKS_H
#define OA_WEBHOOKS_H

#include "overten_auth.h"
#include "datatype/timestamp.h"

/* webhook_secret.c */
extern void oa_replace_leaked_webhook_secret(text *org_id, text *reason);
extern text *oa_rotate_webhook_secret(text *org_id, text *uid,
									  TimestampTz until);

#endif							/* OA_WEBHOOKS_H */
