--
-- keys: minting, verifying, listing and revoking, and what is refused
--
CREATE EXTENSION overten_auth;
INSERT INTO overten_auth.tiers (name) VALUES ('pro');

-- An org, and two keys of the same name, as a rotation needs them.
SELECT org_id, org_id ~ '^org_[0-9A-Za-z]{20}$' AS id_form, name, tier,
	   created_at BETWEEN now() AND clock_timestamp() AS now
FROM overten_create_org('  Acme Docs ') \gset acme_
SELECT :'acme_id_form' AS id_form, :'acme_name' AS name, :'acme_tier' AS tier, :'acme_now' AS now;
SELECT org_id FROM overten_create_org('Umbrella', 'pro') \gset other_
SELECT * FROM overten_mint_key(:'acme_org_id') \gset first_
SELECT * FROM overten_mint_key(:'acme_org_id', name => 'primary') \gset second_
SELECT * FROM overten_mint_key(:'other_org_id', 'ci-tests') \gset other_
SELECT :'first_org_id' = :'acme_org_id' AS org, :'first_name' AS name,
	   :'first_prefix' = left(:'first_secret', 12) AS prefix;

-- Verified, by the secret and by its digest; twice, so from the cache too.
SELECT key_id = :'first_key_id' AS key, org_id = :'acme_org_id' AS org,
	   org_name, tier, webhook_secret ~ '^whsec_' AS webhook_secret,
	   key_prefix = :'first_prefix' AS prefix
FROM overten_verify_key(:'first_secret');
SELECT v = overten_verify_key_digest(sha256(:'first_secret'::bytea)) AS same,
	   v.key_id = :'first_key_id' AS key
FROM overten_verify_key(:'first_secret') v;
SELECT tier FROM overten_verify_key(:'other_secret');

-- A refused key is no row.
SELECT * FROM overten_verify_key('sk_live_');
SELECT NOT EXISTS (SELECT FROM overten_verify_key('sk_live_00000000000000000000000K3vO8')) AS unknown;

-- Each of these is refused without an error.  Look-alikes: a Cyrillic s, a
-- full-width digit, an o with a combining mark.
\set VERBOSITY sqlstate
SELECT what
FROM (VALUES
	('NULL', NULL),
	('empty', ''),
	('prefix alone', 'sk_live_'),
	('27 characters', left(:'first_secret', 35)),
	('29 characters', :'first_secret' || '0'),
	('upper-case prefix', 'SK_LIVE_' || substr(:'first_secret', 9)),
	('other prefix', 'sk_test_' || substr(:'first_secret', 9)),
	('leading space', ' ' || :'first_secret'),
	('trailing space', :'first_secret' || ' '),
	('trailing newline', :'first_secret' || E'\n'),
	('newline for the last character', left(:'first_secret', 35) || E'\n'),
	('percent', 'sk_live_' || repeat('%', 28)),
	('underscores', repeat('_', 36)),
	('look-alike prefix', 'ѕk_live_' || substr(:'first_secret', 9)),
	('look-alike digit of the same length', left(:'first_secret', 33) || '７'),
	('combining mark', left(:'first_secret', 34) || U&'\0301'),
	('other case', overlay(:'first_secret' PLACING
		translate(substr(:'first_secret', 9, 22),
		'abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ',
		'ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz') FROM 9)),
	('SQL', ''' OR true; DROP TABLE overten_auth.api_keys --'),
	('the digest', encode(sha256(:'first_secret'::bytea), 'hex')),
	('the key id', :'first_key_id'),
	('1 MB', repeat(:'first_secret', 30000))) v (what, secret),
	overten_verify_key(secret);
SELECT what
FROM (VALUES
	('NULL', NULL::bytea),
	('empty', ''),
	('31 bytes', substr(sha256(:'first_secret'::bytea), 1, 31)),
	('33 bytes', sha256(:'first_secret'::bytea) || '\x00'),
	('the secret', :'first_secret'::bytea),
	('zeros', decode(repeat('00', 32), 'hex'))) v (what, digest),
	overten_verify_key_digest(digest);

-- What is no text never gets here.
SELECT overten_verify_key(convert_from('\x736b5f6c6976655f00', 'UTF8'));
SELECT overten_verify_key(convert_from('\x736b5f6c6976655fff', 'UTF8'));

-- Names: 1 to 64 characters once spaces are trimmed, stored as given.
SELECT overten_mint_key(:'acme_org_id', '');
SELECT overten_mint_key(:'acme_org_id', '   ');
SELECT overten_mint_key(:'acme_org_id', repeat('x', 65));
SELECT overten_mint_key(:'acme_org_id', repeat('é', 65));
SELECT overten_mint_key(:'acme_org_id', repeat('x', 10000000));
SELECT overten_mint_key(:'acme_org_id', E'a\nb');
SELECT overten_mint_key(:'acme_org_id', E'a\x7fb');
SELECT overten_mint_key(:'acme_org_id', U&'a\0085b');
SELECT overten_mint_key(:'acme_org_id', E'\t');
SELECT overten_mint_key(:'acme_org_id', NULL);
SELECT overten_mint_key(NULL);
SELECT overten_mint_key('org_nobody');
SELECT overten_mint_key('');
SELECT overten_mint_key(repeat('x', 1000000));
SELECT org_id FROM overten_create_org('Names') \gset names_
SELECT count((overten_mint_key(:'names_org_id', name)).secret) AS minted
FROM (VALUES (repeat('é', 64)), (' ' || repeat('x', 64) || ' '), ('x'),
	('''); DROP TABLE overten_auth.api_keys --'), ('$$ \ "'), ('🔑 مفتاح')) v (name);
SELECT name FROM overten_list_keys(:'names_org_id') ORDER BY name COLLATE "C";

-- Orgs: 1 to 100 characters, and a tier that exists.
SELECT overten_create_org('');
SELECT overten_create_org(NULL);
SELECT overten_create_org(repeat('x', 101));
SELECT overten_create_org(U&'a\009Fb');
SELECT overten_create_org('Acme', 'gold');
SELECT overten_create_org('Acme', '');
SELECT overten_create_org('Acme', NULL);
SELECT length(name) FROM overten_create_org(repeat('ü', 100));

-- Tiers: a change is seen at once, and made only where there is one.
SELECT overten_set_tier(:'acme_org_id', 'pro');
SELECT overten_set_tier(:'acme_org_id', 'pro');
SELECT tier FROM overten_verify_key(:'first_secret');
SELECT overten_set_tier(:'acme_org_id', 'gold');
SELECT overten_set_tier('org_nobody', 'pro');
SELECT overten_set_tier(NULL, 'pro');
SELECT overten_set_tier(:'acme_org_id', NULL);

-- Suspending refuses all keys of the org and touches none.
SELECT overten_set_api_access(:'acme_org_id', false);
SELECT overten_set_api_access(:'acme_org_id', false);
SELECT (SELECT key_id FROM overten_verify_key(:'first_secret')), (SELECT org_name FROM overten_verify_key(:'other_secret'));
SELECT overten_set_api_access(:'acme_org_id', true);
SELECT overten_set_api_access(:'acme_org_id', true);
SELECT org_name FROM overten_verify_key(:'first_secret');
SELECT overten_set_api_access('org_nobody', true);
SELECT overten_set_api_access(:'acme_org_id', NULL);
SELECT overten_set_api_access(NULL, true);

-- Members
SELECT overten_add_member(:'acme_org_id', 'ada'), overten_add_member(:'acme_org_id', 'ada');
SELECT overten_add_member(:'other_org_id', 'ada'), overten_add_member(:'other_org_id', 'bob');
SELECT name, tier, api_access_since IS NOT NULL AS signed_up, suspended_at FROM overten_list_orgs('ada');
SELECT overten_remove_member(:'other_org_id', 'ada'), overten_remove_member(:'other_org_id', 'ada');
SELECT name FROM overten_list_orgs('ada');
SELECT count(*) FROM overten_list_orgs('nobody');
SELECT overten_add_member('org_nobody', 'ada');
SELECT overten_remove_member('org_nobody', 'ada');
SELECT overten_add_member(:'acme_org_id', '');
SELECT overten_add_member(:'acme_org_id', repeat('x', 129));
SELECT overten_add_member(:'acme_org_id', NULL);
SELECT overten_list_orgs(NULL);
SELECT overten_list_orgs('');

-- Listing shows no secret and no digest; an unknown org is an error.
SELECT key_id IN (:'first_key_id', :'second_key_id') AS key, name,
	   prefix = left(CASE key_id WHEN :'first_key_id' THEN :'first_secret'
					 ELSE :'second_secret' END, 12) AS prefix,
	   last_used_at IS NOT NULL AS used, revoked_at
FROM overten_list_keys(:'acme_org_id');
SELECT overten_list_keys('org_nobody');
SELECT overten_list_keys(NULL);
SELECT count(*) FROM overten_create_org('Empty') o, overten_list_keys(o.org_id);

-- Revoking: once, for good, and only by its own org.
SELECT overten_revoke_key(:'acme_org_id', :'other_key_id');
SELECT overten_revoke_key(:'other_org_id', :'first_key_id');
SELECT overten_revoke_key('org_nobody', :'first_key_id');
SELECT overten_revoke_key(:'acme_org_id', 'key_nobody');
SELECT overten_revoke_key(:'acme_org_id', '');
SELECT overten_revoke_key(NULL, :'first_key_id');
SELECT overten_revoke_key(:'acme_org_id', NULL);
SELECT overten_revoke_key(:'acme_org_id', :'first_key_id', '');
SELECT overten_revoke_key(:'acme_org_id', :'first_key_id', repeat('x', 201));
SELECT overten_revoke_key(:'acme_org_id', :'first_key_id', E'two\nlines');
SELECT org_name FROM overten_verify_key(:'first_secret');
SELECT overten_revoke_key(:'acme_org_id', :'first_key_id', 'leaked on a forum');
SELECT revoked_at AS first_revoked_at FROM overten_auth.api_keys WHERE key_id = :'first_key_id' \gset
SELECT overten_revoke_key(:'acme_org_id', :'first_key_id', 'again');
SELECT revoked_at = :'first_revoked_at' AS same_time, revoked_reason
FROM overten_auth.api_keys WHERE key_id = :'first_key_id';
SELECT key_id FROM overten_verify_key(:'first_secret');
SELECT org_name FROM overten_verify_key(:'second_secret');
SELECT count(*), count(revoked_at) AS revoked FROM overten_list_keys(:'acme_org_id');

-- Two keys with the same prefix both work.
INSERT INTO overten_auth.api_keys (key_id, org_id, name, prefix, digest)
SELECT 'key_' || n, :'acme_org_id', 'imported', 'sk_live_AAAA',
	   sha256(('sk_live_AAAA' || lpad(n::text, 24, '0'))::bytea)
FROM generate_series(1, 2) n;
SELECT key_id, key_prefix, overten_key_checksum_ok('sk_live_AAAA' || lpad(n::text, 24, '0')) AS checksum
FROM generate_series(1, 2) n, overten_verify_key('sk_live_AAAA' || lpad(n::text, 24, '0'));
INSERT INTO overten_auth.api_keys (key_id, org_id, name, prefix, digest)
SELECT 'key_3', :'acme_org_id', 'twice', prefix, digest FROM overten_auth.api_keys WHERE key_id = 'key_1';

-- READ ONLY transactions verify and list, but do not mint or revoke.
BEGIN READ ONLY;
SELECT org_name FROM overten_verify_key(:'second_secret');
SELECT count(*) FROM overten_list_keys(:'acme_org_id');
SAVEPOINT s;
SELECT overten_mint_key(:'acme_org_id');
ROLLBACK TO s;
SELECT overten_revoke_key(:'acme_org_id', :'second_key_id');
ROLLBACK;
SELECT org_name FROM overten_verify_key(:'second_secret');

-- The time of the last use: recorded once a minute, not before, and never
-- where that would need more than a READ COMMITTED transaction that may write.
SELECT * FROM overten_mint_key(:'acme_org_id', 'use') \gset use_
BEGIN READ ONLY;
SELECT tier FROM overten_verify_key(:'use_secret');
COMMIT;
BEGIN ISOLATION LEVEL REPEATABLE READ;
SELECT tier FROM overten_verify_key(:'use_secret');
COMMIT;
SET overten_auth.record_use_without_preload = off;
SELECT tier FROM overten_verify_key(:'use_secret');
RESET overten_auth.record_use_without_preload;
SELECT last_used_at FROM overten_auth.key_last_used WHERE key_id = :'use_key_id';
SELECT tier FROM overten_verify_key(:'use_secret');
SELECT last_used_at, last_used_at > now() - interval '10 seconds' AS now
FROM overten_list_keys(:'acme_org_id') WHERE name = 'use' \gset use_
SELECT :'use_now' AS recorded;
SELECT tier FROM overten_verify_key(:'use_secret');
\c
SELECT tier FROM overten_verify_key(:'use_secret');
SELECT last_used_at = :'use_last_used_at' AS not_yet_again
FROM overten_auth.key_last_used WHERE key_id = :'use_key_id';
UPDATE overten_auth.key_last_used SET last_used_at = now() - interval '61 seconds'
WHERE key_id = :'use_key_id';
SELECT tier FROM overten_verify_key(:'use_secret');
SELECT last_used_at > now() - interval '61 seconds' AS cached_time_counts
FROM overten_auth.key_last_used WHERE key_id = :'use_key_id';
\c
SELECT tier FROM overten_verify_key(:'use_secret');
SELECT last_used_at > now() - interval '10 seconds' AS recorded_again
FROM overten_auth.key_last_used WHERE key_id = :'use_key_id';

-- Caches that are turned off keep nothing of what they held.
\getenv srcdir PG_ABS_SRCDIR
\set tokens :srcdir '/sql/tokens.inc'
\set ECHO none
\i :tokens
\set ECHO all
SET overten_auth.firebase_project_id = 'overten-test';
SELECT overten_load_signing_keys(:'signing_keys');
SELECT secret FROM overten_create_org('Cached') o, overten_mint_key(o.org_id) \gset
CREATE FUNCTION pg_temp.use(secret text, token text) RETURNS TABLE (accepted bigint) LANGUAGE sql AS $$
	SELECT count(key_id) FROM overten_verify_key(secret);
	SELECT count(key_id) + (SELECT count(uid) FROM overten_verify_firebase_jwt(token)) FROM overten_verify_key(secret)
$$;
CREATE VIEW pg_temp.caches AS
	SELECT string_agg(ident, ' ' ORDER BY ident) AS held FROM pg_backend_memory_contexts WHERE name = 'overten_auth cache';
SELECT * FROM pg_temp.use(:'secret', :'ada_token');
SELECT * FROM pg_temp.caches;
SET overten_auth.cache_entries = 0;
SELECT * FROM pg_temp.caches;
RESET overten_auth.cache_entries;
SELECT * FROM pg_temp.use(:'secret', :'ada_token');
SELECT * FROM pg_temp.caches;
BEGIN;
SET LOCAL overten_auth.cache_entries = 0;
SELECT * FROM pg_temp.caches;
ROLLBACK;
SELECT * FROM pg_temp.caches;

-- A transaction that minted a key and takes it back takes all of it back.
BEGIN;
SELECT * FROM overten_mint_key(:'acme_org_id', 'undone') \gset undone_
SELECT org_name FROM overten_verify_key(:'undone_secret');
ROLLBACK;
SELECT key_id FROM overten_verify_key(:'undone_secret');
SELECT count(*) FROM overten_auth.key_last_used WHERE key_id = :'undone_key_id';
SELECT count(*) FROM overten_auth.audit_log WHERE key_id = :'undone_key_id';

-- In one statement, too, what was revoked before is refused.
SELECT overten_revoke_key(:'acme_org_id', :'use_key_id'), (SELECT key_id FROM overten_verify_key(:'use_secret'));

-- The audit log has each change once, and says who.
SELECT action, key_id IS NOT NULL AS has_key, actor = session_user AS actor, uid, detail
FROM overten_auth.audit_log WHERE org_id = :'acme_org_id' ORDER BY at;
UPDATE overten_auth.audit_log SET actor = 'nobody';
DELETE FROM overten_auth.audit_log;
TRUNCATE overten_auth.audit_log;
SET session_replication_role = replica;
DELETE FROM overten_auth.audit_log;
RESET session_replication_role;

-- Who minted and revoked a key, and why
SELECT name, prefix = left(:'first_secret', 12) AS prefix, created_at < revoked_at AS revoked, created_by, revoked_by, revoked_reason
FROM overten_describe_key(:'acme_org_id', :'first_key_id');
SELECT org_id AS signup_org_id, key_id AS signup_key_id FROM overten_signup('ada', 'Signed up') \gset
SELECT name, created_by, revoked_at, revoked_by, revoked_reason FROM overten_describe_key(:'signup_org_id', :'signup_key_id');
SELECT overten_describe_key(:'acme_org_id', :'signup_key_id');
SELECT overten_describe_key('org_nobody', :'signup_key_id');
SELECT overten_describe_key(:'acme_org_id', '');
SELECT overten_describe_key(NULL, :'signup_key_id');
SELECT overten_describe_key(:'acme_org_id', NULL);

-- A table that is not as it should be is an error each time it is read, and none any more when it has been mended.
SELECT * FROM overten_mint_key(:'acme_org_id', 'renamed') \gset renamed_
ALTER TABLE overten_auth.api_keys RENAME prefix TO renamed;
ALTER TABLE overten_auth.orgs RENAME name TO renamed;
\c
SELECT org_name FROM overten_verify_key(:'renamed_secret');
SELECT org_name FROM overten_verify_key(:'renamed_secret');
ALTER TABLE overten_auth.api_keys RENAME renamed TO prefix;
SELECT org_name FROM overten_verify_key(:'renamed_secret');
SELECT org_name FROM overten_verify_key(:'renamed_secret');
ALTER TABLE overten_auth.orgs RENAME renamed TO name;
SELECT org_name FROM overten_verify_key(:'renamed_secret');

DROP EXTENSION overten_auth;
