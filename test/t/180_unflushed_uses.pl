
# What is counted in shared memory is in lists and reports at once, each use
# once while flushes run too, and after a crash between the commit of a flush
# and its end.  pg_regress has no preloaded library.

use strict;
use warnings FATAL => 'all';

use FindBin;
use lib $FindBin::RealBin;
use FirebaseTokens;
use IPC::Run;
use OvertenTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $module = "$FindBin::RealBin/../modules/flush_pauses.so";
die "make test/modules/flush_pauses.so" unless -e $module;

my $node = create_node(
	'unflushed', <<"EOC");
shared_preload_libraries = 'overten_auth, $module'
overten_auth.databases = 'postgres, listed'
overten_auth.flush_interval = 1h
overten_auth.firebase_project_id = '${\PROJECT}'
overten_auth.signing_keys_command = ''
restart_after_crash = on
EOC
my $caller = $node->background_psql('postgres');
my $reader = $node->background_psql('postgres');
$_->set_query_timer_restart foreach $caller, $reader;
my $org = create_org($caller, 'Curious');

# The reports in a few words, so that one line says what a key has been used for.
ask($caller, <<'EOQ');
CREATE FUNCTION listed(org text, key text) RETURNS timestamptz LANGUAGE sql AS
	$$SELECT last_used_at FROM overten_list_keys(org) l WHERE l.key_id = key$$;
CREATE FUNCTION by_hour(org text, key text) RETURNS text LANGUAGE sql AS
	$$SELECT string_agg(accepted || '|' || refused, ', ' ORDER BY hour) FROM overten_org_usage(org, now() - interval '1 day', now()) u WHERE u.key_id = key$$;
CREATE FUNCTION by_address(org text, key text) RETURNS text LANGUAGE sql AS
	$$SELECT string_agg(concat_ws(' ', client_addr, accepted || '|' || refused), ', ') FROM overten_key_usage(org, key)$$;
CREATE FUNCTION tried(org text, key text) RETURNS bigint LANGUAGE sql AS
	$$SELECT coalesce(sum(observed), 0) FROM overten_key_anomalies(org, key) WHERE kind = 'used_after_revocation'$$;
CREATE FUNCTION request(method text, path text, bearer text, addr text DEFAULT NULL) RETURNS json LANGUAGE sql AS $$
	SELECT body::json FROM overten_handle_request(method, '/api/v1' || path,
		json_strip_nulls(json_build_object('authorization', 'Bearer ' || bearer, 'x-overten-client-addr', addr)), NULL)
$$;
EOQ

sub use_from
{
	my ($secret, $addr, $times) = @_;

	return ask($caller,
		"SELECT count(request('GET', '/verify', '$secret', '$addr')) FROM generate_series(1, $times)");
}

# Everything that a reader is told of a key.
sub report
{
	my ($where, $key) = @_;

	return ask($where, "SELECT concat_ws('; ', by_hour('$org', '$key'),
		by_address('$org', '$key'), nullif(tried('$org', '$key'), 0))");
}

# A test that needs all uses to be in one hour is done again if they are not.
sub within_an_hour
{
	my ($test) = @_;
	my $hour;

	do
	{
		$hour = ask($caller, "SELECT date_trunc('hour', clock_timestamp())");
		$test->();
	} until $hour eq
	  ask($caller, "SELECT date_trunc('hour', clock_timestamp())");
	return;
}

# Files that the module looks for, or makes.
sub path { return $node->data_dir . "/$_[0]"; }
sub make_file { append_to_file(path($_), '') foreach @_; return; }
sub remove_file { unlink path($_) or die "unlink: $!" foreach @_; return; }
sub wait_for_file
{
	my ($name) = @_;

	wait_until("there is $name", sub { -e path($name) });
	return;
}

# A session that runs SQL, and does not wait for it.
sub start
{
	my ($sql, $database) = @_;
	my $session = $node->background_psql($database // 'postgres', on_error_stop => 0);

	$session->query_until(qr/started/, "\\echo started\n$sql;\n");
	return $session;
}

# The output of that.
sub finish
{
	my ($session) = @_;
	my $output = $session->query_until(qr/finished/, "\\echo finished\n");

	$session->quit;
	return $output =~ s/\s*finished\s*$//r;
}

# Ask for a flush, and wait until it has committed and not ended.
sub flush_halfway
{
	my ($database) = @_;

	make_file('pause_after_commit');
	my $asker = start('SELECT overten_flush_usage()', $database);
	wait_for_file('paused');
	return $asker;
}

sub finish_flush
{
	my ($asker) = @_;

	remove_file('pause_after_commit');
	finish($asker);
	return;
}

# Wait until a session waits for something.
sub wait_for_event
{
	my ($condition) = @_;

	$node->poll_query_until('postgres', "SELECT EXISTS (SELECT FROM pg_stat_activity WHERE $condition)")
	  or die "nobody waits: $condition";
	return;
}


# At once, in another session

my ($secret, $key);
within_an_hour(
	sub {
		($secret, $key) = mint($caller, $org);
		is(ask($reader, "SELECT listed('$org', '$key')"), '', 'a new key has not been used');
		is(report($reader, $key), '', 'and has no history');
		my $before = ask($caller, 'SELECT clock_timestamp()');
		use_from($secret, '192.0.2.1', 3);
		use_from($secret, '2001:db8::1', 1);
		verify($caller, $secret);
		is( ask($reader, "SELECT listed('$org', '$key') BETWEEN '$before' AND clock_timestamp()"),
			't', 'its use shows in the list before any flush');
		is(report($reader, $key), '5|0; 192.0.2.1 3|0, 2001:db8::/64 1|0, 1|0',
			'and in the history, with its addresses');
		flush_usage($caller);
		is(report($reader, $key), '5|0; 192.0.2.1 3|0, 2001:db8::/64 1|0, 1|0', 'after a flush it is the same');
		use_from($secret, '192.0.2.1', 2);
		use_from($secret, '192.0.2.9', 1);
		is(report($reader, $key), '8|0; 192.0.2.1 5|0, 192.0.2.9 1|0, 2001:db8::/64 1|0, 1|0',
			'what comes then is added to the rows');
	});
is( ask($reader, "SELECT count(*) FROM overten_key_usage('$org', '$key', now() - interval '1 day', date_trunc('hour', now(), 'UTC'))"),
	0, 'but not to a period that it is not in');
is( ask($reader, "SELECT count(*) FROM overten_org_usage('$org', now() - interval '1 day', date_trunc('hour', now(), 'UTC'))"),
	0, 'nor is the sum');
ask($caller, "INSERT INTO overten_auth.key_usage
	SELECT '$key', date_trunc('hour', now(), 'UTC') - n * interval '1 hour', '192.0.2.1', 10, 0, now() - n * interval '1 hour', now() - n * interval '1 hour'
	FROM generate_series(1, 3) n");
is( ask($reader, "SELECT count(DISTINCT hour) || ' ' || (array_agg(hour) = array_agg(hour ORDER BY hour, client_addr)) || ' ' || sum(accepted)
		FROM overten_key_usage('$org', '$key')"),
	'4 true 38', 'all hours are there, in order');

# Attempts with a revoked key
my ($revoked, $revoked_key) = mint($caller, $org);
verify($caller, $revoked);
ask($caller, "SELECT overten_revoke_key('$org', '$revoked_key')");
my $last_used = ask($reader, "SELECT listed('$org', '$revoked_key')");
verify($caller, $revoked) foreach 1 .. 2;
is(report($reader, $revoked_key), '1|2; 1|2; 2', 'attempts with a revoked key show at once, as an anomaly too');
is(ask($reader, "SELECT listed('$org', '$revoked_key')"), $last_used, 'and are no uses');

# The anomalies of uses that are not flushed
my ($odd, $odd_key) = mint($caller, $org);
ask($caller, "INSERT INTO overten_auth.key_usage
	SELECT '$odd_key', date_trunc('hour', now(), 'UTC') - n * interval '1 hour', '192.0.2.1', 1, 0, now() - n * interval '1 hour', now() - n * interval '1 hour'
	FROM generate_series(30, 40) n");
use_from($odd, '192.0.2.7', 70);
use_from($odd, '192.0.2.8', 50);
my $anomalies = "SELECT string_agg(concat_ws(' ', kind, client_addr, observed), ', ' ORDER BY kind, client_addr)
	FROM overten_key_anomalies('$org', '$odd_key')";
my $found = 'new_address 192.0.2.7 70, new_address 192.0.2.8 50, rise 192.0.2.7 120';
within_an_hour(sub { is(ask($reader, $anomalies), $found, 'a rise and new addresses are found at once'); });
flush_usage($caller);
is(ask($reader, $anomalies), $found, 'and after a flush');
use_from($odd, '192.0.2.8', 25);
is(ask($reader, $anomalies), 'new_address 192.0.2.7 70, new_address 192.0.2.8 75, rise 192.0.2.8 145',
	'half in the tables, half in memory, they are the same');

# Over HTTP
my $signer = new_rsa();
ask($caller, "SELECT overten_load_signing_keys('" . jwk_set(jwk($signer, 'key-1')) . "')");
ask($caller, "SELECT overten_add_member('$org', 'jane')");
my $token = token($signer, header(), claims(sub => 'jane'));
my ($fresh, $fresh_key) = mint($caller, $org);
use_from($fresh, '192.0.2.1', 2);
is( ask($reader, "SELECT i ->> 'last_used_at' IS NOT NULL
		FROM json_array_elements(request('GET', '/organizations/$org/api-keys', '$token') -> 'items') i WHERE i ->> 'key_id' = '$fresh_key'"),
	't', 'the list over HTTP has the last use at once');
is( ask($reader, "SELECT string_agg(concat_ws(' ', i ->> 'client_addr', i ->> 'accepted'), ', ')
		FROM json_array_elements(request('GET', '/organizations/$org/api-keys/$fresh_key/usage', '$token') -> 'items') i"),
	'192.0.2.1 2', 'so has the usage endpoint');

# Snapshots that are older
my ($watched, $watched_key) = mint($caller, $org);
foreach my $level ('REPEATABLE READ', 'SERIALIZABLE', 'REPEATABLE READ READ ONLY')
{
	my $sum = "SELECT coalesce(sum(accepted), 0), listed('$org', '$watched_key') IS NOT NULL FROM overten_key_usage('$org', '$watched_key')";

	ask($reader, "BEGIN ISOLATION LEVEL $level");
	my ($n) = split /\|/, ask($reader, $sum);
	verify($caller, $watched);
	is(ask($reader, $sum), $n + 1 . '|t', "$level sees a use that is not flushed");
	flush_usage($caller);
	is(ask($reader, $sum), $n + 1 . '|t', "$level sees it once it is");
	verify($caller, $watched);
	is(ask($reader, $sum), $n + 2 . '|t', "$level sees the next");
	ask($reader, 'COMMIT');
}

# Keys that are not committed
my $minter = $node->background_psql('postgres');
my $shown = "SELECT count(*) FROM overten_list_keys('$org')";
my $summed = "SELECT count(DISTINCT key_id) FROM overten_org_usage('$org', now() - interval '1 day', now())";
my @before = map { ask($reader, $_) } $shown, $summed;
ask($minter, 'BEGIN');
my ($unborn, $unborn_key) = mint($minter, $org);
verify($minter, $unborn) foreach 1 .. 3;
is(ask($minter, "SELECT by_hour('$org', '$unborn_key')"), '3|0', 'who mints a key sees its uses');
is_deeply([ map { ask($reader, $_) } $shown, $summed ], \@before, 'others do not see it before the commit');
is(sqlstate_of($node, "SELECT overten_key_usage('$org', '$unborn_key')"), '42704', 'nor its history');
flush_usage($caller);
ask($minter, 'COMMIT');
is(ask($reader, "SELECT by_hour('$org', '$unborn_key')"), '3|0', 'after it they see all of its uses');
ask($minter, 'BEGIN');
my ($stillborn) = mint($minter, $org);
verify($minter, $stillborn);
ask($minter, 'ROLLBACK');
is(ask($reader, $shown), $before[0] + 1, 'a key that was rolled back is not seen');
is(ask($reader, $summed), $before[1] + 1, 'nor its uses');


# Between the commit of a flush and its end

my ($halfway, $halfway_key) = mint($caller, $org);
use_from($halfway, '192.0.2.1', 5);
verify($caller, $revoked) foreach 1 .. 3;
ask($minter, 'BEGIN');
my ($late, $late_key) = mint($minter, $org);
verify($minter, $late) foreach 1 .. 4;
my $old = $node->background_psql('postgres');
ask($old, 'BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT 1');
my $asker = flush_halfway();
is(uses($reader, $halfway_key), 5, 'a flush has committed');
is(ask($reader, "SELECT entries_used > 0 FROM overten_stat"), 't', 'and not taken it out of memory');
foreach my $where ($reader, $old)
{
	my $who = $where == $old ? 'an older snapshot' : 'a reader';

	is(report($where, $halfway_key), '5|0; 192.0.2.1 5|0', "$who counts each use once");
	is(report($where, $revoked_key), '1|5; 1|5; 5', "$who counts each attempt once");
}
use_from($halfway, '192.0.2.1', 2);
use_from($halfway, '192.0.2.2', 1);
is(report($reader, $halfway_key), '8|0; 192.0.2.1 7|0, 192.0.2.2 1|0', 'and what comes meanwhile');
ask($minter, 'COMMIT');
is(report($reader, $late_key), '4|0; 4|0', 'a key that has committed since has its uses, which the flush has kept back');
$last_used = ask($reader, "SELECT listed('$org', '$halfway_key')");
finish_flush($asker);
is(report($reader, $halfway_key), '8|0; 192.0.2.1 7|0, 192.0.2.2 1|0', 'when the flush has ended it is the same');
is(report($reader, $late_key), '4|0; 4|0', 'for the key that was kept back, too');
is(ask($reader, "SELECT listed('$org', '$halfway_key')"), $last_used, 'and the last use is');
flush_usage($caller);
is(uses($reader, $halfway_key, $late_key), "8\n4", 'the next flush writes the rest');
is(ask($reader, "SELECT count(*) FROM overten_auth.usage_batches"), 1, 'one row tells which batch was the last');
$old->quit;

# A batch that is written, committed and subtracted after a reader has copied
# its counts, and before the reader takes its snapshot.
ask($caller, "CREATE FUNCTION hold_counts(key_id text) RETURNS int LANGUAGE c AS '$module'");
ask($caller, <<'EOQ');
CREATE SEQUENCE go;
CREATE FUNCTION wait_for_go() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	WHILE NOT (SELECT is_called FROM public.go) LOOP
		PERFORM pg_sleep(0.001);
	END LOOP;
	RETURN NEW;
END
$$;
EOQ
my $pair = create_org($caller, 'Pair');
my $sums = "SELECT string_agg(accepted::text, ' ' ORDER BY created_at)
	FROM overten_org_usage('$pair', now() - interval '1 day', now()) JOIN overten_auth.api_keys USING (key_id)";

# Two new keys whose counts do not share a lock, so that one of them can be held.
sub mint_pair
{
	my @pair;

	do
	{
		ask($caller, "DELETE FROM overten_auth.api_keys WHERE org_id = '$pair'");
		@pair = map { [ mint($caller, $pair) ] } 1 .. 2;
	} while ask($caller, "SELECT hold_counts('$pair[0][1]') = hold_counts('$pair[1][1]')") eq 't';
	flush_usage($caller);
	return map { @$_ } @pair;
}

# Hold the counts of a key, and start a reader, which has to wait for them.
sub start_held
{
	my ($held, $sql) = @_;

	make_file('hold');
	my $holder = start("SELECT hold_counts('$held')");
	wait_for_file('held');
	my $reading = start($sql);
	wait_for_event("wait_event_type = 'LWLock' AND query LIKE 'SELECT string_agg%'");
	return ($holder, $reading);
}

within_an_hour(
	sub {
		my ($first, $first_key, $second, $second_key) = mint_pair();

		verify($caller, $first) foreach 1 .. 5;
		ask($caller, "SELECT setval('go', 1, false);
			CREATE TRIGGER wait_for_go BEFORE INSERT ON overten_auth.key_usage FOR EACH ROW EXECUTE FUNCTION wait_for_go()");
		my $flush = start('SELECT overten_flush_usage()');
		wait_for_event("backend_type = 'overten_auth usage worker' AND wait_event = 'PgSleep'");
		# The flush has collected its batch, and the second key is not in it.
		verify($caller, $second);
		my ($holder, $reading) = start_held($second_key, $sums);
		ask($caller, "SELECT nextval('go')");
		finish($flush);
		remove_file('hold');
		finish($holder);
		is(finish($reading), '5 1', 'a whole batch between the copy of the counts and the snapshot counts once');
		ask($caller, 'DROP TRIGGER wait_for_go ON overten_auth.key_usage');
	});

# A batch that commits and is subtracted after a list has taken its snapshot,
# and before it looks into the memory.
within_an_hour(
	sub {
		my ($first, $first_key, $second, $second_key) = mint_pair();

		verify($caller, $second);
		make_file('pause_before_commit');
		my $flush = start('SELECT overten_flush_usage()');
		wait_for_file('paused');
		verify($caller, $first);
		my ($holder, $reading) = start_held($first_key,
			"SELECT string_agg((last_used_at IS NOT NULL)::text, ' ' ORDER BY created_at) FROM overten_list_keys('$pair')");
		remove_file('pause_before_commit');
		finish($flush);
		remove_file('hold');
		finish($holder);
		is(finish($reading), 'true true', 'a use is not missed by a list while it goes from memory into the table');
	});

# A batch that is on its way when a reader copies its counts and takes the
# snapshot, and has committed when it looks for the number of the batch.
my ($single, $single_key) = mint_pair();
verify($caller, $single) foreach 1 .. 5;
make_file('pause_before_commit');
my $flush = start('SELECT overten_flush_usage()');
wait_for_file('paused');
my $lock = start('BEGIN; LOCK overten_auth.usage_batches; COMMIT');
wait_for_event("wait_event_type = 'Lock' AND query LIKE 'LOCK%'");
my $reading = start($sums);
wait_for_event("wait_event_type = 'Lock' AND query LIKE '%overten_org_usage%'");
remove_file('pause_before_commit');
finish($flush);
is(finish($reading), '5', 'a batch that commits between the snapshot and the look for its number counts once');
finish($lock);
is(ask($caller, $sums), '5', 'as it does afterwards');

# A database that gets another name and its own again, so that the launcher has
# looked in between, while a flush is halfway.  Only a superuser can do that.
ask($caller, 'CREATE DATABASE listed');
ask([ $node, 'listed' ], 'CREATE EXTENSION overten_auth CASCADE');
my $listed = $node->background_psql('listed');
my $listed_org = create_org($listed, 'Listed');
my ($listed_secret, $listed_key) = mint($listed, $listed_org);
flush_usage($listed);
verify($listed, $listed_secret) foreach 1 .. 5;
$asker = flush_halfway('listed');
my $log = -s $node->logfile;
ask($caller, "UPDATE pg_database SET datname = 'unlisted' WHERE datname = 'listed'");
ask($caller, 'SELECT pg_reload_conf()');
wait_until('the launcher has looked',
	sub { slurp_file($node->logfile, $log) =~ /database "listed" of overten_auth\.databases does not exist/ });
ask($caller, "UPDATE pg_database SET datname = 'listed' WHERE datname = 'unlisted'");
verify($listed, $listed_secret);
finish_flush($asker);
flush_usage($listed);
is(uses($listed, $listed_key), 6, 'no count wraps when a database is away for a moment during a flush');
is(ask($listed, "SELECT sum(accepted) FROM overten_key_usage('$listed_org', '$listed_key')"), 6, 'and readers see it so');


# Under another name

verify($listed, $listed_secret) foreach 1 .. 3;
$listed->quit;
ask($caller, 'ALTER DATABASE listed RENAME TO unlisted');
is( ask([ $node, 'unlisted' ], "SELECT sum(accepted) FROM overten_key_usage('$listed_org', '$listed_key')"),
	9, 'what was counted under a listed name shows under another');
ask($caller, 'DROP DATABASE unlisted');


# A crash there

my ($crashed, $crashed_key) = mint($caller, $org);
verify($caller, $crashed) foreach 1 .. 7;
my $since = ask($caller, 'SELECT since FROM overten_stat');
flush_halfway();
$_->{run}->kill_kill foreach $caller, $reader, $minter;
kill 'KILL',
  ask($node, "SELECT pid FROM pg_stat_activity WHERE backend_type = 'overten_auth usage worker' AND datname IS NOT NULL");
$node->poll_query_until('postgres', "SELECT since > '$since' FROM overten_stat")
  or die 'the server did not start anew';
remove_file('pause_after_commit', 'paused');
is(report($node, $crashed_key), '7|0; 7|0', 'after a crash between commit and subtraction each use counts once');
verify($node, $crashed);
is(report($node, $crashed_key), '8|0; 8|0', 'and so does the next');
flush_usage($node);
is(report($node, $crashed_key), '8|0; 8|0', 'also when it is flushed');
is(ask($node, 'SELECT count(*) FROM overten_auth.usage_batches'), 2, 'by a shared memory that has another name');


# At random: sessions that verify, flushes one after the other, and readers who
# know at each moment how many uses were answered, and how many had begun.
# Sequences tell them, for these are seen at once by everybody.

my $keys = 4;
my $verifiers = 2;
my $random_org = create_org($node, 'Random');
ask($node, <<"EOQ");
CREATE TABLE watched AS
	SELECT n, m.key_id, m.secret FROM generate_series(1, $keys) n, overten_mint_key('$random_org', 'key ' || n) m;
-- The last of them is used after it was revoked; and idle ones make reading the org take longer.
SELECT overten_revoke_key('$random_org', key_id) FROM watched WHERE n = $keys;
SELECT count(m.key_id) FROM generate_series(1, 1000) n, overten_mint_key('$random_org', 'idle ' || n) m;
DO \$\$
BEGIN
	FOR n IN 1 .. $keys LOOP
		EXECUTE format('CREATE SEQUENCE begun_%s MINVALUE 0', n);
		EXECUTE format('CREATE SEQUENCE answered_%s MINVALUE 0', n);
		FOR client IN 0 .. $verifiers - 1 LOOP
			EXECUTE format('CREATE SEQUENCE used_at_%s_%s', n, client);
		END LOOP;
	END LOOP;
END
\$\$;
CREATE FUNCTION use(n int, client int) RETURNS void LANGUAGE plpgsql AS \$\$
DECLARE
	k text;
	at bigint;
BEGIN
	SELECT secret INTO k FROM watched w WHERE w.n = use.n;
	PERFORM nextval('begun_' || n);
	at := extract(epoch FROM clock_timestamp()) * 1000000;
	PERFORM count(key_id) FROM overten_verify_key(k);
	PERFORM setval(format('used_at_%s_%s', n, client), at);
	PERFORM nextval('answered_' || n);
END
\$\$;
CREATE FUNCTION value_of(name text) RETURNS bigint LANGUAGE plpgsql AS \$\$
DECLARE
	value bigint;
BEGIN
	EXECUTE format('SELECT last_value + is_called::int FROM %I', name) INTO value;
	RETURN value;
END
\$\$;
CREATE FUNCTION last_answer(n int) RETURNS bigint LANGUAGE sql AS
	\$\$SELECT max(value_of(format('used_at_%s_%s', n, client))) - 1 FROM generate_series(0, $verifiers - 1) client\$\$;
-- A value that never decreases, between what was before and after the reading.
CREATE FUNCTION check_value(what text, lowest bigint, value bigint, highest bigint) RETURNS void LANGUAGE plpgsql AS \$\$
DECLARE
	seen bigint := coalesce(nullif(current_setting('seen.' || what, true), ''), '0');
BEGIN
	IF value IS NULL OR value NOT BETWEEN lowest AND highest OR value < seen THEN
		RAISE EXCEPTION '%: read %, of at least % and at most %, after %', what, value, lowest, highest, seen;
	END IF;
	PERFORM set_config('seen.' || what, value::text, false);
END
\$\$;
CREATE FUNCTION look(n int, how int) RETURNS void LANGUAGE plpgsql AS \$\$
DECLARE
	key text;
	lowest bigint;
	highest bigint;
	value bigint;
BEGIN
	SELECT key_id INTO key FROM watched w WHERE w.n = look.n;
	IF how = 0 AND n < $keys THEN
		lowest := last_answer(n);
		SELECT extract(epoch FROM last_used_at) * 1000000 INTO value FROM overten_list_keys('$random_org') l WHERE l.key_id = key;
		highest := extract(epoch FROM clock_timestamp()) * 1000000;
		PERFORM check_value('used_at_' || n, lowest, coalesce(value, 0), highest);
		RETURN;
	END IF;
	lowest := value_of('answered_' || n);
	IF how = 1 THEN
		SELECT coalesce(sum(accepted + refused), 0) INTO value FROM overten_key_usage('$random_org', key);
	ELSIF how = 2 AND n = $keys THEN
		SELECT coalesce(sum(observed), 0) INTO value FROM overten_key_anomalies('$random_org', key) WHERE kind = 'used_after_revocation';
	ELSE
		SELECT coalesce(sum(accepted + refused), 0) INTO value
		FROM overten_org_usage('$random_org', now() - interval '1 day', now() + interval '1 day') u WHERE u.key_id = key;
	END IF;
	highest := value_of('begun_' || n);
	PERFORM check_value('uses_' || n, lowest, value, highest);
END
\$\$;
ALTER SYSTEM SET overten_auth.flush_interval = '1s';
SELECT pg_reload_conf();
EOQ

# A pgbench that runs statements for a while.
sub start_pgbench
{
	my ($name, $sql, @options) = @_;
	my $file = $node->basedir . "/$name.sql";
	my %load = (out => '', err => '', name => $name);

	append_to_file($file, $sql);
	local %ENV = $node->_get_env();
	$load{run} = IPC::Run::start(
		[ 'pgbench', '-n', '-M', 'prepared', '-T', $ENV{OVERTEN_READ_SECONDS} // 8, '-f', $file, @options, 'postgres' ],
		'>', \$load{out}, '2>', \$load{err});
	return \%load;
}
my $random = "\\set n random(1, $keys)\n\\set how random(0, 2)\n";
my @loads = (
	start_pgbench('use', "$random SELECT use(:n, :client_id);", '-c', $verifiers),
	start_pgbench('look', "$random SELECT look(:n, :how);", '-c', 3),
	start_pgbench('look_in_transaction',
		"$random BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT look(:n, :how); SELECT look(:n, 1); SELECT look(:n, 2); COMMIT;"),
	start_pgbench('flush', 'SELECT overten_flush_usage();'));
foreach my $load (@loads)
{
	my $done = $load->{run}->finish;
	my ($count) = $load->{out} =~ /^number of transactions actually processed: (\d+)/m;

	ok($done && $load->{err} !~ /ERROR/, "at random: $load->{name}, " . ($count // 0) . ' times')
	  or diag($load->{err});
}
my $all = "SELECT string_agg((SELECT coalesce(sum(accepted + refused), 0) FROM overten_key_usage('$random_org', key_id))
	|| ' of ' || value_of('answered_' || n), ', ' ORDER BY n) FROM watched";
my $exact = ask($node, "SELECT string_agg(value_of('begun_' || n) || ' of ' || value_of('answered_' || n), ', ' ORDER BY n) FROM watched");
is(ask($node, $all), $exact, "at the end each key's count is right: $exact");
flush_usage($node);
is(ask($node, $all), $exact, 'and after a last flush');

$node->stop;
done_testing();
