/*
 * token_rules.c
 *		The rules of Firebase ID tokens.
 *
 * These are the rules of Firebase's page "Verify ID tokens" (called Firebase
 * below), and those of the RFCs where that page says nothing.  Each rule is in
 * one place, beside the sentence that becomes the DETAIL of the error.
 * token_reader.c and token_decoder.c check the form of a token, and
 * firebase_token.c checks whether it has expired; all other rules are here.
 *
 * We check all rules but one before the signature, the cheap ones first.  We
 * check only after the signature whether the token has expired, so that we
 * never call a token expired that nobody has signed.
 *
 * Google signs the tokens of all Firebase projects with the same keys.  So the
 * check that aud and iss name our project is the only thing that keeps out the
 * tokens of other projects.
 */
#include "postgres.h"

#include "utils/timestamp.h"

#include "server/server.h"
#include "settings.h"
#include "signing_keys/signing_keys.h"
#include "text/text.h"
#include "tokens/token.h"

#define ISSUER_PREFIX "https://securetoken.google.com/"

/* Is libjwt's string not NULL, and does it begin with this prefix? */
static bool
begins_with(const char *string, const char *prefix)
{
	return string != NULL && strncmp(string, prefix, strlen(prefix)) == 0;
}

/* Is libjwt's string not NULL, and equal to this? */
static bool
equals(const char *string, const char *expected)
{
	return string != NULL && strcmp(string, expected) == 0;
}

/*
 * Refuse other kinds of tokens, and name them.  The later rules would refuse
 * them too, but the client would have to guess why.
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
 * Check the header.  "typ" is optional (RFC 7519 section 5.1).  We ignore jku,
 * jwk, x5u, x5c and x5t, because a token must not tell us whom to trust (RFC
 * 8725 section 3.10).
 */
static bool
check_header(OaToken *token)
{
	const OaJsonNode *alg = oa_token_header(token, "alg");
	const OaJsonNode *kid = oa_token_header(token, "kid");

	/*
	 * Firebase: "RS256".  RFC 8725 3.1: the verifier decides.  Check the text
	 * ...
	 */
	if (alg == NULL || !oa_json_equals(token->header.json, alg, "RS256"))
		return oa_refuse_token(token, "Its alg is not RS256.");

	/*
	 * ... and the decoded value: libjwt alone would accept rs256, and HS256.
	 */
	if (!equals(token->alg, "RS256"))
		return oa_refuse_token(token, "Its alg is not RS256.");

	/* RFC 7515 4.1.11: we do not support any extension. */
	if (oa_token_header(token, "crit") != NULL)
		return oa_refuse_token(token, "It has a crit header.");

	/* Firebase: kid names one of the published keys. */
	if (kid == NULL || kid->type != OA_JSON_STRING || kid->length == 0)
		return oa_refuse_token(token, "It has no kid.");
	return true;
}

/* Is "aud" or "iss" a prefix and then our project? */
static bool
names_project(const char *string, const char *prefix)
{
	return begins_with(string, prefix) &&
		strcmp(string + strlen(prefix), oa_firebase_project_id) == 0;
}

/* Count the characters of a string of well-formed UTF-8. */
static int
count_characters(const char *utf8)
{
	int			count = 0;

	for (; *utf8 != '\0'; utf8++)
		count += (*utf8 & 0xc0) != 0x80;
	return count;
}

/* Check the claims that say for whom and about whom the token is. */
static bool
check_names(OaToken *token)
{
	const char *sub = token->sub;
	int			characters;

	/* Firebase: aud is the project id. */
	if (!names_project(token->aud, ""))
		return oa_refuse_token(token, "Its aud is not the configured project.");

	/* Firebase: iss is "https://securetoken.google.com/<projectId>". */
	if (!names_project(token->iss, ISSUER_PREFIX))
		return oa_refuse_token(token, "Its iss is not that of the configured project.");

	/*
	 * Firebase: sub is not empty.  Its SDKs: sub has at most 128 characters.
	 */
	characters = sub ? count_characters(sub) : 0;
	if (characters < 1 || characters > OA_UID_MAX)
		return oa_refuse_token(token, "Its sub is not a string of 1 to 128 characters.");
	return true;
}

/*
 * Check the tenant.  Google's SDKs compare it if they verify for a tenant.  A
 * tenant that is not a string never matches.
 */
static bool
check_tenant(OaToken *token)
{
	const OaJsonNode *tenant = oa_firebase_claim(token, "tenant");

	if (strcmp(oa_firebase_tenant, "*") == 0)
		return true;
	if (oa_firebase_tenant[0] == '\0')
		return tenant == NULL ||
			oa_refuse_token(token, "It belongs to an Identity Platform tenant, and overten_auth.firebase_tenant is not set.");
	return (tenant != NULL &&
			oa_json_equals(token->payload.json, tenant, oa_firebase_tenant)) ||
		oa_refuse_token(token, "Its tenant is not the configured one.");
}

/* Return how far the signer's clock may differ from ours, in microseconds. */
TimestampTz
oa_skew(void)
{
	return oa_clock_skew * USECS_PER_SEC;
}

/* Check the claims that are times, except whether exp has passed. */
static bool
check_times(OaToken *token)
{
	static const struct
	{
		const char *name;
		const char *not_a_time;
		const char *in_the_future;
	}			past[] = {
		/* Firebase: iat is in the past. */
		{"iat", "Its iat is not a time.", "Its iat is in the future."},
		/* Firebase: auth_time is in the past. */
		{"auth_time", "Its auth_time is not a time.",
		"Its auth_time is in the future."},
		/* RFC 7519 4.1.5 */
		{"nbf", "Its nbf is not a time.", "Its nbf is in the future."},
	};
	const OaJsonNode *exp = oa_token_claim(token, "exp");

	/* Firebase: exp is in the future.  RFC 7519 4.1.4: it must be a number. */
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
 * Check all rules except the signature and expiry.  Returns false and sets the
 * detail if the token breaks one.
 */
bool
oa_check_token(OaToken *token)
{
	return check_kind(token) && check_header(token) && check_names(token) &&
		check_tenant(token) && check_times(token);
}

/*
 * Check who signs up.  Firebase: anonymous accounts, whose sign_in_provider is
 * "anonymous", cost nothing, so a limit of orgs per person limits nothing.
 */
static bool
check_anonymous(const OaIdentity *identity)
{
	return !identity->is_anonymous || oa_allow_anonymous_signup;
}

/* Firebase: anybody can sign in with an address that is not verified. */
static bool
check_verified_email(const OaIdentity *identity)
{
	return identity->has_verified_email || !oa_signup_requires_verified_email;
}

/* Can the person of a good token sign up? */
OaProblem
oa_check_signup_rules(const OaIdentity *identity)
{
	if (!check_anonymous(identity))
		return OA_ANONYMOUS_NOT_ALLOWED;
	if (!check_verified_email(identity))
		return OA_EMAIL_NOT_VERIFIED;
	return OA_NO_PROBLEM;
}

/* Find the key that a token names, and check the signature with it. */
bool
oa_check_signature(OaToken *token)
{
	const char *kid = token->kid;
	OaSigningKeyLookup lookup = OA_SIGNING_KEY_UNKNOWN;

	/* Firebase: kid names a published key.  RFC 7515 4.1.4: case-sensitive. */
	if (kid != NULL)
		lookup = oa_find_signing_key(kid, token->now, &token->key);
	if (lookup == OA_SIGNING_KEY_EXPIRED)
		return oa_refuse_token(token, "Its kid names a signing key that has expired.");
	if (lookup != OA_SIGNING_KEY_FOUND)
		return oa_refuse_token(token, "Its kid does not name a signing key.");

	/* RFC 7515 5.2: the signature covers the bytes as we received them. */
	if (!oa_signature_is_good(token->key, token->compact, token->signed_length,
							  token->signature, token->signature_length))
		return oa_refuse_token(token, "Its signature is wrong.");
	return true;
}
