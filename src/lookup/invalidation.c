/*
 * invalidation.c
 *		Tells every backend which keys and orgs have changed: both ends.
 *
 * The sender is a row trigger on each table whose rows are cached.  It is
 * ENABLE ALWAYS, so it fires for the extension's functions, for a plain UPDATE,
 * and in the logical apply worker, which fires no statement triggers.  It sends
 * PostgreSQL's own relcache message, which goes out with the commit, of a
 * prepared transaction too; cache.c says why that is enough.
 *
 * The message is not about the table, or every session would rebuild its
 * relcache entry and plans and forget all keys.  It is about an OID that the
 * trigger makes up: 0x80000000 plus 31 bits of the hash of the key's digest or
 * the org's id.  No relation that anybody has open has it, as a rule; if one
 * does, it is rebuilt once more than it needs to be.  Each cache keeps a clock,
 * and for each of OA_BUCKETS buckets the time of the last change.
 *
 * PostgreSQL searches the messages of a command for duplicates, so they must
 * stay few: after ROWS_MAX rows a transaction sends the OIDs of the keys' orgs,
 * after ROWS_MAX changes of the org the table's own OID.  The counts only choose
 * the message.  Each row sends one, because ROLLBACK TO SAVEPOINT throws away
 * those that were sent before.
 *
 * The commit waits for its WAL, whatever synchronous_commit says: a revocation
 * that has been acknowledged must not come undone in a crash.
 *
 * A transaction that has changed keys or orgs itself neither asks nor fills any
 * cache until it ends: what it sees is not what others may see.  Its trigger
 * has a name that sorts before others, so that another trigger that verifies a
 * key finds that out.
 */
#include "postgres.h"

#include "access/xact.h"
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

#define ROWS_MAX	32

/* Counts the changes that this backend has heard of. */
static uint64 local_clock = 1;

/* When something changed that may concern everything, and each bucket. */
static uint64 all_changed = 1;
static uint64 changed[OA_BUCKETS];

/* The tables' OIDs, and the value of all_changed that they were found under. */
static Oid	watched[OA_TABLES];
static uint64 watched_under = 0;

/* The messages that had been received when we last accepted all of them. */
static uint64 messages_received = 0;

/* What the current transaction has changed. */
static bool own_change = false;
static int	rows_changed = 0;
static int	orgs_changed = 0;
static Oid	last_org = InvalidOid;

PG_FUNCTION_INFO_V1(overten_invalidate_caches);

/* The OID that stands for a digest or an org's id. */
static Oid
make_up_oid(const void *bytes, int length)
{
	return MADE_UP | hash_bytes(bytes, length);
}

/*
 * The bucket of such an OID.  Databases that have the same ids, because one is
 * a copy of the other, have them in different buckets of the shared cache.
 */
static uint32
bucket_of_oid(Oid oid)
{
	return ((oid & ~MADE_UP) ^ (MyDatabaseId * 0x9E3779B1U)) % OA_BUCKETS;
}

/* The bucket of a digest or an org's id. */
uint32
oa_bucket(const void *bytes, int length)
{
	return bucket_of_oid(make_up_oid(bytes, length));
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
 * May the message say that the open transaction has itself changed a table as a
 * whole, by TRUNCATE or ALTER TABLE?  Then no row trigger has fired.
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
 * arithmetic.  InvalidOid means that the queue of messages overflowed: anything
 * may have changed.  So may a table whose OID we do not know.  Real OIDs may be
 * as large as made-up ones, so ask for them first.
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

/* The clock of this backend: what is read from now on is as of this. */
uint64
oa_clock(void)
{
	return local_clock;
}

/* When everything changed the last time. */
uint64
oa_all_changed(void)
{
	return all_changed;
}

/* The same, after the messages that wait. */
uint64
oa_latest_all_changed(void)
{
	oa_accept_changes();
	return all_changed;
}

/* Has anything changed since "as_of" that these buckets stand for? */
bool
oa_has_changed(uint64 as_of, OaBuckets buckets)
{
	return all_changed > as_of ||
		(buckets.key < OA_BUCKETS && changed[buckets.key] > as_of) ||
		(buckets.org < OA_BUCKETS && changed[buckets.org] > as_of);
}

/* Receive the messages that wait: see 3. in cache.c. */
void
oa_accept_changes(void)
{
	pg_memory_barrier();
	AcceptInvalidationMessages();
	messages_received = SharedInvalidMessageCounter;
}

/* Forget everything that is cached here. */
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

/* Watch this OID of a table. */
void
oa_watch_table(OaTable table, Oid relid)
{
	watched[table] = relid;
}

/* Are all OIDs known? */
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
 * If an error ends a transaction or a subtransaction, it may have come out of
 * the receipt of a message, from another module's callback that runs before
 * ours.  Then the message is gone, and we have not heard of it.  True if that
 * may be so.
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
 * The end of a transaction, after PostgreSQL has made its changes visible and
 * sent its messages, before it answers the client.  Called for each resource
 * owner of the transaction: for the one of announce_change() before the locks
 * are released.  The question about errors comes before messages are accepted.
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
	rows_changed = 0;
	orgs_changed = 0;
	last_org = InvalidOid;
}

/* Start to listen.  Called once per process, when the library is loaded. */
void
oa_invalidation_init(void)
{
	CacheRegisterRelcacheCallback(relation_changed, (Datum) 0);
	RegisterSubXactCallback(at_subtransaction_end, NULL);
	RegisterResourceReleaseCallback(at_release, NULL);
}

/*
 * The current transaction changes something that is cached.  Locks are released
 * with the transaction's own resource owner, after those below it.  So one below
 * it has us count the change before anybody who waits for a row may see it.
 */
static void
announce_change(void)
{
	if (!own_change)
		ResourceOwnerCreate(TopTransactionResourceOwner,
							"overten_auth changes");
	own_change = true;
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

/* The made-up OID for a column of a row; InvalidOid if there is none. */
static Oid
column_oid(Relation relation, HeapTuple row, const char *column)
{
	int			attnum = SPI_fnumber(RelationGetDescr(relation), column);
	bool		isnull;
	Datum		value;
	struct varlena *bytes;

	if (attnum <= 0)
		return InvalidOid;
	value = SPI_getbinval(row, RelationGetDescr(relation), attnum, &isnull);
	if (isnull)
		return InvalidOid;
	bytes = PG_DETOAST_DATUM_PACKED(value);
	return make_up_oid(VARDATA_ANY(bytes), VARSIZE_ANY_EXHDR(bytes));
}

/* Send a message for the org of a row, or for the whole table. */
static void
send_org(Relation relation, HeapTuple row)
{
	Oid			org = column_oid(relation, row, "org_id");

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

	if (strcmp(table, "orgs") == 0)
		send_org(relation, row);
	else if (strcmp(table, "api_keys") == 0)
	{
		key = column_oid(relation, row, "digest");
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

/* The function of the triggers "0_invalidate_caches". */
Datum
overten_invalidate_caches(PG_FUNCTION_ARGS)
{
	TriggerData *trigger = (TriggerData *) fcinfo->context;

	if (!CALLED_AS_TRIGGER(fcinfo) ||
		!TRIGGER_FIRED_AFTER(trigger->tg_event) ||
		!TRIGGER_FIRED_FOR_ROW(trigger->tg_event))
		ereport(ERROR,
				(errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
				 errmsg("invalidate_caches must be called by an AFTER ROW trigger")));

	announce_change();
	send_row(trigger->tg_relation, trigger->tg_trigtuple);
	if (TRIGGER_FIRED_BY_UPDATE(trigger->tg_event))
		send_row(trigger->tg_relation, trigger->tg_newtuple);
	return PointerGetDatum(NULL);
}
