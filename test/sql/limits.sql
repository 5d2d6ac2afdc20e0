--
-- limits: setting rate limits, and asking whether a request may go on
--
-- The library is not preloaded here, so a key with limits gets an error.
--
\set SHOW_CONTEXT never
\set VERBOSITY terse
CREATE EXTENSION overten_auth;
INSERT INTO overten_auth.tiers VALUES ('pro');
SELECT org_id FROM overten_create_org('Limited') \gset
SELECT org_id AS other FROM overten_create_org('Other', 'pro') \gset
SELECT key_id, secret FROM overten_mint_key(:'org_id') \gset
SELECT secret AS other_secret, key_id AS other_key FROM overten_mint_key(:'other') \gset

CREATE FUNCTION readable(value text) RETURNS text LANGUAGE sql AS $$
	SELECT regexp_replace(replace(value, (SELECT org_id FROM overten_auth.orgs WHERE name = 'Limited'), 'org_limited'),
		'(org|key)_[0-9A-Za-z]{20}', '\1_...', 'g') $$;

-- A key without limits
SELECT outcome, key_id = :'key_id' AS same, org_name, tier, environment, scopes, limit_name, quota, remaining, retry_after, reset_after
FROM overten_admission(:'secret');
SELECT key_id = :'key_id' AS same, tier FROM overten_admit(:'secret');
SELECT count(*) FROM overten_admit(:'secret', 0);
SELECT count(*) FROM overten_admit(:'secret', 1000000000);

-- What is no key is a row only from overten_admission.
SELECT * FROM overten_admission(NULL);
SELECT * FROM overten_admission('no key');
SELECT * FROM overten_admission(repeat('x', 1000000));
SELECT outcome FROM overten_admission('sk_live_' || repeat('A', 28));
SELECT count(*) FROM overten_admit(NULL);
SELECT count(*) FROM overten_admit('sk_live_' || repeat('A', 28));

-- Bad arguments
SELECT * FROM overten_admit(:'secret', -1);
SELECT * FROM overten_admit(:'secret', 1000000001);
SELECT * FROM overten_admit(:'secret', NULL);
SELECT * FROM overten_admit(:'secret', client_addr => '192.0.2.0/24');
SELECT * FROM overten_admission(:'secret', client_addr => '2001:db8::/64');
SELECT overten_charge(NULL, 1);
SELECT overten_charge(:'key_id', NULL);
SELECT overten_charge(:'key_id', -1);
SELECT overten_charge('key_00000000000000000000', 1);
SELECT overten_charge(:'secret', 1);

-- Each outcome
INSERT INTO overten_auth.scopes VALUES ('read'), ('write');
SELECT overten_set_scopes(:'org_id', :'key_id', '{read}');
SELECT outcome, scopes FROM overten_admission(:'secret', scopes => '{read}');
SELECT outcome, scopes FROM overten_admission(:'secret', scopes => '{read,write}');
SELECT count(*) FROM overten_admit(:'secret', scopes => '{write}');
SELECT count(*) FROM overten_admit(:'secret', scopes => '{NULL}');
SELECT count(*) FROM overten_admit(:'secret');
SELECT overten_set_allowed_addresses(:'org_id', :'key_id', '{192.0.2.0/24,2001:db8::/32}');
SELECT outcome FROM overten_admission(:'secret', client_addr => '192.0.2.7');
SELECT outcome FROM overten_admission(:'secret', client_addr => '::ffff:192.0.2.7');
SELECT outcome FROM overten_admission(:'secret', client_addr => '2001:db8::7');
SELECT outcome FROM overten_admission(:'secret', client_addr => '198.51.100.7');
SELECT outcome FROM overten_admission(:'secret');
SELECT overten_set_allowed_addresses(:'org_id', :'key_id', NULL);
SELECT overten_set_scopes(:'org_id', :'key_id', NULL);
SELECT overten_disable_key(:'org_id', :'key_id');
SELECT outcome, key_id = :'key_id' AS same FROM overten_admission(:'secret');
SELECT overten_enable_key(:'org_id', :'key_id');
SELECT overten_set_expiry(:'org_id', :'key_id', now() - interval '1 second');
SELECT outcome FROM overten_admission(:'secret');
SELECT overten_set_expiry(:'org_id', :'key_id', NULL);
SELECT overten_set_api_access(:'org_id', false);
SELECT * FROM overten_admission(:'secret');
SELECT overten_set_api_access(:'org_id', true);
SELECT outcome, environment FROM overten_admission((SELECT secret FROM overten_mint_key(:'org_id', environment => 'test')));
SET overten_auth.accept_test_keys = on;
SELECT outcome, environment FROM overten_admission((SELECT secret FROM overten_mint_key(:'org_id', 'Test', environment => 'test')));
RESET overten_auth.accept_test_keys;

-- Setting limits
SELECT overten_set_limit('tier', 'free', 'per_minute', 60, '1 minute', shadow => true);
SELECT overten_set_limit('tier', 'free', 'per_minute', 60, '60 seconds', 60, 'key', true);
SELECT overten_set_limit('tier', 'free', 'per_minute', 60, '1 minute', 10, shadow => true);
SELECT overten_set_limit('org', :'org_id', 'per-hour', 1000, '1 hour', per => 'org', shadow => true);
SELECT overten_set_limit('key', :'key_id', 'per_minute', 7, '1 second', shadow => true);
SELECT overten_set_limit('tier', 'pro', 'x', 9223372036854, '23:59:59');
SELECT overten_set_limit('tier', 'pro', '0', 86399000000, '23:59:59', 1, shadow => true);
SELECT overten_set_limit('tier', 'pro', '1', 1, '23:59:59', 26000, shadow => true);
SELECT overten_set_limit('tier', 'pro', '1', 1, '23:59:59', 27000, shadow => true);
SELECT scope, readable(subject), name, quota, period, burst, per, shadow FROM overten_list_limits(:'org_id');
SELECT scope, readable(subject), name, quota, period, burst, per, shadow FROM overten_list_limits();
SELECT * FROM overten_list_limits('org_00000000000000000000');

-- Rules
SELECT overten_set_limit(NULL, 'free', 'x', 1, '1 s');
SELECT overten_set_limit('tier', NULL, 'x', 1, '1 s');
SELECT overten_set_limit('tier', 'free', NULL, 1, '1 s');
SELECT overten_set_limit('tier', 'free', 'x', NULL, '1 s');
SELECT overten_set_limit('tier', 'free', 'x', 1, NULL);
SELECT overten_set_limit('tier', 'free', 'x', 1, '1 s', per => NULL);
SELECT overten_set_limit('tier', 'free', 'x', 1, '1 s', shadow => NULL);
SELECT overten_set_limit('person', 'free', 'x', 1, '1 s');
SELECT overten_set_limit('tier', 'gold', 'x', 1, '1 s');
SELECT overten_set_limit('org', 'org_00000000000000000000', 'x', 1, '1 s');
SELECT overten_set_limit('org', 'what is this', 'x', 1, '1 s');
SELECT overten_set_limit('key', 'key_00000000000000000000', 'x', 1, '1 s');
SELECT overten_set_limit('key', :'secret', 'x', 1, '1 s');
SELECT overten_set_limit('key', :'key_id', 'x', 1, '1 s', per => 'org');
SELECT overten_set_limit('org', :'org_id', 'x', 1, '1 s', per => 'tier');
SELECT overten_set_limit('org', :'org_id', '', 1, '1 s');
SELECT overten_set_limit('org', :'org_id', 'X', 1, '1 s');
SELECT overten_set_limit('org', :'org_id', '_x', 1, '1 s');
SELECT overten_set_limit('org', :'org_id', 'a"b', 1, '1 s');
SELECT overten_set_limit('org', :'org_id', repeat('x', 33), 1, '1 s');
SELECT overten_set_limit('org', :'org_id', 'x', 0, '1 s');
SELECT overten_set_limit('org', :'org_id', 'x', 1, '1 s', 0);
SELECT overten_set_limit('org', :'org_id', 'x', 1, '999 ms');
SELECT overten_set_limit('org', :'org_id', 'x', 1, '1.5 s');
SELECT overten_set_limit('org', :'org_id', 'x', 1, '24 hours');
SELECT overten_set_limit('org', :'org_id', 'x', 1, '2 days');
SELECT overten_set_limit('org', :'org_id', 'x', 1, '-1 s');
SELECT overten_set_limit('org', :'org_id', 'x', 1000001, '1 s');
\set VERBOSITY default
SELECT overten_set_limit('org', :'org_id', 'x', 4999999999, '12 hours');
\set VERBOSITY terse
SELECT overten_set_limit('org', :'org_id', 'x', 1, '1 s', 9223372036854775807);
-- A subject has at most 8.
SELECT overten_set_limit('org', :'org_id', 'n' || n, 1, '1 s', shadow => true) FROM generate_series(1, 7) n;
SELECT overten_set_limit('org', :'org_id', 'n8', 1, '1 s', shadow => true);
SELECT overten_set_limit('org', :'org_id', 'n7', 2, '1 s', shadow => true);
SELECT overten_drop_limit('org', :'org_id', 'n' || n) FROM generate_series(1, 8) n;
SELECT overten_drop_limit('nobody', :'org_id', 'n1');
SELECT overten_drop_limit('org', NULL, 'n1');
SELECT overten_drop_limit('key', 'key_00000000000000000000', 'n1');

-- The table does not take what the function does not.
INSERT INTO overten_auth.limits VALUES ('org', :'org_id', 'by_hand', :'other', 1, '1 s', 1, 'key');
INSERT INTO overten_auth.limits VALUES ('key', :'key_id', 'by_hand', :'org_id', 1, '1 s', 1, 'org');
INSERT INTO overten_auth.limits VALUES ('tier', 'free', 'by_hand', NULL, 1, '1 day', 1, 'key');
INSERT INTO overten_auth.limits VALUES ('tier', 'free', 'by_hand', NULL, 1, '1.5 s', 1, 'key');

-- A limit of a line of rotations
SELECT key_id AS next_key, secret AS next_secret FROM overten_rotate_key(:'org_id', :'key_id') \gset
SELECT overten_set_limit('key', :'next_key', 'per_minute', 7, '1 second', shadow => true);
SELECT overten_set_limit('key', :'next_key', 'per_minute', 8, '1 second', shadow => true);
SELECT count(*) FROM overten_list_limits(:'org_id') WHERE subject = :'key_id' AND quota = 8;

-- Shadow limits refuse nothing, so they need nothing; others are never ignored.
SELECT outcome, limit_name FROM overten_admission(:'secret');
SELECT overten_charge(:'key_id', 5);
SELECT overten_set_limit('key', :'key_id', 'per_minute', 8, '1 second');
\set VERBOSITY default
SELECT outcome FROM overten_admission(:'next_secret');
\set VERBOSITY terse
SELECT * FROM overten_admit(:'secret');
SELECT overten_charge(:'key_id', 5);
SELECT * FROM overten_limit_status(:'org_id');
-- Verification is never limited.
SELECT tier FROM overten_verify_key(:'secret');
SELECT outcome, tier FROM overten_admission(:'other_secret');

-- In force at once, for a key that is cached: its own limits, and those of its
-- org and its tier
SELECT overten_drop_limit('tier', 'pro', 'x');
SELECT outcome FROM overten_admission(:'other_secret');
SELECT overten_set_limit('tier', 'pro', 'x', 1, '1 s');
SELECT outcome FROM overten_admission(:'other_secret');
SELECT overten_set_limit('org', :'other', 'x', 1, '1 s', shadow => true);
SELECT outcome FROM overten_admission(:'other_secret');
SELECT overten_set_limit('key', :'other_key', 'x', 1, '1 s');
SELECT outcome FROM overten_admission(:'other_secret');
BEGIN;
SELECT overten_drop_limit('key', :'other_key', 'x');
SELECT outcome FROM overten_admission(:'other_secret');
ROLLBACK;
SELECT outcome FROM overten_admission(:'other_secret');
SELECT overten_drop_limit('key', :'other_key', 'x');
SELECT outcome FROM overten_admission(:'other_secret');
BEGIN;
SELECT outcome FROM overten_admission(:'other_secret');
SAVEPOINT s;
SELECT overten_set_limit('tier', 'pro', 'y', 1, '1 s');
SELECT outcome FROM overten_admission(:'other_secret');
ROLLBACK TO s;
SELECT outcome FROM overten_admission(:'other_secret');
COMMIT;
SELECT overten_set_tier(:'org_id', 'pro');
SELECT overten_drop_limit('org', :'other', 'x');
SELECT outcome FROM overten_admission(:'other_secret');
SELECT overten_set_tier(:'other', 'free');
SELECT outcome FROM overten_admission(:'other_secret');
TRUNCATE overten_auth.limits;
SELECT outcome FROM overten_admission(:'secret');

-- What overten_check says of limits
SELECT severity, subject, problem FROM overten_check() WHERE subject LIKE '%limit%';
INSERT INTO overten_auth.tiers VALUES ('gone');
SELECT overten_set_limit('tier', 'gone', 'x', 1, '1 s', shadow => true);
DELETE FROM overten_auth.tiers WHERE name = 'gone';
SELECT severity, subject, problem FROM overten_check() WHERE subject LIKE '%limit%';
SELECT overten_set_limit('tier', 'free', 'x', 1, '1 s');
SELECT severity, subject, problem FROM overten_check() WHERE subject LIKE '%limit%';
SELECT overten_drop_limit('tier', 'gone', 'x'), overten_drop_limit('tier', 'free', 'x');

-- The audit log, and erasing
SELECT action, readable(org_id) AS org, key_id IS NOT NULL AS has_key, uid, readable(detail) AS detail
FROM overten_auth.audit_log WHERE action ~ '_limit$' AND detail !~ 'tier gone' ORDER BY at;
SELECT overten_set_limit('org', :'org_id', 'x', 1, '1 s');
SELECT overten_set_limit('key', :'key_id', 'x', 1, '1 s');
SELECT overten_revoke_all(:'org_id');
SELECT overten_erase_org(:'org_id');
SELECT count(*) FROM overten_auth.limits;
\set VERBOSITY sqlstate
SELECT overten_set_limit('org', :'org_id', 'x', 1, '1 s');
SELECT overten_set_limit('key', :'key_id', 'x', 1, '1 s');
SELECT overten_charge(:'key_id', 1);
DROP EXTENSION overten_auth CASCADE;
