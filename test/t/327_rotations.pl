
# Rotations over HTTP, and the limits of keys: answers that were lost, requests that
# meet, and what the new key is given.  overten_auth.key_features cannot be set in a
# session, and requests that wait for each other take two.

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

my $node = create_api_node('rotations', <<'EOC');
overten_auth.key_features = 'rotation, expiry, disable, scopes, details, environments'
overten_auth.max_keys_per_org = 3
overten_auth.max_keys_total_per_org = 12
EOC
my $json = JSON::PP->new->canonical;
# One person has a quarter of the pool, and sends five requests that wait for a lock.
my $gateway = start_gateway($node, 'rotations_gateway', POOL_SIZE => 20);
my $ada = 'Authorization: Bearer ' . sign('ada');
ask($node, "INSERT INTO overten_auth.scopes (name, self_service) VALUES ('read', true), ('admin', false)");

# An org of Ada's with so many keys: its id, and the keys as pairs of secret and id.
sub org_with_keys
{
	my ($count) = @_;
	my $org = create_org($node, 'Acme');

	ask($node, "SELECT overten_set_api_access('$org', true), overten_add_member('$org', 'ada')");
	return ($org, map { [ mint($node, $org) ] } 1 .. $count);
}

sub path_of
{
	my ($org, @rest) = @_;

	return join '/', "/api/v1/organizations/$org/api-keys", @rest;
}

# A request of Ada's: its status, and what the answer says.
sub exchange
{
	my ($method, $path, $content, @headers) = @_;
	my $answer = request($gateway->{url}, $method, $path,
		[ $ada, defined $content ? 'Content-Type: application/json' : (), @headers ], $content);
	my $body = $answer->{body} eq '' ? {} : $json->decode($answer->{body});

	return { status => $answer->{status}, %$body };
}

sub rotate
{
	my ($org, $key, $content, $name) = @_;

	return exchange('POST', path_of($org, $key, 'rotate'), $content // '{}', defined $name ? "Idempotency-Key: $name" : ());
}

# What a refusal says, with the id of a key if it has one.
sub refusal
{
	my ($answer) = @_;

	return join ' ', $answer->{status}, grep { defined } @{ $answer->{error} }{qw(code param key_id)};
}

# Which of these secrets are good?
sub good
{
	return join '', map { is_accepted($node, $_) ? 'y' : 'n' } @_;
}

sub active
{
	my ($org) = @_;

	return ask($node, "SELECT count(*) FROM overten_auth.api_keys WHERE org_id = '$org' AND revoked_at IS NULL AND (expires_at IS NULL OR expires_at > now())");
}

sub expire
{
	my ($key) = @_;

	return ask($node, "UPDATE overten_auth.api_keys SET expires_at = now() - interval '1 hour' WHERE key_id = '$key'");
}

# Requests of Ada's that wait while another transaction has an org, which then
# commits or rolls back: their answers.
my $begun = 0;

sub requests_meanwhile
{
	my ($sql, $end, @requests) = @_;
	my $session = $node->background_psql('postgres');

	$session->query_safe("BEGIN; $sql");
	my @waiting = map {
		my ($method, $path, $content, @headers) = @$_;
		start_process('waiting' . $begun++, {}, 'curl', '--silent', '--request', $method,
			map({ ('--header', $_) } $ada, 'Content-Type: application/json', @headers), '--data', $content,
			'--write-out', '%{http_code}', "$gateway->{url}$path");
	} @requests;
	$node->poll_query_until('postgres', "SELECT count(*) = " . @requests . " FROM pg_stat_activity WHERE usename = 'overten_gateway' AND wait_event_type = 'Lock'")
	  or die 'no request waits';
	$session->query_safe($end);
	$session->quit;
	return map {
		$_->{run}->finish;
		my ($body, $status) = slurp_file($_->{out}) =~ /^(.*?)(\d{3})\z/s;
		+{ status => $status, %{ $json->decode($body) } };
	} @waiting;
}

# A request as a statement of another transaction.
sub request_sql
{
	my ($method, $path, $content) = @_;
	my ($credential) = $ada =~ /(Bearer .*)/;

	return "SELECT status FROM overten_handle_request('$method', '$path', '{\"authorization\": \"$credential\", \"content-type\": \"application/json\"}', '$content'::text)";
}

# The answer, and the two keys.
my ($org, $first, $second) = org_with_keys(2);
my $rotated = rotate($org, $first->[1]);
is(join(' ', sort keys %$rotated),
	'created_at description environment expires_at key_id metadata name org_id org_name prefix previous_expires_at previous_key_id scopes secret status tier webhook_secret',
	'a rotation answers as minting does, and with the old key');
is("$rotated->{status} $rotated->{previous_key_id}", "201 $first->[1]", 'which it names');
is(ask($node, "SELECT '$rotated->{previous_expires_at}'::timestamptz - '$rotated->{created_at}'::timestamptz"), '1 day', 'for 24 hours');
is(good($first->[0], $rotated->{secret}), 'yy', 'both are good');
is(refusal(rotate($org, $first->[1])), "409 already_rotated $rotated->{key_id}", 'the old key again: the answer has the new one');
is(refusal(rotate($org, $rotated->{key_id})), "409 already_rotated $first->[1]", 'and the new one: the answer has the old one');
is(rotate($org, $second->[1], '{"overlap_seconds":null}')->{status}, '201', 'an org that has all its keys can rotate one');
is(active($org), 4, 'which is one more than its limit');
is(refusal(rotate($org, create_key_elsewhere())), '404 key_not_found', "another org's key");
my $now = rotate(map({ ($_->[0], $_->[1][1]) } [ org_with_keys(1) ]), '{"overlap_seconds":0}');
is_deeply([ @{$now}{qw(status previous_expires_at)} ], [ 201, $now->{created_at} ], 'an overlap of 0 ends the old key at once');
is(ask($node, "SELECT revoked_by || ' ' || revoked_reason FROM overten_auth.api_keys WHERE key_id = '$now->{previous_key_id}'"), 'ada rotated', 'it is revoked');
is(refusal(rotate($now->{org_id}, $now->{previous_key_id})), '409 key_not_active', 'and is not rotated again');

sub create_key_elsewhere
{
	my ($elsewhere, $key) = org_with_keys(1);

	return $key->[1];
}

# A rotation cannot restrict the new key, and says so.
my ($unrestricted, $plain) = org_with_keys(1);
is(refusal(rotate($unrestricted, $plain->[1], qq({"$_->[0]":$_->[1]}))), "400 invalid_parameter $_->[0]", "a rotation with $_->[0]") foreach
	[ 'expires_at', '"2100-01-01T00:00:00Z"' ], [ 'scopes', '[]' ], [ 'allowed_addresses', '["192.0.2.0/24"]' ], [ 'environment', '"test"' ], [ 'disabled', 'true' ];

# The new key has what the old one has, and not more.
my ($bounded) = org_with_keys(0);
my $minted = ask($node, "SELECT key_id FROM overten_mint_key('$bounded', 'bounded', now() + interval '1 hour', '{admin,read}', '{192.0.2.0/24}', 'test')");
ask($node, "SELECT overten_set_key_details('$bounded', '$minted', 'd', '{\"a\": 1}')");
my $bounded_too = rotate($bounded, $minted, '{"overlap_seconds":2592000}');
is(ask($node, "SELECT count(DISTINCT (name, expires_at, scopes, allowed_addresses, environment, description, metadata)) FROM overten_auth.api_keys JOIN overten_auth.key_details USING (key_id) WHERE org_id = '$bounded'"), 1,
	'everything is the same');
is($json->encode([ @{$bounded_too}{qw(environment scopes description metadata)} ]), '["test",["admin","read"],"d",{"a":1}]', 'and the answer shows it');
is($bounded_too->{previous_expires_at}, $bounded_too->{expires_at}, 'neither lives longer than the old one would have');
like($bounded_too->{secret}, qr/^sk_test_/, 'a test key stays one');

# Keys that are not to be rotated, or enabled.
my ($shut, $unpaid, $own, $over) = org_with_keys(3);
ask($node, "SELECT overten_disable_key('$shut', '$unpaid->[1]', 'unpaid')");
is(refusal(exchange('PATCH', path_of($shut, $unpaid->[1]), '{"disabled":false}')), '403 disabled_by_operator', 'the application has disabled a key');
is(refusal(rotate($shut, $unpaid->[1])), '409 key_not_active', 'a rotation is no way around that');
exchange('PATCH', path_of($shut, $own->[1]), '{"disabled":true}');
is(refusal(rotate($shut, $own->[1])), '409 key_not_active', 'nor is a disabled key of their own rotated');
expire($over->[1]);
is(refusal(rotate($shut, $over->[1])), '409 key_not_active', 'nor one that has expired');

# Who still uses the old key.
my ($watched, $old) = org_with_keys(1);
is($json->encode(exchange('GET', path_of($watched, $old->[1], 'rotation'))), '{"items":[],"status":200}', 'a key that was never rotated');
my $new = rotate($watched, $old->[1]);
my $items = exchange('GET', path_of($watched, $new->{key_id}, 'rotation'))->{items};
is(join(' ', map { $_->{key_id} } @$items), "$old->[1] $new->{key_id}", 'the old key comes first');
is($json->encode([ map { delete @{$_}{qw(key_id)}; $_ } @$items ]),
	$json->encode([ map { { is_new => $_ ? JSON::PP::true : JSON::PP::false, rotated_at => $new->{created_at}, ends_at => $_ ? undef : $new->{previous_expires_at},
		client_addr => undef, accepted => 0, refused => 0, limited => 0, last_used_at => undef } } 0, 1 ]), 'and nobody has used either');
is(request($gateway->{url}, 'GET', '/api/v1/verify', ["Authorization: Bearer $old->[0]"])->{status}, '200', 'somebody uses the old one');
isnt(exchange('GET', path_of($watched, $old->[1], 'rotation'))->{items}[0]{last_used_at}, undef, 'which is told');

is(refusal(exchange('GET', path_of($watched, $rotated->{key_id}, 'rotation'))), '404 key_not_found', 'nothing is told about the rotation of another org');

# An answer that was lost: the same request again gets a key that works, in the place
# of the lost one.
my ($lost_org, $worn) = org_with_keys(1);
my $lost = rotate($lost_org, $worn->[1], '{"overlap_seconds":3600}', 'lost');
my $again = rotate($lost_org, $worn->[1], '{"overlap_seconds":3600}', 'lost');
is("$lost->{status} $again->{status}", '201 201', 'a rotation is repeated');
is(good($worn->[0], $lost->{secret}, $again->{secret}), 'yny', 'one of its secrets is good, and the old key');
is_deeply([ @{$again}{qw(previous_key_id previous_expires_at)} ], [ @{$lost}{qw(previous_key_id previous_expires_at)} ], 'the old key ends as it was told first');
is(ask($node, "SELECT rotated_from, lineage FROM overten_auth.api_keys WHERE key_id = '$again->{key_id}'"), "$worn->[1]|$worn->[1]", 'it is the successor of the old key');
is(refusal(rotate($lost_org, $worn->[1])), "409 already_rotated $again->{key_id}", 'as another request is told');
is(join(' ', map { $_->{key_id} } @{ exchange('GET', path_of($lost_org, $worn->[1], 'rotation'))->{items} }), "$worn->[1] $again->{key_id}", 'and the progress');
is(refusal(rotate($lost_org, $worn->[1], '{"overlap_seconds":0}', 'lost')), '422 idempotency_key_reused', 'another body under that name');
is(refusal(rotate($lost_org, $again->{key_id}, '{"overlap_seconds":3600}', 'lost')), '422 idempotency_key_reused', 'another key under that name');
ok(is_accepted($node, $again->{secret}), 'the key is used');
is(refusal(rotate($lost_org, $worn->[1], '{"overlap_seconds":3600}', 'lost')), "409 already_done $again->{key_id}", 'and so it is not lost');
is(good($worn->[0], $again->{secret}), 'yy', 'and stays good');
is(ask($node, "SELECT string_agg(action, ' ' ORDER BY at) FROM overten_auth.audit_log WHERE org_id = '$lost_org' AND uid = 'ada' AND action ~ 'key'"),
	'mint_key rotate_key revoke_key mint_key rotate_key', 'the audit log has all of that');

# What somebody has done to the lost key meanwhile stays.
my ($strict_org, $wide) = org_with_keys(1);
$lost = rotate($strict_org, $wide->[1], '{"overlap_seconds":0}', 'strict');
exchange('PATCH', path_of($strict_org, $lost->{key_id}), '{"scopes":["read"],"name":"narrow","expires_at":"2100-01-01T00:00:00Z","description":"d"}');
$again = rotate($strict_org, $wide->[1], '{"overlap_seconds":0}', 'strict');
is($json->encode([ @{$again}{qw(status name scopes expires_at description previous_expires_at)} ]),
	'[201,"narrow",["read"],"2100-01-01T00:00:00Z","d","' . $lost->{previous_expires_at} . '"]', 'the key that replaces it has no more');
is(good($wide->[0], $lost->{secret}), 'nn', 'and the other two are revoked');
my $onward = rotate($strict_org, $again->{key_id});
is(refusal(rotate($strict_org, $wide->[1], '{"overlap_seconds":0}', 'strict')), "409 already_done $again->{key_id}", 'a key that was rotated since is not lost');
is(active($strict_org), 2, 'so there are not three of a line');
$minted = exchange('POST', path_of($strict_org), '{"name":"m"}', 'Idempotency-Key: minted');
rotate($strict_org, $minted->{key_id});
is(refusal(exchange('POST', path_of($strict_org), '{"name":"m"}', 'Idempotency-Key: minted')), "409 already_done $minted->{key_id}", 'nor is one that was minted');

# Nor does it come back if it was disabled.
my ($closed_org, $shown) = org_with_keys(1);
$lost = rotate($closed_org, $shown->[1], '{}', 'closed');
ask($node, "SELECT overten_disable_key('$closed_org', '$lost->{key_id}')");
is(refusal(rotate($closed_org, $shown->[1], '{}', 'closed')), "409 already_done $lost->{key_id}", 'a lost key that was disabled is not replaced');

# Without a name: the new key can be found, revoked, and made again.
my ($found_org, $used) = org_with_keys(1);
$lost = rotate($found_org, $used->[1]);
my ($found) = refusal(rotate($found_org, $used->[1])) =~ /already_rotated (\w+)/;
is(request($gateway->{url}, 'DELETE', path_of($found_org, $found), [$ada])->{status}, '204', 'the key that nobody has is revoked');
is(good($used->[0], $lost->{secret}, rotate($found_org, $used->[1])->{secret}), 'yny', 'and the rotation done again');

# Near the limits: nothing is revoked for a key that cannot be minted.
my ($full, @all) = org_with_keys(3);
$lost = rotate($full, $all[0][1], '{}', 'full');
$again = rotate($full, $all[0][1], '{}', 'full');
is(join(' ', $again->{status}, active($full)), '201 4', 'an org that has all its keys repeats a rotation');
is(refusal(rotate($full, $all[0][1])), "409 already_rotated $again->{key_id}", 'and says which key of a line is good');
is(refusal(rotate($full, $all[1][1])), '409 key_limit_reached', 'but does not rotate a second key');
is(rotate($full, $all[1][1], '{"overlap_seconds":0}')->{status}, '201', 'unless that one ends at once');
is(refusal(exchange('POST', path_of($full), '{}')), '409 key_limit_reached', 'and mints none');
ask($node, "SELECT count(overten_revoke_key('$full', key_id)) FROM (SELECT key_id FROM generate_series(1, 6) i, LATERAL overten_mint_key('$full', i::text) OFFSET 0) k");
is(refusal(rotate($full, $all[0][1], '{}', 'full')), '409 key_limit_reached', 'an org that has had all its keys does not repeat it');
is(good($again->{secret}), 'y', 'and loses none');

# One request of several that rotate a key at once.
my ($raced, $target) = org_with_keys(1);
my @answers = requests_meanwhile("SELECT 1 FROM overten_auth.orgs WHERE org_id = '$raced' FOR UPDATE", 'COMMIT',
	map { [ 'POST', path_of($raced, $target->[1], 'rotate'), '{}' ] } 1 .. 5);
my ($winner) = grep { $_->{status} eq '201' } @answers;
is(join(', ', sort map { refusal($_) } @answers), join(', ', '201', ("409 already_rotated $winner->{key_id}") x 4), 'one of five at once rotates the key');
is(active($raced), 2, 'and there is one new key');

# A later expiry makes a key good again only if there is room for it.
my ($revived, @three) = org_with_keys(3);
my $later = '{"expires_at":"2100-01-01T00:00:00Z"}';
expire($_->[1]) foreach @three[ 0, 1 ];
is(exchange('POST', path_of($revived), '{}')->{status}, '201', 'expired keys leave room for others');
@answers = requests_meanwhile("SELECT 1 FROM overten_auth.orgs WHERE org_id = '$revived' FOR UPDATE", 'COMMIT',
	map { [ 'PATCH', path_of($revived, $_->[1]), $later ] } @three[ 0, 1 ]);
is(join(', ', map { $_->{error}{code} // $_->{status} } sort { $a->{key_id} cmp $b->{key_id} } map { $_->{key_id} //= ''; $_ } @answers), 'key_limit_reached, active',
	'of two at once, one is made good again');
is(active($revived), 3, 'which are all that there may be');
my ($ended) = map { $_->[1] } grep { !is_accepted($node, $_->[0]) } @three[ 0, 1 ];
is(refusal(exchange('PATCH', path_of($revived, $ended), $_)), '409 key_limit_reached', "an expired key in a full org: $_") foreach $later, '{"expires_at":null}', '{"name":"x","expires_at":null}';
is(exchange('GET', path_of($revived, $ended))->{name}, 'primary', 'and nothing of that has changed it');
is(exchange('PATCH', path_of($revived, $ended), $_)->{status}, 'expired', "it can change otherwise: $_") foreach '{"expires_at":"2020-01-01T00:00:00Z"}', '{"name":"y","disabled":true}', '{"disabled":false}';
my ($living) = map { $_->[1] } grep { $_->[1] ne $ended } @three[ 0, 1 ];
is(exchange('PATCH', path_of($revived, $living), '{"expires_at":null}')->{status}, 'active', 'a key that is good can get a later expiry');

# Two keys of a line are good at most, whoever has expired.
my ($line, $line_first) = org_with_keys(1);
my $line_a = $line_first->[1];
my $line_b = rotate($line, $line_a)->{key_id};
ask($node, "UPDATE overten_auth.api_keys SET expires_at = now() WHERE key_id = '$line_a'");
my $line_c = rotate($line, $line_b)->{key_id};
is(refusal(exchange('PATCH', path_of($line, $line_a), $_)), '400 invalid_parameter expires_at', "a third of a line: $_") foreach $later, '{"expires_at":null}';
ask($node, "UPDATE overten_auth.api_keys SET expires_at = now() WHERE key_id = '$line_b'");
is(exchange('PATCH', path_of($line, $line_a), $later)->{status}, 'active', 'a second one');
is(refusal(rotate($line, $line_c)), "409 already_rotated $line_a", 'which holds up the next rotation');
is(ask($node, "SELECT count(*) FROM overten_list_keys('$line') l JOIN overten_auth.api_keys k USING (key_id) WHERE k.expires_at IS NULL OR k.expires_at > now()"), 2, 'there are two');
is(exchange('PATCH', path_of($revived, $living), '{"disabled":true}')->{status}, 'disabled', 'a disabled key');
is(refusal(exchange('POST', path_of($revived), '{}')), '409 key_limit_reached', 'leaves no room');
is(exchange('PATCH', path_of($revived, $living), '{"disabled":false}')->{status}, 'active', 'so it can be enabled');
is(ask($node, "SELECT overten_set_expiry('$revived', '$ended', NULL)"), 't', 'the application may do more');
is(active($revived), 4, 'than a member may');

# Beside a request that mints.
foreach my $end (qw(COMMIT ROLLBACK))
{
	my ($crowded, @keys) = org_with_keys(3);
	expire($keys[0][1]);
	my ($answer) = requests_meanwhile(request_sql('POST', path_of($crowded), '{}'), $end, [ 'PATCH', path_of($crowded, $keys[0][1]), $later ]);
	is($answer->{error}{code} // $answer->{status}, $end eq 'COMMIT' ? 'key_limit_reached' : 'active', "a key is minted meanwhile, $end");
	is(active($crowded), 3, 'and the org has as many as it can have');
	expire($keys[0][1]) if $end eq 'ROLLBACK';
	ask($node, "SELECT overten_revoke_key('$crowded', '$keys[1][1]')") if $end eq 'COMMIT';
	($answer) = requests_meanwhile(request_sql('PATCH', path_of($crowded, $keys[0][1]), $later), $end, [ 'POST', path_of($crowded), '{}' ]);
	is($answer->{error}{code} // $answer->{status}, $end eq 'COMMIT' ? 'key_limit_reached' : '201', "a key is made good meanwhile, $end");
	is(active($crowded), 3, 'likewise');
}

# An expired key of an org that has had all its keys does not count against itself.
my ($worn_out, $last) = org_with_keys(1);
ask($node, "SELECT count(overten_revoke_key('$worn_out', key_id)) FROM (SELECT key_id FROM generate_series(1, 11) i, LATERAL overten_mint_key('$worn_out', i::text) OFFSET 0) k");
expire($last->[1]);
is(refusal(exchange('POST', path_of($worn_out), '{}')), '409 key_limit_reached', 'an org that has had all its keys');
is(exchange('PATCH', path_of($worn_out, $last->[1]), $later)->{status}, 'active', 'can make one of them good again');

# A rotation may exceed the limit for its overlap, and not for longer.
my ($stretched, @kept) = org_with_keys(3);
rotate($stretched, $kept[0][1]);
is(refusal(exchange('PATCH', path_of($stretched, $kept[0][1]), $_)), '409 key_limit_reached', "the old key of a rotation in a full org: $_") foreach $later, '{"expires_at":null}';
is(exchange('PATCH', path_of($stretched, $kept[1][1]), $later)->{status}, 'active', 'another key can get an expiry');
is(exchange('PATCH', path_of($stretched, $kept[1][1]), '{"expires_at":null}')->{status}, 'active', 'and lose it');
ask($node, "SELECT overten_revoke_key('$stretched', '$kept[1][1]')");
is(exchange('PATCH', path_of($stretched, $kept[0][1]), $later)->{status}, 'active', 'where there is room, the old key stays');

# A member who leaves while a request waits.
my ($left, $of_left) = org_with_keys(1);
my @refused = requests_meanwhile("SELECT overten_add_member('$left', 'bob'), overten_remove_member('$left', 'ada'), 1 FROM overten_auth.orgs WHERE org_id = '$left' FOR UPDATE", 'COMMIT',
	[ 'PATCH', path_of($left, $of_left->[1]), '{"name":"x"}' ], [ 'POST', path_of($left, $of_left->[1], 'rotate'), '{}' ]);
is(join(', ', map { refusal($_) } @refused), '404 organization_not_found, 404 organization_not_found', 'who has left changes nothing');

# A test key where the service has none any more.
$node->append_conf('postgresql.conf', "overten_auth.key_prefixes = 'sk_live_'");
$node->reload;
wait_until('test keys are not minted', sub { exchange('POST', path_of($bounded), '{"environment":"test"}')->{status} eq '400' });
is(refusal(rotate($bounded, $bounded_too->{key_id})), '503 service_unavailable', 'a key cannot be rotated without a prefix for the new one');

stop_process($gateway);
done_testing();
