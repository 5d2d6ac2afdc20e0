# Firebase ID tokens where the server is not like others: many of them in one
# session, databases of other encodings, and libraries that are missing, are
# something else, or were loaded by somebody else.  pg_regress has one database and
# cannot restart, and the keys are made for each run.

use strict;
use warnings;

use FindBin;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

use lib $FindBin::RealBin;
use FirebaseTokens;
use OvertenTest;

my $node = create_node('surroundings', "overten_auth.firebase_project_id = '${\PROJECT}'");
my ($key, $next) = (new_rsa(), new_rsa());
my $token = token($key, header(), claims());
my $next_token = token($next, header(kid => 'key-2'), claims());
my $load = "SELECT overten_load_signing_keys(\$d\$%s\$d\$)";
my $only_next = sprintf $load, jwk_set(jwk($next, 'key-2'));
ask($node, OUTCOME_FUNCTION . $only_next);

# A hundred thousand tokens in one session: memory does not grow.
my $memory = $node->background_psql('postgres');
$memory->set_query_timer_restart;
my $load_many = <<SQL;
SELECT count(*) FILTER (WHERE outcome(CASE i % 4 WHEN 0 THEN '$next_token' WHEN 1 THEN '$next_token' || i
	WHEN 2 THEN repeat('A', i % 5000) || '.e30.AA' ELSE '$token' END) = 'ok') FROM generate_series(1, %d) i
SQL
my $rss = sub {
	my $pid = ask($memory, 'SELECT pg_backend_pid()');
	return slurp_file("/proc/$pid/status") =~ /VmRSS:\s+(\d+)/ ? $1 : die;
};
ask($memory, 'SET client_min_messages = error');
for my $entries (0, 4096)
{
	ask($memory, "SET overten_auth.cache_entries = $entries");
	ask($memory, sprintf $load_many, 5_000);
	my $kilobytes = $rss->();
	is(ask($memory, sprintf $load_many, 50_000), 12_500, "50000 tokens, $entries entries");
	my $grown = $rss->() - $kilobytes;
	cmp_ok($grown, '<', 1024, "memory grew by $grown kB");
}
is(ask($memory, q{SELECT json_object('{a,1}')}), '{"a" : "1"}', 'the server\'s json_object still works');
$memory->quit;

# Other encodings.
for my $encoding (qw(LATIN1 EUC_JP SQL_ASCII))
{
	my $db = lc $encoding;
	$node->safe_psql('postgres', "CREATE DATABASE $db ENCODING '$encoding' LC_COLLATE 'C' LC_CTYPE 'C' TEMPLATE template0");
	$node->safe_psql($db, 'CREATE EXTENSION overten_auth CASCADE');
	$node->safe_psql($db, OUTCOME_FUNCTION);
	is($node->safe_psql($db, sprintf $load, jwk_set(jwk($key, 'key-1'))), 1, "$encoding: keys");
	my %names = ("J\x{e4}ne" => 'LATIN1 EUC_JP SQL_ASCII', "\x{65e5}\x{672c}" => 'EUC_JP SQL_ASCII',
		"\x{1f600}" => 'SQL_ASCII', 'Jane' => 'LATIN1 EUC_JP SQL_ASCII');
	for my $name (sort keys %names)
	{
		my $expected = $names{$name} =~ /$encoding/ ? 'ok' : '28000';
		my $escaped = json($name) =~ s/^"|"$//gr;
		utf8::decode($escaped);
		$escaped = join '', map { ord > 0xffff ? sprintf('\u%04x\u%04x', 0xd800 + ((ord() - 0x10000) >> 10), 0xdc00 + (ord() & 0x3ff)) : sprintf('\u%04x', ord) } split //, $escaped;
		$expected = '28000|ok' if $name eq "J\x{e4}ne" && $encoding eq 'EUC_JP';
		for my $claims (claims(sub => $name), claims(name => $name), claims("x$name" => 1),
			claims(x => [ { y => $name } ]), claims_json("\"sub\":\"$escaped\"", { sub => undef }),
			claims_json("\"x\":\"$escaped\""))
		{
			my $t = token($key, header(), $claims);
			like($node->safe_psql($db, "SELECT outcome('$t')"), qr/^($expected)$/,
				"$encoding: " . join ' ', map { sprintf 'U+%04X', ord } split //, $name);
		}
	}
	my $t = token($key, header(), claims(sub => "J\x{e4}ne"));
	is($node->safe_psql($db, "SET client_encoding = 'UTF8'; SELECT uid, claims ->> 'sub' FROM overten_verify_firebase_jwt('$t')"),
		"J\xc3\xa4ne|J\xc3\xa4ne", "$encoding: no mojibake") if $encoding eq 'LATIN1';
}

# libjansson that somebody else has loaded.  LOAD wants a file of PostgreSQL's
# making, shared_preload_libraries too, so the server gets it from the loader.
unlike(slurp_file($node->logfile), qr/PANIC|terminated by signal/, 'the server has stood');
my ($jansson) = `ldconfig -p` =~ m{=> (\S*libjansson\.so\.4)\s};
$jansson //= (glob '/usr/lib/*/libjansson.so.4')[0];
ok($jansson, 'libjansson is here');
$node->stop;
{
	local $ENV{LD_PRELOAD} = $jansson;
	$node->start;
}
$node->safe_psql('postgres', $only_next);
my ($status, undef, $err) = $node->psql('postgres', "\\set VERBOSITY verbose\nSELECT overten_verify_firebase_jwt('$token')");
like($err, qr/55000: libjansson was loaded before libjwt/, 'libjansson was loaded by somebody else');
is($node->safe_psql('postgres', q{SELECT 1}), 1, 'and the server stands');
$node->stop;

# libjwt that is missing, or is something else.
my $fake = PostgreSQL::Test::Utils::tempdir();
symlink '/usr/lib/none/libjwt.so', "$fake/$_" or die $! for 'libjwt.so.0', 'libjwt.so.2';
for my $try ([ 'not a library', 'x', qr/58P01: could not load libjwt/ ],
	[ 'another library', undef, qr/55000: libjwt has no function "jwt_decode"/ ])
{
	my ($name, $content, $expected) = @$try;
	for my $soname ('libjwt.so.0', 'libjwt.so.2')
	{
		unlink "$fake/$soname";
		if (defined $content)
		{
			open my $file, '>', "$fake/$soname" or die $!;
			print $file $content;
			close $file;
		}
		else
		{
			symlink $jansson =~ s/libjansson\.so\.4/libz.so.1/r, "$fake/$soname" or die $!;
		}
	}
	{
		local $ENV{LD_LIBRARY_PATH} = $fake;
		$node->start;
	}
	(undef, undef, $err) = $node->psql('postgres', "\\set VERBOSITY verbose\nSELECT overten_verify_firebase_jwt('$token')");
	like($err, $expected, "libjwt is $name");
	is($node->safe_psql('postgres', q{SELECT json_object('{a,1}')}), '{"a" : "1"}', 'and the server stands');
	$node->stop;
}

done_testing();
