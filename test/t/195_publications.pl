
# Publications of the extension's tables, as change capture makes them, do not
# keep the workers from writing, nor anybody else.  pg_regress has no preloaded
# library, and wal_level = replica.

use strict;
use warnings FATAL => 'all';

use FindBin;
use lib $FindBin::RealBin;
use OvertenTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = create_node(
	'published', <<'EOC', allows_streaming => 'logical');
shared_preload_libraries = 'overten_auth'
overten_auth.databases = 'postgres'
overten_auth.flush_interval = 1h
EOC
my $owner = $node->background_psql('postgres');
$owner->set_query_timer_restart;

# A row of each table can be told from the others.
is( ask($owner, <<'EOQ'),
SELECT coalesce(string_agg(c.oid::regclass::text, ' '), '')
FROM pg_class c JOIN pg_depend d ON d.objid = c.oid AND d.classid = 'pg_class'::regclass AND d.deptype = 'e'
JOIN pg_extension e ON e.oid = d.refobjid AND e.extname = 'overten_auth'
WHERE c.relkind = 'r' AND c.relreplident <> 'f'
	AND NOT (c.relreplident = 'd' AND EXISTS (SELECT FROM pg_index WHERE indrelid = c.oid AND indisprimary AND indisvalid))
EOQ
	'', 'each table has a replica identity');

# What the workers and customers write in a table that is published.
sub write_everything
{
	my ($name) = @_;
	my $org = create_org($owner, $name);
	my ($secret, $key) = mint($owner, $org);
	my ($gone_secret, $gone_key) = mint($owner, $org);

	foreach my $n (1 .. 2)
	{
		verify($owner, $_) foreach $secret, $secret, $gone_secret;
		is(sqlstate_of($node, 'SELECT overten_flush_usage()'), '', "$name: flush $n");
	}
	is(uses($owner, $key), 4, "$name: each use is there");
	is( sqlstate_of($node, "SELECT overten_set_api_access('$org', false), overten_set_api_access('$org', true), overten_rotate_webhook_secret('$org'),
			overten_add_member('$org', 'ada'), overten_add_member('$org', 'jane'), overten_remove_member('$org', 'jane'), overten_revoke_key('$org', '$key')"),
		'', "$name: keys and orgs are changed");

	# Old history, and history without a key, go with the next two looks.
	ask($owner, "INSERT INTO overten_auth.key_usage SELECT '$key', '2001-01-01Z', NULL, 1, 0, '2001-01-01Z', '2001-01-01Z'");
	ask($owner, "DELETE FROM overten_auth.api_keys WHERE key_id = '$gone_key'");
	foreach my $sweep (1 .. 2)
	{
		ask($owner, "INSERT INTO overten_auth.usage_batches VALUES (gen_random_uuid(), 1, '2001-01-01Z')");
		ask($owner, 'SELECT pg_reload_conf()');
		ok($node->poll_query_until('postgres', "SELECT NOT EXISTS (SELECT FROM overten_auth.usage_batches WHERE written_at < '2002-01-01Z')"),
			"$name: sweep $sweep");
	}
	ok($node->poll_query_until('postgres', "SELECT NOT EXISTS (SELECT FROM overten_auth.key_usage WHERE hour < '2002-01-01Z' OR key_id = '$gone_key')
			AND NOT EXISTS (SELECT FROM overten_auth.key_last_used WHERE key_id = '$gone_key')"),
		"$name: old history is removed, and that of a key that is gone");
	return;
}

my @tables = split /\n/, ask($owner, "SELECT oid::regclass FROM pg_class WHERE relnamespace = 'overten_auth'::regnamespace AND relkind = 'r'");
foreach my $case (
	[ 'all tables' => 'FOR ALL TABLES' ],
	[ 'the schema' => 'FOR TABLES IN SCHEMA overten_auth' ],
	[ 'each table' => 'FOR TABLE ' . join ', ', @tables ],
	[ 'row filters' => 'FOR TABLE overten_auth.key_usage WHERE (accepted > 1 AND client_addr IS NULL), overten_auth.key_last_used WHERE (key_id > \'k\')' ],
	[ 'column lists' => 'FOR TABLE overten_auth.key_last_used (key_id), overten_auth.usage_batches (source), overten_auth.api_keys (key_id, org_id)' ])
{
	my ($name, $what) = @$case;

	ask($owner, "CREATE PUBLICATION cdc $what");
	ask($owner, "SELECT FROM pg_create_logical_replication_slot('cdc', 'pgoutput')");
	write_everything($name);
	cmp_ok(ask($owner, "SELECT count(*) FROM pg_logical_slot_get_binary_changes('cdc', NULL, NULL, 'proto_version', '1', 'publication_names', 'cdc')"),
		'>', 0, "$name: the changes can be decoded");
	ask($owner, "SELECT pg_drop_replication_slot('cdc'); DROP PUBLICATION cdc");
}

# PostgreSQL allows no updates where a publication leaves out what a row is
# identified by: that is told, and no use is lost.
my ($secret, $key) = mint($owner, create_org($owner, 'Left out'));
verify($owner, $secret);
flush_usage($owner);
verify($owner, $secret);
ask($owner, 'CREATE PUBLICATION cdc FOR TABLE overten_auth.key_usage (key_id, hour)');
is(sqlstate_of($node, 'SELECT overten_flush_usage()'), '55000', 'a flush fails under a list of columns of key_usage');
is(ask($owner, 'SELECT flush_failure FROM overten_status()'), 'cannot update table "key_usage"', 'the state tells which table it is');
ask($owner, 'DROP PUBLICATION cdc');
flush_usage($owner);
is(uses($owner, $key), 2, 'afterwards each use is there');

$owner->quit;
$node->stop;
done_testing();
