--
-- added_uses: what overten_auth.add_uses writes, of what a standby has counted,
-- and what it refuses
--
CREATE EXTENSION overten_auth;
SET overten_auth.record_use_without_preload = off;
SELECT system_identifier AS cluster FROM pg_control_system() \gset
SELECT date_trunc('hour', now()) AS hour, now() AS now \gset
SELECT org_id FROM overten_create_org('Followed') \gset
SELECT key_id FROM overten_mint_key(:'org_id') \gset
SELECT 'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11' AS a, 'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a12' AS b \gset
CREATE VIEW history AS
	SELECT hour - date_trunc('hour', now()) AS hour, client_addr, accepted, refused, limited,
		first_used_at - hour AS first, last_used_at <= now() AS is_past, last_used_at >= first_used_at AS in_order
	FROM overten_auth.key_usage;

-- One row, once
CALL overten_auth.add_uses(:cluster, :'a', 1, ARRAY[:'key_id'], ARRAY[:'hour'::timestamptz], ARRAY['192.0.2.1'::inet], '{3}', '{2}', '{1}', ARRAY[:'hour'::timestamptz], ARRAY[:'now'::timestamptz], ARRAY[:'now'::timestamptz]);
SELECT accepted, refused, limited, client_addr FROM overten_auth.key_usage;
SELECT last_used_at = :'now' AS is_last FROM overten_auth.key_last_used WHERE key_id = :'key_id';
SELECT source, last_batch FROM overten_auth.usage_batches;
CALL overten_auth.add_uses(:cluster, :'a', 1, ARRAY[:'key_id'], ARRAY[:'hour'::timestamptz], ARRAY['192.0.2.1'::inet], '{3}', '{2}', '{1}', ARRAY[:'hour'::timestamptz], ARRAY[:'now'::timestamptz], ARRAY[:'now'::timestamptz]);
SELECT accepted, refused, limited FROM overten_auth.key_usage;
CALL overten_auth.add_uses(:cluster, :'b', 1, ARRAY[:'key_id'], ARRAY[:'hour'::timestamptz], ARRAY['192.0.2.1'::inet], '{3}', '{2}', '{1}', ARRAY[:'hour'::timestamptz], ARRAY[:'now'::timestamptz], ARRAY[:'now'::timestamptz]);
CALL overten_auth.add_uses(:cluster, :'a', 5, ARRAY[:'key_id'], ARRAY[:'hour'::timestamptz], ARRAY['192.0.2.1'::inet], '{3}', '{2}', '{1}', ARRAY[:'hour'::timestamptz], ARRAY[:'now'::timestamptz], ARRAY[:'now'::timestamptz]);
CALL overten_auth.add_uses(:cluster, :'a', 4, ARRAY[:'key_id'], ARRAY[:'hour'::timestamptz], ARRAY['192.0.2.1'::inet], '{3}', '{2}', '{1}', ARRAY[:'hour'::timestamptz], ARRAY[:'now'::timestamptz], ARRAY[:'now'::timestamptz]);
SELECT accepted, refused, limited FROM overten_auth.key_usage;
SELECT source, last_batch FROM overten_auth.usage_batches ORDER BY 1;
DELETE FROM overten_auth.key_usage;

-- Rows for one row of the history, of the future, and too old; keys that do
-- not exist, and addresses as the history has them
CALL overten_auth.add_uses(:cluster, :'a', 6,
	ARRAY[:'key_id', :'key_id', :'key_id', :'key_id', 'key_unknown', :'key_id', :'key_id'],
	ARRAY[:'hour'::timestamptz, :'hour'::timestamptz, '2099-01-01Z', '294275-01-01Z', :'hour', '2001-01-01Z', :'hour'::timestamptz - interval '2 hours'],
	'{192.0.2.1, 192.0.2.1/24, 192.0.2.1, ::ffff:192.0.2.1, 192.0.2.1, 192.0.2.1, 2001:db8::1/128}',
	'{1, 1, 1, 1, 1, 1, 1}', '{0, 0, 0, 0, 0, 0, 0}', '{0, 0, 0, 0, 0, 0, 0}',
	ARRAY[:'hour'::timestamptz, :'hour'::timestamptz, '2099-01-01Z', '294275-01-01Z', :'hour', '2001-01-01Z', '2001-01-01Z'],
	array_fill('2099-01-01Z'::timestamptz, '{7}'), array_fill('2099-01-01Z'::timestamptz, '{7}'));
SELECT hour, client_addr, accepted, refused, limited, is_past, in_order FROM history ORDER BY hour;
SELECT first FROM history WHERE hour < '0';
SELECT last_used_at <= now() AS is_past FROM overten_auth.key_last_used WHERE key_id = :'key_id';
SELECT count(*) FROM overten_auth.key_usage WHERE key_id = 'key_unknown';

-- A batch without any row
CALL overten_auth.add_uses(:cluster, :'a', 7, '{}', '{}', '{}', '{}', '{}', '{}', '{}', '{}', '{}');
SELECT last_batch FROM overten_auth.usage_batches WHERE source = :'a';

-- What no standby has counted
\set add 'CALL overten_auth.add_uses(' :cluster ', ' :'a' ', '
\set good_key ARRAY[ :'key_id' ]
\set good_hour ARRAY[ :'hour' ::timestamptz]
:add 0, :good_key, :good_hour, '{NULL}', '{1}', '{0}', '{0}', :good_hour, :good_hour, :good_hour);
:add -1, :good_key, :good_hour, '{NULL}', '{1}', '{0}', '{0}', :good_hour, :good_hour, :good_hour);
:add 9, :good_key, :good_hour, '{NULL}', '{-1}', '{2}', '{0}', :good_hour, :good_hour, :good_hour);
:add 9, :good_key, :good_hour, '{NULL}', '{1}', '{-1}', '{0}', :good_hour, :good_hour, :good_hour);
:add 9, :good_key, :good_hour, '{NULL}', '{1}', '{0}', '{-1}', :good_hour, :good_hour, :good_hour);
:add 9, :good_key, :good_hour, '{NULL}', '{1000000000001}', '{0}', '{0}', :good_hour, :good_hour, :good_hour);
:add 9, :good_key, :good_hour, '{NULL}', '{0}', '{0}', '{0}', :good_hour, :good_hour, '{NULL}');
:add 9, :good_key, :good_hour, '{NULL}', '{1}', '{0}', '{0}', :good_hour, :good_hour, '{NULL}');
:add 9, :good_key, :good_hour, '{NULL}', '{0}', '{1}', '{0}', :good_hour, :good_hour, :good_hour);
:add 9, :good_key, '{infinity}', '{NULL}', '{1}', '{0}', '{0}', :good_hour, :good_hour, :good_hour);
:add 9, :good_key, '{-infinity}', '{NULL}', '{1}', '{0}', '{0}', :good_hour, :good_hour, :good_hour);
:add 9, :good_key, :good_hour, '{NULL}', '{1}', '{0}', '{0}', '{-infinity}', :good_hour, :good_hour);
:add 9, :good_key, :good_hour, '{NULL}', '{1}', '{0}', '{0}', :good_hour, '{infinity}', :good_hour);
:add 9, :good_key, :good_hour, '{NULL}', '{1}', '{0}', '{0}', :good_hour, :good_hour, '{infinity}');
:add 9, :good_key, '{2026-01-01 00:30Z}', '{NULL}', '{1}', '{0}', '{0}', :good_hour, :good_hour, :good_hour);
:add 9, '{""}', :good_hour, '{NULL}', '{1}', '{0}', '{0}', :good_hour, :good_hour, :good_hour);
:add 9, ARRAY[repeat('k', 33)], :good_hour, '{NULL}', '{1}', '{0}', '{0}', :good_hour, :good_hour, :good_hour);
:add 9, '{NULL}', :good_hour, '{NULL}', '{1}', '{0}', '{0}', :good_hour, :good_hour, :good_hour);
:add 9, :good_key, '{NULL}', '{NULL}', '{1}', '{0}', '{0}', :good_hour, :good_hour, :good_hour);
:add 9, :good_key, :good_hour, '{}', '{1}', '{0}', '{0}', :good_hour, :good_hour, :good_hour);
:add 9, :good_key, :good_hour, '{NULL}', '{1,1}', '{0}', '{0}', :good_hour, :good_hour, :good_hour);
:add 9, '{{key},{key}}', :good_hour, '{NULL}', '{1}', '{0}', '{0}', :good_hour, :good_hour, :good_hour);
:add 9, array_fill('key'::text, '{10001}'), array_fill(:'hour'::timestamptz, '{10001}'), array_fill(NULL::inet, '{10001}'), array_fill(1::int8, '{10001}'), array_fill(0::int8, '{10001}'), array_fill(0::int8, '{10001}'), array_fill(:'hour'::timestamptz, '{10001}'), array_fill(:'hour'::timestamptz, '{10001}'), array_fill(:'hour'::timestamptz, '{10001}'));
:add 9, NULL, :good_hour, '{NULL}', '{1}', '{0}', '{0}', :good_hour, :good_hour, :good_hour);
:add NULL, :good_key, :good_hour, '{NULL}', '{1}', '{0}', '{0}', :good_hour, :good_hour, :good_hour);
CALL overten_auth.add_uses(1, :'a', 9, '{}', '{}', '{}', '{}', '{}', '{}', '{}', '{}', '{}');
CALL overten_auth.add_uses(:cluster, NULL, 9, '{}', '{}', '{}', '{}', '{}', '{}', '{}', '{}', '{}');

-- Nobody holds its locks
BEGIN;
CALL overten_auth.add_uses(:cluster, :'a', 9, '{}', '{}', '{}', '{}', '{}', '{}', '{}', '{}', '{}');
ROLLBACK;
CREATE FUNCTION call_it(cluster int8) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
	CALL overten_auth.add_uses(cluster, gen_random_uuid(), 9, '{}', '{}', '{}', '{}', '{}', '{}', '{}', '{}', '{}');
END$$;
SELECT call_it(:cluster);
SELECT last_batch FROM overten_auth.usage_batches WHERE source = :'a';
SELECT set_config('test.cluster', :'cluster', false) IS NULL AS unset;
DO $$
BEGIN
	CALL overten_auth.add_uses(current_setting('test.cluster')::int8, 'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11', 10, '{}', '{}', '{}', '{}', '{}', '{}', '{}', '{}', '{}');
	IF EXISTS (SELECT FROM pg_locks WHERE relation = 'overten_auth.usage_batches'::regclass AND mode = 'ShareUpdateExclusiveLock') THEN
		RAISE 'a lock is held';
	END IF;
END$$;
SELECT last_batch FROM overten_auth.usage_batches WHERE source = :'a';

-- The session's own settings stay, and do not count.
SET default_transaction_isolation = 'repeatable read';
SET lock_timeout = '5min';
SET synchronous_commit = 'on';
CALL overten_auth.add_uses(:cluster, :'a', 11, '{}', '{}', '{}', '{}', '{}', '{}', '{}', '{}', '{}');
SHOW lock_timeout;
SHOW synchronous_commit;
RESET default_transaction_isolation;
RESET lock_timeout;

-- A role that may add uses, and nothing else
CREATE ROLE overten_uses;
GRANT USAGE ON SCHEMA overten_auth TO overten_uses;
GRANT EXECUTE ON PROCEDURE overten_auth.add_uses TO overten_uses;
SELECT subject, problem FROM overten_check() WHERE subject = 'overten_uses';
SET ROLE overten_uses;
CALL overten_auth.add_uses(:cluster, :'a', 12, :good_key, :good_hour, '{NULL}', '{1}', '{0}', '{0}', :good_hour, :good_hour, :good_hour);
\set VERBOSITY sqlstate
SELECT * FROM overten_auth.usage_batches;
SELECT * FROM overten_auth.key_usage;
SELECT overten_verify_key('sk_live_');
SELECT overten_flush_usage();
RESET ROLE;
REVOKE EXECUTE ON PROCEDURE overten_auth.add_uses FROM overten_uses;
SET ROLE overten_uses;
CALL overten_auth.add_uses(:cluster, :'a', 13, '{}', '{}', '{}', '{}', '{}', '{}', '{}', '{}', '{}');
RESET ROLE;
\set VERBOSITY default
SELECT last_batch FROM overten_auth.usage_batches WHERE source = :'a';
SELECT accepted FROM overten_auth.key_usage WHERE client_addr IS NULL;
DROP OWNED BY overten_uses;
DROP ROLE overten_uses;
DROP VIEW history;
DROP FUNCTION call_it;
DROP EXTENSION overten_auth;
