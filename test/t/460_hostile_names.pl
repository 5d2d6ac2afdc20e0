
# Attacks with names and settings by those who are in the database already: names,
# operators and types in the way, and what the owner of a database may set for it.
# Each shows that every function works as before, or that the attempt is refused.
# pg_regress has no background worker and no database that an ordinary role owns.

use strict;
use warnings FATAL => 'all';

use FindBin;
use lib $FindBin::RealBin;
use OvertenTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use WholeSurface;

my $node = create_node('names', surface_settings('postgres', 'owned'));
ask($node, 'CREATE ROLE mallory LOGIN; CREATE ROLE dba LOGIN');

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
			OR relname IN ('orgs', 'members', 'tiers', 'scopes', 'api_keys', 'key_last_used', 'key_details', 'key_usage', 'usage_batches', 'quota_usage', 'signing_keys', 'audit_log', 'idempotency_keys', 'credits', 'credit_ledger', 'credit_holds'))
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
  foreach qw(orgs members tiers scopes api_keys key_last_used key_details key_usage usage_batches quota_usage signing_keys audit_log idempotency_keys credits credit_ledger credit_holds);
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

my $token = surface_token('mallory');
my $lazy = PostgreSQL::Test::Cluster->new('lazy');
$lazy->init;
$lazy->append_conf('postgresql.conf', "log_statement = none");
$lazy->start;
ask($lazy, 'CREATE EXTENSION overten_auth CASCADE; CREATE ROLE mallory LOGIN;
	GRANT EXECUTE ON FUNCTION overten_verify_firebase_jwt(text), overten_key_checksum_ok(text) TO mallory');
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

$node->stop;
$lazy->stop;
done_testing();
