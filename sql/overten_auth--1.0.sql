/* sql/overten_auth--1.0.sql */

\echo Use "CREATE EXTENSION overten_auth" to load this file. \quit

/*
 * Functions go into the schema that CREATE EXTENSION names, tables into
 * overten_auth.  Every name and operator is qualified, nothing is created IF
 * NOT EXISTS or OR REPLACE, and what PUBLIC would get is revoked beside what
 * it protects.
 */

/* Whoever owns the functions' schema could drop it, and all keys with it. */
DO $$
BEGIN
	IF NOT EXISTS (
		SELECT
		FROM pg_catalog.pg_namespace n
		JOIN pg_catalog.pg_roles r ON r.oid OPERATOR(pg_catalog.=) n.nspowner
		WHERE n.nspname OPERATOR(pg_catalog.=) pg_catalog.current_schema()
		AND (r.rolsuper
			 OR r.rolname OPERATOR(pg_catalog.=) 'pg_database_owner'))
	THEN
		RAISE EXCEPTION USING
			ERRCODE = 'insufficient_privilege',
			MESSAGE = pg_catalog.format(
				'schema "%s" belongs to an ordinary role',
				pg_catalog.current_schema()),
			DETAIL = 'Its owner could drop the extension with the schema.',
			HINT = 'Name a schema that a superuser or pg_database_owner owns.';
	END IF;
END
$$;


/* Tables */

CREATE SCHEMA overten_auth;
REVOKE ALL ON SCHEMA overten_auth FROM PUBLIC;
COMMENT ON SCHEMA overten_auth IS 'tables of the extension overten_auth';

CREATE TABLE overten_auth.tiers (
	name pg_catalog.text COLLATE pg_catalog."C"
		CONSTRAINT tiers_pkey PRIMARY KEY
		CONSTRAINT tiers_name_check CHECK (
			pg_catalog.char_length(name)
			OPERATOR(pg_catalog.>=) 1
			AND pg_catalog.char_length(name)
			OPERATOR(pg_catalog.<=) 64),
	self_service pg_catalog.bool NOT NULL DEFAULT false
);
REVOKE ALL ON overten_auth.tiers FROM PUBLIC;
COMMENT ON TABLE overten_auth.tiers IS 'plans that an org can be on; the operator adds rows';
COMMENT ON COLUMN overten_auth.tiers.name IS 'name, as verification returns it';
COMMENT ON COLUMN overten_auth.tiers.self_service IS 'whether customers may choose it themselves when they sign up';

INSERT INTO overten_auth.tiers (name, self_service) VALUES ('free', true);

CREATE TABLE overten_auth.orgs (
	org_id pg_catalog.text COLLATE pg_catalog."C"
		CONSTRAINT orgs_pkey PRIMARY KEY,
	name pg_catalog.text NOT NULL
		CONSTRAINT orgs_name_check CHECK (
			pg_catalog.char_length(name) OPERATOR(pg_catalog.>=) 1
			AND pg_catalog.char_length(name) OPERATOR(pg_catalog.<=) 100),
	tier pg_catalog.text COLLATE pg_catalog."C" NOT NULL
		CONSTRAINT orgs_tier_fkey REFERENCES overten_auth.tiers,
	created_at pg_catalog.timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp(),
	api_access_since pg_catalog.timestamptz,
	suspended_at pg_catalog.timestamptz,
	webhook_secret_sealed pg_catalog.bytea NOT NULL,
	previous_webhook_secret_sealed pg_catalog.bytea,
	previous_webhook_secret_until pg_catalog.timestamptz,
	CONSTRAINT orgs_previous_webhook_secret_check CHECK (
		(previous_webhook_secret_sealed IS NULL)
		OPERATOR(pg_catalog.=) (previous_webhook_secret_until IS NULL))
) WITH (vacuum_truncate = off);
REVOKE ALL ON overten_auth.orgs FROM PUBLIC;
COMMENT ON TABLE overten_auth.orgs IS 'customers; every write empties the verification caches of all sessions';
COMMENT ON COLUMN overten_auth.orgs.org_id IS 'org_ and 20 random characters';
COMMENT ON COLUMN overten_auth.orgs.name IS 'display name, 1 to 100 characters, not unique';
COMMENT ON COLUMN overten_auth.orgs.tier IS 'the plan that it is on';
COMMENT ON COLUMN overten_auth.orgs.created_at IS 'when it was created';
COMMENT ON COLUMN overten_auth.orgs.api_access_since IS 'when it signed up for API access; NULL if it has not';
COMMENT ON COLUMN overten_auth.orgs.suspended_at IS 'since when its keys are refused; NULL if they are not';
COMMENT ON COLUMN overten_auth.orgs.webhook_secret_sealed IS 'credential, sealed: format byte 1, id of the master key (8 bytes), nonce (12), ciphertext, tag (16) of AES-256-GCM with org_id as associated data; or format byte 0 and the plain secret, which is not written any more: overten_reseal() seals it';
COMMENT ON COLUMN overten_auth.orgs.previous_webhook_secret_sealed IS 'credential, sealed likewise: the webhook secret before the last rotation; NULL if there is none';
COMMENT ON COLUMN overten_auth.orgs.previous_webhook_secret_until IS 'until when the previous webhook secret signs, too';
COMMENT ON CONSTRAINT orgs_tier_fkey ON overten_auth.orgs IS 'a tier in use cannot be removed';

CREATE TABLE overten_auth.members (
	org_id pg_catalog.text COLLATE pg_catalog."C" NOT NULL
		CONSTRAINT members_org_id_fkey REFERENCES overten_auth.orgs,
	uid pg_catalog.text COLLATE pg_catalog."C" NOT NULL
		CONSTRAINT members_uid_check CHECK (
			pg_catalog.char_length(uid) OPERATOR(pg_catalog.>=) 1
			AND pg_catalog.char_length(uid) OPERATOR(pg_catalog.<=) 128),
	added_at pg_catalog.timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp(),
	CONSTRAINT members_pkey PRIMARY KEY (org_id, uid)
);
CREATE INDEX members_uid_idx ON overten_auth.members (uid);
REVOKE ALL ON overten_auth.members FROM PUBLIC;
COMMENT ON TABLE overten_auth.members IS 'who may manage the keys of an org';
COMMENT ON COLUMN overten_auth.members.org_id IS 'the org';
COMMENT ON COLUMN overten_auth.members.uid IS 'the person: the uid of a Firebase user';
COMMENT ON COLUMN overten_auth.members.added_at IS 'since when';
COMMENT ON INDEX overten_auth.members_uid_idx IS 'finds the orgs of a person';

CREATE TABLE overten_auth.api_keys (
	key_id pg_catalog.text COLLATE pg_catalog."C"
		CONSTRAINT api_keys_pkey PRIMARY KEY,
	org_id pg_catalog.text COLLATE pg_catalog."C" NOT NULL
		CONSTRAINT api_keys_org_id_fkey REFERENCES overten_auth.orgs,
	prefix pg_catalog.text COLLATE pg_catalog."C" NOT NULL
		CONSTRAINT api_keys_prefix_check CHECK (
			pg_catalog.octet_length(prefix) OPERATOR(pg_catalog.=) 12),
	revoked_at pg_catalog.timestamptz,
	digest pg_catalog.bytea NOT NULL
		CONSTRAINT api_keys_digest_key UNIQUE
		CONSTRAINT api_keys_digest_check CHECK (
			pg_catalog.octet_length(digest) OPERATOR(pg_catalog.=) 32),
	name pg_catalog.text NOT NULL
		CONSTRAINT api_keys_name_check CHECK (
			pg_catalog.char_length(name) OPERATOR(pg_catalog.>=) 1
			AND pg_catalog.char_length(name) OPERATOR(pg_catalog.<=) 64),
	created_at pg_catalog.timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp(),
	created_by pg_catalog.text COLLATE pg_catalog."C",
	revoked_by pg_catalog.text COLLATE pg_catalog."C",
	revoked_reason pg_catalog.text
) WITH (vacuum_truncate = off);
CREATE INDEX api_keys_org_id_idx
	ON overten_auth.api_keys (org_id, created_at, key_id);
REVOKE ALL ON overten_auth.api_keys FROM PUBLIC;
COMMENT ON TABLE overten_auth.api_keys IS 'API keys, revoked ones too; every UPDATE empties the verification caches of all sessions';
COMMENT ON COLUMN overten_auth.api_keys.key_id IS 'key_ and 20 random characters';
COMMENT ON COLUMN overten_auth.api_keys.org_id IS 'the org that it bills against';
COMMENT ON COLUMN overten_auth.api_keys.prefix IS 'first 12 characters of the secret';
COMMENT ON COLUMN overten_auth.api_keys.revoked_at IS 'since when it is refused; NULL while it is active';
COMMENT ON COLUMN overten_auth.api_keys.digest IS 'SHA-256 of the secret';
COMMENT ON COLUMN overten_auth.api_keys.name IS 'display name, 1 to 64 characters, not unique';
COMMENT ON COLUMN overten_auth.api_keys.created_at IS 'when it was minted';
COMMENT ON COLUMN overten_auth.api_keys.created_by IS 'uid of the person who minted it; NULL if the application did';
COMMENT ON COLUMN overten_auth.api_keys.revoked_by IS 'uid of the person who revoked it; NULL if the application did';
COMMENT ON COLUMN overten_auth.api_keys.revoked_reason IS 'why, as given';
COMMENT ON INDEX overten_auth.api_keys_org_id_idx IS 'lists the keys of an org in order';
COMMENT ON CONSTRAINT api_keys_digest_key ON overten_auth.api_keys IS 'its index is the way that verification takes';

/* Without a foreign key, whose row locks would write api_keys. */
CREATE TABLE overten_auth.key_last_used (
	key_id pg_catalog.text COLLATE pg_catalog."C"
		CONSTRAINT key_last_used_pkey PRIMARY KEY,
	last_used_at pg_catalog.timestamptz
) WITH (fillfactor = 70);
REVOKE ALL ON overten_auth.key_last_used FROM PUBLIC;
COMMENT ON TABLE overten_auth.key_last_used IS 'when each key was last used; apart from api_keys, for it is written often';
COMMENT ON COLUMN overten_auth.key_last_used.key_id IS 'the key';
COMMENT ON COLUMN overten_auth.key_last_used.last_used_at IS 'time of the last use that was recorded, about a minute coarse; NULL if there is none';

/* Without a foreign key, too.  Written by the background workers alone. */
CREATE TABLE overten_auth.key_usage (
	key_id pg_catalog.text COLLATE pg_catalog."C" NOT NULL,
	hour pg_catalog.timestamptz NOT NULL,
	client_addr pg_catalog.inet,
	accepted pg_catalog.int8 NOT NULL DEFAULT 0,
	refused pg_catalog.int8 NOT NULL DEFAULT 0,
	first_used_at pg_catalog.timestamptz NOT NULL,
	last_used_at pg_catalog.timestamptz NOT NULL,
	CONSTRAINT key_usage_key UNIQUE NULLS NOT DISTINCT (key_id, hour, client_addr)
) WITH (fillfactor = 70);
CREATE INDEX key_usage_hour_idx ON overten_auth.key_usage (hour);
REVOKE ALL ON overten_auth.key_usage FROM PUBLIC;
COMMENT ON TABLE overten_auth.key_usage IS 'the history of each key, by hour and client address';
COMMENT ON COLUMN overten_auth.key_usage.key_id IS 'the key';
COMMENT ON COLUMN overten_auth.key_usage.hour IS 'the beginning of the hour, in UTC';
COMMENT ON COLUMN overten_auth.key_usage.client_addr IS 'where the requests came from, an IPv6 address cut to /64; NULL if that is not known, and for all addresses of a key after the first 64 of the hour';
COMMENT ON COLUMN overten_auth.key_usage.accepted IS 'uses';
COMMENT ON COLUMN overten_auth.key_usage.refused IS 'attempts to use it after it was revoked';
COMMENT ON COLUMN overten_auth.key_usage.first_used_at IS 'time of the first use or attempt';
COMMENT ON COLUMN overten_auth.key_usage.last_used_at IS 'time of the last use or attempt';
COMMENT ON INDEX overten_auth.key_usage_hour_idx IS 'finds what is older than overten_auth.usage_retention, and how far the history goes back';

CREATE TABLE overten_auth.audit_log (
	audit_id pg_catalog.uuid DEFAULT pg_catalog.gen_random_uuid()
		CONSTRAINT audit_log_pkey PRIMARY KEY,
	at pg_catalog.timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp(),
	action pg_catalog.text NOT NULL,
	org_id pg_catalog.text COLLATE pg_catalog."C",
	key_id pg_catalog.text COLLATE pg_catalog."C",
	actor pg_catalog.text NOT NULL,
	uid pg_catalog.text COLLATE pg_catalog."C",
	detail pg_catalog.text
);
CREATE INDEX audit_log_org_id_idx ON overten_auth.audit_log (org_id, at);
REVOKE ALL ON overten_auth.audit_log FROM PUBLIC;
COMMENT ON TABLE overten_auth.audit_log IS 'who did what and when; append only';
COMMENT ON COLUMN overten_auth.audit_log.audit_id IS 'random';
COMMENT ON COLUMN overten_auth.audit_log.at IS 'when, by the wall clock';
COMMENT ON COLUMN overten_auth.audit_log.action IS 'create_org, set_tier, allow_api_access, suspend_api_access, add_member, remove_member, mint_key, import_key, revoke_key, revoke_leaked_key, load_signing_keys, rotate_webhook_secret or reseal';
COMMENT ON COLUMN overten_auth.audit_log.org_id IS 'the org that it was done to; NULL if none, or several';
COMMENT ON COLUMN overten_auth.audit_log.key_id IS 'the key that it was done to; NULL if none';
COMMENT ON COLUMN overten_auth.audit_log.actor IS 'the database role of the session (session_user)';
COMMENT ON COLUMN overten_auth.audit_log.uid IS 'the person on whose behalf it was done; NULL if the session acted for itself';
COMMENT ON COLUMN overten_auth.audit_log.detail IS 'the new tier, the member, the name of the key, the reason, or the number of signing keys or resealed orgs';
COMMENT ON INDEX overten_auth.audit_log_org_id_idx IS 'shows the history of an org';

/* Not dumped: a restored backup must not bring withdrawn keys back. */
CREATE TABLE overten_auth.signing_keys (
	kid pg_catalog.text COLLATE pg_catalog."C"
		CONSTRAINT signing_keys_pkey PRIMARY KEY
		CONSTRAINT signing_keys_kid_check CHECK (
			pg_catalog.octet_length(kid) OPERATOR(pg_catalog.>=) 1),
	public_key pg_catalog.bytea NOT NULL,
	expires_at pg_catalog.timestamptz,
	certificate_expires_at pg_catalog.timestamptz,
	loaded_at pg_catalog.timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp()
) WITH (vacuum_truncate = off);
REVOKE ALL ON overten_auth.signing_keys FROM PUBLIC;
COMMENT ON TABLE overten_auth.signing_keys IS 'keys that Firebase ID tokens are checked with; whoever can write it can log in as anyone; not dumped, load them again after a restore';
COMMENT ON COLUMN overten_auth.signing_keys.kid IS 'key id, compared byte for byte';
COMMENT ON COLUMN overten_auth.signing_keys.public_key IS 'RSA key as SubjectPublicKeyInfo in DER';
COMMENT ON COLUMN overten_auth.signing_keys.expires_at IS 'from when on it is not used; NULL if it does not expire';
COMMENT ON COLUMN overten_auth.signing_keys.certificate_expires_at IS 'the end of its certificate, which expires_at is never after; NULL if it came as a JWK';
COMMENT ON COLUMN overten_auth.signing_keys.loaded_at IS 'when the set that it is in was loaded';


/* Triggers */

CREATE FUNCTION overten_auth.invalidate_caches() RETURNS pg_catalog.trigger
	LANGUAGE c AS 'MODULE_PATHNAME', 'overten_invalidate_caches';
REVOKE ALL ON FUNCTION overten_auth.invalidate_caches() FROM PUBLIC;
COMMENT ON FUNCTION overten_auth.invalidate_caches() IS 'tells all sessions, with the commit, to forget what they have cached; makes the commit wait for its WAL';

CREATE TRIGGER invalidate_caches
	AFTER UPDATE OR DELETE ON overten_auth.orgs
	FOR EACH ROW EXECUTE FUNCTION overten_auth.invalidate_caches();
ALTER TABLE overten_auth.orgs ENABLE ALWAYS TRIGGER invalidate_caches;
COMMENT ON TRIGGER invalidate_caches ON overten_auth.orgs IS 'makes a change take effect at once; never disable it';

CREATE TRIGGER invalidate_caches
	AFTER UPDATE OR DELETE ON overten_auth.api_keys
	FOR EACH ROW EXECUTE FUNCTION overten_auth.invalidate_caches();
ALTER TABLE overten_auth.api_keys ENABLE ALWAYS TRIGGER invalidate_caches;
COMMENT ON TRIGGER invalidate_caches ON overten_auth.api_keys IS 'makes a change take effect at once; never disable it';

CREATE TRIGGER invalidate_caches
	AFTER INSERT OR UPDATE OR DELETE ON overten_auth.signing_keys
	FOR EACH ROW EXECUTE FUNCTION overten_auth.invalidate_caches();
ALTER TABLE overten_auth.signing_keys ENABLE ALWAYS TRIGGER invalidate_caches;
COMMENT ON TRIGGER invalidate_caches ON overten_auth.signing_keys IS 'makes a change take effect at once; never disable it';

CREATE FUNCTION overten_auth.refuse_change() RETURNS pg_catalog.trigger
	LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	RAISE EXCEPTION USING
		ERRCODE = 'insufficient_privilege',
		MESSAGE = pg_catalog.format('%s is append only', TG_RELID::pg_catalog.regclass);
END
$$;
REVOKE ALL ON FUNCTION overten_auth.refuse_change() FROM PUBLIC;
COMMENT ON FUNCTION overten_auth.refuse_change() IS 'refuses UPDATE, DELETE and TRUNCATE of an append-only table';

CREATE TRIGGER refuse_change
	BEFORE UPDATE OR DELETE OR TRUNCATE ON overten_auth.audit_log
	FOR EACH STATEMENT EXECUTE FUNCTION overten_auth.refuse_change();
ALTER TABLE overten_auth.audit_log ENABLE ALWAYS TRIGGER refuse_change;
COMMENT ON TRIGGER refuse_change ON overten_auth.audit_log IS 'keeps the log append only';


/* Keys */

CREATE FUNCTION overten_mint_key(
	org_id pg_catalog.text,
	name pg_catalog.text DEFAULT 'primary',
	OUT key_id pg_catalog.text,
	OUT org_id pg_catalog.text,
	OUT name pg_catalog.text,
	OUT prefix pg_catalog.text,
	OUT created_at pg_catalog.timestamptz,
	OUT secret pg_catalog.text)
	LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME';
REVOKE ALL ON FUNCTION overten_mint_key(pg_catalog.text, pg_catalog.text) FROM PUBLIC;
COMMENT ON FUNCTION overten_mint_key(pg_catalog.text, pg_catalog.text) IS
'Mints a key for an org. The secret is returned this once and stored nowhere. Errors: 42704 no such org; 22023 the name, trimmed of spaces, is empty, over 64 characters or has control characters; 22004 NULL.';

CREATE TYPE overten_auth.verified_key AS (
	key_id pg_catalog.text,
	org_id pg_catalog.text,
	org_name pg_catalog.text,
	tier pg_catalog.text,
	webhook_secret pg_catalog.text,
	key_prefix pg_catalog.text
);
REVOKE ALL ON TYPE overten_auth.verified_key FROM PUBLIC;
COMMENT ON TYPE overten_auth.verified_key IS 'what verification says of an accepted key';
COMMENT ON COLUMN overten_auth.verified_key.key_id IS 'the key';
COMMENT ON COLUMN overten_auth.verified_key.org_id IS 'the org that it bills against';
COMMENT ON COLUMN overten_auth.verified_key.org_name IS 'display name of the org';
COMMENT ON COLUMN overten_auth.verified_key.tier IS 'the plan that the org is on';
COMMENT ON COLUMN overten_auth.verified_key.webhook_secret IS 'what signs the org''s webhooks; NULL if it cannot be unsealed';
COMMENT ON COLUMN overten_auth.verified_key.key_prefix IS 'first 12 characters of the secret';

CREATE FUNCTION overten_verify_key(secret pg_catalog.text)
	RETURNS overten_auth.verified_key
	LANGUAGE c VOLATILE STRICT PARALLEL UNSAFE AS 'MODULE_PATHNAME';
REVOKE ALL ON FUNCTION overten_verify_key(pg_catalog.text) FROM PUBLIC;
COMMENT ON FUNCTION overten_verify_key(pg_catalog.text) IS
'The key and org of a secret; NULL, in FROM a row of NULLs, for anything that is not an active key of an org that is not suspended: test key_id IS NOT NULL. Raises nothing on a bad key; 55000 on a standby unless overten_auth.verify_on_standby is on.';

CREATE FUNCTION overten_verify_key_digest(digest pg_catalog.bytea)
	RETURNS overten_auth.verified_key
	LANGUAGE c VOLATILE STRICT PARALLEL UNSAFE AS 'MODULE_PATHNAME';
REVOKE ALL ON FUNCTION overten_verify_key_digest(pg_catalog.bytea) FROM PUBLIC;
COMMENT ON FUNCTION overten_verify_key_digest(pg_catalog.bytea) IS
'Like overten_verify_key, from the SHA-256 of the secret (32 bytes), for callers who hash before they call. A digest is a credential to those who may execute this: never grant it together with SELECT on overten_auth.api_keys.';

CREATE FUNCTION overten_list_keys(org_id pg_catalog.text)
	RETURNS TABLE (
		key_id pg_catalog.text,
		name pg_catalog.text,
		prefix pg_catalog.text,
		created_at pg_catalog.timestamptz,
		last_used_at pg_catalog.timestamptz,
		revoked_at pg_catalog.timestamptz)
	LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME';
REVOKE ALL ON FUNCTION overten_list_keys(pg_catalog.text) FROM PUBLIC;
COMMENT ON FUNCTION overten_list_keys(pg_catalog.text) IS
'The keys of an org, revoked ones too, in the order of their creation. Errors: 42704 no such org; 22004 NULL.';

CREATE FUNCTION overten_revoke_key(
	org_id pg_catalog.text,
	key_id pg_catalog.text,
	reason pg_catalog.text DEFAULT NULL)
	RETURNS pg_catalog.bool
	LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME';
REVOKE ALL ON FUNCTION overten_revoke_key(pg_catalog.text, pg_catalog.text, pg_catalog.text) FROM PUBLIC;
COMMENT ON FUNCTION overten_revoke_key(pg_catalog.text, pg_catalog.text, pg_catalog.text) IS
'Revokes a key for good, in all sessions from the commit on. True if this call did it; false if it was revoked before, and then the first time and reason stay. Errors: 42704 the org has no such key; 22023 the reason, trimmed of spaces, is empty, over 200 characters or has control characters; 22004 NULL.';

CREATE FUNCTION overten_revoke_leaked(
	secret pg_catalog.text,
	reason pg_catalog.text DEFAULT NULL)
	RETURNS pg_catalog.bool
	LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME';
REVOKE ALL ON FUNCTION overten_revoke_leaked(pg_catalog.text, pg_catalog.text) FROM PUBLIC;
COMMENT ON FUNCTION overten_revoke_leaked(pg_catalog.text, pg_catalog.text) IS
'Revokes the key with this secret, of whatever org, for good. True if this call did it; false if it was revoked before, and then the first time and reason stay; NULL if no key has this secret, whatever it looks like. Errors: 22004 the secret is NULL; 22023 the reason, trimmed of spaces, is empty, over 200 characters or has control characters; 40001 above READ COMMITTED, the key was minted since the transaction began.';

CREATE FUNCTION overten_revoke_all(
	org_id pg_catalog.text,
	reason pg_catalog.text DEFAULT NULL)
	RETURNS pg_catalog.int8
	LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME';
REVOKE ALL ON FUNCTION overten_revoke_all(pg_catalog.text, pg_catalog.text) FROM PUBLIC;
COMMENT ON FUNCTION overten_revoke_all(pg_catalog.text, pg_catalog.text) IS
'Revokes the active keys of an org for good and returns how many there were. Waits for transactions that are minting keys for it. Errors: 42704 no such org; 22023 the reason, as for overten_revoke_leaked; 22004 NULL; 40001 above READ COMMITTED, a key was minted since the transaction began.';

CREATE FUNCTION overten_import_key(
	org_id pg_catalog.text,
	name pg_catalog.text,
	digest pg_catalog.bytea,
	prefix pg_catalog.text,
	created_at pg_catalog.timestamptz DEFAULT NULL)
	RETURNS pg_catalog.text
	LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME';
REVOKE ALL ON FUNCTION overten_import_key(pg_catalog.text, pg_catalog.text, pg_catalog.bytea, pg_catalog.text, pg_catalog.timestamptz) FROM PUBLIC;
COMMENT ON FUNCTION overten_import_key(pg_catalog.text, pg_catalog.text, pg_catalog.bytea, pg_catalog.text, pg_catalog.timestamptz) IS
'Takes over a key that was minted elsewhere, sk_live_ and 28 alphanumeric characters, by its SHA-256 (32 bytes) and its first 12 characters, and returns its new key_id. A NULL created_at is now. Errors: 42704 no such org; 23505 a key with this digest exists already, revoked or not; 22023 the name, the digest''s length, the prefix, or a created_at before 1970 or in the future; 22004 NULL.';

CREATE FUNCTION overten_import_keys(
	org_ids pg_catalog.text[],
	names pg_catalog.text[],
	digests pg_catalog.bytea[],
	prefixes pg_catalog.text[],
	created_at pg_catalog.timestamptz[] DEFAULT NULL)
	RETURNS pg_catalog.int8
	LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME';
REVOKE ALL ON FUNCTION overten_import_keys(pg_catalog.text[], pg_catalog.text[], pg_catalog.bytea[], pg_catalog.text[], pg_catalog.timestamptz[]) FROM PUBLIC;
COMMENT ON FUNCTION overten_import_keys(pg_catalog.text[], pg_catalog.text[], pg_catalog.bytea[], pg_catalog.text[], pg_catalog.timestamptz[]) IS
'overten_import_key for many keys, all or none: arrays with one value for each, as array_agg() makes them from a staging table. Returns how many were imported. Errors as there, with the row in the context, counted from 1; 22023 the arrays differ in length; 22004 one is NULL that is not created_at.';

CREATE FUNCTION overten_key_checksum_ok(key pg_catalog.text)
	RETURNS pg_catalog.bool
	LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME';
REVOKE ALL ON FUNCTION overten_key_checksum_ok(pg_catalog.text) FROM PUBLIC;
COMMENT ON FUNCTION overten_key_checksum_ok(pg_catalog.text) IS
'Whether a text has the shape and the checksum (CRC-32/ISO-HDLC of its first 30 characters, in base 62) of a minted key. Reads no table: says nothing about whether the key is active.';


/* The history of keys */

CREATE FUNCTION overten_key_usage(
	org_id pg_catalog.text,
	key_id pg_catalog.text,
	since pg_catalog.timestamptz DEFAULT NULL,
	until pg_catalog.timestamptz DEFAULT NULL)
	RETURNS TABLE (
		hour pg_catalog.timestamptz,
		client_addr pg_catalog.inet,
		accepted pg_catalog.int8,
		refused pg_catalog.int8,
		first_used_at pg_catalog.timestamptz,
		last_used_at pg_catalog.timestamptz)
	LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME';
REVOKE ALL ON FUNCTION overten_key_usage(pg_catalog.text, pg_catalog.text, pg_catalog.timestamptz, pg_catalog.timestamptz) FROM PUBLIC;
COMMENT ON FUNCTION overten_key_usage(pg_catalog.text, pg_catalog.text, pg_catalog.timestamptz, pg_catalog.timestamptz) IS
'The history of a key, by hour and client address, in this order: all hours that overlap the time from since, included, until until, excluded, so the hour that since is in counts as a whole. NULL means now for until, and 24 hours before until for since. Hours without use have no rows. Errors: 42704 the org has no such key; 22023 since is later than until, or one of them infinite; 22004 an id is NULL.';

CREATE FUNCTION overten_org_usage(
	org_id pg_catalog.text,
	since pg_catalog.timestamptz,
	until pg_catalog.timestamptz)
	RETURNS TABLE (
		key_id pg_catalog.text,
		name pg_catalog.text,
		prefix pg_catalog.text,
		hour pg_catalog.timestamptz,
		accepted pg_catalog.int8,
		refused pg_catalog.int8)
	LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME';
REVOKE ALL ON FUNCTION overten_org_usage(pg_catalog.text, pg_catalog.timestamptz, pg_catalog.timestamptz) FROM PUBLIC;
COMMENT ON FUNCTION overten_org_usage(pg_catalog.text, pg_catalog.timestamptz, pg_catalog.timestamptz) IS
'What to bill an org for: sums over all addresses by key, in the order of their creation, and hour, of the hours that begin at since or later and before until. Each hour is in one of two invoices that adjoin, and in one alone, whether they meet at a full hour or not. Revoked keys too; hours without use have no rows. Errors: 42704 no such org; 22023 since is later than until, or one of them infinite; 22004 NULL.';

CREATE FUNCTION overten_key_anomalies(
	org_id pg_catalog.text,
	key_id pg_catalog.text)
	RETURNS TABLE (
		kind pg_catalog.text,
		client_addr pg_catalog.inet,
		first_at pg_catalog.timestamptz,
		last_at pg_catalog.timestamptz,
		observed pg_catalog.int8,
		expected pg_catalog.numeric,
		reference_at pg_catalog.timestamptz,
		detail pg_catalog.text)
	LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME';
REVOKE ALL ON FUNCTION overten_key_anomalies(pg_catalog.text, pg_catalog.text) FROM PUBLIC;
COMMENT ON FUNCTION overten_key_anomalies(pg_catalog.text, pg_catalog.text) IS
'What in the history of a key a person should look at; no rows if nothing. Kinds, in this order: used_after_revocation (by address, all of the history), woke (used in the last 24 hours after 30 days or more without), rise (an hour of the last 24 with at least 100 uses, 10 times the mean and twice the largest of the hours with use in the 28 days before, of which there must be 3), new_address (first seen in the last 24 hours, where others were before). observed and expected are numbers of requests; reference_at is the revocation, the last use before (or the minting), or the beginning of the history that is compared with. Errors: 42704 the org has no such key; 22004 NULL.';


/* Identity */

CREATE FUNCTION overten_authenticate(secret pg_catalog.text)
	RETURNS overten_auth.verified_key
	LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME';
REVOKE ALL ON FUNCTION overten_authenticate(pg_catalog.text) FROM PUBLIC;
COMMENT ON FUNCTION overten_authenticate(pg_catalog.text) IS
'Returns what overten_verify_key returns, and makes the key and its org the identity of the transaction, or with a NULL or refused secret nobody. ROLLBACK TO restores the one from before the savepoint; COMMIT, ROLLBACK and PREPARE TRANSACTION forget it. Raises nothing on a bad key; 55000 on a standby unless overten_auth.verify_on_standby is on.';

CREATE FUNCTION overten_current_org() RETURNS pg_catalog.text
	LANGUAGE c STABLE PARALLEL RESTRICTED AS 'MODULE_PATHNAME';
REVOKE ALL ON FUNCTION overten_current_org() FROM PUBLIC;
COMMENT ON FUNCTION overten_current_org() IS
'org_id of the identity that overten_authenticate has set in this transaction; NULL if there is none. In a policy, write (SELECT overten_current_org()), which asks once for each statement. Errors: 25000 in a parallel worker, where only a function that wrongly says PARALLEL SAFE brings it.';

CREATE FUNCTION overten_current_key() RETURNS pg_catalog.text
	LANGUAGE c STABLE PARALLEL RESTRICTED AS 'MODULE_PATHNAME';
REVOKE ALL ON FUNCTION overten_current_key() FROM PUBLIC;
COMMENT ON FUNCTION overten_current_key() IS
'key_id of the identity, like overten_current_org.';


/* Orgs */

CREATE FUNCTION overten_create_org(
	name pg_catalog.text,
	tier pg_catalog.text DEFAULT 'free',
	OUT org_id pg_catalog.text,
	OUT name pg_catalog.text,
	OUT tier pg_catalog.text,
	OUT created_at pg_catalog.timestamptz)
	LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME';
REVOKE ALL ON FUNCTION overten_create_org(pg_catalog.text, pg_catalog.text) FROM PUBLIC;
COMMENT ON FUNCTION overten_create_org(pg_catalog.text, pg_catalog.text) IS
'Creates an org. Errors: 22023 the name, trimmed of spaces, is empty, over 100 characters or has control characters, or there is no such tier; 22004 NULL.';

CREATE FUNCTION overten_set_tier(org_id pg_catalog.text, tier pg_catalog.text)
	RETURNS pg_catalog.bool
	LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME';
REVOKE ALL ON FUNCTION overten_set_tier(pg_catalog.text, pg_catalog.text) FROM PUBLIC;
COMMENT ON FUNCTION overten_set_tier(pg_catalog.text, pg_catalog.text) IS
'Puts an org on a tier. True if that changed it. Errors: 42704 no such org; 22023 no such tier; 22004 NULL.';

CREATE FUNCTION overten_set_api_access(org_id pg_catalog.text, allowed pg_catalog.bool)
	RETURNS pg_catalog.bool
	LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME';
REVOKE ALL ON FUNCTION overten_set_api_access(pg_catalog.text, pg_catalog.bool) FROM PUBLIC;
COMMENT ON FUNCTION overten_set_api_access(pg_catalog.text, pg_catalog.bool) IS
'False suspends an org: its keys are refused, but not touched. True resumes it, and signs it up for API access if it has not. True is returned if that changed anything. Errors: 42704 no such org; 22004 NULL.';

CREATE FUNCTION overten_add_member(org_id pg_catalog.text, uid pg_catalog.text)
	RETURNS pg_catalog.bool
	LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME';
REVOKE ALL ON FUNCTION overten_add_member(pg_catalog.text, pg_catalog.text) FROM PUBLIC;
COMMENT ON FUNCTION overten_add_member(pg_catalog.text, pg_catalog.text) IS
'Lets a person, by Firebase uid (1 to 128 characters), manage the keys of an org. True if that changed anything. Errors: 42704 no such org; 22023 the uid; 22004 NULL.';

CREATE FUNCTION overten_remove_member(org_id pg_catalog.text, uid pg_catalog.text)
	RETURNS pg_catalog.bool
	LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME';
REVOKE ALL ON FUNCTION overten_remove_member(pg_catalog.text, pg_catalog.text) FROM PUBLIC;
COMMENT ON FUNCTION overten_remove_member(pg_catalog.text, pg_catalog.text) IS
'Undoes overten_add_member; keys that the person minted stay. True if that changed anything. Errors: 42704 no such org; 22023 the uid; 22004 NULL.';

CREATE FUNCTION overten_list_orgs(uid pg_catalog.text)
	RETURNS TABLE (
		org_id pg_catalog.text,
		name pg_catalog.text,
		tier pg_catalog.text,
		created_at pg_catalog.timestamptz,
		api_access_since pg_catalog.timestamptz,
		suspended_at pg_catalog.timestamptz)
	LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME';
REVOKE ALL ON FUNCTION overten_list_orgs(pg_catalog.text) FROM PUBLIC;
COMMENT ON FUNCTION overten_list_orgs(pg_catalog.text) IS
'The orgs that a person is a member of, in the order of their creation. Errors: 22023 the uid; 22004 NULL.';


/* Webhooks */

CREATE FUNCTION overten_rotate_webhook_secret(
	org_id pg_catalog.text,
	grace pg_catalog.interval DEFAULT '24 hours')
	RETURNS pg_catalog.text
	LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME';
REVOKE ALL ON FUNCTION overten_rotate_webhook_secret(pg_catalog.text, pg_catalog.interval) FROM PUBLIC;
COMMENT ON FUNCTION overten_rotate_webhook_secret(pg_catalog.text, pg_catalog.interval) IS
'Gives an org a new webhook secret and returns it. The one before signs beside it until the grace is over; one that was still in its grace is forgotten. Errors: 42704 no such org; 22023 the grace is negative or over 30 days; 22004 NULL; 55000 there is no master key to seal it with.';

CREATE FUNCTION overten_sign_webhook(
	org_id pg_catalog.text,
	message_id pg_catalog.text,
	"timestamp" pg_catalog.int8,
	body pg_catalog.text)
	RETURNS pg_catalog.text
	LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME';
REVOKE ALL ON FUNCTION overten_sign_webhook(pg_catalog.text, pg_catalog.text, pg_catalog.int8, pg_catalog.text) FROM PUBLIC;
COMMENT ON FUNCTION overten_sign_webhook(pg_catalog.text, pg_catalog.text, pg_catalog.int8, pg_catalog.text) IS
'The header webhook-signature of Standard Webhooks for a message with these webhook-id, webhook-timestamp (seconds since 1970) and body, which is signed in UTF-8: v1, and the base64 of the HMAC-SHA256; two of them, separated by a space, during the grace of a rotation. Errors: 42704 no such org; 22023 message_id has not 1 to 256 printable ASCII characters without spaces and dots, or the time is negative; 22004 NULL; 55000 the secret does not open.';

CREATE FUNCTION overten_sign_webhook(
	org_id pg_catalog.text,
	message_id pg_catalog.text,
	"timestamp" pg_catalog.int8,
	body pg_catalog.bytea)
	RETURNS pg_catalog.text
	LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'overten_sign_webhook_bytes';
REVOKE ALL ON FUNCTION overten_sign_webhook(pg_catalog.text, pg_catalog.text, pg_catalog.int8, pg_catalog.bytea) FROM PUBLIC;
COMMENT ON FUNCTION overten_sign_webhook(pg_catalog.text, pg_catalog.text, pg_catalog.int8, pg_catalog.bytea) IS
'The same with a body of bytes, which are signed as they are.';

CREATE FUNCTION overten_reseal(max_orgs pg_catalog.int4 DEFAULT 1000)
	RETURNS pg_catalog.int8
	LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME';
REVOKE ALL ON FUNCTION overten_reseal(pg_catalog.int4) FROM PUBLIC;
COMMENT ON FUNCTION overten_reseal(pg_catalog.int4) IS
'Seals the webhook secrets of at most so many orgs with the first master key of the file, those that are under another one or plain, and returns how many orgs are still to do: call it until that is 0. Orgs that other transactions have locked are left for the next call; those whose secrets do not open are counted in a WARNING. Errors: 22023 max_orgs is less than 1; 22004 NULL; 55000 there is no master key.';

CREATE FUNCTION overten_auth.master_key_ids(
	OUT needed pg_catalog._text,
	OUT present pg_catalog._text)
	LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'overten_master_key_ids';
REVOKE ALL ON FUNCTION overten_auth.master_key_ids() FROM PUBLIC;
COMMENT ON FUNCTION overten_auth.master_key_ids() IS
'Ids of master keys in hex: needed by the webhook secrets of this database, and present in the file in its order; none are if the file is missing or not good.';


/* Firebase ID tokens */

CREATE TYPE overten_auth.verified_token AS (
	uid pg_catalog.text,
	email pg_catalog.text,
	email_verified pg_catalog.bool,
	name pg_catalog.text,
	sign_in_provider pg_catalog.text,
	tenant pg_catalog.text,
	auth_time pg_catalog.timestamptz,
	issued_at pg_catalog.timestamptz,
	expires_at pg_catalog.timestamptz,
	claims pg_catalog.jsonb
);
REVOKE ALL ON TYPE overten_auth.verified_token FROM PUBLIC;
COMMENT ON TYPE overten_auth.verified_token IS 'what a good Firebase ID token says';
COMMENT ON COLUMN overten_auth.verified_token.uid IS 'the person: sub';
COMMENT ON COLUMN overten_auth.verified_token.email IS 'the claim of that name; NULL if it is no string';
COMMENT ON COLUMN overten_auth.verified_token.email_verified IS 'the claim of that name; NULL if it is no boolean';
COMMENT ON COLUMN overten_auth.verified_token.name IS 'the claim of that name; NULL if it is no string';
COMMENT ON COLUMN overten_auth.verified_token.sign_in_provider IS 'how the person signed in, as password, google.com or phone';
COMMENT ON COLUMN overten_auth.verified_token.tenant IS 'tenant of Identity Platform; NULL if none';
COMMENT ON COLUMN overten_auth.verified_token.auth_time IS 'when the person signed in';
COMMENT ON COLUMN overten_auth.verified_token.issued_at IS 'iat';
COMMENT ON COLUMN overten_auth.verified_token.expires_at IS 'exp';
COMMENT ON COLUMN overten_auth.verified_token.claims IS 'all claims';

CREATE FUNCTION overten_verify_firebase_jwt(token pg_catalog.text)
	RETURNS overten_auth.verified_token
	LANGUAGE c VOLATILE STRICT PARALLEL UNSAFE AS 'MODULE_PATHNAME';
REVOKE ALL ON FUNCTION overten_verify_firebase_jwt(pg_catalog.text) FROM PUBLIC;
COMMENT ON FUNCTION overten_verify_firebase_jwt(pg_catalog.text) IS
'Whom a Firebase ID token is about, by the rules that Firebase documents; that Firebase has revoked it since is not seen. Errors: 28OA1 the token is good but has expired; 28000 it is refused, the detail says why; 55000 overten_auth.firebase_project_id is not set, there are no signing keys that have not expired, or this is a standby and overten_auth.verify_on_standby is off; 58P01 libjwt is not installed.';

CREATE FUNCTION overten_load_signing_keys(keys pg_catalog.json)
	RETURNS pg_catalog.int4
	LANGUAGE c VOLATILE STRICT PARALLEL UNSAFE AS 'MODULE_PATHNAME';
REVOKE ALL ON FUNCTION overten_load_signing_keys(pg_catalog.json) FROM PUBLIC;
COMMENT ON FUNCTION overten_load_signing_keys(pg_catalog.json) IS
'Replaces the keys that Firebase ID tokens are checked with by those of a document, in all sessions from the commit on, and returns how many there are: Google''s X.509 certificates by key id, or a JWK set. Keys from certificates expire with them, those of a JWK set do not. Errors: 22023 something in the document is not usable, and the old keys stay; 40001 another transaction has loaded keys.';

CREATE FUNCTION overten_refresh_signing_keys() RETURNS pg_catalog.int4
	LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME';
REVOKE ALL ON FUNCTION overten_refresh_signing_keys() FROM PUBLIC;
COMMENT ON FUNCTION overten_refresh_signing_keys() IS
'Has the background worker fetch signing keys now, and returns how many there are then that have not expired. Errors: 55000 they were not fetched in 30 seconds, the detail says why, and the keys are as they were.';


/* Usage, and the state of everything */

CREATE FUNCTION overten_flush_usage() RETURNS pg_catalog.void
	LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME';
REVOKE ALL ON FUNCTION overten_flush_usage() FROM PUBLIC;
COMMENT ON FUNCTION overten_flush_usage() IS
'Waits until all uses that were counted before are in the tables; nothing to wait for where they are not counted in shared memory. Errors: 55000 the flush fails, takes more than 30 seconds, or this is a standby; no use is lost by that.';

CREATE FUNCTION overten_status(
	OUT usage_mode pg_catalog.text,
	OUT usage_worker pg_catalog.text,
	OUT flushed_at pg_catalog.timestamptz,
	OUT flush_failed_at pg_catalog.timestamptz,
	OUT flush_failure pg_catalog.text,
	OUT signing_keys pg_catalog.int4,
	OUT signing_keys_expire_at pg_catalog.timestamptz,
	OUT key_worker pg_catalog.text,
	OUT fetched_at pg_catalog.timestamptz,
	OUT fetch_tried_at pg_catalog.timestamptz,
	OUT fetch_outcome pg_catalog.text,
	OUT next_fetch_at pg_catalog.timestamptz,
	OUT master_keys_needed pg_catalog.text[],
	OUT master_keys_present pg_catalog.text[])
	LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME';
REVOKE ALL ON FUNCTION overten_status() FROM PUBLIC;
COMMENT ON FUNCTION overten_status() IS
'The state of this database. usage_mode: how uses are recorded, in shared memory, in a table (last_used_at alone) or not at all (off). usage_worker: waiting, working, or none where one should be. flushed_at, flush_failed_at, flush_failure: the last flush, and the last failure of the worker. signing_keys: how many have not expired; signing_keys_expire_at: when the last of them does. key_worker: fetching signing keys, scheduled, or off (no project or no command). fetched_at: the last fetch that succeeded; fetch_tried_at, fetch_outcome: the last one; next_fetch_at: the next. master_keys_needed, master_keys_present: ids of the keys that webhook secrets are sealed with, and of those in the master key file.';

CREATE FUNCTION overten_auth.stat(
	OUT accepted pg_catalog.int8,
	OUT refused pg_catalog.int8,
	OUT cache_hits pg_catalog.int8,
	OUT cache_misses pg_catalog.int8,
	OUT not_attributed pg_catalog.int8,
	OUT flushes pg_catalog.int8,
	OUT flush_failures pg_catalog.int8,
	OUT entries_used pg_catalog.int4,
	OUT entries_free pg_catalog.int4,
	OUT since pg_catalog.timestamptz)
	LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'overten_stat';
REVOKE ALL ON FUNCTION overten_auth.stat() FROM PUBLIC;
COMMENT ON FUNCTION overten_auth.stat() IS
'What the view overten_stat shows; whoever is to read the view needs EXECUTE on this, too.';

CREATE VIEW overten_stat AS SELECT * FROM overten_auth.stat();
REVOKE ALL ON overten_stat FROM PUBLIC;
COMMENT ON VIEW overten_stat IS 'statistics of the whole server since its start; all NULL unless the library is preloaded';
COMMENT ON COLUMN overten_stat.accepted IS 'keys accepted';
COMMENT ON COLUMN overten_stat.refused IS 'keys refused, whatever the reason';
COMMENT ON COLUMN overten_stat.cache_hits IS 'keys accepted from a session''s cache';
COMMENT ON COLUMN overten_stat.cache_misses IS 'keys looked up in the tables';
COMMENT ON COLUMN overten_stat.not_attributed IS 'uses missing in the history, for there was no memory left to count them: raise overten_auth.max_tracked_keys';
COMMENT ON COLUMN overten_stat.flushes IS 'times that uses were written into the tables';
COMMENT ON COLUMN overten_stat.flush_failures IS 'times that this, or removing old history, failed';
COMMENT ON COLUMN overten_stat.entries_used IS 'pairs of a key and a client address that are counted at this moment';
COMMENT ON COLUMN overten_stat.entries_free IS 'how many more could be';
COMMENT ON COLUMN overten_stat.since IS 'when the counting began';


/* Over HTTP */

CREATE FUNCTION overten_signup(
	uid pg_catalog.text,
	org_name pg_catalog.text DEFAULT NULL,
	existing_org_id pg_catalog.text DEFAULT NULL,
	tier pg_catalog.text DEFAULT NULL,
	key_name pg_catalog.text DEFAULT 'primary',
	OUT org_id pg_catalog.text,
	OUT org_name pg_catalog.text,
	OUT tier pg_catalog.text,
	OUT key_id pg_catalog.text,
	OUT name pg_catalog.text,
	OUT prefix pg_catalog.text,
	OUT created_at pg_catalog.timestamptz,
	OUT secret pg_catalog.text,
	OUT webhook_secret pg_catalog.text)
	LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME';
REVOKE ALL ON FUNCTION overten_signup(pg_catalog.text, pg_catalog.text, pg_catalog.text, pg_catalog.text, pg_catalog.text) FROM PUBLIC;
COMMENT ON FUNCTION overten_signup(pg_catalog.text, pg_catalog.text, pg_catalog.text, pg_catalog.text, pg_catalog.text) IS
'Signs a person up: creates an org (org_name) with the person as its member, or switches API access on for an org of the person''s (existing_org_id), and mints a key. Takes the uid on trust: never grant it to a role that speaks for customers. A NULL tier is free for a new org; that of an existing org is never changed. Errors: 22004; 22023 both or neither of org_name and existing_org_id, a name, or a tier that is not self-service or not the org''s; 42704 no such org of this person; 42710 signed up already; 53400 max_orgs_per_uid, max_keys_per_org or max_keys_total_per_org; 55000 suspended.';

CREATE TYPE overten_auth.http_response AS (
	status pg_catalog.int4,
	headers pg_catalog.json,
	body pg_catalog.text
);
REVOKE ALL ON TYPE overten_auth.http_response FROM PUBLIC;
COMMENT ON TYPE overten_auth.http_response IS 'the answer to an HTTP request';
COMMENT ON COLUMN overten_auth.http_response.status IS 'status code';
COMMENT ON COLUMN overten_auth.http_response.headers IS 'object with lower-case names';
COMMENT ON COLUMN overten_auth.http_response.body IS 'JSON; NULL if there is no body';

CREATE FUNCTION overten_handle_request(
	method pg_catalog.text,
	path pg_catalog.text,
	headers pg_catalog.json,
	body pg_catalog.text)
	RETURNS overten_auth.http_response
	LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME';
REVOKE ALL ON FUNCTION overten_handle_request(pg_catalog.text, pg_catalog.text, pg_catalog.json, pg_catalog.text) FROM PUBLIC;
COMMENT ON FUNCTION overten_handle_request(pg_catalog.text, pg_catalog.text, pg_catalog.json, pg_catalog.text) IS
'Answers one HTTP request to the API. The path begins with /api/v1 and may have a query string; headers are an object with lower-case names; a body of NULL or an empty one is none. All that a client can do wrong is an answer, not an error. A role that an HTTP layer uses needs EXECUTE on this alone.';

CREATE SCHEMA overten_api;
REVOKE ALL ON SCHEMA overten_api FROM PUBLIC;
COMMENT ON SCHEMA overten_api IS 'the API of overten_auth for PostgREST';

CREATE FUNCTION overten_api.signup(pg_catalog.json) RETURNS pg_catalog.json
	LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'overten_api_signup';
REVOKE ALL ON FUNCTION overten_api.signup(pg_catalog.json) FROM PUBLIC;
COMMENT ON FUNCTION overten_api.signup(pg_catalog.json) IS 'POST /signup';

CREATE FUNCTION overten_api.create_api_key(pg_catalog.json) RETURNS pg_catalog.json
	LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'overten_api_create_api_key';
REVOKE ALL ON FUNCTION overten_api.create_api_key(pg_catalog.json) FROM PUBLIC;
COMMENT ON FUNCTION overten_api.create_api_key(pg_catalog.json) IS
'POST /organizations/{org_id}/api-keys; the id in the header x-overten-org-id or the member org_id';

CREATE FUNCTION overten_api.list_api_keys(org_id pg_catalog.text DEFAULT NULL) RETURNS pg_catalog.json
	LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'overten_api_list_api_keys';
REVOKE ALL ON FUNCTION overten_api.list_api_keys(pg_catalog.text) FROM PUBLIC;
COMMENT ON FUNCTION overten_api.list_api_keys(pg_catalog.text) IS
'GET /organizations/{org_id}/api-keys; the id in the header x-overten-org-id or as argument';

CREATE FUNCTION overten_api.revoke_api_key(pg_catalog.json) RETURNS pg_catalog.void
	LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'overten_api_revoke_api_key';
REVOKE ALL ON FUNCTION overten_api.revoke_api_key(pg_catalog.json) FROM PUBLIC;
COMMENT ON FUNCTION overten_api.revoke_api_key(pg_catalog.json) IS
'DELETE /organizations/{org_id}/api-keys/{key_id}; the ids in the headers x-overten-org-id and x-overten-key-id or the members org_id and key_id. Raises SQLSTATE PGRST with the answer where it is an error, with the code in the header x-overten-error.';

CREATE FUNCTION overten_api.key_usage(
	org_id pg_catalog.text DEFAULT NULL,
	key_id pg_catalog.text DEFAULT NULL,
	since pg_catalog.text DEFAULT NULL,
	until pg_catalog.text DEFAULT NULL)
	RETURNS pg_catalog.json
	LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'overten_api_key_usage';
REVOKE ALL ON FUNCTION overten_api.key_usage(pg_catalog.text, pg_catalog.text, pg_catalog.text, pg_catalog.text) FROM PUBLIC;
COMMENT ON FUNCTION overten_api.key_usage(pg_catalog.text, pg_catalog.text, pg_catalog.text, pg_catalog.text) IS
'GET /organizations/{org_id}/api-keys/{key_id}/usage; the ids in the headers x-overten-org-id and x-overten-key-id or as arguments, the query string in the header x-overten-query or else its parameters as arguments';

CREATE FUNCTION overten_api.verify() RETURNS pg_catalog.json
	LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'overten_api_verify';
REVOKE ALL ON FUNCTION overten_api.verify() FROM PUBLIC;
COMMENT ON FUNCTION overten_api.verify() IS 'GET /verify';

CREATE FUNCTION overten_api.authenticate_request() RETURNS pg_catalog.void
	LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'overten_api_authenticate_request';
REVOKE ALL ON FUNCTION overten_api.authenticate_request() FROM PUBLIC;
COMMENT ON FUNCTION overten_api.authenticate_request() IS
'For db-pre-request before tables of your own: makes the API key of the request the identity, as overten_authenticate does; without a bearer, or with one that is no API key, there is none. Raises SQLSTATE PGRST like revoke_api_key: 401 invalid_api_key, 400 invalid_request for two credentials that differ, 503 service_unavailable on a standby that may not verify.';


/*
 * The row types of the tables can be used by PUBLIC unless that is revoked.
 * Their initial privileges are not kept: pg_dump never dumps such types, and
 * would warn of each.
 */
REVOKE ALL ON TYPE overten_auth.tiers, overten_auth.orgs,
	overten_auth.members, overten_auth.api_keys, overten_auth.key_last_used,
	overten_auth.key_usage, overten_auth.audit_log, overten_auth.signing_keys FROM PUBLIC;
DELETE FROM pg_catalog.pg_init_privs
WHERE classoid OPERATOR(pg_catalog.=) 'pg_catalog.pg_type'::pg_catalog.regclass
AND objoid IN (
	SELECT c.reltype FROM pg_catalog.pg_class c
	WHERE c.relkind OPERATOR(pg_catalog.=) 'r'
	AND c.relnamespace OPERATOR(pg_catalog.=)
		'overten_auth'::pg_catalog.regnamespace);


/* What pg_dump carries over: all that was not there after CREATE EXTENSION. */
SELECT pg_catalog.pg_extension_config_dump('overten_auth.tiers',
	$$WHERE name OPERATOR(pg_catalog.<>) 'free'$$);
SELECT pg_catalog.pg_extension_config_dump('overten_auth.orgs', '');
SELECT pg_catalog.pg_extension_config_dump('overten_auth.members', '');
SELECT pg_catalog.pg_extension_config_dump('overten_auth.api_keys', '');
SELECT pg_catalog.pg_extension_config_dump('overten_auth.key_last_used', '');
SELECT pg_catalog.pg_extension_config_dump('overten_auth.key_usage', '');
SELECT pg_catalog.pg_extension_config_dump('overten_auth.audit_log', '');
