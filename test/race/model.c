/*
 * model.c
 *		What has happened to keys and orgs, and which answers that allows.
 *
 * Every call is stamped before it is sent and after its answer has arrived,
 * so it took effect somewhere between its two stamps.  Of a verification
 *
 *	-	"accepted" is impossible if the commit of the minting had not been sent
 *		when the answer arrived, or if the commit of a revocation had been
 *		acknowledged when the verification was sent;
 *	-	"refused" is impossible if the minting had been acknowledged when the
 *		verification was sent, and no revocation had been sent when the answer
 *		arrived;
 *	-	the org's state, its tier and whether it is suspended, must be one that
 *		it had in between: a change counts from its being sent until a later
 *		one has been acknowledged.
 *
 * A stamp of a change is published before the change is sent, and a
 * verification looks at the stamps after its answer has arrived: it cannot
 * miss a change that its answer could be due to.
 *
 * Rolled back changes are not entered at all, for nobody may see them.
 */
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "race.h"

/* Reused in turn, long after the verifiers have lost interest. */
#define KEYS_KEPT 4096

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

/* A key that is not born yet; the caller sets id and secret. */
Key		   *
new_key(Org *org)
{
	Key		   *key = &keys[nkeys++ % KEYS_KEPT];

	key->org = org;
	key->first_change = org->nchanges - 1;
	key->road = NULL;
	key->born_sent = 0;
	key->born_acked = 0;
	key->died_sent = 0;
	key->died_acked = 0;
	return key;
}

/* Let the verifiers check a revoked key. */
void
bury_key(Key *key)
{
	gone_keys[ngone % GONE_KEYS] = key;
	ngone++;
}

/* Enter a change of an org that is about to be sent. */
void
begin_change(Org *org, bool suspended, const char *tier)
{
	Change	   *change;

	pthread_mutex_lock(&org->lock);
	change = &org->changes[org->nchanges++ % CHANGES_KEPT];
	change->suspended = suspended;
	change->tier = tier;
	change->acked = 0;
	change->sent = now();
	pthread_mutex_unlock(&org->lock);
}

/* Its answer has arrived. */
void
end_change(Org *org)
{
	Stamp		stamp = now();

	pthread_mutex_lock(&org->lock);
	org->changes[(org->nchanges - 1) % CHANGES_KEPT].acked = stamp;
	pthread_mutex_unlock(&org->lock);
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

/*
 * Could the org have had a state that explains the answer?  Goes back from
 * the latest change to the one that had taken effect when the verification
 * was sent, but not beyond "oldest".
 */
static bool
org_explains(Org *org, uint64_t oldest, const Answer *answer)
{
	bool		result = false;

	pthread_mutex_lock(&org->lock);
	for (uint64_t i = org->nchanges; i-- > oldest && !result;)
	{
		const Change *change = &org->changes[i % CHANGES_KEPT];

		if (org->nchanges - i > CHANGES_KEPT)
			die("a verification took longer than %d changes of its org",
				CHANGES_KEPT);
		if (change->sent < answer->answered)
			result = answer->accepted ?
				!change->suspended && strcmp(change->tier, answer->tier) == 0 :
				change->suspended;
		if (change->acked != 0 && change->acked < answer->sent)
			break;
	}
	pthread_mutex_unlock(&org->lock);
	return result;
}

static bool
is_possible(const Answer *answer)
{
	const Key  *key = answer->key;
	Stamp		born_sent = key->born_sent;
	Stamp		born_acked = key->born_acked;
	Stamp		died_sent = key->died_sent;
	Stamp		died_acked = key->died_acked;

	if (answer->accepted)
		return born_sent != 0 && born_sent < answer->answered &&
			(died_acked == 0 || died_acked > answer->sent) &&
			org_explains(key->org, key->first_change, answer);
	return born_acked == 0 || born_acked > answer->sent ||
		(died_sent != 0 && died_sent < answer->answered) ||
		org_explains(key->org, key->first_change, answer);
}

static void
print_stamp(const char *what, Stamp stamp)
{
	if (stamp == 0)
		printf("  %-36s never\n", what);
	else
		printf("  %-36s %.6f s\n", what, (stamp - start_of_run) / 1e9);
}

/* Print what was seen, and the latest changes of the org. */
static void
print_answer(const Answer *answer)
{
	const Key  *key = answer->key;
	Org		   *org = key->org;

	print_stamp("minting committed: sent", key->born_sent);
	print_stamp("minting committed: acknowledged", key->born_acked);
	if (key->road != NULL)
		printf("  revoked by %s\n", key->road);
	print_stamp("revocation committed: sent", key->died_sent);
	print_stamp("revocation committed: acknowledged", key->died_acked);
	pthread_mutex_lock(&org->lock);
	for (uint64_t i = org->nchanges > 4 ? org->nchanges - 4 : 0;
		 i < org->nchanges; i++)
	{
		const Change *change = &org->changes[i % CHANGES_KEPT];

		printf("  org on tier %s, %s\n", change->tier,
			   change->suspended ? "suspended" : "not suspended");
		print_stamp("  sent", change->sent);
		print_stamp("  acknowledged", change->acked);
	}
	pthread_mutex_unlock(&org->lock);
	print_stamp("verification: sent", answer->sent);
	print_stamp("verification: answered", answer->answered);
}

/* Only the first impossible answer is reported. */
static void
begin_report(const char *session)
{
	static pthread_mutex_t once = PTHREAD_MUTEX_INITIALIZER;

	pthread_mutex_lock(&once);
	printf("impossible answer in trial %llu, %s: ",
		   (unsigned long long) trial, session);
}

/* Stop the program with a text that says what was seen. */
void
report_impossible(const char *session, const char *format,...)
{
	va_list		args;

	begin_report(session);
	va_start(args, format);
	vprintf(format, args);
	va_end(args);
	putchar('\n');
	fflush(stdout);
	_exit(1);
}

/* Stop the program if an answer is impossible. */
void
check_answer(const Answer *answer)
{
	if (is_possible(answer))
		return;

	begin_report(answer->session);
	if (answer->accepted)
		printf("key %s was accepted, on tier %s\n", answer->key->id,
			   answer->tier);
	else
		printf("key %s was refused\n", answer->key->id);
	print_answer(answer);
	fflush(stdout);
	_exit(1);
}
