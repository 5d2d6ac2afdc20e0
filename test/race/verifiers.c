/*
 * verifiers.c
 *		The sessions that only verify, each in a mode of its own.
 *
 * A verifier goes on for ever.  Every second key that it takes is one of
 * those that were revoked last, the others are live: to find an entry that
 * was cached wrongly, it has to be asked for again.
 *
 * Between trials, and when it has given its answers in the quiet, it rests
 * after each answer, to leave the processors to those who make the next trial,
 * until it is roused by that.
 *
 * On a standby a recovery conflict is an error and not an answer, as a
 * serialization failure is; it may cost the connection, and the verifier makes
 * a new one.  Any other error ends the program, and so does a verifier that
 * gives no answers any more: a run in which one did not take part is none.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "race.h"

/* Answers that every verifier gives before the quiet after a trial is over. */
#define QUIET_ANSWERS	(2 * GONE_KEYS + 2)
#define REST			2000000 /* nanoseconds */
#define LOOP_KEYS		8
#define CURSOR_ROWS		24

/* Trials after which all must have happened at least once to each verifier. */
#define ENOUGH_TRIALS	200

/*
 * The record after the last replayed one may be seen already.  It begins where
 * that one ends, or after a page header, of 40 bytes at most.
 */
#define NEXT_RECORD		64

typedef struct Mode Mode;

/* A server, and how its positions are read beside a verification. */
typedef struct Place
{
	const char *name;
	const char *query;			/* a verification of $1 */
	const char *cursor;			/* of all rows of keys (n, secret) */
} Place;

typedef struct Verifier
{
	pthread_t	thread;
	const Place *place;
	const Mode *mode;
	const char *conninfo;
	PGconn	   *conn;
	bool		conflict;		/* has the session been told of one? */
	Sight	   *sights;
	Random		random;
	unsigned	turn;
	_Atomic uint64_t accepted;
	_Atomic uint64_t refused;
	_Atomic uint64_t tested;
	_Atomic uint64_t late;
	_Atomic uint64_t failures;
	_Atomic uint64_t lost;
	_Atomic uint64_t progress;	/* answers that were asked for separately */
	_Atomic uint64_t goal;		/* of progress, for the quiet to be over */
} Verifier;

struct Mode
{
	const char *name;
	const char *begin;			/* NULL for none */
	const char *write;			/* that one transaction in four begins with */
	bool		only_primary;
	void		(*round) (Verifier *verifier);
};

static void verify_alone(Verifier *verifier);
static void verify_in_transaction(Verifier *verifier);
static void verify_in_savepoints(Verifier *verifier);
static void verify_in_cursor(Verifier *verifier);
static void verify_in_loop(Verifier *verifier);

/*
 * The key is verified when the position before it is known, as its argument
 * depends on that; the position after it is read for the row that comes out.
 */
static const Place primary = {
	"primary",
	"SELECT key_id, tier, NULL, NULL FROM overten_verify_key($1)",
	"SELECT v.key_id, v.tier, NULL, NULL "
	"FROM keys, LATERAL overten_verify_key(secret) v",
};
static const Place standby = {
	"standby",
	"SELECT v.key_id, v.tier, wal, pg_last_wal_replay_lsn() "
	"FROM (SELECT pg_last_wal_replay_lsn() AS wal OFFSET 0) b, "
	"LATERAL overten_verify_key(CASE WHEN wal IS NOT NULL THEN $1 END) v",
	"SELECT v.key_id, v.tier, wal, pg_last_wal_replay_lsn() FROM keys, "
	"LATERAL (SELECT CASE WHEN n IS NOT NULL "
	"THEN pg_last_wal_replay_lsn() END AS wal OFFSET 0) b, "
	"LATERAL overten_verify_key(CASE WHEN wal IS NOT NULL THEN secret END) v",
};

static const Mode modes[] = {
	{"READ COMMITTED, autocommit", NULL, NULL, false, verify_alone},
	{"REPEATABLE READ transaction", "BEGIN ISOLATION LEVEL REPEATABLE READ",
	NULL, false, verify_in_transaction},
	{"PL/pgSQL loop", NULL, NULL, false, verify_in_loop},
	{"READ ONLY transaction", "BEGIN READ ONLY",
	NULL, false, verify_in_transaction},
	{"cursor", "BEGIN", NULL, false, verify_in_cursor},
	{"savepoints", "BEGIN", NULL, false, verify_in_savepoints},
	/* Minting makes it fail now and then, against serializable revocations. */
	{"SERIALIZABLE transaction", "BEGIN ISOLATION LEVEL SERIALIZABLE",
		"SELECT overten_mint_key(org_id) FROM overten_auth.orgs LIMIT 1",
	true, verify_in_transaction},
};

#define NMODES			(int) (sizeof(modes) / sizeof(modes[0]))
#define VERIFIERS_MAX	120

static Verifier verifiers[VERIFIERS_MAX];
static int	nverifiers;
static atomic_bool stopping;

static pthread_mutex_t rest_lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t roused = PTHREAD_COND_INITIALIZER;

/* Rest until roused, but not for long. */
static void
rest(Verifier *verifier)
{
	struct timespec end;

	clock_gettime(CLOCK_REALTIME, &end);
	end.tv_nsec += REST;
	if (end.tv_nsec >= 1000000000)
	{
		end.tv_sec++;
		end.tv_nsec -= 1000000000;
	}
	pthread_mutex_lock(&rest_lock);
	if (verifier->progress >= verifier->goal)
		pthread_cond_timedwait(&roused, &rest_lock, &end);
	pthread_mutex_unlock(&rest_lock);
}

static void
make_progress(Verifier *verifier, int answers)
{
	verifier->progress += answers;
	if (verifier->progress >= verifier->goal)
		rest(verifier);
}

static Key *
next_key(Verifier *verifier)
{
	uint64_t	gone = ngone;

	if (verifier->turn++ % 2 == 0 && gone >= GONE_KEYS)
		return gone_keys[(gone - 1 - verifier->turn / 2 % GONE_KEYS) % GONE_KEYS];
	return live_keys[below(&verifier->random, LIVE_KEYS)];
}

/* Check a result whose columns are key_id, tier, and two positions. */
static void
check_row(Verifier *verifier, const Key *key, const PGresult *result, int row,
		  Stamp sent, Stamp answered)
{
	bool		on_standby = (verifier->place == &standby);
	Stamp		died = key->died.acked[TIME];
	Answer		answer = {
		.place = verifier->place->name,
		.session = verifier->mode->name,
		.sights = verifier->sights,
		.key = key,
		.sent = {[TIME] = sent},
		.answered = {[TIME] = answered},
		.bound = {[TIME] = !on_standby || waits_for_standby(sent)},
		.accepted = !PQgetisnull(result, row, 0),
		.tier = PQgetvalue(result, row, 1),
	};

	if (on_standby)
	{
		answer.bound[WAL] = true;
		answer.sent[WAL] = parse_position(PQgetvalue(result, row, 2));
		answer.answered[WAL] = NEXT_RECORD +
			parse_position(PQgetvalue(result, row, 3));
	}
	if (answer.accepted && strcmp(PQgetvalue(result, row, 0), key->id) != 0)
		report_impossible(answer.place, answer.session,
						  "key %s was taken for %s", key->id,
						  PQgetvalue(result, row, 0));
	if (check_answer(&answer))
		verifier->tested++;
	if (!answer.accepted)
		verifier->refused++;
	else
		verifier->accepted++;
	if (answer.accepted && died != 0 && died < sent)
		verifier->late++;
}

/* Sessions */

static bool
tells_of_conflict(const char *message)
{
	return strstr(message, "due to conflict with recovery") != NULL;
}

/* Of an idle session that is ended, what it is told comes as a notice. */
static void
take_notice(void *arg, const char *message)
{
	Verifier   *verifier = arg;

	if (tells_of_conflict(message))
		verifier->conflict = true;
	else
		fputs(message, stderr);
}

/* Was the session ended by a recovery conflict?  It is given no SQLSTATE. */
static bool
is_ended(const Verifier *verifier)
{
	return PQstatus(verifier->conn) != CONNECTION_OK &&
		(verifier->conflict ||
		 tells_of_conflict(PQerrorMessage(verifier->conn)));
}

/* Has the result the status?  If not, this must be a failure that may be. */
static bool
has_status(Verifier *verifier, const PGresult *result, ExecStatusType status)
{
	if (PQresultStatus(result) == status)
		return true;
	if (!has_sqlstate(result, "40001") && !is_ended(verifier))
		die("%s, %s: %s", verifier->place->name, verifier->mode->name,
			PQerrorMessage(verifier->conn));
	verifier->failures++;
	return false;
}

static bool
do_command(Verifier *verifier, const char *sql)
{
	PGresult   *result = PQexec(verifier->conn, sql);
	bool		success = has_status(verifier, result, PGRES_COMMAND_OK);

	PQclear(result);
	return success;
}

/* End a transaction.  If it fails here, that takes back no answer. */
static void
end_transaction(Verifier *verifier, bool success)
{
	if (PQstatus(verifier->conn) == CONNECTION_OK)
		do_command(verifier, success ? "COMMIT" : "ROLLBACK");
}

static void
prepare(PGconn *conn, const char *name, const char *query)
{
	PGresult   *result = PQprepare(conn, name, query, 0, NULL);

	if (PQresultStatus(result) != PGRES_COMMAND_OK)
		die("%s", PQerrorMessage(conn));
	PQclear(result);
}

static void
open_verifier(Verifier *verifier)
{
	verifier->conflict = false;
	verifier->conn = open_session(verifier->conninfo);
	PQsetNoticeProcessor(verifier->conn, take_notice, verifier);
	prepare(verifier->conn, "verify", verifier->place->query);
	prepare(verifier->conn, "verify_all",
			"SELECT key_id, tier, before, after, "
			"(extract(epoch FROM sent) * 1000000)::bigint, "
			"(extract(epoch FROM answered) * 1000000)::bigint "
			"FROM race_verify_all($1)");
}

/* A standby may end a session whose idle transaction is in replay's way. */
static void
reopen_verifier(Verifier *verifier)
{
	PQfinish(verifier->conn);
	verifier->lost++;
	open_verifier(verifier);
}

/* Modes */

/* Verify one key.  False if the transaction has failed. */
static bool
verify(Verifier *verifier)
{
	Key		   *key = next_key(verifier);
	const char *values[] = {key->secret};
	Stamp		sent = now();
	PGresult   *result = PQexecPrepared(verifier->conn, "verify", 1, values,
										NULL, NULL, 0);
	Stamp		answered = now();
	bool		success = has_status(verifier, result, PGRES_TUPLES_OK);

	if (success)
		check_row(verifier, key, result, 0, sent, answered);
	PQclear(result);
	if (success)
		make_progress(verifier, 1);
	return success;
}

static void
verify_alone(Verifier *verifier)
{
	verify(verifier);
}

/* Do the write that belongs to the mode.  False if it has failed. */
static bool
write_something(Verifier *verifier)
{
	PGresult   *result = PQexec(verifier->conn, verifier->mode->write);
	bool		success = has_status(verifier, result, PGRES_TUPLES_OK);

	PQclear(result);
	return success;
}

/* Some answers from one transaction, and of one snapshot if it keeps that. */
static void
verify_in_transaction(Verifier *verifier)
{
	int			count = 1 + below(&verifier->random, 4 * QUIET_ANSWERS);
	bool		success = do_command(verifier, verifier->mode->begin);

	if (success && verifier->mode->write != NULL &&
		below(&verifier->random, 4) == 0)
		success = write_something(verifier);
	while (success && count-- > 0)
		success = verify(verifier);
	end_transaction(verifier, success);
}

/* Answers in subtransactions, of which some are taken back. */
static void
verify_in_savepoints(Verifier *verifier)
{
	int			count = 1 + below(&verifier->random, QUIET_ANSWERS);
	bool		success = do_command(verifier, verifier->mode->begin);

	while (success && count-- > 0)
		success = do_command(verifier, "SAVEPOINT s") &&
			verify(verifier) && verify(verifier) &&
			do_command(verifier, below(&verifier->random, 2) ?
					   "RELEASE SAVEPOINT s" : "ROLLBACK TO SAVEPOINT s");
	end_transaction(verifier, success);
}

/* Choose keys, and write their secrets as an array. */
static void
choose_keys(Verifier *verifier, Key **keys, int count, char *array)
{
	*array++ = '{';
	for (int i = 0; i < count; i++)
	{
		keys[i] = next_key(verifier);
		array += sprintf(array, "%s,", keys[i]->secret);
	}
	array[-1] = '}';
}

/* The next row of a cursor. */
static bool
fetch(Verifier *verifier, const Key *key)
{
	Stamp		sent = now();
	PGresult   *result = PQexec(verifier->conn, "FETCH keys");
	Stamp		answered = now();
	bool		success = has_status(verifier, result, PGRES_TUPLES_OK);

	if (success)
		check_row(verifier, key, result, 0, sent, answered);
	PQclear(result);
	if (success)
		make_progress(verifier, 1);
	return success;
}

/* The rows of a cursor that was opened before: each FETCH is a verification. */
static void
verify_in_cursor(Verifier *verifier)
{
	Key		   *keys[LOOP_KEYS];
	char		array[LOOP_KEYS * SECRET_SIZE];
	char		declare[1024];
	bool		success;

	choose_keys(verifier, keys, LOOP_KEYS, array);
	snprintf(declare, sizeof(declare),
			 "DECLARE keys NO SCROLL CURSOR FOR "
			 "WITH keys AS MATERIALIZED (SELECT n, "
			 "('%s'::text[])[n %% %d + 1] AS secret "
			 "FROM generate_series(0, %d) n) %s",
			 array, LOOP_KEYS, CURSOR_ROWS - 1, verifier->place->cursor);
	success = do_command(verifier, verifier->mode->begin) &&
		do_command(verifier, declare);
	for (int i = 0; success && i < CURSOR_ROWS; i++)
		success = fetch(verifier, keys[i % LOOP_KEYS]);
	end_transaction(verifier, success);
}

/* Widen a range of offsets of the server's clock against CLOCK_MONOTONIC. */
static void
widen_offset(Stamp *low, Stamp *high)
{
	Stamp		before = now();
	struct timespec time;
	Stamp		server;
	Stamp		after;

	clock_gettime(CLOCK_REALTIME, &time);
	after = now();
	server = (Stamp) time.tv_sec * 1000000000 + time.tv_nsec;
	if (server - after < *low)
		*low = server - after;
	if (server - before > *high)
		*high = server - before;
}

/*
 * Many verifications in one statement.  The server stamps them, with a clock
 * whose offset from ours is known within bounds; they are taken so that the
 * time in which a verification happened is rather too long than too short.
 */
static void
verify_in_loop(Verifier *verifier)
{
	Key		   *keys[LOOP_KEYS];
	char		array[LOOP_KEYS * SECRET_SIZE];
	const char *values[] = {array};
	PGresult   *result;
	Stamp		low = INT64_MAX;
	Stamp		high = INT64_MIN;
	bool		success;

	choose_keys(verifier, keys, LOOP_KEYS, array);
	widen_offset(&low, &high);
	result = PQexecPrepared(verifier->conn, "verify_all", 1, values,
							NULL, NULL, 0);
	widen_offset(&low, &high);
	success = has_status(verifier, result, PGRES_TUPLES_OK);
	for (int i = 0; success && i < LOOP_KEYS; i++)
	{
		Stamp		sent = strtoll(PQgetvalue(result, i, 4), NULL, 10);
		Stamp		answered = strtoll(PQgetvalue(result, i, 5), NULL, 10);

		check_row(verifier, keys[i], result, i, sent * 1000 - high,
				  (answered + 1) * 1000 - low);
	}
	PQclear(result);
	/* Two calls, of which the second was begun in the quiet, make it. */
	if (success)
		make_progress(verifier, QUIET_ANSWERS / 2);
}

/* Threads */

/*
 * Does the session cache what it accepts?  It does not where the webhook
 * secret cannot be opened, for want of the master key file, and then there is
 * nothing to race for.
 */
static void
check_caching(Verifier *verifier)
{
	Key		   *key = live_keys[0];
	PGresult   *result;

	result = run_query(verifier->conn, "SELECT v.webhook_secret IS NOT NULL "
					   "FROM overten_verify_key('%s') v", key->secret);
	if (strcmp(PQgetvalue(result, 0, 0), "t") != 0)
		die("the %s does not open webhook secrets, so it caches nothing",
			verifier->place->name);
	PQclear(result);
	result = run_query(verifier->conn, "SELECT FROM pg_backend_memory_contexts "
					   "WHERE name = 'overten_auth cache' AND ident = 'keys'");
	if (PQntuples(result) != 1)
		die("%s, %s: nothing is cached", verifier->place->name,
			verifier->mode->name);
	PQclear(result);
}

static void *
work(void *arg)
{
	Verifier   *verifier = arg;

	while (!stopping)
	{
		verifier->mode->round(verifier);
		if (PQstatus(verifier->conn) != CONNECTION_OK)
			reopen_verifier(verifier);
	}
	PQfinish(verifier->conn);
	return NULL;
}

/*
 * Start verifiers in all modes in turn.  There must be live keys, on a standby
 * too, that nobody changes yet.
 */
void
start_verifiers(const char *conninfo, bool on_standby, int count, uint64_t seed)
{
	int			mode = 0;

	for (int i = 0; i < count; i++, mode++)
	{
		Verifier   *verifier = &verifiers[nverifiers];

		if (nverifiers == VERIFIERS_MAX)
			die("too many verifiers");
		if (on_standby && modes[mode % NMODES].only_primary)
			mode++;
		verifier->mode = &modes[mode % NMODES];
		verifier->place = on_standby ? &standby : &primary;
		verifier->conninfo = conninfo;
		verifier->sights = new_sights();
		verifier->random.state = seed * 1000 + nverifiers;
		open_verifier(verifier);
		check_caching(verifier);
		nverifiers++;
		if (pthread_create(&verifier->thread, NULL, work, verifier) != 0)
			die("could not start a thread");
	}
}

/* Let all verifiers go on without rest, until await_verifiers(). */
void
rouse_verifiers(void)
{
	pthread_mutex_lock(&rest_lock);
	for (int i = 0; i < nverifiers; i++)
		verifiers[i].goal = UINT64_MAX;
	pthread_cond_broadcast(&roused);
	pthread_mutex_unlock(&rest_lock);
}

/* Wait until every verifier has looked at all keys that were revoked last. */
void
await_verifiers(void)
{
	Stamp		deadline = now() + STUCK;

	for (int i = 0; i < nverifiers; i++)
		verifiers[i].goal = verifiers[i].progress + QUIET_ANSWERS;
	for (int i = 0; i < nverifiers; i++)
	{
		while (verifiers[i].progress < verifiers[i].goal)
		{
			if (now() > deadline)
				die("%s, %s: no answer", verifiers[i].place->name,
					verifiers[i].mode->name);
			pause_for(50);
		}
	}
}

/* Stop them, and make sure that none was idle. */
void
stop_verifiers(void)
{
	stopping = true;
	for (int i = 0; i < nverifiers; i++)
		pthread_join(verifiers[i].thread, NULL);
	for (int i = 0; trial >= ENOUGH_TRIALS && i < nverifiers; i++)
	{
		if (verifiers[i].accepted == 0 || verifiers[i].refused == 0)
			die("%s, %s: never %s", verifiers[i].place->name,
				verifiers[i].mode->name,
				verifiers[i].accepted == 0 ? "accepted" : "refused");
	}
}

VerifierCounts
count_verifications(bool on_standby)
{
	VerifierCounts sum = {0};

	for (int i = 0; i < nverifiers; i++)
	{
		const Verifier *verifier = &verifiers[i];

		if ((verifier->place == &standby) != on_standby)
			continue;
		sum.accepted += verifier->accepted;
		sum.refused += verifier->refused;
		sum.tested += verifier->tested;
		sum.late += verifier->late;
		sum.failures += verifier->failures;
		sum.lost += verifier->lost;
	}
	return sum;
}

/* One line for each. */
void
print_verifiers(void)
{
	for (int i = 0; i < nverifiers; i++)
	{
		const Verifier *verifier = &verifiers[i];

		printf("  %s, %s: %llu accepted, %llu refused, %llu tested, "
			   "%llu failures",
			   verifier->place->name, verifier->mode->name,
			   (unsigned long long) verifier->accepted,
			   (unsigned long long) verifier->refused,
			   (unsigned long long) verifier->tested,
			   (unsigned long long) verifier->failures);
		if (verifier->place == &standby)
			printf(", %llu connections lost, %llu accepted late",
				   (unsigned long long) verifier->lost,
				   (unsigned long long) verifier->late);
		putchar('\n');
	}
}
