/*
 * chance.c
 *		Time, pauses and random numbers for programs that make a load.
 */
#include <time.h>

#include "chance.h"

Stamp
now(void)
{
	struct timespec time;

	clock_gettime(CLOCK_MONOTONIC, &time);
	return (Stamp) time.tv_sec * 1000000000 + time.tv_nsec;
}

/* Sleep.  Nothing depends on how long this takes. */
void
pause_for(int microseconds)
{
	struct timespec time = {
		.tv_sec = microseconds / 1000000,
		.tv_nsec = (long) (microseconds % 1000000) * 1000
	};

	nanosleep(&time, NULL);
}

/* Return a number from 0 to limit - 1 (SplitMix64). */
uint32_t
below(Random *random, uint32_t limit)
{
	uint64_t	z = (random->state += UINT64_C(0x9E3779B97F4A7C15));

	z = (z ^ (z >> 30)) * UINT64_C(0xBF58476D1CE4E5B9);
	z = (z ^ (z >> 27)) * UINT64_C(0x94D049BB133111EB);
	return (uint32_t) ((z ^ (z >> 31)) >> 32) % limit;
}
