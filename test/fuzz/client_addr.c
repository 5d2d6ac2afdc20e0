/*
 * client_addr.c
 *		Feeds libFuzzer's input to the readers of clients' addresses.
 *
 * Each part of the list is found, from the right as from the left, and what is
 * taken for an address is one, which reads the same when it is written again.
 */
#include "postgres.h"

#include <arpa/inet.h>

#include "text/text.h"

int			LLVMFuzzerTestOneInput(const uint8 *data, size_t size);

/* Read an address, and what it is written as. */
static void
try_address(const char *start, int length)
{
	OaClientAddr addr;
	OaClientAddr again;
	unsigned char bytes[16] = {0};
	char		written[INET6_ADDRSTRLEN];
	char	   *copy = malloc(length > 0 ? length : 1);

	/* Where a byte too far is noticed. */
	memcpy(copy, start, length);
	oa_parse_client_addr(copy, length, &addr);
	free(copy);
	if (addr.family == 0)
		return;
	if (addr.family != 4 && addr.family != 6)
		abort();
	memcpy(bytes, addr.bytes, sizeof(bytes));
	inet_ntop(addr.family == 4 ? AF_INET : AF_INET6, bytes, written,
			  sizeof(written));
	oa_parse_client_addr(written, strlen(written), &again);
	if (memcmp(&addr, &again, sizeof(addr)) != 0)
		abort();
}

int
LLVMFuzzerTestOneInput(const uint8 *data, size_t size)
{
	char	   *list = malloc(size + 1);
	const char *start;
	int			parts = 1;
	int			length;
	const char *end;

	memcpy(list, data, size);
	list[size] = '\0';
	end = list + strlen(list);
	for (const char *c = list; *c != '\0'; c++)
		parts += *c == ',';

	for (int n = 1; n <= parts; n++)
	{
		if (!oa_find_from_right(list, n, &start, &length) ||
			start + length != end || length < 0 || start < list ||
			memchr(start, ',', length) != NULL)
			abort();
		try_address(start, length);
		end = start - 1;
	}
	if (start != list || oa_find_from_right(list, parts + 1, &start, &length))
		abort();
	try_address(list, strlen(list));
	free(list);
	return 0;
}
