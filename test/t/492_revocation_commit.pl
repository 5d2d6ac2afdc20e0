
# With overten_auth.revocation_commit the commit of a revocation waits for the
# synchronous standby, whatever synchronous_commit the session has, so a failover
# brings no revoked key back; without it, which is the control, it brings back
# some.  pg_regress has one server only.

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
use Time::HiRes qw(usleep);

my $clients = 4;
my $keys_each = 1500;
my $acknowledged_before = 1000;

my $primary = create_node('primary', <<"EOC", allows_streaming => 1);
max_connections = 30
overten_auth.record_use_without_preload = off
max_prepared_transactions = 10
overten_auth.firebase_project_id = '${\PROJECT}'
EOC
my $org = create_org($primary, 'Replicated');
ask($primary, "CREATE TABLE minted AS SELECT m.secret, m.key_id FROM generate_series(1, 70) n, overten_mint_key('$org', 'key ' || n) m");
my @minted = map { [ split /\|/ ] } split /\n/, ask($primary, 'SELECT secret, key_id FROM minted');

# A standby of a node, which the node then waits for.
sub add_standby
{
	my ($node, $name) = @_;
	my $standby = PostgreSQL::Test::Cluster->new($name);

	$node->backup($name);
	$standby->init_from_backup($node, $name, has_streaming => 1);
	chmod 0600, $standby->data_dir . '/overten_auth.key' or die "chmod: $!";
	$standby->append_conf('postgresql.conf', "overten_auth.verify_on_standby = on\nsynchronous_standby_names = ''");
	$standby->start;
	set($node, 'synchronous_standby_names', $name);
	$node->poll_query_until('postgres', "SELECT sync_state = 'sync' FROM pg_stat_replication WHERE application_name = '$name'")
	  or die 'the standby did not become synchronous';
	return $standby;
}

# Set something in a running server, and wait until these sessions know.
sub set
{
	my ($node, $setting, $value, @sessions) = @_;

	$node->append_conf('postgresql.conf', "$setting = '$value'");
	$node->reload;
	my $show = "LOAD 'overten_auth'; SELECT current_setting('$setting')";
	foreach my $where ($node, @sessions)
	{
		wait_until("$setting is $value", sub { return ask($where, $show) eq $value });
	}
	return;
}

sub warning
{
	my ($where) = @_;

	return ask($where, 'SELECT revocation_warning FROM overten_status()');
}

# The setting, and what the state says of it

is(ask($primary, "LOAD 'overten_auth'; SHOW overten_auth.revocation_commit"), 'off', 'it is off by default');
is(sqlstate_of($primary, "LOAD 'overten_auth'; SET overten_auth.revocation_commit = on"), '55P02', 'a session cannot set it');
is(warning($primary), '', 'while it is off there is nothing to warn of');
set($primary, 'overten_auth.revocation_commit', 'on');
like(warning($primary), qr/^There are no synchronous standbys/, 'without a synchronous standby the state says that it promises nothing');
is(ask($primary, q{SELECT severity FROM overten_check() WHERE subject = 'overten_auth.revocation_commit'}), 'danger', 'as does the check');
my $standby = add_standby($primary, 'standby');
is(warning($_), '', 'with one there is nothing to warn of') foreach $primary, $standby;

# Which transactions it is about: those that cannot be prepared

my ($signer, $next_signer) = (new_rsa(), new_rsa());
my $load = sub { return 'SELECT overten_load_signing_keys($doc$' . jwk_set(@_) . '$doc$)' };
ask($primary, $load->(jwk($signer, 'key-1')));
my ($leaked, $key) = @{ pop @minted };
my %taking = (
	'revoking' => "SELECT overten_revoke_key('$org', '$key')",
	'revoking what has leaked' => "SELECT overten_revoke_leaked('$leaked')",
	'revoking all' => "SELECT overten_revoke_all('$org')",
	'revoking by UPDATE' => "UPDATE overten_auth.api_keys SET revoked_at = now() WHERE key_id = '$key'",
	'disabling' => "SELECT overten_disable_key('$org', '$key')",
	'scopes' => "UPDATE overten_auth.api_keys SET scopes = '{}' WHERE key_id = '$key'",
	'addresses' => "UPDATE overten_auth.api_keys SET allowed_addresses = '{192.0.2.1}' WHERE key_id = '$key'",
	'an earlier expiry' => "UPDATE overten_auth.api_keys SET expires_at = now() WHERE key_id = '$key'",
	'suspending' => "SELECT overten_set_api_access('$org', false)",
	'closing' => "SELECT overten_close_org('$org')",
	'a limit' => "SELECT overten_set_limit('org', '$org', 'few', 1, '1 hour')",
	'signing keys that are withdrawn' => $load->(jwk($next_signer, 'key-2')),
	'signing keys that are deleted' => 'DELETE FROM overten_auth.signing_keys',
	'a savepoint before it' => "SAVEPOINT s; SELECT overten_revoke_key('$org', '$key')",
	'a savepoint that is released' => "SAVEPOINT s; SELECT overten_revoke_key('$org', '$key'); RELEASE s",
	'a deferred trigger' => "SET CONSTRAINTS ALL DEFERRED; INSERT INTO deferred VALUES ('$key')");
my %other = (
	'minting' => "SELECT overten_mint_key('$org')",
	'a new org' => "SELECT overten_create_org('New')",
	'a table of others' => "INSERT INTO minted VALUES ('x', 'x')",
	'nothing changed' => "UPDATE overten_auth.api_keys SET revoked_at = now() WHERE key_id = 'nobody'");

ask($primary, <<'EOQ');
CREATE TABLE deferred (key_id text);
CREATE FUNCTION revoke() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	UPDATE overten_auth.api_keys SET revoked_at = now() WHERE key_id = NEW.key_id;
	RETURN NULL;
END
$$;
CREATE CONSTRAINT TRIGGER revoke AFTER INSERT ON deferred DEFERRABLE FOR EACH ROW EXECUTE FUNCTION revoke();
EOQ

# What PREPARE TRANSACTION fails with after SQL.
sub prepare
{
	my ($sql) = @_;
	my $sqlstate = sqlstate_of($primary, "BEGIN; $sql; PREPARE TRANSACTION 'taking'");

	ask($primary, "ROLLBACK PREPARED 'taking'") if $sqlstate eq '';
	return $sqlstate;
}

is(prepare($taking{$_}), '0A000', "$_: cannot be prepared") foreach sort keys %taking;
is(prepare($other{$_}), '', "$_: can be prepared") foreach sort keys %other;
is(sqlstate_of($primary, "BEGIN; $taking{revoking}; ROLLBACK; BEGIN; $other{minting}; PREPARE TRANSACTION 'taking'"),
	'', 'a transaction after one that takes access away can be prepared');
ask($primary, "ROLLBACK PREPARED 'taking'");
my (undef, undef, $stderr) = $primary->psql('postgres', "BEGIN; $taking{revoking}; PREPARE TRANSACTION 'taking'");
like($stderr,
	qr/ERROR:  a transaction that takes access away cannot be prepared\nDETAIL:  .*overten_auth\.revocation_commit.*\nHINT:  Commit it/, 'it says why');
ok(is_accepted($primary, $leaked), 'and nothing of it has happened');
set($primary, 'overten_auth.revocation_commit', 'remote_apply');
is(prepare($taking{revoking}), '0A000', 'with remote_apply neither');
set($primary, 'overten_auth.revocation_commit', 'off');
is(prepare($taking{$_}), '', "off: $_ can be prepared") foreach 'revoking', 'suspending';

# A standby that does not answer

my @levels = ('off', 'local', 'remote_write', 'on', 'remote_apply');
my %level_of = map { $levels[$_] => $_ } 0 .. $#levels;
my %session;
foreach my $level (@levels)
{
	foreach my $how ('function', 'update')
	{
		$session{"$level $how"} = $primary->background_psql('postgres');
		ask($session{"$level $how"}, "SET application_name = '$level $how'; SET synchronous_commit = $level");
	}
}
my $names = join ', ', map { "'$_'" } keys %session;
my $receiver = ask($standby, 'SELECT pid FROM pg_stat_wal_receiver');

sub pause
{
	ask($standby, 'SELECT pg_wal_replay_pause()');
	$standby->poll_query_until('postgres', 'SELECT pg_get_wal_replay_pause_state()', 'paused') or die 'replay did not pause';
	return;
}
my %freeze = (
	'replay paused' => [ \&pause, sub { ask($standby, 'SELECT pg_wal_replay_resume()') }, 'remote_apply' ],
	'receiver stopped' => [ sub { kill 'STOP', $receiver }, sub { kill 'CONT', $receiver }, 'remote_write' ]);

# The sessions that wait for the standby, once each waits or is done.
sub waiting
{
	$primary->poll_query_until('postgres', <<"EOQ") or die 'sessions do neither';
SELECT bool_and(wait_event = 'SyncRep' OR state = 'idle' AND query ~ 'overten_revoke_key|UPDATE')
FROM pg_stat_activity WHERE application_name IN ($names)
EOQ
	return ask($primary, "SELECT coalesce(string_agg(application_name, ', ' ORDER BY application_name), '') FROM pg_stat_activity WHERE wait_event = 'SyncRep'");
}

foreach my $setting ('off', 'on', 'remote_apply')
{
	set($primary, 'overten_auth.revocation_commit', $setting, values %session);
	foreach my $state (sort keys %freeze)
	{
		my ($freeze, $thaw, $from) = @{ $freeze{$state} };
		my %revoked;
		my @expected;

		$primary->wait_for_catchup($standby);
		$freeze->();
		foreach my $name (sort keys %session)
		{
			my ($level, $how) = split / /, $name;
			my ($secret, $key) = @{ pop @minted };
			my $sql = $how eq 'function' ? "SELECT overten_revoke_key('$org', '$key')"
			  : "UPDATE overten_auth.api_keys SET revoked_at = now() WHERE key_id = '$key'";

			$revoked{$name} = $secret;
			$session{$name}->query_until(qr/started/, "\\echo started\n$sql;\n");
			push @expected, $name
			  if $level_of{$level} >= $level_of{$from} || $level_of{$setting} >= $level_of{$from};
		}
		is(waiting(), join(', ', sort @expected), "$setting, $state: who waits");
		my ($waiting) = @expected;
		ok(is_accepted($primary, $revoked{$waiting}), "$setting, $state: until then the key is accepted");
		my ($done) = grep { my $name = $_; !grep { $_ eq $name } @expected } sort keys %session;
		ok(!is_accepted($primary, $revoked{$done}), "$setting, $state: and not where nobody waits") if defined $done;
		is(sqlstate_of($primary, "SET synchronous_commit = off; $other{minting}", timeout => 10, timed_out => \my $late),
			'', "$setting, $state: minting does not wait");
		ok(!$late, "$setting, $state: nor is it late");
		ask($primary, "SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE application_name = '$waiting'");
		$primary->poll_query_until('postgres', "SELECT state = 'idle' FROM pg_stat_activity WHERE application_name = '$waiting'") or die;
		ok(!is_accepted($primary, $revoked{$waiting}), "$setting, $state: a wait that is canceled does not undo the revocation");
		$thaw->();
		$session{$waiting}->query('SELECT');
		like($session{$waiting}{stderr}, qr/WARNING:  canceling wait for synchronous replication/, "$setting, $state: a canceled wait is told of");
		$session{$waiting}{stderr} = '';
		is(ask($session{$_}, 'SHOW synchronous_commit') =~ /(\w+)$/ && $1, (split / /)[0], "$setting, $state: $_ is as before") foreach sort keys %session;
		is(scalar(grep { is_accepted($primary, $_) } values %revoked), 0, "$setting, $state: then all are revoked");
	}
}
$_->quit foreach values %session;

# Killed and promoted under load

# Revoke keys with some clients until the primary is killed.  Returns how many
# revocations were acknowledged, and how many of these keys are accepted by the
# standby that takes its place.
sub fail_over
{
	my ($old, $new, $setting) = @_;
	my @load;

	set($old, 'overten_auth.revocation_commit', $setting);
	ask($old, "DROP TABLE minted");
	ask($old, "CREATE TABLE minted AS SELECT m.secret, m.key_id, n % $clients AS client FROM generate_series(1, $clients * $keys_each) n, overten_mint_key('$org', 'key ' || n) m");
	foreach my $client (0 .. $clients - 1)
	{
		my $script = $old->basedir . "/revoke_$setting$client.sql";
		my $output = '';

		append_to_file($script, ask($old, "SELECT format('SELECT %L FROM overten_revoke_key(%L, %1\$L);', key_id, '$org') FROM minted WHERE client = $client"));
		local %ENV = $old->_get_env(PGOPTIONS => '-c synchronous_commit=off');
		push @load, [ IPC::Run::start([ 'psql', '-XAtq', '-d', 'postgres', '-f', $script ], '>', \$output, '2>', \my $error), \$output ];
	}
	my $count = sub {
		my $lines = 0;

		foreach my $client (@load)
		{
			eval { $client->[0]->pump_nb };
			$lines += () = ${ $client->[1] } =~ /^key_\w+$/mg;
		}
		return $lines;
	};
	wait_until('many keys are revoked', sub { return $count->() > $acknowledged_before });
	my $receiver = ask($new, 'SELECT pid FROM pg_stat_wal_receiver');
	kill 'STOP', $receiver;
	usleep(200_000);
	my $postmaster = postmaster($old);
	my @children = split /\n/, `ps -o pid= --ppid $postmaster`;
	kill 'KILL', @children, $postmaster;
	$old->{_pid} = undef;
	foreach my $client (@load)
	{
		eval { $client->[0]->finish };
	}
	my @keys = map { ${ $_->[1] } =~ /^(key_\w+)$/mg } @load;
	kill 'CONT', $receiver;
	$new->promote;
	ask($new, "ALTER SYSTEM SET synchronous_standby_names = ''");
	my $keys = join ',', @keys;
	return (scalar @keys, ask($new, <<"EOQ"));
SELECT count(*) FROM minted m, overten_verify_key(m.secret) v WHERE m.key_id = ANY ('{$keys}')
EOQ
}

my ($acknowledged, $alive) = fail_over($primary, $standby, 'off');
cmp_ok($acknowledged, '>', $acknowledged_before, "off: $acknowledged revocations were acknowledged");
cmp_ok($alive, '>', 0, "off, the control: $alive of these keys are accepted after the failover");
ask($standby, 'ALTER SYSTEM RESET ALL; SELECT pg_reload_conf()');
my $next = add_standby($standby, 'next');
($acknowledged, $alive) = fail_over($standby, $next, 'on');
cmp_ok($acknowledged, '>', $acknowledged_before, "on: $acknowledged revocations were acknowledged");
is($alive, 0, 'on: none of these keys is accepted after the failover');
$next->stop;

done_testing();
