
# The rows of the contract about single keys, while overten_auth.key_features has all
# features: what prepares them, and what is asked and answered.

package KeyContract;

use strict;
use warnings FATAL => 'all';

use ApiContract;
use Exporter 'import';
use GatewayTest;
use OvertenTest;
use PostgreSQL::Test::Utils;

our @EXPORT = qw(check_key_matrix key_requests prepare_keys set_features);

my $features = 'expiry, disable, scopes, addresses, people, details, environments, rotation';

# Set the features, or all of them, and wait until new sessions have them.
sub set_features
{
	my ($node, $wanted) = @_;

	$wanted //= $features;
	$node->append_conf('postgresql.conf', "overten_auth.key_features = '$wanted'");
	$node->reload;
	wait_until("key_features is '$wanted'", sub { ask($node, "LOAD 'overten_auth'; SHOW overten_auth.key_features") eq $wanted });
	return;
}

# One request of each kind about a key, by a person whose header is given.
sub key_requests
{
	my ($org, $key, $person) = @_;
	my $path = "/api/v1/organizations/$org/api-keys/$key";
	my $with_body = [ $person, 'Content-Type: application/json' ];

	return (
		[ 'GET', $path, [$person] ],
		[ 'PATCH', $path, $with_body, '{"disabled":true}' ],
		[ 'POST', "$path/rotate", $with_body, '{}' ],
		[ 'GET', "$path/rotation", [$person] ]);
}

# Orgs with keys, for the person of prepare_matrix(), whose limits count.  They are as
# many as the limits allow, but for what the application has added.
sub prepare_keys
{
	my ($node, $state) = @_;
	my %orgs = (managed => 2, turning => 1, turned => 2, full_of_keys => 4, beyond => 5, idle => 1);

	foreach my $org (sort keys %orgs)
	{
		$state->{$org} = create_org($node, $org);
		ask($node, "SELECT overten_set_api_access('$state->{$org}', true), overten_add_member('$state->{$org}', '$state->{ada_uid}')");
		foreach my $i (1 .. $orgs{$org})
		{
			($state->{"${org}_secret$i"}, $state->{"${org}_key$i"}) = mint($node, $state->{$org});
		}
	}
	ask($node, <<"EOQ");
INSERT INTO overten_auth.scopes (name, self_service) VALUES ('jobs.read', true), ('admin', false) ON CONFLICT DO NOTHING;
SELECT overten_disable_key('$state->{managed}', '$state->{managed_key2}', 'unpaid');
SELECT overten_set_api_access('$state->{idle}', false);
EOQ
	(undef, $state->{ended_key}) = mint($node, $state->{full_of_keys});
	ask($node, "UPDATE overten_auth.api_keys SET expires_at = now() - interval '1 day' WHERE key_id = '$state->{ended_key}'");
	(undef, $state->{revoked_key}) = mint($node, $state->{managed});
	ask($node, "SELECT overten_revoke_key('$state->{managed}', '$state->{revoked_key}')");
	($state->{successor}) = ask($node, "SELECT key_id FROM overten_rotate_key('$state->{turned}', '$state->{turned_key1}')");
	# A rotation that has been repeated too often.
	ask($node, <<"EOQ");
INSERT INTO overten_auth.idempotency_keys
SELECT '$state->{ada_uid}', sha256('turned'), sha256('POST rotate' || '\\000'::bytea || '$state->{turned}' || '\\000'::bytea || '$state->{turned_key1}' || '\\000'::bytea || '{}'::bytea),
	now(), now(), '$state->{turned}', '$state->{successor}', 5;
EOQ
	return;
}

sub key_matrix
{
	my ($state) = @_;
	my %s = %$state;
	my $json = 'Content-Type: application/json';
	my $ada = "Authorization: Bearer $s{ada}";
	my $bearer = "Authorization: Bearer $s{managed_secret1}";
	my $on = sub { my ($org, $key) = @_; return "/api/v1/organizations/$org/api-keys/$key" };
	my $keys = "/api/v1/organizations/$s{managed}/api-keys";
	my $key = "$keys/$s{managed_key1}";
	my $post = sub { my ($name, $expected, $body) = @_; return [ "a new key: $name", $expected, 'POST', $keys, [ $ada, $json ], $body ] };
	my $patch = sub { my ($name, $expected, $body, $path) = @_; return [ "changing: $name", $expected, 'PATCH', $path // $key, [ $ada, $json ], $body ] };
	my $rotate = sub { my ($name, $expected, $path, $body, @more) = @_; return [ "rotating: $name", $expected, 'POST', "$path/rotate", [ $ada, $json, @more ], $body // '{}' ] };

	my @each = (
		[ 'showing', 'GET', $key ],
		[ 'changing', 'PATCH', $key ],
		[ 'rotating', 'POST', "$key/rotate" ],
		[ 'a rotation', 'GET', "$key/rotation" ]);
	my @with_body = @each[ 1, 2 ];
	my $elsewhere = sub { my ($path) = @_; return $path =~ s/\Q$s{managed}\E/$s{foreign}/r };
	my $unknown = sub { my ($path, $id) = @_; return $path =~ s/\Q$s{managed_key1}\E/$id/r };
	my $content = sub { my ($method) = @_; return $method eq 'PATCH' ? '{"disabled":false}' : $method eq 'POST' ? '{}' : () };

	return (
		# routes and methods
		[ 'PUT on a key', '405 method_not_allowed', 'PUT', $key, [ $ada, $json ], '{}' ],
		[ 'GET on a rotation to be', '405 method_not_allowed', 'GET', "$key/rotate", [$ada] ],
		[ 'POST on a rotation', '405 method_not_allowed', 'POST', "$key/rotation", [ $ada, $json ], '{}' ],
		[ 'a rotation of no key', '404 not_found', 'GET', "$keys//rotation", [$ada] ],
		[ 'more of a rotation', '404 not_found', 'GET', "$key/rotation/x", [$ada] ],
		[ 'an encoded rotation', '404 not_found', 'GET', "$key/%72otation", [$ada] ],

		# credentials, media types, sizes and bodies, of each
		(map { [ "no credentials for $_->[0]", '401 missing_credentials', @{$_}[ 1, 2 ], [$json], $_->[1] eq 'GET' ? () : '{' ] } @each),
		(map { [ "a key for $_->[0]", '401 invalid_token', @{$_}[ 1, 2 ], [ $bearer, $json ], $_->[1] eq 'GET' ? () : '{' ] } @each),
		(map { [ "two credentials for $_->[0]", '400 invalid_request', @{$_}[ 1, 2 ], [ $ada, $json, 'X-Overten-Authorization: Bearer x' ] ] } @each),
		(map { [ "text for $_->[0]", '415 unsupported_media_type', @{$_}[ 1, 2 ], [ $ada, 'Content-Type: text/plain' ], '{}' ] } @with_body),
		(map { [ "a body over 16 KiB for $_->[0]", '413 payload_too_large', @{$_}[ 1, 2 ], [ $ada, $json ], ' ' x 16385 ] } @each),
		(map { [ "no body for $_->[0]", '400 invalid_json', @{$_}[ 1, 2 ], [ $ada, $json ], '' ] } @with_body),
		(map { [ "invalid UTF-8 for $_->[0]", '400 invalid_json', @{$_}[ 1, 2 ], [ $ada, $json ], "{\"x\":\"\xff\"}" ] } @with_body),
		(map { [ "a member twice for $_->[0]", '400 invalid_json', @{$_}[ 1, 2 ], [ $ada, $json ], '{"overlap_seconds":0,"name":"a","overlap_seconds":1,"n\u0061me":"b"}' ] } @with_body),
		(map { [ "a list for $_->[0]", '400 invalid_request', @{$_}[ 1, 2 ], [ $ada, $json ], '[]' ] } @with_body),

		# what belongs to others, and what does not exist
		(map { [ "$_->[0], in another's org", '404 organization_not_found', $_->[1], $elsewhere->($_->[2]), [ $ada, $json ], $content->($_->[1]) ] } @each),
		(map { my $row = $_; map { [ "$row->[0], an id that is $_->[0]", '404 key_not_found', $row->[1], $unknown->($row->[2], $_->[1]), [ $ada, $json ], $content->($row->[1]) ] }
			([ 'unknown', 'key_00000000000000000000' ], [ "another org's", $s{foreign_key} ], [ "another org's of the person", $s{idle_key1} ], [ 'made up', "';--" ], [ 'no text', '%ff%fe' ]) } @each),
		[ "a client's own key id", '404 key_not_found', 'GET', "$keys/x", [ $ada, "X-Overten-Key-Id: $s{managed_key1}" ] ],

		# members of a new key
		(map { $post->("description $_->[0]", '400 invalid_parameter description', "{\"description\":$_->[1]}") }
			[ 'a number', 1 ], [ 'an object', '{}' ], [ 'empty', '""' ], [ 'of spaces', '"  "' ], [ 'with line breaks', '"a\nb"' ], [ 'too long', '"' . 'x' x 501 . '"' ], [ 'turned around', '"a\u202eb"' ]),
		(map { $post->("metadata $_->[0]", '400 invalid_parameter metadata', "{\"metadata\":$_->[1]}") }
			[ 'a string', '"{\"a\":1}"' ], [ 'a list', '[1]' ], [ 'true', 'true' ], [ 'too long', '{"x":"' . 'y' x 4088 . '"}' ], [ 'of many numbers', '{"x":[' . join(',', ('1e300') x 14) . ']}' ]),
		$post->('metadata too deep', '400 invalid_json', '{"metadata":' . '{"a":' x 600 . '1' . '}' x 600 . '}'),
		$post->('metadata with a NUL', '400 invalid_json', '{"metadata":{"a":"\u0000"}}'),
		$post->('metadata with half a surrogate', '400 invalid_json', '{"metadata":{"a":"\ud800"}}'),
		$post->('metadata with a name twice', '400 invalid_json', '{"metadata":{"a":{"b":1,"\u0062":2}}}'),
		$post->('metadata with a huge number', '400 invalid_json', '{"metadata":{"a":1e99999}}'),
		(map { $post->("environment $_->[0]", '400 invalid_parameter environment', "{\"environment\":$_->[1]}") }
			[ 'unknown', '"staging"' ], [ 'in capitals', '"LIVE"' ], [ 'empty', '""' ], [ 'a number', 1 ], [ 'a list', '["test"]' ]),
		$post->('a scope that is not self-service', '400 invalid_parameter scopes', '{"scopes":["admin"]}'),

		# what is to change
		$patch->('name a number', '400 invalid_parameter name', '{"name":1}'),
		$patch->('name null', '400 invalid_parameter name', '{"name":null}'),
		$patch->('name empty', '400 invalid_parameter name', '{"name":" "}'),
		$patch->('name too long', '400 invalid_parameter name', '{"name":"' . 'x' x 65 . '"}'),
		$patch->('description a list', '400 invalid_parameter description', '{"description":[]}'),
		$patch->('metadata a number', '400 invalid_parameter metadata', '{"metadata":0}'),
		$patch->('metadata too long', '400 invalid_parameter metadata', '{"metadata":{"x":"' . 'y' x 4088 . '"}}'),
		$patch->('environment', '400 invalid_parameter environment', '{"environment":"test"}'),
		$patch->('environment null', '400 invalid_parameter environment', '{"environment":null}'),
		$patch->('disabled null', '400 invalid_parameter disabled', '{"disabled":null}'),
		$patch->('the body before the key', '400 invalid_parameter name', '{"name":""}', "$keys/x"),
		$patch->('what the application has disabled', '403 disabled_by_operator', '{"disabled":false,"name":"x"}', "$keys/$s{managed_key2}"),
		$patch->('a revoked key', '409 key_revoked', '{"description":"x"}', "$keys/$s{revoked_key}"),
		$patch->('a revoked key, to nothing', '409 key_revoked', '{}', "$keys/$s{revoked_key}"),
		$patch->('an expired key that would be one too many', '409 key_limit_reached', '{"expires_at":"2100-01-01T00:00:00Z"}', $on->($s{full_of_keys}, $s{ended_key})),
		$patch->('the same for ever', '409 key_limit_reached', '{"expires_at":null}', $on->($s{full_of_keys}, $s{ended_key})),

		# parameters of lists
		(map { [ "environment=$_", '400 invalid_parameter environment', 'GET', "$keys?environment=$_", [$ada] ] } '', 'LIVE', 'staging', '%74%65st%00', 'live,test'),
		[ 'environment twice', '400 invalid_parameter environment', 'GET', "$keys?environment=live&environment=live", [$ada] ],
		[ 'a cursor of no key', '400 invalid_parameter cursor', 'GET', "$keys?limit=1&cursor=x", [$ada] ],

		# rotations
		(map { $rotate->("overlap $_->[0]", '400 invalid_parameter overlap_seconds', $key, "{\"overlap_seconds\":$_->[1]}") }
			[ 'negative', -1 ], [ 'of half a second', '0.5' ], [ 'of a part of a day', '86400.5' ], [ 'over 30 days', 2592001 ], [ 'beyond all times', '1e99' ], [ 'a string', '"3600"' ], [ 'true', 'true' ], [ 'a list', '[0]' ], [ 'an interval', '"1 day"' ]),
		$rotate->('overlap beyond all numbers', '400 invalid_json', $key, '{"overlap_seconds":1e9999}'),
		$rotate->('a name with a space', '400 invalid_request', $key, '{}', 'Idempotency-Key: a b'),
		$rotate->('what the application has disabled', '409 key_not_active', "$keys/$s{managed_key2}"),
		$rotate->('a revoked key', '409 key_not_active', "$keys/$s{revoked_key}"),
		$rotate->('an expired key', '409 key_not_active', $on->($s{full_of_keys}, $s{ended_key})),
		$rotate->('a key that was rotated', '409 already_rotated', $on->($s{turned}, $s{turned_key1})),
		$rotate->('the key after it', '409 already_rotated', $on->($s{turned}, $s{successor})),
		$rotate->('an org beyond its limit', '409 key_limit_reached', $on->($s{beyond}, $s{beyond_key1})),
		$rotate->('a suspended org', '403 api_access_disabled', $on->($s{idle}, $s{idle_key1})),
		$rotate->('repeated too often', '409 already_done', $on->($s{turned}, $s{turned_key1}), '{}', 'Idempotency-Key: turned'),
		$rotate->('the same name with another body', '422 idempotency_key_reused', $on->($s{turned}, $s{turned_key1}), '{"overlap_seconds":0}', 'Idempotency-Key: turned'),
		$rotate->('the same name with another key', '422 idempotency_key_reused', $on->($s{turned}, $s{turned_key2}), '{}', 'Idempotency-Key: turned'),
		[ 'the same name on another path', '422 idempotency_key_reused', 'POST', "/api/v1/organizations/$s{turned}/api-keys", [ $ada, $json, 'Idempotency-Key: turned' ], '{}' ],

		# success; the database has done each of these before
		$post->('with all that there is', '201', '{"name":"n","description":" the \"importer\" ✓ ","metadata":{"team":"billing","é":[1,-2.50,1e3,true,null,{"":"\u00e9\ud83d\ude00"}]},"environment":"live","expires_at":"2100-01-01T00:00:00Z","scopes":["jobs.read"],"allowed_addresses":["192.0.2.0/24"]}'),
		[ 'a key', '200', 'GET', $key, [$ada] ],
		[ 'HEAD on a key', '200', 'HEAD', $key, [$ada] ],
		$patch->('everything', '200', '{"name":"m","description":"d","metadata":{"a":{}},"expires_at":"2100-01-01T00:00:00Z","disabled":true,"scopes":[],"allowed_addresses":["2001:db8::/32"]}'),
		$patch->('back', '200', '{"description":null,"metadata":null,"expires_at":null,"disabled":false,"scopes":null,"allowed_addresses":null}'),
		$patch->('nothing', '200', '{}'),
		$patch->('the longest metadata', '200', '{"metadata":{"x":"' . 'y' x 4087 . '"}}'),
		[ 'the features', '200', 'GET', '/api/v1/features', [$ada] ],
		[ 'a page of live keys', '200', 'GET', "$keys?environment=live&limit=1", [$ada] ],
		[ 'test keys', '200', 'GET', "$keys?environment=test", [$ada] ],
		[ 'keys by status', '200', 'GET', "$keys?status=disabled&unused_since=2100-01-01T00:00:00Z", [$ada] ],
		$rotate->('for the first time, and again', '201', $on->($s{turning}, $s{turning_key1}), '{"overlap_seconds":60}', 'Idempotency-Key: turn'),
		[ 'the rotation of the old key', '200', 'GET', $on->($s{turning}, $s{turning_key1}) . '/rotation', [$ada] ],
		[ 'HEAD on it', '200', 'HEAD', $on->($s{turning}, $s{turning_key1}) . '/rotation', [$ada] ],
		[ 'a key that was never rotated', '200', 'GET', "$key/rotation", [$ada] ],
		[ 'the rotation of a suspended org', '200', 'GET', $on->($s{idle}, $s{idle_key1}) . '/rotation', [$ada] ],
		[ 'the list', '200', 'GET', $keys, [$ada] ]);
}

# All of these rows, against what the database says.
sub check_key_matrix
{
	my ($node, $base, $state) = @_;
	my $session = $node->background_psql('postgres');

	$session->set_query_timer_restart;
	check_exchange($session, $base, $_) foreach key_matrix($state);
	$session->quit;
	return;
}

1;
