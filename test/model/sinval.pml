/*
 * sinval.pml
 *		PostgreSQL's queue of invalidation messages, as every model uses it.
 *
 * A model that includes this file says how many sessions there are (SESSIONS)
 * and how many messages are sent at most (QUEUE), defines the messages as
 * numbers below INVALID_OID, and defines relation_changed(), the relcache
 * callback, as an inline.
 *
 * sinvaladt.c keeps one ring of 4,096 messages and a position for each backend.
 * A backend that falls behind by more loses its place; the next time it accepts
 * it gets a reset instead of all that was sent until then.  Other traffic can
 * bring that about at any moment.  So an accept that finds messages here may
 * always find a reset in their place.
 */
#define INVALID_OID 9			/* what a reset tells the callbacks */

chan queue[SESSIONS] = [QUEUE] of { byte };
bool listening[SESSIONS];		/* has a place in the queue */
byte each;

/* Told when a trail is replayed.  Only inside d_step, or it costs a state. */
#ifdef TRAIL
#define say(text)			printf(text)
#define say1(text, a)		printf(text, a)
#define say2(text, a, b)	printf(text, a, b)
#else
#define say(text) skip
#define say1(text, a) skip
#define say2(text, a, b) skip
#endif

/* SharedInvalBackendInit(): a new session begins at the end of the queue. */
inline begin_listening(session)
{
	listening[session] = true
}

/* SIInsertDataEntries(), which holds SInvalWriteLock */
inline send(message)
{
	d_step {
		say1("message %d is sent\n", message);
		each = 0;
		do
		:: each < SESSIONS ->
			if
			:: listening[each] -> queue[each]!message
			:: else
			fi;
			each++
		:: else -> break
		od;
		each = 0
	}
}

/* What a process declares that accepts messages. */
#define ACCEPTS	\
	byte taken[QUEUE];	\
	byte ntaken;	\
	byte next;	\
	bool looked

/*
 * AcceptInvalidationMessages().  What an error has left over (see local.pml) is
 * processed first.  Then SIGetDataEntries() takes what waits at once, up to 32
 * messages; what comes while they are processed stays for the next time.
 */
inline accept_messages(session)
{
	do
	:: next < ntaken ->
		next++;
		relation_changed(session, taken[next - 1])
	:: next == ntaken && !looked ->
		atomic {
			looked = true;
			next = 0;
			ntaken = 0;
			do
			:: len(queue[session]) > 0 ->
				queue[session]?taken[ntaken];
				ntaken++
			:: len(queue[session]) == 0 -> break
			od;
			if
			:: ntaken > 0 ->
				forget_taken();
				taken[0] = INVALID_OID;
				ntaken = 1
			:: true
			fi
		}
	:: next == ntaken && looked -> break
	od;
	atomic {
		looked = false;
		if
		:: next == ntaken -> forget_taken()
		:: else
		fi
	}
}

inline forget_taken()
{
	do
	:: ntaken > 0 -> ntaken--; taken[ntaken] = 0
	:: ntaken == 0 -> break
	od;
	next = 0
}
