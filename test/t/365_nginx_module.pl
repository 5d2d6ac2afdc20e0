
# nginx's module in trouble: clients that give up, a database that stands still, ends
# sessions or is away, and nginx itself that is reloaded or has to leave.  What it answers,
# and what a service sees, is tested in 360_front_ends.pl.

use strict;
use warnings FATAL => 'all';

use FindBin;
use lib $FindBin::RealBin;
use GatewayTest;
use IO::Select;
use IO::Socket::INET;
use IPC::Run;
use JSON::PP qw(decode_json);
use NginxTest;
use OvertenTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $dir = PostgreSQL::Test::Utils::tempdir;
my $node = create_module_node('nginx_module');

# The role has no search_path of its own here, and somebody has made a schema of its
# name, with a function that admits everybody.
ask($node, <<'EOQ');
CREATE SCHEMA overten_nginx;
GRANT USAGE ON SCHEMA overten_nginx TO overten_nginx;
CREATE FUNCTION overten_nginx.overten_authorize_request(text, json) RETURNS overten_auth.http_response LANGUAGE sql
AS $$SELECT 200, '{"x-overten-key-id":"k","x-overten-org-id":"o","x-overten-tier":"t","x-overten-key-prefix":"p"}'::json, '{}'$$;
EOQ

# Keys, each of another org, and one that is not good.
my @keys = keys_of($node, 1000);
my $keys = key_file('keys', @keys, unknown_key());
my $key = key_file('key', $keys[0]);
my $unknown = key_file('unknown', unknown_key());
my $long = key_file('long', { secret => 'x' x 16000 });

my $service = start_service('module_service');
my @settings = (
	'overten_auth_connections 2;' => "overten_auth_connections 2;\n    overten_auth_timeout 5s;",
	'worker_processes auto' => 'worker_processes 2');
my $status_port = free_port();
my $nginx = start_module_nginx('trouble_nginx', $node->connstr('postgres'), $service->{port}, @settings,
	"    server {\n" => "    server {\n        listen 127.0.0.1:$status_port;\n        stub_status;\n    }\n    server {\n");
my $url = "http://127.0.0.1:$nginx->{port}";

sub sessions { return module_sessions($node); }
sub is_answered { return request($url, 'GET', '/x', ["Authorization: Bearer $keys[0]{secret}"])->{status}; }


# Clients that give up.

my $load = end_load(begin_load($nginx->{port}, $keys, 5000, 60, 50));
is($load->{wrong}, 0, 'nobody gets the answer of another');
is($load->{refused} + $load->{cut}, 0, 'nobody is refused');
cmp_ok($load->{right}, '>', 1500, "right answers: $load->{right}");
cmp_ok($load->{aborted}, '>', 300, "given up: $load->{aborted}");

# A database that stands still for a while.
my @stopped = sessions();
is(scalar @stopped, 4, 'the sessions of two workers');
kill STOP => @stopped;
my $waiting = begin_load($nginx->{port}, $keys, 300, 300, 40);
wait_for_clients($nginx->{port}, 100);
kill CONT => @stopped;
$load = end_load($waiting);
is("$load->{wrong} $load->{refused} $load->{cut}", '0 0 0', 'they wait, and get their own answers');
cmp_ok($load->{right}, '>', 100, "right answers: $load->{right}");

# Meanwhile more is asked than the sockets take.
kill STOP => @stopped;
$waiting = begin_load($nginx->{port}, $long, 300, 300);
wait_for_clients($nginx->{port}, 300);
kill CONT => @stopped;
$load = end_load($waiting);
is(outcome($load), '300 0 0 0', 'what had to wait to be sent is sent');

# And for longer than they wait.
kill STOP => @stopped;
$load = end_load(begin_load($nginx->{port}, $key, 20, 20));
is(outcome($load), '0 20 0 0', 'an outage after the time limit');
kill CONT => @stopped;
wait_until('all is well again', sub { is_answered() == 200 });

# Sessions that are ended, and a server that starts anew.
ask($node, "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'overten_nginx'");
wait_until('there are new sessions', sub { is_answered() == 200 && sessions() == 4 });

# One that ends with a question in it may say what was asked; nginx's log is looked at
# below.
ask($node, 'ALTER ROLE overten_nginx SET log_parameter_max_length_on_error = -1');
ask($node, "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'overten_nginx'");
wait_until('there are others', sub { is_answered() == 200 && sessions() == 4 });
my $locker = $node->background_psql('postgres');
ask($locker, 'BEGIN; LOCK TABLE overten_auth.api_keys IN ACCESS EXCLUSIVE MODE');
$waiting = begin_load($nginx->{port}, $unknown, 1, 1);
wait_until('a question waits', sub { ask($node, "SELECT count(*) FROM pg_stat_activity WHERE usename = 'overten_nginx' AND wait_event_type = 'Lock'") == 1 });
ask($node, "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'overten_nginx'");
ask($locker, 'ROLLBACK');
$locker->quit;
$load = end_load($waiting);
is($load->{refused}, 1, 'its session is ended');
ask($node, 'ALTER ROLE overten_nginx RESET log_parameter_max_length_on_error');
wait_until('there are sessions again', sub { is_answered() == 200 && sessions() == 4 });
$waiting = begin_load($nginx->{port}, $keys, 6000, 20);
$node->restart;
$load = end_load($waiting);
is("$load->{wrong} $load->{cut}", '0 0', 'a restart: no wrong answer');
wait_until('there are sessions of the new server', sub { is_answered() == 200 });


# Errors of one request are its own.

$node->safe_psql('postgres', 'CREATE DATABASE unlisted');
# The functions are in a schema of another name there.
$node->safe_psql('unlisted', <<'EOQ');
CREATE SCHEMA "Odd keys";
ALTER DATABASE unlisted SET search_path = "Odd keys", public;
CREATE EXTENSION overten_auth SCHEMA "Odd keys" CASCADE;
GRANT USAGE ON SCHEMA "Odd keys" TO overten_nginx;
GRANT EXECUTE ON FUNCTION "Odd keys".overten_authorize_request(text, json) TO overten_nginx;
ALTER ROLE overten_nginx IN DATABASE unlisted SET search_path = pg_catalog, pg_temp;
EOQ
my ($org) = split /\n/, ask([ $node, 'unlisted' ], "SELECT org_id FROM overten_create_org('Unlisted')");
my ($free) = mint([ $node, 'unlisted' ], $org);
my ($failing, $failing_id) = mint([ $node, 'unlisted' ], $org);
ask([ $node, 'unlisted' ], "SELECT overten_set_limit('key', '$failing_id', 'slow', 100, '12 hours')");
my $unlisted = key_file('unlisted', map { { secret => $_, org => $org } } $free, $failing);
# Of the servers the first is not there, and the second not yet.
my $dead = free_port();
my $unready = start_unready_server('unready');
my $port = $node->port;
my $other = start_module_nginx('unlisted_nginx', "hostaddr=127.0.0.1,127.0.0.1,127.0.0.1 port=$dead,$unready->{port},$port dbname=unlisted sslmode=disable", $service->{port},
	'worker_processes auto' => 'worker_processes 1',
	'overten_auth_connections 2;' => q{overten_auth_connections 2; overten_auth_schema 'Odd keys';});
$load = end_load(begin_load($other->{port}, $unlisted, 400, 40));
is(outcome($load), '200 200 0 0', 'a limit that cannot be counted fails its own key');
stop_process($other);
stop_process($unready);


# No request waits longer than it may, whatever the links do.

# Each statement ends in time, but many in turn do not.
ask($node, "ALTER ROLE overten_nginx SET statement_timeout = '1500ms'");
ask($node, "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'overten_nginx'");
wait_until('there are sessions with the setting', sub { is_answered() == 200 && sessions() == 4 });
my $fresh = key_file('fresh', keys_of($node, 24));
$locker = $node->background_psql('postgres');
ask($locker, 'BEGIN; LOCK TABLE overten_auth.api_keys IN ACCESS EXCLUSIVE MODE');
$load = end_load(begin_load($nginx->{port}, $fresh, 24, 24));
is(outcome($load), '0 24 0 0', 'a table that is locked is an outage');
cmp_ok($load->{longest}, '<', 8000, "after the time limit, which is 5 s: $load->{longest} ms");
ask($locker, 'ROLLBACK');
$locker->quit;
ask($node, 'ALTER ROLE overten_nginx RESET statement_timeout');
wait_until('all is well after the lock', sub { is_answered() == 200 });

# A server to which one can connect, and that says nothing.
my $silent = IO::Socket::INET->new(Listen => 20, LocalAddr => '127.0.0.1') or die;
my $vain = start_module_nginx('vain_nginx', 'hostaddr=127.0.0.1 dbname=postgres port=' . $silent->sockport, $service->{port}, @settings,
	'http {' => "http {\n    overten_auth_connect_timeout 20s;");
$load = end_load(begin_load($vain->{port}, $key, 10, 10));
is(outcome($load), '0 10 0 0', 'no session in time');
cmp_ok($load->{longest}, '<', 15000, "nor later: $load->{longest} ms");
my $waiting_there = begin_load($vain->{port}, $key, 10, 10);
wait_for_clients($vain->{port}, 10);
$vain->{run}->signal('QUIT');
is(outcome(end_load($waiting_there)), '0 10 0 0', 'who has not been asked about is answered when nginx leaves');
stop_process($vain);
$vain = start_module_nginx('brief_nginx', 'hostaddr=127.0.0.1 dbname=postgres port=' . $silent->sockport, $service->{port},
	'http {' => "http {\n    overten_auth_connect_timeout 2s; overten_auth_timeout 20s;", 'worker_processes auto' => 'worker_processes 1');
$load = end_load(begin_load($vain->{port}, $key, 10, 10));
is(outcome($load), '0 10 0 0', 'no session can be had');
cmp_ok($load->{longest}, '<', 15000, "who waits hears of it as soon as that is known: $load->{longest} ms");
stop_process($vain);
close $silent;

# Not more of them than may.
my $few = start_module_nginx('few_nginx', $node->connstr('postgres') . ' application_name=few', $service->{port},
	'worker_processes auto' => 'worker_processes 1',
	'overten_auth_connections 2;' => 'overten_auth_connections 1; overten_auth_max_waiting 10; overten_auth_timeout 20s;');
sub few_session
{
	my $pid;

	wait_until('it has a session', sub { $pid = ask($node, "SELECT pid FROM pg_stat_activity WHERE application_name = 'few'") });
	return $pid;
}
foreach my $round (1, 2)
{
	my $session = few_session();

	kill STOP => $session;
	$waiting = begin_load($few->{port}, $keys, 30, 30);
	wait_for_clients($few->{port}, 10);
	kill CONT => $session;
	is(outcome(end_load($waiting)), '10 20 0 0', "ten may wait, round $round");
	is(outcome(end_load(begin_load($few->{port}, $keys, 20, 1))), '20 0 0 0', 'and then others');
}

# Who gives up is noticed at once, and who waits for a session that ends hears of it.
my $session = few_session();
kill STOP => $session;
wait_until('clients have given up after they had asked', sub {
	end_load(begin_load($few->{port}, $keys, 4, 4, 100));
	return slurp_file("$few->{folder}/access.log") =~ / 499 org=-$/m;
});
$waiting = begin_load($few->{port}, $keys, 5, 5);
wait_for_clients($few->{port}, 5);
kill TERM => $session;
kill CONT => $session;
$load = end_load($waiting);
is(outcome($load), '0 5 0 0', 'a session that is ended is an outage');
cmp_ok($load->{longest}, '<', 15000, "at once: $load->{longest} ms");
stop_process($few);


# A connection is used for a while: only new sessions see what was set for their role.

my $renewing = start_module_nginx('renewing_nginx', $node->connstr('postgres') . ' application_name=renewing', $service->{port},
	'worker_processes auto' => 'worker_processes 1',
	'overten_auth_connections 2;' => 'overten_auth_connections 1; overten_auth_connection_life 100ms;');
my %seen;
sub new_sessions
{
	my @pids = grep { !$seen{$_}++ } split /\n/, ask($node, "SELECT pid FROM pg_stat_activity WHERE application_name = 'renewing'");

	return scalar @pids;
}
wait_until('it has a session', sub { new_sessions() });
$waiting = begin_load($renewing->{port}, $keys, 20000, 200);
wait_until('there is another under load', sub { new_sessions() }) foreach 1 .. 3;
is(outcome(end_load($waiting)), '20000 0 0 0', 'nobody is refused for that');

my $test_key = ask($node, "SELECT secret FROM overten_mint_key('$keys[0]{org}', environment => 'test')");
sub test_key_is_answered { return request("http://127.0.0.1:$renewing->{port}", 'GET', '/x', ["Authorization: Bearer $test_key"])->{status} }
# All sessions that are there have begun since.
sub sessions_since { return ask($node, "SELECT bool_and(backend_start > '$_[0]') FROM pg_stat_activity WHERE application_name = 'renewing'") eq 't' }
foreach my $case ([ 'SET overten_auth.accept_test_keys = on', 200 ], [ 'RESET overten_auth.accept_test_keys', 401 ])
{
	ask($node, "ALTER ROLE overten_nginx $case->[0]");
	my $since = ask($node, 'SELECT clock_timestamp()');
	wait_until('there is a new session while nobody asks', sub { sessions_since($since) });
	is(test_key_is_answered(), $case->[1], "which sees $case->[0]");
}

# As long as there can be no new one, the old one is used.
ask($node, 'ALTER ROLE overten_nginx NOLOGIN');
wait_until('none can be had', sub { slurp_file("$renewing->{folder}/error.log") =~ /not permitted to log in/ });
is(outcome(end_load(begin_load($renewing->{port}, $keys, 500, 20))), '500 0 0 0', 'nobody is refused for that, either');
%seen = ();
new_sessions();
ask($node, 'ALTER ROLE overten_nginx LOGIN');
wait_until('there is another again', sub { new_sessions() });
stop_process($renewing);


# Answers that the extension does not give let nobody through.

ask($node, <<'EOQ');
CREATE SCHEMA odd;
GRANT USAGE ON SCHEMA odd TO overten_nginx;
CREATE FUNCTION odd.overten_authorize_request(query text, json) RETURNS SETOF overten_auth.http_response LANGUAGE sql AS $$
SELECT status, headers::json, body FROM (VALUES
	('good', 200, '{ "x-overten-key-id":"k","x-overten-org-id" : "o",' || E'\n' || '"x-overten-tier":"t\"\/\\","x-overten-key-prefix":"p"}', '{}'),
	('no_headers', 200, NULL, '{}'),
	('empty', 200, '{}', '{}'),
	('no_org', 200, '{"x-overten-key-id":"k","x-overten-tier":"t","x-overten-key-prefix":"p"}', '{}'),
	('refused', 200, '{"x-overten-key-id":"k","x-overten-org-id":"o","x-overten-tier":"t","x-overten-key-prefix":"p","x-overten-refusal":"no"}', '{}'),
	('number', 200, '{"x-overten-key-id":"k","x-overten-org-id":1,"x-overten-tier":"t","x-overten-key-prefix":"p"}', '{}'),
	('control', 200, '{"x-overten-key-id":"k","x-overten-org-id":"o\n","x-overten-tier":"t","x-overten-key-prefix":"p"}', '{}'),
	('redirect', 302, '{"x-overten-key-id":"k","x-overten-org-id":"o","x-overten-tier":"t","x-overten-key-prefix":"p"}', '{}'),
	('no_status', NULL, '{}', '{}'),
	('negative', -1, '{"x-overten-refusal":"no"}', '{}'),
	('twice', 200, '{"x-overten-key-id":"k","x-overten-org-id":"o","x-overten-tier":"t","x-overten-key-prefix":"p"}', '{}'),
	('twice', 200, '{"x-overten-key-id":"k","x-overten-org-id":"o","x-overten-tier":"t","x-overten-key-prefix":"p"}', '{}')) v (name, status, headers, body)
	WHERE query = 'cost=1&scope=' || name; $$ ROWS 1;
ALTER FUNCTION odd.overten_authorize_request(text, json) OWNER TO overten_nginx;
EOQ
my $odd = start_module_nginx('odd_nginx', $node->connstr('postgres'), $service->{port}, @settings,
	'overten_auth_scope ""' => 'overten_auth_scope $arg_name', 'http {' => "http {\n    overten_auth_schema odd;");
sub odd_answer { return request("http://127.0.0.1:$odd->{port}", 'GET', "/x?name=$_[0]"); }
my $seen = odd_answer('good');
is("$seen->{status} " . decode_json($seen->{body})->{headers}{'x-overten-tier'}, '200 t"/\\', 'another form of an answer');
is(summary(odd_answer($_)), '503 service_unavailable', "an answer that is none: $_")
  foreach qw(no_headers empty no_org refused number control redirect no_status negative twice none);
stop_process($odd);


# nginx is reloaded, gets another binary, and leaves.

stop_process($nginx);
my $master_of = daemonize_nginx($nginx);
my $master = $master_of->();
$waiting = begin_load($nginx->{port}, $keys, 4000, 20);
foreach (1 .. 3)
{
	kill HUP => $master;
	select undef, undef, undef, 0.3;
}
is(outcome(end_load($waiting)), '4000 0 0 0', 'reloaded three times under load');

# A client that has begun to ask stays with its old worker, whose sessions end.
my $slow = IO::Socket::INET->new(PeerAddr => '127.0.0.1', PeerPort => $nginx->{port}) or die "$@";
syswrite $slow, "GET /x HTTP/1.1\r\nHost: x\r\n";
wait_until('a worker reads what it asks', sub { request("http://127.0.0.1:$status_port", 'GET', '/')->{body} =~ /Reading: [1-9]/ });
kill HUP => $master;
wait_until('one old worker is left beside two new ones', sub { sessions() == 6 });
my %ended = map { $_ => 1 } sessions();
ask($node, "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'overten_nginx'");
wait_until('it connects again', sub { (grep { !$ended{$_} } sessions()) == 6 });
syswrite $slow, "Authorization: Bearer $keys[0]{secret}\r\n\r\n";
like(IO::Select->new($slow)->can_read($PostgreSQL::Test::Utils::timeout_default) ? readline $slow : 'nothing', qr{^HTTP/1\.1 200 }, 'and asks for who is left');
close $slow;
wait_until('it has left', sub { sessions() == 4 });

$waiting = begin_load($nginx->{port}, $keys, 4000, 20);
kill USR2 => $master;
wait_until('there is another master', sub { -e "$nginx->{folder}/nginx.pid.oldbin" && $master_of->() && $master_of->() != $master });
wait_until('its workers have sessions', sub { sessions() > 4 });
kill WINCH => $master;
wait_until('the old workers have left', sub { sessions() == 4 });
kill QUIT => $master;
$master = $master_of->();
is(outcome(end_load($waiting)), '4000 0 0 0', 'upgraded under load');

@stopped = sessions();
kill STOP => @stopped;
$waiting = begin_load($nginx->{port}, $keys, 200, 200);
wait_for_clients($nginx->{port}, 200);
kill QUIT => $master;
select undef, undef, undef, 0.3;
kill CONT => @stopped;
is(outcome(end_load($waiting)), '200 0 0 0', 'who waits when nginx leaves gets an answer');
wait_until('no session is left', sub { sessions() == 0 });


# Settings that cannot be.

sub complaint
{
	my ($name, $old, $new) = @_;
	my $text = slurp_file("$FindBin::RealBin/../../nginx/nginx.conf");
	my ($out, $err);

	$text =~ s{modules/ngx_http}{$FindBin::RealBin/../../nginx/ngx_http} or die;
	$text =~ s/\Q$old\E[^\n]*/$new/ or die;
	mkdir "$dir/$name";
	append_to_file("$dir/$name/nginx.conf", $text);
	local %ENV = (%ENV, nginx_environment(), PATH => "$ENV{PATH}:/usr/sbin");
	IPC::Run::run [ 'nginx', '-t', '-p', "$dir/$name", '-c', "$dir/$name/nginx.conf", '-e', 'stderr' ], '>', \$out, '2>', \$err;
	return $err;
}
like(complaint('none', 'overten_auth_database', ''), qr/overten_auth is on, but there is no overten_auth_database/, 'no database');
my $secret_text = complaint('text', 'overten_auth_database', 'overten_auth_database "host=x password=hunter2 nonsense";');
like($secret_text, qr/is no connection string of libpq/, 'no connection string');
unlike($secret_text, qr/hunter2/, 'whose password is not told');
like(complaint('connections', 'overten_auth_connections', 'overten_auth_connections 0;'), qr/must be at least 1/, 'no connections');
like(complaint("no_$_", 'overten_auth_connections', "overten_auth_$_ 0;"), qr/must be at least 1/, "no $_") foreach qw(max_waiting timeout connect_timeout connection_life);
foreach my $hosts ('db.example.com', 'cafe', 'fade.de', '127.0.0.1,db', '::1,/tmp,db')
{
	like(complaint("name_$hosts" =~ tr/\//_/r, 'overten_auth_database', qq{overten_auth_database "host=$hosts dbname=app";}), qr/stands still while it is looked up/, "a host that is a name: $hosts");
}
foreach my $hosts ('127.0.0.1', '::1,127.0.0.2', '/run/postgresql', "db.example.com hostaddr=127.0.0.1", "''")
{
	unlike(complaint("address_$hosts" =~ tr/\/ ='/_/r, 'overten_auth_database', qq{overten_auth_database "host=$hosts dbname=app";}), qr/looked up/, "none: $hosts");
}
foreach my $name ('""', '"X API"', 'X_API_Key', 'X-API-Key:', '$key', 'Authorization', 'X-Overten-Api-Key', 'Cookie', 'host', 'X-Forwarded-For')
{
	like(complaint('header_' . $name =~ tr/a-zA-Z0-9-//cdr, 'overten_auth on;', "overten_auth on; overten_auth_api_key_header $name;"),
		qr/"overten_auth_api_key_header" directive is not the name of a header that means nothing else/, "no header for keys: $name");
}
like(complaint('header_twice', 'overten_auth on;', 'overten_auth on; overten_auth_api_key_header off; overten_auth_api_key_header X-API-Key;'), qr/directive is duplicate/, 'nor two');

stop_process($service);
check_log($_) foreach $nginx, $other, $vain, $few, $renewing, $odd;

done_testing();
