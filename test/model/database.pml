/*
 * database.pml
 *		A database that is dropped, and another that gets its OID.
 *
 * The shared cache knows a database by its OID.  DROP DATABASE sends no message
 * about the tables that go with it, and CREATE DATABASE ... OID = n, or an OID
 * counter that has wrapped around, gives the number to another one.  There the
 * key is not accepted.  A session of the first database fills the cache while
 * it is connected; one of the second verifies.
 *
 * The promise: a verification accepts what the tables of its own database have.
 *
 * holds small:
 *
 * refuted small: -DNO_COUNT_AT_CREATE
 * refuted: -DCOUNT_BEFORE_CREATE
 * refuted: -DCOUNT_AFTER_VISIBLE
 *
 * reached: -DREACH_STALE
 */
#define FIRST 1
#define SECOND 2
#define NOBODY 0

byte exists = FIRST;			/* which of them the OID stands for */
byte connected;					/* sessions in it */

byte clock;
byte all_changed;
bool has;
byte stamp;

#ifdef TRAIL
#define say(text) printf(text)
#else
#define say(text) skip
#endif

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
		say("everything is counted\n")
	}
}

/* dropdb(): nobody is connected, and nobody can be from now on. */
proctype dropper()
{
	d_step {
		connected == 0 -> exists = NOBODY;
		say("DROP DATABASE\n")
	}
}

/* The utility hook around createdb(), which fails while the OID is in use. */
proctype creator()
{
	byte t;

#ifdef COUNT_BEFORE_CREATE
	count_all();
#endif
	/* createdb() has looked; the row of pg_database is not visible yet. */
	exists == NOBODY;
#if !defined(COUNT_BEFORE_CREATE) && !defined(NO_COUNT_AT_CREATE) && !defined(COUNT_AFTER_VISIBLE)
	count_all();
#endif
	d_step {
		exists = SECOND;
		say("CREATE DATABASE is visible\n")
	};
#ifdef COUNT_AFTER_VISIBLE
	count_all();
#endif
	skip
}

proctype session(byte database)
{
	byte read_stamp;
	bool accepted;
	bool connects;

	atomic {
		if
		:: exists == database ->
			connected++;
			connects = true
		:: database == FIRST && exists != FIRST
		fi
	};
	if
	:: connects ->
#ifdef REACH_STALE
		assert(!(database == SECOND && has));
#endif
		if
		:: has && all_changed <= stamp -> accepted = true
		:: else ->
			read_stamp = clock;
			accepted = (database == FIRST);
			d_step {
				if
				:: accepted && all_changed <= read_stamp ->
					has = true;
					stamp = read_stamp;
					say("a session of the first database stores the key\n")
				:: else
				fi
			}
		fi;
		assert(accepted == (database == FIRST));
		connected--
	:: !connects
	fi
}

init
{
	atomic {
		run session(FIRST);
		run session(FIRST);
		run dropper();
		run creator();
		run session(SECOND)
	}
}
