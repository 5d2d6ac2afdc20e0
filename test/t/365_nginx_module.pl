
# nginx's module in trouble: clients that give up, a database that stands still, ends
# sessions or is away, and nginx itself that is reloaded or has to leave.  What it answers,
# and what a service sees, is tested in 360_front_ends.pl.

use strict;
use warnings FATAL => 'all';

use FindBin;
use lib $FindBin::RealBin;
use GatewayTest;
use IPC::Run;
use JSON::PP qw(encode_json);
use OvertenTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $dir = PostgreSQL::Test::Utils::tempdir;
my $node = create_node('nginx_module', <<'EOC');
shared_preload_libraries = 'overten_auth'
overten_auth.databases = 'postgres'
overten_auth.signing_keys_command = ''
listen_addresses = '127.0.0.1'
EOC

# The role has no search_path of its own here, and somebody has made a schema of its
# name, with a function that admits everybody.
ask($node, <<'EOQ');
CREATE ROLE overten_nginx LOGIN;
GRANT EXECUTE ON FUNCTION overten_authorize_request(text, json) TO overten_nginx;
CREATE SCHEMA overten_nginx;
GRANT USAGE ON SCHEMA overten_nginx TO overten_nginx;
CREATE FUNCTION overten_nginx.overten_authorize_request(text, json) RETURNS overten_auth.http_response LANGUAGE sql
AS $$SELECT 200, '{"x-overten-key-id":"k","x-overten-org-id":"o","x-overten-tier":"t","x-overten-key-prefix":"p"}'::json, '{}'$$;
EOQ

# Keys, each of another org, and one that is not good.
my @keys = map { my $org = create_org($node, "Org $_"); my ($secret) = mint($node, $org); { secret => $secret, org => $org } } 1 .. 20;
append_to_file("$dir/keys", encode_json([ @keys, { secret => 'sk_live_00000000000000000000000K3vO8' } ]));
append_to_file("$dir/key", encode_json([ $keys[0] ]));
append_to_file("$dir/unknown", encode_json([ { secret => 'sk_live_00000000000000000000000K3vO8' } ]));
append_to_file("$dir/long", encode_json([ { secret => 'x' x 16000 } ]));

my $service = start_service('module_service');
my $extra = <<'EOC';
        # Found by an internal redirect, for the same and for more.
        location /same {
            overten_auth on;
            overten_auth_cost 2;
            try_files /nothing /same_again;
        }
        location = /same_again {
            overten_auth on;
            overten_auth_cost 2;
            proxy_pass http://service;
        }
        location /more {
            overten_auth on;
            overten_auth_cost 2;
            try_files /nothing /more_again;
        }
        location = /more_again {
            overten_auth on;
            overten_auth_cost 3;
            proxy_pass http://service;
        }
        location /error {
            overten_auth on;
            error_page 404 = /same_again;
            return 404;
        }
        location /variables {
            overten_auth on;
            try_files /nothing @variables;
        }
        location @variables {
            add_header X-Variables "$overten_auth_key_id $overten_auth_org_id $overten_auth_tier $overten_auth_key_prefix $overten_auth_limit_remaining";
            return 204;
        }
        location /wrong {
            overten_auth on;
            overten_auth_cost -1;
            proxy_pass http://service;
        }

        location = /own-answer {
EOC
my $end = '        location = /own-answer {
';
my $nginx = start_module_nginx('trouble_nginx', $node->connstr('postgres'), $service->{port},
	'overten_auth_connections 2;' => "overten_auth_connections 2;\n    overten_auth_timeout 2s;",
	'worker_processes auto' => 'worker_processes 2',
	$end => $extra);
my $url = "http://127.0.0.1:$nginx->{port}";

# Begin requests, and find out what has become of them.
sub begin_load
{
	my ($port, @how) = @_;
	my %load;

	$load{run} = IPC::Run::start([ 'node', "$FindBin::RealBin/../http/nginx_load.mjs", $port, @how ],
		'>', \$load{out}, '2>', \$load{err});
	return \%load;
}
sub end_load
{
	my ($load) = @_;

	$load->{run}->finish;
	chomp $load->{out};
	diag($load->{err}) if $load->{err};
	return { map { split / / } split /, /, $load->{out} };
}

sub sessions { return split /\n/, ask($node, "SELECT pid FROM pg_stat_activity WHERE usename = 'overten_nginx'"); }
sub is_answered { return request($url, 'GET', '/x', ["Authorization: Bearer $keys[0]{secret}"])->{status}; }


# Internal redirects.

my ($limited, $limited_id) = mint($node, $keys[0]{org});
ask($node, "SELECT overten_set_limit('key', '$limited_id', 'slow', 100, '12 hours')");
my @good = ("Authorization: Bearer $limited");
sub left_after
{
	my ($path) = @_;
	my $answer = request($url, 'GET', $path, \@good);

	return "$answer->{status} " . ($answer->{headers}{ratelimit}[0] =~ s/.*;r=(\d+).*/$1/r);
}
is(left_after('/same'), '200 98', 'a redirect to what takes the same');
is(left_after('/more'), '200 93', 'a redirect to what takes more: both are taken');
is(left_after('/error'), '200 91', 'a redirect of an error: return comes before the module');
my $variables = request($url, 'GET', '/variables', \@good);
is("$variables->{status} @{ $variables->{headers}{'x-variables'} // [] }",
	"204 $limited_id $keys[0]{org} free " . substr($limited, 0, 12) . ' 90', 'variables');
is(summary(request($url, 'GET', '/wrong', \@good)), '503 service_unavailable', 'a cost that is none is an outage');
like(slurp_file("$nginx->{folder}/error.log"), qr/answers with status 400, which is no refusal/, 'and the log says where to look');


# Clients that give up.

my $load = end_load(begin_load($nginx->{port}, "$dir/keys", 3000, 60, 30));
is($load->{wrong}, 0, 'nobody gets the answer of another');
is($load->{refused} + $load->{cut}, 0, 'nobody is refused');
cmp_ok($load->{right}, '>', 1500, "right answers: $load->{right}");
cmp_ok($load->{aborted}, '>', 300, "given up: $load->{aborted}");

# A database that stands still for a while.
my @stopped = sessions();
is(scalar @stopped, 4, 'the sessions of two workers');
kill STOP => @stopped;
my $waiting = begin_load($nginx->{port}, "$dir/keys", 300, 300, 40);
sleep 1;
kill CONT => @stopped;
$load = end_load($waiting);
is("$load->{wrong} $load->{refused} $load->{cut}", '0 0 0', 'they wait, and get their own answers');
cmp_ok($load->{right}, '>', 100, "right answers: $load->{right}");

# Meanwhile more is asked than the sockets take.
kill STOP => @stopped;
$waiting = begin_load($nginx->{port}, "$dir/long", 300, 300);
sleep 1;
kill CONT => @stopped;
$load = end_load($waiting);
is("$load->{right} $load->{refused} $load->{wrong} $load->{cut}", '300 0 0 0', 'what had to wait to be sent is sent');

# And for longer than they wait.
kill STOP => @stopped;
$load = end_load(begin_load($nginx->{port}, "$dir/key", 20, 20));
is("$load->{right} $load->{refused} $load->{wrong} $load->{cut}", '0 20 0 0', 'an outage after the time limit');
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
$waiting = begin_load($nginx->{port}, "$dir/unknown", 1, 1);
wait_until('a question waits', sub { ask($node, "SELECT count(*) FROM pg_stat_activity WHERE usename = 'overten_nginx' AND wait_event_type = 'Lock'") == 1 });
ask($node, "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'overten_nginx'");
ask($locker, 'ROLLBACK');
$locker->quit;
$load = end_load($waiting);
is($load->{refused}, 1, 'its session is ended');
ask($node, 'ALTER ROLE overten_nginx RESET log_parameter_max_length_on_error');
wait_until('there are sessions again', sub { is_answered() == 200 && sessions() == 4 });
$waiting = begin_load($nginx->{port}, "$dir/keys", 6000, 20);
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
append_to_file("$dir/unlisted", encode_json([ map { { secret => $_, org => $org } } $free, $failing ]));
# The first of the servers is not there.
my $dead = free_port();
my $port = $node->port;
my $other = start_module_nginx('unlisted_nginx', "hostaddr=127.0.0.1,127.0.0.1 port=$dead,$port dbname=unlisted", $service->{port},
	'worker_processes auto' => 'worker_processes 1',
	'overten_auth_connections 2;' => q{overten_auth_connections 2; overten_auth_schema 'Odd keys';});
$load = end_load(begin_load($other->{port}, "$dir/unlisted", 400, 40));
is("$load->{right} $load->{refused} $load->{wrong} $load->{cut}", '200 200 0 0', 'a limit that cannot be counted fails its own key');
stop_process($other);


# nginx is reloaded, and leaves.

$waiting = begin_load($nginx->{port}, "$dir/keys", 4000, 20);
my ($master) = slurp_file("$nginx->{folder}/nginx.pid") =~ /(\d+)/;
foreach (1 .. 3)
{
	kill HUP => $master;
	select undef, undef, undef, 0.3;
}
$load = end_load($waiting);
is("$load->{wrong} $load->{refused} $load->{cut}", '0 0 0', 'reloaded three times under load');

@stopped = sessions();
kill STOP => @stopped;
$waiting = begin_load($nginx->{port}, "$dir/keys", 100, 100);
sleep 1;
kill QUIT => $master;
sleep 1;
kill CONT => @stopped;
$load = end_load($waiting);
is("$load->{right} $load->{refused} $load->{wrong} $load->{cut}", '100 0 0 0', 'who waits when nginx leaves gets an answer');
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
	local $ENV{PATH} = "$ENV{PATH}:/usr/sbin";
	IPC::Run::run [ 'nginx', '-t', '-p', "$dir/$name", '-c', "$dir/$name/nginx.conf", '-e', 'stderr' ], '>', \$out, '2>', \$err;
	return $err;
}
like(complaint('none', 'overten_auth_database', ''), qr/overten_auth is on, but there is no overten_auth_database/, 'no database');
my $secret_text = complaint('text', 'overten_auth_database', 'overten_auth_database "host=x password=hunter2 nonsense";');
like($secret_text, qr/is no connection string of libpq/, 'no connection string');
unlike($secret_text, qr/hunter2/, 'whose password is not told');
like(complaint('connections', 'overten_auth_connections', 'overten_auth_connections 0;'), qr/must be at least 1/, 'no connections');
like(complaint('name', 'overten_auth_database', 'overten_auth_database "host=db.example.com dbname=app";'), qr/stands still while it is looked up/, 'a host that is a name');

stop_process($service);
unlike(slurp_file("$nginx->{folder}/error.log"), qr/sk_live_\w{5}/, 'no secret in the log');

done_testing();
