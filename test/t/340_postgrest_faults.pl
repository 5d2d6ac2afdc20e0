
# What PostgREST does to those who build on it, where nobody asked it to: the server
# that stands in for it does the same, and behind nginx with the files of gateway/
# nothing of that reaches a client, nor what a client sends breaks anything for
# others.  pg_regress has no HTTP.

use strict;
use warnings FATAL => 'all';

use FindBin;
use lib $FindBin::RealBin;
use ApiContract;
use GatewayTest;
use IO::Socket::INET;
use JSON::PP qw(decode_json);
use OrgContract;
use OvertenTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = create_api_node('faults', "overten_auth.verify_on_standby = on\n", allows_streaming => 1);
my $ada = 'Authorization: Bearer ' . sign('ada');
my $json = 'Content-Type: application/json';
my $org = create_org($node, 'Org');
ask($node, "SELECT overten_set_api_access('$org', true), overten_add_member('$org', 'ada')");
my ($secret, $key) = mint($node, $org);
my $good = "Authorization: Bearer $secret";
my $keys = "/api/v1/organizations/$org/api-keys";

# Each request of the API.
my @each = (
	[ 'POST', '/api/v1/signup', [ $ada, $json ], '{"org_name":"x"}' ],
	[ 'POST', $keys, [ $ada, $json ], '{"name":"x"}' ],
	[ 'GET', $keys, [$ada] ],
	[ 'GET', "$keys/$key/usage", [$ada] ],
	[ 'DELETE', "$keys/key_00000000000000000000", [$ada] ],
	[ 'GET', '/api/v1/verify', [$good] ]);
my @about_orgs = org_requests($org, $ada);
my @reading = grep { $_->[0] eq 'GET' } @about_orgs;
my @writing = grep { $_->[0] ne 'GET' } @about_orgs;

# Functions of one's own, to see what PostgREST makes of their answers.
ask($node, <<'EOQ');
CREATE FUNCTION overten_api.away() RETURNS json LANGUAGE sql AS $$
	SELECT json_build_object('away', true) FROM
		(SELECT set_config('response.status', '503', true),
			set_config('response.headers', '[{"Retry-After":"30"}]', true) OFFSET 0) s $$;
CREATE FUNCTION overten_api.echo(json) RETURNS json LANGUAGE sql AS 'SELECT $1';
GRANT EXECUTE ON FUNCTION overten_api.away(), overten_api.echo(json) TO overten_web;
EOQ

# The server that stands in for PostgREST.
my %contract = map { $_ => start_postgrest($node, "contract$_", version => $_) } 12, 13, 14;
my %bare = map { $_ => "http://127.0.0.1:$contract{$_}{port}" } keys %contract;

sub bare
{
	my ($version, $method, $path, @rest) = @_;
	my $answer = request($bare{$version}, $method, $path, @rest);

	return join ' ', $answer->{status}, $answer->{body} =~ /"code":"(\w+)"/ ? $1 : ();
}

is(bare(14, 'GET', '/rpc/verify', [$good]), '500 PGRST300', 'PostgREST wants a JWT of its own');
is_deeply([ map { bare($_, 'GET', '/rpc/verify', ['Authorization: Bearer']) } 12, 13, 14 ],
	[ '401 missing_credentials', '401 PGRST301', '500 PGRST300' ], 'an empty one, by version');
is_deeply(
	[ map { request($bare{$_}, 'GET', '/rpc/nothing')->{headers}{'proxy-status'} } 12, 13, 14 ],
	[ undef, (['PostgREST; error=PGRST202']) x 2 ],
	'which versions name the error in a header');
is_deeply(request($bare{14}, 'GET', '/rpc/away')->{headers}{'retry-after'}, [ 0, 30 ], "a function's 503 gets two Retry-After");
like(slurp_file($contract{14}{out}), qr/loading the schema cache/, 'and is taken for an outage');
my $head = bytes($contract{14}{port}, "HEAD /rpc/verify HTTP/1.1\r\nHost: x\r\n\r\n");
is_deeply([ $head->{status}, @{ $head->{headers} }{qw(content-length transfer-encoding connection)} ],
	[ 401, undef, undef, undef ], 'HEAD: neither a length nor a word of the end, which comes');
is(bare(14, 'OPTIONS', '/rpc/verify'), '200', 'OPTIONS');
is(bare(14, 'DELETE', '/rpc/verify'), '405 PGRST101', 'no DELETE on a function');
is(bare(14, 'GET', '/rpc/signup'), '404 PGRST202', 'a function without its argument');
is(bare(14, 'POST', '/rpc/verify', [$json], '{}'), '401 missing_credentials', 'POST on a function without parameters');
foreach my $case (
	[ 'no body', '', '400 22P02' ],
	[ 'no JSON', '{', '400 PGRST102' ],
	[ 'not UTF-8', "\"\xff\"", '400 PGRST102' ],
	[ 'a byte order mark', "\xef\xbb\xbf{}", '400 PGRST102' ],
	[ 'half of a surrogate pair', '{"x":"\ud800"}', '400 PGRST102' ],
	[ 'a whole one', '{"x":"\ud83d\udd11"}', '200' ],
	[ 'deep nesting', '[' x 8000 . ']' x 8000, '400 PGRST102' ],
	[ 'an array of unlike objects', '[{"a":1},{"b":2}]', '400 PGRST102' ],
	[ 'a number', '1', '200' ])
{
	is(bare(14, 'POST', '/rpc/echo', [$json], $case->[1]), $case->[2], "POST: $case->[0]");
}
is(bare(14, 'POST', '/rpc/echo', ['Content-Type: text/plain'], '{}'), '404 PGRST202', 'plain text');
is(bare(14, 'POST', '/rpc/echo', ['Content-Type: application/x'], '{}'), '400 PGRST102', 'another media type');

# One of them is poisoned: its connections go back to its pool inside of transactions.
my $answer = request($bare{12}, 'GET', '/rpc/verify', ["X: \xff"]);
is("$answer->{status} @{ $answer->{headers}{'content-type'} }", '500 text/plain; charset=utf-8', 'a header that is not UTF-8');
request($bare{12}, 'GET', '/rpc/verify', ["X: \xff"]) foreach 1 .. 30;
is(bare(12, 'POST', '/rpc/echo', [$json], '{}'), '500 25001', 'breaks the next request');
is(bare(12, 'POST', '/rpc/echo', [$json], '{}'), '500 25P02', 'and all others');
stop_process($contract{$_}) foreach 12, 13;

# nginx before it, and before another PostgREST that has tables of one's own.
my ($port, $own_port, $tenant_port) = (free_port(), free_port(), free_port());
my $behind = $contract{14}{port};
my $own_server = <<"EOC";
    server {
        listen 127.0.0.1:$own_port;
        location / {
            include nginx_own_tables.conf;
            proxy_pass http://127.0.0.1:$tenant_port;
        }
    }
EOC
my $nginx = start_nginx('faults_nginx', 'nginx.conf', $port,
	'    # For trying out' => "$own_server    # For trying out",
	'127.0.0.1:8080' => "127.0.0.1:$port",
	'127.0.0.1:8443' => '127.0.0.1:' . free_port(),
	'127.0.0.1:3000' => "127.0.0.1:$behind");
my $url = "http://127.0.0.1:$port";

# Have another server answer on PostgREST's port.
sub change_postgrest
{
	my ($old, $database, $name, %settings) = @_;

	stop_process($old);
	return start_postgrest($database, $name, port => $behind, %settings);
}

# No bytes of a client's get so far.
foreach my $case (
	[ 'a key', "Authorization: Bearer sk_\xff", '401 invalid_api_key' ],
	[ 'a key in UTF-8', "Authorization: Bearer \xc3\xbc", '401 invalid_api_key' ],
	[ 'no Bearer', "Authorization: \xff", '401 missing_credentials' ],
	[ 'a forwarded address', "$good\r\nX-Forwarded-For: \xff", '200' ],
	[ 'another header', "$good\r\nX: \xff", '200' ],
	[ 'a host', "$good", undef, "\xff.example" ])
{
	my ($name, $headers, $expected, $host) = @$case;
	my $sent = join "\r\n", 'GET /api/v1/verify HTTP/1.1', 'Host: ' . ($host // 'localhost'), $headers, 'Connection: close', '', '';
	my @answers = map { summary(bytes($port, $sent)) } 1 .. 15;

	# Later versions of nginx refuse such a host.
	$expected //= $answers[0] eq '200' ? '200' : '400 invalid_request';
	is_deeply(\@answers, [ ($expected) x 15 ], "bytes outside of ASCII in $name");
}
is_deeply([ map { summary(request($url, @$_)) } @each ], [ 201, 201, 200, 200, '404 key_not_found', 200 ], 'and all is well afterwards');

# HEAD leaves no dead connections behind.
my @heads = map {
	(request($url, 'HEAD', '/api/v1/verify', [ $_ % 2 ? $good : 'Authorization: Bearer x' ])->{status},
		summary(request($url, @{ $each[ $_ % 6 ] })))
} 1 .. 18;
is_deeply(\@heads, [ map { ($_ % 2 ? 200 : 401, (201, 201, 200, 200, '404 key_not_found', 200)[ $_ % 6 ]) } 1 .. 18 ], 'others beside HEAD');

# So at once that a connection which has answered a HEAD still looks alive.
my $pipelined = IO::Socket::INET->new(PeerAddr => '127.0.0.1', PeerPort => $port) // die "cannot connect: $!";
$pipelined->syswrite(join '', map { "$_ /api/v1/verify HTTP/1.1\r\nHost: localhost\r\n$good\r\n\r\n" } ('HEAD', 'GET') x 9);
$pipelined->syswrite("GET /api/v1/verify HTTP/1.1\r\nHost: localhost\r\n$good\r\nConnection: close\r\n\r\n");
is(join(' ', rest_of($pipelined) =~ m{HTTP/1\.1 (\d+) }g), join(' ', (200) x 19), 'others right behind HEAD');

# Bodies that PostgREST refuses.
foreach my $case (
	[ 'a byte order mark', "\xef\xbb\xbf{\"org_name\":\"x\"}", '400 invalid_json' ],
	[ 'half of a surrogate pair', '{"org_name":"\ud800"}', '400 invalid_json' ],
	[ 'an array of unlike objects', '[{"a":1},{"b":2}]', '400 invalid_json' ])
{
	is(summary(request($url, 'POST', '/api/v1/signup', [ $ada, $json ], $case->[1])), $case->[2], "sign-up: $case->[0]");
	is(summary(request($url, 'POST', '/api/v1/signup', [$json], $case->[1])), '401 missing_credentials', "$case->[0], the credential first");
}

# The database says no, in one way after the other.
my $node_is_well = sub {
	wait_until('the database answers again', sub { request($url, @{ $each[5] })->{status} == 200 });
};
my $hang_up = q{SELECT count(pg_terminate_backend(pid, 10000)) FROM pg_stat_activity WHERE usename = 'overten_authenticator'};

ask($node, 'ALTER ROLE overten_authenticator CONNECTION LIMIT 0');
ask($node, $hang_up);
is(summary(request($url, @$_)), '503 service_unavailable', "$_->[0] $_->[1]: too many connections") foreach @each;
ask($node, 'ALTER ROLE overten_authenticator CONNECTION LIMIT -1');
ask($node, "ALTER ROLE overten_authenticator SET statement_timeout = '200ms'");
ask($node, $hang_up);
$node_is_well->();
my $lock = $node->background_psql('postgres');
$lock->query_safe('BEGIN; LOCK TABLE overten_auth.api_keys, overten_auth.orgs, overten_auth.members');
is(summary(request($url, @$_)), '503 service_unavailable', "$_->[0] $_->[1]: a statement_timeout") foreach @each[ 0 .. 4 ];
$lock->query_safe('ROLLBACK');
$lock->quit;
ask($node, "ALTER ROLE overten_authenticator SET statement_timeout = '4s'");
ask($node, $hang_up);
$node_is_well->();

my $load = start_process('faults_load', {}, 'node', "$FindBin::RealBin/../http/load.mjs",
	'steady', "$url/api/v1/verify", 4, $secret);
$node->stop('immediate');
is(summary(request($url, @$_)), '503 service_unavailable', "$_->[0] $_->[1]: without a database") foreach @each, @about_orgs;
$node->start;
$node_is_well->();
stop_process($load);
is(join(' ', grep { !/^(200|503\+)$/ } keys %{ decode_json(slurp_file($load->{out})) }), '', 'a restart of the database under load');

# A standby, which verifies and writes nothing.
$node->backup('faults');
my $standby = PostgreSQL::Test::Cluster->new('faults_standby');
$standby->init_from_backup($node, 'faults', has_streaming => 1);
$standby->start;
my $reading = change_postgrest($contract{14}, $standby, 'reading');
is(summary(request($url, @{ $each[5] })), '200', 'a standby verifies');
check_exchange($standby, $url, [ "$_->[0] $_->[1] on a standby", '503 service_unavailable', @$_ ]) foreach @each[ 0, 1, 4 ], @writing;
check_exchange($standby, $url, [ "$_->[0] $_->[1] on a standby", '200', @$_ ]) foreach @each[ 2, 3 ], @reading;
$standby->append_conf('postgresql.conf', 'overten_auth.verify_on_standby = off');
$standby->reload;
wait_until('the standby no longer verifies', sub { request($url, @{ $each[5] })->{status} == 503 });
check_exchange($standby, $url, [ 'a standby that may not verify', '503 service_unavailable', @{ $each[5] } ]);
unlike(slurp_file($reading->{out}), qr/loading the schema cache/, 'what a function says is no outage');

# Signing keys are missing: the one 503 that says when to come back.
my $writing = change_postgrest($reading, $node, 'writing');
ask($node, 'DELETE FROM overten_auth.signing_keys');
check_exchange($node, $url, [ "$_->[0] $_->[1] without signing keys", '503 auth_unavailable', @$_ ]) foreach @each[ 0 .. 4 ], @about_orgs;
unlike(slurp_file($writing->{out}), qr/loading the schema cache/, 'nor is that one');

# Whatever PostgREST answers itself.  These functions raise what they are told, and
# PostgREST makes an answer of that in its own form; of PTnnn with that status.
ask($node, <<'EOQ');
CREATE TABLE said (code text);
INSERT INTO said VALUES ('');
CREATE FUNCTION say() RETURNS json LANGUAGE plpgsql SECURITY DEFINER AS $$
	BEGIN RAISE 'PostgREST says more than clients need know' USING ERRCODE = (SELECT code FROM public.said); END $$;
ALTER FUNCTION overten_api.signup RENAME TO signup_is_gone;
ALTER FUNCTION overten_api.create_api_key RENAME TO create_api_key_is_gone;
ALTER FUNCTION overten_api.list_api_keys RENAME TO list_api_keys_is_gone;
ALTER FUNCTION overten_api.key_usage RENAME TO key_usage_is_gone;
ALTER FUNCTION overten_api.revoke_api_key RENAME TO revoke_api_key_is_gone;
ALTER FUNCTION overten_api.verify RENAME TO verify_is_gone;
CREATE FUNCTION overten_api.signup(json) RETURNS json LANGUAGE sql AS 'SELECT public.say()';
CREATE FUNCTION overten_api.create_api_key(json) RETURNS json LANGUAGE sql AS 'SELECT public.say()';
CREATE FUNCTION overten_api.list_api_keys() RETURNS json LANGUAGE sql AS 'SELECT public.say()';
CREATE FUNCTION overten_api.key_usage() RETURNS json LANGUAGE sql AS 'SELECT public.say()';
CREATE FUNCTION overten_api.revoke_api_key(json) RETURNS void LANGUAGE sql AS 'SELECT public.say()';
CREATE FUNCTION overten_api.verify() RETURNS json LANGUAGE sql AS 'SELECT public.say()';
EOQ

# What is answered when PostgREST is told so: to a sign-up, a revocation and a
# verification, which take different ways through nginx.
sub said
{
	my ($code) = @_;

	ask($node, "UPDATE said SET code = '$code'");
	return [ map { summary(request($url, @$_)) } @each[ 0, 4, 5 ] ];
}

my ($broken, $outage) = ('500 internal_error', '503 service_unavailable');
$writing = change_postgrest($writing, $node, 'twelve', version => 12);
is_deeply(said("PT$_"), [ ($broken) x 3 ], "a $_ of PostgREST's") foreach 300, 401, 403, 404, 406, 409, 413, 415, 416, 500;
is_deeply(said("PT$_"), [ ($outage) x 3 ], "a $_ of PostgREST's") foreach 405, 502, 503, 504;
is_deeply(said('PT400'), [ $outage, $outage, $broken ], "a 400 of PostgREST's");

# From version 13 on it says what passes by itself, as it does over the gateway.
$writing = change_postgrest($writing, $node, 'thirteen', version => 13);
is_deeply(said($_), [ ($outage) x 3 ], "PostgREST 13 names $_")
  foreach '08006', '25006', '40001', '40P01', '53200', '55000', '55P03', '57014', '57P03';
is_deeply(said($_), [ ($broken) x 3 ], "PostgREST 13 names $_") foreach '28000', '42501', '42883', '54001', 'P0002', 'XX000';

stop_process($writing);
is(summary(request($url, @$_)), $outage, "$_->[0] $_->[1]: PostgREST is away") foreach @each;
is_deeply([ foreign_errors($url) ], [], "no error that reached a client was anything but the API's own");

# A PostgREST before tables of one's own.
ask($node, <<"EOQ");
CREATE SCHEMA tenant;
CREATE FUNCTION tenant.org() RETURNS json LANGUAGE sql AS 'SELECT to_json(public.overten_current_org())';
GRANT USAGE ON SCHEMA tenant TO overten_web;
EOQ
my $tenant = start_postgrest($node, 'tenant_faults', port => $tenant_port, 'db-schemas' => 'tenant',
	'db-pre-request' => 'overten_api.authenticate_request');

sub of_tenant
{
	my ($method, @lines) = @_;
	my $answer = bytes($own_port, join "\r\n", "$method /rpc/org HTTP/1.1", @lines, 'Connection: close', '', '');

	return join ' ', $answer->{status}, $answer->{body};
}

my $host = 'Host: localhost';
my $refused = qr/^400 \{"error":\{"code":"invalid_request",/;
is(of_tenant('GET', $host, $good), "200 \"$org\"", 'a key is an identity');
is(of_tenant('HEAD', $host, $good), '200 ', 'and for HEAD');
is(of_tenant('GET', $host), '200 null', 'without one there is none');
like(of_tenant('GET', $host, 'Authorization: Bearer sk_live_00000000000000000000000K3vO8'), qr/^401 .*invalid_api_key/, 'a bad one is refused');
like(of_tenant('GET', $host, $good, 'X-Overten-Authorization: Bearer x'), $refused, 'two that differ');
foreach my $lines ([ $host, "Accept: \xff" ], [ $host, "Prefer: \xff" ], [ $host, "Content-Type: \xff" ])
{
	like(of_tenant('GET', @$lines), $refused, 'bytes outside of ASCII in a header that counts') foreach 1 .. 11;
}
like(of_tenant('GET', "Host: \xff"), qr/^(200 null|400 <html>)/, 'in a host, which later versions of nginx refuse') foreach 1 .. 11;
like(of_tenant('GET', @$_), qr/^(200 null|401 )/, 'in one that does not')
  foreach map { ($_) x 11 } [ $host, "Cookie: \xff" ], [ $host, "X: \xff" ], [ $host, "X-Forwarded-For: \xff" ], [ $host, "Authorization: Bearer \xff" ];
is(of_tenant('GET', $host, $good), "200 \"$org\"", 'all is well afterwards') foreach 1 .. 11;
is(request("http://127.0.0.1:$own_port", 'POST', '/rpc/org', [ $good, $json ], '{}')->{status}, 200, 'for POST, too') foreach 1 .. 11;

# A key in a header of its own
my ($keyed_port, $keyed_own_port) = (free_port(), free_port());
my $keyed = start_nginx('keyed_nginx', 'nginx.conf', $keyed_port,
	'$overten_api_key_header' => 'on',
	'    # For trying out' => ($own_server =~ s/:\K$own_port\b/$keyed_own_port/r) . '    # For trying out',
	'127.0.0.1:8080' => "127.0.0.1:$keyed_port",
	'127.0.0.1:8443' => '127.0.0.1:' . free_port(),
	'127.0.0.1:3000' => "127.0.0.1:$behind");
is(of_tenant('GET', $host, "X-API-Key: $secret"), '200 null', 'X-API-Key, where it means nothing');
$own_port = $keyed_own_port;
is(of_tenant('GET', $host, "X-API-Key: $secret"), "200 \"$org\"", 'and where it is an identity');
is(of_tenant('GET', $host, $good), "200 \"$org\"", 'as a Bearer still is');
like(of_tenant('GET', $host, "X-API-Key: $_"), qr/^401 .*invalid_api_key/, 'no good key') foreach 'x', "\xff", $good;
like(of_tenant('GET', $host, "X-API-Key: $secret", $good), $refused, 'a Bearer, too');
is(of_tenant('GET', $host, "X-Overten-Api-Key: $secret"), '200 null', "nginx's own name for it");

# Nobody chooses an address: nginx appends whom it is connected to, as every proxy.
my $elsewhere = ask($node, "SELECT secret FROM overten_mint_key('$org', allowed_addresses => '{192.0.2.7}')");
my @from_elsewhere = ('GET', $host, "Authorization: Bearer $elsewhere", 'X-Forwarded-For: 192.0.2.7');
$node->append_conf('postgresql.conf', "overten_auth.verify_restricted = on\noverten_auth.trust_forwarded_for = 2");
$node->reload;
wait_until('what another proxy says counts', sub { of_tenant(@from_elsewhere) eq "200 \"$org\"" });
$node->append_conf('postgresql.conf', 'overten_auth.trust_forwarded_for = 1');
$node->reload;
wait_until('without one, nothing that a client says does', sub { of_tenant(@from_elsewhere) =~ /^401 / });
like(of_tenant(@from_elsewhere[ 0 .. 2 ], "X-Forwarded-For: $_"), qr/^401 /, 'however often') foreach '192.0.2.7, 192.0.2.7', "192.0.2.7\r\nX-Forwarded-For: 192.0.2.7", "192.0.2.7,";
stop_process($_) foreach $tenant, $nginx, $keyed;
done_testing();
