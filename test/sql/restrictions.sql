--
-- restrictions: expiry, disabling, scopes and allowed addresses of keys
--
CREATE EXTENSION overten_auth;
SELECT org_id AS acme FROM overten_create_org('Acme') \gset
SELECT org_id AS other FROM overten_create_org('Umbrella') \gset
INSERT INTO overten_auth.scopes (name, description, self_service) VALUES
	('documents:read', 'Read documents', true), ('documents:write', 'Write documents', true),
	('admin', 'Everything that operators do', false), (repeat('s', 64), '', true);

-- Nothing is restricted by default: the row is as it was, to the byte.
SELECT key_id, secret FROM overten_mint_key(:'acme') \gset
SELECT expires_at, disabled_at, scopes, allowed_addresses FROM overten_auth.api_keys;
SELECT key_id = :'key_id' AS key, org_name FROM overten_verify_key(:'secret');

-- What is asked of a key that is refused: no function has a row for it.  The
-- cache is full of it before, and the transaction has its snapshot.
CREATE FUNCTION accepted(secret text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	by_secret int := (SELECT count(*) FROM overten_verify_key(secret));
	by_digest int := (SELECT count(*) FROM overten_verify_key_digest(sha256(secret::bytea)));
	identity int := (SELECT count(*) FROM overten_authenticate(secret));
	remembered int := (overten_current_key() IS NOT NULL)::int;
BEGIN
	RETURN CASE WHEN ARRAY[by_secret, by_digest, identity, remembered] = '{1,1,1,1}' THEN 'yes'
		WHEN ARRAY[by_secret, by_digest, identity, remembered] = '{0,0,0,0}' THEN 'no'
		ELSE format('%s %s %s %s', by_secret, by_digest, identity, remembered) END;
END
$$;
CREATE FUNCTION status(bearer text) RETURNS int LANGUAGE sql AS
	$$SELECT status FROM overten_handle_request('GET', '/api/v1/verify',
		json_build_object('authorization', 'Bearer ' || bearer), NULL::bytea)$$;
CREATE FUNCTION status(bearer text, seen text, forwarded text DEFAULT NULL) RETURNS text LANGUAGE sql AS
	$$SELECT status || coalesce(' ' || (body::json #>> '{error,code}'), '') FROM overten_handle_request('GET', '/api/v1/verify',
		json_strip_nulls(json_build_object('authorization', 'Bearer ' || bearer,
			'x-overten-client-addr', seen, 'x-forwarded-for', forwarded)), NULL::bytea)$$;
SELECT accepted(:'secret'), status(:'secret');


-- Expiry

-- Verifies until the key is refused.  Each answer must be right by the clock
-- before and after it: the bound is exclusive, and counts on cache hits.
CREATE FUNCTION follow_to_end(secret text, expires_at timestamptz) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	hits int := 0;
	before timestamptz;
	is_accepted bool;
BEGIN
	LOOP
		before := clock_timestamp();
		is_accepted := EXISTS (SELECT FROM overten_verify_key(secret));
		IF NOT is_accepted THEN
			RETURN CASE WHEN clock_timestamp() < expires_at THEN 'refused too early'
				WHEN hits < 10 THEN 'hardly accepted' ELSE 'accepted, then refused' END;
		ELSIF before >= expires_at THEN
			RETURN 'accepted too late';
		END IF;
		hits := hits + 1;
	END LOOP;
END
$$;
SELECT key_id AS short_key, secret AS short FROM overten_mint_key(:'acme', 'short', clock_timestamp() + '300 ms') \gset
SELECT follow_to_end(:'short', expires_at) FROM overten_auth.api_keys WHERE key_id = :'short_key';
SELECT accepted(:'short'), status(:'short');
-- Without the cache,
SELECT overten_set_expiry(:'acme', :'short_key', clock_timestamp() + '1 s');
SET overten_auth.cache_entries = 0;
SELECT follow_to_end(:'short', expires_at) FROM overten_auth.api_keys WHERE key_id = :'short_key';
RESET overten_auth.cache_entries;
-- and in a transaction whose snapshot and time are older.
SELECT overten_set_expiry(:'acme', :'short_key', clock_timestamp() + '200 ms');
BEGIN ISOLATION LEVEL REPEATABLE READ;
SELECT expires_at > now() AS valid_for_now, follow_to_end(:'short', expires_at)
FROM overten_auth.api_keys WHERE key_id = :'short_key';
SELECT expires_at > now() AS valid_for_now, accepted(:'short') FROM overten_auth.api_keys WHERE key_id = :'short_key';
SELECT r.status, f.status FROM overten_key_restrictions(:'acme', :'short_key') r JOIN overten_find_keys(:'acme') f USING (key_id);
COMMIT;
-- The bound itself is refused.  A clock that counts microseconds meets it in some
-- of many trials.
CREATE PROCEDURE meet_bound(key text, sha256 bytea, INOUT late int8) LANGUAGE plpgsql AS $$
DECLARE
	bound timestamptz;
BEGIN
	FOR i IN 1 .. 40 LOOP
		bound := clock_timestamp() + '5 ms';
		UPDATE overten_auth.api_keys SET expires_at = bound WHERE key_id = key;
		COMMIT;
		late := late + (
			SELECT count(*) FROM (
				SELECT clock_timestamp() AS before,
					EXISTS (SELECT FROM overten_verify_key_digest(CASE WHEN n > 0 THEN sha256 END)) AS is_accepted
				FROM generate_series(1, 8000) n OFFSET 0) trial
			WHERE is_accepted AND before >= bound);
		COMMIT;
	END LOOP;
	PERFORM pg_sleep(0.01);
END
$$;
SET overten_auth.record_use_without_preload = off;
CALL meet_bound(:'short_key', sha256(:'short'), 0);
RESET overten_auth.record_use_without_preload;
-- An expired key is listed, described and counted as before, and can be revived.
SELECT count(*) FROM overten_list_keys(:'acme') WHERE key_id = :'short_key' AND revoked_at IS NULL;
SELECT name, revoked_at FROM overten_describe_key(:'acme', :'short_key');
SELECT name, status FROM overten_key_restrictions(:'acme');
SELECT overten_set_expiry(:'acme', :'short_key', 'now'::timestamptz + '1 hour'), accepted(:'short');
SELECT overten_set_expiry(:'acme', :'short_key', '2001-02-03'), accepted(:'short');
SELECT overten_set_expiry(:'acme', :'short_key', NULL), accepted(:'short');
SELECT overten_set_expiry(:'acme', :'short_key', NULL) AS again;
-- A rollback takes it back, and other sessions never see it.
BEGIN;
SELECT accepted(:'short');
SAVEPOINT s;
SELECT overten_set_expiry(:'acme', :'short_key', '2001-02-03'), accepted(:'short');
ROLLBACK TO s;
SELECT accepted(:'short');
COMMIT;
SELECT accepted(:'short');

-- Values that are refused.
\set VERBOSITY sqlstate
SELECT overten_mint_key(:'acme', 'past', expires_at => clock_timestamp());
SELECT overten_mint_key(:'acme', 'past', expires_at => '-infinity');
SELECT overten_mint_key(:'acme', 'infinite', expires_at => 'infinity');
SELECT overten_set_expiry(:'acme', :'short_key', 'infinity');
SELECT overten_set_expiry(:'acme', :'short_key', '-infinity');
SELECT overten_set_expiry(:'other', :'short_key', '2101-01-01');
SELECT overten_set_expiry(:'acme', :'acme', '2101-01-01');
SELECT overten_set_expiry(:'acme', $$' OR true --$$, '2101-01-01');
SELECT overten_set_expiry(:'acme', repeat('x', 1000000), '2101-01-01');
SELECT overten_set_expiry(:'acme', '', '2101-01-01');
SELECT overten_set_expiry(NULL, :'short_key', '2101-01-01');
SELECT overten_set_expiry(:'acme', NULL, '2101-01-01');
\set VERBOSITY default
SELECT overten_mint_key(:'acme', 'past', expires_at => '2001-01-01');
SELECT overten_set_expiry(:'acme', :'short_key', 'infinity');
SELECT overten_set_expiry(:'acme', :'short_key', '10000-01-01 00:00+00');
SELECT overten_set_expiry(:'acme', :'short_key', '1969-12-31 23:59:59.999999+00');
SELECT overten_set_expiry(:'acme', :'short_key', '0044-03-15 BC');
SELECT overten_mint_key(:'acme', 'late', expires_at => '10000-01-01 00:00+00');
BEGIN;
SELECT overten_set_expiry(:'acme', :'short_key', '9999-12-31 23:59:59.999999+00'), overten_set_expiry(:'acme', :'short_key', '1970-01-01 00:00+00');
ROLLBACK;

-- A longest lifetime: minting without an expiry, and signing up, get it.
SET overten_auth.max_key_lifetime = '90d';
SELECT key_id AS by_default FROM overten_mint_key(:'acme') \gset
SELECT key_id AS signed_up FROM overten_signup('ada', 'Signed up') \gset
SELECT expires_at - created_at AS lifetime FROM overten_auth.api_keys WHERE key_id IN (:'by_default', :'signed_up');
SELECT key_id AS limited FROM overten_mint_key(:'acme', 'limited', now() + '89 days') \gset
SELECT expires_at < created_at + '90 days' AS as_asked FROM overten_auth.api_keys WHERE key_id = :'limited';
SELECT overten_mint_key(:'acme', 'long', now() + '91 days');
SELECT overten_set_expiry(:'acme', :'limited', now() + '91 days');
SELECT overten_set_expiry(:'acme', :'limited', NULL);
SELECT overten_set_expiry(:'acme', :'limited', now() + '89.5 days');
-- An older key keeps what it has; an end that comes sooner is always right.
SELECT expires_at FROM overten_auth.api_keys WHERE key_id = :'short_key';
UPDATE overten_auth.api_keys SET created_at = '2001-01-01' WHERE key_id = :'short_key';
SELECT overten_set_expiry(:'acme', :'short_key', NULL) AS still_never;
SELECT overten_set_expiry(:'acme', :'short_key', '2101-01-01') AS sooner;
SELECT overten_set_expiry(:'acme', :'short_key', '2101-01-02') AS later;
RESET overten_auth.max_key_lifetime;
SELECT overten_set_expiry(:'acme', :'short_key', NULL) AS never;


-- Disabling

SELECT accepted(:'secret');
SELECT overten_disable_key(:'acme', :'key_id', '  odd traffic '), accepted(:'secret'), status(:'secret');
SELECT overten_disable_key(:'acme', :'key_id', 'again') AS again;
SELECT status, disabled_at IS NOT NULL AS disabled, disabled_by, disabled_reason
FROM overten_key_restrictions(:'acme', :'key_id');
SELECT overten_enable_key(:'acme', :'key_id'), accepted(:'secret'), status(:'secret');
SELECT overten_enable_key(:'acme', :'key_id') AS again;
SELECT status, disabled_at, disabled_by, disabled_reason FROM overten_key_restrictions(:'acme', :'key_id');
-- In an old snapshot,
BEGIN ISOLATION LEVEL REPEATABLE READ;
SELECT accepted(:'secret');
SELECT overten_disable_key(:'acme', :'key_id'), accepted(:'secret');
COMMIT;
SELECT accepted(:'secret'), overten_enable_key(:'acme', :'key_id'), accepted(:'secret');
-- What a person has disabled, the application takes over.
UPDATE overten_auth.api_keys SET disabled_at = '2001-01-01', disabled_by = 'ada', disabled_reason = 'mine' WHERE key_id = :'key_id';
SELECT overten_disable_key(:'acme', :'key_id', 'ours') AS taken_over, accepted(:'secret');
SELECT disabled_at = '2001-01-01' AS first_time, disabled_by, disabled_reason FROM overten_key_restrictions(:'acme', :'key_id');
SELECT overten_disable_key(:'acme', :'key_id', 'again') AS again;
SELECT overten_enable_key(:'acme', :'key_id');
\set VERBOSITY sqlstate
SELECT overten_disable_key(:'other', :'key_id');
SELECT overten_enable_key(:'other', :'key_id');
SELECT overten_disable_key(:'acme', NULL);
SELECT overten_enable_key(NULL, :'key_id');
SELECT overten_disable_key(:'acme', :'key_id', '');
SELECT overten_disable_key(:'acme', :'key_id', repeat('x', 201));
SELECT overten_disable_key(:'acme', :'key_id', U&'\202E');
UPDATE overten_auth.api_keys SET disabled_by = 'nobody' WHERE key_id = :'key_id';
\set VERBOSITY default


-- Scopes

SELECT key_id AS reader, secret AS reader_secret
FROM overten_mint_key(:'acme', 'reader', scopes => '{documents:write,documents:read,documents:write}') \gset
SELECT key_id AS nothing, secret AS nothing_secret FROM overten_mint_key(:'acme', 'nothing', scopes => '{}') \gset
SELECT name, scopes FROM overten_key_restrictions(:'acme') WHERE scopes IS NOT NULL;
-- Who only verifies does not hear of them, unless it says that it looks after them.
SELECT accepted(:'reader_secret'), status(:'reader_secret');
SELECT accepted(:'nothing_secret'), status(:'nothing_secret');
SET overten_auth.verify_restricted = on;
SELECT accepted(:'reader_secret'), status(:'reader_secret');
SELECT accepted(:'nothing_secret'), status(:'nothing_secret');
-- For policies.
CREATE FUNCTION scopes_of(secret text) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
	PERFORM overten_authenticate(secret);
	RETURN (SELECT string_agg(name, ' ' ORDER BY name) FROM unnest(ARRAY['documents:read', 'documents:write', 'documents',
		'documents:read ', 'DOCUMENTS:READ', 'admin', '', '*', $s$' OR true --$s$, repeat('s', 64), repeat('s', 65),
		repeat('documents:read', 100000), NULL]) name WHERE overten_has_scope(name));
END
$$;
SELECT scopes_of(:'reader_secret');
SELECT scopes_of(:'nothing_secret');
SELECT scopes_of(:'secret');
SELECT scopes_of('sk_live_00000000000000000000000K3vO8');
SELECT overten_has_scope('documents:read') AS without_identity;
BEGIN;
SELECT count(*) FROM overten_authenticate(:'reader_secret');
SAVEPOINT s;
SELECT count(*) FROM overten_authenticate(:'nothing_secret');
SELECT overten_has_scope('documents:read'), overten_current_key() = :'nothing' AS nothing;
ROLLBACK TO s;
SELECT overten_has_scope('documents:read'), overten_has_scope('admin'), overten_has_scope(NULL);
-- A change counts from the next verification on.
SELECT overten_set_scopes(:'acme', :'reader', '{admin}'), overten_has_scope('admin');
SELECT count(*) FROM overten_authenticate(:'reader_secret');
SELECT overten_has_scope('documents:read'), overten_has_scope('admin');
RELEASE s;
COMMIT;
SELECT overten_has_scope('admin');
SELECT scopes_of(:'reader_secret');
SELECT overten_set_scopes(:'acme', :'reader', '{admin}') AS again;
SELECT overten_set_scopes(:'acme', :'reader', '{admin,admin}') AS again;
SELECT overten_set_scopes(:'acme', :'reader', NULL), scopes_of(:'reader_secret');
SELECT overten_set_scopes(:'acme', :'reader', '{}'), scopes_of(:'reader_secret');
RESET overten_auth.verify_restricted;
SELECT accepted(:'reader_secret');
-- What is in the catalogue, and no more.
SELECT overten_set_scopes(:'acme', :'reader', '{unknown}');
SELECT overten_set_scopes(:'acme', :'reader', '{documents:*}');
\set VERBOSITY sqlstate
SELECT overten_mint_key(:'acme', 'x', scopes => '{unknown}');
SELECT overten_mint_key(:'acme', 'x', scopes => '{NULL}');
SELECT overten_mint_key(:'acme', 'x', scopes => '{""}');
SELECT overten_mint_key(:'acme', 'x', scopes => '{{admin},{admin}}');
SELECT overten_mint_key(:'acme', 'x', scopes => array_fill('admin'::text, ARRAY[65]));
SELECT overten_mint_key(:'acme', 'x', scopes => array_fill('admin'::text, ARRAY[1000000]));
SELECT overten_mint_key(:'acme', 'x', scopes => ARRAY[repeat('s', 1000000)]);
SELECT overten_mint_key(:'acme', 'x', scopes => ARRAY[$$'); DROP TABLE overten_auth.scopes --$$]);
SELECT overten_set_scopes(:'other', :'reader', '{admin}');
SELECT overten_set_scopes(:'acme', NULL, '{admin}');
INSERT INTO overten_auth.scopes (name) VALUES ('');
INSERT INTO overten_auth.scopes (name) VALUES ('-a');
INSERT INTO overten_auth.scopes (name) VALUES ('A');
INSERT INTO overten_auth.scopes (name) VALUES (E'a\n');
INSERT INTO overten_auth.scopes (name) VALUES ('a b');
INSERT INTO overten_auth.scopes (name) VALUES (repeat('s', 65));
UPDATE overten_auth.api_keys SET scopes = '{NULL}' WHERE key_id = :'reader';
\set VERBOSITY default
SELECT count(*) FROM overten_mint_key(:'acme', 'many', scopes => array_fill('admin'::text, ARRAY[64]));
SELECT count(*) FROM overten_auth.scopes;


-- Allowed addresses

SELECT key_id AS near, secret AS near_secret FROM overten_mint_key(:'acme', 'near', allowed_addresses =>
	'{10.1.0.0/16,192.0.2.7,2001:db8:0:1::/64,2001:db8:0:2::9,::ffff:198.51.100.0/120,10.1.0.0/16,10.0.0.0/7}') \gset
SELECT allowed_addresses FROM overten_key_restrictions(:'acme', :'near');
-- HTTP knows the client's address.  The whole of it decides.
SELECT addr, status(:'near_secret', addr) FROM unnest(ARRAY['10.1.2.3', '11.255.255.255', '12.0.0.0', '9.255.255.255',
	'192.0.2.7', '192.0.2.6', '198.51.100.255', '198.51.101.0', '::ffff:192.0.2.7', '::ffff:c000:207', '::192.0.2.7',
	'2001:db8:0:1::', '2001:db8:0:1:ffff:ffff:ffff:ffff', '2001:db8:0:2::9', '2001:db8:0:2::8', '2001:DB8::2:0:0:0:9',
	'[2001:db8:0:2::9]:443', '192.0.2.7:80', '192.0.2.7, 192.0.2.7', '192.0.2.07', 'unknown', '', NULL]) addr;
SELECT status(:'secret', NULL), status(:'secret', 'unknown'), status(:'secret', '203.0.113.9');
-- In SQL it is the session's, which has none here; so the setting does not help.
SELECT accepted(:'near_secret');
SET overten_auth.verify_restricted = on;
SELECT accepted(:'near_secret'), status(:'near_secret', '192.0.2.7'), status(:'near_secret', '192.0.2.8');
RESET overten_auth.verify_restricted;
SELECT overten_set_allowed_addresses(:'acme', :'near', '{0.0.0.0/0}'), status(:'near_secret', '203.0.113.9'), status(:'near_secret', '::1'), status(:'near_secret', '');
SELECT overten_set_allowed_addresses(:'acme', :'near', '{::/0}'), status(:'near_secret', '203.0.113.9'), status(:'near_secret', '::1'), status(:'near_secret', '');
SELECT overten_set_allowed_addresses(:'acme', :'near', '{::/0}') AS again;
SELECT overten_set_allowed_addresses(:'acme', :'near', NULL), status(:'near_secret', '203.0.113.9'), status(:'near_secret', NULL);
-- The most that there can be: too much for a slot of a cache of all sessions.
SELECT overten_set_allowed_addresses(:'acme', :'near', array_agg(format('2001:db8::%s', n)::cidr)) FROM generate_series(1, 64) n;
SELECT status(:'near_secret', '2001:db8::64'), status(:'near_secret', '2001:db8::65'), status(:'near_secret', '2001:db8::1');
SELECT overten_set_allowed_addresses(:'acme', :'near', '{}');
\set VERBOSITY sqlstate
SELECT overten_set_allowed_addresses(:'acme', :'near', array_agg(format('2001:db8::%s', n)::cidr)) FROM generate_series(1, 65) n;
SELECT overten_set_allowed_addresses(:'acme', :'near', '{NULL}');
SELECT overten_set_allowed_addresses(:'acme', :'near', '{{10.0.0.0/8},{11.0.0.0/8}}');
SELECT overten_set_allowed_addresses(:'acme', :'near', '{10.0.0.1/8}');
SELECT overten_set_allowed_addresses(:'other', :'near', '{10.0.0.0/8}');
SELECT overten_mint_key(:'acme', 'x', allowed_addresses => '{}');
UPDATE overten_auth.api_keys SET allowed_addresses = '{}' WHERE key_id = :'near';
\set VERBOSITY default
-- A mapped network that got into the table by itself means the same.
UPDATE overten_auth.api_keys SET allowed_addresses = '{::ffff:192.0.2.0/120}' WHERE key_id = :'near';
SELECT status(:'near_secret', '192.0.2.200'), status(:'near_secret', '192.0.3.1');

-- Whom a list would lock out, by the last 30 days of the history.
INSERT INTO overten_auth.key_usage (key_id, hour, client_addr, accepted, refused, first_used_at, last_used_at)
SELECT :'near', date_trunc('hour', at, 'UTC'), client_addr, accepted, refused, at, at
FROM (VALUES (now() - '1 hour'::interval, '192.0.2.7'::inet, 5, 0), (now() - '2 hours'::interval, '192.0.2.7', 6, 0),
	(now() - '29 days'::interval, '203.0.113.9', 3, 0), (now() - '31 days'::interval, '203.0.113.10', 100, 0),
	(now() - '1 day'::interval, '203.0.113.11', 0, 50), (now() - '1 day'::interval, NULL, 2, 0),
	(now() - '1 day'::interval, '2001:db8:0:1::/64', 7, 0), (now() - '1 day'::interval, '2001:db8:0:2::/64', 8, 0)
	) v (at, client_addr, accepted, refused);
SELECT client_addr, accepted, last_used_at < now() AS used, outcome
FROM overten_check_addresses(:'acme', :'near', '{::ffff:192.0.2.0/120,2001:db8:0:1::5,2001:db8:0:2::/64}');
SELECT client_addr, accepted, outcome FROM overten_check_addresses(:'acme', :'near', '{0.0.0.0/0,::/0}');
SELECT client_addr, accepted, outcome FROM overten_check_addresses(:'acme', :'near', '{10.0.0.0/8}');
SELECT * FROM overten_check_addresses(:'acme', :'near', NULL);
\set VERBOSITY sqlstate
SELECT overten_check_addresses(:'acme', :'near', '{}');
SELECT overten_check_addresses(:'other', :'near', '{10.0.0.0/8}');
SELECT overten_check_addresses(NULL, :'near', '{10.0.0.0/8}');
SELECT overten_key_restrictions(:'other', :'near');
SELECT overten_key_restrictions('org_none');
SELECT overten_key_restrictions(NULL);
\set VERBOSITY default


-- What comes first: revoked, expired, disabled.  A revocation is final, and
-- reaches keys that are expired and disabled.
SELECT overten_set_expiry(:'acme', :'near', '2001-01-01'), overten_disable_key(:'acme', :'near');
SELECT status FROM overten_key_restrictions(:'acme', :'near');
SELECT overten_revoke_leaked(:'near_secret');
SELECT status FROM overten_key_restrictions(:'acme', :'near');
SELECT overten_disable_key(:'acme', :'short_key'), overten_set_expiry(:'acme', :'reader', '2001-01-01');
SELECT count(*) > 0 AS some FROM overten_auth.api_keys WHERE org_id = :'acme' AND revoked_at IS NULL;
SELECT overten_revoke_all(:'acme') > 0 AS some;
SELECT count(*) FROM overten_auth.api_keys WHERE org_id = :'acme' AND revoked_at IS NULL;
SELECT overten_enable_key(:'acme', :'short_key');
\set VERBOSITY sqlstate
SELECT overten_disable_key(:'acme', :'short_key');
SELECT overten_set_expiry(:'acme', :'short_key', NULL);
SELECT overten_set_scopes(:'acme', :'short_key', '{admin}');
SELECT overten_set_allowed_addresses(:'acme', :'short_key', NULL);
\set VERBOSITY default
SELECT accepted(:'short'), accepted(:'near_secret'), accepted(:'reader_secret');

-- The audit log has who did what.
SELECT action, actor = session_user AS actor, uid, regexp_replace(detail, '^20[2-9].*T.*[+]00:00$', 'in this century') AS detail
FROM overten_auth.audit_log
WHERE action IN ('set_expiry', 'disable_key', 'enable_key', 'set_scopes', 'set_allowed_addresses')
	AND length(detail) < 200 IS NOT FALSE
ORDER BY at;
DROP EXTENSION overten_auth;
DROP PROCEDURE meet_bound;
DROP FUNCTION accepted, follow_to_end, scopes_of, status(text), status(text, text, text);
