/*
 * admission.c
 *		Decides whether a request may go on: the one question that a service
 *		asks before it works.
 *
 *	bearer text -> digest -> cache -> decision -> limits -> record -> row
 *
 * Whether the key is good is decided first (decision.c), and then its limits are
 * asked, all at once.  Nothing is consumed unless everything is granted.  What
 * was granted stays consumed, whatever becomes of the transaction; nothing here
 * writes to a table that matters to that, so it works in a read-only
 * transaction and, unless the key has a quota, on a standby, too.
 *
 * A limit that cannot be counted raises an error.  It is never ignored.
 */
#include "postgres.h"

#include <sys/socket.h>

#include "access/htup_details.h"
#include "catalog/pg_type.h"
#include "funcapi.h"
#include "utils/builtins.h"
#include "utils/inet.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "keys/decision.h"
#include "limits/limits.h"
#include "server/server.h"
#include "usage/usage.h"

PG_FUNCTION_INFO_V1(overten_admit);
PG_FUNCTION_INFO_V1(overten_admission);

/* The arguments of both functions. */
enum
{
	SECRET, COST, SCOPES, CLIENT_ADDR, ARGUMENTS
};

/* The columns of overten_auth.admission. */
enum
{
	OUTCOME, KEY_ID, ORG_ID, ORG_NAME, TIER, ENVIRONMENT, KEY_PREFIX,
	KEY_SCOPES, LIMIT_NAME, QUOTA, REMAINING, RETRY_AFTER, RESET_AFTER,
	COLUMNS
};

/* The name of an outcome, as SQL and HTTP have it. */
const char *
oa_outcome_name(OaOutcome outcome)
{
	switch (outcome)
	{
		case OA_ADMITTED:
			return "admitted";
		case OA_KEY_INVALID:
			return "invalid";
		case OA_KEY_EXPIRED:
			return "expired";
		case OA_KEY_DISABLED:
			return "disabled";
		case OA_ADDRESS_NOT_ALLOWED:
			return "address_not_allowed";
		case OA_INSUFFICIENT_SCOPE:
			return "insufficient_scope";
		case OA_RATE_LIMITED:
			return "rate_limited";
		case OA_QUOTA_EXCEEDED:
			return "quota_exceeded";
	}
	elog(ERROR, "unexpected outcome %d", outcome);
	return NULL;				/* keep the compiler quiet */
}

/*
 * Ask the limits of a key that was admitted so far, and record the outcome.
 * Returns why the limits could not be asked, or OA_WITHIN_LIMITS or
 * OA_OVER_LIMIT.
 */
static OaLimiting
ask_limits(const OaQuestion *question, int64 cost, OaAdmission *admission)
{
	OaDecision *decision = &admission->decision;
	OaLimiting	limiting = oa_ask_limits(decision->cached.limits,
										 oa_verified_column(decision->row,
															OA_VERIFIED_ORG_ID),
										 cost, &admission->standing);

	if (limiting == OA_WITHIN_LIMITS)
		oa_record_use(question, decision);
	else if (limiting == OA_OVER_LIMIT)
	{
		decision->outcome = admission->standing.is_quota ?
			OA_QUOTA_EXCEEDED : OA_RATE_LIMITED;
		oa_record_limited(question, decision);
	}
	return limiting;
}

/*
 * May a request go on?  "bytes" should be a secret, and is NULL if it is not
 * even shaped like one.  "cost" is 0 to OA_COST_MAX; 0 only asks.  "scopes" is
 * what the request needs, a text[] or NULL.  "client" is the address of the
 * client; NULL means the session's, and family 0 that it is unknown.
 *
 * Returns OA_WITHIN_LIMITS or OA_OVER_LIMIT if the admission says everything,
 * or why the limits of the key could not be asked.  In that case nothing was
 * consumed, and the caller must not let the request go on.  Raises 55000 unless
 * oa_may_verify().
 */
OaLimiting
oa_admit(const char *bytes, int length, int64 cost, ArrayType *scopes,
		 const OaClientAddr *client, OaAdmission *admission)
{
	uint8		digest[OA_DIGEST_LEN];
	OaQuestion	question = {
		.digest = digest,
		.client = client,
		.address = client != NULL ? client : oa_session_client_addr(),
		.scopes = scopes,
		.saw_secret = true,
		.knows_restrictions = true,
		.with_limits = true,
	};
	OaDecision *decision = &admission->decision;

	oa_require_verification();
	memset(admission, 0, sizeof(*admission));
	if (bytes == NULL || !oa_is_secret_shaped(bytes, length))
	{
		decision->outcome = OA_KEY_INVALID;
		oa_count_event(OA_REFUSED_UNREAD);
		return OA_WITHIN_LIMITS;
	}

	oa_digest(bytes, length, digest);
	oa_decide(&question, decision);
	if (decision->outcome == OA_ADMITTED)
		return ask_limits(&question, cost, admission);
	oa_record_refusal(&question, decision);
	return OA_WITHIN_LIMITS;
}

/* The client's address.  Returns NULL if the argument is NULL. */
static const OaClientAddr *
client_argument(FunctionCallInfo fcinfo, OaClientAddr *address)
{
	inet	   *value;
	bool		is_ipv6;

	if (PG_ARGISNULL(CLIENT_ADDR))
		return NULL;

	value = PG_GETARG_INET_PP(CLIENT_ADDR);
	is_ipv6 = ip_family(value) == PGSQL_AF_INET6;
	if (ip_bits(value) != (is_ipv6 ? 128 : 32))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("client_addr must be a single address")));
	if (is_ipv6)
		oa_set_ipv6(address, ip_addr(value));
	else
		oa_set_ipv4(address, ip_addr(value));
	return address;
}

/* Call oa_admit() with the arguments of a SQL function. */
static void
admit_arguments(FunctionCallInfo fcinfo, OaAdmission *admission)
{
	ErrorContextCallback secrecy;
	OaClientAddr address;
	const OaClientAddr *client;
	text	   *secret;
	ArrayType  *scopes;
	int64		cost;
	OaLimiting	limiting;

	oa_secrecy_begin(&secrecy);
	oa_require_argument_count(fcinfo, ARGUMENTS);
	cost = oa_cost_argument(fcinfo, COST);
	scopes = PG_ARGISNULL(SCOPES) ? NULL : PG_GETARG_ARRAYTYPE_P(SCOPES);
	client = client_argument(fcinfo, &address);
	secret = oa_secret_argument(fcinfo, SECRET);
	limiting = oa_admit(secret == NULL ? NULL : VARDATA_ANY(secret),
						secret == NULL ? 0 : VARSIZE_ANY_EXHDR(secret),
						cost, scopes, client, admission);
	if (limiting != OA_WITHIN_LIMITS && limiting != OA_OVER_LIMIT)
		oa_refuse_to_limit(limiting);
	oa_secrecy_end(&secrecy);
}

/*
 * overten_admit(secret text, cost bigint, scopes text[], client_addr inet)
 *		returns setof overten_auth.verified_key
 *
 * One row if the request may go on; no row otherwise.  Errors: 22004; 22023;
 * 55000 on a standby where keys are not verified, or the key has limits that
 * cannot be counted.
 */
Datum
overten_admit(PG_FUNCTION_ARGS)
{
	static OaCheckedType checked_type;
	OaAdmission admission;
	HeapTupleHeader row = NULL;

	if (oa_single_row_was_returned(fcinfo))
		return (Datum) 0;
	admit_arguments(fcinfo, &admission);
	if (admission.decision.outcome == OA_ADMITTED)
	{
		row = admission.decision.row;
		oa_set_row_type(row, oa_verified_key_columns(), fcinfo->flinfo,
						&checked_type);
	}
	return oa_return_single_row(fcinfo, row);
}

/* The columns of overten_auth.admission, for the rest of the session. */
static TupleDesc
admission_columns(void)
{
	static const OaColumn columns[COLUMNS] = {
		[OUTCOME] = {"outcome", TEXTOID},
		[KEY_ID] = {"key_id", TEXTOID},
		[ORG_ID] = {"org_id", TEXTOID},
		[ORG_NAME] = {"org_name", TEXTOID},
		[TIER] = {"tier", TEXTOID},
		[ENVIRONMENT] = {"environment", TEXTOID},
		[KEY_PREFIX] = {"key_prefix", TEXTOID},
		[KEY_SCOPES] = {"scopes", TEXTARRAYOID},
		[LIMIT_NAME] = {"limit_name", TEXTOID},
		[QUOTA] = {"quota", INT8OID},
		[REMAINING] = {"remaining", INT8OID},
		[RETRY_AFTER] = {"retry_after", INTERVALOID},
		[RESET_AFTER] = {"reset_after", INTERVALOID},
	};
	static TupleDesc descriptor = NULL;

	if (descriptor == NULL)
		descriptor = oa_make_columns(columns, COLUMNS);
	return descriptor;
}

static void
set_value(Datum *values, bool *nulls, int column, Datum value)
{
	values[column] = value;
	nulls[column] = false;
}

/* What the key itself says. */
static void
describe_key(const OaDecision *decision, Datum *values, bool *nulls)
{
	static const int columns[] = {
		[OA_VERIFIED_KEY_ID] = KEY_ID,
		[OA_VERIFIED_ORG_ID] = ORG_ID,
		[OA_VERIFIED_ORG_NAME] = ORG_NAME,
		[OA_VERIFIED_TIER] = TIER,
		[OA_VERIFIED_WEBHOOK_SECRET] = -1,
		[OA_VERIFIED_KEY_PREFIX] = KEY_PREFIX,
	};
	const OaRestrictions *restrictions = decision->restrictions;
	bool		is_test = restrictions != NULL && restrictions->test;

	for (int i = 0; i < OA_VERIFIED_COLUMNS; i++)
		if (columns[i] >= 0)
			set_value(values, nulls, columns[i],
					  PointerGetDatum(oa_verified_column(decision->row, i)));
	set_value(values, nulls, ENVIRONMENT,
			  CStringGetTextDatum(oa_environment_name(is_test ? OA_TEST : OA_LIVE)));
	if (restrictions != NULL && restrictions->has_scopes)
		set_value(values, nulls, KEY_SCOPES,
				  PointerGetDatum(oa_unpack_scopes(restrictions)));
}

/* What the limit says that matters. */
static void
describe_standing(const OaAdmission *admission, Datum *values, bool *nulls)
{
	const OaStanding *standing = &admission->standing;

	set_value(values, nulls, LIMIT_NAME, CStringGetTextDatum(standing->name));
	set_value(values, nulls, QUOTA, Int64GetDatum(standing->quota));
	set_value(values, nulls, REMAINING, Int64GetDatum(standing->remaining));
	set_value(values, nulls, RESET_AFTER,
			  oa_interval(standing->reset_after));
	if (admission->decision.outcome != OA_ADMITTED &&
		standing->retry_after >= 0)
		set_value(values, nulls, RETRY_AFTER,
				  oa_interval(standing->retry_after));
}

/*
 * overten_admission(secret text, cost bigint, scopes text[], client_addr inet)
 *		returns overten_auth.admission
 *
 * The same, but always one row, which says why the request is refused.
 */
Datum
overten_admission(PG_FUNCTION_ARGS)
{
	static OaCheckedType checked_type;
	TupleDesc	columns = admission_columns();
	Datum		values[COLUMNS] = {0};
	bool		nulls[COLUMNS];
	OaAdmission admission;
	OaOutcome	outcome;
	HeapTupleHeader row;

	admit_arguments(fcinfo, &admission);
	outcome = admission.decision.outcome;
	memset(nulls, true, sizeof(nulls));
	set_value(values, nulls, OUTCOME,
			  CStringGetTextDatum(oa_outcome_name(outcome)));
	if (outcome != OA_KEY_INVALID)
		describe_key(&admission.decision, values, nulls);
	if (admission.standing.is_limited)
		describe_standing(&admission, values, nulls);

	row = heap_form_tuple(columns, values, nulls)->t_data;
	oa_set_row_type(row, columns, fcinfo->flinfo, &checked_type);
	return HeapTupleHeaderGetDatum(row);
}
