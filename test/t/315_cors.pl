
# Pages of other origins and the gateway: preflights, and the headers that each
# answer has for a page that CORS_ORIGINS names, for one that it does not, and
# without the setting.  pg_regress has no HTTP.

use strict;
use warnings FATAL => 'all';

use FindBin;
use lib $FindBin::RealBin;
use GatewayTest;
use IO::Socket::INET;
use OvertenTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = create_api_node('cors', '');
my $org = create_org($node, 'Acme');
my ($secret) = mint($node, $org);
my $good = "Authorization: Bearer $secret";
my $app = 'https://app.example.com';
my $plain = start_gateway($node, 'plain');
my $with_key_header = start_gateway($node, 'key_header_gateway', CORS_ORIGINS => $app, API_KEY_HEADER => 'X-API-Key');
my $gateway = start_gateway($node, 'cors_gateway',
	CORS_ORIGINS => "$app, http://localhost:5173", HEADERS_TIMEOUT_MS => 1000, REQUEST_TIMEOUT_MS => 1500);

# All bytes of an answer.
sub raw
{
	my ($where, $first, $body, @headers) = @_;
	my $socket = IO::Socket::INET->new(PeerAddr => '127.0.0.1', PeerPort => $where->{port}) or die;

	push @headers, 'Content-Length: ' . length($body), 'Content-Type: application/json' if defined $body;
	$socket->syswrite(join("\r\n", "$first HTTP/1.1", 'Host: localhost', 'Connection: close', @headers, '', $body // ''));
	return rest_of($socket) =~ s/^Date: [^\r]*\r\n//mr;
}

# The lines of an answer about origins.
sub cors
{
	my ($text) = @_;
	my ($head) = $text =~ /\A(.*?)\r\n\r\n/s;

	return join '; ', grep { /^(?:vary|access-control-)/i } split /\r\n/, $head;
}

my $for_app = "vary: Origin; access-control-allow-origin: $app; access-control-expose-headers: Allow, Retry-After, WWW-Authenticate";
my @each = (
	[ 'success', 200, 'GET /api/v1/verify', undef, $good ],
	[ 'HEAD', 200, 'HEAD /api/v1/verify', undef, $good ],
	[ 'no credential', 401, 'GET /api/v1/verify' ],
	[ 'no such route', 404, 'GET /nowhere' ],
	[ 'a wrong method', 405, 'PUT /api/v1/signup' ],
	[ 'OPTIONS that is no preflight', 405, 'OPTIONS /api/v1/signup' ],
	[ 'no token', 401, 'POST /api/v1/signup', '{}', 'Authorization: Bearer x' ],
	[ 'too much', 413, 'POST /api/v1/signup', 'x' x 20_000, $good ],
	[ 'a path that is none', 400, 'GET /api/v1/%zz' ],
	[ 'two credentials', 400, 'GET /api/v1/verify', undef, $good, $good ],
	[ 'healthz', 200, 'GET /healthz' ],
	[ 'readyz', 200, 'GET /readyz' ],
	[ 'what only proxies may ask', 404, 'GET /authorize', undef, $good ]);

foreach my $case (@each)
{
	my ($name, $status, @request) = @$case;
	my ($first, $body, @headers) = @request;
	my $without = raw($plain, @request);

	like($without, qr/^HTTP\/1.1 $status /, "$name: $status");
	is(cors($without), '', "$name: nothing about origins without CORS_ORIGINS");
	is(raw($plain, $first, $body, @headers, "Origin: $app"), $without, "$name: nor if there is one");

	my $with = raw($gateway, $first, $body, @headers, "Origin: $app");
	is(cors($with), $for_app, "$name: for a page that is named");
	is($with =~ s/^(?:vary|access-control-[^:]*):[^\r]*\r\n//gmr, $without, "$name: and the rest of the answer is the same");
	is(cors(raw($gateway, $first, $body, @headers)), 'vary: Origin', "$name: without an origin");
}

# Origins are compared exactly.
foreach my $origin ('https://app.example.com:443', 'https://app.example.com/', 'http://app.example.com', 'https://APP.example.com',
	'https://app.example.com.evil.example', 'https://evil-app.example.com', 'https://x.app.example.com', 'null', '*', '', "$app, http://localhost:5173", "$app $app")
{
	is(cors(raw($gateway, 'GET /api/v1/verify', undef, $good, "Origin: $origin")), 'vary: Origin', "not for the origin \"$origin\"");
}
is(cors(raw($gateway, 'GET /api/v1/verify', undef, $good, "Origin: $app", 'Origin: https://evil.example')), 'vary: Origin', 'nor for two at once');
like(cors(raw($gateway, 'GET /api/v1/verify', undef, $good, 'Origin: http://localhost:5173')), qr/allow-origin: http:\/\/localhost:5173;/, 'each page that is named is answered by its own name');

# Preflights.
my @asks = ('Access-Control-Request-Method: DELETE', 'Access-Control-Request-Headers: authorization');
my $path = "OPTIONS /api/v1/organizations/$org/api-keys";
my $preflight = raw($gateway, $path, undef, "Origin: $app", @asks);
like($preflight, qr/^HTTP\/1.1 204 /, 'a preflight is answered');
like($preflight, qr/\r\n\r\n\z/, 'without a body');
unlike($preflight, qr/^content-(?:length|type):/mi, 'and says of none');
is(cors($preflight), "access-control-allow-methods: GET, HEAD, POST, PATCH, DELETE; access-control-allow-headers: Authorization, Content-Type, Idempotency-Key; access-control-max-age: 7200; $for_app",
	'it says what a page may send');
is(cors(raw($with_key_header, $path, undef, "Origin: $app", @asks)),
	cors($preflight) =~ s/Idempotency-Key/Idempotency-Key, X-API-Key/r, 'and the header for keys, where there is one');
unlike($preflight, qr/access-control-allow-credentials/i, 'and never allows credentials');
foreach my $case ([ 'of another page', 'Origin: https://evil.example', @asks ], [ 'without an origin', @asks ], [ 'without a method', "Origin: $app" ])
{
	my ($name, @headers) = @$case;
	my $answer = raw($gateway, $path, undef, @headers);

	like($answer, qr/^HTTP\/1.1 405 .*"method_not_allowed"/s, "a preflight $name is an OPTIONS like any other");
	unlike($answer, qr/access-control-allow-methods/i, "and a preflight $name says nothing");
}
is(raw($plain, $path, undef, "Origin: $app", @asks), raw($plain, $path, undef), 'without CORS_ORIGINS there are no preflights');

# What node's parser refuses: the rest of a request has its origin, other bytes have
# none.
my $socket = IO::Socket::INET->new(PeerAddr => '127.0.0.1', PeerPort => $gateway->{port}) or die;
$socket->syswrite("POST /api/v1/signup HTTP/1.1\r\nHost: localhost\r\nOrigin: $app\r\nContent-Type: application/json\r\nContent-Length: 50\r\n\r\n{");
my $late = rest_of($socket);
like($late, qr/^HTTP\/1.1 408 /, 'a body that takes too long');
is(cors($late), $for_app, 'is refused for its page');
$socket = IO::Socket::INET->new(PeerAddr => '127.0.0.1', PeerPort => $gateway->{port}) or die;
$socket->syswrite("nonsense\r\n\r\n");
my $nonsense = rest_of($socket);
like($nonsense, qr/^HTTP\/1.1 400 /, 'bytes that are no request');
is(cors($nonsense), 'vary: Origin', 'are of no page');

# The database away, and the gateway without its privilege.
ask($node, 'REVOKE EXECUTE ON FUNCTION overten_handle_request(text, text, json, bytea) FROM overten_gateway');
my $broken = raw($gateway, 'GET /api/v1/verify', undef, $good, "Origin: $app");
like($broken, qr/^HTTP\/1.1 500 /, 'an internal error');
is(cors($broken), $for_app, 'is readable for its page');
$node->stop('immediate');
my $away = raw($gateway, 'GET /api/v1/verify', undef, $good, "Origin: $app");
like($away, qr/^HTTP\/1.1 503 .*^retry-after: 1\r/sm, 'the database is away');
is(cors($away), $for_app, 'and a page can read when to come again');
like(raw($gateway, $path, undef, "Origin: $app", @asks), qr/^HTTP\/1.1 204 /, 'a preflight needs no database');

# What is no list of origins is refused at the start.
foreach my $wrong ('*', 'null', 'app.example.com', 'https://app.example.com/', 'https://app.example.com:443', 'https://*.example.com/x', 'file:///x', 'HTTPS://app.example.com', "$app http://localhost:5173")
{
	my $process = start_process('wrong', { CORS_ORIGINS => $wrong }, 'node', "$FindBin::RealBin/../../gateway/server.mjs");
	$process->{run}->finish;
	is($process->{run}->result . ' ' . slurp_file($process->{err}),
		"1 gateway: CORS_ORIGINS must be a list of origins, such as https://app.example.com\n", "CORS_ORIGINS=$wrong");
}

stop_process($_) foreach $plain, $gateway;
done_testing();
