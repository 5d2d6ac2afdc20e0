
# What the background workers and the counters in shared memory do, each once:
# for a server under valgrind, where the tests of all cases take too long.  The
# run is what fails on a report; here is seen that the work has been done.

use strict;
use warnings FATAL => 'all';

use FindBin;
use lib "$FindBin::RealBin/../t";
use FirebaseTokens;
use OvertenTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $dir = PostgreSQL::Test::Utils::tempdir;

sub write_file
{
	my ($name, $content) = @_;

	unlink "$dir/$name";
	append_to_file("$dir/$name", $content);
	return;
}

# Call a function that waits for a worker, in a database, until a query finds
# what is expected: on a slow machine one call may not wait long enough.
sub reaches
{
	my ($node, $database, $function, $query, $expected, $name) = @_;
	my $deadline = time + $PostgreSQL::Test::Utils::timeout_default;
	my $found;

	do
	{
		$node->psql($database, "SELECT $function()");
		$found = ask([ $node, $database ], $query);
	} until $found =~ $expected || time > $deadline;
	like($found, $expected, $name);
	return;
}

# A query for the uses of keys, "accepted|refused", one after the other.
sub uses_of
{
	my $keys = join ',', @_;

	return "SELECT string_agg((SELECT coalesce(sum(accepted), 0) || '|' || coalesce(sum(refused), 0)
			FROM overten_auth.key_usage u WHERE u.key_id = k.key_id), ', ' ORDER BY n)
		FROM unnest('{$keys}'::text[]) WITH ORDINALITY k (key_id, n)";
}

# The command is a file, so that another needs no reload.
write_file('command', 'exit 3');
my $node = create_node('workers', <<"EOC");
shared_preload_libraries = 'overten_auth'
overten_auth.databases = 'postgres, passing'
overten_auth.flush_interval = 1h
overten_auth.max_tracked_keys = 40
overten_auth.firebase_project_id = '${\PROJECT}'
overten_auth.signing_keys_command = '. "$dir/command"'
EOC
my $owner = $node->background_psql('postgres');
my $org = create_org($owner, 'Watched');


# Uses

my ($secret, $key) = mint($owner, $org);
my ($other, $other_key) = mint($owner, $org);
verify($owner, $secret) foreach 1 .. 3;
ask($owner, "SELECT overten_revoke_key('$org', '$other_key')");
verify($owner, $other) foreach 1 .. 2;
verify($owner, 'sk_live_');
ask($owner, <<"EOQ");
SELECT (overten_handle_request('GET', '/api/v1/verify', json_build_object(
	'authorization', 'Bearer $secret', 'x-overten-client-addr', address), NULL)).status
FROM (SELECT '10.0.0.' || i FROM generate_series(1, 10) i
	UNION ALL VALUES ('2001:db8::1'), ('[2001:db8:1::1]:80'), ('unknown'), ('')) a (address)
EOQ
reaches($node, 'postgres', 'overten_flush_usage', uses_of($key, $other_key), qr/^17\|0, 0\|2$/, 'uses are flushed');
ask($owner, <<"EOQ");
SELECT count(*)
FROM (SELECT secret FROM generate_series(1, 45) i, overten_mint_key('$org', 'key ' || i)) m, overten_verify_key(secret)
EOQ
cmp_ok(ask($owner, 'SELECT not_attributed FROM overten_stat'), '>', 0, 'the memory gets full');
ask($owner, <<'EOQ');
INSERT INTO overten_auth.key_usage
SELECT 'old', date_trunc('hour', now()) - interval '30 days', '10.0.0.0'::inet + n, 1, 0, now(), now()
FROM generate_series(1, 20) n
EOQ
ask($owner, "ALTER SYSTEM SET overten_auth.usage_retention = '1d'");
ask($owner, 'SELECT pg_reload_conf()');
reaches($node, 'postgres', 'overten_flush_usage', 'SELECT entries_used FROM overten_stat', qr/^0$/, 'and is emptied');
$node->poll_query_until('postgres', q{SELECT NOT EXISTS (SELECT FROM overten_auth.key_usage WHERE key_id = 'old')})
  or die 'old history was not removed';
pass('old history is removed');

# A job that fails
ask($owner, 'ALTER TABLE overten_auth.key_last_used ADD CHECK (last_used_at IS NULL) NOT VALID');
verify($owner, $secret);
reaches($node, 'postgres', 'overten_flush_usage', 'SELECT flush_failure FROM overten_status()', qr/check constraint/, 'a flush that fails is told of');
ask($owner, 'ALTER TABLE overten_auth.key_last_used DROP CONSTRAINT key_last_used_last_used_at_check');
reaches($node, 'postgres', 'overten_flush_usage', uses_of($key), qr/^18\|0$/, 'and made up for');


# Signing keys

my $good = jwk_set(map { jwk(new_rsa(), "key-$_") } 1 .. 3);
write_file('keys', $good);
write_file('certificates', json({ 'key-4' => certificate(new_rsa()) }));
my $head = q{printf 'HTTP/1.1 %s\r\nCache-Control: max-age=20000, public\r\nAge: 5\r\n\r\n'};
foreach my $case (
	[ '3 keys'          => "$head '200 OK'; cat $dir/keys",         qr/3 keys\./ ],
	[ 'nothing new'     => "$head '304 Not Modified'",              qr/3 keys, unchanged\./ ],
	[ 'a certificate'   => "$head '200 OK'; cat $dir/certificates", qr/1 key\./ ],
	[ 'half a document' => "$head '200 OK'; head -c 500 $dir/keys", qr/no end/ ],
	[ 'another status'  => "$head '404 Not Found'",                 qr/HTTP status 404/ ],
	[ 'no header'       => "cat $dir/keys",                         qr/does not begin with/ ],
	[ 'too much'        => "$head '200 OK'; yes",                   qr/printed too much/ ],
	[ 'long header'     => "{ echo 'HTTP/1.1 200 OK'; yes 'X: y'; } | head -c 20000", qr/16 kB/ ],
	[ 'a long complaint' => q{yes "$(printf 'a\033\303\251')" | head -c 100000 >&2; exit 7}, qr/exited with 7/ ],
	[ 'a signal'        => 'kill -KILL $$',                         qr/signal 9/ ])
{
	my ($name, $command, $outcome) = @$case;

	write_file('command', "$command\n");
	reaches($node, 'postgres', 'overten_refresh_signing_keys', 'SELECT fetch_outcome FROM overten_status()', $outcome, "fetched: $name");
}
is(ask($owner, 'SELECT signing_keys FROM overten_status()'), 1, 'the last good set stays');


# A database that comes and goes, and an extension; the last uses
ask($owner, 'CREATE DATABASE passing');
my $passing = [ $node, 'passing' ];
ask($passing, 'CREATE EXTENSION overten_auth CASCADE');
my ($passing_secret, $passing_key) = mint($passing, create_org($passing, 'Passing'));
reaches($node, 'passing', 'overten_flush_usage', 'SELECT flushed_at IS NOT NULL FROM overten_status()', qr/^t$/, 'a database that has come is flushed');
verify($passing, $passing_secret);
reaches($node, 'passing', 'overten_flush_usage', uses_of($passing_key), qr/^1\|0$/, 'with its uses');
ask($passing, 'DROP EXTENSION overten_auth');
ask($owner, 'DROP DATABASE passing');
verify($owner, $secret);
$owner->quit;
$node->restart;
is(ask($node, uses_of($key)), '19|0', 'a server that stops flushes');
$node->stop;

done_testing();
