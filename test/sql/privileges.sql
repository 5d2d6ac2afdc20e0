--
-- privileges: who may do what, and that a hostile environment changes nothing
--
CREATE EXTENSION overten_auth;
CREATE ROLE overten_application;
CREATE ROLE overten_mallory;

-- PUBLIC has no privilege on anything.
CREATE VIEW member AS
	SELECT classid, objid, pg_describe_object(classid, objid, 0) AS object
	FROM pg_depend
	WHERE refclassid = 'pg_extension'::regclass AND deptype = 'e'
	AND refobjid = (SELECT oid FROM pg_extension WHERE extname = 'overten_auth');
SELECT count(*) > 20 AS members FROM member;
SELECT object FROM member WHERE classid = 'pg_proc'::regclass
	AND has_function_privilege('overten_mallory', objid, 'EXECUTE');
SELECT object, privilege FROM member,
	unnest(ARRAY['SELECT', 'INSERT', 'UPDATE', 'DELETE', 'TRUNCATE', 'REFERENCES', 'TRIGGER']) privilege
WHERE classid = 'pg_class'::regclass
	AND (SELECT relkind FROM pg_class WHERE oid = objid) = 'r'
	AND has_table_privilege('overten_mallory', objid, privilege);
SELECT object, privilege FROM member, unnest(ARRAY['SELECT', 'INSERT', 'UPDATE', 'REFERENCES']) privilege
WHERE classid = 'pg_class'::regclass
	AND (SELECT relkind FROM pg_class WHERE oid = objid) = 'r'
	AND has_any_column_privilege('overten_mallory', objid, privilege);
SELECT object FROM member WHERE classid = 'pg_type'::regclass
	AND has_type_privilege('overten_mallory', objid, 'USAGE');
SELECT object, privilege FROM member, unnest(ARRAY['USAGE', 'CREATE']) privilege
WHERE classid = 'pg_namespace'::regclass
	AND has_schema_privilege('overten_mallory', objid, privilege);

-- Each object says what it is: tables with their columns, indexes and
-- triggers, functions, types and schemas.
SELECT object FROM member
WHERE obj_description(objid, (SELECT relname FROM pg_class WHERE oid = classid)::name) IS NULL
	AND NOT (classid = 'pg_type'::regclass
			 AND (SELECT typrelid <> 0 OR typcategory = 'A' FROM pg_type WHERE oid = objid)
			 AND (SELECT relkind IN ('r', 'v') OR typcategory = 'A'
				  FROM pg_type LEFT JOIN pg_class c ON c.oid = typrelid
				  WHERE pg_type.oid = objid));
SELECT object, attname FROM member JOIN pg_attribute ON attrelid = objid
WHERE classid = 'pg_class'::regclass AND attnum > 0
	AND (SELECT relkind FROM pg_class WHERE oid = objid) IN ('r', 'c')
	AND col_description(objid, attnum) IS NULL;
SELECT tgrelid::regclass, tgname, tgenabled, obj_description(t.oid, 'pg_trigger') IS NOT NULL AS described
FROM pg_trigger t JOIN member ON tgrelid = objid AND classid = 'pg_class'::regclass
WHERE NOT tgisinternal ORDER BY 1, 2;
SELECT indexrelid::regclass FROM pg_index JOIN member ON indrelid = objid
WHERE obj_description(indexrelid, 'pg_class') IS NULL
	AND indexrelid NOT IN (SELECT conindid FROM pg_constraint);

-- No function runs as its owner without a fixed search_path, and those on the
-- way of verification have neither.
SELECT object FROM member JOIN pg_proc p ON p.oid = objid
WHERE classid = 'pg_proc'::regclass AND prosecdef AND proconfig IS NULL;
SELECT proname, prosecdef, proconfig, provolatile, proisstrict, proretset, prorows, proparallel, lanname
FROM pg_proc p JOIN pg_language l ON l.oid = prolang
WHERE proname LIKE 'overten\_verify\_key%' ORDER BY 1;

-- None needs a procedural language, with whose extension it could be dropped.
SELECT DISTINCT lanname FROM member JOIN pg_proc p ON p.oid = objid JOIN pg_language l ON l.oid = prolang
WHERE classid = 'pg_proc'::regclass ORDER BY 1;

-- Dumped: all tables with data of users.
SELECT c.relname, e.cond FROM pg_extension, unnest(extconfig, extcondition) e (relid, cond)
JOIN pg_class c ON c.oid = e.relid WHERE extname = 'overten_auth' ORDER BY 1;

-- A role without EXECUTE gets 42501 everywhere; one with it needs no more.
SELECT org_id FROM overten_create_org('Acme Docs') \gset
SELECT * FROM overten_mint_key(:'org_id') \gset
SET ROLE overten_mallory;
\set VERBOSITY sqlstate
SELECT overten_verify_key(:'secret');
SELECT overten_verify_key_digest(sha256(:'secret'::bytea));
SELECT overten_mint_key(:'org_id');
SELECT overten_list_keys(:'org_id');
SELECT overten_describe_key(:'org_id', :'key_id');
SELECT overten_revoke_key(:'org_id', :'key_id');
SELECT overten_rotate_key(:'org_id', :'key_id');
SELECT overten_rotation_progress(:'org_id', :'key_id');
SELECT overten_rename_key(:'org_id', :'key_id', 'mine');
SELECT overten_set_key_details(:'org_id', :'key_id', 'mine', NULL);
SELECT overten_key_details(:'org_id', :'key_id');
SELECT overten_revoke_keys_of('ada');
SELECT overten_auth.key_prefixes();
SELECT * FROM overten_auth.key_details;
SELECT overten_create_org('Mine');
SELECT overten_set_tier(:'org_id', 'free');
SELECT overten_set_api_access(:'org_id', true);
SELECT overten_add_member(:'org_id', 'mallory');
SELECT overten_remove_member(:'org_id', 'mallory');
SELECT overten_list_orgs('mallory');
SELECT overten_key_checksum_ok(:'secret');
SELECT overten_key_usage(:'org_id', :'key_id');
SELECT overten_org_usage(:'org_id', now(), now());
SELECT overten_key_anomalies(:'org_id', :'key_id');
SELECT overten_authenticate(:'secret');
SELECT overten_current_org();
SELECT overten_current_key();
SELECT overten_revoke_leaked(:'secret');
SELECT overten_revoke_all(:'org_id');
SELECT overten_import_key(:'org_id', 'x', sha256(''), 'sk_live_0000');
SELECT overten_import_keys(ARRAY[:'org_id'], ARRAY['x'], ARRAY[sha256('')], ARRAY['sk_live_0000']);
SELECT overten_api.authenticate_request();
SELECT overten_rotate_webhook_secret(:'org_id');
SELECT overten_sign_webhook(:'org_id', 'msg_1', 1, 'text');
SELECT overten_sign_webhook(:'org_id', 'msg_1', 1, '\x00'::bytea);
SELECT overten_reseal();
SELECT overten_auth.master_key_ids();
SHOW overten_auth.master_key_file;
SET overten_auth.master_key_file = 'mine.key';
SELECT * FROM overten_auth.api_keys;
SELECT * FROM overten_auth.key_usage;
SELECT overten_auth.invalidate_caches();
SET overten_auth.cache_entries = 0;
SET overten_auth.record_use_without_preload = off;
SET overten_auth.verify_on_standby = on;
SET overten_auth.unknown = on;
RESET ROLE;
GRANT EXECUTE ON FUNCTION overten_verify_key(text), overten_mint_key,
	overten_list_keys(text), overten_revoke_key(text, text, text)
	TO overten_application;
SET ROLE overten_application;
SELECT org_name FROM overten_verify_key(:'secret');
SELECT secret IS NOT NULL AS minted FROM overten_mint_key(:'org_id', 'second');
SELECT count(*) FROM overten_list_keys(:'org_id');
SELECT * FROM overten_auth.api_keys;
SELECT current_user;
RESET ROLE;
SELECT actor = session_user AS session_user FROM overten_auth.audit_log
WHERE detail = 'second';

-- A hostile search_path: temporary tables in the place of ours, and functions
-- and operators that would give the game away.
GRANT CREATE ON DATABASE :"DBNAME" TO overten_mallory;
SET ROLE overten_mallory;
CREATE SCHEMA evil;
CREATE TABLE evil.calls (what text);
CREATE FUNCTION evil.equal(text, text) RETURNS boolean LANGUAGE plpgsql AS
	$$BEGIN RAISE EXCEPTION 'evil was called'; END$$;
CREATE FUNCTION evil.equal(bytea, bytea) RETURNS boolean LANGUAGE plpgsql AS
	$$BEGIN RAISE EXCEPTION 'evil was called'; END$$;
CREATE OPERATOR evil.= (LEFTARG = text, RIGHTARG = text, FUNCTION = evil.equal);
CREATE OPERATOR evil.<> (LEFTARG = text, RIGHTARG = text, FUNCTION = evil.equal);
CREATE OPERATOR evil.= (LEFTARG = bytea, RIGHTARG = bytea, FUNCTION = evil.equal);
CREATE FUNCTION evil.clock_timestamp() RETURNS timestamptz LANGUAGE plpgsql AS
	$$BEGIN RAISE EXCEPTION 'evil was called'; END$$;
CREATE FUNCTION evil.substr(bytea, int, int) RETURNS bytea LANGUAGE plpgsql AS
	$$BEGIN RAISE EXCEPTION 'evil was called'; END$$;
CREATE FUNCTION evil.hmac(bytea, bytea, text) RETURNS bytea LANGUAGE plpgsql AS
	$$BEGIN RAISE EXCEPTION 'evil was called'; END$$;
CREATE FUNCTION evil.char_length(text) RETURNS int LANGUAGE plpgsql AS
	$$BEGIN RAISE EXCEPTION 'evil was called'; END$$;
CREATE FUNCTION evil.later(timestamptz, timestamptz) RETURNS boolean LANGUAGE plpgsql AS
	$$BEGIN RAISE EXCEPTION 'evil was called'; END$$;
CREATE FUNCTION evil.more(bigint, int) RETURNS boolean LANGUAGE plpgsql AS
	$$BEGIN RAISE EXCEPTION 'evil was called'; END$$;
CREATE OPERATOR evil.>= (LEFTARG = timestamptz, RIGHTARG = timestamptz, FUNCTION = evil.later);
CREATE OPERATOR evil.< (LEFTARG = timestamptz, RIGHTARG = timestamptz, FUNCTION = evil.later);
CREATE OPERATOR evil.> (LEFTARG = bigint, RIGHTARG = int, FUNCTION = evil.more);
CREATE FUNCTION evil.to_char(timestamp, text) RETURNS text LANGUAGE plpgsql AS
	$$BEGIN RAISE EXCEPTION 'evil was called'; END$$;
CREATE FUNCTION evil.round(numeric, int) RETURNS numeric LANGUAGE plpgsql AS
	$$BEGIN RAISE EXCEPTION 'evil was called'; END$$;
CREATE FUNCTION evil.gen_random_uuid() RETURNS uuid LANGUAGE plpgsql AS
	$$BEGIN RAISE EXCEPTION 'evil was called'; END$$;
GRANT USAGE ON SCHEMA evil TO PUBLIC;
RESET ROLE;
CREATE TEMP TABLE api_keys (LIKE overten_auth.api_keys);
CREATE TEMP TABLE orgs (LIKE overten_auth.orgs);
CREATE TEMP TABLE tiers (name text);
CREATE TEMP TABLE key_last_used (key_id text, last_used_at timestamptz);
CREATE TEMP TABLE audit_log (LIKE overten_auth.audit_log);
CREATE TEMP TABLE key_usage (LIKE overten_auth.key_usage);
SET search_path = pg_temp, evil, pg_catalog, public;
SELECT org_name FROM overten_verify_key(:'secret');
SELECT org_id FROM overten_create_org('Hostile') \gset hostile_
SELECT * FROM overten_mint_key(:'hostile_org_id') \gset hostile_
SELECT name FROM overten_list_keys(:'hostile_org_id');
SELECT overten_add_member(:'hostile_org_id', 'ada'), overten_set_tier(:'hostile_org_id', 'free'),
	   overten_set_api_access(:'hostile_org_id', true);
SELECT name FROM overten_list_orgs('ada');
SELECT org_name FROM overten_verify_key(:'hostile_secret');
INSERT INTO overten_auth.key_usage
SELECT :'hostile_key_id', at, ('203.0.113.' || CASE ago WHEN 2 THEN 8 ELSE 7 END)::inet, CASE ago WHEN 2 THEN 500 ELSE 1 END, 1, at, at
FROM unnest(ARRAY[100, 99, 98, 2]) ago, LATERAL (SELECT date_trunc('hour', now(), 'UTC') - ago * interval '1 hour' AS at) t;
SELECT accepted, refused FROM overten_key_usage(:'hostile_org_id', :'hostile_key_id');
SELECT name, accepted, refused FROM overten_org_usage(:'hostile_org_id', now() - interval '1 day', now());
UPDATE overten_auth.api_keys SET revoked_at = '2001-01-01' WHERE key_id OPERATOR(pg_catalog.=) :'hostile_key_id';
SELECT kind, client_addr, observed, expected FROM overten_key_anomalies(:'hostile_org_id', :'hostile_key_id');
UPDATE overten_auth.api_keys SET revoked_at = NULL WHERE key_id OPERATOR(pg_catalog.=) :'hostile_key_id';
SELECT overten_revoke_key(:'hostile_org_id', :'hostile_key_id'), overten_remove_member(:'hostile_org_id', 'ada');
SELECT NOT EXISTS (SELECT FROM overten_verify_key(:'hostile_secret')) AS refused;
SELECT length(overten_rotate_webhook_secret(:'hostile_org_id')) AS rotated,
	   length(overten_sign_webhook(:'hostile_org_id', 'msg_1', 1, 'text')) AS signed, overten_reseal();
SELECT needed = present AS needed_is_present FROM overten_auth.master_key_ids();
SHOW search_path;
RESET search_path;
SELECT count(*) FROM pg_temp.api_keys;

-- After an error, too, the caller is who it was, and so is search_path.
CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS
	$$BEGIN RAISE EXCEPTION 'refused'; END$$;
CREATE TRIGGER refuse BEFORE INSERT ON overten_auth.audit_log
	FOR EACH ROW EXECUTE FUNCTION refuse();
SET ROLE overten_application;
SET search_path = evil, public;
\set VERBOSITY terse
DO $$
BEGIN
	PERFORM public.overten_mint_key((SELECT 'org_nobody'));
EXCEPTION WHEN undefined_object THEN
	RAISE NOTICE '% %', current_user, current_setting('search_path');
END
$$;
\set VERBOSITY sqlstate
BEGIN;
SAVEPOINT s;
SELECT overten_mint_key(:'org_id');
ROLLBACK TO s;
SELECT current_user, current_setting('search_path');
COMMIT;
RESET search_path;
RESET ROLE;
SELECT count(*) FROM overten_list_keys(:'org_id');
DROP TRIGGER refuse ON overten_auth.audit_log;

DROP EXTENSION overten_auth;
DROP SCHEMA evil CASCADE;
DROP VIEW member;
DROP FUNCTION refuse;
REVOKE CREATE ON DATABASE :"DBNAME" FROM overten_mallory;
DROP ROLE overten_application, overten_mallory;
