
# Uses that a standby has counted reach the history of the primary once: while
# answers are lost, while either server is away, when the standby stops, and when
# it is promoted with a batch on its way.  pg_regress has one server only.
#
# OVERTEN_LOST_ANSWERS is how many answers are lost.

use strict;
use warnings FATAL => 'all';

use FindBin;
use lib $FindBin::RealBin;
use OvertenTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use StandbyTest;
use Test::More;
use UsageTest;

my $lost_answers = $ENV{OVERTEN_LOST_ANSWERS} || 30;
my $primary = create_receiver();
ask($primary, REQUEST_FUNCTIONS . REPORT_FUNCTIONS);
my $org = create_org($primary, 'Followed');
my ($secret, $key) = mint($primary, $org);
my ($revoked, $revoked_key) = mint($primary, $org);
my ($limited, $limited_key) = mint($primary, $org);
ask($primary, "SELECT overten_revoke_key('$org', '$revoked_key')");
ask($primary, "SELECT overten_set_limit('key', '$limited_key', 'few', 2, '1 hour')");
$primary->backup('base');
my $standby = create_standby($primary, 'base', 'standby');
my $used = 0;
my $source = "SELECT last_batch FROM overten_auth.usage_batches ORDER BY written_at DESC LIMIT 1";

# Use the key on the standby.
sub use_there
{
	my ($times) = @_;

	ask($standby, "SELECT count(k.key_id) FROM generate_series(1, $times) n, overten_verify_key('$secret' || left('', n)) k");
	$used += $times;
	return;
}

sub flush_there { return flush_message($standby); }

sub file_of
{
	my ($name) = @_;

	return $primary->data_dir . "/$name";
}

sub is_lost
{
	my ($name) = @_;

	append_to_file(file_of($name), '');
	return flush_there();
}


# Before it is configured

# A value that is refused can have a password, too.
{
	my $from = -s $standby->logfile;
	my $refusal = qr/invalid value for parameter "overten_auth\.uses_conninfo"\n.*DETAIL:  It is not a connection string\./;
	my $said = sub { return slurp_file($standby->logfile, $from) };

	$standby->append_conf('postgresql.conf', "overten_auth.uses_conninfo = 'password=Swordfish nonsense'");
	$standby->reload;
	wait_until('a reload refuses what is no connection string', sub { $said->() =~ $refusal });
	is(ask($standby, 'SHOW overten_auth.uses_conninfo'), '', 'the value before stays');
	is(sqlstate_of($standby, 'SET ROLE overten_uses; SHOW overten_auth.uses_conninfo'), '42501', 'which others cannot see');
	# Of a standby that was shut down in order, pg_ctl of PostgreSQL 18 would think that
	# it has reached a recovery target.
	$standby->stop('immediate');
	$from = -s $standby->logfile;
	ok(!$standby->start(fail_ok => 1), 'a start refuses it');
	like($said->(), $refusal, 'and says so');
	unlike(slurp_file($standby->logfile), qr/Swordfish/, 'the log does not have the password');
	$standby->append_conf('postgresql.conf', "overten_auth.uses_conninfo = ''");
	$standby->start;
}

use_there(3);
like(flush_there(), qr/cannot flush usage of database "postgres" on a standby.*\n.*flushed after promotion.*\n.*overten_auth\.uses_conninfo/,
	'a standby does not send uses unless it is told how');
is(processes($standby, qr/overten_auth usage worker/), 0, 'and no worker waits there');
is(uses($primary, $key), 0, 'the primary has none');
like(slurp_file($standby->logfile) , qr/database system is ready to accept read-only connections/, 'a standby');
set_conf($standby, 'overten_auth.uses_conninfo' => 'user=overten_uses');
wait_for_worker($standby, 'waiting');
is(flush_there(), '', 'a standby that is told sends them');
is(uses($primary, $key), $used, 'and the primary has them');
is(uses($standby, $key), $used, 'the standby too');


# What is sent

within_an_hour(
	$primary,
	sub {
		my ($fresh, $fresh_key) = mint($primary, $org);
		wait_replayed($primary, $standby);
		use_from($standby, $fresh, '192.0.2.1', 3);
		use_from($standby, $fresh, '2001:db8::1', 2);
		my $report = report($standby, $org, $fresh_key);
		is($report, '5|0; 192.0.2.1 3|0, 2001:db8::/64 2|0', 'readers on the standby count what it has not sent');
		is(report($primary, $org, $fresh_key), '', 'readers on the primary do not');
		my $last = ask($standby, "SELECT listed('$org', '$fresh_key')");
		flush_there();
		is(report($primary, $org, $fresh_key), $report, 'then they do, with addresses');
		is(report($standby, $org, $fresh_key), $report, 'and those on the standby count each once');
		is(ask($primary, "SELECT last_used_at FROM overten_auth.key_last_used WHERE key_id = '$fresh_key'"), $last, 'the last use is known on the primary');
	});
verify($standby, $revoked) foreach 1 .. 2;
ask($standby, "SELECT FROM overten_admit('$limited')") foreach 1 .. 5;
flush_there();
is(uses($primary, $revoked_key), '0|2', 'refused attempts are sent');
is(ask($primary, "SELECT sum(accepted), sum(limited) FROM overten_auth.key_usage WHERE key_id = '$limited_key'"), '2|3', 'and what a limit has refused');
is(stat_of($standby, 'uses_sent'), stat_of($primary, 'uses_received'), 'both servers count what was sent');
is(stat_of($standby, 'entries_used'), 0, 'nothing is left in the memory of the standby');


# Answers that are lost

my $retries = 0;
foreach my $n (1 .. $lost_answers)
{
	use_there(1 + $n % 5);
	my $before = ask($primary, $source);
	my $name = $n % 3 == 0 ? 'lose_statement' : 'lose_answer';
	my $message = is_lost($name);
	my $written = ask($primary, $source);

	$retries++ if $message =~ /could not flush/ && ($name eq 'lose_answer') == ($written > $before);
	use_there(1);
	is(flush_there(), '', 'sent again') or last;
}
is($retries, $lost_answers, "$lost_answers answers are lost, a third of them before the commit");
is(uses($primary, $key), $used, "each of the $used uses is in the history once");
is(uses($standby, $key), $used, 'on the standby, too');
like(ask($standby, 'SELECT flush_failure FROM overten_status()'), qr/^the session on the primary has failed/, 'the state says that sessions have failed');


# A batch that is sent again before the standby has replayed that the primary has it

foreach my $n (1 .. 3)
{
	pause_replay($standby);
	use_there($n);
	is_lost('lose_answer');
	use_there(1);
	my $asker = $standby->background_psql('postgres', on_error_stop => 0);
	$asker->query_until(qr/go/, "\\echo go\nSELECT overten_flush_usage();\n");
	$primary->poll_query_until('postgres', "SELECT EXISTS (SELECT FROM pg_stat_activity WHERE usename = 'overten_uses' AND state = 'idle' AND query LIKE 'CALL%')")
	  or die 'nothing is sent again';
	is(uses($primary, $key), $used - 1, 'the primary ignores a batch that it has');
	resume_replay($standby);
	$asker->quit;
	flush_there();
	is(uses($primary, $key), $used, 'and gets what came later');
}

$standby->stop;
$primary->stop;
done_testing();
