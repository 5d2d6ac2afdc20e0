/*
 * client_addr.c
 *		Where a request comes from, as the history of a key keeps it.
 *
 * An IPv6 address is cut to its first 64 bits: the rest is for the customer to
 * vary at will, and says nothing about who it is.  An IPv4 address in IPv6's
 * clothes is an IPv4 address.
 */
#include "postgres.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include "utils/backend_status.h"
#include "utils/inet.h"

#include "overten_auth.h"

static void
set_ipv4(OaClientAddr *addr, const void *bytes)
{
	addr->family = 4;
	memcpy(addr->bytes, bytes, sizeof(struct in_addr));
}

static void
set_ipv6(OaClientAddr *addr, const struct in6_addr *in6)
{
	if (IN6_IS_ADDR_V4MAPPED(in6))
		set_ipv4(addr, &in6->s6_addr[12]);
	else
	{
		addr->family = 6;
		memcpy(addr->bytes, in6, sizeof(addr->bytes));
	}
}

/*
 * Read an address.  A port behind it, and brackets around IPv6, are left out,
 * as proxies write them.  What is no address is one that is not known.
 */
static void
parse(const char *value, int length, OaClientAddr *addr)
{
	char		copy[INET6_ADDRSTRLEN + 8];
	char	   *start = copy;
	char	   *end;
	struct in_addr in;
	struct in6_addr in6;

	memset(addr, 0, sizeof(*addr));
	while (length > 0 && *value == ' ')
	{
		value++;
		length--;
	}
	while (length > 0 && value[length - 1] == ' ')
		length--;
	if (length >= sizeof(copy))
		return;
	memcpy(copy, value, length);
	copy[length] = '\0';

	if (copy[0] == '[')
	{
		start++;
		end = strchr(start, ']');
		if (end == NULL)
			return;
		*end = '\0';
	}
	else
	{
		end = strchr(start, ':');
		if (end != NULL && strchr(end + 1, ':') == NULL)
			*end = '\0';
	}

	if (inet_pton(AF_INET, start, &in) == 1)
		set_ipv4(addr, &in);
	else if (inet_pton(AF_INET6, start, &in6) == 1)
		set_ipv6(addr, &in6);
}

/*
 * Find the n-th of the comma-separated parts of a list, from the right.  False
 * if there are not so many.
 */
static bool
find_from_right(const char *list, int n, const char **start, int *length)
{
	const char *end = list + strlen(list);

	for (;;)
	{
		*start = end;
		while (*start > list && (*start)[-1] != ',')
			(*start)--;
		if (--n == 0)
			break;
		if (*start == list)
			return false;
		end = *start - 1;
	}
	*length = (int) (end - *start);
	return true;
}

/*
 * The client's address as the headers of a request tell it: the trusted one of
 * X-Forwarded-For, else what the HTTP layer itself has seen.  NULL if they do
 * not tell any.
 */
const OaClientAddr *
oa_read_client_addr(const OaHeaders *headers)
{
	OaClientAddr *addr = palloc(sizeof(OaClientAddr));
	const char *start;
	char	   *value;
	int			length;

	if (oa_trust_forwarded_for > 0 &&
		oa_read_header(headers, "x-forwarded-for", &value) && value != NULL &&
		find_from_right(value, oa_trust_forwarded_for, &start, &length))
	{
		parse(start, length, addr);
		return addr;
	}
	if (!oa_read_header(headers, "x-overten-client-addr", &value) ||
		value == NULL)
		return NULL;

	parse(value, (int) strlen(value), addr);
	return addr;
}

/* The address of the session's client; none for a Unix-domain socket. */
const OaClientAddr *
oa_session_client_addr(void)
{
	static OaClientAddr addr;
	static bool known = false;

	if (!known)
	{
		const struct sockaddr_storage *peer = &MyBEEntry->st_clientaddr.addr;

		if (peer->ss_family == AF_INET)
			set_ipv4(&addr, &((const struct sockaddr_in *) peer)->sin_addr);
		else if (peer->ss_family == AF_INET6)
			set_ipv6(&addr, &((const struct sockaddr_in6 *) peer)->sin6_addr);
		known = true;
	}
	return &addr;
}

/* An address as a value of type inet. */
Datum
oa_client_addr_datum(const OaClientAddr *addr)
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
