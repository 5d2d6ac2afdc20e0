--
-- leaks: revoking by possession, and all keys of an org
--
CREATE EXTENSION overten_auth;
SELECT org_id AS acme FROM overten_create_org('Acme') \gset
SELECT org_id AS umbrella FROM overten_create_org('Umbrella') \gset
SELECT * FROM overten_mint_key(:'acme') \gset first_
SELECT * FROM overten_mint_key(:'acme', 'second') \gset second_
SELECT * FROM overten_mint_key(:'umbrella') \gset other_

-- Once, from the cache too, and of no other key.
SELECT (SELECT org_name FROM overten_verify_key(:'first_secret')), (SELECT org_name FROM overten_verify_key(:'second_secret'));
SELECT overten_revoke_leaked(:'first_secret', '  found on a forum ');
SELECT NOT EXISTS (SELECT FROM overten_verify_key(:'first_secret')) AS refused, (SELECT org_name FROM overten_verify_key(:'second_secret'));
SELECT revoked_at AS first_revoked_at FROM overten_auth.api_keys WHERE key_id = :'first_key_id' \gset
SELECT overten_revoke_leaked(:'first_secret', 'again');
SELECT revoked_at = :'first_revoked_at' AS same_time, revoked_by, revoked_reason
FROM overten_auth.api_keys WHERE key_id = :'first_key_id';
SELECT overten_revoke_key(:'acme', :'first_key_id');

-- What no key has is no error, whatever it is.
\set VERBOSITY sqlstate
SELECT what
FROM (VALUES
	('empty', ''),
	('unknown', 'sk_live_00000000000000000000000K3vO8'),
	('35 bytes', left(:'second_secret', 35)),
	('37 bytes', :'second_secret' || ' '),
	('other prefix', 'sk_test_' || substr(:'second_secret', 9)),
	('newline', left(:'second_secret', 35) || E'\n'),
	('SQL', ''' OR true; DROP TABLE overten_auth.api_keys --'),
	('the digest', encode(sha256(:'second_secret'::bytea), 'hex')),
	('the key id', :'second_key_id'),
	('the org id', :'acme'),
	('1 MB', repeat(:'second_secret', 30000))) v (what, secret)
WHERE overten_revoke_leaked(secret) IS NOT NULL;
SELECT org_name FROM overten_verify_key(:'second_secret');
SELECT overten_revoke_leaked(NULL);
SELECT overten_revoke_leaked(NULL, 'x');
SELECT overten_revoke_leaked(:'second_secret', '');
SELECT overten_revoke_leaked(:'second_secret', repeat('x', 201));
SELECT overten_revoke_leaked(:'second_secret', E'two\nlines');
SELECT overten_revoke_leaked(1);
BEGIN READ ONLY;
SELECT overten_revoke_leaked(:'second_secret');
ROLLBACK;
BEGIN READ ONLY;
SELECT overten_revoke_leaked('sk_live_');
ROLLBACK;
BEGIN;
SELECT overten_revoke_leaked(:'second_secret', '''); DROP TABLE overten_auth.api_keys --');
SELECT NOT EXISTS (SELECT FROM overten_verify_key(:'second_secret')) AS refused;
ROLLBACK;
SELECT org_name FROM overten_verify_key(:'second_secret');

-- Of a suspended org, too: it stays revoked when the org comes back.
SELECT overten_set_api_access(:'umbrella', false);
SELECT overten_revoke_leaked(:'other_secret', '''); DROP TABLE overten_auth.api_keys --');
SELECT overten_set_api_access(:'umbrella', true);
SELECT NOT EXISTS (SELECT FROM overten_verify_key(:'other_secret')) AS refused;

-- Twice in one statement, and one that was minted in the same transaction
SELECT secret AS third_secret FROM overten_mint_key(:'acme', 'third') \gset
SELECT overten_revoke_leaked(:'third_secret'), overten_revoke_leaked(:'third_secret'),
	EXISTS (SELECT FROM overten_verify_key(:'third_secret')) AS accepted;
BEGIN ISOLATION LEVEL REPEATABLE READ;
SELECT secret AS fourth_secret FROM overten_mint_key(:'acme', 'fourth') \gset
SELECT overten_revoke_leaked(:'fourth_secret'), overten_revoke_leaked(:'fourth_secret');
COMMIT;

-- All keys of an org: those that are active, and of no other org.
SELECT secret AS other_secret FROM overten_mint_key(:'umbrella') \gset
SELECT count((overten_mint_key(:'acme', 'key ' || n)).key_id) FROM generate_series(1, 20) n;
SELECT overten_revoke_all('org_nobody');
SELECT overten_revoke_all('');
SELECT overten_revoke_all(repeat('x', 1000000));
SELECT overten_revoke_all(''' OR true --');
SELECT overten_revoke_all(NULL);
SELECT overten_revoke_all(:'acme', '');
SELECT overten_revoke_all(:'acme', E'\x01');
SELECT overten_revoke_all(:'acme', repeat('x', 201));
BEGIN READ ONLY;
SELECT overten_revoke_all(:'acme');
ROLLBACK;
SELECT count(*) FILTER (WHERE revoked_at IS NULL) AS active, count(*) FROM overten_list_keys(:'acme');
SELECT org_name FROM overten_verify_key(:'second_secret');
SELECT overten_revoke_all(:'acme', ' laptop stolen ');
SELECT NOT EXISTS (SELECT FROM overten_verify_key(:'second_secret')) AS refused, (SELECT org_name FROM overten_verify_key(:'other_secret'));
SELECT overten_revoke_all(:'acme', 'again');
SELECT count(*) FILTER (WHERE revoked_at IS NULL) AS active, count(*) FROM overten_list_keys(:'acme');
SELECT revoked_reason, revoked_by, count(*) FROM overten_auth.api_keys WHERE org_id = :'acme' GROUP BY 1, 2 ORDER BY 1;
SELECT overten_revoke_all(org_id) FROM overten_create_org('Empty');

-- Each has one audit row, which says who.
SELECT action, detail, count(*), count(DISTINCT key_id) AS keys,
	bool_and(actor = session_user) AS actor, count(uid) AS uids
FROM overten_auth.audit_log WHERE action ~ 'revoke' GROUP BY 1, 2 ORDER BY 1, 2;
SELECT count(*) FROM overten_auth.api_keys k
WHERE revoked_at IS NOT NULL AND NOT EXISTS (
	SELECT FROM overten_auth.audit_log a
	WHERE a.action ~ 'revoke' AND (a.org_id, a.key_id) = (k.org_id, k.key_id));

-- By EXECUTE alone, and with temporary tables in the place of ours; not without
-- its audit row.
CREATE ROLE overten_responder;
GRANT EXECUTE ON FUNCTION overten_revoke_leaked(text, text), overten_revoke_all(text, text) TO overten_responder;
SELECT secret AS fifth_secret FROM overten_mint_key(:'acme', 'fifth') \gset
SELECT secret AS sixth_secret FROM overten_mint_key(:'acme', 'sixth') \gset
CREATE TEMP TABLE api_keys (LIKE overten_auth.api_keys);
CREATE TEMP TABLE audit_log (LIKE overten_auth.audit_log);
CREATE TEMP TABLE orgs (LIKE overten_auth.orgs);
GRANT USAGE ON SCHEMA public TO overten_responder;
SET search_path = pg_temp, public;
SET ROLE overten_responder;
SELECT overten_revoke_leaked(:'fifth_secret'), overten_revoke_all(:'acme');
SELECT current_user;
RESET ROLE;
RESET search_path;
SELECT NOT EXISTS (SELECT FROM overten_verify_key(:'fifth_secret')) AS refused, NOT EXISTS (SELECT FROM overten_verify_key(:'sixth_secret')) AS refused;
SELECT (SELECT count(*) FROM pg_temp.api_keys) + (SELECT count(*) FROM pg_temp.audit_log) AS diverted;
SELECT secret AS seventh_secret FROM overten_mint_key(:'acme', 'seventh') \gset
CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS
	$$BEGIN RAISE EXCEPTION 'refused'; END$$;
CREATE TRIGGER refuse BEFORE INSERT ON overten_auth.audit_log
	FOR EACH ROW EXECUTE FUNCTION refuse();
SELECT overten_revoke_leaked(:'seventh_secret');
SELECT overten_revoke_all(:'acme');
DROP TRIGGER refuse ON overten_auth.audit_log;
SELECT org_name AS not_without_audit FROM overten_verify_key(:'seventh_secret');

DROP EXTENSION overten_auth;
DROP FUNCTION refuse;
REVOKE USAGE ON SCHEMA public FROM overten_responder;
DROP ROLE overten_responder;
