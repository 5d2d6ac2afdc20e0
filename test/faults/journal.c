/*
 * journal.c
 *		The journal of what was asked of the server and what it answered,
 *		kept outside of the server.
 *
 * A key is identified by its number, which is in its name.  So we can tell a
 * key whose minting was never answered from a key that nobody asked for.  A
 * session that changes a key writes the stamp of the request before it sends
 * the request, and the stamp of the answer after it has received the answer.
 */
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "load.h"

#define KEYS_MAX	1000000
#define ERRORS_MAX	50

static Key *keys;
static _Atomic int nkeys = 0;

_Atomic int64_t done[OPERATIONS];
_Atomic int64_t unanswered[OPERATIONS];
_Atomic int64_t verified_refused;
_Atomic int64_t late;			/* accepted by a standby beyond its bound */
_Atomic int64_t oldest;			/* the oldest revocation of an accepted key */
_Atomic int wrongs = 0;

static const char *const names[OPERATIONS] = {
	"mint", "revoke", "verify", "flush", "refresh", "control", "standby"
};

static struct
{
	Operation	operation;
	char		sqlstate[6];
	int64_t		count;
}			errors[ERRORS_MAX];
static int	nerrors = 0;

/* What we wait for after a fault: requests that were sent since then. */
static _Atomic Stamp awaited;
static _Atomic Stamp first[OPERATIONS];
static pthread_mutex_t errors_lock = PTHREAD_MUTEX_INITIALIZER;

/* Give up: not a wrong answer, but a run that says nothing. */
void
die(const char *format,...)
{
	va_list		args;

	fputs("load: ", stderr);
	va_start(args, format);
	vfprintf(stderr, format, args);
	va_end(args);
	fputc('\n', stderr);
	_exit(2);
}

/* Tell of something that must not be. */
void
wrong(const char *format,...)
{
	va_list		args;

	wrongs++;
	fputs("load: WRONG: ", stderr);
	va_start(args, format);
	vfprintf(stderr, format, args);
	va_end(args);
	fputc('\n', stderr);
}

/* Room for a key that is about to be minted. */
Key *
new_key(int *number)
{
	static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

	pthread_mutex_lock(&lock);
	if (keys == NULL)
		keys = calloc(KEYS_MAX, sizeof(Key));
	if (keys == NULL || nkeys == KEYS_MAX)
		die("no room for another key");
	*number = nkeys;
	keys[*number].mint_sent = now();
	nkeys++;
	pthread_mutex_unlock(&lock);
	return &keys[*number];
}

Key *
key_of(int number)
{
	return &keys[number];
}

int
number_of_keys(void)
{
	return nkeys;
}

/* Note an error that the server answered with. */
void
count_error(Operation operation, const char *sqlstate)
{
	int			i = 0;

	pthread_mutex_lock(&errors_lock);
	while (i < nerrors && (errors[i].operation != operation ||
						   strcmp(errors[i].sqlstate, sqlstate) != 0))
		i++;
	if (i == ERRORS_MAX)
		die("too many kinds of errors");
	if (i == nerrors)
	{
		errors[i].operation = operation;
		snprintf(errors[i].sqlstate, sizeof(errors[i].sqlstate), "%s", sqlstate);
		nerrors++;
	}
	errors[i].count++;
	pthread_mutex_unlock(&errors_lock);
}

/* Print them as words like mint:53100=7. */
void
print_errors(void)
{
	pthread_mutex_lock(&errors_lock);
	for (int i = 0; i < nerrors; i++)
		printf(" %s:%s=%lld", names[errors[i].operation], errors[i].sqlstate,
			   (long long) errors[i].count);
	pthread_mutex_unlock(&errors_lock);
}

/* From now on, note when something first succeeds that was sent after "since". */
void
await_first(Stamp since)
{
	awaited = since;
	for (int i = 0; i < OPERATIONS; i++)
		first[i] = 0;
}

void
note_done(Operation operation, Stamp sent)
{
	Stamp		none = 0;

	if (awaited != 0 && sent > awaited)
		atomic_compare_exchange_strong(&first[operation], &none, now());
}

/* Print after how many ms that was; what has not succeeded yet is left out. */
void
print_first(void)
{
	printf("ok");
	for (int i = 0; i < OPERATIONS; i++)
		if (first[i] != 0)
			printf(" %s=%lld", names[i], (long long) (first[i] - awaited) / 1000000);
	printf("\n");
}
