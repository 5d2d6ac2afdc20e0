
# What the tests of the dashboard share: a node with people who sign in at the identity
# service for development, a gateway with the dashboard, and a browser before it.

package DashboardTest;

use strict;
use warnings FATAL => 'all';

use Cwd qw(abs_path);
use Exporter 'import';
use File::Basename qw(dirname);
use GatewayTest;
use OvertenTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

our @EXPORT = qw(create_dashboard_node start_dashboard run_browser);

my $top = dirname(dirname(dirname(abs_path(__FILE__))));
my $keys = '/service_accounts/v1/jwk/securetoken@system.gserviceaccount.com';

# Start a node that accepts the tokens of an identity service, which is returned, too.
sub create_dashboard_node
{
	my ($name) = @_;
	my $node = create_node($name, <<'EOC');
shared_preload_libraries = 'overten_auth'
overten_auth.databases = 'postgres'
overten_auth.firebase_project_id = 'demonstration'
overten_auth.signing_keys_command = ''
overten_auth.flush_interval = 1
overten_auth.max_keys_per_org = 2000
overten_auth.max_keys_total_per_org = 2000
EOC
	$node->safe_psql('postgres', slurp_file("$top/gateway/roles.sql"));

	my $identity = start_identity("${name}_identity");
	ask($node, q{SELECT overten_load_signing_keys($$} . request($identity->{url}, 'GET', $keys)->{body} . '$$)');
	return ($node, $identity);
}

# Start a gateway with the dashboard.  However slow the machine is, the gateway waits.
sub start_dashboard
{
	my ($node, $identity, $name) = @_;
	my $limit = 1000 * $PostgreSQL::Test::Utils::timeout_default;

	return start_gateway($node, $name, FIREBASE_API_KEY => 'demonstration', FIREBASE_AUTH_EMULATOR_URL => $identity->{url},
		QUERY_TIMEOUT_MS => $limit, CONNECT_TIMEOUT_MS => $limit);
}

# Run a script of test/browser: each line that it prints is a check.  Pictures of the
# screens go to the folder PICTURES, if that is set.
sub run_browser
{
	my ($node, $identity, $gateway, $script) = @_;
	my $chromium = $ENV{CHROMIUM} // '/usr/bin/chromium';
	my $folder = $ENV{PICTURES} || "$PostgreSQL::Test::Utils::tmp_check/dashboard_pictures";

  SKIP: {
		skip "there is no $chromium, so nobody looks at the screens; CHROMIUM can name another", 1 unless -x $chromium;
		mkdir $folder;
		my $run = start_process("browser_$script",
			{ PGHOST => $node->host, PGPORT => $node->port, PGDATABASE => 'postgres', PGUSER => scalar getpwuid($>),
				PG_CTL => $node->config_data('--bindir') . '/pg_ctl', PGDATA => $node->data_dir, PGLOG => $node->logfile,
				IDENTITY => $identity->{url}, PG_TEST_TIMEOUT_DEFAULT => $PostgreSQL::Test::Utils::timeout_default },
			'node', "$top/test/browser/$script.mjs", "$gateway->{url}/dashboard/", $folder);
		$run->{run}->finish;
		my $out = slurp_file($run->{out});
		my @checks = $out =~ /^((?:not )?ok .*\n(?:# .*\n)*)/mg;

		foreach my $check (@checks)
		{
			my ($not, $name, $details) = $check =~ /^(not )?ok (.*)\n((?:# .*\n)*)/;

			ok(!$not, $name) or diag($details);
		}
		note($_) foreach $out =~ /^# (.*: [0-9]+ ms)$/mg;
		like($out, qr/^# finished$/m, 'the browser has done everything') or diag(slurp_file($run->{err}));
		note("pictures of the screens: $folder");
	}
	return;
}

1;
