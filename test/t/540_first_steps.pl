
# First steps as SECURITY.md describes them: a schema of its own, and the roles of
# HTTP layers there.  pg_regress has one database.

use strict;
use warnings FATAL => 'all';

use FindBin;
use lib $FindBin::RealBin;
use OvertenTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $top = "$FindBin::RealBin/../..";
my $node = create_node('steps', '');
my $hardened = [ $node, 'hardened' ];

ask($node, 'CREATE DATABASE hardened');

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
is(ask($node, $exist), 4, 'all of them');
my %works = (
	overten_gateway => q{SELECT status FROM api_keys.overten_handle_request('GET', '/api/v1/verify', '{}', NULL)},
	overten_services => q{SELECT overten_api.authorize() IS NOT NULL},
	overten_web => q{SELECT api_keys.overten_current_org() IS NULL, overten_api.authenticate_request() IS NOT NULL});
foreach my $role (sort keys %works)
{
	is(sqlstate_of($hardened, "SET ROLE $role; $works{$role}"), '', "$role can do its work");
	is(sqlstate_of($hardened, "SET ROLE $role; SELECT api_keys.overten_create_org('Mine')"), '42501', 'and nothing else');
}
is(ask($hardened, q{SELECT count(*) FROM api_keys.overten_check() WHERE severity <> 'notice'}), 0, 'nothing is wrong with them');

$node->stop;
done_testing();
