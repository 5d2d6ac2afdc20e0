
# Processes are killed with signal 9 at random under load, for as long as one
# likes: whatever it was, the server recovers, nothing that it has acknowledged
# is lost or undone, and of the uses none but those since the last flush.
#
# FAULT_SECONDS (600) is how long, FAULT_SEED what is drawn.

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

my $seconds = $ENV{FAULT_SECONDS} // 600;

# By what their titles have.  The fetching of keys takes a while, so that the
# worker that does it can be met.
my %victims = (
	'backend' => qr/^postgres: .*\[local\]/,
	'usage worker' => qr/overten_auth usage worker/,
	'key worker' => qr/overten_auth key worker/,
	'launcher' => qr/overten_auth launcher/,
	'checkpointer' => qr/checkpointer/,
	'walwriter' => qr/walwriter/,
	'background writer' => qr/background writer/,
	'postmaster' => undef);
my @victims = sort keys %victims;

seed();
my $node = create_node('kills', surface_settings('postgres') . <<'EOC');
restart_after_crash = on
synchronous_commit = off
wal_writer_delay = 10s
max_wal_size = 512MB
overten_auth.flush_interval = 2
overten_auth.max_tracked_keys = 200000
EOC
my ($command) = ask($node, 'SHOW overten_auth.signing_keys_command');
$node->append_conf('postgresql.conf', "overten_auth.signing_keys_command = 'sleep 0.3; $command'");
$node->reload;

my $load = start_load($node);
my (%kills, %sum);
my ($most_lost, $longest, $orphans) = (0, 0, 0);

# Kill one, and wait until the server is able to come back.
sub kill_victim
{
	my ($victim) = @_;
	my @found;

	if ($victim eq 'postmaster')
	{
		my @pids = processes($node, qr/./);

		push @pids, postmaster($node);
		$node->kill9;
		instruct($load, 'await');
		crash_ended(@pids);
		$node->start;
		return;
	}
	my $log = -s $node->logfile;
	my $crashed = sub { slurp_file($node->logfile, $log) =~ /was terminated by signal 9/ };

	# What works for a moment only may have ended before it could be killed.
	until ($crashed->())
	{
		wait_until("there is a $victim",
			sub { @found = processes($node, $victims{$victim}); @found > 0 });
		kill 'KILL', $found[ rand @found ];
		my $deadline = time + 2;
		usleep(20_000) until $crashed->() || time > $deadline;
	}
	instruct($load, 'await');
	return;
}

my $end = time + $seconds;
my $round = 0;
while (time < $end || $round < @victims)
{
	# Each once, then as it comes.
	my $victim = $round < @victims ? $victims[$round] : $victims[ rand @victims ];

	$round++;
	instruct($load, 'start');
	usleep(1_000_000 * (0.5 + rand 4));
	my $begin = time;
	kill_victim($victim);
	my $checked = check_load($load, "$round, $victim killed");
	my $took = time - $begin;
	$kills{$victim}++;
	$sum{$_} += $checked->{$_} foreach 'accepted', 'counted', 'lost', 'in_between';
	$sum{control_lost} = $checked->{control_lost};
	$most_lost = $checked->{lost} if $checked->{lost} > $most_lost;
	$longest = $took if $took > $longest;
	diag(sprintf 'kill %d of %s, %d s left: %d keys, lost %d of %d uses, up and checked in %.1f s',
		$round, $victim, $end - time, $checked->{keys}, $checked->{lost}, $checked->{accepted}, $took);
}

# Once more in peace: then nothing is lost at all.
instruct($load, 'start');
usleep(2_000_000);
instruct($load, 'stop');
my $last = check_load($load, 'without a crash');
is($last->{lost}, 0, 'then every use is in the history');
is($last->{counted}, $last->{accepted}, 'once');

my $counts = instruct($load, 'counts');
my $errors = join ', ', map { "$_ ($counts->{$_})" } grep { /:/ } sort keys %$counts;
cmp_ok($kills{$_} // 0, '>', 0, "a $_ was killed") foreach @victims;
cmp_ok($sum{lost}, '>', 0, 'a crash loses uses that were not flushed: the count can tell');
cmp_ok($sum{control_lost}, '>', 0, 'and changes that nothing protects: the crashes were real');
cmp_ok($counts->{$_}, '>', 100, "$_ while that went on") foreach 'mints', 'revocations', 'verifications';
unlike(slurp_file($node->logfile), qr/TRAP|terminated by signal (?!9)|PANIC/, 'nothing else has crashed');
is(ask($node, q{SELECT count(*) FROM overten_auth.api_keys k FULL JOIN
	(SELECT key_id, count(*) FILTER (WHERE action = 'mint_key') AS minted, count(*) FILTER (WHERE action = 'revoke_key') AS revoked
	 FROM overten_auth.audit_log WHERE key_id IS NOT NULL GROUP BY 1) a USING (key_id)
	WHERE minted IS DISTINCT FROM 1 OR revoked IS DISTINCT FROM (revoked_at IS NOT NULL)::int}),
	0, 'the audit log has each minting and each revocation once');

report("kill -9 at random, $seconds s, seed " . seed(),
	[ 'what', 'number' ],
	[ 'kills, each with a recovery', $round ],
	map({ [ "of these: $_", $kills{$_} ] } @victims),
	[ 'keys minted, acknowledged', $counts->{mints} ],
	[ 'keys revoked, acknowledged', $counts->{revocations} ],
	[ 'changes without an answer; of these found done', ($counts->{unanswered_mints} + $counts->{unanswered_revocations}) . "; $sum{in_between}" ],
	[ 'acknowledged changes lost, revoked keys accepted', $last->{wrong} ],
	[ 'verifications answered, of these refused (revoked)', "$counts->{verifications}, $counts->{refused}" ],
	[ 'flushes that were asked for, fetches of signing keys', "$counts->{flushes}, $counts->{fetches}" ],
	[ 'uses accepted before a crash, by clients and by the checks', $sum{accepted} ],
	[ 'of these in the history', $sum{counted} ],
	[ 'lost, all since the last flush', $sum{lost} ],
	[ 'the most in one crash', $most_lost ],
	[ 'unprotected inserts, acknowledged and lost', "$counts->{control}, $sum{control_lost}" ],
	[ 'from the kill to the end of the check, the longest', sprintf('%.1f s', $longest) ],
	[ 'errors that clients met', $errors || 'none' ]);

$node->stop;
done_testing();
