
# The answers of the gateway to what the documentation of the API shows, and to
# what clients get wrong there, are to the byte what they were when they were
# recorded, before keys had expiries, scopes and the like: with the settings as
# they are, with each optional feature turned off by name, and with the features of
# keys turned on, where answers have more members and nothing else is different.
# pg_regress has no HTTP.
#
# The file recorded_answers has the exchanges in their order.  To record them
# anew, copy answers.off from the folder of the test's logs.  What is random or a
# time is replaced by a text of the same length, so lengths count, and the same id
# or secret has the same number everywhere.

use strict;
use warnings FATAL => 'all';

use FindBin;
use lib $FindBin::RealBin;
use GatewayTest;
use IO::Socket::INET;
use OvertenTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

# What a request or an answer has that is different each time.  A prefix has the
# number of its secret, and the time has no number.
sub new_mask
{
	my %numbers;
	my %counts;
	my $number = sub {
		my ($kind, $value, $length) = @_;

		my $n = $numbers{$kind}{$value} //= ++$counts{$kind};
		return substr($n . '.' x $length, 0, $length);
	};

	return sub {
		my ($text) = @_;

		$text =~ s/\b(org|key)_([0-9A-Za-z]{20})\b/"$1_" . $number->($1, $2, 20)/ge;
		$text =~ s/"(whsec_)([^"]+)"/"\"$1" . $number->($1, $2, length $2) . '"'/ge;
		$text =~ s/"sk_live_([0-9A-Za-z]{4})([0-9A-Za-z]{24}|)"/'"sk_live_' . $number->('secret', $1, 4 + length $2) . '"'/ge;
		$text =~ s/"20(?!20)\d\d-\d\d-\d\dT\d\d:\d\d:\d\dZ"/"YYYY-MM-DDThh:mm:ssZ"/g;
		$text =~ s/^Date: \w{3}, \d\d \w{3} \d{4} \d\d:\d\d:\d\d GMT$/Date: Day, DD Mon YYYY hh:mm:ss GMT/m;
		return $text;
	};
}

# All bytes of the answer to a request.
sub answer
{
	my ($gateway, $method, $path, $headers, $body) = @_;
	my $socket = IO::Socket::INET->new(PeerAddr => '127.0.0.1', PeerPort => $gateway->{port}) or die "cannot connect: $!";

	$socket->syswrite(join("\r\n", "$method $path HTTP/1.1", 'Host: localhost', 'Connection: close', @$headers,
		defined $body ? 'Content-Length: ' . length $body : (), '', $body // ''));
	return rest_of($socket);
}

# An answer with the lines of its head as lines of a file.
sub lines
{
	my ($answer) = @_;
	my ($head, $body) = split /\r\n\r\n/, $answer, 2;

	die "no answer: $answer" unless defined $body;
	die "stray line breaks: $head" if $head =~ s/\r\n/\n/gr =~ /\r/ || $head =~ /(?<!\r)\n/;
	return $head =~ s/\r\n/\n/gr . "\n\n$body";
}

# What the answer says of the first key or org in it.
sub found
{
	my ($answer, $member) = @_;

	return $answer =~ /"$member":"([^"]+)"/ ? $1 : die "no $member in: $answer";
}

my $api = '/api/v1';
my $json = 'Content-Type: application/json';
my $unknown = 'sk_live_00000000000000000000000K3vO8';
my $plays = 0;

# Play all exchanges with people and orgs of their own.  Returns the names, and an
# answer for each.
sub play
{
	my ($node, $gateway) = @_;
	my ($ada, $bob) = map { $_ . $plays } qw(ada bob);
	my $token = 'Authorization: Bearer ' . sign($ada);
	my $expired = 'Authorization: Bearer ' . sign($ada, 'exp=1000000000');
	my $elsewhere = 'Authorization: Bearer ' . sign($ada, 'aud="elsewhere"');
	my $broken = $token =~ s/\.\K[^.]+$/scalar reverse $&/er;
	my $mask = new_mask();
	my (@names, %answers);
	my $exchange = sub {
		my ($name, @request) = @_;
		my $answer = answer($gateway, @request);

		$name =~ s/[^ -~]/?/g;
		die "\"$name\" is there twice" if exists $answers{$name};
		push @names, $name;
		$answers{$name} = $mask->(lines($answer));
		return $answer;
	};
	my $post = sub {
		my ($name, $path, $body, @headers) = @_;
		return $exchange->($name, 'POST', "$api$path", [ @headers ? @headers : $token, $json ], $body);
	};
	$plays++;

	# Signing up
	my $first = $post->('sign up', '/signup', '{ "org_name": "Acme Docs", "tier": "free", "key_name": "primary" }');
	my ($org, $key, $secret) = map { found($first, $_) } qw(org_id key_id secret);
	my $bearer = "Authorization: Bearer $secret";
	my $keys = "/organizations/$org/api-keys";
	my $dormant = create_org($node, 'Dormant');
	my $foreign = create_org($node, 'Foreign');
	ask($node, "SELECT overten_add_member('$dormant', '$ada'), overten_add_member('$foreign', '$bob'), overten_set_api_access('$foreign', true)");
	my ($foreign_secret, $foreign_key) = mint($node, $foreign);
	$post->('mint before signing up', "/organizations/$dormant/api-keys", '{"name":"x"}');
	$post->('sign up an existing org', '/signup', "{\"existing_org_id\":\"$dormant\"}");
	$post->('again', '/signup', "{\"existing_org_id\":\"$dormant\"}");
	$post->('with its tier and a name', '/signup', '{"org_name":"  Caf\u00e9 \"du\" \\\\ Nord  ","tier":"free","key_name":"ci tests","plan":{"a":[1,null]}}');
	$post->('existing org: unknown', '/signup', '{"existing_org_id":"org_00000000000000000000"}');
	$post->("existing org: another's", '/signup', "{\"existing_org_id\":\"$foreign\"}");
	$post->('existing org: no id', '/signup', '{"existing_org_id":"acme"}');
	$post->('existing org: a number', '/signup', '{"existing_org_id":1}');
	$post->('both orgs', '/signup', "{\"org_name\":\"x\",\"existing_org_id\":\"$org\"}");
	$post->('neither org', '/signup', '{}');
	$post->('existing org: another tier', '/signup', "{\"existing_org_id\":\"$dormant\",\"tier\":\"gold\"}");
	foreach my $bad ('""', '"  "', '1', 'null', '[]', '{}', 'true', '"' . 'x' x 101 . '"', '"a\nb"', '"a\u0000"', '"\ud800"', '"a\u202eb"')
	{
		$post->("org_name $bad", '/signup', "{\"org_name\":$bad}");
	}
	$post->('org_name of 100', '/signup', '{"org_name":"' . "\xc3\xa9" x 100 . '"}');
	foreach my $bad ('"gold"', '1', 'null', '""')
	{
		$post->("tier $bad", '/signup', "{\"org_name\":\"x\",\"tier\":$bad}");
	}
	foreach my $bad ('""', '1', '"' . 'x' x 65 . '"', '"\t"')
	{
		$post->("key_name $bad", '/signup', "{\"org_name\":\"x\",\"key_name\":$bad}");
	}
	foreach my $bad ('', 'x', '{', '{"org_name":"a","org_name":"b"}', "{\"org_name\":\"\xff\"}", '[]', '"x"', 'null', '{} {}', ' ' x 16385)
	{
		$post->('sign up: ' . (length $bad > 100 ? 'too much' : $bad eq '' ? 'no body' : "body $bad"), '/signup', $bad);
		$post->('mint: ' . (length $bad > 100 ? 'too much' : $bad eq '' ? 'no body' : "body $bad"), $keys, $bad);
	}

	# Credentials
	foreach my $place ([ 'sign up', 'POST', '/signup' ], [ 'mint', 'POST', $keys ], [ 'list', 'GET', $keys ], [ 'revoke', 'DELETE', "$keys/$key" ], [ 'usage', 'GET', "$keys/$key/usage" ])
	{
		my ($what, $method, $path) = @$place;
		my @body = $method eq 'POST' ? '{"org_name":"x","name":"x"}' : ();
		my @type = $method eq 'POST' ? $json : ();

		$exchange->("$what: no credential", $method, "$api$path", [@type], @body);
		$exchange->("$what: Basic", $method, "$api$path", [ 'Authorization: Basic YTpi', @type ], @body);
		$exchange->("$what: a key", $method, "$api$path", [ $bearer, @type ], @body);
		$exchange->("$what: no token", $method, "$api$path", [ 'Authorization: Bearer x.y.z', @type ], @body);
		$exchange->("$what: an expired token", $method, "$api$path", [ $expired, @type ], @body);
		$exchange->("$what: another project's token", $method, "$api$path", [ $elsewhere, @type ], @body);
		$exchange->("$what: a broken signature", $method, "$api$path", [ $broken, @type ], @body);
		$exchange->("$what: two credentials", $method, "$api$path", [ $token, 'X-Overten-Authorization: Bearer x', @type ], @body);
	}

	# Keys
	my $second = $post->('mint', $keys, '{ "name": "ci-tests" }');
	my ($second_key, $second_secret) = map { found($second, $_) } qw(key_id secret);
	$post->('mint: unknown members', $keys, '{"name":"staging","permissions":["all"],"ttl":60}');
	foreach my $bad ('""', '1', 'null', '[]', '"' . 'x' x 65 . '"', '"a\nb"')
	{
		$post->("mint: name $bad", $keys, "{\"name\":$bad}");
	}
	$post->('mint: no name', $keys, '{}');
	$post->('mint: unknown org', '/organizations/org_00000000000000000000/api-keys', '{"name":"x"}');
	$post->("mint: another's org", "/organizations/$foreign/api-keys", '{"name":"x"}');
	$post->('mint: no id', '/organizations/x/api-keys', '{"name":"x"}');

	# Verifying
	my $verify = sub {
		my ($name, @headers) = @_;
		return $exchange->($name, 'GET', "$api/verify", [@headers]);
	};
	$verify->('verify', $bearer);
	$verify->('verify: no credential');
	$verify->('verify: empty', 'Authorization: Bearer');
	$verify->('verify: Basic', 'Authorization: Basic YTpi');
	$verify->('verify: a token', $token);
	$verify->('verify: unknown', "Authorization: Bearer $unknown");
	$verify->('verify: malformed', "Authorization: Bearer ${secret}x");
	$verify->('verify: two', $bearer, 'X-Overten-Authorization: Bearer x');
	$verify->('verify: lower case', "authorization: bearer $secret");
	$exchange->('verify: HEAD', 'HEAD', "$api/verify", [$bearer]);
	$exchange->('verify: HEAD, unknown', 'HEAD', "$api/verify", ["Authorization: Bearer $unknown"]);
	$exchange->('verify: with a query', 'GET', "$api/verify?x=y", [$bearer]);
	$exchange->('verify: with a body', 'GET', "$api/verify", [ $bearer, $json ], '{}');

	# Listing and revoking
	$exchange->('list', 'GET', "$api$keys", [$token]);
	$exchange->('list: HEAD', 'HEAD', "$api$keys", [$token]);
	$exchange->('list: unknown parameters', 'GET', "$api$keys?page=2&sort=name", [$token]);
	$exchange->('list: unknown org', 'GET', "$api/organizations/org_00000000000000000000/api-keys", [$token]);
	$exchange->("list: another's org", 'GET', "$api/organizations/$foreign/api-keys", [$token]);
	$exchange->('revoke', 'DELETE', "$api$keys/$second_key", [$token]);
	$exchange->('revoke: again', 'DELETE', "$api$keys/$second_key", [$token]);
	$exchange->('revoke: unknown', 'DELETE', "$api$keys/key_00000000000000000000", [$token]);
	$exchange->("revoke: another's", 'DELETE', "$api$keys/$foreign_key", [$token]);
	$exchange->("revoke: another's org", 'DELETE', "$api/organizations/$foreign/api-keys/$foreign_key", [$token]);
	$verify->('verify: revoked', "Authorization: Bearer $second_secret");
	$exchange->('list: one is revoked', 'GET', "$api$keys", [$token]);

	# The history of a key
	ask($node, "INSERT INTO overten_auth.key_usage SELECT '$key', t, a, n, 0, t, t + '30 min' FROM (VALUES ('2020-04-17 11:00Z'::timestamptz, '203.0.113.7'::inet, 3), ('2020-04-17 12:00Z', '2001:db8::/64', 2), ('2020-04-17 12:00Z', NULL, 1)) v (t, a, n)");
	my $usage = "$api$keys/$key/usage";
	$exchange->('usage', 'GET', "$usage?since=2020-04-17T11:30:00Z&until=2020-04-18T00:00:00%2B01:00", [$token]);
	$exchange->('usage: none', 'GET', "$usage?since=2020-04-18T00:00:00Z&until=2020-04-19T00:00:00Z", [$token]);
	$exchange->('usage: HEAD', 'HEAD', "$usage?since=2020-04-18T00:00:00Z&until=2020-04-19T00:00:00Z", [$token]);
	$exchange->('usage: unknown key', 'GET', "$api$keys/key_00000000000000000000/usage", [$token]);
	foreach my $bad ('since=yesterday', 'until=', 'since=2020-05-01T00:00:00Z&until=2020-04-01T00:00:00Z', 'since=2020-05-01T00:00:00Z&until=2020-06-01T00:00:01Z')
	{
		$exchange->("usage: $bad", 'GET', "$usage?$bad", [$token]);
	}

	# Routes, methods, media types
	foreach my $place ([ 'GET', '/signup' ], [ 'HEAD', '/signup' ], [ 'PUT', $keys ], [ 'OPTIONS', $keys ], [ 'POST', '/verify' ], [ 'DELETE', $keys ],
		[ 'POST', "$keys/$key/usage" ], [ 'GET', '/' ], [ 'GET', '/nothing' ], [ 'GET', '/verify/' ], [ 'GET', "/organizations//api-keys" ], [ 'OPTIONS', '/signup' ])
	{
		my ($method, $path) = @$place;

		$exchange->("$method " . $path =~ s/org_\w+/ORG/r =~ s/key_\w+/KEY/r, $method, "$api$path", [$token]);
	}
	foreach my $method (qw(GET HEAD PATCH PUT OPTIONS))
	{
		$exchange->("$method a key", $method, "$api$keys/$key", [ $token, $method eq 'PATCH' ? $json : () ], $method eq 'PATCH' ? '{}' : undef);
	}
	$exchange->('outside of the API', 'GET', '/', []);
	$exchange->('sign up: text/plain', 'POST', "$api/signup", [ $token, 'Content-Type: text/plain' ], '{}');
	$exchange->('mint: no media type', 'POST', "$api$keys", [$token], '{}');
	$exchange->('a long path', 'GET', "$api/" . 'x' x 10240, []);

	# Limits, as they are by default
	ask($node, "SELECT count(m.key_id) FROM generate_series(1, 98) i, LATERAL overten_mint_key('$org', i::text) m");
	$post->('mint: too many keys', $keys, '{"name":"x"}');
	ask($node, "DO \$\$ BEGIN LOOP BEGIN PERFORM overten_signup('$ada', 'x'); EXCEPTION WHEN configuration_limit_exceeded THEN EXIT; END; END LOOP; END \$\$");
	$post->('sign up: too many orgs', '/signup', '{"org_name":"x"}');

	# States of the org and of the service
	ask($node, "SELECT overten_set_api_access('$org', false)");
	$verify->('suspended: verify', $bearer);
	$post->('suspended: mint', $keys, '{"name":"x"}');
	$exchange->('suspended: revoke', 'DELETE', "$api$keys/$second_key", [$token]);
	$post->('suspended: sign up', '/signup', "{\"existing_org_id\":\"$org\"}");
	ask($node, 'CREATE TABLE kept AS SELECT * FROM overten_auth.signing_keys; DELETE FROM overten_auth.signing_keys');
	$post->('no signing keys: sign up', '/signup', '{"org_name":"x"}');
	$exchange->('no signing keys: list', 'GET', "$api$keys", [$token]);
	ask($node, 'INSERT INTO overten_auth.signing_keys SELECT * FROM kept; DROP TABLE kept');
	ask($node, 'REVOKE EXECUTE ON FUNCTION overten_handle_request(text, text, json, bytea) FROM overten_gateway');
	$verify->('no privilege', $bearer);
	ask($node, 'GRANT EXECUTE ON FUNCTION overten_handle_request(text, text, json, bytea) TO overten_gateway');
	return (\@names, \%answers);
}

# The exchanges as the file has them.
sub written
{
	my ($names, $answers) = @_;

	return join '', map { "=== $_\n$answers->{$_}\n\n" } @$names;
}

# Play the exchanges, and compare them with those of the file, one check each.
my $recorded = slurp_file("$FindBin::RealBin/recorded_answers");
my %expected = $recorded =~ /^=== (.*?)\n(.*?)\n\n(?==== |\z)/msg;

sub compare
{
	my ($how, $names, $answers) = @_;

	is_deeply($names, [ $recorded =~ /^=== (.*)$/mg ], "$how: the exchanges are those of the file");
	is($answers->{$_}, $expected{$_}, "$how: $_") foreach @$names;
	return;
}

my $node = create_api_node('recorded', '');
my $gateway = start_gateway($node, 'recorded_gateway');
my ($names, $answers) = play($node, $gateway);
PostgreSQL::Test::Utils::append_to_file("$PostgreSQL::Test::Utils::log_path/answers.off", written($names, $answers));
compare('by default', $names, $answers);

# Each setting of the optional features with the value that turns it off.
my %off = (
	max_key_lifetime => '0',
	key_prefixes => 'sk_live_, test:sk_test_',
	accept_test_keys => 'off',
	key_features => '',
	verify_restricted => 'off',
	firebase_tenant => '',
	signup_requires_verified_email => 'off',
	allow_anonymous_signup => 'off',
	trusted_proxies => '',
	audit_retention => '0');
stop_process($gateway);
$node->append_conf('postgresql.conf', join '', map { "overten_auth.$_ = '$off{$_}'\n" } sort keys %off);
$node->restart;
is(ask($node, "LOAD 'overten_auth'; SELECT count(*) FROM pg_settings WHERE name LIKE 'overten_auth.%' AND source = 'configuration file'"),
	scalar keys %off, 'the settings are there');
$gateway = start_gateway($node, 'explicit_gateway', CORS_ORIGINS => '');
compare('turned off', play($node, $gateway));

# The features of keys: answers have more members.
stop_process($gateway);
$node->adjust_conf('postgresql.conf', 'overten_auth.key_features', "'expiry, disable, scopes, addresses, people'");
$node->reload;
$gateway = start_gateway($node, 'features_gateway');
my $more = 0;
($names, $answers) = play($node, $gateway);
is($answers->{"$_ a key"} =~ /^HTTP\/1.1 (\d+) / && $1, 200, "with features: there is $_ of a key") foreach qw(GET HEAD PATCH);
$answers->{"$_ a key"} =~ s/^allow: \KDELETE, GET, HEAD, PATCH$/DELETE/m or die $answers->{"$_ a key"} foreach qw(PUT OPTIONS);
foreach my $name (@$names)
{
	my $answer = $answers->{$name};
	my $person = qr/(?:"ada\d"|null)/;
	my $given = ',"expires_at":null,"scopes":null,"allowed_addresses":null';
	my $removed = 0;

	next if $name =~ /^(?:GET|HEAD|PATCH) a key$/;
	$removed += length $& while $answer =~ s/,"status":"(?:active|revoked)"$given,"disabled_at":null,"created_by":$person,"revoked_by":$person,"revoked_reason":null,"disabled_by":null,"disabled_reason":null//;
	$removed += length $& if $answer =~ s/$given//;
	$removed += length $& while $answer =~ s/"refused":0\K,"limited":0//;
	$answer =~ s/^Content-Length: \K(\d+)$/$1 - $removed/me if $removed > 0;
	$more++ if $removed > 0;
	is($answer, $expected{$name}, "with features: $name");
}
is($more, scalar(grep { /^HTTP\/1.1 20[01] .*"(?:key_id|refused)":/s } values %expected), 'with features: each answer with keys, or with uses, has more members');

stop_process($gateway);
done_testing();
