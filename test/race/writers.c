/*
 * writers.c
 *		The sessions that mint, change and revoke: the shape of a trial.
 *
 * A stale entry is made by a change that meets the refill of caches which
 * another one has emptied, and it is seen if nothing empties the caches again.
 * So a trial is a close pair of changes, and then a quiet: two sessions do,
 * as far as can be, what they have to do, and then send what makes it take
 * effect within 200 microseconds of each other; then nothing is changed until
 * all verifiers have looked at all keys that were revoked.
 *
 * Some trials are instead a storm of updates of the rows of live keys, none
 * of which may ever be refused.
 *
 * The main thread plays both sessions, without waiting for one before it has
 * sent to the other.
 */
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "race.h"

#define GAP_MAX			200000	/* nanoseconds between the two of a pair */
#define STORM_UPDATES	12

/* What a session sends last in its part of a trial. */
typedef struct Step
{
	enum
	{
		NOTHING, KEY_DIES, KEY_BORN, ORG_CHANGES
	}			effect;
	Key		   *key;			/* NULL if the step is about an org */
	int			slot;			/* of the key among the live ones */
	Org		   *org;
	bool		suspended;		/* what the org becomes */
	const char *tier;
	char		sql[256];
} Step;

typedef struct Writer
{
	PGconn	   *conn;
	int			number;
	Step		step;
	bool		failed;			/* to serialize */
} Writer;

typedef void (*PrepareStep) (Writer *writer);

WriterCounts writer_counts;

static Writer writers[2];
static Random numbers;

/* Minting and the like, one at a time */

static void
mint(PGconn *conn, Key *key)
{
	PGresult   *result = run_query(conn, "SELECT key_id, secret "
								   "FROM overten_mint_key('%s')", key->org->id);

	snprintf(key->id, sizeof(key->id), "%s", PQgetvalue(result, 0, 0));
	snprintf(key->secret, sizeof(key->secret), "%s", PQgetvalue(result, 0, 1));
	PQclear(result);
	writer_counts.minted++;
}

/* Put a new key where a key was; the verifiers take it up at once. */
static void
fill_slot(int slot)
{
	Key		   *key = new_key(&orgs[below(&numbers, 2)]);

	key->born_sent = now();
	mint(writers[0].conn, key);
	key->born_acked = now();
	live_keys[slot] = key;
}

static void
resume(Org *org)
{
	Change		state = current_state(org);

	if (!state.suspended)
		return;
	begin_change(org, false, state.tier);
	run_command(writers[0].conn, "SELECT overten_set_api_access('%s', true)",
				org->id);
	end_change(org);
	writer_counts.org_changes++;
}

/* Steps: prepare what can be prepared, and write what is to be sent */

#define SET_STEP(writer, ...) \
	snprintf((writer)->step.sql, sizeof((writer)->step.sql), __VA_ARGS__)

static void
revokes(Writer *writer, const char *road)
{
	writer->step.effect = KEY_DIES;
	writer->step.key->road = road;
}

static void
revoke_by_function(Writer *writer)
{
	const Key  *key = writer->step.key;

	revokes(writer, "overten_revoke_key");
	SET_STEP(writer, "SELECT overten_revoke_key('%s', '%s')",
			 key->org->id, key->id);
}

static void
revoke_by_update(Writer *writer)
{
	revokes(writer, "UPDATE");
	SET_STEP(writer, "UPDATE overten_auth.api_keys SET revoked_at = now() "
			 "WHERE key_id = '%s'", writer->step.key->id);
}

static void
revoke_by_delete(Writer *writer)
{
	revokes(writer, "DELETE");
	SET_STEP(writer, "DELETE FROM overten_auth.api_keys WHERE key_id = '%s'",
			 writer->step.key->id);
}

static void
does_nothing(Writer *writer)
{
	writer->step.effect = NOTHING;
	writer->step.key->road = NULL;
}

/* One of the three, in a transaction that is left open. */
static void
revoke_in_transaction(Writer *writer, const char *begin)
{
	static const PrepareStep by[] = {
		revoke_by_function, revoke_by_update, revoke_by_delete,
	};
	PGresult   *result;

	by[below(&numbers, 3)] (writer);
	run_command(writer->conn, "%s", begin);
	result = PQexec(writer->conn, writer->step.sql);
	SET_STEP(writer, "COMMIT");
	if (PQresultStatus(result) == PGRES_FATAL_ERROR)
	{
		if (!is_serialization_failure(result))
			die("%s", PQerrorMessage(writer->conn));
		does_nothing(writer);
		writer_counts.serialization_failures++;
	}
	PQclear(result);
}

static void
revoke_by_commit(Writer *writer)
{
	revoke_in_transaction(writer, "BEGIN");
}

static void
revoke_serializable(Writer *writer)
{
	revoke_in_transaction(writer, "BEGIN ISOLATION LEVEL SERIALIZABLE");
}

/* The name of a prepared transaction, unique in the whole server. */
static void
prepare_transaction(Writer *writer, const char *end)
{
	run_command(writer->conn, "PREPARE TRANSACTION 'race_%d_%d'",
				(int) getpid(), writer->number);
	SET_STEP(writer, "%s PREPARED 'race_%d_%d'", end,
			 (int) getpid(), writer->number);
	writer_counts.two_phase++;
}

static void
revoke_two_phase(Writer *writer)
{
	revoke_in_transaction(writer, "BEGIN");
	writer->step.key->road = "COMMIT PREPARED";
	prepare_transaction(writer, "COMMIT");
}

static void
rolls_back(Writer *writer)
{
	does_nothing(writer);
	writer_counts.aborted++;
}

static void
abort_revocation(Writer *writer)
{
	revoke_in_transaction(writer, "BEGIN");
	rolls_back(writer);
	SET_STEP(writer, "ROLLBACK");
}

static void
abort_two_phase(Writer *writer)
{
	revoke_in_transaction(writer, "BEGIN");
	rolls_back(writer);
	prepare_transaction(writer, "ROLLBACK");
}

static void
abort_savepoint(Writer *writer)
{
	revoke_in_transaction(writer, "BEGIN; SAVEPOINT s");
	rolls_back(writer);
	run_command(writer->conn, "ROLLBACK TO s");
}

/* Update a live key's row; mostly so that it gets new index entries. */
static void
update_row(Writer *writer)
{
	if (below(&numbers, 4) == 0)
		SET_STEP(writer, "UPDATE overten_auth.api_keys SET name = 'n%u' "
				 "WHERE key_id = '%s'", below(&numbers, 1000000),
				 writer->step.key->id);
	else
		SET_STEP(writer, "UPDATE overten_auth.api_keys "
				 "SET created_at = clock_timestamp() WHERE key_id = '%s'",
				 writer->step.key->id);
	writer->step.effect = NOTHING;
	writer_counts.row_updates++;
}

/* The step is about the org of the key, not about the key. */
static void
changes_org(Writer *writer)
{
	Step	   *step = &writer->step;
	Change		state = current_state(step->org);

	step->effect = ORG_CHANGES;
	step->suspended = state.suspended;
	step->tier = tiers[state.tier == tiers[0]];
	step->key = NULL;
	writer_counts.org_changes++;
}

static void
set_tier(Writer *writer)
{
	changes_org(writer);
	SET_STEP(writer, "SELECT overten_set_tier('%s', '%s')",
			 writer->step.org->id, writer->step.tier);
}

static void
set_tier_by_commit(Writer *writer)
{
	set_tier(writer);
	run_command(writer->conn, "BEGIN");
	run_command(writer->conn, "%s", writer->step.sql);
	SET_STEP(writer, "COMMIT");
}

static void
suspend(Writer *writer)
{
	changes_org(writer);
	writer->step.suspended = true;
	writer->step.tier = current_state(writer->step.org).tier;
	SET_STEP(writer, "SELECT overten_set_api_access('%s', false)",
			 writer->step.org->id);
}

/*
 * A new tier and a new key in one transaction: from the first time that the
 * key is accepted, it is on the new tier.  The key takes the place of a live
 * one, so that verifiers ask for it before it is there.
 */
static void
mint_on_new_tier(Writer *writer)
{
	Step	   *step = &writer->step;
	Key		   *key = new_key(step->org);

	set_tier_by_commit(writer);
	step->effect = KEY_BORN;
	step->key = key;
	key->first_change = step->org->nchanges;
	mint(writer->conn, key);
	live_keys[step->slot] = key;
}

static const PrepareStep key_steps[] = {
	revoke_by_function, revoke_by_update, revoke_by_commit, revoke_two_phase,
	revoke_by_function, revoke_by_update, revoke_by_commit, revoke_by_delete,
	revoke_serializable, abort_revocation, abort_two_phase, abort_savepoint,
	update_row, update_row,
};

/* At most one of a pair is of these: two could be about the same org. */
static const PrepareStep org_steps[] = {
	set_tier, set_tier_by_commit, suspend, mint_on_new_tier,
};

/* Trials */

static void
begin_effect(Step *step)
{
	if (step->effect == KEY_DIES)
		step->key->died_sent = now();
	else if (step->effect == ORG_CHANGES || step->effect == KEY_BORN)
		begin_change(step->org, step->suspended, step->tier);
	if (step->effect == KEY_BORN)
		step->key->born_sent = now();
}

static void
end_effect(Writer *writer)
{
	Step	   *step = &writer->step;

	if (writer->failed)
	{
		step->key->died_sent = 0;
		step->key->road = NULL;
	}
	else if (step->effect == KEY_DIES)
		step->key->died_acked = now();
	else if (step->effect == ORG_CHANGES || step->effect == KEY_BORN)
		end_change(step->org);
	if (step->effect == KEY_BORN)
		step->key->born_acked = now();
}

static void
send_step(Writer *writer)
{
	begin_effect(&writer->step);
	if (!PQsendQuery(writer->conn, writer->step.sql))
		die("%s", PQerrorMessage(writer->conn));
}

/* Take in what has arrived.  True if the answer is complete. */
static bool
take_answer(Writer *writer)
{
	PGresult   *result;

	if (!PQconsumeInput(writer->conn))
		die("%s", PQerrorMessage(writer->conn));
	if (PQisBusy(writer->conn))
		return false;

	while ((result = PQgetResult(writer->conn)) != NULL)
	{
		if (PQresultStatus(result) == PGRES_FATAL_ERROR)
		{
			if (writer->step.effect != KEY_DIES ||
				!is_serialization_failure(result))
				die("%s: %s", writer->step.sql, PQerrorMessage(writer->conn));
			writer->failed = true;
			writer_counts.serialization_failures++;
		}
		PQclear(result);
	}
	end_effect(writer);
	return true;
}

/* Send the steps of both sessions closely, and wait for both answers. */
static void
run_pair(void)
{
	struct pollfd waits[2];
	Stamp		second = now() + below(&numbers, GAP_MAX);
	int			waiting = 2;

	for (int i = 0; i < 2; i++)
	{
		writers[i].failed = false;
		waits[i].fd = PQsocket(writers[i].conn);
		waits[i].events = POLLIN;
	}

	send_step(&writers[0]);
	while (now() < second)
		;
	send_step(&writers[1]);

	while (waiting > 0)
	{
		poll(waits, 2, -1);
		for (int i = 0; i < 2; i++)
		{
			if (waits[i].revents != 0 && take_answer(&writers[i]))
			{
				waits[i].fd = -1;
				waiting--;
			}
		}
	}
}

/* Point a writer to the live key in a slot. */
static void
aim(Writer *writer, int slot)
{
	memset(&writer->step, 0, sizeof(writer->step));
	writer->step.slot = slot;
	writer->step.key = live_keys[slot];
	writer->step.org = writer->step.key->org;
}

static void
run_storm(void)
{
	rouse_verifiers();
	for (int i = 0; i < STORM_UPDATES; i++)
	{
		int			slot = below(&numbers, LIVE_KEYS);

		for (int w = 0; w < 2; w++)
		{
			aim(&writers[w], (slot + w) % LIVE_KEYS);
			update_row(&writers[w]);
		}
		run_pair();
	}
}

/* Has the step revoked a key? */
static bool
has_revoked(const Writer *writer)
{
	return writer->step.effect == KEY_DIES && !writer->failed;
}

void
run_trial(void)
{
	int			slot = below(&numbers, LIVE_KEYS);
	int			org_step = below(&numbers, 8);	/* whose, if less than 2 */

	trial++;
	if (below(&numbers, 8) == 0)
	{
		run_storm();
		return;
	}

	for (int w = 0; w < 2; w++)
	{
		aim(&writers[w], (slot + w) % LIVE_KEYS);
		if (w == org_step)
			org_steps[below(&numbers, sizeof(org_steps) / sizeof(org_steps[0]))] (&writers[w]);
		else
			key_steps[below(&numbers, sizeof(key_steps) / sizeof(key_steps[0]))] (&writers[w]);
	}
	rouse_verifiers();
	run_pair();
	for (int w = 0; w < 2; w++)
	{
		if (has_revoked(&writers[w]))
			bury_key(writers[w].step.key);
	}
	await_verifiers();

	for (int w = 0; w < 2; w++)
	{
		if (has_revoked(&writers[w]))
		{
			fill_slot(writers[w].step.slot);
			writer_counts.revoked++;
		}
	}
	if (org_step < 2)
		resume(writers[org_step].step.org);
}

/* Set up orgs and live keys. */
void
open_writers(const char *conninfo, uint64_t seed)
{
	numbers.state = seed * 1000 + 999;
	for (int w = 0; w < 2; w++)
	{
		writers[w].number = w;
		writers[w].conn = open_session(conninfo);
	}

	for (int i = 0; i < 2; i++)
		run_command(writers[0].conn, "INSERT INTO overten_auth.tiers (name) "
					"VALUES ('%s') ON CONFLICT DO NOTHING", tiers[i]);
	for (int i = 0; i < 2; i++)
	{
		PGresult   *result = run_query(writers[0].conn,
									   "SELECT org_id FROM overten_create_org('race', '%s')",
									   tiers[0]);

		snprintf(orgs[i].id, sizeof(orgs[i].id), "%s",
				 PQgetvalue(result, 0, 0));
		PQclear(result);
		begin_change(&orgs[i], false, tiers[0]);
		end_change(&orgs[i]);
	}
	for (int i = 0; i < LIVE_KEYS; i++)
		fill_slot(i);
}

void
close_writers(void)
{
	for (int w = 0; w < 2; w++)
		PQfinish(writers[w].conn);
}
