/*
 * primary_session.c
 *		A session on the primary, in which a standby runs the extension's own
 *		SQL.
 *
 * The worker that asks how far the primary is (primary_connection.c) has a
 * replication connection, where SQL cannot be run.  This is an ordinary one.
 * It is made with primary_conninfo, so that it follows the standby from one
 * primary to the next, and with overten_auth.uses_conninfo, which names a role
 * that can do nothing else.
 *
 * A step may take ANSWER_MS.  Then we raise an error, and do not know whether the
 * primary has done what we asked for.  A worker that is to end waits as long, because
 * it sends the last uses then.
 */
#include "postgres.h"

#include "libpq-fe.h"

#include "access/xlogrecovery.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "storage/fd.h"
#include "storage/latch.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"

#include "server/server.h"
#include "settings.h"
#include "standby/standby.h"

#define APPLICATION_NAME	"overten_auth"
#define ANSWER_MS			10000
#define PARAMETERS_MAX		100 /* of connections */

/* The parameters of a connection; the last of a name counts. */
typedef struct Parameters
{
	const char *names[PARAMETERS_MAX + 1];
	const char *values[PARAMETERS_MAX + 1];
	int			count;
} Parameters;

static PGconn *session = NULL;

/* The first line of a message of libpq. */
static char *
first_line(const char *message)
{
	return pnstrdup(message, strcspn(message, "\r\n"));
}

/* Raise an error with the session's message. */
pg_noreturn static void
raise_session_error(void)
{
	ereport(ERROR,
			(errcode(ERRCODE_CONNECTION_FAILURE),
			 errmsg("the session on the primary has failed: %s",
					first_line(PQerrorMessage(session)))));
}

/* Raise an error because the primary has refused a statement. */
pg_noreturn static void
raise_result_error(PGresult *result)
{
	const char *state = PQresultErrorField(result, PG_DIAG_SQLSTATE);
	const char *message = PQresultErrorField(result, PG_DIAG_MESSAGE_PRIMARY);
	int			code;
	char	   *line;

	if (state == NULL || message == NULL)
	{
		PQclear(result);
		raise_session_error();
	}
	code = MAKE_SQLSTATE(state[0], state[1], state[2], state[3], state[4]);
	line = first_line(message);
	PQclear(result);
	ereport(ERROR,
			(errcode(code), errmsg("the primary reports: %s", line)));
}

/* Wait until the session's socket is ready.  Raises 08006 after a while. */
static void
wait_for_socket(int event, int64 end)
{
	int64		left = end - oa_monotonic_ms();

	CHECK_FOR_INTERRUPTS();
	if (left <= 0)
		ereport(ERROR,
				(errcode(ERRCODE_CONNECTION_FAILURE),
				 errmsg("the primary has not answered within %d seconds",
						ANSWER_MS / 1000)));
	(void) WaitLatchOrSocket(MyLatch,
							 event | WL_LATCH_SET | WL_TIMEOUT |
							 WL_EXIT_ON_PM_DEATH,
							 PQsocket(session), left,
							 oa_wait_event(OA_WAIT_PRIMARY));
	ResetLatch(MyLatch);
}

static void
set_parameter(Parameters *parameters, const char *name, const char *value)
{
	if (parameters->count == PARAMETERS_MAX)
		elog(ERROR, "too many connection parameters");
	parameters->names[parameters->count] = pstrdup(name);
	parameters->values[parameters->count++] = pstrdup(value);
}

/* Raise 55000 because primary_conninfo cannot be parsed. */
pg_noreturn static void
refuse_conninfo(void)
{
	ereport(ERROR,
			(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
			 errmsg("primary_conninfo is not a connection string")));
}

/*
 * Add the parameters of a connection string, except one.  Returns whether it
 * names a user.
 */
static bool
add_parameters(Parameters *parameters, const char *conninfo,
			   const char *excluded)
{
	PQconninfoOption *options = PQconninfoParse(conninfo, NULL);
	bool		has_user = false;

	if (options == NULL)
		refuse_conninfo();
	for (PQconninfoOption *option = options; option->keyword != NULL; option++)
	{
		if (option->val == NULL || strcmp(option->keyword, "replication") == 0 ||
			(excluded != NULL && strcmp(option->keyword, excluded) == 0))
			continue;
		set_parameter(parameters, option->keyword, option->val);
		has_user |= strcmp(option->keyword, "user") == 0;
	}
	PQconninfoFree(options);
	return has_user;
}

/*
 * Find out how to connect.  The password in primary_conninfo is not meant for
 * another user.
 */
static void
find_parameters(Parameters *parameters, const char *database)
{
	Parameters	own = {.count = 0};
	bool		has_user = add_parameters(&own, oa_uses_conninfo, NULL);

	parameters->count = 0;
	set_parameter(parameters, "target_session_attrs", "primary");
	(void) add_parameters(parameters, PrimaryConnInfo,
						  has_user ? "password" : NULL);
	for (int i = 0; i < own.count; i++)
		set_parameter(parameters, own.names[i], own.values[i]);
	set_parameter(parameters, "dbname", database);
	set_parameter(parameters, "application_name", APPLICATION_NAME);
	set_parameter(parameters, "client_encoding", GetDatabaseEncodingName());
	parameters->names[parameters->count] = NULL;
	parameters->values[parameters->count] = NULL;
}

/* End the session on the primary, if there is one. */
void
oa_primary_session_end(void)
{
	if (session == NULL)
		return;
	PQfinish(session);
	session = NULL;
	ReleaseExternalFD();
}

/*
 * Begin a session in a database of the primary.  The caller ends it, after an
 * error, too.  Raises 08006 or the primary's error.
 */
void
oa_primary_session_begin(const char *database)
{
	int64		end = oa_monotonic_ms() + ANSWER_MS;
	Parameters	parameters;
	PostgresPollingStatusType status = PGRES_POLLING_WRITING;

	find_parameters(&parameters, database);
	if (!AcquireExternalFD())
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_RESOURCES),
				 errmsg("no file descriptor is left for a session on the primary")));
	session = PQconnectStartParams(parameters.names, parameters.values, false);
	if (session == NULL)
	{
		ReleaseExternalFD();
		ereport(ERROR,
				(errcode(ERRCODE_OUT_OF_MEMORY), errmsg("out of memory")));
	}
	if (PQstatus(session) == CONNECTION_BAD)
		raise_session_error();
	while (status != PGRES_POLLING_OK)
	{
		if (status == PGRES_POLLING_FAILED)
			raise_session_error();
		wait_for_socket(status == PGRES_POLLING_READING ?
						WL_SOCKET_READABLE : WL_SOCKET_WRITEABLE, end);
		status = PQconnectPoll(session);
	}
	PQsetnonblocking(session, 1);
}

/* Wait until a statement has been sent. */
static void
flush_statement(int64 end)
{
	int			unsent;

	while ((unsent = PQflush(session)) == 1)
	{
		wait_for_socket(WL_SOCKET_READABLE | WL_SOCKET_WRITEABLE, end);
		if (PQconsumeInput(session) == 0)
			raise_session_error();
	}
	if (unsent < 0)
		raise_session_error();
}

/* Wait for the result of a statement, which returns no rows. */
static void
take_result(int64 end)
{
	PGresult   *result;

	do
	{
		while (PQisBusy(session))
		{
			wait_for_socket(WL_SOCKET_READABLE, end);
			if (PQconsumeInput(session) == 0)
				raise_session_error();
		}
		result = PQgetResult(session);
		if (result != NULL && PQresultStatus(result) != PGRES_COMMAND_OK)
			raise_result_error(result);
		PQclear(result);
	} while (result != NULL);
}

/*
 * Send a statement that returns no rows, with arguments that are not NULL, in
 * the types' binary formats.  Does not wait.
 */
void
oa_primary_session_send(const char *statement, int count, const Oid *types,
						const Datum *values)
{
	const char **bytes = palloc(count * sizeof(char *));
	int		   *lengths = palloc(count * sizeof(int));
	int		   *formats = palloc(count * sizeof(int));

	for (int i = 0; i < count; i++)
	{
		Oid			function;
		bool		is_varlena;
		bytea	   *sent;

		getTypeBinaryOutputInfo(types[i], &function, &is_varlena);
		sent = OidSendFunctionCall(function, values[i]);
		bytes[i] = VARDATA(sent);
		lengths[i] = VARSIZE(sent) - VARHDRSZ;
		formats[i] = 1;
	}
	if (!PQsendQueryParams(session, statement, count, types, bytes, lengths,
						   formats, 1))
		raise_session_error();
}

/* Wait until the statement has been run.  Need not be in a transaction. */
void
oa_primary_session_wait(void)
{
	int64		end = oa_monotonic_ms() + ANSWER_MS;

	flush_statement(end);
	take_result(end);
}
