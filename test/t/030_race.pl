# Verifications race against revocations, at random: with the library as it
# is, no impossible answer is given; with each of the mistakes planted that
# test/mutations has as patches, one is found.
#
# pg_regress has one session, and isolation specs only meetings that one can
# write down.  Here many sessions meet as they happen to.

use strict;
use warnings;

use Cwd qw(getcwd);
use File::Basename qw(basename);
use IPC::Run;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

# What the library has to stand.  A busy machine may not get to the end of it.
my @long = ('--trials', 3000, '--seconds', 40);

# A mutant is given these, with a seed each time, to be found out.
my @short = ('--trials', 2000, '--seconds', 15);
my @seeds = (1 .. 8);

my %answer = (
	'active-snapshot' => qr/was (accepted|refused)/,
	'no-accept' => qr/was accepted/,
	'no-generation-check' => qr/was accepted/,
	'own-row-cached' => qr/was accepted\b.* after ROLLBACK/,
	'snapshot-self' => qr/was refused/,);

my $node = PostgreSQL::Test::Cluster->new('race');
$node->init;
$node->append_conf('postgresql.conf', slurp_file('test/postgresql.conf'));
$node->start;

# A database with the extension.
sub create_database
{
	my ($name) = @_;

	$node->safe_psql('postgres', qq{CREATE DATABASE "$name"});
	$node->safe_psql($name, 'CREATE EXTENSION overten_auth CASCADE');
}

# Run race on a database, and return its exit status and what it printed.
sub race
{
	my ($name, @options) = @_;
	my ($output, $progress) = ('', '');

	IPC::Run::run(
		[ 'test/race/race', @options, $node->connstr($name) ],
		'>', \$output, '2>', \$progress);
	my $status = $? >> 8;
	diag($progress) if $status > 1;
	return ($status, $output);
}

# Run a command that must succeed, and show what it printed if it does not.
sub succeeds
{
	my ($command, $name) = @_;
	my $output = '';
	my $success = IPC::Run::run($command, '<', \undef, '>&', \$output);

	ok($success, $name) or diag($output);
	return $success;
}

# Build the library with a patch, in a copy of this tree.  What the patch
# leaves alone is not compiled again.  Returns the library's path, or undef.
sub build_mutant
{
	my ($patch, $name) = @_;
	my $tree = PostgreSQL::Test::Utils::tempdir($name);

	system_or_bail('cp', '-R', 'Makefile', glob('*.control'), 'src', 'sql',
		$tree);
	my $now = time;
	utime($now - 20, $now - 20, glob("$tree/src/*.[ch]"));
	utime($now - 10, $now - 10, glob("$tree/src/*.o"));
	succeeds([ 'patch', '-d', $tree, '-p1', '-i', $patch ],
		"$name: the patch fits")
	  or return;
	succeeds([ 'make', '-C', $tree, 'with_llvm=no', 'all' ], "$name: it builds")
	  or return;
	return "$tree/overten_auth.so";
}

create_database('real');
my ($status, $output) = race('real', @long);
is($status, 0, 'no impossible answer') or diag($output);
note($output);

my @patches = glob(getcwd() . '/test/mutations/*.patch');
is_deeply(
	[ map { basename($_, '.patch') } @patches ],
	[ sort keys %answer ],
	'every mutation is expected');

for my $patch (@patches)
{
	my $name = basename($patch, '.patch');
	my $library = build_mutant($patch, $name);
	my ($status, $output);

	next unless defined $library;

	# Only this database's functions lead to the mutant.
	create_database($name);
	$node->safe_psql(
		$name, qq{
		UPDATE pg_proc SET probin = '$library'
		WHERE probin = '\$libdir/overten_auth'});
	for my $seed (@seeds)
	{
		($status, $output) = race($name, @short, '--seed', $seed);
		last if $status != 0;
	}
	is($status, 1, "$name: an impossible answer is found");
	like($output, qr/^impossible answer in trial .*$answer{$name}/,
		"$name: it is of the kind that was expected");
	note($output);

	# What it has left prepared would take the room of the next.
	$node->safe_psql(
		$name, q{
		SELECT pg_catalog.format('ROLLBACK PREPARED %L', gid)
		FROM pg_catalog.pg_prepared_xacts
		WHERE database = pg_catalog.current_database() \gexec});
}

$node->stop;
done_testing();
