/*
 * databases.h
 *		The databases that background workers look after, and requests to a
 *		worker.
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

/* databases.c: state that processes share, if the library is preloaded */
#define OA_FAILURE_MAX		200 /* bytes that we keep of an error message */
#define OA_OUTCOME_MAX		200

/* Requests to a worker, protected by the lock of the databases. */
typedef struct OaRequests
{
	uint64		asked;			/* number of the last request */
	uint64		done;			/* requests up to here are fulfilled */
	uint64		failed;			/* others up to here have failed */
	ConditionVariable changed;	/* broadcast when these, or the OID, change */
} OaRequests;

/* The state of signing keys, protected by the lock of the databases. */
typedef struct OaFetchState
{
	bool		wanted;			/* is a Firebase project configured? */
	PGPROC	   *worker;			/* the worker that fetches, or NULL */
	TimestampTz tried_at;		/* when the last fetch began, or 0 */
	TimestampTz fetched_at;		/* when the last successful fetch began */
	TimestampTz next_fetch_at;
	int			failures;		/* in a row, including a running fetch */
	OaRequests	requests;		/* for a fetch */
	char		outcome[OA_OUTCOME_MAX];	/* of the last fetch, or "" */
} OaFetchState;

/* The jobs of a usage worker; see database_jobs.c. */
typedef enum OaJob
{
	OA_FLUSHING,
	OA_REMOVING_USAGE,			/* that is old; likewise the next three */
	OA_REMOVING_QUOTAS,
	OA_REMOVING_AUDIT,
	OA_REMOVING_REQUESTS,
	OA_SWEEPING,				/* removing rows whose key is gone */
	OA_LOOKING_AT_KEYS,			/* checking whether to fetch signing keys */
	OA_JOBS
} OaJob;

typedef struct OaJobState
{
	int			failures;		/* in a row */
	int64		due_at;			/* monotonic; earliest time to run again */
	TimestampTz failed_at;		/* 0 if never */
	char		failure[OA_FAILURE_MAX];	/* the last message, or "" */
} OaJobState;

/* The progress of the search for rows whose key is gone. */
typedef struct OaSweep
{
	int64		due_at;			/* monotonic; when to begin the next search */
	uint64		began_at;		/* next transaction id when the last search
								 * began, or 0 */
	uint64		horizon;		/* we may remove what is older than this */
	bool		runs;
	int			table;			/* that we search, see usage_cleaning.c */
	char		after[NAMEDATALEN]; /* the last key that we have searched */
} OaSweep;

typedef struct OaDatabase
{
	char		name[NAMEDATALEN];	/* never changes */
	pg_atomic_uint32 used;		/* are there uses to flush? */
	pg_atomic_uint32 overflowed;	/* have we logged that memory is short? */
	pg_atomic_uint32 out_of_buckets;	/* likewise, for limits */
	pg_atomic_uint32 http_clients;	/* see http_clients.c */
	pg_atomic_uint64 epoch;		/* of the next batch; see use_batches.c */
	pg_atomic_uint64 batch;		/* the batch being written, or 0 */

	/* The lock protects the rest. */
	Oid			oid;			/* as last seen; InvalidOid if it does not
								 * exist */
	PGPROC	   *waiting;		/* the usage worker that waits for work */
	PGPROC	   *working;		/* the usage worker that works */
	int64		look_at;		/* monotonic; when to check the tables */
	OaRequests	requests;		/* for a flush */
	TimestampTz flushed_at;		/* earlier uses are in the tables; 0 if not
								 * known */
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

/* worker_session.c: the sessions and transactions of workers */
extern void oa_prepare_worker_session(void);
extern const char *oa_lock_timeout(void);
extern void oa_worker_begin(void);
extern void oa_worker_commit(void);
extern bool oa_run_job(void (*job) (void *argument), void *argument,
					   const char *activity, char *failure);

/* worker_request.c: requests to a worker */
typedef enum OaRequestState
{
	OA_REQUEST_WAITS, OA_REQUEST_DONE, OA_REQUEST_FAILED
} OaRequestState;

#define OA_REQUEST_SECONDS	30	/* the longest wait */

extern bool oa_is_asked(const OaRequests *requests);
extern OaRequestState oa_ask_worker(OaDatabase *database,
									OaRequests *requests);

#endif							/* OA_DATABASES_H */
