/*
 * firebase_token.c
 *		The rules of Firebase ID tokens, and the function that applies them.
 *
 *	token -> size -> cache -> form -> JSON -> header -> claims -> key
 *		  -> signature -> expiry -> row
 *
 * The rules are those of Firebase's page "Verify ID tokens" (below: Firebase),
 * with the RFCs where it is silent.  All but one are looked at before the
 * signature, the cheap ones first; only whether the token has expired is said
 * afterwards, so that "expired" is never said of a token that nobody signed.
 *
 * A token of another Firebase project is signed with the very same keys: that
 * aud and iss name our project is the whole defence against it.
 *
 * A refusal says which rule is broken, in a constant sentence.  It never holds
 * a part of the token, and its statement does not reach the log.
 *
 * A good token is cached under its SHA-256, by the protocol of cache.c; what
 * depends on the clock or on a setting is looked at again on every use.
 */
#include "postgres.h"

#include <math.h>

#include "access/detoast.h"
#include "access/htup_details.h"
#include "access/xlog.h"
#include "catalog/pg_type.h"
#include "funcapi.h"
#include "mb/pg_wchar.h"
#include "utils/builtins.h"
#include "utils/jsonb.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "overten_auth.h"

#define ISSUER_PREFIX "https://securetoken.google.com/"

/* SQLSTATE of a good token that has expired. */
#define ERRCODE_TOKEN_EXPIRED MAKE_SQLSTATE('2', '8', 'O', 'A', '1')

/* Seconds from 1970 to 2000, and the last one of the year 9999. */
#define POSTGRES_EPOCH_SECONDS \
	((POSTGRES_EPOCH_JDATE - UNIX_EPOCH_JDATE) * (int64) SECS_PER_DAY)
#define LAST_SECOND INT64CONST(253402300799)

enum
{
	RESULT_UID, RESULT_EMAIL, RESULT_EMAIL_VERIFIED, RESULT_NAME,
	RESULT_SIGN_IN_PROVIDER, RESULT_TENANT, RESULT_AUTH_TIME,
	RESULT_ISSUED_AT, RESULT_EXPIRES_AT, RESULT_CLAIMS, RESULT_COLUMNS
};

enum
{
	SEGMENT_HEADER, SEGMENT_PAYLOAD, SEGMENT_SIGNATURE
};

/* A segment that is JSON, decoded and parsed. */
typedef struct JsonSegment
{
	char	   *text;
	OaJsonNode *nodes;			/* the first is the object */
} JsonSegment;

/* A token that is being looked at. */
typedef struct Token
{
	const char *text;
	int			signed_length;	/* of the first two segments and their dot */
	JsonSegment header;
	JsonSegment payload;
	unsigned char *signature;
	int			signature_length;
	OaJwt	   *jwt;			/* the same as libjwt decodes it */

	TimestampTz now;
	TimestampTz expires_at;
	TimestampTz not_before;		/* the latest of iat, auth_time and nbf */
	OaHeldKey  *key;
	OaIdentity *identity;		/* where the outcome goes */
} Token;

/* What is cached of a token that was good when it was checked. */
typedef struct AcceptedToken
{
	TimestampTz expires_at;
	TimestampTz not_before;
	TimestampTz key_expires_at;
	char		project_id[OA_PROJECT_ID_MAX + 1];	/* that it is for */
	Size		length;			/* of the row */
	HeapTupleHeaderData row;	/* the result; continues to that length */
} AcceptedToken;

static TupleDesc result_descriptor = NULL;
static OaCache *tokens_cache;

PG_FUNCTION_INFO_V1(overten_verify_firebase_jwt);

/* Set up, once per backend, what outlives the calls. */
static void
prepare(void)
{
	static const struct
	{
		const char *name;
		Oid			type;
	}			columns[RESULT_COLUMNS] = {
		{"uid", TEXTOID}, {"email", TEXTOID}, {"email_verified", BOOLOID},
		{"name", TEXTOID}, {"sign_in_provider", TEXTOID}, {"tenant", TEXTOID},
		{"auth_time", TIMESTAMPTZOID}, {"issued_at", TIMESTAMPTZOID},
		{"expires_at", TIMESTAMPTZOID}, {"claims", JSONBOID}
	};
	MemoryContext caller = MemoryContextSwitchTo(TopMemoryContext);
	TupleDesc	descriptor = CreateTemplateTupleDesc(RESULT_COLUMNS);

	for (int i = 0; i < RESULT_COLUMNS; i++)
		TupleDescInitEntry(descriptor, i + 1, columns[i].name,
						   columns[i].type, -1, 0);
	tokens_cache = oa_cache_create("tokens");
	result_descriptor = BlessTupleDesc(descriptor);
	MemoryContextSwitchTo(caller);
}

/* Note why a token is refused.  Returns false, for the rules below. */
static bool
refuse(Token *token, const char *detail)
{
	token->identity->detail = detail;
	return false;
}

/* A member of the payload's object, or NULL. */
static const OaJsonNode *
claim(const Token *token, const char *name)
{
	return oa_json_member(token->payload.text, token->payload.nodes,
						  token->payload.nodes, name);
}

/* A member of the payload's "firebase" object, or NULL. */
static const OaJsonNode *
firebase_claim(const Token *token, const char *name)
{
	const OaJsonNode *firebase = claim(token, "firebase");

	if (firebase == NULL || firebase->type != OA_JSON_OBJECT)
		return NULL;
	return oa_json_member(token->payload.text, token->payload.nodes,
						  firebase, name);
}

/* Is a string of libjwt's there, and does it begin so? */
static bool
begins_with(const char *string, const char *prefix)
{
	return string != NULL && strncmp(string, prefix, strlen(prefix)) == 0;
}

/* Is a string of libjwt's there, and is it this? */
static bool
equals(const char *string, const char *expected)
{
	return string != NULL && strcmp(string, expected) == 0;
}

/* Decode and parse a segment that must be a JSON object.  RFC 7515 5.2. */
static bool
read_json_segment(Token *token, const OaTokenSegment *segment,
				  JsonSegment *result)
{
	int			length;
	const char *problem;

	result->text = palloc(OA_BASE64URL_DECODED(segment->length) + 1);
	length = oa_base64url_decode(segment->text, segment->length,
								 (unsigned char *) result->text);
	if (length < 0)
		return refuse(token, "A segment is not canonical base64url.");
	result->text[length] = '\0';

	result->nodes = palloc(OA_JSON_NODES(length) * sizeof(OaJsonNode));
	problem = oa_json_parse(result->text, length, result->nodes,
							OA_JSON_NODES(length));
	return problem == NULL || refuse(token, problem);
}

/* Take the token apart.  RFC 7515 sections 2, 3.1 and 5.2, RFC 7519 7.2. */
static bool
read_form(Token *token, int length)
{
	OaTokenSegment segments[OA_TOKEN_SEGMENTS];

	if (memchr(token->text, '\0', length) != NULL ||
		!oa_split_token(token->text, length, segments))
		return refuse(token, "It does not have three segments.");
	if (!read_json_segment(token, &segments[SEGMENT_HEADER],
						   &token->header) ||
		!read_json_segment(token, &segments[SEGMENT_PAYLOAD],
						   &token->payload))
		return false;

	token->signature =
		palloc(OA_BASE64URL_DECODED(segments[SEGMENT_SIGNATURE].length));
	token->signature_length =
		oa_base64url_decode(segments[SEGMENT_SIGNATURE].text,
							segments[SEGMENT_SIGNATURE].length,
							token->signature);
	if (token->signature_length < 0)
		return refuse(token, "A segment is not canonical base64url.");
	token->signed_length = segments[SEGMENT_SIGNATURE].text - 1 - token->text;
	return true;
}

/*
 * Refuse what is another kind of token, by name.  The rules after this would
 * refuse each of them too, but leave whoever sent it to guess.
 */
static bool
check_kind(Token *token)
{
	const char *alg = oa_jwt_header(token->jwt, "alg");
	const char *aud = oa_jwt_claim(token->jwt, "aud");
	const char *iss = oa_jwt_claim(token->jwt, "iss");

	if (equals(aud, "https://identitytoolkit.googleapis.com/google.identity.identitytoolkit.v1.IdentityToolkit"))
		return refuse(token, "It is a custom token, which a client exchanges for an ID token by signing in.");
	if (equals(alg, "HS256") && claim(token, "d") != NULL)
		return refuse(token, "It is a legacy custom token, which a client exchanges for an ID token by signing in.");
	if (begins_with(iss, "https://session.firebase.google.com/"))
		return refuse(token, "It is a session cookie, not an ID token.");
	if (begins_with(iss, "https://firebaseappcheck.googleapis.com/"))
		return refuse(token, "It is an App Check token, not an ID token.");
	if (equals(iss, "https://accounts.google.com") ||
		equals(iss, "accounts.google.com"))
		return refuse(token, "It is a Google ID token, not a Firebase ID token.");
	if (alg != NULL && pg_strcasecmp(alg, "none") == 0)
		return refuse(token, "It is not signed. Tokens of the Firebase emulator are never accepted.");
	return true;
}

/*
 * The rules of the header.  "typ" is optional (RFC 7519 section 5.1); jku,
 * jwk, x5u, x5c and x5t are not looked at, for a token does not say whom to
 * trust (RFC 8725 section 3.10).
 */
static bool
check_header(Token *token)
{
	const char *text = token->header.text;
	const OaJsonNode *nodes = token->header.nodes;
	const OaJsonNode *alg = oa_json_member(text, nodes, nodes, "alg");
	const OaJsonNode *kid = oa_json_member(text, nodes, nodes, "kid");

	/* Firebase: "RS256".  RFC 8725 3.1: the verifier says so.  In the text */
	if (alg == NULL || !oa_json_equals(text, alg, "RS256"))
		return refuse(token, "Its alg is not RS256.");
	/* and as decoded: libjwt alone would take rs256, and HS256. */
	if (!equals(oa_jwt_header(token->jwt, "alg"), "RS256"))
		return refuse(token, "Its alg is not RS256.");

	/* RFC 7515 4.1.11: we understand no extension. */
	if (oa_json_member(text, nodes, nodes, "crit") != NULL)
		return refuse(token, "It has a crit header.");

	/* Firebase: it names one of the published keys. */
	if (kid == NULL || kid->type != OA_JSON_STRING || kid->length == 0)
		return refuse(token, "It has no kid.");
	return true;
}

/* Is "aud" or "iss" our project, after a prefix? */
static bool
names_project(const char *string, const char *prefix)
{
	return begins_with(string, prefix) &&
		strcmp(string + strlen(prefix), oa_firebase_project_id) == 0;
}

/* The number of characters in well-formed UTF-8. */
static int
count_characters(const char *utf8)
{
	int			count = 0;

	for (; *utf8 != '\0'; utf8++)
		count += (*utf8 & 0xc0) != 0x80;
	return count;
}

/* The rules of the claims that say for whom and about whom the token is. */
static bool
check_names(Token *token)
{
	const char *sub = oa_jwt_claim(token->jwt, "sub");
	int			characters;

	/* Firebase: the project id. */
	if (!names_project(oa_jwt_claim(token->jwt, "aud"), ""))
		return refuse(token, "Its aud is not the configured project.");

	/* Firebase: "https://securetoken.google.com/<projectId>". */
	if (!names_project(oa_jwt_claim(token->jwt, "iss"), ISSUER_PREFIX))
		return refuse(token, "Its iss is not that of the configured project.");

	/* Firebase: a non-empty string; its SDKs: of at most 128 characters. */
	characters = sub ? count_characters(sub) : 0;
	if (characters < 1 || characters > OA_UID_MAX)
		return refuse(token, "Its sub is not a string of 1 to 128 characters.");
	return true;
}

/*
 * A NumericDate (RFC 7519 section 2: a JSON number, fractions allowed) as a
 * timestamp.  False if it is no number, or none that a timestamp can hold.
 */
static bool
read_time(const Token *token, const OaJsonNode *node, TimestampTz *time)
{
	double		seconds;

	if (node->type != OA_JSON_NUMBER)
		return false;
	seconds = oa_json_number(token->payload.text, node);
	if (seconds < -LAST_SECOND || seconds > LAST_SECOND)
		return false;
	*time = (TimestampTz) rint((seconds - POSTGRES_EPOCH_SECONDS) *
							   USECS_PER_SEC);
	return true;
}

static TimestampTz
skew(void)
{
	return oa_clock_skew * USECS_PER_SEC;
}

/* The rules of the claims that are times, but for whether exp has passed. */
static bool
check_times(Token *token)
{
	static const struct
	{
		const char *name;
		const char *not_a_time;
		const char *in_the_future;
	}			past[] = {
		/* Firebase: in the past. */
		{"iat", "Its iat is not a time.", "Its iat is in the future."},
		/* Firebase: in the past. */
		{"auth_time", "Its auth_time is not a time.",
		"Its auth_time is in the future."},
		/* RFC 7519 4.1.5 */
		{"nbf", "Its nbf is not a time.", "Its nbf is in the future."},
	};
	const OaJsonNode *exp = claim(token, "exp");

	/* Firebase: in the future; RFC 7519 4.1.4: must be a number. */
	if (exp == NULL || !read_time(token, exp, &token->expires_at))
		return refuse(token, "Its exp is not a time.");

	token->not_before = DT_NOBEGIN;
	for (int i = 0; i < lengthof(past); i++)
	{
		const OaJsonNode *node = claim(token, past[i].name);
		TimestampTz time;

		if (node == NULL)
			continue;
		if (!read_time(token, node, &time))
			return refuse(token, past[i].not_a_time);
		if (time > token->now + skew())
			return refuse(token, past[i].in_the_future);
		token->not_before = Max(token->not_before, time);
	}
	return true;
}

/* Find the key that the token names and check its signature with it. */
static OaTokenStatus
check_signature(Token *token)
{
	const char *kid = oa_jwt_header(token->jwt, "kid");
	OaKeyLookup lookup = OA_KEY_UNKNOWN;

	/* Firebase: one of the published keys.  RFC 7515 4.1.4: case matters. */
	if (kid != NULL)
		lookup = oa_find_signing_key(kid, token->now, &token->key);
	switch (lookup)
	{
		case OA_KEY_FOUND:
			break;
		case OA_KEY_NONE_AT_ALL:
			token->identity->detail = "There are no signing keys that have not expired.";
			token->identity->hint = "Load Google's published keys with overten_load_signing_keys().";
			return OA_TOKEN_UNAVAILABLE;
		case OA_KEY_EXPIRED:
			refuse(token, "Its kid names a signing key that has expired.");
			return OA_TOKEN_INVALID;
		default:
			refuse(token, "Its kid names no signing key.");
			return OA_TOKEN_INVALID;
	}

	/* RFC 7515 5.2: over the bytes as they were received. */
	if (!oa_signature_is_good(token->key, token->text, token->signed_length,
							  token->signature, token->signature_length))
	{
		refuse(token, "Its signature is wrong.");
		return OA_TOKEN_INVALID;
	}
	return OA_TOKEN_GOOD;
}

/*
 * Fill in a text column from a string; NULL if there is none, or it is
 * something else.  False if the server's encoding cannot hold it.
 */
static bool
set_text(const Token *token, const OaJsonNode *node, Datum *value, bool *null)
{
	text	   *string;

	*null = node == NULL || node->type != OA_JSON_STRING;
	if (*null)
		return true;
	if (!oa_json_to_text(token->payload.text, node, &string))
		return false;
	*value = PointerGetDatum(string);
	return true;
}

/* Fill in a time column from a claim that check_times() has accepted. */
static void
set_time(const Token *token, const char *name, Datum *value, bool *null)
{
	const OaJsonNode *node = claim(token, name);
	TimestampTz time = 0;

	*null = node == NULL || !read_time(token, node, &time);
	*value = TimestampTzGetDatum(time);
}

/* The function's result; NULL if the server's encoding cannot hold it. */
static HeapTuple
make_row(const Token *token)
{
	const OaJsonNode *verified = claim(token, "email_verified");
	const char *sub = oa_jwt_claim(token->jwt, "sub");
	Datum		values[RESULT_COLUMNS];
	bool		nulls[RESULT_COLUMNS] = {false};
	text	   *uid;
	Jsonb	   *claims;

	if (!oa_utf8_to_server(sub, strlen(sub), &uid) ||
		!set_text(token, claim(token, "email"), &values[RESULT_EMAIL],
				  &nulls[RESULT_EMAIL]) ||
		!set_text(token, claim(token, "name"), &values[RESULT_NAME],
				  &nulls[RESULT_NAME]) ||
		!set_text(token, firebase_claim(token, "sign_in_provider"),
				  &values[RESULT_SIGN_IN_PROVIDER],
				  &nulls[RESULT_SIGN_IN_PROVIDER]) ||
		!set_text(token, firebase_claim(token, "tenant"),
				  &values[RESULT_TENANT], &nulls[RESULT_TENANT]))
		return NULL;
	claims = oa_json_to_jsonb(token->payload.text, token->payload.nodes);
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

/* Give a copy of a result to the caller. */
static OaTokenStatus
accept(OaIdentity *identity, const HeapTupleHeaderData *row, Size length)
{
	HeapTupleData tuple = {.t_len = length};
	bool		isnull;

	identity->row = memcpy(palloc(length), row, length);
	tuple.t_data = identity->row;
	identity->uid = DatumGetTextPP(heap_getattr(&tuple, RESULT_UID + 1,
												result_descriptor, &isnull));
	return OA_TOKEN_GOOD;
}

/* Has a good token expired?  Said last, and on every use. */
static bool
has_expired(OaIdentity *identity, TimestampTz expires_at, TimestampTz now)
{
	/* Firebase: exp is in the future.  RFC 7519 4.1.4: not on it either. */
	if (expires_at + skew() > now)
		return false;
	identity->detail = "Its exp has passed.";
	return true;
}

/* Apply the rules to a token that libjwt has decoded. */
static OaTokenStatus
judge(Token *token, const uint8 *digest)
{
	HeapTuple	row;
	OaTokenStatus status;

	if (!check_kind(token) || !check_header(token) || !check_names(token) ||
		!check_times(token))
		return OA_TOKEN_INVALID;
	status = check_signature(token);
	if (status != OA_TOKEN_GOOD)
		return status;
	if (has_expired(token->identity, token->expires_at, token->now))
		return OA_TOKEN_EXPIRED;

	row = make_row(token);
	if (row == NULL)
	{
		refuse(token, "A claim has a character that the database's encoding has not.");
		return OA_TOKEN_INVALID;
	}

	if (oa_cache_entries > 0 && oa_key_ring_generation() != 0)
	{
		Size		size = offsetof(AcceptedToken, row) + row->t_len;
		AcceptedToken *accepted = palloc(size);

		accepted->expires_at = token->expires_at;
		accepted->not_before = token->not_before;
		accepted->key_expires_at = oa_held_key_expires_at(token->key);
		strlcpy(accepted->project_id, oa_firebase_project_id,
				sizeof(accepted->project_id));
		accepted->length = row->t_len;
		memcpy(&accepted->row, row->t_data, row->t_len);
		oa_cache_store(tokens_cache, digest, accepted, size,
					   oa_key_ring_generation());
	}
	return accept(token->identity, row->t_data, row->t_len);
}

/* Check a token that is not in the cache. */
static OaTokenStatus
check_token(const char *text, int length, TimestampTz now,
			const uint8 *digest, OaIdentity *identity)
{
	Token		token = {.text = text, .now = now, .identity = identity};
	OaTokenStatus status = OA_TOKEN_INVALID;
	char	   *terminated;

	if (!read_form(&token, length))
		return OA_TOKEN_INVALID;

	oa_jwt_library_open();
	terminated = pnstrdup(text, length);
	token.jwt = oa_jwt_decode(terminated);
	if (token.jwt == NULL)
	{
		refuse(&token, "libjwt cannot decode it.");
		return OA_TOKEN_INVALID;
	}

	PG_TRY();
	{
		status = judge(&token, digest);
	}
	PG_FINALLY();
	{
		oa_jwt_free(token.jwt);
	}
	PG_END_TRY();
	return status;
}

/* Can nothing be verified at all, whatever the token? */
static bool
is_unavailable(OaIdentity *identity)
{
	/* Else an empty aud would match. */
	if (oa_firebase_project_id[0] == '\0')
	{
		identity->detail = "No Firebase project is configured.";
		identity->hint = "Set overten_auth.firebase_project_id.";
		return true;
	}
	if (!oa_verify_on_standby && RecoveryInProgress())
	{
		identity->detail = "A standby learns that a signing key was withdrawn only when it replays it.";
		identity->hint = "Verify on the primary, or set overten_auth.verify_on_standby.";
		return true;
	}
	return false;
}

/*
 * Verify a token and say who it is about.  Refusals do not raise; what is
 * returned in *identity is described at its type.
 */
OaTokenStatus
oa_verify_token(const char *token, int length, OaIdentity *identity)
{
	TimestampTz now = GetCurrentTimestamp();
	uint8		digest[OA_DIGEST_LEN];
	AcceptedToken *accepted = NULL;

	memset(identity, 0, sizeof(OaIdentity));
	if (is_unavailable(identity))
		return OA_TOKEN_UNAVAILABLE;
	if (length > OA_TOKEN_MAX)
	{
		identity->detail = "It has more than 16 kB.";
		return OA_TOKEN_INVALID;
	}
	if (result_descriptor == NULL)
		prepare();

	if (oa_cache_entries > 0)
	{
		oa_digest(token, length, digest);
		accepted = oa_cache_find(tokens_cache, digest);
	}
	if (accepted == NULL ||
		strcmp(accepted->project_id, oa_firebase_project_id) != 0 ||
		accepted->key_expires_at <= now ||
		accepted->not_before > now + skew())
		return check_token(token, length, now, digest, identity);

	if (has_expired(identity, accepted->expires_at, now))
		return OA_TOKEN_EXPIRED;
	return accept(identity, &accepted->row, accepted->length);
}

/* Raise what oa_verify_token() has said of a token that is not good. */
static void
report(OaTokenStatus status, const OaIdentity *identity)
{
	if (status == OA_TOKEN_EXPIRED)
		ereport(ERROR,
				(errcode(ERRCODE_TOKEN_EXPIRED),
				 errmsg("Firebase ID token has expired"),
				 errdetail_internal("%s", identity->detail)));
	if (status == OA_TOKEN_UNAVAILABLE)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("Firebase ID tokens cannot be verified"),
				 errdetail_internal("%s", identity->detail),
				 errhint("%s", identity->hint)));
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_AUTHORIZATION_SPECIFICATION),
			 errmsg("invalid Firebase ID token"),
			 errdetail_internal("%s", identity->detail)));
}

/*
 * overten_verify_firebase_jwt(token text)
 *		returns uid, email, email_verified, name, sign_in_provider, tenant,
 *		auth_time, issued_at, expires_at, claims
 *
 * Raises 28OA1 if the token is good but has expired, 28000 for any other
 * refusal, 55000 if no project or no signing keys are configured.
 */
Datum
overten_verify_firebase_jwt(PG_FUNCTION_ARGS)
{
	Datum		argument = PG_GETARG_DATUM(0);
	ErrorContextCallback secrecy;
	OaIdentity	identity;
	OaTokenStatus status;

	oa_secrecy_begin(&secrecy);

	/* Looked at before detoasting: one of 1 GB is not even read. */
	if (toast_raw_datum_size(argument) > OA_TOKEN_MAX + VARHDRSZ)
		status = oa_verify_token(NULL, OA_TOKEN_MAX + 1, &identity);
	else
	{
		text	   *token = DatumGetTextPP(argument);

		status = oa_verify_token(VARDATA_ANY(token), VARSIZE_ANY_EXHDR(token),
								 &identity);
	}
	if (status != OA_TOKEN_GOOD)
		report(status, &identity);
	oa_secrecy_end(&secrecy);
	PG_RETURN_HEAPTUPLEHEADER(identity.row);
}
