/*
 * databases.h
 *		The databases that background workers look after, and how to ask a
 *		worker for something.
 */
#ifndef OA_DATABASES_H
#define OA_DATABASES_H

#include "overten_auth.h"
#include "settings.h"
#include "datatype/timestamp.h"
#include "port/atomics.h"
#include "storage/condition_variable.h"
#include "storage/lwlock.h"
#include "storage/proc.h"

/* databases.c: what processes share, where the library is preloaded */
#define OA_FAILURE_MAX		200 /* bytes of an error message that are kept */
#define OA_OUTCOME_MAX		200

/* Requests to a worker, which the lock of the databases protects. */
typedef struct OaRequests
{
	uint64		asked;			/* number of the last one */
	uint64		done;			/* those up to here are fulfilled */
	uint64		failed;			/* up to here, unless done, have failed */
	ConditionVariable changed;	/* whether they are; or the database's OID */
} OaRequests;

/* The state of signing keys, which the lock of the databases protects. */
typedef struct OaFetchState
{
	bool		wanted;			/* is a Firebase project configured? */
	PGPROC	   *worker;			/* that fetches; NULL if none does */
	TimestampTz tried_at;		/* begin of the last fetch; 0 if none */
	TimestampTz fetched_at;		/* begin of the last that succeeded */
	TimestampTz next_fetch_at;
	int			failures;		/* in a row; a fetch that runs is one */
	OaRequests	requests;		/* for a fetch */
	char		outcome[OA_OUTCOME_MAX];	/* of the last fetch; "" if none */
} OaFetchState;

/* The jobs of a usage worker; see usage_jobs.c. */
typedef enum OaJob
{
	OA_FLUSHING,
	OA_CLEANING,				/* removing history that is old, or of no key */
	OA_LOOKING_AT_KEYS,			/* are signing keys to be fetched? */
	OA_JOBS
} OaJob;

typedef struct OaJobState
{
	int			failures;		/* in a row */
	int64		due_at;			/* monotonic; not to be done before */
	TimestampTz failed_at;		/* 0 if never */
	char		failure[OA_FAILURE_MAX];	/* the last; "" if none */
} OaJobState;

/* How far the search for history that has no key has come. */
typedef struct OaSweep
{
	int64		due_at;			/* monotonic; when to begin the next */
	uint64		began_at;		/* transaction that was next when the last
								 * began; 0 if there was none */
	uint64		horizon;		/* what is from before may be removed */
	bool		runs;
	bool		in_history;		/* in key_usage, after key_last_used */
	char		after[NAMEDATALEN]; /* the key that it has come to */
} OaSweep;

typedef struct OaDatabase
{
	char		name[NAMEDATALEN];	/* fixed */
	pg_atomic_uint32 used;		/* is there something to flush? */
	pg_atomic_uint32 overflowed;	/* was it logged that memory is short? */
	pg_atomic_uint32 http_clients;	/* see http_clients.c */
	pg_atomic_uint64 epoch;		/* of the next; see use_batches.c */
	pg_atomic_uint64 batch;		/* that is on its way; 0 if none */

	/* The rest is protected by the lock. */
	Oid			oid;			/* as last seen; InvalidOid if there is none */
	PGPROC	   *waiting;		/* usage worker that waits for work */
	PGPROC	   *working;		/* usage worker that is at work */
	int64		look_at;		/* monotonic; when to look after the tables */
	OaRequests	requests;		/* for a flush */
	TimestampTz flushed_at;		/* what was used before is in the tables; 0 if
								 * that was never so */
	OaJobState	jobs[OA_JOBS];
	OaSweep		sweep;
	OaFetchState keys;
} OaDatabase;

extern void oa_read_databases(void);
extern void oa_databases_shmem_request(void);
extern void oa_databases_shmem_init(void);
extern bool oa_has_databases(void);
extern TimestampTz oa_shared_since(void);
extern Datum oa_shared_source(void);
extern uint64 oa_next_batch(void);
extern int	oa_number_of_databases(void);
extern OaDatabase *oa_database(int n);
extern OaDatabase *oa_my_database(void);
extern void oa_forget_database(OaDatabase *database);
extern void oa_copy_database(OaDatabase *database, OaDatabase *copy);
extern char *oa_readable_message(const char *message);
extern void oa_lock_databases(LWLockMode mode);
extern void oa_unlock_databases(void);
extern void oa_lock_batches(LWLockMode mode);
extern void oa_unlock_batches(void);
extern void oa_set_launcher(PGPROC *process);
extern void oa_wake_launcher(void);
extern void oa_announce_database(OaDatabase *database);

/* worker_session.c: what the workers do in a database */
extern void oa_prepare_worker_session(void);
extern void oa_worker_begin(void);
extern void oa_worker_commit(void);
extern bool oa_run_job(void (*job) (void *argument), void *argument,
					   const char *activity, char *failure);

/* worker_request.c: asking a worker, and waiting for it */
typedef enum OaRequestState
{
	OA_REQUEST_WAITS, OA_REQUEST_DONE, OA_REQUEST_FAILED
} OaRequestState;

#define OA_REQUEST_SECONDS	30	/* at most */

extern bool oa_is_asked(const OaRequests *requests);
extern OaRequestState oa_ask_worker(OaDatabase *database,
									OaRequests *requests);

#endif							/* OA_DATABASES_H */
