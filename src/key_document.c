/*
 * key_document.c
 *		Reads the documents in which Google publishes its signing keys.
 *
 * There are two forms with the same keys in them: an object of PEM
 * certificates by key id, and a JWK set (RFC 7517).  Whoever can load a key
 * decides who gets in, so one thing in a document that cannot be used makes
 * all of it unusable: half a set would lock out those who sign with the rest.
 *
 * A certificate's own signature is not looked at, since there is no chain to
 * follow: that the document came from Google is for TLS to say when it is
 * fetched.  Its validity and its key are.
 *
 * Nothing in this file uses the server's memory or raises: what OpenSSL
 * allocates is always given back, and test/fuzz runs it by itself.
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

#include "overten_auth.h"

#define PEM_FIRST_LINE "-----BEGIN CERTIFICATE-----"

#define RSA_BITS_MIN		2048	/* RFC 7518 section 3.3 */
#define RSA_BITS_MAX		16384	/* OpenSSL's own limit */
#define RSA_EXPONENT_BITS	64	/* likewise, OPENSSL_RSA_MAX_PUBEXP_BITS */

/* Room for the bytes of a JWK's "n" or "e", and for one too many. */
#define JWK_NUMBER_MAX		(RSA_BITS_MAX / 8 + 16)

typedef struct Document
{
	const char *text;
	const OaJsonNode *nodes;
	int64		now;			/* seconds since 1970 */
	int64		skew;			/* seconds */
	OaKeyDocument *keys;
} Document;

/* Check a modulus and an exponent; NULL, or what is wrong. */
static const char *
check_numbers(const BIGNUM *modulus, const BIGNUM *exponent)
{
	if (BN_num_bits(modulus) < RSA_BITS_MIN)
		return "An RSA key has less than 2048 bits.";
	if (BN_num_bits(modulus) > RSA_BITS_MAX)
		return "An RSA key has more than 16384 bits.";
	if (!BN_is_odd(modulus))
		return "An RSA key has an even modulus.";

	/* RFC 8017 section 3.1 */
	if (!BN_is_odd(exponent) || BN_is_one(exponent))
		return "An RSA key's exponent is not an odd number of at least 3.";
	if (BN_num_bits(exponent) > RSA_EXPONENT_BITS)
		return "An RSA key's exponent has more than 64 bits.";
	return NULL;
}

/*
 * Can a token's signature be checked with this key?  NULL, or the reason why
 * not, as a sentence.
 */
const char *
oa_check_signing_key(EVP_PKEY *key)
{
	BIGNUM	   *modulus = NULL;
	BIGNUM	   *exponent = NULL;
	const char *problem = "A key is not an RSA key.";

	/* RSA-PSS keys have a type of their own, and are not for RS256. */
	if (EVP_PKEY_get_base_id(key) == EVP_PKEY_RSA &&
		EVP_PKEY_get_bn_param(key, OSSL_PKEY_PARAM_RSA_N, &modulus) == 1 &&
		EVP_PKEY_get_bn_param(key, OSSL_PKEY_PARAM_RSA_E, &exponent) == 1)
		problem = check_numbers(modulus, exponent);
	BN_free(modulus);
	BN_free(exponent);
	return problem;
}

/* Add a key to the set, under a member's name or a string for its id. */
static const char *
add_key(Document *document, const OaJsonNode *kid, EVP_PKEY *public_key,
		const ASN1_TIME *not_after)
{
	OaKeyDocument *keys = document->keys;
	OaDocumentKey *key = &keys->keys[keys->count];
	const char *problem = oa_check_signing_key(public_key);

	if (problem != NULL)
		return problem;
	if (keys->count == OA_SIGNING_KEYS_MAX)
		return "There are more than 64 keys.";

	/* The text may be escaped, so that it is shorter than it looks. */
	if (kid->length > 6 * OA_KID_MAX)
		return "A key id has more than 256 bytes.";
	else
	{
		char		unescaped[6 * OA_KID_MAX];

		key->kid_length = oa_json_unescape(document->text, kid, unescaped);
		if (key->kid_length > OA_KID_MAX)
			return "A key id has more than 256 bytes.";
		memcpy(key->kid, unescaped, key->kid_length);
	}
	if (key->kid_length == 0)
		return "A key id is empty.";
	for (int i = 0; i < keys->count; i++)
		if (keys->keys[i].kid_length == key->kid_length &&
			memcmp(keys->keys[i].kid, key->kid, key->kid_length) == 0)
			return "Two keys have the same id.";

	key->expires = not_after != NULL;
	key->expires_at = 0;
	if (not_after != NULL)
	{
		ASN1_TIME  *epoch = ASN1_TIME_set(NULL, 0);
		int			days = 0;
		int			seconds = 0;
		bool		ok = epoch != NULL &&
		ASN1_TIME_diff(&days, &seconds, epoch, not_after) == 1;

		ASN1_TIME_free(epoch);
		if (!ok)
			return "A certificate's validity cannot be read.";
		key->expires_at = (int64) days * 86400 + seconds;
	}

	key->public_key = NULL;
	key->public_key_length = i2d_PUBKEY(public_key, &key->public_key);
	if (key->public_key_length <= 0)
		return "A key cannot be encoded.";
	keys->count++;
	return NULL;
}

/* Is a certificate valid now? */
static const char *
check_validity(const Document *document, const X509 *certificate)
{
	const ASN1_TIME *not_before = X509_get0_notBefore(certificate);
	const ASN1_TIME *not_after = X509_get0_notAfter(certificate);
	time_t		now = document->now;
	time_t		soon = document->now + document->skew;

	/* X509_cmp_time() says 0 for a time that it cannot read. */
	if (X509_cmp_time(not_before, &soon) >= 0)
		return "A certificate is not valid yet.";
	if (X509_cmp_time(not_after, &now) <= 0)
		return "A certificate has expired.";
	return NULL;
}

/* Is this all of a text, but for white space at its end? */
static bool
is_at_end(BIO *bio)
{
	char		c;

	while (BIO_read(bio, &c, 1) == 1)
		if (c != '\n' && c != '\r' && c != ' ')
			return false;
	return true;
}

/* An encrypted PEM is not asked a password for: OpenSSL would read stdin. */
static int
no_password(char *buffer, int size, int for_writing, void *argument)
{
	return -1;
}

/* Add a key from a text that must be one PEM certificate. */
static const char *
add_certificate(Document *document, const OaJsonNode *kid, const char *pem,
				int length)
{
	BIO		   *bio;
	X509	   *certificate;
	EVP_PKEY   *key;
	const char *problem;

	if (length < (int) strlen(PEM_FIRST_LINE) ||
		memcmp(pem, PEM_FIRST_LINE, strlen(PEM_FIRST_LINE)) != 0)
		return "A member is not a PEM certificate.";

	bio = BIO_new_mem_buf(pem, length);
	if (bio == NULL)
		return "Out of memory.";
	certificate = PEM_read_bio_X509(bio, NULL, no_password, NULL);
	key = certificate ? X509_get0_pubkey(certificate) : NULL;
	if (key == NULL)
		problem = "A certificate cannot be read.";
	else if (!is_at_end(bio))
		problem = "Something follows a certificate.";
	else
	{
		problem = check_validity(document, certificate);
		if (problem == NULL)
			problem = add_key(document, kid, key,
							  X509_get0_notAfter(certificate));
	}
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
		length = oa_json_unescape(document->text, value, pem);
		problem = add_certificate(document, &nodes[i], pem, length);
		OPENSSL_free(pem);
		if (problem != NULL)
			return problem;
	}
	return NULL;
}

/*
 * A number of a JWK, which is unsigned, in base64url and without leading zero
 * bytes (RFC 7518 section 6.3.1); NULL if it is not.
 */
static BIGNUM *
read_jwk_number(const Document *document, const OaJsonNode *jwk,
				const char *name)
{
	const OaJsonNode *node = oa_json_member(document->text, document->nodes,
											jwk, name);
	unsigned char bytes[OA_BASE64URL_DECODED(JWK_NUMBER_MAX * 4 / 3)];
	int			length;

	if (node == NULL || node->type != OA_JSON_STRING || node->escaped ||
		node->length > JWK_NUMBER_MAX * 4 / 3)
		return NULL;
	length = oa_base64url_decode(document->text +node->start, node->length,
								 bytes);
	if (length <= 0 || bytes[0] == 0)
		return NULL;
	return BN_bin2bn(bytes, length, NULL);
}

/* Make a key of a modulus and an exponent; NULL if OpenSSL refuses. */
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
	const char *problem;

	if (modulus == NULL || exponent == NULL)
		problem = "A JWK's \"n\" or \"e\" is missing or malformed.";
	else
		problem = check_numbers(modulus, exponent);
	if (problem == NULL)
	{
		EVP_PKEY   *key = make_key(modulus, exponent);

		problem = key == NULL ? "A JWK's key cannot be used." :
			add_key(document, kid, key, NULL);
		EVP_PKEY_free(key);
	}
	BN_free(modulus);
	BN_free(exponent);
	return problem;
}

/* Is a member of a JWK missing, or this string? */
static bool
is_absent_or(const Document *document, const OaJsonNode *jwk,
			 const char *name, const char *expected)
{
	const OaJsonNode *node = oa_json_member(document->text, document->nodes,
											jwk, name);

	return node == NULL || oa_json_equals(document->text, node, expected);
}

/* Add a key from one JWK. */
static const char *
add_jwk(Document *document, const OaJsonNode *jwk)
{
	const OaJsonNode *kty;
	const OaJsonNode *kid;

	if (jwk->type != OA_JSON_OBJECT)
		return "A member of \"keys\" is not an object.";
	kty = oa_json_member(document->text, document->nodes, jwk, "kty");
	kid = oa_json_member(document->text, document->nodes, jwk, "kid");

	if (kty == NULL || !oa_json_equals(document->text, kty, "RSA"))
		return "A JWK is not an RSA key.";
	if (kid == NULL || kid->type != OA_JSON_STRING)
		return "A JWK has no key id.";
	/* RFC 7517 sections 4.2 and 4.4 */
	if (!is_absent_or(document, jwk, "alg", "RS256"))
		return "A JWK is for another algorithm than RS256.";
	if (!is_absent_or(document, jwk, "use", "sig"))
		return "A JWK is not for signatures.";
	if (oa_json_member(document->text, document->nodes, jwk, "d") != NULL)
		return "A JWK holds a private key.";
	return add_numbers(document, jwk, kid);
}

/* Read the keys of a JWK set; other members of it mean nothing to us. */
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
 * Read a document, with "nodes" for OA_JSON_NODES(length) and a NUL behind the
 * text.  Returns NULL, or what is wrong with it.  Either way the caller gives
 * the keys back with oa_free_key_document().
 */
const char *
oa_parse_key_document(const char *text, int length, OaJsonNode *nodes,
					  int64 now, int64 skew, OaKeyDocument *keys)
{
	Document	document;
	const OaJsonNode *set;
	const char *problem;

	document.text = text;

	document.nodes = nodes;
	document.now = now;
	document.skew = skew;
	document.keys = keys;
	keys->count = 0;
	problem = oa_json_parse(text, length, nodes, OA_JSON_NODES(length));
	if (problem != NULL)
		return problem;

	set = oa_json_member(text, nodes, nodes, "keys");
	if (set != NULL && set->type == OA_JSON_ARRAY)
		problem = read_jwk_set(&document, set);
	else
		problem = read_certificates(&document);
	if (problem == NULL && keys->count == 0)
		problem = "There is no key in it.";

	/* The server's own TLS must not find our errors. */
	ERR_clear_error();
	return problem;
}

/* Give the memory of the keys back. */
void
oa_free_key_document(OaKeyDocument *document)
{
	for (int i = 0; i < document->count; i++)
		OPENSSL_free(document->keys[i].public_key);
	document->count = 0;
}
