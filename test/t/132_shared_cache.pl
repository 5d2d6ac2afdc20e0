# The cache of all sessions: what one session changes counts in it before the
# commit is answered, whoever sleeps or connects meanwhile, and nothing else
# empties it.  pg_regress has no preloaded library.

use strict;
use warnings FATAL => 'all';

use FindBin;
use lib $FindBin::RealBin;
use OvertenTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use SharedCacheTest;
use Test::More;

start_server();

# -- The writer counts before it answers --

ok(is_hit($node, (cached_key($org))[0]),
	'a session that has just begun is answered from the cache');

my %revocations = (
	'function' => "SELECT overten_revoke_key('ORG', 'KEY')",
	'update' =>
	  "UPDATE overten_auth.api_keys SET revoked_at = now() WHERE key_id = 'KEY'",
	'delete' => "DELETE FROM overten_auth.api_keys WHERE key_id = 'KEY'",
	'suspension' => "SELECT overten_set_api_access('ORG', false)",
	'new digest' =>
	  "UPDATE overten_auth.api_keys SET digest = sha256('KEY') WHERE key_id = 'KEY'",);
my %ends = (
	'autocommit' => 'CHANGE',
	'commit' => 'BEGIN; CHANGE; COMMIT',
	'savepoint' => 'BEGIN; SAVEPOINT s; CHANGE; RELEASE s; COMMIT',
	'second time' =>
	  'BEGIN; SAVEPOINT s; CHANGE; ROLLBACK TO s; CHANGE; COMMIT',);

for my $change (sort keys %revocations)
{
	for my $end (sort keys %ends)
	{
		my $owner = $change eq 'suspension' ? create_org($writer, 'Own') : $org;
		my ($secret, $id) = cached_key($owner);
		my $sql = $ends{$end} =~ s/CHANGE/$revocations{$change}/gr;

		ask($writer, $sql =~ s/KEY/$id/gr =~ s/ORG/$owner/gr);
		is_refused_everywhere($secret, "$change, $end");
	}
}

# COMMIT PREPARED, by a session that has not prepared it.
{
	my ($secret, $id) = cached_key($org);

	ask($writer,
		"BEGIN; SELECT overten_revoke_key('$org', '$id'); PREPARE TRANSACTION 'p'");
	ok(is_accepted($node, $secret), 'prepared only: still accepted');
	ask($node, "COMMIT PREPARED 'p'");
	is_refused_everywhere($secret, 'COMMIT PREPARED');
}

# Rolled back: nobody loses the key.
{
	my ($secret, $id) = cached_key($org);

	ask($writer, 'BEGIN');
	ask($writer, "SELECT overten_revoke_key('$org', '$id')");
	ok(!is_accepted($writer, $secret), 'the own revocation counts at once');
	ok(is_accepted($node, $secret), 'to others it does not');
	ok(!is_accepted($writer, $secret),
		'what others store meanwhile is not for the own transaction');
	ask($writer, 'SAVEPOINT s; SAVEPOINT t; ROLLBACK TO s');
	ok(!is_accepted($writer, $secret), 'nor after a savepoint');
	ask($writer, 'ROLLBACK');
	ok(is_accepted($writer, $secret), 'after ROLLBACK it is good again');
}

# -- Thirty-two rows --

# The limits are crossed in a savepoint that is rolled back, and what is sent
# then, if it were only once, is lost with it.  The rollback itself also removes
# the key from the cache, so another session has it stored again.
{
	my $many = create_org($writer, 'Many');
	my ($secret, $id) = cached_key($many);
	my ($other) = cached_key($org);

	ask($writer, "SELECT count(overten_mint_key('$many')) FROM generate_series(1, 80)");
	ask($writer, <<"EOQ");
BEGIN; SAVEPOINT s;
UPDATE overten_auth.api_keys SET name = 'x' WHERE org_id = '$many';
ROLLBACK TO s
EOQ
	is_accepted($node, $secret) or die 'not accepted';
	ask($writer, "SELECT overten_revoke_key('$many', '$id'); COMMIT");
	is_refused_everywhere($secret, 'after 80 rows that were rolled back');
	ok(is_hit($node, $other), 'a key of another org is still in the cache');

	my $last = create_org($writer, 'Last');
	($secret) = cached_key($last);
	ask($writer,
		"SELECT count(overten_create_org('Org ' || n)) FROM generate_series(1, 80) n");
	ask($writer, <<"EOQ");
BEGIN; SAVEPOINT s;
UPDATE overten_auth.orgs SET name = name || '!' WHERE name LIKE 'Org %';
ROLLBACK TO s
EOQ
	is_accepted($node, $secret) or die 'not accepted';
	ask($writer, "SELECT overten_set_api_access('$last', false); COMMIT");
	is_refused_everywhere($secret, 'after 80 orgs that were rolled back');
}

# The queue overflows with what the transaction itself sends, so that it does
# not receive its own message.
{
	my ($secret, $id) = cached_key($org);

	ask($writer, <<"EOQ");
BEGIN; SELECT overten_revoke_key('$org', '$id');
DO \$\$ BEGIN FOR i IN 1 .. 600 LOOP
	CREATE TEMP TABLE t (a int); DROP TABLE t;
END LOOP; END \$\$
EOQ
	is_accepted($node, $secret) or die 'not accepted';
	ask($writer, 'COMMIT');
	is_refused_everywhere($secret, 'after an overflow of the queue');
}

# -- What the statistics say of changes --

{
	my $owner = create_org($writer, 'Counted');
	my ($secret, $id) = cached_key($owner);
	my (undef, $other) = cached_key($org);
	my @changes = (
		[ 'its key', 1, "UPDATE overten_auth.api_keys SET name = 'x' WHERE key_id = '$id'" ],
		[ 'its org', 1, "SELECT overten_set_tier('$owner', 'free'); UPDATE overten_auth.orgs SET name = 'y' WHERE org_id = '$owner'" ],
		[ 'another key', 0, "UPDATE overten_auth.api_keys SET name = 'x' WHERE key_id = '$other'" ],
	);

	for (@changes)
	{
		my ($what, $stale, $change) = @$_;
		my $before = stat_of('shared_cache_stale');

		ask($writer, $change);
		is(is_hit($reader, $secret) ? 0 : 1, $stale, "a change of $what: misses");
		is(stat_of('shared_cache_stale') - $before, $stale, "a change of $what: stale entries found");
		ok(is_hit($reader, $secret), "a change of $what: then a hit");
		is(stat_of('shared_cache_stale') - $before, $stale, "a change of $what: none is found twice");
	}
}

# -- Other databases --

{
	ask($node, 'CREATE DATABASE original');
	my $original = [ $node, 'original' ];
	my $copy = [ $node, 'copy' ];
	ask($original, 'CREATE EXTENSION overten_auth CASCADE');
	my $owner = create_org($original, 'Original');
	my ($secret, $id) = mint($original, $owner);
	my ($kept, $kept_id) = mint($original, $owner);
	is_accepted($original, $_) foreach $secret, $kept;

	ask($node, 'CREATE DATABASE copy TEMPLATE original');
	my $oid = ask($node, "SELECT oid FROM pg_database WHERE datname = 'copy'");
	ok(!is_hit($copy, $secret), 'a copy of a database has not its entries');
	ok(is_hit($copy, $secret), 'but its own');
	is_accepted($_, $kept) foreach $original, $copy;

	ask($original, "SELECT overten_revoke_key('$owner', '$id')");
	ok(!is_accepted($original, $secret), 'revoked in the one');
	ok(is_hit($copy, $secret), 'it is good in the other, from the cache');
	ask($copy, "SELECT overten_revoke_key('$owner', '$kept_id')");
	ok(!is_accepted($copy, $kept), 'and the other way round');
	ok(is_hit($original, $kept), 'too');

	# A database that has the OID of one that was dropped.
	ask($node, 'DROP DATABASE copy');
	ask($node, "CREATE DATABASE copy TEMPLATE original OID $oid");
	ok(!is_accepted($copy, $secret),
		'a database does not inherit the entries of one with its OID');

	# -- Other tables --

	ask($original, 'DROP EXTENSION overten_auth; CREATE EXTENSION overten_auth');
	ok(!is_accepted($original, $kept), 'DROP EXTENSION empties the cache');
	$owner = create_org($original, 'Again');
	($secret) = mint($original, $owner);
	is_accepted($original, $secret);
	ok(is_hit($original, $secret), 'the new extension has a cache');
	ask($original, 'TRUNCATE overten_auth.api_keys CASCADE');
	ok(!is_accepted($original, $secret), 'TRUNCATE of the new table empties it');
	($secret) = mint($original, $owner);
	is_accepted($original, $secret);
	ask($original,
		"ALTER TABLE overten_auth.orgs ALTER suspended_at TYPE timestamptz USING now()");
	ok(!is_accepted($original, $secret), 'so does a rewrite of its orgs');
}

# What the own transaction does to a table as a whole.
{
	my ($secret) = cached_key($org);

	ask($writer, 'BEGIN; TRUNCATE overten_auth.api_keys CASCADE');
	ok(!is_accepted($writer, $secret), 'the own TRUNCATE counts at once');
	ask($writer, 'ROLLBACK');
	ok(is_accepted($writer, $secret), 'until ROLLBACK');
	is_accepted($reader, $secret);
	ask($writer,
		"BEGIN; ALTER TABLE overten_auth.orgs ALTER suspended_at TYPE timestamptz USING now()");
	ok(!is_accepted($writer, $secret), 'so does the own ALTER TABLE');
	ask($writer, 'ROLLBACK');
	ok(is_accepted($node, $secret), 'until ROLLBACK');
}

# Rows that were frozen as they were written are their transaction's, too.
{
	my ($secret) = mint($writer, $org);
	my $file = "$data/frozen";

	ask($writer, "COPY overten_auth.api_keys TO '$file'");
	ask($writer, "DELETE FROM overten_auth.api_keys");
	ask($writer, <<"EOQ");
BEGIN; TRUNCATE overten_auth.api_keys CASCADE;
COPY overten_auth.api_keys FROM '$file' (FREEZE)
EOQ
	ok(is_accepted($writer, $secret), 'who has written a frozen row sees it');
	my $stores = stat_of('shared_cache_stores');
	is_accepted($writer, $secret);
	is(stat_of('shared_cache_stores'), $stores, 'but stores it for nobody');
	ask($writer, 'COMMIT');
	ok(is_accepted($node, $secret), 'until the commit');
}

# -- Nothing else empties it --

# The digests are fixed, so that it is, too, which of them share a bucket.
ask($writer, <<'EOQ');
INSERT INTO overten_auth.orgs (org_id, name, tier, webhook_secret_sealed)
	VALUES ('org_still', 'Still', 'free', '\x00');
SELECT overten_rotate_webhook_secret('org_still');
INSERT INTO overten_auth.api_keys (key_id, org_id, name, prefix, digest)
	SELECT k || n, 'org_still', k, 'sk_live_0000', sha256(convert_to('sk_live_' || lpad(k || n, 28, '0'), 'UTF8'))
	FROM unnest('{quiet,noise}'::text[]) k, generate_series(1, 100) n
EOQ
my $quiet =
  "SELECT 'sk_live_' || lpad('quiet' || n, 28, '0') FROM generate_series(1, 100) n";
my $quiet_digests =
  "SELECT sha256(convert_to(s, 'UTF8')) FROM ($quiet) s (s)";

sub quiet_hits
{
	my $before = stat_of('cache_hits');
	my $count = ask($_[0],
		"SELECT count(v.key_id) FROM ($quiet_digests) s (digest), overten_verify_key_digest(digest) v"
	);

	is($count, 100, 'all are accepted');
	return stat_of('cache_hits') - $before;
}

quiet_hits($reader);
is(quiet_hits($node), 100, 'all of 100 keys are in the cache');
ask($writer, <<'EOQ');
DO $$ BEGIN FOR i IN 1 .. 1000 LOOP
	CREATE TEMP TABLE t (a int); DROP TABLE t; COMMIT;
END LOOP; END $$;
CREATE TABLE elsewhere (a int PRIMARY KEY);
INSERT INTO elsewhere SELECT generate_series(1, 10000);
ALTER TABLE elsewhere ADD b int DEFAULT 1;
CREATE INDEX ON elsewhere (b);
VACUUM ANALYZE elsewhere;
DROP TABLE elsewhere
EOQ
# Those who sleep have not heard of the TRUNCATE above, and are told now.
ask($_, 'SELECT') foreach @sleepers;
is(quiet_hits($node), 100, 'after temporary tables and DDL, too');
ask($node, <<'EOQ');
SET max_parallel_workers_per_gather = 2; SET parallel_setup_cost = 0;
SET parallel_tuple_cost = 0; SET min_parallel_table_scan_size = 0;
SELECT count(*) FROM pg_class
EOQ
is(quiet_hits($node), 100, 'after a parallel query, too');

ask($writer,
	"UPDATE overten_auth.api_keys SET name = 'x' WHERE key_id = 'noise$_'")
  foreach 1 .. 100;
is(quiet_hits($node), 100, 'after 100 changes of other keys, too');
ask($writer, "UPDATE overten_auth.api_keys SET name = 'x' WHERE key_id = 'quiet7'");
is(quiet_hits($node), 99, 'after a change of one, all others');
is(quiet_hits($node), 100, 'which comes back');
ask($writer, "UPDATE overten_auth.orgs SET name = 'Stiller' WHERE org_id = 'org_still'");
is(quiet_hits($node), 0, 'after a change of the org, none');
is(quiet_hits($node), 100, 'and they come back');

# -- Rows that are too long --

{
	my ($tier, $name) = ('t' x 64, 'L' x 100);
	ask($writer, "INSERT INTO overten_auth.tiers (name) VALUES ('$tier')");
	my $long =
	  ask($writer, "SELECT org_id FROM overten_create_org('$name', '$tier')");
	my ($secret, $id) = cached_key($long);
	my $before = stat_of('shared_cache_too_long');

	ask($writer, "SELECT overten_set_expiry('$long', '$id', '2101-01-01')");
	is_accepted($_, $secret) or die 'not accepted' foreach $reader, @sleepers;

	is(stat_of('shared_cache_too_long'), $before + 1 + @sleepers,
		'a row that is too long is cached nowhere but in each session');
	ok(is_hit($_, $secret), 'from where it is answered') foreach $reader, @sleepers;
	ask($writer, "SELECT overten_revoke_key('$long', '$id')");
	is_refused_everywhere($secret, 'a long row');
}

end_tests();
