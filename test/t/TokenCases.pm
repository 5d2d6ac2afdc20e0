# The cases of the tests of Firebase ID tokens: the keys that sign them, a good
# token to alter, and the functions that add a case.  The modules of TokenCases/
# add theirs when 260_tokens.pl loads them.

package TokenCases;

use strict;
use warnings;

use Crypt::PK::ECC;
use Exporter 'import';
use FirebaseTokens;
use MIME::Base64 qw(decode_base64url);

our @EXPORT = qw(@cases @jwks $key $other_key $big_key $stranger $ec
  $certificate $odd_kid $now $good $h $p $s $raw $emulator $prefix
  case good bad good_header bad_header);

our $key = new_rsa();
our $other_key = new_rsa();
our $big_key = new_rsa(3072);
our $stranger = new_rsa();
our $ec = Crypt::PK::ECC->new;
$ec->generate_key('secp256r1');
our $certificate = certificate($key);

# A kid that would do harm in a pattern, a path or a statement.
our $odd_kid = q{k'%_"; DROP TABLE x --/../*};
our @jwks = (
	jwk($key, 'key-1'), jwk($other_key, 'key-2'),
	jwk($big_key, 'key-3'), jwk($other_key, $odd_kid),
	jwk($other_key, "cl\x{e9}"));

# The moment that the cases are about, which the test sets before it loads them.
our $now;
our $prefix = 'https://securetoken.google.com/';

# Each a name, a token, what is to become of it, and the clock skew.
our @cases;

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

our $good = token($key, header(), claims());
our ($h, $p, $s) = split /\./, $good;
our $raw = decode_base64url($s);

# What the emulator issues for the same person.
our $emulator = b64('{"alg":"none","typ":"JWT"}') . ".$p.";

1;
