/*
 * event_counts.c
 *		Counts events for the statistics view, in shared memory.
 *
 * Each process counts in a stripe of its own, if there are enough stripes, so
 * that sessions on several processors do not contend for a cache line.  A
 * reader adds up the stripes.
 */
#include "postgres.h"

#include "miscadmin.h"
#include "port/atomics.h"
#include "storage/shmem.h"

#include "usage/usage.h"

#define STRIPES			64

typedef union Stripe
{
	pg_atomic_uint64 counts[OA_EVENTS];
	char		pad[PG_CACHE_LINE_SIZE];
} Stripe;

static Stripe *stripes = NULL;

/* Reserve shared memory.  Called by the postmaster's shmem_request_hook. */
void
oa_event_counts_shmem_request(void)
{
	RequestAddinShmemSpace(STRIPES * sizeof(Stripe));
}

/*
 * Attach to shared memory, and initialize it if this process is the first.
 * Called by each process's shmem_startup_hook, with AddinShmemInitLock held.
 */
void
oa_event_counts_shmem_init(void)
{
	bool		found;

	stripes = ShmemInitStruct("overten_auth events", STRIPES * sizeof(Stripe),
							  &found);
	if (found)
		return;
	for (int i = 0; i < STRIPES; i++)
		for (int event = 0; event < OA_EVENTS; event++)
			pg_atomic_init_u64(&stripes[i].counts[event], 0);
}

/* Count events.  Does nothing without shared memory. */
void
oa_count_events(OaEvent event, uint64 number)
{
	if (stripes != NULL)
		pg_atomic_fetch_add_u64(&stripes[MyProcPid % STRIPES].counts[event],
								(int64) number);
}

/* Count an event. */
void
oa_count_event(OaEvent event)
{
	oa_count_events(event, 1);
}

/* Return how often an event has happened since the server started. */
uint64
oa_event_count(OaEvent event)
{
	uint64		sum = 0;

	for (int i = 0; i < STRIPES; i++)
		sum += pg_atomic_read_u64(&stripes[i].counts[event]);
	return sum;
}
