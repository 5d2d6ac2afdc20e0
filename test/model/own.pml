/*
 * own.pml
 *		What a transaction is told that has changed keys itself.
 *
 * One key.  Session WRITER runs statements as they come: it revokes, restores
 * or mints the key, sets a savepoint and rolls back to it, verifies the key at
 * any point, commits or rolls back, and begins anew.  Session OTHER verifies
 * meanwhile, and so fills the cache with what it sees.  With LOCAL each has a
 * cache of its own, as where the library is not preloaded; else they share one.
 *
 * The promise is exact here, since nobody else writes: the writer is told what
 * its own transaction has made of the key, and the other session what is
 * committed, unless a commit is under way.  With USER_TRIGGER one UPDATE
 * changes another key's row first, and somebody's own AFTER ROW trigger on that
 * row verifies our key, which has been changed, too.
 *
 * holds small: -DSTEPS=4
 * holds: -DSTEPS=6
 * holds: -DSTEPS=6 -DLOCAL
 * holds: -DSTEPS=5 -DUSER_TRIGGER
 * holds: -DSTEPS=5 -DUSER_TRIGGER -DLOCAL
 * holds: -DSTEPS=5 -DLOCAL -DFLAG_FOR_SHARED_ONLY
 *
 * refuted small: -DNO_FLAG
 * refuted: -DFLAG_ENDS_WITH_SAVEPOINT
 * refuted: -DFLAG_NEVER_ENDS
 * refuted: -DOWN_ROW_STORED
 * refuted: -DOWN_ROW_STORED -DLOCAL
 * refuted: -DUSER_TRIGGER -DUSER_TRIGGER_FIRST
 * refuted: -DUSER_TRIGGER -DFLAG_FOR_SHARED_ONLY -DLOCAL
 *
 * reached: -DREACH_HIT_BY_WRITER
 * reached: -DREACH_HIT_AFTER_ROLLBACK_TO
 */
#define WRITER 0
#define OTHER 1
#define SESSIONS 2
#define QUEUE 3

#define KEY 0

#define NOTHING 0				/* no row of this level of the transaction */
#define GOOD 1
#define REVOKED 2
#define MISSING 3

#ifndef STEPS
#define STEPS 6
#endif

#include "sinval.pml"

byte committed;					/* what a new snapshot sees of the key */
byte commits;					/* ghost: have become visible */
bool other_is_done;
bool under_way;					/* ghost: visible, but not answered */

#ifdef LOCAL
#define CACHE	\
	byte clock;	\
	byte changed;	\
	bool has;	\
	byte stamp
#else
byte clock;
byte changed;
bool has;
byte stamp;
#define CACHE	\
	byte t
#endif

/* One bucket and one clock will do: the others are in local.pml, shared.pml. */
inline relation_changed(session, message)
{
#ifndef LOCAL
	if
	:: message == KEY || owes ->
		d_step {
			clock++;
			t = clock
		};
		d_step {
			if
			:: changed < t -> changed = t
			:: else
			fi;
			t = 0
		}
	:: else
	fi
#else
	d_step {
		clock++;
		changed = clock
	}
#endif
}

#ifdef NO_FLAG
#define USABLE true
#elif defined(LOCAL) && defined(FLAG_FOR_SHARED_ONLY)
#define USABLE true
#else
#define USABLE !own_change
#endif

/* What the session's snapshot shows, and whether the own transaction wrote it. */
#define VIEW (inner != NOTHING -> inner : (outer != NOTHING -> outer : committed))
#define OWN_ROW (inner != NOTHING || outer != NOTHING)

inline verify(session)
{
	accept_messages(session);
	d_step {
		hit = USABLE && has && changed <= stamp;
		accepted = hit
	};
#ifdef REACH_HIT_BY_WRITER
	assert(!(hit && session == WRITER));
#endif
#ifdef REACH_HIT_AFTER_ROLLBACK_TO
	assert(!(hit && session == WRITER && rolled_back_to));
#endif
	if
	:: hit
	:: !hit ->
		read_stamp = clock;
		d_step {
			accepted = (VIEW == GOOD);
#ifdef OWN_ROW_STORED
			may_store = USABLE;
#else
			may_store = USABLE && !OWN_ROW;
#endif
		};
		d_step {
			if
			:: accepted && may_store && changed <= read_stamp ->
				has = true;
				stamp = read_stamp;
				say2("session %d stores the key as of %d\n", session, stamp)
			:: else
			fi;
			read_stamp = 0;
			may_store = false
		}
	fi;
	d_step {
		say2("session %d verifies: %d\n", session, accepted);
		hit = false
	}
}

#define VERIFIES	\
	byte read_stamp;	\
	byte inner;				/* the own rows, inside the savepoint */	\
	byte outer;				/* and outside */	\
	bool own_change;		/* our trigger has fired in this transaction */	\
	bool owes;	\
	bool rolled_back_to;	/* ghost */	\
	bool may_store;	\
	bool hit;	\
	bool accepted

inline writer_verifies()
{
	verify(WRITER);
	d_step {
		assert(accepted == (VIEW == GOOD));
		accepted = false
	}
}

/* The row trigger, and the end of the command, which hears the message. */
inline invalidate()
{
	d_step {
		own_change = true;
		if
		:: in_savepoint -> inner_message = true
		:: else -> outer_message = true
		fi
	};
	relation_changed(WRITER, KEY)
}

inline update(value)
{
#if defined(USER_TRIGGER) && !defined(USER_TRIGGER_FIRST)
	/* Ours on the other key's row, which sorts before anybody else's. */
	own_change = true;
#endif
	d_step {
		if
		:: in_savepoint -> inner = value
		:: else -> outer = value
		fi;
		say1("the writer makes the key %d (1 good, 2 revoked)\n", value)
	};
#ifdef USER_TRIGGER
	if
	:: writer_verifies()
	:: skip
	fi;
#endif
	invalidate()
}

inline mint()
{
	d_step {
		if
		:: in_savepoint -> inner = GOOD
		:: else -> outer = GOOD
		fi;
		say("the writer mints the key\n")
	}
}

inline end_transaction()
{
	atomic {
		inner = NOTHING;
		outer = NOTHING;
		inner_message = false;
		outer_message = false;
		in_savepoint = false;
#ifndef FLAG_NEVER_ENDS
		own_change = false;
#endif
		owes = false
	}
}

inline commit()
{
	d_step {
		if
		:: OWN_ROW ->
			committed = VIEW;
			commits++;
			under_way = true
		:: else
		fi;
		owes = OWN_ROW;
		inner = NOTHING;
		outer = NOTHING;
		say1("the commit is visible: the key is %d\n", committed)
	};
	if
	:: inner_message || outer_message -> send(KEY)
	:: else
	fi;
	if
	:: owes -> accept_messages(WRITER)
	:: !owes
	fi;
	end_transaction();
	d_step {
		under_way = false;
		say("the commit is answered\n")
	}
}

inline roll_back_to()
{
	if
	:: inner_message -> relation_changed(WRITER, KEY)
	:: !inner_message
	fi;
	d_step {
		inner = NOTHING;
		inner_message = false;
		in_savepoint = false;
#ifdef FLAG_ENDS_WITH_SAVEPOINT
		own_change = false;
#endif
#ifdef REACH_HIT_AFTER_ROLLBACK_TO
		rolled_back_to = true;
#endif
		say("ROLLBACK TO SAVEPOINT\n")
	}
}

inline roll_back()
{
	if
	:: inner_message || outer_message -> relation_changed(WRITER, KEY)
	:: else
	fi;
	end_transaction()
}

proctype writer()
{
	ACCEPTS;
	CACHE;
	VERIFIES;
	bool in_savepoint;
	bool inner_message;
	bool outer_message;
	byte n;

	do
	:: n < STEPS ->
		n++;
		if
		:: VIEW == GOOD -> update(REVOKED)
		:: VIEW == REVOKED -> update(GOOD)
		:: VIEW == MISSING -> mint()
		:: !in_savepoint && OWN_ROW -> in_savepoint = true
		:: in_savepoint -> roll_back_to()
		:: writer_verifies()
		:: OWN_ROW -> commit()
		:: OWN_ROW -> roll_back()
		fi
	:: n == STEPS -> break
	od;

	/* In the end the cache is of use again. */
	other_is_done;
	roll_back();
	writer_verifies();
	verify(WRITER);
	assert(VIEW != GOOD || (accepted && has && changed <= stamp))
}

proctype other()
{
	ACCEPTS;
	CACHE;
	VERIFIES;
	byte n;
	byte before;
	bool unsettled;

	do
	:: n < 2 ->
		n++;
		d_step {
			before = commits;
			unsettled = under_way
		};
		verify(OTHER);
		d_step {
			assert(unsettled || commits != before ||
				   accepted == (committed == GOOD));
			accepted = false;
			before = 0;
			unsettled = false
		}
	:: n == 2 -> break
	od;
	other_is_done = true
}

init
{
	atomic {
		if
		:: committed = GOOD
		:: committed = REVOKED
		:: committed = MISSING
		fi;
		begin_listening(WRITER);
		begin_listening(OTHER);
		run writer();
		run other()
	}
}
