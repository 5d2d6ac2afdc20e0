/*
 * lost_answers.c
 *		A library to preload into a primary whose answers to its standbys are to
 *		be lost.
 *
 * While the file "lose_answer" is in the data directory, a session of a standby
 * that has written uses ends its connection after the commit, and removes the
 * file.  The file "lose_statement" does the same before the commit, which then
 * does not happen.
 */
#include "postgres.h"

/* We do not need its headers. */
#undef ENABLE_GSS

#include <sys/socket.h>
#include <unistd.h>

#include "access/xact.h"
#include "fmgr.h"
#include "libpq/libpq-be.h"
#include "miscadmin.h"
#include "replication/walsender.h"
#include "utils/guc.h"

PG_MODULE_MAGIC;

PGDLLEXPORT void _PG_init(void);

static void
lose(XactEvent event, void *argument)
{
	const char *file = event == XACT_EVENT_COMMIT ? "lose_answer" : "lose_statement";

	if ((event != XACT_EVENT_COMMIT && event != XACT_EVENT_PRE_COMMIT) ||
		MyProcPort == NULL || am_walsender ||
		strcmp(application_name, "overten_auth") != 0 ||
		!TransactionIdIsValid(GetTopTransactionIdIfAny()) ||
		unlink(file) != 0)
		return;
	(void) shutdown(MyProcPort->sock, SHUT_RDWR);
	if (event == XACT_EVENT_PRE_COMMIT)
		ereport(ERROR,
				(errcode(ERRCODE_CONNECTION_FAILURE),
				 errmsg("the test ends this session")));
}

void
_PG_init(void)
{
	RegisterXactCallback(lose, NULL);
}
