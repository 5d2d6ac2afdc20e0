/*
 * race.c
 *		Random trials of what a revocation promises, on a running server.
 *
 * 	race [--trials N] [--seconds N] [--seed N] [--verifiers N]
 * 		[--standby CONNECTION-STRING [--standby-verifiers N]
 * 		[--remote-apply always|never|by-turns]] CONNECTION-STRING
 *
 * Sessions that verify keys in many kinds of transactions run beside sessions
 * that mint, revoke and change keys.  Every call is stamped before it is sent
 * and after its answer has arrived, and we check every answer at once against
 * what had happened by then. model.c has the rules. verifiers.c, modes.c and
 * own.c have the sessions that verify. writers.c and steps.c have the sessions
 * that change keys, and define a trial. standby.c decides how far a standby is
 * behind.
 *
 * The database must have the extension, with its functions on the search_path,
 * and the server must allow 2 prepared transactions.  A standby must follow
 * the server by streaming, verify keys, and have the master key file.  Unless
 * the trials never wait for it, the standby must be the only one in
 * synchronous_standby_names.  Without verifiers on the primary, only errors on
 * the standby are found.
 *
 * The seed determines what is tried, but not how the sessions meet.
 *
 * Exit status: 0 after the trials or the seconds, 1 at the first impossible
 * answer, which is printed, 2 if anything else went wrong.
 */
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "race.h"

#define PROGRESS_INTERVAL	(INT64_C(10) * 1000000000)

static uint64_t
parse_number(const char *text, uint64_t min, uint64_t max)
{
	char	   *end;
	uint64_t	number = strtoull(text, &end, 10);

	if (end == text || *end != '\0' || number < min || number > max)
		die("\"%s\" is not a number from %llu to %llu", text,
			(unsigned long long) min, (unsigned long long) max);
	return number;
}

static Waiting
parse_waiting(const char *text)
{
	if (strcmp(text, "always") == 0)
		return WAITS_ALWAYS;
	if (strcmp(text, "never") == 0)
		return WAITS_NEVER;
	if (strcmp(text, "by-turns") != 0)
		die("\"%s\" is not always, never or by-turns", text);
	return WAITS_BY_TURNS;
}

static uint64_t
total(bool on_standby)
{
	VerifierCounts counts = count_verifications(on_standby);

	return counts.accepted + counts.refused;
}

static void
print_progress(Stamp start)
{
	fprintf(stderr, "%llu trials, %llu verifications on the primary, "
			"%llu on the standby, %llu revocations, %.0f s\n",
			(unsigned long long) trial,
			(unsigned long long) total(false),
			(unsigned long long) total(true),
			(unsigned long long) writer_counts.revoked,
			(now() - start) / 1e9);
}

static void
print_standby(void)
{
	const StandbyCounts *counts = &standby_counts;
	VerifierCounts verified = count_verifications(true);

	printf("  standby: commits waited for it in %llu trials; "
		   "replay paused %llu times, for %llu trials; "
		   "it took %.0f ms to catch up at most; "
		   "%llu keys accepted late, %llu recovery conflicts, "
		   "of which %llu ended the session\n",
		   (unsigned long long) counts->waiting,
		   (unsigned long long) counts->pauses,
		   (unsigned long long) counts->behind,
		   counts->longest / 1e6,
		   (unsigned long long) verified.late,
		   (unsigned long long) verified.failures,
		   (unsigned long long) verified.lost);
}

static void
print_summary(Stamp start, uint64_t seed)
{
	const WriterCounts *counts = &writer_counts;

	printf("no impossible answer: seed %llu, %.1f s, %llu trials "
		   "(%llu of them storms), %llu verifications on the primary "
		   "(%llu had one possible answer only), %llu on the standby (%llu), "
		   "%llu rounds with own changes, "
		   "%llu keys minted, %llu revocations, "
		   "%llu updates of live keys, %llu serialization failures\n",
		   (unsigned long long) seed, (now() - start) / 1e9,
		   (unsigned long long) trial,
		   (unsigned long long) counts->storms,
		   (unsigned long long) total(false),
		   (unsigned long long) count_verifications(false).tested,
		   (unsigned long long) total(true),
		   (unsigned long long) count_verifications(true).tested,
		   (unsigned long long) count_own_rounds(),
		   (unsigned long long) counts->minted,
		   (unsigned long long) counts->revoked,
		   (unsigned long long) counts->row_updates,
		   (unsigned long long) (counts->serialization_failures +
								 count_verifications(false).failures));
	print_steps();
	print_verifiers();
	if (has_standby())
		print_standby();
}

int
main(int argc, char **argv)
{
	static const struct option options[] = {
		{"trials", required_argument, NULL, 't'},
		{"seconds", required_argument, NULL, 'S'},
		{"seed", required_argument, NULL, 's'},
		{"verifiers", required_argument, NULL, 'v'},
		{"standby", required_argument, NULL, 'b'},
		{"standby-verifiers", required_argument, NULL, 'w'},
		{"remote-apply", required_argument, NULL, 'r'},
		{NULL, 0, NULL, 0},
	};
	uint64_t	trials = 1000;
	uint64_t	seconds = UINT32_MAX;
	uint64_t	seed = (uint64_t) now() % 1000000000;
	int			nverifiers = 7;
	int			nstandby_verifiers = 6;
	Waiting		waiting = WAITS_BY_TURNS;
	Stamp		start = now();
	Stamp		last_progress = start;
	const char *standby = NULL;
	const char *conninfo;
	int			option;

	while ((option = getopt_long(argc, argv, "", options, NULL)) != -1)
	{
		switch (option)
		{
			case 't':
				trials = parse_number(optarg, 1, UINT32_MAX);
				break;
			case 'S':
				seconds = parse_number(optarg, 1, UINT32_MAX);
				break;
			case 's':
				seed = parse_number(optarg, 0, UINT32_MAX);
				break;
			case 'v':
				nverifiers = parse_number(optarg, 0, 60);
				break;
			case 'b':
				standby = optarg;
				break;
			case 'w':
				nstandby_verifiers = parse_number(optarg, 1, 60);
				break;
			case 'r':
				waiting = parse_waiting(optarg);
				break;
			default:
				return 2;
		}
	}
	if (optind != argc - 1)
		die("usage: race [--trials N] [--seconds N] [--seed N] [--verifiers N] "
			"[--standby CONNECTION-STRING [--standby-verifiers N] "
			"[--remote-apply always|never|by-turns]] CONNECTION-STRING");
	conninfo = argv[optind];
	if (nverifiers == 0 && standby == NULL)
		die("nobody would verify");

	fprintf(stderr, "seed %llu, %llu trials, %llu s at most\n",
			(unsigned long long) seed, (unsigned long long) trials,
			(unsigned long long) seconds);
	model_init();
	init_sessions();
	if (standby != NULL)
		open_standby(standby, waiting, seed);
	open_writers(conninfo, seed);
	if (standby != NULL)
		start_verifiers(standby, true, nstandby_verifiers, seed);
	start_verifiers(conninfo, false, nverifiers, seed);
	if (nverifiers > 0)
		start_own_session(conninfo, seed);
	while (trial < trials && now() - start < (Stamp) seconds * 1000000000)
	{
		run_trial();
		if (now() - last_progress > PROGRESS_INTERVAL)
		{
			last_progress = now();
			print_progress(start);
		}
	}
	stop_verifiers();
	if (nverifiers > 0)
		stop_own_session();
	print_summary(start, seed);
	if (standby != NULL)
		close_standby();
	close_writers();
	return 0;
}
