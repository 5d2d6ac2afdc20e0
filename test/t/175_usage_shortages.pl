
# Where there is no place for a worker, or no memory to count further keys in, keys
# are verified all the same, what is not attributed is counted, and nothing else is
# lost.  pg_regress cannot start its server anew.

use strict;
use warnings FATAL => 'all';

use FindBin;
use lib $FindBin::RealBin;
use OvertenTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use UsageTest;

my $clients = 4;

# Two others take the places that there are: PostgreSQL's launcher, and ours.
my $node = create_node(
	'shortage', <<'EOC');
shared_preload_libraries = 'overten_auth'
overten_auth.databases = 'postgres'
overten_auth.flush_interval = 1h
max_worker_processes = 2
EOC
my $org = create_org($node, 'Lasting');
my ($secret, $key) = mint($node, $org);
my $expected = 0;


# No place for a worker

is(verify($node, $secret), $key, 'keys are verified without a worker');
is(ask($node, 'SELECT usage_worker FROM overten_status()'),
	'none', 'the state tells that there is none');
is( sqlstate_of(
		$node, "SET statement_timeout = '200ms'; SELECT overten_flush_usage()"),
	'57014',
	'waiting for a flush can be cancelled');
my @no_place = slurp_file($node->logfile) =~
  /no free background worker slot to flush usage of database "postgres"/g;
is(@no_place, 1, 'the log tells so once');
$node->append_conf('postgresql.conf', "max_worker_processes = 8\noverten_auth.max_tracked_keys = 4");
$node->restart;
is(verify($node, $secret), $key, 'with a place for it keys are verified');
flush_usage($node);
is(uses($node, $key), $expected + 1, 'and uses are flushed');


# No memory

my $log_start = -s $node->logfile;
my @keys = ask($node, <<"EOQ");
SELECT string_agg(m.key_id, ','), count(v.key_id)
FROM (SELECT secret, key_id FROM generate_series(1, 10) i, overten_mint_key('$org', 'key ' || i)) m
LEFT JOIN LATERAL overten_verify_key(secret) v ON true
EOQ
my ($minted, $accepted) = split /\|/, $keys[0];
is($accepted, 10, 'more keys than can be counted are verified');
is( ask(
		$node, 'SELECT entries_used, entries_free, not_attributed FROM overten_stat'),
	'4|0|6',
	'what cannot be attributed is counted');
flush_usage($node);
is( ask(
		$node,
		"SELECT sum(accepted) FROM overten_auth.key_usage
		 WHERE key_id = ANY ('{$minted}')"),
	4,
	'the others are in the history');
verify($node, $secret);
flush_usage($node);
is(uses($node, $key), $expected + 2, 'as what is used after the flush');

# Entries are taken, emptied and given back all the time.
ask($node, <<"EOQ");
CREATE TABLE ten AS
	SELECT i, secret FROM generate_series(1, 10) i, overten_mint_key('$org', 'key ' || i) m;
EOQ
my $total = 'SELECT sum(accepted) FROM overten_auth.key_usage';
my $before = ask($node, "SELECT ($total) + not_attributed - accepted FROM overten_stat");
my $load = start_pgbench($node, 'ten', <<'EOQ', '-c', $clients, '-T', 3);
\set i random(1, 10)
\set n random(1, 20)
SELECT key_id, status FROM ten, overten_verify_key(secret), overten_handle_request('GET', '/api/v1/verify',
	json_build_object('authorization', 'Bearer ' || secret, 'x-overten-client-addr', '10.0.0.' || :n), NULL)
WHERE i = :i;
EOQ
my $flusher = $node->background_psql('postgres');
my $flushes = 0;
while ($load->{run}->pumpable)
{
	flush_usage($flusher);
	$flushes++;
	# Raises if the process has just ended; finish() says how it did.
	eval { $load->{run}->pump_nb };
}
$flusher->quit;
cmp_ok(processed($load), '>', 100, "many keys compete for it during $flushes flushes");
flush_usage($node);
cmp_ok(ask($node, 'SELECT not_attributed FROM overten_stat'),
	'>', 100, 'many uses cannot be attributed');
is( ask($node, "SELECT ($total) + not_attributed - accepted FROM overten_stat"),
	$before, 'every use is in the history, or counted as one that is not');
is(ask($node, 'SELECT entries_used, entries_free FROM overten_stat'),
	'0|4', 'no entry is lost');
my $log = slurp_file($node->logfile, $log_start);
is(() = $log =~ /LOG:  no memory left to count the uses of further keys of database "postgres"/g,
	1, 'the log tells once');
like($log,
	qr/HINT:  Raise overten_auth\.max_tracked_keys, now 4\./,
	'and what to do');

# One key from many places leaves room for others.
$node->append_conf('postgresql.conf', 'overten_auth.max_tracked_keys = 20');
$node->restart;
# The worker looks once when the server has started; then it has an hour.
flush_usage($node);
ask($node, <<"EOQ");
SELECT (overten_handle_request('GET', '/api/v1/verify', json_build_object(
	'authorization', 'Bearer $secret', 'x-overten-client-addr', '10.0.0.' || i), NULL)).status
FROM generate_series(1, 60) i
EOQ
is(ask($node, 'SELECT entries_used, not_attributed FROM overten_stat'),
	'17|0', 'when memory gets short, further addresses are not told apart');
is(ask($node, 'SELECT count(*) FROM ten, overten_verify_key(secret) WHERE i <= 3'),
	3, 'other keys find room');
is(ask($node, 'SELECT entries_used, not_attributed FROM overten_stat'),
	'20|0', 'to be counted in');

$node->stop;
done_testing();
