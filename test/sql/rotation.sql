--
-- rotation: replacing a key by a new one, so that both are good for a while
--
CREATE EXTENSION overten_auth;
INSERT INTO overten_auth.scopes (name) VALUES ('read'), ('write');
SELECT org_id AS acme FROM overten_create_org('Acme Docs') \gset
SELECT org_id AS other FROM overten_create_org('Other') \gset
CREATE TABLE key (n int, key_id text, secret text);
CREATE VIEW answer AS
	SELECT n, (SELECT count(*) FROM overten_verify_key(secret)) AS good FROM key ORDER BY n;

-- Both keys are good at first, and it says until when the old one is.
INSERT INTO key SELECT 1, key_id, secret FROM overten_mint_key(:'acme', 'production', environment => 'live');
SELECT key_id AS first FROM key \gset
SELECT overten_set_key_details(:'acme', :'first', 'the importer', '{"team": "billing"}');
SELECT key_id AS second, secret AS second_secret, previous_key_id, previous_expires_at, created_at, name, prefix, org_id AS in_org
FROM overten_rotate_key(:'acme', :'first') \gset
INSERT INTO key VALUES (2, :'second', :'second_secret');
SELECT :'second' <> :'first' AS another, :'previous_key_id' = :'first' AS previous, :'in_org' = :'acme' AS org, :'name' AS name,
	:'prefix' = left(:'second_secret', 12) AS prefix, overten_key_checksum_ok(:'second_secret') AS checksum,
	:'previous_expires_at'::timestamptz - :'created_at'::timestamptz AS overlap;
TABLE answer;
SELECT n, name, environment, description, metadata, lineage = :'first' AS lineage, rotated_from = :'first' AS rotated_from,
	expires_at = :'previous_expires_at' AS expires, revoked_at IS NOT NULL AS revoked
FROM key JOIN overten_auth.api_keys USING (key_id) JOIN overten_auth.key_details USING (key_id) ORDER BY n;
SELECT k.n, action, replace(detail, :'second', '(second)') AS detail FROM overten_auth.audit_log JOIN key k USING (key_id)
WHERE action <> 'set_key_details' ORDER BY at;

-- Two keys of a line at most: neither can be rotated while the other is good.
\set VERBOSITY sqlstate
SELECT overten_rotate_key(:'acme', :'first');
SELECT overten_rotate_key(:'acme', :'second');
-- a disabled one can be enabled again
SELECT overten_disable_key(:'acme', :'second');
SELECT overten_rotate_key(:'acme', :'first');
SELECT overten_enable_key(:'acme', :'second');
\set VERBOSITY default
DO $$
DECLARE
	problem text;
	org text := (SELECT org_id FROM overten_auth.api_keys JOIN key USING (key_id) WHERE n = 1);
	old text := (SELECT key_id FROM key WHERE n = 1);
	successor text := (SELECT key_id FROM key WHERE n = 2);
BEGIN
	BEGIN
		PERFORM overten_rotate_key(org, old);
	EXCEPTION WHEN object_not_in_prerequisite_state THEN
		GET STACKED DIAGNOSTICS problem = PG_EXCEPTION_DETAIL;
		RAISE NOTICE '%: %', SQLERRM, replace(problem, successor, '(second)');
	END;
	BEGIN
		PERFORM overten_rotate_key(org, successor);
	EXCEPTION WHEN object_not_in_prerequisite_state THEN
		GET STACKED DIAGNOSTICS problem = PG_EXCEPTION_DETAIL;
		RAISE NOTICE '%: %', SQLERRM, replace(problem, old, '(first)');
	END;
END
$$;
SELECT count(*) FROM overten_auth.api_keys;

-- When the old one has ended, the new one can be rotated.  The line goes on.
UPDATE overten_auth.api_keys SET expires_at = clock_timestamp() WHERE key_id = :'first';
INSERT INTO key SELECT 3, key_id, secret FROM overten_rotate_key(:'acme', :'second', '1 hour');
SELECT key_id AS third FROM key WHERE n = 3 \gset
SELECT n, lineage = :'first' AS lineage, rotated_from = :'second' AS rotated_from FROM key JOIN overten_auth.api_keys USING (key_id) WHERE n = 3;
TABLE answer;
-- If the new one is revoked, the old one can be rotated again.
SELECT overten_revoke_key(:'acme', :'third', 'wrong place');
INSERT INTO key SELECT 4, key_id, secret FROM overten_rotate_key(:'acme', :'second', '1 hour');
SELECT key_id AS fourth FROM key WHERE n = 4 \gset
TABLE answer;

-- Without an overlap, the old one is revoked.
SELECT overten_revoke_key(:'acme', :'second');
INSERT INTO key SELECT 5, key_id, secret FROM overten_rotate_key(:'acme', :'fourth', '0') r WHERE previous_expires_at <= clock_timestamp();
TABLE answer;
SELECT revoked_at IS NOT NULL AS revoked, revoked_by, revoked_reason FROM overten_auth.api_keys WHERE key_id = :'fourth';
SELECT action, detail = (SELECT key_id FROM key WHERE n = 5) AS successor, detail = 'rotated' AS reason FROM overten_auth.audit_log WHERE key_id = :'fourth' ORDER BY at;

-- The new key never gets more than the old one had, nor the old one more time.
CREATE PROCEDURE show_rotation(key_id text, "overlap" interval DEFAULT '24 hours') LANGUAGE plpgsql AS $$
DECLARE
	org text := (SELECT k.org_id FROM overten_auth.api_keys k WHERE k.key_id = $1);
	new text := (SELECT r.key_id FROM overten_rotate_key(org, $1, "overlap") r);
	o record;
	n record;
BEGIN
	SELECT * INTO o FROM overten_auth.api_keys k WHERE k.key_id = $1;
	SELECT * INTO n FROM overten_auth.api_keys k WHERE k.key_id = new;
	RAISE NOTICE '% %, scopes %, addresses %, expires in % h; old in % h', left(n.prefix, -4), n.environment, n.scopes, n.allowed_addresses,
		round(extract(epoch FROM n.expires_at - n.created_at) / 3600), round(extract(epoch FROM o.expires_at - n.created_at) / 3600);
END
$$;
SELECT key_id AS narrow FROM overten_mint_key(:'acme', 'narrow', now() + interval '2 hours', ARRAY['read'], ARRAY['192.0.2.0/24'::cidr], 'test') \gset
-- also if a scope has been taken out of the catalogue since
DELETE FROM overten_auth.scopes WHERE name = 'read';
CALL show_rotation(:'narrow');
SELECT key_id AS none FROM overten_mint_key(:'acme', 'no scopes', scopes => '{}') \gset
CALL show_rotation(:'none', '30 days');
-- A month has 30 days, whatever the calendar says.
SELECT key_id AS months FROM overten_mint_key(:'acme', 'months') \gset
CALL show_rotation(:'months', '12 months -330 days');
SELECT key_id AS late FROM overten_mint_key(:'acme', 'late', now() + interval '100 hours') \gset
CALL show_rotation(:'late', '1 hour');

-- A lifetime that every key has starts anew; an expiry that was chosen stays.
SET overten_auth.max_key_lifetime = '10 d';
SELECT key_id AS common FROM overten_mint_key(:'acme', 'common') \gset
UPDATE overten_auth.api_keys SET created_at = created_at - interval '9 days', expires_at = expires_at - interval '9 days' WHERE key_id = :'common';
CALL show_rotation(:'common');
SELECT key_id AS chosen FROM overten_mint_key(:'acme', 'chosen', now() + interval '9 days') \gset
CALL show_rotation(:'chosen');
RESET overten_auth.max_key_lifetime;
SELECT key_id AS older FROM overten_mint_key(:'acme', 'older than the lifetime', now() + interval '100 days') \gset
SELECT key_id AS endless FROM overten_mint_key(:'acme', 'endless') \gset
SET overten_auth.max_key_lifetime = '10 d';
CALL show_rotation(:'older');
CALL show_rotation(:'endless');
RESET overten_auth.max_key_lifetime;

-- The brand of the new key is today's.
SET overten_auth.key_prefixes = 'acme_, test:acme_test_';
SELECT key_id AS branded FROM overten_auth.api_keys WHERE name = 'endless' AND expires_at > now() + interval '9 days' \gset
UPDATE overten_auth.api_keys SET expires_at = now() WHERE key_id = :'endless';
CALL show_rotation(:'branded');
SET overten_auth.key_prefixes = 'acme_';
SELECT key_id AS test_key FROM overten_auth.api_keys WHERE name = 'narrow' ORDER BY created_at DESC LIMIT 1 \gset
UPDATE overten_auth.api_keys SET revoked_at = now() WHERE key_id = :'narrow';
SELECT overten_rotate_key(:'acme', :'test_key');
RESET overten_auth.key_prefixes;

-- Keys that cannot be rotated
SELECT key_id AS victim FROM overten_mint_key(:'acme', 'victim') \gset
SELECT overten_disable_key(:'acme', :'victim');
SELECT overten_rotate_key(:'acme', :'victim');
SELECT overten_enable_key(:'acme', :'victim');
UPDATE overten_auth.api_keys SET expires_at = clock_timestamp() WHERE key_id = :'victim';
SELECT overten_rotate_key(:'acme', :'victim');
UPDATE overten_auth.api_keys SET revoked_at = now() WHERE key_id = :'victim';
SELECT overten_rotate_key(:'acme', :'victim', '0');
SELECT overten_rotate_key('org_x', 'key_x');
SELECT overten_rotate_key(NULL, :'victim');
SELECT overten_rotate_key(:'acme', NULL);
SELECT overten_rotate_key(:'acme', :'victim', NULL);
SELECT overten_rotate_key(:'acme', :'victim', '-1 microsecond');
SELECT overten_rotate_key(:'acme', :'victim', '30 days 1 second');
SELECT overten_rotate_key(:'acme', :'victim', '1 month 1 second');
SELECT overten_rotate_key(:'acme', :'victim', '178000000 years');
SELECT overten_rotate_key(:'acme', :'victim', '-1 month 30 days -1 microsecond');
SELECT overten_rotate_key(repeat('x', 1000000), :'victim');
\set VERBOSITY sqlstate
SELECT overten_rotate_key(:'other', :'victim');
\set VERBOSITY default

-- A rotation that is rolled back has not been.
SELECT key_id AS kept FROM overten_mint_key(:'acme', 'kept') \gset
BEGIN;
SAVEPOINT before;
SELECT count(*) FROM overten_rotate_key(:'acme', :'kept', '0');
ROLLBACK TO before;
SELECT count(*) FROM overten_rotate_key(:'acme', :'kept', '1 day');
ROLLBACK;
SELECT count(*) FROM overten_auth.api_keys WHERE name = 'kept';
SELECT revoked_at, expires_at FROM overten_auth.api_keys WHERE key_id = :'kept';

-- Who still uses the old key
SELECT * FROM overten_rotation_progress(:'acme', :'kept');
SELECT key_id AS kept2 FROM overten_rotate_key(:'acme', :'kept') \gset
CREATE FUNCTION progress(org_id text, key_id text) RETURNS TABLE (name text, is_new bool, since bool, ends bool, client_addr inet, accepted int8, refused int8, limited int8, used text)
	LANGUAGE sql AS $$
	SELECT CASE p.key_id WHEN k.rotated_from THEN 'old' ELSE 'new' END, p.is_new, p.rotated_at = k.created_at, p.ends_at > now(), p.client_addr, p.accepted, p.refused, p.limited,
		to_char(p.last_used_at - p.rotated_at, 'HH24:MI')
	FROM overten_rotation_progress(org_id, key_id) p, overten_auth.api_keys k
	WHERE k.rotated_from IS NOT NULL AND p.key_id IN (k.key_id, k.rotated_from)
$$;
SELECT * FROM progress(:'acme', :'kept');
UPDATE overten_auth.api_keys SET created_at = date_trunc('hour', now()) - interval '4 hours 30 minutes' WHERE key_id = :'kept2';
INSERT INTO overten_auth.key_usage (key_id, hour, client_addr, accepted, refused, limited, first_used_at, last_used_at)
	SELECT key_id, date_trunc('hour', now()) - h * interval '1 hour', addr, accepted, refused, limited,
		date_trunc('hour', now()) - h * interval '1 hour', date_trunc('hour', now()) - h * interval '1 hour' + minutes * interval '1 minute'
	FROM (VALUES (:'kept', 6, '192.0.2.1'::inet, 99, 0, 0, 59),	-- before
		(:'kept', 5, '192.0.2.1', 50, 0, 0, 29),		-- the hour of the rotation, but before it
		(:'kept', 5, '192.0.2.2', 7, 0, 2, 59),		-- the hour of the rotation
		(:'kept', 3, '192.0.2.2', 5, 0, 3, 10),
		(:'kept', 2, NULL, 1, 4, 0, 20),
		(:'kept2', 4, '192.0.2.2', 9223372036854775807, 0, 9223372036854775807, 10),
		(:'kept2', 3, '192.0.2.2', 9223372036854775807, 0, 9223372036854775807, 10),
		(:'kept2', 1, '2001:db8::/64', 3, 0, 0, 30)) v (key_id, h, addr, accepted, refused, limited, minutes);
SELECT * FROM progress(:'acme', :'kept');
SELECT * FROM progress(:'acme', :'kept2') WHERE is_new;
-- In the middle of a line, it is the last rotation.
SELECT n, is_new, ends_at <= now() AS ended FROM overten_rotation_progress(:'acme', :'fourth') JOIN key USING (key_id) ORDER BY n;
SELECT overten_rotation_progress(:'acme', 'x');
SELECT overten_rotation_progress(NULL, 'x');
SELECT overten_rotation_progress('x', NULL);
\set VERBOSITY sqlstate
SELECT overten_rotation_progress(:'other', :'kept');
\set VERBOSITY default

DROP TABLE key CASCADE;
DROP FUNCTION progress;
DROP PROCEDURE show_rotation;
DROP EXTENSION overten_auth;
