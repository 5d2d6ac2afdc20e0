/*
 * own.c
 *		A session that verifies what it has written and not committed.
 *
 * The session has an org of its own, so every answer has to match exactly what
 * the transaction has done, and what ROLLBACK or ROLLBACK TO has undone.  It
 * commits almost nothing as an UPDATE, because that could empty the caches of
 * all other sessions, and hide errors in them.
 */
#include <stdio.h>
#include <string.h>

#include "race.h"

typedef struct OwnKey
{
	char		id[ID_SIZE];
	char		secret[SECRET_SIZE];
} OwnKey;

static const char session[] = "session that verifies its own changes";

static pthread_t thread;
static PGconn *conn;
static Random numbers;
static char org_id[ID_SIZE];
static _Atomic uint64_t rounds;
static atomic_bool stopping;

static void
mint(OwnKey *key)
{
	PGresult   *result = run_query(conn, "SELECT key_id, secret "
								   "FROM overten_mint_key('%s')", org_id);

	snprintf(key->id, sizeof(key->id), "%s", PQgetvalue(result, 0, 0));
	snprintf(key->secret, sizeof(key->secret), "%s", PQgetvalue(result, 0, 1));
	PQclear(result);
}

/* Verify a key, and expect this tier, or a refusal if it is NULL. */
static void
expect(const OwnKey *key, const char *tier, const char *when)
{
	const char *values[] = {key->secret};
	PGresult   *result = PQexecPrepared(conn, "verify", 1, values,
										NULL, NULL, 0);
	bool		accepted;

	if (PQresultStatus(result) != PGRES_TUPLES_OK)
		die("%s: %s", session, PQerrorMessage(conn));
	accepted = PQntuples(result) == 1;
	if (accepted && tier == NULL)
		report_impossible("primary", session, "key %s was accepted %s",
						  key->id, when);
	if (!accepted && tier != NULL)
		report_impossible("primary", session, "key %s was refused %s",
						  key->id, when);
	if (accepted && strcmp(tier, PQgetvalue(result, 0, 1)) != 0)
		report_impossible("primary", session,
						  "key %s was accepted on tier %s %s",
						  key->id, PQgetvalue(result, 0, 1), when);
	PQclear(result);
}

static void
begin(void)
{
	run_command(conn, "BEGIN ISOLATION LEVEL %s",
				below(&numbers, 2) ? "READ COMMITTED" : "REPEATABLE READ");
}

static void
undo_mint(void)
{
	OwnKey		key;

	begin();
	run_command(conn, "SAVEPOINT s");
	mint(&key);
	expect(&key, tiers[0], "in the savepoint that minted it");
	run_command(conn, "ROLLBACK TO s");
	expect(&key, NULL, "after ROLLBACK TO of its minting");
	run_command(conn, "COMMIT");

	begin();
	mint(&key);
	expect(&key, tiers[0], "in the transaction that minted it");
	run_command(conn, "ROLLBACK");
	expect(&key, NULL, "after ROLLBACK of its minting");
}

static void
undo_changes(const OwnKey *key)
{
	begin();
	run_command(conn, "SAVEPOINT s");
	run_command(conn, "SELECT overten_revoke_key('%s', '%s')", org_id, key->id);
	expect(key, NULL, "in the savepoint that revoked it");
	run_command(conn, "ROLLBACK TO s");
	expect(key, tiers[0], "after ROLLBACK TO of its revocation");
	run_command(conn, "SELECT overten_set_tier('%s', '%s')", org_id, tiers[1]);
	expect(key, tiers[1], "in the savepoint that set the tier");
	run_command(conn, "ROLLBACK TO s");
	expect(key, tiers[0], "after ROLLBACK TO of a change of tier");
	run_command(conn, "SELECT overten_set_api_access('%s', false)", org_id);
	expect(key, NULL, "in the transaction that suspended its org");
	run_command(conn, "ROLLBACK");
	expect(key, tiers[0], "after ROLLBACK of the suspension");
}

/* Revoke a key.  This commits, so we do it seldom. */
static void
revoke(const OwnKey *key)
{
	begin();
	run_command(conn, "SELECT overten_revoke_key('%s', '%s')", org_id, key->id);
	expect(key, NULL, "in the transaction that revoked it");
	run_command(conn, "COMMIT");
	expect(key, NULL, "after COMMIT of its revocation");
}

static void *
work(void *arg)
{
	OwnKey		key;

	(void) arg;
	mint(&key);
	while (!stopping)
	{
		undo_mint();
		undo_changes(&key);
		if (below(&numbers, 64) == 0)
		{
			revoke(&key);
			mint(&key);
			expect(&key, tiers[0], "at once after its minting");
		}
		rounds++;
	}
	PQfinish(conn);
	return NULL;
}

void
start_own_session(const char *conninfo, uint64_t seed)
{
	PGresult   *result;

	numbers.state = seed * 1000 + 900;
	conn = open_session(conninfo);
	result = run_query(conn, "SELECT org_id FROM overten_create_org('own', '%s')",
					   tiers[0]);
	snprintf(org_id, sizeof(org_id), "%s", PQgetvalue(result, 0, 0));
	PQclear(result);
	PQclear(PQprepare(conn, "verify",
					  "SELECT key_id, tier FROM overten_verify_key($1)",
					  0, NULL));
	if (pthread_create(&thread, NULL, work, NULL) != 0)
		die("could not start a thread");
}

void
stop_own_session(void)
{
	stopping = true;
	pthread_join(thread, NULL);
}

uint64_t
count_own_rounds(void)
{
	return rounds;
}
