/*
 * key_text.c
 *		The text of API keys: their format, and making new ones.
 *
 * A secret is "sk_live_", 22 uniformly random characters of 0-9A-Za-z (131
 * bits), and the CRC-32 of those 30 bytes as 6 more characters.  With the
 * checksum, a scanner for leaked credentials can tell a real key from a
 * look-alike without asking anybody.  Verification looks only at the shape and
 * never at the checksum, because keys of the same shape that were minted
 * elsewhere can be imported.
 *
 * We clear buffers that held a secret before we release them.
 */
#include "postgres.h"

#include "access/detoast.h"
#include "utils/builtins.h"
#include "utils/pg_crc.h"

#include "keys/keys.h"
#include "server/server.h"

#define SECRET_PREFIX			"sk_live_"
#define SECRET_PREFIX_LEN		8
#define SECRET_RANDOM_LEN		22
#define SECRET_CHECKSUM_LEN		6
#define SECRET_CHECKED_LEN		(SECRET_PREFIX_LEN + SECRET_RANDOM_LEN)

PG_FUNCTION_INFO_V1(overten_key_checksum_ok);

/*
 * Write the checksum of a secret's first 30 bytes: CRC-32/ISO-HDLC (as in
 * zlib) in base 62, most significant digit first, padded with "0".
 */
static void
write_checksum(const char *secret, char *checksum)
{
	pg_crc32	crc;

	INIT_TRADITIONAL_CRC32(crc);
	COMP_TRADITIONAL_CRC32(crc, secret, SECRET_CHECKED_LEN);
	FIN_TRADITIONAL_CRC32(crc);

	for (int i = SECRET_CHECKSUM_LEN - 1; i >= 0; i--)
	{
		checksum[i] = oa_alphabet[crc % OA_ALPHABET_LEN];
		crc /= OA_ALPHABET_LEN;
	}
}

/*
 * Does a text begin like a secret, and continue in the alphabet of secrets?
 * We compare bytes, so that no encoding can make another character pass.
 */
static bool
is_secret_like(const char *bytes, int length)
{
	if (memcmp(bytes, SECRET_PREFIX, SECRET_PREFIX_LEN) != 0)
		return false;

	for (int i = SECRET_PREFIX_LEN; i < length; i++)
	{
		char		c = bytes[i];

		if (!((c >= '0' && c <= '9') ||
			  (c >= 'A' && c <= 'Z') ||
			  (c >= 'a' && c <= 'z')))
			return false;
	}
	return true;
}

/* Does this text have a secret's shape: length, prefix and alphabet? */
bool
oa_is_secret_shaped(const char *bytes, int length)
{
	return length == OA_SECRET_LEN && is_secret_like(bytes, length);
}

/* Does this text have the shape of a secret's visible characters? */
bool
oa_is_prefix_shaped(const char *bytes, int length)
{
	return length == OA_PREFIX_LEN && is_secret_like(bytes, length);
}

/* Make a new secret. */
text	   *
oa_make_secret(void)
{
	text	   *result = palloc(VARHDRSZ + OA_SECRET_LEN);
	char	   *secret = VARDATA(result);

	SET_VARSIZE(result, VARHDRSZ + OA_SECRET_LEN);
	memcpy(secret, SECRET_PREFIX, SECRET_PREFIX_LEN);
	oa_random_characters(secret + SECRET_PREFIX_LEN, SECRET_RANDOM_LEN);
	write_checksum(secret, secret + SECRET_CHECKED_LEN);
	return result;
}

/* Compute the digest of a secret, as stored in api_keys. */
bytea	   *
oa_secret_digest(text *secret)
{
	bytea	   *digest = palloc(VARHDRSZ + OA_DIGEST_LEN);

	SET_VARSIZE(digest, VARHDRSZ + OA_DIGEST_LEN);
	oa_digest(VARDATA_ANY(secret), VARSIZE_ANY_EXHDR(secret),
			  (uint8 *) VARDATA(digest));
	return digest;
}

/*
 * Return the nth argument of a SQL function, a text, or NULL if it does not
 * have a secret's shape.  We check the size before we detoast it, so that 1 GB
 * of text costs nothing.
 */
text	   *
oa_secret_argument(FunctionCallInfo fcinfo, int n)
{
	text	   *secret;

	if (PG_ARGISNULL(n) ||
		toast_raw_datum_size(PG_GETARG_DATUM(n)) != OA_SECRET_LEN + VARHDRSZ)
		return NULL;

	secret = PG_GETARG_TEXT_PP(n);
	return oa_is_secret_shaped(VARDATA_ANY(secret),
							   VARSIZE_ANY_EXHDR(secret)) ? secret : NULL;
}

/*
 * overten_key_checksum_ok(key text) returns boolean
 *
 * Does the text have a key's shape, and the checksum that minting gives it?
 * Does not read any table, and does not raise.  The result does not say
 * whether the key is active.
 */
Datum
overten_key_checksum_ok(PG_FUNCTION_ARGS)
{
	char		checksum[SECRET_CHECKSUM_LEN];
	text	   *key = oa_secret_argument(fcinfo, 0);
	const char *bytes;

	if (key == NULL)
		PG_RETURN_BOOL(false);

	bytes = VARDATA_ANY(key);
	write_checksum(bytes, checksum);
	PG_RETURN_BOOL(memcmp(checksum, bytes + SECRET_CHECKED_LEN,
						  SECRET_CHECKSUM_LEN) == 0);
}
