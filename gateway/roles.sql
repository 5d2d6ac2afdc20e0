-- roles.sql
--
-- The roles that the HTTP layers log in with, and all that they may do.  To be
-- run by a superuser in the database that has the extension; leave out what you
-- do not use, and give a role that logs in over TCP a password.  If the
-- functions are not in the schema public, name theirs: psql -v schema=...
--
-- The settings keep credentials out of the server's log, where statements that
-- are slow or fail would otherwise stand with their parameters.  The timeout is
-- shorter than the gateway's own, so that nothing happens behind an answer that
-- says it did not.  The search_path does without the schema of the role's own name,
-- which whoever may create schemas could make.

\set ON_ERROR_STOP on
\if :{?schema}
	\set is_named on
\else
	\set is_named off
	\set schema public
\endif
BEGIN;

-- The gateway.
CREATE ROLE overten_gateway LOGIN;
GRANT EXECUTE ON FUNCTION :"schema".overten_handle_request(text, text, json, bytea),
	:"schema".overten_handle_request(text, text, json, text),
	:"schema".overten_authorize_request(text, json) TO overten_gateway;
ALTER ROLE overten_gateway SET log_parameter_max_length = 0;
ALTER ROLE overten_gateway SET log_parameter_max_length_on_error = 0;
ALTER ROLE overten_gateway SET statement_timeout = '4s';
ALTER ROLE overten_gateway SET search_path = pg_catalog, :"schema", pg_temp;

-- PostgREST: the role that it logs in with, and the one that it runs requests
-- as (db-anon-role).
CREATE ROLE overten_web;
GRANT USAGE ON SCHEMA overten_api TO overten_web;
GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA overten_api TO overten_web;
REVOKE EXECUTE ON FUNCTION overten_api.authorize() FROM overten_web;
-- For policies on tables of your own, with authenticate_request as db-pre-request.
GRANT EXECUTE ON FUNCTION :"schema".overten_current_org(), :"schema".overten_current_key() TO overten_web;
CREATE ROLE overten_authenticator LOGIN NOINHERIT;
-- A PostgREST of its own for nginx before your services (auth_request.conf).
CREATE ROLE overten_services;
GRANT USAGE ON SCHEMA overten_api TO overten_services;
GRANT EXECUTE ON FUNCTION overten_api.authorize() TO overten_services;
GRANT overten_web, overten_services TO overten_authenticator;
ALTER ROLE overten_authenticator SET log_parameter_max_length = 0;
ALTER ROLE overten_authenticator SET log_parameter_max_length_on_error = 0;
ALTER ROLE overten_authenticator SET statement_timeout = '4s';
ALTER ROLE overten_authenticator SET search_path = pg_catalog, :"schema", pg_temp;
ALTER ROLE overten_web SET search_path = pg_catalog, :"schema", pg_temp;
ALTER ROLE overten_services SET search_path = pg_catalog, :"schema", pg_temp;

\if :is_named
	GRANT USAGE ON SCHEMA :"schema" TO overten_gateway, overten_web, overten_services;
\endif
COMMIT;
