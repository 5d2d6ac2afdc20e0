/*
 * local.pml
 *		The cache of one session, with the time of each bucket's last change.
 *
 * A session's cache depends on what the session hears and on nobody else's, so
 * one reader is enough: it verifies VERIFICATIONS times, each time one of two
 * keys of one org.  It may be inside a long transaction that holds the tables'
 * locks already, and it may fall behind.  One transaction writes: rows, a
 * savepoint, past the limits from which on it sends its org's or the table's
 * message; it commits, rolls back, or is prepared and finished by another
 * session.
 *
 * The promise: if a commit was answered before a verification begins, it does
 * not accept what the commit has revoked.  And: when all is over, a key that is
 * not revoked is accepted, the second time from the cache.
 *
 * holds small: -DVERIFICATIONS=2
 * holds: -DVERIFICATIONS=3
 * holds: -DVERIFICATIONS=2 -DERRORS
 * holds: -DVERIFICATIONS=2 -DNO_CHECK_AT_STORE
 * holds: -DVERIFICATIONS=2 -DFLUSH_BY_GENERATION
 *
 * refuted small: -DNO_ACCEPT_AT_LOOKUP
 * refuted: -DACCEPT_BY_LOCKS_ONLY
 * refuted: -DCLOCK_AT_STORE
 * refuted: -DCLOCK_AFTER_SNAPSHOT
 * refuted: -DNO_ORG_BUCKET
 * refuted: -DNO_KEY_BUCKET
 * refuted small: -DLATCH
 * refuted: -DRESET_IGNORED
 * refuted: -DWATCHED_OID_IS_TAKEN_FOR_SYNTHETIC
 * refuted: -DNEW_ROW_ONLY
 * refuted: -DFLUSH_BY_GENERATION -DNO_CHECK_AT_STORE
 * refuted: -DCALLBACK_AT_COMMIT
 * refuted: -DVERIFICATIONS=3 -DERRORS -DERROR_LOSES_MESSAGE
 * refuted: -DSEND_BEFORE_VISIBLE
 * refuted: -DANSWER_BEFORE_SEND
 *
 * reached: -DREACH_HIT
 * reached: -DREACH_HIT_AFTER_ROLLBACK
 * reached: -DREACH_RESET
 */
#define SESSIONS 1
#define QUEUE 3

/* Messages.  The first three are buckets, the last is a real OID. */
#define KEY_0 0
#define KEY_1 1
#define ORG 2
#define TABLE 3

#define KEYS_LIMIT 1			/* 32, really */

#ifndef VERIFICATIONS
#define VERIFICATIONS 2
#endif

#include "sinval.pml"

bool revoked[2];				/* as a snapshot that is taken now sees it */
bool answered[2];				/* ghost: and the commit was answered */
bool over;						/* the writer and its successor are done */
#ifdef REACH_HIT_AFTER_ROLLBACK
bool rolled_back;
#endif

/* -- The local cache: all of it is the reader's own memory. -- */

#define LOCAL_CACHE	\
	byte clock;	\
	byte changed[3];	/* by bucket */	\
	byte all_changed;	\
	bool has[2];		/* there is an entry of this key, */	\
	byte stamp[2];		/* whose clock was read before its snapshot */	\
	byte generation;	/* FLUSH_BY_GENERATION only */	\
	bool lost_message;	/* ERRORS only: our callback was not reached, */	\
	bool failed		/* and the statement ends in an error */

inline advance(message)
{
	d_step {
		clock++;
		if
#ifdef WATCHED_OID_IS_TAKEN_FOR_SYNTHETIC
		:: message == TABLE		/* some other bucket */
#else
		:: message == TABLE -> all_changed = clock
#endif
#ifdef RESET_IGNORED
		:: message == INVALID_OID
#else
		:: message == INVALID_OID -> all_changed = clock
#endif
		:: message < TABLE -> changed[message] = clock
		fi;
		say1("the reader hears message %d\n", message)
	}
}

/* The relcache callback: advances clocks, nothing else. */
inline relation_changed(session, message)
{
#ifdef REACH_RESET
	assert(message != INVALID_OID);
#endif
#ifdef ERRORS
	if
	:: advance(message)
	:: d_step {
			failed = true;
			lost_message = true;
			say1("an error comes up before our callback is told of %d\n", message)
		};
		break
	fi
#else
	advance(message)
#endif
}

inline store(key, read_clock)
{
	d_step {
		if
#ifndef NO_CHECK_AT_STORE
		:: all_changed > read_clock || changed[key] > read_clock ||
		   changed[ORG] > read_clock
		:: else ->
#else
		:: true ->
#endif
#ifdef FLUSH_BY_GENERATION
			if
			:: generation != all_changed ->
				has[0] = false;
				has[1] = false;
				generation = all_changed
			:: else
			fi;
#endif
			has[key] = true;
			stamp[key] = read_clock;
			say2("the reader stores key %d as of %d\n", key, read_clock)
		fi
	}
}

#ifdef NO_KEY_BUCKET
#define KEY_IS_UNCHANGED(key) true
#else
#define KEY_IS_UNCHANGED(key) changed[key] <= stamp[key]
#endif
#ifdef NO_ORG_BUCKET
#define ORG_IS_UNCHANGED(key) true
#else
#define ORG_IS_UNCHANGED(key) changed[ORG] <= stamp[key]
#endif
#ifdef FLUSH_BY_GENERATION
#define ALL_IS_UNCHANGED(key) true
#else
#define ALL_IS_UNCHANGED(key) all_changed <= stamp[key]
#endif

inline find(key, hit)
{
	d_step {
#ifdef FLUSH_BY_GENERATION
		if
		:: generation != all_changed ->
			has[0] = false;
			has[1] = false;
			generation = all_changed
		:: else
		fi;
#endif
		hit = has[key] && KEY_IS_UNCHANGED(key) && ORG_IS_UNCHANGED(key) &&
			ALL_IS_UNCHANGED(key)
	}
}

/* The error ends the (sub)transaction. */
inline at_abort()
{
#ifdef ERRORS
	d_step {
		if
#ifndef ERROR_LOSES_MESSAGE
		:: lost_message ->
			clock++;
			all_changed = clock
#endif
		:: else
		fi;
		failed = false;
		lost_message = false
	}
#else
	skip
#endif
}

#ifdef ERRORS
#define UNLESS_FAILED :: failed -> skip :: !failed ->
#else
#define UNLESS_FAILED :: true ->
#endif

#ifdef NO_ACCEPT_AT_LOOKUP
#define ACCEPT_AT_LOOKUP skip
#elif defined(ACCEPT_BY_LOCKS_ONLY)
#define ACCEPT_AT_LOOKUP if :: accept_messages(0) :: skip fi
#else
#define ACCEPT_AT_LOOKUP accept_messages(0)
#endif

/* overten_verify_key() */
inline verify(key)
{
	d_step {
		must_refuse = answered[key];
		accepted = false;
		hit = false;
		say1("the reader begins to verify key %d\n", key)
	};
	ACCEPT_AT_LOOKUP;
	if
	UNLESS_FAILED
		find(key, hit);
		if
		:: hit ->
#ifdef REACH_HIT
			assert(false);
#endif
#ifdef REACH_HIT_AFTER_ROLLBACK
			assert(!rolled_back);
#endif
			accepted = true
		:: !hit -> fill(key)
		fi
	fi;
	at_abort();
	d_step {
		if
		:: accepted -> say1("the reader accepts key %d\n", key)
		:: else -> say1("the reader does not accept key %d\n", key)
		fi;
		assert(!(accepted && must_refuse))
	}
}

/* store.c: the read behind a miss */
inline fill(key)
{
	/* Lock api_keys; if it is held already, that accepts nothing. */
	if
	:: accept_messages(0)
	:: skip
	fi;
	if
	UNLESS_FAILED
#if !defined(CLOCK_AT_STORE) && !defined(CLOCK_AFTER_SNAPSHOT)
		read_clock = clock;
#endif
		seen_revoked = revoked[key];	/* the snapshot */
#ifdef CLOCK_AFTER_SNAPSHOT
		if
		:: accept_messages(0)
		:: skip
		fi;
		read_clock = clock;
#endif
		/* Open orgs, which may accept. */
		if
		:: accept_messages(0)
		:: skip
		fi;
		if
		UNLESS_FAILED
			if
			:: seen_revoked
			:: !seen_revoked ->
#ifdef CLOCK_AT_STORE
				read_clock = clock;
#endif
				store(key, read_clock);
				accepted = true
			fi
		fi
	fi;
	d_step {
		read_clock = 0;
		seen_revoked = false
	}
}

proctype reader()
{
	ACCEPTS;
	LOCAL_CACHE;
	byte key;
	byte n;
	byte read_clock;
	bool seen_revoked;
	bool hit;
	bool accepted;
	bool must_refuse;

	if
	:: key = 0
	:: key = 1
	fi;
	do
	:: n < VERIFICATIONS ->
		n++;
		verify(key)
	:: n == VERIFICATIONS -> break
	od;

	/* When all is over, the cache is of use again. */
	over;
#ifndef ERRORS
	verify(key);
	assert(accepted == !revoked[key]);
	verify(key);
	assert(accepted == !revoked[key]);
	assert(hit == !revoked[key])
#endif
}

/* -- The writer.  Rows and messages are sets, one bit each. -- */

/*
 * The row trigger.  Which message it sends depends on the number of rows that
 * the transaction has changed, ROLLBACK TO or not; that it sends one does not.
 */
inline invalidate(row)
{
	if
	:: rows < KEYS_LIMIT -> message = row
	:: rows >= KEYS_LIMIT && rows < orgs_limit -> message = ORG
	:: rows >= KEYS_LIMIT && rows >= orgs_limit -> message = TABLE
	fi;
	rows++;
#ifdef LATCH
	if
	:: sent & (1 << message)
	:: else ->
		sent = sent | (1 << message);
		messages = messages | (1 << message)
	fi
#else
	messages = messages | (1 << message)
#endif
}

/* UPDATE api_keys SET revoked_at = now() */
inline revoke(row)
{
	d_step {
		changes = changes | (1 << row);
		say1("the writer revokes key %d\n", row);
		invalidate(row)
	}
}

/* UPDATE api_keys SET digest = that of key 1: key 0 is no more. */
inline change_digest()
{
	d_step {
		changes = changes | 1;
		say("the writer makes key 0 into key 1\n");
#ifndef NEW_ROW_ONLY
		invalidate(KEY_0);
#endif
		invalidate(KEY_1)
	}
}

/* ProcArrayEndTransaction() */
inline make_visible(rows_changed)
{
	d_step {
		if
		:: rows_changed & 1 -> revoked[0] = true
		:: else
		fi;
		if
		:: rows_changed & 2 -> revoked[1] = true
		:: else
		fi;
		say("the commit is visible\n")
	}
}

/* AtEOXact_Inval(true), or what FinishPreparedTransaction() does. */
inline send_messages(set)
{
	do
	:: message < INVALID_OID ->
		if
		:: set & (1 << message) -> send(message)
		:: else
		fi;
		message++
	:: else -> break
	od;
	message = 0
}

inline answer(rows_changed)
{
	d_step {
		if
		:: rows_changed & 1 -> answered[0] = true
		:: else
		fi;
		if
		:: rows_changed & 2 -> answered[1] = true
		:: else
		fi;
		say("the commit is answered\n")
	}
}

inline commit(rows_changed, set)
{
	message = 0;
#if defined(SEND_BEFORE_VISIBLE)
	send_messages(set);
	make_visible(rows_changed);
	answer(rows_changed)
#elif defined(ANSWER_BEFORE_SEND)
	make_visible(rows_changed);
	answer(rows_changed);
	send_messages(set)
#else
	make_visible(rows_changed);
	send_messages(set);
	answer(rows_changed)
#endif
}

inline roll_back()
{
	d_step {
#ifdef REACH_HIT_AFTER_ROLLBACK
		rolled_back = true;
#endif
		say("ROLLBACK\n")
	}
}

/* COMMIT PREPARED or ROLLBACK PREPARED in another session */
proctype finish_prepared(byte changes; byte messages)
{
	byte message;

	if
	:: true ->
#ifdef CALLBACK_AT_COMMIT
		/* A module's own callback at commit does not run here. */
		commit(changes, 0)
#else
		commit(changes, messages)
#endif
	:: roll_back()
	fi;
	over = true
}

proctype writer()
{
	byte changes;
	byte messages;
	byte rows;
	byte orgs_limit;
	byte message;
	byte sent;

	if
	:: orgs_limit = 1
	:: orgs_limit = 9
	fi;

	/* SAVEPOINT */
	if
	:: revoke(KEY_0);
		if
		:: revoke(KEY_1)
		:: skip
		fi;
		if
		:: d_step {				/* AtEOSubXact_Inval(false) */
				changes = 0;
				messages = 0;
				say("ROLLBACK TO SAVEPOINT\n")
			}
		:: skip
		fi
	:: skip
	fi;
	if
	:: revoke(KEY_0)
	:: revoke(KEY_1)
	:: change_digest()
	:: skip
	fi;

	if
	:: commit(changes, messages);
		over = true
	:: roll_back();
		over = true
	:: run finish_prepared(changes, messages)
	fi
}

init
{
	atomic {
		begin_listening(0);
		run reader();
		run writer()
	}
}
