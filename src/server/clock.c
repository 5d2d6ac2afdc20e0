/*
 * clock.c
 *		Readings of the machine's clocks.
 */
#include "postgres.h"

#include <time.h>

#include "portability/instr_time.h"

#include "server/server.h"

/*
 * Return the time of the monotonic clock, which nobody can set, in
 * milliseconds.
 */
int64
oa_monotonic_ms(void)
{
	instr_time	now;

	INSTR_TIME_SET_CURRENT(now);
	return (int64) INSTR_TIME_GET_MILLISEC(now);
}

static int64
read_clock(clockid_t clock)
{
	struct timespec now;

	(void) clock_gettime(clock, &now);
	return now.tv_sec * INT64CONST(1000000000) + now.tv_nsec;
}

/*
 * Return the time of the monotonic clock in nanoseconds.  It is the same for all
 * processes of the machine.
 */
int64
oa_monotonic_ns(void)
{
	return read_clock(CLOCK_MONOTONIC);
}

/*
 * The same of the clock that advances also while the machine sleeps, where
 * there is one.
 */
int64
oa_boot_time_ns(void)
{
#ifdef CLOCK_BOOTTIME
	return read_clock(CLOCK_BOOTTIME);
#else
	return read_clock(CLOCK_MONOTONIC);
#endif
}

/* The same of the clock that tells the time of day. */
int64
oa_wall_clock_ns(void)
{
	return read_clock(CLOCK_REALTIME);
}
