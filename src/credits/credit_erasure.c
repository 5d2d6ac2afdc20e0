/*
 * credit_erasure.c
 *		Erases the credits of an org that is erased.
 *
 * The ledger keeps its amounts, which the books of a company need, and loses
 * what people have written: reasons, details and request ids.  What the org has
 * left is written off, so that the ledger still adds up to what the org has.
 */
#include "postgres.h"

#include "catalog/pg_type.h"

#include "credits/account.h"
#include "server/server.h"

/*
 * Erase the credits of an org, whose row in orgs is locked.  Must be called
 * between oa_statements_begin() and _end(), before the row says that the org is
 * erased.
 */
void
oa_erase_credits(text *org_id)
{
	static OaStatement remove_holds = {
		.table = "credit_holds",
		.text = "DELETE FROM overten_auth.credit_holds WHERE org_id = $1",
		.argtypes = {TEXTOID},
	};
	static OaStatement erase_ledger = {
		.table = "credit_ledger",
		.text = "UPDATE overten_auth.credit_ledger "
		"SET request_id = NULL, detail = NULL WHERE org_id = $1 "
		"AND (request_id IS NOT NULL OR detail IS NOT NULL)",
		.argtypes = {TEXTOID},
	};
	static OaStatement remove_account = {
		.table = "credits",
		.text = "DELETE FROM overten_auth.credits WHERE org_id = $1",
		.argtypes = {TEXTOID},
	};
	Datum		values[] = {PointerGetDatum(org_id)};
	OaAccount	account;
	OaEntry		rest = {.kind = "write_off"};
	int64		balance;

	if (!oa_lock_account(org_id, &account))
		return;
	rest.amount = -account.balance;
	oa_statement_run(&remove_holds, values, NULL);
	if (account.balance > 0 &&
		!oa_write_entry(&account, &rest, account.held, &balance))
		elog(ERROR, "credits were not written off");
	oa_change_append_only(&erase_ledger, values, NULL);
	oa_statement_run(&remove_account, values, NULL);
}
