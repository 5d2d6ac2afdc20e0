# The form of a token: segments, base64, sizes, and the JSON of the payload and
# the header.

package TokenCases::Forms;

use strict;
use warnings;

use FirebaseTokens;
use TokenCases;

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

1;
