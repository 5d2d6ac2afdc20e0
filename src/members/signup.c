/*
 * signup.c
 *		Signing up, and minting keys, as far as customers may do it
 *		themselves.
 *
 * We check every condition before we write the first row, and return a problem
 * instead of raising, because an error would put the request into the log.  We
 * count an org's keys under a lock on its row (locked_org.c), and a person's
 * orgs under a lock that stands for the person, and that no SQL function can
 * take.  We count under the latest snapshot, whatever the isolation level is.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "catalog/pg_collation.h"
#include "catalog/pg_type.h"
#include "funcapi.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

#include "keys/keys.h"
#include "members/locked_org.h"
#include "orgs/orgs.h"
#include "server/server.h"
#include "settings.h"

PG_FUNCTION_INFO_V1(overten_signup);

/*
 * Has this person reached the limit of orgs?  Orgs count that the person has
 * created, wherever they are a member: others cannot use up the limit by
 * adding them.  A closed org counts for 30 days more, or else creating and
 * closing could go on forever.  Serializes with concurrent callers for the
 * same person.
 */
static bool
has_all_orgs(text *uid)
{
	static OaStatement count = {
		.table = "orgs",
		.latest = true,
		.text = "SELECT count(*) >= $2 FROM overten_auth.orgs "
		"WHERE created_by = $1 AND (closed_at IS NULL "
		"OR closed_at > clock_timestamp() - interval '720 hours')",
		.argtypes = {TEXTOID, INT4OID},
	};
	Datum		values[] = {
		PointerGetDatum(uid),
		Int32GetDatum(oa_max_orgs_per_uid),
	};

	oa_lock_person(uid);
	oa_statement_run(&count, values, NULL);
	return oa_statement_bool(0, 1);
}

/* Return the problem that a tier breaks a rule. */
static OaProblem
wrong_tier(OaFault *fault, const char *rule)
{
	fault->param = "tier";
	fault->rule = rule;
	return OA_INVALID_PARAMETER;
}

/* Can we create a new org for this person, on this tier? */
static OaProblem
check_new_org(const OaSignup *signup, OaFault *fault)
{
	OaProblem	problem = OA_NO_PROBLEM;
	bool		self_service;
	int			level = oa_statements_begin();

	if (signup->tier != NULL &&
		!(oa_find_tier(signup->tier, &self_service) && self_service))
		problem = wrong_tier(fault, "must be one that customers may choose");
	else if (has_all_orgs(signup->uid))
		problem = OA_ORG_LIMIT_REACHED;
	oa_statements_end(level);
	return problem;
}

/* Lock an org of the person's.  Can it be signed up? */
static OaProblem
check_existing_org(const OaSignup *signup, OaLockedOrg *org, OaFault *fault)
{
	OaProblem	problem = OA_NO_PROBLEM;
	bool		self_service;
	int			level = oa_statements_begin();

	if (signup->tier != NULL && !oa_find_tier(signup->tier, &self_service))
		problem = wrong_tier(fault, "must be one that exists");
	else if (!oa_lock_members_org(signup->existing_org_id, signup->uid, org))
		problem = OA_ORGANIZATION_NOT_FOUND;
	else if (signup->tier != NULL &&
			 !DatumGetBool(DirectFunctionCall2Coll(texteq, C_COLLATION_OID,
												   PointerGetDatum(signup->tier),
												   PointerGetDatum(org->tier))))
		problem = wrong_tier(fault, "must be the organization's own, or left out");
	else if (org->signed_up)
		problem = OA_ALREADY_SIGNED_UP;
	else if (org->suspended)
		problem = OA_API_ACCESS_DISABLED;
	else if (oa_has_all_keys(signup->existing_org_id, NULL, 0))
		problem = OA_KEY_LIMIT_REACHED;
	oa_statements_end(level);
	return problem;
}

/* Make a person a member of a new org. */
static void
add_first_member(text *org_id, text *uid)
{
	int			level = oa_statements_begin();

	(void) oa_insert_member(org_id, uid);
	oa_audit("add_member", org_id, NULL, uid, uid);
	oa_statements_end(level);
}

/* Do what a sign-up asks for.  The parameters are those of oa_signup(). */
static OaProblem
sign_up(const OaSignup *signup, OaOrgKey *result, OaFault *fault)
{
	OaProblem	problem;
	OaLockedOrg org;
	TimestampTz created_at;

	if (signup->org_name != NULL)
	{
		problem = check_new_org(signup, fault);
		if (problem != OA_NO_PROBLEM)
			return problem;

		result->org_name = signup->org_name;
		result->tier = signup->tier != NULL ? signup->tier :
			cstring_to_text("free");
		result->webhook_secret = oa_make_webhook_secret();
		result->org_id = oa_create_org(signup->org_name, result->tier,
									   signup->uid, true,
									   result->webhook_secret, &created_at);
		add_first_member(result->org_id, signup->uid);
	}
	else
	{
		problem = check_existing_org(signup, &org, fault);
		if (problem != OA_NO_PROBLEM)
			return problem;

		oa_describe_org(signup->existing_org_id, &org, result);
		oa_sign_up_org(signup->existing_org_id, signup->uid);
	}
	oa_mint_key(result->org_id, signup->key_name, signup->uid, NULL,
				&result->key);
	return OA_NO_PROBLEM;
}

/*
 * Sign a person up: create an org, or switch on API access for an org of the
 * person's, and mint its first key.  The caller has checked the names.
 * Returns a problem and, for OA_INVALID_PARAMETER, the fault; in that case
 * nothing was written.  For OA_ALREADY_DONE, the result has the ids.
 */
OaProblem
oa_signup(const OaSignup *signup, OaOrgKey *result, OaFault *fault)
{
	OaRepetition repetition;
	OaProblem	problem;
	OaDone		done;

	if ((signup->org_name == NULL) == (signup->existing_org_id == NULL))
		return OA_NOT_ONE_ORG;
	if (signup->request == NULL)
		return sign_up(signup, result, fault);

	oa_lock_request(signup->request, signup->uid);
	repetition = oa_find_done(signup->request, signup->uid, &done);
	if (repetition == OA_ANOTHER_REQUEST)
		return OA_IDEMPOTENCY_KEY_REUSED;
	if (repetition == OA_REPEATED)
		return oa_repeat(signup->request, signup->uid, &done,
						 signup->key_name, NULL, result);

	problem = sign_up(signup, result, fault);
	if (problem == OA_NO_PROBLEM)
		oa_note_done(signup->request, signup->uid, result);
	return problem;
}

/* Mint a key for a locked org. */
static OaProblem
mint_key(text *uid, text *org_id, const OaLockedOrg *org, text *name,
		 const OaKeyGrant *grant, OaOrgKey *result)
{
	int			level = oa_statements_begin();
	bool		full = oa_has_all_keys(org_id, NULL, 0);

	oa_statements_end(level);
	if (full)
		return OA_KEY_LIMIT_REACHED;
	oa_describe_org(org_id, org, result);
	oa_mint_key(org_id, name, uid, grant, &result->key);
	return OA_NO_PROBLEM;
}

/*
 * Mint a key for an org on behalf of one of its members. "request" is NULL if
 * the request has no name.  For OA_ALREADY_DONE, the result has the ids.
 */
OaProblem
oa_create_key(text *uid, text *org_id, text *name, const OaKeyGrant *grant,
			  const OaRequestKey *request, OaOrgKey *result)
{
	OaRepetition repetition;
	OaProblem	problem;
	OaLockedOrg org;
	OaDone		done;

	problem = oa_begin_request(request, uid, org_id, &org, &repetition, &done);
	if (problem != OA_NO_PROBLEM)
		return problem;
	if (repetition == OA_REPEATED)
		return oa_repeat(request, uid, &done, name, grant, result);

	problem = mint_key(uid, org_id, &org, name, grant, result);
	if (problem == OA_NO_PROBLEM && request != NULL)
		oa_note_done(request, uid, result);
	return problem;
}

/* Return a text argument that may be NULL. */
static text *
optional_argument(FunctionCallInfo fcinfo, int n)
{
	return PG_ARGISNULL(n) ? NULL : PG_GETARG_TEXT_PP(n);
}

/*
 * overten_signup(uid text, org_name text, existing_org_id text, tier text,
 * 				  key_name text)
 * 		returns org_id, org_name, tier, key_id, name, prefix, created_at,
 * 				secret, webhook_secret
 *
 * Does not check who has the uid; the caller must.  Errors: 22004, 22023,
 * 42704 the person has no such org, 42710 signed up already, 53400 a limit is
 * reached, 55000 suspended.
 */
Datum
overten_signup(PG_FUNCTION_ARGS)
{
	static const Oid types[] = {
		TEXTOID, TEXTOID, TEXTOID, TEXTOID, TEXTOID, TEXTOID, TIMESTAMPTZOID,
		TEXTOID, TEXTOID,
	};
	OaSignup	signup;
	OaOrgKey	org_key;
	OaProblem	problem;
	OaFault		fault;
	Datum		values[lengthof(types)];
	bool		nulls[lengthof(types)] = {false};

	signup.uid = oa_uid_argument(fcinfo, 0);
	signup.org_name = oa_optional_name_argument(fcinfo, 1, "org name",
												OA_ORG_NAME_MAX);
	signup.existing_org_id = optional_argument(fcinfo, 2);
	signup.tier = optional_argument(fcinfo, 3);
	signup.key_name = oa_name_argument(fcinfo, 4, "key name", OA_KEY_NAME_MAX);
	signup.request = NULL;

	problem = oa_signup(&signup, &org_key, &fault);
	if (problem != OA_NO_PROBLEM)
		ereport(ERROR,
				(errcode(oa_problem_text(problem)->sqlstate),
				 errmsg("could not sign up"),
				 errdetail_internal("%s",
									oa_problem_message(problem, &fault)),
				 oa_problem_text(problem)->hint != NULL ?
				 errhint("%s", oa_problem_text(problem)->hint) : 0));

	values[0] = PointerGetDatum(org_key.org_id);
	values[1] = PointerGetDatum(org_key.org_name);
	values[2] = PointerGetDatum(org_key.tier);
	values[3] = PointerGetDatum(org_key.key.key_id);
	values[4] = PointerGetDatum(org_key.key.name);
	values[5] = PointerGetDatum(org_key.key.prefix);
	values[6] = TimestampTzGetDatum(org_key.key.created_at);
	values[7] = PointerGetDatum(org_key.key.secret);
	values[8] = PointerGetDatum(org_key.webhook_secret);
	nulls[8] = (org_key.webhook_secret == NULL);
	return oa_result_row(fcinfo, types, lengthof(types), values, nulls);
}
