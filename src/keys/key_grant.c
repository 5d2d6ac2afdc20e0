/*
 * key_grant.c
 *		Checks what a key is given beside its org, name and details: an
 *		environment, an expiry, scopes and allowed addresses.
 *
 * SQL functions and HTTP endpoints share these checks.  So a broken rule is
 * returned as a fault, and only oa_require_grant() raises it.  Arrays are
 * stored sorted and without duplicates, so that two lists with the same
 * contents are equal.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "utils/array.h"
#include "utils/datetime.h"
#include "utils/fmgrprotos.h"
#include "utils/inet.h"
#include "utils/timestamp.h"

#include "keys/keys.h"
#include "server/server.h"
#include "settings.h"

/* Note which rule a parameter breaks.  Returns false, for the caller to return. */
static bool
set_fault(OaFault *fault, const char *param, const char *rule)
{
	fault->param = param;
	fault->rule = rule;
	return false;
}

/*
 * When does a key that was created then expire at the latest?  Returns false if
 * there is no such limit.
 */
bool
oa_latest_expiry(TimestampTz created_at, TimestampTz *latest)
{
	*latest = TimestampTzPlusMilliseconds(created_at,
										  INT64CONST(1000) * oa_max_key_lifetime);
	return oa_max_key_lifetime > 0;
}

/*
 * Can any key expire at this time?  RFC 3339 writes years with four digits, so
 * a client could not read a later one, nor send it back.
 */
bool
oa_check_expiry_year(TimestampTz expires_at, OaFault *fault)
{
	const TimestampTz end = (date2j(10000, 1, 1) - POSTGRES_EPOCH_JDATE) *
	USECS_PER_DAY;

	return (expires_at >= SetEpochTimestamp() && expires_at < end) ||
		set_fault(fault, "expires_at",
				  "must be in the years 1970 to 9999, or null for never");
}

/* May a key that was created then expire at this time? */
bool
oa_check_expiry(TimestampTz expires_at, TimestampTz created_at,
				OaFault *fault)
{
	TimestampTz latest;

	if (!oa_check_expiry_year(expires_at, fault))
		return false;
	if (oa_latest_expiry(created_at, &latest) && expires_at > latest)
		return set_fault(fault, "expires_at",
						 psprintf("must be at most %d seconds after the key is created",
								  oa_max_key_lifetime));
	return true;
}

static int
compare_scopes(const void *a, const void *b)
{
	text	   *left = DatumGetTextPP(*(const Datum *) a);
	text	   *right = DatumGetTextPP(*(const Datum *) b);
	int			left_length = VARSIZE_ANY_EXHDR(left);
	int			right_length = VARSIZE_ANY_EXHDR(right);
	int			order = memcmp(VARDATA_ANY(left), VARDATA_ANY(right),
							   Min(left_length, right_length));

	return order != 0 ? order : left_length - right_length;
}

/* Write an IPv4-mapped network as an IPv4 network. */
static Datum
prepare_network(Datum value)
{
	OaNetwork	network;

	oa_network_from_cidr(value, &network);
	return oa_network_to_cidr(&network);
}

static int
compare_networks(const void *a, const void *b)
{
	return DatumGetInt32(DirectFunctionCall2(network_cmp, *(const Datum *) a,
											 *(const Datum *) b));
}

/*
 * Sort the values of a one-dimensional array and remove duplicates.  Unless it
 * is NULL, "prepare" is called for each value before.  Returns false if the
 * array has another form, too many values, or NULLs.
 */
static bool
normalize(ArrayType **array, const char *param, int max,
		  Datum (*prepare) (Datum value),
		  int (*compare) (const void *a, const void *b), OaFault *fault)
{
	Oid			type = ARR_ELEMTYPE(*array);
	Datum	   *values;
	bool	   *nulls;
	int			count;
	int			kept = 0;

	if (ARR_NDIM(*array) > 1)
		return set_fault(fault, param, "must have one dimension");
	if (ArrayGetNItems(ARR_NDIM(*array), ARR_DIMS(*array)) > max)
		return set_fault(fault, param, psprintf("must have at most %d values",
												max));

	deconstruct_array(*array, type, -1, false, TYPALIGN_INT, &values, &nulls,
					  &count);
	for (int i = 0; i < count; i++)
		if (nulls[i])
			return set_fault(fault, param, "must not contain nulls");

	if (prepare != NULL)
		for (int i = 0; i < count; i++)
			values[i] = prepare(values[i]);
	qsort(values, count, sizeof(Datum), compare);
	for (int i = 0; i < count; i++)
		if (i == 0 || compare(&values[i], &values[kept - 1]) != 0)
			values[kept++] = values[i];
	*array = construct_array(values, kept, type, -1, false, TYPALIGN_INT);
	return true;
}

/* Is this the name of a scope: [a-z0-9][a-z0-9._:-]{0,63}? */
bool
oa_is_scope(const char *bytes, int length)
{
	if (length < 1 || length > OA_SCOPE_MAX)
		return false;
	for (int i = 0; i < length; i++)
	{
		char		c = bytes[i];

		if (!((c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') ||
			  (i > 0 && (c == '.' || c == '_' || c == ':' || c == '-'))))
			return false;
	}
	return true;
}

/* Does the catalogue have all these scopes?  May customers choose them? */
static bool
are_in_catalogue(ArrayType *scopes, bool self_service)
{
	static OaStatement find = {
		.table = "scopes",
		.text = "SELECT count(*) = cardinality($1) FROM overten_auth.scopes "
		"WHERE name = ANY ($1) AND (self_service OR NOT $2)",
		.argtypes = {TEXTARRAYOID, BOOLOID},
	};
	Datum		values[] = {PointerGetDatum(scopes), BoolGetDatum(self_service)};
	int			level = oa_statements_begin();
	bool		found;

	oa_statement_run(&find, values, NULL);
	found = oa_statement_bool(0, 1);
	oa_statements_end(level);
	return found;
}

/*
 * Check the scopes of a key, and replace them by what is to be stored.
 * "self_service" says that a customer chooses them.
 */
bool
oa_check_scopes(ArrayType **scopes, bool self_service, OaFault *fault)
{
	Datum	   *values;
	int			count;

	if (!normalize(scopes, "scopes", OA_SCOPES_MAX, NULL, compare_scopes,
				   fault))
		return false;

	deconstruct_array(*scopes, TEXTOID, -1, false, TYPALIGN_INT, &values, NULL,
					  &count);
	for (int i = 0; i < count; i++)
	{
		text	   *scope = DatumGetTextPP(values[i]);

		if (!oa_is_scope(VARDATA_ANY(scope), VARSIZE_ANY_EXHDR(scope)))
			return set_fault(fault, "scopes",
							 "must have 1 to 64 characters each: a-z, 0-9, and after the first also . _ : -");
	}
	if (!are_in_catalogue(*scopes, self_service))
		return set_fault(fault, "scopes",
						 self_service ? "must be ones that customers may choose" :
						 "must be in the table overten_auth.scopes");
	return true;
}

/* Likewise for the addresses that a key can be used from. */
bool
oa_check_allowed_addresses(ArrayType **addresses, OaFault *fault)
{
	/* Some people would take an empty list for "all", and others for "none". */
	if (ArrayGetNItems(ARR_NDIM(*addresses), ARR_DIMS(*addresses)) == 0)
		return set_fault(fault, "allowed_addresses",
						 "must not be empty; null allows all addresses");
	return normalize(addresses, "allowed_addresses", OA_ALLOWED_ADDRESSES_MAX,
					 prepare_network, compare_networks, fault);
}

static const char *const environments[] = {
	[OA_LIVE] = "live",
	[OA_TEST] = "test",
};

/* The name of an environment, as in the column of api_keys. */
const char *
oa_environment_name(OaEnvironment environment)
{
	return environments[environment];
}

/* Read the name of an environment.  Returns false and the fault if it is none. */
bool
oa_parse_environment(const char *bytes, int length,
					 OaEnvironment *environment, OaFault *fault)
{
	for (int i = 0; i < lengthof(environments); i++)
		if (strlen(environments[i]) == length &&
			memcmp(environments[i], bytes, length) == 0)
		{
			*environment = (OaEnvironment) i;
			return true;
		}
	return set_fault(fault, "environment", "must be \"live\" or \"test\"");
}

/*
 * Check what a new key is to be given, and replace arrays by what is to be
 * stored.  Returns false and the fault if a rule is broken.
 */
bool
oa_check_grant(OaKeyGrant *grant, bool self_service, OaFault *fault)
{
	TimestampTz now = GetCurrentTimestamp();

	if (!oa_has_prefix(grant->environment))
		return set_fault(fault, "environment", self_service ?
						 "must be one that the service has keys for" :
						 "must have a prefix in overten_auth.key_prefixes");
	if (grant->has_expiry)
	{
		if (grant->expires_at <= now)
			return set_fault(fault, "expires_at", "must be in the future");
		if (!oa_check_expiry(grant->expires_at, now, fault))
			return false;
	}
	if (grant->scopes != NULL &&
		!oa_check_scopes(&grant->scopes, self_service, fault))
		return false;
	return grant->allowed_addresses == NULL ||
		oa_check_allowed_addresses(&grant->allowed_addresses, fault);
}

/* Raise 22023 for a fault. */
void
oa_refuse_fault(const OaFault *fault)
{
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("%s %s", fault->param, fault->rule)));
}

/* Check what a SQL function is to give a new key.  Raises 22023. */
void
oa_require_grant(OaKeyGrant *grant)
{
	OaFault		fault;

	if (!oa_check_grant(grant, false, &fault))
		oa_refuse_fault(&fault);
}
