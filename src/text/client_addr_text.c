/*
 * client_addr_text.c
 *		Addresses of clients as HTTP writes them.
 *
 * Nothing in this file allocates or raises: test/fuzz runs it by itself.
 */
#include "postgres.h"

#include <arpa/inet.h>
#include <netinet/in.h>

#include "text/text.h"

/* Set an IPv4 address from its 4 bytes. */
void
oa_set_ipv4(OaClientAddr *addr, const void *bytes)
{
	memset(addr, 0, sizeof(*addr));
	addr->family = 4;
	memcpy(addr->bytes, bytes, sizeof(struct in_addr));
}

/* Set an IPv6 address from its 16 bytes.  An IPv4-mapped one becomes IPv4. */
void
oa_set_ipv6(OaClientAddr *addr, const void *bytes)
{
	struct in6_addr in6;

	memcpy(&in6, bytes, sizeof(in6));
	if (IN6_IS_ADDR_V4MAPPED(&in6))
		oa_set_ipv4(addr, &in6.s6_addr[12]);
	else
	{
		addr->family = 6;
		memcpy(addr->bytes, &in6, sizeof(addr->bytes));
	}
}

/*
 * Parse an address as proxies write it: we skip a port after it and brackets
 * around IPv6.  If the value is not an address, set family 0, which means that
 * the address is unknown.
 */
void
oa_parse_client_addr(const char *value, int length, OaClientAddr *addr)
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
		oa_set_ipv4(addr, &in);
	else if (inet_pton(AF_INET6, start, &in6) == 1)
		oa_set_ipv6(addr, &in6);
}

/*
 * Find the n-th part of a comma-separated list, counted from the right.
 * Returns false if the list has fewer parts.
 */
bool
oa_find_from_right(const char *list, int n, const char **start, int *length)
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
