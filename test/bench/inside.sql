-- inside.sql
--
-- What looking a random one of :keys keys up costs inside one backend: lines of
-- name, nanoseconds, buffers found and buffers read a call.

\ir time_calls.sql

\o /dev/null
SELECT pg_temp.time_calls('join', :'join' || ' INTO row;', :keys, :calls);
SELECT pg_temp.time_calls('verify', 'SELECT * INTO row FROM overten_verify_key(secret);', :keys, :calls);
SELECT pg_temp.time_calls('hot', 'SELECT * INTO row FROM overten_verify_key(secret);', 1, :calls);
SET overten_auth.cache_entries = 0;
SELECT pg_temp.time_calls('uncached', 'SELECT * INTO row FROM overten_verify_key(secret);', :keys, :calls);

\o
\pset fieldsep ' '
SELECT name, round(ns),
	   round(hit, 2), round(read, 2)
FROM call;
