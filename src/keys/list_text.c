/*
 * list_text.c
 *		The scopes and the allowed addresses of a key as text, as SQL writes
 *		an array: for the audit log, and for imports, where an array of such
 *		texts has the lists of many keys.
 */
#include "postgres.h"

#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"

#include "keys/keys.h"

/* Write a list.  NULL stays NULL. */
text	   *
oa_list_text(ArrayType *list)
{
	return list == NULL ? NULL :
		cstring_to_text(OidOutputFunctionCall(F_ARRAY_OUT,
											  PointerGetDatum(list)));
}

/*
 * Read a list of values of a type.  Raises 22P02 or what that type's input
 * function raises if the text is not one.
 */
ArrayType  *
oa_read_list(Datum list_text, Oid type)
{
	char	   *input = TextDatumGetCString(list_text);

	return DatumGetArrayTypeP(OidInputFunctionCall(F_ARRAY_IN, input, type,
												   -1));
}
