
# Flushing writes what it must and disturbs nobody: not caches, locks, or the tables
# of keys; old history goes; and a flush that fails, at last for a full disk, loses
# no use.  pg_regress has no background workers and no full disk.

use strict;
use warnings FATAL => 'all';

use FindBin;
use lib $FindBin::RealBin;
use OvertenTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use UsageTest;

# Small WAL segments, so that a limit on the size of files can be small too.
my $node = create_node(
	'flushes', <<'EOC',
shared_preload_libraries = 'overten_auth'
overten_auth.databases = '"Billing API", postgres'
overten_auth.flush_interval = 1h
checkpoint_timeout = 1h
max_wal_size = 1GB
EOC
	extra => ['--wal-segsize=1']);
my $org = create_org($node, 'Counted');
my $owner = $node->background_psql('postgres');
$owner->set_query_timer_restart;
ask($owner, REQUEST_FUNCTIONS);

# What a statement says that must fail.
sub failure_of
{
	my ($sql) = @_;
	my ($result, $stdout, $stderr) = $node->psql('postgres', $sql);

	return $result == 0 ? 'it succeeded' : $stderr;
}


# What flushing leaves alone

my ($session, $locker) =
  map { $node->background_psql('postgres') } 1 .. 2;
my ($secret, $key) = mint($owner, $org);
verify($session, $secret);
my $written = "SELECT sum(pg_stat_get_dead_tuples(c) + pg_stat_get_tuples_updated(c)),
		(SELECT xmax FROM overten_auth.api_keys WHERE key_id = '$key')
	FROM unnest('{overten_auth.orgs,overten_auth.api_keys}'::regclass[]) c";
ask($_, 'SELECT pg_stat_force_next_flush()') foreach $owner, $session;
my $unchanged = ask($owner, $written);
my $updates =
  "SELECT pg_stat_get_tuples_updated('overten_auth.key_usage'::regclass)";
my $updated = ask($owner, $updates);
my ($hits, $misses) = split /\|/, stat_of($owner, 'cache_hits, cache_misses');
foreach my $round (1 .. 5)
{
	verify($session, $secret);
	flush_usage($owner);
}
is(stat_of($owner, 'cache_hits, cache_misses'),
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
configure($node, 'overten_auth.usage_retention', '1d');
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
	  stat_of($owner, 'flush_failures, not_attributed');

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
			qr/ERROR:  55000: could not flush usage of database "postgres"\nDETAIL:  The worker reports: [^\n]*$expected/,
			"$name: the flush fails, and says why");
		is(verify($owner, $secret), $key, "$name: verification goes on");
	}
	cmp_ok(stat_of($owner, 'flush_failures'),
		'>=', $failures + 2, "$name: failures are counted");
	like(
		ask($owner, 'SELECT flush_failure FROM overten_status()'),
		qr/$expected/, "$name: the state tells");
	$mend->($session);
	$session->quit;
	flush_usage($owner);
	is(uses($owner, $key), 24, "$name: afterwards every use is there once");
	is(stat_of($owner, 'not_attributed'), $counted, "$name: and none is missing");
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

	system_or_bail('prlimit', '--pid', postmaster($node), "--fsize=$limit:");
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
