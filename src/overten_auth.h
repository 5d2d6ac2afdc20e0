/*
 * overten_auth.h
 *		What the files of overten_auth share, grouped by the file that owns it.
 *
 * Every symbol that crosses a file begins with oa_ (types Oa, constants OA_):
 * the modules that a PostgreSQL 15 server loads share one symbol space.
 */
#ifndef OVERTEN_AUTH_H
#define OVERTEN_AUTH_H

#include "datatype/timestamp.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "utils/relcache.h"
#include "utils/snapshot.h"

/* The schema that holds the extension's tables; C never searches for them. */
#define OA_SCHEMA "overten_auth"

/* overten_auth.c: settings */
extern int	oa_cache_entries;
extern bool oa_record_use_without_preload;
extern bool oa_verify_on_standby;

/* key_text.c: the form of secrets, ids and names */
#define OA_SECRET_LEN	36		/* "sk_live_" and 28 alphanumeric characters */
#define OA_PREFIX_LEN	12		/* what stays visible of a secret */
#define OA_DIGEST_LEN	32		/* SHA-256 */
#define OA_ID_LEN		24		/* "org_" or "key_" and 20 characters */

extern bool oa_is_secret_shaped(const char *bytes, int length);
extern text *oa_make_secret(void);
extern void oa_digest(const char *bytes, int length, uint8 *digest);
extern text *oa_make_id(const char *prefix);
extern text *oa_make_webhook_secret(void);

/* name_text.c: arguments, and the text that people choose */
#define OA_KEY_NAME_MAX	64		/* characters, after trimming */
#define OA_ORG_NAME_MAX	100
#define OA_REASON_MAX	200
#define OA_UID_MAX		128		/* Firebase's own limit */

extern void oa_require_argument(FunctionCallInfo fcinfo, int n,
								const char *what);
extern text *oa_text_argument(FunctionCallInfo fcinfo, int n,
							  const char *what);
extern text *oa_check_name(text *name, const char *what, int max_characters);
extern void oa_check_uid(text *uid);

/* cache.c: per-backend caches that a change of the tables empties */
typedef struct OaCache OaCache;

extern void oa_cache_init(void);
extern uint64 oa_cache_generation(void);
extern OaCache *oa_cache_create(const char *name);
extern void *oa_cache_find(OaCache *cache, const uint8 *key);
extern void *oa_cache_store(OaCache *cache, const uint8 *key,
							const void *value, Size size,
							uint64 read_generation);

/* store.c: direct reads of the tables, under the latest snapshot */
typedef struct OaRead
{
	Relation	keys;			/* open until it has been looked at */
	uint64		generation;		/* of the caches, before the snapshot */
	Snapshot	snapshot;		/* registered; sees all that has committed */
	bool		outdated;		/* a table was rewritten meanwhile */
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

extern bool oa_store_watches(Oid relid);
extern void oa_store_begin_read(OaRead *read);
extern void oa_store_end_read(OaRead *read);
extern bool oa_store_find_key(OaRead *read, const uint8 *digest,
							  OaKeyRow *row);
extern bool oa_store_find_org(OaRead *read, text *org_id, OaOrgRow *row);

/* statement.c: the extension's own SQL, run as the owner of its tables */
#define OA_STATEMENT_ARGS 8

typedef struct OaStatement
{
	const char *table;			/* whose owner runs it */
	const char *text;			/* constant; every name and operator qualified */
	int			nargs;
	Oid			argtypes[OA_STATEMENT_ARGS];
	SPIPlanPtr	plan;			/* kept once prepared */
} OaStatement;

extern int	oa_statements_begin(void);
extern uint64 oa_statement_run(OaStatement *statement, const Datum *values,
							   const char *nulls);
extern Datum oa_statement_result(int row, int column, bool *isnull);
extern void oa_statement_return_rows(FunctionCallInfo fcinfo);
extern void oa_statements_end(int guc_level);

/* audit.c: the audit log */
extern void oa_audit(const char *action, text *org_id, text *key_id,
					 text *uid, text *detail);

/* secrecy.c: keeping statements out of the log */
extern void oa_secrecy_begin(ErrorContextCallback *callback);
extern void oa_secrecy_end(ErrorContextCallback *callback);

/* sealing.c: how a webhook secret is kept in the table */
extern bytea *oa_seal(text *org_id, text *webhook_secret);
extern text *oa_unseal(text *org_id, bytea *sealed);

/* usage.c: recording that a key was used */
extern bool oa_use_is_due(TimestampTz *recorded_at);
extern void oa_record_use(text *key_id);

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
extern bool oa_revoke_key(text *org_id, text *key_id, text *uid,
						  text *reason);

/* orgs.c */
extern void oa_org_missing(void) pg_attribute_noreturn();
extern void oa_require_org(text *org_id);

#endif							/* OVERTEN_AUTH_H */
