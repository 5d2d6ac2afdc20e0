-- inside.sql
--
-- Nanoseconds a call inside one backend, for random keys among :size.

SET overten_auth.record_use_without_preload = off;

CREATE TEMP TABLE call (name text, ns numeric);

CREATE FUNCTION pg_temp.time_calls(name text, query text, size bigint,
	calls int) RETURNS void
	LANGUAGE plpgsql AS $$
DECLARE
	started timestamptz;
	-- The second pass counts: the first fills caches.
BEGIN
	FOR pass IN 1..2 LOOP
		started := clock_timestamp();
		EXECUTE format(
			$q$DO $do$
			DECLARE
				secret text;
				row record;
				size bigint := %s;
			BEGIN
				FOR i IN 1..%s LOOP
					secret := 'sk_live_000000000'
						|| (1000000000000000001 + floor(random() * size)::bigint);
					%s
				END LOOP;
			END
			$do$ $q$, size, calls, query);
		IF pass = 2 THEN
			INSERT INTO call
			SELECT name, extract(epoch FROM clock_timestamp() - started)
				* 1000000000 / calls;
		END IF;
	END LOOP;
END
$$;

\o /dev/null
SELECT pg_temp.time_calls('empty loop', '', :size, 300000);
SELECT pg_temp.time_calls('join', $$
	SELECT k.key_id, k.org_id, o.name, o.tier, o.webhook_secret_sealed, k.prefix
	INTO row FROM overten_auth.api_keys k
	JOIN overten_auth.orgs o ON o.org_id = k.org_id
	WHERE k.digest = sha256(convert_to(secret, 'UTF8'))
	AND k.revoked_at IS NULL AND o.suspended_at IS NULL;$$, :size, 300000);
SELECT pg_temp.time_calls('verify, any key',
	'row := overten_verify_key(secret);', :size, 300000);
SELECT pg_temp.time_calls('verify, one hot key',
	'row := overten_verify_key(secret);', 1, 300000);
SELECT pg_temp.time_calls('verify, malformed',
	'row := overten_verify_key(''Bearer'');', :size, 300000);
SET overten_auth.cache_entries = 0;
SELECT pg_temp.time_calls('verify, no cache',
	'row := overten_verify_key(secret);', :size, 300000);

\o
\qecho '| case                 |     ns |'
\qecho '|----------------------|-------:|'
SELECT format('| %-20s | %6s |', name,
	round(ns - (SELECT ns FROM call WHERE name = 'empty loop')))
FROM call WHERE name <> 'empty loop';
