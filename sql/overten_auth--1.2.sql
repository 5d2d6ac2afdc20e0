/* sql/overten_auth--1.2.sql */

\echo Use "CREATE EXTENSION overten_auth" to load this file. \quit

/*
 * Functions are in the schema that CREATE EXTENSION names, and tables in
 * overten_auth.  We never use IF NOT EXISTS or OR REPLACE.  Each object is
 * followed by the REVOKE of what PUBLIC would get.  The search path is set for
 * the whole script, so unqualified names are in pg_catalog.
 */
SET LOCAL search_path TO pg_catalog, pg_temp;


/* Tables */

CREATE SCHEMA overten_auth;
REVOKE ALL ON SCHEMA overten_auth FROM PUBLIC;
COMMENT ON SCHEMA overten_auth IS 'tables of the extension overten_auth';

CREATE TABLE overten_auth.tiers (
	name text COLLATE "C"
		CONSTRAINT tiers_pkey PRIMARY KEY
		CONSTRAINT tiers_name_check CHECK (
			char_length(name) >= 1
			AND char_length(name) <= 64),
	self_service bool NOT NULL DEFAULT false
);
REVOKE ALL ON overten_auth.tiers FROM PUBLIC;
COMMENT ON TABLE overten_auth.tiers IS 'plans that an org can be on; the operator adds rows';
COMMENT ON COLUMN overten_auth.tiers.name IS 'name, as verification returns it';
COMMENT ON COLUMN overten_auth.tiers.self_service IS 'whether customers may choose it themselves when they sign up';

INSERT INTO overten_auth.tiers (name, self_service) VALUES ('free', true);

CREATE TABLE overten_auth.scopes (
	name text COLLATE "C"
		CONSTRAINT scopes_pkey PRIMARY KEY
		CONSTRAINT scopes_name_check CHECK (
			name ~ '^[a-z0-9][a-z0-9._:-]{0,63}$'),
	description text NOT NULL DEFAULT '',
	self_service bool NOT NULL DEFAULT false
);
REVOKE ALL ON overten_auth.scopes FROM PUBLIC;
COMMENT ON TABLE overten_auth.scopes IS 'what a key can be given the right to do; the operator adds rows, and the application asks for them';
COMMENT ON COLUMN overten_auth.scopes.name IS 'name: 1 to 64 characters, a-z and 0-9, and after the first also . _ : -; no wildcards';
COMMENT ON COLUMN overten_auth.scopes.description IS 'what the scope allows, for people';
COMMENT ON COLUMN overten_auth.scopes.self_service IS 'whether customers may give it to keys themselves';

CREATE TABLE overten_auth.orgs (
	org_id text COLLATE "C"
		CONSTRAINT orgs_pkey PRIMARY KEY,
	name text NOT NULL
		CONSTRAINT orgs_name_check CHECK (
			char_length(name) >= 1
			AND char_length(name) <= 100),
	tier text COLLATE "C" NOT NULL
		CONSTRAINT orgs_tier_fkey REFERENCES overten_auth.tiers,
	created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
	created_by text COLLATE "C",
	api_access_since timestamptz,
	suspended_at timestamptz,
	erased_at timestamptz,
	closed_at timestamptz,
	webhook_secret_sealed bytea NOT NULL,
	previous_webhook_secret_sealed bytea,
	previous_webhook_secret_until timestamptz,
	CONSTRAINT orgs_previous_webhook_secret_check CHECK (
		(previous_webhook_secret_sealed IS NULL)
		= (previous_webhook_secret_until IS NULL)),
	CONSTRAINT orgs_closed_at_check CHECK (
		closed_at IS NULL
		OR suspended_at IS NOT NULL)
) WITH (vacuum_truncate = off);
CREATE INDEX orgs_created_at_idx ON overten_auth.orgs (created_at, org_id);
CREATE INDEX orgs_created_by_idx
	ON overten_auth.orgs (created_by) WHERE created_by IS NOT NULL;
REVOKE ALL ON overten_auth.orgs FROM PUBLIC;
COMMENT ON TABLE overten_auth.orgs IS 'customers; an UPDATE removes the org''s keys from the verification caches of all sessions';
COMMENT ON COLUMN overten_auth.orgs.org_id IS 'org_ and 20 random characters';
COMMENT ON COLUMN overten_auth.orgs.name IS 'display name, not unique: 1 to 100 characters, with a visible character and no control characters, line or paragraph separators, bidirectional controls, noncharacters, or tag characters outside of flags';
COMMENT ON COLUMN overten_auth.orgs.tier IS 'the org''s plan';
COMMENT ON COLUMN overten_auth.orgs.created_at IS 'when the org was created';
COMMENT ON COLUMN overten_auth.orgs.created_by IS 'uid of the person who created the org by signing up; NULL if the application did';
COMMENT ON COLUMN overten_auth.orgs.api_access_since IS 'when the org signed up for API access; NULL if it has not';
COMMENT ON COLUMN overten_auth.orgs.suspended_at IS 'since when the org''s keys are refused; NULL if the org is not suspended';
COMMENT ON COLUMN overten_auth.orgs.erased_at IS 'when the org was erased; NULL unless it was: functions treat it like an org that does not exist';
COMMENT ON COLUMN overten_auth.orgs.closed_at IS 'since when the org is closed, which is for good and suspends it, too; NULL while it is open';
COMMENT ON COLUMN overten_auth.orgs.webhook_secret_sealed IS 'credential, sealed: format byte 1, id of the master key (8 bytes), nonce (12), ciphertext, tag (16) of AES-256-GCM with org_id as associated data; empty if the org was erased';
COMMENT ON COLUMN overten_auth.orgs.previous_webhook_secret_sealed IS 'credential, sealed in the same way: the webhook secret before the last rotation; NULL if there is no such secret';
COMMENT ON COLUMN overten_auth.orgs.previous_webhook_secret_until IS 'until when the previous webhook secret also signs';
COMMENT ON INDEX overten_auth.orgs_created_at_idx IS 'lists all orgs in order';
COMMENT ON INDEX overten_auth.orgs_created_by_idx IS 'counts the orgs that a person has created';
COMMENT ON CONSTRAINT orgs_tier_fkey ON overten_auth.orgs IS 'a tier in use cannot be removed';

CREATE TABLE overten_auth.members (
	org_id text COLLATE "C" NOT NULL
		CONSTRAINT members_org_id_fkey REFERENCES overten_auth.orgs,
	uid text COLLATE "C" NOT NULL
		CONSTRAINT members_uid_check CHECK (
			char_length(uid) >= 1
			AND char_length(uid) <= 128),
	added_at timestamptz NOT NULL DEFAULT clock_timestamp(),
	erased_at timestamptz,
	CONSTRAINT members_pkey PRIMARY KEY (org_id, uid)
);
CREATE INDEX members_uid_idx ON overten_auth.members (uid);
REVOKE ALL ON overten_auth.members FROM PUBLIC;
COMMENT ON TABLE overten_auth.members IS 'who may manage the keys of an org';
COMMENT ON COLUMN overten_auth.members.org_id IS 'the org whose keys the person may manage';
COMMENT ON COLUMN overten_auth.members.uid IS 'the person: the uid of a Firebase user, byte for byte; a pseudonym if the person was erased';
COMMENT ON COLUMN overten_auth.members.added_at IS 'when the person became a member';
COMMENT ON COLUMN overten_auth.members.erased_at IS 'when the person was erased; NULL unless that happened: such a membership lets nobody in, and does not count';
COMMENT ON INDEX overten_auth.members_uid_idx IS 'finds the orgs of a person';

CREATE TABLE overten_auth.invitations (
	invitation_id text COLLATE "C"
		CONSTRAINT invitations_pkey PRIMARY KEY,
	org_id text COLLATE "C" NOT NULL
		CONSTRAINT invitations_org_id_fkey REFERENCES overten_auth.orgs,
	digest bytea NOT NULL
		CONSTRAINT invitations_digest_key UNIQUE
		CONSTRAINT invitations_digest_check CHECK (
			octet_length(digest) = 32),
	note text
		CONSTRAINT invitations_note_check CHECK (
			char_length(note) >= 1
			AND char_length(note) <= 100),
	created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
	created_by text COLLATE "C",
	expires_at timestamptz NOT NULL,
	accepted_at timestamptz,
	accepted_by text COLLATE "C",
	CONSTRAINT invitations_accepted_check CHECK (
		(accepted_at IS NULL)
		= (accepted_by IS NULL))
);
CREATE INDEX invitations_org_id_idx
	ON overten_auth.invitations (org_id, created_at, invitation_id);
REVOKE ALL ON overten_auth.invitations FROM PUBLIC;
COMMENT ON TABLE overten_auth.invitations IS 'invitations to become a member of an org; rows of no use are removed when the org invites again';
COMMENT ON COLUMN overten_auth.invitations.invitation_id IS 'inv_ and 20 random characters';
COMMENT ON COLUMN overten_auth.invitations.org_id IS 'the org';
COMMENT ON COLUMN overten_auth.invitations.digest IS 'SHA-256 of the code';
COMMENT ON COLUMN overten_auth.invitations.note IS 'whom the invitation is for, or anything else that the org wants to know: 1 to 100 characters, by the rules of names; NULL if there is none';
COMMENT ON COLUMN overten_auth.invitations.created_at IS 'when the invitation was made';
COMMENT ON COLUMN overten_auth.invitations.created_by IS 'uid of the member who invited; NULL if the application did';
COMMENT ON COLUMN overten_auth.invitations.expires_at IS 'from when on the code is refused';
COMMENT ON COLUMN overten_auth.invitations.accepted_at IS 'when the code was used; NULL if it was not';
COMMENT ON COLUMN overten_auth.invitations.accepted_by IS 'uid of the person who used it';
COMMENT ON INDEX overten_auth.invitations_org_id_idx IS 'lists the invitations of an org in order';

CREATE TABLE overten_auth.api_keys (
	key_id text COLLATE "C"
		CONSTRAINT api_keys_pkey PRIMARY KEY,
	org_id text COLLATE "C" NOT NULL
		CONSTRAINT api_keys_org_id_fkey REFERENCES overten_auth.orgs,
	prefix text COLLATE "C" NOT NULL
		CONSTRAINT api_keys_prefix_check CHECK (
			prefix ~ '^[a-z0-9_]{1,15}_[0-9A-Za-z]{4}$'),
	environment text COLLATE "C" NOT NULL DEFAULT 'live'
		CONSTRAINT api_keys_environment_check CHECK (
			environment IN ('live', 'test')),
	revoked_at timestamptz,
	expires_at timestamptz
		CONSTRAINT api_keys_expires_at_check CHECK (
			isfinite(expires_at)),
	disabled_at timestamptz,
	erased_at timestamptz,
	scopes text[] COLLATE "C"
		CONSTRAINT api_keys_scopes_check CHECK (
			cardinality(scopes) <= 64
			AND array_position(scopes, NULL) IS NULL),
	allowed_addresses cidr[]
		CONSTRAINT api_keys_allowed_addresses_check CHECK (
			cardinality(allowed_addresses) >= 1
			AND cardinality(allowed_addresses) <= 64
			AND array_position(allowed_addresses, NULL) IS NULL),
	digest bytea NOT NULL
		CONSTRAINT api_keys_digest_key UNIQUE
		CONSTRAINT api_keys_digest_check CHECK (
			octet_length(digest) = 32),
	name text NOT NULL
		CONSTRAINT api_keys_name_check CHECK (
			char_length(name) >= 1
			AND char_length(name) <= 64),
	created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
	created_by text COLLATE "C",
	revoked_by text COLLATE "C",
	revoked_reason text,
	disabled_by text COLLATE "C",
	disabled_reason text,
	lineage text COLLATE "C",
	rotated_from text COLLATE "C",
	CONSTRAINT api_keys_disabled_check CHECK (
		disabled_at IS NOT NULL
		OR (disabled_by IS NULL
			AND disabled_reason IS NULL)),
	CONSTRAINT api_keys_erased_check CHECK (
		erased_at IS NULL
		OR revoked_at IS NOT NULL)
) WITH (vacuum_truncate = off);
CREATE INDEX api_keys_org_id_idx
	ON overten_auth.api_keys (org_id, created_at, key_id);
CREATE INDEX api_keys_rotated_from_idx
	ON overten_auth.api_keys (rotated_from) WHERE rotated_from IS NOT NULL;
CREATE INDEX api_keys_lineage_idx
	ON overten_auth.api_keys (lineage) WHERE lineage IS NOT NULL;
REVOKE ALL ON overten_auth.api_keys FROM PUBLIC;
COMMENT ON TABLE overten_auth.api_keys IS 'API keys, including revoked ones; an UPDATE removes the key from the verification caches of all sessions';
COMMENT ON COLUMN overten_auth.api_keys.key_id IS 'key_ and 20 random characters';
COMMENT ON COLUMN overten_auth.api_keys.org_id IS 'the org that is billed for the key';
COMMENT ON COLUMN overten_auth.api_keys.prefix IS 'the visible characters of the secret: its prefix and 4 more';
COMMENT ON COLUMN overten_auth.api_keys.environment IS 'live or test; a test key is refused unless overten_auth.accept_test_keys is on';
COMMENT ON COLUMN overten_auth.api_keys.revoked_at IS 'since when the key is refused for good; NULL unless it is revoked';
COMMENT ON COLUMN overten_auth.api_keys.expires_at IS 'from when on the key is refused, this moment included; NULL if it does not expire';
COMMENT ON COLUMN overten_auth.api_keys.disabled_at IS 'since when the key is refused until it is enabled; NULL unless it is disabled';
COMMENT ON COLUMN overten_auth.api_keys.erased_at IS 'when the key was purged, or its org erased; NULL unless that happened: the row only keeps the digest from being imported again, and says why the key is refused';
COMMENT ON COLUMN overten_auth.api_keys.scopes IS 'what the key may be used for: at most 64 scopes, sorted; NULL for everything';
COMMENT ON COLUMN overten_auth.api_keys.allowed_addresses IS 'the client addresses that the key can be used from: 1 to 64 networks; NULL for all';
COMMENT ON COLUMN overten_auth.api_keys.digest IS 'SHA-256 of the secret';
COMMENT ON COLUMN overten_auth.api_keys.name IS 'display name, not unique: 1 to 64 characters, with a visible character and no control characters, line or paragraph separators, bidirectional controls, noncharacters, or tag characters outside of flags';
COMMENT ON COLUMN overten_auth.api_keys.created_at IS 'when the key was minted';
COMMENT ON COLUMN overten_auth.api_keys.created_by IS 'uid of the person who minted the key; NULL if the application did';
COMMENT ON COLUMN overten_auth.api_keys.revoked_by IS 'uid of the person who revoked the key; NULL if the application did';
COMMENT ON COLUMN overten_auth.api_keys.revoked_reason IS 'why the key was revoked: 1 to 200 characters, by the rules of names';
COMMENT ON COLUMN overten_auth.api_keys.disabled_by IS 'uid of the person who disabled the key; NULL if the application did';
COMMENT ON COLUMN overten_auth.api_keys.disabled_reason IS 'why the key was disabled: 1 to 200 characters, by the rules of names';
COMMENT ON COLUMN overten_auth.api_keys.lineage IS 'key_id of the first key of a line of rotations, under which limits are counted; NULL for the first one';
COMMENT ON COLUMN overten_auth.api_keys.rotated_from IS 'key_id of the key that this one has replaced; NULL if it was not made by a rotation';
COMMENT ON INDEX overten_auth.api_keys_rotated_from_idx IS 'finds the key that has replaced another one';
COMMENT ON INDEX overten_auth.api_keys_lineage_idx IS 'finds the keys of a line of rotations';
COMMENT ON INDEX overten_auth.api_keys_org_id_idx IS 'lists the keys of an org in order';
COMMENT ON CONSTRAINT api_keys_digest_key ON overten_auth.api_keys IS 'verification uses its index';

CREATE TABLE overten_auth.limits (
	scope text COLLATE "C" NOT NULL
		CONSTRAINT limits_scope_check CHECK (
			scope IN ('tier', 'org', 'key')),
	subject text COLLATE "C" NOT NULL,
	name text COLLATE "C" NOT NULL
		CONSTRAINT limits_name_check CHECK (
			name ~ '^[a-z0-9][a-z0-9_-]{0,31}$'),
	org_id text COLLATE "C"
		CONSTRAINT limits_org_id_fkey REFERENCES overten_auth.orgs,
	quota int8 NOT NULL
		CONSTRAINT limits_quota_check CHECK (
			quota >= 1),
	period interval NOT NULL
		CONSTRAINT limits_period_check CHECK (
			CASE WHEN burst IS NULL
				THEN pg_catalog.interval_send(period) IN (
					pg_catalog.interval_send('1 day'),
					pg_catalog.interval_send('1 month'))
				ELSE period >= interval '1 second'
					AND period < interval '1 day'
					AND extract(microseconds FROM period)::int8 % 1000000 = 0 END),
	burst int8
		CONSTRAINT limits_burst_check CHECK (
			burst >= 1),
	per text COLLATE "C" NOT NULL
		CONSTRAINT limits_per_check CHECK (
			per IN ('key', 'org')),
	shadow bool NOT NULL DEFAULT false,
	anchor int4
		CONSTRAINT limits_anchor_check CHECK (
			CASE WHEN burst IS NULL AND period > interval '1 day'
				THEN anchor IS NOT NULL AND anchor BETWEEN 1 AND 28
				ELSE anchor IS NULL END),
	CONSTRAINT limits_pkey PRIMARY KEY (scope, subject, name),
	CONSTRAINT limits_subject_check CHECK (
		CASE scope
			WHEN 'tier' THEN org_id IS NULL
			WHEN 'org' THEN org_id = subject AND org_id IS NOT NULL
			ELSE org_id IS NOT NULL AND per = 'key' END)
) WITH (vacuum_truncate = off);
CREATE INDEX limits_org_id_idx
	ON overten_auth.limits (org_id) WHERE org_id IS NOT NULL;
REVOKE ALL ON overten_auth.limits FROM PUBLIC;
COMMENT ON TABLE overten_auth.limits IS 'rate limits and quotas; set them with overten_set_limit: a change removes the keys that it concerns from the caches of all sessions';
COMMENT ON COLUMN overten_auth.limits.scope IS 'tier, org or key: what the limit is set for';
COMMENT ON COLUMN overten_auth.limits.subject IS 'the name of the tier, the org_id, or the key_id of the first key of a line of rotations';
COMMENT ON COLUMN overten_auth.limits.name IS 'name: 1 to 32 characters, a-z and 0-9, and after the first also _ and -; of limits with the same name, a key has the nearest: its own, its org''s, or its tier''s';
COMMENT ON COLUMN overten_auth.limits.org_id IS 'the org that the subject is or belongs to; NULL for a tier';
COMMENT ON COLUMN overten_auth.limits.quota IS 'the cost that is admitted in each period: by a rate limit in the long run, by a quota at most';
COMMENT ON COLUMN overten_auth.limits.period IS 'the period: of a rate limit whole seconds, at least 1 second and less than a day; of a quota 1 day or 1 month, in UTC';
COMMENT ON COLUMN overten_auth.limits.burst IS 'the cost that is admitted at once after a pause; NULL for a quota';
COMMENT ON COLUMN overten_auth.limits.per IS 'key if each key has the limit for itself, org if the keys of an org share it';
COMMENT ON COLUMN overten_auth.limits.shadow IS 'whether the limit is only counted, and refuses nothing';
COMMENT ON COLUMN overten_auth.limits.anchor IS 'the day on which the months of a quota begin, 1 to 28; NULL if the period is not a month';
COMMENT ON INDEX overten_auth.limits_org_id_idx IS 'finds the limits of an org and its keys';

/* No foreign key: its row locks would write to api_keys. */
CREATE TABLE overten_auth.key_last_used (
	key_id text COLLATE "C"
		CONSTRAINT key_last_used_pkey PRIMARY KEY,
	last_used_at timestamptz
) WITH (fillfactor = 70);
REVOKE ALL ON overten_auth.key_last_used FROM PUBLIC;
COMMENT ON TABLE overten_auth.key_last_used IS 'when each key was last used; a separate table because it is written often';
COMMENT ON COLUMN overten_auth.key_last_used.key_id IS 'the key in api_keys; the row is made when the key is minted or imported';
COMMENT ON COLUMN overten_auth.key_last_used.last_used_at IS 'time of the last recorded use, precise to about a minute; NULL if no use was recorded';

/* No foreign key: its row locks would write to api_keys. */
CREATE TABLE overten_auth.key_details (
	key_id text COLLATE "C"
		CONSTRAINT key_details_pkey PRIMARY KEY,
	description text
		CONSTRAINT key_details_description_check CHECK (
			char_length(description) >= 1
			AND char_length(description) <= 500),
	metadata jsonb
		CONSTRAINT key_details_metadata_check CHECK (
			jsonb_typeof(metadata) = 'object'
			AND char_length(metadata::text) <= 4096)
);
REVOKE ALL ON overten_auth.key_details FROM PUBLIC;
COMMENT ON TABLE overten_auth.key_details IS 'what customers note about their keys; a separate table so that a change does not remove a key from the caches; verification never reads it';
COMMENT ON COLUMN overten_auth.key_details.key_id IS 'the key';
COMMENT ON COLUMN overten_auth.key_details.description IS 'what the key is for: 1 to 500 characters, by the rules of names; NULL if there is none';
COMMENT ON COLUMN overten_auth.key_details.metadata IS 'JSON object of the customer''s, at most 4096 bytes; NULL if there is none';

/*
 * No foreign key to api_keys: its row locks would write to that table.  Only the
 * background workers write to this table.
 */
CREATE TABLE overten_auth.key_usage (
	key_id text COLLATE "C" NOT NULL,
	hour timestamptz NOT NULL,
	client_addr inet,
	accepted int8 NOT NULL DEFAULT 0,
	refused int8 NOT NULL DEFAULT 0,
	first_used_at timestamptz NOT NULL,
	last_used_at timestamptz NOT NULL,
	limited int8 NOT NULL DEFAULT 0,
	CONSTRAINT key_usage_key UNIQUE NULLS NOT DISTINCT (key_id, hour, client_addr)
) WITH (fillfactor = 70);
/*
 * A publication of all tables would otherwise stop every flush.  No index can
 * be the identity, because client_addr may be NULL.
 */
ALTER TABLE overten_auth.key_usage REPLICA IDENTITY FULL;
CREATE INDEX key_usage_hour_idx ON overten_auth.key_usage (hour, key_id);
REVOKE ALL ON overten_auth.key_usage FROM PUBLIC;
COMMENT ON TABLE overten_auth.key_usage IS 'the history of each key, by hour and client address';
COMMENT ON COLUMN overten_auth.key_usage.key_id IS 'the key';
COMMENT ON COLUMN overten_auth.key_usage.hour IS 'the beginning of the hour, in UTC';
COMMENT ON COLUMN overten_auth.key_usage.client_addr IS 'client address of the requests, an IPv6 address cut to /64; NULL if it is unknown, and for all addresses of a key after the first 64 in the hour, or after the first one while memory for counting is short';
COMMENT ON COLUMN overten_auth.key_usage.accepted IS 'number of uses';
COMMENT ON COLUMN overten_auth.key_usage.refused IS 'number of attempts to use the key while it was revoked, expired or disabled, or from an address or for a purpose that it does not allow';
COMMENT ON COLUMN overten_auth.key_usage.first_used_at IS 'time of the first use or attempt';
COMMENT ON COLUMN overten_auth.key_usage.last_used_at IS 'time of the last use or attempt';
COMMENT ON COLUMN overten_auth.key_usage.limited IS 'number of requests with the key that a limit refused; they are not among those in refused';
COMMENT ON INDEX overten_auth.key_usage_hour_idx IS 'finds rows older than overten_auth.usage_retention, and how far back the history goes; includes the key, so that it is also good if the planner uses it to find a key and hour';

/*
 * Which counts from servers' shared memory the tables above already contain.
 * Not dumped: after a restart, a server counts under another source.
 */
CREATE TABLE overten_auth.usage_batches (
	source uuid
		CONSTRAINT usage_batches_pkey PRIMARY KEY,
	last_batch int8 NOT NULL,
	written_at timestamptz NOT NULL
) WITH (fillfactor = 10);
REVOKE ALL ON overten_auth.usage_batches FROM PUBLIC;
COMMENT ON TABLE overten_auth.usage_batches IS 'the last batch of uses that was written from each shared memory, stored by the transaction that wrote the batch';
COMMENT ON COLUMN overten_auth.usage_batches.source IS 'identifies the shared memory, of this server or of a standby that has sent its uses; random at each start of a server';
COMMENT ON COLUMN overten_auth.usage_batches.last_batch IS 'the number of the batch; every earlier batch was written, or never will be';
COMMENT ON COLUMN overten_auth.usage_batches.written_at IS 'when the batch was written';

/*
 * No foreign key: its row locks would write to orgs.  The rows are written in
 * the order of the primary key, and read by it.
 */
CREATE TABLE overten_auth.quota_usage (
	period_start timestamptz NOT NULL,
	subject bytea NOT NULL
		CONSTRAINT quota_usage_subject_check CHECK (
			octet_length(subject) = 16),
	org_id text COLLATE "C" NOT NULL,
	units int8 NOT NULL
		CONSTRAINT quota_usage_units_check CHECK (
			units >= 0),
	CONSTRAINT quota_usage_pkey PRIMARY KEY (period_start, subject)
) WITH (fillfactor = 70, vacuum_truncate = off);
REVOKE ALL ON overten_auth.quota_usage FROM PUBLIC;
COMMENT ON TABLE overten_auth.quota_usage IS 'what quotas have granted in each of their periods; written by a background worker, as overten_auth.key_usage is, and kept for 400 days';
COMMENT ON COLUMN overten_auth.quota_usage.period_start IS 'when the period began';
COMMENT ON COLUMN overten_auth.quota_usage.subject IS 'a digest of the name of the quota, of day or month, and of the org or the line of rotations that it counts for';
COMMENT ON COLUMN overten_auth.quota_usage.org_id IS 'the org that it counts for, or whose key it counts for';
COMMENT ON COLUMN overten_auth.quota_usage.units IS 'the cost that was admitted or charged in the period';

CREATE TABLE overten_auth.audit_log (
	audit_id uuid DEFAULT gen_random_uuid()
		CONSTRAINT audit_log_pkey PRIMARY KEY,
	at timestamptz NOT NULL DEFAULT clock_timestamp(),
	action text NOT NULL,
	org_id text COLLATE "C",
	key_id text COLLATE "C",
	actor text NOT NULL,
	uid text COLLATE "C",
	detail text
);
CREATE INDEX audit_log_org_id_idx
	ON overten_auth.audit_log (org_id, at, audit_id);
CREATE INDEX audit_log_at_idx ON overten_auth.audit_log (at);
REVOKE ALL ON overten_auth.audit_log FROM PUBLIC;
COMMENT ON TABLE overten_auth.audit_log IS 'who did what and when; append-only, except that orgs and persons can be erased, and that the worker removes rows older than overten_auth.audit_retention';
COMMENT ON COLUMN overten_auth.audit_log.audit_id IS 'a random id of the entry; it says nothing of the order, which is that of the column at';
COMMENT ON COLUMN overten_auth.audit_log.at IS 'when it happened, by the wall clock';
COMMENT ON COLUMN overten_auth.audit_log.action IS 'create_org, rename_org, close_org, set_tier, allow_api_access, suspend_api_access, add_member, remove_member, invite, withdraw_invitation, accept_invitation, mint_key, import_key, revoke_key, revoke_leaked_key, set_limit, drop_limit, load_signing_keys, rotate_webhook_secret, set_expiry, set_scopes, set_allowed_addresses, disable_key, enable_key, rename_key, set_key_details, rotate_key, reseal, purge_keys, grant_credits, erase_org or erase_person';
COMMENT ON COLUMN overten_auth.audit_log.org_id IS 'the affected org; NULL if no org or several orgs are affected';
COMMENT ON COLUMN overten_auth.audit_log.key_id IS 'the affected key; NULL if no single key is affected';
COMMENT ON COLUMN overten_auth.audit_log.actor IS 'the database role of the session (session_user)';
COMMENT ON COLUMN overten_auth.audit_log.uid IS 'the person on whose behalf the session acted; NULL if it acted for itself';
COMMENT ON COLUMN overten_auth.audit_log.detail IS 'the new tier or name, the member, the invitation, the name or new name of the key, the new expiry, scopes or addresses, the key_id of the key that replaces it, the limit, the reason, or the number of signing keys, purged keys, resealed orgs or credits; NULL if the org was erased';
COMMENT ON INDEX overten_auth.audit_log_org_id_idx IS 'shows the history of an org';
COMMENT ON INDEX overten_auth.audit_log_at_idx IS 'finds rows older than overten_auth.audit_retention';

CREATE TABLE overten_auth.idempotency_keys (
	uid text COLLATE "C" NOT NULL,
	name_digest bytea NOT NULL
		CONSTRAINT idempotency_keys_name_digest_check CHECK (
			octet_length(name_digest) = 32),
	fingerprint bytea NOT NULL
		CONSTRAINT idempotency_keys_fingerprint_check CHECK (
			octet_length(fingerprint) = 32),
	first_at timestamptz NOT NULL,
	last_at timestamptz NOT NULL,
	org_id text COLLATE "C" NOT NULL,
	key_id text COLLATE "C" NOT NULL,
	repeats int4 NOT NULL DEFAULT 0,
	CONSTRAINT idempotency_keys_pkey PRIMARY KEY (uid, name_digest)
);
CREATE INDEX idempotency_keys_first_at_idx
	ON overten_auth.idempotency_keys (first_at);
CREATE INDEX idempotency_keys_org_id_idx
	ON overten_auth.idempotency_keys (org_id);
REVOKE ALL ON overten_auth.idempotency_keys FROM PUBLIC;
COMMENT ON TABLE overten_auth.idempotency_keys IS 'requests over HTTP that had an Idempotency-Key and have created an API key; a client can repeat them, and the rows mean nothing after 24 hours';
COMMENT ON COLUMN overten_auth.idempotency_keys.uid IS 'the person who made the request';
COMMENT ON COLUMN overten_auth.idempotency_keys.name_digest IS 'SHA-256 of the Idempotency-Key';
COMMENT ON COLUMN overten_auth.idempotency_keys.fingerprint IS 'SHA-256 of method, path and body: a repeated request must have the same';
COMMENT ON COLUMN overten_auth.idempotency_keys.first_at IS 'when the first of these requests was answered';
COMMENT ON COLUMN overten_auth.idempotency_keys.last_at IS 'when the request came that has created the API key; one that came before it does not replace the key';
COMMENT ON COLUMN overten_auth.idempotency_keys.org_id IS 'the org of the API key, which the request may have created, too';
COMMENT ON COLUMN overten_auth.idempotency_keys.key_id IS 'the API key that the last of these requests has created; those before it are revoked';
COMMENT ON COLUMN overten_auth.idempotency_keys.repeats IS 'how often the API key was replaced, because the request was repeated; at most 5';
COMMENT ON INDEX overten_auth.idempotency_keys_first_at_idx IS 'finds rows that are older than 24 hours';
COMMENT ON INDEX overten_auth.idempotency_keys_org_id_idx IS 'finds the rows of an org that is erased';

/*
 * These three are written with each request that is paid for.  So they are apart
 * from orgs, whose rows are in caches, and only the first grant to an org checks
 * a foreign key, because its row lock would write to orgs.
 */
CREATE TABLE overten_auth.credits (
	org_id text COLLATE "C"
		CONSTRAINT credits_pkey PRIMARY KEY
		CONSTRAINT credits_org_id_fkey REFERENCES overten_auth.orgs,
	balance int8 NOT NULL DEFAULT 0,
	held int8 NOT NULL DEFAULT 0,
	entries int8 NOT NULL DEFAULT 0,
	CONSTRAINT credits_held_check CHECK (
		held >= 0
		AND held <= balance)
) WITH (fillfactor = 50);
REVOKE ALL ON overten_auth.credits FROM PUBLIC;
COMMENT ON TABLE overten_auth.credits IS 'prepaid credits of orgs that have ever got some; every change of them locks the row until the transaction ends';
COMMENT ON COLUMN overten_auth.credits.org_id IS 'the org';
COMMENT ON COLUMN overten_auth.credits.balance IS 'how many credits the org has: the sum of its ledger';
COMMENT ON COLUMN overten_auth.credits.held IS 'how many of them are held: the sum of the rows in credit_holds, those that have ended included';
COMMENT ON COLUMN overten_auth.credits.entries IS 'how many rows the org has in the ledger';
COMMENT ON CONSTRAINT credits_held_check ON overten_auth.credits IS 'no org spends what it does not have';

CREATE TABLE overten_auth.credit_ledger (
	org_id text COLLATE "C" NOT NULL,
	entry int8 NOT NULL,
	at timestamptz NOT NULL DEFAULT clock_timestamp(),
	kind text COLLATE "C" NOT NULL,
	amount int8 NOT NULL,
	balance int8 NOT NULL
		CONSTRAINT credit_ledger_balance_check CHECK (
			balance >= 0),
	request_id text COLLATE "C"
		CONSTRAINT credit_ledger_request_id_check CHECK (
			char_length(request_id) >= 1
			AND char_length(request_id) <= 255),
	detail text
		CONSTRAINT credit_ledger_detail_check CHECK (
			char_length(detail) >= 1
			AND char_length(detail) <= 500),
	CONSTRAINT credit_ledger_pkey PRIMARY KEY (org_id, entry),
	CONSTRAINT credit_ledger_request_id_key UNIQUE (org_id, request_id),
	CONSTRAINT credit_ledger_amount_check CHECK (
		CASE kind
			WHEN 'grant' THEN amount > 0
			WHEN 'spend' THEN amount < 0
			WHEN 'settle' THEN amount <= 0
			WHEN 'write_off' THEN amount < 0
			ELSE false
		END)
);
REVOKE ALL ON overten_auth.credit_ledger FROM PUBLIC;
COMMENT ON TABLE overten_auth.credit_ledger IS 'every change of a balance; append-only, except that an org can be erased';
COMMENT ON COLUMN overten_auth.credit_ledger.org_id IS 'the org';
COMMENT ON COLUMN overten_auth.credit_ledger.entry IS 'number of the row: 1, 2, 3 and so on for each org, in the order of the commits';
COMMENT ON COLUMN overten_auth.credit_ledger.at IS 'when the row was written, by the wall clock';
COMMENT ON COLUMN overten_auth.credit_ledger.kind IS 'grant, spend, settle (of a hold), or write_off (what the org had when it was erased)';
COMMENT ON COLUMN overten_auth.credit_ledger.amount IS 'what was added to the balance: greater than 0 for a grant, else less than 0, or 0 if a hold was settled for nothing';
COMMENT ON COLUMN overten_auth.credit_ledger.balance IS 'the balance after it';
COMMENT ON COLUMN overten_auth.credit_ledger.request_id IS 'names the request: 1 to 255 characters, by the rules of uids; NULL if a grant has no name, or the org was erased';
COMMENT ON COLUMN overten_auth.credit_ledger.detail IS 'the reason of a grant, or what the credits were spent for; NULL if there is none, or the org was erased';
COMMENT ON CONSTRAINT credit_ledger_request_id_key ON overten_auth.credit_ledger IS 'a request that is repeated is not paid for again';

CREATE TABLE overten_auth.credit_holds (
	org_id text COLLATE "C" NOT NULL,
	request_id text COLLATE "C" NOT NULL
		CONSTRAINT credit_holds_request_id_check CHECK (
			char_length(request_id) >= 1
			AND char_length(request_id) <= 255),
	amount int8 NOT NULL
		CONSTRAINT credit_holds_amount_check CHECK (
			amount > 0),
	created_at timestamptz NOT NULL,
	expires_at timestamptz NOT NULL,
	CONSTRAINT credit_holds_pkey PRIMARY KEY (org_id, request_id)
);
CREATE INDEX credit_holds_expires_at_idx
	ON overten_auth.credit_holds (org_id, expires_at);
REVOKE ALL ON overten_auth.credit_holds FROM PUBLIC;
COMMENT ON TABLE overten_auth.credit_holds IS 'credits that are held for work that is not done yet; a row goes when the hold is settled or released, or after its end when the org needs the credits';
COMMENT ON COLUMN overten_auth.credit_holds.org_id IS 'the org';
COMMENT ON COLUMN overten_auth.credit_holds.request_id IS 'names the request, as in credit_ledger';
COMMENT ON COLUMN overten_auth.credit_holds.amount IS 'how many credits are held';
COMMENT ON COLUMN overten_auth.credit_holds.created_at IS 'when the hold began';
COMMENT ON COLUMN overten_auth.credit_holds.expires_at IS 'from when on the row holds nothing, and cannot be settled';
COMMENT ON INDEX overten_auth.credit_holds_expires_at_idx IS 'finds the holds of an org that have ended';

/* Not dumped: restoring a backup must not bring back withdrawn keys. */
CREATE TABLE overten_auth.signing_keys (
	kid text COLLATE "C"
		CONSTRAINT signing_keys_pkey PRIMARY KEY
		CONSTRAINT signing_keys_kid_check CHECK (
			octet_length(kid) >= 1),
	public_key bytea NOT NULL,
	expires_at timestamptz,
	certificate_expires_at timestamptz,
	loaded_at timestamptz NOT NULL DEFAULT clock_timestamp()
) WITH (vacuum_truncate = off);
REVOKE ALL ON overten_auth.signing_keys FROM PUBLIC;
COMMENT ON TABLE overten_auth.signing_keys IS 'keys that check the signatures of Firebase ID tokens; anybody who can write to this table can log in as any user; not dumped: after a restore, load them again with overten_load_signing_keys, or have them fetched with overten_refresh_signing_keys';
COMMENT ON COLUMN overten_auth.signing_keys.kid IS 'key id, compared byte for byte';
COMMENT ON COLUMN overten_auth.signing_keys.public_key IS 'RSA key as SubjectPublicKeyInfo in DER';
COMMENT ON COLUMN overten_auth.signing_keys.expires_at IS 'from when on the key is not used; NULL if it does not expire';
COMMENT ON COLUMN overten_auth.signing_keys.certificate_expires_at IS 'when the key''s certificate expires; expires_at is never later; NULL if the key came as a JWK';
COMMENT ON COLUMN overten_auth.signing_keys.loaded_at IS 'when the key''s set was loaded';


/*
 * Triggers
 *
 * Those that invalidate caches have a name that comes before others: if another
 * trigger of the same row verifies a key, no cache may answer it any more.
 */

CREATE FUNCTION overten_auth.invalidate_caches() RETURNS trigger
	LANGUAGE c AS 'MODULE_PATHNAME', 'overten_invalidate_caches';
REVOKE ALL ON FUNCTION overten_auth.invalidate_caches FROM PUBLIC;
COMMENT ON FUNCTION overten_auth.invalidate_caches IS 'removes what depends on the row from the caches of all sessions when the transaction commits, and makes the commit wait for its WAL';

CREATE TRIGGER "0_invalidate_caches"
	AFTER UPDATE OR DELETE ON overten_auth.orgs
	FOR EACH ROW EXECUTE FUNCTION overten_auth.invalidate_caches();
ALTER TABLE overten_auth.orgs ENABLE ALWAYS TRIGGER "0_invalidate_caches";
COMMENT ON TRIGGER "0_invalidate_caches" ON overten_auth.orgs IS 'makes a change take effect at once; never disable it, or other sessions would go on accepting the keys of a suspended org from their caches';

CREATE TRIGGER "0_invalidate_caches"
	AFTER UPDATE OR DELETE ON overten_auth.api_keys
	FOR EACH ROW EXECUTE FUNCTION overten_auth.invalidate_caches();
ALTER TABLE overten_auth.api_keys ENABLE ALWAYS TRIGGER "0_invalidate_caches";
COMMENT ON TRIGGER "0_invalidate_caches" ON overten_auth.api_keys IS 'makes a change take effect at once; never disable it, or other sessions would go on accepting a revoked key from their caches';

CREATE TRIGGER "0_invalidate_caches"
	AFTER INSERT OR UPDATE OR DELETE ON overten_auth.limits
	FOR EACH ROW EXECUTE FUNCTION overten_auth.invalidate_caches();
ALTER TABLE overten_auth.limits ENABLE ALWAYS TRIGGER "0_invalidate_caches";
COMMENT ON TRIGGER "0_invalidate_caches" ON overten_auth.limits IS 'makes a change take effect at once; never disable it, or other sessions would go on with the limits in their caches';

CREATE TRIGGER "0_invalidate_caches"
	AFTER INSERT OR UPDATE OR DELETE ON overten_auth.signing_keys
	FOR EACH ROW EXECUTE FUNCTION overten_auth.invalidate_caches();
ALTER TABLE overten_auth.signing_keys ENABLE ALWAYS TRIGGER "0_invalidate_caches";
COMMENT ON TRIGGER "0_invalidate_caches" ON overten_auth.signing_keys IS 'makes a change take effect at once; never disable it, or other sessions would go on accepting tokens of a withdrawn key from their caches';

CREATE FUNCTION overten_auth.refuse_change() RETURNS trigger
	LANGUAGE c AS 'MODULE_PATHNAME', 'overten_refuse_change';
REVOKE ALL ON FUNCTION overten_auth.refuse_change FROM PUBLIC;
COMMENT ON FUNCTION overten_auth.refuse_change IS 'refuses UPDATE, DELETE and TRUNCATE of an append-only table, unless overten_erase_org, overten_erase_person or the worker does it';

CREATE TRIGGER refuse_change
	BEFORE UPDATE OR DELETE OR TRUNCATE ON overten_auth.audit_log
	FOR EACH STATEMENT EXECUTE FUNCTION overten_auth.refuse_change();
ALTER TABLE overten_auth.audit_log ENABLE ALWAYS TRIGGER refuse_change;
COMMENT ON TRIGGER refuse_change ON overten_auth.audit_log IS 'keeps the log append-only';

CREATE TRIGGER refuse_change
	BEFORE UPDATE OR DELETE OR TRUNCATE ON overten_auth.credit_ledger
	FOR EACH STATEMENT EXECUTE FUNCTION overten_auth.refuse_change();
ALTER TABLE overten_auth.credit_ledger ENABLE ALWAYS TRIGGER refuse_change;
COMMENT ON TRIGGER refuse_change ON overten_auth.credit_ledger IS 'keeps the ledger append-only';


/* Keys */

CREATE FUNCTION @extschema@.overten_mint_key(
	org_id text,
	name text DEFAULT 'primary',
	expires_at timestamptz DEFAULT NULL,
	scopes text[] DEFAULT NULL,
	allowed_addresses cidr[] DEFAULT NULL,
	environment text DEFAULT 'live',
	OUT key_id text,
	OUT org_id text,
	OUT name text,
	OUT prefix text,
	OUT created_at timestamptz,
	OUT secret text)
	LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME';
REVOKE ALL ON FUNCTION @extschema@.overten_mint_key FROM PUBLIC;
COMMENT ON FUNCTION @extschema@.overten_mint_key IS
'Mints a key for an org. Returns the secret, which is stored nowhere and cannot be read again. The key is refused from expires_at on; NULL means that it does not expire, or after overten_auth.max_key_lifetime if that is set. scopes are what it may be used for: names from overten_auth.scopes; NULL means everything, and an empty array nothing. allowed_addresses are the networks that it can be used from; NULL means everywhere. environment is live or test; the secret begins with the first prefix of that environment in overten_auth.key_prefixes, and a test key is refused unless overten_auth.accept_test_keys is on. Call this function in FROM: SELECT (overten_mint_key(...)).* calls it once per column, and so mints six keys. Errors: 42704 the org does not exist; 55000 the org is closed; 22023 the name, with spaces trimmed, does not have 1 to 64 characters, or breaks a rule of names (see the column name of overten_auth.api_keys), expires_at is past, after the year 9999, or later than overten_auth.max_key_lifetime allows, there are more than 64 scopes or networks, or NULLs among them, a scope is not in overten_auth.scopes, allowed_addresses is empty, or environment is another one or has no prefix; 22004 org_id, name or environment is NULL.';

CREATE TYPE overten_auth.verified_key AS (
	key_id text,
	org_id text,
	org_name text,
	tier text,
	webhook_secret text,
	key_prefix text
);
REVOKE ALL ON TYPE overten_auth.verified_key FROM PUBLIC;
COMMENT ON TYPE overten_auth.verified_key IS 'what verification returns for an accepted key';
COMMENT ON COLUMN overten_auth.verified_key.key_id IS 'the accepted key: its key_id in api_keys, which may be logged';
COMMENT ON COLUMN overten_auth.verified_key.org_id IS 'the org that is billed for the key';
COMMENT ON COLUMN overten_auth.verified_key.org_name IS 'display name of the org';
COMMENT ON COLUMN overten_auth.verified_key.tier IS 'the org''s plan';
COMMENT ON COLUMN overten_auth.verified_key.webhook_secret IS 'signs the org''s webhooks; NULL if it cannot be unsealed';
COMMENT ON COLUMN overten_auth.verified_key.key_prefix IS 'the visible characters of the secret: its prefix and 4 more';

CREATE FUNCTION @extschema@.overten_verify_key(secret text)
	RETURNS SETOF overten_auth.verified_key ROWS 1
	LANGUAGE c VOLATILE STRICT PARALLEL UNSAFE AS 'MODULE_PATHNAME';
REVOKE ALL ON FUNCTION @extschema@.overten_verify_key FROM PUBLIC;
COMMENT ON FUNCTION @extschema@.overten_verify_key IS
'Returns the key and org of a secret in one row. Returns no row unless the secret is that of an active key whose org is not suspended. Call this function in FROM, and test whether a row came; in a condition write EXISTS (SELECT FROM overten_verify_key(...)). Never use the call itself in an expression: without a row the expression is NULL, and PL/pgSQL''s IF overten_verify_key(...) IS NULL takes that for false. Raises no error for a bad key; 55000 on a standby unless overten_auth.verify_on_standby is on and the standby is within overten_auth.max_standby_lag.';

CREATE FUNCTION @extschema@.overten_verify_key_digest(digest bytea)
	RETURNS SETOF overten_auth.verified_key ROWS 1
	LANGUAGE c VOLATILE STRICT PARALLEL UNSAFE AS 'MODULE_PATHNAME';
REVOKE ALL ON FUNCTION @extschema@.overten_verify_key_digest FROM PUBLIC;
COMMENT ON FUNCTION @extschema@.overten_verify_key_digest IS
'Like overten_verify_key, but takes the SHA-256 of the secret (32 bytes), for callers that hash before they call. A digest is a credential to roles that may execute this function: never grant it together with SELECT on overten_auth.api_keys.';

CREATE FUNCTION @extschema@.overten_list_keys(org_id text)
	RETURNS TABLE (
		key_id text,
		name text,
		prefix text,
		created_at timestamptz,
		last_used_at timestamptz,
		revoked_at timestamptz)
	LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME';
REVOKE ALL ON FUNCTION @extschema@.overten_list_keys FROM PUBLIC;
COMMENT ON FUNCTION @extschema@.overten_list_keys IS
'Returns the keys of an org, including revoked ones, in the order of their creation. Errors: 42704 the org does not exist; 22004 the argument is NULL.';

CREATE FUNCTION @extschema@.overten_find_keys(
	org_id text,
	status text DEFAULT NULL,
	unused_since timestamptz DEFAULT NULL,
	"limit" int4 DEFAULT NULL,
	after text DEFAULT NULL,
	environment text DEFAULT NULL)
	RETURNS TABLE (
		key_id text,
		name text,
		prefix text,
		created_at timestamptz,
		last_used_at timestamptz,
		revoked_at timestamptz,
		status text,
		expires_at timestamptz,
		disabled_at timestamptz,
		scopes text[],
		allowed_addresses cidr[],
		created_by text,
		revoked_by text,
		revoked_reason text,
		disabled_by text,
		disabled_reason text,
		environment text)
	LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME';
REVOKE ALL ON FUNCTION @extschema@.overten_find_keys FROM PUBLIC;
COMMENT ON FUNCTION @extschema@.overten_find_keys IS
'Returns the keys of an org that fulfill all the conditions that are not NULL, in the order of their creation. status is active, or the first reason to refuse the key: revoked, expired or disabled. unused_since selects the keys that were created before that time, and were not used since; uses that are only counted in shared memory count, too. limit is the greatest number of rows. after is the key_id of a key of the org, of any status: the rows begin after that key, so the last key_id of a page leads to the next page. environment is live or test. Errors: 42704 the org does not exist, or it has no such key as after; 22023 status or environment is another text, or limit is less than 1; 22004 org_id is NULL.';

CREATE FUNCTION @extschema@.overten_describe_key(org_id text, key_id text)
	RETURNS TABLE (
		name text,
		prefix text,
		created_at timestamptz,
		created_by text,
		revoked_at timestamptz,
		revoked_by text,
		revoked_reason text)
	LANGUAGE c VOLATILE PARALLEL UNSAFE ROWS 1 AS 'MODULE_PATHNAME';
REVOKE ALL ON FUNCTION @extschema@.overten_describe_key FROM PUBLIC;
COMMENT ON FUNCTION @extschema@.overten_describe_key IS
'Returns one row: who minted a key of an org, who revoked it, and why. created_by and revoked_by are uids; NULL if the application did it. revoked_reason is NULL if no reason was given. Errors: 42704 the org has no such key; 22004 an argument is NULL.';

CREATE FUNCTION @extschema@.overten_revoke_key(
	org_id text,
	key_id text,
	reason text DEFAULT NULL)
	RETURNS bool
	LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME';
REVOKE ALL ON FUNCTION @extschema@.overten_revoke_key FROM PUBLIC;
COMMENT ON FUNCTION @extschema@.overten_revoke_key IS
'Revokes a key for good; all sessions refuse it as soon as the transaction has committed. Returns true if this call revoked the key, and false if it was revoked before; in that case the first time and reason stay. Errors: 42704 the org has no such key; 22023 the reason, with spaces trimmed, does not have 1 to 200 characters, or breaks a rule of names (see the column name of overten_auth.api_keys); 22004 an id is NULL.';

CREATE FUNCTION @extschema@.overten_revoke_keys_of(
	uid text,
	reason text DEFAULT NULL)
	RETURNS int8
	LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME';
REVOKE ALL ON FUNCTION @extschema@.overten_revoke_keys_of FROM PUBLIC;
COMMENT ON FUNCTION @extschema@.overten_revoke_keys_of IS
'Revokes for good the keys of all orgs that a person, identified by Firebase uid, has minted, and returns how many there were. Keys that the application minted have no such person. Waits for transactions that are minting keys for orgs of the person. Errors: 22023 the uid, or the reason, as for overten_revoke_key; 22004 the uid is NULL; 40001 the transaction is above READ COMMITTED and a key was minted after it began.';

CREATE FUNCTION @extschema@.overten_rename_key(
	org_id text,
	key_id text,
	name text)
	RETURNS bool
	LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME';
REVOKE ALL ON FUNCTION @extschema@.overten_rename_key FROM PUBLIC;
COMMENT ON FUNCTION @extschema@.overten_rename_key IS
'Gives a key another name, also if it is revoked. Returns true if that changed anything. Errors: 42704 the org has no such key; 22023 the name, as for overten_mint_key; 22004 an argument is NULL.';

CREATE FUNCTION @extschema@.overten_set_key_details(
	org_id text,
	key_id text,
	description text,
	metadata jsonb)
	RETURNS bool
	LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME';
REVOKE ALL ON FUNCTION @extschema@.overten_set_key_details FROM PUBLIC;
COMMENT ON FUNCTION @extschema@.overten_set_key_details IS
'Replaces the description and the metadata of a key; NULL removes them. Verification does not read them, and no cache loses the key. Returns true if that changed anything. Errors: 42704 the org has no such key; 22023 the description, with spaces trimmed, does not have 1 to 500 characters, or breaks a rule of names (see the column name of overten_auth.api_keys), or metadata is not an object, or its text has more than 4096 bytes in UTF-8; 22004 an id is NULL.';

CREATE FUNCTION @extschema@.overten_key_details(
	org_id text,
	key_id text,
	OUT description text,
	OUT metadata jsonb)
	LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME';
REVOKE ALL ON FUNCTION @extschema@.overten_key_details FROM PUBLIC;
COMMENT ON FUNCTION @extschema@.overten_key_details IS
'Returns the description and the metadata of a key, in one row; NULL is what is not set. Errors: 42704 the org has no such key; 22004 an argument is NULL.';

CREATE FUNCTION @extschema@.overten_set_expiry(
	org_id text,
	key_id text,
	at timestamptz)
	RETURNS bool
	LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME';
REVOKE ALL ON FUNCTION @extschema@.overten_set_expiry FROM PUBLIC;
COMMENT ON FUNCTION @extschema@.overten_set_expiry IS
'Sets from when on a key is refused, this moment included; NULL means never. A time that is past ends the key at once, and a later time makes it valid again, whatever overten_auth.max_keys_per_org says. All sessions follow as soon as the transaction has committed. Returns true if that changed anything. Errors: 42704 the org has no such key; 55000 the key is revoked; 22023 the time is not in the years 1970 to 9999, or later than overten_auth.max_key_lifetime after the key was created, and not sooner than the expiry that the key has; 22004 an id is NULL.';

CREATE FUNCTION @extschema@.overten_disable_key(
	org_id text,
	key_id text,
	reason text DEFAULT NULL)
	RETURNS bool
	LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME';
REVOKE ALL ON FUNCTION @extschema@.overten_disable_key FROM PUBLIC;
COMMENT ON FUNCTION @extschema@.overten_disable_key IS
'Disables a key until it is enabled; all sessions refuse it as soon as the transaction has committed. A key that the application has disabled is not enabled over HTTP. Returns true if that changed anything, and false if the application has disabled the key before; in that case the first time and reason stay. Errors: 42704 the org has no such key; 55000 the key is revoked; 22023 the reason, as for overten_revoke_key; 22004 an id is NULL.';

CREATE FUNCTION @extschema@.overten_enable_key(org_id text, key_id text)
	RETURNS bool
	LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME';
REVOKE ALL ON FUNCTION @extschema@.overten_enable_key FROM PUBLIC;
COMMENT ON FUNCTION @extschema@.overten_enable_key IS
'Undoes overten_disable_key, whoever has disabled the key. Returns true if that changed anything. Errors: 42704 the org has no such key; 55000 the key is revoked; 22004 an id is NULL.';

CREATE FUNCTION @extschema@.overten_set_scopes(
	org_id text,
	key_id text,
	scopes text[])
	RETURNS bool
	LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME';
REVOKE ALL ON FUNCTION @extschema@.overten_set_scopes FROM PUBLIC;
COMMENT ON FUNCTION @extschema@.overten_set_scopes IS
'Sets what a key may be used for: names from overten_auth.scopes; an empty array for nothing, NULL for everything. All sessions follow as soon as the transaction has committed. Returns true if that changed anything. Errors: 42704 the org has no such key; 55000 the key is revoked; 22023 there are more than 64 scopes, or NULLs among them, or one is not in overten_auth.scopes; 22004 an id is NULL.';

CREATE FUNCTION @extschema@.overten_set_allowed_addresses(
	org_id text,
	key_id text,
	allowed_addresses cidr[])
	RETURNS bool
	LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME';
REVOKE ALL ON FUNCTION @extschema@.overten_set_allowed_addresses FROM PUBLIC;
COMMENT ON FUNCTION @extschema@.overten_set_allowed_addresses IS
'Sets the networks that a key can be used from; NULL for everywhere. overten_check_addresses says whom that would lock out. A request whose client address is unknown is refused. All sessions follow as soon as the transaction has committed. Returns true if that changed anything. Errors: 42704 the org has no such key; 55000 the key is revoked; 22023 there is no network, there are more than 64, or NULLs among them; 22004 an id is NULL.';

CREATE FUNCTION @extschema@.overten_key_restrictions(
	org_id text,
	key_id text DEFAULT NULL)
	RETURNS TABLE (
		key_id text,
		name text,
		status text,
		expires_at timestamptz,
		disabled_at timestamptz,
		disabled_by text,
		disabled_reason text,
		scopes text[],
		allowed_addresses cidr[])
	LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME';
REVOKE ALL ON FUNCTION @extschema@.overten_key_restrictions FROM PUBLIC;
COMMENT ON FUNCTION @extschema@.overten_key_restrictions IS
'Returns what restricts the keys of an org, or one key of it, in the order of their creation. status is revoked, expired, disabled or active, the first of these that holds. disabled_by is a uid; NULL if the application did it. NULL in expires_at, scopes or allowed_addresses means that the key is not restricted in this way. Errors: 42704 the org does not exist, or has no such key; 22004 org_id is NULL.';

CREATE FUNCTION @extschema@.overten_rotate_key(
	org_id text,
	key_id text,
	overlap interval DEFAULT '24 hours',
	OUT key_id text,
	OUT org_id text,
	OUT name text,
	OUT prefix text,
	OUT created_at timestamptz,
	OUT secret text,
	OUT previous_key_id text,
	OUT previous_expires_at timestamptz)
	LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME';
REVOKE ALL ON FUNCTION @extschema@.overten_rotate_key FROM PUBLIC;
COMMENT ON FUNCTION @extschema@.overten_rotate_key IS
'Mints a key that replaces another one, with the same name, environment, scopes, allowed addresses, description and metadata. Returns the secret, which is stored nowhere and cannot be read again. The old key is good until the overlap is over, or its own expiry if that comes first; an overlap of 0 revokes it. The new key has the expiry of the old one, unless that is what overten_auth.max_key_lifetime gives. Call this function in FROM: SELECT (overten_rotate_key(...)).* calls it once per column. Errors: 42704 the org has no such key; 55000 the key is revoked, expired or disabled, the key before it or after it in its line of rotations is still good (the detail has its key_id), or overten_auth.key_prefixes has no prefix for its environment; 22023 the overlap is negative or longer than 30 days; 22004 an argument is NULL; 40001 the transaction is above READ COMMITTED and the key has changed since it began.';

CREATE FUNCTION @extschema@.overten_rotation_progress(
	org_id text,
	key_id text)
	RETURNS TABLE (
		key_id text,
		is_new bool,
		rotated_at timestamptz,
		ends_at timestamptz,
		client_addr inet,
		accepted int8,
		refused int8,
		limited int8,
		last_used_at timestamptz)
	LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME';
REVOKE ALL ON FUNCTION @extschema@.overten_rotation_progress FROM PUBLIC;
COMMENT ON FUNCTION @extschema@.overten_rotation_progress IS
'Returns who has used the two keys of a rotation since then: the last rotation that the key was part of, as the old key or as the new one. The old key comes first. There is one row for each key and client address, the last one to use it first. A key without a use since the rotation has one row without an address, in which last_used_at can be before the rotation. The hour of the rotation counts as a whole. ends_at: when the key expires, has expired or was revoked. There are no rows if the key was never rotated. Errors: 42704 the org has no such key; 22004 an argument is NULL.';

CREATE FUNCTION @extschema@.overten_slot(digest bytea)
	RETURNS int4
	LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'overten_slot_of_digest';
REVOKE ALL ON FUNCTION @extschema@.overten_slot(bytea) FROM PUBLIC;
COMMENT ON FUNCTION @extschema@.overten_slot(bytea) IS
'Returns the slot of the key that has this digest: 0 to 1023. Error: 22023 the digest does not have 32 bytes.';

CREATE FUNCTION @extschema@.overten_slot(id text)
	RETURNS int4
	LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'overten_slot_of_text';
REVOKE ALL ON FUNCTION @extschema@.overten_slot(text) FROM PUBLIC;
COMMENT ON FUNCTION @extschema@.overten_slot(text) IS
'Returns the slot of an org or a person by id, or of a key by its secret: that of the text''s SHA-256, 0 to 1023. With overten_auth.slots, a key has the slot of its org. Error: 22023 the text has more than 1024 bytes.';

CREATE FUNCTION @extschema@.overten_key_checksum_ok(key text)
	RETURNS bool
	LANGUAGE c STABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME';
REVOKE ALL ON FUNCTION @extschema@.overten_key_checksum_ok FROM PUBLIC;
COMMENT ON FUNCTION @extschema@.overten_key_checksum_ok IS
'Returns whether a text has the shape of a minted key, with a prefix of overten_auth.key_prefixes, and its checksum (CRC-32/ISO-HDLC of all but its last 6 characters, in base 62). Does not read any table, so the result does not say whether the key is active.';

CREATE FUNCTION overten_auth.key_prefixes()
	RETURNS TABLE (prefix text, environment text)
	LANGUAGE c STABLE PARALLEL SAFE AS 'MODULE_PATHNAME', 'overten_key_prefixes';
REVOKE ALL ON FUNCTION overten_auth.key_prefixes FROM PUBLIC;
COMMENT ON FUNCTION overten_auth.key_prefixes IS
'Returns the prefixes in overten_auth.key_prefixes, in the same order.';

CREATE FUNCTION @extschema@.overten_revoke_leaked(
	secret text,
	reason text DEFAULT NULL,
	rotate_webhook_secret bool DEFAULT false)
	RETURNS bool
	LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME';
REVOKE ALL ON FUNCTION @extschema@.overten_revoke_leaked FROM PUBLIC;
COMMENT ON FUNCTION @extschema@.overten_revoke_leaked IS
'Revokes the key with this secret for good, in any org, and with any prefix. Returns true if this call revoked the key, false if it was revoked before, in which case the first time and reason stay, and NULL if no key has this secret, whatever the text looks like. Anybody who has a key can see its org''s webhook secret, and could forge webhooks even after the revocation. So rotate_webhook_secret replaces that secret, too, without a grace period, unless it was replaced after the revocation and no grace period is left; a leak that is reported again changes nothing. The new webhook secret is not returned: overten_verify_key shows it with another key of the org. Errors: 22004 the secret or rotate_webhook_secret is NULL; 22023 the reason, with spaces trimmed, does not have 1 to 200 characters, or breaks a rule of names (see the column name of overten_auth.api_keys); 40001 the transaction is above READ COMMITTED and the key was minted after it began; 55000 there is no master key for a new webhook secret, and nothing is revoked: call again without rotate_webhook_secret.';

CREATE FUNCTION @extschema@.overten_revoke_all(
	org_id text,
	reason text DEFAULT NULL,
	rotate_webhook_secret bool DEFAULT false)
	RETURNS int8
	LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME';
REVOKE ALL ON FUNCTION @extschema@.overten_revoke_all FROM PUBLIC;
COMMENT ON FUNCTION @extschema@.overten_revoke_all IS
'Revokes all keys of an org for good that are not revoked yet, and returns how many there were. Waits for transactions that are minting keys for the org. rotate_webhook_secret also replaces the org''s webhook secret at each call, without a grace period; the new one is not returned: overten_verify_key shows it with a new key. Errors: 42704 the org does not exist; 22023 the reason, as for overten_revoke_leaked; 22004 org_id or rotate_webhook_secret is NULL; 40001 the transaction is above READ COMMITTED and a key was minted after it began; 55000 as for overten_revoke_leaked.';

CREATE FUNCTION @extschema@.overten_import_key(
	org_id text,
	name text,
	digest bytea,
	prefix text,
	created_at timestamptz DEFAULT NULL,
	expires_at timestamptz DEFAULT NULL,
	scopes text[] DEFAULT NULL,
	allowed_addresses cidr[] DEFAULT NULL)
	RETURNS text
	LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME';
REVOKE ALL ON FUNCTION @extschema@.overten_import_key FROM PUBLIC;
COMMENT ON FUNCTION @extschema@.overten_import_key IS
'Imports a key that was minted elsewhere, a prefix of overten_auth.key_prefixes and 28 alphanumeric characters, by its SHA-256 (32 bytes) and its visible characters: the prefix and 4 more. The prefix also decides whether it is a live key or a test key. Returns its new key_id. If created_at is NULL, it is the current time. expires_at, scopes and allowed_addresses restrict the key as in overten_mint_key, and NULL means no restriction; but the key may have expired already, and overten_auth.max_key_lifetime does not apply. Errors: 42704 the org does not exist; 55000 the org is closed; 23505 a key with this digest exists already, active, revoked or erased; 22023 the name, the digest''s length, the prefix, a created_at before 1970 or in the future, an expires_at that is not in the years 1970 to 9999, or scopes or allowed_addresses, as for overten_mint_key; 22004 another argument is NULL.';

CREATE FUNCTION @extschema@.overten_import_keys(
	org_ids text[],
	names text[],
	digests bytea[],
	prefixes text[],
	created_at timestamptz[] DEFAULT NULL,
	expires_at timestamptz[] DEFAULT NULL,
	scopes text[] DEFAULT NULL,
	allowed_addresses text[] DEFAULT NULL)
	RETURNS int8
	LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME';
REVOKE ALL ON FUNCTION @extschema@.overten_import_keys FROM PUBLIC;
COMMENT ON FUNCTION @extschema@.overten_import_keys IS
'Like overten_import_key, for many keys: imports all of them or none. The arrays have one value per key, as array_agg() makes them from a staging table; the scopes and the allowed_addresses of a key are the text of an array, such as array_agg(scopes::text) makes. Returns how many keys were imported. Errors: those of overten_import_key, with the row, counted from 1, in the context; 22P02 a text is not an array; 22023 the arrays differ in length, or have more than 10 million values; 22004 one of the first four arguments is NULL.';

CREATE FUNCTION @extschema@.overten_purge_keys(org_id text, before timestamptz)
	RETURNS int8
	LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME';
REVOKE ALL ON FUNCTION @extschema@.overten_purge_keys FROM PUBLIC;
COMMENT ON FUNCTION @extschema@.overten_purge_keys IS
'Purges the keys of an org that were revoked or have expired before a time: removes their names, persons, reasons and history, and leaves them out of lists and limits. Ids, prefixes, times and digests stay, so the keys are refused for good and cannot be imported again. Returns how many keys were purged by this call. Errors: 42704 the org does not exist; 22023 before is infinite or in the future; 22004 an argument is NULL; 25000 the transaction is above READ COMMITTED.';


/* Limits, and whether a request may go on */

CREATE FUNCTION @extschema@.overten_set_limit(
	scope text,
	subject text,
	name text,
	quota int8,
	period interval,
	burst int8 DEFAULT NULL,
	per text DEFAULT 'key',
	shadow bool DEFAULT false,
	anchor int4 DEFAULT NULL)
	RETURNS bool
	LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME';
REVOKE ALL ON FUNCTION @extschema@.overten_set_limit FROM PUBLIC;
COMMENT ON FUNCTION @extschema@.overten_set_limit IS
'Sets a rate limit: quota in each period, and burst, or quota if that is NULL, at once after a pause. If period is 1 day or 1 month, sets a quota: at most quota in each day or month of UTC, without a burst; months begin on the day anchor, or on the first if that is NULL. scope is tier, org or key, and subject the name of the tier, the org_id or the key_id. The limit of a key is that of all keys of its line of rotations. per is key if each key has the limit for itself, and org if the keys of an org share it. A shadow limit is only counted, and refuses nothing. Of limits with the same name, a key has the nearest: its own, its org''s, or its tier''s. All sessions follow as soon as the transaction has committed. A rate limit whose numbers change begins anew, with a full burst. A quota that changes keeps what was used in the period, unless anchor changes; so does one of the same name that takes its place. Returns true if that changed anything. Errors: 42704 the org or the key does not exist; 22023 the tier does not exist, the name does not have 1 to 32 characters a-z and 0-9, and after the first also _ and -, quota or burst is less than 1, period is not 1 day, 1 month, or a whole number of seconds of at least 1 second and less than 1 day (24 hours is not 1 day), a quota has a burst, anchor is not 1 to 28 or period is not 1 month, the quota of a rate limit is more than 1000000 for each second of the period, the rate limit cannot be counted exactly (the detail says when), another text is in scope or per, per is org if scope is key, or the subject has 8 other limits; 22004 an argument other than burst and anchor is NULL.';

CREATE FUNCTION @extschema@.overten_drop_limit(
	scope text,
	subject text,
	name text)
	RETURNS bool
	LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME';
REVOKE ALL ON FUNCTION @extschema@.overten_drop_limit FROM PUBLIC;
COMMENT ON FUNCTION @extschema@.overten_drop_limit IS
'Drops a rate limit or a quota. A quota that is set again in the same period has what was used. All sessions follow as soon as the transaction has committed. Returns true if that changed anything, and false if there is no such limit. Errors: 22023 scope is not tier, org or key; 22004 an argument is NULL.';

CREATE FUNCTION @extschema@.overten_list_limits(org_id text DEFAULT NULL)
	RETURNS TABLE (
		scope text,
		subject text,
		name text,
		quota int8,
		period interval,
		burst int8,
		per text,
		shadow bool,
		anchor int4)
	LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME';
REVOKE ALL ON FUNCTION @extschema@.overten_list_limits FROM PUBLIC;
COMMENT ON FUNCTION @extschema@.overten_list_limits IS
'Returns the limits of an org''s tier, of the org, and of its keys, or all limits if org_id is NULL; columns as in overten_auth.limits. overten_limit_status shows which of them count. Errors: 42704 the org does not exist.';

CREATE FUNCTION @extschema@.overten_admit(
	secret text,
	cost int8 DEFAULT 1,
	scopes text[] DEFAULT NULL,
	client_addr inet DEFAULT NULL)
	RETURNS SETOF overten_auth.verified_key ROWS 1
	LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME';
REVOKE ALL ON FUNCTION @extschema@.overten_admit FROM PUBLIC;
COMMENT ON FUNCTION @extschema@.overten_admit IS
'Returns whether a request may go on: one row, as overten_verify_key does, if the secret is that of an active key, the key has all of the scopes and allows the client address, and each of its limits grants the cost; no row otherwise. client_addr is the address of the client; NULL means the session''s. A request that is admitted consumes the cost from all limits, and counts as a use; one that is refused consumes nothing. What was consumed stays so, even if the transaction rolls back. A cost of 0 only asks. Call this function in FROM, as overten_verify_key. Errors: 22023 the cost is less than 0 or more than 1000000000, or client_addr is not a single address; 22004 the cost is NULL; 55000 the key has limits, and the library is not preloaded, does not serve the database, or has no memory left for another bucket, the key has a quota, and this is a standby, or this is a standby, and overten_auth.verify_on_standby is off or the standby is not within overten_auth.max_standby_lag.';

CREATE TYPE overten_auth.admission AS (
	outcome text,
	key_id text,
	org_id text,
	org_name text,
	tier text,
	environment text,
	key_prefix text,
	scopes text[],
	limit_name text,
	quota int8,
	remaining int8,
	retry_after interval,
	reset_after interval
);
REVOKE ALL ON TYPE overten_auth.admission FROM PUBLIC;
COMMENT ON TYPE overten_auth.admission IS 'whether a request may go on, and why not; all columns but outcome are NULL if outcome is invalid';
COMMENT ON COLUMN overten_auth.admission.outcome IS 'admitted, or the first reason to refuse the request: invalid, expired, disabled, address_not_allowed, insufficient_scope, rate_limited or quota_exceeded';
COMMENT ON COLUMN overten_auth.admission.key_id IS 'the key';
COMMENT ON COLUMN overten_auth.admission.org_id IS 'the org that is billed for the key';
COMMENT ON COLUMN overten_auth.admission.org_name IS 'display name of the org';
COMMENT ON COLUMN overten_auth.admission.tier IS 'the org''s plan';
COMMENT ON COLUMN overten_auth.admission.environment IS 'live or test';
COMMENT ON COLUMN overten_auth.admission.key_prefix IS 'the visible characters of the secret: its prefix and 4 more';
COMMENT ON COLUMN overten_auth.admission.scopes IS 'what the key may be used for; NULL for everything';
COMMENT ON COLUMN overten_auth.admission.limit_name IS 'the limit that matters: the one that refuses for the longest time or, if the request is admitted, the one with the least left; NULL if the key has no limit that is enforced, or if something else refuses the request';
COMMENT ON COLUMN overten_auth.admission.quota IS 'the quota of that limit';
COMMENT ON COLUMN overten_auth.admission.remaining IS 'the cost that this limit would admit now';
COMMENT ON COLUMN overten_auth.admission.retry_after IS 'after which time the same request can be admitted, if nothing else is admitted meanwhile; of a quota, when the next period begins; NULL unless outcome is rate_limited or quota_exceeded, and if the cost is more than the burst or the quota, so that it is never admitted';
COMMENT ON COLUMN overten_auth.admission.reset_after IS 'after which time this limit admits its whole burst again, if nothing is admitted meanwhile; of a quota, when the next period begins';

CREATE FUNCTION @extschema@.overten_admission(
	secret text,
	cost int8 DEFAULT 1,
	scopes text[] DEFAULT NULL,
	client_addr inet DEFAULT NULL)
	RETURNS overten_auth.admission
	LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME';
REVOKE ALL ON FUNCTION @extschema@.overten_admission FROM PUBLIC;
COMMENT ON FUNCTION @extschema@.overten_admission IS
'Does the same as overten_admit, and consumes the same, but always returns one row, which says why a request is refused: for front ends that tell their clients. A row is no yes: test whether outcome is admitted. Call this function in FROM: SELECT (overten_admission(...)).* calls it once per column, and so consumes 13 times the cost. Errors: as overten_admit.';

CREATE FUNCTION @extschema@.overten_charge(key_id text, cost int8)
	RETURNS void
	LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME';
REVOKE ALL ON FUNCTION @extschema@.overten_charge FROM PUBLIC;
COMMENT ON FUNCTION @extschema@.overten_charge IS
'Adds a cost to all limits of a key without asking them, for work whose cost is known only afterwards. If that is more than is left, the next requests wait until time has repaid it, or the period of the quota has ended. Also takes a key that is revoked, since its org can have limits that all of its keys share. What was added stays so, even if the transaction rolls back. Errors: 42704 the key does not exist; 22023 and 55000 as overten_admit; 22004 an argument is NULL.';

CREATE FUNCTION @extschema@.overten_limit_status(org_id text)
	RETURNS TABLE (
		key_id text,
		limit_name text,
		quota int8,
		period interval,
		burst int8,
		shadow bool,
		remaining int8,
		reset_after interval,
		refusals int8)
	LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME';
REVOKE ALL ON FUNCTION @extschema@.overten_limit_status FROM PUBLIC;
COMMENT ON FUNCTION @extschema@.overten_limit_status IS
'Returns the limits that count for an org and its keys, and what is left of each on this server: first those that the keys share, with NULL as key_id, then those of each key that is not revoked or expired, in the order of their creation. Of a line of rotations there is only the newest key. remaining is the cost that the limit would admit now; reset_after is when it admits its whole burst again, or when the next period of a quota begins. burst is NULL for a quota. A quota that this server has not been asked for, or a standby cannot count, is as its table has it. refusals is how many requests the limit has refused, or a shadow limit would have refused; it begins anew when the server starts, and can do so when memory for buckets is short. Errors: 42704 the org does not exist; 55000 the library is not preloaded or does not serve the database; 22004 the argument is NULL.';


/* The history of keys */

CREATE FUNCTION @extschema@.overten_key_usage(
	org_id text,
	key_id text,
	since timestamptz DEFAULT NULL,
	until timestamptz DEFAULT NULL)
	RETURNS TABLE (
		hour timestamptz,
		client_addr inet,
		accepted int8,
		refused int8,
		limited int8,
		first_used_at timestamptz,
		last_used_at timestamptz)
	LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME';
REVOKE ALL ON FUNCTION @extschema@.overten_key_usage FROM PUBLIC;
COMMENT ON FUNCTION @extschema@.overten_key_usage IS
'Returns the history of a key, by hour and client address, in this order. The rows are all hours that overlap the time from since (inclusive) to until (exclusive), so the hour that contains since is included as a whole. If until is NULL, it is now; if since is NULL, it is 24 hours before until. Hours without uses have no rows. Errors: 42704 the org has no such key; 22023 since is later than until, or one of them is infinite; 22004 an id is NULL.';

CREATE FUNCTION @extschema@.overten_org_usage(
	org_id text,
	since timestamptz,
	until timestamptz)
	RETURNS TABLE (
		key_id text,
		name text,
		prefix text,
		hour timestamptz,
		accepted int8,
		refused int8,
		limited int8)
	LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME';
REVOKE ALL ON FUNCTION @extschema@.overten_org_usage FROM PUBLIC;
COMMENT ON FUNCTION @extschema@.overten_org_usage IS
'Returns what to bill an org for: sums over all addresses, by live key in the order of their creation, and by hour. Test keys are not billed; overten_key_usage shows their uses. The rows are the hours that begin at since or later, and before until. Of two adjoining invoices exactly one has each hour, whether they meet at a full hour or not. Includes revoked keys; hours without uses have no rows. Errors: 42704 the org does not exist; 22023 since is later than until, or one of them is infinite; 22004 an argument is NULL.';

/*
 * The rules of overten_key_anomalies.  Each reads the history of a key, and
 * returns what a person should look at: figures and a sentence, so that the
 * person can judge.  key is the key's id, last_day a time: "the last day" is
 * since then.  The arrays are uses that are not in the table yet, one element of
 * each array for a use, in the order of the columns of key_history.  So an hour
 * and address can be in two rows, and a rule that wants one has to sum.  Without the
 * arrays the rules are about the table alone: a person who wants to try or
 * EXPLAIN one leaves them out.
 *
 * Names in these bodies were looked up when the script ran, so search_path means
 * nothing to them, and the planner can put them into the queries that call them.
 *
 * Only accepted uses count, but for the first and the last rule.  Addresses that are not known
 * are never new.  A rule that finds many addresses returns the 100 with the most
 * requests, and says in each row how many there are.
 */

CREATE FUNCTION overten_auth.key_history(
	key text,
	hours timestamptz[] DEFAULT '{}',
	client_addrs inet[] DEFAULT '{}',
	accepted_counts int8[] DEFAULT '{}',
	refused_counts int8[] DEFAULT '{}',
	limited_counts int8[] DEFAULT '{}',
	first_uses timestamptz[] DEFAULT '{}',
	last_uses timestamptz[] DEFAULT '{}')
	RETURNS TABLE (
		hour timestamptz,
		client_addr inet,
		accepted int8,
		refused int8,
		limited int8,
		first_used_at timestamptz,
		last_used_at timestamptz)
	LANGUAGE sql STABLE
BEGIN ATOMIC
	SELECT u.hour, u.client_addr, u.accepted, u.refused, u.limited, u.first_used_at, u.last_used_at
	FROM overten_auth.key_usage u
	WHERE u.key_id = key
	UNION ALL
	SELECT *
	FROM unnest(hours, client_addrs, accepted_counts, refused_counts, limited_counts, first_uses, last_uses);
END;
REVOKE ALL ON FUNCTION overten_auth.key_history FROM PUBLIC;
COMMENT ON FUNCTION overten_auth.key_history IS
'The rows of overten_auth.key_usage of a key, and uses that are not in the table yet: arrays with one element for each, in the order of the columns.';

CREATE FUNCTION overten_auth.anomaly_used_after_revocation(
	key text,
	last_day timestamptz,
	hours timestamptz[] DEFAULT '{}',
	client_addrs inet[] DEFAULT '{}',
	accepted_counts int8[] DEFAULT '{}',
	refused_counts int8[] DEFAULT '{}',
	limited_counts int8[] DEFAULT '{}',
	first_uses timestamptz[] DEFAULT '{}',
	last_uses timestamptz[] DEFAULT '{}')
	RETURNS TABLE (
		kind text,
		client_addr inet,
		first_at timestamptz,
		last_at timestamptz,
		observed int8,
		expected numeric,
		reference_at timestamptz,
		detail text)
	LANGUAGE sql STABLE
BEGIN ATOMIC
	WITH attempt AS (
		SELECT u.client_addr, min(u.first_used_at) AS first_at,
			max(u.last_used_at) AS last_at, sum(u.refused) AS refused
		FROM overten_auth.key_history(key, hours, client_addrs,
			accepted_counts, refused_counts, limited_counts, first_uses, last_uses) u
		JOIN overten_auth.api_keys k ON k.key_id = key AND u.last_used_at >= k.revoked_at
		WHERE u.refused > 0
		GROUP BY u.client_addr),
	ranked AS (
		SELECT a.client_addr, a.first_at, a.last_at, a.refused,
			row_number() OVER (ORDER BY a.refused DESC, a.client_addr) > 99
				AND count(*) OVER () > 100 AS rest
		FROM attempt a),
	-- The sum of "observed" is that of all requests.
	shown AS (
		SELECT CASE WHEN NOT r.rest THEN r.client_addr END AS client_addr, r.rest,
			min(r.first_at) AS first_at, max(r.last_at) AS last_at,
			sum(r.refused) AS refused, count(*) AS addresses
		FROM ranked r
		GROUP BY 1, 2)
	SELECT 'used_after_revocation'::text, a.client_addr,
		greatest(a.first_at, k.revoked_at), a.last_at, least(a.refused, 9223372036854775807)::int8, 0::numeric, k.revoked_at,
		format('After the key was revoked, %s made %s of %s requests. Addresses in all: %s.',
			CASE WHEN a.rest THEN format('the other %s addresses', a.addresses)
				WHEN a.client_addr IS NULL THEN 'unknown addresses'
				ELSE format('%s', a.client_addr) END,
			a.refused, sum(a.refused) OVER (), sum(a.addresses) OVER ())
	FROM shown a
	JOIN overten_auth.api_keys k ON k.key_id = key
	ORDER BY a.refused DESC, a.client_addr;
END;
REVOKE ALL ON FUNCTION overten_auth.anomaly_used_after_revocation FROM PUBLIC;
COMMENT ON FUNCTION overten_auth.anomaly_used_after_revocation IS
'A rule of overten_key_anomalies: attempts with a key that was revoked, in all of the history, by address.';

CREATE FUNCTION overten_auth.anomaly_woke(
	key text,
	last_day timestamptz,
	hours timestamptz[] DEFAULT '{}',
	client_addrs inet[] DEFAULT '{}',
	accepted_counts int8[] DEFAULT '{}',
	refused_counts int8[] DEFAULT '{}',
	limited_counts int8[] DEFAULT '{}',
	first_uses timestamptz[] DEFAULT '{}',
	last_uses timestamptz[] DEFAULT '{}')
	RETURNS TABLE (
		kind text,
		client_addr inet,
		first_at timestamptz,
		last_at timestamptz,
		observed int8,
		expected numeric,
		reference_at timestamptz,
		detail text)
	LANGUAGE sql STABLE
BEGIN ATOMIC
	WITH use AS (
		SELECT min(u.first_used_at) FILTER (WHERE u.first_used_at >= last_day) AS woke_at,
			max(u.last_used_at) FILTER (WHERE u.first_used_at < last_day) AS slept_at,
			max(u.last_used_at) AS last_at,
			sum(u.accepted) FILTER (WHERE u.first_used_at >= last_day) AS uses
		FROM overten_auth.key_history(key, hours, client_addrs,
			accepted_counts, refused_counts, limited_counts, first_uses, last_uses) u
		WHERE u.accepted > 0),
	history AS (
		SELECT min(hour) AS since FROM overten_auth.key_usage),
	-- If there was no use before, the time of minting stands for it, provided that
	-- some key's history goes back so far: else the history has just begun.
	sleep AS (
		SELECT u.woke_at, u.slept_at, u.last_at, u.uses, h.since AS history_since,
			coalesce(u.slept_at,
				CASE WHEN h.since <= u.woke_at - interval '720 hours' THEN k.created_at END) AS since
		FROM use u
		CROSS JOIN history h
		JOIN overten_auth.api_keys k ON k.key_id = key),
	long_sleep AS (
		SELECT s.woke_at, s.slept_at, s.last_at, s.uses, s.history_since, s.since,
			floor(extract(epoch FROM s.woke_at - s.since) / 86400) AS days
		FROM sleep s
		WHERE s.since <= s.woke_at - interval '720 hours')
	SELECT 'woke'::text,
		(SELECT u.client_addr
			FROM overten_auth.key_history(key, hours, client_addrs,
				accepted_counts, refused_counts, limited_counts, first_uses, last_uses) u
			WHERE u.accepted > 0 AND u.first_used_at = s.woke_at
			ORDER BY u.client_addr
			LIMIT 1),
		s.woke_at, s.last_at, least(s.uses, 9223372036854775807)::int8, 0::numeric, s.since,
		CASE WHEN s.slept_at IS NOT NULL
			THEN format('Used again after %s days without use.', s.days)
			ELSE format('Used for the first time in the history since %s, %s days after the key was minted.',
				to_char(timezone('UTC', s.history_since), 'YYYY-MM-DD'), s.days) END
	FROM long_sleep s;
END;
REVOKE ALL ON FUNCTION overten_auth.anomaly_woke FROM PUBLIC;
COMMENT ON FUNCTION overten_auth.anomaly_woke IS
'A rule of overten_key_anomalies: the first use of the last day comes 30 days or more after the use before, or after the key was minted.';

CREATE FUNCTION overten_auth.anomaly_rise(
	key text,
	last_day timestamptz,
	hours timestamptz[] DEFAULT '{}',
	client_addrs inet[] DEFAULT '{}',
	accepted_counts int8[] DEFAULT '{}',
	refused_counts int8[] DEFAULT '{}',
	limited_counts int8[] DEFAULT '{}',
	first_uses timestamptz[] DEFAULT '{}',
	last_uses timestamptz[] DEFAULT '{}')
	RETURNS TABLE (
		kind text,
		client_addr inet,
		first_at timestamptz,
		last_at timestamptz,
		observed int8,
		expected numeric,
		reference_at timestamptz,
		detail text)
	LANGUAGE sql STABLE
BEGIN ATOMIC
	WITH hourly AS (
		SELECT u.hour, sum(u.accepted) AS uses, min(u.first_used_at) AS first_at,
			max(u.last_used_at) AS last_at
		FROM overten_auth.key_history(key, hours, client_addrs,
			accepted_counts, refused_counts, limited_counts, first_uses, last_uses) u
		WHERE u.accepted > 0
			AND u.hour >= date_trunc('hour', last_day, 'UTC') - interval '672 hours'
		GROUP BY u.hour),
	before AS (
		SELECT count(*) AS hour_count, avg(uses) AS mean, max(uses) AS most, min(hour) AS since
		FROM hourly
		WHERE hour < date_trunc('hour', last_day, 'UTC')),
	-- The largest hour before keeps a key that has its busy hour each night from
	-- being reported each night.
	peak AS (
		SELECT h.hour, h.uses, count(*) OVER () AS hour_count, min(h.first_at) OVER () AS first_at,
			max(h.last_at) OVER () AS last_at
		FROM hourly h
		JOIN before b ON b.hour_count >= 3 AND h.hour >= date_trunc('hour', last_day, 'UTC')
			AND h.uses >= 100 AND h.uses >= 10 * b.mean AND h.uses >= 2 * b.most
		ORDER BY h.uses DESC, h.hour
		LIMIT 1)
	SELECT 'rise'::text, a.client_addr, p.first_at, p.last_at, least(p.uses, 9223372036854775807)::int8, round(b.mean, 1), b.since,
		format('%s uses in the hour from %s UTC, %s of them from %s. The %s hours with use since %s had %s on average and %s at most. Hours of the last day like this: %s.',
			p.uses, to_char(timezone('UTC', p.hour), 'YYYY-MM-DD HH24:MI'), a.accepted,
			CASE WHEN a.client_addr IS NULL THEN 'unknown addresses'
				ELSE format('%s', a.client_addr) END,
			b.hour_count, to_char(timezone('UTC', b.since), 'YYYY-MM-DD'), round(b.mean, 1), b.most, p.hour_count)
	FROM before b
	CROSS JOIN peak p
	CROSS JOIN LATERAL (
		SELECT u.client_addr, sum(u.accepted) AS accepted
		FROM overten_auth.key_history(key, hours, client_addrs,
			accepted_counts, refused_counts, limited_counts, first_uses, last_uses) u
		WHERE u.accepted > 0 AND u.hour = p.hour
		GROUP BY u.client_addr
		ORDER BY accepted DESC, u.client_addr
		LIMIT 1) a;
END;
REVOKE ALL ON FUNCTION overten_auth.anomaly_rise FROM PUBLIC;
COMMENT ON FUNCTION overten_auth.anomaly_rise IS
'A rule of overten_key_anomalies: an hour of the last day with at least 100 uses, 10 times the mean of the hours with any use in the 28 days before, and twice the largest of those, of which there must be 3. One row for all such hours, with the figures of the largest and its first address.';

CREATE FUNCTION overten_auth.anomaly_new_address(
	key text,
	last_day timestamptz,
	hours timestamptz[] DEFAULT '{}',
	client_addrs inet[] DEFAULT '{}',
	accepted_counts int8[] DEFAULT '{}',
	refused_counts int8[] DEFAULT '{}',
	limited_counts int8[] DEFAULT '{}',
	first_uses timestamptz[] DEFAULT '{}',
	last_uses timestamptz[] DEFAULT '{}')
	RETURNS TABLE (
		kind text,
		client_addr inet,
		first_at timestamptz,
		last_at timestamptz,
		observed int8,
		expected numeric,
		reference_at timestamptz,
		detail text)
	LANGUAGE sql STABLE
BEGIN ATOMIC
	WITH address AS (
		SELECT u.client_addr, min(u.first_used_at) AS first_at, max(u.last_used_at) AS last_at,
			sum(u.accepted) AS uses
		FROM overten_auth.key_history(key, hours, client_addrs,
			accepted_counts, refused_counts, limited_counts, first_uses, last_uses) u
		WHERE u.accepted > 0 AND u.client_addr IS NOT NULL
		GROUP BY u.client_addr),
	history AS (
		SELECT min(a.first_at) AS since,
			count(*) FILTER (WHERE a.first_at < last_day) AS known,
			count(*) FILTER (WHERE a.first_at >= last_day) AS fresh
		FROM address a)
	SELECT 'new_address'::text, a.client_addr, a.first_at, a.last_at, least(a.uses, 9223372036854775807)::int8, 0::numeric, h.since,
		format('%s was not seen before the last day. New addresses in the last day: %s. Addresses known before, since %s: %s.',
			a.client_addr, h.fresh, to_char(timezone('UTC', h.since), 'YYYY-MM-DD'), h.known)
	FROM address a
	JOIN history h ON h.known > 0 AND a.first_at >= last_day
	ORDER BY a.uses DESC, a.client_addr
	LIMIT 100;
END;
REVOKE ALL ON FUNCTION overten_auth.anomaly_new_address FROM PUBLIC;
COMMENT ON FUNCTION overten_auth.anomaly_new_address IS
'A rule of overten_key_anomalies: an address whose first use in the history is of the last day, if the history has other addresses from before.';

CREATE FUNCTION overten_auth.anomaly_limited(
	key text,
	last_day timestamptz,
	hours timestamptz[] DEFAULT '{}',
	client_addrs inet[] DEFAULT '{}',
	accepted_counts int8[] DEFAULT '{}',
	refused_counts int8[] DEFAULT '{}',
	limited_counts int8[] DEFAULT '{}',
	first_uses timestamptz[] DEFAULT '{}',
	last_uses timestamptz[] DEFAULT '{}')
	RETURNS TABLE (
		kind text,
		client_addr inet,
		first_at timestamptz,
		last_at timestamptz,
		observed int8,
		expected numeric,
		reference_at timestamptz,
		detail text)
	LANGUAGE sql STABLE
BEGIN ATOMIC
	WITH recent AS (
		SELECT u.hour, u.client_addr, u.accepted, u.limited, u.first_used_at, u.last_used_at
		FROM overten_auth.key_history(key, hours, client_addrs,
			accepted_counts, refused_counts, limited_counts, first_uses, last_uses) u
		WHERE u.hour >= date_trunc('hour', last_day, 'UTC') - interval '48 hours'),
	-- The last day is 0; it also has the hour that has just begun.
	daily AS (
		SELECT least(floor(extract(epoch FROM r.hour - date_trunc('hour', last_day, 'UTC')) / 86400), 0) AS day,
			sum(r.accepted) AS accepted, sum(r.limited) AS limited,
			min(r.first_used_at) FILTER (WHERE r.limited > 0) AS first_at,
			max(r.last_used_at) FILTER (WHERE r.limited > 0) AS last_at
		FROM recent r
		GROUP BY 1),
	days AS (
		SELECT sum(d.accepted) AS accepted, sum(d.limited) AS limited,
			min(d.first_at) AS first_at, max(d.last_at) AS last_at
		FROM daily d
		WHERE d.limited >= 100 AND d.limited >= 10 * d.accepted
		HAVING count(*) = 3)
	SELECT 'limited'::text, a.client_addr, d.first_at, d.last_at, least(d.limited, 9223372036854775807)::int8, d.accepted,
		date_trunc('hour', last_day, 'UTC') - interval '48 hours',
		format('In the last 3 days limits refused %s requests, %s of them from %s, and %s requests were accepted.',
			d.limited, a.limited,
			CASE WHEN a.client_addr IS NULL THEN 'unknown addresses'
				ELSE format('%s', a.client_addr) END,
			d.accepted)
	FROM days d
	CROSS JOIN LATERAL (
		SELECT r.client_addr, sum(r.limited) AS limited
		FROM recent r
		GROUP BY r.client_addr
		ORDER BY limited DESC, r.client_addr
		LIMIT 1) a;
END;
REVOKE ALL ON FUNCTION overten_auth.anomaly_limited FROM PUBLIC;
COMMENT ON FUNCTION overten_auth.anomaly_limited IS
'A rule of overten_key_anomalies: on each of the last 3 days limits have refused at least 100 requests, and 10 times as many as were accepted. One row, with the sums of these days and the address with the most.';

CREATE FUNCTION @extschema@.overten_key_anomalies(
	org_id text,
	key_id text)
	RETURNS TABLE (
		kind text,
		client_addr inet,
		first_at timestamptz,
		last_at timestamptz,
		observed int8,
		expected numeric,
		reference_at timestamptz,
		detail text)
	LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME';
REVOKE ALL ON FUNCTION @extschema@.overten_key_anomalies FROM PUBLIC;
COMMENT ON FUNCTION @extschema@.overten_key_anomalies IS
'Returns the anomalies in a key''s history that a person should look at, or no rows. Kinds, in this order: used_after_revocation (in the whole history, by address), woke (used in the last 24 hours after 30 days or more without a use), rise (one of the last 24 hours had at least 100 uses, 10 times the mean and twice the maximum of the hours with uses in the 28 days before, of which there must be 3), new_address (first seen in the last 24 hours, when there were other addresses before), limited (limits have refused 10 times as many requests as were accepted, and at least 100, on each of the last 3 days). observed and expected are numbers of requests; reference_at is the revocation, the previous use (or the minting), or the beginning of the history that is compared or counted. Errors: 42704 the org has no such key; 22004 an argument is NULL.';

CREATE FUNCTION @extschema@.overten_org_anomalies(org_id text)
	RETURNS TABLE (
		org_id text,
		key_id text,
		name text,
		prefix text,
		kind text,
		client_addr inet,
		first_at timestamptz,
		last_at timestamptz,
		observed int8,
		expected numeric,
		reference_at timestamptz,
		detail text)
	LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME';
REVOKE ALL ON FUNCTION @extschema@.overten_org_anomalies FROM PUBLIC;
COMMENT ON FUNCTION @extschema@.overten_org_anomalies IS
'Returns what overten_key_anomalies returns for each key of an org, revoked ones too, in the order of the keys'' creation. Errors: 42704 the org does not exist; 22004 the argument is NULL.';

CREATE FUNCTION @extschema@.overten_all_anomalies()
	RETURNS TABLE (
		org_id text,
		key_id text,
		name text,
		prefix text,
		kind text,
		client_addr inet,
		first_at timestamptz,
		last_at timestamptz,
		observed int8,
		expected numeric,
		reference_at timestamptz,
		detail text)
	LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME';
REVOKE ALL ON FUNCTION @extschema@.overten_all_anomalies FROM PUBLIC;
COMMENT ON FUNCTION @extschema@.overten_all_anomalies IS
'Returns what overten_org_anomalies returns, for all orgs, in the order of org_id and then of the keys'' creation. Reads the tables alone: uses that were counted since the last flush (overten_auth.flush_interval) are missing.';

CREATE FUNCTION @extschema@.overten_check_addresses(
	org_id text,
	key_id text,
	allowed_addresses cidr[])
	RETURNS TABLE (
		client_addr inet,
		accepted int8,
		last_used_at timestamptz,
		outcome text)
	LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME';
REVOKE ALL ON FUNCTION @extschema@.overten_check_addresses FROM PUBLIC;
COMMENT ON FUNCTION @extschema@.overten_check_addresses IS
'Returns the client addresses that have used a key in the last 30 days and that overten_set_allowed_addresses would lock out with this list; no rows if there are none, or if the list is NULL. outcome: refused; unknown if the history does not tell, because it has IPv6 addresses as /64 and the list has a smaller network in it, or because it does not have the address. Errors: 42704 the org has no such key; 22023 the list, as for overten_set_allowed_addresses; 22004 an id is NULL.';


/* Identity */

CREATE FUNCTION @extschema@.overten_authenticate(secret text)
	RETURNS SETOF overten_auth.verified_key ROWS 1
	LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME';
REVOKE ALL ON FUNCTION @extschema@.overten_authenticate FROM PUBLIC;
COMMENT ON FUNCTION @extschema@.overten_authenticate IS
'Returns what overten_verify_key returns, one row or no row, and makes the key and its org the identity of the transaction. If the secret is NULL or refused, the transaction has no identity. ROLLBACK TO restores the identity from before the savepoint; COMMIT, ROLLBACK and PREPARE TRANSACTION clear it. Raises no error for a bad key; 55000 on a standby unless overten_auth.verify_on_standby is on and the standby is within overten_auth.max_standby_lag.';

CREATE FUNCTION @extschema@.overten_current_org() RETURNS text
	LANGUAGE c STABLE PARALLEL RESTRICTED AS 'MODULE_PATHNAME';
REVOKE ALL ON FUNCTION @extschema@.overten_current_org FROM PUBLIC;
COMMENT ON FUNCTION @extschema@.overten_current_org IS
'Returns the org_id of the identity that overten_authenticate has set in this transaction; NULL without an identity. In a policy, write (SELECT overten_current_org()), which calls it once per statement. Errors: 25000 in a parallel worker; that happens only if a function that calls this one is wrongly marked PARALLEL SAFE.';

CREATE FUNCTION @extschema@.overten_current_key() RETURNS text
	LANGUAGE c STABLE PARALLEL RESTRICTED AS 'MODULE_PATHNAME';
REVOKE ALL ON FUNCTION @extschema@.overten_current_key FROM PUBLIC;
COMMENT ON FUNCTION @extschema@.overten_current_key IS
'Returns the key_id of the identity, like overten_current_org.';

CREATE FUNCTION @extschema@.overten_has_scope(scope text) RETURNS bool
	LANGUAGE c STABLE PARALLEL RESTRICTED AS 'MODULE_PATHNAME';
REVOKE ALL ON FUNCTION @extschema@.overten_has_scope FROM PUBLIC;
COMMENT ON FUNCTION @extschema@.overten_has_scope IS
'Returns whether the key of the identity has a scope. A key without scopes of its own has all. Returns false without an identity, and for NULL. In a policy, write (SELECT overten_has_scope(...)), which calls it once per statement. Keys with scopes become the identity only if overten_auth.verify_restricted is on. Errors: as overten_current_org.';


/* Orgs */

CREATE FUNCTION @extschema@.overten_create_org(
	name text,
	tier text DEFAULT 'free',
	OUT org_id text,
	OUT name text,
	OUT tier text,
	OUT created_at timestamptz)
	LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME';
REVOKE ALL ON FUNCTION @extschema@.overten_create_org FROM PUBLIC;
COMMENT ON FUNCTION @extschema@.overten_create_org IS
'Creates an org. Call this function in FROM: SELECT (overten_create_org(...)).* calls it once per column, and so creates four orgs. Errors: 22023 the name, with spaces trimmed, does not have 1 to 100 characters, or breaks a rule of names (see the column name of overten_auth.orgs), or the tier does not exist; 22004 an argument is NULL.';

CREATE FUNCTION @extschema@.overten_set_tier(org_id text, tier text)
	RETURNS bool
	LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME';
REVOKE ALL ON FUNCTION @extschema@.overten_set_tier FROM PUBLIC;
COMMENT ON FUNCTION @extschema@.overten_set_tier IS
'Moves an org to a tier. Returns true if that changed it. Errors: 42704 the org does not exist; 22023 the tier does not exist; 22004 an argument is NULL.';

CREATE FUNCTION @extschema@.overten_set_api_access(org_id text, allowed bool)
	RETURNS bool
	LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME';
REVOKE ALL ON FUNCTION @extschema@.overten_set_api_access FROM PUBLIC;
COMMENT ON FUNCTION @extschema@.overten_set_api_access IS
'False suspends an org: its keys are refused, but not changed. True resumes the org, and signs it up for API access if it has not signed up. Returns true if that changed anything. Errors: 42704 the org does not exist; 55000 access is allowed to a closed org; 22004 an argument is NULL.';

CREATE FUNCTION @extschema@.overten_add_member(org_id text, uid text)
	RETURNS bool
	LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME';
REVOKE ALL ON FUNCTION @extschema@.overten_add_member FROM PUBLIC;
COMMENT ON FUNCTION @extschema@.overten_add_member IS
'Lets a person, identified by Firebase uid, manage the keys of an org. A uid has 1 to 128 characters; the first and the last must be visible, and characters that are forbidden in names are forbidden here, too. Returns true if that changed anything. Errors: 42704 the org does not exist; 22023 the uid; 22004 an argument is NULL.';

CREATE FUNCTION @extschema@.overten_remove_member(org_id text, uid text)
	RETURNS bool
	LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME';
REVOKE ALL ON FUNCTION @extschema@.overten_remove_member FROM PUBLIC;
COMMENT ON FUNCTION @extschema@.overten_remove_member IS
'Undoes overten_add_member; keys that the person minted stay, and a NOTICE counts the active ones. Returns true if that changed anything. Errors: 42704 the org does not exist; 55000 the person is the last member of an org that has active keys and is not suspended; 22023 the uid; 22004 an argument is NULL.';

CREATE FUNCTION @extschema@.overten_list_orgs(uid text)
	RETURNS TABLE (
		org_id text,
		name text,
		tier text,
		created_at timestamptz,
		api_access_since timestamptz,
		suspended_at timestamptz)
	LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME';
REVOKE ALL ON FUNCTION @extschema@.overten_list_orgs FROM PUBLIC;
COMMENT ON FUNCTION @extschema@.overten_list_orgs IS
'Returns the orgs that a person is a member of, in the order of their creation. A closed org is suspended. Errors: 22023 the uid; 22004 the argument is NULL.';

CREATE FUNCTION @extschema@.overten_all_orgs(
	tier text DEFAULT NULL,
	suspended bool DEFAULT NULL,
	closed bool DEFAULT NULL,
	name_part text DEFAULT NULL,
	after_org_id text DEFAULT NULL,
	max_orgs int4 DEFAULT 100)
	RETURNS TABLE (
		org_id text,
		name text,
		tier text,
		created_at timestamptz,
		created_by text,
		api_access_since timestamptz,
		suspended_at timestamptz,
		closed_at timestamptz,
		members int8,
		active_keys int8)
	LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME';
REVOKE ALL ON FUNCTION @extschema@.overten_all_orgs FROM PUBLIC;
COMMENT ON FUNCTION @extschema@.overten_all_orgs IS
'Returns all orgs in pages, in the order of their creation: at most max_orgs (1 to 1000) orgs that come after after_org_id, or the first ones. Pass the last org_id of a page to get the next page; a page with fewer than max_orgs rows is the last one. An argument that is NULL filters nothing: tier is the org''s own; suspended and closed say whether it is, and a closed org is suspended, too; name_part is 1 to 100 characters that are in the name, whatever their case. members and active_keys count; a key is active if it is neither revoked nor expired, also while it is disabled. Errors: 42704 after_org_id does not exist; 22023 name_part or max_orgs; 22004 max_orgs is NULL.';

CREATE FUNCTION @extschema@.overten_rename_org(org_id text, name text)
	RETURNS bool
	LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME';
REVOKE ALL ON FUNCTION @extschema@.overten_rename_org FROM PUBLIC;
COMMENT ON FUNCTION @extschema@.overten_rename_org IS
'Renames an org. Returns true if that changed anything. Errors: 42704 the org does not exist; 22023 the name, as for overten_create_org; 22004 an argument is NULL.';

CREATE FUNCTION @extschema@.overten_close_org(
	org_id text,
	reason text DEFAULT NULL)
	RETURNS bool
	LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME';
REVOKE ALL ON FUNCTION @extschema@.overten_close_org FROM PUBLIC;
COMMENT ON FUNCTION @extschema@.overten_close_org IS
'Closes an org for good: suspends it, revokes its keys and withdraws its invitations; all sessions refuse its keys as soon as the transaction has committed. Nothing is deleted, and its members can still read its history. Waits for transactions that are minting keys for the org. Returns true if this call closed the org, and false if it was closed before; in that case the first time stays. Errors: 42704 the org does not exist; 22023 the reason, as for overten_revoke_key; 22004 org_id is NULL; 40001 the transaction is above READ COMMITTED and a key was minted after it began.';

CREATE FUNCTION @extschema@.overten_list_members(org_id text)
	RETURNS TABLE (uid text, added_at timestamptz, active_keys int8)
	LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME';
REVOKE ALL ON FUNCTION @extschema@.overten_list_members FROM PUBLIC;
COMMENT ON FUNCTION @extschema@.overten_list_members IS
'Returns the members of an org, in the order of their joining. active_keys: how many active keys of the org the person has minted; they stay if the person is removed. A key is active if it is neither revoked nor expired, also while it is disabled. Errors: 42704 the org does not exist; 22004 the argument is NULL.';

CREATE FUNCTION @extschema@.overten_invite(
	org_id text,
	note text DEFAULT NULL,
	valid_for interval DEFAULT '7 days',
	OUT invitation_id text,
	OUT org_id text,
	OUT note text,
	OUT created_at timestamptz,
	OUT expires_at timestamptz,
	OUT code text)
	LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME';
REVOKE ALL ON FUNCTION @extschema@.overten_invite FROM PUBLIC;
COMMENT ON FUNCTION @extschema@.overten_invite IS
'Makes an invitation to become a member of an org. Returns the code, invite_ and 32 random characters, which is stored nowhere and cannot be read again; a person who has it can use it once. Call this function in FROM, as overten_mint_key. Errors: 42704 the org does not exist; 55000 the org is closed; 22023 the note, with spaces trimmed, does not have 1 to 100 characters, or breaks a rule of names, or valid_for is not between 1 second and 30 days; 22004 org_id or valid_for is NULL.';

CREATE FUNCTION @extschema@.overten_list_invitations(org_id text)
	RETURNS TABLE (
		invitation_id text,
		note text,
		created_at timestamptz,
		created_by text,
		expires_at timestamptz)
	LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME';
REVOKE ALL ON FUNCTION @extschema@.overten_list_invitations FROM PUBLIC;
COMMENT ON FUNCTION @extschema@.overten_list_invitations IS
'Returns the invitations of an org that can still be accepted, in the order of their creation. created_by: uid of the member who invited; NULL if the application did. Errors: 42704 the org does not exist; 22004 the argument is NULL.';

CREATE FUNCTION @extschema@.overten_withdraw_invitation(org_id text, invitation_id text)
	RETURNS bool
	LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME';
REVOKE ALL ON FUNCTION @extschema@.overten_withdraw_invitation FROM PUBLIC;
COMMENT ON FUNCTION @extschema@.overten_withdraw_invitation IS
'Withdraws an invitation. Returns true if that changed anything, and false if the org has no such invitation that can still be accepted. Errors: 42704 the org does not exist; 22004 an argument is NULL.';

CREATE FUNCTION @extschema@.overten_accept_invitation(code text, uid text)
	RETURNS text
	LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME';
REVOKE ALL ON FUNCTION @extschema@.overten_accept_invitation FROM PUBLIC;
COMMENT ON FUNCTION @extschema@.overten_accept_invitation IS
'Makes a person a member of the org that the code invites to, and returns its org_id; uses the code up. The same person may repeat the call, and gets the same result. It does not check who has the uid: never grant it to a role that speaks for customers. Errors: 42704 the code is unknown, expired, used or withdrawn, or its org is closed; 42710 the person is a member already; 22023 the uid; 22004 an argument is NULL.';

CREATE FUNCTION @extschema@.overten_erase_org(org_id text)
	RETURNS bool
	LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME';
REVOKE ALL ON FUNCTION @extschema@.overten_erase_org FROM PUBLIC;
COMMENT ON FUNCTION @extschema@.overten_erase_org IS
'Erases an org: removes its name, its members, its webhook secrets, and the history of its keys; purges the keys as overten_purge_keys does; removes persons and details from its rows in the audit log, and request ids and details from its ledger; writes off its credits. For all functions the org does not exist after that, except that overten_describe_key still says why a key is refused. Its row stays, because other tables can refer to it. Returns true if this call erased the org, and false if it was erased before. Cannot be undone. Errors: 42704 the org does not exist; 55000 the org has a key that is neither revoked nor expired; 22004 the argument is NULL; 25000 the transaction is above READ COMMITTED.';

CREATE FUNCTION @extschema@.overten_erase_person(uid text)
	RETURNS bool
	LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME';
REVOKE ALL ON FUNCTION @extschema@.overten_erase_person FROM PUBLIC;
COMMENT ON FUNCTION @extschema@.overten_erase_person IS
'Erases a person, identified by Firebase uid: replaces the uid by one random pseudonym in members, keys and the audit log, removes the Idempotency-Keys of the person, and withdraws the invitations of the person that nobody has accepted. The person is no longer a member of any org. Does not look into names that people have chosen, nor into the ledger. Returns true if the uid was found anywhere. Cannot be undone. Errors: 55000 the person is the last member of an org that has active keys and is not suspended; 22023 the uid; 22004 the argument is NULL; 25000 the transaction is above READ COMMITTED.';


/* Credits */

CREATE FUNCTION @extschema@.overten_grant(
	org_id text,
	amount int8,
	reason text DEFAULT NULL,
	request_id text DEFAULT NULL)
	RETURNS int8
	LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME';
REVOKE ALL ON FUNCTION @extschema@.overten_grant FROM PUBLIC;
COMMENT ON FUNCTION @extschema@.overten_grant IS
'Adds prepaid credits to what an org has. Returns the balance after that. With a request_id, such as the id of a payment, the call can be repeated: it grants once, and returns the same. Errors: 42704 the org does not exist; 55000 the org is closed; 22003 the balance would not fit into a bigint; 22023 amount is less than 1, the reason, as for overten_revoke_key, request_id, as for overten_spend, or the org''s ledger has request_id with another amount or kind; 22004 org_id or amount is NULL; 40001 the transaction is above READ COMMITTED and the org''s credits have changed since it began.';

CREATE FUNCTION @extschema@.overten_spend(
	org_id text,
	amount int8,
	request_id text,
	detail text DEFAULT NULL)
	RETURNS int8
	LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME';
REVOKE ALL ON FUNCTION @extschema@.overten_spend FROM PUBLIC;
COMMENT ON FUNCTION @extschema@.overten_spend IS
'Spends credits of an org, in the caller''s transaction, and returns the balance after that. A call that is repeated with the same request_id and amount spends nothing, and returns the same. Locks the org''s credits until the transaction ends, so call it last. Does not ask whether the org is suspended or closed. Errors: 53OA2 the org does not have enough credits that are not held, and the detail has the numbers; 42704 the org does not exist; 22023 amount is less than 1, request_id does not have 1 to 255 characters, or does not begin and end with a visible one, or has characters that are forbidden in names, detail, with spaces trimmed, does not have 1 to 500 characters, or breaks a rule of names, or the org''s ledger has request_id with another amount or kind; 22004 an argument other than detail is NULL; 40001 the transaction is above READ COMMITTED and the org''s credits have changed since it began.';

CREATE FUNCTION @extschema@.overten_hold(
	org_id text,
	amount int8,
	request_id text,
	valid_for interval DEFAULT '10 minutes')
	RETURNS timestamptz
	LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME';
REVOKE ALL ON FUNCTION @extschema@.overten_hold FROM PUBLIC;
COMMENT ON FUNCTION @extschema@.overten_hold IS
'Holds credits of an org for work whose cost is known only afterwards: they stay in the balance, but cannot be spent or held otherwise. Returns when the hold ends by itself. A call that is repeated with the same request_id and amount returns the same, until the hold ends or is released. Errors: 42710 the org''s ledger has request_id already; 22023 the org holds another amount for request_id, or valid_for is not between 1 second and 7 days; otherwise as overten_spend.';

CREATE FUNCTION @extschema@.overten_settle(
	org_id text,
	amount int8,
	request_id text,
	detail text DEFAULT NULL)
	RETURNS int8
	LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME';
REVOKE ALL ON FUNCTION @extschema@.overten_settle FROM PUBLIC;
COMMENT ON FUNCTION @extschema@.overten_settle IS
'Spends credits that are held for a request, and releases the rest. amount can be 0. Returns the balance after that; a call that is repeated with the same request_id and amount returns the same. Errors: 55000 no credits are held for request_id: the hold has ended or was released, or there never was one; 22023 amount is less than 0 or more than is held; otherwise as overten_spend, without 53OA2.';

CREATE FUNCTION @extschema@.overten_release(org_id text, request_id text)
	RETURNS bool
	LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME';
REVOKE ALL ON FUNCTION @extschema@.overten_release FROM PUBLIC;
COMMENT ON FUNCTION @extschema@.overten_release IS
'Ends a hold without spending anything. Returns true if this call ended it, and false if no credits are held for request_id. Errors: 42704 the org does not exist; 22023 request_id, as for overten_spend; 22004 an argument is NULL; 40001 as for overten_spend.';

CREATE FUNCTION @extschema@.overten_credit_balance(
	org_id text,
	OUT balance int8,
	OUT held int8,
	OUT available int8)
	LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME';
REVOKE ALL ON FUNCTION @extschema@.overten_credit_balance FROM PUBLIC;
COMMENT ON FUNCTION @extschema@.overten_credit_balance IS
'Returns how many credits an org has, how many of these are held, without holds that have ended, and the rest. All three are 0 if the org never got any. Works in READ ONLY transactions and on standbys. Errors: 42704 the org does not exist; 22004 the argument is NULL.';

CREATE FUNCTION @extschema@.overten_list_ledger(
	org_id text,
	before int8 DEFAULT NULL,
	"limit" int4 DEFAULT 100)
	RETURNS TABLE (
		entry int8,
		at timestamptz,
		kind text,
		amount int8,
		balance int8,
		request_id text,
		detail text)
	LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME';
REVOKE ALL ON FUNCTION @extschema@.overten_list_ledger FROM PUBLIC;
COMMENT ON FUNCTION @extschema@.overten_list_ledger IS
'Returns the ledger of an org in pages, the latest rows first: at most limit (1 to 1000) rows that come before the entry before, or the latest ones. Pass the last entry of a page to get the next page. See the columns of overten_auth.credit_ledger. Errors: 42704 the org does not exist; 22023 limit; 22004 org_id or limit is NULL.';


/* Webhooks */

CREATE FUNCTION @extschema@.overten_rotate_webhook_secret(
	org_id text,
	grace interval DEFAULT '24 hours')
	RETURNS text
	LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME';
REVOKE ALL ON FUNCTION @extschema@.overten_rotate_webhook_secret FROM PUBLIC;
COMMENT ON FUNCTION @extschema@.overten_rotate_webhook_secret IS
'Gives an org a new webhook secret, and returns it. The previous one also signs until the grace period is over; an older one that was still in its grace period is forgotten. Errors: 42704 the org does not exist; 22023 the grace period is negative or longer than 30 days; 22004 an argument is NULL; 55000 there is no master key to seal the secret with.';

CREATE FUNCTION @extschema@.overten_sign_webhook(
	org_id text,
	message_id text,
	"timestamp" int8,
	body text)
	RETURNS text
	LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME';
REVOKE ALL ON FUNCTION @extschema@.overten_sign_webhook(text, text, int8, text) FROM PUBLIC;
COMMENT ON FUNCTION @extschema@.overten_sign_webhook(text, text, int8, text) IS
'Returns the header webhook-signature of Standard Webhooks for a message with this webhook-id, this webhook-timestamp (seconds since 1970) and this body, which is signed in UTF-8: v1, and the base64 of the HMAC-SHA256. During the grace period of a rotation there are two signatures, separated by a space. Errors: 42704 the org does not exist; 22023 message_id does not have 1 to 256 printable ASCII characters without spaces and dots, the time is negative or more than 100 years from now, or the body has more than 16 MB; 22004 an argument is NULL; 55000 the secret does not open.';

CREATE FUNCTION @extschema@.overten_sign_webhook(
	org_id text,
	message_id text,
	"timestamp" int8,
	body bytea)
	RETURNS text
	LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'overten_sign_webhook_bytes';
REVOKE ALL ON FUNCTION @extschema@.overten_sign_webhook(text, text, int8, bytea) FROM PUBLIC;
COMMENT ON FUNCTION @extschema@.overten_sign_webhook(text, text, int8, bytea) IS
'Like the other overten_sign_webhook, with a body of type bytea, which is signed unchanged.';

CREATE FUNCTION @extschema@.overten_reseal(max_orgs int4 DEFAULT 1000)
	RETURNS int8
	LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME';
REVOKE ALL ON FUNCTION @extschema@.overten_reseal FROM PUBLIC;
COMMENT ON FUNCTION @extschema@.overten_reseal IS
'Reseals the webhook secrets of at most max_orgs orgs with the first master key in the file, if they are sealed with another one. Returns how many orgs are left: call it until that is 0. Orgs that other transactions have locked are left for the next call; a WARNING counts orgs whose secrets do not open, and names a few. Errors: 22023 max_orgs is less than 1; 22004 max_orgs is NULL; 55000 there is no master key.';

CREATE FUNCTION overten_auth.master_key_ids(
	OUT needed text[],
	OUT present text[])
	LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'overten_master_key_ids';
REVOKE ALL ON FUNCTION overten_auth.master_key_ids FROM PUBLIC;
COMMENT ON FUNCTION overten_auth.master_key_ids IS
'Returns ids of master keys, in hex. needed: those that this database''s webhook secrets are sealed with. present: those in the file, in file order; empty if the file is missing or not good.';


/* Firebase ID tokens */

CREATE TYPE overten_auth.verified_token AS (
	uid text,
	email text,
	email_verified bool,
	name text,
	sign_in_provider text,
	tenant text,
	auth_time timestamptz,
	issued_at timestamptz,
	expires_at timestamptz,
	claims jsonb
);
REVOKE ALL ON TYPE overten_auth.verified_token FROM PUBLIC;
COMMENT ON TYPE overten_auth.verified_token IS 'the contents of a good Firebase ID token';
COMMENT ON COLUMN overten_auth.verified_token.uid IS 'the person: sub';
COMMENT ON COLUMN overten_auth.verified_token.email IS 'the claim of that name; NULL if it is not a string';
COMMENT ON COLUMN overten_auth.verified_token.email_verified IS 'the claim of that name; NULL if it is not a boolean';
COMMENT ON COLUMN overten_auth.verified_token.name IS 'the claim of that name; NULL if it is not a string';
COMMENT ON COLUMN overten_auth.verified_token.sign_in_provider IS 'how the person signed in, such as password, google.com or phone';
COMMENT ON COLUMN overten_auth.verified_token.tenant IS 'tenant of Identity Platform; NULL without a tenant';
COMMENT ON COLUMN overten_auth.verified_token.auth_time IS 'when the person signed in';
COMMENT ON COLUMN overten_auth.verified_token.issued_at IS 'when Firebase issued the token: the claim iat';
COMMENT ON COLUMN overten_auth.verified_token.expires_at IS 'from when on the token is refused, but for overten_auth.clock_skew: the claim exp';
COMMENT ON COLUMN overten_auth.verified_token.claims IS 'all claims of the token''s payload, checked or not, as a JSON object; custom claims of the user are among them';

CREATE FUNCTION @extschema@.overten_verify_firebase_jwt(token text)
	RETURNS overten_auth.verified_token
	LANGUAGE c VOLATILE STRICT PARALLEL UNSAFE AS 'MODULE_PATHNAME';
REVOKE ALL ON FUNCTION @extschema@.overten_verify_firebase_jwt FROM PUBLIC;
COMMENT ON FUNCTION @extschema@.overten_verify_firebase_jwt IS
'Verifies a Firebase ID token by the rules that Firebase documents, and returns whom it is about. Does not notice if Firebase has revoked the token since. Errors: 28OA1 the token is good except that it has expired; 28000 the token is refused, and the detail says why; 55000 overten_auth.firebase_project_id is not set, all signing keys have expired or there are no keys, or this is a standby, and overten_auth.verify_on_standby is off or the standby is not within overten_auth.max_standby_lag; 58P01 libjwt is not installed.';

CREATE FUNCTION @extschema@.overten_load_signing_keys(keys json)
	RETURNS int4
	LANGUAGE c VOLATILE STRICT PARALLEL UNSAFE AS 'MODULE_PATHNAME';
REVOKE ALL ON FUNCTION @extschema@.overten_load_signing_keys FROM PUBLIC;
COMMENT ON FUNCTION @extschema@.overten_load_signing_keys IS
'Replaces the keys that check Firebase ID tokens with those of a document: Google''s X.509 certificates by key id, or a JWK set. All sessions use the new keys as soon as the transaction has committed. Returns how many keys there are. Keys that cannot be used are skipped, and a NOTICE counts them by reason. Keys from certificates expire with the certificates; those of a JWK set do not expire. Errors: 22023 the document is not usable, or no key in it is, and the old keys stay; 40001 another transaction has loaded keys.';

CREATE FUNCTION @extschema@.overten_refresh_signing_keys() RETURNS int4
	LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME';
REVOKE ALL ON FUNCTION @extschema@.overten_refresh_signing_keys FROM PUBLIC;
COMMENT ON FUNCTION @extschema@.overten_refresh_signing_keys IS
'Has the background worker fetch signing keys now. Returns how many keys have not expired after that. Errors: 55000 the fetch failed or took more than 30 seconds; the detail says why, and the old keys stay.';


/* Usage, and the state of everything */

CREATE FUNCTION @extschema@.overten_flush_usage() RETURNS void
	LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME';
REVOKE ALL ON FUNCTION @extschema@.overten_flush_usage FROM PUBLIC;
COMMENT ON FUNCTION @extschema@.overten_flush_usage IS
'Waits until all uses that were counted before the call are in the tables, on a standby in those of the primary, too. Returns at once if uses are not counted in shared memory. Errors: 55000 the flush fails, takes more than 30 seconds, or this is a standby without overten_auth.uses_conninfo; no use is lost in these cases.';

CREATE PROCEDURE overten_auth.add_uses(
	system_identifier int8,
	source uuid,
	batch int8,
	key_ids text[],
	hours timestamptz[],
	client_addrs inet[],
	accepted int8[],
	refused int8[],
	limited int8[],
	first_used_at timestamptz[],
	last_used_at timestamptz[],
	last_accepted_at timestamptz[])
	LANGUAGE c AS 'MODULE_PATHNAME', 'overten_add_uses';
REVOKE ALL ON PROCEDURE overten_auth.add_uses FROM PUBLIC;
COMMENT ON PROCEDURE overten_auth.add_uses IS
'For standbys, which call it with the role of overten_auth.uses_conninfo: adds uses that they have counted to the history, and commits. system_identifier: that of the cluster; source: identifies the shared memory that has counted them; batch: their number there, from 1 on. A batch is added once: one whose number is not greater than the last one of its source is ignored. The arrays have an element for each row, as overten_auth.key_usage, at most 10000. Uses of keys that do not exist, and hours that are older than overten_auth.usage_retention, are dropped; what comes from the future counts in the current hour. Errors: 22023 the rows cannot be uses that a standby has counted, or the source is this server; 22004 an argument is NULL; 25001 the call is in a transaction block; 55000 the cluster is another one; 55P03 another transaction holds the tables for too long.';

CREATE FUNCTION @extschema@.overten_status(
	OUT usage_mode text,
	OUT usage_worker text,
	OUT flushed_at timestamptz,
	OUT flush_failed_at timestamptz,
	OUT flush_failure text,
	OUT signing_keys int4,
	OUT signing_keys_expire_at timestamptz,
	OUT key_worker text,
	OUT fetched_at timestamptz,
	OUT fetch_tried_at timestamptz,
	OUT fetch_outcome text,
	OUT next_fetch_at timestamptz,
	OUT master_keys_needed text[],
	OUT master_keys_present text[],
	OUT master_key_warning text,
	OUT revocation_warning text,
	OUT standby_age interval,
	OUT standby_bound interval,
	OUT standby_problem text)
	LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME';
REVOKE ALL ON FUNCTION @extschema@.overten_status FROM PUBLIC;
COMMENT ON FUNCTION @extschema@.overten_status IS
'Returns the state of this database. usage_mode: how uses are recorded, in shared memory, in a table (last_used_at only) or not at all (off). usage_worker: waiting, working, or none if there should be a worker and is not. flushed_at, flush_failed_at, flush_failure: the last flush, and the last failure of the worker. signing_keys: how many have not expired; signing_keys_expire_at: when the last of them expires. key_worker: fetching signing keys, scheduled, or off (no project or no command). fetched_at: the last successful fetch; fetch_tried_at, fetch_outcome: the last fetch; next_fetch_at: the next fetch. master_keys_needed, master_keys_present: ids of the keys that webhook secrets are sealed with, and of those in the master key file. master_key_warning: a needed key is missing here, or the file is where a failover can delete it. revocation_warning: overten_auth.revocation_commit is on, and there are no synchronous standbys. standby_age: how old what this standby knows can be at most, NULL if that is not known; standby_bound: overten_auth.max_standby_lag; standby_problem: why it is older than that, so that the standby does not verify. The last three are NULL on a primary, and without that setting.';

CREATE FUNCTION overten_auth.stat(
	OUT accepted int8,
	OUT refused int8,
	OUT cache_hits int8,
	OUT cache_misses int8,
	OUT not_attributed int8,
	OUT flushes int8,
	OUT flush_failures int8,
	OUT uses_sent int8,
	OUT uses_received int8,
	OUT limited int8,
	OUT shadow_limited int8,
	OUT out_of_limit_buckets int8,
	OUT limit_buckets_used int4,
	OUT limit_buckets_free int4,
	OUT entries_used int4,
	OUT entries_free int4,
	OUT shared_cache_entries int8,
	OUT shared_cache_stores int8,
	OUT shared_cache_stale int8,
	OUT shared_cache_busy int8,
	OUT shared_cache_too_long int8,
	OUT last_fetch_at timestamptz,
	OUT last_fetch_outcome text,
	OUT standby_age interval,
	OUT standby_bound interval,
	OUT since timestamptz)
	LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'overten_stat';
REVOKE ALL ON FUNCTION overten_auth.stat FROM PUBLIC;
COMMENT ON FUNCTION overten_auth.stat IS
'Returns the row of the view overten_stat. A role that reads the view also needs EXECUTE on this function.';

CREATE VIEW @extschema@.overten_stat AS SELECT * FROM overten_auth.stat();
REVOKE ALL ON @extschema@.overten_stat FROM PUBLIC;
COMMENT ON VIEW @extschema@.overten_stat IS 'statistics of the whole server since its start; all columns are NULL unless the library is preloaded';
COMMENT ON COLUMN @extschema@.overten_stat.accepted IS 'keys accepted';
COMMENT ON COLUMN @extschema@.overten_stat.refused IS 'keys refused, for any reason';
COMMENT ON COLUMN @extschema@.overten_stat.cache_hits IS 'keys accepted from a cache';
COMMENT ON COLUMN @extschema@.overten_stat.cache_misses IS 'keys looked up in the tables';
COMMENT ON COLUMN @extschema@.overten_stat.not_attributed IS 'uses missing in the history because there was no memory left to count them: raise overten_auth.max_tracked_keys';
COMMENT ON COLUMN @extschema@.overten_stat.flushes IS 'how often uses were written to the tables';
COMMENT ON COLUMN @extschema@.overten_stat.flush_failures IS 'how often a worker failed to write uses to the tables, or to remove old history; no use is lost, and the worker tries again: flush_failure in overten_status() says why';
COMMENT ON COLUMN @extschema@.overten_stat.uses_sent IS 'uses and attempts that this server, as a standby, has sent to its primary';
COMMENT ON COLUMN @extschema@.overten_stat.uses_received IS 'uses and attempts that standbys have counted and this server has added to the history';
COMMENT ON COLUMN @extschema@.overten_stat.limited IS 'requests refused by a rate limit or a quota; they are among those in refused';
COMMENT ON COLUMN @extschema@.overten_stat.shadow_limited IS 'how often a shadow limit would have refused a request';
COMMENT ON COLUMN @extschema@.overten_stat.out_of_limit_buckets IS 'requests that could not be counted against a limit, because there was no memory for another bucket: raise overten_auth.max_limit_buckets; overten_auth.limits_full says whether they were refused';
COMMENT ON COLUMN @extschema@.overten_stat.limit_buckets_used IS 'buckets of limits that are in use, or were: idle ones are only removed when there is no other';
COMMENT ON COLUMN @extschema@.overten_stat.limit_buckets_free IS 'how many more buckets there are';
COMMENT ON COLUMN @extschema@.overten_stat.entries_used IS 'pairs of a key and a client address that are counted now';
COMMENT ON COLUMN @extschema@.overten_stat.entries_free IS 'how many more pairs can be counted';
COMMENT ON COLUMN @extschema@.overten_stat.shared_cache_entries IS 'how many keys the shared cache, which is one for all sessions, can hold; NULL if overten_auth.shared_cache_entries is 0';
COMMENT ON COLUMN @extschema@.overten_stat.shared_cache_stores IS 'keys stored in the shared cache; if it grows about as fast as cache_misses while few keys change, there are more keys in use than it can hold: raise overten_auth.shared_cache_entries';
COMMENT ON COLUMN @extschema@.overten_stat.shared_cache_stale IS 'keys found in the shared cache that had changed, or whose org had; they were looked up in the tables again';
COMMENT ON COLUMN @extschema@.overten_stat.shared_cache_busy IS 'keys not read from or not stored in the shared cache, because another process was writing in the same place; that only costs a lookup in the tables';
COMMENT ON COLUMN @extschema@.overten_stat.shared_cache_too_long IS 'keys not stored in the shared cache, because their row is too long, as with a long name of the org: they are cached in each session';
COMMENT ON COLUMN @extschema@.overten_stat.last_fetch_at IS 'when the last fetch of signing keys began, in any database';
COMMENT ON COLUMN @extschema@.overten_stat.last_fetch_outcome IS 'the result of that fetch';
COMMENT ON COLUMN @extschema@.overten_stat.standby_age IS 'how old what this standby knows can be at most; NULL if that is not known, on a primary, and without overten_auth.max_standby_lag';
COMMENT ON COLUMN @extschema@.overten_stat.standby_bound IS 'overten_auth.max_standby_lag: while standby_age is more, or NULL, the standby does not verify; overten_status() says why';
COMMENT ON COLUMN @extschema@.overten_stat.since IS 'when counting began';


/* Over HTTP */

CREATE FUNCTION @extschema@.overten_signup(
	uid text,
	org_name text DEFAULT NULL,
	existing_org_id text DEFAULT NULL,
	tier text DEFAULT NULL,
	key_name text DEFAULT 'primary',
	OUT org_id text,
	OUT org_name text,
	OUT tier text,
	OUT key_id text,
	OUT name text,
	OUT prefix text,
	OUT created_at timestamptz,
	OUT secret text,
	OUT webhook_secret text)
	LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME';
REVOKE ALL ON FUNCTION @extschema@.overten_signup FROM PUBLIC;
COMMENT ON FUNCTION @extschema@.overten_signup IS
'Signs a person up: creates an org (org_name) with the person as its member, or switches on API access for an org of the person''s (existing_org_id), and mints a key. Call this function in FROM: SELECT (overten_signup(...)).* calls it once per column. It does not check who has the uid: never grant it to a role that speaks for customers. If tier is NULL, a new org is on the tier free; the tier of an existing org is never changed. Errors: 22004 a required argument is NULL; 22023 both or neither of org_name and existing_org_id, a name, or a tier that is not self-service or not the org''s; 42704 the person has no such org; 42710 the org has signed up already; 53400 max_orgs_per_uid, max_keys_per_org or max_keys_total_per_org is reached; 55000 the org is suspended.';

CREATE TYPE overten_auth.http_response AS (
	status int4,
	headers json,
	body text
);
REVOKE ALL ON TYPE overten_auth.http_response FROM PUBLIC;
COMMENT ON TYPE overten_auth.http_response IS 'the answer to an HTTP request';
COMMENT ON COLUMN overten_auth.http_response.status IS 'status code';
COMMENT ON COLUMN overten_auth.http_response.headers IS 'object with lower-case names';
COMMENT ON COLUMN overten_auth.http_response.body IS 'JSON; NULL if there is no body';

CREATE FUNCTION @extschema@.overten_handle_request(
	method text,
	path text,
	headers json,
	body bytea)
	RETURNS overten_auth.http_response
	LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'overten_handle_request_bytes';
REVOKE ALL ON FUNCTION @extschema@.overten_handle_request(text, text, json, bytea) FROM PUBLIC;
COMMENT ON FUNCTION @extschema@.overten_handle_request(text, text, json, bytea) IS
'Answers one HTTP request to the API. The path begins with /api/v1 and may have a query string. headers is an object with lower-case names. The body is as the client sent it; NULL and an empty body both mean that there is no body. Whatever a client does wrong, the result is an answer and not an error. Call this function in FROM: SELECT (overten_handle_request(...)).* calls it once per column, and so handles the request three times. The role of an HTTP layer needs EXECUTE on this function only, unless it also answers proxies (overten_authorize_request). Errors: 22004 method or path is NULL.';

CREATE FUNCTION @extschema@.overten_handle_request(
	method text,
	path text,
	headers json,
	body text)
	RETURNS overten_auth.http_response
	LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME';
REVOKE ALL ON FUNCTION @extschema@.overten_handle_request(text, text, json, text) FROM PUBLIC;
COMMENT ON FUNCTION @extschema@.overten_handle_request(text, text, json, text) IS
'Likewise, with a body of type text, to try requests by hand. An HTTP layer should pass bytea: a client can send a body that is not valid in the database''s encoding, and the server rejects a call with such a text.';

CREATE FUNCTION @extschema@.overten_authorize_request(
	query text,
	headers json)
	RETURNS overten_auth.http_response
	LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME';
REVOKE ALL ON FUNCTION @extschema@.overten_authorize_request(text, json) FROM PUBLIC;
COMMENT ON FUNCTION @extschema@.overten_authorize_request(text, json) IS
'Answers the question of a proxy or a service whether a request to it may go on, as overten_admission does. For an HTTP layer that clients cannot reach, because whoever asks names the cost. query: the parameters cost (0 to 1000000000, default 1), scope (names with spaces between) and for (auth_request: the status 429 becomes 403, for nginx knows no other), percent-encoded; NULL means none. headers: those of the client''s request, as overten_handle_request takes them. The status is 200, 400, 401, 403 or 429; the headers say whose key it is, which refusal, and what a limit leaves. Errors: 55000 on a standby where keys are not verified, or if limits of the key cannot be counted.';

CREATE SCHEMA overten_api;
REVOKE ALL ON SCHEMA overten_api FROM PUBLIC;
COMMENT ON SCHEMA overten_api IS
'the API of overten_auth for PostgREST; each refusal also has its body in the header x-overten-error, and uses 504 instead of 503, because PostgREST would take 503 for its own';

CREATE FUNCTION overten_api.signup(json) RETURNS json
	LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'overten_api_signup';
REVOKE ALL ON FUNCTION overten_api.signup FROM PUBLIC;
COMMENT ON FUNCTION overten_api.signup IS 'POST /signup';

CREATE FUNCTION overten_api.create_api_key(json) RETURNS json
	LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'overten_api_create_api_key';
REVOKE ALL ON FUNCTION overten_api.create_api_key FROM PUBLIC;
COMMENT ON FUNCTION overten_api.create_api_key IS
'POST /organizations/{org_id}/api-keys; the id is in the header x-overten-org-id or the member org_id';

CREATE FUNCTION overten_api.list_api_keys(org_id text DEFAULT NULL) RETURNS json
	LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'overten_api_list_api_keys';
REVOKE ALL ON FUNCTION overten_api.list_api_keys FROM PUBLIC;
COMMENT ON FUNCTION overten_api.list_api_keys IS
'GET /organizations/{org_id}/api-keys; the id is in the header x-overten-org-id or an argument';

CREATE FUNCTION overten_api.show_api_key(
	org_id text DEFAULT NULL,
	key_id text DEFAULT NULL)
	RETURNS json
	LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'overten_api_show_api_key';
REVOKE ALL ON FUNCTION overten_api.show_api_key FROM PUBLIC;
COMMENT ON FUNCTION overten_api.show_api_key IS
'GET /organizations/{org_id}/api-keys/{key_id}; the ids are in the headers x-overten-org-id and x-overten-key-id, or the arguments. 405 while overten_auth.key_features is empty.';

CREATE FUNCTION overten_api.change_api_key(json) RETURNS json
	LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'overten_api_change_api_key';
REVOKE ALL ON FUNCTION overten_api.change_api_key FROM PUBLIC;
COMMENT ON FUNCTION overten_api.change_api_key IS
'PATCH /organizations/{org_id}/api-keys/{key_id}; the ids are in the headers x-overten-org-id and x-overten-key-id, or the members org_id and key_id. 405 while overten_auth.key_features is empty.';

CREATE FUNCTION overten_api.rotate_api_key(json) RETURNS json
	LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'overten_api_rotate_api_key';
REVOKE ALL ON FUNCTION overten_api.rotate_api_key FROM PUBLIC;
COMMENT ON FUNCTION overten_api.rotate_api_key IS
'POST /organizations/{org_id}/api-keys/{key_id}/rotate; the ids are in the headers x-overten-org-id and x-overten-key-id, or the members org_id and key_id. 404 while overten_auth.key_features lacks "rotation".';

CREATE FUNCTION overten_api.key_rotation(
	org_id text DEFAULT NULL,
	key_id text DEFAULT NULL)
	RETURNS json
	LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'overten_api_key_rotation';
REVOKE ALL ON FUNCTION overten_api.key_rotation FROM PUBLIC;
COMMENT ON FUNCTION overten_api.key_rotation IS
'GET /organizations/{org_id}/api-keys/{key_id}/rotation; the ids are in the headers x-overten-org-id and x-overten-key-id, or the arguments. 404 while overten_auth.key_features lacks "rotation".';

CREATE FUNCTION overten_api.revoke_api_key(json) RETURNS void
	LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'overten_api_revoke_api_key';
REVOKE ALL ON FUNCTION overten_api.revoke_api_key FROM PUBLIC;
COMMENT ON FUNCTION overten_api.revoke_api_key IS
'DELETE /organizations/{org_id}/api-keys/{key_id}; the ids are in the headers x-overten-org-id and x-overten-key-id or the members org_id and key_id; the query string is in the header x-overten-query. If the answer is an error, raises it with SQLSTATE PGRST, and with the API''s own body in the header x-overten-error.';

CREATE FUNCTION overten_api.verify() RETURNS json
	LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'overten_api_verify';
REVOKE ALL ON FUNCTION overten_api.verify FROM PUBLIC;
COMMENT ON FUNCTION overten_api.verify IS 'GET /verify';

CREATE FUNCTION overten_api.key_usage(
	org_id text DEFAULT NULL,
	key_id text DEFAULT NULL,
	since text DEFAULT NULL,
	until text DEFAULT NULL)
	RETURNS json
	LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'overten_api_key_usage';
REVOKE ALL ON FUNCTION overten_api.key_usage FROM PUBLIC;
COMMENT ON FUNCTION overten_api.key_usage IS
'GET /organizations/{org_id}/api-keys/{key_id}/usage; the ids are in the headers x-overten-org-id and x-overten-key-id or arguments; the query string is in the header x-overten-query, or else its parameters are arguments';

CREATE FUNCTION overten_api.features() RETURNS json
	LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'overten_api_features';
REVOKE ALL ON FUNCTION overten_api.features FROM PUBLIC;
COMMENT ON FUNCTION overten_api.features IS
'GET /features';

CREATE FUNCTION overten_api.list_organizations() RETURNS json
	LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'overten_api_list_organizations';
REVOKE ALL ON FUNCTION overten_api.list_organizations FROM PUBLIC;
COMMENT ON FUNCTION overten_api.list_organizations IS
'GET /organizations';

CREATE FUNCTION overten_api.rename_organization(json) RETURNS json
	LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'overten_api_rename_organization';
REVOKE ALL ON FUNCTION overten_api.rename_organization FROM PUBLIC;
COMMENT ON FUNCTION overten_api.rename_organization IS
'PATCH /organizations/{org_id}; the id is in the header x-overten-org-id or the member org_id';

CREATE FUNCTION overten_api.close_organization(json) RETURNS void
	LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'overten_api_close_organization';
REVOKE ALL ON FUNCTION overten_api.close_organization FROM PUBLIC;
COMMENT ON FUNCTION overten_api.close_organization IS
'DELETE /organizations/{org_id}; the id is in the header x-overten-org-id or the member org_id. Raises errors like revoke_api_key.';

CREATE FUNCTION overten_api.list_members(org_id text DEFAULT NULL) RETURNS json
	LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'overten_api_list_members';
REVOKE ALL ON FUNCTION overten_api.list_members FROM PUBLIC;
COMMENT ON FUNCTION overten_api.list_members IS
'GET /organizations/{org_id}/members; the id is in the header x-overten-org-id or an argument';

CREATE FUNCTION overten_api.remove_member(json) RETURNS void
	LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'overten_api_remove_member';
REVOKE ALL ON FUNCTION overten_api.remove_member FROM PUBLIC;
COMMENT ON FUNCTION overten_api.remove_member IS
'DELETE /organizations/{org_id}/members/{uid}; the ids are in the headers x-overten-org-id and x-overten-item-id or the members org_id and item_id, the uid percent-encoded. Raises errors like revoke_api_key.';

CREATE FUNCTION overten_api.list_invitations(org_id text DEFAULT NULL) RETURNS json
	LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'overten_api_list_invitations';
REVOKE ALL ON FUNCTION overten_api.list_invitations FROM PUBLIC;
COMMENT ON FUNCTION overten_api.list_invitations IS
'GET /organizations/{org_id}/invitations; the id is in the header x-overten-org-id or an argument';

CREATE FUNCTION overten_api.create_invitation(json) RETURNS json
	LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'overten_api_create_invitation';
REVOKE ALL ON FUNCTION overten_api.create_invitation FROM PUBLIC;
COMMENT ON FUNCTION overten_api.create_invitation IS
'POST /organizations/{org_id}/invitations; the id is in the header x-overten-org-id or the member org_id';

CREATE FUNCTION overten_api.withdraw_invitation(json) RETURNS void
	LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'overten_api_withdraw_invitation';
REVOKE ALL ON FUNCTION overten_api.withdraw_invitation FROM PUBLIC;
COMMENT ON FUNCTION overten_api.withdraw_invitation IS
'DELETE /organizations/{org_id}/invitations/{invitation_id}; the ids are in the headers x-overten-org-id and x-overten-item-id or the members org_id and item_id. Raises errors like revoke_api_key.';

CREATE FUNCTION overten_api.accept_invitation(json) RETURNS json
	LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'overten_api_accept_invitation';
REVOKE ALL ON FUNCTION overten_api.accept_invitation FROM PUBLIC;
COMMENT ON FUNCTION overten_api.accept_invitation IS
'POST /invitations/accept';

CREATE FUNCTION overten_api.audit_log(org_id text DEFAULT NULL) RETURNS json
	LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'overten_api_audit_log';
REVOKE ALL ON FUNCTION overten_api.audit_log FROM PUBLIC;
COMMENT ON FUNCTION overten_api.audit_log IS
'GET /organizations/{org_id}/audit-log; the id is in the header x-overten-org-id or an argument; the query string is in the header x-overten-query';

CREATE FUNCTION overten_api.organization_usage(org_id text DEFAULT NULL) RETURNS json
	LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'overten_api_organization_usage';
REVOKE ALL ON FUNCTION overten_api.organization_usage FROM PUBLIC;
COMMENT ON FUNCTION overten_api.organization_usage IS
'GET /organizations/{org_id}/usage; the id is in the header x-overten-org-id or an argument; the query string is in the header x-overten-query';

CREATE FUNCTION overten_api.organization_limits(org_id text DEFAULT NULL) RETURNS json
	LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'overten_api_organization_limits';
REVOKE ALL ON FUNCTION overten_api.organization_limits FROM PUBLIC;
COMMENT ON FUNCTION overten_api.organization_limits IS
'GET /organizations/{org_id}/limits; the id is in the header x-overten-org-id or an argument; the query string is in the header x-overten-query';

CREATE FUNCTION overten_api.organization_credits(org_id text DEFAULT NULL) RETURNS json
	LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'overten_api_organization_credits';
REVOKE ALL ON FUNCTION overten_api.organization_credits FROM PUBLIC;
COMMENT ON FUNCTION overten_api.organization_credits IS
'GET /organizations/{org_id}/credits; the id is in the header x-overten-org-id or an argument; the query string is in the header x-overten-query';

CREATE FUNCTION overten_api.rotate_webhook_secret(json) RETURNS json
	LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'overten_api_rotate_webhook_secret';
REVOKE ALL ON FUNCTION overten_api.rotate_webhook_secret FROM PUBLIC;
COMMENT ON FUNCTION overten_api.rotate_webhook_secret IS
'POST /organizations/{org_id}/webhook-secret/rotate; the id is in the header x-overten-org-id or the member org_id';

CREATE FUNCTION overten_api.authorize() RETURNS void
	LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'overten_api_authorize';
REVOKE ALL ON FUNCTION overten_api.authorize FROM PUBLIC;
COMMENT ON FUNCTION overten_api.authorize IS
'For a PostgREST of your services, which clients cannot reach: whether a request to a service may go on, as overten_authorize_request answers it, with the query in the header x-overten-query. The status is 204 instead of 200, and the answer has no body; what it says is in the headers. The role that clients'' requests run as must not have EXECUTE: whoever asks names the cost. Errors: as overten_authorize_request.';

CREATE FUNCTION overten_api.authenticate_request() RETURNS void
	LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'overten_api_authenticate_request';
REVOKE ALL ON FUNCTION overten_api.authenticate_request FROM PUBLIC;
COMMENT ON FUNCTION overten_api.authenticate_request IS
'For db-pre-request before tables of your own: makes the API key of the request the identity, as overten_authenticate does. Without a bearer, or with one that is not an API key, there is no identity. Raises SQLSTATE PGRST like revoke_api_key: 401 invalid_api_key, 400 invalid_request for two credentials that differ or headers that cannot be read, 504 service_unavailable on a standby where keys are not verified.';


/* By default, PUBLIC may use the row types of tables and views. */
REVOKE ALL ON TYPE overten_auth.tiers, overten_auth.scopes,
	overten_auth.orgs, overten_auth.members, overten_auth.invitations,
	overten_auth.api_keys, overten_auth.limits,
	overten_auth.key_last_used, overten_auth.key_details,
	overten_auth.key_usage, overten_auth.usage_batches,
	overten_auth.quota_usage,
	overten_auth.audit_log, overten_auth.idempotency_keys,
	overten_auth.credits, overten_auth.credit_ledger,
	overten_auth.credit_holds,
	overten_auth.signing_keys,
	@extschema@.overten_stat FROM PUBLIC;


/* pg_dump dumps all rows that CREATE EXTENSION has not inserted. */
SELECT pg_extension_config_dump('overten_auth.tiers', $$WHERE name OPERATOR(pg_catalog.<>) 'free'$$);
SELECT pg_extension_config_dump('overten_auth.scopes', '');
SELECT pg_extension_config_dump('overten_auth.orgs', '');
SELECT pg_extension_config_dump('overten_auth.members', '');
SELECT pg_extension_config_dump('overten_auth.invitations', '');
SELECT pg_extension_config_dump('overten_auth.api_keys', '');
SELECT pg_extension_config_dump('overten_auth.limits', '');
SELECT pg_extension_config_dump('overten_auth.key_last_used', '');
SELECT pg_extension_config_dump('overten_auth.key_details', '');
SELECT pg_extension_config_dump('overten_auth.key_usage', '');
SELECT pg_extension_config_dump('overten_auth.quota_usage', '');
SELECT pg_extension_config_dump('overten_auth.audit_log', '');
SELECT pg_extension_config_dump('overten_auth.idempotency_keys', '');
SELECT pg_extension_config_dump('overten_auth.credits', '');
SELECT pg_extension_config_dump('overten_auth.credit_ledger', '');
SELECT pg_extension_config_dump('overten_auth.credit_holds', '');


/*
 * The objects of the extension, and the privileges on them
 *
 * A new object gets the default privileges of its creator.  They can name
 * roles, and REVOKE ... FROM PUBLIC does not undo that.  So the last statement
 * of this script, and of each update script, checks the result: it revokes all
 * privileges on new objects from everybody but the owner.  An update script
 * must not change what administrators have granted on older objects.  Its first
 * and last statements are
 *
 *	SELECT set_config('overten_update.before', overten_auth.inventory()::text, true);
 *	SELECT overten_auth.finish_script(current_setting('overten_update.before')::text[]);
 */

CREATE FUNCTION overten_auth.objects()
	RETURNS TABLE (
		member text,
		kind text,
		name text,
		objid oid,
		owner oid,
		usual aclitem[],
		acl aclitem[])
	LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
	WITH member (classid, objid) AS MATERIALIZED (
		SELECT d.classid, d.objid
		FROM pg_extension e
		JOIN pg_depend d ON d.refclassid = 'pg_extension'::regclass
			AND d.refobjid = e.oid AND d.deptype = 'e'
		WHERE e.extname = 'overten_auth'),
	relation AS MATERIALIZED (
		SELECT c.*, m.classid FROM member m
		JOIN pg_class c ON m.classid = 'pg_class'::regclass AND m.objid = c.oid),
	-- Since PostgreSQL 17 the row types of relations are members, too.
	object (classid, member, kind, name, objid, owner, usual, acl) AS (
		SELECT m.classid, p.oid, 'ROUTINE', p.oid::regprocedure::text, p.oid,
			p.proowner, acldefault('f', p.proowner), p.proacl
		FROM member m JOIN pg_proc p ON m.classid = 'pg_proc'::regclass AND m.objid = p.oid
		UNION ALL
		SELECT classid, oid, CASE relkind WHEN 'S' THEN 'SEQUENCE' ELSE 'TABLE' END,
			oid::regclass::text, oid, relowner,
			acldefault(CASE relkind WHEN 'S' THEN 's' ELSE 'r' END::"char", relowner), relacl
		FROM relation WHERE relkind <> 'c'
		UNION ALL
		SELECT r.classid, r.oid, 'COLUMN', format('%s.%I', r.oid::regclass, a.attname),
			r.oid, r.relowner, acldefault('c', r.relowner), a.attacl
		FROM relation r JOIN pg_attribute a ON a.attrelid = r.oid
		WHERE a.attacl IS NOT NULL
		UNION ALL
		SELECT m.classid, t.oid, 'TYPE', format_type(t.oid, NULL), t.oid,
			t.typowner, acldefault('T', t.typowner), t.typacl
		FROM member m JOIN pg_type t ON m.classid = 'pg_type'::regclass AND m.objid = t.oid
		WHERE t.typcategory <> 'A' AND t.typtype <> 'm'
			AND t.typrelid NOT IN (SELECT oid FROM relation WHERE relkind <> 'c')
		UNION ALL
		SELECT r.classid, r.oid, 'ROW TYPE', format_type(t.oid, NULL), t.oid,
			t.typowner, acldefault('T', t.typowner), t.typacl
		FROM relation r JOIN pg_type t ON t.oid = r.reltype
		WHERE r.relkind <> 'c'
		UNION ALL
		SELECT m.classid, n.oid, 'SCHEMA', quote_ident(n.nspname), n.oid,
			n.nspowner, acldefault('n', n.nspowner), n.nspacl
		FROM member m JOIN pg_namespace n ON m.classid = 'pg_namespace'::regclass AND m.objid = n.oid
		UNION ALL
		SELECT m.classid, l.oid, 'LANGUAGE', quote_ident(l.lanname), l.oid,
			l.lanowner, acldefault('l', l.lanowner), l.lanacl
		FROM member m JOIN pg_language l ON m.classid = 'pg_language'::regclass AND m.objid = l.oid
		UNION ALL
		SELECT m.classid, w.oid, 'FOREIGN DATA WRAPPER', quote_ident(w.fdwname), w.oid,
			w.fdwowner, acldefault('F', w.fdwowner), w.fdwacl
		FROM member m JOIN pg_foreign_data_wrapper w
			ON m.classid = 'pg_foreign_data_wrapper'::regclass AND m.objid = w.oid
		UNION ALL
		SELECT m.classid, s.oid, 'FOREIGN SERVER', quote_ident(s.srvname), s.oid,
			s.srvowner, acldefault('S', s.srvowner), s.srvacl
		FROM member m JOIN pg_foreign_server s
			ON m.classid = 'pg_foreign_server'::regclass AND m.objid = s.oid)
	SELECT format('object %s/%s', classid, member), kind, name, objid, owner, usual,
		coalesce(acl, usual)
	FROM object
$$;
REVOKE ALL ON FUNCTION overten_auth.objects FROM PUBLIC;
COMMENT ON FUNCTION overten_auth.objects IS
'Returns all objects of the extension that can have privileges, including the row types of relations, and the columns that have privileges. member: OIDs of the catalog and the object, or of the relation that it is a part of; usual: the privileges of a new object without default privileges; acl: its privileges.';

CREATE FUNCTION overten_auth.grants()
	RETURNS TABLE (
		member text,
		kind text,
		name text,
		objid oid,
		grantee oid,
		role text,
		privilege text,
		grantable bool)
	LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
	SELECT o.member, o.kind, o.name, o.objid, a.grantee,
		CASE a.grantee WHEN 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(a.grantee)) END,
		a.privilege_type, bool_or(a.is_grantable)
	FROM overten_auth.objects() o, aclexplode(o.acl) a
	WHERE a.grantee <> o.owner
	GROUP BY 1, 2, 3, 4, 5, 6, 7
$$;
REVOKE ALL ON FUNCTION overten_auth.grants FROM PUBLIC;
COMMENT ON FUNCTION overten_auth.grants IS
'Returns all privileges on objects of the extension, except those of the owner. Grantee 0 is PUBLIC.';

CREATE FUNCTION overten_auth.parts()
	RETURNS TABLE (part text, detail text)
	LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
	WITH member AS MATERIALIZED (
		SELECT c.*, c.oid::regclass AS name
		FROM pg_extension e
		JOIN pg_depend d ON d.refclassid = 'pg_extension'::regclass
			AND d.refobjid = e.oid AND d.deptype = 'e'
		JOIN pg_class c ON d.classid = 'pg_class'::regclass AND d.objid = c.oid
		WHERE e.extname = 'overten_auth' AND c.relkind IN ('r', 'p'))
	SELECT format('table %s', name), concat_ws(', ',
		CASE relpersistence WHEN 'p' THEN 'logged' ELSE 'unlogged' END,
		CASE relreplident WHEN 'd' THEN 'replica identity by default'
			WHEN 'f' THEN 'full replica identity'
			WHEN 'i' THEN 'replica identity by an index' ELSE 'no replica identity' END,
		CASE WHEN relrowsecurity THEN 'with row level security' END,
		CASE WHEN relforcerowsecurity THEN 'with forced row level security' END)
	FROM member
	UNION ALL
	SELECT format('column %I of %s', a.attname, m.name), concat_ws(', ',
		format_type(a.atttypid, a.atttypmod),
		CASE WHEN a.attnotnull THEN 'not null' END,
		CASE WHEN a.atthasdef THEN 'with default' END)
	FROM member m JOIN pg_attribute a ON a.attrelid = m.oid
	WHERE a.attnum > 0 AND NOT a.attisdropped
	UNION ALL
	SELECT format('index %I on %s', c.relname, m.name), concat_ws(', ',
		CASE WHEN i.indisunique THEN 'unique' END,
		CASE WHEN i.indisvalid AND i.indisready THEN 'valid' ELSE 'not valid' END)
	FROM member m JOIN pg_index i ON i.indrelid = m.oid JOIN pg_class c ON c.oid = i.indexrelid
	WHERE NOT EXISTS (SELECT FROM pg_constraint WHERE conindid = i.indexrelid AND conrelid = m.oid)
	UNION ALL
	-- Since PostgreSQL 18 there are constraints for NOT NULL, too.
	SELECT format('constraint %I on %s', c.conname, m.name),
		CASE WHEN c.convalidated THEN 'valid' ELSE 'not valid' END
	FROM member m JOIN pg_constraint c ON c.conrelid = m.oid
	WHERE c.contype IN ('c', 'f', 'p', 'u', 'x')
	UNION ALL
	SELECT format('trigger %I on %s', t.tgname, m.name),
		CASE t.tgenabled WHEN 'A' THEN 'enabled always' WHEN 'O' THEN 'enabled'
			WHEN 'R' THEN 'enabled on replicas' ELSE 'disabled' END
	FROM member m JOIN pg_trigger t ON t.tgrelid = m.oid
	WHERE NOT t.tgisinternal
	UNION ALL
	-- They enforce foreign keys, of this table and of others that refer to it.
	SELECT format('disabled triggers of foreign keys on %s', m.name), ''
	FROM member m JOIN pg_trigger t ON t.tgrelid = m.oid
	WHERE t.tgisinternal AND t.tgenabled <> 'O'
	GROUP BY m.name
	UNION ALL
	SELECT format('rule %I on %s', r.rulename, m.name), ''
	FROM member m JOIN pg_rewrite r ON r.ev_class = m.oid
	UNION ALL
	SELECT format('policy %I on %s', p.polname, m.name), ''
	FROM member m JOIN pg_policy p ON p.polrelid = m.oid
	UNION ALL
	SELECT format('child table %s of %s', i.inhrelid::regclass, m.name), ''
	FROM member m JOIN pg_inherits i ON i.inhparent = m.oid
	UNION ALL
	SELECT format('parent table %s of %s', i.inhparent::regclass, m.name), ''
	FROM member m JOIN pg_inherits i ON i.inhrelid = m.oid
	UNION ALL
	SELECT format('statistics object %I.%I on %s', n.nspname, s.stxname, m.name), ''
	FROM member m JOIN pg_statistic_ext s ON s.stxrelid = m.oid
	JOIN pg_namespace n ON n.oid = s.stxnamespace
$$;
REVOKE ALL ON FUNCTION overten_auth.parts FROM PUBLIC;
COMMENT ON FUNCTION overten_auth.parts IS
'Returns the tables of the extension and everything that anybody has defined on them. detail: the properties that can be altered.';

CREATE FUNCTION overten_auth.own_parts() RETURNS jsonb
	LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $$SELECT '{}'::jsonb$$;
REVOKE ALL ON FUNCTION overten_auth.own_parts FROM PUBLIC;
COMMENT ON FUNCTION overten_auth.own_parts IS
'Returns what the scripts of the extension have defined: the details of overten_auth.parts by part. overten_auth.finish_script writes this function.';

CREATE FUNCTION overten_auth.inventory() RETURNS text[]
	LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
	SELECT array_agg(item) FROM (
		SELECT DISTINCT member FROM overten_auth.objects()
		UNION ALL
		SELECT concat_ws(': ', part, detail) FROM overten_auth.parts()) i (item)
$$;
REVOKE ALL ON FUNCTION overten_auth.inventory FROM PUBLIC;
COMMENT ON FUNCTION overten_auth.inventory IS
'Returns all objects of the extension and everything that is defined on its tables. The first statement of an update script saves the result.';

CREATE FUNCTION overten_auth.finishing(before text[])
	RETURNS TABLE (step int4, statement text)
	LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
	WITH new AS MATERIALIZED (
		SELECT * FROM overten_auth.objects() WHERE member <> ALL (before))
	-- Nobody but the owner may have a privilege,
	SELECT 1, format('REVOKE ALL ON %s %s FROM %s CASCADE', what.kind, what.name, g.role)
	FROM overten_auth.grants() g, LATERAL (SELECT
		CASE g.kind WHEN 'COLUMN' THEN 'TABLE' WHEN 'ROW TYPE' THEN 'TYPE' ELSE g.kind END,
		CASE g.kind WHEN 'COLUMN' THEN g.objid::regclass::text ELSE g.name END) what (kind, name)
	WHERE g.member <> ALL (before)
	GROUP BY what.kind, what.name, g.role
	UNION ALL
	-- and the owner has all of them; default privileges can take them away.
	SELECT 2, format('GRANT ALL ON %s %s TO %I', replace(kind, 'ROW TYPE', 'TYPE'), name,
		pg_get_userbyid(owner))
	FROM new
	WHERE EXISTS (
		SELECT privilege_type FROM aclexplode(usual) WHERE grantee = owner
		EXCEPT SELECT privilege_type FROM aclexplode(acl) WHERE grantee = owner)
	UNION ALL
	-- pg_dump warns about initial privileges of row types, which it does not dump.
	-- A type loses them when it is removed from the extension, so add and drop it.
	SELECT CASE verb WHEN 'ADD' THEN 3 ELSE 4 END,
		format('ALTER EXTENSION overten_auth %s TYPE %s', verb, name)
	FROM new, unnest(ARRAY['ADD', 'DROP']) verb
	WHERE kind = 'ROW TYPE' AND NOT (verb = 'ADD' AND EXISTS (
		SELECT FROM pg_depend d
		WHERE d.classid = 'pg_type'::regclass AND d.objid = new.objid AND d.deptype = 'e'))
	UNION ALL
	-- If the script has not changed a part, the part still belongs to the
	-- extension, or still does not.
	SELECT 5, format('CREATE OR REPLACE FUNCTION overten_auth.own_parts() RETURNS jsonb'
		' LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp AS %L',
		format('SELECT %L::jsonb', jsonb_object_agg(part,
			CASE WHEN found.is_old THEN own.parts ->> part ELSE detail END)))
	FROM overten_auth.parts(),
		LATERAL (SELECT overten_auth.own_parts()) own (parts),
		LATERAL (SELECT concat_ws(': ', part, detail) = ANY (before)) found (is_old)
	WHERE own.parts ? part OR NOT found.is_old
	ORDER BY 1, 2
$$;
REVOKE ALL ON FUNCTION overten_auth.finishing FROM PUBLIC;
COMMENT ON FUNCTION overten_auth.finishing IS
'Returns the statements that overten_auth.finish_script runs, in this order.';

CREATE FUNCTION overten_auth.foundations()
	RETURNS TABLE (object text, owner name, remedy text)
	LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
	-- The extension, everything that it depends on, and all members of an
	-- extension, because dropping a member drops the whole extension.
	WITH RECURSIVE foundation (classid, objid) AS (
		SELECT 'pg_extension'::regclass::oid, oid FROM pg_extension WHERE extname = 'overten_auth'
		UNION
		SELECT next.* FROM foundation f, LATERAL (
			SELECT d.refclassid, d.refobjid FROM pg_depend d
			WHERE d.classid = f.classid AND d.objid = f.objid AND d.objsubid = 0
			UNION ALL
			SELECT d.classid, d.objid FROM pg_depend d
			WHERE d.refclassid = f.classid AND d.refobjid = f.objid AND d.deptype = 'e') next)
	SELECT pg_describe_object(f.classid, f.objid, 0), r.rolname,
		CASE
			WHEN f.classid = 'pg_namespace'::regclass
			THEN format('Run ALTER SCHEMA %I OWNER TO a superuser, or create the extension in another schema.',
				(SELECT nspname FROM pg_namespace WHERE oid = f.objid))
			WHEN f.classid = 'pg_extension'::regclass
			THEN format('Drop it and create it again as a superuser, or run REASSIGN OWNED BY %I TO a superuser, which moves all that %1$I owns in this database.', r.rolname)
			ELSE 'Make a superuser its owner.'
		END
	FROM foundation f
	JOIN pg_database b ON b.datname = current_database()
	-- Objects of the bootstrap superuser have no row there.
	JOIN pg_shdepend s ON s.dbid = b.oid AND s.classid = f.classid AND s.objid = f.objid
		AND s.objsubid = 0 AND s.deptype = 'o'
	JOIN pg_roles r ON r.oid = s.refobjid
	WHERE NOT r.rolsuper
	ORDER BY f.classid = 'pg_extension'::regclass DESC, f.classid = 'pg_namespace'::regclass DESC, 1
$$;
REVOKE ALL ON FUNCTION overten_auth.foundations FROM PUBLIC;
COMMENT ON FUNCTION overten_auth.foundations IS
'Returns the objects that the extension depends on and that a role owns that is not a superuser: its own objects, the extensions that it requires with their objects, and the schemas of all these. The owner could change them, or drop the extension with them. Leaves out schemas that pg_database_owner owns.';

CREATE FUNCTION overten_auth.some_of(names text[]) RETURNS text
	LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $$
	SELECT array_to_string(names[1:3], ', ')
		|| CASE WHEN cardinality(names) > 3
			THEN format(' and %s more', cardinality(names) - 3) ELSE '' END
$$;
REVOKE ALL ON FUNCTION overten_auth.some_of FROM PUBLIC;
COMMENT ON FUNCTION overten_auth.some_of IS 'Returns the first three names of a list, and how many more there are.';

CREATE FUNCTION overten_auth.finish_script(before text[] DEFAULT '{}') RETURNS void
	LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'overten_finish_script';
REVOKE ALL ON FUNCTION overten_auth.finish_script FROM PUBLIC;
COMMENT ON FUNCTION overten_auth.finish_script IS
'The last statement of a script of the extension. Revokes all privileges on objects that are not in the inventory from everybody but the owner, with a WARNING if there were any, and records what the script has defined on the tables. Errors: 22004 the argument is NULL; 55000 a privilege has been granted again after it was revoked.';

CREATE FUNCTION overten_auth.require_safe_owners() RETURNS void
	LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'overten_require_safe_owners';
REVOKE ALL ON FUNCTION overten_auth.require_safe_owners FROM PUBLIC;
COMMENT ON FUNCTION overten_auth.require_safe_owners IS
'Raises 42501 if overten_auth.foundations returns a row.';


/* Checks for problems */

CREATE FUNCTION overten_auth.check_privileges()
	RETURNS TABLE (severity text, subject text, problem text, remedy text)
	LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
	WITH RECURSIVE routine AS MATERIALIZED (
		SELECT p.oid, p.proname, n.nspname
		FROM overten_auth.objects() o
		JOIN pg_proc p ON o.kind = 'ROUTINE' AND o.objid = p.oid
		JOIN pg_namespace n ON n.oid = p.pronamespace),
	held AS MATERIALIZED (
		SELECT * FROM overten_auth.grants()),

	-- Rules about single privileges.  Report only the first one that matches.
	rule (number, severity, problem, remedy) AS (VALUES
		(1, 'danger', 'Everybody has %s on %s.',
			'Revoke it from PUBLIC. Grant each role what it needs.'),
		(2, 'danger', 'This role has %s on %s. It can make keys, members or signing keys, or stop the functions.',
			'Revoke it. The functions write the tables for their callers.'),
		(3, 'danger', 'This role has %s on schema %s. It can add objects to the extension''s.',
			'Revoke it.'),
		(4, 'danger', 'This role has %s on %s. It can make any digest a key of any org.',
			'Revoke it when the import is done.'),
		(5, 'danger', 'This role can grant %s on %s to others.',
			'Revoke the grant option.'),
		(6, 'warning', 'This role has %s on %s. It can read digests of keys or sealed webhook secrets.',
			'Revoke it. Grant SELECT on the columns that the role needs.'),
		(7, 'warning', 'This role has %s on %s. These functions are internal.',
			'Revoke it.'),
		(8, 'warning', 'This role has %s on type %s. A table with a column of that type blocks updates.',
			'Revoke it. Calling a function takes no privilege on types.')),
	broken AS (
		SELECT h.role, h.privilege, h.name,
			CASE
				WHEN h.grantee = 0 THEN 1
				WHEN h.kind IN ('TABLE', 'COLUMN')
					AND h.privilege IN ('INSERT', 'UPDATE', 'DELETE', 'TRUNCATE', 'REFERENCES', 'TRIGGER')
					AND NOT (h.name ~ '^overten_auth\.(tiers|scopes)(\.|$)'
						AND h.privilege IN ('INSERT', 'UPDATE', 'DELETE'))
					AND NOT (h.name = 'overten_auth.orgs.org_id' AND h.privilege = 'REFERENCES')
				THEN 2
				WHEN h.kind = 'SCHEMA' AND h.privilege = 'CREATE' THEN 3
				WHEN r.proname IN ('overten_import_key', 'overten_import_keys') THEN 4
				WHEN h.grantable THEN 5
				WHEN h.privilege = 'SELECT' AND h.name IN (
					'overten_auth.api_keys', 'overten_auth.api_keys.digest',
					'overten_auth.orgs', 'overten_auth.orgs.webhook_secret_sealed',
					'overten_auth.orgs.previous_webhook_secret_sealed') THEN 6
				WHEN r.nspname = 'overten_auth' AND r.proname NOT IN ('stat', 'master_key_ids', 'add_uses') THEN 7
				WHEN h.kind IN ('TYPE', 'ROW TYPE') THEN 8
			END AS number
		FROM held h
		LEFT JOIN routine r ON h.kind = 'ROUTINE' AND h.objid = r.oid
		LEFT JOIN pg_roles o ON o.oid = h.grantee
		WHERE o.rolsuper IS NOT TRUE),

	-- Rules about combinations of privileges, including inherited ones.
	holder (role) AS (
		SELECT grantee FROM held WHERE grantee <> 0
		UNION
		SELECT m.member FROM holder h JOIN pg_auth_members m ON m.roleid = h.role),
	ability AS MATERIALIZED (
		SELECT o.oid AS role, quote_ident(o.rolname) AS rolname,
			array_agg(DISTINCT r.proname::text) FILTER (
				WHERE r.proname = 'overten_handle_request'
				OR r.nspname = 'overten_api' AND r.proname <> 'authenticate_request') AS for_customers,
			array_agg(DISTINCT r.proname::text) FILTER (
				WHERE r.proname IN ('overten_signup', 'overten_list_orgs',
					'overten_add_member', 'overten_remove_member',
					'overten_accept_invitation', 'overten_erase_person')) AS trusting,
			array_agg(DISTINCT r.proname::text) FILTER (
				WHERE r.proname NOT IN ('overten_load_signing_keys', 'overten_refresh_signing_keys',
					'overten_status', 'overten_check', 'stat')) AS other_work,
			bool_or(r.proname = 'overten_load_signing_keys') AS loads_keys,
			bool_or(r.proname = 'overten_verify_key_digest') AS takes_digests
		FROM holder h
		JOIN pg_roles o ON o.oid = h.role AND NOT o.rolsuper
		JOIN routine r ON has_function_privilege(o.oid, r.oid, 'EXECUTE')
		GROUP BY o.oid, o.rolname)

	SELECT r.severity, b.role,
		format(r.problem, string_agg(DISTINCT b.privilege, ', '),
			overten_auth.some_of(array_agg(DISTINCT b.name))),
		r.remedy
	FROM broken b JOIN rule r USING (number)
	GROUP BY r.number, r.severity, r.problem, r.remedy, b.role
	UNION ALL
	SELECT 'danger', rolname,
		format('This role answers customers (%s), and executes functions that take a person''s uid on trust (%s).',
			overten_auth.some_of(for_customers), overten_auth.some_of(trusting)),
		'Revoke EXECUTE on one of the two, or use two roles.'
	FROM ability WHERE for_customers IS NOT NULL AND trusting IS NOT NULL
	UNION ALL
	SELECT 'danger', rolname,
		format('This role can load signing keys, and so log in as anyone. It has other work, too (%s).',
			overten_auth.some_of(other_work)),
		'Revoke EXECUTE on overten_load_signing_keys, or use a role for that alone.'
	FROM ability WHERE loads_keys AND other_work IS NOT NULL
	UNION ALL
	SELECT 'danger', rolname,
		'This role can read the digests of keys, and use them as keys with overten_verify_key_digest.',
		'Revoke one of the two, or use two roles.'
	FROM ability a JOIN pg_attribute d
		ON d.attrelid = to_regclass('overten_auth.api_keys') AND d.attname = 'digest'
	WHERE takes_digests AND has_column_privilege(a.role, d.attrelid, d.attnum, 'SELECT')
	UNION ALL
	SELECT 'danger', quote_ident(rolname),
		'This role has the privileges of pg_write_all_data. It can make keys, members and signing keys.',
		'Revoke pg_write_all_data. Grant the role what it needs on other tables.'
	FROM pg_roles
	WHERE NOT rolsuper AND rolname <> 'pg_write_all_data'
		AND pg_has_role(oid, 'pg_write_all_data', 'USAGE')
$$;
REVOKE ALL ON FUNCTION overten_auth.check_privileges FROM PUBLIC;
COMMENT ON FUNCTION overten_auth.check_privileges IS
'Returns the rows of overten_check about privileges.';

CREATE FUNCTION overten_auth.check_owners()
	RETURNS TABLE (severity text, subject text, problem text, remedy text)
	LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
	SELECT 'danger', overten_auth.some_of(array_agg(object)),
		format('Role %I owns this, and is not a superuser. It could change the extension, or drop it.', owner),
		remedy
	FROM overten_auth.foundations()
	GROUP BY owner, remedy
	UNION ALL
	-- foundations() leaves out pg_database_owner: the owner of the database.
	SELECT 'danger', overten_auth.some_of(array_agg(name ORDER BY name)),
		'The owner of the database owns this (pg_database_owner). It could change the extension, or drop it.',
		'Make a superuser its owner.'
	FROM overten_auth.objects()
	WHERE owner = 'pg_database_owner'::regrole
	HAVING count(*) > 0
	UNION ALL
	SELECT 'warning', format('schema %I', n.nspname),
		format('The owner of the database, %I, owns this (pg_database_owner), and is not a superuser. It could drop the extension with the schema, or create functions there that callers take for the extension''s.', r.rolname),
		format('Run ALTER SCHEMA %I OWNER TO a superuser, or create the extension in another schema.', n.nspname)
	FROM pg_namespace n
	JOIN pg_database b ON b.datname = current_database()
	JOIN pg_roles r ON r.oid = b.datdba AND NOT r.rolsuper
	WHERE n.nspowner = 'pg_database_owner'::regrole
		AND n.oid IN (SELECT extnamespace FROM pg_extension WHERE extname IN ('overten_auth', 'pgcrypto'))
	UNION ALL
	SELECT 'warning', format('schema %I', n.nspname),
		format('%s can create functions there that callers take for the extension''s.',
			CASE a.grantee WHEN 0 THEN 'Everybody' ELSE format('Role %I', r.rolname) END),
		format('Run REVOKE CREATE ON SCHEMA %I FROM %s.', n.nspname,
			CASE a.grantee WHEN 0 THEN 'PUBLIC' ELSE quote_ident(r.rolname) END)
	FROM pg_extension e
	JOIN pg_namespace n ON n.oid = e.extnamespace
	CROSS JOIN aclexplode(n.nspacl) a
	LEFT JOIN pg_roles r ON r.oid = a.grantee
	WHERE e.extname = 'overten_auth' AND a.privilege_type = 'CREATE'
		AND a.grantee <> n.nspowner AND r.rolsuper IS NOT TRUE
$$;
REVOKE ALL ON FUNCTION overten_auth.check_owners FROM PUBLIC;
COMMENT ON FUNCTION overten_auth.check_owners IS
'Returns the rows of overten_check about owners.';

CREATE FUNCTION overten_auth.check_tables()
	RETURNS TABLE (severity text, subject text, problem text, remedy text)
	LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
	WITH own (part, detail) AS MATERIALIZED (
		SELECT key, value FROM jsonb_each_text(overten_auth.own_parts())),
	found AS MATERIALIZED (
		SELECT * FROM overten_auth.parts()),
	-- What others may have defined, by the first word of the part's name.
	alien (kind, severity, problem, remedy) AS (VALUES
		('column', 'warning', 'A dump cannot be restored while this column is there.',
			'Move its data into a table of your own that references overten_auth.orgs, and drop it.'),
		('trigger', 'danger', 'It runs with each change, and can suppress a revocation.', 'Drop it.'),
		('rule', 'danger', 'It can turn a change into another statement.', 'Drop it.'),
		('disabled', 'danger', 'Foreign keys are not enforced.',
			'Run ALTER TABLE ... ENABLE TRIGGER ALL, then ENABLE ALWAYS TRIGGER for "0_invalidate_caches".'),
		('constraint', 'warning', 'The functions can fail because of it, and dumps do not have it.', 'Drop it.'),
		('index', 'warning', 'Dumps do not have it.', 'Drop it, or create it again after each restore.'),
		('policy', 'warning', 'It protects nothing: the functions read past it.', 'Drop it.'),
		('child', 'warning', 'Some functions take its rows for rows of the table; verification does not.',
			'Run ALTER TABLE ... NO INHERIT.'),
		('parent', 'warning', 'A change of the parent changes this table.', 'Run ALTER TABLE ... NO INHERIT.'),
		('statistics', 'notice', 'An update of the extension could fail because of it.', 'Drop it before an update.'))
	SELECT a.severity, f.part, 'This is not a part of the extension. ' || a.problem, a.remedy
	FROM found f
	LEFT JOIN own o USING (part)
	JOIN alien a ON a.kind = split_part(f.part, ' ', 1)
	WHERE o.part IS NULL
	UNION ALL
	SELECT CASE WHEN o.part ~ '^(trigger|column|table) ' THEN 'danger' ELSE 'warning' END,
		o.part, 'This part of the extension has been dropped or renamed.',
		'Define it again as the install script does.'
	FROM own o
	LEFT JOIN found f USING (part)
	WHERE f.part IS NULL
	UNION ALL
	SELECT CASE WHEN o.part LIKE 'trigger %' OR f.detail LIKE 'unlogged%' THEN 'danger' ELSE 'warning' END,
		o.part,
		format('The extension defined this as "%s". It is "%s".', o.detail, f.detail) || CASE
			WHEN o.part LIKE 'trigger "0_invalidate_caches" %' THEN ' Revocations do not take effect at once.'
			WHEN o.part LIKE 'trigger refuse_change %' THEN ' Its rows can be changed.'
			WHEN f.detail LIKE 'unlogged%' THEN ' A crash empties the table, and standbys do not have it.'
			WHEN f.detail LIKE '%row level security%' THEN ' Row level security protects nothing: the functions read past it.'
			ELSE '' END,
		CASE WHEN o.part LIKE 'trigger %' THEN 'Run ALTER TABLE ... ENABLE ALWAYS TRIGGER.'
			ELSE 'Alter it back.' END
	FROM own o
	JOIN found f USING (part)
	WHERE f.detail <> o.detail
	UNION ALL
	SELECT 'notice', format('publication %I', t.pubname),
		format('It publishes %s. Subscribers get what is in there, and revocations reach them late.',
			overten_auth.some_of(array_agg(format('%I.%I', t.schemaname, t.tablename) ORDER BY t.tablename))),
		'If this is not intended, publish tables by name.'
	FROM pg_publication_tables t
	WHERE t.schemaname = 'overten_auth'
	GROUP BY t.pubname
	UNION ALL
	SELECT 'warning', format('publication %I', p.pubname),
		format('It publishes %I.%I, which has no replica identity. Rows of that table cannot be updated or deleted, so that uses are not recorded.',
			t.schemaname, t.tablename),
		format('Run ALTER TABLE %I.%I REPLICA IDENTITY FULL.', t.schemaname, t.tablename)
	FROM pg_publication p
	JOIN pg_publication_tables t USING (pubname)
	JOIN pg_namespace n ON n.nspname = t.schemaname
	JOIN pg_class c ON c.relnamespace = n.oid AND c.relname = t.tablename
	WHERE t.schemaname = 'overten_auth' AND (p.pubupdate OR p.pubdelete)
		AND (c.relreplident = 'n' OR c.relreplident = 'd'
			AND NOT EXISTS (SELECT FROM pg_index i WHERE i.indrelid = c.oid AND i.indisprimary))
	UNION ALL
	SELECT 'notice', pg_describe_object(classid, objid, 0),
		'This is in a schema of the extension, but does not belong to it. An update of the extension could fail because of its name.',
		'Move it into another schema.'
	FROM (
		SELECT 'pg_class'::regclass::oid AS classid, oid AS objid, relnamespace AS namespace
		FROM pg_class WHERE relkind IN ('r', 'p', 'v', 'm', 'f', 'S')
		UNION ALL
		SELECT 'pg_proc'::regclass, oid, pronamespace FROM pg_proc) o
	WHERE namespace IN ('overten_auth'::regnamespace, 'overten_api'::regnamespace)
		AND NOT EXISTS (
			SELECT FROM pg_depend d
			JOIN pg_extension e ON d.refclassid = 'pg_extension'::regclass
				AND d.refobjid = e.oid AND d.deptype = 'e'
			WHERE e.extname = 'overten_auth' AND d.classid = o.classid AND d.objid = o.objid)
$$;
REVOKE ALL ON FUNCTION overten_auth.check_tables FROM PUBLIC;
COMMENT ON FUNCTION overten_auth.check_tables IS
'Returns the rows of overten_check about the tables and everything that is defined on them.';

CREATE FUNCTION overten_auth.check_configuration()
	RETURNS TABLE (severity text, subject text, problem text, remedy text)
	LANGUAGE sql VOLATILE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp AS $$
	-- Look at the settings after overten_status() has loaded the library: before
	-- that, anybody can set anything under their names.
	WITH state AS MATERIALIZED (
		SELECT s.*,
			CASE WHEN s.usage_mode IS NOT NULL
				THEN current_setting('overten_auth.databases', true) END AS databases,
			CASE WHEN s.usage_mode IS NOT NULL
				THEN current_setting('overten_auth.firebase_project_id', true) END AS project,
			coalesce(s.key_worker, 'off') <> 'off' AS fetches,
			EXISTS (SELECT FROM overten_auth.members) AS has_members
		FROM @extschema@.overten_status() s)
	SELECT 'notice', 'shared_preload_libraries',
		'The library is not preloaded. There is no history of uses, and signing keys are not fetched.',
		format('Set shared_preload_libraries = ''overten_auth'' and overten_auth.databases = %L, and restart the server.',
			quote_ident(current_database()))
	FROM state WHERE databases IS NULL
	UNION ALL
	SELECT 'warning', 'overten_auth.databases',
		'This database is not in the list. There is no history of uses, and signing keys are not fetched.',
		format('Add %s, and restart the server.', quote_ident(current_database()))
	FROM state WHERE databases IS NOT NULL AND usage_mode <> 'shared memory'
	UNION ALL
	SELECT 'warning', 'overten_auth.limits',
		'There are rate limits or quotas, but they are not counted in this database. Requests of the keys that have them fail in overten_admit.',
		'Preload the library and list the database, or drop the limits.'
	FROM state
	WHERE usage_mode <> 'shared memory' AND EXISTS (
		SELECT FROM overten_auth.limits WHERE NOT shadow)
	UNION ALL
	SELECT 'notice', format('limit %I of tier %s', l.name, l.subject),
		'There is no such tier.', 'Drop the limit, or a tier that gets this name will have it.'
	FROM overten_auth.limits l
	WHERE l.scope = 'tier' AND l.subject NOT IN (SELECT t.name FROM overten_auth.tiers t)
	UNION ALL
	SELECT 'warning', 'background worker',
		'No background worker serves this database at the moment. Uses stay in shared memory, and are lost in a crash.',
		'If this stays so, raise max_worker_processes, and see the server log.'
	FROM state WHERE usage_worker = 'none' AND NOT pg_is_in_recovery()
	UNION ALL
	SELECT 'warning', 'background worker',
		format('It has failed at %s: %s', flush_failed_at, flush_failure),
		'Correct what the message says. Uses that it cannot write stay in shared memory until then.'
	FROM state WHERE flush_failed_at > coalesce(flushed_at, '-infinity')
	UNION ALL
	SELECT 'warning', 'overten_auth.max_standby_lag',
		'This standby is beyond the bound, and does not verify. ' || standby_problem,
		'If this stays so, see the server log, and docs/scaling.md.'
	FROM state WHERE standby_problem IS NOT NULL
	UNION ALL
	SELECT CASE WHEN has_members THEN 'warning' ELSE 'notice' END, 'overten_auth.firebase_project_id',
		'It is not set. All Firebase ID tokens are refused.'
			|| CASE WHEN has_members
				THEN ' The orgs have members, who cannot log in. pg_dump without -C does not save this setting.'
				ELSE '' END,
		format('If you use Firebase, run ALTER DATABASE %I SET overten_auth.firebase_project_id = ''your-project''.',
			current_database())
	FROM state WHERE coalesce(project, '') = ''
	UNION ALL
	SELECT 'warning', 'overten_auth.firebase_project_id',
		'It is a number. Firebase ID tokens name the project by its id, so all are refused.',
		'Set it to the project id, which begins with a letter.'
	FROM state WHERE project ~ '^[0-9]+$'
	UNION ALL
	SELECT 'warning', 'signing keys',
		CASE signing_keys WHEN 0 THEN 'There is no unexpired signing key. All Firebase ID tokens are refused.'
			ELSE format('The last one expires at %s.', signing_keys_expire_at) END
			|| coalesce(' The last fetch: ' || fetch_outcome, ''),
		CASE WHEN fetches THEN 'Run SELECT overten_refresh_signing_keys().'
			ELSE 'Load new ones with overten_load_signing_keys.' END
	FROM state
	WHERE project <> ''
		AND (signing_keys = 0 OR signing_keys_expire_at < clock_timestamp() + interval '6 hours')
	UNION ALL
	SELECT 'warning', 'overten_auth.key_prefixes',
		format('Active keys with a prefix that is not in the list, and thus refused: %s (%s).',
			sum(keys), overten_auth.some_of(array_agg(prefix ORDER BY prefix))),
		'Add the prefix to the list if these keys are to work. Otherwise revoke them.'
	FROM (
		SELECT left(k.prefix, -4) AS prefix, count(*) AS keys
		FROM overten_auth.api_keys k
		WHERE k.revoked_at IS NULL
			AND (k.expires_at IS NULL OR k.expires_at > clock_timestamp())
		GROUP BY 1) used
	WHERE prefix NOT IN (SELECT p.prefix FROM overten_auth.key_prefixes() p)
	HAVING count(*) > 0
	UNION ALL
	SELECT 'warning', 'master key ' || id,
		'It is not in the master key file, and webhook secrets are sealed with it. They cannot be used.',
		'Copy the file that overten_auth.master_key_file names from the server or the backup that has it.'
	FROM state, unnest(master_keys_needed) id
	WHERE id <> ALL (master_keys_present)
	UNION ALL
	SELECT 'warning', 'overten_auth.master_key_file', master_key_warning,
		'Move the file out of the data directory, and copy it to every server.'
	FROM state WHERE master_keys_needed <@ master_keys_present AND master_key_warning IS NOT NULL
	UNION ALL
	SELECT 'danger', 'overten_auth.revocation_commit', revocation_warning,
		'Name the standbys in synchronous_standby_names, or set overten_auth.revocation_commit to off.'
	FROM state WHERE revocation_warning IS NOT NULL
	UNION ALL
	SELECT 'warning', 'overten_auth.trust_forwarded_for',
		format('Active keys with allowed addresses: %s. A client that does not come through your proxies can choose its address with X-Forwarded-For.', count(*)),
		'Name your proxies in overten_auth.trusted_proxies.'
	FROM state
	JOIN overten_auth.api_keys k ON k.allowed_addresses IS NOT NULL AND k.revoked_at IS NULL
		AND (k.expires_at IS NULL OR k.expires_at > clock_timestamp())
	WHERE usage_mode IS NOT NULL
		AND current_setting('overten_auth.trust_forwarded_for', true) <> '0'
		AND current_setting('overten_auth.trusted_proxies', true) = ''
	HAVING count(*) > 0
	UNION ALL
	SELECT 'danger', 'overten_auth.trusted_proxies',
		format('%s contains every client, so that each can choose its address with X-Forwarded-For.', trim(network)),
		'Name only your proxies.'
	FROM (
		SELECT current_setting('overten_auth.trusted_proxies', true)
		FROM state WHERE usage_mode IS NOT NULL) setting (list),
		string_to_table(list, ',') network
	WHERE list <> ''
		AND trim(network)::cidr >>= ANY ('{0.0.0.0/0,::/0,::ffff:0:0/96}'::cidr[])
$$;
REVOKE ALL ON FUNCTION overten_auth.check_configuration FROM PUBLIC;
COMMENT ON FUNCTION overten_auth.check_configuration IS
'Returns the rows of overten_check about settings, workers, limits, prefixes of keys, proxies, signing keys, master keys and synchronous standbys.';

CREATE FUNCTION overten_auth.check_credits()
	RETURNS TABLE (severity text, subject text, problem text, remedy text)
	LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
	WITH found AS MATERIALIZED (
		SELECT org_id, c.balance IS NOT NULL AS has_row,
			coalesce(c.balance, 0) AS balance, coalesce(l.balance, 0) AS ledger_balance,
			coalesce(c.entries, 0) AS entries, coalesce(l.entries, 0) AS ledger_entries,
			coalesce(c.held, 0) AS held, coalesce(h.held, 0) AS holds
		FROM overten_auth.credits c
		FULL JOIN (
			SELECT org_id, sum(amount) AS balance, count(*) AS entries
			FROM overten_auth.credit_ledger GROUP BY org_id) l USING (org_id)
		FULL JOIN (
			SELECT org_id, sum(amount) AS held
			FROM overten_auth.credit_holds GROUP BY org_id) h USING (org_id)),
	wrong (org_id, subject, problem) AS (
		SELECT org_id, 'overten_auth.credits', 'The balance is not the sum of the ledger.'
		FROM found WHERE balance <> ledger_balance
		UNION ALL
		-- An org that was erased has only the ledger.
		SELECT org_id, 'overten_auth.credit_ledger', 'It does not have as many rows as were written.'
		FROM found WHERE has_row AND entries <> ledger_entries
		UNION ALL
		SELECT org_id, 'overten_auth.credit_holds', 'Its rows do not add up to what is held.'
		FROM found WHERE held <> holds)
	SELECT 'danger', subject,
		format('%s Orgs: %s (%s).', problem, count(*), overten_auth.some_of(array_agg(org_id ORDER BY org_id))),
		'Find out who has written to the tables, and correct what they changed.'
	FROM wrong
	GROUP BY subject, problem
$$;
REVOKE ALL ON FUNCTION overten_auth.check_credits FROM PUBLIC;
COMMENT ON FUNCTION overten_auth.check_credits IS
'Returns the rows of overten_check about credits. Reads all of the ledger.';

CREATE FUNCTION overten_auth.run_checks()
	RETURNS TABLE (severity text, subject text, problem text, remedy text)
	LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'overten_run_checks';
REVOKE ALL ON FUNCTION overten_auth.run_checks FROM PUBLIC;
COMMENT ON FUNCTION overten_auth.run_checks IS
'Returns the rows of overten_check, in no order. If a check fails, that is a row, too.';

CREATE FUNCTION @extschema@.overten_check()
	RETURNS TABLE (severity text, subject text, problem text, remedy text)
	LANGUAGE sql VOLATILE PARALLEL UNSAFE SECURITY DEFINER
	SET search_path = pg_catalog, pg_temp AS $$
	SELECT * FROM overten_auth.run_checks()
	ORDER BY array_position(ARRAY['danger', 'warning', 'notice'], severity),
		subject COLLATE "C", problem COLLATE "C"
$$;
REVOKE ALL ON FUNCTION @extschema@.overten_check FROM PUBLIC;
COMMENT ON FUNCTION @extschema@.overten_check IS
'Returns the problems of the extension in this database, the worst first, or no rows. severity: danger (somebody can do what nobody should, or a promise does not hold), warning (something fails, or will fail) or notice (something is not configured, or good to know). subject: a role, an object or a setting. problem and remedy: what is wrong with it, and what to do. Returns these privileges, unless a superuser has them: all privileges of PUBLIC; all privileges with grant option; INSERT, UPDATE, DELETE, TRUNCATE, REFERENCES or TRIGGER on a table or column, except rows of tiers and scopes, and REFERENCES (org_id) on orgs; CREATE on a schema; EXECUTE on overten_import_key, overten_import_keys or an internal function; USAGE on a type; SELECT on digests or sealed secrets. Also returns combinations, including those by membership: EXECUTE on functions that answer customers (overten_handle_request, overten_api) and on overten_signup, overten_list_orgs, overten_add_member, overten_remove_member, overten_accept_invitation or overten_erase_person; EXECUTE on overten_load_signing_keys and on anything else except overten_refresh_signing_keys, overten_status, overten_check and overten_auth.stat; EXECUTE on overten_verify_key_digest and SELECT on digests; and membership in pg_write_all_data. The roles in README and gateway/roles.sql do not cause any rows.';


/* The last statements; see above overten_auth.objects. */
SELECT overten_auth.require_safe_owners();
SELECT overten_auth.finish_script();
