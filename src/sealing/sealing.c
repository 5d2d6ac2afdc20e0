/*
 * sealing.c
 *		Encrypts webhook secrets for their table.
 *
 * GET /verify returns the webhook secret, and we sign webhooks with it, so we
 * cannot store only a digest.  We seal it with AES-256-GCM (NIST SP 800-38D):
 *
 * 	format 1, a byte | id of the master key, 8 | nonce, 12 | ciphertext | tag, 16
 *
 * The nonce is random for each value; 96 bits allow 2^32 values per master
 * key.  The org's id is associated data, so a value that was copied to another
 * org does not open.
 *
 * A verification opens a value, so opening must not raise; it returns NULL if
 * anything is wrong.  Each master key has a cipher context of its own, because
 * setting a key takes longer than opening a value.
 */
#include "postgres.h"

#include <openssl/core_names.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/params.h>

#include "utils/builtins.h"
#include "utils/timestamp.h"

#include "sealing/sealing.h"
#include "server/server.h"

#define FORMAT_GCM		1

#define NONCE_LEN		12
#define TAG_LEN			16

#define HEADER_LEN		(1 + OA_MASTER_KEY_ID_LEN)
#define NONCE_AT		HEADER_LEN
#define CIPHERTEXT_AT	(NONCE_AT + NONCE_LEN)
#define OVERHEAD		(CIPHERTEXT_AT + TAG_LEN)

/* The least time between two reports of altered values, in ms. */
#define REPORT_INTERVAL	60000

/*
 * Return the algorithm.  We fetch it only once, because fetching it costs more
 * than using it.
 */
static EVP_CIPHER *
aes_256_gcm(void)
{
	static EVP_CIPHER *cipher = NULL;

	if (cipher == NULL)
		cipher = EVP_CIPHER_fetch(NULL, "AES-256-GCM", NULL);
	return cipher;
}

/* Encrypt, and append the tag.  The caller owns the context. */
static bool
encrypt(EVP_CIPHER_CTX *context, const OaMasterKey *key, const uint8 *nonce,
		text *org_id, const uint8 *plain, int length, uint8 *out)
{
	int			count;

	return context != NULL && aes_256_gcm() != NULL &&
		EVP_EncryptInit_ex2(context, aes_256_gcm(), key->bytes, nonce,
							NULL) == 1 &&
		EVP_EncryptUpdate(context, NULL, &count,
						  (const uint8 *) VARDATA_ANY(org_id),
						  VARSIZE_ANY_EXHDR(org_id)) == 1 &&
		EVP_EncryptUpdate(context, out, &count, plain, length) == 1 &&
		count == length &&
		EVP_EncryptFinal_ex(context, out + count, &count) == 1 &&
		EVP_CIPHER_CTX_ctrl(context, EVP_CTRL_AEAD_GET_TAG, TAG_LEN,
							out + length) == 1;
}

/* Seal an org's webhook secret for storage.  Raises 55000 without a key. */
bytea	   *
oa_seal(text *org_id, text *webhook_secret)
{
	OaMasterKey *key = oa_sealing_key();
	int			length = VARSIZE_ANY_EXHDR(webhook_secret);
	bytea	   *sealed = palloc(VARHDRSZ + OVERHEAD + length);
	uint8	   *bytes = (uint8 *) VARDATA(sealed);
	EVP_CIPHER_CTX *context;
	bool		encrypted;

	SET_VARSIZE(sealed, VARHDRSZ + OVERHEAD + length);
	bytes[0] = FORMAT_GCM;
	memcpy(bytes + 1, key->id, OA_MASTER_KEY_ID_LEN);
	oa_draw_random(bytes + NONCE_AT, NONCE_LEN);

	context = EVP_CIPHER_CTX_new();
	encrypted = encrypt(context, key, bytes + NONCE_AT, org_id,
						(const uint8 *) VARDATA_ANY(webhook_secret), length,
						bytes + CIPHERTEXT_AT);
	EVP_CIPHER_CTX_free(context);
	if (!encrypted)
	{
		ERR_clear_error();
		ereport(ERROR,
				(errcode(ERRCODE_INTERNAL_ERROR),
				 errmsg("could not seal the webhook secret of org \"%s\"",
						text_to_cstring(org_id)),
				 errdetail("OpenSSL could not encrypt with AES-256-GCM."),
				 errhint("Check that the server's OpenSSL provides this cipher, and that the machine has free memory.")));
	}
	return sealed;
}

/* Return a context that opens with this key, or NULL if OpenSSL has none. */
static EVP_CIPHER_CTX *
opener(OaMasterKey *key)
{
	if (key->opener == NULL && aes_256_gcm() != NULL)
	{
		EVP_CIPHER_CTX *context = EVP_CIPHER_CTX_new();

		if (context != NULL &&
			EVP_DecryptInit_ex2(context, aes_256_gcm(), key->bytes, NULL,
								NULL) == 1)
			key->opener = context;
		else
			EVP_CIPHER_CTX_free(context);
	}
	return key->opener;
}

/* Decrypt a value.  Returns false if it was not sealed for this org. */
static bool
decrypt(OaMasterKey *key, text *org_id, const uint8 *bytes, int length,
		uint8 *plain)
{
	EVP_CIPHER_CTX *context = opener(key);
	uint8		tag[TAG_LEN];
	OSSL_PARAM	with_tag[] = {
		OSSL_PARAM_octet_string(OSSL_CIPHER_PARAM_AEAD_TAG, tag, TAG_LEN),
		OSSL_PARAM_END
	};
	int			count;

	memcpy(tag, bytes + CIPHERTEXT_AT + length, TAG_LEN);
	return context != NULL &&
		EVP_DecryptInit_ex2(context, NULL, NULL, bytes + NONCE_AT,
							with_tag) == 1 &&
		EVP_DecryptUpdate(context, NULL, &count,
						  (const uint8 *) VARDATA_ANY(org_id),
						  VARSIZE_ANY_EXHDR(org_id)) == 1 &&
		EVP_DecryptUpdate(context, plain, &count, bytes + CIPHERTEXT_AT,
						  length) == 1 &&
		EVP_DecryptFinal_ex(context, plain + count, &count) == 1;
}

/* Warn, once per session, that a master key is missing. */
static void
report_missing_key(const uint8 *id)
{
	static bool reported = false;
	char		hex[2 * OA_MASTER_KEY_ID_LEN + 1] = "";

	if (reported)
		return;
	reported = true;
	hex_encode((const char *) id, OA_MASTER_KEY_ID_LEN, hex);
	ereport(WARNING,
			(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
			 errmsg("webhook secrets cannot be unsealed"),
			 errdetail("Master key %s is missing. %s", hex,
					   oa_master_key_problem()),
			 errhint("%s", oa_master_key_hint()),
			 errhidestmt(true), errhidecontext(true)));
}

/* Report in the log that a value was not sealed for this org. */
static void
report_altered(text *org_id)
{
	static TimestampTz reported_at = 0;
	TimestampTz now = GetCurrentTimestamp();

	if (!TimestampDifferenceExceeds(reported_at, now, REPORT_INTERVAL))
		return;
	reported_at = now;
	ereport(LOG,
			(errcode(ERRCODE_DATA_CORRUPTED),
			 errmsg("the sealed webhook secret of org \"%s\" does not open",
					text_to_cstring(org_id)),
			 errdetail("It has been altered, or was sealed for another org."),
			 errhint("Make a new secret with overten_rotate_webhook_secret()."),
			 errhidestmt(true), errhidecontext(true)));
}

/* Open a sealed webhook secret.  Returns NULL on failure. */
text	   *
oa_unseal(text *org_id, bytea *sealed)
{
	const uint8 *bytes = (const uint8 *) VARDATA_ANY(sealed);
	int			length = VARSIZE_ANY_EXHDR(sealed);
	OaMasterKey *key;
	text	   *plain;

	if (length < OVERHEAD || bytes[0] != FORMAT_GCM)
	{
		report_altered(org_id);
		return NULL;
	}

	key = oa_find_master_key(bytes + 1);
	if (key == NULL)
	{
		report_missing_key(bytes + 1);
		return NULL;
	}

	length -= OVERHEAD;
	plain = palloc(VARHDRSZ + length);
	SET_VARSIZE(plain, VARHDRSZ + length);
	if (!decrypt(key, org_id, bytes, length, (uint8 *) VARDATA(plain)))
	{
		ERR_clear_error();
		explicit_bzero(VARDATA(plain), length);
		report_altered(org_id);
		return NULL;
	}
	return plain;
}

/* Return the first bytes of every value that this key has sealed. */
bytea	   *
oa_sealed_header(const uint8 *key_id)
{
	uint8		header[HEADER_LEN] = {FORMAT_GCM};

	memcpy(header + 1, key_id, OA_MASTER_KEY_ID_LEN);
	return (bytea *) cstring_to_text_with_len((const char *) header, HEADER_LEN);
}

/* Did the key with this id seal the value? */
bool
oa_is_sealed_with(const uint8 *key_id, bytea *sealed)
{
	const uint8 *bytes = (const uint8 *) VARDATA_ANY(sealed);

	return VARSIZE_ANY_EXHDR(sealed) >= HEADER_LEN &&
		bytes[0] == FORMAT_GCM &&
		memcmp(bytes + 1, key_id, OA_MASTER_KEY_ID_LEN) == 0;
}
