/*
 * clock.c
 *		A monotonic clock, which nobody can set.
 */
#include "postgres.h"

#include <time.h>

#include "portability/instr_time.h"

#include "server/server.h"

/* Return the time of the monotonic clock in milliseconds. */
int64
oa_monotonic_ms(void)
{
	instr_time	now;

	INSTR_TIME_SET_CURRENT(now);
	return (int64) INSTR_TIME_GET_MILLISEC(now);
}

/*
 * Return the time of the monotonic clock in nanoseconds.  It is the same for all
 * processes of the machine.
 */
int64
oa_monotonic_ns(void)
{
	struct timespec now;

	(void) clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec * INT64CONST(1000000000) + now.tv_nsec;
}
