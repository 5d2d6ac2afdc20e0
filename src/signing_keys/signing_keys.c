/*
 * signing_keys.c
 *		Replaces the set of signing keys with the set in a published
 *		document.
 *
 * Anybody who can add a key here can make tokens for every user.
 * key_document.c says what a document must contain, and which of its keys we
 * skip.  If a document is not usable, we raise an error, and the old set
 * remains.  A key that is not in the new set stops working in all sessions
 * when the transaction commits.
 *
 * One load runs at a time; readers are not blocked.  We read the old set under
 * the latest snapshot, because the snapshot of a REPEATABLE READ transaction
 * may miss what another load has added, and we would merge the two sets.  If a
 * document says what the table says already, we write nothing, because every
 * write makes all sessions empty their caches.
 *
 * Fetched keys expire some time after we could last fetch them, so each fetch
 * has to move their end.  We round such ends down to full hours, so that we
 * write them once an hour at most.
 */
#include "postgres.h"

#include "access/detoast.h"
#include "access/xact.h"
#include "catalog/pg_type.h"
#include "mb/pg_wchar.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

#include "lookup/lookup.h"
#include "server/server.h"
#include "settings.h"
#include "signing_keys/fetch.h"
#include "signing_keys/signing_keys.h"
#include "text/text.h"

PG_FUNCTION_INFO_V1(overten_load_signing_keys);

/* Round the end of fetched keys down to a full hour, unless it is infinite. */
static TimestampTz
round_end(TimestampTz not_after)
{
	return not_after == DT_NOEND ? DT_NOEND :
		not_after - not_after % USECS_PER_HOUR;
}

/*
 * Convert seconds since 1970 to a timestamp.  No certificate's time is out of
 * range.
 */
static TimestampTz
timestamp_of(int64 seconds)
{
	return (seconds - (POSTGRES_EPOCH_JDATE - UNIX_EPOCH_JDATE) *
			(int64) SECS_PER_DAY) * USECS_PER_SEC;
}

/* "skipped" describes the keys that were skipped, or is empty. */
pg_noreturn static void
refuse_document(const char *problem, const char *skipped)
{
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("signing keys document is not usable"),
			 errdetail_internal(skipped[0] != '\0' ? "%s Skipped: %s." : "%s",
								problem, skipped),
			 errhint("Load the certificates or the JWK set that Google publishes for securetoken@system.gserviceaccount.com. The old signing keys stay in use.")));
}

/*
 * Make a row from a key of a document; the row expires at not_after or
 * earlier.  Returns NULL if the server's encoding cannot hold the key's id,
 * because no token can name it in that case.
 */
static OaSigningKeyRow *
make_row(const OaPublishedKey *key, TimestampTz not_after)
{
	OaSigningKeyRow *row = palloc(sizeof(OaSigningKeyRow));

	row->kid = oa_utf8_to_text(key->kid, key->kid_length);
	if (row->kid == NULL)
		return NULL;
	row->public_key = palloc(VARHDRSZ + key->public_key_length);
	SET_VARSIZE(row->public_key, VARHDRSZ + key->public_key_length);
	memcpy(VARDATA(row->public_key), key->public_key, key->public_key_length);
	row->certificate_expires_at =
		key->expires ? timestamp_of(key->expires_at) : DT_NOEND;
	row->expires_at = Min(row->certificate_expires_at, not_after);
	row->own = true;
	return row;
}

/* Make rows from the usable keys of a parsed document. */
static List *
make_rows(OaSigningKeyDocument *document, TimestampTz not_after)
{
	List	   *rows = NIL;

	for (int i = 0; i < document->count; i++)
	{
		OaSigningKeyRow *row = make_row(&document->keys[i], not_after);

		if (row != NULL)
			rows = lappend(rows, row);
		else
			document->skipped[OA_FLAW_ID]++;
	}
	return rows;
}

/*
 * Parse a document into a list of rows, or raise. "skipped", of OA_SKIPPED_MAX
 * bytes, describes the keys that were skipped; *count_skipped is their number.
 */
static List *
parse_document(const char *text, int length, TimestampTz not_after,
			   char *skipped, int *count_skipped)
{
	OaSigningKeyDocument *document = palloc0(sizeof(OaSigningKeyDocument));
	OaJsonNode *nodes = palloc(OA_JSON_NODES(length) * sizeof(OaJsonNode));
	int64		now = timestamptz_to_time_t(GetCurrentTimestamp());
	List	   *volatile rows = NIL;

	PG_TRY();
	{
		const char *problem = oa_parse_signing_keys(text, length, nodes, now,
													oa_clock_skew, document);

		if (problem == NULL)
			rows = make_rows(document, not_after);
		*count_skipped = oa_describe_skipped(document, skipped,
											 OA_SKIPPED_MAX);
		if (problem == NULL && rows == NIL)
			problem = "There is no usable key in it.";
		if (problem != NULL)
			refuse_document(problem, skipped);
	}
	PG_FINALLY();
	{
		oa_free_signing_keys(document);
	}
	PG_END_TRY();
	return rows;
}

/*
 * Is there a row with the same id and key, and, if same_ends, the same ends?
 */
static bool
has_row(List *rows, const OaSigningKeyRow *wanted, bool same_ends)
{
	ListCell   *cell;

	foreach(cell, rows)
	{
		const OaSigningKeyRow *row = lfirst(cell);

		if (same_ends &&
			(row->expires_at != wanted->expires_at ||
			 row->certificate_expires_at != wanted->certificate_expires_at))
			continue;
		if (VARSIZE(row->kid) == VARSIZE(wanted->kid) &&
			memcmp(row->kid, wanted->kid, VARSIZE(row->kid)) == 0 &&
			VARSIZE(row->public_key) == VARSIZE(wanted->public_key) &&
			memcmp(row->public_key, wanted->public_key,
				   VARSIZE(row->public_key)) == 0)
			return true;
	}
	return false;
}

/* Do two lists hold the same keys?  Ids are unique in each list. */
static bool
same_set(List *a, List *b, bool same_ends)
{
	ListCell   *cell;

	if (list_length(a) != list_length(b))
		return false;
	foreach(cell, a)
	{
		if (!has_row(b, lfirst(cell), same_ends))
			return false;
	}
	return true;
}

/* Keep other loads out until the end of the transaction. */
static void
lock_table(void)
{
	static OaStatement lock = {
		.table = "signing_keys",
		.text = "LOCK TABLE overten_auth.signing_keys "
		"IN SHARE ROW EXCLUSIVE MODE",
	};

	oa_statement_run(&lock, NULL, NULL);
}

/* Delete the old set.  We must see all of its rows. */
static void
delete_rows(int expected)
{
	static OaStatement delete = {
		.table = "signing_keys",
		.text = "DELETE FROM overten_auth.signing_keys",
	};

	if (oa_statement_run(&delete, NULL, NULL) != expected)
		ereport(ERROR,
				(errcode(ERRCODE_T_R_SERIALIZATION_FAILURE),
				 errmsg("could not serialize access due to concurrent update"),
				 errdetail("Another transaction has loaded signing keys."),
				 errhint("The transaction might succeed if retried.")));
}

static void
insert_row(const OaSigningKeyRow *row)
{
	static OaStatement insert = {
		.table = "signing_keys",
		.text = "INSERT INTO overten_auth.signing_keys "
		"(kid, public_key, expires_at, certificate_expires_at) "
		"VALUES ($1, $2, $3, $4)",
		.argtypes = {TEXTOID, BYTEAOID, TIMESTAMPTZOID, TIMESTAMPTZOID},
	};
	Datum		values[] = {
		PointerGetDatum(row->kid),
		PointerGetDatum(row->public_key),
		TimestampTzGetDatum(row->expires_at),
		TimestampTzGetDatum(row->certificate_expires_at),
	};
	const bool	nulls[lengthof(values)] = {
		[2] = (row->expires_at == DT_NOEND),
		[3] = (row->certificate_expires_at == DT_NOEND),
	};

	oa_statement_run(&insert, values, nulls);
}

/*
 * Make the table hold exactly these rows.  If only the ends of fetched keys
 * move, we do not write to the audit log.
 */
static void
replace_rows(List *rows, bool fetched)
{
	int			level = oa_statements_begin();
	OaRead		read;
	List	   *old;

	lock_table();
	oa_store_begin_read(&read, OA_SIGNING_KEYS);
	old = oa_store_read_signing_keys(&read);
	oa_store_end_read(&read);

	if (!same_set(old, rows, true))
	{
		ListCell   *cell;

		delete_rows(list_length(old));
		foreach(cell, rows)
		{
			insert_row(lfirst(cell));
		}
		if (!fetched || !same_set(old, rows, false))
			oa_audit("load_signing_keys", NULL, NULL, NULL,
					 cstring_to_text(psprintf("%d", list_length(rows))));
		ForceSyncCommit();
	}
	oa_statements_end(level);
}

/*
 * Replace the signing keys with those of a fetched document, which has been
 * checked before.  No key is used after not_after.  Returns how many keys
 * there are; "skipped", of OA_SKIPPED_MAX bytes, describes those that we
 * skipped.  Raises as overten_load_signing_keys() does.
 */
int
oa_load_signing_keys(const char *utf8, int length, TimestampTz not_after,
					 char *skipped)
{
	int			count_skipped;
	List	   *rows = parse_document(utf8, length, round_end(not_after), skipped,
									  &count_skipped);

	replace_rows(rows, true);
	return list_length(rows);
}

/*
 * Extend the use of the signing keys, because the document has not changed
 * since the last fetch.  No key is used after its certificate's end or after
 * not_after.  Returns how many keys have not expired.  A key that was loaded
 * by hand already has its certificate's end, or no end, and keeps it.
 */
int
oa_extend_signing_keys(TimestampTz not_after)
{
	static OaStatement extend = {
		.table = "signing_keys",
		.text = "UPDATE overten_auth.signing_keys "
		"SET expires_at = LEAST(certificate_expires_at, $1) "
		"WHERE expires_at < LEAST(certificate_expires_at, $1)",
		.argtypes = {TIMESTAMPTZOID},
	};
	static OaStatement current = {
		.table = "signing_keys",
		.text = "SELECT FROM overten_auth.signing_keys "
		"WHERE COALESCE(expires_at > clock_timestamp(), true)",
	};
	Datum		end = TimestampTzGetDatum(round_end(not_after));
	int			level = oa_statements_begin();
	int			count;

	lock_table();
	oa_statement_run(&extend, &end, NULL);
	count = oa_statement_run(&current, NULL, NULL);
	oa_statements_end(level);
	return count;
}

/*
 * Count the signing keys that have not expired, by the latest snapshot, and
 * set *last_expires_at to when the last of them expires, or to 0 if there is
 * no such key.
 */
int
oa_count_signing_keys(TimestampTz *last_expires_at)
{
	TimestampTz now = GetCurrentTimestamp();
	int			count = 0;
	OaRead		read;
	ListCell   *cell;

	*last_expires_at = 0;
	oa_store_begin_read(&read, OA_SIGNING_KEYS);
	foreach(cell, oa_store_read_signing_keys(&read))
	{
		const OaSigningKeyRow *row = lfirst(cell);

		if (row->expires_at <= now)
			continue;
		count++;
		*last_expires_at = Max(*last_expires_at, row->expires_at);
	}
	oa_store_end_read(&read);
	return count;
}

/*
 * overten_load_signing_keys(keys json) returns integer
 *
 * Replaces the signing keys with those of a document, which is an object of
 * PEM certificates by key id, or a JWK set.  Returns how many keys there are.
 * A certificate's key expires with the certificate; a JWK does not expire.  A
 * NOTICE counts the keys that were skipped.  Raises 22023 if the document is
 * not usable, and 40001 if the transaction is above READ COMMITTED and its
 * snapshot is older than the set.
 */
Datum
overten_load_signing_keys(PG_FUNCTION_ARGS)
{
	ErrorContextCallback secrecy;
	text	   *document;
	char	   *server_text;
	char	   *utf8;
	char		skipped[OA_SKIPPED_MAX];
	int			count_skipped;
	List	   *rows;

	/* A document may contain a private key by mistake. */
	oa_secrecy_begin(&secrecy);
	oa_require_argument(fcinfo, 0, "keys");

	/* Real documents have about 5 kB.  We check the size before we detoast. */
	if (toast_raw_datum_size(PG_GETARG_DATUM(0)) >
		OA_SIGNING_KEY_DOCUMENT_MAX + VARHDRSZ)
		refuse_document("It has more than 256 kB.", "");

	document = PG_GETARG_TEXT_PP(0);
	server_text = text_to_cstring(document);
	utf8 = pg_server_to_any(server_text, strlen(server_text), PG_UTF8);
	rows = parse_document(utf8, strlen(utf8), DT_NOEND, skipped, &count_skipped);
	replace_rows(rows, false);
	if (count_skipped > 0)
		ereport(NOTICE,
				(errmsg("signing keys that cannot be used were skipped: %d",
						count_skipped),
				 errdetail_internal("Skipped: %s.", skipped)));
	oa_secrecy_end(&secrecy);
	PG_RETURN_INT32(list_length(rows));
}
