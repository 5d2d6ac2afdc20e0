/*
 * random.c
 *		Draws random bytes from the server's strong source, and makes text
 *		from them.
 *
 * We clear buffers that held a secret before we release them.
 */
#include "postgres.h"

#include "common/base64.h"
#include "utils/builtins.h"

#include "server/server.h"

#define WEBHOOK_SECRET_PREFIX	"whsec_"
#define WEBHOOK_SECRET_BYTES	24	/* Standard Webhooks demands 24 to 64 */

const char	oa_alphabet[OA_ALPHABET_LEN + 1] =
"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

/*
 * The largest multiple of 62 in a byte.  If we used 248 and above, "0" to "7"
 * would be more frequent than other characters.
 */
#define UNBIASED_LIMIT			(256 - 256 % OA_ALPHABET_LEN)

/* Fill a buffer from the server's strong random source.  Raises on failure. */
void
oa_draw_random(void *bytes, size_t length)
{
	if (!pg_strong_random(bytes, length))
		ereport(ERROR,
				(errcode(ERRCODE_INTERNAL_ERROR),
				 errmsg("could not generate random values")));
}

/* Fill a buffer with uniformly random characters of the alphabet. */
void
oa_random_characters(char *buffer, int length)
{
	uint8		bytes[64];
	int			used = sizeof(bytes);

	for (int i = 0; i < length;)
	{
		if (used == sizeof(bytes))
		{
			oa_draw_random(bytes, sizeof(bytes));
			used = 0;
		}
		if (bytes[used] < UNBIASED_LIMIT)
			buffer[i++] = oa_alphabet[bytes[used] % OA_ALPHABET_LEN];
		used++;
	}
	explicit_bzero(bytes, sizeof(bytes));
}

/* Make a new random id: the prefix and 20 characters (119 bits). */
text	   *
oa_make_id(const char *prefix)
{
	char		id[OA_ID_LEN];
	int			prefix_length = (int) strlen(prefix);

	Assert(prefix_length < OA_ID_LEN);
	memcpy(id, prefix, prefix_length);
	oa_random_characters(id + prefix_length, OA_ID_LEN - prefix_length);
	return cstring_to_text_with_len(id, OA_ID_LEN);
}

/* Make a new webhook secret in the format of Standard Webhooks. */
text	   *
oa_make_webhook_secret(void)
{
	uint8		bytes[WEBHOOK_SECRET_BYTES];
	char		secret[64] = WEBHOOK_SECRET_PREFIX;
	int			prefix_length = (int) strlen(secret);
	int			encoded;
	text	   *result;

	oa_draw_random(bytes, sizeof(bytes));
	encoded = pg_b64_encode((const void *) bytes, sizeof(bytes),
							secret + prefix_length,
							(int) sizeof(secret) - prefix_length);
	if (encoded < 0)
		elog(ERROR, "could not encode a webhook secret");

	result = cstring_to_text_with_len(secret, prefix_length + encoded);
	explicit_bzero(bytes, sizeof(bytes));
	explicit_bzero(secret, sizeof(secret));
	return result;
}
