/*
 * race.h
 *		What the files of the race program share, grouped by their owner.
 */
#ifndef RACE_H
#define RACE_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include <libpq-fe.h>

#define LIVE_KEYS	3			/* keys that verifiers hammer */
#define GONE_KEYS	2			/* keys revoked last, which they check */
#define ID_SIZE		32
#define SECRET_SIZE	40

/* CLOCK_MONOTONIC in nanoseconds.  0 stands for "has not happened". */
typedef int64_t Stamp;

/* session.c: connections, clock, random numbers */
typedef struct Random
{
	uint64_t	state;
} Random;

extern void die(const char *format,...) __attribute__((format(printf, 1, 2), noreturn));
extern Stamp now(void);
extern void pause_for(int microseconds);
extern uint32_t below(Random *random, uint32_t limit);
extern PGconn *open_session(const char *conninfo);
extern PGresult *run_query(PGconn *conn, const char *format,...) __attribute__((format(printf, 2, 3)));
extern void run_command(PGconn *conn, const char *format,...) __attribute__((format(printf, 2, 3)));
extern bool is_serialization_failure(const PGresult *result);

/* model.c: what has happened, and which answers that allows */
#define CHANGES_KEPT 64

/* The state that an org was given, and when. */
typedef struct Change
{
	Stamp		sent;
	Stamp		acked;			/* 0 while the answer is awaited */
	bool		suspended;
	const char *tier;
} Change;

typedef struct Org
{
	char		id[ID_SIZE];
	pthread_mutex_t lock;		/* of what follows */
	uint64_t	nchanges;		/* the latest is (nchanges - 1) % CHANGES_KEPT */
	Change		changes[CHANGES_KEPT];
} Org;

typedef struct Key
{
	char		id[ID_SIZE];
	char		secret[SECRET_SIZE];
	Org		   *org;
	uint64_t	first_change;	/* of the org, that the key can be seen with */
	const char *_Atomic road;	/* how it was revoked */
	_Atomic Stamp born_sent;	/* the commit of its minting */
	_Atomic Stamp born_acked;
	_Atomic Stamp died_sent;	/* the commit of its revocation */
	_Atomic Stamp died_acked;
} Key;

/* One verification, by whom, and how it came out. */
typedef struct Answer
{
	const char *session;
	const Key  *key;
	Stamp		sent;
	Stamp		answered;
	bool		accepted;
	const char *tier;
} Answer;

extern const char *const tiers[2];
extern Org	orgs[2];
extern Key *_Atomic live_keys[LIVE_KEYS];
extern Key *_Atomic gone_keys[GONE_KEYS];
extern _Atomic uint64_t ngone;	/* the latest is (ngone - 1) % GONE_KEYS */
extern _Atomic uint64_t trial;

extern void model_init(void);
extern Key *new_key(Org *org);
extern void bury_key(Key *key);
extern void begin_change(Org *org, bool suspended, const char *tier);
extern void end_change(Org *org);
extern Change current_state(Org *org);
extern void check_answer(const Answer *answer);
extern void report_impossible(const char *session, const char *format,...) __attribute__((format(printf, 2, 3), noreturn));

/* verifiers.c: the sessions that only verify */
extern void start_verifiers(const char *conninfo, int count, uint64_t seed);
extern void rouse_verifiers(void);
extern void await_verifiers(void);
extern void stop_verifiers(void);
extern uint64_t count_verifications(void);
extern uint64_t count_verifier_failures(void);

/* own.c: a session that verifies what it has not committed */
extern void start_own_session(const char *conninfo, uint64_t seed);
extern void stop_own_session(void);
extern uint64_t count_own_rounds(void);

/* writers.c: the sessions that mint, change and revoke */
typedef struct WriterCounts
{
	uint64_t	minted;
	uint64_t	revoked;
	uint64_t	org_changes;
	uint64_t	row_updates;	/* of keys that stay live */
	uint64_t	two_phase;		/* prepared transactions, of all kinds */
	uint64_t	aborted;
	uint64_t	serialization_failures;
} WriterCounts;

extern WriterCounts writer_counts;

extern void open_writers(const char *conninfo, uint64_t seed);
extern void run_trial(void);
extern void close_writers(void);

#endif							/* RACE_H */
