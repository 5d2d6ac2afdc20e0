/*
 * body.c
 *		Feeds libFuzzer's input to the readers of a request's body.
 *
 * Nothing raises, what is refused names a member and a rule, and a name that is
 * accepted has something to see and nothing that is forbidden.
 */
#include "postgres.h"

#include "http/http.h"
#include "fuzz_server.h"

int			LLVMFuzzerTestOneInput(const uint8 *data, size_t size);

/* Look at a name as a person would, and with it at its characters. */
static void
check_name(const text *name, int max_characters)
{
	const unsigned char *at = (const unsigned char *) VARDATA_ANY(name);
	const unsigned char *end = at + VARSIZE_ANY_EXHDR(name);
	int			characters = 0;
	bool		visible = false;

	if (at == end || *at == ' ' || end[-1] == ' ')
		abort();
	while (at < end)
	{
		int			length = *at < 0x80 ? 1 : oa_utf8_length(at, end);
		char		bytes[5] = "";

		if (length < 1)
			abort();
		memcpy(bytes, at, length);
		if (*at < 0x20 || *at == 0x7f || (*at == 0xc2 && at[1] < 0xa0) ||
			strcmp(bytes, "\u2028") == 0 ||
			strcmp(bytes, "\u200f") == 0 || strcmp(bytes, "\u202e") == 0 ||
			strcmp(bytes, "\u2066") == 0 || strcmp(bytes, "\ufdd0") == 0 ||
			strcmp(bytes, "\uffff") == 0 || strcmp(bytes, "\U0010ffff") == 0)
			abort();
		visible |= *at > ' ' && strcmp(bytes, "\u00a0") != 0 &&
			strcmp(bytes, "\u200b") != 0 && strcmp(bytes, "\u3164") != 0;
		characters++;
		at += length;
	}
	if (!visible || characters > max_characters)
		abort();
}

static void
check_refusal(const OaResponse *response, const char *name)
{
	if (response->problem != OA_INVALID_PARAMETER ||
		strcmp(response->fault.param, name) != 0 ||
		response->fault.rule == NULL ||
		strncmp(response->fault.rule, "must ", 5) != 0)
		abort();
}

int
LLVMFuzzerTestOneInput(const uint8 *data, size_t size)
{
	static const char *const references[] = {"tier", "existing_org_id"};
	OaRequest	request = {0};
	OaResponse	response = {0};
	text	   *value;

	if (size > OA_BODY_MAX)
		return 0;
	oa_read_body((const char *) data, size, true, &request);
	if (!oa_require_object(&request, &response))
	{
		if (response.problem != OA_NOT_AN_OBJECT &&
			response.problem != OA_INVALID_JSON)
			abort();
		free_all();
		return 0;
	}
	if (oa_read_name(&request, &response, "org_name", OA_ORG_NAME_MAX, &value))
	{
		if (value != NULL)
			check_name(value, OA_ORG_NAME_MAX);
	}
	else
		check_refusal(&response, "org_name");
	for (int i = 0; i < lengthof(references); i++)
		if (!oa_read_reference(&request, &response, references[i], &value))
			check_refusal(&response, references[i]);
	free_all();
	return 0;
}
