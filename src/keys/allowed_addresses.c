/*
 * allowed_addresses.c
 *		Tells whom a list of allowed addresses would lock out.
 *
 * We ask the history of the key, which knows an IPv6 address only by its first
 * 64 bits.  So where the list has a smaller network, the answer is "unknown", as
 * it is for uses whose address the history does not have.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "utils/timestamp.h"

#include "keys/keys.h"
#include "server/server.h"
#include "usage/usage.h"

PG_FUNCTION_INFO_V1(overten_check_addresses);

#define DAYS	30

/*
 * $1 is the key, $2 since when, $3 to $9 the uses that are not in the table yet,
 * and $10 the list.
 */
static OaStatement find_others = {
	.table = "key_usage",
	.text = "SELECT h.client_addr, "
	OA_SUM("h.accepted") ", "
	"max(h.last_used_at), "
	"CASE WHEN h.client_addr IS NULL OR EXISTS ("
	"SELECT FROM unnest($10) n WHERE n << h.client_addr) "
	"THEN 'unknown' ELSE 'refused' END "
	"FROM overten_auth.key_history($1, $3, $4, $5, $6, $7, $8, $9) h "
	"WHERE h.accepted > 0 AND h.last_used_at >= $2 "
	"GROUP BY h.client_addr "
	"HAVING h.client_addr IS NULL OR NOT EXISTS ("
	"SELECT FROM unnest($10) n WHERE h.client_addr <<= n) "
	"ORDER BY 4, 2 DESC, 1",
	.argtypes = {TEXTOID, TIMESTAMPTZOID, TIMESTAMPTZARRAYOID, INETARRAYOID,
		INT8ARRAYOID, INT8ARRAYOID, INT8ARRAYOID, TIMESTAMPTZARRAYOID,
	TIMESTAMPTZARRAYOID, CIDRARRAYOID},
};

/*
 * overten_check_addresses(org_id text, key_id text, allowed_addresses cidr[])
 * 		returns setof client_addr, accepted, last_used_at, outcome
 *
 * Returns the addresses of the last 30 days that would be refused, or may be.
 * Errors: 22004 an id is NULL; 22023 the list; 42704.
 */
Datum
overten_check_addresses(PG_FUNCTION_ARGS)
{
	text	   *org_id = oa_text_argument(fcinfo, 0, "org_id");
	text	   *key_id = oa_text_argument(fcinfo, 1, "key_id");
	Datum		key = PointerGetDatum(key_id);
	Datum		values[2 + OA_USE_COLUMNS - OA_USE_HOUR + 1];
	Datum		arrays[OA_USE_COLUMNS];
	ArrayType  *addresses = NULL;
	OaExactRead read;
	OaFault		fault;
	int			level;

	if (!PG_ARGISNULL(2))
	{
		addresses = PG_GETARG_ARRAYTYPE_P(2);
		if (!oa_check_allowed_addresses(&addresses, &fault))
			oa_refuse_fault(&fault);
	}

	oa_begin_set(fcinfo);
	level = oa_statements_begin();
	oa_require_key(org_id, key_id);
	/* Without a list, nobody is locked out. */
	if (addresses != NULL)
	{
		values[0] = key;
		values[1] = TimestampTzGetDatum(GetCurrentTimestamp() -
										DAYS * USECS_PER_DAY);
		oa_exact_read_begin(&read, &key, 1, DT_NOBEGIN, DT_NOEND);
		oa_make_use_arrays(read.uses, read.count, OA_USE_COLUMNS, arrays);
		memcpy(&values[2], &arrays[OA_USE_HOUR],
			   (OA_USE_COLUMNS - OA_USE_HOUR) * sizeof(Datum));
		values[lengthof(values) - 1] = PointerGetDatum(addresses);
		oa_statement_run_under(&find_others, values, NULL, read.snapshot);
		oa_statement_return_rows(fcinfo);
		oa_exact_read_end(&read);
	}
	oa_statements_end(level);
	return (Datum) 0;
}
