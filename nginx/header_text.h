/*
 * header_text.h
 *		Headers as text: what a question takes of a request, and what an answer
 *		has for it.  Nothing here needs nginx or PostgreSQL.
 */
#ifndef OA_HEADER_TEXT_H
#define OA_HEADER_TEXT_H

#include <stdbool.h>
#include <stddef.h>

/* Bytes that belong to somebody else. */
typedef struct OaText
{
	const char *data;
	size_t		length;
} OaText;

static inline OaText
oa_text(const char *data, size_t length)
{
	OaText		result;

	result.data = data;
	result.length = length;
	return result;
}

/* A credential that is longer than this is not good, whatever it is. */
#define OA_CREDENTIAL_MAX	16384

/* Of a JSON string, with quotes, that oa_put_string() writes. */
#define OA_STRING_MAX(length)	(2 * (length) + 2)

extern bool oa_is_visible(OaText text);
extern bool oa_has_control(OaText text);
extern OaText oa_plain_credential(OaText value);
extern bool oa_is_credential(OaText name);
extern bool oa_is_ours(OaText name);
extern bool oa_are_same_name(OaText one, OaText other);
extern bool oa_has_comma(OaText value);
extern char *oa_put_string(char *to, OaText text);

/* A JSON object of headers that is being read, and is changed by that. */
typedef struct OaHeaderReader
{
	char	   *at;
	char	   *end;
	bool		begun;
} OaHeaderReader;

typedef enum OaReading
{
	OA_HEADER, OA_NO_MORE_HEADERS, OA_NOT_HEADERS
} OaReading;

extern OaReading oa_next_header(OaHeaderReader *reader, OaText *name,
								OaText *value);

#endif							/* OA_HEADER_TEXT_H */
