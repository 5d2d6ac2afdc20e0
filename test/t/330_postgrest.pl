
# The API through nginx and PostgREST, with the configuration files of gateway/
# and nginx as it is packaged.  PostgREST itself cannot be installed where this
# runs: in its place is a server that does as it does, which 340_postgrest_faults.pl
# is about.  The matrix of the contract must get the same answers as the database
# gives, over HTTP/1.1 and HTTP/2; and no log may hold a credential.  pg_regress has
# no HTTP.

use strict;
use warnings FATAL => 'all';

use FindBin;
use lib $FindBin::RealBin;
use ApiContract;
use GatewayTest;
use JSON::PP qw(decode_json);
use KeyContract;
use OrgContract;
use OvertenTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = create_api_node('postgrest', <<'EOC');
overten_auth.max_keys_per_org = 4
overten_auth.max_keys_total_per_org = 6
overten_auth.max_orgs_per_uid = 9
EOC
my $state = prepare_matrix($node);
my $postgrest = start_postgrest($node, 'contract');
my ($port, $tls_port) = (free_port(), free_port());
my $nginx = start_nginx('nginx', 'nginx.conf', $port,
	'127.0.0.1:8080' => "127.0.0.1:$port",
	'127.0.0.1:8443' => "127.0.0.1:$tls_port",
	'127.0.0.1:3000' => "127.0.0.1:$postgrest->{port}");
my $url = "http://127.0.0.1:$port";
my $tls_url = "https://127.0.0.1:$tls_port";
my $good = "Authorization: Bearer $state->{own_secret}";
my $ada = "Authorization: Bearer $state->{ada}";

# The contract, row by row.
check_matrix($node, $url, $state);

# What can be removed once has no part in the matrix.
my $uid = 'Ünal/o"b %?';
my $renamed = "/api/v1/organizations/$state->{renamed}";
ask($node, "SELECT overten_add_member('$state->{renamed}', '$uid')");
is(summary(request($url, 'DELETE', "$renamed/members/%C3%9Cnal%2Fo%22b%20%25%3f", [$ada])), '204', 'a member whose uid is to be encoded');
is(summary(request($url, 'DELETE', "$renamed/invitations/$state->{invitation}", [$ada])), '204', 'an invitation is withdrawn');

# With all features, and nginx told of them.
prepare_keys($node, $state);
set_features($node);
my $managed_postgrest = start_postgrest($node, 'managed');
my $managed_port = free_port();
my $managed_nginx = start_nginx('managed_nginx', 'nginx.conf', $managed_port,
	'$overten_key_route' => 'managed_key',
	'$overten_rotation' => 'on',
	'127.0.0.1:8080' => "127.0.0.1:$managed_port",
	'127.0.0.1:8443' => '127.0.0.1:' . free_port(),
	'127.0.0.1:3000' => "127.0.0.1:$managed_postgrest->{port}");
my $managed_url = "http://127.0.0.1:$managed_port";
check_key_matrix($node, $managed_url, $state);

# The functions themselves, where nginx does not know that the features are off.
set_features($node, 'people');
stop_process($managed_postgrest);
$managed_postgrest = start_postgrest($node, 'managed_again', port => $managed_postgrest->{port});
my @key_requests = key_requests($state->{managed}, $state->{managed_key1}, $ada);
is(summary(request($managed_url, @{ $key_requests[0] })), '200', 'a key is shown with any feature');
is(summary(request($managed_url, @$_)), '404 not_found', "$_->[0] $_->[1] without rotations") foreach @key_requests[ 2, 3 ];
set_features($node, '');
stop_process($managed_postgrest);
$managed_postgrest = start_postgrest($node, 'managed_off', port => $managed_postgrest->{port});
is(summary(request($managed_url, @$_)), '405 method_not_allowed', "$_->[0] $_->[1] without features") foreach @key_requests[ 0, 1 ];
is(summary(request($managed_url, @$_)), '404 not_found', "$_->[0] $_->[1] without features") foreach @key_requests[ 2, 3 ];

# Over TLS and HTTP/2.
my ($secret) = mint($node, $state->{foreign});
foreach my $version ('--http1.1', '--http2')
{
	my ($number) = $version =~ /([\d.]+)$/;
	my $answer = request($tls_url, 'GET', '/api/v1/verify',
		["Authorization: Bearer $secret"], undef, '--insecure', $version);
	is("$answer->{version} $answer->{status}", "$number 200", "a key over TLS and HTTP/$number");

	my (undef, $key) = mint($node, $state->{own});
	$answer = request($tls_url, 'DELETE', "/api/v1/organizations/$state->{own}/api-keys/$key",
		[$ada], undef, '--insecure', $version);
	is_deeply(
		[ @{$answer}{qw(version status body)},
			@{ $answer->{headers} }{qw(content-length content-type transfer-encoding)} ],
		[ $number, 204, '', undef, undef, undef ],
		"204 over HTTP/$number has no body and announces none");
}

# What clients can send that curl does not.
my $head = "Host: localhost\r\nConnection: close\r\n";
is(summary(bytes($port, "GET /api/v1/verify HTTP/1.1\r\n$head$good\r\n$good\r\n\r\n")),
	'400 invalid_request', 'two Authorization headers');
is(summary(bytes($port, "GET /api/v1/verify HTTP/1.1\r\n${head}Authorization: Bearer x\ry\r\n\r\n")),
	'400 invalid_request', 'a line break in a credential');
is(summary(bytes($port, "GET /api/v1/verify HTTP/1.1\r\n${head}X: " . 'x' x 40_000 . "\r\n\r\n")),
	'431 invalid_request', 'headers over 32 KiB');
is(summary(bytes($port, "GET /api/v1/%zz HTTP/1.1\r\n$head\r\n")),
	'400 invalid_request', 'a path that cannot be decoded');
is(summary(bytes($port, "GET /api/v1/verify?x=\xc3\xa9 HTTP/1.1\r\n$head$good\r\n\r\n")),
	'400 invalid_request', 'a query that is not ASCII');
is(summary(bytes($port, "rubbish\r\n\r\n")), '400 invalid_request', 'rubbish');
is(summary(request($url, 'GET', '/api/v1/verify', ["X-Overten-Authorization: Bearer $secret"])),
	'401 missing_credentials', "a client's X-Overten-Authorization alone");
is(summary(request($url, 'GET', '/api/v1/verify', ["X_Overten_Authorization: Bearer $secret"])),
	'401 missing_credentials', 'nor with underscores');
is(summary(request($url, 'POST', '/api/v1/signup', [ 'Content-Type: application/json', 'Expect:' ], 'x' x 1_000_000)),
	'413 payload_too_large', '1 MB of body');

# The functions' order of checks, where PostgREST would have its own.
is(summary(request($url, 'POST', '/api/v1/signup', [ 'Content-Type: application/json', 'Authorization: Bearer x' ], '{')),
	'401 invalid_token', 'a bad token comes before a bad body');

# Many clients.
is_deeply(
	decode_json(node_script('load.mjs', 'crowd', "$url/api/v1/verify", 1000, $secret)),
	{ 200 => 1000 },
	'1,000 connections at once');

# A PostgREST before tables of one's own, with db-pre-request: the key decides
# what is seen.
ask($node, <<"EOQ");
CREATE SCHEMA tenant;
CREATE TABLE tenant.documents (org_id text, title text);
INSERT INTO tenant.documents VALUES ('$state->{own}', 'own'), ('$state->{foreign}', 'foreign');
ALTER TABLE tenant.documents ENABLE ROW LEVEL SECURITY;
CREATE POLICY of_org ON tenant.documents USING (org_id = (SELECT overten_current_org()));
CREATE FUNCTION tenant.titles() RETURNS json LANGUAGE sql
	AS 'SELECT json_agg(title) FROM tenant.documents';
GRANT USAGE ON SCHEMA tenant TO overten_web;
GRANT SELECT ON tenant.documents TO overten_web;
EOQ
my $tenant = start_postgrest($node, 'tenant', 'db-schemas' => 'tenant',
	'db-pre-request' => 'overten_api.authenticate_request');
my ($own_secret) = mint($node, $state->{own});

sub titles
{
	my ($method, @headers) = @_;
	my $answer = request("http://127.0.0.1:$tenant->{port}", $method, '/rpc/titles', [@headers]);

	return join ' ', $answer->{status}, $method eq 'HEAD' ? () : $answer->{body},
	  @{ $answer->{headers}{'www-authenticate'} // [] };
}

my $unknown = 'sk_live_00000000000000000000000K3vO8';
is(titles('GET', "X-Overten-Authorization: Bearer $own_secret"), '200 ["own"]', 'a key sees the rows of its org');
is(titles('GET', "X-Overten-Authorization: Bearer $secret"), '200 ["foreign"]', 'another those of its own');
is(titles('GET'), '200 null', 'without a key there are none');
is(titles('GET', "X-Overten-Authorization: Bearer $state->{ada}"), '200 null', 'nor with an ID token');
like(titles('GET', "X-Overten-Authorization: Bearer $unknown"),
	qr/^401 .*"invalid_api_key".* Bearer realm="overten", error="invalid_token"$/, 'a key that is not good is refused');
like(titles('HEAD', "X-Overten-Authorization: Bearer $unknown"), qr/^401 /, 'by HEAD, too');
ask($node, "SELECT overten_revoke_leaked('$own_secret')");
like(titles('GET', "X-Overten-Authorization: Bearer $own_secret"), qr/^401 /, 'and one that was revoked meanwhile');
stop_process($tenant);

# The database goes away, then PostgREST.
$node->stop('immediate');
my $away = request($url, 'GET', '/api/v1/verify', ["Authorization: Bearer $secret"]);
is(summary($away), '503 service_unavailable', 'the database is away');
is_deeply([ @{ $away->{headers} }{qw(retry-after cache-control)} ],
	[ ['1'], ['no-store'] ], 'which will pass and is not to be stored');
$node->start;
wait_until('requests are served again', sub {
	request($url, 'GET', '/api/v1/verify', ["Authorization: Bearer $secret"])->{status} == 200;
});

# What PostgREST says of its own is not for clients.
my $token = "Authorization: Bearer $state->{ada}";
my @each = (
	[ 'POST', '/api/v1/signup', [ $token, 'Content-Type: application/json' ], '{"org_name":"x"}' ],
	[ 'POST', "/api/v1/organizations/$state->{own}/api-keys", [ $token, 'Content-Type: application/json' ], '{"name":"x"}' ],
	[ 'GET', "/api/v1/organizations/$state->{own}/api-keys", [$token] ],
	[ 'GET', "/api/v1/organizations/$state->{own}/api-keys/x/usage?since=2026-05-01T00:00:00Z", [$token] ],
	[ 'DELETE', "/api/v1/organizations/$state->{own}/api-keys/x", [$token] ],
	[ 'GET', '/api/v1/verify', ["Authorization: Bearer $secret"] ],
	org_requests($state->{renamed}, $token));
my $internal_error = '{"error":{"code":"internal_error","message":"An internal error occurred."}}';
ask($node, 'REVOKE EXECUTE ON ALL FUNCTIONS IN SCHEMA overten_api FROM overten_web');
foreach (@each)
{
	my $answer = request($url, @$_);
	is("$answer->{status} $answer->{body}", "500 $internal_error", "$_->[0] $_->[1] without the privilege");
}
foreach (@key_requests)
{
	my $answer = request($managed_url, @$_);
	is("$answer->{status} $answer->{body}", "500 $internal_error", "$_->[0] $_->[1] without the privilege");
}
ask($node, 'GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA overten_api TO overten_web');
ask($node, <<'EOQ');
DO $$
DECLARE
	f regprocedure;
BEGIN
	FOR f IN SELECT oid FROM pg_proc WHERE pronamespace = 'overten_api'::regnamespace LOOP
		EXECUTE format('ALTER FUNCTION %s RENAME TO %I', f, (SELECT proname || '_is_gone' FROM pg_proc WHERE oid = f));
	END LOOP;
END
$$;
EOQ
foreach (@each)
{
	my $answer = request($url, @$_);
	is("$answer->{status} $answer->{body}", "500 $internal_error", "$_->[0] $_->[1] without the function");
}
foreach (@key_requests)
{
	my $answer = request($managed_url, @$_);
	is("$answer->{status} $answer->{body}", "500 $internal_error", "$_->[0] $_->[1] without the function");
}

stop_process($postgrest);
$away = request($url, 'DELETE', "/api/v1/organizations/x/api-keys/y", [$ada]);
is(summary($away), '503 service_unavailable', 'PostgREST is away');
is_deeply($away->{headers}{'retry-after'}, ['1'], 'which will pass');

is_deeply([ map { foreign_errors($_) } $url, $tls_url, $managed_url ], [], "no error that reached a client was anything but the API's own");

stop_process($_) foreach $nginx, $managed_nginx, $managed_postgrest;
foreach my $file (map({ glob("$_->{folder}/*.log") } $nginx, $managed_nginx), @{$postgrest}{qw(out err)}, @{$managed_postgrest}{qw(out err)}, @{$tenant}{qw(out err)}, $nginx->{err})
{
	my ($name) = $file =~ m{([^/]+)$};
	unlike(slurp_file($file), qr/sk_live_\w|whsec_|eyJ|Bearer/, "no credential in $name");
}
my @lines = split /\n/, slurp_file("$nginx->{folder}/access.log");
like(join("\n", @lines), qr{"method":"POST","path":"/api/v1/signup","status":$_,}, "a POST that was answered $_ is one there") foreach 201, 401, 413, 415;
ok(@lines > 100 && !grep({ !eval { decode_json($_) } } @lines), 'the access log is JSON');
is_deeply([ glob("$nginx->{folder}/client_temp/*") ], [], 'no body got into a file');

done_testing();
