
# What the usage worker does besides flushing, and what it makes of settings and
# names that others choose: each job waits by itself after a failure; rows of
# keys that are gone are removed; a database's defaults do not change who the
# worker is; what is known of one database is not told of another; uses survive
# renames.  pg_regress has no preloaded library, and one database.

use strict;
use warnings FATAL => 'all';

use FindBin;
use lib $FindBin::RealBin;
use FirebaseTokens;
use OvertenTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $dir = PostgreSQL::Test::Utils::tempdir;
my $keys = jwk_set(jwk(new_rsa(), 'key-1'));
append_to_file("$dir/keys", $keys);
my $node = create_node(
	'jobs', <<"EOC");
shared_preload_libraries = 'overten_auth'
overten_auth.databases = 'postgres, wandering, reborn'
overten_auth.flush_interval = 1s
deadlock_timeout = 500ms
overten_auth.firebase_project_id = '${\PROJECT}'
overten_auth.signing_keys_command = 'printf "HTTP/1.1 200 OK\\r\\nCache-Control: max-age=20000\\r\\n\\r\\n"; cat "$dir/keys"'
EOC
my $owner = $node->background_psql('postgres');
$owner->set_query_timer_restart;
my $org = create_org($owner, 'Tidy');
my ($secret, $key) = mint($owner, $org);

sub status_of
{
	my ($column, $where) = @_;

	return ask($where // $owner, "SELECT $column FROM overten_status()");
}

sub reload
{
	ask($owner, 'SELECT pg_reload_conf()');
	return;
}

# The log since a moment.
my $log_start = 0;
sub log_since { return slurp_file($node->logfile, $log_start); }
sub start_log { $log_start = -s $node->logfile; return; }


# The age of flushed_at tells whether flushes work

my $flushed_at = "SELECT flushed_at FROM overten_status()";
flush_usage($owner);
my $before = ask($owner, $flushed_at);
$node->poll_query_until('postgres', "SELECT ($flushed_at) > '$before'::timestamptz + interval '2 seconds'")
  or die 'flushed_at stands still';
pass('flushed_at goes on while there is nothing to flush');
ask($owner, <<'EOQ');
CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	RAISE EXCEPTION 'refused by a trigger';
END
$$;
CREATE TRIGGER refuse BEFORE INSERT ON overten_auth.key_usage FOR EACH ROW EXECUTE FUNCTION refuse();
EOQ
verify($owner, $secret);
my $failures = ask($owner, 'SELECT flush_failures FROM overten_stat');
$node->poll_query_until('postgres', "SELECT flush_failures >= $failures + 2 FROM overten_stat")
  or die 'the flush does not fail';
$before = ask($owner, $flushed_at);
$node->poll_query_until('postgres', "SELECT flush_failures >= $failures + 3 FROM overten_stat")
  or die 'the flush is not tried again';
is(ask($owner, $flushed_at), $before, 'and stands still while flushes fail');
ask($owner, 'DROP TRIGGER refuse ON overten_auth.key_usage');
flush_usage($owner);
is(ask($owner, "SELECT ($flushed_at) > '$before'"), 't', 'until one is done');


# A job that fails does not keep the others, and is not done again and again

ask($owner, <<'EOQ');
CREATE TRIGGER refuse BEFORE DELETE ON overten_auth.key_usage FOR EACH ROW EXECUTE FUNCTION refuse();
INSERT INTO overten_auth.key_usage SELECT 'old', '2001-01-01Z', NULL, 1, 0, '2001-01-01Z', '2001-01-01Z';
INSERT INTO overten_auth.quota_usage VALUES ('2001-01-01Z', decode(repeat('00', 16), 'hex'), 'org_old', 1);
EOQ
start_log();
reload();
foreach my $n (1 .. 12)
{
	verify($owner, $secret);
	flush_usage($owner);
}
is(uses($owner, $key), 13, 'flushes go on while old history cannot be removed');
$node->poll_query_until('postgres', q{SELECT flush_failure IS NOT NULL FROM overten_status()});
is(status_of('flush_failure'), 'removing old usage: refused by a trigger', 'the state tells what failed');
my $tries = () = log_since() =~ /ERROR:  refused by a trigger/g;
cmp_ok($tries, '>=', 1, "it was tried ($tries)");
cmp_ok($tries, '<=', 5, 'but not at each of 12 flushes');
is(ask($owner, 'SELECT count(*) FROM overten_auth.quota_usage'), 0, 'what is old in other tables is removed');
ask($owner, 'DROP TRIGGER refuse ON overten_auth.key_usage');
reload();
$node->poll_query_until('postgres', q{SELECT NOT EXISTS (SELECT FROM overten_auth.key_usage WHERE key_id = 'old')})
  or die 'old history is not removed';
pass('when it can be, it is');

# The look at signing keys is a job like the others.
start_log();
my $locker = $node->background_psql('postgres');
ask($locker, 'BEGIN; LOCK overten_auth.signing_keys');
reload();
foreach my $n (1 .. 12)
{
	verify($owner, $secret);
	flush_usage($owner);
}
is(uses($owner, $key), 25, 'flushes go on while signing keys cannot be looked at');
$tries = () = log_since() =~ /ERROR:  canceling statement due to lock timeout/g;
cmp_ok($tries, '>=', 1, "that was tried ($tries)");
cmp_ok($tries, '<=', 5, 'but not at each of 12 flushes');
ask($locker, 'COMMIT');
$locker->quit;


# Rows of keys that are gone

my ($gone_secret, $gone_key) = mint($owner, create_org($owner, 'Gone'));
my ($kept_secret, $kept_key) = mint($owner, $org);
verify($owner, $_) foreach $gone_secret, $kept_secret;
flush_usage($owner);
ask($owner, <<"EOQ");
INSERT INTO overten_auth.key_usage
	SELECT '$gone_key', date_trunc('hour', now()) - n * interval '1 hour', '10.0.0.1'::inet + m, 1, 0, now(), now()
	FROM generate_series(1, 110) n, generate_series(1, 100) m;
INSERT INTO overten_auth.key_last_used SELECT 'key_gone_' || n FROM generate_series(1, 2500) n;
INSERT INTO overten_auth.key_details (key_id, description) VALUES ('$gone_key', 'gone'), ('$kept_key', 'kept');
DELETE FROM overten_auth.api_keys WHERE key_id = '$gone_key';
EOQ
my $left = "SELECT (SELECT count(*) FROM overten_auth.key_last_used u WHERE NOT EXISTS (SELECT FROM overten_auth.api_keys k WHERE k.key_id = u.key_id)),
	(SELECT count(*) FROM overten_auth.key_usage u WHERE NOT EXISTS (SELECT FROM overten_auth.api_keys k WHERE k.key_id = u.key_id)),
	(SELECT count(*) FROM overten_auth.key_details d WHERE NOT EXISTS (SELECT FROM overten_auth.api_keys k WHERE k.key_id = d.key_id))";
is(ask($owner, $left), '2501|11001|1', 'rows of keys that are gone are left behind');
# Have a sweep begin, which removes old batches first.
sub sweep
{
	my ($database) = @_;

	ask([ $node, $database ], "INSERT INTO overten_auth.usage_batches VALUES (gen_random_uuid(), 1, '2001-01-01Z')");
	reload();
	$node->poll_query_until($database, "SELECT NOT EXISTS (SELECT FROM overten_auth.usage_batches WHERE written_at < '2002-01-01Z')")
	  or die 'there is no sweep';
	return;
}
sweep('postgres');
flush_usage($owner);
is(ask($owner, $left), '2501|11001|1', 'a sweep leaves what has been written since the one before');
$locker = $node->background_psql('postgres');
ask($locker, 'BEGIN; LOCK overten_auth.key_details IN EXCLUSIVE MODE');
sweep('postgres');
$node->poll_query_until('postgres', $left, '0|0|1')
  or die 'the rows are not removed';
pass('the next one removes it, but for a table that is locked');
ask($locker, 'COMMIT');
$locker->quit;
reload();
$node->poll_query_until('postgres', $left, '0|0|0')
  or die 'the details are not removed';
pass('and that one when it can');
is(uses($owner, $key, $kept_key), "25\n1", 'and nothing of keys that are there');
is(ask($owner, "SELECT last_used_at IS NOT NULL FROM overten_auth.key_last_used WHERE key_id = '$kept_key'"),
	't', 'nor when they were used');
is(ask($owner, "SELECT description FROM overten_auth.key_details WHERE key_id = '$kept_key'"), 'kept', 'nor what is written about them');

# A restore that has brought the history, and not the keys yet
ask($owner, 'CREATE DATABASE reborn');
my $reborn = [ $node, 'reborn' ];
ask($reborn, 'CREATE EXTENSION overten_auth CASCADE');
flush_usage($reborn);
ask($reborn, "INSERT INTO overten_auth.key_last_used VALUES ('key_later')");
sweep('reborn') foreach 1 .. 3;
flush_usage($reborn);
is(ask($reborn, 'SELECT count(*) FROM overten_auth.key_last_used'), 1, 'where there are no keys at all, nothing is removed');


# Who the worker is

ask($owner, <<'EOQ');
CREATE ROLE app; CREATE ROLE weak; GRANT weak TO app;
CREATE TABLE writers (what name, who text);
GRANT INSERT ON writers TO PUBLIC;
CREATE FUNCTION note_writer() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	INSERT INTO public.writers VALUES (tg_table_name, concat_ws(' ', session_user, current_user, current_setting('role')));
	RETURN NULL;
END
$$;
CREATE TRIGGER note_writer AFTER INSERT OR UPDATE ON overten_auth.key_usage FOR EACH STATEMENT EXECUTE FUNCTION note_writer();
CREATE TRIGGER note_writer AFTER INSERT ON overten_auth.signing_keys FOR EACH STATEMENT EXECUTE FUNCTION note_writer();
EOQ
ask($owner, "ALTER DATABASE postgres SET $_")
  foreach ("session_authorization = 'app'", "role = 'weak'", 'row_security = off', 'statement_timeout = 1',
	'standard_conforming_strings = off', 'max_parallel_workers_per_gather = 4');
ask($owner, 'ALTER ROLE ALL SET default_transaction_read_only = on');
verify($owner, $secret);
flush_usage($owner);
is(uses($owner, $key), 26, 'defaults of the database and of all roles do not disturb a flush');
ask($owner, 'DELETE FROM overten_auth.signing_keys');
ask($owner, 'SELECT overten_refresh_signing_keys()');
is( ask($owner, "SELECT string_agg(DISTINCT actor, ', ') FROM overten_auth.audit_log WHERE action = 'load_signing_keys'"),
	'overten_auth key worker', 'and the audit log names the worker, not a role');
my $superuser = ask($owner, 'SELECT rolname FROM pg_roles WHERE oid = 10');
is(ask($owner, 'SELECT DISTINCT what, who FROM writers ORDER BY 1'),
	"key_usage|$superuser $superuser none\nsigning_keys|$superuser $superuser none",
	'the session of each worker is the bootstrap superuser\'s, with no role set');
ask($owner, "DROP TRIGGER note_writer ON overten_auth.$_") foreach 'key_usage', 'signing_keys';
ask($owner, 'ALTER DATABASE postgres RESET ALL');
ask($owner, 'ALTER ROLE ALL RESET ALL');


# Ends when somebody waits for a lock.
my $until_somebody_waits = <<'EOQ';
DO $$
BEGIN
	WHILE NOT EXISTS (SELECT FROM pg_locks WHERE NOT granted) LOOP
		PERFORM pg_sleep(0.001);
	END LOOP;
END
$$;
EOQ

# A deadlock with a session is the worker's to end

my ($locked, $locked_key) = mint($owner, $org);
verify($owner, $locked);
flush_usage($owner);
verify($owner, $locked);
start_log();
my $session = $node->background_psql('postgres');
ask($session, "BEGIN; SELECT FROM overten_auth.key_last_used WHERE key_id = '$locked_key' FOR UPDATE");
# As soon as the worker waits, wait for what it has written.
is(ask($session, <<"EOQ"), 't', 'a session that the worker waits for, and that waits for the worker, gets its lock');
$until_somebody_waits
UPDATE overten_auth.key_usage SET refused = refused WHERE key_id = '$locked_key' RETURNING true;
EOQ
ask($session, 'COMMIT');
$session->quit;
flush_usage($owner);
is(uses($owner, $locked_key), 2, 'and the next flush writes what this one could not');
unlike(log_since(), qr/deadlock detected/, 'nobody has had to look for a deadlock');


# Likewise one with a session that adds the uses of a standby

start_log();
$session = $node->background_psql('postgres');
ask($session, "BEGIN; SELECT FROM overten_auth.key_last_used WHERE key_id = '$locked_key' FOR UPDATE");
my $cluster = ask($owner, 'SELECT system_identifier FROM pg_control_system()');
my $adding = $node->background_psql('postgres', on_error_stop => 0);
$adding->query_until(qr/begun/, <<"EOQ");
\\echo begun
CALL overten_auth.add_uses($cluster, gen_random_uuid(), 1, ARRAY['$locked_key'],
	ARRAY[date_trunc('hour', now(), 'UTC')], ARRAY[NULL::inet], '{1}', '{0}', '{0}', ARRAY[now()], ARRAY[now()], ARRAY[now()]);
EOQ
is(ask($session, <<"EOQ"), 't', 'a session that it waits for gets its lock');
$until_somebody_waits
UPDATE overten_auth.key_usage SET refused = refused WHERE key_id = '$locked_key' RETURNING true;
EOQ
ask($session, 'COMMIT');
$_->quit foreach $session, $adding;
unlike(log_since(), qr/deadlock detected/, 'nobody has had to look for a deadlock');
like(log_since(), qr/canceling statement due to lock timeout/, 'because it gives up in time');


# What quotas have granted does not hold up uses

my ($quoted, $quoted_key) = mint($owner, $org);
ask($owner, "SELECT overten_set_limit('key', '$quoted_key', 'daily', 100, '1 day')");
ask($owner, 'CREATE TRIGGER refuse BEFORE INSERT ON overten_auth.quota_usage FOR EACH ROW EXECUTE FUNCTION refuse()');
ask($owner, "SELECT overten_admit('$quoted')");
is(sqlstate_of($node, 'SELECT overten_flush_usage()'), '55000', 'quotas cannot be flushed');
is(uses($owner, $quoted_key), 1, 'but uses are');
is(status_of('flush_failure'), 'refused by a trigger', 'the state tells what failed');
ask($owner, 'DROP TRIGGER refuse ON overten_auth.quota_usage');
flush_usage($owner);
is(ask($owner, 'SELECT sum(units) FROM overten_auth.quota_usage'), 1, 'quotas are flushed when they can be');


# A row that is removed between the look of a flush and its update

verify($owner, $locked);
start_log();
$session = $node->background_psql('postgres');
ask($session, "BEGIN; DELETE FROM overten_auth.key_usage WHERE key_id = '$locked_key'");
ask($session, <<"EOQ");
$until_somebody_waits
COMMIT
EOQ
$session->quit;
wait_until('the flush has failed', sub { log_since() =~ /rows of overten_auth\.key_usage were changed during a flush/ });
flush_usage($owner);
is(uses($owner, $locked_key), 1, 'the use is not lost with the row that it would have been added to');


# Renames

ask($owner, 'CREATE DATABASE wandering');
my $wandering = [ $node, 'wandering' ];
ask($wandering, 'CREATE EXTENSION overten_auth CASCADE');
my ($far_secret, $far_key) = mint($wandering, create_org($wandering, 'Far'));
ask($owner, "ALTER SYSTEM SET overten_auth.flush_interval = '1h'");
reload();
$node->poll_query_until('postgres', "SELECT setting = '3600' FROM pg_settings WHERE name = 'overten_auth.flush_interval'");
flush_usage($wandering);
sub use_far
{
	my ($database) = @_;

	return ask([ $node, $database ], "SELECT count(*) FROM generate_series(1, 2500) i, overten_verify_key(CASE WHEN i > 0 THEN '$far_secret' END)");
}
use_far('wandering');
start_log();
ask($owner, 'ALTER DATABASE wandering RENAME TO abroad');
reload();
wait_until('the launcher has looked', sub { log_since() =~ /database "wandering" of overten_auth\.databases does not exist/ });
is(ask([ $node, 'abroad' ], 'SELECT usage_mode FROM overten_status()'), 'table', 'under a name that is not listed uses are not counted');
is( ask([ $node, 'abroad' ], "SELECT sum(accepted) FROM overten_auth.api_keys k, overten_key_usage(k.org_id, k.key_id)"),
	2500, 'but what was counted before is still seen');
ask($owner, 'ALTER DATABASE abroad RENAME TO wandering');
use_far('wandering');
flush_usage($wandering);
is(uses($wandering, $far_key), 5000, 'a database that is renamed away and back loses no use');
use_far('wandering');
ask($owner, 'ALTER DATABASE wandering RENAME TO abroad');
ask($owner, 'SELECT overten_flush_usage()');
ask($owner, 'DROP DATABASE abroad');
reload();
$node->poll_query_until('postgres', 'SELECT entries_used = 0 FROM overten_stat')
  or die 'the uses are kept';
pass('those of a database that is dropped under another name are forgotten');


# What is known of a database is not told of the next one of its name

ask($owner, 'DROP DATABASE reborn');
ask($owner, "CREATE DATABASE reborn ENCODING 'LATIN1' LOCALE 'C' TEMPLATE template0");
ask($reborn, 'CREATE EXTENSION overten_auth CASCADE');
my ($reborn_secret) = mint($reborn, create_org($reborn, 'Reborn'));
ask($reborn, <<'EOQ');
CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	RAISE EXCEPTION '% na %', 'nem', chr(233) || chr(252);
END
$$;
CREATE TRIGGER refuse BEFORE INSERT ON overten_auth.key_usage FOR EACH ROW EXECUTE FUNCTION refuse();
EOQ
verify($reborn, $reborn_secret);
is(sqlstate_of($reborn, 'SELECT overten_flush_usage()'), '55000', 'a flush fails');
is(status_of("flush_failure = 'nem na ' || chr(233) || chr(252)", $reborn), 't', 'the state tells why, in the encoding of the database');
is(status_of('length(flush_failure)', $reborn), 9, 'with its characters');
ask($owner, 'DROP DATABASE reborn');
ask($owner, "CREATE DATABASE reborn ENCODING 'UTF8' LOCALE 'C' TEMPLATE template0");
ask($reborn, 'CREATE EXTENSION overten_auth CASCADE');
is(status_of("concat_ws(',', flush_failed_at, flush_failure)", $reborn), '', 'the next database of the name has not failed');
flush_usage($reborn);
is(status_of("concat_ws(',', flush_failed_at, flush_failure)", $reborn), '', 'also when it has been flushed');


# All uses over HTTP from the machine itself

ask($owner, <<'EOQ');
CREATE FUNCTION request(secret text, address text, times int) RETURNS bigint LANGUAGE sql AS $$
	SELECT count((overten_handle_request('GET', '/api/v1/verify',
		json_build_object('authorization', 'Bearer ' || secret, 'x-overten-client-addr', address), NULL)).status)
	FROM generate_series(1, times)
$$;
EOQ
my $loopback = qr/LOG:  all uses of keys over HTTP in database "postgres" come from this machine itself/;
start_log();
ask($owner, "SELECT request('$secret', '127.0.0.1', 60), request('$secret', '::1', 39), request('$secret', 'unknown', 5)");
verify($owner, $secret) foreach 1 .. 5;
unlike(log_since(), $loopback, 'a few uses over HTTP from the machine itself are nothing to tell of');
ask($owner, "SELECT request('$secret', '127.0.0.1', 50)");
is(() = log_since() =~ /$loopback/g, 1, 'where all are, the log says so once');
like(log_since(), qr/HINT:  If a proxy passes requests on, have it send X-Forwarded-For, and set overten_auth\.trust_forwarded_for/,
	'and what to do');
$owner->quit;
$node->restart;
start_log();
ask($node, "SELECT request('$secret', '127.0.0.1', 60), request('$secret', '192.0.2.1', 1), request('$secret', '127.0.0.1', 100)");
unlike(log_since(), $loopback, 'where one comes from elsewhere, it does not');

$node->stop;
done_testing();
