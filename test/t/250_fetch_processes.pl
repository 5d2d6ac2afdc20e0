# Fetching signing keys where the command does not end, or the worker does, or the
# server, the database or the extension goes away meanwhile; on a standby, and where
# there is no worker.  Not in pg_regress, because of workers, processes and
# restarts.

use strict;
use warnings FATAL => 'all';

use FindBin;
use IPC::Run;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time);

use lib $FindBin::RealBin;
use FetchTest;
use OvertenTest;

my $node = create_fetch_node('fetch_processes');
my ($begin, $since);

# Where nothing can fetch, nobody waits long to hear so: looked at in the end.
my $unable = create_node('unable', fetch_settings() . "max_worker_processes = 0\n");
my $in_vain = IPC::Run::start([ 'psql', '-XAtq', '-d', $unable->connstr('postgres'), '-c', 'SELECT overten_refresh_signing_keys()' ],
	'>', \my $in_vain_out, '2>', \my $in_vain_err);

is(refresh(curl('/keys?max-age=20000')), 1, 'fetched');

# A database that gets another name while its keys are fetched does not get them:
# another one may be meant by the name now, and nobody looks after this one.
command("sleep $nap[6] & until [ -e $dir/go ]; do sleep 0.1; done; kill \$!; " . curl('/keys'));
$node->safe_psql('postgres', 'CREATE DATABASE other');
$node->safe_psql('other', 'CREATE EXTENSION overten_auth CASCADE');
$begin = log_size();
$node->reload;
wait_until('the command runs', sub { processes('sleep', $nap[6]) == 1 });
$node->safe_psql('postgres', 'ALTER DATABASE other RENAME TO elsewhere');
write_file('go', '');
my $seen = qr/could not fetch signing keys for database "other"\n.*DETAIL:  The database (?:was renamed while they were fetched|does not exist any more)\./;
my $given = 'SELECT count(*) FROM overten_auth.signing_keys';
wait_until('the worker has done something', sub { logged($begin) =~ $seen || $node->safe_psql('elsewhere', $given) });
is($node->safe_psql('elsewhere', $given), 0, 'keys are not for a database of another name');
like(logged($begin), $seen, 'and the log says so');
unlink "$dir/go";
command(curl('/keys'));
$node->safe_psql('postgres', 'DROP DATABASE elsewhere');

# A command that does not end: while it runs, the database can be dropped; it
# is killed with its children after 15 seconds.
command("sleep $nap[2] & sleep $nap[3]");
$node->safe_psql('postgres', 'CREATE DATABASE other');
$node->safe_psql('other', 'CREATE EXTENSION overten_auth CASCADE');
$node->reload;
wait_until('the command runs', sub { processes('sleep', $nap[3]) == 1 });
$node->safe_psql('postgres', 'DROP DATABASE other');
is(processes('sleep', $nap[3]), 1, 'DROP DATABASE goes through while the command runs');
$since = time;
my $waiting = start_psql('SELECT refresh()');
wait_until('two run', sub { processes('sleep', $nap[3]) == 2 });
is(status('key_worker'), 'fetching', 'the status says that it runs');
is(finish_psql($waiting), '55000 The command took longer than 15 seconds.', 'the command has a deadline');
my $took = time - $since;
ok($took > 14 && $took < 25, "of 15 seconds ($took)");
wait_until('nothing of it is left', sub { processes('sleep', $nap[2]) + processes('sleep', $nap[3]) == 0 });

# A worker that is told to end.
my $hang = "echo \$PPID >$dir/worker; trap '' TERM; sleep $nap[4] & sleep $nap[5] & wait; wait";
sub hang
{
	unlink "$dir/worker";
	command($_[0]);
	my $psql = start_psql('SELECT refresh()');
	wait_until('the command runs', sub { -s "$dir/worker" && processes('sleep', $nap[5]) == 1 });
	return ($psql, 0 + slurp_file("$dir/worker"));
}
my $pid;
is(refresh(curl('/keys')), 1, 'fetched again');
($waiting, $pid) = hang($hang);
$since = time;
kill TERM => $pid;
is(finish_psql($waiting), '55000 The worker was told to end.', 'SIGTERM ends the worker');
cmp_ok(time - $since, '<', 8, 'soon');
wait_until('the command ends, though it ignores that', sub { processes('sleep', $nap[4]) + processes('sleep', $nap[5]) == 0 });
command(curl('/keys'));
ok($node->poll_query_until('postgres', q{SELECT fetch_outcome = '1 key.' FROM overten_status()}), 'the next try comes by itself');

# A server that stops.
for my $mode ('fast', 'immediate')
{
	hang($hang);
	$since = time;
	$node->stop($mode);
	cmp_ok(time - $since, '<', 10, "$mode shutdown does not wait for the command");
	wait_until('the command is gone', sub { processes('sleep', $nap[4]) + processes('sleep', $nap[5]) == 0 });
	pass("$mode shutdown leaves nothing of it");
	command(curl('/keys'));
	$node->start;
	ok($node->poll_query_until('postgres', 'SELECT fetched_at IS NOT NULL FROM overten_status()'), 'fetched after the start');
}
hang($hang);
my $postmaster = postmaster($node);
$node->kill9;
wait_until('the command is gone', sub { processes('sleep', $nap[4]) + processes('sleep', $nap[5]) == 0 });
pass('nor does the death of the postmaster');
command(curl('/keys'));
wait_until('init has reaped the postmaster', sub { !kill 0, $postmaster });
$node->start;

# A worker that is killed takes the server down, and it comes back; the command
# itself dies with it, where it has replaced the shell.
$node->poll_query_until('postgres', 'SELECT fetched_at IS NOT NULL FROM overten_status()');
$node->append_conf('postgresql.conf', 'restart_after_crash = on');
$node->reload;
($waiting, $pid) = hang("echo \$PPID >$dir/worker; exec sleep $nap[5]");
kill KILL => $pid;
wait_until('the command is gone', sub { processes('sleep', $nap[5]) == 0 });
$waiting->{run}->finish;
command(curl('/keys'));
ok($node->poll_query_until('postgres', 'SELECT fetched_at IS NOT NULL FROM overten_status()'), 'fetched after a crash');
is_good($token, 'and used');

# A session that waits can be cancelled; the fetch goes on.
my $until_told = "echo \$PPID >$dir/worker; sleep $nap[5] & until [ -e $dir/go ]; do sleep 0.1; done; kill \$!; " . curl('/keys');
hang($until_told);
is(query(q{SELECT count(pg_cancel_backend(pid)) FROM pg_stat_activity WHERE query = 'SELECT refresh()'}), 1, 'cancelled');
write_file('go', '');
ok($node->poll_query_until('postgres', q{SELECT fetch_outcome = '1 key.' FROM overten_status()}), 'fetched all the same');

# DROP EXTENSION while the command runs.
unlink "$dir/go";
hang($until_told);
$begin = log_size();
query('DROP EXTENSION overten_auth CASCADE');
is(processes('sleep', $nap[5]), 1, 'DROP EXTENSION goes through while the command runs');
write_file('go', '');
wait_until('the worker has seen it', sub { logged($begin) =~ /DETAIL:  The database does not have the extension\./ });
query('CREATE EXTENSION overten_auth');

# A standby has what its primary has, until it is promoted.
$node->reload;
ok($node->poll_query_until('postgres', 'SELECT signing_keys = 1 FROM overten_status()'), 'fetched for the new extension');
$node->backup('backup');
my $standby = PostgreSQL::Test::Cluster->new('standby');
$standby->init_from_backup($node, 'backup', has_streaming => 1);
$standby->start;
is($standby->safe_psql('postgres', 'SELECT refresh()'), '55000 This is a standby; it has the keys of its primary.', 'a standby does not fetch');
is($standby->safe_psql('postgres', 'SELECT signing_keys FROM overten_status()'), 1, 'and has the keys');
$standby->promote;
ok($standby->poll_query_until('postgres', 'SELECT fetched_at IS NOT NULL FROM overten_status()'), 'fetched after the promotion');
$standby->stop;

# No place for a worker; nothing preloaded.
$node->append_conf('postgresql.conf', "max_logical_replication_workers = 0\nmax_worker_processes = 2");
$node->restart;
is(refresh(), '55000 There is no place for another background worker.', 'no place for the worker');
like(status('fetch_outcome'), qr/no place/, 'the status says so');
$node->append_conf('postgresql.conf', q{shared_preload_libraries = ''});
$node->restart;
is(refresh(), '55000 The library is not preloaded.', 'not preloaded');
is(status('key_worker IS NULL AND fetch_outcome IS NULL'), 't', 'no status either');
$in_vain->finish;
like($in_vain_err, qr/ERROR:  could not fetch signing keys for database "postgres"\nDETAIL:  It took longer than 30 seconds\./, 'no launcher: not for ever');
wait_until('nothing is left', sub { processes('sleep', $nap[5]) == 0 });
$_->stop for $node, $unable;

done_testing();
