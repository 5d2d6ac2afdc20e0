
# A database that is dumped and restored, into another server too, verifies,
# refuses and mints as before.  pg_regress runs no pg_dump.

use strict;
use warnings FATAL => 'all';

use FindBin;
use lib $FindBin::RealBin;
use OvertenTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = create_node('original', '');
my $other = PostgreSQL::Test::Cluster->new('other');
$other->init;
$other->start;
ask($_, 'CREATE ROLE app') foreach ($node, $other);

ask($node, <<'EOQ');
GRANT USAGE ON SCHEMA overten_auth TO app;
GRANT SELECT (key_id, prefix) ON overten_auth.api_keys TO app;
GRANT EXECUTE ON FUNCTION overten_verify_key(text) TO app;
INSERT INTO overten_auth.tiers VALUES ('pro', false), ('trial', true);
EOQ
my $org = ask($node,
	q{SELECT org_id FROM overten_create_org($n$'); DROP TABLE "x"; -- \. $$ \N é$n$, 'pro')}
);
my $plain_org = create_org($node, 'Plain');
my ($active, $active_key) = mint($node, $org);
my ($revoked, $revoked_key) = mint($node, $org);
my ($suspended) = mint($node, $plain_org);
is(verify($node, $active), $active_key, 'a key is used');
ask($node, <<"EOQ");
SELECT overten_revoke_key('$org', '$revoked_key', 'leaked');
SELECT overten_set_api_access('$org', true);
SELECT overten_set_api_access('$plain_org', false);
SELECT overten_add_member('$org', 'alice');
EOQ

# Everything that a restore must bring back, as text.
sub content
{
	my $where = shift;

	return ask($where, <<'EOQ');
SET TimeZone = 'UTC';
SELECT 'tier', t.* FROM overten_auth.tiers t ORDER BY name;
SELECT 'org', o.* FROM overten_auth.orgs o ORDER BY org_id;
SELECT 'member', m.* FROM overten_auth.members m ORDER BY uid;
SELECT 'key', k.* FROM overten_auth.api_keys k ORDER BY key_id;
SELECT 'use', u.* FROM overten_auth.key_last_used u ORDER BY key_id;
SELECT 'audit', a.* FROM overten_auth.audit_log a ORDER BY audit_id;
SELECT 'trigger', tgrelid::regclass, tgname, tgenabled FROM pg_trigger
	WHERE NOT tgisinternal ORDER BY 2, 3;
EOQ
}

# What the role may do with the extension.
sub privileges
{
	my $where = shift;

	return ask($where, <<'EOQ');
SELECT proname FROM pg_proc
	WHERE proname LIKE 'overten%' AND has_function_privilege('app', oid, 'EXECUTE');
SELECT has_column_privilege('app', 'overten_auth.api_keys', 'key_id', 'SELECT'),
	has_column_privilege('app', 'overten_auth.api_keys', 'digest', 'SELECT');
EOQ
}

my $content = content($node);
my %rows;
$rows{$1}++ while $content =~ /^(\w+)\|/mg;
is_deeply(
	\%rows,
	{
		tier => 3,
		org => 2,
		member => 1,
		key => 3,
		use => 3,
		audit => 9,
		trigger => 4
	},
	'there is something to dump in each table');
like($content, qr/^trigger\|overten_auth\.\w+\|\w+\|A$/m,
	'triggers are enabled always');
is(privileges($node), "overten_verify_key\nt|f", 'a role has privileges');

# Compare a restored database with the original, and use it.
sub check_restored
{
	my ($where, $how) = @_;

	is(content($where), $content, "$how: the content is the same");
	is(verify($where, $active), $active_key, "$how: the key is accepted");
	is(verify($where, $revoked), '', "$how: the revoked one is refused");
	is(verify($where, $suspended),
		'', "$how: the one of a suspended org is refused");

	my ($secret, $key) = mint($where, $org);
	is(verify($where, $secret), $key, "$how: the next key is minted");
	ask($where, "SELECT overten_revoke_key('$org', '$key')");
	is(verify($where, $secret), '', "$how: and revoked");
	return;
}

my $dump = $node->basedir . '/dump';

# Without the owner of the schema public, which is there already.
$node->command_ok(
	[ 'pg_dump', '-Fp', '-f', "$dump.sql", 'postgres' ],
	'pg_dump, plain');
ask($node, 'CREATE DATABASE restored TEMPLATE template0');
$node->command_ok(
	[
		'psql', '-XqAt', '-v', 'ON_ERROR_STOP=1', '-f', "$dump.sql",
		'-o', '/dev/null', 'restored'
	],
	'psql -f');
check_restored([ $node, 'restored' ], 'plain');
is(privileges([ $node, 'restored' ]),
	privileges($node), 'plain: privileges are kept');

$node->command_ok([ 'pg_dump', '-Fc', '-f', "$dump.custom", 'postgres' ],
	'pg_dump, custom');
ask($other, 'CREATE DATABASE restored TEMPLATE template0');
$other->command_ok(
	[ 'pg_restore', '-e', '-d', 'restored', "$dump.custom" ],
	'pg_restore into another server');
check_restored([ $other, 'restored' ], 'custom');
is(privileges([ $other, 'restored' ]),
	privileges($node), 'custom: privileges are kept');

# An archive does not tell parallel jobs which of an extension's tables have to
# be filled first, so foreign keys must not be checked meanwhile.
ask($other, 'CREATE DATABASE parallel TEMPLATE template0');
{
	local $ENV{PGOPTIONS} = '-c session_replication_role=replica';
	$other->command_ok(
		[
			'pg_restore', '-e', '-j', '2', '-d', 'parallel', "$dump.custom"
		],
		'pg_restore in two jobs');
}
check_restored([ $other, 'parallel' ], 'parallel');

ask($other, 'CREATE DATABASE data_only TEMPLATE template0');
ask([ $other, 'data_only' ], 'CREATE EXTENSION overten_auth CASCADE');
$other->command_ok(
	[
		'pg_restore', '-e', '--data-only', '-d', 'data_only', "$dump.custom"
	],
	'pg_restore of the data into a new extension');
check_restored([ $other, 'data_only' ], 'data only');

is(content($node), $content, 'the original has not changed');

$other->stop;
$node->stop;
done_testing();
