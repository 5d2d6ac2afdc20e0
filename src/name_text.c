/*
 * name_text.c
 *		The rules for text that people choose: names, reasons, user ids.
 *
 * Each guard takes what the caller was given and raises if it breaks a rule;
 * no message repeats the text.  Lengths count characters of the server
 * encoding, as users do.
 */
#include "postgres.h"

#include "mb/pg_wchar.h"
#include "utils/builtins.h"

#include "overten_auth.h"

/*
 * Does the text hold a control character: C0, DEL or C1?  C1 is looked for in
 * UTF-8, since its single bytes are parts of letters in some encodings.
 */
static bool
has_control_character(const char *bytes, int length)
{
	unsigned char *utf8;
	int			utf8_length = length;

	utf8 = (unsigned char *) pg_server_to_any(bytes, length, PG_UTF8);
	if ((char *) utf8 != bytes)
		utf8_length = (int) strlen((char *) utf8);

	for (int i = 0; i < utf8_length; i++)
	{
		if (utf8[i] < 0x20 || utf8[i] == 0x7f)
			return true;
		/* U+0080 to U+009F */
		if (utf8[i] == 0xc2 && i + 1 < utf8_length &&
			utf8[i + 1] >= 0x80 && utf8[i + 1] <= 0x9f)
			return true;
	}
	return false;
}

/* Raise 22004 if an argument, called "what" in the message, is NULL. */
void
oa_require_argument(FunctionCallInfo fcinfo, int n, const char *what)
{
	if (PG_ARGISNULL(n))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("%s must not be null", what)));
}

/* A text argument that must not be NULL. */
text	   *
oa_text_argument(FunctionCallInfo fcinfo, int n, const char *what)
{
	oa_require_argument(fcinfo, n, what);
	return PG_GETARG_TEXT_PP(n);
}

/*
 * Does the text have 1 to max_characters characters?  Its bytes are looked at
 * first, so that a huge text is not counted through.
 */
static bool
has_length(const char *bytes, int length, int max_characters)
{
	return length > 0 &&
		length <= max_characters * MAX_MULTIBYTE_CHAR_LEN &&
		pg_mbstrlen_with_len(bytes, length) <= max_characters;
}

/*
 * Trim spaces off a name and check it.  Returns what is to be stored, or NULL
 * and the rule that it breaks.
 */
text	   *
oa_trim_name(text *name, int max_characters, OaNameRule *broken)
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

	*broken = OA_NAME_LENGTH;
	if (!has_length(bytes, length, max_characters))
		return NULL;

	*broken = OA_NAME_CONTROL_CHARACTER;
	if (has_control_character(bytes, length))
		return NULL;

	return cstring_to_text_with_len(bytes, length);
}

/* The same for SQL functions: raises 22023, "what" names it in the message. */
text	   *
oa_check_name(text *name, const char *what, int max_characters)
{
	OaNameRule	broken;
	text	   *trimmed = oa_trim_name(name, max_characters, &broken);

	if (trimmed == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 broken == OA_NAME_LENGTH ?
				 errmsg("%s must have 1 to %d characters",
						what, max_characters) :
				 errmsg("%s must not contain control characters", what)));
	return trimmed;
}

/* The nth argument as a reason, which may be NULL; raises 22023. */
text	   *
oa_reason_argument(FunctionCallInfo fcinfo, int n)
{
	if (PG_ARGISNULL(n))
		return NULL;
	return oa_check_name(PG_GETARG_TEXT_PP(n), "reason", OA_REASON_MAX);
}

/*
 * Raise 22023 unless a person's uid has 1 to 128 characters, as Firebase has
 * it.  It is stored byte for byte.
 */
void
oa_check_uid(text *uid)
{
	if (!has_length(VARDATA_ANY(uid), VARSIZE_ANY_EXHDR(uid), OA_UID_MAX))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("uid must have 1 to %d characters", OA_UID_MAX)));
}
