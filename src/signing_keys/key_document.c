/*
 * key_document.c
 *		Parses the documents in which Google publishes its signing keys.
 *
 * There are two forms, which hold the same keys: an object of PEM certificates
 * by key id, and a JWK set (RFC 7517).  We skip and count keys that we cannot
 * use, as RFC 7517 section 5 demands: those that have another type or another
 * use, are too weak, have expired, or share their id with another key.  If
 * something is damaged, or was never meant to be published, we reject the
 * whole document, and the old keys remain: half a set would lock out the users
 * whose tokens are signed with the other keys.
 *
 * We do not check a certificate's own signature, since there is no chain to
 * follow: TLS proves that the document came from Google when it is fetched.
 * We do check the certificate's validity period and its key.
 *
 * Nothing in this file uses the server's memory or raises.  We always free
 * what OpenSSL allocates, and test/fuzz runs this file by itself.
 */
#include "postgres.h"

#include <openssl/bio.h>
#include <openssl/bn.h>
#include <openssl/core_names.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/param_build.h>
#include <openssl/pem.h>
#include <openssl/rsa.h>
#include <openssl/x509.h>

#include "signing_keys/fetch.h"
#include "text/text.h"

#define PEM_FIRST_LINE "-----BEGIN CERTIFICATE-----"

/* Room for the bytes of a JWK's "n" or "e", and for one too many. */
#define JWK_NUMBER_MAX		(OA_RSA_BITS_MAX / 8 + 16)

typedef struct Document
{
	const char *json;
	const OaJsonNode *nodes;
	int64		now;			/* seconds since 1970 */
	int64		skew;			/* seconds */
	OaSigningKeyDocument *keys;
} Document;

/* Skip and count a key.  Returns NULL, because the document remains usable. */
static const char *
skip(Document *document, OaSigningKeyFlaw flaw)
{
	document->keys->skipped[flaw]++;
	return NULL;
}

/*
 * Copy a key id into a key.  The id is a member's name or a string.  Returns
 * false if no token can name it.
 */
static bool
read_kid(const Document *document, const OaJsonNode *kid, OaPublishedKey *key)
{
	char		unescaped[6 * OA_KID_MAX];

	/*
	 * The text may contain escape sequences, so the id may be shorter than
	 * the text.
	 */
	if (kid->length > sizeof(unescaped))
		return false;
	key->kid_length = oa_json_unescape(document->json, kid, unescaped);
	if (key->kid_length < 1 || key->kid_length > OA_KID_MAX)
		return false;
	memcpy(key->kid, unescaped, key->kid_length);
	return true;
}

/*
 * Convert a time to seconds since 1970.  Returns false if we cannot read it.
 */
static bool
read_time(const ASN1_TIME *time, int64 *seconds_since_1970)
{
	ASN1_TIME  *epoch = ASN1_TIME_set(NULL, 0);
	int			days = 0;
	int			seconds = 0;
	bool		ok = epoch != NULL &&
	ASN1_TIME_diff(&days, &seconds, epoch, time) == 1;

	ASN1_TIME_free(epoch);
	*seconds_since_1970 = (int64) days * 86400 + seconds;
	return ok;
}

/*
 * Does an earlier key have this key's id?  Then mark that one as a duplicate,
 * too.
 */
static bool
is_duplicate(OaSigningKeyDocument *keys, const OaPublishedKey *key)
{
	for (int i = 0; i < keys->count; i++)
		if (keys->keys[i].kid_length == key->kid_length &&
			memcmp(keys->keys[i].kid, key->kid, key->kid_length) == 0)
		{
			keys->keys[i].duplicate = true;
			return true;
		}
	return false;
}

/* Add a key to the set.  Its id is a member's name or a string. */
static const char *
add_key(Document *document, const OaJsonNode *kid, EVP_PKEY *public_key,
		const ASN1_TIME *not_after)
{
	OaSigningKeyDocument *keys = document->keys;
	OaPublishedKey *key = &keys->keys[keys->count];
	OaSigningKeyFlaw flaw = oa_check_signing_key(public_key);

	if (flaw != OA_NO_FLAW)
		return skip(document, flaw);
	if (keys->count == OA_SIGNING_KEYS_MAX)
		return "There are more than 64 keys.";
	if (!read_kid(document, kid, key))
		return skip(document, OA_FLAW_ID);
	if (is_duplicate(keys, key))
		return skip(document, OA_FLAW_DUPLICATE);

	key->duplicate = false;
	key->expires = not_after != NULL;
	key->expires_at = 0;
	if (not_after != NULL && !read_time(not_after, &key->expires_at))
		return "A certificate's validity cannot be read.";

	key->public_key = NULL;
	key->public_key_length = i2d_PUBKEY(public_key, &key->public_key);
	if (key->public_key_length <= 0)
		return "A key cannot be encoded.";
	keys->count++;
	return NULL;
}

/* Remove every key that has the same id as a later one. */
static void
skip_duplicates(OaSigningKeyDocument *keys)
{
	int			count = 0;

	for (int i = 0; i < keys->count; i++)
	{
		if (!keys->keys[i].duplicate)
		{
			keys->keys[count++] = keys->keys[i];
			continue;
		}
		OPENSSL_free(keys->keys[i].public_key);
		keys->skipped[OA_FLAW_DUPLICATE]++;
	}
	keys->count = count;
}

/* Is a certificate valid now? */
static OaSigningKeyFlaw
check_validity(const Document *document, const X509 *certificate)
{
	const ASN1_TIME *not_before = X509_get0_notBefore(certificate);
	const ASN1_TIME *not_after = X509_get0_notAfter(certificate);
	time_t		now = document->now;
	time_t		soon = document->now + document->skew;

	/* X509_cmp_time() returns 0 for a time that it cannot read. */
	if (X509_cmp_time(not_before, &soon) >= 0)
		return OA_FLAW_EARLY;
	if (X509_cmp_time(not_after, &now) <= 0)
		return OA_FLAW_EXPIRED;
	return OA_NO_FLAW;
}

/* Is there nothing but white space left? */
static bool
is_at_end(BIO *bio)
{
	char		c;

	while (BIO_read(bio, &c, 1) == 1)
		if (c != '\n' && c != '\r' && c != ' ')
			return false;
	return true;
}

/* Never prompt for a passphrase; OpenSSL would read it from stdin. */
static int
no_password(char *buffer, int size, int for_writing, void *argument)
{
	return -1;
}

/*
 * Add the key of a certificate.  OpenSSL may not know the algorithm of one that
 * is of no use for us.
 */
static const char *
add_key_of(Document *document, const OaJsonNode *kid, X509 *certificate)
{
	OaSigningKeyFlaw flaw = check_validity(document, certificate);
	EVP_PKEY   *key = X509_get0_pubkey(certificate);
	ASN1_OBJECT *algorithm = NULL;

	if (flaw != OA_NO_FLAW)
		return skip(document, flaw);
	if (key != NULL)
		return add_key(document, kid, key, X509_get0_notAfter(certificate));
	if (X509_PUBKEY_get0_param(&algorithm, NULL, NULL, NULL,
							   X509_get_X509_PUBKEY(certificate)) == 1 &&
		OBJ_obj2nid(algorithm) != NID_rsaEncryption)
		return skip(document, OA_FLAW_TYPE);
	return "A certificate cannot be read.";
}

/* Add a key from a text that must be exactly one PEM certificate. */
static const char *
add_certificate(Document *document, const OaJsonNode *kid, const char *pem,
				int length)
{
	BIO		   *bio;
	X509	   *certificate;
	const char *problem;

	if (length < (int) strlen(PEM_FIRST_LINE) ||
		memcmp(pem, PEM_FIRST_LINE, strlen(PEM_FIRST_LINE)) != 0)
		return "A member is not a PEM certificate.";

	bio = BIO_new_mem_buf(pem, length);
	if (bio == NULL)
		return "Out of memory.";
	certificate = PEM_read_bio_X509(bio, NULL, no_password, NULL);
	if (certificate == NULL)
		problem = "A certificate cannot be read.";
	else if (!is_at_end(bio))
		problem = "Something follows a certificate.";
	else
		problem = add_key_of(document, kid, certificate);
	X509_free(certificate);
	BIO_free(bio);
	return problem;
}

/* Read an object of certificates by key id. */
static const char *
read_certificates(Document *document)
{
	const OaJsonNode *nodes = document->nodes;

	for (int i = 1; i < nodes[0].next; i = nodes[i + 1].next)
	{
		const OaJsonNode *value = &nodes[i + 1];
		const char *problem;
		char	   *pem;
		int			length;

		if (value->type != OA_JSON_STRING)
			return "A member is not a PEM certificate.";
		pem = OPENSSL_malloc(value->length + 1);
		if (pem == NULL)
			return "Out of memory.";
		length = oa_json_unescape(document->json, value, pem);
		problem = add_certificate(document, &nodes[i], pem, length);
		OPENSSL_free(pem);
		if (problem != NULL)
			return problem;
	}
	return NULL;
}

/*
 * Read a number of a JWK, which is unsigned, in base64url and without leading
 * zero bytes (RFC 7518 section 6.3.1).  Returns NULL if it is not.
 */
static BIGNUM *
read_jwk_number(const Document *document, const OaJsonNode *jwk,
				const char *name)
{
	const OaJsonNode *node = oa_json_member(document->json, document->nodes,
											jwk, name);
	unsigned char bytes[OA_BASE64URL_DECODED(JWK_NUMBER_MAX * 4 / 3)];
	int			length;

	if (node == NULL || node->type != OA_JSON_STRING || node->escaped ||
		node->length > JWK_NUMBER_MAX * 4 / 3)
		return NULL;
	length = oa_base64url_decode(document->json + node->start, node->length,
								 bytes);
	if (length <= 0 || bytes[0] == 0)
		return NULL;
	return BN_bin2bn(bytes, length, NULL);
}

/*
 * Make a key from a modulus and an exponent.  Returns NULL if OpenSSL rejects
 * them.
 */
static EVP_PKEY *
make_key(const BIGNUM *modulus, const BIGNUM *exponent)
{
	OSSL_PARAM_BLD *builder = OSSL_PARAM_BLD_new();
	EVP_PKEY_CTX *context = EVP_PKEY_CTX_new_from_name(NULL, "RSA", NULL);
	OSSL_PARAM *parameters = NULL;
	EVP_PKEY   *key = NULL;

	if (builder != NULL && context != NULL &&
		OSSL_PARAM_BLD_push_BN(builder, OSSL_PKEY_PARAM_RSA_N, modulus) == 1 &&
		OSSL_PARAM_BLD_push_BN(builder, OSSL_PKEY_PARAM_RSA_E, exponent) == 1)
		parameters = OSSL_PARAM_BLD_to_param(builder);
	if (parameters == NULL ||
		EVP_PKEY_fromdata_init(context) != 1 ||
		EVP_PKEY_fromdata(context, &key, EVP_PKEY_PUBLIC_KEY, parameters) != 1)
		key = NULL;
	OSSL_PARAM_free(parameters);
	OSSL_PARAM_BLD_free(builder);
	EVP_PKEY_CTX_free(context);
	return key;
}

/* Add an RSA key from the numbers of a JWK. */
static const char *
add_numbers(Document *document, const OaJsonNode *jwk, const OaJsonNode *kid)
{
	BIGNUM	   *modulus = read_jwk_number(document, jwk, "n");
	BIGNUM	   *exponent = read_jwk_number(document, jwk, "e");
	EVP_PKEY   *key = NULL;
	OaSigningKeyFlaw flaw = OA_FLAW_MALFORMED;
	const char *problem = NULL;

	if (modulus != NULL && exponent != NULL)
		flaw = oa_check_rsa_numbers(modulus, exponent);
	if (flaw != OA_NO_FLAW)
		problem = skip(document, flaw);
	else
	{
		key = make_key(modulus, exponent);
		problem = key == NULL ? skip(document, OA_FLAW_UNSOUND) :
			add_key(document, kid, key, NULL);
	}
	EVP_PKEY_free(key);
	BN_free(modulus);
	BN_free(exponent);
	return problem;
}

/* Is a member of a JWK missing, or equal to this string? */
static bool
is_absent_or(const Document *document, const OaJsonNode *jwk,
			 const char *name, const char *expected)
{
	const OaJsonNode *node = oa_json_member(document->json, document->nodes,
											jwk, name);

	return node == NULL || oa_json_equals(document->json, node, expected);
}

/* Is the member "key_ops" missing, or an array that contains "verify"? */
static bool
may_verify(const Document *document, const OaJsonNode *jwk)
{
	const OaJsonNode *nodes = document->nodes;
	const OaJsonNode *list = oa_json_member(document->json, nodes, jwk,
											"key_ops");

	if (list == NULL)
		return true;
	if (list->type != OA_JSON_ARRAY)
		return false;
	for (int i = list - nodes + 1; i < list->next; i = nodes[i].next)
		if (oa_json_equals(document->json, &nodes[i], "verify"))
			return true;
	return false;
}

/* Add a key from one JWK. */
static const char *
add_jwk(Document *document, const OaJsonNode *jwk)
{
	const OaJsonNode *kty;
	const OaJsonNode *kid;

	if (jwk->type != OA_JSON_OBJECT)
		return "A member of \"keys\" is not an object.";
	if (oa_json_member(document->json, document->nodes, jwk, "d") != NULL)
		return "A JWK holds a private key.";

	kty = oa_json_member(document->json, document->nodes, jwk, "kty");
	kid = oa_json_member(document->json, document->nodes, jwk, "kid");
	if (kty == NULL || !oa_json_equals(document->json, kty, "RSA"))
		return skip(document, OA_FLAW_TYPE);
	/* RFC 7517 sections 4.2, 4.3 and 4.4 */
	if (!is_absent_or(document, jwk, "use", "sig") ||
		!may_verify(document, jwk))
		return skip(document, OA_FLAW_USE);
	if (!is_absent_or(document, jwk, "alg", "RS256"))
		return skip(document, OA_FLAW_ALG);
	if (kid == NULL || kid->type != OA_JSON_STRING)
		return skip(document, OA_FLAW_ID);
	return add_numbers(document, jwk, kid);
}

/* Read the keys of a JWK set.  We ignore the set's other members. */
static const char *
read_jwk_set(Document *document, const OaJsonNode *keys)
{
	const OaJsonNode *nodes = document->nodes;

	for (int i = keys - nodes + 1; i < keys->next; i = nodes[i].next)
	{
		const char *problem = add_jwk(document, &nodes[i]);

		if (problem != NULL)
			return problem;
	}
	return NULL;
}

/*
 * Parse a document.  The caller provides "nodes" for OA_JSON_NODES(length),
 * and has put a NUL behind the text.  Returns NULL, or what is wrong with the
 * document.  In both cases the caller must free the keys with
 * oa_free_signing_keys(), and may describe which keys we skipped.
 */
const char *
oa_parse_signing_keys(const char *json, int length, OaJsonNode *nodes,
					  int64 now, int64 skew, OaSigningKeyDocument *keys)
{
	Document	document;
	const OaJsonNode *set;
	const char *problem;

	document.json = json;

	document.nodes = nodes;
	document.now = now;
	document.skew = skew;
	document.keys = keys;
	keys->count = 0;
	memset(keys->skipped, 0, sizeof(keys->skipped));
	problem = oa_json_parse(json, length, nodes, OA_JSON_NODES(length));
	if (problem != NULL)
		return problem;

	set = oa_json_member(json, nodes, nodes, "keys");
	if (set != NULL && set->type == OA_JSON_ARRAY)
		problem = read_jwk_set(&document, set);
	else
		problem = read_certificates(&document);
	skip_duplicates(keys);
	if (problem == NULL && keys->count == 0)
		problem = "There is no usable key in it.";

	/* Do not leave our errors in the queue for the server's own TLS. */
	ERR_clear_error();
	return problem;
}

/* Free the memory of the keys. */
void
oa_free_signing_keys(OaSigningKeyDocument *document)
{
	for (int i = 0; i < document->count; i++)
		OPENSSL_free(document->keys[i].public_key);
	document->count = 0;
}
