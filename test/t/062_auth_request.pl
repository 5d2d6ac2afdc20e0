
# Another service, protected with API keys in two ways: by nginx's auth_request
# with gateway/auth_request.conf, and in Node by gateway/protect.mjs.  pg_regress
# has no HTTP.

use strict;
use warnings FATAL => 'all';

use FindBin;
use lib $FindBin::RealBin;
use GatewayTest;
use JSON::PP qw(decode_json);
use OvertenTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = create_api_node('auth_request', '');
my $org = create_org($node, 'Protected');
ask($node, "SELECT overten_set_api_access('$org', true)");
my ($secret, $key) = mint($node, $org);
my $gateway = start_gateway($node, 'auth_gateway');

# Start the service; with an argument it protects itself.
sub start_service
{
	my ($name, @arguments) = @_;
	my $process = start_process($name, {}, 'node',
		"$FindBin::RealBin/../http/upstream.mjs", @arguments);

	wait_until('the service listens', sub {
		return slurp_file($process->{out}) =~ /listening on (\d+)/
		  && ($process->{port} = $1);
	});
	return $process;
}

my $open = start_service('service');
my $wrapped = start_service('wrapped', $gateway->{url});
my $port = free_port();
my $nginx = start_nginx('auth_nginx', 'auth_request.conf', $port,
	'127.0.0.1:8081' => "127.0.0.1:$port",
	'127.0.0.1:8080' => "127.0.0.1:$gateway->{port}",
	'127.0.0.1:9000' => "127.0.0.1:$open->{port}");
my %services = (
	'auth_request' => "http://127.0.0.1:$port",
	'protect.mjs' => "http://127.0.0.1:$wrapped->{port}");

# The answer that the API gives to the same credential.
sub by_api
{
	my (@headers) = @_;
	return visible(request($gateway->{url}, 'GET', '/api/v1/verify', [@headers]), 'GET');
}

foreach my $name (sort keys %services)
{
	my $url = $services{$name};
	my $answer = request($url, 'POST', '/generate?x=y',
		[ "Authorization: Bearer $secret", 'X-Overten-Org-Id: org_forged',
			'X-Overten-Org-Id: org_forged_again', 'Content-Type: text/plain' ], 'hello');
	is($answer->{status}, 200, "$name: a key");
	my $seen = decode_json($answer->{body});
	is($seen->{headers}{'x-overten-org-id'}, $org, "$name: the service is told the org, not what the client says it is");
	is($seen->{headers}{authorization}, undef, "$name: the service does not see the key");
	is($seen->{requests}, 1, "$name: the first request that reached the service");

	foreach my $case (
		[ 'no credential' ],
		[ 'a credential that is no Bearer', 'Authorization: Basic YTpi' ],
		[ 'an unknown key', 'Authorization: Bearer sk_live_00000000000000000000000K3vO8' ],
		[ 'a key under the wrong name', "X-Overten-Authorization: Bearer $secret" ],
		[ 'an org id alone', "X-Overten-Org-Id: $org" ])
	{
		my ($what, @headers) = @$case;
		is_deeply(visible(request($url, 'POST', '/generate', [@headers], 'hello'), 'POST'),
			by_api(@headers), "$name: $what, refused as by the API");
	}
	is(request($url, 'HEAD', '/generate', ["Authorization: Bearer $secret"])->{status}, 200, "$name: HEAD with a key");
	is(request($url, 'HEAD', '/generate')->{status}, 401, "$name: HEAD without");
}

my ($other, $other_key) = mint($node, $org);
ask($node, "SELECT overten_revoke_key('$org', '$key')");
foreach my $name (sort keys %services)
{
	is(summary(request($services{$name}, 'GET', '/', ["Authorization: Bearer $secret"])),
		'401 invalid_api_key', "$name: a revoked key, at once");
	my $answer = request($services{$name}, 'GET', '/', ["Authorization: Bearer $other"]);
	is(decode_json($answer->{body})->{requests}, 3, "$name: nothing that was refused has reached the service");
}

$node->stop;
foreach my $name (sort keys %services)
{
	is_deeply(visible(request($services{$name}, 'GET', '/', ["Authorization: Bearer $other"]), 'GET'),
		by_api("Authorization: Bearer $other"), "$name: no key is let through without the database");
}
stop_process($gateway);
foreach my $name (sort keys %services)
{
	is(summary(request($services{$name}, 'GET', '/', ["Authorization: Bearer $other"])),
		'503 service_unavailable', "$name: nor without the gateway");
}
stop_process($_) foreach $nginx, $open, $wrapped;

unlike(slurp_file($_), qr/sk_live_\w{5}|Bearer/, "no credential in " . ($_ =~ s{.*/}{}r))
  foreach glob("$nginx->{folder}/*.log"), map { @{$_}{qw(out err)} } $open, $wrapped, $gateway;

done_testing();
