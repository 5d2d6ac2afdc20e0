/*
 * add_uses.c
 *		Adds the uses that a standby has counted to the history.
 *
 * Standbys call this procedure (sent_uses.c).  A batch and its number are
 * written in one transaction, so that a batch that is sent again is written
 * once.
 *
 * We do not trust the caller.  Who may call this can add uses to keys that
 * exist, in hours that the history has, and nothing else: what cannot be a use
 * that a standby has counted is refused, or fitted into its hour.  The
 * procedure commits by itself, so that nobody can hold its locks, which would
 * stop the flush.
 */
#include "postgres.h"

#include "access/xact.h"
#include "access/xlog.h"
#include "miscadmin.h"
#include "nodes/parsenodes.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"
#include "utils/uuid.h"

#include "databases/databases.h"
#include "server/server.h"
#include "settings.h"
#include "usage/usage.h"

PG_FUNCTION_INFO_V1(overten_add_uses);

enum
{
	SYSTEM_ID, SOURCE, BATCH, FIRST_COLUMN,
	ARGUMENTS = FIRST_COLUMN + OA_SENT_COLUMNS
};

/* Raise an error unless the procedure can commit, and may add uses at all. */
static void
require_own_transaction(FunctionCallInfo fcinfo)
{
	CallContext *context = (CallContext *) fcinfo->context;

	if (context == NULL || !IsA(context, CallContext) || context->atomic)
		ereport(ERROR,
				(errcode(ERRCODE_ACTIVE_SQL_TRANSACTION),
				 errmsg("overten_auth.add_uses cannot run inside a transaction block")));
	PreventCommandDuringRecovery("overten_auth.add_uses");
}

/* Check the arguments that say whose batch this is.  Returns its number. */
static uint64
check_batch(FunctionCallInfo fcinfo)
{
	int64		batch;

	for (int i = 0; i < ARGUMENTS; i++)
		if (PG_ARGISNULL(i))
			ereport(ERROR,
					(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
					 errmsg("the arguments of overten_auth.add_uses cannot be NULL")));
	if ((uint64) PG_GETARG_INT64(SYSTEM_ID) != GetSystemIdentifier())
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("these uses were counted on a standby of another cluster"),
				 errhint("primary_conninfo or overten_auth.uses_conninfo of the standby leads to the wrong server.")));
	batch = PG_GETARG_INT64(BATCH);
	if (batch < 1)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("the number of a batch must be positive")));
	if (oa_shared_since() != 0 &&
		memcmp(PG_GETARG_UUID_P(SOURCE), DatumGetUUIDP(oa_shared_source()),
			   UUID_LEN) == 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("the source of a batch must be another server")));
	return (uint64) batch;
}

/* Move a time into a period. */
static TimestampTz
fit_time(TimestampTz time, TimestampTz first, TimestampTz last)
{
	return Min(Max(time, first), last);
}

/*
 * Fit uses into the hours that the history has.  The clock of a standby can be
 * ahead: what is in a later hour counts in the current one.  We drop what the
 * next cleaning would remove.  Returns how many uses are left.
 */
static int
fit_hours(OaUses *uses, int count)
{
	TimestampTz now = GetCurrentTimestamp();
	TimestampTz oldest = now - oa_usage_retention * USECS_PER_MINUTE;
	int			left = 0;

	for (int i = 0; i < count; i++)
	{
		OaUses		use = uses[i];
		TimestampTz begin;
		TimestampTz end;

		use.key.hour = (int32) Min(use.key.hour, now / USECS_PER_HOUR);
		begin = use.key.hour * USECS_PER_HOUR;
		end = Min(begin + USECS_PER_HOUR - 1, now);
		if (begin < oldest)
			continue;
		use.first_used_at = fit_time(use.first_used_at, begin, end);
		use.last_refused_at = fit_time(use.last_refused_at, begin, end);
		if (use.accepted > 0)
			use.last_accepted_at = fit_time(use.last_accepted_at, begin, end);
		uses[left++] = use;
	}
	return left;
}

/*
 * Set what a session may have set otherwise, until the end of the transaction.
 * As the flush, we do not wait for standbys: the one that has sent the batch
 * keeps it until it has replayed our commit.
 */
static void
prepare_transaction(void)
{
	(void) set_config_option("lock_timeout", oa_lock_timeout(), PGC_USERSET,
							 PGC_S_SESSION, GUC_ACTION_LOCAL, true, 0, false);
	(void) set_config_option("synchronous_commit", "local", PGC_USERSET,
							 PGC_S_SESSION, GUC_ACTION_LOCAL, true, 0, false);
}

/* Write a batch, unless the tables have it.  Returns how many uses it has. */
static int64
write_batch(Datum source, uint64 batch, OaUses *uses, int count)
{
	bool	   *known = palloc0(Max(count, 1) * sizeof(bool));
	int64		written = 0;

	if (!oa_lock_usage_tables())
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("the tables of overten_auth do not exist")));
	if (oa_last_batch(source) >= batch)
		return 0;
	count = oa_merge_uses(uses, fit_hours(uses, count));
	if (count > 0)
		oa_write_uses(uses, count, known);
	oa_write_batch_number(source, batch);
	for (int i = 0; i < count; i++)
		if (known[i])
			written += uses[i].accepted + uses[i].refused + uses[i].limited;
	return written;
}

/* Commit. */
static void
commit(void)
{
	if (SPI_connect_ext(SPI_OPT_NONATOMIC) != SPI_OK_CONNECT)
		elog(ERROR, "SPI_connect failed");
	SPI_commit();
	if (SPI_finish() != SPI_OK_FINISH)
		elog(ERROR, "SPI_finish failed");
}

/*
 * overten_auth.add_uses(system_identifier bigint, source uuid, batch bigint,
 *		key_ids text[], hours timestamptz[], client_addrs inet[],
 *		accepted, refused, limited bigint[], first_used_at, last_used_at,
 *		last_accepted_at timestamptz[])
 *
 * Adds a batch of uses, and commits.  Raises 22023 if they cannot be uses that
 * a standby has counted, 22004 for a NULL, 55000 if they are of another
 * cluster, 25001 in a transaction block, 25006 on a standby, and 55P03 if
 * another transaction writes history for long.
 */
Datum
overten_add_uses(PG_FUNCTION_ARGS)
{
	ErrorContextCallback secrecy;
	Datum		arrays[OA_SENT_COLUMNS];
	OaUses	   *uses;
	uint64		batch;
	int64		written;
	int			count;

	oa_secrecy_begin(&secrecy);
	oa_require_argument_count(fcinfo, ARGUMENTS);
	require_own_transaction(fcinfo);
	batch = check_batch(fcinfo);
	for (int i = 0; i < OA_SENT_COLUMNS; i++)
		arrays[i] = PG_GETARG_DATUM(FIRST_COLUMN + i);
	count = oa_read_use_arrays(arrays, &uses);

	prepare_transaction();
	PushActiveSnapshot(GetTransactionSnapshot());
	written = write_batch(PG_GETARG_DATUM(SOURCE), batch, uses, count);
	PopActiveSnapshot();
	commit();
	oa_count_events(OA_USE_RECEIVED, written);
	oa_secrecy_end(&secrecy);
	PG_RETURN_VOID();
}
