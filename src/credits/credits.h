/*
 * credits.h
 *		Prepaid credits of orgs.
 */
#ifndef OA_CREDITS_H
#define OA_CREDITS_H

#include "overten_auth.h"
#include "datatype/timestamp.h"

#define OA_SHOWN_HOLDS		100
#define OA_LEDGER_PAGE_MAX	200 /* rows */

typedef struct OaBalance
{
	int64		credits;
	int64		held;			/* without holds that have ended */
	int64		entries;		/* rows that the ledger has */
} OaBalance;

/* A hold that has not ended. */
typedef struct OaShownHold
{
	text	   *request_id;
	int64		amount;
	TimestampTz created_at;
	TimestampTz expires_at;
} OaShownHold;

/* A row of the ledger. */
typedef struct OaLedgerRow
{
	int64		entry;
	TimestampTz at;
	text	   *kind;
	int64		amount;
	int64		balance;
	text	   *request_id;		/* or NULL */
	text	   *detail;			/* or NULL */
} OaLedgerRow;

/* The credits of an org, with a page of its ledger. */
typedef struct OaCredits
{
	OaBalance	balance;
	int			hold_count;
	OaShownHold holds[OA_SHOWN_HOLDS];
	int			row_count;
	OaLedgerRow rows[OA_LEDGER_PAGE_MAX];
	bool		has_more;		/* are there rows after this page? */
} OaCredits;

/* balance.c */
extern bool oa_read_credits(text *org_id, int64 before, int limit,
							OaCredits *credits);
extern bool oa_has_credits(void);

/* credit_erasure.c */
extern void oa_erase_credits(text *org_id);

#endif							/* OA_CREDITS_H */
