
# Limits over HTTP: that exactly so many requests are admitted as a limit allows,
# through all front ends at once; that no request is charged twice when something dies on
# its way; and what members see of their limits.  pg_regress has no HTTP.

use strict;
use warnings FATAL => 'all';

use FindBin;
use lib $FindBin::RealBin;
use GatewayTest;
use JSON::PP;
use OvertenTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time);

my $node = create_api_node('limits_over_http', <<'EOC');
shared_preload_libraries = 'overten_auth'
overten_auth.databases = 'postgres'
overten_auth.signing_keys_command = ''
EOC
my $json = JSON::PP->new->canonical;
my $org = create_org($node, 'Limited');
ask($node, <<"EOQ");
SELECT overten_set_api_access('$org', true), overten_add_member('$org', 'ada');
ALTER ROLE overten_gateway SET statement_timeout = 0;
ALTER ROLE overten_services SET statement_timeout = 0;
ALTER ROLE overten_authenticator SET statement_timeout = 0;
EOQ
my ($secret, $key) = mint($node, $org);
my ($other, $other_key) = mint($node, $org);

my %patience = map { $_ => 1000 * $PostgreSQL::Test::Utils::timeout_default } qw(CONNECT_TIMEOUT_MS QUERY_TIMEOUT_MS);
my $gateway = start_gateway($node, 'limits_gateway', %patience);
my $services = start_postgrest($node, 'limits_contract', 'db-anon-role' => 'overten_services');
my $service = start_service('limited_service');
my $wrapped = start_service('limited_wrapped', $gateway->{authorize_url});

# nginx before the service, which asks one of two servers: the first is given, the second
# would be its second choice.
sub start_asking
{
	my ($name, $how, $first, $second) = @_;
	my $port = free_port();
	my ($included, $listens) = $how eq 'gateway' ? ('nginx_authorize.conf', '8079') : ('nginx_authorize_postgrest.conf', '3001');
	my $servers = join ' ', map { "server 127.0.0.1:$_;" } grep { defined } $first, $second;
	my $process = start_nginx($name, 'auth_request.conf', $port,
		'include nginx_authorize.conf' => "include $included",
		'127.0.0.1:8081' => "127.0.0.1:$port",
		"server 127.0.0.1:$listens;" => $servers,
		'127.0.0.1:9000' => "127.0.0.1:$service->{port}");

	$process->{port} = $port;
	return $process;
}

# A limit that repays next to nothing while this runs.  With another quota it has a full
# burst.
sub limit
{
	my ($id, $quota) = @_;
	return ask($node, "SELECT overten_set_limit('key', '$id', 'in_12_hours', $quota, '12 hours')");
}

sub left
{
	my ($id) = @_;
	return ask($node, "SELECT remaining FROM overten_limit_status('$org') WHERE key_id = '$id'");
}

my $gateway_nginx = start_asking('limits_gateway_nginx', 'gateway', $gateway->{authorize_port});
my $services_nginx = start_asking('limits_services_nginx', 'PostgREST', $services->{port});


# 10,000 requests of 44 clients, through four front ends at once: exactly 1,000, and one
# for each 43.2 seconds if it should take so long.

limit($key, 1000);
my $begin = time;
my %share = (
	gateway => [ "$gateway->{authorize_url}/authorize", 5000 ],
	'auth_request' => [ "http://127.0.0.1:$gateway_nginx->{port}/", 3000 ],
	'protect.mjs' => [ "http://127.0.0.1:$wrapped->{port}/", 1500 ],
	'auth_request and PostgREST' => [ "http://127.0.0.1:$services_nginx->{port}/", 500 ]);
my %runs = map {
	my ($url, $count) = @{ $share{$_} };
	my $out = '';
	$_ => { out => \$out, run => IPC::Run::start([ 'node', "$FindBin::RealBin/../http/load.mjs", 'counted', $url, 11, $secret, $count ], '>', \$out) };
} keys %share;
my ($admitted, $refused, $through) = (0, 0, 0);
foreach my $end (sort keys %runs)
{
	$runs{$end}{run}->finish;
	my $counts = $json->decode(${ $runs{$end}{out} });

	is(join(' ', grep { !/^(200|429\+)$/ } sort keys %$counts), '', "$end: nothing but 200 and 429 with Retry-After");
	is(($counts->{200} // 0) + ($counts->{'429+'} // 0), $share{$end}[1], "$end: an answer to each");
	cmp_ok($counts->{200} // 0, '>', 0, "$end: admits some");
	$admitted += $counts->{200} // 0;
	$refused += $counts->{'429+'} // 0;
	$through += $counts->{200} // 0 if $end =~ /^auth_request/;
}
my $repaid = int((time - $begin) / 43.2);
cmp_ok($admitted, '>=', 1000, 'as many as the limit allows');
cmp_ok($admitted, '<=', 1000 + $repaid, 'and no more');
is($admitted + $refused, 10_000, 'of all');
flush_usage($node);
is(ask($node, "SELECT concat_ws(' ', sum(accepted), sum(refused), sum(limited)) FROM overten_key_usage('$org', '$key', now() - interval '1 day')"),
	"$admitted 0 $refused", 'and so the history has it');
is($json->decode(request("http://127.0.0.1:$service->{port}", 'GET', '/')->{body})->{requests}, $through + 1, 'no other has reached the service');


# Something dies on the way of a question whose cost has been taken.  nginx would ask the
# other server, unless it is told not to.

foreach my $how ([ 'gateway', $gateway->{authorize_port}, 50 ], [ 'PostgREST', $services->{port}, 60 ])
{
	my ($road, $port, $quota) = @$how;
	my $dying = start_swallower("${road}_dies", $port);
	my $asking = start_asking("${road}_dies_nginx", $road, $dying->{port}, $port);
	my %answers;

	limit($other_key, $quota);
	$answers{ request("http://127.0.0.1:$asking->{port}", 'GET', '/', ["Authorization: Bearer $other"])->{status} }++ foreach 1 .. 20;
	cmp_ok($answers{503} // 0, '>', 0, "$road: some questions have no answer");
	is(($answers{503} // 0) + ($answers{200} // 0), 20, "$road: others are admitted");
	is(left($other_key), $quota - 20, "$road: each has been asked once");
	stop_process($_) foreach $asking, $dying;
}

# The service itself dies: its client gets an error, and has paid once.
limit($other_key, 70);
stop_process($service);
foreach my $nginx ($gateway_nginx, $services_nginx)
{
	is(request("http://127.0.0.1:$nginx->{port}", 'GET', '/', ["Authorization: Bearer $other"])->{status}, 502, "$nginx->{name}: without the service");
}
is(left($other_key), 68, 'each request is charged once');


# What members see.

my $path = "/api/v1/organizations/$org/limits";
my $ada = 'Authorization: Bearer ' . sign('ada');

sub shown
{
	my ($query, $credential) = @_;
	my $answer = request($gateway->{url}, 'GET', $path . ($query // ''), [ $credential // $ada ]);

	return summary($answer) unless $answer->{status} == 200;
	my $body = $json->decode($answer->{body});
	return join '; ', map({ my $item = $_; join ' ', map { $item->{$_} // '-' } qw(key_id name quota period_seconds burst per remaining) } @{ $body->{items} }),
	  $body->{next_cursor} // ();
}

my $of_key = "$key in_12_hours 7 43200 7 key 0";
my $of_other = "$other_key in_12_hours 70 43200 70 key 68";
limit($key, 7);
is(ask($node, "SELECT count(*) FROM generate_series(1, 10) n, LATERAL overten_admit('$secret', 1 + n * 0)"), 7, 'a limit that is used up');
is(shown(), "$of_key; $of_other", 'the limits of each key');
my ($first) = @{ $json->decode(request($gateway->{url}, 'GET', $path, [$ada])->{body})->{items} };
is($first->{refusals}, 3, 'what was refused');
cmp_ok(abs($first->{reset_seconds} - 43200), '<', 300, 'when it is full again');
ask($node, "SELECT overten_set_limit('org', '$org', 'shared', 60, '1 minute', 5, 'org'), overten_set_limit('org', '$org', 'shadow', 1, '1 hour', shadow => true)");
my $of_org = '- shared 60 60 5 org 5';
is(shown(), "$of_org; $of_key; $of_other", 'what the org shares comes first, and there are no shadows');
is(shown('?limit=1'), "$of_org; $of_key; $key", 'a page, and the cursor of the next one');
is(shown("?limit=1&cursor=$key"), $of_other, 'which is the last');
is(shown("?cursor=$other_key"), '', 'after the last key there is none');
ask($node, "SELECT overten_revoke_key('$org', '$key')");
is(shown("?cursor=$key"), $of_other, 'the key of a cursor may be revoked meanwhile');
is(shown(), "$of_org; $of_other", 'but has no limits any more');
my $foreign = create_org($node, 'Foreign');
my (undef, $foreign_key) = mint($node, $foreign);
is(shown("?cursor=$foreign_key"), '400 invalid_parameter cursor', 'a cursor of others');
is(shown('', 'Authorization: Bearer ' . sign('bob')), '404 organization_not_found', 'for members only');
my (undef, $new_key) = split /\|/, ask($node, "SELECT secret, key_id FROM overten_rotate_key('$org', '$other_key')");
is(shown(), "$of_org; " . $of_other =~ s/$other_key/$new_key/r, 'of a line of rotations the newest key');

stop_process($_) foreach $gateway_nginx, $services_nginx, $wrapped, $services, $gateway;
$node->stop;
done_testing();
