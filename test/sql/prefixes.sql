--
-- prefixes: the prefixes of keys, and live keys and test keys
--
CREATE EXTENSION overten_auth;
SELECT org_id FROM overten_create_org('Acme Docs') \gset

-- By default keys look as they always did, and test keys are marked as such.
SHOW overten_auth.key_prefixes;
SELECT * FROM overten_auth.key_prefixes();
SELECT key_id AS live_id, secret AS live, prefix AS live_prefix FROM overten_mint_key(:'org_id', 'live') \gset
SELECT key_id AS test_id, secret AS test, prefix AS test_prefix FROM overten_mint_key(:'org_id', 'test', environment => 'test') \gset
SELECT :'live' ~ '^sk_live_[0-9A-Za-z]{28}$' AS live, :'live_prefix' = left(:'live', 12) AS live_prefix,
	:'test' ~ '^sk_test_[0-9A-Za-z]{28}$' AS test, :'test_prefix' = left(:'test', 12) AS test_prefix,
	overten_key_checksum_ok(:'live') AS live_checksum, overten_key_checksum_ok(:'test') AS test_checksum,
	overten_key_checksum_ok(replace(:'live', '_live_', '_test_')) AS other_prefix;
SELECT name, environment FROM overten_auth.api_keys ORDER BY created_at;

-- A test key is refused, by its secret, by its digest and as an identity, unless
-- test keys are accepted.  The setting counts at once, whatever a cache holds.
CREATE TABLE secret (name text, secret text);
INSERT INTO secret VALUES ('live', :'live'), ('test', :'test');
CREATE VIEW answer AS
	SELECT name, (SELECT count(*) FROM overten_verify_key(secret)) AS secret,
		(SELECT count(*) FROM overten_verify_key_digest(sha256(secret::bytea))) AS digest,
		(SELECT count(*) FROM overten_authenticate(secret)) AS identity,
		overten_current_org() IS NOT NULL AS has_identity,
		(SELECT status FROM overten_handle_request('GET', '/api/v1/verify',
			json_build_object('authorization', 'Bearer ' || secret), NULL::bytea)) AS http
	FROM secret ORDER BY name;
TABLE answer;
SET overten_auth.accept_test_keys = on;
TABLE answer;
TABLE answer;
BEGIN;
SET LOCAL overten_auth.accept_test_keys = off;
TABLE answer;
COMMIT;
TABLE answer;
RESET overten_auth.accept_test_keys;
TABLE answer;

-- The environment belongs to the key: another list does not make it a live key.
SET overten_auth.key_prefixes = 'sk_live_, sk_test_';
TABLE answer;
RESET overten_auth.key_prefixes;

-- A company's own brand
SET overten_auth.key_prefixes = 'acme_, test:acme_test_, sk_live_, test:sk_test_';
INSERT INTO secret SELECT 'brand', secret FROM overten_mint_key(:'org_id', 'brand');
INSERT INTO secret SELECT 'brand test', secret FROM overten_mint_key(:'org_id', 'brand test', environment => 'test');
SELECT name, prefix ~ '^acme_(test_)?\w{4}$' AS shown, k.prefix = left(secret, -24) AS part,
	overten_key_checksum_ok(secret) AS checksum, digest = sha256(secret::bytea) AS digest
FROM overten_auth.api_keys k JOIN secret USING (name) WHERE name ^@ 'brand' ORDER BY name;
TABLE answer;
SELECT DISTINCT key_prefix ~ '^acme_\w{4}$' AS shown FROM secret, overten_verify_key(secret) WHERE name = 'brand';

-- The shortest and the longest prefix
SET overten_auth.key_prefixes = 'a_, test:abcdefghijkl_45_, acme_, test:acme_test_, sk_live_, test:sk_test_';
INSERT INTO secret SELECT 'short', secret FROM overten_mint_key(:'org_id', 'short');
INSERT INTO secret SELECT 'the longest', secret FROM overten_mint_key(:'org_id', 'the longest', environment => 'test');
SELECT name, length(secret), overten_key_checksum_ok(secret) AS checksum FROM secret WHERE name IN ('short', 'the longest');
SET overten_auth.accept_test_keys = on;
TABLE answer;
RESET overten_auth.accept_test_keys;

-- A prefix that is taken out of the list refuses its keys, in every way, and
-- overten_check says so.
SET overten_auth.key_prefixes = 'acme_, test:acme_test_';
TABLE answer;
SELECT overten_key_checksum_ok(:'live');
SELECT severity, subject, problem FROM overten_check() WHERE subject = 'overten_auth.key_prefixes';
SELECT set_config('request.headers', json_build_object('authorization', 'Bearer ' || :'live')::text, false) IS NULL;
\set VERBOSITY sqlstate
SELECT overten_api.authenticate_request();
\set VERBOSITY default
-- But a leak can be reported: the prefix might come back.
SELECT overten_revoke_leaked(secret) FROM secret WHERE name = 'short';
RESET overten_auth.key_prefixes;
SELECT problem FROM overten_check() WHERE subject = 'overten_auth.key_prefixes';
SELECT overten_revoke_key(org_id, key_id) FROM overten_auth.api_keys WHERE prefix !~ '^sk_' AND revoked_at IS NULL;
SELECT problem FROM overten_check() WHERE subject = 'overten_auth.key_prefixes';
TABLE answer;

-- Imported keys are of their prefix's environment.
SELECT overten_import_key(:'org_id', 'imported', sha256('1'), 'sk_test_0000') IS NOT NULL AS imported;
SELECT overten_import_keys(ARRAY[:'org_id', :'org_id'], ARRAY['a', 'b'], ARRAY[sha256('2'), sha256('3')], ARRAY['sk_live_0000', 'sk_test_0000']);
SELECT overten_import_key(:'org_id', 'imported', sha256('4'), 'acme_0000');
SELECT name, environment FROM overten_auth.api_keys WHERE prefix LIKE '%0000' ORDER BY name;

-- What does not have the characters of a key is refused, whoever has imported it.
SELECT overten_import_key(:'org_id', 'odd', sha256('sk_live_---------------------------0'), 'sk_live_0000') IS NOT NULL AS imported;
SELECT count(*) FROM overten_verify_key('sk_live_---------------------------0');

-- An environment without a prefix, and others that do not exist
SET overten_auth.key_prefixes = 'sk_live_';
SELECT overten_mint_key(:'org_id', 'x', environment => 'test');
RESET overten_auth.key_prefixes;
SELECT overten_mint_key(:'org_id', 'x', environment => 'Test');
SELECT overten_mint_key(:'org_id', 'x', environment => '');
SELECT overten_mint_key(:'org_id', 'x', environment => repeat('live', 1000000));
SELECT overten_mint_key(:'org_id', 'x', environment => NULL);

-- Lists that are refused
SET overten_auth.key_prefixes = '';
SET overten_auth.key_prefixes = 'test:sk_test_';
SET overten_auth.key_prefixes = 'sk_live';
SET overten_auth.key_prefixes = '_';
SET overten_auth.key_prefixes = 'abcdefghijklmnop_';
SET overten_auth.key_prefixes = 'SK_LIVE_';
SET overten_auth.key_prefixes = 'sk-live_';
SET overten_auth.key_prefixes = 'ské_';
SET overten_auth.key_prefixes = 'sk_live_, ';
SET overten_auth.key_prefixes = 'sk_live_,, acme_';
SET overten_auth.key_prefixes = 'sk_ live_';
SET overten_auth.key_prefixes = 'acme_, test:acme_';
SET overten_auth.key_prefixes = 'prod:sk_live_';
SET overten_auth.key_prefixes = ':sk_live_';
SET overten_auth.key_prefixes = 'live:test:sk_live_';
SET overten_auth.key_prefixes = 'a1_, a2_, a3_, a4_, a5_, a6_, a7_, a8_, a9_, b1_, b2_, b3_, b4_, b5_, b6_, b7_, b8_';
-- and one that is read as it is meant
SET overten_auth.key_prefixes = ' test:b_ ,	live:a_,c_ ';
SELECT * FROM overten_auth.key_prefixes();
SET overten_auth.key_prefixes TO 'a_', 'test:b_';
SELECT * FROM overten_auth.key_prefixes();

-- Only those who may change it can.
CREATE ROLE overten_nobody;
SET ROLE overten_nobody;
SET overten_auth.key_prefixes = 'mine_';
SET overten_auth.accept_test_keys = on;
RESET ROLE;
DROP ROLE overten_nobody;
RESET overten_auth.key_prefixes;

-- What people cannot mint, they cannot write either.
\set VERBOSITY sqlstate
UPDATE overten_auth.api_keys SET prefix = 'sk_live_000' WHERE key_id = :'live_id';
UPDATE overten_auth.api_keys SET prefix = 'Sk_live_0000' WHERE key_id = :'live_id';
UPDATE overten_auth.api_keys SET environment = 'prod' WHERE key_id = :'live_id';
UPDATE overten_auth.api_keys SET environment = NULL WHERE key_id = :'live_id';
\set VERBOSITY default

-- A change of the environment counts at once, too.
SELECT count(*) FROM overten_verify_key(:'live');
UPDATE overten_auth.api_keys SET environment = 'test' WHERE key_id = :'live_id';
SELECT count(*) FROM overten_verify_key(:'live');

-- Test keys are not billed.
INSERT INTO overten_auth.key_usage (key_id, hour, accepted, first_used_at, last_used_at)
	SELECT key_id, date_trunc('hour', now()), 5, now(), now() FROM overten_auth.api_keys WHERE key_id IN (:'test_id', :'live_id');
SELECT count(*) FROM overten_org_usage(:'org_id', now() - interval '1 day', now() + interval '1 day');
UPDATE overten_auth.api_keys SET environment = 'live' WHERE key_id = :'live_id';
SELECT name, accepted FROM overten_org_usage(:'org_id', now() - interval '1 day', now() + interval '1 day');
SELECT accepted FROM overten_key_usage(:'org_id', :'test_id');

DROP TABLE secret CASCADE;
DROP EXTENSION overten_auth;
