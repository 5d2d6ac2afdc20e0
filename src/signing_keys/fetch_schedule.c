/*
 * fetch_schedule.c
 *		Says when signing keys are to be fetched.
 *
 * Keys are fetched anew when 70 to 80 % of the time is over for which the
 * answer was said to be good, so that a few failures still leave time.  After
 * a failure the pauses double from 10 seconds to 15 minutes.  Both are spread
 * at random, lest all servers that one outage has stopped come back at once.
 *
 * The times are by the wall clock, as those of certificates are.  When it
 * jumps ahead, a fetch is due at once; when it is put back, which shows in
 * that the last fetch seems to lie in the future, too: else nothing would be
 * fetched until it has caught up.
 *
 * Nothing in this file uses the server; test/unit runs it by itself.
 */
#include "postgres.h"

#include "signing_keys/fetch.h"

#define FIRST_PAUSE		10		/* seconds */
#define LONGEST_PAUSE	900

/* The clocks of two processors may differ a little. */
#define CLOCK_TOLERANCE (60 * USECS_PER_SEC)

/* Between so much and all of a time; "random" is any number. */
static int64
spread(int64 least, int64 most, uint32 random)
{
	return least + (int64) ((most - least) * (random / (double) PG_UINT32_MAX));
}

/*
 * When to fetch again after a fetch at "now": one that has brought an answer
 * which is good for max_age seconds, or, if failures is not 0, the last of so
 * many in a row that have failed.
 */
TimestampTz
oa_next_fetch_at(TimestampTz now, int max_age, int failures, uint32 random)
{
	int64		wait = max_age * USECS_PER_SEC;

	if (failures == 0)
		return now + spread(wait / 10 * 7, wait / 10 * 8, random);

	wait = LONGEST_PAUSE;
	if (failures < 8)
		wait = Min(FIRST_PAUSE << (failures - 1), LONGEST_PAUSE);
	wait *= USECS_PER_SEC;
	return now + spread(wait / 4 * 3, wait, random);
}

/* Is it time to fetch, when the last one, if any, began at fetched_at? */
bool
oa_fetch_is_due(TimestampTz now, TimestampTz fetched_at,
				TimestampTz next_fetch_at)
{
	return now >= next_fetch_at || fetched_at > now + CLOCK_TOLERANCE;
}
