-- fill.sql
--
-- Add the keys :first to :last and their orgs, :keys_per_org keys each on
-- average, which org has which being random.

\set ON_ERROR_STOP on

-- No look at the org of each key: fill does it for all of them.
SET session_replication_role = replica;

INSERT INTO overten_auth.orgs (org_id, name, tier, webhook_secret_sealed)
SELECT 'org_' || lpad(i::text, 20, '0'), 'Org ' || i, 'free',
	   '\x'	-- fill rotates it
FROM generate_series(:first / :keys_per_org, (:last - 1) / :keys_per_org) i;

INSERT INTO overten_auth.api_keys (key_id, org_id, name, prefix, digest)
SELECT 'key_' || lpad(i::text, 20, '0'),
	   'org_' || lpad((:first / :keys_per_org + (hashint8(i)::bigint & 2147483647)
					   % ((:last - 1) / :keys_per_org - :first / :keys_per_org + 1))::text, 20, '0'),
	   'primary', 'sk_live_0000',
	   sha256(('sk_live_000000000' || 1000000000000000000 + i)::bytea)
FROM (SELECT generate_series(:first, :last) AS i) number;

INSERT INTO overten_auth.key_last_used
SELECT 'key_' || lpad(i::text, 20, '0')
FROM (SELECT generate_series(:first, :last) AS i) number;
