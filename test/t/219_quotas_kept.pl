
# What of quotas is kept: flushes that fail, restarts, crashes, erasing and a standby,
# and buckets that make room for others.
#
# The module test/modules/flush_pauses.c stops flushes, and sessions that load a quota.

use strict;
use warnings FATAL => 'all';

use FindBin;
use lib $FindBin::RealBin;
use OvertenTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use QuotaTest;
use Test::More;
use UsageTest;

set_time('2027-06-01 12:00:00');
my $node = create_clocked('quotas_kept', "overten_auth.max_limit_buckets = 1000\nmax_prepared_transactions = 5",
	allows_streaming => 1);

# Files that the module looks for, or makes.
sub make_file { append_to_file($node->data_dir . "/$_[0]", ''); return; }
sub remove_file { unlink $node->data_dir . "/$_[0]" or die "unlink: $!"; return; }
sub wait_for_file
{
	my ($name) = @_;

	wait_until("there is $name", sub { -e $node->data_dir . "/$name" });
	return;
}

# A session that runs SQL, and does not wait for it.
sub start_sql
{
	my ($sql) = @_;
	my $session = $node->background_psql('postgres', on_error_stop => 0);

	$session->query_until(qr/started/, "\\echo started\n$sql;\n");
	return $session;
}

# The output of that.
sub finish_sql
{
	my ($session) = @_;
	my $output = $session->query_until(qr/finished/, "\\echo finished\n");

	$session->quit;
	return $output =~ s/\s*finished\s*$//r;
}


# -- A flush that fails --

my $unlucky = create_org($node, 'Unlucky');
my ($unlucky_secret, $unlucky_key) = mint($node, $unlucky);
set_time('2027-06-01 12:00:00');
quota($node, 'org', $unlucky, 'kept', 100, '1 day', "NULL, 'org'");
is(admitted($node, $unlucky_secret, 10), 10, 'units to write');
my $locker = $node->background_psql('postgres');
ask($locker, 'BEGIN; LOCK TABLE overten_auth.quota_usage IN EXCLUSIVE MODE');
is(sqlstate_of($node, 'SELECT overten_flush_usage()'), '55000', 'a flush cannot lock the table');
is(left($node, $unlucky_secret), 90, 'the units still count');
ask($locker, 'ROLLBACK');
flush_usage($node);
is(written($node, $unlucky), '2027-06-01 00:00 10', 'and are written later');
is(admitted($node, $unlucky_secret, 5), 5, 'more of them');
ask($node, 'ALTER TABLE overten_auth.quota_usage ADD CONSTRAINT refused CHECK (units < 0) NOT VALID');
is(sqlstate_of($node, 'SELECT overten_flush_usage()'), '55000', 'a flush cannot write');
ask($node, 'ALTER TABLE overten_auth.quota_usage DROP CONSTRAINT refused');
is(left($node, $unlucky_secret), 85, 'the units still count');
flush_usage($node);
is(written($node, $unlucky), '2027-06-01 00:00 15', 'and are written later, once');

$locker->quit;

# Units that are used while a flush is halfway.
is(admitted($node, $unlucky_secret, 2), 2, 'before a flush');
foreach my $when ('before', 'after')
{
	make_file("pause_${when}_commit");
	my $asker = start_sql('SELECT overten_flush_usage()');
	wait_for_file('paused');
	is(admitted($node, $unlucky_secret, 3), 3, "while a flush is halfway, $when its commit");
	remove_file("pause_${when}_commit");
	finish_sql($asker);
}
is(left($node, $unlucky_secret), 77, 'all count');
flush_usage($node);
is(written($node, $unlucky), '2027-06-01 00:00 23', 'and are written once');

# -- A table that is rewritten --

# The quota that is read while ALTER TABLE runs must be the only one.
drop_quota($node, 'org', $unlucky, 'kept');
{
	my ($late, $late_key) = mint($node, $unlucky);

	quota($node, 'key', $late_key, 'rewritten', 10, '1 day');
	is(admitted($node, $late, 4), 4, 'used before a restart');
	again($node, 'restart');
	my $altering = $node->background_psql('postgres');
	ask($altering, q{BEGIN; ALTER TABLE overten_auth.quota_usage ALTER org_id TYPE text COLLATE "C" USING org_id || ''});
	my $reader = start_sql("SELECT count(*) FROM overten_admit('$late')");
	$node->poll_query_until('postgres', "SELECT count(*) = 1 FROM pg_locks WHERE NOT granted AND relation = 'overten_auth.quota_usage'::regclass")
	  or die 'nobody waits';
	ask($altering, 'COMMIT');
	$altering->quit;
	is(finish_sql($reader), 1, 'a session that waited for ALTER TABLE');
	is(left($node, $late), 5, 'has read the rows that it wrote');
}

# Without the table there is an error.
{
	my ($lost, $lost_key) = mint($node, $unlucky);

	quota($node, 'key', $lost_key, 'lost', 10, '1 day');
	is(sqlstate_of($node, "BEGIN; ALTER TABLE overten_auth.quota_usage RENAME TO hidden; SELECT * FROM overten_admit('$lost')"),
		'55000', 'a quota that cannot be loaded grants nothing');
	is(left($node, $lost), 10, 'and is there again');
}

# -- Restarts and crashes --

my ($lasting, $lasting_key) = mint($node, $unlucky);
quota($node, 'key', $lasting_key, 'lasting', 100, '1 month');
is(admitted($node, $lasting, 10), 10, 'before a restart');
again($node, 'restart');
is(left($node, $lasting), 90, 'a restart forgets nothing');
ask($node, "SELECT overten_charge('$lasting_key', 1)");
again($node, 'restart');
is(left($node, $lasting), 89, 'nor a charge, which is no use of the key');
is(admitted($node, $lasting, 5), 5, 'before a crash');
flush_usage($node);
is(admitted($node, $lasting, 7), 7, 'since the last flush');
again($node, 'stop', 'immediate');
again($node, 'start');
is(left($node, $lasting), 84, 'a crash forgets what came since the last flush, and no more');
foreach my $when ('before', 'after')
{
	my $left = left($node, $lasting);

	is(admitted($node, $lasting, 3), 3, 'before a flush');
	make_file("pause_${when}_commit");
	my $asker = start_sql('SELECT overten_flush_usage()');
	wait_for_file('paused');
	again($node, 'stop', 'immediate');
	unlink map { $node->data_dir . "/$_" } "pause_${when}_commit", 'paused';
	$asker->{run}->finish;
	again($node, 'start');
	is(left($node, $lasting), $left - ($when eq 'after' ? 3 : 0),
		"a crash just $when the commit of a flush counts nothing twice");
}

# -- Erasing, old rows, and a database that is dropped --

my $gone = create_org($node, 'Gone');
my ($gone_secret, $gone_key) = mint($node, $gone);
quota($node, 'key', $gone_key, 'gone', 10, '1 day');
is(admitted($node, $gone_secret, 2), 2, 'of an org');
flush_usage($node);
is(written($node, $gone), '2027-06-01 00:00 2', 'that is written');
is(admitted($node, $gone_secret, 2), 2, 'and more that is not');
ask($node, "SELECT overten_revoke_all('$gone'); SELECT overten_erase_org('$gone')");
is(written($node, $gone), '', 'erasing an org removes its rows');
flush_usage($node);
is(written($node, $gone), '', 'and a later flush does not write them again');

ask($node, "INSERT INTO overten_auth.quota_usage SELECT clock_timestamp() - days * interval '1 day', substr(sha256(days::text::bytea), 1, 16), '$gone', days FROM unnest('{399,401}'::int[]) days");
flush_usage($node);
$node->poll_query_until('postgres', "SELECT count(*) = 1 FROM overten_auth.quota_usage WHERE org_id = '$gone'");
is(ask($node, "SELECT units FROM overten_auth.quota_usage WHERE org_id = '$gone'"), 399, 'rows are removed after 400 days');

ask($node, 'CREATE DATABASE second');
my $second = [ $node, 'second' ];
ask($second, 'CREATE EXTENSION overten_auth CASCADE');
my $second_org = create_org($second, 'Second');
my ($second_secret, $second_key) = mint($second, $second_org);
quota($second, 'org', $second_org, 'there', 10, '1 day');
is(admitted($second, $second_secret, 2), 2, 'in another database');
flush_usage($second);
is(written($second, $second_org), '2027-06-01 00:00 2', 'it is written there');
is(admitted($second, $second_secret, 2), 2, 'more there');
flush_usage($node);
is(written($node, $second_org), '', 'and not here');
my $used = ask($node, 'SELECT limit_buckets_used FROM overten_stat');
ask($second, 'DROP EXTENSION overten_auth CASCADE');
configure($node, 'overten_auth.flush_interval', '1s');
$node->poll_query_until('postgres', "SELECT limit_buckets_used = $used - 1 FROM overten_stat")
  or die 'the extension is gone, and its quota is not';
ask($second, 'CREATE EXTENSION overten_auth CASCADE');
$second_org = create_org($second, 'Second');
($second_secret) = mint($second, $second_org);
quota($second, 'org', $second_org, 'there', 10, '1 day');
is(admitted($second, $second_secret, 2), 2, 'in the extension that was made again');
ask($node, 'DROP DATABASE second');
$node->poll_query_until('postgres', "SELECT limit_buckets_used = $used - 1 FROM overten_stat")
  or die 'the database is gone, and its quota is not';
pass('what is gone leaves no quota in memory');
configure($node, 'overten_auth.flush_interval', '1h');

# -- A standby, and its promotion --

flush_usage($node);
$node->backup('b');
my $standby = PostgreSQL::Test::Cluster->new('standby');
$standby->init_from_backup($node, 'b', has_streaming => 1);
chmod 0600, $standby->data_dir . '/overten_auth.key' or die "chmod: $!";
$standby->append_conf('postgresql.conf', 'overten_auth.verify_on_standby = on');
again($standby, 'start');
is(sqlstate_of($standby, "SELECT * FROM overten_admit('$lasting')"), '55000', 'a standby does not count quotas');
is(sqlstate_of($standby, "SELECT overten_charge('$lasting_key', 1)"), '55000', 'nor charges');
my ($result, $stdout, $stderr) = $standby->psql('postgres', "SELECT * FROM overten_admit('$lasting')");
like($stderr, qr/quotas are not counted on a standby.*HINT:  Send the request to the primary server/s, 'and says so');
is(ask($standby, "SELECT remaining = ${\left($node, $lasting)} FROM overten_limit_status('$unlucky') WHERE key_id = '$lasting_key' AND limit_name = 'lasting'"),
	't', 'it shows what is written');
my $on_standby = $standby->background_psql('postgres');
quota($node, 'key', $lasting_key, 'lasting', 100, '1 month', 'NULL, shadow => true');
$node->wait_for_catchup($standby, 'replay');
is(outcome($on_standby, $lasting), 'admitted', 'a shadow is not counted there');
quota($node, 'key', $lasting_key, 'lasting', 100, '1 month');
is(admitted($node, $lasting, 4), 4, 'on the primary server');
flush_usage($node);
my $left = left($node, $lasting);
$node->wait_for_catchup($standby, 'replay');
again($node, 'stop');
again($standby, 'promote');
is(left($on_standby, $lasting), $left, 'the standby goes on with what was written');
is(admitted($on_standby, $lasting, 100), $left, 'and admits the rest');
$on_standby->quit;
flush_usage($standby);
is(ask($standby, "SELECT max(units) FROM overten_auth.quota_usage WHERE org_id = '$unlucky' AND period_start = '2027-06-01+00'"), 100, 'which it writes');
$standby->stop;

# -- Loading, and buckets that make room for others --

$node = create_clocked('small', 'overten_auth.max_limit_buckets = 8');
$unlucky = create_org($node, 'Unlucky');
my $crowd = create_org($node, 'Crowd');
ask($node, "CREATE TABLE crowd AS SELECT n, m.* FROM generate_series(1, 40) n, LATERAL (SELECT secret, key_id FROM overten_mint_key('$crowd', 'n' || n)) m");
quota($node, 'org', $crowd, 'crowded', 7, '1 day');

# Use each key of the crowd; what has been used before makes room as soon as it is
# written.
sub use_crowd
{
	my @admitted;

	foreach my $each (split /\n/, ask($node, 'SELECT secret FROM crowd ORDER BY n'))
	{
		my $sql = "SELECT count(*) FROM overten_admit('$each')";

		if (sqlstate_of($node, $sql) eq '55000')
		{
			flush_usage($node);
			push @admitted, ask($node, $sql);
		}
	}
	return;
}

# A session reads the table, and adds what it has read after other things.
sub race
{
	my ($name, $meanwhile) = @_;
	my ($racer, $racer_key) = mint($node, $unlucky);

	quota($node, 'key', $racer_key, 'raced', 100, '1 day');
	make_file('pause_after_reading');
	my $reader = start_sql("SET application_name = 'paused reader'; SELECT count(*) FROM overten_admit('$racer')");
	wait_for_file('paused');
	my $more = $meanwhile->($racer);
	remove_file('pause_after_reading');
	is(finish_sql($reader), 1, "$name: the session goes on");
	is(left($node, $racer), 99 - $more, "$name: and knows what was used");
	flush_usage($node);
	return;
}

race('nothing happens meanwhile', sub { return 0 });
race('another session loads it', sub { return admitted($node, $_[0], 3) });
race('another session loads it, and it is written', sub {
	my $used = admitted($node, $_[0], 3);
	flush_usage($node);
	return $used;
});
race('another session loads it, it is written, and makes room', sub {
	my $used = admitted($node, $_[0], 3);
	flush_usage($node);
	use_crowd();
	flush_usage($node);
	return $used;
});

# A transaction whose snapshot is older than what was used.
{
	my ($late, $late_key) = mint($node, $unlucky);
	my $session = $node->background_psql('postgres');

	quota($node, 'key', $late_key, 'late', 100, '1 day');
	ask($session, 'BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM overten_auth.quota_usage');
	is(admitted($node, $late, 3), 3, 'after another session has taken its snapshot');
	flush_usage($node);
	use_crowd();
	flush_usage($node);
	is(left($session, $late), 97, 'that session knows it, too');
	ask($session, 'COMMIT');
	$session->quit;
	drop_quota($node, 'key', $late_key, 'late');
}

use_crowd() foreach 1 .. 9;
flush_usage($node);
is(ask($node, "SELECT count(*), min(units), max(units) FROM overten_auth.quota_usage WHERE org_id = '$crowd'"),
	'40|7|7', 'with many more keys than buckets, each has its quota, and no more');
# Making room removes what is written of a whole chain, which can be more than one.
cmp_ok(ask($node, 'SELECT limit_buckets_used FROM overten_stat'), '>', 4, 'most buckets are in use');

# What is not written makes no room.
ask($node, "SELECT overten_drop_limit('org', '$crowd', 'crowded')");
quota($node, 'org', $crowd, 'kept', 2, '1 day');
my @secrets = split /\n/, ask($node, 'SELECT secret FROM crowd ORDER BY n');
is(outcome($node, $secrets[$_]), 'admitted kept 1', "key $_ has a bucket") foreach 0 .. 7;
is(sqlstate_of($node, "SELECT * FROM overten_admit('$secrets[8]')"), '55000', 'another one has none');
is(outcome($node, $secrets[0]), 'admitted kept 0', 'the others go on');
configure($node, 'overten_auth.limits_full', 'admit');
# A reload has the worker write, too.
like(outcome($node, $secrets[8]), qr/^admitted/, 'it is admitted if that is wanted');
configure($node, 'overten_auth.limits_full', 'refuse');
flush_usage($node);
like(outcome($node, $secrets[8]), qr/^admitted kept [01]$/, 'what is written makes room');
is(outcome($node, $secrets[0]), 'quota_exceeded kept 0', 'and is read again');

# Quotas of a day that is over make room first, and rate limits that are idle.
set_time('2027-06-02 12:00:00');
ask($node, "SELECT overten_set_limit('org', '$unlucky', 'fast', 1000, '1 second', per => 'org')");
my ($fast) = mint($node, $unlucky);
is(outcome($node, $fast), 'admitted fast 999', 'a rate limit gets the bucket of a quota');
is(admitted($node, $secrets[$_], 1), 1, "and key $_ has its quota on another day") foreach 0 .. 5;

$node->stop;
done_testing();
