-- plproxy.sql
--
-- Makes a database a proxy in front of several primaries, over which keys and orgs
-- are spread by slots (docs/scaling.md).  To be run by a superuser, after CREATE
-- EXTENSION overten_auth, in a database that has nothing else.  Needs PL/Proxy
-- (Debian: postgresql-15-plproxy).
--
-- The functions of the extension then ask the server that has the slot: that of the
-- digest, where a secret is given, and that of the org everywhere else.  A function
-- whose arguments do not say which server it is about raises 0A000: call it on
-- each server.  The tables of the extension stay empty here.
--
-- PL/Proxy connects to the servers as the role that calls it.  So the roles are the
-- same everywhere, and what they may do is decided on the servers.  Passwords belong
-- in the .pgpass of the proxy's server, not in conninfo, which these roles can read.

\set ON_ERROR_STOP on
BEGIN;
SET LOCAL search_path = pg_catalog, pg_temp;
SELECT extnamespace::regnamespace AS ext FROM pg_extension WHERE extname = 'overten_auth' \gset
SELECT set_config('overten_proxy.schema', :'ext', true) \g /dev/null

CREATE SCHEMA overten_proxy;
CREATE SCHEMA plproxy;
CREATE EXTENSION plproxy SCHEMA overten_proxy;

CREATE TABLE overten_proxy.servers (
	server text PRIMARY KEY,
	conninfo text NOT NULL
);
COMMENT ON TABLE overten_proxy.servers IS 'the primaries; conninfo is without user and password';

CREATE TABLE overten_proxy.slots (
	slot int4 PRIMARY KEY CHECK (slot >= 0 AND slot < 1024),
	server text NOT NULL REFERENCES overten_proxy.servers,
	moving bool NOT NULL DEFAULT false
);
COMMENT ON TABLE overten_proxy.slots IS 'which server has each of the 1024 slots; while one moves to another server (contrib/move-slot), calls to it fail';

CREATE TABLE overten_proxy.moves (
	slot int4 PRIMARY KEY REFERENCES overten_proxy.slots,
	target text NOT NULL REFERENCES overten_proxy.servers,
	source_xid xid8
);
COMMENT ON TABLE overten_proxy.moves IS 'moves that have not ended: to which server, and the transaction at the old server that decides; NULL while it cannot have committed';

CREATE TABLE overten_proxy.imported_keys (
	digest bytea PRIMARY KEY CHECK (octet_length(digest) = 32),
	slot int4 NOT NULL REFERENCES overten_proxy.slots
);
COMMENT ON TABLE overten_proxy.imported_keys IS 'the slots of orgs whose keys were minted elsewhere, so that the digest says nothing';

-- PL/Proxy reads the map again when this number changes, at the next call.
CREATE TABLE overten_proxy.version (number int4 NOT NULL);
INSERT INTO overten_proxy.version VALUES (1);

CREATE FUNCTION overten_proxy.count_version() RETURNS trigger
	LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	UPDATE overten_proxy.version SET number = number + 1;
	RETURN NULL;
END$$;
CREATE TRIGGER count_version AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE ON overten_proxy.servers
	FOR EACH STATEMENT EXECUTE FUNCTION overten_proxy.count_version();
CREATE TRIGGER count_version AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE ON overten_proxy.slots
	FOR EACH STATEMENT EXECUTE FUNCTION overten_proxy.count_version();


-- What PL/Proxy asks for

CREATE FUNCTION plproxy.get_cluster_version(cluster text) RETURNS int4
	LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS
	'SELECT number FROM overten_proxy.version';

CREATE FUNCTION plproxy.get_cluster_partitions(cluster text) RETURNS SETOF text
	LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	IF (SELECT count(*) FROM overten_proxy.slots) <> 1024 THEN
		RAISE 'overten_proxy.slots must have all 1024 slots' USING ERRCODE = '55000';
	END IF;
	RETURN QUERY SELECT v.conninfo FROM overten_proxy.slots s
		JOIN overten_proxy.servers v USING (server) ORDER BY s.slot;
END$$;

-- After a quarter of an hour, connect anew; without an answer, give up sooner than
-- the gateway does.
CREATE FUNCTION plproxy.get_cluster_config(cluster text, OUT key text, OUT val text) RETURNS SETOF record
	LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS
	$$VALUES ('connection_lifetime', '900'), ('query_timeout', '4')$$;


-- Where a call goes

-- A slot, unless it is being moved.
CREATE FUNCTION overten_proxy.resting(slot int4) RETURNS int4
	LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	IF EXISTS (SELECT FROM overten_proxy.slots s WHERE s.moving AND s.slot = coalesce(resting.slot, s.slot)) THEN
		RAISE 'the slot is being moved to another server' USING ERRCODE = '55000';
	END IF;
	RETURN slot;
END$$;

-- All servers, unless a slot is being moved: its orgs could be on two of them.
CREATE FUNCTION overten_proxy.all_servers() RETURNS text
	LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	PERFORM overten_proxy.resting(NULL);
	RETURN 'overten';
END$$;

CREATE FUNCTION overten_proxy.slot_of_digest(digest bytea) RETURNS int4
	LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	IF octet_length(digest) <> 32 OR digest IS NULL THEN
		RETURN 0;
	END IF;
	RETURN overten_proxy.resting(coalesce((SELECT i.slot FROM overten_proxy.imported_keys i WHERE i.digest = slot_of_digest.digest),
		get_byte(digest, 0) * 4 + get_byte(digest, 1) / 64));
END$$;

CREATE FUNCTION overten_proxy.slot_of_text(id text) RETURNS int4
	LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
	SELECT overten_proxy.resting(get_byte(d, 0) * 4 + get_byte(d, 1) / 64)
	FROM sha256(convert_to(left(coalesce(id, ''), 1024), getdatabaseencoding())) d
$$;

CREATE FUNCTION overten_proxy.slot_of_secret(secret text) RETURNS int4
	LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
	SELECT overten_proxy.slot_of_digest(sha256(convert_to(left(coalesce(secret, ''), 1024), getdatabaseencoding())))
$$;

-- The person of an ID token, which the server will check.  NULL if it is none.
CREATE FUNCTION overten_proxy.person_of(token text) RETURNS text
	LANGUAGE plpgsql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	claims text := translate(split_part(token, '.', 2), '-_', '+/');
BEGIN
	RETURN convert_from(decode(rpad(claims, (length(claims) + 3) / 4 * 4, '='), 'base64'), 'UTF8')::json ->> 'sub';
EXCEPTION WHEN data_exception OR program_limit_exceeded OR untranslatable_character THEN
	RETURN NULL;
END$$;

CREATE FUNCTION overten_proxy.slot_of_request(path text, headers json, body bytea) RETURNS int4
	LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	org text := substring(path FROM '^/api/v1/organizations/([^/?]+)');
	bearer text := coalesce(nullif(btrim(headers ->> 'x-overten-api-key', E' \t'), ''),
		substring(coalesce(headers ->> 'x-overten-authorization', headers ->> 'authorization') FROM '(?i)^bearer +(.*)$'));
BEGIN
	IF org IS NULL AND path ~ '^/api/v1/signup(\?|$)' THEN
		BEGIN
			org := convert_from(body, 'UTF8')::json ->> 'existing_org_id';
		EXCEPTION WHEN data_exception OR program_limit_exceeded OR untranslatable_character THEN
			org := NULL;
		END;
	END IF;
	IF org IS NOT NULL THEN
		RETURN overten_proxy.slot_of_text(org);
	ELSIF bearer LIKE '%.%.%' THEN
		RETURN overten_proxy.slot_of_text(overten_proxy.person_of(bearer));
	END IF;
	RETURN overten_proxy.slot_of_secret(bearer);
END$$;


CREATE FUNCTION overten_proxy.refuse(function text) RETURNS int4
	LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	RAISE '% cannot be called through the proxy', function
		USING ERRCODE = '0A000', HINT = 'Call it on the server that it is about.';
END$$;


-- The functions of the extension: by the name of their first argument, unless they
-- are named here.

CREATE FUNCTION pg_temp.proxy(function regprocedure, run text, body text, language text DEFAULT 'plproxy')
	RETURNS void LANGUAGE plpgsql AS $$
BEGIN
	EXECUTE (SELECT format('CREATE OR REPLACE FUNCTION %I.%I(%s) RETURNS %s LANGUAGE %I AS %L',
		pronamespace::regnamespace::text, proname, pg_get_function_arguments(oid), pg_get_function_result(oid), language, format(body, run))
		FROM pg_proc WHERE oid = function);
END$$;

SELECT pg_temp.proxy(f, coalesce(r.run, format('overten_proxy.refuse(%L)', f.proname)),
	format('CLUSTER %s; RUN ON %%s;', CASE r.run WHEN 'ALL' THEN 'overten_proxy.all_servers()' ELSE '''overten''' END))
FROM (
	SELECT p.*, p.oid::regprocedure AS f FROM pg_proc p
	JOIN pg_depend d ON d.classid = 'pg_proc'::regclass AND d.objid = p.oid
		AND d.refclassid = 'pg_extension'::regclass AND d.deptype = 'e'
	JOIN pg_extension e ON e.oid = d.refobjid AND e.extname = 'overten_auth'
	WHERE p.pronamespace = e.extnamespace
		AND p.proname NOT IN ('overten_slot', 'overten_key_checksum_ok', 'overten_current_org', 'overten_current_key',
			'overten_has_scope', 'overten_verify_firebase_jwt', 'overten_load_signing_keys', 'overten_refresh_signing_keys',
			'overten_status', 'overten_check', 'overten_flush_usage', 'overten_handle_request', 'overten_authorize_request')) f,
LATERAL (SELECT CASE
	WHEN proname IN ('overten_authenticate', 'overten_import_key', 'overten_import_keys', 'overten_revoke_keys_of', 'overten_erase_person') THEN NULL
	WHEN proname IN ('overten_list_orgs', 'overten_all_anomalies') THEN 'ALL'
	WHEN proname = 'overten_create_org' THEN 'ANY'
	WHEN proname = 'overten_signup' THEN 'overten_proxy.slot_of_text(coalesce(existing_org_id, uid))'
	WHEN proargnames[1] = 'org_id' THEN 'overten_proxy.slot_of_text(org_id)'
	WHEN proargnames[1] = 'secret' THEN 'overten_proxy.slot_of_secret(secret)'
	WHEN proargnames[1] = 'digest' THEN 'overten_proxy.slot_of_digest(digest)'
	END) r (run) \g /dev/null

-- A request over HTTP goes to one server, except a person's list of orgs, and the
-- code of an invitation, which says nothing of the org.
SELECT format($q$
CREATE FUNCTION overten_proxy.ask_one(method text, path text, headers json, body bytea)
	RETURNS overten_auth.http_response LANGUAGE plproxy AS $$
	CLUSTER 'overten'; RUN ON overten_proxy.slot_of_request(path, headers, body);
	TARGET %1$s.overten_handle_request;
$$;
CREATE FUNCTION overten_proxy.authorize(query text, headers json)
	RETURNS overten_auth.http_response LANGUAGE plproxy AS $$
	CLUSTER 'overten'; RUN ON overten_proxy.slot_of_request('', headers, NULL);
	TARGET %1$s.overten_authorize_request;
$$;
CREATE FUNCTION overten_proxy.ask_all(method text, path text, headers json, body bytea)
	RETURNS SETOF overten_auth.http_response LANGUAGE plproxy AS $$
	CLUSTER overten_proxy.all_servers(); RUN ON ALL;
	TARGET %1$s.overten_handle_request;
$$;
$q$, :'ext') \gexec

CREATE FUNCTION overten_proxy.ask(method text, path text, headers json, body bytea)
	RETURNS overten_auth.http_response
	LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	answer overten_auth.http_response;
	answers overten_auth.http_response[];
BEGIN
	IF path !~ '^/api/v1/(organizations|invitations/accept)/?(\?|$)' THEN
		RETURN overten_proxy.ask_one(method, path, headers, body);
	END IF;
	answers := ARRAY(SELECT a FROM overten_proxy.ask_all(method, path, headers, body) a ORDER BY a.status);
	answer := answers[1];
	IF path LIKE '%/organizations%' AND answers[array_upper(answers, 1)].status <> 200 THEN
		RETURN answers[array_upper(answers, 1)];
	ELSIF method = 'GET' AND path LIKE '%/organizations%' THEN
		answer.body := json_build_object('items', coalesce((
			SELECT json_agg(i.item ORDER BY i.item ->> 'created_at') FROM unnest(answers) a, json_array_elements(a.body::json -> 'items') i (item)), '[]'));
	END IF;
	RETURN answer;
END$$;

-- What PL/Proxy itself reports is that a server is away (08006), so that the gateway
-- answers 503, as for one server.
SELECT pg_temp.proxy(format('%s.%s', :'ext', function)::regprocedure, call, $$
BEGIN
	RETURN %s;
EXCEPTION WHEN internal_error THEN
	IF SQLERRM NOT LIKE 'PL/Proxy function %%' THEN
		RAISE;
	END IF;
	RAISE 'a server behind the proxy cannot be reached' USING ERRCODE = '08006';
END$$, 'plpgsql')
FROM (VALUES
	('overten_handle_request(text, text, json, bytea)', 'overten_proxy.ask(method, path, headers, body)'),
	('overten_handle_request(text, text, json, text)', 'overten_proxy.ask(method, path, headers, convert_to(body, ''UTF8''))'),
	('overten_authorize_request(text, json)', 'overten_proxy.authorize(query, headers)')) f (function, call) \g /dev/null

-- Nobody may do anything, neither PUBLIC nor roles with default privileges: who writes
-- to the map decides where secrets go.  The roles of gateway/roles.sql, and those of an application,
-- need this, and EXECUTE on the functions of the extension that they call.
REVOKE ALL ON ALL FUNCTIONS IN SCHEMA overten_proxy, plproxy FROM PUBLIC;
SELECT format('REVOKE ALL ON %s FROM %s CASCADE', o.what, CASE a.grantee WHEN 0 THEN 'PUBLIC' ELSE a.grantee::regrole::text END)
FROM (
	SELECT 'SCHEMA ' || oid::regnamespace, nspacl, nspowner FROM pg_namespace WHERE nspname IN ('overten_proxy', 'plproxy')
	UNION ALL
	SELECT 'TABLE ' || oid::regclass, relacl, relowner FROM pg_class
	WHERE relkind = 'r' AND relnamespace::regnamespace::text IN ('overten_proxy', 'plproxy')
	UNION ALL
	SELECT 'FUNCTION ' || oid::regprocedure, proacl, proowner FROM pg_proc
	WHERE pronamespace::regnamespace::text IN ('overten_proxy', 'plproxy')) o (what, acl, owner),
LATERAL (SELECT DISTINCT grantee FROM aclexplode(o.acl)) a
WHERE a.grantee <> o.owner \gexec
CREATE ROLE overten_proxy_caller;
GRANT USAGE ON SCHEMA overten_proxy, plproxy, overten_auth TO overten_proxy_caller;    -- the last for the type of answers
GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA overten_proxy, plproxy TO overten_proxy_caller;
REVOKE EXECUTE ON FUNCTION overten_proxy.count_version() FROM overten_proxy_caller;
COMMIT;
