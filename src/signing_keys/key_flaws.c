/*
 * key_flaws.c
 *		Decides which keys can check signatures, and describes the others.
 *
 * Nothing in this file uses the server's memory or raises: test/fuzz runs it
 * by itself.
 */
#include "postgres.h"

#include <openssl/bn.h>
#include <openssl/core_names.h>
#include <openssl/evp.h>

#include "signing_keys/fetch.h"

#define RSA_BITS_MIN		2048	/* RFC 7518 section 3.3 */
#define RSA_EXPONENT_BITS	64	/* OpenSSL's own OPENSSL_RSA_MAX_PUBEXP_BITS */

/* Check a modulus and an exponent. */
OaSigningKeyFlaw
oa_check_rsa_numbers(const BIGNUM *modulus, const BIGNUM *exponent)
{
	if (BN_num_bits(modulus) < RSA_BITS_MIN)
		return OA_FLAW_WEAK;
	if (BN_num_bits(modulus) > OA_RSA_BITS_MAX || !BN_is_odd(modulus))
		return OA_FLAW_UNSOUND;

	/* RFC 8017 section 3.1 */
	if (!BN_is_odd(exponent) || BN_is_one(exponent) ||
		BN_num_bits(exponent) > RSA_EXPONENT_BITS)
		return OA_FLAW_UNSOUND;
	return OA_NO_FLAW;
}

/* Check whether this key can check a token's signature. */
OaSigningKeyFlaw
oa_check_signing_key(EVP_PKEY *key)
{
	BIGNUM	   *modulus = NULL;
	BIGNUM	   *exponent = NULL;
	OaSigningKeyFlaw flaw = OA_FLAW_TYPE;

	/* RSA-PSS keys have a type of their own; RS256 does not use them. */
	if (EVP_PKEY_get_base_id(key) == EVP_PKEY_RSA &&
		EVP_PKEY_get_bn_param(key, OSSL_PKEY_PARAM_RSA_N, &modulus) == 1 &&
		EVP_PKEY_get_bn_param(key, OSSL_PKEY_PARAM_RSA_E, &exponent) == 1)
		flaw = oa_check_rsa_numbers(modulus, exponent);
	BN_free(modulus);
	BN_free(exponent);
	return flaw;
}

/*
 * Describe which keys of a document we skipped, such as "no RSA key (2),
 * expired (1)".  Returns how many.
 */
int
oa_describe_skipped(const OaSigningKeyDocument *document, char *description,
					int size)
{
	static const char *const flaws[] = {
		[OA_FLAW_TYPE] = "no RSA key",
		[OA_FLAW_USE] = "not for signatures",
		[OA_FLAW_ALG] = "not for RS256",
		[OA_FLAW_ID] = "no usable id",
		[OA_FLAW_MALFORMED] = "malformed numbers",
		[OA_FLAW_WEAK] = "less than 2048 bits",
		[OA_FLAW_UNSOUND] = "unsound numbers",
		[OA_FLAW_EARLY] = "not valid yet",
		[OA_FLAW_EXPIRED] = "expired",
		[OA_FLAW_DUPLICATE] = "same id",
	};
	int			total = 0;
	int			length = 0;

	description[0] = '\0';

	for (int flaw = 0; flaw < OA_SIGNING_KEY_FLAWS; flaw++)
	{
		if (document->skipped[flaw] == 0)
			continue;
		total += document->skipped[flaw];
		if (length < size)
			length += snprintf(description + length, size - length, "%s%s (%d)",
							   length > 0 ? ", " : "", flaws[flaw],
							   document->skipped[flaw]);
	}
	return total;
}
