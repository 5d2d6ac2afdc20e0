
# Every request that names an org, by a person who is not a member of it: the answer is
# that of an org that does not exist, and nothing is changed.  The requests are those of
# the description of the API, so new ones are asked, too.  pg_regress does not read it.

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

my $node = create_api_node('other_orgs', <<'EOC');
overten_auth.key_features = 'rotation, expiry, disable, scopes, details, environments'
EOC
my $json = JSON::PP->new->canonical;
my $gateway = start_gateway($node, 'other_orgs_gateway');
my $paths = $json->decode(slurp_file('gateway/openapi.json'))->{paths};
my $token = 'Authorization: Bearer ' . sign('ada');

# An org of Bob's, with everything that a path can name, and one of Ada's.
my $bobs = create_org($node, 'Bob');
my $adas = create_org($node, 'Ada');
ask($node, "SELECT overten_set_api_access(org, true) FROM unnest('{$bobs,$adas}'::text[]) org");
ask($node, "SELECT overten_add_member('$bobs', 'bob'), overten_add_member('$adas', 'ada')");
my (undef, $bobs_key) = mint($node, $bobs);
my (undef, $adas_key) = mint($node, $adas);
my %id = (
	org_id => $bobs,
	key_id => $bobs_key,
	uid => 'bob',
	invitation_id => ask($node, "SELECT invitation_id FROM overten_invite('$bobs')"),);

# What the requests take that have a body.
my %content = (
	'POST /organizations/{org_id}/api-keys' => '{"name":"mine"}',
	'PATCH /organizations/{org_id}/api-keys/{key_id}' => '{"name":"mine"}',
	'PATCH /organizations/{org_id}' => '{"name":"Mine"}',);

# Everything about Bob's org, as one text.
sub state_of_bobs
{
	return ask($node, join ' UNION ALL ', map { "SELECT t::text FROM overten_auth.$_ t WHERE org_id = '$bobs'" }
		  qw(orgs api_keys members invitations audit_log limits credits));
}

# The status of a request of Ada's, and the code of the error.
sub refusal
{
	my ($method, $path, $content) = @_;
	my $answer = request($gateway->{url}, $method, "/api/v1$path",
		[ $token, defined $content ? 'Content-Type: application/json' : () ], $content);
	my $body = $answer->{body} eq '' ? {} : $json->decode($answer->{body});

	return "$answer->{status} " . ($body->{error} ? $body->{error}{code} : 'no error');
}

my $before = state_of_bobs();
my $asked = 0;
foreach my $template (grep { /\{org_id\}/ } sort keys %$paths)
{
	foreach my $method (map { uc } grep { /^(?:get|post|put|patch|delete)$/ } sort keys %{ $paths->{$template} })
	{
		my $content = $content{"$method $template"} // ($method =~ /^P/ ? '{}' : undef);
		my $path = $template =~ s/\{(\w+)\}/$id{$1} \/\/ die $1/egr;

		is(refusal($method, $path, $content), '404 organization_not_found', "$method $template of another org");
		is(refusal($method, $path =~ s/$bobs/org_00000000000000000000/r, $content),
			'404 organization_not_found', "$method $template of no org");
		# What belongs to another org, below one's own.
		is(refusal($method, $path =~ s/$bobs/$adas/r, $content) =~ s/^404 \w+_not_found$/not found/r,
			'not found', "$method $template with an id of another org")
		  if $template =~ /\}.*\{/;
		$asked++;
	}
}
cmp_ok($asked, '>', 15, 'the description names these requests');
is(state_of_bobs(), $before, 'nothing has changed');

$node->stop;
done_testing();
