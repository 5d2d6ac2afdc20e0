
# A secret leaves the database once: it is in no log line if it was bound, in
# none about an error inside verification either way, and in no file of the
# cluster or dump.  pg_regress sees neither the log nor the files.

use strict;
use warnings FATAL => 'all';

use File::Find;
use FindBin;
use lib $FindBin::RealBin;
use OvertenTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

# More than the characters that are public.
my $raw_key = qr/sk_live_[0-9A-Za-z]{5}/;
my $raw_secret = qr/$raw_key|whsec_[0-9A-Za-z+\/]/;

my $node = create_node('secrecy', <<'EOC');
log_error_verbosity = verbose
log_min_messages = debug2
log_min_duration_statement = 0
log_parameter_max_length = 0
log_parameter_max_length_on_error = 0
log_lock_waits = on
deadlock_timeout = 10ms
EOC

my $statements = -e $node->config_data('--pkglibdir') . '/pg_stat_statements.so';
if ($statements)
{
	$node->append_conf('postgresql.conf',
		'shared_preload_libraries = pg_stat_statements');
	$node->restart;
	ask($node, 'CREATE EXTENSION pg_stat_statements');
}

my $org = create_org($node, 'Secretive');
my ($secret, $key) = mint($node, $org);
my $prefix = substr $secret, 0, 12;

# How often a pattern occurs in the log from an offset on.
sub count_in_log
{
	my ($pattern, $offset) = @_;

	return scalar(() = slurp_file($node->logfile, $offset) =~ /$pattern/g);
}

# Run one transaction of a pgbench script, its variables bound.
sub run_bound
{
	my ($script, $options, $status, $name) = @_;
	my $file = $node->basedir . '/bound.sql';

	unlink $file;
	append_to_file($file, $script);
	local $ENV{PGOPTIONS} = $options;
	$node->command_checks_all(
		[
			'pgbench', '-n', '-t', '1', '-M', 'extended',
			'-D', "secret=$secret", '-D', "key=$key", '-D', "org=$org",
			'-f', $file, 'postgres'
		],
		$status,
		[qr/bound\.sql/],
		[qr//],
		$name);
	return;
}

# Bound

my $every_call = <<'EOQ';
SELECT org_id AS new_org FROM overten_create_org(:org) \gset
SELECT overten_set_api_access(:new_org, true), overten_add_member(:new_org, :key);
SELECT secret AS new_secret, key_id AS new_key FROM overten_mint_key(:new_org, :key) \gset
SELECT webhook_secret FROM overten_verify_key(:new_secret) \gset
SELECT key_id, webhook_secret FROM overten_verify_key(:secret) \gset
SELECT key_id, webhook_secret FROM overten_verify_key_digest(sha256(:secret)) \gset
SELECT key_id, webhook_secret FROM overten_authenticate(:secret) \gset
SELECT overten_current_org(), overten_current_key();
SELECT overten_key_checksum_ok(:secret);
SELECT prefix FROM overten_list_keys(:new_org) \gset
SELECT count(*) FROM overten_list_orgs(:key);
SELECT overten_import_key(:new_org, :key, sha256(:new_key), 'sk_live_0000');
SELECT overten_rotate_webhook_secret(:new_org, '1 hour') AS rotated \gset
SELECT overten_sign_webhook(:new_org, 'msg_1', 1, :key), overten_reseal();
SELECT overten_revoke_key(:new_org, :new_key, :key);
SELECT overten_revoke_leaked(:new_secret), overten_revoke_all(:new_org);
SELECT count(*) FROM overten_verify_key(:new_secret);
EOQ

my $offset = -s $node->logfile;
run_bound($every_call, '-c log_statement=all', 0, 'all functions, bound');
cmp_ok(count_in_log(qr/FROM overten_verify_key\(\$1\)/, $offset),
	'>', 0, 'the statements are in the log');
is(count_in_log($raw_secret, $offset), 0, 'the secrets are not');

$offset = -s $node->logfile;
run_bound(
	$every_call,
	'-c log_statement=all -c log_parameter_max_length=-1',
	0, 'the same with parameters logged');
cmp_ok(count_in_log($raw_secret, $offset),
	'>', 0, 'now they are: the check can fail');

# The log of a failing statement

my $holder = $node->background_psql('postgres');
ask($holder, 'BEGIN; LOCK overten_auth.api_keys');

$offset = -s $node->logfile;
run_bound(
	'SELECT key_id FROM overten_verify_key(:secret);',
	'-c lock_timeout=10ms', 2, 'a bound verification that fails');
cmp_ok(count_in_log(qr/ERROR:  55P03/, $offset),
	'>', 0, 'its error is in the log');
is(count_in_log($raw_secret, $offset), 0, 'without the secret');

# From here on secrets are literals; only errors are logged with statements.
my $quiet = 'SET log_min_duration_statement = -1';
my $call = "SELECT overten_verify_key('$secret')";
my %failing = (
	'in SELECT' => $call,
	'by digest' =>
	  "SELECT overten_verify_key_digest(sha256('$secret'))",
	'in authenticating' => "SELECT overten_authenticate('$secret')",
	'in authenticating a request' =>
	  "BEGIN; SET LOCAL request.headers = '{\"authorization\": \"Bearer $secret\"}';
	   SELECT overten_api.authenticate_request()",
	'in authorizing a request' =>
	  "BEGIN; SET LOCAL request.headers = '{\"authorization\": \"Bearer $secret\"}';
	   SELECT overten_api.authorize()",
	'that leaked' => "SELECT overten_revoke_leaked('$secret', 'found')",
	'that leaked, in PL/pgSQL' =>
	  "DO \$\$ BEGIN PERFORM overten_revoke_leaked('$secret'); END \$\$",
	'in a prepared statement' =>
	  "PREPARE verify AS $call; EXECUTE verify",
	'in PL/pgSQL' =>
	  "DO \$\$ BEGIN PERFORM overten_verify_key('$secret'); END \$\$",
	'in an expression of PL/pgSQL' =>
	  "DO \$\$ BEGIN IF overten_verify_key('$secret') IS NULL THEN END IF; END \$\$",
	'in dynamic SQL' =>
	  "DO \$\$ BEGIN EXECUTE \$q\$ $call \$q\$; END \$\$",
	'raised again' =>
	  "DO \$\$ BEGIN PERFORM overten_verify_key('$secret');
	   EXCEPTION WHEN OTHERS THEN RAISE; END \$\$",
	'through a cursor' =>
	  "BEGIN; DECLARE c CURSOR FOR $call; FETCH c",
	'in COPY' => "COPY ($call) TO STDOUT");

sub check_failing
{
	my ($where, $setting, $time, $sqlstate) = @_;

	$offset = -s $node->logfile;
	is( sqlstate_of(
			$node, "$quiet; SET $setting = '$time'; $failing{$where}"),
		$sqlstate,
		"a literal $where meets $setting");
	cmp_ok(count_in_log(qr/ERROR:  $sqlstate/, $offset),
		'>', 0, "the error is in the log: $where, $setting");
	is(count_in_log($raw_secret, $offset),
		0, "the secret is not: $where, $setting");
	return;
}

check_failing($_, 'lock_timeout', '10ms', '55P03') foreach sort keys %failing;

# What is wrong with another argument is said without the secret.
$offset = -s $node->logfile;
is( sqlstate_of($node, "$quiet; SELECT overten_revoke_leaked('$secret', '')"),
	'22023',
	'a leak with a reason that breaks a rule');
cmp_ok(count_in_log(qr/ERROR:  22023/, $offset), '>', 0, 'is in the log');
is(count_in_log($raw_secret, $offset), 0, 'without the secret');

# Runs from the start of the statement, so give that time to reach the lock.
check_failing($_, 'statement_timeout', '1s', '57014')
  foreach ('in SELECT', 'in PL/pgSQL');

# A session that waits for the lock within verification.
sub start_waiting
{
	my $session = $node->background_psql('postgres', on_error_stop => 0);
	my $pid = ask($session, 'SELECT pg_backend_pid()');

	ask($session, $quiet);
	$session->query_until(qr/started/, "\\echo started\n$call;\n");
	$node->poll_query_until('postgres',
		"SELECT wait_event_type = 'Lock' FROM pg_stat_activity WHERE pid = $pid"
	) or die 'the session does not wait';
	$node->wait_for_log(qr/process $pid still waiting for AccessShareLock/,
		$offset);
	return ($session, $pid);
}

$offset = -s $node->logfile;
my ($session, $pid) = start_waiting();
ask($node, "SELECT pg_cancel_backend($pid)");
$session->query('SELECT 1');
like($session->{stderr}, qr/canceling statement/, 'a verification is canceled');
$session->quit;

($session, $pid) = start_waiting();
ask($node, "SELECT pg_terminate_backend($pid, 60000)");
$session->{run}->finish;
cmp_ok(count_in_log(qr/FATAL:  57P01/, $offset),
	'>', 0, 'a session is terminated in its verification');
is(count_in_log($raw_secret, $offset), 0,
	'the log has the secret in no error, and in no report of the wait');

ask($holder, 'COMMIT');
$holder->quit;

# A digest is a credential to some.
my $hash = ask($node, "SELECT encode(sha256('$secret'), 'hex')");
foreach my $import (
	"overten_import_key('$org', 'x', '\\x$hash', 'sk_live_0000')",
	"overten_import_keys('{$org}', '{x}', ARRAY['\\x$hash'::bytea], '{sk_live_0000}')")
{
	$offset = -s $node->logfile;
	is(sqlstate_of($node, "$quiet; SELECT $import"),
		'23505', 'a digest is imported again');
	cmp_ok(count_in_log(qr/ERROR:  23505/, $offset),
		'>', 0, 'which is in the log');
	is(count_in_log(qr/$hash/i, $offset), 0, 'without the digest');
}

# Outside of verification nothing is hidden, which shows what was hidden.
$offset = -s $node->logfile;
is(sqlstate_of($node, "$quiet; SELECT overten_verify_key('$secret'), 1/0"),
	'22012', 'an error in the same statement, outside of verification');
is(count_in_log($raw_secret, $offset), 1, 'logs the statement as ever');

$offset = -s $node->logfile;
is( sqlstate_of($node,
		"$quiet; DO \$\$ BEGIN PERFORM overten_mint_key('$org'), 1/0; END \$\$"),
	'22012',
	'an error after minting');
is(count_in_log($raw_secret, $offset), 0, 'logs no secret');

# Files

is(verify($node, $secret), $key, 'the key is accepted, given as a literal');
SKIP:
{
	skip 'pg_stat_statements is not there', 2 if !$statements;
	# Utility statements are kept as they came; what ran above has them.
	my $found = "SELECT count(*) FROM pg_stat_statements
		WHERE query ~ '^SELECT' AND query ~";

	cmp_ok(ask($node, "$found 'overten_verify_key'"),
		'>', 0, 'pg_stat_statements has the verifications');
	is(ask($node, "$found 'sk_live_[0-9A-Za-z]{5}|whsec_'"),
		0, 'without the secrets');
	ask($node, 'SELECT pg_stat_statements_reset()');
}

# Plans of the extension's own statements show no value: those that are made
# for one execution would hold the digest and the sealed secret.  PostgreSQL 16
# and later log the parameters of plans besides, unless told not to.
my $explained_from = -s $node->logfile;
my $no_parameters = $node->pg_version >= 16
  ? 'SET auto_explain.log_parameter_max_length = 0;' : '';
my ($digest, $sealed) = split /\|/, ask($node, <<"EOQ");
LOAD 'auto_explain';
SET auto_explain.log_min_duration = 0;
SET auto_explain.log_nested_statements = on;
SET auto_explain.log_verbose = on;
$no_parameters
CREATE TEMP TABLE explained AS
	SELECT m.org_id, m.key_id FROM overten_create_org('Explained') o, overten_mint_key(o.org_id) m;
SET auto_explain.log_min_duration = -1;
SELECT encode(k.digest, 'hex'), encode(o.webhook_secret_sealed, 'hex')
FROM explained JOIN overten_auth.api_keys k USING (key_id) JOIN overten_auth.orgs o ON o.org_id = k.org_id;
EOQ
cmp_ok(count_in_log(qr/Insert on overten_auth\.api_keys/, $explained_from),
	'>', 0, 'auto_explain logs the plan of the mint');
is(count_in_log(qr/$digest|$sealed/, $explained_from),
	0, 'without the digest or the sealed webhook secret');

my $dump = $node->basedir . '/dump.sql';
$node->command_ok([ 'pg_dump', '-f', $dump, 'postgres' ], 'pg_dump');
my $dumped = slurp_file($dump);
cmp_ok(index($dumped, $prefix), '>', 0, 'a dump has the prefix of the key');
is(scalar(() = $dumped =~ /$raw_secret/g),
	0, 'and no raw key or webhook secret');

ask($node, 'CHECKPOINT');
my %files = (prefix => {}, raw => {});
find(
	{
		no_chdir => 1,
		wanted => sub {
			return if !-f;
			my $content = slurp_file($_);
			my $folder =
			  substr($_, length($node->data_dir) + 1) =~ s{/.*}{}r;

			$files{prefix}{$folder}++ if index($content, $prefix) >= 0;
			# Bytes of the next column may follow a prefix.
			$files{raw}{$_}++
			  if $content =~ m{sk_live_[0-9A-Za-z]{28}|whsec_[0-9A-Za-z+/]{32}};
		}
	},
	$node->data_dir);
ok($files{prefix}{base}, 'a table has the prefix of the key');
ok($files{prefix}{pg_wal}, 'and so has the WAL');
is(join(' ', sort keys %{ $files{raw} }),
	'', 'no file has a raw key or webhook secret');

$node->stop;
done_testing();
