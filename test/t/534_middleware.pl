
# The middleware of docs/clients.md for Express and Flask: asked by real requests, it
# answers as the gateway's /authorize does, lets nobody in when the database does not
# answer, and keeps keys out of every log.  pg_regress has no HTTP.

use strict;
use warnings FATAL => 'all';

use FindBin;
use lib $FindBin::RealBin;
use ClientTest;
use GatewayTest;
use IO::Socket::INET;
use OvertenTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $top = "$FindBin::RealBin/../..";
my $node = create_client_node('middleware', <<'EOC');
shared_preload_libraries = 'overten_auth'
overten_auth.databases = 'app'
EOC
my $app = [ $node, 'app' ];
ask($app, slurp_file("$top/gateway/roles.sql") =~ s/^\\.*\n//mgr =~ s/:"schema"/public/gr);
ask($app, 'ALTER ROLE service SET statement_timeout = 0; ALTER ROLE overten_gateway SET statement_timeout = 0');

# Start a program of the page, where some lines may be changed; returns its process, with
# its url.
sub start_program
{
	my ($file, $command, $name, %replace) = @_;
	my $port = free_port();
	my $within = PostgreSQL::Test::Utils::tempdir;
	my $path = write_module($within, $file, '9000' => $port, %replace);
	my $process = start_process($name // $file, { PGHOST => $node->host, PGPORT => $node->port }, $command, $path);

	wait_until("$file listens", sub { IO::Socket::INET->new(PeerAddr => '127.0.0.1', PeerPort => $port) });
	$process->{url} = "http://127.0.0.1:$port";
	return $process;
}

my %programs = (
	express => start_program('express.mjs', 'node'),
	flask => start_program('flask_service.py', '/usr/bin/python3'));
my $gateway = start_gateway($node, 'middleware_gateway', PGDATABASE => 'app',
	map { $_ => 1000 * $PostgreSQL::Test::Utils::timeout_default } qw(CONNECT_TIMEOUT_MS QUERY_TIMEOUT_MS));
# With the lines about X-API-Key, which are comments, and with a view that shows what it sees.
my %keyed = (
	express => start_program('express.mjs', 'node', 'keyed_express', q{// 'x-overten-api-key'} => q{'x-overten-api-key'},
		'// HIDDEN' => 'HIDDEN', q{response.send('Found\n')} => 'response.json([request.headers, request.headersDistinct, request.rawHeaders])'),
	flask => start_program('flask_service.py', '/usr/bin/python3', 'keyed_flask',
		'# if "X-API-Key"' => 'if "X-API-Key"', '#     headers["x-overten' => '    headers["x-overten',
		'# HIDDEN' => 'HIDDEN', 'return "Found\n"' => 'return json.dumps([dict(request.headers), str(request.authorization)])'));
my %authorize = ('/' => '/authorize', '/search' => '/authorize?cost=50&scope=documents:read');

# What the client gets: the status, what the API has in headers, and the body.  How many
# seconds there are until something is another matter.
sub shown
{
	my ($response, $without_body) = @_;
	my %headers = map { $_ => join ', ', @{ $response->{headers}{$_} } }
	  grep { exists $response->{headers}{$_} }
	  qw(content-type cache-control www-authenticate retry-after ratelimit ratelimit-policy);

	$headers{ratelimit} =~ s/t=\d+$/t=SECONDS/ if $headers{ratelimit};
	$headers{'retry-after'} =~ s/^\d{2,}$/SECONDS/ if $headers{'retry-after'};
	# Of another answer than a refusal, the body is the program's.
	delete @headers{ 'content-type', 'cache-control' } if $response->{status} == 200;
	$headers{ours} = join ' ', grep { /^x-overten/ } sort keys %{ $response->{headers} } unless $without_body;
	return { status => $response->{status}, headers => \%headers, body => $without_body ? '' : $response->{body} };
}

# Ask the gateway, which tells a proxy more than a client may know.
sub expected
{
	my ($path, @headers) = @_;
	my $response = request($gateway->{authorize_url}, 'GET', $authorize{$path}, \@headers);

	delete $response->{headers}{$_} foreach grep { /^x-overten/ } keys %{ $response->{headers} };
	return shown($response);
}

ask($app, "INSERT INTO overten_auth.scopes (name) VALUES ('documents:read'), ('documents:write')");
my $org = create_org($app, 'Readers');
my @secrets;

# The secret of a new key, or one for each asker if it has a limit.
sub new_key
{
	my (@arguments) = @_;
	my ($secret, $key) = split /\|/, ask($app, 'SELECT secret, key_id FROM overten_mint_key(' . join(', ', "'$org'", @arguments) . ')');

	push @secrets, $secret;
	return wantarray ? ($secret, $key) : $secret;
}

my ($revoked, $revoked_key) = new_key();
my ($disabled, $disabled_key) = new_key();
my $unknown = 'sk_live_' . 'Unknown' x 4;
push @secrets, $unknown;
ask($app, "SELECT overten_revoke_key('$org', '$revoked_key'), overten_disable_key('$org', '$disabled_key')");
my $plain = new_key();
my $expired = new_key("expires_at => now() + interval '1 hour'");
ask($app, 'UPDATE overten_auth.api_keys SET expires_at = clock_timestamp() WHERE expires_at > clock_timestamp()');
my %refused = (
	'no credential' => [ '/', 401 ],
	'an empty one' => [ '/', 401, 'Authorization;' ],
	'another scheme' => [ '/', 401, "Authorization: Basic $unknown" ],
	'an unknown key' => [ '/', 401, "Authorization: Bearer $unknown" ],
	'a revoked key' => [ '/', 401, "Authorization: Bearer $revoked" ],
	'a disabled key' => [ '/', 401, "Authorization: Bearer $disabled" ],
	'an expired key' => [ '/', 401, 'Authorization: Bearer ' . $expired ],
	'bytes that are not ASCII' => [ '/', 401, "Authorization: Bearer $plain\xe9" ],
	'another address' => [ '/', 403, 'Authorization: Bearer ' . new_key("allowed_addresses => '{192.0.2.0/24}'") ],
	'a scope that is missing' => [ '/search', 403, 'Authorization: Bearer ' . new_key("scopes => '{documents:write}'") ]);
my $here = new_key("allowed_addresses => '{127.0.0.1}'");

foreach my $what (sort keys %refused)
{
	my ($path, $status, @headers) = @{ $refused{$what} };
	my $expected = expected($path, @headers);

	is($expected->{status}, $status, "$what: $status");
	is_deeply(shown(request($programs{$_}{url}, 'GET', $path, \@headers)), $expected, "$what: $_ answers so") foreach sort keys %programs;
}
foreach my $name (sort keys %programs)
{
	my $url = $programs{$name}{url};
	my $answer = request($url, 'GET', '/', ["Authorization: Bearer $plain"]);

	is("$answer->{status} $answer->{body}", "200 Hello, Readers\n", "$name: a good key");
	is(request($url, 'GET', '/', ["Authorization: Bearer $here"])->{status}, 200, "$name: from where it may be used");
	is(request($url, 'GET', '/', [ @$_, "X-Overten-Authorization: Bearer $plain" ])->{status}, 401,
		"$name: a key in a header of ours is none") foreach [], ["Authorization: Bearer $unknown"];
	$answer = request($url, 'HEAD', '/', []);
	is_deeply(shown($answer, 1), { %{ expected('/') }, headers => { map { $_ => expected('/')->{headers}{$_} }
			grep { $_ ne 'ours' } keys %{ expected('/')->{headers} } }, body => '' }, "$name: HEAD");
	is($answer->{body}, '', "$name: without a body");
}

# Two credentials, even if they are equal
my @twice = ("Authorization: Bearer $plain", "Authorization: Bearer $plain");
is_deeply(shown(request($programs{express}{url}, 'GET', '/', \@twice)), expected('/', @twice), 'express: two credentials');
is(request($programs{flask}{url}, 'GET', '/', \@twice)->{status}, 401, 'flask: two credentials');

# X-API-Key, which means nothing unless its lines are turned on
foreach my $name (sort keys %programs)
{
	my $sent = "X-API-Key: $plain";
	my $ask = sub { my ($asked, @headers) = @_; return request($asked->{$name}{url}, 'GET', '/', \@headers) };

	is($ask->(\%programs, $sent)->{status}, 401, "$name: X-API-Key is off");
	is($ask->(\%programs, $sent, "Authorization: Bearer $plain")->{status}, 200, "$name: and beside a Bearer, too");
	is($ask->(\%keyed, $sent)->{body}, "Hello, Readers\n", "$name: X-API-Key is on");
	is($ask->(\%keyed, "Authorization: Bearer $plain")->{body}, "Hello, Readers\n", "$name: and so is a Bearer");
	is(summary($ask->(\%keyed, "X-API-Key: $_")), '401 invalid_api_key', "$name: no good key") foreach $unknown, $revoked, "Bearer $plain";
	is(summary($ask->(\%keyed, 'X-API-Key;')), '401 missing_credentials', "$name: an empty one");
	is(summary($ask->(\%keyed, @$_)), '400 invalid_request', "$name: two credentials")
	  foreach [ $sent, "Authorization: Bearer $plain" ], [ $sent, $sent ], ["X-API-Key: $plain,$plain"];
}

# What goes on has neither the credential nor what a client has made up.
my $reader = new_key("scopes => '{documents:read}'");
foreach my $name (sort keys %keyed)
{
	foreach my $sent ("Authorization: Bearer $reader", "X-API-Key: $reader")
	{
		my $seen = request($keyed{$name}{url}, 'GET', '/search', [ $sent, 'X-Overten-Org-Id: forged', 'X_Overten_Tier: forged', 'X-Other: kept' ]);

		is($seen->{status}, 200, "$name: a request goes on");
		like($seen->{body}, qr/kept/, 'with its headers');
		unlike($seen->{body}, qr/\Q$reader\E|forged/, 'and without the credential and forged names');
	}
}

# A database with another encoding than UTF-8 takes what a client sends, too.
ask($app, "CREATE DATABASE cyrillic TEMPLATE template0 ENCODING 'WIN1251' LC_COLLATE 'C' LC_CTYPE 'C'");
ask([ $node, 'cyrillic' ], 'CREATE EXTENSION overten_auth CASCADE; GRANT EXECUTE ON FUNCTION overten_authorize_request(text, json) TO service');
my %cyrillic = (
	express => start_program('express.mjs', 'node', 'cyrillic_express', q{'app'} => q{'cyrillic'}),
	flask => start_program('flask_service.py', '/usr/bin/python3', 'cyrillic_flask', 'dbname=app' => 'dbname=cyrillic'));
my $before = -s $node->logfile;
is(summary(request($cyrillic{$_}{url}, 'GET', '/', ["Authorization: Bearer sk_live_\xe9"])), '401 invalid_api_key', "$_: a byte that WIN1251 lacks")
  foreach sort keys %cyrillic;
unlike(slurp_file($node->logfile, $before), qr/ERROR/, 'which is no error of the server');
stop_process($_, 'KILL') foreach values %cyrillic;

# Limits: each asks with a key of its own.
my %limited = map { my ($secret, $key) = new_key(); $_ => { secret => $secret, key => $key } } 'gateway', keys %programs;
ask($app, "SELECT overten_set_limit('key', '$_->{key}', 'in_12_hours', 60, '12 hours')") foreach values %limited;
foreach my $path ('/', '/search', '/search', '/')
{
	my $expected = expected($path, "Authorization: Bearer $limited{gateway}{secret}");

	foreach my $name (sort keys %programs)
	{
		my $shown = shown(request($programs{$name}{url}, 'GET', $path, ["Authorization: Bearer $limited{$name}{secret}"]));

		$shown->{body} = $expected->{body} if $shown->{status} == 200;
		is_deeply($shown, $expected, "$name: $path with a limit, $expected->{status} $expected->{headers}{ratelimit}");
	}
}
is(expected('/search', "Authorization: Bearer $limited{gateway}{secret}")->{status}, 429, 'there was one too many');

# When the database does not say yes, nobody is let in.
ask($app, 'REVOKE EXECUTE ON FUNCTION overten_authorize_request(text, json) FROM service');
is(request($programs{$_}{url}, 'GET', '/', ["Authorization: Bearer $plain"])->{status}, 503, "$_: it may not ask") foreach sort keys %programs;
ask($app, 'GRANT EXECUTE ON FUNCTION overten_authorize_request(text, json) TO service');
# Between them and the server something stops passing on what it has, for good, as a
# network does that is gone; new connections get nowhere for a while.
my $proxy_port = free_port();
my $proxy = start_process('proxy', {}, 'node', '-e', <<'EOP', $proxy_port, $node->port);
const net = require('node:net');
const [port, server] = process.argv.slice(1).map(Number);
let passes = true;
const passing = new Set();
process.on('SIGUSR2', () => {
	passes = !passes;
	for (const socket of passing) socket.unpipe().pause();
	passing.clear();
});
net.createServer((client) => {
	client.on('error', () => {});
	if (!passes) return;
	const upstream = net.connect(server, '127.0.0.1').on('error', () => {});
	for (const socket of [client, upstream]) passing.add(socket);
	client.pipe(upstream).pipe(client);
}).listen(port, '127.0.0.1');
EOP
wait_until('the proxy listens', sub { IO::Socket::INET->new(PeerAddr => '127.0.0.1', PeerPort => $proxy_port) });
my %behind = (
	express => start_program('express.mjs', 'node', 'express_behind', q{database: 'app'} => "host: '127.0.0.1', port: $proxy_port, database: 'app'"),
	flask => start_program('flask_service.py', '/usr/bin/python3', 'flask_behind', 'dbname=app' => "host=127.0.0.1 port=$proxy_port dbname=app"));
my $good = sub { return request($behind{ $_[0] }{url}, 'GET', '/', ["Authorization: Bearer $plain"])->{status} };
is($good->($_), 200, "$_: through a proxy") foreach sort keys %behind;
$proxy->{run}->signal('USR2');
my $asked = 0;
my @asking = map { start_process('asking_' . $asked++, {}, 'curl', '--silent', '--noproxy', '*', '--header', "Authorization: Bearer $plain", '--write-out', '%{http_code}', "$behind{$_}{url}/") }
  ('express', ('flask') x 5);
$_->{run}->finish foreach @asking;
is(join(' ', map { slurp_file($_->{out}) =~ /(\d+)\z/ } @asking), join(' ', (503) x 6), 'which stops');
$proxy->{run}->signal('USR2');
wait_until("$_ recovers", sub { $good->($_) == 200 }) foreach sort keys %behind;
stop_process($_, 'KILL') foreach values %behind, $proxy;

my @processes = split /\n/, ask($app, "SELECT pid FROM pg_stat_activity WHERE pid <> pg_backend_pid()");
kill STOP => @processes, $node->{_pid};
is(summary(request($programs{$_}{url}, 'GET', '/', ["Authorization: Bearer $plain"])), '503 service_unavailable', "$_: the server hangs") foreach sort keys %programs;
kill CONT => @processes, $node->{_pid};
is(request($programs{$_}{url}, 'GET', '/', ["Authorization: Bearer $plain"])->{status}, 200, "$_: it works again") foreach sort keys %programs;
$node->stop('fast');
my $away = expected('/', "Authorization: Bearer $plain");
is($away->{status}, 503, 'the server is away: 503');
is_deeply(shown(request($programs{$_}{url}, 'GET', '/', ["Authorization: Bearer $plain"])), $away, "the server is away: $_") foreach sort keys %programs;
$node->start;
foreach my $name (sort keys %programs)
{
	my %statuses;

	wait_until("$name recovers", sub {
		return $statuses{ request($programs{$name}{url}, 'GET', '/', ["Authorization: Bearer $plain"])->{status} }++
		  || $statuses{200};
	}) until $statuses{200};
	is(join(' ', sort grep { $_ ne '503' } keys %statuses), '200', "$name: it recovers, and answers nothing else before");
}

# Secrecy.  That the search finds what is there is tested with the other modules.
my $log = slurp_file($node->logfile);
like($log, qr/overten_authorize_request\(\$1, \$2\)/, 'the questions are in the log');
is(leaks_in($log, @secrets), 0, 'no key is in the log');
foreach my $name (sort keys %programs)
{
	is(leaks_in(slurp_file($programs{$name}{out}) . slurp_file($programs{$name}{err}), @secrets), 0, "$name: no key is in what it logs");
	is(leaks_in(slurp_file($keyed{$name}{out}) . slurp_file($keyed{$name}{err}), @secrets), 0, "$name: nor where it is in X-API-Key");
	stop_process($_, 'KILL') foreach $programs{$name}, $keyed{$name};
}
stop_process($gateway);
$node->stop;
done_testing();
