/*
 * slot.c
 *		The slot of a key, an org or a person, by which they are spread over
 *		servers.
 *
 * Verification knows nothing but the digest of a secret, and all else the id of
 * the org.  So a key is drawn until its digest has the slot of its org, and the
 * two are on the same server.  The slot is the first 10 bits of a digest.  Of
 * the 131 random bits of a secret, 121 are left that nobody knows.
 *
 * How many slots there are cannot change, because keys could not be drawn anew.
 */
#include "postgres.h"

#include "access/detoast.h"
#include "fmgr.h"
#include "miscadmin.h"

#include "server/server.h"
#include "settings.h"

#define ID_MAX		1024		/* bytes */

PG_FUNCTION_INFO_V1(overten_slot_of_digest);
PG_FUNCTION_INFO_V1(overten_slot_of_text);

StaticAssertDecl(OA_SLOTS == 1024, "a slot has 10 bits");

/* Return the slot of a digest. */
int
oa_slot_of_digest(const uint8 *digest)
{
	return digest[0] << 2 | digest[1] >> 6;
}

/* Return the slot of a secret, or of the id of an org or a person. */
int
oa_slot_of_text(const text *id)
{
	uint8		digest[OA_DIGEST_LEN];

	oa_digest(VARDATA_ANY(id), (int) VARSIZE_ANY_EXHDR(id), digest);
	return oa_slot_of_digest(digest);
}

/* Make the id of an org that belongs on this server. */
text	   *
oa_make_org_id(void)
{
	text	   *id;

	do
	{
		CHECK_FOR_INTERRUPTS();
		id = oa_make_id("org_");
	} while (oa_slots->count > 0 &&
			 !oa_has_slot(oa_slots, oa_slot_of_text(id)));
	return id;
}

/*
 * overten_slot(digest bytea) returns integer
 *
 * Returns the slot of a digest.  Raises 22023 unless it has 32 bytes.  Like its
 * sibling it is declared STRICT, which its owner can change.
 */
Datum
overten_slot_of_digest(PG_FUNCTION_ARGS)
{
	bytea	   *digest;

	if (PG_ARGISNULL(0))
		PG_RETURN_NULL();
	if (toast_raw_datum_size(PG_GETARG_DATUM(0)) != VARHDRSZ + OA_DIGEST_LEN)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("digest must have 32 bytes")));
	digest = PG_GETARG_BYTEA_PP(0);
	PG_RETURN_INT32(oa_slot_of_digest((const uint8 *) VARDATA_ANY(digest)));
}

/*
 * overten_slot(id text) returns integer
 *
 * Returns the slot of the SHA-256 of a text.  Raises 22023 if it is too long to
 * be an id or a secret.
 */
Datum
overten_slot_of_text(PG_FUNCTION_ARGS)
{
	if (PG_ARGISNULL(0))
		PG_RETURN_NULL();
	if (toast_raw_datum_size(PG_GETARG_DATUM(0)) > VARHDRSZ + ID_MAX)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("id must have at most %d bytes", ID_MAX)));
	PG_RETURN_INT32(oa_slot_of_text(PG_GETARG_TEXT_PP(0)));
}
