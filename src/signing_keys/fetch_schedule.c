/*
 * fetch_schedule.c
 *		Decides when to fetch signing keys.
 *
 * We fetch again after 70 to 80 % of the time for which the answer is good, so
 * that there is time left for a few failures.  After a failure the pauses
 * double, from 10 seconds to 15 minutes.  Both times are randomized: if one
 * outage has stopped many servers, they must not all fetch at the same moment
 * afterwards.
 *
 * Times are by the wall clock, as those of certificates are.  If the clock
 * jumps ahead, a fetch is due at once.  If the clock is set back, a fetch is
 * due at once, too, or else we would not fetch anything until the clock has
 * caught up.  We notice that because the last fetch then seems to lie in the
 * future.
 *
 * Nothing in this file uses the server; test/unit runs it by itself.
 */
#include "postgres.h"

#include "signing_keys/fetch.h"

#define FIRST_PAUSE		10		/* seconds */
#define LONGEST_PAUSE	900

/* The clocks of two processors may differ a little. */
#define CLOCK_TOLERANCE (60 * USECS_PER_SEC)

/* Pick a time from "least" to "most"; "random" may be any number. */
static int64
spread(int64 least, int64 most, uint32 random)
{
	return least + (int64) ((most - least) * (random / (double) PG_UINT32_MAX));
}

/*
 * Return when to fetch again.  If failures is 0, a fetch at "now" has
 * succeeded, and its answer is good for max_age seconds.  Otherwise the last
 * "failures" fetches in a row have failed.
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

/* Is a fetch due?  The last one, if there was one, began at fetched_at. */
bool
oa_fetch_is_due(TimestampTz now, TimestampTz fetched_at,
				TimestampTz next_fetch_at)
{
	return now >= next_fetch_at || fetched_at > now + CLOCK_TOLERANCE;
}
