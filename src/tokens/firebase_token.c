/*
 * firebase_token.c
 *		Verifies a Firebase ID token, and returns whom it is about.
 *
 * 	token -> size -> SHA-256 -> cache -> form (token_reader.c) -> rules
 * 		  (token_rules.c) -> signature (key_ring.c) -> expiry -> row
 *
 * If we refuse a token, a constant sentence says which rule it breaks.  The
 * message never holds a part of the token, and the statement is not logged.
 *
 * We cache a good token under its SHA-256, by the protocol of cache.c.  We
 * check everything that depends on the clock or on a setting again at each
 * use.
 */
#include "postgres.h"

#include "access/detoast.h"
#include "access/htup_details.h"
#include "catalog/pg_type.h"
#include "funcapi.h"
#include "utils/builtins.h"
#include "utils/jsonb.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "keys/keys.h"
#include "lookup/lookup.h"
#include "server/server.h"
#include "settings.h"
#include "signing_keys/signing_keys.h"
#include "standby/standby.h"
#include "text/text.h"
#include "tokens/token.h"
#include "tokens/tokens.h"

/* SQLSTATE of a good token that has expired. */
#define ERRCODE_TOKEN_EXPIRED MAKE_SQLSTATE('2', '8', 'O', 'A', '1')

enum
{
	RESULT_UID, RESULT_EMAIL, RESULT_EMAIL_VERIFIED, RESULT_NAME,
	RESULT_SIGN_IN_PROVIDER, RESULT_TENANT, RESULT_AUTH_TIME,
	RESULT_ISSUED_AT, RESULT_EXPIRES_AT, RESULT_CLAIMS, RESULT_COLUMNS
};

/* What we cache for a token that we have accepted. */
typedef struct AcceptedToken
{
	TimestampTz expires_at;
	TimestampTz not_before;
	TimestampTz key_expires_at;
	char		project_id[OA_FIREBASE_ID_MAX + 1]; /* settings that we */
	char		tenant[OA_FIREBASE_ID_MAX + 1]; /* checked it with */
	Size		length;			/* of the row */
	HeapTupleHeaderData row;	/* the result; continues to that length */
} AcceptedToken;

static TupleDesc result_descriptor = NULL;
static OaCache *tokens_cache;

PG_FUNCTION_INFO_V1(overten_verify_firebase_jwt);

/* Create the cache and the result's row type, once per backend. */
static void
prepare_result(void)
{
	static const OaColumn columns[RESULT_COLUMNS] = {
		{"uid", TEXTOID}, {"email", TEXTOID}, {"email_verified", BOOLOID},
		{"name", TEXTOID}, {"sign_in_provider", TEXTOID}, {"tenant", TEXTOID},
		{"auth_time", TIMESTAMPTZOID}, {"issued_at", TIMESTAMPTZOID},
		{"expires_at", TIMESTAMPTZOID}, {"claims", JSONBOID}
	};

	tokens_cache = oa_cache_create("tokens");
	result_descriptor = oa_make_columns(columns, RESULT_COLUMNS);
}

/*
 * Set a text column from a string.  The column is NULL if the claim is missing
 * or not a string.  Returns false if the server's encoding cannot hold it.
 */
static bool
set_text(const OaToken *token, const OaJsonNode *node, Datum *value, bool *null)
{
	text	   *string;

	*null = node == NULL || node->type != OA_JSON_STRING;
	if (*null)
		return true;
	string = oa_json_to_text(token->payload.json, node);
	if (string == NULL)
		return false;
	*value = PointerGetDatum(string);
	return true;
}

/* Set a time column from a claim that check_times() has accepted. */
static void
set_time(const OaToken *token, const char *name, Datum *value, bool *null)
{
	const OaJsonNode *node = oa_token_claim(token, name);
	TimestampTz time = 0;

	*null = node == NULL || !oa_token_time(token, node, &time);
	*value = TimestampTzGetDatum(time);
}

/*
 * Make the function's result.  Returns NULL if the server's encoding cannot
 * hold it.
 */
static HeapTuple
make_row(const OaToken *token)
{
	const OaJsonNode *verified = oa_token_claim(token, "email_verified");
	const char *sub = token->sub;
	Datum		values[RESULT_COLUMNS];
	bool		nulls[RESULT_COLUMNS] = {false};
	text	   *uid = oa_utf8_to_text(sub, strlen(sub));
	Jsonb	   *claims;

	if (uid == NULL ||
		!set_text(token, oa_token_claim(token, "email"), &values[RESULT_EMAIL],
				  &nulls[RESULT_EMAIL]) ||
		!set_text(token, oa_token_claim(token, "name"), &values[RESULT_NAME],
				  &nulls[RESULT_NAME]) ||
		!set_text(token, oa_firebase_claim(token, "sign_in_provider"),
				  &values[RESULT_SIGN_IN_PROVIDER],
				  &nulls[RESULT_SIGN_IN_PROVIDER]) ||
		!set_text(token, oa_firebase_claim(token, "tenant"),
				  &values[RESULT_TENANT], &nulls[RESULT_TENANT]))
		return NULL;
	claims = oa_json_to_jsonb(token->payload.json, token->payload.nodes);
	if (claims == NULL)
		return NULL;

	values[RESULT_UID] = PointerGetDatum(uid);
	values[RESULT_EMAIL_VERIFIED] =
		BoolGetDatum(verified != NULL && verified->type == OA_JSON_TRUE);
	nulls[RESULT_EMAIL_VERIFIED] = verified == NULL ||
		(verified->type != OA_JSON_TRUE && verified->type != OA_JSON_FALSE);
	set_time(token, "auth_time", &values[RESULT_AUTH_TIME],
			 &nulls[RESULT_AUTH_TIME]);
	set_time(token, "iat", &values[RESULT_ISSUED_AT],
			 &nulls[RESULT_ISSUED_AT]);
	values[RESULT_EXPIRES_AT] = TimestampTzGetDatum(token->expires_at);
	values[RESULT_CLAIMS] = JsonbPGetDatum(claims);
	return heap_form_tuple(result_descriptor, values, nulls);
}

/* Read a column of a result. */
static Datum
get_column(const HeapTupleData *tuple, int column, bool *isnull)
{
	return heap_getattr(unconstify(HeapTupleData *, tuple), column + 1,
						result_descriptor, isnull);
}

/* Is this column of a result equal to a string? */
static bool
column_equals(const HeapTupleData *tuple, int column, const char *string)
{
	bool		isnull;
	Datum		value = get_column(tuple, column, &isnull);

	return !isnull && strcmp(TextDatumGetCString(value), string) == 0;
}

/* Give the caller a copy of a result. */
static OaTokenStatus
return_identity(OaIdentity *identity, const HeapTupleHeaderData *row,
				Size length)
{
	HeapTupleData tuple = {.t_len = length};
	bool		isnull;
	bool		has_no_email;
	bool		verified;

	identity->row = memcpy(palloc(length), row, length);
	tuple.t_data = identity->row;
	identity->uid = DatumGetTextPP(get_column(&tuple, RESULT_UID, &isnull));
	identity->is_anonymous = column_equals(&tuple, RESULT_SIGN_IN_PROVIDER,
										   "anonymous");
	(void) get_column(&tuple, RESULT_EMAIL, &has_no_email);
	verified = DatumGetBool(get_column(&tuple, RESULT_EMAIL_VERIFIED,
									   &isnull));
	identity->has_verified_email = !has_no_email && !isnull && verified;
	return OA_TOKEN_GOOD;
}

/* Has a good token expired?  We check this last, and at each use. */
static bool
has_expired(TimestampTz expires_at, TimestampTz now)
{
	/*
	 * Firebase: exp is in the future.  RFC 7519 4.1.4: "on or after" has
	 * expired.
	 */
	return expires_at + oa_skew() <= now;
}

/*
 * Cache a good token, unless a rollback could remove the key that signed it.
 */
static void
remember(const OaToken *token, HeapTuple row, const uint8 *digest)
{
	Size		size = offsetof(AcceptedToken, row) + row->t_len;
	OaBuckets	nothing = {OA_NO_BUCKET, OA_NO_BUCKET, OA_NO_BUCKET};
	AcceptedToken *accepted;

	if (oa_cache_entries == 0 || oa_key_ring_as_of() == 0)
		return;

	accepted = palloc(size);
	accepted->expires_at = token->expires_at;
	accepted->not_before = token->not_before;
	accepted->key_expires_at = oa_signing_key_expires_at(token->key);
	strlcpy(accepted->project_id, oa_firebase_project_id,
			sizeof(accepted->project_id));
	strlcpy(accepted->tenant, oa_firebase_tenant, sizeof(accepted->tenant));
	accepted->length = row->t_len;
	memcpy(&accepted->row, row->t_data, row->t_len);
	oa_cache_store(tokens_cache, digest, accepted, size,
				   oa_key_ring_as_of(), nothing);
}

/* Check a token whose form is right, and set the result. */
static OaTokenStatus
judge_token(OaToken *token, const uint8 *digest, OaIdentity *identity)
{
	HeapTuple	row;

	if (!oa_check_token(token) || !oa_check_signature(token))
		return OA_TOKEN_INVALID;
	if (has_expired(token->expires_at, token->now))
		return OA_TOKEN_EXPIRED;

	row = make_row(token);
	if (row == NULL)
	{
		oa_refuse_token(token, "A claim has a character that the database's encoding does not have.");
		return OA_TOKEN_INVALID;
	}
	remember(token, row, digest);
	return return_identity(identity, row->t_data, row->t_len);
}

/* Check a token that is not in the cache. */
static OaTokenStatus
check_token(const char *text, int length, TimestampTz now,
			const uint8 *digest, OaIdentity *identity)
{
	OaToken		token;
	OaTokenStatus status = OA_TOKEN_INVALID;

	if (oa_open_token(&token, text, length) && oa_decode_token(&token))
	{
		token.now = now;
		status = judge_token(&token, digest, identity);
	}
	identity->detail = token.detail;
	return status;
}

/*
 * Is this a standby that may not verify?  Ask this before anything else is
 * looked at.
 */
static bool
is_unfit_standby(OaIdentity *identity)
{
	if (oa_may_verify())
		return false;
	if (oa_verify_on_standby)
	{
		identity->detail = oa_standby_lag_detail();
		identity->hint = oa_standby_lag_hint();
	}
	else
	{
		identity->detail = "A standby learns that a signing key was withdrawn only when it replays it.";
		identity->hint = "Verify on the primary, or set overten_auth.verify_on_standby.";
	}
	return true;
}

/*
 * Is it impossible to verify any token at the moment?  A cached token had a
 * key; for other tokens we check that there is one.
 */
static bool
is_unavailable(bool cached, TimestampTz now, OaIdentity *identity)
{
	/* Without this check, an empty aud would match. */
	if (oa_firebase_project_id[0] == '\0')
	{
		identity->detail = "No Firebase project is configured.";
		identity->hint = "Set overten_auth.firebase_project_id, and connect again.";
		return true;
	}
	if (!cached && !oa_has_signing_key(now))
	{
		identity->detail = "There is no unexpired signing key.";
		identity->hint = "Load Google's published keys with overten_load_signing_keys(), or have them fetched with overten_refresh_signing_keys().";
		return true;
	}
	return false;
}

/*
 * Verify a token, and return whom it is about.  Does not raise if it refuses
 * the token.  See OaIdentity for what *identity holds afterwards.
 */
OaTokenStatus
oa_verify_token(const char *token, int length, OaIdentity *identity)
{
	TimestampTz now = GetCurrentTimestamp();
	uint8		digest[OA_DIGEST_LEN];
	AcceptedToken *accepted = NULL;

	memset(identity, 0, sizeof(OaIdentity));
	if (result_descriptor == NULL)
		prepare_result();
	if (is_unfit_standby(identity))
		return OA_TOKEN_UNAVAILABLE;

	if (oa_cache_entries > 0 && length <= OA_TOKEN_MAX)
	{
		oa_digest(token, length, digest);
		accepted = oa_cache_find(tokens_cache, digest);
	}
	if (accepted != NULL &&
		(strcmp(accepted->project_id, oa_firebase_project_id) != 0 ||
		 strcmp(accepted->tenant, oa_firebase_tenant) != 0 ||
		 accepted->key_expires_at <= now ||
		 accepted->not_before > now + oa_skew()))
		accepted = NULL;

	if (is_unavailable(accepted != NULL, now, identity))
		return OA_TOKEN_UNAVAILABLE;
	if (accepted == NULL)
		return check_token(token, length, now, digest, identity);
	if (has_expired(accepted->expires_at, now))
		return OA_TOKEN_EXPIRED;
	return return_identity(identity, &accepted->row, accepted->length);
}

/* Raise the error for a token that oa_verify_token() did not accept. */
pg_noreturn static void
refuse_token(OaTokenStatus status, const OaIdentity *identity)
{
	if (status == OA_TOKEN_EXPIRED)
		ereport(ERROR,
				(errcode(ERRCODE_TOKEN_EXPIRED),
				 errmsg("Firebase ID token has expired"),
				 errhint("The app that signed the user in can get a new token from Firebase.")));
	if (status == OA_TOKEN_UNAVAILABLE)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("Firebase ID tokens cannot be verified"),
				 errdetail_internal("%s", identity->detail),
				 errhint("%s", identity->hint)));
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_AUTHORIZATION_SPECIFICATION),
			 errmsg("invalid Firebase ID token"),
			 errdetail_internal("%s", identity->detail),
			 errhint("Pass the ID token of a user who has signed in to the project that overten_auth.firebase_project_id names.")));
}

/*
 * overten_verify_firebase_jwt(token text) returns overten_auth.verified_token
 *
 * Raises 28OA1 if the token is good except that it has expired, 28000 for any
 * other refusal, and 55000 if tokens cannot be verified, because there is no
 * project or no signing key, or on a standby.
 */
Datum
overten_verify_firebase_jwt(PG_FUNCTION_ARGS)
{
	static OaCheckedType checked_type;
	Datum		argument = PG_GETARG_DATUM(0);
	ErrorContextCallback secrecy;
	OaIdentity	identity;
	OaTokenStatus status;

	/*
	 * STRICT rules out NULL, but somebody may declare the function without
	 * it.
	 */
	if (PG_ARGISNULL(0))
		PG_RETURN_NULL();
	oa_secrecy_begin(&secrecy);

	/* Check the size before detoasting, so that we do not even read 1 GB. */
	if (toast_raw_datum_size(argument) > OA_TOKEN_MAX + VARHDRSZ)
		status = oa_verify_token(NULL, OA_TOKEN_MAX + 1, &identity);
	else
	{
		text	   *token = DatumGetTextPP(argument);

		status = oa_verify_token(VARDATA_ANY(token), VARSIZE_ANY_EXHDR(token),
								 &identity);
	}
	if (status != OA_TOKEN_GOOD)
		refuse_token(status, &identity);
	oa_set_row_type(identity.row, result_descriptor, fcinfo->flinfo,
					&checked_type);
	oa_secrecy_end(&secrecy);
	PG_RETURN_HEAPTUPLEHEADER(identity.row);
}
