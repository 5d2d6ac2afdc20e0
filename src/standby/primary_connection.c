/*
 * primary_connection.c
 *		The worker's connection to the primary, and what it asks there.
 *
 * It is a replication connection, made as the WAL receiver makes its own: by
 * the server's libpqwalreceiver, with primary_conninfo.  So it needs no other
 * role and no other line of pg_hba.conf.  It only asks, and it takes one of the
 * primary's max_wal_senders.
 */
#include "postgres.h"

#include "access/xact.h"
#include "access/xlog.h"
#include "access/xlog_internal.h"
#include "access/xlogrecovery.h"
#include "catalog/pg_type.h"
#include "executor/tuptable.h"
#include "miscadmin.h"
#include "replication/walreceiver.h"
#include "storage/fd.h"
#include "storage/spin.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/pg_lsn.h"
#include "utils/timeout.h"

#include "standby/staleness.h"

#define APPLICATION_NAME "overten_auth"
#define PATIENCE_MS		5000

/* The columns of the answers that we read. */
enum
{
	SYSTEM_ID, TIMELINE, FLUSHED, DATABASE, IDENTITY_COLUMNS
};
enum
{
	HISTORY_NAME, HISTORY_CONTENT, HISTORY_COLUMNS
};

static MemoryContext context = NULL;	/* of the connection */
static WalReceiverConn *connection = NULL;

/* Find the WAL receiver.  Returns false unless it is streaming. */
bool
oa_find_receiver(OaReceiver *receiver)
{
	bool		streaming;

	SpinLockAcquire(&WalRcv->mutex);
	streaming = WalRcv->pid != 0 && WalRcv->ready_to_display &&
		WalRcv->walRcvState == WALRCV_STREAMING;
	receiver->pid = WalRcv->pid;
	receiver->port = WalRcv->sender_port;
	strlcpy(receiver->host, WalRcv->sender_host, sizeof(receiver->host));
	SpinLockRelease(&WalRcv->mutex);
	return streaming;
}

bool
oa_is_same_receiver(const OaReceiver *a, const OaReceiver *b)
{
	return a->pid == b->pid && a->port == b->port &&
		strcmp(a->host, b->host) == 0;
}

bool
oa_primary_is_connected(void)
{
	return connection != NULL;
}

void
oa_primary_disconnect(void)
{
	if (connection == NULL)
		return;
	walrcv_disconnect(connection);
	connection = NULL;
	MemoryContextReset(context);
}

/*
 * Raise an error if the primary does not answer.  The error ends the worker; the
 * postmaster starts it again.  While we wait for a primary that hangs we do not
 * see that the standby follows another one, so we do not wait for as long as the
 * WAL receiver does.
 */
static void
begin_wait(void)
{
	enable_timeout_after(STATEMENT_TIMEOUT, wal_receiver_timeout > 0 ?
						 Min(wal_receiver_timeout, PATIENCE_MS) : PATIENCE_MS);
}

static void
end_wait(void)
{
	disable_timeout(STATEMENT_TIMEOUT, false);
}

/*
 * primary_conninfo, with a name by which operators know the connection, and by
 * which nobody takes it for that of the WAL receiver.  Of a parameter that
 * stands there twice, libpq takes the last.
 */
static char *
connection_string(void)
{
	const char *separator = " ";

	if (strncmp(PrimaryConnInfo, "postgres://", 11) == 0 ||
		strncmp(PrimaryConnInfo, "postgresql://", 13) == 0)
		separator = strchr(PrimaryConnInfo, '?') != NULL ? "&" : "?";
	return psprintf("%s%sapplication_name=" APPLICATION_NAME, PrimaryConnInfo,
					separator);
}

/* Connect.  Returns NULL, and sets *error, if that fails. */
static WalReceiverConn *
connect_as_receiver(char **error)
{
	WalReceiverConn *made;

	begin_wait();
#if PG_VERSION_NUM >= 170000
	made = walrcv_connect(connection_string(), true, false, false,
						  APPLICATION_NAME, error);
#elif PG_VERSION_NUM >= 160000
	made = walrcv_connect(connection_string(), false, false, APPLICATION_NAME,
						  error);
#else
	made = walrcv_connect(connection_string(), false, APPLICATION_NAME, error);
#endif
	end_wait();
	return made;
}

/*
 * Ask for one row of so many columns.  Returns false, and notes the problem, if
 * the primary does not answer so.  The values are in the memory of the
 * transaction.
 */
static bool
ask(const char *question, int columns, char **values)
{
	static const Oid types[IDENTITY_COLUMNS] = {TEXTOID, TEXTOID, TEXTOID, TEXTOID};
	WalRcvExecResult *result;
	TupleTableSlot *slot;

	begin_wait();
	result = walrcv_exec(connection, question, columns, types);
	end_wait();
	if (result->status != WALRCV_OK_TUPLES)
	{
		oa_set_standby_problem(OA_STANDBY_NOT_CONNECTED, result->err);
		return false;
	}

	slot = MakeSingleTupleTableSlot(result->tupledesc, &TTSOpsMinimalTuple);
	if (!tuplestore_gettupleslot(result->tuplestore, true, false, slot))
		elog(ERROR, "the primary does not answer \"%s\"", question);
	for (int i = 0; i < columns; i++)
	{
		bool		isnull;
		Datum		value = slot_getattr(slot, i + 1, &isnull);

		values[i] = isnull ? NULL : TextDatumGetCString(value);
	}
	ExecDropSingleTupleTableSlot(slot);
	walrcv_clear_result(result);
	return true;
}

/* Is the connection to the server that the WAL receiver is connected to? */
static bool
is_to(const OaReceiver *receiver)
{
	MemoryContext caller = MemoryContextSwitchTo(context);
	char	   *host = NULL;
	int			port = 0;

	walrcv_get_senderinfo(connection, &host, &port);
	MemoryContextSwitchTo(caller);
	return host != NULL && strcmp(host, receiver->host) == 0 &&
		port == receiver->port;
}

/* Is the other side a primary? */
static bool
is_primary(void)
{
	char	   *in_recovery;
	bool		answered;
	bool		primary;

	StartTransactionCommand();
	answered = ask("SHOW in_hot_standby", 1, &in_recovery);
	primary = answered && strcmp(in_recovery, "off") == 0;
	if (answered && !primary)
		oa_set_standby_problem(OA_STANDBY_CASCADING, NULL);
	CommitTransactionCommand();
	return primary;
}

/*
 * Connect to the primary that the WAL receiver is connected to.  Returns false,
 * and notes the problem, if that cannot be done.
 */
bool
oa_primary_connect(const OaReceiver *receiver)
{
	MemoryContext caller;
	char	   *error;

	if (context == NULL)
	{
		context = AllocSetContextCreate(TopMemoryContext,
										"overten_auth primary connection",
										ALLOCSET_SMALL_SIZES);
		load_file("libpqwalreceiver", false);
		if (WalReceiverFunctions == NULL)
			elog(ERROR, "libpqwalreceiver did not initialize correctly");
	}

	caller = MemoryContextSwitchTo(context);
	connection = connect_as_receiver(&error);
	MemoryContextSwitchTo(caller);
	if (connection == NULL)
	{
		oa_set_standby_problem(OA_STANDBY_NOT_CONNECTED, error);
		MemoryContextReset(context);
		return false;
	}

	if (!is_to(receiver))
		oa_set_standby_problem(OA_STANDBY_OTHER_SERVER, NULL);
	else if (is_primary())
		return true;
	oa_primary_disconnect();
	return false;
}

/*
 * Ask up to where the primary has flushed its WAL, on which timeline.  Returns
 * false, and notes the problem, if it does not say.
 */
bool
oa_primary_identify(XLogRecPtr *flushed, TimeLineID *timeline)
{
	char	   *values[IDENTITY_COLUMNS];
	bool		answered;

	StartTransactionCommand();
	answered = ask("IDENTIFY_SYSTEM", IDENTITY_COLUMNS, values);
	if (answered &&
		strtou64(values[SYSTEM_ID], NULL, 10) != GetSystemIdentifier())
	{
		oa_set_standby_problem(OA_STANDBY_OTHER_SYSTEM, NULL);
		answered = false;
	}
	if (answered)
	{
		*timeline = pg_strtoint32(values[TIMELINE]);
		*flushed = DatumGetLSN(DirectFunctionCall1(pg_lsn_in,
												   CStringGetDatum(values[FLUSHED])));
	}
	CommitTransactionCommand();
	return answered;
}

/* Read the standby's own history of a timeline.  Returns NULL without one. */
static char *
own_history(TimeLineID timeline)
{
	char		path[MAXPGPATH];
	StringInfoData content;
	char		bytes[BLCKSZ];
	size_t		count;
	FILE	   *file;

	TLHistoryFilePath(path, timeline);
	file = AllocateFile(path, PG_BINARY_R);
	if (file == NULL)
		return NULL;
	initStringInfo(&content);
	while ((count = fread(bytes, 1, sizeof(bytes), file)) > 0)
		appendBinaryStringInfo(&content, bytes, (int) count);
	FreeFile(file);
	return content.data;
}

/*
 * Has the primary's timeline the history that this standby knows?  The first
 * timeline has none.
 */
bool
oa_primary_has_own_history(TimeLineID timeline)
{
	char	   *values[HISTORY_COLUMNS];
	char	   *own;
	bool		answered;
	bool		same;

	if (timeline == 1)
		return true;
	StartTransactionCommand();
	own = own_history(timeline);
	answered = ask(psprintf("TIMELINE_HISTORY %u", timeline), HISTORY_COLUMNS,
				   values);
	same = answered && own != NULL && values[HISTORY_CONTENT] != NULL &&
		strcmp(own, values[HISTORY_CONTENT]) == 0;
	if (answered && !same)
		oa_set_standby_problem(OA_STANDBY_OTHER_HISTORY, NULL);
	CommitTransactionCommand();
	return same;
}
