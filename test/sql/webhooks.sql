--
-- webhooks: webhook secrets are sealed, replaced and used for signatures
--
CREATE EXTENSION overten_auth;
SELECT * FROM overten_signup('ada', 'Acme Docs') \gset
SELECT org_id AS other_id FROM overten_create_org('Other') \gset
SELECT secret AS other_key FROM overten_mint_key(:'other_id') \gset

-- Sealed: format 1, the key's id, nonce, ciphertext, tag; under one key, and
-- never with the same nonce.
SELECT get_byte(webhook_secret_sealed, 0) AS format,
	   length(webhook_secret_sealed) = 1 + 8 + 12 + length(:'webhook_secret') + 16 AS length,
	   position(convert_to(:'webhook_secret', 'UTF8') IN webhook_secret_sealed) AS plain
FROM overten_auth.orgs WHERE org_id = :'org_id';
SELECT count(DISTINCT substr(webhook_secret_sealed, 2, 8)) AS keys,
	   count(DISTINCT substr(webhook_secret_sealed, 10, 12)) AS nonces
FROM overten_auth.orgs;
SELECT needed = present AS needed_is_present, cardinality(needed) FROM overten_auth.master_key_ids();
SELECT webhook_secret = :'webhook_secret' AS opens FROM overten_verify_key(:'secret');

-- A value of another org does not open, nor one of which any bit was changed.
-- The key is accepted all the same.
SELECT webhook_secret_sealed AS sealed FROM overten_auth.orgs WHERE org_id = :'org_id' \gset
SELECT webhook_secret_sealed AS other_sealed FROM overten_auth.orgs WHERE org_id = :'other_id' \gset
UPDATE overten_auth.orgs SET webhook_secret_sealed = :'sealed' WHERE org_id = :'other_id';
SELECT org_name, webhook_secret FROM overten_verify_key(:'other_key');
CREATE FUNCTION opens(org text, secret text, sealed bytea) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	verified overten_auth.verified_key;
BEGIN
	UPDATE overten_auth.orgs SET webhook_secret_sealed = sealed WHERE org_id = org;
	SELECT * INTO verified FROM overten_verify_key(secret);
	IF verified.org_id IS DISTINCT FROM org THEN
		RAISE 'refused';
	END IF;
	RETURN verified.webhook_secret;
END
$$;
SET client_min_messages = error;
SELECT count(*) AS bits, count(opens(:'org_id', :'secret', set_bit(:'sealed'::bytea, bit, 1 - get_bit(:'sealed'::bytea, bit)))) AS open
FROM generate_series(0, 8 * length(:'sealed'::bytea) - 1) bit;
SELECT count(*) AS lengths, count(opens(:'org_id', :'secret', substr(:'sealed'::bytea, 1, length))) AS open
FROM generate_series(0, length(:'sealed'::bytea) - 1) length;
SELECT opens(:'org_id', :'secret', :'sealed'::bytea || '\x00') AS longer, opens(:'org_id', :'secret', '\x02' || :'sealed'::bytea) AS format_2,
	   opens(:'org_id', :'secret', '\x00ff') AS not_text;
RESET client_min_messages;
SELECT opens(:'org_id', :'secret', :'sealed') = :'webhook_secret' AS restored;
SELECT opens(:'other_id', :'other_key', :'other_sealed') <> :'webhook_secret' AS restored;

-- With a new master key put first, values of the old one open, and are sealed
-- anew by overten_reseal().
\set new_master_key 'COPY (SELECT encode(sha256(gen_random_uuid()::text::bytea), ''base64'')) TO PROGRAM ''umask 077; cat - overten_auth.key >new.key && mv new.key overten_auth.key'';'
:new_master_key
SELECT webhook_secret = :'webhook_secret' AS opens FROM overten_verify_key(:'secret');
SELECT cardinality(needed) AS needed, cardinality(present) AS present, needed[1] = present[2] AS old FROM overten_auth.master_key_ids();
SELECT overten_reseal();
SELECT count(*) AS anew FROM overten_auth.orgs, overten_auth.master_key_ids()
WHERE substr(webhook_secret_sealed, 1, 9) = '\x01'::bytea || decode(present[1], 'hex');
SELECT webhook_secret = :'webhook_secret' AS opens FROM overten_verify_key(:'secret');
SELECT overten_reseal();
SELECT action, org_id, detail FROM overten_auth.audit_log WHERE action = 'reseal';

-- Signatures are what pgcrypto makes of the secret by the rules of Standard
-- Webhooks, whose example this is, too.
CREATE FUNCTION signature(secret text, message text) RETURNS text
RETURN 'v1,' || encode(hmac(convert_to(message, 'UTF8'), decode(substr(secret, 7), 'base64'), 'sha256'), 'base64');
SELECT overten_sign_webhook(:'org_id', 'msg_1', 1674087231, '{"é": "✓"}')
	   = signature(:'webhook_secret', 'msg_1.1674087231.{"é": "✓"}') AS text,
	   overten_sign_webhook(:'org_id', 'msg_1', 0, '\x6100ff'::bytea)
	   = 'v1,' || encode(hmac('msg_1.0.'::bytea || '\x6100ff', decode(substr(:'webhook_secret', 7), 'base64'), 'sha256'), 'base64') AS bytes,
	   overten_sign_webhook(:'org_id', 'msg_1', 4102444800, '')
	   = signature(:'webhook_secret', 'msg_1.4102444800.') AS empty;
SELECT signature('whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw', 'msg_p5jXN8AQM9LWM0D4loKWxJek.1614265330.{"test": 2432232314}');
BEGIN READ ONLY;
SELECT overten_sign_webhook(:'org_id', 'msg_1', 1, 'b') = signature(:'webhook_secret', 'msg_1.1.b') AS read_only;
COMMIT;

-- A rotation: the new secret is verified with, both sign until the grace is
-- over.  Another rotation within it puts the one in the middle beside the new.
SELECT overten_rotate_webhook_secret(:'org_id') AS second \gset
SELECT :'second' ~ '^whsec_[0-9A-Za-z+/]{32}$' AND :'second' <> :'webhook_secret' AS new;
SELECT webhook_secret = :'second' AS verified FROM overten_verify_key(:'secret');
SELECT overten_sign_webhook(:'org_id', 'msg_1', 1, 'b')
	   = signature(:'second', 'msg_1.1.b') || ' ' || signature(:'webhook_secret', 'msg_1.1.b') AS both;
SELECT previous_webhook_secret_until - now() BETWEEN interval '23:59' AND interval '24:01' AS a_day
FROM overten_auth.orgs WHERE org_id = :'org_id';
SELECT overten_rotate_webhook_secret(:'org_id', '30 days') AS third \gset
SELECT overten_sign_webhook(:'org_id', 'msg_1', 1, 'b')
	   = signature(:'third', 'msg_1.1.b') || ' ' || signature(:'second', 'msg_1.1.b') AS both;
UPDATE overten_auth.orgs SET previous_webhook_secret_until = clock_timestamp() WHERE org_id = :'org_id';
SELECT overten_sign_webhook(:'org_id', 'msg_1', 1, 'b') = signature(:'third', 'msg_1.1.b') AS over;
SELECT overten_rotate_webhook_secret(:'org_id', '0') AS fourth \gset
SELECT overten_sign_webhook(:'org_id', 'msg_1', 1, 'b') = signature(:'fourth', 'msg_1.1.b') AS without_grace;
SELECT previous_webhook_secret_sealed, previous_webhook_secret_until FROM overten_auth.orgs WHERE org_id = :'org_id';
SELECT action, org_id = :'org_id' AS org, key_id, uid, detail FROM overten_auth.audit_log
WHERE action = 'rotate_webhook_secret';

-- A rotation that is rolled back was none, in the session's cache either.
BEGIN;
SELECT overten_rotate_webhook_secret(:'org_id') <> :'fourth' AS rotated;
ROLLBACK;
SELECT webhook_secret = :'fourth' AS same FROM overten_verify_key(:'secret');

-- The secret of a rotation is visible at once, whatever the snapshot.
BEGIN ISOLATION LEVEL REPEATABLE READ;
SELECT count(*) FROM overten_auth.tiers;
SELECT overten_rotate_webhook_secret(:'org_id', '1 hour') AS fifth \gset
SELECT overten_sign_webhook(:'org_id', 'msg_1', 1, 'b')
	   = signature(:'fifth', 'msg_1.1.b') || ' ' || signature(:'fourth', 'msg_1.1.b') AS both;
COMMIT;

-- An error in the middle leaves nothing half done.
CREATE VIEW old AS SELECT org_id FROM overten_auth.orgs, overten_auth.master_key_ids()
WHERE substr(webhook_secret_sealed, 2, 8) <> decode(present[1], 'hex');
CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	IF TG_ARGV[0] IS NULL OR TG_ARGV[0] = NEW.org_id THEN
		RAISE 'refused';
	END IF;
	RETURN NEW;
END
$$;
CREATE TEMP TABLE before AS TABLE overten_auth.orgs;
CREATE TRIGGER refuse BEFORE INSERT ON overten_auth.audit_log
	FOR EACH ROW EXECUTE FUNCTION refuse();
\set VERBOSITY sqlstate
SELECT overten_rotate_webhook_secret(:'org_id');
SELECT count(*) AS changed FROM (TABLE before EXCEPT TABLE overten_auth.orgs) changed;
:new_master_key
SELECT overten_reseal();
DROP TRIGGER refuse ON overten_auth.audit_log;
CREATE TRIGGER refuse AFTER UPDATE ON overten_auth.orgs
	FOR EACH ROW EXECUTE FUNCTION refuse();
SELECT overten_rotate_webhook_secret(:'org_id');
DROP TRIGGER refuse ON overten_auth.orgs;
SELECT greatest(:'org_id', :'other_id') AS last_id \gset
CREATE TRIGGER refuse BEFORE UPDATE ON overten_auth.orgs
	FOR EACH ROW EXECUTE FUNCTION refuse(:'last_id');
SELECT overten_reseal();
SELECT count(*) AS old FROM old;
DROP TRIGGER refuse ON overten_auth.orgs;
SELECT action, count(*) FROM overten_auth.audit_log
WHERE action IN ('reseal', 'rotate_webhook_secret') GROUP BY 1 ORDER BY 1;

-- In steps, as far as max_orgs goes
\set VERBOSITY default
SELECT overten_reseal(1);
SELECT overten_reseal(1);
SELECT overten_reseal(1);

-- What does not open is passed over, and does not keep the rest from its turn.
:new_master_key
UPDATE overten_auth.orgs SET previous_webhook_secret_sealed = NULL, previous_webhook_secret_until = NULL;
UPDATE overten_auth.orgs SET webhook_secret_sealed = set_byte(webhook_secret_sealed, 20, get_byte(webhook_secret_sealed, 20) # 1)
WHERE org_id <> :'last_id';
\set VERBOSITY terse
SELECT overten_reseal(1);
\set VERBOSITY default
SELECT count(*) AS old, bool_or(org_id = :'last_id') AS last FROM old;

-- A rotation helps an org whose secret does not open.
SELECT org_id AS lost_id FROM overten_auth.orgs WHERE org_id <> :'last_id' \gset
\getenv srcdir PG_ABS_SRCDIR
\set refusal :srcdir '/sql/refusal.inc'
\set ECHO none
\i :refusal
\set ECHO all
SELECT pg_temp.refusal(format('SELECT overten_sign_webhook(%L, %L, 1, %L)', :'lost_id', 'msg_1', 'b'), :'lost_id');
UPDATE overten_auth.orgs SET webhook_secret_sealed = '\x01616263' WHERE org_id = :'lost_id';
SELECT pg_temp.refusal(format('SELECT overten_sign_webhook(%L, %L, 1, %L)', :'lost_id', 'msg_1', 'b'), :'lost_id');
SELECT overten_rotate_webhook_secret(:'lost_id') AS helped \gset
SELECT overten_sign_webhook(:'lost_id', 'msg_1', 1, 'b') = signature(:'helped', 'msg_1.1.b') AS helped;

-- Arguments
\set VERBOSITY terse
SELECT overten_rotate_webhook_secret('org_nobody');
SELECT overten_rotate_webhook_secret(NULL);
SELECT overten_rotate_webhook_secret(:'org_id', NULL);
SELECT overten_rotate_webhook_secret(:'org_id', '-1 microsecond');
SELECT overten_rotate_webhook_secret(:'org_id', '30 days 1 microsecond');
SELECT overten_rotate_webhook_secret(:'org_id', '178000000 years');
SELECT overten_reseal(0);
SELECT overten_reseal(NULL);
SELECT overten_sign_webhook('org_nobody', 'msg_1', 1, 'b');
SELECT overten_sign_webhook(NULL, 'msg_1', 1, 'b');
SELECT overten_sign_webhook(:'org_id', NULL, 1, 'b');
SELECT overten_sign_webhook(:'org_id', 'msg_1', NULL, 'b');
SELECT overten_sign_webhook(:'org_id', 'msg_1', 1, NULL::text);
SELECT overten_sign_webhook(:'org_id', 'msg_1', 1, NULL::bytea);
SELECT overten_sign_webhook(:'org_id', 'msg_1', -1, 'b');
SELECT overten_sign_webhook(:'org_id', 'msg_1', 9223372036854775807, 'b');
SELECT overten_sign_webhook(:'org_id', 'msg_1', extract(epoch FROM now() + interval '101 years')::bigint, 'b');
SELECT overten_sign_webhook(:'org_id', 'msg_1', extract(epoch FROM now() + interval '99 years')::bigint, 'b') IS NOT NULL AS signed;
SELECT length(overten_sign_webhook(:'org_id', 'msg_1', 1, repeat('x', 16 * 1024 * 1024))) > 0 AS signed;
SELECT overten_sign_webhook(:'org_id', 'msg_1', 1, repeat('x', 16 * 1024 * 1024 + 1));
\set VERBOSITY default
SELECT overten_sign_webhook(:'org_id', 'msg_1', 1700000000000, 'b');
\set VERBOSITY terse
SELECT left(id, 1) AS id, length(id), overten_sign_webhook(:'org_id', id, 1, 'b') IS NOT NULL AS signed
FROM unnest(ARRAY['!', '~', repeat('x', 256)]) id;
SELECT overten_sign_webhook(:'org_id', '', 1, 'b');
SELECT overten_sign_webhook(:'org_id', 'msg.1', 1, 'b');
SELECT overten_sign_webhook(:'org_id', 'msg 1', 1, 'b');
SELECT overten_sign_webhook(:'org_id', E'msg\n1', 1, 'b');
SELECT overten_sign_webhook(:'org_id', 'é', 1, 'b');
SELECT overten_sign_webhook(:'org_id', repeat('x', 257), 1, 'b');

-- pgcrypto's function is used wherever it is, and no other of its name.
CREATE SCHEMA elsewhere;
ALTER EXTENSION pgcrypto SET SCHEMA elsewhere;
CREATE FUNCTION hmac(bytea, bytea, text) RETURNS bytea LANGUAGE sql RETURN '\x00'::bytea;
SELECT overten_sign_webhook(:'org_id', 'msg_1', 1, 'b') ~ '^v1,[^ ]{43}=' AS signed;
ALTER EXTENSION pgcrypto ADD FUNCTION hmac(bytea, bytea, text);
SELECT overten_sign_webhook(:'org_id', 'msg_1', 1, 'b') ~ '^v1,[^ ]{43}=' AS signed;
ALTER EXTENSION pgcrypto DROP FUNCTION elsewhere.hmac(bytea, bytea, text);
SELECT overten_sign_webhook(:'org_id', 'msg_1', 1, 'b');
ALTER EXTENSION pgcrypto ADD FUNCTION elsewhere.hmac(bytea, bytea, text);
ALTER EXTENSION pgcrypto DROP FUNCTION hmac(bytea, bytea, text);
DROP FUNCTION hmac(bytea, bytea, text);
ALTER EXTENSION pgcrypto SET SCHEMA public;
DROP SCHEMA elsewhere;

COPY (SELECT) TO PROGRAM 'umask 077; cat >/dev/null; head -n 1 overten_auth.key >new.key && mv new.key overten_auth.key';
DROP FUNCTION opens, signature, refuse;
DROP VIEW old;
DROP EXTENSION overten_auth;
