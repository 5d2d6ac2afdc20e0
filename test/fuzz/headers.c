/*
 * headers.c
 *		Feeds libFuzzer's input to the reader of a request's headers.
 *
 * A credential that is found is one of those that were sent, in full, and the
 * only one.
 */
#include "postgres.h"

#include "http/http.h"
#include "fuzz_server.h"

int			LLVMFuzzerTestOneInput(const uint8 *data, size_t size);

static void
check_bearer(const OaHeaders *headers)
{
	OaRequest	request = {0};
	OaProblem	problem = oa_read_bearer(headers, &request);
	char	   *direct;
	char	   *moved;
	char	   *key;

	if (problem == OA_UNREADABLE_HEADERS)
		return;
	if (!oa_read_header(headers, "authorization", &direct) ||
		!oa_read_header(headers, "x-overten-authorization", &moved) ||
		!oa_read_header(headers, "x-overten-api-key", &key))
		abort();
	if (request.is_key_header)
	{
		if (problem != OA_NO_PROBLEM ||
			(direct != NULL && *direct != '\0') ||
			(moved != NULL && *moved != '\0') ||
			key == NULL || strstr(key, request.bearer) == NULL ||
			strlen(request.bearer) != request.bearer_length ||
			request.bearer_length < 1 || strchr(request.bearer, ',') != NULL ||
			strspn(request.bearer, " \t") != 0)
			abort();
		return;
	}
	if (problem == OA_SEVERAL_CREDENTIALS)
	{
		if (key == NULL || key[strspn(key, " \t")] == '\0')
			abort();
		return;
	}
	if (key != NULL && key[strspn(key, " \t")] != '\0')
		abort();
	if (problem == OA_MISSING_CREDENTIALS)
	{
		if (request.bearer != NULL)
			abort();
		return;
	}
	if (problem == OA_TWO_CREDENTIALS)
	{
		if (direct == NULL || moved == NULL || strcmp(direct, moved) == 0)
			abort();
		return;
	}
	if (problem != OA_NO_PROBLEM || request.bearer_length < 1 ||
		request.bearer[0] == ' ' ||
		strlen(request.bearer) != request.bearer_length)
		abort();
	if (direct != NULL && moved != NULL && strcmp(direct, moved) != 0)
		abort();
	if (strstr(direct != NULL ? direct : moved, request.bearer) == NULL)
		abort();
}

int
LLVMFuzzerTestOneInput(const uint8 *data, size_t size)
{
	static const char *const names[] = {
		"content-type", "x-forwarded-for", "x-overten-client-addr",
		"x-overten-org-id", "x-overten-query"
	};
	OaHeaders	headers;
	char	   *value;

	/* A json value of the server has no NUL. */
	if (size <= OA_HEADERS_MAX && memchr(data, '\0', size) == NULL &&
		oa_read_headers((const char *) data, (int) size, &headers))
	{
		if (headers.nodes[0].count > OA_JSON_MEMBERS_MAX)
			abort();
		for (int i = 0; i < lengthof(names); i++)
			if (!oa_read_header(&headers, names[i], &value) && value != NULL)
				abort();
		check_bearer(&headers);
	}
	free_all();
	return 0;
}
