/*
 * fuzz_server.c
 *		The little of the server that the files under test use.
 *
 * Memory is malloc's, so that the address sanitizer watches the ends of each
 * piece, and is given back after each input.  The database is in UTF-8, and
 * raising an error is a finding: nothing that a client sends may do that.
 */
#include "postgres.h"

#include "access/detoast.h"
#include "mb/pg_wchar.h"
#include "utils/builtins.h"

#include "http/http.h"
#include "server/server.h"
#include "fuzz_server.h"

typedef struct Piece
{
	struct Piece *next;
	void	   *memory;
} Piece;

static Piece *pieces = NULL;

const char	oa_alphabet[OA_ALPHABET_LEN + 1] =
"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

void *
palloc(Size size)
{
	Piece	   *piece = malloc(sizeof(Piece));

	piece->memory = malloc(size > 0 ? size : 1);
	piece->next = pieces;
	pieces = piece;
	return piece->memory;
}

void
pfree(void *memory)
{
	/* With all others, by free_all(). */
}

void
free_all(void)
{
	while (pieces != NULL)
	{
		Piece	   *piece = pieces;

		pieces = piece->next;
		free(piece->memory);
		free(piece);
	}
}

char *
pnstrdup(const char *string, Size length)
{
	char	   *copy = palloc(length + 1);

	length = strnlen(string, length);
	memcpy(copy, string, length);
	copy[length] = '\0';
	return copy;
}

text *
cstring_to_text_with_len(const char *string, int length)
{
	text	   *result = palloc(VARHDRSZ + length);

	SET_VARSIZE(result, VARHDRSZ + length);
	memcpy(VARDATA(result), string, length);
	return result;
}

text *
cstring_to_text(const char *string)
{
	return cstring_to_text_with_len(string, strlen(string));
}

int
pg_mbstrlen_with_len(const char *string, int length)
{
	int			characters = 0;

	for (int i = 0; i < length; i++)
		characters += (string[i] & 0xc0) != 0x80;
	return characters;
}

/* encoding.c, in a database of UTF-8. */
char *
oa_server_to_utf8(const char *bytes, int length, int *utf8_length)
{
	*utf8_length = length;
	return pnstrdup(bytes, length);
}

text *
oa_json_to_text(const char *json, const OaJsonNode *node)
{
	char	   *utf8 = palloc(node->length + 1);

	return cstring_to_text_with_len(utf8, oa_json_unescape(json, node, utf8));
}

/* Only functions for SQL, which nothing here calls, and errors come here. */
struct varlena *
pg_detoast_datum_packed(struct varlena *datum)
{
	abort();
}

Size
toast_raw_datum_size(Datum value)
{
	abort();
}

bool
errstart(int elevel, const char *domain)
{
	abort();
}

bool
errstart_cold(int elevel, const char *domain)
{
	abort();
}

int
errcode(int sqlerrcode)
{
	abort();
}

int
errmsg(const char *format, ...)
{
	abort();
}

int
errmsg_internal(const char *format, ...)
{
	abort();
}

void
errfinish(const char *filename, int lineno, const char *funcname)
{
	abort();
}
