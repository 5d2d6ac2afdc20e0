
# First steps as README and SECURITY.md describe them: a schema of its own, the
# roles of HTTP layers there, and signing keys loaded by hand.  pg_regress has
# one database, and reads no documents.

use strict;
use warnings FATAL => 'all';

use FindBin;
use IPC::Run;
use lib $FindBin::RealBin;
use OvertenTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use WholeSurface;

my $top = "$FindBin::RealBin/../..";
my $node = create_node('steps', '');
my $app = [ $node, 'app' ];
my $hardened = [ $node, 'hardened' ];

ask($node, "CREATE DATABASE $_") foreach 'app', 'hardened';
ask($app, 'CREATE EXTENSION overten_auth CASCADE');

# Signing keys, loaded by hand: as if curl had just written them

my ($load) = slurp_file("$top/README.md") =~ /^(psql -X -v ON_ERROR_STOP=1 .*?^SQL)$/ms
  or die 'README does not say how to load signing keys';
my $folder = PostgreSQL::Test::Utils::tempdir;
append_to_file("$folder/keys.json", surface_document('key-1', 'key-2'));
{
	local %ENV = $node->_get_env(PGDATABASE => 'postgres');
	my ($out, $err);

	IPC::Run::run([ 'sh', '-c', $load ], '>', \$out, '2>', \$err, init => sub { chdir $folder });
	is($err, '', 'signing keys are loaded by hand');
	like($out, qr/^ +2$/m, 'both');
}
is(ask($app, 'SELECT string_agg(kid, $$ $$ ORDER BY kid) FROM overten_auth.signing_keys'),
	'key-1 key-2', 'into the database that is named');

# A schema of its own, which the hardening list recommends

my ($install) = slurp_file("$top/SECURITY.md") =~ /`(CREATE SCHEMA api_keys; CREATE EXTENSION [^`]*)`/
  or die 'SECURITY.md does not say how to install into a schema';
is(sqlstate_of($hardened, $install), '', "it is installed by $install");
is(ask($hardened, q{SELECT count(*) FROM api_keys.overten_check() WHERE subject LIKE 'schema %'}),
	0, 'and nothing is wrong with the schema');

# The roles there

my $roles = "$top/gateway/roles.sql";
my $exist = q{SELECT count(*) FROM pg_roles WHERE rolname LIKE 'overten\_%'};
$node->command_fails_like([ 'psql', '-X', '-d', 'hardened', '-f', $roles ],
	qr/ERROR:  function public\.overten_handle_request\(.*\) does not exist/, 'roles.sql stops where the functions are elsewhere');
is(ask($node, $exist), 0, 'and leaves no role behind');
$node->command_ok([ 'psql', '-X', '-d', 'hardened', '-v', 'schema=api_keys', '-f', $roles ],
	'with their schema it makes the roles');
is(ask($node, $exist), 3, 'all of them');
my %works = (
	overten_gateway => q{SELECT status FROM api_keys.overten_handle_request('GET', '/api/v1/verify', '{}', NULL)},
	overten_web => q{SELECT api_keys.overten_current_org() IS NULL, overten_api.authenticate_request() IS NOT NULL});
foreach my $role (sort keys %works)
{
	is(sqlstate_of($hardened, "SET ROLE $role; $works{$role}"), '', "$role can do its work");
	is(sqlstate_of($hardened, "SET ROLE $role; SELECT api_keys.overten_create_org('Mine')"), '42501', 'and nothing else');
}
is(ask($hardened, q{SELECT count(*) FROM api_keys.overten_check() WHERE severity <> 'notice'}), 0, 'nothing is wrong with them');

$node->stop;
done_testing();
