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
	webhook_secret_sealed pg_catalog.bytea NOT NULL
) WITH (vacuum_truncate = off);
REVOKE ALL ON overten_auth.orgs FROM PUBLIC;
COMMENT ON TABLE overten_auth.orgs IS 'customers; every write empties the verification caches of all sessions';
COMMENT ON COLUMN overten_auth.orgs.org_id IS 'org_ and 20 random characters';
COMMENT ON COLUMN overten_auth.orgs.name IS 'display name, 1 to 100 characters, not unique';
COMMENT ON COLUMN overten_auth.orgs.tier IS 'the plan that it is on';
COMMENT ON COLUMN overten_auth.orgs.created_at IS 'when it was created';
COMMENT ON COLUMN overten_auth.orgs.api_access_since IS 'when it signed up for API access; NULL if it has not';
COMMENT ON COLUMN overten_auth.orgs.suspended_at IS 'since when its keys are refused; NULL if they are not';
COMMENT ON COLUMN overten_auth.orgs.webhook_secret_sealed IS 'a format byte and the sealed webhook secret';
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
COMMENT ON COLUMN overten_auth.audit_log.action IS 'create_org, set_tier, allow_api_access, suspend_api_access, add_member, remove_member, mint_key, revoke_key or load_signing_keys';
COMMENT ON COLUMN overten_auth.audit_log.org_id IS 'the org that it was done to';
COMMENT ON COLUMN overten_auth.audit_log.key_id IS 'the key that it was done to; NULL if none';
COMMENT ON COLUMN overten_auth.audit_log.actor IS 'the database role of the session (session_user)';
COMMENT ON COLUMN overten_auth.audit_log.uid IS 'the person on whose behalf it was done; NULL if the session acted for itself';
COMMENT ON COLUMN overten_auth.audit_log.detail IS 'the new tier, the member, the name of the key, the reason, or the number of signing keys';
COMMENT ON INDEX overten_auth.audit_log_org_id_idx IS 'shows the history of an org';

/* Not dumped: a restored backup must not bring withdrawn keys back. */
CREATE TABLE overten_auth.signing_keys (
	kid pg_catalog.text COLLATE pg_catalog."C"
		CONSTRAINT signing_keys_pkey PRIMARY KEY
		CONSTRAINT signing_keys_kid_check CHECK (
			pg_catalog.octet_length(kid) OPERATOR(pg_catalog.>=) 1),
	public_key pg_catalog.bytea NOT NULL,
	expires_at pg_catalog.timestamptz,
	loaded_at pg_catalog.timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp()
) WITH (vacuum_truncate = off);
REVOKE ALL ON overten_auth.signing_keys FROM PUBLIC;
COMMENT ON TABLE overten_auth.signing_keys IS 'keys that Firebase ID tokens are checked with; whoever can write it can log in as anyone; not dumped, load them again after a restore';
COMMENT ON COLUMN overten_auth.signing_keys.kid IS 'key id, compared byte for byte';
COMMENT ON COLUMN overten_auth.signing_keys.public_key IS 'RSA key as SubjectPublicKeyInfo in DER';
COMMENT ON COLUMN overten_auth.signing_keys.expires_at IS 'from when on it is not used; NULL if it does not expire';
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

CREATE FUNCTION overten_key_checksum_ok(key pg_catalog.text)
	RETURNS pg_catalog.bool
	LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME';
REVOKE ALL ON FUNCTION overten_key_checksum_ok(pg_catalog.text) FROM PUBLIC;
COMMENT ON FUNCTION overten_key_checksum_ok(pg_catalog.text) IS
'Whether a text has the shape and the checksum (CRC-32/ISO-HDLC of its first 30 characters, in base 62) of a minted key. Reads no table: says nothing about whether the key is active.';


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

CREATE FUNCTION overten_api.verify() RETURNS pg_catalog.json
	LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'overten_api_verify';
REVOKE ALL ON FUNCTION overten_api.verify() FROM PUBLIC;
COMMENT ON FUNCTION overten_api.verify() IS 'GET /verify';


/*
 * The row types of the tables can be used by PUBLIC unless that is revoked.
 * Their initial privileges are not kept: pg_dump never dumps such types, and
 * would warn of each.
 */
REVOKE ALL ON TYPE overten_auth.tiers, overten_auth.orgs,
	overten_auth.members, overten_auth.api_keys, overten_auth.key_last_used,
	overten_auth.audit_log, overten_auth.signing_keys FROM PUBLIC;
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
SELECT pg_catalog.pg_extension_config_dump('overten_auth.audit_log', '');
