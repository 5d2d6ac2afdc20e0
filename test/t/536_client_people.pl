
# What docs/clients.md has for people: a page that signs up with the ID token of
# the real Firebase web SDK, and a service that asks whose token it is.  No token is in
# the server log.  pg_regress has no HTTP.

use strict;
use warnings FATAL => 'all';

use Cwd qw(abs_path);
use FindBin;
use lib $FindBin::RealBin;
use ClientTest;
use GatewayTest;
use JSON::PP qw(decode_json);
use OvertenTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $top = abs_path("$FindBin::RealBin/../..");
my $folder = PostgreSQL::Test::Utils::tempdir;
my $identity = start_identity('people_identity');
my $keys = "$identity->{url}/service_accounts/v1/jwk/securetoken\@system.gserviceaccount.com";
my $node = create_client_node('people', <<"EOC");
shared_preload_libraries = 'overten_auth'
overten_auth.databases = 'app'
overten_auth.firebase_project_id = 'demonstration'
overten_auth.signing_keys_command = 'curl --disable --noproxy "*" --silent --show-error --include $keys'
EOC
my $app = [ $node, 'app' ];
ask($app, slurp_file("$top/gateway/roles.sql") =~ s/^\\.*\n//mgr =~ s/:"schema"/public/gr);
ask($app, 'SELECT overten_refresh_signing_keys()');
my $gateway = start_gateway($node, 'people_gateway', PGDATABASE => 'app');

# The page
my $page = write_module($folder, 'sign_up.mjs', 'https://api.example.com' => $gateway->{url});
my ($out, $err);
IPC::Run::run([ 'node', "$top/test/clients/sign_up.mjs", $identity->{url}, $page ], '>', \$out, '2>', \$err) or die $err;
my $said = decode_json($out);
is($said->{first}{org_name}, 'Acme Docs', 'the page signs up');
is($said->{again}{org_id}, $said->{first}{org_id}, 'again under the same name: the same org');
is(ask($app, 'SELECT count(*) FROM overten_auth.orgs'), '1', 'and there is only one');
isnt($said->{again}{secret}, $said->{first}{secret}, 'with a new secret');
is($said->{refused}, 'invalid_parameter', 'a refusal is an error with its code');

# The service
my $service = start_client($node, 'uid.mjs', 'node', "$top/test/clients/ask.mjs", write_module($folder, 'uid.mjs'));
my $token = $said->{token};
my $broken = $token =~ s/.{9}$/AAAAAAAAA/r;
is(ask_client($service, 'uid', $token), "row $said->{uid}", 'the service: whose token it is');
is(ask_client($service, 'uid', $broken), 'none', 'a token with another signature');
is(ask_client($service, 'uid', 'x'), 'none', 'no token at all');

node_script('token.mjs', 'new', $folder);
ask($app, 'SELECT overten_load_signing_keys($$' . slurp_file("$folder/keys.json") . '$$)');
my $expired = node_script('token.mjs', 'sign', $folder, 'demonstration', 'ada', 'exp=' . (time - 60), 'iat=' . (time - 3600));
my $of_ada = node_script('token.mjs', 'sign', $folder, 'demonstration', 'ada');
is(ask_client($service, 'uid', $of_ada), 'row ada', 'a token of another key that is loaded');
is(ask_client($service, 'uid', $expired), 'none', 'a token that has expired');
ask($app, 'DELETE FROM overten_auth.signing_keys');
is(ask_client($service, 'uid', $of_ada), 'error 55000', 'no signing key: that is no refusal');

my $log = slurp_file($node->logfile);
like($log, qr/overten_verify_firebase_jwt\(\$1\)/, 'its statements are logged');
foreach my $text ($log, slurp_file($service->{err}), slurp_file($gateway->{err}), slurp_file($gateway->{out}))
{
	# Its parts behind the header, which is the same for all.
	is(scalar(grep { index($text, substr $_, 100, 60) >= 0 || index($text, substr $_, -60) >= 0 } $token, $broken, $expired, $of_ada),
		0, 'without a token');
	is(leaks_in($text, $said->{first}{secret}, $said->{again}{secret}), 0, 'and without the secret of a key');
}

end_client($service);
stop_process($_) foreach $gateway, $identity;
$node->stop;
done_testing();
