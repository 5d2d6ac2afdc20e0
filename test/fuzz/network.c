/*
 * network.c
 *		Feeds libFuzzer's input to the reader of networks.
 *
 * What is taken for a network has no bits after its first ones, contains its
 * own first and last address and neither neighbor, and reads the same when it is
 * written again.
 */
#include "postgres.h"

#include <arpa/inet.h>

#include "text/text.h"

int			LLVMFuzzerTestOneInput(const uint8 *data, size_t size);

static void
require(bool condition)
{
	if (!condition)
		abort();
}

/* Set the bits of an address after the first ones. */
static void
fill_after(OaClientAddr *addr, int bits, int length)
{
	for (int bit = bits; bit < length * 8; bit++)
		addr->bytes[bit / 8] |= 0x80 >> bit % 8;
}

/* Add 1 to an address, or subtract it.  Returns false if there is no such one. */
static bool
move(OaClientAddr *addr, int by, int length)
{
	for (int i = length - 1; i >= 0; i--)
	{
		addr->bytes[i] += by;
		if (addr->bytes[i] != (by > 0 ? 0 : 0xff))
			return true;
	}
	return false;
}

static void
try_network(const OaNetwork *network)
{
	int			length = network->family == 4 ? 4 : 16;
	OaClientAddr first = {.family = network->family};
	OaClientAddr other = {.family = network->family == 4 ? 6 : 4};
	OaClientAddr last;
	OaNetwork	again;
	char		written[OA_NETWORK_TEXT_MAX + 1];

	require(network->family == 4 || network->family == 6);
	require(network->bits <= length * 8);
	memcpy(first.bytes, network->bytes, length);
	memcpy(other.bytes, network->bytes, sizeof(other.bytes));
	last = first;
	fill_after(&last, network->bits, length);
	require(oa_network_contains(network, &first));
	require(oa_network_contains(network, &last));
	require(!oa_network_contains(network, &other));
	require(!move(&last, 1, length) || !oa_network_contains(network, &last));
	last = first;
	require(!move(&last, -1, length) || !oa_network_contains(network, &last));
	other.family = 0;
	require(!oa_network_contains(network, &other));

	inet_ntop(network->family == 4 ? AF_INET : AF_INET6, network->bytes,
			  written, sizeof(written));
	snprintf(written + strlen(written), sizeof(written) - strlen(written),
			 "/%d", network->bits);
	require(oa_parse_network(written, (int) strlen(written), &again));
	require(memcmp(network, &again, sizeof(again)) == 0);
}

int
LLVMFuzzerTestOneInput(const uint8 *data, size_t size)
{
	/* Where a byte too far is noticed. */
	char	   *copy = malloc(size > 0 ? size : 1);
	OaNetwork	network;

	memcpy(copy, data, size);
	if (oa_parse_network(copy, (int) size, &network))
		try_network(&network);
	free(copy);
	return 0;
}
