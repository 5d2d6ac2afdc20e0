/*
 * session.c
 *		Connections of the race program.
 */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "race.h"

/*
 * Stop because of an error: the run has not found an impossible answer, but it
 * proves nothing either.
 */
void
die(const char *format,...)
{
	va_list		args;

	fflush(stdout);
	fputs("race: ", stderr);
	va_start(args, format);
	vfprintf(stderr, format, args);
	va_end(args);
	fputc('\n', stderr);
	_exit(2);
}

/*
 * Set what all sessions need.  We parse messages, so they must be in English.
 */
void
init_sessions(void)
{
	if (setenv("PGOPTIONS", "-c client_min_messages=warning -c lc_messages=C",
			   true) != 0)
		die("out of memory");
}

PGconn	   *
open_session(const char *conninfo)
{
	PGconn	   *conn = PQconnectdb(conninfo);

	if (PQstatus(conn) != CONNECTION_OK)
		die("%s", PQerrorMessage(conn));
	return conn;
}

bool
has_sqlstate(const PGresult *result, const char *sqlstate)
{
	const char *state = PQresultErrorField(result, PG_DIAG_SQLSTATE);

	return state != NULL && strcmp(state, sqlstate) == 0;
}

static bool
tells_of_conflict(const char *message)
{
	return strstr(message, "due to conflict with recovery") != NULL;
}

/* When the server ends an idle session, its message comes as a notice. */
static void
take_notice(void *arg, const char *message)
{
	bool	   *conflict = arg;

	if (tells_of_conflict(message))
		*conflict = true;
	else
		fputs(message, stderr);
}

static bool
is_alive(PGconn *conn)
{
	PGresult   *result = PQexec(conn, "SELECT");
	bool		alive = (PQresultStatus(result) == PGRES_TUPLES_OK);

	PQclear(result);
	return alive;
}

/*
 * Open a session on a standby, where a recovery conflict may end it.  If that
 * happens while we open it, libpq prints the server's message, and we try
 * again.  If it happens later, it sets *conflict.
 */
PGconn	   *
open_standby_session(const char *conninfo, bool *conflict)
{
	for (;;)
	{
		PGconn	   *conn = PQconnectdb(conninfo);

		*conflict = false;
		PQsetNoticeProcessor(conn, take_notice, conflict);
		if (PQstatus(conn) != CONNECTION_OK &&
			!tells_of_conflict(PQerrorMessage(conn)))
			die("%s", PQerrorMessage(conn));
		if (is_alive(conn))
			return conn;
		PQfinish(conn);
	}
}

/*
 * Did a statement fail because of a conflict, with recovery or with another
 * transaction?  There is no SQLSTATE if the session was ended.
 */
bool
is_conflict(const PGconn *conn, const PGresult *result, bool conflict)
{
	if (has_sqlstate(result, "40001"))
		return true;
	return PQstatus(conn) != CONNECTION_OK &&
		(conflict || tells_of_conflict(PQerrorMessage(conn)));
}

/*
 * Parse a position in the WAL.  An empty text stands for one before all
 * others.
 */
Stamp
parse_position(const char *text)
{
	unsigned	high = 0;
	unsigned	low = 0;

	if (*text != '\0' && sscanf(text, "%X/%X", &high, &low) != 2)
		die("\"%s\" is not a position in the WAL", text);
	return (Stamp) ((uint64_t) high << 32 | low);
}

static PGresult *run(PGconn *conn, const char *format, va_list args) __attribute__((format(printf, 2, 0)));

static PGresult *
run(PGconn *conn, const char *format, va_list args)
{
	char		sql[1024];
	int			length = vsnprintf(sql, sizeof(sql), format, args);
	PGresult   *result;

	if (length < 0 || (size_t) length >= sizeof(sql))
		die("statement too long");
	result = PQexec(conn, sql);
	if (PQresultStatus(result) != PGRES_COMMAND_OK &&
		PQresultStatus(result) != PGRES_TUPLES_OK)
		die("%s", PQerrorMessage(conn));
	return result;
}

/* Run a statement that must succeed.  The caller must clear the result. */
PGresult   *
run_query(PGconn *conn, const char *format,...)
{
	PGresult   *result;
	va_list		args;

	va_start(args, format);
	result = run(conn, format, args);
	va_end(args);
	return result;
}

void
run_command(PGconn *conn, const char *format,...)
{
	va_list		args;

	va_start(args, format);
	PQclear(run(conn, format, args));
	va_end(args);
}
