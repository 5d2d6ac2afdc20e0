--
-- import: keys that were minted elsewhere, one and many
--
CREATE EXTENSION overten_auth;
SELECT org_id AS acme FROM overten_create_org('Acme') \gset
SELECT org_id AS umbrella FROM overten_create_org('Umbrella') \gset
SELECT * FROM overten_mint_key(:'acme') \gset minted_
\set secret sk_live_4aT7abcdefghijklmnopqrstuvwx
SELECT sha256(:'secret'::bytea) AS digest \gset

-- One
SELECT overten_import_key(:'acme', '  production ', :'digest', 'sk_live_4aT7', '2024-05-01 12:00+00') AS key_id \gset
SELECT :'key_id' ~ '^key_[0-9A-Za-z]{20}$' AS id_form;
SELECT key_id = :'key_id' AS key, org_name, key_prefix, overten_key_checksum_ok(:'secret') AS checksum
FROM overten_verify_key(:'secret');
SELECT name, prefix, created_at = '2024-05-01 12:00+00' AS created_at, last_used_at IS NOT NULL AS used
FROM overten_list_keys(:'acme') WHERE key_id = :'key_id';
SELECT action, org_id = :'acme' AS org, actor = session_user AS actor, uid, detail
FROM overten_auth.audit_log WHERE key_id = :'key_id';
SELECT overten_revoke_key(:'acme', :'key_id');
SELECT NOT EXISTS (SELECT FROM overten_verify_key(:'secret')) AS refused;
SELECT overten_import_key(:'acme', 'now', sha256('1'), 'sk_live_0001') IS NOT NULL AS imported;
SELECT created_at BETWEEN now() - interval '1 minute' AND now() AS now FROM overten_auth.api_keys WHERE name = 'now';

-- What is there already is not brought back or given away.
SELECT overten_import_key(:'acme', 'again', :'digest', 'sk_live_4aT7');
-- The prefix of a minted key is random, so it is replaced here.
\getenv srcdir PG_ABS_SRCDIR
\set refusal :srcdir '/sql/refusal.inc'
\set ECHO none
\i :refusal
\set ECHO all
SELECT pg_temp.refusal(format('SELECT overten_import_key(%L, %L, sha256(%L::bytea), %L)', :'umbrella', 'stolen', :'minted_secret', :'minted_prefix'), :'minted_prefix');
SELECT NOT EXISTS (SELECT FROM overten_verify_key(:'secret')) AS refused, (SELECT org_name FROM overten_verify_key(:'minted_secret'));

-- What breaks a rule
SELECT overten_import_key('org_nobody', 'x', sha256('2'), 'sk_live_0000');
SELECT overten_import_key(:'acme', '', sha256('2'), 'sk_live_0000');
SELECT overten_import_key(:'acme', E'a\nb', sha256('2'), 'sk_live_0000');
SELECT overten_import_key(:'acme', 'x', substr(sha256('2'), 2), 'sk_live_0000');
SELECT overten_import_key(:'acme', 'x', sha256('2'), 'sk_live_000');
SELECT overten_import_key(:'acme', 'x', sha256('2'), 'sk_live_0000', 'tomorrow');
SELECT overten_import_key(:'acme', 'x', sha256('2'), NULL);
\set VERBOSITY sqlstate
SELECT overten_import_key(:'acme', repeat('x', 65), sha256('2'), 'sk_live_0000');
SELECT overten_import_key(:'acme', repeat('x', 10000000), sha256('2'), 'sk_live_0000');
SELECT overten_import_key('', 'x', sha256('2'), 'sk_live_0000');
SELECT overten_import_key(repeat('x', 1000000), 'x', sha256('2'), 'sk_live_0000');
SELECT overten_import_key(''' OR true --', 'x', sha256('2'), 'sk_live_0000');
SELECT overten_import_key(:'acme', 'x', '', 'sk_live_0000');
SELECT overten_import_key(:'acme', 'x', sha256('2') || '\x00', 'sk_live_0000');
SELECT overten_import_key(:'acme', 'x', decode(repeat('00', 1000000), 'hex'), 'sk_live_0000');
SELECT overten_import_key(:'acme', 'x', sha256('2'), '');
SELECT overten_import_key(:'acme', 'x', sha256('2'), 'sk_live_00000');
SELECT overten_import_key(:'acme', 'x', sha256('2'), 'pk_live_0000');
SELECT overten_import_key(:'acme', 'x', sha256('2'), 'sk_live_00-0');
SELECT overten_import_key(:'acme', 'x', sha256('2'), 'sk_live_00é');
SELECT overten_import_key(:'acme', 'x', sha256('2'), :'secret');
SELECT overten_import_key(:'acme', 'x', sha256('2'), 'sk_live_0000', 'infinity');
SELECT overten_import_key(:'acme', 'x', sha256('2'), 'sk_live_0000', '-infinity');
SELECT overten_import_key(:'acme', 'x', sha256('2'), 'sk_live_0000', '1969-12-31 23:59:59+00');
SELECT overten_import_key(:'acme', 'x', sha256('2'), 'sk_live_0000', clock_timestamp() + interval '1 second');
SELECT overten_import_key(NULL, 'x', sha256('2'), 'sk_live_0000');
SELECT overten_import_key(:'acme', NULL, sha256('2'), 'sk_live_0000');
SELECT overten_import_key(:'acme', 'x', NULL, 'sk_live_0000');
SELECT overten_import_key(:'acme', 'x', sha256('2'), 'sk_live_0000', NULL) IS NOT NULL AS imported,
	overten_import_key(:'acme', repeat('é', 64), sha256('3'), 'sk_live_0000', '1970-01-01 00:00+00') IS NOT NULL AS imported,
	overten_import_key(:'acme', '''); DROP TABLE overten_auth.api_keys --', sha256('4'), 'sk_live_0000', now()) IS NOT NULL AS imported;
BEGIN READ ONLY;
SELECT overten_import_key(:'acme', 'x', sha256('5'), 'sk_live_0000');
ROLLBACK;
SELECT name, created_at = '1970-01-01 00:00+00' AS epoch FROM overten_list_keys(:'acme')
WHERE prefix = 'sk_live_0000' ORDER BY name COLLATE "C";

-- Many: the way of docs/keys.md by COPY, of 10,000 in an old service's table.
\set VERBOSITY default
\set staging `sed -n '/^CREATE TEMP TABLE staging/,/timestamptz);/p' "$PG_ABS_SRCDIR/../docs/keys.md"`
\set import `sed -n '/^SELECT overten_import_keys(/,/;$/p' "$PG_ABS_SRCDIR/../docs/keys.md"`
CREATE TABLE old_keys AS
	SELECT n, 'sk_live_' || lpad(to_hex(n), 4, '0') || repeat('x', 24) AS secret,
		CASE n % 10 WHEN 0 THEN :'umbrella' ELSE :'acme' END AS org_id
	FROM generate_series(1, 10001) n;
:staging
\copy (SELECT org_id, 'old "' || n || E'", \u00e9', encode(sha256(secret::bytea), 'hex'), left(secret, 12), timestamptz '2020-01-01 00:00+00' + n * interval '1 minute' FROM old_keys ORDER BY n) TO 'results/keys.csv' (FORMAT csv)
\copy staging (org_id, name, digest, prefix, created_at) FROM 'results/keys.csv' (FORMAT csv)
:import
SELECT count(*), count(DISTINCT v.key_id) AS keys, count(*) FILTER (WHERE v.org_id <> o.org_id OR v.key_prefix <> left(o.secret, 12)) AS mixed_up
FROM old_keys o, overten_verify_key(o.secret) v WHERE o.n % 100 = 1;
ANALYZE overten_auth.api_keys, overten_auth.key_last_used, overten_auth.audit_log;
SELECT count(*), count(*) FILTER (WHERE k.key_id ~ '^key_[0-9A-Za-z]{20}$') AS id_form, count(u.key_id) AS key_last_used,
	count(a.key_id) AS audited, bool_and(a.detail = k.name AND a.org_id = k.org_id AND a.actor = session_user) AS audit,
	min(k.created_at AT TIME ZONE 'UTC'), max(k.created_at AT TIME ZONE 'UTC')
FROM old_keys o
JOIN overten_auth.api_keys k ON k.digest = sha256(o.secret::bytea)
	AND k.org_id = o.org_id AND k.prefix = left(o.secret, 12) AND k.name = 'old "' || n || E'", \u00e9'
LEFT JOIN overten_auth.key_last_used u ON u.key_id = k.key_id
LEFT JOIN overten_auth.audit_log a ON a.key_id = k.key_id AND a.action = 'import_key';

-- All or none, and the row is named: by its number, never by its digest.
:import
SELECT count(*) AS before FROM overten_auth.api_keys \gset
UPDATE staging SET digest = encode(sha256(digest::bytea), 'hex');
UPDATE staging SET org_id = 'org_nobody' WHERE line = 10001;
:import
UPDATE staging SET org_id = :'acme', digest = (SELECT digest FROM staging WHERE line = 9000) WHERE line = 10001;
:import
UPDATE staging SET digest = (SELECT digest FROM staging WHERE line = 10001) WHERE line = 10000;
:import
UPDATE staging SET digest = encode(:'digest', 'hex') WHERE line = 7;
:import
UPDATE staging SET name = E'\t' WHERE line = 6;
:import
UPDATE staging SET digest = left(digest, 62) WHERE line = 5;
:import
UPDATE staging SET prefix = 'sk_live_' WHERE line = 4;
:import
UPDATE staging SET created_at = 'infinity' WHERE line = 3;
:import
UPDATE staging SET org_id = NULL WHERE line = 2;
:import
SELECT count(*) = :before AS none FROM overten_auth.api_keys;
TRUNCATE staging;
:import

-- Arrays that do not fit
\set VERBOSITY sqlstate
SELECT overten_import_keys(ARRAY[:'acme', :'acme'], ARRAY['x'], ARRAY[sha256('6')], ARRAY['sk_live_0000']);
SELECT overten_import_keys(ARRAY[:'acme'], ARRAY['x', 'y'], ARRAY[sha256('6')], ARRAY['sk_live_0000']);
SELECT overten_import_keys(ARRAY[:'acme'], ARRAY['x'], ARRAY[]::bytea[], ARRAY['sk_live_0000']);
SELECT overten_import_keys(ARRAY[:'acme'], ARRAY['x'], ARRAY[sha256('6')], ARRAY['sk_live_0000', NULL]);
SELECT overten_import_keys(ARRAY[:'acme'], ARRAY['x'], ARRAY[sha256('6')], ARRAY['sk_live_0000'], '{}');
SELECT overten_import_keys(NULL, ARRAY['x'], ARRAY[sha256('6')], ARRAY['sk_live_0000']);
SELECT overten_import_keys(ARRAY[:'acme'], NULL, ARRAY[sha256('6')], ARRAY['sk_live_0000']);
SELECT overten_import_keys(ARRAY[:'acme'], ARRAY['x'], NULL, ARRAY['sk_live_0000']);
SELECT overten_import_keys(ARRAY[:'acme'], ARRAY['x'], ARRAY[sha256('6')], NULL);
SELECT overten_import_keys(ARRAY[:'acme', NULL], ARRAY['x', 'y'], ARRAY[sha256('6'), sha256('7')], ARRAY['sk_live_0000', 'sk_live_0000']);
SELECT overten_import_keys('{}', '{}', '{}', '{}');
SELECT overten_import_keys(ARRAY[ARRAY[:'acme'], ARRAY[:'acme']], ARRAY['x', 'y'], '[5:6]={"\\x","\\x"}', ARRAY['sk_live_0000', 'sk_live_0000']);
SELECT overten_import_keys(ARRAY[ARRAY[:'acme'], ARRAY[:'acme']], ARRAY['x', 'y'], ARRAY[sha256('6'), sha256('7')],
	ARRAY['sk_live_0000', 'sk_live_0000'], ARRAY[NULL, now()]);
SELECT overten_import_keys(ARRAY[:'acme'], ARRAY['z'], ARRAY[sha256('8')], ARRAY['sk_live_0000']);
SELECT count(*) FROM overten_auth.api_keys WHERE digest IN (sha256('6'), sha256('7'), sha256('8'));
BEGIN READ ONLY;
SELECT overten_import_keys(ARRAY[:'acme'], ARRAY['x'], ARRAY[sha256('9')], ARRAY['sk_live_0000']);
ROLLBACK;

-- What restricts a key comes with it.  One and many are restricted alike: lists
-- are sorted, and an IPv4-mapped network is IPv4.
\set VERBOSITY default
INSERT INTO overten_auth.scopes (name) VALUES ('read'), ('write'), (repeat('s', 64));
CREATE TABLE restricted (n int, expires_at timestamptz, scopes text[], allowed_addresses cidr[]);
INSERT INTO restricted VALUES
	(1, NULL, NULL, NULL), (2, '2001-01-01 00:00+00', NULL, NULL), (3, '2101-01-01 00:00+00', '{write,read,write}', NULL),
	(4, NULL, '{}', '{::ffff:192.0.2.0/120,10.0.0.0/8}'), (5, NULL, NULL, '{2001:db8::/32}'), (6, '2101-01-01 00:00+00', array_fill('read'::text, '{64}'), NULL);
SELECT count(overten_import_key(:'acme', 'one ' || n, sha256(('one ' || n)::bytea), 'sk_live_0000', expires_at => expires_at, scopes => scopes, allowed_addresses => allowed_addresses))
FROM restricted;
SELECT overten_import_keys(array_agg(:'acme'::text), array_agg('many ' || n), array_agg(sha256(('many ' || n)::bytea)), array_agg('sk_live_0000'::text),
	expires_at => array_agg(expires_at), scopes => array_agg(scopes::text), allowed_addresses => array_agg(allowed_addresses::text))
FROM restricted;
SELECT split_part(name, ' ', 2) AS n, min(status) AS status, min(expires_at) AT TIME ZONE 'UTC' AS expires_at, min(scopes) AS scopes, min(allowed_addresses::text) AS allowed_addresses,
	count(DISTINCT (status, expires_at, scopes, allowed_addresses)) AS kinds, count(*)
FROM overten_key_restrictions(:'acme') WHERE name ~ '^(one|many) ' GROUP BY 1 ORDER BY 1;
SELECT what, n, (SELECT count(*) FROM overten_verify_key_digest(sha256((what || ' ' || n)::bytea))) AS accepted
FROM unnest('{one,many}'::text[]) what, generate_series(1, 5) n ORDER BY n, what;
SELECT overten_import_key(:'acme', 'near', sha256('sk_live_near000000000000000000000000'), 'sk_live_near', allowed_addresses => '{192.0.2.1}') IS NOT NULL AS imported;
SELECT addr, request.status FROM unnest('{192.0.2.1,192.0.2.2}'::text[]) addr, overten_handle_request('GET', '/api/v1/verify', json_build_object('authorization', 'Bearer sk_live_near000000000000000000000000', 'x-overten-client-addr', addr), NULL::bytea) request;
-- A limit of the lifetime is about keys that are minted here.
SET overten_auth.max_key_lifetime = '1d';
SELECT expires_at FROM overten_import_key(:'acme', 'x', sha256('12'), 'sk_live_0000') i, overten_key_restrictions(:'acme', i);
RESET overten_auth.max_key_lifetime;
-- What breaks a rule, with its row
SELECT overten_import_key(:'acme', 'x', sha256('13'), 'sk_live_0000', expires_at => 'infinity');
SELECT overten_import_key(:'acme', 'x', sha256('13'), 'sk_live_0000', scopes => '{read,delete}');
SELECT overten_import_key(:'acme', 'x', sha256('13'), 'sk_live_0000', allowed_addresses => '{}');
SELECT overten_import_keys(ARRAY[:'acme', :'acme'], ARRAY['x', 'y'], ARRAY[sha256('13'), sha256('14')], ARRAY['sk_live_0000', 'sk_live_0000'],
	expires_at => '{NULL,-infinity}');
SELECT overten_import_keys(ARRAY[:'acme', :'acme'], ARRAY['x', 'y'], ARRAY[sha256('13'), sha256('14')], ARRAY['sk_live_0000', 'sk_live_0000'],
	scopes => ARRAY[NULL, '{delete}']);
SELECT overten_import_keys(ARRAY[:'acme', :'acme'], ARRAY['x', 'y'], ARRAY[sha256('13'), sha256('14')], ARRAY['sk_live_0000', 'sk_live_0000'],
	scopes => ARRAY['{read}', 'write']);
SELECT overten_import_keys(ARRAY[:'acme', :'acme'], ARRAY['x', 'y'], ARRAY[sha256('13'), sha256('14')], ARRAY['sk_live_0000', 'sk_live_0000'],
	allowed_addresses => ARRAY['{10.0.0.1}', '{10.0.0.1/8}']);
\set VERBOSITY sqlstate
SELECT overten_import_key(:'acme', 'x', sha256('13'), 'sk_live_0000', expires_at => '-infinity');
SELECT overten_import_key(:'acme', 'x', sha256('13'), 'sk_live_0000', scopes => '{NULL}');
SELECT overten_import_key(:'acme', 'x', sha256('13'), 'sk_live_0000', scopes => '{{read},{write}}');
SELECT overten_import_key(:'acme', 'x', sha256('13'), 'sk_live_0000', scopes => array_fill('read'::text, '{65}'));
SELECT overten_import_key(:'acme', 'x', sha256('13'), 'sk_live_0000', allowed_addresses => '{NULL}');
SELECT overten_import_keys(ARRAY[:'acme'], ARRAY['x'], ARRAY[sha256('13')], ARRAY['sk_live_0000'], scopes => '{}');
SELECT overten_import_keys(ARRAY[:'acme'], ARRAY['x'], ARRAY[sha256('13')], ARRAY['sk_live_0000'], scopes => ARRAY['{read']);
SELECT overten_import_keys(ARRAY[:'acme'], ARRAY['x'], ARRAY[sha256('13')], ARRAY['sk_live_0000'], scopes => ARRAY['']);
SELECT overten_import_keys(ARRAY[:'acme'], ARRAY['x'], ARRAY[sha256('13')], ARRAY['sk_live_0000'], scopes => ARRAY['{' || repeat('read,', 1000000) || 'read}']);
SELECT overten_import_keys(ARRAY[:'acme'], ARRAY['x'], ARRAY[sha256('13')], ARRAY['sk_live_0000'], allowed_addresses => ARRAY['{); DROP TABLE overten_auth.api_keys --}']);
SELECT overten_import_keys(ARRAY[:'acme'], ARRAY['x'], ARRAY[sha256('13')], ARRAY['sk_live_0000'], allowed_addresses => ARRAY['{}']);
SELECT count(*) FROM overten_auth.api_keys WHERE digest IN (sha256('13'), sha256('14'));

-- By EXECUTE alone, and under a hostile search_path
CREATE ROLE overten_importer;
GRANT EXECUTE ON FUNCTION overten_import_keys, overten_import_key TO overten_importer;
CREATE SCHEMA evil;
CREATE FUNCTION evil.unnest(anyarray) RETURNS SETOF anyelement LANGUAGE plpgsql AS
	$$BEGIN RAISE EXCEPTION 'evil was called'; END$$;
CREATE FUNCTION evil.equal(text, text) RETURNS boolean LANGUAGE plpgsql AS
	$$BEGIN RAISE EXCEPTION 'evil was called'; END$$;
CREATE OPERATOR evil.= (LEFTARG = text, RIGHTARG = text, FUNCTION = evil.equal);
CREATE TEMP TABLE api_keys (LIKE overten_auth.api_keys);
CREATE TEMP TABLE orgs (LIKE overten_auth.orgs);
GRANT USAGE ON SCHEMA evil, public TO overten_importer;
SET search_path = pg_temp, evil, pg_catalog, public;
SET ROLE overten_importer;
SELECT overten_import_key(:'acme', 'x', sha256('10'), 'sk_live_0000') IS NOT NULL AS imported;
SELECT overten_import_keys(ARRAY[:'acme'], ARRAY['x'], ARRAY[sha256('11')], ARRAY['sk_live_0000']);
SELECT current_user;
SELECT count(*) FROM overten_auth.api_keys;
RESET ROLE;
RESET search_path;
SELECT count(*) FROM overten_auth.api_keys WHERE digest IN (sha256('10'), sha256('11'));

DROP SCHEMA evil CASCADE;
DROP TABLE old_keys, restricted;
DROP EXTENSION overten_auth;
REVOKE USAGE ON SCHEMA public FROM overten_importer;
DROP ROLE overten_importer;
