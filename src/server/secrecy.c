/*
 * secrecy.c
 *		Keeps statements that may hold a secret out of the server log.
 *
 * An ERROR writes the whole statement into the log, and the functions around
 * it as context.  errhidestmt() at each ereport() of ours would not be enough:
 * a lock timeout, a cancel or a full disk is reported by the server's code in
 * the middle of ours.  An error context callback is called for those too.
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
 * From here on, until oa_secrecy_end(), no message that is raised shows its
 * statement or its context in the log.  An error ends it too.
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
