
# Attacks by those who are in the database already: with names and operators in
# the way, with settings of the database, as the owner of tables, and by calling
# what is not theirs to call.  Each shows that every function works as before,
# or that the attempt is refused.  pg_regress has no background worker and no
# database that an ordinary role owns.

use strict;
use warnings FATAL => 'all';

use FindBin;
use lib $FindBin::RealBin;
use OvertenTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use WholeSurface;

my $node = create_node('attacks', surface_settings('postgres', 'owned'));
ask($node, 'CREATE ROLE mallory LOGIN; CREATE ROLE dba LOGIN');
my $flush = 'SELECT overten_flush_usage()';

# Does SQL fail with a SQLSTATE for a role?
sub refused
{
	my ($where, $role, $sql, $sqlstate, $name) = @_;
	my ($node, $database) = ref $where eq 'ARRAY' ? @$where : ($where, 'postgres');

	is( sqlstate_of($where, $sql, connstr => $node->connstr($database) . " user=$role"),
		$sqlstate, $name);
	return;
}

run_surface($node, 'as it is');
is(uncalled_functions($node), '', 'all functions were called');


# Names in the way: every function, operator, type and catalog of PostgreSQL,
# and every table of ours, in a schema that comes first.

ask($node, 'GRANT CREATE, TEMP ON DATABASE postgres TO mallory');
$node->safe_psql('postgres', <<'EOQ', extra_params => [ '-U', 'mallory' ]);
CREATE SCHEMA evil;
CREATE SEQUENCE evil.calls;
CREATE FUNCTION evil.is_called() RETURNS boolean LANGUAGE plpgsql AS
	$$BEGIN RAISE EXCEPTION 'evil was called'; END$$;
DO $$
DECLARE
	o record;
BEGIN
	-- Functions, with the same arguments.
	FOR o IN
		SELECT DISTINCT proname, array_to_string(ARRAY(SELECT format_type(type, NULL) FROM unnest(proargtypes) type), ',') AS arguments
		FROM pg_catalog.pg_proc p JOIN pg_catalog.pg_type r ON r.oid = prorettype
		WHERE pronamespace = 'pg_catalog'::regnamespace AND prokind = 'f' AND NOT proretset AND provariadic = 0
			AND r.typtype <> 'p'
			AND NOT EXISTS (SELECT FROM pg_type WHERE oid = ANY (proargtypes) AND typtype = 'p')
	LOOP
		EXECUTE format('CREATE FUNCTION evil.%I(%s) RETURNS text LANGUAGE plpgsql AS '
			'''BEGIN RAISE EXCEPTION ''''evil was called''''; END''', o.proname, o.arguments);
	END LOOP;
	-- Operators.
	FOR o IN
		SELECT op.oid, oprname, format_type(nullif(oprleft, 0), NULL) AS l, format_type(oprright, NULL) AS r, format_type(oprresult, NULL) AS result
		FROM pg_catalog.pg_operator op
		WHERE oprnamespace = 'pg_catalog'::regnamespace
			AND NOT EXISTS (SELECT FROM pg_type WHERE oid IN (oprleft, oprright, oprresult) AND typtype = 'p')
	LOOP
		EXECUTE format('CREATE FUNCTION evil.%I(%s) RETURNS %s LANGUAGE plpgsql AS '
			'''BEGIN RAISE EXCEPTION ''''evil was called''''; END''',
			'operator ' || o.oid, concat_ws(',', o.l, o.r), o.result);
		EXECUTE format('CREATE OPERATOR evil.%s (%s RIGHTARG = %s, FUNCTION = evil.%I)', o.oprname,
			'LEFTARG = ' || o.l || ',', o.r, 'operator ' || o.oid);
	END LOOP;
	-- Types.
	FOR o IN
		SELECT typname FROM pg_catalog.pg_type
		WHERE typnamespace = 'pg_catalog'::regnamespace AND typtype = 'b' AND typelem = 0
	LOOP
		EXECUTE format('CREATE DOMAIN evil.%I AS pg_catalog.text CHECK (evil.is_called())', o.typname);
	END LOOP;
	-- Catalogs, and our tables.
	FOR o IN
		SELECT relname FROM pg_catalog.pg_class
		WHERE relkind IN ('r', 'v') AND (relnamespace = 'pg_catalog'::regnamespace
			OR relname IN ('orgs', 'members', 'tiers', 'api_keys', 'key_last_used', 'key_usage', 'usage_batches', 'signing_keys', 'audit_log'))
	LOOP
		EXECUTE format('CREATE VIEW evil.%I AS SELECT evil.is_called()', o.relname);
	END LOOP;
	-- Functions of ours, which do not call one another by name.
	FOR o IN
		SELECT proname, pg_get_function_identity_arguments(oid) AS arguments, pg_get_function_arguments(oid) AS full_arguments
		FROM pg_catalog.pg_proc
		WHERE pronamespace = 'public'::regnamespace AND proname LIKE 'overten\_%' AND proargmodes IS NULL
	LOOP
		EXECUTE format('CREATE FUNCTION evil.%I(%s) RETURNS text LANGUAGE plpgsql AS '
			'''BEGIN RAISE EXCEPTION ''''evil was called''''; END''', o.proname, o.arguments);
	END LOOP;
END
$$;
GRANT USAGE ON SCHEMA evil TO PUBLIC;
EOQ
cmp_ok(ask($node, q{SELECT count(*) FROM pg_proc WHERE pronamespace = 'evil'::regnamespace}),
	'>', 2000, 'a schema shadows what PostgreSQL has');
my $evil_path = '-c search_path=evil,pg_temp,pg_catalog,public';
my ($status, $stderr) = run_bound($node, "SELECT 1 = 1;\n", $evil_path);
like($stderr, qr/evil was called/, 'which whoever looks names up by search_path would meet');
run_surface($node, 'with all names shadowed', $evil_path);

# The same for sessions of a whole database, and for the worker.
ask($node, 'ALTER DATABASE postgres SET search_path = evil, pg_temp, pg_catalog, public');
run_surface($node, 'with all names shadowed for the worker, too');
run_surface($node, 'with all names shadowed, each statement planned anew',
	'-c plan_cache_mode=force_custom_plan -c overten_auth.cache_entries=0');
ask($node, 'ALTER DATABASE postgres RESET search_path');

# Temporary tables that shadow ours, in a session that goes on.
my $shadowed = $node->background_psql('postgres');
ask($shadowed, "CREATE TEMP TABLE $_ (LIKE overten_auth.$_)")
  foreach qw(orgs members tiers api_keys key_last_used key_usage usage_batches signing_keys audit_log);
ask($shadowed, 'CREATE TEMP TABLE pg_class (x int); CREATE TEMP TABLE pg_namespace (x int)');
my $org = create_org($shadowed, 'Shadowed');
my ($secret, $key) = mint($shadowed, $org);
is(verify($node, $secret), $key, 'temporary tables do not stand for ours');
is(ask($shadowed, 'SELECT (SELECT count(*) FROM orgs) + (SELECT count(*) FROM api_keys) + (SELECT count(*) FROM audit_log)'),
	0, 'and are not written');
$shadowed->quit;


# A database of an ordinary role, who may set the defaults of its sessions.

ask($node, 'CREATE DATABASE owned OWNER dba');
my $owned = [ $node, 'owned' ];
ask($owned, 'CREATE EXTENSION pgcrypto; CREATE EXTENSION overten_auth');
run_surface($owned, 'in a database of an ordinary role');
# Some settings have other names or values, or are not there, in other servers.
my $parallel = ask($node,
	"SELECT name FROM pg_settings WHERE name IN ('force_parallel_mode', 'debug_parallel_query')");
my $has_transaction_timeout = ask($node, "SELECT 1 FROM pg_settings WHERE name = 'transaction_timeout'");
my $compression =
  ask($node, "SELECT enumvals[cardinality(enumvals)] FROM pg_settings WHERE name = 'default_toast_compression'");
my %database_settings = (
	search_path => 'nowhere',
	default_transaction_isolation => 'serializable',
	default_transaction_read_only => 'on',
	default_transaction_deferrable => 'on',
	statement_timeout => '1ms',
	lock_timeout => '1ms',
	idle_in_transaction_session_timeout => '1ms',
	row_security => 'off',
	enable_indexscan => 'off',
	enable_indexonlyscan => 'off',
	enable_bitmapscan => 'off',
	enable_seqscan => 'off',
	enable_nestloop => 'off',
	enable_hashjoin => 'off',
	enable_sort => 'off',
	plan_cache_mode => 'force_custom_plan',
	$parallel => 'on',
	parallel_setup_cost => '0',
	parallel_tuple_cost => '0',
	min_parallel_table_scan_size => '0',
	geqo_threshold => '2',
	join_collapse_limit => '1',
	work_mem => '64kB',
	temp_buffers => '800kB',
	DateStyle => 'German',
	TimeZone => 'Asia/Kathmandu',
	IntervalStyle => 'sql_standard',
	bytea_output => 'escape',
	extra_float_digits => '-15',
	standard_conforming_strings => 'off',
	transform_null_equals => 'on',
	array_nulls => 'off',
	quote_all_identifiers => 'on',
	client_min_messages => 'error',
	synchronous_commit => 'off',
	exit_on_error => 'on',
	default_toast_compression => $compression,
	check_function_bodies => 'off',
	jit => 'on',
	jit_above_cost => '0',
	application_name => "overten_auth'; DROP TABLE x --");
$database_settings{transaction_timeout} = '1ms' if $has_transaction_timeout;
my $statements = join '', map {
	"ALTER DATABASE owned SET $_ = '" . ($database_settings{$_} =~ s/'/''/gr) . "';"
} sort keys %database_settings;
is( sqlstate_of([ $node, 'postgres' ], $statements, connstr => $node->connstr('postgres') . ' user=dba'),
	'', 'its owner sets ' . scalar(keys %database_settings) . ' defaults');

# What its owner has every right to break in sessions; they may set it, too.
my $usable = '-c search_path=public -c default_transaction_read_only=off -c statement_timeout=0 -c lock_timeout=0 '
  . '-c idle_in_transaction_session_timeout=0 -c exit_on_error=off'
  . ($has_transaction_timeout ? ' -c transaction_timeout=0' : '');
# A parallel worker has the database's transaction_timeout until it has taken
# over its leader's: the server's own workers cannot stand 1 ms of that.
run_surface($owned, 'with all of these',
	$usable . ($has_transaction_timeout ? ' -c max_parallel_workers_per_gather=0' : ''));
ask($node, 'ALTER DATABASE owned RESET transaction_timeout') if $has_transaction_timeout;
run_surface($owned, 'with all of these, serializable and parallel',
	"$usable -c overten_auth.cache_entries=0 -c $parallel=regress");
{
	local $ENV{PGOPTIONS} = $usable;
	is(ask($owned, 'SELECT flush_failures FROM overten_stat'), 0, 'no flush has failed');
	is(ask($owned, 'SELECT usage_worker FROM overten_status()') =~ /waiting|working/, 1, 'there is a worker');
}
ask($node, 'ALTER DATABASE owned RESET ALL');

foreach my $setting (
	"session_replication_role = replica", "session_preload_libraries = 'x'",
	"log_statement = 'all'", "log_parameter_max_length = -1",
	"overten_auth.firebase_project_id = 'mine'", 'overten_auth.clock_skew = 300',
	'overten_auth.cache_entries = 0', 'overten_auth.max_orgs_per_uid = 1000000')
{
	refused($owned, 'dba', "ALTER DATABASE owned SET $setting", '42501', "but not $setting");
	refused($owned, 'dba', "ALTER ROLE dba SET $setting", '42501', "nor for itself");
}

# These are nobody's but the configuration file's.
foreach my $setting (
	"signing_keys_command = 'false'", 'verify_on_standby = on', "master_key_file = 'x'",
	'trust_forwarded_for = 9', "usage_retention = '1h'", "databases = 'x'")
{
	refused($owned, 'dba', "ALTER DATABASE owned SET overten_auth.$setting", '55P02', "nor $setting");
}

# A superuser's own mistake of this kind.
ask($node, 'ALTER DATABASE owned SET session_replication_role = replica');
run_surface($owned, 'as a replica, which fires no ordinary trigger');
refused($owned, 'dba', 'DELETE FROM overten_auth.audit_log', '42501', 'who owns the database has no table of ours');
is(sqlstate_of($owned, 'DELETE FROM overten_auth.audit_log'), '42501', 'the log stays append only');
ask($node, 'ALTER DATABASE owned RESET ALL');


# Settings, before the library is loaded and when it is

ask($node, "GRANT EXECUTE ON FUNCTION overten_verify_firebase_jwt(text), overten_verify_key(text) TO mallory");
my $token = surface_token('mallory');
my $lazy = PostgreSQL::Test::Cluster->new('lazy');
$lazy->init;
$lazy->append_conf('postgresql.conf', "log_statement = none");
$lazy->start;
ask($lazy, 'CREATE EXTENSION overten_auth CASCADE; CREATE ROLE mallory LOGIN;
	GRANT EXECUTE ON FUNCTION overten_verify_firebase_jwt(text), overten_key_checksum_ok(text) TO mallory');
my $as_mallory = "user=mallory " . $lazy->connstr('postgres');
foreach my $how (
	[ 'SET', "SET overten_auth.firebase_project_id = 'demo-project'", '' ],
	[ 'set_config', "DO \$\$ BEGIN PERFORM set_config('overten_auth.firebase_project_id', 'demo-project', false); END \$\$", '' ],
	[ 'PGOPTIONS', '', '-c overten_auth.firebase_project_id=demo-project' ])
{
	my ($name, $sql, $options) = @$how;
	local $ENV{PGOPTIONS} = $options;

	is( (split /\n/, $lazy->safe_psql('postgres',
			"$sql;\nDO \$\$ BEGIN PERFORM overten_key_checksum_ok(''); END \$\$;\nSELECT '<' || current_setting('overten_auth.firebase_project_id') || '>'",
			extra_params => [ '-U', 'mallory' ]))[-1],
		'<>', "$name before the library is loaded does not set the project");
	$lazy->psql('postgres', "$sql;\nSELECT overten_verify_firebase_jwt('$token')",
		extra_params => [ '-U', 'mallory' ], stderr => \my $message);
	like($message, qr/not configured|overten_auth\.firebase_project_id/, "so that no token is accepted: $name");
}
refused($lazy, 'mallory', "ALTER ROLE mallory SET overten_auth.firebase_project_id = 'mine'", '42501', 'nor does ALTER ROLE');
refused($lazy, 'mallory', "LOAD '\$libdir/plugins/../overten_auth'", '42501', 'who is no superuser cannot load it from elsewhere');


# Tables and functions that are an ordinary role's, who puts triggers on them:
# whoever calls acts with that role's rights at most, and cannot be turned into
# somebody else; neither can the worker, which is a superuser.

ask($node, 'CREATE ROLE owner LOGIN; CREATE ROLE caller LOGIN');
my $handed = [ $node, 'owned' ];
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
		EXECUTE format('ALTER FUNCTION %s OWNER TO owner', o.function);
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
	[ 'a function of the same name and arguments', 'FUNCTION public.overten_mint_key(text, text)', 'RETURNS int LANGUAGE sql AS $$SELECT 1$$', '42723' ],
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

ask($node, 'GRANT CREATE ON SCHEMA public TO mallory;
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
	'GRANT EXECUTE ON FUNCTION overten_mint_key(text, text) TO mallory',
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
	[ "CREATE FUNCTION pg_temp.f(text) RETURNS text LANGUAGE c STRICT AS 'overten_auth', 'overten_verify_key'; SELECT pg_temp.f('$secret')", '42809' ],
	[ "CREATE FUNCTION pg_temp.f(text) RETURNS SETOF text LANGUAGE c STRICT AS 'overten_auth', 'overten_verify_key'; SELECT pg_temp.f('$secret')", '42809' ],
	[ "CREATE FUNCTION pg_temp.f(text) RETURNS SETOF record LANGUAGE c STRICT AS 'overten_auth', 'overten_verify_key'; SELECT * FROM pg_temp.f('$secret') t (a int, b text)", '42804' ],
	[ "CREATE FUNCTION pg_temp.f(text) RETURNS SETOF overten_auth.verified_token LANGUAGE c STRICT AS 'overten_auth', 'overten_verify_key'; SELECT * FROM pg_temp.f('$secret')", '42804' ],
	[ "CREATE FUNCTION pg_temp.f(text) RETURNS record LANGUAGE c STRICT AS 'overten_auth', 'overten_verify_key'; SELECT * FROM pg_temp.f('$secret') t (a int, b text)", '42804' ],
	[ "CREATE FUNCTION pg_temp.f(text) RETURNS overten_auth.verified_token LANGUAGE c STRICT AS 'overten_auth', 'overten_verify_key'; SELECT * FROM pg_temp.f('$secret')", '42804' ],
	[ "CREATE FUNCTION pg_temp.f(text, text) RETURNS text LANGUAGE c AS 'overten_auth', 'overten_mint_key'; SELECT pg_temp.f('$org', 'x')", 'XX000' ],
	[ "CREATE FUNCTION pg_temp.f(text) RETURNS text LANGUAGE c AS 'overten_auth', 'overten_list_keys'; SELECT pg_temp.f('$org')", '0A000' ],
	[ "CREATE FUNCTION pg_temp.f(text, text, json, text) RETURNS text LANGUAGE c AS 'overten_auth', 'overten_handle_request'; SELECT pg_temp.f('GET', '/api/v1/verify', '{}', NULL)", '42809' ],
	[ "CREATE FUNCTION pg_temp.f() RETURNS int LANGUAGE c AS 'overten_auth', 'overten_status'; SELECT pg_temp.f()", '42804' ],
	[ "CREATE FUNCTION pg_temp.f(text) RETURNS text LANGUAGE c AS 'overten_auth', 'overten_authenticate'; SELECT pg_temp.f('$secret')", '42809' ],
	[ "CREATE FUNCTION pg_temp.f(bytea) RETURNS overten_auth.verified_key LANGUAGE c AS 'overten_auth', 'overten_verify_key_digest'; SELECT pg_temp.f(NULL) IS NULL", '' ],
	[ "CREATE FUNCTION pg_temp.f(text) RETURNS boolean LANGUAGE c AS 'overten_auth', 'overten_key_checksum_ok'; SELECT pg_temp.f(NULL)", '' ],
	[ "CREATE FUNCTION pg_temp.f(json) RETURNS int LANGUAGE c AS 'overten_auth', 'overten_load_signing_keys'; SELECT pg_temp.f(NULL)", '22004' ],
	[ "CREATE FUNCTION pg_temp.f(text) RETURNS overten_auth.verified_token LANGUAGE c AS 'overten_auth', 'overten_verify_firebase_jwt'; SELECT pg_temp.f(NULL) IS NULL", '' ])
{
	is(sqlstate_of($node, $call->[0]), $call->[1], 'wrongly declared: ' . (substr $call->[0], 0, 150) =~ s/sk_live_\w+/.../r);
}

$node->stop;
$lazy->stop;
done_testing();
