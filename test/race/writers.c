/*
 * writers.c
 *		The sessions that mint, change and revoke: the shape of a trial.
 *
 * A stale entry arises when one change empties the caches, and another change
 * happens while the verifiers refill them.  We can see the entry if nothing
 * empties the caches again.  Only a change of an org removes all keys of that
 * org from the caches, and no other keys.  So in half of the trials, one of
 * the two changes is a change of the org that the key of the other one has.
 *
 * So a trial is two changes that are close together, and then a quiet.  Two
 * sessions prepare their changes as far as possible (steps.c).  Then, within
 * 200 microseconds of each other, they send the statements that make these
 * changes take effect.  After that, nothing changes until all verifiers have
 * looked at all keys that were revoked.
 *
 * Some trials are instead a storm of updates of the rows of live keys.  No
 * such key may ever be refused.
 *
 * The main thread plays both sessions, and sends to both before it waits for
 * either.
 */
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "race.h"

#define GAP_MAX			200000	/* nanoseconds between the steps of a pair */
#define STORM_UPDATES	12

WriterCounts writer_counts;
bool		shares_cache;			/* all sessions of the primary share one */

static Writer writers[2];
static Random numbers;
static Stamp last_position;		/* of the changes that were acknowledged */

/* Positions in the WAL, which matter if there is a standby */

static Stamp
read_position(const char *function)
{
	PGresult   *result = run_query(writers[0].conn, "SELECT %s()", function);
	Stamp		position = parse_position(PQgetvalue(result, 0, 0));

	PQclear(result);
	return position;
}

/* Return a position before everything that is sent from now on. */
static Stamp
position_before(void)
{
	return has_standby() ? read_position("pg_current_wal_insert_lsn") : 0;
}

/* Return a position after everything that was acknowledged. */
Stamp
flushed_position(void)
{
	return read_position("pg_current_wal_flush_lsn");
}

static Stamp
position_after(void)
{
	if (has_standby())
		last_position = flushed_position();
	return last_position;
}

/* Set synchronous_commit in the sessions that change something. */
void
set_commits(const char *synchronous_commit)
{
	for (int w = 0; w < 2; w++)
		run_command(writers[w].conn, "SET synchronous_commit = %s",
					synchronous_commit);
	if (strcmp(synchronous_commit, "remote_apply") == 0)
	{
		PGresult   *result = run_query(writers[0].conn,
									   "SELECT FROM pg_stat_replication "
									   "WHERE sync_state IN ('sync', 'quorum')");

		if (PQntuples(result) != 1)
			die("the standby must be the one in synchronous_standby_names");
		PQclear(result);
	}
}

/* Changes outside of trials, one at a time */

/* Mint a key for a slot; the verifiers ask for it at once. */
static void
fill_slot(int slot)
{
	Key		   *key = new_key(&orgs[below(&numbers, 2)]);

	begin_event(&key->born, position_before());
	mint_key(writers[0].conn, key);
	end_event(&key->born);
	place_event(&key->born, position_after());
	live_keys[slot] = key;
}

static void
resume(Org *org)
{
	Change		state = current_state(org);

	if (!state.suspended)
		return;
	begin_change(org, false, state.tier, position_before());
	run_command(writers[0].conn, "SELECT overten_set_api_access('%s', true)",
				org->id);
	end_change(org);
	place_change(org, position_after());
}

/* Trials */

static void
begin_effect(Step *step, Stamp position)
{
	if (step->effect == KEY_DIES)
		begin_event(&step->key->died, position);
	else if (step->effect == ORG_CHANGES || step->effect == KEY_BORN)
		begin_change(step->org, step->suspended, step->tier, position);
	if (step->effect == KEY_BORN || step->effect == KEY_FREED)
		begin_event(&step->key->born, position);
}

static void
end_effect(Writer *writer)
{
	Step	   *step = &writer->step;

	if (writer->failed)
	{
		undo_event(&step->key->died);
		step->key->road = NULL;
	}
	else if (step->effect == KEY_DIES)
		end_event(&step->key->died);
	else if (step->effect == ORG_CHANGES || step->effect == KEY_BORN)
		end_change(step->org);
	if (step->effect == KEY_BORN || step->effect == KEY_FREED)
		end_event(&step->key->born);
}

/* Note that the step's commit is before this position. */
static void
place_effect(Writer *writer, Stamp position)
{
	Step	   *step = &writer->step;

	if (position > last_position)
		last_position = position;
	if (step->effect == KEY_DIES && !writer->failed)
		place_event(&step->key->died, position);
	else if (step->effect == ORG_CHANGES || step->effect == KEY_BORN)
		place_change(step->org, position);
	if (step->effect == KEY_BORN || step->effect == KEY_FREED)
		place_event(&step->key->born, position);
}

static void
send_query(Writer *writer, const char *sql)
{
	if (!PQsendQuery(writer->conn, sql))
		die("%s", PQerrorMessage(writer->conn));
}

static void
send_step(Writer *writer, Stamp position)
{
	writer->failed = false;
	begin_effect(&writer->step, position);
	send_query(writer, writer->step.sql);
}

/*
 * Finish a step.  Returns false if we must still ask for its position in the
 * WAL.
 */
static bool
finish_step(Writer *writer)
{
	end_effect(writer);
	if (!has_standby())
		return true;
	writer->step.located = true;
	send_query(writer, "SELECT pg_current_wal_flush_lsn()");
	return false;
}

/* Read what has arrived.  Returns true if nothing else is to come. */
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
				!has_sqlstate(result, "40001"))
				die("%s: %s", writer->step.sql, PQerrorMessage(writer->conn));
			writer->failed = true;
			writer_counts.serialization_failures++;
		}
		if (writer->step.located)
			place_effect(writer, parse_position(PQgetvalue(result, 0, 0)));
		PQclear(result);
	}
	return writer->step.located || finish_step(writer);
}

/*
 * Send the steps of both sessions close together, and wait for both answers.
 */
static void
run_pair(void)
{
	struct pollfd waits[2];
	Stamp		position = position_before();
	Stamp		second;
	int			waiting = 2;

	for (int i = 0; i < 2; i++)
	{
		waits[i].fd = PQsocket(writers[i].conn);
		waits[i].events = POLLIN;
	}

	second = now() + below(&numbers, GAP_MAX);
	send_step(&writers[0], position);
	while (now() < second)
		;
	send_step(&writers[1], position);

	while (waiting > 0)
	{
		if (poll(waits, 2, STUCK / 1000000) == 0)
			die("no answer to %s, or to %s", writers[0].step.sql,
				writers[1].step.sql);
		for (int i = 0; i < 2; i++)
		{
			if (waits[i].revents != 0 && take_answer(&writers[i]))
			{
				waits[i].fd = -1;
				waits[i].revents = 0;
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
			writer_counts.row_updates++;
		}
		run_pair();
	}
	writer_counts.storms++;
}

/* Has the step left a slot without a good key? */
static bool
leaves_gap(const Writer *writer)
{
	return writer->step.effect == KEY_VOID ||
		(writer->step.effect == KEY_DIES && !writer->failed);
}

void
run_trial(void)
{
	int			slot = below(&numbers, LIVE_KEYS);
	int			org_step = below(&numbers, 4);	/* its writer, if below 2 */
	bool		follows = has_standby() && vary_standby();

	/* If the standby is gone, a commit that waits for it never ends. */
	alarm(2 * STUCK / 1000000000);
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
			writers[w].step.org = live_keys[(slot + 1 - w) % LIVE_KEYS]->org;
		prepare_step(&writers[w], w == org_step);
	}
	rouse_verifiers();
	run_pair();
	for (int w = 0; w < 2; w++)
	{
		if (leaves_gap(&writers[w]))
			bury_key(writers[w].step.key);
	}
	if (follows)
		follow_standby(last_position);
	await_verifiers();

	for (int w = 0; w < 2; w++)
	{
		if (leaves_gap(&writers[w]))
			fill_slot(writers[w].step.slot);
		if (leaves_gap(&writers[w]) && writers[w].step.effect == KEY_DIES)
			writer_counts.revoked++;
	}
	if (org_step < 2)
		resume(writers[org_step].step.org);
}

/*
 * Create the function that a verifier's loop calls; a standby gets it by
 * replay.
 */
static void
create_loop(PGconn *conn)
{
	run_command(conn,
				"CREATE OR REPLACE FUNCTION race_verify_all(secrets text[], "
				"OUT key_id text, OUT tier text, "
				"OUT sent timestamptz, OUT answered timestamptz, "
				"OUT before pg_lsn, OUT after pg_lsn) "
				"RETURNS SETOF record LANGUAGE plpgsql AS $$ "
				"BEGIN FOR i IN 1 .. cardinality(secrets) LOOP "
				"sent := clock_timestamp(); "
				"before := pg_last_wal_replay_lsn(); "
				"SELECT v.key_id, v.tier INTO key_id, tier "
				"FROM overten_verify_key(secrets[i]) v; "
				"after := pg_last_wal_replay_lsn(); "
				"answered := clock_timestamp(); "
				"RETURN NEXT; "
				"END LOOP; END $$");
}

/* Set up orgs and live keys, on the standby, too. */
void
open_writers(const char *conninfo, uint64_t seed)
{
	PGresult   *result;

	numbers.state = seed * 1000 + 999;
	for (int w = 0; w < 2; w++)
	{
		writers[w].number = w;
		writers[w].random.state = seed * 1000 + 990 + w;
		writers[w].conn = open_session(conninfo);
	}
	if (has_standby())
		set_commits("local");

	create_loop(writers[0].conn);
	result = run_query(writers[0].conn, "SELECT FROM overten_stat "
					   "WHERE shared_cache_entries > 0");
	shares_cache = PQntuples(result) == 1;
	PQclear(result);
	for (int i = 0; i < 2; i++)
		run_command(writers[0].conn, "INSERT INTO overten_auth.tiers (name) "
					"VALUES ('%s') ON CONFLICT DO NOTHING", tiers[i]);
	for (int i = 0; i < 2; i++)
	{
		result = run_query(writers[0].conn,
						   "SELECT org_id FROM overten_create_org('race', '%s')",
									   tiers[0]);

		snprintf(orgs[i].id, sizeof(orgs[i].id), "%s",
				 PQgetvalue(result, 0, 0));
		PQclear(result);
		begin_change(&orgs[i], false, tiers[0], position_before());
		end_change(&orgs[i]);
		place_change(&orgs[i], position_after());
	}
	for (int i = 0; i < LIVE_KEYS; i++)
		fill_slot(i);
	if (has_standby())
		follow_standby(flushed_position());
}

void
close_writers(void)
{
	for (int w = 0; w < 2; w++)
		PQfinish(writers[w].conn);
}
