--
-- names: the text that people choose, and who may leave an org
--
CREATE EXTENSION overten_auth;
SELECT org_id AS org FROM overten_create_org('Names') \gset
SELECT set_config('test.org', :'org', false), set_config('test.secret', secret, false),
	   set_config('test.key', key_id, false) FROM overten_mint_key(:'org') \gset

-- What comes of a text in each function that takes a name, a reason or a uid:
-- the message, if all of them have the same, without what it is about.
CREATE FUNCTION pg_temp.try(statement text, given text) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
	BEGIN
		EXECUTE statement USING given, current_setting('test.org'), current_setting('test.key'), current_setting('test.secret');
	EXCEPTION WHEN OTHERS THEN
		RETURN SQLSTATE || regexp_replace(SQLERRM, '^.*(name|note|reason|uid) must', '');
	END;
	RETURN 'good';
END
$$;
CREATE TEMP TABLE statements (what text, statement text);
INSERT INTO statements VALUES
	('name', 'SELECT overten_create_org($1)'),
	('name', 'SELECT overten_rename_org(org_id, $1) FROM overten_create_org(''x'')'),
	('name', 'SELECT overten_close_org(org_id, $1) FROM overten_create_org(''x'')'),
	('name', 'SELECT overten_invite($2, $1)'),
	('name', 'SELECT overten_mint_key($2, $1)'),
	('name', 'SELECT overten_signup(''ada'', $1)'),
	('name', 'SELECT overten_signup(''ada'', ''x'', key_name => $1)'),
	('name', 'SELECT overten_import_key($2, $1, sha256(gen_random_uuid()::text::bytea), ''sk_live_0000'')'),
	('name', 'SELECT overten_import_keys(ARRAY[$2], ARRAY[$1], ARRAY[sha256(gen_random_uuid()::text::bytea)], ''{sk_live_0000}'')'),
	('name', 'SELECT overten_revoke_key($2, $3, $1)'),
	('name', 'SELECT overten_revoke_leaked($4, $1)'),
	('name', 'SELECT overten_revoke_all($2, $1)'),
	('uid', 'SELECT overten_add_member($2, $1)'),
	('uid', 'SELECT overten_remove_member($2, $1)'),
	('uid', 'SELECT overten_list_orgs($1)'),
	('uid', 'SELECT overten_accept_invitation(code, $1) FROM overten_invite($2)'),
	('uid', 'SELECT overten_signup($1, ''x'')');
SET overten_auth.max_orgs_per_uid = 100000;
CREATE FUNCTION pg_temp.outcome(kind text, given text) RETURNS text LANGUAGE sql AS $$
	SELECT string_agg(DISTINCT pg_temp.try(statement, given), ' | ') FROM statements WHERE what = kind
$$;

-- Names may be in any script and have emoji, joined and with variation selectors.
-- Releases of psql do not agree on the widths of these, so they are not aligned.
\a
SELECT text, pg_temp.outcome('name', text) AS name
FROM (VALUES ('Acme'), ('مفتاح عربي'), ('עברית'), ('क्षत्रिय'), ('ක්‍ෂ'), ('می‌خواهم'), ('ภาษาไทย'), ('é'), (U&'e\0301'), ('葛󠄀飾'), ('日本語'),
	('🔑'), ('👩‍👩‍👧‍👦'), ('❤️'), ('🏴'), ('🏴󠁧󠁢󠁥󠁮󠁧󠁿'), ('🏴󠁧󠁢󠁷󠁬󠁳󠁿 Cymru'), ('🇯🇵'), ('1️⃣'), (U&'a\00a0b'), (U&'a\200bb'), (U&'a\00adb'),
	(U&'\f8ff'), (U&'\+100000'), (U&'\+0e0100a'), (U&'\0378'), ('-'), ('.'), ('''"\;--')) v (text);
\a

-- But not what has nothing to see,
SELECT code, pg_temp.outcome('name', text) AS name, pg_temp.outcome('uid', text) AS uid
FROM (VALUES ('empty', ''), ('spaces', '   '), ('00A0', U&'\00a0'), ('00AD', U&'\00ad'), ('034F', U&'\034f'), ('115F', U&'\115f'), ('1160', U&'\1160'),
	('1680', U&'\1680'), ('180E', U&'\180e'), ('2000', U&'\2000'), ('200B', U&'\200b'), ('200C', U&'\200c'), ('200D', U&'\200d'), ('202F', U&'\202f'),
	('205F', U&'\205f'), ('2060', U&'\2060'), ('2064', U&'\2064'), ('206A', U&'\206a'), ('2800', U&'\2800'), ('3000', U&'\3000'), ('3164', U&'\3164'),
	('FE0F', U&'\fe0f'), ('FEFF', U&'\feff'), ('FFA0', U&'\ffa0'), ('FFF9', U&'\fff9'), ('1D159', U&'\+01d159'), ('1D173', U&'\+01d173'),
	('E0080', U&'\+0e0080'), ('E0100', U&'\+0e0100'), ('several', U&' \00a0\200b\3164 ')) v (code, text);
-- nor what ends lines or changes the direction, anywhere.
SELECT code, pg_temp.outcome('name', 'a' || text || 'b') AS name, pg_temp.outcome('uid', 'a' || text || 'b') AS uid
FROM (VALUES ('0001', U&'\0001'), ('0009', E'\t'), ('000A', E'\n'), ('001F', U&'\001f'), ('007F', U&'\007f'), ('0080', U&'\0080'), ('0085', U&'\0085'), ('009F', U&'\009f'),
	('2028', U&'\2028'), ('2029', U&'\2029'),
	('061C', U&'\061c'), ('200E', U&'\200e'), ('200F', U&'\200f'), ('202A', U&'\202a'), ('202B', U&'\202b'), ('202C', U&'\202c'), ('202D', U&'\202d'),
	('202E', U&'\202e'), ('2066', U&'\2066'), ('2067', U&'\2067'), ('2068', U&'\2068'), ('2069', U&'\2069'),
	('E0001', U&'\+0e0001'), ('E0041', U&'\+0e0041'), ('E007F', U&'\+0e007f'), ('a flag without its end', U&'\+01f3f4\+0e0067\+0e0062'),
	('an empty flag', U&'\+01f3f4\+0e007f'), ('a long flag', U&'\+01f3f4' || repeat(U&'\+0e0067', 7) || U&'\+0e007f'), ('a flag in capitals', U&'\+01f3f4\+0e0047\+0e007f'),
	('FDD0', U&'\fdd0'), ('FDEF', U&'\fdef'), ('FFFE', U&'\fffe'), ('FFFF', U&'\ffff'), ('1FFFE', U&'\+01fffe'), ('10FFFF', U&'\+10ffff')) v (code, text);
-- The neighbors of those are allowed.
SELECT code FROM (VALUES ('00A1', U&'\00a1'), ('061B', U&'\061b'), ('061D', U&'\061d'), ('2010', U&'\2010'), ('2027', U&'\2027'), ('202F', U&'\202f'), ('2065', U&'\2065'),
	('206A', U&'\206a'), ('FDCF', U&'\fdcf'), ('FDF0', U&'\fdf0'), ('FFFD', U&'\fffd'), ('1FFFD', U&'\+01fffd'), ('E0080', U&'\+0e0080')) v (code, text)
WHERE pg_temp.outcome('name', 'a' || text || 'b') <> 'good' OR pg_temp.outcome('uid', 'a' || text || 'b') <> 'good';

-- Lengths, after spaces are trimmed; what is huge is not trimmed.
SELECT what, pg_temp.try(statement, text)
FROM (VALUES ('SELECT overten_mint_key($2, $1)')) s (statement), (VALUES ('64', repeat('é', 64)), ('65', repeat('é', 65)), ('64 and spaces', repeat(' ', 4000) || repeat('é', 64) || repeat(' ', 4000)),
	('64 and more spaces', repeat(' ', 8192) || 'x'), ('1 MB', repeat('x', 1000000))) v (what, text);
SELECT what, pg_temp.try('SELECT overten_create_org($1)', text) FROM (VALUES ('100', repeat('é', 100)), ('101', repeat('é', 101))) v (what, text);
SELECT what, pg_temp.try('SELECT overten_revoke_all($2, $1)', text) FROM (VALUES ('200', repeat('é', 200)), ('201', repeat('é', 201))) v (what, text);

-- Uids are taken byte for byte, so that nothing unseen may be at their ends.
SELECT what, pg_temp.outcome('uid', text) AS uid
FROM (VALUES ('128', repeat('é', 128)), ('129', repeat('é', 129)), ('within', 'a b'), ('a space before', ' ada'), ('a space behind', 'ada '), ('a line feed behind', E'ada\n'),
	('00A0 before', U&'\00a0ada'), ('200B behind', U&'ada\200b'), ('FEFF before', U&'\feffada'), ('FE0F behind', '❤️'), ('an emoji', '🔑'), ('1 MB', repeat('x', 1000000))) v (what, text);

-- The last member of an org with active keys stays.
SELECT org_id AS club FROM overten_create_org('Club') \gset
SELECT overten_add_member(:'club', 'ada'), overten_remove_member(:'club', 'ada') AS without_keys;
SELECT overten_add_member(:'club', 'ada'), overten_add_member(:'club', 'bob');
SELECT key_id AS club_key FROM overten_mint_key(:'club') \gset
SELECT overten_remove_member(:'club', 'ada') AS not_the_last;
SELECT overten_remove_member(:'club', 'ada') AS no_member;
\getenv srcdir PG_ABS_SRCDIR
\set refusal :srcdir '/sql/refusal.inc'
\set ECHO none
\i :refusal
\set ECHO all
SELECT pg_temp.refusal(format('SELECT overten_remove_member(%L, %L)', :'club', 'bob'), :'club');
SELECT overten_add_member(:'club', 'bob') AS was_removed;
BEGIN;
SELECT overten_set_api_access(:'club', false), overten_remove_member(:'club', 'bob') AS suspended;
ROLLBACK;
BEGIN;
SELECT overten_add_member(:'club', 'eve'), overten_remove_member(:'club', 'bob') AS replaced;
ROLLBACK;
SELECT overten_revoke_all(:'club'), overten_remove_member(:'club', 'bob') AS all_revoked;
SELECT overten_remove_member('org_nobody', 'ada');
SELECT action, uid, detail FROM overten_auth.audit_log WHERE org_id = :'club' AND action ~ 'member' ORDER BY at;

DROP EXTENSION overten_auth;
