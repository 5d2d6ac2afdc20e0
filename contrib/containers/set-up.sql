-- What start-postgres runs in a new cluster.

SET client_min_messages = warning;
CREATE DATABASE app;
\connect app
SET client_min_messages = warning;
CREATE EXTENSION overten_auth CASCADE;
\ir roles.sql
\set password `cat /run/secrets/gateway_password`
ALTER ROLE overten_gateway PASSWORD :'password';
