/*
 * signing_keys.h
 *		The keys that Firebase signs ID tokens with: loading, holding and
 *		fetching them.
 */
#ifndef OA_SIGNING_KEYS_H
#define OA_SIGNING_KEYS_H

#include "overten_auth.h"
#include "databases/databases.h"
#include "datatype/timestamp.h"

/* signing_keys.c: the set of signing keys */
extern int	oa_load_signing_keys(const char *utf8, int length,
								 TimestampTz not_after, char *skipped);
extern int	oa_extend_signing_keys(TimestampTz not_after);
extern int	oa_count_signing_keys(TimestampTz *last_expires_at);

/* key_ring.c: the signing keys of a backend, ready for use */
typedef struct OaSigningKey OaSigningKey;

typedef enum OaSigningKeyLookup
{
	OA_SIGNING_KEY_FOUND, OA_SIGNING_KEY_UNKNOWN, OA_SIGNING_KEY_EXPIRED
} OaSigningKeyLookup;

extern bool oa_has_signing_key(TimestampTz now);
extern OaSigningKeyLookup oa_find_signing_key(const char *kid, TimestampTz now,
											  OaSigningKey **key);
extern bool oa_signature_is_good(OaSigningKey *key, const char *message,
								 int message_length,
								 const unsigned char *signature,
								 int signature_length);
extern TimestampTz oa_signing_key_expires_at(const OaSigningKey *key);
extern uint64 oa_key_ring_as_of(void);

/* fetch_state.c: when to fetch them */
extern void oa_fetch_hurry(OaFetchState *keys);
extern void oa_fetch_note(OaFetchState *keys, bool wanted, bool present);
extern int64 oa_fetch_due_in(const OaFetchState *keys);
extern void oa_fetch_has_no_worker(OaFetchState *keys);

#endif							/* OA_SIGNING_KEYS_H */
