
# A server that stops in order loses no use; one that crashes loses what was not
# flushed, and counts nothing twice; a standby flushes what it has counted when it
# is promoted.  Whatever happens to workers, keys are verified.  pg_regress cannot
# stop its server.

use strict;
use warnings FATAL => 'all';

use FindBin;
use lib $FindBin::RealBin;
use OvertenTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(usleep);
use UsageTest;

my $clients = 4;

my $node = create_node(
	'faults', <<'EOC',
shared_preload_libraries = 'overten_auth'
overten_auth.databases = 'postgres, fresh'
overten_auth.flush_interval = 1h
restart_after_crash = on
EOC
	allows_streaming => 1);
my $org = create_org($node, 'Lasting');
my ($secret, $key) = mint($node, $org);


# In order

my $expected = 0;
foreach my $mode ('fast', 'fast', 'smart', 'fast')
{
	verify($node, $secret) foreach 1 .. 2;
	$expected += 2 + ask($node,
		"SELECT count(*) FROM (SELECT overten_verify_key('$secret') FROM generate_series(1, 1000)) v");
	wait_for_worker($node, 'waiting') if $expected < 2000;
	$node->stop($mode);
	$node->start;
	is(uses($node, $key), $expected, "a $mode stop loses no use");
	wait_for_worker($node, 'waiting');
}

foreach my $round (1 .. 4)
{
	my $mode = $round < 4 ? 'fast' : 'immediate';
	my $accepted = ask($node, 'SELECT accepted FROM overten_stat');
	my $load = start_pgbench($node, 'verify', 'SELECT overten_verify_key(:secret);',
		'-T', 180, '-M', 'prepared', '-c', $clients, '-D', "secret=$secret");
	# So that the stop also meets a worker that is at work.
	my $flusher = start_pgbench($node, 'flush', 'SELECT overten_flush_usage();', '-T', 180)
	  if $round % 2 == 0;

	$node->poll_query_until('postgres',
		"SELECT accepted > $accepted + 1000 FROM overten_stat");
	$node->stop($mode);
	processed($flusher) if $flusher;
	my $answered = processed($load);
	$node->start;

	my $counted = uses($node, $key) - $expected;
	if ($mode eq 'fast')
	{
		cmp_ok($counted, '>=', $answered,
			"a fast stop under load loses no use ($answered)");
	}
	else
	{
		cmp_ok($counted, '>', 0,
			"an immediate stop under load loses not all ($counted of $answered)");
	}
	cmp_ok($counted, '<=', $answered + $clients, 'and makes none up');
	$expected += $counted;
	wait_for_worker($node, 'waiting');
}

# The launcher has just looked for databases, and would look again in 10 s.
ask($node, 'CREATE DATABASE fresh');
my $fresh = [ $node, 'fresh' ];
ask($fresh, 'CREATE EXTENSION overten_auth CASCADE');
my ($fresh_secret, $fresh_key) = mint($fresh, create_org($fresh, 'Fresh'));
verify($fresh, $fresh_secret);
my $start = time;
$node->poll_query_until('fresh',
	"SELECT usage_worker = 'waiting' FROM overten_status()");
cmp_ok(time - $start, '<', 6,
	'the first use in a database that was just made brings a worker');
$node->restart;
is(uses($fresh, $fresh_key), 1, 'and the use is not lost');
ask($node, 'DROP DATABASE fresh');
wait_for_worker($node, 'waiting');


# Processes that go

# The server's processes in whose titles a text is.
sub processes
{
	my ($title) = @_;
	my $postmaster = postmaster($node);
	my @pids;

	foreach my $dir (glob '/proc/[0-9]*')
	{
		# Processes end while this looks at them.
		my ($stat, $cmdline) =
		  map { eval { slurp_file("$dir/$_") } // '' } 'stat', 'cmdline';

		push @pids, $1
		  if $stat =~ /^(\d+) \(.*\) \S+ $postmaster /
		  && index($cmdline, $title) >= 0;
	}
	return @pids;
}

sub process
{
	return (processes(@_))[0];
}

my $launcher =
  "SELECT pid FROM pg_stat_activity WHERE backend_type = 'overten_auth launcher'";

# Use the key, signal processes while that is not flushed, and see that they
# are replaced and that no use is lost.
sub check_replaced
{
	my ($name, $signal, @titles) = @_;
	my %old = map { $_ => process($_) // die "no $_" } @titles;

	$expected += ask($node,
		"SELECT count(*) FROM (SELECT overten_verify_key('$secret') FROM generate_series(1, 7)) v");
	kill $signal, values %old;
	is(verify($node, $secret), $key, "$name: keys are verified");
	$expected++;
	foreach my $title (@titles)
	{
		my $new;

		$node->poll_query_until('postgres', 'SELECT true')
		  until defined($new = process($title)) && $new != $old{$title};
		pass("$name: there is another $title");
	}
	wait_for_worker($node, 'waiting');
	flush_usage($node);
	is(uses($node, $key), $expected, "$name: no use is lost");
	return;
}
my @both = ('overten_auth launcher', 'overten_auth usage worker');
check_replaced('worker terminated', 'TERM', $both[1]);
check_replaced('both terminated', 'TERM', @both);
check_replaced('both cancelled', 'INT', @both);

# A worker that is at work has to wait for this lock.  It gives up after a
# while, so it is asked for many times.
sub start_work
{
	my $session = $node->background_psql('postgres');

	ask($session, 'BEGIN; LOCK overten_auth.key_usage');
	verify($node, $secret);
	my $asker = $node->background_psql('postgres', on_error_stop => 0);
	$asker->query_until(qr/asked/,
		"\\echo asked\n" . "SELECT overten_flush_usage();\n" x 20);
	my $pid;
	wait_until(
		'the worker waits',
		sub {
			$pid = ask($node, "SELECT pid FROM pg_stat_activity
				WHERE backend_type = 'overten_auth usage worker'
				AND wait_event_type = 'Lock'");
		});
	return ($session, $asker, $pid);
}
foreach my $function ('pg_cancel_backend', 'pg_terminate_backend')
{
	my ($session, $asker, $pid) = start_work();

	ask($node, "SELECT $function($pid)");
	ask($session, 'COMMIT');
	$_->quit foreach $session, $asker;
	$expected++;
	flush_usage($node);
	is(uses($node, $key), $expected,
		"$function on a worker at work loses no use");
}


# Crashes

# Use the key, have the server crash, and see how it comes back.
sub check_crash
{
	my ($name, $crash) = @_;

	flush_usage($node);
	is(uses($node, $key), $expected, "$name: all is flushed");
	verify($node, $secret) foreach 1 .. 3;
	$crash->();
	$node->poll_query_until('postgres', 'SELECT true')
	  or die 'the server did not come back';
	is(verify($node, $secret), $key, "$name: keys are verified afterwards");
	wait_for_worker($node, 'waiting');
	flush_usage($node);
	my $counted = uses($node, $key) - $expected;
	cmp_ok($counted, '>=', 1, "$name: only what was not flushed is missing");
	cmp_ok($counted, '<=', 4, "$name: nothing is counted twice");
	$expected += $counted;
	return;
}

# Kill one process, or one that is found at the last moment, which makes the
# server start anew.
sub crash_by
{
	my ($victim) = @_;
	my $started = 'SELECT since FROM overten_stat';
	my $since = ask($node, $started);

	kill 'KILL', ref $victim ? $victim->() : $victim;
	$node->poll_query_until('postgres', "SELECT ($started) > '$since'")
	  or die 'the server did not start anew';
	return;
}

check_crash('immediate stop',
	sub { $node->stop('immediate'); $node->start });
check_crash(
	'postmaster killed',
	sub {
		my @pids = (postmaster($node), processes(''));
		my $deadline = time + $PostgreSQL::Test::Utils::timeout_default;

		$node->kill9;
		# The next server waits until all processes of this one have gone.
		while (kill 0, @pids)
		{
			die 'the processes of the server do not exit' if time > $deadline;
			usleep(10_000);
		}
		$node->start;
	});
check_crash('waiting worker killed', sub { crash_by(process($both[1])) });
check_crash('launcher killed', sub { crash_by(process($both[0])) });
check_crash(
	'verifying session killed',
	sub {
		my $session = $node->background_psql('postgres', on_error_stop => 0);
		my $pid = ask($session, 'SELECT pg_backend_pid()');
		my ($revoked, $revoked_key) = mint($node, $org);

		ask($node, "SELECT overten_revoke_key('$org', '$revoked_key')");
		$session->query_until(
			qr/busy/,
			"\\echo busy\nSELECT count(*) FROM (SELECT overten_verify_key('$revoked') FROM generate_series(1, 1000000000)) v;\n"
		);
		$node->poll_query_until('postgres',
			"SELECT state = 'active' FROM pg_stat_activity WHERE pid = $pid");
		crash_by($pid);
		eval { $session->quit };
	});
check_crash(
	'working worker killed',
	sub {
		my ($session, $asker, $pid);

		crash_by(
			sub {
				($session, $asker, $pid) = start_work();
				return $pid;
			});
		eval { $_->quit } foreach $session, $asker;
	});


# A standby

$node->stop;
$node->append_conf('postgresql.conf', 'overten_auth.verify_on_standby = on');
$node->start;
$expected = uses($node, $key);
$node->backup('base');
my $standby = PostgreSQL::Test::Cluster->new('standby');
$standby->init_from_backup($node, 'base', has_streaming => 1);
$standby->start;
$node->wait_for_catchup($standby);
is(verify($standby, $secret), $key, 'a standby verifies where it may')
  foreach 1 .. 3;
is( ask($standby, 'SELECT accepted, entries_used FROM overten_stat'),
	'3|1', 'and counts');
is( ask($standby, 'SELECT usage_mode, usage_worker FROM overten_status()'),
	'shared memory|none', 'but has no worker');
isnt(ask($standby, $launcher), '', 'and a launcher that waits for the promotion');
is(sqlstate_of($standby, 'SELECT overten_flush_usage()'),
	'55000', 'it does not flush');
$standby->promote;
wait_for_worker($standby, 'waiting');
flush_usage($standby);
is(uses($standby, $key), $expected + 3,
	'when it is promoted, what it has counted is flushed');
$standby->stop;

$node->stop;
done_testing();
