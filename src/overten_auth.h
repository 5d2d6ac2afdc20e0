/*
 * overten_auth.h
 *		What the files of overten_auth share, grouped by the file that owns it.
 *
 * Every symbol that crosses a file begins with oa_ (types Oa, constants OA_):
 * the modules that a PostgreSQL 15 server loads share one symbol space.
 */
#ifndef OVERTEN_AUTH_H
#define OVERTEN_AUTH_H

#include <sys/stat.h>

#include "access/transam.h"
#include "datatype/timestamp.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "port/atomics.h"
#include "storage/condition_variable.h"
#include "storage/lwlock.h"
#include "storage/proc.h"
#include "utils/array.h"
#include "utils/guc.h"
#include "utils/jsonb.h"
#include "utils/relcache.h"
#include "utils/snapshot.h"
#if PG_VERSION_NUM >= 160000
#include "varatt.h"
#endif

/* The schema that holds the extension's tables; C never searches for them. */
#define OA_SCHEMA "overten_auth"

/* overten_auth.c: settings */
extern int	oa_cache_entries;
extern bool oa_record_use_without_preload;
extern bool oa_verify_on_standby;
extern char *oa_firebase_project_id;
extern char *oa_firebase_tenant;
extern int	oa_clock_skew;
extern int	oa_max_keys_per_org;
extern int	oa_max_keys_total_per_org;
extern int	oa_max_orgs_per_uid;
extern char *oa_signing_keys_command;
extern int	oa_trust_forwarded_for;
extern int	oa_flush_interval;
extern int	oa_usage_retention;
extern char *oa_databases;
extern int	oa_max_tracked_keys;
extern char *oa_master_key_file;

/* key_text.c: the form of secrets, ids and names */
#define OA_SECRET_LEN	36		/* "sk_live_" and 28 alphanumeric characters */
#define OA_PREFIX_LEN	12		/* what stays visible of a secret */
#define OA_DIGEST_LEN	32		/* SHA-256 */
#define OA_ID_LEN		24		/* "org_" or "key_" and 20 characters */

extern void oa_draw_random(void *bytes, size_t length);
extern bool oa_is_secret_shaped(const char *bytes, int length);
extern bool oa_is_prefix_shaped(const char *bytes, int length);
extern text *oa_make_secret(void);
extern void oa_digest(const char *bytes, int length, uint8 *digest);
extern bytea *oa_secret_digest(text *secret);
extern text *oa_make_id(const char *prefix);
extern text *oa_make_webhook_secret(void);
extern text *oa_secret_argument(FunctionCallInfo fcinfo, int n);

/* text_rules.c: which characters the text of people may have */
typedef enum OaTextRule
{
	OA_TEXT_GOOD,
	OA_TEXT_LENGTH,
	OA_TEXT_CONTROL_CHARACTER,
	OA_TEXT_BIDIRECTIONAL,
	OA_TEXT_NONCHARACTER,
	OA_TEXT_INVISIBLE,
	OA_TEXT_ENDS,
	OA_TEXT_ENCODING
} OaTextRule;

extern OaTextRule oa_check_name_characters(const char *utf8, int length);
extern OaTextRule oa_check_uid_characters(const char *utf8, int length);

/* name_text.c: arguments, and the text that people choose */
#define OA_KEY_NAME_MAX	64		/* characters, after trimming */
#define OA_ORG_NAME_MAX	100
#define OA_REASON_MAX	200
#define OA_UID_MAX		128		/* Firebase's own limit */
#define OA_NAME_BYTES_MAX	8192	/* of one in SQL, with spaces around it */
#define OA_FIREBASE_ID_MAX	100 /* bytes; Google's have 30, or a domain more */

extern void oa_require_argument(FunctionCallInfo fcinfo, int n,
								const char *what);
extern text *oa_text_argument(FunctionCallInfo fcinfo, int n,
							  const char *what);
extern bool oa_bounded_argument(FunctionCallInfo fcinfo, int n, int max,
								const char **bytes, int *length);
extern text *oa_name_argument(FunctionCallInfo fcinfo, int n,
							  const char *what, int max_characters);
extern text *oa_reason_argument(FunctionCallInfo fcinfo, int n);
extern text *oa_uid_argument(FunctionCallInfo fcinfo, int n);
extern const char *oa_text_rule(OaTextRule rule, int max_characters);
extern text *oa_trim_name(text *name, int max_characters, OaTextRule *broken);
extern text *oa_check_name(Datum name, const char *what, int max_characters);
extern OaTextRule oa_check_uid(text *uid);

/* cache.c: per-backend caches that a change of the tables empties */
typedef struct OaCache OaCache;

extern void oa_cache_init(void);
extern void oa_cache_entries_changed(int entries, void *extra);
extern uint64 oa_cache_generation(void);
extern uint64 oa_cache_latest_generation(void);
extern OaCache *oa_cache_create(const char *name);
extern void *oa_cache_find(OaCache *cache, const uint8 *key);
extern void *oa_cache_store(OaCache *cache, const uint8 *key,
							const void *value, Size size,
							uint64 read_generation);

/* tables.c: the tables that are read directly, with the columns that are */
typedef enum OaTable
{
	OA_API_KEYS, OA_ORGS, OA_SIGNING_KEYS
} OaTable;

enum
{
	OA_KEY_DIGEST, OA_KEY_ID, OA_KEY_ORG_ID, OA_KEY_PREFIX, OA_KEY_REVOKED_AT
};

enum
{
	OA_ORG_ID, OA_ORG_NAME, OA_ORG_TIER, OA_ORG_WEBHOOK_SECRET,
	OA_ORG_SUSPENDED_AT
};

enum
{
	OA_SIGNING_KID, OA_SIGNING_PUBLIC_KEY, OA_SIGNING_EXPIRES_AT,
	OA_SIGNING_CERTIFICATE_EXPIRES_AT
};

#define OA_TABLE_COLUMNS_MAX 5

typedef struct OaTableInfo
{
	Oid			equality;		/* function that compares the first column */
	Oid			relid;
	Oid			index;			/* unique, on the first column; may be none */
	int			ncolumns;
	AttrNumber	attnums[OA_TABLE_COLUMNS_MAX];	/* by the enums above */
} OaTableInfo;

extern bool oa_tables_watch(Oid relid);
extern void oa_tables_look_up(void);
extern Relation oa_table_open(OaTable number, const OaTableInfo **info);

/* store.c: direct reads of them, under the latest snapshot */
typedef struct OaRead
{
	Relation	first;			/* open until it has been looked at */
	const OaTableInfo *table;	/* that it is */
	uint64		generation;		/* of the caches, before the snapshot */
	Snapshot	snapshot;		/* registered; sees all that has committed */
} OaRead;

typedef struct OaKeyRow
{
	text	   *key_id;
	text	   *org_id;
	text	   *prefix;
	bool		revoked;
	bool		own;			/* written by the transaction that reads it */
	TransactionId xmin;			/* the transaction that wrote this version */
} OaKeyRow;

typedef struct OaOrgRow
{
	text	   *name;
	text	   *tier;
	text	   *webhook_secret;
	bool		suspended;
	bool		own;
} OaOrgRow;

typedef struct OaSigningKeyRow
{
	text	   *kid;
	bytea	   *public_key;		/* SubjectPublicKeyInfo in DER */
	TimestampTz expires_at;		/* DT_NOEND if it does not expire */
	TimestampTz certificate_expires_at; /* DT_NOEND if it is a JWK */
	bool		own;
} OaSigningKeyRow;

extern void oa_store_begin_read(OaRead *read, OaTable first);
extern void oa_store_end_read(OaRead *read);
extern bool oa_store_find_key(OaRead *read, const uint8 *digest,
							  OaKeyRow *row);
extern bool oa_store_find_org(OaRead *read, text *org_id, OaOrgRow *row);
extern List *oa_store_read_signing_keys(OaRead *read);
extern FullTransactionId oa_full_xid(TransactionId xid);

/* statement.c: the extension's own SQL, run as the owner of its tables */
#define OA_STATEMENT_ARGS 10

typedef struct OaStatement
{
	const char *table;			/* whose owner runs it */
	const char *text;			/* constant; every name and operator qualified */
	bool		latest;			/* read-only, under the latest snapshot */
	int			nargs;
	Oid			argtypes[OA_STATEMENT_ARGS];
	SPIPlanPtr	plan;			/* kept once prepared */
} OaStatement;

extern int	oa_statements_begin(void);
extern uint64 oa_statement_run(OaStatement *statement, const Datum *values,
							   const char *nulls);
extern uint64 oa_statement_run_under(OaStatement *statement,
									 const Datum *values, const char *nulls,
									 Snapshot snapshot);
extern Datum oa_statement_result(int row, int column, bool *isnull);
extern text *oa_statement_text(int row, int column);
extern bool oa_statement_bool(int row, int column);
extern void oa_statement_return_rows(FunctionCallInfo fcinfo);
extern void oa_statement_return_row(FunctionCallInfo fcinfo, int row);
extern void oa_statement_return_changed(FunctionCallInfo fcinfo, int row,
										int column, Datum value);
extern void oa_statements_end(int guc_level);

/* audit.c: the audit log */
extern void oa_audit(const char *action, text *org_id, text *key_id,
					 text *uid, text *detail);

/* secrecy.c: keeping statements out of the log */
extern void oa_secrecy_begin(ErrorContextCallback *callback);
extern void oa_secrecy_end(ErrorContextCallback *callback);

/* Where a request comes from. */
typedef struct OaClientAddr
{
	uint8		family;			/* 4 or 6; 0 if it is not known */
	uint8		bytes[8];		/* an IPv4 address, or the first half of IPv6 */
} OaClientAddr;

/* client_addr_text.c: as text, and in full */
extern void oa_set_ipv4(OaClientAddr *addr, const void *bytes);
extern void oa_set_ipv6(OaClientAddr *addr, const void *bytes);
extern bool oa_find_from_right(const char *list, int n, const char **start,
							   int *length);
extern void oa_parse_client_addr(const char *value, int length,
								 OaClientAddr *addr);

/* client_addr.c: of a session, and in SQL */
extern const OaClientAddr *oa_session_client_addr(void);
extern Datum oa_client_addr_datum(const OaClientAddr *addr);

/* row_type.c: the SQL type of a row */
extern void oa_set_row_type(HeapTupleHeader row, TupleDesc columns,
							FmgrInfo *function, Oid *checked_type);

/* single_row.c: set-returning functions with at most one row */
extern bool oa_single_row_was_returned(FunctionCallInfo fcinfo);
extern Datum oa_return_single_row(FunctionCallInfo fcinfo,
								  HeapTupleHeader row);

/* verify.c: from bearer text to row */
enum							/* the columns of overten_auth.verified_key */
{
	OA_VERIFIED_KEY_ID, OA_VERIFIED_ORG_ID, OA_VERIFIED_ORG_NAME,
	OA_VERIFIED_TIER, OA_VERIFIED_WEBHOOK_SECRET, OA_VERIFIED_KEY_PREFIX,
	OA_VERIFIED_COLUMNS
};

extern bool oa_may_verify(void);
extern bool oa_verify_secret(const char *bytes, int length,
							 const OaClientAddr *client, Datum *values,
							 bool *nulls);
extern HeapTupleHeader oa_verify_argument(FunctionCallInfo fcinfo);
extern text *oa_verified_column(HeapTupleHeader row, int column);

/* identity.c: who this transaction acts for */
extern void oa_remember_identity(text *key_id, text *org_id);
extern void oa_forget_identity(void);

/* new_master_key.c: the first master key of a cluster */
extern bool oa_may_make_master_key(void);
extern void oa_make_master_key_file(void);
extern void oa_settle_master_key_file(void);

/* master_key_file.c: the file of the keys that seal webhook secrets */
#define OA_MASTER_KEYS_MAX		32
#define OA_MASTER_KEY_LEN		32	/* AES-256 */
#define OA_MASTER_KEY_ID_LEN	8

struct evp_cipher_ctx_st;

typedef struct OaMasterKey
{
	uint8		id[OA_MASTER_KEY_ID_LEN];	/* of its SHA-256, the first bytes */
	uint8		bytes[OA_MASTER_KEY_LEN];
	struct evp_cipher_ctx_st *opener;	/* set to the key; NULL until used */
} OaMasterKey;

typedef struct OaMasterKeyFile
{
	int			count;			/* keys */
	bool		missing;
	char		problem[200];	/* a sentence, or empty if it is good */
	struct stat status;			/* zeros if there is none */
} OaMasterKeyFile;

extern bool oa_read_master_key_file(OaMasterKeyFile *file, OaMasterKey *keys);
extern bool oa_master_key_file_has_changed(const OaMasterKeyFile *file);

/* master_keys.c: the master keys of a backend */
extern void oa_no_master_key(const char *detail);
extern OaMasterKey *oa_sealing_key(void);
extern OaMasterKey *oa_find_master_key(const uint8 *id);
extern OaMasterKey *oa_master_key(int n);
extern const char *oa_master_key_problem(void);
extern ArrayType *oa_master_key_ids_present(void);
extern ArrayType *oa_master_key_ids_needed(void);

/* In SQL: does an org's previous webhook secret still sign? */
#define OA_PREVIOUS_STILL_SIGNS \
	"previous_webhook_secret_until " \
	"OPERATOR(pg_catalog.>) pg_catalog.clock_timestamp()"

/* sealing.c: how a webhook secret is kept in the table */
extern bytea *oa_seal(text *org_id, text *webhook_secret);
extern text *oa_unseal(text *org_id, bytea *sealed);
extern bytea *oa_sealed_header(const uint8 *key_id);
extern bool oa_is_sealed_with(const uint8 *key_id, bytea *sealed);

/* pgcrypto.c: functions of that extension */
extern bytea *oa_hmac_sha256(bytea *key, bytea *message);

/*
 * usage.c, usage_table.c: recording that a key was used, or that a revoked one
 * was tried.  A NULL client is the session's.
 */
typedef struct OaUseRecorder
{
	void		(*accepted) (text *key_id, const OaClientAddr *client,
							 TimestampTz *recorded_at);
	void		(*refused) (text *key_id, const OaClientAddr *client);
} OaUseRecorder;

extern const OaUseRecorder *oa_use_recorder(void);
extern const OaUseRecorder oa_table_recorder;

/* use_counters.c: counting uses in shared memory */
#define OA_USE_PARTITIONS	64	/* locks */
#define OA_COUNTED_ID_MAX	32	/* bytes of a key's id; minted ones have 24 */
#define OA_ADDRESSES_MAX	64	/* that are told apart, of a key in an hour */
#define OA_HOURS_MAX		2200	/* that can have counts: 91 days */

typedef struct OaUseKey
{
	Oid			database;
	int32		hour;			/* since 2000 */
	char		key_id[OA_COUNTED_ID_MAX];	/* zeros behind it */
	OaClientAddr client;
} OaUseKey;

typedef struct OaUses
{
	OaUseKey	key;
	int64		accepted;
	int64		refused;
	int64		counted_since;	/* monotonic */
	TimestampTz first_used_at;
	TimestampTz last_accepted_at;	/* 0 if none was accepted */
	TimestampTz last_refused_at;
	int64		taken_accepted; /* by a batch that is on its way; for readers */
	int64		taken_refused;
} OaUses;

typedef struct OaUseCounters OaUseCounters;

extern Size oa_use_counters_size(int size);
extern void oa_use_counters_init(void *memory, int size,
								 LWLockPadded *partition_locks, bool first);
extern void oa_use_counters_fill(int *used, int *size);
extern bool oa_count_use(OaUseKey *key, bool accepted, TimestampTz now);

/* event_counts.c: counting what the statistics show */
typedef enum OaEvent
{
	OA_CACHE_HIT,				/* accepted without a look at the tables */
	OA_ACCEPTED,				/* accepted with one */
	OA_REFUSED,					/* refused with one */
	OA_MALFORMED,				/* refused without one */
	OA_NOT_ATTRIBUTED,			/* a use, for lack of memory */
	OA_FLUSH,
	OA_FLUSH_FAILURE,
	OA_EVENTS
} OaEvent;

extern Size oa_event_counts_size(void);
extern void oa_event_counts_init(void *memory, bool first);
extern void oa_count_event(OaEvent event);
extern uint64 oa_event_count(OaEvent event);

/* shared_memory.c: what processes share, where the library is preloaded */
#define OA_DATABASES_MAX	64
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
typedef struct OaKeyState
{
	bool		wanted;			/* is a Firebase project configured? */
	PGPROC	   *worker;			/* that fetches; NULL if none does */
	TimestampTz tried_at;		/* begin of the last fetch; 0 if none */
	TimestampTz fetched_at;		/* begin of the last that succeeded */
	TimestampTz next_fetch_at;
	int			failures;		/* in a row; a fetch that runs is one */
	OaRequests	requests;		/* for a fetch */
	char		outcome[OA_OUTCOME_MAX];	/* of the last fetch; "" if none */
} OaKeyState;

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
	OaKeyState	keys;
} OaDatabase;

extern bool oa_check_databases(char **newval, void **extra, GucSource source);
extern void oa_shared_memory_init(void);
extern bool oa_has_databases(void);
extern TimestampTz oa_shared_since(void);
extern Datum oa_shared_source(void);
extern uint64 oa_next_batch(void);
extern int	oa_number_of_databases(void);
extern OaDatabase *oa_database(int n);
extern OaDatabase *oa_my_database(void);
extern void oa_copy_database(OaDatabase *database, OaDatabase *copy);
extern char *oa_readable_message(const char *message);
extern void oa_lock_databases(LWLockMode mode);
extern void oa_unlock_databases(void);
extern void oa_lock_batches(LWLockMode mode);
extern void oa_unlock_batches(void);
extern void oa_set_launcher(PGPROC *process);
extern void oa_wake_launcher(void);
extern void oa_announce_database(OaDatabase *database);
extern void oa_database_overflows(OaDatabase *database);
extern int64 oa_monotonic_ms(void);

/* use_batches.c: counts on their way from memory into the tables */
typedef bool (*OaDatabaseTest) (Oid database, void *argument);

extern int	oa_collect_uses(Oid database, uint32 *bucket, OaUses *uses,
							int capacity);
extern void oa_publish_batch(OaDatabase *database, uint64 batch,
							 const OaUses *uses, const bool *known, int count);
extern uint64 oa_batch_epoch(OaDatabase *database);
extern uint64 oa_batch_on_its_way(OaDatabase *database);
extern void oa_subtract_batch(OaDatabase *database, const OaUses *uses,
							  int count);
extern bool oa_discard_uses(OaDatabaseTest is_gone, void *argument,
							int64 before);

/* http_clients.c: whether their addresses say anything */
extern void oa_note_http_client(OaDatabase *database,
								const OaClientAddr *client);

/* unflushed_uses.c: reading what is not in the tables yet */
typedef struct OaExactRead
{
	Snapshot	snapshot;		/* registered, to read the tables under */
	OaUses	   *uses;			/* that these lack, in no order */
	int			count;
	int			capacity;
} OaExactRead;

extern int	oa_counted_hours(int32 **hours);
extern TimestampTz oa_last_counted_use(text *key_id, const int32 *hours,
									   int count);
extern void oa_exact_read_begin(OaExactRead *read, const Datum *key_ids,
								int keys, TimestampTz since,
								TimestampTz until);
extern void oa_exact_read_end(OaExactRead *read);

/* use_arrays.c: uses as arguments of a statement, an array for each column */
enum
{
	OA_USE_KEY_ID, OA_USE_HOUR, OA_USE_CLIENT_ADDR, OA_USE_ACCEPTED,
	OA_USE_REFUSED, OA_USE_FIRST_USED_AT, OA_USE_LAST_USED_AT,
	OA_USE_COLUMNS
};

extern Datum oa_use_key_id(const OaUses *uses);
extern Datum oa_make_array(Datum *values, bool *nulls, int count, Oid type);
extern void oa_make_use_arrays(const OaUses *uses, int count, int columns,
							   Datum *arrays);

/* usage_lock.c: the tables of a flush */
extern bool oa_lock_usage_tables(void);

/* usage_rows.c, usage_flush.c: from shared memory into the tables */
extern void oa_write_uses(OaUses *uses, int count, bool *known);
extern bool oa_flush_uses(OaDatabase *database);

/* usage_cleaning.c: removing history */
extern bool oa_remove_old_usage(void);
extern void oa_sweep_usage(OaDatabase *database);

/* usage_jobs.c: what a usage worker does once it is connected */
extern const char *oa_job_activity(OaJob job);
extern int64 oa_job_pause_ms(const OaJobState *state);
extern void oa_note_job_failure(OaDatabase *database, OaJob job, uint64 asked,
								const char *failure);
extern void oa_do_usage_jobs(OaDatabase *database, uint64 asked);

/* database_oids.c: which database has which name */
extern void oa_forget_database(OaDatabase *database);
extern void oa_find_databases(void);

/* launcher.c, usage_worker.c: the background workers */
extern void oa_register_launcher(void);

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

/* key_worker.c: the worker that fetches signing keys */
extern void oa_keys_init(OaKeyState *keys);
extern void oa_keys_forget(OaKeyState *keys);
extern void oa_keys_hurry(OaKeyState *keys);
extern void oa_keys_note(OaKeyState *keys, bool wanted, bool present);
extern int64 oa_keys_due_in(const OaKeyState *keys);
extern void oa_keys_have_no_worker(OaKeyState *keys);

/* usage_report.c: reading the history of keys */
typedef struct OaPeriod
{
	TimestampTz since;
	TimestampTz until;			/* the first moment that is not in it */
} OaPeriod;

typedef struct OaUsageHour
{
	TimestampTz hour;
	const char *client_addr;	/* or NULL */
	int64		accepted;
	int64		refused;
	TimestampTz first_used_at;
	TimestampTz last_used_at;
} OaUsageHour;

typedef void (*OaUsageHourCallback) (const OaUsageHour *usage, void *argument);

extern void oa_complete_period(OaPeriod *period, bool has_since,
							   bool has_until);
extern bool oa_key_usage(text *org_id, text *key_id, const OaPeriod *period,
						 OaUsageHourCallback callback, void *argument);
extern char *oa_inet_text(Datum address);

/* usage_anomalies.c: what in it a person should look at */
typedef struct OaAnomaly
{
	text	   *kind;
	const char *client_addr;	/* or NULL */
	TimestampTz first_at;
	TimestampTz last_at;
	int64		observed;
	const char *expected;		/* a number */
	TimestampTz reference_at;
	bool		has_no_reference;
	text	   *detail;
} OaAnomaly;

typedef void (*OaAnomalyCallback) (const OaAnomaly *anomaly, void *argument);

extern void oa_key_anomalies(text *key_id, OaAnomalyCallback callback,
							 void *argument);

/* token_text.c: the outer form of tokens */
#define OA_TOKEN_MAX			(16 * 1024) /* real ones have 1 to 2 kB */
#define OA_TOKEN_SEGMENTS		3
#define OA_BASE64URL_DECODED(n) ((n) / 4 * 3 + 2)
#define OA_BASE64URL_ENCODED(n) (((n) + 2) / 3 * 4)

typedef struct OaTokenSegment
{
	const char *text;
	int			length;
} OaTokenSegment;

extern bool oa_split_token(const char *token, int length,
						   OaTokenSegment *segments);
extern int	oa_base64url_decode(const char *text, int length,
								unsigned char *bytes);
extern int	oa_base64url_encode(const unsigned char *bytes, int length,
								char *text);

/*
 * strict_json.c: JSON that has only one reading.  The limits hold all that
 * Firebase can put into a token, whose custom claims have at most 1000 bytes.
 */
#define OA_JSON_DEPTH_MAX		512
#define OA_JSON_MEMBERS_MAX		256
#define OA_JSON_NODES(length)	((length) / 2 + 2)

typedef enum OaJsonType
{
	OA_JSON_OBJECT, OA_JSON_ARRAY, OA_JSON_STRING, OA_JSON_NUMBER,
	OA_JSON_TRUE, OA_JSON_FALSE, OA_JSON_NULL
} OaJsonType;

typedef struct OaJsonNode
{
	int			start;			/* in the text; of a string, its first byte */
	int			length;			/* in the text; of a string, without quotes */
	int			next;			/* the node after this and all it holds */
	uint32		hash;			/* of a member's name */
	uint8		type;			/* an OaJsonType */
	bool		escaped;		/* a string with escape sequences */
	uint16		count;			/* of an object, its members */
} OaJsonNode;

extern const char *oa_json_parse_value(const char *json, int length,
									   OaJsonNode *nodes, int capacity);
extern const char *oa_json_parse(const char *json, int length,
								 OaJsonNode *nodes, int capacity);
extern const OaJsonNode *oa_json_member(const char *json,
										const OaJsonNode *nodes,
										const OaJsonNode *object,
										const char *name);
extern double oa_json_number(const char *json, const OaJsonNode *node);

/* json_string.c: the strings in it */
extern int	oa_utf8_length(const unsigned char *at, const unsigned char *end);
extern const char *oa_json_skip_string(const unsigned char **at,
									   const unsigned char *end,
									   bool *escaped);
extern bool oa_json_equals(const char *json, const OaJsonNode *node,
						   const char *expected);
extern bool oa_json_same(const char *json, const OaJsonNode *a,
						 const OaJsonNode *b);
extern uint32 oa_json_hash(const char *json, const OaJsonNode *node);
extern int	oa_json_unescape(const char *json, const OaJsonNode *node,
							 char *out);

/* encoding.c: between the server's encoding and UTF-8, without errors */
extern char *oa_server_to_utf8(const char *bytes, int length,
							   int *utf8_length);
extern bool oa_utf8_to_server(const char **bytes, int *length);
extern text *oa_utf8_to_text(const char *utf8, int length);
extern text *oa_json_to_text(const char *json, const OaJsonNode *node);

/* claims.c: what a token says, as jsonb */
extern Jsonb *oa_json_to_jsonb(const char *json,
							   const OaJsonNode *nodes);

/* jwt_library.c: libjwt, opened when it is first needed */
typedef struct jwt OaJwt;

extern void oa_jwt_library_open(void);
extern OaJwt *oa_jwt_decode(const char *token);
extern void oa_jwt_free(OaJwt *jwt);
extern const char *oa_jwt_header(OaJwt *jwt, const char *name);
extern const char *oa_jwt_claim(OaJwt *jwt, const char *name);

/* key_document.c: the documents in which signing keys are published */
#define OA_KEY_DOCUMENT_MAX		(256 * 1024)
#define OA_SIGNING_KEYS_MAX		64
#define OA_KID_MAX				256 /* bytes */

struct bignum_st;
struct evp_pkey_st;

/* Why a key of a document is skipped. */
typedef enum OaKeyFlaw
{
	OA_NO_FLAW,
	OA_FLAW_TYPE, OA_FLAW_USE, OA_FLAW_ALG, OA_FLAW_ID, OA_FLAW_MALFORMED,
	OA_FLAW_WEAK, OA_FLAW_UNSOUND, OA_FLAW_EARLY, OA_FLAW_EXPIRED,
	OA_FLAW_DUPLICATE,
	OA_KEY_FLAWS
} OaKeyFlaw;

typedef struct OaDocumentKey
{
	char		kid[OA_KID_MAX];	/* UTF-8, without a NUL */
	int			kid_length;
	unsigned char *public_key;	/* SubjectPublicKeyInfo in DER, malloc'ed */
	int			public_key_length;
	bool		expires;
	bool		duplicate;		/* has a later key the same id? */
	int64		expires_at;		/* seconds since 1970 */
} OaDocumentKey;

typedef struct OaKeyDocument
{
	int			count;
	OaDocumentKey keys[OA_SIGNING_KEYS_MAX];
	int			skipped[OA_KEY_FLAWS];	/* keys, by reason */
} OaKeyDocument;

#define OA_SKIPPED_MAX			120 /* bytes of a description that are kept */

extern const char *oa_parse_key_document(const char *text, int length,
										 OaJsonNode *nodes, int64 now,
										 int64 skew, OaKeyDocument *document);
extern void oa_free_key_document(OaKeyDocument *document);

/* key_flaws.c: which keys signatures can be checked with */
#define OA_RSA_BITS_MAX			16384	/* OpenSSL's own limit */

extern OaKeyFlaw oa_check_rsa_numbers(const struct bignum_st *modulus,
									  const struct bignum_st *exponent);
extern OaKeyFlaw oa_check_signing_key(struct evp_pkey_st *key);
extern int	oa_describe_skipped(const OaKeyDocument *document, char *text,
								int size);

/* key_answer.c: the HTTP answer in which such a document comes */
#define OA_ANSWER_HEADER_MAX	(16 * 1024)
#define OA_MAX_AGE_LEAST		300 /* seconds */
#define OA_MAX_AGE_MOST			(24 * 3600)

typedef struct OaKeyAnswer
{
	int			status;			/* HTTP */
	int			body;			/* where it begins */
	int			max_age;		/* seconds that it is good for, within limits */
} OaKeyAnswer;

extern const char *oa_read_key_answer(const char *bytes, int length,
									  OaKeyAnswer *answer);

/* key_schedule.c: when to fetch signing keys */
extern TimestampTz oa_next_fetch_at(TimestampTz now, int max_age,
									int failures, uint32 random);
extern bool oa_fetch_is_due(TimestampTz now, TimestampTz fetched_at,
							TimestampTz next_fetch_at);

/* key_command.c: running the command that fetches signing keys */
#define OA_COMMAND_SAID_MAX		200

typedef struct OaCommandRun
{
	char	   *printed;		/* what it prints */
	int			capacity;		/* bytes, which it must not fill */
	int			length;
	char		said[OA_COMMAND_SAID_MAX + 1];	/* begin of its stderr */
	int			status;			/* as waitpid() gives it */
} OaCommandRun;

extern const char *oa_run_command(const char *command, OaCommandRun *run);

/* key_fetch.c: what came of it */
typedef struct OaKeyFetch
{
	char	   *document;		/* palloc'd and usable, or NULL: unchanged */
	int			length;
	int			max_age;		/* seconds, as in OaKeyAnswer */
	char		outcome[OA_OUTCOME_MAX];	/* a sentence, without contents */
	char		said[OA_COMMAND_SAID_MAX + 1];	/* as in OaCommandRun */
} OaKeyFetch;

extern bool oa_fetch_keys(const char *command, OaKeyFetch *fetch);

/* signing_keys.c: the set of signing keys */
extern int	oa_load_signing_keys(const char *utf8, int length,
								 TimestampTz not_after, char *skipped);
extern int	oa_extend_signing_keys(TimestampTz not_after);
extern int	oa_count_signing_keys(TimestampTz *last_expires_at);

/* key_ring.c: the signing keys of a backend, ready for use */
typedef struct OaHeldKey OaHeldKey;

typedef enum OaKeyLookup
{
	OA_KEY_FOUND, OA_KEY_UNKNOWN, OA_KEY_EXPIRED
} OaKeyLookup;

extern bool oa_has_signing_key(TimestampTz now);
extern OaKeyLookup oa_find_signing_key(const char *kid, TimestampTz now,
									   OaHeldKey **key);
extern bool oa_signature_is_good(OaHeldKey *key, const char *message,
								 int message_length,
								 const unsigned char *signature,
								 int signature_length);
extern TimestampTz oa_held_key_expires_at(const OaHeldKey *key);
extern uint64 oa_key_ring_generation(void);

/* token_reader.c: a token, taken apart */
typedef struct OaTokenJson
{
	const char *text;
	const OaJsonNode *nodes;	/* the first is the object */
} OaTokenJson;

typedef struct OaToken
{
	const char *text;
	int			signed_length;	/* of the first two segments and their dot */
	OaTokenJson header;
	OaTokenJson payload;
	unsigned char *signature;
	int			signature_length;
	const char *alg;			/* what libjwt makes of it, each NULL if it is */
	const char *kid;			/* no string */
	const char *aud;
	const char *iss;
	const char *sub;

	TimestampTz now;			/* the time that it is looked at */
	TimestampTz expires_at;
	TimestampTz not_before;		/* the latest of iat, auth_time and nbf */
	OaHeldKey  *key;			/* that it names */
	const char *detail;			/* why it is refused: a constant sentence */
} OaToken;

extern bool oa_open_token(OaToken *token, const char *text, int length);
extern bool oa_refuse_token(OaToken *token, const char *detail);
extern const OaJsonNode *oa_token_header(const OaToken *token,
										 const char *name);
extern const OaJsonNode *oa_token_claim(const OaToken *token,
										const char *name);
extern const OaJsonNode *oa_firebase_claim(const OaToken *token,
										   const char *name);
extern bool oa_token_time(const OaToken *token, const OaJsonNode *node,
						  TimestampTz *time);

/* token_decoder.c: what libjwt makes of it */
extern bool oa_decode_token(OaToken *token, const OaTokenSegment *header);

/* token_rules.c: the rules of Firebase ID tokens */
typedef enum OaTokenStatus
{
	OA_TOKEN_GOOD,
	OA_TOKEN_INVALID,			/* whatever the reason; the detail names it */
	OA_TOKEN_EXPIRED,			/* and nothing else is wrong with it */
	OA_TOKEN_UNAVAILABLE		/* nothing can be verified; see the hint */
} OaTokenStatus;

extern bool oa_check_token(OaToken *token);
extern bool oa_check_signature(OaToken *token);
extern TimestampTz oa_skew(void);

/* firebase_token.c: whom a token is about */
typedef struct OaIdentity
{
	HeapTupleHeader row;		/* of a good token: the function's result */
	text	   *uid;			/* in it */
	const char *detail;			/* of another: as in OaToken */
	const char *hint;
} OaIdentity;

extern OaTokenStatus oa_verify_token(const char *token, int length,
									 OaIdentity *identity);

/* keys.c */
typedef struct OaMintedKey
{
	text	   *key_id;
	text	   *name;
	text	   *prefix;
	text	   *secret;			/* the only copy there will ever be */
	TimestampTz created_at;
} OaMintedKey;

extern void oa_mint_key(text *org_id, text *name, text *uid,
						OaMintedKey *minted);
typedef enum OaRevocation
{
	OA_REVOKED, OA_REVOKED_BEFORE, OA_NO_SUCH_KEY
} OaRevocation;

extern bool oa_org_has_key(text *org_id, text *key_id);
extern void oa_require_key(text *org_id, text *key_id);
extern OaRevocation oa_revoke_key(text *org_id, text *key_id, text *uid,
								  text *reason);

/* key_list.c: the keys of an org */
typedef struct OaListedKey
{
	text	   *key_id;
	text	   *name;
	text	   *prefix;
	TimestampTz created_at;
	TimestampTz last_used_at;
	TimestampTz revoked_at;
	bool		never_used;		/* there is no last_used_at */
	bool		active;			/* there is no revoked_at */
} OaListedKey;

typedef void (*OaKeyCallback) (const OaListedKey *key, void *argument);

extern void oa_list_keys(text *org_id, OaKeyCallback callback,
						 void *argument);

/* webhooks.c */
extern void oa_replace_leaked_webhook_secret(text *org_id, text *reason);

/* orgs.c */
extern void oa_org_missing(void);
extern void oa_require_org(text *org_id);
extern bool oa_find_tier(text *tier, bool *self_service);
extern text *oa_create_org(text *name, text *tier, text *uid, bool sign_up,
						   text *webhook_secret, TimestampTz *created_at);
extern void oa_sign_up_org(text *org_id, text *uid);

/* problem.c: what can be wrong with a request, in HTTP and in SQL */
typedef enum OaProblem
{
	OA_NO_PROBLEM,
	OA_PATH_TOO_LONG, OA_NOT_FOUND, OA_METHOD_NOT_ALLOWED,
	OA_UNREADABLE_HEADERS, OA_UNSUPPORTED_MEDIA_TYPE, OA_PAYLOAD_TOO_LARGE,
	OA_MISSING_CREDENTIALS, OA_TWO_CREDENTIALS, OA_INVALID_API_KEY,
	OA_INVALID_TOKEN, OA_EXPIRED_TOKEN, OA_AUTH_UNAVAILABLE, OA_INVALID_JSON,
	OA_NOT_AN_OBJECT, OA_NOT_ONE_ORG, OA_INVALID_PARAMETER,
	OA_ORGANIZATION_NOT_FOUND, OA_KEY_NOT_FOUND, OA_ALREADY_SIGNED_UP,
	OA_ORG_LIMIT_REACHED, OA_API_ACCESS_DISABLED, OA_KEY_LIMIT_REACHED,
	OA_SERVICE_UNAVAILABLE
} OaProblem;

typedef struct OaProblemText
{
	int			status;			/* HTTP */
	const char *code;
	const char *message;		/* NULL: what is wrong with the parameter */
	const char *challenge;		/* WWW-Authenticate, or NULL */
	const char *retry_after;	/* seconds, or NULL */
	int			sqlstate;		/* where a SQL function has the problem too */
} OaProblemText;

/* What is wrong with a parameter, for OA_INVALID_PARAMETER. */
typedef struct OaFault
{
	const char *param;			/* its name */
	const char *rule;			/* the end of a sentence that begins with it */
} OaFault;

extern const OaProblemText *oa_problem_text(OaProblem problem);
extern const char *oa_problem_message(OaProblem problem, const OaFault *fault);

/* signup.c: what members of an org may do */
typedef struct OaSignup
{
	text	   *uid;
	text	   *org_name;		/* of a new org, or NULL */
	text	   *existing_org_id;	/* or this one, or NULL */
	text	   *tier;			/* NULL: "free", or what the org has */
	text	   *key_name;
} OaSignup;

typedef struct OaOrgKey
{
	text	   *org_id;
	text	   *org_name;
	text	   *tier;
	text	   *webhook_secret; /* NULL if it cannot be unsealed */
	OaMintedKey key;
} OaOrgKey;

extern OaProblem oa_signup(const OaSignup *signup, OaOrgKey *result,
						   OaFault *fault);
extern OaProblem oa_create_key(text *uid, text *org_id, text *name,
							   OaOrgKey *result);
extern bool oa_is_member(text *org_id, text *uid);

/* A request and a response, as http_request.c and postgrest.c make them. */
#define OA_PATH_MAX		8192	/* bytes, with the query */
#define OA_HEADERS_MAX	(256 * 1024)	/* more than HTTP layers let through */
#define OA_BODY_MAX		(16 * 1024)

typedef struct OaRequest
{
	const char *bearer;			/* of the Authorization header */
	int			bearer_length;
	const OaClientAddr *client; /* NULL if no header tells it */
	text	   *org_id;			/* from the path, or NULL */
	text	   *key_id;
	const char *query;			/* behind the path's "?", or NULL; else: */
	const char *since;			/* parameters that are decoded already */
	const char *until;
	const char *body;			/* in UTF-8, terminated; or NULL */
	bool		is_json;		/* is that JSON of whatever kind? */
	const OaJsonNode *members;	/* of the body; NULL if it is no object */
} OaRequest;

typedef struct OaResponse
{
	OaProblem	problem;
	OaFault		fault;			/* for OA_INVALID_PARAMETER */
	const char *allow;			/* methods, for OA_METHOD_NOT_ALLOWED */
	int			status;
	StringInfoData body;		/* JSON in the server's encoding, or empty */
} OaResponse;

/* Note what is wrong with the request.  Returns false, for checks to return. */
static inline bool
oa_refuse(OaResponse *response, OaProblem problem)
{
	response->problem = problem;
	return false;
}

/* The same for a parameter; "rule" is described at OaFault. */
static inline bool
oa_refuse_parameter(OaResponse *response, const char *param, const char *rule)
{
	response->fault.param = param;
	response->fault.rule = rule;
	return oa_refuse(response, OA_INVALID_PARAMETER);
}

/* http_headers.c: the headers of a request */
typedef struct OaHeaders
{
	char	   *json;			/* an object in UTF-8 */
	OaJsonNode *nodes;
} OaHeaders;

extern bool oa_read_headers(const char *json, int length, OaHeaders *headers);
extern bool oa_read_header(const OaHeaders *headers, const char *name,
						   char **value);
extern OaProblem oa_read_bearer(const OaHeaders *headers, OaRequest *request);

/* client_addr.c, of HTTP */
extern const OaClientAddr *oa_read_client_addr(const OaHeaders *headers);

/* request_body.c: what a request's object says */
extern void oa_read_body(const char *body, int length, bool is_utf8,
						 OaRequest *request);
extern bool oa_require_object(const OaRequest *request, OaResponse *response);
extern const OaJsonNode *oa_find_member(const OaRequest *request,
										const char *name);
extern bool oa_read_reference(const OaRequest *request, OaResponse *response,
							  const char *name, text **value);
extern bool oa_read_name(const OaRequest *request, OaResponse *response,
						 const char *name, int max_characters, text **value);

/* query_string.c: parameters */
typedef enum OaQueryResult
{
	OA_QUERY_ABSENT,
	OA_QUERY_FOUND,
	OA_QUERY_TWICE,
	OA_QUERY_NOT_DECODABLE,		/* its value */
	OA_QUERY_NOT_PRINTABLE		/* the query as a whole */
} OaQueryResult;

extern OaQueryResult oa_query_parameter(const char *query, const char *name,
										char *value);

/* rfc3339.c: times in them */
extern bool oa_parse_time(const char *time_text, TimestampTz *time);

/* http_message.c: what HTTP adds around an endpoint's answer */
typedef void (*OaHeaderCallback) (const char *name, const char *value,
								  void *argument);

extern void oa_response_init(OaResponse *response);
extern void oa_write_problem(OaResponse *response);
extern void oa_each_response_header(const OaResponse *response,
									OaHeaderCallback callback, void *argument);

/* response_json.c: the JSON of responses */
extern void oa_begin_object(StringInfo json);
extern void oa_write_name(StringInfo json, const char *name);
extern void oa_write_string(StringInfo json, const char *name,
							const char *value);
extern void oa_write_text(StringInfo json, const char *name, text *value);
extern void oa_write_integer(StringInfo json, const char *name, int64 value);
extern void oa_write_time(StringInfo json, const char *name, TimestampTz time,
						  bool isnull);

/* endpoints.c: one function for each request of the API */
typedef void (*OaEndpoint) (const OaRequest *request, OaResponse *response);

extern bool oa_identify(const OaRequest *request, OaResponse *response,
						text **uid);
extern bool oa_check_member(const OaRequest *request, OaResponse *response,
							text *uid);

extern void oa_endpoint_signup(const OaRequest *request, OaResponse *response);
extern void oa_endpoint_create_key(const OaRequest *request,
								   OaResponse *response);
extern void oa_endpoint_list_keys(const OaRequest *request,
								  OaResponse *response);
extern void oa_endpoint_revoke_key(const OaRequest *request,
								   OaResponse *response);
extern OaProblem oa_verify_bearer(const OaRequest *request, Datum *values,
								  bool *nulls);
extern void oa_endpoint_verify(const OaRequest *request, OaResponse *response);

/* usage_endpoint.c */
extern void oa_endpoint_key_usage(const OaRequest *request,
								  OaResponse *response);

#endif							/* OVERTEN_AUTH_H */
