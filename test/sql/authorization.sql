--
-- authorization: the question of a proxy whether a request may go on
--
-- The library is not preloaded here, so a key with limits gets an error.
--
\set SHOW_CONTEXT never
\set VERBOSITY terse
\pset null '-'
CREATE EXTENSION overten_auth;
INSERT INTO overten_auth.tiers VALUES (U&'\4F01\696D 50%');
SELECT org_id FROM overten_create_org('Protected', U&'\4F01\696D 50%') \gset
SELECT key_id, secret FROM overten_mint_key(:'org_id') \gset
INSERT INTO overten_auth.scopes VALUES ('read'), ('write');

-- One question; ids and secrets are not the same in each run.
CREATE FUNCTION pg_temp.ask(credential text, query text DEFAULT NULL, more jsonb DEFAULT '{}')
	RETURNS TABLE (status int, header text, value text, body text)
	LANGUAGE sql AS $$
	SELECT a.status, h.key,
		   regexp_replace(h.value, '^(org|key|sk_live)_.*', '\1_...'),
		   regexp_replace(a.body, '"(org|key|sk_live|whsec)_[^"]+"([,}])', '"\1_..."\2', 'g')
	FROM overten_authorize_request(query,
			(more || CASE WHEN credential IS NULL THEN '{}'
			 ELSE jsonb_build_object('authorization', 'Bearer ' || credential) END)::json) a,
		 json_each_text(a.headers) h
	WHERE h.key NOT IN ('cache-control', 'content-type') OR a.status = 400
	ORDER BY h.key $$;

-- Each answer
SELECT * FROM pg_temp.ask(:'secret');
SELECT * FROM pg_temp.ask(NULL);
SELECT * FROM pg_temp.ask('no key');
SELECT * FROM pg_temp.ask('sk_live_' || repeat('A', 28));
SELECT * FROM pg_temp.ask(:'secret', more => '{"x-overten-authorization": "Bearer other"}');

-- A key in the header for keys alone, with spaces around it.  A comma says that there
-- were several.
SELECT status, header, value FROM pg_temp.ask(NULL, more => jsonb_build_object('x-overten-api-key', E' \t' || :'secret' || E'\t'));
SELECT what, a.* FROM (VALUES (1, 'none', NULL, ''), (2, 'spaces', NULL, E' \t'),
	(4, 'another key', NULL, 'sk_live_' || repeat('A', 28)), (5, 'a scheme', NULL, 'Bearer ' || :'secret'), (6, 'a Bearer, too', :'secret', :'secret'),
	(7, 'two', NULL, :'secret' || ', ' || :'secret')) v (n, what, bearer, key),
	LATERAL pg_temp.ask(bearer, more => jsonb_build_object('x-overten-api-key', key)) a
WHERE header NOT LIKE 'x-overten-%' OR header = 'x-overten-refusal' ORDER BY n, header;
SELECT status, header, value FROM pg_temp.ask(NULL, more => jsonb_build_object('x-overten-api-key', :'secret', 'authorization', '', 'x-overten-authorization', ''));
SELECT * FROM pg_temp.ask(NULL, more => jsonb_build_object('x-overten-api-key', :'secret', 'x-overten-authorization', 'Bearer ' || :'secret'));
SELECT overten_set_scopes(:'org_id', :'key_id', '{read}');
SELECT DISTINCT status FROM pg_temp.ask(:'secret');
SELECT DISTINCT status FROM pg_temp.ask(:'secret', 'scope=read');
SELECT * FROM pg_temp.ask(:'secret', 'scope=read%20write&cost=0');
SELECT overten_set_allowed_addresses(:'org_id', :'key_id', '{192.0.2.0/24}');
SELECT DISTINCT status FROM pg_temp.ask(:'secret', more => '{"x-overten-client-addr": "192.0.2.7"}');
SELECT * FROM pg_temp.ask(:'secret', more => '{"x-overten-client-addr": "198.51.100.7"}');
SELECT overten_set_allowed_addresses(:'org_id', :'key_id', NULL);
SELECT overten_disable_key(:'org_id', :'key_id', 'on holiday');
SELECT * FROM pg_temp.ask(:'secret');
SELECT overten_enable_key(:'org_id', :'key_id');
SELECT overten_set_expiry(:'org_id', :'key_id', '2001-01-01');
SELECT * FROM pg_temp.ask(:'secret');
SELECT overten_set_expiry(:'org_id', :'key_id', NULL);

-- PostgREST's road gives the same answers, with 204 for 200, and without a body.
CREATE FUNCTION pg_temp.by_postgrest(query text, asked json) RETURNS TABLE (status int, headers jsonb) LANGUAGE plpgsql AS $$
BEGIN
	PERFORM set_config('request.headers', (asked::jsonb || CASE WHEN query IS NULL THEN '{}' ELSE jsonb_build_object('x-overten-query', query) END)::text, true);
	PERFORM overten_api.authorize();
	RETURN QUERY SELECT current_setting('response.status')::int,
		(SELECT jsonb_object_agg(h.key, h.value) FROM jsonb_array_elements(current_setting('response.headers')::jsonb) a, jsonb_each_text(a) h);
END
$$;
SELECT overten_set_scopes(:'org_id', :'key_id', '{read}');
SELECT what, a.status, p.status = CASE a.status WHEN 200 THEN 204 ELSE a.status END AS same_status, p.headers - 'x-overten-error' = a.headers::jsonb AS same_headers,
	p.headers ->> 'x-overten-error' IS NOT DISTINCT FROM CASE WHEN a.status > 200 THEN a.body END AS same_body
FROM (VALUES ('a key', NULL, json_build_object('authorization', 'Bearer ' || :'secret')),
	('moved', NULL, json_build_object('x-overten-authorization', 'Bearer ' || :'secret')),
	('two', NULL, json_build_object('authorization', 'Bearer ' || :'secret', 'x-overten-authorization', 'Bearer x')),
	('none', NULL, '{}'), ('unknown', NULL, '{"authorization": "Bearer x"}'),
	('a scope', 'scope=read', json_build_object('authorization', 'Bearer ' || :'secret')),
	('a scope it lacks', 'scope=write', json_build_object('authorization', 'Bearer ' || :'secret')),
	('for nginx', 'for=auth_request&cost=1000&scope=', json_build_object('authorization', 'Bearer ' || :'secret')),
	('a bad cost', 'cost=-1', json_build_object('authorization', 'Bearer ' || :'secret')),
	('a long query', repeat('x', 8193), json_build_object('authorization', 'Bearer ' || :'secret'))) q (what, query, asked),
	overten_authorize_request(query, asked) a, pg_temp.by_postgrest(query, asked) p;
SELECT overten_set_scopes(:'org_id', :'key_id', NULL);

-- Bad questions
SELECT left(query, 40) AS query, a.status, a.body, a.headers->>'x-overten-refusal' AS refusal
FROM (VALUES ('cost='), ('cost=-1'), ('cost=1.5'), ('cost=1e3'), ('cost=1000000001'), ('cost=99999999999999999999'),
	('cost=1&cost=1'), ('cost=%00'), ('cost=1 '), ('scope=read%20%20write'), ('scope=%20'), ('scope=read,write'),
	('scope=%22'), ('scope=%C3%BC'), ('scope=' || repeat('a%20', 64) || 'a'), ('scope=' || repeat('a', 65)), ('for='),
	('for=nginx'), (repeat('x', 8193))) q (query),
	overten_authorize_request(query, json_build_object('authorization', 'Bearer ' || :'secret')) a;
SELECT a.status FROM overten_authorize_request('cost=1000000000&scope=' || repeat('read%20', 63) || 'read&other=%zz',
	json_build_object('authorization', 'Bearer ' || :'secret')) a;
SELECT a.status, a.body FROM overten_authorize_request(NULL, NULL) a;
SELECT a.status, a.body FROM overten_authorize_request(NULL, '[]') a;
SELECT a.status, a.body FROM overten_authorize_request('cost=1', '{"authorization": ["Bearer x"]}') a;

-- A key whose limits cannot be counted goes nowhere.
SELECT overten_set_limit('key', :'key_id', 'per_minute', 60, '1 minute');
SELECT overten_authorize_request(NULL, json_build_object('authorization', 'Bearer ' || :'secret'));
SELECT overten_drop_limit('key', :'key_id', 'per_minute');

-- Nothing is written, and only who is granted it may ask.
BEGIN READ ONLY;
SELECT DISTINCT status FROM pg_temp.ask(:'secret', 'scope=read');
COMMIT;
CREATE ROLE overten_authorization_test;
SET ROLE overten_authorization_test;
SELECT overten_authorize_request(NULL, '{}');
RESET ROLE;
DROP ROLE overten_authorization_test;
DROP EXTENSION overten_auth;
