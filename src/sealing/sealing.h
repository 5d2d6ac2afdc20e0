/*
 * sealing.h
 *		Sealing webhook secrets with the master keys.
 */
#ifndef OA_SEALING_H
#define OA_SEALING_H

#include "overten_auth.h"
#include "utils/array.h"

/* master_keys.c: the master keys of a backend */
#define OA_MASTER_KEY_LEN		32	/* AES-256 */
#define OA_MASTER_KEY_ID_LEN	8

struct evp_cipher_ctx_st;

typedef struct OaMasterKey
{
	uint8		id[OA_MASTER_KEY_ID_LEN];	/* the first bytes of its SHA-256 */
	uint8		bytes[OA_MASTER_KEY_LEN];
	struct evp_cipher_ctx_st *opener;	/* has the key set; NULL until used */
} OaMasterKey;

extern OaMasterKey *oa_sealing_key(void);
extern OaMasterKey *oa_find_master_key(const uint8 *id);
extern OaMasterKey *oa_master_key(int n);
extern const char *oa_master_key_problem(void);
extern const char *oa_master_key_hint(void);
extern ArrayType *oa_master_key_ids_present(void);
extern ArrayType *oa_master_key_ids_needed(void);
extern const char *oa_missing_master_key(ArrayType *needed,
										 ArrayType *present);

/* key_file_place.c: is their file where a failover can delete it? */
extern const char *oa_key_file_risk(void);

/* In SQL: does an org's previous webhook secret still sign? */
#define OA_PREVIOUS_STILL_SIGNS \
	"previous_webhook_secret_until > clock_timestamp()"

/* sealing.c: encrypting webhook secrets for their table */
extern bytea *oa_seal(text *org_id, text *webhook_secret);
extern text *oa_unseal(text *org_id, bytea *sealed);
extern bytea *oa_sealed_header(const uint8 *key_id);
extern bool oa_is_sealed_with(const uint8 *key_id, bytea *sealed);

#endif							/* OA_SEALING_H */
