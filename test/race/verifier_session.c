/*
 * verifier_session.c
 *		A verifier's connection, and its errors.
 *
 * On a standby, a recovery conflict is an error and not an answer, like a
 * serialization failure.  It may cost the connection; the verifier then opens
 * a new one.  Any other error ends the program.
 */
#include <stdio.h>
#include <string.h>

#include "race.h"

/*
 * On a standby, a verification needs the position before it and the position
 * after it.  The argument depends on the position before, so the server reads
 * that first.  It reads the position after when it makes the row of the
 * result.  Where a refusal must have a row, too, the query uses an outer join.
 */
const Place primary = {
	"primary",
	"SELECT key_id, tier, NULL, NULL FROM overten_verify_key($1)",
	"SELECT v.key_id, v.tier, NULL, NULL "
	"FROM keys LEFT JOIN LATERAL overten_verify_key(secret) v ON true",
};
const Place standby = {
	"standby",
	"SELECT v.key_id, v.tier, wal, pg_last_wal_replay_lsn() "
	"FROM (SELECT pg_last_wal_replay_lsn() AS wal OFFSET 0) b LEFT JOIN "
	"LATERAL overten_verify_key(CASE WHEN wal IS NOT NULL THEN $1 END) v "
	"ON true",
	"SELECT v.key_id, v.tier, wal, pg_last_wal_replay_lsn() FROM keys "
	"CROSS JOIN LATERAL (SELECT CASE WHEN n IS NOT NULL "
	"THEN pg_last_wal_replay_lsn() END AS wal OFFSET 0) b LEFT JOIN "
	"LATERAL overten_verify_key(CASE WHEN wal IS NOT NULL THEN secret END) v "
	"ON true",
};

/*
 * Does the result have this status?  If not, only a conflict may be the cause.
 */
bool
has_status(Verifier *verifier, const PGresult *result, ExecStatusType status)
{
	if (PQresultStatus(result) == status)
		return true;
	if (!is_conflict(verifier->conn, result, verifier->conflict))
		die("%s, %s: %s", verifier->place->name, verifier->mode->name,
			PQerrorMessage(verifier->conn));
	verifier->failures++;
	return false;
}

bool
do_command(Verifier *verifier, const char *sql)
{
	PGresult   *result = PQexec(verifier->conn, sql);
	bool		success = has_status(verifier, result, PGRES_COMMAND_OK);

	PQclear(result);
	return success;
}

/* End a transaction.  If this fails, the answers in it remain valid. */
void
end_transaction(Verifier *verifier, bool success)
{
	while (PQstatus(verifier->conn) == CONNECTION_OK &&
		   PQtransactionStatus(verifier->conn) != PQTRANS_IDLE)
		success = do_command(verifier, success ? "COMMIT" : "ROLLBACK");
}

static bool
prepare(Verifier *verifier, const char *name, const char *query)
{
	PGresult   *result = PQprepare(verifier->conn, name, query, 0, NULL);
	bool		success = has_status(verifier, result, PGRES_COMMAND_OK);

	PQclear(result);
	return success;
}

/* Open the session.  Returns false if there was a recovery conflict. */
static bool
try_to_open(Verifier *verifier)
{
	verifier->conn = open_standby_session(verifier->conninfo,
										  &verifier->conflict);
	return prepare(verifier, "verify", verifier->place->query) &&
		prepare(verifier, "verify_all",
				"SELECT key_id, tier, before, after, "
				"(extract(epoch FROM sent) * 1000000)::bigint, "
				"(extract(epoch FROM answered) * 1000000)::bigint "
				"FROM race_verify_all($1)");
}

void
open_verifier(Verifier *verifier)
{
	while (!try_to_open(verifier))
		PQfinish(verifier->conn);
}

/* Reconnect: a new session never receives the messages of earlier changes. */
void
renew_verifier(Verifier *verifier)
{
	PQfinish(verifier->conn);
	open_verifier(verifier);
}

/*
 * Reconnect after the standby has ended the session, whose transaction was in
 * the way of replay.
 */
void
reopen_verifier(Verifier *verifier)
{
	PQfinish(verifier->conn);
	verifier->lost++;
	open_verifier(verifier);
}

/*
 * Make sure that the session caches what it accepts; otherwise there is
 * nothing to test.  It caches nothing if it cannot open the webhook secret,
 * because the master key file is missing.
 */
void
check_caching(Verifier *verifier)
{
	Key		   *key = live_keys[0];
	PGresult   *result;

	result = run_query(verifier->conn, "SELECT v.webhook_secret IS NOT NULL "
					   "FROM overten_verify_key('%s') v", key->secret);
	if (PQntuples(result) != 1 || strcmp(PQgetvalue(result, 0, 0), "t") != 0)
		die("the %s does not open webhook secrets, so it caches nothing",
			verifier->place->name);
	PQclear(result);
	result = run_query(verifier->conn, "SELECT FROM pg_backend_memory_contexts "
					   "WHERE name = 'overten_auth cache' AND ident = 'keys' "
					   "UNION ALL SELECT FROM overten_stat "
					   "WHERE shared_cache_stores > 0");
	if (PQntuples(result) == 0)
		die("%s, %s: nothing is cached", verifier->place->name,
			verifier->mode->name);
	PQclear(result);
}
