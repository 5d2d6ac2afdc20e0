/*
 * networks.c
 *		Networks: the addresses that have their first bits in common.
 *
 * An IPv4-mapped network is an IPv4 network, as an IPv4-mapped address is an
 * IPv4 address (client_addr_text.c).  So one and the same network cannot be
 * written in two ways of which only one matches.
 *
 * Nothing in this file allocates or raises: test/fuzz runs it by itself.
 */
#include "postgres.h"

#include <arpa/inet.h>
#include <netinet/in.h>

#include "text/text.h"

#define MAPPED_BITS		96		/* ::ffff:0:0/96 */

/* Are all bits of an address after the first ones zero? */
static bool
is_zero_after(const uint8 *bytes, int length, int bits)
{
	for (int i = bits / 8; i < length; i++)
	{
		uint8		mask = i == bits / 8 ? 0xff >> bits % 8 : 0xff;

		if ((bytes[i] & mask) != 0)
			return false;
	}
	return true;
}

/*
 * Set a network.  The family is 4 or 6, and the address has 4 or 16 bytes.
 * Returns false if there are too many bits, or bits set after them.
 */
bool
oa_set_network(OaNetwork *network, int family, int bits, const void *bytes)
{
	static const uint8 mapped[] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};
	int			length = family == 4 ? 4 : 16;

	if (bits < 0 || bits > length * 8 || !is_zero_after(bytes, length, bits))
		return false;

	memset(network, 0, sizeof(*network));
	if (family == 6 && bits >= MAPPED_BITS &&
		memcmp(bytes, mapped, sizeof(mapped)) == 0)
	{
		family = 4;
		length = 4;
		bits -= MAPPED_BITS;
		bytes = (const uint8 *) bytes + sizeof(mapped);
	}
	network->family = (uint8) family;
	network->bits = (uint8) bits;
	memcpy(network->bytes, bytes, length);
	return true;
}

/* Parse a number of bits: up to 3 digits.  Returns -1 if it is something else. */
static int
parse_bits(const char *value)
{
	int			bits = 0;
	size_t		length = strlen(value);

	if (length < 1 || length > 3 || strspn(value, "0123456789") != length)
		return -1;
	for (size_t i = 0; i < length; i++)
		bits = bits * 10 + (value[i] - '0');
	return bits;
}

/*
 * Parse an address, or an address and a number of bits, such as 10.0.0.0/8.
 * Spaces around it are allowed.  Returns false if it is not a network.
 */
bool
oa_parse_network(const char *value, int length, OaNetwork *network)
{
	char		copy[OA_NETWORK_TEXT_MAX + 1];
	char	   *slash;
	struct in_addr in;
	struct in6_addr in6;

	while (length > 0 && *value == ' ')
	{
		value++;
		length--;
	}
	while (length > 0 && value[length - 1] == ' ')
		length--;
	if (length > OA_NETWORK_TEXT_MAX || memchr(value, '\0', length) != NULL)
		return false;
	memcpy(copy, value, length);
	copy[length] = '\0';

	slash = strchr(copy, '/');
	if (slash != NULL)
		*slash = '\0';
	if (inet_pton(AF_INET, copy, &in) == 1)
		return oa_set_network(network, 4,
							  slash != NULL ? parse_bits(slash + 1) : 32, &in);
	return inet_pton(AF_INET6, copy, &in6) == 1 &&
		oa_set_network(network, 6, slash != NULL ? parse_bits(slash + 1) : 128,
					   &in6);
}

/* Does a network contain an address?  An unknown address is in none. */
bool
oa_network_contains(const OaNetwork *network, const OaClientAddr *addr)
{
	int			whole = network->bits / 8;
	int			rest = network->bits % 8;

	if (network->family != addr->family ||
		memcmp(network->bytes, addr->bytes, whole) != 0)
		return false;
	return rest == 0 ||
		((network->bytes[whole] ^ addr->bytes[whole]) >> (8 - rest)) == 0;
}
