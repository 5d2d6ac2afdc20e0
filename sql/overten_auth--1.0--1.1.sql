/* sql/overten_auth--1.0--1.1.sql */

\echo Use "ALTER EXTENSION overten_auth UPDATE TO '1.1'" to load this file. \quit


/* Tables */

ALTER TABLE overten_auth.orgs
	ADD COLUMN previous_webhook_secret_sealed pg_catalog.bytea,
	ADD COLUMN previous_webhook_secret_until pg_catalog.timestamptz,
	ADD CONSTRAINT orgs_previous_webhook_secret_check CHECK (
		(previous_webhook_secret_sealed IS NULL)
		OPERATOR(pg_catalog.=) (previous_webhook_secret_until IS NULL));
COMMENT ON COLUMN overten_auth.orgs.webhook_secret_sealed IS 'credential, sealed: format byte 1, id of the master key (8 bytes), nonce (12), ciphertext, tag (16) of AES-256-GCM with org_id as associated data; or format byte 0 and the plain secret, which is not written any more: overten_reseal() seals it';
COMMENT ON COLUMN overten_auth.orgs.previous_webhook_secret_sealed IS 'credential, sealed likewise: the webhook secret before the last rotation; NULL if there is none';
COMMENT ON COLUMN overten_auth.orgs.previous_webhook_secret_until IS 'until when the previous webhook secret signs, too';

/*
 * Without a foreign key to api_keys, whose row locks would write it.  Written by
 * the background workers alone.
 */
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
CREATE INDEX key_usage_hour_idx ON overten_auth.key_usage (hour, key_id);
REVOKE ALL ON overten_auth.key_usage FROM PUBLIC;
COMMENT ON TABLE overten_auth.key_usage IS 'the history of each key, by hour and client address';
COMMENT ON COLUMN overten_auth.key_usage.key_id IS 'the key';
COMMENT ON COLUMN overten_auth.key_usage.hour IS 'the beginning of the hour, in UTC';
COMMENT ON COLUMN overten_auth.key_usage.client_addr IS 'where the requests came from, an IPv6 address cut to /64; NULL if that is not known, and for all addresses of a key after the first 64 of the hour, or after the first while memory for counting is short';
COMMENT ON COLUMN overten_auth.key_usage.accepted IS 'uses';
COMMENT ON COLUMN overten_auth.key_usage.refused IS 'attempts to use it after it was revoked';
COMMENT ON COLUMN overten_auth.key_usage.first_used_at IS 'time of the first use or attempt';
COMMENT ON COLUMN overten_auth.key_usage.last_used_at IS 'time of the last use or attempt';
COMMENT ON INDEX overten_auth.key_usage_hour_idx IS 'finds what is older than overten_auth.usage_retention, and how far the history goes back; with the key, so that a planner who takes it for a key and hour does no harm';

COMMENT ON COLUMN overten_auth.audit_log.action IS 'create_org, set_tier, allow_api_access, suspend_api_access, add_member, remove_member, mint_key, import_key, revoke_key, revoke_leaked_key, load_signing_keys, rotate_webhook_secret or reseal';
COMMENT ON COLUMN overten_auth.audit_log.org_id IS 'the org that it was done to; NULL if none, or several';
COMMENT ON COLUMN overten_auth.audit_log.detail IS 'the new tier, the member, the name of the key, the reason, or the number of signing keys or resealed orgs';
ALTER TABLE overten_auth.signing_keys
	ADD COLUMN certificate_expires_at pg_catalog.timestamptz;
COMMENT ON COLUMN overten_auth.signing_keys.certificate_expires_at IS 'the end of its certificate, which expires_at is never after; NULL if it came as a JWK';


/* Keys */

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
	OUT last_fetch_at pg_catalog.timestamptz,
	OUT last_fetch_outcome pg_catalog.text,
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
COMMENT ON COLUMN overten_stat.last_fetch_at IS 'when signing keys were last fetched, or that was tried, for any of the databases';
COMMENT ON COLUMN overten_stat.last_fetch_outcome IS 'what came of it';
COMMENT ON COLUMN overten_stat.since IS 'when the counting began';
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


CREATE FUNCTION overten_api.authenticate_request() RETURNS pg_catalog.void
	LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'overten_api_authenticate_request';
REVOKE ALL ON FUNCTION overten_api.authenticate_request() FROM PUBLIC;
COMMENT ON FUNCTION overten_api.authenticate_request() IS
'For db-pre-request before tables of your own: makes the API key of the request the identity, as overten_authenticate does; without a bearer, or with one that is no API key, there is none. Raises SQLSTATE PGRST like revoke_api_key: 401 invalid_api_key, 400 invalid_request for two credentials that differ, 503 service_unavailable on a standby that may not verify.';

/*
 * As for the tables before: PUBLIC cannot use the row types, and pg_dump is not
 * to warn of them.
 */
REVOKE ALL ON TYPE overten_auth.key_usage, overten_stat FROM PUBLIC;
DELETE FROM pg_catalog.pg_init_privs
WHERE classoid OPERATOR(pg_catalog.=) 'pg_catalog.pg_type'::pg_catalog.regclass
AND objoid IN (
	SELECT c.reltype FROM pg_catalog.pg_class c
	WHERE c.oid IN (
		'overten_auth.key_usage'::pg_catalog.regclass,
		'overten_stat'::pg_catalog.regclass));

SELECT pg_catalog.pg_extension_config_dump('overten_auth.key_usage', '');


/*
 * Webhook secrets that 1.0 has left plain are sealed.  Where there is none, no
 * master key is made, for a dump may be about to bring values that need another.
 */
SELECT overten_reseal(2147483647) WHERE EXISTS (SELECT FROM overten_auth.orgs);
