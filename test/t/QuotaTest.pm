
# What the tests of quotas share: servers whose wall clock is set, by
# test/modules/clock_shift.c, and what a quota says and has written.

package QuotaTest;

use strict;
use warnings FATAL => 'all';

use Cwd qw(abs_path);
use Exporter 'import';
use FindBin;
use OvertenTest;
use PostgreSQL::Test::Utils;
use Time::HiRes ();
use Time::Local qw(timegm);

our @EXPORT = qw(set_time create_clocked again outcome left admitted quota drop_quota written);

my $modules = abs_path("$FindBin::RealBin/../modules");
my $dir;

# The harness does not know before.
INIT {
	$dir = PostgreSQL::Test::Utils::tempdir;
	append_to_file("$dir/clock", pack 'q', 0);
	chmod 0666, "$dir/clock" or die $!;
}

# Set the wall clock of the server: a time in UTC.
sub set_time
{
	my ($time) = @_;
	my ($year, $month, $day, $hour, $minute, $second) = split /[- :]/, $time;
	my $wanted = timegm($second, $minute, $hour, $day, $month - 1, $year);

	open my $file, '+<', "$dir/clock" or die $!;
	binmode $file;
	syswrite $file, pack 'q', ($wanted - Time::HiRes::time()) * 1_000_000;
	close $file;
	return;
}

# A server whose clock is set.
sub create_clocked
{
	my ($name, $settings, %init) = @_;

	local $ENV{LD_PRELOAD} = "$modules/clock_shift.so";
	local $ENV{CLOCK_SHIFT} = "$dir/clock";
	return create_node($name, <<"EOC", %init);
shared_preload_libraries = 'overten_auth, $modules/flush_pauses.so'
overten_auth.databases = 'postgres, second'
overten_auth.flush_interval = 1h
restart_after_crash = on
TimeZone = 'Pacific/Kiritimati'
$settings
EOC
}

# Start or stop a server again, with the same clock.
sub again
{
	my ($node, @how) = @_;
	my $method = shift @how;

	local $ENV{LD_PRELOAD} = "$modules/clock_shift.so";
	local $ENV{CLOCK_SHIFT} = "$dir/clock";
	return $node->$method(@how);
}

# The outcome of a request, and what is left.
sub outcome
{
	my ($where, $secret, $cost) = @_;

	return ask($where,
		"SELECT concat_ws(' ', outcome, limit_name, remaining) FROM overten_admission('$secret', ${\($cost // 1)})");
}

# The cost that is left.
sub left
{
	my ($where, $secret) = @_;

	return ask($where, "SELECT remaining FROM overten_admission('$secret', 0)");
}

# How many of so many requests in one statement are admitted.
sub admitted
{
	my ($where, $secret, $requests) = @_;

	return ask($where,
		"SELECT count(*) FROM generate_series(1, $requests) n, LATERAL overten_admit('$secret', 1 + n * 0)");
}

sub quota
{
	my ($where, $scope, $subject, $name, $quota, $period, $more) = @_;

	return ask($where,
		"SELECT overten_set_limit('$scope', '$subject', '$name', $quota, '$period'"
		  . (defined $more ? ", $more" : '') . ')');
}

sub drop_quota
{
	my ($where, $scope, $subject, $name) = @_;

	return ask($where, "SELECT overten_drop_limit('$scope', '$subject', '$name')");
}

# What the table has of an org: the periods and the units.
sub written
{
	my ($where, $org) = @_;

	return ask($where,
		"SELECT coalesce(string_agg(to_char(period_start AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI') || ' ' || units, ', ' ORDER BY period_start, units), '') FROM overten_auth.quota_usage WHERE org_id = '$org'");
}

1;
