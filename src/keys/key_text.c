/*
 * key_text.c
 *		The text of API keys: their format, and making new ones.
 *
 * A secret is a prefix of overten_auth.key_prefixes, such as "sk_live_", then
 * 22 uniformly random characters of 0-9A-Za-z (131 bits), and the CRC-32 of all
 * of that as 6 more characters.  With the checksum, a scanner for leaked
 * credentials can tell a real key from a look-alike without asking anybody.
 * Verification looks only at the shape and never at the checksum, because keys
 * of the same shape that were minted elsewhere can be imported.
 *
 * A secret whose prefix is not in the list is refused.  It remains a secret,
 * because the prefix can be put into the list again.
 *
 * We clear buffers that held a secret before we release them.
 */
#include "postgres.h"

#include "access/detoast.h"
#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/pg_crc.h"

#include "keys/keys.h"
#include "server/server.h"
#include "settings.h"

#define SECRET_CHECKSUM_LEN		6
#define SECRET_RANDOM_LEN		(OA_SECRET_TAIL_LEN - SECRET_CHECKSUM_LEN)
#define SECRET_MIN				(OA_KEY_PREFIX_MIN + OA_SECRET_TAIL_LEN)
#define SECRET_MAX				(OA_KEY_PREFIX_MAX + OA_SECRET_TAIL_LEN)
#define SHOWN_LEN				4	/* characters after the prefix */

PG_FUNCTION_INFO_V1(overten_key_checksum_ok);
PG_FUNCTION_INFO_V1(overten_key_prefixes);

/*
 * Write the checksum of a secret's bytes before it: CRC-32/ISO-HDLC (as in
 * zlib) in base 62, most significant digit first, padded with "0".
 */
static void
write_checksum(const char *secret, int length, char *checksum)
{
	pg_crc32	crc;

	INIT_TRADITIONAL_CRC32(crc);
	COMP_TRADITIONAL_CRC32(crc, secret, length);
	FIN_TRADITIONAL_CRC32(crc);

	for (int i = SECRET_CHECKSUM_LEN - 1; i >= 0; i--)
	{
		checksum[i] = oa_alphabet[crc % OA_ALPHABET_LEN];
		crc /= OA_ALPHABET_LEN;
	}
}

/* Does this text have the shape of a secret that can be accepted? */
bool
oa_is_secret_shaped(const char *bytes, int length)
{
	return oa_find_key_prefix(oa_key_prefixes, bytes, length,
							  OA_SECRET_TAIL_LEN) != NULL;
}

/*
 * Does this text have the shape of such a secret's visible characters?  If so,
 * sets the environment of the key.
 */
bool
oa_is_prefix_shaped(const char *bytes, int length, OaEnvironment *environment)
{
	const OaKeyPrefix *prefix = oa_find_key_prefix(oa_key_prefixes, bytes,
												   length, SHOWN_LEN);

	if (prefix != NULL)
		*environment = prefix->environment;
	return prefix != NULL;
}

/* Can keys of this environment be minted? */
bool
oa_has_prefix(OaEnvironment environment)
{
	return oa_minting_prefix(oa_key_prefixes, environment) != NULL;
}

/* Does a secret have a slot? */
static bool
has_slot(const char *secret, int length, int slot)
{
	uint8		digest[OA_DIGEST_LEN];

	if (slot == OA_ANY_SLOT)
		return true;
	oa_digest(secret, length, digest);
	return oa_slot_of_digest(digest) == slot;
}

/*
 * Make a new secret for a key of an environment that has a prefix.  With a
 * slot, we draw 1024 times on average, which takes about 2 ms.
 */
text	   *
oa_make_secret(OaEnvironment environment, int slot)
{
	const OaKeyPrefix *prefix = oa_minting_prefix(oa_key_prefixes,
												  environment);
	int			checked_length;
	text	   *result;
	char	   *secret;

	if (prefix == NULL)
		elog(ERROR, "there is no prefix for keys of environment %d",
			 environment);

	checked_length = prefix->length + SECRET_RANDOM_LEN;
	result = palloc(VARHDRSZ + SECRET_MAX);
	SET_VARSIZE(result, VARHDRSZ + checked_length + SECRET_CHECKSUM_LEN);
	secret = VARDATA(result);
	memcpy(secret, prefix->bytes, prefix->length);
	do
	{
		CHECK_FOR_INTERRUPTS();
		oa_random_characters(secret + prefix->length, SECRET_RANDOM_LEN);
		write_checksum(secret, checked_length, secret + checked_length);
	} while (!has_slot(secret, checked_length + SECRET_CHECKSUM_LEN, slot));
	return result;
}

/* Return the visible characters of a secret. */
text	   *
oa_secret_prefix(text *secret)
{
	int			hidden = OA_SECRET_TAIL_LEN - SHOWN_LEN;

	return cstring_to_text_with_len(VARDATA_ANY(secret),
									VARSIZE_ANY_EXHDR(secret) - hidden);
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
 * have a secret's size.  We check the size before we detoast it, so that 1 GB
 * of text costs nothing.
 */
static text *
sized_argument(FunctionCallInfo fcinfo, int n)
{
	Size		size;

	if (PG_ARGISNULL(n))
		return NULL;
	size = toast_raw_datum_size(PG_GETARG_DATUM(n)) - VARHDRSZ;
	return size >= SECRET_MIN && size <= SECRET_MAX ? PG_GETARG_TEXT_PP(n) :
		NULL;
}

/* Likewise, or NULL if it is not the shape of a secret that can be accepted. */
text	   *
oa_secret_argument(FunctionCallInfo fcinfo, int n)
{
	text	   *secret = sized_argument(fcinfo, n);

	return secret != NULL &&
		oa_is_secret_shaped(VARDATA_ANY(secret),
							VARSIZE_ANY_EXHDR(secret)) ? secret : NULL;
}

/* Likewise, but with any prefix that secrets can have had. */
text	   *
oa_any_secret_argument(FunctionCallInfo fcinfo, int n)
{
	text	   *secret = sized_argument(fcinfo, n);

	return secret != NULL &&
		oa_looks_like_secret(VARDATA_ANY(secret),
							 VARSIZE_ANY_EXHDR(secret)) ? secret : NULL;
}

/*
 * overten_key_checksum_ok(key text) returns boolean
 *
 * Does the text have a key's shape, with a prefix of overten_auth.key_prefixes,
 * and the checksum that minting gives it?  Does not read any table, and does
 * not raise.  The result does not say whether the key is active.
 */
Datum
overten_key_checksum_ok(PG_FUNCTION_ARGS)
{
	char		checksum[SECRET_CHECKSUM_LEN];
	text	   *key = oa_secret_argument(fcinfo, 0);
	const char *bytes;
	int			checked_length;

	if (key == NULL)
		PG_RETURN_BOOL(false);

	bytes = VARDATA_ANY(key);
	checked_length = VARSIZE_ANY_EXHDR(key) - SECRET_CHECKSUM_LEN;
	write_checksum(bytes, checked_length, checksum);
	PG_RETURN_BOOL(memcmp(checksum, bytes + checked_length,
						  SECRET_CHECKSUM_LEN) == 0);
}

/*
 * overten_auth.key_prefixes() returns setof prefix, environment text
 *
 * Returns what is in overten_auth.key_prefixes, in the same order.
 */
Datum
overten_key_prefixes(PG_FUNCTION_ARGS)
{
	static const Oid types[] = {TEXTOID, TEXTOID};
	ReturnSetInfo *result = (ReturnSetInfo *) fcinfo->resultinfo;

	oa_begin_set(fcinfo);
	oa_require_columns(fcinfo->flinfo, result->setDesc, types,
					   lengthof(types));
	for (int i = 0; i < oa_key_prefixes->count; i++)
	{
		const OaKeyPrefix *prefix = &oa_key_prefixes->prefixes[i];
		bool		nulls[lengthof(types)] = {false};
		Datum		values[] = {
			PointerGetDatum(cstring_to_text_with_len(prefix->bytes,
													 prefix->length)),
			CStringGetTextDatum(oa_environment_name(prefix->environment)),
		};

		tuplestore_putvalues(result->setResult, result->setDesc, values,
							 nulls);
	}
	return (Datum) 0;
}
