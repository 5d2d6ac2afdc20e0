
# The program that loads a server and keeps a journal of its answers outside of it
# (load.c), for tests of faults and of the cluster.

package LoadProgram;

use strict;
use warnings FATAL => 'all';

use Cwd qw(abs_path);
use Exporter 'import';
use File::Basename qw(dirname);
use IPC::Open2;

our @EXPORT = qw(LOAD_TABLES open_load instruct);

my $program = dirname(abs_path(__FILE__)) . '/load';

# What the program needs in the database.
use constant LOAD_TABLES => <<'EOQ';
CREATE TABLE load_org AS SELECT org_id FROM overten_create_org('Loaded');
CREATE TABLE load_control (n bigint);
EOQ

# What it finds wrong goes to stderr, or into a file.
sub open_load
{
	my ($seed, $log) = @_;
	my %load;

	$load{pid} = open2($load{out}, $load{in}, defined $log ?
		  ('sh', '-c', 'exec "$0" "$1" 2>>"$2"', $program, $seed, $log) : ($program, $seed));
	return \%load;
}

# Give the program a command; its answer as a hash.
sub instruct
{
	my ($load, $command) = @_;
	my $answer;

	local $SIG{ALRM} = sub { die "no answer to \"$command\"" };
	alarm 300;
	print { $load->{in} } "$command\n";
	$load->{in}->flush;
	$answer = readline $load->{out};
	alarm 0;
	die "\"$command\" failed" unless defined $answer && $answer =~ s/^ok\s*//;
	return { map { /^(.+)=(.+)$/ } split ' ', $answer };
}

1;
