/*
 * model.c
 *		What has happened to keys and orgs, and which answers that allows.
 *
 * We stamp every call before we send it and after its answer has arrived, so
 * the call took effect somewhere between its two stamps.  For a verification
 * that means:
 *
 *	-	"accepted" is impossible if the commit of the minting had not been sent
 *		when the answer arrived, or if the commit of a revocation had been
 *		acknowledged when the verification was sent;
 *
 *	-	"refused" is impossible if the minting had been acknowledged when the
 *		verification was sent, and no revocation had been sent when the answer
 *		arrived;
 *
 *	-	the org's state, which is its tier and whether it is suspended, must be
 *		one that the org had in between.  A change may be seen from when it is
 *		sent until a later change has been acknowledged.
 *
 * We publish the stamp of a change before we send the change, and we look at
 * the stamps after the answer to a verification has arrived.  So we cannot
 * miss a change that the answer may show.  If a thread is delayed between a
 * stamp and the call that it is about, we allow more time for the call than it
 * took.  That can hide an impossible answer, but a possible answer never looks
 * impossible.
 *
 * There are two clocks.  On the primary a stamp is a time.  A standby may be
 * late, but what it shows is always the state of the primary at some position
 * of the WAL.  So on a standby the same rules hold for positions instead of
 * times:
 *
 *	-	a change was sent at the position that pg_current_wal_insert_lsn()
 *		returned before we sent it.  Its commit record begins there or later;
 *
 *	-	it was acknowledged at the position that pg_current_wal_flush_lsn()
 *		returned after its answer had arrived.  Its commit record ends there or
 *		earlier, because each of these commits waits for its WAL;
 *
 *	-	a verification was sent and answered at the positions that
 *		pg_last_wal_replay_lsn() returned before and after it, in the same
 *		statement.  Replay advances that position after it has made a commit
 *		visible and sent its invalidation messages.  So the verification must
 *		see every commit that ends there or earlier.  Replay may be working on
 *		the next record, so the verification may see that one, too.
 *
 * So it is also impossible that a standby refuses a key early, before it has
 * replayed the revocation.  While commits wait for the standby (remote_apply),
 * the rules for times bind its answers, too, because it has replayed
 * everything that was acknowledged.
 *
 * If a session has seen that a key is revoked, or a change of the key's org,
 * its later answers about this key must show that, too.  Before the commit is
 * acknowledged, this need not be so for another key or in another session: a
 * key that is still cached is accepted until the message arrives, while the
 * table already shows that another key is revoked.
 *
 * But where all sessions share a cache, it need not be so for the same key
 * either.  A session may see in the table a revocation whose commit is not
 * acknowledged.  It may then find in the cache what another session has stored
 * there, which read the table before the revocation.
 *
 * We do not enter changes that are rolled back, because nobody may see them.
 *
 * A key that is disabled, has expired, or gets scopes or allowed addresses is
 * refused by all verifiers here, as if it were revoked.  A key that was so from
 * the start, and that no longer is, becomes good as if it were minted then.
 */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "race.h"

/* We reuse the keys in turn, long after the verifiers have asked for them. */
#define KEYS_KEPT 4096

/* Stands for no change of an org. */
#define NONE UINT64_MAX

const char *const tiers[2] = {"race_low", "race_high"};
Org			orgs[2];
Key		   *_Atomic live_keys[LIVE_KEYS];
Key		   *_Atomic gone_keys[GONE_KEYS];
_Atomic uint64_t ngone;
_Atomic uint64_t trial;

static Key	keys[KEYS_KEPT];
static uint64_t nkeys;
static Stamp start_of_run;

void
model_init(void)
{
	start_of_run = now();
	for (int i = 0; i < 2; i++)
		pthread_mutex_init(&orgs[i].lock, NULL);
}

/* Events */

/*
 * Note that we are about to send something; "position" is before it in the
 * WAL.
 */
void
begin_event(Event *event, Stamp position)
{
	event->sent[WAL] = position;
	event->sent[TIME] = now();
}

/* Note that its answer has arrived. */
void
end_event(Event *event)
{
	event->acked[TIME] = now();
}

/* Note that it is before this position in the WAL. */
void
place_event(Event *event, Stamp position)
{
	event->acked[WAL] = position;
}

/* Reset an event that has not happened, as far as we know. */
void
undo_event(Event *event)
{
	for (Clock clock = 0; clock < CLOCKS; clock++)
	{
		event->sent[clock] = 0;
		event->acked[clock] = 0;
	}
}

/* Add a key that is not born yet.  The caller sets its id and secret. */
Key		   *
new_key(Org *org)
{
	Key		   *key = &keys[nkeys % KEYS_KEPT];

	key->serial = ++nkeys;
	key->org = org;
	key->first_change = org->nchanges - 1;
	key->road = NULL;
	undo_event(&key->born);
	undo_event(&key->died);
	return key;
}

/* Give the verifiers a revoked key to check. */
void
bury_key(Key *key)
{
	gone_keys[ngone % GONE_KEYS] = key;
	ngone++;
}

/* Enter a change of an org that we are about to send. */
void
begin_change(Org *org, bool suspended, const char *tier, Stamp position)
{
	Change	   *change;

	pthread_mutex_lock(&org->lock);
	change = &org->changes[org->nchanges++ % CHANGES_KEPT];
	change->suspended = suspended;
	change->tier = tier;
	change->acked[TIME] = 0;
	change->acked[WAL] = 0;
	change->sent[WAL] = position;
	change->sent[TIME] = now();
	pthread_mutex_unlock(&org->lock);
}

static void
set_latest(Org *org, Clock clock, Stamp stamp)
{
	pthread_mutex_lock(&org->lock);
	org->changes[(org->nchanges - 1) % CHANGES_KEPT].acked[clock] = stamp;
	pthread_mutex_unlock(&org->lock);
}

/* Like end_event() and place_event(), for the latest change of an org. */
void
end_change(Org *org)
{
	set_latest(org, TIME, now());
}

void
place_change(Org *org, Stamp position)
{
	set_latest(org, WAL, position);
}

Change
current_state(Org *org)
{
	Change		change;

	pthread_mutex_lock(&org->lock);
	change = org->changes[(org->nchanges - 1) % CHANGES_KEPT];
	pthread_mutex_unlock(&org->lock);
	return change;
}

/* Answers */

/* Allocate memory for what a session sees of all keys. */
Sight	   *
new_sights(void)
{
	Sight	   *sights = calloc(KEYS_KEPT, sizeof(Sight));

	if (sights == NULL)
		die("out of memory");
	return sights;
}

static Sight *
find_sight(const Answer *answer)
{
	const Key  *key = answer->key;
	Sight	   *sight = &answer->sights[key - keys];

	if (sight->serial != key->serial || answer->may_unsee)
	{
		sight->serial = key->serial;
		sight->born = false;
		sight->dead = false;
		sight->change = key->first_change;
	}
	return sight;
}

/* Can the answer show what was sent at this stamp? */
static bool
may_be_seen(const Stamp *sent, const Answer *answer)
{
	for (Clock clock = 0; clock < CLOCKS; clock++)
	{
		if (answer->bound[clock] &&
			(sent[clock] == 0 || sent[clock] >= answer->answered[clock]))
			return false;
	}
	return true;
}

/* Must the answer show what was acknowledged at this stamp? */
static bool
must_be_seen(const Stamp *acked, const Answer *answer)
{
	for (Clock clock = 0; clock < CLOCKS; clock++)
	{
		if (answer->bound[clock] &&
			acked[clock] != 0 && acked[clock] <= answer->sent[clock])
			return true;
	}
	return false;
}

/* Read the stamps of an event as they are now. */
static void
read_event(const Event *event, Stamp *sent, Stamp *acked)
{
	for (Clock clock = 0; clock < CLOCKS; clock++)
	{
		sent[clock] = event->sent[clock];
		acked[clock] = event->acked[clock];
	}
}

static bool
is_tier(const Answer *answer, const char *tier)
{
	return answer->tier == NULL || strcmp(answer->tier, tier) == 0;
}

/*
 * Find the first change of the org, from "oldest" on, that explains the
 * answer.  Returns NONE if no change does.  The search goes back from the
 * latest change to the one that had taken effect when the verification was
 * sent.
 */
static uint64_t
find_change(Org *org, uint64_t oldest, const Answer *answer)
{
	uint64_t	result = NONE;

	pthread_mutex_lock(&org->lock);
	for (uint64_t i = org->nchanges; i-- > oldest;)
	{
		const Change *change = &org->changes[i % CHANGES_KEPT];
		bool		fits = answer->accepted ?
		!change->suspended && is_tier(answer, change->tier) :
		change->suspended;

		if (org->nchanges - i > CHANGES_KEPT)
			die("a verification took longer than %d changes of its org",
				CHANGES_KEPT);
		if (fits && may_be_seen(change->sent, answer))
			result = i;
		if (must_be_seen(change->acked, answer))
			break;
	}
	pthread_mutex_unlock(&org->lock);
	return result;
}

/* Is the answer possible?  Notes what the session has seen. */
static bool
is_possible(const Answer *answer, Sight *sight)
{
	const Key  *key = answer->key;
	uint64_t	change;
	Stamp		born_sent[CLOCKS];
	Stamp		born_acked[CLOCKS];
	Stamp		died_sent[CLOCKS];
	Stamp		died_acked[CLOCKS];
	bool		may_be_unborn;
	bool		may_be_dead;

	read_event(&key->born, born_sent, born_acked);
	read_event(&key->died, died_sent, died_acked);
	change = find_change(key->org, sight->change, answer);
	if (answer->accepted)
	{
		bool		possible = change != NONE && !sight->dead &&
		may_be_seen(born_sent, answer) &&
		!must_be_seen(died_acked, answer);

		sight->born = true;
		sight->change = change;
		return possible;
	}

	may_be_unborn = !sight->born && !must_be_seen(born_acked, answer);
	may_be_dead = sight->dead || may_be_seen(died_sent, answer);
	if (!may_be_unborn && change == NONE)
		sight->dead = true;
	if (!may_be_unborn && !may_be_dead)
		sight->change = change;
	return may_be_unborn || may_be_dead || change != NONE;
}

/* Would the opposite answer have been possible, on any tier? */
static bool
is_contrary_possible(const Answer *answer, Sight sight)
{
	Answer		contrary = *answer;

	contrary.accepted = !answer->accepted;
	contrary.tier = NULL;
	return is_possible(&contrary, &sight);
}

/* Reports */

static void
print_stamps(const char *what, const Stamp *stamps)
{
	if (stamps[TIME] == 0)
		printf("  %-36s never", what);
	else
		printf("  %-36s %.6f s", what, (stamps[TIME] - start_of_run) / 1e9);
	if (stamps[WAL] != 0)
		printf(", %X/%08X", (unsigned) (stamps[WAL] >> 32),
			   (unsigned) stamps[WAL]);
	putchar('\n');
}

static void
print_event(const char *what, const Event *event)
{
	Stamp		sent[CLOCKS];
	Stamp		acked[CLOCKS];
	char		label[64];

	read_event(event, sent, acked);
	snprintf(label, sizeof(label), "%s: sent", what);
	print_stamps(label, sent);
	snprintf(label, sizeof(label), "%s: acknowledged", what);
	print_stamps(label, acked);
}

/* Print what was seen, and the latest changes of the org. */
static void
print_answer(const Answer *answer)
{
	const Key  *key = answer->key;
	const Sight *sight = &answer->sights[key - keys];
	Org		   *org = key->org;

	print_event("minting committed", &key->born);
	if (key->road != NULL)
		printf("  revoked by %s, %s\n", key->road, key->end);
	print_event("revocation committed", &key->died);
	if (sight->dead)
		printf("  the session had seen that it is revoked\n");
	pthread_mutex_lock(&org->lock);
	for (uint64_t i = org->nchanges > 4 ? org->nchanges - 4 : 0;
		 i < org->nchanges; i++)
	{
		const Change *change = &org->changes[i % CHANGES_KEPT];

		printf("  org on tier %s, %s\n", change->tier,
			   change->suspended ? "suspended" : "not suspended");
		print_stamps("  sent", change->sent);
		print_stamps("  acknowledged", change->acked);
	}
	pthread_mutex_unlock(&org->lock);
	print_stamps("verification: sent", answer->sent);
	print_stamps("verification: answered", answer->answered);
	if (!answer->bound[TIME])
		printf("  commits did not wait for the standby\n");
}

/* Begin a report.  We never unlock the mutex, so only one thread reports. */
static void
begin_report(const char *place, const char *session)
{
	static pthread_mutex_t once = PTHREAD_MUTEX_INITIALIZER;

	pthread_mutex_lock(&once);
	printf("impossible answer in trial %llu after %.1f s, on the %s, %s: ",
		   (unsigned long long) trial, (now() - start_of_run) / 1e9,
		   place, session);
}

/* Print a text that says what was seen, and stop the program. */
void
report_impossible(const char *place, const char *session,
				  const char *format,...)
{
	va_list		args;

	begin_report(place, session);
	va_start(args, format);
	vprintf(format, args);
	va_end(args);
	putchar('\n');
	fflush(stdout);
	_exit(1);
}

/*
 * Stop the program if an answer is impossible.  Returns true if the opposite
 * answer would have been impossible; only then was the answer tested.
 */
bool
check_answer(const Answer *answer)
{
	Sight	   *sight = find_sight(answer);
	bool		is_only = !is_contrary_possible(answer, *sight);

	if (is_possible(answer, sight))
		return is_only;

	begin_report(answer->place, answer->session);
	if (answer->accepted)
		printf("key %s was accepted, on tier %s\n", answer->key->id,
			   answer->tier);
	else
		printf("key %s was refused\n", answer->key->id);
	print_answer(answer);
	fflush(stdout);
	_exit(1);
}
