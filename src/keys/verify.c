/*
 * verify.c
 *		From bearer text to row: the path that everything else serves.
 *
 *	bearer text -> shape -> SHA-256 -> cache -> index -> decision -> record -> row
 *
 * A credential that is not admitted gives no row, whatever the reason, and no
 * error: an error would put the statement, and with it perhaps the secret, into
 * the server log.  Nothing here runs SQL or writes, but for the record of the
 * use (recorder.c).  The functions are VOLATILE and PARALLEL UNSAFE, for they
 * look at the latest state of the tables instead of the caller's snapshot.
 *
 * Whose key is this?  That is all that these functions answer.  Their callers
 * cannot say what a request needs, and do not hear what a key may do.  So a key
 * that has scopes or allowed addresses gives no row, unless
 * overten_auth.verify_restricted says that the callers look after scopes
 * themselves.  Its addresses are checked even then.
 */
#include "postgres.h"

#include "access/detoast.h"
#include "access/htup_details.h"
#include "access/xlog.h"
#include "funcapi.h"

#include "keys/decision.h"
#include "server/server.h"
#include "settings.h"
#include "standby/standby.h"
#include "usage/usage.h"

PG_FUNCTION_INFO_V1(overten_verify_key);
PG_FUNCTION_INFO_V1(overten_verify_key_digest);

/*
 * May keys be verified here and now?  A standby learns of a revocation late.
 * Ask this before anything else is looked at, once for each verification.
 */
bool
oa_may_verify(void)
{
	if (!oa_verify_on_standby)
		return !RecoveryInProgress();
	return oa_max_standby_lag == 0 || !RecoveryInProgress() ||
		oa_is_within_standby_bound();
}

/* Raise 55000 unless oa_may_verify(). */
void
oa_require_verification(void)
{
	if (oa_may_verify())
		return;
	if (oa_verify_on_standby)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("%s", oa_standby_lag_message()),
				 errdetail_internal("%s", oa_standby_lag_detail()),
				 errhint("%s", oa_standby_lag_hint())));
	ereport(ERROR,
			(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
			 errmsg("keys are not verified on a standby"),
			 errdetail("A standby learns of a revocation only when it replays it."),
			 errhint("Verify on the primary, or set overten_auth.verify_on_standby.")));
}

/*
 * Verify a digest, and record the use.  Returns true if the key is admitted.
 * The caller has made sure of oa_may_verify().
 */
static bool
verify(const OaQuestion *question, OaDecision *decision)
{
	oa_decide(question, decision);
	if (decision->outcome != OA_ADMITTED)
	{
		oa_record_refusal(question, decision);
		return false;
	}
	oa_record_use(question, decision);
	return true;
}

/*
 * Verify what should be a secret for an HTTP request.  The client is NULL if
 * its address is unknown.  "knows_restrictions" says that the caller looks
 * after scopes.  The caller has made sure of oa_may_verify().
 */
bool
oa_verify_secret(const char *bytes, int length, const OaClientAddr *client,
				 bool knows_restrictions, OaVerifiedKey *key)
{
	uint8		digest[OA_DIGEST_LEN];
	OaQuestion	question = {
		.digest = digest,
		.client = client,
		.address = client,
		.saw_secret = true,
		.knows_restrictions = knows_restrictions || oa_verify_restricted,
	};
	OaDecision	decision;
	HeapTupleData tuple = {0};

	if (!oa_is_secret_shaped(bytes, length))
	{
		oa_count_event(OA_REFUSED_UNREAD);
		return false;
	}

	oa_digest(bytes, length, digest);
	if (!verify(&question, &decision))
		return false;

	tuple.t_data = decision.row;
	tuple.t_len = HeapTupleHeaderGetDatumLength(tuple.t_data);
	heap_deform_tuple(&tuple, oa_verified_key_columns(), key->values,
					  key->nulls);
	key->restrictions = decision.restrictions;
	return true;
}

/*
 * Verify a digest for a SQL function whose rows are overten_auth.verified_key.
 * "saw_secret" is for the decision.  Returns NULL if it is refused.  Sets
 * *restrictions, to NULL if there are none, unless the pointer is NULL.
 */
static HeapTupleHeader
verify_for_sql(FunctionCallInfo fcinfo, const uint8 *digest, bool saw_secret,
			   const OaRestrictions **restrictions)
{
	static OaCheckedType checked_type;
	OaQuestion	question = {
		.digest = digest,
		.address = oa_session_client_addr(),
		.saw_secret = saw_secret,
		.knows_restrictions = oa_verify_restricted,
	};
	ErrorContextCallback secrecy;
	OaDecision	decision;
	HeapTupleHeader row = NULL;

	oa_secrecy_begin(&secrecy);
	oa_require_verification();
	if (verify(&question, &decision))
	{
		row = decision.row;
		oa_set_row_type(row, oa_verified_key_columns(), fcinfo->flinfo,
						&checked_type);
		if (restrictions != NULL)
			*restrictions = decision.restrictions;
	}
	oa_secrecy_end(&secrecy);
	return row;
}

/* The same for the function's first argument, which should be a secret. */
HeapTupleHeader
oa_verify_argument(FunctionCallInfo fcinfo,
				   const OaRestrictions **restrictions)
{
	uint8		digest[OA_DIGEST_LEN];
	text	   *secret = oa_secret_argument(fcinfo, 0);

	if (secret == NULL)
	{
		oa_count_event(OA_REFUSED_UNREAD);
		return NULL;
	}
	oa_digest(VARDATA_ANY(secret), VARSIZE_ANY_EXHDR(secret), digest);
	return verify_for_sql(fcinfo, digest, true, restrictions);
}

/*
 * overten_verify_key(secret text) returns setof overten_auth.verified_key
 *
 * One row for a key that is not revoked, expired, disabled or restricted, of an
 * org that is not suspended; no row for anything else.  Raises 55000 on a
 * standby where that is not allowed.
 */
Datum
overten_verify_key(PG_FUNCTION_ARGS)
{
	if (oa_single_row_was_returned(fcinfo))
		return (Datum) 0;
	return oa_return_single_row(fcinfo, oa_verify_argument(fcinfo, NULL));
}

/*
 * overten_verify_key_digest(digest bytea)
 *		returns setof overten_auth.verified_key
 *
 * The same from the SHA-256 of a secret, for callers who hash before they
 * call.  Anything that has not 32 bytes is refused.
 */
Datum
overten_verify_key_digest(PG_FUNCTION_ARGS)
{
	bytea	   *digest;

	if (oa_single_row_was_returned(fcinfo))
		return (Datum) 0;

	/* STRICT keeps NULL away, but not from a declaration without it. */
	if (PG_ARGISNULL(0) ||
		toast_raw_datum_size(PG_GETARG_DATUM(0)) != OA_DIGEST_LEN + VARHDRSZ)
	{
		oa_count_event(OA_REFUSED_UNREAD);
		return oa_return_single_row(fcinfo, NULL);
	}

	digest = PG_GETARG_BYTEA_PP(0);
	return oa_return_single_row(fcinfo,
								verify_for_sql(fcinfo, (const uint8 *) VARDATA_ANY(digest),
											   false, NULL));
}
