
# Attacks by those who own something in the database already: tables and functions
# of ours that were given to them, what they put there before the extension came,
# objects on ours, and functions declared wrongly.  Each shows that every function
# works as before, or that the attempt is refused.  pg_regress has no background
# worker.

use strict;
use warnings FATAL => 'all';

use FindBin;
use lib $FindBin::RealBin;
use OvertenTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use WholeSurface;

my $node = create_node('owners', surface_settings('postgres', 'owned'));
my $handed = [ $node, 'owned' ];
ask($node, "CREATE ROLE $_ LOGIN") foreach qw(mallory dba owner);
ask($node, 'CREATE DATABASE owned OWNER dba');
ask($handed, 'CREATE EXTENSION overten_auth CASCADE');
my $org = create_org($node, 'Attacked');
my ($secret, $key) = mint($node, $org);
my $flush = 'SELECT overten_flush_usage()';

# Tables and functions that are an ordinary role's, who puts triggers on them:
# whoever calls acts with that role's rights at most, and cannot be turned into
# somebody else; neither can the worker, which is a superuser.

ask($handed, <<'EOQ');
GRANT USAGE, CREATE ON SCHEMA overten_auth, public TO owner;
DO $$
DECLARE
	o record;
BEGIN
	FOR o IN SELECT oid::regclass AS relation FROM pg_class
		WHERE relnamespace = 'overten_auth'::regnamespace AND relkind = 'r' LOOP
		EXECUTE format('ALTER TABLE %s OWNER TO owner', o.relation);
	END LOOP;
	FOR o IN SELECT objid::regprocedure AS function FROM pg_depend
		WHERE refclassid = 'pg_extension'::regclass AND deptype = 'e' AND classid = 'pg_proc'::regclass
		AND refobjid = (SELECT oid FROM pg_extension WHERE extname = 'overten_auth') LOOP
		EXECUTE format('ALTER ROUTINE %s OWNER TO owner', o.function);
	END LOOP;
END
$$;
EOQ
run_surface($handed, 'with tables and functions of an ordinary role');

$node->safe_psql('owned', <<'EOQ', extra_params => [ '-U', 'owner' ]);
CREATE TABLE public.seen (name text, how text, who name, session name, super boolean, role_set text);
GRANT INSERT ON public.seen TO PUBLIC;
CREATE FUNCTION public.look() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
	role_set text := 'yes';
BEGIN
	BEGIN
		PERFORM set_config('role', session_user, false);
	EXCEPTION WHEN insufficient_privilege THEN
		role_set := 'no';
	END;
	INSERT INTO public.seen VALUES (TG_TABLE_NAME, TG_NAME, current_user, session_user,
		(SELECT rolsuper FROM pg_roles WHERE rolname = current_user), role_set);
	RETURN NEW;
END
$$;
DO $$
DECLARE
	o record;
BEGIN
	FOR o IN SELECT relname FROM pg_class WHERE relnamespace = 'overten_auth'::regnamespace AND relkind = 'r' LOOP
		EXECUTE format('CREATE TRIGGER before BEFORE INSERT OR UPDATE ON overten_auth.%I FOR EACH ROW EXECUTE FUNCTION public.look()', o.relname);
		EXECUTE format('CREATE TRIGGER after AFTER INSERT OR UPDATE ON overten_auth.%I FOR EACH ROW EXECUTE FUNCTION public.look()', o.relname);
	END LOOP;
END
$$;
EOQ
run_surface($handed, 'with triggers of theirs');
is(ask($handed, q{SELECT string_agg(DISTINCT name || ' ' || how, ', ') FROM public.seen WHERE who <> 'owner' OR super}),
	'', 'triggers of the owner run as the owner');
is(ask($handed, q{SELECT count(*) FROM public.seen WHERE role_set = 'yes'}),
	0, 'and cannot become whoever calls');
is( ask($handed, q{SELECT string_agg(DISTINCT name, ' ' ORDER BY name) FROM public.seen WHERE name ~ 'usage|signing'}),
	'key_usage signing_keys usage_batches', 'in the workers, too');

# A deferred one runs at the end of the transaction, when the rights are those of
# the session again, as for every table: in the workers it must not.
$node->safe_psql('owned', <<'EOQ', extra_params => [ '-U', 'owner' ]);
TRUNCATE public.seen;
CREATE CONSTRAINT TRIGGER deferred AFTER INSERT OR UPDATE ON overten_auth.key_usage
	DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION public.look();
CREATE CONSTRAINT TRIGGER deferred AFTER INSERT OR UPDATE ON overten_auth.signing_keys
	DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION public.look();
EOQ
my $handed_org = create_org($handed, 'Handed over');
my ($handed_secret, $handed_key) = mint($handed, $handed_org);
is(verify($handed, $handed_secret), $handed_key, 'a key is used');
is(sqlstate_of($handed, $flush), '55000', 'a flush that a deferred trigger waits for fails');
ask($handed, 'DELETE FROM overten_auth.signing_keys');
is(sqlstate_of($handed, 'SELECT overten_refresh_signing_keys()'), '55000', 'so does fetching keys');
is(ask($handed, q{SELECT count(*) FROM public.seen WHERE how = 'deferred' OR super}),
	0, 'and the trigger does not run as a superuser');
ask($handed, 'DROP TRIGGER deferred ON overten_auth.key_usage; DROP TRIGGER deferred ON overten_auth.signing_keys');
is(sqlstate_of($handed, $flush), '', 'without it the next flush writes');
is(ask($handed, "SELECT accepted FROM overten_key_usage('$handed_org', '$handed_key')"), 1, 'what was counted');


# What was there before the extension makes it fail as a whole.

ask($node, 'CREATE DATABASE planted');
ask([ $node, 'planted' ], 'CREATE EXTENSION pgcrypto; GRANT CREATE ON SCHEMA public TO mallory; GRANT CREATE ON DATABASE planted TO mallory');
foreach my $planted (
	[ 'a schema overten_api', 'SCHEMA overten_api', '', '42P06' ],
	[ 'a schema overten_auth', 'SCHEMA overten_auth', '', '42P06' ],
	[ 'a function of the same name and arguments', 'FUNCTION public.overten_revoke_key(text, text, text)', 'RETURNS int LANGUAGE sql AS $$SELECT 1$$', '42723' ],
	[ 'a view of the same name', 'VIEW public.overten_stat', 'AS SELECT 1 AS x', '42P07' ],
	[ 'a table of the same name', 'TABLE public.overten_stat', '()', '42P07' ])
{
	my ($what, $object, $rest, $state) = @$planted;

	$node->safe_psql('planted', "CREATE $object $rest", extra_params => [ '-U', 'mallory' ]);
	is(sqlstate_of([ $node, 'planted' ], 'CREATE EXTENSION overten_auth'), $state, "$what, planted, makes CREATE EXTENSION fail");
	is(ask([ $node, 'planted' ], "SELECT count(*) FROM pg_extension WHERE extname = 'overten_auth'"), 0, 'cleanly');
	ask([ $node, 'planted' ], "DROP $object");
}
# Shadows in the schema that it is created in are not used while it is.
$node->safe_psql('planted', <<'EOQ', extra_params => [ '-U', 'mallory' ]);
CREATE FUNCTION public.boom(text, text) RETURNS boolean LANGUAGE plpgsql AS $$BEGIN RAISE EXCEPTION 'evil was called'; END$$;
CREATE OPERATOR public.= (LEFTARG = text, RIGHTARG = text, FUNCTION = public.boom);
CREATE OPERATOR public.<> (LEFTARG = text, RIGHTARG = text, FUNCTION = public.boom);
CREATE FUNCTION public.clock_timestamp() RETURNS timestamptz LANGUAGE plpgsql AS $$BEGIN RAISE EXCEPTION 'evil was called'; END$$;
CREATE FUNCTION public.pg_extension_config_dump(regclass, text) RETURNS void LANGUAGE plpgsql AS $$BEGIN RAISE EXCEPTION 'evil was called'; END$$;
CREATE FUNCTION public.current_schema() RETURNS name LANGUAGE plpgsql AS $$BEGIN RAISE EXCEPTION 'evil was called'; END$$;
CREATE DOMAIN public.text AS pg_catalog.text CHECK (public.boom(VALUE, VALUE));
CREATE DOMAIN public.timestamptz AS pg_catalog.timestamptz CHECK (false);
EOQ
is(sqlstate_of([ $node, 'planted' ], 'SET search_path = public, pg_catalog; CREATE EXTENSION overten_auth'), '',
	'shadows in the schema of the functions change nothing about CREATE EXTENSION');
is(is_accepted([ $node, 'planted' ], (mint([ $node, 'planted' ], create_org([ $node, 'planted' ], 'Planted')))[0]), 1,
	'nor about what it creates');


# What belongs to nobody else

ask($node, 'GRANT CREATE, TEMP ON DATABASE postgres TO mallory; GRANT CREATE ON SCHEMA public TO mallory;
	GRANT EXECUTE ON FUNCTION overten_verify_firebase_jwt(text), overten_verify_key(text) TO mallory;
	CREATE FUNCTION public.mine() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN RETURN NULL; END$$;
	ALTER FUNCTION public.mine() OWNER TO mallory;
	CREATE TABLE public.own (); ALTER TABLE public.own OWNER TO mallory; GRANT USAGE ON SCHEMA overten_auth, overten_api TO mallory');
foreach my $attempt (
	'CREATE TRIGGER t BEFORE INSERT ON overten_auth.api_keys FOR EACH ROW EXECUTE FUNCTION public.mine()',
	'CREATE RULE r AS ON INSERT TO overten_auth.audit_log DO INSTEAD NOTHING',
	'CREATE POLICY p ON overten_auth.orgs USING (true)',
	'ALTER TABLE overten_auth.orgs ENABLE ROW LEVEL SECURITY',
	"ALTER TABLE overten_auth.api_keys ALTER revoked_at SET DEFAULT 'infinity'",
	'ALTER TABLE overten_auth.api_keys DISABLE TRIGGER ALL',
	'ALTER TABLE overten_auth.api_keys OWNER TO mallory',
	'ALTER TABLE overten_auth.api_keys ADD CHECK (false)',
	'ALTER TABLE overten_auth.api_keys SET (fillfactor = 10)',
	'CREATE INDEX i ON overten_auth.api_keys (digest)',
	'CREATE UNIQUE INDEX i ON overten_auth.orgs (tier)',
	'CREATE STATISTICS s ON org_id, uid FROM overten_auth.members',
	'CREATE TABLE public.child () INHERITS (overten_auth.orgs)',
	'CREATE TABLE public.referrer (o text REFERENCES overten_auth.orgs)',
	'CREATE TABLE public.typed OF overten_auth.verified_key',
	'CREATE TABLE public.row_typed (o overten_auth.orgs)',
	'CREATE DOMAIN public.d AS overten_auth.verified_key',
	'CREATE CAST (overten_auth.verified_key AS text) WITH INOUT',
	'CREATE FUNCTION public.f(overten_auth.verified_key) RETURNS int LANGUAGE sql AS $$SELECT 1$$',
	'CREATE VIEW public.v AS SELECT * FROM overten_auth.api_keys; SELECT * FROM public.v',
	'CREATE PUBLICATION p FOR TABLE overten_auth.api_keys',
	'CREATE PUBLICATION p FOR ALL TABLES',
	'CREATE EVENT TRIGGER e ON ddl_command_start EXECUTE FUNCTION public.mine()',
	'COMMENT ON TABLE overten_auth.api_keys IS NULL',
	'BEGIN; LOCK TABLE overten_auth.api_keys',
	'TRUNCATE overten_auth.api_keys',
	'ANALYZE overten_auth.api_keys; SELECT * FROM overten_auth.api_keys',
	'COPY overten_auth.api_keys TO STDOUT',
	'REINDEX TABLE overten_auth.api_keys',
	'DROP TABLE overten_auth.api_keys',
	'DROP EXTENSION overten_auth',
	'ALTER EXTENSION overten_auth ADD FUNCTION public.mine()',
	'ALTER EXTENSION overten_auth DROP FUNCTION overten_verify_key(text)',
	'ALTER FUNCTION overten_verify_key(text) OWNER TO mallory',
	'ALTER FUNCTION overten_verify_key(text) RENAME TO x',
	"ALTER FUNCTION overten_verify_key(text) SET search_path = evil",
	'ALTER FUNCTION overten_verify_key(text) SECURITY DEFINER',
	'CREATE OR REPLACE FUNCTION overten_verify_key(secret text) RETURNS SETOF overten_auth.verified_key LANGUAGE sql AS $$SELECT NULL$$',
	'GRANT EXECUTE ON FUNCTION overten_mint_key TO mallory',
	'ALTER DEFAULT PRIVILEGES FOR ROLE postgres GRANT EXECUTE ON FUNCTIONS TO mallory',
	'CREATE SCHEMA overten_auth AUTHORIZATION mallory; DROP SCHEMA overten_auth',
	'CREATE TABLE overten_auth.planted ()',
	'CREATE FUNCTION overten_api.planted() RETURNS int LANGUAGE sql AS $$SELECT 1$$',
	"CREATE FUNCTION public.c(text) RETURNS overten_auth.verified_key LANGUAGE c AS 'overten_auth', 'overten_verify_key'",
	'DO $$ BEGIN PERFORM overten_mint_key(NULL); END $$',
	'DO $$ BEGIN EXECUTE \'SELECT overten_auth.stat()\'; END $$',
	"SELECT pg_get_viewdef('overten_stat'::regclass), * FROM overten_stat",
	'SELECT overten_auth.invalidate_caches()',
	'SELECT overten_auth.refuse_change()',
	'SELECT overten_auth.stat()',
	'CREATE TRIGGER t BEFORE INSERT ON public.own EXECUTE FUNCTION overten_auth.refuse_change()',
	'CREATE TRIGGER t AFTER INSERT ON public.own FOR EACH ROW EXECUTE FUNCTION overten_auth.invalidate_caches()')
{
	# Errors are the one that is wanted, or that there is such a schema already.
	my $state = $attempt =~ /^CREATE SCHEMA/ ? '42P06' : '42501';

	refused($node, 'mallory', $attempt, $state, "refused: " . substr $attempt, 0, 90);
}

# By those who own them, wrong ways to call them are errors, not crashes.
foreach my $call (
	[ 'SELECT overten_auth.invalidate_caches()', '39P01' ],
	[ 'SELECT overten_auth.refuse_change()', '39P01' ],
	[ 'CREATE TRIGGER t BEFORE INSERT ON public.own FOR EACH ROW EXECUTE FUNCTION overten_auth.invalidate_caches(); INSERT INTO public.own DEFAULT VALUES', '39P01' ],
	[ 'CREATE TRIGGER s AFTER INSERT ON public.own EXECUTE FUNCTION overten_auth.invalidate_caches(); INSERT INTO public.own DEFAULT VALUES', '39P01' ],
	[ "CREATE FUNCTION pg_temp.f(text) RETURNS overten_auth.verified_key LANGUAGE c AS 'overten_auth', 'overten_verify_key'; SELECT pg_temp.f(NULL) IS NULL", '' ],
	[ "CREATE FUNCTION pg_temp.f(text) RETURNS overten_auth.verified_key LANGUAGE c AS 'overten_auth', 'overten_verify_key'; SELECT 1 / (pg_temp.f('$secret') IS NOT NULL)::int, 1 / count(key_id) FROM pg_temp.f('$secret')", '' ],
	[ "CREATE FUNCTION pg_temp.f(text) RETURNS SETOF overten_auth.verified_key LANGUAGE c AS 'overten_auth', 'overten_verify_key'; SELECT 1 / (count(*) = 0)::int FROM pg_temp.f(NULL)", '' ],
	[ "CREATE FUNCTION pg_temp.f(text) RETURNS text LANGUAGE c STRICT AS 'overten_auth', 'overten_verify_key'; SELECT pg_temp.f('$secret')", '55000' ],
	[ "CREATE FUNCTION pg_temp.f(text) RETURNS SETOF text LANGUAGE c STRICT AS 'overten_auth', 'overten_verify_key'; SELECT pg_temp.f('$secret')", '55000' ],
	[ "CREATE FUNCTION pg_temp.f(text) RETURNS SETOF record LANGUAGE c STRICT AS 'overten_auth', 'overten_verify_key'; SELECT * FROM pg_temp.f('$secret') t (a int, b text)", '42804' ],
	[ "CREATE FUNCTION pg_temp.f(text) RETURNS SETOF overten_auth.verified_token LANGUAGE c STRICT AS 'overten_auth', 'overten_verify_key'; SELECT * FROM pg_temp.f('$secret')", '55000' ],
	[ "CREATE FUNCTION pg_temp.f(text) RETURNS record LANGUAGE c STRICT AS 'overten_auth', 'overten_verify_key'; SELECT * FROM pg_temp.f('$secret') t (a int, b text)", '42804' ],
	[ "CREATE FUNCTION pg_temp.f(text) RETURNS overten_auth.verified_token LANGUAGE c STRICT AS 'overten_auth', 'overten_verify_key'; SELECT * FROM pg_temp.f('$secret')", '55000' ],
	[ "CREATE FUNCTION pg_temp.f(text, text) RETURNS text LANGUAGE c AS 'overten_auth', 'overten_mint_key'; SELECT pg_temp.f('$org', 'x')", '55000' ],
	[ "CREATE FUNCTION pg_temp.f(text) RETURNS text LANGUAGE c AS 'overten_auth', 'overten_list_keys'; SELECT pg_temp.f('$org')", '55000' ],
	[ "CREATE FUNCTION pg_temp.f(text, text, json, text) RETURNS text LANGUAGE c AS 'overten_auth', 'overten_handle_request'; SELECT pg_temp.f('GET', '/api/v1/verify', '{}', NULL)", '55000' ],
	[ "CREATE FUNCTION pg_temp.f() RETURNS int LANGUAGE c AS 'overten_auth', 'overten_status'; SELECT pg_temp.f()", '55000' ],
	[ "CREATE FUNCTION pg_temp.f(text) RETURNS text LANGUAGE c AS 'overten_auth', 'overten_authenticate'; SELECT pg_temp.f('$secret')", '55000' ],
	[ "CREATE FUNCTION pg_temp.f(bytea) RETURNS overten_auth.verified_key LANGUAGE c AS 'overten_auth', 'overten_verify_key_digest'; SELECT pg_temp.f(NULL) IS NULL", '' ],
	[ "CREATE FUNCTION pg_temp.f(text) RETURNS boolean LANGUAGE c AS 'overten_auth', 'overten_key_checksum_ok'; SELECT pg_temp.f(NULL)", '' ],
	[ "CREATE FUNCTION pg_temp.f(json) RETURNS int LANGUAGE c AS 'overten_auth', 'overten_load_signing_keys'; SELECT pg_temp.f(NULL)", '22004' ],
	[ "CREATE FUNCTION pg_temp.f(text) RETURNS overten_auth.verified_token LANGUAGE c AS 'overten_auth', 'overten_verify_firebase_jwt'; SELECT pg_temp.f(NULL) IS NULL", '' ])
{
	is(sqlstate_of($node, $call->[0]), $call->[1], 'wrongly declared: ' . (substr $call->[0], 0, 150) =~ s/sk_live_\w+/.../r);
}

$node->stop;
done_testing();
