--
-- identity: row level security by the org of a verified key, and attacks on it
--
CREATE EXTENSION overten_auth;
SELECT org_id AS acme FROM overten_create_org('Acme') \gset
SELECT org_id AS umbrella FROM overten_create_org('Umbrella') \gset
SELECT secret AS acme_secret, key_id AS acme_key FROM overten_mint_key(:'acme') \gset
SELECT secret AS umbrella_secret, key_id AS umbrella_key FROM overten_mint_key(:'umbrella') \gset

-- The SQL is that of docs/keys.md, word for word.
\set setup `sed -n '/^CREATE TABLE documents/,/^GRANT .* ON documents/p' "$PG_ABS_SRCDIR/../docs/keys.md"`
\set request `sed -n '/^BEGIN;.*a request/,/^COMMIT;/p' "$PG_ABS_SRCDIR/../docs/keys.md"`
\set postgrest `sed -n '/^GRANT USAGE ON SCHEMA overten_api TO service;/,/^GRANT EXECUTE .*authenticate_request/p' "$PG_ABS_SRCDIR/../docs/keys.md"`
:setup
:postgrest
INSERT INTO documents VALUES (:'acme', 'Acme 1'), (:'acme', 'Acme 2'),
	(:'umbrella', 'Umbrella 1'), (:'umbrella', 'Umbrella 2');
SELECT org_id, name INTO org_names FROM overten_auth.orgs;
GRANT SELECT ON org_names TO service;
CREATE FUNCTION who() RETURNS text LANGUAGE plpgsql AS $$
BEGIN
	RETURN coalesce((SELECT name FROM org_names WHERE org_id = overten_current_org()), 'nobody')
		|| CASE WHEN (overten_current_org() IS NULL) <> (overten_current_key() IS NULL)
			THEN ' and another' ELSE '' END;
END
$$;

SET ROLE service;
\set secret :acme_secret
:request
\set secret :umbrella_secret
:request
\set secret sk_live_00000000000000000000000K3vO8
\set VERBOSITY sqlstate
:request

-- What it returns is what overten_verify_key returns.
RESET ROLE;
SELECT a = v AS same FROM overten_authenticate(:'acme_secret') a, overten_verify_key(:'acme_secret') v;
SET ROLE service;
BEGIN;
SELECT key_id = :'acme_key' AS key, org_name FROM overten_authenticate(:'acme_secret');
SELECT overten_current_key() = :'acme_key' AS key, overten_current_org() = :'acme' AS org;
SELECT title FROM documents ORDER BY title;
-- Another replaces it.
SELECT org_name FROM overten_authenticate(:'umbrella_secret');
SELECT overten_current_key() = :'umbrella_key' AS key, overten_current_org() = :'umbrella' AS org;
SELECT title FROM documents ORDER BY title;
COMMIT;
SELECT overten_current_key(), overten_current_org();
SELECT title FROM documents;

-- What is refused leaves nobody: none of these shows a row.
SELECT what
FROM (VALUES ('NULL', NULL), ('empty', ''), ('unknown', 'sk_live_00000000000000000000000K3vO8'),
	('short', left(:'acme_secret', 35)), ('long', :'acme_secret' || ' '), ('1 MB', repeat(:'acme_secret', 30000)),
	('SQL', ''' OR true --'), ('the org', :'acme'), ('the key id', :'acme_key')) v (what, secret)
	CROSS JOIN LATERAL overten_authenticate(:'acme_secret' || left(what, 0)) a
	LEFT JOIN LATERAL overten_authenticate(CASE WHEN a.key_id = :'acme_key' THEN secret END) b ON true
WHERE b.key_id IS NOT NULL OR who() <> 'nobody';
SELECT overten_authenticate(1);
SELECT overten_authenticate();
SELECT overten_authenticate(:'acme_secret', 'x');
SELECT overten_authenticate(sha256(:'acme_secret'::bytea));
SELECT overten_current_org(:'umbrella');

-- Writing: only rows of the own org, whatever is tried.
BEGIN;
SELECT org_name FROM overten_authenticate(:'acme_secret');
SAVEPOINT s;
INSERT INTO documents VALUES (:'umbrella', 'forged');
ROLLBACK TO s;
UPDATE documents SET org_id = :'umbrella';
ROLLBACK TO s;
MERGE INTO documents d USING (VALUES (:'umbrella')) v (org_id) ON d.org_id = v.org_id
WHEN MATCHED THEN DELETE WHEN NOT MATCHED THEN INSERT VALUES (v.org_id, 'forged');
ROLLBACK TO s;
TRUNCATE documents;
ROLLBACK TO s;
ALTER TABLE documents DISABLE ROW LEVEL SECURITY;
ROLLBACK TO s;
SET row_security = off;
SELECT title FROM documents;
ROLLBACK TO s;
UPDATE documents SET title = title || '!' RETURNING title;
DELETE FROM documents RETURNING title;
SELECT * FROM documents FOR UPDATE;
ROLLBACK;
-- Nobody writes nothing.
INSERT INTO documents VALUES (:'acme', 'forged');
INSERT INTO documents (title) VALUES ('forged');
UPDATE documents SET title = 'forged';
DELETE FROM documents;
RESET ROLE;
SELECT count(*), count(*) FILTER (WHERE title ~ 'forged|!') AS forged FROM documents;
SET ROLE service;

-- It is no setting.
SET overten_auth.current_org = 'x';
SET overten_auth.org_id = 'x';
SELECT set_config('overten_auth.current_org', :'umbrella', true);
SELECT set_config('overten.current_org', :'umbrella', false) IS NOT NULL AS another_setting;
SELECT who();
-- Nor a function of the same name, for a policy knows its own.
RESET ROLE;
CREATE SCHEMA evil;
CREATE FUNCTION evil.overten_current_org() RETURNS text LANGUAGE sql AS $$SELECT org_id FROM org_names WHERE name = 'Umbrella'$$;
GRANT USAGE ON SCHEMA evil TO service;
SET ROLE service;
BEGIN;
SET LOCAL search_path = evil, public;
SELECT overten_current_org() = :'umbrella' AS forged, count(*) FROM documents;
SELECT org_name FROM overten_authenticate(:'acme_secret');
SELECT overten_current_org() = :'umbrella' AS forged, title FROM documents ORDER BY title;
COMMIT;
CREATE FUNCTION pg_temp.forge(text) RETURNS text LANGUAGE c AS 'overten_auth', 'overten_authenticate';
-- Nor a role's: it stays with the transaction.
RESET ROLE;
CREATE ROLE overten_other;
GRANT SELECT ON documents, org_names TO overten_other;
GRANT overten_other TO service;
SET SESSION AUTHORIZATION service;
BEGIN;
SELECT org_name FROM overten_authenticate(:'acme_secret');
SET ROLE overten_other;
SAVEPOINT s;
SELECT title FROM documents;
ROLLBACK TO s;
SELECT overten_authenticate(:'umbrella_secret');
ROLLBACK TO s;
RESET SESSION AUTHORIZATION;
GRANT EXECUTE ON FUNCTION overten_current_org(), overten_current_key() TO overten_other;
SET SESSION AUTHORIZATION service;
SET ROLE overten_other;
SELECT title FROM documents ORDER BY title;
COMMIT;
SELECT title FROM documents;
RESET SESSION AUTHORIZATION;
SET ROLE service;

-- Savepoints
BEGIN;
SELECT org_name FROM overten_authenticate(:'acme_secret');
SAVEPOINT a;
SELECT org_name FROM overten_authenticate(:'umbrella_secret');
SELECT who();
ROLLBACK TO a;
SELECT who() AS as_before;
SAVEPOINT b;
SELECT org_name FROM overten_authenticate(NULL);
SAVEPOINT c;
SELECT org_name FROM overten_authenticate(:'umbrella_secret');
RELEASE c;
SELECT who() AS released;
ROLLBACK TO b;
SELECT who() AS as_before;
SAVEPOINT d;
SAVEPOINT e;
SELECT org_name FROM overten_authenticate(:'umbrella_secret');
RELEASE d;
SELECT who() AS released;
SAVEPOINT f;
SELECT org_name FROM overten_authenticate('');
SELECT who() AS cleared;
RELEASE f;
SELECT who() AS cleared;
ROLLBACK TO b;
SELECT who() AS as_before;
ROLLBACK TO a;
SELECT who() AS as_before;
SAVEPOINT g;
SELECT 1 / 0;
SELECT who();
ROLLBACK TO g;
SELECT who() AS as_before;
COMMIT;
SELECT who();
BEGIN;
SAVEPOINT a;
SELECT org_name FROM overten_authenticate(:'acme_secret');
ROLLBACK TO a;
SELECT who() AS as_before;
SELECT org_name FROM overten_authenticate(:'acme_secret');
RELEASE a;
SELECT who() AS released;
SELECT 1 / 0;
ROLLBACK;
SELECT who();

-- Exceptions in PL/pgSQL, and a thousand of them
SELECT set_config('test.acme', :'acme_secret', false) IS NOT NULL AS set,
	   set_config('test.umbrella', :'umbrella_secret', false) IS NOT NULL AS set;
\set VERBOSITY terse
DO $$
BEGIN
	PERFORM overten_authenticate(current_setting('test.acme'));
	BEGIN
		PERFORM overten_authenticate(current_setting('test.umbrella'));
		RAISE NOTICE 'inside: %', who();
		RAISE division_by_zero;
	EXCEPTION WHEN division_by_zero THEN
		RAISE NOTICE 'in the handler: %', who();
		PERFORM overten_authenticate(current_setting('test.umbrella'));
	END;
	RAISE NOTICE 'set in the handler: %', who();
	FOR i IN 1 .. 1000 LOOP
		BEGIN
			PERFORM overten_authenticate(current_setting(
				CASE i % 3 WHEN 0 THEN 'test.acme' ELSE 'test.umbrella' END));
			IF i % 2 = 0 THEN
				RAISE division_by_zero;
			END IF;
		EXCEPTION WHEN division_by_zero THEN
			IF who() <> (CASE (i - 1) % 3 WHEN 0 THEN 'Acme' ELSE 'Umbrella' END) THEN
				RAISE 'round %: %', i, who();
			END IF;
		END;
	END LOOP;
	RAISE NOTICE 'after: %', who();
END
$$;
SELECT who();

-- Procedures
CREATE PROCEDURE pg_temp.commits() LANGUAGE plpgsql AS $$
BEGIN
	PERFORM overten_authenticate(current_setting('test.acme'));
	COMMIT;
	RAISE NOTICE 'after COMMIT: %', who();
	PERFORM overten_authenticate(current_setting('test.acme'));
	ROLLBACK;
	RAISE NOTICE 'after ROLLBACK: %', who();
	PERFORM overten_authenticate(current_setting('test.acme'));
	COMMIT AND CHAIN;
	RAISE NOTICE 'after COMMIT AND CHAIN: %', who();
END
$$;
CALL pg_temp.commits();
SELECT who();

-- Cursors: they have the org of their first row, and go with the transaction.
\set VERBOSITY sqlstate
BEGIN;
SELECT org_name FROM overten_authenticate(:'acme_secret');
DECLARE begun CURSOR FOR SELECT title FROM documents ORDER BY title;
DECLARE held CURSOR WITH HOLD FOR SELECT title FROM documents ORDER BY title;
DECLARE later CURSOR FOR SELECT title FROM documents ORDER BY title;
FETCH begun;
SAVEPOINT s;
SELECT org_name FROM overten_authenticate(:'umbrella_secret');
FETCH begun;
FETCH later;
ROLLBACK TO s;
SELECT who();
COMMIT;
SELECT who();
FETCH ALL FROM held;
FETCH begun;
CLOSE held;
BEGIN;
DECLARE nobodys CURSOR WITH HOLD FOR SELECT title FROM documents;
COMMIT;
FETCH ALL FROM nobodys;
CLOSE ALL;

-- Triggers at the end of the transaction still see it.
RESET ROLE;
DROP PROCEDURE pg_temp.commits;
CREATE FUNCTION tell() RETURNS trigger LANGUAGE plpgsql AS
	$$BEGIN RAISE NOTICE '% by % who sees %', NEW.title, who(), (SELECT count(*) FROM documents); RETURN NULL; END$$;
CREATE CONSTRAINT TRIGGER tell AFTER INSERT ON documents DEFERRABLE INITIALLY DEFERRED
	FOR EACH ROW EXECUTE FUNCTION tell();
SET ROLE service;
\set VERBOSITY terse
BEGIN;
SELECT org_name FROM overten_authenticate(:'acme_secret');
INSERT INTO documents (title) VALUES ('Acme 3');
COMMIT;
SELECT who();

-- PREPARE TRANSACTION runs those and then forgets.
BEGIN;
SELECT org_name FROM overten_authenticate(:'acme_secret');
INSERT INTO documents (title) VALUES ('Acme 4');
PREPARE TRANSACTION 'overten_identity';
SELECT who();
COMMIT PREPARED 'overten_identity';
SELECT who();
RESET ROLE;
DROP TRIGGER tell ON documents;
DELETE FROM documents WHERE title IN ('Acme 3', 'Acme 4');
SET ROLE service;

-- Cached plans ask anew at each execution, with the recommended form and without.
SET plan_cache_mode = force_generic_plan;
PREPARE all_titles AS SELECT title FROM documents ORDER BY title;
PREPARE my_titles AS SELECT title FROM documents WHERE org_id = overten_current_org() ORDER BY title;
BEGIN;
EXECUTE all_titles;
SELECT org_name FROM overten_authenticate(:'acme_secret');
EXECUTE all_titles;
EXECUTE my_titles;
SELECT org_name FROM overten_authenticate(:'umbrella_secret');
EXECUTE all_titles;
EXECUTE my_titles;
COMMIT;
EXECUTE all_titles;
EXECUTE my_titles;
SELECT generic_plans > 0 AS cached FROM pg_prepared_statements ORDER BY name;
DEALLOCATE ALL;
RESET plan_cache_mode;

-- Pooled sessions: nothing is left for the next client.
BEGIN;
SELECT org_name FROM overten_authenticate(:'acme_secret');
COMMIT;
DISCARD ALL;
SET ROLE service;
SELECT who();
SELECT (SELECT org_name FROM overten_authenticate(:'acme_secret')), who();
SELECT who();
SELECT EXISTS (SELECT FROM overten_authenticate(:'acme_secret')) AS accepted \; SELECT who() AS same_message;
SELECT who();

-- Leaky functions are called after the policy, however cheap they are.
RESET ROLE;
CREATE FUNCTION leak(title text) RETURNS boolean LANGUAGE plpgsql COST 0.0000001 AS
	$$BEGIN RAISE NOTICE 'leak: %', title; RETURN true; END$$;
CREATE VIEW guarded WITH (security_invoker = true) AS SELECT title FROM documents;
GRANT SELECT ON guarded TO service;
SELECT count(*) FROM documents WHERE leak(title);
SET ROLE service;
BEGIN;
SELECT org_name FROM overten_authenticate(:'acme_secret');
SELECT title FROM documents WHERE leak(title) ORDER BY title;
SELECT count(*) FROM guarded WHERE leak(title);
SELECT count(*) FROM documents WHERE 1 / (length(title) - 10) <> 0;
COMMIT;
SELECT count(*) FROM documents WHERE leak(title);

-- Views: as the invoker, or as the owner, who sees all unless that is forced.
RESET ROLE;
CREATE ROLE overten_owner;
GRANT EXECUTE ON FUNCTION overten_current_org() TO overten_owner;
CREATE VIEW owners AS SELECT title FROM documents;
ALTER TABLE documents OWNER TO overten_owner;
ALTER VIEW owners OWNER TO overten_owner;
GRANT SELECT ON owners TO service;
SET ROLE service;
BEGIN;
SELECT org_name FROM overten_authenticate(:'acme_secret');
SELECT (SELECT count(*) FROM guarded) AS invokers, (SELECT count(*) FROM owners) AS owners;
COMMIT;
RESET ROLE;
ALTER TABLE documents FORCE ROW LEVEL SECURITY;
SET ROLE service;
BEGIN;
SELECT org_name FROM overten_authenticate(:'acme_secret');
SELECT (SELECT count(*) FROM guarded) AS invokers, (SELECT count(*) FROM owners) AS owners_if_forced;
COMMIT;
SELECT (SELECT count(*) FROM guarded) AS invokers, (SELECT count(*) FROM owners) AS owners_if_forced;

-- Parallel plans, in which the workers get the leader's value
RESET ROLE;
INSERT INTO documents SELECT CASE n % 2 WHEN 0 THEN :'acme' ELSE :'umbrella' END, 'Page ' || n
FROM generate_series(1, 10000) n;
ANALYZE documents;
CREATE FUNCTION plan_has(query text, what text) RETURNS boolean LANGUAGE plpgsql AS $$
DECLARE
	line text;
BEGIN
	FOR line IN EXECUTE 'EXPLAIN ' || query LOOP
		IF line ~ what THEN
			RETURN true;
		END IF;
	END LOOP;
	RETURN false;
END
$$;
CREATE FUNCTION misdeclared() RETURNS text LANGUAGE plpgsql PARALLEL SAFE AS $$BEGIN RETURN overten_current_org(); END$$;
SET ROLE service;
SET min_parallel_table_scan_size = 0;
SET parallel_setup_cost = 0;
SET parallel_tuple_cost = 0;
SET enable_indexscan = off;
SET enable_bitmapscan = off;
SELECT set_config(name, 'on', false) FROM pg_settings WHERE name IN ('force_parallel_mode', 'debug_parallel_query');
BEGIN;
SELECT org_name FROM overten_authenticate(:'acme_secret');
SELECT plan_has('SELECT count(*) FROM documents', 'Parallel Seq Scan') AS parallel;
SELECT count(*), count(*) FILTER (WHERE org_id <> :'acme') AS forged FROM documents;
SELECT plan_has('SELECT count(*) FROM documents WHERE org_id = overten_current_org()', 'Parallel Seq Scan') AS parallel;
SELECT count(*) FROM documents WHERE org_id = overten_current_org();
SELECT org_name FROM overten_authenticate(:'umbrella_secret');
SELECT count(*), count(*) FILTER (WHERE org_id <> :'umbrella') AS forged FROM documents;
SELECT overten_current_org() = :'umbrella' AS leader;
SAVEPOINT s;
SELECT misdeclared();
ROLLBACK TO s;
SELECT overten_current_org() = :'umbrella' AS leader;
COMMIT;
SELECT count(*) FROM documents;
SELECT set_config(name, 'off', false) FROM pg_settings WHERE name IN ('force_parallel_mode', 'debug_parallel_query');
RESET enable_indexscan;
RESET enable_bitmapscan;
BEGIN;
SELECT org_name FROM overten_authenticate(:'acme_secret');
SELECT plan_has('SELECT * FROM documents WHERE title = ''x''', 'Index.* on documents_org_id_idx|using documents_org_id_idx') AS index
FROM set_config('enable_seqscan', 'off', true);
COMMIT;

-- A loop that commits goes on with the rows that it began with.
CREATE PROCEDURE pg_temp.commits_in_loop(acme text, acme_secret text, umbrella_secret text) LANGUAGE plpgsql AS $$
DECLARE
	document record;
	own int := 0;
	others int := 0;
BEGIN
	PERFORM overten_authenticate(acme_secret);
	FOR document IN SELECT org_id FROM documents LOOP
		IF own = 0 THEN
			COMMIT;
			PERFORM overten_authenticate(umbrella_secret);
		END IF;
		own := own + (document.org_id = acme)::int;
		others := others + (document.org_id <> acme)::int;
	END LOOP;
	RAISE NOTICE '% own, % others, by now for %', own, others, who();
END
$$;
\set VERBOSITY terse
CALL pg_temp.commits_in_loop(:'acme', :'acme_secret', :'umbrella_secret');
\set VERBOSITY sqlstate

-- What may not write may ask; no isolation level is in the way.
BEGIN READ ONLY;
SELECT org_name FROM overten_authenticate(:'acme_secret');
SELECT count(*) FROM documents;
COMMIT;
BEGIN ISOLATION LEVEL REPEATABLE READ;
SELECT org_name FROM overten_authenticate(:'acme_secret');
SELECT count(*) FROM documents;
COMMIT;
BEGIN ISOLATION LEVEL SERIALIZABLE READ ONLY DEFERRABLE;
SELECT org_name FROM overten_authenticate(:'acme_secret');
SELECT count(*) FROM documents;
COMMIT;

-- For PostgREST: the request's headers decide.
CREATE FUNCTION pg_temp.ask(headers text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	detail text;
BEGIN
	PERFORM set_config('request.headers', headers, true);
	PERFORM overten_api.authenticate_request();
	RETURN who();
EXCEPTION WHEN SQLSTATE 'PGRST' THEN
	GET STACKED DIAGNOSTICS detail = PG_EXCEPTION_DETAIL;
	RETURN concat_ws(' ', detail::json ->> 'status', SQLERRM::json ->> 'code',
		(detail::json #>> '{headers,x-overten-error}')::json #>> '{error,code}', detail::json #>> '{headers,www-authenticate}', who());
END
$$;
BEGIN;
SELECT what, pg_temp.ask(headers)
FROM (VALUES
	('none', '{}'),
	('a key', format('{"x-overten-authorization": "Bearer %s"}', :'acme_secret')),
	('no request', ''),
	('a key', format('{"authorization": "bearer  %s"}', :'umbrella_secret')),
	('no bearer', '{"authorization": "Basic YTpi"}'),
	('a key twice', format('{"authorization": "Bearer %1$s", "x-overten-authorization": "Bearer %1$s"}', :'acme_secret')),
	('two keys', format('{"authorization": "Bearer %s", "x-overten-authorization": "Bearer %s"}', :'acme_secret', :'umbrella_secret')),
	('a header twice', format('{"authorization": "Bearer %s", "authorization": "Bearer %s"}', :'acme_secret', :'umbrella_secret')),
	('no object', '[]'),
	('a number', '{"authorization": 1}'),
	('a token', '{"authorization": "Bearer eyJhbGciOiJSUzI1NiJ9.e30.x"}'),
	('a key', format('{"x-overten-authorization": "Bearer %s"}', :'acme_secret')),
	('unknown', '{"authorization": "Bearer sk_live_00000000000000000000000K3vO8"}'),
	('a short key', format('{"authorization": "Bearer %s"}', left(:'acme_secret', 35))),
	('a key in the header for keys', format('{"x-overten-api-key": "%s"}', :'acme_secret')),
	('no key there', '{"x-overten-api-key": ""}'),
	('a token there', '{"x-overten-api-key": "eyJhbGciOiJSUzI1NiJ9.e30.x"}'),
	('both', format('{"x-overten-api-key": "%1$s", "authorization": "Bearer %1$s"}', :'acme_secret')),
	('a number there', '{"x-overten-api-key": 1}')) v (what, headers);
COMMIT;
SELECT who();
\set VERBOSITY default
BEGIN;
SELECT set_config('request.headers', '{"authorization": "Bearer sk_live_00000000000000000000000K3vO8"}', true) IS NOT NULL AS request;
SELECT overten_api.authenticate_request();
ROLLBACK;
\set VERBOSITY sqlstate
BEGIN READ ONLY;
SELECT set_config('request.headers', format('{"authorization": "Bearer %s"}', :'acme_secret'), true) IS NOT NULL AS request;
SELECT overten_api.authenticate_request();
SELECT who();
COMMIT;

-- Revoked, or its org suspended: until the next call it stays.
RESET ROLE;
BEGIN;
SELECT org_name FROM overten_authenticate(:'umbrella_secret');
SELECT overten_set_api_access(:'umbrella', false);
SELECT who();
SELECT org_name FROM overten_authenticate(:'umbrella_secret');
SELECT who();
ROLLBACK;
BEGIN;
SELECT org_name FROM overten_authenticate(:'acme_secret');
SELECT overten_revoke_key(:'acme', :'acme_key');
SELECT who();
SELECT org_name FROM overten_authenticate(:'acme_secret');
SELECT who();
COMMIT;

-- How the functions are declared
SELECT p.oid::regprocedure, provolatile, proisstrict, proparallel, proleakproof, prosecdef
FROM pg_proc p WHERE proname ~ '^overten_(authenticate|current_)|^authenticate_request' AND probin IS NOT NULL ORDER BY p.oid::regprocedure::text COLLATE "C";
SET ROLE overten_owner;
SELECT overten_current_key();
SELECT overten_api.authenticate_request();
RESET ROLE;

DROP VIEW guarded, owners;
DROP TABLE documents, org_names;
DROP FUNCTION pg_temp.ask;
DROP PROCEDURE pg_temp.commits_in_loop;
DROP SCHEMA evil CASCADE;
DROP EXTENSION overten_auth;
DROP FUNCTION who, tell, leak, plan_has, misdeclared;
DROP ROLE service, overten_other, overten_owner;
