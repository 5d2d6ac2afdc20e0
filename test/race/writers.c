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
 * What a session does is a change, of a key or an org, combined with an end:
 * the way in which the change comes to be committed or taken back.
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

/* How a change ends.  From ROLLS_BACK on, it does not happen. */
typedef enum End
{
	AT_ONCE, COMMITS, SERIALIZABLE, RELEASED, AGAIN, COMMITS_PREPARED,
	ROLLS_BACK, ROLLS_BACK_TO, ROLLS_BACK_PREPARED, ENDS
} End;

static const struct
{
	const char *name;
	const char *begin;			/* of its transaction */
	const char *middle;			/* after the change; then it is made again */
	const char *end;			/* after the change */
	const char *last;			/* that is sent in the trial */
	bool		two_phase;
}			ends[ENDS] = {
	[AT_ONCE] = {"autocommit", NULL, NULL, NULL, NULL, false},
	[COMMITS] = {"COMMIT", "BEGIN", NULL, NULL, "COMMIT", false},
	[SERIALIZABLE] = {"COMMIT of SERIALIZABLE",
	"BEGIN ISOLATION LEVEL SERIALIZABLE", NULL, NULL, "COMMIT", false},
	[RELEASED] = {"COMMIT after RELEASE",
		"BEGIN; SAVEPOINT s", NULL, "RELEASE SAVEPOINT s",
	"COMMIT", false},
	[AGAIN] = {"COMMIT after ROLLBACK TO, and again",
		"BEGIN; SAVEPOINT s", "ROLLBACK TO SAVEPOINT s", NULL,
	"COMMIT", false},
	[COMMITS_PREPARED] = {"COMMIT PREPARED",
	"BEGIN", NULL, NULL, "COMMIT PREPARED", true},
	[ROLLS_BACK] = {"ROLLBACK", "BEGIN", NULL, NULL, "ROLLBACK", false},
	[ROLLS_BACK_TO] = {"COMMIT after ROLLBACK TO",
		"BEGIN; SAVEPOINT s", NULL, "ROLLBACK TO SAVEPOINT s",
	"COMMIT", false},
	[ROLLS_BACK_PREPARED] = {"ROLLBACK PREPARED",
	"BEGIN", NULL, NULL, "ROLLBACK PREPARED", true},
};

/* What a session does in a trial, and sends last. */
typedef struct Step
{
	enum
	{
		NOTHING, KEY_DIES, KEY_BORN, KEY_VOID, ORG_CHANGES
	}			effect;			/* KEY_VOID: a key that is never born */
	Key		   *key;
	int			slot;			/* of the key among the live ones */
	Org		   *org;
	bool		suspended;		/* what the org becomes */
	const char *tier;
	bool		located;		/* is it being asked where it is in the WAL? */
	char		sql[256];
} Step;

typedef struct Writer
{
	PGconn	   *conn;
	int			number;
	Step		step;
	bool		failed;			/* to serialize */
} Writer;

/* Sets the effect of a step, and the statement that has it. */
typedef struct Kind
{
	const char *name;
	void		(*plan) (Writer *writer);
} Kind;

WriterCounts writer_counts;

static Writer writers[2];
static Random numbers;
static Stamp last_position;		/* of the changes that were acknowledged */

/* Positions in the WAL, which matter if there is a standby */

/* One that all that is sent from now on is after. */
static Stamp
position_before(void)
{
	return has_standby() ?
		read_position(writers[0].conn, "pg_current_wal_insert_lsn") : 0;
}

/* One that all that has been acknowledged is before. */
Stamp
flushed_position(void)
{
	return read_position(writers[0].conn, "pg_current_wal_flush_lsn");
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

	begin_event(&key->born, position_before());
	mint(writers[0].conn, key);
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

/* Changes */

#define SET_STEP(writer, ...) \
	snprintf((writer)->step.sql, sizeof((writer)->step.sql), __VA_ARGS__)

static void
revoke_by_function(Writer *writer)
{
	const Key  *key = writer->step.key;

	writer->step.effect = KEY_DIES;
	SET_STEP(writer, "SELECT overten_revoke_key('%s', '%s')",
			 key->org->id, key->id);
}

static void
revoke_by_possession(Writer *writer)
{
	writer->step.effect = KEY_DIES;
	SET_STEP(writer, "SELECT overten_revoke_leaked('%s')",
			 writer->step.key->secret);
}

static void
revoke_by_update(Writer *writer)
{
	writer->step.effect = KEY_DIES;
	SET_STEP(writer, "UPDATE overten_auth.api_keys SET revoked_at = now() "
			 "WHERE key_id = '%s'", writer->step.key->id);
}

static void
revoke_by_delete(Writer *writer)
{
	writer->step.effect = KEY_DIES;
	SET_STEP(writer, "DELETE FROM overten_auth.api_keys WHERE key_id = '%s'",
			 writer->step.key->id);
}

/* Update a live key's row; mostly so that it gets new index entries. */
static void
update_row(Writer *writer)
{
	writer->step.effect = NOTHING;
	if (below(&numbers, 4) == 0)
		SET_STEP(writer, "UPDATE overten_auth.api_keys SET name = 'n%u' "
				 "WHERE key_id = '%s'", below(&numbers, 1000000),
				 writer->step.key->id);
	else
		SET_STEP(writer, "UPDATE overten_auth.api_keys "
				 "SET created_at = clock_timestamp() WHERE key_id = '%s'",
				 writer->step.key->id);
}

static void
set_tier(Writer *writer)
{
	Step	   *step = &writer->step;
	Change		state = current_state(step->org);

	step->effect = ORG_CHANGES;
	step->suspended = state.suspended;
	step->tier = tiers[state.tier == tiers[0]];
	SET_STEP(writer, "SELECT overten_set_tier('%s', '%s')",
			 step->org->id, step->tier);
}

static void
suspend(Writer *writer)
{
	Step	   *step = &writer->step;

	step->effect = ORG_CHANGES;
	step->suspended = true;
	step->tier = current_state(step->org).tier;
	SET_STEP(writer, "SELECT overten_set_api_access('%s', false)",
			 step->org->id);
}

/*
 * A new tier and a new key in one transaction: from the first time that the
 * key is accepted, it is on the new tier.  The key takes the place of a live
 * one, so that verifiers ask for it before it is there.
 */
static void
mint_on_new_tier(Writer *writer)
{
	set_tier(writer);
	writer->step.effect = KEY_BORN;
}

static const Kind key_kinds[] = {
	{"overten_revoke_key", revoke_by_function},
	{"UPDATE of revoked_at", revoke_by_update},
	{"overten_revoke_leaked", revoke_by_possession},
	{"DELETE", revoke_by_delete},
	{"UPDATE of a live key", update_row},
};

/* At most one of a pair is of these: two could be about the same org. */
static const Kind org_kinds[] = {
	{"overten_set_tier", set_tier},
	{"overten_set_api_access", suspend},
	{"overten_set_tier and overten_mint_key", mint_on_new_tier},
};

#define KEY_KINDS	(int) (sizeof(key_kinds) / sizeof(key_kinds[0]))
#define ORG_KINDS	(int) (sizeof(org_kinds) / sizeof(org_kinds[0]))

static uint64_t steps_done[KEY_KINDS + ORG_KINDS][ENDS];

/* Ends */

/* Make the change in the open transaction.  False if it fails to serialize. */
static bool
make_change(Writer *writer)
{
	Step	   *step = &writer->step;
	PGresult   *result = PQexec(writer->conn, step->sql);
	bool		success = (PQresultStatus(result) == PGRES_COMMAND_OK ||
						   PQresultStatus(result) == PGRES_TUPLES_OK);

	if (!success && !has_sqlstate(result, "40001"))
		die("%s: %s", step->sql, PQerrorMessage(writer->conn));
	PQclear(result);
	if (success && step->effect == KEY_BORN)
		mint(writer->conn, step->key);
	return success;
}

/* Make the change in a transaction, up to what is to be sent in the trial. */
static void
make_in_transaction(Writer *writer, End end)
{
	Step	   *step = &writer->step;
	bool		success;

	run_command(writer->conn, "%s", ends[end].begin);
	success = make_change(writer);
	if (success && ends[end].middle != NULL)
	{
		run_command(writer->conn, "%s", ends[end].middle);
		success = make_change(writer);
	}
	if (success && ends[end].end != NULL)
		run_command(writer->conn, "%s", ends[end].end);
	if (!success)
	{
		step->effect = NOTHING;
		writer_counts.serialization_failures++;
	}

	SET_STEP(writer, "%s", ends[end].last);
	if (ends[end].two_phase)
	{
		/* The name is unique in the whole server. */
		run_command(writer->conn, "PREPARE TRANSACTION 'race_%d_%d'",
					(int) getpid(), writer->number);
		SET_STEP(writer, "%s 'race_%d_%d'", ends[end].last,
				 (int) getpid(), writer->number);
	}
}

/* Choose an end that fits the change.  Half of the revocations are at once. */
static End
choose_end(const Step *step)
{
	if (step->effect == NOTHING)
		return AT_ONCE;
	if (step->effect != KEY_BORN && below(&numbers, 3) == 0)
		return AT_ONCE;
	for (;;)
	{
		End			end = 1 + below(&numbers, ENDS - 1);

		if (end != SERIALIZABLE || step->effect == KEY_DIES)
			return end;
	}
}

/* Do all of a step but what is sent in the trial. */
static void
prepare_step(Writer *writer, bool is_org_step)
{
	Step	   *step = &writer->step;
	int			n = below(&numbers, is_org_step ? ORG_KINDS : KEY_KINDS);
	const Kind *kind = is_org_step ? &org_kinds[n] : &key_kinds[n];
	Key		   *victim = step->key;
	End			end;

	kind->plan(writer);
	end = choose_end(step);
	if (step->effect == KEY_BORN)
	{
		step->key = new_key(step->org);
		step->key->first_change = step->org->nchanges;
	}
	if (end != AT_ONCE)
		make_in_transaction(writer, end);
	if (step->effect == KEY_BORN)
		live_keys[step->slot] = step->key;
	if (end >= ROLLS_BACK)
		step->effect = step->effect == KEY_BORN ? KEY_VOID : NOTHING;
	if (step->effect == KEY_DIES)
		victim->road = ends[end].name;
	if (step->effect == NOTHING && end == AT_ONCE)
		writer_counts.row_updates++;
	steps_done[is_org_step ? KEY_KINDS + n : n][end]++;
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

/* How often each change had each of the ends. */
void
print_steps(void)
{
	for (int n = 0; n < KEY_KINDS + ORG_KINDS; n++)
	{
		const char *separator = ":";

		printf("  %s", n < KEY_KINDS ? key_kinds[n].name :
			   org_kinds[n - KEY_KINDS].name);
		for (End end = 0; end < ENDS; end++)
		{
			if (steps_done[n][end] == 0)
				continue;
			printf("%s %llu %s", separator,
				   (unsigned long long) steps_done[n][end], ends[end].name);
			separator = ",";
		}
		putchar('\n');
	}
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
