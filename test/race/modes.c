/*
 * modes.c
 *		The modes in which keys are verified, and the check of the results.
 *
 * Every second key that a verifier takes is one of the keys that were revoked
 * last; the others are live.  To find an entry that was cached wrongly, a
 * verifier has to ask for the key again.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "race.h"

#define LOOP_KEYS		8
#define CURSOR_ROWS		24

/*
 * A verification may already see the record after the last replayed one.  That
 * record begins where the last one ends, or after a page header, which has 40
 * bytes at most.
 */
#define NEXT_RECORD		64

static void verify_alone(Verifier *verifier);
static void verify_in_transaction(Verifier *verifier);
static void verify_in_savepoints(Verifier *verifier);
static void verify_in_cursor(Verifier *verifier);
static void verify_in_loop(Verifier *verifier);

const Mode	modes[] = {
	{"READ COMMITTED, autocommit", NULL, NULL, false, verify_alone},
	{"REPEATABLE READ transaction", "BEGIN ISOLATION LEVEL REPEATABLE READ",
	NULL, false, verify_in_transaction},
	{"PL/pgSQL loop", NULL, NULL, false, verify_in_loop},
	{"READ ONLY transaction", "BEGIN READ ONLY",
	NULL, false, verify_in_transaction},
	{"cursor", "BEGIN", NULL, false, verify_in_cursor},
	{"savepoints", "BEGIN", NULL, false, verify_in_savepoints},
	/*
	 * It mints a key, so it sometimes fails beside serializable revocations.
	 */
	{"SERIALIZABLE transaction", "BEGIN ISOLATION LEVEL SERIALIZABLE",
		"SELECT overten_mint_key(org_id) FROM overten_auth.orgs LIMIT 1",
	true, verify_in_transaction},
};
const int	nmodes = sizeof(modes) / sizeof(modes[0]);

static Key *
next_key(Verifier *verifier)
{
	uint64_t	gone = ngone;

	if (verifier->turn++ % 2 == 0 && gone >= GONE_KEYS)
		return gone_keys[(gone - 1 - verifier->turn / 2 % GONE_KEYS) % GONE_KEYS];
	return live_keys[below(&verifier->random, LIVE_KEYS)];
}

/*
 * Check a row of a result whose columns are key_id, tier, and two positions.
 * A refusal gives no row, or a NULL.
 */
static void
check_row(Verifier *verifier, const Key *key, const PGresult *result, int row,
		  Stamp sent, Stamp answered)
{
	bool		on_standby = (verifier->place == &standby);
	bool		accepted = row < PQntuples(result) && !PQgetisnull(result, row, 0);
	Stamp		died = key->died.acked[TIME];
	Answer		answer = {
		.place = verifier->place->name,
		.session = verifier->mode->name,
		.sights = verifier->sights,
		.key = key,
		.sent = {[TIME] = sent},
		.answered = {[TIME] = answered},
		.bound = {[TIME] = !on_standby || waits_for_standby(sent)},
		.may_unsee = !on_standby && shares_cache,
		.accepted = accepted,
		.tier = accepted ? PQgetvalue(result, row, 1) : "",
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

/*
 * Check the answer of one verification.  Returns false if the transaction has
 * failed.
 */
static bool
take_answer(Verifier *verifier, const Key *key, PGresult *result, Stamp sent,
			Stamp answered)
{
	bool		success = has_status(verifier, result, PGRES_TUPLES_OK);

	if (success)
		check_row(verifier, key, result, 0, sent, answered);
	PQclear(result);
	if (success)
		make_progress(verifier, 1);
	return success;
}

/* Verify one key.  Returns false if the transaction has failed. */
static bool
verify(Verifier *verifier)
{
	Key		   *key = next_key(verifier);
	const char *values[] = {key->secret};
	Stamp		sent = now();
	PGresult   *result = PQexecPrepared(verifier->conn, "verify", 1, values,
										NULL, NULL, 0);

	return take_answer(verifier, key, result, sent, now());
}

static void
verify_alone(Verifier *verifier)
{
	verify(verifier);
}

/* Do the write that belongs to the mode.  Returns false if it has failed. */
static bool
write_something(Verifier *verifier)
{
	PGresult   *result = PQexec(verifier->conn, verifier->mode->write);
	bool		success = has_status(verifier, result, PGRES_TUPLES_OK);

	PQclear(result);
	return success;
}

/* Verify keys in one transaction, and under one snapshot if it keeps that. */
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

/* Verify keys in subtransactions, some of which are rolled back. */
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

/* Fetch the next row of a cursor. */
static bool
fetch(Verifier *verifier, const Key *key)
{
	Stamp		sent = now();
	PGresult   *result = PQexec(verifier->conn, "FETCH keys");

	return take_answer(verifier, key, result, sent, now());
}

/*
 * Fetch the rows of a cursor that was opened before.  Each FETCH is a
 * verification.
 */
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

/*
 * Widen the range for the offset of the server's clock from CLOCK_MONOTONIC.
 */
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
 * Verify many keys in one statement.  The server stamps the verifications with
 * its own clock, whose offset from ours we know within bounds.  We convert its
 * stamps so that a verification seems to take too long rather than too short a
 * time.
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
	/* Two calls reach the goal; the second has begun in the quiet. */
	if (success)
		make_progress(verifier, QUIET_ANSWERS / 2);
}
