/*
 * http_client_addr.c
 *		Finds the address of an HTTP client in the headers of its request.
 *
 * Anybody can send X-Forwarded-For.  Each proxy appends the address that it is
 * connected to, so an entry is as good as the one who appended it.
 * overten_auth.trusted_proxies names whom we believe: we go from the address
 * that the HTTP layer has seen to the left, for as long as it is one of these.
 * overten_auth.trust_forwarded_for only counts entries.  That is right if all
 * requests come through the same number of proxies.
 */
#include "postgres.h"

#include "http/http.h"
#include "settings.h"
#include "text/text.h"

/* Is this the address of a proxy that we believe? */
static bool
is_trusted(const OaClientAddr *addr)
{
	for (int i = 0; i < oa_trusted_networks.count; i++)
		if (oa_network_contains(&oa_trusted_networks.networks[i], addr))
			return true;
	return false;
}

/*
 * Replace the address of a trusted proxy by the one that it has appended, and
 * so on.  If an entry is not an address, the client's address is unknown.
 */
static void
follow_trusted_proxies(char *forwarded, OaClientAddr *addr)
{
	char	   *end = forwarded + strlen(forwarded);

	while (end > forwarded && is_trusted(addr))
	{
		char	   *start = end;

		while (start > forwarded && start[-1] != ',')
			start--;
		oa_parse_client_addr(start, (int) (end - start), addr);
		end = start > forwarded ? start - 1 : start;
	}
}

/*
 * Return the client's address: the one that the HTTP layer has seen, or an
 * entry of X-Forwarded-For.  Returns NULL if the headers hold neither.
 */
const OaClientAddr *
oa_read_client_addr(const OaHeaders *headers)
{
	OaClientAddr *addr = palloc(sizeof(OaClientAddr));
	const char *start;
	char	   *forwarded;
	char	   *seen;
	int			length;

	if (!oa_read_header(headers, "x-forwarded-for", &forwarded))
		forwarded = NULL;
	if (oa_trusted_networks.count == 0 && oa_trust_forwarded_for > 0 &&
		forwarded != NULL &&
		oa_find_from_right(forwarded, oa_trust_forwarded_for, &start, &length))
	{
		oa_parse_client_addr(start, length, addr);
		return addr;
	}

	if (!oa_read_header(headers, "x-overten-client-addr", &seen) ||
		seen == NULL)
		return NULL;
	oa_parse_client_addr(seen, (int) strlen(seen), addr);
	if (forwarded != NULL)
		follow_trusted_proxies(forwarded, addr);
	return addr;
}
