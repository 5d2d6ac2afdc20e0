/*
 * acceptance.c
 *		Accepting an invitation: how a person becomes a member of an org.
 *
 * Whoever has the code of an invitation can use it, once.  We decide under the
 * lock of the org, so of two persons who accept at once, one becomes a member.
 * A person who asks again, because the first answer was lost, gets the same
 * answer.
 *
 * Unknown, expired, used and withdrawn codes, and those of closed orgs, are the
 * same problem: a person who does not hold a good code learns nothing about any
 * org.
 */
#include "postgres.h"

#include "access/detoast.h"
#include "catalog/pg_type.h"
#include "utils/builtins.h"

#include "members/locked_org.h"
#include "orgs/orgs.h"
#include "server/server.h"

PG_FUNCTION_INFO_V1(overten_accept_invitation);

/* Find the org of an invitation.  NULL if there is no such invitation. */
static text *
find_org(bytea *digest)
{
	static OaStatement find = {
		.table = "invitations",
		.text = "SELECT org_id FROM overten_auth.invitations "
		"WHERE digest = $1",
		.argtypes = {BYTEAOID},
	};
	Datum		values[] = {PointerGetDatum(digest)};

	return oa_statement_run(&find, values, NULL) > 0 ?
		oa_statement_text(0, 1) : NULL;
}

/* Has this person used this invitation? */
static bool
has_used(bytea *digest, text *uid)
{
	static OaStatement find = {
		.table = "invitations",
		.text = "SELECT 1 FROM overten_auth.invitations "
		"WHERE digest = $1 AND accepted_by = $2",
		.argtypes = {BYTEAOID, TEXTOID},
	};
	Datum		values[] = {PointerGetDatum(digest), PointerGetDatum(uid)};

	return oa_statement_run(&find, values, NULL) > 0;
}

/*
 * Has the member gone who has made this invitation?  Removing a member withdraws it,
 * but not what a transaction with an older snapshot does not see.
 */
static bool
has_no_maker(bytea *digest)
{
	static OaStatement find = {
		.table = "invitations",
		.latest = true,
		.text = "SELECT 1 FROM overten_auth.invitations i "
		"WHERE digest = $1 AND NOT " OA_MAKER_IS_MEMBER("i"),
		.argtypes = {BYTEAOID},
	};
	Datum		values[] = {PointerGetDatum(digest)};

	return oa_statement_run(&find, values, NULL) > 0;
}

/* Use an invitation up.  Returns its id, or NULL if it is of no use. */
static text *
use_up(bytea *digest, text *uid)
{
	static OaStatement update = {
		.table = "invitations",
		.text = "UPDATE overten_auth.invitations "
		"SET accepted_at = clock_timestamp(), accepted_by = $2 "
		"WHERE digest = $1 AND accepted_at IS NULL "
		"AND expires_at > clock_timestamp() RETURNING invitation_id",
		.argtypes = {BYTEAOID, TEXTOID},
	};
	Datum		values[] = {PointerGetDatum(digest), PointerGetDatum(uid)};

	return oa_statement_run(&update, values, NULL) > 0 ?
		oa_statement_text(0, 1) : NULL;
}

/* Accept an invitation to a locked org. */
static OaProblem
accept(text *uid, bytea *digest, text *org_id)
{
	bool		is_member = oa_is_member(org_id, uid);
	text	   *invitation_id;

	if (is_member)
		return has_used(digest, uid) ? OA_NO_PROBLEM : OA_ALREADY_MEMBER;
	invitation_id = has_no_maker(digest) ? NULL : use_up(digest, uid);
	if (invitation_id == NULL)
		return OA_INVITATION_NOT_FOUND;
	(void) oa_insert_member(org_id, uid);
	oa_audit("accept_invitation", org_id, NULL, uid, invitation_id);
	return OA_NO_PROBLEM;
}

/*
 * Make a person a member of the org that the code with this digest invites to.
 * "digest" is NULL for a text that cannot be a code.  Sets *org_id unless there
 * is a problem.
 */
OaProblem
oa_accept_invitation(text *uid, bytea *digest, text **org_id)
{
	OaProblem	problem = OA_INVITATION_NOT_FOUND;
	OaLockedOrg org;
	int			level;

	if (digest == NULL)
		return problem;

	level = oa_statements_begin();
	*org_id = find_org(digest);
	if (*org_id != NULL && oa_lock_members_org(*org_id, NULL, &org) && !org.closed)
		problem = accept(uid, digest, *org_id);
	oa_statements_end(level);
	return problem;
}

/*
 * overten_accept_invitation(code text, uid text) returns text
 *
 * Makes the person a member, and returns the org.  Does not check who has the
 * uid; the caller must.  Errors: 22004, 22023; 42704 the code is unknown,
 * expired, used or withdrawn, or the org is closed; 42710 the person is a
 * member already.
 */
Datum
overten_accept_invitation(PG_FUNCTION_ARGS)
{
	ErrorContextCallback secrecy;
	bytea	   *digest = NULL;
	text	   *uid;
	text	   *org_id;
	OaProblem	problem;

	oa_secrecy_begin(&secrecy);
	oa_require_argument(fcinfo, 0, "code");
	uid = oa_uid_argument(fcinfo, 1);
	if (toast_raw_datum_size(PG_GETARG_DATUM(0)) == VARHDRSZ + OA_CODE_LEN)
	{
		text	   *code = PG_GETARG_TEXT_PP(0);

		digest = oa_code_digest(VARDATA_ANY(code), VARSIZE_ANY_EXHDR(code));
	}
	problem = oa_accept_invitation(uid, digest, &org_id);
	if (problem != OA_NO_PROBLEM)
		ereport(ERROR,
				(errcode(oa_problem_text(problem)->sqlstate),
				 errmsg("could not accept the invitation"),
				 errdetail_internal("%s",
									oa_problem_message(problem, NULL))));
	oa_secrecy_end(&secrecy);
	PG_RETURN_TEXT_P(org_id);
}
