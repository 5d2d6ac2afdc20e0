--
-- http_orgs: the endpoints about orgs and people
--
CREATE EXTENSION overten_auth;
\getenv srcdir PG_ABS_SRCDIR
\set tokens :srcdir '/sql/tokens.inc'
\set ECHO none
\i :tokens
\set ECHO all
SET overten_auth.firebase_project_id = 'overten-test';
SELECT overten_load_signing_keys(:'signing_keys');
CREATE FUNCTION pg_temp.ask(method text, path text, credential text, content text DEFAULT NULL)
	RETURNS TABLE (status int, code text, body text) LANGUAGE sql AS $$
	SELECT r.status, r.body::json #>> '{error,code}', r.body
	FROM overten_handle_request(method, '/api/v1' || path, json_build_object('authorization', 'Bearer ' || credential, 'content-type', 'application/json'), content) r
$$;
-- Bodies, without what is random.
CREATE FUNCTION pg_temp.shown(body text) RETURNS text LANGUAGE sql AS $$
	SELECT regexp_replace(regexp_replace(regexp_replace(regexp_replace(body, '(org|key|inv)_[0-9A-Za-z]{20}', '\1', 'g'),
		'\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ', 'time', 'g'), '(invite|whsec)_[0-9A-Za-z+/]{32}', '\1', 'g'), '[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}', 'uuid', 'g')
$$;
\pset null '-'

-- What the service offers: what customers may choose, by name; scopes only with their feature.
SELECT status, body FROM pg_temp.ask('GET', '/features', :'ada_token');
INSERT INTO overten_auth.tiers VALUES ('pro "plan"', true), ('internal', false), ('École', true);
INSERT INTO overten_auth.scopes VALUES ('jobs.read', 'Read jobs', true);
SET overten_auth.max_key_lifetime = '90d';
SET overten_auth.signup_requires_verified_email = on;
SET overten_auth.key_prefixes = 'acme_';
SELECT status, body FROM pg_temp.ask('GET', '/features?tiers=x', :'ada_token');
SELECT status, body FROM pg_temp.ask('HEAD', '/features', :'ada_token');
SELECT method, path, status, code FROM (VALUES ('POST', '/features'), ('PATCH', '/features'), ('GET', '/features/'), ('GET', '/features/tiers')) v (method, path), LATERAL pg_temp.ask(method, path, :'ada_token', '{}');
SELECT status, code FROM unnest(ARRAY['', 'x.y.z', 'sk_live_00000000000000000000000K3vO8']) credential, LATERAL pg_temp.ask('GET', '/features', credential);
BEGIN READ ONLY;
SELECT status FROM pg_temp.ask('GET', '/features', :'ada_token');
COMMIT;
DELETE FROM overten_auth.tiers WHERE name <> 'internal';
SELECT body::json -> 'tiers' AS tiers FROM pg_temp.ask('GET', '/features', :'ada_token');
INSERT INTO overten_auth.tiers VALUES ('free', true);
RESET overten_auth.max_key_lifetime;
RESET overten_auth.signup_requires_verified_email;
RESET overten_auth.key_prefixes;

-- Nothing, then one's own, in the order of their creation; not those of others.
SELECT status, body FROM pg_temp.ask('GET', '/organizations', :'ada_token');
SELECT body::json ->> 'org_id' AS acme FROM pg_temp.ask('POST', '/signup', :'ada_token', '{"org_name": "Acme"}') \gset
SELECT body::json ->> 'org_id' AS second FROM pg_temp.ask('POST', '/signup', :'ada_token', '{"org_name": "Second"}') \gset
SELECT body::json ->> 'org_id' AS bobs FROM pg_temp.ask('POST', '/signup', :'bob_token', '{"org_name": "Bob"}') \gset
SELECT overten_set_api_access(:'second', false);
SELECT status, pg_temp.shown(body) AS body FROM pg_temp.ask('GET', '/organizations?limit=1', :'ada_token');
SELECT status, body FROM pg_temp.ask('HEAD', '/organizations', :'ada_token');
SELECT created_by FROM overten_auth.orgs ORDER BY created_at;

-- Renaming answers with the org; what changes nothing writes nothing.
SELECT status, pg_temp.shown(body) AS body FROM pg_temp.ask('PATCH', '/organizations/' || :'acme', :'ada_token', '{"name": " Größer \u2713 ", "tier": "pro", "closed_at": null}');
SELECT xmin AS before FROM overten_auth.orgs WHERE org_id = :'acme' \gset
SELECT status FROM pg_temp.ask('PATCH', '/organizations/' || :'acme', :'ada_token', '{"name": "Größer ✓"}');
SELECT xmin = :'before' AS unwritten FROM overten_auth.orgs WHERE org_id = :'acme';
SELECT request, status, code, body::json #>> '{error,message}' AS message
FROM (VALUES ('{}'), ('{"name": null}'), ('{"name": ""}'), ('{"name": ["x"]}'), ('{"name": "\u202e"}'), ('{"name": "a\u0000b"}'), ('{"name": "x"'), ('')) v (request),
	LATERAL pg_temp.ask('PATCH', '/organizations/' || :'acme', :'ada_token', request);
SELECT status, code FROM pg_temp.ask('PATCH', '/organizations/' || :'second', :'ada_token', '{"name": "Suspended"}');

-- What is not the caller's is not there, byte for byte, for each request.
CREATE TEMP TABLE requests (method text, path text, content text);
INSERT INTO requests VALUES
	('PATCH', '', '{"name": "x"}'), ('DELETE', '', NULL), ('GET', '/usage', NULL), ('GET', '/limits', NULL), ('GET', '/audit-log', NULL), ('POST', '/webhook-secret/rotate', '{}'),
	('GET', '/members', NULL), ('DELETE', '/members/bob', NULL), ('GET', '/invitations', NULL), ('POST', '/invitations', '{}'), ('DELETE', '/invitations/x', NULL);
SELECT method, path, array_agg(DISTINCT concat(status, ' ', body)) AS answers
FROM requests, unnest(ARRAY[:'bobs', 'org_00000000000000000000', ''';--', repeat('x', 3000)]) org,
	LATERAL pg_temp.ask(method, '/organizations/' || org || path, :'ada_token', content)
GROUP BY method, path ORDER BY path, method;
SELECT (SELECT count(*) FROM overten_auth.members WHERE uid = 'bob'), (SELECT name FROM overten_auth.orgs WHERE org_id = :'bobs');

-- An invitation: from one person to another, who has to want it.
SELECT status, pg_temp.shown(body) AS body, body::json ->> 'code' AS code, body::json ->> 'invitation_id' AS invitation
FROM pg_temp.ask('POST', '/organizations/' || :'acme' || '/invitations', :'ada_token', '{"note": " Bob ", "expires_in_seconds": 3600.0}') \gset invited_
SELECT :'invited_status' AS status, :'invited_body' AS body;
SELECT status, pg_temp.shown(body) AS body FROM pg_temp.ask('GET', '/organizations/' || :'acme' || '/invitations', :'ada_token');
SELECT created_by, expires_at - created_at AS valid FROM overten_auth.invitations;
SELECT status, code FROM pg_temp.ask('POST', '/invitations/accept', :'ada_token', json_build_object('code', :'invited_code')::text);
SELECT status, pg_temp.shown(body) AS body FROM pg_temp.ask('POST', '/invitations/accept', :'bob_token', json_build_object('code', :'invited_code')::text);
SELECT status, pg_temp.shown(body) AS body FROM pg_temp.ask('POST', '/invitations/accept', :'bob_token', json_build_object('code', :'invited_code')::text);
SELECT status, pg_temp.shown(body) AS body FROM pg_temp.ask('GET', '/organizations/' || :'acme' || '/members', :'bob_token');
SELECT status, body FROM pg_temp.ask('GET', '/organizations/' || :'acme' || '/invitations', :'bob_token');
-- Unknown codes, expired and withdrawn ones, and those of a closed org have one answer.
SELECT code AS expired FROM overten_invite(:'acme', valid_for => '1 second') \gset
UPDATE overten_auth.invitations SET expires_at = now() - interval '1 second' WHERE digest = sha256(:'expired');
SELECT code AS withdrawn, invitation_id AS withdrawn_id FROM overten_invite(:'acme') \gset
SELECT status FROM pg_temp.ask('DELETE', '/organizations/' || :'acme' || '/invitations/' || :'withdrawn_id', :'bob_token');
SELECT status, code FROM pg_temp.ask('DELETE', '/organizations/' || :'acme' || '/invitations/' || :'withdrawn_id', :'bob_token');
SELECT action, uid FROM overten_auth.audit_log WHERE detail = :'withdrawn_id' ORDER BY at;
SELECT o.org_id AS doomed FROM overten_create_org('Doomed') o \gset
INSERT INTO overten_auth.invitations (invitation_id, org_id, digest, expires_at) VALUES ('inv_doomed', :'doomed', sha256('invite_' || repeat('d', 32)::bytea), 'infinity');
UPDATE overten_auth.orgs SET suspended_at = now(), closed_at = now() WHERE org_id = :'doomed';
SELECT array_agg(DISTINCT concat(status, ' ', body)) AS answers, count(*)
FROM unnest(ARRAY['invite_' || repeat('0', 32), 'invite_' || repeat('d', 32), :'expired', :'withdrawn', '', 'x', repeat('é', 7000)]) given,
	LATERAL pg_temp.ask('POST', '/invitations/accept', :'ada_token', json_build_object('code', given)::text);
SELECT status, code FROM pg_temp.ask('POST', '/invitations/accept', :'ada_token', json_build_object('code', :'invited_code')::text);
SELECT request, status, code, body::json #>> '{error,message}' AS message
FROM (VALUES ('{}'), ('{"code": null}'), ('{"code": 1}'), ('[]'), ('x')) v (request), LATERAL pg_temp.ask('POST', '/invitations/accept', :'bob_token', request);
SELECT request, status, body::json #>> '{error,message}' AS message
FROM (VALUES ('{"note": 1}'), ('{"note": "a\nb"}'), ('{"expires_in_seconds": 0}'), ('{"expires_in_seconds": 0.5}'), ('{"expires_in_seconds": -1e300}'), ('{"expires_in_seconds": 2592001}'),
	('{"expires_in_seconds": true}'), ('{"expires_in_seconds": "1"}')) v (request), LATERAL pg_temp.ask('POST', '/organizations/' || :'acme' || '/invitations', :'bob_token', request);
-- So many may be pending; the application has no limit.
SELECT count(overten_invite(:'acme')) FROM generate_series(1, 99);
SELECT status FROM pg_temp.ask('POST', '/organizations/' || :'acme' || '/invitations', :'bob_token', '{}');
SELECT status, code FROM pg_temp.ask('POST', '/organizations/' || :'acme' || '/invitations', :'bob_token', '{}');
SELECT count(overten_invite(:'acme'));
-- One that has expired is pending no more.
UPDATE overten_auth.invitations SET expires_at = now() WHERE invitation_id IN (SELECT invitation_id FROM overten_list_invitations(:'acme') LIMIT 2);
SELECT status FROM pg_temp.ask('POST', '/organizations/' || :'acme' || '/invitations', :'bob_token', '{}');

-- The credits of an org: nothing, and the service offers none; then what members of the org see.
SELECT status, body FROM pg_temp.ask('GET', '/organizations/' || :'bobs' || '/credits', :'bob_token');
SELECT body::json -> 'credits' AS offered FROM pg_temp.ask('GET', '/features', :'ada_token');
SELECT overten_grant(:'bobs', 9007199254740993, 'card "✓"', 'payment 1');
SELECT overten_spend(:'bobs', 3, 'request 1', 'a page'), overten_hold(:'bobs', 10, 'request 2') IS NOT NULL AS held, overten_hold(:'bobs', 20, 'request 3', '1 hour') IS NOT NULL AS held;
SELECT overten_settle(:'bobs', 0, 'request 2'), overten_hold(:'bobs', 30, 'ended') IS NOT NULL AS held;
UPDATE overten_auth.credit_holds SET expires_at = clock_timestamp() WHERE request_id = 'ended';
SELECT status, pg_temp.shown(body) AS body FROM pg_temp.ask('GET', '/organizations/' || :'bobs' || '/credits', :'bob_token');
SELECT body::json -> 'credits' AS offered FROM pg_temp.ask('GET', '/features', :'ada_token');
-- Pages of the ledger are all of it, once.  What happens meanwhile comes before them.
CREATE TEMP TABLE pages AS WITH RECURSIVE page AS (
	SELECT body::json AS body FROM pg_temp.ask('GET', '/organizations/' || :'bobs' || '/credits?limit=1', :'bob_token')
	UNION ALL
	SELECT a.body::json FROM page, LATERAL pg_temp.ask('GET', '/organizations/' || :'bobs' || '/credits?limit=1&cursor=' || (page.body ->> 'next_cursor'), :'bob_token') a
	WHERE page.body ->> 'next_cursor' IS NOT NULL)
SELECT body FROM page;
SELECT body ->> 'next_cursor' AS next_cursor, json_array_length(body -> 'items') AS items, body #>> '{items,0,entry}' AS entry, body #>> '{items,0,kind}' AS kind FROM pages;
SELECT json_array_length(body::json -> 'items') AS items FROM pg_temp.ask('GET', '/organizations/' || :'bobs' || '/credits?limit=200&cursor=1', :'bob_token');
-- Holds that end first, and no more than 100; all count as held.
SELECT count(overten_hold(:'bobs', 1, 'many ' || n, n * interval '1 hour')) FROM generate_series(2, 102) n;
SELECT json_array_length(body::json -> 'holds') AS holds, body::json #>> '{holds,0,request_id}' AS first, body::json #>> '{holds,99,request_id}' AS last, body::json -> 'held' AS held
FROM pg_temp.ask('GET', '/organizations/' || :'bobs' || '/credits', :'bob_token');
-- A cursor is the number of a row that there is.
SELECT left(cursor, 20) AS cursor, status, body::json #>> '{error,param}' AS param, body::json #>> '{error,message}' AS message
FROM unnest(ARRAY['3', '4', '0', '', '-1', '01', '1x', '%31', '999999999999999999', '9223372036854775808', repeat('1', 1000)]) cursor,
	LATERAL pg_temp.ask('GET', '/organizations/' || :'bobs' || '/credits?cursor=' || cursor, :'bob_token') WHERE status <> 200 OR cursor IN ('3', '%31');
-- For members only, and by GET, which writes nothing.
SELECT status, code FROM pg_temp.ask('GET', '/organizations/' || :'bobs' || '/credits', :'ada_token');
SELECT method, status, code FROM unnest(ARRAY['POST', 'PATCH', 'DELETE', 'PUT']) method, LATERAL pg_temp.ask(method, '/organizations/' || :'bobs' || '/credits', :'bob_token', '{"amount": 1}');
BEGIN READ ONLY;
SELECT status FROM pg_temp.ask('GET', '/organizations/' || :'bobs' || '/credits', :'bob_token');
COMMIT;

-- Members leave and are removed, but not the last one while there are keys.
SELECT key, status, code
FROM unnest(ARRAY['nobody', '%', '%zz', '%00', '%ff', '%e2%82', 'ADA', 'ada%20', repeat('x', 8000)]) key, LATERAL pg_temp.ask('DELETE', '/organizations/' || :'acme' || '/members/' || key, :'bob_token')
WHERE (status, code) IS DISTINCT FROM (404, 'member_not_found');
-- Nor does anybody who was removed come back by invitations that wait, or who left.
BEGIN;
DELETE FROM overten_auth.invitations WHERE org_id = :'acme';
SELECT body::json ->> 'code' AS own_code, body::json ->> 'invitation_id' AS own_invitation FROM pg_temp.ask('POST', '/organizations/' || :'acme' || '/invitations', :'ada_token', '{}') \gset
SELECT status FROM pg_temp.ask('POST', '/organizations/' || :'acme' || '/invitations', :'bob_token', '{}');
SAVEPOINT two;
SELECT status FROM pg_temp.ask('DELETE', '/organizations/' || :'acme' || '/members/ada', :'bob_token');
SELECT status, code FROM pg_temp.ask('POST', '/invitations/accept', :'ada_token', json_build_object('code', :'own_code')::text);
SELECT uid, detail = :'own_invitation' AS the_one FROM overten_auth.audit_log WHERE org_id = :'acme' AND action = 'withdraw_invitation' ORDER BY at DESC LIMIT 1;
SELECT count(*) FROM overten_list_invitations(:'acme');
ROLLBACK TO two;
SELECT status FROM pg_temp.ask('DELETE', '/organizations/' || :'acme' || '/members/ada', :'ada_token');
SELECT status, code FROM pg_temp.ask('POST', '/invitations/accept', :'ada_token', json_build_object('code', :'own_code')::text);
ROLLBACK;
SELECT overten_add_member(:'acme', 'Ünal/x?');
SELECT status FROM pg_temp.ask('DELETE', '/organizations/' || :'acme' || '/members/%C3%9Cnal%2fx%3F', :'bob_token');
SELECT status FROM pg_temp.ask('DELETE', '/organizations/' || :'acme' || '/members/ada', :'bob_token');
SELECT status, code FROM pg_temp.ask('GET', '/organizations/' || :'acme' || '/members', :'ada_token');
SELECT status, code FROM pg_temp.ask('DELETE', '/organizations/' || :'acme' || '/members/bob', :'bob_token');
SELECT status, body FROM pg_temp.ask('GET', '/organizations', :'ada_token') WHERE body LIKE '%' || :'acme' || '%';
SELECT overten_add_member(:'acme', 'ada');

-- A rotation returns the new secret once, and says until when the old one signs.
SELECT status, pg_temp.shown(body) AS body, body::json ->> 'webhook_secret' AS secret FROM pg_temp.ask('POST', '/organizations/' || :'acme' || '/webhook-secret/rotate', :'ada_token', '{}') \gset rotated_
SELECT :'rotated_status' AS status, :'rotated_body' AS body;
SELECT body::json ->> 'webhook_secret' = :'rotated_secret' AS the_one FROM pg_temp.ask('POST', '/organizations/' || :'acme' || '/api-keys', :'ada_token', '{}');
SELECT array_length(string_to_array(overten_sign_webhook(:'acme', 'm', 1, 'x'), ' '), 1) AS signatures, previous_webhook_secret_until - clock_timestamp() > '23 hours' AS a_day FROM overten_auth.orgs WHERE org_id = :'acme';
SELECT status, pg_temp.shown(body) AS body FROM pg_temp.ask('POST', '/organizations/' || :'acme' || '/webhook-secret/rotate', :'ada_token', '{"grace_seconds": 0}');
SELECT array_length(string_to_array(overten_sign_webhook(:'acme', 'm', 1, 'x'), ' '), 1) AS signatures;
SELECT request, status, code, body::json #>> '{error,message}' AS message
FROM (VALUES ('{"grace_seconds": -1}'), ('{"grace_seconds": 2592001}'), ('{"grace_seconds": []}'), ('')) v (request), LATERAL pg_temp.ask('POST', '/organizations/' || :'acme' || '/webhook-secret/rotate', :'ada_token', request);

-- The audit log in pages: each row once, the latest first, and no secret.
SELECT status, pg_temp.shown(body) AS body FROM pg_temp.ask('GET', '/organizations/' || :'acme' || '/audit-log?limit=3', :'ada_token');
CREATE FUNCTION pg_temp.pages(token text, org text, size int) RETURNS text[] LANGUAGE plpgsql AS $$
DECLARE
	page json;
	after text := '';
	found text[] := '{}';
BEGIN
	LOOP
		SELECT body INTO page FROM pg_temp.ask('GET', format('/organizations/%s/audit-log?limit=%s%s', org, size, after), token);
		found := found || ARRAY(SELECT i ->> 'audit_id' FROM json_array_elements(page -> 'items') i);
		EXIT WHEN page ->> 'next_cursor' IS NULL;
		after := '&cursor=' || (page ->> 'next_cursor');
	END LOOP;
	RETURN found;
END
$$;
INSERT INTO overten_auth.audit_log (at, action, org_id, actor) SELECT '2020-01-01', 'at the same time', :'acme', 'x' FROM generate_series(1, 3);
SELECT size, pg_temp.pages(:'ada_token', :'acme', size) = ARRAY(SELECT audit_id::text FROM overten_auth.audit_log WHERE org_id = :'acme' ORDER BY at DESC, audit_id DESC) AS all_of_them
FROM unnest(ARRAY[1, 7, 200]) size;
SELECT json_array_length(body::json -> 'items') AS rows, body::json ->> 'next_cursor' IS NOT NULL AS more FROM pg_temp.ask('GET', '/organizations/' || :'acme' || '/audit-log', :'ada_token');
SELECT key_id AS key FROM overten_list_keys(:'acme') LIMIT 1 \gset
SELECT status, pg_temp.shown(body) AS body FROM pg_temp.ask('GET', '/organizations/' || :'acme' || '/audit-log?key_id=' || :'key', :'ada_token');
-- A cursor is that of this org's log.
SELECT audit_id AS foreign_row FROM overten_auth.audit_log WHERE org_id = :'bobs' LIMIT 1 \gset
SELECT pg_temp.shown(lower(query)) AS query, status, code, body::json #>> '{error,message}' AS message
FROM (VALUES ('limit=0'), ('limit=201'), ('limit=1.0'), ('limit=%2b1'), ('limit='), ('limit=9999999'), ('limit=1&limit=2'),
	('cursor='), ('cursor=x'), ('cursor=%41' || upper(substr(:'foreign_row', 2))), ('cursor={' || :'foreign_row' || '}'), ('cursor=' || :'foreign_row'), ('key_id=%zz')) v (query),
	LATERAL pg_temp.ask('GET', '/organizations/' || :'acme' || '/audit-log?' || query, :'ada_token')
ORDER BY pg_temp.shown(lower(query)) COLLATE "C";
SELECT count(*) AS secrets FROM overten_auth.audit_log WHERE audit_log::text ~ 'whsec_|invite_|sk_live_';

-- The limits of an org, where none can be counted: there are none, or that is an
-- error.  What they are elsewhere is in 362_limits_over_http.pl.
SELECT status, body FROM pg_temp.ask('GET', '/organizations/' || :'acme' || '/limits', :'ada_token');
SELECT what, status, body::json #>> '{error,code}' AS code, body::json #>> '{error,param}' AS param FROM (VALUES ('limit=0'), ('limit=201'), ('limit=1&limit=1'), ('cursor=x'), ('cursor='), ('cursor=%ff'), ('cursor=%e2%82')) v (what),
	LATERAL pg_temp.ask('GET', '/organizations/' || :'acme' || '/limits?' || what, :'ada_token');
SELECT overten_set_limit('org', :'acme', 'hidden', 1, '1 hour', shadow => true);
SELECT status, body FROM pg_temp.ask('GET', '/organizations/' || :'acme' || '/limits', :'ada_token');
SELECT overten_set_limit('org', :'acme', 'shown', 1, '1 hour');
SELECT status, body FROM pg_temp.ask('GET', '/organizations/' || :'acme' || '/limits', :'ada_token');
SELECT overten_drop_limit('org', :'acme', name) FROM overten_list_limits(:'acme');

-- The usage of an org: by key, by day, by hour, or in all; what is not flushed, too.
INSERT INTO overten_auth.key_usage
	SELECT k.key_id, h, NULL, CASE k.name WHEN 'primary' THEN 10 ELSE 1 END, 0, h, h, CASE k.name WHEN 'primary' THEN 2 ELSE 0 END
	FROM overten_auth.api_keys k, unnest(ARRAY['2026-03-01 22:00Z', '2026-03-01 23:00Z', '2026-03-02 00:00Z', '2026-03-02 05:00Z']::timestamptz[]) h WHERE k.org_id = :'acme';
SET timezone = 'America/St_Johns';
SELECT by, regexp_replace(regexp_replace(i::text, '"key_id":"key_\w+",', ''), 'sk_live_....', 'prefix') AS item
FROM unnest(ARRAY['', '&by=key', '&by=day', '&by=hour', '&by=hour,key']) by,
	LATERAL pg_temp.ask('GET', '/organizations/' || :'acme' || '/usage?since=2026-03-01T23:00:00Z&until=2026-03-02T05:00:00Z' || by, :'ada_token'), json_array_elements(body::json -> 'items') WITH ORDINALITY i (i, n) ORDER BY by, n;
RESET timezone;
-- How many addresses have used a key: each once, and only those that are known and were accepted.
INSERT INTO overten_auth.key_usage
	SELECT k.key_id, h, a, (a <> '192.0.2.9')::int, 1, h, h FROM (SELECT key_id FROM overten_auth.api_keys WHERE org_id = :'acme' AND name = 'primary' ORDER BY created_at, key_id LIMIT 1) k,
		unnest(ARRAY['2026-02-01 22:00Z', '2026-02-01 23:00Z']::timestamptz[]) h, unnest(ARRAY['192.0.2.1', '192.0.2.2', '2001:db8::/64', '192.0.2.9']::inet[]) a
	UNION ALL SELECT key_id, '2026-02-01 22:00Z', NULL, 5, 0, '2026-02-01 22:00Z', '2026-02-01 22:00Z' FROM overten_auth.api_keys WHERE org_id = :'acme' AND name = 'primary';
SELECT i ->> 'accepted' AS accepted, i ->> 'refused' AS refused, i ->> 'addresses' AS addresses
FROM pg_temp.ask('GET', '/organizations/' || :'acme' || '/usage?by=key&since=2026-02-01T00:00:00Z&until=2026-02-02T00:00:00Z', :'ada_token'), json_array_elements(body::json -> 'items') i;
SELECT status, body FROM pg_temp.ask('GET', '/organizations/' || :'acme' || '/usage?until=2026-01-01T00:00:00Z', :'ada_token');
SELECT query, status, code, body::json #>> '{error,message}' AS message
FROM (VALUES ('by='), ('by=week'), ('by=key,key'), ('by=day,hour'), ('by=key&by=day'), ('since=x'), ('until=2026-01-01'), ('since=2026-03-02T00:00:00Z&until=2026-03-01T00:00:00Z'),
	('by=hour&since=2026-03-01T00:00:00Z&until=2026-03-03T00:00:01Z'), ('since=2026-01-01T00:00:00Z&until=2026-04-03T00:00:01Z')) v (query),
	LATERAL pg_temp.ask('GET', '/organizations/' || :'acme' || '/usage?' || query, :'ada_token');

-- Closing: in force at once, and no error when repeated; its members can still read.
SELECT body::json ->> 'secret' AS key_secret FROM pg_temp.ask('POST', '/organizations/' || :'acme' || '/api-keys', :'ada_token', '{}') \gset
SELECT status, body FROM pg_temp.ask('GET', '/verify', :'key_secret') WHERE status <> 200;
SELECT status, body FROM pg_temp.ask('DELETE', '/organizations/' || :'acme', :'ada_token');
SELECT status, code FROM pg_temp.ask('GET', '/verify', :'key_secret');
SELECT status, body FROM pg_temp.ask('DELETE', '/organizations/' || :'acme', :'ada_token');
SELECT DISTINCT revoked_by, revoked_reason FROM overten_auth.api_keys WHERE org_id = :'acme';
SELECT action, uid, count(*) FROM overten_auth.audit_log WHERE org_id = :'acme' AND action IN ('close_org', 'revoke_key') GROUP BY 1, 2 ORDER BY 1;
SELECT method, path, status, code
FROM requests, LATERAL pg_temp.ask(method, '/organizations/' || :'acme' || path, :'ada_token', content) WHERE path !~ 'bob' AND (method, path) <> ('DELETE', '') ORDER BY path, method;
SELECT status, code FROM pg_temp.ask('POST', '/organizations/' || :'acme' || '/api-keys', :'ada_token', '{}');
SELECT i ->> 'name' AS name, i ->> 'closed_at' IS NOT NULL AS closed, i ->> 'suspended_at' IS NOT NULL AS suspended
FROM pg_temp.ask('GET', '/organizations', :'ada_token'), json_array_elements(body::json -> 'items') i;
-- Then the last member may go.
SELECT status FROM unnest(ARRAY['bob', 'ada']) uid, LATERAL pg_temp.ask('DELETE', '/organizations/' || :'acme' || '/members/' || uid, :'ada_token');

-- For PostgREST, the same functions, with ids in headers, members or arguments.
SELECT set_config('request.headers', json_build_object('authorization', 'Bearer ' || :'bob_token')::text, false) IS NOT NULL AS asked \gset
SELECT overten_api.features() -> 'tiers' AS tiers;
SELECT pg_temp.shown(overten_api.list_organizations()::text);
SELECT pg_temp.shown(overten_api.list_members(:'bobs')::text);
SELECT overten_api.organization_credits(:'bobs') -> 'balance' AS credits;
SELECT pg_temp.shown(overten_api.create_invitation(json_build_object('org_id', :'bobs'))::text);
SELECT invitation_id AS invitation FROM overten_list_invitations(:'bobs') \gset
BEGIN;
SELECT overten_api.withdraw_invitation(json_build_object('org_id', :'bobs', 'item_id', :'invitation')), current_setting('response.status');
SELECT overten_api.list_invitations(:'bobs');
COMMIT;
\set VERBOSITY sqlstate
SELECT overten_api.withdraw_invitation(json_build_object('org_id', :'bobs', 'item_id', :'invitation'));
SELECT overten_api.remove_member(json_build_object('org_id', :'bobs', 'item_id', 'bob'));
SELECT overten_api.close_organization(NULL);
SELECT overten_api.audit_log() #>> '{error,code}', overten_api.organization_usage() #>> '{error,code}', overten_api.organization_limits() #>> '{error,code}', overten_api.organization_credits() #>> '{error,code}', overten_api.rename_organization(NULL) #>> '{error,code}', overten_api.accept_invitation('{}') #>> '{error,param}';
\set VERBOSITY default

DROP EXTENSION overten_auth;
