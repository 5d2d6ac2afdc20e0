/*
 * shared.pml
 *		The cache of all sessions: who counts a change, when, and as what.
 *
 * One key, its org, and the table.  Session WRITER makes two transactions, each
 * of which may revoke or do no harm; OLD has been there all the time, and NEW
 * connects at any moment, so that it has never heard of what was sent before.
 * Both fill the cache, or are answered from it, or sleep as long as they like.
 * With PREPARED, session FINISHER commits what the writer has prepared.
 *
 * The promise: if a commit was answered before a verification begins, it does
 * not accept what the commit has revoked.  And: when all is over, the key is
 * accepted unless it is revoked, the second time from the cache.
 *
 * holds small: -DTRANSACTIONS=1
 * holds: -DTRANSACTIONS=2
 * holds: -DPREPARED
 * holds: -DPREPARED -DFINISHER_FAILS
 * holds: -DERRORS
 * holds: -DFOREIGN_ACCEPT
 * holds: -DNO_ACCEPT_AT_LOOKUP
 * holds: -DONLY_WRITERS_COUNT
 * holds: -DNO_CHECK_AT_STORE
 * holds: -DREAD_ONE_BY_ONE
 *
 * refuted small: -DNO_COUNT_BEFORE_ANSWER
 * refuted: -DCOUNT_BEFORE_VISIBLE
 * refuted small: -DT_AFTER_SNAPSHOT
 * refuted: -DT_AT_STORE
 * refuted: -DTWO_STAMPS
 * refuted: -DPLAIN_STORE -DTRANSACTIONS=2
 * refuted: -DRESET_NOT_COUNTED
 * refuted: -DFOREIGN_ACCEPT -DWINDOW_IS_THE_ACCEPT
 * refuted: -DPREPARED -DNO_WINDOW_FOR_COMMIT_PREPARED
 * refuted: -DPREPARED -DCOUNT_WHERE_TRIGGER_FIRED
 * refuted: -DPREPARED -DFINISHER_FAILS -DNO_COUNT_AT_ABORT
 * refuted: -DERRORS -DERROR_NOT_COUNTED
 * refuted: -DNO_KEY_BUCKET
 * refuted: -DNO_ORG_BUCKET
 * refuted: -DNO_ALL_CHANGED
 * refuted: -DWATCHED_OID_IS_TAKEN_FOR_SYNTHETIC
 * refuted: -DPUBLISH_AFTER_T
 *
 * reached: -DREACH_HIT
 * reached: -DREACH_HIT_OF_ANOTHERS_ENTRY
 * reached: -DREACH_HIT_AFTER_ROLLBACK
 */
#define WRITER 0
#define OLD 1
#define NEW 2
#ifdef PREPARED
#define FINISHER 3
#define SESSIONS 4
#else
#define SESSIONS 3
#endif

#define KEY 0
#define ORG 1
#define TABLE 2

#ifndef TRANSACTIONS
#define TRANSACTIONS 1
#endif
#define QUEUE TRANSACTIONS

#include "sinval.pml"

bool revoked;					/* as a snapshot that is taken now sees it */
bool answered;					/* ghost: and the commit was answered */
byte running;					/* processes that are not done */
#ifdef REACH_HIT_AFTER_ROLLBACK
bool rolled_back;
#endif

/* -- Shared memory -- */

byte clock;						/* T */
byte changed[2];				/* by bucket */
byte all_changed;
bool published;					/* the table's OID is known to everybody */
bool has;						/* there is an entry of the key, */
byte stamp;						/* that was read as of this T */
#ifdef TWO_STAMPS
byte org_stamp;
#endif
#ifdef REACH_HIT_OF_ANOTHERS_ENTRY
byte filler;
#endif

#define COUNTS	\
	byte t;	\
	bool owes;				/* InvalidOid may stand for an own message */	\
	bool failed				/* ERRORS only: in this accept */

/* pg_atomic_fetch_add_u64(), then a loop of compare-and-exchange */
inline count(session, cell)
{
	d_step {
		clock++;
		t = clock
	};
	d_step {
#ifdef PLAIN_STORE
		cell = t;
#else
		if
		:: cell < t -> cell = t
		:: else
		fi;
#endif
		say2("session %d has counted as of %d\n", session, t);
		t = 0
	}
}

#ifdef ONLY_WRITERS_COUNT
#define COUNTING(session) owes
#else
#define COUNTING(session) true
#endif

#ifdef RESET_NOT_COUNTED
#define RESET_COUNTS false
#else
#define RESET_COUNTS owes
#endif

/* The relcache callback of every session: atomics only, never an error. */
inline relation_changed(session, message)
{
#ifdef ERRORS
	if
	:: owes ->					/* in the accept of at_release() */
		failed = true;
		break
	:: true ->
#endif
	if
	:: message == INVALID_OID && RESET_COUNTS -> count(session, all_changed)
#ifdef WATCHED_OID_IS_TAKEN_FOR_SYNTHETIC
	:: message == TABLE			/* some other bucket */
#else
	:: message == TABLE && COUNTING(session) && published ->
		count(session, all_changed)
#endif
	:: message == KEY && COUNTING(session) -> count(session, changed[KEY])
	:: message == ORG && COUNTING(session) -> count(session, changed[ORG])
	:: else
	fi
#ifdef ERRORS
	fi
#endif
}

/*
 * RESOURCE_RELEASE_LOCKS, top level.  What "owes" says: the transaction has an
 * xid, or it is a COMMIT PREPARED, or this is a logical apply worker.
 */
inline at_release(session)
{
#ifdef WINDOW_IS_THE_ACCEPT
	owes = true;
#endif
#ifndef NO_COUNT_BEFORE_ANSWER
	if
	:: owes ->
		accept_messages(session);
#ifdef ERRORS
		if
		:: failed ->
#ifndef ERROR_NOT_COUNTED
			count(session, all_changed);
#endif
			failed = false
		:: !failed
		fi
#endif
#ifdef NO_WINDOW_FOR_COMMIT_PREPARED
	:: !owes -> accept_messages(session)
#else
	:: !owes
#endif
	fi;
#endif
	owes = false
}

/* What a transaction does whose messages have been registered. */
inline make_visible(harm)
{
	d_step {
		revoked = revoked || harm;
		say1("the commit is visible; revocation: %d\n", harm)
	}
}

inline answer(harm)
{
	d_step {
		answered = answered || harm;
		say("the commit is answered\n")
	}
}

inline foreign_accept(session)
{
#ifdef FOREIGN_ACCEPT
	/* Another module's callback of the same phase, which runs before ours. */
	if
	:: accept_messages(session)
	:: skip
	fi
#else
	skip
#endif
}

inline commit(session, message, harm)
{
#ifdef COUNT_BEFORE_VISIBLE
	relation_changed(session, message);
	make_visible(harm);
	send(message);
#else
#ifndef WINDOW_IS_THE_ACCEPT
	owes = true;
#endif
	make_visible(harm);
	send(message);
	foreign_accept(session);
	at_release(session);
#endif
	answer(harm)
}

#ifdef PREPARED
proctype finisher(byte message; bool harm)
{
	ACCEPTS;
	COUNTS;

#if !defined(NO_WINDOW_FOR_COMMIT_PREPARED) && !defined(COUNT_WHERE_TRIGGER_FIRED)
	owes = true;				/* the utility hook, before it calls on */
#endif
	make_visible(harm);
	send(message);
#if defined(FINISHER_FAILS) && defined(NO_COUNT_AT_ABORT)
	if
	:: at_release(FINISHER)
	:: owes = false				/* an error after the messages were sent */
	fi;
#else
	at_release(FINISHER);
#endif
	/* An error is an answer, too: who asks again learns that it is done. */
	answer(harm);
	running--
}
#endif

proctype writer()
{
	ACCEPTS;
	COUNTS;
	byte n;
	byte message;
	bool harm;

	do
	:: n < TRANSACTIONS ->
		n++;
		if
		:: message = KEY
		:: message = ORG
		:: message = TABLE
		fi;
		if
		:: n == TRANSACTIONS -> harm = true
		:: harm = false
		fi;
		if
#ifdef PREPARED
		:: running++;
			run finisher(message, harm);
			break
#else
		:: commit(WRITER, message, harm)
#endif
#ifdef REACH_HIT_AFTER_ROLLBACK
		:: rolled_back = true
#endif
		:: skip					/* ROLLBACK sends nothing */
		fi;
		d_step {
			message = 0;
			harm = false
		}
	:: n == TRANSACTIONS -> break
	od;
	running--
}

#ifdef NO_KEY_BUCKET
#define KEY_IS_UNCHANGED true
#else
#define KEY_IS_UNCHANGED changed[KEY] <= read_stamp
#endif
#ifdef NO_ORG_BUCKET
#define ORG_IS_UNCHANGED true
#elif defined(TWO_STAMPS)
#define ORG_IS_UNCHANGED changed[ORG] <= read_org_stamp
#else
#define ORG_IS_UNCHANGED changed[ORG] <= read_stamp
#endif
#ifdef NO_ALL_CHANGED
#define ALL_IS_UNCHANGED true
#else
#define ALL_IS_UNCHANGED all_changed <= read_stamp
#endif

/* What is read later can only be newer, but one search makes sure of it. */
#ifdef READ_ONE_BY_ONE
#define NOT_AT_ONCE
#else
#define NOT_AT_ONCE d_step
#endif

/* See slot.pml for why an entry can be read as if at one moment. */
inline find(session)
{
	d_step {
		hit = has;
		read_stamp = stamp;
#ifdef TWO_STAMPS
		read_org_stamp = org_stamp;
#endif
	};
	NOT_AT_ONCE {
		hit = hit && KEY_IS_UNCHANGED;
		hit = hit && ORG_IS_UNCHANGED;
		hit = hit && ALL_IS_UNCHANGED
	}
}

inline store(session)
{
	d_step {
		if
#ifdef NO_CHECK_AT_STORE
		:: true ->
#elif defined(TWO_STAMPS)
		:: changed[KEY] <= read_stamp && changed[ORG] <= read_org_stamp &&
		   all_changed <= read_stamp ->
#else
		:: changed[KEY] <= read_stamp && changed[ORG] <= read_stamp &&
		   all_changed <= read_stamp ->
#endif
			has = true;
			stamp = read_stamp;
#ifdef TWO_STAMPS
			org_stamp = read_org_stamp;
#endif
#ifdef REACH_HIT_OF_ANOTHERS_ENTRY
			filler = session;
#endif
			say2("session %d stores the key as of %d\n", session, read_stamp)
#ifndef NO_CHECK_AT_STORE
		:: else
#endif
		fi
	}
}

inline publish()
{
	published = true
}

inline fill(session)
{
#ifndef PUBLISH_AFTER_T
	publish();
#endif
#if !defined(T_AFTER_SNAPSHOT) && !defined(T_AT_STORE)
	read_stamp = clock;
#endif
	seen_revoked = revoked;		/* the snapshot */
#ifdef T_AFTER_SNAPSHOT
	read_stamp = clock;
#endif
#ifdef TWO_STAMPS
	read_org_stamp = clock;		/* the org is known now */
#endif
#ifdef PUBLISH_AFTER_T
	publish();
#endif
	if
	:: seen_revoked
	:: !seen_revoked ->
#ifdef T_AT_STORE
		read_stamp = clock;
#endif
		store(session);
		accepted = true
	fi;
	seen_revoked = false
}

inline verify(session)
{
	d_step {
		must_refuse = answered;
		accepted = false;
		say1("session %d begins to verify\n", session)
	};
#ifndef NO_ACCEPT_AT_LOOKUP
	accept_messages(session);
#endif
	find(session);
	if
	:: hit ->
#ifdef REACH_HIT
		assert(false);
#endif
#ifdef REACH_HIT_OF_ANOTHERS_ENTRY
		assert(filler == session);
#endif
#ifdef REACH_HIT_AFTER_ROLLBACK
		assert(!rolled_back);
#endif
		accepted = true
	:: !hit -> fill(session)
	fi;
	d_step {
		if
		:: accepted && hit -> say1("session %d accepts, from the cache\n", session)
		:: accepted && !hit -> say1("session %d accepts\n", session)
		:: else -> say1("session %d does not accept\n", session)
		fi;
		assert(!(accepted && must_refuse));
		read_stamp = 0;
#ifdef TWO_STAMPS
		read_org_stamp = 0;
#endif
	}
}

#define VERIFIES	\
	byte read_stamp;	\
	byte read_org_stamp;	\
	bool seen_revoked;	\
	bool hit;	\
	bool accepted;	\
	bool must_refuse

proctype old()
{
	ACCEPTS;
	COUNTS;
	VERIFIES;

	verify(OLD);
	running--
}

proctype new()
{
	ACCEPTS;
	COUNTS;
	VERIFIES;

	begin_listening(NEW);
	verify(NEW);

	/* When all is over, the cache is of use again. */
	running == 0;
	verify(NEW);
	assert(accepted == !revoked);
	verify(NEW);
	assert(accepted == !revoked);
	assert(hit == !revoked)
}

init
{
	atomic {
		begin_listening(WRITER);
		begin_listening(OLD);
#ifdef PREPARED
		begin_listening(FINISHER);
#endif
		running = 2;
		run writer();
		run old();
		run new()
	}
}
