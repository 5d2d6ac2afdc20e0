/*
 * repeated_request.c
 *		Answers a request that a client repeats because the answer was lost.
 *
 * A client that gets no answer cannot know whether an org or a key was made.
 * If it repeats the request, it would make another one, and nobody would have
 * the secret of the first.  So a client can name a request with an
 * Idempotency-Key.  In the transaction that does the request we note, under the
 * person's uid and a digest of that name, what was made, and a fingerprint of
 * the request.
 *
 * We have no secret that we could return again.  If the request is repeated
 * soon, and the key that was lost has never been used, we revoke that key and
 * mint another one, so one request never has two secrets that are accepted.
 * Whoever has used the key has its secret, and then we only tell which key it
 * is.  "Soon" is a short time, because a standby tells nobody about uses.
 *
 * Requests of the same person and name wait for each other, by a lock that no
 * SQL function can take.  A request takes it before it locks an org.  A request
 * that came to us before the one that has minted the key replaces nothing: the
 * client has given it up, and may have the newer key.
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/pg_type.h"
#include "common/hashfn.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

#include "databases/databases.h"
#include "keys/keys.h"
#include "members/locked_org.h"
#include "server/server.h"
#include "usage/usage.h"

#define REPEAT_WITHIN	(10 * USECS_PER_MINUTE)
#define REPEATS_MAX		5

static bytea *
make_bytea(const uint8 *digest)
{
	return (bytea *) cstring_to_text_with_len((const char *) digest,
											  OA_DIGEST_LEN);
}

/*
 * Wait until no other transaction handles a request of this person and name,
 * and keep others waiting until this transaction ends.
 */
void
oa_lock_request(const OaRequestKey *request, text *uid)
{
	uint32		hash = hash_combine(hash_bytes(request->name, OA_DIGEST_LEN),
									hash_bytes((unsigned char *) VARDATA_ANY(uid),
											   VARSIZE_ANY_EXHDR(uid)));

	oa_lock_hash("idempotency_keys", hash);
}

/*
 * Was this request done before?  If so, set *done.  Must be called between
 * oa_statements_begin() and _end().
 *
 * If the clock was set back, the time of the first request is in the future.
 * We take that for as long ago.
 */
static OaRepetition
find_done(const OaRequestKey *request, text *uid, OaDone *done)
{
	static OaStatement find = {
		.table = "idempotency_keys",
		.latest = true,
		.text = "SELECT org_id, key_id, fingerprint = $3, first_at, "
		"last_at, repeats "
		"FROM overten_auth.idempotency_keys "
		"WHERE uid = $1 AND name_digest = $2 AND first_at > $4",
		.argtypes = {TEXTOID, BYTEAOID, BYTEAOID, TIMESTAMPTZOID},
	};
	TimestampTz now = GetCurrentTimestamp();
	Datum		values[] = {
		PointerGetDatum(uid),
		PointerGetDatum(make_bytea(request->name)),
		PointerGetDatum(make_bytea(request->fingerprint)),
		TimestampTzGetDatum(now - OA_REQUESTS_KEPT),
	};
	TimestampTz first_at;
	TimestampTz last_at;
	int32		repeats;

	if (oa_statement_run(&find, values, NULL) == 0)
		return OA_FIRST_REQUEST;
	if (!oa_statement_bool(0, 3))
		return OA_ANOTHER_REQUEST;

	done->org_id = oa_statement_text(0, 1);
	done->key_id = oa_statement_text(0, 2);
	first_at = oa_statement_time(0, 4, NULL);
	last_at = oa_statement_time(0, 5, NULL);
	repeats = DatumGetInt32(oa_statement_result(0, 6, INT4OID, NULL));
	done->is_late = repeats >= REPEATS_MAX ||
		first_at > now + REPEAT_WITHIN || first_at <= now - REPEAT_WITHIN ||
		last_at > GetCurrentStatementStartTimestamp();
	return OA_REPEATED;
}

/* Was this request, which is locked, done before?  If so, set *done. */
OaRepetition
oa_find_done(const OaRequestKey *request, text *uid, OaDone *done)
{
	int			level = oa_statements_begin();
	OaRepetition repetition = find_done(request, uid, done);

	oa_statements_end(level);
	return repetition;
}

/*
 * Begin a request of a member that mints a key for an org: lock the org, and
 * find out whether the request was answered before. "request" is NULL if the
 * request has no name.
 */
OaProblem
oa_begin_request(const OaRequestKey *request, text *uid, text *org_id,
				 OaLockedOrg *org, OaRepetition *repetition, OaDone *done)
{
	OaProblem	problem;
	int			level;

	*repetition = OA_FIRST_REQUEST;
	if (request != NULL)
		oa_lock_request(request, uid);
	level = oa_statements_begin();
	problem = oa_lock_org_with_access(org_id, uid, org);
	oa_statements_end(level);
	if (problem != OA_NO_PROBLEM || request == NULL)
		return problem;

	*repetition = oa_find_done(request, uid, done);
	return *repetition == OA_ANOTHER_REQUEST ? OA_IDEMPOTENCY_KEY_REUSED :
		OA_NO_PROBLEM;
}

/* Note what a first request has made. */
void
oa_note_done(const OaRequestKey *request, text *uid, const OaOrgKey *result)
{
	static OaStatement insert = {
		.table = "idempotency_keys",
		.text = "INSERT INTO overten_auth.idempotency_keys "
		"(uid, name_digest, fingerprint, first_at, last_at, org_id, key_id) "
		"VALUES ($1, $2, $3, $4, $5, $6, $7) "
		"ON CONFLICT (uid, name_digest) DO UPDATE "
		"SET fingerprint = EXCLUDED.fingerprint, "
		"first_at = EXCLUDED.first_at, last_at = EXCLUDED.last_at, "
		"org_id = EXCLUDED.org_id, key_id = EXCLUDED.key_id, repeats = 0",
		.argtypes = {TEXTOID, BYTEAOID, BYTEAOID, TIMESTAMPTZOID,
		TIMESTAMPTZOID, TEXTOID, TEXTOID},
	};
	Datum		values[] = {
		PointerGetDatum(uid),
		PointerGetDatum(make_bytea(request->name)),
		PointerGetDatum(make_bytea(request->fingerprint)),
		TimestampTzGetDatum(GetCurrentTimestamp()),
		TimestampTzGetDatum(GetCurrentStatementStartTimestamp()),
		PointerGetDatum(result->org_id),
		PointerGetDatum(result->key.key_id),
	};
	int			level = oa_statements_begin();

	oa_statement_run(&insert, values, NULL);
	oa_statements_end(level);
}

/* Note which key a repetition has minted. */
void
oa_note_repeat(const OaRequestKey *request, text *uid, text *key_id)
{
	static OaStatement update = {
		.table = "idempotency_keys",
		.text = "UPDATE overten_auth.idempotency_keys "
		"SET key_id = $3, last_at = $4, repeats = repeats + 1 "
		"WHERE uid = $1 AND name_digest = $2",
		.argtypes = {TEXTOID, BYTEAOID, TEXTOID, TIMESTAMPTZOID},
	};
	Datum		values[] = {
		PointerGetDatum(uid),
		PointerGetDatum(make_bytea(request->name)),
		PointerGetDatum(key_id),
		TimestampTzGetDatum(GetCurrentStatementStartTimestamp()),
	};
	int			level = oa_statements_begin();

	oa_statement_run(&update, values, NULL);
	oa_statements_end(level);
}

/*
 * Is this key of the org accepted, and the last of its line?  One that somebody
 * has rotated since is not lost.
 */
static bool
is_replaceable(text *org_id, text *key_id)
{
	static OaStatement find = {
		.table = "api_keys",
		.latest = true,
		.text = "SELECT 1 FROM overten_auth.api_keys k "
		"WHERE k.key_id = $2 AND k.org_id = $1 AND k.disabled_at IS NULL "
		"AND " OA_KEY_IS_ACTIVE("k") " AND NOT EXISTS "
		"(SELECT FROM overten_auth.api_keys s WHERE s.rotated_from = $2)",
		.argtypes = {TEXTOID, TEXTOID},
	};
	Datum		values[] = {PointerGetDatum(org_id), PointerGetDatum(key_id)};

	return oa_statement_run(&find, values, NULL) > 0;
}

/* Say which key a request has made. */
static OaProblem
tell_done(const OaDone *done, OaOrgKey *result)
{
	result->org_id = done->org_id;
	result->key.key_id = done->key_id;
	return OA_ALREADY_DONE;
}

/*
 * Begin to repeat a request that was done before: revoke the key whose secret
 * was lost, and describe the org in *result, so that the caller can mint another
 * key.  Or return OA_ALREADY_DONE, and the ids in *result.  "replaced" is as in
 * oa_has_all_keys().  Membership comes first, because the person may have left
 * the org since.
 */
OaProblem
oa_begin_repeat(text *uid, const OaDone *done, int replaced, OaOrgKey *result)
{
	OaProblem	problem;
	OaLockedOrg org;
	int			level = oa_statements_begin();

	problem = oa_lock_org_with_access(done->org_id, uid, &org);
	if (problem == OA_NO_PROBLEM &&
		(done->is_late || !is_replaceable(done->org_id, done->key_id) ||
		 oa_was_used(done->key_id)))
		problem = OA_ALREADY_DONE;
	if (problem == OA_NO_PROBLEM &&
		oa_has_all_keys(done->org_id, NULL, replaced))
		problem = OA_KEY_LIMIT_REACHED;
	oa_statements_end(level);

	if (problem == OA_ALREADY_DONE)
		return tell_done(done, result);
	if (problem != OA_NO_PROBLEM)
		return problem;

	/* Somebody else may revoke the key, who need not lock the org. */
	if (oa_revoke_key(done->org_id, done->key_id, uid,
					  cstring_to_text("its secret was lost, and the request repeated")) != OA_REVOKED)
		return tell_done(done, result);
	oa_describe_org(done->org_id, &org, result);
	return OA_NO_PROBLEM;
}

/* Repeat a request that has minted a key. */
OaProblem
oa_repeat(const OaRequestKey *request, text *uid, const OaDone *done,
		  text *key_name, const OaKeyGrant *grant, OaOrgKey *result)
{
	OaProblem	problem = oa_begin_repeat(uid, done, 1, result);

	if (problem == OA_NO_PROBLEM)
	{
		oa_mint_key(done->org_id, key_name, uid, grant, &result->key);
		oa_note_repeat(request, uid, result->key.key_id);
	}
	return problem;
}

/*
 * Remove the notes of requests that nobody may repeat any more.  Called by the
 * worker.
 */
void
oa_remove_old_requests(void)
{
	static OaStatement remove = {
		.table = "idempotency_keys",
		.text = "DELETE FROM overten_auth.idempotency_keys "
		"WHERE first_at <= $1",
		.argtypes = {TIMESTAMPTZOID},
	};
	Datum		values[1];
	int			level;

	oa_worker_begin();
	values[0] = TimestampTzGetDatum(GetCurrentTimestamp() - OA_REQUESTS_KEPT);
	level = oa_statements_begin();
	oa_statement_run(&remove, values, NULL);
	oa_statements_end(level);
	oa_worker_commit();
}
