
# No room in the table of locks, no connection left, a database that lets nobody
# in: what cannot be done is an error and never a refusal, what needs nothing of
# that goes on, and afterwards no use is lost.
#
# No memory to count uses in, and no place for a worker: test/t/250_fetch_processes.pl
# and 175_usage_shortages.pl.

use strict;
use warnings FATAL => 'all';

use FindBin;
use lib $FindBin::RealBin, "$FindBin::RealBin/../t";
use FaultTest;
use OvertenTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time usleep);
use WholeSurface;

my $node = create_node('exhausted', surface_settings('postgres') . <<'EOC');
overten_auth.flush_interval = 1
overten_auth.max_tracked_keys = 200000
max_connections = 24
max_locks_per_transaction = 10
EOC
my @rows;
my $load = start_load($node);
my $org = create_org($node, 'Exhausted');
my ($secret, $key) = mint($node, $org);
my ($other, $other_key) = mint($node, $org);
# A first fetch later on would empty the caches.
ask($node, 'SELECT overten_refresh_signing_keys()');


# The table of locks

# What locks of relations a session can take without that table are 16.
my @relations = map { "many$_" } 1 .. 20;
ask($node, join '', map { "CREATE TABLE $_ ();" } @relations);
my ($hog, $holder, $cached, $changer) = map { $node->background_psql('postgres', on_error_stop => 0) } 1 .. 4;
ask($holder, 'BEGIN; LOCK ' . join(', ', @relations) . ' IN ACCESS SHARE MODE');
is(verify($cached, $secret), $key, 'a key is cached') foreach 1 .. 2;
ask($cached, 'BEGIN; LOCK ' . join(', ', @relations) . ' IN ACCESS SHARE MODE');

# The SQLSTATE that a statement fails with in a session.
sub failure_of
{
	my ($session, $sql) = @_;

	$session->query("\\set VERBOSITY sqlstate\n$sql");
	my ($state) = $session->{stderr} =~ /ERROR:  (\w{5})/;
	$session->{stderr} = '';
	return $state // 'none';
}

sub fill_locks
{
	$hog->query('SELECT count(pg_advisory_lock(i)) FROM generate_series(1, 1000000) i');
	like($hog->{stderr}, qr/out of shared memory/, 'the table of locks is full');
	$hog->{stderr} = '';
	return;
}
sub free_locks { return ask($hog, 'SELECT pg_advisory_unlock_all()'); }

fill_locks();
is(verify($cached, $secret), $key, 'a key that is cached is verified even where no lock can be had');
free_locks();
ask($cached, 'ROLLBACK');

instruct($load, 'start');
usleep(2_000_000);
fill_locks();
wait_until('changes and flushes fail', sub {
	3 == grep { /^(mint:53200|revoke:53200|flush:55000)$/ } keys %{ instruct($load, 'counts') } });
my $before = instruct($load, 'counts');
usleep(2_000_000);
my $after = instruct($load, 'counts');
my $verified = $after->{verifications} - $before->{verifications};
cmp_ok($verified, '>', 200, "no locks: verifying goes on ($verified in 2 s)");
is(failure_of($changer, "SELECT overten_mint_key('$org')"), '53200', 'minting is an error');
is(failure_of($changer, "SELECT overten_revoke_key('$org', '$other_key')"), '53200', 'so is revoking');
is(verify($changer, $other), $other_key, 'which has revoked nothing');
is(failure_of($holder, "SELECT overten_verify_key('$other')"), '53200',
	'a verification that needs a lock that cannot be had is an error, no refusal');
my $failed = instruct($load, 'counts');
free_locks();
ask($holder, 'ROLLBACK');
usleep(1_500_000);
instruct($load, 'stop');
my $checked = check_load($load, 'locks again');
is($checked->{lost}, 0, 'no use is lost');
is($checked->{counted}, $checked->{accepted}, 'nor counted twice');
is(verify($holder, $other), $other_key, 'the session that met the error verifies');
is(ask($node, "SELECT overten_revoke_key('$org', '$other_key')"), 't', 'what was refused can be done');
is(verify($holder, $other), '', 'and is obeyed');
my @errors = map { "$_ ($failed->{$_})" } grep { /:/ } sort keys %$failed;
is(join(' ', grep { !/^(mint:53200|revoke:53200|control:53200|flush:55000|refresh:55000) / } @errors), '', 'with the right errors');
push @rows, [ 'the table of locks is full', $verified, join(', ', @errors), $checked->{lost} ];
$_->quit foreach $hog, $holder, $cached, $changer;


# Connections

my $session = $node->background_psql('postgres');
flush_usage($session);
my $flushed = uses($session, $key);
my @sessions;
for (;;)
{
	my $new = eval { $node->background_psql('postgres') } // last;

	push @sessions, $new;
	die 'connections do not end' if @sessions > 40;
}
my ($result, $stdout, $stderr) = $node->psql('postgres', 'SELECT 1');
like($stderr, qr/too many clients already|remaining connection slots/, 'no connection is left');
verify($session, $secret) foreach 1 .. 5;
wait_until('a worker flushes', sub { uses($session, $key) == $flushed + 5 });
pass('no connections: the worker flushes all the same');
is(ask($session, 'SELECT overten_refresh_signing_keys()'), 1, 'and the other one fetches signing keys');
push @rows, [ 'no connection left, of ' . (@sessions + 1), 5, $stderr =~ /FATAL:  (.*)/, $flushed + 5 - uses($session, $key) ];
$_->quit foreach @sessions;

ask($session, 'ALTER DATABASE postgres CONNECTION LIMIT 0');
verify($session, $secret) foreach 1 .. 5;
wait_until('a worker flushes', sub { uses($session, $key) == $flushed + 10 });
pass('nor does the limit of the database keep it out');
ask($session, 'ALTER DATABASE postgres CONNECTION LIMIT -1');


# A database that lets nobody in

ask($session, q{UPDATE pg_database SET datallowconn = false WHERE datname = 'postgres'});
my $failures = ask($session, 'SELECT flush_failures FROM overten_stat');
verify($session, $secret) foreach 1 .. 5;
wait_until('a flush fails', sub { ask($session, 'SELECT flush_failures FROM overten_stat') > $failures });
is(verify($session, $secret), $key, 'no connections allowed: keys are verified');
is(uses($session, $key), $flushed + 10, 'the worker is not let in, either');
ask($session, q{UPDATE pg_database SET datallowconn = true WHERE datname = 'postgres'});
flush_usage($session);
is(uses($session, $key), $flushed + 16, 'afterwards every use is there');
push @rows, [ 'the database allows no connections', 6, 'flushes', $flushed + 16 - uses($session, $key) ];

unlike(slurp_file($node->logfile), qr/PANIC|TRAP|terminated by signal/, 'nothing has crashed');
$session->quit;
$node->stop;
report('Locks and connections exhausted, seed ' . seed(),
	[ 'what', 'verifications meanwhile', 'errors', 'uses lost' ], @rows);
done_testing();
