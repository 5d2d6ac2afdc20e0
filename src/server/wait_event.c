/*
 * wait_event.c
 *		Names what the extension's processes wait for, as pg_stat_activity shows it.
 *
 * Before PostgreSQL 17 all extensions have one name in common, "Extension".
 */
#include "postgres.h"

#include "pgstat.h"
#include "utils/wait_event.h"

#include "server/server.h"

/* The number of a wait event, for WaitLatch() and the like. */
uint32
oa_wait_event(OaWait wait)
{
#if PG_VERSION_NUM >= 170000
	static const char *const names[OA_WAITS] = {
		[OA_WAIT_LAUNCHER] = "OvertenAuthLauncherMain",
		[OA_WAIT_WORKER] = "OvertenAuthWorkerMain",
		[OA_WAIT_ANSWER] = "OvertenAuthWorkerAnswer",
		[OA_WAIT_FETCH] = "OvertenAuthFetchCommand",
		[OA_WAIT_STANDBY] = "OvertenAuthStandbyWorker",
		[OA_WAIT_PRIMARY] = "OvertenAuthPrimary",
	};
	static uint32 events[OA_WAITS];

	if (events[wait] == 0)
		events[wait] = WaitEventExtensionNew(names[wait]);
	return events[wait];
#else
	return PG_WAIT_EXTENSION;
#endif
}
