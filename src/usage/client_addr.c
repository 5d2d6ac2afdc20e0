/*
 * client_addr.c
 *		The address that a session comes from, and what a key's history stores.
 *
 * There we cut an IPv6 address to its first 64 bits: a customer can vary the
 * rest at will, and it does not say who the customer is.  We store an
 * IPv4-mapped address as IPv4.
 */
#include "postgres.h"

#include <netinet/in.h>
#include <sys/socket.h>

#include "utils/backend_status.h"
#include "utils/inet.h"

#include "text/text.h"
#include "usage/usage.h"

/*
 * Return the address of the session's client.  It is unknown for a Unix-domain
 * socket.
 */
const OaClientAddr *
oa_session_client_addr(void)
{
	static OaClientAddr addr;
	static bool known = false;

	if (!known)
	{
		const struct sockaddr_storage *peer = &MyBEEntry->st_clientaddr.addr;

		if (peer->ss_family == AF_INET)
			oa_set_ipv4(&addr, &((const struct sockaddr_in *) peer)->sin_addr);
		else if (peer->ss_family == AF_INET6)
			oa_set_ipv6(&addr, &((const struct sockaddr_in6 *) peer)->sin6_addr);
		known = true;
	}
	return &addr;
}

/* What the history stores of an address. */
OaHistoryAddr
oa_history_addr(const OaClientAddr *addr)
{
	OaHistoryAddr result = {.family = addr->family};

	memcpy(result.bytes, addr->bytes, sizeof(result.bytes));
	return result;
}

/* Convert what the history stores to a value of type inet. */
Datum
oa_history_addr_datum(const OaHistoryAddr *addr)
{
	inet	   *value = palloc0(sizeof(inet));
	bool		is_ipv6 = (addr->family == 6);

	Assert(addr->family != 0);
	ip_family(value) = is_ipv6 ? PGSQL_AF_INET6 : PGSQL_AF_INET;
	ip_bits(value) = is_ipv6 ? 64 : 32;
	memcpy(ip_addr(value), addr->bytes,
		   is_ipv6 ? sizeof(addr->bytes) : sizeof(struct in_addr));
	SET_INET_VARSIZE(value);
	return InetPGetDatum(value);
}

/* Convert back.  Of a network, we take the address. */
OaHistoryAddr
oa_history_addr_of(Datum value)
{
	const inet *from = DatumGetInetPP(value);
	OaClientAddr addr = {0};

	if (ip_family(from) == PGSQL_AF_INET)
		oa_set_ipv4(&addr, (const struct in_addr *) ip_addr(from));
	else
		oa_set_ipv6(&addr, (const struct in6_addr *) ip_addr(from));
	return oa_history_addr(&addr);
}

/* Is a value of type inet what the history stores of this address? */
bool
oa_is_history_addr(Datum value, const OaHistoryAddr *addr)
{
	const inet *there = DatumGetInetPP(value);
	bool		is_ipv6 = (addr->family == 6);
	int			length = is_ipv6 ? sizeof(addr->bytes) : sizeof(struct in_addr);

	if (ip_family(there) != (is_ipv6 ? PGSQL_AF_INET6 : PGSQL_AF_INET) ||
		ip_bits(there) != (is_ipv6 ? 64 : 32) ||
		memcmp(ip_addr(there), addr->bytes, length) != 0)
		return false;
	for (int i = length; i < ip_addrsize(there); i++)
	{
		if (ip_addr(there)[i] != 0)
			return false;
	}
	return true;
}
