/*
 * reseal.c
 *		Reseals the webhook secrets of orgs under the first master key.
 *
 * We go through the orgs in the order of their ids and never wait: if somebody
 * else has locked a row, we leave it for the next call.  One transaction
 * writes everything, so the sessions empty their caches only once.  We need
 * memory for one batch only, however many orgs there are.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/memutils.h"

#include "sealing/sealing.h"
#include "server/server.h"

#define RESEAL_AT_ONCE	1000	/* rows in memory */

PG_FUNCTION_INFO_V1(overten_reseal);

/*
 * Can we reseal this value?  Yes if its header is that of a key in the file
 * other than the first ($1).
 */
#define IS_OLD(sealed) \
	"(substr(" sealed ", 1, 9) = ANY ($1))"

/*
 * Is this value lost, because its key is not in the file? ($2 is the first
 * key.)
 */
#define IS_LOST(sealed) \
	"(NOT " IS_OLD(sealed) \
	" AND substr(" sealed ", 1, 9) <> $2)"

/*
 * In SQL: the orgs with a lost value. $3 has those that we have met ourselves.
 */
#define HAS_LOST \
	"(org_id = ANY ($3) OR " IS_LOST("webhook_secret_sealed") \
	" OR " OA_PREVIOUS_STILL_SIGNS " AND " \
	IS_LOST("previous_webhook_secret_sealed") ")"

/* The parameters that all statements below begin with. */
enum
{
	OLD_KEYS, FIRST_KEY, KEY_PARAMETERS
};

#define KEY_PARAMETER_TYPES BYTEAARRAYOID, BYTEAOID

static ArrayType *
make_array(List *values, Oid type)
{
	int			count = list_length(values);
	Datum	   *array = palloc(sizeof(Datum) * (count + 1));

	for (int i = 0; i < count; i++)
		array[i] = PointerGetDatum(list_nth(values, i));
	return construct_array(array, count, type, -1, false, TYPALIGN_INT);
}

static void
set_key_parameters(const uint8 *first, Datum *values)
{
	List	   *headers = NIL;
	const OaMasterKey *key;

	for (int i = 1; (key = oa_master_key(i)) != NULL; i++)
		headers = lappend(headers, oa_sealed_header(key->id));
	values[OLD_KEYS] = PointerGetDatum(make_array(headers, BYTEAOID));
	values[FIRST_KEY] = PointerGetDatum(oa_sealed_header(first));
}

/* The progress of a call. */
typedef struct Progress
{
	MemoryContext context;		/* owns what this struct points to */
	uint8		first[OA_MASTER_KEY_ID_LEN];	/* first key in the file when
												 * we began */
	Datum		key_parameters[KEY_PARAMETERS];
	text	   *after;			/* the last org that we looked at */
	int			resealed;		/* number of orgs */
	List	   *lost;			/* ids of orgs with a value that does not open */
} Progress;

/* An org to reseal. */
typedef struct OldOrg
{
	text	   *org_id;
	bytea	   *sealed;
	bytea	   *previous_sealed;	/* NULL if it does not sign any more */
} OldOrg;

/* Copy an id, so that it outlives the batch. */
static text *
keep_id(const Progress *progress, text *org_id)
{
	Size		size = VARSIZE_ANY(org_id);

	return memcpy(MemoryContextAlloc(progress->context, size), org_id, size);
}

/* Note that an org has a value that does not open. */
static void
note_lost(Progress *progress, text *org_id)
{
	MemoryContext caller = MemoryContextSwitchTo(progress->context);

	progress->lost = lappend(progress->lost, keep_id(progress, org_id));
	MemoryContextSwitchTo(caller);
}

/*
 * Reseal a value.  Returns the value itself if it is NULL, or sealed with the
 * first key already, or does not open; in the last case sets *lost.
 */
static bytea *
reseal(const Progress *progress, text *org_id, bytea *sealed, bool *lost)
{
	text	   *secret;
	bytea	   *result;

	if (sealed == NULL || oa_is_sealed_with(progress->first, sealed))
		return sealed;

	secret = oa_unseal(org_id, sealed);
	if (secret == NULL)
	{
		*lost = true;
		return sealed;
	}
	result = oa_seal(org_id, secret);
	explicit_bzero(VARDATA_ANY(secret), VARSIZE_ANY_EXHDR(secret));
	return result;
}

/* Reseal one org. */
static void
reseal_org(Progress *progress, const OldOrg *org)
{
	static OaStatement update = {
		.table = "orgs",
		.text = "UPDATE overten_auth.orgs SET webhook_secret_sealed = $2, "
		"previous_webhook_secret_sealed = $3, "
		"previous_webhook_secret_until = "
		"CASE WHEN $3 IS NOT NULL THEN previous_webhook_secret_until END "
		"WHERE org_id = $1",
		.argtypes = {TEXTOID, BYTEAOID, BYTEAOID},
	};
	bool		lost = false;
	bytea	   *sealed = reseal(progress, org->org_id, org->sealed, &lost);
	bytea	   *previous = reseal(progress, org->org_id, org->previous_sealed,
								  &lost);
	Datum		values[] = {
		PointerGetDatum(org->org_id),
		PointerGetDatum(sealed),
		PointerGetDatum(previous),
	};
	const bool	nulls[lengthof(values)] = {[2] = (previous == NULL)};

	if (lost)
		note_lost(progress, org->org_id);
	if (lost && sealed == org->sealed && previous == org->previous_sealed)
		return;
	oa_statement_run(&update, values, nulls);
	progress->resealed++;
}

/*
 * Lock and reseal the next orgs, at most "count", in a memory context of their
 * own.  Returns false if there are no more.
 */
static bool
reseal_some(Progress *progress, int count)
{
	static OaStatement lock = {
		.table = "orgs",
		.text = "SELECT org_id, webhook_secret_sealed, "
		"CASE WHEN " OA_PREVIOUS_STILL_SIGNS " THEN previous_webhook_secret_sealed END "
		"FROM overten_auth.orgs "
		"WHERE org_id > $3 AND erased_at IS NULL AND (" IS_OLD("webhook_secret_sealed")
		" OR " IS_OLD("previous_webhook_secret_sealed") ") "
		"ORDER BY org_id LIMIT $4 FOR NO KEY UPDATE SKIP LOCKED",
		.argtypes = {KEY_PARAMETER_TYPES, TEXTOID, INT4OID},
	};
	MemoryContext batch = AllocSetContextCreate(progress->context,
												"overten_auth reseal",
												ALLOCSET_DEFAULT_SIZES);
	MemoryContext caller = MemoryContextSwitchTo(batch);
	int			level = oa_statements_begin();
	Datum		values[KEY_PARAMETERS + 2];
	OldOrg	   *orgs;
	int			found;

	memcpy(values, progress->key_parameters, sizeof(progress->key_parameters));
	values[KEY_PARAMETERS] = PointerGetDatum(progress->after);
	values[KEY_PARAMETERS + 1] = Int32GetDatum(count);
	found = (int) oa_statement_run(&lock, values, NULL);
	orgs = palloc(sizeof(OldOrg) * found);
	for (int i = 0; i < found; i++)
	{
		orgs[i].org_id = oa_statement_text(i, 1);
		orgs[i].sealed = (bytea *) oa_statement_varlena(i, 2, BYTEAOID);
		orgs[i].previous_sealed =
			(bytea *) oa_statement_varlena_or_null(i, 3, BYTEAOID);
	}
	for (int i = 0; i < found; i++)
		reseal_org(progress, &orgs[i]);
	if (found > 0)
		progress->after = keep_id(progress, orgs[found - 1].org_id);
	oa_statements_end(level);
	MemoryContextSwitchTo(caller);
	MemoryContextDelete(batch);
	return found > 0;
}

/*
 * Count the orgs that we have not resealed yet, and those with a value that
 * does not open.
 */
static void
count_rest(const Progress *progress, int64 *to_do, int64 *lost)
{
	static OaStatement count = {
		.table = "orgs",
		.latest = true,
		.text = "SELECT count(*) FILTER (WHERE org_id <> ALL ($3) AND ("
		IS_OLD("webhook_secret_sealed") " OR "
		IS_OLD("previous_webhook_secret_sealed") ")), "
		"count(*) FILTER (WHERE " HAS_LOST ") "
		"FROM overten_auth.orgs WHERE erased_at IS NULL",
		.argtypes = {KEY_PARAMETER_TYPES, TEXTARRAYOID},
	};
	Datum		values[KEY_PARAMETERS + 1];

	memcpy(values, progress->key_parameters, sizeof(progress->key_parameters));
	values[KEY_PARAMETERS] = PointerGetDatum(make_array(progress->lost,
														TEXTOID));
	oa_statement_run(&count, values, NULL);
	*to_do = oa_statement_int64(0, 1);
	*lost = oa_statement_int64(0, 2);
}

/* List the first orgs with a value that does not open, for a message. */
static text *
list_lost(const Progress *progress)
{
	static OaStatement list = {
		.table = "orgs",
		.latest = true,
		.text = "SELECT string_agg(o.org_id, ', ') FROM ("
		"SELECT org_id FROM overten_auth.orgs "
		"WHERE erased_at IS NULL AND (" HAS_LOST ") "
		"ORDER BY org_id LIMIT 3) o",
		.argtypes = {KEY_PARAMETER_TYPES, TEXTARRAYOID},
	};
	Datum		values[KEY_PARAMETERS + 1];

	memcpy(values, progress->key_parameters, sizeof(progress->key_parameters));
	values[KEY_PARAMETERS] = PointerGetDatum(make_array(progress->lost,
														TEXTOID));
	oa_statement_run(&list, values, NULL);
	return oa_statement_text(0, 1);
}

/*
 * overten_reseal(max_orgs int) returns bigint
 *
 * Reseals the webhook secrets of at most max_orgs orgs with the first master
 * key.  Returns how many orgs are left to reseal.  Orgs with a value that does
 * not open are not among them; a WARNING counts those and names a few.  Errors:
 * 22004, 22023, 55000 no master key.
 */
Datum
overten_reseal(PG_FUNCTION_ARGS)
{
	Progress	progress = {
		.context = CurrentMemoryContext,
		.after = cstring_to_text(""),
	};
	int			max_orgs;
	int64		to_do;
	int64		lost;
	text	   *lost_ids = NULL;
	int			level;

	oa_require_argument(fcinfo, 0, "max_orgs");
	max_orgs = PG_GETARG_INT32(0);
	if (max_orgs < 1)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("max_orgs must be at least 1")));

	memcpy(progress.first, oa_sealing_key()->id, sizeof(progress.first));
	set_key_parameters(progress.first, progress.key_parameters);
	while (progress.resealed < max_orgs &&
		   reseal_some(&progress, Min(max_orgs - progress.resealed,
									  RESEAL_AT_ONCE)))
		;
	level = oa_statements_begin();
	if (progress.resealed > 0)
		oa_audit("reseal", NULL, NULL, NULL,
				 cstring_to_text(psprintf("%d", progress.resealed)));
	count_rest(&progress, &to_do, &lost);
	if (lost > 0)
		lost_ids = list_lost(&progress);
	oa_statements_end(level);

	ereport(NOTICE,
			(errmsg("orgs resealed: %d, still to do: " INT64_FORMAT,
					progress.resealed, to_do)));
	if (lost > 0)
		ereport(WARNING,
				(errmsg("orgs with a webhook secret that does not open: " INT64_FORMAT,
						lost),
				 errdetail("Their master keys are missing, or they have been altered. The first orgs are: %s.",
						   lost_ids != NULL ? text_to_cstring(lost_ids) : ""),
				 errhint("Add the missing keys to the master key file, or make new secrets with overten_rotate_webhook_secret().")));
	PG_RETURN_INT64(to_do);
}
