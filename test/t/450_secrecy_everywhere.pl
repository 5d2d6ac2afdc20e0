
# Every function, bound, with everything logged that a server can log: no key,
# token, webhook secret or master key is in the log, the statistics, a dump, or
# any file but the key file.  Each place is shown to be searched by a needle
# that is found there.  pg_regress sees neither logs nor files.

use strict;
use warnings FATAL => 'all';

use File::Find;
use FindBin;
use lib $FindBin::RealBin;
use MIME::Base64;
use OvertenTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use WholeSurface;

# In whole, as bytes of something else may follow on a prefix.
my %secrets = (
	'API key' => qr/sk_(?:live|test)_[0-9A-Za-z]{28}/,
	'webhook secret' => qr{whsec_[0-9A-Za-z+/]{32}},
	'ID token' => qr/eyJ[0-9A-Za-z_-]{10,}\.eyJ[0-9A-Za-z_-]{10,}/);
my %needles = (
	'API key' => 'sk_live_' . 'Needle7' x 4,
	'webhook secret' => 'whsec_' . 'needle+/' x 4,
	'ID token' => 'eyJneedleneedle.eyJneedleneedle');
my $needles = join ' ', map { $needles{$_} } sort keys %needles;

my $folder = PostgreSQL::Test::Utils::tempdir;
my $node = create_node('everywhere', surface_settings('postgres') . <<"EOC");
shared_preload_libraries = 'pg_stat_statements, auto_explain, overten_auth'
overten_auth.master_key_file = '$folder/master.key'
log_statement = all
log_min_duration_statement = 0
log_error_verbosity = verbose
log_min_messages = debug2
log_min_error_statement = debug5
log_lock_waits = on
log_connections = on
pg_stat_statements.track = all
pg_stat_statements.save = on
auto_explain.log_min_duration = 0
auto_explain.log_nested_statements = on
auto_explain.log_analyze = on
auto_explain.log_triggers = on
compute_query_id = on
track_activity_query_size = 8kB
EOC
# This one logs parameters by itself from PostgreSQL 16 on.
if ($node->pg_version >= 16)
{
	$node->append_conf('postgresql.conf', 'auto_explain.log_parameter_max_length = 0');
	$node->restart;
}
ask($node, 'CREATE EXTENSION pg_stat_statements');

# A role for everything, with what README gives to those that pass secrets.
ask($node, <<'EOQ');
CREATE ROLE everything LOGIN;
GRANT USAGE ON SCHEMA overten_auth, overten_api TO everything;
GRANT SELECT ON overten_stat, overten_auth.audit_log TO everything;
DO $$
DECLARE
	function regprocedure;
BEGIN
	FOR function IN SELECT objid FROM pg_depend
		WHERE refclassid = 'pg_extension'::regclass AND deptype = 'e' AND classid = 'pg_proc'::regclass
		AND refobjid = (SELECT oid FROM pg_extension WHERE extname = 'overten_auth') LOOP
		EXECUTE format('GRANT EXECUTE ON ROUTINE %s TO everything', function);
	END LOOP;
END
$$;
ALTER ROLE everything SET log_parameter_max_length = 0;
ALTER ROLE everything SET log_parameter_max_length_on_error = 0;
EOQ

# What is in the views of running statements, over and over.
ask($node, <<'EOQ');
CREATE TABLE stop (); CREATE TABLE sample (query text);
CREATE PROCEDURE sample_activity() LANGUAGE plpgsql AS $$
BEGIN
	WHILE to_regclass('stop') IS NOT NULL LOOP
		PERFORM pg_stat_clear_snapshot();
		INSERT INTO sample SELECT query FROM pg_stat_activity
			WHERE query <> '' AND query NOT IN (SELECT query FROM sample);
		COMMIT;
	END LOOP;
END
$$;
EOQ
my $sampler = $node->background_psql('postgres');
$sampler->set_query_timer_restart;
ask($sampler, 'SET log_statement = none; SET log_min_duration_statement = -1; SET auto_explain.log_min_duration = -1; SET log_min_messages = warning');
$sampler->query_until(qr/started/, "\\echo started\nCALL sample_activity();\n");

# Done

my $from = -s $node->logfile;
{
	local $ENV{PGUSER} = 'everything';
	run_surface($node, 'bound, with all logged');
	run_surface($node, 'with plans for one execution', '-c plan_cache_mode=force_custom_plan');
	run_surface($node, 'with generic plans, no cache', '-c plan_cache_mode=force_generic_plan');
}
is(uncalled_functions($node), '', 'all functions were called');

# Refused: each function with a secret for every argument that can hold one.
# Those in the schema overten_auth are given no secrets.
my $org = create_org($node, 'Refusing');
my @functions = split /\n/, ask($node, <<'EOQ');
SELECT pg_proc.oid::regproc, array_to_string(proargtypes::regtype[], ',') FROM pg_depend JOIN pg_proc ON objid = pg_proc.oid
WHERE refclassid = 'pg_extension'::regclass AND deptype = 'e' AND classid = 'pg_proc'::regclass
	AND refobjid = (SELECT oid FROM pg_extension WHERE extname = 'overten_auth')
	AND pronamespace <> 'overten_auth'::regnamespace AND pronargs > 0 ORDER BY 1;
EOQ
cmp_ok(scalar @functions, '>', 25, 'there are functions to pass a secret to');
my %values = (
	'text' => ':secret::text',
	'bytea' => "convert_to(:secret, 'UTF8')",
	'json' => "json_build_object('org_name', :secret::text, 'authorization', concat('Bearer ', :secret::text))",
	'jsonb' => "jsonb_build_object('note', :secret::text)",
	'text[]' => 'ARRAY[:secret::text]',
	'cidr[]' => "ARRAY['192.0.2.0/24'::cidr]",
	'bytea[]' => "ARRAY[convert_to(:secret, 'UTF8')]",
	'timestamp with time zone' => 'now()',
	'timestamp with time zone[]' => 'ARRAY[now()]',
	'boolean' => 'true',
	'integer' => '0',
	'bigint' => '-1',
	'interval' => "interval '-1 day'",
	'inet' => "'192.0.2.1'::inet");
my ($minted) = mint($node, $org);
my %passed = (
	'an active key' => $minted,
	'an unknown key' => random_key(),
	'a key and more' => random_key() . "\x{1}",
	'a webhook secret' => ask($node, "SELECT overten_rotate_webhook_secret('$org')"),
	'a token' => surface_token('ada'),
	'a token with a broken signature' => surface_token('ada') =~ s/.{9}$/AAAAAAAAA/r);
my %outcomes;
foreach my $function (@functions)
{
	my ($name, $types) = split /\|/, $function;
	my @types = split /,/, $types;

	foreach my $what (sort keys %passed)
	{
		# What would be stored as a name or reason is made to be refused.
		my @arguments = map { $values{$_} // die "type $_" } @types;
		my $stored = { overten_create_org => 0, overten_revoke_leaked => 1 }->{$name};
		$arguments[$stored] = 'concat(:secret::text, chr(1))' if defined $stored;

		local $ENV{PGUSER} = 'everything';
		my ($status, $stderr) = run_bound($node,
			"SELECT $name(" . join(', ', @arguments) . ") IS NULL;\n",
			'', secret => $passed{$what});
		$outcomes{$status == 0 ? 'answer' : $stderr =~ /ERROR:/ ? 'error' : $stderr}++;
		unlike($stderr, qr/\Q$passed{$what}\E/, "the client is not told by $name: $what");
	}
}
cmp_ok($outcomes{error} // 0, '>', 60, 'there were errors');
cmp_ok($outcomes{answer} // 0, '>', 30, 'and refusals that are none');
is(join(' ', sort keys %outcomes), 'answer error', 'and nothing else');

# Refusals that need more than that.
my %more = (
	'a digest again' => [ '23505', 'SELECT overten_import_key(:org, \'x\', sha256(convert_to(:secret, \'UTF8\')), left(:secret, 12))' ],
	'a digest again, in bulk' => [ '23505', 'SELECT overten_import_keys(ARRAY[:org::text], ARRAY[\'x\'], ARRAY[sha256(convert_to(:secret, \'UTF8\'))], ARRAY[left(:secret, 12)])' ],
	'a key for a prefix' => [ '22023', 'SELECT overten_import_key(:org, \'x\', sha256(convert_to(:secret, \'UTF8\')), :secret)' ],
	'a key for a digest' => [ '22023', 'SELECT overten_import_key(:org, \'x\', convert_to(:secret, \'UTF8\'), left(:secret, 12))' ],
	'a key for a tier' => [ '22023', 'SELECT overten_set_tier(:org, :secret)' ],
	'a key for a key id' => [ '42704', 'SELECT overten_revoke_key(:org, :secret)' ],
	'a key for a message id' => [ '22023', 'SELECT overten_sign_webhook(:org, concat(:secret::text, \'.\'), 1, \'\'::text)' ],
	'a reason over 200 characters' => [ '22023', 'SELECT overten_revoke_all(:org, repeat(:secret, 9))' ],
	'a leak, and a reason that is one' => [ '22023', 'SELECT overten_revoke_leaked(:secret, concat(:secret::text, chr(1)))' ],
	'a mint that a trigger refuses' => [ 'P0001', 'SELECT overten_mint_key(:org, \'refuse\')' ],
	'an error behind a mint' => [ '22012', 'SELECT secret, 1 / (length(secret) - 36) FROM overten_mint_key(:org, \'x\')' ],
	'an error behind a rotation' => [ '22012', 'SELECT 1 / (length(overten_rotate_webhook_secret(:org)) - 38)' ],
	'an error that quotes a result' => [ '22P02', 'SELECT pg_sleep(0) IS NULL, key_id::int FROM overten_verify_key(:secret)' ]);
ask($node, <<'EOQ');
CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN RAISE EXCEPTION 'refused'; END$$;
CREATE TRIGGER refuse BEFORE INSERT ON overten_auth.audit_log FOR EACH ROW WHEN (NEW.detail = 'refuse') EXECUTE FUNCTION refuse();
EOQ
foreach my $what (sort keys %more)
{
	my ($sqlstate, $sql) = @{ $more{$what} };
	my $before = -s $node->logfile;
	local $ENV{PGUSER} = 'everything';

	run_bound($node, "$sql;\n", '', org => $org, secret => $minted);
	like(slurp_file($node->logfile, $before), qr/ERROR:  $sqlstate/, "refused: $what");
}
my $locker = $node->background_psql('postgres');
# So that no cache answers.
ask($node, 'UPDATE overten_auth.orgs SET name = name');
ask($locker, "BEGIN; LOCK overten_auth.orgs IN ACCESS EXCLUSIVE MODE");
foreach my $sql (
	'SELECT overten_mint_key(:org)', 'SELECT overten_verify_key(:secret)', 'SELECT overten_authenticate(:secret)',
	'SELECT overten_rotate_webhook_secret(:org)', 'SELECT overten_signup(\'ada\', \'x\')',
	"SELECT overten_handle_request('GET', '/api/v1/verify', json_build_object('authorization', concat('Bearer ', :secret::text)), NULL)",
	"SELECT overten_handle_request('GET', '/api/v1/verify', json_build_object('x-overten-api-key', :secret::text), NULL)",
	"SELECT overten_authorize_request(NULL, json_build_object('x-overten-api-key', :secret::text))")
{
	my $before = -s $node->logfile;
	local $ENV{PGUSER} = 'everything';

	run_bound($node, "$sql;\n", '-c lock_timeout=10ms', org => $org, secret => $minted);
	like(slurp_file($node->logfile, $before), qr/ERROR:  55P03/, "timed out: $sql");
}
ask($locker, 'COMMIT');
$locker->quit;

# The needles, in every place
my $holder = $node->background_psql('postgres');
ask($holder, "SELECT length('$needles')");
$node->poll_query_until('postgres', "SELECT count(*) > 0 FROM sample WHERE query LIKE '%needle+/%'") or die 'no sample';
ask($node, "CREATE TABLE needle AS SELECT '$needles'::text AS needle; DO \$\$ BEGIN PERFORM '$needles'; END \$\$");
ask($node, 'DROP TABLE stop');
# Its time limit began long ago, and begins anew.
ask($sampler, 'SELECT 1');
$sampler->quit;
$holder->quit;

# Looks for what is secret in some text.
my @digests = split /\n/, ask($node, q{SELECT encode(digest, 'hex') FROM overten_auth.api_keys});
my ($base64) = slurp_file("$folder/master.key") =~ m{^([0-9A-Za-z+/]{43}=)$}m or die 'no master key';
my $master_key = decode_base64($base64);
my @master_forms = ($master_key, $base64, unpack('H*', $master_key));

sub look_through
{
	my ($place, $text) = @_;

	foreach my $what (sort keys %secrets)
	{
		my %found;
		$found{$&}++ while $text =~ /$secrets{$what}/g;
		my $needle = delete $found{ $needles{$what} };

		# A page of WAL may end in one.
		delete @found{ grep { index($needles{$what}, $_) == 0 } keys %found };
		ok($needle, "$place: a needle is found as $what");
		is(scalar(keys %found), 0, "$place: no other $what");
	}
	is(scalar(grep { index($text, $_) >= 0 } @master_forms), 0, "$place: no master key");
	return;
}

my $log = substr slurp_file($node->logfile), $from;
look_through('log', $log);
is(scalar(grep { index($log, $_) >= 0 } @digests), 0, 'log: no digest of a key');
like($log, qr/Query Text: SELECT.*overten_verify_key\(\$1\)/, 'log: auto_explain shows plans');
like($log, qr/Query Text: UPDATE overten_auth\.api_keys/, "log: the extension's own, too");

# What the server does with a caller's own statement: a plan for one execution has
# its parameters as constants, which auto_explain shows with log_verbose.
foreach my $mode ('auto', 'force_generic_plan')
{
	my $key = random_key();
	my $before = -s $node->logfile;

	run_bound($node, "SELECT key_id FROM overten_verify_key(:secret);\n",
		"-c log_parameter_max_length=0 -c auto_explain.log_verbose=on -c plan_cache_mode=$mode", secret => $key);
	is(index(slurp_file($node->logfile, $before), $key) >= 0 ? 'is' : 'is not',
		$mode eq 'auto' ? 'is' : 'is not',
		"log: with auto_explain.log_verbose, a key of the caller's own plan: plan_cache_mode = $mode");
}

look_through('pg_stat_statements', ask($node, 'SELECT query FROM pg_stat_statements'));
look_through('pg_stat_activity', ask($node, 'SELECT query FROM sample'));
like(ask($node, 'SELECT query FROM sample'), qr/overten_\w+\(\$1/, 'pg_stat_activity: calls were sampled');

my $dump = $node->basedir . '/dump.sql';
$node->command_ok([ 'pg_dump', '-f', $dump, 'postgres' ], 'pg_dump');
look_through('dump', slurp_file($dump));

sub all_files
{
	my ($top) = @_;
	my $content = '';

	find({ no_chdir => 1, wanted => sub { $content .= slurp_file($_) . "\n" if -f } }, $top);
	return $content;
}

ask($node, 'CHECKPOINT');
look_through('data directory', all_files($node->data_dir));
look_through('WAL', all_files($node->data_dir . '/pg_wal'));
$node->stop;
look_through('data directory of a stopped server', all_files($node->data_dir));
look_through('tables', all_files($node->data_dir . '/base'));
look_through('statistics in a file', all_files($node->data_dir . '/pg_stat'));
my $key_file = slurp_file("$folder/master.key");
cmp_ok(index($key_file, $base64), '>=', 0, 'the key file has the master key');

done_testing();
