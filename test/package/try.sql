-- What must work where the package is installed: minting, verifying and
-- revoking keys, and Firebase ID tokens, for which libjwt is opened.  Any
-- difference is an error.
CREATE DATABASE packaged;
\c packaged
CREATE EXTENSION overten_auth CASCADE;
\ir ../sql/tokens.inc

SELECT org_id FROM overten_create_org('Acme Docs') \gset
SELECT key_id, secret FROM overten_mint_key(:'org_id') \gset
SELECT 1 / (coalesce(min(key_id), '') = :'key_id')::int AS verified FROM overten_verify_key(:'secret');
SELECT 1 / overten_revoke_key(:'org_id', :'key_id')::int AS revoked;
SELECT 1 / (count(*) = 0)::int AS refused FROM overten_verify_key(:'secret');

SET overten_auth.firebase_project_id = 'overten-test';
SELECT overten_load_signing_keys(:'signing_keys');
SELECT 1 / (uid IS NOT DISTINCT FROM 'ada')::int AS verified FROM overten_verify_firebase_jwt(:'ada_token');
