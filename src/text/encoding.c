/*
 * encoding.c
 *		Between the server's encoding and UTF-8, without errors.
 *
 * HTTP, JSON and tokens are UTF-8, the database need not be.  A text that has
 * no equivalent is reported to the caller instead of raised: an error would be
 * an answer of 500, and put what a client sent into the log.  SQL_ASCII takes
 * and gives bytes as they are.
 */
#include "postgres.h"

#include "catalog/namespace.h"
#include "mb/pg_wchar.h"
#include "utils/builtins.h"

#include "text/text.h"

static bool
is_ascii(const char *bytes, int length)
{
	unsigned char all = 0;

	for (int i = 0; i < length; i++)
		all |= bytes[i];
	return all < 0x80;
}

/*
 * Convert between two encodings.  Returns palloc'd bytes with a NUL behind
 * them, or NULL if a character has no equivalent.
 */
static char *
convert(int from, int to, const char *bytes, int length, int *result_length)
{
	Size		size = (Size) length * MAX_CONVERSION_GROWTH + 1;
	Oid			procedure = FindDefaultConversionProc(from, to);
	char	   *result;

	if (!OidIsValid(procedure))
		return NULL;
	result = palloc(size);
	if (pg_do_encoding_conversion_buf(procedure, from, to,
									  (unsigned char *) unconstify(char *, bytes),
									  length, (unsigned char *) result,
									  (int) size, true) != length)
		return NULL;
	*result_length = (int) strlen(result);
	return result;
}

/* Does the server's encoding hold these bytes of UTF-8 as they are? */
static bool
is_alike(const char *bytes, int length)
{
	int			encoding = GetDatabaseEncoding();

	return encoding == PG_UTF8 || encoding == PG_SQL_ASCII ||
		is_ascii(bytes, length);
}

/*
 * Text of the server in UTF-8, palloc'd, with a NUL behind it.  NULL if it has
 * no equivalent.  In SQL_ASCII the result may be anything.
 */
char	   *
oa_server_to_utf8(const char *bytes, int length, int *utf8_length)
{
	*utf8_length = length;
	if (is_alike(bytes, length))
		return pnstrdup(bytes, length);
	return convert(GetDatabaseEncoding(), PG_UTF8, bytes, length, utf8_length);
}

/*
 * Convert UTF-8 to the server's encoding.  *bytes stays if nothing is to be
 * done, else it is replaced by palloc'd memory.  False if a character has no
 * equivalent.
 */
bool
oa_utf8_to_server(const char **bytes, int *length)
{
	if (is_alike(*bytes, *length))
		return true;
	*bytes = convert(PG_UTF8, GetDatabaseEncoding(), *bytes, *length, length);
	return *bytes != NULL;
}

/* UTF-8 as text; NULL if the server's encoding cannot hold it. */
text	   *
oa_utf8_to_text(const char *utf8, int length)
{
	return oa_utf8_to_server(&utf8, &length) ?
		cstring_to_text_with_len(utf8, length) : NULL;
}

/* A string of a tape of strict_json.c as text.  NULL as above. */
text	   *
oa_json_to_text(const char *json, const OaJsonNode *node)
{
	char	   *utf8;

	if (!node->escaped)
		return oa_utf8_to_text(json + node->start, node->length);
	utf8 = palloc(node->length + 1);
	return oa_utf8_to_text(utf8, oa_json_unescape(json, node, utf8));
}
