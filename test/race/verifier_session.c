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
 * The key is verified when the position before it is known, as its argument
 * depends on that; the position after it is read for the row that comes out.
 * Where a refusal, too, has to have its row, it comes out of an outer join.
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

/* Has the result the status?  If not, this must be a failure that may be. */
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

/* End a transaction.  If it fails here, that takes back no answer. */
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

/* False if there was a recovery conflict about this. */
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

/* Connect anew: a session knows only of messages since it has begun. */
void
renew_verifier(Verifier *verifier)
{
	PQfinish(verifier->conn);
	open_verifier(verifier);
}

/* A standby may end a session whose transaction is in replay's way. */
void
reopen_verifier(Verifier *verifier)
{
	PQfinish(verifier->conn);
	verifier->lost++;
	open_verifier(verifier);
}

/*
 * Does the session cache what it accepts?  It does not where the webhook
 * secret cannot be opened, for want of the master key file, and then there is
 * nothing to race for.
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
