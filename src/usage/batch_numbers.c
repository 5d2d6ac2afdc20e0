/*
 * batch_numbers.c
 *		The table overten_auth.usage_batches: which batches of uses the tables
 *		have.
 *
 * The transaction that writes a batch writes its number, too.  A source is a
 * shared memory: that of this server, or that of a standby which has sent its
 * uses (add_uses.c).  The batches of a source in a database are written in the
 * order of their numbers, so the last number says it of all.
 *
 * We keep a number for longer than the history of the hours that its batch can
 * have.  So a standby that has not heard for that long whether its batch was
 * written cannot have it written twice: by then, the hours are too old.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "databases/databases.h"
#include "server/server.h"
#include "settings.h"
#include "usage/usage.h"

/*
 * Return the number of the last batch of a source that a registered snapshot
 * sees, or 0 if it sees none.  Must be called between oa_statements_begin()
 * and oa_statements_end().
 */
uint64
oa_last_batch_under(Datum source, Snapshot snapshot)
{
	static OaStatement find = {
		.table = "usage_batches",
		.text = "SELECT last_batch FROM overten_auth.usage_batches "
		"WHERE source = $1",
		.argtypes = {UUIDOID},
	};

	if (oa_statement_run_under(&find, &source, NULL, snapshot) == 0)
		return 0;
	return (uint64) oa_statement_int64(0, 1);
}

/* Return the number of the last batch of a source that is committed. */
uint64
oa_last_batch(Datum source)
{
	int			level = oa_statements_begin();
	Snapshot	snapshot = RegisterSnapshot(GetLatestSnapshot());
	uint64		last = oa_last_batch_under(source, snapshot);

	UnregisterSnapshot(snapshot);
	oa_statements_end(level);
	return last;
}

/* Write the number of a batch, in the batch's transaction. */
void
oa_write_batch_number(Datum source, uint64 number)
{
	static OaStatement set_last = {
		.table = "usage_batches",
		.text = "INSERT INTO overten_auth.usage_batches AS b "
		"(source, last_batch, written_at) VALUES ($1, $2, $3) "
		"ON CONFLICT (source) DO UPDATE SET last_batch = EXCLUDED.last_batch, "
		"written_at = EXCLUDED.written_at",
		.argtypes = {UUIDOID, INT8OID, TIMESTAMPTZOID},
	};
	Datum		values[] = {
		source,
		Int64GetDatum((int64) number),
		TimestampTzGetDatum(GetCurrentTimestamp()),
	};
	int			level = oa_statements_begin();

	oa_statement_run(&set_last, values, NULL);
	oa_statements_end(level);
}

/* Remove the numbers of sources that have not written for long. */
void
oa_remove_old_batches(void)
{
	static OaStatement remove = {
		.table = "usage_batches",
		.text = "DELETE FROM overten_auth.usage_batches "
		"WHERE source <> $1 AND written_at < $2",
		.argtypes = {UUIDOID, TIMESTAMPTZOID},
	};
	Datum		values[] = {
		oa_shared_source(),
		TimestampTzGetDatum(GetCurrentTimestamp() - USECS_PER_DAY -
							oa_usage_retention * USECS_PER_MINUTE),
	};
	int			level;

	oa_worker_begin();
	level = oa_statements_begin();
	oa_statement_run(&remove, values, NULL);
	oa_statements_end(level);
	oa_worker_commit();
}
