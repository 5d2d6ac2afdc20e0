
# Signatures of webhooks are good to those who receive them: the package
# standardwebhooks accepts them with each secret that signs, and refuses what
# was altered.  pg_regress cannot run it.

use strict;
use warnings FATAL => 'all';

use FindBin;
use lib $FindBin::RealBin;
use IPC::Run;
use JSON::PP;
use OvertenTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $verifier = "$FindBin::RealBin/../webhooks/verify.js";
my $node = create_node('webhooks', '');
my $org = create_org($node, 'Receiver');
my ($key) = mint($node, $org);
my $old = ask($node, "SELECT webhook_secret FROM overten_verify_key('$key')");
my $body = '{"type":"invoice.paid","data":{"name":"Zoë ✓","quote":"it\'s"}}';
my $now = time;

# The headers of a message, signed by the database.
sub sign
{
	my ($id, $timestamp, $body) = @_;

	return {
		'webhook-id' => $id,
		'webhook-timestamp' => "$timestamp",
		'webhook-signature' => ask(
			$node,
			"SELECT overten_sign_webhook('$org', '$id', $timestamp, \$body\$$body\$body\$)"
		)
	};
}

# What a receiver with this secret says.
sub verdict
{
	my ($secret, $headers, $body) = @_;
	my $input = encode_json({
			secret => $secret,
			headers => $headers,
			body => do { utf8::decode(my $text = $body); $text }
		});
	my ($stdout, $stderr);
	my $result = IPC::Run::run([ 'node', $verifier ],
		'<', \$input, '>', \$stdout, '2>', \$stderr);

	$result or die "verify.js: $stderr";
	chomp $stdout;
	return $stdout;
}

my $headers = sign('msg_2KWPBgLlAfxdpx2AI54pPJ85f4W', $now, $body);
is(verdict($old, $headers, $body), 'good', 'a signature is good');
like($headers->{'webhook-signature'}, qr/^v1,\S{44}$/, 'there is one');

my $new = ask($node, "SELECT overten_rotate_webhook_secret('$org')");
my $both = sign('msg_1', $now, $body);
like($both->{'webhook-signature'}, qr/^v1,\S{44} v1,\S{44}$/,
	'after a rotation there are two');
is(verdict($new, $both, $body), 'good', 'they are good with the new secret');
is(verdict($old, $both, $body), 'good', 'and with the old one');
is(verdict($new, $headers, $body),
	'refused', 'one from before is not, with the new secret');

foreach my $secret ($new, $old)
{
	my $which = $secret eq $new ? 'new' : 'old';

	is(verdict($secret, $both, $body =~ s/paid/void/r),
		'refused', "$which secret: another body is refused");
	is(verdict($secret, { %$both, 'webhook-id' => 'msg_2' }, $body),
		'refused', "$which secret: another id is refused");
	is( verdict(
			$secret, { %$both, 'webhook-timestamp' => $now + 1 }, $body),
		'refused',
		"$which secret: another time is refused");
	my $altered = $both->{'webhook-signature'} =~
	  s/v1,(.)/'v1,' . ($1 eq 'A' ? 'B' : 'A')/ger;
	is( verdict(
			$secret, { %$both, 'webhook-signature' => $altered }, $body),
		'refused',
		"$which secret: altered signatures are refused");
}

my $other = create_org($node, 'Other');
my ($other_key) = mint($node, $other);
is( verdict(
		ask($node,
			"SELECT webhook_secret FROM overten_verify_key('$other_key')"),
		$both, $body),
	'refused',
	'so is the secret of another org');

my $last = ask($node, "SELECT overten_rotate_webhook_secret('$org', '0')");
my $single = sign('msg_1', $now, $body);
is(verdict($last, $single, $body), 'good', 'without grace the new one is good');
is(verdict($new, $single, $body), 'refused', 'and the old one is not');

$node->stop;
done_testing();
