
# "make serve" starts a server and a gateway, and leaves nothing behind when make gets
# SIGTERM.  pg_regress knows nothing of make.

use strict;
use warnings FATAL => 'all';

use File::Copy qw(copy);
use FindBin;
use lib $FindBin::RealBin;
use GatewayTest;
use OvertenTest;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(usleep);

# This tree is a copy of one in which everything has been built.  So that make sees
# that, what it makes is newer here than what it is made from.
my $top = "$FindBin::RealBin/../..";
my $built = time + 60;
chomp(my $libraries = `$ENV{PG_CONFIG} --pkglibdir`);
copy("$libraries/overten_auth.so", $top) or die "no library: $!";
utime $built, $built, glob("$top/src/*.o $top/src/*/*.o"), "$top/gateway/node_modules/.package-lock.json",
	"$top/gateway/dashboard/node_modules/.package-lock.json";
utime $built + 60, $built + 60, "$top/overten_auth.so", "$top/gateway/dashboard/built/index.html";
my $folder = PostgreSQL::Test::Utils::tempdir_short;

sub start_make
{
	my ($name) = @_;

	return start_process($name, { TMPDIR => $folder, MAKEFLAGS => '', SCRATCH => '' },
		'make', '--no-print-directory', '-C', $top, 'run-serve');
}

# The processes that were told of that folder.
sub processes
{
	my @found;

	foreach my $file (glob '/proc/[0-9]*/environ')
	{
		local $/;
		open(my $handle, '<', $file) or next;    # it has ended meanwhile
		push @found, $file =~ /(\d+)/ if index(<$handle> // '', $folder) >= 0;
	}
	return @found;
}

sub is_gone
{
	my ($make, $when) = @_;

	stop_process($make);
	# A postmaster still exists for a moment after it has said that it is down.
	my $tries = 100;
	usleep(50_000) while processes() && --$tries;
	is(scalar(my @left = processes()), 0, "SIGTERM to make $when: no process is left");
	is_deeply([ glob "$folder/*" ], [], "SIGTERM to make $when: no file is left");
	kill KILL => @left;
}

my $make = start_make('serve');
wait_until('the API is running', sub { slurp_file($make->{out}) =~ m{^export API=(\S+)/api/v1$}m && ($make->{url} = $1) });
is(summary(request($make->{url}, 'GET', '/api/v1/verify')), '401 missing_credentials', 'the API answers');
my ($token) = slurp_file($make->{out}) =~ /^export FIREBASE_TOKEN=(\S+)$/m;
is(summary(request($make->{url}, 'GET', '/api/v1/organizations', ["Authorization: Bearer $token"])), '200', 'with the token that is printed');
like(slurp_file($make->{out}), qr{^The dashboard: $make->{url}/dashboard/\nSign in as \S+ with the password \S+,}m, 'there is a dashboard, and who can sign in');
is(summary(request($make->{url}, 'GET', '/dashboard/')), '200', 'and it is served');
cmp_ok(scalar processes(), '>', 3, 'with a server and a gateway');
is_gone($make, 'while it runs');

$make = start_make('serve_early');
wait_until('the server starts', sub { glob "$folder/*/data/postmaster.pid" });
is_gone($make, 'while it starts');

done_testing();
