
# Dropping, creating and reindexing under sessions that have keys cached never
# makes a refused key accepted, never a live one refused, and never a crash.
# pg_regress has neither concurrent load nor a second database.

use strict;
use warnings FATAL => 'all';

use FindBin;
use lib $FindBin::RealBin;
use IPC::Run;
use OvertenTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = create_node('lifecycle', '');
my $org = create_org($node, 'Lasting');
my ($secret, $key) = mint($node, $org);
my ($revoked, $revoked_key) = mint($node, $org);
ask($node, "SELECT overten_revoke_key('$org', '$revoked_key')");

# Load that fails at the first key that is wrongly refused or accepted.
my $load = $node->basedir . '/load.sql';
append_to_file($load, <<'EOQ');
SELECT 1 / (coalesce(min(key_id), '') = :key)::int FROM overten_verify_key(:secret);
SELECT 1 / (count(*) = 0)::int FROM overten_verify_key(:revoked);
EOQ

# Run statements over and over while pgbench verifies for some seconds, with
# its keys cached or not.
sub change_under_load
{
	my ($name, $seconds, @changes) = @_;
	my $rounds = 0;
	my @runs;

	foreach my $cache_entries (0, 4096)
	{
		my ($stdout, $stderr) = ('', '');

		local %ENV = $node->_get_env();
		local $ENV{PGOPTIONS} =
		  "-c overten_auth.cache_entries=$cache_entries";
		push @runs,
		  {
			stdout => \$stdout,
			stderr => \$stderr,
			harness => IPC::Run::start(
				[
					'pgbench', '-n', '-T', $seconds, '-M', 'prepared',
					'-D', "secret=$secret", '-D', "key=$key",
					'-D', "revoked=$revoked", '-f', $load, 'postgres'
				],
				'>', \$stdout, '2>', \$stderr)
		  };
	}

	my $session = $node->background_psql('postgres');
	while ($runs[0]->{harness}->pumpable)
	{
		ask($session, $_) foreach @changes;
		$rounds++;
		# Raises if the process has just ended; finish() says how it did.
		eval { $_->{harness}->pump_nb } foreach @runs;
	}
	$session->quit;

	foreach my $run (@runs)
	{
		ok($run->{harness}->finish, "$name: verification goes on")
		  or diag(${ $run->{stderr} });
		unlike(${ $run->{stderr} },
			qr/ERROR|WARNING|abort/, "$name: without an error");
	}
	cmp_ok($rounds, '>', 0, "$name: the change was made $rounds times");
	return;
}

change_under_load('rebuilding', 3,
	'REINDEX INDEX CONCURRENTLY overten_auth.api_keys_digest_key',
	'REINDEX TABLE CONCURRENTLY overten_auth.orgs',
	'REINDEX TABLE overten_auth.api_keys',
	'VACUUM FULL overten_auth.api_keys, overten_auth.orgs',
	'CLUSTER overten_auth.api_keys USING api_keys_pkey',
	'VACUUM FULL overten_auth.key_last_used');
change_under_load('redefining', 3,
	'ALTER TABLE overten_auth.api_keys ADD COLUMN extra int',
	'ALTER TABLE overten_auth.orgs ADD COLUMN extra int',
	'ALTER TABLE overten_auth.api_keys DROP COLUMN extra',
	'ALTER TABLE overten_auth.orgs DROP COLUMN extra',
	'ALTER TABLE overten_auth.api_keys DROP CONSTRAINT api_keys_digest_key',
	'ALTER TABLE overten_auth.api_keys
	 ADD CONSTRAINT api_keys_digest_key UNIQUE (digest)');
change_under_load('rewriting', 3,
	'ALTER TABLE overten_auth.api_keys ADD COLUMN extra float DEFAULT random()',
	'ALTER TABLE overten_auth.api_keys DROP COLUMN extra',
	'ALTER TABLE overten_auth.orgs ADD COLUMN extra float DEFAULT random()',
	'ALTER TABLE overten_auth.orgs DROP COLUMN extra');

# Without its index

my $session = $node->background_psql('postgres');
is(verify($session, $secret), $key, 'a session caches a key');
ask($node, 'ALTER TABLE overten_auth.api_keys
	DROP CONSTRAINT api_keys_digest_key');
is(verify($session, $secret), $key, 'without the index it is accepted');
is(verify($session, $revoked), '', 'and a revoked one refused');
my ($later, $later_key) = mint($node, $org);
is(verify($session, $later), $later_key, 'a key minted meanwhile is accepted');
ask($node, "SELECT overten_revoke_key('$org', '$later_key')");
is(verify($session, $later), '', 'and refused once it is revoked');
ask($node, 'ALTER TABLE overten_auth.api_keys
	ADD CONSTRAINT api_keys_digest_key UNIQUE (digest)');
is(verify($session, $secret), $key, 'with a new index it is accepted');

# A second database

ask($node, 'CREATE DATABASE second');
ask([ $node, 'second' ], 'CREATE EXTENSION overten_auth CASCADE');
my $second_org = create_org([ $node, 'second' ], 'Other');
my ($second, $second_key) = mint([ $node, 'second' ], $second_org);
is(verify([ $node, 'second' ], $second),
	$second_key, 'a second database accepts its own key');
is(verify([ $node, 'second' ], $secret), '', 'and not the one of the first');
is(verify($session, $second), '', 'nor the first the one of the second');
is( sqlstate_of(
		[ $node, 'second' ],
		"SELECT overten_revoke_key('$org', '$key')"),
	'42704',
	'neither can it revoke it');

# Dropped and created again

ask($session, "PREPARE verify AS SELECT key_id FROM overten_verify_key(\$1)");
is(ask($session, "EXECUTE verify('$secret')"),
	$key, 'a session has the key cached, and a prepared statement');
my $reader = $node->background_psql('postgres', on_error_stop => 0);
ask($reader, 'BEGIN ISOLATION LEVEL REPEATABLE READ');
is(verify($reader, $secret), $key, 'so does one in a long transaction');
ask($reader, 'SAVEPOINT s');

# The message of a query that fails.
sub failure
{
	my ($session, $query) = @_;

	$session->query($query);
	my $message = $session->{stderr};
	$session->{stderr} = '';
	return $message;
}

my $survivor = $node->background_psql('postgres', on_error_stop => 0);
ask($survivor, "PREPARE verify AS SELECT key_id FROM overten_verify_key(\$1)");
is(ask($survivor, "EXECUTE verify('$secret')"), $key, 'and a third one');
$session->quit;

ask($node, 'DROP EXTENSION overten_auth');
like(failure($survivor, "EXECUTE verify('$secret')"),
	qr/ERROR:  function overten_verify_key\(\w+\) does not exist/,
	'once it is dropped, the prepared statement fails');
like(failure($survivor, "SELECT overten_verify_key('$secret')"),
	qr/ERROR:  function overten_verify_key\(unknown\) does not exist/,
	'and so does a new one');
like(failure($reader, "SELECT overten_verify_key('$secret')"),
	qr/ERROR:  .* does not exist/,
	'in the long transaction too');
ask($reader, 'ROLLBACK TO s');

ask($node, 'CREATE EXTENSION overten_auth');
is(ask($survivor, "EXECUTE verify('$secret')"),
	'', 'created again, the prepared statement refuses the old key');
# It looks at the catalogs afresh when it takes a lock.
ask($reader, 'TABLE overten_auth.tiers');
is(verify($reader, $secret), '', 'and so does the long transaction');
$org = create_org($node, 'New');
($secret, $key) = mint($node, $org);
is(ask($survivor, "EXECUTE verify('$secret')"),
	$key, 'a session that was there before accepts a new key');
is(ask($survivor, "EXECUTE verify('$secret')"), $key, 'and caches it');
is(verify($reader, $secret), $key, 'the long transaction sees it too');
ask($node, "SELECT overten_revoke_key('$org', '$key')");
is(ask($survivor, "EXECUTE verify('$secret')"), '', 'and refuses it again');
is(verify($reader, $secret), '', 'as does the long transaction');
ask($reader, 'COMMIT');
$reader->quit;
($later, $later_key) = mint($survivor, $org);
is(verify($survivor, $later), $later_key, 'the session itself mints');
ask($survivor, "SELECT overten_revoke_key('$org', '$later_key')");
is(verify($survivor, $later), '', 'and revokes');
$survivor->quit;

# Dropped and created over and over, under sessions that verify all the time

ask($node, <<'EOQ');
CREATE TABLE stop (); CREATE TABLE seen (what text);
CREATE PROCEDURE verify_until_stopped(secret text) LANGUAGE plpgsql AS $$
DECLARE
	outcome text;
BEGIN
	WHILE to_regclass('stop') IS NOT NULL LOOP
		BEGIN
			EXECUTE 'SELECT CASE count(*) WHEN 0 THEN ''refused''
				ELSE ''accepted'' END FROM overten_verify_key($1)'
				INTO outcome USING secret;
		EXCEPTION WHEN OTHERS THEN
			outcome := SQLERRM;
		END;
		INSERT INTO seen SELECT outcome
			WHERE NOT EXISTS (SELECT FROM seen WHERE what = outcome);
		COMMIT;
	END LOOP;
END
$$;
EOQ
($secret, $key) = mint($node, $org);
my @sessions;
foreach my $i (1, 2)
{
	my $looping = $node->background_psql('postgres');

	is(verify($looping, $secret), $key, 'a session caches a key');
	push @sessions, $looping;
}
ask($node, 'DROP EXTENSION overten_auth');
foreach my $looping (@sessions)
{
	$looping->query_until(qr/started/,
		"\\echo started\nCALL verify_until_stopped('$secret');\n");
}
my $changer = $node->background_psql('postgres');
foreach my $i (1 .. 10)
{
	ask($changer, 'CREATE EXTENSION overten_auth');
	ask($changer, 'DROP EXTENSION overten_auth');
}
$changer->quit;
ask($node, 'DROP TABLE stop');
$_->quit foreach @sessions;

my $seen = ask($node, 'SELECT DISTINCT what FROM seen ORDER BY 1');
like($seen, qr/^refused$/m, 'while it came and went, keys were refused');
unlike($seen, qr/^accepted$/m, 'and never accepted');

# The last is what the server itself says of the result's row type.
is( join(
		"\n",
		grep {
			!/^refused$
			 |^function[ ]overten_verify_key\(text\)[ ]does[ ]not[ ]exist$
			 |^table[ ]overten_auth\.api_keys[ ]does[ ]not[ ]exist$
			 |^could[ ]not[ ]open[ ]relation[ ]with[ ]OID[ ]\d+$/x
		  }
		  split /\n/,
		$seen),
	'',
	'what failed said that there is no such function, table or type');

# Where it can be installed, and by whom

ask($node, 'CREATE ROLE planter LOGIN; CREATE ROLE dba LOGIN');

# A database of a role of its own, with pgcrypto.
sub fresh_database
{
	my ($name, $owner) = @_;

	ask($node, "CREATE DATABASE $name OWNER $owner");
	ask([ $node, $name ], 'CREATE EXTENSION pgcrypto');
	return [ $node, $name ];
}

my $database = fresh_database('planted', 'planter');
my $create = 'CREATE EXTENSION overten_auth';
is( sqlstate_of(
		$database, $create,
		connstr => $node->connstr('planted') . ' user=planter'),
	'42501',
	'the owner of a database alone may not create it');

ask($database, 'SET ROLE planter; CREATE SCHEMA overten_auth');
is(sqlstate_of($database, $create),
	'42P06', q(someone else's schema overten_auth makes it fail));
is(ask($database, q{SELECT count(*) FROM pg_proc WHERE proname ~ '^overten'}),
	0, 'and leaves nothing behind');
ask($database, 'DROP SCHEMA overten_auth');

ask($database, 'CREATE SCHEMA theirs AUTHORIZATION planter');
is(sqlstate_of($database, "$create SCHEMA theirs"),
	'42501', 'it is not installed where an ordinary role is the owner');
ask($database, 'ALTER SCHEMA theirs OWNER TO pg_database_owner');
is(sqlstate_of($database, "$create SCHEMA theirs"),
	'', 'it is where pg_database_owner is');
my ($result, $stdout, $stderr) =
  $node->psql('planted', 'ALTER EXTENSION overten_auth SET SCHEMA public');
like(
	$stderr,
	qr/ERROR:  extension "overten_auth" does not support SET SCHEMA/,
	'it cannot be moved');

ask($database, 'DROP EXTENSION overten_auth');
ask($database, q(CREATE SCHEMA "it's ours"));
is(sqlstate_of($database, qq($create SCHEMA "it's ours")),
	'22P02', 'nor is it installed into a schema with a quote in its name');
foreach my $schema ('Our Schema', 'select')
{
	my $quoted = qq("$schema");

	ask($database, "CREATE SCHEMA $quoted");
	is(sqlstate_of($database, "$create SCHEMA $quoted"),
		'', "it is installed into $quoted, owned by a superuser");
	is( ask($database, <<"EOQ"), 't|t', "and works in $quoted");
CREATE TEMP TABLE org AS
	SELECT org_id FROM $quoted.overten_create_org('Quoted');
CREATE TEMP TABLE minted AS
	SELECT m.* FROM org, $quoted.overten_mint_key(org_id) m;
SELECT v.key_id = m.key_id, $quoted.overten_revoke_key(m.org_id, m.key_id)
	FROM minted m, $quoted.overten_verify_key(secret) v;
EOQ
	ask($database, 'DROP EXTENSION overten_auth');
}

my $log = slurp_file($node->logfile);
unlike($log, qr/terminated by signal|PANIC|TRAP/, 'nothing has crashed');

$node->stop;
done_testing();
