
# Rate limits where they are counted: a preloaded library, restarts, a standby,
# several sessions and settings, which pg_regress does not have.  217_limits_model.pl
# checks the bound itself.

use strict;
use warnings FATAL => 'all';

use FindBin;
use lib $FindBin::RealBin;
use OvertenTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = create_node('limited', <<'EOC', allows_streaming => 1);
shared_preload_libraries = 'overten_auth'
overten_auth.databases = 'postgres'
overten_auth.flush_interval = 1h
overten_auth.max_limit_buckets = 80
EOC
$node->safe_psql('postgres', 'CREATE DATABASE unlisted');
$node->safe_psql('unlisted', 'CREATE EXTENSION overten_auth CASCADE');
ask($node, "INSERT INTO overten_auth.tiers VALUES ('pro')");

# The outcome of a request, and what is left.
sub outcome
{
	my ($where, $secret, $arguments) = @_;

	return ask($where,
		"SELECT concat_ws(' ', outcome, limit_name, remaining) FROM overten_admission('$secret'"
		  . (defined $arguments ? ", $arguments" : '') . ')');
}

# How many of so many requests in one statement are admitted.
sub admitted
{
	my ($where, $secret, $requests, $cost) = @_;

	$cost //= 1;
	return ask($where,
		"SELECT count(*) FROM generate_series(1, $requests) n, LATERAL overten_admit('$secret', $cost + n * 0)");
}

# Limits so slow that nothing is repaid during the test.
sub limit
{
	my ($where, $scope, $subject, $name, $quota, $more) = @_;

	return ask($where,
		"SELECT overten_set_limit('$scope', '$subject', '$name', $quota, '12 hours'"
		  . (defined $more ? ", $more" : '') . ')');
}

my $org = create_org($node, 'Limited');
my ($secret, $key) = mint($node, $org);
my ($sibling, $sibling_key) = mint($node, $org);

# -- One limit --

limit($node, 'tier', 'free', 'a', 5);
is(outcome($node, $secret), 'admitted a 4', 'the first request');
is(outcome($node, $secret, 'cost => 0'), 'admitted a 4', 'a cost of 0 only asks');
is(outcome($node, $secret, 'cost => 5'), 'rate_limited a 4', 'too much');
is(outcome($node, $secret, 'cost => 6'), 'rate_limited a 4', 'more than the burst');
is(ask($node, "SELECT retry_after IS NULL FROM overten_admission('$secret', 6)"),
	't', 'which can never be admitted');
is( ask($node,
		"SELECT retry_after BETWEEN '02:23:00' AND '02:24:00', reset_after BETWEEN '02:23:00' AND '02:24:00', quota FROM overten_admission('$secret', 5)"
	),
	't|t|5',
	'when it can be admitted, and when the bucket is full');
is(admitted($node, $secret, 10), 4, 'the rest of the burst');
is(outcome($node, $secret), 'rate_limited a 0', 'nothing is left');
is(outcome($node, $sibling), 'admitted a 4', 'another key has a bucket of its own');
ok(is_accepted($node, $secret), 'verification is not limited');
is(ask($node, "SELECT count(*) FROM overten_admit('$secret')"), 0, 'no row');

# What was consumed stays consumed.
is( ask($node, "BEGIN READ ONLY; SELECT count(*) FROM overten_admit('$sibling'); ROLLBACK"),
	1, 'in a read-only transaction, which rolls back');
is(outcome($node, $sibling, 'cost => 0'), 'admitted a 3', 'it was consumed');
is( ask($node,
		"BEGIN ISOLATION LEVEL SERIALIZABLE; SAVEPOINT s; SELECT count(*) FROM overten_admit('$sibling'); ROLLBACK TO s; COMMIT"
	),
	1, 'in a savepoint that is rolled back');
is(outcome($node, $sibling, 'cost => 0'), 'admitted a 2', 'it was consumed');

# Uses count once, and only those that are admitted.  What a limit refuses is counted
# beside them, before a flush and after it, in all that shows the history.
sub history
{
	my ($key_id) = @_;
	my $sums = "concat_ws(' ', sum(accepted), sum(refused), sum(limited))";
	my $day = "now() - interval '1 day', now() + interval '1 day'";

	return ask($node, "SELECT concat_ws(', ', (SELECT $sums FROM overten_key_usage('$org', '$key_id')),
		(SELECT $sums FROM overten_org_usage('$org', $day) WHERE key_id = '$key_id'), (SELECT $sums FROM overten_auth.key_usage WHERE key_id = '$key_id'))");
}

my ($sums, $sums_of_sibling) = ('7 0 12', '5 0 0');
is(history($key), "$sums, $sums, ", 'uses, attempts, and what a limit has refused');
is(history($sibling_key), "$sums_of_sibling, $sums_of_sibling, ", 'of the other key');
flush_usage($node);
is(history($key), "$sums, $sums, $sums", 'the same after a flush');
is(history($sibling_key), join(', ', ($sums_of_sibling) x 3), 'of the other key');
is(outcome($node, $secret), 'rate_limited a 0', 'once more');
is(history($key), '7 0 13, 7 0 13, 7 0 12', 'in memory and in the table');
flush_usage($node);
is(history($key), join(', ', ('7 0 13') x 3), 'and added up there');

# -- A change is in force when it has committed --

my $session = $node->background_psql('postgres');
is(outcome($session, $secret), 'rate_limited a 0', 'a session that has it cached');
limit($node, 'tier', 'free', 'a', 6);
is(outcome($session, $secret), 'admitted a 5', 'a limit that changes is a new bucket');
limit($node, 'tier', 'free', 'a', 5);
is(outcome($session, $secret), 'rate_limited a 0', 'and back again');
ask($node, "SELECT overten_drop_limit('tier', 'free', 'a')");
is(outcome($session, $secret), 'admitted', 'dropped');
limit($node, 'tier', 'free', 'a', 5);
is(outcome($session, $secret), 'rate_limited a 0', 'set again: the same bucket');
limit($node, 'org', $org, 'a', 50);
is(outcome($session, $secret), 'admitted a 49', 'the org has its own');
limit($node, 'key', $key, 'a', 40);
is(outcome($session, $secret), 'admitted a 39', 'the key has its own');
is(outcome($session, $sibling), 'admitted a 49', 'its sibling has that of the org');
ask($session, 'BEGIN');
limit($session, 'key', $key, 'a', 30);
is(outcome($session, $secret), 'admitted a 29', 'the own change counts at once');
is(outcome($node, $secret), 'admitted a 38', 'to others it does not');
ask($session, 'ROLLBACK');
is(outcome($session, $secret), 'admitted a 37', 'rolled back');
ask($node, "BEGIN; SELECT overten_drop_limit('key', '$key', 'a'); SELECT overten_drop_limit('org', '$org', 'a'); COMMIT");
is(outcome($session, $secret), 'rate_limited a 0', 'both dropped');
ask($node, "SELECT overten_set_tier('$org', 'pro')");
is(outcome($session, $secret), 'admitted', 'another tier');
ask($node, "SELECT overten_set_tier('$org', 'free')");
is(outcome($session, $secret), 'rate_limited a 0', 'the old tier');
limit($node, 'tier', 'free', 'a', 5, 'shadow => true');
is(outcome($session, $secret), 'admitted', 'a shadow refuses nothing');
is(ask($node, "SELECT shadow_limited > 0 AND limited > 0 FROM overten_stat"), 't', 'but is counted');
is( ask($node,
		"SELECT limit_name, shadow, remaining, refusals > 0 FROM overten_limit_status('$org') WHERE key_id = '$key'"
	),
	'a|t|0|t',
	'and shown');

# -- Several limits: all or nothing --

my ($many, $many_key) = mint($node, $org);
ask($node, "SELECT overten_drop_limit('tier', 'free', 'a')");
limit($node, 'tier', 'free', 'a', 10);
limit($node, 'org', $org, 'b', 20, q(per => 'org'));
limit($node, 'key', $many_key, 'c', 3);
is(outcome($node, $many), 'admitted c 2', 'the limit with the least left');
is(outcome($node, $many, 3), 'rate_limited c 2', 'one refuses');
is(ask($node, "SELECT string_agg(limit_name || remaining, ' ' ORDER BY limit_name) FROM overten_limit_status('$org') WHERE key_id = '$many_key' OR key_id IS NULL"),
	'a9 b19 c2', 'then nothing is taken from the others');
is(admitted($node, $many, 10), 2, 'what is left');
my ($fresh, $fresh_key) = mint($node, $org);
is(outcome($node, $fresh, 10), 'admitted a 0', 'a sibling');
is(outcome($node, $fresh, 1), 'rate_limited a 0', 'whose own limit is used up');
my ($last, $last_key) = mint($node, $org);
is(outcome($node, $last, 8), 'rate_limited b 7', 'the shared limit refuses');
is(outcome($node, $last, 7), 'admitted b 0', 'and admits what is left');

# -- Rotation: one bucket for the line --

my ($next, $next_key) = split /\|/,
  ask($node, "SELECT secret, key_id FROM overten_rotate_key('$org', '$many_key')");
is(outcome($node, $next, 0), 'admitted c 0', 'the new key is limited');
ask($node, "SELECT overten_drop_limit('org', '$org', 'b')");
is(outcome($node, $next), 'rate_limited c 0', 'by the limit and the bucket of the old one');
is(ask($node, "SELECT string_agg(concat_ws(' ', key_id = '$next_key', accepted, refused, limited), ', ' ORDER BY is_new) FROM overten_rotation_progress('$org', '$next_key')"),
	'f 0 0 0, t 1 0 1', 'which the progress of the rotation shows');

# -- Charging --

limit($node, 'key', $fresh_key, 'c', 100);
limit($node, 'key', $fresh_key, 'a', 1000);
is(outcome($node, $fresh, 1), 'admitted c 99', 'before the work');
ask($node, "SELECT overten_charge('$fresh_key', 150)");
is(outcome($node, $fresh, 1), 'rate_limited c 0', 'it was more than was left');
is(outcome($node, $fresh, 0), 'rate_limited c 0', 'in debt not even a cost of 0');
is(ask($node, "SELECT reset_after BETWEEN '18:06:00' AND '18:08:00' FROM overten_admission('$fresh')"),
	't', 'the debt is repaid in time');
ask($node, "SELECT overten_charge('$fresh_key', 1000000000) FROM generate_series(1, 1000)");
is(outcome($node, $fresh, 1), 'rate_limited c 0', 'a debt beyond all measure');
is(ask($node, "SELECT reset_after > '1 day' FROM overten_admission('$fresh')"), 't', 'which does not overflow');
ask($node, "BEGIN; SELECT overten_charge('$last_key', 1); ROLLBACK");
is(outcome($node, $last, 0), 'admitted a 2', 'a charge stays when the transaction rolls back');

# -- Part of a limit --

ask($node, "SELECT overten_set_limit('key', '$last_key', 'a', 101, '12 hours')");
$node->append_conf('postgresql.conf', 'overten_auth.limit_share = 0.5');
$node->reload;
$node->poll_query_until('postgres', "SELECT current_setting('overten_auth.limit_share') = '0.5'");
is(admitted($node, $last, 101), 50, 'half of the burst, rounded down');
is(ask($node, "SELECT retry_after BETWEEN '00:14:10' AND '00:14:20' FROM overten_admission('$last')"),
	't', 'at half of the rate');
$node->append_conf('postgresql.conf', 'overten_auth.limit_share = 1');
$node->reload;
$node->poll_query_until('postgres', "SELECT current_setting('overten_auth.limit_share') = '1'");

# -- Not enough memory --

# Idle buckets make room; others do not.
ask($node, "SELECT overten_drop_limit('tier', 'free', 'a')");
ask($node, "SELECT overten_set_limit('tier', 'pro', 'fast', 1000000, '1 second', 1000)");
ask($node, "SELECT overten_set_limit('tier', 'free', 'slow', 5, '12 hours')");
my $crowd = create_org($node, 'Crowd');
ask($node, "CREATE TABLE crowd AS SELECT n, m.* FROM generate_series(1, 200) n, LATERAL (SELECT secret FROM overten_mint_key('$crowd', 'n' || n)) m");
ask($node, "SELECT overten_set_tier('$crowd', 'pro')");
is(ask($node, "SELECT count(*) FROM crowd, LATERAL overten_admit(secret)"), 200,
	'more keys than buckets, which are soon idle');
ask($node, "SELECT overten_set_tier('$crowd', 'free')");
my $log = -s $node->logfile;
is(sqlstate_of($node, "SELECT count(*) FROM crowd, LATERAL overten_admit(secret)"), '55000',
	'more keys than buckets');
my $served = ask($node, "SELECT used FROM (SELECT limit_buckets_used AS used FROM overten_stat) s");
is($served, 80, 'all buckets are in use');
is(sqlstate_of($node, "SELECT count(*) FROM crowd, LATERAL overten_admit(secret)"), '55000', 'again');
like(slurp_file($node->logfile, $log), qr/no memory left to limit the requests of further keys/, 'it is logged');
my @messages = slurp_file($node->logfile, $log) =~ /no memory left to limit/g;
is(scalar @messages, 1, 'once');
is(outcome($node, (split /\n/, ask($node, "SELECT secret FROM crowd ORDER BY n LIMIT 1"))[0]), 'admitted slow 2',
	'a key that has a bucket is served');
$node->append_conf('postgresql.conf', 'overten_auth.limits_full = admit');
$node->reload;
$node->poll_query_until('postgres', "SELECT current_setting('overten_auth.limits_full') = 'admit'");
is(ask($node, "SELECT count(*) FROM crowd, LATERAL overten_admit(secret)"), 200, 'all are admitted if that is wanted');
is(ask($node, "SELECT out_of_limit_buckets > 100 FROM overten_stat"), 't', 'and counted');

# -- Where limits are not counted --

my $unlisted = [ $node, 'unlisted' ];
my $there = create_org($unlisted, 'Unlisted');
my ($there_secret) = mint($unlisted, $there);
is(outcome($unlisted, $there_secret), 'admitted', 'a key without limits');
limit($unlisted, 'tier', 'free', 'a', 5);
is(sqlstate_of($unlisted, "SELECT * FROM overten_admit('$there_secret')"), '55000',
	'never silently unlimited');
ok(is_accepted($unlisted, $there_secret), 'verification goes on');

# -- A restart --

$session->quit;
$node->restart;
ask($node, "SELECT overten_drop_limit('tier', 'free', 'slow')");
limit($node, 'key', $key, 'd', 3);
is(admitted($node, $secret, 10), 3, 'used up');
$node->restart;
is(outcome($node, $secret), 'admitted d 2', 'a restart costs a burst');

# -- A standby counts for itself --

$node->backup('b');
my $standby = PostgreSQL::Test::Cluster->new('standby');
$standby->init_from_backup($node, 'b', has_streaming => 1);
chmod 0600, $standby->data_dir . '/overten_auth.key' or die "chmod: $!";
$standby->append_conf('postgresql.conf', 'overten_auth.verify_on_standby = on');
$standby->start;
is(outcome($standby, $secret), 'admitted d 2', 'on a standby');
is(admitted($standby, $secret, 10), 2, 'which has buckets of its own');
my $on_standby = $standby->background_psql('postgres');
is(outcome($on_standby, $secret), 'rate_limited d 0', 'used up there');
limit($node, 'key', $key, 'd', 4);
$node->wait_for_catchup($standby, 'replay');
is(outcome($on_standby, $secret), 'admitted d 3', 'a change is replayed');
ask($standby, "SELECT overten_charge('$key', 3)");
is(outcome($on_standby, $secret), 'rate_limited d 0', 'charged on the standby');
$on_standby->quit;
$standby->stop;

$node->stop;
done_testing();
