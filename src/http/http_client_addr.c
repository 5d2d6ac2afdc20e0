/*
 * http_client_addr.c
 *		Finds the address of an HTTP client in the headers of its request.
 */
#include "postgres.h"

#include "http/http.h"
#include "settings.h"
#include "text/text.h"

/*
 * Return the client's address: the trusted entry of X-Forwarded-For, or else
 * the address that the HTTP layer has seen.  Returns NULL if the headers hold
 * neither.
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
		oa_find_from_right(value, oa_trust_forwarded_for, &start, &length))
	{
		oa_parse_client_addr(start, length, addr);
		return addr;
	}
	if (!oa_read_header(headers, "x-overten-client-addr", &value) ||
		value == NULL)
		return NULL;

	oa_parse_client_addr(value, (int) strlen(value), addr);
	return addr;
}
