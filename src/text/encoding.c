/*
 * encoding.c
 *		Converts between the server's encoding and UTF-8, without raising.
 *
 * HTTP, JSON and tokens are UTF-8; the database may have another encoding.  If
 * a text has no equivalent, we tell the caller and do not raise: an error
 * would become a 500 answer, and would put what a client sent into the log.
 * In SQL_ASCII we pass bytes through unchanged.
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
 * Convert between two encodings.  Returns a palloc'd, NUL-terminated string,
 * or NULL if a character has no equivalent.
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

/* Does the server store these bytes of UTF-8 unchanged? */
static bool
is_alike(const char *bytes, int length)
{
	int			encoding = GetDatabaseEncoding();

	return encoding == PG_UTF8 || encoding == PG_SQL_ASCII ||
		is_ascii(bytes, length);
}

/*
 * Convert a string from the server's encoding to UTF-8.  Returns a palloc'd,
 * NUL-terminated string, or NULL if a character has no equivalent.  In
 * SQL_ASCII the result may hold any bytes.
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
 * Convert UTF-8 to the server's encoding.  If the bytes need no conversion,
 * *bytes is left alone; otherwise it is set to palloc'd memory.  Returns false
 * if the bytes are not UTF-8 (which SQL_ASCII does not ask), or if a character
 * has no equivalent.
 */
bool
oa_utf8_to_server(const char **bytes, int *length)
{
	if (GetDatabaseEncoding() == PG_UTF8)
		return pg_verify_mbstr(PG_UTF8, *bytes, *length, true);
	if (is_alike(*bytes, *length))
		return true;
	*bytes = convert(PG_UTF8, GetDatabaseEncoding(), *bytes, *length, length);
	return *bytes != NULL;
}

/* Make a text from UTF-8.  Returns NULL if the server cannot store it. */
text	   *
oa_utf8_to_text(const char *utf8, int length)
{
	return oa_utf8_to_server(&utf8, &length) ?
		cstring_to_text_with_len(utf8, length) : NULL;
}

/*
 * Make a text from UTF-8 that should be the id of something.  What the server
 * cannot store is "", which is not the id of anything.
 */
text	   *
oa_utf8_to_id(const char *utf8)
{
	text	   *id = oa_utf8_to_text(utf8, (int) strlen(utf8));

	return id != NULL ? id : cstring_to_text("");
}

/*
 * Make a text from a string that strict_json.c has parsed, or NULL as above.
 */
text	   *
oa_json_to_text(const char *json, const OaJsonNode *node)
{
	char	   *utf8;

	if (!node->escaped)
		return oa_utf8_to_text(json + node->start, node->length);
	utf8 = palloc(node->length + 1);
	return oa_utf8_to_text(utf8, oa_json_unescape(json, node, utf8));
}
