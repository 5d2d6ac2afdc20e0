/*
 * recorder.c
 *		How uses of keys are recorded: in shared memory, or in a table.
 *
 * Where the library is preloaded and the database is one of those that the
 * background workers look after, a use is counted in shared memory, by hour
 * and client address; so are attempts to use a revoked key.  Elsewhere
 * table_recorder.c keeps the time of the last use.  A session does not move from
 * one database to another, nor a database get another name while there are
 * sessions in it, so what to do is found out once.
 */
#include "postgres.h"

#include "miscadmin.h"
#include "utils/timestamp.h"

#include "databases/databases.h"
#include "settings.h"
#include "text/text.h"
#include "usage/usage.h"

/* The session's database, where its uses are counted in shared memory. */
static OaDatabase *database = NULL;

/* Note that a use could not be attributed; say so in the log, once. */
static void
note_overflow(OaDatabase *database)
{
	uint32		expected = 0;

	oa_count_event(OA_NOT_ATTRIBUTED);
	if (pg_atomic_read_u32(&database->overflowed) == 0 &&
		pg_atomic_compare_exchange_u32(&database->overflowed, &expected, 1))
		ereport(LOG_SERVER_ONLY,
				(errmsg("no memory left to count the uses of further keys"),
				 errdetail("Keys are verified as before. This message is not repeated for the database."),
				 errhint("Raise overten_auth.max_tracked_keys, now %d.",
						 oa_max_tracked_keys)));
}

/* Fill in what uses are counted under.  False if the id is too long for it. */
static bool
make_use_key(OaUseKey *key, text *key_id, const OaClientAddr *client,
			 TimestampTz now)
{
	int			length = VARSIZE_ANY_EXHDR(key_id);

	if (length > sizeof(key->key_id))
		return false;

	memset(key, 0, sizeof(*key));
	key->database = MyDatabaseId;
	key->hour = (int32) (now / USECS_PER_HOUR);
	memcpy(key->key_id, VARDATA_ANY(key_id), length);
	key->client = client != NULL ? *client : *oa_session_client_addr();
	return true;
}

static void
count(text *key_id, const OaClientAddr *client, bool accepted)
{
	TimestampTz now = GetCurrentTimestamp();
	OaUseKey	key;

	if (client != NULL)
		oa_note_http_client(database, client);
	if (!make_use_key(&key, key_id, client, now))
		oa_count_event(OA_NOT_ATTRIBUTED);
	else if (!oa_count_use(&key, accepted, now))
		note_overflow(database);
	else if (pg_atomic_read_u32(&database->used) == 0)
		pg_atomic_write_u32(&database->used, 1);
}

static void
count_accepted(text *key_id, const OaClientAddr *client,
			   TimestampTz *recorded_at)
{
	count(key_id, client, true);
}

static void
count_refused(text *key_id, const OaClientAddr *client)
{
	count(key_id, client, false);
}

static const OaUseRecorder memory_recorder = {
	.accepted = count_accepted,
	.refused = count_refused,
};

/* The session's way to record uses. */
const OaUseRecorder *
oa_use_recorder(void)
{
	static const OaUseRecorder *recorder = NULL;

	if (recorder == NULL)
	{
		database = oa_my_database();
		if (database != NULL)
			oa_announce_database(database);
		recorder = database != NULL ? &memory_recorder : &oa_table_recorder;
	}
	return recorder;
}
