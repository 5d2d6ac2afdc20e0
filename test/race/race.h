/*
 * race.h
 *		Declarations of the race program, grouped by the files that they
 *		belong to.
 */
#ifndef RACE_H
#define RACE_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include <libpq-fe.h>

#include "chance.h"

#define LIVE_KEYS	3			/* good keys, which verifiers ask for */
#define GONE_KEYS	2			/* keys revoked last, which they check */
#define ID_SIZE		32
#define SECRET_SIZE	40

/*
 * The number of answers that every verifier gives in the quiet after a trial.
 */
#define QUIET_ANSWERS	(2 * GONE_KEYS + 2)

/* If something takes this long, in nanoseconds, we give up. */
#define STUCK		(INT64_C(120) * 1000000000)

/* What a Stamp is: a time, or a position in the WAL. */
typedef enum Clock
{
	TIME, WAL, CLOCKS
} Clock;

/* session.c: connections */
extern void die(const char *format,...) __attribute__((format(printf, 1, 2), noreturn));
extern void init_sessions(void);
extern PGconn *open_session(const char *conninfo);
extern PGconn *open_standby_session(const char *conninfo, bool *conflict);
extern bool is_conflict(const PGconn *conn, const PGresult *result, bool conflict);
extern PGresult *run_query(PGconn *conn, const char *format,...) __attribute__((format(printf, 2, 3)));
extern void run_command(PGconn *conn, const char *format,...) __attribute__((format(printf, 2, 3)));
extern bool has_sqlstate(const PGresult *result, const char *sqlstate);
extern Stamp parse_position(const char *text);

/* model.c: what has happened, and which answers that allows */
#define CHANGES_KEPT 64

/* The state that an org was given, and when, by each clock. */
typedef struct Change
{
	Stamp		sent[CLOCKS];
	Stamp		acked[CLOCKS];	/* 0 while the answer is awaited */
	bool		suspended;
	const char *tier;
} Change;

typedef struct Org
{
	char		id[ID_SIZE];
	pthread_mutex_t lock;		/* protects the rest */
	uint64_t	nchanges;		/* the latest is (nchanges - 1) % CHANGES_KEPT */
	Change		changes[CHANGES_KEPT];
} Org;

/* When something was sent, and when it was acknowledged. */
typedef struct Event
{
	_Atomic Stamp sent[CLOCKS];
	_Atomic Stamp acked[CLOCKS];
} Event;

typedef struct Key
{
	char		id[ID_SIZE];
	char		secret[SECRET_SIZE];
	uint64_t	serial;			/* tells keys apart that had the same place */
	Org		   *org;
	uint64_t	first_change;	/* the org's oldest that it can be seen with */
	const char *_Atomic road;	/* how it was revoked */
	const char *_Atomic end;	/* and how that was committed */
	Event		born;			/* the commit that made it good */
	Event		died;			/* the commit that ended that */
} Key;

/* What one session has seen of a key; its later answers must show it, too. */
typedef struct Sight
{
	uint64_t	serial;			/* of the key */
	bool		born;
	bool		dead;
	uint64_t	change;			/* the org's; it saw this one or a later one */
} Sight;

/* One verification: who made it, and what the answer was. */
typedef struct Answer
{
	const char *place;
	const char *session;
	Sight	   *sights;			/* of the session, from new_sights() */
	const Key  *key;
	bool		bound[CLOCKS];	/* does this clock bind it? */
	bool		may_unsee;		/* do other sessions fill its cache? */
	Stamp		sent[CLOCKS];
	Stamp		answered[CLOCKS];
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
extern void begin_event(Event *event, Stamp position);
extern void end_event(Event *event);
extern void place_event(Event *event, Stamp position);
extern void undo_event(Event *event);
extern void begin_change(Org *org, bool suspended, const char *tier, Stamp position);
extern void end_change(Org *org);
extern void place_change(Org *org, Stamp position);
extern Change current_state(Org *org);
extern Sight *new_sights(void);
extern bool check_answer(const Answer *answer);
extern void report_impossible(const char *place, const char *session, const char *format,...) __attribute__((format(printf, 3, 4), noreturn));

/* standby.c: how far a standby is behind */
typedef enum Waiting
{
	WAITS_NEVER, WAITS_ALWAYS, WAITS_BY_TURNS
} Waiting;

typedef struct StandbyCounts
{
	uint64_t	waiting;		/* trials whose commits waited for it */
	uint64_t	behind;			/* trials during which its replay was paused */
	uint64_t	pauses;
	Stamp		longest;		/* time that it took to catch up */
} StandbyCounts;

extern StandbyCounts standby_counts;

extern void open_standby(const char *conninfo, Waiting waiting, uint64_t seed);
extern bool has_standby(void);
extern bool vary_standby(void);
extern void follow_standby(Stamp position);
extern bool waits_for_standby(Stamp time);
extern void close_standby(void);

/* verifiers.c: the sessions that only verify */
typedef struct Mode Mode;

/* A server, and how to read its positions beside a verification. */
typedef struct Place
{
	const char *name;
	const char *query;			/* a verification of $1 */
	const char *cursor;			/* of all rows of keys (n, secret) */
} Place;

typedef struct Verifier
{
	pthread_t	thread;
	const Place *place;
	const Mode *mode;
	const char *conninfo;
	PGconn	   *conn;
	bool		conflict;		/* did it have a recovery conflict? */
	Sight	   *sights;
	Random		random;
	unsigned	turn;
	_Atomic uint64_t accepted;
	_Atomic uint64_t refused;
	_Atomic uint64_t tested;
	_Atomic uint64_t late;
	_Atomic uint64_t failures;
	_Atomic uint64_t lost;
	_Atomic uint64_t progress;	/* answers that were asked for separately */
	_Atomic uint64_t goal;		/* the progress that ends the quiet */
} Verifier;

struct Mode
{
	const char *name;
	const char *begin;			/* NULL for none */
	const char *write;			/* one transaction in four begins with this */
	bool		only_primary;
	void		(*round) (Verifier *verifier);
};

typedef struct VerifierCounts
{
	uint64_t	accepted;
	uint64_t	refused;
	uint64_t	tested;			/* answers whose opposite was impossible */
	uint64_t	late;			/* accepted, after the primary had revoked */
	uint64_t	failures;		/* serialization failures, recovery conflicts */
	uint64_t	lost;			/* connections, to recovery conflicts */
} VerifierCounts;

extern void make_progress(Verifier *verifier, int answers);
extern void start_verifiers(const char *conninfo, bool on_standby, int count, uint64_t seed);
extern void rouse_verifiers(void);
extern void await_verifiers(void);
extern void stop_verifiers(void);
extern VerifierCounts count_verifications(bool on_standby);
extern void print_verifiers(void);

/* verifier_session.c: their connections */
extern const Place primary;
extern const Place standby;

extern bool has_status(Verifier *verifier, const PGresult *result, ExecStatusType status);
extern bool do_command(Verifier *verifier, const char *sql);
extern void end_transaction(Verifier *verifier, bool success);
extern void open_verifier(Verifier *verifier);
extern void reopen_verifier(Verifier *verifier);
extern void renew_verifier(Verifier *verifier);
extern void check_caching(Verifier *verifier);

/* modes.c: how they verify */
extern const Mode modes[];
extern const int nmodes;

/* own.c: a session that verifies what it has not committed */
extern void start_own_session(const char *conninfo, uint64_t seed);
extern void stop_own_session(void);
extern uint64_t count_own_rounds(void);

/* steps.c: what a session changes, and how that ends */
typedef struct Step
{
	enum
	{
		NOTHING, KEY_DIES, KEY_BORN, KEY_FREED, KEY_VOID, ORG_CHANGES
	}			effect;			/* KEY_VOID: a key that is never born */
	const struct Restriction *restriction;	/* of a key that is freed */
	Key		   *key;
	int			slot;			/* of the key among the live ones */
	Org		   *org;
	bool		suspended;		/* what the org becomes */
	const char *tier;
	bool		located;		/* do we ask for its position in the WAL? */
	char		sql[256];		/* sent in the trial */
} Step;

typedef struct Writer
{
	PGconn	   *conn;
	int			number;
	Random		random;
	Step		step;
	bool		failed;			/* did it fail to serialize? */
} Writer;

extern void mint_key(PGconn *conn, Key *key);
extern void update_row(Writer *writer);
extern void prepare_step(Writer *writer, bool is_org_step);
extern void print_steps(void);

/* writers.c: the sessions that mint, change and revoke */
typedef struct WriterCounts
{
	uint64_t	minted;
	uint64_t	revoked;
	uint64_t	storms;
	uint64_t	row_updates;	/* of keys that stay live */
	uint64_t	serialization_failures;
} WriterCounts;

extern WriterCounts writer_counts;

extern bool shares_cache;

extern void open_writers(const char *conninfo, uint64_t seed);
extern void set_commits(const char *synchronous_commit);
extern Stamp flushed_position(void);
extern void run_trial(void);
extern void close_writers(void);

#endif							/* RACE_H */
