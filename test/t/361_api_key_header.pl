
# A key in a header of its own, X-API-Key, where that is turned on: all front ends take
# it as they take a Bearer, and refuse the same.  Where it is off, 360_front_ends.pl
# sees that it means nothing.  pg_regress has no HTTP.

use strict;
use warnings FATAL => 'all';

use FindBin;
use lib $FindBin::RealBin;
use ApiContract;
use FrontEnds;
use GatewayTest;
use JSON::PP qw(decode_json);
use OvertenTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my ($node, $org) = create_front_node('api_key_header');
my ($secret, $key) = mint($node, $org);
my ($revoked, $revoked_key) = mint($node, $org);
ask($node, "SELECT overten_revoke_key('$org', '$revoked_key')");
my $token = sign('ada');
my %front = start_front_ends($node, 'X-API-Key');
my @ends = @{ $front{ends} };
my ($gateway, $services) = @front{qw(gateway services)};
my @processes = @front{qw(api_nginx auth_nginx services_nginx module_nginx open behind wrapped guarded gateway postgrest services)};

my $unknown = 'sk_live_00000000000000000000000K3vO8';
my $verify = 'GET /api/v1/verify';
my $keys = "GET /api/v1/organizations/$org/api-keys";
my $good = "Bearer $secret";
my $ada = auth("Bearer $token");
my $json = 'Content-Type: application/json';
my $signup = 'POST /api/v1/signup';

sub sent { return "X-API-Key: $_[0]" }

# Before version 1.23, nginx's files know the first of several headers only.
sub sees_all { return $_[0][0] !~ /nginx|auth_request/ || `nginx -v 2>&1` !~ m{nginx/1\.(?:1?\d|2[0-2])\.} }

# What, the answer, the request.  "api", "parser" and the name of a front end are as in
# 360_front_ends.pl; rows that begin with "twice" are for front ends that see all headers.
my @table = (
	# a key
	[ 'none', $is{missing}, $verify ],
	[ 'a Bearer, as ever', '200', $verify, [ auth($good) ] ],
	[ 'a key', '200', $verify, [ sent($secret) ] ],
	[ 'the name in any case', '200', $verify, ["x-aPi-kEY: $secret"] ],
	[ 'spaces around it', '200', $verify, [ sent("   $secret  ") ] ],
	[ 'tabs around it', '200', $verify, [ sent("\t$secret \t") ] ],
	[ 'HTTP/1.0', '200', "$verify HTTP/1.0", [ sent($secret) ] ],
	[ 'HEAD', '200', 'HEAD /api/v1/verify', [ sent($secret) ] ],
	[ 'HEAD with a bad one', '401', 'HEAD /api/v1/verify', [ sent($unknown) ] ],
	[ 'HEAD with two', '400', 'HEAD /api/v1/verify', [ sent($secret), auth($good) ] ],

	# what is none
	[ 'an empty one', $is{missing}, $verify, [ sent('') ] ],
	[ 'spaces', $is{missing}, $verify, [ sent(" \t ") ] ],
	[ 'an unknown key', $is{bad}, $verify, [ sent($unknown) ] ],
	[ 'a revoked key', $is{bad}, $verify, [ sent($revoked) ] ],
	[ 'a key with a scheme', $is{bad}, $verify, [ sent($good) ] ],
	[ 'a key and more', $is{bad}, $verify, [ sent("$secret x") ] ],
	[ 'an ID token', $is{bad}, $verify, [ sent($token) ] ],
	[ 'quotes and backslashes', $is{bad}, $verify, [ sent('"\\x\\"') ] ],
	[ 'bytes that are not ASCII', $is{bad}, $verify, [ sent("$secret\xff") ] ],
	[ 'UTF-8', $is{bad}, $verify, [ sent("\xc3\xbc") ] ],
	[ '16 kB', $is{bad}, $verify, [ sent('x' x 16384) ] ],
	[ '31 kB', $is{bad}, $verify, [ sent('x' x 31000) ] ],
	[ 'parser: too much', $is{large}, $verify, [ sent('x' x 40000) ] ],
	[ 'parser: a control character', $is{malformed}, $verify, [ sent("\x01$secret") ] ],
	[ 'parser: a NUL', $is{malformed}, $verify, [ sent("$secret\0") ] ],
	[ 'with an underscore', $is{missing}, $verify, ["X_API_Key: $secret"] ],
	[ 'another name', $is{missing}, $verify, [ "X-API-Key-Id: $secret", "API-Key: $secret" ] ],
	[ "the front end's own name", $is{missing}, $verify, ["X-Overten-Api-Key: $secret"] ],
	[ "the front end's own name, beside a key", '200', $verify, [ sent($secret), "X-Overten-Api-Key: $unknown" ] ],
	[ "the front end's own name, beside a Bearer", '200', $verify, [ auth($good), "X-Overten-Api-Key: $unknown" ] ],

	# two credentials
	[ 'a Bearer, too', $is{two}, $verify, [ sent($secret), auth($good) ] ],
	[ 'another Bearer', $is{two}, $verify, [ sent($secret), auth("Bearer $unknown") ] ],
	[ 'a bad one beside a Bearer', $is{two}, $verify, [ auth($good), sent('x') ] ],
	[ 'an ID token, too', $is{two}, $verify, [ sent($secret), $ada ] ],
	[ 'another scheme', $is{two}, $verify, [ sent($secret), auth('Basic YTpi') ] ],
	[ 'a scheme alone', $is{two}, $verify, [ sent($secret), auth('Bearer') ] ],
	[ 'too long beside a Bearer', $is{two}, $verify, [ sent('x' x 16400), auth($good) ] ],
	[ 'two that were joined', $is{two}, $verify, [ sent("$secret, $secret") ] ],
	[ 'two that were joined, not in ASCII', $is{two}, $verify, [ sent("$secret,\xff") ] ],
	[ 'a comma', $is{two}, $verify, [ sent(',') ] ],
	[ 'an empty Authorization', '200', $verify, [ sent($secret), auth('') ] ],
	[ 'empty beside a Bearer', '200', $verify, [ sent(''), auth($good) ] ],
	[ 'X-Overten-Authorization, which counts for nothing', '200', $verify, [ sent($secret), moved("Bearer $unknown") ] ],
	[ 'and with an empty Authorization', '200', $verify, [ sent($secret), auth(''), moved("Bearer $unknown") ] ],
	[ 'two Authorization headers', $is{malformed}, $verify, [ sent($secret), (auth($good)) x 2 ] ],
	[ 'twice, equal', $is{two}, $verify, [ (sent($secret)) x 2 ] ],
	[ 'twice, and they differ', $is{two}, $verify, [ sent($secret), sent($unknown) ] ],
	[ 'twice, the other way round', $is{two}, $verify, [ sent($unknown), sent($secret) ] ],
	[ 'twice, in two cases', $is{two}, $verify, [ sent($secret), "x-api-key: $secret" ] ],
	[ 'twice, the first empty', $is{two}, $verify, [ sent(''), sent($secret) ] ],
	[ 'twice, the second empty', $is{two}, $verify, [ sent($secret), sent('') ] ],
	[ 'twice, and a Bearer', $is{two}, $verify, [ (sent($secret)) x 2, auth($good) ] ],

	# where people ask, nobody gets in by this header
	[ 'api: people', '200', $keys, [$ada] ],
	[ 'api: an ID token for people', '401 invalid_token', $keys, [ sent($token) ] ],
	[ 'api: an ID token with its scheme', '401 invalid_token', $keys, [ sent("Bearer $token") ] ],
	[ 'api: a key for people', '401 invalid_token', $keys, [ sent($secret) ] ],
	[ 'api: an empty one for people', '401 missing_credentials', $keys, [ sent('') ] ],
	[ 'api: people, and a key', $is{two}, $keys, [ $ada, sent($secret) ] ],
	[ 'api: a token to sign up with', '401 invalid_token', $signup, [ sent($token), $json ], '{"org_name":"x"}' ],
	[ 'api: another method comes first', $is{method}, 'POST /api/v1/verify', [ sent($secret), auth($good) ] ],
	[ 'api: another route comes first', '404 not_found', 'GET /api/v1/nothing', [ sent($secret), auth($good) ] ]);

my $twice_message = 'The request carries more than one credential.';
foreach my $row (@table)
{
	my ($what, $expected) = @$row;
	my $first;

	foreach my $end (@ends)
	{
		next if $what =~ /^api/ && $end->[2] ne 'api' || $what =~ /^twice/ && !sees_all($end);
		my $answer = check_answer($end, \$first, @$row) // next;

		is(decode_json($answer->{body})->{error}{message}, $twice_message, "$what: $end->[0]: why")
		  if $expected eq $is{two} && $what !~ /^parser|Authorization headers/;
	}
}

# A nginx that sees the first header only takes that one, and passes on neither.
foreach my $end (grep { !sees_all($_) } @ends)
{
	is(summary(send_to($end, $verify, [ sent($secret), sent($unknown) ])), '200', "twice: $end->[0]: the first counts");
	is(summary(send_to($end, $verify, [ sent($unknown), sent($secret) ])), $is{bad}, "twice: $end->[0]: and not the second");
}

# The answers are those to a Bearer, whose challenge does not change.
foreach my $end (@ends)
{
	foreach my $credential ($secret, $unknown, $revoked)
	{
		my ($one, $other) = map { visible(send_to($end, $verify, [$_]), 'GET') } sent($credential), auth("Bearer $credential");
		delete @{$_}{body} foreach grep { $_->{status} == 200 && $end->[2] eq 'service' } $one, $other;
		is_deeply($one, $other, "$end->[0]: as a Bearer");
	}
	is(send_to($end, $verify, [ sent($unknown) ])->{headers}{'www-authenticate'}[0], 'Bearer realm="overten", error="invalid_token"', "$end->[0]: the challenge");
	is(send_to($end, $verify)->{headers}{'www-authenticate'}[0], 'Bearer realm="overten"', "$end->[0]: without a key");
}
is_deeply([ map { foreign_errors("http://127.0.0.1:$_->[1]") } @ends[ 0 .. 2, 4 ] ], [], "no error was anything but the API's own");


# What the service is told, and what it is not.

foreach my $end (grep { $_->[2] eq 'service' } @ends)
{
	my ($name) = @$end;
	my $answer = send_to($end, 'POST /api/v1/verify?x=y',
		[ sent($secret), "X_API_Key: $unknown", "x-api_KEY: $unknown", 'X-API-Key-Id: kept', 'Transfer-Encoding: chunked',
			'', "5\r\nhello\r\n0\r\nX-API-Key: $secret\r\nX_Api_Key: $secret\r\n" ]);
	my $seen = decode_json($answer->{body});

	is($seen->{headers}{'x-overten-key-id'}, $key, "$name: whose it is");
	is($seen->{headers}{'x-api-key-id'}, 'kept', "$name: another header is kept");
	unlike($answer->{body} =~ s/"webhook_secret":"[^"]*"//r, qr/\Q$secret\E|\Q$unknown\E|"x[-_]api[-_]key"/i, "$name: the key is not there");
	$answer = send_to($end, $verify, [ auth($good), sent('') ]);
	unlike($answer->{body}, qr/\Q$secret\E|"x[-_]api[-_]key"|"authorization"/i, "$name: nor is an empty one beside a Bearer");
	# nginx's files cannot tell how many there are, but pass on none.
	next if sees_all($end);
	unlike(send_to($end, $verify, [ sent($secret), sent($unknown) ])->{body}, qr/"x[-_]api[-_]key"/i, "$name: nor are two");
}


# Restrictions and limits are the same, and count the same.

my ($held, $held_key) = mint($node, $org);
my @services = grep { $_->[2] eq 'service' } @ends;
ask($node, "SELECT overten_set_limit('key', '$held_key', 'per_hour', 8, '1 hour')");
my @left = map { my $end = $_; map { send_to($end, $verify, [$_]) } sent($held), auth("Bearer $held") } @services;
is_deeply([ map { $_->{headers}{ratelimit}[0] =~ s/t=\d+/t=.../r } @left ], [ map { "\"per_hour\";r=$_;t=..." } reverse 0 .. 7 ], 'one limit for both ways');
foreach my $end (@services)
{
	my $answer = send_to($end, $verify, [ sent($held) ]);

	is(summary($answer), '429 rate_limited', "over the limit: $end->[0]");
	ok($answer->{headers}{'retry-after'}, "over the limit: $end->[0]: wait");
}
ask($node, "SELECT overten_drop_limit('key', '$held_key', 'per_hour'), overten_set_allowed_addresses('$org', '$held_key', '{203.0.113.0/24}')");
is(summary(send_to($_, $verify, [ sent($held) ])), '403 address_not_allowed', "another address: $_->[0]") foreach @services;
ask($node, "SELECT overten_set_allowed_addresses('$org', '$held_key', NULL), overten_set_scopes('$org', '$held_key', '{}')");

# A proxy that passes on what the client sends, and another that asks a PostgREST.
sub ask_authorize { return request($gateway->{authorize_url}, 'GET', "/authorize$_[0]", $_[1]) }
is(ask_authorize('', [ sent($secret) ])->{headers}{'x-overten-org-id'}[0], $org, '/authorize: a key');
is(summary(ask_authorize('?scope=x', [ sent($held) ])), '403 insufficient_scope', '/authorize: its scope');
is(ask_authorize('', [ sent($secret), auth($good) ])->{headers}{'x-overten-refusal'}[0], 'two_credentials', '/authorize: two credentials');
is(summary(ask_authorize('', [ sent($token) ])), $is{bad}, '/authorize: an ID token');
is(summary(ask_authorize('', ["X-Overten-Api-Key: $secret"])), $is{missing}, "/authorize: nobody but the gateway uses the database's name");
my $postgrest = request("http://127.0.0.1:$services->{port}", 'GET', '/rpc/authorize', [ "X-Overten-Api-Key: $secret", moved($good) ]);
is("$postgrest->{status} $postgrest->{headers}{'x-overten-refusal'}[0]", '400 two_credentials', 'PostgREST: two credentials');


# At once, and in no log.

my ($other, $other_key) = mint($node, $org);
is(summary(send_to($_, $verify, [ sent($other) ])), '200', "$_->[0]: a key") foreach @ends;
ask($node, "SELECT overten_revoke_key('$org', '$other_key')");
is(summary(send_to($_, $verify, [ sent($other) ])), $is{bad}, "$_->[0]: revoked, at once") foreach @ends;

# Names that mean something else are refused.
foreach my $wrong ('Authorization', 'X-Overten-Authorization', 'x-overten-api-key', 'Cookie', 'content-type', 'X-Forwarded-For', 'Host', 'X_API_Key', 'X API', 'on:', '-')
{
	my $process = start_process('wrong', { API_KEY_HEADER => $wrong }, 'node', "$FindBin::RealBin/../../gateway/server.mjs");
	$process->{run}->finish;
	is($process->{run}->result . ' ' . slurp_file($process->{err}),
		"1 gateway: API_KEY_HEADER must be the name of a header that means nothing else, such as X-API-Key, or off\n", "API_KEY_HEADER=$wrong");
}

stop_process($_) foreach @processes;
$node->stop;
unlike(slurp_file($_), qr/sk_live_\w{5}|Bearer/, "no credential in " . ($_ =~ s{.*/}{}r))
  foreach map({ glob("$_->{folder}/*.log") } grep { $_->{folder} } @processes), map { @{$_}{qw(out err)} } @processes;

done_testing();
