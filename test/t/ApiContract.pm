
# The contract of the API as requests and answers: the matrix of its two tables,
# what it is about, and the comparison of an answer over HTTP with the one that the
# database gives.

package ApiContract;

use strict;
use warnings FATAL => 'all';

use Exporter 'import';
use GatewayTest;
use JSON::PP qw(decode_json encode_json);
use MIME::Base64 qw(encode_base64);
use OrgContract;
use OvertenTest;
use Test::More;

our @EXPORT = qw(check_exchange check_matrix prepare_matrix visible);

# What a client can see of an exchange and what must be the same over every
# road: status, the headers that the API sets, and the body with what is random
# in it replaced.
my @api_headers =
  qw(cache-control content-type allow www-authenticate retry-after);

sub visible
{
	my ($response, $method) = @_;
	my $body = $method eq 'HEAD' ? '' : $response->{body} // '';

	$body =~ s/\b(org|key|inv)_[0-9A-Za-z]{20}\b/$1/g;
	$body =~ s/"invite_[0-9A-Za-z]{32}"/"code"/g;
	$body =~ s/"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}"/"audit id"/g;
	$body =~ s/"sk_live_[0-9A-Za-z]{28}"/"secret"/g;
	$body =~ s/"sk_live_[0-9A-Za-z]{4}"/"prefix"/g;
	$body =~ s/"whsec_[^"]*"/"webhook secret"/g;
	$body =~ s/"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ"/"time"/g;
	return {
		status => $response->{status},
		headers => {
			map { $_ => $response->{headers}{$_} }
			grep { $response->{headers}{$_} } @api_headers
		},
		body => $body
	};
}

# The same exchange by overten_handle_request itself, which is the measure.  In
# base64, so that no step has an opinion on its bytes.
sub by_database
{
	my ($where, $method, $path, $headers, $body) = @_;
	my %headers;
	my $quote = sub {
		return 'NULL' unless defined $_[0];
		return "convert_from(decode('" . encode_base64($_[0], '') . "', 'base64'), 'UTF8')";
	};

	foreach (@{ $headers // [] })
	{
		my ($name, $value) = split /: */, $_, 2;
		$headers{ lc $name } = $value;
	}
	delete $headers{'transfer-encoding'};
	my $row = ask($where, sprintf(
		"SELECT status, headers, encode(convert_to(coalesce(body, ''), 'UTF8'), 'hex') FROM overten_handle_request(%s, %s, %s::json, %s)",
		$quote->($method), $quote->($path), $quote->(encode_json(\%headers)), $quote->($body)));
	my ($status, $found, $hex) = split /\|/, $row, 3;
	my $object = decode_json($found);
	return {
		status => $status,
		headers => { map { $_ => [ $object->{$_} ] } keys %$object },
		body => pack('H*', $hex)
	};
}

# A request must get the answer that the contract says and the database gives.
# Bytes that are no text cannot be put to the database; they are not JSON, either.
sub check_exchange
{
	my ($where, $base, $case, @options) = @_;
	my ($name, $expected, @request) = @$case;
	my @asked = @request;

	$asked[3] = 'not JSON' if $name =~ /a NUL|invalid UTF-8/;
	my $direct = by_database($where, @asked);
	my $answer = request($base, @request, @options);

	is(summary($answer), $expected, $name);
	is_deeply(visible($answer, $request[0]), visible($direct, $request[0]),
		"$name: as the database says") or diag($answer->{error});
	return $answer;
}

# All of the matrix, with something added to each name.  The database is asked in
# one session.
sub check_matrix
{
	my ($node, $base, $state, $how) = @_;
	my $session = $node->background_psql('postgres');

	$session->set_query_timer_restart;
	foreach my $case (matrix($state))
	{
		my ($name, @rest) = @$case;

		check_exchange($session, $base, [ $name . ($how // ''), @rest ]);
	}
	$session->quit;
	return;
}

# What the matrix is about, made by SQL.  Limits are to be set to 4 active keys,
# 6 in all, and 9 orgs.
my $prepared = 0;

sub prepare_matrix
{
	my ($node) = @_;
	my ($ada, $rich, $eve) = map { $_ . $prepared } qw(ada rich eve);
	my %state = (
		ada_uid => $ada,
		ada => sign($ada),
		rich => sign($rich),
		eve => sign($eve),
		expired => sign($ada, 'exp=1000000000'),
		elsewhere => sign($ada, 'aud="elsewhere"'));
	$prepared++;

	foreach my $org (qw(own foreign suspended full worn repeated))
	{
		my $uid = $org eq 'foreign' ? 'bob' : $org eq 'repeated' ? $eve : $ada;

		$state{$org} = create_org($node, $org);
		ask($node, "SELECT overten_set_api_access('$state{$org}', true), overten_add_member('$state{$org}', '$uid')");
		($state{"${org}_secret"}, $state{"${org}_key"}) =
		  mint($node, $state{$org});
	}
	prepare_orgs($node, \%state, $ada);
	foreach my $org (qw(dormant locked))
	{
		$state{$org} = create_org($node, $org);
		ask($node, "SELECT overten_add_member('$state{$org}', '$ada')");
	}
	ask($node, "SELECT overten_set_api_access('$state{locked}', false)");
	ask($node, "SELECT overten_set_api_access('$state{suspended}', false)");
	mint($node, $state{full}) foreach 1 .. 3;
	ask($node, "SELECT overten_revoke_key(org_id, key_id) FROM (SELECT m.* FROM generate_series(1, 5) i, LATERAL overten_mint_key('$state{worn}', i::text) m OFFSET 0) k");
	ask($node, "SELECT (overten_signup('$rich', 'rich')).org_id FROM generate_series(1, 9)");
	ask($node, <<"EOS");
INSERT INTO overten_auth.key_usage
SELECT '$state{own_key}', at, '203.0.113.7', 3, 0, at, at + interval '30 min'
FROM generate_series(60, 160) ago, LATERAL (SELECT date_trunc('hour', now()) - ago * interval '1 h') t (at)
UNION ALL
SELECT '$state{own_key}', at, address::inet, 300, 0, at, at + interval '30 min'
FROM unnest('{203.0.113.7, 2001:db8:1:2::/64, NULL}'::text[]) address, LATERAL (SELECT date_trunc('hour', now()) - interval '5 h') t (at);
EOS
	# Requests of Eve's that have been repeated too often.
	ask($node, <<"EOS");
INSERT INTO overten_auth.idempotency_keys
SELECT '$eve', sha256(name::bytea), sha256(of::bytea || '\\000'::bytea || path::bytea || '\\000'::bytea || '{"name":"x","org_name":"x"}'::bytea),
	now(), now(), '$state{repeated}', '$state{repeated_key}', 5
FROM (VALUES ('done-1', 'POST /signup', ''), ('done-2', 'POST api-keys', '$state{repeated}')) v (name, of, path);
EOS
	($state{revoked_secret}, my $key) = mint($node, $state{foreign});
	ask($node, "SELECT overten_revoke_key('$state{foreign}', '$key')");
	return \%state;
}

# The rows of the contract's two tables: a name, the status, code and param that
# it says, and the request.
sub matrix
{
	my ($state) = @_;
	my %s = %$state;
	my $api = '/api/v1';
	my $keys = "$api/organizations/$s{own}/api-keys";
	my $json = 'Content-Type: application/json';
	my $ada = "Authorization: Bearer $s{ada}";
	my $good = "Authorization: Bearer $s{own_secret}";
	my $usage = "$keys/$s{own_key}/usage";
	my $signup = sub {
		my ($name, $expected, $body, @headers) = @_;
		return [ "signup: $name", $expected, 'POST', "$api/signup",
			[ @headers ? @headers : $ada, $json ], $body ];
	};
	my $on = sub { return "$api/organizations/$_[0]/api-keys" };
	my $with = sub { return ["Authorization: Bearer $_[0]"] };

	return (
		# routes, methods, media types, sizes
		[ 'no such route', '404 not_found', 'GET', '/' ],
		[ 'outside of the API', '404 not_found', 'GET', '/verify' ],
		[ 'the functions of PostgREST', '404 not_found', 'GET', '/rpc/verify' ],
		[ 'a way around by an id', '404 organization_not_found', 'DELETE', $on->('x') . '/..%2F..%2F..%2F..%2F..%2Frpc%2Fverify', [$ada] ],
		[ 'the answers of nginx', '404 not_found', 'GET', '/overten-answer' ],
		[ 'a trailing slash', '404 not_found', 'GET', "$api/verify/", [$good] ],
		[ 'a doubled slash', '404 not_found', 'GET', '/api//v1/verify', [$good] ],
		[ 'a route with ..', '404 not_found', 'GET', "$api/x/../verify", [$good] ],
		[ 'a route with .', '404 not_found', 'GET', "$api/./verify", [$good] ],
		[ 'encoded letters', '404 not_found', 'GET', "$api/%76erify", [$good] ],
		[ 'encoded slashes', '404 not_found', 'GET', "$api%2Fverify", [$good] ],
		[ 'other case', '404 not_found', 'GET', "$api/Verify", [$good] ],
		[ 'an empty id', '404 not_found', 'GET', "$api/organizations//api-keys", [$ada] ],
		[ 'an encoded slash in an id', '404 organization_not_found', 'GET', $on->('a%2Fb'), [$ada] ],
		[ 'line breaks in an id', '404 organization_not_found', 'GET', $on->('a%0d%0aX-Overten-Key-Id:%20x'), [$ada] ],
		[ '.. in the place of an id', '404 organization_not_found', 'GET', $on->('..'), [$ada] ],
		[ '10 kB of path', '400 invalid_request', 'GET', "$api/" . 'x' x 10240 ],
		[ '10 kB of id', '400 invalid_request', 'GET', $on->('x' x 10240), [$ada] ],
		[ '8 kB of query', '200', 'GET', "$api/verify?" . '&' x 8176, [$good] ],
		[ '10 kB of query', '400 invalid_request', 'GET', "$api/verify?" . 'x' x 10240, [$good] ],
		[ 'POST /verify', '405 method_not_allowed', 'POST', "$api/verify" ],
		[ 'GET /signup', '405 method_not_allowed', 'GET', "$api/signup" ],
		[ 'HEAD /signup', '405', 'HEAD', "$api/signup" ],
		[ 'PUT on keys', '405 method_not_allowed', 'PUT', $keys ],
		[ 'GET on a key', '405 method_not_allowed', 'GET', "$keys/$s{own_key}" ],
		[ 'PATCH on a key', '405 method_not_allowed', 'PATCH', "$keys/$s{own_key}", [ $ada, $json ], '{}' ],
		[ 'rotating without the feature', '404 not_found', 'POST', "$keys/$s{own_key}/rotate", [ $ada, $json ], '{}' ],
		[ 'a rotation without the feature', '404 not_found', 'GET', "$keys/$s{own_key}/rotation", [$ada] ],
		[ 'PUT on a rotation without the feature', '404 not_found', 'PUT', "$keys/$s{own_key}/rotation", [$ada] ],
		[ 'text to rotate without the feature', '404 not_found', 'POST', "$keys/$s{own_key}/rotate", ['Content-Type: text/plain'], ' ' x 16385 ],
		[ 'OPTIONS', '405 method_not_allowed', 'OPTIONS', $keys ],
		[ 'POST on usage', '405 method_not_allowed', 'POST', $usage ],
		[ 'usage of no key', '404 not_found', 'GET', "$keys//usage", [$ada] ],
		[ 'encoded usage', '404 not_found', 'GET', "$keys/$s{own_key}/%75sage", [$ada] ],
		[ 'a rare method', '405 method_not_allowed', 'PROPFIND', $keys ],
		[ 'text/plain', '415 unsupported_media_type', 'POST', "$api/signup", ['Content-Type: text/plain'], '{}' ],
		[ 'application/jsonx', '415 unsupported_media_type', 'POST', $keys, ['Content-Type: application/jsonx'], '{}' ],
		[ 'no media type', '415 unsupported_media_type', 'POST', "$api/signup", [], '{}' ],
		[ 'a media type with a parameter', '401 missing_credentials', 'POST', "$api/signup", ['Content-Type: Application/JSON; charset=utf-8'], '{}' ],
		[ 'a body over 16 KiB', '413 payload_too_large', 'POST', "$api/signup", [ $json, $ada ], ' ' x 16385 ],
		[ 'a body of 16 KiB', '400 invalid_json', 'POST', "$api/signup", [ $json, $ada ], ' ' x 16384 ],
		[ 'the same in chunks', '400 invalid_json', 'POST', "$api/signup", [ $json, $ada, 'Transfer-Encoding: chunked' ], ' ' x 16384 ],
		[ 'a body over 16 KiB in chunks', '413 payload_too_large', 'POST', $keys, [ $json, $ada, 'Transfer-Encoding: chunked' ], ' ' x 16385 ],

		[ 'a body over 16 KiB to verify', '413 payload_too_large', 'GET', "$api/verify", [$good], ' ' x 16385 ],
		[ 'a body over 16 KiB for a list', '413 payload_too_large', 'GET', $keys, [$ada], ' ' x 16385 ],
		[ 'a body over 16 KiB for usage', '413 payload_too_large', 'GET', $usage, [$ada], ' ' x 16385 ],
		[ 'a body over 16 KiB to revoke', '413 payload_too_large', 'DELETE', "$keys/$s{own_key}", [$ada], ' ' x 16385 ],
		[ 'a body where there need be none', '200', 'GET', "$api/verify", [$good], 'x' ],

		# credentials
		[ 'no credentials', '401 missing_credentials', 'GET', "$api/verify" ],
		[ 'HEAD without credentials', '401', 'HEAD', "$api/verify" ],
		[ 'no credentials for a list', '401 missing_credentials', 'GET', $keys ],
		[ 'no credentials for usage', '401 missing_credentials', 'GET', "$usage?since=x" ],
		[ 'no credentials for a new key', '401 missing_credentials', 'POST', $keys, [$json], '{' ],
		[ 'no credentials to revoke', '401 missing_credentials', 'DELETE', "$keys/$s{own_key}" ],
		[ 'Basic', '401 missing_credentials', 'GET', "$api/verify", ['Authorization: Basic YTpi'] ],
		[ 'an empty bearer', '401 missing_credentials', 'GET', "$api/verify", ['Authorization: Bearer'] ],
		[ 'bearer in lower case', '200', 'GET', "$api/verify", ["Authorization: bearer $s{own_secret}"] ],
		[ 'two credentials', '400 invalid_request', 'GET', "$api/verify", [ $good, "X-Overten-Authorization: Bearer $s{foreign_secret}" ] ],
		[ 'two credentials to revoke', '400 invalid_request', 'DELETE', "$keys/$s{own_key}", [ $ada, 'X-Overten-Authorization: Bearer x' ] ],
		[ 'two credentials for a list', '400 invalid_request', 'GET', $keys, [ $ada, "X-Overten-Authorization: $s{ada}" ] ],
		[ 'two credentials for usage', '400 invalid_request', 'GET', $usage, [ $ada, "X-Overten-Authorization: $s{ada}" ] ],
		[ 'one credential twice', '200', 'GET', "$api/verify", [ $good, "X-Overten-Authorization: Bearer $s{own_secret}" ] ],

		# keys
		[ 'a key', '200', 'GET', "$api/verify", [$good] ],
		[ 'a key with a query', '200', 'GET', "$api/verify?select=x&org_id=y", [$good] ],
		[ 'HEAD with a key', '200', 'HEAD', "$api/verify", [$good] ],
		[ 'an unknown key', '401 invalid_api_key', 'GET', "$api/verify", $with->('sk_live_00000000000000000000000K3vO8') ],
		[ 'a revoked key', '401 invalid_api_key', 'GET', "$api/verify", $with->($s{revoked_secret}) ],
		[ 'HEAD with a revoked key', '401', 'HEAD', "$api/verify", $with->($s{revoked_secret}) ],
		[ 'a malformed key', '401 invalid_api_key', 'GET', "$api/verify", $with->("$s{own_secret}x") ],
		[ 'a key and more', '401 invalid_api_key', 'GET', "$api/verify", $with->("$s{own_secret} x") ],
		[ 'a token for /verify', '401 invalid_api_key', 'GET', "$api/verify", [$ada] ],
		[ "a suspended org's key", '401 invalid_api_key', 'GET', "$api/verify", $with->($s{suspended_secret}) ],
		[ '16 kB of bearer', '401 invalid_api_key', 'GET', "$api/verify", $with->('x' x 16384) ],

		# tokens
		$signup->('a key', '401 invalid_token', '{', $good),
		$signup->('garbage', '401 invalid_token', '{', 'Authorization: Bearer x.y.z'),
		$signup->('for another project', '401 invalid_token', '{}', @{ $with->($s{elsewhere}) }),
		$signup->('a broken signature', '401 invalid_token', '{}', @{ $with->(scalar reverse $s{ada}) }),
		$signup->('an expired token', '401 expired_token', '{}', @{ $with->($s{expired}) }),
		[ 'an expired token for a list', '401 expired_token', 'GET', $keys, $with->($s{expired}) ],
		[ 'HEAD on a list with a key', '401', 'HEAD', $keys, [$good] ],
		[ 'an expired token for usage', '401 expired_token', 'GET', "$usage?since=x", $with->($s{expired}) ],
		[ 'HEAD on usage with a key', '401', 'HEAD', $usage, [$good] ],
		[ 'an expired token to revoke', '401 expired_token', 'DELETE', "$keys/$s{own_key}", $with->($s{expired}) ],
		[ 'a key to revoke', '401 invalid_token', 'DELETE', "$keys/$s{own_key}", [$good] ],

		# bodies
		$signup->('no body', '400 invalid_json', ''),
		$signup->('not JSON', '400 invalid_json', 'not JSON'),
		$signup->('half an object', '400 invalid_json', '{"org_name":'),
		$signup->('two values', '400 invalid_json', '{} {}'),
		$signup->('duplicate members', '400 invalid_json', '{"org_name":"a","org_name":"b"}'),
		$signup->('deep nesting', '400 invalid_json', '{"org_name":' . '[' x 8000 . ']' x 8000 . '}'),
		$signup->('invalid UTF-8', '400 invalid_json', "{\"org_name\":\"a\xff\"}"),
		$signup->('a NUL', '400 invalid_json', "{\"org_name\":\"a\0\"}"),
		$signup->('an array', '400 invalid_request', '[]'),
		$signup->('null', '400 invalid_request', 'null'),
		$signup->('neither org', '400 invalid_request', '{"tier":"free"}'),
		$signup->('both orgs', '400 invalid_request', "{\"org_name\":\"x\",\"existing_org_id\":\"$s{dormant}\"}"),
		$signup->('org_name a number', '400 invalid_parameter org_name', '{"org_name":1}'),
		$signup->('org_name empty', '400 invalid_parameter org_name', '{"org_name":"  "}'),
		$signup->('org_name too long', '400 invalid_parameter org_name', '{"org_name":"' . 'x' x 101 . '"}'),
		$signup->('org_name with line breaks', '400 invalid_parameter org_name', '{"org_name":"a\r\nSet-Cookie: x"}'),
		$signup->('an unknown tier', '400 invalid_parameter tier', '{"org_name":"x","tier":"gold"}'),
		$signup->('key_name an object', '400 invalid_parameter key_name', '{"org_name":"x","key_name":{}}'),
		[ 'name an array', '400 invalid_parameter name', 'POST', $keys, [ $ada, $json ], '{"name":[]}' ],
		(map { [ "$_ without the feature", "400 invalid_parameter $_", 'POST', $keys, [ $ada, $json ], "{\"$_\":null}" ] } qw(expires_at scopes allowed_addresses description metadata environment)),
		[ 'the environment of a list without the feature', '400 invalid_parameter environment', 'GET', "$keys?environment=live", [$ada] ],
		[ 'no body for a key', '400 invalid_json', 'POST', $keys, [ $ada, $json ], '' ],

		# parameters
		[ 'since no time', '400 invalid_parameter since', 'GET', "$usage?since=yesterday", [$ada] ],
		[ 'until no time', '400 invalid_parameter until', 'GET', "$usage?until=", [$ada] ],
		[ 'HEAD with a since that is no time', '400', 'HEAD', "$usage?since=x", [$ada] ],
		[ 'since twice', '400 invalid_parameter since', 'GET', "$usage?since=2026-04-17T11:20:00Z&%73ince=2026-04-17T11:20:00Z", [$ada] ],
		[ 'since with a bad escape', '400 invalid_parameter since', 'GET', "$usage?since=2026-04-17T11:20:00%5", [$ada] ],
		[ 'since with line breaks', '400 invalid_parameter since', 'GET', "$usage?since=2026-04-17T11:20:00Z%0d%0aX-Overten-Key-Id:%20x", [$ada] ],
		[ 'since with a NUL', '400 invalid_parameter since', 'GET', "$usage?since=2026-04-17T11:20:00Z%00", [$ada] ],
		[ 'more than 31 days', '400 invalid_parameter since', 'GET', "$usage?since=2026-05-01T00:00:00Z&until=2026-06-01T00:00:01Z", [$ada] ],
		[ 'until before since', '400 invalid_parameter since', 'GET', "$usage?since=2026-05-01T00:00:00Z&until=2026-04-01T00:00:00Z", [$ada] ],
		[ '10 kB of since', '400 invalid_request', 'GET', "$usage?since=" . '1' x 10240, [$ada] ],
		[ 'a bad time for an unknown org', '400 invalid_parameter since', 'GET', $on->('x') . '/y/usage?since=x', [$ada] ],

		# orgs and keys that are not the caller's
		$signup->('an unknown org', '404 organization_not_found', '{"existing_org_id":"org_00000000000000000000"}'),
		$signup->("another's org", '404 organization_not_found', "{\"existing_org_id\":\"$s{foreign}\"}"),
		[ 'list of an unknown org', '404 organization_not_found', 'GET', $on->('org_00000000000000000000'), [$ada] ],
		[ "list of another's org", '404 organization_not_found', 'GET', $on->($s{foreign}), [$ada] ],
		[ "HEAD on another's org", '404', 'HEAD', $on->($s{foreign}), [$ada] ],
		[ "a key for another's org", '404 organization_not_found', 'POST', $on->($s{foreign}), [ $ada, $json ], '{"name":"x"}' ],
		(map { [ "revoking, with a reason $_->[0]", '400 invalid_parameter reason', 'DELETE', "$keys/$s{own_key}?reason=$_->[1]", [$ada] ] }
			[ 'empty', '' ], [ 'of spaces', '%20%20' ], [ 'too long', 'x' x 201 ], [ 'with a line break', 'a%0ab' ], [ 'with a NUL', 'a%00' ], [ 'turned around', '%e2%80%ae' ], [ 'that is not UTF-8', '%ff' ], [ 'that ends within a character', 'a%e2%82' ], [ 'twice', 'x&reason=x' ]),
		[ 'a bad reason before an unknown org', '400 invalid_parameter reason', 'DELETE', $on->('x') . '/y?reason=', [$ada] ],
		[ "revoking in another's org", '404 organization_not_found', 'DELETE', $on->($s{foreign}) . "/$s{foreign_key}", [$ada] ],
		[ "usage in another's org", '404 organization_not_found', 'GET', $on->($s{foreign}) . "/$s{foreign_key}/usage", [$ada] ],
		[ 'usage of an unknown key', '404 key_not_found', 'GET', "$keys/key_00000000000000000000/usage", [$ada] ],
		[ "usage of another org's key", '404 key_not_found', 'GET', "$keys/$s{foreign_key}/usage", [$ada] ],
		[ 'HEAD on usage of an unknown key', '404', 'HEAD', "$keys/x/usage", [$ada] ],
		[ 'revoking an unknown key', '404 key_not_found', 'DELETE', "$keys/key_00000000000000000000", [$ada] ],
		[ "revoking another org's key", '404 key_not_found', 'DELETE', "$keys/$s{foreign_key}", [$ada] ],
		[ 'revoking with a made-up id', '404 key_not_found', 'DELETE', "$keys/';--", [$ada] ],

		# limits and states
		$signup->('signed up already', '409 already_signed_up', "{\"existing_org_id\":\"$s{own}\"}"),
		$signup->('enough orgs', '409 org_limit_reached', '{"org_name":"x"}', @{ $with->($s{rich}) }),
		[ 'an org that never signed up', '403 api_access_disabled', 'POST', $on->($s{dormant}), [ $ada, $json ], '{"name":"x"}' ],
		$signup->('suspended before it ever signed up', '403 api_access_disabled', "{\"existing_org_id\":\"$s{locked}\"}"),
		[ 'a suspended org', '403 api_access_disabled', 'POST', $on->($s{suspended}), [ $ada, $json ], '{"name":"x"}' ],
		[ 'enough keys', '409 key_limit_reached', 'POST', $on->($s{full}), [ $ada, $json ], '{"name":"x"}' ],
		[ 'enough keys ever', '409 key_limit_reached', 'POST', $on->($s{worn}), [ $ada, $json ], '{"name":"x"}' ],

		# requests that are repeated; the database has got each of them before
		(
			map {
				my ($what, $path) = @$_;
				my $post = sub {
					my ($name, $expected, $key, $body) = @_;
					return [ "$what: $name", $expected, 'POST', $path, [ "Authorization: Bearer $s{eve}", $json, "Idempotency-Key: $key" ],
						$body // '{"name":"x","org_name":"x"}' ];
				};
				(
					$post->('a name with a space', '400 invalid_request', 'a b'),
					$post->('a name that is not ASCII', '400 invalid_request', "\xc3\xa9"),
					$post->('a name of 256 characters', '400 invalid_request', 'x' x 256),
					$post->('a bad name and no JSON', '400 invalid_request', 'a b', 'not JSON'),
					$post->('a name and no JSON', '400 invalid_json', 'x', 'not JSON'),
					$post->('repeated', '201', "\"$what\""),
					$post->('repeated with another body', '422 idempotency_key_reused', "\"$what\"", '{"org_name":"y"}'),
					$post->('repeated too often', '409 already_done', $what eq 'signup' ? 'done-1' : 'done-2'));
			} ([ 'signup', "$api/signup" ], [ 'mint', $on->($s{repeated}) ])),

		# what a client's own headers must not do
		[ "a client's org id", '200', 'GET', $keys, [ $ada, "X-Overten-Org-Id: $s{foreign}" ] ],
		[ "a client's key id", '404 key_not_found', 'DELETE', "$keys/x", [ $ada, "X-Overten-Key-Id: $s{own_key}" ] ],
		[ "a client's query", '200', 'GET', $usage, [ $ada, 'X-Overten-Query: since=x' ] ],
		[ "a client's headers for PostgREST", '200', 'GET', $keys, [ $ada, 'Accept: text/csv', 'Range: items=5-9', 'Accept-Profile: overten_auth', 'Prefer: handling=strict, tx=rollback, max-affected=0' ] ],

		org_matrix($state),

		# success
		$signup->('a new org', '201', '{"org_name":" Acme \"Docs\" ✓ ","tier":"free","key_name":"primary","plan":{"unknown":[1]}}'),
		[ 'a new key', '201', 'POST', $keys, [ $ada, $json ], '{"name":"ci-tests"}' ],
		[ 'the list', '200', 'GET', $keys, [$ada] ],
		[ 'HEAD on the list', '200', 'HEAD', $keys, [$ada] ],
		[ 'the list of a suspended org', '200', 'GET', $on->($s{suspended}), [$ada] ],
		[ 'usage', '200', 'GET', $usage, [$ada] ],
		[ 'HEAD on usage', '200', 'HEAD', $usage, [$ada] ],
		[ 'usage with an empty query', '200', 'GET', "$usage?", [$ada] ],
		[ 'usage since another time zone', '200', 'GET', "$usage?since=2026-05-01T00:00:00.125%2B05:45&until=2026-05-31T10:59:59-03:30", [$ada] ],
		[ 'usage since a plus sign', '200', 'GET', "$usage?until=2026-05-01T00:00:00+05:45", [$ada] ],
		[ 'usage with unknown parameters', '200', 'GET', "$usage?select=hour&limit=1&org_id=x&%zz&since=2026-05-01T00:00:00Z&until=2026-05-02T00:00:00Z&x=%zz", [$ada] ],
		[ 'usage of a key without', '200', 'GET', $on->($s{suspended}) . "/$s{suspended_key}/usage", [$ada] ],
		[ 'revoking', '204', 'DELETE', "$keys/$s{own_key}?reason=%20f%c3%bcr+immer%20", [$ada] ],
		[ 'revoking again', '204', 'DELETE', "$keys/$s{own_key}", [$ada] ],
		[ 'the revoked key', '401 invalid_api_key', 'GET', "$api/verify", [$good] ],
	);
}

1;
