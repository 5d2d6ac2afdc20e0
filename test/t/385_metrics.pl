
# GET /metrics of the gateway: where it is answered and where not, what it counts,
# that it is well-formed, and that nothing of what clients send becomes a series or
# a label.  pg_regress has no HTTP.

use strict;
use warnings FATAL => 'all';

use FindBin;
use lib $FindBin::RealBin;
use GatewayTest;
use OvertenTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = create_api_node('metrics', "max_connections = 40\n");
my $org = create_org($node, 'Org');
ask($node, "SELECT overten_set_api_access('$org', true), overten_add_member('$org', 'ada')");
my ($secret, $key) = mint($node, $org);
my $good = "Authorization: Bearer $secret";
my $ada = 'Authorization: Bearer ' . sign('ada');
my $json = 'Content-Type: application/json';
my $keys = "/api/v1/organizations/$org/api-keys";
my $template = '/api/v1/organizations/{org_id}/api-keys';
ask($node, 'ALTER ROLE overten_gateway SET statement_timeout = 0');
my %patience = map { $_ => 1000 * $PostgreSQL::Test::Utils::timeout_default }
  qw(CONNECT_TIMEOUT_MS QUERY_TIMEOUT_MS);


# Where it is answered

my $silent = start_gateway($node, 'silent');
is(summary(request($silent->{$_}, 'GET', '/metrics')), '404 not_found', "off unless it is set: $_")
  foreach 'url', 'authorize_url';
unlike(slurp_file($silent->{err}), qr{/metrics on}, 'and no address is taken for it');
stop_process($silent);

my $gateway = start_gateway($node, 'gateway', METRICS_LISTEN => '127.0.0.1:0', POOL_SIZE => 8, CORS_ORIGINS => 'https://app.example.com', %patience);
my $own = $gateway->{metrics_url};

is(summary(request($gateway->{$_}, 'GET', '/metrics')), '404 not_found', "never answered at $_")
  foreach 'url', 'authorize_url';
my $answer = request($own, 'GET', '/metrics', ['Origin: https://app.example.com']);
is($answer->{status}, 200, 'answered at its own address');
like($answer->{headers}{'content-type'}[0], qr{^text/plain; version=0\.0\.4}, 'in the form that Prometheus reads');
is($answer->{headers}{'access-control-allow-origin'}, undef, 'not to web pages');
is(request($own, 'HEAD', '/metrics')->{status}, 200, 'HEAD, too');
is(summary(request($own, @$_)), '404 not_found', "and nothing else there: @$_[0, 1]")
  foreach [ 'POST', '/metrics' ], [ 'GET', '/' ], [ 'GET', '/readyz' ], [ 'GET', '/authorize', [$good] ], [ 'GET', '/api/v1/verify', [$good] ];

foreach my $case ([ '9464' ], [ '127.0.0.1:65536' ], [ 'on' ])
{
	my ($stdout, $stderr);

	local $ENV{METRICS_LISTEN} = $case->[0];
	ok(!IPC::Run::run([ 'node', "$FindBin::RealBin/../../gateway/server.mjs" ], '>', \$stdout, '2>', \$stderr), "METRICS_LISTEN=$case->[0] is refused");
	like($stderr, qr/METRICS_LISTEN must be an address and a port/, 'with the rule');
}


# The samples by name and labels.  Everything must be as the format says.
sub samples
{
	my (%found, %types);

	foreach my $line (split /\n/, request($own, 'GET', '/metrics')->{body})
	{
		next if $line eq '' || $line =~ /^# HELP [a-z_0-9]+ \S/;
		if ($line =~ /^# TYPE ([a-z_0-9]+) (counter|gauge|histogram)$/)
		{
			die "two types: $line" if $types{$1};
			$types{$1} = $2;
			next;
		}
		my ($name, $labels, $value) = $line =~ /^([a-z_0-9]+)(?:\{((?:[a-z_]+="[^"\\]*",?)*)\})? (\S+)$/
		  or die "no sample: $line";
		die "no type: $line" unless $types{$name} || ($types{ $name =~ s/_(?:bucket|sum|count)$//r } // '') eq 'histogram';
		$labels = join ',', sort split /,/, $labels // '';
		die "twice: $line" if exists $found{"$name\{$labels\}"};
		$found{"$name\{$labels\}"} = $value;
	}
	return \%found;
}

sub value
{
	my ($name, @labels) = @_;

	return samples()->{ "overten_gateway_$name\{" . join(',', sort @labels) . '}' };
}

# How often a request has ended like this.
sub requests
{
	my ($method, $route, $status, $code) = @_;

	return value('requests_total', map { qq($_->[0]="$_->[1]") }
		  [ method => $method ], [ route => $route ], [ status => $status ], [ code => $code ]) // 0;
}

my $server_lines = join "\n", (grep { /overten_gateway_/ } split /\n/, request($own, 'GET', '/metrics')->{body}), '';
my ($stdout, $stderr);
ok(IPC::Run::run([ 'promtool', 'check', 'metrics' ], '<', \$server_lines, '>', \$stdout, '2>', \$stderr),
	'promtool finds nothing to mend')
  or diag($stdout . $stderr);
like($answer->{body}, qr/^process_resident_memory_bytes \d/m, 'the process itself is measured, too');


# What is counted

my $public = $gateway->{url};
is(requests('GET', '/api/v1/verify', 200, ''), 0, 'nothing is counted before it happens');
request($public, 'GET', '/api/v1/verify', [$good]) foreach 1 .. 3;
request($public, 'GET', '/api/v1/verify', ["Authorization: Bearer sk_live_" . 'x' x 32]);
request($public, 'POST', $keys, [ $ada, $json ], '{');
request($public, 'GET', "$keys?status=active", [$ada]);
request($public, 'GET', "$keys/$key/usage?since=2020", [$ada]);
request($public, 'GET', "$keys/", [$ada]);
request($public, 'GET', '/healthz');
request($gateway->{authorize_url}, 'GET', '/authorize?cost=0', [$good]);
request($gateway->{authorize_url}, 'GET', '/authorize?cost=0', []);
bytes($gateway->{port}, "GET /api/v1/verify HTTP/1.1\r\nHost: x\r\n$good\r\n$good\r\nConnection: close\r\n\r\n");
bytes($gateway->{port}, "no HTTP\r\n\r\n");
bytes($gateway->{port}, "PURGE /x HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
foreach my $case (
	[ 3, 'GET', '/api/v1/verify', 200, '' ],
	[ 1, 'GET', '/api/v1/verify', 401, 'invalid_api_key' ],
	[ 1, 'POST', $template, 400, 'invalid_json' ],
	[ 1, 'GET', $template, 200, '' ],
	[ 1, 'GET', "$template/{key_id}/usage", 400, 'invalid_parameter' ],
	[ 1, 'GET', '/healthz', 200, '' ],
	[ 1, 'GET', '/authorize', 200, '' ],
	[ 1, 'GET', '/authorize', 401, 'missing_credentials' ],
	[ 1, 'GET', '/api/v1/verify', 400, 'invalid_request' ],
	[ 1, 'other', 'other', 400, 'invalid_request' ],
	[ 1, 'other', 'other', 404, 'not_found' ])
{
	my ($times, @request) = @$case;

	wait_until("it is counted: @request", sub { requests(@request) >= $times });
	is(requests(@request), $times, "counted: @request");
}
is(value('request_duration_seconds_count', 'route="/api/v1/verify"'), 5, 'the time of each is measured');
is(value('request_duration_seconds_bucket', 'route="/api/v1/verify"', 'le="+Inf"'), 5, 'up to any length');
my @buckets = map { samples()->{$_} } sort { ($a =~ /le="([\d.]+)"/)[0] <=> ($b =~ /le="([\d.]+)"/)[0] }
  grep { m{_seconds_bucket\{le="\d.*route="/api/v1/verify"} } keys %{ samples() };
is(scalar @buckets, 13, 'by buckets');
is_deeply(\@buckets, [ sort { $a <=> $b } @buckets ], 'which add up');


# Nothing that clients send becomes a series or a label

sub flood
{
	my ($round) = @_;
	my @methods = qw(GET POST DELETE PROPFIND LOCK);
	my $text = '';

	foreach my $n (1 .. 200)
	{
		my $path = (map { $_ . "/x${round}y$n" } '', '/api/v1', '/api/v1/verify', '/dashboard', $keys, "$keys/$key", '/api/v1/organizations')[ $n % 7 ];

		$text .= "$methods[$n % 5] $path?q${round}z$n=1 HTTP/1.1\r\nHost: h${round}w$n\r\nX-Forwarded-For: 192.0.2.$n\r\n"
		  . "Authorization: Bearer b${round}v$n\r\n" . ($n == 200 ? "Connection: close\r\n" : '') . "\r\n";
	}
	bytes($gateway->{port}, $text);
	return;
}

sub requests_in_all
{
	my $all = samples();
	my $sum = 0;

	$sum += $all->{$_} foreach grep { /_requests_total/ } keys %$all;
	return $sum;
}

my $before = requests_in_all();
flood(1);
wait_until('all are counted', sub { requests_in_all() >= $before + 200 });
my $first = samples();
flood(2);
wait_until('all are counted again', sub { requests_in_all() >= $before + 400 });
my $second = samples();
my @more = grep { /^overten_/ && !exists $first->{$_} } keys %$second;
is("@more", '', 'more clients do not make more series');
my $labels = join "\n", map { s/\{server="[^"]*"\}//r } keys %$second;    # from the environment
unlike($labels, qr/[xyzwv][12]?[yzwv]\d|192\.0\.2|127\.0\.0\.1|\Q$org\E|\Q$key\E|sk_|ada/, 'no key, org, person, address or path of a client is in one');


# The pool and the database

my $locker = $node->background_psql('postgres');
$locker->query_safe('BEGIN; LOCK TABLE overten_auth.idempotency_keys, overten_auth.orgs');
my $body = '{"name": "more"}';
my @curls = map {
	start_process("waiting_$_", {}, 'curl', '--silent', '--noproxy', '*', '--header', $ada, '--header', $json,
		'--data-binary', $body, "$public$keys")
} 1 .. 5;
my $server = 'server="' . $node->host . ':' . $node->port . '"';
my $state = sub { join ' ', value('requests_running'), map { value("pool_$_", $server) } qw(connections_used waiting connections_max) };
wait_until('the requests wait', sub { $state->() =~ / 2 3 8$/ });
is($state->(), '6 2 3 8', 'what the pool is doing');    # the request that reads it runs, too
is(value('database_errors_total', 'class="57"') // 0, 0, 'no error yet');
$node->poll_query_until('postgres', q{SELECT count(*) = 2 FROM pg_stat_activity WHERE usename = 'overten_gateway' AND wait_event_type = 'Lock'})
  or die 'no request waits for the lock';
ask($node, q{SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE usename = 'overten_gateway' AND wait_event_type = 'Lock' LIMIT 1});
wait_until('the error is counted', sub { value('database_errors_total', 'class="57"') // 0 });
is(value('database_errors_total', 'class="57"'), 1, 'an error of the database is counted by its class');

my $hasty = start_gateway($node, 'hasty', METRICS_LISTEN => '127.0.0.1:0', POOL_SIZE => 1,
	CONNECT_TIMEOUT_MS => 300, QUERY_TIMEOUT_MS => 5000);
my @hasty = map {
	start_process("hasty_$_", {}, 'curl', '--silent', '--noproxy', '*', '--header', $ada, '--header', $json,
		'--data-binary', $body, "$hasty->{url}$keys")
} 1 .. 2;
wait_until('one waits in vain for a connection', sub {
	request($hasty->{metrics_url}, 'GET', '/metrics')->{body} =~ /^overten_gateway_database_errors_total\{class="timeout"\} 1$/m;
});
pass('a request that gets no connection is counted');
$locker->query_safe('ROLLBACK');
$locker->quit;
stop_process($_) foreach @curls, @hasty, $hasty;
wait_until('they are answered', sub { $state->() =~ / 0 0 8$/ });
is(requests('POST', $template, 503, 'service_unavailable'), 1, 'the one that was canceled');

$node->stop;
is(summary(request($public, 'GET', '/api/v1/verify', [$good])), '503 service_unavailable', 'without the database');
wait_until('that is counted', sub { value('database_errors_total', 'class="connection"') // 0 });
is(requests('GET', '/api/v1/verify', 503, 'service_unavailable'), 1, 'the metrics are answered all the same');
is(stop_process($gateway), 0, 'it ends as always');

done_testing();
