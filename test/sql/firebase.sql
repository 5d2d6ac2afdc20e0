-- Firebase ID tokens: what can be said without a token that holds the time.
CREATE EXTENSION overten_auth;
\set SHOW_CONTEXT never

-- Nothing is configured.
SELECT overten_verify_firebase_jwt('a.b.c');
SELECT overten_verify_firebase_jwt(NULL) IS NULL AS null_in_null_out;

-- The settings are a superuser's.
SELECT name, setting, unit, min_val, max_val, context FROM pg_settings
WHERE name IN ('overten_auth.firebase_project_id', 'overten_auth.firebase_tenant', 'overten_auth.clock_skew') ORDER BY name;
\set VERBOSITY sqlstate
SET overten_auth.clock_skew = 301;
SET overten_auth.clock_skew = -1;
\set VERBOSITY default
SET overten_auth.firebase_project_id = 'demo project';
SET overten_auth.firebase_project_id = 'x23456789012345678901234567890123456789012345678901234567890123456789012345678901234567890123456789012';
SET overten_auth.firebase_tenant = 'a tenant';
SET overten_auth.firebase_project_id = 'demo-project';

-- Without keys, "invalid" would be wrong to say of anything.
SELECT overten_verify_firebase_jwt('a.b.c');
\getenv srcdir PG_ABS_SRCDIR
\set tokens :srcdir '/sql/tokens.inc'
\set ECHO none
\i :tokens
\set ECHO all
SELECT overten_load_signing_keys(:'signing_keys'), overten_load_signing_keys(:'signing_keys') AS again;

-- What is malformed.
SELECT overten_verify_firebase_jwt('');
SELECT overten_verify_firebase_jwt('a.b');
SELECT overten_verify_firebase_jwt('a.b.c');
SELECT overten_verify_firebase_jwt('e30.e30.');
-- So the emulator makes them.
SELECT overten_verify_firebase_jwt('eyJhbGciOiJub25lIiwidHlwIjoiSldUIn0.e30.');
SELECT overten_verify_firebase_jwt('e30.e30.AA');
SELECT overten_verify_firebase_jwt('e30.e31.AA');
SELECT overten_verify_firebase_jwt('e30=.e30.AA');
SELECT overten_verify_firebase_jwt('W10.e30.AA');
SELECT overten_verify_firebase_jwt(repeat('A', 9000000) || '.e30.AA');
SELECT overten_verify_firebase_jwt('eyJhbGciOiJub25lIn0.e30.AA');
SELECT overten_verify_firebase_jwt('eyJhbGciOiJIUzI1NiIsImtpZCI6IngifQ.e30.AA');

-- What is good, for its own project, and until it expires.
SELECT overten_verify_firebase_jwt(:'ada_token');
SET overten_auth.firebase_project_id = 'overten-test';
SELECT * FROM overten_verify_firebase_jwt(:'ada_token');
SELECT uid, email IS NULL AS no_email, expires_at = '2100-01-01 00:00:00+00' AS expires_at
FROM overten_verify_firebase_jwt(:'bob_token');
\set VERBOSITY sqlstate
SELECT overten_verify_firebase_jwt(:'expired_token');
\set VERBOSITY default
SELECT overten_verify_firebase_jwt(:'expired_token');
SELECT (overten_verify_firebase_jwt(:'ada_token')).claims - 'iss' AS claims;

-- The server's own function of the name that libjwt's parser uses works beside it.
SELECT json_object('{a,1}');

-- Documents that are refused.
SELECT overten_load_signing_keys(NULL) IS NULL AS null_in_null_out;
SELECT overten_load_signing_keys('<html></html>');
SELECT overten_load_signing_keys('{}');
SELECT overten_load_signing_keys('[]');
SELECT overten_load_signing_keys('{"keys":[]}');
SELECT overten_load_signing_keys('{"error":{"code":500}}');
SELECT overten_load_signing_keys('{"error":"not found"}');
SELECT overten_load_signing_keys('{"k":"-----BEGIN CERTIFICATE-----\nMIIB\n"}');
SELECT overten_load_signing_keys('{"k":null}');
SELECT overten_load_signing_keys('{"k":"x","k":"x"}');
SELECT overten_load_signing_keys('{"keys":[{"kty":"oct","kid":"k","k":"AAAA"}]}');
SELECT overten_load_signing_keys('{"keys":[{"kty":"EC","kid":"k","crv":"P-256"}]}');
SELECT overten_load_signing_keys('{"keys":[{"kty":"RSA","kid":"k","n":"AQAB","e":"AQAB"}]}');
SELECT overten_load_signing_keys('{"keys":[{"kty":"RSA","n":"AQAB","e":"AQAB"}]}');
SELECT overten_load_signing_keys('{"keys":[{"kty":"RSA","kid":"k"}]}');
SELECT overten_load_signing_keys('{"keys":[1]}');
SELECT overten_load_signing_keys(('{"k":"' || repeat('x', 5000000) || '"}')::json);
SELECT count(*) FROM overten_auth.signing_keys;

-- Nobody else may do anything.
CREATE ROLE regress_firebase_nobody;
GRANT USAGE ON SCHEMA overten_auth TO regress_firebase_nobody;
SET ROLE regress_firebase_nobody;
SELECT overten_verify_firebase_jwt('a.b.c');
SELECT overten_load_signing_keys('{}');
SELECT * FROM overten_auth.signing_keys;
INSERT INTO overten_auth.signing_keys (kid, public_key) VALUES ('k', '');
SET overten_auth.firebase_project_id = 'mine';
SET overten_auth.clock_skew = 1;
RESET ROLE;

-- A key that somebody put in by hand and that is none is not used.
DELETE FROM overten_auth.signing_keys;
INSERT INTO overten_auth.signing_keys (kid, public_key) VALUES ('k', '\x3000');
SELECT overten_verify_firebase_jwt('a.b.c');

-- EXECUTE is all that a role needs.
GRANT EXECUTE ON FUNCTION overten_verify_firebase_jwt TO regress_firebase_nobody;
REVOKE USAGE ON SCHEMA overten_auth FROM regress_firebase_nobody;
SET ROLE regress_firebase_nobody;
SELECT overten_verify_firebase_jwt('a.b.c');
RESET ROLE;

-- Keys are not dumped, all else that holds users' data is.
SELECT 'overten_auth.signing_keys'::regclass = ANY (extconfig) AS dumped
FROM pg_extension WHERE extname = 'overten_auth';

-- Every object has a comment.
SELECT attname FROM pg_attribute
WHERE attrelid = 'overten_auth.signing_keys'::regclass AND attnum > 0
	AND col_description(attrelid, attnum) IS NULL;
SELECT provolatile, proisstrict, proparallel, obj_description(oid, 'pg_proc') IS NOT NULL AS commented
FROM pg_proc WHERE proname IN ('overten_verify_firebase_jwt', 'overten_load_signing_keys');

REVOKE EXECUTE ON FUNCTION overten_verify_firebase_jwt FROM regress_firebase_nobody;
DROP EXTENSION overten_auth;
DROP ROLE regress_firebase_nobody;
