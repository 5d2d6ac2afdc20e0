-- Requests of random pieces, through both adapters, for 440_encodings.pl.
--
-- Variables: file, with a body, a header's value as JSON and a query on each
-- line, as bytea; token.  Prints how many requests of each kind were answered
-- by what is neither an error nor a status of 500 and more, and their number.

SET test.token = :'token';
CREATE TEMP TABLE requests (body bytea, value bytea, query bytea);
\set copy '\\copy requests FROM ' :'file'
:copy

-- What would reach the database of bytes that a client has sent, in a text;
-- NULL if the server would refuse them.
CREATE FUNCTION pg_temp.as_text(bytes bytea) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
	RETURN convert_from(bytes, CASE WHEN getdatabaseencoding() = 'SQL_ASCII' THEN 'SQL_ASCII' ELSE 'UTF8' END);
EXCEPTION WHEN OTHERS THEN
	RETURN NULL;
END
$$;
CREATE FUNCTION pg_temp.as_json(given text) RETURNS json LANGUAGE plpgsql AS $$
BEGIN
	RETURN given::json;
EXCEPTION WHEN OTHERS THEN
	RETURN NULL;
END
$$;

-- The status of an answer for PostgREST.
CREATE FUNCTION pg_temp.call_api(function text, headers json, arguments text, given text[]) RETURNS int LANGUAGE plpgsql AS $$
DECLARE
	detail text;
BEGIN
	PERFORM set_config('request.headers', headers::text, true);
	EXECUTE format('SELECT overten_api.%s(%s)', function, arguments) USING given;
	RETURN coalesce(nullif(current_setting('response.status', true), ''), '200');
EXCEPTION WHEN SQLSTATE 'PGRST' THEN
	GET STACKED DIAGNOSTICS detail = PG_EXCEPTION_DETAIL;
	RETURN detail::json ->> 'status';
END
$$;

SELECT org_id AS org FROM overten_create_org('Members') \gset
SELECT overten_add_member(:'org', 'ada'), overten_set_api_access(:'org', true) \gset
SELECT key_id AS key FROM overten_mint_key(:'org') \gset
SELECT '/api/v1/organizations/' || :'org' || '/api-keys' AS keys \gset

CREATE TEMP TABLE given AS
SELECT body, text, pg_temp.as_json(text) AS json, query,
	coalesce(pg_temp.as_json(format('{"authorization": "Bearer %s", "content-type": "application/json", "x-forwarded-for": %s, %2$s: %2$s, "x-overten-key-id": %2$s}',
		:'token', value)), headers()) AS headers,
	coalesce(pg_temp.as_json(format('{"authorization": %s, "x-overten-query": %1$s, "x-overten-org-id": %1$s}', value)), '[]') AS bad_headers
FROM (SELECT body, pg_temp.as_text(body) AS text, coalesce(pg_temp.as_text(query), '') AS query, pg_temp.as_text(value) AS value FROM requests) r;
CREATE TEMP TABLE answers AS
SELECT n, CASE n
	WHEN 1 THEN (overten_handle_request('POST', '/api/v1/signup', headers(), body)).status
	WHEN 2 THEN (overten_handle_request('POST', :'keys', headers, body)).status
	WHEN 3 THEN (overten_handle_request('POST', '/api/v1/signup', headers, text)).status
	WHEN 4 THEN (overten_handle_request('GET', :'keys' || '/' || :'key' || '/usage?' || query, headers, text)).status
	WHEN 5 THEN (overten_handle_request('DELETE', :'keys' || '/' || query, headers, text)).status
	WHEN 6 THEN (overten_handle_request(query, '/api/v1/' || query, headers, text)).status
	WHEN 7 THEN (overten_handle_request('GET', '/api/v1/verify', bad_headers, body)).status
	WHEN 8 THEN pg_temp.call_api('signup', headers, '($1)[1]::json', ARRAY[coalesce(json::text, '[]')])
	WHEN 9 THEN pg_temp.call_api('create_api_key', headers, '($1)[1]::json', ARRAY[coalesce(json::text, '[]')])
	WHEN 10 THEN pg_temp.call_api('revoke_api_key', headers, '($1)[1]::json', ARRAY[coalesce(json::text, '[]')])
	WHEN 11 THEN pg_temp.call_api('list_api_keys', headers, '($1)[1]', ARRAY[query])
	WHEN 12 THEN pg_temp.call_api('key_usage', headers, '($1)[1], ($1)[2], ($1)[3], ($1)[3]', ARRAY[:'org', :'key', query])
	WHEN 13 THEN pg_temp.call_api('verify', bad_headers, '', NULL)
	WHEN 14 THEN pg_temp.call_api('authenticate_request', bad_headers, '', NULL)
	WHEN 15 THEN (overten_handle_request('PATCH', :'keys' || '/' || :'key', headers, body)).status
	WHEN 16 THEN (overten_handle_request('POST', :'keys' || '/' || :'key' || '/rotate', headers, body)).status
	WHEN 17 THEN (overten_handle_request('GET', :'keys' || '/' || query || '/rotation', headers, text)).status
	WHEN 18 THEN (overten_handle_request('GET', :'keys' || '?environment=' || query, headers, text)).status
	WHEN 19 THEN (overten_handle_request('GET', :'keys' || '/' || :'key', headers, text)).status
	WHEN 20 THEN pg_temp.call_api('change_api_key', headers, '($1)[1]::json', ARRAY[coalesce(json::text, '[]')])
	WHEN 21 THEN pg_temp.call_api('rotate_api_key', headers, '($1)[1]::json', ARRAY[coalesce(json::text, '[]')])
	WHEN 22 THEN pg_temp.call_api('key_rotation', headers, '($1)[1], ($1)[2]', ARRAY[:'org', query])
	WHEN 23 THEN pg_temp.call_api('show_api_key', headers, '($1)[1], ($1)[2]', ARRAY[:'org', :'key']) END AS status
FROM given, generate_series(1, 23) n;
SELECT count(*) FILTER (WHERE good) || ' of ' || count(*)
FROM (SELECT n, bool_and(status BETWEEN 200 AND 499) AS good FROM answers GROUP BY n) a;
