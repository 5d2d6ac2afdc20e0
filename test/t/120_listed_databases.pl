
# Databases that are listed come and go, get other names, and have the
# extension dropped and created, while flushes go on; old counts are credited to
# nobody else.  And the settings of it.  pg_regress has one database and no
# preloaded library.

use strict;
use warnings FATAL => 'all';

use FindBin;
use lib $FindBin::RealBin;
use IPC::Run;
use OvertenTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = create_node(
	'databases', <<'EOC');
shared_preload_libraries = 'overten_auth'
overten_auth.databases = 'postgres, passing, renamed, missing'
overten_auth.flush_interval = 1h
EOC
my $org = create_org($node, 'Lasting');
my ($secret, $key) = mint($node, $org);
my $owner = $node->background_psql('postgres');
$owner->set_query_timer_restart;
my $passing = [ $node, 'passing' ];
my $renamed = [ $node, 'renamed' ];

my $launcher =
  "SELECT pid FROM pg_stat_activity WHERE backend_type = 'overten_auth launcher'";
my $pid = ask($owner, $launcher);
like($pid, qr/^\d+$/, 'pg_stat_activity shows the launcher');

# Keys are verified in one database through all of this.
my $file = $node->basedir . '/verify.sql';
append_to_file($file, 'SELECT overten_verify_key(:secret);');
my ($out, $err) = ('', '');
my $load;
{
	local %ENV = $node->_get_env(PGAPPNAME => 'load');
	$load = IPC::Run::start(
		[
			'pgbench', '-n', '-T', 180, '-R', 200, '-M', 'prepared', '-f', $file,
			'-D', "secret=$secret", 'postgres'
		],
		'>', \$out, '2>', \$err);
}

# A database that is made while the server runs, and dropped
sub create_database
{
	my ($name) = @_;

	ask($owner, "CREATE DATABASE $name");
	ask([ $node, $name ], 'CREATE EXTENSION overten_auth CASCADE');
	return create_org([ $node, $name ], 'Passing');
}

# The time that SQL takes in seconds.
sub time_of
{
	my ($sql) = @_;
	my $start = ask($owner, 'SELECT clock_timestamp()');

	ask($owner, $sql);
	return ask($owner,
		"SELECT extract(epoch FROM clock_timestamp() - '$start')");
}

my $passing_org = create_database('passing');
my ($old_secret, $old_key) = mint($passing, $passing_org);
is(sqlstate_of($passing, 'SELECT overten_flush_usage()'),
	'', 'a database that was just made is flushed');
verify($passing, $old_secret) foreach 1 .. 3;
flush_usage($passing);
is(uses($passing, $old_key), 3, 'and its uses are there');

foreach my $round (1 .. 3)
{
	verify($passing, $old_secret) foreach 1 .. 3;
	my $time = time_of('DROP DATABASE passing');
	cmp_ok($time, '<', 5, "a database in which keys were just used is dropped ($time s)");

	# The next one of that name, with a key of the same id and secret.
	$passing_org = create_database('passing');
	ask($passing, <<"EOQ");
INSERT INTO overten_auth.api_keys (key_id, org_id, prefix, digest, name)
VALUES ('$old_key', '$passing_org', left('$old_secret', 12), sha256('$old_secret'), 'old');
EOQ
	is(sqlstate_of($passing, 'SELECT overten_flush_usage()'),
		'', 'another one of that name is flushed at once');
	is(uses($passing, $old_key), 0, 'old uses are not credited to it');
	verify($passing, $old_secret);
	flush_usage($passing);
	is(uses($passing, $old_key), 1, 'but its own are');
}

# Another name
verify($passing, $old_secret) foreach 1 .. 3;
ask($owner, 'ALTER DATABASE passing RENAME TO renamed');
verify($renamed, $old_secret) foreach 1 .. 2;
flush_usage($renamed);
is(uses($renamed, $old_key), 6,
	'a database that gets another name that is listed keeps its uses');
verify($renamed, $old_secret) foreach 1 .. 2;
ask($owner, 'ALTER DATABASE renamed RENAME TO unlisted');
is( ask([ $node, 'unlisted' ], 'SELECT usage_mode FROM overten_status()'),
	'table',
	'with one that is not listed, another way is taken');
ask($owner, 'ALTER DATABASE unlisted RENAME TO passing');
flush_usage($passing);
cmp_ok(uses($passing, $old_key), '<=', 8, 'nothing is counted twice');

# Settings of the database that a worker must not mind; this session has none
# of them yet
my $user = $node->background_psql('passing');
my $parallel = ask($owner,
	"SELECT name FROM pg_settings WHERE name IN ('force_parallel_mode', 'debug_parallel_query')");
my $has_transaction_timeout =
  ask($owner, "SELECT 1 FROM pg_settings WHERE name = 'transaction_timeout'");
ask($owner, 'CREATE ROLE weak');
ask($owner, "ALTER DATABASE passing SET $_")
  foreach (
	'role = weak',
	'search_path = overten_auth',
	'default_transaction_isolation = serializable',
	'default_transaction_read_only = on',
	'default_transaction_deferrable = on',
	'session_replication_role = replica',
	'statement_timeout = 1',
	'lock_timeout = 1',
	'enable_indexscan = off',
	"$parallel = regress",
	"timezone = 'Asia/Kathmandu'",
	"datestyle = 'German'",
	'transform_null_equals = on',
	$has_transaction_timeout ? 'transaction_timeout = 1' : ());
my $history = uses($user, $old_key);
verify($user, $old_secret) foreach 1 .. 2;
flush_usage($user);
is(uses($user, $old_key), $history + 2,
	"settings of the database do not disturb a flush");
ask($owner, "ALTER DATABASE passing RESET ALL");

# No connections
verify($user, $old_secret);
ask($owner, 'ALTER DATABASE passing ALLOW_CONNECTIONS false');
is(verify($user, $old_secret), $old_key,
	'keys are verified where a worker may not connect');
my $log_start = -s $node->logfile;
$user->query('DO $$ BEGIN PERFORM overten_flush_usage();
	EXCEPTION WHEN object_not_in_prerequisite_state THEN NULL; END $$');
like(
	ask($user, 'SELECT flush_failure FROM overten_status()'),
	qr/^the worker ended early/,
	'that is told');
ask($owner, 'ALTER DATABASE passing ALLOW_CONNECTIONS true');
flush_usage($user);
is(uses($user, $old_key), $history + 4, 'and no use is lost');
is( () = slurp_file($node->logfile, $log_start) =~ /FATAL/g,
	1, 'it was tried as often as it was asked for');
$user->quit;

# The extension dropped and created while flushes go on
$log_start = -s $node->logfile;
my $cycler_file = $node->basedir . '/cycle.sql';
append_to_file($cycler_file, <<'EOQ');
BEGIN;
DROP EXTENSION overten_auth;
CREATE EXTENSION overten_auth;
SELECT a.key_id, b.key_id
FROM overten_create_org('Short-lived') o, overten_mint_key(o.org_id) m, overten_verify_key(secret) a, overten_verify_key(secret) b;
COMMIT;
SELECT a.key_id, b.key_id
FROM overten_create_org('Short-lived') o, overten_mint_key(o.org_id) m, overten_verify_key(secret) a, overten_verify_key(secret) b;
EOQ
my ($cycle_out, $cycle_err) = ('', '');
my $cycler;
{
	local %ENV = $node->_get_env();
	$cycler = IPC::Run::start(
		[ 'pgbench', '-n', '-t', 20, '-f', $cycler_file, 'passing' ],
		'>', \$cycle_out, '2>', \$cycle_err);
}
my $session = $node->background_psql('passing', on_error_stop => 0);
my $flushes = 0;
while ($cycler->pumpable)
{
	$session->query('SELECT overten_flush_usage()');
	$flushes++;
	eval { $cycler->pump_nb };
}
$session->quit;
ok($cycler->finish, "the extension is dropped and created during $flushes flushes")
  or diag($cycle_err);
unlike($cycle_err, qr/ERROR/, 'without an error');
my $log = slurp_file($node->logfile, $log_start);
unlike($log, qr/deadlock/, 'nor a deadlock');
# On a slow machine the extension is locked longer than a worker waits.
unlike($log, qr/The worker reports: (?!canceling statement due to lock timeout\.)/,
	'a flush fails by a lock timeout at most');
my $cycles = $log;
flush_usage($passing);
my ($last_secret, $last_key) = mint($passing, create_org($passing, 'Last'));
verify($passing, $last_secret) foreach 1 .. 2;
flush_usage($passing);
is(uses($passing, $last_key), 2, 'after that uses are flushed as ever');
ask($passing, "SELECT overten_verify_key('$last_secret')");
ask($passing, 'DROP EXTENSION overten_auth');



# Settings

my ($settled_secret, $settled_key) = mint($owner, $org);
verify($owner, $settled_secret);
ask($owner, "ALTER SYSTEM SET overten_auth.flush_interval = '1s'");
ask($owner, 'SELECT pg_reload_conf()');
$node->poll_query_until('postgres',
	"SELECT EXISTS (SELECT FROM overten_auth.key_usage WHERE key_id = '$settled_key')")
  or die 'nothing was flushed';
pass('a shorter flush_interval is obeyed');
sub wait_for_flushes
{
	my $before = ask($owner, 'SELECT flushes FROM overten_stat');

	$node->poll_query_until('postgres',
		"SELECT flushes >= $before + 3 FROM overten_stat")
	  or die 'there are no more flushes';
	return;
}
wait_for_flushes();

# Where the extension is gone there is nothing to come back for.
my $transactions =
  "SELECT xact_commit FROM pg_stat_database WHERE datname = 'passing'";
my $since = ask($owner, $transactions);
wait_for_flushes();
is(ask($owner, $transactions),
	$since, 'a database without the extension is not connected to again and again');

# The load has gone on all the time, but for what it had begun.
ask($owner, "SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity
	WHERE application_name = 'load'");
$load->finish;
my ($answered) = $out =~ /^number of transactions actually processed: (\d+)/m;
flush_usage($owner);
my $counted = uses($owner, $key);
cmp_ok($answered, '>', 100, "keys were verified elsewhere meanwhile ($answered)");
cmp_ok($counted, '>=', $answered, 'none of these uses is lost');
cmp_ok($counted, '<=', $answered + 1, 'and none is made up');
unlike($err, qr/ERROR|WARNING/, 'and nothing failed there');

is(ask($owner, $launcher), $pid, 'the launcher is still the same');
my @stat = split ' ', slurp_file("/proc/$pid/stat") =~ s/.*\) //sr;
cmp_ok($stat[11] + $stat[12],
	'<', 100, 'it has taken less than a second of CPU time');

$log = slurp_file($node->logfile);
is(() = $log =~ /LOG:  database "missing" of overten_auth\.databases does not exist/g,
	1, 'a database that does not exist is told of once');
cmp_ok(ask($owner, 'SELECT flushes FROM overten_stat'),
	'>', 10, 'of flushes there were many');
unlike($log =~ s/\Q$cycles\E//r, qr/flush(?!_)/, 'the log has nothing about them');
$owner->quit;

ask($node, 'CREATE ROLE plain');
is( sqlstate_of($node, "SET ROLE plain; SET overten_auth.$_->[0] = $_->[1]"),
	$_->[2],
	"$_->[0] is not for everyone to set")
  foreach (
	[ flush_interval => 1, '55P02' ],
	[ usage_retention => 60, '55P02' ],
	[ trust_forwarded_for => 1, '55P02' ],
	[ databases => "''", '55P02' ],
	[ max_tracked_keys => 100, '55P02' ],
	[ cache_entries => 0, '42501' ],
	[ record_use_without_preload => 'off', '42501' ]);

# Start a server that cannot start, and return what it says.
sub failure_to_start
{
	my ($setting) = @_;
	my $start = -s $node->logfile;

	$node->append_conf('postgresql.conf', $setting);
	return 'it starts' if $node->start(fail_ok => 1);
	return slurp_file($node->logfile, $start);
}

$node->stop;
like(
	failure_to_start("overten_auth.databases = 'postgres, , other'"),
	qr/FATAL:  invalid value for parameter "overten_auth\.databases": "postgres, , other"\n[^\n]*DETAIL:  List syntax is invalid\./,
	'a list with bad syntax is refused, and the log says why');
my $names = join ', ', map { "d$_" } 1 .. 65;
like(
	failure_to_start("overten_auth.databases = '$names'"),
	qr/FATAL:  invalid value for parameter "overten_auth\.databases"[^\n]*\n[^\n]*DETAIL:  Too many databases are named\./,
	'so is one that is too long');

# Not preloaded
$node->append_conf('postgresql.conf',
	"overten_auth.databases = 'postgres'\nshared_preload_libraries = ''");
$node->start;
is( sqlstate_of($node, "LOAD 'overten_auth'; SHOW overten_auth.databases"),
	'42704', 'without preload there is no setting for databases');
is( ask($node, "SELECT usage_mode, usage_worker FROM overten_status()"),
	'table|', 'and no worker');
is( ask($node, 'SELECT count(*) FROM overten_stat WHERE accepted IS NULL AND since IS NULL'),
	1, 'and no statistics');
is(sqlstate_of($node, 'SELECT overten_flush_usage()'),
	'', 'there is nothing to flush');

$node->stop;
done_testing();
