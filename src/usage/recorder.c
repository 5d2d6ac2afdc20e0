/*
 * recorder.c
 *		Chooses how to record uses of keys: in shared memory, or in a table.
 *
 * If the library is preloaded and the background workers look after the
 * database, we count uses in shared memory, by hour and client address.  We
 * also count attempts that are refused there.  Otherwise table_recorder.c
 * stores the time of the last use.  A session cannot move to another database,
 * and nobody can rename a database that has sessions, so we choose only once.
 */
#include "postgres.h"

#include "miscadmin.h"
#include "utils/timestamp.h"

#include "databases/databases.h"
#include "settings.h"
#include "text/text.h"
#include "usage/usage.h"

/* The session's database, if we count its uses in shared memory. */
static OaDatabase *database = NULL;

/* Note that we could not attribute a use to its key; log that once. */
static void
note_overflow(OaDatabase *database)
{
	uint32		expected = 0;

	oa_count_event(OA_NOT_ATTRIBUTED);
	if (pg_atomic_read_u32(&database->overflowed) == 0 &&
		pg_atomic_compare_exchange_u32(&database->overflowed, &expected, 1))
		ereport(LOG_SERVER_ONLY,
				(errmsg("no memory left to count the uses of further keys of database \"%s\"",
						database->name),
				 errdetail("Keys are verified as before. This message is not repeated for the database."),
				 errhint("Raise overten_auth.max_tracked_keys, now %d.",
						 oa_max_tracked_keys)));
}

/*
 * Set the key that uses are counted under.  Returns false if the key's id is
 * too long.
 */
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
	key->client = oa_history_addr(client != NULL ? client :
								  oa_session_client_addr());
	return true;
}

static void
count(text *key_id, const OaClientAddr *client, OaCounted as)
{
	TimestampTz now = GetCurrentTimestamp();
	OaUseKey	key;

	if (client != NULL)
		oa_note_http_client(database, client);
	if (!make_use_key(&key, key_id, client, now))
		oa_count_event(OA_NOT_ATTRIBUTED);
	else if (!oa_count_use(&key, as, now))
		note_overflow(database);
	else if (pg_atomic_read_u32(&database->used) == 0)
		pg_atomic_write_u32(&database->used, 1);
}

static void
count_accepted(text *key_id, const OaClientAddr *client,
			   TimestampTz *recorded_at)
{
	count(key_id, client, OA_COUNTED_ACCEPTED);
}

static const OaUseRecorder memory_recorder = {
	.accepted = count_accepted,
	.refused = count,
};

/* Return how this session records uses. */
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
