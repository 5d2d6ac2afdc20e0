-- refused.sql
--
-- What accepting one of :keys keys and refusing costs inside one backend:
-- lines of name, nanoseconds, and buffers a call.  That each is accepted or
-- refused is checked in the loop.

\ir time_calls.sql

\o /dev/null
-- As many revoked keys as good ones, numbered after them.
INSERT INTO overten_auth.api_keys (key_id, org_id, name, prefix, digest, revoked_at)
SELECT 'key_r' || lpad(i::text, 19, '0'), (SELECT min(org_id) FROM overten_auth.orgs),
	   'revoked', 'sk_live_0000', sha256(('sk_live_000000000' || 1000000000000000000 + :keys + i)::bytea), now()
FROM generate_series(1, :keys) i;
VACUUM ANALYZE overten_auth.api_keys;

SELECT pg_temp.time_calls(name,
		   format('PERFORM FROM overten_verify_key(%s); IF FOUND <> %L THEN RAISE %L; END IF;',
				  argument, good, name), range, :calls)
FROM (VALUES
	('cached', 'secret', true, 1000),
	('uncached', 'secret', true, :keys),
	('unknown', '''sk_live_111111111'' || right(secret, 19)', false, :keys),
	('revoked', format('''sk_live_000000000'' || (right(secret, 19)::bigint + %s)', :keys), false, :keys),
	('alphabet', '''sk_live_00000000-'' || right(secret, 19)', false, :keys),
	('short', 'right(secret, 6)', false, :keys),
	('token', quote_literal('eyJ' || repeat('x', 1000)), false, :keys)
	) AS a (name, argument, good, range),
	set_config('overten_auth.cache_entries', CASE name WHEN 'cached' THEN '4096' ELSE '0' END, false);

\o
\pset fieldsep ' '
SELECT name, round(ns), round(hit + read, 1)
FROM call;
DELETE FROM overten_auth.api_keys WHERE name = 'revoked';
VACUUM overten_auth.api_keys;
