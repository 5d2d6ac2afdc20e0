/*
 * secrecy.c
 *		Keeps statements that may hold a secret out of the server log.
 *
 * An ERROR writes the whole statement into the log, and the functions around
 * it as context.  It is not enough to use errhidestmt() in each of our own
 * ereport() calls: the server's code may report a lock timeout, a cancel or a
 * full disk in the middle of ours.  An error context callback is called for
 * those, too.
 */
#include "postgres.h"

#include "server/server.h"

static void
hide(void *arg)
{
	errhidestmt(true);
	errhidecontext(true);
}

/*
 * Hide the statement and the context of every message in the log, until
 * oa_secrecy_end() is called or an error is raised.
 */
void
oa_secrecy_begin(ErrorContextCallback *callback)
{
	callback->callback = hide;
	callback->arg = NULL;
	callback->previous = error_context_stack;
	error_context_stack = callback;
}

void
oa_secrecy_end(ErrorContextCallback *callback)
{
	error_context_stack = callback->previous;
}
