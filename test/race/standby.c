/*
 * standby.c
 *		Controls how far a standby is behind: whether commits wait for it,
 *		and pauses.
 *
 * Trials take turns.  In some, the writers commit with remote_apply, so that
 * everything that is acknowledged has been replayed.  In the others nobody
 * waits for the standby, and now and then we pause its replay for a few
 * trials.  It then shows a state that is long out of date on the primary, and
 * later catches up while the verifiers are running.
 *
 * The main thread decides all of this, between trials.
 */
#include <stdio.h>

#include "race.h"

#define TURN_MAX	200			/* trials */
#define PAUSE_MAX	6			/* trials */
#define PAUSE_EVERY	32			/* trials without waiting, on average */

StandbyCounts standby_counts;

static PGconn *conn;
static const char *place;		/* its connection string */
static bool conflict;			/* did "conn" have a recovery conflict? */
static Random numbers;
static Waiting waiting;
static int	turn_left;			/* trials */
static int	pause_left;			/* trials; 0 when replay is not paused */
static _Atomic Stamp waiting_since; /* 0 while commits do not wait */

/*
 * Call a function on the standby.  Repeat the call after a recovery conflict.
 */
static PGresult *
call(const char *function)
{
	char		sql[64];
	PGresult   *result;

	snprintf(sql, sizeof(sql), "SELECT %s()", function);
	while (result = PQexec(conn, sql),
		   PQresultStatus(result) != PGRES_TUPLES_OK)
	{
		if (!is_conflict(conn, result, conflict))
			die("standby: %s", PQerrorMessage(conn));
		PQclear(result);
		if (PQstatus(conn) == CONNECTION_OK)
			continue;
		PQfinish(conn);
		conn = open_standby_session(place, &conflict);
	}
	return result;
}

static Stamp
replayed_position(void)
{
	PGresult   *result = call("pg_last_wal_replay_lsn");
	Stamp		position = parse_position(PQgetvalue(result, 0, 0));

	PQclear(result);
	return position;
}

/*
 * Connect to the standby.  Resume replay, which an earlier run may have left
 * paused.
 */
void
open_standby(const char *conninfo, Waiting when, uint64_t seed)
{
	numbers.state = seed * 1000 + 800;
	waiting = when;
	place = conninfo;
	conn = open_standby_session(place, &conflict);
	PQclear(call("pg_wal_replay_resume"));
}

bool
has_standby(void)
{
	return conn != NULL;
}

/* Wait until the standby has replayed up to a position in the WAL. */
void
follow_standby(Stamp position)
{
	Stamp		start = now();

	while (replayed_position() < position)
	{
		if (now() - start > STUCK)
			die("the standby does not follow");
		pause_for(100);
	}
	if (now() - start > standby_counts.longest)
		standby_counts.longest = now() - start;
}

/* Did commits wait for the standby at that time, and do they still? */
bool
waits_for_standby(Stamp time)
{
	Stamp		since = waiting_since;

	return since != 0 && since <= time;
}

/*
 * Let commits wait for the standby.  Afterwards, the standby has replayed
 * everything that is acknowledged: first we wait until it has replayed
 * everything that was acknowledged before.
 */
static void
start_waiting(void)
{
	follow_standby(flushed_position());
	set_commits("remote_apply");
	waiting_since = now();
}

static void
stop_waiting(void)
{
	waiting_since = 0;
	set_commits("local");
}

static void
take_turns(void)
{
	if (turn_left-- > 0)
		return;
	turn_left = below(&numbers, TURN_MAX);
	if (waiting_since == 0 && waiting != WAITS_NEVER)
		start_waiting();
	else if (waiting_since == 0 || waiting == WAITS_BY_TURNS)
		stop_waiting();
}

static void
pause_replay(void)
{
	pause_left = 1 + below(&numbers, PAUSE_MAX);
	PQclear(call("pg_wal_replay_pause"));
	standby_counts.pauses++;
}

static void
resume_replay(void)
{
	pause_left = 0;
	PQclear(call("pg_wal_replay_resume"));
}

/*
 * Decide what the standby does during the next trial.  Returns false if nobody
 * must wait for it at the end of the trial.
 */
bool
vary_standby(void)
{
	if (pause_left > 0 && --pause_left == 0)
		resume_replay();
	if (pause_left == 0)
		take_turns();
	if (waiting_since != 0)
		standby_counts.waiting++;
	else if (pause_left == 0 && below(&numbers, PAUSE_EVERY) == 0)
		pause_replay();
	if (pause_left > 0)
		standby_counts.behind++;
	return pause_left == 0;
}

void
close_standby(void)
{
	resume_replay();
	PQfinish(conn);
}
