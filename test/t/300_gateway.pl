
# The API over HTTP through the gateway: the whole matrix of the contract equal
# to what the database says, what clients can do wrong, many of them, the
# database going away, a pooler in between, and what the logs hold.  pg_regress
# has no HTTP.

use strict;
use warnings FATAL => 'all';

use FindBin;
use lib $FindBin::RealBin;
use ApiContract;
use GatewayTest;
use IO::Socket::INET;
use JSON::PP qw(decode_json);
use KeyContract;
use OrgContract;
use OvertenTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = create_api_node('gateway', <<'EOC');
overten_auth.max_keys_per_org = 4
overten_auth.max_keys_total_per_org = 6
overten_auth.max_orgs_per_uid = 9
EOC
my $state = prepare_matrix($node);
my $good = "Authorization: Bearer $state->{own_secret}";
my $ada = "Authorization: Bearer $state->{ada}";
my $gateway = start_gateway($node, 'gateway');
my $port = $gateway->{port};

# A request in full, for what curl does not send.
sub raw_request
{
	my ($first, @lines) = @_;

	return join("\r\n", $first, 'Host: localhost', @lines, '', '');
}

sub get
{
	my ($where, $path, @headers) = @_;

	return summary(request($where->{url}, 'GET', $path, [@headers]));
}

# The gateway's own paths.
is(get($gateway, '/healthz'), '200', 'healthz');
is(get($gateway, '/readyz'), '200', 'readyz');
is(summary(request($gateway->{url}, 'POST', '/readyz')),
	'404 not_found', 'readyz can only be read');

# What clients can send that curl does not.
my $verify = 'GET /api/v1/verify HTTP/1.1';
my $signup = 'POST /api/v1/signup HTTP/1.1';
my $close = 'Connection: close';

is(summary(bytes($port, raw_request($verify, $good, $good, $close))),
	'400 invalid_request', 'two Authorization headers, though the same');
is(summary(bytes($port, raw_request($verify, $good, 'Authorization: Bearer x', $close))),
	'400 invalid_request', 'two Authorization headers');
is(get($gateway, '/api/v1/verify', "X-Overten-Authorization: Bearer $state->{own_secret}"),
	'401 missing_credentials', "a client's X-Overten-Authorization alone");
is(summary(bytes($port, raw_request('GET http://elsewhere.example/api/v1/verify HTTP/1.1', $good, $close))),
	'200', 'a request line in absolute form');
is(summary(bytes($port, raw_request($verify, "X-Na\r\nme: x", $good))),
	'400 invalid_request', 'a line break in the name of a header');
is(summary(bytes($port, raw_request($verify, "Authorization: Bearer x\ry", $close))),
	'400 invalid_request', 'a line break in a credential');
is(summary(bytes($port, raw_request($verify, "Authorization: Bearer x\0y", $close))),
	'400 invalid_request', 'a NUL in a credential');
is(summary(bytes($port, raw_request("GET /api/v1/verify?x=\xc3\xa9 HTTP/1.1", $good))),
	'400 invalid_request', 'a query that is not ASCII');
is(summary(bytes($port, raw_request($verify, 'X: ' . 'x' x 40_000))),
	'431 invalid_request', 'headers over 32 KiB');
is(summary(bytes($port, raw_request($signup, 'Content-Length: 2', 'Transfer-Encoding: chunked') . '{}')),
	'400 invalid_request', 'two lengths of a body');
is(summary(bytes($port, raw_request($signup, 'Content-Type: application/json', 'Content-Length: 50') . '{"org', half => 1)),
	'400 invalid_request', 'a body that stops half way');
is(summary(request($gateway->{url}, 'POST', '/api/v1/signup', [ 'Content-Type: application/json', 'Expect:' ], 'x' x 1_000_000)),
	'413 payload_too_large', '1 MB of body');

# The contract, row by row.
check_matrix($node, $gateway->{url}, $state);

my $revoked = request($gateway->{url}, 'DELETE',
	"/api/v1/organizations/$state->{full}/api-keys/$state->{full_key}", [$ada]);
is_deeply(
	[ $revoked->{status}, $revoked->{body},
		@{ $revoked->{headers} }{qw(content-length content-type transfer-encoding)} ],
	[ 204, '', undef, undef, undef ],
	'204 has no body and announces none');

# What can be removed once has no part in the matrix.
my $uid = 'Ünal/o"b %?';
my $renamed = "/api/v1/organizations/$state->{renamed}";
ask($node, "SELECT overten_add_member('$state->{renamed}', '$uid')");
is(summary(request($gateway->{url}, 'DELETE', "$renamed/members/%C3%9Cnal%2Fo%22b%20%25%3f", [$ada])), '204', 'a member whose uid is to be encoded');
is(summary(request($gateway->{url}, 'DELETE', "$renamed/invitations/$state->{invitation}", [$ada])), '204', 'an invitation is withdrawn');
is(summary(request($gateway->{url}, 'POST', '/api/v1/invitations/accept',
	[ 'Authorization: Bearer ' . sign('eve'), 'Content-Type: application/json' ], "{\"code\":\"$state->{own_code}\"}")),
	'404 invitation_not_found', 'and its code is of no use');

# A key that stays good.
my ($secret) = mint($node, $state->{foreign});
my $bearer = "Authorization: Bearer $secret";

# Slow clients are told so, and hold up nobody.
my $strict = start_gateway($node, 'strict',
	HEADERS_TIMEOUT_MS => 1000, REQUEST_TIMEOUT_MS => 1500);
my @slow = map {
	my $socket = IO::Socket::INET->new(PeerAddr => '127.0.0.1',
		PeerPort => $strict->{port});
	$socket->syswrite($_);
	$socket;
} 'GET /api/v1/ver', raw_request($signup, 'Content-Type: application/json', 'Content-Length: 50') . '{';
is(get($strict, '/api/v1/verify', $bearer), '200', 'others beside slow clients');
like(rest_of($slow[0]), qr{^HTTP/1.1 408 .*"code":"invalid_request"}s,
	'headers that take too long');
like(rest_of($slow[1]), qr{^HTTP/1.1 408 .*"code":"invalid_request"}s,
	'a body that takes too long');

# A slow database, and the end of a gateway with a request in it.
my $lock = $node->background_psql('postgres');
$lock->query_safe('BEGIN; LOCK TABLE overten_auth.api_keys');
my $impatient = start_gateway($node, 'impatient', QUERY_TIMEOUT_MS => 500);
my $waiting = start_process('waiting', {}, 'curl', '--silent', '--header', $ada,
	"$strict->{url}/api/v1/organizations/$state->{own}/api-keys");
$node->poll_query_until('postgres',
	"SELECT count(*) = 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock'");
is(get($impatient, "/api/v1/organizations/$state->{own}/api-keys", $ada),
	'503 service_unavailable', 'the database takes too long');
is(get($impatient, '/healthz'), '200', 'healthz meanwhile');
$strict->{run}->signal('TERM');
wait_until('the gateway has stopped to listen',
	sub { !IO::Socket::INET->new(PeerAddr => '127.0.0.1', PeerPort => $strict->{port}) });
$lock->query_safe('ROLLBACK');
$lock->quit;
$waiting->{run}->finish;
like(slurp_file($waiting->{out}), qr/^\{"items":/, 'a running request is answered before the end');
is(stop_process($strict), 0, 'and then the end is a good one');

# Many clients.  How long the last of them waits is the machine's business.
my $patient = start_gateway($node, 'patient', CONNECT_TIMEOUT_MS => 60000,
	QUERY_TIMEOUT_MS => 60000, HEADERS_TIMEOUT_MS => 60000, REQUEST_TIMEOUT_MS => 60000);
is_deeply(
	decode_json(node_script('load.mjs', 'crowd', "$patient->{url}/api/v1/verify", 1000, $secret)),
	{ 200 => 1000 },
	'1,000 connections at once');
stop_process($patient);

# Every request of the API, as people and programs send them.
my @each = (
	[ 'POST', '/api/v1/signup', [ $ada, 'Content-Type: application/json' ], '{"org_name":"x"}' ],
	[ 'POST', "/api/v1/organizations/$state->{own}/api-keys", [ $ada, 'Content-Type: application/json' ], '{"name":"x"}' ],
	[ 'GET', "/api/v1/organizations/$state->{own}/api-keys", [$ada] ],
	[ 'GET', "/api/v1/organizations/$state->{own}/api-keys/$state->{own_key}/usage", [$ada] ],
	[ 'DELETE', "/api/v1/organizations/$state->{own}/api-keys/$state->{own_key}", [$ada] ],
	[ 'GET', '/api/v1/verify', [$bearer] ],
	key_requests($state->{own}, $state->{own_key}, $ada),
	org_requests($state->{renamed}, $ada));

# The database goes away and comes back while requests run.
my $load = start_process('load', {}, 'node', "$FindBin::RealBin/../http/load.mjs",
	'steady', "$gateway->{url}/api/v1/verify", 4, $secret);
my $logged = sub {
	my ($status) = @_;
	return scalar(() = slurp_file($gateway->{out}) =~ /"path":"\/api\/v1\/verify","status":$status,/g);
};
my $well_before = $logged->(200);
wait_until('requests run', sub { $logged->(200) > $well_before + 20 });
$node->stop('immediate');
my $away = request($gateway->{url}, 'GET', '/api/v1/verify', [$bearer]);
is(summary($away), '503 service_unavailable', 'the database is away');
is_deeply($away->{headers}{'retry-after'}, ['1'], 'which will pass');
is_deeply($away->{headers}{'cache-control'}, ['no-store'], 'and is not to be stored');
is(summary(request($gateway->{url}, @$_)), '503 service_unavailable', "$_->[0] without a database")
  foreach @each;
is(get($gateway, '/readyz'), '503 service_unavailable', 'readyz says so');
is(get($gateway, '/healthz'), '200', 'healthz does not mind');
$node->start;
$well_before = $logged->(200);
wait_until('requests are served again', sub { $logged->(200) > $well_before + 20 });
stop_process($load);
my %answers = %{ decode_json(slurp_file($load->{out})) };
is(join(' ', sort keys %answers), '200 503+', 'requests while the database went away and came back');
is(get($gateway, '/readyz'), '200', 'readyz is well again');

# Through pgbouncer in transaction mode.
my $bouncer = start_pgbouncer($node, 'pgbouncer');
my $pooled = start_gateway($node, 'pooled', PGHOST => $bouncer->{folder},
	PGPORT => $bouncer->{port}, PREPARE => 'off');
is(get($pooled, '/readyz'), '200', 'readyz through pgbouncer');
my $pooled_state = prepare_matrix($node);
check_matrix($node, $pooled->{url}, $pooled_state, ', through pgbouncer');
is_deeply(
	decode_json(node_script('load.mjs', 'crowd', "$pooled->{url}/api/v1/verify", 200, $secret)),
	{ 200 => 200 },
	'200 connections over two of pgbouncer');

# With all features.  A gateway that starts has only sessions that know them.
prepare_keys($node, $state);
set_features($node);
my $managed = start_gateway($node, 'managed');
check_key_matrix($node, $managed->{url}, $state);
set_features($node, '');

# No answer without the privilege, and nothing told of why.
ask($node, 'REVOKE EXECUTE ON FUNCTION overten_handle_request(text, text, json, bytea) FROM overten_gateway');
my $denied = request($gateway->{url}, 'GET', '/api/v1/verify', [$bearer]);
is(summary($denied), '500 internal_error', 'a gateway without its privilege');
unlike($denied->{body}, qr/permission|overten_handle/, 'does not say so to clients');
is(get($gateway, '/readyz'), '503 service_unavailable', 'but readyz does');
is(summary(request($gateway->{url}, @$_)), '500 internal_error', "$_->[0] without the privilege")
  foreach @each;
like(slurp_file($gateway->{out}), qr/"status":500,.*"error":"42501"/, 'and the access log');

is(check_openapi(), '', 'openapi.json describes every answer, and nothing else');

stop_process($_) foreach $gateway, $managed, $pooled, $impatient, $bouncer;
unlike(slurp_file($bouncer->{err}), qr/sk_live_\w|whsec_|eyJ|Bearer/, 'no credential in the log of pgbouncer');
foreach my $process ($gateway, $managed, $strict, $pooled, $impatient)
{
	my @lines = split /\n/, slurp_file($process->{out});
	ok(@lines > 0 && !grep({ !eval { decode_json($_) } } @lines),
		"the access log of $process->{name} is JSON");
	unlike(slurp_file($process->{out}) . slurp_file($process->{err}),
		qr/sk_live_\w|whsec_|eyJ|Bearer/, "no credential in the output of $process->{name}");
}

done_testing();
