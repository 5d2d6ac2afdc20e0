/*
 * http_clients.c
 *		Notices when the client addresses of HTTP requests are meaningless.
 *
 * Behind a proxy on the same machine, the HTTP layer sees 127.0.0.1 for every
 * client, unless overten_auth.trust_forwarded_for says where to find the
 * client's address.  The history and its anomalies are then of little use, and
 * nobody would notice.  So if the first uses of a database over HTTP all come
 * from the machine itself, we log that once.
 */
#include "postgres.h"

#include "databases/databases.h"
#include "settings.h"
#include "text/text.h"
#include "usage/usage.h"

/*
 * The number of uses before we log, so that a person who just tries the API
 * does not see the message.
 */
#define USES_MIN	100

/* Is this an address of the machine itself? */
static bool
is_loopback(const OaClientAddr *client)
{
	static const uint8 loopback[sizeof(client->bytes)] = {[15] = 1};

	if (client->family == 4)
		return client->bytes[0] == 127;
	return memcmp(client->bytes, loopback, sizeof(loopback)) == 0;
}

/*
 * Note the client of a use over HTTP.  We count up to USES_MIN.  When a use
 * comes from another machine, we set the count to USES_MIN, so that nothing is
 * logged.
 */
void
oa_note_http_client(OaDatabase *database, const OaClientAddr *client)
{
	uint32		count = pg_atomic_read_u32(&database->http_clients);

	if (count >= USES_MIN || client->family == 0 ||
		oa_trust_forwarded_for > 0 || oa_trusted_proxies[0] != '\0')
		return;

	if (!is_loopback(client))
		pg_atomic_write_u32(&database->http_clients, USES_MIN);
	else if (pg_atomic_add_fetch_u32(&database->http_clients, 1) == USES_MIN)
		ereport(LOG_SERVER_ONLY,
				(errmsg("all uses of keys over HTTP in database \"%s\" come from this machine itself",
						database->name),
				 errdetail("The history has a loopback address for each of them. This message is not repeated for the database."),
				 errhint("If a proxy passes requests on, have it send X-Forwarded-For, and set overten_auth.trust_forwarded_for to the number of proxies.")));
}
