/*
 * load.c
 *		Loads a server with everything that changes keys, and keeps a journal of
 *		its answers, to compare with what the server has after a fault.
 *
 * load SEED
 *
 * FaultTest.pm starts this program and sends it commands, one per line.  The
 * program answers each with a line that begins with "ok".  It prints everything
 * that must not happen to stderr, and counts it as "wrong".
 *
 *	connect CONNINFO			the server from now on
 *	start [unpaced]				start clients (clients.c)
 *	start lasting				start clients that connect again when they are cut off
 *	standby BOUND CONNINFO		start clients that verify on a standby, where no key may
 *								be accepted that was revoked BOUND ms before
 *	await						wait until all have lost their connections
 *	stop						end them
 *	stamp						what time it is
 *	await_first SINCE			wait until something sent after a time was done
 *	first						how many ms after that time each kind of request was
 *	check						check the server (check.c)
 *	check after failover		likewise; the last flush may be lost
 *	compare BEGIN END CONNINFO	check another one, which is a copy of it
 *	counts						what was done so far, and which errors there were
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "load.h"

static void
print_counts(void)
{
	printf("ok mints=%lld revocations=%lld verifications=%lld refused=%lld flushes=%lld fetches=%lld control=%lld on_standbys=%lld late=%lld oldest_ms=%lld unanswered_mints=%lld unanswered_revocations=%lld unanswered_verifications=%lld",
		   (long long) done[MINT], (long long) done[REVOKE],
		   (long long) done[VERIFY], (long long) verified_refused,
		   (long long) done[FLUSH], (long long) done[REFRESH],
		   (long long) done[CONTROL], (long long) done[STANDBY],
		   (long long) late, (long long) oldest / 1000000,
		   (long long) unanswered[MINT],
		   (long long) unanswered[REVOKE], (long long) unanswered[VERIFY]);
	print_errors();
	printf(" wrong=%d\n", wrongs);
}

int
main(int argc, char **argv)
{
	char		line[1024];
	char		conninfo[1024] = "";
	char		standby[1024] = "";
	uint64_t	seed;
	long long	begin;
	long long	end;
	int			at;
	int			bound;

	if (argc != 2)
		die("usage: load SEED");
	seed = strtoull(argv[1], NULL, 10);
	setvbuf(stdout, NULL, _IOLBF, 0);
	while (fgets(line, sizeof(line), stdin) != NULL)
	{
		line[strcspn(line, "\n")] = '\0';
		if (strncmp(line, "connect ", 8) == 0)
		{
			strcpy(conninfo, line + 8);
			puts("ok");
		}
		else if (strcmp(line, "start") == 0 || strcmp(line, "start unpaced") == 0)
		{
			start_clients(conninfo, seed++, line[5] == '\0');
			puts("ok");
		}
		else if (strcmp(line, "start lasting") == 0)
		{
			start_lasting_clients(conninfo, seed++);
			puts("ok");
		}
		else if (sscanf(line, "standby %d %n", &bound, &at) == 1)
		{
			strcpy(standby, line + at);
			start_standby_clients(standby, seed++, bound);
			puts("ok");
		}
		else if (sscanf(line, "await_first %lld", &begin) == 1)
		{
			await_first(begin);
			puts("ok");
		}
		else if (strcmp(line, "first") == 0)
			print_first();
		else if (strcmp(line, "await") == 0)
		{
			await_clients();
			puts("ok");
		}
		else if (strcmp(line, "stop") == 0)
		{
			stop_clients();
			puts("ok");
		}
		else if (strcmp(line, "stamp") == 0)
			printf("ok stamp=%lld\n", (long long) now());
		else if (strcmp(line, "check") == 0)
			check_server(conninfo, false);
		else if (strcmp(line, "check after failover") == 0)
			check_server(conninfo, true);
		else if (sscanf(line, "compare %lld %lld %n", &begin, &end, &at) == 2)
			compare_server(line + at, begin, end);
		else if (strcmp(line, "counts") == 0)
			print_counts();
		else
			die("no such command: %s", line);
	}
	return 0;
}
