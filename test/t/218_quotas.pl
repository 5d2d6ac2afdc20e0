
# Quotas where they are counted: a clock that is set, a flush that fails, sessions
# at once, buckets that make room for others, restarts, crashes and a standby, which
# pg_regress does not have.
#
# The wall clock of the server is that of test/modules/clock_shift.c.  The module
# test/modules/flush_pauses.c stops flushes, and sessions that load a quota.

use strict;
use warnings FATAL => 'all';

use Cwd qw(abs_path);
use FindBin;
use lib $FindBin::RealBin;
use OvertenTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes ();
use Time::Local qw(timegm);
use UsageTest;

my $modules = abs_path("$FindBin::RealBin/../modules");
my $dir = PostgreSQL::Test::Utils::tempdir;

# Set the wall clock of the server: a time in UTC.
sub set_time
{
	my ($time) = @_;
	my ($year, $month, $day, $hour, $minute, $second) = split /[- :]/, $time;
	my $wanted = timegm($second, $minute, $hour, $day, $month - 1, $year);

	open my $file, '+<', "$dir/clock" or die $!;
	binmode $file;
	syswrite $file, pack 'q', ($wanted - Time::HiRes::time()) * 1_000_000;
	close $file;
	return;
}

append_to_file("$dir/clock", pack 'q', 0);
chmod 0666, "$dir/clock" or die $!;
set_time('2026-11-29 12:00:00');

# A server whose clock is set.
sub create_clocked
{
	my ($name, $settings, %init) = @_;

	local $ENV{LD_PRELOAD} = "$modules/clock_shift.so";
	local $ENV{CLOCK_SHIFT} = "$dir/clock";
	return create_node($name, <<"EOC", %init);
shared_preload_libraries = 'overten_auth, $modules/flush_pauses.so'
overten_auth.databases = 'postgres, second'
overten_auth.flush_interval = 1h
restart_after_crash = on
TimeZone = 'Pacific/Kiritimati'
$settings
EOC
}

# Start or stop a server again, with the same clock.
sub again
{
	my ($node, @how) = @_;
	my $method = shift @how;

	local $ENV{LD_PRELOAD} = "$modules/clock_shift.so";
	local $ENV{CLOCK_SHIFT} = "$dir/clock";
	return $node->$method(@how);
}

# The outcome of a request, and what is left.
sub outcome
{
	my ($where, $secret, $cost) = @_;

	return ask($where,
		"SELECT concat_ws(' ', outcome, limit_name, remaining) FROM overten_admission('$secret', ${\($cost // 1)})");
}

# The cost that is left.
sub left
{
	my ($where, $secret) = @_;

	return ask($where, "SELECT remaining FROM overten_admission('$secret', 0)");
}

# How many of so many requests in one statement are admitted.
sub admitted
{
	my ($where, $secret, $requests) = @_;

	return ask($where,
		"SELECT count(*) FROM generate_series(1, $requests) n, LATERAL overten_admit('$secret', 1 + n * 0)");
}

sub quota
{
	my ($where, $scope, $subject, $name, $quota, $period, $more) = @_;

	return ask($where,
		"SELECT overten_set_limit('$scope', '$subject', '$name', $quota, '$period'"
		  . (defined $more ? ", $more" : '') . ')');
}

sub drop
{
	my ($where, $scope, $subject, $name) = @_;

	return ask($where, "SELECT overten_drop_limit('$scope', '$subject', '$name')");
}

# What the table has of an org: the periods and the units.
sub written
{
	my ($where, $org) = @_;

	return ask($where,
		"SELECT coalesce(string_agg(to_char(period_start AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI') || ' ' || units, ', ' ORDER BY period_start, units), '') FROM overten_auth.quota_usage WHERE org_id = '$org'");
}

my $node = create_clocked('quotas', "overten_auth.max_limit_buckets = 1000\nmax_prepared_transactions = 5",
	allows_streaming => 1);
ask($node, "INSERT INTO overten_auth.tiers VALUES ('pro')");
my $org = create_org($node, 'Limited');
my ($secret, $key) = mint($node, $org);
my ($sibling, $sibling_key) = mint($node, $org);

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


# -- One quota --

quota($node, 'tier', 'free', 'daily', 5, '1 day');
is(outcome($node, $secret), 'admitted daily 4', 'the first request');
is(outcome($node, $secret, 0), 'admitted daily 4', 'a cost of 0 only asks');
is(outcome($node, $secret, 5), 'quota_exceeded daily 4', 'more than is left');
is( ask($node,
		"SELECT retry_after = reset_after, retry_after BETWEEN '11:50' AND '12:00', quota FROM overten_admission('$secret', 5)"
	),
	't|t|5',
	'the next day begins in UTC, whatever the time zones are');
is(outcome($node, $secret, 6), 'quota_exceeded daily 4', 'more than the quota');
is(ask($node, "SELECT retry_after IS NULL, reset_after < '12:00' FROM overten_admission('$secret', 6)"),
	't|t', 'which can never be admitted');
is(admitted($node, $secret, 10), 4, 'what is left');
is(outcome($node, $secret), 'quota_exceeded daily 0', 'nothing is left');
is(ask($node, "SELECT count(*) FROM overten_admit('$secret')"), 0, 'no row');
is(outcome($node, $sibling), 'admitted daily 4', 'another key has its own');
ok(is_accepted($node, $secret), 'verification is not limited');
is( ask($node, "SELECT limited > 0, shadow_limited FROM overten_stat"), 't|0', 'refusals are counted');

# What was consumed stays consumed.
is( ask($node, "BEGIN READ ONLY; SELECT count(*) FROM overten_admit('$sibling'); ROLLBACK"),
	1, 'in a read-only transaction, which rolls back');
is( ask($node, "BEGIN ISOLATION LEVEL SERIALIZABLE READ ONLY DEFERRABLE; SAVEPOINT s; SELECT count(*) FROM overten_admit('$sibling'); ROLLBACK TO s; COMMIT"),
	1, 'in a savepoint that is rolled back');
is(left($node, $sibling), 2, 'it was consumed');
is(written($node, $org), '', 'nothing is written by requests');
flush_usage($node);
is(written($node, $org), '2026-11-29 00:00 3, 2026-11-29 00:00 5', 'a flush writes it');
flush_usage($node);
is(written($node, $org), '2026-11-29 00:00 3, 2026-11-29 00:00 5', 'once');
is(left($node, $sibling), 2, 'what is written counts');

# A key that is first used in a transaction that cannot write, or fails.
my ($fresh) = mint($node, $org);
is(ask($node, "BEGIN READ ONLY; SELECT count(*) FROM overten_admit('$fresh', 2); ROLLBACK"), 1, 'loaded in a transaction that rolls back');
is(left($node, $fresh), 3, 'it was consumed');

# -- What changes keeps what was used --

my $session = $node->background_psql('postgres');
is(outcome($session, $sibling, 0), 'admitted daily 2', 'a session that has it cached');
quota($node, 'tier', 'free', 'daily', 50, '1 day');
is(outcome($session, $sibling, 0), 'admitted daily 47', 'another amount');
quota($node, 'tier', 'free', 'daily', 2, '1 day');
is(outcome($session, $sibling, 0), 'quota_exceeded daily 0', 'less than was used');
quota($node, 'org', $org, 'daily', 10, '1 day');
is(outcome($session, $sibling, 0), 'admitted daily 7', 'a quota of the org in its place');
quota($node, 'key', $sibling_key, 'daily', 20, '1 day');
is(outcome($session, $sibling, 0), 'admitted daily 17', 'one of the key in its place');
drop($node, 'org', $org, 'daily');
drop($node, 'key', $sibling_key, 'daily');
quota($node, 'tier', 'pro', 'daily', 30, '1 day');
ask($node, "SELECT overten_set_tier('$org', 'pro')");
is(outcome($session, $sibling, 0), 'admitted daily 27', 'one of another tier');
drop($node, 'tier', 'pro', 'daily');
is(outcome($session, $sibling), 'admitted', 'dropped');
quota($node, 'tier', 'pro', 'daily', 5, '1 day', 'NULL, shadow => true');
is(admitted($session, $sibling, 5), 5, 'a shadow refuses nothing');
is(ask($node, "SELECT limit_name, quota, period, burst, shadow, remaining, refusals FROM overten_limit_status('$org') WHERE key_id = '$sibling_key'"),
	'daily|5|1 day||t|0|4', 'but is counted, and shown');
quota($node, 'tier', 'pro', 'daily', 5, '1 day', "NULL, 'org'");
is(outcome($session, $sibling, 5), 'admitted daily 0', 'a shared one has its own count');
is(outcome($session, $secret), 'quota_exceeded daily 0', 'for all keys of the org');
is(ask($node, "SELECT key_id IS NULL, limit_name, remaining FROM overten_limit_status('$org')"), 't|daily|0', 'and is shown once');
ask($session, 'BEGIN');
quota($session, 'tier', 'pro', 'daily', 6, '1 day', "NULL, 'org'");
is(outcome($session, $secret), 'admitted daily 0', 'the own change counts at once');
ask($session, 'ROLLBACK');
quota($node, 'tier', 'pro', 'daily', 7, '1 day', "NULL, 'org'");
is(outcome($session, $secret, 0), 'admitted daily 1', 'what was consumed stays');
drop($node, 'tier', 'pro', 'daily');
drop($node, 'tier', 'free', 'daily');
$session->quit;

# -- Several limits: all or nothing --

my ($many, $many_key) = mint($node, $org);
quota($node, 'key', $many_key, 'daily', 10, '1 day');
quota($node, 'key', $many_key, 'monthly', 12, '1 month');
ask($node, "SELECT overten_set_limit('key', '$many_key', 'rate', 20, '12 hours')");
is(outcome($node, $many, 8), 'admitted daily 2', 'the limit with the least left');
is(outcome($node, $many, 3), 'quota_exceeded daily 2', 'a quota refuses');
is(ask($node, "SELECT string_agg(limit_name || remaining, ' ' ORDER BY limit_name) FROM overten_limit_status('$org')"),
	'daily2 monthly4 rate12', 'then nothing is taken from the others');
quota($node, 'key', $many_key, 'daily', 100, '1 day');
is(outcome($node, $many, 5), 'quota_exceeded monthly 4', 'the other one refuses');
quota($node, 'key', $many_key, 'monthly', 100, '1 month');
is(outcome($node, $many, 13), 'rate_limited rate 12', 'the rate limit refuses');
is(ask($node, "SELECT string_agg(limit_name || remaining, ' ' ORDER BY limit_name) FROM overten_limit_status('$org')"),
	'daily92 monthly92 rate12', 'then nothing is taken from the quotas');
quota($node, 'key', $many_key, 'daily', 8, '1 day');
is(outcome($node, $many, 13), 'quota_exceeded daily 0', 'both refuse: the one that keeps waiting for longer, or for ever');

# -- Rotation: one count for the line --

my ($next, $next_key) = split /\|/, ask($node, "SELECT secret, key_id FROM overten_rotate_key('$org', '$many_key')");
is(outcome($node, $next), 'quota_exceeded daily 0', 'the new key has what the old one has used');

# -- A part of each limit --

configure($node, 'overten_auth.limit_share', '0.5');
quota($node, 'key', $key, 'whole', 9, '1 day');
is(admitted($node, $secret, 20), 9, 'a quota is not shared out');
configure($node, 'overten_auth.limit_share', '1');
drop($node, 'key', $key, 'whole');

# -- Charging --

quota($node, 'key', $key, 'charged', 10, '1 month');
ask($node, "BEGIN; SELECT overten_charge('$key', 7); ROLLBACK");
is(left($node, $secret), 3, 'a charge stays when the transaction rolls back');
ask($node, "SELECT overten_charge('$key', 7)");
is(outcome($node, $secret, 0), 'quota_exceeded charged 0', 'in debt not even a cost of 0');
flush_usage($node);
like(written($node, $org), qr/2026-11-01 00:00 14/, 'a debt is written');
ask($node, "UPDATE overten_auth.quota_usage SET units = 9223372036854775800 WHERE units = 14");
ask($node, "SELECT overten_charge('$key', 1000000000)");
flush_usage($node);
like(written($node, $org), qr/ 9223372036854775807/, 'a sum stops at the maximum');
again($node, 'restart');
ask($node, "SELECT overten_charge('$key', 1000000000)");
is(outcome($node, $secret), 'quota_exceeded charged 0', 'in memory, too');
set_time('2026-12-01 00:00:01');
is(outcome($node, $secret), 'admitted charged 9', 'the debt ends with the period');
drop($node, 'key', $key, 'charged');

# -- Periods --

sub period_of
{
	my ($time, $period, $anchor) = @_;

	set_time($time);
	quota($node, 'key', $key, 'period', 1, $period, "NULL, anchor => $anchor");
	return ask($node,
		"SELECT to_char((clock_timestamp() + reset_after) AT TIME ZONE 'UTC' + interval '0.5 s', 'YYYY-MM-DD HH24:MI:SS') FROM overten_admission('$secret', 0)");
}

foreach my $case (
	[ '2026-11-30 23:59:50', '1 day', 'NULL', '2026-12-01 00:00:00' ],
	[ '2026-12-01 00:00:10', '1 day', 'NULL', '2026-12-02 00:00:00' ],
	[ '2026-12-31 12:00:00', '1 day', 'NULL', '2027-01-01 00:00:00' ],
	[ '2026-12-31 12:00:00', '1 month', 'NULL', '2027-01-01 00:00:00' ],
	[ '2026-12-31 12:00:00', '1 month', 15, '2027-01-15 00:00:00' ],
	[ '2027-01-14 23:59:50', '1 month', 15, '2027-01-15 00:00:00' ],
	[ '2027-01-15 00:00:10', '1 month', 15, '2027-02-15 00:00:00' ],
	[ '2027-02-28 00:00:10', '1 month', 28, '2027-03-28 00:00:00' ],
	[ '2027-02-27 23:59:50', '1 month', 28, '2027-02-28 00:00:00' ],
	[ '2028-02-29 12:00:00', '1 day', 'NULL', '2028-03-01 00:00:00' ],
	[ '2028-02-29 12:00:00', '1 month', 'NULL', '2028-03-01 00:00:00' ],
	[ '1999-12-31 12:00:00', '1 day', 'NULL', '2000-01-01 00:00:00' ],
	[ '1999-12-31 12:00:00', '1 month', 28, '2000-01-28 00:00:00' ])
{
	my ($time, $period, $anchor, $end) = @$case;

	is(period_of($time, $period, $anchor), $end, "$time: $period from $anchor");
}
set_time('2027-03-20 12:00:00');
quota($node, 'key', $key, 'period', 3, '1 month');
is(outcome($node, $secret), 'admitted period 2', 'a month from the first');
quota($node, 'key', $key, 'period', 3, '1 month', 'NULL, anchor => 15');
is(outcome($node, $secret, 3), 'admitted period 0', 'another anchor is another period');
quota($node, 'key', $key, 'period', 3, '1 month');
is(outcome($node, $secret, 0), 'admitted period 2', 'and back again');
drop($node, 'key', $key, 'period');

# -- A clock that steps back --

set_time('2027-04-01 12:00:00');
quota($node, 'key', $key, 'stepped', 5, '1 day');
is(admitted($node, $secret, 4), 4, 'the first day');
set_time('2027-04-02 12:00:00');
is(admitted($node, $secret, 9), 5, 'the second day');
foreach my $how ('as it is', 'written', 'after a restart')
{
	flush_usage($node) if $how eq 'written';
	again($node, 'restart') if $how eq 'after a restart';
	set_time('2027-04-01 12:00:00');
	is(left($node, $secret), $how eq 'as it is' ? 1 : 0, "back on the first day: only what was left, $how");
	is(admitted($node, $secret, 9), $how eq 'as it is' ? 1 : 0, "and no more, $how");
	set_time('2027-04-02 12:00:00');
	is(outcome($node, $secret), 'quota_exceeded stepped 0', "on the second day again: nothing, $how");
}
drop($node, 'key', $key, 'stepped');

# -- Many sessions, and a period that ends --

ask($node, 'CREATE TABLE answers (at timestamptz, admitted bigint)');
quota($node, 'org', $org, 'busy', 3000, '1 day', "NULL, 'org'");
set_time('2027-05-01 12:00:00');
my @loads = map {
	my $who = $_;
	start_pgbench($node, "busy$who",
		"INSERT INTO answers SELECT clock_timestamp(), count(*) FROM generate_series(1, 10) n, LATERAL overten_admit('$who', 1 + n * 0) HAVING count(*) > 0;\n",
		'-T', 600, '-c', 3)
} $secret, $sibling;
my $flusher = start_pgbench($node, 'flusher', "SELECT overten_flush_usage();\n", '-T', 600);
my $wait_for_answers = sub {
	my ($count) = @_;

	$node->poll_query_until('postgres', "SELECT sum(admitted) >= $count FROM answers") or die 'the load does not go on';
	return;
};
$wait_for_answers->(1000);
foreach my $step (1 .. 20)
{
	set_time($step % 2 ? '2027-05-01 23:59:59' : '2027-05-01 12:00:00');
	set_time('2027-05-02 00:00:01');
	set_time('2027-05-01 12:00:00');
	Time::HiRes::usleep(20_000);
}
set_time('2027-05-01 23:59:58');
$wait_for_answers->(6000);
my $refusals = ask($node, 'SELECT limited FROM overten_stat');
$node->poll_query_until('postgres', "SELECT limited > $refusals + 500 FROM overten_stat");
ask($node, "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()");
$_->{run}->finish foreach @loads, $flusher;
flush_usage($node);
# An answer that was not noted has consumed its cost.
cmp_ok(ask($node, 'SELECT sum(admitted) FROM answers'), '<=', 6000, 'two days admit two quotas');
cmp_ok(ask($node, 'SELECT sum(admitted) FROM answers'), '>', 5900, 'and not less');
is(ask($node, "SELECT string_agg(units::text, ' ' ORDER BY period_start) FROM overten_auth.quota_usage WHERE period_start BETWEEN '2027-04-30 12:00+00' AND '2027-05-03+00'"),
	'3000 3000', 'each day has its own, and all was written');
drop($node, 'org', $org, 'busy');

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

{
	my ($late, $late_key) = mint($node, $unlucky);

	quota($node, 'key', $late_key, 'rewritten', 10, '1 day');
	is(admitted($node, $late, 4), 4, 'used before a restart');
	again($node, 'restart');
	my $altering = $node->background_psql('postgres');
	ask($altering, 'BEGIN; ALTER TABLE overten_auth.quota_usage ALTER org_id TYPE varchar');
	my $reader = start_sql("SELECT count(*) FROM overten_admit('$late')");
	$node->poll_query_until('postgres', "SELECT count(*) = 1 FROM pg_locks WHERE NOT granted AND relation = 'overten_auth.quota_usage'::regclass")
	  or die 'nobody waits';
	ask($altering, 'COMMIT');
	$altering->quit;
	is(finish_sql($reader), 1, 'a session that waited for ALTER TABLE');
	is(left($node, $late), 5, 'has read the rows that it wrote');
	ask($node, 'ALTER TABLE overten_auth.quota_usage ALTER org_id TYPE text COLLATE "C"');
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
drop($node, 'org', $unlucky, 'kept');
quota($node, 'key', $lasting_key, 'lasting', 100, '1 month');
is(admitted($node, $lasting, 10), 10, 'before a restart');
again($node, 'restart');
is(left($node, $lasting), 90, 'a restart forgets nothing');
is(admitted($node, $lasting, 5), 5, 'before a crash');
flush_usage($node);
is(admitted($node, $lasting, 7), 7, 'since the last flush');
again($node, 'stop', 'immediate');
again($node, 'start');
is(left($node, $lasting), 85, 'a crash forgets what came since the last flush, and no more');
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

use_crowd() foreach 1 .. 9;
flush_usage($node);
is(ask($node, "SELECT count(*), min(units), max(units) FROM overten_auth.quota_usage WHERE org_id = '$crowd'"),
	'40|7|7', 'with many more keys than buckets, each has its quota, and no more');
is(ask($node, 'SELECT limit_buckets_used FROM overten_stat'), 8, 'all buckets are in use');

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
