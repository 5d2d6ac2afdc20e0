/*
 * token_rules.c
 *		The rules of Firebase ID tokens.
 *
 * They are those of Firebase's page "Verify ID tokens" (below: Firebase), with
 * the RFCs where it is silent, each in one place.  All but one are looked at
 * before the signature, the cheap ones first; only whether the token has
 * expired is left for afterwards, so that "expired" is never said of a token
 * that nobody signed.
 *
 * A token of another Firebase project is signed with the very same keys: that
 * aud and iss name our project is the whole defence against it.
 */
#include "postgres.h"

#include "utils/timestamp.h"

#include "server/server.h"
#include "settings.h"
#include "signing_keys/signing_keys.h"
#include "text/text.h"
#include "tokens/token.h"

#define ISSUER_PREFIX "https://securetoken.google.com/"

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

/*
 * Refuse what is another kind of token, by name.  The rules after this would
 * refuse each of them too, but leave whoever sent it to guess.
 */
static bool
check_kind(OaToken *token)
{
	const char *alg = token->alg;
	const char *aud = token->aud;
	const char *iss = token->iss;

	if (equals(aud, "https://identitytoolkit.googleapis.com/google.identity.identitytoolkit.v1.IdentityToolkit"))
		return oa_refuse_token(token, "It is a custom token, which a client exchanges for an ID token by signing in.");
	if (equals(alg, "HS256") && oa_token_claim(token, "d") != NULL)
		return oa_refuse_token(token, "It is a legacy custom token, which a client exchanges for an ID token by signing in.");
	if (begins_with(iss, "https://session.firebase.google.com/"))
		return oa_refuse_token(token, "It is a session cookie, not an ID token.");
	if (begins_with(iss, "https://firebaseappcheck.googleapis.com/"))
		return oa_refuse_token(token, "It is an App Check token, not an ID token.");
	if (equals(iss, "https://accounts.google.com") ||
		equals(iss, "accounts.google.com"))
		return oa_refuse_token(token, "It is a Google ID token, not a Firebase ID token.");
	if (alg != NULL && pg_strcasecmp(alg, "none") == 0)
		return oa_refuse_token(token, "Its alg is none. Tokens of the Firebase emulator are never accepted.");
	return true;
}

/*
 * The rules of the header.  "typ" is optional (RFC 7519 section 5.1); jku,
 * jwk, x5u, x5c and x5t are not looked at, for a token does not say whom to
 * trust (RFC 8725 section 3.10).
 */
static bool
check_header(OaToken *token)
{
	const OaJsonNode *alg = oa_token_header(token, "alg");
	const OaJsonNode *kid = oa_token_header(token, "kid");

	/* Firebase: "RS256".  RFC 8725 3.1: the verifier says so.  In the text */
	if (alg == NULL || !oa_json_equals(token->header.json, alg, "RS256"))
		return oa_refuse_token(token, "Its alg is not RS256.");
	/* and as decoded: libjwt alone would take rs256, and HS256. */
	if (!equals(token->alg, "RS256"))
		return oa_refuse_token(token, "Its alg is not RS256.");

	/* RFC 7515 4.1.11: we understand no extension. */
	if (oa_token_header(token, "crit") != NULL)
		return oa_refuse_token(token, "It has a crit header.");

	/* Firebase: it names one of the published keys. */
	if (kid == NULL || kid->type != OA_JSON_STRING || kid->length == 0)
		return oa_refuse_token(token, "It has no kid.");
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
check_names(OaToken *token)
{
	const char *sub = token->sub;
	int			characters;

	/* Firebase: the project id. */
	if (!names_project(token->aud, ""))
		return oa_refuse_token(token, "Its aud is not the configured project.");

	/* Firebase: "https://securetoken.google.com/<projectId>". */
	if (!names_project(token->iss, ISSUER_PREFIX))
		return oa_refuse_token(token, "Its iss is not that of the configured project.");

	/* Firebase: a non-empty string; its SDKs: of at most 128 characters. */
	characters = sub ? count_characters(sub) : 0;
	if (characters < 1 || characters > OA_UID_MAX)
		return oa_refuse_token(token, "Its sub is not a string of 1 to 128 characters.");
	return true;
}

/*
 * The rule of the tenant.  Google has the SDKs compare it where they verify for
 * one; a tenant that is no string is none that could be meant.
 */
static bool
check_tenant(OaToken *token)
{
	const OaJsonNode *tenant = oa_firebase_claim(token, "tenant");

	if (strcmp(oa_firebase_tenant, "*") == 0)
		return true;
	if (oa_firebase_tenant[0] == '\0')
		return tenant == NULL ||
			oa_refuse_token(token, "It is of an Identity Platform tenant, and overten_auth.firebase_tenant names none.");
	return (tenant != NULL &&
			oa_json_equals(token->payload.json, tenant, oa_firebase_tenant)) ||
		oa_refuse_token(token, "Its tenant is not the configured one.");
}

/*
 * How far the clock of whoever signed may be from ours, in the unit of
 * timestamps.
 */
TimestampTz
oa_skew(void)
{
	return oa_clock_skew * USECS_PER_SEC;
}

/* The rules of the claims that are times, but for whether exp has passed. */
static bool
check_times(OaToken *token)
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
	const OaJsonNode *exp = oa_token_claim(token, "exp");

	/* Firebase: in the future; RFC 7519 4.1.4: must be a number. */
	if (exp == NULL || !oa_token_time(token, exp, &token->expires_at))
		return oa_refuse_token(token, "Its exp is not a time.");

	token->not_before = DT_NOBEGIN;
	for (int i = 0; i < lengthof(past); i++)
	{
		const OaJsonNode *node = oa_token_claim(token, past[i].name);
		TimestampTz time;

		if (node == NULL)
			continue;
		if (!oa_token_time(token, node, &time))
			return oa_refuse_token(token, past[i].not_a_time);
		if (time > token->now + oa_skew())
			return oa_refuse_token(token, past[i].in_the_future);
		token->not_before = Max(token->not_before, time);
	}
	return true;
}

/*
 * Apply all rules but those that need the key and the one about expiry.
 * False, with a detail, if one is broken.
 */
bool
oa_check_token(OaToken *token)
{
	return check_kind(token) && check_header(token) && check_names(token) &&
		check_tenant(token) && check_times(token);
}

/* Find the key that a token names, and check the signature with it. */
bool
oa_check_signature(OaToken *token)
{
	const char *kid = token->kid;
	OaSigningKeyLookup lookup = OA_KEY_UNKNOWN;

	/* Firebase: one of the published keys.  RFC 7515 4.1.4: case matters. */
	if (kid != NULL)
		lookup = oa_find_signing_key(kid, token->now, &token->key);
	if (lookup == OA_KEY_EXPIRED)
		return oa_refuse_token(token, "Its kid names a signing key that has expired.");
	if (lookup != OA_KEY_FOUND)
		return oa_refuse_token(token, "Its kid names no signing key.");

	/* RFC 7515 5.2: over the bytes as they were received. */
	if (!oa_signature_is_good(token->key, token->compact, token->signed_length,
							  token->signature, token->signature_length))
		return oa_refuse_token(token, "Its signature is wrong.");
	return true;
}
