/*
 * webhook_signature.c
 *		Signs webhooks by the rules of Standard Webhooks 1.0.0.
 *
 * We sign the id of the message, the time and the body, with dots between
 * them.  The signature is an HMAC-SHA256; its key is the bytes that the secret
 * holds in base64.  During the grace period of a rotation there is a signature
 * for each of the two secrets, so that a receiver may have either.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "common/base64.h"
#include "lib/stringinfo.h"
#include "mb/pg_wchar.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

#include "orgs/orgs.h"
#include "sealing/sealing.h"
#include "server/server.h"

#define MESSAGE_ID_MAX	256		/* bytes */
#define BODY_MAX		(16 * 1024 * 1024)	/* far more than receivers accept */
#define CENTURY			INT64CONST(3155760000)	/* seconds */
#define SECRET_PREFIX	"whsec_"
#define SIGNATURE_LEN	32		/* SHA-256 */

PG_FUNCTION_INFO_V1(overten_sign_webhook);
PG_FUNCTION_INFO_V1(overten_sign_webhook_bytes);

/*
 * Raise 22023 unless the id can be part of a header and has no dot.  With a
 * dot, the end of the id could be taken for the time, and the time for the
 * beginning of the body.
 */
static void
check_message_id(text *message_id)
{
	const char *bytes = VARDATA_ANY(message_id);
	int			length = VARSIZE_ANY_EXHDR(message_id);
	bool		good = length >= 1 && length <= MESSAGE_ID_MAX;

	for (int i = 0; good && i < length; i++)
		good = bytes[i] > ' ' && bytes[i] <= '~' && bytes[i] != '.';
	if (!good)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("message_id must have 1 to %d printable ASCII characters, without spaces and dots",
						MESSAGE_ID_MAX)));
}

/* Read the sealed secrets that an org's webhooks are signed with. */
static void
read_secrets(text *org_id, bytea **sealed, bytea **previous_sealed)
{
	static OaStatement find = {
		.table = "orgs",
		.latest = true,
		.text = "SELECT webhook_secret_sealed, "
		"CASE WHEN " OA_PREVIOUS_STILL_SIGNS " "
		"THEN previous_webhook_secret_sealed END FROM overten_auth.orgs "
		"WHERE org_id = $1 AND erased_at IS NULL",
		.argtypes = {TEXTOID},
	};
	Datum		values[] = {PointerGetDatum(org_id)};
	int			level = oa_statements_begin();

	if (oa_statement_run(&find, values, NULL) == 0)
		oa_org_missing(org_id);
	*sealed = (bytea *) oa_statement_varlena(0, 1, BYTEAOID);
	*previous_sealed =
		(bytea *) oa_statement_varlena_or_null(0, 2, BYTEAOID);
	oa_statements_end(level);
}

/* Decode the bytes in a secret.  Returns NULL if the secret is malformed. */
static bytea *
decode_secret(text *secret)
{
	int			prefix_length = (int) strlen(SECRET_PREFIX);
	const char *bytes = VARDATA_ANY(secret);
	int			length = VARSIZE_ANY_EXHDR(secret);
	bytea	   *key = palloc(VARHDRSZ + pg_b64_dec_len(length));
	int			decoded;

	if (length <= prefix_length ||
		memcmp(bytes, SECRET_PREFIX, prefix_length) != 0)
		return NULL;
	decoded = pg_b64_decode(bytes + prefix_length, length - prefix_length,
							(void *) VARDATA(key), pg_b64_dec_len(length));
	if (decoded < 1)
		return NULL;
	SET_VARSIZE(key, VARHDRSZ + decoded);
	return key;
}

/*
 * Append a signature to the list.  Returns NULL, or in a sentence why we cannot
 * use the secret.
 */
static const char *
append_signature(StringInfo list, text *org_id, bytea *sealed, bytea *message)
{
	text	   *secret = oa_unseal(org_id, sealed);
	bytea	   *key = secret != NULL ? decode_secret(secret) : NULL;
	bytea	   *signature;
	char		encoded[2 * SIGNATURE_LEN];
	int			length;

	if (secret != NULL)
		explicit_bzero(VARDATA_ANY(secret), VARSIZE_ANY_EXHDR(secret));
	if (secret == NULL)
		return "It does not open: its master key is missing, or it has been altered.";
	if (key == NULL)
		return "It is not in the form of Standard Webhooks, whsec_ and base64.";

	signature = oa_hmac_sha256(key, message);
	explicit_bzero(VARDATA(key), VARSIZE(key) - VARHDRSZ);
	length = pg_b64_encode((const void *) VARDATA_ANY(signature),
						   VARSIZE_ANY_EXHDR(signature), encoded,
						   sizeof(encoded));
	if (length < 0)
		elog(ERROR, "could not encode a signature");
	appendStringInfo(list, "%sv1,%.*s", list->len > 0 ? " " : "", length,
					 encoded);
	return NULL;
}

/*
 * Raise 22023 if this cannot be the time of a message, because it is in
 * milliseconds, for example.
 */
static void
check_time(int64 seconds)
{
	int64		now = timestamptz_to_time_t(GetCurrentTimestamp());

	if (seconds < 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("timestamp must not be negative")));
	if (seconds < now - CENTURY || seconds > now + CENTURY)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("timestamp must be within 100 years of now"),
				 errdetail("It is in seconds since 1970."),
				 errhint("Divide milliseconds by 1000.")));
}

/*
 * Return the body, which must not be NULL.  Raises 22023 if it is too long,
 * because signing it would take a while and cannot be canceled.
 */
static const char *
body_argument(FunctionCallInfo fcinfo, int *length)
{
	const char *bytes;

	oa_require_argument(fcinfo, 3, "body");
	if (!oa_bounded_argument(fcinfo, 3, BODY_MAX, &bytes, length))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("body must not have more than %d bytes", BODY_MAX)));
	return bytes;
}

/* Sign a message with this body. */
static Datum
sign(FunctionCallInfo fcinfo, const char *body, int body_length)
{
	text	   *org_id = oa_text_argument(fcinfo, 0, "org_id");
	text	   *message_id = oa_text_argument(fcinfo, 1, "message_id");
	StringInfoData message;
	StringInfoData list;
	bytea	   *sealed;
	bytea	   *previous_sealed;
	const char *problem;

	check_message_id(message_id);
	oa_require_argument(fcinfo, 2, "timestamp");
	check_time(PG_GETARG_INT64(2));

	/* A StringInfo that begins with a varlena header is a bytea. */
	initStringInfo(&message);
	appendStringInfoSpaces(&message, VARHDRSZ);
	appendBinaryStringInfo(&message, VARDATA_ANY(message_id),
						   VARSIZE_ANY_EXHDR(message_id));
	appendStringInfo(&message, "." INT64_FORMAT ".", PG_GETARG_INT64(2));
	appendBinaryStringInfo(&message, body, body_length);
	SET_VARSIZE(message.data, message.len);

	read_secrets(org_id, &sealed, &previous_sealed);
	initStringInfo(&list);
	problem = append_signature(&list, org_id, sealed, (bytea *) message.data);
	if (problem != NULL)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("the webhook secret of org \"%s\" cannot be used",
						text_to_cstring(org_id)),
				 errdetail_internal("%s", problem),
				 errhint("Add a missing master key to the file that overten_auth.master_key_file names, or make a new secret with overten_rotate_webhook_secret().")));
	if (previous_sealed != NULL)
		(void) append_signature(&list, org_id, previous_sealed,
								(bytea *) message.data);
	PG_RETURN_TEXT_P(cstring_to_text_with_len(list.data, list.len));
}

/*
 * overten_sign_webhook(org_id text, message_id text, "timestamp" bigint,
 * 						body text)
 * 		returns text
 *
 * Returns the value of the header webhook-signature.  The time is in seconds
 * since 1970, as in the header webhook-timestamp.  The body is signed in
 * UTF-8.  Errors: 22004, 22023 for the id, the time or the body's length,
 * 42704, 55000 the secret cannot be unsealed.
 */
Datum
overten_sign_webhook(PG_FUNCTION_ARGS)
{
	int			length;
	const char *bytes = body_argument(fcinfo, &length);
	char	   *utf8 = pg_server_to_any(bytes, length, PG_UTF8);

	return sign(fcinfo, utf8, utf8 == bytes ? length : (int) strlen(utf8));
}

/* Likewise, with a body of type bytea, which is signed unchanged. */
Datum
overten_sign_webhook_bytes(PG_FUNCTION_ARGS)
{
	int			length;
	const char *bytes = body_argument(fcinfo, &length);

	return sign(fcinfo, bytes, length);
}
