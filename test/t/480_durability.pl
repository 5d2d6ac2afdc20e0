
# What has been acknowledged survives a crash, whatever synchronous_commit
# says: a revocation by the function or by plain UPDATE, a prepared one, and a
# minted key.  pg_regress cannot stop the server in the middle of a test.

use strict;
use warnings FATAL => 'all';

use FindBin;
use lib $FindBin::RealBin;
use OvertenTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

# The WAL writer would otherwise write what no commit waits for.
my $node = create_node('durability', <<'EOC');
synchronous_commit = off
wal_writer_delay = 10s
max_prepared_transactions = 2
EOC
my $org = create_org($node, 'Durable');
$node->safe_psql('postgres', 'CREATE TABLE control (round text)');

my $lost = 0;

# Run a change, then an unprotected one as the last thing before a crash.
sub crash_after
{
	my ($round, $change) = @_;
	my $session = $node->background_psql('postgres');
	my $result = ask($session, $change);

	ask($session, "INSERT INTO control VALUES ('$round')");
	$node->stop('immediate');
	$session->{run}->finish;
	$node->start;
	$lost++
	  if ask($node, "SELECT count(*) FROM control WHERE round = '$round'")
	  == 0;
	return $result;
}

my ($secret, $key) = mint($node, $org);
ok(is_accepted($node, $secret), 'a key is accepted');
is( crash_after(
		'function', "SELECT overten_revoke_key('$org', '$key', 'leaked')"),
	't',
	'it is revoked, and the server crashes');
ok(!is_accepted($node, $secret), 'its revocation survives');
is( ask(
		$node,
		"SELECT action, detail FROM overten_auth.audit_log
		 WHERE key_id = '$key' ORDER BY at DESC LIMIT 1"),
	'revoke_key|leaked',
	'and so does its audit row');

($secret, $key) = mint($node, $org);
crash_after('update',
	"UPDATE overten_auth.api_keys SET revoked_at = now() WHERE key_id = '$key'"
);
ok(!is_accepted($node, $secret), 'a revocation by plain UPDATE survives');

($secret, $key) = split /\|/,
  crash_after('mint',
	"SELECT secret, key_id FROM overten_mint_key('$org')");
is(verify($node, $secret), $key, 'a minted key survives');

crash_after('suspension', "SELECT overten_set_api_access('$org', false)");
ok(!is_accepted($node, $secret), 'a suspension survives');
ask($node, "SELECT overten_set_api_access('$org', true)");
ok(is_accepted($node, $secret), 'the org is resumed');

cmp_ok($lost, '>', 0, "an unprotected change was lost ($lost times of 4)");

ask($node, <<"EOQ");
BEGIN;
SELECT overten_revoke_key('$org', '$key');
PREPARE TRANSACTION 'revocation';
EOQ
ok(is_accepted($node, $secret), 'a prepared revocation has no effect yet');
$node->stop('immediate');
$node->start;

my $session = $node->background_psql('postgres');
is(verify($session, $secret),
	$key, 'nor after a crash; a session caches the key');
is(verify($session, $secret), $key, 'and has it from its cache');
ask($node, "COMMIT PREPARED 'revocation'");
ok(!is_accepted($session, $secret),
	'COMMIT PREPARED in another session takes effect in this one');
$session->quit;

$node->stop('immediate');
$node->start;
ok(!is_accepted($node, $secret), 'and survives another crash');

$node->stop;
done_testing();
