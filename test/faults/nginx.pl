
# nginx's module under random faults: sessions that stand still or are ended, a server
# that is restarted or crashes, tables that are locked, nginx that is reloaded or gets
# another binary, and clients that give up all the while.  Every other client gets an
# answer within the time that it may wait, and nobody that of another org.
#
# NGINX_FAULT_SECONDS (FAULT_SECONDS, 600) is how long, FAULT_SEED what is drawn.

use strict;
use warnings FATAL => 'all';

use FindBin;
use lib $FindBin::RealBin, "$FindBin::RealBin/../t";
use FaultTest;
use GatewayTest;
use NginxTest;
use OvertenTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time usleep);

my $seconds = $ENV{NGINX_FAULT_SECONDS} // $ENV{FAULT_SECONDS} // 600;

# The time that an answer may take, in milliseconds, and what a busy machine adds.
my $timeout = 2000;
my $slack = 8000;

seed();
my $node = create_module_node('nginx_faults', "restart_after_crash = on");
my @keys = keys_of($node, 1000);
my $keys = key_file('keys', @keys, unknown_key());
my $service = start_service('faults_service');
my ($port, $h2_port) = ($node->port, free_port());
# libpq goes on to another socket each time that it connects.
my $unready = start_unready_server('faults_unready');
my $nginx = start_module_nginx('faults_nginx', "hostaddr=127.0.0.1,127.0.0.1 port=$unready->{port},$port dbname=postgres sslmode=disable", $service->{port},
	'overten_auth_connections 2;' => "overten_auth_connections 2; overten_auth_timeout ${timeout}ms; overten_auth_connection_life 2s; keepalive_requests 100000000;",
	'worker_processes auto' => 'worker_processes 2',
	'access_log access.log service' => 'access_log off',
	"    server {\n" => "    server {\n        listen 127.0.0.1:$h2_port http2;\n");
stop_process($nginx);
my $master_of = daemonize_nginx($nginx);
my $url = "http://127.0.0.1:$nginx->{port}";

sub is_well { return request($url, 'GET', '/x', ["Authorization: Bearer $keys[0]{secret}"])->{status} == 200; }

# The sessions of the workers, or so many of them.
sub sessions
{
	my ($count) = @_;
	my @found;

	wait_until('there are sessions', sub { @found = module_sessions($node); @found > 0 });
	return grep { defined } defined $count ? @found[ 0 .. $count - 1 ] : @found;
}

sub stand_still
{
	my ($for, @pids) = @_;

	kill STOP => @pids;
	usleep(1_000_000 * $for);
	kill CONT => @pids;
	return;
}

# Hold a lock that keys which are not cached have to wait for.
sub lock_table
{
	my ($for) = @_;
	my $session = $node->background_psql('postgres');

	ask($session, 'BEGIN; LOCK TABLE overten_auth.api_keys IN ACCESS EXCLUSIVE MODE');
	usleep(1_000_000 * $for);
	ask($session, 'COMMIT');
	$session->quit;
	return;
}

sub crash
{
	my $log = -s $node->logfile;

	kill KILL => sessions(1);
	wait_until('the server has crashed', sub { slurp_file($node->logfile, $log) =~ /was terminated by signal 9/ });
	wait_until('it is there again', sub { slurp_file($node->logfile, $log) =~ /ready to accept connections/ });
	return;
}

sub upgrade_nginx
{
	my $old = $master_of->();

	kill USR2 => $old;
	wait_until('there is another master', sub { -e "$nginx->{folder}/nginx.pid.oldbin" && $master_of->() && $master_of->() != $old });
	usleep(500_000);
	kill WINCH => $old;
	usleep(500_000);
	kill QUIT => $old;
	wait_until('the old one has left', sub { !-e "$nginx->{folder}/nginx.pid.oldbin" });
	return;
}

my %faults = (
	'sessions stand still for a moment' => sub { stand_still(rand 1.5, sessions()) },
	'one session stands still beyond the time limit' => sub { stand_still(3, sessions(1)) },
	'all sessions stand still beyond the time limit' => sub { stand_still(3, sessions()) },
	'the server lets nobody in' => sub {
		my $postmaster = postmaster($node);
		kill TERM => sessions(2);
		stand_still(2 + rand 2, $postmaster);
	},
	'a session is ended' => sub { kill TERM => sessions(1) },
	'all sessions are ended' => sub { kill TERM => sessions() },
	'a session is killed, and the server recovers' => \&crash,
	'the server is restarted' => sub { $node->stop('fast'); usleep(1_000_000 * rand 2); $node->start },
	'the server is stopped without a shutdown' => sub { $node->stop('immediate'); $node->start },
	'a table is locked for a moment' => sub { lock_table(rand 1.5) },
	'a table is locked beyond the time limit' => sub { lock_table(3) },
	'nginx is reloaded' => sub { kill HUP => $master_of->() },
	'nginx is reloaded four times at once' => sub { foreach (1 .. 4) { kill HUP => $master_of->(); usleep(100_000) } },
	'nginx gets another binary' => \&upgrade_nginx);
my @faults = sort keys %faults;
my %done;

# HTTP/2 has a client ask again when nginx leaves, and so those that are cut off are not
# counted.
my $end = time + $seconds;
my $load = begin_load($nginx->{port}, $keys, "${seconds}s", 40, 20);
my $h2_load = begin_load($h2_port, $keys, "${seconds}s", 20, 20, 'h2');
my $round = 0;
while (time < $end || $round < @faults)
{
	my $fault = $round < @faults ? $faults[$round] : $faults[ rand @faults ];

	$round++;
	usleep(1_000_000 * (0.3 + rand 2));
	$faults{$fault}->();
	$done{$fault}++;
	# Most faults meet those that are there; some come while it recovers from others.
	next if rand() < 0.3;
	wait_until("all is well after: $fault", \&is_well);
	diag(sprintf 'fault %d, %d s left: %s', $round, $end - time, $fault);
}
my ($counts, $h2_counts) = map { end_load($_) } $load, $h2_load;

is($counts->{wrong}, 0, "nobody got the answer of another: $counts->{right} right, $counts->{refused} refused, $counts->{aborted} given up");
is($counts->{cut}, 0, 'every client got an answer');
cmp_ok($counts->{longest}, '<', $timeout + $slack, "in time: $counts->{longest} ms");
is($h2_counts->{wrong}, 0, "nor by HTTP/2: $h2_counts->{right} right, $h2_counts->{refused} refused, $h2_counts->{aborted} given up, $h2_counts->{cut} to be asked again");
cmp_ok($counts->{right}, '>', 20 * $seconds, 'requests went on');
cmp_ok($counts->{refused}, '>', 0, 'and met outages');
wait_until('all is well at the end', \&is_well);
my $rest = end_load(begin_load($nginx->{port}, $keys, 2000, 20));
is(outcome($rest), '2000 0 0 0', 'afterwards all is well');
wait_until('workers that have left have no sessions', sub { module_sessions($node) == 4 });
check_log($nginx);

report("nginx's module under faults, $seconds s, seed " . seed(),
	[ 'what', 'number' ],
	map({ [ $_, $done{$_} ] } @faults),
	map({ [ "requests: $_->[0]", join ', ', "$_->[1]{right} right", "$_->[1]{refused} refused", "$_->[1]{aborted} given up", "$_->[1]{wrong} wrong", "$_->[1]{cut} cut off" ] } [ 'HTTP/1.1', $counts ], [ 'HTTP/2', $h2_counts ]),
	[ 'the longest that a client waited', "$counts->{longest} ms" ]);

stop_process($_) foreach $service, $unready;
$node->stop;
done_testing();
