/*
 * restrictions.c
 *		What restricts the use of a key beside a revocation: the environment
 *		"test", an expiry, disabling, scopes and allowed addresses.
 *
 * A key's restrictions are cached with its row, and looked at in every
 * verification.  So we pack them when we read the row, and a look does not
 * detoast or allocate anything.  Most keys have none, and then there is nothing
 * to look at.  We ask for the time only if the key can expire.
 *
 * In "data" each scope is a byte with its length, and its characters.  Each
 * network that follows is a byte with its family, a byte with the number of its
 * bits, and the 4 or 16 bytes of its address.
 */
#include "postgres.h"

#include <sys/socket.h>

#include "catalog/pg_type.h"
#include "utils/builtins.h"
#include "utils/inet.h"
#include "utils/timestamp.h"

#include "keys/decision.h"
#include "settings.h"
#include "text/text.h"

#define SCOPE_SIZE_MAX		(1 + OA_SCOPE_MAX)
#define NETWORK_SIZE_MAX	(2 + 16)

/* Convert a value of type cidr. */
void
oa_network_from_cidr(Datum cidr, OaNetwork *network)
{
	inet	   *value = DatumGetInetPP(cidr);
	int			family = ip_family(value) == PGSQL_AF_INET6 ? 6 : 4;

	if (!oa_set_network(network, family, ip_bits(value), ip_addr(value)))
		elog(ERROR, "a network has bits after its first %d", ip_bits(value));
}

/* The same the other way round. */
Datum
oa_network_to_cidr(const OaNetwork *network)
{
	inet	   *value = palloc0(sizeof(inet));

	ip_family(value) = network->family == 6 ? PGSQL_AF_INET6 : PGSQL_AF_INET;
	ip_bits(value) = network->bits;
	memcpy(ip_addr(value), network->bytes, network->family == 6 ? 16 : 4);
	SET_INET_VARSIZE(value);
	return InetPGetDatum(value);
}

/* Pack scopes.  Returns the next free byte. */
static uint8 *
pack_scopes(uint8 *at, ArrayType *scopes)
{
	Datum	   *values;
	int			count;

	deconstruct_array(scopes, TEXTOID, -1, false, TYPALIGN_INT, &values, NULL,
					  &count);
	for (int i = 0; i < count; i++)
	{
		text	   *scope = DatumGetTextPP(values[i]);
		int			length = VARSIZE_ANY_EXHDR(scope);

		/* Nobody can ask for another one. */
		if (!oa_is_scope(VARDATA_ANY(scope), length))
			continue;
		*at++ = (uint8) length;
		memcpy(at, VARDATA_ANY(scope), length);
		at += length;
	}
	return at;
}

/* Pack networks.  Returns the next free byte. */
static uint8 *
pack_networks(uint8 *at, ArrayType *networks)
{
	Datum	   *values;
	int			count;

	deconstruct_array(networks, CIDROID, -1, false, TYPALIGN_INT, &values,
					  NULL, &count);
	for (int i = 0; i < count; i++)
	{
		OaNetwork	network;
		int			length;

		oa_network_from_cidr(values[i], &network);
		length = network.family == 4 ? 4 : 16;
		*at++ = network.family;
		*at++ = network.bits;
		memcpy(at, network.bytes, length);
		at += length;
	}
	return at;
}

static int
count_of(const ArrayType *array)
{
	return array == NULL ? 0 : ArrayGetNItems(ARR_NDIM(array), ARR_DIMS(array));
}

/* Pack what restricts a key; NULL if there is nothing. */
const OaRestrictions *
oa_pack_restrictions(const OaKeyRow *key)
{
	OaRestrictions *packed;
	uint8	   *at;

	if (!key->test && !key->disabled && TIMESTAMP_IS_NOEND(key->expires_at) &&
		key->scopes == NULL && key->allowed_addresses == NULL)
		return NULL;

	packed = palloc0(offsetof(OaRestrictions, data) +
					 count_of(key->scopes) * SCOPE_SIZE_MAX +
					 count_of(key->allowed_addresses) * NETWORK_SIZE_MAX);
	packed->expires_at = key->expires_at;
	packed->test = key->test;
	packed->disabled = key->disabled;
	at = packed->data;
	if (key->scopes != NULL)
	{
		packed->has_scopes = true;
		at = pack_scopes(at, key->scopes);
		packed->scopes_length = (uint16) (at - packed->data);
	}
	if (key->allowed_addresses != NULL)
	{
		packed->has_addresses = true;
		at = pack_networks(at, key->allowed_addresses);
	}
	packed->length = (uint32) (at - (uint8 *) packed);
	return packed;
}

/* Return the scopes of a key that has some of its own: a text[]. */
ArrayType *
oa_unpack_scopes(const OaRestrictions *restrictions)
{
	const uint8 *at = restrictions->data;
	const uint8 *end = at + restrictions->scopes_length;
	Datum		values[OA_SCOPES_MAX];
	int			count = 0;

	for (; at < end && count < OA_SCOPES_MAX; at += 1 + *at)
		values[count++] =
			PointerGetDatum(cstring_to_text_with_len((const char *) at + 1, *at));
	return construct_array(values, count, TEXTOID, -1, false, TYPALIGN_INT);
}

/* Does a key with these restrictions have a scope? */
bool
oa_has_scope(const OaRestrictions *restrictions, const char *scope,
			 int length)
{
	const uint8 *at;
	const uint8 *end;

	if (restrictions == NULL || !restrictions->has_scopes)
		return true;

	at = restrictions->data;
	end = at + restrictions->scopes_length;
	for (; at < end; at += 1 + *at)
		if (*at == length && memcmp(at + 1, scope, length) == 0)
			return true;
	return false;
}

/* Does a key have all the scopes of a text[]?  A NULL is no scope that it has. */
static bool
has_scopes(const OaRestrictions *restrictions, ArrayType *scopes)
{
	Datum	   *values;
	bool	   *nulls;
	int			count;

	if (!restrictions->has_scopes || scopes == NULL)
		return true;

	deconstruct_array(scopes, TEXTOID, -1, false, TYPALIGN_INT, &values, &nulls,
					  &count);
	for (int i = 0; i < count; i++)
	{
		text	   *scope = nulls[i] ? NULL : DatumGetTextPP(values[i]);

		if (scope == NULL ||
			!oa_has_scope(restrictions, VARDATA_ANY(scope),
						  VARSIZE_ANY_EXHDR(scope)))
			return false;
	}
	return true;
}

/* Can a key be used from an address?  Not if that is unknown. */
static bool
is_allowed(const OaRestrictions *restrictions, const OaClientAddr *address)
{
	const uint8 *at = restrictions->data + restrictions->scopes_length;
	const uint8 *end = (const uint8 *) restrictions + restrictions->length;

	if (!restrictions->has_addresses)
		return true;
	if (address == NULL || address->family == 0)
		return false;

	while (at < end)
	{
		OaNetwork	network = {.family = at[0],.bits = at[1]};
		int			length = network.family == 4 ? 4 : 16;

		memcpy(network.bytes, at + 2, length);
		if (oa_network_contains(&network, address))
			return true;
		at += 2 + length;
	}
	return false;
}

/*
 * Decide about a key that is not revoked: by its restrictions (or NULL), the
 * address that the request comes from (NULL if that is unknown), and the scopes
 * that the request needs (or NULL).
 */
OaOutcome
oa_check_restrictions(const OaRestrictions *restrictions,
					  const OaClientAddr *address, ArrayType *scopes)
{
	if (restrictions == NULL)
		return OA_ADMITTED;
	if (restrictions->test && !oa_accept_test_keys)
		return OA_KEY_INVALID;
	if (!TIMESTAMP_IS_NOEND(restrictions->expires_at) &&
		GetCurrentTimestamp() >= restrictions->expires_at)
		return OA_KEY_EXPIRED;
	if (restrictions->disabled)
		return OA_KEY_DISABLED;
	if (!is_allowed(restrictions, address))
		return OA_ADDRESS_NOT_ALLOWED;
	if (!has_scopes(restrictions, scopes))
		return OA_INSUFFICIENT_SCOPE;
	return OA_ADMITTED;
}
