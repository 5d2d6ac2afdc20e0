
# Shared by the tests of faults: a server under load, its processes, small disks,
# and the report.

package FaultTest;

use strict;
use warnings FATAL => 'all';

use Exporter 'import';
use FindBin;
use lib "$FindBin::RealBin/../t";
use LoadProgram;
use OvertenTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time);
use WholeSurface;

our @EXPORT = qw(seed report start_load instruct check_load
  processes crash_ended small_disk fill empty_disk create_node_on);

my $seed;

# The seed of all that is random here, told once.
sub seed
{
	if (!defined $seed)
	{
		$seed = $ENV{FAULT_SEED} || time % 1_000_000;
		$seed = int $seed;
		srand $seed;
		diag("seed $seed (FAULT_SEED)");
	}
	return $seed;
}

# Add a table to the report that is shown at the end.
sub report
{
	my ($title, $header, @rows) = @_;
	my @lines = map { '| ' . join(' | ', @$_) . " |\n" } $header, [ ('---') x @$header ], @rows;

	append_to_file($ENV{FAULT_REPORT} // "$ENV{TESTDIR}/report.md",
		join '', "\n### $title\n\n", @lines);
	return;
}


# The load

# Prepare a server, and start a program that will load it.
sub start_load
{
	my ($node) = @_;

	ask($node, LOAD_TABLES);
	my $load = open_load(seed());
	instruct($load, 'connect ' . $node->connstr('postgres'));
	return $load;
}

# Hold a server against the journal; a check of the calling test.
sub check_load
{
	my ($load, $name) = @_;
	my $checked = instruct($load, 'check');

	is($checked->{wrong}, 0,
		"$name: $checked->{keys} keys, $checked->{revoked} revoked, "
		  . "$checked->{counted} of $checked->{accepted} uses");
	return $checked;
}


# Processes

# The server's processes in whose titles a text is.
sub processes
{
	my ($node, $title) = @_;
	my $postmaster = postmaster($node);
	my @found;

	foreach my $dir (glob '/proc/[0-9]*')
	{
		# Processes end while this looks at them.
		my ($stat, $cmdline) =
		  map { eval { slurp_file("$dir/$_") } // '' } 'stat', 'cmdline';

		push @found, $dir =~ s/.*\///r
		  if $stat =~ /^\d+ \(.*\) [^Z] $postmaster / && $cmdline =~ $title;
	}
	return @found;
}

# Wait until processes are gone for good.
sub crash_ended
{
	my (@pids) = @_;

	wait_until('the processes end', sub { !grep { kill 0, $_ } @pids });
	return;
}


# Disks

# A folder on a disk of its own, which is small.
sub small_disk
{
	my ($name) = @_;
	my $disks = $ENV{FAULT_DISKS} // die 'FAULT_DISKS is not set: see test/faults/run';

	return "$disks/$name";
}

# Leave no byte on the disk of a folder.
sub fill
{
	my ($disk) = @_;

	open my $file, '>>', "$disk/filler" or die "filler: $!";
	binmode $file;
	foreach my $size (1 << 20, 1 << 12, 1)
	{
		1 while syswrite($file, "\0" x $size) // 0;
	}
	close $file;
	return;
}

sub empty_disk
{
	my ($disk) = @_;

	unlink "$disk/filler" or die "filler: $!";
	return;
}

# Start a node as create_node() does, whose data is in a folder of a disk.
sub create_node_on
{
	my ($disk, $name, $settings, %init) = @_;
	my $node = PostgreSQL::Test::Cluster->new($name);

	mkdir "$disk/$name", 0700 or die "$disk/$name: $!";
	symlink "$disk/$name", $node->data_dir or die 'symlink: ' . $node->data_dir . ": $!";
	$node->init(%init);
	$node->append_conf('postgresql.conf', "autovacuum = off\nlog_statement = none\n$settings");
	$node->start;
	ask($node, 'CREATE EXTENSION overten_auth CASCADE');
	return $node;
}

1;
