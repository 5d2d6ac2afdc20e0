/*
 * slot.pml
 *		One slot of the shared cache: a try-lock for writers, a sequence number
 *		for readers.
 *
 * Two sessions store, one of them twice, for two keys that want the same slot;
 * two sessions look for one key each and record its use.  A writer may die at
 * any point, and then it holds the lock for ever.  Nobody waits for anybody.
 *
 * The promise: what a reader takes for its key's entry was stored as one, for
 * this key; and the last recorded use that it finds there was this key's.
 *
 * holds small: -DLOOKS=1
 * holds: -DLOOKS=2
 * holds: -DRECORD_UNDER_LOCK
 *
 * refuted: -DNO_LOCK
 * refuted: -DLOCK_IS_STOLEN
 * refuted small: -DNO_SECOND_LOOK
 * refuted: -DODD_IS_READ
 * refuted: -DSEQUENCE_MOVES_ONCE
 * refuted: -DSEQUENCE_RESTARTS
 * refuted: -DKEY_IS_NOT_COMPARED
 * refuted: -DKEY_COMPARED_BEFORE
 * refuted: -DRECORD_PLAINLY
 * refuted: -DRECORD_BY_VALUE
 *
 * reached: -DREACH_HIT
 * reached: -DREACH_TORN
 * reached: -DREACH_RECORDED_USE
 */
#ifndef LOOKS
#define LOOKS 2
#endif

#define NOBODY 9

bool locked;					/* Set.lock */
byte sequence;					/* odd while the slot is being written */
byte key;
byte stamp;						/* T, and the buckets with it */
byte row;
byte recorded_sequence;			/* these two are one 64-bit word: the low */
byte recorded_at;				/* half of the sequence, and a time */
byte recorded_key;				/* ghost: whose use that was */

#define say(text) skip
#ifdef TRAIL
#define say3(text, a, b, c) printf(text, a, b, c)
#else
#define say3(text, a, b, c) skip
#endif

/* Each store has a number, which stands for all that the entry says. */
inline store(new_key, number)
{
	/* pg_atomic_compare_exchange_u32(): if it is locked, do without */
	if
#ifdef NO_LOCK
	:: true -> skip;
#elif defined(LOCK_IS_STOLEN)
	:: true -> locked = true;
#else
	:: atomic { !locked -> locked = true };
#endif
#ifdef SEQUENCE_MOVES_ONCE
		own = sequence + 2;
#elif defined(SEQUENCE_RESTARTS)
		own = 2;
		sequence = 1;
#else
		own = sequence + 1;
		sequence = own;
		own++;
#endif
		key = new_key;
		or_die();
		stamp = number;
		d_step {
			recorded_sequence = own;
			recorded_at = 0;
			recorded_key = NOBODY
		};
		or_die();
		row = number;
		d_step {
			sequence = own;
			say3("stored key %d as number %d, sequence %d\n", new_key, number, own)
		};
		own = 0;
		locked = false
#if !defined(NO_LOCK) && !defined(LOCK_IS_STOLEN)
	:: locked
#endif
	fi
}

inline or_die()
{
	if
	:: goto dead
	:: skip
	fi
}

proctype writer(byte first_key; byte first_number; byte stores)
{
	byte own;
	byte n;

	do
	:: n < stores ->
		n++;
		store((first_key + n - 1) % 2, first_number + n - 1)
	:: n == stores -> break
	od;
dead:
	skip
}

#ifdef ODD_IS_READ
#define IS_STABLE true
#else
#define IS_STABLE (seen % 2 == 0)
#endif
#ifdef KEY_IS_NOT_COMPARED
#define IS_WANTED(wanted) true
#else
#define IS_WANTED(wanted) (read_key == wanted)
#endif

inline find(wanted)
{
	d_step {
		hit = false;
		read_key = NOBODY;
		read_stamp = 0;
		read_row = 0
	};
#ifdef KEY_COMPARED_BEFORE
	read_key = key;
#endif
	seen = sequence;
#ifndef KEY_COMPARED_BEFORE
	read_key = key;
#endif
	if
	:: seen > 0 && IS_STABLE && IS_WANTED(wanted) ->
		read_stamp = stamp;
		d_step {
			before_sequence = recorded_sequence;
			before = recorded_at;
			before_key = recorded_key
		};
		read_row = row;
#ifdef NO_SECOND_LOOK
		hit = true
#else
		hit = (sequence == seen);
#ifdef REACH_TORN
		assert(hit || read_stamp == read_row);
#endif
		skip
#endif
	:: else
	fi
}

inline record_use(wanted)
{
#ifdef RECORD_PLAINLY
	d_step {
		recorded_at = 1;
		recorded_key = wanted
	}
#elif defined(RECORD_UNDER_LOCK)
	/* If somebody stores in this set, the next use will be recorded again. */
	if
	:: atomic { !locked -> locked = true };
		if
		:: sequence == seen ->
			d_step {
				recorded_at = 1;
				recorded_key = wanted
			}
		:: else
		fi;
		locked = false
	:: locked
	fi
#else
	/* pg_atomic_compare_exchange_u64() */
	d_step {
		if
#ifdef RECORD_BY_VALUE
		:: recorded_at == before ->
#else
		:: recorded_at == before && recorded_sequence == before_sequence ->
#endif
			recorded_at = 1;
			recorded_key = wanted
		:: else
		fi
	}
#endif
}

proctype reader(byte wanted)
{
	byte n;
	byte seen;
	byte read_key;
	byte read_stamp;
	byte read_row;
	byte before;
	byte before_sequence;
	byte before_key;
	bool hit;

	do
	:: n < LOOKS ->
		n++;
		find(wanted);
		if
		:: hit ->
			d_step {
				say3("found key %d: number %d and %d\n", wanted, read_stamp,
					 read_row);
				/* Stores for key 0 have even numbers. */
				assert(read_stamp == read_row);
				assert(read_row % 2 == wanted);
				assert(before == 0 || before_key == wanted)
			};
#ifdef REACH_HIT
			assert(false);
#endif
#ifdef REACH_RECORDED_USE
			assert(before == 0);
#endif
			if
			:: before == 0 -> record_use(wanted)
			:: before != 0
			fi
		:: !hit
		fi
	:: n == LOOKS -> break
	od
}

init
{
	atomic {
		recorded_key = NOBODY;
		key = NOBODY;
		run writer(0, 2, 2);
		run writer(0, 4, 1);
		run reader(0);
		run reader(1)
	}
}
