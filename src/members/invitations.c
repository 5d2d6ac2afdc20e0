/*
 * invitations.c
 *		Invitations to an org: making, listing and withdrawing them.
 *
 * Nobody becomes a member of an org without wanting to.  A member makes an
 * invitation, and passes its code on to another person, who accepts it
 * (acceptance.c).  The code is a secret: it exists here only until we return
 * it, and the table gets its digest.  It is random enough that the digest
 * needs no salt.
 *
 * A new invitation removes those of the org that are of no use any more, so
 * that there are never many rows.  The audit log has their history.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

#include "members/locked_org.h"
#include "orgs/orgs.h"
#include "server/server.h"

#define PENDING_MAX		100		/* of an org, as far as members make them */

PG_FUNCTION_INFO_V1(overten_invite);
PG_FUNCTION_INFO_V1(overten_list_invitations);
PG_FUNCTION_INFO_V1(overten_withdraw_invitation);

/* SQL: can the invitation i still be accepted? */
#define IS_PENDING \
	"i.accepted_at IS NULL AND i.expires_at > clock_timestamp() " \
	"AND " OA_MAKER_IS_MEMBER("i")

/* Make a new code. */
static text *
make_code(void)
{
	text	   *code = palloc(VARHDRSZ + OA_CODE_LEN);
	int			prefix_length = (int) strlen(OA_CODE_PREFIX);

	SET_VARSIZE(code, VARHDRSZ + OA_CODE_LEN);
	memcpy(VARDATA(code), OA_CODE_PREFIX, prefix_length);
	oa_random_characters(VARDATA(code) + prefix_length,
						 OA_CODE_LEN - prefix_length);
	return code;
}

/*
 * Compute the digest of a code, as stored in the table.  Returns NULL for a
 * text that cannot be a code.
 */
bytea	   *
oa_code_digest(const char *code, int length)
{
	bytea	   *digest;

	if (length != OA_CODE_LEN ||
		memcmp(code, OA_CODE_PREFIX, strlen(OA_CODE_PREFIX)) != 0)
		return NULL;

	digest = palloc(VARHDRSZ + OA_DIGEST_LEN);
	SET_VARSIZE(digest, VARHDRSZ + OA_DIGEST_LEN);
	oa_digest(code, length, (uint8 *) VARDATA(digest));
	return digest;
}

/* Remove a locked org's invitations that have expired or were used. */
static void
remove_old(text *org_id)
{
	static OaStatement delete = {
		.table = "invitations",
		.text = "DELETE FROM overten_auth.invitations "
		"WHERE org_id = $1 AND (expires_at <= clock_timestamp() "
		"OR accepted_at <= clock_timestamp() - interval '24 hours')",
		.argtypes = {TEXTOID},
	};
	Datum		values[] = {PointerGetDatum(org_id)};

	oa_statement_run(&delete, values, NULL);
}

/* Has this org, which is locked, as many pending invitations as it can have? */
static bool
has_all_invitations(text *org_id)
{
	static OaStatement count = {
		.table = "invitations",
		.latest = true,
		.text = "SELECT count(*) >= $2 FROM overten_auth.invitations i "
		"WHERE org_id = $1 AND " IS_PENDING,
		.argtypes = {TEXTOID, INT4OID},
	};
	Datum		values[] = {
		PointerGetDatum(org_id),
		Int32GetDatum(PENDING_MAX),
	};

	oa_statement_run(&count, values, NULL);
	return oa_statement_bool(0, 1);
}

/* Insert the row of a new invitation. */
static void
insert_invitation(text *org_id, const OaInvitation *invitation)
{
	static OaStatement insert = {
		.table = "invitations",
		.text = "INSERT INTO overten_auth.invitations "
		"(invitation_id, org_id, digest, note, created_at, created_by, "
		"expires_at) VALUES ($1, $2, $3, $4, $5, $6, $7)",
		.argtypes = {TEXTOID, TEXTOID, BYTEAOID, TEXTOID, TIMESTAMPTZOID,
		TEXTOID, TIMESTAMPTZOID},
	};
	Datum		values[] = {
		PointerGetDatum(invitation->invitation_id),
		PointerGetDatum(org_id),
		PointerGetDatum(oa_code_digest(VARDATA(invitation->code),
									   OA_CODE_LEN)),
		PointerGetDatum(invitation->note),
		TimestampTzGetDatum(invitation->created_at),
		PointerGetDatum(invitation->created_by),
		TimestampTzGetDatum(invitation->expires_at),
	};
	const bool	nulls[lengthof(values)] = {
		[3] = (invitation->note == NULL),
		[5] = (invitation->created_by == NULL),
	};

	oa_statement_run(&insert, values, nulls);
	oa_audit("invite", org_id, NULL, invitation->created_by,
			 invitation->invitation_id);
}

/*
 * Make an invitation to an org that is valid for some seconds.  "uid" is the
 * member who invites, or NULL: the application, which has no limit.  The
 * caller has checked the note, which may be NULL.
 */
OaProblem
oa_invite(text *uid, text *org_id, text *note, int64 seconds,
		  OaInvitation *invitation)
{
	OaProblem	problem = OA_NO_PROBLEM;
	OaLockedOrg org;
	int			level = oa_statements_begin();

	if (!oa_lock_members_org(org_id, uid, &org))
		problem = OA_ORGANIZATION_NOT_FOUND;
	else if (org.closed)
		problem = OA_ORGANIZATION_CLOSED;
	else if (uid != NULL && has_all_invitations(org_id))
		problem = OA_INVITATION_LIMIT_REACHED;
	oa_statements_end(level);
	if (problem != OA_NO_PROBLEM)
		return problem;

	invitation->invitation_id = oa_make_id("inv_");
	invitation->note = note;
	invitation->created_by = uid;
	invitation->created_at = GetCurrentTimestamp();
	invitation->expires_at = invitation->created_at + seconds * USECS_PER_SEC;
	invitation->code = make_code();

	level = oa_statements_begin();
	remove_old(org_id);
	insert_invitation(org_id, invitation);
	oa_statements_end(level);
	return OA_NO_PROBLEM;
}

/*
 * List the pending invitations of an org.  Must be called between
 * oa_statements_begin() and _end().
 */
static int
run_list(text *org_id)
{
	static OaStatement list = {
		.table = "invitations",
		.text = "SELECT invitation_id, note, created_at, created_by, "
		"expires_at FROM overten_auth.invitations i "
		"WHERE org_id = $1 AND " IS_PENDING " "
		"ORDER BY created_at, invitation_id",
		.argtypes = {TEXTOID},
	};
	Datum		values[] = {PointerGetDatum(org_id)};

	return (int) oa_statement_run(&list, values, NULL);
}

/*
 * Call back for each pending invitation of an org, in the order of their
 * creation.  The callback's argument is valid only during the call.
 */
void
oa_list_invitations(text *org_id, OaInvitationCallback callback,
					void *argument)
{
	int			level = oa_statements_begin();
	int			count = run_list(org_id);

	for (int row = 0; row < count; row++)
	{
		OaInvitation invitation = {0};

		invitation.invitation_id = oa_statement_text(row, 1);
		invitation.note = oa_statement_text_or_null(row, 2);
		invitation.created_at = oa_statement_time(row, 3, NULL);
		invitation.created_by = oa_statement_text_or_null(row, 4);
		invitation.expires_at = oa_statement_time(row, 5, NULL);
		callback(&invitation, argument);
	}
	oa_statements_end(level);
}

/*
 * Withdraw a pending invitation of an org, on behalf of a member or, if "uid"
 * is NULL, of the application.  Returns false if the org has no such
 * invitation.
 */
bool
oa_withdraw_invitation(text *uid, text *org_id, text *invitation_id)
{
	static OaStatement delete = {
		.table = "invitations",
		.text = "DELETE FROM overten_auth.invitations "
		"WHERE org_id = $1 AND invitation_id = $2 AND accepted_at IS NULL "
		"AND expires_at > clock_timestamp()",
		.argtypes = {TEXTOID, TEXTOID},
	};
	Datum		values[] = {
		PointerGetDatum(org_id),
		PointerGetDatum(invitation_id),
	};
	int			level = oa_statements_begin();
	bool		found = oa_statement_run(&delete, values, NULL) > 0;

	if (found)
		oa_audit("withdraw_invitation", org_id, NULL, uid, invitation_id);
	oa_statements_end(level);
	return found;
}

/* Two statements, so that the one for an org uses the index. */
#define WITHDRAW_OF_MEMBER(place) \
	"DELETE FROM overten_auth.invitations " \
	"WHERE created_by = $1 AND accepted_at IS NULL " place \
	" RETURNING org_id, invitation_id"

/*
 * Withdraw the invitations that a member has made, in one locked org, or in all
 * of them, if org_id is NULL: to those who leave, the codes would be a way back.
 * "uid" withdraws them, or the application, if it is NULL.  Returns how many
 * there were.  Must be called between oa_statements_begin() and _end().
 */
uint64
oa_withdraw_invitations_of(text *uid, text *org_id, text *member)
{
	static OaStatement in_org = {
		.table = "invitations",
		.text = WITHDRAW_OF_MEMBER("AND org_id = $2"),
		.argtypes = {TEXTOID, TEXTOID},
	};
	static OaStatement everywhere = {
		.table = "invitations",
		.text = WITHDRAW_OF_MEMBER(""),
		.argtypes = {TEXTOID},
	};
	Datum		values[] = {PointerGetDatum(member), PointerGetDatum(org_id)};
	int			count = (int) oa_statement_run(org_id != NULL ? &in_org :
											   &everywhere, values, NULL);
	Datum	   *org_ids = oa_statement_column(count, 1);
	Datum	   *ids = oa_statement_column(count, 2);

	for (int row = 0; row < count; row++)
		oa_audit("withdraw_invitation", DatumGetTextPP(org_ids[row]), NULL,
				 uid, DatumGetTextPP(ids[row]));
	return count;
}

/*
 * overten_invite(org_id text, note text, valid_for interval)
 * 		returns invitation_id, org_id, note, created_at, expires_at, code
 *
 * Nobody can read the code again after this call.  The note may be NULL.
 * Errors: 22004, 22023, 42704, 55000 the org is closed.
 */
Datum
overten_invite(PG_FUNCTION_ARGS)
{
	static const Oid types[] = {
		TEXTOID, TEXTOID, TEXTOID, TIMESTAMPTZOID, TIMESTAMPTZOID, TEXTOID,
	};
	text	   *org_id = oa_text_argument(fcinfo, 0, "org_id");
	text	   *note = oa_optional_name_argument(fcinfo, 1, "note",
												 OA_INVITATION_NOTE_MAX);
	int64		seconds = oa_interval_argument(fcinfo, 2, "valid_for", true,
											   OA_INVITATION_DAYS_MAX) / USECS_PER_SEC;
	OaInvitation invitation;
	Datum		values[lengthof(types)];
	const bool	nulls[lengthof(types)] = {[2] = (note == NULL)};

	switch (oa_invite(NULL, org_id, note, seconds, &invitation))
	{
		case OA_NO_PROBLEM:
			break;
		case OA_ORGANIZATION_CLOSED:
			oa_org_closed();
		default:
			oa_org_missing(org_id);
	}

	values[0] = PointerGetDatum(invitation.invitation_id);
	values[1] = PointerGetDatum(org_id);
	values[2] = PointerGetDatum(note);
	values[3] = TimestampTzGetDatum(invitation.created_at);
	values[4] = TimestampTzGetDatum(invitation.expires_at);
	values[5] = PointerGetDatum(invitation.code);
	return oa_result_row(fcinfo, types, lengthof(types), values, nulls);
}

/*
 * overten_list_invitations(org_id text)
 * 		returns setof invitation_id, note, created_at, created_by, expires_at
 *
 * Returns the pending invitations of an org, in the order of their creation.
 * Errors: 22004, 42704.
 */
Datum
overten_list_invitations(PG_FUNCTION_ARGS)
{
	text	   *org_id = oa_text_argument(fcinfo, 0, "org_id");
	int			level;

	oa_begin_set(fcinfo);
	level = oa_statements_begin();
	if (run_list(org_id) == 0)
		oa_require_org(org_id);
	else
		oa_statement_return_rows(fcinfo);
	oa_statements_end(level);
	return (Datum) 0;
}

/*
 * overten_withdraw_invitation(org_id text, invitation_id text) returns boolean
 *
 * Returns true if this call withdrew the invitation, and false if the org has
 * no such pending invitation.  Errors: 22004, 42704 the org does not exist.
 */
Datum
overten_withdraw_invitation(PG_FUNCTION_ARGS)
{
	text	   *org_id = oa_text_argument(fcinfo, 0, "org_id");
	text	   *invitation_id = oa_text_argument(fcinfo, 1, "invitation_id");
	bool		withdrawn = oa_withdraw_invitation(NULL, org_id,
												   invitation_id);

	if (!withdrawn)
	{
		int			level = oa_statements_begin();

		oa_require_org(org_id);
		oa_statements_end(level);
	}
	PG_RETURN_BOOL(withdrawn);
}
