--
-- http_keys: lists of keys in pages over HTTP, and what overten_auth.key_features
-- lets customers do with keys
--
CREATE EXTENSION overten_auth;
\getenv srcdir PG_ABS_SRCDIR
\set tokens :srcdir '/sql/tokens.inc'
\set ECHO none
\i :tokens
\set ECHO all
\pset null '-'
SET overten_auth.firebase_project_id = 'overten-test';
SELECT overten_load_signing_keys(:'signing_keys');

-- One exchange; only what differs from other answers of its status.
CREATE FUNCTION pg_temp.ask(method text, path text, credential text,
	content text DEFAULT NULL, more jsonb DEFAULT '{}')
	RETURNS TABLE (status int, body text, headers text)
	LANGUAGE plpgsql AS $$
DECLARE
	answer record;
BEGIN
	answer := overten_handle_request(method, '/api/v1' || path,
		(jsonb_build_object('authorization', 'Bearer ' || credential)
		 || CASE WHEN content IS NULL THEN '{}'
			ELSE '{"content-type": "application/json"}'::jsonb END
		 || more)::json, convert_to(content, 'UTF8'));
	RETURN QUERY SELECT answer.status, answer.body,
		(SELECT string_agg(key || ': ' || value, E'\n' ORDER BY key)
		 FROM json_each_text(answer.headers)
		 WHERE (key, value) NOT IN (('cache-control', 'no-store'), ('content-type', 'application/json')));
END
$$;

-- Ada's org has eight keys, two of each status and two that have another
-- restriction; their times are fixed.
SELECT org_id AS org FROM overten_create_org('Acme') \gset
SELECT org_id AS other FROM overten_create_org('Other') \gset
SELECT overten_add_member(:'org', 'ada'), overten_add_member(:'other', 'bob'), overten_set_api_access(:'org', true);
SELECT key_id AS foreign FROM overten_mint_key(:'other', 'foreign') \gset
INSERT INTO overten_auth.api_keys (key_id, org_id, name, prefix, digest, created_at, revoked_at, revoked_by, revoked_reason, expires_at, disabled_at, disabled_by, scopes, allowed_addresses, created_by)
SELECT 'key_' || lpad(i::text, 20, '0'), :'org', 'k' || i, 'sk_live_0000', sha256(i::text::bytea), '2020-01-01 00:00+00'::timestamptz + i / 2 * interval '1 day',
	CASE WHEN i IN (1, 5) THEN '2020-10-01 00:00+00'::timestamptz END, CASE WHEN i = 1 THEN 'ada' END, CASE WHEN i = 5 THEN 'leaked' END,
	CASE WHEN i IN (2, 6) THEN '2020-02-01 00:00+00'::timestamptz WHEN i = 4 THEN '2100-01-01 00:00+00' END,
	CASE WHEN i IN (3, 7) THEN '2020-10-02 00:00+00'::timestamptz END, CASE WHEN i = 3 THEN 'ada' END,
	CASE WHEN i = 4 THEN '{jobs.read,jobs.write}'::text[] END, CASE WHEN i = 4 THEN '{192.0.2.0/24,2001:db8::/32}'::cidr[] END, 'ada'
FROM generate_series(0, 7) i;
INSERT INTO overten_auth.key_last_used SELECT key_id, CASE WHEN key_id LIKE '%4' THEN '2020-06-01 00:00+00'::timestamptz END FROM overten_auth.api_keys WHERE org_id = :'org';
\set keys '/organizations/' :org '/api-keys'

-- Without a parameter, the answer of the contract: expired and disabled keys are
-- listed, and nothing tells which they are.
SELECT status, headers, body FROM pg_temp.ask('GET', :'keys', :'ada_token');
SELECT query, same FROM (VALUES ('?'), ('?select=x&offset=1'), ('?Limit=1'), ('?Environment=test')) v (query),
	LATERAL (SELECT a.body = (SELECT body FROM pg_temp.ask('GET', :'keys', :'ada_token')) AS same FROM pg_temp.ask('GET', :'keys' || query, :'ada_token') a) a;

-- What a page holds.
CREATE FUNCTION pg_temp.names(keys text, query text, credential text) RETURNS text LANGUAGE sql AS $$
	SELECT status || ' ' || coalesce((SELECT string_agg(item ->> 'name', ' ') FROM json_array_elements(body::json -> 'items') item), body::json #>> '{error,code}', '')
		|| coalesce(' next ' || (body::json -> 'next_cursor')::text, '') || coalesce(' ' || (body::json #>> '{error,message}'), '')
	FROM pg_temp.ask('GET', keys || query, credential)
$$;
SELECT query, pg_temp.names(:'keys', query, :'ada_token')
FROM (VALUES ('?limit=3'), ('?limit=3&cursor=key_00000000000000000002'), ('?limit=%33&cursor=key_00000000000000000005'), ('?limit=8'), ('?limit=1000'),
	('?cursor=key_00000000000000000005'), ('?status=active'), ('?status=revoked'), ('?status=revoked&limit=1'), ('?status=active&limit=2&cursor=key_00000000000000000000'),
	('?unused_since=2020-06-01T00:00:00Z'), ('?unused_since=2020-06-01T00:00:01Z&limit=5'), ('?unused_since=2020-01-02T00:00:00%2B00:00'), ('?unused_since=2020-01-01T00:00:00Z&limit=2')) v (query);

-- What is refused; nothing of it is repeated.
SELECT left(query, 60), pg_temp.names(:'keys', query, :'ada_token')
FROM (VALUES ('?limit=0'), ('?limit=-1'), ('?limit=1001'), ('?limit=1000000000'), ('?limit=99999999999999999999'), ('?limit='), ('?limit'), ('?limit=1e2'), ('?limit=%201'), ('?limit=1&limit=2'), ('?limit=%00'), ('?limit=0x10'),
	('?cursor='), ('?cursor=x'), ('?cursor=%ff%fe'), ('?cursor=%e2%82'), ('?cursor=%00'), ('?cursor=' || repeat('k', 8000)), ('?cursor=key_00000000000000000002&cursor=x'), ('?limit=2&cursor=key_%27%3B--'), ('?cursor=%E2%9C%93'),
	('?status='), ('?status=Active'), ('?status=expired'), ('?status=disabled'), ('?status=active,revoked'), ('?status=%ff'), ('?status=%e2%82'),
	('?unused_since=yesterday'), ('?unused_since='), ('?unused_since=2020-06-01'), ('?unused_since=infinity'),
	('?environment='), ('?environment=test'), ('?%65nvironment=live')) v (query);
SELECT pg_temp.names(:'keys', '?cursor=' || :'foreign', :'ada_token');
-- The order of the contract: who asks, the parameters, the org, and then the cursor,
-- which says nothing about another org.
SELECT pg_temp.names(:'keys', '?limit=0', 'x'), pg_temp.names(:'keys', '?limit=0', :'bob_token'), pg_temp.names(:'keys', '?cursor=key_00000000000000000002', :'bob_token');
SELECT status, headers, body FROM pg_temp.ask('HEAD', :'keys' || '?limit=1', :'ada_token');

-- All pages together are the list.
CREATE FUNCTION pg_temp.pages(keys text, query text, credential text, size int) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	found text[] := '{}';
	page json;
	at text;
BEGIN
	LOOP
		SELECT a.body INTO page FROM pg_temp.ask('GET', keys || query || '&limit=' || size || coalesce('&cursor=' || at, ''), credential) a;
		found := found || ARRAY(SELECT item ->> 'name' FROM json_array_elements(page -> 'items') item);
		at := page ->> 'next_cursor';
		EXIT WHEN at IS NULL;
	END LOOP;
	RETURN array_to_string(found, ' ');
END
$$;
SELECT query, string_agg(DISTINCT pg_temp.pages(:'keys', query, :'ada_token', size), ' | ')
FROM unnest('{?,?status=active,?status=revoked,?unused_since=2020-06-01T00:00:00Z}'::text[]) query, generate_series(1, 9) size GROUP BY query ORDER BY query;

-- Without overten_auth.key_features, a member that says what a key may do is
-- refused, even if it is null, and nothing is minted; members that nobody knows are
-- ignored.
INSERT INTO overten_auth.scopes (name, self_service) VALUES ('jobs.read', true);
SELECT request, status, body::json #>> '{error,message}' AS message, (SELECT count(*) FROM overten_auth.api_keys WHERE org_id = :'org') AS keys
FROM (VALUES ('{"name": "n", "expires_at": "2100-01-01T00:00:00Z"}'), ('{"expires_at": null}'), ('{"expires_at": 1}'), ('{"scopes": ["jobs.read"]}'), ('{"scopes": null}'), ('{"scopes": []}'),
	('{"allowed_addresses": ["192.0.2.0/24"]}'), ('{"allowed_addresses": null}'), ('{"description": "d"}'), ('{"description": null}'), ('{"metadata": {}}'), ('{"metadata": null}'), ('{"environment": "live"}'), ('{"environment": null}'), ('{"disabled": true}'), ('{"disabled": null}'), ('{"name": "", "scopes": null}')) v (request),
	LATERAL pg_temp.ask('POST', :'keys', :'ada_token', request);
SELECT status, array_to_string(ARRAY(SELECT json_object_keys(body::json)), ' ') FROM pg_temp.ask('POST', :'keys', :'ada_token', '{"name": "plain", "Expires_at": 1, "expiry": 1, "Disabled": true, "n": [12345678901234567890, -1e400, 0.1e-400]}');
-- A signup cannot restrict its key, and says so.
SELECT request, status, body::json #>> '{error,message}' AS message, (SELECT count(*) FROM overten_auth.orgs) AS orgs
FROM (VALUES ('{"org_name": "n", "expires_at": "2100-01-01T00:00:00Z"}'), ('{"org_name": "n", "scopes": []}'), ('{"org_name": "n", "allowed_addresses": ["192.0.2.0/24"]}'), ('{"org_name": "n", "environment": "test"}'), ('{"org_name": "n", "disabled": true}'),
	('{"org_name": "n", "expires_at": null, "scopes": null, "allowed_addresses": null, "environment": null, "Scopes": []}')) v (request),
	LATERAL pg_temp.ask('POST', '/signup', :'ada_token', request);
-- A key has no requests of its own but DELETE.
SELECT method, path, a.status, a.headers, a.body::json #>> '{error,code}' AS code
FROM (VALUES ('GET', '/key_00000000000000000000'), ('HEAD', '/key_00000000000000000000'), ('PATCH', '/key_00000000000000000000'), ('PUT', '/key_00000000000000000000'),
	('POST', '/key_00000000000000000000/rotate'), ('GET', '/key_00000000000000000000/rotate'), ('GET', '/key_00000000000000000000/rotation'), ('HEAD', '/key_00000000000000000000/rotation'), ('PUT', '/key_00000000000000000000/rotation')) v (method, path),
	LATERAL pg_temp.ask(method, :'keys' || path, :'ada_token', CASE method WHEN 'PATCH' THEN '{"disabled": true}' END) a;
-- The reason of a revocation, which does not change later.
SELECT key_id AS doomed FROM overten_mint_key(:'org', 'doomed') \gset
SELECT reason, a.status, a.body::json #>> '{error,message}' AS message
FROM unnest(ARRAY['', '%20', repeat('x', 201), 'a%0ab', '%ff', 'a%e2%82', '%ed%a0%80', '%00', '%', 'a&reason=b', '%20l%c3%a4%e2%9c%93+%22"']) reason, LATERAL pg_temp.ask('DELETE', :'keys' || '/' || :'doomed' || '?reason=' || reason, :'ada_token') a;
SELECT status FROM pg_temp.ask('DELETE', :'keys' || '/' || :'doomed' || '?reason=another', :'ada_token');
SELECT revoked_by, revoked_reason FROM overten_auth.api_keys WHERE key_id = :'doomed';
SELECT action, uid, detail FROM overten_auth.audit_log WHERE key_id = :'doomed' AND action = 'revoke_key';
-- What JSON escapes, and what is not ASCII, comes back from each place in a name;
-- a control character, or a byte that is no UTF-8, may stand in none.
SELECT a.status, count(*), count(*) FILTER (WHERE a.body::json ->> 'name' = name) AS same
FROM unnest(ARRAY['"', '\', 'é', '🔑']) c, generate_series(0, 16) i, LATERAL (SELECT repeat('n', i) || c || repeat('m', 16 - i)) n (name),
	LATERAL pg_temp.ask('POST', :'keys', :'ada_token', json_build_object('name', name)::text) a GROUP BY 1;
SELECT a.status, a.body::json #>> '{error,message}' AS message, count(*)
FROM unnest(ARRAY[E'\x01', E'\t', E'\x1f']) c, generate_series(0, 16) i,
	LATERAL pg_temp.ask('POST', :'keys', :'ada_token', '{"name": "' || repeat('n', i) || c || repeat('m', 16 - i) || '"}') a GROUP BY 1, 2;
SELECT a.status, a.body::json #>> '{error,message}' AS message, count(*)
FROM unnest('{"\\x80","\\x9f","\\xa2","\\xff"}'::bytea[]) c, generate_series(0, 16) i, LATERAL overten_handle_request('POST', '/api/v1' || :'keys', json_build_object('authorization', 'Bearer ' || :'ada_token', 'content-type', 'application/json'),
	convert_to('{"name": "' || repeat('n', i), 'UTF8') || c || convert_to(repeat('m', 16 - i) || '"}', 'UTF8')) a GROUP BY 1, 2;
\set VERBOSITY terse
SET overten_auth.key_features = 'expiry';

DROP EXTENSION overten_auth CASCADE;
