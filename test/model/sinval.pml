/*
 * sinval.pml
 *		PostgreSQL's queue of invalidation messages, as every model uses it.
 *
 * A model that includes this file says how many sessions there are (SESSIONS),
 * defines the messages as small numbers below INVALID_OID, and defines
 * relation_changed(), the relcache callback, as an inline of its own.
 *
 * sinvaladt.c keeps one ring of 4,096 messages and a position for each backend.
 * A backend that falls behind by more loses its place and gets a reset instead,
 * also for what others have sent.  Here every session has a channel with room
 * for QUEUE messages, and overflow() may strike at any moment, as it does on a
 * server with other traffic.
 */
#ifndef QUEUE
#define QUEUE 3
#endif

#define INVALID_OID 9			/* what a reset tells the callbacks */
#define NONE 10

chan queue[SESSIONS] = [QUEUE] of { byte };
bool listening[SESSIONS];		/* has a place in the queue */
bool reset[SESSIONS];			/* ProcState.resetState */

bool calm;						/* no more of it */

byte each;
byte lost;

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

/* Take away what waits for a session, and tell it with a reset instead. */
inline overflow(session)
{
	do
	:: len(queue[session]) > 0 -> queue[session]?lost
	:: else -> break
	od;
	lost = 0;
	reset[session] = true
}

/* SIInsertDataEntries(), which holds SInvalWriteLock. */
inline send(message)
{
	d_step {
		say1("message %d is sent\n", message);
		each = 0;
		do
		:: each < SESSIONS ->
			if
			:: !listening[each] || reset[each]
			:: listening[each] && !reset[each] && len(queue[each]) < QUEUE ->
				queue[each]!message
			:: listening[each] && !reset[each] && len(queue[each]) == QUEUE ->
				overflow(each)
			fi;
			each++
		:: else -> break
		od;
		each = 0
	}
}

/*
 * Other traffic: at any moment, once, one of the sessions is left so far behind
 * that what waits for it is lost.
 */
proctype traffic()
{
	byte session;

	do
	:: session < SESSIONS - 1 -> session++
	:: d_step {
			listening[session] && !reset[session] ->
			overflow(session);
			say1("other traffic fills the queue: session %d will get a reset\n",
				 session)
		};
		break
	:: break
	od;
	calm = true
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
		d_step {
			looked = true;
			next = 0;
			ntaken = 0;
			if
			:: reset[session] ->
				reset[session] = false;
				taken[0] = INVALID_OID;
				ntaken = 1
			:: !reset[session] ->
				do
				:: len(queue[session]) > 0 ->
					queue[session]?taken[ntaken];
					ntaken++
				:: else -> break
				od
			fi
		}
	:: next == ntaken && looked -> break
	od;
	atomic {
		looked = false;
		if
		:: next == ntaken ->
			do
			:: ntaken > 0 -> ntaken--; taken[ntaken] = 0
			:: else -> break
			od;
			next = 0
		:: else
		fi
	}
}
