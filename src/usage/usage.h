/*
 * usage.h
 *		Recording uses of keys, in shared memory and in tables.
 */
#ifndef OA_USAGE_H
#define OA_USAGE_H

#include "overten_auth.h"
#include "databases/databases.h"
#include "text/text.h"
#include "server/server.h"
#include "utils/snapshot.h"

/* client_addr.c: the address of a session's client, and what the history has */
typedef struct OaHistoryAddr
{
	uint8		family;			/* 4, 6, or 0 if unknown */
	uint8		bytes[8];		/* an IPv4 address, or the first half of IPv6 */
} OaHistoryAddr;

extern const OaClientAddr *oa_session_client_addr(void);
extern OaHistoryAddr oa_history_addr(const OaClientAddr *addr);
extern Datum oa_history_addr_datum(const OaHistoryAddr *addr);
extern OaHistoryAddr oa_history_addr_of(Datum value);
extern bool oa_is_history_addr(Datum value, const OaHistoryAddr *addr);

/* What a request with a key is counted as. */
typedef enum OaCounted
{
	OA_COUNTED_ACCEPTED,
	OA_COUNTED_REFUSED,			/* because of the key itself */
	OA_COUNTED_LIMITED			/* refused by a limit */
} OaCounted;

/*
 * recorder.c, table_recorder.c: recording that a key was used, or that
 * somebody tried to.  A NULL client means the session's client.
 */
typedef struct OaUseRecorder
{
	void		(*accepted) (text *key_id, const OaClientAddr *client,
							 TimestampTz *recorded_at);
	void		(*refused) (text *key_id, const OaClientAddr *client,
							OaCounted as);
} OaUseRecorder;

extern const OaUseRecorder *oa_use_recorder(void);
extern const OaUseRecorder oa_table_recorder;

/* use_counters.c: counting uses in shared memory */
#define OA_USE_PARTITIONS	64	/* number of locks */
#define OA_COUNTED_ID_MAX	32	/* bytes of a key's id; minted ones have 24 */
#define OA_ADDRESSES_MAX	64	/* of a key in an hour, that we tell apart */
#define OA_HOURS_MAX		2200	/* that can have counts; 91 days */
#define OA_BATCH_MAX		10000	/* uses that are written at once */

typedef struct OaUseKey
{
	Oid			database;
	int32		hour;			/* hours since 2000 */
	char		key_id[OA_COUNTED_ID_MAX];	/* padded with zeros */
	OaHistoryAddr client;
} OaUseKey;

typedef struct OaUses
{
	OaUseKey	key;
	int64		accepted;
	int64		refused;
	int64		limited;
	int64		counted_since;	/* monotonic */
	TimestampTz first_used_at;
	TimestampTz last_accepted_at;	/* 0 if there are no accepted uses */
	TimestampTz last_refused_at;	/* or limited */
	int64		taken_accepted; /* by the batch being written; for readers */
	int64		taken_refused;
	int64		taken_limited;
} OaUses;

typedef struct OaUseCounters OaUseCounters;

extern void oa_use_counters_shmem_request(void);
extern void oa_use_counters_shmem_init(void);
extern void oa_use_counters_fill(int *used, int *size);
extern bool oa_count_use(OaUseKey *key, OaCounted as, TimestampTz now);

/* event_counts.c: counting events for the statistics view */
typedef enum OaEvent
{
	OA_CACHE_HIT,				/* accepted without reading the tables */
	OA_ACCEPTED,				/* accepted after reading the tables */
	OA_REFUSED,					/* refused after reading the tables */
	OA_REFUSED_UNREAD,			/* refused without reading the tables */
	OA_NOT_ATTRIBUTED,			/* a use that we could not attribute */
	OA_LIMITED,					/* refused by a limit */
	OA_SHADOW_LIMITED,			/* a shadow limit would have refused it */
	OA_OUT_OF_BUCKETS_EVENT,	/* no memory was left for a bucket */
	OA_FLUSH,
	OA_FLUSH_FAILURE,
	OA_USE_SENT,				/* to the primary */
	OA_USE_RECEIVED,			/* from a standby */
	OA_EVENTS
} OaEvent;

extern void oa_event_counts_shmem_request(void);
extern void oa_event_counts_shmem_init(void);
extern void oa_count_event(OaEvent event);
extern void oa_count_events(OaEvent event, uint64 number);
extern uint64 oa_event_count(OaEvent event);

/* use_batches.c: moving counts from shared memory into the tables */
typedef bool (*OaDatabaseTest) (Oid database, void *argument);

extern int	oa_collect_uses(Oid database, uint32 *bucket, OaUses *uses,
							int capacity);
extern int	oa_collect_batch(Oid database, uint64 batch, OaUses *uses,
							 int capacity);
extern void oa_publish_batch(OaDatabase *database, uint64 batch,
							 const OaUses *uses, const bool *known, int count);
extern uint64 oa_batch_epoch(OaDatabase *database);
extern uint64 oa_batch_on_its_way(OaDatabase *database);
extern void oa_subtract_batch(OaDatabase *database, const OaUses *uses,
							  int count);
extern bool oa_settle_batch(OaDatabase *database);
extern bool oa_discard_uses(OaDatabaseTest is_gone, void *argument,
							int64 before);

/* batch_numbers.c: which batches the tables have */
extern uint64 oa_last_batch(Datum source);
extern uint64 oa_last_batch_under(Datum source, Snapshot snapshot);
extern void oa_write_batch_number(Datum source, uint64 number);
extern void oa_remove_old_batches(void);

/* http_clients.c: whether client addresses mean anything */
extern void oa_note_http_client(OaDatabase *database,
								const OaClientAddr *client);

/* unflushed_uses.c: reading what is not in the tables yet */
typedef struct OaExactRead
{
	Snapshot	snapshot;		/* registered; for reading the tables */
	OaUses	   *uses;			/* not in the snapshot, in no order */
	int			count;
	int			capacity;
} OaExactRead;

extern int	oa_counted_hours(int32 **hours);
extern TimestampTz oa_last_counted_use(text *key_id, const int32 *hours,
									   int count);
extern bool oa_was_used(text *key_id);
extern void oa_exact_read_begin(OaExactRead *read, const Datum *key_ids,
								int keys, TimestampTz since,
								TimestampTz until);
extern void oa_exact_read_end(OaExactRead *read);

/* use_arrays.c: uses as arguments of a statement, an array for each column */
enum
{
	OA_USE_KEY_ID, OA_USE_HOUR, OA_USE_CLIENT_ADDR, OA_USE_ACCEPTED,
	OA_USE_REFUSED, OA_USE_LIMITED, OA_USE_FIRST_USED_AT,
	OA_USE_LAST_USED_AT,
	OA_USE_COLUMNS,				/* of key_usage */
	OA_USE_LAST_ACCEPTED_AT = OA_USE_COLUMNS,
	OA_SENT_COLUMNS				/* that a standby sends */
};

extern Datum oa_use_key_id(const OaUses *uses);
extern void oa_use_values(const OaUses *uses, Datum *values, bool *nulls);
extern Datum oa_make_array(Datum *values, bool *nulls, int count, Oid type);
extern void oa_make_use_arrays(const OaUses *uses, int count, int columns,
							   Datum *arrays);
extern Oid	oa_use_array_type(int column);
extern int	oa_read_use_arrays(const Datum *arrays, OaUses **uses);

/* usage_lock.c: locking the tables of a flush */
extern bool oa_lock_usage_tables(void);

/*
 * usage_rows.c, usage_flush.c: writing counts from shared memory into the
 * tables
 */
extern int	oa_merge_uses(OaUses *uses, int count);
extern void oa_sort_uses(OaUses *uses, int count);
extern void oa_write_uses(const OaUses *uses, int count, bool *known);
extern bool oa_flush_uses(OaDatabase *database);

/* sent_uses.c: sending counts from a standby to the primary */
extern bool oa_sends_uses(void);
extern void oa_send_uses(OaDatabase *database);

/* usage_cleaning.c: removing old history */
extern bool oa_remove_old_usage(void);
extern void oa_sweep_usage(OaDatabase *database);

#endif							/* OA_USAGE_H */
