--
-- no_row: a good key is one row and a refused one is none, however it is asked
--
CREATE EXTENSION overten_auth;
SELECT org_id FROM overten_create_org('Acme') \gset
SELECT secret AS good, key_id FROM overten_mint_key(:'org_id') \gset
\set bad sk_live_00000000000000000000000K3vO8

-- A statement of one row for the good key and of none for each other one: what
-- it says of a key that is unknown, malformed, NULL, revoked, of a suspended
-- org, and good, in plans for one execution and for all.
CREATE FUNCTION rows_of(good text, bad text, statement text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	org text := (SELECT org_id FROM overten_verify_key(good));
	revoked text;
	suspended text;
	counts int[] := '{}';
	count int;
	secret text;
BEGIN
	SELECT m.secret INTO revoked FROM overten_mint_key(org, 'revoked') m;
	PERFORM overten_revoke_leaked(revoked);
	SELECT m.secret INTO suspended FROM overten_create_org('Suspended') o, overten_mint_key(o.org_id) m;
	PERFORM overten_set_api_access(org_id, false) FROM overten_verify_key(suspended);
	EXECUTE 'PREPARE rows_of(text) AS SELECT count(*) FROM (' || statement || ') s';
	FOREACH secret IN ARRAY ARRAY[bad, 'short', NULL, revoked, suspended, good] LOOP
		EXECUTE format('EXECUTE rows_of(%L)', secret) INTO count;
		counts := counts || count;
	END LOOP;
	DEALLOCATE rows_of;
	RETURN array_to_string(counts, ' ');
END
$$;
CREATE FUNCTION by_query(secret text) RETURNS SETOF text LANGUAGE plpgsql AS
	$$BEGIN RETURN QUERY SELECT org_name FROM overten_verify_key(secret); END$$;
CREATE FUNCTION by_expression(secret text) RETURNS SETOF text LANGUAGE plpgsql AS
	$$BEGIN RETURN QUERY SELECT (overten_verify_key(secret)).org_name; END$$;
CREATE FUNCTION by_sql(secret text) RETURNS SETOF overten_auth.verified_key LANGUAGE sql AS
	$$SELECT * FROM overten_verify_key(secret)$$;
CREATE FUNCTION inlined(secret text) RETURNS SETOF overten_auth.verified_key LANGUAGE sql STABLE AS
	$$SELECT * FROM overten_verify_key(secret)$$;
CREATE FUNCTION first_of_list(secret text) RETURNS SETOF overten_auth.verified_key LANGUAGE sql AS
	$$SELECT overten_verify_key(secret)$$;
CREATE TABLE form (position int GENERATED ALWAYS AS IDENTITY, statement text);
INSERT INTO form (statement) VALUES
	('SELECT * FROM overten_verify_key($1)'),
	('SELECT key_id FROM overten_verify_key_digest(sha256(convert_to($1, ''UTF8'')))'),
	('SELECT * FROM overten_authenticate($1)'),
	('SELECT v FROM overten_verify_key($1) v'),
	('SELECT FROM overten_verify_key($1) WITH ORDINALITY'),
	('SELECT FROM ROWS FROM (overten_verify_key($1))'),
	('SELECT FROM (VALUES ($1)) t (s), overten_verify_key(s)'),
	('SELECT FROM (VALUES ($1)) t (s) LEFT JOIN LATERAL overten_verify_key(s) v ON true WHERE key_id IS NOT NULL'),
	('WITH v AS MATERIALIZED (SELECT * FROM overten_verify_key($1)) SELECT FROM v'),
	('SELECT WHERE EXISTS (SELECT FROM overten_verify_key($1))'),
	('SELECT WHERE CASE WHEN EXISTS (SELECT FROM overten_verify_key($1)) THEN true END'),
	('SELECT WHERE (SELECT key_id FROM overten_verify_key($1)) IS NOT NULL'),
	('SELECT FROM by_query($1)'),
	('SELECT FROM by_sql($1)'),
	('SELECT FROM inlined($1)'),
	-- Select lists
	('SELECT overten_verify_key($1)'),
	('SELECT overten_verify_key_digest(sha256(convert_to($1, ''UTF8'')))'),
	('SELECT overten_authenticate($1)'),
	('SELECT (overten_verify_key($1)).*'),
	('SELECT (overten_verify_key($1)).key_id, (overten_verify_key($1)).org_name'),
	('SELECT overten_verify_key(s) FROM (VALUES ($1)) t (s)'),
	('SELECT FROM (SELECT overten_verify_key($1)) v'),
	('SELECT WHERE EXISTS (SELECT overten_verify_key($1))'),
	('SELECT FROM by_expression($1)'),
	('SELECT FROM first_of_list($1)');
SET plan_cache_mode = force_custom_plan;
SELECT statement, rows FROM form, rows_of(:'good', :'bad', statement) rows WHERE rows <> '0 0 0 0 0 1';
SET plan_cache_mode = force_generic_plan;
SELECT statement, rows FROM form, rows_of(:'good', :'bad', statement) rows WHERE rows <> '0 0 0 0 0 1';
RESET plan_cache_mode;

-- From the cache or not, many in one statement
SELECT n, org_name
FROM (VALUES (1, :'good'), (2, :'bad'), (3, :'good'), (4, NULL), (5, ''), (6, :'good')) t (n, secret),
	overten_verify_key(secret) ORDER BY n;
SELECT n, (overten_verify_key(secret)).org_name
FROM (VALUES (1, :'good'), (2, :'bad'), (3, :'good'), (4, NULL), (5, ''), (6, :'good')) t (n, secret);

-- A select list that is left before it has ended begins anew.
SELECT n, (SELECT (overten_verify_key(secret)).org_name LIMIT 1)
FROM (VALUES (1, :'good'), (2, :'good'), (3, :'bad'), (4, :'good')) t (n, secret);

-- Beside another set-returning function of the list it is one row all the same;
-- but a row that the other one has alone shows NULL, of a refused key too.
SELECT n, v IS NOT NULL AS accepted FROM (SELECT generate_series(1, 3) AS n, overten_verify_key(:'good') AS v) s;
SELECT n, v IS NOT NULL AS accepted FROM (SELECT overten_verify_key(:'bad') AS v, generate_series(1, 3) AS n) s;
SELECT n, g IS NOT NULL AS good, b IS NOT NULL AS bad
FROM (SELECT generate_series(1, 0) AS n, overten_verify_key(:'good') AS g, overten_verify_key(:'bad') AS b) s;

-- Identity: refused means nobody, in a select list as in FROM.
BEGIN;
SELECT (overten_authenticate(:'good')).org_name;
SELECT overten_current_key() = :'key_id' AS identified;
SELECT overten_authenticate(:'bad');
SELECT overten_current_key();
SELECT count(*) FROM (SELECT generate_series(1, 3), overten_authenticate(:'good')) s;
SELECT overten_current_key() = :'key_id' AS identified;
SELECT overten_authenticate(NULL);
SELECT overten_current_key();
COMMIT;

-- Cursors
BEGIN;
DECLARE good_cursor SCROLL CURSOR FOR SELECT org_name FROM overten_verify_key(:'good');
FETCH ALL FROM good_cursor;
FETCH BACKWARD ALL FROM good_cursor;
MOVE FORWARD ALL FROM good_cursor;
DECLARE bad_cursor SCROLL CURSOR WITH HOLD FOR SELECT org_name FROM overten_verify_key(:'bad');
FETCH ALL FROM bad_cursor;
DECLARE list_cursor SCROLL CURSOR WITH HOLD FOR SELECT (overten_verify_key(:'good')).org_name;
FETCH ALL FROM list_cursor;
FETCH BACKWARD ALL FROM list_cursor;
COMMIT;
FETCH BACKWARD ALL FROM bad_cursor;
FETCH ABSOLUTE 1 FROM list_cursor;
CLOSE ALL;

-- PL/pgSQL.  The first function is that of docs/keys.md, word for word.
\set require_key `sed -n '/^CREATE FUNCTION require_key/,/^\$\$;/p' "$PG_ABS_SRCDIR/../docs/keys.md"`
:require_key
SELECT require_key(:'good') = :'org_id' AS accepted;
SELECT require_key(:'bad');
SELECT require_key(NULL);
CREATE FUNCTION strictly(secret text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	verified overten_auth.verified_key;
BEGIN
	SELECT * INTO STRICT verified FROM overten_verify_key(secret);
	RETURN verified.org_name;
EXCEPTION WHEN no_data_found THEN
	RETURN 'refused';
END
$$;
SELECT strictly(:'good'), strictly(:'bad'), strictly(NULL);
CREATE FUNCTION performed(secret text) RETURNS bool LANGUAGE plpgsql AS
	$$BEGIN PERFORM overten_verify_key(secret); RETURN FOUND; END$$;
SELECT performed(:'good'), performed(:'bad'), performed(NULL);
CREATE FUNCTION assigned(secret text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	verified overten_auth.verified_key;
BEGIN
	verified := overten_verify_key(secret);
	RETURN coalesce(verified.org_name, 'refused');
END
$$;
SELECT assigned(:'good'), assigned(:'bad'), assigned(NULL);
-- What docs/keys.md warns of: an expression over no row is NULL, whatever it asks.
CREATE FUNCTION asked_for_null(secret text) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
	IF overten_verify_key(secret) IS NULL THEN
		RETURN 'refused';
	END IF;
	RETURN 'let in';
END
$$;
SELECT asked_for_null(:'good'), asked_for_null(:'bad');

-- Where no set-returning function may stand, it is an error and no answer.
\set VERBOSITY sqlstate
SELECT WHERE overten_verify_key(:'good') IS NOT NULL;
SELECT CASE WHEN true THEN overten_verify_key(:'good') END;
SELECT coalesce(overten_verify_key(:'good'), NULL);
SELECT count(overten_verify_key(:'good'));
SELECT LIMIT (SELECT 1 HAVING overten_verify_key(:'good') IS NOT NULL);
CREATE TABLE document (title text CHECK (overten_verify_key(title) IS NOT NULL));
CREATE TABLE document (title text DEFAULT (overten_verify_key('x')).org_name);
CREATE TABLE document (title text);
CREATE POLICY document_policy ON document USING ((overten_verify_key(title)).org_name IS NOT NULL);
CREATE INDEX ON document (((overten_verify_key(title)).org_name));
UPDATE document SET title = (overten_verify_key(title)).org_name;
INSERT INTO document VALUES ((overten_verify_key(:'good')).org_name), ('Plan');
\set VERBOSITY default

-- EXISTS may stand there, in a policy too.
SELECT count(*) FROM generate_series(1, 2) WHERE EXISTS (SELECT FROM overten_verify_key(:'good'));
SELECT CASE WHEN EXISTS (SELECT FROM overten_verify_key(:'bad')) THEN 'accepted' ELSE 'refused' END;
CREATE TABLE plan (title text);
INSERT INTO plan VALUES ('Plan A'), ('Plan B');
ALTER TABLE plan ENABLE ROW LEVEL SECURITY;
CREATE POLICY plan_policy ON plan USING (EXISTS (SELECT FROM overten_verify_key(current_setting('app.secret', true))));
CREATE ROLE overten_reader;
GRANT SELECT ON plan TO overten_reader;
GRANT EXECUTE ON FUNCTION overten_verify_key(text) TO overten_reader;
SET ROLE overten_reader;
SELECT * FROM plan;
SET app.secret = :'bad';
SELECT * FROM plan;
SET app.secret = :'good';
SELECT * FROM plan ORDER BY title;
RESET ROLE;

-- Nobody need ask for the row: the call is made, and has its effects.
BEGIN;
SELECT 1 AS one FROM overten_authenticate(:'good') OFFSET 1;
SELECT overten_current_key() = :'key_id' AS identified;
SELECT EXISTS (SELECT FROM overten_authenticate(:'bad') LIMIT 1);
SELECT overten_current_key();
COMMIT;

DROP TABLE form, plan, document;
DROP FUNCTION rows_of, by_query, by_expression, by_sql, inlined, first_of_list, require_key, strictly, performed, assigned, asked_for_null;
DROP EXTENSION overten_auth;
DROP ROLE overten_reader;
