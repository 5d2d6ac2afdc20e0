--
-- erasure: orgs and persons can be erased, and dead keys purged; what is left
-- keeps keys from coming back, and says why they are refused
--
CREATE EXTENSION overten_auth;
\pset null '-'

-- Where a text occurs in the tables, as they are dumped.
CREATE FUNCTION pg_temp.find(what text) RETURNS TABLE (place text) LANGUAGE plpgsql AS $$
DECLARE
	t regclass;
BEGIN
	FOR t IN SELECT oid FROM pg_class WHERE relnamespace = 'overten_auth'::regnamespace AND relkind = 'r' ORDER BY relname LOOP
		RETURN QUERY EXECUTE format('SELECT DISTINCT %L || '': '' || e.key FROM %s r, jsonb_each_text(to_jsonb(r)) e WHERE e.value LIKE %L ORDER BY 1',
			t, t, '%' || what || '%');
	END LOOP;
END
$$;
-- The error of a call, by SQLSTATE.
CREATE FUNCTION pg_temp.error_of(call text) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
	EXECUTE call;
	RETURN 'none';
EXCEPTION WHEN OTHERS THEN
	RETURN SQLSTATE || ' ' || regexp_replace(SQLERRM, '_\w{20}', '_...', 'g');
END
$$;
-- An org of two persons, Ada and Bob, with keys of each kind and a history.
CREATE FUNCTION pg_temp.make_org(name text, OUT org text, OUT live text, OUT live_id text, OUT dead text, OUT dead_id text) LANGUAGE plpgsql AS $$
BEGIN
	SELECT s.org_id, s.secret, s.key_id INTO org, live, live_id FROM overten_signup('ada-1', name, key_name => name || ' live') s;
	PERFORM overten_add_member(org, 'bob-1');
	SELECT m.key_id, m.secret INTO dead_id, dead FROM overten_mint_key(org, name || ' dead') m;
	PERFORM overten_revoke_key(org, dead_id, name || ' reason');
	UPDATE overten_auth.api_keys SET created_by = 'bob-1', revoked_by = 'ada-1', allowed_addresses = '{203.0.113.7}', scopes = '{}' WHERE key_id = dead_id;
	INSERT INTO overten_auth.key_usage SELECT k, date_trunc('hour', now()), '203.0.113.7', 1, 1, now(), now() FROM unnest(ARRAY[live_id, dead_id]) k;
	UPDATE overten_auth.key_last_used SET last_used_at = now() WHERE key_id IN (live_id, dead_id);
	INSERT INTO overten_auth.idempotency_keys (uid, name_digest, fingerprint, first_at, last_at, org_id, key_id)
	VALUES ('ada-1', sha256(org::bytea), sha256(''), now(), now(), org, live_id);
	PERFORM overten_set_limit('org', org, 'per-hour', 10, '1 hour'), overten_rotate_webhook_secret(org);
	PERFORM overten_grant(org, 10, name || ' reason', name || ' payment'), overten_hold(org, 1, name || ' hold'), overten_spend(org, 2, name || ' request', name || ' detail');
END
$$;

SELECT * FROM pg_temp.make_org('Planted') \gset
SELECT * FROM pg_temp.make_org('Other') \gset other_
SELECT * FROM pg_temp.find('Planted');
SELECT * FROM pg_temp.find('203.0.113.7');

-- An org with an active key is not erased; nor while it could be resumed, or a key
-- enabled.
SELECT pg_temp.error_of(format('SELECT overten_erase_org(%L)', :'org'));
SELECT overten_set_api_access(:'org', false);
SELECT pg_temp.error_of(format('SELECT overten_erase_org(%L)', :'org'));
SELECT overten_set_api_access(:'org', true);
UPDATE overten_auth.api_keys SET disabled_at = now(), disabled_by = 'ada-1', disabled_reason = 'Planted' WHERE key_id = :'live_id';
SELECT pg_temp.error_of(format('SELECT overten_erase_org(%L)', :'org'));
UPDATE overten_auth.api_keys SET expires_at = now() + interval '1 hour' WHERE key_id = :'live_id';
SELECT pg_temp.error_of(format('SELECT overten_erase_org(%L)', :'org'));
SELECT * FROM pg_temp.find('Planted');

-- With an expired one it is.
UPDATE overten_auth.api_keys SET expires_at = now() - interval '1 second' WHERE key_id = :'live_id';
SELECT overten_erase_org(:'org');
SELECT overten_erase_org(:'org');
SELECT * FROM pg_temp.find('Planted');
SELECT * FROM pg_temp.find('bob-1');
SELECT * FROM pg_temp.find(:'org');
SELECT * FROM pg_temp.find(:'live_id');
SELECT * FROM pg_temp.find('203.0.113.7');
SELECT name, tier, created_by, suspended_at IS NOT NULL AS suspended, erased_at IS NOT NULL AS erased, octet_length(webhook_secret_sealed) AS sealed,
	previous_webhook_secret_sealed AS previous FROM overten_auth.orgs WHERE org_id = :'org';
SELECT name, left(prefix, 8) AS prefix, digest = sha256(secret::bytea) AS digest, revoked_at IS NOT NULL AS revoked, created_at IS NOT NULL AS created,
	created_by, revoked_by, revoked_reason, disabled_by, disabled_reason, scopes, allowed_addresses
FROM (VALUES (:'live_id', :'live'), (:'dead_id', :'dead')) v (key_id, secret) JOIN overten_auth.api_keys USING (key_id);
SELECT action, key_id IS NOT NULL AS key, actor IS NOT NULL AS actor, uid, detail FROM overten_auth.audit_log WHERE org_id = :'org' ORDER BY at;
-- Another org of the same people keeps all.
SELECT * FROM pg_temp.find('Other');
SELECT count(*) FROM overten_verify_key(:'other_live');

-- Refusals can be explained, and no key comes back.
SELECT count(*) FROM overten_verify_key(:'live');
SELECT name, prefix = left(:'live', 12) AS prefix, created_by, revoked_at IS NOT NULL AS revoked, revoked_reason FROM overten_describe_key(:'org', :'live_id');
SELECT overten_revoke_leaked(:'dead', 'found'), overten_revoke_leaked(:'live', 'found', true);
SELECT call, pg_temp.error_of(format(call, :'other_org', :'dead'))
FROM (VALUES ('SELECT overten_import_key(%L, ''x'', sha256(%L), ''sk_live_0000'')'),
	('SELECT overten_import_keys(ARRAY[%L], ARRAY[''x''], ARRAY[sha256(%L)], ARRAY[''sk_live_0000''])')) v (call);
SELECT pg_temp.error_of(format('SELECT overten_import_key(%L, ''x'', sha256(%L), ''sk_live_0000'')', :'other_org', :'live'));

-- For all functions the org does not exist, but for those that erase, and that say why a
-- key is refused.
CREATE TABLE pg_temp.call AS SELECT call FROM (VALUES
	('SELECT overten_mint_key(%L)'), ('SELECT overten_list_keys(%L)'), ('SELECT overten_find_keys(%L)'), ('SELECT overten_revoke_all(%L)'), ('SELECT overten_purge_keys(%L, now())'),
	('SELECT overten_key_usage(%L, %L)'), ('SELECT overten_key_anomalies(%L, %L)'), ('SELECT overten_org_usage(%L, now(), now())'), ('SELECT overten_org_anomalies(%L)'),
	('SELECT overten_set_tier(%L, ''free'')'), ('SELECT overten_set_api_access(%L, true)'), ('SELECT overten_set_api_access(%L, false)'),
	('SELECT overten_rename_org(%L, ''Again'')'), ('SELECT overten_close_org(%L)'),
	('SELECT overten_add_member(%L, ''eve'')'), ('SELECT overten_remove_member(%L, ''ada-1'')'), ('SELECT overten_list_members(%L)'), ('SELECT overten_signup(''ada-1'', NULL, %L)'),
	('SELECT overten_invite(%L)'), ('SELECT overten_list_invitations(%L)'), ('SELECT overten_withdraw_invitation(%L, ''inv_x'')'),
	('SELECT overten_rotate_webhook_secret(%L)'), ('SELECT overten_sign_webhook(%L, ''m'', 0, ''x''::text)'),
	('SELECT overten_import_key(%L, ''x'', sha256(''x''), ''sk_live_0000'')'), ('SELECT overten_revoke_key(%L, %L)'),
	('SELECT overten_rename_key(%L, %L, ''Again'')'), ('SELECT overten_key_details(%L, %L)'), ('SELECT overten_set_key_details(%L, %L, ''Again'', NULL)'),
	('SELECT overten_set_expiry(%L, %L, NULL)'), ('SELECT overten_disable_key(%L, %L)'), ('SELECT overten_enable_key(%L, %L)'), ('SELECT overten_set_scopes(%L, %L, ''{}'')'),
	('SELECT overten_set_allowed_addresses(%L, %L, ''{10.0.0.0/8}'')'), ('SELECT overten_check_addresses(%L, %L, ''{10.0.0.0/8}'')'), ('SELECT overten_key_restrictions(%L, %L)'),
	('SELECT overten_rotate_key(%L, %L)'), ('SELECT overten_rotation_progress(%L, %L)'), ('SELECT overten_list_limits(%L)'), ('SELECT overten_limit_status(%L)'),
	('SELECT overten_grant(%L, 1)'), ('SELECT overten_spend(%L, 1, %L)'), ('SELECT overten_hold(%L, 1, %L)'), ('SELECT overten_settle(%L, 1, %L)'), ('SELECT overten_release(%L, %L)'),
	('SELECT overten_credit_balance(%L)'), ('SELECT overten_list_ledger(%L)')) v (call);
SELECT call, pg_temp.error_of(format(call, :'org', :'dead_id')) FROM pg_temp.call;
SELECT proname FROM pg_proc
WHERE pronamespace = 'public'::regnamespace AND proname LIKE 'overten%' AND 'org_id' = ANY (proargnames[1:pronargs])
	AND NOT EXISTS (SELECT FROM pg_temp.call WHERE call LIKE '%' || proname || '(%')
ORDER BY proname;
SELECT count(*) FROM overten_list_orgs('ada-1') WHERE org_id = :'org';
SELECT name FROM overten_all_orgs();
SELECT pg_temp.error_of(format('SELECT overten_all_orgs(after_org_id => %L)', :'org'));
-- It has no webhook secret to seal.
SELECT overten_reseal();
SELECT needed = present AS keys FROM overten_auth.master_key_ids();
SELECT count(*) FROM overten_check() WHERE severity <> 'notice' AND subject LIKE 'master key%';

-- A person.  The last member of an org with active keys stays.
SELECT pg_temp.error_of('SELECT overten_erase_person(''eve'')'), overten_erase_person('eve');
SELECT overten_remove_member(:'other_org', 'bob-1');
SELECT pg_temp.error_of('SELECT overten_erase_person(''ada-1'')');
SELECT overten_add_member(:'other_org', 'bob-1');
-- Each of these rows has Ada in one column.
SELECT key_id AS off FROM overten_mint_key(:'other_org', 'Off') \gset
UPDATE overten_auth.api_keys SET disabled_at = now(), disabled_by = 'ada-1' WHERE key_id = :'off';
INSERT INTO overten_auth.invitations (invitation_id, org_id, digest, expires_at, created_by, accepted_at, accepted_by)
VALUES ('inv_1', :'other_org', sha256('1'), 'infinity', 'ada-1', NULL, NULL), ('inv_2', :'other_org', sha256('2'), 'infinity', 'bob-1', now(), 'ada-1'),
	('inv_3', :'other_org', sha256('3'), 'infinity', 'ada-1', now(), 'bob-1');
SELECT * FROM pg_temp.find('ada-1');
SELECT overten_erase_person('ada-1'), overten_erase_person('ada-1');
-- An invitation of Ada's would have been a way back.
SELECT invitation_id FROM overten_auth.invitations WHERE org_id = :'other_org' ORDER BY 1;
SELECT * FROM pg_temp.find('ada-1');
SELECT uid AS pseudonym FROM overten_auth.members WHERE org_id = :'other_org' AND erased_at IS NOT NULL \gset
SELECT :'pseudonym' ~ '^erased_\w{17}$' AS form;
SELECT * FROM pg_temp.find(:'pseudonym');
SELECT action, replace(uid, :'pseudonym', 'erased') AS uid, replace(detail, :'pseudonym', 'erased') AS detail FROM overten_auth.audit_log
WHERE org_id = :'other_org' OR action = 'erase_person' ORDER BY at;
SELECT replace(created_by, :'pseudonym', 'erased') AS created_by, replace(revoked_by, :'pseudonym', 'erased') AS revoked_by, replace(disabled_by, :'pseudonym', 'erased') AS disabled_by
FROM overten_auth.api_keys WHERE org_id = :'other_org' ORDER BY created_at;
-- The membership counts for nobody: not for a person who has that uid, nor as a member
-- who could look after the keys.
SELECT pg_temp.error_of(format('SELECT overten_signup(%L, NULL, %L)', :'pseudonym', :'other_org'));
SELECT * FROM overten_list_orgs(:'pseudonym');
SELECT pg_temp.error_of(format('SELECT overten_remove_member(%L, ''bob-1'')', :'other_org'));
SELECT pg_temp.error_of('SELECT overten_erase_person(''bob-1'')');
SELECT name, members FROM overten_all_orgs();
-- If the org is suspended, or its keys are dead, the last member can be erased.
SELECT overten_set_api_access(:'other_org', false);
BEGIN;
SELECT overten_erase_person('bob-1');
ROLLBACK;
SELECT overten_set_api_access(:'other_org', true), overten_revoke_all(:'other_org');
SELECT overten_erase_person('bob-1');
SELECT * FROM pg_temp.find('bob-1');
SELECT count(DISTINCT uid) FROM overten_auth.members WHERE org_id = :'other_org';

-- Bad arguments.
SELECT call, pg_temp.error_of(call)
FROM (VALUES ('SELECT overten_erase_org(NULL)'), ('SELECT overten_erase_org('''')'), ('SELECT overten_erase_org(repeat(''x'', 1000000))'),
	('SELECT overten_erase_org(''org_00000000000000000000'')'), ('SELECT overten_erase_person(NULL)'), ('SELECT overten_erase_person('''')'),
	('SELECT overten_erase_person('' ada'')'), ('SELECT overten_erase_person(repeat(''x'', 1000000))'), ('SELECT overten_erase_person(E''a\nb'')'),
	('SELECT overten_purge_keys(NULL, now())'), ('SELECT overten_purge_keys(''x'', NULL)'), ('SELECT overten_purge_keys(''x'', ''infinity'')'),
	('SELECT overten_purge_keys(''x'', ''-infinity'')'), ('SELECT overten_purge_keys(''x'', now() + interval ''1 hour'')'), ('SELECT overten_purge_keys(''x'', now())')) v (call);

-- Where they cannot write, or could overlook something, they refuse.
SELECT * FROM pg_temp.make_org('Careful') \gset
BEGIN READ ONLY;
SELECT call, pg_temp.error_of(format(call, :'org'))
FROM (VALUES ('SELECT overten_erase_org(%L)'), ('SELECT overten_erase_person(''ada-1''), %L'), ('SELECT overten_purge_keys(%L, now())')) v (call);
ROLLBACK;
BEGIN ISOLATION LEVEL REPEATABLE READ;
SELECT call, pg_temp.error_of(format(call, :'org'))
FROM (VALUES ('SELECT overten_erase_org(%L)'), ('SELECT overten_erase_person(''ada-1''), %L'), ('SELECT overten_purge_keys(%L, now())')) v (call);
ROLLBACK;

-- Nobody else changes the audit log, not even after an erasure, nor within one that
-- fails, nor by a trigger that fires in one.
SELECT call, pg_temp.error_of(call) FROM (VALUES ('UPDATE overten_auth.audit_log SET detail = ''x'''), ('DELETE FROM overten_auth.audit_log'), ('TRUNCATE overten_auth.audit_log')) v (call);
CREATE FUNCTION interfere() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	IF TG_LEVEL = 'ROW' OR pg_trigger_depth() = 1 THEN
		DELETE FROM overten_auth.audit_log;
	END IF;
	RETURN NULL;
END
$$;
SELECT overten_revoke_all(:'org');
BEGIN;
CREATE TRIGGER a_first BEFORE UPDATE ON overten_auth.audit_log FOR EACH STATEMENT EXECUTE FUNCTION interfere();
SELECT pg_temp.error_of(format('SELECT overten_erase_org(%L)', :'org'));
SELECT pg_temp.error_of('DELETE FROM overten_auth.audit_log');
ROLLBACK;
BEGIN;
CREATE TRIGGER z_last AFTER UPDATE ON overten_auth.audit_log FOR EACH ROW EXECUTE FUNCTION interfere();
SELECT pg_temp.error_of(format('SELECT overten_erase_org(%L)', :'org'));
SELECT pg_temp.error_of('DELETE FROM overten_auth.audit_log');
ROLLBACK;
BEGIN;
CREATE FUNCTION fail() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'told to fail'; END $$;
CREATE TRIGGER z_last BEFORE UPDATE ON overten_auth.audit_log FOR EACH STATEMENT EXECUTE FUNCTION fail();
SELECT pg_temp.error_of(format('SELECT overten_erase_org(%L)', :'org'));
DROP TRIGGER z_last ON overten_auth.audit_log;
SELECT pg_temp.error_of('DELETE FROM overten_auth.audit_log');
ROLLBACK;
-- An erasure that is rolled back has erased nothing.
BEGIN;
SELECT overten_erase_org(:'org');
ROLLBACK;
SELECT count(*) FROM pg_temp.find('Careful');
SELECT name FROM overten_list_keys(:'org');

-- Purging: what has been dead since before a time.
SELECT * FROM pg_temp.make_org('Purged') \gset
SELECT overten_purge_keys(:'org', now() - interval '1 hour');
UPDATE overten_auth.api_keys SET revoked_at = revoked_at - interval '100 days', expires_at = now() + interval '1 day' WHERE key_id = :'dead_id';
SELECT overten_purge_keys(org_id, revoked_at) FROM overten_auth.api_keys WHERE key_id = :'dead_id';
SELECT overten_purge_keys(:'org', now() - interval '101 days'), overten_purge_keys(:'org', now() - interval '99 days'), overten_purge_keys(:'org', now());
SELECT name FROM overten_list_keys(:'org');
SELECT * FROM pg_temp.find('Purged');
SELECT count(*) FILTER (WHERE key_id = :'dead_id') AS of_the_dead, count(*) FILTER (WHERE key_id = :'live_id') AS of_the_live FROM overten_auth.key_usage;
SELECT action, detail FROM overten_auth.audit_log WHERE org_id = :'org' AND action = 'purge_keys';
SELECT count(*) FROM overten_verify_key(:'live');
SELECT count(*) FROM overten_verify_key(:'dead');
SELECT pg_temp.error_of(format('SELECT overten_import_key(%L, ''x'', sha256(%L), ''sk_live_0000'')', :'org', :'dead'));
SELECT pg_temp.error_of(format('SELECT overten_key_usage(%L, %L)', :'org', :'dead_id'));
SELECT count(*) FROM overten_org_usage(:'org', now() - interval '2 hours', now() + interval '1 hour');
-- A key that has expired is revoked by it, so that no clock brings it back.
UPDATE overten_auth.api_keys SET expires_at = now() - interval '1 minute' WHERE key_id = :'live_id';
SELECT overten_purge_keys(:'org', now());
SELECT revoked_at = expires_at AS revoked FROM overten_auth.api_keys WHERE key_id = :'live_id';
UPDATE overten_auth.api_keys SET expires_at = 'tomorrow' WHERE key_id = :'live_id';
SELECT count(*) FROM overten_verify_key(:'live');
\set VERBOSITY sqlstate
UPDATE overten_auth.api_keys SET revoked_at = NULL WHERE key_id = :'live_id';
\set VERBOSITY default

-- The limit of keys in all counts those that died in the last 90 days.
SET overten_auth.max_keys_total_per_org = 3;
CREATE FUNCTION pg_temp.fill(org text, dead_since interval) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
	UPDATE overten_auth.api_keys SET revoked_at = now() - dead_since WHERE org_id = org AND revoked_at IS NOT NULL;
	RETURN pg_temp.error_of(format('SELECT overten_signup(''ada-1'', NULL, %L)', org));
END
$$;
SELECT org_id AS org FROM overten_create_org('Limit') \gset
SELECT overten_add_member(:'org', 'ada-1');
SELECT count(overten_revoke_key(k.org_id, k.key_id)) FROM (SELECT m.* FROM generate_series(1, 3) i, LATERAL overten_mint_key(:'org', i::text) m OFFSET 0) k;
SELECT pg_temp.fill(:'org', '0'), pg_temp.fill(:'org', '2159 hours');
BEGIN;
SELECT pg_temp.fill(:'org', '2161 hours');
ROLLBACK;
-- Expired ones likewise, whichever came first.
BEGIN;
UPDATE overten_auth.api_keys SET revoked_at = NULL, expires_at = now() - interval '2159 hours' WHERE org_id = :'org';
SELECT pg_temp.fill(:'org', '0');
UPDATE overten_auth.api_keys SET expires_at = now() - interval '2161 hours' WHERE org_id = :'org';
SELECT pg_temp.fill(:'org', '0');
ROLLBACK;
BEGIN;
UPDATE overten_auth.api_keys SET expires_at = now() - interval '2161 hours' WHERE org_id = :'org';
SELECT pg_temp.fill(:'org', '0');
ROLLBACK;
-- An active key counts however old it is; an expired one is not active.
BEGIN;
SET LOCAL overten_auth.max_keys_per_org = 3;
UPDATE overten_auth.api_keys SET revoked_at = NULL, created_at = now() - interval '1 year' WHERE org_id = :'org';
SELECT pg_temp.fill(:'org', '0');
UPDATE overten_auth.api_keys SET expires_at = now() - interval '1 year' WHERE key_id = (SELECT min(key_id) FROM overten_auth.api_keys WHERE org_id = :'org');
SELECT pg_temp.fill(:'org', '0');
ROLLBACK;
-- Purging makes room, too.
SELECT overten_purge_keys(:'org', now());
SELECT pg_temp.fill(:'org', '0');

DROP FUNCTION interfere();
DROP EXTENSION overten_auth;
