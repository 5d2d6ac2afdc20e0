
# overten_auth.max_standby_lag where the standby and its worker may reach
# different servers: a standby of a standby, several hosts, an address that
# moves, two servers that were promoted.  Beyond what is known, a standby raises
# 55000.  pg_regress has one server only.
#
# The address that moves is a link to the socket of a server.

use strict;
use warnings FATAL => 'all';

use FindBin;
use lib $FindBin::RealBin;
use OvertenTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use StandbyTest;
use Test::More;
use Time::HiRes qw(time usleep);

my $bound = 500;
my ($address, $port) = (PostgreSQL::Test::Utils::tempdir_short(), 6000);
my $link = "$address/.s.PGSQL.$port";

# Let the address lead to a server, or nowhere.
sub lead_to
{
	my ($node) = @_;

	unlink $link;
	return unless defined $node;
	symlink $node->host . '/.s.PGSQL.' . $node->port, $link or die "symlink: $!";
	return;
}

# Let the worker connect anew, while the WAL receiver stays where it is.
sub renew_worker
{
	my ($node) = @_;
	my $worker = worker_pid($node);

	kill 'TERM', $worker;
	wait_until('another worker runs', sub {
		my ($other) = processes($node, qr/overten_auth standby worker/);
		return defined $other && $other != $worker;
	});
	return;
}

sub flushed
{
	my ($node) = @_;

	return ask($node, 'SELECT pg_current_wal_flush_lsn()');
}

my $old = create_primary('old', $bound);
my $org = create_org($old, 'Followed');
my ($secret, $key) = mint($old, $org);
$old->backup('base');
lead_to($old);
my $early = create_standby($old, 'base', 'early');
my $late = create_standby($old, 'base', 'late',
	"primary_conninfo = '${\conninfo($early->host, $early->port)}'");
my $standby = create_standby($old, 'base', 'standby',
	"primary_conninfo = '${\conninfo($address, $port)}'");

# A standby of a standby
wait_within($early);
is(answer_within($early, $secret), $key, 'a standby of the primary verifies');
wait_beyond($late, qr/is a standby/);
stays($late, $secret, '55000', 3 * $bound / 1000, 'a standby of that does not');
set_conf($late, primary_conninfo => conninfo($old->host, $old->port));
wait_within($late);
is(answer_within($late, $secret), $key, 'when it follows the primary, it does');

# Several hosts
my $hosts = "host=$address,${\$old->host} port=$port,${\$old->port} application_name=receiver";
set_conf($standby, primary_conninfo => $hosts);
wait_until('the WAL receiver uses it', sub { ask($standby, 'SELECT conninfo LIKE \'%,%\' FROM pg_stat_wal_receiver') eq 't' });
wait_within($standby);
is(answer_within($standby, $secret), $key, 'with several hosts it verifies while both have the first');
lead_to(undef);
renew_worker($standby);
wait_beyond($standby, qr/another server than the WAL receiver/);
stays($standby, $secret, '55000', 3 * $bound / 1000, 'and not when its worker has another one');
lead_to($old);
wait_within($standby);
set_conf($standby, primary_conninfo => conninfo($address, $port));
wait_within($standby);

# Another cluster, which must not come from a copy of the one that initdb has made
my $foreign = create_primary('foreign', $bound, '', extra => ['--data-checksums']);
lead_to($foreign);
renew_worker($standby);
wait_beyond($standby, qr/of another cluster/);
stays($standby, $secret, '55000', 3 * $bound / 1000, 'a server of another cluster says nothing');
$foreign->stop;
lead_to($old);
wait_within($standby);

# A server was promoted; the old one goes on, and has the higher position.
wait_replayed($old, $_) foreach $early, $late;
$early->promote;
ask($old, 'CREATE TABLE filler AS SELECT generate_series(1, 100000)');
wait_replayed($old, $_) foreach $late, $standby;
is(ask($standby, "SELECT pg_last_wal_replay_lsn() > '${\flushed($early)}'"), 't', 'the old primary is further than the one that was promoted');
lead_to($early);
renew_worker($standby);
wait_beyond($standby, qr/on different timelines/);
stays($standby, $secret, '55000', 3 * $bound / 1000, 'a primary on another timeline says nothing');
lead_to($old);
wait_within($standby);
is(answer_within($standby, $secret), $key, 'the one that the standby follows does');

# Another one is promoted later, to the same number of a timeline.
$old->stop;
$late->promote;
lead_to($late);
wait_until('the standby follows', sub { ask($standby, 'SELECT received_tli FROM pg_stat_wal_receiver') eq '2' });
wait_within($standby);
is(answer_within($standby, $secret), $key, 'after a failover a standby of the new primary verifies');
my ($other, $other_key) = mint($late, $org);
wait_replayed($late, $standby);
is(answer_within($standby, $other), $other_key, 'keys that were minted there, too');
ask($late, "SELECT overten_revoke_key('$org', '$other_key')");
wait_replayed($late, $standby);
is(answer_within($standby, $other), '', 'and obeys its revocations');
is(ask($standby, "SELECT pg_last_wal_replay_lsn() > '${\flushed($early)}'"), 't', 'it is further than the server that was promoted first');
ask($early, 'CHECKPOINT');
is(ask($early, 'SELECT timeline_id FROM pg_control_checkpoint()'), 2, 'which is on timeline 2, too');
lead_to($early);
renew_worker($standby);
wait_beyond($standby, qr/another history/);
stays($standby, $secret, '55000', 3 * $bound / 1000, 'but with another history, and so says nothing');

lead_to($late);
wait_within($standby);
is(answer_within($standby, $secret), $key, 'the right server does');

# The worker connects anew when there is a new WAL receiver.
my $connection = q{SELECT pid FROM pg_stat_replication WHERE application_name = 'overten_auth'};
my $before = ask($late, $connection);
kill 'TERM', processes($standby, qr/walreceiver/);
wait_until('the worker has connected anew', sub { !grep { $_ eq '' || $_ eq $before } ask($late, $connection) });
wait_within($standby);
is(answer_within($standby, $secret), $key, 'as it does when there is a new WAL receiver');

# The primary hangs, and another server is promoted: no answer comes any more, and the
# worker must not wait for it as long as the WAL receiver would.
$late->backup('third');
my $third = create_standby($late, 'third', 'third');
wait_within($third);
lead_to($late);
wait_within($standby);
my @frozen = (postmaster($late), processes($late, qr/./));
kill 'STOP', @frozen;
wait_beyond($standby, qr/./);
usleep(1_000_000);
$third->promote;
lead_to($third);
set_conf($standby, primary_conninfo => conninfo($address, $port) . ' options=-cgeqo=on');
my $followed = time;
wait_within($standby);
cmp_ok(time - $followed, '<', 30, 'a standby leaves a primary that hangs for another one');
kill 'CONT', reverse @frozen;
$third->stop;

# Not preloaded
$standby->append_conf('postgresql.conf', "shared_preload_libraries = ''");
$standby->restart;
my (undef, undef, $stderr) = $standby->psql('postgres', "SELECT FROM overten_verify_key('$secret')");
like($stderr, qr/DETAIL:  It was never shown to know what the primary has committed\.  The library is not preloaded\./,
	'a standby that does not preload the library does not verify within a bound');
$_->stop foreach $standby, $early, $late;
done_testing();
