
# Answers that are lost: the connection is cut after the request was sent, at many
# points, and the request is repeated with its Idempotency-Key.  In the end each
# request has made one org and one active key, and the client has its secret, or
# is told which key it is.  Then who can sign up.  pg_regress has no connections to
# cut, uses that are not flushed need shared memory, and it cannot sign tokens.

use strict;
use warnings FATAL => 'all';

use FindBin;
use lib $FindBin::RealBin;
use GatewayTest;
use IO::Socket::INET;
use JSON::PP qw(decode_json);
use OvertenTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Socket qw(SOL_SOCKET SO_LINGER);
use Test::More;
use Time::HiRes qw(sleep time);

my $node = create_api_node('lost', <<'EOC');
shared_preload_libraries = 'overten_auth'
overten_auth.databases = 'postgres'
overten_auth.flush_interval = 1h
overten_auth.max_orgs_per_uid = 1000
overten_auth.max_keys_per_org = 1000
overten_auth.max_keys_total_per_org = 10000
max_connections = 60
EOC
my $gateway = start_gateway($node, 'gateway', ACCESS_LOG => 'off');
my $token = sign('ada');
my $api = '/api/v1';

sub post_request
{
	my ($path, $key, $body) = @_;

	return join "\r\n", "POST $api$path HTTP/1.1", 'Host: localhost', 'Connection: close', "Authorization: Bearer $token",
	  'Content-Type: application/json', "Idempotency-Key: $key", 'Content-Length: ' . length $body, '', $body;
}

sub connection
{
	return IO::Socket::INET->new(PeerAddr => '127.0.0.1', PeerPort => $gateway->{port}) // die "cannot connect: $!";
}

# Send a request, wait, and cut the connection: the client never reads the answer.
sub lose
{
	my ($text, $seconds) = @_;
	my $socket = connection();

	$socket->syswrite($text);
	sleep $seconds if $seconds > 0;
	# A reset, which loses what has arrived.
	$socket->setsockopt(SOL_SOCKET, SO_LINGER, pack('ii', 1, 0));
	close $socket;
	return;
}

# Send a request, and return the status and the answer.
sub answer
{
	my ($text) = @_;
	my $socket = connection();

	$socket->syswrite($text);
	my $response = rest_of($socket);
	my ($status) = $response =~ m{^HTTP/1\.1 (\d+)} or die "no answer";
	my (undef, $body) = split /\r\n\r\n/, $response, 2;
	return ($status, decode_json($body));
}

# How long an answer takes here, so that the cuts come before it, and after it.
my ($status, $first) = answer(post_request('/signup', 'measured', '{"org_name":"measured"}'));
is($status, 201, 'a sign-up');
my $start = time;
answer(post_request('/signup', "measured-$_", qq({"org_name":"measured $_"}))) foreach 1 .. 5;
my $duration = (time - $start) / 5;
my $org = $first->{org_id};

# 1,000 requests, or as many as can be made in half a minute: half are sign-ups, half
# are for keys of one org.  Each is lost once, twice or five times, at 100 points within
# twice the time of an answer.
my ($count, $lost, %secrets, %told, @wrong) = (0, 0);
$start = time;
foreach my $n (1 .. 1000)
{
	last if time - $start > 30 && $n % 2;
	$count = $n;
	my $is_signup = $n % 2;
	my $text = post_request($is_signup ? '/signup' : "/organizations/$org/api-keys", "request-$n",
		$is_signup ? qq({"org_name":"request $n","key_name":"request $n"}) : qq({"name":"request $n"}));

	foreach my $time (1 .. 1 + ($n % 10 == 3 ? 1 : $n % 97 == 5 ? 5 : 0))
	{
		lose($text, $n % 10 == 3 && $time == 1 ? 0 : ($n + 37 * $time) % 100 / 50 * $duration);
		$lost++;
	}
	my ($status, $answer) = answer($text);
	if ($status == 201) { $secrets{"request $n"} = $answer->{secret} }
	elsif ($status == 409 && $answer->{error}{code} eq 'already_done') { $told{"request $n"} = $answer->{error} }
	else { push @wrong, "$n: $status" }
}
note(sprintf '%d requests, lost %d times, in %.1f s; %.1f ms an answer', $count, $lost, time - $start, 1000 * $duration);
cmp_ok($count, '>=', 100, 'enough requests');
is_deeply(\@wrong, [], 'each request is answered in the end');
# The database may still be at work on requests that nobody waits for.
ok($node->poll_query_until('postgres', "SELECT count(*) = 0 FROM pg_stat_activity WHERE usename = 'overten_gateway' AND state <> 'idle'"),
	'the database has done all of them');

is(ask($node, "SELECT count(*), count(DISTINCT name) FROM overten_auth.orgs WHERE name LIKE 'request %'"), join('|', ($count / 2) x 2), 'each sign-up has made one org');
is(ask($node, "SELECT count(*), count(DISTINCT name) FROM overten_auth.api_keys WHERE name LIKE 'request %' AND revoked_at IS NULL"),
	"$count|$count", 'each request has made one key that is active');
cmp_ok(ask($node, "SELECT count(*) FROM overten_auth.api_keys WHERE name LIKE 'request %' AND revoked_at IS NOT NULL"), '>', $count / 4, 'keys whose secret was lost are revoked');
is(ask($node, 'SELECT count(*) FROM overten_auth.orgs o WHERE NOT EXISTS (SELECT FROM overten_auth.members m WHERE m.org_id = o.org_id)'), 0, 'no org is without a member');
cmp_ok(keys(%secrets), '>', $count * 0.8, 'most clients have a secret');
is(keys(%secrets) + keys(%told), $count, 'and the others are told which key it is');
is(ask($node, 'SELECT count(*) FROM (VALUES ' . join(', ', map { "('$_', '$secrets{$_}')" } keys %secrets)
	  . ') c (name, secret), overten_verify_key(c.secret) v JOIN overten_auth.api_keys k USING (key_id) WHERE k.name = c.name'),
	scalar(keys %secrets), 'the secret that a client has is accepted');
my @found = map { ask($node, "SELECT name FROM overten_list_keys('$told{$_}{org_id}') WHERE key_id = '$told{$_}{key_id}' AND revoked_at IS NULL") } sort keys %told;
is_deeply(\@found, [ sort keys %told ], 'the key that a client is told of can be found, and is active');

# Uses that are only in shared memory: nothing is flushed here.
sub post_key
{
	my ($key) = @_;

	return answer(post_request("/organizations/$org/api-keys", $key, '{"name":"used"}'));
}
my (undef, $used) = post_key('used');
is(request($gateway->{url}, 'GET', "$api/verify", ["Authorization: Bearer $used->{secret}"])->{status}, 200, 'a key is used');
is(ask($node, "SELECT last_used_at IS NULL FROM overten_auth.key_last_used WHERE key_id = '$used->{key_id}'"), 't', 'that is not in the table yet');
($status, my $refused) = post_key('used');
is("$status $refused->{error}{code} $refused->{error}{key_id}", "409 already_done $used->{key_id}", 'a key that was used is not replaced');
is(verify($node, $used->{secret}), $used->{key_id}, 'and stays active');
flush_usage($node);
is((post_key('used'))[0], 409, 'nor when the use is flushed');

# An attempt with a revoked key is no use.
(undef, my $replaced) = post_key('tried');
(undef, my $second) = post_key('tried');
is(request($gateway->{url}, 'GET', "$api/verify", ["Authorization: Bearer $replaced->{secret}"])->{status}, 401, 'a lost key turns up after it was replaced');
is((post_key('tried'))[0], 201, 'its attempt does not count as use of the next');

# The worker removes what is older than a day, and nothing else.
my $rows = ask($node, 'SELECT count(*) FROM overten_auth.idempotency_keys');
ask($node, q{UPDATE overten_auth.idempotency_keys SET first_at = first_at - interval '24 hours' WHERE name_digest = sha256('used')});
ask($node, q{UPDATE overten_auth.idempotency_keys SET first_at = first_at - interval '23 hours 50 minutes' WHERE name_digest = sha256('tried')});
flush_usage($node);
ok($node->poll_query_until('postgres', "SELECT count(*) = $rows - 1 FROM overten_auth.idempotency_keys"), 'old requests are removed');
is(ask($node, q{SELECT count(*) FROM overten_auth.idempotency_keys WHERE name_digest = sha256('used')}), 0, 'the one that is old');

# Who can sign up: a token with other claims, under settings.  The settings concern
# nothing but signing up.
my %tokens = (
	password => sign('eve'),
	anonymous => sign('nobody', 'email=', 'email_verified=', 'firebase={"sign_in_provider":"anonymous","identities":{}}'),
	unverified => sign('mallory', 'email_verified=false'),
	'without claims' => sign('zoe', 'email=', 'email_verified=', 'firebase='),
	phone => sign('phil', 'email=', 'email_verified=', 'firebase={"sign_in_provider":"phone","identities":{}}'),
	'verified without an address' => sign('vera', 'email='),
	'a text for true' => sign('tess', 'email_verified="true"'));

sub outcomes
{
	my ($settings) = @_;
	my $requests = join ' UNION ALL ', map {
		"SELECT '$_' AS who, r.* FROM overten_handle_request('POST', '/api/v1/signup', json_build_object('authorization', 'Bearer $tokens{$_}', 'content-type', 'application/json'), '{\"org_name\":\"who\"}'::bytea) r"
	} sort keys %tokens;

	return ask($node, join '; ', (map { "SET overten_auth.$_" } @$settings),
		"SELECT string_agg(who || ': ' || status || coalesce(' ' || (body::json #>> '{error,code}'), ''), E'\n' ORDER BY who COLLATE \"C\") FROM ($requests) a");
}
sub are
{
	my (%answers) = @_;

	return join "\n", map { "$_: " . ($answers{$_} // '201') } sort keys %tokens;
}
my $anonymous = '403 anonymous_not_allowed';
my $email = '403 email_not_verified';
my %without_email = map { $_ => $email } grep { $_ ne 'password' } keys %tokens;
is(outcomes([]), are(anonymous => $anonymous), 'by default anonymous accounts cannot sign up');
is(outcomes(['allow_anonymous_signup = on']), are(), 'they can if that is allowed');
is(outcomes(['signup_requires_verified_email = on']), are(%without_email, anonymous => $anonymous), 'a verified address may be required');
is(outcomes([ 'allow_anonymous_signup = on', 'signup_requires_verified_email = on' ]), are(%without_email), 'of anonymous accounts, too');
ask($node, "SELECT overten_add_member('$org', 'nobody')");
is(request($gateway->{url}, 'GET', "$api/organizations/$org/api-keys", ["Authorization: Bearer $tokens{anonymous}"])->{status}, 200,
	'an anonymous member does the rest as any other');
is(summary(request($gateway->{url}, 'POST', "$api/signup", [ "Authorization: Bearer $tokens{anonymous}", 'Content-Type: application/json' ], 'not JSON')),
	$anonymous, 'whatever the body');

stop_process($gateway);
done_testing();
