# The cache of all sessions where something fails or ends: callbacks, sessions, a
# primary, and the memory itself.  pg_regress has no preloaded library.

use strict;
use warnings FATAL => 'all';

use FindBin;
use lib $FindBin::RealBin;
use OvertenTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use SharedCacheTest;
use Test::More;

start_server();

# -- Faults --

# Is the session over?
sub has_ended
{
	my ($pid) = @_;

	wait_until("$pid ends",
		sub { ask($reader, "SELECT count(*) FROM pg_stat_activity WHERE pid = $pid") eq '0' }
	);
	return 1;
}

my $started = ask($reader, 'SELECT pg_postmaster_start_time()');

# A session that has this to do, and may come to an end by it.
sub run_to_the_end
{
	my ($sql) = @_;

	$node->psql('postgres', $sql, on_error_stop => 0);
	return;
}

{
	my ($secret, $id) = cached_key($org);
	my $offset = -s $node->logfile;

	run_to_the_end(
		"SELECT fail_in('end'); SELECT overten_revoke_key('$org', '$id'); SELECT 1");
	is_refused_everywhere($secret, 'a callback that fails in the commit');
	like(
		slurp_file($node->logfile, $offset),
		qr/LOG:  a callback for invalidation messages failed at the end of a transaction\n[^\n]*DETAIL:  The error was: relcache_faults\. This session ends.*terminating connection/s,
		'the session says so, and ends');

	($secret, $id) = cached_key($org);
	ask($writer,
		"BEGIN; SELECT overten_revoke_key('$org', '$id'); PREPARE TRANSACTION 'p'");
	is_accepted($node, $secret) or die 'not accepted';
	run_to_the_end("SELECT fail_in('end'); COMMIT PREPARED 'p'");
	is_refused_everywhere($secret, 'one that fails after COMMIT PREPARED');

	($secret, $id) = cached_key($org);
	ask($writer,
		"BEGIN; SELECT overten_revoke_key('$org', '$id'); PREPARE TRANSACTION 'p'");
	is_accepted($node, $secret) or die 'not accepted';
	run_to_the_end("SELECT fail_in('pre-commit'); COMMIT PREPARED 'p'");
	is(ask($reader, 'SELECT count(*) FROM pg_prepared_xacts'), 0,
		'one that fails between COMMIT PREPARED and its commit: it has committed');
	is_refused_everywhere($secret, 'and');
}

# A message that another callback has kept from us, in a transaction that
# writes: the org that this session knows is suspended.
{
	my $owner = create_org($writer, 'Lost');
	my ($first) = mint($writer, $owner);
	my ($second) = mint($writer, $owner);
	my $deaf = $node->background_psql('postgres', on_error_stop => 0);

	is_accepted($deaf, $first);
	ask($deaf, "BEGIN; SELECT pg_current_xact_id(), fail_in('transaction')");
	ask($writer, "SELECT overten_set_api_access('$owner', false)");
	$deaf->query('LOCK TABLE overten_auth.tiers IN ACCESS SHARE MODE');
	like($deaf->{stderr}, qr/relcache_faults/, 'a message that is lost');
	$deaf->{stderr} = '';
	ask($deaf, 'ROLLBACK');
	ok(!is_accepted($deaf, $second), 'is made up for');
	ok(!is_accepted($node, $second), 'and so it is for others');
	$deaf->quit;
}

# A session that is ended in a transaction gives its locks back, whatever fails.
{
	my $victim = $node->background_psql('postgres', on_error_stop => 0);
	my $pid = ask($victim, 'SELECT pg_backend_pid()');

	ask($victim,
		"BEGIN; LOCK TABLE overten_auth.tiers; SELECT pg_current_xact_id()");
	ask($victim, "SELECT fail_in('end')");
	$victim->query_until(qr/^sent/m, "\\echo sent\nSELECT pg_sleep(1000);\n");
	wait_until('it is in a query',
		sub { ask($reader, "SELECT wait_event FROM pg_stat_activity WHERE pid = $pid") eq 'PgSleep' }
	);
	ask($writer, 'UPDATE overten_auth.orgs SET name = name');
	ask($reader, "SELECT pg_terminate_backend($pid)");
	has_ended($pid);
	is( sqlstate_of($node,
			"SET lock_timeout = '1s'; BEGIN; LOCK TABLE overten_auth.tiers; ROLLBACK"),
		'',
		'a session that is ended in a transaction gives its locks back');
	eval { $victim->quit };
}

# Who waits for the row learns of the revocation before the one who has revoked, whatever
# else the transaction has done.
foreach my $before ('', 'CREATE TEMP TABLE t (); ANALYZE overten_auth.api_keys; ')
{
	my ($secret, $id) = cached_key($org);
	my $slow = $node->background_psql('postgres');
	my $revoke = "SELECT overten_revoke_key('$org', '$id')";

	ask($slow, 'SELECT pause_at_release()');
	ask($slow, "BEGIN; $before$revoke");
	append_to_file("$data/hold", '');
	$slow->query_until(qr/^sent/m, "\\echo sent\nCOMMIT;\n");
	wait_until('the commit is held', sub { -e "$data/held" });
	ask($reader, $revoke);
	is_refused_everywhere($secret, 'a revocation that somebody else is told of');
	unlink "$data/hold";
	$slow->quit;
}
is(ask($reader, 'SELECT pg_postmaster_start_time()'),
	$started, 'the server has stayed up');

# -- Core dumps --

cmp_ok(excluded_from_dumps(ask($reader, 'SELECT pg_backend_pid()')), '>=', stat_of('shared_cache_entries') * 384,
	'no core dump has the slots');

# -- Promotion --

# A standby has the master key file with its first org; the harness does not
# copy its mode.
{
	my ($secret, $id) = cached_key($org);

	$node->backup('base');
	my $standby = PostgreSQL::Test::Cluster->new('promoted');
	$standby->init_from_backup($node, 'base', has_streaming => 1);
	chmod 0600, $standby->data_dir . '/overten_auth.key' or die "chmod: $!";
	$standby->start;
	ask($writer,
		"BEGIN; SELECT overten_revoke_key('$org', '$id'); PREPARE TRANSACTION 'p'");
	$node->wait_for_catchup($standby);
	my $old = $standby->background_psql('postgres');
	ok(is_accepted($old, $secret), 'a standby accepts');
	is(ask($standby, 'SELECT shared_cache_stores FROM overten_stat'),
		0, 'without the shared cache');
	$standby->promote;
	ok(is_accepted($standby, $secret), 'after promotion, too');
	is(ask($standby, 'SELECT shared_cache_stores FROM overten_stat'),
		1, 'and stores');
	ask($standby, "COMMIT PREPARED 'p'");
	ok(!is_accepted($standby, $secret),
		'a revocation that was prepared before the promotion counts');
	ok(!is_accepted($old, $secret), 'in all sessions');
	$old->quit;
	$standby->stop;
	ask($writer, "ROLLBACK PREPARED 'p'");
}

# -- A process that stops while it writes --

# It keeps the place: what was being written there is not read, and nothing is
# written.  In a cache of one set.
sub is_not_waited_for
{
	my ($secret) = @_;
	my ($new) = mint($writer, $org);
	my @names = qw(shared_cache_busy shared_cache_stores);
	my @before = map { stat_of($_) } @names;
	my $since = sub { join ' ', map { stat_of($names[$_]) - $before[$_] } 0, 1 };

	ask($writer, 'SELECT hold_shared_cache(true)');
	ok(!is_hit($reader, $secret), 'what another process is writing is not read');
	is($since->(), '2 0', 'a key that is not read and not stored counts twice');
	ok(!is_hit($reader, $new), 'nor is another key read');
	is($since->(), '3 0', 'which is not stored');
	ok(is_accepted($reader, $_), 'all are accepted') foreach $secret, $new;
	ask($writer, 'SELECT hold_shared_cache(false)');
	@before = map { stat_of($_) } @names;
	ok(is_hit($reader, $secret), 'what it has written is read');
	ok(!is_hit($reader, $new), 'and another key');
	ok(is_hit($reader, $new), 'is stored');
	is($since->(), '0 1', 'which counts as that');
	return;
}

# -- Other sizes --

$_->quit foreach $writer, $reader, @sleepers;
for my $entries (1, 0)
{
	$node->append_conf('postgresql.conf',
		"overten_auth.shared_cache_entries = $entries");
	$node->restart;
	$writer = $node->background_psql('postgres');
	$reader = $node->background_psql('postgres');
	is( stat_of('shared_cache_entries'),
		$entries > 0 ? 8 : '',
		"$entries entries: this many there are");
	my @keys = map { [ mint($writer, $org) ] } 1 .. 20;
	for (1 .. 2)
	{
		is(join(' ', map { verify($reader, $_->[0]) } @keys),
			join(' ', map { $_->[1] } @keys), "$entries entries: each key is itself");
	}
	my ($secret, $id) = @{ $keys[-1] };
	ok(is_hit($reader, $secret), "$entries entries: there is a cache");
	is_not_waited_for($secret) if $entries > 0;
	ask($writer, "SELECT overten_revoke_key('$org', '$id')");
	is_refused_everywhere($secret, "$entries entries");
	$_->quit foreach $writer, $reader;
}

$node->stop;
done_testing();
