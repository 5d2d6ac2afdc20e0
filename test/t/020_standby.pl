
# A streaming standby refuses to verify unless it is allowed to, and then
# follows a revocation as soon as it has replayed it: with remote_apply before
# the commit returns.  pg_regress has one server only.

use strict;
use warnings FATAL => 'all';

use FindBin;
use lib $FindBin::RealBin;
use OvertenTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $keys = 50;

my $primary = create_node('primary', '', allows_streaming => 1);
my $org = create_org($primary, 'Replicated');
my ($secret, $key) = mint($primary, $org);
ask($primary, <<"EOQ");
CREATE TABLE minted AS
	SELECT m.secret, m.key_id
	FROM generate_series(1, $keys) n, overten_mint_key('$org', 'key ' || n) m;
EOQ

$primary->backup('base');
my $standby = PostgreSQL::Test::Cluster->new('standby');
$standby->init_from_backup($primary, 'base', has_streaming => 1);
$standby->start;
$primary->wait_for_catchup($standby);

# Refused by default
my $log_start = -s $standby->logfile;
my ($result, $stdout, $stderr) =
  $standby->psql('postgres', "SELECT overten_verify_key('$secret')");
like(
	$stderr,
	qr/^psql:<stdin>:1: ERROR:  keys are not verified on a standby$/m,
	'a standby refuses to verify, and says so');
like(
	$stderr,
	qr/^HINT:  .*overten_auth\.verify_on_standby/m,
	'and names the setting');
is(sqlstate_of($standby, "SELECT overten_verify_key('$secret')"),
	'55000', 'with SQLSTATE 55000');
is( sqlstate_of(
		$standby, "SELECT overten_verify_key_digest(sha256('$secret'))"),
	'55000',
	'for a digest too');
is( sqlstate_of(
		$standby, "DO \$\$ BEGIN PERFORM overten_verify_key('$secret'); END \$\$"),
	'55000',
	'within PL/pgSQL too');
is(sqlstate_of($standby, "SELECT overten_authenticate('$secret')"),
	'55000', 'to authenticate a transaction too');
($result, $stdout, $stderr) = $standby->psql('postgres', <<"EOQ");
SELECT set_config('request.headers', '{"authorization": "Bearer $secret"}', false);
SELECT overten_api.authenticate_request();
EOQ
like(
	$stderr,
	qr/"code":"service_unavailable".*"status":503.*"retry-after":"1"/s,
	'or a request, which gets 503');
is(sqlstate_of($standby, "SELECT overten_verify_key('sk_live_')"),
	'', 'what cannot be a key gives NULL as ever');

my $log = slurp_file($standby->logfile, $log_start);
like(
	$log,
	qr/ERROR:  keys are not verified on a standby/,
	'the refusals are in the log');
unlike($log, qr/sk_live_\w/, 'without the secret');

# Allowed
$standby->append_conf('postgresql.conf',
	'overten_auth.verify_on_standby = on');
$standby->reload;
$standby->poll_query_until('postgres', 'SHOW overten_auth.verify_on_standby',
	'on')
  or die 'the setting was not reloaded';
my $session = $standby->background_psql('postgres');
is(verify($session, $secret), $key, 'it verifies when it is allowed to');
is(verify($session, $secret), $key, 'and again, from the cache');
is( ask($session,
		"BEGIN; SELECT FROM overten_authenticate('$secret');
		 SELECT overten_current_key(); COMMIT"),
	$key,
	'and remembers whom it has verified');

ask($primary, "SELECT overten_revoke_key('$org', '$key')");
$primary->wait_for_catchup($standby);
is(verify($session, $secret), '', 'a revocation that was replayed is obeyed');

ask($primary, "INSERT INTO overten_auth.tiers VALUES ('pro')");
my ($second) = mint($primary, $org);
$primary->wait_for_catchup($standby);
my $tier = "SELECT tier FROM overten_verify_key('$second')";
is(ask($session, $tier), 'free', 'a key minted meanwhile is accepted');
ask($primary, "SELECT overten_set_tier('$org', 'pro')");
$primary->wait_for_catchup($standby);
is(ask($session, $tier), 'pro', 'a change of tier is obeyed');

# remote_apply
$primary->append_conf('postgresql.conf', <<'EOC');
synchronous_standby_names = 'standby'
synchronous_commit = remote_apply
EOC
$primary->reload;
$primary->poll_query_until('postgres',
	"SELECT sync_state FROM pg_stat_replication", 'sync')
  or die 'the standby did not become synchronous';

my $accepted = 0;
my $stale = 0;
my $revoker = $primary->background_psql('postgres');
foreach my $minted (split /\n/,
	ask($primary, 'SELECT secret, key_id FROM minted'))
{
	my ($secret, $key) = split /\|/, $minted;

	$accepted++ if verify($session, $secret) eq $key;
	ask($revoker, "SELECT overten_revoke_key('$org', '$key')");
	$stale++ if is_accepted($session, $secret);
}
$revoker->quit;
is($accepted, $keys, "with remote_apply, $keys keys are accepted");
is($stale, 0, 'and refused by the time that their revocation returns');

# What is not promised
($secret, $key) = mint($primary, $org);
is(verify($session, $secret), $key, 'a key is accepted');
ask($standby, 'SELECT pg_wal_replay_pause()');
$standby->poll_query_until('postgres',
	"SELECT pg_get_wal_replay_pause_state()", 'paused')
  or die 'replay did not pause';
ask($primary,
	"SET synchronous_commit = local;
	 SELECT overten_revoke_key('$org', '$key')");
ok(!is_accepted($primary, $secret), 'the primary refuses it');
is(verify($session, $secret), $key, 'while replay is paused it is accepted');
ask($standby, 'SELECT pg_wal_replay_resume()');
$primary->wait_for_catchup($standby);
is(verify($session, $secret), '', 'and refused after that');

# Nothing is written on a standby
is(sqlstate_of($standby, "SELECT overten_mint_key('$org')"),
	'25006', 'a standby does not mint');
is(sqlstate_of($standby, "SELECT overten_revoke_key('$org', '$key')"),
	'25006', 'and does not revoke');
is(sqlstate_of($standby, "SELECT overten_revoke_leaked('$secret')"),
	'25006', 'not by the secret either');
is(sqlstate_of($standby, "SELECT overten_revoke_all('$org')"),
	'25006', 'nor all keys');
is( sqlstate_of(
		$standby,
		"SELECT overten_import_key('$org', 'x', sha256('x'), 'sk_live_0000')"),
	'25006',
	'and does not import');

my ($third, $third_key) = mint($primary, $org);
my $last_used = "SELECT last_used_at IS NOT NULL
	FROM overten_list_keys('$org') WHERE key_id = '$third_key'";
is(verify($session, $third), $third_key, 'a key is used on the standby only');
is(ask($primary, $last_used), 'f', 'the use is not recorded');
unlike(slurp_file($standby->logfile),
	qr/WARNING/, 'and nothing complains about that');

# Promoted
$primary->stop;
$standby->adjust_conf('postgresql.conf', 'overten_auth.verify_on_standby',
	'off');
$standby->reload;
$standby->promote;
is(verify($session, $third),
	$third_key, 'after promotion no setting is needed');
is(ask($standby, $last_used), 't', 'uses are recorded');
($secret, $key) = mint($standby, $org);
is(verify($session, $secret), $key, 'keys are minted');
ask($standby, "SELECT overten_revoke_key('$org', '$third_key')");
is(verify($session, $third), '', 'and revoked');
$session->quit;

$standby->stop;
done_testing();
