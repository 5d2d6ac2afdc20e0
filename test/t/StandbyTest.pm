package StandbyTest;

# Shared by the tests of standbys that verify and send uses: a primary, standbys with
# a bound, their processes, and what they answer.

use strict;
use warnings FATAL => 'all';

use Exporter 'import';
use FindBin;
use OvertenTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time usleep);

our @EXPORT = qw(create_primary create_receiver create_standby flush_message set_conf conninfo problem is_within
  wait_within wait_beyond answer answer_within answers are_within stays stays_within processes worker_pid pause_replay resume_replay wait_replayed);

# A server to have standbys.  It has the bound, too, which does nothing there.
sub create_primary
{
	my ($name, $bound, $settings, %init) = @_;

	return create_node($name, <<"EOC", allows_streaming => 1, %init);
shared_preload_libraries = 'overten_auth'
overten_auth.databases = 'postgres'
overten_auth.verify_on_standby = on
overten_auth.max_standby_lag = $bound
wal_retrieve_retry_interval = 200
max_wal_senders = 20
hot_standby_feedback = on
restart_after_crash = on
wal_keep_size = 512MB
${\($settings // '')}
EOC
}

# A primary that takes the uses of standbys, by a role of their own.  The module
# test/modules/lost_answers.c makes it lose answers.
sub create_receiver
{
	my ($settings) = @_;
	my $module = "$FindBin::RealBin/../modules/lost_answers.so";

	die 'make test/modules/lost_answers.so' unless -e $module;
	my $primary = create_primary('primary', 0, <<"EOC");
shared_preload_libraries = 'overten_auth, $module'
overten_auth.flush_interval = 1h
max_worker_processes = 20
${\($settings // '')}
EOC
	ask($primary, <<'EOQ');
CREATE ROLE overten_uses LOGIN;
GRANT USAGE ON SCHEMA overten_auth TO overten_uses;
GRANT EXECUTE ON PROCEDURE overten_auth.add_uses TO overten_uses;
EOQ
	return $primary;
}

# Ask a server for a flush; its message if it fails.
sub flush_message
{
	my ($node) = @_;
	my ($result, $stdout, $stderr) = $node->psql('postgres', 'SELECT overten_flush_usage()');

	return $result == 0 ? '' : $stderr;
}

sub create_standby
{
	my ($primary, $backup, $name, $settings) = @_;
	my $standby = PostgreSQL::Test::Cluster->new($name);
	my $key = $standby->data_dir . '/overten_auth.key';

	$standby->init_from_backup($primary, $backup, has_streaming => 1);
	if (-e $key)
	{
		chmod 0600, $key or die "chmod: $!";
	}
	$standby->append_conf('postgresql.conf', $settings // '');
	$standby->start;
	return $standby;
}

# Change settings, and wait until they are in effect.
sub set_conf
{
	my ($node, %settings) = @_;

	foreach my $name (sort keys %settings)
	{
		$node->append_conf('postgresql.conf', "$name = '$settings{$name}'");
	}
	$node->reload;
	foreach my $name (sort keys %settings)
	{
		$node->poll_query_until('postgres', "SELECT setting = '$settings{$name}' FROM pg_settings WHERE name = '$name'")
		  or die "$name was not reloaded";
	}
	return;
}

sub conninfo
{
	my ($host, $port) = @_;

	return "host=$host port=$port application_name=receiver";
}

sub problem
{
	my ($node) = @_;

	return ask($node, 'SELECT standby_problem FROM overten_status()');
}

sub is_within
{
	my ($node) = @_;

	return ask($node, 'SELECT coalesce(standby_age <= standby_bound, false) FROM overten_stat') eq 't';
}

sub wait_within
{
	my ($node) = @_;

	wait_until('the standby is within its bound', sub { is_within($node) });
	return;
}

sub wait_beyond
{
	my ($node, $problem) = @_;

	wait_until("the standby is beyond its bound: $problem",
		sub { problem($node) =~ $problem });
	return;
}

# What a session answers about a secret: the key, '' or the SQLSTATE.
sub answer
{
	my ($node, $secret) = @_;
	my $sql = "SELECT key_id FROM overten_verify_key('$secret')";
	my ($result, $stdout, $stderr) =
	  $node->psql('postgres', "\\set VERBOSITY sqlstate\n$sql");

	return $result == 0 ? $stdout : $stderr =~ /ERROR:  (\w{5})/ ? $1 : $stderr;
}

# The same once the standby is within its bound, which a machine that is busy
# can delay.
sub answer_within
{
	my ($node, $secret) = @_;
	my $answer;

	wait_until('the standby verifies', sub { ($answer = answer($node, $secret)) ne '55000' });
	return $answer;
}

# How often each answer is given in so many seconds.
sub answers
{
	my ($node, $secret, $seconds) = @_;
	my $end = time + $seconds;
	my %answers;

	do { $answers{ answer($node, $secret) }++ } while time < $end;
	return \%answers;
}

# Of these answers all are that the key is accepted.  On a busy machine the
# standby may be beyond its bound at times.
sub are_within
{
	my ($answers, $key, $name) = @_;
	my %answers = ($key => 0, '55000' => 0, %$answers);

	local $Test::Builder::Level = $Test::Builder::Level + 1;
	is(join(' ', sort keys %answers), join(' ', sort $key, '55000'), $name);
	cmp_ok($answers{55000}, '<=', 0.2 * $answers{$key}, "$name, not now and then");
	return;
}

# The same for so many seconds.
sub stays_within
{
	my ($node, $secret, $key, $seconds, $name) = @_;

	local $Test::Builder::Level = $Test::Builder::Level + 1;
	are_within(answers($node, $secret, $seconds), $key, $name);
	return;
}

# For so many seconds, every answer is the same.
sub stays
{
	my ($node, $secret, $expected, $seconds, $name) = @_;

	local $Test::Builder::Level = $Test::Builder::Level + 1;
	is(join(' ', sort keys %{ answers($node, $secret, $seconds) }), $expected, $name);
	return;
}

# The server's processes in whose titles a text is.
sub processes
{
	my ($node, $title) = @_;
	my $postmaster = postmaster($node);
	my @found;

	foreach my $pid (split ' ', slurp_file("/proc/$postmaster/task/$postmaster/children"))
	{
		my $cmdline = eval { slurp_file("/proc/$pid/cmdline") } // '';

		push @found, $pid if $cmdline =~ $title;
	}
	return @found;
}

sub worker_pid
{
	my ($node) = @_;
	my $pid;

	wait_until('the worker runs',
		sub { ($pid) = processes($node, qr/overten_auth standby worker/) });
	return $pid;
}

# Wait until a standby has replayed all that a primary has written.
sub wait_replayed
{
	my ($primary, $standby) = @_;
	my $written = ask($primary, 'SELECT pg_current_wal_insert_lsn()');

	# Write some more, because a position may be in the header of a page.
	ask($primary, 'SELECT txid_current()');
	$standby->poll_query_until('postgres', "SELECT pg_last_wal_replay_lsn() >= '$written'")
	  or die 'the standby does not catch up';
	return;
}

sub pause_replay
{
	my ($node) = @_;

	ask($node, 'SELECT pg_wal_replay_pause()');
	$node->poll_query_until('postgres', 'SELECT pg_get_wal_replay_pause_state()', 'paused')
	  or die 'replay did not pause';
	return;
}

sub resume_replay
{
	my ($node) = @_;

	return ask($node, 'SELECT pg_wal_replay_resume()');
}

1;
