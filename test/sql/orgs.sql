--
-- orgs: renaming, closing and listing them, who is invited, and what counts
--
CREATE EXTENSION overten_auth;
INSERT INTO overten_auth.tiers (name) VALUES ('pro');
SELECT org_id AS acme FROM overten_create_org('Acme') \gset
SELECT org_id AS other FROM overten_create_org('Other', 'pro') \gset
SELECT overten_add_member(:'acme', 'ada'), overten_add_member(:'other', 'bob');
SELECT key_id AS key, secret FROM overten_mint_key(:'acme') \gset
SELECT key_id AS revoked_key FROM overten_mint_key(:'acme', 'old') \gset
SELECT overten_revoke_key(:'acme', :'revoked_key', 'first reason');

-- A name is changed only where it is another one, and is seen at once.
SELECT overten_rename_org(:'acme', '  Acme Docs '), overten_rename_org(:'acme', 'Acme Docs');
SELECT org_name FROM overten_verify_key(:'secret');
SELECT overten_rename_org(:'acme', '');
SELECT overten_rename_org(:'acme', repeat('x', 101));
SELECT overten_rename_org(:'acme', repeat('x', 10000000));
SELECT overten_rename_org(:'acme', E'a\nb');
SELECT overten_rename_org(:'acme', NULL);
SELECT overten_rename_org(NULL, 'x');
SELECT overten_rename_org('org_nobody', 'x');
SELECT overten_rename_org('sk_live_00000000000000000000000K3vO8', 'x');

-- Invitations: a code is seen once, and only its digest is stored.
SELECT * FROM overten_invite(:'acme', ' for Eve ') \gset eve_
SELECT :'eve_invitation_id' ~ '^inv_[0-9A-Za-z]{20}$' AS id, :'eve_org_id' = :'acme' AS org, :'eve_note' AS note,
	:'eve_code' ~ '^invite_[0-9A-Za-z]{32}$' AS code, :'eve_expires_at'::timestamptz - :'eve_created_at' AS valid;
SELECT code AS brief_code, expires_at - created_at AS valid FROM overten_invite(:'acme', valid_for => '1 second') \gset
-- A slow server would need longer than that for what follows.
UPDATE overten_auth.invitations SET expires_at = expires_at + interval '1 hour' WHERE digest = sha256(:'brief_code');
SELECT code AS long_code, expires_at - created_at AS valid FROM overten_invite(:'acme', NULL, '30 days') \gset
SELECT digest = sha256(:'eve_code') AS digest, note, created_by, accepted_at, accepted_by
FROM overten_auth.invitations WHERE invitation_id = :'eve_invitation_id';
SELECT note, created_by, expires_at > now() AS ahead FROM overten_list_invitations(:'acme');
SELECT count(*) FROM overten_list_invitations(:'other');
SELECT overten_invite(:'acme', '');
SELECT overten_invite(:'acme', repeat('x', 101));
SELECT overten_invite(:'acme', E'a\nb');
SELECT overten_invite(:'acme', valid_for => '0');
SELECT overten_invite(:'acme', valid_for => '-1 day');
SELECT overten_invite(:'acme', valid_for => '30 days 1 second');
SELECT overten_invite(:'acme', valid_for => '178000000 years');
SELECT overten_invite(:'acme', valid_for => NULL);
SELECT overten_invite(NULL);
SELECT overten_invite('org_nobody');
SELECT overten_list_invitations('org_nobody');
SELECT overten_list_invitations(NULL);

-- A code is good once, for one person; who repeats it is told the same.
SELECT overten_accept_invitation(:'eve_code', 'eve') = :'acme' AS acme;
SELECT overten_accept_invitation(:'eve_code', 'eve') = :'acme' AS acme;
SELECT overten_accept_invitation(:'eve_code', 'mallory');
SELECT count(*) FROM overten_list_orgs('mallory');
SELECT uid, active_keys FROM overten_list_members(:'acme');
-- One's own org again uses nothing up.
SELECT overten_accept_invitation(:'long_code', 'ada');
SELECT overten_accept_invitation(:'long_code', 'eve');
SELECT count(*) FROM overten_auth.invitations WHERE accepted_at IS NULL AND digest = sha256(:'long_code');
-- Who was removed does not come back by a used code.
SELECT overten_remove_member(:'acme', 'eve');
SELECT overten_accept_invitation(:'eve_code', 'eve');
-- Expired, withdrawn, of another org, and what is no code at all.
UPDATE overten_auth.invitations SET expires_at = now() WHERE digest = sha256(:'brief_code');
SELECT overten_accept_invitation(:'brief_code', 'eve');
SELECT count(*) FROM overten_list_invitations(:'acme') WHERE expires_at <= now();
SELECT overten_withdraw_invitation(org_id, invitation_id) AS expired FROM overten_auth.invitations WHERE digest = sha256(:'brief_code');
SELECT invitation_id AS withdrawn, code AS withdrawn_code FROM overten_invite(:'acme') \gset
SELECT overten_withdraw_invitation(:'other', :'withdrawn');
SELECT overten_withdraw_invitation(:'acme', :'withdrawn'), overten_withdraw_invitation(:'acme', :'withdrawn');
SELECT overten_withdraw_invitation(:'acme', :'eve_invitation_id') AS used;
SELECT overten_accept_invitation(:'withdrawn_code', 'eve');
SELECT overten_withdraw_invitation('org_nobody', 'x');
SELECT overten_withdraw_invitation(:'acme', NULL);
SELECT overten_withdraw_invitation(NULL, 'x');
\set VERBOSITY sqlstate
SELECT overten_accept_invitation('', 'eve');
SELECT overten_accept_invitation('invite_' || repeat('0', 32), 'eve');
SELECT overten_accept_invitation(upper(:'long_code'), 'eve');
SELECT overten_accept_invitation(:'long_code' || ' ', 'eve');
SELECT overten_accept_invitation(encode(sha256(:'long_code'), 'hex'), 'eve');
SELECT overten_accept_invitation(repeat(:'long_code', 100000), 'eve');
SELECT overten_accept_invitation(NULL, 'eve');
SELECT overten_accept_invitation(:'long_code', NULL);
SELECT overten_accept_invitation(:'long_code', '');
SELECT overten_accept_invitation(:'long_code', repeat('x', 129));
\set VERBOSITY default
-- The next invitation removes what is of no use, and nothing of other orgs.
UPDATE overten_auth.invitations SET accepted_at = now() - interval '24 hours' WHERE accepted_at IS NOT NULL;
SELECT count(*) AS before FROM overten_auth.invitations;
SELECT count(overten_invite(:'other'));
SELECT count(*) AS after_another_org FROM overten_auth.invitations;
SELECT count(overten_invite(:'acme'));
SELECT count(*) AS after FROM overten_auth.invitations;

-- Members, in the order of their joining, and how many keys would stay.
SELECT overten_accept_invitation(:'long_code', 'zoe') = :'acme' AS acme;
UPDATE overten_auth.api_keys SET created_by = 'zoe' WHERE org_id = :'acme';
SELECT uid, added_at <= clock_timestamp() AS added, active_keys FROM overten_list_members(:'acme');
BEGIN;
SELECT overten_add_member(:'acme', 'bob'), overten_add_member(:'acme', 'abe');
SELECT uid FROM overten_list_members(:'acme');
SELECT name FROM overten_list_orgs('bob');
ROLLBACK;
SELECT overten_list_members('org_nobody');
SELECT overten_list_members(NULL);
SELECT count(*) FROM overten_create_org('Empty') o, overten_list_members(o.org_id);

-- Closing is in force at once, and for good.
SELECT overten_sign_webhook(:'acme', 'x', 1, 'x') IS NOT NULL AS signs;
BEGIN;
SELECT overten_close_org(:'acme', 'mistake');
ROLLBACK;
SELECT org_name FROM overten_verify_key(:'secret');
SELECT overten_close_org(:'acme', ' no more '), overten_close_org(:'acme', 'again');
SELECT count(*) FROM overten_verify_key(:'secret');
SELECT name, revoked_reason, revoked_by FROM overten_auth.api_keys WHERE org_id = :'acme' ORDER BY name;
SELECT closed_at = suspended_at AS suspended, closed_at <= clock_timestamp() AS closed FROM overten_auth.orgs WHERE org_id = :'acme';
SELECT overten_set_api_access(:'acme', true);
SELECT overten_set_api_access(:'acme', false);
SELECT overten_mint_key(:'acme');
SELECT overten_import_key(:'acme', 'x', sha256('x'), 'sk_live_0000');
SELECT overten_invite(:'acme');
SELECT overten_signup('ada', existing_org_id => :'acme');
SELECT count(*) FROM overten_list_invitations(:'acme');
SELECT name, suspended_at IS NOT NULL AS suspended FROM overten_list_orgs('ada');
-- Nobody has to stay in it.
SELECT overten_remove_member(:'acme', 'zoe'), overten_remove_member(:'acme', 'ada');
-- An org that was suspended before stays so since then.
SELECT overten_set_api_access(:'other', false);
SELECT overten_close_org(:'other');
SELECT closed_at > suspended_at AS suspended_before FROM overten_auth.orgs WHERE org_id = :'other';
SELECT overten_close_org('org_nobody');
SELECT overten_close_org(NULL);
SELECT overten_close_org(:'other', '');
-- A row cannot be closed and active, nor an invitation accepted by nobody.
\set VERBOSITY sqlstate
UPDATE overten_auth.orgs SET suspended_at = NULL WHERE org_id = :'acme';
INSERT INTO overten_auth.invitations (invitation_id, org_id, digest, expires_at, accepted_at) VALUES ('inv_0', :'acme', sha256('x'), now(), now());
\set VERBOSITY default
-- Nor is one of a member who has gone, however that was done.
SELECT org_id AS left_org FROM overten_create_org('Left') \gset
SELECT invitation_id AS left_id, code AS left_code FROM overten_invite(:'left_org') \gset
UPDATE overten_auth.invitations SET created_by = 'ada' WHERE invitation_id = :'left_id';
SELECT overten_accept_invitation(:'left_code', 'eve');
SELECT overten_add_member(:'left_org', 'ada');
SELECT overten_accept_invitation(:'left_code', 'eve') = :'left_org' AS accepted;
-- An invitation that a restored backup has brought back is of no use, either.
INSERT INTO overten_auth.invitations (invitation_id, org_id, digest, expires_at)
	VALUES ('inv_1', :'acme', sha256('invite_' || repeat('1', 32)::bytea), now() + interval '1 day');
SELECT overten_accept_invitation('invite_' || repeat('1', 32), 'eve');

-- What the audit log says: no code and no secret.
SELECT action, uid, regexp_replace(detail, '(inv)_[0-9A-Za-z]{20}', '\1') AS detail
FROM overten_auth.audit_log WHERE org_id = :'acme' ORDER BY at;
SELECT count(*) FROM overten_auth.audit_log WHERE position(:'eve_code' IN audit_log::text) + position('invite_' IN audit_log::text) > 0;

-- Orgs count that a person has created, open or not, member or not, for 30 days
-- after they are closed.
SET overten_auth.max_orgs_per_uid = 2;
SELECT org_id AS first FROM overten_signup('carl', 'First') \gset
SELECT org_id AS second FROM overten_signup('carl', 'Second') \gset
SELECT overten_signup('carl', 'Third');
SELECT created_by FROM overten_auth.orgs WHERE org_id IN (:'first', :'acme') ORDER BY 1;
SELECT overten_revoke_all(:'first'), overten_remove_member(:'first', 'carl');
SELECT overten_signup('carl', 'Third');
SELECT overten_close_org(:'first');
SELECT overten_signup('carl', 'Third');
UPDATE overten_auth.orgs SET closed_at = now() - interval '720 hours', suspended_at = now() WHERE org_id = :'first';
SELECT org_name FROM overten_signup('carl', 'Third');
SELECT overten_signup('carl', 'Fourth');
-- What others add one to does not count, nor does what one joins.
SELECT count(overten_add_member(org_id, 'dora')) FROM overten_auth.orgs;
SELECT overten_accept_invitation(code, 'dora') IS NOT NULL AS joined FROM overten_create_org('Joined') o, overten_invite(o.org_id);
SELECT org_name FROM overten_signup('dora', 'Own');
RESET overten_auth.max_orgs_per_uid;

-- All orgs, in pages that neither repeat nor leave out.
TRUNCATE overten_auth.orgs CASCADE;
INSERT INTO overten_auth.orgs (org_id, name, tier, created_at, suspended_at, closed_at, webhook_secret_sealed)
	SELECT 'org_' || i, CASE i % 3 WHEN 0 THEN 'Groß ' ELSE '100% ' END || i, CASE i % 2 WHEN 0 THEN 'free' ELSE 'pro' END,
		'2026-01-01'::timestamptz + i / 4 * interval '1 day',
		CASE WHEN i % 5 = 0 OR i % 7 = 0 THEN now() END, CASE WHEN i % 7 = 0 THEN now() END, ''
	FROM generate_series(1, 30) i;
SELECT overten_add_member('org_2', 'ada'), overten_add_member('org_2', 'bob'), count(overten_mint_key('org_2', i::text)) FROM generate_series(1, 3) i;
SELECT overten_revoke_key(org_id, key_id) FROM overten_auth.api_keys WHERE name = '1';
CREATE FUNCTION pg_temp.pages(size int) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	page text[];
	result text := '';
	after text;
BEGIN
	LOOP
		SELECT array_agg(org_id ORDER BY n) INTO page FROM overten_all_orgs(after_org_id => after, max_orgs => size) WITH ORDINALITY a (org_id, name, tier, created_at, created_by, api_access_since, suspended_at, closed_at, members, active_keys, n);
		EXIT WHEN page IS NULL;
		result := result || array_to_string(page, ' ') || ' ';
		after := page[cardinality(page)];
	END LOOP;
	RETURN md5(result);
END
$$;
SELECT size, pg_temp.pages(size) = (SELECT md5(string_agg(org_id, ' ' ORDER BY created_at, org_id) || ' ') FROM overten_auth.orgs) AS by_creation
FROM unnest(ARRAY[1, 2, 3, 7, 30, 1000]) size;
SELECT org_id, members, active_keys FROM overten_all_orgs(max_orgs => 3);
SELECT what, (SELECT string_agg(substr(org_id, 5), ' ') FROM overten_all_orgs(tier, suspended, closed, part)) AS orgs
FROM (VALUES
	('tier', 'pro', NULL::bool, NULL::bool, NULL),
	('no such tier', 'gold', NULL, NULL, NULL),
	('suspended', NULL, true, NULL, NULL),
	('not suspended', NULL, false, NULL, NULL),
	('closed', NULL, NULL, true, NULL),
	('suspended, but open', NULL, true, false, NULL),
	('in another case', NULL, NULL, NULL, 'GRO'),
	('in any script', NULL, NULL, NULL, 'oß '),
	('with a wildcard that is none', NULL, NULL, NULL, '%'),
	('with another', NULL, NULL, NULL, '_'),
	('all of them', 'pro', true, false, '100% ')) v (what, tier, suspended, closed, part);
SELECT count(*) FROM overten_all_orgs(closed => false, max_orgs => 5, after_org_id => 'org_28');
SELECT overten_all_orgs(after_org_id => 'org_nobody');
SELECT overten_all_orgs(max_orgs => 0);
SELECT overten_all_orgs(max_orgs => 1001);
SELECT overten_all_orgs(max_orgs => NULL);
SELECT overten_all_orgs(name_part => '');
SELECT overten_all_orgs(name_part => repeat('x', 101));
-- A page is found by the index, wherever it begins.
SET enable_seqscan = off;
CREATE FUNCTION pg_temp.explained(query text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	line text;
BEGIN
	FOR line IN EXECUTE 'EXPLAIN (COSTS OFF) ' || query LOOP
		IF line LIKE '%Sort%' THEN
			RETURN line;
		END IF;
	END LOOP;
	RETURN 'no sort';
END
$$;
SELECT pg_temp.explained($$SELECT org_id FROM overten_auth.orgs WHERE (created_at, org_id) > ('2026-01-01', 'org_') ORDER BY created_at, org_id LIMIT 10$$);
SELECT pg_temp.explained($$SELECT at FROM overten_auth.audit_log WHERE org_id = 'x' AND (at, audit_id) < (now(), gen_random_uuid()) ORDER BY at DESC, audit_id DESC LIMIT 10$$);

-- A key is active if it is neither revoked nor expired, whoever counts.
\set VERBOSITY terse
SELECT org_id AS counted FROM overten_create_org('Counted') \gset
SELECT overten_add_member(:'counted', 'counter'), overten_add_member(:'counted', 'other');
SELECT count(overten_mint_key(:'counted', name)) FROM unnest('{active,expires,disabled,expired,revoked,both}'::text[]) name;
UPDATE overten_auth.api_keys SET created_by = 'counter',
	revoked_at = CASE WHEN name IN ('revoked', 'both') THEN now() END,
	expires_at = CASE name WHEN 'expires' THEN now() + interval '1 hour' WHEN 'expired' THEN now() WHEN 'both' THEN now() END,
	disabled_at = CASE name WHEN 'disabled' THEN now() END
WHERE org_id = :'counted';
SELECT uid, active_keys FROM overten_list_members(:'counted');
SELECT active_keys FROM overten_all_orgs(name_part => 'Counted');
BEGIN;
SELECT overten_remove_member(:'counted', 'counter');
ROLLBACK;
SET overten_auth.max_keys_per_org = 3;
SELECT overten_signup('counter', NULL, :'counted');
SET overten_auth.max_keys_per_org = 4;
SELECT count(overten_signup('counter', NULL, :'counted'));
RESET overten_auth.max_keys_per_org;
SELECT active_keys FROM overten_all_orgs(name_part => 'Counted');
SELECT overten_remove_member(:'counted', 'other'), overten_revoke_all(:'counted');
-- Of an org without members, nobody is the last one.
SELECT org_id AS empty FROM overten_create_org('Empty') \gset
SELECT count(overten_mint_key(:'empty'));
SELECT overten_remove_member(:'empty', 'nobody');
-- Nor does anybody have to stay in one that is suspended.
SELECT overten_add_member(:'empty', 'ada'), overten_set_api_access(:'empty', false);
SELECT overten_remove_member(:'empty', 'ada');

DROP EXTENSION overten_auth;
