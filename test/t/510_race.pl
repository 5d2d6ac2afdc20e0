# Sessions verify keys while others revoke them, at random, on a server and on its
# streaming standby.  We test the cache that all sessions share, and the caches
# of single sessions.
#
# The library as it is must never give an impossible answer.  Then we plant
# mistakes, one at a time, and the race must find each of them wherever it can be
# seen.  The mistakes are the patches in test/mutations.  Those in
# test/mutations/preloaded concern the shared cache.  132_shared_cache.pl and
# 134_shared_cache_faults.pl are for those in test/mutations/shared.
#
# pg_regress has only one session, and in an isolation spec somebody must have
# thought of each order of steps.  Here the order is random.

use strict;
use warnings;

use Cwd qw(getcwd);
use File::Basename qw(basename);
use IPC::Run;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

# What the library has to stand.  A busy machine may not get to the end of it.
my @long = ('--trials', 3000, '--seconds', 15, '--seed', 30);
my @long_on_both = ('--trials', 3000, '--seconds', 12, '--seed', 31);

# A mutant is given these, with a seed each time, to be found out.
my @short = ('--trials', 2000, '--seconds', 15);
my @seeds = (1 .. 24);

# Where a mistake is looked for: on the primary, or on the standby alone, with
# commits that wait for it or do not.
my %modes = (
	primary => [],
	synchronous => [ '--verifiers', 0, '--remote-apply', 'always' ],
	asynchronous => [ '--verifiers', 0, '--remote-apply', 'never' ],);

# The answer that gives it away.  An entry that is out of date accepts a key, or refuses
# one whose restriction has ended.
my %answer = (
	'active-snapshot' => { primary => qr/was (accepted|refused)/ },
	'active-snapshot-on-standby' => {
		synchronous => qr/was (accepted|refused)/,
		asynchronous => qr/was (accepted|refused)/
	},
	'no-accept' => {
		primary => qr/was (accepted|refused)/,
		synchronous => qr/was (accepted|refused)/,
		asynchronous => qr/was (accepted|refused)/
	},
	'no-check-at-store' =>
	  { primary => qr/was (accepted|refused)/, asynchronous => qr/was (accepted|refused)/ },
	'own-row-cached' => { primary => qr/was accepted\b.* after ROLLBACK/ },
	'snapshot-self' => { primary => qr/was refused/ },
	't-after-snapshot' => { primary => qr/was (accepted|refused)/ },
	't-at-store' => { primary => qr/was (accepted|refused)/ },);

my $node = PostgreSQL::Test::Cluster->new('race');
$node->init(allows_streaming => 1);
$node->append_conf('postgresql.conf',
	slurp_file('test/race/postgresql.conf'));
$node->start;
create_database('real');

# The standby needs the master key file, which the first org makes.  The
# harness does not copy its mode.
$node->safe_psql('real', "SELECT overten_create_org('first')");
$node->backup('base');
my $standby = PostgreSQL::Test::Cluster->new('race_standby');
$standby->init_from_backup($node, 'base', has_streaming => 1);
chmod 0600, $standby->data_dir . '/overten_auth.key' or die "chmod: $!";
$standby->start;

# The options for the standby, which then has the database as it is.  A run that
# was ended may have left replay paused.
sub with_standby
{
	my ($name) = @_;

	$standby->safe_psql('postgres', 'SELECT pg_wal_replay_resume()');
	$node->wait_for_catchup($standby);
	return ('--standby', $standby->connstr($name));
}

# A database with the extension.
sub create_database
{
	my ($name) = @_;

	$node->safe_psql('postgres', qq{CREATE DATABASE "$name"});
	$node->safe_psql($name, 'CREATE EXTENSION overten_auth CASCADE');
}

# Run race on a database, and return its wait status, which is not 0 after a
# signal either, and what it printed.
sub race
{
	my ($name, @options) = @_;
	my ($output, $progress) = ('', '');

	IPC::Run::run(
		[ 'test/race/race', @options, $node->connstr($name) ],
		'>', \$output, '2>', \$progress);
	my $status = $?;
	diag($progress) if $status != 0 && $status != 1 << 8;
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
	utime($now - 20, $now - 20, glob("$tree/src/*.[ch] $tree/src/*/*.[ch]"));
	utime($now - 10, $now - 10, glob("$tree/src/*.o $tree/src/*/*.o"));
	succeeds([ 'patch', '-d', $tree, '-p1', '-i', $patch ],
		"$name: the patch fits")
	  or return;
	succeeds([ 'make', '-C', $tree, 'with_llvm=no', 'all' ], "$name: it builds")
	  or return;
	return "$tree/overten_auth.so";
}

# A mutant is given one seed after the other, until it is found out.
sub find_mistake
{
	my ($name, $mode) = @_;
	my $place = $mode eq 'primary' ? 'primary' : 'standby';
	my @options = ($place eq 'standby' ? with_standby($name) : (),
		@{ $modes{$mode} }, @short);
	my ($status, $output);

	for my $seed (@seeds)
	{
		($status, $output) = race($name, @options, '--seed', $seed);
		last if $status != 0;
	}
	is($status, 1 << 8, "$name, $mode: an impossible answer is found");
	like(
		$output,
		qr/^impossible answer in trial .* on the $place, .*$answer{$name}{$mode}/,
		"$name, $mode: it is of the kind that was expected");
	note($output);

	# What it has left prepared would take the room of the next.
	$node->safe_psql(
		$name, q{
		SELECT pg_catalog.format('ROLLBACK PREPARED %L', gid)
		FROM pg_catalog.pg_prepared_xacts
		WHERE database = pg_catalog.current_database() \gexec});
}

# Preload this, or nothing.
sub preload
{
	my ($library) = @_;

	for my $server ($node, $standby)
	{
		$server->append_conf('postgresql.conf',
			"shared_preload_libraries = '$library'");
		$server->restart;
	}
}

for my $library ('overten_auth', '')
{
	preload($library);
	for my $options ([@long], [ with_standby('real'), @long_on_both ])
	{
		my ($status, $output) = race('real', @$options);

		is($status, 0, "no impossible answer, preloaded: '$library'")
		  or diag($output);
		like($output, qr/^no impossible answer: seed/, 'it says what it did');
		note($output);
	}
}

my @patches = map { glob(getcwd() . "/test/mutations/$_") }
  ('*.patch', 'preloaded/*.patch');
is_deeply(
	[ sort map { basename($_, '.patch') } @patches ],
	[ sort keys %answer ],
	'every mutation is expected');

for my $patch (@patches)
{
	my $name = basename($patch, '.patch');
	my $library = build_mutant($patch, $name);

	next unless defined $library;

	# Only this database's functions lead to the mutant.  A server that has
	# preloaded one file cannot load another.
	preload('') if $patch =~ m{/preloaded/};
	create_database($name);
	$node->safe_psql(
		$name, qq{
		UPDATE pg_proc SET probin = '$library'
		WHERE probin = '\$libdir/overten_auth'});
	preload($library) if $patch =~ m{/preloaded/};
	find_mistake($name, $_) foreach sort keys %{ $answer{$name} };
}

$standby->stop;
$node->stop;
done_testing();
