\set ON_ERROR_STOP on
\set QUIET on
\pset null '(null)'
\pset footer off
SET client_min_messages = warning;
\echo
\echo '1. A fresh PostgreSQL server, and the extension in it'
\echo
\set ECHO queries
CREATE EXTENSION overten_auth CASCADE;
\set ECHO none
\echo
\echo '2. A customer, and its first API key.  The secret is shown this once: the'
\echo '   table gets its SHA-256 digest and the first 12 characters.'
\echo
\set ECHO queries
SELECT org_id, name, tier FROM overten_create_org('Acme Docs') \gset org_
SELECT key_id, name, prefix, secret FROM overten_mint_key(:'org_org_id') \gset key_
\set ECHO none
\echo '   org_id' :org_org_id
\echo '   key_id' :key_key_id
\echo '   secret' :key_secret
\echo
\set ECHO queries
SELECT name, prefix, encode(digest, 'hex') AS digest FROM overten_auth.api_keys;
\set ECHO none
\echo
\echo '3. A program sends the key with each request; one call says whose it is.'
\echo
\set ECHO queries
SELECT key_id, org_id, org_name, tier, key_prefix FROM overten_verify_key(:'key_secret');
\set ECHO none
\echo
\echo '4. A mistyped key is refused: no row, no error, nothing in the log.  Its'
\echo '   checksum tells even without the database that it was never minted.'
\echo
\set ECHO queries
SELECT overten_verify_key('sk_live_0000000000000000000000000000') IS NULL AS refused,
       overten_key_checksum_ok('sk_live_0000000000000000000000000000') AS checksum,
       overten_key_checksum_ok(:'key_secret') AS checksum_of_the_real_one;
\set ECHO none
\echo
\echo '5. Rotation: a second key, then the first is revoked.'
\echo
\set ECHO queries
SELECT key_id, secret FROM overten_mint_key(:'org_org_id', 'primary, rotated') \gset new_
SELECT overten_revoke_key(:'org_org_id', :'key_key_id', 'rotated');
SELECT overten_verify_key(:'key_secret') IS NULL AS old_key_refused,
       (overten_verify_key(:'new_secret')).org_name AS new_key_is_for;
\set ECHO none
\echo
\echo '6. The list, as a customer sees it, and what the audit log has.'
\echo
\set ECHO queries
SELECT name, prefix, last_used_at IS NOT NULL AS used, revoked_at IS NOT NULL AS revoked
FROM overten_list_keys(:'org_org_id');
SELECT action, actor, detail FROM overten_auth.audit_log ORDER BY at;
\set ECHO none
\echo
