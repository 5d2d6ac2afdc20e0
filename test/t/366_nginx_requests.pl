
# Which requests nginx's module asks about, and what it takes of a limit for them:
# redirects, subrequests, what nginx refuses by itself, HTTP/2, the processes of the
# cache, and a database behind a pool.  What it answers, and what a service sees, is
# tested in 360_front_ends.pl; trouble in 365_nginx_module.pl.

use strict;
use warnings FATAL => 'all';

use FindBin;
use lib $FindBin::RealBin;
use GatewayTest;
use JSON::PP qw(decode_json);
use NginxTest;
use OvertenTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = create_module_node('nginx_requests');
my @keys = keys_of($node, 200);
my $service = start_service('requests_service');
my $dead = free_port();
my $h2_port = free_port();

my $http = <<"EOC";
http {
    log_format whose '\$uri org=\$overten_auth_org_id told=\$http_x_overten_org_id key=\$http_authorization \$http_x_api_key';
    log_subrequest on;
    proxy_cache_path cache keys_zone=cache:1m;
    keepalive_requests 1000000;

    server {
        listen 127.0.0.1:$h2_port http2;
        http2_max_concurrent_streams 1000;
        location / {
            overten_auth on;
            proxy_cache cache;
            proxy_no_cache 1;
            proxy_cache_bypass 1;
            proxy_pass http://service;
        }
    }
EOC
my $locations = <<"EOC";
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
        location /scoped {
            overten_auth on;
            try_files /nothing /scoped_again;
        }
        location = /scoped_again {
            overten_auth on;
            overten_auth_scope files;
            proxy_pass http://service;
        }
        location /asked_for {
            overten_auth on;
            overten_auth_scope \$http_x_scope;
            overten_auth_cost \$http_x_cost;
            proxy_pass http://service;
        }
        location /wrong {
            overten_auth on;
            overten_auth_cost -1;
            proxy_pass http://service;
        }

        # What the surrounding location says holds within, unless that says otherwise.
        location /outer {
            overten_auth on;
            overten_auth_cost 3;
            overten_auth_scope \$http_x_scope;
            location = /outer/same {
                proxy_pass http://service;
            }
            location = /outer/cheap {
                overten_auth_cost 1;
                proxy_pass http://service;
            }
        }

        # Keys in a header of their own, here and in what is within.
        location /keyed {
            overten_auth on;
            overten_auth_api_key_header X-API-Key;
            location = /keyed/same {
                proxy_pass http://service;
            }
            location = /keyed/off {
                overten_auth_api_key_header off;
                proxy_pass http://service;
            }
            location = /keyed/other {
                overten_auth_api_key_header Api-Token;
                proxy_pass http://service;
            }
            location = /keyed/redirected {
                try_files /nothing /keyed/off;
            }
            location = /keyed/more {
                overten_auth_cost 2;
                try_files /nothing /keyed/same;
            }
            location = /keyed/mirrored {
                mirror /mirror;
                proxy_pass http://service;
            }
            location = /keyed/checked {
                auth_request /check;
                proxy_pass http://service;
            }
        }

        # Variables.
        location /variables {
            overten_auth on;
            try_files /nothing \@variables;
        }
        location /broken {
            overten_auth on;
            access_log whose.log whose;
            error_page 502 = \@variables;
            proxy_pass http://127.0.0.1:$dead;
        }
        location \@variables {
            access_log whose.log whose;
            add_header X-Variables "\$overten_auth_key_id \$overten_auth_org_id \$overten_auth_tier \$overten_auth_key_prefix \$overten_auth_limit_remaining";
            return 204;
        }

        # Subrequests.
        location = /guarded {
            overten_auth on;
            proxy_pass http://service;
        }
        location = /page {
            ssi on;
            ssi_types *;
            try_files /page.html =404;
        }
        location = /guarded_page {
            overten_auth on;
            ssi on;
            ssi_types *;
            try_files /page.html =404;
        }
        location = /mirrored {
            overten_auth on;
            mirror /mirror;
            proxy_pass http://service;
        }
        location = /open_mirrored {
            mirror /mirror;
            proxy_pass http://service;
        }
        location = /mirror {
            internal;
            overten_auth on;
            access_log whose.log whose;
            proxy_pass http://service;
        }
        location = /checked {
            overten_auth on;
            auth_request /check;
            proxy_pass http://service;
        }
        location = /check {
            internal;
            access_log whose.log whose;
            proxy_pass http://service;
        }
        location = /checked_by_guarded {
            auth_request /guarded;
            proxy_pass http://service;
        }

        # What nginx refuses, or lets through, by itself.
        location = /denied {
            overten_auth on;
            deny all;
            proxy_pass http://service;
        }
        location = /forbidden {
            overten_auth on;
            auth_request /forbids;
            proxy_pass http://service;
        }
        location = /forbids {
            internal;
            return 403;
        }
        location = /either {
            overten_auth on;
            satisfy any;
            allow 127.0.0.1;
            deny all;
            proxy_pass http://service;
        }

        location = /own-answer {
EOC

my $nginx = start_module_nginx('requests_nginx', $node->connstr('postgres'), $service->{port},
	'http {' => $http,
	'worker_processes auto' => 'worker_processes 2',
	'default_type application/json;' => 'default_type application/json; root .; underscores_in_headers on;',
	"        location = /own-answer {\n" => $locations);
append_to_file("$nginx->{folder}/page.html", 'page <!--# include virtual="/guarded" -->');
my $url = "http://127.0.0.1:$nginx->{port}";

my ($limited, $limited_id) = split /\|/, ask($node, "SELECT secret, key_id FROM overten_mint_key('$keys[0]{org}', scopes => '{}')");
ask($node, "SELECT overten_set_limit('key', '$limited_id', 'slow', 100, '12 hours')");
my @good = ("Authorization: Bearer $limited");
my @forged = map { "$_: forged" } 'X-Overten-Org-Id', 'X_Overten_Org_Id', 'x-overten_tier', 'X-Overten-Tier', 'X-Overten-Key-Id', 'X-Overten-Key-Prefix', 'X-Overten-Else';

sub get { return request($url, 'GET', @_); }

# The status of an answer, and what the limit leaves then.
sub left_after { my $answer = get($_[0], \@good); return "$answer->{status} " . left_of($answer); }

# Units of the limit that have been taken.
sub taken { return ask($node, "SELECT 100 - remaining FROM overten_limit_status('$keys[0]{org}') WHERE key_id = '$limited_id'"); }


# Internal redirects.

is(left_after('/same'), '200 98', 'a redirect to what takes the same');
is(left_after('/more'), '200 93', 'a redirect to what takes more: both are taken');
is(left_after('/error'), '200 91', 'a redirect of an error: return comes before the module');
is(summary(get('/scoped', \@good)), '403 insufficient_scope', 'a redirect to what needs a scope');
is(left_of(get('/asked_for', [ @good, 'X-Cost: 3' ])), 87, 'a cost that is a variable');
is(left_of(get('/asked_for', \@good)), 86, 'which is 1 if it is empty');
is(summary(get('/asked_for', [ @good, 'X-Scope: other files' ])), '403 insufficient_scope', 'variables stay what they are');
is(summary(get('/asked_for', [ @good, 'X-Cost: %31' ])), '503 service_unavailable', 'both of them');
is(left_after('/outer/same'), '200 83', 'the cost of the surrounding location');
is(left_after('/outer/cheap'), '200 82', 'or a cost of its own');
is(summary(get('/outer/same', [ @good, 'X-Scope: other files' ])), '403 insufficient_scope', 'the scope of the surrounding location');
is(summary(get('/wrong', \@good)), '503 service_unavailable', 'a cost that is none is an outage');
like(slurp_file("$nginx->{folder}/error.log"), qr/answers with status 400, which is no refusal/, 'and the log says where to look');


# Variables, where nginx has cleared what it knew.

my $known = "$limited_id $keys[0]{org} free " . substr($limited, 0, 12);
foreach my $path ('/variables', '/broken')
{
	my $answer = get($path, \@good);
	my $left = left_of($answer);

	is("$answer->{status} @{ $answer->{headers}{'x-variables'} // [] }", "204 $known $left", "variables of $path");
}
like(slurp_file("$nginx->{folder}/whose.log"), qr{^/broken org=$keys[0]{org} }m, 'and in the log');
is(get('/variables')->{headers}{'x-variables'}, undef, 'a refused request does not get there');


# Subrequests.  nginx has no access phase for them.

my $before = taken();
my $page = get('/page', [ @good, @forged ]);
like($page->{body}, qr/^page /, 'a page that anybody may see');
unlike($page->{body}, qr/x-overten|"requests"/i, 'has nothing in it that is guarded');
is(taken(), $before, 'and takes nothing');
$page = get('/guarded_page', [ @good, @forged ]);
is(decode_json($page->{body} =~ s/^page //r)->{headers}{'x-overten-org-id'}, $keys[0]{org}, 'a guarded page has what is guarded');
unlike($page->{body}, qr/forged|\Q$limited\E|X_|x-overten_/, 'of which the service sees whose it is');
is(taken(), ++$before, 'and takes it once');
is(summary(get('/guarded_page')), '401 missing_credentials', 'but not without a key');

sub service_requests { return decode_json(get('/guarded', ["Authorization: Bearer $keys[1]{secret}"])->{body})->{requests}; }
my $reached = service_requests();
is(get('/mirrored', [ @good, @forged ])->{status}, 200, 'a mirrored request');
wait_until('the mirror is there', sub { slurp_file("$nginx->{folder}/whose.log") =~ m{^/mirror}m });
like(slurp_file("$nginx->{folder}/whose.log"), qr{^/mirror org=$keys[0]{org} told=$keys[0]{org} key=- -$}m, 'the mirror sees whose it is');
is(taken(), ++$before, 'it takes once');
is(service_requests() - $reached, 3, 'both have reached the service');
is(get('/open_mirrored', [ @good, @forged ])->{status}, 200, 'a request that is not asked about');
wait_until('its mirror is refused', sub { slurp_file("$nginx->{folder}/error.log") =~ m{a subrequest to "/mirror" is refused} });
is(service_requests() - $reached, 5, 'does not reach a guarded mirror');
is(taken(), $before, 'and takes nothing');

is(get('/checked', [ @good, @forged ])->{status}, 200, 'auth_request and the module');
is(taken(), ++$before, 'take once');
is(get('/checked')->{status}, 401, 'both are asked');
my $checks = slurp_file("$nginx->{folder}/whose.log");
like($checks, qr{^/check org=- told=- key=Bearer }m, 'auth_request is asked with the key, before the module');
is(summary(get('/checked_by_guarded', [ @good, @forged ])), '403', 'what the module guards is no answer to auth_request');
like(slurp_file("$nginx->{folder}/error.log"), qr{a subrequest to "/guarded" is refused}, 'and the log says why');
is(taken(), $before, 'nor does it take anything');


# Keys in a header of their own, with everything that is for one location.

my @sent = ("X-API-Key: $limited");
my $other_key = "Api-Token: $limited";
my $mirrors = () = slurp_file("$nginx->{folder}/whose.log") =~ m{^/mirror}mg;
my @lookalikes = ('X_API_Key: forged', 'x-api_key: forged');
my %keyed = (same => \@sent, other => [$other_key], redirected => \@sent, more => \@sent, mirrored => \@sent, checked => \@sent, off => \@good);
foreach my $path (sort keys %keyed)
{
	my $answer = get("/keyed/$path", [ @{ $keyed{$path} }, @lookalikes, @forged ]);
	my $seen = decode_json($answer->{body});

	is($seen->{headers}{'x-overten-org-id'}, $keys[0]{org}, "a key in its header: $path");
	unlike($answer->{body}, qr/\Q$limited\E/, "which the service does not see: $path");
	$path =~ /^o/ ? like($answer->{body}, qr/"x_api_key":"forged"/, "other headers are none of ours: $path")
	  : unlike($answer->{body}, qr/forged/, "nor under a name that looks the same: $path");
	$before += $path eq 'more' ? 3 : 1;
}
is(taken(), $before, 'each takes what the location says, once');
is(summary(get("/keyed/$_", \@sent)), '401 missing_credentials', "another header is none: $_") foreach qw(off other);
is(decode_json(get('/keyed/off', [ @good, 'X-API-Key: mine' ])->{body})->{headers}{'x-api-key'}, 'mine', 'where it is off, it is not for us');
is(summary(get('/keyed/same', [ @sent, @good ])), '400 invalid_request', 'two credentials');
is(summary(get('/guarded', \@sent)), '401 missing_credentials', 'it is off unless it is set');
is(taken(), ++$before, 'none of these takes anything');
wait_until('the mirror is there', sub { (() = slurp_file("$nginx->{folder}/whose.log") =~ m{^/mirror}mg) > $mirrors });
unlike(slurp_file("$nginx->{folder}/whose.log"), qr{^/mirror org=org_.*\Q$limited\E}m, 'nor does a mirror see the key');


# What nginx decides by itself.

is(get($_, \@good)->{status}, 403, "$_: nginx refuses") foreach '/denied', '/forbidden';
is(taken(), $before, 'what nginx refuses takes nothing');
my $let = get('/either', \@forged);
is($let->{status}, 200, 'satisfy any: an address needs no key');
unlike($let->{body}, qr/forged/, 'but has no name');
$let = request($url, 'GET', '/either', [@forged], undef, '--interface', '127.0.0.2');
is(summary($let), '401 missing_credentials', 'another address needs one');
$let = request($url, 'GET', '/either', [ @good, @forged ], undef, '--interface', '127.0.0.2');
is(decode_json($let->{body})->{headers}{'x-overten-org-id'}, $keys[0]{org}, 'with a key');
is(taken(), ++$before, 'that takes');


# HTTP/2, where streams of one connection are cut off beside others.

my @kept = module_sessions($node);
is(scalar @kept, 4, 'two workers have two sessions each; the processes of the cache have none');
my $load = end_load(begin_load($h2_port, key_file('h2', @keys, unknown_key()), 4000, 60, 30, 'h2'));
is("$load->{refused} $load->{wrong} $load->{cut}", '0 0 0', 'HTTP/2: nobody gets the answer of another');
cmp_ok($load->{right}, '>', 1500, "right answers: $load->{right}");
cmp_ok($load->{aborted}, '>', 300, "streams cut off: $load->{aborted}");
is_deeply([ sort(module_sessions($node)) ], [ sort @kept ], 'in the sessions that there were');
is(scalar(grep { /^nginx: cache manager process/ } map { eval { slurp_file("$_/cmdline") } // '' } glob '/proc/[0-9]*') > 0, 1, 'there is a process of the cache');
# Workers that wait do nothing.
sub worker_ticks
{
	my $master = master_of($nginx);
	my $ticks = 0;

	foreach my $stat (map { eval { slurp_file($_) } // '' } glob '/proc/[0-9]*/stat')
	{
		my ($numbers) = $stat =~ /^\d+ \(nginx\) \w ($master .*)/ or next;
		my @numbers = split / /, $numbers;
		$ticks += $numbers[10] + $numbers[11];
	}
	return $ticks;
}
my $ticks = worker_ticks();
sleep 2;
$ticks = worker_ticks() - $ticks;
cmp_ok($ticks, '<', 50, "two seconds without requests: $ticks hundredths of one of work");
stop_process($nginx);


# A pool that does not keep prepared statements.

my $pool = start_pgbouncer($node, 'nginx_pool', 'overten_nginx');
my $pooled = start_module_nginx('pooled_nginx', "host=$pool->{folder} port=$pool->{port} dbname=postgres", $service->{port},
	'overten_auth_connections 2;' => 'overten_auth_connections 4; overten_auth_prepare off;');
$load = end_load(begin_load($pooled->{port}, key_file('pool', @keys, unknown_key()), 1000, 30));
is(outcome($load), '1000 0 0 0', 'four connections of each worker share two sessions, without prepared statements');
stop_process($pooled);
stop_process($pool);

stop_process($service);
check_log($_) foreach $nginx, $pooled;

done_testing();
