
# The history of keys is exact: every use is in it once, whoever made it and
# wherever from, while flushes run and after flushes that failed, and writing it
# disturbs nobody.  pg_regress has no background workers, no TCP clients and no
# full disk.

use strict;
use warnings FATAL => 'all';

use FindBin;
use lib $FindBin::RealBin;
use IPC::Run;
use OvertenTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

# Small WAL segments, so that a limit on the size of files can be small too.
my $node = create_node(
	'usage', <<'EOC',
shared_preload_libraries = 'overten_auth'
overten_auth.databases = '"Billing API", postgres'
overten_auth.flush_interval = 1h
overten_auth.max_tracked_keys = 20000
listen_addresses = '127.0.0.1'
checkpoint_timeout = 1h
max_wal_size = 1GB
EOC
	extra => ['--wal-segsize=1']);
my $org = create_org($node, 'Counted');
my $owner = $node->background_psql('postgres');
$owner->set_query_timer_restart;

# Set a setting in the running server.
sub configure
{
	my ($name, $value) = @_;

	ask($node, "ALTER SYSTEM SET $name = '$value'");
	ask($node, 'SELECT pg_reload_conf()');
	$node->poll_query_until('postgres',
		"SELECT setting = '$value' OR current_setting('$name') = '$value'
		 FROM pg_settings WHERE name = '$name'")
	  or die "$name was not reloaded";
	return;
}

# What a statement says that must fail.
sub failure_of
{
	my ($sql) = @_;
	my ($result, $stdout, $stderr) = $node->psql('postgres', $sql);

	return $result == 0 ? 'it succeeded' : $stderr;
}

sub stat_of
{
	my ($column) = @_;

	return ask($owner, "SELECT $column FROM overten_stat");
}

# Run a test whose result depends on all being in one hour, with another key if
# the hour has ended meanwhile.
sub within_an_hour
{
	my ($test) = @_;
	my $hour;

	do
	{
		$hour = ask($owner, "SELECT date_trunc('hour', clock_timestamp())");
		$test->();
	} until $hour eq
	  ask($owner, "SELECT date_trunc('hour', clock_timestamp())");
	return;
}

# A request over HTTP, the address of whose client is told.
ask($owner, <<'EOQ');
CREATE FUNCTION request(secret text, headers json) RETURNS integer LANGUAGE sql AS $$
	SELECT (overten_handle_request('GET', '/api/v1/verify',
		(headers::jsonb || jsonb_build_object('authorization', 'Bearer ' || secret))::json, NULL)).status
$$;
CREATE FUNCTION request_from(secret text, addr text) RETURNS integer LANGUAGE sql AS $$
	SELECT request(secret, json_build_object('x-overten-client-addr', addr))
$$;
EOQ

is(ask($node, 'SELECT usage_mode FROM overten_status()'),
	'shared memory', 'uses are counted in shared memory');


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

# A pgbench that goes on until it is finished with.
sub start_pgbench
{
	my ($file, $sql, @options) = @_;
	my $path = $node->basedir . "/$file.sql";

	append_to_file($path, $sql);
	local %ENV = $node->_get_env();
	return IPC::Run::start(
		[ 'pgbench', '-n', @options, '-f', $path, 'postgres' ],
		'>', \my $stdout, '2>', \my $stderr);
}

configure('overten_auth.flush_interval', '1');
my $flushes = stat_of('flushes');
my $load = start_pgbench('ways', $script, '-M', 'prepared', '-c', $clients,
	'-j', 2, '-t', $rounds, @variables);
my $flusher = $node->background_psql('postgres');
my $asked = 0;
while ($load->pumpable)
{
	flush_usage($flusher);
	$asked++;
	# Raises if the process has just ended; finish() says how it did.
	eval { $load->pump_nb };
}
ok($load->finish, 'keys are verified in all ways');
flush_usage($flusher);
$flusher->quit;
cmp_ok(stat_of('flushes') - $flushes,
	'>', 5, "while flushes ran ($asked were asked for)");
my @uses = split /\n/, uses($owner, @keys);
is($uses[$_], $clients * $rounds * $ways[$_]->[1],
	"exact: $ways[$_]->[0]")
  foreach 0 .. $#ways;
is(stat_of('entries_used'), 0, 'all counters have been given back');
configure('overten_auth.flush_interval', '1h');

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
my $refused = stat_of('refused');
is(verify($owner, $_), '', 'refused')
  foreach $suspended_secret, 'sk_live_' . 'x' x 28, 'sk_live_', '';
flush_usage($owner);
is(stat_of('refused'), $refused + 4, 'other refusals are counted');
is(ask($owner, $rows), $history, 'and leave nothing in the history');


# Addresses

my @forms = (
	[ '192.0.2.7' => '192.0.2.7' ],
	[ ' 192.0.2.7 ' => '192.0.2.7' ],
	[ '192.0.2.7:8080' => '192.0.2.7' ],
	[ '::ffff:192.0.2.7' => '192.0.2.7' ],
	[ '::FFFF:c000:0207' => '192.0.2.7' ],
	[ '[::ffff:192.0.2.7]:443' => '192.0.2.7' ],
	[ '2001:db8:1:2:3:4:5:6' => '2001:db8:1:2::/64' ],
	[ '2001:DB8:1:2::' => '2001:db8:1:2::/64' ],
	[ '[2001:db8:1:2::9]' => '2001:db8:1:2::/64' ],
	[ '[2001:db8:1:2::9]:443' => '2001:db8:1:2::/64' ],
	[ '::1' => '::/64' ],
	[ '' => '' ],
	[ 'unknown' => '' ],
	[ '_hidden' => '' ],
	[ '192.0.2.256' => '' ],
	[ '192.0.2' => '' ],
	[ '3221225991' => '' ],
	[ '0x7f.1' => '' ],
	[ '192.0.2.7/24' => '' ],
	[ '192.0.2.7, 192.0.2.8' => '' ],
	[ '[2001:db8::1' => '' ],
	[ '2001:db8::1::2' => '' ],
	[ ':' => '' ],
	[ '[]' => '' ],
	[ '[' => '' ],
	[ "192.0.2.7'; --" => '' ],
	[ '1' x 5000 => '' ]);
my @forwarded = (
	[ '192.0.2.1, 192.0.2.2, 192.0.2.3' => '192.0.2.2' ],
	[ '192.0.2.2,192.0.2.3' => '192.0.2.2' ],
	[ '192.0.2.1 , 192.0.2.2:99 , 192.0.2.3:1' => '192.0.2.2' ],
	[ 'x, [2001:db8:1:2::9]:80, 192.0.2.3' => '2001:db8:1:2::/64' ],
	[ 'unknown, 192.0.2.3' => '' ],
	[ ', 192.0.2.3' => '' ],
	[ ',' => '' ],
	[ '192.0.2.2, ' => '192.0.2.2' ],
	[ '192.0.2.3' => '198.51.100.9' ],
	[ '' => '198.51.100.9' ]);

# Make a request with each form in its place, and see what was counted.
sub check_addresses
{
	my ($name, $headers, @forms) = @_;
	my $values = join ',', map { "(\$v\$$_->[0]\$v\$)" } @forms;

	ask($owner, <<"EOQ");
CREATE TEMP TABLE forms AS
	SELECT n, value, m.key_id, m.secret
	FROM ROWS FROM (unnest(ARRAY[$values])) WITH ORDINALITY f (value, n),
		overten_mint_key('$org', 'form ' || n) m;
EOQ
	is( ask($owner, "SELECT DISTINCT request(secret, $headers) FROM forms"),
		200, "$name: keys are accepted");
	flush_usage($owner);
	my @found = split /\n/, ask($owner, <<'EOQ');
SELECT string_agg(format('<%s>', client_addr), ' ')
FROM forms LEFT JOIN overten_auth.key_usage USING (key_id) GROUP BY n ORDER BY n
EOQ
	is($found[$_], "<$forms[$_]->[1]>",
		"$name: <" . substr($forms[$_]->[0], 0, 40) . '>')
	  foreach 0 .. $#forms;
	ask($owner, 'DROP TABLE forms');
	return;
}

my $told = "json_build_object('x-overten-client-addr', value)";
check_addresses('x-overten-client-addr', $told, @forms);
check_addresses('x-forwarded-for is not trusted',
	"json_build_object('x-overten-client-addr', '198.51.100.9', 'x-forwarded-for', value)",
	[ '192.0.2.1, 192.0.2.2' => '198.51.100.9' ]);
configure('overten_auth.trust_forwarded_for', '2');
check_addresses('x-forwarded-for',
	"json_build_object('x-overten-client-addr', '198.51.100.9', 'x-forwarded-for', value)",
	@forwarded);
configure('overten_auth.trust_forwarded_for', '0');

($secret, $key) = mint($owner, $org);
verify($owner, $secret);
$node->safe_psql('postgres', "SELECT overten_verify_key('$secret')",
	connstr => 'host=127.0.0.1 dbname=postgres port=' . $node->port);
flush_usage($owner);
is( ask(
		$owner,
		"SELECT DISTINCT client_addr FROM overten_auth.key_usage
		 WHERE key_id = '$key' ORDER BY 1"),
	"127.0.0.1\n", 'sessions over TCP, and over a Unix-domain socket');

# What PostgREST has called before a request
($secret, $key) = mint($owner, $org);
ask($owner, <<"EOQ");
SELECT set_config('request.headers',
	'{"authorization": "Bearer $secret", "x-overten-client-addr": "198.51.100.7"}', false);
SELECT overten_api.authenticate_request();
RESET request.headers;
EOQ
flush_usage($owner);
is( ask(
		$owner,
		"SELECT client_addr FROM overten_auth.key_usage WHERE key_id = '$key'"),
	'198.51.100.7', 'authenticate_request takes the address of the request');

# More addresses than are kept
sub check_many_addresses
{
	my ($name, $each_flush, $unknown_first) = @_;

	within_an_hour(
		sub {
			($secret, $key) = mint($owner, $org);
			verify($owner, $secret) if $unknown_first;
			for (my $n = 1; $n <= 70; $n += $each_flush)
			{
				my $end = $n + $each_flush - 1;

				ask($owner,
					"SELECT request_from('$secret', '10.0.0.' || n)
					 FROM generate_series($n, $end) n, generate_series(1, n)");
				flush_usage($owner);
			}
			# Those that are known stay so.
			ask($owner, "SELECT request_from('$secret', '10.0.0.1')");
			flush_usage($owner);
		});
	is( ask(
			$owner,
			"SELECT count(client_addr), count(*),
				sum(accepted) FILTER (WHERE client_addr = '10.0.0.1')
			 FROM overten_auth.key_usage WHERE key_id = '$key'"),
		'64|65|2',
		"$name: 64 addresses are kept, the rest is in one row");
	is( uses($owner, $key),
		70 * 71 / 2 + 1 + $unknown_first,
		"$name: nothing is lost");
	return;
}
check_many_addresses('70 addresses in one flush', 70, 0);
check_many_addresses('70 addresses in seven flushes', 10, 0);
check_many_addresses('an unknown address first', 70, 1);
check_many_addresses('an unknown address first, in two flushes', 35, 1);

# More entries than one transaction of a flush takes
ask($owner, <<"EOQ");
CREATE TABLE many AS
	SELECT m.* FROM generate_series(1, 200) n, overten_mint_key('$org', 'many ' || n) m;
EOQ
my $requests = 'SELECT sum(request_from(secret, host(a))) / 200
	FROM many, generate_series(1, 60) n, LATERAL (SELECT \'10.1.0.0\'::inet + n) i (a)';
within_an_hour(
	sub {
		ask($owner, 'DELETE FROM overten_auth.key_usage');
		is(ask($owner, $requests), 12_000, 'many keys from many addresses');
		is(stat_of('entries_used'), 12_000, 'each pair is counted');
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
cmp_ok(stat_of('entries_used'), '>', 0, 'but kept');
ask($minter, 'COMMIT');
verify($owner, $secret);
flush_usage($owner);
is(uses($owner, $key), 4, 'and arrives when it has committed');
is(stat_of('entries_used'), 0, 'then nothing is kept');

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
is(stat_of('entries_used'), 1,
	'it is kept for 5 minutes, as its transaction might go on');
unlike(slurp_file($node->logfile, $log_start),
	qr/ERROR|WARNING/, 'nothing complains about it');


# What flushing leaves alone

my ($session, $locker) =
  map { $node->background_psql('postgres') } 1 .. 2;
($secret, $key) = mint($owner, $org);
verify($session, $secret);
my $written = "SELECT sum(pg_stat_get_dead_tuples(c) + pg_stat_get_tuples_updated(c)),
		(SELECT xmax FROM overten_auth.api_keys WHERE key_id = '$key')
	FROM unnest('{overten_auth.orgs,overten_auth.api_keys}'::regclass[]) c";
ask($_, 'SELECT pg_stat_force_next_flush()') foreach $owner, $session;
my $unchanged = ask($owner, $written);
my $updates =
  "SELECT pg_stat_get_tuples_updated('overten_auth.key_usage'::regclass)";
my $updated = ask($owner, $updates);
my ($hits, $misses) = split /\|/, stat_of('cache_hits, cache_misses');
foreach my $round (1 .. 5)
{
	verify($session, $secret);
	flush_usage($owner);
}
is(stat_of('cache_hits, cache_misses'),
	$hits + 5 . "|$misses", 'a flush does not empty the caches');
$node->poll_query_until('postgres', "$updates >= $updated + 4")
  or die 'the worker has not told what it wrote';
is(ask($owner, $written), $unchanged, 'nor does it write orgs and api_keys');

ask($locker, 'BEGIN; SELECT FROM overten_auth.orgs FOR UPDATE;
	SELECT FROM overten_auth.api_keys FOR UPDATE;');
verify($session, $secret);
flush_usage($owner);
is(uses($owner, $key), 7, 'it waits for nobody who has locked rows of these');
ask($locker, 'ROLLBACK');

# WAL between two flushes of a key that has its row
sub wal_of
{
	my ($verifications) = @_;
	my $start = ask($owner, 'SELECT pg_current_wal_insert_lsn()');

	ask($session,
		"SELECT count(*) FROM (SELECT overten_verify_key('$secret') FROM generate_series(1, $verifications)) v"
	);
	flush_usage($owner);
	return ask($owner, "SELECT pg_current_wal_insert_lsn() - '$start'");
}
wal_of(1);
my ($few, $many) = (wal_of(10_000), wal_of(100_000));
cmp_ok($few, '>', 0, "10,000 verifications make $few bytes of WAL");
cmp_ok(abs($many - $few), '<', 1000, "and 100,000 make $many");
is(uses($owner, $key), 110_008, 'all are counted');
$_->quit foreach $session, $locker;


# Old history

ask($owner, <<"EOQ");
CREATE TABLE removals (count bigint);
CREATE FUNCTION note_removal() RETURNS trigger LANGUAGE plpgsql AS \$\$
BEGIN
	INSERT INTO public.removals SELECT count(*) FROM gone HAVING count(*) > 0;
	RETURN NULL;
END
\$\$;
CREATE TRIGGER note_removal AFTER DELETE ON overten_auth.key_usage
	REFERENCING OLD TABLE AS gone FOR EACH STATEMENT EXECUTE FUNCTION note_removal();
INSERT INTO overten_auth.key_usage
	SELECT 'old', date_trunc('hour', now()) - n * interval '3 hours', '10.0.0.0'::inet + m, 1, 0, now(), now()
	FROM generate_series(1, 24) n, generate_series(1, 1562) m;
EOQ
my $newer = "SELECT count(*) FROM overten_auth.key_usage
	WHERE hour >= now() - interval '1 day'";
my $kept = ask($owner, $newer);
configure('overten_auth.usage_retention', '1d');
$node->poll_query_until('postgres',
	"SELECT NOT EXISTS (SELECT FROM overten_auth.key_usage
		WHERE hour < now() - interval '1 day')")
  or die 'old history was not removed';
is(ask($owner, $newer), $kept, 'newer history than usage_retention stays');
like(
	ask($owner, 'SELECT * FROM removals'),
	qr/^10000\n10000\n\d{4}$/,
	'older one is removed in batches of 10,000');
ask($owner, 'DROP TRIGGER note_removal ON overten_auth.key_usage');


# Databases that are listed, by a quoted name, and that are not

foreach my $database ('Billing API', 'other')
{
	my $where = [ $node, $database ];

	ask($owner, "CREATE DATABASE \"$database\"");
	ask($where, 'CREATE EXTENSION overten_auth CASCADE');
	my $org = create_org($where, 'Elsewhere');
	my ($secret, $key) = mint($where, $org);
	my $listed = $database ne 'other';

	is( ask($where, 'SELECT usage_mode FROM overten_status()'),
		$listed ? 'shared memory' : 'table',
		"$database: how uses are recorded");
	# The worker looks after a database that it has just come to know.
	flush_usage($where);
	verify($where, $secret) foreach 1 .. 2;
	is( ask(
			$where, "SELECT last_used_at IS NOT NULL
				FROM overten_list_keys('$org')"),
		't',
		"$database: the verifying transaction does that") unless $listed;
	flush_usage($where);
	is(uses($where, $key), $listed ? 2 : 0, "$database: the history");
	is( ask(
			$where, "SELECT last_used_at IS NOT NULL
				FROM overten_list_keys('$org')"),
		't',
		"$database: last_used_at");
}


# Flushes that fail

sub check_failing_flush
{
	my ($name, $break, $mend, $expected) = @_;
	my ($secret, $key) = mint($owner, $org);
	my ($failures, $counted) = split /\|/,
	  stat_of('flush_failures, not_attributed');

	verify($owner, $secret) foreach 1 .. 2;
	flush_usage($owner);
	ask($owner, "SELECT request_from('$secret', '10.0.0.' || n)
		FROM generate_series(1, 20) n");
	my $session = $node->background_psql('postgres');
	$break->($session);
	foreach my $round (1 .. 2)
	{
		my $failure = failure_of('\set VERBOSITY verbose
			SELECT overten_flush_usage()');

		like(
			$failure,
			qr/ERROR:  55000: usage could not be flushed\nDETAIL:  The worker reports: [^\n]*$expected/,
			"$name: the flush fails, and says why");
		is(verify($owner, $secret), $key, "$name: verification goes on");
	}
	cmp_ok(stat_of('flush_failures'),
		'>=', $failures + 2, "$name: failures are counted");
	like(
		ask($owner, 'SELECT flush_failure FROM overten_status()'),
		qr/$expected/, "$name: the state tells");
	$mend->($session);
	$session->quit;
	flush_usage($owner);
	is(uses($owner, $key), 24, "$name: afterwards every use is there once");
	is(stat_of('not_attributed'), $counted, "$name: and none is missing");
	return;
}

check_failing_flush(
	"$_ locked",
	sub { ask(shift, "BEGIN; LOCK overten_auth.$_") },
	sub { ask(shift, 'COMMIT') },
	'canceling statement due to lock timeout')
  foreach 'key_usage', 'key_last_used';
ask($owner, <<'EOQ');
CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	RAISE EXCEPTION 'refused by a trigger';
END
$$;
EOQ
check_failing_flush(
	"trigger on $_",
	sub {
		ask(shift, "CREATE TRIGGER refuse BEFORE INSERT OR UPDATE
			ON overten_auth.$_ FOR EACH ROW EXECUTE FUNCTION refuse()");
	},
	sub { ask(shift, "DROP TRIGGER refuse ON overten_auth.$_") },
	'refused by a trigger') foreach 'key_usage', 'key_last_used';

# A full disk: no file can grow over 3 MB, in the postmaster and those that it
# starts from then on.
sub limit_files
{
	my ($limit) = @_;
	my ($postmaster) = slurp_file($node->data_dir . '/postmaster.pid') =~ /^(\d+)/;

	system_or_bail('prlimit', '--pid', $postmaster, "--fsize=$limit:");
	return;
}
check_failing_flush(
	'disk full',
	sub {
		limit_files(3 * 1024 * 1024);
		# The worker that has no limit yet makes room for one that has.
		flush_usage($owner);
		ask($owner, "SELECT request_from(secret, '10.9.8.' || n)
			FROM generate_series(1, 60) n,
				(SELECT secret FROM generate_series(1, 10) i, overten_mint_key('$org', 'full ' || i)) m");
		ask($owner, 'CREATE SEQUENCE filler');
		# As is the session that this runs in.
		ask($node, <<'EOQ');
DO $$
BEGIN
	FOR i IN 1 .. 1000 LOOP
		BEGIN
			INSERT INTO overten_auth.key_usage
				SELECT 'filler', '2000-01-01Z', '10.0.0.0'::inet + nextval('filler'), 1, 0, now(), now()
				FROM generate_series(1, 100);
		EXCEPTION WHEN internal_error THEN
			EXIT;
		END;
	END LOOP;
END
$$
EOQ
	},
	sub {
		limit_files('unlimited');
		ask($owner, "DELETE FROM overten_auth.key_usage WHERE key_id = 'filler'");
		ask($owner, 'VACUUM overten_auth.key_usage');
		# The worker that has the limit may fail once more.
		$node->psql('postgres', 'SELECT overten_flush_usage()');
	},
	'could not extend file');
is( ask(
		$owner,
		"SELECT count(DISTINCT key_id), count(*), sum(accepted)
		 FROM overten_auth.key_usage
		 JOIN overten_auth.api_keys k USING (key_id) WHERE k.name LIKE 'full %'"),
	'10|600|600',
	'disk full: so is every use of other keys');

$owner->quit;
$node->stop;
done_testing();
