-- memory.sql
--
-- Print what this backend holds of memory, in lines of name and kB: before
-- anything was verified, with the caches full of the keys whose secrets are in
-- the table "secret" and of their orgs, then also of the tokens in the table
-- "token".  "own" is what is not shared with other processes, "keys", "orgs"
-- and "tokens" the caches' own memory contexts.

SET overten_auth.record_use_without_preload = off;

CREATE FUNCTION pg_temp.show(moment text) RETURNS SETOF text LANGUAGE sql AS $$
	SELECT format('%s.own %s', moment,
				  substring(pg_read_file('/proc/self/smaps_rollup') FROM 'Anonymous: +(\d+) kB'))
	UNION ALL
	SELECT format('%s.%s %s', moment, ident, total_bytes / 1024)
	FROM pg_backend_memory_contexts WHERE name = 'overten_auth cache'
$$;
CREATE FUNCTION pg_temp.run(statement text) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
	EXECUTE statement;
END
$$;

-- The same work, without verifying.
SELECT pg_temp.run('SELECT count(sha256(secret::bytea)) FROM secret'),
	   pg_temp.run('SELECT count(length(token)) FROM token') \g /dev/null
SELECT pg_temp.show('empty') \g /dev/null
SELECT pg_temp.show('empty');

SELECT pg_temp.run('SELECT count(*) FROM secret, overten_verify_key(secret)')
FROM generate_series(1, 2) \g /dev/null
SELECT pg_temp.show('verified');

SELECT pg_temp.run('SELECT count(overten_verify_firebase_jwt(token)) FROM token') \g /dev/null
SELECT pg_temp.show('tokens');
