
# All front ends, each in front of the same database: the gateway, nginx before
# PostgREST, and for another service protect.mjs, nginx with auth_request.conf before
# the gateway or before a PostgREST of its own, and nginx with the module.

package FrontEnds;

use strict;
use warnings FATAL => 'all';

use ApiContract;
use Exporter 'import';
use GatewayTest;
use OvertenTest;
use PostgreSQL::Test::Utils;
use Test::More;

our @EXPORT = qw(create_front_node start_front_ends send_to check_answer auth moved %is);

# What a front end answers, by name.
our %is = (
	missing => '401 missing_credentials', bad => '401 invalid_api_key', two => '400 invalid_request',
	malformed => '400 invalid_request', large => '431 invalid_request', method => '405 method_not_allowed');

# Start a node that all front ends may ask, with an org.  Returns both.
sub create_front_node
{
	my ($name) = @_;
	my $node = create_api_node($name, <<'EOC');
shared_preload_libraries = 'overten_auth'
overten_auth.databases = 'postgres'
overten_auth.signing_keys_command = ''
EOC
	my $org = create_org($node, 'Protected');

	ask($node, <<"EOQ");
SELECT overten_set_api_access('$org', true), overten_add_member('$org', 'ada');
INSERT INTO overten_auth.tiers VALUES (U&'\\4F01\\696D 1');
SELECT overten_set_tier('$org', U&'\\4F01\\696D 1');
ALTER ROLE overten_gateway SET statement_timeout = 0;
ALTER ROLE overten_authenticator SET statement_timeout = 0;
CREATE ROLE overten_nginx LOGIN;
GRANT EXECUTE ON FUNCTION overten_authorize_request(text, json) TO overten_nginx;
EOQ
	return ($node, $org);
}

# Start all front ends.  With a name of a header, keys may come in it, too; nginx's
# files know it as X-API-Key.  Returns the processes by their names, and "ends": each
# front end, its port, and whether it is one of the API or protects a service.
sub start_front_ends
{
	my ($node, $api_key_header) = @_;
	my %patience = map { $_ => 1000 * $PostgreSQL::Test::Utils::timeout_default }
	  qw(CONNECT_TIMEOUT_MS QUERY_TIMEOUT_MS);
	my @chosen = defined $api_key_header ? ('$overten_api_key_header' => 'on') : ();
	my @directive = defined $api_key_header
	  ? ('overten_auth on;' => "overten_auth on; overten_auth_api_key_header $api_key_header;") : ();
	my ($api_port, $auth_port, $services_port) = (free_port(), free_port(), free_port());
	my $name = $node->name;
	my %front;

	$patience{API_KEY_HEADER} = $api_key_header if defined $api_key_header;
	$front{gateway} = start_gateway($node, "${name}_gateway", %patience);
	$front{postgrest} = start_postgrest($node, "${name}_contract");
	$front{services} = start_postgrest($node, "${name}_services_contract", 'db-anon-role' => 'overten_services');
	$front{open} = start_service("${name}_service");
	$front{behind} = start_service("${name}_behind");
	$front{wrapped} = start_service("${name}_wrapped", $front{gateway}{authorize_url}, $api_key_header // ());
	$front{guarded} = start_service("${name}_guarded");
	$front{api_nginx} = start_nginx("${name}_nginx", 'nginx.conf', $api_port, @chosen,
		'127.0.0.1:8080' => "127.0.0.1:$api_port",
		'127.0.0.1:8443' => '127.0.0.1:' . free_port(),
		'127.0.0.1:3000' => "127.0.0.1:$front{postgrest}{port}");
	$front{auth_nginx} = start_nginx("${name}_auth_nginx", 'auth_request.conf', $auth_port, @chosen,
		'127.0.0.1:8081' => "127.0.0.1:$auth_port",
		'127.0.0.1:8079' => "127.0.0.1:$front{gateway}{authorize_port}",
		'127.0.0.1:9000' => "127.0.0.1:$front{open}{port}");
	$front{module_nginx} = start_module_nginx("${name}_module_nginx", $node->connstr('postgres'), $front{guarded}{port}, @directive);
	$front{services_nginx} = start_nginx("${name}_services_nginx", 'auth_request.conf', $services_port, @chosen,
		'include nginx_authorize.conf' => 'include nginx_authorize_postgrest.conf',
		'127.0.0.1:8081' => "127.0.0.1:$services_port",
		'127.0.0.1:3001' => "127.0.0.1:$front{services}{port}",
		'127.0.0.1:9000' => "127.0.0.1:$front{behind}{port}");
	$front{ends} = [
		[ 'gateway', $front{gateway}{port}, 'api' ],
		[ 'nginx', $api_port, 'api' ],
		[ 'auth_request', $auth_port, 'service' ],
		[ 'protect.mjs', $front{wrapped}{port}, 'service' ],
		[ 'auth_request and PostgREST', $services_port, 'service' ],
		[ 'module', $front{module_nginx}{port}, 'service' ] ];
	return %front;
}

# Send a request to a front end: a method and a path, or a whole request line; header
# lines; a body.  /verify stands for any path of a service.
sub send_to
{
	my ($end, $line, $headers, $body) = @_;
	my ($name, $port, $kind) = @$end;
	my @headers = grep { defined } @{ $headers // [] };

	$line = "$line HTTP/1.1" unless $line =~ / HTTP/;
	$line =~ s{/api/v1/verify}{/generate} if $kind eq 'service';
	push @headers, 'Content-Length: ' . length $body if defined $body;
	return bytes($port, join "\r\n", $line, 'Host: localhost', 'Connection: close', @headers, '', $body // '');
}

# Check the answer of a front end to a request: "what" it is, what is expected, and the
# request as send_to takes it.  A refusal looks as in "refused", which the first front end
# sets.  Returns the answer; nothing if Node.js has refused before protect.mjs was asked.
sub check_answer
{
	my ($end, $refused, $what, $expected, @request) = @_;
	my $answer = send_to($end, @request);
	my $method = $request[0] =~ /^HEAD/ ? 'HEAD' : 'GET';

	if ($what =~ /^parser/ && $end->[0] eq 'protect.mjs')
	{
		is($answer->{status}, substr($expected, 0, 3), "$what: $end->[0]");
		return;
	}
	is(summary($answer), $expected, "$what: $end->[0]");
	is($answer->{body}, '', "$what: $end->[0]: no body") if $method eq 'HEAD' || $expected eq '204';
	if ($expected !~ /^20/)
	{
		$$refused //= visible($answer, $method);
		is_deeply(visible($answer, $method), $$refused, "$what: $end->[0]: as the gateway");
	}
	return $answer;
}

sub auth { return "Authorization: $_[0]" }
sub moved { return "X-Overten-Authorization: $_[0]" }

1;
