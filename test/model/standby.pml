/*
 * standby.pml
 *		Replay, and what changes when a standby is promoted.
 *
 * The startup process replays a commit, which may revoke the key; then the
 * server may be promoted; then session PRIMARY commits, or commits what was
 * prepared, which may revoke it.  OLD was connected as a standby's session, NEW
 * connects at any moment, and looks.  In recovery the cache is each session's own; after
 * it, it is shared, but for rows that do not fit (TOO_LONG).
 *
 * The promise: if a revocation was answered before a verification begins, it
 * does not accept the key.  What is replayed is answered when it has been
 * applied (synchronous_commit = remote_apply).
 *
 * holds small: -DVERIFICATIONS=2
 * holds: -DVERIFICATIONS=3
 * holds: -DVERIFICATIONS=3 -DTOO_LONG
 * holds: -DVERIFICATIONS=3 -DUSABLE_AFTER_T
 *
 * refuted small: -DUSABLE_AT_STORE
 * refuted: -DSHARED_IN_RECOVERY
 * refuted: -DNO_ACCEPT_AT_LOOKUP
 * refuted: -DRESET_IGNORED
 * refuted: -DNO_COUNT_BEFORE_ANSWER
 *
 * reached: -DREACH_LOCAL_HIT
 * reached: -DREACH_SHARED_HIT
 * reached: -DREACH_LOCAL_HIT_AFTER_PROMOTION -DTOO_LONG
 */
#define PRIMARY 0
#define OLD 1
#define SESSIONS 2
#define QUEUE 2

#define KEY 0

#ifndef VERIFICATIONS
#define VERIFICATIONS 3
#endif

#include "sinval.pml"

bool in_recovery = true;
bool revoked;					/* as a snapshot that is taken now sees it */
bool answered;					/* ghost */

/* -- Shared memory -- */

byte clock;						/* T */
byte changed;
byte all_changed;
bool has;
byte stamp;

#define LOCAL_CACHE	\
	byte local_clock;	\
	byte local_changed;	\
	bool local_has;	\
	byte local_stamp;	\
	bool owes;	\
	byte t

inline count(cell)
{
	d_step {
		clock++;
		t = clock
	};
	d_step {
		if
		:: cell < t -> cell = t
		:: else
		fi;
		t = 0
	}
}

inline relation_changed(session, message)
{
#ifdef RESET_IGNORED
	if
	:: message != INVALID_OID ->
#endif
	d_step {
		local_clock++;
		local_changed = local_clock
	}
#ifdef RESET_IGNORED
	:: else
	fi
#endif
	;
	if
	:: message == KEY -> count(changed)
	:: message == INVALID_OID && owes -> count(all_changed)
	:: else
	fi
}

/* xact_redo_commit(): the startup process has no database, and counts nothing. */
proctype startup()
{
	bool harm;

	if
	:: harm = true
	:: harm = false
	fi;
	d_step {
		revoked = harm;				/* ExpireTreeKnownAssignedTransactionIds() */
		say1("a commit is replayed; revocation: %d\n", harm)
	};
	send(KEY);
	d_step {
		answered = harm;
		say("it has been applied\n")
	};
	if
	:: d_step {
			in_recovery = false;
			say("the server is promoted\n")
		};
		run primary()
	:: skip
	fi
}

proctype primary()
{
	ACCEPTS;
	LOCAL_CACHE;

	owes = true;
	d_step {
		revoked = true;
		say("a revocation on the new primary is visible\n")
	};
	send(KEY);
#ifndef NO_COUNT_BEFORE_ANSWER
	accept_messages(PRIMARY);
#endif
	d_step {
		answered = true;
		say("it is answered\n")
	}
}

#ifdef SHARED_IN_RECOVERY
#define USABLE true
#else
#define USABLE !in_recovery
#endif

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
	usable = USABLE;
	d_step {
		hit = usable && has && changed <= stamp && all_changed <= stamp;
		local_hit = !hit && local_has && local_changed <= local_stamp
	};
#ifdef TOO_LONG
	skip;
#else
	/* Where the shared cache is in use, only long rows are in the other. */
	local_hit = local_hit && !usable;
#endif
#ifdef REACH_LOCAL_HIT
	assert(!local_hit);
#endif
#ifdef REACH_LOCAL_HIT_AFTER_PROMOTION
	assert(!(local_hit && usable));
#endif
#ifdef REACH_SHARED_HIT
	assert(!hit);
#endif
	if
	:: hit || local_hit -> accepted = true
	:: else ->
		/* What was decided before the snapshot holds for the store. */
		read_clock = local_clock;
		read_stamp = clock;
#ifdef USABLE_AFTER_T
		usable = USABLE;
#endif
		accepted = !revoked;			/* the snapshot, and the row */
#ifdef USABLE_AT_STORE
		usable = USABLE;
#endif
#ifdef TOO_LONG
		usable = false;
#endif
		d_step {
			if
			:: accepted && usable && changed <= read_stamp &&
			   all_changed <= read_stamp ->
				has = true;
				stamp = read_stamp;
				say2("session %d stores the key for all as of %d\n", session,
					 read_stamp)
			:: accepted && !usable && local_changed <= read_clock ->
				local_has = true;
				local_stamp = read_clock;
				say1("session %d stores the key for itself\n", session)
			:: else
			fi
		}
	fi;
	d_step {
		say2("session %d accepts: %d\n", session, accepted);
		assert(!(accepted && must_refuse));
		usable = false;
		hit = false;
		local_hit = false;
		accepted = false;
		read_stamp = 0;
		read_clock = 0
	}
}

#define VERIFIES	\
	byte read_stamp;	\
	byte read_clock;	\
	bool usable;	\
	bool hit;	\
	bool local_hit;	\
	bool accepted;	\
	bool must_refuse

proctype old()
{
	ACCEPTS;
	LOCAL_CACHE;
	VERIFIES;
	byte n;

	do
	:: n < VERIFICATIONS ->
		n++;
		verify(OLD)
	:: n == VERIFICATIONS -> break
	od
}

/* It only looks; that it has heard nothing must not matter. */
proctype new()
{
	d_step {
		if
		:: USABLE && has && changed <= stamp && all_changed <= stamp ->
			say("a new session accepts the key from the shared cache\n");
			assert(!answered)
		:: else
		fi
	}
}

init
{
	atomic {
		begin_listening(PRIMARY);
		begin_listening(OLD);
		run startup();
		run old();
		run new()
	}
}
