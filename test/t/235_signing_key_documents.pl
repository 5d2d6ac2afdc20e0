# Which documents of signing keys are loaded, and which are refused or loaded in
# part.  Not in pg_regress, because the keys are made for each run.

use strict;
use warnings;

use Crypt::PK::ECC;
use FindBin;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

use lib $FindBin::RealBin;
use FirebaseTokens;
use OvertenTest;

my $node = create_node('documents', <<CONF);
overten_auth.firebase_project_id = '${\PROJECT}'
timezone = UTC
CONF

my ($key, $next, $weak) = (new_rsa(), new_rsa(), new_rsa(1024));
my $ec = Crypt::PK::ECC->new;
$ec->generate_key('secp256r1');
my $valid = certificate($key);
my $token = token($key, header(), claims());
my $next_token = token($next, header(kid => 'key-2'), claims());

# Load a document; the answer is a number or "SQLSTATE detail".
my $loader = $node->background_psql('postgres');
$loader->set_query_timer_restart;
ask($loader, <<'SQL');
SET client_min_messages = error;
CREATE FUNCTION load(document bytea) RETURNS text LANGUAGE plpgsql AS $$
DECLARE detail text;
BEGIN
	RETURN overten_load_signing_keys(convert_from(document, 'UTF8')::json);
EXCEPTION WHEN OTHERS THEN
	GET STACKED DIAGNOSTICS detail = PG_EXCEPTION_DETAIL;
	RETURN SQLSTATE || ' ' || detail;
END $$;
SQL
my $file = PostgreSQL::Test::Utils::tempdir() . '/document';
sub load
{
	my ($document) = @_;
	open my $out, '>:raw', $file or die $!;
	print $out $document;
	close $out;
	return ask($loader, "SELECT load(pg_read_binary_file('$file'))");
}

$node->safe_psql('postgres', OUTCOME_FUNCTION);
sub outcome { return $node->safe_psql('postgres', "SELECT outcome('$_[0]')"); }

is(outcome($token), '55000', 'unavailable without keys');

# Good documents.
is(load(json({ 'key-1' => $valid })), 1, 'certificate');
is(outcome($token), 'ok', 'verifies');
is($node->safe_psql('postgres', 'SELECT expires_at FROM overten_auth.signing_keys'),
	'2099-01-01 00:00:00+00', 'a certificate expires');
is(load(json({ 'key-1' => $valid, 'key-2' => certificate($next) })), 2, 'two certificates');
is(outcome($next_token), 'ok', 'the second verifies');
is(load(jwk_set(jwk($key, 'key-1'))), 1, 'JWK set');
is($node->safe_psql('postgres', 'SELECT kid, expires_at IS NULL FROM overten_auth.signing_keys'),
	'key-1|t', 'a JWK does not expire');
is(outcome($next_token), '28000', 'a key that is not in the new set is refused');
is(load(jwk_set(jwk($key, 'key-1', alg => undef, use => undef))), 1, 'JWK without alg and use');
is(load(json({ keys => [ jwk($key, 'key-1') ], extra => 1 })), 1, 'other members of a JWK set');
is(load(jwk_set(jwk($key, 'key-1', x5c => ['x'], key_ops => ['verify']))), 1, 'other members of a JWK');
is(load(json({ 'key-1' => "$valid\n\r\n" })), 1, 'white space behind a certificate');
is(load(json({ 'key-1' => $valid, 'key-2' => $valid })), 2, 'one certificate under two ids');
is(load(json({ keys => $valid })), 1, 'a kid that is called "keys"');
is(load(jwk_set(map { jwk($_->[0], $_->[1]) } [ $key, 'key-1' ], [ new_rsa(2048, 3), 'e3' ], [ new_rsa(4096), 'big' ])),
	3, 'other sizes and exponents');
is(load(json({ q{k'"%_\\;--} => $valid })), 1, 'a kid with quotes and wildcards');
is($node->safe_psql('postgres', 'SELECT kid FROM overten_auth.signing_keys'), q{k'"%_\\;--}, 'is kept as it is');

# An unchanged document writes nothing.
load(jwk_set(jwk($key, 'key-1'), jwk($next, 'key-2')));
my $state = q{SELECT string_agg(xmin || ctid::text || loaded_at, ',' ORDER BY kid) || (SELECT count(*) FROM overten_auth.audit_log) FROM overten_auth.signing_keys};
my $before = $node->safe_psql('postgres', $state);
is(load(jwk_set(jwk($next, 'key-2'), jwk($key, 'key-1'))), 2, 'the same in another order');
is($node->safe_psql('postgres', $state), $before, 'writes nothing');

# Bad ones: the old set stays.
my $holed = $valid =~ s/^(MII[^\n]{20})[^\n]{20}/$1/mr;
die 'no hole' if $holed eq $valid;
my $good_jwk = jwk($key, 'a');
my %bad = (
	'HTML' => '<html><body>502</body></html>', 'nothing' => '', 'null' => 'null', 'string' => '"x"',
	'array' => '[]', 'number' => '1', 'empty object' => '{}', 'empty set' => '{"keys":[]}',
	'error object' => '{"error":{"code":404,"message":"x"}}', 'error string' => '{"error":"x"}',
	'keys null' => '{"keys":null}', 'keys object' => '{"keys":{}}', 'truncated JSON' => substr(json({ a => $valid }), 0, -1),
	'two documents' => json({ a => $valid }) x 2,
	'truncated PEM' => json({ a => substr($valid, 0, 400) }),
	'PEM without its end' => json({ a => $valid =~ s/-----END.*//sr }),
	'PEM with a hole' => json({ a => $holed }),
	'PEM with a letter changed' => json({ a => $valid =~ s/^MII/MIX/mr }),
	'text in front of a PEM' => json({ a => "x\n$valid" }),
	'text behind a PEM' => json({ a => "${valid}x" }),
	'two PEMs' => json({ a => $valid . $valid }),
	'public key PEM' => json({ a => $key->export_key_pem('public_x509') }),
	'private key PEM' => json({ a => $key->export_key_pem('private') }),
	'certificate, then a key' => json({ a => $valid . $key->export_key_pem('public_x509') }),
	'one good, one bad' => json({ a => $valid, b => 'x' }),
	'one good, one a number' => json({ a => $valid, b => 1 }),
	'one good, one null' => "{\"a\":" . json($valid) . ',"b":null}',
	'nested' => json({ a => { b => $valid } }), 'list of PEMs' => json([$valid]),
	'expired' => json({ a => certificate($key, from => '20200101000000Z', to => '20210101000000Z') }),
	'not yet valid' => json({ a => certificate($key, from => '20900101000000Z') }),
	'EC certificate' => json({ a => certificate($ec) }),
	'weak certificate' => json({ a => certificate($weak) }),
	'RSA of 2047 bits' => jwk_set(jwk($key, 'a', n => b64(pack 'H*', '7f' . 'ff' x 255))),
	'same kid twice in certificates' => '{"a":' . json($valid) . ',"a":' . json($valid) . '}',
	'same kid twice, escaped' => '{"a":' . json($valid) . ',"\u0061":' . json($valid) . '}',
	'same kid twice in a set' => jwk_set($good_jwk, $good_jwk),
	'same kid, another key' => jwk_set($good_jwk, jwk($next, 'a')),
	'empty kid of a certificate' => json({ '' => $valid }), 'empty kid' => jwk_set(jwk($key, '')),
	'kid missing' => jwk_set(jwk($key, undef)), 'kid number' => jwk_set(jwk($key, 5)),
	'kid null' => jwk_set($good_jwk) =~ s/"kid":"a"/"kid":null/r, 'kid of 257 bytes' => jwk_set(jwk($key, 'k' x 257)),
	'kid with NUL' => '{"a\u0000":' . json($valid) . '}',
	'EC key' => jwk_set({ kty => 'EC', crv => 'P-256', x => 'AA', y => 'AA', kid => 'a' }),
	'symmetric key' => jwk_set({ kty => 'oct', k => 'c2VjcmV0', kid => 'a', alg => 'HS256' }),
	'private JWK' => jwk_set({ %$good_jwk, d => 'AQAB' }),
	'one good, one private' => jwk_set($good_jwk, { %{ jwk($next, 'b') }, d => 'AQAB' }),
	'one good, one private of another type' => jwk_set($good_jwk, { kty => 'OKP', kid => 'b', d => 'AA' }),
	'one good, one that is no object' => jwk_set($good_jwk, 'x'),
	'one good, 65 others' => jwk_set($good_jwk, map { jwk($key, "k$_") } 1 .. 65),
	'weak JWK' => jwk_set(jwk($weak, 'a')),
	'kty in small letters' => jwk_set(jwk($key, 'a', kty => 'rsa')),
	'kty missing' => jwk_set(jwk($key, 'a', kty => undef)),
	'alg RS512' => jwk_set(jwk($key, 'a', alg => 'RS512')), 'alg null' => jwk_set($good_jwk) =~ s/"RS256"/null/r,
	'use enc' => jwk_set(jwk($key, 'a', use => 'enc')),
	'e 1' => jwk_set(jwk($key, 'a', e => 'AQ')), 'e 2' => jwk_set(jwk($key, 'a', e => 'Ag')),
	'e even' => jwk_set(jwk($key, 'a', e => b64("\1\0\0"))), 'e 0' => jwk_set(jwk($key, 'a', e => 'AA')),
	'e empty' => jwk_set(jwk($key, 'a', e => '')), 'e missing' => jwk_set(jwk($key, 'a', e => undef)),
	'e with a zero before' => jwk_set(jwk($key, 'a', e => 'AAEAAQ')), 'e huge' => jwk_set(jwk($key, 'a', e => b64("\xff" x 64))),
	'e a number' => jwk_set(jwk($key, 'a', e => 65537)),
	'n even' => jwk_set(jwk($key, 'a', n => b64("\xff" x 255 . "\xfe"))),
	'n with a zero before' => jwk_set(jwk($key, 'a', n => b64("\0" . pack 'H*', $key->key2hash->{N}))),
	'n padded' => jwk_set(jwk($key, 'a', n => jwk($key, 'a')->{n} . '==')),
	'n in the other alphabet' => jwk_set(jwk($key, 'a', n => '+' . substr jwk($key, 'a')->{n}, 1)),
	'n missing' => jwk_set(jwk($key, 'a', n => undef)), 'n empty' => jwk_set(jwk($key, 'a', n => '')),
	'n of 16400 bits' => jwk_set(jwk($key, 'a', n => b64("\xff" x 2050))),
	'n of 100 kB' => jwk_set(jwk($key, 'a', n => b64("\xff" x 100_000))),
	'65 keys' => jwk_set(map { jwk($key, "k$_") } 1 .. 65),
	'300 certificates' => '{' . join(',', map { "\"k$_\":\"x\"" } 1 .. 300) . '}',
	'deep' => '{"a":' . '[' x 3000 . ']' x 3000 . '}', '5 MB' => json({ a => 'x' x 5_000_000 }),
	'5 MB of spaces' => json({ a => $valid }) . ' ' x 5_000_000);
for my $name (sort keys %bad)
{
	like(load($bad{$name}), qr/^(22023|22P02|22P05) /, "refused: $name");
}
is($node->safe_psql('postgres', $state), $before, 'none of them changed anything');

# Keys that are not for us are skipped, and the others loaded.
my ($expired, $early) = (certificate($key, from => '20200101000000Z', to => '20210101000000Z'), certificate($key, from => '20900101000000Z'));
my $other_kinds = [
	{ kty => 'EC', crv => 'P-256', x => 'AA', y => 'AA', kid => 'ec', use => 'sig', alg => 'ES256' },
	{ kty => 'OKP', crv => 'Ed25519', x => 'AA', kid => 'okp' }, { kty => 'oct', k => 'AA', kid => 'oct' }, { kty => 'new', kid => 'n' }, {} ];
# OpenSSL does not know its algorithm.
my ($head, $body) = certificate($ec) =~ /^(-----BEGIN CERTIFICATE-----\n)(.*?)-----END/s;
my $unknown = $head . MIME::Base64::encode_base64(MIME::Base64::decode_base64($body) =~ s/\x06\x07\x2a\x86\x48\xce\x3d\x02\x01/\x06\x07\x2a\x86\x48\xce\x3d\x02\x7f/r, "\n") . "-----END CERTIFICATE-----\n";
my $unsound = jwk($key, 'u', n => b64("\xff" x 255 . "\xfe"));
foreach my $case (
	[ 'other types', jwk_set($good_jwk, @$other_kinds), 'a', 'no RSA key (5)' ],
	[ 'other uses', jwk_set(jwk($next, 'b', use => 'enc'), $good_jwk, jwk($next, 'c', key_ops => ['encrypt']), jwk($next, 'd', key_ops => 'verify')), 'a', 'not for signatures (3)' ],
	[ 'other algorithms', jwk_set(jwk($next, 'b', alg => 'RS512'), jwk($next, 'c', alg => 'PS256'), $good_jwk), 'a', 'not for RS256 (2)' ],
	[ 'ids that cannot be used', jwk_set(jwk($next, undef), jwk($next, ''), jwk($next, 5), jwk($next, 'k' x 257), $good_jwk), 'a', 'no usable id (4)' ],
	[ 'numbers', jwk_set(jwk($next, 'b', n => undef), jwk($next, 'c', e => 'AQ=='), $good_jwk, jwk($weak, 'd'), $unsound, jwk($next, 'f', e => 'AQ')),
		'a', 'malformed numbers (2), less than 2048 bits (1), unsound numbers (2)' ],
	[ 'certificates', json({ a => $valid, b => $expired, c => $early, d => certificate($ec), e => certificate($weak), f => $unknown, '' => $valid }), 'a',
		'no RSA key (2), no usable id (1), less than 2048 bits (1), not valid yet (1), expired (1)' ],
	[ 'one id twice', jwk_set($good_jwk, jwk($next, 'b'), jwk($key, 'b')), 'a', 'same id (2)' ],
	[ 'one id three times', jwk_set(jwk($key, 'b'), jwk($next, 'b'), $good_jwk, jwk($key, 'b')), 'a', 'same id (3)' ],
	[ 'one id, escaped', jwk_set(jwk($key, 'b'), $good_jwk, jwk($next, 'c')) =~ s/"c"/"\\u0062"/r, 'a', 'same id (2)' ],
	[ 'one id of keys of two types', jwk_set({ kty => 'EC', kid => 'a' }, $good_jwk), 'a', 'no RSA key (1)' ],
	[ 'one id of a weak key, too', jwk_set(jwk($weak, 'a'), $good_jwk), 'a', 'less than 2048 bits (1)' ],
	[ 'nothing', jwk_set($good_jwk), 'a', undef ])
{
	my ($what, $given, $kids, $skipped) = @$case;

	load(jwk_set(jwk($next, 'before')));
	my (undef, $kids_then, $notice) = $node->psql('postgres', "SELECT overten_load_signing_keys(\$d\$$given\$d\$) \\g /dev/null\n"
		  . "SELECT string_agg(kid, ',' ORDER BY kid) FROM overten_auth.signing_keys");
	is($kids_then, $kids, "skipped: $what");
	my $total = 0;
	$total += $_ foreach ($skipped // '') =~ /\((\d+)\)/g;
	is(join("\n", $notice =~ /(?:NOTICE|DETAIL):  (.*)/g), $skipped ? "signing keys that cannot be used were skipped: $total\nSkipped: $skipped." : '', 'and said');
}
like(load(jwk_set(@$other_kinds, jwk($weak, 'w'))), qr/^22023 There is no usable key in it\. Skipped: no RSA key \(5\), less than 2048 bits \(1\)\.$/, 'nothing is left');
is(load(jwk_set((map { jwk($key, "k$_") } 1 .. 64), map { jwk($weak, "w$_") } 1 .. 20)), 64, '64 keys and others');
is(load(jwk_set(map { jwk($key, "k$_") } 1 .. 64)), 64, '64 keys');
is($node->safe_psql('postgres', "SELECT count(*) FROM overten_auth.audit_log WHERE action = 'load_signing_keys' AND detail = '64'"),
	1, 'audited');

$loader->quit;
$node->stop;
done_testing();
