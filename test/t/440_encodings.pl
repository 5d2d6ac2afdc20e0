
# Keys and names work in databases of other encodings than UTF-8, bytes of no
# encoding raise nothing in a secret, and nothing that a client sends over HTTP
# raises an error.  pg_regress has one database, in one encoding.

use strict;
use warnings FATAL => 'all';

use FindBin;
use lib $FindBin::RealBin;
use FirebaseTokens;
use GatewayTest qw(request start_gateway stop_process summary);
use OvertenTest;
use Encode ();
use List::Util qw(uniq);
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = create_node('encodings', <<"EOC");
overten_auth.firebase_project_id = '${\PROJECT}'
overten_auth.key_features = 'details, environments, rotation'
overten_auth.max_orgs_per_uid = 1000000
overten_auth.max_keys_per_org = 1000000
overten_auth.max_keys_total_per_org = 1000000
EOC

# For each encoding, as an escape string has it: a letter, a control character
# and a bidirectional control if there are any beyond ASCII's, blanks, and names
# that are accepted.
my %encodings = (
	UTF8 => {
		letter => '\xc3\xa9',
		control => '\xc2\x85',
		format => '\xe2\x80\xae',
		blank => '\xc2\xa0',
		names => [ '\xf0\x9f\x94\x91', '\xe3\x81\x82', 'a\xc2\xa0b' ],
	},
	LATIN1 => {
		letter => '\xe9',
		control => '\x85',
		blank => '\xa0\xad',
		names => [ 'a\xa0b', '\xff', 'caf\xe9' ],
	},
	WIN1252 => {
		letter => '\xe9',
		blank => '\xa0',
		names => [ '\x80', '\x99', 'a\xadb' ],
	},
	WIN1256 => {
		letter => '\xc7',
		format => '\xfd',
		blank => '\xa0\x9d',
		names => [ '\xc7\x9d\xc8', '\x8d\xc1' ],
	},
	EUC_JP => {
		letter => '\xa4\xa2',
		blank => '\xa1\xa1',
		names => [ '\x8e\xb1\x8e\xdf', '\x8f\xb0\xa1', '\xb0\xa1x' ],
	},
	SQL_ASCII => {
		letter => 'e',
		control => '\xc2\x85',
		format => '\xe2\x80\xae',
		blank => '\xe2\x80\x8b',
		names => ['caf\xc3\xa9'],
	});

foreach my $encoding (sort keys %encodings)
{
	my ($letter, $control, $format, $blank, $names) =
	  @{ $encodings{$encoding} }{ 'letter', 'control', 'format', 'blank', 'names' };
	my $where = [ $node, lc $encoding ];

	ask($node,
		"CREATE DATABASE $where->[1] TEMPLATE template0
		 ENCODING '$encoding' LC_COLLATE 'C' LC_CTYPE 'C'");
	ask($where, 'CREATE EXTENSION overten_auth CASCADE');

	my $org =
	  ask($where, "SELECT org_id FROM overten_create_org(E'$letter')");
	my ($secret, $key) = mint($where, $org);
	is(verify($where, $secret), $key, "$encoding: a key is accepted");
	is( ask(
			$where,
			"SELECT key_id FROM overten_verify_key_digest(sha256('$secret'))"),
		$key,
		"$encoding: and by its digest");

	# Names
	foreach my $name (@$names)
	{
		is( ask(
				$where,
				"SELECT name = E'$name' FROM overten_mint_key('$org', E' $name ')"
			),
			't',
			"$encoding: a key may be named $name");
	}
	is( ask(
			$where,
			"SELECT char_length(name) FROM overten_mint_key('$org', repeat(E'$letter', 64))"
		),
		64,
		"$encoding: a name of 64 characters is accepted");
	is( sqlstate_of(
			$where, "SELECT overten_mint_key('$org', repeat(E'$letter', 65))"
		),
		'22023',
		"$encoding: one of 65 is refused");
	foreach my $refused ((map { "a${_}b" } '\x01', '\x7f', $control // (), $format // ()), $blank)
	{
		is( sqlstate_of(
				$where, "SELECT overten_mint_key('$org', E'$refused')"),
			'22023',
			"$encoding: and so is $refused");
		is( sqlstate_of(
				$where, "SELECT overten_add_member('$org', E'$refused')"),
			'22023',
			"$encoding: as a uid, too");
	}

	# What looks like a secret
	my $start = substr $secret, 0, -1;
	foreach my $character (grep { /^\\x/ } $letter, @$names)
	{
		is( ask(
				$where,
				"SELECT count(*) FROM overten_verify_key(E'$start$character')"
			),
			0,
			"$encoding: a secret that ends in $character is refused");
	}
	# As many bytes as a secret has
	is( ask(
			$where,
			"SELECT count(*)
			 FROM overten_verify_key('sk_live_' || repeat(E'$letter', 28 / octet_length(E'$letter')))"
		),
		0,
		"$encoding: and so is one of such characters");
}

# SQL_ASCII lets any byte in.
my $ascii = [ $node, 'sql_ascii' ];
my $org = create_org($ascii, 'Bytes');
my ($secret, $key) = mint($ascii, $org);
foreach my $bytes ('\xff', '\xc3', '\x80', '\xed\xa0\x80')
{
	my $length = ($bytes =~ tr/x//);

	is( sqlstate_of(
			$ascii,
			"SELECT overten_verify_key(overlay('$secret' placing E'$bytes' from 20 for $length))"
		),
		'',
		"SQL_ASCII: $bytes in a secret raises nothing");
	is( ask(
			$ascii,
			"SELECT count(*)
			 FROM overten_verify_key(overlay('$secret' placing E'$bytes' from 20 for $length))"
		),
		0,
		"SQL_ASCII: and $bytes is refused");
	is( sqlstate_of($ascii, "SELECT overten_mint_key('$org', E'a$bytes')"),
		'22021', "SQL_ASCII: a name with $bytes, which is no UTF-8, is not one");
	is( sqlstate_of($ascii, qq{SELECT overten_set_key_details('$org', '$key', NULL, E'{"a": "$bytes"}'::jsonb)}),
		'22023', "SQL_ASCII: nor does it belong in metadata");
}
ask($ascii, q{INSERT INTO overten_auth.signing_keys (kid, public_key) VALUES (E'k\xff', '\x00')});
is(sqlstate_of($ascii, "SELECT overten_load_signing_keys('" . json({ 'key-1' => certificate(my $rsa = new_rsa()) }) . "')"), '', 'SQL_ASCII: keys are loaded beside one whose id is no UTF-8');
ask($ascii, q{INSERT INTO overten_auth.signing_keys (kid, public_key) VALUES (E'k\xff', '\x00')});
is(ask($ascii, "SELECT uid FROM overten_verify_firebase_jwt('" . token($rsa, header(kid => 'key-1'), claims(sub => 'ada')) . "')"), 'ada', 'SQL_ASCII: and verify tokens');
is( sqlstate_of([ $node, 'win1252' ], "SET client_encoding = 'WIN1252'; SELECT overten_mint_key('" . create_org([ $node, 'win1252' ], 'x') . "', E'a\x81')"),
	'22021', 'WIN1252: nor is a name with a byte that is no character of Unicode');

# A tier, which an operator inserts, goes into a header, which is UTF-8.
my $win1252 = [ $node, 'win1252' ];
my $set_encoding = "SET client_encoding = 'WIN1252'";
my $tier = "INSERT INTO overten_auth.tiers VALUES (E'\\x81')";
my $paying = create_org($win1252, 'Paying');
my ($paying_secret) = mint($win1252, $paying);
ask($win1252, "$set_encoding; $tier; SELECT overten_set_tier('$paying', E'\\x81')");
is(sqlstate_of($win1252, "$set_encoding; SELECT overten_authorize_request('', json_build_object('authorization', 'Bearer $paying_secret'))"),
	'22P05', 'WIN1252: a tier with such a byte is an error');
ask($win1252, "$set_encoding; SELECT overten_set_tier('$paying', 'free'); DELETE FROM overten_auth.tiers WHERE name <> 'free'");


# What a client sends is answered, whatever the database's encoding: with 4xx
# where it cannot be stored, with success where it is not looked at.  Errors
# would be in the log.

my ($signing_key, $log_begin) = (new_rsa(), -s $node->logfile);
my $document = jwk_set(jwk($signing_key, 'key-1'));
my $token = token($signing_key, header(), claims(sub => 'ada'));
my $functions = <<'EOQ';
CREATE FUNCTION headers() RETURNS json LANGUAGE sql AS
	$$SELECT json_build_object('authorization', 'Bearer ' || current_setting('test.token'), 'content-type', 'application/json')$$;
-- The answer's status, message, and the name of an org in hexadecimal digits.
CREATE FUNCTION post(body bytea) RETURNS text LANGUAGE sql AS $$
	SELECT concat_ws(' ', status, body::json #>> '{error,message}',
		encode(convert_to(body::json ->> 'org_name', CASE WHEN getdatabaseencoding() = 'SQL_ASCII' THEN 'SQL_ASCII' ELSE 'UTF8' END), 'hex'))
	FROM overten_handle_request('POST', '/api/v1/signup', headers(), $1)
$$;
EOQ
my $lacks = q{400 org_name must have only characters that Unicode and the database's encoding have in common.};
my %lacking = (
	SQL_ASCII => '', UTF8 => '', LATIN1 => "\x{65e5}\x{1f511}",
	WIN1252 => "\x{65e5}\x{1f511}", WIN1256 => "\x{65e5}\x{1f511}", EUC_JP => "\x{1f511}");
sub utf8_of { my ($text) = @_; utf8::encode($text); return $text; }
foreach my $encoding (sort keys %encodings)
{
	my $where = [ $node, lc $encoding ];
	my (@bodies, @expected);

	ask($where, "SELECT overten_load_signing_keys('$document'); $functions");
	foreach my $character ("\x{e9}", "\x{65e5}", "\x{1f511}")
	{
		my $stored = $lacking{$encoding} =~ /$character/ ? $lacks : '201 61' . unpack 'H*', utf8_of($character);
		my $escaped = join '', map { sprintf '\u%04x', $_ } unpack 'n*', Encode::encode('UTF-16BE', $character);

		foreach my $text (utf8_of($character), $escaped)
		{
			push @bodies, qq({"org_name":"a$text"}), qq({"org_name":"a","$text":"$text","x":["$text"]}),
			  qq({"existing_org_id":"$text"}), qq({"org_name":"a","tier":"$text"});
			push @expected, $stored, '201 61', '404 There is no such organization.', '400 tier must be one that customers may choose.';
		}
	}
	is_deeply(
		[ split /\n/, ask($where, "SET test.token = '$token';\n" . join '', map { "SELECT post('\\x" . unpack('H*', $_) . "');\n" } @bodies) ],
		\@expected,
		"$encoding: what it lacks is refused where it would be stored");
}

# A uid that no SQL function takes could not be removed as a member.
is( ask([ $node, 'utf8' ], join ';', map {
			"SELECT status FROM overten_handle_request('POST', '/api/v1/signup',
				json_build_object('authorization', 'Bearer ' || '" . token($signing_key, header(), claims(sub => $_)) . "', 'content-type', 'application/json'), '{\"org_name\":\"a\"}')"
		} 'ada ', "a\nb", "\x{202e}ada", "\x{e9}da"),
	"401\n401\n401\n201", 'a token with such a uid is refused over HTTP');

# At random, of the characters, bytes and escape sequences that it goes by.
my $seed = int(rand 1_000_000_000);
srand $seed;
note("seed $seed");
my @pieces = (
	(map { utf8_of(chr) } 0x81, 0x85, 0xa0, 0xad, 0xe9, 0xff, 0x152, 0x3a9, 0x628, 0x200b, 0x2028, 0x202e, 0x20ac, 0x3042,
		0x65e5, 0xfdd0, 0xfeff, 0xff71, 0xfffd, 0x1f3f4, 0x1f511, 0xe0067, 0x10ffff),
	"\xff", "\xc3", "\xed\xa0\x80", "\xf4\x90\x80\x80", "\x80", "\0",
	'\u00e9', '\ud83d\udd11', '\ud800', '\u0000', '\u65e5', '\u202e', '\ufffe', '\uDBFF\uDFFF',
	qw(a " \\ % %ff %e9 & = { } [ : 1), ',', ' ', "\n", "\t");
sub one_of { return $_[ rand @_ ] }
sub text { return join '', map { one_of(@pieces) } 1 .. 1 + rand 6 }
sub string { return '"' . text() =~ s/["\n]//gr . '"' }
sub member
{
	return one_of(map({ "\"$_\"" } qw(org_name key_name name tier existing_org_id org_id key_id description metadata metadata environment overlap_seconds)), string()) . ':'
	  . one_of(string(), string(), '"free"', '[' . string() . ']', '1', 'null', '"test"', '{' . string() . ':[' . string() . ',1e300]}', text());
}
sub body { return rand() < 0.1 ? text() : '{' . join(',', map { member() } 1 .. 1 + rand 3) . '}' }

my $file = PostgreSQL::Test::Utils::tempdir() . '/requests';
append_to_file($file, join '', map {
		join("\t", map { '\\\\x' . unpack 'H*', $_ } body(), string(), text()) . "\n" } 1 .. 300);
foreach my $encoding (sort keys %encodings)
{
	my $where = [ $node, lc $encoding ];

	is( $node->safe_psql(lc $encoding, "\\i $FindBin::RealBin/requests_at_random.sql",
			extra_params => [ '-v', "file=$file", '-v', "token=$token" ]),
		'23 of 23', "$encoding: no error and no 5xx at random");
	is( ask($where, "SELECT count(*) FROM (SELECT name FROM overten_auth.orgs UNION ALL SELECT name FROM overten_auth.api_keys
			UNION ALL SELECT description FROM overten_auth.key_details UNION ALL SELECT metadata::text FROM overten_auth.key_details) n
			WHERE convert_from(convert_to(name, 'UTF8'), 'UTF8') IS DISTINCT FROM name"),
		0, "$encoding: what was stored can be sent to clients");
}

# The gateway's road, which is that of clients.
my $ada = "Authorization: Bearer $token";
my $json_type = 'Content-Type: application/json';
ask($node, slurp_file("$FindBin::RealBin/../../gateway/roles.sql"));
foreach my $encoding ('LATIN1', 'EUC_JP')
{
	ask([ $node, lc $encoding ], 'GRANT EXECUTE ON FUNCTION overten_handle_request(text, text, json, bytea) TO overten_gateway');
	my $gateway = start_gateway($node, "gateway_$encoding", PGDATABASE => lc $encoding);
	my $signup = sub { return request($gateway->{url}, 'POST', '/api/v1/signup', [ $ada, $json_type, @{ $_[1] // [] } ], $_[0]) };

	is(summary($signup->(utf8_of("{\"org_name\":\"\x{1f511}\"}"))), '400 invalid_parameter org_name', "$encoding: a name over HTTP");
	is(summary($signup->(utf8_of("{\"org_name\":\"\x{e9}\",\"\x{1f511}\":\"\x{1f511}\"}"))), '201', "$encoding: what is ignored over HTTP");
	is(join(' ', uniq(map { my $at = $_; map { summary($signup->('{"org_name":"' . 'n' x $at . $_ . 'm' x (16 - $at) . '"}')) } "\x80", "\xff" } 0 .. 16)),
		'400 invalid_json', "$encoding: no UTF-8 over HTTP, anywhere in a name");
	is(summary($signup->('{}', [utf8_of("X-Forwarded-For: \x{1f511}")])), '400 invalid_request', "$encoding: a header over HTTP");
	my ($org) = $signup->('{"org_name":"a"}')->{body} =~ /"org_id":"(\w+)"/;
	my $details = sub { return request($gateway->{url}, 'POST', "/api/v1/organizations/$org/api-keys", [ $ada, $json_type ], utf8_of($_[0])) };
	like($details->("{\"description\":\"\x{e9}\",\"metadata\":{\"\\u00e9\":[\"\x{e9}\"]}}")->{body}, qr/"description":"\xc3\xa9","metadata":\{"\xc3\xa9": \["\xc3\xa9"\]\}\}$/, "$encoding: details over HTTP");
	is(summary($details->("{\"metadata\":{\"\x{1f511}\":1}}")), '400 invalid_parameter metadata', "$encoding: metadata with a name that it lacks");
	is(summary($details->('{"metadata":{"a":[{"b":"\ud83d\udd11"}]}}')), '400 invalid_parameter metadata', "$encoding: and with a string");
	is(summary($details->("{\"description\":\"\x{1f511}\"}")), '400 invalid_parameter description', "$encoding: a description");
	is(summary($details->('{"environment":"\ud83d\udd11"}')), '400 invalid_parameter environment', "$encoding: an environment");
	is(summary(request($gateway->{url}, 'GET', '/api/v1/verify', [utf8_of("Authorization: Bearer \x{1f511}\x{e9}")])),
		'401 invalid_api_key', "$encoding: a credential over HTTP");
	stop_process($gateway);
}
unlike(slurp_file($node->logfile, $log_begin), qr/ERROR|FATAL|PANIC/, 'no error is in the log');

$node->stop;
done_testing();
