/*
 * decision.h
 *		What the decision about a key is made from: its row, and what
 *		restricts its use.
 */
#ifndef OA_DECISION_H
#define OA_DECISION_H

#include "keys/keys.h"
#include "lookup/lookup.h"

/* key_row.c */
typedef struct OaKeyFound
{
	HeapTupleHeader row;		/* of overten_auth.verified_key, anonymous; or
								 * NULL */
	text	   *revoked_key_id; /* set if the key was revoked */
	bool		was_cached;
} OaKeyFound;

extern void oa_find_key(const uint8 *digest, bool with_limits,
						OaKeyFound *found, OaCachedKey *cached);
extern TupleDesc oa_verified_key_columns(void);

/* restrictions.c */
extern const OaRestrictions *oa_pack_restrictions(const OaKeyRow *key);
extern OaOutcome oa_check_restrictions(const OaRestrictions *restrictions,
									   const OaClientAddr *address,
									   ArrayType *scopes);
extern ArrayType *oa_unpack_scopes(const OaRestrictions *restrictions);

#endif							/* OA_DECISION_H */
