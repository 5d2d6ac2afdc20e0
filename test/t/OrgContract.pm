
# The rows of the contract about orgs and people: what prepares them, and what is
# asked and answered.  They are a part of the matrix in ApiContract.pm.

package OrgContract;

use strict;
use warnings FATAL => 'all';

use Exporter 'import';
use GatewayTest;
use OvertenTest;

our @EXPORT = qw(org_matrix org_requests prepare_orgs);

# Orgs with members and invitations, for the person "ada".
sub prepare_orgs
{
	my ($node, $state, $ada) = @_;

	foreach my $org (qw(renamed closed closing inviting))
	{
		$state->{$org} = create_org($node, $org);
		ask($node, "SELECT overten_set_api_access('$state->{$org}', true), overten_add_member('$state->{$org}', '$ada')");
		($state->{"${org}_secret"}) = mint($node, $state->{$org});
	}
	$state->{joined} = create_org($node, 'joined');
	ask($node, "SELECT overten_grant('$state->{renamed}', 100, 'welcome \"✓\"'), overten_spend('$state->{renamed}', 3, 'request 1', 'a page'),"
		. " overten_grant('$state->{renamed}', 5, NULL, 'payment 1'), overten_hold('$state->{renamed}', 7, 'request 2', '7 days')");
	ask($node, "SELECT overten_close_org('$state->{closed}')");
	ask($node, "SELECT count(overten_invite('$state->{inviting}', i::text)) FROM generate_series(1, 100) i");
	foreach my $code (qw(good used foreign))
	{
		$state->{"${code}_code"} = ask($node, "SELECT code FROM overten_invite('$state->{joined}')");
	}
	ask($node, "SELECT overten_accept_invitation('$state->{used_code}', 'carl')");
	$state->{own_code} = ask($node, "SELECT code FROM overten_invite('$state->{renamed}', 'Eve')");
	$state->{invitation} = ask($node, "SELECT invitation_id FROM overten_list_invitations('$state->{renamed}')");
	$state->{foreign_invitation} = ask($node, "SELECT invitation_id FROM overten_list_invitations('$state->{joined}') LIMIT 1");
	return;
}

# One request of each kind about an org, by a person whose header is given.
sub org_requests
{
	my ($org, $person) = @_;
	my $path = "/api/v1/organizations/$org";
	my $with_body = [ $person, 'Content-Type: application/json' ];

	return (
		[ 'GET', '/api/v1/features', [$person] ],
		[ 'GET', '/api/v1/organizations', [$person] ],
		[ 'PATCH', $path, $with_body, '{"name":"x"}' ],
		[ 'GET', "$path/usage?by=key", [$person] ],
		[ 'GET', "$path/limits", [$person] ],
		[ 'GET', "$path/credits?limit=1", [$person] ],
		[ 'GET', "$path/audit-log?limit=1", [$person] ],
		[ 'POST', "$path/webhook-secret/rotate", $with_body, '{}' ],
		[ 'GET', "$path/members", [$person] ],
		[ 'DELETE', "$path/members/nobody", [$person] ],
		[ 'GET', "$path/invitations", [$person] ],
		[ 'POST', "$path/invitations", $with_body, '{}' ],
		[ 'DELETE', "$path/invitations/none", [$person] ],
		[ 'POST', '/api/v1/invitations/accept', $with_body, '{"code":"none"}' ],
		[ 'DELETE', $path, [$person] ]);
}

sub org_matrix
{
	my ($state) = @_;
	my %s = %$state;
	my $api = '/api/v1';
	my $json = 'Content-Type: application/json';
	my $ada = "Authorization: Bearer $s{ada}";
	my $key = "Authorization: Bearer $s{renamed_secret}";
	my $orgs = "$api/organizations";
	my $org = "$orgs/$s{renamed}";
	my $closed = "$orgs/$s{closed}";
	my $foreign = "$orgs/$s{foreign}";
	my $accept = "$api/invitations/accept";
	my $cursor = '00000000-0000-0000-0000-000000000000';

	# Each request of a person, with a body where it takes one.
	my @each = (
		[ 'features', 'GET', "$api/features" ],
		[ 'orgs', 'GET', $orgs ],
		[ 'usage of an org', 'GET', "$org/usage" ],
		[ 'the limits', 'GET', "$org/limits" ],
		[ 'the credits', 'GET', "$org/credits" ],
		[ 'the audit log', 'GET', "$org/audit-log" ],
		[ 'members', 'GET', "$org/members" ],
		[ 'removing a member', 'DELETE', "$org/members/x" ],
		[ 'invitations', 'GET', "$org/invitations" ],
		[ 'withdrawing', 'DELETE', "$org/invitations/x" ],
		[ 'closing', 'DELETE', $org ]);
	my @each_with_body = (
		[ 'renaming', 'PATCH', $org ],
		[ 'rotating', 'POST', "$org/webhook-secret/rotate" ],
		[ 'inviting', 'POST', "$org/invitations" ],
		[ 'accepting', 'POST', $accept ]);
	my @of_others = map { [ $_->[0], $_->[1], $_->[2] =~ s/\Q$s{renamed}\E/$s{foreign}/r ] }
	  grep { $_->[2] =~ /\Q$s{renamed}\E/ } @each, @each_with_body;

	return (
		# routes and methods
		[ 'POST on features', '405 method_not_allowed', 'POST', "$api/features", [ $ada, $json ], '{}' ],
		[ 'one feature', '404 not_found', 'GET', "$api/features/expiry", [$ada] ],
		[ 'PUT on an org', '405 method_not_allowed', 'PUT', $org, [ $ada, $json ], '{}' ],
		[ 'GET on an org', '405 method_not_allowed', 'GET', $org, [$ada] ],
		[ 'POST on orgs', '405 method_not_allowed', 'POST', $orgs, [ $ada, $json ], '{}' ],
		[ 'PATCH on a member', '405 method_not_allowed', 'PATCH', "$org/members/x", [ $ada, $json ], '{}' ],
		[ 'GET on a rotation', '405 method_not_allowed', 'GET', "$org/webhook-secret/rotate", [$ada] ],
		[ 'POST on limits', '405 method_not_allowed', 'POST', "$org/limits", [ $ada, $json ], '{}' ],
		[ 'more of the limits', '404 not_found', 'GET', "$org/limits/x", [$ada] ],
		[ 'POST on credits', '405 method_not_allowed', 'POST', "$org/credits", [ $ada, $json ], '{"amount":1}' ],
		[ 'more of the credits', '404 not_found', 'GET', "$org/credits/1", [$ada] ],
		[ 'GET on an acceptance', '405 method_not_allowed', 'GET', $accept, [$ada] ],
		[ 'the webhook secret itself', '404 not_found', 'GET', "$org/webhook-secret", [$ada] ],
		[ 'invitations of nobody', '404 not_found', 'GET', "$api/invitations", [$ada] ],
		[ 'an org without an id', '404 not_found', 'GET', "$orgs/", [$ada] ],
		[ 'more of an org', '404 not_found', 'GET', "$org/members/x/y", [$ada] ],

		# credentials, media types and sizes, of each
		(map { [ "no credentials for $_->[0]", '401 missing_credentials', @{$_}[ 1, 2 ] ] } @each),
		(map { [ "no credentials for $_->[0]", '401 missing_credentials', @{$_}[ 1, 2 ], [$json], '{' ] } @each_with_body),
		(map { [ "a key for $_->[0]", '401 invalid_token', @{$_}[ 1, 2 ], [$key] ] } @each),
		(map { [ "an expired token for $_->[0]", '401 expired_token', @{$_}[ 1, 2 ], [ "Authorization: Bearer $s{expired}", $json ], '{' ] } @each_with_body),
		(map { [ "two credentials for $_->[0]", '400 invalid_request', @{$_}[ 1, 2 ], [ $ada, 'X-Overten-Authorization: Bearer x' ] ] } @each),
		(map { [ "text for $_->[0]", '415 unsupported_media_type', @{$_}[ 1, 2 ], [ $ada, 'Content-Type: text/plain' ], '{}' ] } @each_with_body),
		(map { [ "a body over 16 KiB for $_->[0]", '413 payload_too_large', @{$_}[ 1, 2 ], [ $ada, $json ], ' ' x 16385 ] } @each, @each_with_body),
		(map { [ "no body for $_->[0]", '400 invalid_json', @{$_}[ 1, 2 ], [ $ada, $json ], '' ] } @each_with_body),
		(map { [ "invalid UTF-8 for $_->[0]", '400 invalid_json', @{$_}[ 1, 2 ], [ $ada, $json ], "{\"x\":\"\xff\"}" ] } @each_with_body),
		(map { [ "a list for $_->[0]", '400 invalid_request', @{$_}[ 1, 2 ], [ $ada, $json ], '[]' ] } @each_with_body),

		# what belongs to others, and what does not exist
		(map { [ "$_->[0], in another's org", '404 organization_not_found', @{$_}[ 1, 2 ], [ $ada, $json ], $_->[1] eq 'PATCH' ? '{"name":"x"}' : '{}' ] } @of_others),
		[ 'renaming an unknown org', '404 organization_not_found', 'PATCH', "$orgs/org_00000000000000000000", [ $ada, $json ], '{"name":"x"}' ],
		[ 'closing with a made-up id', '404 organization_not_found', 'DELETE', "$orgs/';--", [$ada] ],
		[ 'members of an encoded id', '404 organization_not_found', 'GET', "$orgs/a%2Fb/members", [$ada] ],
		[ 'removing nobody', '404 member_not_found', 'DELETE', "$org/members/nobody", [$ada] ],
		[ 'removing with bytes that are no text', '404 member_not_found', 'DELETE', "$org/members/%ff%fe", [$ada] ],
		[ 'removing with an encoded slash', '404 member_not_found', 'DELETE', "$org/members/a%2Fb%0d%0aX-Overten-Org-Id:%20x", [$ada] ],
		[ 'removing 8 kB', '404 member_not_found', 'DELETE', "$org/members/" . 'x' x 8000, [$ada] ],
		[ 'withdrawing nothing', '404 invitation_not_found', 'DELETE', "$org/invitations/inv_00000000000000000000", [$ada] ],
		[ "withdrawing another org's", '404 invitation_not_found', 'DELETE', "$org/invitations/$s{foreign_invitation}", [$ada] ],
		[ "a client's item id", '404 invitation_not_found', 'DELETE', "$org/invitations/x", [ $ada, "X-Overten-Item-Id: $s{invitation}" ] ],
		[ 'an unknown code', '404 invitation_not_found', 'POST', $accept, [ $ada, $json ], '{"code":"invite_00000000000000000000000000000000"}' ],
		[ 'no code at all', '404 invitation_not_found', 'POST', $accept, [ $ada, $json ], '{"code":"' . 'x' x 16000 . '"}' ],
		[ 'a used code', '404 invitation_not_found', 'POST', $accept, [ $ada, $json ], "{\"code\":\"$s{used_code}\"}" ],

		# bodies and parameters
		[ 'renaming to nothing', '400 invalid_parameter name', 'PATCH', $org, [ $ada, $json ], '{}' ],
		[ 'renaming to spaces', '400 invalid_parameter name', 'PATCH', $org, [ $ada, $json ], '{"name":"  "}' ],
		[ 'renaming to a number', '400 invalid_parameter name', 'PATCH', $org, [ $ada, $json ], '{"name":1}' ],
		[ 'renaming to line breaks', '400 invalid_parameter name', 'PATCH', $org, [ $ada, $json ], '{"name":"a\r\nb"}' ],
		[ 'renaming to 101 characters', '400 invalid_parameter name', 'PATCH', $org, [ $ada, $json ], '{"name":"' . 'x' x 101 . '"}' ],
		[ 'a note of 101 characters', '400 invalid_parameter note', 'POST', "$org/invitations", [ $ada, $json ], '{"note":"' . 'x' x 101 . '"}' ],
		[ 'inviting for no time', '400 invalid_parameter expires_in_seconds', 'POST', "$org/invitations", [ $ada, $json ], '{"expires_in_seconds":0}' ],
		[ 'inviting for half a second', '400 invalid_parameter expires_in_seconds', 'POST', "$org/invitations", [ $ada, $json ], '{"expires_in_seconds":1.5}' ],
		[ 'inviting for 31 days', '400 invalid_parameter expires_in_seconds', 'POST', "$org/invitations", [ $ada, $json ], '{"expires_in_seconds":2678400}' ],
		[ 'inviting for a string', '400 invalid_parameter expires_in_seconds', 'POST', "$org/invitations", [ $ada, $json ], '{"expires_in_seconds":"60"}' ],
		[ 'accepting without a code', '400 invalid_parameter code', 'POST', $accept, [ $ada, $json ], '{}' ],
		[ 'accepting with a number', '400 invalid_parameter code', 'POST', $accept, [ $ada, $json ], '{"code":1}' ],
		[ 'a negative grace', '400 invalid_parameter grace_seconds', 'POST', "$org/webhook-secret/rotate", [ $ada, $json ], '{"grace_seconds":-1}' ],
		[ 'a grace beyond all numbers', '400 invalid_parameter grace_seconds', 'POST', "$org/webhook-secret/rotate", [ $ada, $json ], '{"grace_seconds":1e300}' ],
		(map { [ "limit=$_", '400 invalid_parameter limit', 'GET', "$org/audit-log?limit=$_", [$ada] ] } '', '0', '201', '-1', '1x', '%31%30%30%30', '9' x 30),
		(map { [ "cursor=$_", '400 invalid_parameter cursor', 'GET', "$org/audit-log?cursor=$_", [$ada] ] } '', 'x', $cursor, uc "a$cursor", "$cursor\%00", '%27%3B--'),
		[ 'limit twice', '400 invalid_parameter limit', 'GET', "$org/audit-log?limit=1&limit=1", [$ada] ],
		(map { [ "limits with limit=$_", '400 invalid_parameter limit', 'GET', "$org/limits?limit=$_", [$ada] ] } '0', '201'),
		(map { [ "limits with cursor=$_", '400 invalid_parameter cursor', 'GET', "$org/limits?cursor=$_", [$ada] ] } 'x', $s{foreign_key}),
		(map { [ "credits with limit=$_", '400 invalid_parameter limit', 'GET', "$org/credits?limit=$_", [$ada] ] } '0', '201'),
		(map { [ "credits with cursor=$_", '400 invalid_parameter cursor', 'GET', "$org/credits?cursor=$_", [$ada] ] } '', '0', '4', '01', '-1', '%201', 'x', '1%00', '1.5', '9' x 18, '9' x 30),
		[ 'credits with two cursors', '400 invalid_parameter cursor', 'GET', "$org/credits?cursor=1&cursor=2", [$ada] ],
		(map { [ "by=$_", '400 invalid_parameter by', 'GET', "$org/usage?by=$_", [$ada] ] } '', 'x', 'key,', 'key,key', 'hour,day', 'key,hour,day', 'KEY'),
		[ '3 days by hour', '400 invalid_parameter since', 'GET', "$org/usage?by=hour&since=2026-05-01T00:00:00Z&until=2026-05-04T00:00:00Z", [$ada] ],
		[ '93 days', '400 invalid_parameter since', 'GET', "$org/usage?since=2026-01-01T00:00:00Z&until=2026-04-04T00:00:00Z", [$ada] ],
		[ 'no time for the usage of an org', '400 invalid_parameter until', 'GET', "$org/usage?until=x", [$ada] ],

		# states
		[ 'renaming a closed org', '409 organization_closed', 'PATCH', $closed, [ $ada, $json ], '{"name":"x"}' ],
		[ 'rotating in a closed org', '409 organization_closed', 'POST', "$closed/webhook-secret/rotate", [ $ada, $json ], '{}' ],
		[ 'inviting to a closed org', '409 organization_closed', 'POST', "$closed/invitations", [ $ada, $json ], '{}' ],
		[ 'a key of a closed org', '401 invalid_api_key', 'GET', "$api/verify", ["Authorization: Bearer $s{closed_secret}"] ],
		[ 'a new key for a closed org', '403 api_access_disabled', 'POST', "$closed/api-keys", [ $ada, $json ], '{}' ],
		[ 'the audit log of a closed org', '200', 'GET', "$closed/audit-log", [$ada] ],
		[ 'the credits of a closed org', '200', 'GET', "$closed/credits", [$ada] ],
		[ 'enough invitations', '409 invitation_limit_reached', 'POST', "$orgs/$s{inviting}/invitations", [ $ada, $json ], '{}' ],
		[ 'the last member', '409 last_member', 'DELETE', "$org/members/$s{ada_uid}", [$ada] ],
		[ "one's own org again", '409 already_member', 'POST', $accept, [ $ada, $json ], "{\"code\":\"$s{own_code}\"}" ],

		# success
		[ 'the features', '200', 'GET', "$api/features?x=y", [$ada] ],
		[ 'HEAD on the features', '200', 'HEAD', "$api/features", [$ada] ],
		[ 'the orgs', '200', 'GET', $orgs, [$ada] ],
		[ 'HEAD on the orgs', '200', 'HEAD', $orgs, [$ada] ],
		[ 'a new name', '200', 'PATCH', $org, [ $ada, $json ], '{"name":" Acme \"Docs\" ✓ "}' ],
		[ 'a new webhook secret', '200', 'POST', "$org/webhook-secret/rotate", [ $ada, $json ], '{}' ],
		[ 'one without a grace', '200', 'POST', "$org/webhook-secret/rotate", [ $ada, $json ], '{"grace_seconds":0}' ],
		[ 'the members', '200', 'GET', "$org/members", [$ada] ],
		[ 'HEAD on the members', '200', 'HEAD', "$org/members", [$ada] ],
		[ 'the invitations', '200', 'GET', "$org/invitations", [$ada] ],
		[ 'a new invitation', '201', 'POST', "$org/invitations", [ $ada, $json ], '{"note":"Eve","expires_in_seconds":60}' ],
		[ 'a good code', '200', 'POST', $accept, [ $ada, $json ], "{\"code\":\"$s{good_code}\"}" ],
		[ 'the same again', '200', 'POST', $accept, [ $ada, $json ], "{\"code\":\"$s{good_code}\"}" ],
		[ 'another of the same org', '409 already_member', 'POST', $accept, [ $ada, $json ], "{\"code\":\"$s{foreign_code}\"}" ],
		[ 'the audit log', '200', 'GET', "$org/audit-log", [$ada] ],
		[ 'the limits', '200', 'GET', "$org/limits", [$ada] ],
		[ 'HEAD on the limits', '200', 'HEAD', "$org/limits", [$ada] ],
		[ 'a page of them', '200', 'GET', "$orgs/$s{own}/limits?limit=1", [$ada] ],
		[ 'the credits', '200', 'GET', "$org/credits", [$ada] ],
		[ 'HEAD on the credits', '200', 'HEAD', "$org/credits", [$ada] ],
		[ 'a page of the ledger', '200', 'GET', "$org/credits?limit=2", [$ada] ],
		[ 'the page after it', '200', 'GET', "$org/credits?limit=2&cursor=2", [$ada] ],
		[ 'credits that an org never got', '200', 'GET', "$orgs/$s{own}/credits", [$ada] ],
		[ 'a page of it', '200', 'GET', "$org/audit-log?limit=2", [$ada] ],
		[ 'a key in it', '200', 'GET', "$org/audit-log?key_id=key_00000000000000000000", [$ada] ],
		[ 'bytes that are no key in it', '200', 'GET', "$org/audit-log?key_id=%ff", [$ada] ],
		[ 'and half a character', '200', 'GET', "$org/audit-log?key_id=%e2%82", [$ada] ],
		[ 'usage by key and day', '200', 'GET', "$orgs/$s{own}/usage", [$ada] ],
		[ 'HEAD on it', '200', 'HEAD', "$orgs/$s{own}/usage", [$ada] ],
		(map { [ "usage by $_", '200', 'GET', "$orgs/$s{own}/usage?by=$_", [$ada] ] } 'key', 'day', 'hour', 'key,hour', 'day,key'),
		[ 'usage in another time zone', '200', 'GET', "$orgs/$s{own}/usage?by=key&since=2026-05-01T00:00:00.125%2B05:45&until=2026-07-31T10:59:59-03:30", [$ada] ],
		[ 'closing', '204', 'DELETE', "$orgs/$s{closing}", [$ada] ],
		[ 'closing again', '204', 'DELETE', "$orgs/$s{closing}", [$ada] ],
		[ 'its key', '401 invalid_api_key', 'GET', "$api/verify", ["Authorization: Bearer $s{closing_secret}"] ],
	);
}

1;
