
# The gateway and its database: what it says at the start if something is wrong, and
# what it answers meanwhile; settings that change while it runs; a pooler that does not
# keep prepared statements.  pg_regress has no HTTP.

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

my $node = create_api_node('gateway_database', "max_connections = 25\n");
my $org = create_org($node, 'Org');
ask($node, "SELECT overten_set_api_access('$org', true), overten_add_member('$org', 'ada')");
my ($secret) = mint($node, $org);
my $good = "Authorization: Bearer $secret";
my $ada = 'Authorization: Bearer ' . sign('ada');
my $json = 'Content-Type: application/json';
my $keys = "/api/v1/organizations/$org/api-keys";
# Time limits are the machine's business here.
ask($node, 'ALTER ROLE overten_gateway SET statement_timeout = 0');
my %patience = map { $_ => 1000 * $PostgreSQL::Test::Utils::timeout_default }
  qw(CONNECT_TIMEOUT_MS QUERY_TIMEOUT_MS);


# What is wrong, and what to do.

ask($node, <<'EOQ');
CREATE DATABASE bare;
CREATE DATABASE elsewhere;
CREATE ROLE peer LOGIN;
CREATE ROLE mapped LOGIN IN ROLE overten_gateway;
CREATE ROLE scram LOGIN PASSWORD 'right';
CREATE ROLE rejected LOGIN;
CREATE ROLE nologin;
CREATE ROLE unprivileged LOGIN;
CREATE ROLE crowded LOGIN CONNECTION LIMIT 0;
EOQ
my $hba = $node->data_dir . '/pg_hba.conf';
my $trusting = slurp_file($hba);
unlink $hba;
PostgreSQL::Test::Utils::append_to_file($hba, <<"EOC" . $trusting);
local all peer peer
local all mapped peer map=overten
local all scram scram-sha-256
local all rejected reject
EOC
my $user = getpwuid $<;
PostgreSQL::Test::Utils::append_to_file($node->data_dir . '/pg_ident.conf', "overten $user mapped\n");
$node->reload;
# Another schema, which not everybody may look into.
ask([ $node, 'elsewhere' ], 'CREATE SCHEMA "Keys"; CREATE EXTENSION overten_auth SCHEMA "Keys" CASCADE');

my $unavailable = '503 service_unavailable';
my $broken = '500 internal_error';
foreach my $case (
	[ 'peer', $unavailable, qr/Peer authentication failed.* \(28000\)\.  The role peer has to exist .* operating system's user has to have the same name, or pg_ident\.conf to map it/, PGUSER => 'peer' ],
	[ 'no such role', $unavailable, qr/role "nobody_here" does not exist \(28000\)\.  The role nobody_here has to exist/, PGUSER => 'nobody_here' ],
	[ 'a role without LOGIN', $unavailable, qr/not permitted to log in \(28000\)\.  .* has to exist and to have LOGIN/, PGUSER => 'nologin' ],
	[ 'pg_hba.conf', $unavailable, qr/pg_hba\.conf rejects .* \(28000\)\./, PGUSER => 'rejected' ],
	[ 'no password', $unavailable, qr/asks for a password\.  Set PGPASSWORD/, PGUSER => 'scram' ],
	[ 'a wrong password', $unavailable, qr/password authentication failed .* \(28P01\)\.  Set PGPASSWORD/, PGUSER => 'scram', PGPASSWORD => 'wrong' ],
	[ 'no such database', $unavailable, qr/database "nowhere" does not exist \(3D000\)\.  Set PGDATABASE/, PGDATABASE => 'nowhere' ],
	[ 'too many connections', $unavailable, qr/too many connections for role "crowded" \(53300\)\./, PGUSER => 'crowded' ],
	[ 'no server', $unavailable, qr/cannot be reached: ENOENT\.  Is the server running/, PGPORT => free_port() ],
	[ 'no server at an address', $unavailable, qr/cannot be reached: ECONNREFUSED\.  Is the server running/, PGHOST => '127.0.0.1', PGPORT => free_port() ],
	[ 'no extension', $broken, qr/has no extension overten_auth\.  Create the extension there/, PGDATABASE => 'bare' ],
	[ 'no EXECUTE', $broken, qr/role unprivileged may not execute overten_handle_request\.  Run gateway\/roles\.sql/, PGUSER => 'unprivileged' ],
	[ 'no USAGE', $broken, qr/role overten_gateway may not look into the schema of the extension\.  GRANT USAGE ON SCHEMA "Keys" TO "overten_gateway"/, PGDATABASE => 'elsewhere' ])
{
	my ($name, $expected, $said, %environment) = @$case;
	my $gateway = start_gateway($node, 'wrong_' . $name =~ s/\W+/_/gr, %environment);

	wait_until("the gateway says what is wrong: $name", sub { slurp_file($gateway->{err}) =~ $said });
	is(summary(request($gateway->{url}, 'GET', '/api/v1/verify', [$good])), $expected, "$name: what clients are told");
	is(summary(request($gateway->{url}, 'GET', '/readyz')), $unavailable, "$name: readyz");
	if ($name eq 'no password')
	{
		request($gateway->{url}, 'GET', '/readyz') foreach 1 .. 25;
		is(ask($node, 'SELECT 1'), 1, 'connections that wait for a password are not left behind');
	}
	is(stop_process($gateway), 0, "$name: the end");
	is(scalar(() = slurp_file($gateway->{err}) =~ /$said/g), 1, "$name: is told once");
	unlike(slurp_file($gateway->{err}) . slurp_file($gateway->{out}), qr/sk_live_\w|wrong\b/, "$name: no secret is");
}

# As docs/http.md says to put it in order.
my $mapped = start_gateway($node, 'mapped', PGUSER => 'mapped');
is(request($mapped->{url}, 'GET', '/readyz')->{status}, 200, 'peer with a map');
stop_process($mapped);
unlike(slurp_file($mapped->{err}), qr/cannot sign in/, 'nothing is said of what is in order');

# What is put in order takes effect.
my $moved = start_gateway($node, 'moved', PGDATABASE => 'elsewhere', %patience);
ask([ $node, 'elsewhere' ], 'GRANT USAGE ON SCHEMA "Keys" TO overten_gateway; GRANT EXECUTE ON FUNCTION "Keys".overten_handle_request(text, text, json, bytea) TO overten_gateway');
is(request($moved->{url}, 'GET', '/readyz')->{status}, 200, 'the extension in another schema') for 1 .. 2;
is(scalar(() = slurp_file($moved->{err}) =~ /people cannot sign in, .* is not set\.  If you use Firebase, run ALTER DATABASE "elsewhere" SET overten_auth\.firebase_project_id/g), 1,
	'that nobody can sign in there is told');
is(summary(request($moved->{url}, 'GET', '/api/v1/verify', [$good])), '401 invalid_api_key', 'is asked there');
ask([ $node, 'elsewhere' ], 'DROP EXTENSION overten_auth CASCADE; CREATE EXTENSION overten_auth CASCADE; GRANT EXECUTE ON FUNCTION overten_handle_request(text, text, json, bytea) TO overten_gateway');
request($moved->{url}, 'GET', '/api/v1/verify', [$good]) foreach 1 .. 3;
is(summary(request($moved->{url}, 'GET', '/api/v1/verify', [$good])), '401 invalid_api_key', 'and where it moves to');
stop_process($moved);


# Settings of the database count for new sessions, so connections end.

my $renewed = start_gateway($node, 'renewed', CONNECTION_LIFE_MS => 300, %patience);
my $kept = start_gateway($node, 'kept', PIPELINES => 1, %patience);

sub answers
{
	my ($gateway) = @_;

	return join ' ', request($gateway->{url}, 'GET', $keys, [$ada])->{status},
	  request($gateway->{url}, 'POST', $keys, [ $ada, $json ], '{')->{status};
}

# Wait until none of the sessions that are there now is left.  Some end when they would
# be used again.
sub wait_until_replaced
{
	my ($when) = @_;
	my $pids = q{SELECT string_agg(pid::text, ' ') FROM pg_stat_activity WHERE usename = 'overten_gateway'};
	my @before = split / /, ask($node, $pids);

	wait_until("sessions are replaced, $when", sub {
		answers($renewed);
		my %now = map { $_ => 1 } split / /, ask($node, $pids);
		return !grep { $now{$_} } @before;
	});
	return;
}

is(answers($_), '200 400', "$_->{name}: tokens are good") foreach $renewed, $kept;
ask($node, q{ALTER DATABASE postgres SET overten_auth.firebase_project_id = 'another'});
wait_until('no token of the old project is good', sub { answers($renewed) eq '401 401' });
is(answers($kept), '200 400', 'connections that stay have the old project');
stop_process($kept);
ask($node, q{ALTER DATABASE postgres SET overten_auth.firebase_project_id = 'overten-test'});
wait_until_replaced('after the project was set again');

# They end between requests, and not with one in them.
my $load = start_process('renewed_load', {}, 'node', "$FindBin::RealBin/../http/load.mjs",
	'steady', "$renewed->{url}/api/v1/verify", 8, $secret);
my $writing = start_process('renewed_writing', {}, 'node', "$FindBin::RealBin/../http/load.mjs",
	'steady', "$renewed->{url}$keys/x/usage", 8, sign('ada'));
wait_until('requests run', sub {
	my $logged = slurp_file($renewed->{out});
	return $logged =~ m{/verify"} && $logged =~ m{/usage"};
});
wait_until_replaced("round $_") foreach 1 .. 3;
stop_process($_) foreach $load, $writing;
is_deeply([ keys %{ decode_json(slurp_file($load->{out})) } ], [200], 'reading while connections end');
is_deeply([ keys %{ decode_json(slurp_file($writing->{out})) } ], [404], 'and through the pool');
stop_process($renewed);


# Behind pgbouncer in transaction mode, without PREPARE=off.

my $bouncer = start_pgbouncer($node, 'unprepared_pgbouncer');
my $pooled = start_gateway($node, 'unprepared', PGHOST => $bouncer->{folder}, PGPORT => $bouncer->{port}, %patience);
is(request($pooled->{url}, 'GET', '/readyz')->{status}, 200, 'readyz through pgbouncer');
my $minting = start_process('minting_load', {}, 'node', "$FindBin::RealBin/../http/load.mjs",
	'steady', "$pooled->{url}$keys/x/usage", 8, sign('ada'));
is_deeply(decode_json(node_script('load.mjs', 'crowd', "$pooled->{url}/api/v1/verify", 300, $secret)),
	{ 200 => 300 }, 'prepared statements that do not last');
stop_process($minting);
is_deeply([ keys %{ decode_json(slurp_file($minting->{out})) } ], [404], 'in the pool');
like(slurp_file($pooled->{err}), qr/Set PREPARE=off$/m, 'the log says what to set');
unlike(slurp_file($pooled->{out}), qr/"error":/, 'no request met an error');
stop_process($_) foreach $pooled, $bouncer;
done_testing();
