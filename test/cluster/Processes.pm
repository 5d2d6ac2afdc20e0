
# Programs that a test starts and ends, each in a process group of its own, so that
# Ctrl-C reaches the test alone; free ports on several addresses of this machine.

package Processes;

use strict;
use warnings FATAL => 'all';

use Exporter 'import';
use IO::Socket::INET;
use POSIX qw(:sys_wait_h _exit);
use Time::HiRes qw(time usleep);

our @EXPORT = qw(slurp_file spit_file free_ports start_program is_running end_program family
  signal_all output_of wait_for);

my %started;    # pid => name of what this process has started

sub slurp_file
{
	my ($file) = @_;

	local $/ = undef;
	open my $handle, '<', $file or die "$file: $!\n";
	my $text = <$handle>;
	close $handle;
	return $text // '';
}

sub spit_file
{
	my ($file, $text, $mode) = @_;

	open my $handle, '>', $file or die "$file: $!\n";
	chmod $mode, $file or die "$file: $!\n" if defined $mode;
	print {$handle} $text;
	close $handle or die "$file: $!\n";
	return;
}

# Ports that nobody listens on, at any of these addresses.  They are below those that
# Linux gives to outgoing connections.
sub free_ports
{
	my ($count, @addresses) = @_;
	my %found;

	while (keys %found < $count)
	{
		my $port = 10_000 + int rand 22_000;
		my @sockets = grep { defined } map {
			IO::Socket::INET->new(LocalAddr => $_, LocalPort => $port, Listen => 1, ReuseAddr => 1)
		} @addresses;

		$found{$port} = 1 if @sockets == @addresses;
	}
	return keys %found;
}

# Start a program with what it prints in a file.  %how: env, in and out (file handles
# in place of /dev/null and of the file).  Linux ends it if this process is killed.
sub start_program
{
	my ($name, $log, $command, %how) = @_;

	spit_file($log, '') unless -e $log;
	my $pid = fork // die "fork: $!\n";
	if ($pid == 0)
	{
		setpgrp 0, 0;
		local $SIG{INT} = local $SIG{TERM} = 'DEFAULT';
		local @ENV{ keys %{ $how{env} // {} } } = values %{ $how{env} // {} };
		open STDERR, '>>', $log or _exit(126);
		open STDIN, '<&', $how{in} // do { open my $null, '<', '/dev/null'; $null } or _exit(126);
		open STDOUT, '>&', $how{out} // \*STDERR or _exit(126);
		exec 'setpriv', '--pdeathsig', 'TERM', @$command or _exit(127);
	}
	$started{$pid} = $name;
	return $pid;
}

sub is_running
{
	my ($pid) = @_;

	delete $started{$pid} if exists $started{$pid} && waitpid($pid, WNOHANG) != 0;
	return kill(0, $pid) && slurp_state($pid) ne 'Z';
}

# The state of a process, as ps shows it.
sub slurp_state
{
	my ($pid) = @_;
	my $stat = eval { slurp_file("/proc/$pid/stat") } // '';

	return $stat =~ /^\d+ \(.*\) (\S)/s ? $1 : 'Z';
}

# End a process that this one has started.
sub end_program
{
	my ($pid, $seconds) = @_;

	return unless defined $pid && is_running($pid);
	kill 'CONT', $pid;
	kill 'TERM', $pid;
	my $limit = time + ($seconds // 10);
	usleep(20_000) while is_running($pid) && time < $limit;
	kill 'KILL', $pid if is_running($pid);
	usleep(5_000) while is_running($pid);
	return;
}

# A process and all its descendants.
sub family
{
	my (@pids) = @_;
	my %children;

	foreach my $file (glob '/proc/[0-9]*/stat')
	{
		my $stat = eval { slurp_file($file) } // '';

		push @{ $children{$2} }, $1 if $stat =~ /^(\d+) \(.*\) \S (\d+) /s;
	}
	for (my $i = 0; $i < @pids; $i++)
	{
		push @pids, @{ $children{ $pids[$i] } // [] };
	}
	return @pids;
}

sub signal_all
{
	my ($signal, @pids) = @_;

	kill $signal, @pids if @pids;
	return;
}

# What a command prints, and its exit status; its errors go to a file.
sub output_of
{
	my ($log, @command) = @_;
	my $pid = open(my $from, '-|') // die "fork: $!\n";

	if ($pid == 0)
	{
		local $SIG{INT} = local $SIG{TERM} = 'DEFAULT';
		open STDERR, '>>', $log or _exit(126);
		exec @command or _exit(127);
	}
	my $output = do { local $/ = undef; <$from> } // '';
	close $from;
	chomp $output;
	return ($output, $? >> 8);
}

# Wait until a condition holds, and return its value.
sub wait_for
{
	my ($what, $seconds, $condition) = @_;
	my $limit = time + $seconds;

	while (1)
	{
		my $value = $condition->();

		return $value if $value;
		die "waited in vain for $seconds seconds until $what\n" if time > $limit;
		usleep(100_000);
	}
}

1;
