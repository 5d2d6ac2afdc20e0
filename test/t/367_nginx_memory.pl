
# The memory of nginx's worker does not grow with the number of requests, whether they
# are let through, refused or given up, and whether sessions are kept or lost.
#
# OVERTEN_NGINX_REQUESTS (300000) is how many requests there are.

use strict;
use warnings FATAL => 'all';

use FindBin;
use lib $FindBin::RealBin;
use GatewayTest;
use NginxTest;
use OvertenTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $requests = $ENV{OVERTEN_NGINX_REQUESTS} // 300_000;
my $node = create_module_node('nginx_memory');
my @keys = keys_of($node, 99);
my ($limited, $limited_id) = mint($node, $keys[0]{org});
ask($node, "SELECT overten_set_limit('key', '$limited_id', 'slow', 10, '12 hours')");
# Two of a hundred are refused.
my $keys = key_file('memory', @keys, unknown_key(), { secret => $limited });
my $other_keys = key_file('other', @keys, unknown_key());
my $service = start_service('memory_service');
my $nginx = start_module_nginx('memory_nginx', $node->connstr('postgres'), $service->{port},
	'worker_processes auto' => 'worker_processes 1',
	'access_log access.log service' => 'keepalive_requests 1000000000; access_log off',
	"        location = /own-answer {\n" => <<'EOC');
        location = /picture {
            overten_auth on;
            empty_gif;
        }
        location = /redirected {
            overten_auth on;
            try_files /nothing /picture_again;
        }
        location = /picture_again {
            overten_auth on;
            overten_auth_cost 0;
            empty_gif;
        }
        location = /own-answer {
EOC
my $master;
wait_until('nginx has written who it is', sub { $master = master_of($nginx) });

# The memory of the worker, in kB.
sub memory
{
	my ($worker) = grep { (eval { slurp_file("/proc/$_/stat") } // '') =~ /^\d+ \(.*\) \w $master / } map { s{/proc/}{}r } glob '/proc/[0-9]*';

	return (slurp_file("/proc/$worker/status") =~ /^VmRSS:\s+(\d+) kB/m)[0];
}

# Send so many requests, each kind of them, and end the sessions now and then.
sub send_requests
{
	my ($count) = @_;
	my %sum;

	foreach my $path (('/picture', '/redirected') x 2)
	{
		my $answers = node_script('nginx_pipeline.mjs', $nginx->{port}, $path, $keys, $count / 4, 20);

		$sum{$1} += $2 while $answers =~ /(\d+) (\d+)/g;
		end_load(begin_load($nginx->{port}, $other_keys, 200, 20, 50));
		ask($node, "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'overten_nginx'");
		wait_until('there are sessions', sub { request("http://127.0.0.1:$nginx->{port}", 'GET', '/picture', ["Authorization: Bearer $keys[0]{secret}"])->{status} == 200 });
	}
	return \%sum;
}

send_requests(40_000);
my $before = memory();
my $counts = send_requests($requests);
my $grown = memory() - $before;
is($counts->{200} + $counts->{401} + $counts->{429}, $requests, 'all are answered');
cmp_ok($counts->{$_}, '>', $requests / 110, "of these with $_: $counts->{$_}") foreach 401, 429;
cmp_ok($grown, '<', 1024, "the worker, which has $before kB, has grown by $grown kB in $requests requests");
append_to_file($ENV{FAULT_REPORT}, "\n### The memory of nginx's worker\n\n$before kB, and $grown kB more after $requests requests\n")
  if defined $ENV{FAULT_REPORT};
stop_process($nginx);
stop_process($service);

done_testing();
