--
-- http: whole exchanges, each row of the contract in the order of its checks
--
CREATE EXTENSION overten_auth;
\getenv srcdir PG_ABS_SRCDIR
\set tokens :srcdir '/sql/tokens.inc'
\set ECHO none
\i :tokens
\set ECHO all
INSERT INTO overten_auth.tiers (name, self_service) VALUES ('pro', false), ('team', true);
SELECT set_config('overten_auth.max_orgs_per_uid', '2', false),
	   set_config('overten_auth.max_keys_per_org', '3', false),
	   set_config('overten_auth.max_keys_total_per_org', '5', false) \gset

-- One exchange: what a client can see of it.
CREATE FUNCTION pg_temp.ask(method text, path text, credential text,
	content text DEFAULT NULL, more jsonb DEFAULT '{}')
	RETURNS TABLE (status int, code text, param text, headers text, body text)
	LANGUAGE plpgsql AS $$
DECLARE
	answer record;
BEGIN
	answer := overten_handle_request(method, '/api/v1' || path,
		(CASE WHEN credential IS NULL THEN '{}' ELSE
			jsonb_build_object('authorization', 'Bearer ' || credential) END
		 || CASE WHEN content IS NULL THEN '{}'
			ELSE '{"content-type": "application/json"}'::jsonb END
		 || more)::json, content);
	RETURN QUERY SELECT answer.status, answer.body::json #>> '{error,code}',
		answer.body::json #>> '{error,param}',
		(SELECT string_agg(key || ': ' || value, E'\n' ORDER BY key)
		 FROM json_each_text(answer.headers)
		 WHERE (key, value) NOT IN (('cache-control', 'no-store'), ('content-type', 'application/json'))),
		answer.body;
END
$$;
\pset null '-'

-- Paths that are too long, unknown routes, methods, media types and sizes come
-- first, whoever asks.
SELECT length(path), length(query), method, r.status, r.body
FROM (VALUES ('GET', '/' || repeat('x', 8185), ''), ('GET', '/verify', '?' || repeat('&', 8178)), ('GET', '/verify', '?' || repeat('&', 8177)),
	('DELETE', '/organizations/x/api-keys/' || repeat('y', 8192), ''), ('x', '/' || repeat('x', 1000000), '')) v (method, path, query),
	LATERAL overten_handle_request(method, '/api/v1' || path || query, '{}', NULL) r;
SELECT path, status, code, headers
FROM (VALUES (''), ('/'), ('/verify/'), ('/Verify'), ('/verify/x'), ('//verify'),
	('/organizations/'), ('/organizations//api-keys'), ('/organizations/x/'), ('/organizations/x/y'), ('/organizations/x/members/y/z'), ('/invitations'),
	('/organizations/x/api-keys/'), ('/organizations/x/api-keys/y/z'),
	('/organizations/x/api-keys//usage'), ('/organizations/x/api-keys/y/usage/'), ('/organizations/x/api-keys/y/usage/z'),
	('/organizations%2Fx/api-keys'), ('/../v1/verify'), ('/verify#x'),
	('/signup;x'), ('/' || repeat('x', 8184))) v (path),
	LATERAL pg_temp.ask('GET', path, NULL)
WHERE status <> 404 OR code <> 'not_found' OR headers IS NOT NULL;
SELECT method, path, status, code, headers
FROM (VALUES ('POST', '/verify'), ('get', '/verify'), ('OPTIONS', '/verify'), ('GET', '/signup'),
	('PUT', '/organizations/x/api-keys'), ('GET', '/organizations/x/api-keys/y'), ('DELETE', '/organizations/x/api-keys/y/usage'), ('', '/verify')) v (method, path),
	LATERAL pg_temp.ask(method, path, NULL);
SELECT type, status, code
FROM (VALUES ('text/plain'), ('application/jsonx'), ('application/json; charset=utf-8'), ('Application/JSON'), ('')) v (type),
	LATERAL pg_temp.ask('POST', '/signup', NULL, '{}', jsonb_build_object('content-type', type));
SELECT status, code FROM overten_handle_request('POST', '/api/v1/signup', '{}', '{}') r,
	LATERAL (SELECT r.body::json #>> '{error,code}' AS code) c;
SELECT status, code FROM pg_temp.ask('POST', '/signup', NULL, repeat(' ', 16385));
SELECT status, code FROM pg_temp.ask('POST', '/signup', NULL, repeat(' ', 16384));
SELECT status FROM overten_handle_request('GET', '/verify', '{}', NULL);
SELECT status FROM overten_handle_request('GET', '/api/v1/verify?x=/y', '{}', NULL);

-- Then the credential.
SELECT what, status, code, headers
FROM (VALUES
	('none', '{}'::jsonb),
	('not Bearer', '{"authorization": "Basic YTpi"}'),
	('no space', '{"authorization": "Bearer"}'),
	('empty', '{"authorization": "Bearer "}'),
	('spaces', '{"authorization": "Bearer   "}'),
	('another name', '{"Authorization": "Bearer x"}'),
	('lower case', '{"authorization": "bearer x"}'),
	('moved', '{"x-overten-authorization": "Bearer x"}'),
	('both, the same', '{"authorization": "Bearer x", "x-overten-authorization": "Bearer x"}'),
	('both, not the same', '{"authorization": "Bearer x", "x-overten-authorization": "Bearer y"}'),
	('a number', '{"authorization": 1}'),
	('a list', '{"authorization": ["Bearer x", "Bearer y"]}')) v (what, more),
	LATERAL pg_temp.ask('GET', '/verify', NULL, NULL, more);
SELECT status, body FROM overten_handle_request('GET', '/api/v1/verify',
	'{"authorization": "Bearer x", "authorization": "Bearer x"}', NULL);
SELECT status, body FROM overten_handle_request('GET', '/api/v1/verify', '[]', NULL);
-- At most 256 of them, and 256 kB.
SELECT n, status, code
FROM (VALUES (256), (257)) v (n), LATERAL (SELECT json_object_agg('x-' || i, 'y') AS headers FROM generate_series(2, n) i) h,
	LATERAL pg_temp.ask('GET', '/verify', 'x', NULL, headers::jsonb);
SELECT n, status, code
FROM (VALUES (260000), (270000)) v (n), LATERAL pg_temp.ask('GET', '/verify', 'x', NULL, jsonb_build_object('x', repeat('y', n)));

-- No project, no keys, neither: unavailable, whatever the token.
SELECT status, code, headers FROM pg_temp.ask('POST', '/signup', 'x', '{}');
SET overten_auth.firebase_project_id = 'overten-test';
SELECT status, code, headers FROM pg_temp.ask('POST', '/signup', :'ada_token', '{}');
SELECT status, code, headers FROM pg_temp.ask('POST', '/signup', 'x', '{}');
SELECT overten_load_signing_keys(:'signing_keys');

-- A token that is not good, or has expired; a key is not even looked up.
SELECT what, status, code, headers
FROM (VALUES ('garbage', 'x'), ('flipped', reverse(:'ada_token')), ('a key', 'sk_live_00000000000000000000000K3vO8'),
	('expired', :'expired_token'), ('16 kB', repeat('x', 16384)), ('17 kB', repeat('x', 17000))) v (what, credential),
	LATERAL pg_temp.ask('POST', '/signup', credential, 'not JSON');
SELECT status, code FROM pg_temp.ask('GET', '/verify', :'ada_token');

-- The body.
SELECT request, status, code, param
FROM (VALUES (''), ('not JSON'), ('{"org_name": "x"'), ('{"org_name": "x"} y'), ('{"org_name": "x", "org_name": "y"}'),
	('[]'), ('"x"'), ('1'), ('null'), ('1,"a":2'), ('1},{"a":2'), ('[1],[2]'), ('{}'), ('{"org_name": "x", "existing_org_id": "y"}'),
	('{"org_name": null, "existing_org_id": null}'),
	('{"org_name": 1}'), ('{"org_name": ["x"]}'), ('{"org_name": ""}'), ('{"org_name": "  "}'),
	('{"org_name": "a\nb"}'), ('{"org_name": "a\u0085b"}'), ('{"org_name": "a\u0000b"}'), ('{"org_name": "\ud800"}'),
	('{"existing_org_id": 1}'), ('{"existing_org_id": true, "tier": 1}'),
	('{"org_name": "x", "tier": 1}'), ('{"org_name": "x", "tier": "gold"}'), ('{"org_name": "x", "tier": "pro"}'),
	('{"org_name": "x", "tier": ""}'), ('{"org_name": "x", "key_name": {}}'), ('{"org_name": "x", "key_name": ""}')) v (request),
	LATERAL pg_temp.ask('POST', '/signup', :'ada_token', request);
-- What is wrong is said as a rule, without what the client sent.
SELECT request, body::json #>> '{error,message}' AS message
FROM (VALUES ('['), ('[]'), ('{}'), ('{"org_name": "x", "existing_org_id": "y"}'), ('{"org_name": 1}'), ('{"org_name": ""}'), ('{"org_name": "  "}'),
	('{"org_name": "a\nb"}'), ('{"org_name": "a\u2028b"}'), ('{"org_name": "a\u202eb"}'), ('{"org_name": "\u200b"}'), ('{"org_name": "\ufdd0"}'),
	('{"existing_org_id": 1}'), ('{"org_name": "x", "tier": 1}'), ('{"org_name": "x", "tier": "gold"}'), ('{"org_name": "x", "tier": "pro"}'),
	('{"existing_org_id": "x", "tier": "gold"}'), ('{"org_name": "x", "key_name": ""}')) v (request),
	LATERAL pg_temp.ask('POST', '/signup', :'ada_token', request);
SELECT request, body::json #>> '{error,message}' AS message
FROM (VALUES ('['), ('[]'), ('{"name": {}}'), (format('{"name": "%s"}', repeat('é', 65)))) v (request),
	LATERAL pg_temp.ask('POST', '/organizations/x/api-keys', :'ada_token', request);
SELECT query, body::json #>> '{error,message}' AS message
FROM (VALUES ('since=2026-04-17'), ('since='), ('until=x'), ('since=2026-04-17T11:20:00Z&since=x'), ('until=%zz'), ('x=é'),
	('since=2026-05-01T00:00:00Z&until=2026-04-30T00:00:00Z'), ('since=2026-05-01T00:00:00Z&until=2026-06-01T00:00:01Z')) v (query),
	LATERAL pg_temp.ask('GET', '/organizations/x/api-keys/y/usage?' || query, :'ada_token');
SELECT what, status, code, param
FROM (VALUES ('org_name of 101', json_build_object('org_name', repeat('é', 101))),
	('key_name of 65', json_build_object('org_name', 'x', 'key_name', repeat('é', 65)))) v (what, request),
	LATERAL pg_temp.ask('POST', '/signup', :'ada_token', request::text);
SELECT status, code FROM pg_temp.ask('POST', '/signup', :'ada_token', repeat('[', 10000));
SELECT count(*) FROM overten_auth.orgs;

-- A body of bytes need not be text.
SELECT what, r.status, r.body::json #>> '{error,code}' AS code
FROM (VALUES ('none', NULL), ('empty', ''), ('a NUL', '{"org_name": "a'::bytea || '\x00' || '"}'), ('an object, then a NUL', '{}\000'),
	('no UTF-8', '{"org_name": "a'::bytea || '\xff' || '"}'), ('a surrogate', '{"x": "'::bytea || '\xeda080' || '"}'),
	('half a character', '{"x": "'::bytea || '\xc3' || '"}'), ('a byte order mark', '\xefbbbf'::bytea || '{}'),
	('an array', '[]'), ('a value and more', '1,"a":2'), ('an empty object', '{}'),
	('16 kB', convert_to(repeat(' ', 16384), 'UTF8')), ('more', convert_to(repeat(' ', 16385), 'UTF8'))) v (what, body),
	LATERAL overten_handle_request('POST', '/api/v1/signup',
		json_build_object('authorization', 'Bearer ' || :'ada_token', 'content-type', 'application/json'), v.body) r;
SELECT r.status, r.body::json #>> '{error,param}' AS param FROM overten_handle_request('POST', '/api/v1/signup',
	json_build_object('authorization', 'Bearer ' || :'ada_token', 'content-type', 'application/json'), convert_to('{"org_name": "é"}', 'LATIN1')) r;
SELECT r.status, r.body::json #>> '{error,param}' AS param FROM overten_handle_request('POST', '/api/v1/signup',
	json_build_object('authorization', 'Bearer ' || :'ada_token', 'content-type', 'application/json'), convert_to('{"org_name": "é", "tier": "gold"}', 'UTF8')) r;

-- Signing up, with a new org.  Unknown members are ignored.
SELECT status, headers, body FROM pg_temp.ask('POST', '/signup', :'ada_token',
	'{"org_name": "  Acme \"Docs\" ✓ ", "tier": "free", "key_name": "primary", "plan": {"unknown": [1]}}') \gset
SELECT :status AS status, member FROM json_object_keys(:'body') member;
SELECT :'body'::json ->> 'org_id' AS org, :'body'::json ->> 'secret' AS secret,
	   :'body'::json ->> 'key_id' AS key, :'body'::json ->> 'webhook_secret' AS webhook_secret \gset
SELECT :'body'::json ->> 'org_name' AS org_name, :'body'::json ->> 'tier' AS tier, :'body'::json ->> 'name' AS name,
	   :'body'::json ->> 'prefix' = left(:'secret', 12) AS prefix,
	   :'body'::json ->> 'created_at' ~ '^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ$' AS created_at_form,
	   (:'body'::json ->> 'created_at')::timestamptz > now() - interval '1 minute' AS created_now;
SELECT name, tier, api_access_since IS NOT NULL AS signed_up FROM overten_list_orgs('ada');
SELECT action, uid, detail FROM overten_auth.audit_log WHERE org_id = :'org' ORDER BY at;

-- The key works, and /verify says exactly this.
SELECT status, body = format('{"org_id":"%s","org_name":"Acme \"Docs\" ✓","tier":"free","webhook_secret":"%s","key_prefix":"%s"}',
	:'org', :'webhook_secret', left(:'secret', 12)) AS body, headers
FROM pg_temp.ask('GET', '/verify', :'secret');
SELECT status, headers, body FROM pg_temp.ask('HEAD', '/verify', :'secret');
SELECT status, headers, body FROM pg_temp.ask('HEAD', '/verify', 'sk_live_00000000000000000000000K3vO8');
SELECT status, code FROM pg_temp.ask('GET', '/verify', 'sk_live_00000000000000000000000K3vO8');

-- Signing up an org that exists: its own tier or none.
SELECT org_id AS existing FROM overten_create_org('Existing', 'pro') \gset
SELECT status, code FROM pg_temp.ask('POST', '/signup', :'ada_token', json_build_object('existing_org_id', :'existing')::text);
SELECT overten_add_member(:'existing', 'ada');
SELECT status, code, param FROM pg_temp.ask('POST', '/signup', :'ada_token', json_build_object('existing_org_id', :'existing', 'tier', 'free')::text);
SELECT status, code, param FROM pg_temp.ask('POST', '/signup', :'ada_token', '{"existing_org_id": "org_nobody", "tier": "gold"}');
SELECT status, code, param FROM pg_temp.ask('POST', '/organizations/' || :'existing' || '/api-keys', :'ada_token', '{}');
SELECT overten_set_api_access(:'existing', false);
SELECT status, code FROM pg_temp.ask('POST', '/signup', :'ada_token', json_build_object('existing_org_id', :'existing')::text);
UPDATE overten_auth.orgs SET suspended_at = NULL WHERE org_id = :'existing';
SELECT status, body::json ->> 'org_id' = :'existing' AS org, body::json ->> 'tier' AS tier, body::json ->> 'name' AS name
FROM pg_temp.ask('POST', '/signup', :'ada_token', json_build_object('existing_org_id', :'existing', 'tier', 'pro', 'key_name', ' second ')::text);
SELECT status, code FROM pg_temp.ask('POST', '/signup', :'ada_token', json_build_object('existing_org_id', :'existing')::text);
SELECT what, status, code
FROM (VALUES ('unknown', 'org_00000000000000000000'), ('malformed', ''';--'), ('empty', ''), ('huge', repeat('x', 10000))) v (what, id),
	LATERAL pg_temp.ask('POST', '/signup', :'ada_token', json_build_object('existing_org_id', id)::text);

-- A person can create so many orgs; the existing one was created by nobody.
SELECT status FROM pg_temp.ask('POST', '/signup', :'ada_token', '{"org_name": "third", "tier": "team"}');
SELECT status, code FROM pg_temp.ask('POST', '/signup', :'ada_token', '{"org_name": "fourth"}');
SELECT status, body::json ->> 'org_id' AS bobs FROM pg_temp.ask('POST', '/signup', :'bob_token', '{"org_name": "Bob"}') \gset

-- More keys, as many as an org can have.
SELECT status, body::json ->> 'name' AS name, body::json ->> 'org_id' = :'org' AS org, body::json ->> 'webhook_secret' = :'webhook_secret' AS webhook_secret
FROM pg_temp.ask('POST', '/organizations/' || :'org' || '/api-keys', :'ada_token', '{"name": "ci-tests"}');
SELECT status, body::json ->> 'name' AS name, body::json ->> 'key_id' AS third_key
FROM pg_temp.ask('POST', '/organizations/' || :'org' || '/api-keys', :'ada_token', '{}') \gset
SELECT :status AS status, :'name' AS name;
SELECT status, code FROM pg_temp.ask('POST', '/organizations/' || :'org' || '/api-keys', :'ada_token', '{"name": "one too many"}');
SELECT request, status, code, param
FROM (VALUES (''), ('[]'), ('{"name": 1}'), ('{"name": ""}'), ('{"name": "a\u007fb"}')) v (request),
	LATERAL pg_temp.ask('POST', '/organizations/' || :'org' || '/api-keys', :'ada_token', request);

-- The list: no secret in it, and in the order of creation.
SELECT status, headers, body FROM pg_temp.ask('GET', '/organizations/' || :'org' || '/api-keys', :'ada_token') \gset
SELECT :status AS status, i ->> 'name' AS name, (SELECT string_agg(k, ',') FROM json_object_keys(i) k) AS members,
	   i ->> 'last_used_at' ~ '^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ$' AS last_used_at, i ->> 'revoked_at' AS revoked_at
FROM json_array_elements(:'body'::json -> 'items') i;
SELECT position('sk_live_' || substr(:'secret', 9) IN :'body') AS secret, :'body'::jsonb - 'items' AS rest;
SELECT status, headers, body FROM pg_temp.ask('HEAD', '/organizations/' || :'org' || '/api-keys', :'ada_token');

-- An org that is another's and one that does not exist are one answer.
SELECT count(DISTINCT a) AS answers, min(status) AS status, min(code) AS code
FROM (VALUES ('GET', ''), ('POST', ''), ('DELETE', '/key_x'), ('DELETE', '/' || :'key')) v (method, key),
	(VALUES (:'bobs'), ('org_00000000000000000000'), ('%00'), (repeat('x', 5000))) o (id),
	LATERAL pg_temp.ask(method, '/organizations/' || id || '/api-keys' || key, :'ada_token', CASE method WHEN 'POST' THEN '{}' END) a;
-- So are a key of another org and one that does not exist.
SELECT key_id AS bobs_key FROM overten_list_keys(:'bobs') \gset
SELECT count(DISTINCT a) AS answers, min(status) AS status, min(code) AS code
FROM (VALUES (:'bobs_key'), ('key_00000000000000000000'), (''';--'), (repeat('x', 5000))) k (id),
	LATERAL pg_temp.ask('DELETE', '/organizations/' || :'org' || '/api-keys/' || id, :'ada_token') a;

SELECT count(DISTINCT a) AS answers, min(status) AS status, min(code) AS code
FROM (VALUES (:'bobs_key'), ('key_00000000000000000000'), (''';--'), (repeat('x', 5000))) k (id),
	LATERAL pg_temp.ask('GET', '/organizations/' || :'org' || '/api-keys/' || id || '/usage', :'ada_token') a;
SELECT count(DISTINCT a) AS answers, min(status) AS status, min(code) AS code
FROM (VALUES (:'bobs'), ('org_00000000000000000000'), ('%00'), (repeat('x', 5000))) o (id), (VALUES (:'key'), (:'bobs_key')) k (key),
	LATERAL pg_temp.ask('GET', '/organizations/' || id || '/api-keys/' || key || '/usage', :'ada_token') a;

-- Nor does the time tell: the medians of a thousand requests each, in turn.
CREATE TEMP TABLE took (what text, seconds numeric);
SELECT set_config('test.token', :'ada_token', false), set_config('test.org', :'org', false),
	   set_config('test.bobs', :'bobs', false), set_config('test.bobs_key', :'bobs_key', false) \gset
DO $$
DECLARE
	headers json := json_build_object('authorization', 'Bearer ' || current_setting('test.token'),
		'content-type', 'application/json');
	case_ record;
	started timestamptz;
BEGIN
	FOR i IN 1..1000 LOOP
		FOR case_ IN SELECT * FROM (VALUES
			('list, foreign', 'GET', current_setting('test.bobs') || '/api-keys', NULL),
			('list, unknown', 'GET', 'org_00000000000000000000/api-keys', NULL),
			('mint, foreign', 'POST', current_setting('test.bobs') || '/api-keys', '{}'),
			('mint, unknown', 'POST', 'org_00000000000000000000/api-keys', '{}'),
			('usage, foreign', 'GET', current_setting('test.org') || '/api-keys/' || current_setting('test.bobs_key') || '/usage', NULL),
			('usage, unknown', 'GET', current_setting('test.org') || '/api-keys/key_00000000000000000000/usage', NULL),
			('key, foreign', 'DELETE', current_setting('test.org') || '/api-keys/' || current_setting('test.bobs_key'), NULL),
			('key, unknown', 'DELETE', current_setting('test.org') || '/api-keys/key_00000000000000000000', NULL)) v ORDER BY random()
		LOOP
			started := clock_timestamp();
			PERFORM overten_handle_request(case_.column2, '/api/v1/organizations/' || case_.column3, headers, case_.column4);
			INSERT INTO took VALUES (case_.column1, extract(epoch FROM clock_timestamp() - started));
		END LOOP;
	END LOOP;
END
$$;
SELECT split_part(f.what, ',', 1) AS what, f.median / u.median BETWEEN 0.75 AND 1.33 AS same_time
FROM (SELECT what, percentile_cont(0.5) WITHIN GROUP (ORDER BY seconds) AS median FROM took GROUP BY what) f
JOIN (SELECT what, percentile_cont(0.5) WITHIN GROUP (ORDER BY seconds) AS median FROM took GROUP BY what) u
ON f.what = split_part(f.what, ',', 1) || ', foreign' AND u.what = split_part(f.what, ',', 1) || ', unknown'
ORDER BY 1;

-- The history of a key: 10 hours with 3 uses, long ago, and a rise.
SELECT '/organizations/' || :'org' || '/api-keys/' || :'key' || '/usage' AS usage, date_trunc('hour', now(), 'UTC') AS base \gset
SELECT status, headers, body FROM pg_temp.ask('GET', :'usage', :'ada_token');
INSERT INTO overten_auth.key_usage
SELECT :'key', hour, '203.0.113.7', 3, 0, hour, hour + interval '59:59.9'
FROM generate_series(:'base'::timestamptz - interval '200 hours', :'base'::timestamptz - interval '191 hours', interval '1 hour') hour;
INSERT INTO overten_auth.key_usage
SELECT :'key', :'base'::timestamptz - interval '2 hours', address::inet, 300, 1, :'base'::timestamptz - interval '1:59', :'base'::timestamptz - interval '1:01'
FROM unnest(ARRAY['203.0.113.7', '2001:db8:1:2::/64', NULL]) address;
UPDATE overten_auth.api_keys SET revoked_at = :'base'::timestamptz - interval '1:59' WHERE key_id = :'key';
SELECT set_config('test.base', :'base', false) \gset
CREATE FUNCTION pg_temp.stamp(ago interval) RETURNS text LANGUAGE sql AS
	$$SELECT to_char(timezone('UTC', current_setting('test.base')::timestamptz - ago), 'YYYY-MM-DD"T"HH24:MI:SS"Z"')$$;
SELECT status, headers, body FROM pg_temp.ask('GET', :'usage', :'ada_token') \gset
SELECT :status AS status, :'body'::json ->> 'items' = '[' || string_agg(
	format('{"hour":"%s","client_addr":%s,"accepted":300,"refused":1,"first_used_at":"%s","last_used_at":"%s"}',
		   pg_temp.stamp('2:00'), address, pg_temp.stamp('1:59'), pg_temp.stamp('1:01')), ',') || ']' AS items
FROM unnest(ARRAY['"203.0.113.7"', '"2001:db8:1:2::/64"', 'null']) address;
SELECT regexp_replace(replace(replace(replace(replace(a::text, pg_temp.stamp('2:00'), 'HOUR'), pg_temp.stamp('1:59'), 'FIRST'),
	pg_temp.stamp('1:01'), 'LAST'), pg_temp.stamp('200:00'), 'BEGINNING'), '\d{4}-\d\d-\d\d( \d\d:\d\d)?', '(a time)', 'g') AS anomaly
FROM json_array_elements(:'body'::json -> 'anomalies') a;
SELECT :'body'::jsonb - 'items' - 'anomalies' AS rest;
UPDATE overten_auth.api_keys SET revoked_at = NULL WHERE key_id = :'key';
SELECT status, headers, body FROM pg_temp.ask('HEAD', :'usage', :'ada_token');

-- Times: RFC 3339 with any offset and fraction; parameters that are unknown are
-- ignored, those that are known come once.
SELECT left(query, 80) AS query, status, code, param, json_array_length(body::json -> 'items') AS items
FROM (VALUES
	('?'), ('?&&=&x'), ('?Since=x'), ('?x=%zz&%zz=1&sinc%E9=1'), ('?select=*&org_id=x&limit=1'),
	('?since='), ('?since'), ('?since=x'), ('?since=yesterday'), ('?since=now'), ('?since=infinity'), ('?since=0'),
	('?since=2026-04-17'), ('?since=2026-04-17T11:20:00'), ('?since=2026-04-17T11:20Z'), ('?since=2026-04-17%2011:20:00Z'),
	('?since=2026-04-17+11:20:00Z'), ('?since=2026-4-17T11:20:00Z'), ('?since=2026-04-17T11:20:00ZZ'), ('?since=2026-04-17T11:20:00.Z'),
	('?since=2026-04-17T11:20:00,5Z'), ('?since=%202026-04-17T11:20:00Z'), ('?since=2026-04-17T11:20:00Z%00'), ('?since=2026-04-17T11:20:00Z%'),
	('?since=2026-04-17T11:20:00%5'), ('?since=2026-04-17T11:20:00%zzZ'), ('?since=2026-13-01T00:00:00Z'), ('?since=2026-02-29T00:00:00Z'),
	('?since=2026-00-01T00:00:00Z'), ('?since=2026-01-00T00:00:00Z'), ('?since=2026-01-01T24:00:00Z'), ('?since=2026-01-01T00:60:00Z'),
	('?since=2026-01-01T00:00:61Z'), ('?since=2026-01-01T00:00:00+24:00'), ('?since=2026-01-01T00:00:00+0200'), ('?since=2026-01-01T00:00:00+02'),
	('?since=2026-01-01T00:00:00+02:60'), ('?since=-001-01-01T00:00:00Z'), ('?since=12026-01-01T00:00:00Z'), ('?since=２026-01-01T00:00:00Z'),
	('?since=2026-01-01T00:00:00Z&since=2026-01-01T00:00:00Z'), ('?since=&since='), ('?since=2026-01-01T00:00:00Z&%73ince=x'),
	('?until=x'), ('?until=x&since=x'), ('?until=&until='), ('?until=2026-01-01T00:00:00'), ('?x=é'), ('?x y'), ('?since=' || repeat('1', 5000)),
	('?since=9999-12-31T23:59:59.999999999999999999Z'), ('?until=0000-01-01T00:00:00%2B23:59'), ('?until=0000-01-01T00:00:00z'),
	('?since=2024-02-29t23:59:60-00:00&until=2024-03-01T00:00:00Z'), ('?since=2024-02-29T23:59:60.000001Z&until=2024-03-01T00:00:00Z'),
	('?since=2026-05-01T00:00:00Z&until=2026-04-30T23:59:59Z'),
	('?since=2026-05-01T00:00:00Z&until=2026-06-01T00:00:00Z'), ('?since=2026-05-01T00:00:00Z&until=2026-06-01T00:00:00.000001Z'),
	('?since=2000-01-01T00:00:00Z'), ('?since=2026-05-01T02:00:00%2B02:00&until=2026-06-01T00:00:00Z'),
	('?since=2026-05-01T02:00:00+02:00&until=2026-06-01T00:00:00Z'), ('?since=2026-05-01T01:59:59%2b02:00&until=2026-06-01T00:00:00Z'),
	('?since=2026-04-30T19:00:00-05:00&until=2026-06-01T00:00:00Z'), ('?since=%32026-05-01T00%3A00%3A00%5A&until=2026-06-01T00:00:00Z')) v (query),
	LATERAL pg_temp.ask('GET', :'usage' || query, :'ada_token');
SELECT what, status, json_array_length(body::json -> 'items') AS items
FROM (VALUES ('since the rise', 'since=' || pg_temp.stamp('1:30')), ('after it', 'since=' || pg_temp.stamp('1:00')),
	('all', 'since=' || pg_temp.stamp('201:00')), ('before', 'until=' || pg_temp.stamp('2:00') || '&since=' || pg_temp.stamp('200:00')),
	('one hour, with a fraction', 'x&since=' || replace(pg_temp.stamp('200:00'), 'Z', '.25Z') || '&until=' || replace(pg_temp.stamp('200:00'), 'Z', '.2500011%2B00:00') || '&y')) v (what, query),
	LATERAL pg_temp.ask('GET', :'usage' || '?' || query, :'ada_token');

-- The order of checks: the credential, the times, the org, the key.
SELECT what, status, code, param
FROM (VALUES ('no credential', :'usage', NULL), ('a key', :'usage', :'secret'), ('an expired token', :'usage', :'expired_token'),
	('a bad time, and an org of others', '/organizations/' || :'bobs' || '/api-keys/' || :'key' || '/usage', :'ada_token')) v (what, path, credential),
	LATERAL pg_temp.ask('GET', path || '?since=x', credential);
SELECT status, code FROM pg_temp.ask('GET', :'usage', :'bob_token');
DELETE FROM overten_auth.key_usage;

-- Revoking: 204 without a body, twice, and the first time stays.
SELECT status, headers, body FROM pg_temp.ask('DELETE', '/organizations/' || :'org' || '/api-keys/' || :'key', :'ada_token');
SELECT revoked_at, revoked_by FROM overten_auth.api_keys WHERE key_id = :'key' \gset
SELECT status, headers, body FROM pg_temp.ask('DELETE', '/organizations/' || :'org' || '/api-keys/' || :'key', :'ada_token');
SELECT revoked_at = :'revoked_at' AS same, :'revoked_by' AS by FROM overten_auth.api_keys WHERE key_id = :'key';
SELECT status, code FROM pg_temp.ask('GET', '/verify', :'secret');
SELECT status, code FROM pg_temp.ask('DELETE', '/organizations/' || :'org' || '/api-keys/' || :'key', NULL);

-- There is room for another key now, until there have been five.
SELECT status, code FROM pg_temp.ask('POST', '/organizations/' || :'org' || '/api-keys', :'ada_token', '{"name": "fourth"}');
SELECT overten_revoke_key(:'org', :'third_key');
SELECT status, code FROM pg_temp.ask('POST', '/organizations/' || :'org' || '/api-keys', :'ada_token', '{"name": "fifth"}');
SELECT overten_revoke_key(:'org', key_id) FROM overten_list_keys(:'org') WHERE name = 'fifth';
SELECT status, code FROM pg_temp.ask('POST', '/organizations/' || :'org' || '/api-keys', :'ada_token', '{"name": "sixth"}');

-- A suspended org mints nothing and its keys are refused, but they can be
-- listed and revoked.
SELECT body::json ->> 'secret' AS team_secret, body::json ->> 'org_id' AS team, body::json ->> 'key_id' AS team_key
FROM pg_temp.ask('POST', '/signup', :'bob_token', '{"org_name": "Team", "tier": "team"}') \gset
SELECT overten_set_api_access(:'team', false);
SELECT status, code FROM pg_temp.ask('GET', '/verify', :'team_secret');
SELECT status, code FROM pg_temp.ask('POST', '/organizations/' || :'team' || '/api-keys', :'bob_token', '{}');
SELECT status, code FROM pg_temp.ask('GET', '/organizations/' || :'team' || '/api-keys', :'bob_token');
SELECT status, code FROM pg_temp.ask('DELETE', '/organizations/' || :'team' || '/api-keys/' || :'team_key', :'bob_token');

-- Who is no longer a member has no longer an org.
SELECT overten_remove_member(:'team', 'bob');
SELECT status, code FROM pg_temp.ask('GET', '/organizations/' || :'team' || '/api-keys', :'bob_token');

-- A READ ONLY transaction serves what reads.
BEGIN READ ONLY;
SELECT status FROM pg_temp.ask('GET', '/organizations/' || :'org' || '/api-keys', :'ada_token');
SELECT status FROM pg_temp.ask('GET', :'usage', :'ada_token');
SELECT status, code FROM pg_temp.ask('GET', '/verify', :'secret');
ROLLBACK;

-- By SQL, the same refusals are errors.
\set VERBOSITY sqlstate
SELECT overten_signup('ada', 'x', 'y');
\set VERBOSITY default
SELECT overten_signup('ada', 'x', tier => 'pro');
SELECT overten_signup('ada');
\set VERBOSITY sqlstate
SELECT overten_signup('ada', 'x', tier => 'pro');
SELECT overten_signup('ada', '');
SELECT overten_signup('ada', existing_org_id => 'org_nobody');
SELECT overten_signup('ada', existing_org_id => :'existing');
SELECT overten_signup('ada', 'fourth');
SELECT overten_signup(NULL, 'x');
SELECT overten_signup('', 'x');
SELECT overten_signup('carol', 'x', key_name => NULL);
SELECT overten_handle_request(NULL, '/', '{}', '');
SELECT overten_handle_request('GET', NULL, '{}', '');
SELECT overten_handle_request('GET', '/api/v1/verify', 'x', '');
SELECT status FROM overten_handle_request('GET', '/api/v1/verify', NULL, NULL);
SELECT org_name, tier, name FROM overten_signup('carol', 'Carol');

-- For PostgREST: the request in settings, and so the answer.
\set VERBOSITY default
SELECT org_id AS carols, name FROM overten_list_orgs('carol') \gset
SELECT secret AS carols_secret, key_id AS carols_key FROM overten_mint_key(:'carols') \gset
BEGIN;
SELECT overten_api.verify(), current_setting('response.status') AS status, current_setting('response.headers') AS headers;
SELECT set_config('request.headers', json_build_object('x-overten-authorization', 'Bearer ' || :'carols_secret')::text, true) \gset
SELECT overten_api.verify() ->> 'org_name' AS org_name;
SELECT current_setting('response.status') AS status, current_setting('response.headers') AS headers;
SELECT set_config('request.headers', json_build_object('x-overten-authorization', 'Bearer ' || :'ada_token', 'x-overten-org-id', :'org')::text, true) \gset
SELECT json_array_length(overten_api.list_api_keys() -> 'items') AS items;
SELECT json_array_length(overten_api.list_api_keys(:'carols') -> 'items') AS items_of_the_header;
SELECT json_array_length(overten_api.key_usage(key_id => :'key') -> 'items') AS items;
SELECT overten_api.key_usage(key_id => :'key', since => 'x') #>> '{error,param}' AS param;
SELECT overten_api.key_usage(key_id => :'key', until => 'x') #>> '{error,param}' AS param;
SELECT overten_api.key_usage(key_id => :'key', since => '2026-05-01T00:00:00+02:00', until => '2026-05-02T00:00:00Z') AS usage;
SELECT overten_api.key_usage(:'carols', :'carols_key') #>> '{error,code}' AS not_of_the_header_s_org;
SELECT overten_api.key_usage() #>> '{error,code}' AS no_key;
SELECT set_config('request.headers', json_build_object('x-overten-authorization', 'Bearer ' || :'ada_token', 'x-overten-org-id', :'org',
	'x-overten-key-id', :'key', 'x-overten-query', 'since=x')::text, true) \gset
SELECT overten_api.key_usage(key_id => 'key_nobody', since => '2026-05-01T00:00:00Z') #>> '{error,param}' AS query_of_the_header;
SELECT set_config('request.headers', json_build_object('x-overten-authorization', 'Bearer ' || :'ada_token', 'x-overten-org-id', :'org')::text, true) \gset
SELECT overten_api.create_api_key('{"name": "x"}') #>> '{error,code}' AS code, overten_api.signup('{}') #>> '{error,code}' AS code;
SELECT overten_api.signup('{"org_name": "x", "org_name": "y"}') #>> '{error,code}' AS code;
SELECT overten_api.create_api_key('[]') #>> '{error,message}' AS message, overten_api.signup('{"org_name": ""}') #>> '{error,message}' AS message;
SELECT overten_api.key_usage(key_id => repeat('x', 10000)) #>> '{error,code}' AS code, overten_api.key_usage(key_id => :'key', since => repeat('x', 10000)) #>> '{error,param}' AS param;
SELECT current_setting('response.status') AS status;
SAVEPOINT s;
SELECT overten_api.revoke_api_key('{"key_id": "key_nobody"}');
ROLLBACK TO s;
SELECT set_config('request.headers', '{"x-overten-authorization": 1}', true) \gset
SELECT overten_api.revoke_api_key('{"key_id": "key_nobody"}');
ROLLBACK TO s;
SELECT set_config('request.headers', json_build_object('x-overten-authorization', 'Bearer ' || :'ada_token', 'x-overten-query', repeat('&', 8193))::text, true) \gset
SELECT overten_api.key_usage(:'carols', :'carols_key') #>> '{error,message}' AS message;
SELECT set_config('request.headers', json_build_object('x-overten-authorization', 'Bearer ' || :'bob_token')::text, true) \gset
SELECT overten_api.revoke_api_key(json_build_object('org_id', :'bobs', 'key_id', :'bobs_key'));
SELECT current_setting('response.status') AS status, current_setting('response.headers') AS headers;
SELECT overten_api.list_api_keys(:'bobs') #>> '{items,0,revoked_at}' IS NOT NULL AS revoked;
COMMIT;

-- A row that breaks a constraint is not shown.
ALTER TABLE overten_auth.orgs ADD CONSTRAINT never CHECK (false) NOT VALID;
SELECT overten_create_org('Refused');

DROP EXTENSION overten_auth;
