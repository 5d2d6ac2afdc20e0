/*
 * tables.pml
 *		Which real tables count, and who has told the others.
 *
 * An entry is read from two tables, api_keys and orgs.  Session DDL replaces
 * both (DROP and CREATE EXTENSION with the rows brought over), or orgs alone
 * (the script of an update), or neither; then it truncates one of them, so that
 * no key is accepted any more.  Such messages carry real OIDs, and a session
 * counts those that have been published.  Session FILLER may hold a lock on
 * api_keys from before, as in a long transaction, and then locking it again
 * accepts nothing; NEW connects at any moment, and looks, or with NEW_FILLS
 * fills, too.
 *
 * The promise: if the TRUNCATE was answered before a verification begins, it
 * does not accept the key.
 *
 * holds small: -DFILLS=1
 * holds: -DFILLS=2
 * holds: -DNEW_FILLS -DUPDATE_ONLY -DFILLS=2
 *
 * refuted: -DPUBLISH_AFTER_T
 * refuted: -DPUBLISH_BEFORE_LOCK
 * refuted: -DPUBLISH_OVERWRITES -DNEW_FILLS -DUPDATE_ONLY -DFILLS=2
 * refuted: -DSECOND_TABLE_MAY_CHANGE
 * refuted: -DNO_COUNT_BEFORE_ANSWER
 *
 * reached: -DREACH_HIT
 * reached: -DREACH_SECOND_TABLE_REPLACED
 */
#define DDL 0
#define FILLER 1
#define NEW 2
#define SESSIONS 3
#define QUEUE 3

#ifndef FILLS
#define FILLS 1
#endif

/* OIDs: a table and what replaces it */
#define KEYS_OLD 1
#define KEYS_NEW 2
#define ORGS_OLD 3
#define ORGS_NEW 4

#include "sinval.pml"

/* -- What the catalogs and tables say to a new snapshot -- */

byte keys_oid = KEYS_OLD;
byte orgs_oid = ORGS_OLD;
bool truncated;
byte orgs_version;				/* of its file: what came later is not seen */
bool answered;					/* ghost: and the TRUNCATE was answered */

/* Heavyweight locks: how many share each, and who has it alone */
byte keys_shared;
byte orgs_shared;
bool keys_exclusive;
bool orgs_exclusive;

/* -- Shared memory -- */

byte clock;
byte all_changed;
bool published[5];				/* by OID; set, and never taken back */
bool has;
byte stamp;

#define KNOWS	\
	bool known;				/* these are the OIDs: */	\
	byte known_keys;	\
	byte known_orgs;	\
	byte t;	\
	bool owes

inline count_all()
{
	d_step {
		clock++;
		t = clock
	};
	d_step {
		if
		:: all_changed < t -> all_changed = t
		:: else
		fi;
		say1("everything is counted as of %d\n", t);
		t = 0
	}
}

/* For a session's own memory, any real OID makes unknown what it knew. */
inline relation_changed(session, message)
{
	known = false;
	if
	:: message == INVALID_OID && owes -> count_all()
	:: message < INVALID_OID && published[message] -> count_all()
	:: else
	fi
}

inline look_up_tables()
{
	d_step {
		if
		:: !known ->
			known_keys = keys_oid;
			known_orgs = orgs_oid;
			known = true
		:: else
		fi
	}
}

inline publish()
{
#ifdef PUBLISH_OVERWRITES
	d_step {
		published[KEYS_OLD] = (known_keys == KEYS_OLD);
		published[KEYS_NEW] = (known_keys == KEYS_NEW);
		published[ORGS_OLD] = (known_orgs == ORGS_OLD);
		published[ORGS_NEW] = (known_orgs == ORGS_NEW)
	}
#else
	d_step {
		published[known_keys] = true;
		published[known_orgs] = true
	}
#endif
}

inline unlock_keys()
{
	d_step {
		if
		:: !held -> keys_shared--
		:: else
		fi
	}
}

inline fill(session)
{
#ifdef PUBLISH_BEFORE_LOCK
	look_up_tables();
	publish();
#endif
	/* oa_table_open(api_keys): locks what it is called now */
	if
	:: held
	:: !held ->
		do
		:: look_up_tables();
			d_step {
				!keys_exclusive ->
				keys_shared++
			};
			accept_messages(session);
			look_up_tables();
			if
			:: known_keys == keys_oid -> break
			:: known_keys != keys_oid ->
				keys_shared--;
				known = false
			fi
		od
	fi;
	look_up_tables();
#if !defined(PUBLISH_BEFORE_LOCK) && !defined(PUBLISH_AFTER_T)
	publish();
#endif
	d_step {
		fill_orgs = known_orgs;
		read_stamp = clock;
		say1("session %d has published, and reads T\n", session)
	};
	d_step {
		/* the snapshot */
		seen_truncated = truncated;
		seen_version = orgs_version
	};
	unlock_keys();

	/* oa_table_open(orgs) */
	do
	:: look_up_tables();
		d_step {
			!orgs_exclusive ->
			orgs_shared++
		};
		accept_messages(session);
		look_up_tables();
		if
		:: known_orgs == orgs_oid -> break
		:: known_orgs != orgs_oid ->
			orgs_shared--;
			known = false
		fi
	od;
#ifdef REACH_SECOND_TABLE_REPLACED
	assert(!(known_orgs != fill_orgs && orgs_version == seen_version));
#endif
	accepted = !seen_truncated && orgs_version == seen_version;
	orgs_shared--;
#ifdef PUBLISH_AFTER_T
	publish();
#endif
	d_step {
		if
#ifdef SECOND_TABLE_MAY_CHANGE
		:: accepted && all_changed <= read_stamp ->
#else
		:: accepted && all_changed <= read_stamp && known_orgs == fill_orgs ->
#endif
			has = true;
			stamp = read_stamp;
			say2("session %d stores the key as of %d\n", session, read_stamp)
		:: else
		fi;
		seen_truncated = false;
		seen_version = 0;
		read_stamp = 0;
		fill_orgs = 0
	}
}

inline verify(session)
{
	d_step {
		must_refuse = answered;
		accepted = false;
		say1("session %d begins to verify\n", session)
	};
	accept_messages(session);
	hit = has && all_changed <= stamp;
	if
	:: hit ->
#ifdef REACH_HIT
		assert(false);
#endif
		accepted = true
	:: !hit -> fill(session)
	fi;
	d_step {
		say2("session %d accepts: %d\n", session, accepted);
		assert(!(accepted && must_refuse));
		hit = false;
		accepted = false
	}
}

#define VERIFIES	\
	byte fill_orgs;			/* as it was published */	\
	byte read_stamp;	\
	byte seen_version;	\
	bool seen_truncated;	\
	bool held;	\
	bool hit;	\
	bool accepted;	\
	bool must_refuse

proctype filler()
{
	ACCEPTS;
	KNOWS;
	VERIFIES;
	byte n;

	if
	:: d_step {
			!keys_exclusive ->
			keys_shared++;
			held = true;
			say("the filler's transaction has locked api_keys\n")
		}
	:: skip
	fi;
	look_up_tables();
	do
	:: n < FILLS ->
		n++;
		verify(FILLER)
	:: n == FILLS -> break
	od;
	if
	:: held -> keys_shared--
	:: !held
	fi
}

proctype new()
{
	ACCEPTS;
	KNOWS;
	VERIFIES;

#ifdef NEW_FILLS
	/* All at once, which is enough to publish and store in between. */
	atomic {
		if
		:: !keys_exclusive && !orgs_exclusive && !truncated -> skip
		:: truncated -> goto end
		fi;
		known_keys = keys_oid;
		known_orgs = orgs_oid;
		publish();
		has = true;
		stamp = clock
	};
end:
	skip
#else
	/* It only looks; that it has heard nothing must not matter. */
	d_step {
		must_refuse = answered;
		hit = has && all_changed <= stamp;
		say1("the new session finds an entry: %d\n", hit)
	};
#ifdef REACH_HIT
	assert(!hit);
#endif
	assert(!(hit && must_refuse))
#endif
}

inline lock_alone(oid)
{
	if
	:: oid <= KEYS_NEW ->
		d_step {
			keys_shared == 0 ->
			keys_exclusive = true
		}
	:: oid > KEYS_NEW ->
		d_step {
			orgs_shared == 0 ->
			orgs_exclusive = true
		}
	fi
}

/* Locks are released before our callback of that phase is called. */
inline end_transaction()
{
	d_step {
		keys_exclusive = false;
		orgs_exclusive = false
	};
#ifndef NO_COUNT_BEFORE_ANSWER
	owes = true;
	accept_messages(DDL);
	owes = false
#endif
}

proctype ddl()
{
	ACCEPTS;
	KNOWS;
	byte oid;

	if
#ifndef UPDATE_ONLY
	:: lock_alone(KEYS_OLD);
		lock_alone(ORGS_OLD);
		d_step {
			keys_oid = KEYS_NEW;
			orgs_oid = ORGS_NEW;
			orgs_version++;
			say("DROP and CREATE EXTENSION\n")
		};
		send(KEYS_OLD);
		send(ORGS_OLD);
		end_transaction()
#endif
	:: lock_alone(ORGS_OLD);
		d_step {
			orgs_oid = ORGS_NEW;
			orgs_version++;
			say("the script of an update replaces orgs\n")
		};
		send(ORGS_OLD);
		end_transaction()
#ifndef UPDATE_ONLY
	:: skip
#endif
	fi;
	if
#ifndef UPDATE_ONLY
	:: oid = keys_oid
#endif
	:: oid = orgs_oid
	fi;
	lock_alone(oid);
	d_step {
		truncated = true;
		if
		:: oid > KEYS_NEW -> orgs_version++
		:: else
		fi;
		say1("TRUNCATE of table %d is visible\n", oid)
	};
	send(oid);
	end_transaction();
	d_step {
		answered = true;
		say("and answered\n")
	}
}

init
{
	atomic {
		begin_listening(DDL);
		begin_listening(FILLER);
		run ddl();
		run filler();
		run new()
	}
}
