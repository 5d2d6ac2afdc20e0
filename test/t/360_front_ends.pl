
# What a front end has to do, and that all do it alike.  The table is that of
# docs/http.md ("Another HTTP layer").  Keys in a header of their own are in
# 361_api_key_header.pl.  pg_regress has no HTTP.

use strict;
use warnings FATAL => 'all';
use utf8;

use FindBin;
use lib $FindBin::RealBin;
use ApiContract;
use FrontEnds;
use GatewayTest;
use IO::Socket::INET;
use JSON::PP qw(decode_json);
use OvertenTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my ($node, $org) = create_front_node('front_ends');
my ($secret, $key) = mint($node, $org);
my ($revoked, $revoked_key) = mint($node, $org);
ask($node, "SELECT overten_revoke_key('$org', '$revoked_key')");
my $token = sign('ada');

my %front = start_front_ends($node);
my @ends = @{ $front{ends} };
my ($gateway, $postgrest, $services) = @front{qw(gateway postgrest services)};
my ($api_nginx, $auth_nginx, $services_nginx, $module_nginx) = @front{qw(api_nginx auth_nginx services_nginx module_nginx)};
my ($open, $behind, $wrapped, $guarded) = @front{qw(open behind wrapped guarded)};

my $verify = 'GET /api/v1/verify';
my $signup = 'POST /api/v1/signup';
my $good = "Bearer $secret";
my $json = 'Content-Type: application/json';

# The table: what, the answer, the request.  Rows that begin with "api" are for the
# front ends of the API alone: a service has paths, methods and bodies of its own.  Where
# they begin with "parser", node refuses the request before protect.mjs is called, with
# the same status.
my @table = (
	# credentials
	[ 'no Authorization', $is{missing}, $verify ],
	[ 'no Bearer', $is{missing}, $verify, [ auth('Basic YTpi') ] ],
	[ 'Bearer without anything', $is{missing}, $verify, [ auth('Bearer') ] ],
	[ 'Bearer and spaces', $is{missing}, $verify, [ auth('Bearer   ') ] ],
	[ 'an empty Authorization', $is{missing}, $verify, [ auth('') ] ],
	[ 'a key', '200', $verify, [ auth($good) ] ],
	[ 'the scheme in any case', '200', $verify, [ auth("bEARER $secret") ] ],
	[ 'several spaces', '200', $verify, [ auth("Bearer   $secret") ] ],
	[ 'an unknown key', $is{bad}, $verify, [ auth('Bearer sk_live_00000000000000000000000K3vO8') ] ],
	[ 'a revoked key', $is{bad}, $verify, [ auth("Bearer $revoked") ] ],
	[ 'a key and more', $is{bad}, $verify, [ auth("$good x") ] ],
	[ 'quotes and backslashes', $is{bad}, $verify, [ auth('Bearer "\\x\\"') ] ],
	[ 'an ID token', $is{bad}, $verify, [ auth("Bearer $token") ] ],
	[ '16 kB', $is{bad}, $verify, [ auth('Bearer ' . 'x' x 16384) ] ],
	[ '31 kB', $is{bad}, $verify, [ auth('Bearer ' . 'x' x 31000) ] ],

	# X-API-Key, which is a header like any other
	[ 'X-API-Key alone', $is{missing}, $verify, ["X-API-Key: $secret"] ],
	[ 'X-API-Key beside a key', '200', $verify, [ auth($good), "X-API-Key: $secret" ] ],
	[ 'several of them', '200', $verify, [ auth($good), 'X-API-Key: a, b', "X-API-Key: \xff" ] ],
	[ 'X-Overten-Api-Key alone', $is{missing}, $verify, ["X-Overten-Api-Key: $secret"] ],
	[ 'X-Overten-Api-Key beside a key', '200', $verify, [ auth($good), 'X-Overten-Api-Key: x' ] ],

	# two of them
	[ 'two Authorization headers, equal', $is{malformed}, $verify, [ (auth($good)) x 2 ] ],
	[ 'two that differ', $is{malformed}, $verify, [ auth($good), auth('Bearer x') ] ],
	[ 'the other way round', $is{malformed}, $verify, [ auth('Bearer x'), auth($good) ] ],
	[ 'a second one that is empty', $is{malformed}, $verify, [ auth($good), auth('') ] ],
	[ 'a first one that is empty', $is{malformed}, $verify, [ auth(''), auth($good) ] ],
	[ 'X-Overten-Authorization alone', $is{missing}, $verify, [ moved($good) ] ],
	[ 'with underscores', $is{missing}, $verify, ["X_Overten_Authorization: $good"] ],
	[ 'beside an empty Authorization', $is{missing}, $verify, [ auth(''), moved($good) ] ],
	[ 'an equal one', '200', $verify, [ auth($good), moved($good) ] ],
	[ 'one that differs', $is{two}, $verify, [ auth($good), moved('Bearer x') ] ],
	[ 'one that ends in |', $is{two}, $verify, [ auth($good), moved('x|') ] ],
	[ 'one that only looks equal', $is{two}, $verify, [ auth($good), moved("x|$good|x") ] ],

	# the bytes of headers
	[ 'a key that is not ASCII', $is{bad}, $verify, [ auth("Bearer sk_live_\xff") ] ],
	[ 'in UTF-8', $is{bad}, $verify, [ auth("Bearer \xc3\xbc") ] ],
	[ 'another scheme that is not', $is{missing}, $verify, [ auth("\xff \xff") ] ],
	[ 'other headers that are not', '200', $verify, [ auth($good), "User-Agent: \xff", "X-Forwarded-For: \xff", "X: \xc3\xbc" ] ],
	[ 'parser: a control character in a key', $is{malformed}, $verify, [ auth("Bearer \x01$secret") ] ],
	[ 'parser: in X-Overten-Authorization', $is{malformed}, $verify, [ auth($good), moved("$good\x7f") ] ],
	[ 'parser: a NUL', $is{malformed}, $verify, [ auth("$good\0") ] ],
	[ 'parser: a CR', $is{malformed}, $verify, [ auth("$good\rx") ] ],
	[ 'parser: headers over 32 KiB', $is{large}, $verify, [ auth($good), 'X: ' . 'x' x 40_000 ] ],

	# the host
	[ 'two Host headers', $is{malformed}, $verify, [ auth($good), 'Host: elsewhere.example' ] ],

	# the request line
	[ 'parser: rubbish', $is{malformed}, 'rubbish HTTP' ],
	[ 'parser: a method in lower case', $is{malformed}, 'get /api/v1/verify' ],
	[ 'parser: bytes that no URI has', $is{malformed}, "GET /api/v1/verify?\xc3\xbc", [ auth($good) ] ],
	[ 'HTTP/1.0', '200', "$verify HTTP/1.0", [ auth($good) ] ],
	[ 'absolute form', '200', 'GET http://elsewhere.example/api/v1/verify', [ auth($good) ] ],
	[ 'api: a bad escape', $is{malformed}, 'DELETE /api/v1/organizations/%zz/api-keys/x', [ auth("Bearer $token") ] ],
	[ 'api: half of one', $is{malformed}, 'DELETE /api/v1/organizations/x/api-keys/%', [ auth("Bearer $token") ] ],
	[ 'api: an escaped NUL', $is{malformed}, 'GET /api/v1/organizations/%00/api-keys', [ auth("Bearer $token") ] ],
	[ 'api: above the root', $is{malformed}, 'GET /api/%2e%2E/..%2F../x' ],
	[ 'api: a bad escape in the query', '200', "$verify?%zz%00", [ auth($good) ] ],

	# methods and statuses
	[ 'HEAD', '200', 'HEAD /api/v1/verify', [ auth($good) ] ],
	[ 'HEAD without a key', '401', 'HEAD /api/v1/verify' ],
	[ 'HEAD with a bad one', '401', 'HEAD /api/v1/verify', [ auth('Bearer x') ] ],
	[ 'HEAD with two', '400', 'HEAD /api/v1/verify', [ auth($good), moved('Bearer x') ] ],
	[ 'api: no such route', '404 not_found', 'GET /api/v1/nothing' ],
	[ 'api: POST on what is read', $is{method}, 'POST /api/v1/verify', [ auth($good) ] ],
	[ 'api: OPTIONS', $is{method}, 'OPTIONS /api/v1/verify' ],
	[ 'api: 204', '204', "DELETE /api/v1/organizations/$org/api-keys/$revoked_key", [ auth("Bearer $token") ] ],

	# bodies
	[ 'api: another media type', '415 unsupported_media_type', $signup, ['Content-Type: text/plain'], '{}' ],
	[ 'api: a body over 16 KiB', '413 payload_too_large', $signup, [ auth("Bearer $token"), $json ], ' ' x 16385 ],
	[ 'api: the credential comes before the body', $is{missing}, $signup, [$json], '{' ],
	[ 'api: an empty body', '400 invalid_json', $signup, [ auth("Bearer $token"), $json ], '' ],
	[ 'api: a byte order mark', '400 invalid_json', $signup, [ auth("Bearer $token"), $json ], "\xef\xbb\xbf{\"org_name\":\"x\"}" ]);

foreach my $row (@table)
{
	my ($what, $expected) = @$row;
	my $first;

	foreach my $end (grep { $what !~ /^api/ || $_->[2] eq 'api' } @ends)
	{
		my $answer = check_answer($end, \$first, @$row) // next;

		is_deeply([ @{ $answer->{headers} }{qw(content-length content-type transfer-encoding)} ], [ (undef) x 3 ], "$what: $end->[0]: announces none")
		  if $expected eq '204';
	}
}
# Without a Host, which HTTP/1.0 does not need.  A service may.
my $no_host;
foreach my $end (@ends)
{
	my ($name, $port, $kind) = @$end;
	my $lines = join "\r\n", '', 'Connection: close', auth($good), '', '';
	my $line = 'GET ' . ($kind eq 'api' ? '/api/v1/verify' : '/generate');
	my $refused = bytes($port, "$line HTTP/1.1$lines");

	is(summary(bytes($port, "$line HTTP/1.0$lines")), '200', "HTTP/1.0 without a Host: $name") if $kind eq 'api';
	is($refused->{status}, 400, "no Host: $name");
	next if $name eq 'protect.mjs';
	$no_host //= visible($refused, 'GET');
	is(summary($refused), $is{malformed}, "no Host: $name: the code");
	is_deeply(visible($refused, 'GET'), $no_host, "no Host: $name: as the gateway");
}
# Two headers of which nginx before 1.23 sees only the first.
{
	my $keys = "POST /api/v1/organizations/$org/api-keys";
	my ($one, $other) = map { "Idempotency-Key: $_" } 'a', 'b';
	my @named = ($keys, [ auth("Bearer $token"), $json, $one, $other ], '{"name": "once"}');
	my @typed = ($signup, [ $json, $json ], '{}');

	is(summary(send_to($ends[0], @named)), '400 invalid_request', 'two names of a request: gateway');
	like(summary(send_to($ends[1], @named)), qr/^(?:201|400 invalid_request)$/, 'two names of a request: nginx');
	is(summary(send_to($ends[0], @typed)), '415 unsupported_media_type', 'two media types: gateway');
	like(summary(send_to($ends[1], @typed)), qr/^(?:$is{missing}|415 unsupported_media_type)$/, 'two media types: nginx');
}
# Later versions of nginx say that this method is not allowed.
like(summary(send_to($_, 'CONNECT localhost:80')), qr/^(?:$is{malformed}|$is{method})$/, "CONNECT: $_->[0]") foreach @ends[ 0, 1 ];
is_deeply([ map { foreign_errors("http://127.0.0.1:$_->[1]") } @ends[ 0 .. 2, 4 ] ], [], "no error was anything but the API's own");


# What the service is told, and what it is not.

# All headers that some part of the project reads or sets, under any of which a client
# could mean to be somebody else.
my @own_names = do {
	my $sources = join '', map { slurp_file($_) }
	  glob("$FindBin::RealBin/../../{src/*/*.[ch],nginx/*.c,gateway/*.mjs,gateway/*.conf,sql/*.sql}");
	my %names = map { lc $_ => 1 } $sources =~ /\b(x-overten(?:-[a-z]+)+)/gi;
	sort keys %names;
};
cmp_ok(scalar @own_names, '>=', 12, "headers of the project: @own_names");

foreach my $end (grep { $_->[2] eq 'service' } @ends)
{
	my ($name) = @$end;
	my $answer = send_to($end, 'POST /api/v1/verify?x=y',
		[ auth($good), moved($good), 'X-Own: kept', 'X-API-Key: other', 'Transfer-Encoding: chunked', 'Trailer: X-Overten-Org-Id, Authorization',
			'X-Overten-Unknown: else',
			map({ "$_: forged" } 'X-Overten-Org-Id', 'x-overten-ORG-ID', 'X_Overten_Org_Id', 'X-Overten_Tier', grep { $_ ne 'x-overten-authorization' } @own_names),
			'', "5\r\nhello\r\n0\r\nX-Overten-Org-Id: forged\r\nAuthorization: $good\r\n" ]);
	my $seen = decode_json($answer->{body});
	my @told = ($key, $org, '%E4%BC%81%E6%A5%AD%201', substr $secret, 0, 12);
	my @names = map { "x-overten-$_" } qw(key-id org-id tier key-prefix);
	my @raw = @{ $seen->{rawHeaders} };
	my (%raw, %trailers);
	push @{ $raw{ lc $raw[ 2 * $_ ] } }, $raw[ 2 * $_ + 1 ] foreach 0 .. $#raw / 2;

	is_deeply([ @{$seen}{qw(method url)}, $seen->{headers}{'x-own'} ], [ 'POST', '/generate?x=y', 'kept' ], "$name: the request is passed on");
	is_deeply([ @{ $seen->{headers} }{@names} ], \@told, "$name: whose it is");
	is_deeply([ @{ $seen->{headersDistinct} }{@names} ], [ map { [$_] } @told ], "$name: in another form");
	is_deeply([ @raw{@names} ], [ map { [$_] } @told ], "$name: in a third");
	is($seen->{headers}{'x-api-key'}, 'other', "$name: X-API-Key is not for us");
	is($seen->{headers}{'x-overten-unknown'}, $name =~ /^auth_request/ ? 'else' : undef, "$name: a name that means nothing");
	unlike($answer->{body} =~ s/"webhook_secret":"[^"]*"//r, qr/forged|\Q$secret\E|"authorization"/i, "$name: nothing else is there");
	is($seen->{requests}, scalar(grep { $_->[0] !~ /^api/ && $_->[1] eq '200' } @table) + 1, "$name: nothing that was refused has reached the service");
}


# Where a key was used from.  The layer that a client speaks to has seen its address;
# that of a service is a proxy to the gateway, which PostgREST has not.

sub used_from
{
	my ($end, $trusted) = @_;
	my ($name, $port, $kind) = @$end;
	my ($used, $id) = mint($node, $org);

	my $answer = request("http://127.0.0.1:$port", 'GET', $kind eq 'api' ? '/api/v1/verify' : '/generate',
		[ "Authorization: Bearer $used", 'X-Forwarded-For: 203.0.113.9', 'X-Overten-Client-Addr: 203.0.113.9' ],
		undef, '--interface', '127.0.0.2');
	is($answer->{status}, 200, "$name: a use");
	flush_usage($node);
	is(ask($node, "SELECT client_addr FROM overten_auth.key_usage WHERE key_id = '$id'"), '127.0.0.2', "$name: its address");
}

used_from($_) foreach grep { $_->[2] eq 'api' || $_->[0] =~ /PostgREST/ } @ends;
$node->append_conf('postgresql.conf', 'overten_auth.trust_forwarded_for = 1');
$node->reload;
wait_until('one proxy is trusted', sub { ask($node, 'SHOW overten_auth.trust_forwarded_for') eq '1' });
used_from($_) foreach @ends[ 2, 3, 5 ];


# Restrictions and limits, for which a service asks: the same refusals by each road.

my ($held, $held_key) = mint($node, $org);
my @services = grep { $_->[2] eq 'service' } @ends;

# Do something to the key, and see what all services say.
sub each_refuses
{
	my ($what, $function, $expected, %headers) = @_;

	ask($node, "SELECT overten_$function");
	foreach my $end (@services)
	{
		my $answer = send_to($end, $verify, [ auth("Bearer $held") ]);

		is(summary($answer), $expected, "$what: $end->[0]");
		my @names = grep { $answer->{headers}{$_} } qw(www-authenticate retry-after ratelimit ratelimit-policy x-overten-refusal);
		is_deeply({ map { $_ => $answer->{headers}{$_} } @names }, { map { $_ => [ $headers{$_} ] } keys %headers }, "$what: $end->[0]: headers");
		is(send_to($end, 'HEAD /api/v1/verify', [ auth("Bearer $held") ])->{status}, $answer->{status}, "$what: $end->[0]: HEAD");
	}
}

my %bad = ('www-authenticate' => 'Bearer realm="overten", error="invalid_token"');
each_refuses('disabled', "disable_key('$org', '$held_key', 'x')", '401 disabled_api_key', %bad);
each_refuses('expired', "set_expiry('$org', '$held_key', '2001-01-01') FROM overten_enable_key('$org', '$held_key')", '401 expired_api_key', %bad);
each_refuses('another address', "set_allowed_addresses('$org', '$held_key', '{203.0.113.0/24}')
	FROM overten_set_expiry('$org', '$held_key', NULL)", '403 address_not_allowed');

# What a limit admits is counted down by all.
ask($node, "SELECT overten_set_allowed_addresses('$org', '$held_key', NULL),
	overten_set_limit('key', '$held_key', 'per_hour', 8, '1 hour')");
my @left = map { my $end = $_; map { send_to($end, $verify, [ auth("Bearer $held") ]) } 1, 2 } @services;
is_deeply([ map { [ summary($_), $_->{headers}{'ratelimit-policy'}[0], $_->{headers}{ratelimit}[0] =~ s/t=\d+/t=.../r ] } @left ],
	[ map { [ '200', '"per_hour";q=8;w=3600', "\"per_hour\";r=$_;t=..." ] } reverse 0 .. 7 ], 'what a limit leaves, after each request');
foreach my $end (@services)
{
	my $answer = send_to($end, $verify, [ auth("Bearer $held") ]);

	is(summary($answer), '429 rate_limited', "over the limit: $end->[0]");
	cmp_ok($answer->{headers}{'retry-after'}[0], '<=', 450, "over the limit: $end->[0]: wait so long");
	cmp_ok($answer->{headers}{'retry-after'}[0], '>', 350, "over the limit: $end->[0]: and not less");
	is($answer->{headers}{'ratelimit-policy'}[0], '"per_hour";q=8;w=3600', "over the limit: $end->[0]: the policy");
	is($answer->{headers}{'cache-control'}[0], 'no-store', "over the limit: $end->[0]: not stored");
	is(send_to($end, 'HEAD /api/v1/verify', [ auth("Bearer $held") ])->{status}, 429, "over the limit: $end->[0]: HEAD");
}
my %asked = (
	gateway => request($gateway->{authorize_url}, 'GET', '/authorize', [ auth("Bearer $held") ]),
	PostgREST => request("http://127.0.0.1:$services->{port}", 'GET', '/rpc/authorize', [ moved("Bearer $held") ]));
foreach my $road (sort keys %asked)
{
	my %headers = %{ $asked{$road}{headers} };
	is_deeply([ $asked{$road}{status}, @headers{qw(x-overten-refusal ratelimit-policy)}, $headers{ratelimit}[0] =~ s/t=\d+/t=.../r, scalar($headers{'retry-after'}[0] =~ /^(?:[34]\d\d)$/) ],
		[ 429, ['rate_limited'], ['"per_hour";q=8;w=3600'], '"per_hour";r=0;t=...', 1 ], "what $road says to a service that asks itself");
}
is(request("http://127.0.0.1:$postgrest->{port}", 'GET', '/rpc/authorize', [ moved($good) ])->{body} =~ /"code":"(\w+)"/ && $1, '42501', 'the PostgREST that clients reach through nginx may not answer');
is(summary(send_to($ends[1], $_, [ auth($good) ])), '404 not_found', "nor is there $_") foreach 'GET /rpc/authorize', 'GET /authorize', 'GET /api/v1/authorize';
is(request($gateway->{authorize_url}, 'HEAD', '/authorize?cost=0', [ auth("Bearer $held") ])->{status}, 200, 'only to ask is free');
is(request($gateway->{authorize_url}, 'GET', '/authorize?cost=1000000', [ auth("Bearer $held") ])->{headers}{'retry-after'}, undef,
	'what is never granted has no time to wait');

# A quota: what is left, and when it begins anew, in the body, since that is more than
# an hour away.
ask($node, "SELECT overten_drop_limit('key', '$held_key', 'per_hour'), overten_set_limit('key', '$held_key', 'per_month', 3, '1 month',
	anchor => 1 + (extract(day FROM clock_timestamp() AT TIME ZONE 'UTC')::integer + 13) % 28)");
is(send_to($services[0], $verify, [ auth("Bearer $held") ])->{headers}{ratelimit}[0] =~ s/t=\d+/t=.../r, '"per_month";r=2;t=...', 'what a quota leaves');
ask($node, "SELECT overten_charge('$held_key', 2)");
foreach my $end (@services)
{
	my $answer = send_to($end, $verify, [ auth("Bearer $held") ]);
	my ($wait) = $answer->{body} =~ /^\{"error":\{"code":"quota_exceeded","message":"[^"]+","retry_after":(\d+)\}\}$/;
	my ($days) = $answer->{headers}{'ratelimit-policy'}[0] =~ /^"per_month";q=3;w=(\d+)$/;

	is(summary($answer), '429 quota_exceeded', "over the quota: $end->[0]");
	cmp_ok($wait // 0, '>', 3600, "over the quota: $end->[0]: wait so long");
	is($answer->{headers}{ratelimit}[0], qq("per_month";r=0;t=$wait), "over the quota: $end->[0]: so does the limit say");
	ok($days % 86400 == 0 && $days >= 28 * 86400 && $days <= 31 * 86400, "over the quota: $end->[0]: the period");
	is($answer->{headers}{'retry-after'}, undef, "over the quota: $end->[0]: no Retry-After that clients would sleep for");
	is($answer->{headers}{'cache-control'}[0], 'no-store', "over the quota: $end->[0]: not stored");
	is(send_to($end, 'HEAD /api/v1/verify', [ auth("Bearer $held") ])->{status}, 429, "over the quota: $end->[0]: HEAD");
}
my $never = request($gateway->{authorize_url}, 'GET', '/authorize?cost=4', [ auth("Bearer $held") ]);
is(summary($never), '429 quota_exceeded', 'more than a quota');
unlike($never->{body}, qr/retry_after/, 'has no time to wait');
is($never->{headers}{'x-overten-refusal'}[0], 'quota_exceeded', 'the header names it');
is(request($gateway->{url}, 'GET', '/authorize', [ auth($good) ])->{status}, 404, 'clients cannot ask');
is(summary(request($gateway->{authorize_url}, 'GET', '/api/v1/verify', [ auth($good) ])), '404 not_found', 'and proxies only this');


# nginx asks on connections that it keeps, and a refusal does not cost one.

# How many connections to a port there are, or have just been closed, at the other end.
sub connections_to
{
	my $port = sprintf '%04X', shift;
	return scalar grep { /^ *\d+: \S+ \w+:$port / } split /\n/, slurp_file('/proc/net/tcp');
}

my $before = connections_to($gateway->{authorize_port});
is(summary(send_to($ends[2], $verify, [ auth("Bearer $revoked") ])), $is{bad}, "refusal $_") foreach 1 .. 30;
cmp_ok(connections_to($gateway->{authorize_port}) - $before, '<=', 5, 'refusals share connections');


# At once, or not at all.

my ($other, $other_key) = mint($node, $org);
is(summary(send_to($_, $verify, [ auth("Bearer $other") ])), '200', "$_->[0]: a key") foreach @ends;
ask($node, "SELECT overten_revoke_key('$org', '$other_key')");
is(summary(send_to($_, $verify, [ auth("Bearer $other") ])), $is{bad}, "$_->[0]: revoked, at once") foreach @ends;
$node->stop;
my $unavailable = '503 service_unavailable';
my $away = visible(send_to($ends[0], $verify, [ auth($good) ]), 'GET');
is($away->{status}, 503, 'without the database');
is_deeply(visible(send_to($_, $verify, [ auth($good) ]), 'GET'), $away, "$_->[0]: without the database") foreach @ends;
stop_process($gateway);
is_deeply(visible(send_to($_, $verify, [ auth($good) ]), 'GET'), $away, "$_->[0]: without the gateway") foreach @ends[ 2, 3 ];
stop_process($services);
is_deeply(visible(send_to($ends[4], $verify, [ auth($good) ]), 'GET'), $away, 'without PostgREST');
stop_process($_) foreach $api_nginx, $auth_nginx, $services_nginx, $module_nginx, $postgrest, $open, $behind, $wrapped, $guarded;

unlike(slurp_file($_), qr/sk_live_\w{5}|Bearer/, "no credential in " . ($_ =~ s{.*/}{}r))
  foreach map({ glob("$_->{folder}/*.log") } $api_nginx, $auth_nginx, $services_nginx, $module_nginx),
  map { @{$_}{qw(out err)} } $open, $behind, $wrapped, $guarded, $gateway, $postgrest, $services;

done_testing();
