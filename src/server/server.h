/*
 * server.h
 *		Access to the server: SQL, arguments and results of functions, the
 *		audit log, digests, random bytes, a monotonic clock.
 */
#ifndef OA_SERVER_H
#define OA_SERVER_H

#include "overten_auth.h"
#include "text/text.h"
#include "executor/spi.h"
#include "utils/snapshot.h"

/* digest.c: SHA-256 */
#define OA_DIGEST_LEN	32

extern void oa_digest_prepare(void);
extern void oa_digest(const char *bytes, int length, uint8 *digest);

/* wait_event.c: what processes wait for, in pg_stat_activity */
typedef enum OaWait
{
	OA_WAIT_LAUNCHER, OA_WAIT_WORKER, OA_WAIT_ANSWER, OA_WAIT_FETCH,
	OA_WAIT_STANDBY, OA_WAIT_PRIMARY,
	OA_WAITS
} OaWait;

extern uint32 oa_wait_event(OaWait wait);

/* random.c: random bytes, and text made from them */
#define OA_ID_LEN		24		/* "org_", "key_" or "inv_" and 20 characters */
#define OA_ALPHABET_LEN	62

extern const char oa_alphabet[OA_ALPHABET_LEN + 1];

extern void oa_draw_random(void *bytes, size_t length);
extern void oa_random_characters(char *buffer, int length);
extern text *oa_make_id(const char *prefix);
extern text *oa_make_webhook_secret(void);

/* slot.c: the slot of a key, an org or a person */
extern int	oa_slot_of_digest(const uint8 *digest);
extern int	oa_slot_of_text(const text *id);
extern text *oa_make_org_id(void);

/* clock.c: a monotonic clock */
extern int64 oa_monotonic_ms(void);
extern int64 oa_monotonic_ns(void);
extern int64 oa_boot_time_ns(void);
extern int64 oa_wall_clock_ns(void);

/* arguments.c: arguments of functions, and text that people choose */
#define OA_KEY_NAME_MAX	64		/* characters, after trimming */
#define OA_ORG_NAME_MAX	100
#define OA_REASON_MAX	200
#define OA_DESCRIPTION_MAX	500
#define OA_UID_MAX		128		/* Firebase's own limit */
#define OA_NAME_BYTES_MAX	8192	/* of a name in SQL, including spaces */

pg_noreturn extern void oa_refuse_null(const char *what);
extern Datum oa_page_argument(FunctionCallInfo fcinfo, int n,
							  const char *what, int max);
extern void oa_require_argument(FunctionCallInfo fcinfo, int n,
								const char *what);
extern text *oa_text_argument(FunctionCallInfo fcinfo, int n,
							  const char *what);
extern bool oa_bounded_argument(FunctionCallInfo fcinfo, int n, int max,
								const char **bytes, int *length);
extern text *oa_name_argument(FunctionCallInfo fcinfo, int n,
							  const char *what, int max_characters);
extern text *oa_optional_name_argument(FunctionCallInfo fcinfo, int n,
									   const char *what, int max_characters);
extern text *oa_reason_argument(FunctionCallInfo fcinfo, int n);
extern text *oa_id_argument(FunctionCallInfo fcinfo, int n, const char *what,
							int max_characters);
extern text *oa_uid_argument(FunctionCallInfo fcinfo, int n);
extern char *oa_id_for_message(text *id, const char *prefix);
extern const char *oa_text_rule(OaTextRule rule, int max_characters);
extern text *oa_trim_name(text *name, int max_characters, OaTextRule *broken);
extern text *oa_check_name(Datum name, const char *what, int max_characters);
extern OaTextRule oa_check_uid(text *uid);

/* interval_argument.c */
extern int64 oa_interval_argument(FunctionCallInfo fcinfo, int n,
								  const char *what, bool positive,
								  int max_days);

/* statement.c: the extension's own SQL, run as the owner of its tables */
#define OA_STATEMENT_ARGS 16

typedef struct OaStatement
{
	const char *table;			/* whose owner runs it */
	const char *text;			/* constant; tables and own functions
								 * qualified */
	bool		latest;			/* read-only, under the latest snapshot */
	Oid			argtypes[OA_STATEMENT_ARGS + 1];	/* up to InvalidOid */
	SPIPlanPtr	plan;			/* kept once prepared */
} OaStatement;

extern int	oa_statements_begin(void);
extern int	oa_statement_argument_count(const OaStatement *statement);
extern uint64 oa_statement_run(OaStatement *statement, const Datum *values,
							   const bool *nulls);
extern uint64 oa_statement_run_under(OaStatement *statement,
									 const Datum *values, const bool *nulls,
									 Snapshot snapshot);
pg_noreturn extern void oa_refuse_changed_object(const char *detail);
extern Datum oa_statement_result(int row, int column, Oid type, bool *isnull);
extern bool oa_statement_bool(int row, int column);
extern int64 oa_statement_int64(int row, int column);
extern TimestampTz oa_statement_time(int row, int column, bool *isnull);
extern text *oa_statement_text(int row, int column);
extern text *oa_statement_text_or_null(int row, int column);
extern struct varlena *oa_statement_varlena(int row, int column, Oid type);
extern struct varlena *oa_statement_varlena_or_null(int row, int column,
													Oid type);
extern Datum *oa_statement_column(int count, int column);
extern void oa_statement_return_rows(FunctionCallInfo fcinfo);
extern void oa_statement_return_row(FunctionCallInfo fcinfo, int row);
extern void oa_statement_return_changed(FunctionCallInfo fcinfo, int row,
										int column, Datum value);
extern void oa_statements_end(int guc_level);

/* audit.c: the audit log, and tables that are append-only */
extern void oa_audit(const char *action, text *org_id, text *key_id,
					 text *uid, text *detail);
extern uint64 oa_change_append_only(OaStatement *statement,
									const Datum *values, const bool *nulls);

/* secrecy.c: keeping statements out of the log */
extern void oa_secrecy_begin(ErrorContextCallback *callback);
extern void oa_secrecy_end(ErrorContextCallback *callback);

/* row_type.c: rows of the types that functions are declared with */
typedef struct OaColumn
{
	const char *name;
	Oid			type;
} OaColumn;

extern TupleDesc oa_make_columns(const OaColumn *columns, int count);
extern Datum oa_result_row(FunctionCallInfo fcinfo, const Oid *types,
						   int count, const Datum *values, const bool *nulls);
extern void oa_require_argument_count(FunctionCallInfo fcinfo, int count);
extern void oa_require_columns(const FmgrInfo *function, TupleDesc declared,
							   const Oid *types, int count);
extern void oa_begin_set(FunctionCallInfo fcinfo);
extern void oa_check_set(FunctionCallInfo fcinfo, TupleDesc columns);

/* The named type that a function has last returned, as it was then */
typedef struct OaCheckedType
{
	struct TypeCacheEntry *entry;
	uint64		identifier;
} OaCheckedType;

extern void oa_set_row_type(HeapTupleHeader row, TupleDesc columns,
							FmgrInfo *function, OaCheckedType *checked);

/* single_row.c: set-returning functions with at most one row */
extern bool oa_single_row_was_returned(FunctionCallInfo fcinfo);
extern Datum oa_return_single_row(FunctionCallInfo fcinfo,
								  HeapTupleHeader row);

/* pgcrypto.c: functions of pgcrypto */
extern bytea *oa_hmac_sha256(bytea *key, bytea *message);

/* problem.c: the problems that a request can have, in HTTP and SQL */
typedef enum OaProblem
{
	OA_NO_PROBLEM,
	OA_PATH_TOO_LONG, OA_NOT_FOUND, OA_METHOD_NOT_ALLOWED,
	OA_UNREADABLE_HEADERS, OA_UNSUPPORTED_MEDIA_TYPE, OA_PAYLOAD_TOO_LARGE,
	OA_MISSING_CREDENTIALS, OA_TWO_CREDENTIALS, OA_SEVERAL_CREDENTIALS,
	OA_INVALID_API_KEY, OA_EXPIRED_API_KEY, OA_DISABLED_API_KEY, OA_ADDRESS_REFUSED,
	OA_SCOPE_MISSING, OA_TOO_MANY_REQUESTS, OA_QUOTA_USED_UP,
	OA_INVALID_TOKEN, OA_EXPIRED_TOKEN, OA_AUTH_UNAVAILABLE,
	OA_ANONYMOUS_NOT_ALLOWED, OA_EMAIL_NOT_VERIFIED, OA_BAD_IDEMPOTENCY_KEY,
	OA_INVALID_JSON,
	OA_NOT_AN_OBJECT, OA_NOT_ONE_ORG, OA_INVALID_PARAMETER,
	OA_ORGANIZATION_NOT_FOUND, OA_KEY_NOT_FOUND, OA_KEY_REVOKED,
	OA_DISABLED_BY_OPERATOR, OA_ALREADY_SIGNED_UP,
	OA_ORG_LIMIT_REACHED, OA_API_ACCESS_DISABLED, OA_KEY_LIMIT_REACHED,
	OA_ALREADY_DONE, OA_IDEMPOTENCY_KEY_REUSED, OA_ORGANIZATION_CLOSED,
	OA_MEMBER_NOT_FOUND, OA_LAST_MEMBER, OA_INVITATION_NOT_FOUND,
	OA_ALREADY_MEMBER, OA_INVITATION_LIMIT_REACHED, OA_KEY_NOT_ACTIVE, OA_ROTATION_NOT_OVER,
	OA_SERVICE_UNAVAILABLE
} OaProblem;

#define OA_CHALLENGE	"Bearer realm=\"overten\""

typedef struct OaProblemText
{
	int			status;			/* HTTP status */
	const char *code;
	const char *message;		/* NULL: built from the parameter and its rule */
	const char *challenge;		/* WWW-Authenticate, or NULL */
	const char *retry_after;	/* seconds, or NULL */
	int			sqlstate;		/* if a SQL function can have the problem, too */
	const char *hint;			/* likewise: what its caller can do */
} OaProblemText;

/* What is wrong with a parameter, for OA_INVALID_PARAMETER. */
typedef struct OaFault
{
	const char *param;			/* its name */
	const char *rule;			/* completes a sentence that begins with it */
} OaFault;

extern const OaProblemText *oa_problem_text(OaProblem problem);
extern const char *oa_problem_message(OaProblem problem, const OaFault *fault);

#endif							/* OA_SERVER_H */
