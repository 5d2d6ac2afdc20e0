/*
 * load.h
 *		Declarations of the load program, grouped by the files that they
 *		belong to.
 */
#ifndef LOAD_H
#define LOAD_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include <libpq-fe.h>

#include "../race/chance.h"

#define ID_SIZE		32
#define SECRET_SIZE	40

/* journal.c: what was asked for, what was answered, and what went wrong */
typedef struct Key
{
	char		id[ID_SIZE];	/* these two from mint_acked on */
	char		secret[SECRET_SIZE];
	_Atomic Stamp mint_sent;
	_Atomic Stamp mint_acked;
	_Atomic Stamp revoke_sent;
	_Atomic Stamp revoke_acked;
	_Atomic bool refused;		/* minting failed: it must not be there */
	_Atomic int64_t accepted;	/* answers since the last check */
	_Atomic int64_t unanswered; /* verifications without one, likewise */
	_Atomic int64_t on_standbys;	/* verifications there, ever */
	int64_t		pending;		/* of "accepted", when a flush was asked for */
	_Atomic int64_t flushed;	/* of "accepted", when the last one was done */
	int64_t		history;		/* what the table had at the last check */
} Key;

typedef enum Operation
{
	MINT, REVOKE, VERIFY, FLUSH, REFRESH, CONTROL, STANDBY, OPERATIONS
} Operation;

extern _Atomic int64_t done[OPERATIONS];
extern _Atomic int64_t unanswered[OPERATIONS];
extern _Atomic int64_t verified_refused;
extern _Atomic int64_t late;
extern _Atomic int64_t oldest;
extern _Atomic int wrongs;

extern void die(const char *format,...) __attribute__((format(printf, 1, 2), noreturn));
extern void wrong(const char *format,...) __attribute__((format(printf, 1, 2)));
extern Key *new_key(int *number);
extern Key *key_of(int number);
extern int	number_of_keys(void);
extern void count_error(Operation operation, const char *sqlstate);
extern void print_errors(void);
extern void await_first(Stamp since);
extern void note_done(Operation operation, Stamp sent);
extern void print_first(void);

/* clients.c: the sessions that make the load */
extern void start_clients(const char *conninfo, uint64_t seed, bool paced);
extern void start_lasting_clients(const char *conninfo, uint64_t seed);
extern void start_standby_clients(const char *conninfo, uint64_t seed, int bound_ms);
extern void stop_clients(void);
extern void await_clients(void);
extern int64_t control_acked(void);

/* check.c: whether a server has what it must have */
extern void check_server(const char *conninfo, bool failed_over);
extern void compare_server(const char *conninfo, Stamp begin, Stamp end);

#endif							/* LOAD_H */
