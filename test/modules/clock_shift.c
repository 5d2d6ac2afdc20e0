/*
 * clock_shift.c
 *		A library to preload into a server whose clock is set by a test.
 *
 * The file that CLOCK_SHIFT names holds an int64: by how many microseconds the
 * wall clock is ahead of the real one.  The file is mapped, so a new value
 * takes effect in all processes at once.  The monotonic clock does not change,
 * as when a real clock is set.  A second int64, if the file has one, is for
 * CLOCK_BOOTTIME.
 *
 * We cannot use libfaketime: it turns itself off while select() waits, and
 * just then PostgreSQL 15 starts background workers from a signal handler.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

#define MILLION 1000000

static const volatile int64_t *shift = NULL;
static int	(*real_clock_gettime) (clockid_t, struct timespec *);

__attribute__((constructor))
static void
map_shift(void)
{
	const char *path = getenv("CLOCK_SHIFT");
	int			fd = path != NULL ? open(path, O_RDONLY | O_CLOEXEC) : -1;
	void	   *map;

	*(void **) &real_clock_gettime = dlsym(RTLD_NEXT, "clock_gettime");
	if (fd < 0)
		return;
	map = mmap(NULL, 2 * sizeof(int64_t), PROT_READ, MAP_SHARED, fd, 0);
	close(fd);
	if (map != MAP_FAILED)
		shift = map;
}

int
clock_gettime(clockid_t clock, struct timespec *time)
{
	int			result;
	int64_t		microseconds;

	if (real_clock_gettime == NULL)
		map_shift();
	result = real_clock_gettime(clock, time);
	if (result != 0 || shift == NULL ||
		(clock != CLOCK_REALTIME && clock != CLOCK_REALTIME_COARSE && clock != CLOCK_BOOTTIME))
		return result;
	microseconds = time->tv_sec * (int64_t) MILLION + time->tv_nsec / 1000 +
		shift[clock == CLOCK_BOOTTIME ? 1 : 0];
	time->tv_sec = microseconds / MILLION;
	time->tv_nsec = microseconds % MILLION * 1000;
	return 0;
}

int
gettimeofday(struct timeval *restrict time, void *restrict zone)
{
	struct timespec precise;

	(void) zone;
	if (clock_gettime(CLOCK_REALTIME, &precise) != 0)
		return -1;
	time->tv_sec = precise.tv_sec;
	time->tv_usec = precise.tv_nsec / 1000;
	return 0;
}

time_t
time(time_t *result)
{
	struct timespec precise;

	if (clock_gettime(CLOCK_REALTIME, &precise) != 0)
		return -1;
	if (result != NULL)
		*result = precise.tv_sec;
	return precise.tv_sec;
}
