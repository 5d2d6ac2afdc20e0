
# People who use the dashboard while something is wrong: a network that is away or slow,
# a database that goes, hostile names, two tabs, an account that is gone; and with the
# longest list and history that there can be.  pg_regress has neither HTTP nor a browser.

use strict;
use warnings FATAL => 'all';

use FindBin;
use lib $FindBin::RealBin;
use DashboardTest;
use GatewayTest;
use OvertenTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my ($node, $identity) = create_dashboard_node('troubles');
$node->append_conf('postgresql.conf', "overten_auth.key_features = 'expiry, disable, people, rotation'");
$node->reload;
wait_until('the features are on', sub { ask($node, "LOAD 'overten_auth'; SHOW overten_auth.key_features") ne '' });
ask($node, 'ALTER DATABASE postgres SET overten_auth.signup_requires_verified_email = on');
ask($node, "INSERT INTO overten_auth.tiers VALUES ('startup', true), ('internal', false)");
my $gateway = start_dashboard($node, $identity, 'troubles_gateway');

run_browser($node, $identity, $gateway, 'troubled');
unlike(slurp_file($gateway->{out}), qr/sk_live_|Bearer|eyJ/, 'the access log has no credential');

stop_process($_) foreach $gateway, $identity;
done_testing();
