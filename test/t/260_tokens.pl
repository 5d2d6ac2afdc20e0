# What is accepted as a Firebase ID token and what is not, each rule broken
# one at a time.  Not in pg_regress, for the tokens are signed with keys that
# are made for each run, and hold the present time.

use strict;
use warnings;

use Crypt::Mac::HMAC qw(hmac);
use Crypt::PK::ECC;
use FindBin;
use MIME::Base64 qw(decode_base64 decode_base64url);
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

use lib $FindBin::RealBin;
use FirebaseTokens;

my $node = PostgreSQL::Test::Cluster->new('tokens');
$node->init;
$node->append_conf('postgresql.conf', <<CONF);
overten_auth.firebase_project_id = '${\PROJECT}'
overten_auth.firebase_tenant = '*'
log_statement = none
log_min_error_statement = error
log_error_verbosity = verbose
CONF
$node->start;
$node->safe_psql('postgres', 'CREATE EXTENSION overten_auth CASCADE');

my $key = new_rsa();
my $other_key = new_rsa();
my $big_key = new_rsa(3072);
my $stranger = new_rsa();
my $ec = Crypt::PK::ECC->new;
$ec->generate_key('secp256r1');
my $certificate = certificate($key);

# A kid that would do harm in a pattern, a path or a statement.
my $odd_kid = q{k'%_"; DROP TABLE x --/../*};
my @jwks = (
	jwk($key, 'key-1'), jwk($other_key, 'key-2'),
	jwk($big_key, 'key-3'), jwk($other_key, $odd_kid),
	jwk($other_key, "cl\x{e9}"));
$node->safe_psql('postgres',
	q{SELECT overten_load_signing_keys($doc$} . jwk_set(@jwks) . '$doc$)');

my $now = time;
my @cases;

# Say what is to become of a token: 'ok', or an SQLSTATE.  With a skew the
# token is looked at with that setting of overten_auth.clock_skew.
sub case
{
	my ($name, $token, $expected, $skew) = @_;
	push @cases, [ $name, $token, $expected, $skew // 0 ];
	return;
}
sub good { case($_[0], token($key, header(), $_[1]), 'ok', $_[2]); return; }
sub bad { case($_[0], token($key, header(), $_[1]), $_[2] // '28000', $_[3]); return; }
sub bad_header { case($_[0], token($key, $_[1], claims()), '28000'); return; }
sub good_header { case($_[0], token($key, $_[1], claims()), 'ok'); return; }

my $good = token($key, header(), claims());
my ($h, $p, $s) = split /\./, $good;
my $raw = decode_base64url($s);

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

# Header.
good_header('typ missing', header(typ => undef));
good_header('members in another order', '{"typ":"JWT","kid":"key-1","alg":"RS256"}');
good_header('alg with an escape', '{"alg":"\u0052S256","kid":"key-1"}');
good_header('unknown header', header(foo => 'bar'));
case('key-2', token($other_key, header(kid => 'key-2'), claims()), 'ok');
case('3072 bits', token($big_key, header(kid => 'key-3'), claims()), 'ok');
case('odd kid', token($other_key, header(kid => $odd_kid), claims()), 'ok');
case('kid beyond ASCII', token($other_key, header(kid => "cl\x{e9}"), claims()), 'ok');
case('kid escaped', token($key, '{"alg":"RS256","kid":"key\u002d1"}', claims()), 'ok');
my $jwk = jwk($stranger, 'key-1');
my $x5c = [ join '', certificate($stranger) =~ /^([^-]+)$/mg ];
my %sources = (
	jwk => $jwk, jku => 'https://example.com/keys', x5u => 'https://example.com/x',
	x5c => $x5c, x5t => 'abc', 'x5t#S256' => 'abc');
for my $name (sort keys %sources)
{
	case("$name is not looked at",
		token($key, header($name => $sources{$name}), claims()), 'ok');
	case("$name of a stranger",
		token($stranger, header($name => $sources{$name}), claims()), '28000');
	case("$name instead of kid",
		token($stranger, header($name => $sources{$name}, kid => undef), claims()),
		'28000');
}
bad_header('kid missing', header(kid => undef));
bad_header('kid empty', header(kid => ''));
bad_header("kid $_", "{\"alg\":\"RS256\",\"kid\":$_}")
  for 'null', '1', '0', 'true', 'false', '["key-1"]', '{"key-1":1}', '[]', '1.0';
bad_header("kid '$_'", header(kid => $_))
  for 'KEY-1', 'Key-1', 'key-1 ', ' key-1', 'key-', 'key-11', 'key_1', '%',
  'key%', '_____', "key-1\n", '../key-1', "' OR 1=1 --", '*', 'key-1,key-2',
  'x' x 10000, "key-1\x{301}", '$1', '%s%n';
case('kid of another key', token($key, header(kid => 'key-2'), claims()), '28000');
bad_header('kid with NUL', '{"alg":"RS256","kid":"key-1\u0000"}');
bad_header("crit $_", "{\"alg\":\"RS256\",\"kid\":\"key-1\",\"crit\":$_}")
  for '[]', '["exp"]', '["b64"]', 'null', '"x"', '["x"],"x":1';
bad_header('b64 false and crit', '{"alg":"RS256","kid":"key-1","b64":false,"crit":["b64"]}');
bad_header("alg $_", header(alg => $_))
  for 'rs256', 'Rs256', 'RS256 ', ' RS256', 'RS384', 'RS512', 'PS256', 'PS384',
  'ES256', 'ES256K', 'EdDSA', 'HS256', 'hs256', 'HS384', 'HS512', 'none', 'None',
  'NONE', 'nOnE', '', 'RSA', 'SHA256withRSA', "RS256\n", "\x{ff32}S256";
bad_header('alg missing', header(alg => undef));
bad_header("alg $_", "{\"alg\":$_,\"kid\":\"key-1\"}")
  for 'null', '["RS256"]', '256', 'true', '{"RS256":1}';
bad_header('alg with NUL', '{"alg":"RS256\u0000","kid":"key-1"}');
bad_header('name of alg in capitals', '{"ALG":"RS256","kid":"key-1"}');
bad_header('name of kid in capitals', '{"alg":"RS256","KID":"key-1"}');

# Other algorithms, signed as they should be.
for my $how (
	[ 'RS384', hash => 'SHA384' ], [ 'RS512', hash => 'SHA512' ],
	[ 'PS256', padding => 'pss', salt => 32 ],
	[ 'PS384', hash => 'SHA384', padding => 'pss', salt => 48 ],
	[ 'PS512', hash => 'SHA512', padding => 'pss', salt => 64 ])
{
	my ($alg, %how) = @$how;
	case("$alg", token($key, header(alg => $alg), claims(), %how), '28000');
	case("$alg called RS256", token($key, header(), claims(), %how), '28000');
}
case('RS256 with SHA-1', token($key, header(), claims(), hash => 'SHA1'), '28000');
case("ES256 as $_", token($ec, header(alg => $_), claims()), '28000')
  for 'ES256', 'RS256';

# The public key as the secret of a symmetric algorithm.
my $numbers = $key->key2hash;
my %secrets = (
	'PEM' => $key->export_key_pem('public_x509'),
	'PEM without the last newline' => $key->export_key_pem('public_x509') =~ s/\n\z//r,
	'RSA PEM' => $key->export_key_pem('public'),
	'DER' => decode_base64(join '', $key->export_key_pem('public_x509') =~ /^([^-]+)$/mg),
	'PKCS1 DER' => $key->export_key_der('public'),
	'certificate' => $certificate,
	'certificate DER' => decode_base64(join '', $certificate =~ /^([^-]+)$/mg),
	'modulus' => pack('H*', $numbers->{N}),
	'modulus in hex' => $numbers->{N},
	'n' => jwk($key, 'x')->{n},
	'JWK' => json(jwk($key, 'key-1')),
	'a zero' => "\0");
for my $name (sort keys %secrets)
{
	for my $alg ('HS256', 'HS384', 'HS512', 'RS256')
	{
		my $signed = b64(json(header(alg => $alg))) . ".$p";
		my $hash = $alg eq 'RS256' ? 'SHA256' : $alg =~ s/HS/SHA/r;
		case("$alg by $name",
			"$signed." . b64(hmac($hash, $secrets{$name}, $signed)), '28000');
	}
}

# No signature.
for my $alg ('none', 'None', 'NONE', 'nOnE', 'RS256', '')
{
	my $signed = b64(json(header(alg => $alg))) . ".$p";
	case("alg '$alg' without a signature", "$signed.", '28000');
	case("alg '$alg' without the last dot", $signed, '28000');
	case("alg '$alg' with a signature", "$signed.$s", '28000') if $alg ne 'RS256';
	case("alg '$alg' with one byte", "$signed.AA", '28000');
}
my $emulator = b64('{"alg":"none","typ":"JWT"}') . ".$p.";
case('emulator', $emulator, '28000');

# Signature.
for my $bit (0, 1, 7, 8, 100, 1023, 1024, 2000, 2040, 2047)
{
	my $flipped = $raw;
	vec($flipped, $bit, 1) ^= 1;
	case("bit $bit of the signature", "$h.$p." . b64($flipped), '28000');
}
case("signature cut to $_ bytes", "$h.$p." . b64(substr($raw, 0, $_)), '28000')
  for 1, 2, 127, 128, 254, 255;
case('signature longer by a zero before', "$h.$p." . b64("\0$raw"), '28000');
case('signature longer by a zero behind', "$h.$p." . b64("$raw\0"), '28000');
case('signature twice', "$h.$p." . b64($raw . $raw), '28000');
case('signature of zeros', "$h.$p." . b64("\0" x 256), '28000');
case('signature of ones', "$h.$p." . b64("\xff" x 256), '28000');
case('signature is 1', "$h.$p." . b64("\0" x 255 . "\1"), '28000');
case('signature reversed', "$h.$p." . b64(scalar reverse $raw), '28000');
case('signature of the other key', "$h.$p." . b64(sign_raw($other_key, "$h.$p")), '28000');
case('signature of the other token', do
	{
		my $swap = token($key, header(), claims(sub => 'other'));
		"$h.$p." . (split /\./, $swap)[2];
	}, '28000');
case('signature of the payload alone', "$h.$p." . b64(sign_raw($key, $p)), '28000');
case('signature of the JSON', "$h.$p."
	  . b64(sign_raw($key, decode_base64url($h) . '.' . decode_base64url($p))), '28000');
case('signature without the dot', "$h.$p." . b64(sign_raw($key, "$h$p")), '28000');
case('payload changed', "$h." . b64(json(claims(sub => 'other'))) . ".$s", '28000');
case('header changed', b64(json(header(foo => 1))) . ".$p.$s", '28000');
case('header and payload swapped', "$p.$h.$s", '28000');
case('a stranger', token($stranger, header(), claims()), '28000');
for my $place (0, 10, 50)
{
	my $flipped = $p;
	substr($flipped, $place, 1) = substr($flipped, $place, 1) eq 'A' ? 'B' : 'A';
	case("character $place of the payload", "$h.$flipped.$s", '28000');
}

# Segments and base64.
case("form '$_'", $_, '28000')
  for '', '.', '..', '...', 'a', 'a.b', 'a.b.c', 'a.b.c.d', ' ', 'null', '{}',
  'Bearer', "\n", '.a.b', 'a..b', 'a.b.';
case('no signature', "$h.$p", '28000');
case('trailing dot', "$good.", '28000');
case('leading dot', ".$good", '28000');
case('four segments', "$good.$s", '28000');
case('five segments', "$h.$p.$s.$s.$s", '28000');
case('JWE', "$h..$p.$s.$s", '28000');
case('JSON serialization', json(
		{ protected => $h, payload => $p, signature => $s }), '28000');
case('Bearer', "Bearer $good", '28000');
case('quotes', "\"$good\"", '28000');
for my $character (' ', "\n", "\t", "\r", '=', '==', '+', '/', '!', '~', '*', ',', ';', '%',
	"\x{e9}", "\x{200b}", "\x{feff}", "\x7f", "\x01", '"', "'")
{
	my $name = sprintf 'U+%04X', ord $character;
	my $c = $character;
	utf8::encode($c);
	case("$name in front", "$c$good", '28000');
	case("$name at the end", "$good$c", '28000');
	case("$name behind the header", "$h$c.$p.$s", '28000');
	case("$name in the payload", "$h." . substr($p, 0, 20) . $c . substr($p, 20) . ".$s", '28000');
	case("$name in the signature", "$h.$p." . substr($s, 0, 20) . $c . substr($s, 20), '28000');
}
for my $which (0 .. 2)
{
	my @segments = ($h, $p, $s);
	my @name = ('header', 'payload', 'signature');
	my @alphabet = ('A' .. 'Z', 'a' .. 'z', 0 .. 9, '-', '_');
	my %value = map { $alphabet[$_] => $_ } 0 .. 63;

	# A last group of two or three characters has bits to spare.
	$segments[0] = b64('{"alg":"RS256","kid":"key-1"} ') . '' if $which == 0;
	my $last = substr $segments[$which], -1;
	my $bits = length($segments[$which]) % 4;
	if ($bits)
	{
		substr($segments[$which], -1) = $alphabet[ $value{$last} ^ 1 ];
		case("spare bits of the $name[$which]", join('.', @segments), '28000');
	}
	@segments = ($h, $p, $s);
	$segments[$which] .= 'A';
	case("one character more in the $name[$which]", join('.', @segments), '28000');
	@segments = ($h, $p, $s);
	$segments[$which] .= '=' x (4 - length($segments[$which]) % 4);
	case("padding of the $name[$which]", join('.', @segments), '28000');
}
case('standard alphabet', do
	{
		my $t = token($key, header(), claims(x => "\x{fbff}>>>???\x{fbff}"));
		$t =~ tr{-_}{+/};
		$t =~ m{[+/]} or die;
		$t;
	}, '28000');
for my $size (16385, 20_000, 1_000_000, 10_000_000)
{
	case("$size bytes of A", 'A' x $size, '28000');
	case("$size bytes in the header", 'A' x $size . ".$p.$s", '28000');
}
case('1 MB of claims', token($key, header(), claims(x => 'x' x 1_000_000)), '28000');
case('16 kB and a little', token($key, header(), claims(x => 'x' x 12_000)), '28000');

# JSON, in the payload and in the header.
my %json = (
	'array' => '[]', 'string' => '"x"', 'number' => '1', 'null' => 'null',
	'nothing but space' => ' ', 'two objects' => '{}{}', 'brace' => '{',
	'in an array' => '[' . json(claims()) . ']',
	'trailing byte' => json(claims()) . 'x',
	'trailing comma' => json(claims()) =~ s/\}$/,}/r,
	'trailing NUL' => json(claims()) . "\0",
	'NUL and garbage' => json(claims()) . "\0garbage",
	'leading NUL' => "\0" . json(claims()),
	'another object behind' => json(claims()) . '{"sub":"x"}',
	'comment' => json(claims()) . ' // x',
	'comment inside' => json(claims()) =~ s/^\{/{\/*x*\//r,
	'single quotes' => json(claims()) =~ tr/"/'/r,
	'name without quotes' => claims_json('x:1'),
	'no colon' => claims_json('"x" 1'),
	'no value' => claims_json('"x":'),
	'two commas' => claims_json(',"x":1'),
	'BOM' => "\xef\xbb\xbf" . json(claims()),
	'UTF-16' => join('', map { "\0$_" } split //, json(claims())),
	'vertical tab' => "\x0b" . json(claims()),
	'no-break space' => "\xc2\xa0" . json(claims()),
	'cut' => substr(json(claims()), 0, -1),
	'cut in a string' => substr(json(claims()), 0, 50),
	(map { ("nested $_" => claims_json('"x":' . '[' x $_ . ']' x $_)) } 600, 2000, 5000),
	'nested 100000' => claims_json('"x":' . '[' x 100_000 . ']' x 100_000),
	'nested 100000 open' => '[' x 100_000,
	'nested objects 3000' => claims_json('"x":' . '{"a":' x 1800 . '1' . '}' x 1800),
	'too many members' => claims_json(join ',', map { "\"m$_\":1" } 1 .. 300));
my %values = (
	'NUL escaped' => '"a\u0000b"', 'raw NUL' => "\"a\0b\"",
	'lone high surrogate' => '"\ud800"', 'lone low surrogate' => '"\udc00"',
	'two high surrogates' => '"\ud800\ud800"', 'high and text' => '"\ud800x"',
	'high and other escape' => '"\ud800\n"', 'swapped surrogates' => '"\udc00\ud800"',
	'overlong 2' => "\"\xc0\xaf\"", 'overlong NUL' => "\"\xc0\x80\"",
	'overlong 3' => "\"\xe0\x80\xaf\"", 'overlong 4' => "\"\xf0\x80\x80\xaf\"",
	'surrogate in UTF-8' => "\"\xed\xa0\x80\"", 'beyond U+10FFFF' => "\"\xf4\x90\x80\x80\"",
	'five bytes' => "\"\xf8\x88\x80\x80\x80\"", 'continuation alone' => "\"\x80\"",
	'cut character' => "\"\xe4\xb8\"", 'FE' => "\"\xfe\"", 'FF' => "\"\xff\"",
	'Latin-1' => "\"caf\xe9\"", 'raw newline' => "\"a\nb\"", 'raw tab' => "\"a\tb\"",
	'escape \x' => '"\x41"', 'escape \u with 3 digits' => '"\u004"',
	'escape \u with letters' => '"\u00zz"', 'escape \0' => '"\0"', 'escape \u{41}' => '"\u{41}"',
	'no end' => '"abc', 'leading zero' => '01', 'plus' => '+1', 'point first' => '.5',
	'point last' => '1.', 'no exponent' => '1e', 'exponent sign' => '1e+', 'hex' => '0x10',
	'NaN' => 'NaN', 'Infinity' => 'Infinity', '-Infinity' => '-Infinity', 'minus' => '-',
	'minus space' => '- 1', 'True' => 'True', 'TRUE' => 'TRUE', 'nul' => 'nul', 'nulll' => 'nulll',
	'undefined' => 'undefined', '1e400' => '1e400', '-1e400' => '-1e400', '1e309' => '1e309',
	'1e99999999999' => '1e99999999999', '1e-99999' => '1e-99999', '2^63' => '9223372036854775808',
	'-2^63-1' => '-9223372036854775809', '2^64+5' => '18446744073709551621',
	'400 digits' => '9' x 400, 'array comma' => '[1,]', 'array commas' => '[,]',
	'array open' => '[1', 'wrong bracket' => '[1}', 'wrong brace' => '{"a":1]',
	'duplicate inside' => '{"a":1,"a":1}', 'duplicate escaped inside' => '{"a":1,"\u0061":1}');
$json{"value $_"} = claims_json("\"x\":$values{$_}") for keys %values;
$json{"name with $_"} = claims_json("$values{$_}:1")
  for grep { $values{$_} =~ /^"/ } keys %values;
for my $name (qw(sub aud iss exp iat auth_time firebase email))
{
	my $value = json(claims()->{$name});
	my $escaped = sprintf '\u%04x%s', ord $name, substr $name, 1;
	my $capital = sprintf '\u%04X%s', ord $name, substr $name, 1;
	$json{"$name twice, the same"} = claims_json("\"$name\":$value");
	$json{"$name twice, another first"} =
	  '{"' . $name . '":"x",' . substr json(claims()), 1;
	$json{"$name twice, another last"} = claims_json("\"$name\":\"x\"");
	$json{"$name twice, escaped"} = claims_json("\"$escaped\":$value");
	$json{"$name twice, escaped twice"} =
	  claims_json("\"$escaped\":$value,\"$capital\":1", { $name => undef });
}
$json{'name beyond ASCII twice, one escaped'} = claims_json("\"\xc3\xa9\":1,\"\\u00e9\":1");
$json{'astral name twice, one escaped'} =
  claims_json("\"\xf0\x9f\x98\x80\":1,\"\\ud83d\\ude00\":1");
case("payload: $_", token($key, header(), $json{$_}), '28000') for sort keys %json;
for my $name (sort keys %values)
{
	case("header: $name",
		token($key, "{\"alg\":\"RS256\",\"kid\":\"key-1\",\"x\":$values{$name}}", claims()),
		'28000');
}
for my $name (qw(alg kid))
{
	my $value = json(header()->{$name});
	bad_header("$name twice", header_json("\"$name\":$value"));
	bad_header("$name twice, another first", "{\"$name\":\"x\"," . substr json(header()), 1);
	bad_header("$name twice, escaped",
		header_json(sprintf '"\u%04x%s":%s', ord $name, substr($name, 1), $value));
}
case("header is $_", token($key, $_, claims()), '28000')
  for '[]', '{}', '"RS256"', 'null', '{"alg":"RS256","kid":"key-1"}x',
  "{\"alg\":\"RS256\",\"kid\":\"key-1\"}\0", '{"alg":"RS256","kid":"key-1"',
  "\xef\xbb\xbf{\"alg\":\"RS256\",\"kid\":\"key-1\"}";
good_header('spaces in the header', ' { "alg" : "RS256" , "kid" : "key-1" } ');

# Audience and issuer.
my $prefix = 'https://securetoken.google.com/';
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

# Other kinds of token.
my $custom_aud = 'https://identitytoolkit.googleapis.com/'
  . 'google.identity.identitytoolkit.v1.IdentityToolkit';
my $custom = token($key, header(kid => undef), {
		iss => 'sa@example.com', sub => 'sa@example.com', aud => $custom_aud,
		iat => $now - 1, exp => $now + 3599, uid => 'x' });
case('custom token', $custom, '28000');
my $signed = b64('{"alg":"HS256","typ":"JWT"}') . '.'
  . b64(json({ v => 0, iat => $now, d => { uid => 'x' } }));
my $legacy = "$signed." . b64(hmac('SHA256', 'secret', $signed));
case('legacy custom token', $legacy, '28000');
my $cookie = token($key, header(), claims(iss => "https://session.firebase.google.com/${\PROJECT}"));
my $app_check = token($key, header(), {
		iss => 'https://firebaseappcheck.googleapis.com/1', aud => [ 'projects/1', "projects/${\PROJECT}" ],
		sub => '1:1:web:1', iat => $now - 1, exp => $now + 3599 });
my $google = token($key, header(), claims(iss => 'https://accounts.google.com', aud => 'x.apps.googleusercontent.com'));

# Run them: each twice, for what the cache says must be the same.  COPY takes
# them as they are but for backslashes, tabs and newlines.
my $file = PostgreSQL::Test::Utils::tempdir() . '/cases';
open my $out, '>:raw', $file or die $!;
for my $i (0 .. $#cases)
{
	my ($name, $token, $expected, $skew) = @{ $cases[$i] };
	my %escape = ("\\" => '\\\\', "\n" => '\n', "\t" => '\t', "\r" => '\r');
	$token =~ s/([\\\n\t\r])/$escape{$1}/g;
	print $out "$i\t$skew\t$token\n";
}
close $out;
chmod 0644, $file;

$node->safe_psql('postgres', <<'SQL');
CREATE TABLE cases (id int, skew int, token text);
CREATE FUNCTION outcome(token text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	detail text;
	message text;
BEGIN
	PERFORM * FROM overten_verify_firebase_jwt(token);
	RETURN 'ok';
EXCEPTION WHEN OTHERS THEN
	GET STACKED DIAGNOSTICS message = MESSAGE_TEXT, detail = PG_EXCEPTION_DETAIL;
	RETURN pg_catalog.concat(SQLSTATE, '|', message, '|', detail);
END $$;
SQL
my $answers = $node->safe_psql('postgres', <<SQL);
COPY cases FROM '$file';
DO \$\$
DECLARE
	skew int;
BEGIN
	FOR skew IN SELECT DISTINCT c.skew FROM cases c LOOP
		PERFORM set_config('overten_auth.clock_skew', skew::text, false);
		EXECUTE format('CREATE TEMP TABLE outcomes_%s AS SELECT id, '
			'outcome(token) AS first, outcome(token) AS second FROM cases '
			'WHERE skew = %s', skew, skew);
	END LOOP;
END \$\$;
SELECT id, first, second FROM (SELECT * FROM outcomes_0 UNION ALL
	SELECT * FROM outcomes_60 UNION ALL SELECT * FROM outcomes_300) o ORDER BY id;
SQL

my %message = (
	'28000' => 'invalid Firebase ID token',
	'28OA1' => 'Firebase ID token has expired');
my @answers = split /\n/, $answers;
is(scalar @answers, scalar @cases, 'every token was looked at');
for my $answer (@answers)
{
	my ($id, $state, @rest) = split /\|/, $answer;
	my ($name, $token, $expected) = @{ $cases[$id] };
	$name =~ s/([^ -~])/sprintf '\\x{%x}', ord $1/ge;
	my ($first, $second) = $answer =~ /^\d+\|(ok|.*?\|.*?\|.*?)\|(ok|\d.*)$/s;

	is($state, $expected, $name);
	is($second, $first, "$name, again") if ($second // '') ne ($first // '');
	is($rest[0], $message{$expected}, "$name: message") if $state ne 'ok' && $rest[0] ne ($message{$expected} // '');
}

# Nor does it matter which tokens the session has had before: all of them again
# without the cache, in an order that no two runs share.
my ($count, $differing) = split /\|/, $node->safe_psql('postgres', <<'SQL');
SET overten_auth.cache_entries = 0;
CREATE TABLE alone AS SELECT id, token, NULL::text AS outcome FROM cases WHERE skew = 0;
UPDATE alone SET outcome = outcome(token);
SELECT count(*), count(*) FILTER (WHERE outcome(token) <> outcome)
FROM (SELECT a.* FROM alone a, generate_series(1, 10) ORDER BY random() OFFSET 0) shuffled;
SQL
is($differing, 0, 'in any order, each has the same outcome');
cmp_ok($count, '>', 9 * @cases, 'and these are nearly all, ten times');

# What is said of those that are another kind of token.
my @kinds = (
	[ $custom, qr/custom token/ ], [ $legacy, qr/legacy custom token/ ],
	[ $cookie, qr/session cookie/ ], [ $app_check, qr/App Check/ ],
	[ $google, qr/Google ID token/ ], [ $emulator, qr/not signed \(alg none\)\. Tokens of the Firebase emulator are never accepted/ ],
	[ "$h.$p.", qr/signature is empty/ ], [ '..', qr/three segments/ ], [ "$h..$s", qr/three segments/ ],
	[ "${emulator}AA", qr/emulator/ ]);
like($node->safe_psql('postgres', "SELECT outcome('$_->[0]')"), $_->[1], "says so: $_->[1]")
  for @kinds;

# Tenants.  A session that has accepted a token by one setting refuses it by
# another, and the other way round.
my %of_tenant = (
	none => token($key, header(), claims()),
	a => token($key, header(), claims(firebase => { tenant => 'a', sign_in_provider => 'password' })),
	A => token($key, header(), claims(firebase => { tenant => 'A' })),
	escaped => token($key, header(), claims_json('"firebase":{"tenant":"\u0061"}', { firebase => undef })),
	empty => token($key, header(), claims(firebase => { tenant => '' })),
	star => token($key, header(), claims(firebase => { tenant => '*' })),
	null => token($key, header(), claims(firebase => { tenant => undef })),
	number => token($key, header(), claims(firebase => { tenant => 5 })),
	list => token($key, header(), claims(firebase => { tenant => ['a'] })),
	'no firebase' => token($key, header(), claims(firebase => undef)),
	'elsewhere' => token($key, header(), claims(tenant => 'a')));
my %accepted = (
	'*' => [ sort keys %of_tenant ],
	'' => [ 'elsewhere', 'no firebase', 'none' ],
	'a' => [ 'a', 'escaped' ],
	'A' => ['A'],
	'5' => [],
	'b' => []);
my @settings = (sort(keys %accepted), reverse sort keys %accepted);
my @by_setting = split /\n/, $node->safe_psql('postgres', join '', map {
		my $setting = $_;
		"SET overten_auth.firebase_tenant = '$setting';\n",
		map { "SELECT outcome('$of_tenant{$_}') = 'ok';\n" } sort keys %of_tenant
	} @settings);
foreach my $setting (@settings)
{
	my @taken = grep { shift @by_setting eq 't' } sort keys %of_tenant;
	is_deeply(\@taken, $accepted{$setting}, "tokens that are accepted with tenant '$setting'");
}
like($node->safe_psql('postgres', "SET overten_auth.firebase_tenant = '$_->[0]'; SELECT outcome('$of_tenant{$_->[1]}')"), $_->[2], "says so: $_->[2]")
  for [ '', 'a', qr/^28000.*tenant, and overten_auth\.firebase_tenant names none/ ], [ 'a', 'none', qr/^28000.*tenant is not the configured one/ ];

# What is returned.
my $full = token($key, header(), claims(
		sub => 'uid-1', email => 'jane@example.com', name => "J\x{e4}ne",
		auth_time => 1_700_000_000, iat => 1_700_000_001, exp => 4_000_000_000,
		n => 1.10, firebase => { tenant => 't-1', sign_in_provider => 'saml.x' }));
is($node->safe_psql('postgres', <<SQL),
SET timezone = 'UTC';
SELECT uid, email, email_verified, name, sign_in_provider, tenant, auth_time, issued_at, expires_at
FROM overten_verify_firebase_jwt('$full')
SQL
	"uid-1|jane\@example.com|t|J\xc3\xa4ne|saml.x|t-1|2023-11-14 22:13:20+00|2023-11-14 22:13:21+00|2096-10-02 07:06:40+00",
	'columns');
is($node->safe_psql('postgres', <<SQL),
SELECT claims = convert_from(decode(rpad(translate(split_part('$full', '.', 2), '-_', '+/'),
	(length(split_part('$full', '.', 2)) + 3) / 4 * 4, '='), 'base64'), 'utf8')::jsonb
FROM overten_verify_firebase_jwt('$full')
SQL
	't', 'claims are those of the payload');
my $bare = token($key, header(), { sub => 'x', aud => PROJECT, iss => $prefix . PROJECT, exp => $now + 1000, email_verified => 'true' });
is($node->safe_psql('postgres', <<SQL), 'x|t', 'what is not there is NULL');
SELECT uid, email IS NULL AND email_verified IS NULL AND name IS NULL AND
	sign_in_provider IS NULL AND tenant IS NULL AND auth_time IS NULL AND issued_at IS NULL
FROM overten_verify_firebase_jwt('$bare')
SQL
my $order = token($key, header(), claims_json('"bb":1,"a":{"z":1,"yy":2,"x":[{"d":1,"cc":2}]},"b\u0062b":2,"\u00e9":3,"B":4'));
is($node->safe_psql('postgres', <<SQL), 't', 'jsonb finds every member');
SELECT bool_and(claims -> k IS NOT NULL) AND claims #>> '{a,x,0,cc}' = '2' AND claims ->> 'bbb' = '2'
FROM overten_verify_firebase_jwt('$order'), unnest(ARRAY['bb', 'a', 'bbb', U&'\\00e9', 'B', 'sub', 'iss']) k
GROUP BY claims
SQL

# Nothing of it is in the log, though each refusal is.  The tokens stand in the
# statements themselves here, as literals, in functions and as parameters.
my @short = grep { $_->[2] ne 'ok' && length $_->[1] < 3000 && $_->[1] =~ /^[\w.-]+$/ } @cases;
$node->psql('postgres', join("\n",
		(map { "SELECT overten_verify_firebase_jwt('$_->[1]');" } @short),
		"DO \$\$BEGIN PERFORM overten_verify_firebase_jwt('$short[0][1]'); END\$\$;",
		"PREPARE p(text) AS SELECT overten_verify_firebase_jwt(\$1);",
		"EXECUTE p('$short[1][1]');"),
	on_error_stop => 0);
my $log = slurp_file($node->logfile);
like($log, qr/28000: invalid Firebase ID token/, 'refusals are in the log');
my @refused = $log =~ /ERROR: +28(?:000|OA1):/g;
cmp_ok(scalar @refused, '>=', @short + 2, 'each of them');
my @found = grep { $_->[1] =~ /^ey/ && (index($log, substr($_->[1], -40)) >= 0
		  || index($log, substr($_->[1], 60, 40)) >= 0) } grep { length $_->[1] > 100 } @cases;
is(scalar @found, 0, 'no token is in the log');
unlike($log, qr/SELECT overten_verify_firebase_jwt|PERFORM/, 'nor is a statement with one');
unlike($log, qr/PANIC|terminated by signal/, 'and the server has stood');

$node->stop;
done_testing();
