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

-- Whatever restricts a key, the one who has it can have it revoked, and nothing
-- makes it good again; an org's keys are revoked with it.
SELECT org_id AS bound FROM overten_create_org('Bound') \gset
INSERT INTO overten_auth.scopes (name) VALUES ('read');
CREATE TABLE leaked (name text, key_id text, secret text);
CREATE PROCEDURE make_leaked() LANGUAGE plpgsql AS $$
DECLARE
	org text := (SELECT org_id FROM overten_auth.orgs WHERE name = 'Bound');
BEGIN
	INSERT INTO leaked
	SELECT m.name, m.key_id, m.secret FROM unnest('{expired,disabled,old}'::text[]) name, overten_mint_key(org, name) m
	UNION ALL SELECT m.name, m.key_id, m.secret FROM overten_mint_key(org, 'scoped', scopes => '{}') m
	UNION ALL SELECT m.name, m.key_id, m.secret FROM overten_mint_key(org, 'far', allowed_addresses => '{192.0.2.1}') m
	UNION ALL SELECT m.name, m.key_id, m.secret FROM overten_mint_key(org, 'test', environment => 'test') m
	UNION ALL SELECT 'imported', i, 'sk_live_imported00000000000000000000'
	FROM overten_import_key(org, 'imported', sha256('sk_live_imported00000000000000000000'), 'sk_live_impo', expires_at => '2001-01-01', scopes => '{read}') i;
	PERFORM overten_set_expiry(org, key_id, '2001-01-01') FROM leaked WHERE name = 'expired';
	PERFORM overten_disable_key(org, key_id) FROM leaked WHERE name = 'disabled';
	INSERT INTO leaked SELECT 'new', r.key_id, r.secret FROM leaked l, overten_rotate_key(org, l.key_id) r WHERE l.name = 'old';
END
$$;
CALL make_leaked();
BEGIN;
SELECT name, overten_revoke_leaked(secret, 'found', true), overten_revoke_leaked(secret) AS again FROM leaked ORDER BY name;
SELECT status, count(*) FROM overten_key_restrictions(:'bound') GROUP BY 1;
SET LOCAL overten_auth.verify_restricted = on;
SET LOCAL overten_auth.accept_test_keys = on;
SELECT count(*) FROM leaked, overten_verify_key(secret);
ROLLBACK;
SELECT overten_revoke_all(:'bound');
SELECT name, overten_revoke_leaked(secret) AS again FROM leaked ORDER BY name;
SELECT overten_erase_org(:'bound');
SELECT name, overten_revoke_leaked(secret, 'found', true) AS erased FROM leaked ORDER BY name;
SELECT webhook_secret_sealed FROM overten_auth.orgs WHERE org_id = :'bound';
SELECT detail FROM overten_auth.audit_log WHERE org_id = :'bound' AND detail IS NOT NULL;
DROP TABLE leaked;
DROP PROCEDURE make_leaked;

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

-- A leaked key has shown the webhook secret of its org.  That is replaced with
-- it, if asked to, and once for each leak: what signs is compared by signatures.
SELECT org_id AS shown FROM overten_create_org('Shown') \gset
SELECT secret AS watcher FROM overten_mint_key(:'shown', 'watcher') \gset
SELECT secret AS leak_1, key_id AS leak_1_id FROM overten_mint_key(:'shown', 'leak 1') \gset
SELECT secret AS leak_2, key_id AS leak_2_id FROM overten_mint_key(:'shown', 'leak 2') \gset
SELECT secret AS leak_3 FROM overten_mint_key(:'shown', 'leak 3') \gset
CREATE TEMP TABLE seen (step text, secret text, signatures text[]);
CREATE FUNCTION see(step text, watcher text) RETURNS TABLE (step text, replaced bool, signatures int, of_others int) LANGUAGE sql AS $$
	INSERT INTO seen SELECT step, webhook_secret, string_to_array(overten_sign_webhook(org_id, 'msg_1', 1, 'body'::text), ' ')
	FROM overten_verify_key(watcher);
	SELECT n.step, (SELECT n.secret <> ALL (array_agg(b.secret)) FROM seen b WHERE b.step <> n.step),
		cardinality(n.signatures), (SELECT count(*)::int FROM seen b, unnest(b.signatures) s WHERE b.step <> n.step AND s = ANY (n.signatures))
	FROM seen n WHERE n.step = see.step
$$;
SELECT length(overten_rotate_webhook_secret(:'shown', '1 day')) AS in_its_grace;
SELECT * FROM see('before', :'watcher');
SELECT overten_revoke_leaked('sk_live_00000000000000000000000K3vO8', rotate_webhook_secret => true);
SELECT overten_revoke_leaked('sk_live_', NULL, true);
SELECT * FROM see('unknown', :'watcher');
BEGIN;
SELECT overten_revoke_leaked(:'leak_1', 'taken back', true);
SELECT * FROM see('in the transaction', :'watcher');
ROLLBACK;
SELECT NOT EXISTS (SELECT FROM overten_verify_key(:'leak_1')) AS refused;
SELECT * FROM see('rolled back', :'watcher');
SELECT overten_revoke_leaked(:'leak_1', ' found on a forum ', true);
SELECT * FROM see('leaked', :'watcher');
SELECT overten_revoke_leaked(:'leak_1', 'found again', true);
SELECT * FROM see('found again', :'watcher');
-- Revoked by others, who did not think of it
SELECT overten_revoke_key(:'shown', :'leak_2_id', 'by a customer');
SELECT overten_revoke_leaked(:'leak_2', 'found later');
SELECT * FROM see('not asked to', :'watcher');
SELECT overten_revoke_leaked(:'leak_2', 'found later', true);
SELECT * FROM see('found later', :'watcher');
-- Replaced since, but what leaked still signs
SELECT overten_revoke_leaked(:'leak_3');
SELECT length(overten_rotate_webhook_secret(:'shown', '1 day')) AS in_its_grace;
SELECT * FROM see('in its grace', :'watcher');
SELECT overten_revoke_leaked(:'leak_3', NULL, true);
SELECT * FROM see('grace ended', :'watcher');
SELECT overten_revoke_leaked(:'leak_3', NULL, true), overten_revoke_leaked(:'leak_1', NULL, true);
SELECT * FROM see('all is done', :'watcher');
-- All keys: at each call
SELECT overten_revoke_all(:'shown', 'laptop stolen', true);
SELECT secret AS watcher FROM overten_mint_key(:'shown', 'new watcher') \gset
SELECT * FROM see('all', :'watcher');
SELECT overten_revoke_all(:'shown', rotate_webhook_secret => true);
SELECT secret AS watcher FROM overten_mint_key(:'shown', 'next watcher') \gset
SELECT * FROM see('all again', :'watcher');
SELECT overten_revoke_all('org_nobody', NULL, true);
SELECT overten_revoke_leaked(:'watcher', NULL, NULL);
SELECT overten_revoke_all(:'shown', NULL, NULL);
SELECT * FROM see('refused', :'watcher');
SELECT action, detail, key_id IS NOT NULL AS key, actor = session_user AS actor, uid
FROM overten_auth.audit_log WHERE org_id = :'shown' AND action <> 'mint_key' ORDER BY at;

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
GRANT EXECUTE ON FUNCTION overten_revoke_leaked(text, text, boolean), overten_revoke_all(text, text, boolean) TO overten_responder;
SELECT secret AS fifth_secret FROM overten_mint_key(:'acme', 'fifth') \gset
SELECT secret AS sixth_secret FROM overten_mint_key(:'acme', 'sixth') \gset
CREATE TEMP TABLE api_keys (LIKE overten_auth.api_keys);
CREATE TEMP TABLE audit_log (LIKE overten_auth.audit_log);
CREATE TEMP TABLE orgs (LIKE overten_auth.orgs);
GRANT USAGE ON SCHEMA public TO overten_responder;
SET search_path = pg_temp, public;
SET ROLE overten_responder;
SELECT overten_revoke_leaked(:'fifth_secret', NULL, true), overten_revoke_all(:'acme', NULL, true);
SELECT current_user;
-- It has replaced the webhook secret, but cannot see it.
SELECT webhook_secret FROM overten_verify_key(:'watcher');
SELECT webhook_secret_sealed FROM overten_auth.orgs;
SELECT overten_sign_webhook(:'acme', 'msg_1', 1, 'body'::text);
SELECT overten_rotate_webhook_secret(:'acme');
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
DROP FUNCTION refuse, see;
REVOKE USAGE ON SCHEMA public FROM overten_responder;
DROP ROLE overten_responder;
