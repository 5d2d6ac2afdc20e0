
# A streaming standby refuses to verify keys and tokens unless it is allowed to,
# and then follows a revocation, or the withdrawal of a signing key, as soon as
# it has replayed it: with remote_apply before the commit returns.  pg_regress
# has one server only.

use strict;
use warnings FATAL => 'all';

use FindBin;
use lib $FindBin::RealBin;
use FirebaseTokens;
use OvertenTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $keys = 50;
my $withdrawals = 10;

my $primary = create_node(
	'primary',
	"overten_auth.firebase_project_id = '${\PROJECT}'\noverten_auth.key_features = 'rotation, details'\n",
	allows_streaming => 1);
my $org = create_org($primary, 'Replicated');
my ($secret, $key) = mint($primary, $org);
my ($signer, $next_signer) = (new_rsa(), new_rsa());
my $jwk = jwk($signer, 'key-1');
my $next_jwk = jwk($next_signer, 'key-2');
load_signing_keys($primary, $jwk);
my $token = token($signer, header(), claims(sub => 'ada'));
my $next_token =
  token($next_signer, header(kid => 'key-2'), claims(sub => 'ada'));
ask($primary, "INSERT INTO overten_auth.members VALUES ('$org', 'ada')");
ask($primary, <<'EOQ');
CREATE FUNCTION is_identified(token text) RETURNS boolean LANGUAGE plpgsql AS $$
BEGIN
	PERFORM overten_verify_firebase_jwt(token);
	RETURN true;
EXCEPTION WHEN invalid_authorization_specification THEN
	RETURN false;
END
$$;
EOQ

# Verifies until the key is refused.  Each answer must be right by the clock before and
# after it.
ask($primary, <<'EOQ');
CREATE FUNCTION follow_to_end(secret text, expires_at timestamptz) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	hits int := 0;
	before timestamptz;
BEGIN
	LOOP
		before := clock_timestamp();
		IF NOT EXISTS (SELECT FROM overten_verify_key(secret)) THEN
			RETURN CASE WHEN clock_timestamp() < expires_at THEN 'refused too early'
				WHEN hits < 100 THEN 'hardly accepted' ELSE 'accepted, then refused' END;
		ELSIF before >= expires_at THEN
			RETURN 'accepted too late';
		END IF;
		hits := hits + 1;
	END LOOP;
END
$$;
EOQ
ask($primary, <<"EOQ");
CREATE TABLE minted AS
	SELECT m.secret, m.key_id
	FROM generate_series(1, $keys) n, overten_mint_key('$org', 'key ' || n) m;
EOQ

$primary->backup('base');
my $standby = PostgreSQL::Test::Cluster->new('standby');
$standby->init_from_backup($primary, 'base', has_streaming => 1);

# The harness has not copied the mode of the master key file.
chmod 0600, $standby->data_dir . '/overten_auth.key' or die "chmod: $!";
$standby->start;
$primary->wait_for_catchup($standby);

sub load_signing_keys
{
	my ($where, @jwks) = @_;

	return ask($where,
		'SELECT overten_load_signing_keys($doc$' . jwk_set(@jwks) . '$doc$)');
}

# The uid that a token is found to be of.
sub identify
{
	my ($where, $token) = @_;

	return ask($where, "SELECT uid FROM overten_verify_firebase_jwt('$token')");
}

# Whether a session accepts a token: t or f.
sub is_identified
{
	my ($session, $token) = @_;

	return ask($session, "SELECT is_identified('$token')");
}

# What verifying a token fails with.
sub token_error
{
	my ($where, $token) = @_;

	return sqlstate_of($where, "SELECT overten_verify_firebase_jwt('$token')");
}

# The answer to a request: its status, code and Retry-After.
sub request
{
	my ($where, $method, $path, $credential, $body) = @_;
	my $content = defined $body ? "'$body'" : 'NULL';

	return ask($where, <<"EOQ");
SELECT status, body::json #>> '{error,code}', headers ->> 'retry-after'
FROM overten_handle_request('$method', '/api/v1$path', json_build_object(
	'authorization', 'Bearer $credential', 'content-type', 'application/json'), $content)
EOQ
}

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
is(ask($standby, q{SELECT count(*) FROM overten_check() WHERE severity <> 'notice'}),
	0, 'nothing is wrong with a standby');
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
	qr/"code":"service_unavailable".*"status":504.*"retry-after":"1"/s,
	'or a request, which gets 504, that is 503 to clients');
is(sqlstate_of($standby, "SELECT overten_verify_key('sk_live_')"),
	'', 'what cannot be a key gives NULL as ever');

(undef, undef, $stderr) = $standby->psql('postgres',
	"SELECT overten_verify_firebase_jwt('$token')");
like(
	$stderr,
	qr/ERROR:  Firebase ID tokens cannot be verified\nDETAIL:  A standby .*\nHINT:  .*overten_auth\.verify_on_standby/,
	'it refuses to verify a token, and names the setting');
is(token_error($standby, $token), '55000', 'with SQLSTATE 55000');
is(token_error($standby, 'x'), '55000', 'whatever the token');
is(identify($primary, $token), 'ada', 'which the primary accepts');

is(request($standby, 'GET', '/verify', $secret),
	'503|service_unavailable|1', 'over HTTP a key is answered with 503');
is(request($standby, 'GET', "/organizations/$org/api-keys", $token),
	'503|auth_unavailable|30', 'a token too');
is(request($standby, 'POST', '/signup', $token, '{"org_name":"x"}'),
	'503|auth_unavailable|30', 'and a token that asks to write');

my $log = slurp_file($standby->logfile, $log_start);
like(
	$log,
	qr/ERROR:  keys are not verified on a standby/,
	'the refusals are in the log');
like(
	$log,
	qr/ERROR:  Firebase ID tokens cannot be verified/,
	'those of tokens as well');
unlike($log, qr/sk_live_\w/, 'without the secret');
unlike($log, qr/\Q${\substr($token, -40)}/, 'and without the token');

# Allowed
$standby->append_conf('postgresql.conf',
	'overten_auth.verify_on_standby = on');
$standby->reload;
$standby->poll_query_until('postgres', 'SHOW overten_auth.verify_on_standby',
	'on')
  or die 'the setting was not reloaded';
my $session = $standby->background_psql('postgres');
is(verify($session, $secret), $key, 'it verifies when it is allowed to');
is( ask(
		$session,
		"SELECT webhook_secret FROM overten_verify_key('$secret')"),
	ask($primary,
		"SELECT webhook_secret FROM overten_verify_key('$secret')"),
	'and opens the webhook secret');
is(verify($session, $secret), $key, 'and again, from the cache');
is(identify($session, $token), 'ada', 'a token too');
is(identify($session, $token), 'ada', 'and again, from the cache');
is( token_error(
		$standby,
		token($signer, header(), claims(sub => 'ada', exp => time - 100))),
	'28OA1', 'one that has expired is refused for that');
is(token_error($standby, $next_token),
	'28000', 'one that another key has signed is refused');

is(request($session, 'GET', '/verify', $secret),
	'200||', 'over HTTP it verifies a key');
is(request($session, 'GET', "/organizations/$org/api-keys", $token),
	'200||', 'and lists keys for a token');
is(request($session, $_->[0], $_->[1], $token, $_->[2]),
	'503|service_unavailable|1', "$_->[0] $_->[1] is for the primary")
  foreach [ 'POST', '/signup', '{"org_name":"x"}' ],
  [ 'POST', "/organizations/$org/api-keys", '{}' ],
  [ 'PATCH', "/organizations/$org/api-keys/$key", '{"name":"x"}' ],
  [ 'POST', "/organizations/$org/api-keys/$key/rotate", '{}' ],
  [ 'POST', "/organizations/$org/api-keys/$key/rotate", '{"overlap_seconds":0}' ],
  [ 'DELETE', "/organizations/$org/api-keys/$key", undef ],
  [ 'PATCH', "/organizations/$org", '{"name":"x"}' ],
  [ 'DELETE', "/organizations/$org", undef ],
  [ 'POST', "/organizations/$org/webhook-secret/rotate", '{}' ],
  [ 'DELETE', "/organizations/$org/members/ada", undef ],
  [ 'POST', "/organizations/$org/invitations", '{}' ],
  [ 'DELETE', "/organizations/$org/invitations/x", undef ],
  [ 'POST', '/invitations/accept', '{"code":"x"}' ];
is(request($session, 'GET', "/organizations/$org/api-keys/$key/rotation", $token),
	'200||', 'how a rotation goes on is not');
is(verify($session, $secret), $key, 'none of them has changed anything');
is(sqlstate_of($standby, "SELECT overten_rotate_key('$org', '$key')"),
	'25006', 'nor does SQL rotate a key');

load_signing_keys($primary, $next_jwk);
$primary->wait_for_catchup($standby);
is(is_identified($session, $token),
	'f', 'a withdrawn signing key that was replayed is obeyed');
is(identify($session, $next_token), 'ada', 'and one that was added');
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

# A key expires by the clock of the standby, whatever its caches hold and however old
# the snapshot is: nothing has to be replayed for that.
my $brief = ask($primary,
	"SELECT secret FROM overten_mint_key('$org', 'brief', clock_timestamp() + '3 s')");
my $expires_at = ask($primary, "SELECT expires_at FROM overten_auth.api_keys WHERE name = 'brief'");
$primary->wait_for_catchup($standby);
ask($session, 'BEGIN ISOLATION LEVEL REPEATABLE READ');
is( ask($session, <<"EOQ"), 'accepted, then refused', 'a key is accepted until it expires');
SELECT follow_to_end('$brief', '$expires_at')
EOQ
is(verify($session, $brief), '', 'and not again');
ask($session, 'COMMIT');
is(verify($session, $brief), '', 'nor in the next transaction');

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

$accepted = 0;
$stale = 0;
foreach (1 .. $withdrawals)
{
	load_signing_keys($primary, $jwk, $next_jwk);
	$accepted++ if is_identified($session, $token) eq 't';
	load_signing_keys($primary, $next_jwk);
	$stale++ if is_identified($session, $token) eq 't';
}
is($accepted, $withdrawals, 'tokens are accepted once their key is loaded');
is($stale, 0, 'and refused by the time that its withdrawal returns');

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
ask($primary, "SELECT overten_grant('$org', 10), overten_hold('$org', 4, 'held')");
$primary->wait_for_catchup($standby);
is(sqlstate_of($standby, "SELECT overten_spend('$org', 1, 'request')"), '25006', 'nor spend credits');
is(ask($standby, "SELECT * FROM overten_credit_balance('$org')"), '10|4|6', 'but tells how many there are');

my ($third, $third_key) = mint($primary, $org);
my $last_used = "SELECT last_used_at IS NOT NULL
	FROM overten_list_keys('$org') WHERE key_id = '$third_key'";
is(verify($session, $third), $third_key, 'a key is used on the standby only');
is(ask($primary, $last_used), 'f', 'the use is not recorded');
unlike(slurp_file($standby->logfile),
	qr/WARNING/, 'and nothing complains about that');

is( sqlstate_of(
		$standby,
		'SELECT overten_load_signing_keys($doc$' . jwk_set($jwk) . '$doc$)'),
	'25006', 'nor load signing keys');

# Promoted
$primary->stop;
$standby->adjust_conf('postgresql.conf', 'overten_auth.verify_on_standby',
	'off');
$standby->reload;
$standby->promote;
is(verify($session, $third),
	$third_key, 'after promotion no setting is needed');
is(identify($session, $next_token), 'ada', 'for a token either');
is(request($session, 'POST', '/signup', $next_token, '{"org_name":"x"}'),
	'201||', 'people sign up');
is(ask($standby, $last_used), 't', 'uses are recorded');
($secret, $key) = mint($standby, $org);
is(verify($session, $secret), $key, 'keys are minted');
ask($standby, "SELECT overten_revoke_key('$org', '$third_key')");
is(verify($session, $third), '', 'and revoked');
$session->quit;

$standby->stop;
done_testing();
