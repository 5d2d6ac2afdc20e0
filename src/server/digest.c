/*
 * digest.c
 *		SHA-256.
 */
#include "postgres.h"

#include <openssl/evp.h>

#include "server/server.h"

/* Kept, because setting them up costs several times as much as hashing. */
static EVP_MD *sha256 = NULL;
static EVP_MD_CTX *context = NULL;

/*
 * Set up what oa_digest() needs.  Sessions inherit it from the postmaster if
 * the library is preloaded: finding an algorithm for the first time takes
 * OpenSSL longer than all else that a session does for its first verification.
 * What fails here fails again in oa_digest(), which says so.
 */
void
oa_digest_prepare(void)
{
	if (sha256 == NULL)
		sha256 = EVP_MD_fetch(NULL, "SHA256", NULL);
	if (context == NULL)
		context = EVP_MD_CTX_new();
	if (sha256 != NULL && context != NULL)
		(void) EVP_DigestInit_ex2(context, sha256, NULL);
}

/* Compute the SHA-256 of some bytes. */
void
oa_digest(const char *bytes, int length, uint8 *digest)
{
	if (sha256 == NULL || context == NULL)
		oa_digest_prepare();

	if (sha256 == NULL || context == NULL ||
		EVP_DigestInit_ex2(context, sha256, NULL) != 1 ||
		EVP_DigestUpdate(context, bytes, length) != 1 ||
		EVP_DigestFinal_ex(context, digest, NULL) != 1)
		ereport(ERROR,
				(errcode(ERRCODE_INTERNAL_ERROR),
				 errmsg("could not compute a SHA-256 digest")));
}
