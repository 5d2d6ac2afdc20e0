/*
 * mixed.pml
 *		An entry of the shared cache whose org came from a session's own cache.
 *
 * A miss reads the key's row from the table, and takes the org from the
 * session's local cache if it is there.  So the entry says more than its
 * snapshot has seen.  Session WRITER suspends the org; FILLER, which has the
 * org in its cache from before, fills; NEW connects at any moment.
 *
 * The promise: if the suspension was answered before a verification begins,
 * it does not accept the org's key.
 *
 * holds small: -DFILLS=1
 * holds: -DFILLS=2
 * holds: -DFILLS=2 -DERRORS
 *
 * refuted: -DNO_ACCEPT_AT_ORG
 * refuted: -DORG_BEFORE_T
 * refuted: -DRESET_IGNORED
 * refuted: -DFILLS=2 -DERRORS -DERROR_LOSES_MESSAGE
 *
 * reached: -DREACH_HIT
 * reached: -DREACH_ORG_FROM_CACHE
 */
#define WRITER 0
#define FILLER 1
#define NEW 2
#define SESSIONS 3
#define QUEUE 1

#define ORG 0

#ifndef FILLS
#define FILLS 2
#endif

#include "sinval.pml"

bool suspended;					/* as a snapshot that is taken now sees it */
bool answered;					/* ghost: and the commit was answered */

/* -- Shared memory -- */

byte clock;						/* T */
byte changed;					/* the org's bucket */
byte all_changed;
bool has;						/* there is an entry of the key, */
byte stamp;						/* as of this T */

/* -- Each session's own cache of orgs -- */

#define LOCAL_CACHE	\
	byte local_clock;	\
	byte local_changed;	\
	byte local_all_changed;	\
	bool has_org;	\
	byte org_stamp;	\
	bool failed;			/* ERRORS only */	\
	bool owes;	\
	byte t

inline hear(message)
{
	d_step {
		local_clock++;
		if
		:: message == ORG -> local_changed = local_clock
#ifdef RESET_IGNORED
		:: message == INVALID_OID
#else
		:: message == INVALID_OID -> local_all_changed = local_clock
#endif
		fi
	}
}

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
#ifdef ERRORS
	if
	:: !owes ->					/* the writer's own is in shared.pml */
		d_step {
			failed = true;
			say1("an error comes up before session %d is told\n", session)
		};
		break
	:: true ->
#endif
	hear(message);
	if
	:: message == ORG -> count(changed)
	:: message == INVALID_OID && owes -> count(all_changed)
	:: else
	fi
#ifdef ERRORS
	fi
#endif
}

proctype writer()
{
	ACCEPTS;
	LOCAL_CACHE;

	owes = true;
	suspended = true;
	send(ORG);
	accept_messages(WRITER);
	answered = true
}

inline at_abort()
{
	d_step {
#ifndef ERROR_LOSES_MESSAGE
		local_clock++;
		local_all_changed = local_clock;
#endif
		failed = false
	}
}

/* oa_cache_find() on the cache of orgs */
inline find_org(session)
{
#ifndef NO_ACCEPT_AT_ORG
	accept_messages(session);
#endif
	org_found = has_org && local_changed <= org_stamp &&
		local_all_changed <= org_stamp
}

inline fill(session)
{
#ifdef ORG_BEFORE_T
	find_org(session);
#endif
	read_stamp = clock;
	read_clock = local_clock;
	seen_suspended = suspended;		/* the snapshot */
#ifndef ORG_BEFORE_T
	find_org(session);
#endif
	if
	:: failed
	:: !failed ->
		if
		:: org_found ->
#ifdef REACH_ORG_FROM_CACHE
			assert(false);
#endif
			accepted = true
		:: !org_found ->
			accepted = !seen_suspended;
			d_step {
				if
				:: accepted && local_changed <= read_clock &&
				   local_all_changed <= read_clock ->
					has_org = true;
					org_stamp = read_clock
				:: else
				fi
			}
		fi;
		d_step {
			if
			:: accepted && changed <= read_stamp && all_changed <= read_stamp ->
				has = true;
				stamp = read_stamp;
				say2("session %d stores the key as of %d\n", session, read_stamp)
			:: else
			fi
		}
	fi
}

inline verify(session)
{
	d_step {
		must_refuse = answered;
		accepted = false;
		org_found = false;
		say1("session %d begins to verify\n", session)
	};
	accept_messages(session);
	if
	:: failed
	:: !failed ->
		hit = has && changed <= stamp && all_changed <= stamp;
		if
		:: hit ->
#ifdef REACH_HIT
			assert(session != NEW);
#endif
			accepted = true
		:: !hit -> fill(session)
		fi
	fi;
	if
	:: failed -> at_abort()
	:: !failed
	fi;
	d_step {
		say2("session %d accepts: %d\n", session, accepted);
		assert(!(accepted && must_refuse));
		read_stamp = 0;
		read_clock = 0;
		seen_suspended = false;
		hit = false
	}
}

#define VERIFIES	\
	byte read_stamp;	\
	byte read_clock;	\
	bool seen_suspended;	\
	bool org_found;	\
	bool hit;	\
	bool accepted;	\
	bool must_refuse

proctype filler()
{
	ACCEPTS;
	LOCAL_CACHE;
	VERIFIES;
	byte n;

	has_org = true;
	do
	:: n < FILLS ->
		n++;
		verify(FILLER)
	:: n == FILLS -> break
	od
}

proctype new()
{
	ACCEPTS;
	LOCAL_CACHE;
	VERIFIES;

	begin_listening(NEW);
	verify(NEW)
}

init
{
	atomic {
		begin_listening(WRITER);
		begin_listening(FILLER);
		run writer();
		run filler();
		run new()
	}
}
