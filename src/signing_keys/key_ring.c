/*
 * key_ring.c
 *		The signing keys of a backend, parsed and ready for use.
 *
 * OpenSSL takes longer to parse a public key than to check a signature with
 * it.  So we parse each key once, and keep it with a context in which
 * everything but the signature is set.  The ring holds the whole of
 * signing_keys, which is a few rows.  So we need not look at the table for an
 * unknown key id, and we know whether there is any key at all.
 *
 * The ring follows the protocol of cache.c.  Before each use we accept the
 * invalidation messages that are waiting.  If everything may have changed
 * since the ring was read, we read the rows again.  A key whose row has not
 * changed stays parsed; we free the others.  If the ring holds rows that our
 * own open transaction has written, we read it again at each use.
 *
 * An entry of the ring owns OpenSSL's objects before anything can raise.
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
	bool		listed;			/* was it in the table at the last read? */
	int			kid_length;
	char	   *kid;			/* UTF-8 */
	bytea	   *public_key;		/* what "key" was parsed from */
	TimestampTz expires_at;
	EVP_PKEY   *key;			/* NULL if we cannot use it */
	EVP_PKEY_CTX *context;		/* checks signatures with the key */
};

static dlist_head ring = DLIST_STATIC_INIT(ring);

/* The clock before the ring was read, or 0 to read it again. */
static uint64 ring_as_of = 0;

/*
 * Create a context that checks RS256 signatures.  Returns NULL if OpenSSL
 * cannot.
 */
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
 * Parse the key of an entry.  If somebody has inserted a key by hand that
 * overten_load_signing_keys() would reject, we do not use it.
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

/* Remove an entry, and free everything that it owns. */
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

/*
 * Find the entry with exactly this id and key.  Returns NULL if there is none.
 */
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

/*
 * Return the entry for a row.  Adds an entry if there is none.  Returns NULL if
 * no token can name the key.
 */
static OaSigningKey *
hold_key(const OaSigningKeyRow *row)
{
	int			kid_length;
	char	   *kid = oa_server_to_utf8(VARDATA_ANY(row->kid),
										VARSIZE_ANY_EXHDR(row->kid),
										&kid_length);
	OaSigningKey *held;
	MemoryContext caller;

	if (kid == NULL)
		return NULL;
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

/* Make the ring match the table. */
static void
read_ring(void)
{
	OaRead		read;
	List	   *rows;
	ListCell   *cell;
	dlist_iter	unlisted;
	dlist_mutable_iter iter;
	bool		own = false;

	ring_as_of = 0;
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

		own = own || row->own;
		if (held == NULL)
			continue;
		held->listed = true;
		held->expires_at = row->expires_at;
	}
	dlist_foreach_modify(iter, &ring)
	{
		OaSigningKey *held = dlist_container(OaSigningKey, node, iter.cur);

		if (!held->listed)
			release_key(held);
	}

	if (!own)
		ring_as_of = read.as_of;
}

/*
 * Return the clock before the ring was read, for oa_cache_store().
 * Returns 0 if the caller must not store anything that depends on the ring.
 */
uint64
oa_key_ring_as_of(void)
{
	return ring_as_of;
}

/* Bring the ring up to date. */
static void
refresh_ring(void)
{
	if (ring_as_of == 0 || ring_as_of < oa_latest_all_changed())
		read_ring();
}

/* Can we use this key now? */
static bool
is_current(const OaSigningKey *held, TimestampTz now)
{
	return held->context != NULL && held->expires_at > now;
}

/* Is there a signing key that has not expired? */
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
 * Find the unexpired signing key with this id (UTF-8, compared byte for byte).
 * *key is valid until the next call.
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
		return is_current(held, now) ? OA_SIGNING_KEY_FOUND : OA_SIGNING_KEY_EXPIRED;
	}
	return OA_SIGNING_KEY_UNKNOWN;
}

/*
 * Return the time from which we no longer accept a key and the tokens that it
 * has signed.
 */
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

	/*
	 * RFC 8017 section 8.2.2 step 1: the signature is as long as the modulus.
	 */
	if (signature_length != EVP_PKEY_get_size(key->key))
		return false;

	oa_digest(message, message_length, digest);
	good = EVP_PKEY_verify(key->context, signature, signature_length,
						   digest, sizeof(digest)) == 1;
	if (!good)
		ERR_clear_error();		/* the server's own TLS must not find it */
	return good;
}
