--
-- key_lists: lists of keys in pages, and filters
--
CREATE EXTENSION overten_auth;
\pset null '-'
SELECT org_id AS acme FROM overten_create_org('Acme') \gset
SELECT org_id AS other FROM overten_create_org('Other') \gset
SELECT key_id AS foreign FROM overten_mint_key(:'other', 'foreign') \gset

-- Keys with fixed times, several of them at the same one; every eighth has each
-- of the properties, so that all combinations occur.
INSERT INTO overten_auth.api_keys (key_id, org_id, name, prefix, digest, created_at,
	revoked_at, revoked_by, revoked_reason, expires_at, disabled_at, scopes, allowed_addresses, created_by)
SELECT 'key_' || lpad(i::text, 20, '0'), :'acme', 'k' || i, 'sk_live_0000', sha256(i::text::bytea),
	'2020-01-01 00:00+00'::timestamptz + i / 4 * interval '1 day',
	CASE WHEN i & 1 = 1 THEN '2020-10-01 00:00+00'::timestamptz END,
	CASE WHEN i & 1 = 1 THEN 'ada' END, CASE WHEN i & 1 = 1 THEN 'tired of it' END,
	CASE WHEN i & 2 = 2 THEN '2020-02-01 00:00+00'::timestamptz WHEN i & 8 = 8 THEN '2126-02-01 00:00+00'::timestamptz END,
	CASE WHEN i & 4 = 4 THEN '2020-10-02 00:00+00'::timestamptz END,
	CASE WHEN i = 16 THEN '{a,b}'::text[] END, CASE WHEN i = 16 THEN '{192.0.2.0/24}'::cidr[] END, 'bob'
FROM generate_series(0, 31) i;
INSERT INTO overten_auth.key_last_used (key_id, last_used_at)
SELECT key_id, CASE WHEN right(key_id, 2)::int % 3 = 1 THEN '2020-06-01 00:00+00'::timestamptz
	WHEN right(key_id, 2)::int % 3 = 2 THEN '2020-09-01 00:00+00'::timestamptz END
FROM overten_auth.api_keys WHERE org_id = :'acme';

-- All columns of some, in the order of their creation.
\x on
SELECT * FROM overten_find_keys(:'acme', after => 'key_00000000000000000015', "limit" => 2);
\x off
-- Without conditions it is overten_list_keys() with more columns.
SELECT array_agg(f ORDER BY n) = (SELECT array_agg(l ORDER BY n) FROM overten_list_keys(:'acme') WITH ORDINALITY l (key_id, name, prefix, created_at, last_used_at, revoked_at, n)) AS same, count(*)
FROM (SELECT key_id, name, prefix, created_at, last_used_at, revoked_at, row_number() OVER () FROM overten_find_keys(:'acme')) f (key_id, name, prefix, created_at, last_used_at, revoked_at, n);

-- Each key has one status, and is found by it.
SELECT status, count(*), string_agg(name, ' ') FROM overten_find_keys(:'acme') GROUP BY status ORDER BY status;
SELECT wanted, count(*), bool_and(status = wanted) AS right
FROM unnest('{active,expired,revoked,disabled}'::text[]) wanted, overten_find_keys(:'acme', wanted) GROUP BY wanted ORDER BY wanted;

-- A key that has not been used is unused since it exists.  A time of use at the
-- boundary is a use since then; a key that was created there has not been there
-- before.
SELECT string_agg(name, ' ') FROM overten_find_keys(:'acme', unused_since => '2020-01-03 00:00+00');
SELECT string_agg(name, ' ') FROM overten_find_keys(:'acme', unused_since => '2020-06-01 00:00+00');
SELECT string_agg(name, ' ') FROM overten_find_keys(:'acme', unused_since => '2020-06-01 00:00:00.000001+00');
SELECT count(*) FROM overten_find_keys(:'acme', unused_since => 'infinity');
SELECT count(*) FROM overten_find_keys(:'acme', unused_since => '-infinity');
SELECT string_agg(name, ' ') FROM overten_find_keys(:'acme', 'active', '2020-08-01 00:00+00', 2, 'key_00000000000000000008');

-- Pages of every size put together are the whole list, whatever is asked for.
CREATE FUNCTION pg_temp.pages(org text, wanted text, since timestamptz, size int) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	names text[] := '{}';
	page record;
	at text;
BEGIN
	LOOP
		SELECT array_agg(f.name) AS found, (array_agg(f.key_id))[count(*)] AS last
			INTO page FROM overten_find_keys(org, wanted, since, size, at) f;
		EXIT WHEN page.last IS NULL;
		ASSERT cardinality(page.found) <= size AND page.last IS DISTINCT FROM at;
		names := names || page.found;
		at := page.last;
	END LOOP;
	RETURN array_to_string(names, ' ');
END
$$;
SELECT coalesce(wanted, 'any') AS wanted, since, count(*) AS sizes, count(DISTINCT pg_temp.pages(:'acme', wanted, since, size)) AS lists,
	bool_and(pg_temp.pages(:'acme', wanted, since, size) = (SELECT coalesce(string_agg(name, ' '), '') FROM overten_find_keys(:'acme', wanted, since))) AS whole
FROM unnest('{active,expired,revoked,disabled,NULL}'::text[]) wanted, (VALUES (NULL::timestamptz), ('2020-08-01 00:00+00')) s (since), unnest('{1,2,3,7,31,32,33,2147483647}'::int[]) size
GROUP BY wanted, since ORDER BY 1, 2;
-- The key that a page begins after may have any status, or get another one.
UPDATE overten_auth.api_keys SET revoked_at = now() WHERE key_id = 'key_00000000000000000008';
SELECT string_agg(name, ' ') FROM overten_find_keys(:'acme', 'active', after => 'key_00000000000000000008');
SELECT count(*) FROM overten_find_keys(:'acme', after => 'key_00000000000000000031');

-- Input that is refused.
\set VERBOSITY terse
SELECT * FROM overten_find_keys(NULL);
SELECT * FROM overten_find_keys('org_none');
SELECT * FROM overten_find_keys('org_none', after => :'foreign');
SELECT * FROM overten_find_keys(:'acme', 'Active');
SELECT * FROM overten_find_keys(:'acme', '');
SELECT * FROM overten_find_keys(:'acme', repeat('active', 100000));
SELECT * FROM overten_find_keys(:'acme', "limit" => 0);
SELECT * FROM overten_find_keys(:'acme', "limit" => -1);
SELECT * FROM overten_find_keys(:'acme', "limit" => -2147483648);
\set VERBOSITY sqlstate
SELECT * FROM overten_find_keys(:'acme', after => :'foreign');
SELECT * FROM overten_find_keys(:'acme', after => '');
SELECT * FROM overten_find_keys(:'acme', after => repeat('key_', 1000000));
SELECT * FROM overten_find_keys(:'acme', after => 'key_00000000000000000031''; --');
\set VERBOSITY default
SELECT count(*) FROM overten_find_keys(:'acme', "limit" => 1000000000);
SELECT org_id AS empty FROM overten_create_org('Empty') \gset
SELECT count(*) FROM overten_find_keys(:'empty');

-- More keys than are read at once.
INSERT INTO overten_auth.api_keys (key_id, org_id, name, prefix, digest, created_at)
SELECT 'key_' || lpad(to_hex(i), 20, '0'), :'empty', i::text, 'sk_live_0000', sha256(('many' || i)::bytea), '2020-01-01'
FROM generate_series(100, 2599) i;
SELECT count(*), count(DISTINCT key_id), min(key_id), max(key_id) FROM overten_find_keys(:'empty');
SELECT count(*), count(DISTINCT key_id) FROM overten_list_keys(:'empty');
SELECT bool_and(key_id > lag) FROM (SELECT key_id, lag(key_id) OVER () FROM overten_find_keys(:'empty')) l;
SELECT size, count(*), max(name) FROM unnest('{999,1000,1001,2000,2499,2500,2501}'::int[]) size, overten_find_keys(:'empty', "limit" => size) GROUP BY size ORDER BY size;
SELECT length(pg_temp.pages(:'empty', NULL, NULL, 999)) = length(pg_temp.pages(:'empty', NULL, NULL, 1000)) AS same;

-- The order is that of their creation, whatever their ids are.
SELECT org_id AS mixed FROM overten_create_org('Mixed') \gset
INSERT INTO overten_auth.api_keys (key_id, org_id, name, prefix, digest, created_at)
SELECT 'key_m' || lpad((9 - i)::text, 19, '0'), :'mixed', i::text, 'sk_live_0000', sha256(('mixed' || i)::bytea), '2020-01-01'::timestamptz + i / 2 * interval '1 day'
FROM generate_series(0, 9) i;
SELECT string_agg(name, ' ') FROM overten_list_keys(:'mixed');
SELECT DISTINCT pg_temp.pages(:'mixed', NULL, NULL, size) AS names FROM generate_series(1, 11) size;

-- The keys of one environment, also in pages.
UPDATE overten_auth.api_keys SET environment = 'test' WHERE org_id = :'empty' AND name::int > 2589;
SELECT wanted, count(*), bool_and(environment = wanted) AS right
FROM unnest('{live,test}'::text[]) wanted, overten_find_keys(:'empty', environment => wanted) GROUP BY wanted ORDER BY wanted;
SELECT string_agg(name, ' ') FROM overten_find_keys(:'empty', 'active', '2020-01-02', 3, 'key_00000000000000000' || to_hex(2591), 'test');
SELECT * FROM overten_find_keys(:'empty', environment => 'Test');
SELECT * FROM overten_find_keys(:'empty', environment => '');
SELECT * FROM overten_find_keys(:'empty', environment => repeat('live', 1000000));

DROP EXTENSION overten_auth CASCADE;
