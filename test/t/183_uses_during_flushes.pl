
# Readers count each use once while a flush is halfway, whatever comes between its
# steps, and after a crash between the commit of a flush and its end.  A module stops
# the worker there.  pg_regress has no preloaded library.

use strict;
use warnings FATAL => 'all';

use FindBin;
use lib $FindBin::RealBin;
use OvertenTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use UsageTest;

my $module = "$FindBin::RealBin/../modules/flush_pauses.so";
die "make test/modules/flush_pauses.so" unless -e $module;

my $node = create_node(
	'halfway', <<"EOC");
shared_preload_libraries = 'overten_auth, $module'
overten_auth.databases = 'postgres, listed'
overten_auth.flush_interval = 1h
overten_auth.signing_keys_command = ''
restart_after_crash = on
EOC
my $caller = $node->background_psql('postgres');
my $reader = $node->background_psql('postgres');
$_->set_query_timer_restart foreach $caller, $reader;
my $minter = $node->background_psql('postgres');
my $org = create_org($caller, 'Curious');
ask($caller, REQUEST_FUNCTIONS . REPORT_FUNCTIONS);

# A key that has been refused.
my ($revoked, $revoked_key) = mint($caller, $org);
verify($caller, $revoked);
ask($caller, "SELECT overten_revoke_key('$org', '$revoked_key')");
verify($caller, $revoked) foreach 1 .. 2;
flush_usage($caller);

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


# Between the commit of a flush and its end

my ($halfway, $halfway_key) = mint($caller, $org);
use_from($caller, $halfway, '192.0.2.1', 5);
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

	is(report($where, $org, $halfway_key), '5|0; 192.0.2.1 5|0', "$who counts each use once");
	is(report($where, $org, $revoked_key), '1|5; 1|5; 5', "$who counts each attempt once");
}
use_from($caller, $halfway, '192.0.2.1', 2);
use_from($caller, $halfway, '192.0.2.2', 1);
is(report($reader, $org, $halfway_key), '8|0; 192.0.2.1 7|0, 192.0.2.2 1|0', 'and what comes meanwhile');
ask($minter, 'COMMIT');
is(report($reader, $org, $late_key), '4|0; 4|0', 'a key that has committed since has its uses, which the flush has kept back');
my $last_used = ask($reader, "SELECT listed('$org', '$halfway_key')");
finish_flush($asker);
is(report($reader, $org, $halfway_key), '8|0; 192.0.2.1 7|0, 192.0.2.2 1|0', 'when the flush has ended it is the same');
is(report($reader, $org, $late_key), '4|0; 4|0', 'for the key that was kept back, too');
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
	$caller,
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
	$caller,
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
is(report($node, $org, $crashed_key), '7|0; 7|0', 'after a crash between commit and subtraction each use counts once');
verify($node, $crashed);
is(report($node, $org, $crashed_key), '8|0; 8|0', 'and so does the next');
flush_usage($node);
is(report($node, $org, $crashed_key), '8|0; 8|0', 'also when it is flushed');
is(ask($node, 'SELECT count(*) FROM overten_auth.usage_batches'), 2, 'by a shared memory that has another name');

$node->stop;
done_testing();
