/*
 * check.c
 *		Compares the contents of a server with the journal.
 *
 * What was acknowledged before one time must be there, and what was sent after
 * another time must not be there.  What lies between may be there.  For a
 * server that has crashed, both times are now.  For a base backup, they are
 * the times at which it began and ended.
 *
 * The history must contain the uses that were flushed, and at most those that
 * were accepted or not answered.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "load.h"

#define CONNECT_SECONDS	150
#define BATCH			1000

/* What a table says of a key. */
typedef struct Found
{
	bool		there;
	bool		revoked;
	int64_t		uses;
} Found;

static Found *found;
static struct
{
	int			keys,
				revoked,
				lost_revocations,
				in_between;		/* of changes without an answer, how many are there */
	int64_t		accepted,
				counted,
				lost,
				most_lost;		/* of one key */
}			sums;

static PGconn *
connect_to(const char *conninfo)
{
	Stamp		end = now() + CONNECT_SECONDS * INT64_C(1000000000);

	for (;;)
	{
		PGconn	   *conn = PQconnectdb(conninfo);

		if (PQstatus(conn) == CONNECTION_OK)
		{
			PQclear(PQexec(conn, "SET client_min_messages = error"));
			return conn;
		}
		if (now() > end)
			die("the server does not come back: %s", PQerrorMessage(conn));
		PQfinish(conn);
		pause_for(50000);
	}
}

static PGresult *
must_run(PGconn *conn, const char *sql, int nparams, const char *const *params)
{
	PGresult   *result = PQexecParams(conn, sql, nparams, NULL, params, NULL,
									  NULL, 0);

	if (PQresultStatus(result) != PGRES_TUPLES_OK)
		die("%s", PQerrorMessage(conn));
	return result;
}

/* Read the table into "found". */
static void
read_keys(PGconn *conn)
{
	int			count = number_of_keys();
	PGresult   *result = must_run(conn,
								  "SELECT k.name, k.key_id, k.revoked_at IS NOT NULL, coalesce(sum(u.accepted), 0) "
								  "FROM overten_auth.api_keys k LEFT JOIN overten_auth.key_usage u USING (key_id) "
								  "WHERE k.org_id = (SELECT org_id FROM load_org) GROUP BY k.key_id", 0, NULL);

	free(found);
	found = calloc(count + 1, sizeof(Found));
	memset(&sums, 0, sizeof(sums));
	for (int row = 0; row < PQntuples(result); row++)
	{
		const char *name = PQgetvalue(result, row, 0);
		const char *id = PQgetvalue(result, row, 1);
		int			number = name[0] == 'k' ? atoi(name + 1) : -1;
		Key		   *key = key_of(number);

		if (number < 0 || number >= count || key->refused)
		{
			wrong("key %s (%s) is there, but was never minted", id, name);
			continue;
		}
		if (found[number].there)
			wrong("key %s is there twice", name);
		if (key->mint_acked != 0 && strcmp(key->id, id) != 0)
			wrong("key %s is %s, and was handed out as %s", name, id, key->id);
		found[number].there = true;
		found[number].revoked = *PQgetvalue(result, row, 2) == 't';
		found[number].uses = atoll(PQgetvalue(result, row, 3));
		sums.keys++;
		sums.revoked += found[number].revoked;
	}
	PQclear(result);
}

/* Hold a key against its stamps. */
static void
check_stamps(int number, Stamp begin, Stamp end)
{
	Key		   *key = key_of(number);
	Found	   *row = &found[number];
	Stamp		minted = key->mint_acked;
	Stamp		revoked = key->revoke_acked;

	if (!row->there)
	{
		if (minted != 0 && minted < begin)
			wrong("key %s was handed out, and is lost", key->id);
		return;
	}
	if (key->mint_sent > end)
		wrong("key k%d was asked for later", number);
	if (minted == 0)
		sums.in_between++;
	if (row->revoked && (key->revoke_sent == 0 || key->revoke_sent > end))
		wrong("key %s is revoked, and nobody has done that", key->id);
	if (!row->revoked && revoked != 0 && revoked < begin)
	{
		sums.lost_revocations++;
		wrong("the revocation of key %s was acknowledged, and is lost", key->id);
	}
	if (row->revoked && revoked == 0)
		sums.in_between++;
}

/*
 * Hold the history of a key against what was answered since the last check.  A
 * flush does not wait for standbys, so a failover can lose one.
 */
static void
check_uses(int number, bool failed_over)
{
	Key		   *key = key_of(number);
	int64_t		counted = found[number].uses - key->history;

	if (counted < key->flushed && !failed_over)
		wrong("of key k%d %lld uses were flushed, but %lld are in the history",
			  number, (long long) key->flushed, (long long) counted);
	if (counted > key->accepted + key->unanswered + key->on_standbys)
		wrong("of key k%d %lld uses are in the history, but there were %lld",
			  number, (long long) counted,
			  (long long) (key->accepted + key->unanswered + key->on_standbys));
	if (key->on_standbys > 0)
		return;
	sums.accepted += key->accepted;
	sums.counted += counted;
	if (counted < key->accepted)
	{
		int64_t		lost = key->accepted - counted;

		sums.lost += lost;
		sums.most_lost = lost > sums.most_lost ? lost : sums.most_lost;
	}
}

/* What was not answered has been decided now; from here on it counts. */
static void
settle(int number)
{
	Key		   *key = key_of(number);

	key->history = found[number].uses;
	key->accepted = key->unanswered = key->flushed = key->pending = 0;
	if (!found[number].there && key->mint_acked == 0)
		key->refused = true;
	if (key->revoke_sent != 0 && key->revoke_acked == 0)
	{
		if (found[number].revoked)
			key->revoke_acked = now();
		else
			key->revoke_sent = 0;
	}
}

/* Verify some keys by the function; "counts" if the uses are to be counted. */
static void
verify_batch(PGconn *conn, int from, int to, bool counts)
{
	char	   *array = malloc((size_t) (to - from) * SECRET_SIZE + 3);
	char	   *at = array;
	const char *params[] = {array};
	PGresult   *result;
	int			row = 0;

	*at++ = '{';
	for (int i = from; i < to; i++)
		if (key_of(i)->mint_acked != 0)
			at += sprintf(at, "%s%s", at[-1] == '{' ? "" : ",", key_of(i)->secret);
	strcpy(at, "}");
	result = must_run(conn, "SELECT key_id "
					  "FROM unnest($1::text[]) WITH ORDINALITY u (s, n) "
					  "LEFT JOIN LATERAL overten_verify_key(s) ON true ORDER BY n",
					  1, params);
	for (int i = from; i < to; i++)
	{
		Key		   *key = key_of(i);
		bool		accepted;

		if (key->mint_acked == 0)
			continue;
		accepted = !PQgetisnull(result, row, 0);
		if (accepted && strcmp(PQgetvalue(result, row, 0), key->id) != 0)
			wrong("key %s is verified as %s", key->id, PQgetvalue(result, row, 0));
		row++;
		if (accepted != (found[i].there && !found[i].revoked))
			wrong("key %s is %s by the function, but the table has it %s",
				  key->id, accepted ? "accepted" : "refused",
				  !found[i].there ? "not at all" :
				  found[i].revoked ? "revoked" : "active");
		if (accepted && counts)
			key->accepted++;
	}
	PQclear(result);
	free(array);
}

static void
verify_all(PGconn *conn, bool counts)
{
	int			count = number_of_keys();
	PGresult   *result;

	for (int from = 0; from < count; from += BATCH)
		verify_batch(conn, from, from + BATCH < count ? from + BATCH : count,
					 counts);
	result = must_run(conn, "SELECT count(*) FROM (SELECT overten_verify_key('sk_live_' || "
					  "substr(replace(gen_random_uuid()::text, '-', ''), 1, 28)) "
					  "FROM generate_series(1, 200)) v", 0, NULL);
	if (strcmp(PQgetvalue(result, 0, 0), "0") != 0)
		wrong("keys were accepted that nobody has minted");
	PQclear(result);
}

/* Flush; a failure may be one that a fault has left. */
static void
flush_all(PGconn *conn)
{
	PGresult   *result = NULL;

	for (int i = 0; i < 20; i++)
	{
		PQclear(result);
		result = PQexec(conn, "SELECT overten_flush_usage()");
		if (PQresultStatus(result) == PGRES_TUPLES_OK)
			break;
		pause_for(500000);
	}
	if (PQresultStatus(result) != PGRES_TUPLES_OK)
		wrong("there is no flush: %s", PQerrorMessage(conn));
	PQclear(result);
}

static int64_t
control_lost(PGconn *conn)
{
	char		limit[24];
	const char *params[] = {limit};
	PGresult   *result;
	int64_t		lost;

	snprintf(limit, sizeof(limit), "%lld", (long long) control_acked());
	result = must_run(conn, "SELECT $1::bigint - count(DISTINCT n) FROM load_control WHERE n BETWEEN 1 AND $1",
					  1, params);
	lost = atoll(PQgetvalue(result, 0, 0));
	PQclear(result);
	return lost;
}

/* Check a server that nobody is writing to, and go on from what it has. */
void
check_server(const char *conninfo, bool failed_over)
{
	PGconn	   *conn = connect_to(conninfo);
	int			count = number_of_keys();
	Stamp		at = now();

	flush_all(conn);
	read_keys(conn);
	for (int i = 0; i < count; i++)
	{
		check_stamps(i, at, at);
		check_uses(i, failed_over);
		settle(i);
	}
	verify_all(conn, true);
	printf("ok keys=%d revoked=%d in_between=%d accepted=%lld counted=%lld lost=%lld most_lost=%lld control_lost=%lld lost_revocations=%d wrong=%d\n",
		   sums.keys, sums.revoked, sums.in_between, (long long) sums.accepted,
		   (long long) sums.counted, (long long) sums.lost,
		   (long long) sums.most_lost, (long long) control_lost(conn),
		   sums.lost_revocations, wrongs);
	PQfinish(conn);
}

/*
 * Check a server that is to have what was there at some time between two; the
 * journal stays as it is.
 */
void
compare_server(const char *conninfo, Stamp begin, Stamp end)
{
	PGconn	   *conn = connect_to(conninfo);
	int			count = number_of_keys();

	read_keys(conn);
	for (int i = 0; i < count; i++)
		check_stamps(i, begin, end);
	verify_all(conn, false);
	printf("ok keys=%d revoked=%d wrong=%d\n", sums.keys, sums.revoked, wrongs);
	PQfinish(conn);
}
