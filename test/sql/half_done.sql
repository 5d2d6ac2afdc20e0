--
-- half_done: an error in the middle leaves nothing half done
--
CREATE EXTENSION overten_auth;
\getenv srcdir PG_ABS_SRCDIR
\set tokens :srcdir '/sql/tokens.inc'
\set ECHO none
\i :tokens
SELECT set_config('test.keys', :'signing_keys', false) IS NOT NULL AS keys, set_config('test.token', :'ada_token', false) IS NOT NULL AS token \gset
\set ECHO all

-- Triggers on every table raise an error when they are told to.
CREATE FUNCTION fail() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	IF current_setting('test.fail', true) = format('%s %s', lower(TG_WHEN), TG_TABLE_NAME) THEN
		RAISE EXCEPTION 'told to fail';
	END IF;
	RETURN coalesce(NEW, OLD);
END
$$;
DO $$
DECLARE
	o record;
BEGIN
	FOR o IN SELECT oid::regclass AS t FROM pg_class WHERE relnamespace = 'overten_auth'::regnamespace AND relkind = 'r' LOOP
		EXECUTE format('CREATE TRIGGER a_fail BEFORE INSERT OR UPDATE OR DELETE ON %s FOR EACH ROW EXECUTE FUNCTION fail()', o.t);
		EXECUTE format('CREATE TRIGGER z_fail AFTER INSERT OR UPDATE OR DELETE ON %s FOR EACH ROW EXECUTE FUNCTION fail()', o.t);
	END LOOP;
END
$$;

-- All that is in the tables.
CREATE FUNCTION content() RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	o record;
	rows text;
	result text := '';
BEGIN
	FOR o IN SELECT oid::regclass AS t FROM pg_class WHERE relnamespace = 'overten_auth'::regnamespace AND relkind = 'r' ORDER BY 1 LOOP
		EXECUTE format('SELECT string_agg(r::text, E''\n'' ORDER BY r::text) FROM %s r', o.t) INTO rows;
		result := result || coalesce(rows, '') || E'\n';
	END LOOP;
	RETURN md5(result);
END
$$;

-- What verification says of a key, by a cached answer or not.
CREATE FUNCTION answers(VARIADIC secrets text[]) RETURNS text[] LANGUAGE plpgsql AS $$
BEGIN
	RETURN ARRAY(SELECT v::text FROM unnest(secrets) secret LEFT JOIN LATERAL overten_verify_key(secret) v ON true);
END
$$;

-- Ada mints a key over HTTP, and repeats that because she has lost the answer.
CREATE FUNCTION mint_twice(org text) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
	PERFORM overten_add_member(org, 'ada'), overten_set_api_access(org, true);
	FOR i IN 1 .. 2 LOOP
		ASSERT 201 = (SELECT status FROM overten_handle_request('POST', format('/api/v1/organizations/%s/api-keys', org),
			json_build_object('authorization', 'Bearer ' || current_setting('test.token'), 'content-type', 'application/json', 'idempotency-key', org), '{"name":"x"}'));
	END LOOP;
END
$$;

CREATE TABLE operation (position int GENERATED ALWAYS AS IDENTITY, name text, sql text);
INSERT INTO operation (name, sql) VALUES
	('create_org', $$SELECT overten_create_org('New')$$),
	('signup, a new org', $$SELECT overten_signup(%2$L, 'New')$$),
	('signup, an existing org', $$SELECT overten_signup(%2$L, NULL, %1$L)$$),
	('set_api_access', $$SELECT overten_set_api_access(%1$L, false)$$),
	('set_tier', $$SELECT overten_set_tier(%1$L, 'pro')$$),
	('rename_org', $$SELECT overten_rename_org(%1$L, 'Renamed')$$),
	('close_org', $$SELECT overten_close_org(org_id) FROM overten_invite(%1$L)$$),
	('invite', $$SELECT overten_invite(%1$L)$$),
	('withdraw_invitation', $$SELECT overten_withdraw_invitation(%1$L, invitation_id) FROM overten_invite(%1$L)$$),
	('accept_invitation', $$SELECT overten_accept_invitation(code, 'eve') FROM overten_invite(%1$L)$$),
	('add_member', $$SELECT overten_add_member(%1$L, 'eve')$$),
	('remove_member', $$SELECT overten_remove_member(%1$L, %2$L)$$),
	('mint_key', $$SELECT overten_mint_key(%1$L)$$),
	('revoke_key', $$SELECT overten_revoke_key(%1$L, %3$L)$$),
	('set_expiry', $$SELECT overten_set_expiry(%1$L, %3$L, '2001-01-01')$$),
	('set_scopes', $$SELECT overten_set_scopes(%1$L, %3$L, '{read}')$$),
	('set_allowed_addresses', $$SELECT overten_set_allowed_addresses(%1$L, %3$L, '{10.0.0.0/8}')$$),
	('disable_key', $$SELECT overten_disable_key(%1$L, %3$L)$$),
	('enable_key', $$SELECT overten_enable_key(%1$L, %3$L) FROM overten_disable_key(%1$L, %3$L)$$),
	('rename_key', $$SELECT overten_rename_key(%1$L, %3$L, 'Renamed')$$),
	('revoke_keys_of', $$SELECT overten_revoke_keys_of(%2$L)$$),
	('a repeated request', $$SELECT mint_twice(%1$L)$$),
	('purge_keys', $$SELECT overten_purge_keys(%1$L, clock_timestamp()) FROM overten_revoke_key(%1$L, %3$L)$$),
	('erase_org', $$SELECT overten_erase_org(%1$L) FROM overten_close_org(%1$L)$$),
	('erase_person', $$SELECT overten_erase_person(%2$L)$$),
	('rotate_key', $$SELECT overten_rotate_key(%1$L, %3$L, '0')$$),
	('set_key_details', $$SELECT overten_set_key_details(%1$L, %3$L, 'x', '{}')$$),
	('revoke_leaked', $$SELECT overten_revoke_leaked(%4$L, NULL, true)$$),
	('revoke_all', $$SELECT overten_revoke_all(%1$L, NULL, true)$$),
	('import_key', $$SELECT overten_import_key(%1$L, 'x', sha256(%2$L), 'sk_live_0000')$$),
	('import_keys', $$SELECT overten_import_keys(array_agg(%1$L::text), array_agg('x'::text), array_agg(sha256((%2$L || i)::bytea)), array_agg('sk_live_0000'::text))
		FROM generate_series(1, 50) i$$),
	('rotate_webhook_secret', $$SELECT overten_rotate_webhook_secret(%1$L)$$),
	('spend', $$SELECT overten_grant(%1$L, 10), overten_spend(%1$L, 1, 'request')$$),
	('settle', $$SELECT overten_grant(%1$L, 10), overten_hold(%1$L, 4, 'one'), overten_hold(%1$L, 4, 'two'), overten_settle(%1$L, 1, 'one'), overten_release(%1$L, 'two')$$),
	('reseal', $$SELECT overten_reseal()$$),
	('load_signing_keys', $$SELECT overten_load_signing_keys(replace(current_setting('test.keys'), '"regress"', '"another"')::json)$$);
INSERT INTO overten_auth.tiers VALUES ('pro', false);
INSERT INTO overten_auth.scopes VALUES ('read');
SET overten_auth.firebase_project_id = 'overten-test';
SELECT overten_load_signing_keys(current_setting('test.keys')::json);
-- Two master keys, which change places before each reseal.
COPY (SELECT encode(sha256(gen_random_uuid()::text::bytea), 'base64')) TO PROGRAM 'umask 077; cat - overten_auth.key >new.key && mv new.key overten_auth.key';

-- Each operation, with an error before or after a row of each table is written:
-- where it fails, and whether that changed anything.  What succeeds is undone,
-- as an error after it would do, and then committed around, too.
CREATE PROCEDURE try_all() LANGUAGE plpgsql AS $$
DECLARE
	o record;
	place text;
	org text;
	uid text;
	key text;
	secrets text[];
	old_content text;
	old_answers text[];
	failed_at text[];
	number int := 0;
BEGIN
	FOR o IN SELECT * FROM operation ORDER BY position LOOP
		failed_at := '{}';
		number := number + 1;
		uid := 'person' || number;
		org := (overten_create_org('Org ' || number)).org_id;
		PERFORM overten_add_member(org, uid), overten_add_member(org, 'another');
		SELECT m.key_id, ARRAY[m.secret] INTO key, secrets FROM overten_mint_key(org) m;
		secrets := secrets || (overten_mint_key(org)).secret;
		-- Something of the key and the person in each table.
		UPDATE overten_auth.api_keys SET created_by = uid WHERE key_id = key;
		PERFORM overten_set_key_details(org, key, 'Details', '{}');
		INSERT INTO overten_auth.key_usage VALUES (key, '2020-01-01', '10.0.0.1', 1, 0, '2020-01-01', '2020-01-01');
		INSERT INTO overten_auth.idempotency_keys (uid, name_digest, fingerprint, first_at, last_at, org_id, key_id)
		VALUES (uid, sha256('name'), sha256('request'), now(), now(), org, key);
		INSERT INTO overten_auth.invitations (invitation_id, org_id, digest, created_by, expires_at)
		VALUES (org, org, sha256(org::bytea), uid, '2101-01-01');
		IF o.name = 'reseal' THEN
			COPY (SELECT) TO PROGRAM 'umask 077; cat >/dev/null; tac overten_auth.key >new.key && mv new.key overten_auth.key';
		END IF;
		FOREACH place IN ARRAY ARRAY(SELECT format('%s %s', w, relname) FROM pg_class, unnest(ARRAY['before', 'after']) w
			WHERE relnamespace = 'overten_auth'::regnamespace AND relkind = 'r' ORDER BY relname, w DESC) || 'nowhere'::text LOOP
			COMMIT;
			old_content := content();
			old_answers := answers(VARIADIC secrets);
			BEGIN
				PERFORM set_config('test.fail', place, true);
				EXECUTE format(o.sql, org, uid, key, secrets[1]);
				IF content() = old_content THEN
					RAISE WARNING '%: it did nothing', o.name;
				END IF;
				RAISE SQLSTATE 'UNDO0';
			EXCEPTION
				WHEN raise_exception THEN
					failed_at := failed_at || place;
				WHEN SQLSTATE 'UNDO0' THEN
					NULL;
			END;
			FOR i IN 1 .. 2 LOOP
				IF content() <> old_content OR answers(VARIADIC secrets) <> old_answers THEN
					RAISE WARNING '%, %: half done', o.name, place;
				END IF;
				COMMIT;
			END LOOP;
		END LOOP;
		RAISE INFO '%: failed %', o.name, array_to_string(failed_at, ', ');
	END LOOP;
END
$$;
SET overten_auth.record_use_without_preload = off;
\set SHOW_CONTEXT never
SET client_min_messages = warning;
CALL try_all();
RESET client_min_messages;

-- Without a handler the transaction ends; nothing of it stays, and the session
-- goes on.
SELECT org_id FROM overten_create_org('Acme') \gset
SELECT key_id, secret FROM overten_mint_key(:'org_id') \gset
SELECT content() AS before \gset
SET test.fail = 'after audit_log';
SELECT overten_mint_key(:'org_id');
SELECT overten_revoke_key(:'org_id', :'key_id');
BEGIN;
SELECT overten_revoke_leaked(:'secret');
SELECT overten_revoke_all(:'org_id');
COMMIT;
RESET test.fail;
SELECT content() = :'before' AS as_before, EXISTS (SELECT FROM overten_verify_key(:'secret')) AS accepted, count(*) AS locks
FROM pg_locks WHERE pid = pg_backend_pid() AND relation::regclass::text LIKE 'overten_auth.%';
-- Recording a use is no reason to refuse a key, but fails with its transaction.
SET overten_auth.record_use_without_preload = on;
SET test.fail = 'after key_last_used';
SELECT EXISTS (SELECT FROM overten_verify_key(:'secret')) AS accepted;
RESET test.fail;
SELECT EXISTS (SELECT FROM overten_verify_key(:'secret')) AS accepted;

DROP EXTENSION overten_auth CASCADE;
DROP PROCEDURE try_all;
DROP FUNCTION fail, content, answers, mint_twice;
DROP TABLE operation;
