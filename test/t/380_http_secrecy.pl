
# No credential gets into a log on its way through the HTTP layers: with all
# statements logged, and the settings that gateway/roles.sql gives to the roles,
# neither the server's log nor those of the gateway and nginx hold a token, a key
# or a webhook secret.  pg_regress cannot see a log.

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

my $node = create_api_node('http_secrecy', '');
my $token = sign('ada');
my $log_position = -s $node->logfile;
$node->append_conf('postgresql.conf', <<'EOC');
log_statement = all
log_min_duration_statement = 0
log_min_error_statement = debug5
log_error_verbosity = verbose
overten_auth.key_features = 'details, rotation'
EOC
$node->restart;

my @key_header = (API_KEY_HEADER => 'X-API-Key');
my $gateway = start_gateway($node, 'secret_gateway', @key_header);
my $unprepared = start_gateway($node, 'secret_unprepared', PREPARE => 'off', @key_header);
my $postgrest = start_postgrest($node, 'secret_contract');
my $port = free_port();
my $nginx = start_nginx('secret_nginx', 'nginx.conf', $port,
	'$overten_key_route' => 'managed_key',
	'$overten_rotation' => 'on',
	'$overten_api_key_header' => 'on',
	'127.0.0.1:8080' => "127.0.0.1:$port",
	'127.0.0.1:8443' => '127.0.0.1:' . free_port(),
	'127.0.0.1:3000' => "127.0.0.1:$postgrest->{port}");

my @secrets = ($token);
my $ada = "Authorization: Bearer $token";
my $json = 'Content-Type: application/json';

foreach my $url ($gateway->{url}, $unprepared->{url}, "http://127.0.0.1:$port")
{
	# The page's requests, and each refused for some reason.
	my $made = decode_json(request($url, 'POST', '/api/v1/signup', [ $ada, $json ],
			'{"org_name":"Secretive","tier":"free","key_name":"primary"}')->{body});
	my $keys = "/api/v1/organizations/$made->{org_id}/api-keys";
	my $more = decode_json(request($url, 'POST', $keys, [ $ada, $json ], '{"name":"ci"}')->{body});
	my $org = "/api/v1/organizations/$made->{org_id}";
	my $rotated = decode_json(request($url, 'POST', "$org/webhook-secret/rotate", [ $ada, $json ], '{}')->{body});
	my $invited = decode_json(request($url, 'POST', "$org/invitations", [ $ada, $json ], '{"note":"Eve"}')->{body});
	my $invitation = $invited->{invitation_id};
	my $eve = 'Authorization: Bearer ' . sign('eve');
	push @secrets, $made->{secret}, $more->{secret}, $made->{webhook_secret}, $rotated->{webhook_secret}, $invited->{code};

	is(request($url, 'POST', '/api/v1/invitations/accept', [ $ada, $json ], "{\"code\":\"$invited->{code}\"}")->{status}, 409, "a code for one's own org");
	is(request($url, 'POST', '/api/v1/invitations/accept', [ $eve, $json ], "{\"code\":\"$invited->{code}\"}")->{status}, 200, 'a good code');
	is(request($url, 'POST', '/api/v1/invitations/accept', [ $ada, $json ], "{\"code\":[\"$invited->{code}\"]}")->{status}, 400, 'a code as an array');
	is(request($url, 'POST', "/api/v1/invitations/$invited->{code}", [ $ada, $json ], '{}')->{status}, 404, 'a code in the path');
	is(request($url, 'DELETE', "$org/invitations/$invited->{code}", [$ada])->{status}, 404, 'a code for an id');
	is(request($url, 'DELETE', "$org/members/$made->{secret}", [$ada])->{status}, 404, 'a key for a uid');
	is(request($url, 'GET', "$org/audit-log?cursor=$invited->{code}&key_id=$made->{secret}", [$ada])->{status}, 400, 'a code for a cursor');
	is(request($url, 'PATCH', $org, [ $ada, $json ], "{\"name\":[\"$made->{secret}\"]}")->{status}, 400, 'a key for a name');

	is(request($url, 'GET', '/api/v1/verify', ["Authorization: Bearer $_->{secret}"])->{status},
		200, 'a key') foreach $made, $more;
	is(request($url, 'GET', '/api/v1/verify', ["X-API-Key: $_->{secret}"])->{status},
		200, 'a key in a header of its own') foreach $made, $more;
	is(request($url, 'GET', '/api/v1/verify', [ "X-API-Key: $made->{secret}", "Authorization: Bearer $more->{secret}" ])->{status}, 400, 'two keys');
	is(request($url, 'GET', '/api/v1/verify', ["X-API-Key: $made->{secret}, $more->{secret}"])->{status}, 400, 'two keys in one header');
	is(request($url, 'GET', $keys, ["X-API-Key: $token"])->{status}, 401, 'a token for a key in its header');
	is(request($url, 'GET', '/api/v1/verify', [$ada])->{status}, 401, 'a token for a key');
	is(request($url, 'GET', $keys, [$ada])->{status}, 200, 'the list');
	is(request($url, 'GET', $keys, ["Authorization: Bearer $made->{secret}"])->{status}, 401, 'a key for a token');
	is(request($url, 'POST', '/api/v1/signup', [ $ada, $json ], "{\"org_name\":\"$more->{secret}")->{status}, 400, 'a key in bad JSON');
	is(request($url, 'POST', $keys, [ $ada, $json ], "{\"name\":[\"$more->{secret}\"]}")->{status}, 400, 'a key as an array');
	is(request($url, 'GET', "/api/v1/verify/$more->{secret}?key=$more->{secret}")->{status}, 404, 'a key in the path');
	is(request($url, 'GET', "$keys/$made->{key_id}/usage", [$ada])->{status}, 200, 'usage');
	is(request($url, 'GET', "$keys/$made->{key_id}/usage?$_=$more->{secret}", [$ada])->{status}, 400, "a key for $_") foreach qw(since until);
	is(request($url, 'GET', "$keys/$made->{secret}/usage?key=$more->{secret}", [$ada])->{status}, 404, 'a key for an id of usage');
	foreach my $how ('', ', repeated')
	{
		my $turned = request($url, 'POST', "$keys/$more->{key_id}/rotate", [ $ada, $json, "Idempotency-Key: $more->{secret}" ], '{"overlap_seconds":60}');
		is($turned->{status}, 201, "a key is rotated$how");
		push @secrets, decode_json($turned->{body})->{secret};
	}
	is(request($url, 'POST', "$keys/$more->{key_id}/rotate", [ $ada, $json ], "{\"overlap_seconds\":\"$more->{secret}\"}")->{status}, 400, 'a key for an overlap');
	is(request($url, 'POST', "$keys/$more->{secret}/rotate", [ $ada, $json ], '{}')->{status}, 404, 'a key for an id to rotate');
	is(request($url, 'GET', "$keys/$more->{secret}/rotation", [$ada])->{status}, 404, 'a key for an id of a rotation');
	is(request($url, 'GET', "$keys/$more->{key_id}/rotation", [$ada])->{status}, 200, 'a rotation');
	is(request($url, 'PATCH', "$keys/$more->{key_id}", [ $ada, $json ], "{\"$_\":[\"$more->{secret}\"]}")->{status}, 400, "a key in a list for $_") foreach qw(name description metadata);
	is(request($url, 'PATCH', "$keys/$more->{key_id}", [ $ada, $json ], "{\"metadata\":{\"$more->{secret}\":[\"$made->{secret}\"]}}")->{status}, 200, 'keys in metadata');
	is(request($url, 'DELETE', "$keys/$made->{key_id}", [$ada])->{status}, 204, 'revoking');
	is(request($url, 'DELETE', "$keys/$made->{secret}", [$ada])->{status}, 404, 'a key for an id');
	is(request($url, 'GET', '/api/v1/verify', ["Authorization: Bearer $made->{secret}"])->{status}, 401, 'a revoked key');
}

# A gateway that logs in with a role of no such settings, to see that the check
# would find something.
my $careless = start_gateway($node, 'careless', PGUSER => scalar getpwuid($<), @key_header);
my $canary = 'sk_live_' . 'canary' x 4;
request($careless->{url}, 'GET', '/api/v1/verify', ["Authorization: Bearer $canary"]);
my $second = 'sk_live_' . 'sparrow' x 4;
request($careless->{url}, 'GET', '/api/v1/verify', ["X-API-Key: $second"]);
stop_process($careless);

stop_process($_) foreach $nginx, $gateway, $unprepared, $postgrest;
$node->stop;

my $log = substr slurp_file($node->logfile), $log_position;
like($log, qr/duration: .*overten_handle_request/s, 'the server logs the statements of the gateway');
like($log, qr/duration: .*overten_api/s, 'and of PostgREST');
like($log, qr/$_/, 'and without the settings of the roles, credentials') foreach $canary, $second;
my %logs = ('the server' => $log);
$logs{$_} = slurp_file($_)
  foreach glob("$nginx->{folder}/*.log"),
  map { @{$_}{qw(out err)} } $gateway, $unprepared, $postgrest, $nginx;
foreach my $name (sort keys %logs)
{
	my $found = grep { index($logs{$name}, $_) >= 0 } @secrets,
	  map({ (split /\./, $_)[-1] } $token);
	is($found, 0, "no credential in the log of " . ($name =~ s{.*/}{}r));
}

done_testing();
