/*
 * test_clock.c
 *		A library to preload into a server whose monotonic clock a test counts.
 *
 * The file that TEST_CLOCK names holds an int64, the time of a clock that all
 * processes share, in nanoseconds.  While test_clock_step is not 0, each reading
 * of CLOCK_MONOTONIC in this process advances that clock by 1 to so many
 * nanoseconds, and gets the new time.  So no two readings are the same, and
 * their order is known.  test_clock_reading is the last one.
 *
 * After one reading in test_clock_pause, the process lets others run.  That
 * makes the time long between a reading and what is decided by it.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <sched.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#define SECOND INT64_C(1000000000)

int64_t		test_clock_step = 0;
int			test_clock_pause = 0;
int64_t		test_clock_reading = 0;
uint64_t	test_clock_chance = 1;

static int64_t *shared = NULL;
static int	(*real_clock_gettime) (clockid_t, struct timespec *);

__attribute__((constructor))
static void
map_clock(void)
{
	const char *path = getenv("TEST_CLOCK");
	int			fd = path != NULL ? open(path, O_RDWR | O_CLOEXEC) : -1;
	void	   *map;

	*(void **) &real_clock_gettime = dlsym(RTLD_NEXT, "clock_gettime");
	if (fd < 0)
		return;
	map = mmap(NULL, sizeof(int64_t), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	close(fd);
	if (map != MAP_FAILED)
		shared = map;
}

uint64_t	test_clock_random(void);

/* xorshift64* */
uint64_t
test_clock_random(void)
{
	test_clock_chance ^= test_clock_chance >> 12;
	test_clock_chance ^= test_clock_chance << 25;
	test_clock_chance ^= test_clock_chance >> 27;
	return test_clock_chance * UINT64_C(2685821657736338717);
}

int
clock_gettime(clockid_t clock, struct timespec *time)
{
	int64_t		now;

	if (real_clock_gettime == NULL)
		map_clock();
	if (test_clock_step == 0 || shared == NULL || clock != CLOCK_MONOTONIC)
		return real_clock_gettime(clock, time);

	now = __atomic_add_fetch(shared, 1 + test_clock_random() % test_clock_step,
							 __ATOMIC_SEQ_CST);
	test_clock_reading = now;
	time->tv_sec = now / SECOND;
	time->tv_nsec = now % SECOND;
	if (test_clock_pause > 0 && test_clock_random() % test_clock_pause == 0)
		sched_yield();
	return 0;
}
