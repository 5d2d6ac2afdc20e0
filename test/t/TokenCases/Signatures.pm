# The header of a token and its signature: key ids, algorithms, keys that come
# with the token, and signatures that are altered, missing or of another kind.

package TokenCases::Signatures;

use strict;
use warnings;

use Crypt::Mac::HMAC qw(hmac);
use FirebaseTokens;
use MIME::Base64 qw(decode_base64 decode_base64url);
use TokenCases;

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

1;
