--
-- slots: keys have the slot of their org, and orgs one of the server's, if it
-- has slots
--
CREATE EXTENSION overten_auth;
SET overten_auth.record_use_without_preload = off;
\set VERBOSITY terse
-- What a slot is
SELECT overten_slot('\x0000000000000000000000000000000000000000000000000000000000000000'::bytea) AS first,
	overten_slot(decode(repeat('ff', 32), 'hex')) AS last,
	overten_slot(decode('00c0' || repeat('00', 30), 'hex')) AS ten_bits,
	overten_slot(decode('003f' || repeat('ff', 30), 'hex')) AS no_more;
SELECT bool_and(overten_slot(id) = overten_slot(sha256(id::bytea)))
	AND bool_and(overten_slot(id) = get_byte(sha256(id::bytea), 0) * 4 + get_byte(sha256(id::bytea), 1) / 64) AS is_of_sha256,
	count(DISTINCT overten_slot(id)) > 900 AS are_spread
FROM generate_series(1, 10000) n, concat('org_', n) id;
SELECT overten_slot(NULL::text) IS NULL AND overten_slot(NULL::bytea) IS NULL AS strict;
SELECT overten_slot('\x00'::bytea);
SELECT overten_slot(repeat('x', 1025));
SELECT proname, provolatile, proparallel FROM pg_proc WHERE proname = 'overten_slot';

-- Without slots, nothing agrees, and nobody draws twice.
SHOW overten_auth.slots;
SELECT org_id AS plain FROM overten_create_org('Plain') \gset
SELECT count(*) FILTER (WHERE overten_slot(secret) = overten_slot(:'plain')) < 5 AS differ
FROM generate_series(1, 40) n, overten_mint_key(:'plain', 'Key ' || n);
SELECT count(DISTINCT overten_slot(org_id)) > 30 AS differ FROM generate_series(1, 40) n, overten_create_org('Org ' || n);

-- With slots
SET overten_auth.slots = '0-255,300 , 512 - 515';
SELECT bool_and(overten_slot(org_id) BETWEEN 0 AND 255 OR overten_slot(org_id) IN (300, 512, 513, 514, 515)) AS own,
	count(DISTINCT overten_slot(org_id)) > 30 AS differ
FROM generate_series(1, 100) n, overten_create_org('Slotted ' || n);
SET overten_auth.slots = '300';
SELECT org_id FROM overten_create_org('One') \gset
SELECT overten_slot(:'org_id') AS org;
CREATE TEMP TABLE minted AS SELECT m.key_id, m.secret FROM generate_series(1, 40) n, overten_mint_key(:'org_id', 'Key ' || n) m;
SELECT bool_and(overten_slot(secret) = 300) AS agree, count(DISTINCT secret), count(v.key_id) AS accepted
FROM minted m, overten_verify_key(secret) v WHERE v.key_id = m.key_id;
SELECT overten_slot(digest), count(*) FROM overten_auth.api_keys WHERE org_id = :'org_id' GROUP BY 1;
SELECT bool_and(overten_key_checksum_ok(secret)) AS have_checksum FROM overten_mint_key(:'org_id');

-- An org of before, whose slot the server does not have: its keys agree with it
-- all the same.
SELECT overten_slot(secret) = overten_slot(:'plain') AS agrees FROM overten_mint_key(:'plain');

-- Test keys, rotated keys, and signing up
SELECT key_id, overten_slot(secret) FROM overten_mint_key(:'org_id', 'test', environment => 'test') \gset test_
\echo :test_overten_slot
SELECT key_id FROM overten_mint_key(:'org_id') \gset
SELECT overten_slot(secret) FROM overten_rotate_key(:'org_id', :'key_id');
SELECT overten_slot(secret) AS key, overten_slot(org_id) AS org FROM overten_signup('ada', 'Ada''s');
-- A prefix of another length
SET overten_auth.key_prefixes = 'acme_live_, test:at_';
SELECT overten_slot(secret), overten_slot(sha256(secret::bytea)) FROM overten_mint_key(:'org_id');
RESET overten_auth.key_prefixes;

-- Lists of slots
SET overten_auth.slots = '';
SET overten_auth.slots = '  ';
SET overten_auth.slots = '0-1023';
SET overten_auth.slots = '5,5, 4-6';
SET overten_auth.slots = ',';
SET overten_auth.slots = '1,';
SET overten_auth.slots = '1,,2';
SET overten_auth.slots = '1 2';
SET overten_auth.slots = '-1';
SET overten_auth.slots = '1-';
SET overten_auth.slots = '2-1';
SET overten_auth.slots = '1024';
SET overten_auth.slots = '0-1024';
SET overten_auth.slots = '99999999999999999999';
SET overten_auth.slots = 'all';
SET overten_auth.slots = '1-2-3';
SHOW overten_auth.slots;

-- Who may set it, and ask
CREATE ROLE overten_mallory;
SET ROLE overten_mallory;
SET overten_auth.slots = '1';
SELECT overten_slot('org_x');
RESET ROLE;
DROP ROLE overten_mallory;
DROP EXTENSION overten_auth;
