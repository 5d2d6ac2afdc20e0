/*
 * verifiers.c
 *		The sessions that only verify, each in a mode of its own.
 *
 * A verifier runs forever.  Between trials, and after it has given its answers
 * in the quiet, it rests after each answer, until the next trial wakes it.  So
 * it leaves the processors to the threads that make that trial.
 *
 * If a verifier stops answering, the program ends: a run without one of its
 * verifiers proves nothing.
 */
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "race.h"

#define REST			2000000 /* nanoseconds */
#define VERIFIERS_MAX	120
#define ROUNDS			100		/* of a session, on average */

/* After this many trials, everything must have happened to each verifier. */
#define ENOUGH_TRIALS	200

static Verifier verifiers[VERIFIERS_MAX];
static int	nverifiers;
static atomic_bool stopping;

static pthread_mutex_t rest_lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t roused = PTHREAD_COND_INITIALIZER;

/* Rest until rouse_verifiers(), but not for long. */
static void
rest(Verifier *verifier)
{
	struct timespec end;

	clock_gettime(CLOCK_REALTIME, &end);
	end.tv_nsec += REST;
	if (end.tv_nsec >= 1000000000)
	{
		end.tv_sec++;
		end.tv_nsec -= 1000000000;
	}
	pthread_mutex_lock(&rest_lock);
	if (verifier->progress >= verifier->goal)
		pthread_cond_timedwait(&roused, &rest_lock, &end);
	pthread_mutex_unlock(&rest_lock);
}

/* Count answers, and rest if there were enough. */
void
make_progress(Verifier *verifier, int answers)
{
	verifier->progress += answers;
	if (verifier->progress >= verifier->goal)
		rest(verifier);
}

static void *
work(void *arg)
{
	Verifier   *verifier = arg;

	while (!stopping)
	{
		verifier->mode->round(verifier);
		if (PQstatus(verifier->conn) != CONNECTION_OK)
			reopen_verifier(verifier);
		else if (below(&verifier->random, ROUNDS) == 0)
			renew_verifier(verifier);
	}
	PQfinish(verifier->conn);
	return NULL;
}

/*
 * Start verifiers in all modes in turn.  There must be live keys, on a
 * standby, too, and nobody may change them yet.
 */
void
start_verifiers(const char *conninfo, bool on_standby, int count, uint64_t seed)
{
	int			mode = 0;

	for (int i = 0; i < count; i++, mode++)
	{
		Verifier   *verifier = &verifiers[nverifiers];

		if (nverifiers == VERIFIERS_MAX)
			die("too many verifiers");
		if (on_standby && modes[mode % nmodes].only_primary)
			mode++;
		verifier->mode = &modes[mode % nmodes];
		verifier->place = on_standby ? &standby : &primary;
		verifier->conninfo = conninfo;
		verifier->sights = new_sights();
		verifier->random.state = seed * 1000 + nverifiers;
		open_verifier(verifier);
		check_caching(verifier);
		nverifiers++;
		if (pthread_create(&verifier->thread, NULL, work, verifier) != 0)
			die("could not start a thread");
	}
}

/* Let all verifiers work without rest until await_verifiers(). */
void
rouse_verifiers(void)
{
	pthread_mutex_lock(&rest_lock);
	for (int i = 0; i < nverifiers; i++)
		verifiers[i].goal = UINT64_MAX;
	pthread_cond_broadcast(&roused);
	pthread_mutex_unlock(&rest_lock);
}

/* Wait until every verifier has looked at all keys that were revoked last. */
void
await_verifiers(void)
{
	Stamp		deadline = now() + STUCK;

	for (int i = 0; i < nverifiers; i++)
		verifiers[i].goal = verifiers[i].progress + QUIET_ANSWERS;
	for (int i = 0; i < nverifiers; i++)
	{
		while (verifiers[i].progress < verifiers[i].goal)
		{
			if (now() > deadline)
				die("%s, %s: no answer", verifiers[i].place->name,
					verifiers[i].mode->name);
			pause_for(50);
		}
	}
}

/* Stop the verifiers, and make sure that each of them has done its work. */
void
stop_verifiers(void)
{
	stopping = true;
	for (int i = 0; i < nverifiers; i++)
		pthread_join(verifiers[i].thread, NULL);
	for (int i = 0; trial >= ENOUGH_TRIALS && i < nverifiers; i++)
	{
		if (verifiers[i].accepted == 0 || verifiers[i].refused == 0)
			die("%s, %s: never %s", verifiers[i].place->name,
				verifiers[i].mode->name,
				verifiers[i].accepted == 0 ? "accepted" : "refused");
	}
}

VerifierCounts
count_verifications(bool on_standby)
{
	VerifierCounts sum = {0};

	for (int i = 0; i < nverifiers; i++)
	{
		const Verifier *verifier = &verifiers[i];

		if ((verifier->place == &standby) != on_standby)
			continue;
		sum.accepted += verifier->accepted;
		sum.refused += verifier->refused;
		sum.tested += verifier->tested;
		sum.late += verifier->late;
		sum.failures += verifier->failures;
		sum.lost += verifier->lost;
	}
	return sum;
}

/* Print one line for each verifier. */
void
print_verifiers(void)
{
	for (int i = 0; i < nverifiers; i++)
	{
		const Verifier *verifier = &verifiers[i];

		printf("  %s, %s: %llu accepted, %llu refused, %llu tested, "
			   "%llu failures",
			   verifier->place->name, verifier->mode->name,
			   (unsigned long long) verifier->accepted,
			   (unsigned long long) verifier->refused,
			   (unsigned long long) verifier->tested,
			   (unsigned long long) verifier->failures);
		if (verifier->place == &standby)
			printf(", %llu connections lost, %llu accepted late",
				   (unsigned long long) verifier->lost,
				   (unsigned long long) verifier->late);
		putchar('\n');
	}
}
