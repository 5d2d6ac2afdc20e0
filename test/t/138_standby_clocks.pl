
# overten_auth.max_standby_lag holds while one of two clocks advances as time
# does: CLOCK_REALTIME, which can be set, and CLOCK_BOOTTIME, which stands still
# while a virtual machine is paused.  clock_shift.c moves them, for the server's
# processes alone.  pg_regress has one server only, and cannot move a clock.

use strict;
use warnings FATAL => 'all';

use FindBin;
use lib $FindBin::RealBin;
use OvertenTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use StandbyTest;
use Test::More;
use Time::HiRes qw(usleep);

my $bound = 1000;
my $hour = 3600;
my $file = PostgreSQL::Test::Utils::tempdir . '/clock';
my $shift = "$FindBin::RealBin/../modules/clock_shift.so";

die "make $shift" unless -e $shift;

# By how many seconds CLOCK_REALTIME and CLOCK_BOOTTIME are ahead.
sub set_clocks
{
	my ($wall, $boot) = @_;

	open my $clock, '>>', $file or die "clock: $!";
	close $clock;
	open $clock, '+<:raw', $file or die "clock: $!";
	syswrite $clock, pack 'qq', 1_000_000 * $wall, 1_000_000 * $boot;
	close $clock;
	return;
}

set_clocks(0, 0);
my $primary = create_primary('primary', $bound);
my $org = create_org($primary, 'Timed');
my ($secret, $key) = mint($primary, $org);
$primary->backup('base');
my $standby;
{
	local $ENV{LD_PRELOAD} = $shift;
	local $ENV{CLOCK_SHIFT} = $file;

	$standby = create_standby($primary, 'base', 'standby');
}
wait_within($standby);

# Clocks that jump, while all is well
foreach my $clocks ([ $hour, 0 ], [ -$hour, 0 ], [ 0, $hour ], [ 0, -$hour ], [ $hour, -$hour ], [ 0, 0 ])
{
	set_clocks(@$clocks);
	wait_within($standby);
	stays_within($standby, $secret, $key, $bound / 1000, "with clocks ahead by @$clocks seconds it verifies");
}
is(ask($standby, 'SELECT abs(extract(epoch FROM clock_timestamp()) - ' . time . ') < 60'), 't', 'the clock is right again');

# Revoke a key while replay is paused; then let the clocks jump.
foreach my $case (
	[ [ -$hour, 0 ], '55000', 'CLOCK_REALTIME is set back' ],
	[ [ 0, -$hour ], '55000', 'CLOCK_BOOTTIME has stood still' ],
	[ [ $hour, 0 ], '55000', 'CLOCK_REALTIME is set forward' ],
	[ [ 0, $hour ], '55000', 'CLOCK_BOOTTIME jumps' ])
{
	my ($clocks, $expected, $name) = @$case;
	my ($revoked, $revoked_key) = mint($primary, $org);

	wait_replayed($primary, $standby);
	wait_within($standby);
	is(answer_within($standby, $revoked), $revoked_key, "$name: a key is accepted");
	pause_replay($standby);
	ask($primary, "SELECT overten_revoke_key('$org', '$revoked_key')");
	usleep(1000 * $bound / 2);
	set_clocks(@$clocks);
	usleep(1000 * $bound / 2);
	stays($standby, $revoked, $expected, $bound / 1000, "$name: not after the bound, once it is revoked");
	resume_replay($standby);
	wait_within($standby);
	is(answer_within($standby, $revoked), '', "$name: and refused when that is replayed");


	# What was published while the clocks were ahead must not stay.
	set_clocks(0, 0);
	usleep(1000 * $bound);
}

# Clocks that jump to and fro, hundreds of times, each as the other goes
my ($revoked, $revoked_key) = mint($primary, $org);
wait_replayed($primary, $standby);
wait_within($standby);
pause_replay($standby);
ask($primary, "SELECT overten_revoke_key('$org', '$revoked_key')");
usleep(1000 * $bound);
my %answers;
my $session = $standby->background_psql('postgres');
foreach my $n (1 .. 300)
{
	set_clocks($n % 2 ? ($hour, 0) : (-$hour, 0));
	$answers{ is_within($standby) ? 'within' : 'beyond' }++ if $n % 10 == 0;
	usleep(1000);
}
$session->quit;
is(join(' ', keys %answers), 'beyond', 'a clock that jumps to and fro brings nothing within the bound');
$standby->stop;
$primary->stop;
done_testing();
