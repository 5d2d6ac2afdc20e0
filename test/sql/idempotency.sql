--
-- idempotency: a request that is repeated because its answer was lost makes
-- nothing twice, and leaves nobody without a secret
--
CREATE EXTENSION overten_auth;
\getenv srcdir PG_ABS_SRCDIR
\set tokens :srcdir '/sql/tokens.inc'
\set ECHO none
\i :tokens
\set ECHO all
SET overten_auth.firebase_project_id = 'overten-test';
SELECT overten_load_signing_keys(:'signing_keys');

-- A POST by Ada or Bob, with an Idempotency-Key: status, code, and what is made.
CREATE FUNCTION pg_temp.post(token text, path text, key text, content text, OUT status int, OUT code text,
	OUT org text, OUT key_id text, OUT secret text, OUT name text, OUT body text)
	LANGUAGE plpgsql AS $$
DECLARE
	headers jsonb := jsonb_build_object('authorization', 'Bearer ' || token, 'content-type', 'application/json');
	answer record;
BEGIN
	IF key IS NOT NULL THEN
		headers := headers || jsonb_build_object('idempotency-key', key);
	END IF;
	answer := overten_handle_request('POST', '/api/v1' || path, headers::json, content);
	status := answer.status;
	body := answer.body;
	code := body::json #>> '{error,code}';
	org := coalesce(body::json ->> 'org_id', body::json #>> '{error,org_id}');
	key_id := coalesce(body::json ->> 'key_id', body::json #>> '{error,key_id}');
	secret := body::json ->> 'secret';
	name := body::json ->> 'name';
END
$$;
-- How many keys of an org are accepted, out of how many.
CREATE FUNCTION pg_temp.keys(org text) RETURNS text LANGUAGE sql AS $$
	SELECT format('%s of %s', count(*) FILTER (WHERE revoked_at IS NULL), count(*)) FROM overten_list_keys(org);
$$;
-- Let a request be older than it is.
CREATE FUNCTION pg_temp.age(by interval) RETURNS void LANGUAGE sql AS $$
	UPDATE overten_auth.idempotency_keys SET first_at = first_at - by;
$$;
\pset null '-'

-- The same sign-up again: the same org, and a new key instead of the first.
SELECT org, key_id AS key, secret AS first FROM pg_temp.post(:'ada_token', '/signup', 'one', '{"org_name": "Acme"}') \gset
SELECT status, code, org = :'org' AS same_org, key_id <> :'key' AS new_key, secret <> :'first' AS new_secret, name,
	(SELECT array_agg(m ORDER BY m) FROM json_object_keys(body::json) m) AS members
FROM pg_temp.post(:'ada_token', '/signup', 'one', '{"org_name": "Acme"}');
SELECT count(*) FROM overten_list_orgs('ada');
SELECT pg_temp.keys(:'org');
SELECT count(*) FROM overten_verify_key(:'first');
SELECT revoked_by, revoked_reason FROM overten_describe_key(:'org', :'key');
SELECT action, uid, detail FROM overten_auth.audit_log WHERE org_id = :'org' ORDER BY at;
-- Of another key, or without one, it is another sign-up.
SELECT status, org <> :'org' AS other_org FROM pg_temp.post(:'ada_token', '/signup', 'two', '{"org_name": "Acme"}');
SELECT status, org <> :'org' AS other_org FROM pg_temp.post(:'ada_token', '/signup', NULL, '{"org_name": "Acme"}');
SELECT status, org <> :'org' AS other_org FROM pg_temp.post(:'bob_token', '/signup', 'one', '{"org_name": "Acme"}');

-- Five times; then it is only told what was made.
SELECT n, status, code, org = :'org' AS same_org, key_id IS NOT NULL AS with_key, secret IS NOT NULL AS with_secret
FROM generate_series(2, 7) n, LATERAL pg_temp.post(:'ada_token', '/signup', 'one', left('{"org_name": "Acme"}', 20 + 0 * n)) ORDER BY n;
SELECT pg_temp.keys(:'org');
SELECT regexp_replace(body, '(org|key)_\w{20}', '\1', 'g') AS body, key_id = (SELECT k.key_id FROM overten_list_keys(:'org') k WHERE revoked_at IS NULL) AS the_active_one
FROM pg_temp.post(:'ada_token', '/signup', 'one', '{"org_name": "Acme"}');

-- With the same key another request is refused, byte for byte the same or not.
SELECT what, status, code, org, key_id
FROM (VALUES ('body', '/signup', '{"org_name": "Acme" }'), ('name', '/signup', '{"org_name": "Bcme"}'),
	('path', '/organizations/' || :'org' || '/api-keys', '{"org_name": "Acme"}')) v (what, path, content),
	LATERAL pg_temp.post(:'ada_token', path, 'one', content);
SELECT body FROM pg_temp.post(:'ada_token', '/signup', 'one', '{"org_name": "Bcme"}');
SELECT count(*) FROM overten_list_orgs('ada');

-- A key of an org, likewise.
SELECT '/organizations/' || :'org' || '/api-keys' AS path \gset
SELECT status, key_id AS key, secret AS first FROM pg_temp.post(:'ada_token', :'path', 'k1', '{"name": "ci"}') \gset
SELECT status, key_id <> :'key' AS new_key, secret AS second, name FROM pg_temp.post(:'ada_token', :'path', 'k1', '{"name": "ci"}') \gset repeated_
\echo :repeated_status :repeated_new_key :repeated_name
SELECT count(*) FROM overten_verify_key(:'first');
SELECT pg_temp.keys(:'org');
-- A key that was used has reached somebody.
SELECT count(*) FROM overten_verify_key(:'repeated_second');
SELECT status, code, org = :'org' AS same_org, key_id <> :'key' AS second_key, secret FROM pg_temp.post(:'ada_token', :'path', 'k1', '{"name": "ci"}');
SELECT count(*) FROM overten_verify_key(:'repeated_second');
SELECT pg_temp.keys(:'org');
-- So has a key that was revoked.
SELECT key_id AS key FROM pg_temp.post(:'ada_token', :'path', 'k2', '{"name": "ci"}') \gset
SELECT overten_revoke_key(:'org', :'key', 'not needed');
SELECT status, code, key_id = :'key' AS same_key FROM pg_temp.post(:'ada_token', :'path', 'k2', '{"name": "ci"}');
SELECT revoked_reason FROM overten_describe_key(:'org', :'key');
SELECT pg_temp.keys(:'org');

-- An org that exists is signed up once, and the request can be repeated.
SELECT org_id AS existing FROM overten_create_org('Existing') \gset
SELECT overten_add_member(:'existing', 'ada');
SELECT format('{"existing_org_id": "%s"}', :'existing') AS content \gset
SELECT n, status, code, org = :'existing' AS org FROM generate_series(1, 2) n, LATERAL pg_temp.post(:'ada_token', '/signup', 'three', left(:'content', 100 + 0 * n)) ORDER BY n;
SELECT status, code FROM pg_temp.post(:'ada_token', '/signup', NULL, :'content');
SELECT pg_temp.keys(:'existing');
-- The same words about another org are another request.
SELECT status, code, org, key_id FROM pg_temp.post(:'ada_token', '/organizations/' || :'existing' || '/api-keys', 'k1', '{"name": "ci"}');
SELECT pg_temp.keys(:'existing');

-- Ten minutes, and a day.  A clock that was set back is no reason to revoke a key.
SELECT pg_temp.age('9 min 30 s');
SELECT status FROM pg_temp.post(:'ada_token', '/signup', 'three', :'content');
SELECT pg_temp.age('40 s');
SELECT status, code FROM pg_temp.post(:'ada_token', '/signup', 'three', :'content');
SELECT pg_temp.age('-1 day');
SELECT status, code FROM pg_temp.post(:'ada_token', '/signup', 'three', :'content');
SELECT pg_temp.age('1 day 23 hours 49 min');
SELECT status, code FROM pg_temp.post(:'ada_token', '/signup', 'three', :'content');
SELECT pg_temp.age('2 min');
SELECT status, code FROM pg_temp.post(:'ada_token', '/signup', 'three', :'content');
SELECT status, org <> :'org' AS other_org FROM pg_temp.post(:'ada_token', '/signup', 'one', '{"org_name": "Bcme"}');
SELECT status, code FROM pg_temp.post(:'ada_token', '/signup', 'one', '{"org_name": "Acme"}');
SELECT repeats FROM overten_auth.idempotency_keys WHERE first_at > now() - interval '1 minute';
SELECT status, code, org <> :'org' AS other_org FROM pg_temp.post(:'ada_token', '/signup', 'one', '{"org_name": "Bcme"}');
SELECT pg_temp.keys(:'existing');

-- A person who has left the org, or an org without access, gets nothing out of it.
SELECT org AS left FROM pg_temp.post(:'ada_token', '/signup', 'four', '{"org_name": "Left"}') \gset
SELECT '/organizations/' || :'left' || '/api-keys' AS path \gset
SELECT status FROM pg_temp.post(:'ada_token', :'path', 'five', '{}');
SELECT overten_set_api_access(:'left', false);
SELECT status, code, org FROM pg_temp.post(:'ada_token', '/signup', 'four', '{"org_name": "Left"}');
SELECT status, code, org FROM pg_temp.post(:'ada_token', :'path', 'five', '{}');
SELECT status, code, org FROM pg_temp.post(:'ada_token', :'path', 'four', '{}');
SELECT overten_set_api_access(:'left', true), overten_add_member(:'left', 'bob'), overten_remove_member(:'left', 'ada');
SELECT status, code, org FROM pg_temp.post(:'ada_token', '/signup', 'four', '{"org_name": "Left"}');
SELECT status, code, org FROM pg_temp.post(:'ada_token', :'path', 'five', '{}');
SELECT status, code, org FROM pg_temp.post(:'ada_token', :'path', 'four', '{}');
SELECT pg_temp.keys(:'left');

-- Limits are looked at before anything is revoked; a key that is replaced does not
-- count as active.
SELECT org AS full, key_id AS key FROM pg_temp.post(:'bob_token', '/signup', 'six', '{"org_name": "Full"}') \gset
SET overten_auth.max_orgs_per_uid = 1;
SET overten_auth.max_keys_per_org = 1;
SELECT status, code FROM pg_temp.post(:'bob_token', '/signup', 'seven', '{"org_name": "Full"}');
SELECT status, org = :'full' AS same_org FROM pg_temp.post(:'bob_token', '/signup', 'six', '{"org_name": "Full"}');
SET overten_auth.max_keys_total_per_org = 2;
SELECT status, code FROM pg_temp.post(:'bob_token', '/signup', 'six', '{"org_name": "Full"}');
RESET overten_auth.max_keys_total_per_org;
SELECT overten_mint_key(:'full') IS NOT NULL AS minted;
SELECT status, code FROM pg_temp.post(:'bob_token', '/signup', 'six', '{"org_name": "Full"}');
SELECT pg_temp.keys(:'full');
-- A request that was refused has made nothing, and can be repeated.
RESET overten_auth.max_orgs_per_uid;
RESET overten_auth.max_keys_per_org;
SELECT status, code FROM pg_temp.post(:'bob_token', '/signup', 'seven', '{"org_name": "Full"}');

-- What a key must look like.
SELECT what, status, body::json #>> '{error,message}' AS message
FROM (VALUES ('empty', ''), ('a space', 'a b'), ('a space at the end', 'a '), ('a line break', E'a\nb'), ('not ASCII', 'é'), ('DEL', E'\x7f'),
	('256', repeat('x', 256)), ('100 kB', repeat('x', 100000)), ('joined', 'a, b')) v (what, key),
	LATERAL pg_temp.post(:'ada_token', '/signup', key, '{"org_name": "Acme"}');
SELECT what, status, body::json #>> '{error,message}' AS message
FROM (VALUES ('255', repeat('x', 255)), ('in quotes', '"8e03978e-40d5-43dd-bc93-6894a57f9324"'), ('SQL', ''';--'), ('~', '~')) v (what, key),
	LATERAL pg_temp.post(:'bob_token', '/signup', key, '{"org_name": "Acme"}');
SELECT status, body FROM overten_handle_request('POST', '/api/v1/signup',
	json_build_object('authorization', 'Bearer ' || :'ada_token', 'content-type', 'application/json', 'idempotency-key', 1), '{"org_name": "Acme"}');
SELECT status, code FROM pg_temp.post('x', '/signup', '', '{"org_name": "Acme"}');
SELECT status, code FROM pg_temp.post(:'ada_token', '/signup', '', 'not JSON');
SELECT status, code FROM pg_temp.post(:'ada_token', '/signup', 'eight', 'not JSON');
-- Other requests do not look at it.
SELECT status FROM overten_handle_request('GET', '/api/v1/organizations/' || :'full' || '/api-keys',
	json_build_object('authorization', 'Bearer ' || :'bob_token', 'idempotency-key', ''), NULL::text);

-- By PostgREST: the header, and the ids in that of a refusal.
SELECT set_config('request.headers', json_build_object('x-overten-authorization', 'Bearer ' || :'bob_token', 'idempotency-key', 'nine')::text, false) IS NOT NULL AS set;
SELECT overten_api.signup('{"org_name": "Rest"}') ->> 'org_id' AS rest \gset
SELECT overten_api.signup('{"org_name": "Rest"}') ->> 'org_id' = :'rest' AS same_org;
SELECT count(*) AS used FROM overten_verify_key(overten_api.signup('{"org_name": "Rest"}') ->> 'secret');
BEGIN;
SELECT overten_api.signup('{"org_name": "Rest"}') #>> '{error,code}' AS code;
SELECT current_setting('response.status') AS status, h #>> '{}' LIKE '%"org_id":"' || :'rest' || '","key_id":"key_%' AS ids
FROM json_array_elements(current_setting('response.headers')::json) e, LATERAL (SELECT e -> 'x-overten-error') x (h) WHERE h IS NOT NULL;
SELECT overten_api.signup('{"org_name": "Others"}') #>> '{error,code}' AS code;
SELECT current_setting('response.status') AS status;
COMMIT;
-- The two roads are one: what was asked on one can be repeated on the other.
SELECT status, code, org = :'rest' AS same_org FROM pg_temp.post(:'bob_token', '/signup', 'nine', '{"org_name": "Rest"}');

-- Where nothing can be written, nothing is.
BEGIN READ ONLY;
\set VERBOSITY sqlstate
SELECT status FROM pg_temp.post(:'bob_token', '/signup', 'ten', '{"org_name": "Read"}');
ROLLBACK;
BEGIN READ ONLY;
SELECT status FROM pg_temp.post(:'bob_token', '/signup', 'seven', '{"org_name": "Full"}');
ROLLBACK;
\set VERBOSITY default
-- A request that was rolled back was not done.
BEGIN;
SELECT status FROM pg_temp.post(:'bob_token', '/signup', 'ten', '{"org_name": "Gone"}');
ROLLBACK;
SELECT status FROM pg_temp.post(:'bob_token', '/signup', 'ten', '{"org_name": "Gone"}');
SELECT count(*) FROM overten_list_orgs('bob') WHERE name = 'Gone';

-- Neither the key nor the body is stored.
SELECT count(*) FROM overten_auth.idempotency_keys WHERE uid = 'ada' AND name_digest IN (sha256('one'), sha256('two'), sha256('three'));
SELECT count(*) FROM overten_auth.idempotency_keys i WHERE i::text ~ 'Acme|one|Existing';
DROP EXTENSION overten_auth;
