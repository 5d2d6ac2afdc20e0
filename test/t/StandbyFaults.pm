
# What goes wrong with a primary and its standbys: replay is paused, processes and
# servers are stopped, ended and killed, connections are cut; and a standby is promoted
# in place of a primary that is killed, and that brought back with pg_rewind.
#
# Standbys that are cut off, and failovers, take an address that moves: a link to the
# primary's socket.

package StandbyFaults;

use strict;
use warnings FATAL => 'all';

use Exporter 'import';
use OvertenTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use StandbyTest;
use Test::More;
use Time::HiRes qw(time usleep);

our @EXPORT = qw(address lead_to one_fault mend revive fail_over fault_counts);

my ($address, $port) = (PostgreSQL::Test::Utils::tempdir_short(), 6000);
my $link = "$address/.s.PGSQL.$port";
my (%stopped, %paused, %counts);
my $cut_until = 0;
my $led_to;

sub address
{
	return ($address, $port);
}

# Let the address lead to a server, or nowhere.
sub lead_to
{
	my ($node) = @_;

	unlink $link;
	return unless defined $node;
	symlink $node->host . '/.s.PGSQL.' . $node->port, $link or die "symlink: $!";
	$led_to = $node;
	return;
}

sub fault_counts
{
	return \%counts;
}

# A signal for one of a server's processes.  One that is stopped goes on later.
sub signal_one
{
	my ($signal, $node, $title) = @_;
	my @found = eval { processes($node, $title) };

	return unless @found;
	my $pid = $found[ rand @found ];
	return unless kill $signal, $pid;
	$stopped{$pid} = time + 0.1 + rand 1.5 if $signal eq 'STOP';
	$counts{"SIG$signal"}++;
	return;
}

# Stop a whole server for a while.
sub freeze
{
	my ($node) = @_;
	my $end = time + 0.5 + rand 1.5;

	foreach my $pid (postmaster($node), processes($node, qr/./))
	{
		$stopped{$pid} = $end if kill 'STOP', $pid;
	}
	$counts{'servers frozen'}++;
	return;
}

# A function of a server, which may not be able to answer.  Has it?  One that is frozen
# is not asked, because nothing is mended while we wait.
sub call
{
	my ($node, $sql) = @_;
	my $timed_out;

	return 0 if $stopped{ eval { postmaster($node) } // '' };
	my $result = $node->psql('postgres', $sql, timeout => 5, timed_out => \$timed_out);

	return !$timed_out && $result == 0;
}

sub pause
{
	my ($node) = @_;

	return if $paused{ $node->name };
	if (call($node, 'SELECT pg_wal_replay_pause()'))
	{
		$paused{ $node->name } = [ $node, time + rand 1.5 ];
		$counts{'replay paused'}++;
	}
	return;
}

# Cut the standbys off: what they have breaks, and there is nothing at the address.
sub cut_off
{
	my ($primary) = @_;

	return if $cut_until || !$led_to;
	$cut_until = time + rand 2;
	lead_to(undef);
	kill 'TERM', eval { processes($primary, qr/walsender/) };
	$counts{'connections cut'}++;
	return;
}

# One thing that goes wrong with a primary or a standby.
sub one_fault
{
	my ($primary, $standby) = @_;
	my @startup = ($standby, qr/startup/);
	my @receiver = ($standby, qr/walreceiver/);
	my @worker = ($standby, qr/overten_auth standby worker/);
	my @sender = ($primary, qr/walsender/);
	my @faults = (
		sub { pause($standby) },
		sub { cut_off($primary) },
		sub { freeze($standby) if rand() < 0.5 },
		(map { my $who = $_; sub { signal_one('STOP', @$who) } } \@startup, \@receiver, \@worker, \@sender),
		(map { my $who = $_; sub { signal_one('TERM', @$who) } } \@receiver, \@worker, \@sender),
		sub { signal_one('KILL', @{ (\@worker, \@receiver, \@startup)[ rand 3 ] }) if rand() < 0.3 });

	eval { $faults[ rand @faults ]->(); 1 } or note("a fault that came too late: $@");
	return;
}

# Mend what has lasted long enough, or all.
sub mend
{
	my ($all) = @_;

	foreach my $pid (keys %stopped)
	{
		next unless $all || time > $stopped{$pid};
		kill 'CONT', $pid;
		delete $stopped{$pid};
	}
	foreach my $name (keys %paused)
	{
		my ($node, $until) = @{ $paused{$name} };

		next unless $all || time > $until;
		# One that was promoted or killed meanwhile is not paused.
		delete $paused{$name} if !-e $node->data_dir . '/postmaster.pid'
		  || call($node, 'SELECT CASE WHEN pg_is_in_recovery() THEN pg_wal_replay_resume() END');
	}
	if ($cut_until && ($all || time > $cut_until))
	{
		$cut_until = 0;
		lead_to($led_to);
	}
	return;
}

# A server whose startup process is killed ends.
sub revive
{
	my ($node) = @_;

	return if -e $node->data_dir . '/postmaster.pid';
	$node->_update_pid(0);
	$node->start;
	return;
}

# Make a server that was killed a standby again.
sub rejoin
{
	my ($old, $new) = @_;
	my $conf = $old->data_dir . '/postgresql.conf';
	my $saved = slurp_file($conf);
	my $key = $old->data_dir . '/overten_auth.key';

	ask($new, 'CHECKPOINT');
	system_or_bail('pg_rewind', '--target-pgdata', $old->data_dir, '--source-server', $new->connstr('postgres'));
	unlink $conf or die "unlink: $!";
	append_to_file($conf, $saved);
	if (-e $key)
	{
		chmod 0600, $key or die "chmod: $!";
	}
	$old->set_standby_mode;
	$old->start;
	return;
}

# The primary is killed, for good; the standby that has received most takes its place;
# and the old primary comes back as a standby of it.  Returns the new primary, and how
# long there was none.
sub fail_over
{
	my ($old, @standbys) = @_;
	my $received = q{SELECT pg_last_wal_receive_lsn() - '0/0'};

	# What a standby has received is known only if it streams.
	mend(1);
	revive($_) foreach @standbys;
	wait_until('all standbys stream',
		sub { ask($old, q{SELECT count(*) FROM pg_stat_replication WHERE state = 'streaming'}) == @standbys });
	my $one = $standbys[ rand @standbys ];
	(sub { pause($one) }, sub { signal_one('STOP', $one, qr/walreceiver/) }, sub { signal_one('STOP', $one, qr/startup/) }, sub { })[ rand 4 ]->();
	usleep(1e6 * rand 0.4);
	my $begin = time;
	my @processes = eval { processes($old, qr/./) };
	$old->kill9;
	wait_until('the old primary is gone', sub { !grep { kill 0, $_ } @processes });
	mend(1);
	lead_to(undef);
	my %at = map { $_->name => ask($_, $received) } @standbys;
	my ($new) = sort { $at{ $b->name } <=> $at{ $a->name } } @standbys;
	$new->promote;
	lead_to($new);
	my $took = time - $begin;
	rejoin($old, $new);
	$counts{'failovers'}++;
	return ($new, $took);
}

1;
