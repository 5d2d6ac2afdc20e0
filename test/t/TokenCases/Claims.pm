# The claims of a token: the shapes of all sign-in providers, audience, issuer,
# subject, and times.

package TokenCases::Claims;

use strict;
use warnings;

use FirebaseTokens;
use TokenCases;

# Every sign-in provider's shape.
good('plain', claims());
my %identities = (
	'password' => { email => ['a@example.com'] },
	'google.com' => { 'google.com' => ['1'], email => ['a@example.com'] },
	'facebook.com' => { 'facebook.com' => ['2'] },
	'twitter.com' => { 'twitter.com' => ['3'] },
	'github.com' => { 'github.com' => ['4'] },
	'apple.com' => { 'apple.com' => ['000.abc.1'] },
	'microsoft.com' => { 'microsoft.com' => ['5'] },
	'yahoo.com' => { 'yahoo.com' => ['6'] },
	'playgames.google.com' => { 'playgames.google.com' => ['7'] },
	'gc.apple.com' => { 'gc.apple.com' => ['8'] },
	'phone' => { phone => ['+15555550100'] },
	'emailLink' => { email => ['a@example.com'] },
	'saml.example' => { 'saml.example' => ['x'] },
	'oidc.example' => { 'oidc.example' => ['y'] });
for my $provider (sort keys %identities)
{
	for my $tenant (undef, 'tenant-a1b2c')
	{
		my $firebase = {
			identities => $identities{$provider},
			sign_in_provider => $provider
		};
		$firebase->{tenant} = $tenant if $tenant;
		good("provider $provider" . ($tenant ? ' of a tenant' : ''),
			claims(firebase => $firebase));
	}
}
good('anonymous', claims(
		email => undef, email_verified => undef, name => undef,
		provider_id => 'anonymous',
		firebase => { identities => {}, sign_in_provider => 'anonymous' }));
good('custom, with claims', claims(
		admin => JSON::PP::true, roles => [ 'a', 'b' ], level => 3.5,
		firebase => { identities => {}, sign_in_provider => 'custom' }));
good('phone', claims(
		email => undef, phone_number => '+15555550100',
		firebase => { identities => { phone => ['+15555550100'] },
			sign_in_provider => 'phone' }));
good('second factor', claims(
		firebase => { identities => {}, sign_in_provider => 'password',
			sign_in_second_factor => 'phone', second_factor_identifier => 'id' }));
good('sign_in_attributes', claims(
		firebase => { identities => {}, sign_in_provider => 'saml.x',
			sign_in_attributes => { groups => [ 'a', 'b' ] } }));
good('no firebase claim', claims(firebase => undef));
good('firebase is a string', claims(firebase => 'x'));
good('no email', claims(email => undef, email_verified => undef));
good('email is a number', claims(email => 5));
good('name in other scripts', claims(name => "\x{41f}\x{5d0}\x{4e2d}\x{1f600}"));
good('name with escapes', claims_json('"x":"\u0041\n\ud83d\ude00\/"'));
good('empty names', claims_json('"":{"":[]}'));
good('white space in the JSON', " \n\t\r{ " . substr(json(claims()), 1) . "\n ");
good('deep claims', claims_json('"x":' . '[' x 450 . ']' x 450));
good('many members', claims_json(join ',', map { "\"m$_\":$_" } 1 .. 200));
good('same name in two objects', claims_json('"x":{"sub":"y"}'));
good('numbers', claims_json('"x":[0,-0,1.5,1e10,-2.5E-3,9223372036854775807,1e300,0.1]'));
case('16 kB', do
	{
		my $t = token($key, header(), claims(pad => 'x' x 11300));
		length $t <= 16384 or die;
		$t;
	}, 'ok');

# Audience and issuer.
for my $aud ('', 'demo-projec', 'demo-project2', 'DEMO-PROJECT', 'demo-project ',
	' demo-project', "demo-project\n", 'other-project', '*', '%', 'demo-project/x',
	$prefix . PROJECT, [PROJECT], [ PROJECT, 'x' ], [ 'x', PROJECT ], [],
	[ [PROJECT] ], {}, { PROJECT, 1 }, 5, JSON::PP::true)
{
	bad('aud ' . json($aud), claims(aud => $aud));
}
bad("$_ null", claims_json("\"$_\":null", { $_ => undef })) for 'aud', 'iss';
bad('aud missing', claims(aud => undef));
bad('aud in capitals', claims_json('"AUD":"' . PROJECT . '"', { aud => undef }));
bad('aud with NUL', claims_json('"aud":"' . PROJECT . '\u0000"', { aud => undef }));
good('aud with an escape', claims_json('"aud":"\u0064emo-project"', { aud => undef }));
for my $iss ('', $prefix, $prefix . 'other-project', PROJECT, "securetoken.google.com/${\PROJECT}",
	"http://securetoken.google.com/${\PROJECT}", "$prefix${\PROJECT}/", "${prefix}demo-project2",
	"${prefix}demo-projec", uc "$prefix${\PROJECT}", "https://SECURETOKEN.google.com/${\PROJECT}",
	"$prefix/${\PROJECT}", "$prefix${\PROJECT} ", " $prefix${\PROJECT}", "$prefix${\PROJECT}\n",
	"https://securetoken.google.com.example.com/${\PROJECT}", "https://securetoken.google.com:443/${\PROJECT}",
	"https://session.firebase.google.com/${\PROJECT}", 'https://accounts.google.com', 'accounts.google.com',
	'https://firebaseappcheck.googleapis.com/123', "https://securetoken.google.com\@x/${\PROJECT}",
	"https://securetoken.googleapis.com/${\PROJECT}", ["$prefix${\PROJECT}"], {}, 5, JSON::PP::true)
{
	bad('iss ' . json($iss), claims(iss => $iss));
}
bad('iss missing', claims(iss => undef));
bad('another project', claims(aud => 'other', iss => "${prefix}other"));
bad('aud of another project', claims(aud => 'other'));
bad('iss of another project', claims(iss => "${prefix}other"));
bad('neither', claims(aud => '', iss => $prefix));

# Subject.
good("sub of $_ characters", claims(sub => 'u' x $_)) for 1, 28, 127, 128;
good('sub of 128 characters beyond ASCII', claims(sub => "\x{e9}" x 128));
good('sub of 128 characters of 4 bytes', claims(sub => "\x{1f600}" x 128));
good('sub of 128 escaped characters', claims_json('"sub":"' . '\u00e9' x 128 . '"', { sub => undef }));
good('sub with odd characters', claims(sub => q{a'b"c\\d/e%_ }));
bad("sub of $_ characters", claims(sub => 'u' x $_)) for 129, 130, 1000;
bad('sub of 129 characters beyond ASCII', claims(sub => "\x{e9}" x 129));
bad('sub of 129 escaped characters', claims_json('"sub":"' . '\u00e9' x 129 . '"', { sub => undef }));
bad("sub $_", claims_json("\"sub\":$_", { sub => undef }))
  for '""', 'null', '5', 'true', '["x"]', '{}', '0', '"\u0000"', '"a\u0000b"', '"\ud800"', "\"\xff\"";
bad('sub missing', claims(sub => undef));
bad('user_id instead of sub', claims(sub => undef, user_id => 'x'));
bad('uid instead of sub', claims(sub => undef, uid => 'x'));
bad('sub in capitals', claims_json('"SUB":"x"', { sub => undef }));
bad('event_type does not excuse', claims(sub => '', event_type => $_))
  for 'beforeSendSms', 'beforeSendEmail';

# Times.
good('exp in 20 s', claims(exp => $now + 120));
good('exp with a fraction', claims_json('"exp":' . ($now + 1000) . '.75', { exp => undef }));
good('exp with an exponent', claims_json('"exp":9.9e9', { exp => undef }));
good('exp in the year 9999', claims(exp => 253402300799));
bad('exp just past', claims(exp => $now - 1), '28OA1');
bad('exp long past', claims(exp => 1_000_000_000), '28OA1');
bad("exp $_", claims_json("\"exp\":$_", { exp => undef }), '28OA1') for '0', '-1', '1.5', '-0', '1e-300';
bad('exp missing', claims(exp => undef));
bad("exp $_", claims_json("\"exp\":$_", { exp => undef }))
  for 'null', '"' . ($now + 1000) . '"', 'true', '[]', '{}', '""', '1e400', '-1e400', '1e300', '-1e300',
  '9223372036854775807', '9223372036854775808', '18446744073709551616', '18446744075300000000',
  '-9223372036854775808', '253402300800', '99999999999999', '[' . ($now + 1000) . ']', '"never"',
  '1e1000000', '0x7fffffff', 'Infinity', 'NaN';
bad('exp in capitals', claims_json('"EXP":' . ($now + 1000), { exp => undef }));
bad('exp in milliseconds is out of range', claims(exp => ($now + 1000) * 1000));
good("exp $_ s ago within the skew", claims(exp => $now - $_), 300) for 1, 30, 200;
bad('exp 400 s ago beyond the skew', claims(exp => $now - 400), '28OA1', 300);
bad('exp 100 s ago beyond a smaller skew', claims(exp => $now - 100), '28OA1', 60);
for my $name (qw(iat auth_time nbf))
{
	good("$name just now", claims($name => $now - 1));
	good("$name long ago", claims($name => 1_000_000_000));
	good("$name missing", claims($name => undef));
	good("$name with a fraction", claims_json("\"$name\":" . ($now - 10) . '.5', { $name => undef }));
	good("$name 0", claims($name => 0));
	bad("$name in an hour", claims($name => $now + 3600));
	bad("$name in two minutes", claims($name => $now + 120));
	good("$name in two minutes within the skew", claims($name => $now + 120), 300);
	bad("$name in ten minutes beyond the skew", claims($name => $now + 600), '28000', 300);
	bad("$name $_", claims_json("\"$name\":$_", { $name => undef }))
	  for 'null', '"' . ($now - 10) . '"', '"x"', 'true', 'false', '[]', '{}', '1e400', '9e18', '1e300', '-1e300',
	  '9223372036854775807', '9223372036854775808', '18446744073709551617', '99999999999', '9e9';
}
bad('expired and of another project', claims(exp => $now - 10, aud => 'x'));
bad('expired and from the future', claims(exp => $now - 10, iat => $now + 1000));
case('expired and unsigned', "$h." . b64(json(claims(exp => $now - 10))) . ".$s", '28000');
case('expired by a stranger', token($stranger, header(), claims(exp => $now - 10)), '28000');
case('expired with an unknown kid', token($key, header(kid => 'x'), claims(exp => $now - 10)), '28000');

1;
