/*
 * event_counts.c
 *		Counts events for the statistics view, in shared memory.
 *
 * Each process counts in a stripe of its own, if there are enough, so that
 * sessions on several processors do not fight over a cache line.  A reader
 * sums the stripes.
 */
#include "postgres.h"

#include "miscadmin.h"
#include "port/atomics.h"

#include "overten_auth.h"

#define STRIPES			64

typedef union Stripe
{
	pg_atomic_uint64 counts[OA_EVENTS];
	char		pad[PG_CACHE_LINE_SIZE];
} Stripe;

static Stripe *stripes = NULL;

/* The shared memory that the counts take. */
Size
oa_event_counts_size(void)
{
	return STRIPES * sizeof(Stripe);
}

/* Set up in this process; the first one fills in the memory, too. */
void
oa_event_counts_init(void *memory, bool first)
{
	stripes = memory;
	if (!first)
		return;
	for (int i = 0; i < STRIPES; i++)
		for (int event = 0; event < OA_EVENTS; event++)
			pg_atomic_init_u64(&stripes[i].counts[event], 0);
}

/* Count an event; nothing happens without shared memory. */
void
oa_count_event(OaEvent event)
{
	if (stripes != NULL)
		pg_atomic_fetch_add_u64(&stripes[MyProcPid % STRIPES].counts[event],
								1);
}

/* How often an event has happened since the server was started. */
uint64
oa_event_count(OaEvent event)
{
	uint64		sum = 0;

	for (int i = 0; i < STRIPES; i++)
		sum += pg_atomic_read_u64(&stripes[i].counts[event]);
	return sum;
}
