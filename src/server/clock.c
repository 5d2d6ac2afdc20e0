/*
 * clock.c
 *		A clock that nobody sets.
 */
#include "postgres.h"

#include "portability/instr_time.h"

#include "server/server.h"

/* Milliseconds of a clock that nobody sets. */
int64
oa_monotonic_ms(void)
{
	instr_time	now;

	INSTR_TIME_SET_CURRENT(now);
	return (int64) INSTR_TIME_GET_MILLISEC(now);
}
