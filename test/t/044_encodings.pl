
# Keys and names work in databases of other encodings than UTF-8, and bytes of
# no encoding raise nothing in a secret.  pg_regress has one database, in one
# encoding.

use strict;
use warnings FATAL => 'all';

use FindBin;
use lib $FindBin::RealBin;
use OvertenTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = create_node('encodings', '');

# For each encoding, as an escape string has it: a letter, a control character
# if there are any beyond ASCII's, and names that are accepted.
my %encodings = (
	UTF8 => {
		letter => '\xc3\xa9',
		control => '\xc2\x85',
		names => [ '\xf0\x9f\x94\x91', '\xe3\x81\x82', '\xc2\xa0' ],
	},
	LATIN1 => {
		letter => '\xe9',
		control => '\x85',
		names => [ '\xa0', '\xff', 'caf\xe9' ],
	},
	EUC_JP => {
		letter => '\xa4\xa2',
		names => [ '\x8e\xb1\x8e\xdf', '\x8f\xb0\xa1', '\xb0\xa1x' ],
	},
	SQL_ASCII => {
		letter => 'e',
		control => '\xc2\x85',
		names => ['caf\xc3\xa9'],
	});

foreach my $encoding (sort keys %encodings)
{
	my ($letter, $control, $names) =
	  @{ $encodings{$encoding} }{ 'letter', 'control', 'names' };
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
	foreach my $refused ('\x01', '\x7f', $control // ())
	{
		is( sqlstate_of(
				$where, "SELECT overten_mint_key('$org', E'a${refused}b')"),
			'22023',
			"$encoding: and so is one with $refused");
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
my ($secret) = mint($ascii, $org);
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
}

$node->stop;
done_testing();
