--
-- key_details: names, descriptions and metadata of keys, and who minted them
--
CREATE EXTENSION overten_auth;
SELECT org_id AS acme FROM overten_create_org('Acme Docs') \gset
SELECT org_id AS other FROM overten_create_org('Other') \gset
SELECT key_id AS key, secret FROM overten_mint_key(:'acme', 'primary') \gset
SELECT key_id AS others_key FROM overten_mint_key(:'other', 'primary') \gset
SELECT * FROM overten_key_details(:'acme', :'key');

-- They are set and removed together, and a call says whether it changed anything.
SELECT overten_set_key_details(:'acme', :'key', NULL, NULL);
SELECT count(*) FROM overten_auth.key_details;
SELECT overten_set_key_details(:'acme', :'key', '  the importer  ', '{"team": "billing", "cost": 1.50}');
SELECT overten_set_key_details(:'acme', :'key', 'the importer', '{"cost": 1.50, "team": "billing"}');
SELECT * FROM overten_key_details(:'acme', :'key');
SELECT overten_set_key_details(:'acme', :'key', NULL, '{}');
SELECT * FROM overten_key_details(:'acme', :'key');
SELECT overten_set_key_details(:'acme', :'key', NULL, NULL);
SELECT overten_set_key_details(:'acme', :'key', NULL, NULL);
SELECT * FROM overten_key_details(:'acme', :'key');
SELECT overten_set_key_details(:'acme', :'key', 'the importer', '{"team": "billing"}');

-- Nothing of that touches the row of the key, so no cache loses it.
SELECT xmin AS row_version FROM overten_auth.api_keys WHERE key_id = :'key' \gset
SELECT overten_set_key_details(:'acme', :'key', 'the exporter', '{"team": "sales"}');
SELECT xmin = :'row_version' AS untouched FROM overten_auth.api_keys WHERE key_id = :'key';

-- What is too much, or wrong
SELECT overten_set_key_details(:'acme', :'key', repeat('é', 500), jsonb_build_object('x', repeat('y', 4096 - 9)));
SELECT char_length(description), octet_length(metadata::text) FROM overten_key_details(:'acme', :'key');
SELECT overten_set_key_details(:'acme', :'key', repeat('x', 501), NULL);
SELECT overten_set_key_details(:'acme', :'key', repeat('x', 10000000), NULL);
SELECT overten_set_key_details(:'acme', :'key', '', NULL);
SELECT overten_set_key_details(:'acme', :'key', '   ', NULL);
SELECT overten_set_key_details(:'acme', :'key', E'a\nb', NULL);
SELECT overten_set_key_details(:'acme', :'key', U&'a\202Eb', NULL);
SELECT overten_set_key_details(:'acme', :'key', NULL, jsonb_build_object('x', repeat('y', 4096 - 8)));
SELECT overten_set_key_details(:'acme', :'key', NULL, jsonb_build_object('x', repeat('é', 2048 - 4)));
SELECT overten_set_key_details(:'acme', :'key', NULL, jsonb_build_object('x', repeat('y', 10000000)));
SELECT overten_set_key_details(:'acme', :'key', NULL, '"{\"team\": \"billing\"}"');
SELECT overten_set_key_details(:'acme', :'key', NULL, '[1]');
SELECT overten_set_key_details(:'acme', :'key', NULL, 'null');
SELECT overten_set_key_details(:'acme', :'key', NULL, '7');
-- Numbers of a few bytes whose text is huge: this must not take memory.
SELECT overten_set_key_details(:'acme', :'key', NULL,
	jsonb_build_object('x', (SELECT jsonb_agg('1e131071'::numeric) FROM generate_series(1, 2000))));
SELECT overten_set_key_details(:'acme', :'key', NULL, '{"x": 1e5000}');
SELECT overten_set_key_details(:'acme', :'key', NULL, '{"x": 1e4000}');
SELECT overten_set_key_details(NULL, :'key', 'x', NULL);
SELECT overten_set_key_details(:'acme', NULL, 'x', NULL);
SELECT overten_set_key_details(:'acme', 'x', 'x', NULL);
SELECT overten_set_key_details('', :'key', 'x', NULL);
\set VERBOSITY sqlstate
SELECT overten_set_key_details(:'acme', :'others_key', 'x', NULL);
SELECT overten_key_details(:'acme', :'others_key');
SELECT overten_key_details(:'other', :'key');
SELECT overten_key_details(NULL, :'key');
SELECT overten_key_details(:'acme', NULL);
INSERT INTO overten_auth.key_details VALUES ('key_x', '', NULL);
INSERT INTO overten_auth.key_details VALUES ('key_x', NULL, '[]');
INSERT INTO overten_auth.key_details VALUES ('key_x', NULL, jsonb_build_object('x', repeat('y', 4096)));
\set VERBOSITY default
SELECT count(*) FROM overten_auth.key_details;

-- Names
SELECT overten_rename_key(:'acme', :'key', ' nightly export ');
SELECT overten_rename_key(:'acme', :'key', 'nightly export');
SELECT name FROM overten_list_keys(:'acme');
SELECT count(*) FROM overten_verify_key(:'secret');
SELECT overten_rename_key(:'acme', :'key', '');
SELECT overten_rename_key(:'acme', :'key', repeat('x', 65));
SELECT overten_rename_key(:'acme', :'key', repeat('x', 10000000));
SELECT overten_rename_key(:'acme', :'key', E'\u200b');
SELECT overten_rename_key(:'acme', :'key', NULL);
\set VERBOSITY sqlstate
SELECT overten_rename_key(:'acme', :'others_key', 'mine');
SELECT overten_rename_key('', '', 'mine');
\set VERBOSITY default
SELECT name FROM overten_list_keys(:'other');
SELECT action, detail FROM overten_auth.audit_log WHERE key_id = :'key' ORDER BY at;

-- The keys of a person who leaves: of all orgs, but nobody else's.
SELECT overten_add_member(:'acme', 'ann'), overten_add_member(:'acme', 'bob');
SELECT org_id AS anns, key_id AS anns_first FROM overten_signup('ann', 'Ann''s') \gset
UPDATE overten_auth.api_keys SET created_by = 'ann' WHERE key_id = :'key';
SELECT key_id AS bobs FROM overten_mint_key(:'acme', 'bob''s') \gset
UPDATE overten_auth.api_keys SET created_by = 'bob' WHERE key_id = :'bobs';
SELECT key_id AS expired FROM overten_mint_key(:'acme', 'expired') \gset
UPDATE overten_auth.api_keys SET created_by = 'ann', expires_at = now() WHERE key_id = :'expired';
-- Removing a member says how many keys of theirs in the org live on.
SELECT overten_remove_member(:'acme', 'ann');
SELECT overten_remove_member(:'acme', 'ann');
SELECT overten_add_member(:'acme', 'cid');
SELECT overten_remove_member(:'acme', 'cid');
SELECT overten_revoke_keys_of('nobody');
SELECT overten_revoke_keys_of('ann', 'left the company');
SELECT overten_revoke_keys_of('ann', 'again');
SELECT name, created_by, revoked_by, revoked_reason FROM overten_auth.api_keys ORDER BY name, created_by;
SELECT count(*) FROM overten_verify_key(:'secret');
SELECT action, count(*), detail FROM overten_auth.audit_log WHERE action = 'revoke_key' GROUP BY action, detail;
SELECT overten_revoke_keys_of(NULL);
SELECT overten_revoke_keys_of('');
SELECT overten_revoke_keys_of(repeat('x', 129));
SELECT overten_revoke_keys_of(repeat('x', 10000000));
SELECT overten_revoke_keys_of('ann', E'a\nb');
SELECT overten_revoke_keys_of('ann', repeat('x', 201));

DROP EXTENSION overten_auth;
