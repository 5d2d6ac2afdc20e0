/*
 * account.h
 *		The credits of one org, locked, for the files of this directory.
 */
#ifndef OA_ACCOUNT_H
#define OA_ACCOUNT_H

#include "utils/snapshot.h"

#include "credits/credits.h"

#define OA_REQUEST_ID_MAX	255 /* characters */

/* The row of an org in credits.  Times are compared with "now". */
typedef struct OaAccount
{
	text	   *org_id;
	int64		balance;
	int64		held;			/* holds that have ended included */
	TimestampTz now;			/* when we had the lock */
} OaAccount;

/* A row of the ledger, as it is to be written. */
typedef struct OaEntry
{
	const char *kind;
	int64		amount;			/* added to the balance, so mostly negative */
	text	   *request_id;		/* or NULL */
	text	   *detail;			/* or NULL */
} OaEntry;

/* account.c */
extern int64 oa_amount_argument(FunctionCallInfo fcinfo, int n, int64 lowest);
extern text *oa_request_id_argument(FunctionCallInfo fcinfo, int n);
extern bool oa_lock_account(text *org_id, OaAccount *account);
extern void oa_open_account(text *org_id, OaAccount *account);
extern void oa_sweep_holds(OaAccount *account);
pg_noreturn extern void oa_refuse_shortage(const OaAccount *account,
										   int64 amount);

/* ledger.c */
extern bool oa_find_entry(text *org_id, const OaEntry *entry, int64 *balance);
extern bool oa_is_done(text *org_id, text *request_id);
extern bool oa_write_entry(const OaAccount *account, const OaEntry *entry,
						   int64 released, int64 *balance);
extern int	oa_run_ledger_page(text *org_id, int64 before, int limit,
							   Snapshot snapshot);

#endif							/* OA_ACCOUNT_H */
