/*
 * clock.c
 *		A monotonic clock, which nobody can set.
 */
#include "postgres.h"

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
