/*
 * chance.h
 *		Time, pauses and random numbers, for test/race and test/faults.
 */
#ifndef CHANCE_H
#define CHANCE_H

#include <stdint.h>

/* CLOCK_MONOTONIC in nanoseconds.  0 stands for "has not happened". */
typedef int64_t Stamp;

typedef struct Random
{
	uint64_t	state;
} Random;

extern Stamp now(void);
extern void pause_for(int microseconds);
extern uint32_t below(Random *random, uint32_t limit);

#endif							/* CHANCE_H */
