/*
 * digest.c
 *		SHA-256.
 */
#include "postgres.h"

#include <openssl/evp.h>

#include "server/server.h"

/*
 * Compute the SHA-256 of some bytes.  We keep the context and the fetched
 * algorithm for the life of the backend, because setting them up costs several
 * times as much as hashing.
 */
void
oa_digest(const char *bytes, int length, uint8 *digest)
{
	static EVP_MD *sha256 = NULL;
	static EVP_MD_CTX *context = NULL;

	if (sha256 == NULL)
		sha256 = EVP_MD_fetch(NULL, "SHA256", NULL);
	if (context == NULL)
		context = EVP_MD_CTX_new();

	if (sha256 == NULL || context == NULL ||
		EVP_DigestInit_ex2(context, sha256, NULL) != 1 ||
		EVP_DigestUpdate(context, bytes, length) != 1 ||
		EVP_DigestFinal_ex(context, digest, NULL) != 1)
		ereport(ERROR,
				(errcode(ERRCODE_INTERNAL_ERROR),
				 errmsg("could not compute a SHA-256 digest")));
}
