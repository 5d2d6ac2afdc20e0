--
-- roles: what each recipe's role can do, and that it can do nothing else
--
CREATE EXTENSION overten_auth;

-- The recipes are those of docs/ and gateway/roles.sql, word for word.
\set recipes `sed -n '/^-- An application that verifies/,/^GRANT SELECT ON overten_stat/p' "$PG_ABS_SRCDIR/../docs/operations.md"`
\set setup `sed -n '/^CREATE TABLE documents/,/^ALTER ROLE service SET log/p' "$PG_ABS_SRCDIR/../docs/keys.md"`
\set postgrest `sed -n '/^GRANT USAGE ON SCHEMA overten_api TO service;/,/^GRANT EXECUTE .*authenticate_request/p' "$PG_ABS_SRCDIR/../docs/keys.md"`
\getenv abs_srcdir PG_ABS_SRCDIR
\set http :abs_srcdir '/../gateway/roles.sql'
:recipes
:setup
:postgrest
\set ECHO none
\i :http
\set ECHO all
\set ON_ERROR_STOP off
CREATE ROLE overten_nobody;
CREATE VIEW role AS
	SELECT oid, rolname FROM pg_roles WHERE rolname IN ('application', 'responder', 'operator', 'monitoring', 'service', 'webhook_sender',
		'overten_gateway', 'overten_web', 'overten_services', 'overten_authenticator', 'overten_nobody');
CREATE VIEW member AS
	SELECT classid, objid, pg_describe_object(classid, objid, 0) AS object
	FROM pg_depend
	WHERE refclassid = 'pg_extension'::regclass AND deptype = 'e'
	AND refobjid = (SELECT oid FROM pg_extension WHERE extname = 'overten_auth');

-- Roles like any other: no attributes, no memberships but the one of PostgREST.
SELECT r.rolname, rolcanlogin AS login, rolinherit AS inherit,
	rolsuper OR rolcreaterole OR rolcreatedb OR rolreplication OR rolbypassrls AS special,
	ARRAY(SELECT roleid::regrole FROM pg_auth_members WHERE member = r.oid) AS memberships,
	(SELECT setconfig FROM pg_db_role_setting WHERE setrole = r.oid) AS settings
FROM pg_roles r JOIN role USING (oid) ORDER BY 1;

-- Every function of the extension, and who may execute it.
SELECT objid::regprocedure AS function,
	(SELECT string_agg(rolname, ' ' ORDER BY rolname) FROM role
	 WHERE has_function_privilege(role.oid, objid, 'EXECUTE')) AS roles
FROM member WHERE classid = 'pg_proc'::regclass ORDER BY objid::regprocedure::text COLLATE "C";

-- Every schema, table, view and type, as a whole.
SELECT rolname, object, string_agg(privilege, ' ') AS privileges
FROM role, member, unnest(ARRAY['USAGE', 'CREATE']) privilege
WHERE classid = 'pg_namespace'::regclass AND has_schema_privilege(role.oid, objid, privilege)
GROUP BY 1, 2 ORDER BY 1, 2;
SELECT rolname, objid::regclass AS relation, string_agg(privilege, ' ') AS privileges
FROM role, member, unnest(ARRAY['SELECT', 'INSERT', 'UPDATE', 'DELETE', 'TRUNCATE', 'REFERENCES', 'TRIGGER']) privilege
WHERE classid = 'pg_class'::regclass AND (SELECT relkind FROM pg_class WHERE oid = objid) NOT IN ('c', 'i')
	AND has_table_privilege(role.oid, objid, privilege)
GROUP BY rolname, objid ORDER BY rolname, objid::regclass::text COLLATE "C";
SELECT rolname, object FROM role, member
WHERE classid = 'pg_type'::regclass AND has_type_privilege(role.oid, objid, 'USAGE');

-- Every column, which a privilege on the table or on itself opens.
SELECT attrelid::regclass AS relation, attname AS column, string_agg(rolname || ' ' || privilege, ', ' ORDER BY rolname, privilege) AS privileges
FROM member JOIN pg_attribute ON attrelid = objid AND NOT attisdropped
	JOIN pg_class ON pg_class.oid = objid AND relkind NOT IN ('c', 'i')
	LEFT JOIN (role CROSS JOIN unnest(ARRAY['SELECT', 'INSERT', 'UPDATE', 'REFERENCES']) privilege)
		ON has_column_privilege(role.oid, attrelid, attnum, privilege)
WHERE classid = 'pg_class'::regclass AND attnum > 0
GROUP BY attrelid, attname, attnum ORDER BY attrelid::regclass::text COLLATE "C", attnum;
SELECT rolname, attrelid::regclass, attname FROM member JOIN pg_attribute ON attrelid = objid, role
WHERE classid = 'pg_class'::regclass AND attnum < 0 AND has_column_privilege(role.oid, attrelid, attnum, 'SELECT')
	AND NOT has_table_privilege(role.oid, attrelid, 'SELECT');

-- What is granted is on these and the example's table, and can be passed on by
-- nobody.
SELECT object FROM (
	SELECT 'pg_proc'::regclass AS classid, oid, oid::regprocedure::text AS object, proacl AS acl FROM pg_proc
	UNION ALL SELECT 'pg_class'::regclass, oid, oid::regclass::text, relacl FROM pg_class
	UNION ALL SELECT 'pg_class'::regclass, attrelid, attrelid::regclass || '.' || attname, attacl FROM pg_attribute
	UNION ALL SELECT 'pg_namespace'::regclass, oid, nspname, nspacl FROM pg_namespace
	UNION ALL SELECT 'pg_type'::regclass, oid, typname, typacl FROM pg_type
	UNION ALL SELECT 'pg_database'::regclass, oid, datname, datacl FROM pg_database
	UNION ALL SELECT 'pg_parameter_acl'::regclass, oid, parname, paracl FROM pg_parameter_acl
	) o, aclexplode(acl) a
WHERE (EXISTS (SELECT FROM role WHERE oid = a.grantee)
		AND NOT EXISTS (SELECT FROM member m WHERE m.classid = o.classid AND m.objid = o.oid)
		AND object <> 'documents')
	OR (is_grantable AND grantee <> grantor
		AND EXISTS (SELECT FROM member m WHERE m.classid = o.classid AND m.objid = o.oid));
SELECT rolname, name FROM role, pg_settings
WHERE name LIKE 'overten\_auth.%' AND has_parameter_privilege(role.oid, name, 'SET, ALTER SYSTEM');

-- Called by each role, each function refuses exactly whom the list above does
-- not have.  Empty arguments are enough: EXECUTE is asked for before the
-- function is, but a strict one is not called for a NULL.
CREATE FUNCTION call_without_sense(function regprocedure) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
	EXECUTE (SELECT format('%s %s(%s)', CASE prokind WHEN 'p' THEN 'CALL' ELSE 'SELECT' END, function::regproc,
			(SELECT string_agg(format('%s::%s', CASE WHEN NOT proisstrict THEN 'NULL'
					WHEN type = 'json'::regtype THEN quote_literal('{}') ELSE quote_literal('') END,
				format_type(type, NULL)), ', ' ORDER BY position)
			 FROM unnest(proargtypes) WITH ORDINALITY a (type, position)))
		FROM pg_proc WHERE oid = function);
	RETURN 'returned';
EXCEPTION WHEN OTHERS THEN
	RETURN SQLSTATE;
END
$$;
CREATE FUNCTION check_calls() RETURNS TABLE (rolname name, calls bigint, refused bigint, wrong regprocedure[]) LANGUAGE plpgsql AS $$
DECLARE
	function regprocedure;
	may boolean;
	outcome text;
BEGIN
	FOR rolname IN SELECT r.rolname FROM role r ORDER BY 1 LOOP
		calls := 0;
		refused := 0;
		wrong := '{}';
		FOR function IN SELECT objid FROM member JOIN pg_proc ON pg_proc.oid = objid
			WHERE classid = 'pg_proc'::regclass AND prorettype <> 'trigger'::regtype ORDER BY objid::regprocedure::text LOOP
			may := has_function_privilege(rolname, function, 'EXECUTE')
				AND has_schema_privilege(rolname, (SELECT pronamespace FROM pg_proc WHERE oid = function), 'USAGE');
			PERFORM set_config('role', rolname, true);
			outcome := call_without_sense(function);
			PERFORM set_config('role', 'none', true);
			calls := calls + 1;
			refused := refused + (outcome = '42501')::int;
			IF (outcome <> '42501') <> may THEN
				wrong := wrong || function;
			END IF;
		END LOOP;
		RETURN NEXT;
	END LOOP;
END
$$;
SELECT rolname, calls > 30 AS called, calls - refused AS executed, wrong FROM check_calls();

-- What they are for works.
SET SESSION AUTHORIZATION operator;
SELECT org_id FROM overten_create_org('Acme') \gset
SELECT overten_add_member(:'org_id', 'ada'), overten_set_api_access(:'org_id', true);
SELECT name, tier FROM overten_list_orgs('ada');
SELECT action, actor, detail FROM overten_auth.audit_log ORDER BY at;
\set VERBOSITY sqlstate
SELECT count(*) FROM overten_auth.orgs;
DELETE FROM overten_auth.audit_log;
SELECT overten_mint_key(:'org_id');
SELECT overten_auth.invalidate_caches();
RESET SESSION AUTHORIZATION;
SET SESSION AUTHORIZATION application;
SELECT key_id, secret FROM overten_mint_key(:'org_id', 'production') \gset
SELECT org_name FROM overten_verify_key(:'secret');
SELECT name, revoked_at FROM overten_list_keys(:'org_id');
SELECT overten_verify_key_digest(sha256(:'secret'));
SELECT count(*) FROM overten_auth.api_keys;
SELECT overten_auth.stat();
SET ROLE overten_web;
SET overten_auth.max_keys_per_org = 1;
ALTER ROLE application SET overten_auth.firebase_project_id = 'mine';
SET log_parameter_max_length = -1;
RESET SESSION AUTHORIZATION;
SET SESSION AUTHORIZATION overten_gateway;
SELECT status, body::json ->> 'org_name' AS org_name
FROM overten_handle_request('GET', '/api/v1/verify', json_build_object('authorization', 'Bearer ' || :'secret'), NULL);
SELECT status FROM overten_handle_request('GET', '/api/v1/organizations/' || :'org_id' || '/api-keys',
	json_build_object('authorization', 'Bearer ' || :'secret'), NULL);
SELECT overten_verify_key(:'secret');
SELECT overten_signup('ada', 'Mine');
RESET SESSION AUTHORIZATION;
SET SESSION AUTHORIZATION overten_authenticator;
SELECT overten_api.verify();
SET ROLE overten_web;
SELECT set_config('request.headers', json_build_object('x-overten-authorization', 'Bearer ' || :'secret')::text, false) IS NOT NULL AS request;
SELECT overten_api.verify() ->> 'org_name' AS org_name;
BEGIN;
SELECT overten_api.authenticate_request();
SELECT overten_current_org() = :'org_id' AS identified, overten_current_key() = :'key_id' AS by_key;
COMMIT;
SELECT overten_authenticate(:'secret');
SELECT overten_handle_request('GET', '/api/v1/verify', '{}', NULL);
-- Whoever may ask for the services names the cost, so what clients reach may not.
SELECT overten_api.authorize();
RESET ROLE;
SET ROLE overten_services;
BEGIN READ ONLY;
SELECT overten_api.authorize() IS NOT NULL AS asked, current_setting('response.status') AS status;
COMMIT;
SELECT overten_api.verify();
SELECT overten_authorize_request(NULL, '{}');
SET ROLE application;
RESET SESSION AUTHORIZATION;
SET SESSION AUTHORIZATION service;
BEGIN;
SELECT org_name FROM overten_authenticate(:'secret');
INSERT INTO documents (title) VALUES ('Plan') RETURNING title;
COMMIT;
SELECT title FROM documents;
SELECT overten_verify_key(:'secret');
RESET SESSION AUTHORIZATION;
SET SESSION AUTHORIZATION responder;
SELECT overten_revoke_leaked(:'secret', 'found'), overten_revoke_all(:'org_id');
SELECT overten_verify_key(:'secret');
SELECT overten_revoke_key(:'org_id', :'key_id');
SELECT overten_rotate_webhook_secret(:'org_id', '0') ~ '^whsec_' AS rotated;
SELECT overten_sign_webhook(:'org_id', 'msg_1', 0, 'x');
RESET SESSION AUTHORIZATION;
SET SESSION AUTHORIZATION webhook_sender;
SELECT overten_sign_webhook(:'org_id', 'msg_1', 0, 'x') = overten_sign_webhook(:'org_id', 'msg_1', 0, 'x'::bytea) AS signed;
SELECT overten_rotate_webhook_secret(:'org_id');
SELECT webhook_secret_sealed FROM overten_auth.orgs;
RESET SESSION AUTHORIZATION;
SET SESSION AUTHORIZATION application;
SELECT NOT EXISTS (SELECT FROM overten_verify_key(:'secret')) AS refused;
SELECT overten_revoke_key(:'org_id', :'key_id') AS revoked_now;
RESET SESSION AUTHORIZATION;
SET SESSION AUTHORIZATION monitoring;
SELECT usage_mode FROM overten_status();
SELECT count(*) FROM overten_stat;
SELECT overten_flush_usage();
SELECT count(*) FROM overten_auth.key_usage;
RESET SESSION AUTHORIZATION;
SET SESSION AUTHORIZATION overten_nobody;
SELECT count(*) FROM overten_stat;
SELECT overten_status();
RESET SESSION AUTHORIZATION;

-- Revoking the grant is all that takes it away, at once, prepared or inside of
-- another function.
SET SESSION AUTHORIZATION application;
PREPARE verify AS SELECT NOT EXISTS (SELECT FROM overten_verify_key($1)) AS refused;
EXECUTE verify(:'secret');
CREATE FUNCTION pg_temp.verify(secret text) RETURNS boolean LANGUAGE plpgsql AS
	$$BEGIN RETURN NOT EXISTS (SELECT FROM overten_verify_key(secret)); END$$;
CREATE FUNCTION pg_temp.inlined(secret text) RETURNS SETOF text LANGUAGE sql STABLE AS
	$$SELECT key_id FROM overten_verify_key(secret)$$;
CREATE FUNCTION pg_temp.definer(secret text) RETURNS boolean LANGUAGE plpgsql SECURITY DEFINER AS
	$$BEGIN RETURN NOT EXISTS (SELECT FROM overten_verify_key(secret)); END$$;
SELECT pg_temp.verify(:'secret'), NOT EXISTS (SELECT FROM pg_temp.inlined(:'secret')) AS inlined, pg_temp.definer(:'secret');
RESET SESSION AUTHORIZATION;
REVOKE EXECUTE ON FUNCTION overten_verify_key(text) FROM application;
SET SESSION AUTHORIZATION application;
EXECUTE verify(:'secret');
SELECT pg_temp.verify(:'secret');
SELECT * FROM pg_temp.inlined(:'secret');
SELECT pg_temp.definer(:'secret');
RESET SESSION AUTHORIZATION;
-- Called by another role, the definer's rights are what counts.
SELECT pg_temp.definer(:'secret');
DEALLOCATE ALL;

DROP FUNCTION pg_temp.verify, pg_temp.inlined, pg_temp.definer, call_without_sense, check_calls;
DROP VIEW role, member;
DROP TABLE documents;
DROP EXTENSION overten_auth;
DROP ROLE application, responder, webhook_sender, operator, monitoring, service, overten_gateway, overten_authenticator,
	overten_web, overten_services, overten_nobody;
