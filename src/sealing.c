/*
 * sealing.c
 *		How a webhook secret is kept in its table.
 *
 * /verify shows a webhook secret again, so it cannot be a digest.  A sealed
 * value begins with a format byte.  Format 0 is the plain text: whoever reads
 * the table reads the secret.
 */
#include "postgres.h"

#include "utils/builtins.h"

#include "overten_auth.h"

#define FORMAT_PLAIN	0

/* Seal an org's webhook secret for storing. */
bytea	   *
oa_seal(text *org_id, text *webhook_secret)
{
	int			length = VARSIZE_ANY_EXHDR(webhook_secret);
	bytea	   *sealed = palloc(VARHDRSZ + 1 + length);

	SET_VARSIZE(sealed, VARHDRSZ + 1 + length);
	VARDATA(sealed)[0] = FORMAT_PLAIN;
	memcpy(VARDATA(sealed) + 1, VARDATA_ANY(webhook_secret), length);
	return sealed;
}

/* Open a sealed webhook secret; NULL if that is not possible. */
text	   *
oa_unseal(text *org_id, bytea *sealed)
{
	const char *bytes = VARDATA_ANY(sealed);
	int			length = VARSIZE_ANY_EXHDR(sealed);

	if (length < 1 || bytes[0] != FORMAT_PLAIN)
		return NULL;
	return cstring_to_text_with_len(bytes + 1, length - 1);
}
