--
-- quotas: setting quotas of days and months
--
-- The library is not preloaded here, so a key with a quota gets an error;
-- test/t/218_quotas.pl and 219_quotas_kept.pl have the rest.
--
\set SHOW_CONTEXT never
\set VERBOSITY terse
CREATE EXTENSION overten_auth;
INSERT INTO overten_auth.tiers VALUES ('pro');
SELECT org_id FROM overten_create_org('Limited') \gset
SELECT key_id, secret FROM overten_mint_key(:'org_id') \gset

CREATE FUNCTION short_ids(value text) RETURNS text LANGUAGE sql AS $$
	SELECT regexp_replace(value, '(org|key)_[0-9A-Za-z]{20}', '\1_...', 'g') $$;

-- Setting
SELECT overten_set_limit('tier', 'free', 'per_day', 1000, '1 day');
SELECT overten_set_limit('tier', 'free', 'per_day', 1000, '1 day', NULL, 'key', false, NULL);
SELECT overten_set_limit('tier', 'free', 'per_day', 1001, interval '1 day');
SELECT overten_set_limit('org', :'org_id', 'per_month', 9223372036854775807, '1 month', per => 'org', shadow => true);
SELECT overten_set_limit('org', :'org_id', 'per_month', 9223372036854775807, '1 month', per => 'org', shadow => true, anchor => 1);
SELECT overten_set_limit('org', :'org_id', 'per_month', 9223372036854775807, '1 mon', per => 'org', shadow => true, anchor => 28);
SELECT overten_set_limit('key', :'key_id', 'per_month', 1, make_interval(months => 1), anchor => 15);
SELECT scope, short_ids(subject), name, quota, period, burst, per, shadow, anchor FROM overten_list_limits(:'org_id');

-- A quota becomes a rate limit, and the other way round.
SELECT overten_set_limit('tier', 'pro', 'x', 1, '1 month');
SELECT overten_set_limit('tier', 'pro', 'x', 1, '1 day');
SELECT overten_set_limit('tier', 'pro', 'x', 1, '1 s');
SELECT overten_set_limit('tier', 'pro', 'x', 1, '1 month', anchor => 2);
SELECT quota, period, burst, anchor FROM overten_list_limits() WHERE subject = 'pro';
SELECT overten_drop_limit('tier', 'pro', 'x');
SELECT overten_drop_limit('tier', 'pro', 'x');

-- Rules.  Only one day and one month are periods, not what is as long.
SELECT overten_set_limit('tier', 'free', 'x', 1, '24 hours');
SELECT overten_set_limit('tier', 'free', 'x', 1, '30 days');
SELECT overten_set_limit('tier', 'free', 'x', 1, '2 days');
SELECT overten_set_limit('tier', 'free', 'x', 1, '2 months');
SELECT overten_set_limit('tier', 'free', 'x', 1, '1 year');
SELECT overten_set_limit('tier', 'free', 'x', 1, '-1 day');
SELECT overten_set_limit('tier', 'free', 'x', 1, '-1 month');
SELECT overten_set_limit('tier', 'free', 'x', 1, '1 day 1 second');
SELECT overten_set_limit('tier', 'free', 'x', 1, '1 month 1 day');
SELECT overten_set_limit('tier', 'free', 'x', 1, '1 month -30 days');
SELECT overten_set_limit('tier', 'free', 'x', 1, '1 month -1 day 24:00:00');
SELECT overten_set_limit('tier', 'free', 'x', 0, '1 day');
SELECT overten_set_limit('tier', 'free', 'x', NULL, '1 day');
SELECT overten_set_limit('tier', 'free', 'x', 1, '1 day', 1);
SELECT overten_set_limit('tier', 'free', 'x', 1, '1 month', 1);
SELECT overten_set_limit('tier', 'free', 'x', 1, '1 day', anchor => 1);
SELECT overten_set_limit('tier', 'free', 'x', 1, '1 hour', anchor => 1);
SELECT overten_set_limit('tier', 'free', 'x', 1, '1 month', anchor => 0);
SELECT overten_set_limit('tier', 'free', 'x', 1, '1 month', anchor => 29);
SELECT overten_set_limit('tier', 'free', 'x', 1, '1 month', anchor => -2147483648);
SELECT overten_set_limit('key', :'key_id', 'x', 1, '1 month', per => 'org');
SELECT overten_set_limit('org', 'org_00000000000000000000', 'x', 1, '1 month');
SELECT overten_set_limit('key', 'key_00000000000000000000', 'x', 1, '1 month');

-- The tables do not take what the functions do not.
INSERT INTO overten_auth.limits VALUES ('tier', 'free', 'by_hand', NULL, 1, '1 day', 1, 'key');
INSERT INTO overten_auth.limits VALUES ('tier', 'free', 'by_hand', NULL, 1, '24 hours', NULL, 'key');
INSERT INTO overten_auth.limits VALUES ('tier', 'free', 'by_hand', NULL, 1, '30 days', NULL, 'key');
INSERT INTO overten_auth.limits VALUES ('tier', 'free', 'by_hand', NULL, 1, '1 month', NULL, 'key');
INSERT INTO overten_auth.limits VALUES ('tier', 'free', 'by_hand', NULL, 1, '1 month', NULL, 'key', false, 29);
INSERT INTO overten_auth.limits VALUES ('tier', 'free', 'by_hand', NULL, 1, '1 day', NULL, 'key', false, 1);
INSERT INTO overten_auth.limits VALUES ('tier', 'free', 'by_hand', NULL, 1, '1 s', 1, 'key', false, 1);
INSERT INTO overten_auth.limits VALUES ('tier', 'free', 'by_hand', NULL, 1, '1 s', NULL, 'key');
INSERT INTO overten_auth.limits VALUES ('tier', 'free', 'by_hand', NULL, 0, '1 day', NULL, 'key');
INSERT INTO overten_auth.quota_usage VALUES (now(), '\x00', :'org_id', 1);
INSERT INTO overten_auth.quota_usage VALUES (now(), sha256('x'), :'org_id', 1);
INSERT INTO overten_auth.quota_usage VALUES (now(), substr(sha256('x'), 1, 16), :'org_id', -1);

-- A quota that is enforced is never ignored; a shadow needs nothing.
SELECT outcome FROM overten_admission(:'secret');
SELECT overten_drop_limit('key', :'key_id', 'per_month'), overten_drop_limit('tier', 'free', 'per_day');
SELECT outcome, limit_name FROM overten_admission(:'secret');
SELECT overten_charge(:'key_id', 5);
SELECT overten_set_limit('tier', 'free', 'per_day', 1000, '1 day');
SELECT overten_admit(:'secret');
SELECT overten_charge(:'key_id', 5);
SELECT overten_limit_status(:'org_id');
SELECT tier FROM overten_verify_key(:'secret');
SELECT severity, subject FROM overten_check() WHERE subject LIKE '%limit%';

-- The audit log
SELECT action, short_ids(detail) AS detail FROM overten_auth.audit_log WHERE action ~ '_limit$' ORDER BY at;

-- Erasing an org removes what its quotas have granted.
SELECT org_id AS other FROM overten_create_org('Other') \gset
INSERT INTO overten_auth.quota_usage SELECT '2026-11-01 00:00+00', substr(sha256(org_id::bytea), 1, 16), org_id, 5
FROM overten_auth.orgs;
SELECT overten_revoke_all(:'org_id');
SELECT overten_erase_org(:'org_id');
SELECT org_id = :'other' AS other, units FROM overten_auth.quota_usage;
SELECT count(*) FROM overten_auth.limits WHERE scope <> 'tier';

-- Nobody but the owner gets anything.
CREATE ROLE regress_quota_reader;
SET ROLE regress_quota_reader;
SELECT * FROM overten_auth.quota_usage;
SELECT overten_set_limit('tier', 'free', 'x', 1, '1 day');
RESET ROLE;
DROP ROLE regress_quota_reader;
DROP FUNCTION short_ids;
DROP EXTENSION overten_auth CASCADE;
