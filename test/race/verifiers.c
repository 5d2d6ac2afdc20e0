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
#define STUCK			(INT64_C(120) * 1000000000)

typedef struct Verifier
{
	pthread_t	thread;
	PGconn	   *conn;
	Random		random;
	const struct Mode *mode;
	unsigned	turn;
	_Atomic uint64_t verifications;
	_Atomic uint64_t progress;	/* answers that were asked for separately */
	_Atomic uint64_t goal;		/* of progress, for the quiet to be over */
	_Atomic uint64_t failures;	/* of serialization */
} Verifier;

typedef struct Mode
{
	const char *name;
	const char *begin;			/* NULL for none */
	const char *write;			/* that one transaction in four begins with */
	void		(*prepare) (Verifier *verifier);
	void		(*round) (Verifier *verifier);
} Mode;

static void prepare_statement(Verifier *verifier);
static void prepare_loop(Verifier *verifier);
static void verify_alone(Verifier *verifier);
static void verify_in_transaction(Verifier *verifier);
static void verify_in_cursor(Verifier *verifier);
static void verify_in_loop(Verifier *verifier);

static const Mode modes[] = {
	{"READ COMMITTED, autocommit", NULL, NULL, prepare_statement, verify_alone},
	{"REPEATABLE READ transaction", "BEGIN ISOLATION LEVEL REPEATABLE READ",
	NULL, prepare_statement, verify_in_transaction},
	{"PL/pgSQL loop", NULL, NULL, prepare_loop, verify_in_loop},
	{"READ ONLY transaction", "BEGIN READ ONLY",
	NULL, prepare_statement, verify_in_transaction},
	{"cursor", "BEGIN", NULL, prepare_statement, verify_in_cursor},
	/* Minting makes it fail now and then, against serializable revocations. */
	{"SERIALIZABLE transaction", "BEGIN ISOLATION LEVEL SERIALIZABLE",
		"SELECT overten_mint_key(org_id) FROM overten_auth.orgs LIMIT 1",
	prepare_statement, verify_in_transaction},
};

static Verifier *verifiers;
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

/* Check a result whose first columns are key_id and tier. */
static void
check_row(Verifier *verifier, const Key *key, const PGresult *result, int row,
		  Stamp sent, Stamp answered)
{
	Answer		answer = {
		.session = verifier->mode->name,
		.key = key,
		.sent = sent,
		.answered = answered,
		.accepted = !PQgetisnull(result, row, 0),
		.tier = PQgetvalue(result, row, 1),
	};

	if (answer.accepted && strcmp(PQgetvalue(result, row, 0), key->id) != 0)
		report_impossible(answer.session, "key %s was taken for %s", key->id,
						  PQgetvalue(result, row, 0));
	check_answer(&answer);
	verifier->verifications++;
}

/* Is this the result of a query, and not of a serialization failure? */
static bool
has_rows(Verifier *verifier, const PGresult *result)
{
	if (PQresultStatus(result) == PGRES_TUPLES_OK)
		return true;
	if (!is_serialization_failure(result))
		die("%s: %s", verifier->mode->name, PQerrorMessage(verifier->conn));
	verifier->failures++;
	return false;
}

static void
prepare_statement(Verifier *verifier)
{
	PQclear(PQprepare(verifier->conn, "verify",
					  "SELECT key_id, tier FROM overten_verify_key($1)",
					  0, NULL));
}

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
	bool		success = has_rows(verifier, result);

	if (success)
		check_row(verifier, key, result, 0, sent, answered);
	PQclear(result);
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
	bool		success = has_rows(verifier, result);

	PQclear(result);
	return success;
}

/* Some answers from one transaction, and of one snapshot if it keeps that. */
static void
verify_in_transaction(Verifier *verifier)
{
	int			count = 1 + below(&verifier->random, 4 * QUIET_ANSWERS);
	bool		success = true;
	PGresult   *result;

	run_command(verifier->conn, "%s", verifier->mode->begin);
	if (verifier->mode->write != NULL && below(&verifier->random, 4) == 0)
		success = write_something(verifier);
	while (success && count-- > 0)
		success = verify(verifier);

	/* If it fails here, that takes back no answer. */
	result = PQexec(verifier->conn, success ? "COMMIT" : "ROLLBACK");
	if (PQresultStatus(result) != PGRES_COMMAND_OK)
		has_rows(verifier, result);
	PQclear(result);
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

/* The rows of a cursor that was opened before: each FETCH is a verification. */
static void
verify_in_cursor(Verifier *verifier)
{
	Key		   *keys[LOOP_KEYS];
	char		array[LOOP_KEYS * SECRET_SIZE];

	choose_keys(verifier, keys, LOOP_KEYS, array);
	run_command(verifier->conn, "%s", verifier->mode->begin);
	run_command(verifier->conn,
				"DECLARE keys NO SCROLL CURSOR FOR "
				"SELECT v.key_id, v.tier "
				"FROM generate_series(0, %d) n, "
				"LATERAL overten_verify_key(('%s'::text[])[n %% %d + 1]) v",
				CURSOR_ROWS - 1, array, LOOP_KEYS);
	for (int i = 0; i < CURSOR_ROWS; i++)
	{
		Stamp		sent = now();
		PGresult   *result = run_query(verifier->conn, "FETCH keys");

		check_row(verifier, keys[i % LOOP_KEYS], result, 0, sent, now());
		PQclear(result);
		make_progress(verifier, 1);
	}
	run_command(verifier->conn, "COMMIT");
}

static void
prepare_loop(Verifier *verifier)
{
	run_command(verifier->conn,
				"CREATE FUNCTION pg_temp.verify_all(secrets text[], "
				"OUT key_id text, OUT tier text, "
				"OUT sent timestamptz, OUT answered timestamptz) "
				"RETURNS SETOF record LANGUAGE plpgsql AS $$ "
				"BEGIN FOR i IN 1 .. cardinality(secrets) LOOP "
				"sent := clock_timestamp(); "
				"SELECT v.key_id, v.tier INTO key_id, tier "
				"FROM overten_verify_key(secrets[i]) v; "
				"answered := clock_timestamp(); "
				"RETURN NEXT; "
				"END LOOP; END $$");
	PQclear(PQprepare(verifier->conn, "verify_all",
					  "SELECT key_id, tier, "
					  "(extract(epoch FROM sent) * 1000000)::bigint, "
					  "(extract(epoch FROM answered) * 1000000)::bigint "
					  "FROM pg_temp.verify_all($1)", 0, NULL));
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

	choose_keys(verifier, keys, LOOP_KEYS, array);
	widen_offset(&low, &high);
	result = PQexecPrepared(verifier->conn, "verify_all", 1, values,
							NULL, NULL, 0);
	widen_offset(&low, &high);
	if (has_rows(verifier, result))
	{
		for (int i = 0; i < LOOP_KEYS; i++)
		{
			Stamp		sent = strtoll(PQgetvalue(result, i, 2), NULL, 10);
			Stamp		answered = strtoll(PQgetvalue(result, i, 3), NULL, 10);

			check_row(verifier, keys[i], result, i, sent * 1000 - high,
					  (answered + 1) * 1000 - low);
		}
	}
	PQclear(result);
	/* Two calls, of which the second was begun in the quiet, make it. */
	make_progress(verifier, QUIET_ANSWERS / 2);
}

static void *
work(void *arg)
{
	Verifier   *verifier = arg;

	verifier->mode->prepare(verifier);
	while (!stopping)
		verifier->mode->round(verifier);
	PQfinish(verifier->conn);
	return NULL;
}

/* Start verifiers in all modes in turn.  There must be live keys. */
void
start_verifiers(const char *conninfo, int count, uint64_t seed)
{
	nverifiers = count;
	verifiers = calloc(count, sizeof(Verifier));
	for (int i = 0; i < count; i++)
	{
		Verifier   *verifier = &verifiers[i];

		verifier->mode = &modes[i % (sizeof(modes) / sizeof(modes[0]))];
		verifier->random.state = seed * 1000 + i;
		verifier->conn = open_session(conninfo);
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
				die("%s: no answer", verifiers[i].mode->name);
			pause_for(50);
		}
	}
}

void
stop_verifiers(void)
{
	stopping = true;
	for (int i = 0; i < nverifiers; i++)
		pthread_join(verifiers[i].thread, NULL);
}

uint64_t
count_verifications(void)
{
	uint64_t	sum = 0;

	for (int i = 0; i < nverifiers; i++)
		sum += verifiers[i].verifications;
	return sum;
}

/* Serialization failures that verifiers met. */
uint64_t
count_verifier_failures(void)
{
	uint64_t	sum = 0;

	for (int i = 0; i < nverifiers; i++)
		sum += verifiers[i].failures;
	return sum;
}
