/*
 * steps.c
 *		What a session changes in a trial, and how that ends.
 *
 * A step is a change of a key or an org, combined with an end: the way in
 * which the change is committed or rolled back.  This file prepares the step
 * up to its last statement, which writers.c sends.
 */
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "race.h"

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
	const char *middle;			/* after the change; then made again */
	const char *end;			/* after the change */
	const char *last;			/* sent in the trial */
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

/*
 * A kind of change.  Its function sets the effect of a step, and the statement
 * that has this effect.
 */
typedef struct Kind
{
	const char *name;
	void		(*plan) (Writer *writer);
} Kind;

/* Mint a key, in the open transaction if there is one. */
void
mint_key(PGconn *conn, Key *key)
{
	PGresult   *result = run_query(conn, "SELECT key_id, secret "
								   "FROM overten_mint_key('%s')", key->org->id);

	snprintf(key->id, sizeof(key->id), "%s", PQgetvalue(result, 0, 0));
	snprintf(key->secret, sizeof(key->secret), "%s", PQgetvalue(result, 0, 1));
	PQclear(result);
	writer_counts.minted++;
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

/*
 * What makes all verifiers refuse a key, and what ends that: they ask without a
 * scope, and from an address that the server does not know.
 */
static const struct Restriction
{
	const char *begin;
	const char *end;
}			restrictions[] = {
	{"SELECT overten_disable_key('%s', '%s')",
	"SELECT overten_enable_key('%s', '%s')"},
	{"SELECT overten_set_scopes('%s', '%s', '{}')",
	"SELECT overten_set_scopes('%s', '%s', NULL)"},
	{"SELECT overten_set_allowed_addresses('%s', '%s', '{192.0.2.1}')",
	"SELECT overten_set_allowed_addresses('%s', '%s', NULL)"},
	{"SELECT overten_set_expiry('%s', '%s', '2001-01-01')",
	"SELECT overten_set_expiry('%s', '%s', NULL)"},
};

#define RESTRICTIONS	(int) (sizeof(restrictions) / sizeof(restrictions[0]))

static const struct Restriction *
choose_restriction(Writer *writer)
{
	return &restrictions[below(&writer->random, RESTRICTIONS)];
}

/* A key that is not freed again might as well be revoked. */
static void
restrict_key(Writer *writer)
{
	const Key  *key = writer->step.key;

	writer->step.effect = KEY_DIES;
	SET_STEP(writer, choose_restriction(writer)->begin, key->org->id, key->id);
}

/*
 * Free a new key, which is restricted from the start.  It takes the place of a
 * live one, so that verifiers ask for it, and cache it, before it is good.
 */
static void
free_key(Writer *writer)
{
	writer->step.effect = KEY_FREED;
	writer->step.restriction = choose_restriction(writer);
}

/*
 * Mint the key that the step is to free, in one transaction: a standby may show
 * what was true between two of them.
 */
static void
mint_restricted_key(Writer *writer)
{
	const struct Restriction *restriction = writer->step.restriction;
	Key		   *key = writer->step.key;
	char		sql[256];

	run_command(writer->conn, "BEGIN");
	mint_key(writer->conn, key);
	snprintf(sql, sizeof(sql), restriction->begin, key->org->id, key->id);
	run_command(writer->conn, "%s", sql);
	run_command(writer->conn, "COMMIT");
	SET_STEP(writer, restriction->end, key->org->id, key->id);
}

/* Update the row of a live key, usually so that it gets new index entries. */
void
update_row(Writer *writer)
{
	writer->step.effect = NOTHING;
	if (below(&writer->random, 4) == 0)
		SET_STEP(writer, "UPDATE overten_auth.api_keys SET name = 'n%u' "
				 "WHERE key_id = '%s'", below(&writer->random, 1000000),
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
 * Set a new tier and mint a key in one transaction.  Whenever the key is
 * accepted, even the first time, it must be on the new tier.  The key takes
 * the place of a live one, so that verifiers ask for it before it exists.
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
	{"a restriction", restrict_key},
	{"the end of a restriction", free_key},
	{"UPDATE of a live key", update_row},
};

/*
 * At most one step of a pair changes an org, because two could change the same
 * org.
 */
static const Kind org_kinds[] = {
	{"overten_set_tier", set_tier},
	{"overten_set_api_access", suspend},
	{"overten_set_tier and overten_mint_key", mint_on_new_tier},
};

#define KEY_KINDS	(int) (sizeof(key_kinds) / sizeof(key_kinds[0]))
#define ORG_KINDS	(int) (sizeof(org_kinds) / sizeof(org_kinds[0]))

static uint64_t steps_done[KEY_KINDS + ORG_KINDS][ENDS];

/* Ends */

/*
 * Make the change in the open transaction.  Returns false if that fails to
 * serialize.
 */
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
		mint_key(writer->conn, step->key);
	return success;
}

/*
 * Make the change in a transaction, up to the statement that the trial sends.
 */
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

/* Choose an end that fits the change. */
static End
choose_end(Writer *writer)
{
	const Step *step = &writer->step;

	if (step->effect == NOTHING)
		return AT_ONCE;
	if (step->effect != KEY_BORN && below(&writer->random, 3) == 0)
		return AT_ONCE;
	for (;;)
	{
		End			end = 1 + below(&writer->random, ENDS - 1);

		if (end != SERIALIZABLE || step->effect == KEY_DIES)
			return end;
	}
}

/* Prepare a step: do all of it except what the trial sends. */
void
prepare_step(Writer *writer, bool is_org_step)
{
	Step	   *step = &writer->step;
	int			n = below(&writer->random, is_org_step ? ORG_KINDS : KEY_KINDS);
	const Kind *kind = is_org_step ? &org_kinds[n] : &key_kinds[n];
	Key		   *victim = step->key;
	End			end;

	kind->plan(writer);
	end = choose_end(writer);
	if (step->effect == KEY_FREED)
	{
		step->key = new_key(step->org);
		mint_restricted_key(writer);
	}
	if (step->effect == KEY_BORN)
	{
		step->key = new_key(step->org);
		step->key->first_change = step->org->nchanges;
	}
	if (end != AT_ONCE)
		make_in_transaction(writer, end);
	if (step->effect == KEY_BORN || step->effect == KEY_FREED)
		live_keys[step->slot] = step->key;
	if (end >= ROLLS_BACK)
		step->effect = step->effect == KEY_BORN ||
			step->effect == KEY_FREED ? KEY_VOID : NOTHING;
	if (step->effect == KEY_DIES)
	{
		victim->end = ends[end].name;
		victim->road = kind->name;
	}
	if (step->effect == NOTHING && end == AT_ONCE)
		writer_counts.row_updates++;
	steps_done[is_org_step ? KEY_KINDS + n : n][end]++;
}

/* Print how often each change had each of the ends. */
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
