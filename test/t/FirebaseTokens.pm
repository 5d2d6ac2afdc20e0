# Makes signing keys, key documents and tokens for the tests of Firebase ID
# tokens.  Each test run makes its own keys, and does not keep them.

package FirebaseTokens;

use strict;
use warnings;

use Crypt::PK::ECC;
use Crypt::PK::RSA;
use Exporter 'import';
use File::Temp;
use JSON::PP;
use MIME::Base64 qw(encode_base64url);

our @EXPORT = qw(PROJECT OUTCOME_FUNCTION b64 json new_rsa jwk jwk_set certificate header claims
  header_json claims_json token sign_raw);

use constant PROJECT => 'demo-project';

# SQL: what a session says to a token, "ok" or an SQLSTATE.
use constant OUTCOME_FUNCTION => <<'SQL';
CREATE FUNCTION outcome(token text) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
	PERFORM overten_verify_firebase_jwt(token);
	RETURN 'ok';
EXCEPTION WHEN OTHERS THEN
	RETURN SQLSTATE;
END $$;
SQL

my $json = JSON::PP->new->utf8->canonical->allow_nonref;

sub b64 { return encode_base64url($_[0]); }
sub json { return $json->encode($_[0]); }

# A new RSA key of so many bits.
sub new_rsa
{
	my ($bits, $exponent) = @_;
	my $key = Crypt::PK::RSA->new;
	$key->generate_key(($bits // 2048) / 8, $exponent // 65537);
	return $key;
}

# A key as a JWK, with members that replace or, if undefined, remove others.
sub jwk
{
	my ($key, $kid, %change) = @_;
	my $jwk = $json->decode($key->export_key_jwk('public'));
	%$jwk = (%$jwk, kid => $kid, alg => 'RS256', use => 'sig', %change);
	delete $jwk->{$_} for grep { !defined $jwk->{$_} } keys %$jwk;
	return $jwk;
}

sub jwk_set { return json({ keys => [@_] }); }

# A self-signed certificate for a key, by the openssl command.  The options
# are those of "openssl x509" or of the times it is valid.
sub certificate
{
	my ($key, %valid) = @_;
	my $dir = File::Temp->newdir;
	my $from = $valid{from} // '20200101000000Z';
	my $to = $valid{to} // '20990101000000Z';
	my $pem = ref $key ? $key->export_key_pem('private') : $key;

	_write("$dir/key", $pem);
	_write("$dir/index", '');
	_write("$dir/serial", "01\n");
	_write("$dir/config", <<"CONFIG");
[ca]
default_ca = ca_default
[ca_default]
new_certs_dir = $dir
database = $dir/index
serial = $dir/serial
default_md = sha256
policy = policy
[policy]
commonName = supplied
[req]
distinguished_name = name
[name]
CONFIG
	system("openssl req -new -config $dir/config -key $dir/key -subj "
		  . "/CN=securetoken.test -out $dir/csr 2>/dev/null"
		  . " && openssl ca -batch -selfsign -config $dir/config -keyfile $dir/key"
		  . " -in $dir/csr -out $dir/pem -notext -startdate $from -enddate $to"
		  . " >/dev/null 2>&1") == 0
	  or die 'openssl could not make a certificate';
	open my $file, '<', "$dir/pem" or die $!;
	local $/;
	return <$file>;
}

sub _write
{
	my ($name, $text) = @_;
	open my $file, '>', $name or die "$name: $!";
	print $file $text;
	close $file;
	return;
}

# The header and the claims of a good token, with changes as for jwk().
sub header
{
	my %change = @_;
	my %header = (alg => 'RS256', kid => 'key-1', typ => 'JWT', %change);
	delete $header{$_} for grep { !defined $header{$_} } keys %header;
	return \%header;
}

sub claims
{
	my %change = @_;
	my $now = time;
	my %claims = (
		iss => 'https://securetoken.google.com/' . PROJECT,
		aud => PROJECT,
		sub => 'Zq3gk8fM2nXv0aBcDeFgHiJkLmN2',
		user_id => 'Zq3gk8fM2nXv0aBcDeFgHiJkLmN2',
		auth_time => $now - 100,
		iat => $now - 100,
		exp => $now + 3500,
		email => 'jane@example.com',
		email_verified => JSON::PP::true,
		name => 'Jane Q. Doe',
		firebase => {
			identities => { email => ['jane@example.com'] },
			sign_in_provider => 'password'
		},
		%change);
	delete $claims{$_} for grep { !defined $claims{$_} } keys %claims;
	return \%claims;
}

# The same as JSON, with one more member, or one replaced, as raw text.
sub header_json { return _splice(header(%{ $_[1] // {} }), $_[0]); }
sub claims_json { return _splice(claims(%{ $_[1] // {} }), $_[0]); }

sub _splice
{
	my ($object, $raw) = @_;
	my $text = json($object);
	$text =~ s/\}$/,$raw}/ if defined $raw;
	return $text;
}

# A token of two texts or objects, signed by RS256 or as told.
sub token
{
	my ($key, $header, $claims, %how) = @_;
	my $signed = join '.',
	  map { b64(ref $_ ? json($_) : $_) } $header, $claims;
	return $signed . '.' . b64(sign_raw($key, $signed, %how));
}

# The signature of a text.
sub sign_raw
{
	my ($key, $text, %how) = @_;
	return $key->sign_message($text, $how{hash} // 'SHA256',
		$how{padding} // 'v1.5', $how{salt} // ())
	  if $key->isa('Crypt::PK::RSA');
	return $key->sign_message_rfc7518($text, $how{hash} // 'SHA256');
}

1;
