
# Uses of standbys and what can fail: the primary is away or busy, replay is
# paused, sessions are cut at random, the standby stops or crashes, the role may
# not, or the standby is promoted with a batch on its way.

use strict;
use warnings FATAL => 'all';

use FindBin;
use lib $FindBin::RealBin;
use OvertenTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use StandbyTest;
use Test::More;
use Time::HiRes qw(time usleep);
use UsageTest;

my $primary = create_receiver("overten_auth.uses_conninfo = 'user=overten_uses'");
ask($primary, REQUEST_FUNCTIONS . REPORT_FUNCTIONS);
my $org = create_org($primary, 'Followed');
my ($secret, $key) = mint($primary, $org);
$primary->backup('base');
my %standbys = map { $_ => create_standby($primary, 'base', $_) } qw(first second third fourth);
my $used = 0;

# Use the key on a server.
sub use_on
{
	my ($node, $times) = @_;

	ask($node, "SELECT count(k.key_id) FROM generate_series(1, $times) n, overten_verify_key('$secret' || left('', n)) k");
	$used += $times;
	return;
}

sub flushes
{
	my ($node, $name) = @_;

	local $Test::Builder::Level = $Test::Builder::Level + 1;
	wait_until('the standby has a WAL receiver', sub { processes($node, qr/walreceiver.*streaming/) });
	is(flush_message($node), '', $name);
	return;
}

sub failure_of { return ask($_[0], 'SELECT flush_failure FROM overten_status()'); }


# Four standbys at once

foreach my $standby (values %standbys)
{
	wait_for_worker($standby, 'waiting');
	use_on($standby, 10);
}
use_on($primary, 10);
my @askers = map { $_->background_psql('postgres', on_error_stop => 0) } $primary, values %standbys;
$_->query_until(qr/go/, "\\echo go\nSELECT overten_flush_usage();\n") foreach @askers;
$_->quit foreach @askers;
is(uses($primary, $key), $used, 'uses of four standbys and the primary, flushed at once, are in the history once');
is(ask($primary, 'SELECT count(*) FROM overten_auth.usage_batches'), 5, 'each server has its own number');


# The primary is away, or busy

my $standby = $standbys{first};
use_on($standby, 3);
$primary->stop('immediate');
like(flush_message($standby), qr/could not flush.*\n.*The worker reports: the session on the primary has failed/, 'without a primary, a flush fails');
like(failure_of($standby), qr/^the session on the primary has failed: \S/, 'the state says why');
like(ask($standby, q{SELECT problem FROM overten_check() WHERE subject = 'background worker'}), qr/It has failed at .*the session on the primary has failed/, 'overten_check too');
use_on($standby, 4);
$primary->start;
flushes($standby, 'with it, it does not');
is(uses($primary, $key), $used, 'and no use is lost');
is(failure_of($standby) ne '' && ask($standby, q{SELECT count(*) FROM overten_check() WHERE subject = 'background worker'}), 0, 'nor is anything wrong');

my $locker = $primary->background_psql('postgres');
ask($locker, 'BEGIN; LOCK overten_auth.key_usage');
use_on($standby, 3);
like(flush_message($standby), qr/the primary reports: canceling statement due to lock timeout/, 'a lock on the primary makes a flush fail after a second');
ask($locker, 'COMMIT');
flushes($standby, 'without it, it does not');
is(uses($primary, $key), $used, 'and no use is lost');

ask($primary, 'REVOKE EXECUTE ON PROCEDURE overten_auth.add_uses FROM overten_uses');
use_on($standby, 3);
like(flush_message($standby), qr/the primary reports: permission denied for procedure add_uses/, 'a role that may not');
ask($primary, 'GRANT EXECUTE ON PROCEDURE overten_auth.add_uses TO overten_uses');
flushes($standby, 'may again');
is(uses($primary, $key), $used, 'and no use is lost');

my $other = create_primary('other', 0, '', extra => ['--data-checksums']);
ask($other, 'CREATE ROLE overten_uses SUPERUSER LOGIN');
set_conf($standby, 'overten_auth.uses_conninfo' => 'user=overten_uses host=' . $other->host . ' port=' . $other->port);
use_on($standby, 3);
like(flush_message($standby), qr/the primary reports: these uses were counted on a standby of another cluster/, 'a server of another cluster refuses');
$other->stop;
set_conf($standby, 'overten_auth.uses_conninfo' => 'user=overten_uses host=' . $standbys{second}->host . ' port=' . $standbys{second}->port);
like(flush_message($standby), qr/the session on the primary has failed: .*hot standby/, 'a standby too');
set_conf($standby, 'overten_auth.uses_conninfo' => 'user=overten_uses');
flushes($standby, 'the primary does not');
is(uses($primary, $key), $used, 'and no use is lost');


# Replay is paused

pause_replay($standby);
my $before = uses($standby, $key);
use_on($standby, 3);
like(flush_message($standby), qr/the primary has uses that this standby has sent, and the standby has not replayed that/, 'a standby waits until it has replayed what it has sent');
is(uses($primary, $key), $used, 'the primary has that');
is(uses($standby, $key), $before, 'the standby has not');
is(ask($standby, "SELECT sum(accepted) FROM overten_key_usage('$org', '$key')"), $used, 'and its readers count each use once');
use_on($standby, 4);
is(ask($standby, "SELECT sum(accepted) FROM overten_key_usage('$org', '$key')"), $used, 'with those that come meanwhile');
resume_replay($standby);
flushes($standby, 'when replay goes on, it sends those');
is(uses($primary, $key), $used, 'and the primary has each once');
is(ask($standby, "SELECT sum(accepted) FROM overten_key_usage('$org', '$key')"), $used, 'and readers on the standby count each once');


# Sessions are cut, and the primary crashes, at random

my $load = start_pgbench($standby, 'verify', "SELECT overten_verify_key('$secret');\n", '-T', 12, '-c', 2, '-R', 300);
my $end = time + 11;
while (time < $end)
{
	my $chance = rand;

	flush_message($standby) if $chance < 0.7;
	append_to_file($primary->data_dir . ($chance < 0.35 ? '/lose_answer' : '/lose_statement'), '') if $chance < 0.6;
	if ($chance > 0.93)
	{
		$primary->stop('immediate');
		$primary->start;
	}
	my $asker = $standby->background_psql('postgres', on_error_stop => 0);
	$asker->query_until(qr/go/, "\\echo go\nSELECT overten_flush_usage();\n");
	usleep(rand 60_000);
	$primary->psql('postgres', q{SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'overten_uses'});
	$asker->quit;
}
$used += processed($load);
unlink map { $primary->data_dir . $_ } '/lose_answer', '/lose_statement';
flushes($standby, 'after faults at random it flushes');
is(uses($primary, $key), $used, 'each use is in the history once');
cmp_ok(stat_of($standby, 'flush_failures'), '>', 10, 'though flushes have failed');


# The standby stops, or crashes

use_on($standby, 5);
$standby->stop('fast');
is(uses($primary, $key), $used, 'a standby that stops sends its last uses');
$standby->start;
wait_for_worker($standby, 'waiting');
use_on($standby, 5);
$primary->stop('fast');
my $begin = time;
$standby->stop('fast');
cmp_ok(time - $begin, '<', 20, 'without a primary it stops all the same');
$used -= 5;
$primary->start;
$standby->start;
wait_for_worker($standby, 'waiting');
pause_replay($standby);
use_on($standby, 5);
flush_message($standby);
use_on($standby, 2);
$standby->stop('immediate');
$used -= 2;
$standby->start;
wait_for_worker($standby, 'waiting');
is(uses($primary, $key), $used, 'after a crash, what was sent is in the history once, and the rest is lost');
use_on($standby, 1);
flushes($standby, 'it goes on');
is(uses($primary, $key), $used, 'from there');


# Promotion, with a batch that the standby has replayed and does not know of; that
# it has not received; that the primary has not written.

sub promotes
{
	my ($node, $fault, $name) = @_;
	my $there;

	local $Test::Builder::Level = $Test::Builder::Level + 1;
	wait_replayed($primary, $node);
	$there = uses($node, $key);
	use_on($node, 6);
	$fault->($node);
	isnt(flush_message($node), '', "$name: a flush fails");
	use_on($node, 3);
	$node->promote;
	flush_usage($node);
	is(uses($node, $key), $there + 9, "$name: after its promotion each use is in the history once");
	use_on($node, 2);
	flush_usage($node);
	is(uses($node, $key), $there + 11, "$name: and it goes on");
	is(stat_of($node, 'entries_used'), 0, "$name: with nothing left in memory");
	return;
}

my $sender;
$locker->{run}->kill_kill;
$locker = $primary->background_psql('postgres');
promotes($standbys{first}, sub {
	append_to_file($primary->data_dir . '/lose_answer', '');
}, 'an answer that was lost');
promotes($standbys{second}, sub {
	$sender = ask($primary, q{SELECT pid FROM pg_stat_replication WHERE application_name = 'second'});
	kill 'STOP', $sender;
}, 'a batch that was not received');
kill 'CONT', $sender;
promotes($standbys{third}, sub { ask($locker, 'BEGIN; LOCK overten_auth.key_usage'); },
	'a batch that was not written');
ask($locker, 'COMMIT');
$locker->quit;


# Another primary has lost the batch, which this standby has not replayed.

my $last = $standbys{fourth};
my $next = create_standby($primary, 'base', 'next');
wait_replayed($primary, $_) foreach $last, $next;
my $there = uses($last, $key);
my @senders = split /\n/, ask($primary, q{SELECT pid FROM pg_stat_replication});
kill 'STOP', @senders;
use_on($last, 7);
like(flush_message($last), qr/has not replayed/, 'a primary has a batch that it has not sent to anybody');
$primary->stop('immediate');
kill 'CONT', @senders;
$next->promote;
set_conf($last, primary_conninfo => 'host=' . $next->host . ' port=' . $next->port . ' application_name=fourth');
$last->poll_query_until('postgres', 'SELECT count(*) = 1 FROM pg_stat_wal_receiver') or die 'the standby does not follow the new primary';
flushes($last, 'the next primary gets it again');
is(uses($next, $key), $there + 7, 'and has each use once');

$_->stop('immediate') foreach values %standbys, $next;
done_testing();
