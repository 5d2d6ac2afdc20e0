
# What overten_auth.key_features lets the members of an org set and see of their
# keys, over HTTP through the gateway: minting, showing and changing keys, one
# feature at a time.  What a key has is enforced whether the feature is on or off.
# pg_regress cannot wait for a reload of the configuration.

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

my $node = create_api_node('features', <<'EOC');
overten_auth.trust_forwarded_for = 1
overten_auth.key_features = ''
EOC
my $json = JSON::PP->new->canonical;
my $org = create_org($node, 'Acme');
my $other = create_org($node, 'Other');
ask($node, "SELECT overten_set_api_access(o, true) FROM unnest('{$org,$other}'::text[]) o");
ask($node, "SELECT overten_add_member('$org', 'ada'), overten_add_member('$other', 'bob')");
ask($node, "INSERT INTO overten_auth.scopes (name, self_service) VALUES ('jobs.read', true), ('jobs.write', true), ('admin', false)");
my (undef, $foreign) = mint($node, $other);
my $gateway = start_gateway($node, 'features_gateway');
my $ada = 'Authorization: Bearer ' . sign('ada');
my $keys = "/api/v1/organizations/$org/api-keys";

sub turn_on
{
	my ($features) = @_;

	$node->adjust_conf('postgresql.conf', 'overten_auth.key_features', "'$features'");
	$node->reload;
	# The gateway keeps its sessions, which reload before their next statement.
	wait_until("key_features is '$features'", sub {
		return request($gateway->{url}, 'PATCH', "$keys/x", [ $ada, 'Content-Type: application/json' ], '{}')->{status} eq ($features eq '' ? 405 : 404)
		  && ask($node, 'SHOW overten_auth.key_features') eq $features;
	});
	return;
}

# A request of Ada's: its status, and what the answer says.
sub exchange
{
	my ($method, $path, $content) = @_;
	my $answer = request($gateway->{url}, $method, "$keys$path",
		[ $ada, defined $content ? 'Content-Type: application/json' : () ], $content);
	my $body = $answer->{body} eq '' ? {} : $json->decode($answer->{body});

	return { status => $answer->{status}, %$body };
}

# The members of an answer that are not in every one.
sub more
{
	my ($answer) = @_;
	my %more = %$answer;

	delete @more{qw(key_id name prefix created_at last_used_at revoked_at org_id org_name tier secret webhook_secret)};
	return $json->encode(\%more);
}

sub refusal
{
	my ($method, $path, $content) = @_;
	my $answer = exchange($method, $path, $content);

	return join ' ', $answer->{status}, $answer->{error}{code} // '', $answer->{error}{param} // ();
}

sub verify_from
{
	my ($secret, $address) = @_;

	return summary(request($gateway->{url}, 'GET', '/api/v1/verify', [ "Authorization: Bearer $secret", "X-Forwarded-For: $address" ]));
}

my %members = (
	expiry => '"expires_at":"2100-01-02T03:04:05Z"',
	scopes => '"scopes":["jobs.write","jobs.read","jobs.read"]',
	addresses => '"allowed_addresses":["192.0.2.7","2001:db8::/32"]');
my %shown = (
	expiry => '"expires_at":"2100-01-02T03:04:05Z"',
	scopes => '"scopes":["jobs.read","jobs.write"]',
	addresses => '"allowed_addresses":["192.0.2.7/32","2001:db8::/32"]');
my %param = (expiry => 'expires_at', scopes => 'scopes', addresses => 'allowed_addresses');

# Off: the contract as it is.
my $plain = exchange('POST', '', '{"name":"plain"}');
is(more($plain), '{"status":201}', 'without features, a new key has the members of the contract');
is(refusal($_, "/$plain->{key_id}", $_ eq 'PATCH' ? '{}' : undef), '405 method_not_allowed', "$_ on a key without features") foreach qw(GET PATCH);

# The history has what limits refused while there is any feature.
ask($node, "INSERT INTO overten_auth.key_usage (key_id, hour, first_used_at, last_used_at, limited)
	SELECT '$plain->{key_id}', date_trunc('hour', now(), 'UTC'), now(), now(), 7");
sub limited
{
	return join ' ', map { $_->{limited} // 'none' } @{ exchange('GET', "/$plain->{key_id}/usage")->{items} };
}
is(limited(), 'none', 'without features, the history does not show what limits refused');

# One feature at a time: its member is taken and shown, all others are refused.
foreach my $feature (sort keys %members)
{
	turn_on($feature);
	my $minted = exchange('POST', '', "{\"name\":\"$feature\",$members{$feature}}");

	is(more($minted), "{$shown{$feature},\"status\":201}", "$feature: a new key has it");
	is(more(exchange('GET', "/$minted->{key_id}")), "{$shown{$feature},\"status\":\"active\"}", "$feature: and is shown with it");
	is(more(exchange('PATCH', "/$plain->{key_id}", "{$members{$feature}}")), "{$shown{$feature},\"status\":\"active\"}", "$feature: a key can get it");
	is(more(exchange('PATCH', "/$plain->{key_id}", "{\"$param{$feature}\":null}")), "{\"$param{$feature}\":null,\"status\":\"active\"}", "$feature: and lose it");
	my ($listed) = grep { $_->{key_id} eq $minted->{key_id} } @{ exchange('GET', '')->{items} };
	is(more($listed), "{$shown{$feature},\"status\":\"active\"}", "$feature: a list shows it");
	is(limited(), 7, "$feature: the history shows what limits refused");
	check_others($feature);
}

# What is refused, or not there, while its feature is off.
sub check_others
{
	my ($feature) = @_;
	my %of = (name => 'details', description => 'details', metadata => 'details', environment => 'environments', disabled => 'disable', map { $param{$_} => $_ } keys %param);
	my %values = (name => '"x"', description => '"x"', metadata => '{"x":1}', environment => '"test"', disabled => 'false', expires_at => '"2100-01-01T00:00:00Z"', scopes => '["jobs.read"]', allowed_addresses => '["192.0.2.1"]');

	foreach my $param (grep { $of{$_} ne $feature } sort keys %of)
	{
		foreach my $value ($values{$param}, 'null')
		{
			is(refusal('PATCH', "/$plain->{key_id}", "{\"$param\":$value}"), "400 invalid_parameter $param", "$feature: PATCH has no $param, $value");
			is(refusal('POST', '', "{\"$param\":$value}"), "400 invalid_parameter $param", "$feature: POST has no $param, $value") unless $param =~ /^(name|disabled)$/;
		}
	}
	is(refusal('GET', "?status=$_->[0]"), $feature eq $_->[1] ? '200 ' : '400 invalid_parameter status', "$feature: a list of $_->[0] keys") foreach [ 'expired', 'expiry' ], [ 'disabled', 'disable' ];
	is(refusal('GET', '?environment=test'), '400 invalid_parameter environment', "$feature: lists have no environment") unless $feature eq 'environments';
	return if $feature eq 'rotation';
	is(refusal(@$_), '404 not_found', "$feature: there is no $_->[0] $_->[1]") foreach [ 'POST', "/$plain->{key_id}/rotate", '{' ], [ 'GET', "/$plain->{key_id}/rotation" ], [ 'PUT', "/$plain->{key_id}/rotation" ];
	return;
}

turn_on('details');
check_others('details');
my $described = exchange('POST', '', '{"name":"described","description":"  the importer ","metadata":{"team":"billing","cost":1.50,"":["e",1e3,-0,true,null,{}]}}');
is(more($described), '{"description":"the importer","metadata":{"":["e",1000,0,true,null,{}],"cost":1.5,"team":"billing"},"status":201}', 'details: a new key has them');
is(more(exchange('GET', "/$described->{key_id}")), '{"description":"the importer","metadata":{"":["e",1000,0,true,null,{}],"cost":1.5,"team":"billing"},"status":"active"}', 'details: and is shown with them');
is(more(grep { $_->{key_id} eq $described->{key_id} } @{ exchange('GET', '')->{items} }), '{"status":"active"}', 'details: a list does not show them');
is(ask($node, "SELECT * FROM overten_key_details('$org', '$described->{key_id}')"), 'the importer|{"": ["e", 1000, 0, true, null, {}], "cost": 1.50, "team": "billing"}', 'details: nor is JSON in a string stored');
is(request($gateway->{url}, 'PATCH', "$keys/$described->{key_id}", [ $ada, 'Content-Type: application/json' ], '{"metadata":{"account":12345678901234567890,"b":1e400}}')->{body} =~ /"account": ?(\d+)/ && $1,
	'12345678901234567890', 'details: a number can be larger than a double holds exactly');
is(refusal('PATCH', "/$described->{key_id}", qq({"metadata":{"a":$_}})), '400 invalid_json', "details: but not $_") foreach '1e401', '1' x 513, '1,"a":2', '"\\u0000"', '"\\ud800"';
is(more(exchange('PATCH', "/$described->{key_id}", '{"metadata":{"team":"sales"}}')), '{"description":"the importer","metadata":{"team":"sales"},"status":"active"}', 'details: metadata alone');
is(more(exchange('PATCH', "/$described->{key_id}", '{"description":null}')), '{"description":null,"metadata":{"team":"sales"},"status":"active"}', 'details: a description is removed');
is(more(exchange('PATCH', "/$described->{key_id}", '{"metadata":null}')), '{"description":null,"metadata":null,"status":"active"}', 'details: metadata are removed');
is(exchange('PATCH', "/$described->{key_id}", '{"name":" renamed "}')->{name}, 'renamed', 'details: a new name');
is(verify_from($described->{secret}, '192.0.2.9'), '200', 'details: the key is as good as before');
is(refusal('PATCH', "/$foreign", '{"name":"x","description":"x"}'), '404 key_not_found', "details: another org's key");
is(ask($node, "SELECT name, (SELECT count(*) FROM overten_auth.key_details WHERE key_id = '$foreign') FROM overten_auth.api_keys WHERE key_id = '$foreign'"), 'primary|0', 'details: which stays as it is');
is(ask($node, "SELECT string_agg(action || ' ' || uid || coalesce(' ' || detail, ''), ', ' ORDER BY at) FROM overten_auth.audit_log WHERE key_id = '$described->{key_id}'"),
	'mint_key ada described, set_key_details ada, set_key_details ada, set_key_details ada, set_key_details ada, rename_key ada renamed', 'details: the audit log has each change');

turn_on('environments');
check_others('environments');
my $for_test = exchange('POST', '', '{"name":"for tests","environment":"test"}');
is(more($for_test), '{"environment":"test","status":201}', 'environments: a test key');
like($for_test->{secret}, qr/^sk_test_/, 'environments: looks like one');
is(more(exchange('POST', '', '{"name":"live"}')), '{"environment":"live","status":201}', 'environments: a key is a live one unless said otherwise');
is(more(exchange('GET', "/$for_test->{key_id}")), '{"environment":"test","status":"active"}', 'environments: and is shown so');
is(join(' ', map { $_->{name} . ($_->{environment} eq 'test' ? '' : ' is live') } @{ exchange('GET', '?environment=test')->{items} }), 'for tests', 'environments: a list of test keys');
is(join(' ', grep { $_ ne 'live' } map { $_->{environment} } @{ exchange('GET', '?environment=live')->{items} }), '', 'environments: a list of live keys');
is(verify_from($for_test->{secret}, '192.0.2.9'), '401 invalid_api_key', 'environments: a test key is refused');
is(refusal('PATCH', "/$for_test->{key_id}", '{"environment":"live"}'), '400 invalid_parameter environment', 'environments: and does not become a live key');

turn_on('rotation');
check_others('rotation');
my $rotated = exchange('POST', "/$plain->{key_id}/rotate", '{"overlap_seconds":60}');
is(join(' ', $rotated->{previous_key_id}, sort keys %{ $json->decode(more($rotated)) }), "$plain->{key_id} previous_expires_at previous_key_id status", 'rotation: a new key');
is(exchange('GET', "/$rotated->{key_id}/rotation")->{items}[1]{key_id}, $rotated->{key_id}, 'rotation: how it goes on');
is(request($gateway->{url}, 'DELETE', "$keys/$rotated->{key_id}", [$ada])->{status}, '204', 'rotation: it can be revoked');
ask($node, "SELECT overten_set_expiry('$org', '$plain->{key_id}', NULL)");

turn_on('people');
check_others('people');

turn_on('disable, people');
my ($switched) = grep { $_->{name} eq 'plain' } @{ exchange('GET', '')->{items} };
is(more($switched), '{"created_by":"ada","disabled_at":null,"disabled_by":null,"disabled_reason":null,"revoked_by":null,"revoked_reason":null,"status":"active"}', 'people and disabling are shown');
is(verify_from($plain->{secret}, '192.0.2.9'), '200', 'an enabled key');
my $disabled = exchange('PATCH', "/$plain->{key_id}", '{"disabled":true}');
is("$disabled->{status} $disabled->{disabled_by}", 'disabled ada', 'PATCH disables it');
is(verify_from($plain->{secret}, '192.0.2.9'), '401 invalid_api_key', 'at once');
is(exchange('PATCH', "/$plain->{key_id}", '{"disabled":true}')->{disabled_at}, $disabled->{disabled_at}, 'a second time changes nothing');
is(exchange('PATCH', "/$plain->{key_id}", '{"disabled":false}')->{status}, 'active', 'PATCH enables it');
is(verify_from($plain->{secret}, '192.0.2.9'), '200', 'at once');
ask($node, "SELECT overten_disable_key('$org', '$plain->{key_id}', 'unpaid')");
is(refusal('PATCH', "/$plain->{key_id}", '{"disabled":false}'), '403 disabled_by_operator', 'what the operator has disabled stays so');
is(exchange('GET', "/$plain->{key_id}")->{disabled_reason}, 'unpaid', 'and why');
is(verify_from($plain->{secret}, '192.0.2.9'), '401 invalid_api_key', 'and refused');
ask($node, "SELECT overten_enable_key('$org', '$plain->{key_id}')");

# All together.
turn_on('expiry, disable, scopes, addresses, people');
is(refusal('POST', '', $_->[0]), "400 invalid_parameter $_->[1]", "a new key: $_->[0] is refused") foreach
	[ '{"disabled":true}', 'disabled' ], [ '{"disabled":false}', 'disabled' ], [ '{"expires_at":"9999-12-31T23:59:59-05:00"}', 'expires_at' ];
is(exchange('POST', '', '{"expires_at":"9999-12-31T23:59:59Z"}')->{expires_at}, '9999-12-31T23:59:59Z', 'a new key can expire as late as can be written');
my $bound = exchange('POST', '', '{"name":"bound",' . join(',', @members{qw(expiry scopes addresses)}) . '}');
is(verify_from($bound->{secret}, '192.0.2.7'), '200', '/verify answers for a scoped key from an allowed address');
is(verify_from($bound->{secret}, '192.0.2.8'), '401 invalid_api_key', 'and for no other');
is(exchange('PATCH', "/$bound->{key_id}", '{"allowed_addresses":["0000:0000:0000:0000:0000:ffff:255.255.255.255/128"]}')->{allowed_addresses}[0], '255.255.255.255/32', 'the longest way to write a network');
is(exchange('PATCH', "/$bound->{key_id}", '{"allowed_addresses":["192.0.2.8"],"scopes":[],"disabled":false,"unknown":[{}]}')->{allowed_addresses}[0], '192.0.2.8/32', 'several members at once');
is(verify_from($bound->{secret}, '192.0.2.8'), '200', 'take effect at once');
my $before = $json->encode(exchange('GET', "/$bound->{key_id}"));
foreach my $case (
	[ 'expires_at a number', '{"expires_at":4102444800}', '400 invalid_parameter expires_at' ],
	[ 'expires_at a date', '{"expires_at":"2100-01-01"}', '400 invalid_parameter expires_at' ],
	[ 'expires_at infinite', '{"expires_at":"infinity"}', '400 invalid_parameter expires_at' ],
	[ 'expires_at with a NUL', '{"expires_at":"2100-01-01T00:00:00Z\\u0000"}', '400 invalid_json' ],
	[ 'disabled a string', '{"disabled":"true"}', '400 invalid_parameter disabled' ],
	[ 'disabled null', '{"disabled":null}', '400 invalid_parameter disabled' ],
	[ 'scopes a string', '{"scopes":"jobs.read"}', '400 invalid_parameter scopes' ],
	[ 'scopes an object', '{"scopes":{"0":"jobs.read"}}', '400 invalid_parameter scopes' ],
	[ 'scopes of numbers', '{"scopes":[1]}', '400 invalid_parameter scopes' ],
	[ 'scopes with null', '{"scopes":["jobs.read",null]}', '400 invalid_parameter scopes' ],
	[ 'nested scopes', '{"scopes":[["jobs.read"]]}', '400 invalid_parameter scopes' ],
	[ 'a wildcard', '{"scopes":["jobs.*"]}', '400 invalid_parameter scopes' ],
	[ 'an unknown scope', '{"scopes":["jobs.delete"]}', '400 invalid_parameter scopes' ],
	[ 'a scope that is not self-service', '{"scopes":["admin"]}', '400 invalid_parameter scopes' ],
	[ 'a scope with a NUL', '{"scopes":["jobs.read\\u0000"]}', '400 invalid_json' ],
	[ '65 scopes', '{"scopes":[' . join(',', map { "\"s$_\"" } 1 .. 65) . ']}', '400 invalid_parameter scopes' ],
	[ 'no addresses', '{"allowed_addresses":[]}', '400 invalid_parameter allowed_addresses' ],
	[ 'a name for an address', '{"allowed_addresses":["localhost"]}', '400 invalid_parameter allowed_addresses' ],
	[ 'a network with bits after its mask', '{"allowed_addresses":["192.0.2.1/24"]}', '400 invalid_parameter allowed_addresses' ],
	[ 'a mask of 33', '{"allowed_addresses":["192.0.2.0/33"]}', '400 invalid_parameter allowed_addresses' ],
	[ 'an address that is a number', '{"allowed_addresses":[3221225985]}', '400 invalid_parameter allowed_addresses' ],
	[ '65 addresses', '{"allowed_addresses":[' . join(',', map { "\"192.0.2.$_\"" } 1 .. 65) . ']}', '400 invalid_parameter allowed_addresses' ],
	[ 'a good member and a bad one', '{"disabled":true,"scopes":["admin"]}', '400 invalid_parameter scopes' ],
	[ 'an array', '[]', '400 invalid_request' ],
	[ 'no JSON', '{"disabled":', '400 invalid_json' ],
	[ 'nothing', '', '400 invalid_json' ])
{
	my ($name, $content, $expected) = @$case;

	is(refusal('PATCH', "/$bound->{key_id}", $content), $expected, "PATCH: $name");
	is(refusal('POST', '', $content), $expected, "POST: $name") if $content =~ /^\{"(expires_at|scopes|allowed_addresses)/;
}
is($json->encode(exchange('GET', "/$bound->{key_id}")), $before, 'nothing of that has changed the key');
is(refusal('POST', '', '{"expires_at":"2000-01-01T00:00:00Z"}'), '400 invalid_parameter expires_at', 'a new key cannot have expired');

# The order of the contract, and keys that are not there.
is(refusal('PATCH', "/$foreign", '{"disabled":true}'), '404 key_not_found', "another org's key");
is(refusal('PATCH', '/x', '{"disabled":1}'), '400 invalid_parameter disabled', 'the body before the key');
is(refusal('GET', "/$foreign"), '404 key_not_found', "another org's key is not shown");
is(summary(request($gateway->{url}, 'GET', "/api/v1/organizations/$other/api-keys/$foreign", [$ada])), '404 organization_not_found', 'nor in its org');
is(summary(request($gateway->{url}, 'PATCH', "$keys/$bound->{key_id}", [ $ada, 'Content-Type: text/plain' ], '{}')), '415 unsupported_media_type', 'another media type');
is(summary(request($gateway->{url}, 'PATCH', "$keys/$bound->{key_id}", ['Content-Type: application/json'], '{}')), '401 missing_credentials', 'no credential');
is_deeply(request($gateway->{url}, 'PUT', "$keys/$bound->{key_id}", [$ada])->{headers}{allow}, ['DELETE, GET, HEAD, PATCH'], 'the methods of a key');

# An expired key stays in the list, and can be found; expiry and enabling are no way
# back from a revocation.
is(exchange('PATCH', "/$bound->{key_id}", '{"expires_at":"2020-01-01T00:00:00Z"}')->{status}, 'expired', 'a key can expire at once');
my $expired_at = "SELECT expires_at FROM overten_auth.api_keys WHERE key_id = '$bound->{key_id}' AND expires_at BETWEEN created_at AND now()";
my $at = ask($node, $expired_at);
isnt($at, '', 'but not before it was made');
exchange('PATCH', "/$bound->{key_id}", '{"expires_at":"2021-01-01T00:00:00Z"}');
is(ask($node, $expired_at), $at, 'and then stays expired since then');
is(verify_from($bound->{secret}, '192.0.2.8'), '401 invalid_api_key', 'and is refused');
is(join(' ', map { $_->{name} } @{ exchange('GET', '?status=expired')->{items} }), 'bound', 'it is found by its status');
is(refusal('GET', '?status=gone'), '400 invalid_parameter status', 'an unknown status');
is(request($gateway->{url}, 'DELETE', "$keys/$bound->{key_id}", [$ada])->{status}, '204', 'it can be revoked');
is(refusal('PATCH', "/$bound->{key_id}", '{"expires_at":null}'), '409 key_revoked', 'and then does not change any more');
my $gone = exchange('GET', "/$bound->{key_id}");
is("$gone->{status} $gone->{revoked_by}", 'revoked ada', 'it is shown with who revoked it');

# Off again: what keys have is enforced, and not shown.
my $short = exchange('POST', '', '{"name":"short","expires_at":"' . ask($node, q{SELECT to_char(now() + interval '1 hour', 'YYYY-MM-DD"T"HH24:MI:SS"Z"')}) . '"}');
my $local = exchange('POST', '', '{"name":"local","allowed_addresses":["192.0.2.7"]}');
my $idle = exchange('POST', '', '{"name":"idle"}');
exchange('PATCH', "/$idle->{key_id}", '{"disabled":true}');
turn_on('');
ask($node, "UPDATE overten_auth.api_keys SET expires_at = now() WHERE key_id = '$short->{key_id}'");
is(verify_from($short->{secret}, '192.0.2.7'), '401 invalid_api_key', 'an expired key stays expired when the feature is turned off');
is(verify_from($idle->{secret}, '192.0.2.7'), '401 invalid_api_key', 'a disabled key disabled');
is(verify_from($local->{secret}, '192.0.2.8'), '401 invalid_api_key', 'and a bound key bound');
is(verify_from($local->{secret}, '192.0.2.7'), '200', 'to its address');
is(join(' ', sort keys %{ exchange('GET', '')->{items}[0] }), 'created_at key_id last_used_at name prefix revoked_at', 'the list is that of the contract');

# What clients are told of it.
foreach my $features ('environments, scopes', 'rotation', '')
{
	turn_on($features);
	my $offered = $json->decode(request($gateway->{url}, 'GET', '/api/v1/features', [$ada])->{body});
	my $has_scopes = $features =~ /scopes/;

	is(join(', ', sort @{ $offered->{key_features} }), $features, "GET /features with '$features'");
	is(join(' ', @{ $offered->{environments} }), $has_scopes ? 'live test' : 'live', "the environments with '$features'");
	is(join(' ', map { $_->{name} } @{ $offered->{scopes} }), $has_scopes ? 'jobs.read jobs.write' : '', "the scopes with '$features'");
}

# What is no list of features is not taken.
my ($code, $out, $err) = $node->psql('postgres', "LOAD 'overten_auth'; ALTER SYSTEM SET overten_auth.key_features = 'expiry, teleport'");
like($err, qr/invalid value for parameter "overten_auth\.key_features": "expiry, teleport"\nDETAIL:  Unrecognized key feature: "teleport"\./, 'an unknown feature');
($code, $out, $err) = $node->psql('postgres', "LOAD 'overten_auth'; ALTER SYSTEM SET overten_auth.key_features = 'expiry,,scopes'");
like($err, qr/List syntax is invalid/, 'no list');

is(ask($node, "SELECT string_agg(DISTINCT action, ' ' ORDER BY action) FROM overten_auth.audit_log WHERE uid = 'ada' AND key_id IS NOT NULL"),
	'disable_key enable_key mint_key rename_key revoke_key rotate_key set_allowed_addresses set_expiry set_key_details set_scopes', 'the audit log has each change, with the person');

stop_process($gateway);
done_testing();
