/*
 * fetch_answer.c
 *		Feeds libFuzzer's input to the reader of HTTP answers.
 *
 * Besides what the sanitizers find: what is accepted is within its limits, the
 * body may be cut off anywhere without another reading of the header, and a
 * header that is cut off is refused.
 */
#include "postgres.h"

#include "signing_keys/fetch.h"

int			LLVMFuzzerTestOneInput(const uint8 *data, size_t size);

int
LLVMFuzzerTestOneInput(const uint8 *data, size_t size)
{
	OaFetchAnswer answer;
	OaFetchAnswer header;
	char	   *text = malloc(size > 0 ? size : 1);

	memcpy(text, data, size);
	if (oa_read_fetch_answer(text, size, &answer) == NULL)
	{
		if (answer.status < 200 || answer.status > 599 ||
			answer.max_age < OA_MAX_AGE_LEAST ||
			answer.max_age > OA_MAX_AGE_MOST ||
			answer.body < 1 || answer.body > size ||
			answer.body > OA_ANSWER_HEADER_MAX ||
			text[answer.body - 1] != '\n')
			abort();
		if (oa_read_fetch_answer(text, answer.body, &header) != NULL ||
			memcmp(&header, &answer, sizeof(header)) != 0)
			abort();
		if (oa_read_fetch_answer(text, answer.body - 1, &header) == NULL)
			abort();
	}
	free(text);
	return 0;
}
