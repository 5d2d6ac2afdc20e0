/*
 * race.c
 *		Random trials of what a revocation promises, on a running server.
 *
 * race [--trials N] [--seconds N] [--seed N] [--verifiers N] CONNECTION-STRING
 *
 * Sessions that verify keys in all kinds of transactions run beside sessions
 * that mint, revoke and change them.  Every call is stamped before it is sent
 * and after its answer has arrived, and every answer is checked at once
 * against what had happened by then: model.c has the rules, verifiers.c and
 * own.c the sessions that ask, writers.c those that change and the shape of a
 * trial.
 *
 * The database must have the extension, its functions on the search_path, and
 * the server must allow 2 prepared transactions.  The seed fixes what is
 * tried, but not how the sessions meet.
 *
 * Exit status: 0 after the trials or the seconds, 1 at the first impossible answer, which is
 * printed, 2 if anything else went wrong.
 */
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>

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

static void
print_progress(Stamp start)
{
	fprintf(stderr, "%llu trials, %llu verifications, %llu revocations, %.0f s\n",
			(unsigned long long) trial,
			(unsigned long long) count_verifications(),
			(unsigned long long) writer_counts.revoked,
			(now() - start) / 1e9);
}

static void
print_summary(Stamp start, uint64_t seed)
{
	const WriterCounts *counts = &writer_counts;

	printf("no impossible answer: %llu trials, %llu verifications, "
		   "%llu rounds with own changes, %llu keys minted, "
		   "%llu revocations, %llu aborted, %llu two-phase, "
		   "%llu changes of orgs, %llu updates of live keys, "
		   "%llu serialization failures, seed %llu, %.1f s\n",
		   (unsigned long long) trial,
		   (unsigned long long) count_verifications(),
		   (unsigned long long) count_own_rounds(),
		   (unsigned long long) counts->minted,
		   (unsigned long long) counts->revoked,
		   (unsigned long long) counts->aborted,
		   (unsigned long long) counts->two_phase,
		   (unsigned long long) counts->org_changes,
		   (unsigned long long) counts->row_updates,
		   (unsigned long long) (counts->serialization_failures +
								 count_verifier_failures()),
		   (unsigned long long) seed, (now() - start) / 1e9);
}

int
main(int argc, char **argv)
{
	static const struct option options[] = {
		{"trials", required_argument, NULL, 't'},
		{"seconds", required_argument, NULL, 'S'},
		{"seed", required_argument, NULL, 's'},
		{"verifiers", required_argument, NULL, 'v'},
		{NULL, 0, NULL, 0},
	};
	uint64_t	trials = 1000;
	uint64_t	seconds = UINT32_MAX;
	uint64_t	seed = (uint64_t) now() % 1000000000;
	int			nverifiers = 6;
	Stamp		start = now();
	Stamp		last_progress = start;
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
				nverifiers = parse_number(optarg, 1, 60);
				break;
			default:
				return 2;
		}
	}
	if (optind != argc - 1)
		die("usage: race [--trials N] [--seconds N] [--seed N] [--verifiers N] "
			"CONNECTION-STRING");
	conninfo = argv[optind];

	model_init();
	open_writers(conninfo, seed);
	start_own_session(conninfo, seed);
	start_verifiers(conninfo, nverifiers, seed);
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
	stop_own_session();
	close_writers();
	print_summary(start, seed);
	return 0;
}
