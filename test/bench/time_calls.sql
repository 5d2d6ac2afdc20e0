-- time_calls.sql
--
-- pg_temp.time_calls(name, statement, keys, calls): run a statement of
-- PL/pgSQL so often in this backend, with a random one of the first so many
-- keys in "secret" each time, and add what a call took to the table "call":
-- nanoseconds of this process's CPU time, which other work on the machine
-- changes less than the time of the day, less those of the loop without the
-- statement, median of three; and the buffers that were found in shared memory
-- and those that were read from elsewhere.

SET overten_auth.record_use_without_preload = off;
SET jit = off;

CREATE TEMP TABLE call (name text, ns numeric, hit numeric, read numeric);

-- The kernel brings the figure up to date when the process sleeps.
CREATE FUNCTION pg_temp.cpu_ns() RETURNS bigint
	LANGUAGE plpgsql AS $$
BEGIN
	PERFORM pg_sleep(0.0001);
	RETURN split_part(pg_read_file('/proc/self/schedstat'), ' ', 1);
END
$$;

-- A function that runs a statement so often.
CREATE FUNCTION pg_temp.make_loop(name text, statement text, keys bigint,
	calls int) RETURNS void
	LANGUAGE plpgsql AS $$
BEGIN
	EXECUTE format(
		$q$CREATE OR REPLACE FUNCTION pg_temp.%I() RETURNS void
		LANGUAGE plpgsql AS $body$
		DECLARE
			secret text;
			row record;
		BEGIN
			FOR i IN 1..%s LOOP
				secret := 'sk_live_000000000'
					|| (1000000000000000001 + floor(random() * %s)::bigint);
				%s
			END LOOP;
		END
		$body$ $q$, name, calls, keys, statement);
END
$$;

CREATE FUNCTION pg_temp.time_calls(name text, statement text, keys bigint,
	calls int) RETURNS void
	LANGUAGE plpgsql AS $$
DECLARE
	plan json;
	started bigint;
	between bigint;
	took numeric[];
BEGIN
	PERFORM pg_temp.make_loop('with_calls', statement, keys, calls);
	PERFORM pg_temp.make_loop('without', '', keys, calls);

	-- The first pass fills caches and does not count.
	FOR pass IN 0..3 LOOP
		started := pg_temp.cpu_ns();
		PERFORM pg_temp.without();
		between := pg_temp.cpu_ns();
		EXECUTE 'EXPLAIN (ANALYZE, TIMING OFF, BUFFERS, FORMAT JSON) SELECT pg_temp.with_calls()'
		INTO plan;
		took[pass] := pg_temp.cpu_ns() - between - (between - started);
	END LOOP;

	INSERT INTO call
	SELECT name, percentile_disc(0.5) WITHIN GROUP (ORDER BY t) / calls,
		   (plan->0->'Plan'->>'Shared Hit Blocks')::numeric / calls,
		   (plan->0->'Plan'->>'Shared Read Blocks')::numeric / calls
	FROM unnest(took[1:3]) t;
END
$$;
