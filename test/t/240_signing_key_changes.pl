# A signing key that is withdrawn is refused from the commit on, in every session
# and whatever is cached; and what else ends an acceptance.  pg_regress has one
# session, and the keys are made for each run.

use strict;
use warnings;

use FindBin;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

use lib $FindBin::RealBin;
use FirebaseTokens;
use OvertenTest;

my $node = create_node('changes', <<CONF);
overten_auth.firebase_project_id = '${\PROJECT}'
max_prepared_transactions = 5
timezone = UTC
CONF
my ($key, $next) = (new_rsa(), new_rsa());
my $token = token($key, header(), claims());
my $next_token = token($next, header(kid => 'key-2'), claims());
my $both = jwk_set(jwk($key, 'key-1'), jwk($next, 'key-2'));
ask($node, OUTCOME_FUNCTION . "SELECT overten_load_signing_keys(\$d\$$both\$d\$)");

# Sessions that have the key and the token cached.
sub session
{
	my $session = $node->background_psql('postgres', on_error_stop => 0);

	$session->set_query_timer_restart;
	return $session;
}

# The SQLSTATE of an error in a session that goes on.
sub error_in
{
	my ($session, $sql) = @_;

	$session->query("\\set VERBOSITY sqlstate\n$sql");
	my ($error) = $session->{stderr} =~ /ERROR:  (\w{5})$/m;
	$session->{stderr} = '';
	return $error // 'none';
}

my ($reader, $old_snapshot, $writer) = map { session() } 1 .. 3;
my $look = "SELECT outcome('$token')";
is(ask($_, $look), 'ok', 'a session caches') for $reader, $old_snapshot, $reader, $old_snapshot;
ask($old_snapshot, 'BEGIN ISOLATION LEVEL REPEATABLE READ');
is(ask($old_snapshot, $look), 'ok', 'a snapshot with the key is taken');

my $set = jwk_set(jwk($next, 'key-2'));
ask($writer, 'BEGIN');
is(ask($writer, "SELECT overten_load_signing_keys(\$d\$$set\$d\$)"), 1, 'the key is withdrawn');
is(ask($writer, $look), '28000', 'and refused where that was done');
is(ask($reader, $look), 'ok', 'elsewhere not before the commit');
ask($writer, 'ROLLBACK');
is(ask($writer, $look), 'ok', 'a rollback brings it back');
is(ask($reader, $look), 'ok', 'and changes nothing elsewhere');
ask($writer, "SELECT overten_load_signing_keys(\$d\$$set\$d\$)");
is(ask($reader, $look), '28000', 'refused from the commit on');
is(ask($old_snapshot, $look), '28000', 'by an old snapshot too');
ask($old_snapshot, 'COMMIT');
ask($writer, 'BEGIN');
ask($writer, "SELECT overten_load_signing_keys(\$d\$$both\$d\$)");
is(ask($writer, $look), 'ok', 'a key of the own transaction is used') for 1 .. 2;
is(ask($reader, $look), '28000', 'elsewhere not');
ask($writer, 'ROLLBACK');
is(ask($writer, $look), '28000', 'and not after a rollback');
ask($writer, 'BEGIN');
ask($writer, 'SAVEPOINT s');
ask($writer, "SELECT overten_load_signing_keys(\$d\$$both\$d\$)");
is(ask($writer, $look), 'ok', 'likewise in a savepoint');
ask($writer, 'ROLLBACK TO s');
is(ask($writer, $look), '28000', 'and after it');
ask($writer, 'COMMIT');
ask($writer, 'BEGIN');
ask($writer, "SELECT overten_load_signing_keys(\$d\$$both\$d\$)");
ask($writer, "PREPARE TRANSACTION 'p'");
is(ask($reader, $look), '28000', 'a prepared load is none yet');
ask($writer, "COMMIT PREPARED 'p'");
is(ask($reader, $look), 'ok', 'until it is committed') for 1 .. 2;
ask($writer, "DELETE FROM overten_auth.signing_keys WHERE kid = 'key-1'");
is(ask($reader, $look), '28000', 'a plain DELETE does it too');
ask($writer, "SELECT overten_load_signing_keys(\$d\$$both\$d\$)");
is(ask($reader, $look), 'ok', 'loaded again') for 1 .. 2;
ask($writer, "UPDATE overten_auth.signing_keys SET expires_at = pg_catalog.now() WHERE kid = 'key-1'");
is(ask($reader, $look), '28000', 'an expired key is refused');
ask($writer, "UPDATE overten_auth.signing_keys SET expires_at = clock_timestamp() + '2 s' WHERE kid = 'key-1'");
is(ask($reader, $look), 'ok', 'a key with two seconds to go') for 1 .. 2;
ok($node->poll_query_until('postgres', "SELECT outcome('$token') = '28000'"), 'its time comes');
is(ask($reader, $look), '28000', 'for a token in the cache as well');
ask($writer, 'TRUNCATE overten_auth.signing_keys');
is(ask($reader, $look), '55000', 'without keys it is unavailable');
ask($writer, "SELECT overten_load_signing_keys(\$d\$$both\$d\$)");
is(ask($reader, $look), 'ok', 'loaded again') for 1 .. 2;

# The project belongs to what is cached.
is(ask($reader, $_->[0]), $_->[1], $_->[2])
  for [ "SET overten_auth.firebase_project_id = 'other'; $look", '28000', 'another project' ],
  [ "SET overten_auth.firebase_project_id = ''; $look", '55000', 'no project' ],
  [ "RESET overten_auth.firebase_project_id; $look", 'ok', 'the project again' ];

# exp is looked at on every use, and by the clock, not the transaction's start.
my $short = token($key, header(), claims(exp => time + 4));
ask($reader, 'BEGIN');
is(ask($reader, "SELECT outcome('$short')"), 'ok', 'about to expire') for 1 .. 2;
ok($node->poll_query_until('postgres', "SELECT outcome('$short') = '28OA1'"), 'expires');
is(ask($reader, "SELECT outcome('$short')"), '28OA1', 'in an old transaction and from the cache too');
is(ask($reader, "SET LOCAL overten_auth.clock_skew = 300; SELECT outcome('$short')"), 'ok', 'but for the skew');
ask($reader, 'COMMIT');

# Two loads at once: one waits, none merges.
ask($writer, 'BEGIN');
ask($writer, "SELECT overten_load_signing_keys(\$d\$$set\$d\$)");
my $third = session();
$third->query_until(qr/started/, "\\echo started\nSELECT overten_load_signing_keys(\$d\$" . jwk_set(jwk($key, 'key-1')) . "\$d\$);\n");
ok($node->poll_query_until('postgres', "SELECT count(*) = 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock'"), 'the second waits');
is(ask($reader, $look), 'ok', 'a verification does not');
ask($writer, 'COMMIT');
ask($third, 'SELECT 1');
is(ask($reader, 'SELECT string_agg(kid, \',\') FROM overten_auth.signing_keys'), 'key-1', 'the last one counts alone');
ask($writer, 'BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT 1');
ask($third, "DELETE FROM overten_auth.signing_keys; SELECT overten_load_signing_keys(\$d\$$set\$d\$)");
is(error_in($writer, "SELECT overten_load_signing_keys(\$d\$" . jwk_set(jwk($key, 'key-1')) . "\$d\$)"),
	'40001', 'an old snapshot cannot load');
ask($writer, 'ROLLBACK');
is(ask($reader, 'SELECT string_agg(kid, \',\') FROM overten_auth.signing_keys'), 'key-2', 'and changes nothing');
ask($writer, 'BEGIN READ ONLY');
is(ask($writer, "SELECT outcome('$next_token')"), 'ok', 'a READ ONLY transaction verifies');
is(error_in($writer, "SELECT overten_load_signing_keys(\$d\$$both\$d\$)"), '25006', 'and does not load');
ask($writer, 'ROLLBACK');

$_->quit foreach $reader, $old_snapshot, $writer, $third;
$node->stop;
done_testing();
