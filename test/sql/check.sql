--
-- check: overten_check() returns what is wrong, and nothing else
--
CREATE EXTENSION overten_auth;
\getenv abs_srcdir PG_ABS_SRCDIR
\set tokens :abs_srcdir '/sql/tokens.inc'
\set ECHO none
\i :tokens
\set ECHO all
\pset format unaligned
\pset tuples_only

-- A new installation is only not configured.
SELECT * FROM overten_check();

-- Somebody who watches it needs EXECUTE on this function alone.
CREATE ROLE overten_watcher;
SET ROLE overten_watcher;
\set VERBOSITY sqlstate
SELECT count(*) FROM overten_check();
RESET ROLE;
GRANT EXECUTE ON FUNCTION overten_check() TO overten_watcher;
SET ROLE overten_watcher;
SELECT count(*) FROM overten_check();
RESET ROLE;

CREATE VIEW finding AS SELECT * FROM overten_check() WHERE severity <> 'notice';


-- Privileges

-- The roles of docs/ and gateway/roles.sql, with what the latter sets
\set recipes `sed -n '/^-- An application that verifies/,/^GRANT SELECT ON overten_stat/p' "$PG_ABS_SRCDIR/../docs/operations.md"`
\set setup `sed -n '/^CREATE TABLE documents/,/^ALTER ROLE service/p' "$PG_ABS_SRCDIR/../docs/keys.md"`
\set postgrest `sed -n '/^GRANT USAGE ON SCHEMA overten_api TO service;/,/^GRANT EXECUTE .*authenticate_request/p' "$PG_ABS_SRCDIR/../docs/keys.md"`
\set http :abs_srcdir '/../gateway/roles.sql'
:recipes
:setup
:postgrest
\set ECHO none
\i :http
\set ECHO all
\set ON_ERROR_STOP off
TABLE finding;
SELECT count(DISTINCT role) FROM overten_auth.grants();

-- All functions, or all tables, for one role
CREATE ROLE overten_anon;
CREATE ROLE "overten ""any""";
BEGIN;
GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA public, overten_auth, overten_api TO overten_anon;
SELECT severity, subject, left(problem, 35) FROM finding;
ROLLBACK;
BEGIN;
GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA public TO "overten ""any""";
SELECT severity, subject, problem LIKE '%uid on trust%' AS trusting, problem LIKE '%load signing keys%' AS loading,
	problem LIKE '%digest a key%' AS importing FROM finding;
ROLLBACK;
BEGIN;
GRANT ALL ON ALL TABLES IN SCHEMA overten_auth TO "overten ""any""";
SELECT severity, subject, problem ~ 'has .*DELETE.*INSERT.* on overten_auth\.' AS writing FROM finding;
ROLLBACK;

-- To everybody
BEGIN;
GRANT EXECUTE ON FUNCTION overten_verify_key(text), overten_list_orgs(text) TO PUBLIC;
GRANT SELECT (name) ON overten_auth.tiers TO PUBLIC;
TABLE finding;
ROLLBACK;

-- Single privileges that are findings
BEGIN;
GRANT UPDATE (revoked_at) ON overten_auth.api_keys TO overten_anon;
GRANT REFERENCES ON overten_auth.orgs TO overten_anon;
GRANT TRUNCATE ON overten_auth.tiers TO overten_anon;
GRANT CREATE ON SCHEMA overten_api TO overten_anon;
GRANT EXECUTE ON FUNCTION overten_import_key TO overten_anon;
GRANT EXECUTE ON FUNCTION overten_verify_key(text) TO overten_anon WITH GRANT OPTION;
GRANT EXECUTE ON FUNCTION overten_auth.objects() TO overten_anon;
GRANT SELECT ON overten_auth.api_keys TO overten_anon;
GRANT SELECT (webhook_secret_sealed) ON overten_auth.orgs TO overten_anon;
GRANT USAGE ON TYPE overten_auth.orgs TO overten_anon;
TABLE finding;
ROLLBACK;
-- Similar privileges that are none
BEGIN;
GRANT INSERT, UPDATE, DELETE ON overten_auth.tiers TO overten_anon;
GRANT REFERENCES (org_id) ON overten_auth.orgs TO overten_anon;
GRANT SELECT (key_id, name) ON overten_auth.api_keys TO overten_anon;
GRANT SELECT ON overten_auth.members, overten_auth.key_usage TO overten_anon;
GRANT EXECUTE ON FUNCTION overten_auth.master_key_ids() TO overten_anon;
TABLE finding;
-- A superuser needs no privileges.
CREATE ROLE overten_super SUPERUSER;
GRANT ALL ON overten_auth.orgs TO overten_super WITH GRANT OPTION;
TABLE finding;
ROLLBACK;

-- Combinations, in one role or by what it inherits
BEGIN;
GRANT EXECUTE ON FUNCTION overten_load_signing_keys(json), overten_refresh_signing_keys(), overten_status() TO overten_anon;
TABLE finding;
GRANT EXECUTE ON FUNCTION overten_verify_key(text) TO overten_anon;
TABLE finding;
ROLLBACK;
BEGIN;
CREATE ROLE overten_both;
GRANT overten_gateway, operator TO overten_both;
GRANT EXECUTE ON FUNCTION overten_verify_key_digest(bytea) TO overten_anon;
TABLE finding;
GRANT SELECT (digest) ON overten_auth.api_keys TO "overten ""any""";
GRANT "overten ""any""" TO overten_anon;
TABLE finding;
ROLLBACK;
BEGIN;
GRANT pg_read_all_data TO overten_anon;
TABLE finding;
GRANT EXECUTE ON FUNCTION overten_verify_key_digest(bytea) TO overten_anon;
TABLE finding;
REVOKE pg_read_all_data FROM overten_anon;
GRANT pg_write_all_data TO overten_anon;
TABLE finding;
ROLLBACK;


-- Owners

BEGIN;
GRANT USAGE ON SCHEMA overten_auth TO overten_anon;
ALTER TABLE overten_auth.orgs OWNER TO overten_anon;
ALTER FUNCTION overten_verify_key(text) OWNER TO "overten ""any""";
ALTER SCHEMA overten_api OWNER TO "overten ""any""";
ALTER FUNCTION overten_mint_key OWNER TO pg_database_owner;
TABLE finding;
ROLLBACK;
BEGIN;
CREATE SCHEMA elsewhere;
ALTER EXTENSION pgcrypto SET SCHEMA elsewhere;
ALTER SCHEMA elsewhere OWNER TO overten_anon;
TABLE finding;
ROLLBACK;
-- The owner of the database, who owns the schema public
BEGIN;
ALTER DATABASE :"DBNAME" OWNER TO overten_anon;
TABLE finding;
ROLLBACK;
BEGIN;
GRANT CREATE ON SCHEMA public TO PUBLIC, "overten ""any""";
TABLE finding;
ROLLBACK;


-- Tables

CREATE VIEW part AS SELECT severity, subject, problem FROM finding;
BEGIN;
ALTER TABLE overten_auth.orgs ADD COLUMN billing_id text;
CREATE INDEX mine ON overten_auth.orgs (name);
ALTER TABLE overten_auth.orgs ADD CONSTRAINT long_name CHECK (length(name) > 3);
ALTER TABLE overten_auth.orgs ADD CONSTRAINT one_name UNIQUE (name);
CREATE FUNCTION do_nothing() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END';
CREATE TRIGGER nothing BEFORE UPDATE ON overten_auth.api_keys FOR EACH ROW EXECUTE FUNCTION do_nothing();
CREATE RULE nothing AS ON DELETE TO overten_auth.signing_keys DO INSTEAD NOTHING;
CREATE POLICY nothing ON overten_auth.members USING (false);
CREATE TABLE child () INHERITS (overten_auth.tiers);
CREATE TABLE parent (key_id text COLLATE "C");
ALTER TABLE overten_auth.key_last_used INHERIT parent;
CREATE STATISTICS both_ids ON org_id, uid FROM overten_auth.members;
TABLE part;
SELECT * FROM overten_check() WHERE subject LIKE 'statistics %';
SELECT DISTINCT remedy FROM finding WHERE subject LIKE 'column %';
ROLLBACK;
-- A table of one's own may reference orgs.
BEGIN;
CREATE TABLE billing (org_id text PRIMARY KEY REFERENCES overten_auth.orgs);
TABLE part;
ROLLBACK;
-- What is dropped or altered
BEGIN;
ALTER TABLE overten_auth.api_keys DISABLE TRIGGER "0_invalidate_caches";
ALTER TABLE overten_auth.orgs ENABLE TRIGGER "0_invalidate_caches";
ALTER TABLE overten_auth.audit_log ENABLE REPLICA TRIGGER refuse_change;
DROP TRIGGER "0_invalidate_caches" ON overten_auth.signing_keys;
TABLE finding;
ROLLBACK;
BEGIN;
ALTER TABLE overten_auth.members DISABLE TRIGGER ALL;
ALTER TABLE overten_auth.api_keys DROP CONSTRAINT api_keys_digest_key;
DROP INDEX overten_auth.members_uid_idx;
ALTER TABLE overten_auth.api_keys RENAME COLUMN revoked_reason TO reason;
ALTER TABLE overten_auth.api_keys ALTER revoked_by SET NOT NULL;
ALTER TABLE overten_auth.api_keys ALTER revoked_at SET DEFAULT 'infinity';
ALTER TABLE overten_auth.usage_batches ALTER last_batch TYPE int4;
ALTER TABLE overten_auth.orgs ENABLE ROW LEVEL SECURITY;
ALTER TABLE overten_auth.key_usage SET UNLOGGED;
TABLE part;
ROLLBACK;
BEGIN;
ALTER TABLE overten_auth.audit_log REPLICA IDENTITY NOTHING;
CREATE PUBLICATION everything FOR ALL TABLES;
CREATE PUBLICATION inserts FOR TABLE overten_auth.audit_log WITH (publish = 'insert');
TABLE part;
SELECT subject, regexp_replace(problem, '\d+ more', 'more') FROM overten_check() WHERE subject LIKE 'publication %' AND severity = 'notice';
ROLLBACK;
-- What could be in the way of updates
BEGIN;
CREATE TABLE overten_auth.mine ();
CREATE FUNCTION overten_api.mine() RETURNS int LANGUAGE sql AS 'SELECT 1';
SELECT * FROM overten_check() WHERE subject LIKE '%mine%';
ROLLBACK;


-- Configuration

-- A restore that has lost the setting
BEGIN;
SELECT org_id FROM overten_create_org('Acme Docs') \gset
SELECT overten_add_member(:'org_id', 'ada');
TABLE finding;
ROLLBACK;
-- A project's number in the place of its id
SET overten_auth.firebase_project_id = '123456789012';
SELECT * FROM finding WHERE subject <> 'signing keys';
-- Signing keys: none, some, and some that expire soon
SET overten_auth.firebase_project_id = 'overten-test';
TABLE finding;
SELECT overten_load_signing_keys(:'signing_keys') > 0;
TABLE finding;
BEGIN;
UPDATE overten_auth.signing_keys SET expires_at = now() + interval '5 hours';
SELECT subject, problem LIKE 'The last one expires at %' FROM finding;
ROLLBACK;
RESET overten_auth.firebase_project_id;
-- A master key that is not there
BEGIN;
SELECT org_id FROM overten_create_org('Acme Docs') \gset
UPDATE overten_auth.orgs SET webhook_secret_sealed = overlay(webhook_secret_sealed PLACING '\x0123456789abcdef' FROM 2);
TABLE finding;
ROLLBACK;

-- A check that fails does not keep the others from running.
BEGIN;
ALTER TABLE overten_auth.members RENAME TO people;
SELECT * FROM finding WHERE subject !~ '^(column|index|constraint)';
ROLLBACK;
BEGIN;
ALTER TABLE overten_auth.orgs OWNER TO overten_anon;
TABLE finding;
ROLLBACK;

-- A hostile search_path changes nothing.
CREATE SCHEMA evil;
CREATE FUNCTION evil.some_of(text[]) RETURNS text LANGUAGE plpgsql AS 'BEGIN RAISE EXCEPTION ''evil was called''; END';
CREATE FUNCTION evil.format(text, VARIADIC "any") RETURNS text LANGUAGE internal AS 'text_format';
CREATE TEMP TABLE pg_roles (oid oid, rolname name, rolsuper bool);
CREATE TEMP TABLE pg_class (oid oid);
SET search_path = pg_temp, evil, pg_catalog, public;
SELECT severity, subject FROM public.overten_check();
RESET search_path;
DROP TABLE pg_temp.pg_roles, pg_temp.pg_class;

\pset format aligned
\pset tuples_only off
DROP SCHEMA evil CASCADE;
DROP VIEW part, finding;
DROP TABLE documents;
DROP EXTENSION overten_auth;

-- A superuser who is none any more
CREATE ROLE overten_owner SUPERUSER;
SET ROLE overten_owner;
CREATE EXTENSION overten_auth;
RESET ROLE;
ALTER ROLE overten_owner NOSUPERUSER;
SELECT split_part(subject, ' ', 1) AS subject, problem FROM overten_check() WHERE severity = 'danger' ORDER BY 1;
DROP EXTENSION overten_auth;
DROP ROLE overten_owner;
DROP ROLE application, responder, webhook_sender, operator, monitoring, service, overten_gateway, overten_authenticator,
	overten_web, overten_watcher, overten_anon, "overten ""any""";
