
# Nothing ends the gateway, or loses a request that it is busy with: not what the
# database returns, whatever that is, nor a server that ends a connection, nor what a
# client sends behind a good request, nor a client that goes away, nor a mistake in the
# program, nor a signal.  pg_regress has no HTTP.

use strict;
use warnings FATAL => 'all';

use FindBin;
use lib $FindBin::RealBin;
use GatewayTest;
use IO::Socket::INET;
use OvertenTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Socket qw(SOL_SOCKET SO_LINGER);
use Test::More;
use Time::HiRes qw(usleep);

my $node = create_api_node('gateway_faults', '');
# How long somebody waits here is the machine's business.
ask($node, 'ALTER ROLE overten_gateway SET statement_timeout = 0');
my %patience = map { $_ => 1000 * $PostgreSQL::Test::Utils::timeout_default }
  qw(CONNECT_TIMEOUT_MS QUERY_TIMEOUT_MS SHUTDOWN_TIMEOUT_MS);
my $org = create_org($node, 'Org');
ask($node, "SELECT overten_set_api_access('$org', true), overten_add_member('$org', 'ada')");
my ($secret, $key) = mint($node, $org);
my $good = "Authorization: Bearer $secret";
my $ada = 'Authorization: Bearer ' . sign('ada');
# One person has a quarter of the pool, and sends nine requests.
my $gateway = start_gateway($node, 'faulty', METRICS_LISTEN => '127.0.0.1:0', POOL_SIZE => 36, %patience);
my $port = $gateway->{port};

# A request that waits for a lock of this session, in the pool, where others need not
# wait for it.
my $lock = $node->background_psql('postgres');
my $slow = "/api/v1/organizations/$org/api-keys/$key/usage";

sub hold
{
	$lock->query_safe('BEGIN; LOCK TABLE overten_auth.members');
}

sub wait_for_slow
{
	my ($count) = @_;

	$node->poll_query_until('postgres',
		"SELECT count(*) = $count FROM pg_stat_activity WHERE wait_event_type = 'Lock'");
}

sub release
{
	$lock->query_safe('ROLLBACK');
}

sub connect_to
{
	my ($where) = @_;
	return IO::Socket::INET->new(PeerAddr => '127.0.0.1', PeerPort => $where->{port}) // die "cannot connect: $!";
}

# Break a connection off, so that the other side gets an error.
sub reset_connection
{
	my ($socket) = @_;

	$socket->setsockopt(SOL_SOCKET, SO_LINGER, pack 'ii', 1, 0) or die "cannot set SO_LINGER: $!";
	$socket->close;
}

sub metrics
{
	return request($gateway->{metrics_url}, 'GET', '/metrics')->{body};
}

# How many requests run, but for the one that asks.
sub running
{
	return (metrics() =~ /^overten_gateway_requests_running (\d+)$/m)[0] - 1;
}

# How many requests were counted, or logged, but for those that ask.
sub counted
{
	my $sum = 0;

	$sum += $_ foreach metrics() =~ /^overten_gateway_requests_total\{.*\} (\d+)$/mg;
	return $sum;
}

sub logged
{
	return scalar grep { !m{"path":"/metrics"} } split /\n/, slurp_file($gateway->{out});
}

# Wait until a number is what is expected.
sub comes_to
{
	my ($number, $expected, $what) = @_;
	my $limit = time + $PostgreSQL::Test::Utils::timeout_default;

	usleep(10_000) while $number->() != $expected && time < $limit;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	is($number->(), $expected, $what);
}

# Raw requests.
sub raw
{
	my ($first, @lines) = @_;
	return join "\r\n", $first, 'Host: localhost', @lines, '', '';
}

sub statuses
{
	my ($text) = @_;
	return join ' ', $text =~ m{HTTP/1\.1 (\d+) }g;
}

my $slow_request = raw("GET $slow HTTP/1.1", $ada);
my $quick_request = raw('GET /api/v1/verify HTTP/1.1', $good);


# A tier can have any name.

hold();
my $waiting = connect_to($gateway);
$waiting->syswrite(raw("GET $slow HTTP/1.1", $ada, 'Connection: close'));
wait_for_slow(1);
my %tiers = (
	"'free'" => 'free', "'pro plan 50%'" => 'pro%20plan%2050%25', "'a,b;c=\"d\"'" => 'a%2Cb%3Bc%3D%22d%22',
	"U&'\\4F01\\696D'" => '%E4%BC%81%E6%A5%AD', "E'a\\r\\nX-Overten-Org-Id: org_x\\x01'" => 'a%0D%0AX-Overten-Org-Id%3A%20org_x%01',
	"repeat(U&'\\+01F511', 64)" => '%F0%9F%94%91' x 64);
foreach my $tier (sort keys %tiers)
{
	ask($node, "INSERT INTO overten_auth.tiers (name) VALUES ($tier) ON CONFLICT DO NOTHING; SELECT overten_set_tier('$org', $tier)");
	my $answer = request($gateway->{authorize_url}, 'GET', '/authorize', [$good]);
	is_deeply([ $answer->{status}, @{ $answer->{headers} }{ map { "x-overten-$_" } qw(org-id tier key-prefix) } ],
		[ 200, [$org], [ $tiers{$tier} ], [ substr $secret, 0, 12 ] ], "the tier $tier");
}
release();
is(statuses(rest_of($waiting)), '200', 'a request that waited meanwhile');


# What a client sends behind good requests is answered behind them.

my $rubbish = "RUBBISH\r\n\r\n";
my @pipelined = (
	[ 'rubbish', "$slow_request$rubbish", '200 400' ],
	[ 'rubbish twice', "$slow_request$rubbish$rubbish", '200 400' ],
	[ 'rubbish behind two', "$slow_request$quick_request$rubbish", '200 200 400' ],
	[ 'rubbish behind two in another order', "$quick_request$slow_request$rubbish", '200 200 400' ],
	[ 'headers that are too large', $slow_request . raw('GET /x HTTP/1.1', 'X: ' . 'x' x 40_000), '200 431' ],
	[ 'CONNECT', "${slow_request}CONNECT x:1 HTTP/1.1\r\nHost: x:1\r\n\r\n", '200 400' ],
	[ 'a body in bad chunks', $slow_request . raw('POST /api/v1/signup HTTP/1.1', $ada, 'Content-Type: application/json', 'Transfer-Encoding: chunked') . "zz\r\n", '200 400' ],
	[ 'a bad chunk after the answer', $slow_request . raw('POST /nowhere HTTP/1.1', 'Content-Type: application/json', 'Transfer-Encoding: chunked') . "5000\r\n" . 'x' x 0x5000 . "\r\nzz\r\n", '200 400' ],
	[ 'rubbish after the last', raw("GET $slow HTTP/1.1", $ada, 'Connection: close') . $rubbish, '200' ]);
my $before = counted();
hold();
my @sockets = map { my $socket = connect_to($gateway); $socket->syswrite($_->[1]); $socket } @pipelined;
wait_for_slow(scalar @pipelined);
release();
is(statuses(rest_of($sockets[$_])), $pipelined[$_][2], "pipelined: $pipelined[$_][0]") foreach 0 .. $#pipelined;
my @answers = map { split / /, $_->[2] } @pipelined;
comes_to(sub { counted() - $before }, scalar @answers, 'pipelined: each is counted once');


# A client breaks off a connection that node has handed over because of its CONNECT.

my $tunnels = start_gateway($node, 'tunnels', METRICS_LISTEN => '127.0.0.1:0', %patience);
my $connect = "CONNECT x:80 HTTP/1.1\r\nHost: x\r\n\r\n";
hold();
@sockets = map { connect_to({ port => $tunnels->{$_} }) } qw(port authorize_port metrics_port port);
$sockets[$_]->syswrite($connect) foreach 0 .. 2;
foreach (0 .. 2)
{
	$sockets[$_]->sysread(my $answer, 12);
	is($answer, 'HTTP/1.1 400', "CONNECT is refused at address $_");
}
$sockets[3]->syswrite("$slow_request$connect");
wait_for_slow(1);
reset_connection($_) foreach @sockets;
release();
is(request($tunnels->{url}, 'GET', '/healthz')->{status}, 200, 'CONNECT: the gateway lives on');
is(stop_process($tunnels), 0, 'CONNECT: it ends well');
unlike(slurp_file($tunnels->{err}), qr/uncaught/, 'CONNECT: nothing was uncaught');


# A client goes away before the answers to what it has sent.  A CONNECT is no request of
# ours until its turn comes.

my @left = (
	[ 4, $slow_request . $quick_request x 3 ],
	[ 2, $slow_request . raw('POST /api/v1/signup HTTP/1.1', 'Content-Type: application/json', 'Transfer-Encoding: chunked') . "zz\r\n" ],
	[ 2, "$slow_request${quick_request}CONNECT x:1 HTTP/1.1\r\nHost: x:1\r\n\r\n" ]);
my $all_left = 0;
$all_left += $_->[0] foreach @left;
wait_until('what was refused is logged', sub { running() == 0 });
my ($counted_before, $logged_before) = (counted(), logged());
hold();
@sockets = map { my $socket = connect_to($gateway); $socket->syswrite($_->[1]); $socket } @left;
wait_for_slow(scalar @left);
comes_to(\&running, $all_left, 'left: all run');
reset_connection($_) foreach @sockets;
comes_to(\&running, 0, 'left: none runs when its connection is closed');
release();
comes_to(sub { counted() - $counted_before }, $all_left, 'left: each is counted once');
comes_to(sub { logged() - $logged_before }, $all_left, 'left: each is logged once');


# A mistake in the program, and signals: a request that is running is answered.

foreach my $case (
	[ 'USR2', 1, qr/^gateway: uncaught RangeError\n    at .*throw_on_signal.*^gateway: RangeError: stopping, requests that are running: 1\n.*^gateway: stopped$/ms ],
	[ 'TERM', 0, qr/^gateway: SIGTERM: stopping, requests that are running: 1\n.*^gateway: stopped$/ms ],
	[ 'INT', 0, qr/^gateway: SIGINT: stopping, requests that are running: 1\n.*^gateway: stopped$/ms ])
{
	my ($signal, $status, $said) = @$case;
	my $ending = start_gateway($node, "ending_$signal", %patience,
		NODE_OPTIONS => "--require=$FindBin::RealBin/../http/throw_on_signal.cjs");
	my $idle = connect_to($ending);
	my $running = connect_to($ending);

	hold();
	$running->syswrite($slow_request);
	wait_for_slow(1);
	$ending->{run}->signal($signal);
	wait_until("SIG$signal is heard", sub { slurp_file($ending->{err}) =~ /stopping/ });
	release();
	is(statuses(rest_of($running)), '200', "SIG$signal: a running request is answered");
	is(rest_of($idle), '', "SIG$signal: an idle connection is closed");
	is(stop_process($ending) >> 8, $status, "SIG$signal: exit status");
	like(slurp_file($ending->{err}), $said, "SIG$signal: what is logged");
	unlike(slurp_file($ending->{err}), qr/sk_live_/, "SIG$signal: no secret is");
}
$lock->quit;


# The server ends a connection that the gateway makes, or asks on, and says so together
# with an answer before that: the first lets it in, the second is to SET search_path.

foreach my $number (1 .. 3)
{
	my $relay = start_relay("relay_$number", $node, $number);
	my $said = sub { return scalar(() = slurp_file($relay->{out}) =~ /^$_[0]/mg) };
	my $behind = start_gateway($node, "behind_$number", PGHOST => '127.0.0.1', PGPORT => $relay->{port},
		METRICS_LISTEN => '127.0.0.1:0', %patience);
	my $connections = sub {
		my $text = request($behind->{metrics_url}, 'GET', '/metrics')->{body};
		return join ' ', $text =~ /^overten_gateway_pool_connections_(?:used|idle)\S* (\d+)$/mg;
	};
	my $in_time = $number == 3 ? 200 : 503;
	# A request that has not been sent yet goes to the next pipeline.
	my @requests = (
		[ 'in a pipeline', $quick_request, $number == 2 ? 200 : $in_time ],
		[ 'in the pool', $slow_request, $in_time ],
		[ 'of the health check', raw('GET /readyz HTTP/1.1'), $in_time ]);

	is(request($behind->{url}, 'GET', '/api/v1/verify', [$good])->{status}, 200, "through a relay, $number");
	foreach (0 .. $#requests)
	{
		my ($what, $text, $status) = @{ $requests[$_] };
		my $times = $_ + 1;

		$relay->{run}->signal('USR2');
		wait_until('all connections are closed', sub { $said->('closed') == $times && $connections->() eq '0 0' });
		my $asking = connect_to($behind);
		$asking->syswrite($text =~ s/\r\n\r\n\z/\r\nConnection: close\r\n\r\n/r);
		wait_until('an answer is held back', sub { $said->('held') == $times });
		ask($node, "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE usename = 'overten_gateway' AND application_name = 'overten_auth gateway'");
		is(statuses(rest_of($asking)), $status, "the server ends a connection $what, with answer $number");
	}
	is(request($behind->{url}, 'GET', '/api/v1/verify', [$good])->{status}, 200, 'the same process goes on');
	is(stop_process($behind), 0, 'and ends well');
	stop_process($relay);
}


# What overten_handle_request could return if it were another.

ask($node, <<'EOQ');
CREATE TABLE told (status int, headers json, body text);
CREATE FUNCTION tell() RETURNS SETOF told LANGUAGE sql STABLE SECURITY DEFINER AS 'SELECT * FROM public.told';
CREATE OR REPLACE FUNCTION overten_handle_request(method text, path text, headers json, body bytea)
	RETURNS overten_auth.http_response LANGUAGE sql AS 'SELECT status, headers, body FROM public.tell()';
CREATE OR REPLACE FUNCTION overten_authorize_request(query text, headers json)
	RETURNS overten_auth.http_response LANGUAGE sql AS 'SELECT status, headers, body FROM public.tell()';
EOQ

# What the gateway makes of a row.
sub told
{
	my ($status, $headers, $body, $to, $path) = @_;

	ask($node, "TRUNCATE told; INSERT INTO told VALUES ($status, $headers, $body)");
	return bytes($to // $port, raw('GET ' . ($path // '/api/v1/verify') . ' HTTP/1.1', 'Connection: close'));
}

is(told(200, "'{}'", "'x'")->{body}, 'x', 'a function that returns what it is told');
is(summary(told($_, "'{}'", "'x'")), '500 internal_error', "a status of $_")
  foreach 'NULL', 0, -1, 99, 100, 101, 199, 600, 1000, 2147483647;
is(summary(told(200, $_, "'x'")), '500 internal_error', "headers of $_")
  foreach 'NULL', "'null'", "'[]'", "'\"x\"'", "'1'", "'{\"a\":null}'", "'{\"a\":1}'", "'{\"a\":[\"b\"]}'", "'{\"a\":{}}'",
  "'{\"a\":true}'", "'{\"\":\"b\"}'", "'{\"a b\":\"c\"}'", "'{\"a\\nb\":\"c\"}'", "'{\"\\u00fc\":\"c\"}'", "'{\"a\":\"b\\r\\nc: d\"}'",
  "'{\"a\":\"\\u0000\"}'", "'{\"a\":\"\\u4f01\"}'", "'{\"a\":\"\\ud800\"}'", "'{\"Transfer-Encoding\":\"chunked\"}'",
  "'{\"content-length\":\"0\"}'", "'{\"Connection\":\"close\"}'";
is(told(200, $_, "'x'")->{body}, 'x', "headers of " . substr($_, 0, 40))
  foreach "'{\"__proto__\":\"a\",\"constructor\":\"b\",\"toString\":\"c\"}'", "json_build_object('a', repeat('b', 1000000))",
  "(SELECT json_object_agg(i, i::text) FROM generate_series(1, 5000) i)";
is(told(200, "'{}'", $_->[0])->{body}, $_->[1], "a body of $_->[0]")
  foreach [ 'NULL', '' ], [ "''", '' ], [ "E'\\x01\\r\\n\\t'", "\x01\r\n\t" ], [ "repeat('x', 3000000)", 'x' x 3000000 ];
is(told(204, "'{}'", "'x'")->{body}, '', '204 with a body');
is(told(304, "'{}'", "'x'")->{body}, '', '304 with a body');
is(summary(told(@$_, $gateway->{authorize_port}, '/authorize')), '500 internal_error', "to /authorize: $_->[0], $_->[1]")
  foreach [ 'NULL', "'{}'", "'x'" ], [ 99, "'{}'", "'x'" ], [ 200, "'[]'", "'x'" ], [ 200, "'{\"a\":\"b\\r\\nc: d\"}'", "'x'" ];
is(told(200, "'{}'", "'x'", $gateway->{authorize_port}, '/authorize')->{body}, 'x', 'to /authorize what it is told');

# A service behind protect.mjs lives on, too, and lets nobody in.
my $service = start_service('told_service', $gateway->{authorize_url});

sub told_service
{
	my ($status, $headers, $body) = @_;

	ask($node, "TRUNCATE told; INSERT INTO told VALUES ($status, $headers, $body)");
	return summary(bytes($service->{port}, raw('GET / HTTP/1.1', $good, 'Connection: close')));
}

my $whose = '{"x-overten-key-id":"k","x-overten-org-id":"a","x-overten-tier":"b","x-overten-key-prefix":"c"}';
is(told_service(200, "'$whose'", $_), '503 service_unavailable', "a service whose gateway answers $_")
  foreach 'NULL', "''", "'x'", "'null'", "'[]'", "'1'";
is(told_service(200, "'$_'", "'{}'"), '503 service_unavailable', "a service whose gateway answers with $_")
  foreach '{}', map { $whose =~ s/"x-overten-$_":"\w",?//r =~ s/,\}/}/r } qw(key-id org-id tier key-prefix);
is(told_service($_, "'{\"location\":\"/healthz\"}'", "'{}'"), '503 service_unavailable', "a service whose gateway answers with $_")
  foreach 201, 204, 301, 400, 404, 500;
is(told_service(200, "'$whose'", "'{\"org_id\":\"a\"}'"), '200', 'one whose gateway knows the key');
stop_process($service);
$service = start_service('addressed_service', $gateway->{authorize_url}, '', 'x-test-address');
is(summary(bytes($service->{port}, raw('GET / HTTP/1.1', $good, 'Connection: close', @$_))), $_->[0] ? '200' : '503 service_unavailable',
	'a service that finds an address, or fails to: ' . scalar @$_)
  foreach [], ['X-Test-Address: 192.0.2.1'];
is(stop_process($service), 0, 'it lives on');

# And if it were of other types, or none.
foreach my $case (
	[ 'TABLE (status text, headers text, body bytea)', "VALUES ('200', '{}', ''::bytea)" ],
	[ 'TABLE (status int, headers text, body text)', "VALUES (200, '{}', 'x')" ],
	[ 'TABLE (status int, headers json, body bytea)', "VALUES (200, '{}'::json, ''::bytea)" ],
	[ 'TABLE (status int8, headers json, body text)', "VALUES (200::int8, '{}'::json, 'x')" ],
	[ 'TABLE (status int, headers json, body text)', "SELECT 200, '{}'::json, 'x' WHERE false" ],
	[ 'TABLE (status int, headers json, body text)', "VALUES (200, '{}'::json, 'x'), (200, '{}'::json, 'x')" ],
	[ 'TABLE (status int, body text)', "VALUES (200, 'x')" ],
	[ 'text', "SELECT 'x'::text" ],
	[ 'void', 'SELECT' ])
{
	my ($type, $query) = @$case;

	ask($node, <<"EOQ");
DO \$\$BEGIN
	ALTER EXTENSION overten_auth DROP FUNCTION overten_handle_request(text, text, json, bytea);
EXCEPTION WHEN object_not_in_prerequisite_state THEN
END\$\$;
DROP FUNCTION overten_handle_request(text, text, json, bytea);
CREATE FUNCTION overten_handle_request(text, text, json, bytea) RETURNS $type LANGUAGE sql AS \$\$$query\$\$;
EOQ
	is(summary(bytes($port, raw('GET /api/v1/verify HTTP/1.1', 'Connection: close'))), '500 internal_error', "a function that returns $type: $query");
}
ask($node, 'DROP FUNCTION overten_handle_request(text, text, json, bytea)');
is(summary(bytes($port, raw('GET /api/v1/verify HTTP/1.1', 'Connection: close'))), '500 internal_error', 'no function');
ask($node, 'DROP EXTENSION overten_auth CASCADE');
is(summary(bytes($port, raw('GET /api/v1/verify HTTP/1.1', 'Connection: close'))), '500 internal_error', 'no extension');
is(request($gateway->{url}, 'GET', '/healthz')->{status}, 200, 'the same process is still there');
is(stop_process($gateway), 0, 'and ends well');
unlike(slurp_file($gateway->{out}) . slurp_file($gateway->{err}), qr/sk_live_s/, 'nothing of what it was told is logged');
done_testing();
