--
-- usage: reading the history of keys
--
CREATE EXTENSION overten_auth;
SET timezone = 'UTC';
SELECT date_trunc('hour', now()) AS base \gset
SELECT set_config('test.base', :'base', false) \gset
SELECT org_id AS acme FROM overten_create_org('Acme') \gset
SELECT org_id AS other FROM overten_create_org('Other') \gset

-- Keys have names here; times are hours before this one.
CREATE FUNCTION pg_temp.key(name text) RETURNS text LANGUAGE sql AS
	$$SELECT key_id FROM overten_auth.api_keys k WHERE k.name = $1$$;
CREATE FUNCTION pg_temp.ago(hours numeric) RETURNS timestamptz LANGUAGE sql AS
	$$SELECT current_setting('test.base')::timestamptz - hours * interval '1 hour'$$;
CREATE FUNCTION pg_temp.hours(at timestamptz) RETURNS numeric LANGUAGE sql AS
	$$SELECT trim_scale(round(extract(epoch FROM current_setting('test.base')::timestamptz - at) / 3600, 2))$$;
-- Uses of a key in each of some hours, by their 5th to their 55th minute.
CREATE PROCEDURE pg_temp.use(name text, first int, last int, address inet, accepted bigint, refused bigint DEFAULT 0, limited bigint DEFAULT 0)
	LANGUAGE sql AS $$
	INSERT INTO overten_auth.key_usage
	SELECT pg_temp.key(name), pg_temp.ago(h), address, accepted, refused,
		   pg_temp.ago(h) + interval '5 minutes', pg_temp.ago(h) + interval '55 minutes', limited
	FROM generate_series(last, first) h
$$;
SELECT count(overten_mint_key(:'acme', name)) FROM unnest(ARRAY['busy', 'idle']) name;
SELECT count(overten_mint_key(:'other', 'foreign'));

CALL pg_temp.use('busy', 3, 2, '203.0.113.7', 10);
CALL pg_temp.use('busy', 2, 2, '198.51.100.0/24', 4);
CALL pg_temp.use('busy', 2, 2, '2001:db8:1:2::/64', 2, 1);
CALL pg_temp.use('busy', 2, 2, NULL, 3, 0, 20);
CALL pg_temp.use('busy', 40, 40, '203.0.113.7', 7);
CALL pg_temp.use('foreign', 2, 2, '203.0.113.7', 1000);

-- The last 24 hours, by hour and address.
SELECT pg_temp.hours(hour) AS ago, client_addr, accepted, refused, limited,
	   pg_temp.hours(first_used_at) AS first, pg_temp.hours(last_used_at) AS last
FROM overten_key_usage(:'acme', pg_temp.key('busy'));
SELECT count(*) FROM overten_key_usage(:'acme', pg_temp.key('idle'));

-- Hours count as a whole: that of since, too, but not the one that begins at
-- until.  A time without length has none.
CREATE FUNCTION pg_temp.shown(since timestamptz, until timestamptz DEFAULT NULL) RETURNS text LANGUAGE sql AS
	$$SELECT string_agg(DISTINCT pg_temp.hours(hour)::text, ' ')
	  FROM overten_key_usage((SELECT org_id FROM overten_auth.api_keys WHERE name = 'busy'), pg_temp.key('busy'), since, until)$$;
SELECT what, pg_temp.shown(since, until) AS hours
FROM (VALUES
	('all', pg_temp.ago(100), NULL),
	('until alone', NULL, pg_temp.ago(20)),
	('from a full hour', pg_temp.ago(3), pg_temp.ago(0)),
	('from the middle of an hour', pg_temp.ago(2.5), pg_temp.ago(0)),
	('from its end', pg_temp.ago(2) - interval '1 microsecond', pg_temp.ago(0)),
	('to a full hour', pg_temp.ago(100), pg_temp.ago(2)),
	('to its beginning', pg_temp.ago(100), pg_temp.ago(2) + interval '1 microsecond'),
	('within an hour', pg_temp.ago(2.7), pg_temp.ago(2.6)),
	('nothing, at a full hour', pg_temp.ago(3), pg_temp.ago(3)),
	('nothing, within an hour', pg_temp.ago(2.5), pg_temp.ago(2.5)),
	('from the beginning of time', '4713-01-01 00:00 BC', NULL),
	('to the end of time', pg_temp.ago(3), '294276-12-31 23:59:59.999999'),
	('at the beginning of time', NULL, '4714-11-24 00:00 BC')) v (what, since, until);
SET timezone = 'Asia/Kathmandu';
SELECT pg_temp.shown(pg_temp.ago(2.4), pg_temp.ago(0)) AS hours_elsewhere;
SET timezone = 'UTC';

-- To bill from: sums by key and hour, revoked keys too, foreign ones not, nor
-- what no key has that was ever committed.
CALL pg_temp.use('idle', 2, 2, NULL, 1, 5);
INSERT INTO overten_auth.key_usage VALUES ('key_nobody', :'base', NULL, 99, 0, :'base', :'base');
SELECT overten_revoke_key(:'acme', pg_temp.key('idle'));
SELECT key_id = pg_temp.key(name) AS key, name, prefix ~ '^sk_live_\w{4}$' AS prefix, pg_temp.hours(hour) AS ago, accepted, refused, limited
FROM overten_org_usage(:'acme', pg_temp.ago(100), pg_temp.ago(0));
-- Two invoices that adjoin have each hour once, wherever they meet.
SELECT meet, pg_temp.hours(pg_temp.ago(meet)) AS ago,
	   (SELECT sum(accepted) FROM overten_org_usage(:'acme', pg_temp.ago(100), pg_temp.ago(meet))) AS first,
	   (SELECT sum(accepted) FROM overten_org_usage(:'acme', pg_temp.ago(meet), pg_temp.ago(-1))) AS second
FROM unnest(ARRAY[3, 2.5, 2, 1.9]) meet;
SELECT count(*) FROM overten_org_usage(:'acme', pg_temp.ago(2), pg_temp.ago(2));

-- What is refused
\set VERBOSITY sqlstate
SELECT overten_key_usage(NULL, 'x');
SELECT overten_key_usage(:'acme', NULL);
SELECT overten_key_usage(:'acme', 'key_nobody');
SELECT overten_key_usage(:'acme', pg_temp.key('foreign'));
SELECT overten_key_usage('org_nobody', pg_temp.key('busy'));
SELECT overten_key_usage(:'acme', ''' OR true --');
SELECT overten_key_usage(:'acme', repeat('x', 1000000));
SELECT overten_key_usage(:'acme', pg_temp.key('busy'), pg_temp.ago(1), pg_temp.ago(2));
SELECT overten_key_usage(:'acme', pg_temp.key('busy'), now() + interval '1 hour');
SELECT overten_key_usage(:'acme', pg_temp.key('busy'), '-infinity');
SELECT overten_key_usage(:'acme', pg_temp.key('busy'), until => 'infinity');
SELECT overten_org_usage(NULL, now(), now());
SELECT overten_org_usage(:'acme', NULL, now());
SELECT overten_org_usage(:'acme', now(), NULL);
SELECT overten_org_usage('org_nobody', now(), now());
SELECT overten_org_usage(:'acme', pg_temp.ago(1), pg_temp.ago(2));
SELECT overten_org_usage(:'acme', '-infinity', now());
SELECT overten_org_usage(:'acme', now(), 'infinity');
SELECT overten_key_anomalies(NULL, 'x');
SELECT overten_key_anomalies(:'acme', NULL);
SELECT overten_key_anomalies(:'acme', 'key_nobody');
SELECT overten_key_anomalies(:'acme', pg_temp.key('foreign'));
SELECT overten_key_anomalies('org_nobody', pg_temp.key('busy'));
SELECT overten_key_usage(:'other', pg_temp.key('busy'));
SELECT replace(replace(:'LAST_ERROR_MESSAGE', :'other', '<org>'), pg_temp.key('busy'), '<key>') AS names_both;
\set VERBOSITY terse
SELECT overten_org_usage('org_nobody', now(), now());
-- What does not look like an id is not repeated: it may be a secret, or anything.
SELECT overten_org_usage('sk_live_0000000000000000000000000000', now(), now());
SELECT overten_org_usage('org_', now(), now());
SELECT overten_org_usage(E'org_a\nb', now(), now());
SELECT overten_org_usage('org_"', now(), now());
SELECT overten_org_usage('org_' || repeat('x', 21), now(), now());
SELECT overten_key_usage('org_nobody', 'sk_live_0000000000000000000000000000');
SELECT overten_key_usage('org_nobody', 'key_nobody');

-- Anomalies: an org for each rule, with keys around its limits.  Keys are old,
-- but the history is not, so none of them has slept.
TRUNCATE overten_auth.key_usage;
CREATE FUNCTION pg_temp.make(org text, VARIADIC names text[]) RETURNS void LANGUAGE sql AS $$
	SELECT overten_mint_key(o.org_id, n) FROM overten_create_org(org) o, unnest(names) n;
	UPDATE overten_auth.api_keys k SET created_at = pg_temp.ago(4800) WHERE k.name = ANY (names);
$$;
CREATE FUNCTION pg_temp.found(org text) RETURNS TABLE (key text, kind text, client_addr inet, first numeric, last numeric,
	observed bigint, expected numeric, reference numeric, detail text) LANGUAGE sql AS $$
	SELECT k.name, a.kind, a.client_addr, pg_temp.hours(a.first_at), pg_temp.hours(a.last_at), a.observed, a.expected,
		pg_temp.hours(a.reference_at), regexp_replace(a.detail, '\d{4}-\d\d-\d\d( \d\d:\d\d)?', '(a time)', 'g')
	FROM overten_auth.orgs o JOIN overten_auth.api_keys k USING (org_id)
	CROSS JOIN LATERAL overten_key_anomalies(o.org_id, k.key_id) WITH ORDINALITY a
	WHERE o.name = org ORDER BY k.name COLLATE "C", a.ordinality
$$;
\x on

-- New addresses
SELECT pg_temp.make('new', 'new, one of two', 'new, all', 'new, where none were known', 'new, unknown ones', 'new, refused',
	'new, at the limit', 'new, never used') \gset
CALL pg_temp.use('new, one of two', 400, 2, '203.0.113.7', 5);
CALL pg_temp.use('new, one of two', 3, 2, '2001:db8:1:2::/64', 6);
CALL pg_temp.use('new, one of two', 2, 2, '198.51.100.7', 1);
CALL pg_temp.use('new, all', 20, 2, '203.0.113.7', 5);
CALL pg_temp.use('new, where none were known', 400, 2, NULL, 5);
CALL pg_temp.use('new, where none were known', 3, 2, '203.0.113.7', 5);
CALL pg_temp.use('new, unknown ones', 400, 2, '203.0.113.7', 5);
CALL pg_temp.use('new, unknown ones', 3, 2, NULL, 5);
CALL pg_temp.use('new, refused', 400, 4, '203.0.113.7', 5);
CALL pg_temp.use('new, refused', 3, 2, '198.51.100.7', 0, 5);
CALL pg_temp.use('new, at the limit', 26, 26, '203.0.113.7', 5);
CALL pg_temp.use('new, at the limit', 22, 22, '198.51.100.7', 5);
SELECT * FROM pg_temp.found('new') WHERE kind = 'new_address';

-- Many new addresses: those with the most uses.
SELECT pg_temp.make('many', 'many') \gset
CALL pg_temp.use('many', 400, 300, '203.0.113.7', 1);
INSERT INTO overten_auth.key_usage
SELECT pg_temp.key('many'), pg_temp.ago(2), '10.0.0.0'::inet + n, n, 0, pg_temp.ago(2), pg_temp.ago(1) FROM generate_series(1, 150) n;
SELECT count(*), min(observed), max(observed), min(detail) AS detail FROM pg_temp.found('many') WHERE kind = 'new_address';

-- A rise
SELECT pg_temp.make('rise', 'rise of 99', 'rise of 100', 'rise of less than 10 times', 'rise of 10 times',
	'rise at night', 'rise at night, higher', 'rise of two hours'' history', 'rise of three hours'' history',
	'rise after 28 days', 'rise in three hours, from two addresses', 'rise of refused ones', 'rise of a constant million') \gset
CALL pg_temp.use('rise of 99', 300, 3, '203.0.113.7', 1);
CALL pg_temp.use('rise of 99', 2, 2, '203.0.113.7', 99);
CALL pg_temp.use('rise of 100', 300, 3, '203.0.113.7', 1);
CALL pg_temp.use('rise of 100', 2, 2, '203.0.113.7', 100);
CALL pg_temp.use('rise of less than 10 times', 300, 3, '203.0.113.7', 50);
CALL pg_temp.use('rise of less than 10 times', 2, 2, '203.0.113.7', 499);
CALL pg_temp.use('rise of 10 times', 300, 3, '203.0.113.7', 50);
CALL pg_temp.use('rise of 10 times', 2, 2, '203.0.113.7', 500);
CALL pg_temp.use('rise at night', 300, 3, '203.0.113.7', 1);
CALL pg_temp.use('rise at night', 60, 60, '203.0.113.8', 500);
CALL pg_temp.use('rise at night', 2, 2, '203.0.113.8', 1000);
CALL pg_temp.use('rise at night, higher', 300, 3, '203.0.113.7', 1);
CALL pg_temp.use('rise at night, higher', 60, 60, '203.0.113.8', 500);
CALL pg_temp.use('rise at night, higher', 2, 2, '203.0.113.8', 1002);
CALL pg_temp.use('rise of two hours'' history', 300, 299, '203.0.113.7', 1);
CALL pg_temp.use('rise of two hours'' history', 2, 2, '203.0.113.7', 1000);
CALL pg_temp.use('rise of three hours'' history', 300, 298, '203.0.113.7', 1);
CALL pg_temp.use('rise of three hours'' history', 2, 2, NULL, 1000);
CALL pg_temp.use('rise after 28 days', 710, 699, '203.0.113.7', 1);
CALL pg_temp.use('rise after 28 days', 2, 2, '203.0.113.7', 1000);
CALL pg_temp.use('rise in three hours, from two addresses', 300, 7, '203.0.113.7', 2);
CALL pg_temp.use('rise in three hours, from two addresses', 6, 2, '203.0.113.7', 40);
CALL pg_temp.use('rise in three hours, from two addresses', 6, 6, '198.51.100.7', 60);
CALL pg_temp.use('rise in three hours, from two addresses', 4, 4, '198.51.100.7', 400);
CALL pg_temp.use('rise in three hours, from two addresses', 2, 2, '198.51.100.7', 90);
CALL pg_temp.use('rise of refused ones', 300, 3, '203.0.113.7', 1);
CALL pg_temp.use('rise of refused ones', 2, 2, '203.0.113.7', 1, 1000);
CALL pg_temp.use('rise of a constant million', 300, 2, '203.0.113.7', 1000000);
SELECT * FROM pg_temp.found('rise') WHERE kind = 'rise';

-- Waking after 30 days.  The history has to go back so far, if not the key's own.
SELECT pg_temp.make('sleep', 'sleep of 30 days', 'sleep of less', 'sleep, woken two days ago', 'sleep since minted', 'sleep of attempts') \gset
SELECT count(overten_mint_key(org_id, 'sleep of a young key')) FROM overten_auth.orgs WHERE name = 'sleep';
CALL pg_temp.use('sleep since minted', 2, 2, NULL, 5);
SELECT * FROM pg_temp.found('sleep');
CALL pg_temp.use('sleep of 30 days', 1000, 723, '203.0.113.7', 5);
CALL pg_temp.use('sleep of 30 days', 2, 1, '198.51.100.7', 5);
CALL pg_temp.use('sleep of 30 days', 2, 2, '198.51.100.9', 5);
CALL pg_temp.use('sleep of less', 1000, 722, '203.0.113.7', 5);
CALL pg_temp.use('sleep of less', 2, 2, '203.0.113.7', 5);
CALL pg_temp.use('sleep, woken two days ago', 1000, 1000, '203.0.113.7', 5);
CALL pg_temp.use('sleep, woken two days ago', 50, 2, '203.0.113.7', 5);
CALL pg_temp.use('sleep of attempts', 1000, 1000, '203.0.113.7', 5);
CALL pg_temp.use('sleep of attempts', 2, 2, '203.0.113.7', 0, 5);
CALL pg_temp.use('sleep of a young key', 2, 2, '203.0.113.7', 5);
SELECT * FROM pg_temp.found('sleep') WHERE kind = 'woke';

-- After revocation: all of it, by address, the worst first.
SELECT pg_temp.make('revoked', 'revoked', 'revoked, and left alone', 'revoked long ago') \gset
CALL pg_temp.use('revoked', 300, 31, '203.0.113.7', 5);
CALL pg_temp.use('revoked', 30, 30, '203.0.113.7', 5, 2);
CALL pg_temp.use('revoked', 29, 28, '203.0.113.7', 0, 4);
CALL pg_temp.use('revoked', 2, 2, '198.51.100.7', 0, 70);
CALL pg_temp.use('revoked', 2, 2, NULL, 0, 1);
CALL pg_temp.use('revoked, and left alone', 300, 30, '203.0.113.7', 5);
CALL pg_temp.use('revoked long ago', 2000, 2000, '203.0.113.7', 0, 1);
UPDATE overten_auth.api_keys SET revoked_at = pg_temp.ago(29.5) WHERE name LIKE 'revoked%';
UPDATE overten_auth.api_keys SET revoked_at = pg_temp.ago(2100) WHERE name = 'revoked long ago';
-- Attempts from before, while it was disabled, are not attempts after it.
SELECT pg_temp.make('disabled', 'disabled', 'revoked later') \gset
CALL pg_temp.use('disabled', 30, 28, '203.0.113.7', 0, 10);
UPDATE overten_auth.api_keys SET disabled_at = pg_temp.ago(31) WHERE name IN ('disabled', 'revoked later');
CALL pg_temp.use('revoked later', 30, 28, '203.0.113.7', 0, 10);
UPDATE overten_auth.api_keys SET revoked_at = pg_temp.ago(29) WHERE name = 'revoked later';
SELECT * FROM pg_temp.found('revoked');
-- From many addresses: no attempt is left out of the sum.
SELECT pg_temp.make('tried', 'tried') \gset
INSERT INTO overten_auth.key_usage
SELECT pg_temp.key('tried'), pg_temp.ago(2), '10.0.0.0'::inet + n, 0, n, pg_temp.ago(2), pg_temp.ago(1) FROM generate_series(1, 100) n;
UPDATE overten_auth.api_keys SET revoked_at = pg_temp.ago(3) WHERE name = 'tried';
SELECT count(*), count(client_addr) AS addresses, sum(observed), min(observed), min(detail) AS detail FROM pg_temp.found('tried');
INSERT INTO overten_auth.key_usage
SELECT pg_temp.key('tried'), pg_temp.ago(2), '10.0.0.0'::inet + n, 0, n, pg_temp.ago(2), pg_temp.ago(1) FROM generate_series(101, 150) n;
SELECT count(*), count(client_addr) AS addresses, sum(observed), min(observed), max(detail) FILTER (WHERE client_addr IS NULL) AS detail FROM pg_temp.found('tried');

-- Limited far more than accepted, on each of three days.  The hour that has just
-- begun is of the last day.
SELECT pg_temp.make('limited', 'limited for days', 'limited, from two addresses', 'limited on two days', 'limited in a gap of days', 'limited 99 times', 'limited 9 times as often', 'limited now') \gset
CALL pg_temp.use('limited for days', 80, 80, '203.0.113.7', 1000);
CALL pg_temp.use('limited for days', 60, 60, '203.0.113.7', 10, 0, 100);
CALL pg_temp.use('limited for days', 30, 30, '203.0.113.7', 10, 5, 100);
CALL pg_temp.use('limited for days', 4, 3, '203.0.113.7', 5, 0, 50);
CALL pg_temp.use('limited, from two addresses', 70, 2, '203.0.113.7', 1, 0, 20);
CALL pg_temp.use('limited, from two addresses', 70, 2, NULL, 1, 0, 21);
CALL pg_temp.use('limited on two days', 40, 2, '203.0.113.7', 0, 0, 1000);
CALL pg_temp.use('limited in a gap of days', 80, 50, '203.0.113.7', 0, 0, 1000);
CALL pg_temp.use('limited in a gap of days', 20, 2, '203.0.113.7', 0, 0, 1000);
CALL pg_temp.use('limited 99 times', 60, 2, '203.0.113.7', 0, 0, 100);
UPDATE overten_auth.key_usage SET limited = CASE hour WHEN pg_temp.ago(30) THEN 99 ELSE 0 END
WHERE key_id = pg_temp.key('limited 99 times') AND hour BETWEEN pg_temp.ago(48) AND pg_temp.ago(25);
CALL pg_temp.use('limited 9 times as often', 70, 2, '203.0.113.7', 11, 0, 109);
CALL pg_temp.use('limited now', 60, 60, '203.0.113.7', 0, 0, 100);
CALL pg_temp.use('limited now', 30, 30, '203.0.113.7', 0, 0, 100);
CALL pg_temp.use('limited now', 0, 0, '203.0.113.7', 0, 0, 100);
SELECT * FROM pg_temp.found('limited') WHERE kind = 'limited';

-- All at once, in the order of urgency.
SELECT pg_temp.make('all', 'all') \gset
CALL pg_temp.use('all', 2000, 1900, '203.0.113.7', 5);
CALL pg_temp.use('all', 3, 3, '198.51.100.7', 5000);
CALL pg_temp.use('all', 2, 2, '198.51.100.7', 0, 8, 100000);
CALL pg_temp.use('all', 60, 60, '203.0.113.7', 0, 0, 100);
CALL pg_temp.use('all', 30, 30, '203.0.113.7', 0, 0, 100);
UPDATE overten_auth.api_keys SET revoked_at = pg_temp.ago(2.5) WHERE name = 'all';
SELECT kind, client_addr, observed, expected FROM pg_temp.found('all');
\x off

-- All at once there are the same, for one org and for all: each key has the rows
-- that it has alone, in the same order.
WITH alone AS MATERIALIZED (
	SELECT k.org_id, k.key_id, a.* FROM overten_auth.api_keys k CROSS JOIN LATERAL overten_key_anomalies(k.org_id, k.key_id) WITH ORDINALITY a),
	together AS MATERIALIZED (
	SELECT 'all' AS asked, * FROM overten_all_anomalies() WITH ORDINALITY
	UNION ALL SELECT 'each org', a.* FROM overten_auth.orgs o CROSS JOIN LATERAL overten_org_anomalies(o.org_id) WITH ORDINALITY a),
	digests AS (
	SELECT asked, key_id, array_agg(ROW(org_id, kind, client_addr, first_at, last_at, observed, expected, reference_at, detail)::text ORDER BY ordinality) AS rows
	FROM together GROUP BY 1, 2
	UNION ALL SELECT 'alone', key_id, array_agg(ROW(org_id, kind, client_addr, first_at, last_at, observed, expected, reference_at, detail)::text ORDER BY ordinality)
	FROM alone GROUP BY 2)
SELECT asked, count(*) = count(d.key_id) AND count(*) > 10 AS same_keys, bool_and(d.rows = a.rows) AS same_rows
FROM (SELECT DISTINCT asked FROM digests) q CROSS JOIN (SELECT * FROM digests WHERE asked = 'alone') a (what, key_id, rows)
LEFT JOIN digests d USING (asked, key_id) GROUP BY asked ORDER BY asked;
SELECT count(DISTINCT kind) AS kinds, count(DISTINCT org_id) > 3 AS orgs FROM overten_all_anomalies();
SELECT name = 'all' AS name, prefix LIKE 'sk_live_____' AS prefix, kind FROM overten_org_anomalies((SELECT org_id FROM overten_auth.api_keys WHERE name = 'all'));
SELECT count(*) FROM overten_org_anomalies(:'acme') WHERE org_id <> :'acme';
SELECT overten_org_anomalies('org_nobody');
SELECT overten_org_anomalies(NULL);

-- Where the time zone and the forms of times are others, the same is found.
CREATE VIEW all_found AS
	SELECT k.name, a.*
	FROM overten_auth.api_keys k CROSS JOIN LATERAL overten_key_anomalies(k.org_id, k.key_id) WITH ORDINALITY a;
SELECT count(*) > 10 AS several, md5(string_agg(concat(kind, detail, client_addr), '' ORDER BY name, ordinality)) AS digest FROM all_found \gset
SET timezone = 'America/St_Johns';
SET datestyle = 'German';
SET intervalstyle = 'sql_standard';
SELECT :'several' AS several, md5(string_agg(concat(kind, detail, client_addr), '' ORDER BY name, ordinality)) = :'digest' AS same FROM all_found;
RESET datestyle;
RESET intervalstyle;
SET timezone = 'UTC';

-- Neither asking how far the history of all keys goes back, as each report of
-- anomalies does, nor looking for what is too old reads all of it.
CREATE FUNCTION pg_temp.index_of(query text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	line text;
	found text;
BEGIN
	FOR line IN EXECUTE 'EXPLAIN (COSTS OFF) ' || query LOOP
		found := COALESCE(substring(line FROM 'using (\w+)'), found);
	END LOOP;
	RETURN found;
END
$$;
SET enable_seqscan = off;
SET enable_bitmapscan = off;
SELECT pg_temp.index_of('SELECT min(hour) FROM overten_auth.key_usage');
SELECT pg_temp.index_of('SELECT ctid FROM overten_auth.key_usage WHERE hour < now() LIMIT 10');
RESET enable_seqscan;
RESET enable_bitmapscan;

-- Counts that are as large as they can be
BEGIN;
UPDATE overten_auth.key_usage SET accepted = 9223372036854775807, refused = 9223372036854775807, limited = 9223372036854775807;
SELECT kind, max(observed) FROM overten_all_anomalies() GROUP BY 1 ORDER BY 1;
SELECT count(*) > 0 AS found FROM overten_auth.api_keys k CROSS JOIN LATERAL overten_key_anomalies(k.org_id, k.key_id);
UPDATE overten_auth.key_usage SET accepted = 0;
SELECT kind, max(observed) FROM overten_all_anomalies() GROUP BY 1 ORDER BY 1;
ROLLBACK;

-- READ ONLY transactions can read.
BEGIN READ ONLY;
SELECT count(*) > 0 AS usage FROM overten_key_usage((SELECT org_id FROM overten_auth.orgs WHERE name = 'rise'), pg_temp.key('rise of 100'));
SELECT count(*) > 0 AS sums FROM overten_org_usage((SELECT org_id FROM overten_auth.orgs WHERE name = 'rise'), pg_temp.ago(5), pg_temp.ago(0));
SELECT count(*) AS anomalies FROM overten_key_anomalies((SELECT org_id FROM overten_auth.orgs WHERE name = 'rise'), pg_temp.key('rise of 100'));
COMMIT;

-- EXECUTE is needed, and enough.
CREATE ROLE overten_support;
SELECT org_id AS rise, pg_temp.key('rise of 100') AS key FROM overten_auth.orgs WHERE name = 'rise' \gset
\set VERBOSITY sqlstate
SET ROLE overten_support;
SELECT overten_key_usage(:'rise', :'key');
SELECT overten_org_usage(:'rise', now(), now());
SELECT overten_key_anomalies(:'rise', :'key');
RESET ROLE;
GRANT EXECUTE ON FUNCTION overten_key_usage(text, text, timestamptz, timestamptz),
	overten_org_usage(text, timestamptz, timestamptz), overten_key_anomalies(text, text) TO overten_support;
SET ROLE overten_support;
SELECT count(*) > 0 AS usage FROM overten_key_usage(:'rise', :'key');
SELECT count(*) > 0 AS sums FROM overten_org_usage(:'rise', now() - interval '1 day', now());
SELECT kind FROM overten_key_anomalies(:'rise', :'key');
SELECT * FROM overten_auth.key_usage;
RESET ROLE;

DROP VIEW all_found;
DROP EXTENSION overten_auth;
DROP ROLE overten_support;
