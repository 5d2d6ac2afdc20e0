/*
 * invalidation.c
 *		Tells every backend which keys and orgs have changed: sends the
 *		messages, and receives them.
 *
 * A row trigger on each table whose rows are cached sends the messages.  The
 * trigger is ENABLE ALWAYS, so it fires for the extension's functions, for a
 * plain UPDATE, and in the logical apply worker, which fires no statement
 * triggers.  It sends PostgreSQL's own relcache message.  PostgreSQL delivers
 * that with the commit, or with the COMMIT PREPARED of a prepared transaction;
 * cache.c says why that is enough.
 *
 * If the message were about the table, every session would rebuild its
 * relcache entry and plans, and forget all keys.  So the message is about an
 * OID that the trigger makes up: 0x80000000 plus 31 bits of the hash of the
 * key's digest or of the org's id.  Usually no session has a relation with
 * that OID open; a session that has one rebuilds its relcache entry once more
 * than necessary.  A limit of a tier sends an OID that stands for the tier, and
 * every other limit that of its org.  The receiver keeps a clock, and for each of OA_BUCKETS
 * buckets the time of the last change.  shared_clock.c does the same for the
 * shared cache.
 *
 * PostgreSQL searches the messages of a command for duplicates, so there must
 * not be many different ones.  After ROWS_MAX rows, a transaction sends the
 * OIDs of the keys' orgs instead; after ROWS_MAX changes from one org to
 * another, it sends the table's own OID.  These counts only choose the
 * message.  We still send one for each row, because ROLLBACK TO SAVEPOINT
 * throws away those that were sent before.
 *
 * The commit waits for its WAL, whatever synchronous_commit says, because a
 * crash must not undo a revocation that was acknowledged.  What it waits for
 * on standbys is in revocation_commit.c.
 *
 * After a transaction has changed keys or orgs, it neither searches nor fills
 * any cache until it ends, because it sees what others may not see.  The name
 * of our trigger sorts before other names, so it fires before other triggers,
 * and this rule already holds when another trigger verifies a key.
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/pg_type.h"
#include "commands/trigger.h"
#include "common/hashfn.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "port/atomics.h"
#include "storage/sinval.h"
#include "utils/inval.h"
#include "utils/rel.h"
#include "utils/resowner.h"

#include "lookup/changes.h"

#define MADE_UP		0x80000000U

/* Makes the hash of a tier's name another one than that of an org's id. */
#define TIER_SEED	1

#define ROWS_MAX	32

/* The clock: counts the changes that this backend has been told of. */
static uint64 local_clock = 1;

/*
 * The time of the last change that may concern everything, and of the last
 * change in each bucket.
 */
static uint64 all_changed = 1;
static uint64 changed[OA_BUCKETS];

/* The OIDs of the tables, and what all_changed was when we looked them up. */
static Oid	watched[OA_TABLES];
static uint64 watched_under = 0;

/* The value of SharedInvalidMessageCounter when we last accepted messages. */
static uint64 messages_received = 0;

/* What the current transaction has changed. */
static bool own_change = false;
static bool has_owner = false;	/* that announce_change() has made */
static bool takes_access_away = false;
static int	rows_changed = 0;
static int	orgs_changed = 0;
static Oid	last_org = InvalidOid;

PG_FUNCTION_INFO_V1(overten_invalidate_caches);

/* Return the OID that stands for a digest or an org's id. */
static Oid
make_up_oid(const void *bytes, int length)
{
	return MADE_UP | hash_bytes(bytes, length);
}

/* Return the OID that stands for a tier. */
static Oid
make_up_tier_oid(const void *bytes, int length)
{
	return MADE_UP | (uint32) hash_bytes_extended(bytes, length, TIER_SEED);
}

/*
 * Return the bucket of a made-up OID.  If one database is a copy of another,
 * both have the same ids.  In the shared cache these ids are in different
 * buckets.
 */
static uint32
bucket_of_oid(Oid oid)
{
	return ((oid & ~MADE_UP) ^ (MyDatabaseId * 0x9E3779B1U)) % OA_BUCKETS;
}

/* Return the bucket of a digest or an org's id. */
uint32
oa_bucket(const void *bytes, int length)
{
	return bucket_of_oid(make_up_oid(bytes, length));
}

/* Return the bucket of a tier. */
uint32
oa_tier_bucket(text *tier)
{
	return bucket_of_oid(make_up_tier_oid(VARDATA_ANY(tier),
										  VARSIZE_ANY_EXHDR(tier)));
}

/* Is this one of the tables that we read? */
static bool
is_watched(Oid relid)
{
	for (int i = 0; i < OA_TABLES; i++)
	{
		if (relid == watched[i])
			return true;
	}
	return false;
}

/*
 * Can this message mean that the open transaction itself has changed a whole
 * table, by TRUNCATE or ALTER TABLE?  No row trigger fires for those.
 */
static bool
may_be_own_table(Oid relid)
{
	return IsTransactionState() &&
		TransactionIdIsValid(GetTopTransactionIdIfAny()) &&
		(is_watched(relid) || oa_shared_is_published(relid));
}

/*
 * The relcache callback.  It may run wherever a lock is taken, so it only does
 * arithmetic.  InvalidOid means that the queue of messages overflowed, so
 * anything may have changed.  While we do not know the OIDs of our tables, any
 * message may be about one of them.  A real OID may be as large as a made-up
 * one, so we compare with the real ones first.
 */
static void
relation_changed(Datum arg, Oid relid)
{
	if (!OidIsValid(relid) || !oa_are_tables_watched() || is_watched(relid))
		all_changed = ++local_clock;
	else if (relid & MADE_UP)
		changed[bucket_of_oid(relid)] = ++local_clock;

	if (OidIsValid(relid) && may_be_own_table(relid))
		own_change = true;
	if (!oa_shared_owes_message())
		return;
	if (!OidIsValid(relid) || oa_shared_is_published(relid))
		oa_shared_count_all();
	else if (relid & MADE_UP)
		oa_shared_count(bucket_of_oid(relid));
}

/* Return the clock of this backend, for what the caller is about to read. */
uint64
oa_clock(void)
{
	return local_clock;
}

/* Return the time of the last change that may concern everything. */
uint64
oa_all_changed(void)
{
	return all_changed;
}

/* Likewise, after accepting the messages that are waiting. */
uint64
oa_latest_all_changed(void)
{
	oa_accept_changes();
	return all_changed;
}

/* Has anything in these buckets, or everything, changed since "as_of"? */
bool
oa_has_changed(uint64 as_of, OaBuckets buckets)
{
	return all_changed > as_of ||
		(buckets.key < OA_BUCKETS && changed[buckets.key] > as_of) ||
		(buckets.org < OA_BUCKETS && changed[buckets.org] > as_of) ||
		(buckets.tier < OA_BUCKETS && changed[buckets.tier] > as_of);
}

/* Accept the messages that are waiting; see rule 3 in cache.c. */
void
oa_accept_changes(void)
{
	pg_memory_barrier();
	AcceptInvalidationMessages();
	messages_received = SharedInvalidMessageCounter;
}

/* Invalidate everything that this backend has cached. */
void
oa_forget_all(void)
{
	all_changed = ++local_clock;
}

/* Has the current transaction changed something that is cached? */
bool
oa_has_own_change(void)
{
	return own_change;
}

/*
 * May the current transaction take access away: has it changed or deleted a
 * row that verification depends on?
 */
bool
oa_takes_access_away(void)
{
	return takes_access_away;
}

/* Set the OID of a table that we watch. */
void
oa_watch_table(OaTable table, Oid relid)
{
	watched[table] = relid;
}

/* Do we know the OIDs of all tables? */
bool
oa_are_tables_watched(void)
{
	return watched_under == all_changed;
}

/* Note that all OIDs were looked up while all_changed had this value. */
void
oa_tables_are_watched(uint64 under)
{
	watched_under = under;
}

/*
 * Called when an error has ended a transaction or a subtransaction.  The error
 * may come from another module's callback, which received a message before our
 * callback could.  Then that message is lost to us, so we forget everything.
 * Returns true if that may have happened.
 */
static bool
at_error(void)
{
	if (messages_received == SharedInvalidMessageCounter)
		return false;
	oa_forget_all();
	messages_received = SharedInvalidMessageCounter;
	return true;
}

static void
at_subtransaction_end(SubXactEvent event, SubTransactionId my_subid,
					  SubTransactionId parent_subid, void *arg)
{
	if (event == SUBXACT_EVENT_ABORT_SUB)
		(void) at_error();
}

/*
 * Called at the end of a transaction, after PostgreSQL has made its changes
 * visible and sent its messages, and before it answers the client.  It is
 * called once for each resource owner of the transaction.  The call for the
 * owner that announce_change() creates comes before the locks are released.
 * We call at_error() before we accept messages, because accepting them resets
 * what at_error() compares.
 */
static void
at_release(ResourceReleasePhase phase, bool is_commit, bool is_top_level,
		   void *arg)
{
	bool		lost_messages;

	if (phase != RESOURCE_RELEASE_LOCKS || !is_top_level)
		return;

	lost_messages = !is_commit && at_error();
	oa_shared_count_own(is_commit, lost_messages);
	own_change = false;
	has_owner = false;
	takes_access_away = false;
	rows_changed = 0;
	orgs_changed = 0;
	last_org = InvalidOid;
}

/*
 * Register the callbacks.  Called once per process, when the library is
 * loaded.
 */
void
oa_invalidation_init(void)
{
	CacheRegisterRelcacheCallback(relation_changed, (Datum) 0);
	RegisterSubXactCallback(at_subtransaction_end, NULL);
	RegisterResourceReleaseCallback(at_release, NULL);
	oa_revocation_commit_init();
}

/*
 * Note that the current transaction changes something that is cached.
 * PostgreSQL releases locks with the transaction's own resource owner, after
 * the owners below it.  So we create an owner below it: when PostgreSQL
 * releases that owner, we count the change, and only then can a session that
 * waits for a row see it.
 */
static void
announce_change(void)
{
	if (!has_owner)
		ResourceOwnerCreate(TopTransactionResourceOwner,
							"overten_auth changes");
	has_owner = true;
	own_change = true;
	takes_access_away = true;
	ForceSyncCommit();
}

/* Send a message about a made-up OID. */
static void
send(Oid oid)
{
	FormData_pg_class form = {0};
	RelationData relation = {0};

	relation.rd_rel = &form;
	relation.rd_id = oid;
	CacheInvalidateRelcache(&relation);
}

/*
 * Return the made-up OID for a column of a row, or InvalidOid if it is NULL or
 * there is no such column of type text or bytea.
 */
static Oid
column_oid(Relation relation, HeapTuple row, const char *column,
		   Oid (*make_up) (const void *bytes, int length))
{
	int			attnum = SPI_fnumber(RelationGetDescr(relation), column);
	Oid			type;
	bool		isnull;
	Datum		value;
	struct varlena *bytes;

	if (attnum <= 0)
		return InvalidOid;
	type = SPI_gettypeid(RelationGetDescr(relation), attnum);
	if (type != TEXTOID && type != BYTEAOID)
		return InvalidOid;
	value = SPI_getbinval(row, RelationGetDescr(relation), attnum, &isnull);
	if (isnull)
		return InvalidOid;
	bytes = PG_DETOAST_DATUM_PACKED(value);
	return make_up(VARDATA_ANY(bytes), VARSIZE_ANY_EXHDR(bytes));
}

/*
 * Send a message for the org of a row, or for the tier of a limit that has no
 * org, or for the whole table.
 */
static void
send_org(Relation relation, HeapTuple row)
{
	Oid			org = column_oid(relation, row, "org_id", make_up_oid);

	if (!OidIsValid(org))
		org = column_oid(relation, row, "subject", make_up_tier_oid);
	if (org != last_org && orgs_changed <= ROWS_MAX)
	{
		last_org = org;
		orgs_changed++;
	}
	if (OidIsValid(org) && orgs_changed <= ROWS_MAX)
		send(org);
	else
		CacheInvalidateRelcache(relation);
}

/* Send a message for a version of a row. */
static void
send_row(Relation relation, HeapTuple row)
{
	const char *table = RelationGetRelationName(relation);
	Oid			key;

	if (strcmp(table, "orgs") == 0 || strcmp(table, "limits") == 0)
		send_org(relation, row);
	else if (strcmp(table, "api_keys") == 0)
	{
		key = column_oid(relation, row, "digest", make_up_oid);
		if (rows_changed <= ROWS_MAX)
			rows_changed++;
		if (OidIsValid(key) && rows_changed <= ROWS_MAX)
			send(key);
		else
			send_org(relation, row);
	}
	else
		CacheInvalidateRelcache(relation);
}

/* The function of the triggers named "0_invalidate_caches". */
Datum
overten_invalidate_caches(PG_FUNCTION_ARGS)
{
	TriggerData *trigger = (TriggerData *) fcinfo->context;

	if (!CALLED_AS_TRIGGER(fcinfo))
		ereport(ERROR,
				(errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
				 errmsg("function \"%s\" was not called by trigger manager",
						"overten_auth.invalidate_caches")));
	if (!TRIGGER_FIRED_AFTER(trigger->tg_event) ||
		!TRIGGER_FIRED_FOR_ROW(trigger->tg_event))
		ereport(ERROR,
				(errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
				 errmsg("function \"%s\" must be fired AFTER ROW",
						"overten_auth.invalidate_caches")));

	announce_change();
	send_row(trigger->tg_relation, trigger->tg_trigtuple);
	if (TRIGGER_FIRED_BY_UPDATE(trigger->tg_event))
		send_row(trigger->tg_relation, trigger->tg_newtuple);
	return PointerGetDatum(NULL);
}
