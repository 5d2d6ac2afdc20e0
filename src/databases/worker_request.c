/*
 * worker_request.c
 *		Asks a background worker for something, and waits for it.
 *
 * Requests are numbered.  Work that began after a request was made fulfills
 * it, or fails it.  The worker is another process and uses its own
 * transactions, so locks that the caller holds can block it.  The worker gives
 * up waiting for a lock within a second.
 */
#include "postgres.h"

#include "miscadmin.h"
#include "storage/latch.h"
#include "storage/proc.h"

#include "databases/databases.h"
#include "server/server.h"

#define TIMEOUT_MS	(OA_REQUEST_SECONDS * 1000)

/*
 * Is there a request that no worker has finished?  The caller holds the lock.
 */
bool
oa_is_asked(const OaRequests *requests)
{
	return requests->asked > Max(requests->done, requests->failed);
}

/*
 * Make a request.  Returns its number, or 0 if the launcher does not know yet
 * which database has the name now.
 */
static uint64
submit_request(OaDatabase *database, OaRequests *requests)
{
	uint64		number = 0;

	oa_lock_databases(LW_EXCLUSIVE);
	if (database->oid == MyDatabaseId)
	{
		number = ++requests->asked;
		if (database->waiting != NULL)
			SetLatch(&database->waiting->procLatch);
	}
	oa_wake_launcher();
	oa_unlock_databases();
	return number;
}

static OaRequestState
get_state(const OaRequests *requests, uint64 number)
{
	OaRequestState state = OA_REQUEST_WAITS;

	oa_lock_databases(LW_SHARED);
	if (requests->done >= number)
		state = OA_REQUEST_DONE;
	else if (requests->failed >= number)
		state = OA_REQUEST_FAILED;
	oa_unlock_databases();
	return state;
}

/*
 * Ask the worker of the session's database, and wait until it has finished or
 * failed.  Returns OA_REQUEST_WAITS if neither happens in OA_REQUEST_SECONDS.
 */
OaRequestState
oa_ask_worker(OaDatabase *database, OaRequests *requests)
{
	int64		end = oa_monotonic_ms() + TIMEOUT_MS;
	OaRequestState state = OA_REQUEST_WAITS;
	uint64		number = 0;

	ConditionVariablePrepareToSleep(&requests->changed);
	for (;;)
	{
		int64		left = end - oa_monotonic_ms();

		if (number == 0)
			number = submit_request(database, requests);
		if (number != 0)
			state = get_state(requests, number);
		if (state != OA_REQUEST_WAITS || left <= 0)
			break;
		(void) ConditionVariableTimedSleep(&requests->changed, (long) left,
										   oa_wait_event(OA_WAIT_ANSWER));
	}
	ConditionVariableCancelSleep();
	return state;
}
