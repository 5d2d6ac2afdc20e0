--
-- closing: CREATE EXTENSION grants nothing, whatever default privileges say, and
-- depends on nothing that an ordinary role could drop
--
\set SHOW_CONTEXT never
CREATE ROLE overten_anon;
CREATE ROLE "overten ""any""";
CREATE ROLE overten_other_dba SUPERUSER;

-- All privileges that anybody but the owner has on an object of the extension,
-- straight from the catalogs.
CREATE VIEW member AS
	SELECT d.* FROM pg_depend d JOIN pg_extension e
		ON refclassid = 'pg_extension'::regclass AND refobjid = e.oid AND deptype = 'e'
	WHERE extname = 'overten_auth';
CREATE VIEW acl AS
	SELECT oid::regprocedure::text AS object, proowner AS owner, coalesce(proacl, acldefault('f', proowner)) AS acl
	FROM pg_proc WHERE ('pg_proc'::regclass, oid) IN (SELECT classid, objid FROM member)
	UNION ALL SELECT oid::regclass::text, relowner, coalesce(relacl, acldefault('r', relowner))
	FROM pg_class WHERE ('pg_class'::regclass, oid) IN (SELECT classid, objid FROM member)
	UNION ALL SELECT attrelid::regclass || '.' || attname, relowner, attacl
	FROM pg_attribute JOIN pg_class ON pg_class.oid = attrelid
	WHERE ('pg_class'::regclass, attrelid) IN (SELECT classid, objid FROM member)
	UNION ALL SELECT 'type ' || oid::regtype, typowner, coalesce(typacl, acldefault('T', typowner))
	FROM pg_type WHERE typcategory <> 'A'	-- arrays have no privileges of their own
		AND (('pg_type'::regclass, oid) IN (SELECT classid, objid FROM member)
			OR ('pg_class'::regclass, typrelid) IN (SELECT classid, objid FROM member))
	UNION ALL SELECT 'schema ' || nspname, nspowner, coalesce(nspacl, acldefault('n', nspowner))
	FROM pg_namespace WHERE ('pg_namespace'::regclass, oid) IN (SELECT classid, objid FROM member);
CREATE VIEW opened AS
	SELECT object, CASE a.grantee WHEN 0 THEN 'PUBLIC' ELSE a.grantee::regrole::text END AS role,
		string_agg(privilege_type || CASE WHEN is_grantable THEN '*' ELSE '' END, ' ' ORDER BY privilege_type) AS privileges
	FROM acl, aclexplode(acl) a WHERE a.grantee <> owner
	GROUP BY 1, 2 ORDER BY 1, 2;

-- Without default privileges there is nothing to revoke.
CREATE EXTENSION overten_auth;
TABLE opened;
CREATE TABLE plain_acl AS SELECT object, array_agg(privilege_type ORDER BY privilege_type) AS owner_has
FROM acl, aclexplode(acl) a WHERE a.grantee = owner GROUP BY object;
SELECT count(*) > 60 AS objects, count(*) FILTER (WHERE owner_has = '{EXECUTE}') > 40 AS functions FROM plain_acl;
DROP EXTENSION overten_auth;

-- The view sees what is granted.
BEGIN;
CREATE EXTENSION overten_auth;
GRANT EXECUTE ON FUNCTION overten_auth.stat() TO overten_anon WITH GRANT OPTION;
GRANT SELECT, UPDATE (tier) ON overten_auth.orgs TO "overten ""any""";
GRANT USAGE ON TYPE overten_auth.orgs TO PUBLIC;
GRANT CREATE ON SCHEMA overten_api TO overten_anon;
GRANT USAGE ON SCHEMA overten_auth TO overten_anon;
TABLE opened;
-- So does the extension's own function.
SELECT kind, name, role, privilege, grantable FROM overten_auth.grants() ORDER BY name, privilege;
-- An update spares what there was before it, ...
SELECT overten_auth.finish_script(overten_auth.inventory());
SELECT count(*) FROM opened;
-- ... but nothing else, even if a grantee has passed it on.
SET ROLE overten_anon;
GRANT EXECUTE ON FUNCTION overten_auth.stat() TO "overten ""any""";
RESET ROLE;
SELECT overten_auth.finish_script();
TABLE opened;
SELECT overten_auth.finish_script(NULL);
ROLLBACK;

-- Each kind of default privileges, with a role that needs quotes
ALTER DEFAULT PRIVILEGES GRANT EXECUTE ON FUNCTIONS TO "overten ""any""" WITH GRANT OPTION;
ALTER DEFAULT PRIVILEGES GRANT ALL ON TABLES TO overten_anon, PUBLIC;
ALTER DEFAULT PRIVILEGES GRANT ALL ON SEQUENCES TO overten_anon;
ALTER DEFAULT PRIVILEGES GRANT USAGE ON TYPES TO overten_anon;
ALTER DEFAULT PRIVILEGES GRANT ALL ON SCHEMAS TO overten_anon WITH GRANT OPTION;
\set VERBOSITY terse
CREATE EXTENSION overten_auth;
TABLE opened;
-- The attack: load signing keys, and revoke what is somebody else's
SELECT org_id FROM overten_create_org('Victim') \gset
SET ROLE "overten ""any""";
SELECT overten_load_signing_keys('{"keys":[]}');
SELECT overten_revoke_all(:'org_id');
SET ROLE overten_anon;
SELECT count(*) FROM overten_auth.signing_keys;
RESET ROLE;
DROP EXTENSION overten_auth;
-- Default privileges in a schema, on top of these
ALTER DEFAULT PRIVILEGES IN SCHEMA public GRANT EXECUTE ON FUNCTIONS TO overten_anon;
ALTER DEFAULT PRIVILEGES IN SCHEMA public GRANT SELECT ON TABLES TO "overten ""any""";
ALTER DEFAULT PRIVILEGES IN SCHEMA public GRANT USAGE ON TYPES TO "overten ""any""";
CREATE EXTENSION overten_auth;
TABLE opened;
DROP EXTENSION overten_auth;
-- Another superuser has other default privileges, or none.
SET ROLE overten_other_dba;
CREATE EXTENSION overten_auth;
TABLE opened;
DROP EXTENSION overten_auth;
ALTER DEFAULT PRIVILEGES GRANT ALL ON FUNCTIONS TO overten_anon;
CREATE EXTENSION overten_auth;
TABLE opened;
SELECT DISTINCT owner::regrole FROM acl;
DROP EXTENSION overten_auth;
ALTER DEFAULT PRIVILEGES REVOKE ALL ON FUNCTIONS FROM overten_anon;
RESET ROLE;

-- Default privileges that take privileges from the owner
ALTER DEFAULT PRIVILEGES REVOKE ALL ON FUNCTIONS FROM CURRENT_USER;
ALTER DEFAULT PRIVILEGES REVOKE SELECT, TRIGGER ON TABLES FROM CURRENT_USER;
ALTER DEFAULT PRIVILEGES REVOKE ALL ON TYPES FROM CURRENT_USER;
ALTER DEFAULT PRIVILEGES REVOKE USAGE ON SCHEMAS FROM CURRENT_USER;
CREATE EXTENSION overten_auth;
TABLE opened;
SELECT object, owner_has FROM plain_acl
EXCEPT SELECT object, array_agg(privilege_type ORDER BY privilege_type)
FROM acl, aclexplode(acl) a WHERE a.grantee = owner GROUP BY object;
-- pg_dump compares with these; they are the owner's alone.
SELECT DISTINCT grantee::regrole FROM pg_init_privs i JOIN member m ON i.classoid = m.classid AND i.objoid = m.objid,
	aclexplode(initprivs) WHERE grantee <> grantor;
DROP EXTENSION overten_auth;

-- The message names up to three objects.
ALTER DEFAULT PRIVILEGES REVOKE ALL ON FUNCTIONS FROM "overten ""any""";
ALTER DEFAULT PRIVILEGES REVOKE ALL ON TABLES FROM overten_anon, PUBLIC;
ALTER DEFAULT PRIVILEGES IN SCHEMA public REVOKE ALL ON FUNCTIONS FROM overten_anon;
ALTER DEFAULT PRIVILEGES IN SCHEMA public REVOKE ALL ON TABLES FROM "overten ""any""";
ALTER DEFAULT PRIVILEGES IN SCHEMA public REVOKE ALL ON TYPES FROM "overten ""any""";
\set VERBOSITY default
CREATE EXTENSION overten_auth;
DROP EXTENSION overten_auth;
ALTER DEFAULT PRIVILEGES REVOKE ALL ON SEQUENCES FROM overten_anon;
ALTER DEFAULT PRIVILEGES REVOKE ALL ON TYPES FROM overten_anon;
ALTER DEFAULT PRIVILEGES REVOKE ALL ON SCHEMAS FROM overten_anon;
ALTER DEFAULT PRIVILEGES GRANT ALL ON FUNCTIONS TO CURRENT_USER;
ALTER DEFAULT PRIVILEGES GRANT ALL ON TABLES TO CURRENT_USER;
ALTER DEFAULT PRIVILEGES GRANT ALL ON TYPES TO CURRENT_USER;
ALTER DEFAULT PRIVILEGES GRANT ALL ON SCHEMAS TO CURRENT_USER;

-- An event trigger that grants what is revoked makes it fail.
CREATE FUNCTION grant_again() RETURNS event_trigger LANGUAGE plpgsql AS $$
BEGIN
	IF to_regproc('public.overten_mint_key') IS NOT NULL THEN
		GRANT EXECUTE ON FUNCTION public.overten_mint_key TO overten_anon;
	END IF;
END
$$;
CREATE EVENT TRIGGER grant_again ON ddl_command_end WHEN TAG IN ('REVOKE')
	EXECUTE FUNCTION grant_again();
CREATE EXTENSION overten_auth;
DROP EVENT TRIGGER grant_again;
DROP FUNCTION grant_again;
DROP VIEW opened, acl, member;

-- Owners: pgcrypto is trusted, so an ordinary role may have created it.
CREATE ROLE overten_owner;
GRANT CREATE ON DATABASE :"DBNAME" TO overten_owner;
DROP EXTENSION pgcrypto;
SET ROLE overten_owner;
CREATE SCHEMA owned;
CREATE EXTENSION pgcrypto SCHEMA owned;
RESET ROLE;
CREATE EXTENSION overten_auth;
ALTER SCHEMA owned OWNER TO CURRENT_USER;
\set VERBOSITY terse
CREATE EXTENSION overten_auth;
ALTER SCHEMA owned OWNER TO overten_owner;
DROP EXTENSION pgcrypto;
CREATE EXTENSION pgcrypto SCHEMA owned;
\set VERBOSITY default
CREATE EXTENSION overten_auth;
ALTER SCHEMA owned OWNER TO CURRENT_USER;
ALTER FUNCTION owned.hmac(bytea, bytea, text) OWNER TO overten_owner;
CREATE EXTENSION overten_auth;
-- The hint helps.
REASSIGN OWNED BY overten_owner TO CURRENT_USER;
CREATE EXTENSION overten_auth;
DROP EXTENSION overten_auth;
-- A schema of the database's owner is allowed.
ALTER SCHEMA owned OWNER TO pg_database_owner;
CREATE EXTENSION overten_auth;
DROP EXTENSION overten_auth, pgcrypto;
DROP SCHEMA owned;
CREATE EXTENSION pgcrypto;

-- plpgsql may be anybody's: nothing of the extension goes with it.
DROP EXTENSION plpgsql;
GRANT CREATE ON DATABASE :"DBNAME" TO overten_owner;
SET ROLE overten_owner;
CREATE EXTENSION plpgsql;
RESET ROLE;
CREATE EXTENSION overten_auth;
SET ROLE overten_owner;
DROP EXTENSION plpgsql CASCADE;
RESET ROLE;
SELECT name FROM overten_create_org('Still here');
-- It does not need plpgsql at all.
DROP EXTENSION overten_auth;
CREATE EXTENSION overten_auth;
DROP EXTENSION overten_auth;
CREATE EXTENSION plpgsql;

DROP TABLE plain_acl;
REVOKE CREATE ON DATABASE :"DBNAME" FROM overten_owner;
DROP ROLE overten_owner, overten_anon, "overten ""any""";
SET client_min_messages = warning;
DROP OWNED BY overten_other_dba;
DROP ROLE overten_other_dba;
