
# Verifying takes no memory that it does not give back, however often and
# whatever text it is given, and its caches keep to their bound.  pg_regress
# has no view of a backend's memory and would show its numbers.

use strict;
use warnings FATAL => 'all';

use FindBin;
use lib $FindBin::RealBin;
use OvertenTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $kB = 1024;
my $MB = 1024 * $kB;

my $node = create_node('memory', '');
my $org = create_org($node, 'Thrifty');
my ($secret, $key) = mint($node, $org);
ask($node, <<'EOQ');
CREATE FUNCTION verify_often(secret text, times int) RETURNS void
LANGUAGE plpgsql AS $$
BEGIN
	FOR i IN 1 .. times LOOP
		PERFORM overten_verify_key(secret);
	END LOOP;
END
$$;
CREATE FUNCTION authenticate_often(secret text, times int) RETURNS void
LANGUAGE plpgsql AS $$
BEGIN
	FOR i IN 1 .. times LOOP
		PERFORM overten_authenticate(secret);
		BEGIN
			PERFORM overten_authenticate(secret), overten_authenticate(NULL),
				overten_authenticate(secret);
			IF i % 2 = 0 THEN
				RAISE division_by_zero;
			END IF;
		EXCEPTION WHEN division_by_zero THEN
			NULL;
		END;
	END LOOP;
END
$$;
EOQ

# What the operating system says of a session's process, in bytes.
sub process_memory
{
	my ($session, $what) = @_;
	my $pid = ask($session, 'SELECT pg_backend_pid()');

	slurp_file("/proc/$pid/status") =~ /^$what:\s+(\d+) kB$/m
	  or die "no $what of process $pid";
	return $1 * $kB;
}

# What the session itself has allocated, in bytes.
sub allocated
{
	my $session = shift;

	return ask($session,
		'SELECT sum(total_bytes) FROM pg_backend_memory_contexts');
}

# Repeat a statement, once to warm up and then in earnest.
sub check_constant
{
	my ($name, $session, $few, $many) = @_;

	# Twice, so that measuring has had what it needs.
	foreach (1, 2)
	{
		ask($session, $few);
		allocated($session);
	}
	my $allocated = allocated($session);
	my $resident = process_memory($session, 'RssAnon');

	ask($session, $many);
	# Room for a block or two that a catalog cache takes meanwhile.
	cmp_ok(allocated($session) - $allocated,
		'<=', 64 * $kB, "$name: what is allocated stays");
	cmp_ok(process_memory($session, 'RssAnon') - $resident,
		'<=', 1 * $MB, "$name: so does the process");
	return;
}

# Often

my $session = $node->background_psql('postgres');
foreach my $case (
	[ 'cached', $secret, 700_000, '' ],
	[
		'not cached', $secret, 100_000,
		'SET overten_auth.record_use_without_preload = off;
		 SET overten_auth.cache_entries = 0'
	],
	[
		'recorded each time',
		$secret, 30_000, 'RESET overten_auth.record_use_without_preload'
	],
	[ 'unknown', 'sk_live_' . 'a' x 28, 100_000, 'RESET ALL' ],
	[ 'malformed', 'sk_live_' . '-' x 28, 100_000, '' ],
	[ 'too short', 'sk_live_', 100_000, '' ])
{
	my ($name, $text, $times, $settings) = @$case;

	ask($session, $settings);
	check_constant(
		"$times times, $name", $session,
		"SELECT verify_often('$text', 1000)",
		"SELECT verify_often('$text', $times)");
}
is(verify($session, $secret), $key, 'the key is accepted after all that');

# One statement, whose memory is given back only at its end
check_constant(
	'in one query', $session,
	"SELECT count(*) FROM (SELECT overten_verify_key('$secret') FROM generate_series(1, 1000)) v",
	"SELECT count(*) FROM (SELECT overten_verify_key('$secret') FROM generate_series(1, 200000)) v"
);

check_constant(
	'revoked and cached in turns',
	$session,
	"DO \$\$ BEGIN FOR i IN 1 .. 100 LOOP
		UPDATE overten_auth.orgs SET name = i::text;
		COMMIT;
		PERFORM overten_verify_key('$secret'); END LOOP; END \$\$",
	"DO \$\$ BEGIN FOR i IN 1 .. 5000 LOOP
		UPDATE overten_auth.orgs SET name = i::text;
		COMMIT;
		PERFORM overten_verify_key('$secret'); END LOOP; END \$\$");

# Identities, in a transaction and subtransactions that go on
ask($session, 'BEGIN');
check_constant(
	'authenticated within one transaction',
	$session,
	"SELECT authenticate_often('$secret', 1000)",
	"SELECT authenticate_often('$secret', 50000)");
is(ask($session, 'SELECT overten_current_key()'),
	$key, 'the identity is there after all that');
ask($session, 'COMMIT');
$session->quit;

# Huge

ask($node, q{CREATE TABLE huge AS
	SELECT repeat('x', 100000000) AS text,
		convert_to(repeat('x', 20000000), 'UTF8') AS bytes});
$session = $node->background_psql('postgres');
ask($session, 'SELECT overten_verify_key(left(text, 36)) FROM huge LIMIT 0');
my $peak = process_memory($session, 'VmHWM');
is( ask(
		$session, 'SELECT NOT EXISTS (SELECT FROM overten_verify_key(text)),
			NOT EXISTS (SELECT FROM overten_verify_key_digest(bytes)),
			overten_key_checksum_ok(text), NOT EXISTS (SELECT FROM overten_authenticate(text)),
			overten_revoke_leaked(text) IS NULL FROM huge'),
	't|t|f|t|t',
	'100 MB of stored text and 20 MB of bytes are refused');
cmp_ok(process_memory($session, 'VmHWM') - $peak,
	'<', 4 * $MB, 'without fetching them');
ask($session, 'SELECT length(text) FROM huge');
cmp_ok(process_memory($session, 'VmHWM') - $peak,
	'>', 90 * $MB, 'which would have been seen');
is( ask(
		$session, "SELECT count(*) FROM overten_verify_key(repeat('x', 100000000))"),
	0,
	'100 MB that were never stored are refused too');
$session->quit;

# The bound of the caches

my $keys = 10_000;
my $orgs = 5_000;
ask($node, <<"EOQ");
CREATE TABLE minted AS
	SELECT n, m.secret
	FROM generate_series(1, $orgs) n,
		overten_create_org('Org ' || n) o,
		generate_series(1, $keys / $orgs) k,
		overten_mint_key(o.org_id, 'Key ' || n + k) m;
EOQ

# Since PostgreSQL 18 a context names all those that it is within, by numbers.
my $memory_of_caches = $node->pg_version < 18
  ? "SELECT coalesce(sum(total_bytes), 0) FROM pg_backend_memory_contexts
	WHERE 'overten_auth cache' IN (name, parent)"
  : "WITH contexts AS MATERIALIZED (SELECT * FROM pg_backend_memory_contexts)
	SELECT coalesce(sum(c.total_bytes), 0) FROM contexts c
	WHERE EXISTS (SELECT FROM contexts cache
		WHERE cache.name = 'overten_auth cache'
		AND c.path[cache.level] = cache.path[cache.level])";

# The memory of a session's caches after it has verified the keys of some orgs.
sub cache_memory
{
	my ($session, $from, $to) = @_;

	is( ask(
			$session,
			"SELECT count(*)
			 FROM minted, overten_verify_key(secret) WHERE n BETWEEN $from AND $to"),
		($to - $from + 1) * $keys / $orgs,
		"the keys of orgs $from to $to are accepted");
	return ask($session, $memory_of_caches);
}

foreach my $case (
	[ 4096, 8 * $MB, 4_500 ],
	[ 100, 256 * $kB, 200 ],
	[ 0, 0, 200 ])
{
	my ($entries, $bound, $full) = @$case;
	my $session = $node->background_psql('postgres');

	ask($session,
		"SET overten_auth.cache_entries = $entries;
		 SET overten_auth.record_use_without_preload = off");
	my $when_full = cache_memory($session, 1, $full);
	cmp_ok($when_full, '<=', $bound,
		"$entries entries: the caches keep to $bound bytes");
	cmp_ok(cache_memory($session, $full + 1, $orgs),
		'<=', $when_full * 1.1, "$entries entries: more keys take no more");
	cmp_ok($when_full, '>=', $entries * 200,
		"$entries entries: there is a cache")
	  if $entries > 0;
	$session->quit;
}

$node->stop;
done_testing();
