-- by_hand.sql
--
-- The two functions that one would write without the extension, over tables
-- that one would make for them, with the same keys.

\set ON_ERROR_STOP on
SET client_min_messages = warning;

DROP SCHEMA IF EXISTS by_hand CASCADE;
CREATE SCHEMA by_hand;
CREATE TABLE by_hand.orgs AS
	SELECT org_id, name, tier,
		   'whsec_' || encode(gen_random_bytes(24), 'base64') AS webhook_secret
	FROM overten_auth.orgs;
ALTER TABLE by_hand.orgs ADD PRIMARY KEY (org_id);
CREATE TABLE by_hand.api_keys AS
	SELECT key_id, org_id, name, prefix, digest, revoked_at,
		   NULL::timestamptz AS last_used_at
	FROM overten_auth.api_keys;
ALTER TABLE by_hand.api_keys ADD PRIMARY KEY (key_id), ADD UNIQUE (digest);

CREATE FUNCTION by_hand.verify_each(secret text, OUT key_id text,
	OUT org_id text, OUT org_name text, OUT tier text,
	OUT webhook_secret text, OUT key_prefix text)
	LANGUAGE plpgsql SECURITY DEFINER
	SET search_path = by_hand, public, pg_temp AS $$
BEGIN
	SELECT k.key_id, k.org_id, o.name, o.tier, o.webhook_secret, k.prefix
	INTO verify_each.key_id, verify_each.org_id, org_name, verify_each.tier,
		 verify_each.webhook_secret, key_prefix
	FROM api_keys k JOIN orgs o ON o.org_id = k.org_id
	WHERE k.digest = digest(secret, 'sha256') AND k.revoked_at IS NULL;
	IF FOUND THEN
		UPDATE api_keys k SET last_used_at = clock_timestamp()
		WHERE k.key_id = verify_each.key_id;
	END IF;
END
$$;

CREATE FUNCTION by_hand.verify_minute(secret text, OUT key_id text,
	OUT org_id text, OUT org_name text, OUT tier text,
	OUT webhook_secret text, OUT key_prefix text)
	LANGUAGE plpgsql SECURITY DEFINER
	SET search_path = by_hand, public, pg_temp AS $$
DECLARE
	used timestamptz;
BEGIN
	SELECT k.key_id, k.org_id, o.name, o.tier, o.webhook_secret, k.prefix,
		   k.last_used_at
	INTO verify_minute.key_id, verify_minute.org_id, org_name,
		 verify_minute.tier, verify_minute.webhook_secret, key_prefix, used
	FROM api_keys k JOIN orgs o ON o.org_id = k.org_id
	WHERE k.digest = digest(secret, 'sha256') AND k.revoked_at IS NULL;
	IF FOUND AND (used IS NULL
				  OR used < clock_timestamp() - interval '1 minute') THEN
		UPDATE api_keys k SET last_used_at = clock_timestamp()
		WHERE k.key_id = verify_minute.key_id;
	END IF;
END
$$;

VACUUM ANALYZE by_hand.orgs, by_hand.api_keys;
CHECKPOINT;
