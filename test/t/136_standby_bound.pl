
# overten_auth.max_standby_lag: a standby verifies while it knows what the
# primary had committed so long ago, and raises 55000 otherwise, whatever is in
# its caches, for keys, tokens and limits.  An idle primary and a worker that
# ends do not change that.  pg_regress has one server only.

use strict;
use warnings FATAL => 'all';

use FindBin;
use lib $FindBin::RealBin;
use FirebaseTokens;
use OvertenTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use StandbyTest;
use Test::More;
use Time::HiRes qw(time usleep);

my $bound = 1000;
my $primary = create_primary('primary', $bound, <<"EOC");
overten_auth.firebase_project_id = '${\PROJECT}'
wal_writer_delay = 10ms
full_page_writes = off
EOC
# Some have made template1 anew, with another locale.
ask($primary, $_) foreach 'ALTER DATABASE template1 IS_TEMPLATE false', 'DROP DATABASE template1', 'CREATE DATABASE template1 TEMPLATE template0 IS_TEMPLATE true';
my $org = create_org($primary, 'Bounded');
my ($secret, $key) = mint($primary, $org);
my ($revoked, $revoked_key) = mint($primary, $org);
my ($limited) = mint($primary, $org);
my $signer = new_rsa();
my $token = token($signer, header(), claims(sub => 'ada'));
ask($primary, 'SELECT overten_load_signing_keys($doc$' . jwk_set(jwk($signer, 'key-1')) . '$doc$)');
ask($primary, "SELECT overten_set_limit('org', '$org', 'all', 1000000, '1 hour')");
$primary->backup('base');
my $standby = create_standby($primary, 'base', 'standby');

# Every road on which a key or a token is verified.
my $headers = "json_build_object('authorization', 'Bearer $secret')";
my $status = 'r.status || coalesce(r.body::json #>> \'{error,code}\', \'\')';
my %roads = (
	'overten_verify_key' => [ "SELECT key_id FROM overten_verify_key('$secret')", $key, '55000' ],
	'overten_verify_key_digest' => [ "SELECT key_id FROM overten_verify_key_digest(sha256('$secret'))", $key, '55000' ],
	'overten_authenticate' => [ "SELECT key_id FROM overten_authenticate('$secret')", $key, '55000' ],
	'overten_admit' => [ "SELECT key_id FROM overten_admit('$secret')", $key, '55000' ],
	'overten_admission' => [ "SELECT (overten_admission('$secret', 0)).outcome", 'admitted', '55000' ],
	'overten_authorize_request' => [ "SELECT r.status FROM overten_authorize_request(NULL, $headers) r", '200', '55000' ],
	'GET /verify' => [ "SELECT $status FROM overten_handle_request('GET', '/api/v1/verify', $headers, NULL) r", '200', '503service_unavailable' ],
	'overten_verify_firebase_jwt' => [ "SELECT uid FROM overten_verify_firebase_jwt('$token')", 'ada', '55000' ],
	'GET with a token' => [ "SELECT $status FROM overten_handle_request('GET', '/api/v1/organizations',
		json_build_object('authorization', 'Bearer $token'), NULL) r", '200', '503auth_unavailable' ],
	'authenticate_request' => [ "SELECT set_config('request.headers', $headers\::text, false) \\g /dev/null\nSELECT overten_api.authenticate_request()", '', 'PGRST' ],
);

# Take every road in a session of its own.
sub check_roads
{
	my ($where, $beyond, $name) = @_;

	foreach my $road (sort keys %roads)
	{
		my ($sql, @expected) = @{ $roads{$road} };
		my ($result, $stdout, $stderr) = $where->psql('postgres', "\\set VERBOSITY sqlstate\n$sql");
		my $answer = $result == 0 ? $stdout : $stderr =~ /ERROR:  (\w{5})/ ? $1 : $stderr;

		is($answer, $expected[$beyond ? 1 : 0], "$name: $road");
	}
	return;
}

# Within the bound
wait_within($standby);
check_roads($standby, 0, 'within the bound');
check_roads($primary, 0, 'the bound of a primary does nothing');
is(problem($standby), '', 'there is no problem');
is(ask($standby, 'SELECT standby_bound FROM overten_status()'), '00:00:01', 'the bound is shown');
is( ask($primary, 'SELECT s.standby_age, s.standby_bound, s.standby_problem, t.standby_age, t.standby_bound FROM overten_status() s, overten_stat t'),
	'||||', 'and nothing on the primary');
is(processes($primary, qr/overten_auth standby worker/), 0, 'where no worker runs');
is(ask($primary, q{SELECT state FROM pg_stat_replication WHERE application_name = 'overten_auth'}),
	'startup', 'the primary knows the connection by its name');

# The server itself writes WAL now and then; the worker would each time.
my ($written, $answers);
foreach (1 .. 4)
{
	$written = ask($primary, 'SELECT pg_current_wal_insert_lsn()');
	$answers = answers($standby, $secret, 2 * $bound / 1000);
	last if ask($primary, 'SELECT pg_current_wal_insert_lsn()') eq $written;
}
are_within($answers, $key, 'it stays so');
is(ask($primary, 'SELECT pg_current_wal_insert_lsn()'), $written, 'and no WAL is written for that');

# Beyond it: the cache of this session has everything.
my $session = $standby->background_psql('postgres');
$session->set_query_timer_restart;
is(verify($session, $revoked), $revoked_key, 'a session has cached a key');
is(ask($session, "SELECT uid FROM overten_verify_firebase_jwt('$token')"), 'ada', 'and a token');
pause_replay($standby);
ask($primary, "SELECT overten_revoke_key('$org', '$revoked_key')");
usleep(1000 * $bound);
my ($result, $stdout, $stderr) = $standby->psql('postgres', "SELECT FROM overten_verify_key('$revoked')");
like($stderr, qr/ERROR:\ \ this\ standby\ may\ lack\ changes\ that\ are\ older\ than\ overten_auth\.max_standby_lag\n
	DETAIL:\ \ What\ it\ knows\ is\ \d{4}\ ms\ old,\ and\ the\ bound\ is\ 1000\ ms\.\ \ Replay\ is\ behind.*\n
	HINT:\ \ Verify\ on\ the\ primary/x, 'a paused standby says how old it is, why, and what to do');
unlike($stderr, qr/sk_live/, 'without the secret');
(undef, undef, $stderr) = $standby->psql('postgres', "SELECT overten_verify_firebase_jwt('$token')");
like($stderr, qr/ERROR:  Firebase ID tokens cannot be verified\nDETAIL:  What it knows is \d+ ms old/, 'for a token too');
check_roads($standby, 1, 'beyond the bound');
like(problem($standby), qr/^Replay is behind/, 'the status says why');
like(ask($standby, q{SELECT problem FROM overten_check() WHERE severity = 'warning' AND subject = 'overten_auth.max_standby_lag'}),
	qr/beyond the bound, and does not verify\. Replay is behind/, 'overten_check too');
is(ask($standby, "SELECT standby_age > '1 s' FROM overten_stat"), 't', 'the statistics say how old');
is(ask($session, <<"EOQ"), 'refused refused', 'what the session has cached is not accepted');
DO \$\$
BEGIN
	PERFORM set_config('test.key', 'accepted', false), set_config('test.token', 'accepted', false);
	BEGIN
		PERFORM FROM overten_verify_key('$revoked');
	EXCEPTION WHEN object_not_in_prerequisite_state THEN
		PERFORM set_config('test.key', 'refused', false);
	END;
	BEGIN
		PERFORM FROM overten_verify_firebase_jwt('$token');
	EXCEPTION WHEN object_not_in_prerequisite_state THEN
		PERFORM set_config('test.token', 'refused', false);
	END;
END \$\$;
SELECT current_setting('test.key') || ' ' || current_setting('test.token');
EOQ
is(answer($standby, 'sk_live_'), '', 'what is no secret is refused without a look, as ever');

# The control: without the bound the key is accepted.
set_conf($standby, 'overten_auth.max_standby_lag' => 0);
is(answer($standby, $revoked), $revoked_key, 'without the bound the paused standby accepts the revoked key');
is(verify($session, $revoked), $revoked_key, 'in the session too');
is(ask($standby, 'SELECT standby_age, standby_bound, standby_problem FROM overten_status()'), '||', 'nothing is shown');
wait_until('the worker has left the primary', sub {
	ask($primary, q{SELECT count(*) FROM pg_stat_replication WHERE application_name = 'overten_auth'}) == 0 });
pass('the worker leaves the primary');
set_conf($standby, 'overten_auth.max_standby_lag' => $bound);
is(answer($standby, $revoked), '55000', 'with the bound it does not, at once');
resume_replay($standby);
wait_within($standby);
is(answer_within($standby, $revoked), '', 'once it has caught up, it refuses the key');
is(answer_within($standby, $secret), $key, 'and accepts another');
$session->quit;

# The setting
is(sqlstate_of($standby, "LOAD 'overten_auth'; SET overten_auth.max_standby_lag = 5"), '55P02', 'no session sets the bound');
foreach my $value ('-1', '3600001', 'soon', '')
{
	is(sqlstate_of($primary, "LOAD 'overten_auth'; ALTER SYSTEM SET overten_auth.max_standby_lag = '$value'"),
		'22023', "the bound cannot be \"$value\"");
}
set_conf($standby, 'overten_auth.verify_on_standby' => 'off');
($result, $stdout, $stderr) = $standby->psql('postgres', "SELECT FROM overten_verify_key('$secret')");
like($stderr, qr/keys are not verified on a standby/, 'a bound does not allow a standby to verify');
set_conf($standby, 'overten_auth.verify_on_standby' => 'on');
wait_within($standby);

# A primary that is idle may have flushed a part of a record: whole pages of what
# a transaction has written that goes on.  Returns up to where, and where the
# record ends: more than so many bytes later.
sub flush_part_of_record
{
	my ($rest) = @_;
	my $open = "SELECT pg_current_wal_insert_lsn() - pg_current_wal_flush_lsn() > $rest";

	wait_until('a part of a record is flushed', sub {
		end_writer();
		my $pid = fork // die "fork: $!";
		if ($pid == 0)
		{
			open STDOUT, '>', '/dev/null' or die $!;
			open STDERR, '>', '/dev/null' or die $!;
			exec 'psql', '-Xq', '-d', $primary->connstr('postgres'), '-c',
			  "SELECT pg_logical_emit_message(false, 'filler', repeat('x', 100000 + (random() * 8000)::int4)), pg_sleep(600)"
			  or die "psql: $!";
		}
		usleep(300_000);
		return ask($primary, $open) eq 't';
	});
	return split /\|/, ask($primary, 'SELECT pg_current_wal_flush_lsn(), pg_current_wal_insert_lsn()');
}

sub end_writer
{
	return ask($primary, q{SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE '%filler%' AND pid <> pg_backend_pid()});
}

# Now and then another process of the primary flushes the rest; then try again.
my $idle;
foreach (1 .. 5)
{
	my ($flushed) = flush_part_of_record(0);
	my $missing = "SELECT pg_last_wal_receive_lsn() >= '$flushed' AND pg_last_wal_replay_lsn() < '$flushed'";

	wait_until('it is received', sub { ask($standby, "SELECT pg_last_wal_receive_lsn() >= '$flushed'") eq 't' });
	$answers = answers($standby, $secret, 2.5 * $bound / 1000);
	$idle = ask($standby, $missing) eq 't' && ask($primary, 'SELECT pg_current_wal_flush_lsn()') eq $flushed;
	end_writer();
	last if $idle;
}
ok($idle, 'a record that an idle primary has flushed in part is received, and not replayed');
are_within($answers, $key, 'a standby is within the bound all the same');

# The primary crashes then, and writes other records in the place of the rest.
# The startup process is stopped before it can replay them, while the WAL
# receiver goes on.
my ($startup) = processes($standby, qr/startup/);

sub children
{
	my ($node) = @_;
	my $postmaster = postmaster($node);

	return split ' ', slurp_file("/proc/$postmaster/task/$postmaster/children");
}

sub accepts_connections
{
	my ($node) = @_;

	return (eval { slurp_file($node->data_dir . '/postmaster.pid') } // '') =~ /ready/;
}

# Start the primary in the background.
sub start_primary
{
	my $pid = fork // die "fork: $!";

	return $pid if $pid;
	open STDOUT, '>', '/dev/null' or die $!;
	exec 'pg_ctl', '-w', '-D', $primary->data_dir, '-l', $primary->logfile, 'start' or die "pg_ctl: $!";
}

# Stop the next WAL receiver that is forked while the primary accepts
# connections; its process.
sub stop_next_receiver
{
	my (%known) = map { $_ => 1 } children($standby);
	my $end = time + 20;

	while (time < $end)
	{
		foreach my $new (grep { !$known{$_} } children($standby))
		{
			return $new if accepts_connections($primary) && kill 'STOP', $new;
			$known{$new} = 1;
		}
	}
	return;
}

# Crash the primary in a record that it has flushed in part.  Returns where that
# would have ended, if everything was stopped in time; if not, all goes on as if
# nothing was.
sub overwrite_record
{
	my ($part, $record_end) = flush_part_of_record(6000);

	wait_until('it is received', sub { ask($standby, "SELECT pg_last_wal_receive_lsn() >= '$part'") eq 't' });
	$primary->stop('immediate');
	wait_until('the WAL receiver has ended', sub { !processes($standby, qr/walreceiver/) });
	my $starter = start_primary();
	my $receiver = stop_next_receiver();
	my $end = time + 5;
	my $received = 0;

	kill 'STOP', $startup;
	waitpid $starter, 0;
	$primary->_update_pid(1);
	kill 'CONT', $receiver if defined $receiver;
	$received = ask($standby, "SELECT pg_last_wal_receive_lsn() > '$part'") eq 't'
	  until $received || time > $end;
	return $record_end if $received && ask($standby, "SELECT pg_last_wal_replay_lsn() < '$part'") eq 't';
	kill 'CONT', $startup;
	wait_within($standby);
	return;
}

my $record_end;
foreach (1 .. 20)
{
	$record_end = overwrite_record();
	last if defined $record_end;
}
ok($record_end, 'a record that was flushed in part is overwritten after a crash');
ask($primary, "SELECT overten_revoke_key('$org', '$key')");
my $revocation = ask($primary, 'SELECT pg_current_wal_flush_lsn()');
is(ask($primary, "SELECT '$revocation' < '$record_end'::pg_lsn"), 't', 'a revocation is where the rest would have been');
wait_until('the revocation is received', sub { ask($standby, "SELECT pg_last_wal_receive_lsn() >= '$revocation'") eq 't' });
usleep(1000 * $bound);
stays($standby, $secret, '55000', 2.5 * $bound / 1000, 'a standby that has not replayed what was written there is beyond the bound');
kill 'CONT', $startup;
is(answer_within($standby, $secret), '', 'and refuses the key when it has');
($secret, $key) = mint($primary, $org);
wait_replayed($primary, $standby);

# The worker ends, or hangs.
foreach my $signal ('TERM', 'INT', 'STOP', 'KILL')
{
	my $worker = worker_pid($standby);

	kill $signal, $worker;
	if ($signal eq 'STOP')
	{
		wait_beyond($standby, qr/hangs/);
		is(answer($standby, $secret), '55000', 'while the worker is stopped, the standby is beyond the bound');
		kill 'CONT', $worker;
	}
	else
	{
		wait_until('another worker runs', sub {
			my ($other) = processes($standby, qr/overten_auth standby worker/);
			return defined $other && $other != $worker;
		});
	}
	wait_until('the standby answers', sub { $standby->psql('postgres', 'SELECT 1') == 0 });
	wait_within($standby);
	is(answer_within($standby, $secret), $key, "after SIG$signal to the worker it is within it again");
}
$standby->restart;
wait_within($standby);
is(answer_within($standby, $secret), $key, 'after a restart too');

# The WAL receiver hangs: it has received all that its last keepalive told of.
my ($receiver) = processes($standby, qr/walreceiver/);
kill 'STOP', $receiver;
($revoked, $revoked_key) = ($secret, $key);
ask($primary, "SELECT overten_revoke_key('$org', '$revoked_key')");
usleep(1000 * $bound);
stays($standby, $revoked, '55000', 2 * $bound / 1000, 'while the WAL receiver is stopped, the standby is beyond the bound');
kill 'CONT', $receiver;
wait_within($standby);
is(answer_within($standby, $revoked), '', 'and refuses the revoked key afterwards');

# An answer that is read late tells of the time at which it was asked for.
($revoked, $revoked_key) = mint($primary, $org);
wait_replayed($primary, $standby);
wait_within($standby);
my $sender = ask($primary, q{SELECT pid FROM pg_stat_replication WHERE application_name = 'overten_auth'});
my $asker = worker_pid($standby);
kill 'STOP', $sender;
usleep(500 * $bound);
kill 'STOP', $asker;
kill 'CONT', $sender;
usleep(200 * $bound);
pause_replay($standby);
ask($primary, "SELECT overten_revoke_key('$org', '$revoked_key')");
usleep(1000 * $bound);
kill 'CONT', $asker;
stays($standby, $revoked, '55000', 2 * $bound / 1000, 'an answer that the worker reads late does not bring it within the bound');
resume_replay($standby);
wait_within($standby);
is(answer_within($standby, $revoked), '', 'the key is refused when that is replayed');
($secret, $key) = mint($primary, $org);
wait_replayed($primary, $standby);

# No primary
$primary->stop;
wait_beyond($standby, qr/^No WAL receiver is streaming/);
is(answer($standby, $secret), '55000', 'without a primary it is beyond the bound');
$primary->start;
wait_within($standby);
is(answer_within($standby, $secret), $key, 'with it, within');

# No place on the primary
$standby->append_conf('postgresql.conf', "max_wal_senders = 5");
$primary->append_conf('postgresql.conf', "max_wal_senders = 1");
$primary->restart;
wait_beyond($standby, qr/^The worker cannot reach the primary/);
like(slurp_file($standby->logfile), qr/LOG:  cannot tell how old what this standby knows is\n.*DETAIL:  The worker cannot reach the primary.*\n.*CONTEXT:  .*max_wal_senders/,
	'the log says why the worker cannot connect');
$primary->append_conf('postgresql.conf', "max_wal_senders = 5");
$primary->restart;
wait_within($standby);

# A URI
my $uri = 'postgresql://?host=' . $primary->host . '&port=' . $primary->port;
set_conf($standby, primary_conninfo => $uri);
wait_within($standby);
usleep(1000 * $bound);
is(answer_within($standby, $secret), $key, 'primary_conninfo can be a URI');
is(ask($primary, q{SELECT count(*) FROM pg_stat_replication WHERE application_name = 'overten_auth'}), 1, 'with the name all the same');

# Promotion
$primary->stop;
$standby->promote;
is(answer($standby, $secret), $key, 'after its promotion no bound is needed');
wait_until('the worker has ended', sub { !processes($standby, qr/overten_auth standby worker/) });
pass('the worker ends');
is(ask($standby, 'SELECT standby_age, standby_bound, standby_problem FROM overten_status()'), '||', 'and nothing is shown');
$standby->stop;

done_testing();
