
# The history of keys is exact: every use is in it once, whoever made it, while
# flushes run, refused attempts are told from uses, and keys that are not committed
# are kept back.  pg_regress has no background workers.

use strict;
use warnings FATAL => 'all';

use FindBin;
use lib $FindBin::RealBin;
use OvertenTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use UsageTest;

my $node = create_node(
	'usage', <<'EOC');
shared_preload_libraries = 'overten_auth'
overten_auth.databases = 'postgres'
overten_auth.flush_interval = 1h
overten_auth.max_tracked_keys = 20000
EOC
my $org = create_org($node, 'Counted');
my $owner = $node->background_psql('postgres');
$owner->set_query_timer_restart;
ask($owner, REQUEST_FUNCTIONS);

is(ask($node, 'SELECT usage_mode FROM overten_status()'),
	'shared memory', 'uses are counted in shared memory');


# Verifying takes no transaction id, so it writes nothing.
my ($noted) = mint($node, $org);
is(ask($node, "BEGIN; SELECT count(*) FROM overten_verify_key('$_->[1]'); SELECT pg_current_xact_id_if_assigned() IS NULL; COMMIT"),
	"$_->[2]\nt", "$_->[0] is verified without writing")
  foreach [ 'a key', $noted, 1 ], [ 'a known key', $noted, 1 ], [ 'a bad key', 'sk_live_' . '0' x 28, 0 ], [ 'no key', 'x', 0 ];


# Every way to verify, while flushes run all the time.

ask($owner, <<'EOQ');
CREATE FUNCTION verify_and_fail(secret text) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
	PERFORM overten_verify_key(secret);
	RAISE EXCEPTION 'undone';
EXCEPTION WHEN raise_exception THEN
	PERFORM overten_verify_key(secret);
END
$$;
EOQ
my @ways = (
	[ plain => 1, 'SELECT key_id FROM overten_verify_key(:secret);' ],
	[
		digest => 1,
		'SELECT overten_verify_key_digest(sha256((:secret)::bytea));'
	],
	[
		'read only' => 1,
		'BEGIN READ ONLY; SELECT overten_verify_key(:secret); COMMIT;'
	],
	[
		'rolled back' => 2,
		'BEGIN; SELECT overten_verify_key(:secret); SAVEPOINT s;
		 SELECT overten_verify_key(:secret); ROLLBACK TO s; ROLLBACK;'
	],
	[
		'repeatable read' => 1,
		'BEGIN ISOLATION LEVEL REPEATABLE READ;
		 SELECT overten_verify_key(:secret); COMMIT;'
	],
	[
		serializable => 1,
		'BEGIN ISOLATION LEVEL SERIALIZABLE;
		 SELECT overten_verify_key(:secret); COMMIT;'
	],
	[
		pipelined => 3,
		"\\startpipeline\n" . "SELECT overten_verify_key(:secret);\n" x 3
		  . "\\endpipeline\n"
	],
	[ exception => 2, 'SELECT verify_and_fail(:secret);' ],
	[
		'rows of one statement' => 5,
		'SELECT overten_verify_key((:secret)::text) FROM generate_series(1, 5);'
	],
	[
		'joined to rows' => 3,
		'SELECT key_id FROM generate_series(1, 3) n, overten_verify_key((:secret)::text || left(n::text, 0));'
	],
	[
		'in a condition of rows' => 1,
		'SELECT n FROM generate_series(1, 3) n WHERE EXISTS (SELECT FROM overten_verify_key(:secret));'
	],
	[
		'beside rows of another function' => 1,
		'SELECT overten_verify_key(:secret), generate_series(1, 3);'
	],
	[
		'with all columns in the select list' => 1,
		'SELECT (overten_verify_key(:secret)).*;'
	],
	[
		'with its row left out' => 1,
		'SELECT key_id FROM overten_verify_key(:secret) OFFSET 1;'
	],
	[
		'HTTP' => 1,
		"SELECT request(:secret, '{\"x-overten-client-addr\": \"192.0.2.1\"}');"
	]);
my $clients = 6;
my $rounds = 50;
my @variables;
my @keys;
my $script = '';
foreach my $way (@ways)
{
	my ($secret, $key) = mint($owner, $org);
	my $n = push @keys, $key;

	push @variables, '-D', "secret$n=$secret";
	$script .= $way->[2] =~ s/:secret/:secret$n/gr . "\n";
}

configure($node, 'overten_auth.flush_interval', '1');
my $flushes = stat_of($owner, 'flushes');
my $load = start_pgbench($node, 'ways', $script, '-M', 'prepared', '-c', $clients,
	'-j', 2, '-t', $rounds, @variables);
my $flusher = $node->background_psql('postgres');
my $asked = 0;
while ($load->{run}->pumpable)
{
	flush_usage($flusher);
	$asked++;
	# Raises if the process has just ended; finish() says how it did.
	eval { $load->{run}->pump_nb };
}
ok($load->{run}->finish, 'keys are verified in all ways');
flush_usage($flusher);
$flusher->quit;
cmp_ok(stat_of($owner, 'flushes') - $flushes,
	'>', 2, "while flushes ran ($asked were asked for)");
my @uses = split /\n/, uses($owner, @keys);
is($uses[$_], $clients * $rounds * $ways[$_]->[1],
	"exact: $ways[$_]->[0]")
  foreach 0 .. $#ways;
is(stat_of($owner, 'entries_used'), 0, 'all counters have been given back');
configure($node, 'overten_auth.flush_interval', '1h');

# Times
my ($secret, $key) = mint($owner, $org);
my $last_used = "SELECT last_used_at FROM overten_list_keys('$org')
	WHERE key_id = '$key'";
is(ask($owner, $last_used), '', 'a new key has not been used');
my $before = ask($owner, 'SELECT clock_timestamp()');
verify($owner, $secret);
my $between = ask($owner, 'SELECT clock_timestamp()');
verify($owner, $secret);
my $after = ask($owner, 'SELECT clock_timestamp()');
ok( ask($owner,
		"SELECT ($last_used) BETWEEN '$between' AND '$after'") eq 't',
	'last_used_at is that of the last use before a flush');
flush_usage($owner);
is( ask(
		$owner,
		"SELECT count(*) FROM overten_auth.key_usage
		 WHERE key_id = '$key' AND first_used_at >= '$before'
		 AND last_used_at <= '$after' AND last_used_at >= first_used_at
		 AND date_trunc('hour', first_used_at, 'UTC') = hour
		 AND last_used_at < hour + interval '1 hour'
		 AND accepted = 2 AND refused = 0")
	  || ask(
		$owner,
		"SELECT count(*) - 1 FROM overten_auth.key_usage
		 WHERE key_id = '$key'"),
	1,
	'the times of its first and last use are right');
ok( ask($owner,
		"SELECT ($last_used) BETWEEN '$between' AND '$after'") eq 't',
	'and after it');
ask($owner,
	"UPDATE overten_auth.key_last_used SET last_used_at = '2999-01-01Z'
	 WHERE key_id = '$key'");
verify($owner, $secret);
flush_usage($owner);
is( ask($owner, "SELECT ($last_used) = '2999-01-01Z'"),
	't', 'last_used_at is moved forward only');
is(uses($owner, $key), 3, 'and the use is in the history');


# Refused

my ($revoked, $revoked_key) = mint($owner, $org);
verify($owner, $revoked) foreach 1 .. 2;
ask($owner, "SELECT overten_revoke_key('$org', '$revoked_key')");
verify($owner, $revoked) foreach 1 .. 3;
is(ask($owner, "SELECT request('$revoked', '{}')"),
	401, 'a revoked key over HTTP');
flush_usage($owner);
is(uses($owner, $revoked_key), '2|4', 'attempts with a revoked key are counted');
is( ask(
		$owner,
		"SELECT last_used_at < revoked_at FROM overten_list_keys('$org')
		 WHERE key_id = '$revoked_key'"),
	't',
	'and are no uses');

my $suspended = create_org($owner, 'Suspended');
my ($suspended_secret, $suspended_key) = mint($owner, $suspended);
ask($owner, "SELECT overten_set_api_access('$suspended', false)");
my $rows = "SELECT count(*), sum(accepted + refused) FROM overten_auth.key_usage";
my $history = ask($owner, $rows);
my $refused = stat_of($owner, 'refused');
is(verify($owner, $_), '', 'refused')
  foreach $suspended_secret, 'sk_live_' . 'x' x 28, 'sk_live_', '';
flush_usage($owner);
is(stat_of($owner, 'refused'), $refused + 4, 'other refusals are counted');
is(ask($owner, $rows), $history, 'and leave nothing in the history');

# More entries than one transaction of a flush takes
ask($owner, <<"EOQ");
CREATE TABLE many AS
	SELECT m.* FROM generate_series(1, 200) n, overten_mint_key('$org', 'many ' || n) m;
EOQ
my $requests = 'SELECT sum(request_from(secret, host(a))) / 200
	FROM many, generate_series(1, 60) n, LATERAL (SELECT \'10.1.0.0\'::inet + n) i (a)';
within_an_hour(
	$owner,
	sub {
		ask($owner, 'DELETE FROM overten_auth.key_usage');
		is(ask($owner, $requests), 12_000, 'many keys from many addresses');
		is(stat_of($owner, 'entries_used'), 12_000, 'each pair is counted');
		flush_usage($owner);
		is(ask($owner, $requests), 12_000, 'and again');
		flush_usage($owner);
	});
is( ask(
		$owner,
		'SELECT count(*), min(accepted), max(accepted) FROM overten_auth.key_usage'
	),
	'12000|2|2',
	'in several transactions all are written');


# Keys that are not committed

my $minter = $node->background_psql('postgres');
ask($minter, 'BEGIN');
($secret, $key) = mint($minter, $org);
verify($minter, $secret) foreach 1 .. 3;
flush_usage($owner);
is(uses($owner, $key), 0, 'what a transaction mints is not flushed');
cmp_ok(stat_of($owner, 'entries_used'), '>', 0, 'but kept');
ask($minter, 'COMMIT');
verify($owner, $secret);
flush_usage($owner);
is(uses($owner, $key), 4, 'and arrives when it has committed');
is(stat_of($owner, 'entries_used'), 0, 'then nothing is kept');

ask($minter, 'BEGIN');
($secret, $key) = mint($minter, $org);
verify($minter, $secret) foreach 1 .. 3;
ask($minter, 'ROLLBACK');
$minter->quit;
my ($other, $other_key) = mint($owner, $org);
verify($owner, $other);
my $log_start = -s $node->logfile;
flush_usage($owner);
is(uses($owner, $key, $other_key),
	"0\n1", 'what was rolled back is not flushed, the rest is');
is(stat_of($owner, 'entries_used'), 1,
	'it is kept for 5 minutes, as its transaction might go on');
unlike(slurp_file($node->logfile, $log_start),
	qr/ERROR|WARNING/, 'nothing complains about it');

$owner->quit;
$node->stop;
done_testing();
