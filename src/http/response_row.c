/*
 * response_row.c
 *		Returns a response as a row of overten_auth.http_response.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "catalog/pg_type.h"
#include "funcapi.h"
#include "utils/builtins.h"
#include "utils/memutils.h"

#include "http/http.h"
#include "server/server.h"

enum
{
	STATUS, HEADERS, BODY, COLUMNS
};

/* The columns of the row, for the rest of the session. */
static TupleDesc
response_columns(void)
{
	static const OaColumn columns[COLUMNS] = {
		[STATUS] = {"status", INT4OID},
		[HEADERS] = {"headers", JSONOID},
		[BODY] = {"body", TEXTOID},
	};
	static TupleDesc descriptor = NULL;

	if (descriptor == NULL)
		descriptor = oa_make_columns(columns, COLUMNS);
	return descriptor;
}

/* Append a header to the JSON object of the row. */
static void
append_header(const char *name, const char *value, void *argument)
{
	oa_write_string(argument, name, value);
}

/*
 * Return a response from the function that is running.  The answer to a HEAD has
 * no body.
 */
Datum
oa_return_response(FunctionCallInfo fcinfo, const OaResponse *response,
				   bool with_body)
{
	static OaCheckedType checked_type;
	TupleDesc	columns = response_columns();
	StringInfoData headers;
	HeapTupleHeader row;
	Datum		values[COLUMNS];
	bool		nulls[COLUMNS] = {false};

	/* Leave room for the length, which makes the string a datum. */
	initStringInfo(&headers);
	headers.len = VARHDRSZ;
	appendStringInfoChar(&headers, '{');
	oa_each_response_header(response, append_header, &headers);
	appendStringInfoChar(&headers, '}');
	SET_VARSIZE(headers.data, headers.len);

	values[STATUS] = Int32GetDatum(response->status);
	values[HEADERS] = PointerGetDatum(headers.data);
	if (!with_body || response->body.len == 0)
		nulls[BODY] = true;
	else
		values[BODY] = PointerGetDatum(cstring_to_text_with_len(response->body.data,
																response->body.len));

	row = heap_form_tuple(columns, values, nulls)->t_data;
	oa_set_row_type(row, columns, fcinfo->flinfo, &checked_type);
	return HeapTupleHeaderGetDatum(row);
}
