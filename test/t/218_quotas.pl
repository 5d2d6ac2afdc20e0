
# What a quota grants and refuses: what changes, several limits, charging, periods, a
# clock that steps back, and many sessions.  pg_regress cannot set the clock.  What is
# kept is tested in 219_quotas_kept.pl.

use strict;
use warnings FATAL => 'all';

use FindBin;
use lib $FindBin::RealBin;
use OvertenTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use QuotaTest;
use Test::More;
use Time::HiRes ();
use UsageTest;

set_time('2026-11-29 12:00:00');
my $node = create_clocked('quotas', "overten_auth.max_limit_buckets = 1000\nmax_prepared_transactions = 5");
ask($node, "INSERT INTO overten_auth.tiers VALUES ('pro')");
my $org = create_org($node, 'Limited');
my ($secret, $key) = mint($node, $org);
my ($sibling, $sibling_key) = mint($node, $org);


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
drop_quota($node, 'org', $org, 'daily');
drop_quota($node, 'key', $sibling_key, 'daily');
quota($node, 'tier', 'pro', 'daily', 30, '1 day');
ask($node, "SELECT overten_set_tier('$org', 'pro')");
is(outcome($session, $sibling, 0), 'admitted daily 27', 'one of another tier');
drop_quota($node, 'tier', 'pro', 'daily');
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
drop_quota($node, 'tier', 'pro', 'daily');
drop_quota($node, 'tier', 'free', 'daily');
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
drop_quota($node, 'key', $key, 'whole');

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
drop_quota($node, 'key', $key, 'charged');

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
drop_quota($node, 'key', $key, 'period');

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
drop_quota($node, 'key', $key, 'stepped');

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
drop_quota($node, 'org', $org, 'busy');

$node->stop;
done_testing();
