
# What is erased is in no dump: neither the bytes of a person nor the secrets of an
# org; nor does it come back from shared memory.  The worker keeps the audit log for
# overten_auth.audit_retention.  pg_regress runs no pg_dump and no worker.

use strict;
use warnings FATAL => 'all';

use FindBin;
use lib $FindBin::RealBin;
use OvertenTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = create_node('erasing', <<'EOC');
shared_preload_libraries = 'overten_auth'
overten_auth.databases = 'postgres'
overten_auth.flush_interval = 1h
EOC
my $person = 'uid-of-the-person';
my $address = '203.0.113.77';
my ($org, $key, $secret, $webhook_secret) = split /\|/,
  ask($node, "SELECT org_id, key_id, secret, webhook_secret FROM overten_signup('$person', 'Name of the org', key_name => 'Name of the key')");

sub dump_of
{
	my ($name) = @_;
	my $file = PostgreSQL::Test::Utils::tempdir . "/$name.sql";

	$node->command_ok([ 'pg_dump', '-f', $file, 'postgres' ], "$name is dumped");
	return slurp_file($file);
}

# Is a text in a dump, also as bytes?
sub is_in
{
	my ($dump, $text) = @_;

	return index($dump, $text) >= 0 || index($dump, unpack('H*', $text)) >= 0;
}

# Use a key by an address, in shared memory.
sub use_key
{
	my ($used) = @_;

	return ask($node, "SELECT status FROM overten_handle_request('GET', '/api/v1/verify', json_build_object('authorization', 'Bearer $used', 'x-overten-client-addr', '$address'), NULL::bytea)");
}

is(use_key($secret), 200, 'the key is used');
flush_usage($node);
ask($node, "SELECT overten_add_member('$org', 'colleague'), overten_remove_member('$org', 'colleague'), overten_rotate_webhook_secret('$org')");
ask($node, "INSERT INTO overten_auth.idempotency_keys VALUES ('$person', sha256('name'), sha256(''), now(), now(), '$org', '$key')");
my @planted = ($person, 'colleague', 'Name of the org', 'Name of the key', 'Reason', $address);
my $other = ask($node, "SELECT org_id FROM overten_signup('$person', 'Another org')");
ask($node, "SELECT overten_revoke_key('$org', '$key', 'Reason')");
my $before = dump_of('before');
is_deeply([ grep { !is_in($before, $_) } @planted ], [], 'all of it is in the dump before');
my ($sealed) = map { substr $_, 40, 40 } ask($node, "SELECT encode(webhook_secret_sealed, 'hex') FROM overten_auth.orgs WHERE org_id = '$org'");
ok(index($before, $sealed) >= 0, 'and the sealed webhook secret');

# The org is erased while there are attempts in memory that are not flushed.
is(use_key($secret), 401, 'the key is tried after its revocation');
is(ask($node, "SELECT overten_erase_org('$org')"), 't', 'the org is erased');
is(use_key($secret), 401, 'and once more');
flush_usage($node);
is(ask($node, "SELECT count(*) FROM overten_auth.key_usage u WHERE u.key_id = '$key'"), 0, 'the flush writes no history of it');
is(ask($node, "SELECT count(*) FROM overten_auth.key_last_used u WHERE u.key_id = '$key'"), 0, 'nor when it was used');
my $without_org = dump_of('without the org');
is_deeply([ grep { is_in($without_org, $_) } @planted ], [$person], 'only the person is left, in another org');
ok(index($without_org, $sealed) < 0, 'no webhook secret is left');
ok(is_in($without_org, substr $secret, 0, 12) && index($without_org, ask($node, "SELECT encode(sha256('$secret'), 'hex')")) >= 0,
	'the prefix and the digest are');

# The person.
is(ask($node, "SELECT overten_revoke_all('$other')"), 1, 'the other org has no active keys');
is(ask($node, "SELECT overten_erase_person('$person')"), 't', 'the person is erased');
my $after = dump_of('after');
is_deeply([ grep { is_in($after, $_) } @planted ], [], 'no byte of the person is left');
is(() = $after =~ /erased_\w{17}/g, 8, 'but a pseudonym is, where the other org had the person');
is(scalar(keys %{ { map { $_ => 1 } $after =~ /erased_\w{17}/g } }), 1, 'the same everywhere');

# Restored, the keys stay what they were.
ask($node, 'CREATE DATABASE restored');
my $file = PostgreSQL::Test::Utils::tempdir . '/restore.sql';
append_to_file($file, $after);
$node->command_ok([ 'psql', '-qX', '-v', 'ON_ERROR_STOP=1', '-f', $file, 'restored' ], 'the dump is restored');
my $restored = [ $node, 'restored' ];
is(ask($restored, "SELECT count(*) FROM overten_verify_key('$secret')"), 0, 'an erased key is refused there');
my $new_org = ask($restored, "SELECT org_id FROM overten_create_org('New')");
is(sqlstate_of($restored, "SELECT overten_import_key('$new_org', 'x', sha256('$secret'), 'sk_live_0000')"), '23505', 'and cannot be imported');
is(sqlstate_of($restored, "DELETE FROM overten_auth.audit_log"), '42501', 'and the audit log is append-only there, too');

# A flush that has begun before an erasure is waited for, and one that begins later
# waits.
my ($second, $second_key, $second_secret) = split /\|/, ask($node, "SELECT org_id, key_id, secret FROM overten_signup('other', 'Second')");
is(use_key($second_secret), 200, 'a key of another org is used');
ask($node, "SELECT overten_revoke_all('$second')");
my $flushing = $node->background_psql('postgres');
$flushing->query_safe("BEGIN; LOCK overten_auth.key_usage IN ROW EXCLUSIVE MODE; INSERT INTO overten_auth.key_usage VALUES ('$second_key', date_trunc('hour', now()), '$address', 1, 0, now(), now())");
my $erasing = $node->background_psql('postgres');
$erasing->query_until(qr/begun/, "\\echo begun\nSELECT overten_erase_org('$second');\n\\echo erased\n");
ok($node->poll_query_until('postgres', "SELECT count(*) = 1 FROM pg_locks WHERE NOT granted AND relation = 'overten_auth.key_usage'::regclass"), 'an erasure waits for a flush');
$flushing->query_safe('COMMIT');
$erasing->query_until(qr/erased/, '');
$flushing->quit;
$erasing->quit;
flush_usage($node);
is(ask($node, "SELECT count(*) FROM overten_auth.key_usage WHERE key_id = '$second_key'"), 0, 'and removes what it wrote');

# The audit log: for ever, unless told otherwise.
my $old = "at < now() - interval '10 days'";
my $rows = ask($node, 'SELECT count(*) FROM overten_auth.audit_log');
ask($node, "INSERT INTO overten_auth.audit_log (at, action, actor) SELECT now() - n * interval '1 day', 'old', 'test' FROM generate_series(1, 20) n");
ask($node, "INSERT INTO overten_auth.audit_log (at, action, actor) SELECT now() - interval '100 days', 'old', 'test' FROM generate_series(1, 25000)");
flush_usage($node);
is(ask($node, "SELECT count(*) FROM overten_auth.audit_log WHERE $old"), 25011, 'without a setting all rows stay');
$node->append_conf('postgresql.conf', "overten_auth.audit_retention = '10 d'");
$node->reload;
ok($node->poll_query_until('postgres', "SELECT current_setting('overten_auth.audit_retention') = '10d'"), 'the setting takes effect');
flush_usage($node);
ok($node->poll_query_until('postgres', "SELECT count(*) = 0 FROM overten_auth.audit_log WHERE $old"), 'then the worker removes what is older');
is(ask($node, 'SELECT count(*) FROM overten_auth.audit_log'), $rows + 9, 'and nothing else');
is(sqlstate_of($node, "DELETE FROM overten_auth.audit_log"), '42501', 'a session cannot do what the worker does');
is(sqlstate_of($node, "SET overten_auth.audit_retention = 1"), '55P02', 'nor change the setting');
is(ask($node, 'SELECT flush_failure IS NULL FROM overten_status()'), 't', 'no job has failed');

done_testing();
