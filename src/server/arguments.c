/*
 * arguments.c
 *		Reads arguments of SQL functions, and checks text that people choose:
 *		names, reasons and user ids.
 *
 * Each check raises if its text breaks a rule, and no message repeats the
 * text.  Lengths are in characters of the server encoding, as users count
 * them.
 */
#include "postgres.h"

#include "access/detoast.h"
#include "mb/pg_wchar.h"
#include "utils/builtins.h"

#include "server/server.h"
#include "text/text.h"

/* Raise 22004: an argument, called "what" in the message, is NULL. */
void
oa_refuse_null(const char *what)
{
	ereport(ERROR,
			(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
			 errmsg("%s must not be null", what)));
}

/* Raise 22004 if an argument is NULL.  The message calls it "what". */
void
oa_require_argument(FunctionCallInfo fcinfo, int n, const char *what)
{
	if (PG_ARGISNULL(n))
		oa_refuse_null(what);
}

/* Return a text argument, which must not be NULL. */
text	   *
oa_text_argument(FunctionCallInfo fcinfo, int n, const char *what)
{
	oa_require_argument(fcinfo, n, what);
	return PG_GETARG_TEXT_PP(n);
}

/*
 * An id as messages may show it, or NULL if they must not.  A text that does not
 * look like an id with this prefix may be a secret, or have characters that do
 * not belong into a log.
 */
char	   *
oa_id_for_message(text *id, const char *prefix)
{
	const char *bytes = VARDATA_ANY(id);
	int			length = VARSIZE_ANY_EXHDR(id);
	int			start = strlen(prefix);

	if (length > OA_ID_LEN || length <= start ||
		memcmp(bytes, prefix, start) != 0)
		return NULL;
	for (int i = start; i < length; i++)
		if (strchr(oa_alphabet, bytes[i]) == NULL || bytes[i] == '\0')
			return NULL;
	return pnstrdup(bytes, length);
}

/*
 * Set *bytes and *length to the contents of an argument.  They are empty if it
 * is NULL.  Returns false if it has more than "max" bytes; we do not detoast
 * it then.
 */
bool
oa_bounded_argument(FunctionCallInfo fcinfo, int n, int max,
					const char **bytes, int *length)
{
	struct varlena *value;

	*bytes = "";
	*length = 0;
	if (PG_ARGISNULL(n))
		return true;
	if (toast_raw_datum_size(PG_GETARG_DATUM(n)) > VARHDRSZ + (Size) max)
		return false;

	value = PG_DETOAST_DATUM_PACKED(PG_GETARG_DATUM(n));
	*bytes = VARDATA_ANY(value);
	*length = VARSIZE_ANY_EXHDR(value);
	return true;
}

/* Return the nth argument, an integer of 1 to max: the size of a page. */
Datum
oa_page_argument(FunctionCallInfo fcinfo, int n, const char *what, int max)
{
	oa_require_argument(fcinfo, n, what);
	if (PG_GETARG_INT32(n) < 1 || PG_GETARG_INT32(n) > max)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("%s must be between 1 and %d", what, max)));
	return PG_GETARG_DATUM(n);
}

/*
 * Does the text have 1 to max_characters characters?  We check the number of
 * bytes first, so that we need not count the characters of a huge text.
 */
static bool
has_length(const char *bytes, int length, int max_characters)
{
	return length > 0 &&
		length <= max_characters * MAX_MULTIBYTE_CHAR_LEN &&
		pg_mbstrlen_with_len(bytes, length) <= max_characters;
}

/*
 * Return the rule that a name or a user id breaks, or OA_TEXT_GOOD.  We check
 * the characters in Unicode, whatever the server's encoding is: a byte that is
 * a control character in one encoding is part of a letter in another.
 */
static OaTextRule
check_text(const char *bytes, int length, int max_characters,
		   OaTextRule (*check_characters) (const char *utf8, int length))
{
	int			utf8_length;
	char	   *utf8;

	if (!has_length(bytes, length, max_characters))
		return OA_TEXT_LENGTH;
	utf8 = oa_server_to_utf8(bytes, length, &utf8_length);
	return utf8 == NULL ? OA_TEXT_ENCODING :
		check_characters(utf8, utf8_length);
}

/*
 * Describe a rule.  The result completes a sentence whose subject is the text.
 */
const char *
oa_text_rule(OaTextRule rule, int max_characters)
{
	switch (rule)
	{
		case OA_TEXT_GOOD:
			break;
		case OA_TEXT_LENGTH:
			return psprintf("must have 1 to %d characters", max_characters);
		case OA_TEXT_CONTROL_CHARACTER:
			return "must not contain control characters";
		case OA_TEXT_BIDIRECTIONAL:
			return "must not contain bidirectional controls";
		case OA_TEXT_NONCHARACTER:
			return "must not contain tag characters or noncharacters";
		case OA_TEXT_INVISIBLE:
			return "must have a visible character";
		case OA_TEXT_ENDS:
			return "must begin and end with a visible character";
		case OA_TEXT_ENCODING:
			return "must have only characters that Unicode and the database's encoding have in common";
	}
	elog(ERROR, "unexpected rule %d", rule);
	return NULL;				/* keep the compiler quiet */
}

/*
 * Trim spaces off a name and check it.  Returns the name to store.  If the
 * name breaks a rule, returns NULL and sets *broken.
 */
text	   *
oa_trim_name(text *name, int max_characters, OaTextRule *broken)
{
	const char *bytes = VARDATA_ANY(name);
	int			length = VARSIZE_ANY_EXHDR(name);

	while (length > 0 && bytes[0] == ' ')
	{
		bytes++;
		length--;
	}
	while (length > 0 && bytes[length - 1] == ' ')
		length--;

	*broken = check_text(bytes, length, max_characters,
						 oa_check_name_characters);
	return *broken == OA_TEXT_GOOD ?
		cstring_to_text_with_len(bytes, length) : NULL;
}

/*
 * Raise the error for a broken rule: 22021 if the bytes are not valid text in
 * the server's encoding, and 22023 otherwise.
 */
pg_noreturn static void
refuse_text(const char *what, OaTextRule broken, int max_characters)
{
	ereport(ERROR,
			(errcode(broken == OA_TEXT_ENCODING ?
					 ERRCODE_CHARACTER_NOT_IN_REPERTOIRE :
					 ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("%s %s", what, oa_text_rule(broken, max_characters))));
}

/*
 * Check and trim a name for a SQL function; the error calls it "what".  If the
 * name is huge, with the spaces around it, we refuse it before we detoast it.
 */
text	   *
oa_check_name(Datum name, const char *what, int max_characters)
{
	OaTextRule	broken = OA_TEXT_LENGTH;
	text	   *trimmed = NULL;

	if (toast_raw_datum_size(name) <= VARHDRSZ + OA_NAME_BYTES_MAX)
		trimmed = oa_trim_name(DatumGetTextPP(name), max_characters, &broken);
	if (trimmed == NULL)
		refuse_text(what, broken, max_characters);
	return trimmed;
}

/* Return the nth argument as a name, which must not be NULL. */
text	   *
oa_name_argument(FunctionCallInfo fcinfo, int n, const char *what,
				 int max_characters)
{
	oa_require_argument(fcinfo, n, what);
	return oa_check_name(PG_GETARG_DATUM(n), what, max_characters);
}

/* The same, but it may be NULL. */
text	   *
oa_optional_name_argument(FunctionCallInfo fcinfo, int n, const char *what,
						  int max_characters)
{
	if (PG_ARGISNULL(n))
		return NULL;
	return oa_check_name(PG_GETARG_DATUM(n), what, max_characters);
}

/* Return the nth argument as a reason, which may be NULL. */
text	   *
oa_reason_argument(FunctionCallInfo fcinfo, int n)
{
	return oa_optional_name_argument(fcinfo, n, "reason", OA_REASON_MAX);
}

/* Return the rule that a person's uid breaks, or OA_TEXT_GOOD. */
OaTextRule
oa_check_uid(text *uid)
{
	return check_text(VARDATA_ANY(uid), VARSIZE_ANY_EXHDR(uid), OA_UID_MAX,
					  oa_check_uid_characters);
}

/*
 * Return the nth argument as an id that others have chosen, which must not be
 * NULL.  It has 1 to max_characters characters by the rules of uids, and we
 * store it byte for byte.
 */
text	   *
oa_id_argument(FunctionCallInfo fcinfo, int n, const char *what,
			   int max_characters)
{
	OaTextRule	broken = OA_TEXT_LENGTH;
	text	   *id = NULL;

	oa_require_argument(fcinfo, n, what);
	if (toast_raw_datum_size(PG_GETARG_DATUM(n)) <= VARHDRSZ + OA_NAME_BYTES_MAX)
	{
		id = PG_GETARG_TEXT_PP(n);
		broken = check_text(VARDATA_ANY(id), VARSIZE_ANY_EXHDR(id),
							max_characters, oa_check_uid_characters);
	}
	if (broken != OA_TEXT_GOOD)
		refuse_text(what, broken, max_characters);
	return id;
}

/* Return the nth argument as a person's uid, as long as Firebase allows. */
text	   *
oa_uid_argument(FunctionCallInfo fcinfo, int n)
{
	return oa_id_argument(fcinfo, n, "uid", OA_UID_MAX);
}
