/*
 * key_ring.c
 *		The signing keys of a backend, parsed and ready for use.
 *
 * OpenSSL takes longer to parse a public key than to check a signature with
 * it, so each key is parsed once and kept with a context in which everything
 * but the signature is set.  The ring holds the whole of signing_keys, a few
 * rows: so an unknown key id costs no look at the table, and whether there is
 * any key at all is known.
 *
 * The ring follows the protocol of cache.c: before each use the messages that
 * wait are accepted, and if the generation has moved, the rows are read again.
 * A key that is still there unchanged stays parsed; one that is not is freed.
 * A ring that holds rows of the own, still open transaction is read again at
 * each use.
 *
 * OpenSSL's objects are owned by an entry of the ring before anything can
 * raise.
 */
#include "postgres.h"

#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/rsa.h>
#include <openssl/x509.h>

#include "lib/ilist.h"
#include "mb/pg_wchar.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "lookup/lookup.h"
#include "server/server.h"
#include "signing_keys/fetch.h"
#include "signing_keys/signing_keys.h"

struct OaSigningKey
{
	dlist_node	node;
	bool		listed;			/* in the table, when it was last read */
	int			kid_length;
	char	   *kid;			/* UTF-8 */
	bytea	   *public_key;		/* what "key" was parsed from */
	TimestampTz expires_at;
	EVP_PKEY   *key;			/* NULL if it is not usable */
	EVP_PKEY_CTX *context;		/* for checking signatures with it */
};

static dlist_head ring = DLIST_STATIC_INIT(ring);

/* What the ring was read under; 0 if it is to be read again. */
static uint64 ring_generation = 0;

/* A context that checks RS256 signatures; NULL if OpenSSL has none. */
static EVP_PKEY_CTX *
make_context(EVP_PKEY *key)
{
	EVP_PKEY_CTX *context = EVP_PKEY_CTX_new_from_pkey(NULL, key, NULL);

	/* RFC 7518 section 3.3: RSASSA-PKCS1-v1_5 with SHA-256, nothing else. */
	if (context != NULL &&
		EVP_PKEY_verify_init(context) == 1 &&
		EVP_PKEY_CTX_set_rsa_padding(context, RSA_PKCS1_PADDING) == 1 &&
		EVP_PKEY_CTX_set_signature_md(context, EVP_sha256()) == 1)
		return context;
	EVP_PKEY_CTX_free(context);
	return NULL;
}

/*
 * Parse the key of an entry.  One that somebody has put into the table by hand
 * and that overten_load_signing_keys() would refuse is not used.
 */
static void
parse_key(OaSigningKey *held)
{
	const unsigned char *at = (const unsigned char *) VARDATA_ANY(held->public_key);
	const unsigned char *end = at + VARSIZE_ANY_EXHDR(held->public_key);

	held->key = d2i_PUBKEY(NULL, &at, end - at);
	if (held->key != NULL && at == end &&
		oa_check_signing_key(held->key) == OA_NO_FLAW)
		held->context = make_context(held->key);
	ERR_clear_error();
}

/* Take an entry out and free all that it owns. */
static void
release_key(OaSigningKey *held)
{
	dlist_delete(&held->node);
	EVP_PKEY_CTX_free(held->context);
	EVP_PKEY_free(held->key);
	pfree(held->kid);
	pfree(held->public_key);
	pfree(held);
}

/* The entry of exactly this id and key, or NULL. */
static OaSigningKey *
find_held(const char *kid, int kid_length, const bytea *public_key)
{
	dlist_iter	iter;

	dlist_foreach(iter, &ring)
	{
		OaSigningKey *held = dlist_container(OaSigningKey, node, iter.cur);

		if (held->kid_length == kid_length &&
			memcmp(held->kid, kid, kid_length) == 0 &&
			VARSIZE(held->public_key) == VARSIZE(public_key) &&
			memcmp(held->public_key, public_key, VARSIZE(public_key)) == 0)
			return held;
	}
	return NULL;
}

/* Add a row to the ring, or find that it is there. */
static OaSigningKey *
hold_key(const OaSigningKeyRow *row)
{
	const char *server_kid = VARDATA_ANY(row->kid);
	int			kid_length = VARSIZE_ANY_EXHDR(row->kid);
	char	   *kid = pg_server_to_any(server_kid, kid_length, PG_UTF8);
	OaSigningKey *held;
	MemoryContext caller;

	if (kid != server_kid)
		kid_length = strlen(kid);
	held = find_held(kid, kid_length, row->public_key);
	if (held != NULL)
		return held;

	caller = MemoryContextSwitchTo(TopMemoryContext);
	held = palloc0(sizeof(OaSigningKey));
	held->kid_length = kid_length;
	held->kid = pnstrdup(kid, kid_length);
	held->public_key = palloc(VARSIZE(row->public_key));
	memcpy(held->public_key, row->public_key, VARSIZE(row->public_key));
	MemoryContextSwitchTo(caller);

	dlist_push_tail(&ring, &held->node);
	parse_key(held);
	return held;
}

/* Make the ring hold what the table holds now. */
static void
read_ring(void)
{
	OaRead		read;
	List	   *rows;
	ListCell   *cell;
	dlist_iter	unlisted;
	dlist_mutable_iter iter;
	bool		own = false;

	ring_generation = 0;
	oa_store_begin_read(&read, OA_SIGNING_KEYS);
	rows = oa_store_read_signing_keys(&read);
	oa_store_end_read(&read);

	dlist_foreach(unlisted, &ring)
	{
		dlist_container(OaSigningKey, node, unlisted.cur)->listed = false;
	}
	foreach(cell, rows)
	{
		const OaSigningKeyRow *row = lfirst(cell);
		OaSigningKey *held = hold_key(row);

		held->listed = true;
		held->expires_at = row->expires_at;
		own = own || row->own;
	}
	dlist_foreach_modify(iter, &ring)
	{
		OaSigningKey *held = dlist_container(OaSigningKey, node, iter.cur);

		if (!held->listed)
			release_key(held);
	}

	if (!own)
		ring_generation = read.generation;
}

/*
 * What the ring was read under, for oa_cache_store(); 0 if nothing that
 * depends on it may be stored.
 */
uint64
oa_key_ring_generation(void)
{
	return ring_generation;
}

/* Bring the ring up to date. */
static void
refresh_ring(void)
{
	if (ring_generation == 0 ||
		ring_generation != oa_latest_generation())
		read_ring();
}

/* Can a key be used now? */
static bool
is_current(const OaSigningKey *held, TimestampTz now)
{
	return held->context != NULL && held->expires_at > now;
}

/* Is there any signing key that has not expired? */
bool
oa_has_signing_key(TimestampTz now)
{
	dlist_iter	iter;

	refresh_ring();
	dlist_foreach(iter, &ring)
	{
		if (is_current(dlist_container(OaSigningKey, node, iter.cur), now))
			return true;
	}
	return false;
}

/*
 * Find the signing key with this id (UTF-8, byte for byte) that has not
 * expired.  *key is valid until the next call.
 */
OaSigningKeyLookup
oa_find_signing_key(const char *kid, TimestampTz now, OaSigningKey **key)
{
	size_t		kid_length = strlen(kid);
	dlist_iter	iter;

	refresh_ring();
	dlist_foreach(iter, &ring)
	{
		OaSigningKey *held = dlist_container(OaSigningKey, node, iter.cur);

		if (held->kid_length != kid_length ||
			memcmp(held->kid, kid, kid_length) != 0 || held->context == NULL)
			continue;
		*key = held;
		return is_current(held, now) ? OA_KEY_FOUND : OA_KEY_EXPIRED;
	}
	return OA_KEY_UNKNOWN;
}

/* From when on a key, and what it has signed, is not to be accepted. */
TimestampTz
oa_signing_key_expires_at(const OaSigningKey *key)
{
	return key->expires_at;
}

/* Is this the key's RS256 signature of the message? */
bool
oa_signature_is_good(OaSigningKey *key, const char *message, int message_length,
					 const unsigned char *signature, int signature_length)
{
	uint8		digest[OA_DIGEST_LEN];
	bool		good;

	/* RFC 8017 section 8.2.2 step 1: as long as the modulus. */
	if (signature_length != EVP_PKEY_get_size(key->key))
		return false;

	oa_digest(message, message_length, digest);
	good = EVP_PKEY_verify(key->context, signature, signature_length,
						   digest, sizeof(digest)) == 1;
	if (!good)
		ERR_clear_error();		/* the server's TLS must not find them */
	return good;
}
