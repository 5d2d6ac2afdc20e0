/*
 * clients.c
 *		The sessions that mint, revoke, verify, flush and fetch at the same
 *		time.
 *
 * Each session is a thread that runs until it is told to stop or its
 * connection breaks; a lasting one connects again.  If the server answers with an error, nothing was done.
 * If there is no answer, the statement may or may not have been done.
 *
 * If the server has synchronous_commit = off, one more session writes without
 * protection.  That some of its changes get lost in a crash shows that the
 * changes of the others could have been lost.
 *
 * Lasting sessions that revoke do not wait for standbys of their own accord
 * (synchronous_commit = local).
 *
 * A flush does not wait for standbys.  The INSERT after it does, if the server
 * asks for that.  Only then do we consider the uses safe that were counted
 * before the flush.
 */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "load.h"

#define RECENT			2000	/* keys that are verified most */
#define CLIENTS_MAX		20
#define RECONNECT_PAUSE_US	100000

/* Lasting sessions verify a key either on standbys or on the primary. */
#define IS_FOR_STANDBYS(key)	(((key) - key_of(0)) % 8 == 0)
#define FLUSH_PAUSE_US	1000000

typedef struct Client
{
	pthread_t	thread;
	void		(*act) (struct Client *client);
	const char *server;
	const char *settings;
	bool		lasting;
	int			connections;
	Random		random;
	PGconn	   *conn;
	bool		broken;
} Client;

static Client clients[CLIENTS_MAX];
static int	nclients = 0;
static bool is_paced;
static int	standby_bound_ms;
static _Atomic bool stopping;
static _Atomic int64_t last_control = 0;

/*
 * Run a statement.  NULL if it was refused, or, which sets client->broken, if
 * the connection is gone and nobody knows what it has done.
 */
static PGresult *
run(Client *client, Operation operation, const char *sql, int nparams,
	const char *const *params)
{
	Stamp		sent = now();
	PGresult   *result = PQexecParams(client->conn, sql, nparams, NULL, params,
									  NULL, NULL, 0);
	const char *severity = PQresultErrorField(result, PG_DIAG_SEVERITY_NONLOCALIZED);
	const char *state = PQresultErrorField(result, PG_DIAG_SQLSTATE);

	if (PQresultStatus(result) == PGRES_TUPLES_OK ||
		PQresultStatus(result) == PGRES_COMMAND_OK)
	{
		done[operation]++;
		note_done(operation, sent);
		return result;
	}
	if (PQstatus(client->conn) != CONNECTION_OK || severity == NULL ||
		strcmp(severity, "ERROR") != 0)
	{
		client->broken = true;
		unanswered[operation]++;
	}
	else
		count_error(operation, state != NULL ? state : "?????");
	PQclear(result);
	return NULL;
}

/* A key that has been handed out, one of the latest for the most part. */
static Key *
choose_key(Client *client)
{
	int			count = number_of_keys();

	for (int i = 0; i < 50 && count > 0; i++)
	{
		int			range = count > RECENT && below(&client->random, 10) > 0 ?
			RECENT : count;
		Key		   *key = key_of(count - 1 - (int) below(&client->random, range));

		if (key->mint_acked != 0)
			return key;
	}
	return NULL;
}

static void
mint(Client *client)
{
	int			number;
	Key		   *key = new_key(&number);
	char		name[16];
	const char *params[] = {name};
	PGresult   *result;

	snprintf(name, sizeof(name), "k%d", number);
	result = run(client, MINT,
				 "SELECT m.key_id, m.secret FROM load_org, overten_mint_key(org_id, $1) m",
				 1, params);
	if (result == NULL)
	{
		key->refused = !client->broken;
		return;
	}
	snprintf(key->id, ID_SIZE, "%s", PQgetvalue(result, 0, 0));
	snprintf(key->secret, SECRET_SIZE, "%s", PQgetvalue(result, 0, 1));
	PQclear(result);
	key->mint_acked = now();
}

static void
revoke(Client *client)
{
	Key		   *key = choose_key(client);
	Stamp		none = 0;
	const char *params[1];
	PGresult   *result;

	if (key == NULL ||
		!atomic_compare_exchange_strong(&key->revoke_sent, &none, now()))
		return;
	params[0] = key->id;
	result = run(client, REVOKE,
				 "SELECT overten_revoke_key(org_id, $1, 'load') FROM load_org",
				 1, params);
	if (result == NULL)
	{
		if (!client->broken)
			key->revoke_sent = 0;
		return;
	}
	if (strcmp(PQgetvalue(result, 0, 0), "t") != 0)
		wrong("key %s had been revoked by somebody else", key->id);
	PQclear(result);
	key->revoke_acked = now();
}

static void
write_keys(Client *client)
{
	pause_for(is_paced ? (int) below(&client->random, 60000) : 0);
	if (below(&client->random, 5) < 3)
		mint(client);
	else
		revoke(client);
}

static void
mint_often(Client *client)
{
	pause_for((int) below(&client->random, 20000));
	mint(client);
}

static void
revoke_often(Client *client)
{
	pause_for((int) below(&client->random, 30000));
	revoke(client);
}

static void
verify(Client *client)
{
	Key		   *key = choose_key(client);
	const char *params[1];
	PGresult   *result;
	bool		revoked;
	bool		accepted;

	pause_for(is_paced ? (int) below(&client->random, 2000) : 0);
	if (key == NULL || (client->lasting && IS_FOR_STANDBYS(key)))
		return;
	params[0] = key->secret;
	revoked = key->revoke_acked != 0;
	result = run(client, VERIFY, "SELECT key_id FROM overten_verify_key($1)",
				 1, params);
	if (result == NULL)
	{
		key->unanswered++;
		return;
	}
	accepted = PQntuples(result) == 1;
	if (accepted && strcmp(PQgetvalue(result, 0, 0), key->id) != 0)
		wrong("key %s was taken for %s", key->id, PQgetvalue(result, 0, 0));
	PQclear(result);
	if (accepted && revoked)
		wrong("key %s was accepted after its revocation was acknowledged", key->id);
	if (!accepted && key->revoke_sent == 0)
		wrong("key %s was refused, though nobody has revoked it", key->id);
	if (accepted)
		key->accepted++;
	else
		verified_refused++;
}

/*
 * Verify on a standby.  What a standby counts gets into the history when it is
 * promoted, or is lost.
 */
static void
verify_on_standby(Client *client)
{
	Key		   *key = choose_key(client);
	const char *params[1];
	PGresult   *result;
	Stamp		revoked;
	Stamp		age;

	pause_for((int) below(&client->random, 2000));
	if (key == NULL || !IS_FOR_STANDBYS(key))
		return;
	params[0] = key->secret;
	key->on_standbys++;
	revoked = key->revoke_acked;
	age = revoked != 0 ? now() - revoked : 0;
	result = run(client, STANDBY, "SELECT key_id FROM overten_verify_key($1)",
				 1, params);
	if (result == NULL)
		return;
	if (PQntuples(result) == 1 && revoked != 0)
	{
		if (age > oldest)
			oldest = age;
		if (age > standby_bound_ms * INT64_C(1000000))
		{
			late++;
			wrong("key %s was accepted by a standby %lld ms after its revocation was acknowledged",
				  key->id, (long long) age / 1000000);
		}
	}
	PQclear(result);
}

static void
flush(Client *client)
{
	int			count = number_of_keys();
	PGresult   *result;

	pause_for((int) below(&client->random, FLUSH_PAUSE_US));
	for (int i = 0; i < count; i++)
		key_of(i)->pending = key_of(i)->accepted;
	result = run(client, FLUSH, "SELECT overten_flush_usage()", 0, NULL);
	PQclear(result);
	if (result == NULL)
		return;
	result = run(client, CONTROL, "INSERT INTO load_control VALUES (-1)", 0, NULL);
	PQclear(result);
	if (result == NULL)
		return;

	/* A server that is gone may have lost what it had counted. */
	if (client->connections > 1)
		return;
	for (int i = 0; i < count; i++)
		key_of(i)->flushed = key_of(i)->pending;
}

/* So that there is mostly a worker that fetches keys. */
static void
refresh(Client *client)
{
	pause_for((int) below(&client->random, 500000));
	PQclear(run(client, REFRESH, "SELECT overten_refresh_signing_keys()", 0, NULL));
}

static void
write_control(Client *client)
{
	char		number[24];
	const char *params[] = {number};
	PGresult   *result;

	pause_for(3000);
	snprintf(number, sizeof(number), "%lld", (long long) last_control + 1);
	result = run(client, CONTROL, "INSERT INTO load_control VALUES ($1)", 1, params);
	if (result != NULL)
		last_control++;
	PQclear(result);
}

int64_t
control_acked(void)
{
	return last_control;
}

static void *
go_on(void *argument)
{
	Client	   *client = argument;

	do
	{
		client->conn = PQconnectdb(client->server);
		client->broken = PQstatus(client->conn) != CONNECTION_OK;
		client->connections++;
		PQclear(PQexec(client->conn, client->settings));
		while (!stopping && !client->broken)
			client->act(client);
		PQfinish(client->conn);
		if (!stopping && client->lasting)
			pause_for(RECONNECT_PAUSE_US);
	} while (!stopping && client->lasting);
	return NULL;
}

/* Start clients like the given one. */
static void
add_clients(int count, Client model, uint64_t seed)
{
	for (int i = 0; i < count; i++)
	{
		Client	   *client = &clients[nclients++];

		*client = model;
		if (client->settings == NULL)
			client->settings = "SET client_min_messages = error";
		client->random.state = seed * 1000 + nclients;
		if (pthread_create(&client->thread, NULL, go_on, client) != 0)
			die("no thread");
	}
}

void
start_clients(const char *conninfo, uint64_t seed, bool paced)
{
	is_paced = paced;
	stopping = false;
	nclients = 0;
	add_clients(3, (Client) {.act = write_keys, .server = conninfo}, seed);
	add_clients(3, (Client) {.act = verify, .server = conninfo}, seed);
	add_clients(1, (Client) {.act = flush, .server = conninfo}, seed);
	add_clients(1, (Client) {.act = refresh, .server = conninfo}, seed);
	add_clients(1, (Client) {.act = write_control, .server = conninfo}, seed);
}

void
start_lasting_clients(const char *conninfo, uint64_t seed)
{
	is_paced = true;
	stopping = false;
	nclients = 0;
	add_clients(3, (Client) {.act = mint_often, .server = conninfo, .lasting = true}, seed);
	add_clients(3, (Client) {.act = revoke_often, .server = conninfo, .lasting = true,
		.settings = "SET client_min_messages = error; SET synchronous_commit = local"}, seed);
	add_clients(2, (Client) {.act = verify, .server = conninfo, .lasting = true}, seed);
	add_clients(1, (Client) {.act = flush, .server = conninfo, .lasting = true}, seed);
	add_clients(1, (Client) {.act = refresh, .server = conninfo, .lasting = true}, seed);
}

void
start_standby_clients(const char *conninfo, uint64_t seed, int bound_ms)
{
	standby_bound_ms = bound_ms;
	add_clients(2, (Client) {.act = verify_on_standby, .server = conninfo, .lasting = true}, seed);
}

/* Let each end what it is at. */
void
stop_clients(void)
{
	stopping = true;
	await_clients();
}

/* Wait until all have stopped, or lost their connections. */
void
await_clients(void)
{
	for (int i = 0; i < nclients; i++)
		pthread_join(clients[i].thread, NULL);
	nclients = 0;
}
