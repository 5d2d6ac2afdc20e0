/*
 * writers.c
 *		The sessions that mint, change and revoke keys, and the shape of a
 *		trial.
 *
 * A stale entry appears if a change meets the refill of caches that another
 * change has emptied.  It can be seen only if nothing empties the caches
 * again.  So a trial is a close pair of changes, followed by a quiet.  Two
 * sessions do as much of their work as they can (steps.c), and then send what
 * makes it take effect, within 200 microseconds of each other.  Then nothing
 * changes until all verifiers have looked at all keys that were revoked.
 *
 * Some trials are a storm instead: many updates of the rows of live keys,
 * which must never be refused.
 *
 * The main thread plays both sessions.  It does not wait for one session
 * before it has sent to the other.
 */
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "race.h"

#define GAP_MAX			200000	/* nanoseconds between the two of a pair */
#define STORM_UPDATES	12

WriterCounts writer_counts;

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

/* One that all that is sent from now on is after. */
static Stamp
position_before(void)
{
	return has_standby() ? read_position("pg_current_wal_insert_lsn") : 0;
}

/* One that all that has been acknowledged is before. */
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

/* Minting and the like, one at a time */

/* Put a new key where a key was; the verifiers take it up at once. */
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
	if (step->effect == KEY_BORN)
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
	if (step->effect == KEY_BORN)
		end_event(&step->key->born);
}

/* The step's commit is before this position. */
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
	if (step->effect == KEY_BORN)
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

/* The step is over.  False if it is now asked where it is in the WAL. */
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

/* Take in what has arrived.  True if nothing is awaited any more. */
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

/* Send the steps of both sessions closely, and wait for both answers. */
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

/* Is the key of the step one that is good no more, or never was? */
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
	int			org_step = below(&numbers, 8);	/* whose, if less than 2 */
	bool		follows = has_standby() && vary_standby();

	/* A commit that waits for a standby that is no more would wait for ever. */
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

/* What the loop of a verifier runs; a standby gets it by replay. */
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

/* Set up orgs and live keys, on the standby too. */
void
open_writers(const char *conninfo, uint64_t seed)
{
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
